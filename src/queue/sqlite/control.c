/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes and tuning: what any process may ask of an operation. Asked and done are two states: the
 * steps nobody holds follow at once, those a worker holds when it gives them back. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

struct wish_work {
    int64_t op_id;
    enum dr_wish wish;
    const char *by;
    const char *reason;
};

static enum dr_code refuse(const struct dr_op *op, const char *why, struct dr_err *err)
{
    return dr_fail(err, DR_REFUSED, "operation %" PRId64 " %s", op->id, why);
}

static enum dr_code check_run(const struct dr_op *op, struct dr_err *err)
{
    switch (op->status) {
    case DR_O_DONE:
        return refuse(op, "is done: there is nothing to run", err);
    case DR_O_ROLLED_BACK:
        return refuse(op, "is rolled back; submit its job anew to run it again", err);
    case DR_O_ROLLING_BACK:
        return refuse(op, "is rolling back and cannot run forward again", err);
    case DR_O_ROLLBACK_BLOCKED:
        return refuse(op, "is rolling back but blocked; see quarantine list, then quarantine retry",
                      err);
    case DR_O_PLANNED:
    case DR_O_QUEUED:
    case DR_O_RUNNING:
    case DR_O_PAUSING:
    case DR_O_PAUSED:
    case DR_O_STOPPING:
    case DR_O_STOPPED:
    case DR_O_BLOCKED:
    case DR_O_COUNT:
        return DR_OK;
    }
    return DR_OK;
}

/* The first step without a rollback command that has begun. */
static enum dr_code name_no_return(struct dr_queue *q, const struct dr_op *op, struct dr_err *err)
{
    static const char sql[] = "SELECT min(id) FROM steps WHERE " QUEUE_STEPS_OF_1
                              " AND rollback_query IS NULL AND (status"
                              " NOT IN (0,6) OR touched)";
    int64_t step = 0;
    enum dr_code rc = dr_q_int(&q->w, &step, 0, err, sql, "i", op->id);
    return rc != DR_OK
               ? rc
               : dr_fail(err, DR_REFUSED,
                         "operation %" PRId64 " is past its point of no return: step %" PRId64
                         " has begun and has no way back; let it end, and make the opposite change "
                         "with a new operation",
                         op->id, step);
}

/* Before the first step without a rollback command begins, what an irreversible plan did can be
 * undone: a table that is held by another name comes back. */
enum dr_code dr_q_check_return(struct dr_queue *q, const struct dr_op *op, struct dr_err *err)
{
    static const char final[] =
        "SELECT count(*) FROM steps WHERE op_id=? AND rollback_query IS NULL"
        " AND status NOT IN (?,?)";
    static const char undoable[] = "SELECT count(*) FROM steps WHERE op_id=? AND status=? AND"
                                   " rollback_query NOT LIKE '{\"do\":%'";
    int64_t begun = 0;
    int64_t done = 0;
    if (op->is_past_no_return) {
        return name_no_return(q, op, err);
    }
    if (!op->is_irreversible) {
        return DR_OK;
    }
    enum dr_code rc = dr_q_int(&q->w, &begun, 0, err, final, "iii", op->id, (int64_t)DR_S_CREATED,
                               (int64_t)DR_S_CANCELLED);
    if (rc == DR_OK) {
        rc = dr_q_int(&q->w, &done, 0, err, undoable, "ii", op->id, (int64_t)DR_S_PROCESSED);
    }
    if (rc == DR_OK && (begun > 0 || done == 0)) {
        rc = refuse(op, "was asked for as irreversible: nothing was archived", err);
    }
    return rc;
}

