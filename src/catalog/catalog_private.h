/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: the shape of a state, drafts of collections, the frame of an
 * operation. Frozen things are never written again and may be read from any thread. */
#ifndef DR_CATALOG_PRIVATE_H
#define DR_CATALOG_PRIVATE_H

#include <stdatomic.h>

#include "catalog/catalog.h"

enum {
    DR_PROMOTE_FORMAT = 1,   /* the first entry format that knows the promotion */
    DR_TRANSFERS_MAX = 4096, /* of one collection at a time */
    DR_ALIASES_MAX = 10000,
    DR_ALIAS_ACTIONS_MAX = 1000,       /* of one entry */
    DR_EXTRA_BYTES_MAX = 256 * 1024,   /* vectors, and metadata, as text */
    DR_EXTRA_DEPTH_MAX = 24,           /* so that an entry around them stays within base/json's */
    DR_FACTOR_MAX = DR_REPLICAS_MAX,   /* replication and write consistency */
    DR_PLACED_REPLICAS_MAX = 2000000,  /* of one entry */
    DR_CATALOG_FIRST_CUSTOM_SHARD = 1, /* auto ones count from 0 */
};

/* --- hashing ---------------------------------------------------------------------------------- */
/* dr_siphash of `count` u64 words in little-endian order. */
uint64_t dr_catalog_hash_words(const uint64_t *word, size_t count);
/* UTF-8 without control characters. */
bool dr_catalog_is_clean_text(const char *text, size_t bytes);

/* JSON on which peers must agree: DR_INPUT when it is malformed (surely, not for want of memory).
 */
DR_MUST enum dr_code dr_catalog_parse(const char *text, size_t bytes, json_t **out,
                                      struct dr_err *err);

/* --- states ------------------------------------------------------------------------------------
 */
/* A ring with the ids it is made of; shared by all states in which they are the same. */
struct dr_ring_box {
    _Atomic uint32_t refs;
    struct dr_ring *ring;
    uint32_t count;
    uint32_t shard_id[]; /* ascending */
};

struct dr_collection {
    _Atomic uint32_t refs;
    struct dr_arena *arena; /* holds all that info points to, but rings and JSON */
    struct dr_collection_info info;
    uint32_t next_shard_id;   /* of the next key: ids of custom shards are never used again */
    struct dr_ring_box **box; /* two for each key ring: now, and next or NULL */
};

struct dr_alias_table {
    _Atomic uint32_t refs;
    struct dr_arena *arena;
    uint32_t count;
    struct dr_alias *alias; /* by name */
};

struct dr_peer_table {
    _Atomic uint32_t refs;
    uint32_t count;
    struct dr_peer peer[]; /* by id */
};

struct dr_table_set;

struct dr_catalog {
    _Atomic uint32_t refs;
    uint64_t index;
    uint32_t count;
    uint32_t room;
    struct dr_collection **collection; /* by name */
    struct dr_alias_table *aliases;
    struct dr_peer_table *peers;
    struct dr_table_set *tables; /* table_private.h; NULL: none */
};

/* A state of its own with the same parts and room for `extra` more collections: the caller may
 * change it until it shows it to others. */
DR_MUST enum dr_code dr_catalog_clone(const struct dr_catalog *c, uint64_t index, uint32_t extra,
                                      struct dr_catalog **out, struct dr_err *err);
/* Position of this very name (no alias), or where it would stand. */
bool dr_catalog_position(const struct dr_catalog *c, const char *name, uint32_t *at_out);
/* Put a collection in, in place of its namesake; takes the reference. Needs room. */
void dr_catalog_put(struct dr_catalog *c, struct dr_collection *collection);
void dr_catalog_take_out(struct dr_catalog *c, uint32_t at);
const struct dr_collection *dr_catalog_collection(const struct dr_catalog *c, uint32_t i);

/* A table of these aliases (copied, sorted); DR_INPUT when a name stands twice. */
DR_MUST enum dr_code dr_alias_table_create(const struct dr_alias *alias, uint32_t count,
                                           struct dr_alias_table **out, struct dr_err *err);
void dr_alias_table_unref(struct dr_alias_table *t);
const struct dr_alias *dr_alias_table_find(const struct dr_alias_table *t, const char *name);
DR_MUST enum dr_code dr_peer_table_create(const struct dr_peer *peer, uint32_t count,
                                          struct dr_peer_table **out, struct dr_err *err);
