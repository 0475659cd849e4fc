/* SPDX-License-Identifier: Apache-2.0 */
/* One worker thread: lease a step, ask the brakes, do one batch, save, repeat. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "base/str.h"
#include "worker/worker_private.h"

enum {
    IDLE_WAIT_MS = 50,
    RATE_SLICES_S = 4,
    HEALTH_RETRY_MS = 1000,
    WAIT_SLICE_MS = 200,
    BRAKED_MS = 10000
};

/* --- stores: a handle per URL and thread ---------------------------------------------------------
 */

static void close_store(struct worker_store *s)
{
    dr_layout_destroy(s->layout);
    dr_store_close(s->store);
    dr_free(s->url);
    *s = (struct worker_store){0};
}

static enum dr_code open_store(struct worker *w, const char *url, struct worker_store **out,
                               struct dr_err *err)
{
    for (unsigned i = 0; i < w->store_count; i++) {
        if (strcmp(w->store[i].url, url) == 0) {
            *out = &w->store[i];
            return DR_OK;
        }
    }
    if (w->store_count == WORKER_STORES_MAX) { /* the oldest makes room */
        close_store(&w->store[0]);
        memmove(&w->store[0], &w->store[1], (WORKER_STORES_MAX - 1) * sizeof w->store[0]);
        w->store_count--;
    }
    struct worker_store *s = &w->store[w->store_count];
    *s = (struct worker_store){.url = dr_strdup(url)};
    enum dr_code rc = s->url == NULL ? dr_fail_nomem(err) : dr_layout_create(&s->layout, err);
    if (rc == DR_OK) {
        rc = dr_store_open_in(w->pool->config->world, url, &s->store, err);
    }
    if (rc != DR_OK) {
        close_store(s);
        return rc;
    }
    w->store_count++;
    *out = s;
    return DR_OK;
}

/* After a failure that may lie in the connection, the next try makes a new one. */
static void forget_store(struct worker *w, const char *url)
{
    for (unsigned i = 0; i < w->store_count; i++) {
        if (strcmp(w->store[i].url, url) == 0) {
            close_store(&w->store[i]);
            memmove(&w->store[i], &w->store[i + 1], (w->store_count - i - 1) * sizeof w->store[0]);
            w->store_count--;
            return;
        }
    }
}

/* --- holding -------------------------------------------------------------------------------------
 */

static void hold(struct worker *w, const struct dr_lease *l)
{
    (void)pthread_mutex_lock(&w->mutex);
    w->holds = true;
    w->is_lost = false;
    w->held = (struct dr_lease){.step_id = l->step_id, .op_id = l->op_id, .token = l->token};
    atomic_store(&w->until, l->until);
    (void)pthread_mutex_unlock(&w->mutex);
}

static void let_go(struct worker *w)
{
    (void)pthread_mutex_lock(&w->mutex);
    w->holds = false;
    (void)pthread_mutex_unlock(&w->mutex);
}

struct ask {
    struct worker *worker;
    const struct dr_lease *lease;
};

static bool is_wished(const struct op_control *o, const struct dr_lease *l)
{
    return l->is_undo ? o->wish == DR_WISH_ROLLBACK : o->wish == DR_WISH_RUN;
}

/* Between archiving and erasing: is the lease ours, and is a roll-back not already wished? A pause
 * or graceful stop lets this batch finish. */
static enum dr_code still_mine(void *arg, struct dr_err *err)
{
    const struct ask *a = arg;
    struct worker *w = a->worker;
    struct op_control o;
    (void)pthread_mutex_lock(&w->mutex);
    bool is_lost = w->is_lost;
    (void)pthread_mutex_unlock(&w->mutex);
    if (is_lost || dr_mono_now() >= (dr_mono_ms)atomic_load(&w->until)) {
        return dr_fail(err, DR_LOST, "the lease of step %" PRId64 " ran out", a->lease->step_id);
    }
    if (!a->lease->is_undo && dr_control_get(w->pool->control, a->lease->op_id, &o) &&
        o.wish == DR_WISH_ROLLBACK) {
        return dr_fail(err, DR_STOPPED, "the operation is being rolled back");
    }
    return DR_OK;
}

