/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what the command line adds to verbs/job.h: the job's file, its options, the question. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli_private.h"

enum { READ_BYTES = 64 * 1024, STEPS_SHOWN = 6, WHAT_BYTES = 512 };

static enum dr_code load_stdin(json_t **out, struct dr_err *err)
{
    struct dr_str text;
    char buf[READ_BYTES];
    enum dr_code rc;
    dr_str_init(&text);
    for (size_t got; (got = fread(buf, 1, sizeof buf, stdin)) > 0;) {
        dr_str_addn(&text, buf, got);
        if (text.len > DR_JSON_BYTES_MAX) {
            rc = dr_fail(err, DR_INPUT, "standard input: a job of more than %d bytes",
                         DR_JSON_BYTES_MAX);
            goto out;
        }
    }
    if (ferror(stdin) != 0) {
        rc = dr_fail(err, DR_INPUT, "standard input: cannot be read");
    } else if (text.is_short) {
        rc = dr_fail_nomem(err);
    } else {
        rc = dr_json_parse("standard input", dr_str_text(&text), text.len, out, err);
    }
out:
    dr_str_fini(&text);
    return rc;
}

/* What the command line adds to a job, as if it had been written there. */
static enum dr_code add_overrides(const struct dr_cli *c, json_t *job, struct dr_err *err)
{
    static const struct {
        const char *option;
        const char *key;
    } flags[] = {{"irreversible", "irreversible"}, {"allow-scan", "allow_scan"}};
    int bad = 0;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (dr_args_has(c->args, flags[i].option)) {
            bad |= json_object_set_new(job, flags[i].key, json_true());
        }
    }
    if (dr_args_has(c->args, "max-items")) {
        uint64_t items = dr_args_u64(c->args, "max-items", 0);
        if (items > INT64_MAX) {
            return dr_fail(err, DR_USAGE, "--max-items is too large");
        }
        bad |= json_object_set_new(job, "max_items", json_integer((json_int_t)items));
    }
    return bad != 0 ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_cli_load_job(struct dr_cli *c, const char *path, json_t **out, struct dr_err *err)
{
    enum dr_code rc;
    *out = NULL;
    c->place = DR_AT_NOTHING;
    if (strcmp(path, "-") == 0) {
        rc = load_stdin(out, err);
    } else {
        rc = dr_json_load(path, out, err);
        /* A file the operator names is input: its absence is no missing operation, and its
         * permissions are no unreachable store. */
        if (rc == DR_NOT_FOUND) {
            rc = dr_fail(err, DR_INPUT, "%s: there is no such job file", path);
        } else if (rc == DR_DENIED || rc == DR_READONLY || rc == DR_IO) {
            rc = DR_INPUT;
        }
    }
    if (rc == DR_OK && json_is_object(*out)) {
        rc = add_overrides(c, *out, err);
    }
    if (rc != DR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

enum dr_code dr_cli_prepare(struct dr_cli *c, json_t *job, const char *name,
                            struct dr_prepared *out, struct dr_err *err)
{
    c->place = DR_AT_NOTHING;
    enum dr_code rc = dr_job_parse(&c->config, job, name, out, err);
    if (rc == DR_OK && dr_cli_is_fleet(out->request->store_url)) {
        rc = dr_cli_world(c, dr_args_has(c->args, "dry-run") || c->command->action == dr_cli_plan,
                          err);
    }
    if (rc == DR_OK) {
        rc = dr_job_plan(&c->config, &c->world, out, &c->place, err);
    }
    if (rc == DR_OK) {
        dr_cli_log_plan(c, out->plan);
    }
    return rc;
}

enum dr_code dr_cli_print_plan(struct dr_cli *c, const struct dr_prepared *p, int64_t op_id,
                               uint64_t steps_max, struct dr_err *err)
{
    if (c->is_json) {
        json_t *j = NULL;
        enum dr_code rc = dr_plan_to_json(p->plan, true, &j, err);
        if (rc == DR_OK && op_id != 0 &&
            json_object_set_new(j, "operation", json_integer(op_id)) != 0) {
            json_decref(j);
            rc = dr_fail_nomem(err);
        }
        return rc == DR_OK ? dr_cli_put_json(j, err) : rc;
    }
    struct dr_str out;
    dr_str_init(&out);
    enum dr_code rc = dr_plan_print(p->plan, op_id == 0, steps_max, &out, err);
    if (rc != DR_OK) {
        dr_str_fini(&out);
        return rc;
    }
    return dr_cli_put_text(&out, err);
}

enum dr_code dr_cli_approve(struct dr_cli *c, const struct dr_prepared *p, struct dr_err *err)
{
    char what[WHAT_BYTES];
    char count[32];
    const char *target = dr_request_target(p->request);
    c->place = DR_AT_NOTHING;
    if (!c->is_yes && !c->is_quiet && isatty(STDIN_FILENO) != 0) {
        struct dr_str out;
        dr_str_init(&out);
        enum dr_code rc = dr_plan_print(p->plan, false, STEPS_SHOWN, &out, err);
        if (rc == DR_OK) {
            (void)fputs(dr_str_text(&out), stderr);
        }
        dr_str_fini(&out);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (dr_cli_is_fleet(p->request->store_url)) {
        (void)snprintf(what, sizeof what, "This is %s of %s in %s steps.", p->request->kind_name,
                       target, dr_human_count(dr_plan_step_count(p->plan), count, sizeof count));
    } else {
        (void)snprintf(what, sizeof what, "This erases %s items of %s%s.",
                       dr_human_count(dr_plan_estimated(p->plan), count, sizeof count), target,
                       dr_plan_is_irreversible(p->plan) ? ", without an archive and for ever" : "");
    }
    return dr_cli_confirm(c, what, target, err);
}

enum dr_code dr_cli_put(struct dr_cli *c, const struct dr_prepared *p, enum dr_wish wish,
                        int64_t *op_id_out, struct dr_err *err)
{
    const struct dr_job_put put = {
        .wish = wish, .by = c->who, .key = dr_args_text(c->args, "key", NULL)};
    return dr_job_store(c->queue, p, &put, op_id_out, NULL, &c->place, err);
}
