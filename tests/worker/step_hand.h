/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's hands without the pool: lease a step from the queue, do its batches, die at will. */
#ifndef TESTS_WORKER_STEP_HAND_H
#define TESTS_WORKER_STEP_HAND_H

#include "worker/worker_help.h"

/* A worker's hands: a step leased from the queue and all it needs, without the pool. */
struct hand {
    struct bed *b;
    struct dr_store *store;
    struct dr_layout *layout;
    struct dr_batch *batch;
    struct dr_step_env env;
    struct dr_lease lease;
    struct dr_step_run *run;
    struct dr_step_report report;
    uint64_t items_max;
    uint64_t moved; /* items all batches told of */
    unsigned asked; /* times still_mine was asked */
    /* What happens between archiving and erasing, at the n-th time it is asked. */
    void (*meddle)(struct hand *h);
    unsigned meddle_at;
    enum dr_code answer; /* DR_OK: still mine */
};

static DR_UNUSED enum dr_code ask_hand(void *arg, struct dr_err *err)
{
    struct hand *h = arg;
    h->asked++;
    if (h->meddle != NULL && h->asked == h->meddle_at) {
        h->meddle(h);
    }
    return h->answer == DR_OK ? DR_OK : dr_fail(err, h->answer, "no longer, says the test");
}

static DR_UNUSED void make_hand(struct hand *h, struct bed *b, uint64_t items_max)
{
    *h = (struct hand){.b = b, .items_max = items_max};
    MUST(b, dr_store_open(b->url, &h->store, &b->err));
    MUST(b, dr_layout_create(&h->layout, &b->err));
    MUST(b, dr_batch_create(&h->batch, &b->err));
    h->env = (struct dr_step_env){.store = h->store,
                                  .layout = h->layout,
                                  .batch = h->batch,
                                  .data_dir = b->dir,
                                  .still_mine = ask_hand,
                                  .arg = h};
}

static DR_UNUSED void free_hand(struct hand *h)
{
    dr_step_end(h->run);
    dr_lease_fini(&h->lease);
    dr_batch_destroy(h->batch);
    dr_layout_destroy(h->layout);
    dr_store_close(h->store);
}

static DR_UNUSED void take(struct hand *h, uint32_t lease_ms)
{
    uint32_t count = 0;
    struct dr_lease_rules rules = {.worker = "hand", .lease_ms = lease_ms, .per_node_default = 1};
    MUST(h->b, dr_queue_lease(h->b->q, &rules, &h->lease, 1, &count, &h->b->err));
    assert_int_equal(count, 1);
}

static DR_UNUSED enum dr_code begin(struct hand *h)
{
    return dr_step_begin(&h->env, &h->lease, &h->run, &h->b->err);
}

static DR_UNUSED enum dr_code one_batch(struct hand *h)
{
    struct dr_budget budget = {
        .items_max = h->items_max, .bytes_max = 1 << 20, .ms_max = 10000, .with_values = true};
    enum dr_code rc = dr_step_batch(h->run, &budget, &h->report, &h->b->err);
    h->moved += rc == DR_OK ? h->report.items : 0;
    return rc;
}

/* All batches to the end, or to the first failure. */
static DR_UNUSED enum dr_code all_batches(struct hand *h)
{
    enum dr_code rc = DR_OK;
    h->report.is_done = false;
    while (rc == DR_OK && !h->report.is_done) {
        rc = one_batch(h);
    }
    return rc;
}

static DR_UNUSED void finish(struct hand *h, enum dr_outcome outcome)
{
    struct dr_finish f = {.outcome = outcome, .error = outcome == DR_OUT_DONE ? NULL : "a test"};
    dr_step_end(h->run);
    h->run = NULL;
    MUST(h->b, dr_queue_finish(h->b->q, &h->lease, &f, true, &h->b->err));
    dr_lease_fini(&h->lease);
}

/* The process dies here: nothing is saved, the lease runs out, another worker takes the step. */
static DR_UNUSED void crash(struct hand *h)
{
    uint64_t moved = 0;
    dr_step_end(h->run);
    h->run = NULL;
    dr_lease_fini(&h->lease);
    (void)dr_wait_ms(5, NULL, NULL);
    MUST(h->b, dr_queue_sweep(h->b->q, &moved, &h->b->err));
    assert_int_equal(moved, 1);
}

/* Lease and do whole steps until nothing is runnable. */
static DR_UNUSED void do_all(struct hand *h)
{
    struct dr_lease_rules rules = {
        .worker = "hand", .lease_ms = LEASE_LONG_MS, .per_node_default = 1};
    for (;;) {
        uint32_t count = 0;
        MUST(h->b, dr_queue_lease(h->b->q, &rules, &h->lease, 1, &count, &h->b->err));
        if (count == 0) {
            return;
        }
        MUST(h->b, begin(h));
        MUST(h->b, all_batches(h));
        finish(h, DR_OUT_DONE);
    }
}

static DR_UNUSED const char *archive_of(const struct hand *h, char *path, size_t bytes)
{
    return dr_archive_path(h->b->dir, h->lease.op_id, h->lease.step_id, path, bytes);
}

static DR_UNUSED void expect_message(struct bed *b, enum dr_code rc, enum dr_code code,
                                     const char *part)
{
    assert_int_equal(rc, code);
    assert_has(b->err.msg, part);
}

#endif