static enum dr_code check_wish(struct dr_queue *q, const struct dr_op *op, enum dr_wish wish,
                               bool is_rolling_back, struct dr_err *err)
{
    switch (wish) {
    case DR_WISH_RUN:
        return check_run(op, err);
    case DR_WISH_PAUSE:
        if (dr_op_status_is_final(op->status)) {
            return refuse(op, "has ended: there is nothing to pause", err);
        }
        if (op->status == DR_O_STOPPING) {
            return refuse(op, "is stopping: what runs now ends by itself", err);
        }
        return op->status == DR_O_PLANNED
                   ? refuse(op, "is only planned: there is nothing to pause", err)
                   : DR_OK;
    case DR_WISH_STOP:
        if (op->status == DR_O_DONE || op->status == DR_O_ROLLED_BACK) {
            return refuse(op, "has ended: there is nothing to stop", err);
        }
        return is_rolling_back ? refuse(op, "is rolling back; pause it instead", err) : DR_OK;
    case DR_WISH_ROLLBACK:
        if (op->is_archive_expired && !op->is_irreversible) {
            return refuse(op, "cannot be rolled back: its archive has expired", err);
        }
        return op->status == DR_O_ROLLED_BACK ? refuse(op, "is rolled back already", err)
                                              : dr_q_check_return(q, op, err);
    case DR_WISH_HOLD:
    case DR_WISH_COUNT:
        break;
    }
    return dr_fail(err, DR_INTERNAL, "no such wish");
}

static enum dr_code run_wish(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char rolling[] = "SELECT is_rolling_back FROM operations WHERE id=?";
    static const char set[] =
        "UPDATE operations SET wish=?, wish_by=?, wish_reason=?, is_rolling_back=?, waiting='',"
        " ended_at=CASE WHEN ?1=4 THEN 0 ELSE ended_at END WHERE id=?";
    const struct wish_work *w = job->arg;
    struct dr_op *op = dr_calloc(1, sizeof *op);
    int64_t is_rolling_back = 0;
    char what[DR_REASON_BYTES];
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_q_read_op(&q->w, w->op_id, op, err);
    if (rc == DR_OK) {
        rc = dr_q_int(&q->w, &is_rolling_back, 0, err, rolling, "i", w->op_id);
    }
    /* Resuming a paused rollback goes on with the rollback. */
    bool is_resumed_undo = rc == DR_OK && w->wish == DR_WISH_RUN && is_rolling_back != 0 &&
                           (op->status == DR_O_PAUSED || op->status == DR_O_PAUSING);
    enum dr_wish wish = is_resumed_undo ? DR_WISH_ROLLBACK : w->wish;
    if (rc == DR_OK) {
        rc = check_wish(q, op, wish, is_rolling_back != 0, err);
    }
    if (rc == DR_OK && wish == DR_WISH_RUN && dr_q_must_turn_back(op)) {
        rc = dr_q_turn_back(q, w->op_id, 0, "failure", w->by, "a step failed while it was paused",
                            err);
        dr_free(op);
        return rc;
    }
    if (rc == DR_OK && wish == DR_WISH_ROLLBACK && is_rolling_back == 0) {
        rc = dr_q_turn_back(q, w->op_id, 0, "person", w->by, w->reason, err);
        dr_free(op);
        return rc;
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, set, "issii", (int64_t)wish, w->by == NULL ? "" : w->by,
                      w->reason == NULL ? "" : w->reason,
                      (int64_t)(is_rolling_back != 0 || wish == DR_WISH_ROLLBACK), w->op_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_settle(q, w->op_id, wish, err);
    }
    if (rc == DR_OK) {
        (void)snprintf(what, sizeof what, "%s%s%s", dr_wish_name(wish),
                       w->reason != NULL && w->reason[0] != '\0' ? ": " : "",
                       w->reason == NULL ? "" : w->reason);
        rc = dr_q_audit(q, w->op_id, w->by, what, err);
    }
    dr_free(op);
    return rc;
}

enum dr_code dr_queue_wish(struct dr_queue *q, int64_t op_id, enum dr_wish wish, const char *by,
                           const char *reason, struct dr_err *err)
{
    struct wish_work w = {.op_id = op_id, .wish = wish, .by = by, .reason = reason};
    enum dr_code rc = dr_q_commit(q, run_wish, &w, err);
    if (rc == DR_OK) {
        dr_fault_mark("queue.wish.set");
    }
    return rc;
}

