/* SPDX-License-Identifier: Apache-2.0 */
/* The key sequence by itself: keys generated per second from front to back, seeks per second to
 * places drawn at random, partition steps planned per second, keys recognised per second.
 *
 *   bench_keyseq [ROUNDS]
 *
 * One thread; medians over the rounds are printed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "plan/plan.h"
#include "store/keyseq.h"

enum { ROUNDS_MAX = 31, SEEKS = 2000000, CLASSIFIED = 2000000, PARTITION_KEYS = 10 };

static struct dr_err err;
static uint64_t sink; /* what is computed must be used, or nothing is measured */

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        fprintf(stderr, "bench_keyseq: %s\n", err.msg);
        exit(1);
    }
}

/* Three services, 20 applications and 10 metrics over a year: ten million keys. */
static json_t *make_job(void)
{
    static const char *const lists[] = {"services", "applications", "metrics"};
    static const int counts[] = {3, 20, 10};
    struct dr_str text;
    json_t *job = NULL;
    dr_str_init(&text);
    dr_str_addf(
        &text,
        "{\"kind\":\"redis.purge-stats\",\"store\":\"redis://127.0.0.1:1\",\"from\":1546300800,"
        "\"to\":1577836799,\"strategy\":\"keys\",\"partition_keys\":%d",
        PARTITION_KEYS);
    for (int l = 0; l < 3; l++) {
        dr_str_addf(&text, ",\"%s\":[", lists[l]);
        for (int i = 0; i < counts[l]; i++) {
            dr_str_addf(&text, "%s\"%c%d\"", i > 0 ? "," : "", lists[l][0], 1000 + i);
        }
        dr_str_addc(&text, ']');
    }
    dr_str_addc(&text, '}');
    must(dr_json_parse("job", dr_str_text(&text), text.len, &job, &err));
    dr_str_fini(&text);
    return job;
}

static double rate(uint64_t count, int64_t begin_us)
{
    return (double)count * 1e6 / (double)(dr_mono_us() - begin_us);
}

static double generate(const struct dr_keyseq *s)
{
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    int64_t begin = dr_mono_us();
    dr_keyseq_seek(&at, s, 0);
    while (dr_keyseq_next(&at, &key, &bytes)) {
        sink += (unsigned char)key[bytes - 1];
    }
    return rate(dr_keyseq_count(s), begin);
}

static double seek(const struct dr_keyseq *s)
{
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    uint64_t place = 88172645463325252U;
    int64_t begin = dr_mono_us();
    for (int i = 0; i < SEEKS; i++) {
        place ^= place << 13;
        place ^= place >> 7;
        place ^= place << 17;
        dr_keyseq_seek(&at, s, place % dr_keyseq_count(s));
        sink += dr_keyseq_next(&at, &key, &bytes) ? bytes : 0;
    }
    return rate(SEEKS, begin);
}

static double classify(const struct dr_keyseq *s)
{
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    int64_t begin = dr_mono_us();
    dr_keyseq_seek(&at, s, 0);
    for (int i = 0; i < CLASSIFIED && dr_keyseq_next(&at, &key, &bytes); i++) {
        sink += dr_keyseq_classify(s, key, bytes) == DR_KEY_SELECTED;
    }
    return rate(CLASSIFIED, begin);
}

/* Make the plan and walk its steps, as a put into the queue does. */
static double partition(const json_t *job)
{
    struct dr_request *request = NULL;
    struct dr_plan *plan = NULL;
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has_step = true;
    const char *node = "127.0.0.1:1";
    const struct dr_chunk chunk = {.node = node, .rows = 1, .is_rows_known = true};
    struct dr_collection collection = {
        .name = "db0.stats", .epoch = 1, .rows_total = 1, .chunk = &chunk, .chunk_count = 1};
    const struct dr_survey survey = {.database = "db0",
                                     .node_count = 1,
                                     .node = &node,
                                     .collection_count = 1,
                                     .collection = &collection};
    must(dr_request_parse(job, "job", &request, &err));
    int64_t begin = dr_mono_us();
    must(dr_plan_make(request, &survey, UINT32_MAX, &plan, &err));
    must(dr_plan_begin(plan, &it, &err));
    while (has_step) {
        must(dr_plan_next(it, &step, &has_step, &err));
        sink += has_step ? (uint64_t)step.number : 0;
    }
    double steps = rate(dr_plan_step_count(plan), begin);
    dr_plan_end(it);
    dr_plan_destroy(plan);
    dr_request_destroy(request);
    return steps;
}

static int compare_rates(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_median(const char *name, double *rates, int count)
{
    char text[40];
    qsort(rates, (size_t)count, sizeof *rates, compare_rates);
    printf("%-28s %16s/s\n", name, dr_human_count((uint64_t)rates[count / 2], text, sizeof text));
}

int main(int argc, char **argv)
{
    uint64_t rounds = 5;
    if (argc > 1 && (!dr_parse_u64(argv[1], &rounds) || rounds < 1 || rounds > ROUNDS_MAX)) {
        fprintf(stderr, "bench_keyseq [ROUNDS, 1 to %d]\n", ROUNDS_MAX);
        return 2;
    }
    static double rates[4][ROUNDS_MAX];
    json_t *job = make_job();
    struct dr_keyseq *s = NULL;
    must(dr_keyseq_create(job, "job", &s, &err));
    for (uint64_t i = 0; i < rounds; i++) {
        rates[0][i] = generate(s);
        rates[1][i] = seek(s);
        rates[2][i] = partition(job);
        rates[3][i] = classify(s);
    }
    printf("%" PRIu64 " keys, partitions of %d, %" PRIu64 " rounds\n", dr_keyseq_count(s),
           PARTITION_KEYS, rounds);
    print_median("keys generated", rates[0], (int)rounds);
    print_median("seeks, one key each", rates[1], (int)rounds);
    print_median("partition steps planned", rates[2], (int)rounds);
    print_median("keys made and recognised", rates[3], (int)rounds);
    dr_keyseq_destroy(s);
    json_decref(job);
    return sink == 0;
}
