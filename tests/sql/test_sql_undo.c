/* SPDX-License-Identifier: Apache-2.0 */
/* Rows come back exactly as they were: every type, identities, computed columns, odd bytes. */
#include "sql/sql_store_help.h"

/* Everything of a table as one text, as the server itself writes it. */
struct dump {
    struct dr_str text;
};

static enum dr_code take_dump(void *arg, const struct dr_value *value, uint32_t count,
                              struct dr_err *err)
{
    struct dump *d = arg;
    (void)err;
    dr_values_encode(value, count, &d->text);
    return DR_OK;
}

static void dump_table(struct side *s, const char *table, const char *order, struct dr_str *out)
{
    struct dump d;
    char text[160];
    dr_str_init(&d.text);
    (void)snprintf(text, sizeof text, "SELECT * FROM shop.%s ORDER BY %s", table, order);
    assert_ok(s, dr_sqldb_query(s->db, text, NULL, 0, take_dump, &d, &s->err));
    *out = d.text;
}

/* Erase all of a table and put it back: the table is the same, and repeating changes nothing. */
static void assert_round_trip(struct side *s, const char *table, const char *order)
{
    struct dr_str before;
    struct dr_str after;
    struct dr_range r = range_of(s, table, NULL);
    int64_t rows = rows_of(s, table);
    dump_table(s, table, order, &before);
    read_some(s, &r, 1000, true);
    assert_int_equal(s->batch->count, rows);
    assert_int_equal(probe(s, &r).same, rows);
    struct dr_tally tally = erase(s, &r);
    assert_int_equal(tally.erased, rows);
    assert_int_equal(rows_of(s, table), 0);
    assert_int_equal(probe(s, &r).absent, rows);
    tally = restore(s, &r);
    assert_int_equal(tally.restored, rows);
    assert_int_equal(probe(s, &r).same, rows);
    dump_table(s, table, order, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    tally = restore(s, &r);
    assert_int_equal(tally.same, rows);
    assert_int_equal(tally.restored + tally.conflicts, 0);
    dr_str_fini(&before);
    dr_str_fini(&after);
}

static void make_mariadb_types(struct side *s)
{
    run(s,
        "CREATE TABLE shop.a (id int PRIMARY KEY, ti tinyint, si smallint, mi mediumint, bi "
        "bigint, ub bigint unsigned, de decimal(65,30), f float, d double, b1 bit(1), b64 "
        "bit(64), da date, dt datetime(6), ts timestamp(6) NULL, t time(6), y year, ch char(10), "
        "vc varchar(100), lc varchar(50) CHARACTER SET latin1, bn binary(8), vb varbinary(50), "
        "bl longblob, tx longtext, en enum('a','b','it''s'), se set('x','y','z'), js json, g "
        "geometry, u uuid, i6 inet6)");
    run(s,
        "INSERT INTO shop.a VALUES (0, -128, -32768, -8388608, -9223372036854775808, "
        "18446744073709551615, 12345678901234567890123456789012345.123456789012345678901234567891, "
        "0.1, 0.1, b'1', b'1111111111111111111111111111111111111111111111111111111111111111', "
        "'0000-00-00', '9999-12-31 23:59:59.999999', '1970-01-01 00:00:01.000001', "
        "'-838:59:59.000000', 1901, 'pad', '', 'caf\xc3\xa9', x'0001', x'', x'00ff27225c0a', "
        "'\xf0\x9f\x90\x91 ''quoted'' \\\\ \"x\"', 'it''s', 'x,z', '{\"a\": [1, null]}', "
        "ST_GeomFromText('POINT(1.5 -2.5)', 4326), '123e4567-e89b-12d3-a456-426655440000', "
        "'2001:db8::ff00:42:8329')");
    run(s, "INSERT INTO shop.a (id) VALUES (1), (-5)");
    run(s, "INSERT INTO shop.a (id, f, d, de, dt, t, y, vc, se) VALUES (2, 3.4e38, 5e-324, "
           "-0.000000000000000000000000000001, "
           "'2020-02-29 00:00:00', '838:59:59', 0, 'trail  ', '')");
    run(s, "INSERT INTO shop.a (id, f, d, vb) VALUES (3, -1.17549435e-38, -1.7976931348623157e308, "
           "x'00')");
}

static void make_postgres_types(struct side *s)
{
    run(s, "CREATE TYPE shop.mood AS ENUM ('sad', 'it''s')");
    run(s, "CREATE DOMAIN shop.small AS int CHECK (VALUE < 100)");
    run(s, "CREATE TYPE shop.pair AS (x int, y text)");
    run(s, "CREATE TABLE shop.a (id int PRIMARY KEY, si smallint, bi bigint, nu numeric, nf "
           "numeric(30,10), f real, d double precision, b boolean, da date, ts timestamp, tz "
           "timestamptz, t time, tt timetz, iv interval, ch char(10), vc varchar(100), tx text, by "
           "bytea, js json, jb jsonb, u uuid, ip inet, ma macaddr, ar int[], at text[][], mo "
           "shop.mood, sm shop.small, pa shop.pair, bt bit(5), vt bit varying(20), pt point, r "
           "int4range, x xml, ts2 tsvector, mn money, oi oid, nm name, \"C h\" \"char\")");
    run(s,
        "INSERT INTO shop.a VALUES (0, -32768, -9223372036854775808, "
        "123456789012345678901234567890.000100, 1.5, 0.1, 0.1, false, '4713-01-01 BC', 'infinity', "
        "'2020-06-01 12:00:00.123456+05', '23:59:59.999999', '12:00:00-08', '1 year -2 mons 3 days "
        "04:05:06.7', 'pad', '', E'\xf0\x9f\x90\x91 ''q'' \\\\ \"x\"\\n', '\\x00ff27225c0a', "
        "'{\"a\":  1}', "
        "'{\"b\": [null, 1.50]}', '123e4567-e89b-12d3-a456-426655440000', '10.1.2.3/8', "
        "'08:00:2b:01:02:03', '{1,NULL,3}', '{{a,\"b,c\"},{\"\",NULL}}', 'it''s', 99, "
        "ROW(1, 'y,\"z'), B'10101', B'1', '(1.5,-2.5)', '[1,5)', '<a>x</a>', 'a:1 b:2', '12.34', "
        "4294967295, 'na', 'c')");
    run(s, "INSERT INTO shop.a (id) VALUES (1), (-5)");
    run(s, "INSERT INTO shop.a (id, nu, f, d, ts, tz, by, b, tx) VALUES (2, 'NaN', 'NaN', "
           "'-Infinity', "
           "'-infinity', '0001-01-01 00:00:00+00 BC', '', true, '')");
    run(s, "INSERT INTO shop.a (id, nu, d) VALUES (3, -0.000000000000000001, 5e-324)");
}

static void every_type_comes_back_byte_for_byte(void **state)
{
    struct side *s = *state;
    if (s->is_pg) {
        make_postgres_types(s);
    } else {
        run(s, "SET sql_mode = 'ANSI_QUOTES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'");
        make_mariadb_types(s);
    }
    assert_round_trip(s, "a", "id");
}

static void identities_keep_their_values(void **state)
{
    struct side *s = *state;
    run_each(
        s, "CREATE TABLE shop.i (id int AUTO_INCREMENT PRIMARY KEY, t varchar(10))",
        "CREATE TABLE shop.i (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t varchar(10))");
    run_each(s, "SET sql_mode = 'ANSI_QUOTES,NO_AUTO_VALUE_ON_ZERO'", "SELECT 1");
    run(s, "INSERT INTO shop.i %sVALUES (0, 'zero'), (-7, 'minus'), (41, 'x')",
        s->is_pg ? "OVERRIDING SYSTEM VALUE " : "");
    assert_round_trip(s, "i", "id");
    assert_int_equal(sql_number(s->db, "SELECT count(*) FROM shop.i WHERE id IN (0, -7, 41)"), 3);
}

static void computed_columns_are_computed_again(void **state)
{
    struct side *s = *state;
    run_each(s,
             "CREATE TABLE shop.g (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a * 2) "
             "VIRTUAL, b int, p int GENERATED ALWAYS AS (a + b) STORED, e int DEFAULT (1 + 1))",
             "CREATE TABLE shop.g (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a * 2) "
             "STORED, b int, p int GENERATED ALWAYS AS (a + b) STORED, e int DEFAULT (1 + 1))");
    run(s, "INSERT INTO shop.g (id, a, b, e) VALUES (1, 10, 5, 7), (2, NULL, 1, NULL)");
    assert_round_trip(s, "g", "id");
    struct dr_value v[16];
    uint32_t count = 0;
    assert_ok(s, dr_values_decode(s->batch->item[0].value, s->batch->item[0].value_len, v, 16,
                                  &count, &s->err));
    assert_int_equal(count, 1 + 2 * 4); /* names and values of id, a, b, e */
    /* A filter may speak of a computed column all the same. */
    struct dr_range r = range_of(s, "g", NULL);
    r.filter = filter_of(s, "{\"p\": 15}");
    assert_int_equal(walk(s, &r, 10, NULL, NULL), 1);
}

static void keys_of_many_types_come_back(void **state)
{
    struct side *s = *state;
    static const char *const mariadb[] = {
        "bigint unsigned",
        "decimal(30,5)",
        "datetime(6)",
        "date",
        "time(3)",
        "varbinary(40)",
        "binary(4)",
        "char(5)",
        "varchar(20) CHARACTER SET latin1 COLLATE latin1_bin",
        "double",
        "uuid",
    };
    static const char *const mariadb_values[] = {
        "(0), (18446744073709551615), (9223372036854775808), (18446744073709551614)",
        "(0), (-1.5), (1234567890123456789012345.12345), (1234567890123456789012345.12344)",
        "('2020-01-01'), ('2020-01-01 00:00:00.000001'), ('1000-01-01')",
        "('2020-01-01'), ('1999-12-31')",
        "('-10:00:00.001'), ('00:00:00'), ('99:59:59.999')",
        "(x''), (x'00'), (x'0000'), (x'ff'), (x'61')",
        "(x'00'), (x'01'), (x'ff')",
        "('a'), ('B'), ('')",
        "('caf\xc3\xa9'), ('cafe'), ('x')",
        "(0.1), (-5e300), (1e-300)",
        "('123e4567-e89b-12d3-a456-426655440000'), ('00000000-0000-0000-0000-000000000001')",
    };
    static const char *const postgres[] = {
        "numeric", "timestamptz", "date",  "bytea", "char(5)", "uuid",     "double precision",
        "boolean", "inet",        "int[]", "oid",   "real",    "interval",
    };
    static const char *const postgres_values[] = {
        "(0), (-1.50), (123456789012345678901234567890.5), ('NaN')",
        "('2020-01-01'), ('infinity'), ('2020-01-01 00:00:00.000001')",
        "('2020-01-01'), ('4000-01-01 BC')",
        "(''), ('\\x00'), ('\\x0000'), ('\\xff')",
        "('a'), ('B'), ('')",
        "('123e4567-e89b-12d3-a456-426655440000'), ('00000000-0000-0000-0000-000000000001')",
        "(0.1), (-5e300), ('NaN'), ('Infinity')",
        "(true), (false)",
        "('10.0.0.1'), ('::1')",
        "('{1,2}'), ('{}'), ('{3}')",
        "(0), (4294967295)",
        "(0.1), (-3e38)",
        "('1 day'), ('1 month -1 day'), ('0')",
    };
    size_t count = s->is_pg ? sizeof postgres / sizeof *postgres : sizeof mariadb / sizeof *mariadb;
    for (size_t i = 0; i < count; i++) {
        char table[16];
        (void)snprintf(table, sizeof table, "k%zu", i);
        run(s, "CREATE TABLE shop.%s (k %s NOT NULL PRIMARY KEY, v int)", table,
            s->is_pg ? postgres[i] : mariadb[i]);
        run(s, "INSERT INTO shop.%s (k) VALUES %s", table,
            s->is_pg ? postgres_values[i] : mariadb_values[i]);
        struct dr_range r = range_of(s, table, NULL);
        int64_t rows = rows_of(s, table);
        assert_int_equal(walk(s, &r, 1, NULL, NULL), rows);
        assert_round_trip(s, table, "k");
    }
}

static void a_new_column_gets_its_default_and_a_lost_one_is_a_conflict(void **state)
{
    struct side *s = *state;
    struct dr_tally tally;
    make_numbers(s, "w", 10);
    struct dr_range r = range_of(s, "w", NULL);
    read_some(s, &r, 10, true);
    assert_int_equal(erase(s, &r).erased, 10);
    run(s, "ALTER TABLE shop.w ADD COLUMN extra int DEFAULT 42");
    assert_fails(s, DR_STALE, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
    assert_int_equal(restore(s, &r).restored, 10);
    assert_int_equal(sql_number(s->db, "SELECT count(*) FROM shop.w WHERE extra = 42"), 10);
    assert_int_equal(restore(s, &r).same, 10);
    run(s, "ALTER TABLE shop.w DROP COLUMN t");
    assert_fails(s, DR_CONFLICT, dr_store_restore(s->store, &r, s->batch, &tally, &s->err));
    assert_says(s, "\"t\"");
}

static void another_row_in_the_way_is_a_conflict_and_stays(void **state)
{
    struct side *s = *state;
    run(s, "CREATE TABLE shop.u (id int PRIMARY KEY, code int, CONSTRAINT u_code UNIQUE (code))");
    run(s, "INSERT INTO shop.u VALUES (1, 10), (2, 20), (3, 30), (4, 40)");
    struct dr_range r = range_of(s, "u", NULL);
    read_some(s, &r, 10, true);
    assert_int_equal(erase(s, &r).erased, 4);
    run(s, "INSERT INTO shop.u VALUES (1, 11), (9, 20), (4, 40)");
    struct dr_tally tally = restore(s, &r);
    assert_int_equal(tally.restored, 1);
    assert_int_equal(tally.same, 1);
    assert_int_equal(tally.conflicts, 2);
    assert_int_equal(sql_number(s->db, "SELECT code FROM shop.u WHERE id = 1"), 11);
    assert_int_equal(rows_of(s, "u"), 4);
}

static void a_missing_parent_is_said_and_nothing_comes_back(void **state)
{
    struct side *s = *state;
    struct dr_tally tally;
    run(s, "CREATE TABLE shop.p (id int PRIMARY KEY)");
    run(s, "CREATE TABLE shop.c (id int PRIMARY KEY, p int NOT NULL, FOREIGN KEY (p) REFERENCES "
           "shop.p (id))");
    run(s, "INSERT INTO shop.p VALUES (1), (2)");
    run(s, "INSERT INTO shop.c VALUES (1, 1), (2, 2)");
    struct dr_range r = range_of(s, "c", NULL);
    read_some(s, &r, 10, true);
    assert_int_equal(erase(s, &r).erased, 2);
    run(s, "DELETE FROM shop.p WHERE id = 2");
    assert_fails(s, DR_CONFLICT, dr_store_restore(s->store, &r, s->batch, &tally, &s->err));
    assert_int_equal(rows_of(s, "c"), 0);
    run(s, "INSERT INTO shop.p VALUES (2)");
    assert_int_equal(restore(s, &r).restored, 2);
}

static void large_rows_and_many_columns_come_back(void **state)
{
    struct side *s = *state;
    struct dr_str text;
    dr_str_init(&text);
    dr_str_add(&text, "CREATE TABLE shop.big (id int PRIMARY KEY");
    for (int i = 0; i < 300; i++) {
        dr_str_addf(&text, ", c%d int DEFAULT %d", i, i);
    }
    dr_str_addf(&text, ", body %s)", s->is_pg ? "text" : "longtext");
    sql_do(s->db, dr_str_text(&text));
    dr_str_fini(&text);
    run_each(
        s,
        "INSERT INTO shop.big (id, body) SELECT seq, REPEAT('\xc3\xa9', 60000) FROM seq_1_to_200",
        "INSERT INTO shop.big (id, body) SELECT i, repeat('\xc3\xa9', 60000) FROM "
        "generate_series(1, 200) i");
    assert_round_trip(s, "big", "id"); /* 24 MB: several statements */
    struct dr_range r = range_of(s, "big", NULL);
    struct dr_budget b = {
        .items_max = 1000, .bytes_max = 1 << 20, .ms_max = 60000, .with_values = true};
    assert_ok(s, dr_store_scan(s->store, &r, &b, NULL, s->batch, &s->err));
    assert_true(s->batch->count > 1 && s->batch->bytes <= 1 << 20 && !s->batch->is_end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(every_type_comes_back_byte_for_byte),
        ON_BOTH(identities_keep_their_values),
        ON_BOTH(computed_columns_are_computed_again),
        ON_BOTH(keys_of_many_types_come_back),
        ON_BOTH(a_new_column_gets_its_default_and_a_lost_one_is_a_conflict),
        ON_BOTH(another_row_in_the_way_is_a_conflict_and_stays),
        ON_BOTH(a_missing_parent_is_said_and_nothing_comes_back),
        ON_BOTH(large_rows_and_many_columns_come_back),
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
