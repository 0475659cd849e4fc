/* SPDX-License-Identifier: Apache-2.0 */
/* The fixtures of MariaDB and PostgreSQL: one real server each, started with the first store that
 * is made and stopped with the program. Their columns have types, so that the mixed keys of the
 * sample become texts; what filters do with types is the subject of tests/sql/. */
#include "conform/conform.h"

#if defined DROVER_STORE_MARIADB && defined DROVER_STORE_POSTGRES

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/sql_help.h"

enum { SERVERS = 2, EPOCHS_MAX = 64 };

static struct sql_server server[SERVERS];
static struct dr_sqldb *db[SERVERS];
static enum dr_dialect at; /* the server of the fixture that was made last */
static uint32_t epochs;

static void stop_all(void)
{
    for (int i = 0; i < SERVERS; i++) {
        dr_sqldb_close(db[i]);
        db[i] = NULL;
        if (server[i].kind[0] != '\0') {
            char words[128];
            (void)snprintf(words, sizeof words, "'%s' stop %s", getenv("DROVER_SQL_SCRIPT"),
                           server[i].folder);
            (void)system(words); /* NOLINT(cert-env33-c) */
        }
    }
}

static void start(enum dr_dialect dialect)
{
    static bool is_registered;
    at = dialect;
    if (!is_registered) {
        char script[SQL_COMMAND_BYTES / 2];
        is_registered = true;
        (void)setenv("DROVER_SQL_SCRIPT", sql_script(script, sizeof script), 1);
        (void)atexit(stop_all);
    }
    if (db[at] == NULL) {
        sql_start(&server[at], at == DR_SQL_POSTGRES ? "postgres" : "mariadb");
        db[at] = sql_open(server[at].admin_url);
    }
}

static bool is_pg(void)
{
    return at == DR_SQL_POSTGRES;
}

/* ---- types and values ---- */

enum kind { KIND_TEXT, KIND_INT, KIND_REAL, KIND_BLOB };

static enum kind kind_of(const char *sql_type)
{
    return strcmp(sql_type, "INTEGER") == 0 ? KIND_INT
           : strcmp(sql_type, "REAL") == 0  ? KIND_REAL
           : strcmp(sql_type, "BLOB") == 0  ? KIND_BLOB
                                            : KIND_TEXT;
}

static const char *type_of(const char *sql_type)
{
    bool is_nocase = strstr(sql_type, "NOCASE") != NULL;
    switch (kind_of(sql_type)) {
    case KIND_INT:
        return "bigint";
    case KIND_REAL:
        return is_pg() ? "double precision" : "double";
    case KIND_BLOB:
        return is_pg() ? "bytea" : "longblob";
    case KIND_TEXT:
        break;
    }
    return is_pg()     ? "text"
           : is_nocase ? "varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
                       : "varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
}

/* A value of the sample as one of the column's type. */
static struct dr_value fit(const struct dr_value *v, enum kind kind, char *buf, size_t bytes)
{
    struct dr_str text;
    if (v->type == DR_V_NULL || (kind == KIND_TEXT && v->type == DR_V_TEXT)) {
        return *v;
    }
    if (kind == KIND_BLOB) {
        return (struct dr_value){.type = DR_V_BLOB, .data = v->data, .len = v->len};
    }
    if (kind == KIND_INT || kind == KIND_REAL) {
        return v->type == DR_V_TEXT ? sql_int(424242) : *v;
    }
    dr_str_init(&text);
    dr_value_print(v, &text);
    dr_copy_text(buf, bytes, dr_str_text(&text));
    dr_str_fini(&text);
    return sql_text(buf);
}

static const char *table_of(enum conform_collection of)
{
    static char name[C_LIMIT][64];
    (void)snprintf(name[of], sizeof name[of], "\"shop\".\"%s\"", conform_shape(of)->name);
    return name[of];
}

/* ---- making ---- */

static void create_table(enum conform_collection of)
{
    const struct conform_shape *shape = conform_shape(of);
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "CREATE TABLE %s (id bigint PRIMARY KEY", table_of(of));
    for (uint32_t i = 0; i < shape->column_count; i++) {
        dr_str_addf(&text, ", \"%s\" %s", shape->column[i].name,
                    type_of(shape->column[i].sql_type));
    }
    if (shape->hash_column != NULL) {
        dr_str_addf(&text, ", \"%s\" bigint", shape->hash_column);
    }
    dr_str_add(&text, ")");
    sql_do(db[at], dr_str_text(&text));
    dr_str_clear(&text);
    dr_str_addf(&text, "CREATE INDEX \"%s\" ON %s (", shape->index_name, table_of(of));
    if (shape->key_count > 1) {
        for (uint32_t i = 0; i < shape->key_count; i++) {
            dr_str_addf(&text, "%s\"%s\"", i == 0 ? "" : ", ", shape->key[i]);
        }
    } else {
        dr_str_addf(&text, "\"%s\"", shape->index_field);
    }
    dr_str_add(&text, ")");
    sql_do(db[at], dr_str_text(&text));
    dr_str_fini(&text);
}

