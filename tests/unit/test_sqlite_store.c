/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/sqlite that are its own: rows come back bit for bit, what changed is left
 * alone, failures are told apart. tests/conform has what all stores share. */
#include "unit/sqlite_store_help.h"

/* ---- round trips ---- */

static const char *const rows_of_all_types =
    "INSERT INTO t(a, b) VALUES(1, NULL), (2, -9223372036854775808), (3, 9223372036854775807),"
    "(4, 0.1), (5, -9e999), (6, 9e999), (7, 1e300), (8, ''), (9, x''), (10, 'plain'),"
    "(11, CAST(x'fffe00c3' AS TEXT)), (12, x'00ff00'), (13, 'q\"uote'), (14, 5e-324),"
    "(15, CAST(x'61006200' AS TEXT)), (16, 9007199254740993), (17, -0.0), (18, zeroblob(70000));";

static const struct {
    const char *create;
    const char *dump;
} shapes[] = {
    {"CREATE TABLE t(a, b)", "rowid, * FROM t ORDER BY rowid"},
    {"CREATE TABLE t(b, a INTEGER PRIMARY KEY)", "* FROM t ORDER BY a"},
    {"CREATE TABLE t(a INTEGER PRIMARY KEY DESC, b)", "rowid, * FROM t ORDER BY rowid"},
    {"CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b)", "* FROM t ORDER BY a"},
    {"CREATE TABLE t(b, a PRIMARY KEY) WITHOUT ROWID", "* FROM t ORDER BY a"},
    {"CREATE TABLE t(a, b, c DEFAULT 'x' COLLATE NOCASE, PRIMARY KEY(c, a DESC)) WITHOUT ROWID",
     "* FROM t ORDER BY a"},
    {"CREATE TABLE t(a, b, rowid DEFAULT 'no')", "oid, * FROM t ORDER BY oid"},
    {"CREATE TABLE t(a, b, ROWID, _RowId_ TEXT)", "oid, * FROM t ORDER BY oid"},
    {"CREATE TABLE t(a INTEGER PRIMARY KEY, b, rowid, _rowid_, oid)", "* FROM t ORDER BY a"},
    {"CREATE TABLE t(a, b, g AS (a + 1), s AS (b || 'x') STORED)",
     "rowid, * FROM t ORDER BY rowid"},
    {"CREATE TABLE t(a, \"we\"\"ird, [name]\" DEFAULT 5, b)", "rowid, * FROM t ORDER BY rowid"},
    {"CREATE TABLE t(a INT, b ANY) STRICT", "rowid, * FROM t ORDER BY rowid"},
};

static void erase_and_restore(void *s, const char *dump, struct dr_batch *b)
{
    struct dr_range r = plain_range("main.t");
    struct dr_tally t = {0};
    char *before = dump_table("f.db", dump);
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, b->count, 0, 0);
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t"), 0);
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, 0, b->count, 0);
    must(ops->probe(s, &r, b, &t, &err));
    assert_int_equal(t.absent, b->count);
    must(ops->restore(s, &r, b, &t, &err));
    assert_int_equal(t.restored, b->count);
    must(ops->restore(s, &r, b, &t, &err));
    assert_int_equal(t.same, b->count);
    must(ops->probe(s, &r, b, &t, &err));
    assert_int_equal(t.same, b->count);
    char *after = dump_table("f.db", dump);
    assert_string_equal(before, after);
    dr_free(before);
    dr_free(after);
}

static void rows_of_every_shape_come_back_bit_for_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char sql[2000];
        (void)snprintf(sql, sizeof sql, "%s;%s", shapes[i].create, rows_of_all_types);
        void *s = open_fresh("f.db", sql);
        struct dr_range r = plain_range("main.t");
        struct dr_batch *marked = new_batch(); /* unchanged since it was read */
        must(scan(s, &r, 100, true, NULL, marked));
        assert_int_equal(marked->count, 18);
        assert_true(marked->is_end);
        struct dr_batch *all = scan_all(s, &r, true); /* compared row by row */
        assert_int_equal(all->count, 18);
        for (int k = 0; k < 18; k++) {
            assert_int_equal(all->item[k].value_len, marked->item[k].value_len);
            assert_memory_equal(all->item[k].value, marked->item[k].value, all->item[k].value_len);
        }
        erase_and_restore(s, shapes[i].dump, marked);
        erase_and_restore(s, shapes[i].dump, all);
        dr_batch_destroy(marked);
        dr_batch_destroy(all);
        ops->close(s);
    }
}

