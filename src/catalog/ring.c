/* SPDX-License-Identifier: Apache-2.0 */
/* The ring: all virtual nodes in order of their keys, and buckets by the top bits of a hash.
 *
 * A bucket is one cache line with sixteen short keys (the bits behind the bucket's own) and the
 * places of their shards. A lookup counts the short keys below the hash's, without a branch: the
 * processor goes on to the next lookup while this one's line comes from memory, which is what large
 * rings live on. Only where sixteen bits do not tell two keys apart, or where a bucket has more
 * nodes than a line, are the nodes themselves read.
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
    LINE_NODES = 16,
    LINE_NODES_MEAN = 8, /* at most; more than fit has one bucket in some hundreds */
    BUCKET_BITS_MIN = 4,
    BUCKET_BITS_MAX = 24,
    PLACE_UNKNOWN = UINT16_MAX, /* look at the nodes */
    INSERTION_SORT_MAX = 24,    /* above, a bucket is handed to qsort: hash floods stay cheap */
    AHEAD = 16,                 /* lookups whose lines are fetched at the same time */
};

struct node {
    uint64_t key;
    uint32_t shard_id;
};

/* Unused slots hold the greatest short key. The first of them has the owner of what is behind the
 * bucket's last node. */
struct line {
    _Alignas(64) uint16_t key[LINE_NODES];
    uint16_t place[LINE_NODES]; /* of the shard in shard_id */
};

static_assert(sizeof(struct line) == 64, "a line is a cache line");

struct dr_ring {
    uint32_t shard_count;
    uint32_t node_count;    /* 0 for rings of no or one shard */
    uint32_t only_shard_id; /* of a ring of one */
    unsigned shift;         /* a hash's bucket is hash >> shift */
    struct node *node;      /* by key, and a sentinel behind: see find_owner */
    uint32_t *first;        /* each bucket's first node; the last has the count of all */
    struct line *line;      /* in line_memory, at the next whole line */
    void *line_memory;
    uint32_t *shard_id; /* ascending */
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

/* Sort by the buckets: keys are even by construction, so a bucket has few nodes and the whole costs
 * two passes. Leaves first[b] as the end of bucket b; set_lines moves them. */
static void fill_nodes(struct dr_ring *r, size_t buckets)
{
    struct node *node = r->node;
    for (uint32_t s = 0; s < r->shard_count; s++) {
        for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
            r->first[make_node_key(r->shard_id[s], i) >> r->shift]++;
        }
    }
    uint32_t sum = 0;
    for (size_t b = 0; b <= buckets; b++) {
        uint32_t count = r->first[b];
        r->first[b] = sum;
        sum += count;
    }
    assert(sum == r->node_count);
    for (uint32_t s = 0; s < r->shard_count; s++) {
        for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
            uint64_t key = make_node_key(r->shard_id[s], i);
            node[r->first[key >> r->shift]++] = (struct node){.key = key, .shard_id = s};
        }
    }
    for (size_t b = buckets; b > 0; b--) { /* each start has become its end: the next one's start */
        r->first[b] = r->first[b - 1];
    }
    r->first[0] = 0;
    for (size_t b = 0; b < buckets; b++) {
        sort_bucket(node + r->first[b], r->first[b + 1] - r->first[b]);
    }
    node[r->node_count] = (struct node){.key = UINT64_MAX, .shard_id = node[0].shard_id};
}

/* The bits of a hash behind those of its bucket. */
static uint16_t short_key(const struct dr_ring *r, uint64_t hash)
{
    return (uint16_t)(hash >> (r->shift - 16));
}

static void fill_line(const struct dr_ring *r, size_t bucket, struct line *line)
{
    const struct node *node = r->node + r->first[bucket];
    const uint32_t count = r->first[bucket + 1] - r->first[bucket];
    const bool is_known = count < LINE_NODES && r->shard_count < PLACE_UNKNOWN;
    for (uint32_t i = 0; i < LINE_NODES; i++) {
        line->key[i] = UINT16_MAX;
        line->place[i] = PLACE_UNKNOWN;
    }
    for (uint32_t i = 0; is_known && i <= count; i++) {
        line->key[i] = i < count ? short_key(r, node[i].key) : UINT16_MAX;
        line->place[i] = (uint16_t)node[i].shard_id; /* the sentinel is behind the last */
    }
}

