/* SPDX-License-Identifier: Apache-2.0 */
/* Owns putting rows back: exactly the stored values, nothing computed anew but generated columns,
 * and never over a row that is there. A row is read with the names of its columns: columns that the
 * table has got since are left to their defaults, a column that is gone is a conflict. */
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "store/sql/sql_private.h"

enum { NAMES_MAX = 4096 };

/* A row taken apart: its values stand behind the names. */
struct stored_row {
    uint32_t count;
    const struct dr_value *name;
    const struct dr_value *value;
    uint64_t item;
};

struct restore {
    struct sa_change change;
    struct sa_table view; /* the table with the columns that the rows have */
    struct stored_row *row;
    uint64_t begun; /* first item of the run of rows with the same columns */
};

static enum dr_code decode_item(struct restore *r, uint64_t i, struct dr_err *err)
{
    const struct dr_item *item = &r->change.batch->item[i];
    uint32_t count = 0;
    uint32_t most = 1 + 2 * NAMES_MAX;
    if (item->value == NULL) {
        return dr_fail(err, DR_INPUT, "table %s: an item without its value cannot be put back",
                       r->change.table->shown);
    }
    /* Every value takes a byte at least. */
    most = item->value_len < most ? item->value_len : most;
    struct dr_value *v = dr_arena_alloc(r->change.arena, (most + 1) * sizeof *v);
    if (v == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_values_decode(item->value, item->value_len, v, most, &count, err);
    bool is_good = rc == DR_OK && count > 0 && v[0].type == DR_V_INT && v[0].i > 0 &&
                   v[0].i <= NAMES_MAX && count == 1 + 2 * (uint32_t)v[0].i;
    for (uint32_t k = 1; is_good && k <= (uint32_t)v[0].i; k++) {
        is_good = v[k].type == DR_V_TEXT;
    }
    if (!is_good) {
        return dr_fail(err, DR_CORRUPT, "a stored row of table %s is damaged",
                       r->change.table->shown);
    }
    r->row[i] = (struct stored_row){
        .count = (uint32_t)v[0].i, .name = &v[1], .value = &v[1 + v[0].i], .item = i};
    return DR_OK;
}

static bool is_name(const struct dr_value *v, const char *name)
{
    return v->len == strlen(name) && memcmp(v->data, name, v->len) == 0;
}

static bool is_same_shape(const struct stored_row *a, const struct stored_row *b)
{
    bool is_same = a->count == b->count;
    for (uint32_t i = 0; is_same && i < a->count; i++) {
        is_same = a->name[i].len == b->name[i].len &&
                  memcmp(a->name[i].data, b->name[i].data, a->name[i].len) == 0;
    }
    return is_same;
}

/* The table as the rows know it: their columns in their order, then key columns they lack. */
static enum dr_code make_view(struct restore *r, const struct stored_row *row, struct dr_err *err)
{
    const struct sa_table *t = r->change.walk.table;
    struct sa_table *view = &r->view;
    *view = *t;
    view->column =
        dr_arena_alloc(r->change.arena, (row->count + t->key_count) * sizeof *view->column);
    if (view->column == NULL) {
        return dr_fail_nomem(err);
    }
    view->stored_count = row->count;
    view->column_count = row->count;
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t at = 0;
        while (at < t->column_count && !is_name(&row->name[i], t->column[at].name)) {
            at++;
        }
        if (at == t->column_count || t->column[at].is_generated) {
            return dr_fail(err, DR_CONFLICT,
                           "table %s: column \"%.*s\" of the stored rows is %s now; restore the "
                           "columns first",
                           t->shown, (int)row->name[i].len, (const char *)row->name[i].data,
                           at == t->column_count ? "missing" : "computed");
        }
        view->column[i] = t->column[at];
    }
    for (uint32_t k = 0; k < t->key_count; k++) {
        const char *name = t->column[t->key[k]].name;
        uint32_t at = 0;
        while (at < view->column_count && strcmp(view->column[at].name, name) != 0) {
            at++;
        }
        if (at == view->column_count) {
            view->column[view->column_count] = t->column[t->key[k]];
            view->column[view->column_count++].is_generated = true;
        }
        view->key[k] = (int)at;
    }
    r->change.room = dr_arena_alloc(r->change.arena, sa_row_room(view) * sizeof(struct dr_value));
    r->change.table = view;
    return r->change.room == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* ---- inserting ---- */

static void begin_insert(struct restore *r, struct sa_query *q)
{
    sa_query_clear(q);
    dr_str_addf(&q->text, "INSERT INTO %s (", r->view.quoted);
    sa_add_stored(q, &r->view);
    dr_str_add(&q->text, q->is_pg ? ") OVERRIDING SYSTEM VALUE VALUES " : ") VALUES ");
}

static void add_row(struct restore *r, struct sa_query *q, const struct stored_row *row,
                    bool is_first)
{
    dr_str_add(&q->text, is_first ? "(" : ", (");
    for (uint32_t i = 0; i < row->count; i++) {
        dr_str_add(&q->text, i == 0 ? "" : ", ");
        if (q->is_pg) {
            sa_add_value(q, &r->view.column[i], &row->value[i]);
        } else {
            dr_str_addc(&q->text, '?');
            sa_bind(q, &row->value[i]);
        }
    }
    dr_str_addc(&q->text, ')');
}

static enum dr_code run_insert(struct restore *r, struct sa_query *q, uint64_t rows,
                               struct dr_err *err)
{
    uint64_t affected = 0;
    dr_str_add(&q->text, q->is_pg ? " ON CONFLICT DO NOTHING" : "");
    enum dr_code rc = sa_query_exec(r->change.store, q, &affected, err);
    if (rc == DR_OK) {
        r->change.tally->restored += affected;
        r->change.tally->conflicts += rows - affected; /* another unique key is taken */
    }
    return rc;
}

/* Rows one by one, because one of them met another row. */
static enum dr_code insert_each(struct restore *r, struct sa_query *q, const uint64_t *pick,
                                uint64_t count, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint64_t i = 0; rc == DR_OK && i < count; i++) {
        begin_insert(r, q);
        add_row(r, q, &r->row[pick[i]], true);
        rc = run_insert(r, q, 1, err);
        if (rc == DR_EXISTS) {
            dr_err_clear(err);
            r->change.tally->conflicts++;
            rc = DR_OK;
        }
    }
    return rc;
}

