/* SPDX-License-Identifier: Apache-2.0 */
/* Walks of store/sqlite on random rows: chunks hold what dr_bound_compare says, filters select what
 * dr_filter_match says, whatever types, affinities, collations and indexes the table has. */
#include "unit/sqlite_store_help.h"

/* ---- chunks ---- */

static const char *const words[] = {"", "0", "5", "-1", "5.0", "a", "B", "b", "zz", "\xff"};

static struct dr_value random_value(void)
{
    static const double reals[] = {-1.5, 0.0, 5.0, 5.5, 9007199254740992.0, 1e300, -1e300};
    const char *word = words[dice(10)];
    switch (dice(8)) {
    case 0:
        return (struct dr_value){.type = DR_V_NULL};
    case 1:
    case 2:
        return (struct dr_value){.type = DR_V_INT, .i = (int64_t)dice(12) - 3};
    case 3:
        return (struct dr_value){.type = DR_V_INT,
                                 .i = INT64_C(9007199254740992) + (int64_t)dice(3) - 1};
    case 4:
        return (struct dr_value){.type = DR_V_REAL, .r = reals[dice(7)]};
    case 5:
    case 6:
        return (struct dr_value){.type = DR_V_TEXT, .data = word, .len = strlen(word)};
    default:
        return (struct dr_value){.type = DR_V_BLOB, .data = word, .len = strlen(word)};
    }
}

static void fill_randomly(const char *name, const char *sql, int columns, int rows)
{
    struct dr_sql s;
    sqlite3_stmt *st = NULL;
    must(dr_sql_open(&s, in_folder(name), 0, 5000, &err));
    must(dr_sql_exec(&s, "BEGIN", &err));
    must(dr_sql_prepare(&s, sql, &st, &err));
    for (int i = 0; i < rows; i++) {
        for (int c = 1; c <= columns; c++) {
            struct dr_value v = random_value();
            int n = (int)v.len;
            (void)(v.type == DR_V_NULL   ? sqlite3_bind_null(st, c)
                   : v.type == DR_V_INT  ? sqlite3_bind_int64(st, c, v.i)
                   : v.type == DR_V_REAL ? sqlite3_bind_double(st, c, v.r)
                   : v.type == DR_V_TEXT ? sqlite3_bind_text(st, c, v.data, n, SQLITE_STATIC)
                                         : sqlite3_bind_blob(st, c, v.data, n, SQLITE_STATIC));
        }
        enum dr_code rc = dr_sql_run(&s, st, &err);
        assert_true(rc == DR_OK || rc == DR_INPUT); /* a rowid can only be an integer */
    }
    (void)sqlite3_finalize(st);
    must(dr_sql_exec(&s, "COMMIT", &err));
    dr_sql_close(&s);
}

enum { ROWS = 120, FIELDS = 3 };

/* The row of an item: [shape, rowid, a, b, c]; the rowid is left out where a column holds it. */
static void decode_item(const struct dr_item *item, struct dr_value *v)
{
    uint32_t count = 0;
    must(dr_values_decode(item->value, item->value_len, v, FIELDS + 2, &count, &err));
    if (count == FIELDS + 1) {
        memmove(v + 2, v + 1, FIELDS * sizeof *v);
    } else {
        assert_int_equal(count, FIELDS + 2);
    }
}

static struct dr_bound random_bound(uint32_t parts)
{
    struct dr_bound b = {.parts = parts};
    for (uint32_t i = 0; i < parts; i++) {
        uint64_t n = dice(20);
        b.part[i] = n == 0   ? (struct dr_value){.type = DR_V_MIN}
                    : n == 1 ? (struct dr_value){.type = DR_V_MAX}
                             : random_value();
    }
    return b;
}

static int order_bounds(const void *a, const void *b)
{
    return dr_bound_compare(a, b);
}

