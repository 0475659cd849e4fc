/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/shard.h, kept by SQLite files. */
#include "unit/fleet_world.h"

static struct dr_store *node[NODES];

static void close_nodes(void)
{
    for (int i = 0; i < NODES; i++) {
        dr_store_close(node[i]);
        node[i] = NULL;
    }
}

static void fresh_nodes(void)
{
    close_nodes();
    for (int i = 0; i < NODES; i++) {
        char url[200];
        (void)unlink(node_path(i));
        run_sql(i, "CREATE TABLE IF NOT EXISTS other(a); DROP TABLE other;");
        (void)snprintf(url, sizeof url, "sqlite:%s", node_path(i));
        must(dr_store_open(url, &node[i], &err));
    }
}

static int stop_nodes(void **state)
{
    (void)state;
    close_nodes();
    return 0;
}

static struct dr_shard_facts facts_of(int n)
{
    struct dr_shard_facts f;
    must(dr_shard_facts(node[n], &users_s0, &f, &err));
    return f;
}

static const struct dr_budget all_of_it = {.items_max = 1000, .bytes_max = 1 << 26, .ms_max = 9000};

static uint64_t follow_all(int from, int to)
{
    uint64_t applied = 0;
    uint64_t sum = 0;
    uint64_t left = 1;
    while (left > 0) {
        must(dr_shard_follow(node[from], &node[to], 1, &users_s0, &all_of_it, &applied, &left,
                             &err));
        sum += applied;
    }
    return sum;
}

static uint64_t copy_all(int from, int to, uint64_t batch)
{
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    struct dr_budget budget = {.items_max = batch, .bytes_max = 1 << 26, .ms_max = 9000};
    bool is_end = false;
    uint64_t sum = 0;
    while (!is_end) {
        uint64_t rows = 0;
        uint64_t bytes = 0;
        must(dr_shard_copy(node[from], &node[to], 1, &users_s0, &budget, cursor, &rows, &bytes,
                           &is_end, &err));
        sum += rows;
    }
    dr_free(cursor);
    return sum;
}

static void assert_equal(int a, int b)
{
    struct dr_shard_digest x;
    struct dr_shard_digest y;
    must(dr_shard_digest(node[a], &users_s0, &x, &err));
    must(dr_shard_digest(node[b], &users_s0, &y, &err));
    assert_string_equal(x.text, y.text);
    assert_int_equal(x.rows, y.rows);
}

static const char *const hard_rows =
    "INSERT INTO users_s0(a, b, c) VALUES(1, 'x', NULL), (1, 'X ', -9223372036854775808), (2, "
    "x'00ff', 0.1), (2.5, '', 9e999), (-3, x'', 'plain'), ('t', CAST(x'fffe00c3' AS TEXT), "
    "x'61006200'), (x'01', 7, 5e-324), (9007199254740993, 1.0, zeroblob(70000)), ('T', 'q\"', 1)";

static const struct {
    const char *columns, *extra;
} shapes[] = {
    {"a NOT NULL, b NOT NULL, c, PRIMARY KEY(a, b)", ""},
    {"c, b NOT NULL, a NOT NULL, PRIMARY KEY(b, a)", "WITHOUT ROWID"},
    {"a, b, c, g AS (c || b), s AS (b) STORED, PRIMARY KEY(a, b DESC)", "WITHOUT ROWID"},
    {"a COLLATE NOCASE NOT NULL, b NOT NULL, c UNIQUE, PRIMARY KEY(b, a)", ""},
    {"a ANY NOT NULL, b ANY NOT NULL, c ANY, PRIMARY KEY(a, b)", "STRICT"},
    {"id INTEGER PRIMARY KEY, a, b, c", ""},
    {"id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b BLOB, c NUMERIC", ""},
};

static void rows_of_every_shape_arrive_byte_for_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (uint64_t batch = 1; batch <= 100; batch += 99) {
            fresh_nodes();
            for (int n = 0; n < 2; n++) {
                must(dr_shard_ensure(node[n], &users_s0, shapes[i].columns, shapes[i].extra, &err));
            }
            run_sql(0, hard_rows);
            assert_int_equal(copy_all(0, 1, batch), 9);
            char *before = dump_table("n0.db", "* FROM users_s0 ORDER BY a, b, c");
            char *after = dump_table("n1.db", "* FROM users_s0 ORDER BY a, b, c");
            assert_string_equal(before, after);
            dr_free(before);
            dr_free(after);
            assert_equal(0, 1);
        }
    }
}

