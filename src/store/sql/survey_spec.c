/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the survey of a purge by condition: the one table it names, the key to walk it by, the last
 * key there is now (rows that come later are not this purge's), and the evidence that the
 * statements follow an index. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "store/sql/sql_private.h"

enum { PARTITIONS_MAX = 200 };

/* ---- ends of the walk ---- */

struct end {
    struct dr_arena *arena;
    struct dr_value value[2 * DR_KEY_PARTS_MAX];
    uint32_t count;
};

static enum dr_code take_end(void *arg, const struct dr_value *v, uint32_t count,
                             struct dr_err *err)
{
    struct end *e = arg;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = sa_copy_value(e->arena, &v[i], &e->value[i], err);
    }
    e->count = count;
    return rc;
}

static enum dr_code read_end(struct sa_store *s, const struct sa_walk *w, bool is_last,
                             struct end *out, struct dr_err *err)
{
    struct sa_query q;
    sa_query_init(&q, s);
    dr_str_add(&q.text, "SELECT ");
    for (uint32_t i = 0; i < w->ref_count; i++) {
        dr_str_addf(&q.text, "%s%s", i == 0 ? "" : ", ", w->table->column[w->ref[i]].quoted);
    }
    sa_add_from(&q, w);
    sa_add_order(&q, w, is_last);
    dr_str_add(&q.text, " LIMIT 1");
    enum dr_code rc = sa_query_rows(s, &q, take_end, out, err);
    sa_query_fini(&q);
    return rc;
}

/* ---- partitions ---- */

struct partitions {
    json_t *list;
    bool is_short;
};

static enum dr_code take_partition(void *arg, const struct dr_value *v, uint32_t count,
                                   struct dr_err *err)
{
    struct partitions *p = arg;
    if (count < 3 || json_array_size(p->list) >= PARTITIONS_MAX) {
        return DR_OK;
    }
    json_t *one = json_pack("{s:o, s:o, s:I}", "name", dr_value_to_json(&v[0]), "table",
                            dr_value_to_json(&v[1]), "rows", (json_int_t)sa_int(&v[2]));
    return json_array_append_new(p->list, one) == 0 ? DR_OK : dr_fail_nomem(err);
}

static enum dr_code read_partitions(struct sa_store *s, const struct sa_table *t, json_t *list,
                                    struct dr_err *err)
{
    struct partitions p = {.list = list};
    struct dr_value param[2] = {sa_text(t->schema), sa_text(t->name)};
    return dr_sqldb_query(
        s->db,
        s->is_pg
            ? "SELECT c.relname::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), "
              "GREATEST(c.reltuples, 0)::bigint FROM pg_catalog.pg_partition_tree((SELECT x.oid "
              "FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace y ON y.oid = "
              "x.relnamespace WHERE y.nspname = ?::text AND x.relname = ?::text)) p JOIN "
              "pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = "
              "c.relnamespace WHERE p.isleaf ORDER BY 1"
            : "SELECT DISTINCT PARTITION_NAME, '', CAST(SUM(TABLE_ROWS) AS SIGNED) FROM "
              "information_schema.PARTITIONS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND "
              "PARTITION_NAME IS NOT NULL GROUP BY PARTITION_NAME, PARTITION_ORDINAL_POSITION "
              "ORDER "
              "BY PARTITION_ORDINAL_POSITION",
        param, 2, take_partition, &p, err);
}