static void rows_without_a_name_are_refused(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(rowid, _rowid_, oid);"
                                 "CREATE VIEW v AS SELECT 1 AS one;");
    struct dr_batch *b = new_batch();
    struct dr_range r = plain_range("main.t");
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_UNSUPPORTED);
    assert_has(err.msg, "_rowid_");
    r.collection = "main.v";
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_UNSUPPORTED);
    dr_batch_destroy(b);
    ops->close(s);
}

static void tables_of_2000_columns_work(void **state)
{
    (void)state;
    struct dr_str sql;
    dr_str_init(&sql);
    dr_str_add(&sql, "CREATE TABLE t(a, b");
    for (int i = 2; i < 2000; i++) {
        dr_str_addf(&sql, ", c%d DEFAULT %d", i, i);
    }
    dr_str_add(&sql, ");");
    dr_str_add(&sql, rows_of_all_types);
    void *s = open_fresh("f.db", dr_str_text(&sql));
    dr_str_fini(&sql);
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    must(scan(s, &r, 100, true, NULL, b));
    assert_int_equal(b->count, 18);
    erase_and_restore(s, "* FROM t ORDER BY rowid", b);
    dr_batch_destroy(b);
    ops->close(s);
}

/* ---- what changed is left alone ---- */

static void change_and_erase(const char *journal)
{
    char sql[300];
    (void)snprintf(sql, sizeof sql,
                   "PRAGMA journal_mode=%s;"
                   "CREATE TABLE t(a INTEGER PRIMARY KEY, b, c AS (b || '!'));"
                   "INSERT INTO t VALUES(1, 'x'), (2, 'x'), (3, 'x'), (4, 'x'), (5, "
                   "'x'), (6, 'x');",
                   journal);
    void *s = open_fresh("f.db", sql);
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 100, true, NULL, b));
    change_file("f.db", "UPDATE t SET b = 'y' WHERE a = 2; DELETE FROM t WHERE a = 3;"
                        "INSERT INTO t VALUES(7, 'new');");
    must(ops->probe(s, &r, b, &t, &err));
    assert_int_equal(t.same, 4);
    assert_int_equal(t.changed, 1);
    assert_int_equal(t.absent, 1);
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, 4, 1, 1);
    assert_int_equal(ask_file("f.db", "SELECT sum(a) FROM t"), 9);
    /* Without values: what the filter, on a generated column here, no longer selects. */
    change_file("f.db", "INSERT INTO t VALUES(10, 'x'), (11, 'x');");
    struct dr_value v = {.type = DR_V_TEXT, .data = "x!", .len = 2};
    struct dr_filter f = {.term_count = 1, .term = {{"c", DR_F_EQ, 1, &v}}};
    r.filter = &f;
    must(scan(s, &r, 100, false, NULL, b));
    assert_int_equal(b->count, 2);
    assert_null(b->item[0].value);
    change_file("f.db", "UPDATE t SET b = 'y' WHERE a = 11");
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, 1, 0, 1);
    dr_batch_destroy(b);
    ops->close(s);
}

static void changed_rows_are_left_alone(void **state)
{
    (void)state;
    change_and_erase("DELETE");
    change_and_erase("WAL");
}

/* Marks tell the state of one table's file only; the rowids here are the same in both. */
static void a_batch_of_another_table_erases_nothing(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a); CREATE TABLE u(a);"
                                 "INSERT INTO t VALUES(1), (2); INSERT INTO u VALUES(3), (4);");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 100, true, NULL, b));
    r.collection = "main.u";
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, 0, 0, 2);
    dr_batch_destroy(b);
    ops->close(s);
}

