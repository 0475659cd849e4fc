/* SPDX-License-Identifier: Apache-2.0 */
/* Drafts: the collection as an operation, or the reader of a snapshot, builds it, and the one list
 * of what a collection must keep to. Everything lives in the arena of the operation. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "catalog/catalog_private.h"

enum dr_code dr_draft_begin(struct dr_draft *d, struct dr_arena *arena,
                            const struct dr_collection *old, uint32_t extra_shards,
                            struct dr_err *err)
{
    memset(d, 0, sizeof *d);
    d->arena = arena;
    const struct dr_collection_info none = {.name = ""};
    const struct dr_collection_info *info = old == NULL ? &none : &old->info;
    d->info = *info;
    d->shard_count = info->shard_count;
    d->shard_room = info->shard_count + extra_shards;
    d->transfer_count = info->transfer_count;
    d->next_shard_id = old == NULL ? 0 : old->next_shard_id;
    d->shard = dr_arena_alloc(arena, (size_t)d->shard_room * sizeof *d->shard);
    d->transfer = dr_arena_alloc(arena, ((size_t)d->transfer_count + 1) * sizeof *d->transfer);
    if (d->shard == NULL || d->transfer == NULL) {
        return dr_fail_nomem(err);
    }
    if (info->shard_count > 0) {
        memcpy(d->shard, info->shard, info->shard_count * sizeof *d->shard);
    }
    if (info->transfer_count > 0) {
        memcpy(d->transfer, info->transfer, info->transfer_count * sizeof *d->transfer);
    }
    if (info->resharding != NULL) {
        d->is_resharding = true;
        d->resharding = *info->resharding;
    }
    return DR_OK;
}

/* Where this shard stands, or would. */
static uint32_t find_place(const struct dr_draft *d, uint32_t id)
{
    uint32_t from = 0;
    uint32_t upto = d->shard_count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        if (d->shard[middle].id < id) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return from;
}

struct dr_shard *dr_draft_shard(struct dr_draft *d, uint32_t id)
{
    uint32_t at = find_place(d, id);
    return at < d->shard_count && d->shard[at].id == id ? &d->shard[at] : NULL;
}

void dr_draft_add_shard(struct dr_draft *d, const struct dr_shard *shard)
{
    uint32_t at = find_place(d, shard->id);
    assert(d->shard_count < d->shard_room);
    assert(at == d->shard_count || d->shard[at].id != shard->id);
    memmove(d->shard + at + 1, d->shard + at, (d->shard_count - at) * sizeof *d->shard);
    d->shard[at] = *shard;
    d->shard_count++;
}

void dr_draft_drop_shard(struct dr_draft *d, uint32_t id)
{
    uint32_t at = find_place(d, id);
    assert(at < d->shard_count && d->shard[at].id == id);
    d->shard_count--;
    memmove(d->shard + at, d->shard + at + 1, (d->shard_count - at) * sizeof *d->shard);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->transfer_count; i++) {
        const struct dr_transfer *t = &d->transfer[i];
        if (t->shard_id != id && !(t->has_to_shard && t->to_shard_id == id)) {
            d->transfer[kept++] = *t;
        }
    }
    d->transfer_count = kept;
}

const struct dr_replica *dr_shard_replica(const struct dr_shard *s, uint64_t peer_id)
{
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id == peer_id) {
            return &s->replica[i];
        }
    }
    return NULL;
}

/* A shard's replicas are shared with the frozen collection until they are written: then the array
 * is copied, and is the draft's. */
enum dr_code dr_draft_set_replica(struct dr_draft *d, struct dr_shard *s, uint64_t peer_id,
                                  enum dr_replica_state state, struct dr_err *err)
{
    struct dr_replica *copy = dr_arena_alloc(d->arena, (s->replica_count + 1) * sizeof *copy);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    uint32_t at = 0;
    while (at < s->replica_count && s->replica[at].peer_id < peer_id) {
        copy[at] = s->replica[at];
        at++;
    }
    uint32_t rest = at;
    if (rest < s->replica_count && s->replica[rest].peer_id == peer_id) {
        rest++;
    }
    copy[at] = (struct dr_replica){.peer_id = peer_id, .state = state};
    uint32_t count = at + 1 + (s->replica_count - rest);
    if (rest < s->replica_count) {
        memcpy(copy + at + 1, s->replica + rest, (s->replica_count - rest) * sizeof *copy);
    }
    s->replica = copy;
    s->replica_count = count;
    return DR_OK;
}

enum dr_code dr_draft_drop_replica(struct dr_draft *d, struct dr_shard *s, uint64_t peer_id,
                                   struct dr_err *err)
{
    struct dr_replica *copy = dr_arena_alloc(d->arena, (s->replica_count + 1) * sizeof *copy);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id != peer_id) {
            copy[kept++] = s->replica[i];
        }
    }
    s->replica = copy;
    s->replica_count = kept;
    return DR_OK;
}

