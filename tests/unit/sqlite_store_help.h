/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of store/sqlite share: files, stores on them, reading a range. Each test program
 * has its own copy. */
#ifndef DR_TESTS_UNIT_SQLITE_STORE_HELP_H
#define DR_TESTS_UNIT_SQLITE_STORE_HELP_H

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sql.h"
#include "store/sqlite/sqlite_store.h"

static char folder[64];
static const struct dr_store_ops *ops;
static struct dr_err err;
static uint64_t seed = 20261121;

static DR_UNUSED int make_folder(void **state)
{
    (void)state;
    ops = dr_store_sqlite_ops();
    (void)snprintf(folder, sizeof folder, "/tmp/drover-test-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static DR_UNUSED int remove_folder(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

static DR_UNUSED const char *in_folder(const char *name)
{
    static _Thread_local char paths[4][160]; /* each thread has its own four */
    static _Thread_local unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static DR_UNUSED void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
}

static DR_UNUSED uint64_t dice(uint64_t sides)
{
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (seed >> 33) % sides;
}

/* ---- files and stores ---- */

/* Run statements on a file by a connection of its own: somebody else, for the store. */
static DR_UNUSED void change_file(const char *name, const char *sql)
{
    struct dr_sql s;
    must(dr_sql_open(&s, in_folder(name), DR_SQL_CREATE, 5000, &err));
    must(dr_sql_exec(&s, sql, &err));
    dr_sql_close(&s);
}

static DR_UNUSED int64_t ask_file(const char *name, const char *sql)
{
    struct dr_sql s;
    int64_t n = 0;
    must(dr_sql_open(&s, in_folder(name), 0, 5000, &err));
    must(dr_sql_int(&s, sql, -1, &n, &err));
    dr_sql_close(&s);
    return n;
}

/* Everything in a table, with types, as one text; the caller frees it. */
static DR_UNUSED char *dump_table(const char *name, const char *from)
{
    struct dr_sql s;
    sqlite3_stmt *st = NULL;
    struct dr_str text;
    bool is_row = false;
    char sql[256];
    dr_str_init(&text);
    (void)snprintf(sql, sizeof sql, "SELECT %s", from);
    must(dr_sql_open(&s, in_folder(name), 0, 5000, &err));
    must(dr_sql_prepare(&s, sql, &st, &err));
    while (dr_sql_step(&s, st, &is_row, &err) == DR_OK && is_row) {
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            int type = sqlite3_column_type(st, i);
            const unsigned char *data = sqlite3_column_blob(st, i);
            dr_str_addf(&text, "%d:", type);
            for (int k = 0; k < sqlite3_column_bytes(st, i); k++) {
                dr_str_addf(&text, "%02x", data[k]);
            }
            dr_str_addc(&text, ',');
        }
        dr_str_addc(&text, '\n');
    }
    (void)sqlite3_finalize(st);
    dr_sql_close(&s);
    return dr_str_take(&text);
}

static DR_UNUSED void *open_store(const char *name)
{
    char url[200];
    void *s = NULL;
    (void)snprintf(url, sizeof url, "sqlite:%s", in_folder(name));
    must(ops->open(url, &s, &err));
    return s;
}

static DR_UNUSED void *open_fresh(const char *name, const char *sql)
{
    (void)unlink(in_folder(name));
    change_file(name, sql);
    return open_store(name);
}

/* A layout file with one shard "s1" and the collection d.t, whose table is made by `table`. */
static DR_UNUSED void *open_sharded(const char *sharding, const char *key, const char *table)
{
    char sql[600];
    (void)unlink(in_folder("layout.db"));
    (void)unlink(in_folder("s1.db"));
    change_file("s1.db", table);
    (void)snprintf(sql, sizeof sql,
                   "CREATE TABLE drover_shards(name TEXT PRIMARY KEY, path TEXT);"
                   "CREATE TABLE drover_collections(database, name, sharding, key, hash_column,"
                   " primary_node, epoch INTEGER);"
                   "CREATE TABLE drover_chunks(database, name, node, min, max);"
                   "INSERT INTO drover_shards VALUES('s1', 's1.db');"
                   "INSERT INTO drover_collections VALUES('d', 't', '%s', '%s', 'h', 's1', 7);"
                   "INSERT INTO drover_chunks VALUES('d', 't', 's1', '[{\"$min\":1}]', '[5]');",
                   sharding, key);
    return open_fresh("layout.db", sql);
}

static DR_UNUSED struct dr_range plain_range(const char *collection)
{
    return (struct dr_range){
        .node = "main", .collection = collection, .access = DR_BY_SCAN, .epoch = 1};
}

static DR_UNUSED struct dr_batch *new_batch(void)
{
    struct dr_batch *b = NULL;
    must(dr_batch_create(&b, &err));
    return b;
}

static DR_UNUSED enum dr_code scan(void *s, const struct dr_range *r, uint64_t items,
                                   bool with_values, const struct dr_cursor *from,
                                   struct dr_batch *b)
{
    struct dr_budget budget = {
        .items_max = items, .bytes_max = UINT64_MAX, .ms_max = 60000, .with_values = with_values};
    dr_batch_reset(b);
    enum dr_code rc = ops->scan(s, r, &budget, from, b, &err);
    if (rc == DR_OK) {
        assert_true(b->count <= items);
        assert_true(b->count > 0 || b->is_end);
    }
    return rc;
}

/* The whole range, read in batches of random size, as one batch without a mark. */
static DR_UNUSED struct dr_batch *scan_all(void *s, const struct dr_range *r, bool with_values)
{
    struct dr_batch *all = new_batch();
    struct dr_batch *b = new_batch();
    struct dr_cursor at = {0};
    do {
        must(scan(s, r, 1 + dice(9), with_values, &at, b));
        for (uint64_t i = 0; i < b->count; i++) {
            must(dr_batch_add(all, b->item[i].key, b->item[i].key_len, b->item[i].value,
                              b->item[i].value_len, &err));
        }
        at = b->after;
    } while (!b->is_end);
    dr_batch_destroy(b);
    return all;
}

static DR_UNUSED void assert_tally(const struct dr_tally *t, uint64_t erased, uint64_t absent,
                                   uint64_t changed)
{
    assert_int_equal(t->erased, erased);
    assert_int_equal(t->absent, absent);
    assert_int_equal(t->changed, changed);
}

#endif