static enum dr_code insert_some(struct restore *r, struct sa_query *q, const uint64_t *pick,
                                uint64_t count, struct dr_err *err)
{
    begin_insert(r, q);
    for (uint64_t i = 0; i < count; i++) {
        add_row(r, q, &r->row[pick[i]], i == 0);
    }
    enum dr_code rc = run_insert(r, q, count, err);
    if (rc == DR_EXISTS) { /* the statement alone was undone */
        dr_err_clear(err);
        rc = insert_each(r, q, pick, count, err);
    }
    return rc;
}

static enum dr_code insert_picked(struct restore *r, const uint64_t *pick, uint64_t count,
                                  struct dr_err *err)
{
    struct sa_query q;
    enum dr_code rc = DR_OK;
    uint64_t from = 0;
    sa_query_init(&q, r->change.store);
    while (rc == DR_OK && from < count) {
        uint64_t upto = from;
        uint64_t bytes = 0;
        uint64_t params = 0;
        do {
            bytes += r->change.batch->item[pick[upto]].value_len;
            params += r->view.stored_count;
            upto++;
        } while (upto < count && params + r->view.stored_count <= SA_PARAMS_MAX &&
                 bytes + r->change.batch->item[pick[upto]].value_len <= SA_STATEMENT_BYTES_MAX);
        rc = insert_some(r, &q, pick + from, upto - from, err);
        from = upto;
    }
    sa_query_fini(&q);
    return rc;
}

/* ---- runs of rows with the same columns ---- */

