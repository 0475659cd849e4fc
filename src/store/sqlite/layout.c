/* SPDX-License-Identifier: Apache-2.0 */
/* Owns reading the layout (or, for a plain file, its schema) into a survey: what collections there
 * are, where their chunks lie, how many rows they hold. Reads only; the rows are counted exactly.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "store/sqlite/sqlite_private.h"

enum { NAMES_SHOWN_MAX = 5, WARNING_BYTES_MAX = 2000 };

/* Beside each collection of the survey. */
struct listed {
    const char *primary;    /* the node whose table is described */
    struct dr_chunk *chunk; /* the collection's, still to be counted */
};

struct surveyor {
    struct sq_store *store;
    const char *only; /* of a plain file only this table; NULL: all */
    struct dr_survey *survey;
    const struct dr_filter *filter;
    struct dr_arena *arena; /* the survey's */
    uint32_t room;          /* of survey->collection, and of: */
    struct listed *listed;
    /* The collection being looked at. */
    struct dr_collection *at;
    const char *table;   /* its physical name */
    const char *primary; /* the node whose table is described */
    struct dr_str warning;
};

/* Start a query of the layout whose parameters are texts. */
static enum dr_code ask_layout(struct sq_store *s, const char *text, const char *first,
                               const char *second, sqlite3_stmt **out, struct dr_err *err)
{
    enum dr_code rc = dr_sql_prepare(&s->layout, text, out, err);
    if (rc == DR_OK && first != NULL) {
        (void)sqlite3_bind_text(*out, 1, first, -1, SQLITE_STATIC);
    }
    if (rc == DR_OK && second != NULL) {
        (void)sqlite3_bind_text(*out, 2, second, -1, SQLITE_STATIC);
    }
    return rc;
}