static bool are_equal(int from, int to, uint64_t batch, uint64_t *rows_out)
{
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    struct dr_budget budget = {.items_max = batch, .bytes_max = 1 << 26, .ms_max = 9000};
    struct dr_shard_compared one = {0};
    *rows_out = 0;
    while (!one.is_end && !one.is_different) {
        must(dr_shard_compare(node[from], &node[to], 1, &users_s0, &budget, cursor, &one, &err));
        assert_true(one.rows <= batch);
        *rows_out += one.rows;
    }
    dr_free(cursor);
    return !one.is_different;
}

/* A row more, a row less, another value, in the middle and at both ends: by batches of any size. */
static void a_comparison_by_ranges_finds_what_differs(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE users_s0 SET c = '' WHERE a = 1 AND b = 'x'",
        "UPDATE users_s0 SET c = 0.1 + 1e-16 WHERE a = 2",
        "UPDATE users_s0 SET c = 'PLAIN' WHERE a = -3",
        "INSERT INTO users_s0(a, b, c) VALUES(-100, 'low', 'more')",
        "INSERT INTO users_s0(a, b, c) VALUES(2.2, 'between', 'more')",
        "INSERT INTO users_s0(a, b, c) VALUES(x'ffff', x'ffff', 'more')",
        "DELETE FROM users_s0",
    };
    enum { CHANGES = sizeof changes / sizeof changes[0], ROWS = 9, STEP = 4 };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i += 2) {
        fresh_nodes();
        for (int n = 0; n < 2; n++) {
            must(dr_shard_ensure(node[n], &users_s0, shapes[i].columns, shapes[i].extra, &err));
        }
        run_sql(0, hard_rows);
        for (int k = 0; k < CHANGES + ROWS; k += k < CHANGES ? 1 : STEP) {
            char sql[200];
            uint64_t rows = 0;
            run_sql(1, "DELETE FROM users_s0");
            assert_int_equal(copy_all(0, 1, 100), ROWS);
            for (uint64_t batch = 1; batch <= 16; batch *= 2) {
                assert_true(are_equal(0, 1, batch, &rows));
                assert_int_equal(rows, ROWS);
            }
            (void)snprintf(sql, sizeof sql,
                           "DELETE FROM users_s0 WHERE (a, b) = (SELECT a, b FROM users_s0 ORDER "
                           "BY a, b LIMIT 1 OFFSET %d)",
                           k - CHANGES);
            run_sql(1, k < CHANGES ? changes[k] : sql);
            for (uint64_t batch = 1; batch <= 16; batch *= 2) {
                assert_false(are_equal(0, 1, batch, &rows));
                assert_false(are_equal(1, 0, batch, &rows));
            }
        }
    }
}

/* Does all that differs have its key in the log? */
static bool is_all_logged(uint64_t batch, int *different_out)
{
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    struct dr_budget budget = {.items_max = batch, .bytes_max = 1 << 26, .ms_max = 9000};
    struct dr_shard_compared one = {0};
    *different_out = 0;
    while (!one.is_end && (!one.is_different || one.is_logged)) {
        must(dr_shard_compare(node[0], &node[1], 1, &users_s0, &budget, cursor, &one, &err));
        *different_out += one.is_different;
    }
    dr_free(cursor);
    return !one.is_different || one.is_logged;
}

/* What was written and not followed yet is late; a row that nobody wrote is different. */
static void late_rows_and_others_are_told_apart(void)
{
    int different = 0;
    for (uint64_t batch = 1; batch <= 100; batch = batch * 3 + 1) {
        assert_true(is_all_logged(batch, &different));
        assert_true(different > 0);
        run_sql(1, "UPDATE users_s0 SET b = x'77' WHERE a = 1 AND b = 'x'");
        assert_false(is_all_logged(batch, &different));
        run_sql(1, "UPDATE users_s0 SET b = 'x' WHERE a = 1 AND b = x'77'");
    }
}

