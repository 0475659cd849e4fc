/* SPDX-License-Identifier: Apache-2.0 */
/* Values through store/sqldb on both servers: every column type comes out as promised and goes back
 * exactly; parameters, statements, addresses. Troubles are in test_sqldb_trouble.c. */
#include "sql/sql_help.h"

static struct sql_server server[2]; /* by enum dr_dialect */
static struct dr_sqldb *conn[2];
static struct dr_err err;

static int start_servers(void **state)
{
    (void)state;
    sql_start(&server[DR_SQL_MARIADB], "mariadb");
    sql_start(&server[DR_SQL_POSTGRES], "postgres");
    conn[DR_SQL_MARIADB] = sql_open(server[DR_SQL_MARIADB].url);
    conn[DR_SQL_POSTGRES] = sql_open(server[DR_SQL_POSTGRES].url);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        dr_sqldb_close(conn[i]);
        sql_stop(&server[i]);
    }
    return 0;
}

/* ---- helpers: one row, as text ---- */

struct seen {
    char text[32][400];
    struct dr_value first; /* data points into `data` */
    char *data;
    uint32_t columns;
    uint32_t rows;
};

static void show(const struct dr_value *v, char *buf, size_t bytes)
{
    size_t at = 0;
    switch (v->type) {
    case DR_V_NULL:
        (void)snprintf(buf, bytes, "NULL");
        return;
    case DR_V_INT:
        (void)snprintf(buf, bytes, "int %" PRId64, v->i);
        return;
    case DR_V_REAL:
        (void)snprintf(buf, bytes, "real %.17g", v->r);
        return;
    case DR_V_TEXT:
        (void)snprintf(buf, bytes, "text %.*s", (int)v->len, (const char *)v->data);
        return;
    case DR_V_BLOB:
        at = (size_t)snprintf(buf, bytes, "blob ");
        for (size_t i = 0; i < v->len && at + 3 < bytes; i++) {
            at +=
                (size_t)snprintf(buf + at, bytes - at, "%02x", ((const unsigned char *)v->data)[i]);
        }
        return;
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        break;
    }
    fail_msg("no value of SQL");
}

static enum dr_code note_row(void *arg, const struct dr_value *value, uint32_t count,
                             struct dr_err *e)
{
    struct seen *s = arg;
    (void)e;
    s->columns = count;
    s->rows++;
    for (uint32_t i = 0; i < count && i < 32; i++) {
        show(&value[i], s->text[i], sizeof s->text[i]);
    }
    if (s->data == NULL && count > 0) {
        s->first = value[0];
        s->data = dr_memdup(value[0].data == NULL ? "" : value[0].data, value[0].len);
        s->first.data = value[0].data == NULL ? NULL : s->data;
    }
    return DR_OK;
}

static void look(struct dr_sqldb *db, const char *sql, const struct dr_value *param, uint32_t count,
                 struct seen *s)
{
    *s = (struct seen){0};
    enum dr_code rc = dr_sqldb_query(db, sql, param, count, note_row, s, &err);
    if (rc != DR_OK) {
        fail_msg("%s: %s: %s", sql, dr_code_name(rc), err.msg);
    }
}

static void assert_sees(struct dr_sqldb *db, const char *sql, const struct dr_value *param,
                        uint32_t count, const char *expected)
{
    struct seen s;
    look(db, sql, param, count, &s);
    dr_free(s.data);
    assert_int_equal(s.rows, 1);
    if (strcmp(s.text[0], expected) != 0) {
        fail_msg("%s: got \"%s\", expected \"%s\"", sql, s.text[0], expected);
    }
}

/* ---- every column type ---- */

struct sample {
    const char *type;
    const char *literal;
    const char *seen;
};

