/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing what runs next and handing it out. Nothing here scans the steps: operations that are
 * not over come from one index, a lane's next step from another. */
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

enum { ACTIVE_MAX = 64, LANES_MAX = 256 };

struct active_op {
    int64_t id;
    bool is_undo;
    int32_t priority;
    int64_t per_node;
    int64_t give_up_s;
    int64_t room; /* steps of it that may start beside those that run */
    int64_t stage;
    char store_url[DR_URL_BYTES];
};

struct lease_work {
    const struct dr_lease_rules *rules;
    struct dr_lease *lease;
    uint32_t max;
    uint32_t count;
    dr_wall_ms now;
};

void dr_lease_fini(struct dr_lease *l)
{
    dr_free(l->mark.cursor);
    dr_free(l->node);
    dr_free(l->query);
    dr_free(l->rollback_query);
    dr_free(l->cleanup);
    dr_free(l->store_url);
    *l = (struct dr_lease){0};
}

static char *copy_text(sqlite3_stmt *st, int column, bool *is_short)
{
    if (sqlite3_column_type(st, column) == SQLITE_NULL) {
        return NULL;
    }
    char *copy = dr_strdup(dr_sql_text(st, column));
    *is_short = *is_short || copy == NULL;
    return copy;
}

/* Fill a lease from a row of `load` below. */
static enum dr_code fill_lease(sqlite3_stmt *st, const struct active_op *op, struct dr_lease *l,
                               struct dr_err *err)
{
    bool is_short = false;
    struct dr_progress_mark *m = &l->mark;
    *l = (struct dr_lease){
        .op_id = op->id, .priority = op->priority, .give_up_s = (uint32_t)op->give_up_s};
    l->step_id = sqlite3_column_int64(st, 0);
    l->kind = (enum dr_step_kind)sqlite3_column_int(st, 1);
    l->is_undo = sqlite3_column_int(st, 2) != 0;
    l->needs_probe = sqlite3_column_int(st, 3) != 0;
    l->tries = (uint32_t)sqlite3_column_int64(st, 4);
    l->estimated = (uint64_t)sqlite3_column_int64(st, 5);
    l->token = (uint64_t)sqlite3_column_int64(st, 6) + 1;
    m->done = (uint64_t)sqlite3_column_int64(st, 7);
    m->undone = (uint64_t)sqlite3_column_int64(st, 8);
    m->conflicts = (uint64_t)sqlite3_column_int64(st, 9);
    m->archive_bytes = (uint64_t)sqlite3_column_int64(st, 10);
    m->archive_frames = (uint64_t)sqlite3_column_int64(st, 11);
    m->undo_position = (uint64_t)sqlite3_column_int64(st, 12);
    m->pass = (uint32_t)sqlite3_column_int64(st, 13);
    m->cursor_len = (size_t)sqlite3_column_bytes(st, 14);
    if (m->cursor_len > 0) {
        m->cursor = dr_memdup(sqlite3_column_blob(st, 14), m->cursor_len);
        is_short = m->cursor == NULL;
    }
    l->node = copy_text(st, 15, &is_short);
    l->query = copy_text(st, 16, &is_short);
    l->rollback_query = copy_text(st, 17, &is_short);
    l->cleanup = copy_text(st, 18, &is_short);
    l->store_url = dr_strdup(op->store_url);
    return is_short || l->store_url == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code load_step(struct dr_queue *q, const struct active_op *op, int64_t step_id,
                              struct dr_lease *l, enum dr_step_status *from, uint32_t *stage,
                              struct dr_err *err)
{
    static const char load[] =
        "SELECT id, kind, is_undo, needs_probe, tries, estimated, lease_token, done, undone,"
        " conflicts, archive_bytes, archive_frames, undo_position, pass, cursor, node, query,"
        " rollback_query, cleanup, status, stage, deaths, failing_since FROM steps WHERE id=?";
    sqlite3_stmt *st = NULL;
    bool has_row = false;
    enum dr_code rc = dr_q_bind(&q->w, &st, err, load, "i", step_id);
    if (rc == DR_OK) {
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
    }
    if (rc == DR_OK && !has_row) {
        rc = dr_fail(err, DR_INTERNAL, "step %" PRId64 " has gone", step_id);
    }
    if (rc == DR_OK) {
        *from = (enum dr_step_status)sqlite3_column_int(st, 19);
        *stage = (uint32_t)sqlite3_column_int64(st, 20);
        rc = fill_lease(st, op, l, err);
        l->deaths = (uint32_t)sqlite3_column_int64(st, 21);
        l->failing_since = sqlite3_column_int64(st, 22);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

/* The removal of what the step is about to make goes on record before it runs; again when a
 * stopped operation was cleaned up and now makes it a second time. */
static enum dr_code record_cleanup(struct dr_queue *q, const struct dr_lease *l, struct dr_err *err)
{
    static const char add[] =
        "INSERT INTO cleanups(op_id, step_id, node, store_url, command) VALUES(?,?,?,?,?)"
        " ON CONFLICT(step_id) DO UPDATE SET is_done=0, tries=0, last_error='' WHERE is_done=1";
    if (l->cleanup == NULL || l->is_undo) {
        return DR_OK;
    }
    return dr_q_run(&q->w, err, add, "iisss", l->op_id, l->step_id, l->node, l->store_url,
                    l->cleanup);
}

static enum dr_code take_step(struct dr_queue *q, struct lease_work *w, const struct active_op *op,
                              int64_t step_id, struct dr_err *err)
{
    static const char take[] =
        "UPDATE steps SET status=1, lease_token=?, lease_owner=?, lease_until=?, touched=1,"
        " next_attempt_at=?, updated_at=? WHERE id=?";
    static const char start[] = "UPDATE operations SET started_at=? WHERE id=? AND started_at=0";
    struct dr_lease *l = &w->lease[w->count];
    enum dr_step_status from = DR_S_CREATED;
    enum dr_step_status to = DR_S_LEASED;
    uint32_t stage = 0;
    int64_t until = w->now + w->rules->lease_ms;
    *l = (struct dr_lease){0}; /* the caller's may hold anything, and fini frees on failure */
    enum dr_code rc = load_step(q, op, step_id, l, &from, &stage, err);
    if (rc == DR_OK && !dr_step_move(from, DR_ON_LEASE, l->is_undo, &to)) {
        rc = dr_fail(err, DR_INTERNAL, "step %" PRId64 " is %s and cannot be leased", step_id,
                     dr_step_status_name(from));
    }
    if (rc == DR_OK) {
        /* next_attempt_at carries the lease's end, so that the sweep's index finds it. */
        rc = dr_q_run(&q->w, err, take, "isiiii", (int64_t)l->token, w->rules->worker, until, until,
                      w->now, step_id);
    }
    if (rc == DR_OK) {
        rc = dr_q_count_move(q, op->id, stage, from, l->is_undo, to, l->is_undo, err);
    }
    if (rc == DR_OK) {
        rc = record_cleanup(q, l, err);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, start, "ii", w->now, op->id);
    }
    if (rc != DR_OK) {
        dr_lease_fini(l);
        return rc;
    }
    w->count++;
    return DR_OK;
}

/* The next step of a lane, 0 when there is none: first one whose outcome is unknown, then by
 * priority and age; for undo the newest first, except those whose own undo must come later. */
static enum dr_code next_of_lane(struct dr_queue *q, const struct lease_work *w,
                                 const struct active_op *op, const char *node, int64_t *step_out,
                                 struct dr_err *err)
{
    static const char unknown[] =
        "SELECT id FROM steps WHERE status IN (1,2,3) AND status=3 AND next_attempt_at<=? AND"
        " op_id=? AND node=? AND"
        " is_undo=? AND stage=? LIMIT 1";
    static const char forward[] =
        "SELECT id FROM steps WHERE op_id=? AND stage=? AND node=? AND status=0 AND ready=1"
        " ORDER BY priority DESC, id LIMIT 1";
    static const char undo[] =
        "SELECT id FROM steps s WHERE op_id=? AND stage=? AND node=? AND status=7 AND"
        " (rollback_wait_for_id=0 OR NOT EXISTS(SELECT 1 FROM steps b WHERE"
        " b.id=s.rollback_wait_for_id AND b.status NOT IN (6,8))) ORDER BY id DESC LIMIT 1";
    enum dr_code rc = dr_q_int(&q->w, step_out, 0, err, unknown, "iisii", w->now, op->id, node,
                               (int64_t)op->is_undo, op->stage);
    if (rc == DR_OK && *step_out == 0) {
        rc = op->is_undo
                 ? dr_q_int(&q->w, step_out, 0, err, undo, "iis", op->id, op->stage, node)
                 : dr_q_int(&q->w, step_out, 0, err, forward, "iis", op->id, op->stage, node);
    }
    return rc;
}

static enum dr_code lease_from_lane(struct dr_queue *q, struct lease_work *w, struct active_op *op,
                                    const char *node, struct dr_err *err)
{
    static const char running[] =
        "SELECT count(*) FROM steps s JOIN operations o ON o.id=s.op_id WHERE s.status IN (1,2,3)"
        " AND s.status=1 AND"
        " s.node=? AND o.store_url=?";
    int64_t held = 0;
    int64_t limit = op->per_node > 0 ? op->per_node : (int64_t)w->rules->per_node_default;
    const struct dr_lease_rules *r = w->rules;
    if (r->may_start != NULL && !r->may_start(r->may_start_arg, op->id, op->store_url, node)) {
        return DR_OK;
    }
    enum dr_code rc = dr_q_int(&q->w, &held, 0, err, running, "ss", node, op->store_url);
    while (rc == DR_OK && held < limit && op->room > 0 && w->count < w->max) {
        int64_t step_id = 0;
        rc = next_of_lane(q, w, op, node, &step_id, err);
        if (rc != DR_OK || step_id == 0) {
            break;
        }
        rc = take_step(q, w, op, step_id, err);
        held += w->max > 1 ? 0 : 1;
        op->room--;
    }
    return rc;
}

static enum dr_code lease_from_op(struct dr_queue *q, struct lease_work *w, struct active_op *op,
                                  struct dr_err *err)
{
    static const char low[] = "SELECT min(stage) FROM stages WHERE op_id=? AND open>0";
    /* A step that still runs forward keeps lower stages from being undone under its feet. */
    static const char high[] =
        "SELECT max(stage) FROM stages WHERE op_id=? AND (undo_open>0 OR open>0)";
    static const char lanes[] = "SELECT node FROM lanes WHERE op_id=? ORDER BY node";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    enum dr_code rc = op->is_undo ? dr_q_int(&q->w, &op->stage, -1, err, high, "i", op->id)
                                  : dr_q_int(&q->w, &op->stage, -1, err, low, "i", op->id);
    if (rc != DR_OK || op->stage < 0) {
        return rc;
    }
    rc = dr_q_bind(&q->w, &st, err, lanes, "i", op->id);
    while (rc == DR_OK && op->room > 0 && w->count < w->max) {
        char node[DR_NAME_BYTES];
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        dr_copy_text(node, sizeof node, dr_sql_text(st, 0));
        rc = lease_from_lane(q, w, op, node, err);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

static enum dr_code find_active(struct dr_queue *q, unsigned skip, struct active_op *op,
                                unsigned *count_out, struct dr_err *err)
{
    static const char active[] =
        "SELECT id, wish, priority, per_node, store_url, lanes, c1, give_up_s FROM operations "
        "WHERE "
        "ended_at=0 AND"
        " ((wish=1 AND c0+c3>0) OR (wish=4 AND c7+c3>0)) ORDER BY priority DESC, id LIMIT 64"
        " OFFSET ?";
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    enum dr_code rc = dr_q_bind(&q->w, &st, err, active, "i", (int64_t)skip);
    while (rc == DR_OK && *count_out < ACTIVE_MAX) {
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
        if (rc != DR_OK || !has_row) {
            break;
        }
        struct active_op *o = &op[(*count_out)++];
        o->id = sqlite3_column_int64(st, 0);
        o->is_undo = sqlite3_column_int(st, 1) == DR_WISH_ROLLBACK;
        o->priority = sqlite3_column_int(st, 2);
        o->per_node = sqlite3_column_int64(st, 3);
        dr_copy_text(o->store_url, sizeof o->store_url, dr_sql_text(st, 4));
        int64_t lanes = sqlite3_column_int64(st, 5);
        o->give_up_s = sqlite3_column_int64(st, 7);
        o->room = lanes > 0 ? lanes - sqlite3_column_int64(st, 6) : INT64_MAX;
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

static enum dr_code run_lease(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    struct lease_work *w = job->arg;
    struct active_op *op = dr_malloc(ACTIVE_MAX * sizeof *op);
    unsigned count = ACTIVE_MAX;
    w->now = dr_wall_now();
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : DR_OK;
    /* Page by page: many operations that are blocked must not hide one that can go. */
    for (unsigned skip = 0; rc == DR_OK && count == ACTIVE_MAX && w->count < w->max;
         skip += ACTIVE_MAX) {
        rc = find_active(q, skip, op, &count, err);
        for (unsigned i = 0; rc == DR_OK && i < count && w->count < w->max; i++) {
            rc = lease_from_op(q, w, &op[i], err);
        }
    }
    dr_free(op);
    return rc;
}

enum dr_code dr_queue_lease(struct dr_queue *q, const struct dr_lease_rules *rules,
                            struct dr_lease *lease, uint32_t max, uint32_t *count_out,
                            struct dr_err *err)
{
    struct lease_work w = {.rules = rules, .lease = lease, .max = max};
    *count_out = 0;
    dr_mono_ms begin = dr_mono_now(); /* before the commit: never longer than the stored lease */
    enum dr_code rc = dr_q_commit(q, run_lease, &w, err);
    if (rc != DR_OK) {
        for (uint32_t i = 0; i < w.count; i++) {
            dr_lease_fini(&lease[i]);
        }
        return rc;
    }
    for (uint32_t i = 0; i < w.count; i++) {
        lease[i].until = begin + rules->lease_ms;
    }
    *count_out = w.count;
    if (w.count > 0) {
        dr_fault_mark("queue.lease.leased");
    }
    return DR_OK;
}
