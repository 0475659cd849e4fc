/* SPDX-License-Identifier: Apache-2.0 */
/* Troubles of store/sqldb on both servers: what each failure is called, what is left of the
 * transaction, when it connects again, and that no message gives a password away. */
#include <pthread.h>

#include "sql/sql_help.h"

enum { WAIT_MS_MAX = 20000 };

static struct sql_server server[2]; /* by enum dr_dialect */
static struct dr_sqldb *admin[2];
static struct dr_err err;

static int start_servers(void **state)
{
    static const char *const kinds[] = {"mariadb", "postgres"};
    (void)state;
    for (int d = 0; d < 2; d++) {
        sql_start(&server[d], kinds[d]);
        admin[d] = sql_open(server[d].admin_url);
    }
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        dr_sqldb_close(admin[d]);
        sql_stop(&server[d]);
    }
    return 0;
}

/* ---- helpers ---- */

static char *url_with(int d, const char *options)
{
    char *url = dr_asprintf("%s%s", server[d].url, options);
    assert_non_null(url);
    return url;
}

static struct dr_sqldb *open_with(int d, const char *options)
{
    char *url = url_with(d, options);
    struct dr_sqldb *db = sql_open(url);
    dr_free(url);
    return db;
}

static enum dr_code run(struct dr_sqldb *db, const char *sql)
{
    return dr_sqldb_exec(db, sql, NULL, 0, NULL, &err);
}

static enum dr_code drop_row(void *arg, const struct dr_value *value, uint32_t count,
                             struct dr_err *e)
{
    (void)arg;
    (void)value;
    (void)count;
    (void)e;
    return DR_OK;
}

static enum dr_code ask(struct dr_sqldb *db, const char *sql)
{
    return dr_sqldb_query(db, sql, NULL, 0, drop_row, NULL, &err);
}

static void expect(int d, enum dr_code got, enum dr_code wanted, const char *what)
{
    if (got != wanted) {
        fail_msg("%s: %s: got %s (%s), expected %s", server[d].kind, what, dr_code_name(got),
                 err.msg, dr_code_name(wanted));
    }
}

static int64_t session_of(int d, struct dr_sqldb *db)
{
    return sql_number(db,
                      d == DR_SQL_MARIADB ? "SELECT CONNECTION_ID()" : "SELECT pg_backend_pid()");
}

static bool is_session_gone(int d, int64_t id)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql,
                   d == DR_SQL_MARIADB
                       ? "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %" PRId64
                       : "SELECT count(*) FROM pg_stat_activity WHERE pid = %" PRId64,
                   id);
    return sql_number(admin[d], sql) == 0;
}

/* Ends the session and waits until the server has done so. */
static void kill_session(int d, int64_t id)
{
    char sql[128];
    dr_mono_ms until = dr_mono_now() + WAIT_MS_MAX;
    (void)snprintf(
        sql, sizeof sql,
        d == DR_SQL_MARIADB ? "KILL %" PRId64 : "SELECT pg_terminate_backend(%" PRId64 ")", id);
    sql_do(admin[d], sql);
    while (!is_session_gone(d, id)) {
        assert_true(dr_mono_now() < until);
        (void)dr_wait_ms(10, NULL, NULL);
    }
}

