/* SPDX-License-Identifier: Apache-2.0 */
/* Purging obsolete user records of a token server, and the data behind them on storage nodes.
 *
 * Rules: shared facts of the reference script (purge_old_records.py) and its manual. The database
 * is the queue: a row goes only after its node confirmed the deletion, so a crash at any line
 * repeats a DELETE and loses nothing. Requests to many nodes run at once, each node with its own
 * breaker. */
#ifndef DR_TOKENSERVER_PURGE_H
#define DR_TOKENSERVER_PURGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "obs/log.h"
#include "obs/statsd.h"

struct dr_tokenserver_options {
    const char *database_url;
    const char *secret;         /* wiped by nobody: the caller's */
    uint64_t purge_interval_s;  /* 3600 */
    int64_t grace_period_s;     /* 86400; negative: records replaced up to that far in the future */
    uint64_t max_per_loop;      /* 10 */
    uint64_t max_offset;        /* 0 */
    uint64_t max_records;       /* 0: no limit */
    uint64_t request_timeout_s; /* 60 */
    bool is_oneshot;
    bool is_dry_run;
    bool is_forced;
    const char *override_node; /* NULL: none */
    bool has_range_start, has_range_end;
    int64_t range_start, range_end; /* uid, as the reference bounds them: uid > start, uid <= end */
    uint32_t requests_max;          /* at once, over all nodes; 16 */
    uint32_t requests_per_node_max; /* 4 */
    uint32_t breaker_failures;      /* failures in a row that open a node's breaker; 5 */
    uint64_t breaker_s;             /* how long it stays open; 60, doubled up to 10 min */
};
void dr_tokenserver_options_default(struct dr_tokenserver_options *o);

struct dr_tokenserver_result {
    uint64_t fetched, purged, nodeless, skipped_downed, deferred, failed;
    uint64_t backlog; /* eligible at the start */
    bool is_limit_reached;
    uint64_t ms;
};

struct dr_tokenserver;
DR_MUST enum dr_code dr_tokenserver_create(const struct dr_tokenserver_options *o,
                                           struct dr_log *log, struct dr_statsd *statsd,
                                           struct dr_tokenserver **out, struct dr_err *err);
void dr_tokenserver_destroy(struct dr_tokenserver *t); /* accepts NULL */
/* One run over what is eligible now. `should_stop` is asked between requests: the open ones are
 * awaited, then DR_STOPPED. */
DR_MUST enum dr_code dr_tokenserver_run_once(struct dr_tokenserver *t,
                                             bool (*should_stop)(void *arg), void *arg,
                                             struct dr_tokenserver_result *out, struct dr_err *err);
/* Runs, and sleeps the interval +-30 % in between, until oneshot, max_records or should_stop. */
DR_MUST enum dr_code dr_tokenserver_run(struct dr_tokenserver *t, bool (*should_stop)(void *arg),
                                        void *arg, struct dr_tokenserver_result *out,
                                        struct dr_err *err);

#endif
