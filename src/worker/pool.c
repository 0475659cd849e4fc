/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: its threads, the keeper that prolongs leases and reads wishes, and when it all ends. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/file.h"
#include "base/str.h"
#include "worker/worker_private.h"

enum {
    THREADS_DEFAULT = 4,
    LEASE_MS_DEFAULT = 8000,
    TRIES_MAX_DEFAULT = 10,
    RETRY_FIRST_MS = 200,
    RETRY_MAX_MS = 60000,
    TICK_MS = 100,
    QUEUE_PATIENCE_MS = 10000, /* a queue that fails for longer ends the run */
    CLEANUPS_MAX = 8,
    CLEANUP_EVERY_MS = 2000,
    DISK_EVERY_MS = 1000,
    BEAT_EVERY_MS = 2000,
};

static const uint64_t disk_free_min = UINT64_C(16) << 20;

bool dr_pool_is_over(void *arg)
{
    struct pool *p = arg;
    return atomic_load(&p->is_stopping) ||
           (p->config->ask_stop != NULL && atomic_load(p->config->ask_stop));
}

static void end_with(struct pool *p, const struct dr_err *err)
{
    (void)pthread_mutex_lock(&p->mutex);
    if (p->fatal.code == DR_OK) {
        p->fatal = *err;
    }
    (void)pthread_mutex_unlock(&p->mutex);
    atomic_store(&p->is_stopping, true);
}

void dr_pool_note(struct pool *p, enum dr_code rc, const struct dr_err *err)
{
    dr_mono_ms now = dr_mono_now();
    if (rc == DR_OK || rc == DR_LOST) {
        atomic_store(&p->failing_since, 0);
        return;
    }
    int_fast64_t none = 0;
    bool is_first = atomic_compare_exchange_strong(&p->failing_since, &none, (int_fast64_t)now);
    if (is_first) {
        dr_log_err(p->config->log, DR_LOG_WARN, "the queue cannot be written", err);
    }
    bool heals = dr_code_retry(rc) == DR_RETRY_LATER;
    if (!heals || (!is_first && now - (dr_mono_ms)none > QUEUE_PATIENCE_MS)) {
        end_with(p, err);
    }
}

/* --- the keeper ----------------------------------------------------------------------------------
 */

/* Prolong on behalf of a worker that is inside a long batch. */
static void prolong(struct pool *p, struct worker *w)
{
    struct dr_err err;
    (void)pthread_mutex_lock(&w->mutex);
    struct dr_lease held = w->held;
    bool holds = w->holds && !w->is_lost;
    (void)pthread_mutex_unlock(&w->mutex);
    dr_mono_ms left = (dr_mono_ms)atomic_load(&w->until) - dr_mono_now();
    if (!holds || left > (dr_mono_ms)p->lease_ms * 2 / 3) {
        return;
    }
    enum dr_code rc = dr_queue_renew(p->config->queue, &held, p->lease_ms, &err);
    if (rc != DR_OK && rc != DR_LOST) {
        dr_pool_note(p, rc, &err);
        return;
    }
    (void)pthread_mutex_lock(&w->mutex);
    if (w->holds && w->held.step_id == held.step_id && w->held.token == held.token) {
        if (rc == DR_OK) {
            atomic_store(&w->until, held.until);
        } else {
            w->is_lost = true;
        }
    }
    (void)pthread_mutex_unlock(&w->mutex);
}

/* One round of due cleanups, those that failed least first. True when another round is worth it. */
static bool run_cleanups(struct pool *p)
{
    struct dr_err err;
    uint32_t count = 0;
    uint32_t done = 0;
    struct dr_cleanup *c = dr_malloc(CLEANUPS_MAX * sizeof *c);
    enum dr_code rc =
        c == NULL ? DR_NOMEM
                  : dr_queue_cleanups(p->config->queue, true, c, CLEANUPS_MAX, &count, &err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        struct dr_store *store = NULL;
        enum dr_code did = dr_store_open_in(p->config->world, c[i].store_url, &store, &err);
        if (did == DR_OK) {
            did = dr_store_command(store, c[i].node, c[i].command, &err);
        }
        dr_store_close(store);
        dr_log(p->config->log, did == DR_OK ? DR_LOG_INFO : DR_LOG_WARN, "cleanup",
               "op=%lld step=%lld node=%s result=%s", (long long)c[i].op_id,
               (long long)c[i].step_id, c[i].node, did == DR_OK ? "done" : err.msg);
        rc = dr_queue_cleanup_done(p->config->queue, c[i].id, did == DR_OK ? NULL : err.msg, &err);
        done += rc == DR_OK && did == DR_OK;
    }
    dr_free(c);
    return done > 0 && count == CLEANUPS_MAX;
}