static const struct sample mariadb_samples[] = {
    {"TINYINT", "-128", "int -128"},
    {"TINYINT UNSIGNED", "255", "int 255"},
    {"BOOLEAN", "TRUE", "int 1"},
    {"SMALLINT", "-32768", "int -32768"},
    {"SMALLINT UNSIGNED", "65535", "int 65535"},
    {"MEDIUMINT", "-8388608", "int -8388608"},
    {"MEDIUMINT UNSIGNED", "16777215", "int 16777215"},
    {"INT", "-2147483648", "int -2147483648"},
    {"INT UNSIGNED", "4294967295", "int 4294967295"},
    {"INT(8) ZEROFILL", "42", "int 42"},
    {"BIGINT", "-9223372036854775808", "int -9223372036854775808"},
    {"BIGINT", "9223372036854775807", "int 9223372036854775807"},
    {"BIGINT UNSIGNED", "9223372036854775807", "int 9223372036854775807"},
    {"BIGINT UNSIGNED", "18446744073709551615", "text 18446744073709551615"},
    {"YEAR", "2155", "int 2155"},
    {"YEAR", "0", "int 0"},
    {"FLOAT", "0.1", "real 0.10000000149011612"},
    {"FLOAT", "3.4028234663852886e38", "real 3.4028234663852886e+38"},
    {"FLOAT", "1.1754943508222875e-38", "real 1.1754943508222875e-38"},
    {"FLOAT(7,3)", "1234.567", "real 1234.5670166015625"},
    {"DOUBLE", "0.1", "real 0.10000000000000001"},
    {"DOUBLE", "1.7976931348623157e308", "real 1.7976931348623157e+308"},
    {"DOUBLE", "2.2250738585072014e-308", "real 2.2250738585072014e-308"},
    {"DOUBLE", "-123456789.12345679", "real -123456789.12345679"},
    {"DECIMAL(65,30)", "-12345678901234567890123456789012345.123456789012345678901234567891",
     "text -12345678901234567890123456789012345.123456789012345678901234567891"},
    {"DECIMAL(10,4)", "1.5", "text 1.5000"},
    {"DATE", "'9999-12-31'", "text 9999-12-31"},
    {"DATE", "'0000-00-00'", "text 0000-00-00"},
    {"DATE", "'2020-00-31'", "text 2020-00-31"},
    {"DATE", "'2021-02-31'", "text 2021-02-31"},
    {"TIME", "'-838:59:59'", "text -838:59:59"},
    {"TIME", "'00:00:00'", "text 00:00:00"},
    {"TIME(6)", "'838:59:59.000001'", "text 838:59:59.000001"},
    {"TIME(3)", "'-00:00:00.500'", "text -00:00:00.500"},
    {"DATETIME", "'0000-00-00 00:00:00'", "text 0000-00-00 00:00:00"},
    {"DATETIME", "'1000-01-01 23:59:59'", "text 1000-01-01 23:59:59"},
    {"DATETIME(6)", "'9999-12-31 23:59:59.999999'", "text 9999-12-31 23:59:59.999999"},
    {"DATETIME(6)", "'2020-01-01 00:00:00'", "text 2020-01-01 00:00:00.000000"},
    {"DATETIME(1)", "'2020-01-01 10:00:00.5'", "text 2020-01-01 10:00:00.5"},
    {"TIMESTAMP NULL", "'0000-00-00 00:00:00'", "text 0000-00-00 00:00:00"},
    {"TIMESTAMP(6) NULL", "'2038-01-19 03:14:07.999999'", "text 2038-01-19 03:14:07.999999"},
    {"TIMESTAMP NULL", "'1970-01-01 00:00:01'", "text 1970-01-01 00:00:01"},
    {"CHAR(5)", "'ab'", "text ab"},
    {"VARCHAR(20)", "'ab  '", "text ab  "},
    {"VARCHAR(20) CHARACTER SET utf8mb4", "_utf8mb4 x'f09f9880c3bc'",
     "text \xf0\x9f\x98\x80\xc3\xbc"},
    {"VARCHAR(20) CHARACTER SET latin1", "_latin1 x'fc80'", "text \xc3\xbc\xe2\x82\xac"},
    {"VARCHAR(20)", "''", "text "},
    {"TEXT", "'a''b\\\\c\"d?e'", "text a'b\\c\"d?e"},
    {"LONGTEXT", "REPEAT('x', 300)", NULL},
    {"BINARY(4)", "x'00ff'", "blob 00ff0000"},
    {"VARBINARY(8)", "x'0000'", "blob 0000"},
    {"VARBINARY(8)", "''", "blob "},
    {"BLOB", "x'00ff5c27223f00'", "blob 00ff5c27223f00"},
    {"TINYBLOB", "x'ff'", "blob ff"},
    {"LONGBLOB", "REPEAT(x'00c3', 70000)", NULL},
    {"BIT(1)", "b'1'", "blob 01"},
    {"BIT(9)", "b'100000001'", "blob 0101"},
    {"BIT(64)", "0xffffffffffffffff", "blob ffffffffffffffff"},
    {"ENUM('small','big, or ''so''')", "2", "text big, or 'so'"},
    {"SET('a','b','c')", "'a,c'", "text a,c"},
    {"SET('a','b','c')", "''", "text "},
    {"JSON", "'{\"a\": [1, 2.50, null]}'", "text {\"a\": [1, 2.50, null]}"},
    {"UUID", "'123e4567-e89b-12d3-a456-426614174000'", "text 123e4567-e89b-12d3-a456-426614174000"},
    {"INET6", "'2001:db8::1'", "text 2001:db8::1"},
    {"POINT", "ST_GeomFromText('POINT(1 2)')",
     "blob 000000000101000000000000000000f03f0000000000000040"},
    {"INT", "NULL", "NULL"},
    {"BLOB", "NULL", "NULL"},
    {"DATETIME(3)", "NULL", "NULL"},
};

