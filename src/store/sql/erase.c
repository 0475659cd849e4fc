/* SPDX-License-Identifier: Apache-2.0 */
/* Owns erasing: one short transaction that locks the rows it finds (never waiting for others),
 * compares them with what was read, deletes those that are the same, and commits. Where DELETE
 * gives back what it took, it comes first and the comparison decides between commit and rollback.
 *
 * A batch that was read in the order of the key is one range of it: then one statement locks it
 * and one deletes it, provided that the range holds exactly the batch. Both count, so that a row
 * that came between is noticed and the rows are named one by one instead.
 *
 * Rows that somebody else holds are looked at again for a moment: mostly another drover is about to
 * commit, and then they are gone rather than changed. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "store/sql/sql_private.h"

enum { LOCK_TRIES_MAX = 5, LOCK_WAIT_MS = 20 };

static enum dr_code refuse_code(const struct sa_change *c, struct dr_err *err)
{
    struct dr_str children;
    enum dr_code rc = DR_OK;
    dr_str_init(&children);
    if (c->table->triggers != NULL) {
        rc = dr_fail(err, DR_REFUSED,
                     "table %s has triggers or rules (%s); erasing its rows would run them and "
                     "change other rows",
                     c->table->shown, c->table->triggers);
    } else if (sa_has_cascades(c->table)) {
        sa_add_cascades(c->table, &children);
        rc = dr_fail(err, DR_REFUSED,
                     "erasing rows of %s would change rows of other tables: %s; erase the children "
                     "first and drop the rule, because a cascade can be neither throttled nor "
                     "undone",
                     c->table->shown, dr_str_text(&children));
    }
    dr_str_fini(&children);
    return rc;
}

enum dr_code sa_check_epoch(struct sa_change *c, struct dr_err *err)
{
    uint64_t epoch = 0;
    enum dr_code rc = sa_epoch_now(c->store, c->range->collection, &epoch, err);
    if (rc == DR_OK && epoch != c->range->epoch) {
        rc = dr_fail(err, DR_STALE,
                     "%s: its definition has changed since the plan was made; nothing was erased",
                     c->range->collection);
    }
    return rc;
}

/* A statement that no longer fits the table: say that the table has changed. */
static enum dr_code explain_failure(struct sa_change *c, enum dr_code rc, struct dr_err *err)
{
    bool may_be_stale =
        rc == DR_NOT_FOUND || rc == DR_INPUT || rc == DR_STALE || rc == DR_UNSUPPORTED;
    if (may_be_stale) {
        struct dr_err other = {0};
        if (sa_check_epoch(c, &other) == DR_STALE) {
            return dr_fail(err, DR_STALE, "%s", other.msg);
        }
    }
    return rc;
}

enum dr_code sa_end_change(struct sa_change *c, enum dr_code rc, DR_UNUSED const char *point,
                           struct dr_err *err)
{
    if (rc == DR_OK) {
        rc = dr_sqldb_commit(c->store->db, err);
        if (rc == DR_OK && dr_fault_pass(point, err) != DR_OK) {
            rc = dr_fail(err, DR_UNKNOWN, "the answer to the commit was lost");
        }
    } else {
        dr_sqldb_rollback(c->store->db);
    }
    if (rc != DR_OK) {
        sa_table_forget(c->store, c->range->collection);
        c->table = NULL;
    }
    return rc;
}

/* ---- a range of the key ---- */

/* Can the batch be one range of the key? With several columns only where one comparison says so. */
static bool is_span(const struct sa_change *c)
{
    const struct sa_table *t = c->table;
    uint64_t count = c->batch->count;
    bool is_plain = c->range->access == DR_BY_SCAN && c->walk.is_by_key && count > 1;
    for (uint64_t i = 0; is_plain && i < count; i++) {
        is_plain = !c->is_double[i];
    }
    for (uint32_t k = 0; is_plain && !c->store->is_pg && k + 1 < t->key_count; k++) {
        is_plain = dr_value_compare(&c->key[k], &c->key[(count - 1) * t->key_count + k]) == 0;
    }
    /* MySQL forbids to delete from a table that the condition reads. */
    return is_plain &&
           (c->walk.spec.where == NULL || strcasestr(c->walk.spec.where, "select") == NULL);
}

