/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what changes rows: erase and restore, one transaction each, and probe, which only looks.
 *
 * An item is erased only while it is what was read. When nobody has committed to the file since the
 * batch was read (its mark is still the file's), that is certain and rows are deleted by identity
 * alone; otherwise each row is read again and compared first. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "store/sqlite/sqlite_private.h"

enum { CHANGE_BLOCK_BYTES = 16 * 1024, RUN_ROWS_MIN = 4, ROW_VALUES_MAX = 40000 };

struct change {
    struct sq_store *store;
    struct sq_node *node;
    const struct dr_range *range;
    const struct dr_batch *batch;
    struct dr_tally *tally;
    const struct sq_table *table;
    struct dr_arena *arena;     /* for the whole call */
    struct dr_arena *row_arena; /* reset for each row */
    struct sq_walk walk;        /* only planned when an item has no value */
    struct dr_value *id;
    struct dr_value *value;
    struct dr_value *row;
    struct dr_str text;
};

static enum dr_code init_change(struct change *c, void *impl, const struct dr_range *r,
                                const struct dr_batch *batch, struct dr_tally *tally,
                                struct dr_err *err)
{
    *c = (struct change){.store = impl, .range = r, .batch = batch, .tally = tally};
    dr_str_init(&c->text);
    c->arena = dr_arena_create(CHANGE_BLOCK_BYTES);
    c->row_arena = dr_arena_create(CHANGE_BLOCK_BYTES);
    return c->arena == NULL || c->row_arena == NULL ? dr_fail_nomem(err)
                                                    : sq_node_find(impl, r->node, &c->node, err);
}

static void fini_change(struct change *c)
{
    dr_arena_destroy(c->arena);
    dr_arena_destroy(c->row_arena);
    dr_str_fini(&c->text);
}

/* Facts and room, once a transaction is open. */
static enum dr_code load_change(struct change *c, struct dr_err *err)
{
    const char *name = NULL;
    enum dr_code rc = sq_table_name(c->store, c->range->collection, &name, err);
    rc = rc == DR_OK ? sq_table_usable(c->node, name, &c->table, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    const struct sq_table *t = c->table;
    c->id = dr_arena_alloc(c->arena, t->id_count * sizeof *c->id);
    c->value = dr_arena_alloc(c->arena, t->column_count * sizeof *c->value);
    c->row = dr_arena_alloc(c->arena, (t->column_count + 2) * sizeof *c->row);
    return c->id == NULL || c->value == NULL || c->row == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code refuse_triggers(const struct change *c, const char *verb, struct dr_err *err)
{
    return c->table->has_triggers
               ? dr_fail(err, DR_REFUSED,
                         "node %s: table %s has triggers; %s its rows would run them and change "
                         "other rows",
                         c->node->name, c->table->name, verb)
               : DR_OK;
}

/* Without values the row itself must say whether it is still selected. The walk's index may be gone
 * by now and is not needed: a walk by index has no bounds. */
static enum dr_code plan_selection(struct change *c, struct dr_err *err)
{
    bool is_needed = false;
    for (uint64_t i = 0; i < c->batch->count && !is_needed; i++) {
        is_needed = c->batch->item[i].value == NULL;
    }
    struct dr_range r = *c->range;
    r.access = r.access == DR_BY_INDEX ? DR_BY_SCAN : r.access;
    return is_needed ? sq_walk_plan(c->store, c->node, c->table, &r, c->arena, &c->walk, err)
                     : DR_OK;
}

enum row_state { ROW_ABSENT, ROW_SAME, ROW_CHANGED };

/* Compare the row that has the item's identity (in c->id) with what was read. */
static enum dr_code look_at_row(struct change *c, const struct dr_item *item,
                                enum row_state *state_out, struct dr_err *err)
{
    bool is_found = false;
    dr_arena_reset(c->row_arena);
    enum dr_code rc =
        sq_row_fetch(c->node, c->table, c->id, c->row_arena, c->value, &is_found, err);
    if (rc != DR_OK || !is_found) {
        *state_out = ROW_ABSENT;
        return rc;
    }
    if (item->value == NULL) {
        bool is_selected = sq_row_selected(&c->walk, c->range, c->value);
        if (is_selected && c->walk.where != NULL) {
            rc = sq_where_matches(c->node, &c->walk, c->id, &is_selected, err);
        }
        *state_out = is_selected ? ROW_SAME : ROW_CHANGED;
        return rc;
    }
    dr_str_clear(&c->text);
    sq_row_encode(c->table, c->id, c->value, c->row, &c->text);
    if (c->text.is_short) {
        return dr_fail_nomem(err);
    }
    bool is_same =
        c->text.len == item->value_len && memcmp(c->text.data, item->value, item->value_len) == 0;
    *state_out = is_same ? ROW_SAME : ROW_CHANGED;
    return DR_OK;
}

/* ---- erase ---- */

static enum dr_code delete_one(struct change *c, sqlite3_stmt *st, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < c->table->id_count; i++) {
        rc = sq_bind(c->node, st, (int)i + 1, &c->id[i], err);
    }
    bool is_row = false;
    rc = rc == DR_OK ? dr_sql_step(&c->node->sql, st, &is_row, err) : rc;
    (void)sqlite3_reset(st);
    if (rc == DR_OK) {
        bool is_gone = sqlite3_changes(c->node->sql.db) > 0;
        c->tally->erased += is_gone;
        c->tally->absent += !is_gone;
    }
    return rc;
}

static enum dr_code prepare_delete(struct change *c, sqlite3_stmt **out, struct dr_err *err)
{
    struct sq_query q;
    sq_query_init(&q);
    dr_str_addf(&q.text, "DELETE FROM %s", c->table->quoted);
    for (uint32_t i = 0; i < c->table->id_count; i++) {
        dr_str_addf(&q.text, "%s%s = ?", i == 0 ? " WHERE " : " AND ", c->table->id[i].sql);
    }
    enum dr_code rc = sq_query_start(c->node, &q, out, err);
    sq_query_fini(&q);
    return rc;
}

static enum dr_code erase_carefully(struct change *c, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = plan_selection(c, err);
    rc = rc == DR_OK ? prepare_delete(c, &st, err) : rc;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        const struct dr_item *item = &c->batch->item[i];
        enum row_state state = ROW_ABSENT;
        rc = sq_key_decode(c->table, item, c->id, err);
        rc = rc == DR_OK ? look_at_row(c, item, &state, err) : rc;
        if (rc != DR_OK) {
            break;
        }
        switch (state) {
        case ROW_ABSENT:
            c->tally->absent++;
            break;
        case ROW_CHANGED:
            c->tally->changed++;
            break;
        case ROW_SAME:
            rc = delete_one(c, st, err);
            break;
        }
    }
    sq_done(st);
    return rc;
}

static int order_rowids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Rowids of the whole batch in the table's own order, whatever the walk's was: neighbours share
 * pages. *is_unique_out says that none comes twice. */
static enum dr_code read_rowids(struct change *c, int64_t **out, bool *is_unique_out,
                                struct dr_err *err)
{
    uint64_t count = c->batch->count;
    int64_t *rowid = dr_arena_alloc(c->arena, count * sizeof *rowid);
    bool is_sorted = true;
    *out = rowid;
    *is_unique_out = true;
    if (rowid == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint64_t i = 0; i < count; i++) {
        enum dr_code rc = sq_key_decode(c->table, &c->batch->item[i], c->id, err);
        if (rc != DR_OK) {
            return rc;
        }
        rowid[i] = c->id[0].i;
        is_sorted = is_sorted && (i == 0 || rowid[i - 1] < rowid[i]);
    }
    if (!is_sorted) {
        qsort(rowid, count, sizeof *rowid, order_rowids);
    }
    for (uint64_t i = 1; i < count; i++) {
        *is_unique_out = *is_unique_out && rowid[i - 1] != rowid[i];
    }
    return DR_OK;
}

static enum dr_code prepare_between(struct change *c, const char *head, const char *tail,
                                    sqlite3_stmt **out, struct dr_err *err)
{
    struct sq_query q;
    sq_query_init(&q);
    dr_str_addf(&q.text, "%s %s WHERE %s BETWEEN ? AND ?%s", head, c->table->quoted,
                c->table->rowid, tail);
    enum dr_code rc = sq_query_start(c->node, &q, out, err);
    sq_query_fini(&q);
    return rc;
}

/* Are the rows of [first, last] exactly as many as the batch has? Reads at most one more. */
static enum dr_code is_whole_interval(struct change *c, int64_t first, int64_t last, bool *out,
                                      struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    *out = false;
    enum dr_code rc =
        prepare_between(c, "SELECT count(*) FROM (SELECT 1 FROM", " LIMIT ?)", &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_int64(st, 1, first);
        (void)sqlite3_bind_int64(st, 2, last);
        (void)sqlite3_bind_int64(st, 3, (int64_t)c->batch->count + 1);
        rc = dr_sql_step(&c->node->sql, st, &is_row, err);
    }
    if (rc == DR_OK && is_row) {
        *out = (uint64_t)sqlite3_column_int64(st, 0) == c->batch->count;
    }
    sq_done(st);
    return rc;
}

static enum dr_code delete_run(struct change *c, sqlite3_stmt *st, int64_t first, int64_t last,
                               uint64_t rows, struct dr_err *err)
{
    bool is_row = false;
    (void)sqlite3_bind_int64(st, 1, first);
    (void)sqlite3_bind_int64(st, 2, last);
    enum dr_code rc = dr_sql_step(&c->node->sql, st, &is_row, err);
    (void)sqlite3_reset(st);
    if (rc == DR_OK) {
        uint64_t gone = (uint64_t)sqlite3_changes(c->node->sql.db);
        assert(gone <= rows);
        c->tally->erased += gone;
        c->tally->absent += rows - gone;
    }
    return rc;
}

/* Rows of a rowid table in an unchanged file. A run of consecutive rowids holds nothing but items
 * of the batch, so one statement takes it; an interval with gaps does too when it has as many rows
 * as the batch. That is a good deal faster than deleting row by row. */
static enum dr_code erase_rowids(struct change *c, struct dr_err *err)
{
    int64_t *rowid = NULL;
    bool is_unique = false;
    bool is_whole = false;
    uint64_t count = c->batch->count;
    sqlite3_stmt *one = NULL;
    sqlite3_stmt *run = NULL;
    enum dr_code rc = read_rowids(c, &rowid, &is_unique, err);
    if (rc == DR_OK && is_unique) {
        rc = is_whole_interval(c, rowid[0], rowid[count - 1], &is_whole, err);
    }
    rc = rc == DR_OK ? prepare_between(c, "DELETE FROM", "", &run, err) : rc;
    rc = rc == DR_OK ? prepare_delete(c, &one, err) : rc;
    for (uint64_t i = 0; rc == DR_OK && i < count;) {
        uint64_t upto = i + 1;
        while (upto < count &&
               (is_whole || (rowid[upto - 1] != INT64_MAX && rowid[upto] == rowid[upto - 1] + 1))) {
            upto++;
        }
        if (upto - i >= RUN_ROWS_MIN) {
            rc = delete_run(c, run, rowid[i], rowid[upto - 1], upto - i, err);
            i = upto;
        } else {
            c->id[0] = (struct dr_value){.type = DR_V_INT, .i = rowid[i]};
            rc = delete_one(c, one, err);
            i++;
        }
    }
    sq_done(one);
    sq_done(run);
    return rc;
}

static enum dr_code erase_unchanged(struct change *c, struct dr_err *err)
{
    if (!c->table->is_without_rowid) {
        return erase_rowids(c, err);
    }
    sqlite3_stmt *st = NULL;
    enum dr_code rc = prepare_delete(c, &st, err);
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        rc = sq_key_decode(c->table, &c->batch->item[i], c->id, err);
        rc = rc == DR_OK ? delete_one(c, st, err) : rc;
    }
    sq_done(st);
    return rc;
}

