/* SPDX-License-Identifier: Apache-2.0 */
/* How many lookups one core makes in a second, ids hashed on the way: one after the other, and as
 * the requests that carry many ids do it. And how long a promotion takes beyond its commit: reading
 * the entry, checking it, making the new state. Seconds of the processor, medians of ROUNDS. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "catalog/catalog.h"

enum { LOOKUPS = 4000000, BATCH = 1000, ROUNDS = 5 };

static void must(enum dr_code rc, const struct dr_err *err)
{
    if (rc != DR_OK) {
        (void)fprintf(stderr, "bench_catalog: %s\n", err->msg);
        exit(1);
    }
}

/* Of this process, so that others on the machine do not count. */
static int64_t cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static double median_of(int64_t us[ROUNDS])
{
    qsort(us, ROUNDS, sizeof us[0], compare_us);
    return (double)us[ROUNDS / 2];
}

static uint64_t hash_number(uint64_t number)
{
    struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = number};
    return dr_point_hash(&id);
}

static uint64_t look_up_singly(const struct dr_ring *ring)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < LOOKUPS; i++) {
        sum += dr_ring_owner(ring, hash_number(i));
    }
    return sum;
}

static uint64_t look_up_batches(const struct dr_ring *ring)
{
    uint64_t sum = 0;
    uint64_t hash[BATCH];
    uint32_t owner[BATCH];
    for (uint64_t i = 0; i < LOOKUPS; i += BATCH) {
        for (uint64_t k = 0; k < BATCH; k++) {
            hash[k] = hash_number(i + k);
        }
        dr_ring_owners(ring, hash, BATCH, owner);
        for (uint64_t k = 0; k < BATCH; k++) {
            sum += owner[k];
        }
    }
    return sum;
}

static void measure_lookups(uint32_t shards)
{
    struct dr_err err = {0};
    struct dr_ring *ring = NULL;
    uint32_t *shard_id = dr_calloc(shards, sizeof *shard_id);
    int64_t singly_us[ROUNDS];
    int64_t batch_us[ROUNDS];
    if (shard_id == NULL) {
        exit(1);
    }
    for (uint32_t i = 0; i < shards; i++) {
        shard_id[i] = i;
    }
    must(dr_ring_create(shard_id, shards, &ring, &err), &err);
    for (unsigned round = 0; round < ROUNDS; round++) {
        int64_t start = cpu_us();
        uint64_t singly = look_up_singly(ring);
        int64_t middle = cpu_us();
        uint64_t in_batches = look_up_batches(ring);
        singly_us[round] = middle - start;
        batch_us[round] = cpu_us() - middle;
        if (singly != in_batches) {
            (void)fprintf(stderr, "bench_catalog: a batch has other owners\n");
            exit(1);
        }
    }
    printf("lookups: shards=%u per_second=%.0f in_batches_per_second=%.0f\n", shards,
           LOOKUPS * 1e6 / median_of(singly_us), LOOKUPS * 1e6 / median_of(batch_us));
    dr_ring_destroy(ring);
    dr_free(shard_id);
}

/* Apply and go over to the new state; microseconds of the apply. */
static int64_t apply(struct dr_catalog **c, const char *entry, uint64_t index)
{
    struct dr_catalog *after = NULL;
    struct dr_apply_result result;
    struct dr_err err = {0};
    int64_t start = cpu_us();
    must(dr_catalog_apply(*c, index, entry, strlen(entry), &after, &result, &err), &err);
    int64_t us = cpu_us() - start;
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
    int64_t apply_us[ROUNDS];
    int64_t all_us[ROUNDS];
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
        int64_t start = cpu_us();
        must(dr_entry_promote(c, "c", NULL, &text, &err), &err);
        apply_us[round] = apply(&c, text, 3);
        all_us[round] = cpu_us() - start;
        dr_free(text);
        json_decref(body);
        dr_catalog_unref(c);
    }
    printf("promotion: shards=%u apply_ms=%.3f with_proposer_ms=%.3f\n", shards,
           median_of(apply_us) / 1e3, median_of(all_us) / 1e3);
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
