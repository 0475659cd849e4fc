/* SPDX-License-Identifier: Apache-2.0 */
/* Forgetting what nobody will ask for again: the audit and the rollback history of operations that
 * are gone, and workers that were last seen long ago. */
#include <string.h>

#include "queue/sqlite/queue_private.h"

enum { SLICE_ROWS = 10000 };

struct trace {
    const char *count;  /* rows older than ?1 that nothing of the queue belongs to any more */
    const char *remove; /* the first SLICE_ROWS of them */
};

#define AUDIT_OVER "at<?1 AND op_id NOT IN (SELECT id FROM operations)"
/* The history of an operation that is still there stays with it. */
#define ROLLBACK_OVER "started_at<?1 AND op_id NOT IN (SELECT id FROM operations)"

static const struct trace traces[] = {
    {"SELECT count(*) FROM audit WHERE " AUDIT_OVER,
     "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE " AUDIT_OVER " LIMIT ?2)"},
    {"SELECT count(*) FROM rollbacks WHERE " ROLLBACK_OVER,
     "DELETE FROM rollbacks WHERE id IN (SELECT id FROM rollbacks WHERE " ROLLBACK_OVER
     " LIMIT ?2)"},
    {"SELECT count(*) FROM heartbeats WHERE seen_at<?1",
     "DELETE FROM heartbeats WHERE worker IN (SELECT worker FROM heartbeats WHERE seen_at<?1 LIMIT"
     " ?2)"},
};

struct forget_work {
    dr_wall_ms before;
    const char *remove;
    uint64_t removed;
};

static enum dr_code run_forget(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    struct forget_work *w = job->arg;
    enum dr_code rc = dr_q_run(&q->w, err, w->remove, "ii", w->before, (int64_t)SLICE_ROWS);
    w->removed = rc == DR_OK ? (uint64_t)sqlite3_changes64(q->w.sql.db) : 0;
    return rc;
}

static enum dr_code count_trace(struct dr_queue *q, const struct trace *t, dr_wall_ms before,
                                uint64_t *out, struct dr_err *err)
{
    int64_t count = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, &count, 0, err, t->count, "i", before);
    (void)pthread_mutex_unlock(&q->r_mutex);
    *out = (uint64_t)count;
    return rc;
}

static enum dr_code remove_trace(struct dr_queue *q, const struct trace *t, dr_wall_ms before,
                                 uint64_t *out, struct dr_err *err)
{
    struct forget_work w = {.before = before, .remove = t->remove};
    enum dr_code rc = DR_OK;
    do {
        rc = dr_q_commit(q, run_forget, &w, err);
        *out += w.removed;
    } while (rc == DR_OK && w.removed == SLICE_ROWS);
    return rc;
}

enum dr_code dr_queue_forget_traces(struct dr_queue *q, dr_wall_ms before, bool is_dry_run,
                                    struct dr_queue_traces *out, struct dr_err *err)
{
    uint64_t *const count[] = {&out->audits, &out->rollbacks, &out->heartbeats};
    enum dr_code rc = DR_OK;
    *out = (struct dr_queue_traces){0};
    for (size_t i = 0; rc == DR_OK && i < sizeof traces / sizeof traces[0]; i++) {
        rc = is_dry_run ? count_trace(q, &traces[i], before, count[i], err)
                        : remove_trace(q, &traces[i], before, count[i], err);
    }
    return rc;
}
