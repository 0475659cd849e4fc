/* SPDX-License-Identifier: Apache-2.0 */
/* The fixtures of SQLite: a plain file, and a layout file with two shard files. */
#include "conform/conform.h"

#ifdef DROVER_STORE_SQLITE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sql.h"
#include "base/str.h"

static char folder[64];
static struct dr_err err;

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(rc, DR_OK);
}

static bool is_plain(const char *node)
{
    return strcmp(node, "main") == 0;
}

static void open_node(const char *node, struct dr_sql *out)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s.db", folder, node);
    must(dr_sql_open(out, path, DR_SQL_CREATE, 5000, &err));
    must(dr_sql_exec(out, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF", &err));
}

/* The table of a collection, not quoted: a shard file holds several databases. */
static const char *table_name(enum conform_collection of, bool is_plain_file)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "%s%s", is_plain_file ? "" : "shop.",
                   conform_shape(of)->name);
    return name;
}

static void create_table(struct dr_sql *sql, enum conform_collection of, bool is_plain_file)
{
    const struct conform_shape *shape = conform_shape(of);
    const char *table = table_name(of, is_plain_file);
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "CREATE TABLE \"%s\"(id INTEGER PRIMARY KEY", table);
    for (uint32_t i = 0; i < shape->column_count; i++) {
        dr_str_addf(&text, ", \"%s\" %s", shape->column[i].name, shape->column[i].sql_type);
    }
    if (shape->hash_column != NULL) {
        dr_str_addf(&text, ", \"%s\" INTEGER", shape->hash_column);
    }
    dr_str_addf(&text, "); CREATE INDEX \"%s%s\" ON \"%s\"(", is_plain_file ? "" : "shop.",
                shape->index_name, table);
    if (shape->key_count > 1) {
        for (uint32_t i = 0; i < shape->key_count; i++) {
            dr_str_addf(&text, "%s\"%s\"", i == 0 ? "" : ", ", shape->key[i]);
        }
    } else {
        dr_str_addf(&text, "\"%s\"", shape->index_field);
    }
    dr_str_add(&text, ")");
    must(dr_sql_exec(sql, dr_str_text(&text), &err));
    dr_str_fini(&text);
}

static void bind_value(sqlite3_stmt *st, int at, const struct dr_value *v)
{
    int rc = SQLITE_OK;
    switch (v->type) {
    case DR_V_INT:
        rc = sqlite3_bind_int64(st, at, v->i);
        break;
    case DR_V_REAL:
        rc = sqlite3_bind_double(st, at, v->r);
        break;
    case DR_V_TEXT:
        rc = sqlite3_bind_text(st, at, v->data, (int)v->len, SQLITE_TRANSIENT);
        break;
    case DR_V_BLOB:
        rc = sqlite3_bind_blob(st, at, v->data, (int)v->len, SQLITE_TRANSIENT);
        break;
    case DR_V_NULL:
        rc = sqlite3_bind_null(st, at);
        break;
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        fail();
    }
    assert_int_equal(rc, SQLITE_OK);
}

static sqlite3_stmt *prepare_insert(struct dr_sql *sql, enum conform_collection of,
                                    bool is_plain_file)
{
    const struct conform_shape *shape = conform_shape(of);
    sqlite3_stmt *st = NULL;
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "INSERT OR REPLACE INTO \"%s\" VALUES(?", table_name(of, is_plain_file));
    for (uint32_t i = 0; i < shape->column_count + (shape->hash_column != NULL); i++) {
        dr_str_add(&text, ",?");
    }
    dr_str_add(&text, ")");
    must(dr_sql_prepare(sql, dr_str_text(&text), &st, &err));
    dr_str_fini(&text);
    return st;
}

static void insert_row(struct dr_sql *sql, sqlite3_stmt *st, const struct conform_row *row)
{
    const struct conform_shape *shape = conform_shape(row->of);
    assert_int_equal(sqlite3_bind_int64(st, 1, row->id), SQLITE_OK);
    for (uint32_t i = 0; i < shape->column_count; i++) {
        bind_value(st, (int)i + 2, &row->value[i]);
    }
    if (shape->hash_column != NULL) {
        assert_int_equal(sqlite3_bind_int64(st, (int)shape->column_count + 2, row->hash),
                         SQLITE_OK);
    }
    must(dr_sql_run(sql, st, &err));
}