/* Does a partition hold rows, and only rows that the condition selects? */
static enum dr_code is_whole_partition(struct sa_store *s, const struct sa_walk *w,
                                       const json_t *partition, bool *out, struct dr_err *err)
{
    const struct sa_table *t = w->table;
    struct sa_query q;
    int64_t has_row = 0;
    int64_t has_other = 0;
    struct dr_str from;
    dr_str_init(&from);
    if (s->is_pg) {
        dr_str_addf(&from, " FROM %s AS ", json_string_value(json_object_get(partition, "table")));
        dr_sql_quote_name(&from, t->name);
    } else {
        dr_str_addf(&from, " FROM %s PARTITION (", t->from);
        dr_sql_quote_name(&from, json_string_value(json_object_get(partition, "name")));
        dr_str_addc(&from, ')');
    }
    sa_query_init(&q, s);
    dr_str_addf(&q.text, "SELECT 1%s LIMIT 1", dr_str_text(&from));
    enum dr_code rc = from.is_short ? dr_fail_nomem(err) : sa_query_number(s, &q, &has_row, err);
    sa_query_clear(&q);
    dr_str_addf(&q.text, "SELECT 1%s WHERE (%s\n) IS NOT TRUE LIMIT 1", dr_str_text(&from),
                w->spec.where);
    if (rc == DR_OK && has_row != 0) {
        rc = sa_query_number(s, &q, &has_other, err);
    }
    *out = has_row != 0 && has_other == 0;
    sa_query_fini(&q);
    dr_str_fini(&from);
    return rc;
}

/* ---- advice ---- */

static enum dr_code add_partition_advice(struct sa_store *s, const struct sa_walk *w,
                                         const json_t *partitions, struct dr_str *advice,
                                         struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint32_t whole = 0;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(partitions); i++) {
        const json_t *one = json_array_get(partitions, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        bool is_whole = false;
        rc = name == NULL ? DR_OK : is_whole_partition(s, w, one, &is_whole, err);
        if (is_whole && name != NULL) {
            dr_str_addf(advice, "%s%s",
                        whole++ == 0 ? "the condition selects every row of "
                                       "partition "
                                     : ", ",
                        name);
        }
    }
    if (whole > 0) {
        dr_str_add(advice, s->is_pg ? ": DETACH PARTITION and drop them instead of deleting rows"
                                    : ": DROP PARTITION instead of deleting rows");
    }
    return rc;
}

/* ---- the JSON ---- */

