/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog: collections, shards, shard keys, replicas, transfers, resharding, peers, nodes - and
 * the one pure function that changes it, (state, entry) -> (state, result), equal on every peer.
 *
 * A state is immutable and counted by reference: readers keep the one they took for as long as they
 * like and never wait for a change; a change makes a new state that shares all collections it did
 * not touch. Entries and snapshots are JSON with a format version; unknown operations and newer
 * versions are no-ops with a reason, so that one old peer never stops the log.
 *
 * Where an entry is refused (wrong input, state changed since it was proposed), apply leaves the
 * state as it is and says why: validation here looks at replicated state only. */
#ifndef DR_CATALOG_CATALOG_H
#define DR_CATALOG_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "catalog/ids.h"
#include "catalog/ring.h"

enum {
    DR_CATALOG_FORMAT = 2,       /* the newest that this program understands */
    DR_CATALOG_FORMAT_FIRST = 1, /* of all entries, and of states, without tables */
    DR_CATALOG_FORMAT_TABLES = 2,
    DR_COLLECTION_NAME_BYTES_MAX = 255,
    DR_SHARDS_MAX = 100000, /* of one collection */
    DR_COLLECTIONS_PER_CATALOG_MAX = 10000,
    DR_REPLICAS_MAX = 64, /* of one shard */
    DR_PEERS_MAX = 256,
    DR_ENTRY_BYTES_MAX = 4 * 1024 * 1024,
    DR_SNAPSHOT_BYTES_MAX = 1024 * 1024 * 1024,
    DR_URI_BYTES_MAX = 512,
    DR_UUID_TEXT_BYTES = 37,
};

enum dr_sharding_method { DR_SHARDING_AUTO, DR_SHARDING_CUSTOM };

/* Names on the wire are these in CamelCase: "Active" ... */
enum dr_replica_state {
    DR_REPLICA_ACTIVE,
    DR_REPLICA_DEAD,
    DR_REPLICA_PARTIAL,
    DR_REPLICA_INITIALIZING,
    DR_REPLICA_LISTENER,
    DR_REPLICA_PARTIAL_SNAPSHOT,
    DR_REPLICA_RECOVERY,
    DR_REPLICA_RESHARDING,
    DR_REPLICA_RESHARDING_SCALE_DOWN,
    DR_REPLICA_ACTIVE_READ,
    DR_REPLICA_MANUAL_RECOVERY,
    DR_REPLICA_STATE_COUNT
};
const char *dr_replica_state_name(enum dr_replica_state s);
bool dr_replica_state_parse(const char *name, enum dr_replica_state *out);
bool dr_replica_is_readable(enum dr_replica_state s);
bool dr_replica_takes_writes(enum dr_replica_state s);

struct dr_replica {
    uint64_t peer_id;
    enum dr_replica_state state;
};
struct dr_shard {
    uint32_t id;
    bool has_key;
    struct dr_shard_key key;
    uint32_t replica_count;
    const struct dr_replica *replica; /* by peer id */
};
struct dr_transfer {
    uint32_t shard_id;
    bool has_to_shard;
    uint32_t to_shard_id;
    uint64_t from, to; /* peers */
    bool is_sync;      /* replicate; otherwise move */
    char method[32];
};
enum dr_reshard_stage {
    DR_RESHARD_MIGRATING,
    DR_RESHARD_READ_COMMITTED,
    DR_RESHARD_WRITE_COMMITTED
};
struct dr_resharding {
    char uuid[DR_UUID_TEXT_BYTES];
    bool is_up;
    uint32_t shard_id;
    uint64_t peer_id;
    bool has_key;
    struct dr_shard_key key;
    enum dr_reshard_stage stage;
};

/* A ring for one shard key, or the only one ("no key") of an auto collection. While a resharding of
 * it is not committed, writes go to the owners in both rings. */
struct dr_key_ring {
    bool has_key;
    struct dr_shard_key key;
    uint32_t shard_count;
    const uint32_t *shard_id; /* ascending */
    const struct dr_ring *ring;
    const struct dr_ring *next; /* the ring after the resharding, or NULL */
};

struct dr_collection_info {
    const char *name;
    char uuid[DR_UUID_TEXT_BYTES];
    enum dr_sharding_method method;
    bool is_method_given;  /* at creation, or by promotion: shown only then */
    uint32_t shard_number; /* auto: of all; custom: of each new key */
    uint32_t replication_factor;
    uint32_t write_consistency_factor;
    bool has_default_key; /* the promoted key */
    struct dr_shard_key default_key;
    const json_t *vectors;  /* kept as given, or NULL */
    const json_t *metadata; /* other parameters kept as given (object), or NULL */
    uint32_t shard_count;
    const struct dr_shard *shard; /* by id */
    uint32_t key_ring_count;      /* auto: 1; custom: one per key, by key */
    const struct dr_key_ring *key_ring;
    uint32_t transfer_count;
    const struct dr_transfer *transfer;
    const struct dr_resharding *resharding; /* or NULL */
    uint64_t changed_at_index;              /* log index of the last change */
};

