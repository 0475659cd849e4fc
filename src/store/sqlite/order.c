/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the order in which a range is walked: by which columns, and which tree gives that order. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "store/sqlite/sqlite_private.h"

static enum dr_code add_key(struct sq_walk *w, const char *field, struct dr_err *err)
{
    int column = sq_column_find(w->table, field);
    if (column < 0) {
        return dr_fail(err, DR_INPUT, "table %s has no column \"%s\"", w->table->name, field);
    }
    assert(w->ref != NULL);
    w->ref[w->ref_count++] = (struct sq_ref){
        .sql = w->table->column[column].quoted,
        .affinity = w->table->column[column].affinity,
        .is_binary = true,
        .column = column,
    };
    return DR_OK;
}

static bool has_ref(const struct sq_walk *w, const struct sq_ref *r)
{
    for (uint32_t i = 0; i < w->ref_count; i++) {
        if (r->column >= 0 && w->ref[i].column == r->column && r->is_binary) {
            return true;
        }
    }
    return false;
}

/* Are the keys the beginning of the table's own order? */
static bool is_own_order(const struct sq_walk *w)
{
    const struct sq_table *t = w->table;
    for (uint32_t i = 0; i < w->key_count; i++) {
        if (i >= t->id_count || t->id[i].column != w->ref[i].column || !t->id[i].is_binary) {
            return false;
        }
    }
    return true;
}

static bool begins_with_keys(const struct dr_index *x, const struct sq_walk *w)
{
    if (x->is_partial || x->field_count < w->key_count) {
        return false;
    }
    for (uint32_t i = 0; i < w->key_count; i++) {
        if (sq_column_find(w->table, x->field[i]) != w->ref[i].column) {
            return false;
        }
    }
    return true;
}

static const struct dr_index *find_index(const struct sq_walk *w, const char *name)
{
    const struct dr_index *best = NULL;
    for (uint32_t i = 0; i < w->table->index_count; i++) {
        const struct dr_index *x = &w->table->index[i];
        if (name != NULL) {
            best = strcmp(x->name, name) == 0 ? x : best;
        } else if (begins_with_keys(x, w) && (best == NULL || x->field_count < best->field_count)) {
            best = x;
        }
    }
    return best;
}

/* Order by all fields of the index: then its order and ours are the same. */
static enum dr_code use_index(struct sq_walk *w, const struct dr_index *x, struct dr_arena *a,
                              struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = w->ref_count; rc == DR_OK && i < x->field_count; i++) {
        rc = add_key(w, x->field[i], err);
    }
    w->index = sq_quote(a, x->name);
    w->index_name = dr_arena_strdup(a, x->name);
    return rc == DR_OK && (w->index == NULL || w->index_name == NULL) ? dr_fail_nomem(err) : rc;
}

static enum dr_code plan_hashed(struct sq_store *s, const struct dr_range *r, struct dr_arena *a,
                                struct sq_walk *w, struct dr_err *err)
{
    const char *column = NULL;
    if (r->key_count != 1) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: a hashed key of %" PRIu32 " fields; only one is "
                       "supported",
                       r->collection, r->key_count);
    }
    w->hashed_column = sq_column_find(w->table, r->key[0]);
    if (w->hashed_column < 0) {
        return dr_fail(err, DR_INPUT, "table %s has no column \"%s\"", w->table->name, r->key[0]);
    }
    enum dr_code rc = sq_hash_column(s, r->collection, a, &column, err);
    return rc == DR_OK ? add_key(w, column, err) : rc;
}

static enum dr_code plan_index(const struct sq_node *n, const struct dr_range *r,
                               struct dr_arena *a, struct sq_walk *w, struct dr_err *err)
{
    const struct dr_index *x = find_index(w, r->index);
    if (x == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "node %s: table %s has no index \"%s\"", n->name,
                       w->table->name, r->index);
    }
    if (x->is_partial) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s: index \"%s\" cannot be walked: it covers only some rows, or is "
                       "descending, on an expression or not sorted by bytes",
                       n->name, r->index);
    }
    return use_index(w, x, a, err);
}

