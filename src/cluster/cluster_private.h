/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a peer share.
 *
 * Threads: any caller's thread, the node's thread (only in on_change, which wakes the keeper and
 * does nothing else), and the keeper, which announces, joins, copies shards and clears away files.
 * Locks, never across a call to a peer: shards.lock for moments only; one shard's lock, under it
 * the pool's. */
#ifndef DR_CLUSTER_PRIVATE_H
#define DR_CLUSTER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sql.h"
#include "base/str.h"
#include "cluster/cluster.h"
#include "store/http.h"
#include "store/sqldb.h"

enum {
    PEER_ANSWER_BYTES_MAX = 64 * 1024 * 1024,
    PEER_LOOK_MS = 3000,           /* is a peer there? */
    PEER_SETTLE_MS_MAX = 5000,     /* how long a change waits for the slowest peer */
    PEER_WRITE_MS = 5000,          /* a replica that has not answered by then counts as failed */
    POINT_BYTES_MAX = 1024 * 1024, /* of one point's vector and payload as JSON */
    POINTS_CHUNK_BYTES = 2 * 1024 * 1024, /* points in one message between peers */
    POINTS_CHUNK_MAX = 1000,
    POINTS_PAGE_MAX = 10000, /* of one scroll */
    POINTS_IDS_MAX = 100000, /* of one request */
    STALE_TRIES_MAX = 20,
    SHARDS_OPEN_MAX = 128,
    PROMOTIONS_KEPT = 64,
};

/* --- between peers -----------------------------------------------------------------------------
 */
/* One question to one peer. */
struct peer_call {
    uint64_t peer_id;
    char uri[DR_URI_BYTES_MAX]; /* "" when the catalog has none */
    const char *name;           /* of the internal call */
    json_t *body;               /* the caller's */
    bool is_once;               /* must not be sent twice */
    void *tag;                  /* the caller's */
    /* What came of it. */
    enum dr_http_failure failure; /* DR_HTTP_NONE: an answer came, in reply */
    struct dr_cluster_reply reply;
    char detail[256];
};
/* How questions travel; tests put their own in. Fills failure, reply, detail of every call. */
typedef void peer_ask_fn(void *arg, struct dr_cluster *from, struct peer_call *call, uint32_t count,
                         uint64_t timeout_ms);
/* What only tests change. */
struct cluster_tuning {
    peer_ask_fn *ask; /* NULL: HTTP */
    void *ask_arg;
    uint32_t election_ms;
    uint32_t snapshot_threshold;
    uint32_t snapshot_trailing;
    uint32_t tick_ms;          /* of the keeper; 0: 1000 */
    bool is_not_healing;       /* leave dead replicas dead */
    uint32_t announced_format; /* UINT32_MAX: none; 0: this program's */
};
DR_MUST enum dr_code dr_cluster_start_tuned(const struct dr_cluster_config *config,
                                            const struct cluster_tuning *tuning,
                                            struct dr_cluster **out, struct dr_err *err);

/* --- the points of shards --------------------------------------------------------------------
 */
/* The points of one shard: a table in the peer's store. A version is a hybrid clock: of two writes
 * of an id the one with the higher version stays, whatever order they come in; deletions are kept
 * for a while so that they win too. Every accepted write gets a higher `seq` than all that can be
 * seen, which is what a copy follows. */
struct shard_rows {
    const struct shard_ops *ops;
    struct shard_set *set;
    char uuid[DR_UUID_TEXT_BYTES];
    uint32_t shard_id;
    pthread_mutex_t lock; /* guards the next two; a write holds it from its guard to its end */
    bool is_open;
    void *own; /* the implementation's */
    /* About to be given up by a move: nobody may read here what the new place may know better. Its
     * setter holds the shard. */
    atomic_bool is_closing;
    uint32_t refs; /* the next three: shards.lock */
    uint64_t used_at;
    struct shard_rows *next;
};
struct sql_pool;
struct shard_set {
    pthread_mutex_t lock;
    const struct shard_ops *ops;
    char *dir;             /* DIR/shards */
    char *store;           /* as others are told: no user, no password */
    struct sql_pool *pool; /* NULL: files */
    struct dr_log *log;
    struct shard_rows *first;
    uint32_t count;
    uint64_t uses;
    dr_mono_ms complained_at;
};

enum { IDKEY_BYTES_MAX = 1 + DR_POINT_TEXT_BYTES_MAX };
/* An id as bytes in its order: numbers, UUIDs, texts. */
struct point_key {
    size_t len;
    uint8_t data[IDKEY_BYTES_MAX];
};
void dr_point_key_make(const struct dr_point_id *id, struct point_key *out);
json_t *dr_point_key_to_json(const uint8_t *data, size_t len); /* NULL when memory is short */