struct dr_peer {
    uint64_t id;
    char uri[DR_URI_BYTES_MAX];  /* its HTTP API */
    char raft[DR_URI_BYTES_MAX]; /* host:port of its raft listener */
    uint32_t format;             /* newest entry format it understands; 0: not announced */
    char version[32];
    char store[DR_URI_BYTES_MAX]; /* where its points are, without user and password; "": unsaid */
};
struct dr_alias {
    const char *name, *collection;
};

struct dr_catalog; /* an immutable state */

DR_MUST enum dr_code dr_catalog_create(struct dr_catalog **out, struct dr_err *err); /* empty */
struct dr_catalog *dr_catalog_ref(const struct dr_catalog *c); /* any thread */
void dr_catalog_unref(struct dr_catalog *c);                   /* accepts NULL */

uint64_t dr_catalog_index(const struct dr_catalog *c); /* of the last entry applied */
uint32_t dr_catalog_collection_count(const struct dr_catalog *c);
const struct dr_collection_info *dr_catalog_collection_at(const struct dr_catalog *c, uint32_t i);
/* By name or alias; NULL. */
const struct dr_collection_info *dr_catalog_find(const struct dr_catalog *c, const char *name);
uint32_t dr_catalog_alias_count(const struct dr_catalog *c);
struct dr_alias dr_catalog_alias_at(const struct dr_catalog *c, uint32_t i);
uint32_t dr_catalog_peer_count(const struct dr_catalog *c);
const struct dr_peer *dr_catalog_peer_at(const struct dr_catalog *c, uint32_t i);
const struct dr_peer *dr_catalog_peer(const struct dr_catalog *c, uint64_t id); /* NULL */
/* Has every peer announced at least this format? False when one has announced none. */
bool dr_catalog_all_understand(const struct dr_catalog *c, uint32_t format);
const struct dr_shard *dr_collection_shard(const struct dr_collection_info *c, uint32_t id);
const struct dr_key_ring *dr_collection_ring(const struct dr_collection_info *c,
                                             const struct dr_shard_key *key); /* key NULL: no key */

/* XXH64 over the snapshot text: equal states have equal hashes on every peer. */
DR_MUST enum dr_code dr_catalog_hash(const struct dr_catalog *c, uint64_t *out, struct dr_err *err);
/* The whole state as JSON text (dr_free) and back. Bounded; DR_CORRUPT on anything malformed. */
DR_MUST enum dr_code dr_catalog_encode(const struct dr_catalog *c, char **text_out,
                                       size_t *bytes_out, struct dr_err *err);
DR_MUST enum dr_code dr_catalog_decode(const char *text, size_t bytes, struct dr_catalog **out,
                                       struct dr_err *err);

/* What came of an entry. `code` DR_OK: done (`changed` false: it was so already). Otherwise a
 * reason for people: DR_INPUT, DR_EXISTS, DR_NOT_FOUND, DR_CONFLICT (state in the way), DR_REFUSED,
 * DR_UNSUPPORTED (unknown operation or newer format). */
struct dr_apply_result {
    enum dr_code code;
    bool changed;
    char message[512];
    json_t *value; /* for the proposer, or NULL; owned by the caller */
};
/* Apply one entry. *out is a new reference, to the same state when nothing changed. The return code
 * is about this machine (DR_NOMEM, DR_INTERNAL): then nothing happened and the peer must stop. */
DR_MUST enum dr_code dr_catalog_apply(const struct dr_catalog *c, uint64_t index, const char *entry,
                                      size_t bytes, struct dr_catalog **out,
                                      struct dr_apply_result *result, struct dr_err *err);

/* --- making entries (dispatcher): validates what only the proposer can see or decide, fixes every
 * choice (ids, placement, uuids) so that apply is deterministic. The texts are for dr_free. -------
 */
/* `body` as in REST: vectors, shard_number, sharding_method, replication_factor,
 * write_consistency_factor. `seed` decides ties of placement. */
DR_MUST enum dr_code dr_entry_create_collection(const struct dr_catalog *c, const char *name,
                                                const json_t *body, const char *uuid, uint64_t seed,
                                                char **out, struct dr_err *err);
DR_MUST enum dr_code dr_entry_delete_collection(const struct dr_catalog *c, const char *name,
                                                char **out, struct dr_err *err);
