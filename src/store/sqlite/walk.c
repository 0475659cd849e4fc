/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the reading of a range: scan and count. A scan is one read transaction; it goes on behind
 * the values of the last row (never OFFSET), so that a batch costs what it reads, however far into
 * the range it is. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "store/sqlite/sqlite_private.h"

enum { SCAN_BLOCK_BYTES = 16 * 1024, CLOCK_EVERY_ROWS = 64 };

/* ---- spans ---- */

static const struct dr_value null_value = {.type = DR_V_NULL};

/* Rows from a bound on: an open part ends it, because everything (or nothing) follows. */
static void span_from_bound(const struct dr_bound *from, struct sq_span *out)
{
    out->low = from->part;
    out->low_count = 0;
    out->is_low_inside = true;
    for (uint32_t i = 0; i < from->parts && from->part[i].type != DR_V_MIN; i++) {
        if (from->part[i].type == DR_V_MAX) {
            out->is_low_inside = false;
            break;
        }
        out->low_count++;
    }
    /* NULLs apart from the rest: then the upper bound need not speak of NULL. */
    if (out->low_count == 0 && out->is_low_inside && out->has_up) {
        out->low = &null_value;
        out->low_count = 1;
    }
}

static void span_upto_bound(const struct dr_bound *upto, struct sq_span *out)
{
    out->up_count = 0;
    out->is_up_inside = false;
    for (uint32_t i = 0; i < upto->parts && upto->part[i].type != DR_V_MIN; i++) {
        if (upto->part[i].type == DR_V_MAX) {
            out->is_up_inside = true;
            break;
        }
        out->up[out->up_count++] = upto->part[i];
    }
    out->has_up = upto->parts > 0 && !(out->up_count == 0 && out->is_up_inside);
}

static enum dr_code make_span(const struct sq_walk *w, const struct dr_range *r,
                              const struct dr_cursor *from, struct dr_value *at,
                              struct sq_span *out, struct dr_err *err)
{
    *out = (struct sq_span){0};
    if (r->from.parts > w->key_count || r->upto.parts > w->key_count) {
        return dr_fail(err, DR_INPUT, "%s: bounds with more parts than the walk has keys",
                       r->collection);
    }
    span_upto_bound(&r->upto, out);
    if (w->last.parts > w->ref_count) {
        return dr_fail(err, DR_INPUT, "%s: a last key of %" PRIu32 " values for a walk by %" PRIu32,
                       r->collection, w->last.parts, w->ref_count);
    }
    if (w->last.parts > 0) {
        span_upto_bound(&w->last, out);
        out->is_up_inside = true;
        out->has_up = true;
    }
    if (from == NULL || from->len == 0) {
        span_from_bound(&r->from, out);
        return DR_OK;
    }
    uint32_t count = 0;
    enum dr_code rc = dr_values_decode(from->data, from->len, at, w->ref_count, &count, err);
    bool is_good = rc == DR_OK && count == w->ref_count;
    for (uint32_t i = 0; is_good && i < count; i++) {
        is_good = at[i].type != DR_V_MIN && at[i].type != DR_V_MAX;
    }
    if (!is_good) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: the cursor is damaged or of another walk; start the "
                       "range from its beginning",
                       r->collection);
    }
    out->low = at;
    out->low_count = count;
    return DR_OK;
}

static void add_from(struct sq_query *q, const struct sq_walk *w)
{
    dr_str_addf(&q->text, " FROM %s", w->table->quoted);
    if (w->index != NULL) {
        dr_str_addf(&q->text, " INDEXED BY %s", w->index);
    } else if (w->is_own_tree) {
        dr_str_add(&q->text, " NOT INDEXED");
    }
}

/* ---- count ---- */

static enum dr_code run_count(struct sq_node *n, struct sq_query *q, uint64_t *total,
                              struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_query_start(n, q, &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    if (rc == DR_OK && is_row) {
        *total += (uint64_t)sqlite3_column_int64(st, 0);
    }
    sq_done(st);
    return rc;
}

enum dr_code sq_count_table(struct sq_node *n, const struct sq_table *t, const struct dr_filter *f,
                            uint64_t *out, struct dr_err *err)
{
    struct sq_query q;
    bool is_first = true;
    *out = 0;
    sq_query_init(&q);
    dr_str_addf(&q.text, "SELECT count(*) FROM %s", t->quoted);
    sq_add_filter(&q, t, f, &is_first);
    enum dr_code rc = run_count(n, &q, out, err);
    sq_query_fini(&q);
    return rc;
}

static enum dr_code count_span(struct sq_node *n, const struct sq_walk *w,
                               const struct sq_span *span, const struct dr_filter *f, uint64_t *out,
                               struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < sq_span_segments(span); i++) {
        struct sq_query q;
        bool is_first = true;
        sq_query_init(&q);
        dr_str_add(&q.text, "SELECT count(*)");
        add_from(&q, w);
        if (sq_add_segment(&q, w, span, i, &is_first)) {
            sq_add_filter(&q, w->table, f, &is_first);
            sq_add_where(&q, w, &is_first);
            rc = run_count(n, &q, out, err);
        }
        sq_query_fini(&q);
    }
    return rc;
}

