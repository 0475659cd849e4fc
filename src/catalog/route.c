/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to shards. Reads and writes look at an immutable collection: a promotion or a
 * resharding in between is seen as a whole or not at all.
 *
 * During a resharding a write goes to the owner in both rings until its write commit; a read goes
 * to the old ring until the read commit and to the new one from then on. The shard that is not
 * readable yet (up), or not any more (down), is left out of reads. */
#include <stdio.h>
#include <string.h>

#include "catalog/catalog_private.h"

/* A shard belongs to one key and each ring is looked at once, so none can come twice but the two
 * owners of one id. */
struct target {
    uint32_t *shard;
    uint32_t max;
    uint32_t count;
};

static enum dr_code add_shard(struct target *t, uint32_t shard_id, struct dr_err *err)
{
    if (t->count >= t->max) {
        return dr_fail(err, DR_INTERNAL,
                       "a request for more shards than the caller has room for "
                       "(%u)",
                       t->max);
    }
    t->shard[t->count++] = shard_id;
    return DR_OK;
}

static bool is_resharded(const struct dr_collection_info *c, const struct dr_key_ring *ring)
{
    const struct dr_resharding *r = c->resharding;
    return r != NULL && r->has_key == ring->has_key &&
           (!r->has_key || dr_shard_key_compare(&r->key, &ring->key) == 0);
}

static enum dr_code add_owner(const struct dr_collection_info *c, const struct dr_key_ring *ring,
                              uint64_t hash, bool is_write, struct target *t, struct dr_err *err)
{
    bool reads_next = ring->next != NULL && c->resharding->stage == DR_RESHARD_READ_COMMITTED;
    const struct dr_ring *first = !is_write && reads_next ? ring->next : ring->ring;
    uint32_t owner = dr_ring_owner(first, hash);
    enum dr_code rc = add_shard(t, owner, err);
    if (rc == DR_OK && is_write && ring->next != NULL) {
        uint32_t other = dr_ring_owner(ring->next, hash);
        rc = other == owner ? DR_OK : add_shard(t, other, err);
    }
    return rc;
}

/* The shard of this ring that no read may see, or UINT32_MAX. */
static uint32_t hidden_shard(const struct dr_collection_info *c, const struct dr_key_ring *ring)
{
    if (!is_resharded(c, ring)) {
        return UINT32_MAX;
    }
    bool is_hidden = (c->resharding->stage == DR_RESHARD_MIGRATING) == c->resharding->is_up;
    return is_hidden ? c->resharding->shard_id : UINT32_MAX;
}

/* The shard of this ring that no write needs any more, or UINT32_MAX. */
static uint32_t closed_shard(const struct dr_collection_info *c, const struct dr_key_ring *ring)
{
    bool is_closed = is_resharded(c, ring) && !c->resharding->is_up &&
                     c->resharding->stage == DR_RESHARD_WRITE_COMMITTED;
    return is_closed ? c->resharding->shard_id : UINT32_MAX;
}

