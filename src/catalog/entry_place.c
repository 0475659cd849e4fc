/* SPDX-License-Identifier: Apache-2.0 */
/* Where new shards go: each placement is spread evenly over its pool; who is equal there is ordered
 * by all replicas it holds, and who is equal there too by the seed. A shard never has two replicas
 * on one peer, so there are at most as many as peers. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_private.h"

struct candidate {
    uint64_t id;
    uint32_t placed; /* by this placement */
    uint32_t chosen; /* number of the shard it was chosen for last, from 1 */
    uint64_t load;   /* replicas it holds in the whole catalog */
};

static int compare_candidates(const void *a, const void *b)
{
    uint64_t x = ((const struct candidate *)a)->id;
    uint64_t y = ((const struct candidate *)b)->id;
    return x < y ? -1 : x > y ? 1 : 0;
}

static void count_load(const struct dr_catalog *c, struct candidate *pool, uint32_t count)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct dr_collection_info *info = &c->collection[i]->info;
        for (uint32_t s = 0; s < info->shard_count; s++) {
            for (uint32_t k = 0; k < info->shard[s].replica_count; k++) {
                const struct candidate wanted = {.id = info->shard[s].replica[k].peer_id};
                struct candidate *found =
                    bsearch(&wanted, pool, count, sizeof *pool, compare_candidates);
                if (found != NULL) {
                    found->load++;
                }
            }
        }
    }
}

static enum dr_code fill_pool(const struct dr_catalog *c, const uint64_t *pool, uint32_t pool_count,
                              struct candidate *out, uint32_t *count_out, struct dr_err *err)
{
    uint32_t count = pool == NULL ? dr_catalog_peer_count(c) : pool_count;
    if (count == 0) {
        return dr_fail(err, pool == NULL ? DR_REFUSED : DR_INPUT,
                       pool == NULL ? "no peer is known yet to put a shard on"
                                    : "placement cannot be empty");
    }
    if (count > DR_PEERS_MAX) {
        return dr_fail(err, DR_INPUT, "placement: at most %d peers", DR_PEERS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (struct candidate){.id = pool == NULL ? dr_catalog_peer_at(c, i)->id : pool[i]};
        if (dr_catalog_peer(c, out[i].id) == NULL) {
            return dr_fail(err, DR_INPUT, "placement contains unknown peers: [%" PRIu64 "]",
                           out[i].id);
        }
    }
    qsort(out, count, sizeof *out, compare_candidates);
    for (uint32_t i = 1; i < count; i++) {
        if (out[i].id == out[i - 1].id) {
            return dr_fail(err, DR_INPUT, "placement: peer %" PRIu64 " stands there twice",
                           out[i].id);
        }
    }
    count_load(c, out, count);
    *count_out = count;
    return DR_OK;
}

static uint64_t mix(uint64_t seed, uint32_t shard, uint64_t peer)
{
    const uint64_t word[3] = {seed, shard, peer};
    return dr_catalog_hash_words(word, 3);
}

static bool is_better(const struct candidate *a, const struct candidate *b, uint64_t seed,
                      uint32_t shard)
{
    if (a->placed != b->placed) {
        return a->placed < b->placed;
    }
    if (a->load != b->load) {
        return a->load < b->load;
    }
    return mix(seed, shard, a->id) < mix(seed, shard, b->id);
}

/* Place of the best peer that has no replica of this shard (number from 1) yet. */
static uint32_t choose(struct candidate *pool, uint32_t count, uint64_t seed, uint32_t shard)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (pool[i].chosen != shard &&
            (best == UINT32_MAX || is_better(&pool[i], &pool[best], seed, shard))) {
            best = i;
        }
    }
    assert(best != UINT32_MAX); /* never more replicas than candidates */
    pool[best].chosen = shard;
    pool[best].placed++;
    pool[best].load++;
    return best;
}

static enum dr_code add_placement(struct candidate *pool, uint32_t count, uint32_t shards,
                                  uint32_t replicas, uint64_t seed, json_t *placement,
                                  struct dr_err *err)
{
    for (uint32_t s = 1; s <= shards; s++) {
        json_t *places = json_array();
        if (places == NULL || json_array_append_new(placement, places) != 0) {
            return dr_fail_nomem(err);
        }
        for (uint32_t k = 0; k < replicas; k++) {
            uint32_t place = choose(pool, count, seed, s);
            if (json_array_append_new(places, json_integer(place)) != 0) {
                return dr_fail_nomem(err);
            }
        }
    }
    return DR_OK;
}

enum dr_code dr_entry_place(const struct dr_catalog *c, json_t *entry, uint32_t shards,
                            uint32_t replicas, const uint64_t *pool, uint32_t pool_count,
                            uint64_t seed, struct dr_err *err)
{
    struct candidate candidate[DR_PEERS_MAX] = {{0}};
    uint32_t count = 0;
    enum dr_code rc = DR_OK;
    if (shards > 0) {
        rc = fill_pool(c, pool, pool_count, candidate, &count, err);
    }
    uint32_t each = replicas < count ? replicas : count;
    if (rc == DR_OK && (uint64_t)shards * each > DR_PLACED_REPLICAS_MAX) {
        rc = dr_fail(err, DR_INPUT, "%u shards of %u replicas; at most %d replicas at a time",
                     shards, each, DR_PLACED_REPLICAS_MAX);
    }
    if (rc != DR_OK) {
        return rc;
    }
    json_t *peers = json_array();
    json_t *placement = json_array();
    if (peers == NULL || placement == NULL) {
        rc = dr_fail_nomem(err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        if (json_array_append_new(peers, json_integer((json_int_t)candidate[i].id)) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    if (rc == DR_OK) {
        rc = add_placement(candidate, count, shards, each, seed, placement, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "peers", json_incref(peers), err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "placement", json_incref(placement), err);
    }
    json_decref(placement);
    json_decref(peers);
    return rc;
}

enum dr_code dr_entry_pick_peer(const struct dr_catalog *c, uint64_t seed, uint64_t *peer_out,
                                struct dr_err *err)
{
    struct candidate candidate[DR_PEERS_MAX] = {{0}};
    uint32_t count = 0;
    enum dr_code rc = fill_pool(c, NULL, 0, candidate, &count, err);
    if (rc == DR_OK) {
        *peer_out = candidate[choose(candidate, count, seed, 1)].id;
    }
    return rc;
}
