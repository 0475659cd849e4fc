/* SPDX-License-Identifier: Apache-2.0 */
/* Walking and erasing on real servers: keys of all kinds, other sessions in the way, connections
 * that die, conditions of a request. */
#include "sql/sql_store_help.h"

/* ---- keys ---- */

static void compound_keys_are_walked_once_in_every_batch_size(void **state)
{
    struct side *s = *state;
    run_each(
        s,
        "CREATE TABLE shop.c (a int NOT NULL, b varchar(20) NOT NULL, d decimal(20,4) NOT NULL, "
        "x int, PRIMARY KEY (a, b, d))",
        "CREATE TABLE shop.c (a int NOT NULL, b varchar(20) NOT NULL, d numeric(20,4) NOT NULL, "
        "x int, PRIMARY KEY (a, b, d))");
    for (int a = 0; a < 5; a++) {
        for (int i = 0; i < 20; i++) {
            run(s,
                "INSERT INTO shop.c VALUES (%d, 'k%d', %d.0001, %d), (%d, 'k%d', "
                "1234567890123456.%04d, 0)",
                a, i % 7, 9007199 + i, i, a, i % 7, 1000 + i);
        }
    }
    struct dr_range r = range_of(s, "c", NULL);
    static const uint64_t sizes[] = {1, 2, 3, 7, 64, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(walk(s, &r, sizes[i], NULL, NULL), 200);
    }
    read_some(s, &r, 50, true);
    assert_int_equal(erase(s, &r).erased, 50);
    assert_int_equal(rows_of(s, "c"), 150);
    assert_int_equal(probe(s, &r).absent, 50);
    assert_int_equal(restore(s, &r).restored, 50);
    assert_int_equal(walk(s, &r, 9, NULL, NULL), 200);
}

static void text_keys_follow_their_own_collation(void **state)
{
    struct side *s = *state;
    static const char *const keys[] = {"b", "A", "a b", "\xc3\xa4", "Z", "z1", "_", "Aa", "aB", ""};
    run_each(
        s,
        "CREATE TABLE shop.t (k varchar(30) CHARACTER SET utf8mb4 COLLATE "
        "utf8mb4_unicode_ci PRIMARY KEY, v int)",
        "CREATE COLLATION shop.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = "
        "false); ");
    if (s->is_pg) {
        run(s, "CREATE TABLE shop.t (k text COLLATE shop.ci PRIMARY KEY, v int)");
    }
    int count = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char text[128];
        struct dr_err e = {0};
        (void)snprintf(text, sizeof text, "INSERT INTO shop.t VALUES ('%s', 1)", keys[i]);
        enum dr_code rc = dr_sqldb_exec(s->db, text, NULL, 0, NULL, &e);
        assert_true(rc == DR_OK || rc == DR_EXISTS); /* "aa" and "aB" may be one key */
        count += rc == DR_OK;
    }
    struct dr_range r = range_of(s, "t", NULL);
    for (uint64_t size = 1; size < 12; size++) {
        assert_int_equal(walk(s, &r, size, NULL, NULL), count);
    }
    /* The same key in other letters is another row than the one that was read. */
    read_some(s, &r, 100, true);
    run(s, "UPDATE shop.t SET k = 'B' WHERE k = 'b'");
    struct dr_tally tally = erase(s, &r);
    assert_int_equal(tally.erased, count - 1);
    assert_int_equal(tally.changed, 1);
    assert_int_equal(rows_of(s, "t"), 1);
}

