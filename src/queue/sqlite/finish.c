/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker tells about a step it holds: renew, save, finish; and the sweep that takes over
 * when it tells nothing any more. The token fences: an old one changes nothing. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

enum { SWEEP_MAX = 256 };

/* A save or finish as data, so that it can outlive the call. The texts follow the struct. */
struct mark_work {
    struct queue_job job; /* first: the committer frees the whole */
    int64_t step_id, op_id;
    uint64_t token;
    bool is_undo;
    bool is_finish;
    bool needs_probe;
    uint32_t lease_ms;
    uint32_t tries;
    struct dr_progress_mark mark;
    enum dr_outcome outcome;
    dr_wall_ms next_attempt_at;
    uint64_t duration_ms;
    bool is_braked;
    const char *error; /* NULL: none */
};

/* What the step's row says at the moment. */
struct held {
    bool is_held;
    uint32_t stage;
    int64_t done, undone, conflicts;
};

static enum dr_code look_up(struct dr_queue *q, const struct mark_work *w, struct held *h,
                            struct dr_err *err)
{
    static const char sql[] = "SELECT stage, done, undone, conflicts FROM steps WHERE id=? AND"
                              " status=1 AND lease_token=?";
    sqlite3_stmt *st = NULL;
    enum dr_code rc = dr_q_bind(&q->w, &st, err, sql, "ii", w->step_id, (int64_t)w->token);
    if (rc == DR_OK) {
        rc = dr_sql_step(&q->w.sql, st, &h->is_held, err);
    }
    if (rc == DR_OK && h->is_held) {
        h->stage = (uint32_t)sqlite3_column_int64(st, 0);
        h->done = sqlite3_column_int64(st, 1);
        h->undone = sqlite3_column_int64(st, 2);
        h->conflicts = sqlite3_column_int64(st, 3);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    if (rc == DR_OK && !h->is_held) {
        rc = dr_fail(err, DR_LOST, "step %" PRId64 " is no longer leased to this worker",
                     w->step_id);
    }
    return rc;
}

static enum dr_code store_mark(struct dr_queue *q, const struct mark_work *w, const struct held *h,
                               dr_wall_ms now, struct dr_err *err)
{
    static const char step[] =
        "UPDATE steps SET deaths=CASE WHEN done=?1 AND undone=?2 THEN deaths ELSE 0 END, done=?1,"
        " undone=?2, conflicts=?3, archive_bytes=?, archive_frames=?,"
        " undo_position=?, pass=?, cursor=?, tries=?, needs_probe=?, lease_until=?,"
        " next_attempt_at=?, updated_at=?, failing_since=CASE WHEN ?9=0 THEN 0 ELSE failing_since"
        " END WHERE id=?";
    static const char op[] =
        "UPDATE operations SET items_done=items_done+?, items_undone=items_undone+?,"
        " items_conflict=items_conflict+?, progress_at=? WHERE id=?";
    const struct dr_progress_mark *m = &w->mark;
    int64_t until = now + w->lease_ms;
    enum dr_code rc =
        dr_q_run(&q->w, err, step, "iiiiiiibiiiiii", (int64_t)m->done, (int64_t)m->undone,
                 (int64_t)m->conflicts, (int64_t)m->archive_bytes, (int64_t)m->archive_frames,
                 (int64_t)m->undo_position, (int64_t)m->pass, m->cursor, m->cursor_len,
                 (int64_t)w->tries, (int64_t)w->needs_probe, until, until, now, w->step_id);
    int64_t done = (int64_t)m->done - h->done;
    int64_t undone = (int64_t)m->undone - h->undone;
    int64_t conflicts = (int64_t)m->conflicts - h->conflicts;
    if (rc == DR_OK && (done != 0 || undone != 0 || conflicts != 0)) {
        rc = dr_q_run(&q->w, err, op, "iiiii", done, undone, conflicts, now, w->op_id);
    }
    return rc;
}

static enum dr_step_event event_of(enum dr_outcome outcome)
{
    switch (outcome) {
    case DR_OUT_DONE:
        return DR_ON_DONE;
    case DR_OUT_RELEASE:
        return DR_ON_RELEASE;
    case DR_OUT_RETRY:
        return DR_ON_RETRY;
    case DR_OUT_UNKNOWN:
        return DR_ON_LOST;
    case DR_OUT_QUARANTINE:
        return DR_ON_QUARANTINE;
    }
    assert(false && "outcome");
    return DR_ON_LOST;
}

/* While the worker was busy the operation may have been stopped or rolled back: then the step does
 * not stop where its outcome would put it. */
static void follow_wish(enum dr_wish wish, bool *is_undo, enum dr_step_status *to)
{
    if (*is_undo) {
        return;
    }
    if (wish == DR_WISH_ROLLBACK && dr_step_move(*to, DR_ON_UNDO, false, to)) {
        *is_undo = true;
    } else if (wish == DR_WISH_STOP && *to != DR_S_PROCESSED) {
        (void)dr_step_move(*to, DR_ON_CANCEL, false, to);
    }
}

static enum dr_code store_status(struct dr_queue *q, const struct mark_work *w,
                                 enum dr_step_status to, bool is_undo, dr_wall_ms now,
                                 struct dr_err *err)
{
    static const char sql[] =
        "UPDATE steps SET status=?, is_undo=?, needs_probe=?, tries=?, next_attempt_at=?,"
        " lease_owner='', duration_ms=duration_ms+?, last_error=ifnull(?, last_error),"
        " updated_at=?8, failing_since=CASE ?9 WHEN 1 THEN 0 WHEN 2 THEN (CASE WHEN failing_since=0"
        " THEN ?8 ELSE failing_since END) ELSE failing_since END WHERE id=?10";
    bool has_turned = is_undo != w->is_undo; /* undo begins with a clean slate */
    bool needs_probe = !has_turned && w->outcome != DR_OUT_DONE &&
                       (w->needs_probe || w->outcome == DR_OUT_UNKNOWN);
    bool has_failed = w->outcome == DR_OUT_RETRY || w->outcome == DR_OUT_UNKNOWN;
    uint32_t tries = has_turned ? 0 : w->tries + has_failed;
    const char *error = w->outcome == DR_OUT_DONE ? "" : w->error;
    /* 1: a clean slate, 2: failing since now or earlier, 0: as it was */
    bool is_clean = has_turned || w->outcome == DR_OUT_DONE || w->is_braked;
    int64_t failing = is_clean ? 1 : has_failed ? 2 : 0;
    return dr_q_run(&q->w, err, sql, "iiiiiisiii", (int64_t)to, (int64_t)is_undo,
                    (int64_t)needs_probe, (int64_t)tries,
                    has_failed && !has_turned ? w->next_attempt_at : (int64_t)0,
                    (int64_t)w->duration_ms, error, now, failing, w->step_id);
}

static enum dr_code run_finish(struct dr_queue *q, const struct mark_work *w, const struct held *h,
                               dr_wall_ms now, struct dr_err *err)
{
    static const char wish_sql[] =
        "SELECT " QUEUE_WISH_TO_FOLLOW("?2") " FROM operations WHERE id=?1";
    static const char wake[] = "UPDATE steps SET ready=1 WHERE wait_for_id=? AND wait_for_id<>0";
    static const char progress[] = "UPDATE operations SET progress_at=? WHERE id=?";
    enum dr_step_status to = DR_S_LEASED;
    bool is_undo = w->is_undo;
    int64_t wish = 0;
    enum dr_code rc = dr_q_int(&q->w, &wish, 0, err, wish_sql, "ii", w->op_id, w->step_id);
    if (rc != DR_OK) {
        return rc;
    }
    if (!dr_step_move(DR_S_LEASED, event_of(w->outcome), is_undo, &to)) {
        return dr_fail(err, DR_INTERNAL, "step %" PRId64 ": no such ending", w->step_id);
    }
    bool has_processed = to == DR_S_PROCESSED;
    follow_wish((enum dr_wish)wish, &is_undo, &to);
    rc = store_status(q, w, to, is_undo, now, err);
    if (rc == DR_OK) {
        rc = dr_q_count_move(q, w->op_id, h->stage, DR_S_LEASED, w->is_undo, to, is_undo, err);
    }
    if (rc == DR_OK && has_processed) {
        rc = dr_q_run(&q->w, err, wake, "i", w->step_id);
    }
    /* A command moves no items, and yet its end is progress. */
    if (rc == DR_OK && w->outcome == DR_OUT_DONE && (int64_t)w->mark.done == h->done &&
        (int64_t)w->mark.undone == h->undone) {
        rc = dr_q_run(&q->w, err, progress, "ii", now, w->op_id);
    }
    if (rc == DR_OK && w->is_undo) {
        rc = dr_q_rollback_worked(q, w->op_id, w->duration_ms,
                                  w->outcome == DR_OUT_QUARANTINE ? w->error : NULL, err);
    }
    if (rc == DR_OK &&
        (to == DR_S_PROCESSED || to == DR_S_UNDONE || to == DR_S_CANCELLED || to == DR_S_FAILED)) {
        rc = dr_q_note_end(q, w->op_id, err);
    }
    if (rc == DR_OK && w->outcome == DR_OUT_QUARANTINE) {
        rc = dr_q_note_failure(q, w->op_id, w->step_id, w->is_undo, w->error, err);
    }
    return rc;
}

static enum dr_code run_mark(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    struct mark_work *w = (struct mark_work *)job;
    struct held h = {0};
    dr_wall_ms now = dr_wall_now();
    enum dr_code rc = look_up(q, w, &h, err);
    if (rc == DR_OK) {
        rc = store_mark(q, w, &h, now, err);
    }
    return rc == DR_OK && w->is_finish ? run_finish(q, w, &h, now, err) : rc;
}

static enum dr_code run_mark_of(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    return run_mark(q, job->arg, err);
}

static enum dr_code find_lost(struct dr_queue *q, const struct dr_lease *l, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&q->mutex);
    for (unsigned i = 0; i < q->lost_count; i++) {
        if (q->lost[i].step_id == l->step_id && q->lost[i].token == l->token) {
            rc = q->lost[i].err.code;
            if (err != NULL) {
                *err = q->lost[i].err;
            }
            q->lost[i] = q->lost[--q->lost_count];
            break;
        }
    }
    (void)pthread_mutex_unlock(&q->mutex);
    return rc;
}

