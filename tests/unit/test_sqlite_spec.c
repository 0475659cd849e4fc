/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/sqlite for requests of kind sql.purge: expressions, keys, evidence, and
 * whole tables. */
#include "base/mem.h"
#include "sqlite_store_help.h"

static const char table_sql[] =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, kind TEXT COLLATE NOCASE, e INT, data BLOB, twice "
    "GENERATED ALWAYS AS (e * 2));"
    "CREATE INDEX by_e ON t(e); CREATE UNIQUE INDEX by_data ON t(data);"
    "CREATE TABLE neighbour(x); INSERT INTO neighbour VALUES(1);"
    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500)"
    " INSERT INTO t SELECT i, CASE i % 3 WHEN 0 THEN 'old' WHEN 1 THEN NULL ELSE 'New' END,"
    " i % 10, CAST('d' || i AS BLOB) FROM c;";

static struct dr_range spec_range(const char *spec)
{
    struct dr_range r = plain_range("main.t");
    r.spec = spec;
    r.is_spec_of_request = true;
    return r;
}

static struct dr_survey *survey_spec(void *s, const char *spec, enum dr_code expected)
{
    struct dr_survey *survey = calloc(1, sizeof *survey);
    assert_non_null(survey);
    survey->arena = dr_arena_create(4096);
    assert_non_null(survey->arena);
    dr_err_clear(&err);
    enum dr_code rc = ops->survey_spec(s, spec, survey, &err);
    if (rc != expected) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
    return survey;
}

static void free_survey(struct dr_survey *survey)
{
    dr_arena_destroy(survey->arena);
    free(survey);
}

static void fail_survey(void *s, const char *spec, enum dr_code code, const char *part)
{
    free_survey(survey_spec(s, spec, code));
    assert_has(err.msg, part);
}

/* The numbers of the first identity column, in the order of the scan. */
static void expect_ids(void *s, const struct dr_range *r, const char *sql)
{
    struct dr_batch *b = scan_all(s, r, true);
    struct dr_sql db;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    must(dr_sql_open(&db, in_folder("spec.db"), 0, 5000, &err));
    must(dr_sql_prepare(&db, sql, &st, &err));
    for (uint64_t i = 0; i < b->count; i++) {
        struct dr_value v[2];
        uint32_t count = 0;
        must(dr_values_decode(b->item[i].key, b->item[i].key_len, v, 2, &count, &err));
        must(dr_sql_step(&db, st, &is_row, &err));
        assert_true(is_row);
        assert_int_equal(v[0].i, sqlite3_column_int64(st, 0));
    }
    must(dr_sql_step(&db, st, &is_row, &err));
    assert_false(is_row);
    (void)sqlite3_finalize(st);
    dr_sql_close(&db);
    dr_batch_destroy(b);
}

static void scan_and_count_follow_the_expression(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    static const char *const wheres[] = {"e < 3",
                                         "kind = 'OLD'",
                                         "kind IS NULL OR e = 9",
                                         "twice > 10 AND id % 2 = 0",
                                         "id IN (SELECT id FROM t WHERE e = 4)",
                                         "1",
                                         "0",
                                         "data = CAST('d7' AS BLOB)"};
    for (size_t i = 0; i < sizeof wheres / sizeof wheres[0]; i++) {
        char spec[200];
        char sql[200];
        uint64_t rows = 0;
        (void)snprintf(spec, sizeof spec, "{\"table\":\"t\",\"where\":\"%s\"}", wheres[i]);
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM t WHERE (%s)", wheres[i]);
        struct dr_range r = spec_range(spec);
        must(ops->count(s, &r, &rows, &err));
        assert_int_equal(rows, ask_file("spec.db", sql));
        (void)snprintf(sql, sizeof sql, "SELECT id FROM t WHERE (%s) ORDER BY id", wheres[i]);
        expect_ids(s, &r, sql);
    }
    ops->close(s);
}