/* A batch of unchanged rows may be deleted by intervals: never what is not of it. */
static void rows_between_those_of_a_batch_stay(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                                 "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
                                 "WHERE n < 300) INSERT INTO t SELECT n, n % 10 < 7 FROM g;"
                                 "INSERT INTO t VALUES(9223372036854775807, 1),"
                                 "(-9223372036854775808, 1), (-9223372036854775807, 1);");
    struct dr_value v = {.type = DR_V_INT, .i = 1};
    struct dr_filter f = {.term_count = 1, .term = {{"b", DR_F_EQ, 1, &v}}};
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    r.filter = &f;
    must(scan(s, &r, 1000, true, NULL, b));
    assert_int_equal(b->count, 213);
    must(ops->erase(s, &r, b, &t, &err));
    assert_tally(&t, 213, 0, 0);
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t WHERE b = 0"), 90);
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t WHERE b = 1"), 0);
    dr_batch_destroy(b);
    ops->close(s);
}

static void restoring_leaves_others_alone(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a INTEGER PRIMARY KEY ON CONFLICT REPLACE,"
                                 " b UNIQUE ON CONFLICT REPLACE);"
                                 "INSERT INTO t VALUES(1, 'x'), (2, 'y'), (3, 'z');");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 100, true, NULL, b));
    must(ops->erase(s, &r, b, &t, &err));
    change_file("f.db", "INSERT INTO t VALUES(1, 'other'), (9, 'y');");
    must(ops->restore(s, &r, b, &t, &err));
    assert_int_equal(t.restored, 1);
    assert_int_equal(t.conflicts, 2);
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t WHERE b IN ('other', 'y')"), 2);
    change_file("f.db", "DELETE FROM t; ALTER TABLE t ADD COLUMN c;");
    assert_int_equal(ops->restore(s, &r, b, &t, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "restore the columns first");
    change_file("f.db", "DROP TABLE t; CREATE TABLE t(a INTEGER PRIMARY KEY);");
    assert_int_equal(ops->restore(s, &r, b, &t, &err), DR_UNSUPPORTED);
    change_file("f.db", "DROP TABLE t;");
    assert_int_equal(ops->restore(s, &r, b, &t, &err), DR_NOT_FOUND);
    dr_batch_destroy(b);
    ops->close(s);
}

static void restoring_never_lowers_a_sequence(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b);"
                                 "INSERT INTO t VALUES(1, 1), (70, 1);");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 1, true, NULL, b));
    must(ops->erase(s, &r, b, &t, &err));
    must(ops->restore(s, &r, b, &t, &err));
    assert_int_equal(ask_file("f.db", "SELECT seq FROM sqlite_sequence"), 70);
    dr_batch_destroy(b);
    ops->close(s);
}

static void tables_with_triggers_are_refused(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a); CREATE TABLE u(a); INSERT INTO t VALUES(1);");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 9, true, NULL, b));
    change_file("f.db", "CREATE TRIGGER g AFTER DELETE ON T BEGIN DELETE FROM u; END");
    assert_int_equal(ops->erase(s, &r, b, &t, &err), DR_REFUSED);
    assert_int_equal(ops->restore(s, &r, b, &t, &err), DR_REFUSED);
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t"), 1);
    dr_batch_destroy(b);
    ops->close(s);
}

static void a_changed_layout_erases_nothing(void **state)
{
    (void)state;
    void *s = open_sharded("range", "[\"a\"]",
                           "CREATE TABLE \"d.t\"(a, b); INSERT INTO \"d.t\" VALUES(1, 1);");
    struct dr_range r = {.node = "s1", .collection = "d.t", .access = DR_BY_SCAN, .epoch = 7};
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    uint64_t epoch = 0;
    must(scan(s, &r, 9, true, NULL, b));
    change_file("layout.db", "UPDATE drover_collections SET epoch = 8");
    assert_int_equal(ops->erase(s, &r, b, &t, &err), DR_STALE);
    assert_tally(&t, 0, 0, 0);
    assert_int_equal(ask_file("s1.db", "SELECT count(*) FROM \"d.t\""), 1);
    must(ops->epoch(s, "d.t", &epoch, &err));
    assert_int_equal(epoch, 8);
    change_file("layout.db", "DELETE FROM drover_collections");
    assert_int_equal(ops->epoch(s, "d.t", &epoch, &err), DR_NOT_FOUND);
    dr_batch_destroy(b);
    ops->close(s);
}