/* Chunks over random bounds hold each row exactly once, in the one where its key belongs. */
static void check_chunks(void *s, uint32_t keys, const struct dr_batch *all)
{
    enum { BOUNDS = 7 };
    static const char *const names[] = {"a", "b", "c"};
    struct dr_bound bound[BOUNDS];
    uint64_t seen = 0;
    for (int i = 1; i < BOUNDS - 1; i++) {
        bound[i] = random_bound(1 + (uint32_t)dice(keys));
    }
    bound[0] = (struct dr_bound){.parts = 1, .part = {{.type = DR_V_MIN}}};
    bound[BOUNDS - 1] = (struct dr_bound){.parts = 1, .part = {{.type = DR_V_MAX}}};
    qsort(bound, BOUNDS, sizeof bound[0], order_bounds);
    for (int i = 0; i + 1 < BOUNDS; i++) {
        struct dr_range r = {.node = "s1", .collection = "d.t", .key_count = keys, .epoch = 7};
        uint64_t expected = 0;
        uint64_t counted = 0;
        memcpy(r.key, names, keys * sizeof names[0]);
        r.from = bound[i];
        r.upto = bound[i + 1];
        for (uint64_t k = 0; k < all->count; k++) {
            struct dr_value v[FIELDS + 2];
            struct dr_bound at = {.parts = keys};
            decode_item(&all->item[k], v);
            memcpy(at.part, v + 2, keys * sizeof v[0]);
            at.parts = r.from.parts;
            bool is_in = dr_bound_compare(&at, &r.from) >= 0;
            at.parts = r.upto.parts;
            expected += is_in && dr_bound_compare(&at, &r.upto) < 0;
        }
        struct dr_batch *b = scan_all(s, &r, true);
        must(ops->count(s, &r, &counted, &err));
        assert_int_equal(b->count, expected);
        assert_int_equal(counted, expected);
        for (uint64_t k = 1; k < b->count; k++) { /* in order, so nothing twice */
            struct dr_value x[FIELDS + 2];
            struct dr_value y[FIELDS + 2];
            struct dr_bound m = {.parts = keys};
            struct dr_bound n = {.parts = keys};
            decode_item(&b->item[k - 1], x);
            decode_item(&b->item[k], y);
            memcpy(m.part, x + 2, keys * sizeof x[0]);
            memcpy(n.part, y + 2, keys * sizeof y[0]);
            int c = dr_bound_compare(&m, &n);
            assert_true(c < 0 || (c == 0 && memcmp(b->item[k - 1].key, b->item[k].key,
                                                   b->item[k].key_len) != 0));
        }
        /* By keys only, and after a change of the file, the row itself must say where it is. */
        struct dr_tally t = {0};
        r.from = bound[dice(BOUNDS - 1)];
        struct dr_batch *keys_only = new_batch();
        for (uint64_t k = 0; k < b->count; k++) {
            must(dr_batch_add(keys_only, b->item[k].key, b->item[k].key_len, NULL, 0, &err));
        }
        if (dr_bound_compare(&r.from, &bound[i]) <= 0 && keys_only->count > 0) {
            must(ops->probe(s, &r, keys_only, &t, &err));
            assert_int_equal(t.same, keys_only->count);
        }
        seen += b->count;
        dr_batch_destroy(keys_only);
        dr_batch_destroy(b);
    }
    assert_int_equal(seen, all->count);
}

enum { TYPES = 8 };

static const char *const table_types[TYPES] = {
    "a, b, c)",
    "a INTEGER, b TEXT, c REAL)",
    "a TEXT, b INTEGER, c)",
    "a REAL, b NUMERIC, c BLOB)",
    "a NUMERIC COLLATE NOCASE, b TEXT COLLATE NOCASE, c COLLATE RTRIM)",
    "a INTEGER PRIMARY KEY, b, c)",
    "a, b, c, PRIMARY KEY(a, b)) WITHOUT ROWID",
    "a TEXT, b COLLATE NOCASE, c, PRIMARY KEY(b, a DESC)) WITHOUT ROWID"};