static void make_table(int d, const char *rows)
{
    struct dr_sqldb *db = open_with(d, "");
    struct dr_str sql;
    dr_str_init(&sql);
    sql_do(db, "DROP TABLE IF EXISTS child");
    sql_do(db, "DROP TABLE IF EXISTS t");
    sql_do(db, d == DR_SQL_MARIADB ? "CREATE TABLE t (id INT PRIMARY KEY, v INT) ENGINE=InnoDB"
                                   : "CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    dr_str_addf(&sql, "INSERT INTO t VALUES %s", rows);
    sql_do(db, dr_str_text(&sql));
    dr_str_fini(&sql);
    dr_sqldb_close(db);
}

/* A statement in a thread of its own, to be in the way of others. */
struct side {
    pthread_t thread;
    struct dr_sqldb *db;
    const char *sql;
    struct dr_err err;
    enum dr_code rc;
};

static void *run_side(void *arg)
{
    struct side *s = arg;
    s->rc = dr_sqldb_exec(s->db, s->sql, NULL, 0, NULL, &s->err);
    return NULL;
}

static void start_side(struct side *s, struct dr_sqldb *db, const char *sql)
{
    *s = (struct side){.db = db, .sql = sql};
    assert_int_equal(pthread_create(&s->thread, NULL, run_side, s), 0);
}

static void wait_running(int d, int64_t id)
{
    char sql[256];
    dr_mono_ms until = dr_mono_now() + WAIT_MS_MAX;
    (void)snprintf(
        sql, sizeof sql,
        d == DR_SQL_MARIADB
            ? "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %" PRId64
              " AND COMMAND IN ('Query', 'Execute') AND TIME_MS > 50"
            : "SELECT count(*) FROM pg_stat_activity WHERE pid = %" PRId64
              " AND state = 'active' AND query_start < clock_timestamp() - '50ms'::interval",
        id);
    while (sql_number(admin[d], sql) == 0) {
        assert_true(dr_mono_now() < until);
        (void)dr_wait_ms(10, NULL, NULL);
    }
}

/* ---- what failures are called ---- */

static void every_failure_has_its_code(void **state)
{
    static const struct {
        const char *sql[2];
        enum dr_code code;
    } cases[] = {
        {{"SELEC 1", "SELEC 1"}, DR_INPUT},
        {{"DELETE FROM missing", "DELETE FROM missing"}, DR_NOT_FOUND},
        {{"DELETE FROM t WHERE missing = 1", "DELETE FROM t WHERE missing = 1"}, DR_NOT_FOUND},
        {{"SELECT * FROM drover.missing", "SELECT * FROM missing.t"}, DR_NOT_FOUND},
        {{"INSERT INTO t VALUES (1, 1)", "INSERT INTO t VALUES (1, 1)"}, DR_EXISTS},
        {{"CREATE TABLE t (a INT)", "CREATE TABLE t (a INT)"}, DR_EXISTS},
        {{"DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 1"}, DR_CONFLICT},
        {{"INSERT INTO child VALUES (9)", "INSERT INTO child VALUES (9)"}, DR_CONFLICT},
        {{"INSERT INTO child VALUES (2)", "INSERT INTO child VALUES (2)"}, DR_CONFLICT},
        {{"INSERT INTO t VALUES (NULL, 1)", "INSERT INTO t VALUES (NULL, 1)"}, DR_CONFLICT},
        {{"INSERT INTO t VALUES (99999999999, 1)", "INSERT INTO t VALUES (99999999999, 1)"},
         DR_INPUT},
        {{"INSERT INTO t VALUES ('x', 1)", "INSERT INTO t VALUES ('x', 1)"}, DR_INPUT},
        {{"DELETE FROM mysql.user", "DELETE FROM pg_authid"}, DR_DENIED},
        {{"CREATE DATABASE other", "CREATE DATABASE other"}, DR_DENIED},
        {{"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
          "DO $$ BEGIN RAISE EXCEPTION 'no?'; END $$"},
         DR_CONFLICT},
        {{"", " "}, DR_INPUT},
    };
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        make_table(d, "(1, 1), (2, 2)");
        sql_do(db, "CREATE TABLE child (id INT NOT NULL CHECK (id <> 2), "
                   "FOREIGN KEY (id) REFERENCES t (id))");
        sql_do(db, "INSERT INTO child VALUES (1)");
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            expect(d, run(db, cases[i].sql[d]), cases[i].code, cases[i].sql[d]);
            assert_non_null(strstr(err.msg, "127.0.0.1"));
            assert_true(dr_sqldb_is_alive(db));
        }
        assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 2);
        sql_do(db, "DROP TABLE child");
        dr_sqldb_close(db);
    }
}

