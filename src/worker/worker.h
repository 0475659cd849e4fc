/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool: leases steps, asks the brakes, does one batch, saves, repeats.
 *
 * The pool belongs to the owner of a data folder. Threads: `threads` workers, one keeper (sweeps,
 * heartbeats, reads wishes and tuning, runs due cleanups). A pause or stop bites within one batch
 * or one second, whichever is longer. */
#ifndef DR_WORKER_WORKER_H
#define DR_WORKER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "queue/queue.h"
#include "store/world.h"

struct dr_pool_config {
    struct dr_queue *queue; /* owned by the caller, already dr_queue_own()ed */
    struct dr_log *log;
    struct dr_metrics *metrics;            /* NULL: nobody counts */
    const struct dr_store_world *world;    /* for dr_store_open_in; NULL: an empty one */
    uint32_t threads;                      /* 0: 4 */
    uint32_t lease_ms;                     /* 0: 8000 */
    uint32_t tries_max;                    /* failures in a row before quarantine; 0: 10 */
    uint32_t retry_first_ms, retry_max_ms; /* 0: 200 and 60000 */
    int64_t until_op; /* work on this operation alone, and return when it has ended or is blocked
                         or paused for good; 0: on all, until nothing is left to do */
    bool is_forever;  /* ignore both and run until asked to stop */
    const atomic_bool *ask_stop; /* set by a signal handler: finish the batch, release, return */
    /* Called by the pool's own caller thread about 5 times a second; may be NULL. */
    void (*tick)(void *arg);
    void *tick_arg;
};

/* Run until the end described above. Blocks. DR_OK also when the operation ended badly: look at its
 * status; DR_STOPPED when ask_stop ended it; other codes when the queue itself failed. */
DR_MUST enum dr_code dr_pool_run(const struct dr_pool_config *c, struct dr_err *err);

#endif