static void what_changes_during_a_copy_is_followed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        fresh_nodes();
        for (int n = 0; n < 2; n++) {
            must(dr_shard_ensure(node[n], &users_s0, shapes[i].columns, shapes[i].extra, &err));
        }
        run_sql(0, hard_rows);
        must(dr_shard_capture(node[0], &users_s0, true, &err));
        must(dr_shard_capture(node[0], &users_s0, true, &err));
        assert_int_equal(copy_all(0, 1, 4), 9);
        run_sql(0, "UPDATE users_s0 SET c = 'new' WHERE a = 2; UPDATE users_s0 SET a = 'tt' WHERE "
                   "a = 't'; DELETE FROM users_s0 WHERE a = -3; INSERT INTO users_s0(a, b, c) "
                   "VALUES(77, 1, 'in'); REPLACE INTO users_s0(a, b, c) VALUES(77, 1, 'over')");
        assert_true(facts_of(0).log_rows >= 5);
        late_rows_and_others_are_told_apart();
        assert_true(follow_all(0, 1) >= 5);
        assert_int_equal(facts_of(0).log_rows, 0);
        assert_equal(0, 1);
        must(dr_shard_capture(node[0], &users_s0, false, &err));
        must(dr_shard_capture(node[0], &users_s0, false, &err));
        assert_int_equal(ask_sql(0, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"),
                         0);
    }
}

/* A row that REPLACE throws out by another unique column leaves no trigger's trace. */
static void a_row_that_was_thrown_out_by_a_unique_column_goes_as_well(void **state)
{
    (void)state;
    fresh_nodes();
    for (int n = 0; n < 2; n++) {
        must(dr_shard_ensure(node[n], &users_s0, "id INTEGER PRIMARY KEY, u UNIQUE", "", &err));
    }
    run_sql(0, "INSERT INTO users_s0 VALUES(1, 'a'), (2, 'b')");
    must(dr_shard_capture(node[0], &users_s0, true, &err));
    assert_int_equal(copy_all(0, 1, 10), 2);
    run_sql(0, "REPLACE INTO users_s0 VALUES(3, 'a'); UPDATE users_s0 SET u = 'z' WHERE id = 3;"
               "UPDATE OR REPLACE users_s0 SET u = 'b' WHERE id = 3; UPDATE users_s0 SET u = 'y'");
    (void)follow_all(0, 1);
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0"), 1);
    assert_equal(0, 1);
}

static void digests_differ_where_a_byte_or_a_type_does(void **state)
{
    (void)state;
    static const char *const other[] = {
        "(1, 'a'), (2, 'b')", "(1, 'a'), (2, x'62')", "(1, 'b'), (2, 'a')",
        "(1, 'a')",           "(1, 'a'), (2, NULL)",  "(1, 'a'), (2, '')",
        "(1, 1), (2, 2)",     "(1, '1'), (2, '2')",   "(1, 'a'), (2, 'a')",
    };
    enum { OTHERS = sizeof other / sizeof other[0] };
    struct dr_shard_digest d[OTHERS];
    for (int i = 0; i < OTHERS; i++) {
        char sql[120];
        fresh_nodes();
        must(dr_shard_ensure(node[0], &users_s0, "id INTEGER PRIMARY KEY, v", "", &err));
        (void)snprintf(sql, sizeof sql, "INSERT INTO users_s0 VALUES%s", other[i]);
        run_sql(0, sql);
        must(dr_shard_digest(node[0], &users_s0, &d[i], &err));
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(d[i].text, d[k].text);
        }
    }
}

static void a_fence_refuses_every_write_and_lets_reads_through(void **state)
{
    (void)state;
    static const char *const writes[] = {
        "INSERT INTO users_s0 VALUES(2, 2, 'b')",
        "INSERT OR IGNORE INTO users_s0 VALUES(1, 2, 'b')",
        "REPLACE INTO users_s0 VALUES(1, 2, 'b')",
        "UPDATE OR IGNORE users_s0 SET n = 3",
        "DELETE FROM users_s0",
        "INSERT INTO users_s0 VALUES(1, 2, 'b') ON CONFLICT(id) DO UPDATE SET n = 5",
    };
    fresh_nodes();
    must(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
    run_sql(0, "INSERT INTO users_s0 VALUES(1, 1, 'a')");
    must(dr_shard_fence(node[0], &users_s0, true, 500, &err));
    must(dr_shard_fence(node[0], &users_s0, true, 500, &err));
    assert_true(facts_of(0).is_fenced);
    struct dr_sql s;
    must(dr_sql_open(&s, node_path(0), 0, 100, &err));
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        assert_int_not_equal(dr_sql_exec(&s, writes[i], &err), DR_OK);
        assert_has(err.msg, "drover: shard moved, ask the catalog");
    }
    assert_int_equal(ask_sql(0, "SELECT n FROM users_s0 WHERE id = 1"), 1);
    must(dr_shard_fence(node[0], &users_s0, false, 500, &err));
    must(dr_shard_fence(node[0], &users_s0, false, 500, &err));
    must(dr_sql_exec(&s, writes[0], &err));
    dr_sql_close(&s);
}

