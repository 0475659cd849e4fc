/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a purge: rows, scans over the table, nodes with their queues, the run. For this
 * folder and its tests. One thread. */
#ifndef DR_TOKENSERVER_PURGE_PRIVATE_H
#define DR_TOKENSERVER_PURGE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "store/http.h"
#include "store/sqldb.h"
#include "tokenserver/breaker.h"
#include "tokenserver/purge.h"

#define DR_PURGE_SERVICE "sync-1.5"

/* Numbers that no option sets; tests make them small. */
struct dr_purge_tuning {
    struct dr_backoff retry; /* between tries of one row */
    uint32_t tries_max;      /* of one row in one run */
    uint64_t breaker_ms;     /* 0: the option's seconds */
    uint64_t pause_ms_max;   /* a longer Retry-After ends the node's part in this run */
    uint32_t erase_rows_max; /* records that one DELETE takes */
    uint64_t erase_wait_ms;  /* how long a confirmed record may wait for company */
};

enum dr_purge_reason {
    DR_PURGE_HTTP_5XX,
    DR_PURGE_HTTP_4XX,
    DR_PURGE_HTTP_OTHER,
    DR_PURGE_TIMEOUT,
    DR_PURGE_CONNECT,
    DR_PURGE_UNKNOWN,
};

/* Why a record may go. */
enum dr_purge_kind { DR_PURGE_NODELESS, DR_PURGE_NOT_DOWN, DR_PURGE_FORCED, DR_PURGE_KINDS };

struct dr_purge_node;

struct dr_purge_row {
    int64_t uid, generation, replaced_at, keys_changed_at;
    bool has_keys_changed_at;
    bool is_forced; /* its node is down */
    bool is_probe;  /* the request in flight is its node's probe */
    uint32_t tries;
    enum dr_purge_reason reason; /* of the last failure */
    dr_mono_ms not_before;       /* of the next try */
    const char *email, *client_state;
    struct dr_purge_node *node;       /* whom to ask */
    struct dr_purge_row *next, *prev; /* prev only while its request is open */
    char text[];                      /* email, client_state */
};

struct dr_purge_list {
    struct dr_purge_row *head, *tail;
    uint32_t count;
};
void dr_purge_list_push(struct dr_purge_list *l, struct dr_purge_row *row);
struct dr_purge_row *dr_purge_list_pop(struct dr_purge_list *l); /* NULL when empty */
void dr_purge_list_clear(struct dr_purge_list *l);

/* A place in the order of the walk. */
struct dr_purge_key {
    int64_t replaced_at, uid;
};

/* A walk forward over the eligible rows, in the order of the index (service, replaced_at) and uid:
 * what was passed is not fetched again, whatever became of it. With an offset it begins there and
 * ends with what it left out. */
struct dr_purge_scan {
    bool has_from, has_upto, is_done;
    struct dr_purge_key from; /* the last key fetched */
    struct dr_purge_key upto; /* exclusive */
    uint64_t offset;          /* of the next fetch */
    bool is_turning;          /* after the end: from the start up to `first` */
    bool has_first;
    struct dr_purge_key first;
    int64_t *previous; /* uids of the last batch */
    size_t previous_count;
};

struct dr_purge_node {
    int64_t id;       /* users.nodeid; of no meaning for the override node */
    bool is_override; /* stands for all nodes that are down */
    char *url;
    struct dr_breaker breaker; /* lives on between runs */

    /* The rest is of this run. */
    struct dr_purge_list fresh, retries;
    uint32_t in_flight;
    dr_mono_ms pause_until;
    uint32_t openings;
    bool is_dead;  /* no more requests in this run */
    bool has_scan; /* walks its rows by itself; the main walk leaves them out */
    struct dr_purge_scan scan;
    uint32_t answers, not_found;
};

/* A record whose data is gone, waiting for its DELETE. */
struct dr_purge_gone {
    int64_t uid, replaced_at;
};

struct dr_tokenserver {
    struct dr_tokenserver_options o;
    char *database_url, *secret, *override_node;
    struct dr_purge_tuning tuning;
    struct dr_breaker_rule breaker_rule;
    struct dr_log *log;
    struct dr_statsd *statsd;
    struct dr_sqldb *db; /* NULL until the first run, and after a lost connection */
    struct dr_http *http;
    int64_t service_id;
    struct dr_purge_node **node; /* pointers: rows keep them */
    size_t node_count, node_room;
    size_t turn; /* whose turn it is to start a request */

