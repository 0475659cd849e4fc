/* SPDX-License-Identifier: Apache-2.0 */
/* Turning back: by a person, in part, or because a step of an atomic operation failed; and the
 * history of it. Everything that writes runs inside a committer job. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

enum { FAILURES_KEPT_MS = 7 * 24 * 3600 * 1000 };

enum dr_code dr_q_rollback_begin(struct dr_queue *q, int64_t op_id, int64_t to_step,
                                 const char *trigger, const char *by, const char *reason,
                                 struct dr_err *err)
{
    /* Steps that a worker still holds turn when they come back: they count. The operation's own
     * rollback_to may be over by now, when there was nothing to undo. */
    static const char add[] =
        "INSERT INTO rollbacks(op_id, trigger, by, reason, to_step, started_at, steps,"
        " undone_before) SELECT id, ?2, ?3, ?4, ?6, ?5, c7 + c1, c8 FROM operations WHERE"
        " id=?1";
    return dr_q_run(&q->w, err, add, "isssii", op_id, trigger, by == NULL ? "" : by,
                    reason == NULL ? "" : reason, dr_wall_now(), to_step);
}

enum dr_code dr_q_rollback_worked(struct dr_queue *q, int64_t op_id, uint64_t ms, const char *error,
                                  struct dr_err *err)
{
    static const char sql[] =
        "UPDATE rollbacks SET worked_ms=worked_ms+?2, first_error=CASE WHEN first_error='' THEN"
        " ifnull(?3,'') ELSE first_error END WHERE op_id=?1 AND ended_at=0";
    return dr_q_run(&q->w, err, sql, "iis", op_id, (int64_t)ms, error);
}

enum dr_code dr_q_rollback_end(struct dr_queue *q, int64_t op_id, struct dr_err *err)
{
    static const char sql[] =
        "UPDATE rollbacks SET ended_at=?2, undone=(SELECT c8 FROM operations WHERE id=?1) -"
        " undone_before WHERE op_id=?1 AND ended_at=0";
    return dr_q_run(&q->w, err, sql, "ii", op_id, dr_wall_now());
}

bool dr_q_must_turn_back(const struct dr_op *op)
{
    return op->is_atomic && op->count[DR_S_FAILED] > 0 && !op->is_past_no_return;
}

enum dr_code dr_q_turn_back(struct dr_queue *q, int64_t op_id, int64_t to_step, const char *trigger,
                            const char *by, const char *reason, struct dr_err *err)
{
    static const char set[] =
        "UPDATE operations SET wish=4, wish_by=?, wish_reason=?, is_rolling_back=1, rollback_to=?,"
        " waiting='', ended_at=0 WHERE id=?";
    char what[DR_REASON_BYTES];
    enum dr_code rc = dr_q_run(&q->w, err, set, "ssii", by == NULL ? "" : by,
                               reason == NULL ? "" : reason, to_step, op_id);
    if (rc == DR_OK) {
        rc = dr_q_settle(q, op_id, DR_WISH_ROLLBACK, err);
    }
    if (rc == DR_OK) {
        rc = dr_q_rollback_begin(q, op_id, to_step, trigger, by, reason, err);
    }
    if (rc == DR_OK) { /* nothing may be left to undo at all: then it has ended already */
        static const char over[] = "SELECT wish<>4 OR ended_at>0 FROM operations WHERE id=?";
        int64_t is_over = 0;
        rc = dr_q_int(&q->w, &is_over, 0, err, over, "i", op_id);
        rc = rc == DR_OK && is_over != 0 ? dr_q_rollback_end(q, op_id, err) : rc;
    }
    (void)snprintf(what, sizeof what, "rollback%s%s%s", to_step > 0 ? " in part" : "",
                   reason != NULL && reason[0] != '\0' ? ": " : "", reason == NULL ? "" : reason);
    return rc == DR_OK ? dr_q_audit(q, op_id, by, what, err) : rc;
}

enum dr_code dr_q_note_failure(struct dr_queue *q, int64_t op_id, int64_t step_id, bool is_undo,
                               const char *error, struct dr_err *err)
{
    static const char add[] = "INSERT INTO failures(op_id, step_id, at, is_undo) VALUES(?,?,?,?)";
    static const char forget[] = "DELETE FROM failures WHERE at<?";
    char reason[DR_REASON_BYTES];
    dr_wall_ms now = dr_wall_now();
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc =
        op == NULL ? dr_fail_nomem(err)
                   : dr_q_run(&q->w, err, add, "iiii", op_id, step_id, now, (int64_t)is_undo);
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, forget, "i", now - FAILURES_KEPT_MS);
    }
    if (rc == DR_OK && !is_undo) {
        rc = dr_q_read_op(&q->w, op_id, op, err);
    }
    if (rc == DR_OK && !is_undo && op->wish == DR_WISH_RUN && dr_q_must_turn_back(op)) {
        (void)snprintf(reason, sizeof reason, "step %" PRId64 ": %s", step_id,
                       error == NULL ? "failed" : error);
        rc = dr_q_turn_back(q, op_id, 0, "failure", "drover", reason, err);
        dr_fault_mark("queue.turned_back");
    }
    dr_free(op);
    return rc;
}

/* --- in part -----------------------------------------------------------------------------------
 */

struct part_work {
    int64_t op_id, step_id;
    const char *by;
    const char *reason;
};