static void a_lying_hash_stops_the_walk(void **state)
{
    (void)state;
    static const char *const lies[] = {"h + 1", "NULL", "'text'", "CAST(h AS BLOB)"};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct dr_value user = {.type = DR_V_TEXT, .data = "u", .len = 1};
        char sql[300];
        (void)snprintf(sql, sizeof sql,
                       "CREATE TABLE \"d.t\"(id INTEGER PRIMARY KEY, a, h INTEGER);"
                       "INSERT INTO \"d.t\" VALUES(42, 'u', %" PRId64 ");",
                       dr_value_hash(&user));
        void *s = open_sharded("hashed", "[\"a\"]", sql);
        struct dr_range r = {.node = "s1",
                             .collection = "d.t",
                             .access = DR_BY_SHARD_HASHED,
                             .key_count = 1,
                             .key = {"a"},
                             .epoch = 7};
        struct dr_batch *b = new_batch();
        must(scan(s, &r, 9, true, NULL, b));
        assert_int_equal(b->count, 1);
        (void)snprintf(sql, sizeof sql, "UPDATE \"d.t\" SET h = %s", lies[i]);
        change_file("s1.db", sql);
        assert_int_equal(scan(s, &r, 9, true, NULL, b), DR_CORRUPT);
        assert_has(err.msg, "node s1");
        assert_has(err.msg, "d.t");
        assert_has(err.msg, "row 42");
        dr_batch_destroy(b);
        ops->close(s);
    }
}

/* ---- limits ---- */

static void batches_keep_to_their_budget(void **state)
{
    (void)state;
    void *s = open_fresh("f.db", "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                                 "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
                                 "WHERE n < 1000) INSERT INTO t SELECT n, zeroblob(100) FROM g;");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_budget budget = {
        .items_max = 1000, .bytes_max = 1, .ms_max = 60000, .with_values = true};
    must(ops->scan(s, &r, &budget, NULL, b, &err));
    assert_int_equal(b->count, 1); /* one is always allowed */
    assert_false(b->is_end);
    budget.bytes_max = 1500;
    dr_batch_reset(b);
    must(ops->scan(s, &r, &budget, NULL, b, &err));
    assert_in_range(b->bytes, 1300, 1500);
    budget.bytes_max = UINT64_MAX;
    budget.ms_max = 0;
    dr_batch_reset(b);
    must(ops->scan(s, &r, &budget, NULL, b, &err));
    assert_int_equal(b->count, 64); /* the clock is asked every 64 rows */
    budget.ms_max = 60000;
    dr_batch_reset(b);
    must(ops->scan(s, &r, &budget, NULL, b, &err));
    assert_int_equal(b->count, 1000);
    assert_true(b->is_end);
    struct dr_cursor end = b->after;
    dr_batch_reset(b);
    must(ops->scan(s, &r, &budget, &end, b, &err));
    assert_int_equal(b->count, 0);
    assert_true(b->is_end);
    end.len--;
    assert_int_equal(scan(s, &r, 9, true, &end, b), DR_CORRUPT);
    ops->close(s);
    s = open_fresh("f.db", "CREATE TABLE t(a, b PRIMARY KEY) WITHOUT ROWID;"
                           "INSERT INTO t VALUES(1, zeroblob(20000));");
    assert_int_equal(scan(s, &r, 9, true, NULL, b), DR_UNSUPPORTED);
    assert_has(err.msg, "20");
    dr_batch_destroy(b);
    ops->close(s);
}

/* ---- commands ---- */