static void a_read_only_server_is_told(void **state)
{
    static const char *const lock[] = {"SET GLOBAL read_only = 1",
                                       "ALTER ROLE drover SET default_transaction_read_only = on"};
    static const char *const unlock[] = {"SET GLOBAL read_only = 0", "ALTER ROLE drover RESET ALL"};
    (void)state;
    for (int d = 0; d < 2; d++) {
        make_table(d, "(1, 1)");
        sql_do(admin[d], lock[d]);
        struct dr_sqldb *db = open_with(d, "");
        bool is_read_only = dr_sqldb_info(db)->is_read_only;
        enum dr_code rc = run(db, "DELETE FROM t");
        sql_do(admin[d], unlock[d]);
        assert_true(is_read_only);
        expect(d, rc, DR_READONLY, "delete on a read-only server");
        dr_sqldb_close(db);
    }
}

/* ---- transactions ---- */

static void a_transaction_commits_or_rolls_back_as_a_whole(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        make_table(d, "(1, 1)");
        dr_sqldb_rollback(db); /* harmless */
        sql_must(dr_sqldb_begin(db, &err), &err);
        assert_true(dr_sqldb_in_transaction(db));
        expect(d, dr_sqldb_begin(db, &err), DR_INTERNAL, "begin twice");
        sql_do(db, "INSERT INTO t VALUES (2, 2)");
        dr_sqldb_rollback(db);
        assert_false(dr_sqldb_in_transaction(db));
        assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 1);
        sql_must(dr_sqldb_begin(db, &err), &err);
        sql_do(db, "INSERT INTO t VALUES (2, 2)");
        sql_must(dr_sqldb_commit(db, &err), &err);
        assert_false(dr_sqldb_in_transaction(db));
        assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 2);
        expect(d, dr_sqldb_commit(db, &err), DR_INTERNAL, "commit without begin");
        sql_must(dr_sqldb_begin(db, &err), &err);
        sql_do(db, "DELETE FROM t");
        dr_sqldb_close(db); /* as if rolled back */
        db = open_with(d, "");
        assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 2);
        dr_sqldb_close(db);
    }
}

static void a_failed_transaction_never_commits_silently(void **state)
{
    (void)state;
    struct dr_sqldb *db = open_with(DR_SQL_POSTGRES, "");
    make_table(DR_SQL_POSTGRES, "(1, 1)");
    sql_must(dr_sqldb_begin(db, &err), &err);
    sql_do(db, "INSERT INTO t VALUES (2, 2)");
    expect(1, run(db, "INSERT INTO t VALUES (1, 1)"), DR_EXISTS, "duplicate");
    expect(1, run(db, "INSERT INTO t VALUES (3, 3)"), DR_CONFLICT, "after a failure");
    expect(1, dr_sqldb_commit(db, &err), DR_CONFLICT, "commit after a failure");
    assert_false(dr_sqldb_in_transaction(db));
    assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 1);

    sql_do(db, "CREATE TABLE late (id INT REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)");
    sql_must(dr_sqldb_begin(db, &err), &err);
    sql_do(db, "INSERT INTO late VALUES (77)");
    expect(1, dr_sqldb_commit(db, &err), DR_CONFLICT, "deferred foreign key");
    assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM late"), 0);
    sql_do(db, "DROP TABLE late");
    dr_sqldb_close(db);
}

static void a_deadlock_is_busy_and_ends_the_transaction(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *a = open_with(d, "");
        struct dr_sqldb *b = open_with(d, "");
        struct side side;
        int64_t id = session_of(d, a);
        make_table(d, "(1, 0), (2, 0)");
        sql_must(dr_sqldb_begin(a, &err), &err);
        sql_must(dr_sqldb_begin(b, &err), &err);
        sql_do(a, "UPDATE t SET v = v + 1 WHERE id = 1");
        sql_do(b, "UPDATE t SET v = v + 1 WHERE id = 2");
        start_side(&side, a, "UPDATE t SET v = v + 1 WHERE id = 2");
        wait_running(d, id);
        enum dr_code rc = run(b, "UPDATE t SET v = v + 1 WHERE id = 1");
        if (rc == DR_OK) { /* b goes on, for a was chosen to die */
            sql_must(dr_sqldb_commit(b, &err), &err);
        }
        assert_int_equal(pthread_join(side.thread, NULL), 0);
        assert_true((rc == DR_BUSY) != (side.rc == DR_BUSY));
        assert_true((rc == DR_OK) != (side.rc == DR_OK));
        struct dr_sqldb *loser = rc == DR_BUSY ? b : a;
        struct dr_sqldb *winner = rc == DR_BUSY ? a : b;
        assert_false(dr_sqldb_in_transaction(loser));
        /* What was meant for the transaction does not run on its own. */
        expect(d, run(loser, "UPDATE t SET v = 100"), DR_BUSY, "after the deadlock");
        expect(d, dr_sqldb_commit(loser, &err), DR_BUSY, "commit after the deadlock");
        if (winner == a) {
            sql_must(dr_sqldb_commit(a, &err), &err);
        }
        assert_int_equal(sql_number(loser, "SELECT SUM(v) FROM t"), 2);
        sql_must(dr_sqldb_begin(loser, &err), &err);
        sql_do(loser, "UPDATE t SET v = 5");
        sql_must(dr_sqldb_commit(loser, &err), &err);
        dr_sqldb_close(a);
        dr_sqldb_close(b);
    }
}