static const struct sample postgres_samples[] = {
    {"boolean", "true", "int 1"},
    {"boolean", "false", "int 0"},
    {"smallint", "-32768", "int -32768"},
    {"integer", "-2147483648", "int -2147483648"},
    {"bigint", "-9223372036854775808", "int -9223372036854775808"},
    {"bigint", "9223372036854775807", "int 9223372036854775807"},
    {"oid", "4294967295", "text 4294967295"},
    {"real", "'0.1'", "text 0.1"},
    {"real", "'3.4028235e38'", "text 3.4028235e+38"},
    {"real", "'1e-45'", "text 1e-45"},
    {"double precision", "'0.1'", "text 0.1"},
    {"double precision", "'1.7976931348623157e308'", "text 1.7976931348623157e+308"},
    {"double precision", "'5e-324'", "text 5e-324"},
    {"double precision", "'NaN'", "text NaN"},
    {"double precision", "'-Infinity'", "text -Infinity"},
    {"double precision", "'-0'", "text -0"},
    {"numeric", "'-123456789012345678901234567890.12345678901234567890'",
     "text -123456789012345678901234567890.12345678901234567890"},
    {"numeric", "'NaN'", "text NaN"},
    {"numeric(10,4)", "1.5", "text 1.5000"},
    {"money", "'-1234.5'", "text -$1,234.50"},
    {"date", "'infinity'", "text infinity"},
    {"date", "'0044-03-15 BC'", "text 0044-03-15 BC"},
    {"date", "'5874897-12-31'", "text 5874897-12-31"},
    {"time", "'24:00:00'", "text 24:00:00"},
    {"time(6)", "'12:34:56.000001'", "text 12:34:56.000001"},
    {"timetz", "'04:05:06.789-08'", "text 04:05:06.789-08"},
    {"timestamp", "'294276-12-31 23:59:59.999999'", "text 294276-12-31 23:59:59.999999"},
    {"timestamp", "'-infinity'", "text -infinity"},
    {"timestamptz", "'2020-06-01 12:00:00.123456+02'", "text 2020-06-01 10:00:00.123456+00"},
    {"interval", "'-1 year -2 mons +3 days -04:05:06.000007'",
     "text -1 years -2 mons +3 days -04:05:06.000007"},
    {"interval", "'178000000 years'", "text 178000000 years"},
    {"text", "E'a''b\\\\c\"d?e\\nf'", "text a'b\\c\"d?e\nf"},
    {"text", "''", "text "},
    {"text", "repeat('x', 300)", NULL},
    {"varchar(20)", "U&'\\+01F600'", "text \xf0\x9f\x98\x80"},
    {"char(5)", "'ab'", "text ab   "},
    {"\"char\"", "'x'", "text x"},
    {"name", "'pg_class'", "text pg_class"},
    {"bytea", "'\\x00ff5c27'", "blob 00ff5c27"},
    {"bytea", "''", "blob "},
    {"bytea", "decode(repeat('00c3', 70000), 'hex')", NULL},
    {"bit(9)", "B'100000001'", "text 100000001"},
    {"bit varying(70)", "B'01'", "text 01"},
    {"uuid", "'123e4567-e89b-12d3-a456-426614174000'", "text 123e4567-e89b-12d3-a456-426614174000"},
    {"json", "'{\"a\":  [1, 2.50,null]}'", "text {\"a\":  [1, 2.50,null]}"},
    {"jsonb", "'{\"a\":  [1, 2.50,null]}'", "text {\"a\": [1, 2.50, null]}"},
    {"xml", "'<a b=\"c\"/>'", "text <a b=\"c\"/>"},
    {"integer[]", "'{1,NULL,-3}'", "text {1,NULL,-3}"},
    {"text[]", "ARRAY['a,b', 'q\"', NULL, 'NULL', '']",
     "text {\"a,b\",\"q\\\"\",NULL,\"NULL\",\"\"}"},
    {"bytea[]", "ARRAY['\\x00ff'::bytea]", "text {\"\\\\x00ff\"}"},
    {"integer[]", "'[5:6]={1,2}'", "text [5:6]={1,2}"},
    {"inet", "'2001:db8::1/64'", "text 2001:db8::1/64"},
    {"cidr", "'10.0.0.0/8'", "text 10.0.0.0/8"},
    {"macaddr", "'08:00:2b:01:02:03'", "text 08:00:2b:01:02:03"},
    {"point", "'(0.1,-2)'", "text (0.1,-2)"},
    {"int4range", "'[1,5]'", "text [1,6)"},
    {"tsvector", "'a:1 b''c'", "text 'a':1 'b''c'"},
    {"mood", "'so, so'", "text so, so"},
    {"pair", "ROW(1, 'a \"b\"')", "text (1,\"a \"\"b\"\"\")"},
    {"integer", "NULL", "NULL"},
    {"bytea", "NULL", "NULL"},
};