static enum dr_code check_epoch(const struct change *c, struct dr_err *err)
{
    uint64_t epoch = 0;
    enum dr_code rc = sq_epoch(c->store, c->range->collection, &epoch, err);
    if (rc == DR_OK && epoch != c->range->epoch) {
        return dr_fail(err, DR_STALE,
                       "%s: its layout has epoch %" PRIu64 " now, the plan was made for %" PRIu64
                       "; nothing was erased",
                       c->range->collection, epoch, c->range->epoch);
    }
    return rc;
}

/* Inside the transaction. */
static enum dr_code run_erase(struct change *c, struct dr_err *err)
{
    uint64_t mark = 0;
    enum dr_code rc = dr_fault_pass("store.sqlite.erase.begun", err);
    rc = rc == DR_OK ? check_epoch(c, err) : rc;
    rc = rc == DR_OK ? load_change(c, err) : rc;
    rc = rc == DR_OK ? refuse_triggers(c, "erasing", err) : rc;
    rc = rc == DR_OK ? sq_node_mark(c->node, c->table->name, &mark, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    c->node->writes++;
    bool is_unchanged = c->batch->read_mark != 0 && c->batch->read_mark == mark;
    rc = is_unchanged ? erase_unchanged(c, err) : erase_carefully(c, err);
    if (rc == DR_OK) {
        rc = dr_fault_pass("store.sqlite.erase.deleted", err);
    }
    return rc;
}

/* End a transaction that went so far as `rc`; what comes after the commit cannot undo it. */
static enum dr_code end_change(struct change *c, enum dr_code rc, DR_UNUSED const char *committed,
                               struct dr_err *err)
{
    if (rc == DR_OK) {
        rc = sq_commit(c->node, err);
        if (rc == DR_OK && dr_fault_pass(committed, err) != DR_OK) {
            rc = dr_fail(err, DR_UNKNOWN, "node %s: the answer to the commit was lost",
                         c->node->name);
        }
    } else {
        dr_sql_rollback(&c->node->sql);
    }
    if (rc != DR_OK) {
        *c->tally = (struct dr_tally){0};
    }
    return rc;
}

enum dr_code sq_erase(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct change c;
    *tally = (struct dr_tally){0};
    enum dr_code rc = init_change(&c, impl, r, batch, tally, err);
    if (rc != DR_OK || batch->count == 0) {
        goto out;
    }
    rc = sq_begin_write(c.node, err);
    if (rc == DR_OK) {
        rc = run_erase(&c, err);
        rc = end_change(&c, rc, "store.sqlite.erase.committed", err);
    }
out:
    fini_change(&c);
    return rc;
}

/* ---- probe ---- */

static enum dr_code run_probe(struct change *c, struct dr_err *err)
{
    enum dr_code rc = load_change(c, err);
    rc = rc == DR_OK ? plan_selection(c, err) : rc;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        enum row_state state = ROW_ABSENT;
        rc = sq_key_decode(c->table, &c->batch->item[i], c->id, err);
        rc = rc == DR_OK ? look_at_row(c, &c->batch->item[i], &state, err) : rc;
        if (rc == DR_OK) {
            c->tally->same += state == ROW_SAME;
            c->tally->changed += state == ROW_CHANGED;
            c->tally->absent += state == ROW_ABSENT;
        }
    }
    return rc;
}