static enum dr_code plan_keys(struct sq_store *s, const struct dr_range *r, struct dr_arena *a,
                              struct sq_walk *w, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (r->access == DR_BY_SHARD_HASHED) {
        rc = plan_hashed(s, r, a, w, err);
    } else {
        for (uint32_t i = 0; rc == DR_OK && i < r->key_count; i++) {
            rc = add_key(w, r->key[i], err);
        }
    }
    w->key_count = w->ref_count;
    w->is_own_tree = is_own_order(w);
    const struct dr_index *x = w->is_own_tree ? NULL : find_index(w, NULL);
    return rc == DR_OK && x != NULL ? use_index(w, x, a, err) : rc;
}

/* A condition somebody wrote, walked by the key the request names or by the table's own order. */
static enum dr_code plan_spec(const struct sq_node *n, const struct dr_range *r, struct dr_arena *a,
                              struct sq_walk *w, struct dr_err *err)
{
    struct sq_spec spec;
    enum dr_code rc = sq_spec_parse(r->spec, a, &spec, err);
    bool is_rowid = rc == DR_OK && sq_is_rowid(w->table, &spec);
    for (uint32_t i = 0; rc == DR_OK && !is_rowid && i < spec.key_count; i++) {
        rc = add_key(w, spec.key[i], err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    w->where = spec.where;
    w->last = spec.last;
    w->key_count = w->ref_count;
    w->is_own_tree = is_own_order(w);
    const struct dr_index *x = w->is_own_tree ? NULL : find_index(w, NULL);
    if (!w->is_own_tree && x == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s: no index of table %s begins with the key %s%s; create one or name "
                       "another key",
                       n->name, w->table->name, spec.key[0], spec.key_count > 1 ? ", ..." : "");
    }
    return x == NULL ? DR_OK : use_index(w, x, a, err);
}

enum dr_code sq_walk_plan(struct sq_store *s, struct sq_node *n, const struct sq_table *t,
                          const struct dr_range *r, struct dr_arena *a, struct sq_walk *out,
                          struct dr_err *err)
{
    enum dr_code rc = sq_filter_check(t, r->filter, r->collection, err);
    *out = (struct sq_walk){.table = t, .hashed_column = -1};
    out->ref = dr_arena_alloc(a, (DR_KEY_PARTS_MAX + t->id_count) * sizeof *out->ref);
    if (rc == DR_OK && out->ref == NULL) {
        rc = dr_fail_nomem(err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    assert(out->ref != NULL);
    switch (r->access) {
    case DR_BY_SHARD_RANGE:
    case DR_BY_SHARD_HASHED:
        rc = plan_keys(s, r, a, out, err);
        break;
    case DR_BY_INDEX:
        rc = plan_index(n, r, a, out, err);
        break;
    case DR_BY_SCAN:
        rc = plan_spec(n, r, a, out, err);
        break;
    case DR_BY_KEYS:
        rc =
            dr_fail(err, DR_UNSUPPORTED, "%s: rows are not found by generated keys", r->collection);
        break;
    }
    for (uint32_t i = 0; rc == DR_OK && i < t->id_count; i++) {
        if (!has_ref(out, &t->id[i])) {
            out->ref[out->ref_count++] = t->id[i];
        }
    }
    return rc;
}

struct row_view {
    const struct sq_table *table;
    const struct dr_value *value;
};

static const struct dr_value *find_field(void *arg, const char *field)
{
    const struct row_view *row = arg;
    int column = sq_column_find(row->table, field);
    return column < 0 ? NULL : &row->value[column];
}

bool sq_row_selected(const struct sq_walk *w, const struct dr_range *r,
                     const struct dr_value *value)
{
    struct row_view row = {.table = w->table, .value = value};
    struct dr_bound at = {0};
    for (uint32_t i = 0; i < w->key_count; i++) {
        at.part[i] = value[w->ref[i].column];
    }
    at.parts = r->from.parts;
    if (at.parts > 0 && dr_bound_compare(&at, &r->from) < 0) {
        return false;
    }
    at.parts = r->upto.parts;
    if (at.parts > 0 && dr_bound_compare(&at, &r->upto) >= 0) {
        return false;
    }
    return r->filter == NULL || dr_filter_match(r->filter, find_field, &row);
}