/* Copy cursor and error behind the struct: one block, one owner. */
static struct mark_work *copy_work(const struct mark_work *w)
{
    size_t error_bytes = w->error == NULL ? 0 : strlen(w->error) + 1;
    struct mark_work *copy = dr_malloc(sizeof *copy + w->mark.cursor_len + error_bytes);
    if (copy == NULL) {
        return NULL;
    }
    char *tail = (char *)(copy + 1);
    *copy = *w;
    if (w->mark.cursor_len > 0) {
        memcpy(tail, w->mark.cursor, w->mark.cursor_len);
        copy->mark.cursor = tail;
    }
    if (w->error != NULL) {
        copy->error = memcpy(tail + w->mark.cursor_len, w->error, error_bytes);
    }
    return copy;
}

static enum dr_code hand_over(struct dr_queue *q, const struct dr_lease *l, struct mark_work *w,
                              bool is_durable, struct dr_err *err)
{
    w->step_id = l->step_id;
    w->op_id = l->op_id;
    w->token = l->token;
    w->is_undo = l->is_undo;
    w->needs_probe = l->needs_probe;
    w->tries = l->tries;
    w->mark = l->mark;
    enum dr_code rc = find_lost(q, l, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct mark_work *posted = is_durable ? NULL : copy_work(w);
    if (posted == NULL) { /* durable, or too little memory to do it later */
        return dr_q_commit(q, run_mark_of, w, err);
    }
    posted->job = (struct queue_job){.run = run_mark, .step_id = w->step_id, .token = w->token};
    dr_q_post(q, &posted->job);
    return DR_OK;
}

enum dr_code dr_queue_save(struct dr_queue *q, struct dr_lease *l, uint32_t lease_ms,
                           bool is_durable, struct dr_err *err)
{
    struct mark_work w = {.lease_ms = lease_ms};
    dr_mono_ms begin = dr_mono_now();
    enum dr_code rc = hand_over(q, l, &w, is_durable, err);
    if (rc == DR_OK && is_durable) {
        l->until = begin + lease_ms; /* a posted save prolongs only what the store says */
    }
    dr_fault_mark("queue.save.saved");
    return rc;
}

enum dr_code dr_queue_finish(struct dr_queue *q, struct dr_lease *l, const struct dr_finish *f,
                             bool is_durable, struct dr_err *err)
{
    struct mark_work w = {.is_finish = true,
                          .outcome = f->outcome,
                          .next_attempt_at = f->next_attempt_at,
                          .duration_ms = f->duration_ms,
                          .is_braked = f->is_braked,
                          .error = f->error};
    enum dr_code rc = hand_over(q, l, &w, is_durable, err);
    dr_fault_mark("queue.finish.finished");
    return rc;
}

/* --- renewing and sweeping ---------------------------------------------------------------------
 */

struct renew_work {
    const struct dr_lease *lease;
    uint32_t lease_ms;
};

static enum dr_code run_renew(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char sql[] = "UPDATE steps SET lease_until=?1, next_attempt_at=?1 WHERE id=?2 AND"
                              " status=1 AND lease_token=?3";
    const struct renew_work *w = job->arg;
    enum dr_code rc = dr_q_run(&q->w, err, sql, "iii", dr_wall_now() + w->lease_ms,
                               w->lease->step_id, (int64_t)w->lease->token);
    if (rc == DR_OK && sqlite3_changes(q->w.sql.db) == 0) {
        rc = dr_fail(err, DR_LOST, "step %" PRId64 " is no longer leased to this worker",
                     w->lease->step_id);
    }
    return rc;
}

enum dr_code dr_queue_renew(struct dr_queue *q, struct dr_lease *l, uint32_t lease_ms,
                            struct dr_err *err)
{
    struct renew_work w = {.lease = l, .lease_ms = lease_ms};
    dr_mono_ms begin = dr_mono_now();
    enum dr_code rc = find_lost(q, l, err);
    rc = rc == DR_OK ? dr_q_commit(q, run_renew, &w, err) : rc;
    if (rc == DR_OK) {
        l->until = begin + lease_ms;
    }
    return rc;
}

struct sweep_row {
    int64_t id, op_id;
    enum dr_step_status status;
    bool is_undo;
    uint32_t stage;
    enum dr_wish wish;
};

static enum dr_code find_due(struct dr_queue *q, dr_wall_ms now, struct sweep_row *row,
                             unsigned *count_out, struct dr_err *err)
{
    static const char sql[] =
        "SELECT s.id, s.op_id, s.status, s.is_undo, s.stage, " QUEUE_WISH_TO_FOLLOW(
            "s.id") " FROM steps s JOIN operations o ON o.id=s.op_id WHERE s.status IN (1,2) AND "
                    "s.next_attempt_at<=? LIMIT 256";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    enum dr_code rc = dr_q_bind(&q->w, &st, err, sql, "i", now);
    while (rc == DR_OK && *count_out < SWEEP_MAX) {
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        struct sweep_row *r = &row[(*count_out)++];
        r->id = sqlite3_column_int64(st, 0);
        r->op_id = sqlite3_column_int64(st, 1);
        r->status = (enum dr_step_status)sqlite3_column_int(st, 2);
        r->is_undo = sqlite3_column_int(st, 3) != 0;
        r->stage = (uint32_t)sqlite3_column_int64(st, 4);
        r->wish = (enum dr_wish)sqlite3_column_int(st, 5);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

static enum dr_code sweep_one(struct dr_queue *q, const struct sweep_row *r, dr_wall_ms now,
                              struct dr_err *err)
{
    static const char sql[] =
        "UPDATE steps SET status=?1, is_undo=?2, needs_probe=?3, tries=CASE WHEN is_undo=?2 THEN"
        " tries ELSE 0 END, deaths=deaths + 1, lease_owner='', next_attempt_at=0, updated_at=?4 "
        "WHERE id=?5";
    enum dr_step_status to = r->status;
    bool is_undo = r->is_undo;
    bool is_lease = r->status == DR_S_LEASED;
    if (!dr_step_move(r->status, is_lease ? DR_ON_LOST : DR_ON_WAKE, is_undo, &to)) {
        return dr_fail(err, DR_INTERNAL, "step %" PRId64 " cannot be swept", r->id);
    }
    follow_wish(r->wish, &is_undo, &to);
    /* A step that waited keeps what it knew; one whose worker went silent must be looked at. */
    static const char keep[] =
        "UPDATE steps SET status=?, is_undo=?, next_attempt_at=0, updated_at=? WHERE id=?";
    enum dr_code rc =
        is_lease ? dr_q_run(&q->w, err, sql, "iiiii", (int64_t)to, (int64_t)is_undo,
                            (int64_t)(is_undo == r->is_undo), now, r->id)
                 : dr_q_run(&q->w, err, keep, "iiii", (int64_t)to, (int64_t)is_undo, now, r->id);
    return rc == DR_OK
               ? dr_q_count_move(q, r->op_id, r->stage, r->status, r->is_undo, to, is_undo, err)
               : rc;
}

static enum dr_code run_sweep(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    uint64_t *moved = job->arg;
    struct sweep_row *row = dr_malloc(SWEEP_MAX * sizeof *row);
    unsigned count = 0;
    dr_wall_ms now = dr_wall_now();
    enum dr_code rc = row == NULL ? dr_fail_nomem(err) : find_due(q, now, row, &count, err);
    for (unsigned i = 0; rc == DR_OK && i < count; i++) {
        rc = sweep_one(q, &row[i], now, err);
        if (rc == DR_OK) {
            rc = dr_q_note_end(q, row[i].op_id, err);
        }
    }
    *moved = rc == DR_OK ? count : 0;
    dr_free(row);
    return rc;
}

enum dr_code dr_queue_sweep(struct dr_queue *q, uint64_t *moved_out, struct dr_err *err)
{
    static const char due[] =
        "SELECT count(*) FROM steps WHERE status IN (1,2,3) AND status IN (1,2) AND"
        " next_attempt_at<=?";
    int64_t count = 0;
    *moved_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, &count, 0, err, due, "i", dr_wall_now());
    (void)pthread_mutex_unlock(&q->r_mutex);
    if (rc != DR_OK || count == 0) {
        return rc;
    }
    return dr_q_commit(q, run_sweep, moved_out, err);
}
