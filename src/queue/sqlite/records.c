/* SPDX-License-Identifier: Apache-2.0 */
/* What stands beside the steps: quarantine, cleanup records, archive facts, audit, retention. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "queue/sqlite/queue_private.h"

struct redrive_work {
    int64_t op_id, step_id;
    const char *by;
    uint64_t count;
};

static enum dr_code run_redrive(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    struct redrive_work *w = job->arg;
    char condition[64] = "";
    char what[128];
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_q_read_op(&q->w, w->op_id, op, err);
    enum dr_wish wish = rc == DR_OK ? op->wish : DR_WISH_HOLD;
    dr_free(op);
    if (w->step_id != 0) {
        (void)snprintf(condition, sizeof condition, "AND id=%" PRId64, w->step_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_move_all(q, w->op_id, DR_S_FAILED, DR_ON_REDRIVE, false, condition, err);
        w->count = (uint64_t)sqlite3_changes64(q->w.sql.db);
    }
    if (rc == DR_OK) {
        rc = dr_q_move_all(q, w->op_id, DR_S_UNDO_FAILED, DR_ON_REDRIVE, true, condition, err);
        w->count += (uint64_t)sqlite3_changes64(q->w.sql.db);
    }
    if (rc == DR_OK && w->count > 0) {
        rc = dr_q_recount(q, w->op_id, err);
    }
    if (rc == DR_OK && w->count > 0) {
        /* In a stopped operation they wait, like the others, until it runs again. */
        rc = dr_q_settle(q, w->op_id, wish, err);
    }
    (void)snprintf(what, sizeof what, "quarantine retry: %" PRIu64 " steps", w->count);
    return rc == DR_OK ? dr_q_audit(q, w->op_id, w->by, what, err) : rc;
}

enum dr_code dr_queue_redrive(struct dr_queue *q, int64_t op_id, int64_t step_id, const char *by,
                              uint64_t *count_out, struct dr_err *err)
{
    struct redrive_work w = {.op_id = op_id, .step_id = step_id, .by = by};
    enum dr_code rc = dr_q_commit(q, run_redrive, &w, err);
    *count_out = rc == DR_OK ? w.count : 0;
    return rc;
}

/* --- cleanup records ---------------------------------------------------------------------------
 */

enum dr_code dr_queue_cleanups(struct dr_queue *q, bool only_due, struct dr_cleanup *c,
                               uint32_t max, uint32_t *count_out, struct dr_err *err)
{
    /* An operation has ended exactly when ended_at is set; see dr_q_note_end. */
    static const char sql[] =
        "SELECT c.id, c.op_id, c.step_id, c.node, c.store_url, c.command, c.is_done, c.tries,"
        " c.last_error FROM cleanups c JOIN operations o ON o.id=c.op_id WHERE c.is_done=0 AND"
        " (?1=0 OR o.ended_at>0) ORDER BY c.tries, c.id LIMIT ?2";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "ii", (int64_t)only_due, (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        struct dr_cleanup *r = &c[(*count_out)++];
        r->id = sqlite3_column_int64(st, 0);
        r->op_id = sqlite3_column_int64(st, 1);
        r->step_id = sqlite3_column_int64(st, 2);
        dr_copy_text(r->node, sizeof r->node, dr_sql_text(st, 3));
        dr_copy_text(r->store_url, sizeof r->store_url, dr_sql_text(st, 4));
        dr_copy_text(r->command, sizeof r->command, dr_sql_text(st, 5));
        r->is_done = sqlite3_column_int(st, 6) != 0;
        r->tries = (uint32_t)sqlite3_column_int64(st, 7);
        dr_copy_text(r->last_error, sizeof r->last_error, dr_sql_text(st, 8));
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

struct cleanup_work {
    int64_t id;
    const char *error;
};

static enum dr_code run_cleanup_done(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char sql[] =
        "UPDATE cleanups SET is_done=(?1 IS NULL), tries=tries+1, last_error=ifnull(?1,'')"
        " WHERE id=?2";
    const struct cleanup_work *w = job->arg;
    return dr_q_run(&q->w, err, sql, "si", w->error, w->id);
}

enum dr_code dr_queue_cleanup_done(struct dr_queue *q, int64_t cleanup_id,
                                   const char *error_or_null, struct dr_err *err)
{
    struct cleanup_work w = {.id = cleanup_id, .error = error_or_null};
    return dr_q_commit(q, run_cleanup_done, &w, err);
}

/* --- archive -----------------------------------------------------------------------------------
 */

enum dr_code dr_queue_archive_acked(struct dr_queue *q, int64_t step_id, uint64_t *bytes_out,
                                    struct dr_err *err)
{
    static const char sql[] = "SELECT archive_bytes FROM steps WHERE id=?";
    int64_t bytes = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, &bytes, 0, err, sql, "i", step_id);
    (void)pthread_mutex_unlock(&q->r_mutex);
    *bytes_out = (uint64_t)bytes;
    return rc;
}

struct expire_work {
    int64_t op_id;
    const char *by;
};

static enum dr_code run_expire(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char sql[] = "UPDATE operations SET archive_expired=1 WHERE id=?";
    const struct expire_work *w = job->arg;
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_q_read_op(&q->w, w->op_id, op, err);
    if (rc == DR_OK && !dr_op_status_is_final(op->status)) {
        rc = dr_fail(err, DR_REFUSED,
                     "operation %" PRId64 " is %s: only the archive of an ended one can expire",
                     w->op_id, dr_op_status_name(op->status));
    }
    dr_free(op);
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, sql, "i", w->op_id);
    }
    return rc == DR_OK ? dr_q_audit(q, w->op_id, w->by, "archive expired", err) : rc;
}

