/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen collections: a draft goes in, and one block with everything in its order and the rings of
 * its keys comes out. A ring whose ids stayed the same is not built again but shared with the
 * collection the draft came from: that is why a promotion cannot move an id, and why it is fast. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_private.h"

enum { COLLECTION_BLOCK_BYTES = 1024 };

static struct dr_ring_box *take_box(struct dr_ring_box *box)
{
    atomic_fetch_add_explicit(&box->refs, 1, memory_order_relaxed);
    return box;
}

static void give_back_box(struct dr_ring_box *box)
{
    if (box != NULL && atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) == 1) {
        dr_ring_destroy(box->ring);
        dr_free(box);
    }
}

static enum dr_code create_box(const uint32_t *shard_id, uint32_t count, struct dr_ring_box **out,
                               struct dr_err *err)
{
    struct dr_ring_box *box = dr_calloc(1, sizeof *box + count * sizeof box->shard_id[0]);
    if (box == NULL) {
        return dr_fail_nomem(err);
    }
    box->refs = 1;
    box->count = count;
    if (count > 0) {
        memcpy(box->shard_id, shard_id, count * sizeof *shard_id);
    }
    enum dr_code rc = dr_ring_create(shard_id, count, &box->ring, err);
    if (rc != DR_OK) {
        give_back_box(box);
        return rc;
    }
    *out = box;
    return DR_OK;
}

static bool is_box_of(const struct dr_ring_box *box, const uint32_t *shard_id, uint32_t count)
{
    return box != NULL && box->count == count &&
           memcmp(box->shard_id, shard_id, count * sizeof *shard_id) == 0;
}

struct dr_collection *dr_collection_ref(const struct dr_collection *c)
{
    struct dr_collection *same = (struct dr_collection *)c; /* only the counter is written */
    uint32_t before = atomic_fetch_add_explicit(&same->refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    return same;
}

void dr_collection_unref(struct dr_collection *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; c->box != NULL && i < 2 * c->info.key_ring_count; i++) {
        give_back_box(c->box[i]);
    }
    json_decref((json_t *)c->info.vectors);
    json_decref((json_t *)c->info.metadata);
    dr_arena_destroy(c->arena);
    dr_free(c);
}

static const struct dr_collection *collection_of(const struct dr_collection_info *info)
{
    return (const struct dr_collection *)((const char *)info -
                                          offsetof(struct dr_collection, info));
}

/* Where this key stands among the rings, or UINT32_MAX. */
static uint32_t find_ring(const struct dr_collection_info *info, const struct dr_shard_key *key)
{
    if (info->method == DR_SHARDING_AUTO) {
        return key == NULL && info->key_ring_count == 1 ? 0 : UINT32_MAX;
    }
    uint32_t from = 0;
    uint32_t upto = key == NULL ? 0 : info->key_ring_count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        int order = dr_shard_key_compare(&info->key_ring[middle].key, key);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return UINT32_MAX;
}

const struct dr_key_ring *dr_collection_ring(const struct dr_collection_info *c,
                                             const struct dr_shard_key *key)
{
    uint32_t at = find_ring(c, key);
    return at == UINT32_MAX ? NULL : &c->key_ring[at];
}

const struct dr_shard *dr_collection_shard(const struct dr_collection_info *c, uint32_t id)
{
    uint32_t from = 0;
    uint32_t upto = c->shard_count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        if (c->shard[middle].id < id) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return from < c->shard_count && c->shard[from].id == id ? &c->shard[from] : NULL;
}

/* The box for these ids: one of `old` when it has them under this key, or under none. */
static enum dr_code obtain_box(const struct dr_collection *old, const struct dr_shard_key *key,
                               const uint32_t *shard_id, uint32_t count, struct dr_ring_box **out,
                               struct dr_err *err)
{
    if (old != NULL && old->info.key_ring_count > 0) {
        uint32_t at = old->info.method == DR_SHARDING_AUTO ? 0 : find_ring(&old->info, key);
        for (uint32_t i = 0; at != UINT32_MAX && i < 2; i++) {
            if (is_box_of(old->box[2 * (size_t)at + i], shard_id, count)) {
                *out = take_box(old->box[2 * (size_t)at + i]);
                return DR_OK;
            }
        }
    }
    return create_box(shard_id, count, out, err);
}

