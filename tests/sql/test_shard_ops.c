/* SPDX-License-Identifier: Apache-2.0 */
/* Shards on MariaDB and PostgreSQL: the same promises on both. What happens under load and to lost
 * connections is in test_shard_load.c. */
#include "sql/shard_help.h"

static const char *const plain = "id BIGINT PRIMARY KEY, name VARCHAR(100), n INT";

static bool are_equal(int k, const struct dr_shard_id *id, int from, int to, uint64_t items,
                      uint64_t *rows_out)
{
    struct dr_budget b = budget_of(items);
    struct dr_cursor cursor = {0};
    struct dr_store *target[] = {store[k][to]};
    struct dr_shard_compared one = {0};
    *rows_out = 0;
    for (int calls = 0; !one.is_end && !one.is_different; calls++) {
        assert_true(calls < 10000);
        MUST(k, dr_shard_compare(store[k][from], target, 1, id, &b, &cursor, &one, &err));
        assert_true(one.rows <= items);
        *rows_out += one.rows;
    }
    return !one.is_different;
}

static void expect_difference(int k, const struct dr_shard_id *id, const char *change)
{
    uint64_t rows = 0;
    for (uint64_t items = 7; items <= 700; items *= 100) {
        if (are_equal(k, id, SOURCE, TARGET, items, &rows) ||
            are_equal(k, id, TARGET, SOURCE, items, &rows)) {
            fail_msg("%s: %s: not seen: %s", kind_name[k], id->name, change);
        }
    }
}

/* ---- every type arrives as it was ---- */

static const char *const columns_all[KINDS] = {
    "a INT AUTO_INCREMENT, b VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci, f FLOAT, "
    "d DOUBLE, fm FLOAT(10,3), de DECIMAL(30,10), u BIGINT UNSIGNED, bi BIT(9), dt DATETIME(6), ts "
    "TIMESTAMP(3) NULL, da DATE, ti TIME(2), y YEAR, e ENUM('x','y','') , se SET('p','q'), bl "
    "MEDIUMBLOB, tx LONGTEXT, vb VARBINARY(50), bn BINARY(4), js JSON, u16 VARCHAR(20) CHARACTER "
    "SET utf16, uu UUID, i6 INET6, ge GEOMETRY, gv INT GENERATED ALWAYS AS (y + 1) VIRTUAL, gs INT "
    "GENERATED ALWAYS AS (y * 2) STORED, `select` INT DEFAULT 7, PRIMARY KEY (a, b), UNIQUE (u)",
    "a bigserial, b text COLLATE \"C\", f real, d double precision, n numeric, by bytea, u uuid, "
    "ts "
    "timestamptz, tm timestamp, da date, ti interval, j jsonb, js json, ar text[], bo boolean, \"c "
    "?\"\"x\" \"char\", ip inet, bt bit varying, ra int4range, tx text, v varchar(20), c char(5), "
    "idn int GENERATED ALWAYS AS IDENTITY, gs bigint GENERATED ALWAYS AS (a * 2) STORED, dflt int "
    "DEFAULT 7, PRIMARY KEY (a, b), UNIQUE (u)"};

static const char *const rows_all[KINDS][5] = {
    {"INSERT INTO t_all (a,b,f,d,fm,de,u,bi,dt,ts,da,ti,y,e,se,bl,tx,vb,bn,js,u16,uu,i6,ge) VALUES "
     "(NULL, CONVERT(_utf8mb4 x'C3A95C0A09' USING latin1), 0.1, 0.1e0+0.2e0, 1.2345, "
     "'-12345678901234567890.0123456789', 18446744073709551615, b'101010101', '2024-02-29 "
     "23:59:59.123456', '2001-01-01 00:00:00.5', '0000-00-00', '-838:59:59', 1999, 'y', 'p,q', "
     "x'00010A0D095C271AFF', 'line\\nline\\ttab\\\\ \\0 \xF0\x9F\x90\x91', x'', x'00', '{\"a\": "
     "[1, \"\\\\n\"]}', 'h\xC3\xA4', UUID(), '2001:db8::1', ST_GeomFromText('POINT(1.5 -2)'))",
     "INSERT INTO t_all (b) VALUES ('')",
     "INSERT INTO t_all (b, tx, vb, bl) VALUES ('\\\\N', '', "
     "x'5C4E', '\\\\N')",
     "INSERT INTO t_all (a, b, f, d, bl, tx) VALUES (0, 'zero', -3.4028234e38, "
     "2.2250738585072014E-308, REPEAT(x'005C0AFF', 700000), REPEAT('\\n\xC3\xA4', 100000))",
     "INSERT INTO t_all (b, f, d, bi, u) VALUES ('\xC3\xA4\xC3\xB6', 16777217, -1e300/3, 0, 0)"},
    {"INSERT INTO t_all (b,f,d,n,by,u,ts,tm,da,ti,j,js,ar,bo,\"c ?\"\"x\",ip,bt,ra,tx,v,c) VALUES "
     "(E'a\\tb\\\\N\\n', 0.1, 0.1::float8+0.2::float8, 123456789012345678901234567890.12345, "
     "'\\x00010aff', gen_random_uuid(), '2024-02-29 23:59:59.123456+02', 'infinity', '0044-03-15 "
     "BC', '1 mon -3 days 00:00:00.5', '{\"a\": [1, null]}', '{\"b\" :  1}', "
     "ARRAY['x',NULL,'NULL','\"'], true, 'x', '::1/64', B'10101', '[1,5)', 'plain', 'v  ', 'c')",
     "INSERT INTO t_all (b) VALUES ('')", "INSERT INTO t_all (b, tx, by) VALUES ('\\N', '', '')",
     "INSERT INTO t_all (a, b, f, d, n, by, tx) VALUES (0, 'zero', 'NaN', '-0', 'NaN', "
     "decode(repeat('005c0aff', 700000), 'hex'), repeat(E'\\n\\\\ä', 100000))",
     "INSERT INTO t_all (b, f, d) VALUES ('äö', '-Infinity', 1e-320)"}};

