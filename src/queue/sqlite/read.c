/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: operations, steps, texts, versions. On a connection of its own, so that it never waits
 * for the committer (WAL). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "queue/sqlite/queue_private.h"

#define OP_COLUMNS                                                                                 \
    "id, operation_group, kind, target, store_url, wish, wish_by, wish_reason, priority,"          \
    " irreversible, created_at, started_at, ended_at, progress_at, archive_until,"                 \
    " archive_expired, plan_hash, steps, items_estimated, items_done, items_undone,"               \
    " items_conflict, waiting, tuning_version, archive_days, (SELECT min(stage) FROM stages WHERE" \
    " op_id=operations.id AND open>0), " QUEUE_COUNTS                                              \
    ", atomic, rollback_to, no_return_from>0 AND EXISTS(SELECT 1 FROM steps WHERE"                 \
    " id>=no_return_from AND id<first_step+operations.steps AND rollback_query IS NULL AND"        \
    " (status NOT IN (0,6) OR touched))"

enum { COUNTS_AT = 26, ATOMIC_AT = COUNTS_AT + DR_S_COUNT };

static uint64_t get_u64(sqlite3_stmt *st, int column)
{
    return (uint64_t)sqlite3_column_int64(st, column);
}

static void fill_op(sqlite3_stmt *st, struct dr_op *op)
{
    *op = (struct dr_op){.id = sqlite3_column_int64(st, 0)};
    dr_copy_text(op->group, sizeof op->group, dr_sql_text(st, 1));
    dr_copy_text(op->kind, sizeof op->kind, dr_sql_text(st, 2));
    dr_copy_text(op->target, sizeof op->target, dr_sql_text(st, 3));
    dr_copy_text(op->store_url, sizeof op->store_url, dr_sql_text(st, 4));
    op->wish = (enum dr_wish)sqlite3_column_int(st, 5);
    dr_copy_text(op->wish_by, sizeof op->wish_by, dr_sql_text(st, 6));
    dr_copy_text(op->wish_reason, sizeof op->wish_reason, dr_sql_text(st, 7));
    op->priority = sqlite3_column_int(st, 8);
    op->is_irreversible = sqlite3_column_int(st, 9) != 0;
    op->created_at = sqlite3_column_int64(st, 10);
    op->started_at = sqlite3_column_int64(st, 11);
    op->ended_at = sqlite3_column_int64(st, 12);
    op->progress_at = sqlite3_column_int64(st, 13);
    op->archive_until = sqlite3_column_int64(st, 24) > 0 ? sqlite3_column_int64(st, 14) : 0;
    op->is_archive_expired = sqlite3_column_int(st, 15) != 0;
    op->plan_hash = get_u64(st, 16);
    op->steps = get_u64(st, 17);
    op->items_estimated = get_u64(st, 18);
    op->items_done = get_u64(st, 19);
    op->items_undone = get_u64(st, 20);
    op->items_conflict = get_u64(st, 21);
    dr_copy_text(op->waiting, sizeof op->waiting, dr_sql_text(st, 22));
    op->tuning_version = get_u64(st, 23);
    op->stage = (uint32_t)sqlite3_column_int64(st, 25);
    for (int i = 0; i < DR_S_COUNT; i++) {
        op->count[i] = get_u64(st, COUNTS_AT + i);
    }
    op->is_atomic = sqlite3_column_int(st, ATOMIC_AT) != 0;
    op->rollback_to = sqlite3_column_int64(st, ATOMIC_AT + 1);
    op->is_past_no_return = sqlite3_column_int(st, ATOMIC_AT + 2) != 0;
    op->status = dr_op_status_of(op->wish, op->count);
}

