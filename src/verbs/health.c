/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the look at the queue: what is stuck, failed, waiting for a person, dead. What the nodes say
 * is health_seen.c's, how it is told health_findings.c's. Changes nothing. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "verbs/health_private.h"
#include "verbs/steer.h"

enum { HELD_STEPS_MAX = 64, HEARTBEATS_MAX = 256, DETAILS_MAX = 1000, HOLDER_BYTES = 256 };

static const dr_wall_ms day_ms = 24LL * 3600 * 1000;

void dr_health_rules_default(struct dr_health_rules *r)
{
    *r = (struct dr_health_rules){.stuck_ms = 30ULL * 60 * 1000,
                                  .queue_depth = 1000,
                                  .dead_ms = 30000,
                                  .asks_nodes = true,
                                  .node_wait_ms = 5000};
}

/* --- operations --------------------------------------------------------------------------------
 */

struct ops_look {
    struct dr_queue *queue;
    const struct dr_health_rules *rules;
    dr_wall_ms now;
    bool is_owned;
    struct dr_step *step; /* scratch */
    json_t *stuck, *ownerless, *failed, *rollbacks, *quarantine;
    uint64_t stuck_count, ownerless_count, failed_count, rollback_count, quarantine_count;
};

/* What the steps that somebody holds or waits with tell. */
struct held {
    bool is_failing; /* one was tried and failed */
    bool is_worked;  /* one is leased by a worker that was not told "not now" */
    bool is_told;    /* one was told "not now": no failure was counted */
    int64_t step_id;
    const char *error;
};

static enum dr_code read_held(struct ops_look *l, const struct dr_op *op, struct held *out,
                              struct dr_err *err)
{
    static const enum dr_step_status looked_at[] = {DR_S_LEASED, DR_S_WAITING, DR_S_UNKNOWN};
    *out = (struct held){.error = ""};
    for (size_t i = 0; i < sizeof looked_at / sizeof looked_at[0]; i++) {
        uint32_t count = 0;
        if (op->count[looked_at[i]] == 0) {
            continue;
        }
        enum dr_code rc =
            dr_queue_steps(l->queue, op->id, looked_at[i], 0, l->step, HELD_STEPS_MAX, &count, err);
        if (rc != DR_OK) {
            return rc;
        }
        for (uint32_t n = 0; n < count; n++) {
            const struct dr_step *s = &l->step[n];
            /* Being told "not now" leaves one try behind however often it happens; what has
             * failed for long enough to be looked at here has failed more often. */
            bool is_told = s->tries <= 1 && s->last_error[0] != '\0';
            out->is_failing |= s->tries > 1;
            out->is_told |= is_told;
            out->is_worked |= s->status == DR_S_LEASED && !is_told;
            if (out->step_id == 0 || s->tries > 1) {
                out->step_id = s->id;
            }
        }
    }
    return DR_OK;
}

/* Waiting for hours is what quiet hours, brakes and hold times are for; what fails again and again
 * or is held by a worker without moving is not. */
static bool is_braked(const struct dr_op *op, const struct held *h)
{
    if (strncmp(op->waiting, "quiet hours", strlen("quiet hours")) == 0) {
        return true;
    }
    if (h->is_failing || strncmp(op->waiting, "no space", strlen("no space")) == 0) {
        return false;
    }
    return op->waiting[0] != '\0' || (h->is_told && !h->is_worked);
}

static dr_wall_ms later(dr_wall_ms a, dr_wall_ms b)
{
    return a > b ? a : b;
}

