/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the reports of the command line: --report FILE, drover report, the table at the end of a
 * run, and what the log is told about a run's begin and end. */
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli_private.h"
#include "verbs/account.h"
#include "verbs/report.h"

enum { ROWS_SHOWN = 60, HMS_BYTES = 40 };

enum dr_code dr_cli_check_report(struct dr_cli *c, struct dr_err *err)
{
    const char *path = dr_args_text(c->args, "report", NULL);
    c->place = DR_AT_NOTHING;
    return path == NULL ? DR_OK : dr_report_check(path, err);
}

enum dr_code dr_cli_report_plan(struct dr_cli *c, const struct dr_plan *plan, uint64_t took_ms,
                                struct dr_err *err)
{
    json_t *report = NULL;
    const char *path = dr_args_text(c->args, "report", NULL);
    c->place = DR_AT_NOTHING;
    if (path == NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_report_plan(plan, took_ms, &report, err);
    rc = rc == DR_OK ? dr_report_write(path, report, err) : rc;
    json_decref(report);
    return rc;
}

static enum dr_code write_report(struct dr_cli *c, int64_t op_id, struct dr_err *err)
{
    json_t *report = NULL;
    const char *path = dr_args_text(c->args, "report", NULL);
    if (path == NULL) {
        return DR_OK;
    }
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_report_op(c->queue, op_id, &report, err);
    if (rc == DR_OK) {
        c->place = DR_AT_NOTHING;
        rc = dr_report_write(path, report, err);
    }
    json_decref(report);
    return rc;
}

enum dr_code dr_cli_report_op(struct dr_cli *c, int64_t op_id, enum dr_code rc, int exit_code,
                              struct dr_err *err)
{
    struct dr_err own = {0};
    enum dr_place place = c->place;
    enum dr_code wrote = write_report(c, op_id, &own);
    if (wrote == DR_OK) {
        c->place = place;
        return rc;
    }
    if (rc == DR_OK && exit_code == DR_EXIT_DONE) {
        *err = own;
        return wrote;
    }
    /* How the work ended is the more important answer. */
    (void)fprintf(stderr, "drover: %s\n", own.msg);
    c->place = place;
    return rc;
}

enum dr_code dr_cli_report(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    struct dr_str out;
    json_t *report = NULL;
    (void)exit_out;
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&out);
    if (c->is_json) {
        rc = dr_report_op(c->queue, op.id, &report, err);
        if (rc == DR_OK) {
            dr_report_print(report, &out);
        }
        json_decref(report);
    } else {
        rc = dr_report_text(c->queue, op.id, 0, &out, err);
    }
    if (rc != DR_OK) {
        dr_str_fini(&out);
        return rc;
    }
    return dr_cli_put_text(&out, err);
}

void dr_cli_say_account(struct dr_cli *c, int64_t op_id)
{
    struct dr_err err = {0};
    struct dr_str out;
    struct dr_account *a = NULL;
    if (c->is_quiet || c->is_json) {
        return;
    }
    dr_str_init(&out);
    /* The line about the ending follows in any case; the table is not worth a failure. */
    if (dr_account_make(c->queue, op_id, &a, &err) == DR_OK && a->row_count > 0) {
        dr_account_print(a, ROWS_SHOWN, &out);
        (void)fputs(dr_str_text(&out), stderr);
    }
    dr_account_destroy(a);
    dr_str_fini(&out);
}

void dr_cli_log_begin(struct dr_cli *c, const char *kind, const char *target, int64_t op_id)
{
    dr_log(c->log, DR_LOG_INFO, "run begins", "op=%lld kind=%s target=%s dry_run=%s",
           (long long)op_id, kind, target, op_id == 0 ? "yes" : "no");
}

void dr_cli_log_end(struct dr_cli *c, int64_t op_id, const char *status, dr_mono_ms begin)
{
    char took[HMS_BYTES];
    uint64_t took_ms = (uint64_t)(dr_mono_now() - begin);
    dr_log(c->log, DR_LOG_INFO, "run ends", "op=%lld status=%s time=%s ms=%llu dry_run=%s",
           (long long)op_id, status, dr_report_hms(took_ms, took, sizeof took),
           (unsigned long long)took_ms, op_id == 0 ? "yes" : "no");
}