enum dr_code sq_probe(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct change c;
    *tally = (struct dr_tally){0};
    enum dr_code rc = init_change(&c, impl, r, batch, tally, err);
    rc = rc == DR_OK ? sq_begin_read(c.node, err) : rc;
    if (rc == DR_OK) {
        rc = run_probe(&c, err);
        sq_end_read(c.node);
    }
    fini_change(&c);
    return rc;
}

/* ---- restore ---- */

static enum dr_code prepare_insert(struct change *c, sqlite3_stmt **out, struct dr_err *err)
{
    const struct sq_table *t = c->table;
    struct sq_query q;
    const char *comma = "";
    sq_query_init(&q);
    dr_str_addf(&q.text, "INSERT INTO %s(", t->quoted);
    if (sq_row_extra(t) > 1) {
        dr_str_add(&q.text, t->rowid);
        comma = ", ";
    }
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            dr_str_addf(&q.text, "%s%s", comma, t->column[i].quoted);
            comma = ", ";
        }
    }
    dr_str_add(&q.text, ") VALUES(");
    for (uint32_t i = 1; i < sq_row_extra(t) + t->stored_count; i++) {
        dr_str_add(&q.text, i == 1 ? "?" : ",?");
    }
    /* Without a target it also overrides a constraint's own ON CONFLICT REPLACE. */
    dr_str_add(&q.text, ") ON CONFLICT DO NOTHING");
    enum dr_code rc = sq_query_start(c->node, &q, out, err);
    sq_query_fini(&q);
    return rc;
}