struct tune_work {
    int64_t op_id;
    const char *tuning_json;
    int64_t priority;
    int64_t per_node;
    int64_t lanes;
    const char *by;
};

static enum dr_code run_tune(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char set[] = "UPDATE operations SET tuning_version=tuning_version+1, priority=?,"
                              " per_node=?, lanes=? WHERE id=?";
    static const char texts[] = "UPDATE texts SET tuning_json=? WHERE op_id=?";
    const struct tune_work *w = job->arg;
    char what[DR_REASON_BYTES];
    enum dr_code rc =
        dr_q_run(&q->w, err, set, "iiii", w->priority, w->per_node, w->lanes, w->op_id);
    if (rc == DR_OK && sqlite3_changes(q->w.sql.db) == 0) {
        return dr_fail(err, DR_NOT_FOUND, "there is no operation %" PRId64, w->op_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, texts, "si", w->tuning_json, w->op_id);
    }
    (void)snprintf(what, sizeof what, "tune: %s", w->tuning_json);
    return rc == DR_OK ? dr_q_audit(q, w->op_id, w->by, what, err) : rc;
}

enum dr_code dr_queue_tune(struct dr_queue *q, int64_t op_id, const char *tuning_json,
                           int32_t priority, const char *by, struct dr_err *err)
{
    json_t *j = NULL;
    struct tune_work w = {
        .op_id = op_id, .tuning_json = tuning_json, .priority = priority, .by = by};
    enum dr_code rc = dr_json_parse("tuning", tuning_json, strlen(tuning_json), &j, err);
    if (rc == DR_OK) {
        w.per_node = (int64_t)json_integer_value(json_object_get(j, "per_node"));
        w.lanes = (int64_t)json_integer_value(json_object_get(j, "lanes"));
        rc = dr_q_commit(q, run_tune, &w, err);
    }
    json_decref(j);
    return rc;
}

/* --- why nothing moves -------------------------------------------------------------------------
 */

struct waiting_work {
    struct queue_job job; /* first: freed by the committer */
    int64_t op_id;
    char reason[DR_REASON_BYTES];
};

static enum dr_code run_waiting(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char sql[] = "UPDATE operations SET waiting=?1 WHERE id=?2 AND waiting<>?1";
    const struct waiting_work *w = (const struct waiting_work *)job;
    return dr_q_run(&q->w, err, sql, "si", w->reason, w->op_id);
}

/* True when the reason differs from the one noted last for this operation, or that is long ago. */
static bool note_reason(struct dr_queue *q, int64_t op_id, const char *reason)
{
    unsigned at = QUEUE_WAITS_MAX;
    dr_mono_ms now = dr_mono_now();
    (void)pthread_mutex_lock(&q->mutex);
    for (unsigned i = 0; i < QUEUE_WAITS_MAX; i++) {
        at = q->waits[i].op_id == op_id ? i : at;
    }
    bool is_new = at == QUEUE_WAITS_MAX || strcmp(q->waits[at].reason, reason) != 0 ||
                  (reason[0] != '\0' && now - q->waits[at].at >= QUEUE_WAITS_AGAIN_MS);
    if (at == QUEUE_WAITS_MAX) {
        at = q->waits_next++ % QUEUE_WAITS_MAX;
        q->waits[at].op_id = op_id;
    }
    q->waits[at].at = is_new ? now : q->waits[at].at;
    dr_copy_text(q->waits[at].reason, sizeof q->waits[at].reason, reason);
    (void)pthread_mutex_unlock(&q->mutex);
    return is_new;
}

void dr_queue_waiting(struct dr_queue *q, int64_t op_id, const char *reason)
{
    if (!note_reason(q, op_id, reason)) {
        return;
    }
    struct waiting_work *w = dr_calloc(1, sizeof *w);
    if (w == NULL) {
        return; /* it is only a remark; the next one may find memory */
    }
    w->job.run = run_waiting;
    w->op_id = op_id;
    dr_copy_text(w->reason, sizeof w->reason, reason);
    dr_q_post(q, &w->job);
}