static void chunks_hold_each_row_once_whatever_the_keys(void **state)
{
    (void)state;
    static const char *const indexes[] = {"", "CREATE INDEX \"i\" ON \"d.t\"(a);",
                                          "CREATE INDEX \"i\" ON \"d.t\"(a, b, c);"};
    for (int i = 0; i < TYPES * 9; i++) {
        char sql[300];
        (void)snprintf(sql, sizeof sql, "CREATE TABLE \"d.t\"(%s; %s", table_types[i % TYPES],
                       indexes[i / TYPES % 3]);
        void *s = open_sharded("range", "[\"a\"]", sql);
        fill_randomly("s1.db", "INSERT OR IGNORE INTO \"d.t\" VALUES(?,?,?)", FIELDS, ROWS);
        struct dr_range r = {.node = "s1", .collection = "d.t", .access = DR_BY_SCAN};
        struct dr_batch *all = scan_all(s, &r, true);
        assert_int_equal(all->count, ask_file("s1.db", "SELECT count(*) FROM \"d.t\""));
        assert_in_range(all->count, 10, ROWS);
        check_chunks(s, 1 + (uint32_t)(i / TYPES / 3), all);
        dr_batch_destroy(all);
        ops->close(s);
    }
}

/* ---- filters ---- */

static const struct dr_value *find_in_row(void *arg, const char *field)
{
    struct dr_value *v = arg;
    return &v[2 + (field[0] - 'a')];
}

static void make_filter(struct dr_filter *f, struct dr_value *room)
{
    static const char *const names[] = {"a", "b", "c"};
    f->term_count = 1 + (uint32_t)dice(2);
    for (uint32_t i = 0; i < f->term_count; i++) {
        struct dr_term *t = &f->term[i];
        *t = (struct dr_term){.field = names[dice(3)], .op = (enum dr_filter_op)dice(9)};
        bool is_unary = t->op == DR_F_IS_NULL || t->op == DR_F_NOT_NULL;
        t->value_count = is_unary ? 0 : t->op == DR_F_IN ? 1 + (uint32_t)dice(4) : 1;
        t->value = room + i * 4;
        for (uint32_t k = 0; k < t->value_count; k++) {
            do {
                room[i * 4 + k] = random_value();
            } while (room[i * 4 + k].type == DR_V_NULL);
        }
    }
}

static void filters_select_what_dr_filter_match_does(void **state)
{
    (void)state;
    for (int i = 0; i < TYPES * 2; i++) {
        char sql[300];
        (void)snprintf(sql, sizeof sql, "CREATE TABLE t(%s; CREATE INDEX x ON t(%s);",
                       table_types[i % TYPES], i < TYPES ? "a" : "c, a");
        void *s = open_fresh("f.db", sql);
        fill_randomly("f.db", "INSERT OR IGNORE INTO t VALUES(?,?,?)", FIELDS, ROWS);
        struct dr_range r = plain_range("main.t");
        struct dr_batch *all = scan_all(s, &r, true);
        for (int n = 0; n < 150; n++) {
            struct dr_value room[8];
            struct dr_filter f;
            uint64_t expected = 0;
            uint64_t counted = 0;
            struct dr_value v[FIELDS + 2];
            make_filter(&f, room);
            r.filter = &f;
            r.access = n % 2 == 0 || i % TYPES == 4 ? DR_BY_SCAN : DR_BY_INDEX;
            r.index = "x";
            for (uint64_t k = 0; k < all->count; k++) {
                decode_item(&all->item[k], v);
                expected += dr_filter_match(&f, find_in_row, v);
            }
            struct dr_batch *b = scan_all(s, &r, true);
            must(ops->count(s, &r, &counted, &err));
            assert_int_equal(b->count, expected);
            assert_int_equal(counted, expected);
            for (uint64_t k = 0; k < b->count; k++) {
                decode_item(&b->item[k], v);
                assert_true(dr_filter_match(&f, find_in_row, v));
            }
            dr_batch_destroy(b);
        }
        dr_batch_destroy(all);
        ops->close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_hold_each_row_once_whatever_the_keys),
        cmocka_unit_test(filters_select_what_dr_filter_match_does),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
