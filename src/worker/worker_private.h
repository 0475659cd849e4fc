/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the worker pool. */
#ifndef DR_WORKER_PRIVATE_H
#define DR_WORKER_PRIVATE_H

#include <pthread.h>

#include "request/request.h"
#include "step/step.h"
#include "worker/worker.h"

enum {
    CONTROL_OPS_MAX = 128,
    CONTROL_LANES_MAX = 256,
    CONTROL_UNSEEN_MAX = 256,
    CONTROL_REFRESH_MS = 200,
    WORKER_THREADS_MAX = 64,
    WORKER_STORES_MAX = 8,
};

/* --- pace: pure ----------------------------------------------------------------------------------
 */

/* How many items the next batch takes: steered by the time of the last ones. */
struct dr_pace {
    uint64_t items; /* 0: nothing measured yet */
};
uint64_t dr_pace_items(const struct dr_pace *p, const struct dr_tuning *t);
/* A batch of `read` items took `ms`; `was_full` when it ended at its item limit. */
void dr_pace_note(struct dr_pace *p, const struct dr_tuning *t, uint64_t read, double ms,
                  bool was_full);

/* --- retry: pure ---------------------------------------------------------------------------------
 */

struct dr_retry_rules {
    uint32_t tries_max;
    uint32_t first_ms, max_ms;
};
struct dr_retry_plan {
    enum dr_outcome outcome;
    uint64_t delay_ms;
    bool is_lane_wide; /* the node is to blame: leave its other steps alone too */
    bool is_silent;    /* the lease is gone or given back: no finish with an error */
};
/* What follows a failure with `code` after `tries` failures in a row before it. */
struct dr_retry_plan dr_retry_decide(enum dr_code code, uint32_t tries,
                                     const struct dr_retry_rules *rules, uint64_t random);

/* --- control: what is wished and allowed, shared by all threads
 * ----------------------------------- */

struct op_control {
    int64_t op_id;
    enum dr_wish wish;
    uint64_t tuning_version;
    struct dr_tuning tuning;
    uint64_t max_items; /* 0: none */
    double drift;
    uint64_t estimated;
    uint64_t drift_limit; /* items_done beyond it pause the operation */
    uint64_t done;        /* items erased as this process counts them */
    uint64_t reserved;    /* by batches in flight */
    uint64_t unseen;      /* granted to erases whose reply was lost, until that is resolved */
    int64_t next_at_us;   /* rate limit: no batch before this moment (dr_mono_us) */
    bool is_loaded;
    bool has_ended;
    char guard_reason[DR_REASON_BYTES]; /* drover itself paused it: why */
    char held_reason[DR_REASON_BYTES];  /* a command said "not now": why, until held_until */
    dr_mono_ms held_until;
};

struct lane_control { /* a node that shall be left alone for a while */
    char store_url[DR_URL_BYTES];
    char node[DR_NAME_BYTES];
    dr_mono_ms until;
    uint32_t failures;
    char reason[DR_REASON_BYTES];
    int64_t op_id; /* whose step met the reason */
};

struct unseen_erase {
    int64_t op_id, step_id; /* 0: a free place */
    uint64_t items;
};

struct dr_control {
    struct dr_queue *queue;
    struct dr_log *log;
    int64_t only_op; /* work on this one alone; 0: on all */
    pthread_mutex_t mutex;
    unsigned op_count, lane_count;
    struct op_control op[CONTROL_OPS_MAX];
    struct lane_control lane[CONTROL_LANES_MAX];
    struct unseen_erase unseen[CONTROL_UNSEEN_MAX];
    char global_reason[DR_REASON_BYTES]; /* why nothing at all may start, or "" */
};

/* `only_op` limits the pool to one operation; 0: all. */
DR_MUST enum dr_code dr_control_create(struct dr_queue *q, struct dr_log *log, int64_t only_op,
                                       struct dr_control **out, struct dr_err *err);
void dr_control_destroy(struct dr_control *c);
/* Read an operation's wish and tuning; loads what is new. */
DR_MUST enum dr_code dr_control_load(struct dr_control *c, int64_t op_id, struct dr_err *err);
/* Refresh all that are under way; note why they wait. */
void dr_control_refresh(struct dr_control *c);
bool dr_control_get(struct dr_control *c, int64_t op_id, struct op_control *out);
/* For dr_lease_rules: arg is the struct dr_control. */
bool dr_control_may_start(void *arg, int64_t op_id, const char *store_url, const char *node);
/* Ask for at most `want` items. 0 with the reason in `why` when the operation must wait or was just
 * paused by a guard; 0 without a reason when max_items is spent or spoken for: then one may only
 * look whether anything is left. Give back with dr_control_settle. */