static void a_key_is_walked_in_its_own_order_up_to_the_last(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    struct dr_range r = spec_range("{\"table\":\"t\",\"where\":\"id > 3\",\"last_key\":[100]}");
    expect_ids(s, &r, "SELECT id FROM t WHERE id > 3 AND id <= 100 ORDER BY id");
    r = spec_range("{\"table\":\"t\",\"where\":\"id > 3\",\"key\":[\"e\"],\"last_key\":[5]}");
    expect_ids(s, &r, "SELECT id FROM t WHERE id > 3 AND e <= 5 ORDER BY e, id");
    r = spec_range("{\"table\":\"t\",\"where\":\"e < 4\",\"key\":[\"data\"]}");
    expect_ids(s, &r, "SELECT id FROM t WHERE e < 4 ORDER BY data");
    uint64_t rows = 0;
    r = spec_range("{\"table\":\"t\",\"where\":\"1\",\"key\":[\"kind\"]}");
    assert_int_equal(ops->count(s, &r, &rows, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "no index of table t begins with the key kind");
    r = spec_range("{\"table\":\"t\",\"where\":\"1\",\"last_key\":[null]}");
    assert_int_equal(ops->count(s, &r, &rows, &err), DR_INPUT);
    r = spec_range("{\"table\":\"t\",\"where\":\"1) OR (1=1\"}");
    assert_int_equal(ops->count(s, &r, &rows, &err), DR_INPUT);
    ops->close(s);
}

static void tables_of_every_form_are_walked(void **state)
{
    (void)state;
    void *s =
        open_fresh("spec.db", "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 2), (3, 4), (1, 2);");
    struct dr_range r =
        spec_range("{\"table\":\"t\",\"where\":\"a = 1\",\"key\":[\"rowid\"],\"last_key\":[3]}");
    expect_ids(s, &r, "SELECT rowid FROM t WHERE a = 1 ORDER BY rowid");
    ops->close(s);
    s = open_fresh("spec.db", "CREATE TABLE t(a INT, b TEXT, PRIMARY KEY(a, b)) WITHOUT ROWID;"
                              "INSERT INTO t VALUES(1, 'x'), (1, 'y'), (2, 'a'), (3, 'c');");
    r = spec_range(
        "{\"table\":\"t\",\"where\":\"1\",\"key\":[\"a\",\"b\"],\"last_key\":[2,\"a\"]}");
    expect_ids(s, &r, "SELECT a FROM t WHERE a < 3 ORDER BY a, b");
    ops->close(s);
}

/* The evidence, and the text that goes on into the request. */
static void the_survey_brings_key_counts_and_plan(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    struct dr_survey *v = survey_spec(s, "{\"table\":\"t\",\"where\":\"e < 3\"}", DR_OK);
    assert_int_equal(v->collection_count, 1);
    const struct dr_collection *c = &v->collection[0];
    assert_string_equal(c->name, "main.t");
    assert_int_equal(c->rows_total, 500);
    assert_int_equal(c->rows_matched, 150);
    assert_int_equal(c->chunk_count, 1);
    assert_int_equal(c->chunk[0].rows, 150);
    assert_true(c->chunk[0].is_rows_known);
    assert_has(v->extra, "\"key\":[\"id\"]");
    assert_has(v->extra, "\"key_index\":\"PRIMARY KEY\"");
    assert_has(v->extra, "\"key_is_unique\":true");
    assert_has(v->extra, "\"last_key\":[500]");
    assert_has(v->extra, "\"uses_index\":true");
    assert_has(v->extra, "\"serves\":false");
    assert_has(v->extra, "\"matches_all\":false");
    assert_has(v->extra, "INTEGER PRIMARY KEY");
    free_survey(v);
    v = survey_spec(s, "{\"table\":\"t\",\"where\":\"e < 3\",\"key\":[\"e\"]}", DR_OK);
    assert_has(v->extra, "\"key\":[\"e\"]");
    assert_has(v->extra, "\"key_index\":\"by_e\"");
    assert_has(v->extra, "\"last_key\":[9]");
    assert_has(v->extra, "\"serves\":true");
    free_survey(v);
    v = survey_spec(s, "{\"table\":\"t\",\"where\":\"id < 40\"}", DR_OK);
    assert_has(v->extra, "\"serves\":true");
    free_survey(v);
    v = survey_spec(s, "{\"table\":\"t\",\"where\":\"e >= 0\"}", DR_OK);
    assert_has(v->extra, "\"matches_all\":true");
    free_survey(v);
    ops->close(s);
}

static void a_rowid_table_has_the_rowid_for_its_key(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", "CREATE TABLE t(a TEXT PRIMARY KEY); INSERT INTO t VALUES('x');"
                                    "CREATE VIEW v AS SELECT * FROM t;");
    struct dr_survey *v = survey_spec(s, "{\"table\":\"t\",\"where\":\"a = 'x'\"}", DR_OK);
    assert_has(v->extra, "\"key\":[\"rowid\"]");
    assert_has(v->extra, "\"last_key\":[1]");
    free_survey(v);
    v = survey_spec(s, "{\"table\":\"v\",\"where\":\"a = 'x'\"}", DR_OK);
    assert_true(v->collection[0].is_view);
    free_survey(v);
    ops->close(s);
}