static void a_lock_timeout_is_busy_and_ends_the_transaction(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *a = open_with(d, "");
        struct dr_sqldb *b = open_with(d, "?read_timeout=2"); /* locks: 1 s */
        make_table(d, "(1, 0), (2, 0)");
        sql_must(dr_sqldb_begin(a, &err), &err);
        sql_do(a, "UPDATE t SET v = 7 WHERE id = 1");
        sql_must(dr_sqldb_begin(b, &err), &err);
        sql_do(b, "UPDATE t SET v = 8 WHERE id = 2");
        expect(d, run(b, "UPDATE t SET v = 8 WHERE id = 1"), DR_BUSY, "lock timeout");
        assert_false(dr_sqldb_in_transaction(b));
        assert_true(dr_sqldb_is_alive(b));
        sql_do(a, "UPDATE t SET v = 7 WHERE id = 2"); /* b holds nothing any more */
        sql_must(dr_sqldb_commit(a, &err), &err);
        dr_sqldb_rollback(b);
        assert_int_equal(sql_number(b, "SELECT SUM(v) FROM t"), 14);
        dr_sqldb_close(a);
        dr_sqldb_close(b);
    }
}

/* ---- lost connections ---- */

static void an_idle_connection_that_was_killed_is_made_again(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        make_table(d, "(1, 1)");
        int64_t before = session_of(d, db);
        kill_session(d, before);
        assert_false(dr_sqldb_is_alive(db));
        sql_do(db, "DELETE FROM t"); /* noticed before it was sent: no DR_UNKNOWN */
        assert_true(dr_sqldb_is_alive(db));
        assert_int_not_equal(session_of(d, db), before);
        assert_int_equal(sql_number(db, d == DR_SQL_MARIADB
                                            ? "SELECT @@sql_mode LIKE '%ANSI_QUOTES%'"
                                            : "SELECT current_setting('TimeZone') = 'UTC'"),
                         1);
        kill_session(d, session_of(d, db));
        sql_must(dr_sqldb_begin(db, &err), &err);
        dr_sqldb_close(db);
    }
}

static void a_connection_killed_within_a_statement_is_unknown_or_unreachable(void **state)
{
    static const char *const slow[] = {"UPDATE t SET v = 9 + SLEEP(30)",
                                       "UPDATE t SET v = 9 FROM pg_sleep(30)"};
    (void)state;
    for (int d = 0; d < 2; d++) {
        for (int with_transaction = 0; with_transaction < 2; with_transaction++) {
            struct dr_sqldb *db = open_with(d, "");
            struct side side;
            int64_t id = session_of(d, db);
            make_table(d, "(1, 1)");
            if (with_transaction) {
                sql_must(dr_sqldb_begin(db, &err), &err);
            }
            start_side(&side, db, slow[d]);
            wait_running(d, id);
            kill_session(d, id);
            assert_int_equal(pthread_join(side.thread, NULL), 0);
            err = side.err;
            expect(d, side.rc, with_transaction ? DR_UNREACHABLE : DR_UNKNOWN, slow[d]);
            assert_int_equal(side.err.code, side.rc);
            assert_false(dr_sqldb_in_transaction(db));
            if (with_transaction) {
                expect(d, run(db, "UPDATE t SET v = 5"), DR_UNREACHABLE, "after the loss");
                dr_sqldb_rollback(db);
            }
            assert_int_equal(sql_number(db, "SELECT v FROM t"), 1);
            dr_sqldb_close(db);
        }
    }
}