static void a_fence_that_a_writer_keeps_out_changes_nothing(void **state)
{
    (void)state;
    fresh_nodes();
    must(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
    struct dr_sql s;
    must(dr_sql_open(&s, node_path(0), 0, 100, &err));
    must(dr_sql_exec(&s, "BEGIN IMMEDIATE; INSERT INTO users_s0 VALUES(5, 5, 'open')", &err));
    dr_mono_ms begin = dr_mono_now();
    assert_int_equal(dr_shard_fence(node[0], &users_s0, true, 200, &err), DR_BUSY);
    dr_mono_ms took = dr_mono_now() - begin;
    assert_true(took >= 150 && took < 2000);
    must(dr_sql_exec(&s, "COMMIT", &err));
    assert_false(facts_of(0).is_fenced);
    must(dr_sql_exec(&s, "INSERT INTO users_s0 VALUES(6, 6, 'on')", &err));
    dr_sql_close(&s);
}

static void drovers_own_rows_pass_a_fence_and_nobody_elses_do(void **state)
{
    (void)state;
    fresh_nodes();
    for (int n = 0; n < 2; n++) {
        must(dr_shard_ensure(node[n], &users_s0, COLUMNS, "", &err));
    }
    run_sql(0, "INSERT INTO users_s0 VALUES(1, 1, 'a')");
    must(dr_shard_fence(node[1], &users_s0, true, 500, &err));
    assert_int_equal(copy_all(0, 1, 10), 1);
    assert_equal(0, 1);
    struct dr_sql s;
    must(dr_sql_open(&s, node_path(1), 0, 100, &err));
    assert_int_equal(dr_sql_exec(&s, "DELETE FROM users_s0", &err), DR_CONFLICT);
    dr_sql_close(&s);
}

static void what_is_held_is_out_of_use_and_comes_back_as_it_was(void **state)
{
    (void)state;
    fresh_nodes();
    must(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
    run_sql(0, "INSERT INTO users_s0 VALUES(1, 1, 'a')");
    must(dr_shard_capture(node[0], &users_s0, true, &err));
    must(dr_shard_fence(node[0], &users_s0, true, 500, &err));
    must(dr_shard_hold(node[0], &users_s0, true, &err));
    must(dr_shard_hold(node[0], &users_s0, true, &err));
    struct dr_shard_facts f = facts_of(0);
    assert_true(f.is_held && !f.exists && f.is_owned && f.rows == 1);
    must(dr_shard_drop(node[0], &users_s0, false, &err)); /* the one in use: there is none */
    assert_true(facts_of(0).is_held);
    must(dr_shard_hold(node[0], &users_s0, false, &err));
    must(dr_shard_hold(node[0], &users_s0, false, &err));
    f = facts_of(0);
    assert_true(f.exists && !f.is_held && f.is_fenced && f.is_captured);
    must(dr_shard_drop(node[0], &users_s0, true, &err)); /* the held one: there is none */
    assert_true(facts_of(0).exists);
    must(dr_shard_hold(node[0], &users_s0, true, &err));
    must(dr_shard_drop(node[0], &users_s0, true, &err));
    must(dr_shard_drop(node[0], &users_s0, true, &err));
    assert_clean(0, false);
}

static void what_is_not_on_record_is_left_alone(void **state)
{
    (void)state;
    fresh_nodes();
    run_sql(0, "CREATE TABLE users_s0(id INTEGER PRIMARY KEY); INSERT INTO users_s0 VALUES(1)");
    assert_int_equal(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err), DR_EXISTS);
    assert_int_equal(dr_shard_drop(node[0], &users_s0, false, &err), DR_REFUSED);
    assert_int_equal(dr_shard_hold(node[0], &users_s0, true, &err), DR_REFUSED);
    assert_int_equal(dr_shard_fence(node[0], &users_s0, true, 100, &err), DR_REFUSED);
    assert_int_equal(dr_shard_capture(node[0], &users_s0, true, &err), DR_REFUSED);
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM users_s0"), 1);
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"), 0);
    struct dr_shard_id other = users_s0;
    must(dr_shard_ensure(node[1], &users_s0, COLUMNS, "", &err));
    must(dr_shard_ensure(node[1], &users_s0, COLUMNS, "", &err));
    assert_int_equal(dr_shard_ensure(node[1], &users_s0, COLUMNS ", x", "", &err), DR_CONFLICT);
    other.owner = "33333333-3333-4333-8333-333333333333";
    assert_int_equal(dr_shard_ensure(node[1], &other, COLUMNS, "", &err), DR_EXISTS);
    assert_int_equal(dr_shard_drop(node[1], &other, false, &err), DR_REFUSED);
    assert_true(facts_of(1).exists);
    must(dr_shard_drop(node[1], &users_s0, false, &err));
    must(dr_shard_drop(node[1], &users_s0, false, &err));
    assert_clean(1, false);
}

static void columns_that_cannot_be_moved_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *columns;
        enum dr_code code;
    } bad[] = {
        {"id INTEGER, v", DR_REFUSED},
        {"id INTEGER PRIMARY KEY, o REFERENCES other(a)", DR_REFUSED},
        {"id INTEGER PRIMARY KEY); DROP TABLE other; --", DR_INPUT},
        {"id INTEGER PRIMARY KEY, v) AS SELECT 1; --", DR_INPUT},
        {"no columns at all (", DR_INPUT},
    };
    fresh_nodes();
    run_sql(0, "CREATE TABLE other(a)");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(dr_shard_ensure(node[0], &users_s0, bad[i].columns, "", &err),
                         bad[i].code);
        assert_int_equal(ask_sql(0, "SELECT count(*) FROM sqlite_master"), 1);
    }
}