enum dr_code sq_count(void *impl, const struct dr_range *r, uint64_t *out, struct dr_err *err)
{
    struct sq_store *s = impl;
    struct sq_node *n = NULL;
    const struct sq_table *t = NULL;
    const char *name = NULL;
    struct sq_walk w;
    struct sq_span span;
    *out = 0;
    struct dr_arena *a = dr_arena_create(SCAN_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : sq_node_find(s, r->node, &n, err);
    rc = rc == DR_OK ? sq_table_name(s, r->collection, &name, err) : rc;
    if (rc != DR_OK) {
        goto out;
    }
    rc = sq_begin_read(n, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = sq_table_usable(n, name, &t, err);
    rc = rc == DR_OK ? sq_walk_plan(s, n, t, r, a, &w, err) : rc;
    rc = rc == DR_OK ? make_span(&w, r, NULL, NULL, &span, err) : rc;
    rc = rc == DR_OK ? count_span(n, &w, &span, r->filter, out, err) : rc;
    sq_end_read(n);
out:
    dr_arena_destroy(a);
    return rc;
}

/* ---- scan ---- */

/* One scan at work. The result columns are [stored columns when values are wanted,] then whatever
 * identity, order and hash need beside them. */
struct scan {
    struct sq_node *node;
    const struct dr_range *range;
    const struct dr_budget *budget;
    struct dr_batch *batch;
    struct dr_arena *arena;
    struct dr_arena *row_arena; /* wide rows only */
    struct sq_walk walk;
    struct sq_span span;
    dr_mono_ms started;
    uint32_t stored;     /* stored columns in the result */
    bool is_wide;        /* values are fetched row by row: too many columns for one result */
    struct sq_ref *more; /* result columns behind the stored ones */
    uint32_t more_count;
    int *id_at; /* result column of each part */
    int *ref_at;
    int hashed_at;
    struct dr_value *id;
    struct dr_value *at;
    struct dr_value *row;
    struct dr_value *value; /* wide rows only */
    struct dr_str key_text;
    struct dr_str at_text;
    struct dr_str row_text;
    bool is_full;
};

/* Where the result has this; appended when it has it not. */
static int select_ref(struct scan *c, const struct sq_ref *r)
{
    const struct sq_table *t = c->walk.table;
    if (c->stored > 0 && r->column >= 0 && !t->column[r->column].is_generated) {
        int at = 0;
        for (int i = 0; i < r->column; i++) {
            at += !t->column[i].is_generated;
        }
        return at;
    }
    for (uint32_t i = 0; i < c->more_count; i++) {
        if (c->more[i].column == r->column) {
            return (int)(c->stored + i);
        }
    }
    c->more[c->more_count] = *r;
    return (int)(c->stored + c->more_count++);
}

static enum dr_code prepare_scan(struct scan *c, struct dr_err *err)
{
    const struct sq_table *t = c->walk.table;
    uint32_t refs = c->walk.ref_count;
    struct dr_arena *a = c->arena;
    uint32_t limit = (uint32_t)sqlite3_limit(c->node->sql.db, SQLITE_LIMIT_COLUMN, -1);
    c->is_wide = c->budget->with_values && t->stored_count + t->id_count + refs + 1 > limit;
    c->stored = c->budget->with_values && !c->is_wide ? t->stored_count : 0;
    c->more = dr_arena_alloc(a, (t->id_count + refs + 1) * sizeof *c->more);
    c->id_at = dr_arena_alloc(a, t->id_count * sizeof *c->id_at);
    c->ref_at = dr_arena_alloc(a, refs * sizeof *c->ref_at);
    c->id = dr_arena_alloc(a, t->id_count * sizeof *c->id);
    c->at = dr_arena_alloc(a, refs * sizeof *c->at);
    c->row = dr_arena_alloc(a, (t->column_count + 2) * sizeof *c->row);
    c->value = dr_arena_alloc(a, t->column_count * sizeof *c->value);
    if (c->more == NULL || c->id_at == NULL || c->ref_at == NULL || c->id == NULL ||
        c->at == NULL || c->row == NULL || c->value == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < t->id_count; i++) {
        c->id_at[i] = select_ref(c, &t->id[i]);
    }
    for (uint32_t i = 0; i < refs; i++) {
        c->ref_at[i] = select_ref(c, &c->walk.ref[i]);
    }
    if (c->walk.hashed_column >= 0) {
        struct sq_ref r = {.sql = t->column[c->walk.hashed_column].quoted,
                           .column = c->walk.hashed_column};
        c->hashed_at = select_ref(c, &r);
    }
    return DR_OK;
}

static void add_columns(const struct scan *c, struct sq_query *q)
{
    const struct sq_table *t = c->walk.table;
    const char *comma = "";
    dr_str_add(&q->text, "SELECT ");
    for (uint32_t i = 0; c->stored > 0 && i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            dr_str_addf(&q->text, "%s%s", comma, t->column[i].quoted);
            comma = ", ";
        }
    }
    for (uint32_t i = 0; i < c->more_count; i++) {
        dr_str_addf(&q->text, "%s%s", comma, c->more[i].sql);
        comma = ", ";
    }
}

static void add_order(struct sq_query *q, const struct sq_walk *w)
{
    dr_str_add(&q->text, " ORDER BY ");
    for (uint32_t i = 0; i < w->ref_count; i++) {
        dr_str_add(&q->text, i == 0 ? "" : ", ");
        sq_add_ref(q, &w->ref[i], false);
    }
}

static bool build_scan(const struct scan *c, uint32_t segment, struct sq_query *q)
{
    bool is_first = true;
    add_columns(c, q);
    add_from(q, &c->walk);
    if (!sq_add_segment(q, &c->walk, &c->span, segment, &is_first)) {
        return false;
    }
    sq_add_filter(q, c->walk.table, c->range->filter, &is_first);
    sq_add_where(q, &c->walk, &is_first);
    add_order(q, &c->walk);
    /* One more than fits tells whether this was the end; without an index it bounds the sorting. */
    uint64_t left = c->budget->items_max - c->batch->count;
    struct dr_value limit = {.type = DR_V_INT,
                             .i = left < (uint64_t)INT64_MAX ? (int64_t)left + 1 : INT64_MAX};
    dr_str_add(&q->text, " LIMIT ");
    sq_query_bind(q, &limit);
    return true;
}

enum dr_code sq_walk_text(const struct sq_walk *w, const struct dr_value *at, struct sq_query *q,
                          struct dr_err *err)
{
    struct sq_span span;
    struct dr_range open = {.collection = w->table->name};
    struct dr_cursor from = {0};
    bool is_first = true;
    enum dr_code rc = make_span(w, &open, &from, NULL, &span, err);
    if (rc == DR_OK && at != NULL) {
        span.low = at;
        span.low_count = w->ref_count;
        span.is_low_inside = false;
    }
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_add(&q->text, "EXPLAIN QUERY PLAN SELECT *");
    add_from(q, w);
    if (sq_add_segment(q, w, &span, sq_span_segments(&span) - 1, &is_first)) {
        sq_add_where(q, w, &is_first);
    }
    add_order(q, w);
    return DR_OK;
}

static enum dr_code fail_hash(const struct scan *c, const struct dr_value *stored, int64_t right,
                              struct dr_err *err)
{
    struct dr_str id;
    struct dr_str shown;
    dr_str_init(&id);
    dr_str_init(&shown);
    for (uint32_t i = 0; i < c->walk.table->id_count; i++) {
        dr_str_add(&id, i == 0 ? "" : ", ");
        dr_value_print(&c->id[i], &id);
    }
    dr_value_print(stored, &shown);
    enum dr_code rc =
        dr_fail(err, DR_CORRUPT,
                "node %s, table %s, row %.200s: the stored hash is %.40s, but %s hashes to %" PRId64
                "; correct the row before anything is erased by its hash",
                c->node->name, c->walk.table->name, dr_str_text(&id), dr_str_text(&shown),
                c->walk.table->column[c->walk.hashed_column].name, right);
    dr_str_fini(&id);
    dr_str_fini(&shown);
    return rc;
}

/* `at` is the result column of the hashed field; the stored hash is c->at[0], the row c->id. */
static enum dr_code check_hash(struct scan *c, sqlite3_stmt *st, int at, struct dr_err *err)
{
    struct dr_value v;
    enum dr_code rc = sq_column_value(c->node, st, at, &v, err);
    if (rc != DR_OK) {
        return rc;
    }
    int64_t right = dr_value_hash(&v);
    const struct dr_value *stored = &c->at[0];
    return stored->type == DR_V_INT && stored->i == right ? DR_OK
                                                          : fail_hash(c, stored, right, err);
}

/* A row whose hash is NULL or no integer at all lies in no chunk, or in one that another node has,
 * so that no walk would ever meet it. Each walk of a chunk looks for such rows when it begins. */
static enum dr_code check_unhashed(struct scan *c, const char *condition, struct dr_err *err)
{
    const struct sq_table *t = c->walk.table;
    struct sq_query q;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    int at = 0;
    sq_query_init(&q);
    dr_str_add(&q.text, "SELECT ");
    for (uint32_t i = 0; i < t->id_count; i++) {
        dr_str_addf(&q.text, "%s, ", t->id[i].sql);
    }
    dr_str_addf(&q.text, "%s, %s", c->walk.ref[0].sql, t->column[c->walk.hashed_column].quoted);
    add_from(&q, &c->walk);
    dr_str_addf(&q.text, " WHERE %s COLLATE BINARY %s LIMIT 1", c->walk.ref[0].sql, condition);
    enum dr_code rc = sq_query_start(c->node, &q, &st, err);
    rc = rc == DR_OK ? dr_sql_step(&c->node->sql, st, &is_row, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && is_row && i < t->id_count; i++) {
        rc = sq_column_value(c->node, st, at++, &c->id[i], err);
    }
    if (rc == DR_OK && is_row) {
        rc = sq_column_value(c->node, st, at++, &c->at[0], err);
        rc = rc == DR_OK ? check_hash(c, st, at, err) : rc;
    }
    sq_done(st);
    sq_query_fini(&q);
    return rc;
}

/* The row's encoding into row_text. */
static enum dr_code read_values(struct scan *c, sqlite3_stmt *st, struct dr_err *err)
{
    const struct sq_table *t = c->walk.table;
    dr_str_clear(&c->row_text);
    if (c->is_wide) {
        bool is_found = false;
        dr_arena_reset(c->row_arena);
        enum dr_code rc = sq_row_fetch(c->node, t, c->id, c->row_arena, c->value, &is_found, err);
        if (rc != DR_OK) {
            return rc;
        }
        assert(is_found); /* the same read transaction */
        sq_row_encode(t, c->id, c->value, c->row, &c->row_text);
        return DR_OK;
    }
    uint32_t count = 0;
    c->row[count++] = (struct dr_value){.type = DR_V_INT, .i = t->shape};
    if (sq_row_extra(t) > 1) {
        c->row[count++] = c->id[0];
    }
    for (uint32_t i = 0; i < c->stored; i++) {
        enum dr_code rc = sq_column_value(c->node, st, (int)i, &c->row[count++], err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    dr_values_encode(c->row, count, &c->row_text);
    return DR_OK;
}

/* Take the row the statement stands on, or find that the batch is full without it. */
static enum dr_code take_row(struct scan *c, sqlite3_stmt *st, struct dr_err *err)
{
    const struct sq_table *t = c->walk.table;
    enum dr_code rc = DR_OK;
    bool with_values = c->budget->with_values;
    for (uint32_t i = 0; rc == DR_OK && i < t->id_count; i++) {
        rc = sq_column_value(c->node, st, c->id_at[i], &c->id[i], err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < c->walk.ref_count; i++) {
        rc = sq_column_value(c->node, st, c->ref_at[i], &c->at[i], err);
    }
    if (rc == DR_OK && c->walk.hashed_column >= 0) {
        rc = check_hash(c, st, c->hashed_at, err);
    }
    dr_str_clear(&c->key_text);
    dr_values_encode(c->id, t->id_count, &c->key_text);
    if (rc == DR_OK && with_values) {
        rc = read_values(c, st, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (c->key_text.is_short || c->row_text.is_short) {
        return dr_fail_nomem(err);
    }
    uint64_t bytes = c->key_text.len + (with_values ? c->row_text.len : 0);
    if (c->batch->count > 0 && c->batch->bytes + bytes > c->budget->bytes_max) {
        c->is_full = true;
        return DR_OK;
    }
    dr_str_clear(&c->at_text);
    dr_values_encode(c->at, c->walk.ref_count, &c->at_text);
    if (c->at_text.is_short) {
        return dr_fail_nomem(err);
    }
    return dr_batch_add(c->batch, c->key_text.data, c->key_text.len,
                        with_values ? c->row_text.data : NULL, c->row_text.len, err);
}

static bool is_picky(const struct scan *c)
{
    return c->range->filter != NULL || c->walk.where != NULL;
}

static bool is_spent(const struct scan *c)
{
    uint64_t count = c->batch->count;
    if (count >= c->budget->items_max) {
        return true;
    }
    /* With a filter, many rows may lie between two that are given. */
    if (count == 0 || (!is_picky(c) && count % CLOCK_EVERY_ROWS != 0)) {
        return false;
    }
    return (uint64_t)(dr_mono_now() - c->started) >= c->budget->ms_max;
}

static enum dr_code scan_segment(struct scan *c, uint32_t segment, struct dr_err *err)
{
    struct sq_query q;
    sqlite3_stmt *st = NULL;
    enum dr_code rc = DR_OK;
    bool is_row = false;
    sq_query_init(&q);
    if (!build_scan(c, segment, &q)) {
        goto out;
    }
    rc = sq_query_start(c->node, &q, &st, err);
    while (rc == DR_OK && !c->is_full) {
        /* With a filter, looking whether more follows could mean reading the rest of the table. */
        if (is_picky(c) && is_spent(c)) {
            c->is_full = true;
            break;
        }
        rc = dr_sql_step(&c->node->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        if (is_spent(c)) {
            c->is_full = true;
            break;
        }
        rc = take_row(c, st, err);
    }
out:
    sq_done(st);
    sq_query_fini(&q);
    return rc;
}

static enum dr_code save_cursor(const struct scan *c, const struct dr_cursor *from,
                                struct dr_err *err)
{
    struct dr_cursor *after = &c->batch->after;
    if (c->batch->count == 0) {
        after->len = from == NULL ? 0 : from->len;
        memcpy(after->data, from == NULL ? after->data : from->data, after->len);
        return DR_OK;
    }
    if (c->at_text.len > DR_CURSOR_BYTES_MAX) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s, table %s: a row's key takes %zu bytes; at most %d can be "
                       "remembered as a position",
                       c->node->name, c->walk.table->name, c->at_text.len, DR_CURSOR_BYTES_MAX);
    }
    after->len = (uint32_t)c->at_text.len;
    memcpy(after->data, c->at_text.data, after->len);
    return DR_OK;
}

/* Inside the read transaction. */
static enum dr_code run_scan(struct sq_store *s, struct scan *c, const char *name,
                             const struct dr_cursor *from, struct dr_err *err)
{
    const struct sq_table *t = NULL;
    enum dr_code rc = sq_table_usable(c->node, name, &t, err);
    rc = rc == DR_OK ? sq_node_mark(c->node, t->name, &c->batch->read_mark, err) : rc;
    rc = rc == DR_OK ? sq_walk_plan(s, c->node, t, c->range, c->arena, &c->walk, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_value *at = dr_arena_alloc(c->arena, c->walk.ref_count * sizeof *at);
    rc = at == NULL ? dr_fail_nomem(err) : make_span(&c->walk, c->range, from, at, &c->span, err);
    rc = rc == DR_OK ? prepare_scan(c, err) : rc;
    if (c->walk.hashed_column >= 0 && (from == NULL || from->len == 0)) {
        rc = rc == DR_OK ? check_unhashed(c, "IS NULL", err) : rc;
        rc = rc == DR_OK ? check_unhashed(c, "> 9223372036854775807", err) : rc;
    }
    for (uint32_t i = 0; rc == DR_OK && !c->is_full && i < sq_span_segments(&c->span); i++) {
        rc = scan_segment(c, i, err);
    }
    c->batch->is_end = !c->is_full;
    return rc == DR_OK ? save_cursor(c, from, err) : rc;
}

enum dr_code sq_scan(void *impl, const struct dr_range *r, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    struct sq_store *s = impl;
    const char *name = NULL;
    struct scan c = {.range = r, .budget = budget, .batch = batch, .started = dr_mono_now()};
    dr_str_init(&c.key_text);
    dr_str_init(&c.at_text);
    dr_str_init(&c.row_text);
    c.arena = dr_arena_create(SCAN_BLOCK_BYTES);
    c.row_arena = dr_arena_create(SCAN_BLOCK_BYTES);
    enum dr_code rc = c.arena == NULL || c.row_arena == NULL
                          ? dr_fail_nomem(err)
                          : sq_node_find(s, r->node, &c.node, err);
    rc = rc == DR_OK ? sq_table_name(s, r->collection, &name, err) : rc;
    if (rc == DR_OK) {
        rc = sq_begin_read(c.node, err);
        if (rc == DR_OK) {
            rc = run_scan(s, &c, name, from, err);
            sq_end_read(c.node);
        }
    }
    dr_arena_destroy(c.arena);
    dr_arena_destroy(c.row_arena);
    dr_str_fini(&c.key_text);
    dr_str_fini(&c.at_text);
    dr_str_fini(&c.row_text);
    return rc;
}