enum dr_code dr_q_can_move(struct queue_conn *c, int64_t op_id, bool *can_out, struct dr_err *err)
{
    static const char sql[] =
        "SELECT CASE wish WHEN 1 THEN ended_at=0 AND (c1+c2+c3>0 OR EXISTS(SELECT 1 FROM steps"
        " WHERE op_id=o.id AND status=0 AND ready=1 AND stage=(SELECT min(stage) FROM stages WHERE"
        " op_id=o.id AND open>0))) WHEN 4 THEN ended_at=0 AND (c1+c2+c3>0 OR EXISTS(SELECT 1 FROM"
        " steps s WHERE op_id=o.id AND status=7 AND stage=(SELECT max(stage) FROM stages WHERE"
        " op_id=o.id AND undo_open>0) AND (rollback_wait_for_id=0 OR NOT EXISTS(SELECT 1 FROM"
        " steps b WHERE b.id=s.rollback_wait_for_id AND b.status IN (7,9))))) ELSE c1>0 END"
        " FROM operations o WHERE id=?";
    int64_t can = 0;
    enum dr_code rc = dr_q_int(c, &can, 0, err, sql, "i", op_id);
    *can_out = can != 0;
    return rc;
}

/* From counts alone a blocked operation cannot be told from one between two leases. */
static enum dr_code refine_status(struct queue_conn *c, struct dr_op *op, struct dr_err *err)
{
    bool can_move = false;
    if (op->status != DR_O_BLOCKED && op->status != DR_O_ROLLBACK_BLOCKED) {
        return DR_OK;
    }
    enum dr_code rc = dr_q_can_move(c, op->id, &can_move, err);
    if (rc == DR_OK && can_move) {
        op->status = op->status == DR_O_BLOCKED ? DR_O_RUNNING : DR_O_ROLLING_BACK;
    }
    return rc;
}