static enum dr_code build_ring(struct dr_ring *r, struct dr_err *err)
{
    unsigned bits = BUCKET_BITS_MIN;
    r->node_count = r->shard_count * DR_RING_NODES_PER_SHARD;
    while (bits < BUCKET_BITS_MAX && (uint64_t)LINE_NODES_MEAN << bits < r->node_count) {
        bits++;
    }
    size_t buckets = (size_t)1 << bits;
    r->shift = 64 - bits;
    r->node = dr_malloc(((size_t)r->node_count + 1) * sizeof *r->node);
    r->first = dr_calloc(buckets + 1, sizeof *r->first);
    r->line_memory = dr_malloc((buckets + 1) * sizeof *r->line);
    if (r->node == NULL || r->first == NULL || r->line_memory == NULL) {
        return dr_fail_nomem(err);
    }
    size_t past = (uintptr_t)r->line_memory % sizeof *r->line;
    r->line = (void *)((char *)r->line_memory + (past == 0 ? 0 : sizeof *r->line - past));
    fill_nodes(r, buckets);
    for (size_t b = 0; b < buckets; b++) {
        fill_line(r, b, &r->line[b]);
    }
    return DR_OK;
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
    r->shard_id = dr_memdup(shard_id, (size_t)count * sizeof *shard_id);
    if (r->shard_id == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    qsort(r->shard_id, count, sizeof *r->shard_id, compare_ids);
    for (uint32_t i = 1; i < count; i++) {
        if (r->shard_id[i] == r->shard_id[i - 1]) {
            rc = dr_fail(err, DR_INPUT, "shard %u stands twice in the list of a ring",
                         r->shard_id[i]);
            goto out;
        }
    }
    rc = build_ring(r, err);
out:
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
    dr_free(r->first);
    dr_free(r->line_memory);
    dr_free(r->shard_id);
    dr_free(r);
}

uint32_t dr_ring_shard_count(const struct dr_ring *r)
{
    return r->shard_count;
}

/* By the nodes themselves. The sentinel's key is the greatest there is, so the loop ends there at
 * the latest, and its owner is the first node's: the ring closes without a test. */
static uint32_t find_owner(const struct dr_ring *r, uint64_t hash)
{
    uint32_t at = r->first[hash >> r->shift];
    while (r->node[at].key < hash) {
        at++;
    }
    return r->shard_id[r->node[at].shard_id];
}

static inline uint32_t look_up(const struct dr_ring *r, uint64_t hash)
{
    const struct line *line = &r->line[hash >> r->shift];
    const uint16_t key = short_key(r, hash);
    uint16_t below = 0;
    for (unsigned i = 0; i < LINE_NODES; i++) {
        below = (uint16_t)(below + (line->key[i] < key));
    }
    const uint16_t place = line->place[below % LINE_NODES];
    if (line->key[below % LINE_NODES] == key || place == PLACE_UNKNOWN) {
        return find_owner(r, hash);
    }
    return r->shard_id[place];
}

uint32_t dr_ring_owner(const struct dr_ring *r, uint64_t hash)
{
    if (r->node_count == 0) {
        assert(r->shard_count == 1);
        return r->only_shard_id;
    }
    return look_up(r, hash);
}

void dr_ring_owners(const struct dr_ring *r, const uint64_t *hash, size_t count, uint32_t *owner)
{
    if (r->node_count == 0) {
        assert(r->shard_count == 1);
        for (size_t i = 0; i < count; i++) {
            owner[i] = r->only_shard_id;
        }
        return;
    }
    for (size_t i = 0; i < count && i < AHEAD; i++) {
        __builtin_prefetch(&r->line[hash[i] >> r->shift]);
    }
    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            __builtin_prefetch(&r->line[hash[i + AHEAD] >> r->shift]);
        }
        owner[i] = look_up(r, hash[i]);
    }
}