static enum dr_code add_all(const struct dr_collection_info *c, const struct dr_key_ring *ring,
                            bool is_write, struct target *t, struct dr_err *err)
{
    uint32_t left_out = is_write ? closed_shard(c, ring) : hidden_shard(c, ring);
    for (uint32_t i = 0; i < ring->shard_count; i++) {
        if (ring->shard_id[i] == left_out) {
            continue;
        }
        enum dr_code rc = add_shard(t, ring->shard_id[i], err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

/* --- selectors ---------------------------------------------------------------------------------
 */

static enum dr_code add_key(const json_t *j, struct dr_selector *s, struct dr_err *err)
{
    struct dr_shard_key *key = &s->key[s->key_count];
    enum dr_code rc = dr_shard_key_from_json(j, "shard_key", key, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < s->key_count; i++) {
        if (dr_shard_key_compare(&s->key[i], key) == 0) {
            return DR_OK; /* the same again: once is enough */
        }
    }
    s->key_count++;
    return DR_OK;
}

static enum dr_code read_fallback(const json_t *j, struct dr_selector *s, struct dr_err *err)
{
    struct dr_jr r;
    const json_t *target = NULL;
    const json_t *fallback = NULL;
    dr_jr_init(&r, j, "shard_key", err);
    (void)dr_jr_any(&r, "target", true, &target);
    (void)dr_jr_any(&r, "fallback", true, &fallback);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK) {
        rc = add_key(target, s, err);
    }
    if (rc == DR_OK) {
        rc = dr_shard_key_from_json(fallback, "shard_key.fallback", &s->fallback, err);
    }
    s->has_fallback = rc == DR_OK;
    return rc;
}

enum dr_code dr_selector_from_json(const json_t *j, struct dr_arena *a, struct dr_selector *out,
                                   struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    if (j == NULL || json_is_null(j)) {
        return DR_OK;
    }
    size_t count = json_is_array(j) ? json_array_size(j) : 1;
    if (count == 0) {
        return dr_fail(err, DR_INPUT, "Empty shard keys selection");
    }
    if (count > DR_SELECTOR_KEYS_MAX) {
        return dr_fail(err, DR_INPUT, "shard_key: %zu keys; at most %d are possible", count,
                       DR_SELECTOR_KEYS_MAX);
    }
    out->key = dr_arena_alloc(a, count * sizeof *out->key);
    if (out->key == NULL) {
        return dr_fail_nomem(err);
    }
    if (json_is_object(j)) {
        return read_fallback(j, out, err);
    }
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = add_key(json_is_array(j) ? json_array_get(j, i) : j, out, err);
    }
    return rc;
}

/* --- the rules ---------------------------------------------------------------------------------
 */

/* Rings a request goes to: up to two of `one`, or all of the collection. */
struct choice {
    bool is_all;
    const struct dr_key_ring *one[DR_SELECTOR_KEYS_MAX];
    uint32_t count;
};

static enum dr_code choose_without_key(const struct dr_collection_info *c, bool is_write,
                                       struct choice *out, struct dr_err *err)
{
    char keys[512];
    if (c->method == DR_SHARDING_AUTO || c->key_ring_count == 1) {
        out->one[out->count++] = &c->key_ring[0];
        return DR_OK;
    }
    if (is_write && c->key_ring_count == 0) {
        return dr_fail(err, DR_INPUT,
                       "Shard key not specified, and collection `%s` has none: create one first",
                       c->name);
    }
    if (is_write) {
        return dr_fail(err, DR_INPUT,
                       "Shard key not specified: collection `%s` has several, a write names one of "
                       "%s",
                       c->name, dr_collection_keys_print(c, keys, sizeof keys));
    }
    out->is_all = true;
    return DR_OK;
}

static enum dr_code fail_unknown_key(const struct dr_shard_key *key, struct dr_err *err)
{
    char print[DR_SHARD_KEY_BYTES_MAX + 3];
    return dr_fail(err, DR_INPUT, "Shard key %s not found",
                   dr_shard_key_print(key, print, sizeof print));
}

enum readiness { READY, NOT_READY, READ_ONLY };

/* Can the key serve this? A write wants all shards wholly active; a key whose shards are filled by
 * reads still going on (ActiveRead) gets the write as well as the fallback. */
static enum readiness judge_key(const struct dr_collection_info *c, const struct dr_key_ring *ring,
                                bool is_write)
{
    enum readiness result = READY;
    for (uint32_t i = 0; i < ring->shard_count; i++) {
        const struct dr_shard *s = dr_collection_shard(c, ring->shard_id[i]);
        bool is_any_readable = false;
        bool is_any_active = false;
        bool is_all_read = true;
        if (ring->shard_id[i] == hidden_shard(c, ring)) {
            continue;
        }
        for (uint32_t k = 0; k < s->replica_count; k++) {
            enum dr_replica_state state = s->replica[k].state;
            is_any_readable = is_any_readable || dr_replica_is_readable(state);
            is_any_active = is_any_active || state == DR_REPLICA_ACTIVE ||
                            state == DR_REPLICA_RESHARDING_SCALE_DOWN;
            is_all_read = is_all_read && state == DR_REPLICA_ACTIVE_READ;
        }
        if (is_write && is_all_read) {
            return READ_ONLY;
        }
        if (is_write ? !is_any_active : !is_any_readable) {
            result = NOT_READY;
        }
    }
    return result;
}

static enum dr_code choose_with_fallback(const struct dr_collection_info *c,
                                         const struct dr_selector *s, bool is_write,
                                         struct choice *out, struct dr_err *err)
{
    const struct dr_key_ring *target = dr_collection_ring(c, &s->key[0]);
    const struct dr_key_ring *fallback = dr_collection_ring(c, &s->fallback);
    char print[DR_SHARD_KEY_BYTES_MAX + 3];
    if (target == NULL && fallback == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "Neither the shard key %s nor its fallback exists",
                       dr_shard_key_print(&s->key[0], print, sizeof print));
    }
    enum readiness ready = target == NULL ? NOT_READY : judge_key(c, target, is_write);
    if (ready != NOT_READY) {
        out->one[out->count++] = target;
    }
    if (ready != READY) {
        if (fallback == NULL) {
            return dr_fail(err, DR_UNREACHABLE,
                           "the shard key %s is not ready, and its fallback does not exist",
                           dr_shard_key_print(&s->key[0], print, sizeof print));
        }
        if (out->count == 0 || fallback != target) {
            out->one[out->count++] = fallback;
        }
    }
    return DR_OK;
}

