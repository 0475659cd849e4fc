/* SPDX-License-Identifier: Apache-2.0 */
/* From ids and a selector to shards, and from shards to replicas. One request looks at one state of
 * the catalog, from beginning to end. */
#include <string.h>

#include "cluster/cluster_private.h"

bool dr_points_begin(struct dr_cluster *c, const struct dr_cluster_caller *who,
                     const char *collection, const json_t *shard_key, struct point_route *r,
                     struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    memset(r, 0, sizeof *r);
    if (!dr_cluster_catch_up(c, dr_caller_timeout(who))) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE,
                      "this peer has not caught up with the others since its start");
        return false;
    }
    r->arena = dr_arena_create(4096);
    if (r->arena == NULL) {
        dr_reply_give(reply, NULL);
        return false;
    }
    r->cat = dr_cluster_catalog(c);
    r->info = dr_reply_find(r->cat, collection, reply);
    if (r->info == NULL) {
        return false;
    }
    if (dr_selector_from_json(shard_key, r->arena, &r->selector, &err) != DR_OK) {
        dr_reply_err(reply, &err);
        return false;
    }
    return true;
}

void dr_points_end(struct point_route *r)
{
    for (uint32_t i = 0; i < r->target_count; i++) {
        dr_free(r->target[i].at);
    }
    dr_free(r->target);
    dr_catalog_unref(r->cat);
    dr_arena_destroy(r->arena);
    memset(r, 0, sizeof *r);
}

/* The target of this shard, made when new, in the order of ids. */
static struct point_target *find_target(struct point_route *r, uint32_t shard_id)
{
    uint32_t low = 0;
    uint32_t high = r->target_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (r->target[mid].shard_id < shard_id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low < r->target_count && r->target[low].shard_id == shard_id) {
        return &r->target[low];
    }
    if (r->target_count == r->target_room) {
        uint32_t room = r->target_room == 0 ? 8 : r->target_room * 2;
        struct point_target *more = dr_realloc(r->target, room * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        r->target = more;
        r->target_room = room;
    }
    memmove(r->target + low + 1, r->target + low, (r->target_count - low) * sizeof *r->target);
    r->target_count++;
    r->target[low] = (struct point_target){.shard_id = shard_id};
    return &r->target[low];
}

static bool add_at(struct point_target *t, size_t at)
{
    if (t->count == t->room) {
        size_t room = t->room == 0 ? 8 : t->room * 2;
        size_t *more = dr_realloc(t->at, room * sizeof *more);
        if (more == NULL) {
            return false;
        }
        t->at = more;
        t->room = room;
    }
    t->at[t->count++] = at;
    return true;
}

/* Room for what a request can touch: two shards of each ring. */
static enum dr_code make_room(struct point_route *r, uint32_t count, uint32_t **out,
                              struct dr_err *err)
{
    *out = dr_malloc(((size_t)count + 1) * sizeof **out);
    (void)r;
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_points_aim(struct point_route *r, const struct dr_point_id *id, size_t at,
                           bool is_write, struct dr_err *err)
{
    uint32_t few[16];
    uint32_t *shard = few;
    uint32_t max = r->info->key_ring_count * 2 + 2;
    uint32_t count = 0;
    enum dr_code rc = DR_OK;
    if (max > sizeof few / sizeof few[0]) {
        rc = make_room(r, max, &shard, err);
    }
    if (rc == DR_OK) {
        rc = dr_route_point(r->info, &r->selector, id, is_write, shard, max, &count, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        struct point_target *t = find_target(r, shard[i]);
        if (t == NULL || !add_at(t, at)) {
            rc = dr_fail_nomem(err);
        }
    }
    if (shard != few) {
        dr_free(shard);
    }
    return rc;
}

enum dr_code dr_points_aim_all(struct point_route *r, struct dr_err *err)
{
    uint32_t *shard = NULL;
    uint32_t count = 0;
    enum dr_code rc = make_room(r, r->info->shard_count, &shard, err);
    if (rc == DR_OK) {
        rc = dr_route_all(r->info, &r->selector, false, shard, r->info->shard_count + 1, &count,
                          err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = find_target(r, shard[i]) == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_free(shard);
    return rc;
}

const struct dr_key_ring *dr_points_key_ring(const struct dr_collection_info *info,
                                             const struct dr_shard *s)
{
    return dr_collection_ring(info, s->has_key ? &s->key : NULL);
}

const struct dr_ring *dr_points_read_ring(const struct dr_collection_info *info,
                                          const struct dr_shard *s)
{
    const struct dr_key_ring *ring = dr_points_key_ring(info, s);
    if (ring == NULL) {
        return NULL;
    }
    bool reads_next = ring->next != NULL && info->resharding != NULL &&
                      info->resharding->stage != DR_RESHARD_MIGRATING;
    return reads_next ? ring->next : ring->ring;
}

uint32_t dr_points_readers(const struct dr_cluster *c, const struct dr_shard *s, uint64_t *peer_out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (!dr_replica_is_readable(s->replica[i].state)) {
            continue;
        }
        if (s->replica[i].peer_id == c->id && count > 0) { /* the nearest first */
            peer_out[count++] = peer_out[0];
            peer_out[0] = c->id;
        } else {
            peer_out[count++] = s->replica[i].peer_id;
        }
    }
    return count;
}
