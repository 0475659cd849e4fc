/* SPDX-License-Identifier: Apache-2.0 */
/* A peer of the catalog's cluster as the doors see it: the Raft node, the other peers over HTTP,
 * and the points of the shards that live here. REST, gRPC and the command line call the same
 * functions.
 *
 * Any thread may call anything. Calls that change something block until the change is applied here
 * (or the time is over), whichever peer leads: a follower hands the entry to the leader's API. */
#ifndef DR_CLUSTER_CLUSTER_H
#define DR_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "catalog/catalog.h"
#include "catalog/raft_node.h"
#include "obs/log.h"
#include "obs/metrics.h"

enum { DR_CLUSTER_TIMEOUT_MS = 10 * 1000 };

struct dr_cluster_config {
    const char *dir;         /* DIR/cluster */
    uint64_t raft_id;        /* 0: 1 */
    const char *raft_listen; /* NULL: stand-alone, nobody can join */
    const char *api_uri;     /* how others reach this peer's HTTP API: "http://127.0.0.1:8350" */
    bool is_bootstrap;
    const char *join_uri;    /* the API of any member; NULL: none */
    const char *raft_secret; /* as struct dr_node_config has it; NULL: none */
    bool is_raft_open;
    const char *peer_token; /* bearer token that peers show each other; NULL: none */
    /* Where the points of this peer's shards are: NULL or "sqlite:" for files in dir, or the URL of
     * a database of this peer alone. */
    const char *points_store;
    struct dr_log *log;
    struct dr_metrics *metrics; /* may be NULL */
};

struct dr_cluster;
/* Starts the node, announces this peer (URI, format, version) and joins. Returns when the peer
 * runs; joining goes on behind it with back-off. */
DR_MUST enum dr_code dr_cluster_start(const struct dr_cluster_config *config,
                                      struct dr_cluster **out, struct dr_err *err);
void dr_cluster_stop(struct dr_cluster *c);                 /* accepts NULL */
bool dr_cluster_is_distributed(const struct dr_cluster *c); /* a listener, so peers can join */
struct dr_catalog *dr_cluster_catalog(const struct dr_cluster *c); /* dr_catalog_unref */
uint64_t dr_cluster_peer_id(const struct dr_cluster *c);
/* {"status": "enabled", "peer_id", "peers", "raft_info", ...} as the REST facts say. */
json_t *dr_cluster_info(struct dr_cluster *c);
/* Ready: a leader is known, everything committed at the first look is applied. */
bool dr_cluster_is_ready(struct dr_cluster *c, char *why, size_t why_bytes);

/* How a call failed, for the envelope: the classes of the facts page, table 1.1. */
enum dr_cluster_class {
    DR_CLASS_OK,
    DR_CLASS_BAD_INPUT,
    DR_CLASS_BAD_REQUEST,
    DR_CLASS_EXISTS,
    DR_CLASS_NOT_FOUND,
    DR_CLASS_FORBIDDEN,
    DR_CLASS_STANDALONE,
    DR_CLASS_TIMEOUT,
    DR_CLASS_UNAVAILABLE,
    DR_CLASS_SERVICE
};
struct dr_cluster_reply {
    enum dr_cluster_class class;
    char message[DR_ERR_BYTES]; /* with the class's prefix, as clients match it */
    json_t *result;             /* of a success; the caller's */
};
void dr_cluster_reply_fini(struct dr_cluster_reply *r);

/* Who asks, and for how long to wait. */
struct dr_cluster_caller {
    const char *who;     /* for the audit; NULL: unknown */
    uint64_t timeout_ms; /* 0: DR_CLUSTER_TIMEOUT_MS */
};

/* The verbs. `body` is the request's JSON or NULL; replies are those of the REST facts. */
typedef void dr_cluster_verb(struct dr_cluster *c, const struct dr_cluster_caller *who,
                             const char *collection, const json_t *body,
                             struct dr_cluster_reply *reply);
dr_cluster_verb dr_cluster_list_collections;
dr_cluster_verb dr_cluster_collection_exists;
dr_cluster_verb dr_cluster_create_collection;
dr_cluster_verb dr_cluster_get_collection;
dr_cluster_verb dr_cluster_update_collection;
dr_cluster_verb dr_cluster_delete_collection;
dr_cluster_verb dr_cluster_collection_cluster; /* GET /collections/{c}/cluster */
dr_cluster_verb dr_cluster_cluster_op;         /* POST /collections/{c}/cluster */
dr_cluster_verb dr_cluster_list_keys;
dr_cluster_verb dr_cluster_create_key;
dr_cluster_verb dr_cluster_drop_key; /* the last key: refused; the promoted one: needs
                                        "confirm_drop_promoted": true */
/* Phases of the requirement: dispatcher validation (exists, auto, no resharding, no transfers, all
 * replicas stable, quorum, all peers reachable and new enough), one entry, applied everywhere, then
 * waits (best effort) until every reachable peer has applied it. Result: {"promoted": bool,
 * "default_shard_key", "shards": N, "shard_number_means": "shards per key"}; and progress in
 * dr_cluster_promotions. */
dr_cluster_verb dr_cluster_promote;
dr_cluster_verb dr_cluster_promotions; /* status of promotions: started, phase, ended, error */
dr_cluster_verb dr_cluster_aliases;    /* POST /collections/aliases */
dr_cluster_verb dr_cluster_list_aliases;
dr_cluster_verb dr_cluster_route; /* {"ids": [...], "shard_key"?} -> [{id, shard_id, shard_key?,
                                     replicas: [{peer_id, state, uri, store, table}]}] */
void dr_cluster_remove_peer(struct dr_cluster *c, const struct dr_cluster_caller *who, uint64_t id,
                            bool is_forced, struct dr_cluster_reply *reply);
void dr_cluster_recover(struct dr_cluster *c, struct dr_cluster_reply *reply);
void dr_cluster_transfer_leader(struct dr_cluster *c, uint64_t id, struct dr_cluster_reply *reply);

/* Points: routed to the peers that hold the shards, written to all replicas that take writes
 * (write_consistency_factor must confirm; a replica that fails becomes Dead by an entry), read from
 * one readable replica. Bodies as in REST. */
dr_cluster_verb dr_points_upsert;
dr_cluster_verb dr_points_get;    /* {"ids", "shard_key"?, "with_payload"?, "with_vector"?} */
dr_cluster_verb dr_points_delete; /* {"points": [ids], "shard_key"?} */
dr_cluster_verb dr_points_count;
dr_cluster_verb dr_points_scroll;

/* What peers ask each other: POST /internal/{name}, only with the peer token. `name`: "propose",
 * "join", "commit", "points/write", "points/read", ... DR_NOT_FOUND for another name. */
void dr_cluster_internal(struct dr_cluster *c, const char *name, const json_t *body,
                         struct dr_cluster_reply *reply);

#endif
