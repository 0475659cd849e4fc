/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing before the fence: whatever differs is found, what is only late is followed, and the
 * writers of a big shard are held no longer than those of a small one. */
#include "unit/fleet_world.h"

enum { BIG = 200000, OVER_DIGEST = 60000, BIG_ID = 1000000, SMALL = 40000 };

static uint64_t rows_read;

/* A copy step to its end, or its failure. Being busy is tried again, as the worker does. */
static enum dr_code try_steps(const char *verb, const char *from, const char *to, uint64_t items)
{
    char text[800];
    struct dr_store *s = NULL;
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    struct dr_copied copied = {0};
    enum dr_code rc = DR_OK;
    struct dr_budget budget = {.items_max = items, .bytes_max = 64 << 20, .ms_max = 1000};
    rows_read = 0;
    (void)snprintf(text, sizeof text, "{\"fleet\":\"%s\",\"shard\":%s,\"from\":%s,\"to\":[%s]%s}",
                   verb, SHARD, from, to, strcmp(verb, "follow") == 0 ? ",\"left_max\":50" : "");
    must(dr_store_open_in(&fake_world, "fleet:", &s, &err));
    must(dr_store_check(s, "n1", text, true, &err));
    for (int busy = 0; !copied.is_end && (rc == DR_OK || rc == DR_BUSY) && busy < 50;) {
        copied = (struct dr_copied){0};
        rc = dr_store_copy(s, text, &budget, cursor, &copied, &err);
        busy += rc == DR_BUSY;
        rows_read += copied.read;
        assert_true(strcmp(verb, "verify") != 0 || copied.rows == 0); /* nothing is copied */
    }
    dr_store_close(s);
    dr_free(cursor);
    return rc;
}

static void do_steps(const char *verb, const char *from, const char *to, uint64_t items)
{
    enum dr_code rc = try_steps(verb, from, to, items);
    if (rc != DR_OK) {
        print_error("%s: %s\n", verb, err.msg);
    }
    must(rc);
}

static void must_run(const char *node, const char *text)
{
    enum dr_code rc = try_command(node, text);
    if (rc != DR_OK) {
        print_error("%s: %s\n%s\n", node, text, err.msg);
    }
    must(rc);
}

static void add_rows(int node, int rows)
{
    char sql[300];
    (void)snprintf(sql, sizeof sql,
                   "WITH c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) INSERT INTO "
                   "users_s0 SELECT %d + i, i, 'big' || i FROM c",
                   rows, BIG_ID);
    run_sql(node, sql);
}

static const char *ensure_text(void)
{
    static char text[600];
    (void)snprintf(text, sizeof text,
                   "{\"fleet\":\"ensure\",\"shard\":%s,\"columns\":\"%s\",\"extra\":\"\"}", SHARD,
                   COLUMNS);
    return text;
}

/* Everything up to the comparison; n0 is the source. */
static void bring_to(const char *target, const char *target_json)
{
    must_run(target, ensure_text());
    must_run("n0", simple_text("capture"));
    do_steps("copy", "\"n0\"", target_json, 20000);
    do_steps("follow", "\"n0\"", target_json, 20000);
}

static void rows_that_writers_touch_are_equal_in_the_end(void **state)
{
    (void)state;
    static const uint64_t items[] = {4, 50, 1000};
    for (size_t i = 0; i < 3; i++) {
        make_world("n0,n1");
        start_writers();
        wait_for_writes(30);
        bring_to("n2", "\"n2\"");
        do_steps("verify", "\"n0\"", "\"n2\",\"n1\"", items[i]);
        assert_true(rows_read >= ROWS_BEFORE);
        must_run("n0", turn_text("cutover", "\"n0\",\"n1\"", "\"n1\",\"n2\"", 2000));
        wait_for_writes(20);
        stop_writers();
        assert_string_equal(holders_now(), "n1,n2");
        assert_nothing_lost();
    }
}

static void what_differs_is_found_and_named(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *range;
    } cases[] = {
        {"UPDATE users_s0 SET v = 'other' WHERE id = -7", "-7"},
        {"UPDATE users_s0 SET n = NULL WHERE id = -120", "-120"},
        {"UPDATE users_s0 SET n = n + 0.5 WHERE id = -1", "-1"},
        {"DELETE FROM users_s0 WHERE id = -60", "-60"},
        {"DELETE FROM users_s0 WHERE id = -1", "-1"},
        {"DELETE FROM users_s0 WHERE id = -120", "-120"},
        {"DELETE FROM users_s0", "-120"},
        {"INSERT INTO users_s0 VALUES(-121, 0, 'first')", "-120"},
        {"INSERT INTO users_s0 VALUES(5, 0, 'behind the last')", "behind (-1)"},
    };
    make_world("n0");
    bring_to("n1", "\"n1\"");
    do_steps("verify", "\"n0\"", "\"n1\"", 10);
    assert_int_equal(rows_read, ROWS_BEFORE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_sql(1, cases[i].sql);
        for (uint64_t items = 5; items <= 500; items *= 100) {
            assert_int_equal(try_steps("verify", "\"n0\"", "\"n1\"", items), DR_CONFLICT);
            assert_has(err.msg, "row contents differ: node n1");
            assert_has(err.msg, "TRUNCATE or a change of columns?");
            if (items == 5 && strstr(err.msg, cases[i].range) == NULL) {
                print_error("%s: %s\n", cases[i].sql, err.msg);
                fail();
            }
        }
        run_sql(1, "DELETE FROM users_s0");
        do_steps("copy", "\"n0\"", "\"n1\"", 1000);
        do_steps("verify", "\"n0\"", "\"n1\"", 7);
    }
}

