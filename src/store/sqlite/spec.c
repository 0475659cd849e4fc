/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what a request of kind sql.purge says to a plain file: the expression, which stands in
 * parentheses in every statement, the key to walk by and its last value at planning. And the survey
 * of it: that one table, with the evidence (EXPLAIN QUERY PLAN) of how it will be walked. */
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "store/sqlite/sqlite_private.h"
#include "store/sqltext.h"

enum { SPEC_PLAN_BYTES = 240 };

/* ---- reading ---- */

static enum dr_code read_key(const json_t *list, struct dr_arena *a, struct sq_spec *out,
                             struct dr_err *err)
{
    if (json_array_size(list) > DR_KEY_PARTS_MAX) {
        return dr_fail(err, DR_INPUT, "key: at most %d columns", DR_KEY_PARTS_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL) {
            return dr_fail(err, DR_INPUT, "key: names of columns are needed");
        }
        out->key[i] = dr_arena_strdup(a, name);
        if (out->key[i] == NULL) {
            return dr_fail_nomem(err);
        }
        out->key_count++;
    }
    return DR_OK;
}

static enum dr_code read_last(const json_t *list, struct dr_arena *a, struct sq_spec *out,
                              struct dr_err *err)
{
    if (json_array_size(list) == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_bound_from_json(list, a, &out->last, err);
    for (uint32_t i = 0; rc == DR_OK && i < out->last.parts; i++) {
        enum dr_value_type type = out->last.part[i].type;
        if (type == DR_V_NULL || type == DR_V_MIN || type == DR_V_MAX || type == DR_V_TAGGED) {
            rc = dr_fail(err, DR_INPUT, "last_key: values of the key are needed");
        }
    }
    return rc;
}

static enum dr_code read_text(const json_t *job, const char *key, struct dr_arena *a,
                              const char **out, struct dr_err *err)
{
    const char *text = json_string_value(json_object_get(job, key));
    *out = text == NULL ? NULL : dr_arena_strdup(a, text);
    return text != NULL && *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code sq_spec_parse(const char *text, struct dr_arena *a, struct sq_spec *out,
                           struct dr_err *err)
{
    json_t *job = NULL;
    *out = (struct sq_spec){0};
    if (text == NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("request", text, strlen(text), &job, err);
    rc = rc == DR_OK ? read_text(job, "table", a, &out->table, err) : rc;
    rc = rc == DR_OK ? read_text(job, "where", a, &out->where, err) : rc;
    /* Stored requests were checked already; this is the last door before a statement. */
    if (rc == DR_OK && out->where != NULL) {
        rc = dr_sql_check_expression("where", out->where, err);
    }
    rc = rc == DR_OK ? read_key(json_object_get(job, "key"), a, out, err) : rc;
    rc = rc == DR_OK ? read_last(json_object_get(job, "last_key"), a, out, err) : rc;
    json_decref(job);
    return rc;
}

bool sq_is_rowid(const struct sq_table *t, const struct sq_spec *spec)
{
    return spec->key_count == 1 && !t->is_without_rowid && t->rowid != NULL &&
           strcasecmp(spec->key[0], "rowid") == 0 && sq_column_find(t, spec->key[0]) < 0;
}

/* ---- statements ---- */

void sq_add_where(struct sq_query *q, const struct sq_walk *w, bool *is_first)
{
    if (w->where != NULL) {
        dr_str_addf(&q->text, "%s(%s\n)", *is_first ? " WHERE " : " AND ", w->where);
        *is_first = false;
    }
}

static enum dr_code has_row(struct sq_node *n, const struct sq_query *q, bool *out,
                            struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = sq_query_start(n, q, &st, err);
    rc = rc == DR_OK ? dr_sql_step(&n->sql, st, out, err) : rc;
    sq_done(st);
    return rc;
}

enum dr_code sq_where_matches(struct sq_node *n, const struct sq_walk *w, const struct dr_value *id,
                              bool *out, struct dr_err *err)
{
    struct sq_query q;
    bool is_first = false;
    sq_query_init(&q);
    dr_str_addf(&q.text, "SELECT 1 FROM %s", w->table->quoted);
    sq_add_identity_where(w->table, &q, id);
    sq_add_where(&q, w, &is_first);
    enum dr_code rc = has_row(n, &q, out, err);
    sq_query_fini(&q);
    return rc;
}

/* ---- evidence ---- */

struct evidence {
    struct sq_store *store;
    struct sq_node *node;
    const struct sq_table *table;
    struct dr_arena *arena;
    struct sq_spec spec;
    struct sq_walk walk;
    char plan[SPEC_PLAN_BYTES];
    bool has_sort;
    bool serves; /* the walk's own order narrows what the expression selects */
    struct dr_bound last;
    struct dr_value first[2 * DR_KEY_PARTS_MAX];
    bool has_rows;
};

/* An expression of one table's columns: it must be readable, and nothing may be left to bind. */
static enum dr_code check_where(struct evidence *e, struct dr_err *err)
{
    struct sq_query q;
    sqlite3_stmt *st = NULL;
    bool is_first = true;
    if (e->spec.where == NULL) {
        return DR_OK;
    }
    sq_query_init(&q);
    dr_str_addf(&q.text, "SELECT 1 FROM %s", e->table->quoted);
    struct sq_walk w = {.where = e->spec.where};
    sq_add_where(&q, &w, &is_first);
    enum dr_code rc = sq_query_start(e->node, &q, &st, err);
    if (rc != DR_OK && rc != DR_NOMEM) {
        dr_wrap(err, "where");
        rc = DR_INPUT;
    } else if (rc == DR_OK &&
               (sqlite3_bind_parameter_count(st) > 0 || sqlite3_stmt_readonly(st) == 0)) {
        rc = dr_fail(err, DR_INPUT, "where: a parameter stands in it; write the value itself");
    }
    sq_done(st);
    sq_query_fini(&q);
    return rc;
}

/* Values of the walk's order at one of its ends. */
static enum dr_code read_end(struct evidence *e, bool is_last, struct dr_value *out,
                             struct dr_err *err)
{
    struct sq_query q;
    sqlite3_stmt *st = NULL;
    const struct sq_walk *w = &e->walk;
    bool is_row = false;
    sq_query_init(&q);
    dr_str_add(&q.text, "SELECT ");
    for (uint32_t i = 0; i < w->ref_count; i++) {
        dr_str_addf(&q.text, "%s%s", i == 0 ? "" : ", ", w->ref[i].sql);
    }
    dr_str_addf(&q.text, " FROM %s ORDER BY ", w->table->quoted);
    for (uint32_t i = 0; i < w->ref_count; i++) {
        dr_str_add(&q.text, i == 0 ? "" : ", ");
        sq_add_ref(&q, &w->ref[i], false);
        dr_str_add(&q.text, is_last ? " DESC" : "");
    }
    dr_str_add(&q.text, " LIMIT 1");
    enum dr_code rc = sq_query_start(e->node, &q, &st, err);
    rc = rc == DR_OK ? dr_sql_step(&e->node->sql, st, &is_row, err) : rc;
    e->has_rows = is_row;
    for (uint32_t i = 0; rc == DR_OK && is_row && i < w->ref_count; i++) {
        rc = sq_column_value(e->node, st, (int)i, &out[i], err);
        if (rc == DR_OK && (out[i].type == DR_V_TEXT || out[i].type == DR_V_BLOB)) {
            out[i].data = dr_arena_memdup(e->arena, out[i].data, out[i].len + (out[i].len == 0));
            rc = out[i].data == NULL ? dr_fail_nomem(err) : DR_OK;
        }
    }
    sq_done(st);
    sq_query_fini(&q);
    return rc;
}

/* The greatest key there is: rows that come later are not this purge's. No bound where a part of it
 * is NULL, which nothing compares with. */
static enum dr_code find_last(struct evidence *e, struct dr_err *err)
{
    struct dr_value at[2 * DR_KEY_PARTS_MAX] = {0};
    if (e->walk.ref_count > sizeof at / sizeof at[0]) {
        return dr_fail(err, DR_UNSUPPORTED, "table %s: a key of more than %d columns",
                       e->table->name, DR_KEY_PARTS_MAX);
    }
    enum dr_code rc = read_end(e, false, e->first, err);
    rc = rc == DR_OK ? read_end(e, true, at, err) : rc;
    uint32_t parts = e->spec.key_count > 0 ? e->spec.key_count : e->table->id_count;
    bool is_bound = rc == DR_OK && e->has_rows && parts <= DR_KEY_PARTS_MAX;
    for (uint32_t i = 0; is_bound && i < parts; i++) {
        is_bound = at[i].type != DR_V_NULL;
    }
    if (e->spec.last.parts > 0) { /* it was said already where to end */
        e->last = e->spec.last;
    } else if (is_bound) {
        e->last.parts = parts;
        memcpy(e->last.part, at, parts * sizeof at[0]);
    }
    e->walk.last = e->last;
    return rc;
}

/* The lines of an EXPLAIN QUERY PLAN: the first is how the table itself is read. */
static enum dr_code explain(struct evidence *e, const struct sq_query *q, char *first,
                            bool *has_sort, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    bool is_first = true;
    first[0] = '\0';
    *has_sort = false;
    enum dr_code rc = sq_query_start(e->node, q, &st, err);
    while (rc == DR_OK && (rc = dr_sql_step(&e->node->sql, st, &is_row, err)) == DR_OK && is_row) {
        const char *detail = dr_sql_text(st, 3);
        if (is_first) {
            dr_copy_text(first, SPEC_PLAN_BYTES, detail);
        }
        is_first = false;
        *has_sort = *has_sort || strstr(detail, "TEMP B-TREE FOR ORDER BY") != NULL;
    }
    sq_done(st);
    return rc;
}

/* How a batch in the middle of the walk is read. */
static enum dr_code explain_walk(struct evidence *e, struct dr_err *err)
{
    struct sq_query q;
    sq_query_init(&q);
    enum dr_code rc = sq_walk_text(&e->walk, e->has_rows ? e->first : NULL, &q, err);
    rc = rc == DR_OK ? explain(e, &q, e->plan, &e->has_sort, err) : rc;
    sq_query_fini(&q);
    return rc;
}

/* Left to itself, would SQLite find what the expression selects by the tree that is walked? */
static enum dr_code explain_where(struct evidence *e, struct dr_err *err)
{
    char plan[SPEC_PLAN_BYTES];
    struct sq_query q;
    bool is_first = true;
    bool has_sort = false;
    if (e->walk.where == NULL) {
        return DR_OK;
    }
    sq_query_init(&q);
    dr_str_addf(&q.text, "EXPLAIN QUERY PLAN SELECT * FROM %s", e->table->quoted);
    sq_add_where(&q, &e->walk, &is_first);
    enum dr_code rc = explain(e, &q, plan, &has_sort, err);
    if (rc == DR_OK && strncmp(plan, "SEARCH ", 7) == 0) {
        const char *wanted = e->walk.index == NULL
                                 ? "PRIMARY KEY"
                                 : dr_arena_printf(e->arena, " INDEX %s ", e->walk.index_name);
        rc = wanted == NULL ? dr_fail_nomem(err) : DR_OK;
        e->serves = wanted != NULL && strstr(plan, wanted) != NULL;
    }
    sq_query_fini(&q);
    return rc;
}

/* ---- the survey ---- */

static json_t *list_key(const struct evidence *e)
{
    json_t *list = json_array();
    uint32_t count = e->spec.key_count > 0 ? e->spec.key_count : e->table->id_count;
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        int column = e->walk.ref[i].column;
        const char *name = column < 0 ? "rowid" : e->table->column[column].name;
        if (json_array_append_new(list, json_string(name)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Tables whose rows would follow, if the foreign keys were obeyed. */
static enum dr_code list_children(struct evidence *e, bool is_changed, json_t *list,
                                  struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_prepare(
        e->node,
        "SELECT DISTINCT m.name, f.on_delete FROM sqlite_master m, pragma_foreign_key_list(m.name) "
        "f WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE AND m.name <> ?1 COLLATE "
        "NOCASE AND (f.on_delete IN "
        "('CASCADE', 'SET NULL', 'SET DEFAULT')) = ?2 ORDER BY 1",
        &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, e->table->name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_int(st, 2, is_changed);
    }
    while (rc == DR_OK && (rc = dr_sql_step(&e->node->sql, st, &is_row, err)) == DR_OK && is_row) {
        json_t *one =
            json_pack("{s:s, s:s}", "table", dr_sql_text(st, 0), "rule", dr_sql_text(st, 1));
        rc = json_array_append_new(list, one) == 0 ? DR_OK : dr_fail_nomem(err);
    }
    sq_done(st);
    return rc;
}

static enum dr_code warn_of_children(struct evidence *e, struct dr_collection *c,
                                     struct dr_err *err)
{
    json_t *list = json_array();
    enum dr_code rc = list == NULL ? dr_fail_nomem(err) : list_children(e, false, list, err);
    if (rc == DR_OK && json_array_size(list) > 0) {
        const char *child = json_string_value(json_object_get(json_array_get(list, 0), "table"));
        c->warning = dr_arena_printf(e->arena,
                                     "%s%stable %s refers to it; drover does not enforce SQLite's "
                                     "foreign keys: purge the children first",
                                     c->warning == NULL ? "" : c->warning,
                                     c->warning == NULL ? "" : "; ", child == NULL ? "?" : child);
        rc = c->warning == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(list);
    return rc;
}

static json_t *make_extra(struct evidence *e, const struct dr_collection *c, struct dr_err *err)
{
    const struct sq_walk *w = &e->walk;
    json_t *cascades = json_array();
    bool is_good = cascades != NULL && list_children(e, true, cascades, err) == DR_OK;
    const char *index = w->index != NULL ? w->index_name : "PRIMARY KEY";
    bool is_all = c->rows_total > 0 && c->rows_matched >= c->rows_total;
    json_t *extra =
        !is_good
            ? NULL
            : json_pack("{s:s, s:s, s:o, s:s, s:b, s:o, s:s, s:b, s:b, s:I, s:I, s:b, s:b, s:[], "
                        "s:O, s:n, s:[]}",
                        "dialect", "sqlite", "version", sqlite3_libversion(), "key", list_key(e),
                        "key_index", index, "key_is_unique", w->is_own_tree, "last_key",
                        dr_bound_to_json(&e->last), "plan", e->plan, "uses_index", !e->has_sort,
                        "serves", e->serves, "estimate", (json_int_t)c->rows_matched, "rows",
                        (json_int_t)c->rows_matched, "matches_all", is_all, "partitioned", false,
                        "partitions", "cascades", cascades, "advice", "warnings");
    json_decref(cascades);
    return extra;
}

static enum dr_code gather(struct evidence *e, const struct dr_range *r, struct dr_err *err)
{
    enum dr_code rc = check_where(e, err);
    rc = rc == DR_OK ? sq_walk_plan(e->store, e->node, e->table, r, e->arena, &e->walk, err) : rc;
    rc = rc == DR_OK ? find_last(e, err) : rc;
    rc = rc == DR_OK ? explain_walk(e, err) : rc;
    return rc == DR_OK ? explain_where(e, err) : rc;
}

/* Rows up to the last key; those behind it are not walked either. */
static enum dr_code count_matches(struct evidence *e, const struct dr_range *r,
                                  struct dr_collection *c, struct dr_err *err)
{
    struct dr_chunk *chunk = dr_arena_memdup(e->arena, c->chunk, sizeof *chunk);
    enum dr_code rc =
        chunk == NULL ? dr_fail_nomem(err) : sq_count(e->store, r, &c->rows_matched, err);
    if (rc == DR_OK) {
        chunk->rows = c->rows_matched;
        chunk->is_rows_known = true;
        c->chunk = chunk;
    }
    return rc;
}

static enum dr_code survey_table(struct evidence *e, const char *spec, struct dr_survey *survey,
                                 struct dr_err *err)
{
    struct dr_collection *c = &survey->collection[0];
    const struct dr_range r = {
        .node = "main", .collection = c->name, .access = DR_BY_SCAN, .spec = spec, .epoch = 1};
    enum dr_code rc = sq_node_find(e->store, "main", &e->node, err);
    rc = rc == DR_OK ? sq_table_usable(e->node, e->spec.table, &e->table, err) : rc;
    rc = rc == DR_OK ? gather(e, &r, err) : rc;
    rc = rc == DR_OK ? count_matches(e, &r, c, err) : rc;
    rc = rc == DR_OK ? warn_of_children(e, c, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    json_t *extra = make_extra(e, c, err);
    char *text = extra == NULL ? NULL : dr_json_text(extra);
    survey->extra = text == NULL ? NULL : dr_arena_strdup(e->arena, text);
    dr_free(text);
    json_decref(extra);
    return survey->extra == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code sq_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct evidence e = {.store = impl, .arena = survey->arena};
    if (!e.store->is_plain) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: a sharded layout; an expression purges the table of a plain file only, "
                       "use the kind \"purge\" with a filter",
                       e.store->path);
    }
    enum dr_code rc = sq_spec_parse(spec, survey->arena, &e.spec, err);
    if (rc == DR_OK && e.spec.table == NULL) {
        rc = dr_fail(err, DR_INPUT, "the request names no table");
    }
    rc = rc == DR_OK ? sq_survey_one(e.store, e.spec.table, survey, err) : rc;
    if (rc != DR_OK || survey->collection[0].is_view) {
        survey->extra = rc == DR_OK ? "{}" : NULL;
        return rc;
    }
    return survey_table(&e, spec, survey, err);
}
