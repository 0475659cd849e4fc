/* SPDX-License-Identifier: Apache-2.0 */
/* Moving steps, one or many, and the numbers that follow: counts by status, open stages, the end.
 * Everything here runs inside a committer job. */
#include <assert.h>
#include <stdio.h>

#include "queue/sqlite/queue_private.h"

enum dr_code dr_q_count_move(struct dr_queue *q, int64_t op_id, uint32_t stage,
                             enum dr_step_status from, bool from_undo, enum dr_step_status to,
                             bool to_undo, struct dr_err *err)
{
    static const char counts[] =
        "UPDATE operations SET c0=c0+?, c1=c1+?, c2=c2+?, c3=c3+?, c4=c4+?, c5=c5+?, c6=c6+?,"
        " c7=c7+?, c8=c8+?, c9=c9+? WHERE id=?";
    static const char stages[] =
        "UPDATE stages SET open=open+?, undo_open=undo_open+? WHERE op_id=? AND stage=?";
    int64_t d[DR_S_COUNT] = {0};
    d[from]--;
    d[to]++;
    enum dr_code rc = dr_q_run(&q->w, err, counts, "iiiiiiiiiii", d[0], d[1], d[2], d[3], d[4],
                               d[5], d[6], d[7], d[8], d[9], op_id);
    int64_t open = (int64_t)dr_step_is_open(to, to_undo) - dr_step_is_open(from, from_undo);
    int64_t undo =
        (int64_t)dr_step_is_undo_open(to, to_undo) - dr_step_is_undo_open(from, from_undo);
    if (rc == DR_OK && (open != 0 || undo != 0)) {
        rc = dr_q_run(&q->w, err, stages, "iiii", open, undo, op_id, (int64_t)stage);
    }
    return rc;
}

/* What besides the status changes with an event. */
static const char *effect_of(enum dr_step_event on)
{
    switch (on) {
    case DR_ON_LOST:
        return ", needs_probe=1, deaths=deaths+1, next_attempt_at=0, lease_owner=''";
    case DR_ON_UNDO:
        return ", is_undo=1, needs_probe=0, tries=0, deaths=0, next_attempt_at=0, failing_since=0,"
               " lease_owner=''";
    case DR_ON_CANCEL:
        return ", needs_probe=max(needs_probe, status=3), next_attempt_at=0";
    case DR_ON_REDRIVE:
        return ", tries=0, deaths=0, next_attempt_at=0, failing_since=0";
    case DR_ON_REARM:
        return ", is_undo=0, touched=0, needs_probe=0, tries=0, deaths=0, done=0, undone=0,"
               " undo_position=0, pass=0, cursor=NULL, archive_bytes=0, archive_frames=0,"
               " next_attempt_at=0, failing_since=0, last_error=''";
    case DR_ON_LEASE:
    case DR_ON_DONE:
    case DR_ON_RELEASE:
    case DR_ON_RETRY:
    case DR_ON_QUARANTINE:
    case DR_ON_WAKE:
    case DR_ON_RESUME:
    case DR_EVENT_COUNT:
        return "";
    }
    return "";
}

enum dr_code dr_q_move_all(struct dr_queue *q, int64_t op_id, enum dr_step_status from,
                           enum dr_step_event on, bool is_undo, const char *condition,
                           struct dr_err *err)
{
    enum dr_step_status to = from;
    if (!dr_step_move(from, on, is_undo, &to)) {
        return dr_fail(err, DR_INTERNAL, "no move from %s by event %d", dr_step_status_name(from),
                       (int)on);
    }
    return dr_sql_execf(
        &q->w.sql, err,
        "UPDATE steps SET status=%d%s, updated_at=%lld WHERE id >= (SELECT first_step FROM"
        " operations WHERE id=%lld) AND id < (SELECT first_step + steps FROM operations WHERE"
        " id=%lld) AND status=%d AND is_undo=%d %s",
        (int)to, effect_of(on), (long long)dr_wall_now(), (long long)op_id, (long long)op_id,
        (int)from, (int)is_undo, condition);
}