enum dr_code dr_queue_archive_expire(struct dr_queue *q, int64_t op_id, const char *by,
                                     struct dr_err *err)
{
    struct expire_work w = {.op_id = op_id, .by = by};
    return dr_q_commit(q, run_expire, &w, err);
}

/* --- audit -------------------------------------------------------------------------------------
 */

struct audit_work {
    int64_t op_id;
    const char *by;
    const char *what;
};

static enum dr_code run_audit(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    const struct audit_work *w = job->arg;
    return dr_q_audit(q, w->op_id, w->by, w->what, err);
}

enum dr_code dr_queue_audit(struct dr_queue *q, int64_t op_id, const char *by, const char *what,
                            struct dr_err *err)
{
    struct audit_work w = {.op_id = op_id, .by = by, .what = what};
    return dr_q_commit(q, run_audit, &w, err);
}

enum dr_code dr_queue_audits(struct dr_queue *q, int64_t op_id, int64_t after, struct dr_audit *a,
                             uint32_t max, uint32_t *count_out, struct dr_err *err)
{
    static const char sql[] = "SELECT id, op_id, at, by, what FROM audit WHERE id>?1 AND"
                              " (?2=0 OR op_id=?2) ORDER BY id LIMIT ?3";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "iii", after, op_id, (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        struct dr_audit *r = &a[(*count_out)++];
        r->id = sqlite3_column_int64(st, 0);
        r->op_id = sqlite3_column_int64(st, 1);
        r->at = sqlite3_column_int64(st, 2);
        dr_copy_text(r->by, sizeof r->by, dr_sql_text(st, 3));
        dr_copy_text(r->what, sizeof r->what, dr_sql_text(st, 4));
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

/* --- retention ---------------------------------------------------------------------------------
 */

/* Ended, old, nothing left to clean up, and no archive that could still bring data back. */
#define RETAIN_DUE                                                                                 \
    "ended_at>0 AND ended_at<?1 AND (archive_days=0 OR archive_expired=1 OR items_done=0)"         \
    " AND NOT EXISTS(SELECT 1 FROM cleanups c WHERE c.op_id=operations.id AND c.is_done=0)"

struct retain_work {
    dr_wall_ms before;
    int64_t only_op;     /* 0: all that are due */
    uint64_t ops, steps; /* removed by this slice */
    bool is_end;
};

/* An operation goes in one transaction, all but its steps, whose range is noted. So nobody can run
 * or roll back half an operation, and a crash in the middle only leaves a note to go on with. */
static enum dr_code forget_operation(struct dr_queue *q, struct retain_work *w, int64_t op_id,
                                     struct dr_err *err)
{
    static const char note[] = "INSERT INTO removals SELECT id, first_step, first_step + steps FROM"
                               " operations WHERE id=?";
    static const char *const rest[] = {
        "DELETE FROM stages WHERE op_id=?",   "DELETE FROM lanes WHERE op_id=?",
        "DELETE FROM cleanups WHERE op_id=?", "DELETE FROM texts WHERE op_id=?",
        "DELETE FROM operations WHERE id=?",
    };
    enum dr_code rc = dr_q_run(&q->w, err, note, "i", op_id);
    for (size_t i = 0; rc == DR_OK && i < sizeof rest / sizeof rest[0]; i++) {
        rc = dr_q_run(&q->w, err, rest[i], "i", op_id);
    }
    w->ops = 1;
    return rc == DR_OK ? dr_q_audit(q, op_id, "retention", "removed from the queue", err) : rc;
}

/* One slice of what is noted; *has_out false when nothing is. */
static enum dr_code forget_steps(struct dr_queue *q, struct retain_work *w, bool *has_out,
                                 struct dr_err *err)
{
    static const char find[] = "SELECT op_id FROM removals LIMIT 1";
    static const char first_of[] = "SELECT first_id FROM removals WHERE op_id=?";
    static const char steps[] = "DELETE FROM steps WHERE id>=?1 AND id<?1+10000 AND id<(SELECT"
                                " upto_id FROM removals WHERE op_id=?2)";
    static const char next[] = "UPDATE removals SET first_id=first_id+10000 WHERE op_id=?";
    static const char done[] = "DELETE FROM removals WHERE op_id=? AND first_id>=upto_id";
    int64_t op_id = 0;
    int64_t first = 0;
    enum dr_code rc = dr_q_int(&q->w, &op_id, 0, err, find, "");
    *has_out = op_id != 0;
    if (rc != DR_OK || op_id == 0) {
        return rc;
    }
    rc = dr_q_int(&q->w, &first, 0, err, first_of, "i", op_id);
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, steps, "ii", first, op_id);
        w->steps = (uint64_t)sqlite3_changes64(q->w.sql.db);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, next, "i", op_id);
    }
    return rc == DR_OK ? dr_q_run(&q->w, err, done, "i", op_id) : rc;
}

