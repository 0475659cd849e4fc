/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verbs that plan and work: plan, run, submit, work. The order is part of the
 * promise: guards and plan, then the question, then the data folder, then ownership, then the put.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli_private.h"
#include "verbs/mirror.h"

enum { STEPS_SHOWN_DEFAULT = 20, HOLDER_BYTES = 256 };

enum dr_code dr_cli_own(struct dr_cli *c, struct dr_err *err)
{
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_own(c->queue, err);
    if (rc == DR_BUSY) {
        dr_wrap(err, "data folder %s is in use; steer from here, or wait", c->data_dir);
    }
    return rc;
}

static void say_if_nobody_works(const struct dr_cli *c, int64_t op_id)
{
    char holder[HOLDER_BYTES];
    if (!dr_queue_is_owned(c->queue, holder, sizeof holder)) {
        dr_cli_say(c, "nobody works on this data folder; start: drover run %lld", (long long)op_id);
    }
}

enum dr_code dr_cli_plan(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *job = NULL;
    struct dr_prepared p;
    int64_t op_id = 0;
    uint64_t steps_max = dr_args_u64(c->args, "steps", STEPS_SHOWN_DEFAULT);
    (void)exit_out;
    enum dr_code rc = dr_cli_load_job(c, c->word[0], &job, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_cli_prepare(c, job, c->word[0], &p, err);
    if (rc == DR_OK && dr_args_has(c->args, "save")) {
        rc = dr_cli_queue(c, false, err);
        if (rc == DR_OK) {
            rc = dr_cli_put(c, &p, DR_WISH_HOLD, &op_id, err);
        }
    }
    if (rc == DR_OK) {
        rc = dr_cli_print_plan(c, &p, op_id, steps_max, err);
    }
    if (rc == DR_OK && op_id != 0) {
        if (!c->is_json) {
            (void)printf("stored as operation %lld\n", (long long)op_id);
        }
        dr_cli_say(c, "it runs only when somebody approves it: drover run %lld", (long long)op_id);
    }
    dr_prepared_fini(&p);
    return rc;
}

/* Prepared and wanted: ask, own, store. Leaves the operation's number. */
static enum dr_code store_approved(struct dr_cli *c, const struct dr_prepared *p, bool with_own,
                                   int64_t *op_id_out, struct dr_err *err)
{
    enum dr_code rc = dr_cli_approve(c, p, err);
    if (rc == DR_OK) {
        rc = dr_cli_queue(c, false, err);
    }
    if (rc == DR_OK && with_own) {
        rc = dr_cli_own(c, err);
    }
    return rc == DR_OK ? dr_cli_put(c, p, DR_WISH_RUN, op_id_out, err) : rc;
}

/* Work on it until it ends, say how, and leave the report however it ended. */
static enum dr_code work_on(struct dr_cli *c, int64_t op_id, int *exit_out, struct dr_err *err)
{
    enum dr_code rc = dr_cli_pool(c, op_id, false, err);
    rc = rc == DR_OK ? dr_cli_conclude(c, op_id, false, exit_out, err) : rc;
    return dr_cli_report_op(c, op_id, rc, *exit_out, err);
}

static enum dr_code show_dry_run(struct dr_cli *c, const struct dr_prepared *p, dr_mono_ms begin,
                                 struct dr_err *err)
{
    struct dr_err ignored = {0};
    /* A dry run goes on where no log can be written: it makes no folder for one either. */
    if (dr_cli_log(c, DR_LOG_WARN, &ignored) == DR_OK) {
        dr_cli_log_begin(c, p->request->kind_name, dr_request_target(p->request), 0);
    }
    enum dr_code rc = dr_cli_print_plan(c, p, 0, STEPS_SHOWN_DEFAULT, err);
    if (rc == DR_OK) {
        rc = dr_cli_report_plan(c, p->plan, (uint64_t)(dr_mono_now() - begin), err);
    }
    dr_cli_log_end(c, 0, rc == DR_OK ? "planned" : "failed", begin);
    return rc;
}

enum dr_code dr_cli_run_job(struct dr_cli *c, json_t *job, const char *name, int *exit_out,
                            struct dr_err *err)
{
    struct dr_prepared p;
    int64_t op_id = 0;
    dr_mono_ms begin = dr_mono_now();
    bool is_dry_run = dr_args_has(c->args, "dry-run");
    dr_cli_hide_urls(c->args); /* the job has them */
    enum dr_code rc = dr_cli_check_report(c, err);
    if (rc != DR_OK) {
        json_decref(job);
        return rc;
    }
    rc = dr_cli_prepare(c, job, name, &p, err);
    if (rc == DR_OK && p.plan != NULL && dr_plan_step_count(p.plan) == 0 && !is_dry_run &&
        dr_cli_is_fleet(p.request->store_url)) {
        rc = dr_cli_print_plan(c, &p, 0, STEPS_SHOWN_DEFAULT, err);
        dr_prepared_fini(&p);
        return rc; /* it is so already */
    }
    if (rc == DR_OK && dr_args_has(c->args, "rehearse")) {
        rc = dr_cli_rehearse(c, &p, exit_out, err);
        dr_prepared_fini(&p);
        return rc;
    }
    if (rc == DR_OK && is_dry_run) {
        rc = show_dry_run(c, &p, begin, err);
    } else if (rc == DR_OK) {
        rc = store_approved(c, &p, true, &op_id, err);
    }
    /* A survey of a big cluster is big; the run may take days. */
    dr_prepared_fini(&p);
    if (rc != DR_OK || is_dry_run) {
        return rc;
    }
    dr_cli_say(c, "operation %lld is stored; from another terminal: drover explain %lld",
               (long long)op_id, (long long)op_id);
    return work_on(c, op_id, exit_out, err);
}

static bool is_over(const struct dr_op *op)
{
    return op->status == DR_O_DONE || op->status == DR_O_ROLLED_BACK;
}

void dr_cli_catch_up_records(struct dr_cli *c)
{
    struct dr_mirror *mirror = NULL;
    struct dr_err ignored = {0};
    if (dr_cli_own(c, &ignored) == DR_OK) {
        const struct dr_mirror_config mirrored = {.queue = c->queue, .log = c->log};
        if (dr_mirror_start(&mirrored, &mirror, &ignored) == DR_OK) {
            dr_mirror_stop(mirror);
        }
    }
}

static enum dr_code run_op(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    static const char *const job_only[] = {"dry-run", "irreversible", "max-items", "allow-scan"};
    for (size_t i = 0; i < sizeof job_only / sizeof job_only[0]; i++) {
        if (dr_args_has(c->args, job_only[i])) {
            return dr_fail(err, DR_USAGE,
                           "--%s is for a job; operation %s is planned already (drover tune "
                           "changes its speed)",
                           job_only[i], c->word[0]);
        }
    }
    enum dr_code rc = dr_cli_check_report(c, err);
    rc = rc == DR_OK ? dr_cli_op(c, &op, err) : rc;
    if (rc == DR_OK && is_over(&op)) {
        dr_cli_catch_up_records(c);
        rc = dr_cli_conclude(c, op.id, false, exit_out, err);
        return dr_cli_report_op(c, op.id, rc, *exit_out, err);
    }
    if (rc == DR_OK) {
        rc = dr_cli_approve_op(c, &op, err);
    }
    if (rc == DR_OK) {
        rc = dr_cli_own(c, err);
    }
    if (rc == DR_OK) {
        rc = dr_queue_op(c->queue, op.id, &op, err); /* it may have moved while we asked */
    }
    if (rc == DR_OK && op.wish == DR_WISH_ROLLBACK) {
        dr_cli_say(c, "operation %lld is being rolled back (asked by %s); going on with that",
                   (long long)op.id, op.wish_by);
    } else if (rc == DR_OK && op.wish != DR_WISH_RUN) {
        rc = dr_queue_wish(c->queue, op.id, DR_WISH_RUN, c->who, "drover run", err);
    }
    return rc == DR_OK ? work_on(c, op.id, exit_out, err) : rc;
}

static bool is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

enum dr_code dr_cli_run(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *job = NULL;
    if (is_number(c->word[0])) {
        return run_op(c, exit_out, err);
    }
    enum dr_code rc = dr_cli_load_job(c, c->word[0], &job, err);
    return rc == DR_OK ? dr_cli_run_job(c, job, c->word[0], exit_out, err) : rc;
}

enum dr_code dr_cli_submit(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *job = NULL;
    struct dr_prepared p;
    int64_t op_id = 0;
    (void)exit_out;
    enum dr_code rc = dr_cli_load_job(c, c->word[0], &job, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_cli_prepare(c, job, c->word[0], &p, err);
    if (rc == DR_OK) {
        rc = store_approved(c, &p, false, &op_id, err);
    }
    dr_prepared_fini(&p);
    if (rc != DR_OK) {
        return rc;
    }
    say_if_nobody_works(c, op_id);
    if (c->is_json) {
        return dr_cli_put_json(json_pack("{s:I}", "operation", (json_int_t)op_id), err);
    }
    (void)printf("operation %lld\n", (long long)op_id);
    return DR_OK;
}

enum dr_code dr_cli_work(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    (void)exit_out;
    bool is_forever = dr_args_has(c->args, "forever");
    enum dr_code rc = dr_cli_queue(c, !is_forever, err);
    if (rc == DR_OK) {
        rc = dr_cli_own(c, err);
    }
    return rc == DR_OK ? dr_cli_pool(c, 0, is_forever, err) : rc;
}