static void look_at_disk(struct pool *p)
{
    struct dr_err err;
    uint64_t bytes = 0;
    char reason[DR_REASON_BYTES] = "";
    char have[32];
    const char *dir = dr_queue_data_dir(p->config->queue);
    if (dr_disk_free(dir, &bytes, &err) == DR_OK && bytes < disk_free_min) {
        (void)snprintf(reason, sizeof reason, "no space for the archive: %s free under %.300s",
                       dr_human_bytes(bytes, have, sizeof have), dir);
    }
    dr_control_global(p->control, reason);
}

/* This process works on the queue: what health looks for when nothing moves. */
static void beat(struct pool *p, bool is_ending)
{
    char host[DR_NAME_BYTES / 2] = "?";
    char name[DR_NAME_BYTES];
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(name, sizeof name, "%.48s:%ld", host, (long)getpid());
    dr_queue_heartbeat(p->config->queue, name, is_ending);
}

static void *keeper_main(void *arg)
{
    struct pool *p = arg;
    struct dr_err err = {0};
    dr_mono_ms cleanup_at = dr_mono_now() + CLEANUP_EVERY_MS;
    dr_mono_ms disk_at = 0;
    dr_mono_ms beat_at = 0;
    while (!atomic_load(&p->are_workers_gone)) {
        uint64_t moved = 0;
        for (uint32_t i = 0; i < p->threads; i++) {
            prolong(p, &p->worker[i]);
        }
        enum dr_code rc = dr_queue_sweep(p->config->queue, &moved, &err);
        dr_pool_note(p, rc, &err);
        dr_control_refresh(p->control);
        dr_mono_ms now = dr_mono_now();
        if (now >= disk_at) {
            look_at_disk(p);
            disk_at = now + DISK_EVERY_MS;
        }
        if (now >= beat_at) {
            beat(p, false);
            beat_at = now + BEAT_EVERY_MS;
        }
        if (now >= cleanup_at) {
            (void)run_cleanups(p); /* one round, because leases wait to be prolonged */
            cleanup_at = now + CLEANUP_EVERY_MS;
        }
        dr_log_tick(p->config->log);
        (void)dr_wait_ms(CONTROL_REFRESH_MS, dr_pool_is_over, p);
        if (dr_pool_is_over(p)) {
            /* The workers may still be in their last batch: go on prolonging, less eagerly. */
            (void)dr_wait_ms(CONTROL_REFRESH_MS / 4, NULL, NULL);
        }
    }
    return NULL;
}

/* --- starting and ending -------------------------------------------------------------------------
 */

static enum dr_code is_end_reached(struct pool *p, bool *out, struct dr_err *err)
{
    const struct dr_pool_config *c = p->config;
    *out = false;
    if (c->is_forever) {
        return DR_OK;
    }
    if (c->until_op == 0) {
        return dr_queue_is_idle(c->queue, out, err);
    }
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_queue_op(c->queue, c->until_op, op, err);
    *out = rc == DR_OK && dr_op_status_is_resting(op->status);
    dr_free(op);
    return rc;
}

static void wait_for_end(struct pool *p)
{
    struct dr_err err = {0};
    while (!dr_pool_is_over(p)) {
        bool is_end = false;
        enum dr_code rc = is_end_reached(p, &is_end, &err);
        dr_pool_note(p, rc, &err);
        if (rc == DR_OK && is_end) {
            return;
        }
        if (p->config->tick != NULL) {
            p->config->tick(p->config->tick_arg);
        }
        (void)dr_wait_ms(TICK_MS, dr_pool_is_over, p);
    }
}