static void commands_may_be_repeated(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum dr_code rc;
    } rows[] = {
        {"CREATE TABLE \"x.y\"(a, b DEFAULT 'semi;colon'); -- note; more\n"
         "CREATE /* ; */ UNIQUE INDEX IF NOT EXISTS i ON \"x.y\"(a);",
         DR_OK},
        {"CREATE TABLE [x.y](a); create index main.I on 'x.y'(b)", DR_OK}, /* both are there */
        {"CREATE TABLE full(a)", DR_OK},
        {"CREATE INDEX i ON full(a)", DR_CONFLICT},
        {"CREATE INDEX j ON nowhere(a)", DR_INPUT},
        {"CREATE TABLE i(a)", DR_CONFLICT},
        {"DROP INDEX IF EXISTS i; DROP INDEX i; DROP TABLE never; DROP VIEW no", DR_OK},
        {" ;; DROP TABLE `x.y`;", DR_OK},
        {"", DR_OK},
        {"DELETE FROM full", DR_REFUSED},
        {"CREATE TABLE ok(a); DROP TRIGGER g", DR_REFUSED},
        {"CREATE TABLE copy AS SELECT 1", DR_REFUSED},
        {"CREATE TEMP TABLE z(a)", DR_REFUSED},
        {"CREATE VIEW z AS SELECT 1", DR_REFUSED},
        {"CREATE VIRTUAL TABLE z USING fts5(a)", DR_REFUSED},
        {"DROP TABLE temp.z", DR_REFUSED},
        {"DROP TABLE sqlite_master", DR_REFUSED},
        {"DROP TABLE drover_shards", DR_REFUSED},
        {"DROP TABLE", DR_REFUSED},
        {"PRAGMA journal_mode=OFF", DR_REFUSED},
        {"CREATE TABLE \"open(a)", DR_INPUT},
    };
    void *s = open_fresh("f.db", "CREATE TABLE unrelated(a)");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum dr_code rc = ops->command(s, "main", rows[i].text, &err);
        if (rc != rows[i].rc) {
            print_error("%s: %s %s\n", rows[i].text, dr_code_name(rc), err.msg);
        }
        assert_int_equal(rc, rows[i].rc);
    }
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM sqlite_master"), 2);
    change_file("f.db", "INSERT INTO full VALUES(1)");
    assert_int_equal(ops->command(s, "main", "CREATE TABLE u(a); DROP TABLE full", &err),
                     DR_REFUSED);
    assert_has(err.msg, "still has rows");
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM sqlite_master"), 2); /* no u either */
    assert_int_equal(ops->command(s, "other", "DROP TABLE u", &err), DR_NOT_FOUND);
    ops->close(s);
}

/* ---- survey ---- */

static enum dr_code survey(void *s, const char *database, const struct dr_filter *f,
                           struct dr_survey *out)
{
    *out = (struct dr_survey){.arena = dr_arena_create(4096)};
    assert_non_null(out->arena);
    return ops->survey(s, database, f, out, &err);
}

static const struct dr_collection *find_collection(const struct dr_survey *v, const char *name)
{
    for (uint32_t i = 0; i < v->collection_count; i++) {
        if (strcmp(v->collection[i].name, name) == 0) {
            return &v->collection[i];
        }
    }
    fail_msg("no collection %s", name);
    return NULL;
}

static void a_survey_of_a_plain_file_tells_what_may_be_erased(void **state)
{
    (void)state;
    void *s = open_fresh(
        "f.db", "CREATE TABLE p(id INTEGER PRIMARY KEY, a, b);"
                "CREATE UNIQUE INDEX p1 ON p(a, b); CREATE INDEX p2 ON p(a) WHERE b > 1;"
                "CREATE INDEX p3 ON p(a + 1); CREATE INDEX p4 ON p(a DESC);"
                "CREATE INDEX p5 ON p(b COLLATE NOCASE);"
                "INSERT INTO p VALUES(1, 1, 1), (2, 2, NULL);"
                "CREATE TABLE c(p REFERENCES p(id), c REFERENCES c(p));"
                "CREATE VIEW v AS SELECT * FROM p; CREATE TABLE a(i INTEGER PRIMARY KEY"
                " AUTOINCREMENT); CREATE TRIGGER g AFTER INSERT ON c BEGIN SELECT 1; END;");
    struct dr_value v = {.type = DR_V_INT, .i = 1};
    struct dr_filter f = {.term_count = 1, .term = {{"b", DR_F_EQ, 1, &v}}};
    struct dr_survey got;
    must(survey(s, "main", &f, &got));
    assert_int_equal(got.node_count, 1);
    const struct dr_collection *p = find_collection(&got, "main.p");
    assert_int_equal(p->rows_total, 2);
    assert_int_equal(p->rows_matched, 1);
    assert_int_equal(p->chunk_count, 1);
    assert_int_equal(p->chunk[0].rows, 1);
    assert_true(p->has_reference && !p->has_triggers && !p->is_view && !p->is_system);
    assert_int_equal(p->index_count, 5);
    assert_true(p->index[0].is_unique && !p->index[0].is_partial);
    assert_int_equal(p->index[0].field_count, 2);
    assert_string_equal(p->index[0].field[1], "b");
    for (int i = 1; i < 5; i++) {
        assert_true(p->index[i].is_partial);
    }
    assert_string_equal(p->drop_text, "DROP TABLE \"p\"");
    const struct dr_collection *c = find_collection(&got, "main.c");
    assert_true(!c->has_reference && c->has_triggers);
    assert_has(c->warning, "has no field \"b\"");
    assert_int_equal(c->rows_matched, 0);
    assert_true(find_collection(&got, "main.v")->is_view);
    assert_true(find_collection(&got, "main.sqlite_sequence")->is_system);
    /* What it says about making and dropping can be run as it is. */
    change_file("f.db", "DELETE FROM p");
    must(ops->command(s, "main", p->drop_text, &err));
    must(ops->command(s, "main", p->create_text, &err));
    assert_int_equal(ask_file("f.db", "SELECT count(*) FROM pragma_index_list('p')"), 5);
    dr_arena_destroy(got.arena);
    ops->close(s);
}