static void every_type_arrives_byte_for_byte(void **state)
{
    struct dr_shard_id id = id_of("t_all");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_shard_digest before = {0};
        struct dr_shard_digest after = {0};
        char columns[2048];
        (void)snprintf(columns, sizeof columns, "%s", columns_all[k]);
        for (char *c = columns; *c != '\0'; c++) {
            *c = *c == '`' ? '"' : *c;
        }
        ensure_both(k, &id, columns);
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        for (int i = 0; i < 5; i++) {
            sql_do(db[k][SOURCE], rows_all[k][i]);
        }
        assert_int_equal(copy_all(k, &id, 2), 5);
        assert_equal_contents(k, &id);
        /* The same through the log. */
        sql_do(db[k][TARGET], "DELETE FROM t_all");
        assert_int_equal(follow_all(k, &id, 2), 5);
        assert_equal_contents(k, &id);
        /* A digest sees the smallest of differences. */
        MUST(k, dr_shard_digest(store[k][TARGET], &id, &before, &err));
        sql_do(db[k][TARGET], "UPDATE t_all SET tx = '' WHERE tx IS NULL AND b = ''");
        MUST(k, dr_shard_digest(store[k][TARGET], &id, &after, &err));
        assert_string_not_equal(before.text, after.text);
        sql_do(db[k][TARGET], "UPDATE t_all SET tx = NULL WHERE b = ''");
        assert_equal_contents(k, &id);
        sql_do(db[k][TARGET], k == PG ? "UPDATE t_all SET f = 0.100000009 WHERE tx = 'plain'"
                                      : "UPDATE t_all SET f = 0.10000001 WHERE u > 5");
        expect_difference(k, &id, "the smallest of floats");
        MUST(k, dr_shard_digest(store[k][TARGET], &id, &after, &err));
        assert_string_not_equal(before.text, after.text);
        /* Numbers given away are not given again. */
        sql_do(db[k][TARGET], "INSERT INTO t_all (b) VALUES ('next')");
        assert_true(sql_number(db[k][TARGET], "SELECT a FROM t_all WHERE b = 'next'") >= 5);
        drop_both(k, &id);
    }
}

/* ---- ownership ---- */

static void what_is_not_ours_is_never_touched(void **state)
{
    struct dr_shard_id id = id_of("t_own");
    struct dr_shard_id other = id;
    struct dr_shard_facts f = {0};
    other.owner = "99999999-aaaa-4bbb-8ccc-000000000009";
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *s = store[k][SOURCE];
        struct dr_store *to[] = {store[k][TARGET]};
        struct dr_cursor cursor = {0};
        struct dr_budget b = budget_of(10);
        uint64_t n = 0;
        bool is_end = false;
        sql_do(db[k][SOURCE], "CREATE TABLE t_own (id INT PRIMARY KEY)");
        sql_do(db[k][SOURCE], "INSERT INTO t_own VALUES (1)");
        GETS(k, dr_shard_ensure(s, &id, plain, "", &err), DR_EXISTS);
        GETS(k, dr_shard_drop(s, &id, false, &err), DR_REFUSED);
        GETS(k, dr_shard_hold(s, &id, true, &err), DR_REFUSED);
        GETS(k, dr_shard_fence(s, &id, true, 1000, &err), DR_REFUSED);
        GETS(k, dr_shard_capture(s, &id, true, &err), DR_REFUSED);
        MUST(k, dr_shard_facts(s, &id, &f, &err));
        assert_true(f.exists && !f.is_owned && !f.is_fenced);
        assert_int_equal(sql_number(db[k][SOURCE], "SELECT COUNT(*) FROM t_own"), 1);
        sql_do(db[k][SOURCE], "DROP TABLE t_own");
        /* Ours, but somebody has put another table in its place. */
        ensure_both(k, &id, plain);
        GETS(k, dr_shard_ensure(s, &other, plain, "", &err), DR_EXISTS);
        GETS(k, dr_shard_drop(s, &other, false, &err), DR_REFUSED);
        GETS(k, dr_shard_fence(s, &other, true, 1000, &err), DR_REFUSED);
        GETS(k, dr_shard_copy(s, to, 1, &other, &b, &cursor, &n, &n, &is_end, &err), DR_REFUSED);
        sql_do(db[k][TARGET], "DROP TABLE t_own");
        sql_do(db[k][TARGET],
               "CREATE TABLE t_own (id BIGINT PRIMARY KEY, name VARCHAR(100), n INT)");
        sql_do(db[k][TARGET], "INSERT INTO t_own VALUES (5, 'keep', 1)");
        sql_do(db[k][SOURCE], "INSERT INTO t_own VALUES (5, 'other', 2)");
        GETS(k, dr_shard_copy(s, to, 1, &id, &b, &cursor, &n, &n, &is_end, &err), DR_REFUSED);
        MUST(k, dr_shard_capture(s, &id, true, &err));
        GETS(k, dr_shard_follow(s, to, 1, &id, &b, &n, &n, &err), DR_REFUSED);
        GETS(k, dr_shard_drop(store[k][TARGET], &id, false, &err), DR_REFUSED);
        assert_int_equal(
            sql_number(db[k][TARGET], "SELECT COUNT(*) FROM t_own WHERE name = 'keep'"), 1);
        sql_do(db[k][TARGET], "DROP TABLE t_own");
        drop_both(k, &id);
    }
}

