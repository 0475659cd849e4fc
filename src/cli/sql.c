/* SPDX-License-Identifier: Apache-2.0 */
/* Owns `drover sql purge`: a sql.purge job from options. */
#include <string.h>

#include "cli/cli_private.h"

/* Columns of the key: repeated, or in one value with commas between. */
static enum dr_code add_columns(const char *option, const char *text, json_t *list,
                                struct dr_err *err)
{
    const char *at = text;
    for (;;) {
        size_t bytes = strcspn(at, ",");
        if (bytes == 0) {
            return dr_fail(err, DR_USAGE, "--%s: an empty name in \"%.80s\"", option, text);
        }
        if (json_array_append_new(list, json_stringn(at, bytes)) != 0) {
            return dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", option);
        }
        if (at[bytes] == '\0') {
            return DR_OK;
        }
        at += bytes + 1;
    }
}

static enum dr_code add_key(const struct dr_args *a, json_t *job, struct dr_err *err)
{
    const char *option = dr_args_has(a, "key") ? "key" : "order-by";
    const char *text;
    if (!dr_args_has(a, option)) {
        return DR_OK;
    }
    if (dr_args_has(a, "key") && dr_args_has(a, "order-by")) {
        return dr_fail(err, DR_USAGE, "--key and --order-by are the same; give one of them");
    }
    json_t *list = json_array();
    enum dr_code rc = list == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint32_t n = 0; rc == DR_OK && (text = dr_args_nth(a, option, n)) != NULL; n++) {
        rc = add_columns(option, text, list, err);
    }
    if (rc == DR_OK && json_object_set(job, "key", list) != 0) {
        rc = dr_fail_nomem(err);
    }
    json_decref(list);
    return rc;
}

/* The largest batch has another name here, too. */
static enum dr_code add_limit(const struct dr_args *a, json_t *job, struct dr_err *err)
{
    static const struct dr_key_of limit[] = {{"limit-per-batch", "batch_items_max"}, {NULL, NULL}};
    bool any = false;
    if (!dr_args_has(a, "limit-per-batch")) {
        return DR_OK;
    }
    if (dr_args_has(a, "batch-max")) {
        return dr_fail(err, DR_USAGE,
                       "--limit-per-batch and --batch-max are the same; give one of them");
    }
    json_t *tuning = json_object_get(job, "tuning");
    if (tuning == NULL) {
        tuning = json_object();
        if (json_object_set_new(job, "tuning", tuning) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return dr_cli_add_keys(a, limit, tuning, &any, err);
}

static enum dr_code fill_job(const struct dr_args *a, json_t *job, struct dr_err *err)
{
    static const struct dr_key_of own_keys[] = {
        {"url", "store"},
        {"table", "table"},
        {"where", "where"},
        {"mode", "mode"},
        {"hold-days", "hold_days"},
        {"allow-no-key", "allow_no_key"},
        {"whole-table", "whole_collection"},
        {NULL, NULL},
    };
    bool any = false;
    enum dr_code rc = dr_cli_add_keys(a, own_keys, job, &any, err);
    rc = rc == DR_OK ? add_key(a, job, err) : rc;
    rc = rc == DR_OK ? add_limit(a, job, err) : rc;
    if (rc == DR_OK && dr_args_has(a, "replica")) {
        rc = dr_cli_add_list(a, "replica", "replicas", false, job, err);
    }
    return rc;
}

enum dr_code dr_cli_sql_purge(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    static const char *const needed[] = {"url", "table", NULL};
    static const char *const needed_rows[] = {"where", NULL};
    json_t *job = NULL;
    const char *mode = dr_args_text(c->args, "mode", "rows");
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    if (rc == DR_OK && strcmp(mode, "rows") == 0) {
        rc = dr_cli_need_options(c, needed_rows, err);
    }
    if (rc == DR_OK) {
        rc = dr_cli_start_job(c, "sql.purge", &job, err);
    }
    if (rc == DR_OK) {
        rc = fill_job(c->args, job, err);
    }
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    return dr_cli_run_job(c, job, "job", exit_out, err);
}