/* `all` without `id`, into `some`; returns how many. */
static uint32_t leave_out(const uint32_t *all, uint32_t count, uint32_t id, uint32_t *some)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (all[i] != id) {
            some[kept++] = all[i];
        }
    }
    return kept;
}

static bool is_resharded(const struct dr_draft *d, const struct dr_shard_key *key)
{
    if (!d->is_resharding || d->resharding.has_key != (key != NULL)) {
        return false;
    }
    return key == NULL || dr_shard_key_compare(&d->resharding.key, key) == 0;
}

/* The ring, or both while a resharding is not committed, of one key. Up: the new shard joins in the
 * next ring. Down: the shard to go is missing there. */
static enum dr_code fill_rings(const struct dr_draft *d, const struct dr_collection *old,
                               struct dr_collection *c, uint32_t at, uint32_t *scratch,
                               struct dr_err *err)
{
    struct dr_key_ring *ring = (struct dr_key_ring *)&c->info.key_ring[at];
    const struct dr_shard_key *key = ring->has_key ? &ring->key : NULL;
    const struct dr_resharding *r = &d->resharding;
    const uint32_t *now = ring->shard_id;
    const uint32_t *next = now;
    uint32_t now_count = ring->shard_count;
    uint32_t next_count = now_count;
    bool is_moving = false;
    if (is_resharded(d, key)) {
        bool is_committed = r->stage == DR_RESHARD_WRITE_COMMITTED;
        uint32_t kept = leave_out(ring->shard_id, ring->shard_count, r->shard_id, scratch);
        is_moving = !is_committed;
        if (r->is_up != is_committed) {
            now = scratch;
            now_count = kept;
        }
        if (!r->is_up) {
            next = scratch;
            next_count = kept;
        }
    }
    enum dr_code rc = obtain_box(old, key, now, now_count, &c->box[2 * (size_t)at], err);
    if (rc == DR_OK && is_moving) {
        rc = obtain_box(old, key, next, next_count, &c->box[2 * (size_t)at + 1], err);
    }
    if (rc == DR_OK) {
        ring->ring = c->box[2 * (size_t)at]->ring;
        ring->next = is_moving ? c->box[2 * (size_t)at + 1]->ring : NULL;
    }
    return rc;
}

static int compare_shard_refs(const void *a, const void *b)
{
    const struct dr_shard *x = *(const struct dr_shard *const *)a;
    const struct dr_shard *y = *(const struct dr_shard *const *)b;
    if (x->has_key != y->has_key) {
        return x->has_key ? 1 : -1;
    }
    int order = x->has_key ? dr_shard_key_compare(&x->key, &y->key) : 0;
    if (order != 0) {
        return order;
    }
    return x->id < y->id ? -1 : x->id > y->id ? 1 : 0;
}

static bool is_same_key(const struct dr_shard *a, const struct dr_shard *b)
{
    return a->has_key == b->has_key && (!a->has_key || dr_shard_key_compare(&a->key, &b->key) == 0);
}

/* Group the shards by key. An auto collection has its one ring even where it has no shard. */
static enum dr_code group_keys(struct dr_collection *c, const struct dr_shard **ref,
                               struct dr_err *err)
{
    uint32_t count = c->info.shard_count;
    uint32_t groups = c->info.method == DR_SHARDING_AUTO && count == 0 ? 1 : 0;
    for (uint32_t i = 0; i < count; i++) {
        ref[i] = &c->info.shard[i];
    }
    qsort(ref, count, sizeof(void *), compare_shard_refs);
    for (uint32_t i = 0; i < count; i++) {
        groups += i == 0 || !is_same_key(ref[i], ref[i - 1]) ? 1 : 0;
    }
    struct dr_key_ring *ring = dr_arena_alloc(c->arena, (groups + 1) * sizeof *ring);
    uint32_t *id = dr_arena_alloc(c->arena, (count + 1) * sizeof *id);
    c->box = dr_arena_alloc(c->arena, (2 * (size_t)groups + 1) * sizeof(void *));
    if (ring == NULL || id == NULL || c->box == NULL) {
        c->box = NULL;
        return dr_fail_nomem(err);
    }
    memset(ring, 0, (groups + 1) * sizeof *ring);
    memset(c->box, 0, (2 * (size_t)groups + 1) * sizeof(void *));
    uint32_t at = 0;
    ring[0].shard_id = id;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && !is_same_key(ref[i], ref[i - 1])) {
            at++;
            ring[at].shard_id = id + i;
        }
        if (ring[at].shard_count == 0 && ref[i]->has_key) {
            ring[at].has_key = true;
            ring[at].key = ref[i]->key;
        }
        ring[at].shard_count++;
        id[i] = ref[i]->id;
    }
    c->info.key_ring = ring;
    c->info.key_ring_count = groups;
    return DR_OK;
}