static void put(const struct conform_row *row, const char *node)
{
    const struct conform_shape *shape = conform_shape(row->of);
    struct dr_value v[CONFORM_FIELDS_MAX + 2];
    char room[CONFORM_FIELDS_MAX][64];
    struct dr_err err = {0};
    struct dr_str text;
    uint32_t count = 0;
    (void)node;
    v[count++] = sql_int(row->id);
    for (uint32_t i = 0; i < shape->column_count; i++) {
        v[count++] = fit(&row->value[i], kind_of(shape->column[i].sql_type), room[i], 64);
    }
    if (shape->hash_column != NULL) {
        v[count++] = sql_int(row->hash);
    }
    dr_str_init(&text);
    dr_str_addf(&text, "DELETE FROM %s WHERE id = ?", table_of(row->of));
    sql_must(dr_sqldb_exec(db[at], dr_str_text(&text), v, 1, NULL, &err), &err);
    dr_str_clear(&text);
    dr_str_addf(&text, "INSERT INTO %s VALUES (?", table_of(row->of));
    for (uint32_t i = 1; i < count; i++) {
        dr_str_add(&text, ", ?");
    }
    dr_str_add(&text, ")");
    sql_must(dr_sqldb_exec(db[at], dr_str_text(&text), v, count, NULL, &err), &err);
    dr_str_fini(&text);
}

static void make(enum dr_dialect dialect)
{
    struct dr_err err = {0};
    start(dialect);
    epochs = 0;
    sql_do(db[at], is_pg() ? "DROP SCHEMA IF EXISTS shop CASCADE" : "DROP DATABASE IF EXISTS shop");
    sql_do(db[at], is_pg() ? "CREATE SCHEMA shop" : "CREATE DATABASE shop");
    sql_must(dr_sqldb_begin(db[at], &err), &err);
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        create_table(of);
    }
    sql_must(dr_sqldb_commit(db[at], &err), &err);
    sql_must(dr_sqldb_begin(db[at], &err), &err);
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        for (uint32_t n = 0; n < conform_row_count(of); n++) {
            struct conform_row row;
            conform_row(of, n, &row);
            put(&row, "main");
        }
    }
    sql_must(dr_sqldb_commit(db[at], &err), &err);
}

static void make_mariadb(void)
{
    make(DR_SQL_MARIADB);
}

static void make_postgres(void)
{
    make(DR_SQL_POSTGRES);
}

static void clean(void)
{
    sql_do(db[at], is_pg() ? "DROP SCHEMA shop CASCADE" : "DROP DATABASE shop");
}

static const char *url(void)
{
    return server[at].admin_url;
}

/* ---- behind the adapter's back ---- */

static void remove_row(enum conform_collection of, const char *node, int64_t id)
{
    char text[128];
    (void)node;
    (void)snprintf(text, sizeof text, "DELETE FROM %s WHERE id = %" PRId64, table_of(of), id);
    sql_do(db[at], text);
}

static bool has(enum conform_collection of, const char *node, int64_t id)
{
    char text[128];
    (void)node;
    (void)snprintf(text, sizeof text, "SELECT count(*) FROM %s WHERE id = %" PRId64, table_of(of),
                   id);
    return sql_number(db[at], text) == 1;
}

static uint64_t count(enum conform_collection of, const char *node)
{
    char text[128];
    (void)node;
    (void)snprintf(text, sizeof text, "SELECT count(*) FROM %s", table_of(of));
    return (uint64_t)sql_number(db[at], text);
}

static void bump_epoch(enum conform_collection of)
{
    char text[160];
    (void)snprintf(text, sizeof text, "CREATE UNIQUE INDEX bump_%" PRIu32 " ON %s (id)", epochs++,
                   table_of(of));
    assert_true(epochs < EPOCHS_MAX);
    sql_do(db[at], text);
}

const struct conform_fixture conform_mariadb = {
    .name = "mariadb",
    .prefix = "",
    .database = "shop",
    .plain_node = "main",
    .make = make_mariadb,
    .clean = clean,
    .url = url,
    .put = put,
    .remove = remove_row,
    .has = has,
    .count = count,
    .bump_epoch = bump_epoch,
    .table = table_of,
};

const struct conform_fixture conform_postgres = {
    .name = "postgres",
    .prefix = "",
    .database = "shop",
    .plain_node = "main",
    .make = make_postgres,
    .clean = clean,
    .url = url,
    .put = put,
    .remove = remove_row,
    .has = has,
    .count = count,
    .bump_epoch = bump_epoch,
    .table = table_of,
};

#endif
