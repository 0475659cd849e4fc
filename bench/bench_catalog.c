/* SPDX-License-Identifier: Apache-2.0 */
/* How many lookups one core makes in a second, ids hashed on the way, and how long a promotion
 * takes beyond its commit: reading the entry, checking it, making the new state. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "catalog/catalog.h"

enum { LOOKUPS = 20000000, ROUNDS = 5 };

static void must(enum dr_code rc, const struct dr_err *err)
{
    if (rc != DR_OK) {
        (void)fprintf(stderr, "bench_catalog: %s\n", err->msg);
        exit(1);
    }
}

static void measure_lookups(uint32_t shards)
{
    struct dr_err err = {0};
    struct dr_ring *ring = NULL;
    uint32_t *shard_id = dr_calloc(shards, sizeof *shard_id);
    uint64_t sum = 0;
    if (shard_id == NULL) {
        exit(1);
    }
    for (uint32_t i = 0; i < shards; i++) {
        shard_id[i] = i;
    }
    must(dr_ring_create(shard_id, shards, &ring, &err), &err);
    int64_t start = dr_mono_us();
    for (uint64_t i = 0; i < LOOKUPS; i++) {
        struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = i};
        sum += dr_ring_owner(ring, dr_point_hash(&id));
    }
    int64_t us = dr_mono_us() - start;
    printf("lookups: shards=%u per_second=%.0f (checksum %" PRIu64 ")\n", shards,
           LOOKUPS * 1e6 / (double)us, sum);
    dr_ring_destroy(ring);
    dr_free(shard_id);
}

/* Apply and go over to the new state; microseconds of the apply. */
static int64_t apply(struct dr_catalog **c, const char *entry, uint64_t index)
{
    struct dr_catalog *after = NULL;
    struct dr_apply_result result;
    struct dr_err err = {0};
    int64_t start = dr_mono_us();
    must(dr_catalog_apply(*c, index, entry, strlen(entry), &after, &result, &err), &err);
    int64_t us = dr_mono_us() - start;
    if (result.code != DR_OK) {
        (void)fprintf(stderr, "bench_catalog: %s\n", result.message);
        exit(1);
    }
    json_decref(result.value);
    dr_catalog_unref(*c);
    *c = after;
    return us;
}

static void measure_promotion(uint32_t shards)
{
    struct dr_err err = {0};
    char *text = NULL;
    int64_t best_apply = INT64_MAX;
    int64_t best_all = INT64_MAX;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct dr_catalog *c = NULL;
        struct dr_peer peer = {.id = 1, .format = DR_CATALOG_FORMAT};
        json_t *body = json_pack("{s:i}", "shard_number", (int)shards);
        must(dr_catalog_create(&c, &err), &err);
        must(dr_entry_peer(&peer, &text, &err), &err);
        (void)apply(&c, text, 1);
        dr_free(text);
        must(dr_entry_create_collection(c, "c", body, "u", 1, &text, &err), &err);
        (void)apply(&c, text, 2);
        dr_free(text);
        int64_t start = dr_mono_us();
        must(dr_entry_promote(c, "c", NULL, &text, &err), &err);
        int64_t us = apply(&c, text, 3);
        int64_t all = dr_mono_us() - start;
        dr_free(text);
        best_apply = us < best_apply ? us : best_apply;
        best_all = all < best_all ? all : best_all;
        json_decref(body);
        dr_catalog_unref(c);
    }
    printf("promotion: shards=%u apply_ms=%.3f with_proposer_ms=%.3f\n", shards,
           (double)best_apply / 1e3, (double)best_all / 1e3);
}

int main(void)
{
    static const uint32_t ring_shards[] = {1, 3, 16, 128, 1000, 10000};
    static const uint32_t promoted[] = {1, 100, 10000};
    for (size_t i = 0; i < sizeof ring_shards / sizeof ring_shards[0]; i++) {
        measure_lookups(ring_shards[i]);
    }
    for (size_t i = 0; i < sizeof promoted / sizeof promoted[0]; i++) {
        measure_promotion(promoted[i]);
    }
    return 0;
}
