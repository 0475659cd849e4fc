/* SPDX-License-Identifier: Apache-2.0 */
/* What health and alerts ask: who works on the queue, how deep it is, what failed. Reads touch the
 * operations that are not over and short tables of their own, never the steps. */
#include <string.h>

#include "base/str.h"
#include "queue/sqlite/queue_private.h"

enum { HEARTBEATS_KEPT_MS = 24 * 3600 * 1000, HOUR_MS = 3600 * 1000 };

struct beat_work {
    struct queue_job job; /* first: freed by the committer */
    char worker[DR_NAME_BYTES];
    bool is_ending;
};

static enum dr_code run_beat(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char beat[] =
        "INSERT INTO heartbeats(worker, started_at, seen_at, is_ended) VALUES(?1,?2,?2,?3)"
        " ON CONFLICT(worker) DO UPDATE SET seen_at=?2, is_ended=?3";
    static const char forget[] = "DELETE FROM heartbeats WHERE seen_at<?";
    const struct beat_work *w = (const struct beat_work *)job;
    dr_wall_ms now = dr_wall_now();
    enum dr_code rc = dr_q_run(&q->w, err, beat, "sii", w->worker, now, (int64_t)w->is_ending);
    return rc == DR_OK ? dr_q_run(&q->w, err, forget, "i", now - HEARTBEATS_KEPT_MS) : rc;
}

void dr_queue_heartbeat(struct dr_queue *q, const char *worker, bool is_ending)
{
    struct beat_work *w = dr_calloc(1, sizeof *w);
    if (w == NULL) {
        return; /* the next one may find memory */
    }
    w->job.run = run_beat;
    w->is_ending = is_ending;
    dr_copy_text(w->worker, sizeof w->worker, worker);
    dr_q_post(q, &w->job);
}

enum dr_code dr_queue_heartbeats(struct dr_queue *q, struct dr_heartbeat *h, uint32_t max,
                                 uint32_t *count_out, struct dr_err *err)
{
    static const char sql[] =
        "SELECT worker, started_at, seen_at, is_ended FROM heartbeats ORDER BY"
        " seen_at DESC LIMIT ?";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "i", (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        struct dr_heartbeat *one = &h[(*count_out)++];
        *one = (struct dr_heartbeat){.started_at = sqlite3_column_int64(st, 1),
                                     .seen_at = sqlite3_column_int64(st, 2),
                                     .is_ended = sqlite3_column_int(st, 3) != 0};
        dr_copy_text(one->worker, sizeof one->worker, dr_sql_text(st, 0));
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

static void add_op(sqlite3_stmt *st, struct dr_queue_facts *out)
{
    uint64_t n[DR_S_COUNT];
    enum dr_wish wish = (enum dr_wish)sqlite3_column_int(st, 0);
    for (int i = 0; i < DR_S_COUNT; i++) {
        n[i] = (uint64_t)sqlite3_column_int64(st, 1 + i);
    }
    if (wish == DR_WISH_RUN || wish == DR_WISH_ROLLBACK) {
        out->depth +=
            n[DR_S_CREATED] + n[DR_S_LEASED] + n[DR_S_WAITING] + n[DR_S_UNKNOWN] + n[DR_S_UNDOING];
    }
    out->steps_quarantined += n[DR_S_FAILED];
    out->steps_undo_failed += n[DR_S_UNDO_FAILED];
    switch (dr_op_status_of(wish, n)) {
    case DR_O_QUEUED:
    case DR_O_RUNNING:
        out->ops_running++;
        break;
    case DR_O_PAUSING:
    case DR_O_PAUSED:
        out->ops_paused++;
        break;
    case DR_O_BLOCKED:
        out->ops_blocked++;
        break;
    case DR_O_ROLLING_BACK:
        out->ops_rolling_back++;
        break;
    case DR_O_ROLLBACK_BLOCKED:
        out->ops_rollback_blocked++;
        break;
    case DR_O_PLANNED:
    case DR_O_STOPPING:
    case DR_O_STOPPED:
    case DR_O_DONE:
    case DR_O_ROLLED_BACK:
    case DR_O_COUNT:
        break;
    }
}

static enum dr_code read_ops(struct dr_queue *q, struct dr_queue_facts *out, struct dr_err *err)
{
    static const char sql[] = "SELECT wish, " QUEUE_COUNTS " FROM operations WHERE ended_at=0";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "");
    while (rc == DR_OK) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        add_op(st, out);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

enum dr_code dr_queue_numbers(struct dr_queue *q, dr_wall_ms now, dr_wall_ms since,
                              struct dr_queue_facts *out, struct dr_err *err)
{
    static const char failed[] = "SELECT count(DISTINCT op_id) FROM failures WHERE at>?";
    static const char runs[] = "SELECT count(*) FROM rollbacks WHERE started_at>=?";
    static const char blocked[] =
        "SELECT count(*) FROM rollbacks r LEFT JOIN operations o ON o.id=r.op_id WHERE"
        " r.started_at>=? AND (r.first_error<>'' OR (r.ended_at=0 AND (o.id IS NULL OR o.c9>0)))";
    static const char due[] =
        "SELECT count(*) FROM cleanups c JOIN operations o ON o.id=c.op_id WHERE c.is_done=0 AND"
        " o.ended_at>0";
    static const char failing[] =
        "SELECT count(*) FROM cleanups c JOIN operations o ON o.id=c.op_id WHERE c.is_done=0 AND"
        " o.ended_at>0 AND c.tries>=3";
    int64_t n[5] = {0};
    *out = (struct dr_queue_facts){0};
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = read_ops(q, out, err);
    rc = rc == DR_OK ? dr_q_int(&q->r, &n[0], 0, err, failed, "i", now - HOUR_MS) : rc;
    rc = rc == DR_OK ? dr_q_int(&q->r, &n[1], 0, err, runs, "i", since) : rc;
    rc = rc == DR_OK ? dr_q_int(&q->r, &n[2], 0, err, blocked, "i", since) : rc;
    rc = rc == DR_OK ? dr_q_int(&q->r, &n[3], 0, err, due, "") : rc;
    rc = rc == DR_OK ? dr_q_int(&q->r, &n[4], 0, err, failing, "") : rc;
    (void)pthread_mutex_unlock(&q->r_mutex);
    out->failed_last_hour = (uint64_t)n[0];
    out->rollbacks = (uint64_t)n[1];
    out->rollbacks_failed = (uint64_t)n[2];
    out->cleanups_due = (uint64_t)n[3];
    out->cleanups_failing = (uint64_t)n[4];
    return rc;
}