static enum dr_code check_shard(const struct dr_draft *d, uint32_t at, struct dr_err *err)
{
    const struct dr_shard *s = &d->shard[at];
    if (at > 0 && d->shard[at - 1].id >= s->id) {
        return dr_fail(err, DR_INPUT, "shard %u stands twice or out of order", s->id);
    }
    if (s->has_key != (d->info.method == DR_SHARDING_CUSTOM)) {
        return dr_fail(err, DR_INPUT, "shard %u %s", s->id,
                       s->has_key ? "has a shard key, but the collection is auto"
                                  : "has no shard key, but the collection is custom");
    }
    if (d->info.method == DR_SHARDING_AUTO && s->id != at) {
        return dr_fail(err, DR_INPUT, "shard %u of an auto collection stands at place %u", s->id,
                       at);
    }
    if (s->replica_count == 0 || s->replica_count > DR_REPLICAS_MAX) {
        return dr_fail(err, DR_INPUT, "shard %u has %u replicas; 1 to %d are possible", s->id,
                       s->replica_count, DR_REPLICAS_MAX);
    }
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id == 0 ||
            (i > 0 && s->replica[i - 1].peer_id >= s->replica[i].peer_id)) {
            return dr_fail(err, DR_INPUT,
                           "shard %u has two replicas on peer %" PRIu64 ", or them out of order",
                           s->id, s->replica[i].peer_id);
        }
    }
    return DR_OK;
}

static enum dr_code check_resharding(struct dr_draft *d, struct dr_err *err)
{
    const struct dr_resharding *r = &d->resharding;
    const struct dr_shard *s = dr_draft_shard(d, r->shard_id);
    if (s == NULL) {
        return dr_fail(err, DR_INPUT, "the resharding is of shard %u, which is not there",
                       r->shard_id);
    }
    if (s->has_key != r->has_key || (r->has_key && dr_shard_key_compare(&s->key, &r->key) != 0)) {
        return dr_fail(err, DR_INPUT, "the resharding of shard %u has another shard key than it",
                       r->shard_id);
    }
    for (uint32_t i = 0; i < d->shard_count; i++) {
        const struct dr_shard *other = &d->shard[i];
        if (other->id != s->id && other->has_key == s->has_key &&
            (!s->has_key || dr_shard_key_compare(&other->key, &s->key) == 0)) {
            return DR_OK;
        }
    }
    return dr_fail(err, DR_INPUT, "the resharding of shard %u leaves no shard for its ids",
                   r->shard_id);
}

static enum dr_code check_transfers(struct dr_draft *d, struct dr_err *err)
{
    if (d->transfer_count > DR_TRANSFERS_MAX) {
        return dr_fail(err, DR_INPUT, "%u transfers; at most %d are possible at a time",
                       d->transfer_count, DR_TRANSFERS_MAX);
    }
    for (uint32_t i = 0; i < d->transfer_count; i++) {
        const struct dr_transfer *t = &d->transfer[i];
        uint32_t target_id = t->has_to_shard ? t->to_shard_id : t->shard_id;
        const struct dr_shard *source = dr_draft_shard(d, t->shard_id);
        const struct dr_shard *target = dr_draft_shard(d, target_id);
        if (source == NULL || target == NULL || dr_shard_replica(source, t->from) == NULL ||
            dr_shard_replica(target, t->to) == NULL) {
            return dr_fail(err, DR_INPUT,
                           "the transfer of shard %u from peer %" PRIu64 " to %" PRIu64
                           " has no replica at one end",
                           t->shard_id, t->from, t->to);
        }
    }
    return DR_OK;
}

enum dr_code dr_draft_check(const struct dr_draft *draft, struct dr_err *err)
{
    struct dr_draft view = *draft; /* looking up wants a pointer to non-const */
    struct dr_draft *d = &view;
    if (d->shard_count > DR_SHARDS_MAX) {
        return dr_fail(err, DR_INPUT, "%u shards; at most %d are possible", d->shard_count,
                       DR_SHARDS_MAX);
    }
    if (d->info.method == DR_SHARDING_AUTO &&
        (d->shard_count == 0 || d->shard_count != d->info.shard_number)) {
        return dr_fail(err, DR_INPUT, "an auto collection of shard_number %u has %u shards",
                       d->info.shard_number, d->shard_count);
    }
    for (uint32_t i = 0; i < d->shard_count; i++) {
        enum dr_code rc = check_shard(d, i, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    uint32_t last = d->shard_count == 0 ? 0 : d->shard[d->shard_count - 1].id;
    if (last == UINT32_MAX ||
        (d->shard_count > 0 && d->info.method == DR_SHARDING_CUSTOM && d->next_shard_id <= last)) {
        return dr_fail(err, DR_INPUT, "shard %u leaves no id for the next one", last);
    }
    enum dr_code rc = d->is_resharding ? check_resharding(d, err) : DR_OK;
    return rc == DR_OK ? check_transfers(d, err) : rc;
}