/* Read the sample, put back what was read, and let the server compare. */
static void check_sample(struct dr_sqldb *db, const struct sample *x)
{
    bool is_pg = dr_sqldb_info(db)->dialect == DR_SQL_POSTGRES;
    char sql[700];
    struct seen a;
    struct seen b;
    uint64_t affected = 0;
    sql_do(db, "DROP TABLE IF EXISTS there");
    sql_do(db, "DROP TABLE IF EXISTS back");
    (void)snprintf(sql, sizeof sql, "CREATE TABLE there (v %s)", x->type);
    sql_do(db, sql);
    (void)snprintf(sql, sizeof sql, "CREATE TABLE back (v %s)", x->type);
    sql_do(db, sql);
    (void)snprintf(sql, sizeof sql, "INSERT INTO there VALUES (%s)", x->literal);
    sql_do(db, sql);
    look(db, "SELECT v FROM there", NULL, 0, &a);
    assert_int_equal(a.rows, 1);
    if (x->seen != NULL && strcmp(a.text[0], x->seen) != 0) {
        fail_msg("%s %s: got \"%s\", expected \"%s\"", x->type, x->literal, a.text[0], x->seen);
    }
    (void)snprintf(sql, sizeof sql, "INSERT INTO back VALUES (?%s%s)", is_pg ? "::" : "",
                   is_pg ? x->type : "");
    enum dr_code rc = dr_sqldb_exec(db, sql, &a.first, 1, &affected, &err);
    if (rc != DR_OK) {
        fail_msg("%s %s: %s", x->type, x->literal, err.msg);
    }
    assert_int_equal(affected, 1);
    look(db, "SELECT v FROM back", NULL, 0, &b);
    assert_int_equal(a.first.type, b.first.type);
    if (dr_value_compare(&a.first, &b.first) != 0) {
        fail_msg("%s: \"%s\" came back as \"%s\"", x->type, a.text[0], b.text[0]);
    }
    int64_t same = sql_number(db, is_pg ? "SELECT count(*) FROM there t, back b "
                                          "WHERE t.v::text IS NOT DISTINCT FROM b.v::text"
                                        : "SELECT COUNT(*) FROM there t, back b WHERE t.v <=> b.v");
    if (same != 1) {
        fail_msg("%s %s: the server sees a difference", x->type, x->literal);
    }
    dr_free(a.data);
    dr_free(b.data);
}