/* One write. */
struct point_op {
    struct dr_point_id id;
    const char *doc; /* {"payload"?, "vector"?} as text; NULL: delete */
    uint64_t version;
    json_t *owned_id; /* keeps id.text alive */
    char *owned_doc;
};
struct point_row {
    const uint8_t *key; /* borrowed until the callback returns */
    size_t key_len;
    uint64_t hash, version;
    int64_t seq;
    const char *doc; /* NULL: deleted */
};
/* False ends the walk. */
typedef bool point_row_fn(void *arg, const struct point_row *row);

/* Where this peer's points are to be. */
struct shard_place {
    const char *dir;   /* DIR/cluster */
    const char *store; /* NULL or "sqlite:": files; else the URL of a database */
    uint64_t peer_id;
    struct dr_log *log;
};
/* DR_CONFLICT: that is not where this peer's points are, or another peer's are there. A database
 * that cannot be reached is no failure: its shards fail until it can. */
DR_MUST enum dr_code dr_shards_init(struct shard_set *s, const struct shard_place *place,
                                    struct dr_err *err);
void dr_shards_fini(struct shard_set *s);
/* The shard, its table made when `is_create`; else *out NULL when there is none. */
DR_MUST enum dr_code dr_shards_take(struct shard_set *s, const char *uuid, uint32_t shard_id,
                                    bool is_create, struct shard_rows **out, struct dr_err *err);
void dr_shards_give(struct shard_set *s, struct shard_rows *r); /* accepts NULL */
/* Remove the table for good; nobody may need it any more. False: it is in use right now, or the
 * store does not answer. */
bool dr_shards_remove(struct shard_set *s, const char *uuid, uint32_t shard_id);
/* Where a shard is in the store that a peer has announced: what an application opens, and the table
 * in it. Both dr_free; false when memory is short. */
bool dr_shards_locate(const char *store, const char *uuid, uint32_t shard_id, char **store_out,
                      char **table_out);
/* May the write still be done? Asked under the shard's lock, so that nothing comes between the
 * answer and the write. Anything but DR_OK is the outcome. */
typedef enum dr_code shard_guard_fn(void *arg, struct dr_err *err);
DR_MUST enum dr_code dr_shard_write(struct shard_rows *r, const struct point_op *op, size_t count,
                                    shard_guard_fn *guard, void *arg, struct dr_err *err);
/* Live points from `from` (NULL: the first) in the order of ids. */
DR_MUST enum dr_code dr_shard_walk(struct shard_rows *r, const struct point_key *from,
                                   point_row_fn *fn, void *arg, struct dr_err *err);
/* Rows written after `seq`, deletions too, in that order. */
DR_MUST enum dr_code dr_shard_walk_after(struct shard_rows *r, int64_t seq, point_row_fn *fn,
                                         void *arg, struct dr_err *err);
DR_MUST enum dr_code dr_shard_get(struct shard_rows *r, const struct point_key *key,
                                  point_row_fn *fn, void *arg, struct dr_err *err);
/* How many live points does this ring give to the shard? */
DR_MUST enum dr_code dr_shard_count(struct shard_rows *r, const struct dr_ring *ring, uint64_t *out,
                                    struct dr_err *err);
/* Drop rows that this ring gives to another shard, and deletions older than they need be. A no-op
 * when the table is clean for the ring already. */
DR_MUST enum dr_code dr_shard_clean(struct shard_rows *r, const struct dr_key_ring *ring,
                                    struct dr_err *err);

/* --- what a kind of store does for a shard; shards.c does the rest ---------------------------
 */
