/* SPDX-License-Identifier: Apache-2.0 */
/* The ring: all virtual nodes in order of their keys, and a jump table by the top bits of a hash,
 * so that a lookup is one read of the table and about one comparison.
 *
 * A ring of one shard needs no nodes: every id is that shard's. This matters because a tenant with
 * a key of its own has just that, a hundred thousand times over. */
#include "catalog/ring.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "catalog/catalog_private.h"

enum {
    JUMP_BITS_MIN = 4,
    JUMP_BITS_MAX = 25,
    INSERTION_SORT_MAX = 24, /* above, a bucket is handed to qsort: hash floods stay cheap */
};

struct node {
    uint64_t key;
    uint32_t shard_id;
};

struct dr_ring {
    uint32_t shard_count;
    uint32_t node_count;    /* 0 for rings of no or one shard */
    uint32_t only_shard_id; /* of a ring of one */
    unsigned shift;         /* a hash's place in the jump table is hash >> shift */
    struct node *node;      /* by key, and a sentinel behind: see dr_ring_owner */
    uint32_t *jump;         /* first node whose key's top bits are this or more */
};

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

/* Equal keys go to the smaller shard id, so that the ring does not depend on the order of ids. */
static int compare_nodes(const void *a, const void *b)
{
    const struct node *x = a;
    const struct node *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->shard_id < y->shard_id ? -1 : x->shard_id > y->shard_id ? 1 : 0;
}

static uint64_t make_node_key(uint32_t shard_id, uint32_t index)
{
    const uint64_t word = (uint64_t)index << 32 | shard_id; /* u32 id, u32 index, little-endian */
    return dr_catalog_hash_words(&word, 1);
}

static void sort_bucket(struct node *node, size_t count)
{
    if (count > INSERTION_SORT_MAX) {
        qsort(node, count, sizeof *node, compare_nodes);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct node taken = node[i];
        size_t at = i;
        for (; at > 0 && compare_nodes(&taken, &node[at - 1]) < 0; at--) {
            node[at] = node[at - 1];
        }
        node[at] = taken;
    }
}

/* Sort by the jump table's own buckets: keys are even by construction, so a bucket has about one
 * node and the whole costs two passes. */
static enum dr_code fill_nodes(struct dr_ring *r, const uint32_t *shard_id, size_t buckets,
                               struct dr_err *err)
{
    struct node *node = r->node;
    uint32_t *next = dr_malloc(buckets * sizeof *next);
    if (next == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t s = 0; s < r->shard_count; s++) {
        for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
            r->jump[make_node_key(shard_id[s], i) >> r->shift]++;
        }
    }
    uint32_t sum = 0;
    for (size_t b = 0; b < buckets; b++) {
        uint32_t count = r->jump[b];
        r->jump[b] = sum;
        next[b] = sum;
        sum += count;
    }
    assert(sum == r->node_count);
    for (uint32_t s = 0; s < r->shard_count; s++) {
        for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
            uint64_t key = make_node_key(shard_id[s], i);
            node[next[key >> r->shift]++] = (struct node){.key = key, .shard_id = shard_id[s]};
        }
    }
    for (size_t b = 0; b < buckets; b++) {
        sort_bucket(node + r->jump[b], next[b] - r->jump[b]);
    }
    node[r->node_count] = (struct node){.key = UINT64_MAX, .shard_id = node[0].shard_id};
    dr_free(next);
    return DR_OK;
}

static enum dr_code build_ring(struct dr_ring *r, const uint32_t *shard_id, struct dr_err *err)
{
    unsigned bits = JUMP_BITS_MIN;
    r->node_count = r->shard_count * DR_RING_NODES_PER_SHARD;
    while (bits < JUMP_BITS_MAX && (UINT64_C(1) << bits) < 2 * (uint64_t)r->node_count) {
        bits++;
    }
    size_t buckets = (size_t)1 << bits;
    r->shift = 64 - bits;
    r->node = dr_malloc(((size_t)r->node_count + 1) * sizeof *r->node);
    r->jump = dr_calloc(buckets, sizeof *r->jump);
    if (r->node == NULL || r->jump == NULL) {
        return dr_fail_nomem(err);
    }
    return fill_nodes(r, shard_id, buckets, err);
}

enum dr_code dr_ring_create(const uint32_t *shard_id, uint32_t count, struct dr_ring **out,
                            struct dr_err *err)
{
    *out = NULL;
    if (count > UINT32_MAX / DR_RING_NODES_PER_SHARD - 1) {
        return dr_fail(err, DR_INPUT, "a ring of %u shards; at most %u are possible", count,
                       UINT32_MAX / DR_RING_NODES_PER_SHARD - 1);
    }
    enum dr_code rc = DR_OK;
    uint32_t *sorted = NULL;
    struct dr_ring *r = dr_calloc(1, sizeof *r);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    r->shard_count = count;
    if (count == 1) {
        r->only_shard_id = shard_id[0];
    }
    if (count <= 1) {
        goto out;
    }
    sorted = dr_memdup(shard_id, (size_t)count * sizeof *sorted);
    if (sorted == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    qsort(sorted, count, sizeof *sorted, compare_ids);
    for (uint32_t i = 1; i < count; i++) {
        if (sorted[i] == sorted[i - 1]) {
            rc = dr_fail(err, DR_INPUT, "shard %u stands twice in the list of a ring", sorted[i]);
            goto out;
        }
    }
    rc = build_ring(r, sorted, err);
out:
    dr_free(sorted);
    if (rc != DR_OK) {
        dr_ring_destroy(r);
        return rc;
    }
    *out = r;
    return DR_OK;
}

void dr_ring_destroy(struct dr_ring *r)
{
    if (r == NULL) {
        return;
    }
    dr_free(r->node);
    dr_free(r->jump);
    dr_free(r);
}

uint32_t dr_ring_shard_count(const struct dr_ring *r)
{
    return r->shard_count;
}

uint32_t dr_ring_owner(const struct dr_ring *r, uint64_t hash)
{
    if (r->node_count == 0) {
        assert(r->shard_count == 1);
        return r->only_shard_id;
    }
    /* The sentinel's key is the greatest there is, so the loop ends there at the latest, and its
     * owner is the first node's: the ring closes without a test. */
    uint32_t at = r->jump[hash >> r->shift];
    while (r->node[at].key < hash) {
        at++;
    }
    return r->node[at].shard_id;
}
