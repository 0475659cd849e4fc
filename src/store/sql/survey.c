/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the survey of a database (of PostgreSQL: a schema): its tables and what hangs on them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/sql/sql_private.h"

enum { WARNING_BYTES_MAX = 4096, BYTES_STEP = 1 << 20 };

void sa_warn(struct dr_str *warning, const char *text)
{
    if (warning->len <= WARNING_BYTES_MAX) {
        dr_str_addf(warning, "%s%s", warning->len > 0 ? "; " : "", text);
    }
}

/* ---- one table ---- */

static enum dr_code copy_indexes(const struct sa_table *t, struct dr_arena *a,
                                 struct dr_collection *out, struct dr_err *err)
{
    struct dr_index *x = dr_arena_alloc(a, (t->index_count + 1) * sizeof *x);
    if (x == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < t->index_count; i++) {
        x[i] = t->index[i].shown;
        x[i].name = dr_arena_strdup(a, x[i].name);
        bool is_short = x[i].name == NULL;
        for (uint32_t k = 0; k < x[i].field_count; k++) {
            x[i].field[k] = dr_arena_strdup(a, x[i].field[k]);
            is_short = is_short || x[i].field[k] == NULL;
        }
        if (is_short) {
            return dr_fail_nomem(err);
        }
    }
    out->index = x;
    out->index_count = t->index_count;
    return DR_OK;
}

static void warn_of_table(const struct sa_table *t, struct dr_str *warning)
{
    struct dr_str text;
    dr_str_init(&text);
    if (sa_has_cascades(t)) {
        sa_add_cascades(t, &text);
        struct dr_str line;
        dr_str_init(&line);
        dr_str_addf(&line, "deleting here changes rows of %s: delete the children first",
                    dr_str_text(&text));
        sa_warn(warning, dr_str_text(&line));
        dr_str_fini(&line);
    }
    if (t->triggers != NULL) {
        dr_str_clear(&text);
        dr_str_addf(&text, "has triggers or rules: %s", t->triggers);
        sa_warn(warning, dr_str_text(&text));
    }
    if (t->key_count == 0 && !t->is_view) {
        sa_warn(warning, "has no usable key: rows that are alike in every column cannot be told "
                         "apart, and are deleted one at a time if that is allowed");
    }
    if (t->is_versioned) {
        sa_warn(warning, "keeps the history of its rows itself: what is deleted stays there");
    }
    if (t->has_policies) {
        sa_warn(warning, "has row level security: rows may be hidden from this user");
    }
    dr_str_fini(&text);
}

enum dr_code sa_describe(struct sa_store *s, struct sa_table *t, struct dr_arena *a,
                         struct dr_collection *out, struct dr_str *warning, struct dr_err *err)
{
    struct dr_chunk *chunk = dr_arena_alloc(a, sizeof *chunk);
    out->name = dr_arena_strdup(a, t->shown);
    if (chunk == NULL || out->name == NULL) {
        return dr_fail_nomem(err);
    }
    *chunk = (struct dr_chunk){.node = "main"};
    out->sharding = DR_UNSHARDED;
    out->chunk = chunk;
    out->chunk_count = t->is_view ? 0 : 1;
    out->epoch = t->epoch;
    out->is_view = t->is_view;
    out->is_system = t->is_system;
    out->has_triggers = t->triggers != NULL || sa_has_cascades(t);
    out->has_reference = t->child_count > 0;
    /* Statistics of small tables change by themselves: a survey is to be the same twice. */
    out->bytes_total = t->bytes / BYTES_STEP * BYTES_STEP;
    warn_of_table(t, warning);
    enum dr_code rc = copy_indexes(t, a, out, err);
    if (rc == DR_OK && !t->is_view && !t->is_system) {
        rc = sa_create_text(s, t, a, &out->create_text, warning, err);
        out->drop_text = dr_arena_printf(a, "DROP TABLE %s", t->quoted);
        rc = rc == DR_OK && out->drop_text == NULL ? dr_fail_nomem(err) : rc;
    }
    return rc;
}

/* ---- counting ---- */

/* A failing count is a warning: the table can still be worked on. */
static enum dr_code soften(enum dr_code rc, struct dr_str *warning, struct dr_err *err)
{
    if (rc == DR_OK || rc == DR_NOMEM) {
        return rc;
    }
    sa_warn(warning, err->msg);
    dr_err_clear(err);
    return DR_OK;
}

static enum dr_code count_table(struct sa_store *s, struct sa_table *t,
                                const struct dr_filter *filter, uint64_t *out, struct dr_err *err)
{
    struct sa_query q;
    int64_t rows = 0;
    sa_query_init(&q, s);
    dr_str_addf(&q.text, "SELECT count(*) FROM %s", t->from);
    if (filter != NULL) {
        dr_str_add(&q.text, " WHERE ");
        sa_add_filter(&q, t, filter);
    }
    enum dr_code rc = sa_query_number(s, &q, &rows, err);
    sa_query_fini(&q);
    *out = rows < 0 ? 0 : (uint64_t)rows;
    return rc;
}

static const char *missing_field(const struct sa_table *t, const struct dr_filter *f)
{
    for (uint32_t i = 0; f != NULL && i < f->term_count; i++) {
        if (sa_column_find(t, f->term[i].field) < 0) {
            return f->term[i].field;
        }
    }
    return NULL;
}

