/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the short forms: a job written as options. They build the job's JSON and go the way of run,
 * so no check is skipped; also the tuning options, which tune shares. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cli/cli_private.h"

/* The value of an option as JSON by its type; it was checked when the options were parsed. */
static json_t *value_of(const struct dr_given *given)
{
    uint64_t u = 0;
    int64_t i = 0;
    switch (given->option->type) {
    case DR_OPT_FLAG:
        return json_true();
    case DR_OPT_TEXT:
        return json_string(given->text);
    case DR_OPT_REAL:
        return json_real(strtod(given->text, NULL));
    case DR_OPT_I64:
        return dr_parse_i64(given->text, &i) ? json_integer(i) : NULL;
    case DR_OPT_U64:
        /* A number that JSON cannot hold becomes a text, which the parser refuses by name. */
        if (dr_parse_u64(given->text, &u) && u <= INT64_MAX) {
            return json_integer((json_int_t)u);
        }
        return json_string(given->text);
    case DR_OPT_DURATION:
        return dr_parse_duration_ms(given->text, &u) ? json_integer((json_int_t)(u / 1000)) : NULL;
    }
    return NULL;
}

enum dr_code dr_cli_add_keys(const struct dr_args *a, const struct dr_key_of *map, json_t *object,
                             bool *any_out, struct dr_err *err)
{
    for (uint32_t g = 0; g < a->given_count; g++) {
        for (const struct dr_key_of *k = map; k->option != NULL; k++) {
            if (strcmp(k->option, a->given[g].option->name) != 0) {
                continue;
            }
            *any_out = true;
            json_t *value = value_of(&a->given[g]);
            if (value == NULL || json_object_set_new(object, k->key, value) != 0) {
                return dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", k->option);
            }
        }
    }
    return DR_OK;
}

/* All values of an option that may be repeated. An empty one may be left out where it means "none";
 * elsewhere it stays, to be refused: an unset shell variable must not widen what is erased. */
