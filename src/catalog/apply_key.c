/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on shard keys, and the one that makes them possible: the promotion of an auto
 * collection to a custom one. All that is checked here is replicated state; who can be reached, and
 * whether a quorum stands, was the proposer's question and must not decide anything now. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog_private.h"

enum { KEY_PRINT_BYTES = DR_SHARD_KEY_BYTES_MAX + 3 };

static enum dr_code read_create_key(struct dr_apply *a, const struct dr_collection **c_out,
                                    struct dr_shard_key *key, struct dr_shard **shard_out,
                                    uint32_t *count_out)
{
    const char *state_name = "";
    const json_t *peers = NULL;
    const json_t *placement = NULL;
    enum dr_replica_state state = DR_REPLICA_ACTIVE;
    char print[KEY_PRINT_BYTES];
    *shard_out = NULL;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return DR_OK;
    }
    (void)dr_apply_key(a, "key", true, key);
    (void)dr_jr_string(&a->fields, "state", true, &state_name);
    (void)dr_jr_array(&a->fields, "peers", true, DR_PEERS_MAX, &peers);
    (void)dr_jr_array(&a->fields, "placement", true, DR_SHARDS_MAX, &placement);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (!dr_replica_state_parse(state_name, &state) ||
        (state != DR_REPLICA_ACTIVE && state != DR_REPLICA_PARTIAL)) {
        return dr_apply_refuse(a, DR_INPUT,
                               "Initial state cannot be %.32s, only Active or Partial are allowed",
                               state_name);
    }
    (void)dr_shard_key_print(key, print, sizeof print);
    if (c->info.method == DR_SHARDING_AUTO) {
        return dr_apply_refuse(a, DR_INPUT,
                               "Shard Key %s cannot be created with Auto sharding method", print);
    }
    if (dr_collection_ring(&c->info, key) != NULL) {
        return dr_apply_refuse(a, DR_EXISTS, "Shard key %s already exists", print);
    }
    if (json_array_size(placement) == 0) {
        return dr_apply_refuse(a, DR_INPUT, "entry.placement: a shard key has at least one shard");
    }
    *c_out = c;
    return dr_apply_placement(a, peers, placement, state, shard_out, count_out);
}

/* Ids of the new shards follow all that were ever given: a dropped key's tables may not be gone
 * from every store yet, and must not be taken for the new key's. */
enum dr_code dr_apply_create_key(struct dr_apply *a)
{
    const struct dr_collection *c = NULL;
    struct dr_shard_key key;
    struct dr_shard *shard = NULL;
    struct dr_draft d;
    uint32_t count = 0;
    enum dr_code rc = read_create_key(a, &c, &key, &shard, &count);
    if (rc != DR_OK || shard == NULL) {
        return rc;
    }
    if (c->next_shard_id > UINT32_MAX - 1 - count) {
        return dr_apply_refuse(a, DR_REFUSED, "Collection `%s` has no shard ids left",
                               c->info.name);
    }
    rc = dr_draft_begin(&d, a->arena, c, count, a->err);
    json_t *ids = json_array();
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        shard[i].id = d.next_shard_id++;
        shard[i].has_key = true;
        shard[i].key = key;
        dr_draft_add_shard(&d, &shard[i]);
        if (json_array_append_new(ids, json_integer(shard[i].id)) != 0) {
            rc = dr_fail_nomem(a->err);
        }
    }
    if (rc == DR_OK) {
        rc = dr_apply_finish(a, &d, c);
    }
    if (rc == DR_OK) {
        a->result->value = json_pack("{s:O}", "shard_ids", ids);
        rc = a->result->value == NULL ? dr_fail_nomem(a->err) : DR_OK;
    }
    json_decref(ids);
    return rc;
}

static bool is_in_ring(const struct dr_key_ring *ring, uint32_t shard_id)
{
    for (uint32_t i = 0; i < ring->shard_count; i++) {
        if (ring->shard_id[i] == shard_id) {
            return true;
        }
    }
    return false;
}

/* Dropping a key deletes its points: nothing else may be going on with them, it is never the last
 * way to the data of a collection, and for the promoted key - all that the collection was before -
 * somebody has to have said so. */