static void copy_writes_only_into_what_its_operation_made(void **state)
{
    struct dr_shard_id id = id_of("t_op");
    struct dr_shard_id later = id;
    later.operation = "33333333-aaaa-4bbb-8ccc-000000000003";
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *to[] = {store[k][TARGET]};
        struct dr_cursor cursor = {0};
        struct dr_budget b = budget_of(10);
        uint64_t n = 0;
        bool is_end = false;
        ensure_both(k, &id, plain);
        sql_do(db[k][SOURCE], "INSERT INTO t_op VALUES (1, 'x', 1)");
        GETS(k, dr_shard_copy(store[k][SOURCE], to, 1, &later, &b, &cursor, &n, &n, &is_end, &err),
             DR_REFUSED);
        /* Unless nobody writes there: a holder that stays and differs is repaired so. */
        MUST(k, dr_shard_fence(store[k][TARGET], &id, true, 1000, &err));
        cursor.len = 0;
        MUST(k, dr_shard_copy(store[k][SOURCE], to, 1, &later, &b, &cursor, &n, &n, &is_end, &err));
        assert_int_equal(sql_number(db[k][TARGET], "SELECT COUNT(*) FROM t_op"), 1);
        MUST(k, dr_shard_fence(store[k][TARGET], &id, false, 1000, &err));
        GETS(k,
             dr_shard_copy(store[k][SOURCE], &store[1 - k][TARGET], 1, &id, &b, &cursor, &n, &n,
                           &is_end, &err),
             DR_INPUT);
        drop_both(k, &id);
    }
}

static void unfit_tables_are_refused_and_removed(void **state)
{
    static const char *const unfit[] = {
        "a INT", "id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id)"};
    struct dr_shard_id id = id_of("t_unfit");
    struct dr_shard_facts f = {0};
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *s = store[k][SOURCE];
        sql_do(db[k][SOURCE], "CREATE TABLE parent (id INT PRIMARY KEY)");
        for (size_t i = 0; i < 2; i++) {
            struct dr_shard_record *r = NULL;
            uint32_t count = 0;
            struct dr_arena *a = dr_arena_create(1024);
            GETS(k, dr_shard_ensure(s, &id, unfit[i], "", &err), DR_REFUSED);
            MUST(k, dr_shard_facts(s, &id, &f, &err));
            assert_false(f.exists);
            MUST(k, dr_shard_records(s, a, &r, &count, &err));
            assert_int_equal(count, 0);
            dr_arena_destroy(a);
        }
        GETS(k, dr_shard_ensure(s, &id, "id INT PRIMARY KEY, nonsense(", "", &err), DR_INPUT);
        MUST(k, dr_shard_ensure(s, &id, plain, "", &err));
        MUST(k, dr_shard_ensure(s, &id, plain, "", &err));
        GETS(k, dr_shard_ensure(s, &id, "id INT PRIMARY KEY", "", &err), DR_CONFLICT);
        sql_do(db[k][SOURCE], "DROP TABLE parent");
        drop_both(k, &id);
    }
    GETS(MARIA, dr_shard_ensure(store[MARIA][SOURCE], &id, plain, "ENGINE=MyISAM", &err),
         DR_REFUSED);
    GETS(MARIA, dr_shard_ensure(store[MARIA][SOURCE], &id, plain, "COMMENT='mine'", &err),
         DR_REFUSED);
    GETS(MARIA, dr_shard_ensure(store[MARIA][SOURCE], &id, "e ENUM('a') PRIMARY KEY", "", &err),
         DR_REFUSED);
    GETS(PG, dr_shard_ensure(store[PG][SOURCE], &id, plain, "PARTITION BY HASH (id)", &err),
         DR_REFUSED);
    id.name = "drover_x";
    GETS(PG, dr_shard_ensure(store[PG][SOURCE], &id, plain, "", &err), DR_INPUT);
    id.name = "a\"b";
    GETS(PG, dr_shard_ensure(store[PG][SOURCE], &id, plain, "", &err), DR_INPUT);
}

/* ---- fence, hold ---- */