static void add_side(struct sa_change *c, struct sa_query *q, const struct dr_value *key,
                     const char *sign)
{
    const struct sa_table *t = c->table;
    dr_str_addc(&q->text, '(');
    sa_add_key_columns(q, t);
    dr_str_addf(&q->text, ") %s (", sign);
    for (uint32_t k = 0; k < t->key_count; k++) {
        dr_str_add(&q->text, k == 0 ? "" : ", ");
        sa_add_value(q, &t->column[t->key[k]], &key[k]);
    }
    dr_str_addc(&q->text, ')');
}

static void add_span(struct sa_change *c, struct sa_query *q, bool *is_first)
{
    const struct sa_table *t = c->table;
    const struct dr_value *first = c->key;
    const struct dr_value *last = &c->key[(c->batch->count - 1) * t->key_count];
    uint32_t equal = t->key_count - 1;
    sa_add_and(q, is_first);
    if (c->store->is_pg && equal > 0) {
        add_side(c, q, first, ">=");
        dr_str_add(&q->text, " AND ");
        add_side(c, q, last, "<=");
    } else {
        for (uint32_t k = 0; k < equal; k++) {
            sa_add_equal(q, &t->column[t->key[k]], &first[k]);
            dr_str_add(&q->text, " AND ");
        }
        const struct sa_column *column = &t->column[t->key[equal]];
        dr_str_addf(&q->text, "%s >= ", column->quoted);
        sa_add_value(q, column, &first[equal]);
        dr_str_addf(&q->text, " AND %s <= ", column->quoted);
        sa_add_value(q, column, &last[equal]);
    }
    sa_add_selection(q, &c->walk, is_first);
}

static enum dr_code lock_span(struct sa_change *c, bool *is_whole_out, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    c->strangers = 0;
    sa_query_init(&q, c->store);
    sa_add_look(c, &q);
    sa_add_from(&q, &c->walk);
    add_span(c, &q, &is_first);
    sa_add_order(&q, &c->walk, false);
    dr_str_addf(&q.text, " LIMIT %" PRIu64 "%s", c->batch->count + 1, sa_lock_words(c->store));
    enum dr_code rc = sa_query_rows(c->store, &q, sa_take_look, c, err);
    sa_query_fini(&q);
    *is_whole_out = rc == DR_OK && c->strangers == 0;
    for (uint64_t i = 0; *is_whole_out && i < c->batch->count; i++) {
        *is_whole_out = c->state[i] == SA_SAME;
    }
    return rc;
}

/* *is_done_out false: nothing was deleted, or too much and the transaction has to be given up. */
static enum dr_code delete_span(struct sa_change *c, bool *is_done_out, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    uint64_t affected = 0;
    sa_query_init(&q, c->store);
    dr_str_addf(&q.text, "DELETE FROM %s", c->table->from);
    add_span(c, &q, &is_first);
    sa_add_delete_order(&q, c->table, c->batch->count + 1); /* one more tells that it is too many */
    enum dr_code rc = sa_query_exec(c->store, &q, &affected, err);
    sa_query_fini(&q);
    *is_done_out = rc == DR_OK && affected == c->batch->count;
    return rc;
}

/* Does a DELETE give back what it took? PostgreSQL's does, and MariaDB's, whose lock waits can be
 * switched off for one statement from 10.3 on; MySQL's does not. */
static bool gives_back(const struct sa_store *s)
{
    return s->is_pg || (!s->info->is_mysql && s->info->version >= 100300);
}

/* Delete the span and look at what came back. Rows that others hold end the statement at once, or
 * after a moment. */