static void an_index_with_nulls_gives_each_row_once(void **state)
{
    struct side *s = *state;
    run(s, "CREATE TABLE shop.n (id int PRIMARY KEY, a int, b varchar(10))");
    run(s, "CREATE INDEX n_ab ON shop.n (a, b)");
    for (int i = 0; i < 60; i++) {
        char a[16] = "NULL";
        char b[16] = "NULL";
        if (i % 3 != 0) {
            (void)snprintf(a, sizeof a, "%d", i % 5);
        }
        if (i % 4 != 0) {
            (void)snprintf(b, sizeof b, "'%d'", i % 2);
        }
        run(s, "INSERT INTO shop.n VALUES (%d, %s, %s)", i, a, b);
    }
    struct dr_range r = range_of(s, "n", NULL);
    r.access = DR_BY_INDEX;
    r.index = "n_ab";
    for (uint64_t size = 1; size < 20; size += 3) {
        assert_int_equal(walk(s, &r, size, NULL, NULL), 60);
    }
    struct dr_range keyed = range_of(s, "n",
                                     "{\"table\": \"n\", \"database\": \"shop\", \"key\": "
                                     "[\"a\", \"b\"], \"where\": \"id >= 0\"}");
    assert_int_equal(walk(s, &keyed, 7, NULL, NULL), 60);
    keyed.spec = "{\"table\": \"n\", \"key\": [\"a\", \"b\", \"id\"], \"where\": \"id >= 0\"}";
    assert_int_equal(walk(s, &keyed, 7, NULL, NULL), 60);
}

static void the_best_strict_unique_index_names_the_rows(void **state)
{
    struct side *s = *state;
    run(s, "CREATE TABLE shop.u (a int NOT NULL, b int, c int NOT NULL, d int NOT NULL)");
    run(s, "CREATE UNIQUE INDEX u_b ON shop.u (b)"); /* nullable: names nothing */
    struct dr_range r = {.node = "main", .collection = "shop.u", .access = DR_BY_SCAN};
    struct dr_budget b = {.items_max = 9, .bytes_max = 1 << 20, .ms_max = 1000};
    assert_fails(s, DR_UNSUPPORTED, dr_store_scan(s->store, &r, &b, NULL, s->batch, &s->err));
    assert_says(s, "no usable key");
    run(s, "CREATE UNIQUE INDEX u_cd ON shop.u (c, d)");
    run(s, "CREATE UNIQUE INDEX u_a ON shop.u (a)");
    run(s, "INSERT INTO shop.u VALUES (1, NULL, 1, 1), (2, NULL, 1, 2), (3, 5, 2, 2)");
    reopen(s, "");
    r = range_of(s, "u", NULL);
    read_some(s, &r, 10, true);
    assert_int_equal(s->batch->count, 3);
    struct dr_value key[2];
    uint32_t parts = 0;
    assert_ok(s, dr_values_decode(s->batch->item[0].key, s->batch->item[0].key_len, key, 2, &parts,
                                  &s->err));
    assert_int_equal(parts, 1);
    assert_int_equal(erase(s, &r).erased, 3);
    assert_int_equal(restore(s, &r).restored, 3);
}

static void rows_without_a_key_go_one_by_one_when_allowed(void **state)
{
    struct side *s = *state;
    run(s, "CREATE TABLE shop.k (a int, t varchar(20))");
    run(s, "INSERT INTO shop.k VALUES (1, 'x'), (1, 'x'), (1, 'X'), (NULL, NULL), (2, 'x '), (2, "
           "'x')");
    struct dr_range r = range_of(
        s, "k", "{\"table\": \"k\", \"where\": \"a = 1 OR a = 2\", \"allow_no_key\": true}");
    assert_int_equal(walk(s, &r, 2, NULL, NULL), 6); /* rows that stay come again, and it ends */
    read_some(s, &r, 2, true);
    struct dr_tally tally = erase(s, &r);
    assert_int_equal(tally.erased, 2);
    assert_int_equal(rows_of(s, "k"), 4);
    assert_int_equal(restore(s, &r).restored, 2);
    assert_int_equal(rows_of(s, "k"), 6);
    read_some(s, &r, 10, false);
    assert_int_equal(s->batch->count, 5);
    run(s, "DELETE FROM shop.k WHERE t = 'X' AND a = 1");
    tally = erase(s, &r);
    assert_int_equal(tally.erased + tally.absent, 5);
    assert_int_equal(sql_number(s->db, "SELECT count(*) FROM shop.k WHERE a IS NULL"), 1);
    assert_int_equal(rows_of(s, "k"), 1);
}

