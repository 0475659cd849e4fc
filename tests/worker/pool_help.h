/* SPDX-License-Identifier: Apache-2.0 */
/* Running the whole pool in a test: to its end, or beside the test in a thread of its own. */
#ifndef TESTS_WORKER_POOL_HELP_H
#define TESTS_WORKER_POOL_HELP_H

#include <pthread.h>

#include "worker/worker_help.h"

enum { PATIENCE_MS = 20000 }; /* for what must come, on the slowest machine */

struct pool_run {
    struct bed *b;
    struct dr_pool_config config;
    atomic_bool stop;
    pthread_t thread;
    enum dr_code rc;
    struct dr_err err;
};

static DR_UNUSED void make_run(struct pool_run *r, struct bed *b, int64_t until_op)
{
    *r = (struct pool_run){.b = b};
    r->config = (struct dr_pool_config){.queue = b->q,
                                        .threads = 4,
                                        .tries_max = 3,
                                        .retry_first_ms = 2,
                                        .retry_max_ms = 20,
                                        .until_op = until_op,
                                        .ask_stop = &r->stop};
}

/* Work on one operation until it has ended, or can go no further. */
static DR_UNUSED void run_op(struct bed *b, int64_t op)
{
    struct pool_run r;
    make_run(&r, b, op);
    MUST(b, dr_pool_run(&r.config, &b->err));
}

static DR_UNUSED void *pool_main(void *arg)
{
    struct pool_run *r = arg;
    r->rc = dr_pool_run(&r->config, &r->err);
    return NULL;
}

static DR_UNUSED void start_run(struct pool_run *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, pool_main, r), 0);
}

/* Wait for an end that comes by itself. */
static DR_UNUSED void join_run(struct pool_run *r)
{
    assert_int_equal(pthread_join(r->thread, NULL), 0);
    if (r->rc != DR_OK) {
        print_error("the pool: %s\n", r->err.msg);
        fail();
    }
}

static DR_UNUSED void stop_run(struct pool_run *r)
{
    atomic_store(&r->stop, true);
    assert_int_equal(pthread_join(r->thread, NULL), 0);
    assert_int_equal(r->rc, DR_STOPPED);
}

/* Does the operation's state fit? */
typedef bool (*op_test)(const struct dr_op *op, const void *arg);

static DR_UNUSED bool has_status(const struct dr_op *op, const void *arg)
{
    return op->status == *(const enum dr_op_status *)arg;
}

static DR_UNUSED bool has_done(const struct dr_op *op, const void *arg)
{
    return op->items_done >= *(const uint64_t *)arg;
}

static DR_UNUSED bool is_waiting_for(const struct dr_op *op, const void *arg)
{
    return strstr(op->waiting, arg) != NULL;
}

/* Look every few milliseconds until it fits; gives the milliseconds that took. */
static DR_UNUSED uint64_t await_op(struct bed *b, int64_t op, op_test fits, const void *arg)
{
    dr_mono_ms begin = dr_mono_now();
    for (;;) {
        struct dr_op o = op_now(b, op);
        dr_mono_ms passed = dr_mono_now() - begin;
        if (fits(&o, arg)) {
            return (uint64_t)passed;
        }
        if (passed > PATIENCE_MS) {
            print_error("it never came: status %s, done %llu, waiting: %s; reason: %s\n",
                        dr_op_status_name(o.status), (unsigned long long)o.items_done, o.waiting,
                        o.wish_reason);
            fail();
        }
        (void)dr_wait_ms(3, NULL, NULL);
    }
}

static DR_UNUSED uint64_t await_status(struct bed *b, int64_t op, enum dr_op_status status)
{
    return await_op(b, op, has_status, &status);
}

static DR_UNUSED void await_done(struct bed *b, int64_t op, uint64_t items)
{
    (void)await_op(b, op, has_done, &items);
}

static DR_UNUSED void tune(struct bed *b, int64_t op, const char *tuning, int32_t priority)
{
    MUST(b, dr_queue_tune(b->q, op, tuning, priority, "tester@here", &b->err));
}

/* Roll it back and look whether everything is as it was laid out. */
static DR_UNUSED void roll_back(struct bed *b, int64_t op)
{
    wish(b, op, DR_WISH_ROLLBACK);
    run_op(b, op);
    expect_status(b, op, DR_O_ROLLED_BACK);
    assert_int_equal(dr_memory_checksum(b->name, ORDERS), b->sum);
    struct dr_op o = op_now(b, op);
    assert_int_equal(o.items_undone, o.items_done);
    assert_int_equal(o.items_conflict, 0);
}

#endif