static enum dr_code run_retain(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char find[] =
        "SELECT id FROM operations WHERE " RETAIN_DUE " AND (?2=0 OR id=?2) ORDER BY id LIMIT 1";
    struct retain_work *w = job->arg;
    int64_t op_id = 0;
    bool has_noted = false;
    w->ops = 0;
    w->steps = 0;
    enum dr_code rc = forget_steps(q, w, &has_noted, err);
    if (rc != DR_OK || has_noted) {
        return rc;
    }
    rc = dr_q_int(&q->w, &op_id, 0, err, find, "ii", w->before, w->only_op);
    w->is_end = op_id == 0;
    return rc == DR_OK && op_id != 0 ? forget_operation(q, w, op_id, err) : rc;
}

enum dr_code dr_queue_retain(struct dr_queue *q, dr_wall_ms before, bool is_dry_run,
                             uint64_t *ops_out, uint64_t *steps_out, struct dr_err *err)
{
    static const char count_ops[] = "SELECT count(*) FROM operations WHERE " RETAIN_DUE;
    static const char count_steps[] = "SELECT sum(steps) FROM operations WHERE " RETAIN_DUE;
    struct retain_work w = {.before = before};
    enum dr_code rc = DR_OK;
    *ops_out = 0;
    *steps_out = 0;
    if (is_dry_run) {
        int64_t ops = 0;
        int64_t steps = 0;
        (void)pthread_mutex_lock(&q->r_mutex);
        rc = dr_q_int(&q->r, &ops, 0, err, count_ops, "i", before);
        if (rc == DR_OK) {
            rc = dr_q_int(&q->r, &steps, 0, err, count_steps, "i", before);
        }
        (void)pthread_mutex_unlock(&q->r_mutex);
        *ops_out = (uint64_t)ops;
        *steps_out = (uint64_t)steps;
        return rc;
    }
    while (rc == DR_OK && !w.is_end) {
        rc = dr_q_commit(q, run_retain, &w, err);
        *ops_out += rc == DR_OK ? w.ops : 0;
        *steps_out += rc == DR_OK ? w.steps : 0;
    }
    return rc;
}

enum dr_code dr_queue_forget_op(struct dr_queue *q, int64_t op_id, bool is_dry_run, bool *would_out,
                                struct dr_err *err)
{
    static const char due[] = "SELECT count(*) FROM operations WHERE " RETAIN_DUE " AND id=?2";
    struct retain_work w = {.before = INT64_MAX, .only_op = op_id};
    int64_t count = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, &count, 0, err, due, "ii", w.before, op_id);
    (void)pthread_mutex_unlock(&q->r_mutex);
    *would_out = rc == DR_OK && count > 0;
    while (rc == DR_OK && *would_out && !is_dry_run && !w.is_end) {
        rc = dr_q_commit(q, run_retain, &w, err);
    }
    return rc;
}