/* ---- others at work ---- */

static void a_changed_row_stays_and_its_neighbours_go(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    read_some(s, &r, 20, true);
    run(s, "UPDATE shop.w SET t = 'other' WHERE id = 7");
    run(s, "DELETE FROM shop.w WHERE id = 8");
    struct dr_tally tally = erase(s, &r);
    assert_int_equal(tally.erased, 18);
    assert_int_equal(tally.changed, 1);
    assert_int_equal(tally.absent, 1);
    assert_int_equal(rows_of(s, "w"), 11);
}

static void a_row_that_came_between_is_not_taken(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 30);
    run(s, "DELETE FROM shop.w WHERE id = 5");
    struct dr_range r = range_of(s, "w", NULL);
    read_some(s, &r, 20, true);
    run(s, "INSERT INTO shop.w VALUES (5, 5, 'new')");
    assert_int_equal(erase(s, &r).erased, 20);
    assert_int_equal(sql_number(s->db, "SELECT count(*) FROM shop.w WHERE id <= 20"), 1);
}

static void locked_rows_are_skipped_and_met_again(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    struct dr_sqldb *other = sql_open(s->server.admin_url);
    for (int with_values = 0; with_values < 2; with_values++) {
        read_some(s, &r, 10, with_values != 0);
        uint64_t count = s->batch->count;
        sql_must(dr_sqldb_begin(other, &s->err), &s->err);
        sql_do(other, with_values != 0 ? "UPDATE shop.w SET n = n WHERE id IN (13, 14)"
                                       : "UPDATE shop.w SET n = n WHERE id IN (3, 4)");
        int64_t begun = dr_mono_now();
        struct dr_tally tally = erase(s, &r);
        assert_int_equal(tally.erased, count - 2);
        assert_int_equal(tally.changed, 2);
        assert_true(dr_mono_now() - begun < 10000);
        dr_sqldb_rollback(other);
        tally = erase(s, &r);
        assert_int_equal(tally.erased, 2);
        assert_int_equal(tally.absent, count - 2);
    }
    dr_sqldb_close(other);
    assert_int_equal(rows_of(s, "w"), 10);
}

/* The delete takes a row lock first and then meets the child's lock; the other session the other
 * way round: one of the two has to give up. */
static void a_lock_that_cannot_be_had_is_busy_and_nothing_is_erased(void **state)
{
    struct side *s = *state;
    if (s->is_pg) {
        run(s, "CREATE TABLE shop.l (id int PRIMARY KEY, n int)");
    } else {
        run(s, "CREATE TABLE shop.l (id int PRIMARY KEY, n int) ENGINE=InnoDB");
    }
    run(s, "INSERT INTO shop.l VALUES (1, 1), (2, 2)");
    reopen(s, "read_timeout=3");
    struct dr_range r = range_of(s, "l", NULL);
    read_some(s, &r, 10, true);
    struct dr_sqldb *other = sql_open(s->server.admin_url);
    struct dr_tally tally;
    sql_must(dr_sqldb_begin(other, &s->err), &s->err);
    sql_do(other,
           s->is_pg ? "LOCK TABLE shop.l IN ACCESS EXCLUSIVE MODE" : "SELECT count(*) FROM shop.l");
    if (!s->is_pg) {
        dr_sqldb_rollback(other);
        sql_do(other, "LOCK TABLES shop.l WRITE");
    }
    enum dr_code rc = dr_store_erase(s->store, &r, s->batch, &tally, &s->err);
    assert_int_equal(dr_code_retry(rc), DR_RETRY_LATER);
    assert_int_equal(tally.erased, 0);
    dr_sqldb_close(other);
    assert_int_equal(rows_of(s, "l"), 2);
    assert_int_equal(erase(s, &r).erased, 2);
}