static void every_mariadb_type_goes_there_and_back_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mariadb_samples / sizeof mariadb_samples[0]; i++) {
        check_sample(conn[DR_SQL_MARIADB], &mariadb_samples[i]);
    }
}

static void every_postgres_type_goes_there_and_back_exactly(void **state)
{
    (void)state;
    sql_do(conn[DR_SQL_POSTGRES], "CREATE TYPE mood AS ENUM ('bad', 'so, so')");
    sql_do(conn[DR_SQL_POSTGRES], "CREATE TYPE pair AS (a integer, b text)");
    for (size_t i = 0; i < sizeof postgres_samples / sizeof postgres_samples[0]; i++) {
        check_sample(conn[DR_SQL_POSTGRES], &postgres_samples[i]);
    }
}

static void large_values_come_whole_between_small_ones(void **state)
{
    static const int64_t sizes[] = {3, 5000000, 0, 128, 129, 1};
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = conn[d];
        char *data = dr_malloc(5000000);
        assert_non_null(data);
        for (size_t i = 0; i < 5000000; i++) {
            data[i] = (char)(i * 7 + i / 251);
        }
        sql_do(db, "DROP TABLE IF EXISTS big");
        sql_do(db, d == DR_SQL_MARIADB ? "CREATE TABLE big (i INT PRIMARY KEY, v LONGBLOB)"
                                       : "CREATE TABLE big (i INT PRIMARY KEY, v bytea)");
        for (int i = 0; i < 6; i++) {
            struct dr_value p[] = {sql_int(i), sql_blob(data, (size_t)sizes[i])};
            sql_must(dr_sqldb_exec(db, "INSERT INTO big VALUES (?, ?)", p, 2, NULL, &err), &err);
        }
        for (int i = 0; i < 6; i++) {
            struct seen s;
            struct dr_value p[] = {sql_int(i)};
            look(db, "SELECT v FROM big WHERE i >= ? ORDER BY i", p, 1, &s);
            assert_int_equal(s.rows, 6 - i);
            assert_int_equal(s.first.len, sizes[i]);
            assert_memory_equal(s.first.data == NULL ? data : s.first.data, data, s.first.len);
            dr_free(s.data);
        }
        dr_free(data);
    }
}

/* ---- parameters and statements ---- */