static void a_fence_refuses_every_write_but_drovers(void **state)
{
    static const char *const writes[] = {"INSERT INTO t_fence VALUES (3, 'c', 3)",
                                         "UPDATE t_fence SET n = 9 WHERE id = 1",
                                         "DELETE FROM t_fence WHERE id = 1"};
    static const char *const own[KINDS][2] = {
        {"REPLACE INTO t_fence VALUES (1, 'r', 0)",
         "INSERT INTO t_fence VALUES (1, 'r', 0) ON DUPLICATE KEY UPDATE n = 5"},
        {"TRUNCATE t_fence",
         "INSERT INTO t_fence VALUES (1, 'r', 0) ON CONFLICT (id) DO UPDATE SET n = 5"}};
    struct dr_shard_id id = id_of("t_fence");
    struct dr_shard_facts f = {0};
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        ensure_both(k, &id, plain);
        sql_do(db[k][SOURCE], "INSERT INTO t_fence VALUES (1, 'a', 1)");
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        (void)copy_all(k, &id, 10);
        for (int again = 0; again < 2; again++) {
            MUST(k, dr_shard_fence(store[k][TARGET], &id, true, 1000, &err));
            MUST(k, dr_shard_facts(store[k][TARGET], &id, &f, &err));
            assert_true(f.is_fenced && f.rows == 1);
        }
        for (size_t i = 0; i < 5; i++) {
            const char *sql = i < 3 ? writes[i] : own[k][i - 3];
            GETS(k, dr_sqldb_exec(db[k][TARGET], sql, NULL, 0, NULL, &err), DR_CONFLICT);
            assert_int_equal(dr_sqldb_exec(db[k][TARGET], sql, NULL, 0, NULL, &err), DR_CONFLICT);
            assert_non_null(strstr(err.msg, "drover: shard moved, ask the catalog"));
        }
        assert_int_equal(sql_number(db[k][TARGET], "SELECT SUM(n) FROM t_fence"), 1);
        /* Drover itself goes through, and leaves no door open. */
        sql_do(db[k][SOURCE], "UPDATE t_fence SET n = 7");
        assert_int_equal(follow_all(k, &id, 10), 1);
        assert_equal_contents(k, &id);
        GETS(k, dr_store_command(store[k][TARGET], "main", "DROP TABLE t_nothing_there", &err),
             DR_OK);
        GETS(k, dr_sqldb_exec(db[k][TARGET], writes[1], NULL, 0, NULL, &err), DR_CONFLICT);
        MUST(k, dr_shard_fence(store[k][TARGET], &id, false, 1000, &err));
        MUST(k, dr_shard_fence(store[k][TARGET], &id, false, 1000, &err));
        sql_do(db[k][TARGET], writes[1]);
        drop_both(k, &id);
    }
}

static void a_fence_gives_up_under_a_long_transaction_and_leaves_nothing(void **state)
{
    struct dr_shard_id id = id_of("t_wait");
    struct dr_shard_facts f = {0};
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *s = store[k][SOURCE];
        MUST(k, dr_shard_ensure(s, &id, plain, "", &err));
        MUST(k, dr_sqldb_begin(db[k][SOURCE], &err));
        sql_do(db[k][SOURCE], "INSERT INTO t_wait VALUES (1, 'long', 1)");
        dr_mono_ms begun = dr_mono_now();
        GETS(k, dr_shard_fence(s, &id, true, 1000, &err), DR_BUSY);
        assert_true(dr_mono_now() - begun >= 900 && dr_mono_now() - begun < 10000);
        MUST(k, dr_sqldb_commit(db[k][SOURCE], &err));
        MUST(k, dr_shard_facts(s, &id, &f, &err));
        assert_false(f.is_fenced);
        sql_do(db[k][SOURCE], "INSERT INTO t_wait VALUES (2, 'free', 1)");
        assert_int_equal(sql_number(db[k][SOURCE],
                                    k == PG
                                        ? "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
                                        : "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE "
                                          "TRIGGER_SCHEMA = DATABASE()"),
                         0);
        if (k == MARIA) {
            assert_int_equal(sql_number(db[k][TARGET], "SELECT @@lock_wait_timeout"),
                             sql_number(db[k][SOURCE], "SELECT @@lock_wait_timeout"));
        }
        drop_both(k, &id);
    }
}

