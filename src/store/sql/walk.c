/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the order in which a table is walked, and the reading: scan and count. A scan goes on behind
 * the values of the last row, never by OFFSET, so that a batch costs what it reads.
 *
 * "Behind (1, 2, 3)" in the order (a, b, c) is three ranges of the index, one after the other:
 * a = 1 AND b = 2 AND c > 3, then a = 1 AND b > 2, then a > 1. Each is a query of its own, because
 * an OR of all three makes planners read everything between the first and the last. Comparisons
 * are left to the server on both sides, so that the order is the column's own collation.
 * NULL stands first in MariaDB and last in PostgreSQL, as their indexes have it. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "store/sql/sql_private.h"

enum {
    SCAN_BLOCK_BYTES = 16 * 1024,
    CLOCK_EVERY_ROWS = 64,
    FETCH_ROWS_MAX = 50000,
    FETCH_ROWS_UNKNOWN = 1000
};

enum dr_code sa_find_node(const char *node, struct dr_err *err)
{
    return strcmp(node, "main") == 0 ? DR_OK
                                     : dr_fail(err, DR_NOT_FOUND,
                                               "there is no node \"%s\"; an SQL server has only "
                                               "\"main\"",
                                               node);
}

/* ---- planning ---- */

static bool has_ref(const struct sa_walk *w, int column)
{
    for (uint32_t i = 0; i < w->ref_count; i++) {
        if (w->ref[i] == column) {
            return true;
        }
    }
    return false;
}

static void follow_index(struct sa_walk *w, const struct sa_index *x)
{
    const struct sa_table *t = w->table;
    w->index = x;
    for (uint32_t i = 0; i < x->shown.field_count; i++) {
        if (!has_ref(w, x->column[i])) {
            w->ref[w->ref_count++] = x->column[i];
        }
    }
    for (uint32_t i = 0; !x->is_strict && i < t->key_count; i++) {
        if (!has_ref(w, t->key[i])) {
            w->ref[w->ref_count++] = t->key[i];
        }
    }
    w->is_by_key = w->ref_count == t->key_count &&
                   memcmp(w->ref, t->key, w->ref_count * sizeof w->ref[0]) == 0;
}

static enum dr_code plan_index(struct sa_walk *w, const char *name, struct dr_err *err)
{
    const struct sa_table *t = w->table;
    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct sa_index *x = &t->index[i];
        if (strcmp(x->shown.name, name) != 0) {
            continue;
        }
        if (x->shown.is_partial) {
            return dr_fail(err, DR_UNSUPPORTED,
                           "%s: index \"%s\" cannot be walked: it covers only some rows or parts "
                           "of columns, is descending, on an expression, or not ordered as its "
                           "columns compare",
                           t->shown, name);
        }
        follow_index(w, x);
        return DR_OK;
    }
    return dr_fail(err, DR_NOT_FOUND, "table %s has no index \"%s\"", t->shown, name);
}