static void parameters_in_quotes_and_comments_are_not_touched(void **state)
{
    struct dr_value one = sql_text("one");
    (void)state;
    assert_sees(conn[DR_SQL_MARIADB], "SELECT CONCAT('a?''?', ?, '\\'?') /* ? */ -- ?\n # ?\n",
                &one, 1, "text a?'?one'?");
    struct dr_sqldb *pg = conn[DR_SQL_POSTGRES];
    assert_sees(pg, "SELECT 'a?''?' || ? /* ? /* ? */ ? */ -- ?\n", &one, 1, "text a?'?one");
    assert_sees(pg, "SELECT E'\\'?' || ?", &one, 1, "text '?one");
    assert_sees(pg, "SELECT $$?$$ || $q$?$$?$q$ || ?", &one, 1, "text ??$$?one");
    assert_sees(pg, "SELECT \"?\" || ? FROM (SELECT 'x'::text AS \"?\") t", &one, 1, "text xone");
    assert_sees(pg, "SELECT 'back\\' || ?", &one, 1, "text back\\one");
    assert_sees(pg, "SELECT '{\"one\": 1}'::jsonb ?? ?", &one, 1, "int 1");
    assert_sees(pg, "SELECT a$b.c || ? FROM (SELECT 'y'::text AS c) a$b", &one, 1, "text yone");
}

static void names_are_quoted_with_double_quotes_in_both(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_str sql;
        dr_str_init(&sql);
        dr_str_add(&sql, "SELECT 7 AS ");
        dr_sql_quote_name(&sql, "we\"i`rd'; -- na\\me?");
        assert_sees(conn[d], dr_str_text(&sql), NULL, 0, "int 7");
        dr_str_fini(&sql);
    }
}

static void wrong_parameters_are_refused(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_value v[] = {sql_int(1), {.type = DR_V_MAX}, {.type = DR_V_TAGGED}};
        struct seen s = {0};
        assert_int_equal(dr_sqldb_query(conn[d], "SELECT ?", v, 2, note_row, &s, &err), DR_INPUT);
        assert_int_equal(dr_sqldb_query(conn[d], "SELECT ?", v, 0, note_row, &s, &err), DR_INPUT);
        assert_int_equal(dr_sqldb_query(conn[d], "SELECT ?", &v[1], 1, note_row, &s, &err),
                         DR_INPUT);
        assert_int_equal(dr_sqldb_query(conn[d], "SELECT ?", &v[2], 1, note_row, &s, &err),
                         DR_INPUT);
        assert_int_equal(dr_sqldb_exec(conn[d], "SELECT 1; SELECT 2", NULL, 0, NULL, &err),
                         DR_INPUT);
        assert_int_equal(s.rows, 0);
        assert_sees(conn[d], "SELECT 1", NULL, 0, "int 1"); /* and the connection is well */
    }
    struct dr_value nul = {.type = DR_V_TEXT, .data = "a\0b", .len = 3};
    struct seen s = {0};
    assert_int_equal(
        dr_sqldb_query(conn[DR_SQL_POSTGRES], "SELECT ?::text", &nul, 1, note_row, &s, &err),
        DR_INPUT);
}

static void affected_rows_are_the_matched_ones_in_both(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        uint64_t n = 99;
        struct dr_value one = sql_int(1);
        sql_do(conn[d], "DROP TABLE IF EXISTS n");
        sql_do(conn[d], "CREATE TABLE n (a INT)");
        sql_must(dr_sqldb_exec(conn[d], "INSERT INTO n VALUES (1), (1), (2)", NULL, 0, &n, &err),
                 &err);
        assert_int_equal(n, 3);
        sql_must(dr_sqldb_exec(conn[d], "UPDATE n SET a = 1 WHERE a = ?", &one, 1, &n, &err), &err);
        assert_int_equal(n, 2);
        sql_must(dr_sqldb_exec(conn[d], "DELETE FROM n WHERE a = ?", &one, 1, &n, &err), &err);
        assert_int_equal(n, 2);
        sql_must(dr_sqldb_exec(conn[d], "DELETE FROM n WHERE a = ?", &one, 1, &n, &err), &err);
        assert_int_equal(n, 0);
    }
}