static void held_tables_are_out_of_use_and_come_back(void **state)
{
    struct dr_shard_id id = id_of("t_hold");
    struct dr_shard_facts f = {0};
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *s = store[k][SOURCE];
        ensure_both(k, &id, plain);
        sql_do(db[k][SOURCE], "INSERT INTO t_hold VALUES (1, 'a', 1)");
        MUST(k, dr_shard_capture(s, &id, true, &err));
        sql_do(db[k][SOURCE], "UPDATE t_hold SET n = 2");
        GETS(k, dr_shard_hold(s, &id, true, &err), DR_CONFLICT); /* not followed yet */
        (void)follow_all(k, &id, 10);
        MUST(k, dr_shard_fence(s, &id, true, 1000, &err));
        for (int again = 0; again < 2; again++) {
            MUST(k, dr_shard_hold(s, &id, true, &err));
            MUST(k, dr_shard_facts(s, &id, &f, &err));
            assert_true(!f.exists && f.is_held && f.is_owned && !f.is_captured);
        }
        MUST(k, dr_shard_drop(s, &id, false, &err)); /* the one in use: there is none */
        MUST(k, dr_shard_facts(s, &id, &f, &err));
        assert_true(f.is_held);
        for (int again = 0; again < 2; again++) {
            MUST(k, dr_shard_hold(s, &id, false, &err));
            MUST(k, dr_shard_facts(s, &id, &f, &err));
            assert_true(f.exists && !f.is_held && f.is_fenced && f.rows == 1);
        }
        /* Held, and a new one made in its place: both live side by side. */
        MUST(k, dr_shard_hold(s, &id, true, &err));
        MUST(k, dr_shard_ensure(s, &id, plain, "", &err));
        MUST(k, dr_shard_capture(s, &id, true, &err));
        struct dr_shard_id next = id;
        next.operation = "44444444-aaaa-4bbb-8ccc-000000000004";
        MUST(k, dr_shard_fence(s, &next, true, 1000, &err));
        GETS(k, dr_shard_hold(s, &id, true, &err), DR_EXISTS);
        GETS(k, dr_shard_hold(s, &id, false, &err), DR_EXISTS);
        MUST(k, dr_shard_drop(s, &id, true, &err));
        MUST(k, dr_shard_facts(s, &id, &f, &err));
        assert_true(f.exists && !f.is_held && f.is_fenced && f.is_captured);
        drop_both(k, &id);
    }
}

/* ---- keys ---- */

static const char *const key_columns[] = {
    "a VARCHAR(20), b INT, v INT, PRIMARY KEY (a, b)",
    "a TIMESTAMP, v INT, b INT, PRIMARY KEY (b, a)",
    "a DECIMAL(12,4), v INT, b INT, PRIMARY KEY (a)",
    "a DATE, b INT, v INT, PRIMARY KEY (a, b)",
    "a UUID, b INT, v INT, PRIMARY KEY (a)",
};
static const char *const key_values[KINDS][5] = {
    {"CONCAT('K', CHAR(39), '\\\\', n DIV 7, 'ä')", "'2020-01-01' + INTERVAL n SECOND", "n / 16",
     "'2020-01-01' + INTERVAL n DAY", "UUID()"},
    {"'K''\\' || n / 7 || 'ä'", "timestamp '2020-01-01' + n * interval '1 s'", "n / 16.0",
     "date '2020-01-01' + n", "gen_random_uuid()"}};

/* Does all that differs have its key in the log? *different_out: ranges that differ. */
static bool is_all_logged(int k, const struct dr_shard_id *id, uint64_t items, int *different_out)
{
    struct dr_budget b = budget_of(items);
    struct dr_cursor cursor = {0};
    struct dr_store *target[] = {store[k][TARGET]};
    struct dr_shard_compared one = {0};
    *different_out = 0;
    for (int calls = 0; !one.is_end; calls++) {
        assert_true(calls < 1000);
        MUST(k, dr_shard_compare(store[k][SOURCE], target, 1, id, &b, &cursor, &one, &err));
        *different_out += one.is_different;
        if (one.is_different && !one.is_logged) {
            return false;
        }
    }
    return true;
}

/* What was written and not followed yet is late; a row that nobody wrote is different. */
static void late_rows_and_others_are_told_apart(int k, const struct dr_shard_id *id)
{
    for (uint64_t items = 1; items <= 1000; items = items * 30 + 1) {
        int different = 0;
        assert_true(is_all_logged(k, id, items, &different));
        assert_true(different > 0);
        sql_do(db[k][TARGET], "UPDATE t_key SET v = 77 WHERE b = 50");
        assert_false(is_all_logged(k, id, items, &different));
        sql_do(db[k][TARGET], "UPDATE t_key SET v = 0 WHERE b = 50");
        sql_do(db[k][SOURCE], "UPDATE t_key SET v = v WHERE b = 99");
    }
}

static void keys_of_all_kinds_are_walked_and_followed(void **state)
{
    struct dr_shard_id id = id_of("t_key");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        for (size_t i = 0; i < 5; i++) {
            char sql[512];
            ensure_both(k, &id, key_columns[i]);
            MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
            (void)snprintf(sql, sizeof sql,
                           k == PG ? "INSERT INTO t_key (a, b, v) SELECT %s, n, 0 FROM "
                                     "generate_series(0, 99) n"
                                   : "INSERT INTO t_key (a, b, v) SELECT %s, n, 0 FROM (SELECT seq "
                                     "AS n FROM seq_0_to_99) s",
                           key_values[k][i]);
            sql_do(db[k][SOURCE], sql);
            assert_int_equal(copy_all(k, &id, 7), 100);
            assert_equal_contents(k, &id);
            assert_true(follow_all(k, &id, 1000) >= 100);
            sql_do(db[k][SOURCE], "DELETE FROM t_key WHERE b < 20");
            sql_do(db[k][SOURCE], "UPDATE t_key SET v = 1 WHERE b < 40");
            sql_do(db[k][SOURCE], i == 0   ? "UPDATE t_key SET a = 'new' WHERE b >= 60"
                                  : i == 2 ? "UPDATE t_key SET a = a + 1000 WHERE b >= 60"
                                           : "UPDATE t_key SET b = b + 1000 WHERE b >= 60");
            late_rows_and_others_are_told_apart(k, &id);
            (void)follow_all(k, &id, 9);
            assert_equal_contents(k, &id);
            /* Once more from the start, over what is there. */
            assert_int_equal(copy_all(k, &id, 33), 80);
            assert_equal_contents(k, &id);
            drop_both(k, &id);
        }
    }
}