enum dr_code sq_hash_column(struct sq_store *s, const char *collection, struct dr_arena *a,
                            const char **out, struct dr_err *err)
{
    const char *dot = strchr(collection, '.');
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    *out = NULL;
    if (s->is_plain || dot == NULL) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: %s is not sharded", s->path, collection);
    }
    const char *database = dr_arena_printf(a, "%.*s", (int)(dot - collection), collection);
    if (database == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = ask_layout(
        s,
        "SELECT hash_column FROM drover_collections WHERE database = ? AND name = ? AND sharding"
        " = 'hashed'",
        database, dot + 1, &st, err);
    rc = rc == DR_OK ? dr_sql_step(&s->layout, st, &is_row, err) : rc;
    if (rc == DR_OK && (!is_row || dr_sql_text(st, 0)[0] == '\0')) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s: the layout has no hash column for %s", s->path,
                     collection);
    } else if (rc == DR_OK) {
        *out = dr_arena_strdup(a, dr_sql_text(st, 0));
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* ---- small helpers ---- */

static void warn(struct surveyor *v, const char *text)
{
    if (v->warning.len > WARNING_BYTES_MAX) {
        return; /* enough has been said */
    }
    dr_str_addf(&v->warning, "%s%s", v->warning.len > 0 ? "; " : "", text);
}

/* A zeroed collection at the end of the survey's list. */
static enum dr_code append_collection(struct surveyor *v, struct dr_err *err)
{
    struct dr_survey *s = v->survey;
    if (s->collection_count == v->room) {
        uint32_t room = v->room == 0 ? 16 : v->room * 2;
        struct dr_collection *grown = dr_arena_alloc(v->arena, room * sizeof *grown);
        struct listed *listed = dr_arena_alloc(v->arena, room * sizeof *listed);
        if (grown == NULL || listed == NULL) {
            return dr_fail_nomem(err);
        }
        if (v->room > 0) {
            memcpy(grown, s->collection, v->room * sizeof *grown);
            memcpy(listed, v->listed, v->room * sizeof *listed);
        }
        s->collection = grown;
        v->listed = listed;
        v->room = room;
    }
    v->at = &s->collection[s->collection_count++];
    *v->at = (struct dr_collection){0};
    v->listed[s->collection_count - 1] = (struct listed){0};
    return DR_OK;
}

static void set_chunks(struct surveyor *v, struct dr_chunk *chunk, uint64_t count)
{
    v->at->chunk = chunk;
    v->at->chunk_count = count;
    v->listed[v->at - v->survey->collection].chunk = chunk;
}

static bool begins(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- facts of one collection, from its primary node ---- */

static enum dr_code copy_indexes(struct surveyor *v, const struct sq_table *t, struct dr_err *err)
{
    struct dr_index *x = dr_arena_alloc(v->arena, (t->index_count + 1) * sizeof *x);
    if (x == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < t->index_count; i++) {
        x[i] = t->index[i];
        x[i].name = dr_arena_strdup(v->arena, x[i].name);
        bool is_short = x[i].name == NULL;
        for (uint32_t k = 0; k < x[i].field_count; k++) {
            x[i].field[k] = dr_arena_strdup(v->arena, x[i].field[k]);
            is_short = is_short || x[i].field[k] == NULL;
        }
        if (is_short) {
            return dr_fail_nomem(err);
        }
    }
    v->at->index = x;
    v->at->index_count = t->index_count;
    return DR_OK;
}

/* The commands that make the table and its indexes again. */
static enum dr_code read_create_text(struct surveyor *v, struct sq_node *n, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    struct dr_str text;
    dr_str_init(&text);
    enum dr_code rc = sq_prepare(
        n,
        "SELECT sql FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND type IN ('table', "
        "'index') AND sql IS NOT NULL ORDER BY type = 'index', name",
        &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, v->table, -1, SQLITE_STATIC);
    }
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        dr_str_add(&text, text.len > 0 ? ";\n" : "");
        dr_str_add(&text, dr_sql_text(st, 0));
    }
    sq_done(st);
    if (rc == DR_OK) {
        const char *quoted = sq_quote(v->arena, v->table);
        v->at->create_text = text.is_short ? NULL : dr_arena_strdup(v->arena, dr_str_text(&text));
        v->at->drop_text =
            quoted == NULL ? NULL : dr_arena_printf(v->arena, "DROP TABLE %s", quoted);
        rc = v->at->create_text == NULL || v->at->drop_text == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_str_fini(&text);
    return rc;
}

/* Does another table refer to this one? A table that refers to itself can still be erased. */
static enum dr_code read_reference(struct surveyor *v, struct sq_node *n, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_prepare(
        n,
        "SELECT 1 FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
        " AND f.\"table\" = ?1 COLLATE NOCASE AND m.name <> ?1 COLLATE NOCASE LIMIT 1",
        &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, v->table, -1, SQLITE_STATIC);
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    v->at->has_reference = v->at->has_reference || is_row;
    sq_done(st);
    return rc;
}

/* Tables that a virtual table keeps its data in are not for others to change. */
static enum dr_code is_shadow(struct surveyor *v, struct sq_node *n, bool *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc =
        sq_prepare(n,
                   "SELECT 1 FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%' AND substr(?1, 1, "
                   "length(name) + 1) = name || '_' COLLATE NOCASE LIMIT 1",
                   &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, v->table, -1, SQLITE_STATIC);
        rc = dr_sql_step(&n->sql, st, out, err);
    }
    sq_done(st);
    return rc;
}

/* A failing count must not stop a survey: the chunk can still be worked on. */
static enum dr_code soften(struct surveyor *v, enum dr_code rc, struct dr_err *err)
{
    if (rc != DR_OK && rc != DR_NOMEM) {
        warn(v, err->msg);
        dr_err_clear(err);
        return DR_OK;
    }
    return rc;
}