enum dr_code dr_q_read_op(struct queue_conn *c, int64_t op_id, struct dr_op *out,
                          struct dr_err *err)
{
    static const char sql[] = "SELECT " OP_COLUMNS " FROM operations WHERE id=?";
    sqlite3_stmt *st = NULL;
    bool has_row = false;
    enum dr_code rc = dr_q_bind(c, &st, err, sql, "i", op_id);
    if (rc == DR_OK) {
        rc = dr_sql_step(&c->sql, st, &has_row, err);
    }
    if (rc == DR_OK && has_row) {
        fill_op(st, out);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    if (rc == DR_OK && !has_row) {
        return dr_fail(err, DR_NOT_FOUND,
                       "there is no operation %" PRId64 "; drover status lists them", op_id);
    }
    return rc == DR_OK ? refine_status(c, out, err) : rc;
}

enum dr_code dr_queue_op(struct dr_queue *q, int64_t op_id, struct dr_op *out, struct dr_err *err)
{
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_read_op(&q->r, op_id, out, err);
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

enum dr_code dr_queue_ops(struct dr_queue *q, int64_t before, struct dr_op *op, uint32_t max,
                          uint32_t *count_out, struct dr_err *err)
{
    static const char sql[] =
        "SELECT " OP_COLUMNS " FROM operations WHERE id<? ORDER BY id DESC LIMIT ?";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc =
        dr_q_bind(&q->r, &st, err, sql, "ii", before > 0 ? before : INT64_MAX, (int64_t)max);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        fill_op(st, &op[(*count_out)++]);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    for (uint32_t i = 0; rc == DR_OK && i < *count_out; i++) {
        rc = refine_status(&q->r, &op[i], err);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

enum dr_code dr_queue_find_key(struct dr_queue *q, const char *key, int64_t *op_id_out,
                               struct dr_err *err)
{
    static const char sql[] = "SELECT id FROM operations WHERE idempotency_key=?";
    *op_id_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, op_id_out, 0, err, sql, "s", key);
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

/* Forward a step waits for wait_for_id and lower stages, in undo for rollback_wait_for_id and
 * higher ones. */
static void explain_wait(sqlite3_stmt *st, struct dr_step *s)
{
    bool is_undo = s->status == DR_S_UNDOING;
    int64_t stage = is_undo ? sqlite3_column_int64(st, 24) : sqlite3_column_int64(st, 20);
    int64_t stuck = is_undo ? sqlite3_column_int64(st, 25) : sqlite3_column_int64(st, 22);
    int column = is_undo ? 23 : 21;
    enum dr_step_status other = (enum dr_step_status)sqlite3_column_int(st, column);
    bool is_over =
        is_undo ? other == DR_S_UNDONE || other == DR_S_CANCELLED : other == DR_S_PROCESSED;
    if (sqlite3_column_type(st, column) != SQLITE_NULL && !is_over) {
        bool is_stuck = other == DR_S_FAILED || other == DR_S_UNDO_FAILED;
        (void)snprintf(s->waits_because, sizeof s->waits_because,
                       "waits for step %" PRId64 ", which is %s",
                       is_undo ? s->rollback_wait_for_id : s->wait_for_id,
                       is_stuck ? "quarantined" : dr_step_status_name(other));
    } else if (is_undo ? stage > (int64_t)s->stage : stage < (int64_t)s->stage) {
        (void)snprintf(s->waits_because, sizeof s->waits_because, "waits for stage %" PRId64 "%s",
                       stage, stuck > 0 ? ", in which steps are quarantined" : "");
    }
}

static void fill_step(sqlite3_stmt *st, struct dr_step *s)
{
    *s = (struct dr_step){.id = sqlite3_column_int64(st, 0), .op_id = sqlite3_column_int64(st, 1)};
    s->kind = (enum dr_step_kind)sqlite3_column_int(st, 2);
    s->status = (enum dr_step_status)sqlite3_column_int(st, 3);
    s->stage = (uint32_t)sqlite3_column_int64(st, 4);
    s->priority = sqlite3_column_int(st, 5);
    s->wait_for_id = sqlite3_column_int64(st, 6);
    s->rollback_wait_for_id = sqlite3_column_int64(st, 7);
    s->tries = (uint32_t)sqlite3_column_int64(st, 8);
    s->estimated = get_u64(st, 9);
    s->done = get_u64(st, 10);
    s->undone = get_u64(st, 11);
    s->created_at = sqlite3_column_int64(st, 12);
    s->updated_at = sqlite3_column_int64(st, 13);
    s->next_attempt_at = sqlite3_column_int64(st, 14);
    s->duration_ms = get_u64(st, 15);
    dr_copy_text(s->node, sizeof s->node, dr_sql_text(st, 16));
    dr_copy_text(s->title, sizeof s->title, dr_sql_text(st, 17));
    dr_copy_text(s->lease_owner, sizeof s->lease_owner, dr_sql_text(st, 18));
    dr_copy_text(s->last_error, sizeof s->last_error, dr_sql_text(st, 19));
    if (s->status == DR_S_CREATED || s->status == DR_S_UNDOING) {
        explain_wait(st, s);
    }
}

enum dr_code dr_queue_steps(struct dr_queue *q, int64_t op_id, enum dr_step_status status,
                            int64_t after, struct dr_step *step, uint32_t max, uint32_t *count_out,
                            struct dr_err *err)
{
#define STEPS                                                                                      \
    "SELECT id, op_id, kind, status, stage, priority, wait_for_id, rollback_wait_for_id, tries,"   \
    " estimated, done, undone, created_at, updated_at, next_attempt_at, duration_ms, node, title," \
    " lease_owner, last_error, (SELECT min(stage) FROM stages WHERE op_id=s.op_id AND open>0),"    \
    " (SELECT status FROM steps w WHERE w.id=s.wait_for_id), (SELECT c4 FROM operations WHERE"     \
    " id=s.op_id), (SELECT status FROM steps w WHERE w.id=s.rollback_wait_for_id), (SELECT"        \
    " max(stage) FROM stages WHERE op_id=s.op_id AND (undo_open>0 OR open>0)), (SELECT c9 FROM"    \
    " operations WHERE id=s.op_id) FROM steps s WHERE "
/* One lower bound, the greater of the two: with two SQLite seeks to the operation's first step and
 * reads on from there, page after page. */
#define FROM_STEP                                                                                  \
    "id > max(?2, (SELECT first_step - 1 FROM operations WHERE id=?1)) AND"                        \
    " id < (SELECT first_step + steps FROM operations WHERE id=?1)"
    /* The repeated sets let SQLite use the partial indexes: few steps are held or stuck. */
    static const char all[] = STEPS FROM_STEP " ORDER BY id LIMIT ?3";
    static const char one[] = STEPS FROM_STEP " AND status=?4 ORDER BY id LIMIT ?3";
    static const char held[] =
        STEPS "op_id=?1 AND id>?2 AND status IN (1,2,3) AND status=?4 ORDER BY id LIMIT ?3";
    static const char stuck[] =
        STEPS "op_id=?1 AND id>?2 AND status IN (4,9) AND status=?4 ORDER BY id LIMIT ?3";
#undef STEPS
#undef FROM_STEP
    bool is_held = status == DR_S_LEASED || status == DR_S_WAITING || status == DR_S_UNKNOWN;
    bool is_stuck = status == DR_S_FAILED || status == DR_S_UNDO_FAILED;
    const char *sql = status == DR_S_COUNT ? all : is_held ? held : is_stuck ? stuck : one;
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, status == DR_S_COUNT ? "iii" : "iiii", op_id,
                                after, (int64_t)max, (int64_t)status);
    while (rc == DR_OK && *count_out < max) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        fill_step(st, &step[(*count_out)++]);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

enum dr_code dr_queue_texts(struct dr_queue *q, int64_t op_id, char **request_json_out,
                            char **summary_json_out, char **tuning_json_out, struct dr_err *err)
{
    static const char sql[] =
        "SELECT request_json, summary_json, tuning_json FROM texts WHERE op_id=?";
    char **out[3] = {request_json_out, summary_json_out, tuning_json_out};
    sqlite3_stmt *st = NULL;
    bool has_row = false;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_bind(&q->r, &st, err, sql, "i", op_id);
    if (rc == DR_OK) {
        rc = dr_sql_step(&q->r.sql, st, &has_row, err);
    }
    if (rc == DR_OK && !has_row) {
        rc = dr_fail(err, DR_NOT_FOUND, "there is no operation %" PRId64, op_id);
    }
    for (int i = 0; i < 3; i++) {
        if (out[i] != NULL) {
            *out[i] = NULL;
        }
        if (rc == DR_OK && out[i] != NULL && sqlite3_column_type(st, i) != SQLITE_NULL) {
            *out[i] = dr_strdup(dr_sql_text(st, i));
            rc = *out[i] == NULL ? dr_fail_nomem(err) : DR_OK;
        }
    }
    for (int i = 0; rc != DR_OK && i < 3; i++) {
        if (out[i] != NULL) {
            dr_free(*out[i]);
            *out[i] = NULL;
        }
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

enum dr_code dr_queue_version(struct dr_queue *q, uint64_t *version_out, struct dr_err *err)
{
    static const char sql[] = "PRAGMA data_version";
    int64_t version = 0;
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_int(&q->r, &version, 0, err, sql, "");
    (void)pthread_mutex_unlock(&q->r_mutex);
    *version_out = (uint64_t)version;
    return rc;
}

enum dr_code dr_queue_can_move(struct dr_queue *q, int64_t op_id, bool *can_out, struct dr_err *err)
{
    (void)pthread_mutex_lock(&q->r_mutex);
    enum dr_code rc = dr_q_can_move(&q->r, op_id, can_out, err);
    (void)pthread_mutex_unlock(&q->r_mutex);
    return rc;
}

enum dr_code dr_queue_is_idle(struct dr_queue *q, bool *idle_out, struct dr_err *err)
{
    static const char sql[] = "SELECT id FROM operations WHERE ended_at=0 AND id>? AND wish<>0"
                              " ORDER BY id LIMIT 1";
    int64_t id = 0;
    bool can_move = false;
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&q->r_mutex);
    while (rc == DR_OK && !can_move) {
        rc = dr_q_int(&q->r, &id, 0, err, sql, "i", id);
        if (rc != DR_OK || id == 0) {
            break;
        }
        rc = dr_q_can_move(&q->r, id, &can_move, err);
    }
    (void)pthread_mutex_unlock(&q->r_mutex);
    *idle_out = !can_move;
    return rc;
}
