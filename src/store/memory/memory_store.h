/* SPDX-License-Identifier: Apache-2.0 */
/* The memory store: a sharded database inside the process, for tests of everything above a store.
 *
 * URL `memory:NAME`. Stores live in a process-wide registry behind one mutex: handles of several
 * threads share one NAME. A test makes the store with the functions below; opening an unknown NAME
 * is DR_UNREACHABLE, and so is every call on a handle whose store was removed.
 *
 * Rows have an integer id, unique per node, and named values. A row's key is its encoded id, its
 * value the encoded whole row. Walks: by shard key and id, by hash and id, by index fields and id,
 * by id. Indexes declare an order only: unique ones are not enforced.
 *
 * Commands, one a line or separated by ';', letters of any case, "quotes" around names allowed:
 *   create index NAME [on DB.COLL (FIELD, ...)]     drop index NAME
 *   create collection DB.COLL                       drop collection DB.COLL   (DR_REFUSED with
 * rows) "if exists" and "if not exists" are accepted and change nothing; `table` means
 * `collection`. */
#ifndef DR_STORE_MEMORY_MEMORY_STORE_H
#define DR_STORE_MEMORY_MEMORY_STORE_H

#include "store/store.h"

const struct dr_store_ops *dr_store_memory_ops(void);

/* ---- For tests. Messages are left out: a test only asks whether it worked. ---- */

enum dr_memory_flag {
    DR_MEMORY_VIEW = 1 << 0,
    DR_MEMORY_SYSTEM = 1 << 1,
    DR_MEMORY_TRIGGERS = 1 << 2,
    DR_MEMORY_REFERENCE = 1 << 3,
};

struct dr_memory_field {
    const char *name;
    struct dr_value value;
};

/* An empty store of this name; what the name held before is gone. */
DR_MUST enum dr_code dr_memory_reset(const char *name);
/* Take the store out of the registry. */
void dr_memory_remove(const char *name);
DR_MUST enum dr_code dr_memory_add_node(const char *name, const char *node);
/* A collection that exists on every node added so far and on those added later by a chunk or row;
 * `primary` holds it all when it is unsharded. The epoch starts at 1. */
DR_MUST enum dr_code dr_memory_add_collection(const char *name, const char *collection,
                                              enum dr_sharding sharding, const char *const *key,
                                              uint32_t key_count, const char *primary);
/* Bounds are copied. Does not bump the epoch: it is for laying out. */
DR_MUST enum dr_code dr_memory_add_chunk(const char *name, const char *collection, const char *node,
                                         const struct dr_bound *from, const struct dr_bound *upto);
DR_MUST enum dr_code dr_memory_add_index(const char *name, const char *collection,
                                         const char *index, const char *const *field,
                                         uint32_t field_count, bool is_unique, bool is_partial);
/* Replace the flags of a collection by `flags` (DR_MEMORY_*). */
DR_MUST enum dr_code dr_memory_set_flags(const char *name, const char *collection, unsigned flags);
/* Insert or overwrite a row, on this very node: whether its chunk lives there is not asked. */
DR_MUST enum dr_code dr_memory_put(const char *name, const char *collection, const char *node,
                                   int64_t id, const struct dr_memory_field *field,
                                   uint32_t field_count);
/* DR_NOT_FOUND when the row is not there. */
DR_MUST enum dr_code dr_memory_delete(const char *name, const char *collection, const char *node,
                                      int64_t id);
/* Make the stored hash of a row of a hashed collection say something else. */
DR_MUST enum dr_code dr_memory_set_hash(const char *name, const char *collection, const char *node,
                                        int64_t id, int64_t hash);
/* Give the chunk that starts at `from` to `node`, with its rows, and bump the epoch. DR_CONFLICT
 * when the target holds a row of the same id. */
DR_MUST enum dr_code dr_memory_move_chunk(const char *name, const char *collection,
                                          const struct dr_bound *from, const char *node);
DR_MUST enum dr_code dr_memory_bump_epoch(const char *name, const char *collection);
/* `reason` is copied; it is only told while not ok. */
DR_MUST enum dr_code dr_memory_set_health(const char *name, const char *node, bool is_ok,
                                          const char *reason);
/* All rows of a collection on a node, or on all nodes (NULL); 0 when there is no such thing. */
uint64_t dr_memory_count(const char *name, const char *collection, const char *node);
bool dr_memory_has_row(const char *name, const char *collection, const char *node, int64_t id);
/* Sum over nodes and rows that does not depend on the order of insertion; equal sums, equal rows in
 * equal places. 0 for an empty or unknown collection. */
uint64_t dr_memory_checksum(const char *name, const char *collection);
bool dr_memory_has_index(const char *name, const char *index);
bool dr_memory_has_collection(const char *name, const char *collection);
/* The state that was published last for this spec, to be freed with dr_free; NULL: none was.
 * *times_out (may be NULL): how often anything was published for it. */
char *dr_memory_published(const char *name, const char *spec, uint64_t *times_out);

#endif
