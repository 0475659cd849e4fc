/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the facts of a table: kept for some seconds, so that a batch does not ask the catalogs; the
 * epoch, a hash of the definition, is read anew before anything is erased. */
#include <string.h>
#include <strings.h>

#include "store/sql/sql_private.h"

enum { TABLE_BLOCK_BYTES = 8 * 1024, COLUMNS_MAX = 4096 };

/* ---- while loading ---- */

/* Room grows by doubling whenever the count is a power of two. */
static void *grow(struct dr_arena *a, void *old, uint32_t count, size_t bytes_each)
{
    if (count > 0 && (count & (count - 1)) != 0) {
        return old;
    }
    char *grown = dr_arena_alloc(a, (count == 0 ? 1 : (size_t)count * 2) * bytes_each);
    if (grown != NULL && old != NULL) {
        memcpy(grown, old, count * bytes_each);
    }
    return grown;
}

struct sa_column *sa_new_column(struct sa_table *t)
{
    struct sa_column *grown = t->column_count >= COLUMNS_MAX
                                  ? NULL
                                  : grow(t->arena, t->column, t->column_count, sizeof *t->column);
    if (grown == NULL) {
        return NULL;
    }
    t->column = grown;
    struct sa_column *c = &t->column[t->column_count++];
    *c = (struct sa_column){0};
    return c;
}

struct sa_child *sa_new_child(struct sa_table *t)
{
    struct sa_child *grown = grow(t->arena, t->child, t->child_count, sizeof *t->child);
    if (grown == NULL) {
        return NULL;
    }
    t->child = grown;
    struct sa_child *c = &t->child[t->child_count++];
    *c = (struct sa_child){0};
    return c;
}

enum dr_code sa_add_index_field(struct sa_table *t, const char *index, const char *field,
                                bool is_unique, bool is_primary, bool is_unusable,
                                struct dr_err *err)
{
    struct sa_index *x = t->index_count > 0 ? &t->index[t->index_count - 1] : NULL;
    if (x == NULL || strcmp(x->shown.name, index) != 0) {
        struct sa_index *grown = grow(t->arena, t->index, t->index_count, sizeof *t->index);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        t->index = grown;
        x = &t->index[t->index_count++];
        *x = (struct sa_index){.is_primary = is_primary, .is_strict = is_unique};
        x->shown.name = dr_arena_strdup(t->arena, index);
        x->shown.is_unique = is_unique;
        if (x->shown.name == NULL) {
            return dr_fail_nomem(err);
        }
    }
    int column = field == NULL ? -1 : sa_column_find(t, field);
    if (column < 0 || x->shown.field_count == DR_KEY_PARTS_MAX) {
        x->shown.is_partial = true;
        x->is_strict = false;
        return DR_OK;
    }
    const struct sa_column *c = &t->column[column];
    x->column[x->shown.field_count] = column;
    x->shown.field[x->shown.field_count++] = c->name;
    x->shown.is_partial = x->shown.is_partial || is_unusable || !c->is_sortable;
    x->is_strict = x->is_strict && !x->shown.is_partial && !c->is_nullable;
    return DR_OK;
}

/* The primary key, else the strict index of fewest columns, by name among equals. */
static void choose_key(struct sa_table *t)
{
    const struct sa_index *best = NULL;
    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct sa_index *x = &t->index[i];
        if (!x->is_strict) {
            continue;
        }
        if (x->is_primary || best == NULL ||
            (!best->is_primary && x->shown.field_count < best->shown.field_count)) {
            best = x;
        }
    }
    if (best != NULL) {
        t->key_count = best->shown.field_count;
        t->key_index = best->shown.name;
        memcpy(t->key, best->column, sizeof t->key);
    }
    for (uint32_t i = 0; i < t->column_count; i++) {
        t->stored_count += !t->column[i].is_generated;
    }
}

/* ---- names ---- */

enum dr_code sa_split_name(const char *collection, struct dr_arena *a, const char **schema,
                           const char **table, struct dr_err *err)
{
    const char *dot = strchr(collection, '.');
    if (dot == NULL || dot == collection || dot[1] == '\0') {
        return dr_fail(err, DR_INPUT, "\"%s\" is no table; write schema.table", collection);
    }
    char *first = dr_arena_strdup(a, collection);
    if (first == NULL) {
        return dr_fail_nomem(err);
    }
    first[dot - collection] = '\0';
    *schema = first;
    *table = first + (dot - collection) + 1;
    return DR_OK;
}