static enum dr_code delete_and_look(struct sa_change *c, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    enum dr_code rc = DR_OK;
    c->strangers = 0;
    if (c->store->is_pg) {
        rc = dr_sqldb_exec(c->store->db, "SET LOCAL lock_timeout = '50ms'", NULL, 0, NULL, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    sa_query_init(&q, c->store);
    dr_str_addf(&q.text, "%sDELETE FROM %s",
                c->store->is_pg ? "" : "SET STATEMENT innodb_lock_wait_timeout=0 FOR ",
                c->table->from);
    add_span(c, &q, &is_first);
    sa_add_delete_order(&q, c->table, c->batch->count + 1); /* one more tells that it is too many */
    dr_str_add(&q.text, " RETURNING ");
    sa_add_looked_columns(c, &q);
    rc = sa_query_rows(c->store, &q, sa_take_look, c, err);
    sa_query_fini(&q);
    return rc;
}

/* Locking and looking beforehand, which in PostgreSQL writes every row once more, is left out: what
 * is not exactly the batch is rolled back, and the rows are named one by one instead. */
static enum dr_code take_span(struct sa_change *c, bool *is_done_out, struct dr_err *err)
{
    bool is_whole = false;
    enum dr_code rc = delete_and_look(c, err);
    is_whole = rc == DR_OK && c->strangers == 0;
    for (uint64_t i = 0; is_whole && i < c->batch->count; i++) {
        is_whole = c->state[i] == SA_SAME;
    }
    if (rc == DR_OK && is_whole) {
        rc = sa_check_epoch(c, err); /* the table's lock keeps the definition as it is now */
        *is_done_out = rc == DR_OK;
        return rc;
    }
    if (rc != DR_OK && rc != DR_BUSY) {
        return rc;
    }
    dr_err_clear(err);
    dr_sqldb_rollback(c->store->db);
    for (uint64_t i = 0; i < c->batch->count; i++) {
        c->state[i] = SA_ABSENT;
    }
    return dr_sqldb_begin(c->store->db, err);
}

/* ---- rows by name ---- */

static enum dr_code delete_some(struct sa_change *c, const uint64_t *pick, uint64_t count,
                                struct dr_err *err)
{
    struct sa_query q;
    uint64_t affected = 0;
    sa_query_init(&q, c->store);
    dr_str_addf(&q.text, "DELETE FROM %s WHERE ", c->table->from);
    sa_add_keys(&q, c->table, c->key, pick, 0, count);
    sa_add_delete_order(&q, c->table, count);
    enum dr_code rc = sa_query_exec(c->store, &q, &affected, err);
    sa_query_fini(&q);
    if (rc == DR_OK && affected != count) {
        rc = dr_fail(err, DR_CONFLICT,
                     "%s: %" PRIu64 " rows were deleted where %" PRIu64
                     " were locked; something on the server changes what DELETE does, so it was "
                     "rolled back",
                     c->table->shown, affected, count);
    }
    return rc;
}

static enum dr_code delete_same(struct sa_change *c, const uint64_t *pick, uint64_t count,
                                struct dr_err *err)
{
    uint64_t each = sa_keys_each(c->table);
    uint64_t found = 0;
    uint64_t *same = dr_arena_alloc(c->arena, (count + 1) * sizeof *same);
    enum dr_code rc = same == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint64_t i = 0; rc == DR_OK && i < count; i++) {
        if (c->state[pick[i]] == SA_SAME) {
            same[found++] = pick[i];
        }
    }
    for (uint64_t from = 0; rc == DR_OK && from < found; from += each) {
        rc = delete_some(c, same + from, found - from < each ? found - from : each, err);
    }
    return rc;
}

/* ---- one transaction ---- */

static enum dr_code erase_span(struct sa_change *c, bool *is_done_out, struct dr_err *err)
{
    bool is_whole = false;
    *is_done_out = false;
    if (gives_back(c->store)) {
        return take_span(c, is_done_out, err);
    }
    enum dr_code rc = lock_span(c, &is_whole, err);
    if (rc != DR_OK || !is_whole) {
        return rc;
    }
    rc = sa_check_epoch(c, err); /* the locks keep the definition as it is now */
    rc = rc == DR_OK ? delete_span(c, is_done_out, err) : rc;
    if (rc == DR_OK && !*is_done_out) {
        dr_sqldb_rollback(c->store->db);
        rc = dr_sqldb_begin(c->store->db, err);
    }
    return rc;
}

static enum dr_code erase_picked(struct sa_change *c, const uint64_t *pick, uint64_t count,
                                 bool is_span_tried, struct dr_err *err)
{
    bool is_done = false;
    enum dr_code rc = dr_sqldb_begin(c->store->db, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_fault_pass("store.sql.erase.begun", err);
    if (rc == DR_OK && is_span_tried) {
        rc = erase_span(c, &is_done, err);
    }
    if (rc == DR_OK && !is_done) {
        rc = sa_look_at(c, pick, count, SA_LOOK_LOCK, err);
        rc = rc == DR_OK ? sa_check_epoch(c, err) : rc;
        rc = rc == DR_OK ? delete_same(c, pick, count, err) : rc;
    }
    rc = rc == DR_OK ? dr_fault_pass("store.sql.erase.deleted", err) : rc;
    if (rc != DR_OK) {
        dr_sqldb_rollback(c->store->db);
        return explain_failure(c, rc, err);
    }
    rc = dr_sqldb_commit(c->store->db, err);
    if (rc == DR_OK && dr_fault_pass("store.sql.erase.committed", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "the answer to the commit was lost");
    }
    return rc;
}

static void note_erased(struct sa_change *c, const uint64_t *pick, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        c->tally->erased += c->state[pick[i]] == SA_SAME;
    }
}

static uint64_t pick_locked(const struct sa_change *c, uint64_t *pick)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < c->batch->count; i++) {
        if (c->state[i] == SA_LOCKED && !c->is_double[i]) {
            pick[count++] = i;
        }
    }
    return count;
}