/* Without a log entry only the comparison can see it; with one it is brought. */
static void what_is_in_the_log_is_no_difference(void **state)
{
    (void)state;
    make_world("n0");
    bring_to("n1", "\"n1\"");
    run_sql(0, "UPDATE users_s0 SET v = 'late'; DELETE FROM users_s0 WHERE id > -20; INSERT INTO "
               "users_s0 VALUES(77, 7, 'new')");
    do_steps("verify", "\"n0\"", "\"n1\"", 9);
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0 WHERE v = 'late'"), 101);
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0 WHERE id = 77"), 1);
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM drover_log_users_s0"), 0);
}

static void a_comparison_goes_on_after_a_failure(void **state)
{
    (void)state;
    static const char *const faults[] = {"fleet.verify@3=error", "fleet.verify.followed@3=error",
                                         "fleet.verify.compared@4=error",
                                         "fleet.verify.done@2=error"};
    make_world("n0");
    bring_to("n1", "\"n1\"");
    for (size_t i = 0; i < 4; i++) {
        dr_fault_arm(faults[i]);
        assert_int_not_equal(try_steps("verify", "\"n0\"", "\"n1\"", 10), DR_OK);
        dr_fault_arm(NULL);
        do_steps("verify", "\"n0\"", "\"n1\"", 10);
    }
}

/* ---- holders that stay ---- */

/* A holder in use is written by its writers: a row that is brought there may be older than theirs.
 */
static void a_holder_in_use_is_compared_and_never_written(void **state)
{
    (void)state;
    make_world("n0,n1");
    memset(writers, 0, sizeof writers);
    bring_to("n2", "\"n2\"");
    run_sql(0, "INSERT INTO users_s0 VALUES(6, 6, 'half a write')");
    do_steps("verify", "\"n0\"", "\"n2\",\"n1\"", 1000); /* left to the cut over: it is small */
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0 WHERE id = 6"), 0);
    assert_int_equal(ask_sql(2, "SELECT count(*) FROM users_s0 WHERE id = 6"), 1);
    must_run("n0", turn_text("cutover", "\"n0\",\"n1\"", "\"n1\",\"n2\"", 2000));
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0 WHERE id = 6"), 1);
}

static void a_big_holder_with_half_a_write_is_named(void **state)
{
    (void)state;
    make_world("n0,n1");
    for (int n = 0; n < 2; n++) {
        add_rows(n, OVER_DIGEST);
    }
    run_sql(0, "INSERT INTO users_s0 VALUES(6, 6, 'half a write')");
    bring_to("n2", "\"n2\"");
    assert_int_equal(try_steps("verify", "\"n0\"", "\"n2\",\"n1\"", 20000), DR_CONFLICT);
    assert_has(err.msg, "node n1, a holder that stays");
    run_sql(1, "INSERT INTO users_s0 VALUES(6, 6, 'half a write')");
    do_steps("verify", "\"n0\"", "\"n2\",\"n1\"", 20000);
}

/* ---- big shards ---- */

static atomic_bool probe_stop;

/* How long one write was refused at most, in ms. */
static void *keep_probing(void *arg)
{
    dr_mono_ms *longest = arg;
    sqlite3 *db[NODES] = {NULL};
    dr_mono_ms since = 0;
    for (int i = 0; i < NODES; i++) {
        (void)sqlite3_open_v2(node_path(i), &db[i], SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                              NULL);
        (void)sqlite3_busy_timeout(db[i], 5000);
    }
    while (!atomic_load(&probe_stop)) {
        int node = holders_now()[1] - '0';
        since = since == 0 ? dr_mono_now() : since;
        if (write_one(db[node], 500, 1) == SQLITE_OK) {
            dr_mono_ms took = dr_mono_now() - since;
            *longest = took > *longest ? took : *longest;
            since = 0;
        }
        (void)dr_wait_ms(1, NULL, NULL);
    }
    for (int i = 0; i < NODES; i++) {
        (void)sqlite3_close(db[i]);
    }
    return NULL;
}