static void two_sessions_that_deadlock_are_busy_not_broken(void **state)
{
    struct side *s = *state;
    /* A foreign key: deleting the parent looks at the child's index, which the other holds. */
    run(s, "CREATE TABLE shop.p (id int PRIMARY KEY)");
    run(s, "CREATE TABLE shop.q (id int PRIMARY KEY, p int REFERENCES shop.p (id))");
    run(s, "INSERT INTO shop.p VALUES (1), (2), (3)");
    reopen(s, "read_timeout=3");
    struct dr_range r = range_of(s, "p", NULL);
    read_some(s, &r, 10, true);
    struct dr_sqldb *other = sql_open(s->server.admin_url);
    struct dr_tally tally;
    sql_must(dr_sqldb_begin(other, &s->err), &s->err);
    sql_do(other, "INSERT INTO shop.q VALUES (1, 1)");
    enum dr_code rc = dr_store_erase(s->store, &r, s->batch, &tally, &s->err);
    /* The child's parent is locked and so left alone; nothing waits. */
    assert_int_equal(rc, DR_OK);
    assert_int_equal(tally.erased, 2);
    assert_int_equal(tally.changed, 1);
    sql_must(dr_sqldb_commit(other, &s->err), &s->err);
    dr_sqldb_close(other);
    /* Now the child is there for good: the server refuses, and that is said. */
    rc = dr_store_erase(s->store, &r, s->batch, &tally, &s->err);
    assert_int_equal(rc, DR_CONFLICT);
    assert_int_equal(rows_of(s, "p"), 1);
}

/* ---- connections that die ---- */