enum dr_code dr_q_recount(struct dr_queue *q, int64_t op_id, struct dr_err *err)
{
    static const char counts[] =
        "UPDATE operations SET (c0,c1,c2,c3,c4,c5,c6,c7,c8,c9) = (SELECT total(status=0),"
        " total(status=1), total(status=2), total(status=3), total(status=4), total(status=5),"
        " total(status=6), total(status=7), total(status=8), total(status=9) FROM steps "
        "WHERE " QUEUE_STEPS_OF_1 ") WHERE id=?1";
    static const char stages[] =
        "UPDATE stages SET (open, undo_open) = (SELECT total(status IN (0,4) OR (status IN (1,2,3)"
        " AND NOT is_undo)), total(status IN (7,9) OR (status IN (1,2,3) AND is_undo)) FROM steps s"
        " WHERE s.op_id=stages.op_id AND s.stage=stages.stage) WHERE op_id=?1";
    enum dr_code rc = dr_q_run(&q->w, err, counts, "i", op_id);
    return rc == DR_OK ? dr_q_run(&q->w, err, stages, "i", op_id) : rc;
}

static bool is_undo_left(const uint64_t n[DR_S_COUNT])
{
    return n[DR_S_UNDOING] + n[DR_S_UNDO_FAILED] + n[DR_S_LEASED] + n[DR_S_WAITING] +
               n[DR_S_UNKNOWN] >
           0;
}

/* A partial rollback is over: what it undid may run again, and the operation stands still. What
 * could not be put back whole stays undone, because its archive is still needed. */
static enum dr_code end_partial(struct dr_queue *q, int64_t op_id, int64_t to, struct dr_err *err)
{
    static const char turn[] =
        "UPDATE operations SET wish=3, is_rolling_back=0, rollback_to=0 WHERE id=?";
    static const char ready[] =
        "UPDATE steps SET ready=(wait_for_id=0 OR EXISTS(SELECT 1 FROM steps b WHERE"
        " b.id=steps.wait_for_id AND b.status=5)) WHERE " QUEUE_STEPS_OF_1 " AND id>?2";
    enum dr_code rc = dr_q_rollback_end(q, op_id, err);
    if (rc == DR_OK) {
        rc = dr_q_move_all(q, op_id, DR_S_UNDONE, DR_ON_REARM, true, "AND conflicts=0", err);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, ready, "ii", op_id, to);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, turn, "i", op_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_recount(q, op_id, err);
    }
    return rc == DR_OK ? dr_q_settle(q, op_id, DR_WISH_STOP, err) : rc;
}

enum dr_code dr_q_note_end(struct dr_queue *q, int64_t op_id, struct dr_err *err)
{
    static const char get[] =
        "SELECT wish, ended_at, archive_days, " QUEUE_COUNTS ", rollback_to FROM operations WHERE"
        " id=?";
    static const char set[] =
        "UPDATE operations SET ended_at=?1, waiting='', archive_until=CASE WHEN archive_days>0 AND"
        " ?1>0 THEN ?1 + archive_days * 86400000 ELSE archive_until END WHERE id=?2";
    sqlite3_stmt *st = NULL;
    bool has_row = false;
    uint64_t count[DR_S_COUNT];
    enum dr_code rc = dr_q_bind(&q->w, &st, err, get, "i", op_id);
    if (rc == DR_OK) {
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
    }
    if (rc != DR_OK || !has_row) {
        return rc;
    }
    enum dr_wish wish = (enum dr_wish)sqlite3_column_int(st, 0);
    bool has_ended = sqlite3_column_int64(st, 1) != 0;
    for (int i = 0; i < DR_S_COUNT; i++) {
        count[i] = (uint64_t)sqlite3_column_int64(st, 3 + i);
    }
    int64_t to = sqlite3_column_int64(st, 3 + DR_S_COUNT);
    (void)sqlite3_reset(st);
    if (wish == DR_WISH_ROLLBACK && to > 0 && !is_undo_left(count)) {
        return end_partial(q, op_id, to, err);
    }
    enum dr_op_status status = dr_op_status_of(wish, count);
    bool is_final = dr_op_status_is_final(status);
    if (is_final == has_ended) {
        return DR_OK;
    }
    rc = dr_q_run(&q->w, err, set, "ii", is_final ? dr_wall_now() : (int64_t)0, op_id);
    return rc == DR_OK && status == DR_O_ROLLED_BACK ? dr_q_rollback_end(q, op_id, err) : rc;
}