void dr_peer_table_unref(struct dr_peer_table *t);

/* --- drafts: a collection being changed --------------------------------------------------------
 */
/* The arrays live in the arena of the operation and may be written; freezing copies them. */
struct dr_draft {
    struct dr_arena *arena;
    struct dr_collection_info info; /* its array pointers are not used: the fields below are */
    struct dr_shard *shard;         /* by id */
    uint32_t shard_count;
    uint32_t shard_room;
    struct dr_transfer *transfer;
    uint32_t transfer_count;
    bool is_resharding;
    struct dr_resharding resharding;
    uint32_t next_shard_id;
};
/* Copy of `old`, or an empty one when NULL, with room for so many more shards and one transfer. */
DR_MUST enum dr_code dr_draft_begin(struct dr_draft *d, struct dr_arena *arena,
                                    const struct dr_collection *old, uint32_t extra_shards,
                                    struct dr_err *err);
struct dr_shard *dr_draft_shard(struct dr_draft *d, uint32_t id); /* NULL: no such shard */
/* Insert by id; the draft must have room and no such shard. */
void dr_draft_add_shard(struct dr_draft *d, const struct dr_shard *shard);
void dr_draft_drop_shard(struct dr_draft *d, uint32_t id); /* with its transfers */
/* Set, or add, the replica on this peer. */
DR_MUST enum dr_code dr_draft_set_replica(struct dr_draft *d, struct dr_shard *s, uint64_t peer_id,
                                          enum dr_replica_state state, struct dr_err *err);
DR_MUST enum dr_code dr_draft_drop_replica(struct dr_draft *d, struct dr_shard *s, uint64_t peer_id,
                                           struct dr_err *err);
/* Make the collection; rings whose ids did not change are those of `old`. */
DR_MUST enum dr_code dr_draft_freeze(const struct dr_draft *d, const struct dr_collection *old,
                                     struct dr_collection **out, struct dr_err *err);
void dr_collection_unref(struct dr_collection *c);
struct dr_collection *dr_collection_ref(const struct dr_collection *c);

/* --- facts about collections -------------------------------------------------------------------
 */
const struct dr_replica *dr_shard_replica(const struct dr_shard *s, uint64_t peer_id);
bool dr_replica_is_source(enum dr_replica_state s); /* holds all data: may be copied from */
/* Settled: a promotion need not wait for it. Dead ones count, or a lost machine blocked for ever.
 */
bool dr_replica_is_stable(enum dr_replica_state s);
const char *dr_reshard_stage_name(enum dr_reshard_stage s);
bool dr_reshard_stage_parse(const char *name, enum dr_reshard_stage *out);
const char *dr_sharding_method_name(enum dr_sharding_method m);
bool dr_sharding_method_parse(const char *name, enum dr_sharding_method *out);
bool dr_transfer_method_is_known(const char *name);
/* 1 to 255 bytes, none of <>:"/\|?* or control characters, not "." or "..": it names a folder. */
DR_MUST enum dr_code dr_collection_name_check(const char *name, struct dr_err *err);
/* "a1b2-..." of 1 to 36 characters [0-9A-Za-z-]. */
bool dr_uuid_text_is_good(const char *uuid);
/* Small and flat enough to be kept (vectors, metadata)? */
DR_MUST enum dr_code dr_extra_check(const json_t *j, const char *where, struct dr_err *err);
/* {"default", 7}: the keys of a custom collection for messages, cut where buf ends. */
char *dr_collection_keys_print(const struct dr_collection_info *c, char *buf, size_t buf_bytes);
/* May a collection go from one method to the other? Auto to custom: yes (a promotion, or a snapshot
 * with one in it). Custom to auto: never, DR_REFUSED. */
DR_MUST enum dr_code dr_catalog_check_method(const char *name, enum dr_sharding_method from,
                                             enum dr_sharding_method to, struct dr_err *err);
/* Before a snapshot takes the place of a state: is each collection of the same uuid reachable from
 * what is here? DR_REFUSED names one that is not; then the peer must stop, not delete. */
DR_MUST enum dr_code dr_catalog_check_compatible(const struct dr_catalog *before,
                                                 const struct dr_catalog *after,
                                                 struct dr_err *err);
/* What a draft must keep to, whoever made it: DR_INPUT says what it breaks. */
DR_MUST enum dr_code dr_draft_check(const struct dr_draft *d, struct dr_err *err);

/* --- operations --------------------------------------------------------------------------------
 */