static enum dr_code stop_at_third(void *arg, const struct dr_value *value, uint32_t count,
                                  struct dr_err *e)
{
    uint32_t *rows = arg;
    (void)value;
    (void)count;
    return ++*rows == 3 ? dr_fail(e, DR_STOPPED, "enough") : DR_OK;
}

static void a_row_function_that_stops_leaves_the_connection_usable(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        uint32_t rows = 0;
        const char *sql = d == DR_SQL_MARIADB ? "SELECT seq FROM seq_1_to_100000"
                                              : "SELECT * FROM generate_series(1, 3000000)";
        assert_int_equal(dr_sqldb_query(conn[d], sql, NULL, 0, stop_at_third, &rows, &err),
                         DR_STOPPED);
        assert_string_equal(err.msg, "enough");
        assert_int_equal(rows, 3);
        assert_sees(conn[d], "SELECT 5", NULL, 0, "int 5");
    }
}

static void statements_beyond_the_prepared_ones_still_work(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 40; i++) {
                char sql[64];
                char expected[64];
                struct dr_value v = sql_int(i);
                (void)snprintf(sql, sizeof sql, "SELECT %d + ?", i);
                (void)snprintf(expected, sizeof expected, "int %d", 2 * i);
                assert_sees(conn[d], sql, &v, 1, expected);
            }
        }
    }
    assert_true(sql_number(conn[DR_SQL_MARIADB],
                           "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE "
                           "VARIABLE_NAME = 'Prepared_stmt_count'") <= 16);
}

static void a_changed_table_is_read_with_its_new_columns(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sql_do(conn[d], "DROP TABLE IF EXISTS c");
        sql_do(conn[d], "CREATE TABLE c (a INT)");
        sql_do(conn[d], "INSERT INTO c VALUES (1)");
        assert_sees(conn[d], "SELECT a FROM c", NULL, 0, "int 1");
        sql_do(conn[d], d == DR_SQL_MARIADB ? "ALTER TABLE c MODIFY a VARCHAR(9)"
                                            : "ALTER TABLE c ALTER a TYPE varchar(9)");
        assert_sees(conn[d], "SELECT a FROM c", NULL, 0, "text 1");
    }
}

static void one_value_is_the_first_of_the_first_row(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_arena *a = dr_arena_create(1024);
        struct dr_value v;
        bool is_found = false;
        sql_must(dr_sqldb_value(conn[d], "SELECT 'x', 1 UNION ALL SELECT 'y', 2", NULL, 0, a, &v,
                                &is_found, &err),
                 &err);
        assert_true(is_found && v.type == DR_V_TEXT && v.len == 1);
        assert_memory_equal(v.data, "x", 2);
        sql_must(dr_sqldb_value(conn[d], "SELECT 1 FROM (SELECT 1 AS a) t WHERE a = 2", NULL, 0, a,
                                &v, &is_found, &err),
                 &err);
        assert_false(is_found);
        sql_must(dr_sqldb_value(conn[d], "SELECT NULL", NULL, 0, a, &v, &is_found, &err), &err);
        assert_true(is_found && v.type == DR_V_NULL);
        dr_arena_destroy(a);
    }
}

static void the_session_says_what_it_is(void **state)
{
    (void)state;
    const struct dr_sqldb_info *m = dr_sqldb_info(conn[DR_SQL_MARIADB]);
    const struct dr_sqldb_info *p = dr_sqldb_info(conn[DR_SQL_POSTGRES]);
    assert_true(m->dialect == DR_SQL_MARIADB && !m->is_mysql && m->version > 100000);
    assert_string_equal(m->database, "drover");
    assert_string_equal(m->schema, "drover");
    assert_true(p->dialect == DR_SQL_POSTGRES && !p->is_mysql && p->version > 90000);
    assert_string_equal(p->database, "drover");
    assert_string_equal(p->schema, "public");
    assert_false(m->is_read_only || p->is_read_only);
    assert_sees(conn[DR_SQL_MARIADB], "SELECT @@tx_isolation", NULL, 0, "text READ-COMMITTED");
    assert_sees(conn[DR_SQL_MARIADB], "SELECT @@time_zone", NULL, 0, "text +00:00");
    assert_sees(conn[DR_SQL_POSTGRES], "SHOW transaction_isolation", NULL, 0,
                "text read committed");
}

