/* SPDX-License-Identifier: Apache-2.0 */
/* One move of a shard between two stores, step by step, with the time of each:
 *     bench_shard_move SOURCE_URL TARGET_URL NAME prepare|move COLUMNS */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/shard.h"

static dr_mono_ms last_ms;

static void tell(const char *what, uint64_t rows)
{
    dr_mono_ms now = dr_mono_now();
    printf("%s_ms=%lld %s_rows=%llu\n", what, (long long)(now - last_ms), what,
           (unsigned long long)rows);
    last_ms = now;
}

static enum dr_code copy_all(struct dr_store *from, struct dr_store *to,
                             const struct dr_shard_id *id, struct dr_err *err)
{
    static struct dr_cursor cursor;
    const struct dr_budget budget = {
        .items_max = 100000, .bytes_max = UINT64_C(32) << 20, .ms_max = 2000};
    uint64_t total = 0;
    bool is_end = false;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && !is_end) {
        uint64_t rows = 0;
        uint64_t bytes = 0;
        rc = dr_shard_copy(from, &to, 1, id, &budget, &cursor, &rows, &bytes, &is_end, err);
        total += rows;
    }
    tell("copy", total);
    return rc;
}

/* Range by range, as before a switch. */
static enum dr_code compare_all(struct dr_store *from, struct dr_store *to,
                                const struct dr_shard_id *id, struct dr_err *err)
{
    static struct dr_cursor cursor;
    const struct dr_budget budget = {
        .items_max = 100000, .bytes_max = UINT64_C(32) << 20, .ms_max = 2000};
    struct dr_shard_compared one = {0};
    uint64_t total = 0;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && !one.is_end) {
        rc = dr_shard_compare(from, &to, 1, id, &budget, &cursor, &one, err);
        if (rc == DR_OK && one.is_different) {
            rc = dr_fail(err, DR_CORRUPT, "rows differ: %s", one.range);
        }
        total += one.rows;
    }
    tell("compare", total);
    return rc;
}

static enum dr_code move(struct dr_store *from, struct dr_store *to, const struct dr_shard_id *id,
                         const char *columns, struct dr_err *err)
{
    const struct dr_budget budget = {
        .items_max = 5000, .bytes_max = UINT64_C(32) << 20, .ms_max = 2000};
    uint64_t applied = 0;
    uint64_t left = 0;
    enum dr_code rc = dr_shard_ensure(to, id, columns, "", err);
    rc = rc == DR_OK ? dr_shard_capture(from, id, true, err) : rc;
    tell("prepare", 0);
    rc = rc == DR_OK ? copy_all(from, to, id, err) : rc;
    rc = rc == DR_OK ? dr_shard_follow(from, &to, 1, id, &budget, &applied, &left, err) : rc;
    tell("follow", applied);
    rc = rc == DR_OK ? compare_all(from, to, id, err) : rc;
    rc = rc == DR_OK ? dr_shard_capture(from, id, false, err) : rc;
    return rc == DR_OK ? dr_shard_drop(to, id, false, err) : rc;
}

int main(int argc, char **argv)
{
    struct dr_err err = {0};
    struct dr_store *from = NULL;
    struct dr_store *to = NULL;
    if (argc != 6) {
        fprintf(stderr, "usage: bench_shard_move SOURCE TARGET NAME prepare|move COLUMNS\n");
        return 2;
    }
    struct dr_shard_id id = {.name = argv[3],
                             .table = "bench",
                             .owner = "11111111-aaaa-4bbb-8ccc-000000000001",
                             .operation = "22222222-aaaa-4bbb-8ccc-000000000002"};
    last_ms = dr_mono_now();
    enum dr_code rc = dr_store_open(argv[1], &from, &err);
    rc = rc == DR_OK ? dr_store_open(argv[2], &to, &err) : rc;
    if (rc == DR_OK && strcmp(argv[4], "prepare") == 0) {
        rc = dr_shard_ensure(from, &id, argv[5], "", &err);
    } else if (rc == DR_OK) {
        rc = move(from, to, &id, argv[5], &err);
    }
    if (rc != DR_OK) {
        fprintf(stderr, "bench_shard_move: %s: %s\n", dr_code_name(rc), err.msg);
    }
    dr_store_close(from);
    dr_store_close(to);
    return rc == DR_OK ? 0 : 1;
}