/* A row more, a row less, a NULL, in the middle and at both ends of keys of all kinds. */
static void a_comparison_by_ranges_finds_what_differs(void **state)
{
    struct dr_shard_id id = id_of("t_key");
    static const char *const changes[] = {
        "UPDATE t_key SET v = NULL WHERE b = 50",
        "DELETE FROM t_key WHERE b = 0",
        "DELETE FROM t_key WHERE b = 50",
        "DELETE FROM t_key WHERE b = 99",
        "DELETE FROM t_key WHERE b >= 0",
        NULL, /* -1 and 1000 are inserted */
        NULL,
    };
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        for (size_t i = 0; i < 5; i++) {
            char sql[512];
            uint64_t rows = 0;
            const char *insert = k == PG
                                     ? "INSERT INTO t_key (a, b, v) SELECT %s, n, 0 FROM "
                                       "generate_series(%d, %d) n"
                                     : "INSERT INTO t_key (a, b, v) SELECT %s, n, 0 FROM (SELECT "
                                       "CAST(seq AS SIGNED) - 1 AS n FROM seq_0_to_2000) s "
                                       "WHERE n BETWEEN %d AND %d";
            ensure_both(k, &id, key_columns[i]);
            (void)snprintf(sql, sizeof sql, insert, key_values[k][i], 0, 99);
            sql_do(db[k][SOURCE], sql);
            assert_false(are_equal(k, &id, SOURCE, TARGET, 10, &rows)); /* it is empty */
            for (size_t c = 0; c < sizeof changes / sizeof changes[0]; c++) {
                int n = c == 5 ? -1 : 1000;
                sql_do(db[k][TARGET], "DELETE FROM t_key");
                assert_int_equal(copy_all(k, &id, 1000), 100);
                assert_true(are_equal(k, &id, SOURCE, TARGET, c == 0 ? 1 : 13, &rows));
                assert_int_equal(rows, 100);
                (void)snprintf(sql, sizeof sql, insert, key_values[k][i], n, n);
                sql_do(db[k][TARGET], changes[c] == NULL ? sql : changes[c]);
                expect_difference(k, &id, changes[c] == NULL ? sql : changes[c]);
            }
            drop_both(k, &id);
        }
    }
}

/* Two targets, of which the second differs; and one that is made of something else. */
static void every_target_is_compared(void **state)
{
    struct dr_shard_id id = id_of("t_two");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_budget b = budget_of(100);
        struct dr_cursor cursor = {0};
        struct dr_store *to[] = {store[k][TARGET], store[k][SECOND]};
        struct dr_shard_compared one = {0};
        for (int p = 0; p < PLACES; p++) {
            MUST(k, dr_shard_ensure(store[k][p], &id, plain, "", &err));
            sql_do(db[k][p], "INSERT INTO t_two VALUES (1, 'a', 1), (2, 'b', 2), (3, NULL, 3)");
        }
        MUST(k, dr_shard_compare(store[k][SOURCE], to, 2, &id, &b, &cursor, &one, &err));
        assert_true(one.is_end && !one.is_different && one.rows == 3);
        sql_do(db[k][SECOND], "UPDATE t_two SET name = '' WHERE id = 3");
        cursor = (struct dr_cursor){0};
        b.items_max = 2;
        MUST(k, dr_shard_compare(store[k][SOURCE], to, 2, &id, &b, &cursor, &one, &err));
        assert_true(!one.is_end && !one.is_different && one.rows == 2);
        for (int i = 0; i < 2; i++) { /* the cursor stays where it is */
            MUST(k, dr_shard_compare(store[k][SOURCE], to, 2, &id, &b, &cursor, &one, &err));
            assert_true(one.is_end && one.is_different && one.rows == 1);
            assert_string_equal(one.range, "behind (2)");
        }
        MUST(k, dr_shard_drop(store[k][SECOND], &id, false, &err));
        GETS(k, dr_shard_compare(store[k][SOURCE], to, 2, &id, &b, &cursor, &one, &err),
             DR_NOT_FOUND);
        MUST(k, dr_shard_ensure(store[k][SECOND], &id, "id BIGINT PRIMARY KEY", "", &err));
        GETS(k, dr_shard_compare(store[k][SOURCE], to, 2, &id, &b, &cursor, &one, &err),
             DR_CONFLICT);
        drop_both(k, &id);
    }
}