static void a_null_key_is_refused_and_not_lost(void **state)
{
    (void)state;
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    uint64_t rows;
    uint64_t bytes;
    bool is_end;
    fresh_nodes();
    for (int n = 0; n < 2; n++) {
        must(dr_shard_ensure(node[n], &users_s0, "id TEXT PRIMARY KEY, v", "", &err));
    }
    run_sql(0, "INSERT INTO users_s0 VALUES(NULL, 1), (NULL, 2), ('a', 3)");
    assert_int_equal(dr_shard_copy(node[0], &node[1], 1, &users_s0, &all_of_it, cursor, &rows,
                                   &bytes, &is_end, &err),
                     DR_REFUSED);
    assert_has(err.msg, "NOT NULL");
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0"), 0);
    dr_free(cursor);
}

/* Each call is one transaction: killed or failing anywhere, it is done or not, and can be repeated.
 */
static void lost_replies_may_be_repeated(void **state)
{
    (void)state;
    static const char *const points[] = {
        "store.sqlite.shard.begun", "store.sqlite.shard.committed", "store.sqlite.shard.copy.read",
        "store.sqlite.shard.follow.read", "store.sqlite.shard.follow.applied"};
    for (size_t p = 0; p < sizeof points / sizeof points[0]; p++) {
        for (int n = 1; n <= 12; n++) {
            char spec[80];
            fresh_nodes();
            (void)snprintf(spec, sizeof spec, "%s@%d=error", points[p], n);
            dr_fault_arm(spec);
#define AGAIN(call)                                                                                \
    do {                                                                                           \
        enum dr_code first = (call);                                                               \
        if (first != DR_OK) {                                                                      \
            must(call);                                                                            \
        }                                                                                          \
    } while (0)
            uint64_t a;
            uint64_t b;
            bool is_end;
            struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
            AGAIN(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
            AGAIN(dr_shard_ensure(node[1], &users_s0, COLUMNS, "", &err));
            AGAIN(dr_shard_capture(node[0], &users_s0, true, &err));
            run_sql(0, "INSERT INTO users_s0 VALUES(1, 1, 'a'), (2, 2, 'b')");
            AGAIN(dr_shard_copy(node[0], &node[1], 1, &users_s0, &all_of_it, cursor, &a, &b,
                                &is_end, &err));
            run_sql(0, "DELETE FROM users_s0 WHERE id = 1; UPDATE users_s0 SET n = 9");
            AGAIN(dr_shard_follow(node[0], &node[1], 1, &users_s0, &all_of_it, &a, &b, &err));
            assert_equal(0, 1);
            AGAIN(dr_shard_fence(node[0], &users_s0, true, 500, &err));
            AGAIN(dr_shard_hold(node[0], &users_s0, true, &err));
            AGAIN(dr_shard_drop(node[0], &users_s0, true, &err));
            dr_fault_arm(NULL);
            dr_free(cursor);
            assert_clean(0, false);
        }
    }
}

static void records_say_what_is_there(void **state)
{
    (void)state;
    struct dr_shard_record *r = NULL;
    uint32_t count = 0;
    struct dr_arena *a = dr_arena_create(4096);
    fresh_nodes();
    must(dr_shard_records(node[0], a, &r, &count, &err));
    assert_int_equal(count, 0);
    must(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
    must(dr_shard_capture(node[0], &users_s0, true, &err));
    must(dr_shard_hold(node[0], &users_s0, true, &err));
    must(dr_shard_records(node[0], a, &r, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(r[0].role, "held");
    assert_string_equal(r[1].role, "log");
    for (uint32_t i = 0; i < count; i++) {
        assert_true(r[i].exists && r[i].created_at > 0);
        assert_string_equal(r[i].name, "users_s0");
        assert_string_equal(r[i].table, "users");
        assert_string_equal(r[i].owner, OWNER);
        assert_string_equal(r[i].operation, OPERATION);
    }
    run_sql(0, "DROP TABLE drover_held_users_s0");
    must(dr_shard_records(node[0], a, &r, &count, &err));
    assert_false(r[0].exists);
    must(dr_shard_drop(node[0], &users_s0, true, &err)); /* a trace of a crash goes */
    assert_clean(0, false);
    dr_arena_destroy(a);
}

static void a_file_with_shards_is_still_a_plain_file(void **state)
{
    (void)state;
    char url[200];
    struct dr_survey *survey = NULL;
    fresh_nodes();
    must(dr_shard_ensure(node[0], &users_s0, COLUMNS, "", &err));
    close_nodes();
    (void)snprintf(url, sizeof url, "sqlite:%s", node_path(0));
    must(dr_store_open(url, &node[0], &err));
    assert_true(facts_of(0).exists);
    must(dr_store_survey(node[0], "main", NULL, &survey, &err));
    for (uint32_t i = 0; i < survey->collection_count; i++) {
        bool is_users = strcmp(survey->collection[i].name, "main.users_s0") == 0;
        assert_int_equal(survey->collection[i].is_system, !is_users);
    }
    dr_survey_destroy(survey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_shape_arrive_byte_for_byte),
        cmocka_unit_test(a_comparison_by_ranges_finds_what_differs),
        cmocka_unit_test(what_changes_during_a_copy_is_followed),
        cmocka_unit_test(a_row_that_was_thrown_out_by_a_unique_column_goes_as_well),
        cmocka_unit_test(digests_differ_where_a_byte_or_a_type_does),
        cmocka_unit_test(a_fence_refuses_every_write_and_lets_reads_through),
        cmocka_unit_test(a_fence_that_a_writer_keeps_out_changes_nothing),
        cmocka_unit_test(drovers_own_rows_pass_a_fence_and_nobody_elses_do),
        cmocka_unit_test(what_is_held_is_out_of_use_and_comes_back_as_it_was),
        cmocka_unit_test(what_is_not_on_record_is_left_alone),
        cmocka_unit_test(columns_that_cannot_be_moved_are_refused_and_leave_nothing),
        cmocka_unit_test(a_null_key_is_refused_and_not_lost),
        cmocka_unit_test(lost_replies_may_be_repeated),
        cmocka_unit_test(records_say_what_is_there),
        cmocka_unit_test_teardown(a_file_with_shards_is_still_a_plain_file, stop_nodes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