int sa_column_find(const struct sa_table *t, const char *name)
{
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (strcmp(t->column[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- epoch ---- */

static enum dr_code read_epoch(struct sa_store *s, const char *schema, const char *name,
                               uint64_t *out, struct dr_err *err)
{
    bool is_found = false;
    struct dr_str text;
    dr_str_init(&text);
    enum dr_code rc = s->is_pg ? sa_define_postgres(s, schema, name, &text, &is_found, err)
                               : sa_define_mariadb(s, schema, name, &text, &is_found, err);
    if (rc == DR_OK && text.is_short) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK && !is_found) {
        rc = dr_fail(err, DR_NOT_FOUND, "there is no table %s.%s", schema, name);
    }
    if (rc == DR_OK) {
        struct dr_value v = {.type = DR_V_TEXT, .data = dr_str_text(&text), .len = text.len};
        *out = (uint64_t)dr_value_hash(&v) & INT64_MAX;
    }
    dr_str_fini(&text);
    return rc;
}

enum dr_code sa_epoch_now(struct sa_store *s, const char *collection, uint64_t *out,
                          struct dr_err *err)
{
    const char *schema = NULL;
    const char *name = NULL;
    struct dr_arena *a = dr_arena_create(256);
    enum dr_code rc =
        a == NULL ? dr_fail_nomem(err) : sa_split_name(collection, a, &schema, &name, err);
    rc = rc == DR_OK ? read_epoch(s, schema, name, out, err) : rc;
    dr_arena_destroy(a);
    return rc;
}

/* ---- keeping ---- */

void sa_table_destroy(struct sa_table *t)
{
    if (t != NULL) {
        dr_arena_destroy(t->arena);
    }
}

void sa_table_forget(struct sa_store *s, const char *collection)
{
    for (uint32_t i = 0; i < SA_TABLES_MAX; i++) {
        if (s->table[i] != NULL && strcmp(s->table[i]->shown, collection) == 0) {
            sa_table_destroy(s->table[i]);
            s->table[i] = NULL;
        }
    }
}

static enum dr_code create_table(const char *collection, struct sa_table **out, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(TABLE_BLOCK_BYTES);
    struct sa_table *t = a == NULL ? NULL : dr_arena_alloc(a, sizeof *t);
    *out = NULL;
    if (t == NULL) {
        dr_arena_destroy(a);
        return dr_fail_nomem(err);
    }
    *t = (struct sa_table){.arena = a, .rows_estimate = -1};
    t->shown = dr_arena_strdup(a, collection);
    enum dr_code rc = t->shown == NULL ? dr_fail_nomem(err)
                                       : sa_split_name(collection, a, &t->schema, &t->name, err);
    if (rc == DR_OK) {
        const char *schema = sa_quote(a, t->schema);
        const char *name = sa_quote(a, t->name);
        t->quoted =
            schema == NULL || name == NULL ? NULL : dr_arena_printf(a, "%s.%s", schema, name);
        t->from = t->quoted;
        rc = t->quoted == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc != DR_OK) {
        sa_table_destroy(t);
        return rc;
    }
    *out = t;
    return DR_OK;
}

enum dr_code sa_table_get(struct sa_store *s, const char *collection, struct sa_table **out,
                          struct dr_err *err)
{
    struct sa_table *t = NULL;
    *out = NULL;
    for (uint32_t i = 0; i < SA_TABLES_MAX; i++) {
        t = s->table[i];
        if (t != NULL && strcmp(t->shown, collection) == 0) {
            if (dr_mono_now() - t->loaded_at < SA_FACTS_MS) {
                *out = t;
                return DR_OK;
            }
            sa_table_destroy(t);
            s->table[i] = NULL;
        }
    }
    enum dr_code rc = create_table(collection, &t, err);
    rc = rc == DR_OK ? read_epoch(s, t->schema, t->name, &t->epoch, err) : rc;
    rc = rc != DR_OK ? rc : s->is_pg ? sa_load_postgres(s, t, err) : sa_load_mariadb(s, t, err);
    if (rc != DR_OK) {
        sa_table_destroy(t);
        return rc;
    }
    choose_key(t);
    t->loaded_at = dr_mono_now();
    sa_table_destroy(s->table[s->table_next]);
    s->table[s->table_next] = t;
    s->table_next = (s->table_next + 1) % SA_TABLES_MAX;
    *out = t;
    return DR_OK;
}

enum dr_code sa_table_usable(const struct sa_table *t, bool allow_no_key, struct dr_err *err)
{
    if (t->is_view) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s is no table of its own rows (a view, a foreign "
                       "table or a sequence)",
                       t->shown);
    }
    if (t->key_count == 0 && !allow_no_key) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "table %s has no usable key: a primary key or a unique index over columns "
                       "that are never NULL is needed to name its rows; add one, or set "
                       "\"allow_no_key\": true to delete row by row",
                       t->shown);
    }
    if (t->stored_count == 0) {
        return dr_fail(err, DR_UNSUPPORTED, "table %s has no stored columns", t->shown);
    }
    return DR_OK;
}

bool sa_has_cascades(const struct sa_table *t)
{
    for (uint32_t i = 0; i < t->child_count; i++) {
        if (t->child[i].rule != NULL) {
            return true;
        }
    }
    return false;
}

void sa_add_cascades(const struct sa_table *t, struct dr_str *out)
{
    for (uint32_t i = 0; i < t->child_count; i++) {
        if (t->child[i].rule != NULL) {
            dr_str_addf(out, "%s%s (%s)", out->len > 0 ? ", " : "", t->child[i].name,
                        t->child[i].rule);
        }
    }
}