/* Values of a unique index that change hands while the copy is on its way. */
static void unique_values_may_change_hands(void **state)
{
    struct dr_shard_id id = id_of("t_uq");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *to[] = {store[k][TARGET]};
        struct dr_budget b = budget_of(2);
        struct dr_cursor cursor = {0};
        uint64_t n = 0;
        bool is_end = false;
        ensure_both(k, &id, "id INT PRIMARY KEY, name VARCHAR(20) UNIQUE, m INT, UNIQUE (m, name)");
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        sql_do(db[k][SOURCE], "INSERT INTO t_uq VALUES (1,'a',1),(2,'b',2),(3,'c',3),(4,'d',NULL)");
        MUST(k, dr_shard_copy(store[k][SOURCE], to, 1, &id, &b, &cursor, &n, &n, &is_end, &err));
        assert_false(is_end);
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'x' WHERE id = 1");
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'a' WHERE id = 4");
        sql_do(db[k][SOURCE], "DELETE FROM t_uq WHERE id = 2");
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'b' WHERE id = 3");
        while (!is_end) {
            MUST(k,
                 dr_shard_copy(store[k][SOURCE], to, 1, &id, &b, &cursor, &n, &n, &is_end, &err));
        }
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'tmp' WHERE id = 3");
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'b' WHERE id = 1");
        sql_do(db[k][SOURCE], "UPDATE t_uq SET name = 'x' WHERE id = 3");
        (void)follow_all(k, &id, 1);
        assert_equal_contents(k, &id);
        drop_both(k, &id);
    }
}

/* ---- the log ---- */

/* An entry with a smaller number that is committed later is neither waited for nor lost. */
static void entries_of_a_long_transaction_are_not_passed_over(void **state)
{
    struct dr_shard_id id = id_of("t_long");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_sqldb *other = sql_open(url[k][SOURCE]);
        struct dr_shard_facts f = {0};
        ensure_both(k, &id, plain);
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        sql_do(db[k][SOURCE], "INSERT INTO t_long VALUES (1, 'a', 1), (2, 'b', 2)");
        (void)follow_all(k, &id, 100);
        MUST(k, dr_sqldb_begin(other, &err));
        sql_do(other, "UPDATE t_long SET n = 100 WHERE id = 1");
        sql_do(db[k][SOURCE], "UPDATE t_long SET n = 200 WHERE id = 2");
        dr_mono_ms begun = dr_mono_now();
        assert_int_equal(follow_all(k, &id, 100), 1);
        assert_true(dr_mono_now() - begun < 5000);
        assert_int_equal(sql_number(db[k][TARGET], "SELECT SUM(n) FROM t_long"), 201);
        MUST(k, dr_sqldb_commit(other, &err));
        MUST(k, dr_shard_facts(store[k][SOURCE], &id, &f, &err));
        assert_int_equal(f.log_rows, 1);
        assert_int_equal(follow_all(k, &id, 100), 1);
        assert_int_equal(sql_number(db[k][TARGET], "SELECT SUM(n) FROM t_long"), 300);
        dr_sqldb_close(other);
        drop_both(k, &id);
    }
}

static void capture_changes_nothing_for_writers(void **state)
{
    struct dr_shard_id id = id_of("t_auto");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        ensure_both(k, &id,
                    k == PG ? "id bigserial PRIMARY KEY, n int"
                            : "id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT");
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        for (int i = 0; i < 3; i++) {
            sql_do(db[k][SOURCE], "UPDATE t_auto SET n = 1");
            sql_do(db[k][SOURCE], "INSERT INTO t_auto (n) VALUES (0)");
            assert_int_equal(
                sql_number(db[k][SOURCE], k == PG ? "SELECT lastval()" : "SELECT LAST_INSERT_ID()"),
                i + 1);
        }
        sql_do(db[k][SOURCE], "DELETE FROM t_auto WHERE id = 3");
        (void)copy_all(k, &id, 10);
        (void)follow_all(k, &id, 10);
        sql_do(db[k][TARGET], "INSERT INTO t_auto (n) VALUES (5)");
        assert_int_equal(sql_number(db[k][TARGET], "SELECT id FROM t_auto WHERE n = 5"), 4);
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, false, &err));
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, false, &err));
        sql_do(db[k][SOURCE], "INSERT INTO t_auto (n) VALUES (0)");
        drop_both(k, &id);
    }
}

/* PostgreSQL tells of a TRUNCATE; MariaDB does not, and the digests do. */
static void a_truncate_is_noticed(void **state)
{
    struct dr_shard_id id = id_of("t_trunc");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_shard_digest a = {0};
        struct dr_shard_digest b = {0};
        ensure_both(k, &id, plain);
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        sql_do(db[k][SOURCE], "INSERT INTO t_trunc VALUES (1, 'a', 1), (2, 'b', 2)");
        (void)follow_all(k, &id, 100);
        sql_do(db[k][SOURCE], "TRUNCATE TABLE t_trunc");
        sql_do(db[k][SOURCE], "INSERT INTO t_trunc VALUES (7, 'g', 7), (1, 'new', 1)");
        (void)follow_all(k, &id, 1);
        MUST(k, dr_shard_digest(store[k][SOURCE], &id, &a, &err));
        MUST(k, dr_shard_digest(store[k][TARGET], &id, &b, &err));
        assert_int_equal(strcmp(a.text, b.text) == 0, k == PG);
        drop_both(k, &id);
    }
}