enum shard_ask {
    SHARD_ONE,    /* the row with this key */
    SHARD_LIVE,   /* live rows from this key on, by key */
    SHARD_AFTER,  /* rows written after `seq`, by seq */
    SHARD_HASHES, /* live rows behind this key, by key, at most `limit`; their doc may be NULL */
};
struct shard_query {
    enum shard_ask ask;
    struct point_key key;
    int64_t seq;
    uint32_t limit;
};
struct shard_ops {
    /* With the shard's lock. open sets is_open when there is a table or may be one made; remove
     * leaves it closed. */
    enum dr_code (*open)(struct shard_rows *r, bool is_create, struct dr_err *err);
    void (*close)(struct shard_rows *r);
    enum dr_code (*remove)(struct shard_rows *r, struct dr_err *err);
    /* All or nothing, and on disk when it returns DR_OK. DR_UNKNOWN: perhaps. */
    enum dr_code (*write)(struct shard_rows *r, const struct point_op *op, size_t count,
                          struct dr_err *err);
    /* Without it. */
    enum dr_code (*read)(struct shard_rows *r, const struct shard_query *q, point_row_fn *fn,
                         void *arg, struct dr_err *err);
    enum dr_code (*forget)(struct shard_rows *r, const struct point_key *key, uint32_t count,
                           struct dr_err *err);
    /* The ring it was last cleaned for, -1: none; set_ring drops deletions before that version. */
    enum dr_code (*get_ring)(struct shard_rows *r, int64_t *out, struct dr_err *err);
    enum dr_code (*set_ring)(struct shard_rows *r, int64_t ring, int64_t before,
                             struct dr_err *err);
};
const struct shard_ops *dr_shard_file_ops(void);
const struct shard_ops *dr_shard_sql_ops(void);

/* shard_sql_pool.c: connections to the peer's database, lent for one call each. */
enum dr_code dr_sql_pool_create(const struct shard_place *place, struct sql_pool **out,
                                struct dr_err *err);
void dr_sql_pool_destroy(struct sql_pool *p); /* accepts NULL */
enum dr_code dr_sql_pool_lend(struct sql_pool *p, struct dr_sqldb **out, struct dr_err *err);
void dr_sql_pool_take_back(struct sql_pool *p, struct dr_sqldb *db); /* accepts NULL */
enum dr_dialect dr_sql_pool_dialect(const struct sql_pool *p);
/* The URL without what is nobody's business; dr_free; NULL when memory is short. */
char *dr_sql_pool_show(const struct sql_pool *p);
bool dr_sql_pool_is_used(const char *dir); /* have this peer's points been put into a database? */
/* The name of a shard's table. */
enum { SHARD_TABLE_BYTES = 64 };
void dr_shard_table_name(const char *uuid, uint32_t shard_id, char buf[SHARD_TABLE_BYTES]);

/* --- the peer ----------------------------------------------------------------------------------
 */
enum promotion_phase {
    PROMOTION_VALIDATING,
    PROMOTION_PROPOSING,
    PROMOTION_SETTLING,
    PROMOTION_DONE,
    PROMOTION_UNKNOWN,
    PROMOTION_FAILED
};
struct promotion {
    bool is_used;
    uint64_t number;
    char collection[DR_COLLECTION_NAME_BYTES_MAX + 1];
    char uuid[DR_UUID_TEXT_BYTES]; /* "": there was no such collection */
    char who[128];
    struct dr_shard_key key;
    enum promotion_phase phase;
    dr_wall_ms started, ended; /* ended 0: goes on */
    bool is_promoted;          /* by this call */
    uint64_t index;
    char error[DR_ERR_BYTES];
};

struct http_spare {
    struct dr_http *http;
    struct http_spare *next;
};

struct shard_copy;

struct dr_cluster {
    uint64_t id;
    char *dir, *raft_listen, *api_uri, *join_uri, *authorization;
    struct dr_log *log;
    struct dr_metrics *metrics;
    struct cluster_tuning tuning;
    struct dr_node *node;
    struct shard_set shards;
    atomic_uint_fast64_t clock; /* the last version given */
    atomic_uint_fast64_t operations;
    atomic_bool is_caught_up; /* with what was agreed on at its start */
    bool is_distributed;

    pthread_mutex_t http_lock;
    struct http_spare *http;

    pthread_mutex_t record_lock; /* one writes promotions.json; taken before `lock` */
    pthread_mutex_t lock;        /* guards what follows */
    pthread_cond_t wake;
    bool is_woken, is_stopping, is_lock_there, has_keeper;
    pthread_t keeper;
    struct promotion promotion[PROMOTIONS_KEPT];
    uint64_t promotion_count;
    uint64_t ready_index; /* what had to be applied at the first look; 0: not asked yet */
    bool has_ready_index, is_ready_once;

    /* The keeper's own. */
    struct dr_catalog *seen;
    struct shard_copy *copy; /* transfer.c */
    bool is_announced, is_joined;
    uint32_t join_failures;
    dr_mono_ms join_at;
    dr_mono_ms heal_at;
};

bool dr_cluster_is_stopping(void *cluster); /* as dr_wait_ms wants it */
uint64_t dr_cluster_next_version(struct dr_cluster *c);
/* Versions seen elsewhere push the clock forward. */
void dr_cluster_see_version(struct dr_cluster *c, uint64_t version);