/* A step that stays may not be of a later stage than one that goes: it would have run behind it. */
static enum dr_code check_part(struct dr_queue *q, const struct part_work *w,
                               const struct dr_op *op, struct dr_err *err)
{
    static const char mine[] = "SELECT count(*) FROM steps WHERE id=?2 AND " QUEUE_STEPS_OF_1;
    static const char crossing[] =
        "SELECT a.id FROM steps a WHERE a.op_id=?1 AND a.id<=?2 AND a.status=5 AND a.stage>(SELECT"
        " min(b.stage) FROM steps b WHERE b.op_id=?1 AND b.id>?2 AND b.touched) LIMIT 1";
    int64_t found = 0;
    if (op->status == DR_O_PLANNED || op->status == DR_O_ROLLED_BACK) {
        return dr_fail(err, DR_REFUSED, "operation %" PRId64 " is %s: nothing of it can be undone",
                       op->id, dr_op_status_name(op->status));
    }
    if (op->is_archive_expired) {
        return dr_fail(err, DR_REFUSED,
                       "operation %" PRId64 " cannot be rolled back: its archive has expired",
                       op->id);
    }
    enum dr_code rc = dr_q_int(&q->w, &found, 0, err, mine, "ii", w->op_id, w->step_id);
    if (rc == DR_OK && found == 0) {
        rc = dr_fail(err, DR_NOT_FOUND,
                     "step %" PRId64 " is no step of operation %" PRId64 "; drover status %" PRId64
                     " --steps lists them",
                     w->step_id, w->op_id, w->op_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_check_return(q, op, err);
    }
    if (rc == DR_OK) {
        rc = dr_q_int(&q->w, &found, 0, err, crossing, "ii", w->op_id, w->step_id);
    }
    if (rc == DR_OK && found != 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "step %" PRId64
                     " would stay, but it is of a later stage than steps that would be undone; "
                     "name a step before it",
                     found);
    }
    return rc;
}

static enum dr_code run_part(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char rolling[] = "SELECT is_rolling_back FROM operations WHERE id=?";
    const struct part_work *w = job->arg;
    int64_t is_rolling_back = 0;
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_q_read_op(&q->w, w->op_id, op, err);
    if (rc == DR_OK) {
        rc = dr_q_int(&q->w, &is_rolling_back, 0, err, rolling, "i", w->op_id);
    }
    if (rc == DR_OK && is_rolling_back != 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "operation %" PRId64 " is rolling back already; wait for its end", op->id);
    }
    if (rc == DR_OK) {
        rc = check_part(q, w, op, err);
    }
    dr_free(op);
    return rc == DR_OK ? dr_q_turn_back(q, w->op_id, w->step_id, "person", w->by, w->reason, err)
                       : rc;
}

enum dr_code dr_queue_rollback_to(struct dr_queue *q, int64_t op_id, int64_t step_id,
                                  const char *by, const char *reason, struct dr_err *err)
{
    struct part_work w = {.op_id = op_id, .step_id = step_id, .by = by, .reason = reason};
    enum dr_code rc = dr_q_commit(q, run_part, &w, err);
    if (rc == DR_OK) {
        dr_fault_mark("queue.wish.set");
    }
    return rc;
}

/* --- reading the history -----------------------------------------------------------------------
 */

static void fill_run(sqlite3_stmt *st, struct dr_rollback_run *r)
{
    *r = (struct dr_rollback_run){.id = sqlite3_column_int64(st, 0),
                                  .op_id = sqlite3_column_int64(st, 1),
                                  .to_step = sqlite3_column_int64(st, 5),
                                  .started_at = sqlite3_column_int64(st, 6),
                                  .ended_at = sqlite3_column_int64(st, 7),
                                  .steps = (uint64_t)sqlite3_column_int64(st, 8),
                                  .undone = (uint64_t)sqlite3_column_int64(st, 9),
                                  .worked_ms = (uint64_t)sqlite3_column_int64(st, 10)};
    dr_copy_text(r->trigger, sizeof r->trigger, dr_sql_text(st, 2));
    dr_copy_text(r->by, sizeof r->by, dr_sql_text(st, 3));
    dr_copy_text(r->reason, sizeof r->reason, dr_sql_text(st, 4));
    dr_copy_text(r->first_error, sizeof r->first_error, dr_sql_text(st, 11));
    r->failed = (uint64_t)sqlite3_column_int64(st, 12);
    bool is_known = sqlite3_column_int(st, 13) != 0;
    dr_copy_text(r->result, sizeof r->result,
                 r->ended_at > 0 ? "done"
                 : !is_known     ? "abandoned"
                 : r->failed > 0 ? "blocked"
                                 : "running");
}

enum dr_code dr_queue_rollbacks(struct dr_queue *q, int64_t op_id, int64_t before,
                                struct dr_rollback_run *run, uint32_t max, uint32_t *count_out,
                                struct dr_err *err)
{
    static const char sql[] =
        "SELECT r.id, r.op_id, r.trigger, r.by, r.reason, r.to_step, r.started_at, r.ended_at,"
        " r.steps, CASE WHEN r.ended_at>0 THEN r.undone ELSE ifnull(o.c8 - r.undone_before, 0) END,"
        " r.worked_ms, r.first_error, CASE WHEN r.ended_at>0 THEN 0 ELSE ifnull(o.c9, 0) END,"
        " o.id IS NOT NULL FROM rollbacks r LEFT JOIN operations o ON o.id=r.op_id WHERE (?1=0 OR"
        " r.op_id=?1) AND (?2=0 OR r.id<?2) ORDER BY r.id DESC LIMIT ?3";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "iii", op_id, before, (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        fill_run(st, &run[(*count_out)++]);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}
