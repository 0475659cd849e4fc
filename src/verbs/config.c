/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the reading of the configuration file. */
#include "verbs/config.h"

#include <stdio.h>
#include <string.h>

#include "verbs/health.h"

enum { THREADS_MAX = 256, PATH_BYTES = 4096 };

static enum dr_code read_protect(struct dr_config *c, const json_t *list, const char *name,
                                 struct dr_err *err)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        const char *text = json_string_value(item);
        if (text == NULL || text[0] == '\0') {
            return dr_fail(err, DR_INPUT, "%s.protect[%zu]: must be a name or a pattern", name, i);
        }
        c->protect.pattern[c->protect.count++] = text;
    }
    return DR_OK;
}

static enum dr_code check_defaults(const struct dr_config *c, const char *name, struct dr_err *err)
{
    char path[PATH_BYTES + 16];
    struct dr_tuning checked;
    dr_tuning_default(&checked);
    (void)snprintf(path, sizeof path, "%s.defaults", name);
    return dr_tuning_parse(c->defaults, path, &checked, err);
}

/* The rest of the object is a job's and is checked as one; what a caller names must not stand here,
 * or it would widen every purge without anybody seeing it. */
static enum dr_code check_redis_stats(const struct dr_config *c, const char *name,
                                      struct dr_err *err)
{
    static const char *const callers[] = {"kind", "services", "applications", "metrics", "users",
                                          "from", "to"};
    const char *store = json_string_value(json_object_get(c->redis_stats, "store"));
    if (store == NULL || store[0] == '\0') {
        return dr_fail(err, DR_INPUT, "%s.redis_stats.store: must be the URL of the Redis store",
                       name);
    }
    for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++) {
        if (json_object_get(c->redis_stats, callers[i]) != NULL) {
            return dr_fail(err, DR_INPUT,
                           "%s.redis_stats.%s: comes from each request, not from here", name,
                           callers[i]);
        }
    }
    return DR_OK;
}

static enum dr_code read_config(struct dr_config *c, const char *name, struct dr_err *err)
{
    struct dr_jr r;
    const json_t *protect = NULL;
    const json_t *tended = NULL; /* whoever tends reads it; here it is only checked */
    const char *level = NULL;
    uint64_t threads = 0;
    dr_jr_init(&r, c->json, name, err);
    (void)dr_jr_array(&r, "protect", false, DR_PROTECT_MAX, &protect);
    (void)dr_jr_u64(&r, "threads", false, 1, THREADS_MAX, &threads);
    (void)dr_jr_string(&r, "log_level", false, &level);
    (void)dr_jr_string(&r, "log_file", false, &c->log_file);
    (void)dr_jr_object(&r, "defaults", false, &c->defaults);
    (void)dr_jr_object(&r, "redis_stats", false, &c->redis_stats);
    (void)dr_jr_object(&r, "alerts", false, &tended);
    (void)dr_jr_object(&r, "tend", false, &tended);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK && protect != NULL) {
        rc = read_protect(c, protect, name, err);
    }
    if (rc == DR_OK && level != NULL) {
        c->is_log_level_given = dr_log_level_parse(level, &c->log_level);
        if (!c->is_log_level_given) {
            rc = dr_fail(err, DR_INPUT, "%s.log_level: error, warn, info or debug, not \"%.40s\"",
                         name, level);
        }
    }
    if (rc == DR_OK && c->defaults != NULL) {
        rc = check_defaults(c, name, err);
    }
    if (rc == DR_OK && c->redis_stats != NULL) {
        rc = check_redis_stats(c, name, err);
    }
    if (rc == DR_OK && tended != NULL) {
        rc = dr_tender_check(c->json, err);
        if (rc == DR_INPUT) {
            dr_wrap(err, "%s", name);
        }
    }
    c->threads = (uint32_t)threads;
    return rc;
}

enum dr_code dr_config_load(struct dr_config *c, const char *path, struct dr_err *err)
{
    enum dr_code rc = dr_json_load(path, &c->json, err);
    if (rc == DR_NOT_FOUND) {
        return dr_fail(err, DR_NOT_FOUND, "%s: there is no such configuration file", path);
    }
    if (rc != DR_OK && rc != DR_NOMEM) {
        return DR_INPUT; /* also when it may not be read: the file is what is wrong */
    }
    return rc == DR_OK ? read_config(c, path, err) : rc;
}

void dr_config_fini(struct dr_config *c)
{
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}