static void a_query_that_loses_its_connection_is_unreachable(void **state)
{
    static const char *const slow[] = {"SELECT SLEEP(30)", "SELECT pg_sleep(30)"};
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "?read_timeout=1");
        dr_mono_ms start = dr_mono_now();
        expect(d, ask(db, slow[d]), DR_UNREACHABLE, "silence");
        assert_true(dr_mono_now() - start < 15000);
        expect(d, run(db, slow[d]), DR_UNKNOWN, "silence of exec");
        expect(d, ask(db, "SELECT 1"), DR_OK, "after the silence");
        dr_sqldb_close(db);
    }
}

static void a_killed_connection_in_a_transaction_is_unreachable_until_rolled_back(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        make_table(d, "(1, 1)");
        sql_must(dr_sqldb_begin(db, &err), &err);
        sql_do(db, "UPDATE t SET v = 2");
        kill_session(d, session_of(d, db));
        expect(d, run(db, "UPDATE t SET v = 3"), DR_UNREACHABLE, "in a transaction");
        assert_false(dr_sqldb_in_transaction(db));
        expect(d, run(db, "UPDATE t SET v = 4"), DR_UNREACHABLE, "still");
        expect(d, ask(db, "SELECT 1"), DR_UNREACHABLE, "still, for queries");
        expect(d, dr_sqldb_commit(db, &err), DR_UNREACHABLE, "commit of what is gone");
        assert_int_equal(sql_number(db, "SELECT v FROM t"), 1); /* connected again */
        dr_sqldb_close(db);
    }
}

static void a_connection_lost_at_commit_is_unknown(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        make_table(d, "(1, 1)");
        sql_must(dr_sqldb_begin(db, &err), &err);
        sql_do(db, "UPDATE t SET v = 2");
        kill_session(d, session_of(d, db));
        expect(d, dr_sqldb_commit(db, &err), DR_UNKNOWN, "commit");
        assert_false(dr_sqldb_in_transaction(db));
        assert_int_equal(sql_number(db, "SELECT v FROM t"), 1);
        dr_sqldb_close(db);
    }
}

static void a_stopped_server_is_unreachable_and_found_again(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = open_with(d, "");
        struct dr_sqldb *second = NULL;
        make_table(d, "(1, 1)");
        sql_tell(&server[d], "crash");
        assert_false(dr_sqldb_is_alive(db));
        expect(d, ask(db, "SELECT 1"), DR_UNREACHABLE, "query of a stopped server");
        expect(d, run(db, "DELETE FROM t"), DR_UNREACHABLE, "nothing was sent");
        expect(d, dr_sqldb_begin(db, &err), DR_UNREACHABLE, "begin");
        expect(d, dr_sqldb_open(server[d].url, &second, &err), DR_UNREACHABLE, "open");
        assert_null(second);
        sql_tell(&server[d], "again");
        assert_int_equal(sql_number(db, "SELECT COUNT(*) FROM t"), 1);
        dr_sqldb_close(db);
    }
}

/* ---- addresses ---- */

