/* SPDX-License-Identifier: Apache-2.0 */
/* The promise of the worker pool as a whole: under whatever faults, by seed, it ends with exact
 * counts and goes back to what was, row by row. */
#include "worker/pool_help.h"

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return *seed >> 33;
}

static void make_rules(uint64_t *seed, char *rules, size_t bytes)
{
    static const char *const ops[] = {"scan",  "erase",  "probe", "restore",
                                      "epoch", "health", "erase", "restore"};
    static const char *const actions[] = {"busy", "unreachable", "unknown_done", "unknown_not_done",
                                          "stale"};
    size_t used = 0;
    rules[0] = '\0';
    for (int i = 0; i < 14; i++) {
        used += (size_t)snprintf(rules + used, bytes - used, "%s%s=%s@%d+%d", i == 0 ? "" : ";",
                                 ops[next_random(seed) % 8], actions[next_random(seed) % 5],
                                 (int)(next_random(seed) % 24) + 1, (int)(next_random(seed) % 3));
        assert_true(used < bytes);
    }
}

enum { SEEDS = 20, ROWS = 300 };

/* Many operations with faults of their own, side by side because each mostly waits. */
struct trial {
    struct bed b;
    struct pool_run r;
    char rules[440];
    int64_t op;
    bool has_turned;
};

static void make_trials(struct trial *t, uint64_t factor)
{
    for (uint64_t n = 0; n < SEEDS; n++) {
        uint64_t seed = (n + 1) * factor;
        make_rules(&seed, t[n].rules, sizeof t[n].rules);
        make_bed(&t[n].b, t[n].rules, 3, 6, ROWS);
        t[n].op = put_drop(&t[n].b, ", \"tuning\": {\"batch_items_max\": 9}");
        t[n].has_turned = false;
    }
}

static void start_trials(struct trial *t)
{
    for (int n = 0; n < SEEDS; n++) {
        make_run(&t[n].r, &t[n].b, t[n].op);
        start_run(&t[n].r);
    }
}

static void join_trials(struct trial *t)
{
    for (int n = 0; n < SEEDS; n++) {
        join_run(&t[n].r);
    }
}

/* One line that tells how to repeat it, when an end is not as it must be. */
static void look_at_end(struct trial *t, enum dr_op_status status, uint64_t rows, uint64_t sum,
                        uint64_t undone)
{
    struct dr_op o = op_now(&t->b, t->op);
    if (o.status != status || rows_now(&t->b) != rows || o.items_undone != undone ||
        o.items_conflict != 0 || dr_memory_checksum(t->b.name, ORDERS) != sum) {
        print_error("rules %s: %s, %llu rows, done %llu, undone %llu, conflicts %llu\n", t->rules,
                    dr_op_status_name(o.status), (unsigned long long)rows_now(&t->b),
                    (unsigned long long)o.items_done, (unsigned long long)o.items_undone,
                    (unsigned long long)o.items_conflict);
        expect_status(&t->b, t->op, status);
        fail();
    }
}

static struct trial trials[SEEDS];

static void test_whatever_faults_come_it_ends_with_exact_counts_and_goes_back(void **state)
{
    struct trial *t = trials;
    (void)state;
    make_trials(t, 7919);
    start_trials(t);
    join_trials(t);
    for (int n = 0; n < SEEDS; n++) {
        look_at_end(&t[n], DR_O_DONE, 0, 0, 0);
        assert_int_equal(op_now(&t[n].b, t[n].op).items_done, ROWS);
        wish(&t[n].b, t[n].op, DR_WISH_ROLLBACK);
    }
    start_trials(t);
    join_trials(t);
    for (int n = 0; n < SEEDS; n++) {
        look_at_end(&t[n], DR_O_ROLLED_BACK, ROWS, t[n].b.sum, ROWS);
        free_bed(&t[n].b);
    }
}

static void test_whatever_faults_come_a_rollback_in_the_middle_restores_all(void **state)
{
    struct trial *t = trials;
    (void)state;
    make_trials(t, 104729);
    start_trials(t);
    for (int turned = 0; turned < SEEDS;) {
        for (int n = 0; n < SEEDS; n++) {
            if (!t[n].has_turned && op_now(&t[n].b, t[n].op).items_done >= (uint64_t)(n * 11)) {
                wish(&t[n].b, t[n].op, DR_WISH_ROLLBACK);
                t[n].has_turned = true;
                turned++;
            }
        }
    }
    join_trials(t);
    start_trials(t); /* for those that were done before they could turn */
    join_trials(t);
    for (int n = 0; n < SEEDS; n++) {
        look_at_end(&t[n], DR_O_ROLLED_BACK, ROWS, t[n].b.sum, op_now(&t[n].b, t[n].op).items_done);
        free_bed(&t[n].b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whatever_faults_come_it_ends_with_exact_counts_and_goes_back),
        cmocka_unit_test(test_whatever_faults_come_a_rollback_in_the_middle_restores_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