static dr_mono_ms turn_and_measure(const char *verb, unsigned fence_ms)
{
    dr_mono_ms longest = 0;
    pthread_t thread;
    atomic_store(&probe_stop, false);
    assert_int_equal(pthread_create(&thread, NULL, keep_probing, &longest), 0);
    (void)dr_wait_ms(20, NULL, NULL);
    dr_mono_ms begun = dr_mono_now();
    enum dr_code rc = DR_BUSY;
    for (int i = 0; rc == DR_BUSY && i < 20; i++) {
        rc = try_command("n0", turn_text(verb, "\"n0\"", "\"n1\"", fence_ms));
    }
    dr_mono_ms took = dr_mono_now() - begun;
    (void)dr_wait_ms(20, NULL, NULL);
    atomic_store(&probe_stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%s of %d rows: %lld ms, a write waited %lld ms at most\n", verb, BIG,
                  (long long)took, (long long)longest);
    if (rc != DR_OK) {
        print_error("%s\n", err.msg);
    }
    must(rc);
    return longest;
}

static void a_big_shard_is_switched_within_a_short_fence(void **state)
{
    (void)state;
    make_world("n0");
    add_rows(0, BIG);
    start_writers();
    bring_to("n1", "\"n1\"");
    do_steps("verify", "\"n0\"", "\"n1\"", 20000);
    assert_true(rows_read >= BIG);
    struct dr_store *s = NULL;
    struct dr_shard_digest unused;
    char url[200];
    (void)snprintf(url, sizeof url, "sqlite:%s", node_path(0));
    must(dr_store_open(url, &s, &err));
    dr_mono_ms begun = dr_mono_now();
    for (int i = 0; i < 2; i++) {
        must(dr_shard_digest(s, &users_s0, &unused, &err));
    }
    print_message("both digests: %lld ms\n", (long long)(dr_mono_now() - begun));
    dr_store_close(s);
    (void)turn_and_measure("cutover", 100);
    assert_string_equal(holders_now(), "n1");
    wait_for_writes(30);
    (void)turn_and_measure("cutback", 100);
    assert_string_equal(holders_now(), "n0");
    wait_for_writes(30);
    stop_writers();
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM users_s0 WHERE id > 1000000"), BIG);
    run_sql(0, "DELETE FROM users_s0 WHERE id > 1000000 OR id = 500");
    assert_nothing_lost();
}

/* No trigger sees a TRUNCATE, or somebody who switches triggers off. */
static void a_big_shard_that_was_emptied_after_the_comparison_is_not_switched(void **state)
{
    (void)state;
    for (int node = 0; node < 2; node++) {
        make_world("n0");
        add_rows(0, OVER_DIGEST);
        bring_to("n1", "\"n1\"");
        do_steps("verify", "\"n0\"", "\"n1\"", 20000);
        must_run("n0", simple_text("uncapture"));
        run_sql(node, "DELETE FROM users_s0");
        must_run("n0", simple_text("capture"));
        assert_int_equal(try_command("n0", turn_text("cutover", "\"n0\"", "\"n1\"", 2000)),
                         DR_CONFLICT);
        assert_has(err.msg, "row contents differ");
        assert_string_equal(holders_now(), "n0");
        run_sql(0, "INSERT INTO users_s0 VALUES(3, 3, 'writes go on')");
    }
}

/* The digests of a small one count as well. */
static void a_fence_ends_in_time_when_reading_takes_longer(void **state)
{
    (void)state;
    make_world("n0");
    add_rows(0, SMALL);
    bring_to("n1", "\"n1\"");
    do_steps("verify", "\"n0\"", "\"n1\"", 20000);
    assert_int_equal(try_command("n0", turn_text("cutover", "\"n0\"", "\"n1\"", 2)), DR_BUSY);
    assert_string_equal(holders_now(), "n0");
    run_sql(0, "INSERT INTO users_s0 VALUES(3, 3, 'writes go on')");
    must_run("n0", turn_text("cutover", "\"n0\"", "\"n1\"", 10000));
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0 WHERE id = 3"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_writers_touch_are_equal_in_the_end),
        cmocka_unit_test(what_differs_is_found_and_named),
        cmocka_unit_test(what_is_in_the_log_is_no_difference),
        cmocka_unit_test(a_comparison_goes_on_after_a_failure),
        cmocka_unit_test(a_holder_in_use_is_compared_and_never_written),
        cmocka_unit_test(a_big_holder_with_half_a_write_is_named),
        cmocka_unit_test(a_big_shard_is_switched_within_a_short_fence),
        cmocka_unit_test(a_big_shard_that_was_emptied_after_the_comparison_is_not_switched),
        cmocka_unit_test(a_fence_ends_in_time_when_reading_takes_longer),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