/* Rows that do not fit: damaged, or of a table that had more columns? */
static bool is_other_shape(struct change *c, const struct dr_item *item)
{
    uint32_t count = 0;
    dr_arena_reset(c->row_arena);
    struct dr_value *row = dr_arena_alloc(c->row_arena, ROW_VALUES_MAX * sizeof *row);
    return row != NULL && dr_values_decode(item->value, item->value_len, row, ROW_VALUES_MAX,
                                           &count, NULL) == DR_OK;
}

/* The row's values into c->row. */
static enum dr_code decode_row(struct change *c, const struct dr_item *item, uint32_t *count_out,
                               struct dr_err *err)
{
    const struct sq_table *t = c->table;
    if (item->value == NULL) {
        return dr_fail(err, DR_INPUT, "table %s: an item without its value cannot be put back",
                       t->name);
    }
    enum dr_code rc =
        dr_values_decode(item->value, item->value_len, c->row, t->column_count + 2, count_out, err);
    if (rc == DR_OK ? *count_out != sq_row_extra(t) + t->stored_count ||
                          c->row[0].type != DR_V_INT || c->row[0].i != t->shape
                    : is_other_shape(c, item)) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "node %s: table %s has other columns than when its rows were erased; "
                       "restore the columns first",
                       c->node->name, t->name);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "a row of table %s", t->name);
    }
    return rc;
}