static enum dr_code choose(const struct dr_collection_info *c, const struct dr_selector *s,
                           bool is_write, struct choice *out, struct dr_err *err)
{
    out->is_all = false;
    out->count = 0;
    if (s == NULL || s->key_count == 0) {
        return choose_without_key(c, is_write, out, err);
    }
    if (s->key_count > DR_SELECTOR_KEYS_MAX) {
        return dr_fail(err, DR_INPUT, "shard_key: %u keys; at most %d are possible", s->key_count,
                       DR_SELECTOR_KEYS_MAX);
    }
    if (s->has_fallback && s->key_count == 1) {
        return choose_with_fallback(c, s, is_write, out, err);
    }
    for (uint32_t i = 0; i < s->key_count; i++) {
        const struct dr_key_ring *ring = dr_collection_ring(c, &s->key[i]);
        if (ring == NULL) {
            return fail_unknown_key(&s->key[i], err);
        }
        bool is_new = true; /* a selector made in C may name a key twice */
        for (uint32_t k = 0; k < out->count; k++) {
            is_new = is_new && out->one[k] != ring;
        }
        if (is_new) {
            out->one[out->count++] = ring;
        }
    }
    return DR_OK;
}

enum dr_code dr_route_point(const struct dr_collection_info *c, const struct dr_selector *s,
                            const struct dr_point_id *id, bool is_write, uint32_t *shard_out,
                            uint32_t shard_max, uint32_t *count_out, struct dr_err *err)
{
    struct choice choice;
    struct target t = {.shard = shard_out, .max = shard_max};
    *count_out = 0;
    enum dr_code rc = choose(c, s, is_write, &choice, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint64_t hash = dr_point_hash(id);
    uint32_t rings = choice.is_all ? c->key_ring_count : choice.count;
    for (uint32_t i = 0; rc == DR_OK && i < rings; i++) {
        rc = add_owner(c, choice.is_all ? &c->key_ring[i] : choice.one[i], hash, is_write, &t, err);
    }
    *count_out = rc == DR_OK ? t.count : 0;
    return rc;
}

enum dr_code dr_route_all(const struct dr_collection_info *c, const struct dr_selector *s,
                          bool is_write, uint32_t *shard_out, uint32_t shard_max,
                          uint32_t *count_out, struct dr_err *err)
{
    struct choice choice;
    struct target t = {.shard = shard_out, .max = shard_max};
    *count_out = 0;
    enum dr_code rc = choose(c, s, is_write, &choice, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint32_t rings = choice.is_all ? c->key_ring_count : choice.count;
    for (uint32_t i = 0; rc == DR_OK && i < rings; i++) {
        rc = add_all(c, choice.is_all ? &c->key_ring[i] : choice.one[i], is_write, &t, err);
    }
    *count_out = rc == DR_OK ? t.count : 0;
    return rc;
}