DR_MUST enum dr_code dr_entry_update_collection(const struct dr_catalog *c, const char *name,
                                                const json_t *body, char **out, struct dr_err *err);
DR_MUST enum dr_code dr_entry_aliases(const struct dr_catalog *c, const json_t *body, char **out,
                                      struct dr_err *err);
DR_MUST enum dr_code dr_entry_create_key(const struct dr_catalog *c, const char *name,
                                         const json_t *body, uint64_t seed, char **out,
                                         struct dr_err *err);
DR_MUST enum dr_code dr_entry_drop_key(const struct dr_catalog *c, const char *name,
                                       const json_t *body, char **out, struct dr_err *err);
/* {"default_shard_key": K}, K "default" when absent. Refuses unless auto, no resharding, no
 * transfers, all replicas stable; a repeated call with the same key is an entry that changes
 * nothing. Carries uuid, resolved name, key and the list of shard ids seen. */
DR_MUST enum dr_code dr_entry_promote(const struct dr_catalog *c, const char *name,
                                      const json_t *body, char **out, struct dr_err *err);
/* One of the operations of POST /collections/{name}/cluster (promote_to_custom_sharding included).
 */
DR_MUST enum dr_code dr_entry_cluster(const struct dr_catalog *c, const char *name,
                                      const json_t *body, uint64_t seed, char **out,
                                      struct dr_err *err);
/* from NULL: whatever it is now. */
DR_MUST enum dr_code dr_entry_replica_state(const struct dr_catalog *c, const char *name,
                                            uint32_t shard_id, uint64_t peer_id,
                                            enum dr_replica_state state,
                                            const enum dr_replica_state *from, char **out,
                                            struct dr_err *err);
DR_MUST enum dr_code dr_entry_peer(const struct dr_peer *p, char **out, struct dr_err *err);
/* What a peer says of itself: refused (DR_NOT_FOUND) when it is not listed. One that is removed at
 * that very moment must not list itself again. */
DR_MUST enum dr_code dr_entry_peer_news(const struct dr_peer *p, char **out, struct dr_err *err);
DR_MUST enum dr_code dr_entry_remove_peer(const struct dr_catalog *c, uint64_t id, bool is_forced,
                                          char **out, struct dr_err *err);

/* --- routing: which shards a request goes to
 * ------------------------------------------------------ */
enum { DR_SELECTOR_KEYS_MAX = 256 };
struct dr_selector { /* count 0 and no fallback: no key given */
    uint32_t key_count;
    struct dr_shard_key *key;
    bool has_fallback;
    struct dr_shard_key fallback;
};
/* "k", 7, ["a", 7] or {"target", "fallback"}; NULL j: none given. Keys go to the arena. */
DR_MUST enum dr_code dr_selector_from_json(const json_t *j, struct dr_arena *a,
                                           struct dr_selector *out, struct dr_err *err);
/* Shards that a write of this id goes to (one, or two while resharding), or a read. Rules for
 * requests without a key after promotion: with exactly one key they use it; with more, writes are
 * refused with the list of keys and reads go to all keys. */
DR_MUST enum dr_code dr_route_point(const struct dr_collection_info *c, const struct dr_selector *s,
                                    const struct dr_point_id *id, bool is_write,
                                    uint32_t *shard_out, uint32_t shard_max, uint32_t *count_out,
                                    struct dr_err *err);
/* All shards of the selection, for requests that name no ids (count, scroll). */
DR_MUST enum dr_code dr_route_all(const struct dr_collection_info *c, const struct dr_selector *s,
                                  bool is_write, uint32_t *shard_out, uint32_t shard_max,
                                  uint32_t *count_out, struct dr_err *err);

/* --- files: DIR/collections/NAME/{collection_config,shard_key_mapping}.json ---------------------
 */
/* Write what changed between two states, mapping first and config last, each by temporary file,
 * fsync, rename, fsync of the folder. `before` NULL: compare with the disk. Repeating it is
 * harmless; a failure leaves what a restart repairs. Deleted collections' folders are removed,
 * config first. */
DR_MUST enum dr_code dr_catalog_write_files(const char *dir, const struct dr_catalog *before,
                                            const struct dr_catalog *after, struct dr_err *err);
/* Look at the files without a catalog (start-up, tools): the method and mapping they say; either
 * form of the mapping is read. *is_half_out: mapping written, config not (a promotion that stopped
 * half way; the log repairs it). */
DR_MUST enum dr_code dr_catalog_check_files(const char *dir, const struct dr_catalog *c,
                                            bool *is_half_out, struct dr_err *err);

#endif