/* Items that were locked, once more. Their failure is no failure of what is committed already, but
 * for a commit whose outcome nobody saw. */
static enum dr_code erase_locked(struct sa_change *c, uint64_t *pick, struct dr_err *err)
{
    uint64_t count = pick_locked(c, pick);
    for (int i = 0; i < LOCK_TRIES_MAX && count > 0; i++) {
        struct dr_err other = {0};
        (void)dr_wait_ms((uint64_t)LOCK_WAIT_MS << i, NULL, NULL);
        enum dr_code rc = erase_picked(c, pick, count, false, &other);
        if (rc == DR_UNKNOWN) {
            return dr_fail(err, rc, "%s", other.msg);
        }
        if (rc != DR_OK) {
            for (uint64_t k = 0; k < count; k++) {
                c->state[pick[k]] = SA_LOCKED;
            }
            return DR_OK;
        }
        note_erased(c, pick, count);
        count = pick_locked(c, pick);
    }
    return DR_OK;
}

static enum dr_code erase_keys(struct sa_change *c, struct dr_err *err)
{
    uint64_t count = 0;
    uint64_t *pick = dr_arena_alloc(c->arena, (c->batch->count + 1) * sizeof *pick);
    if (pick == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint64_t i = 0; i < c->batch->count; i++) {
        if (!c->is_double[i]) {
            pick[count++] = i;
        }
    }
    enum dr_code rc = erase_picked(c, pick, count, is_span(c), err);
    if (rc != DR_OK) {
        return rc;
    }
    note_erased(c, pick, count);
    rc = erase_locked(c, pick, err);
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        c->tally->changed +=
            !c->is_double[i] && (c->state[i] == SA_CHANGED || c->state[i] == SA_LOCKED);
    }
    /* Named twice: the first one has taken it. */
    c->tally->absent = c->batch->count - c->tally->erased - c->tally->changed;
    return rc;
}

static void remember_table(struct sa_store *s, const char *name)
{
    if (s->last_table == NULL || strcmp(s->last_table, name) != 0) {
        dr_free(s->last_table);
        s->last_table = dr_strdup(name); /* without it only its autovacuum is not watched */
    }
}

enum dr_code sa_erase(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct sa_change c;
    enum dr_code rc = sa_change_init(&c, impl, r, batch, tally, false, err);
    if (rc != DR_OK) {
        rc = c.arena == NULL ? rc : explain_failure(&c, rc, err);
    }
    rc = rc == DR_OK ? refuse_code(&c, err) : rc;
    if (rc == DR_OK) {
        remember_table(impl, r->collection);
        rc = c.table->key_count == 0 ? sa_keyless_erase(&c, err) : erase_keys(&c, err);
    }
    if (rc != DR_OK) {
        *tally = (struct dr_tally){0};
        sa_table_forget(impl, r->collection);
    }
    sa_change_fini(&c);
    return rc;
}
