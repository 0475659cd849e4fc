/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the facts of tables: columns, identity, indexes, triggers. They are read again whenever the
 * file's schema has changed. */
#include <assert.h>
#include <string.h>
#include <strings.h>

#include "store/sqlite/sqlite_private.h"

enum { TABLE_BLOCK_BYTES = 8 * 1024 };

char *sq_quote(struct dr_arena *a, const char *name)
{
    char *out = dr_arena_alloc(a, 2 * strlen(name) + 3);
    if (out == NULL) {
        return NULL;
    }
    char *at = out;
    *at++ = '"';
    for (const char *c = name; *c != '\0'; c++) {
        if (*c == '"') {
            *at++ = '"';
        }
        *at++ = *c;
    }
    *at++ = '"';
    *at = '\0';
    return out;
}

int sq_column_find(const struct sq_table *t, const char *name)
{
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (sqlite3_stricmp(t->column[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static bool has_word(const char *type, const char *word)
{
    size_t length = strlen(word);
    for (; *type != '\0'; type++) {
        if (strncasecmp(type, word, length) == 0) {
            return true;
        }
    }
    return false;
}

/* The five rules of https://sqlite.org/datatype3.html#determination_of_column_affinity */
static enum sq_affinity affinity_of(const char *type)
{
    if (has_word(type, "INT")) {
        return SQ_AFF_INTEGER;
    }
    if (has_word(type, "CHAR") || has_word(type, "CLOB") || has_word(type, "TEXT")) {
        return SQ_AFF_TEXT;
    }
    if (type[0] == '\0' || has_word(type, "BLOB")) {
        return SQ_AFF_NONE;
    }
    if (has_word(type, "REAL") || has_word(type, "FLOA") || has_word(type, "DOUB")) {
        return SQ_AFF_REAL;
    }
    return SQ_AFF_NUMERIC;
}

/* Start a query about `name`: its only parameter. */
static enum dr_code ask(struct sq_node *n, const char *text, const char *name, sqlite3_stmt **out,
                        struct dr_err *err)
{
    enum dr_code rc = sq_prepare(n, text, out, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(*out, 1, name, -1, SQLITE_STATIC);
    }
    return rc;
}

/* What kind of thing is it, and has it triggers? */
static enum dr_code read_kind(struct sq_node *n, struct sq_table *t, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = ask(n,
                          "SELECT name, type = 'view', sql LIKE 'CREATE VIRTUAL%', EXISTS"
                          "(SELECT 1 FROM sqlite_master g WHERE g.type = 'trigger' AND g.tbl_name "
                          "= ?1 COLLATE NOCASE) FROM sqlite_master WHERE type IN ('table', 'view') "
                          "AND name = ?1 COLLATE NOCASE",
                          t->name, &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    if (rc == DR_OK && !is_row) {
        rc = dr_fail(err, DR_NOT_FOUND, "node %s (%s): there is no table \"%s\"", n->name, n->path,
                     t->name);
    } else if (rc == DR_OK) {
        t->is_view = sqlite3_column_int(st, 1) != 0;
        t->is_virtual = sqlite3_column_int(st, 2) != 0;
        t->has_triggers = sqlite3_column_int(st, 3) != 0;
    }
    sq_done(st);
    return rc;
}

static enum dr_code grow_columns(struct sq_table *t, uint32_t *room, struct dr_err *err)
{
    if (t->column_count < *room) {
        return DR_OK;
    }
    uint32_t more = *room == 0 ? 16 : *room * 2;
    struct sq_column *grown = dr_arena_alloc(t->arena, more * sizeof *grown);
    if (grown == NULL) {
        return dr_fail_nomem(err);
    }
    if (t->column_count > 0) {
        memcpy(grown, t->column, t->column_count * sizeof *grown);
    }
    t->column = grown;
    *room = more;
    return DR_OK;
}

/* The columns, and in *key_out the only column of the primary key when its type is INTEGER. */
static enum dr_code read_columns(struct sq_node *n, struct sq_table *t, int *key_out,
                                 struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    uint32_t room = 0;
    int keys = 0;
    bool is_row = false;
    *key_out = -1;
    enum dr_code rc =
        ask(n, "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)", t->name, &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        rc = grow_columns(t, &room, err);
        if (rc != DR_OK) {
            break;
        }
        assert(t->column != NULL);
        const char *type = dr_sql_text(st, 1);
        bool is_key = sqlite3_column_int(st, 2) > 0;
        struct sq_column *c = &t->column[t->column_count];
        *c = (struct sq_column){.affinity = affinity_of(type),
                                .is_generated = sqlite3_column_int(st, 3) > 1};
        if (is_key) {
            keys++;
            *key_out = strcasecmp(type, "INTEGER") == 0 ? (int)t->column_count : -1;
        }
        c->name = dr_arena_strdup(t->arena, dr_sql_text(st, 0));
        c->quoted = c->name == NULL ? NULL : sq_quote(t->arena, c->name);
        if (c->quoted == NULL) {
            rc = dr_fail_nomem(err);
        }
        t->stored_count += !c->is_generated;
        t->column_count++;
    }
    sq_done(st);
    *key_out = keys == 1 ? *key_out : -1;
    return rc;
}

/* A table WITHOUT ROWID answers index_xinfo under its own name, with its primary key. */
static enum dr_code read_key_of_tree(struct sq_node *n, struct sq_table *t, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc =
        ask(n, "SELECT cid, coll FROM pragma_index_xinfo(?) WHERE key = 1", t->name, &st, err);
    t->id = dr_arena_alloc(t->arena, (t->column_count + 1) * sizeof *t->id);
    if (rc == DR_OK && t->id == NULL) {
        rc = dr_fail_nomem(err);
    }
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        int column = sqlite3_column_int(st, 0);
        assert(column >= 0 && (uint32_t)column < t->column_count);
        assert(t->id != NULL && t->column != NULL);
        t->id[t->id_count++] = (struct sq_ref){
            .sql = t->column[column].quoted,
            .affinity = t->column[column].affinity,
            .is_binary = strcasecmp(dr_sql_text(st, 1), "BINARY") == 0,
            .column = column,
        };
    }
    sq_done(st);
    t->is_without_rowid = t->id_count > 0;
    return rc;
}

/* An INTEGER PRIMARY KEY is the rowid itself unless SQLite had to make an index for it (DESC). */
static enum dr_code read_rowid(struct sq_node *n, struct sq_table *t, int key, struct dr_err *err)
{
    static const char *const names[] = {"rowid", "_rowid_", "oid"};
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc =
        ask(n, "SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", t->name, &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    sq_done(st);
    if (rc != DR_OK) {
        return rc;
    }
    t->rowid_column = is_row ? -1 : key;
    for (int i = 0; i < 3 && t->rowid == NULL; i++) {
        t->rowid = sq_column_find(t, names[i]) < 0 ? names[i] : NULL;
    }
    if (t->rowid_column >= 0) {
        t->rowid = t->column[t->rowid_column].quoted;
    }
    t->id_count = 1;
    t->id[0] = (struct sq_ref){
        .sql = t->rowid, .affinity = SQ_AFF_INTEGER, .is_binary = true, .column = t->rowid_column};
    return DR_OK;
}

/* Fields of one index. What cannot carry a walk in ascending byte order is marked partial. */
static enum dr_code read_index_fields(struct sq_node *n, struct sq_table *t, struct dr_index *x,
                                      struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = ask(n, "SELECT cid, \"desc\", coll FROM pragma_index_xinfo(?) WHERE key = 1",
                          x->name, &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        int column = sqlite3_column_int(st, 0);
        bool is_usable = column >= 0 && sqlite3_column_int(st, 1) == 0 &&
                         strcasecmp(dr_sql_text(st, 2), "BINARY") == 0 &&
                         x->field_count < DR_KEY_PARTS_MAX;
        if (!is_usable) {
            x->is_partial = true;
        } else {
            assert(t->column != NULL && (uint32_t)column < t->column_count);
            x->field[x->field_count++] = t->column[column].name;
        }
    }
    sq_done(st);
    return rc;
}

static enum dr_code read_indexes(struct sq_node *n, struct sq_table *t, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    uint32_t room = 0;
    enum dr_code rc =
        ask(n, "SELECT name, \"unique\", partial FROM pragma_index_list(?) ORDER BY name", t->name,
            &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        if (t->index_count == room) {
            uint32_t more = room == 0 ? 4 : room * 2;
            struct dr_index *grown = dr_arena_alloc(t->arena, more * sizeof *grown);
            if (grown == NULL) {
                rc = dr_fail_nomem(err);
                break;
            }
            if (room > 0) {
                memcpy(grown, t->index, room * sizeof *grown);
            }
            t->index = grown;
            room = more;
        }
        struct dr_index *x = &t->index[t->index_count];
        *x = (struct dr_index){.name = dr_arena_strdup(t->arena, dr_sql_text(st, 0)),
                               .is_unique = sqlite3_column_int(st, 1) != 0,
                               .is_partial = sqlite3_column_int(st, 2) != 0};
        rc = x->name == NULL ? dr_fail_nomem(err) : DR_OK;
        t->index_count++;
    }
    sq_done(st);
    for (uint32_t i = 0; rc == DR_OK && i < t->index_count; i++) {
        rc = read_index_fields(n, t, &t->index[i], err);
    }
    return rc;
}

/* Names cannot hold a NUL, so joining with it is unambiguous. */
static enum dr_code compute_shape(struct sq_table *t, struct dr_err *err)
{
    struct dr_str names;
    dr_str_init(&names);
    dr_str_addc(&names, t->is_without_rowid ? 'w' : t->rowid_column >= 0 ? 'c' : 'r');
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            dr_str_add(&names, t->column[i].name);
            dr_str_addc(&names, '\0');
        }
    }
    struct dr_value v = {.type = DR_V_TEXT, .data = names.data, .len = names.len};
    bool is_short = names.is_short;
    t->shape = is_short ? 0 : dr_value_hash(&v);
    dr_str_fini(&names);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code load_table(struct sq_node *n, struct sq_table *t, struct dr_err *err)
{
    int key = -1;
    enum dr_code rc = read_kind(n, t, err);
    if (rc == DR_OK) {
        rc = read_columns(n, t, &key, err);
    }
    if (rc == DR_OK) {
        rc = read_key_of_tree(n, t, err);
    }
    if (rc == DR_OK && !t->is_without_rowid) {
        rc = read_rowid(n, t, key, err);
    }
    if (rc == DR_OK) {
        rc = read_indexes(n, t, err);
    }
    return rc == DR_OK ? compute_shape(t, err) : rc;
}

static enum dr_code create_table(struct sq_node *n, const char *name, int64_t version,
                                 struct sq_table **out, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(TABLE_BLOCK_BYTES);
    struct sq_table *t = a == NULL ? NULL : dr_arena_alloc(a, sizeof *t);
    *out = NULL;
    if (t == NULL) {
        dr_arena_destroy(a);
        return dr_fail_nomem(err);
    }
    *t = (struct sq_table){.arena = a, .schema_version = version, .rowid_column = -1};
    t->name = dr_arena_strdup(a, name);
    t->quoted = t->name == NULL ? NULL : sq_quote(a, name);
    enum dr_code rc = t->quoted == NULL ? dr_fail_nomem(err) : load_table(n, t, err);
    if (rc != DR_OK) {
        dr_arena_destroy(a);
        return rc;
    }
    *out = t;
    return DR_OK;
}

void sq_table_destroy(struct sq_table *t)
{
    if (t != NULL) {
        dr_arena_destroy(t->arena);
    }
}

static enum dr_code read_schema_version(struct sq_node *n, int64_t *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_prepare(n, "PRAGMA schema_version", &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    *out = rc == DR_OK && is_row ? sqlite3_column_int64(st, 0) : -1;
    sq_done(st);
    return rc;
}

enum dr_code sq_table_get(struct sq_node *n, const char *name, const struct sq_table **out,
                          struct dr_err *err)
{
    int64_t version = 0;
    *out = NULL;
    enum dr_code rc = read_schema_version(n, &version, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint32_t slot = n->table_next % SQ_TABLES_MAX;
    for (uint32_t i = 0; i < SQ_TABLES_MAX; i++) {
        if (n->table[i] != NULL && strcmp(n->table[i]->name, name) == 0) {
            if (n->table[i]->schema_version == version) {
                *out = n->table[i];
                return DR_OK;
            }
            slot = i;
        }
    }
    struct sq_table *t = NULL;
    rc = create_table(n, name, version, &t, err);
    if (rc != DR_OK) {
        return rc;
    }
    n->table_next += slot == n->table_next % SQ_TABLES_MAX;
    sq_table_destroy(n->table[slot]);
    n->table[slot] = t;
    *out = t;
    return DR_OK;
}

enum dr_code sq_table_usable(struct sq_node *n, const char *name, const struct sq_table **out,
                             struct dr_err *err)
{
    const struct sq_table *t = NULL;
    *out = NULL;
    enum dr_code rc = sq_table_get(n, name, &t, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (t->is_view || t->is_virtual) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s: \"%s\" is a %s; only tables have rows of "
                       "their own",
                       n->name, name, t->is_view ? "view" : "virtual table");
    }
    if (t->id_count == 1 && t->id[0].sql == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s: table \"%s\" has columns named rowid, _rowid_ and oid, so that "
                       "nothing names its rows; rename one of them",
                       n->name, name);
    }
    *out = t;
    return DR_OK;
}