static enum dr_code start_worker(struct pool *p, uint32_t i, struct dr_err *err)
{
    struct worker *w = &p->worker[i];
    char host[DR_NAME_BYTES / 2] = "?";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(w->name, sizeof w->name, "%.48s:%ld:%u", host, (long)getpid(), i + 1);
    enum dr_code rc = dr_batch_create(&w->batch, err);
    if (rc == DR_OK && pthread_create(&w->thread, NULL, dr_worker_main, w) != 0) {
        rc = dr_fail(err, DR_NOMEM, "a worker thread cannot be started");
    }
    w->is_started = rc == DR_OK;
    return rc;
}

static void stop_all(struct pool *p)
{
    atomic_store(&p->is_stopping, true);
    for (uint32_t i = 0; i < p->threads; i++) {
        struct worker *w = &p->worker[i];
        if (w->is_started) {
            (void)pthread_join(w->thread, NULL);
        }
        dr_worker_fini(w);
    }
}

static enum dr_code run_threads(struct pool *p, struct dr_err *err)
{
    pthread_t keeper;
    enum dr_code rc = DR_OK;
    if (pthread_create(&keeper, NULL, keeper_main, p) != 0) {
        return dr_fail(err, DR_NOMEM, "the keeper thread cannot be started");
    }
    for (uint32_t i = 0; rc == DR_OK && i < p->threads; i++) {
        rc = start_worker(p, i, err);
    }
    if (rc == DR_OK) {
        wait_for_end(p);
    }
    stop_all(p);
    atomic_store(&p->are_workers_gone, true);
    (void)pthread_join(keeper, NULL);
    beat(p, true);
    return rc;
}

enum dr_code dr_pool_run(const struct dr_pool_config *c, struct dr_err *err)
{
    struct pool *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    p->config = c;
    dr_pool_metrics_init(&p->metrics, c->metrics);
    p->threads = c->threads > 0 ? c->threads : THREADS_DEFAULT;
    p->threads = p->threads < WORKER_THREADS_MAX ? p->threads : WORKER_THREADS_MAX;
    for (uint32_t i = 0; i < p->threads; i++) { /* the keeper looks at all from its first moment */
        p->worker[i].pool = p;
        (void)pthread_mutex_init(&p->worker[i].mutex, NULL);
    }
    p->lease_ms = c->lease_ms > 0 ? c->lease_ms : LEASE_MS_DEFAULT;
    p->retry.tries_max = c->tries_max > 0 ? c->tries_max : TRIES_MAX_DEFAULT;
    p->retry.first_ms = c->retry_first_ms > 0 ? c->retry_first_ms : RETRY_FIRST_MS;
    p->retry.max_ms = c->retry_max_ms > 0 ? c->retry_max_ms : RETRY_MAX_MS;
    (void)pthread_mutex_init(&p->mutex, NULL);
    enum dr_code rc = dr_control_create(c->queue, c->log, c->until_op, &p->control, err);
    if (rc == DR_OK) {
        rc = run_threads(p, err);
    }
    if (rc == DR_OK && p->fatal.code != DR_OK) {
        rc = p->fatal.code;
        *err = p->fatal;
    }
    struct dr_err late = {0};
    enum dr_code flushed = dr_queue_flush(c->queue, &late);
    if (flushed != DR_OK) {
        /* A posted write that failed in passing was made good by whoever took the step again; what
         * counts is how the operation stands now. */
        dr_log_err(c->log, DR_LOG_WARN, "a posted write failed", &late);
    }
    if (rc == DR_OK && flushed != DR_OK && dr_code_retry(flushed) != DR_RETRY_LATER &&
        flushed != DR_LOST) {
        rc = flushed;
        *err = late;
    }
    while (rc == DR_OK && run_cleanups(p)) {
    }
    if (rc == DR_OK && c->ask_stop != NULL && atomic_load(c->ask_stop)) {
        rc = dr_fail(err, DR_STOPPED, "stopped on request");
    }
    dr_control_destroy(p->control);
    for (uint32_t i = 0; i < p->threads; i++) {
        (void)pthread_mutex_destroy(&p->worker[i].mutex);
    }
    (void)pthread_mutex_destroy(&p->mutex);
    dr_free(p);
    return rc;
}