/* Without a key: as many as are missing of those that are alike. */
static enum dr_code pick_keyless(struct restore *r, uint64_t upto, uint64_t *pick,
                                 uint64_t *count_out, struct dr_err *err)
{
    struct sa_change *c = &r->change;
    enum dr_code rc = DR_OK;
    int64_t left = 0;
    *count_out = 0;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        uint64_t at = c->sorted[i];
        if (at < r->begun || at >= upto) {
            continue;
        }
        if (!c->is_double[at]) {
            rc = sa_keyless_count(c, r->row[at].value, &left, err);
        }
        if (left > 0) {
            c->tally->same++;
        } else {
            pick[(*count_out)++] = at;
        }
        left--;
    }
    return rc;
}

static enum dr_code pick_missing(struct restore *r, uint64_t upto, uint64_t *pick,
                                 uint64_t *count_out, struct dr_err *err)
{
    struct sa_change *c = &r->change;
    uint64_t count = 0;
    uint64_t missing = 0;
    for (uint64_t i = r->begun; i < upto; i++) {
        if (c->is_double[i]) {
            c->tally->same++; /* whatever becomes of the first one, this adds nothing */
        } else {
            pick[count++] = i;
        }
    }
    enum dr_code rc = sa_look_at(c, pick, count, SA_LOOK, err);
    for (uint64_t i = 0; rc == DR_OK && i < count; i++) {
        enum sa_state state = c->state[pick[i]];
        c->tally->same += state == SA_SAME;
        c->tally->conflicts += state == SA_CHANGED || state == SA_LOCKED;
        if (state == SA_ABSENT) {
            pick[missing++] = pick[i];
        }
    }
    *count_out = missing;
    return rc;
}

static enum dr_code restore_run(struct restore *r, uint64_t upto, struct dr_err *err)
{
    uint64_t count = 0;
    uint64_t *pick = dr_arena_alloc(r->change.arena, (upto - r->begun + 1) * sizeof *pick);
    enum dr_code rc = pick == NULL ? dr_fail_nomem(err) : make_view(r, &r->row[r->begun], err);
    if (rc == DR_OK) {
        rc = r->view.key_count == 0 ? pick_keyless(r, upto, pick, &count, err)
                                    : pick_missing(r, upto, pick, &count, err);
    }
    return rc == DR_OK ? insert_picked(r, pick, count, err) : rc;
}

static enum dr_code restore_all(struct restore *r, struct dr_err *err)
{
    enum dr_code rc = dr_fault_pass("store.sql.restore.begun", err);
    uint64_t count = r->change.batch->count;
    for (uint64_t i = 1; rc == DR_OK && i <= count; i++) {
        if (i == count || !is_same_shape(&r->row[r->begun], &r->row[i])) {
            rc = restore_run(r, i, err);
            r->begun = i;
        }
    }
    return rc == DR_OK ? dr_fault_pass("store.sql.restore.inserted", err) : rc;
}

static enum dr_code prepare_restore(struct restore *r, struct dr_err *err)
{
    struct sa_change *c = &r->change;
    if (c->table->triggers != NULL) {
        return dr_fail(err, DR_REFUSED,
                       "table %s has triggers or rules (%s); restoring its rows would run them and "
                       "change other rows",
                       c->table->shown, c->table->triggers);
    }
    r->row = dr_arena_alloc(c->arena, c->batch->count * sizeof *r->row);
    enum dr_code rc = r->row == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        rc = decode_item(r, i, err);
    }
    return rc;
}

enum dr_code sa_restore(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err)
{
    struct restore r = {0};
    enum dr_code rc = sa_change_init(&r.change, impl, range, batch, tally, true, err);
    rc = rc == DR_OK ? prepare_restore(&r, err) : rc;
    rc = rc == DR_OK ? dr_sqldb_begin(r.change.store->db, err) : rc;
    if (rc == DR_OK) {
        rc = restore_all(&r, err);
        rc = sa_end_change(&r.change, rc, "store.sql.restore.committed", err);
    }
    if (rc != DR_OK) {
        *tally = (struct dr_tally){0};
        sa_table_forget(impl, range->collection);
    }
    sa_change_fini(&r.change);
    return rc;
}