static const struct dr_key_ring *check_drop_key(struct dr_apply *a, const struct dr_collection *c,
                                                const struct dr_shard_key *key, bool is_confirmed)
{
    char print[KEY_PRINT_BYTES];
    const struct dr_key_ring *ring = dr_collection_ring(&c->info, key);
    (void)dr_shard_key_print(key, print, sizeof print);
    if (c->info.method == DR_SHARDING_AUTO) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "Shard Key %s cannot be dropped with Auto sharding method", print);
        return NULL;
    }
    if (ring == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Sharding key %s does not exist for collection %s",
                              print, c->info.name);
        return NULL;
    }
    if (c->info.key_ring_count == 1) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "%s is the last shard key of collection %s and stays: delete the "
                              "collection if that is what you want",
                              print, c->info.name);
        return NULL;
    }
    if (c->info.has_default_key && dr_shard_key_compare(&c->info.default_key, key) == 0 &&
        !is_confirmed) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "%s is the key collection %s was promoted with: dropping it deletes "
                              "all points from before; say \"confirm\": true if you want that",
                              print, c->info.name);
        return NULL;
    }
    const struct dr_resharding *r = c->info.resharding;
    bool is_busy = r != NULL && r->has_key && dr_shard_key_compare(&r->key, key) == 0;
    for (uint32_t i = 0; i < c->info.transfer_count; i++) {
        is_busy =
            is_busy || is_in_ring(ring, c->info.transfer[i].shard_id) ||
            (c->info.transfer[i].has_to_shard && is_in_ring(ring, c->info.transfer[i].to_shard_id));
    }
    if (is_busy) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "shards of key %s are being transferred or resharded: finish or "
                              "abort that first",
                              print);
        return NULL;
    }
    return ring;
}

enum dr_code dr_apply_drop_key(struct dr_apply *a)
{
    struct dr_shard_key key;
    bool is_confirmed = false;
    struct dr_draft d;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return DR_OK;
    }
    (void)dr_apply_key(a, "key", true, &key);
    (void)dr_jr_bool(&a->fields, "confirm", false, &is_confirmed);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    const struct dr_key_ring *ring = check_drop_key(a, c, &key, is_confirmed);
    if (ring == NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d.shard_count; i++) {
        if (dr_shard_key_compare(&d.shard[i].key, &key) != 0) {
            d.shard[kept++] = d.shard[i];
        }
    }
    d.shard_count = kept;
    if (d.info.has_default_key && dr_shard_key_compare(&d.info.default_key, &key) == 0) {
        d.info.has_default_key = false;
        memset(&d.info.default_key, 0, sizeof d.info.default_key);
    }
    return dr_apply_finish(a, &d, c);
}

/* --- promotion ---------------------------------------------------------------------------------
 */

static bool are_the_shards(const struct dr_collection_info *c, const json_t *shard_ids)
{
    if (json_array_size(shard_ids) != c->shard_count) {
        return false;
    }
    for (uint32_t i = 0; i < c->shard_count; i++) {
        const json_t *id = json_array_get(shard_ids, i);
        if (!json_is_integer(id) || json_integer_value(id) != (json_int_t)c->shard[i].id) {
            return false;
        }
    }
    return true;
}

static bool check_replicas_are_stable(struct dr_apply *a, const struct dr_collection_info *c)
{
    for (uint32_t i = 0; i < c->shard_count; i++) {
        for (uint32_t k = 0; k < c->shard[i].replica_count; k++) {
            const struct dr_replica *r = &c->shard[i].replica[k];
            if (!dr_replica_is_stable(r->state)) {
                (void)dr_apply_refuse(
                    a, DR_CONFLICT,
                    "Collection `%s` cannot be promoted now: the replica of "
                    "shard %u on peer %" PRIu64 " is %s; wait until it has settled",
                    c->name, c->shard[i].id, r->peer_id, dr_replica_state_name(r->state));
                return false;
            }
        }
    }
    return true;
}

