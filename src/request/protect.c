/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the names that nobody may erase and the order of the guards. No state. */
#include "request/request_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/str.h"

static const char *const built_in[] = {"admin",   "config",   "local",
                                       "system*", "sqlite_*", "drover_*"};
enum { BUILT_IN_COUNT = sizeof built_in / sizeof built_in[0] };

static enum dr_code refuse_name(const char *name, const char *pattern, const char *whose,
                                struct dr_err *err)
{
    return dr_fail(err, DR_REFUSED,
                   "%s: this name is protected by the pattern \"%s\" (%s); nothing was touched",
                   name, pattern, whose);
}

static enum dr_code guard_configured(const char *name, const struct dr_protect *protect,
                                     struct dr_err *err)
{
    const uint32_t count = protect == NULL ? 0 : protect->count;
    assert(count <= DR_PROTECT_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (dr_glob_match(protect->pattern[i], name)) {
            return refuse_name(name, protect->pattern[i], "\"protect\" of the configuration", err);
        }
    }
    return DR_OK;
}

static enum dr_code guard_name(const char *name, const struct dr_protect *protect,
                               struct dr_err *err)
{
    for (size_t i = 0; i < BUILT_IN_COUNT; i++) {
        if (dr_glob_match(built_in[i], name)) {
            return refuse_name(name, built_in[i], "built in", err);
        }
    }
    return guard_configured(name, protect, err);
}

static enum dr_code guard_collection(const char *database, const char *collection,
                                     const struct dr_protect *protect, struct dr_err *err)
{
    enum dr_code rc = guard_name(collection, protect, err);
    if (rc != DR_OK) {
        return rc;
    }
    char full[2 * DR_REQUEST_NAME_BYTES_MAX + 2];
    const int length = snprintf(full, sizeof full, "%s.%s", database, collection);
    assert(length > 0 && (size_t)length < sizeof full); /* both were checked on parsing */
    (void)length;
    return guard_name(full, protect, err);
}

enum dr_code dr_request_guard(const struct dr_request *r, const struct dr_protect *protect,
                              struct dr_err *err)
{
    enum dr_code rc = guard_name(r->database, protect, err);
    for (uint32_t n = 0; rc == DR_OK; n++) {
        const char *collection = r->kind->collection(r, n);
        if (collection == NULL) {
            break;
        }
        rc = guard_collection(r->database, collection, protect, err);
    }
    /* The built-in patterns are names of databases: a service may well be called "admin". */
    for (uint32_t n = 0; rc == DR_OK && r->kind->guarded_name != NULL; n++) {
        const char *name = r->kind->guarded_name(r, n);
        if (name == NULL) {
            break;
        }
        rc = guard_configured(name, protect, err);
    }
    return rc == DR_OK ? r->kind->guard(r, err) : rc;
}