static bool is_key_column(const struct sa_table *t, const char *name)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        if (strcmp(t->column[t->key[i]].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Behind all of its fields may stand the identity's: a survey tells the whole order as the key. */
static bool begins_with(const struct sa_table *t, const struct sa_index *x,
                        const struct sa_spec *spec)
{
    bool is_good = !x->shown.is_partial;
    for (uint32_t i = 0; is_good && i < spec->key_count; i++) {
        is_good = i < x->shown.field_count ? strcmp(x->shown.field[i], spec->key[i]) == 0
                                           : is_key_column(t, spec->key[i]);
    }
    return is_good;
}

/* The key a request names: an index that begins with it, a strict and short one first. */
static enum dr_code plan_key(struct sa_walk *w, struct dr_err *err)
{
    const struct sa_table *t = w->table;
    const struct sa_index *best = NULL;
    for (uint32_t i = 0; i < w->spec.key_count; i++) {
        if (sa_column_find(t, w->spec.key[i]) < 0) {
            return dr_fail(err, DR_INPUT, "key: table %s has no column \"%s\"", t->shown,
                           w->spec.key[i]);
        }
    }
    for (uint32_t i = 0; i < t->index_count; i++) {
        const struct sa_index *x = &t->index[i];
        if (!begins_with(t, x, &w->spec)) {
            continue;
        }
        bool is_better =
            best == NULL || (x->is_strict && !best->is_strict) ||
            (x->is_strict == best->is_strict && x->shown.field_count < best->shown.field_count);
        best = is_better ? x : best;
    }
    if (best == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "table %s has no index that begins with the key's columns (%s, ...); name "
                       "the columns of an index, or leave the key out",
                       t->shown, w->spec.key[0]);
    }
    follow_index(w, best);
    return DR_OK;
}

static enum dr_code check_last(const struct sa_walk *w, struct dr_err *err)
{
    if (w->spec.last.parts > w->ref_count) {
        return dr_fail(err, DR_INPUT,
                       "last_key: %" PRIu32 " values for a walk over %" PRIu32 " columns of %s",
                       w->spec.last.parts, w->ref_count, w->table->shown);
    }
    for (uint32_t i = 0; i < w->spec.last.parts; i++) {
        enum dr_value_type type = w->spec.last.part[i].type;
        if (type == DR_V_MIN || type == DR_V_MAX || type == DR_V_TAGGED) {
            return dr_fail(err, DR_INPUT, "last_key: only values of the key can bound a walk");
        }
    }
    return DR_OK;
}

enum dr_code sa_walk_plan(struct sa_store *s, const struct dr_range *r, struct dr_arena *a,
                          struct sa_walk *out, struct dr_err *err)
{
    *out = (struct sa_walk){.filter = r->filter};
    enum dr_code rc = sa_table_get(s, r->collection, &out->table, err);
    rc = rc == DR_OK ? sa_spec_parse(s, r->spec, a, &out->spec, err) : rc;
    rc = rc == DR_OK ? sa_table_usable(out->table, out->spec.allow_no_key, err) : rc;
    rc = rc == DR_OK ? sa_filter_check(out->table, r->filter, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    switch (r->access) {
    case DR_BY_INDEX:
        rc = out->table->key_count == 0
                 ? dr_fail(err, DR_UNSUPPORTED, "table %s: without a key no index is walked",
                           r->collection)
                 : plan_index(out, r->index, err);
        break;
    case DR_BY_SCAN:
        if (out->table->key_count > 0) {
            rc = out->spec.key_count > 0 ? plan_key(out, err)
                                         : plan_index(out, out->table->key_index, err);
        }
        break;
    case DR_BY_SHARD_RANGE:
    case DR_BY_SHARD_HASHED:
    case DR_BY_KEYS:
        rc = dr_fail(err, DR_UNSUPPORTED, "%s: an SQL server has no shards and no generated keys",
                     r->collection);
        break;
    }
    return rc == DR_OK ? check_last(out, err) : rc;
}

/* ---- conditions ---- */

void sa_add_and(struct sa_query *q, bool *is_first)
{
    dr_str_add(&q->text, *is_first ? " WHERE " : " AND ");
    *is_first = false;
}

static const struct sa_column *ref_column(const struct sa_walk *w, uint32_t part)
{
    return &w->table->column[w->ref[part]];
}

static void add_less(struct sa_query *q, const struct sa_column *c, const struct dr_value *v,
                     bool or_equal)
{
    if (v->type == DR_V_NULL) {
        dr_str_addf(&q->text,
                    q->is_pg ? (or_equal ? "1 = 1" : "%s IS NOT NULL")
                             : (or_equal ? "%s IS NULL" : "1 = 0"),
                    c->quoted);
        return;
    }
    bool may_be_null = !q->is_pg && c->is_nullable;
    if (may_be_null) {
        dr_str_addf(&q->text, "(%s IS NULL OR ", c->quoted);
    }
    dr_str_addf(&q->text, "%s %s ", c->quoted, or_equal ? "<=" : "<");
    sa_add_value(q, c, v);
    dr_str_add(&q->text, may_be_null ? ")" : "");
}

/* Not behind the last key: a <= 1 AND (a < 1 OR (a = 1 AND b <= 2)). */
static void add_last(struct sa_query *q, const struct sa_walk *w)
{
    const struct dr_bound *last = &w->spec.last;
    uint32_t open = 0;
    for (uint32_t i = 0; i < last->parts; i++) {
        const struct sa_column *c = ref_column(w, i);
        add_less(q, c, &last->part[i], true);
        if (i + 1 == last->parts) {
            break;
        }
        dr_str_add(&q->text, " AND (");
        add_less(q, c, &last->part[i], false);
        dr_str_add(&q->text, " OR (");
        sa_add_equal(q, c, &last->part[i]);
        dr_str_add(&q->text, " AND ");
        open++;
    }
    for (; open > 0; open--) {
        dr_str_add(&q->text, "))");
    }
}

void sa_add_selection(struct sa_query *q, const struct sa_walk *w, bool *is_first)
{
    if (w->spec.last.parts > 0) {
        sa_add_and(q, is_first);
        add_last(q, w);
    }
    if (w->filter != NULL) {
        sa_add_and(q, is_first);
        sa_add_filter(q, w->table, w->filter);
    }
    if (w->spec.where != NULL) {
        sa_add_and(q, is_first);
        dr_str_addf(&q->text, "(%s\n)", w->spec.where);
    }
}

bool sa_add_behind(struct sa_query *q, const struct sa_walk *w, const struct dr_value *at,
                   uint32_t number, bool *is_first)
{
    assert(number < w->ref_count);
    uint32_t equal = w->ref_count - 1 - number;
    const struct sa_column *c = ref_column(w, equal);
    if (at[equal].type == DR_V_NULL && q->is_pg) {
        return false; /* nothing is sorted behind NULL */
    }
    for (uint32_t i = 0; i < equal; i++) {
        sa_add_and(q, is_first);
        sa_add_equal(q, ref_column(w, i), &at[i]);
    }
    sa_add_and(q, is_first);
    if (at[equal].type == DR_V_NULL) {
        dr_str_addf(&q->text, "%s IS NOT NULL", c->quoted);
        return true;
    }
    bool may_be_null = q->is_pg && c->is_nullable;
    dr_str_addf(&q->text, may_be_null ? "(%s > " : "%s > ", c->quoted);
    sa_add_value(q, c, &at[equal]);
    if (may_be_null) {
        dr_str_addf(&q->text, " OR %s IS NULL)", c->quoted);
    }
    return true;
}

void sa_add_order(struct sa_query *q, const struct sa_walk *w, bool is_down)
{
    for (uint32_t i = 0; i < w->ref_count; i++) {
        dr_str_addf(&q->text, "%s%s%s", i == 0 ? " ORDER BY " : ", ", ref_column(w, i)->quoted,
                    is_down ? " DESC" : "");
    }
}

static void add_from(struct sa_query *q, const struct sa_table *t, const char *index)
{
    dr_str_addf(&q->text, " FROM %s", t->from);
    if (!q->is_pg && index != NULL) {
        /* Towards the end of a table the planner would rather read all of it. */
        dr_str_add(&q->text, " FORCE INDEX (");
        dr_sql_quote_name(&q->text, index);
        dr_str_addc(&q->text, ')');
    }
}

void sa_add_from(struct sa_query *q, const struct sa_walk *w)
{
    add_from(q, w->table, w->index == NULL ? NULL : w->index->shown.name);
}

void sa_add_from_key(struct sa_query *q, const struct sa_table *t)
{
    add_from(q, t, t->key_index);
}

void sa_add_delete_order(struct sa_query *q, const struct sa_table *t, uint64_t rows)
{
    if (!q->is_pg) {
        dr_str_add(&q->text, " ORDER BY ");
        sa_add_key_columns(q, t);
        dr_str_addf(&q->text, " LIMIT %" PRIu64, rows);
    }
}

/* ---- count ---- */

enum dr_code sa_count(void *impl, const struct dr_range *r, uint64_t *out, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct sa_walk w;
    struct sa_query q;
    bool is_first = true;
    int64_t rows = 0;
    *out = 0;
    sa_query_init(&q, s);
    struct dr_arena *a = dr_arena_create(SCAN_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : sa_find_node(r->node, err);
    rc = rc == DR_OK ? sa_walk_plan(s, r, a, &w, err) : rc;
    if (rc == DR_OK) {
        dr_str_addf(&q.text, "SELECT count(*) FROM %s", w.table->from);
        sa_add_selection(&q, &w, &is_first);
        rc = sa_query_number(s, &q, &rows, err);
        *out = rows < 0 ? 0 : (uint64_t)rows;
    }
    sa_query_fini(&q);
    dr_arena_destroy(a);
    return rc;
}

/* ---- scan ---- */

struct scan {
    struct sa_store *store;
    const struct dr_range *range;
    const struct dr_budget *budget;
    struct dr_batch *batch;
    struct dr_arena *arena;
    struct sa_walk walk;
    struct dr_value at[2 * DR_KEY_PARTS_MAX];
    uint32_t at_count;
    uint32_t stored;                /* stored columns in the result, first */
    int more[3 * DR_KEY_PARTS_MAX]; /* result columns behind them */
    uint32_t more_count;
    uint32_t key_at[DR_KEY_PARTS_MAX]; /* where the result has each part */
    uint32_t ref_at[2 * DR_KEY_PARTS_MAX];
    struct dr_value *room;
    struct dr_str key_text;
    struct dr_str at_text;
    struct dr_str row_text;
    uint64_t rows; /* of the query that runs */
    dr_mono_ms started;
    bool is_full;
};

static uint32_t select_column(struct scan *c, int column)
{
    const struct sa_table *t = c->walk.table;
    if (c->stored > 0 && !t->column[column].is_generated) {
        uint32_t at = 0;
        for (int i = 0; i < column; i++) {
            at += !t->column[i].is_generated;
        }
        return at;
    }
    for (uint32_t i = 0; i < c->more_count; i++) {
        if (c->more[i] == column) {
            return c->stored + i;
        }
    }
    c->more[c->more_count] = column;
    return c->stored + c->more_count++;
}

static void add_select(struct scan *c, struct sa_query *q)
{
    const struct sa_table *t = c->walk.table;
    dr_str_add(&q->text, "SELECT ");
    if (c->stored > 0) {
        sa_add_stored(q, t);
    }
    for (uint32_t i = 0; i < c->more_count; i++) {
        dr_str_addf(&q->text, "%s%s", c->stored + i == 0 ? "" : ", ", t->column[c->more[i]].quoted);
    }
}

static void encode_row(struct scan *c, const struct dr_value *value)
{
    const struct sa_walk *w = &c->walk;
    struct dr_value part[2 * DR_KEY_PARTS_MAX];
    dr_str_clear(&c->key_text);
    dr_str_clear(&c->row_text);
    if (w->table->key_count == 0) { /* the whole row is its identity */
        dr_values_encode(value, c->stored, &c->key_text);
    } else {
        for (uint32_t i = 0; i < w->table->key_count; i++) {
            part[i] = value[c->key_at[i]];
        }
        dr_values_encode(part, w->table->key_count, &c->key_text);
    }
    if (c->budget->with_values) {
        sa_row_encode(w->table, value, c->room, &c->row_text);
    }
}

static void encode_position(struct scan *c, const struct dr_value *value)
{
    struct dr_value part[2 * DR_KEY_PARTS_MAX];
    dr_str_clear(&c->at_text);
    for (uint32_t i = 0; i < c->walk.ref_count; i++) {
        part[i] = value[c->ref_at[i]];
    }
    dr_values_encode(part, c->walk.ref_count, &c->at_text);
}

static bool is_time_over(struct scan *c)
{
    return c->batch->count % CLOCK_EVERY_ROWS == 0 && c->batch->count > 0 &&
           (uint64_t)(dr_mono_now() - c->started) >= c->budget->ms_max;
}

/* Rows that no longer fit are cut off: they come again with the next scan. */
static enum dr_code take_row(void *arg, const struct dr_value *value, uint32_t count,
                             struct dr_err *err)
{
    struct scan *c = arg;
    struct dr_batch *b = c->batch;
    assert(count == c->stored + c->more_count);
    c->rows++;
    if (is_time_over(c)) {
        c->is_full = true;
        return DR_STOPPED;
    }
    encode_row(c, value);
    uint64_t bytes = b->bytes + c->key_text.len + c->row_text.len;
    if (b->count > 0 && bytes > c->budget->bytes_max) {
        c->is_full = true;
        return DR_STOPPED;
    }
    if (c->walk.ref_count > 0) {
        encode_position(c, value);
    }
    if (c->key_text.is_short || c->row_text.is_short || c->at_text.is_short) {
        return dr_fail_nomem(err);
    }
    if (c->at_text.len > DR_CURSOR_BYTES_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: a key of %zu bytes is too long to be remembered",
                       c->walk.table->shown, c->at_text.len);
    }
    bool with_values = c->budget->with_values;
    return dr_batch_add(b, dr_str_text(&c->key_text), c->key_text.len,
                        with_values ? dr_str_text(&c->row_text) : NULL,
                        with_values ? c->row_text.len : 0, err);
}

static uint64_t rows_to_fetch(const struct scan *c)
{
    const struct sa_table *t = c->walk.table;
    uint64_t rows = c->budget->items_max - c->batch->count;
    uint64_t most = FETCH_ROWS_MAX;
    if (c->budget->with_values) {
        most = t->row_bytes == 0 ? FETCH_ROWS_UNKNOWN : c->budget->bytes_max / t->row_bytes + 2;
        most = most > FETCH_ROWS_MAX ? FETCH_ROWS_MAX : most;
    }
    return rows < most ? rows : most;
}

/* One range of the walk; *is_over_out: all of it was read. */
static enum dr_code read_range(struct scan *c, uint32_t number, bool *is_over_out,
                               struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    bool is_possible = true;
    uint64_t rows = rows_to_fetch(c);
    sa_query_init(&q, c->store);
    add_select(c, &q);
    sa_add_from(&q, &c->walk);
    if (c->at_count > 0) {
        is_possible = sa_add_behind(&q, &c->walk, c->at, number, &is_first);
    }
    sa_add_selection(&q, &c->walk, &is_first);
    sa_add_order(&q, &c->walk, false);
    dr_str_addf(&q.text, " LIMIT %" PRIu64, rows);
    c->rows = 0;
    enum dr_code rc = is_possible ? sa_query_rows(c->store, &q, take_row, c, err) : DR_OK;
    if (rc == DR_STOPPED && c->is_full) {
        dr_err_clear(err);
        rc = DR_OK;
    }
    *is_over_out = !c->is_full && c->rows < rows;
    sa_query_fini(&q);
    return rc;
}

/* Without a key there is no order to go on in: rows erased are gone, and rows left alone come
 * again. The position counts what was given, so that a walk over rows that stay ends all the same.
 */
static enum dr_code scan_keyless(struct scan *c, bool *is_end, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    int64_t total = 0;
    uint64_t given = c->at_count == 2 ? (uint64_t)c->at[0].i : 0;
    enum dr_code rc = DR_OK;
    sa_query_init(&q, c->store);
    if (c->at_count == 2) {
        total = c->at[1].i;
    } else {
        dr_str_addf(&q.text, "SELECT count(*) FROM %s", c->walk.table->from);
        sa_add_selection(&q, &c->walk, &is_first);
        rc = sa_query_number(c->store, &q, &total, err);
    }
    sa_query_fini(&q);
    uint32_t none = 0;
    c->at_count = 0;
    if (rc == DR_OK) {
        rc = read_range(c, none, is_end, err);
    }
    given += c->batch->count;
    *is_end = *is_end || given >= (uint64_t)total;
    struct dr_value at[2] = {{.type = DR_V_INT, .i = (int64_t)given},
                             {.type = DR_V_INT, .i = total}};
    dr_values_encode(at, 2, &c->at_text);
    return rc == DR_OK && c->at_text.is_short ? dr_fail_nomem(err) : rc;
}

static enum dr_code read_position(struct scan *c, const struct dr_cursor *from, struct dr_err *err)
{
    bool has_key = c->walk.table->key_count > 0;
    uint32_t want = has_key ? c->walk.ref_count : 2;
    if (from == NULL || from->len == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_values_decode(from->data, from->len, c->at, want, &c->at_count, err);
    bool is_good = rc == DR_OK && c->at_count == want;
    for (uint32_t i = 0; is_good && i < c->at_count; i++) {
        enum dr_value_type type = c->at[i].type;
        is_good = type != DR_V_MIN && type != DR_V_MAX && type != DR_V_TAGGED &&
                  (has_key || (type == DR_V_INT && c->at[i].i >= 0)) &&
                  (type != DR_V_NULL || c->walk.table->column[c->walk.ref[i]].is_nullable);
    }
    return is_good ? DR_OK
                   : dr_fail(err, DR_CORRUPT,
                             "%s: the cursor is damaged or of another walk; start the range from "
                             "its beginning",
                             c->range->collection);
}

static enum dr_code prepare_scan(struct scan *c, const struct dr_cursor *from, struct dr_err *err)
{
    struct sa_table *t = c->walk.table;
    c->at_count = 0;
    c->more_count = 0;
    c->stored = c->budget->with_values || t->key_count == 0 ? t->stored_count : 0;
    for (uint32_t i = 0; i < t->key_count; i++) {
        c->key_at[i] = select_column(c, t->key[i]);
    }
    for (uint32_t i = 0; i < c->walk.ref_count; i++) {
        c->ref_at[i] = select_column(c, c->walk.ref[i]);
    }
    c->room = dr_arena_alloc(c->arena, sa_row_room(t) * sizeof *c->room);
    return c->room == NULL ? dr_fail_nomem(err) : read_position(c, from, err);
}

static enum dr_code scan_once(struct scan *c, const struct dr_cursor *from, struct dr_err *err)
{
    bool is_end = false;
    enum dr_code rc = sa_walk_plan(c->store, c->range, c->arena, &c->walk, err);
    rc = rc == DR_OK ? prepare_scan(c, from, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if (c->walk.table->key_count == 0) {
        rc = scan_keyless(c, &is_end, err);
    } else {
        uint32_t ranges = c->at_count > 0 ? c->walk.ref_count : 1;
        for (uint32_t i = 0; rc == DR_OK && i < ranges; i++) {
            bool is_over = false;
            rc = read_range(c, i, &is_over, err);
            is_end = is_over && i + 1 == ranges;
            if (!is_over) {
                break;
            }
        }
    }
    if (rc != DR_OK) {
        return rc;
    }
    c->batch->is_end = is_end;
    if (c->batch->count > 0 && c->at_text.len > 0) {
        c->batch->after.len = (uint32_t)c->at_text.len;
        memcpy(c->batch->after.data, c->at_text.data, c->at_text.len);
    } else if (from != NULL) {
        c->batch->after = *from;
    }
    if (c->batch->count > 0 && c->budget->with_values) {
        c->walk.table->row_bytes = c->batch->bytes / c->batch->count + 1;
    }
    return DR_OK;
}

enum dr_code sa_scan(void *impl, const struct dr_range *r, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    struct scan c = {.store = impl, .range = r, .budget = budget, .batch = batch};
    dr_str_init(&c.key_text);
    dr_str_init(&c.at_text);
    dr_str_init(&c.row_text);
    c.started = dr_mono_now();
    c.arena = dr_arena_create(SCAN_BLOCK_BYTES);
    enum dr_code rc = c.arena == NULL ? dr_fail_nomem(err) : sa_find_node(r->node, err);
    for (int i = 0; rc == DR_OK && i < 2; i++) {
        rc = scan_once(&c, from, err);
        if (rc != DR_NOT_FOUND || i > 0) {
            break;
        }
        /* The table was altered since its facts were read: once more with new ones. */
        sa_table_forget(impl, r->collection);
        dr_batch_reset(batch);
        dr_err_clear(err);
        rc = DR_OK;
    }
    dr_str_fini(&c.key_text);
    dr_str_fini(&c.at_text);
    dr_str_fini(&c.row_text);
    dr_arena_destroy(c.arena);
    return rc;
}