static void kill_others(struct side *s)
{
    if (s->is_pg) {
        (void)sql_number(s->db,
                         "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                         "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
        return;
    }
    for (;;) {
        int64_t id = sql_number(s->db, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> "
                                       "CONNECTION_ID() AND USER = 'root' AND COMMAND <> 'Killed' "
                                       "LIMIT 1");
        if (id == INT64_MIN) {
            return;
        }
        struct dr_err e = {0};
        char text[64];
        (void)snprintf(text, sizeof text, "KILL %" PRId64, id);
        enum dr_code rc = dr_sqldb_exec(s->db, text, NULL, 0, NULL, &e);
        assert_true(rc == DR_OK || rc == DR_NOT_FOUND || rc == DR_INPUT || rc == DR_IO);
    }
}

/* The end of the connection may be met in the middle of a call: then, and only then, it fails. */
static void a_dead_connection_is_opened_again(void **state)
{
    struct side *s = *state;
    struct dr_tally tally = {0};
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    read_some(s, &r, 10, true);
    for (int i = 0; i < 4; i++) {
        kill_others(s);
        enum dr_code rc = i % 2 == 0 ? dr_store_erase(s->store, &r, s->batch, &tally, &s->err)
                                     : dr_store_restore(s->store, &r, s->batch, &tally, &s->err);
        assert_true(rc == DR_OK || rc == DR_UNREACHABLE || rc == DR_UNKNOWN);
        if (rc != DR_OK) {
            tally = i % 2 == 0 ? erase(s, &r) : restore(s, &r);
        }
        assert_int_equal(rows_of(s, "w"), i % 2 == 0 ? 20 : 30);
    }
    assert_int_equal(walk(s, &r, 7, NULL, NULL), 30);
}

#ifdef DROVER_FAULTS
#include "base/fault.h"

static void an_erase_that_fails_halfway_erases_nothing(void **state)
{
    struct side *s = *state;
    static const char *const points[] = {"store.sql.erase.begun=error",
                                         "store.sql.erase.deleted=error"};
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    struct dr_tally tally;
    for (size_t i = 0; i < 2; i++) {
        read_some(s, &r, 10, true);
        dr_fault_arm(points[i]);
        assert_fails(s, DR_IO, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
        dr_fault_arm(NULL);
        assert_int_equal(tally.erased, 0);
        assert_int_equal(rows_of(s, "w"), 30);
    }
}

static void a_lost_commit_is_unknown_and_a_probe_tells(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    struct dr_tally tally;
    read_some(s, &r, 10, true);
    dr_fault_arm("store.sql.erase.committed=error");
    assert_fails(s, DR_UNKNOWN, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
    dr_fault_arm(NULL);
    assert_int_equal(probe(s, &r).absent, 10);
    dr_fault_arm("store.sql.restore.committed=error");
    assert_fails(s, DR_UNKNOWN, dr_store_restore(s->store, &r, s->batch, &tally, &s->err));
    dr_fault_arm(NULL);
    assert_int_equal(restore(s, &r).same, 10);
    assert_int_equal(rows_of(s, "w"), 30);
}
#endif

/* The server itself goes, in the middle of a transaction of ours. */
static void a_server_that_crashed_is_unreachable_and_comes_back(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 30);
    struct dr_range r = range_of(s, "w", NULL);
    struct dr_tally tally;
    struct dr_health health;
    read_some(s, &r, 10, true);
    dr_sqldb_close(s->db);
    s->db = NULL;
    sql_tell(&s->server, "halt");
    enum dr_code rc = dr_store_erase(s->store, &r, s->batch, &tally, &s->err);
    assert_true(rc == DR_UNREACHABLE || rc == DR_UNKNOWN);
    assert_fails(s, DR_UNREACHABLE, dr_store_health(s->store, "main", &health, &s->err));
    sql_tell(&s->server, "again");
    s->db = sql_open(s->server.admin_url);
    assert_int_equal(rows_of(s, "w"), 30);
    assert_int_equal(erase(s, &r).erased, 10);
}

/* ---- conditions of a request ---- */

static void a_condition_selects_with_subqueries_and_quotes(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 40);
    run(s, "UPDATE shop.w SET t = 'it''s (a; -- #/* trap' WHERE id = 9");
    run(s, "CREATE TABLE shop.keep (id bigint PRIMARY KEY)");
    run(s, "INSERT INTO shop.keep VALUES (3), (4)");
    static const struct {
        const char *spec;
        uint64_t rows;
    } cases[] = {
        {"{\"table\": \"w\", \"where\": \"t = 'it''s (a; -- #/* trap'\"}", 1},
        {"{\"table\": \"w\", \"where\": \"id NOT IN (SELECT id FROM shop.keep) AND id <= 10\"}", 8},
        {"{\"table\": \"w\", \"where\": \"n = 1 OR n = 2\"}", 8},
        {"{\"table\": \"w\", \"where\": \"w.id = 5\"}", 1},
        {"{\"table\": \"w\", \"where\": \"id > 0\", \"last_key\": [12]}", 12},
        {"{\"table\": \"w\", \"where\": \"t LIKE '%\\\"%' OR id = 2\"}", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dr_range r = range_of(s, "w", cases[i].spec);
        uint64_t rows = 0;
        assert_int_equal(walk(s, &r, 3, NULL, NULL), cases[i].rows);
        assert_ok(s, dr_store_count(s->store, &r, &rows, &s->err));
        assert_int_equal(rows, cases[i].rows);
    }
    /* Keys alone: what no longer is selected is left alone. */
    struct dr_range r = range_of(s, "w", cases[1].spec);
    read_some(s, &r, 10, false);
    run(s, "INSERT INTO shop.keep VALUES (7)");
    struct dr_tally tally = erase(s, &r);
    assert_int_equal(tally.erased, 7);
    assert_int_equal(tally.changed, 1);
    r = range_of(s, "w", cases[2].spec);
    read_some(s, &r, 100, false);
    tally = erase(s, &r);
    assert_int_equal(tally.changed, 0);
    assert_int_equal(tally.erased, s->batch->count);
}

static void an_expression_cannot_leave_its_parentheses(void **state)
{
    struct side *s = *state;
    static const char *const bad[] = {
        "id = 1; DROP TABLE shop.w",
        "id = 1) OR (1 = 1",
        "id = 1 -- x",
        "id = 1 # x",
        "id = 1 /* x",
        "t = 'open",
        "(id = 1",
        "id = ?",
        "t = 'a\\\\' OR 1=1 OR t = '",
        "  ",
        "t = \\\"open",
        "$$x$$ = t",
    };
    make_numbers(s, "w", 5);
    struct dr_budget b = {.items_max = 9, .bytes_max = 1 << 20, .ms_max = 1000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char spec[256];
        struct dr_survey *survey = NULL;
        (void)snprintf(spec, sizeof spec,
                       "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"%s\"}", bad[i]);
        struct dr_range r = range_of(s, "w", spec);
        enum dr_code rc = dr_store_scan(s->store, &r, &b, NULL, s->batch, &s->err);
        if (rc != DR_INPUT && rc != DR_REFUSED) {
            fail_msg("%s: %s gave %s", s->kind, bad[i], dr_code_name(rc));
        }
        rc = dr_store_survey_spec(s->store, spec, &survey, &s->err);
        assert_true(rc == DR_INPUT || rc == DR_REFUSED);
        assert_null(survey);
    }
    assert_int_equal(rows_of(s, "w"), 5);
}

static void rows_behind_the_last_key_are_not_walked(void **state)
{
    struct side *s = *state;
    run(s, "CREATE TABLE shop.c (a int NOT NULL, b int NOT NULL, x int, PRIMARY KEY (a, b))");
    for (int i = 0; i < 30; i++) {
        run(s, "INSERT INTO shop.c VALUES (%d, %d, 0)", i / 10, i % 10);
    }
    struct dr_range r =
        range_of(s, "c", "{\"table\": \"c\", \"where\": \"x = 0\", \"last_key\": [1, 4]}");
    for (uint64_t size = 1; size < 17; size += 5) {
        assert_int_equal(walk(s, &r, size, NULL, NULL), 15);
    }
    read_some(s, &r, 100, false);
    assert_int_equal(erase(s, &r).erased, 15);
    assert_int_equal(rows_of(s, "c"), 15);
    r.spec = "{\"table\": \"c\", \"where\": \"x = 0\", \"last_key\": [1, 4, 5, 6]}";
    struct dr_budget b = {.items_max = 9, .bytes_max = 1 << 20, .ms_max = 1000};
    assert_fails(s, DR_INPUT, dr_store_scan(s->store, &r, &b, NULL, s->batch, &s->err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(compound_keys_are_walked_once_in_every_batch_size),
        ON_BOTH(text_keys_follow_their_own_collation),
        ON_BOTH(an_index_with_nulls_gives_each_row_once),
        ON_BOTH(the_best_strict_unique_index_names_the_rows),
        ON_BOTH(rows_without_a_key_go_one_by_one_when_allowed),
        ON_BOTH(a_changed_row_stays_and_its_neighbours_go),
        ON_BOTH(a_row_that_came_between_is_not_taken),
        ON_BOTH(locked_rows_are_skipped_and_met_again),
        ON_BOTH(a_lock_that_cannot_be_had_is_busy_and_nothing_is_erased),
        ON_BOTH(two_sessions_that_deadlock_are_busy_not_broken),
        ON_BOTH(a_dead_connection_is_opened_again),
#ifdef DROVER_FAULTS
        ON_BOTH(an_erase_that_fails_halfway_erases_nothing),
        ON_BOTH(a_lost_commit_is_unknown_and_a_probe_tells),
#endif
        ON_BOTH(a_server_that_crashed_is_unreachable_and_comes_back),
        ON_BOTH(a_condition_selects_with_subqueries_and_quotes),
        ON_BOTH(an_expression_cannot_leave_its_parentheses),
        ON_BOTH(rows_behind_the_last_key_are_not_walked),
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