static bool begins_with_keys(const struct dr_index *x, const char *const *key, uint32_t count)
{
    if (x->is_partial || x->field_count < count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (sqlite3_stricmp(x->field[i], key[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Without an order to follow, every batch of a chunk reads and sorts the whole table. */
static enum dr_code warn_of_sorting(struct surveyor *v, const struct sq_table *t,
                                    struct dr_err *err)
{
    const char *const *key = v->at->key;
    uint32_t count = v->at->key_count;
    const char *hashed[1] = {NULL};
    if (v->at->sharding == DR_SHARDED_HASHED) {
        enum dr_code rc = sq_hash_column(v->store, v->at->name, v->arena, &hashed[0], err);
        if (rc != DR_OK) {
            return soften(v, rc, err);
        }
        key = hashed;
        count = 1;
    }
    bool is_walkable = count <= t->id_count;
    for (uint32_t i = 0; is_walkable && i < count; i++) {
        is_walkable = t->id[i].column == sq_column_find(t, key[i]) && t->id[i].is_binary;
    }
    for (uint32_t i = 0; !is_walkable && i < t->index_count; i++) {
        is_walkable = begins_with_keys(&t->index[i], key, count);
    }
    if (!is_walkable) {
        warn(v, "no index on its shard key: each batch would read the whole table");
    }
    return DR_OK;
}

static enum dr_code describe_table(struct surveyor *v, struct sq_node *n, const struct sq_table *t,
                                   struct dr_err *err)
{
    bool is_of_virtual = false;
    enum dr_code rc = is_shadow(v, n, &is_of_virtual, err);
    v->at->is_view = t->is_view;
    v->at->is_system = t->is_virtual || is_of_virtual || begins(v->table, "sqlite_") ||
                       begins(v->table, "drover_");
    if (t->is_virtual || is_of_virtual) {
        warn(v, "belongs to a virtual table");
    }
    if (rc == DR_OK && t->id_count == 1 && t->id[0].sql == NULL) {
        warn(v, "its rows cannot be named: rowid, _rowid_ and oid are columns");
    }
    rc = rc == DR_OK ? copy_indexes(v, t, err) : rc;
    if (rc == DR_OK && v->at->sharding != DR_UNSHARDED) {
        rc = warn_of_sorting(v, t, err);
    }
    if (rc == DR_OK && !t->is_view && !v->at->is_system) {
        rc = read_create_text(v, n, err);
    }
    return rc;
}

/* ---- counting ---- */

static const char *missing_field(const struct sq_table *t, const struct dr_filter *f)
{
    for (uint32_t i = 0; f != NULL && i < f->term_count; i++) {
        if (sq_column_find(t, f->term[i].field) < 0) {
            return f->term[i].field;
        }
    }
    return NULL;
}

static void make_range(const struct surveyor *v, const struct dr_chunk *c,
                       const struct dr_filter *filter, struct dr_range *r)
{
    *r = (struct dr_range){
        .node = c->node,
        .collection = v->at->name,
        .access = v->at->sharding == DR_SHARDED_RANGE    ? DR_BY_SHARD_RANGE
                  : v->at->sharding == DR_SHARDED_HASHED ? DR_BY_SHARD_HASHED
                                                         : DR_BY_SCAN,
        .key_count = v->at->key_count,
        .filter = filter,
        .from = c->from,
        .upto = c->upto,
        .epoch = v->at->epoch,
    };
    memcpy(r->key, v->at->key, sizeof r->key);
}

static enum dr_code count_chunks(struct surveyor *v, const char *node, bool is_matchable,
                                 uint64_t *sum_out, bool *is_known_out, struct dr_err *err)
{
    struct dr_chunk *chunk = v->listed[v->at - v->survey->collection].chunk;
    *sum_out = 0;
    *is_known_out = true;
    for (uint64_t i = 0; i < v->at->chunk_count; i++) {
        if (strcmp(chunk[i].node, node) != 0) {
            continue;
        }
        struct dr_range r;
        make_range(v, &chunk[i], v->filter, &r);
        enum dr_code rc = is_matchable ? sq_count(v->store, &r, &chunk[i].rows, err) : DR_OK;
        chunk[i].is_rows_known = rc == DR_OK;
        *is_known_out = *is_known_out && rc == DR_OK;
        *sum_out += chunk[i].rows;
        rc = soften(v, rc, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

/* Rows of one node: all, matching, in chunks; and what only its own file tells. */
static enum dr_code count_node(struct surveyor *v, struct sq_node *n, const struct sq_table *t,
                               struct dr_err *err)
{
    uint64_t total = 0;
    uint64_t matched = 0;
    uint64_t sum = 0;
    bool is_known = false;
    const char *missing = missing_field(t, v->filter);
    v->at->has_triggers = v->at->has_triggers || t->has_triggers;
    enum dr_code rc = read_reference(v, n, err);
    if (rc != DR_OK || t->is_view || t->is_virtual) {
        return rc;
    }
    rc = sq_count_table(n, t, NULL, &total, err);
    matched = total;
    if (rc == DR_OK && v->filter != NULL) {
        rc = missing != NULL ? DR_OK : sq_filter_check(t, v->filter, v->at->name, err);
        matched = 0;
        if (rc == DR_OK && missing == NULL) {
            rc = sq_count_table(n, t, v->filter, &matched, err);
        }
    }
    rc = rc == DR_OK ? count_chunks(v, n->name, missing == NULL, &sum, &is_known, err) : rc;
    v->at->rows_total += total;
    v->at->rows_matched += matched;
    if (rc == DR_OK && v->filter == NULL && is_known && sum < total) {
        dr_str_addf(&v->warning, "%snode %s holds %" PRIu64 " rows outside its chunks (orphans)",
                    v->warning.len > 0 ? "; " : "", n->name, total - sum);
    }
    return rc;
}

static bool has_chunk_on(const struct dr_collection *c, const char *node)
{
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        if (strcmp(c->chunk[i].node, node) == 0) {
            return true;
        }
    }
    return false;
}

/* One node's part of the collection. The primary must answer, the others only should. */
static enum dr_code survey_node(struct surveyor *v, const char *name, struct dr_err *err)
{
    struct sq_node *n = NULL;
    const struct sq_table *t = NULL;
    bool is_primary = strcmp(name, v->primary) == 0;
    enum dr_code rc = sq_node_find(v->store, name, &n, err);
    rc = rc == DR_OK ? sq_table_get(n, v->table, &t, err) : rc;
    if (rc == DR_NOT_FOUND && n != NULL && !is_primary && !has_chunk_on(v->at, name)) {
        dr_err_clear(err);
        return DR_OK; /* a shard that never got a chunk need not have the table */
    }
    if (rc != DR_OK) {
        return is_primary && n == NULL ? rc : soften(v, rc, err);
    }
    if (is_primary) {
        const char *missing = missing_field(t, v->filter);
        if (missing != NULL) {
            dr_str_addf(&v->warning, "%shas no field \"%s\"", v->warning.len > 0 ? "; " : "",
                        missing);
        }
        rc = describe_table(v, n, t, err);
    }
    return rc == DR_OK ? soften(v, count_node(v, n, t, err), err) : rc;
}

static enum dr_code survey_collection(struct surveyor *v, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    bool is_spread = v->at->sharding != DR_UNSHARDED;
    dr_str_clear(&v->warning);
    /* The primary first: it describes the table. */
    rc = survey_node(v, v->primary, err);
    for (uint32_t i = 0; rc == DR_OK && is_spread && i < v->survey->node_count; i++) {
        if (strcmp(v->survey->node[i], v->primary) != 0) {
            rc = survey_node(v, v->survey->node[i], err);
        }
    }
    for (uint64_t i = 0; i + 1 < v->at->chunk_count; i++) {
        if (dr_bound_compare(&v->at->chunk[i].upto, &v->at->chunk[i + 1].from) != 0) {
            warn(v, "its chunks leave a gap or overlap");
            break;
        }
    }
    if (rc == DR_OK && v->warning.len > 0) {
        v->at->warning = dr_arena_strdup(v->arena, dr_str_text(&v->warning));
        rc = v->warning.is_short || v->at->warning == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc != DR_OK) {
        dr_wrap(err, "collection %s", v->at->name);
    }
    return rc;
}

static enum dr_code set_one_chunk(struct surveyor *v, struct dr_err *err)
{
    struct dr_chunk *c = dr_arena_alloc(v->arena, sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    *c = (struct dr_chunk){.node = v->primary};
    set_chunks(v, c, 1);
    return DR_OK;
}

/* ---- plain files ---- */

/* A collection per table and view, not yet looked at. */
static enum dr_code list_tables(struct surveyor *v, struct sq_node *n, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_prepare(n,
                                 "SELECT name, type FROM sqlite_master WHERE type IN ('table', "
                                 "'view') ORDER BY name",
                                 &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&n->sql, st, &is_row, err)) == DR_OK && is_row) {
        if (v->only != NULL && sqlite3_stricmp(v->only, dr_sql_text(st, 0)) != 0) {
            continue;
        }
        rc = append_collection(v, err);
        if (rc != DR_OK) {
            break;
        }
        v->at->epoch = 1;
        v->listed[v->survey->collection_count - 1].primary = v->primary;
        v->at->name = dr_arena_printf(v->arena, "main.%s", dr_sql_text(st, 0));
        rc = v->at->name == NULL ? dr_fail_nomem(err) : DR_OK;
        if (rc == DR_OK && strcmp(dr_sql_text(st, 1), "table") == 0) {
            rc = set_one_chunk(v, err);
        }
    }
    sq_done(st);
    return rc;
}

static enum dr_code list_plain_file(struct surveyor *v, struct dr_err *err)
{
    struct sq_node *n = NULL;
    if (strcmp(v->survey->database, "main") != 0) {
        return dr_fail(err, DR_NOT_FOUND,
                       "%s: there is no database \"%s\"; a plain file has only \"main\"",
                       v->store->path, v->survey->database);
    }
    v->primary = "main";
    v->survey->node = dr_arena_memdup(v->arena, &v->primary, sizeof v->primary);
    v->survey->node_count = 1;
    enum dr_code rc =
        v->survey->node == NULL ? dr_fail_nomem(err) : sq_node_find(v->store, "main", &n, err);
    return rc == DR_OK ? list_tables(v, n, err) : rc;
}

/* ---- layout files ---- */

static enum dr_code read_nodes(struct surveyor *v, struct dr_err *err)
{
    struct sq_store *s = v->store;
    int64_t count = 0;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = dr_sql_int(&s->layout, "SELECT count(*) FROM drover_shards", 0, &count, err);
    if (rc == DR_OK) {
        v->survey->node = dr_arena_alloc(v->arena, (size_t)(count + 1) * sizeof(const char *));
        rc = v->survey->node == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        rc = ask_layout(s, "SELECT name FROM drover_shards ORDER BY name", NULL, NULL, &st, err);
    }
    while (rc == DR_OK && (int64_t)v->survey->node_count < count &&
           (rc = dr_sql_step(&s->layout, st, &is_row, err)) == DR_OK && is_row) {
        assert(v->survey->node != NULL);
        char *name = dr_arena_strdup(v->arena, dr_sql_text(st, 0));
        rc = name == NULL ? dr_fail_nomem(err) : DR_OK;
        v->survey->node[v->survey->node_count++] = name;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* Parse a JSON cell of the layout; the caller releases it. */
static enum dr_code read_json(struct surveyor *v, sqlite3_stmt *st, int column, json_t **out,
                              struct dr_err *err)
{
    const char *text = dr_sql_text(st, column);
    enum dr_code rc = dr_json_parse(v->at->name, text, strlen(text), out, err);
    if (rc != DR_OK && rc != DR_NOMEM) {
        dr_wrap(err, "%s", v->store->path);
        rc = DR_CORRUPT;
    }
    return rc;
}

static enum dr_code read_bound(struct surveyor *v, sqlite3_stmt *st, int column,
                               struct dr_bound *out, struct dr_err *err)
{
    json_t *j = NULL;
    enum dr_code rc = read_json(v, st, column, &j, err);
    rc = rc == DR_OK ? dr_bound_from_json(j, v->arena, out, err) : rc;
    json_decref(j);
    if (rc == DR_OK && out->parts > v->at->key_count) {
        rc = dr_fail(err, DR_CORRUPT, "%s: a bound of %s has more parts than its key",
                     v->store->path, v->at->name);
    }
    return rc;
}

static int order_chunks(const void *a, const void *b)
{
    const struct dr_chunk *x = a;
    const struct dr_chunk *y = b;
    int c = dr_bound_compare(&x->from, &y->from);
    c = c != 0 ? c : dr_bound_compare(&x->upto, &y->upto);
    return c != 0 ? c : strcmp(x->node, y->node);
}

static enum dr_code read_chunks(struct surveyor *v, const char *name, struct dr_err *err)
{
    struct sq_store *s = v->store;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    struct dr_chunk *chunk = NULL;
    uint64_t room = 0;
    uint64_t count = 0;
    enum dr_code rc = ask_layout(
        s,
        "SELECT node, min, max FROM drover_chunks WHERE database = ? AND name = ? ORDER BY "
        "rowid",
        v->survey->database, name, &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&s->layout, st, &is_row, err)) == DR_OK && is_row) {
        if (count == room) {
            room = room == 0 ? 16 : room * 2;
            struct dr_chunk *grown = dr_arena_alloc(v->arena, room * sizeof *grown);
            if (grown == NULL) {
                rc = dr_fail_nomem(err);
                break;
            }
            if (count > 0) {
                memcpy(grown, chunk, count * sizeof *grown);
            }
            chunk = grown;
        }
        struct dr_chunk *c = &chunk[count++];
        *c = (struct dr_chunk){.node = dr_arena_strdup(v->arena, dr_sql_text(st, 0))};
        rc = c->node == NULL ? dr_fail_nomem(err) : read_bound(v, st, 1, &c->from, err);
        rc = rc == DR_OK ? read_bound(v, st, 2, &c->upto, err) : rc;
    }
    (void)sqlite3_finalize(st);
    if (rc == DR_OK && count > 1) {
        qsort(chunk, count, sizeof *chunk, order_chunks);
    }
    set_chunks(v, chunk, count);
    return rc;
}

static enum dr_code read_key(struct surveyor *v, sqlite3_stmt *st, int column, struct dr_err *err)
{
    json_t *j = NULL;
    enum dr_code rc = read_json(v, st, column, &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!json_is_array(j) || json_array_size(j) == 0 || json_array_size(j) > DR_KEY_PARTS_MAX) {
        rc = dr_fail(err, DR_CORRUPT, "%s: the key of %s is no array of 1 to %d column names",
                     v->store->path, v->at->name, DR_KEY_PARTS_MAX);
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(j); i++) {
        const char *field = json_string_value(json_array_get(j, i));
        if (field == NULL) {
            rc = dr_fail(err, DR_CORRUPT, "%s: the key of %s has a part that is no name",
                         v->store->path, v->at->name);
            break;
        }
        v->at->key[i] = dr_arena_strdup(v->arena, field);
        v->at->key_count++;
        rc = v->at->key[i] == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(j);
    return rc;
}

/* The row [name, sharding, key, primary_node, epoch] of the layout. */
static enum dr_code read_collection(struct surveyor *v, sqlite3_stmt *st, struct dr_err *err)
{
    const char *sharding = dr_sql_text(st, 1);
    v->at->epoch = (uint64_t)sqlite3_column_int64(st, 4);
    v->at->name = dr_arena_printf(v->arena, "%s.%s", v->survey->database, dr_sql_text(st, 0));
    v->primary = dr_arena_strdup(v->arena, dr_sql_text(st, 3));
    if (v->at->name == NULL || v->primary == NULL) {
        return dr_fail_nomem(err);
    }
    v->listed[v->survey->collection_count - 1].primary = v->primary;
    if (strcmp(sharding, "none") == 0) {
        v->at->sharding = DR_UNSHARDED;
        return set_one_chunk(v, err);
    }
    if (strcmp(sharding, "range") != 0 && strcmp(sharding, "hashed") != 0) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: %s has the sharding \"%.32s\"; known are none, range and hashed",
                       v->store->path, v->at->name, sharding);
    }
    v->at->sharding = sharding[0] == 'r' ? DR_SHARDED_RANGE : DR_SHARDED_HASHED;
    enum dr_code rc = read_key(v, st, 2, err);
    return rc == DR_OK ? read_chunks(v, dr_sql_text(st, 0), err) : rc;
}

static enum dr_code fail_no_database(struct surveyor *v, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    int shown = 0;
    struct dr_str names;
    dr_str_init(&names);
    enum dr_code rc =
        ask_layout(v->store, "SELECT DISTINCT database FROM drover_collections ORDER BY database",
                   NULL, NULL, &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&v->store->layout, st, &is_row, err)) == DR_OK &&
           is_row && shown <= NAMES_SHOWN_MAX) {
        const char *name = shown == NAMES_SHOWN_MAX ? "..." : dr_sql_text(st, 0);
        dr_str_addf(&names, "%s%s", shown == 0 ? "" : ", ", name);
        shown++;
    }
    (void)sqlite3_finalize(st);
    if (rc == DR_OK) {
        rc =
            dr_fail(err, DR_NOT_FOUND, "%s: there is no database \"%s\"; it has: %s",
                    v->store->path, v->survey->database, shown == 0 ? "none" : dr_str_text(&names));
    }
    dr_str_fini(&names);
    return rc;
}

static enum dr_code list_collections(struct surveyor *v, struct dr_err *err)
{
    struct sq_store *s = v->store;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = read_nodes(v, err);
    if (rc == DR_OK) {
        rc = ask_layout(s,
                        "SELECT name, sharding, key, primary_node, epoch FROM drover_collections"
                        " WHERE database = ? ORDER BY name",
                        v->survey->database, NULL, &st, err);
    }
    while (rc == DR_OK && (rc = dr_sql_step(&s->layout, st, &is_row, err)) == DR_OK && is_row) {
        rc = append_collection(v, err);
        rc = rc == DR_OK ? read_collection(v, st, err) : rc;
    }
    (void)sqlite3_finalize(st);
    return rc == DR_OK && v->survey->collection_count == 0 ? fail_no_database(v, err) : rc;
}

/* One read transaction, so that collections and chunks belong together, and it ends before the long
 * counting begins, which must not keep anybody from changing the layout. */
static enum dr_code list_layout_file(struct surveyor *v, struct dr_err *err)
{
    enum dr_code rc = dr_sql_exec(&v->store->layout, "BEGIN", err);
    rc = rc == DR_OK ? list_collections(v, err) : rc;
    dr_sql_rollback(&v->store->layout);
    return rc;
}

static enum dr_code run_survey(struct surveyor *v, struct dr_err *err)
{
    struct dr_err own = {0};
    dr_str_init(&v->warning);
    err = err == NULL ? &own : err; /* warnings are made of messages */
    enum dr_code rc = v->store->is_plain ? list_plain_file(v, err) : list_layout_file(v, err);
    for (uint32_t i = 0; rc == DR_OK && i < v->survey->collection_count; i++) {
        v->at = &v->survey->collection[i];
        v->table = v->store->is_plain ? v->at->name + strlen("main.") : v->at->name;
        v->primary = v->listed[i].primary;
        rc = survey_collection(v, err);
    }
    dr_str_fini(&v->warning);
    return rc;
}

enum dr_code sq_survey(void *impl, const char *database, const struct dr_filter *filter,
                       struct dr_survey *survey, struct dr_err *err)
{
    struct surveyor v = {.store = impl, .survey = survey, .filter = filter, .arena = survey->arena};
    survey->database = database;
    return run_survey(&v, err);
}

enum dr_code sq_survey_one(struct sq_store *s, const char *table, struct dr_survey *survey,
                           struct dr_err *err)
{
    struct surveyor v = {.store = s, .survey = survey, .arena = survey->arena, .only = table};
    survey->database = "main";
    enum dr_code rc = run_survey(&v, err);
    return rc == DR_OK && survey->collection_count == 0
               ? dr_fail(err, DR_NOT_FOUND, "%s: there is no table \"%s\"", s->path, table)
               : rc;
}