static enum dr_code copy_shards(const struct dr_draft *d, struct dr_collection *c,
                                struct dr_err *err)
{
    size_t replicas = 0;
    for (uint32_t i = 0; i < d->shard_count; i++) {
        replicas += d->shard[i].replica_count;
    }
    struct dr_shard *shard = dr_arena_alloc(c->arena, (d->shard_count + 1) * sizeof *shard);
    struct dr_replica *replica = dr_arena_alloc(c->arena, (replicas + 1) * sizeof *replica);
    if (shard == NULL || replica == NULL) {
        return dr_fail_nomem(err);
    }
    if (d->shard_count > 0) {
        memcpy(shard, d->shard, d->shard_count * sizeof *shard);
    }
    for (uint32_t i = 0; i < d->shard_count; i++) {
        if (shard[i].replica_count > 0) {
            memcpy(replica, shard[i].replica, shard[i].replica_count * sizeof *replica);
        }
        shard[i].replica = replica;
        replica += shard[i].replica_count;
    }
    c->info.shard = shard;
    c->info.shard_count = d->shard_count;
    return DR_OK;
}

static enum dr_code copy_rest(const struct dr_draft *d, struct dr_collection *c, struct dr_err *err)
{
    c->info.name = dr_arena_strdup(c->arena, d->info.name);
    c->info.transfer =
        dr_arena_memdup(c->arena, d->transfer, d->transfer_count * sizeof *d->transfer);
    if (c->info.name == NULL || c->info.transfer == NULL) {
        return dr_fail_nomem(err);
    }
    c->info.transfer_count = d->transfer_count;
    if (d->is_resharding) {
        c->info.resharding = dr_arena_memdup(c->arena, &d->resharding, sizeof d->resharding);
        if (c->info.resharding == NULL) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

enum dr_code dr_draft_freeze(const struct dr_draft *d, const struct dr_collection *old,
                             struct dr_collection **out, struct dr_err *err)
{
    *out = NULL;
    uint32_t *scratch = NULL;
    const struct dr_shard **ref = NULL;
    enum dr_code rc = DR_OK;
    struct dr_collection *c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->refs = 1;
    c->info = d->info;
    c->info.vectors = json_incref((json_t *)d->info.vectors);
    c->info.metadata = json_incref((json_t *)d->info.metadata);
    c->info.resharding = NULL;
    c->info.key_ring_count = 0;
    c->next_shard_id = d->next_shard_id;
    c->arena = dr_arena_create(COLLECTION_BLOCK_BYTES);
    scratch = dr_malloc((size_t)d->shard_count * sizeof *scratch);
    ref = dr_malloc((size_t)d->shard_count * sizeof(void *));
    if (c->arena == NULL || scratch == NULL || ref == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = copy_rest(d, c, err);
    if (rc == DR_OK) {
        rc = copy_shards(d, c, err);
    }
    if (rc == DR_OK) {
        rc = group_keys(c, ref, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < c->info.key_ring_count; i++) {
        rc = fill_rings(d, old, c, i, scratch, err);
    }
out:
    dr_free(ref);
    dr_free(scratch);
    if (rc != DR_OK) {
        dr_collection_unref(c);
        return rc;
    }
    assert(collection_of(&c->info) == c);
    *out = c;
    return DR_OK;
}