struct dr_apply {
    const struct dr_catalog *c;
    uint64_t index;
    struct dr_jr fields; /* of the entry; its first mistake is in input_err */
    struct dr_err input_err;
    struct dr_arena *arena; /* ends with the entry */
    struct dr_catalog *out; /* the new state, or NULL: as it was */
    struct dr_apply_result *result;
    struct dr_err *err;
};
/* Say no. Returns DR_OK: that is about the machine, which is well. */
enum dr_code dr_apply_refuse(struct dr_apply *a, enum dr_code code, const char *fmt, ...)
    DR_PRINTF(3, 4);
/* Name and uuid of the entry -> the collection, which is still the one meant; NULL: refused. */
const struct dr_collection *dr_apply_collection(struct dr_apply *a);
/* All fields read, none unknown? False: refused. */
bool dr_apply_fields_end(struct dr_apply *a);
/* A shard key of the entry; false: absent (when not required) or wrong. */
bool dr_apply_key(struct dr_apply *a, const char *field, bool is_required,
                  struct dr_shard_key *out);
/* Check and freeze the draft into a->out. Refuses with DR_INPUT what dr_draft_check refuses. */
DR_MUST enum dr_code dr_apply_finish(struct dr_apply *a, struct dr_draft *d,
                                     const struct dr_collection *old);
/* Peers and placement of the entry -> replicas in `state` for `count` shards. *out NULL: refused.
 */
DR_MUST enum dr_code dr_apply_placement(struct dr_apply *a, const json_t *peers,
                                        const json_t *placement, enum dr_replica_state state,
                                        struct dr_shard **out, uint32_t *count_out);

typedef enum dr_code dr_apply_op(struct dr_apply *a);
dr_apply_op dr_apply_create_collection, dr_apply_delete_collection, dr_apply_update_collection,
    dr_apply_aliases, dr_apply_create_key, dr_apply_drop_key, dr_apply_promote,
    dr_apply_start_transfer, dr_apply_restart_transfer, dr_apply_finish_transfer,
    dr_apply_abort_transfer, dr_apply_drop_replica, dr_apply_replica_state, dr_apply_peer,
    dr_apply_remove_peer, dr_apply_start_resharding, dr_apply_commit_read, dr_apply_commit_write,
    dr_apply_finish_resharding, dr_apply_abort_resharding;

/* --- making entries ----------------------------------------------------------------------------
 */
/* A new object with v, op; NULL when memory is short. */
json_t *dr_entry_begin(const char *op);
/* The same with the name and uuid of a collection that goes by `name` (or alias). */
DR_MUST enum dr_code dr_entry_begin_collection(const struct dr_catalog *c, const char *op,
                                               const char *name,
                                               const struct dr_collection_info **info_out,
                                               json_t **out, struct dr_err *err);
/* Text of the entry, if applying it to `c` now would not be refused. Releases the entry; `rc` other
 * than DR_OK only does that. */
DR_MUST enum dr_code dr_entry_end(const struct dr_catalog *c, json_t *entry, enum dr_code rc,
                                  char **out, struct dr_err *err);
/* Set entry[field]; takes the reference of `value`, NULL is DR_NOMEM. */
DR_MUST enum dr_code dr_entry_set(json_t *entry, const char *field, json_t *value,
                                  struct dr_err *err);
/* Choose peers for `shards` new shards and set entry.peers and entry.placement. `pool` limits the
 * peers when it is not NULL. */
DR_MUST enum dr_code dr_entry_place(const struct dr_catalog *c, json_t *entry, uint32_t shards,
                                    uint32_t replicas, const uint64_t *pool, uint32_t pool_count,
                                    uint64_t seed, struct dr_err *err);
/* One peer as dr_entry_place would choose it. */
DR_MUST enum dr_code dr_entry_pick_peer(const struct dr_catalog *c, uint64_t seed,
                                        uint64_t *peer_out, struct dr_err *err);
/* A field of a request; NULL when absent or null. */
const json_t *dr_entry_field(const json_t *body, const char *field);
/* A whole number of a request from min to max; *out stays when it is absent. */
DR_MUST enum dr_code dr_entry_number(const json_t *body, const char *field, uint64_t min,
                                     uint64_t max, uint64_t *out, struct dr_err *err);
/* A request's body: an object; absent or null is an empty one. */
DR_MUST enum dr_code dr_entry_check_body(const json_t *body, struct dr_err *err);

#endif