static void a_file_of_the_client_is_not_given_to_the_server(void **state)
{
    (void)state;
    sql_do(conn[DR_SQL_MARIADB], "CREATE TABLE IF NOT EXISTS f (a TEXT)");
    enum dr_code rc =
        dr_sqldb_exec(conn[DR_SQL_MARIADB], "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE f",
                      NULL, 0, NULL, &err);
    assert_int_not_equal(rc, DR_OK);
    assert_int_equal(sql_number(conn[DR_SQL_MARIADB], "SELECT COUNT(*) FROM f"), 0);
    rc = dr_sqldb_exec(conn[DR_SQL_POSTGRES], "COPY (SELECT 1) TO STDOUT", NULL, 0, NULL, &err);
    assert_int_equal(rc, DR_UNSUPPORTED);
    assert_sees(conn[DR_SQL_POSTGRES], "SELECT 1", NULL, 0, "int 1");
}

/* Each allocation of drover's own fails once: the call says so, and the connection stays well. */
static void short_memory_is_said_and_survived(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_value p[] = {sql_text("text"), sql_int(5), sql_blob("\0b", 2)};
        const char *sql = d == DR_SQL_MARIADB ? "SELECT ?, ?, ?, REPEAT('z', 1000)"
                                              : "SELECT ?::text, ?::int, ?, repeat('z', 1000)";
        int failures = 0;
        for (uint64_t n = 1; n < 200; n++) {
            struct seen s = {.data = (char *)(uintptr_t) "not wanted"};
            dr_mem_fail_at(n);
            enum dr_code rc = dr_sqldb_query(conn[d], sql, p, 3, note_row, &s, &err);
            dr_mem_fail_at(0);
            if (rc == DR_OK) {
                assert_int_equal(s.columns, 4);
                break;
            }
            assert_int_equal(rc, DR_NOMEM);
            failures++;
        }
        assert_in_range(failures, 4, 100);
        assert_sees(conn[d], "SELECT 1", NULL, 0, "int 1");
    }
}

static void short_memory_while_opening_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        int failures = 0;
        for (uint64_t n = 1; n < 500; n++) {
            struct dr_sqldb *db = NULL;
            dr_mem_fail_at(n);
            enum dr_code rc = dr_sqldb_open(server[d].url, &db, &err);
            dr_mem_fail_at(0);
            if (rc == DR_OK) {
                dr_sqldb_close(db);
                break;
            }
            assert_int_equal(rc, DR_NOMEM);
            assert_null(db);
            failures++;
        }
        assert_in_range(failures, 10, 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mariadb_type_goes_there_and_back_exactly),
        cmocka_unit_test(every_postgres_type_goes_there_and_back_exactly),
        cmocka_unit_test(large_values_come_whole_between_small_ones),
        cmocka_unit_test(parameters_in_quotes_and_comments_are_not_touched),
        cmocka_unit_test(names_are_quoted_with_double_quotes_in_both),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(affected_rows_are_the_matched_ones_in_both),
        cmocka_unit_test(a_row_function_that_stops_leaves_the_connection_usable),
        cmocka_unit_test(statements_beyond_the_prepared_ones_still_work),
        cmocka_unit_test(a_changed_table_is_read_with_its_new_columns),
        cmocka_unit_test(one_value_is_the_first_of_the_first_row),
        cmocka_unit_test(the_session_says_what_it_is),
        cmocka_unit_test(a_file_of_the_client_is_not_given_to_the_server),
        cmocka_unit_test(short_memory_is_said_and_survived),
        cmocka_unit_test(short_memory_while_opening_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
