/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the short forms: a job written as options. They build the job's JSON and go the way of run,
 * so no check is skipped; also the tuning options, which tune shares. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cli/cli_private.h"

struct key_of {
    const char *option;
    const char *key;
};

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

/* Copy the options that `map` names into `object`; *any_out says whether there were some. */
static enum dr_code add_keys(const struct dr_args *a, const struct key_of *map, json_t *object,
                             bool *any_out, struct dr_err *err)
{
    for (uint32_t g = 0; g < a->given_count; g++) {
        for (const struct key_of *k = map; k->option != NULL; k++) {
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
static enum dr_code add_list(const struct dr_args *a, const char *option, const char *key,
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

static const struct key_of speed_keys[] = {
    {"rate", "rate"},
    {"batch-min", "batch_items_min"},
    {"batch-max", "batch_items_max"},
    {"batch-bytes", "batch_bytes_max"},
    {"target-ms", "batch_target_ms"},
    {"per-node", "per_node"},
    {"priority", "priority"},
    {"sleep-ratio", "sleep_ratio"},
    {"timezone", "timezone"},
    {NULL, NULL},
};

enum dr_code dr_cli_tuning_options(const struct dr_cli *c, json_t **out, struct dr_err *err)
{
    static const struct key_of tune_only[] = {{"max-items", "max_items"}, {NULL, NULL}};
    bool any = false;
    json_t *tuning = json_object();
    *out = NULL;
    if (tuning == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = add_keys(c->args, speed_keys, tuning, &any, err);
    /* In a job --max-items is the job's own guard, not its tuning. */
    if (rc == DR_OK && c->command->action == dr_cli_tune) {
        rc = add_keys(c->args, tune_only, tuning, &any, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "quiet-hours")) {
        any = true;
        rc = add_list(c->args, "quiet-hours", "quiet", true, tuning, err);
    }
    if (rc != DR_OK || !any) {
        json_decref(tuning);
        return rc;
    }
    *out = tuning;
    return DR_OK;
}

static const struct key_of job_keys[] = {
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

static enum dr_code need_options(const struct dr_cli *c, const char *const *names,
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

static enum dr_code start_job(const struct dr_cli *c, const char *kind, json_t **out,
                              struct dr_err *err)
{
    bool any = false;
    json_t *tuning = NULL;
    *out = json_pack("{s:s}", "kind", kind);
    if (*out == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = add_keys(c->args, job_keys, *out, &any, err);
    if (rc == DR_OK) {
        rc = dr_cli_tuning_options(c, &tuning, err);
    }
    if (rc == DR_OK && tuning != NULL && json_object_set_new(*out, "tuning", tuning) != 0) {
        rc = dr_fail_nomem(err);
    }
    return rc;
}

enum dr_code dr_cli_tenant_drop(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"store", "database", NULL};
    json_t *job = NULL;
    enum dr_code rc = need_options(c, needed, err);
    if (rc == DR_OK) {
        rc = start_job(c, "tenant.drop", &job, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "collection")) {
        rc = add_list(c->args, "collection", "collections", false, job, err);
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
    static const struct key_of own_keys[] = {{"collection", "collection"}, {NULL, NULL}};
    bool any = false;
    json_t *job = NULL;
    enum dr_code rc = need_options(c, needed, err);
    if (rc == DR_OK) {
        rc = start_job(c, "purge", &job, err);
    }
    if (rc == DR_OK) {
        rc = add_keys(c->args, own_keys, job, &any, err);
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
