/* SPDX-License-Identifier: Apache-2.0 */
/* A consistent-hash ring over shard ids: 100 virtual nodes per shard, a function of the set of ids
 * alone. Immutable after creation; any thread may look up. Vectors: facts page of the reference. */
#ifndef DR_CATALOG_RING_H
#define DR_CATALOG_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { DR_RING_NODES_PER_SHARD = 100 };

struct dr_ring;
/* ids need no order and hold no duplicates; count 0 gives a ring without owners. */
DR_MUST enum dr_code dr_ring_create(const uint32_t *shard_id, uint32_t count, struct dr_ring **out,
                                    struct dr_err *err);
void dr_ring_destroy(struct dr_ring *r); /* accepts NULL */
uint32_t dr_ring_shard_count(const struct dr_ring *r);
/* Owner of a point hash (dr_point_hash). The ring must not be empty. First node with key >= hash,
 * behind the last one the first. */
uint32_t dr_ring_owner(const struct dr_ring *r, uint64_t hash);
/* Owners of many: owner[i] is dr_ring_owner of hash[i], but the waits for memory overlap. */
void dr_ring_owners(const struct dr_ring *r, const uint64_t *hash, size_t count, uint32_t *owner);

#endif