static void opening_fails_by_name_and_without_the_password(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        const char *scheme = d == DR_SQL_MARIADB ? "mysql" : "postgres";
        const char *root = d == DR_SQL_MARIADB ? "root" : "postgres";
        const struct {
            char *url;
            enum dr_code code;
        } cases[] = {
            {dr_asprintf("%s://drover:s3cret@127.0.0.1:%d/drover", scheme, server[d].port),
             DR_DENIED},
            {dr_asprintf("%s://nobody:s3cret@127.0.0.1:%d/drover", scheme, server[d].port),
             DR_DENIED},
            {dr_asprintf("%s://%s:dr%%40ver%%3A1%%2F2%%25@127.0.0.1:%d/s3", scheme, root,
                         server[d].port),
             DR_NOT_FOUND},
            {dr_asprintf("%s://drover:s3cret@127.0.0.1:1/drover", scheme), DR_UNREACHABLE},
            {dr_asprintf("%s?ssl-mode=required", server[d].url), DR_DENIED},
            {dr_asprintf("%s://drover:s3cret@127.0.0.1/", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@127.0.0.1", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret%%2@127.0.0.1/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret%%00@127.0.0.1/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@127.0.0.1:s3cret/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@127.0.0.1:99999/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@[::1/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@/d", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@h/d?s3cret", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@h/d?s3cret=1", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@h/d?read_timeout=0", scheme), DR_INPUT},
            {dr_asprintf("%s://drover:s3cret@h/d?sslmode=s3cret", scheme), DR_INPUT},
            {dr_asprintf("%s://drover@h/d?password_env=DROVER_NOT_SET", scheme), DR_INPUT},
            {dr_asprintf("ftp://drover:s3cret@h/d"), DR_INPUT},
            {dr_asprintf("drover:s3cret"), DR_INPUT},
        };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct dr_sqldb *db = NULL;
            expect(d, dr_sqldb_open(cases[i].url, &db, &err), cases[i].code, cases[i].url);
            assert_null(db);
            assert_true(strlen(err.msg) > 10);
            assert_null(strstr(err.msg, "s3cret"));
            assert_null(strstr(err.msg, "dr@ver"));
            assert_null(strstr(err.msg, "dr%40"));
            dr_free(cases[i].url);
        }
    }
}

static void the_password_may_come_from_the_environment(void **state)
{
    (void)state;
    assert_int_equal(setenv("DROVER_TEST_PASSWORD", "dr@ver:1/2%", 1), 0);
    for (int d = 0; d < 2; d++) {
        const char *scheme = d == DR_SQL_MARIADB ? "mariadb" : "postgresql";
        char *url = dr_asprintf("%s://drover@127.0.0.1:%d/drover?password_env=DROVER_TEST_PASSWORD"
                                "&drover.maxLag=5&connect_timeout=3&sslmode=prefer",
                                scheme, server[d].port);
        struct dr_sqldb *db = sql_open(url);
        assert_int_equal(sql_number(db, "SELECT 4"), 4);
        dr_sqldb_close(db);
        dr_free(url);
    }
    assert_int_equal(unsetenv("DROVER_TEST_PASSWORD"), 0);
}

static void a_unix_socket_may_be_named(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        char *url = dr_asprintf("%s://drover:dr%%40ver%%3A1%%2F2%%25@:%d/drover?%s=%s",
                                d == DR_SQL_MARIADB ? "mysql" : "postgres", server[d].port,
                                d == DR_SQL_MARIADB ? "socket" : "host", server[d].socket);
        struct dr_sqldb *db = sql_open(url);
        assert_int_equal(sql_number(db, "SELECT 4"), 4);
        dr_sqldb_close(db);
        dr_free(url);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_has_its_code),
        cmocka_unit_test(a_read_only_server_is_told),
        cmocka_unit_test(a_transaction_commits_or_rolls_back_as_a_whole),
        cmocka_unit_test(a_failed_transaction_never_commits_silently),
        cmocka_unit_test(a_deadlock_is_busy_and_ends_the_transaction),
        cmocka_unit_test(a_lock_timeout_is_busy_and_ends_the_transaction),
        cmocka_unit_test(an_idle_connection_that_was_killed_is_made_again),
        cmocka_unit_test(a_connection_killed_within_a_statement_is_unknown_or_unreachable),
        cmocka_unit_test(a_query_that_loses_its_connection_is_unreachable),
        cmocka_unit_test(a_killed_connection_in_a_transaction_is_unreachable_until_rolled_back),
        cmocka_unit_test(a_connection_lost_at_commit_is_unknown),
        cmocka_unit_test(a_stopped_server_is_unreachable_and_found_again),
        cmocka_unit_test(opening_fails_by_name_and_without_the_password),
        cmocka_unit_test(the_password_may_come_from_the_environment),
        cmocka_unit_test(a_unix_socket_may_be_named),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
