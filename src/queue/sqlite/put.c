/* SPDX-License-Identifier: Apache-2.0 */
/* Putting an operation with all its steps: one transaction, one step in memory at a time. */
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

struct put_work {
    const struct dr_put *put;
    enum dr_code (*next)(void *arg, struct dr_plan_step *step, bool *has_out, struct dr_err *err);
    void *arg;
    int64_t op_id;
    int64_t base; /* step number n gets the id base + n */
    int64_t steps;
    int64_t waited; /* the highest number that a rollback_wait_for names */
    int64_t estimated;
    dr_wall_ms now;
};

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

/* "per_node" or "lanes" of a tuning text; 0 when it says nothing. */
static int64_t number_of(const char *tuning_json, const char *key)
{
    json_t *j = NULL;
    int64_t n = 0;
    if (tuning_json != NULL &&
        dr_json_parse("tuning", tuning_json, strlen(tuning_json), &j, NULL) == DR_OK) {
        n = json_integer_value(json_object_get(j, key));
    }
    json_decref(j);
    return n > 0 ? n : 0;
}

static enum dr_code insert_operation(struct dr_queue *q, struct put_work *w, struct dr_err *err)
{
    static const char add[] =
        "INSERT INTO operations(operation_group, kind, target, store_url, priority, per_node, "
        "lanes,"
        " wish, wish_by, irreversible, plan_hash, archive_days, archive_until, idempotency_key,"
        " created_at, atomic, give_up_s) VALUES('new', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " ?)";
    static const char name[] = "UPDATE operations SET operation_group=? WHERE id=?";
    static const char texts[] =
        "INSERT INTO texts(op_id, request_json, summary_json, tuning_json) VALUES(?,?,?,?)";
    const struct dr_put *p = w->put;
    char group[DR_NAME_BYTES + 32];
    int64_t until = p->archive_days > 0 ? w->now + (int64_t)p->archive_days * 86400000 : 0;
    enum dr_code rc =
        dr_q_run(&q->w, err, add, "sssiiiisiiiisiii", p->kind, p->target, p->store_url,
                 (int64_t)p->priority, number_of(p->tuning_json, "per_node"),
                 number_of(p->tuning_json, "lanes"), (int64_t)p->wish, or_empty(p->by),
                 (int64_t)p->is_irreversible, (int64_t)p->plan_hash, (int64_t)p->archive_days,
                 until, p->idempotency_key, w->now, (int64_t)p->is_atomic, (int64_t)p->give_up_s);
    if (rc != DR_OK) {
        return rc;
    }
    w->op_id = sqlite3_last_insert_rowid(q->w.sql.db);
    (void)snprintf(group, sizeof group, "%.60s-%.50s-%" PRId64, p->kind, p->target, w->op_id);
    rc = dr_q_run(&q->w, err, name, "si", group, w->op_id);
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, texts, "isss", w->op_id, or_empty(p->request_json),
                      p->summary_json, p->tuning_json);
    }
    return rc;
}

static enum dr_code check_step(struct put_work *w, const struct dr_plan_step *s, struct dr_err *err)
{
    if (s->number != w->steps + 1) {
        return dr_fail(err, DR_INTERNAL, "step %" PRId64 " comes after step %" PRId64, s->number,
                       w->steps);
    }
    int64_t no_return = w->put->no_return_from;
    if (s->rollback_query == NULL && !w->put->is_irreversible &&
        (no_return == 0 || s->number < no_return)) {
        return dr_fail(err, DR_REFUSED,
                       "step %" PRId64
                       " (%s) has no rollback command; only an operation that says it is "
                       "irreversible, or has a point of no return before it, may hold such a step",
                       s->number, or_empty(s->title));
    }
    if (s->wait_for < 0 || s->wait_for >= s->number || s->rollback_wait_for < 0 ||
        s->rollback_wait_for == s->number) {
        return dr_fail(err, DR_INTERNAL, "step %" PRId64 " waits for a step that is not before it",
                       s->number);
    }
    w->waited = s->rollback_wait_for > w->waited ? s->rollback_wait_for : w->waited;
    return DR_OK;
}

