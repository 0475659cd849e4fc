/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "tenant.drop": all rows of a database, or of the collections named. No state. */
#include "request/request_private.h"

#include <stdio.h>
#include <string.h>

enum { WHERE_BYTES = 512 };

/* Take over the i-th name of "collections". */
static enum dr_code read_member(struct dr_jr *jr, const json_t *array, size_t i,
                                struct dr_request *r, struct dr_err *err)
{
    struct dr_tenant_drop *d = &r->u.tenant_drop;
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "%.460s.collections[%zu]", jr->path, i);
    const json_t *member = json_array_get(array, i);
    if (!json_is_string(member)) {
        return dr_fail(err, DR_INPUT, "%s: expected a string, the name of a collection", where);
    }
    const char *name = json_string_value(member);
    enum dr_code rc = dr_request_check_name(where, name, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (uint32_t k = 0; k < d->collection_count; k++) {
        if (strcmp(d->collection[k], name) == 0) {
            return dr_fail(err, DR_INPUT, "%s: \"%s\" is named twice; name it once", where, name);
        }
    }
    const char *copy = dr_arena_strdup(r->arena, name);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    d->collection[d->collection_count++] = copy;
    return DR_OK;
}

static enum dr_code parse_drop(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_tenant_drop *d = &r->u.tenant_drop;
    (void)dr_jr_bool(jr, "drop_when_empty", false, &d->drop_when_empty);
    const json_t *array = NULL;
    if (!dr_jr_array(jr, "collections", false, DR_COLLECTIONS_MAX, &array)) {
        return DR_OK;
    }
    const size_t count = json_array_size(array);
    if (count == 0) { /* "none" must never be read as "all" */
        return dr_fail(err, DR_INPUT,
                       "%s.collections: expected at least one name, found none; leave the key out "
                       "to mean all of the database",
                       jr->path);
    }
    d->collection = dr_arena_alloc(r->arena, count * sizeof d->collection[0]);
    if (d->collection == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = read_member(jr, array, i, r, err);
    }
    return rc;
}

static enum dr_code guard_drop(const struct dr_request *r, struct dr_err *err)
{
    (void)r; /* the names are guarded for every kind; there is no filter to look at */
    (void)err;
    return DR_OK;
}

static const char *collection_of_drop(const struct dr_request *r, uint32_t n)
{
    const struct dr_tenant_drop *d = &r->u.tenant_drop;
    return n < d->collection_count ? d->collection[n] : NULL;
}

static const struct dr_filter *filter_of_drop(const struct dr_request *r)
{
    (void)r;
    return NULL;
}

static const char *make_drop_target(const struct dr_request *r)
{
    return dr_arena_strdup(r->arena, r->database);
}

const struct dr_request_kind *dr_request_kind_tenant_drop(void)
{
    static const struct dr_request_kind kind = {
        .name = "tenant.drop",
        .parse = parse_drop,
        .guard = guard_drop,
        .collection = collection_of_drop,
        .filter = filter_of_drop,
        .make_target = make_drop_target,
    };
    return &kind;
}