static enum dr_code restore_one(struct change *c, sqlite3_stmt *st, const struct dr_item *item,
                                struct dr_err *err)
{
    uint32_t count = 0;
    bool is_row = false;
    enum dr_code rc = decode_row(c, item, &count, err);
    for (uint32_t i = 1; rc == DR_OK && i < count; i++) {
        rc = sq_bind(c->node, st, (int)i, &c->row[i], err);
    }
    rc = rc == DR_OK ? dr_sql_step(&c->node->sql, st, &is_row, err) : rc;
    (void)sqlite3_reset(st);
    if (rc != DR_OK) {
        return rc;
    }
    if (sqlite3_changes(c->node->sql.db) > 0) {
        c->tally->restored++;
        return DR_OK;
    }
    enum row_state state = ROW_ABSENT;
    rc = sq_key_decode(c->table, item, c->id, err);
    rc = rc == DR_OK ? look_at_row(c, item, &state, err) : rc;
    if (rc == DR_OK) {
        c->tally->same += state == ROW_SAME;
        c->tally->conflicts += state != ROW_SAME; /* absent: another unique key is taken */
    }
    return rc;
}

static enum dr_code run_restore(struct change *c, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = dr_fault_pass("store.sqlite.restore.begun", err);
    rc = rc == DR_OK ? load_change(c, err) : rc;
    rc = rc == DR_OK ? refuse_triggers(c, "restoring", err) : rc;
    rc = rc == DR_OK ? prepare_insert(c, &st, err) : rc;
    c->node->writes++;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        rc = restore_one(c, st, &c->batch->item[i], err);
    }
    sq_done(st);
    if (rc == DR_OK) {
        rc = dr_fault_pass("store.sqlite.restore.inserted", err);
    }
    return rc;
}

enum dr_code sq_restore(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err)
{
    struct change c;
    *tally = (struct dr_tally){0};
    enum dr_code rc = init_change(&c, impl, r, batch, tally, err);
    rc = rc == DR_OK ? sq_begin_write(c.node, err) : rc;
    if (rc == DR_OK) {
        rc = run_restore(&c, err);
        rc = end_change(&c, rc, "store.sqlite.restore.committed", err);
    }
    fini_change(&c);
    return rc;
}