/* The operation's request, read once for all steps of it that this thread does. */
static enum dr_code request_of(void *arg, const char **text_out, struct dr_err *err)
{
    const struct ask *a = arg;
    struct worker *w = a->worker;
    *text_out = NULL;
    if (w->request == NULL || w->request_op != a->lease->op_id) {
        dr_free(w->request);
        w->request = NULL;
        enum dr_code rc =
            dr_queue_texts(w->pool->config->queue, a->lease->op_id, &w->request, NULL, NULL, err);
        if (rc != DR_OK) {
            return rc;
        }
        w->request_op = a->lease->op_id;
    }
    *text_out = w->request;
    return DR_OK;
}

/* --- brakes --------------------------------------------------------------------------------------
 */

struct wait_for {
    struct worker *worker;
    const struct dr_lease *lease;
};

/* Something has changed that a waiting worker must look at. */
static bool is_disturbed(void *arg)
{
    const struct wait_for *f = arg;
    struct op_control o;
    return dr_pool_is_over(f->worker->pool) ||
           !dr_control_get(f->worker->pool->control, f->lease->op_id, &o) ||
           !is_wished(&o, f->lease);
}

/* False: give the step back. */
static bool pass_rate(struct worker *w, const struct dr_lease *l)
{
    struct wait_for f = {.worker = w, .lease = l};
    for (;;) {
        int64_t us = dr_control_rate_wait_us(w->pool->control, l->op_id, dr_mono_us());
        if (us <= 0) {
            return true;
        }
        /* In slices, because tuning may change the rate while this waits. */
        uint64_t ms = (uint64_t)us / 1000 + 1;
        if (dr_wait_ms(ms < WAIT_SLICE_MS ? ms : WAIT_SLICE_MS, is_disturbed, &f)) {
            return false;
        }
    }
}

/* DR_BRAKED with the reason when the node is not well. A good reading is used until it expires. */
static enum dr_code ask_health(struct worker *w, struct worker_store *s, const struct dr_lease *l,
                               struct dr_err *err)
{
    struct dr_health h;
    if (strcmp(s->health_node, l->node) == 0 && dr_mono_now() < s->health_until) {
        return DR_OK;
    }
    enum dr_code rc = dr_store_health(s->store, l->node, &h, err);
    if (rc != DR_OK) {
        dr_wrap(err, "no reading of %s's health", l->node);
        return rc;
    }
    if (!h.is_ok) {
        uint64_t ms = h.wait_hint_ms > 0 ? h.wait_hint_ms : HEALTH_RETRY_MS;
        dr_control_lane_brake(w->pool->control, l, ms, h.reason, false);
        return dr_fail(err, DR_BRAKED, "%s", h.reason);
    }
    dr_copy_text(s->health_node, sizeof s->health_node, l->node);
    s->health_until = dr_mono_now() + h.valid_ms;
    return DR_OK;
}

/* May the next batch go? DR_STOPPED: give the step back silently. */
static enum dr_code ask_brakes(struct worker *w, struct worker_store *s, const struct dr_lease *l,
                               struct op_control *o, struct dr_err *err)
{
    if (dr_pool_is_over(w->pool)) {
        return dr_fail(err, DR_STOPPED, "drover is ending");
    }
    if (!dr_control_get(w->pool->control, l->op_id, o)) {
        enum dr_code rc = dr_control_load(w->pool->control, l->op_id, err);
        if (rc != DR_OK || !dr_control_get(w->pool->control, l->op_id, o)) {
            return rc != DR_OK ? rc : dr_fail(err, DR_BUSY, "too many operations at once");
        }
    }
    if (!is_wished(o, l) ||
        !dr_control_may_start(w->pool->control, l->op_id, l->store_url, l->node)) {
        return dr_fail(err, DR_STOPPED, "not wished at the moment");
    }
    if (!pass_rate(w, l)) {
        return dr_fail(err, DR_STOPPED, "not wished at the moment");
    }
    return ask_health(w, s, l, err);
}

/* --- one step ------------------------------------------------------------------------------------
 */