struct rule {
    enum dr_step_status from;
    enum dr_step_event on;
    const char *condition;
};

static enum dr_code apply(struct dr_queue *q, int64_t op_id, const struct rule *rule, size_t count,
                          int64_t behind, struct dr_err *err)
{
    char condition[256];
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(condition, sizeof condition, "%s AND id>%lld", rule[i].condition,
                       (long long)behind);
        enum dr_code rc = dr_q_move_all(q, op_id, rule[i].from, rule[i].on, false, condition, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

enum dr_code dr_q_settle(struct dr_queue *q, int64_t op_id, enum dr_wish wish, struct dr_err *err)
{
    /* What a clean-up has removed since the stop must be made again. */
    static const struct rule run[] = {
        {DR_S_CANCELLED, DR_ON_RESUME, ""},
        {DR_S_PROCESSED, DR_ON_RESUME,
         "AND cleanup IS NOT NULL AND EXISTS(SELECT 1 FROM cleanups c WHERE c.step_id=steps.id AND"
         " c.is_done)"},
    };
    static const struct rule stop[] = {{DR_S_CREATED, DR_ON_CANCEL, ""},
                                       {DR_S_WAITING, DR_ON_CANCEL, ""},
                                       {DR_S_UNKNOWN, DR_ON_CANCEL, ""}};
    /* Whatever a worker ever held may have done something, also when nothing was saved of it. */
    static const struct rule rollback[] = {
        {DR_S_CREATED, DR_ON_CANCEL, "AND NOT touched"},
        {DR_S_CREATED, DR_ON_UNDO, "AND touched"},
        {DR_S_WAITING, DR_ON_UNDO, ""},
        {DR_S_UNKNOWN, DR_ON_UNDO, ""},
        {DR_S_FAILED, DR_ON_UNDO, ""},
        {DR_S_PROCESSED, DR_ON_UNDO, ""},
        {DR_S_CANCELLED, DR_ON_UNDO, "AND touched"},
    };
    static const char to[] = "SELECT rollback_to FROM operations WHERE id=?";
    int64_t behind = 0;
    enum dr_code rc = DR_OK;
    sqlite3_int64 changes = sqlite3_total_changes64(q->w.sql.db);
    switch (wish) {
    case DR_WISH_RUN:
        rc = apply(q, op_id, run, sizeof run / sizeof run[0], 0, err);
        break;
    case DR_WISH_STOP:
        rc = apply(q, op_id, stop, sizeof stop / sizeof stop[0], 0, err);
        break;
    case DR_WISH_ROLLBACK:
        rc = dr_q_int(&q->w, &behind, 0, err, to, "i", op_id);
        if (rc == DR_OK) {
            rc = apply(q, op_id, rollback, sizeof rollback / sizeof rollback[0], behind, err);
        }
        break;
    case DR_WISH_HOLD:
    case DR_WISH_PAUSE:
    case DR_WISH_COUNT:
        break;
    }
    if (rc == DR_OK && sqlite3_total_changes64(q->w.sql.db) != changes) {
        rc = dr_q_recount(q, op_id, err);
    }
    return rc == DR_OK ? dr_q_note_end(q, op_id, err) : rc;
}

enum dr_code dr_q_audit(struct dr_queue *q, int64_t op_id, const char *by, const char *what,
                        struct dr_err *err)
{
    static const char sql[] = "INSERT INTO audit(op_id, at, by, what) VALUES(?,?,?,?)";
    return dr_q_run(&q->w, err, sql, "iiss", op_id, dr_wall_now(), by == NULL ? "" : by, what);
}