static json_t *list_names(const struct sa_walk *w)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < w->ref_count; i++) {
        if (json_array_append_new(list, json_string(w->table->column[w->ref[i]].name)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *list_values(const struct end *e)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < e->count; i++) {
        if (json_array_append_new(list, dr_value_to_json(&e->value[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *list_cascades(const struct sa_table *t)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->child_count; i++) {
        const struct sa_child *child = &t->child[i];
        if (child->rule == NULL) {
            continue;
        }
        if (json_array_append_new(
                list, json_pack("{s:s, s:s}", "table", child->name, "rule", child->rule)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *version_text(const struct sa_store *s)
{
    uint32_t v = s->info->version;
    return s->is_pg ? json_sprintf("%" PRIu32 ".%" PRIu32, v / 10000, v % 10000)
                    : json_sprintf("%" PRIu32 ".%" PRIu32 ".%" PRIu32, v / 10000, v / 100 % 100,
                                   v % 100);
}

struct facts {
    struct sa_walk walk;
    struct end first, last;
    struct sa_explained explained;
    json_t *partitions;
    struct dr_str advice;
    struct dr_str warning;
    bool matches_all;
};

static json_t *make_extra(const struct sa_store *s, const struct facts *f,
                          const struct dr_collection *c)
{
    const struct sa_table *t = f->walk.table;
    const struct sa_index *x = f->walk.index;
    json_t *warnings = json_array();
    if (f->warning.len > 0 &&
        json_array_append_new(warnings, json_string(dr_str_text(&f->warning))) != 0) {
        json_decref(warnings);
        return NULL;
    }
    const char *dialect = s->is_pg ? "postgres" : s->info->is_mysql ? "mysql" : "mariadb";
    return json_pack(
        "{s:s, s:o, s:o, s:s?, s:b, s:o, s:s, s:b, s:I, s:I, s:b, s:b, s:O, s:o, s:s?, "
        "s:o}",
        "dialect", dialect, "version", version_text(s), "key", list_names(&f->walk), "key_index",
        x == NULL ? NULL : x->shown.name, "key_is_unique", x != NULL && x->is_strict, "last_key",
        list_values(&f->last), "plan", f->explained.plan, "uses_index", f->explained.uses_index,
        "estimate", (json_int_t)f->explained.estimate, "rows", (json_int_t)c->rows_matched,
        "matches_all", f->matches_all, "partitioned", t->is_partitioned, "partitions",
        f->partitions, "cascades", list_cascades(t), "advice",
        f->advice.len > 0 ? dr_str_text(&f->advice) : NULL, "warnings", warnings);
}

/* ---- gathering ---- */

static enum dr_code read_ends(struct sa_store *s, struct facts *f, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    f->explained = (struct sa_explained){.plan = "full table scan", .estimate = -1};
    if (f->walk.ref_count == 0) {
        return DR_OK;
    }
    rc = read_end(s, &f->walk, false, &f->first, err);
    rc = rc == DR_OK ? read_end(s, &f->walk, true, &f->last, err) : rc;
    if (rc == DR_OK && f->walk.spec.last.parts > 0) { /* it is said already where to end */
        f->last.count = f->walk.spec.last.parts;
        memcpy(f->last.value, f->walk.spec.last.part, sizeof f->walk.spec.last.part);
    } else if (f->last.count <= DR_KEY_PARTS_MAX) {
        f->walk.spec.last.parts = f->last.count;
        memcpy(f->walk.spec.last.part, f->last.value, sizeof f->walk.spec.last.part);
    } else {
        f->last.count = DR_KEY_PARTS_MAX; /* a bound shorter than the key would leave rows out */
        f->last.count = 0;
    }
    return rc;
}

/* Both forms of the statement: the first batch, and one that goes on behind a key. */
static enum dr_code explain_both(struct sa_store *s, struct facts *f, struct dr_err *err)
{
    struct sa_explained first;
    enum dr_code rc = sa_explain(s, &f->walk, NULL, &first, err);
    f->explained = first;
    if (rc == DR_OK && f->first.count > 0 && f->walk.ref_count > 0) {
        rc = sa_explain(s, &f->walk, f->first.value, &f->explained, err);
        f->explained.estimate = first.estimate;
        f->explained.uses_index = f->explained.uses_index && first.uses_index;
    }
    if (rc == DR_OK && !f->explained.uses_index) {
        sa_warn(&f->warning, "the statement does not follow an index: each batch would read or "
                             "sort the whole table");
    }
    return rc;
}

static enum dr_code count_all(struct sa_store *s, struct facts *f, struct dr_collection *c,
                              struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    int64_t rows = 0;
    struct dr_chunk *chunk = (struct dr_chunk *)c->chunk;
    sa_query_init(&q, s);
    dr_str_addf(&q.text, "SELECT count(*) FROM %s", f->walk.table->from);
    enum dr_code rc = sa_query_number(s, &q, &rows, err);
    c->rows_total = (uint64_t)rows;
    sa_query_clear(&q);
    dr_str_addf(&q.text, "SELECT count(*) FROM %s", f->walk.table->from);
    sa_add_selection(&q, &f->walk, &is_first);
    rc = rc == DR_OK ? sa_query_number(s, &q, &rows, err) : rc;
    c->rows_matched = (uint64_t)rows;
    sa_query_fini(&q);
    if (rc == DR_UNREACHABLE || rc == DR_BUSY) { /* it takes longer than the connection lasts */
        const struct sa_table *t = f->walk.table;
        sa_warn(&f->warning, "the rows could not be counted in time; numbers are estimates");
        dr_err_clear(err);
        c->rows_total = t->rows_estimate < 0 ? 0 : (uint64_t)t->rows_estimate;
        c->rows_matched = f->explained.estimate < 0 ? 0 : (uint64_t)f->explained.estimate;
        return DR_OK;
    }
    chunk->rows = c->rows_matched;
    chunk->is_rows_known = rc == DR_OK;
    f->matches_all = c->rows_total > 0 && c->rows_matched >= c->rows_total;
    return rc;
}

static enum dr_code gather(struct sa_store *s, const char *text, struct facts *f,
                           struct dr_survey *survey, struct dr_err *err)
{
    struct dr_arena *a = survey->arena;
    struct sa_spec spec;
    struct sa_vitals vitals;
    struct dr_range r = {.node = "main", .access = DR_BY_SCAN, .spec = text};
    struct dr_collection *c = dr_arena_alloc(a, sizeof *c);
    enum dr_code rc = c == NULL ? dr_fail_nomem(err) : sa_spec_parse(s, text, a, &spec, err);
    if (rc == DR_OK && spec.collection == NULL) {
        rc = dr_fail(err, DR_INPUT, "the request names no table");
    }
    if (rc != DR_OK) {
        return rc;
    }
    *c = (struct dr_collection){0};
    r.collection = spec.collection;
    survey->collection = c;
    survey->collection_count = 1;
    sa_table_forget(s, r.collection);
    rc = sa_walk_plan(s, &r, a, &f->walk, err);
    rc = rc == DR_OK ? sa_read_vitals(s, &vitals, err) : rc;
    rc = rc == DR_OK ? sa_describe(s, f->walk.table, a, c, &f->warning, err) : rc;
    survey->database = rc == DR_OK ? dr_arena_strdup(a, f->walk.table->schema) : NULL;
    rc = rc == DR_OK && survey->database == NULL ? dr_fail_nomem(err) : rc;
    f->first.arena = a;
    f->last.arena = a;
    rc = rc == DR_OK ? read_ends(s, f, err) : rc;
    rc = rc == DR_OK ? explain_both(s, f, err) : rc;
    rc = rc == DR_OK ? count_all(s, f, c, err) : rc;
    if (rc == DR_OK && f->walk.table->is_partitioned) {
        rc = read_partitions(s, f->walk.table, f->partitions, err);
        if (rc == DR_OK && f->walk.spec.where != NULL) {
            rc = add_partition_advice(s, &f->walk, f->partitions, &f->advice, err);
        }
    }
    if (rc == DR_OK && f->matches_all && f->advice.len == 0) {
        dr_str_add(&f->advice,
                   "the condition selects every row: if that is meant, TRUNCATE or DROP "
                   "is one step instead of many, without undo");
    }
    sa_add_blind(s, &f->warning);
    if (rc == DR_OK && f->warning.len > 0) {
        c->warning = dr_arena_strdup(a, dr_str_text(&f->warning));
        rc = c->warning == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return rc;
}

static enum dr_code add_extra(const struct sa_store *s, const struct facts *f,
                              struct dr_survey *survey, struct dr_err *err)
{
    json_t *extra = make_extra(s, f, &survey->collection[0]);
    char *text = extra == NULL ? NULL : dr_json_text(extra);
    survey->extra = text == NULL ? NULL : dr_arena_strdup(survey->arena, text);
    dr_free(text);
    json_decref(extra);
    return survey->extra == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code sa_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct sa_store *s = impl;
    struct facts f = {.partitions = json_array()};
    static const char *const main_node = "main";
    dr_str_init(&f.advice);
    dr_str_init(&f.warning);
    survey->node = dr_arena_memdup(survey->arena, &main_node, sizeof(const char *));
    survey->node_count = 1;
    enum dr_code rc = survey->node == NULL || f.partitions == NULL
                          ? dr_fail_nomem(err)
                          : gather(s, spec, &f, survey, err);
    rc = rc == DR_OK && (f.advice.is_short || f.warning.is_short) ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? add_extra(s, &f, survey, err) : rc;
    dr_str_fini(&f.advice);
    dr_str_fini(&f.warning);
    json_decref(f.partitions);
    return rc;
}