static enum dr_code insert_step(struct dr_queue *q, struct put_work *w,
                                const struct dr_plan_step *s, struct dr_err *err)
{
    static const char add[] =
        "INSERT INTO steps(id, op_id, kind, ready, stage, priority, node, query, rollback_query,"
        " cleanup, title, wait_for_id, rollback_wait_for_id, estimated, created_at, updated_at)"
        " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
    static const char lane[] = "INSERT OR IGNORE INTO lanes(op_id, node) VALUES(?,?)";
    static const char stage[] = "INSERT INTO stages(op_id, stage, open) VALUES(?,?,1)"
                                " ON CONFLICT(op_id, stage) DO UPDATE SET open=open+1";
    enum dr_code rc =
        dr_q_run(&q->w, err, add, "iiiiiisssssiiiii", w->base + s->number, w->op_id,
                 (int64_t)s->kind, (int64_t)(s->wait_for == 0), (int64_t)s->stage,
                 (int64_t)s->priority, s->node, s->query, s->rollback_query, s->cleanup,
                 or_empty(s->title), s->wait_for > 0 ? w->base + s->wait_for : 0,
                 s->rollback_wait_for > 0 ? w->base + s->rollback_wait_for : 0,
                 (int64_t)s->estimated, w->now, w->now);
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, lane, "is", w->op_id, s->node);
    }
    if (rc == DR_OK) {
        rc = dr_q_run(&q->w, err, stage, "ii", w->op_id, (int64_t)s->stage);
    }
    w->steps++;
    w->estimated +=
        (int64_t)(s->kind == DR_STEP_ERASE || s->kind == DR_STEP_COPY ? s->estimated : 0);
    return rc;
}

static enum dr_code insert_steps(struct dr_queue *q, struct put_work *w, struct dr_err *err)
{
    static const char last[] = "SELECT seq FROM sqlite_sequence WHERE name='steps'";
    static const char sums[] = "UPDATE operations SET steps=?1, c0=?1, items_estimated=?2,"
                               " first_step=?3, no_return_from=?5 WHERE id=?4";
    struct dr_plan_step step = {0};
    bool has = true;
    enum dr_code rc = dr_q_int(&q->w, &w->base, 0, err, last, "");
    while (rc == DR_OK) {
        rc = w->next(w->arg, &step, &has, err);
        if (rc != DR_OK || !has) {
            break;
        }
        rc = check_step(w, &step, err);
        if (rc == DR_OK) {
            rc = insert_step(q, w, &step, err);
        }
        if (rc == DR_OK && w->steps == 2) {
            rc = dr_fault_pass("queue.put.half", err);
        }
    }
    if (rc == DR_OK && w->steps == 0) {
        rc = dr_fail(err, DR_REFUSED, "a plan without a single step: there is nothing to do");
    }
    if (rc == DR_OK && w->waited > w->steps) {
        rc = dr_fail(err, DR_INTERNAL,
                     "the undo of a step waits for step %" PRId64 ", which is not in the plan",
                     w->waited);
    }
    return rc == DR_OK
               ? dr_q_run(&q->w, err, sums, "iiiii", w->steps, w->estimated, w->base + 1, w->op_id,
                          w->put->no_return_from > 0 ? w->base + w->put->no_return_from : 0)
               : rc;
}

static enum dr_code run_put(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char same[] = "SELECT id FROM operations WHERE idempotency_key=?";
    struct put_work *w = job->arg;
    enum dr_code rc = dr_fault_pass("queue.put.begun", err);
    if (rc == DR_OK && w->put->idempotency_key != NULL) {
        rc = dr_q_int(&q->w, &w->op_id, 0, err, same, "s", w->put->idempotency_key);
        if (rc == DR_OK && w->op_id != 0) {
            return DR_OK;
        }
    }
    if (rc == DR_OK) {
        rc = insert_operation(q, w, err);
    }
    if (rc == DR_OK) {
        rc = insert_steps(q, w, err);
    }
    if (rc == DR_OK) {
        rc = dr_q_audit(q, w->op_id, w->put->by,
                        w->put->wish == DR_WISH_HOLD ? "planned" : "submitted", err);
    }
    return rc == DR_OK ? dr_fault_pass("queue.put.before_commit", err) : rc;
}

enum dr_code dr_queue_put(struct dr_queue *q, const struct dr_put *put,
                          enum dr_code (*next)(void *arg, struct dr_plan_step *step, bool *has_out,
                                               struct dr_err *err),
                          void *arg, int64_t *op_id_out, struct dr_err *err)
{
    struct put_work w = {.put = put, .next = next, .arg = arg, .now = dr_wall_now()};
    *op_id_out = 0;
    if (put->wish != DR_WISH_HOLD && put->wish != DR_WISH_RUN) {
        return dr_fail(err, DR_INTERNAL, "an operation is put to hold or to run");
    }
    enum dr_code rc = dr_q_commit(q, run_put, &w, err);
    if (rc == DR_OK) {
        dr_fault_mark("queue.put.committed");
        *op_id_out = w.op_id;
    }
    return rc;
}