static void a_survey_of_a_layout_warns_of_what_is_odd(void **state)
{
    (void)state;
    void *s = open_sharded("range", "[\"a\"]",
                           "CREATE TABLE \"d.t\"(a); INSERT INTO \"d.t\" VALUES(NULL), (4), (5), "
                           "('x');");
    struct dr_survey got;
    must(survey(s, "d", NULL, &got));
    const struct dr_collection *c = find_collection(&got, "d.t");
    assert_int_equal(c->epoch, 7);
    assert_int_equal(c->rows_total, 4);
    assert_int_equal(c->chunk[0].rows, 2);
    assert_has(c->warning, "node s1 holds 2 rows outside its chunks");
    dr_arena_destroy(got.arena);
    change_file("layout.db", "INSERT INTO drover_shards VALUES('gone', 'gone.db');"
                             "INSERT INTO drover_chunks VALUES('d', 't', 'gone', '[5]', '[7]'),"
                             "('d', 't', 's1', '[8]', '[{\"$max\":1}]');");
    must(survey(s, "d", NULL, &got)); /* a node that is away is a warning */
    c = find_collection(&got, "d.t");
    assert_int_equal(c->chunk_count, 3);
    assert_true(c->chunk[0].is_rows_known && !c->chunk[1].is_rows_known);
    assert_has(c->warning, "gone.db");
    assert_has(c->warning, "gap");
    dr_arena_destroy(got.arena);
    assert_int_equal(survey(s, "e", NULL, &got), DR_NOT_FOUND);
    assert_has(err.msg, "it has: d");
    dr_arena_destroy(got.arena);
    change_file("layout.db", "UPDATE drover_chunks SET min = '[[1]]'");
    assert_int_not_equal(survey(s, "d", NULL, &got), DR_OK);
    dr_arena_destroy(got.arena);
    ops->close(s);
}

/* ---- what is missing ---- */