/* The leader's commit index, as of now. */
bool dr_cluster_ask_commit(struct dr_cluster *c, const struct dr_node_status *s, uint64_t *out);

/* Has this peer, once since its start, applied all that was agreed on by then? Waits for that. */
bool dr_cluster_catch_up(struct dr_cluster *c, uint64_t timeout_ms);

/* --- keeper.c --- */
void *dr_keeper_main(void *cluster);
void dr_keeper_wake(struct dr_cluster *c);

/* --- members.c --- */
enum dr_code dr_member_announce(struct dr_cluster *c, struct dr_err *err);
enum dr_code dr_member_join(struct dr_cluster *c, struct dr_err *err);
/* What the leader does for others; the caller is the leader or the reply says who is. */
void dr_member_take_in(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply);

/* --- peers.c --- */
void dr_peers_ask(struct dr_cluster *c, struct peer_call *call, uint32_t count,
                  uint64_t timeout_ms);
/* Prepare a call to a peer of the catalog. */
void dr_peers_address(const struct dr_catalog *cat, uint64_t peer_id, struct peer_call *call);
/* Did it answer, and with success? Otherwise *err says what came. */
enum dr_code dr_peers_judge(const struct peer_call *call, struct dr_err *err);
void dr_peers_call_fini(struct peer_call *call, uint32_t count);
/* Ask all other peers of the catalog the same; *count_out calls to be freed with dr_peers_free. */
struct peer_call *dr_peers_ask_all(struct dr_cluster *c, const char *name, json_t *body,
                                   uint64_t timeout_ms, uint32_t *count_out);
void dr_peers_free(struct peer_call *call, uint32_t count);
/* Wait until all peers that answer have applied `index`; how many have not. Best effort. */
uint32_t dr_peers_settle(struct dr_cluster *c, uint64_t index, uint64_t timeout_ms);
void dr_peers_fini(struct dr_cluster *c);

/* --- propose.c --- */
struct proposal {
    struct dr_apply_result result;
    uint64_t index;
};
/* Until applied here. DR_OK: see result (a refusal is there). DR_UNKNOWN: time ran out. */
enum dr_code dr_propose(struct dr_cluster *c, const char *entry, uint64_t timeout_ms,
                        struct proposal *out, struct dr_err *err);
/* The whole of a verb: takes the entry (dr_free), proposes, and fills the reply on failure. True:
 * applied without a refusal; the caller makes the result. */
bool dr_propose_for(struct dr_cluster *c, const struct dr_cluster_caller *who, char *entry,
                    enum dr_code made, const struct dr_err *made_err, struct proposal *out,
                    struct dr_cluster_reply *reply);
void dr_propose_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply);
uint64_t dr_caller_timeout(const struct dr_cluster_caller *who);
/* Something that only the leader does: run here when this is it, else asked of it. */
typedef enum dr_code leader_fn(struct dr_cluster *c, const json_t *body, uint64_t timeout_ms,
                               struct dr_node_answer *answer, struct dr_err *err);
enum dr_code dr_lead_or_ask(struct dr_cluster *c, const char *name, const json_t *body,
                            uint64_t timeout_ms, leader_fn *here, struct dr_err *err);
void dr_lead_here(struct dr_cluster *c, const json_t *body, leader_fn *here,
                  struct dr_cluster_reply *reply);
leader_fn dr_lead_barrier, dr_lead_remove, dr_lead_transfer;

/* --- promotions.c: what this peer was asked for, and what became of it --- */
void dr_promotions_load(struct dr_cluster *c); /* before anybody asks */
/* Returns its number; 0: too many at once. Each is closed in the end. */
uint64_t dr_promotions_open(struct dr_cluster *c, const char *collection, const char *who);
void dr_promotions_aim(struct dr_cluster *c, uint64_t number, const struct dr_shard_key *key);
void dr_promotions_enter(struct dr_cluster *c, uint64_t number, enum promotion_phase phase);
void dr_promotions_close(struct dr_cluster *c, uint64_t number, enum promotion_phase phase,
                         bool is_promoted, uint64_t index, const char *error);

/* --- reply.c --- */
void dr_reply_fail(struct dr_cluster_reply *r, enum dr_cluster_class cls, const char *fmt, ...)
    DR_PRINTF(3, 4);
void dr_reply_err(struct dr_cluster_reply *r, const struct dr_err *err);
void dr_reply_class_err(struct dr_cluster_reply *r, enum dr_cluster_class cls,
                        const struct dr_err *err);