enum dr_code dr_last_touched(struct dr_queue *q, const struct dr_op *op, dr_wall_ms *out,
                             struct dr_err *err)
{
    uint32_t count = 0;
    int64_t after = 0;
    *out = later(later(op->progress_at, op->started_at), later(op->created_at, op->ended_at));
    struct dr_audit *page = dr_calloc(DR_PAGE, sizeof *page);
    enum dr_code rc = page == NULL ? dr_fail_nomem(err) : DR_OK;
    do {
        rc = rc == DR_OK ? dr_queue_audits(q, op->id, after, page, DR_PAGE, &count, err) : rc;
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            after = page[i].id;
            *out = later(*out, page[i].at);
        }
    } while (rc == DR_OK && count == DR_PAGE);
    dr_free(page);
    return rc;
}

static json_t *op_json(const struct dr_op *op)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:s}", "operation", (json_int_t)op->id, "group",
                     op->group, "target", op->target, "status", dr_op_status_name(op->status),
                     "waiting", op->waiting);
}

static enum dr_code append(json_t *list, json_t *one, struct dr_err *err)
{
    if (one != NULL && json_array_size(list) >= DETAILS_MAX) { /* the count says how many */
        json_decref(one);
        return DR_OK;
    }
    return json_array_append_new(list, one) != 0 ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code look_if_stuck(struct ops_look *l, const struct dr_op *op, struct dr_err *err)
{
    struct held held;
    bool can_move = false;
    dr_wall_ms since = later(later(op->progress_at, op->started_at), op->created_at);
    if (l->now - since < (dr_wall_ms)l->rules->stuck_ms) {
        return DR_OK;
    }
    enum dr_code rc = dr_last_touched(l->queue, op, &since, err);
    rc = rc == DR_OK ? dr_queue_can_move(l->queue, op->id, &can_move, err) : rc;
    rc = rc == DR_OK ? read_held(l, op, &held, err) : rc;
    if (rc != DR_OK || l->now - since < (dr_wall_ms)l->rules->stuck_ms) {
        return rc;
    }
    bool is_ownerless = !l->is_owned && can_move;
    if (!is_ownerless && is_braked(op, &held)) {
        return DR_OK;
    }
    char at[32];
    json_t *one = op_json(op);
    if (one == NULL || json_object_set_new(one, "idle_ms", json_integer(l->now - since)) != 0 ||
        json_object_set_new(one, "since", json_string(dr_wall_text(since, at, sizeof at))) != 0 ||
        json_object_set_new(one, "step", json_integer(held.step_id)) != 0) {
        json_decref(one);
        return dr_fail_nomem(err);
    }
    l->ownerless_count += is_ownerless;
    l->stuck_count += !is_ownerless;
    return append(is_ownerless ? l->ownerless : l->stuck, one, err);
}

/* The operation with its first quarantined step. */
static enum dr_code add_failed(struct ops_look *l, const struct dr_op *op,
                               enum dr_step_status status, json_t *list, struct dr_err *err)
{
    uint32_t count = 0;
    enum dr_code rc = dr_queue_steps(l->queue, op->id, status, 0, l->step, 1, &count, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *one = op_json(op);
    int bad = one == NULL;
    bad |= bad != 0
               ? 0
               : json_object_set_new(one, "steps", json_integer((json_int_t)op->count[status]));
    if (bad == 0 && count > 0) {
        bad |= json_object_set_new(one, "step", json_integer(l->step[0].id));
        bad |= json_object_set_new(one, "node", json_string(l->step[0].node));
        bad |= json_object_set_new(one, "error", json_string(l->step[0].last_error));
    }
    if (bad != 0) {
        json_decref(one);
        return dr_fail_nomem(err);
    }
    return append(list, one, err);
}

static enum dr_code look_at_op(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct ops_look *l = arg;
    enum dr_code rc = DR_OK;
    bool is_failed = op->status == DR_O_BLOCKED;
    if (op->count[DR_S_UNDO_FAILED] > 0) {
        l->rollback_count++;
        rc = add_failed(l, op, DR_S_UNDO_FAILED, l->rollbacks, err);
    }
    if (rc == DR_OK && op->count[DR_S_FAILED] > 0) {
        l->failed_count += is_failed;
        l->quarantine_count += is_failed ? 0 : op->count[DR_S_FAILED];
        rc = add_failed(l, op, DR_S_FAILED, is_failed ? l->failed : l->quarantine, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    switch (op->status) {
    case DR_O_QUEUED:
    case DR_O_RUNNING:
    case DR_O_ROLLING_BACK:
        return look_if_stuck(l, op, err);
    case DR_O_PLANNED:
    case DR_O_PAUSING:
    case DR_O_PAUSED:
    case DR_O_STOPPING:
    case DR_O_STOPPED:
    case DR_O_BLOCKED:
    case DR_O_DONE:
    case DR_O_ROLLED_BACK:
    case DR_O_ROLLBACK_BLOCKED:
    case DR_O_COUNT:
        break;
    }
    return DR_OK;
}

static json_t *take(json_t **list)
{
    json_t *j = *list;
    *list = NULL;
    return j;
}

static enum dr_code tell_ops(struct ops_look *l, struct dr_health_report *r, struct dr_err *err)
{
    enum dr_code rc =
        dr_finding_add(r, "stuck_operations", true, l->stuck_count, take(&l->stuck),
                       "drover explain OPERATION says what it waits for; then resume, stop or roll "
                       "it back",
                       err);
    rc = rc != DR_OK
             ? rc
             : dr_finding_add(r, "owner_missing", true, l->ownerless_count, take(&l->ownerless),
                              "nobody works on this data folder: start drover serve, or "
                              "drover run OPERATION",
                              err);
    rc = rc != DR_OK
             ? rc
             : dr_finding_add(r, "failed_operations", true, l->failed_count, take(&l->failed),
                              "remedy the cause, then drover quarantine retry OPERATION, or "
                              "drover rollback OPERATION",
                              err);
    rc = rc != DR_OK
             ? rc
             : dr_finding_add(r, "rollback_failures", true, l->rollback_count, take(&l->rollbacks),
                              "remedy the cause, then drover quarantine retry OPERATION", err);
    return rc != DR_OK
               ? rc
               : dr_finding_add(r, "quarantine", false, l->quarantine_count, take(&l->quarantine),
                                "drover quarantine list shows the steps; remedy the cause, "
                                "then drover quarantine retry OPERATION",
                                err);
}

static enum dr_code look_at_ops(struct dr_queue *q, const struct dr_health_rules *rules,
                                struct dr_health_report *r, struct dr_err *err)
{
    char holder[HOLDER_BYTES];
    struct ops_look l = {.queue = q,
                         .rules = rules,
                         .now = r->at,
                         .is_owned = dr_queue_is_owned(q, holder, sizeof holder),
                         .step = dr_calloc(HELD_STEPS_MAX, sizeof *l.step),
                         .stuck = json_array(),
                         .ownerless = json_array(),
                         .failed = json_array(),
                         .rollbacks = json_array(),
                         .quarantine = json_array()};
    bool is_short = l.step == NULL || l.stuck == NULL || l.ownerless == NULL || l.failed == NULL ||
                    l.rollbacks == NULL || l.quarantine == NULL;
    enum dr_code rc = is_short ? dr_fail_nomem(err) : dr_each_op(q, look_at_op, &l, err);
    rc = rc == DR_OK ? tell_ops(&l, r, err) : rc;
    json_decref(l.stuck);
    json_decref(l.ownerless);
    json_decref(l.failed);
    json_decref(l.rollbacks);
    json_decref(l.quarantine);
    dr_free(l.step);
    return rc;
}

/* --- workers, numbers --------------------------------------------------------------------------
 */

/* A worker that died while there was nothing to do hurts nobody. */
static enum dr_code look_at_workers(struct dr_queue *q, const struct dr_health_rules *rules,
                                    struct dr_health_report *r, struct dr_err *err)
{
    uint32_t count = 0;
    uint64_t dead = 0;
    json_t *list = json_array();
    struct dr_heartbeat *h = dr_calloc(HEARTBEATS_MAX, sizeof *h);
    enum dr_code rc = h == NULL || list == NULL
                          ? dr_fail_nomem(err)
                          : dr_queue_heartbeats(q, h, HEARTBEATS_MAX, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        char at[32];
        if (h[i].is_ended || r->at - h[i].seen_at < (dr_wall_ms)rules->dead_ms) {
            continue;
        }
        dead++;
        rc = append(list,
                    json_pack("{s:s, s:s, s:I}", "worker", h[i].worker, "seen",
                              dr_wall_text(h[i].seen_at, at, sizeof at), "silent_ms",
                              (json_int_t)(r->at - h[i].seen_at)),
                    err);
    }
    dr_free(h);
    if (rc != DR_OK) {
        json_decref(list);
        return rc;
    }
    return dr_finding_add(r, "dead_workers", r->numbers.depth > 0, dead, list,
                          "start drover serve again; it takes over what the dead one held", err);
}

static enum dr_code look_at_numbers(const struct dr_health_rules *rules, struct dr_health_report *r,
                                    struct dr_err *err)
{
    const struct dr_queue_facts *n = &r->numbers;
    bool is_deep = rules->queue_depth > 0 && n->depth > rules->queue_depth;
    enum dr_code rc = dr_finding_add(
        r, "high_queue_depth", false, is_deep ? n->depth : 0,
        json_pack("[{s:I, s:I}]", "depth", (json_int_t)n->depth, "threshold",
                  (json_int_t)rules->queue_depth),
        "more threads or more steps per node at once (drover tune --per-node), if the nodes allow",
        err);
    return rc != DR_OK ? rc
                       : dr_finding_add(
                             r, "cleanup_failing", false, n->cleanups_failing,
                             json_pack("[{s:I, s:I}]", "failing", (json_int_t)n->cleanups_failing,
                                       "due", (json_int_t)n->cleanups_due),
                             "drover cleanup --dry-run lists them with their last error", err);
}

/* Without the catalog the queue can still be told of. */
static enum dr_code tell_catalog(struct dr_health_report *r, struct dr_err *err)
{
    json_t *list = json_pack("[{s:s, s:s}]", "node", "catalog", "why", err->msg);
    dr_err_clear(err);
    r->orphans = r->numbers.cleanups_due;
    return dr_finding_add(r, "unreachable_nodes", false, 1, list,
                          "the catalog of sharded tables does not answer; see drover serve's log",
                          err);
}

enum dr_code dr_health_look(struct dr_queue *q, const struct dr_store_world *world,
                            const struct dr_health_rules *rules, struct dr_health_report *out,
                            struct dr_err *err)
{
    struct dr_seen seen = {0};
    *out = (struct dr_health_report){.at = dr_wall_now()};
    enum dr_code rc = dr_queue_numbers(q, out->at, out->at - day_ms, &out->numbers, err);
    rc = rc == DR_OK ? look_at_ops(q, rules, out, err) : rc;
    rc = rc == DR_OK ? look_at_workers(q, rules, out, err) : rc;
    rc = rc == DR_OK ? look_at_numbers(rules, out, err) : rc;
    if (rc == DR_OK) {
        bool asks = rules->asks_nodes && world != NULL;
        rc = dr_seen_look(q, asks ? world : NULL, asks ? rules->node_wait_ms : 0, &seen, err);
    }
    if (rc == DR_OK) {
        rc = dr_seen_judge(&seen, out, err);
    } else if (rc != DR_NOMEM && seen.is_catalog_silent) {
        rc = tell_catalog(out, err);
    }
    dr_seen_fini(&seen);
    out->is_healthy = true;
    for (uint32_t i = 0; i < out->count; i++) {
        out->is_healthy &= !out->finding[i].is_issue;
    }
    if (rc != DR_OK) {
        dr_health_report_fini(out);
    }
    return rc;
}