static void what_is_missing_is_named(void **state)
{
    (void)state;
    void *s = NULL;
    char url[200];
    struct dr_survey got;
    (void)snprintf(url, sizeof url, "sqlite:%s", in_folder("missing.db"));
    assert_int_equal(ops->open(url, &s, &err), DR_UNREACHABLE);
    assert_has(err.msg, "missing.db");
    assert_int_not_equal(access(in_folder("missing.db"), F_OK), 0); /* nor made by asking */
    must(dr_file_replace(in_folder("garbage.db"), url, sizeof url, &err));
    (void)snprintf(url, sizeof url, "sqlite:%s", in_folder("garbage.db"));
    assert_int_equal(ops->open(url, &s, &err), DR_CORRUPT);
    assert_int_equal(ops->open("sqlite:", &s, &err), DR_INPUT);
    assert_int_equal(ops->open("sqlite::memory:", &s, &err), DR_UNREACHABLE);
    assert_null(s);
    ops->close(NULL);

    s = open_fresh("f.db", "CREATE TABLE t(a); CREATE INDEX p ON t(a) WHERE a > 1;");
    struct dr_range r = plain_range("main.t");
    struct dr_value v = {.type = DR_V_INT, .i = 1};
    struct dr_filter f = {.term_count = 1, .term = {{"nope", DR_F_EQ, 1, &v}}};
    struct dr_batch *b = new_batch();
    r.filter = &f;
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_INPUT);
    assert_has(err.msg, "main.t has no field \"nope\"");
    r = plain_range("main.t");
    r.access = DR_BY_INDEX;
    r.index = "nope";
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_NOT_FOUND);
    r.index = "p";
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_UNSUPPORTED);
    r = plain_range("main.nope");
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_NOT_FOUND);
    r = plain_range("else.t");
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_NOT_FOUND);
    r = plain_range("main.t");
    r.node = "nope";
    assert_int_equal(scan(s, &r, 1, true, NULL, b), DR_NOT_FOUND);
    assert_has(err.msg, "nope");
    assert_int_equal(survey(s, "else", NULL, &got), DR_NOT_FOUND);
    dr_arena_destroy(got.arena);
    dr_batch_destroy(b);
    ops->close(s);
}

static void health_sees_a_huge_log_and_a_lost_file(void **state)
{
    (void)state;
    struct dr_health h;
    void *s = open_fresh("f.db", "PRAGMA journal_mode=WAL; CREATE TABLE t(a);");
    must(ops->health(s, "main", &h, &err));
    assert_true(h.is_ok);
    assert_int_equal(h.valid_ms, 1000);
    must(ops->command(s, "main", "CREATE TABLE u(a)", &err)); /* makes the -wal file */
    assert_int_equal(truncate(in_folder("f.db-wal"), 600L << 20), 0);
    must(ops->health(s, "main", &h, &err));
    assert_false(h.is_ok);
    assert_has(h.reason, "-wal");
    assert_true(h.wait_hint_ms > 0);
    ops->close(s);
    s = open_fresh("f.db", "CREATE TABLE t(a);");
    assert_int_equal(unlink(in_folder("f.db")), 0);
    assert_int_equal(ops->health(s, "main", &h, &err), DR_UNREACHABLE);
    ops->close(s);
}

/* ---- failures ---- */

static void the_outcome_of_a_failure_is_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        enum dr_code rc;
        int64_t left;
    } rows[] = {{"store.sqlite.erase.begun=error", DR_IO, 2},
                {"store.sqlite.erase.deleted=full", DR_FULL, 2},
                {"store.sqlite.erase.committed=error", DR_UNKNOWN, 0},
                {"store.sqlite.restore.begun=error", DR_IO, 0},
                {"store.sqlite.restore.inserted=full", DR_FULL, 0},
                {"store.sqlite.restore.committed=error", DR_UNKNOWN, 2}};
    void *s = open_fresh("f.db", "CREATE TABLE t(a); INSERT INTO t VALUES(1), (2);");
    struct dr_range r = plain_range("main.t");
    struct dr_batch *b = new_batch();
    struct dr_tally t = {0};
    must(scan(s, &r, 9, true, NULL, b));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dr_fault_arm(rows[i].fault);
        enum dr_code rc = i < 3 ? ops->erase(s, &r, b, &t, &err) : ops->restore(s, &r, b, &t, &err);
        dr_fault_arm(NULL);
        assert_int_equal(rc, rows[i].rc);
        assert_int_equal(ask_file("f.db", "SELECT count(*) FROM t"), rows[i].left);
    }
    dr_batch_destroy(b);
    ops->close(s);
}