static enum dr_code count_rows(struct sa_store *s, struct sa_table *t,
                               const struct dr_filter *filter, struct dr_collection *c,
                               struct dr_str *warning, struct dr_err *err)
{
    struct dr_chunk *chunk = (struct dr_chunk *)c->chunk;
    const char *missing = missing_field(t, filter);
    enum dr_code rc = count_table(s, t, NULL, &c->rows_total, err);
    if (rc != DR_OK) {
        c->rows_total = t->rows_estimate < 0 ? 0 : (uint64_t)t->rows_estimate;
        return soften(rc, warning, err);
    }
    c->rows_matched = c->rows_total;
    if (missing != NULL) {
        dr_str_addf(warning, "%shas no field \"%s\"", warning->len > 0 ? "; " : "", missing);
        c->rows_matched = 0;
    } else if (filter != NULL) {
        rc = sa_filter_check(t, filter, err);
        rc = rc == DR_OK ? count_table(s, t, filter, &c->rows_matched, err) : rc;
    }
    chunk->is_rows_known = rc == DR_OK;
    chunk->rows = c->rows_matched;
    return soften(rc, warning, err);
}

/* ---- a database ---- */

struct list {
    struct dr_arena *arena;
    const char *schema;
    const char **name;
    uint32_t count;
    uint32_t room;
};

static enum dr_code take_name(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct list *l = arg;
    (void)count;
    if (l->count == l->room) {
        uint32_t room = l->room == 0 ? 64 : l->room * 2;
        const char **grown = dr_arena_alloc(l->arena, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        if (l->count > 0) {
            memcpy(grown, l->name, l->count * sizeof *grown);
        }
        l->name = grown;
        l->room = room;
    }
    const char *name = sa_copy(l->arena, &v[0]);
    l->name[l->count++] = name == NULL ? NULL : dr_arena_printf(l->arena, "%s.%s", l->schema, name);
    return l->name[l->count - 1] == NULL ? dr_fail_nomem(err) : DR_OK;
}

static int order_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum dr_code list_tables(struct sa_store *s, const char *schema, struct list *l,
                                struct dr_err *err)
{
    int64_t is_there = 0;
    struct dr_value param = sa_text(schema);
    enum dr_code rc = sa_ask_number(
        s->db,
        s->is_pg ? "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = ?::text"
                 : "SELECT count(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
        schema, NULL, &is_there, NULL, err);
    if (rc == DR_OK && is_there == 0) {
        return dr_fail(err, DR_NOT_FOUND, "there is no %s \"%s\" (or it may not be seen)",
                       s->is_pg ? "schema" : "database", schema);
    }
    rc =
        rc != DR_OK
            ? rc
            : dr_sqldb_query(s->db,
                             s->is_pg ? "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN "
                                        "pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "
                                        "n.nspname = ?::text AND c.relkind IN ('r', 'p', 'v', 'm', "
                                        "'f') AND NOT c.relispartition"
                                      : "SELECT TABLE_NAME FROM information_schema.TABLES WHERE "
                                        "TABLE_SCHEMA = ?",
                             &param, 1, take_name, l, err);
    if (rc == DR_OK && l->count > 1) {
        qsort(l->name, l->count, sizeof *l->name, order_names);
    }
    return rc;
}

static enum dr_code survey_table(struct sa_store *s, const char *name,
                                 const struct dr_filter *filter, struct dr_survey *survey,
                                 struct dr_collection *c, struct dr_err *err)
{
    struct sa_table *t = NULL;
    struct dr_str warning;
    dr_str_init(&warning);
    sa_table_forget(s, name);
    enum dr_code rc = sa_table_get(s, name, &t, err);
    rc = rc == DR_OK ? sa_describe(s, t, survey->arena, c, &warning, err) : rc;
    if (rc == DR_OK && !t->is_view) {
        rc = count_rows(s, t, filter, c, &warning, err);
    }
    sa_add_blind(s, &warning);
    if (rc == DR_OK && warning.len > 0) {
        c->warning = dr_arena_strdup(survey->arena, dr_str_text(&warning));
        rc = warning.is_short || c->warning == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_str_fini(&warning);
    if (rc != DR_OK) {
        dr_wrap(err, "table %s", name);
    }
    return rc;
}

enum dr_code sa_survey(void *impl, const char *database, const struct dr_filter *filter,
                       struct dr_survey *survey, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct sa_vitals vitals;
    struct list l = {.arena = survey->arena, .schema = database};
    static const char *const main_node = "main";
    survey->node = dr_arena_memdup(survey->arena, &main_node, sizeof(const char *));
    survey->node_count = 1;
    enum dr_code rc = survey->node == NULL ? dr_fail_nomem(err) : list_tables(s, database, &l, err);
    rc = rc == DR_OK ? sa_read_vitals(s, &vitals, err) : rc; /* to know what cannot be read */
    if (rc == DR_OK) {
        survey->collection =
            dr_arena_alloc(survey->arena, (l.count + 1) * sizeof *survey->collection);
        rc = survey->collection == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    for (uint32_t i = 0; rc == DR_OK && i < l.count; i++) {
        struct dr_collection *c = &survey->collection[survey->collection_count];
        *c = (struct dr_collection){0};
        rc = survey_table(s, l.name[i], filter, survey, c, err);
        if (rc == DR_NOT_FOUND) { /* dropped while we looked */
            dr_err_clear(err);
            rc = DR_OK;
            continue;
        }
        survey->collection_count++;
    }
    return rc;
}