/* Make one node's file with those rows that live there; a plain file has them all. */
static void make_node(const char *node)
{
    struct dr_sql sql;
    open_node(node, &sql);
    must(dr_sql_begin(&sql, &err));
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        bool is_here =
            is_plain(node) || conform_shape(of)->chunk_count > 0 || strcmp(node, NODE_A) == 0;
        if (!is_here) {
            continue;
        }
        create_table(&sql, of, is_plain(node));
        sqlite3_stmt *st = prepare_insert(&sql, of, is_plain(node));
        for (uint32_t n = 0; n < conform_row_count(of); n++) {
            struct conform_row row;
            conform_row(of, n, &row);
            if (is_plain(node) || strcmp(row.node, node) == 0) {
                insert_row(&sql, st, &row);
            }
        }
        (void)sqlite3_finalize(st);
    }
    must(dr_sql_commit(&sql, &err));
    dr_sql_close(&sql);
}

static void clean_folder(void)
{
    if (folder[0] != '\0') {
        char command[96];
        (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
        assert_int_equal(system(command), 0);
        folder[0] = '\0';
    }
}

static void make_folder(void)
{
    clean_folder();
    (void)snprintf(folder, sizeof folder, "/tmp/drover-conform-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void make_plain(void)
{
    make_folder();
    make_node("main");
}

static char *bound_text(const struct dr_bound *b)
{
    json_t *j = dr_bound_to_json(b);
    assert_non_null(j);
    char *text = dr_json_text(j);
    json_decref(j);
    assert_non_null(text);
    return text;
}

static void add_chunk(struct dr_sql *layout, const char *name, const struct conform_chunk *chunk)
{
    char *from = bound_text(&chunk->from);
    char *upto = bound_text(&chunk->upto);
    must(dr_sql_execf(layout, &err, "INSERT INTO drover_chunks VALUES('shop', %Q, %Q, %Q, %Q)",
                      name, chunk->node, from, upto));
    dr_free(from);
    dr_free(upto);
}

static void make_sharded(void)
{
    static const char *const words[] = {"none", "range", "hashed"};
    static const struct conform_chunk whole = {.node = NODE_A};
    struct dr_sql layout;
    make_folder();
    make_node(NODE_A);
    make_node(NODE_B);
    open_node("cluster", &layout);
    must(dr_sql_exec(&layout,
                     "CREATE TABLE drover_shards(name TEXT PRIMARY KEY, path TEXT NOT NULL);"
                     "CREATE TABLE drover_collections(database TEXT, name TEXT, sharding TEXT,"
                     " key TEXT, hash_column TEXT, primary_node TEXT, epoch INTEGER,"
                     " PRIMARY KEY(database, name));"
                     "CREATE TABLE drover_chunks(database TEXT, name TEXT, node TEXT, min TEXT,"
                     " max TEXT);"
                     "INSERT INTO drover_shards VALUES('" NODE_A "', '" NODE_A ".db'),"
                     "('" NODE_B "', '" NODE_B ".db')",
                     &err));
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct conform_shape *shape = conform_shape(of);
        const char *key = shape->key_count == 0   ? "[]"
                          : shape->key_count == 2 ? "[\"tenant\",\"seq\"]"
                          : of == C_ORDERS        ? "[\"customer\"]"
                                                  : "[\"user\"]";
        must(dr_sql_execf(&layout, &err,
                          "INSERT INTO drover_collections VALUES('shop', %Q, %Q, %Q, %Q, %Q, 1)",
                          shape->name, words[shape->sharding], key, shape->hash_column, NODE_A));
        for (uint32_t i = 0; i < shape->chunk_count; i++) {
            add_chunk(&layout, shape->name, &shape->chunk[i]);
        }
        if (shape->chunk_count == 0) {
            add_chunk(&layout, shape->name, &whole);
        }
    }
    dr_sql_close(&layout);
}

static const char *plain_url(void)
{
    static char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s/main.db", folder);
    return url;
}

static const char *sharded_url(void)
{
    static char url[128];
    (void)snprintf(url, sizeof url, "sqlite:%s/cluster.db", folder);
    return url;
}

static void put_row(const struct conform_row *row, const char *node)
{
    struct dr_sql sql;
    open_node(node, &sql);
    sqlite3_stmt *st = prepare_insert(&sql, row->of, is_plain(node));
    insert_row(&sql, st, row);
    (void)sqlite3_finalize(st);
    dr_sql_close(&sql);
}

static void remove_row(enum conform_collection of, const char *node, int64_t id)
{
    struct dr_sql sql;
    open_node(node, &sql);
    must(dr_sql_execf(&sql, &err, "DELETE FROM \"%w\" WHERE id = %lld",
                      table_name(of, is_plain(node)), (long long)id));
    dr_sql_close(&sql);
}

/* One number about a table; 0 when the node has no such table. */
static int64_t ask_table(enum conform_collection of, const char *node, const char *where)
{
    struct dr_sql sql;
    char text[256];
    int64_t answer = 0;
    const char *table = table_name(of, is_plain(node));
    open_node(node, &sql);
    (void)snprintf(text, sizeof text, "SELECT count(*) FROM sqlite_master WHERE name = '%s'",
                   table);
    must(dr_sql_int(&sql, text, 0, &answer, &err));
    if (answer > 0) {
        (void)snprintf(text, sizeof text, "SELECT count(*) FROM \"%s\" NOT INDEXED WHERE %s", table,
                       where);
        must(dr_sql_int(&sql, text, 0, &answer, &err));
    }
    dr_sql_close(&sql);
    return answer;
}

static bool has_row(enum conform_collection of, const char *node, int64_t id)
{
    char where[64];
    (void)snprintf(where, sizeof where, "id = %lld", (long long)id);
    return ask_table(of, node, where) > 0;
}

static uint64_t count_rows(enum conform_collection of, const char *node)
{
    return (uint64_t)ask_table(of, node, "1");
}

static void bump_epoch(enum conform_collection of)
{
    struct dr_sql layout;
    open_node("cluster", &layout);
    must(dr_sql_execf(&layout, &err,
                      "UPDATE drover_collections SET epoch = epoch + 1 WHERE name = %Q",
                      conform_shape(of)->name));
    dr_sql_close(&layout);
}

static void lie_about(const char *node, int64_t id, int64_t hash)
{
    struct dr_sql sql;
    open_node(node, &sql);
    must(dr_sql_execf(&sql, &err, "UPDATE \"%w\" SET user_hash = %lld WHERE id = %lld",
                      table_name(C_EVENTS, false), (long long)hash, (long long)id));
    dr_sql_close(&sql);
}

static void forget_hash(const char *node, int64_t id)
{
    struct dr_sql sql;
    open_node(node, &sql);
    must(dr_sql_execf(&sql, &err, "UPDATE \"%w\" SET user_hash = NULL WHERE id = %lld",
                      table_name(C_EVENTS, false), (long long)id));
    dr_sql_close(&sql);
}

static const char *plain_table(enum conform_collection of)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "\"%s\"", table_name(of, true));
    return name;
}

static const char *sharded_table(enum conform_collection of)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "\"%s\"", table_name(of, false));
    return name;
}

const struct conform_fixture conform_sqlite_plain = {
    .name = "sqlite, plain file",
    .prefix = "",
    .database = "main",
    .plain_node = "main",
    .make = make_plain,
    .clean = clean_folder,
    .url = plain_url,
    .put = put_row,
    .remove = remove_row,
    .has = has_row,
    .count = count_rows,
    .table = plain_table,
};

const struct conform_fixture conform_sqlite_sharded = {
    .name = "sqlite, two shards",
    .prefix = "",
    .database = "shop",
    .make = make_sharded,
    .clean = clean_folder,
    .url = sharded_url,
    .put = put_row,
    .remove = remove_row,
    .has = has_row,
    .count = count_rows,
    .bump_epoch = bump_epoch,
    .lie = lie_about,
    .unhash = forget_hash,
    .table = sharded_table,
};

#endif
