/* SPDX-License-Identifier: Apache-2.0 */
/* Owns tables without a key, worked on only when the request allows it: the whole row is the
 * identity, and rows are deleted one at a time. Rows that are alike in every column cannot be told
 * apart; the survey's warning says so. */
#include <inttypes.h>

#include "base/fault.h"
#include "store/sql/sql_private.h"

static enum dr_code decode_row(const struct sa_change *c, const struct dr_item *item,
                               struct dr_value *row, struct dr_err *err)
{
    uint32_t count = 0;
    enum dr_code rc =
        dr_values_decode(item->key, item->key_len, row, c->table->stored_count, &count, err);
    if (rc != DR_OK) {
        dr_wrap(err, "a row of %s", c->table->shown);
        return rc;
    }
    return count == c->table->stored_count
               ? DR_OK
               : dr_fail(err, DR_UNSUPPORTED,
                         "table %s has other columns than when its rows were read",
                         c->table->shown);
}

static void add_same_value(struct sa_query *q, const struct sa_column *c, const struct dr_value *v)
{
    bool is_plain = c->class == SA_INT || (!q->is_pg && c->class == SA_DECIMAL) ||
                    (!q->is_pg && c->class == SA_FLOAT);
    if (v->type == DR_V_NULL || is_plain) {
        sa_add_equal(q, c, v);
        return;
    }
    if (c->class == SA_BLOB) {
        dr_str_addf(&q->text, q->is_pg ? "%s = ?::bytea" : "CAST(%s AS BINARY) = ?", c->quoted);
    } else {
        dr_str_addf(&q->text,
                    q->is_pg ? "%s::text COLLATE \"C\" = ?::text"
                             : "CAST(CONVERT(%s USING utf8mb4) AS BINARY) = CAST(? AS BINARY)",
                    c->quoted);
    }
    sa_bind(q, v);
}

static void add_same_row(struct sa_query *q, const struct sa_table *t, const struct dr_value *row,
                         bool *is_first)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            sa_add_and(q, is_first);
            add_same_value(q, &t->column[i], &row[at++]);
        }
    }
}

static enum dr_code delete_one(struct sa_change *c, const struct dr_value *row, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    uint64_t affected = 0;
    sa_query_init(&q, c->store);
    if (c->store->is_pg) {
        dr_str_addf(&q.text,
                    "DELETE FROM %s WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM %s",
                    c->table->from, c->table->from);
    } else {
        dr_str_addf(&q.text, "DELETE FROM %s", c->table->from);
    }
    add_same_row(&q, c->table, row, &is_first);
    sa_add_selection(&q, &c->walk, &is_first);
    dr_str_add(&q.text, c->store->is_pg ? " LIMIT 1 FOR UPDATE SKIP LOCKED)" : " LIMIT 1");
    enum dr_code rc = sa_query_exec(c->store, &q, &affected, err);
    sa_query_fini(&q);
    c->tally->erased += affected;
    c->tally->absent += affected == 0;
    return rc == DR_OK && affected > 1
               ? dr_fail(err, DR_INTERNAL, "%s: %" PRIu64 " rows were deleted instead of one",
                         c->table->shown, affected)
               : rc;
}

enum dr_code sa_keyless_erase(struct sa_change *c, struct dr_err *err)
{
    struct dr_value *row = dr_arena_alloc(c->arena, (c->table->stored_count + 1) * sizeof *row);
    enum dr_code rc = row == NULL ? dr_fail_nomem(err) : dr_sqldb_begin(c->store->db, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_fault_pass("store.sql.erase.begun", err);
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        rc = decode_row(c, &c->batch->item[i], row, err);
        rc = rc == DR_OK ? delete_one(c, row, err) : rc;
    }
    rc = rc == DR_OK ? sa_check_epoch(c, err) : rc;
    return sa_end_change(c, rc, "store.sql.erase.committed", err);
}

enum dr_code sa_keyless_count(struct sa_change *c, const struct dr_value *stored, int64_t *out,
                              struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    sa_query_init(&q, c->store);
    dr_str_addf(&q.text, "SELECT count(*) FROM %s", c->table->from);
    add_same_row(&q, c->table, stored, &is_first);
    enum dr_code rc = sa_query_number(c->store, &q, out, err);
    sa_query_fini(&q);
    return rc;
}

/* Of items that are alike, as many are still there as the table has rows like them. */
enum dr_code sa_keyless_probe(struct sa_change *c, struct dr_err *err)
{
    struct dr_value *row = dr_arena_alloc(c->arena, (c->table->stored_count + 1) * sizeof *row);
    enum dr_code rc = row == NULL ? dr_fail_nomem(err) : DR_OK;
    int64_t left = 0;
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        uint64_t at = c->sorted[i];
        if (!c->is_double[at]) {
            rc = decode_row(c, &c->batch->item[at], row, err);
            rc = rc == DR_OK ? sa_keyless_count(c, row, &left, err) : rc;
        }
        c->tally->same += left > 0;
        c->tally->absent += left <= 0;
        left--;
    }
    return rc;
}