uint64_t dr_control_reserve(struct dr_control *c, int64_t op_id, uint64_t want, char *why,
                            size_t why_bytes);
/* The reply to an erase of up to `items` was lost: they count against max_items until somebody has
 * seen what it did, or has given the step up. */
void dr_control_unseen(struct dr_control *c, const struct dr_lease *l, uint64_t items);
void dr_control_seen(struct dr_control *c, const struct dr_lease *l);
/* Something is left that max_items does not allow: pause, unless others may yet give back. */
void dr_control_spent(struct dr_control *c, int64_t op_id);
void dr_control_settle(struct dr_control *c, int64_t op_id, uint64_t reserved, uint64_t erased);
/* Rate limit: microseconds to wait now; and charging what was done. */
int64_t dr_control_rate_wait_us(struct dr_control *c, int64_t op_id, int64_t now_us);
void dr_control_rate_charge(struct dr_control *c, int64_t op_id, uint64_t items, int64_t now_us);
/* A command of this operation said "not now" and is asked again after `ms`. */
void dr_control_held(struct dr_control *c, int64_t op_id, uint64_t ms, const char *reason);
void dr_control_lane_brake(struct dr_control *c, const struct dr_lease *l, uint64_t ms,
                           const char *reason, bool is_failure);
uint32_t dr_control_lane_failures(struct dr_control *c, const struct dr_lease *l);
void dr_control_lane_clear(struct dr_control *c, const struct dr_lease *l);
void dr_control_global(struct dr_control *c, const char *reason);

/* --- the pool ------------------------------------------------------------------------------------
 */

struct pool;

/* A thread's place: what it holds, so that the keeper can prolong it. */
struct worker {
    struct pool *pool;
    pthread_t thread;
    bool is_started;
    char name[DR_NAME_BYTES];
    pthread_mutex_t mutex; /* the next three */
    bool holds;
    bool is_lost;
    struct dr_lease held; /* ids and token only */
    atomic_int_fast64_t until;
    /* the thread's own */
    struct dr_batch *batch;
    struct dr_pace pace;
    int64_t request_op; /* whose request is kept */
    char *request;
    unsigned store_count;
    struct worker_store {
        char *url;
        struct dr_store *store;
        struct dr_layout *layout;
        char health_node[DR_NAME_BYTES];
        dr_mono_ms health_until; /* a good reading of health_node holds until then */
    } store[WORKER_STORES_MAX];
};

/* --- what is counted -----------------------------------------------------------------------------
 */

struct pool_metrics {
    struct dr_metric *items[2];                        /* [0] erased, [1] put back */
    struct dr_metric *batches[DR_STEP_KIND_COUNT + 1]; /* by kind of step; the last: undo */
    struct dr_metric *ends[DR_OUT_QUARANTINE + 1];
};
void dr_pool_metrics_init(struct pool_metrics *p, struct dr_metrics *m); /* m may be NULL */
void dr_pool_count_batch(const struct pool_metrics *p, const struct dr_lease *l, uint64_t count,
                         double ms);
void dr_pool_count_end(const struct pool_metrics *p, enum dr_outcome outcome);

struct pool {
    struct pool_metrics metrics;
    const struct dr_pool_config *config;
    struct dr_control *control;
    struct dr_retry_rules retry;
    uint32_t lease_ms;
    uint32_t threads;
    atomic_bool is_stopping;
    atomic_bool are_workers_gone;      /* until then leases are prolonged */
    atomic_int_fast64_t failing_since; /* the queue fails since then (mono ms); 0: it works */
    pthread_mutex_t mutex;
    struct dr_err fatal; /* the first failure that ends the pool */
    struct worker worker[WORKER_THREADS_MAX];
};

void *dr_worker_main(void *arg); /* arg: struct worker */
void dr_worker_fini(struct worker *w);
/* Does this thread have to come to an end? Fits dr_wait_ms. */
bool dr_pool_is_over(void *arg); /* arg: struct pool */
/* Every result of a queue call passes here: one that cannot heal, or fails for long, ends all. */
void dr_pool_note(struct pool *p, enum dr_code rc, const struct dr_err *err);

#endif