static void bad_expressions_are_input_errors(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    fail_survey(s, "{\"table\":\"t\",\"where\":\"nope < 3\"}", DR_INPUT, "nope");
    /* Not a text that is greater than every number. */
    fail_survey(s, "{\"table\":\"t\",\"where\":\"\\\"nope\\\" > 3\"}", DR_INPUT, "nope");
    fail_survey(s, "{\"table\":\"t\",\"where\":\"e < :x\"}", DR_INPUT, "a parameter");
    fail_survey(s, "{\"table\":\"t\",\"where\":\"e <\"}", DR_INPUT, "where");
    fail_survey(s, "{\"table\":\"t\",\"where\":\"count(*) > 1\"}", DR_INPUT, "where");
    fail_survey(s, "{\"table\":\"u\",\"where\":\"1\"}", DR_NOT_FOUND, "no table \"u\"");
    fail_survey(s, "{\"where\":\"1\"}", DR_INPUT, "names no table");
    fail_survey(s, "{\"table\":\"t\",\"where\":\"1\",\"key\":[\"kind\"]}", DR_UNSUPPORTED, "kind");
    ops->close(s);
    s = open_sharded("range", "[\"a\"]", "CREATE TABLE \"d.t\"(a, h);");
    fail_survey(s, "{\"table\":\"t\",\"where\":\"1\"}", DR_UNSUPPORTED, "kind \"purge\"");
    ops->close(s);
}

static void children_are_told(void **state)
{
    (void)state;
    void *s = open_fresh(
        "spec.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, up REFERENCES t ON DELETE CASCADE);"
                   "CREATE TABLE kid(t REFERENCES t ON DELETE CASCADE);"
                   "CREATE TABLE aunt(t REFERENCES t);");
    struct dr_survey *v = survey_spec(s, "{\"table\":\"t\",\"where\":\"id = 1\"}", DR_OK);
    assert_has(v->extra, "\"cascades\":[{\"rule\":\"CASCADE\",\"table\":\"kid\"}]");
    assert_has(v->collection[0].warning, "aunt");
    assert_true(v->collection[0].has_reference);
    free_survey(v);
    ops->close(s);
}

static void erase_compares_and_rollback_brings_back(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    struct dr_range r = spec_range("{\"table\":\"t\",\"where\":\"e < 3\"}");
    struct dr_tally tally;
    char *before = dump_table("spec.db", "* FROM t ORDER BY id");
    struct dr_batch *b = scan_all(s, &r, true);
    must(ops->erase(s, &r, b, &tally, &err));
    assert_tally(&tally, 150, 0, 0);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM t"), 350);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM neighbour"), 1);
    must(ops->probe(s, &r, b, &tally, &err));
    assert_tally(&tally, 0, 150, 0);
    must(ops->restore(s, &r, b, &tally, &err));
    assert_int_equal(tally.restored, 150);
    char *after = dump_table("spec.db", "* FROM t ORDER BY id");
    assert_string_equal(before, after);
    /* One row changed meanwhile: it stays. */
    change_file("spec.db", "UPDATE t SET kind = 'kept' WHERE id = 10");
    must(ops->erase(s, &r, b, &tally, &err));
    assert_tally(&tally, 149, 0, 1);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM t WHERE kind = 'kept'"), 1);
    dr_free(before);
    dr_free(after);
    dr_batch_destroy(b);
    ops->close(s);
}

static void without_values_the_expression_decides_again(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    struct dr_range r = spec_range("{\"table\":\"t\",\"where\":\"e < 3\"}");
    struct dr_tally tally;
    struct dr_batch *b = scan_all(s, &r, false);
    change_file("spec.db",
                "UPDATE t SET e = 7 WHERE id = 10; UPDATE t SET kind = 'x' WHERE id = 11");
    must(ops->probe(s, &r, b, &tally, &err));
    assert_int_equal(tally.same, 149);
    assert_int_equal(tally.changed, 1);
    must(ops->erase(s, &r, b, &tally, &err));
    assert_tally(&tally, 149, 0, 1);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM t WHERE id IN (10, 11)"), 1);
    dr_batch_destroy(b);
    ops->close(s);
}

