/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the evidence that a walk follows its index: what the server's EXPLAIN says. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "store/sql/sql_private.h"

enum { SAMPLE_ROWS = 1000, SMALL_TABLE_ROWS = 50000 };

static void make_query(struct sa_query *q, const struct sa_walk *w, const struct dr_value *at,
                       const char *head)
{
    bool is_first = true;
    dr_str_addf(&q->text, "%s SELECT ", head);
    sa_add_stored(q, w->table);
    sa_add_from(q, w);
    if (at != NULL) {
        (void)sa_add_behind(q, w, at, w->ref_count - 1, &is_first);
    }
    sa_add_selection(q, w, &is_first);
    sa_add_order(q, w, false);
    dr_str_addf(&q->text, " LIMIT %d", SAMPLE_ROWS);
}

/* ---- MariaDB: rows of a table ---- */

struct reading {
    const struct sa_walk *walk;
    struct sa_explained *out;
    bool is_mysql;
    bool is_read;
};

static enum dr_code take_step(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct reading *r = arg;
    uint32_t extra = r->is_mysql ? 1 : 0; /* MySQL shows partitions in front of the type */
    (void)err;
    if (r->is_read || count < 10 + 2 * extra) {
        return DR_OK; /* the first step is the table's own, subqueries follow */
    }
    const struct dr_value *type = &v[3 + extra];
    const struct dr_value *key = &v[5 + extra];
    const struct dr_value *rows = &v[8 + extra];
    const struct dr_value *note = &v[count - 1];
    bool is_sorted = note->len == 0 || memmem(note->data, note->len, "filesort", 8) == NULL;
    bool is_key = r->walk->index != NULL && sa_is(key, r->walk->index->shown.name);
    r->is_read = true;
    r->out->uses_index = is_key && is_sorted && !sa_is(type, "ALL");
    r->out->estimate = rows->type == DR_V_NULL ? -1 : sa_int(rows);
    const char *how = sa_is(type, "ALL")     ? "full table scan"
                      : sa_is(type, "index") ? "index scan in order"
                      : sa_is(type, "range") ? "index range scan"
                                             : "index look-up";
    (void)snprintf(r->out->plan, sizeof r->out->plan, "%s%s%.*s%s", how, key->len > 0 ? " on " : "",
                   key->len > 0 ? (int)key->len : 0, key->len > 0 ? (const char *)key->data : "",
                   is_sorted ? "" : ", then a sort");
    return DR_OK;
}

static enum dr_code explain_mariadb(struct sa_store *s, const struct sa_walk *w,
                                    const struct dr_value *at, struct sa_explained *out,
                                    struct dr_err *err)
{
    struct sa_query q;
    struct reading r = {.walk = w, .out = out, .is_mysql = s->info->is_mysql};
    sa_query_init(&q, s);
    make_query(&q, w, at, "EXPLAIN");
    enum dr_code rc = sa_query_rows(s, &q, take_step, &r, err);
    sa_query_fini(&q);
    return rc;
}

/* ---- PostgreSQL: JSON ---- */

struct finding {
    bool has_sort;
    const char *index; /* of the scan of the table itself, NULL: none */
    const char *scan;
    int64_t rows;
};

static bool is_node(const json_t *plan, const char *type)
{
    const char *node = json_string_value(json_object_get(plan, "Node Type"));
    return node != NULL && strcmp(node, type) == 0;
}

static const json_t *main_child(const json_t *plan)
{
    const json_t *plans = json_object_get(plan, "Plans");
    for (size_t i = 0; i < json_array_size(plans); i++) {
        const json_t *child = json_array_get(plans, i);
        const char *as = json_string_value(json_object_get(child, "Parent Relationship"));
        if (as != NULL && (strcmp(as, "Outer") == 0 || strcmp(as, "Member") == 0)) {
            return child;
        }
    }
    return NULL;
}

/* Down the main line of the plan; what stands beside it (subqueries) is not the walk. */
static void read_plan(const json_t *plan, struct finding *f)
{
    for (int depth = 0; plan != NULL && depth < 32; depth++) {
        f->has_sort = f->has_sort || is_node(plan, "Sort") || is_node(plan, "Incremental Sort");
        f->scan = json_string_value(json_object_get(plan, "Node Type"));
        f->index = json_string_value(json_object_get(plan, "Index Name"));
        f->rows = json_integer_value(json_object_get(plan, "Plan Rows"));
        plan = main_child(plan);
    }
}

static enum dr_code take_plan(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct reading *r = arg;
    json_t *j = NULL;
    struct finding f = {0};
    if (count < 1 || v[0].type != DR_V_TEXT) {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("EXPLAIN", v[0].data, v[0].len, &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    read_plan(json_object_get(json_array_get(j, 0), "Plan"), &f);
    const char *name = r->walk->index == NULL ? NULL : r->walk->index->shown.name;
    /* A partitioned table is walked by the indexes of its partitions, which have other names. */
    bool is_key = f.index != NULL && name != NULL &&
                  (strcmp(f.index, name) == 0 || r->walk->table->is_partitioned);
    r->out->uses_index = is_key && !f.has_sort;
    r->out->estimate = f.rows;
    (void)snprintf(r->out->plan, sizeof r->out->plan, "%s%s%s%s", f.scan == NULL ? "?" : f.scan,
                   f.index == NULL ? "" : " on ", f.index == NULL ? "" : f.index,
                   f.has_sort ? ", then a sort" : "");
    json_decref(j);
    return DR_OK;
}

static enum dr_code ask_postgres(struct sa_store *s, const struct sa_walk *w,
                                 const struct dr_value *at, struct sa_explained *out,
                                 struct dr_err *err)
{
    struct sa_query q;
    struct reading r = {.walk = w, .out = out};
    sa_query_init(&q, s);
    make_query(&q, w, at, "EXPLAIN (FORMAT JSON)");
    enum dr_code rc = sa_query_rows(s, &q, take_plan, &r, err);
    sa_query_fini(&q);
    return rc;
}

/* Of a small table all is read sooner than an index; then ask what would be done were it large. */
static enum dr_code explain_postgres(struct sa_store *s, const struct sa_walk *w,
                                     const struct dr_value *at, struct sa_explained *out,
                                     struct dr_err *err)
{
    enum dr_code rc = ask_postgres(s, w, at, out, err);
    bool is_small = w->table->rows_estimate < SMALL_TABLE_ROWS;
    if (rc != DR_OK || out->uses_index || !is_small) {
        return rc;
    }
    struct sa_explained large = {0};
    rc = dr_sqldb_begin(s->db, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_sqldb_exec(s->db,
                       "SELECT set_config('enable_seqscan', 'off', true), "
                       "set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', "
                       "'off', true)",
                       NULL, 0, NULL, err);
    rc = rc == DR_OK ? ask_postgres(s, w, at, &large, err) : rc;
    dr_sqldb_rollback(s->db);
    if (rc == DR_OK && large.uses_index) {
        large.estimate = out->estimate;
        *out = large;
    }
    return rc;
}

enum dr_code sa_explain(struct sa_store *s, const struct sa_walk *w, const struct dr_value *at,
                        struct sa_explained *out, struct dr_err *err)
{
    *out = (struct sa_explained){.estimate = -1};
    enum dr_code rc =
        s->is_pg ? explain_postgres(s, w, at, out, err) : explain_mariadb(s, w, at, out, err);
    if (rc != DR_OK) {
        dr_wrap(err, "the plan of the statement");
    }
    return rc;
}
