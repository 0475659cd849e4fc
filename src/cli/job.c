/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from a job's text to a stored plan: load, parse, guard, survey, plan, approve, put.
 * Up to the put nothing is written anywhere. */
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

/* The job with the configuration's tuning beneath its own. Wrong types are left for the parser,
 * which knows how to say what is wrong with them. */
static json_t *with_defaults(const struct dr_cli *c, json_t *job)
{
    json_t *own = json_object_get(job, "tuning");
    if (c->defaults == NULL || !json_is_object(job) || (own != NULL && !json_is_object(own))) {
        return json_incref(job);
    }
    json_t *merged = json_copy(job);
    json_t *tuning = json_copy((json_t *)c->defaults);
    if (merged == NULL || tuning == NULL || (own != NULL && json_object_update(tuning, own) != 0)) {
        json_decref(tuning);
        json_decref(merged);
        return NULL;
    }
    if (json_object_set_new(merged, "tuning", tuning) != 0) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

static enum dr_code survey_and_plan(struct dr_cli *c, struct dr_prepared *p, struct dr_err *err)
{
    char shown[512];
    c->place = DR_AT_STORE;
    enum dr_code rc = dr_store_open(p->request->store_url, &p->store, err);
    if (rc == DR_OK) {
        rc = dr_store_survey(p->store, p->request->database, dr_request_filter(p->request),
                             &p->survey, err);
        if (rc != DR_OK) {
            dr_wrap(err, "survey of %s", dr_url_redact(p->request->store_url, shown, sizeof shown));
        }
    }
    if (rc == DR_OK) {
        c->place = DR_AT_NOTHING;
        rc = dr_plan_make(p->request, p->survey, dr_store_can(p->store), &p->plan, err);
    }
    return rc;
}

enum dr_code dr_cli_prepare(struct dr_cli *c, json_t *job, const char *name,
                            struct dr_prepared *out, struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    out->job = job;
    c->place = DR_AT_NOTHING;
    json_t *effective = with_defaults(c, job);
    if (effective == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_request_parse(effective, name, &out->request, err);
    json_decref(effective);
    if (rc == DR_OK) {
        rc = dr_request_guard(out->request, &c->protect, err);
    }
    return rc == DR_OK ? survey_and_plan(c, out, err) : rc;
}

void dr_cli_prepared_fini(struct dr_prepared *p)
{
    dr_plan_destroy(p->plan);
    dr_survey_destroy(p->survey);
    dr_store_close(p->store);
    dr_request_destroy(p->request);
    json_decref(p->job);
    memset(p, 0, sizeof *p);
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
    (void)snprintf(what, sizeof what, "This erases %s items of %s%s.",
                   dr_human_count(dr_plan_estimated(p->plan), count, sizeof count), target,
                   dr_plan_is_irreversible(p->plan) ? ", without an archive and for ever" : "");
    return dr_cli_confirm(c, what, target, err);
}

static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has_out,
                              struct dr_err *err)
{
    return dr_plan_next(arg, step, has_out, err);
}

enum dr_code dr_cli_put(struct dr_cli *c, const struct dr_prepared *p, enum dr_wish wish,
                        int64_t *op_id_out, struct dr_err *err)
{
    const struct dr_request *r = p->request;
    struct dr_plan_iter *steps = NULL;
    json_t *summary = NULL;
    json_t *tuning = dr_tuning_to_json(&r->tuning);
    char *request_text = dr_json_text(p->job);
    char *tuning_text = tuning != NULL ? dr_json_text(tuning) : NULL;
    char *summary_text = NULL;
    bool is_irreversible = dr_plan_is_irreversible(p->plan);
    c->place = DR_AT_NOTHING;
    enum dr_code rc = dr_plan_to_json(p->plan, false, &summary, err);
    if (rc != DR_OK) {
        goto out;
    }
    summary_text = dr_json_text(summary);
    if (request_text == NULL || tuning_text == NULL || summary_text == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = dr_plan_begin(p->plan, &steps, err);
    if (rc != DR_OK) {
        goto out;
    }
    const struct dr_put put = {
        .kind = r->kind_name,
        .target = dr_request_target(r),
        .store_url = r->store_url,
        .request_json = request_text,
        .summary_json = summary_text,
        .tuning_json = tuning_text,
        .priority = r->tuning.priority,
        .wish = wish,
        .is_irreversible = is_irreversible,
        .plan_hash = dr_plan_hash(p->plan),
        .archive_days = is_irreversible ? 0 : r->archive_days,
        .by = c->who,
        .idempotency_key = dr_args_text(c->args, "key", NULL),
    };
    c->place = DR_AT_DATA;
    rc = dr_queue_put(c->queue, &put, next_step, steps, op_id_out, err);
out:
    if (steps != NULL) {
        dr_plan_end(steps);
    }
    dr_free(summary_text);
    dr_free(tuning_text);
    dr_free(request_text);
    json_decref(summary);
    json_decref(tuning);
    return rc;
}