/* --- whole tables --- */

static void run(void *s, const char *text, enum dr_code expected)
{
    dr_err_clear(&err);
    enum dr_code rc = ops->command(s, "main", text, &err);
    if (rc != expected) {
        print_error("%s: %s: %s\n", text, dr_code_name(rc), err.msg);
        fail();
    }
}

static void a_table_is_held_given_back_and_dropped(void **state)
{
    (void)state;
    static const char away[] = "ALTER TABLE \"main\".\"t\" RENAME TO \"t_drover_hold\"";
    static const char back[] = "ALTER TABLE \"main\".\"t_drover_hold\" RENAME TO \"t\"";
    static const char drop[] = "DROP HELD TABLE \"main\".\"t_drover_hold\"";
    void *s = open_fresh("spec.db", table_sql);
    char *before = dump_table("spec.db", "* FROM t ORDER BY id");
    run(s, away, DR_OK);
    run(s, away, DR_OK); /* repeated after a lost answer */
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM t_drover_hold"), 500);
    run(s, "HOLD UNTIL 99999999999999", DR_BRAKED);
    assert_has(err.msg, "held until");
    run(s, "HOLD UNTIL 1", DR_OK);
    run(s, back, DR_OK);
    run(s, back, DR_OK);
    char *after = dump_table("spec.db", "* FROM t ORDER BY id");
    assert_string_equal(before, after);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM sqlite_master WHERE name = 'by_e'"),
                     1);
    run(s, away, DR_OK);
    change_file("spec.db", "CREATE TABLE t(x)");
    run(s, back, DR_CONFLICT);
    run(s, away, DR_CONFLICT);
    run(s, drop, DR_OK);
    run(s, drop, DR_OK);
    assert_int_equal(
        ask_file("spec.db", "SELECT count(*) FROM sqlite_master WHERE name = 't_drover_hold'"), 0);
    run(s, "ALTER TABLE \"main\".\"zz\" RENAME TO \"zz_drover_hold\"", DR_NOT_FOUND);
    run(s, "TRUNCATE TABLE \"main\".\"t\"", DR_UNSUPPORTED);
    run(s, "DROP HELD TABLE \"main\".\"neighbour\"", DR_INPUT);
    run(s, "ALTER TABLE \"main\".\"t\" ADD COLUMN y", DR_INPUT);
    assert_int_equal(ask_file("spec.db", "SELECT count(*) FROM neighbour"), 1);
    dr_free(before);
    dr_free(after);
    ops->close(s);
}

static void short_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    void *s = open_fresh("spec.db", table_sql);
    uint64_t n = 1;
    for (enum dr_code rc = DR_NOMEM; rc != DR_OK; n++) {
        struct dr_survey survey = {.arena = dr_arena_create(64 * 1024)};
        assert_non_null(survey.arena);
        dr_err_clear(&err);
        (void)dr_mem_fail_at(n);
        rc = ops->survey_spec(s, "{\"table\":\"t\",\"where\":\"e < 3\",\"key\":[\"e\"]}", &survey,
                              &err);
        (void)dr_mem_fail_at(0);
        dr_arena_destroy(survey.arena);
        if (rc != DR_OK) {
            assert_int_equal(rc, DR_NOMEM);
        }
        assert_true(n < 5000);
    }
    assert_true(n > 10);
    ops->close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_and_count_follow_the_expression),
        cmocka_unit_test(a_key_is_walked_in_its_own_order_up_to_the_last),
        cmocka_unit_test(tables_of_every_form_are_walked),
        cmocka_unit_test(the_survey_brings_key_counts_and_plan),
        cmocka_unit_test(a_rowid_table_has_the_rowid_for_its_key),
        cmocka_unit_test(bad_expressions_are_input_errors),
        cmocka_unit_test(children_are_told),
        cmocka_unit_test(erase_compares_and_rollback_brings_back),
        cmocka_unit_test(without_values_the_expression_decides_again),
        cmocka_unit_test(a_table_is_held_given_back_and_dropped),
        cmocka_unit_test(short_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