/* Takes the reference; NULL is "memory is short". */
void dr_reply_give(struct dr_cluster_reply *r, json_t *result);
void dr_reply_true(struct dr_cluster_reply *r);
const char *dr_class_name(enum dr_cluster_class cls);
bool dr_class_parse(const char *name, enum dr_cluster_class *out);
bool dr_code_parse(const char *name, enum dr_code *out);
/* 405 unless this peer can have others. True: it can. */
bool dr_reply_need_cluster(const struct dr_cluster *c, struct dr_cluster_reply *r);
/* The collection, or 404 in the reply. */
const struct dr_collection_info *dr_reply_find(const struct dr_catalog *cat, const char *name,
                                               struct dr_cluster_reply *r);

/* --- shapes.c: JSON of the REST facts --- */
json_t *dr_shape_collection(struct dr_cluster *c, const struct dr_catalog *cat,
                            const struct dr_collection_info *info);
json_t *dr_shape_collection_cluster(struct dr_cluster *c, const struct dr_collection_info *info);
/* Set j[name], taking the reference; false when memory is short. */
bool dr_shape_set(json_t *j, const char *name, json_t *value);

/* --- points: who gets what (points_route.c) --- */
/* The body's ids and selector, routed: ids grouped by shard. */
struct point_target {
    uint32_t shard_id;
    size_t count, room;
    size_t *at; /* into the list of ops or ids */
};
struct point_route {
    struct dr_arena *arena;
    struct dr_catalog *cat;
    const struct dr_collection_info *info;
    struct dr_selector selector;
    struct point_target *target; /* by shard id */
    uint32_t target_count, target_room;
};
/* Takes the newest catalog and finds the collection and selector. On failure the reply is filled.
 */
bool dr_points_begin(struct dr_cluster *c, const struct dr_cluster_caller *who,
                     const char *collection, const json_t *shard_key, struct point_route *r,
                     struct dr_cluster_reply *reply);
void dr_points_end(struct point_route *r);
enum dr_code dr_points_aim(struct point_route *r, const struct dr_point_id *id, size_t at,
                           bool is_write, struct dr_err *err);
enum dr_code dr_points_aim_all(struct point_route *r, struct dr_err *err);
/* The ring that reads of this shard go by, and its key. */
const struct dr_ring *dr_points_read_ring(const struct dr_collection_info *info,
                                          const struct dr_shard *s);
const struct dr_key_ring *dr_points_key_ring(const struct dr_collection_info *info,
                                             const struct dr_shard *s);
/* An order of readable replicas to try: this peer first. Returns how many. */
uint32_t dr_points_readers(const struct dr_cluster *c, const struct dr_shard *s,
                           uint64_t *peer_out);

/* --- points_write.c --- */
/* Write ops (with versions) to the collection, retrying when the catalog changes below. */
void dr_points_write(struct dr_cluster *c, const struct dr_cluster_caller *who,
                     const char *collection, const json_t *shard_key, struct point_op *op,
                     size_t count, struct dr_cluster_reply *reply);
/* The body of points/write for these ops of one shard, as the catalog at `index` has it. `is_copy`:
 * from a whole copy to one being filled, whatever its state. */
json_t *dr_points_write_body(const struct dr_collection_info *info, uint64_t index,
                             uint32_t shard_id, bool is_copy, const struct point_op *op,
                             size_t count);
/* "points/write" here. result: {"stale": true, "index"} or {"stale": false}. */
void dr_points_write_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply);

/* --- points_here.c, points_read.c --- */
/* "points/read" here: {"collection","uuid","op","shards":[..],...}. */
void dr_points_read_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply);
/* Live points of all shards, from one readable replica each. */
bool dr_points_count_all(struct dr_cluster *c, const struct dr_catalog *cat,
                         const struct dr_collection_info *info, uint64_t *out, struct dr_err *err);

/* --- transfer.c: the keeper's copying --- */
void dr_transfer_step(struct dr_cluster *c, const struct dr_catalog *cat);
void dr_transfer_fini(struct dr_cluster *c);
/* "shards/empty" here: the replica in Recovery that is about to be filled begins with nothing. */
void dr_transfer_empty_here(struct dr_cluster *c, const json_t *body,
                            struct dr_cluster_reply *reply);
/* Dead replicas here ask to be filled again. */
void dr_transfer_heal(struct dr_cluster *c, const struct dr_catalog *cat);
/* Remove files of shards that left between two states; clean those whose ring changed. False: some
 * are in use, so look again. */
bool dr_transfer_tidy(struct dr_cluster *c, const struct dr_catalog *before,
                      const struct dr_catalog *now);

#endif