/* One round of everything; DR_NOMEM wherever memory was short. */
static enum dr_code do_everything(const char *url)
{
    struct dr_range r = {.node = "s1",
                         .collection = "d.t",
                         .access = DR_BY_SHARD_RANGE,
                         .key_count = 1,
                         .key = {"a"},
                         .epoch = 7};
    struct dr_value v[] = {{.type = DR_V_INT, .i = 1}, {.type = DR_V_INT, .i = 2}};
    struct dr_filter f = {.term_count = 1, .term = {{"b", DR_F_IN, 2, v}}};
    struct dr_survey got = {.arena = dr_arena_create(4096)};
    struct dr_batch *b = NULL;
    struct dr_tally t = {0};
    uint64_t n = 0;
    void *s = NULL;
    struct dr_budget budget = {100, UINT64_MAX, 60000, true};
    r.filter = &f;
    enum dr_code rc = got.arena == NULL ? DR_NOMEM : ops->open(url, &s, &err);
    rc = rc == DR_OK ? ops->survey(s, "d", &f, &got, &err) : rc;
    rc = rc == DR_OK ? dr_batch_create(&b, &err) : rc;
    rc = rc == DR_OK ? ops->count(s, &r, &n, &err) : rc;
    rc = rc == DR_OK ? ops->scan(s, &r, &budget, NULL, b, &err) : rc;
    rc = rc == DR_OK ? ops->erase(s, &r, b, &t, &err) : rc;
    rc = rc == DR_OK ? ops->restore(s, &r, b, &t, &err) : rc;
    rc = rc == DR_OK ? ops->erase(s, &r, b, &t, &err) : rc;
    rc = rc == DR_OK ? ops->restore(s, &r, b, &t, &err) : rc;
    rc = rc == DR_OK ? ops->probe(s, &r, b, &t, &err) : rc;
    rc = rc == DR_OK ? ops->command(s, "s1", "CREATE TABLE u(a); DROP TABLE u", &err) : rc;
    if (rc == DR_OK) {
        assert_int_equal(n, 3);
        assert_int_equal(t.same, 3);
    }
    dr_batch_destroy(b);
    dr_arena_destroy(got.arena);
    ops->close(s);
    return rc;
}

static void short_memory_fails_cleanly_anywhere(void **state)
{
    (void)state;
    char url[200];
    ops->close(open_sharded("range", "[\"a\"]",
                            "CREATE TABLE \"d.t\"(a, b); CREATE INDEX i ON \"d.t\"(a);"
                            "INSERT INTO \"d.t\" VALUES(1, 1), (2, 2), (NULL, 1), (4, 4);"));
    (void)snprintf(url, sizeof url, "sqlite:%s", in_folder("layout.db"));
    must(do_everything(url));
    enum dr_code rc = DR_NOMEM;
    for (uint64_t n = 1; rc != DR_OK; n++) {
        (void)dr_mem_fail_at(n);
        rc = do_everything(url);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        /* Cut short before a restore, rows are gone; the next round starts whole again. */
        change_file("s1.db", "DELETE FROM \"d.t\"; INSERT INTO \"d.t\" VALUES(1, 1), (2, 2),"
                             " (NULL, 1), (4, 4);");
    }
    assert_int_equal(ask_file("s1.db", "SELECT count(*) FROM \"d.t\""), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_shape_come_back_bit_for_bit),
        cmocka_unit_test(rows_without_a_name_are_refused),
        cmocka_unit_test(tables_of_2000_columns_work),
        cmocka_unit_test(changed_rows_are_left_alone),
        cmocka_unit_test(a_batch_of_another_table_erases_nothing),
        cmocka_unit_test(rows_between_those_of_a_batch_stay),
        cmocka_unit_test(restoring_leaves_others_alone),
        cmocka_unit_test(restoring_never_lowers_a_sequence),
        cmocka_unit_test(tables_with_triggers_are_refused),
        cmocka_unit_test(a_changed_layout_erases_nothing),
        cmocka_unit_test(a_lying_hash_stops_the_walk),
        cmocka_unit_test(batches_keep_to_their_budget),
        cmocka_unit_test(commands_may_be_repeated),
        cmocka_unit_test(a_survey_of_a_plain_file_tells_what_may_be_erased),
        cmocka_unit_test(a_survey_of_a_layout_warns_of_what_is_odd),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(health_sees_a_huge_log_and_a_lost_file),
        cmocka_unit_test(the_outcome_of_a_failure_is_told_apart),
        cmocka_unit_test(short_memory_fails_cleanly_anywhere),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