static struct dr_budget make_budget(const struct worker *w, const struct op_control *o)
{
    const struct dr_tuning *t = &o->tuning;
    struct dr_budget b = {.items_max = dr_pace_items(&w->pace, t),
                          .bytes_max = t->batch_bytes_max,
                          .ms_max = t->batch_target_ms * 2};
    if (t->rate_items_s > 0) { /* a slow rate in small bites, so that a pause bites soon */
        uint64_t slice = t->rate_items_s / RATE_SLICES_S + 1;
        b.items_max = b.items_max < slice ? b.items_max : slice;
    }
    return b;
}

static void rest_after(struct worker *w, const struct dr_lease *l, const struct op_control *o,
                       double ms)
{
    struct wait_for f = {.worker = w, .lease = l};
    if (o->tuning.sleep_ratio > 0) {
        (void)dr_wait_ms((uint64_t)(ms * o->tuning.sleep_ratio), is_disturbed, &f);
    }
}

static enum dr_code one_batch(struct worker *w, struct worker_store *s, struct dr_lease *l,
                              struct dr_step_run *run, bool *is_done, struct dr_err *err)
{
    char why[DR_REASON_BYTES];
    struct op_control o = {0};
    struct dr_step_report report = {0};
    struct dr_control *c = w->pool->control;
    enum dr_code rc = ask_brakes(w, s, l, &o, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_budget budget = make_budget(w, &o);
    bool is_counted = !l->is_undo && l->kind == DR_STEP_ERASE;
    if (is_counted) {
        budget.items_max = dr_control_reserve(c, l->op_id, budget.items_max, why, sizeof why);
        if (budget.items_max == 0 && why[0] != '\0') {
            return dr_fail(err, DR_STOPPED, "%s", why);
        }
    }
    int64_t begin = dr_mono_us();
    uint64_t done_before = l->mark.done;
    uint64_t undone_before = l->mark.undone;
    rc = dr_step_batch(run, &budget, &report, err);
    double ms = (double)(dr_mono_us() - begin) / 1000.0;
    dr_pool_count_batch(&w->pool->metrics, l,
                        l->is_undo ? l->mark.undone - undone_before : l->mark.done - done_before,
                        ms);
    if (is_counted && rc == DR_UNKNOWN) {
        dr_control_unseen(c, l, budget.items_max);
    }
    if (is_counted) {
        dr_control_settle(c, l->op_id, budget.items_max, l->mark.done - done_before);
    }
    if (rc == DR_BRAKED && is_counted && budget.items_max == 0) {
        struct wait_for f = {.worker = w, .lease = l};
        dr_control_spent(c, l->op_id);
        (void)dr_wait_ms(IDLE_WAIT_MS, is_disturbed, &f); /* others may give back what they hold */
        return dr_fail(err, DR_STOPPED, "max_items is spent or spoken for");
    }
    if (rc != DR_OK) {
        return rc;
    }
    dr_control_rate_charge(c, l->op_id, report.read, dr_mono_us());
    dr_pace_note(&w->pace, &o.tuning, report.read, ms, report.read >= budget.items_max);
    dr_log(w->pool->config->log, DR_LOG_DEBUG, "batch", "op=%lld step=%lld items=%llu ms=%.1f",
           (long long)l->op_id, (long long)l->step_id, (unsigned long long)report.items, ms);
    *is_done = report.is_done;
    l->tries = 0;
    if (!*is_done) {
        rc = dr_queue_save(w->pool->config->queue, l, w->pool->lease_ms, false, err);
        dr_fault_mark("worker.saved");
        rest_after(w, l, &o, ms);
    }
    return rc;
}

static enum dr_code run_step(struct worker *w, struct dr_lease *l, struct dr_err *err)
{
    struct worker_store *s = NULL;
    struct dr_step_run *run = NULL;
    struct ask ask = {.worker = w, .lease = l};
    struct op_control o;
    bool is_done = false;
    enum dr_code rc = open_store(w, l->store_url, &s, err);
    if (rc == DR_OK) {
        rc = ask_brakes(w, s, l, &o, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_step_env env = {.store = s->store,
                              .layout = s->layout,
                              .batch = w->batch,
                              .data_dir = dr_queue_data_dir(w->pool->config->queue),
                              .request = request_of,
                              .still_mine = still_mine,
                              .arg = &ask};
    uint64_t done_before = l->mark.done;
    rc = dr_step_begin(&env, l, &run, err);
    /* What an interrupted try turns out to have erased counts against the limits as well. */
    dr_control_settle(w->pool->control, l->op_id, 0, l->mark.done - done_before);
    if (rc == DR_OK) {
        dr_control_seen(w->pool->control, l);
    }
    while (rc == DR_OK && !is_done) {
        rc = one_batch(w, s, l, run, &is_done, err);
    }
    dr_step_end(run);
    return rc;
}

/* --- how it ended --------------------------------------------------------------------------------
 */

static void log_end(struct worker *w, const struct dr_lease *l, const struct dr_finish *f,
                    enum dr_code code, uint64_t delay_ms)
{
    struct dr_log *log = w->pool->config->log;
    long long op = (long long)l->op_id;
    long long step = (long long)l->step_id;
    switch (f->outcome) {
    case DR_OUT_DONE:
        dr_log(log, DR_LOG_INFO, "step done", "op=%lld step=%lld node=%s to=%s items=%llu ms=%llu",
               op, step, l->node, l->is_undo ? "undone" : "processed",
               (unsigned long long)(l->is_undo ? l->mark.undone : l->mark.done),
               (unsigned long long)f->duration_ms);
        return;
    case DR_OUT_RELEASE:
        dr_log(log, DR_LOG_DEBUG, "step given back", "op=%lld step=%lld", op, step);
        return;
    case DR_OUT_RETRY:
    case DR_OUT_UNKNOWN:
        dr_log(log, code == DR_BRAKED ? DR_LOG_DEBUG : DR_LOG_WARN,
               f->outcome == DR_OUT_RETRY ? "step will be retried" : "outcome unknown",
               "op=%lld step=%lld node=%s tries=%u in_ms=%llu why=%s", op, step, l->node,
               l->tries + 1, (unsigned long long)delay_ms, f->error);
        return;
    case DR_OUT_QUARANTINE:
        dr_log(log, DR_LOG_ERROR, "step quarantined", "op=%lld step=%lld node=%s why=%s", op, step,
               l->node, f->error);
        return;
    }
}

/* Has it failed for longer than its operation allows? */
static bool has_given_up(const struct dr_lease *l)
{
    return l->give_up_s > 0 && l->failing_since > 0 &&
           dr_wall_now() - l->failing_since >= (dr_wall_ms)l->give_up_s * 1000;
}

static struct dr_finish judge(struct worker *w, struct dr_lease *l, enum dr_code code,
                              const struct dr_err *err, uint64_t *delay_ms)
{
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    *delay_ms = 0;
    if (code == DR_OK) {
        dr_control_lane_clear(w->pool->control, l);
        return f;
    }
    struct dr_retry_plan plan = dr_retry_decide(code, l->tries, &w->pool->retry, dr_random());
    if (plan.is_lane_wide) { /* the longer the node has failed, whichever step met it, the later */
        uint32_t lane = dr_control_lane_failures(w->pool->control, l);
        uint32_t tries = l->tries > lane ? l->tries : lane;
        plan = dr_retry_decide(code, tries, &w->pool->retry, dr_random());
    }
    f.outcome = plan.outcome;
    if (plan.is_silent) {
        return f;
    }
    f.error = err->msg;
    if (code == DR_BRAKED && l->kind == DR_STEP_COMMAND) {
        /* A command can itself say "not now", for days: that is no failure to be counted, and
         * nothing else of the lane waits for it. */
        plan.delay_ms = w->pool->retry.max_ms < BRAKED_MS ? w->pool->retry.max_ms : BRAKED_MS;
        l->tries = 0;
        f.is_braked = true;
        dr_control_held(w->pool->control, l->op_id, plan.delay_ms, err->msg);
    } else if (code == DR_BRAKED) { /* the brake itself says when to look again */
        f.outcome = DR_OUT_RELEASE;
        f.error = NULL;
        return f;
    }
    if (!f.is_braked && f.outcome != DR_OUT_QUARANTINE && has_given_up(l)) {
        f.outcome = DR_OUT_QUARANTINE;
        return f;
    }
    *delay_ms = plan.delay_ms;
    f.next_attempt_at = dr_wall_now() + (dr_wall_ms)plan.delay_ms;
    if (plan.is_lane_wide) {
        dr_control_lane_brake(w->pool->control, l, plan.delay_ms, err->msg, true);
    }
    return f;
}

static void finish_step(struct worker *w, struct dr_lease *l, enum dr_code code,
                        const struct dr_err *why, uint64_t duration_ms)
{
    struct dr_err err = {0};
    uint64_t delay_ms = 0;
    struct dr_finish f = judge(w, l, code, why, &delay_ms);
    f.duration_ms = duration_ms;
    dr_pool_count_end(&w->pool->metrics, f.outcome);
    if (code != DR_OK && code != DR_STOPPED && code != DR_BRAKED) {
        forget_store(w, l->store_url);
    }
    if (code == DR_LOST) {
        dr_log(w->pool->config->log, DR_LOG_WARN, "lease lost", "op=%lld step=%lld",
               (long long)l->op_id, (long long)l->step_id);
    }
    if (f.outcome == DR_OUT_QUARANTINE) {
        dr_control_seen(w->pool->control, l);
    }
    log_end(w, l, &f, code, delay_ms);
    /* A completion is posted: dying before it is durable only means finding the range empty again.
     * What a person or the next try must know is durable. */
    bool is_durable = f.outcome != DR_OUT_DONE;
    enum dr_code rc = dr_queue_finish(w->pool->config->queue, l, &f, is_durable, &err);
    if (rc == DR_LOST) { /* somebody else has it by now; what was done is found by probing */
        dr_log_err(w->pool->config->log, DR_LOG_DEBUG, "a finish came too late", &err);
        return;
    }
    dr_pool_note(w->pool, rc, &err);
    dr_fault_mark("worker.finished");
}

static void do_one_step(struct worker *w, struct dr_lease *l)
{
    struct dr_err err = {0};
    dr_mono_ms begin = dr_mono_now();
    hold(w, l);
    dr_fault_mark("worker.leased");
    dr_log(w->pool->config->log, DR_LOG_DEBUG, "step leased", "op=%lld step=%lld node=%s",
           (long long)l->op_id, (long long)l->step_id, l->node);
    enum dr_code rc = dr_control_load(w->pool->control, l->op_id, &err);
    if (rc == DR_OK && l->deaths >= w->pool->retry.tries_max) {
        /* It may be the step itself that brings its workers down. */
        rc = dr_fail(&err, DR_CONFLICT,
                     "%" PRIu32 " workers in a row died or went silent over this step; look why, "
                     "then retry it",
                     l->deaths);
    }
    if (rc == DR_OK) {
        rc = run_step(w, l, &err);
    }
    finish_step(w, l, rc, &err, (uint64_t)(dr_mono_now() - begin));
    let_go(w);
    dr_lease_fini(l);
}

void *dr_worker_main(void *arg)
{
    struct worker *w = arg;
    struct dr_err err = {0};
    struct dr_lease_rules rules = {.worker = w->name,
                                   .lease_ms = w->pool->lease_ms,
                                   .per_node_default = 1,
                                   .may_start = dr_control_may_start,
                                   .may_start_arg = w->pool->control};
    while (!dr_pool_is_over(w->pool)) {
        struct dr_lease lease = {0};
        uint32_t count = 0;
        enum dr_code rc = dr_queue_lease(w->pool->config->queue, &rules, &lease, 1, &count, &err);
        dr_pool_note(w->pool, rc, &err);
        if (count > 0) {
            do_one_step(w, &lease);
        } else {
            (void)dr_wait_ms(rc == DR_OK ? IDLE_WAIT_MS : 4 * IDLE_WAIT_MS, dr_pool_is_over,
                             w->pool);
        }
    }
    return NULL;
}

void dr_worker_fini(struct worker *w)
{
    while (w->store_count > 0) {
        close_store(&w->store[--w->store_count]);
    }
    dr_free(w->request);
    w->request = NULL;
    dr_batch_destroy(w->batch);
    w->batch = NULL;
}