enum dr_code dr_cli_add_list(const struct dr_args *a, const char *option, const char *key,
                             bool skips_empty, json_t *object, struct dr_err *err)
{
    json_t *list = json_array();
    const char *text;
    for (uint32_t n = 0; list != NULL && (text = dr_args_nth(a, option, n)) != NULL; n++) {
        bool is_left_out = skips_empty && text[0] == '\0';
        if (!is_left_out && json_array_append_new(list, json_string(text)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (list == NULL || json_object_set_new(object, key, list) != 0) {
        return dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", option);
    }
    return DR_OK;
}

static const struct dr_key_of speed_keys[] = {
    {"rate", "rate"},
    {"batch-min", "batch_items_min"},
    {"batch-max", "batch_items_max"},
    {"batch-bytes", "batch_bytes_max"},
    {"target-ms", "batch_target_ms"},
    {"per-node", "per_node"},
    {"lanes", "lanes"},
    {"priority", "priority"},
    {"sleep-ratio", "sleep_ratio"},
    {"timezone", "timezone"},
    {NULL, NULL},
};

enum dr_code dr_cli_tuning_options(const struct dr_cli *c, json_t **out, struct dr_err *err)
{
    static const struct dr_key_of tune_only[] = {{"max-items", "max_items"}, {NULL, NULL}};
    bool any = false;
    json_t *tuning = json_object();
    *out = NULL;
    if (tuning == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_cli_add_keys(c->args, speed_keys, tuning, &any, err);
    /* In a job --max-items is the job's own guard, not its tuning. */
    if (rc == DR_OK && c->command->action == dr_cli_tune) {
        rc = dr_cli_add_keys(c->args, tune_only, tuning, &any, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "quiet-hours")) {
        any = true;
        rc = dr_cli_add_list(c->args, "quiet-hours", "quiet", true, tuning, err);
    }
    if (rc != DR_OK || !any) {
        json_decref(tuning);
        return rc;
    }
    *out = tuning;
    return DR_OK;
}

static const struct dr_key_of job_keys[] = {
    {"store", "store"},
    {"database", "database"},
    {"archive-days", "archive_days"},
    {"drift", "drift"},
    {"note", "note"},
    {"irreversible", "irreversible"},
    {"max-items", "max_items"},
    {"allow-scan", "allow_scan"},
    {"drop-when-empty", "drop_when_empty"},
    {"temp-index", "temp_index"},
    {"whole-collection", "whole_collection"},
    {NULL, NULL},
};

enum dr_code dr_cli_need_options(const struct dr_cli *c, const char *const *names,
                                 struct dr_err *err)
{
    for (; *names != NULL; names++) {
        if (!dr_args_has(c->args, *names)) {
            return dr_fail(err, DR_USAGE, "drover %s needs --%s; see drover help %s",
                           c->command->name, *names, c->command->name);
        }
    }
    return DR_OK;
}

enum dr_code dr_cli_add_job_options(const struct dr_cli *c, json_t *job, struct dr_err *err)
{
    bool any = false;
    json_t *tuning = NULL;
    json_t *before = json_object_get(job, "tuning");
    enum dr_code rc = dr_cli_add_keys(c->args, job_keys, job, &any, err);
    if (rc == DR_OK) {
        rc = dr_cli_tuning_options(c, &tuning, err);
    }
    if (rc != DR_OK || tuning == NULL) {
        return rc;
    }
    int failed = before == NULL ? json_object_set(job, "tuning", tuning)
                                : json_object_update(before, tuning);
    json_decref(tuning);
    return failed != 0 ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_cli_start_job(const struct dr_cli *c, const char *kind, json_t **out,
                              struct dr_err *err)
{
    *out = json_pack("{s:s}", "kind", kind);
    return *out == NULL ? dr_fail_nomem(err) : dr_cli_add_job_options(c, *out, err);
}

enum dr_code dr_cli_tenant_drop(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"store", "database", NULL};
    json_t *job = NULL;
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    if (rc == DR_OK) {
        rc = dr_cli_start_job(c, "tenant.drop", &job, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "collection")) {
        rc = dr_cli_add_list(c->args, "collection", "collections", false, job, err);
    }
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    return dr_cli_run_job(c, job, "job", exit_out, err);
}

static enum dr_code add_filter(const struct dr_cli *c, json_t *job, struct dr_err *err)
{
    json_t *filter = NULL;
    const char *text = dr_args_text(c->args, "filter", "");
    enum dr_code rc = dr_json_parse("--filter", text, strlen(text), &filter, err);
    if (rc == DR_OK && json_object_set_new(job, "filter", filter) != 0) {
        rc = dr_fail_nomem(err);
    }
    return rc;
}

enum dr_code dr_cli_purge(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"store", "database", "collection", "filter", NULL};
    static const struct dr_key_of own_keys[] = {{"collection", "collection"}, {NULL, NULL}};
    bool any = false;
    json_t *job = NULL;
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    if (rc == DR_OK) {
        rc = dr_cli_start_job(c, "purge", &job, err);
    }
    if (rc == DR_OK) {
        rc = dr_cli_add_keys(c->args, own_keys, job, &any, err);
    }
    if (rc == DR_OK) {
        rc = add_filter(c, job, err);
    }
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    return dr_cli_run_job(c, job, "job", exit_out, err);
}

/* One store of several servers: redis://[user:password@]host:port,host:port[/db]. */
static enum dr_code join_urls(const struct dr_args *a, struct dr_str *out, struct dr_err *err)
{
    const char *first = dr_args_nth(a, "url", 0);
    const char *hosts = first == NULL ? NULL : strstr(first, "://");
    const char *text;
    if (hosts == NULL) {
        return dr_fail(err, DR_USAGE, "--url: a URL like redis://host:6379 is needed");
    }
    const char *at = strchr(hosts + 3, '@');
    size_t head = (size_t)((at != NULL ? at + 1 : hosts + 3) - first);
    size_t body = strcspn(first + head, "/");
    dr_str_addn(out, first, head + body);
    for (uint32_t n = 1; (text = dr_args_nth(a, "url", n)) != NULL; n++) {
        size_t own = strlen(text) > head ? strcspn(text + head, "/") : 0;
        if (own == 0 || strncmp(text, first, head) != 0 ||
            strcmp(text + head + own, first + head + body) != 0) {
            return dr_fail(err, DR_USAGE,
                           "--url: several servers must agree in user, password and database");
        }
        dr_str_addc(out, ',');
        dr_str_addn(out, text + head, own);
    }
    dr_str_add(out, first + head + body);
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}

/* Digits are Unix seconds, anything else is left to the job's parser. */
static enum dr_code add_time(const struct dr_args *a, const char *option, json_t *job,
                             struct dr_err *err)
{
    int64_t seconds = 0;
    const char *text = dr_args_text(a, option, NULL);
    if (text == NULL) {
        return DR_OK;
    }
    json_t *value = dr_parse_i64(text, &seconds) ? json_integer(seconds) : json_string(text);
    return json_object_set_new(job, option, value) == 0
               ? DR_OK
               : dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", option);
}

static enum dr_code fill_redis_job(const struct dr_args *a, json_t *job, struct dr_err *err)
{
    static const struct dr_key_of own_keys[] = {
        {"marked", "marked"},
        {"zero-values", "zero_values"},
        {"strategy", "strategy"},
        {"log-deleted", "log_deleted"},
        {"overwrite", "overwrite"},
        {"partition-keys", "partition_keys"},
        {NULL, NULL},
    };
    static const struct dr_key_of lists[] = {
        {"service", "services"},
        {"application", "applications"},
        {"metric", "metrics"},
        {"user", "users"},
    };
    struct dr_str url;
    bool any = false;
    dr_str_init(&url);
    enum dr_code rc = join_urls(a, &url, err);
    if (rc == DR_OK && json_object_set_new(job, "store", json_string(dr_str_text(&url))) != 0) {
        rc = dr_fail(err, DR_INPUT, "--url: not valid UTF-8, or out of memory");
    }
    dr_str_fini(&url);
    if (rc == DR_OK) {
        rc = dr_cli_add_keys(a, own_keys, job, &any, err);
    }
    for (size_t i = 0; rc == DR_OK && i < sizeof lists / sizeof lists[0]; i++) {
        if (dr_args_has(a, lists[i].option)) {
            rc = dr_cli_add_list(a, lists[i].option, lists[i].key, false, job, err);
        }
    }
    if (rc == DR_OK) {
        rc = add_time(a, "from", job, err);
    }
    return rc == DR_OK ? add_time(a, "to", job, err) : rc;
}

enum dr_code dr_cli_redis_purge_stats(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"url", NULL};
    json_t *job = NULL;
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    if (rc == DR_OK) {
        rc = dr_cli_start_job(c, "redis.purge-stats", &job, err);
    }
    if (rc == DR_OK) {
        rc = fill_redis_job(c->args, job, err);
    }
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    return dr_cli_run_job(c, job, "job", exit_out, err);
}