static void budgets_are_kept_and_several_targets_served(void **state)
{
    struct dr_shard_id id = id_of("t_many");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_store *to[] = {store[k][TARGET], store[k][SECOND]};
        struct dr_budget b = {.items_max = 1000, .bytes_max = 100000, .ms_max = 1000};
        struct dr_cursor cursor = {0};
        struct dr_shard_digest d[3];
        uint64_t total = 0;
        bool is_end = false;
        ensure_both(k, &id, "id INT PRIMARY KEY, t TEXT");
        MUST(k, dr_shard_ensure(store[k][SECOND], &id, "id INT PRIMARY KEY, t TEXT", "", &err));
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        sql_do(db[k][SOURCE],
               k == PG ? "INSERT INTO t_many SELECT n, repeat('x', 20000) FROM generate_series(1, "
                         "100) n"
                       : "INSERT INTO t_many SELECT seq, REPEAT('x', 20000) FROM seq_1_to_100");
        for (int calls = 0; !is_end; calls++) {
            uint64_t rows = 0;
            uint64_t bytes = 0;
            MUST(k, dr_shard_copy(store[k][SOURCE], to, 2, &id, &b, &cursor, &rows, &bytes, &is_end,
                                  &err));
            if (bytes > b.bytes_max || calls >= 200) {
                fail_msg("%s: call %d: %" PRIu64 " rows, %" PRIu64 " bytes", kind_name[k], calls,
                         rows, bytes);
            }
            total += rows;
        }
        assert_int_equal(total, 100);
        sql_do(db[k][SOURCE], "UPDATE t_many SET t = 'y' WHERE id < 50");
        for (uint64_t left = 1, n = 0; left > 0;) {
            MUST(k, dr_shard_follow(store[k][SOURCE], to, 2, &id, &b, &n, &left, &err));
        }
        for (int p = 0; p < PLACES; p++) {
            MUST(k, dr_shard_digest(store[k][p], &id, &d[p], &err));
            assert_string_equal(d[p].text, d[0].text);
        }
        drop_both(k, &id);
    }
}

/* A server that takes no LOAD DATA LOCAL gets literals. */
static void without_local_the_rows_arrive_as_well(void **state)
{
    struct dr_shard_id id = id_of("t_all");
    char columns[2048];
    (void)state;
    (void)snprintf(columns, sizeof columns, "%s", columns_all[MARIA]);
    for (char *c = columns; *c != '\0'; c++) {
        *c = *c == '`' ? '"' : *c;
    }
    sql_do(admin[MARIA], "SET GLOBAL local_infile = 0");
    ensure_both(MARIA, &id, columns);
    MUST(MARIA, dr_shard_capture(store[MARIA][SOURCE], &id, true, &err));
    for (int i = 0; i < 5; i++) {
        sql_do(db[MARIA][SOURCE], rows_all[MARIA][i]);
    }
    assert_int_equal(copy_all(MARIA, &id, 2), 5);
    assert_equal_contents(MARIA, &id);
    sql_do(db[MARIA][SOURCE], "UPDATE t_all SET d = 1e0/3");
    assert_int_equal(follow_all(MARIA, &id, 100), 10);
    assert_equal_contents(MARIA, &id);
    drop_both(MARIA, &id);
    sql_do(admin[MARIA], "SET GLOBAL local_infile = 1");
}

static void records_tell_what_is_here(void **state)
{
    struct dr_shard_id id = id_of("t_rec");
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct dr_shard_record *r = NULL;
        uint32_t count = 0;
        struct dr_arena *a = dr_arena_create(1024);
        MUST(k, dr_shard_ensure(store[k][SOURCE], &id, plain, "", &err));
        MUST(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
        sql_do(db[k][SOURCE], k == PG ? "DROP TABLE t_rec CASCADE" : "DROP TABLE t_rec");
        MUST(k, dr_shard_records(store[k][SOURCE], a, &r, &count, &err));
        assert_int_equal(count, 2);
        assert_string_equal(r[0].role, "log");
        assert_string_equal(r[1].role, "shard");
        assert_string_equal(r[1].name, "t_rec");
        assert_string_equal(r[1].owner, OWNER);
        assert_string_equal(r[1].operation, OPERATION);
        assert_true(r[0].exists && !r[1].exists && r[1].created_at > 0);
        dr_arena_destroy(a);
        drop_both(k, &id);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_arrives_byte_for_byte),
        cmocka_unit_test(what_is_not_ours_is_never_touched),
        cmocka_unit_test(copy_writes_only_into_what_its_operation_made),
        cmocka_unit_test(unfit_tables_are_refused_and_removed),
        cmocka_unit_test(a_fence_refuses_every_write_but_drovers),
        cmocka_unit_test(a_fence_gives_up_under_a_long_transaction_and_leaves_nothing),
        cmocka_unit_test(held_tables_are_out_of_use_and_come_back),
        cmocka_unit_test(keys_of_all_kinds_are_walked_and_followed),
        cmocka_unit_test(a_comparison_by_ranges_finds_what_differs),
        cmocka_unit_test(every_target_is_compared),
        cmocka_unit_test(unique_values_may_change_hands),
        cmocka_unit_test(entries_of_a_long_transaction_are_not_passed_over),
        cmocka_unit_test(capture_changes_nothing_for_writers),
        cmocka_unit_test(a_truncate_is_noticed),
        cmocka_unit_test(budgets_are_kept_and_several_targets_served),
        cmocka_unit_test(without_local_the_rows_arrive_as_well),
        cmocka_unit_test(records_tell_what_is_here),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, start_places, stop_places);
}