    /* The rest is of this run. */
    dr_wall_ms cutoff; /* eligible: replaced before */
    bool (*should_stop)(void *arg);
    void *stop_arg;
    bool is_stopping;
    bool is_denied;              /* a node refused our signature */
    struct dr_purge_row *flying; /* rows whose requests are open */
    struct dr_purge_scan scan;
    struct dr_purge_gone *gone[DR_PURGE_KINDS];
    uint32_t gone_count[DR_PURGE_KINDS], gone_room[DR_PURGE_KINDS];
    dr_mono_ms gone_since;
    uint64_t claimed;   /* counted rows that are done or under way */
    uint64_t confirmed; /* counted rows that are done */
    int64_t *deferred;  /* sorted uids, kept when a deferred row stays eligible */
    size_t deferred_count, deferred_room;
    struct dr_tokenserver_result result;
};

/* ---- purge.c ---- */
void dr_purge_tune(struct dr_tokenserver *t, const struct dr_purge_tuning *tuning);

/* ---- rows.c: the table ---- */
/* Fills service_id, result.backlog and result.skipped_downed. */
DR_MUST enum dr_code dr_purge_survey(struct dr_tokenserver *t, struct dr_err *err);
/* One batch of `scan`; `node` NULL: the main walk, which leaves out nodes with walks of their own.
 * Rows go to their nodes' queues, nodeless ones to `gone`. */
DR_MUST enum dr_code dr_purge_fetch(struct dr_tokenserver *t, struct dr_purge_node *node,
                                    struct dr_purge_scan *scan, struct dr_err *err);
/* Would deleting this row's data on the override node delete data that is in use? */
DR_MUST enum dr_code dr_purge_is_active(struct dr_tokenserver *t, const struct dr_purge_row *row,
                                        bool *is_active_out, struct dr_err *err);
/* Delete the records in `gone`; counts and metrics. */
DR_MUST enum dr_code dr_purge_erase_gone(struct dr_tokenserver *t, struct dr_err *err);
/* Push a failing row's replaced_at to now. Its own failure is counted and logged, no more. */
void dr_purge_defer(struct dr_tokenserver *t, const struct dr_purge_row *row);
/* Is a batch the same as the one before? Pure. */
bool dr_purge_is_same_batch(const int64_t *before, size_t before_count, const int64_t *now,
                            size_t now_count);
void dr_purge_scan_fini(struct dr_purge_scan *scan);

/* ---- nodes.c ---- */
DR_MUST enum dr_code dr_purge_find_node(struct dr_tokenserver *t, int64_t id, const char *url,
                                        bool is_override, struct dr_purge_node **out,
                                        struct dr_err *err);
bool dr_purge_node_is_blocked(const struct dr_purge_node *n, dr_mono_ms now);
uint32_t dr_purge_node_waiting(const struct dr_purge_node *n);
/* Is there anything left to do for it in this run? */
bool dr_purge_node_is_pending(const struct dr_purge_node *n);
/* Nothing more of this node in this run: rows that failed before are deferred, the others stay as
 * they are for the next run. */
void dr_purge_give_up(struct dr_tokenserver *t, struct dr_purge_node *n, const char *why);
/* Give it a walk of its own from where the main walk stands. */
DR_MUST enum dr_code dr_purge_split_off(struct dr_tokenserver *t, struct dr_purge_node *n,
                                        struct dr_err *err);
void dr_purge_reset_nodes(struct dr_tokenserver *t);
void dr_purge_destroy_nodes(struct dr_tokenserver *t);

/* ---- request.c: one row's request ---- */
/* Starts the request, or ends the row at once where none is needed or possible. */
DR_MUST enum dr_code dr_purge_start_row(struct dr_tokenserver *t, struct dr_purge_row *row,
                                        struct dr_err *err);
DR_MUST enum dr_code dr_purge_take_answer(struct dr_tokenserver *t, const struct dr_http_answer *a,
                                          struct dr_err *err);
/* The row's data is gone; frees the row. */
DR_MUST enum dr_code dr_purge_confirm(struct dr_tokenserver *t, struct dr_purge_row *row,
                                      enum dr_purge_kind kind, struct dr_err *err);
/* The row failed for good in this run: counted, deferred, freed. */
void dr_purge_fail_row(struct dr_tokenserver *t, struct dr_purge_row *row);
const char *dr_purge_reason_name(enum dr_purge_reason reason);

/* ---- work.c: the loop ---- */
DR_MUST enum dr_code dr_purge_work(struct dr_tokenserver *t, struct dr_err *err);

#endif