/* Of an auto collection: is anything in the way? */
static bool check_may_promote(struct dr_apply *a, const struct dr_collection_info *c,
                              const json_t *shard_ids)
{
    if (c->resharding != NULL) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "Collection `%s` cannot be promoted now: it is being resharded "
                              "(shard %u, %s); finish or abort that first",
                              c->name, c->resharding->shard_id,
                              dr_reshard_stage_name(c->resharding->stage));
        return false;
    }
    if (c->transfer_count > 0) {
        const struct dr_transfer *t = &c->transfer[0];
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "Collection `%s` cannot be promoted now: shard %u is being "
                              "transferred from peer %" PRIu64 " to %" PRIu64
                              " (%u transfers in all); finish or abort that first",
                              c->name, t->shard_id, t->from, t->to, c->transfer_count);
        return false;
    }
    if (!check_replicas_are_stable(a, c)) {
        return false;
    }
    if (!are_the_shards(c, shard_ids)) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "Collection `%s` has other shards than when its promotion was asked "
                              "for: look at it and ask again",
                              c->name);
        return false;
    }
    return true;
}

/* Of a custom one: is it what this promotion would make of it? */
static enum dr_code judge_custom(struct dr_apply *a, const struct dr_collection_info *c,
                                 const struct dr_shard_key *key)
{
    char has[KEY_PRINT_BYTES];
    char wanted[KEY_PRINT_BYTES];
    (void)dr_shard_key_print(key, wanted, sizeof wanted);
    if (!c->has_default_key) {
        return dr_apply_refuse(a, DR_REFUSED, "Collection `%s` is not in Auto sharding mode",
                               c->name);
    }
    if (dr_shard_key_compare(&c->default_key, key) == 0) {
        return DR_OK;
    }
    return dr_apply_refuse(a, DR_REFUSED,
                           "Collection `%s` was promoted with the key %s, which cannot be changed "
                           "to %s",
                           c->name, dr_shard_key_print(&c->default_key, has, sizeof has), wanted);
}

static enum dr_code tell_promotion(struct dr_apply *a, const struct dr_collection_info *c,
                                   const struct dr_shard_key *key, bool is_new)
{
    char print[KEY_PRINT_BYTES];
    (void)snprintf(a->result->message, sizeof a->result->message,
                   "%s: the %u shards of collection `%.255s` have the key %s; shard_number stays "
                   "%u and now means shards of each new key",
                   is_new ? "promoted" : "promoted already", c->shard_count, c->name,
                   dr_shard_key_print(key, print, sizeof print), c->shard_number);
    json_t *shown = dr_shard_key_to_json(key);
    a->result->value =
        shown == NULL ? NULL
                      : json_pack("{s:s, s:o, s:i, s:s}", "collection", c->name,
                                  "default_shard_key", shown, "shard_number", (int)c->shard_number,
                                  "shard_number_means", "shards of each new shard key");
    return a->result->value == NULL ? dr_fail_nomem(a->err) : DR_OK;
}

/* Every shard gets the key, and with it every replica set; the ring goes over to the key as it is,
 * so every id keeps its owner. */
static enum dr_code promote(struct dr_apply *a, const struct dr_collection *c,
                            const struct dr_shard_key *key)
{
    struct dr_draft d;
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    d.info.method = DR_SHARDING_CUSTOM;
    d.info.is_method_given = true;
    d.info.has_default_key = true;
    d.info.default_key = *key;
    for (uint32_t i = 0; i < d.shard_count; i++) {
        d.shard[i].has_key = true;
        d.shard[i].key = *key;
    }
    d.next_shard_id = d.shard[d.shard_count - 1].id + 1;
    rc = dr_apply_finish(a, &d, c);
    if (rc != DR_OK || a->result->code != DR_OK) {
        return rc;
    }
    uint32_t at = 0;
    bool is_there = dr_catalog_position(a->out, c->info.name, &at);
    assert(is_there && a->out->collection[at]->box[0] == c->box[0]); /* the very same ring */
    return tell_promotion(a, &a->out->collection[at]->info, key, true);
}

enum dr_code dr_apply_promote(struct dr_apply *a)
{
    struct dr_shard_key key;
    const json_t *shard_ids = NULL;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return DR_OK;
    }
    (void)dr_apply_key(a, "key", true, &key);
    (void)dr_jr_array(&a->fields, "shard_ids", true, DR_SHARDS_MAX, &shard_ids);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (c->info.method == DR_SHARDING_CUSTOM) {
        enum dr_code rc = judge_custom(a, &c->info, &key);
        return a->result->code == DR_OK ? tell_promotion(a, &c->info, &key, false) : rc;
    }
    return check_may_promote(a, &c->info, shard_ids) ? promote(a, c, &key) : DR_OK;
}
