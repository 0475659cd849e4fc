/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what erase, probe and restore share: the items of a batch, found again by their keys, and
 * the state of each: gone, the same, changed, or locked by somebody else. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/sql/sql_private.h"

enum { CHANGE_BLOCK_BYTES = 64 * 1024 };

/* ---- items in order of their keys ---- */

static int compare_keys(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t shared = a_len < b_len ? a_len : b_len;
    int c = shared == 0 ? 0 : memcmp(a, b, shared);
    return c != 0 ? c : a_len < b_len ? -1 : a_len > b_len;
}

static int order_items(const void *a, const void *b, void *arg)
{
    const struct sa_change *c = arg;
    const struct dr_batch *batch = c->batch;
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    int order = compare_keys(batch->item[x].key, batch->item[x].key_len, batch->item[y].key,
                             batch->item[y].key_len);
    return order != 0 ? order : x < y ? -1 : x > y;
}

static void sort_items(struct sa_change *c)
{
    const struct dr_batch *b = c->batch;
    for (uint64_t i = 0; i < b->count; i++) {
        c->sorted[i] = i;
        c->state[i] = SA_ABSENT;
        c->is_double[i] = false;
    }
    qsort_r(c->sorted, b->count, sizeof *c->sorted, order_items, c);
    for (uint64_t i = 1; i < b->count; i++) {
        const struct dr_item *x = &b->item[c->sorted[i - 1]];
        const struct dr_item *y = &b->item[c->sorted[i]];
        c->is_double[c->sorted[i]] = compare_keys(x->key, x->key_len, y->key, y->key_len) == 0;
    }
}

/* The first item of that key. */
static bool find_item(const struct sa_change *c, const void *key, size_t len, uint64_t *at_out)
{
    uint64_t low = 0;
    uint64_t high = c->batch->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const struct dr_item *item = &c->batch->item[c->sorted[middle]];
        if (compare_keys(item->key, item->key_len, key, len) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == c->batch->count) {
        return false;
    }
    const struct dr_item *item = &c->batch->item[c->sorted[low]];
    *at_out = c->sorted[low];
    return compare_keys(item->key, item->key_len, key, len) == 0;
}

void sa_settle_doubles(struct sa_change *c)
{
    for (uint64_t i = 1; i < c->batch->count; i++) {
        if (c->is_double[c->sorted[i]]) {
            c->state[c->sorted[i]] = c->state[c->sorted[i - 1]];
        }
    }
}

/* ---- beginning and end ---- */

static enum dr_code decode_keys(struct sa_change *c, struct dr_err *err)
{
    uint64_t count = c->batch->count;
    const struct sa_table *t = c->table;
    c->key = dr_arena_alloc(c->arena, (count * t->key_count + 1) * sizeof *c->key);
    c->sorted = dr_arena_alloc(c->arena, (count + 1) * sizeof *c->sorted);
    c->state = dr_arena_alloc(c->arena, (count + 1) * sizeof *c->state);
    c->is_double = dr_arena_alloc(c->arena, count + 1);
    c->room = dr_arena_alloc(c->arena, sa_row_room(t) * sizeof *c->room);
    if (c->key == NULL || c->sorted == NULL || c->state == NULL || c->is_double == NULL ||
        c->room == NULL) {
        return dr_fail_nomem(err);
    }
    c->has_values = true;
    for (uint64_t i = 0; i < count; i++) {
        const struct dr_item *item = &c->batch->item[i];
        c->has_values = c->has_values && item->value != NULL;
        enum dr_code rc =
            t->key_count == 0 ? DR_OK : sa_key_decode(t, item, &c->key[i * t->key_count], err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    sort_items(c);
    return DR_OK;
}

/* Rows are put back long after they were read: with the table as it is at this moment. */
static enum dr_code find_table(struct sa_change *c, struct dr_err *err)
{
    uint64_t epoch = 0;
    const char *name = c->range->collection;
    enum dr_code rc = sa_epoch_now(c->store, name, &epoch, err);
    rc = rc == DR_OK ? sa_table_get(c->store, name, &c->walk.table, err) : rc;
    if (rc == DR_OK && c->walk.table->epoch != epoch) {
        sa_table_forget(c->store, name);
        rc = sa_table_get(c->store, name, &c->walk.table, err);
    }
    return rc == DR_OK ? sa_table_usable(c->walk.table, true, err) : rc;
}

/* A walk by index has no bounds of its own, and its index may be gone by now. */
static enum dr_code plan_change(struct sa_change *c, struct dr_err *err)
{
    struct dr_range r = *c->range;
    r.access = r.access == DR_BY_INDEX ? DR_BY_SCAN : r.access;
    enum dr_code rc = sa_walk_plan(c->store, &r, c->arena, &c->walk, err);
    if (rc == DR_OK && c->walk.table->epoch != r.epoch) {
        /* Either the plan or our facts are of yesterday. */
        sa_table_forget(c->store, r.collection);
        rc = sa_walk_plan(c->store, &r, c->arena, &c->walk, err);
    }
    return rc;
}

enum dr_code sa_change_init(struct sa_change *c, void *impl, const struct dr_range *r,
                            const struct dr_batch *batch, struct dr_tally *tally, bool is_restore,
                            struct dr_err *err)
{
    *c = (struct sa_change){.store = impl, .range = r, .batch = batch, .tally = tally};
    *tally = (struct dr_tally){0};
    dr_str_init(&c->text);
    dr_str_init(&c->key_text);
    c->arena = dr_arena_create(CHANGE_BLOCK_BYTES);
    enum dr_code rc = c->arena == NULL ? dr_fail_nomem(err) : sa_find_node(r->node, err);
    if (rc == DR_OK) {
        rc = is_restore ? find_table(c, err) : plan_change(c, err);
    }
    c->table = c->walk.table;
    return rc == DR_OK ? decode_keys(c, err) : rc;
}

void sa_change_fini(struct sa_change *c)
{
    dr_str_fini(&c->text);
    dr_str_fini(&c->key_text);
    dr_arena_destroy(c->arena);
}

/* ---- looking ---- */

/* Rows that others hold are left out, not waited for: they are met again in the next pass. */
const char *sa_lock_words(const struct sa_store *s)
{
    bool can_skip = s->is_pg            ? s->info->version >= 90500
                    : s->info->is_mysql ? s->info->version >= 80001
                                        : s->info->version >= 100600;
    return can_skip ? " FOR UPDATE SKIP LOCKED" : " FOR UPDATE";
}

uint64_t sa_keys_each(const struct sa_table *t)
{
    uint64_t fit = SA_PARAMS_MAX / (t->key_count == 0 ? 1 : t->key_count);
    return fit < SA_KEYS_MAX ? fit : SA_KEYS_MAX;
}

void sa_add_looked_columns(struct sa_change *c, struct sa_query *q)
{
    sa_add_key_columns(q, c->table);
    if (c->has_values) {
        dr_str_add(&q->text, ", ");
        sa_add_stored(q, c->table);
    }
}

void sa_add_look(struct sa_change *c, struct sa_query *q)
{
    dr_str_add(&q->text, "SELECT ");
    sa_add_looked_columns(c, q);
}

enum dr_code sa_take_look(void *arg, const struct dr_value *value, uint32_t count,
                          struct dr_err *err)
{
    struct sa_change *c = arg;
    const struct sa_table *t = c->table;
    uint64_t at = 0;
    assert(count == t->key_count + (c->has_values ? t->stored_count : 0));
    dr_str_clear(&c->key_text);
    dr_values_encode(value, t->key_count, &c->key_text);
    if (c->key_text.is_short) {
        return dr_fail_nomem(err);
    }
    if (!find_item(c, c->key_text.data, c->key_text.len, &at)) {
        c->strangers++;
        return DR_OK;
    }
    const struct dr_item *item = &c->batch->item[at];
    c->state[at] = SA_SAME;
    if (c->has_values) {
        dr_str_clear(&c->text);
        sa_row_encode(t, value + t->key_count, c->room, &c->text);
        if (c->text.is_short) {
            return dr_fail_nomem(err);
        }
        bool is_same = c->text.len == item->value_len &&
                       memcmp(c->text.data, item->value, item->value_len) == 0;
        c->state[at] = is_same ? SA_SAME : SA_CHANGED;
    }
    return DR_OK;
}

struct mark {
    struct sa_change *change;
    enum sa_state state;
};

static enum dr_code take_mark(void *arg, const struct dr_value *value, uint32_t count,
                              struct dr_err *err)
{
    struct mark *m = arg;
    struct sa_change *c = m->change;
    uint64_t at = 0;
    (void)count;
    dr_str_clear(&c->key_text);
    dr_values_encode(value, c->table->key_count, &c->key_text);
    if (c->key_text.is_short) {
        return dr_fail_nomem(err);
    }
    if (!find_item(c, c->key_text.data, c->key_text.len, &at)) {
        c->strangers++;
    } else if (c->state[at] == SA_ABSENT) {
        c->state[at] = m->state;
    }
    return DR_OK;
}

/* Those of `pick` that are absent so far, into `left`. */
static uint64_t pick_absent(const struct sa_change *c, const uint64_t *pick, uint64_t count,
                            uint64_t *left)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (c->state[pick[i]] == SA_ABSENT) {
            left[found++] = pick[i];
        }
    }
    return found;
}

/* Give items that were not met yet the state `mark` when a row of that key (and selected, if asked)
 * is there. */
static enum dr_code mark_rest(struct sa_change *c, const uint64_t *pick, uint64_t count,
                              bool is_selected, enum sa_state state, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    struct mark m = {.change = c, .state = state};
    sa_query_init(&q, c->store);
    dr_str_add(&q.text, "SELECT ");
    sa_add_key_columns(&q, c->table);
    sa_add_from_key(&q, c->table);
    sa_add_and(&q, &is_first);
    sa_add_keys(&q, c->table, c->key, pick, 0, count);
    if (is_selected) {
        sa_add_selection(&q, &c->walk, &is_first);
    }
    enum dr_code rc = sa_query_rows(c->store, &q, take_mark, &m, err);
    sa_query_fini(&q);
    return rc;
}

/* A key that differs from ours only for us (its case, its trailing zeros) was changed. */
static void note_strangers(struct sa_change *c, const uint64_t *pick, uint64_t count)
{
    for (uint64_t i = 0; i < count && c->strangers > 0; i++) {
        if (c->state[pick[i]] == SA_ABSENT) {
            c->state[pick[i]] = SA_CHANGED;
            c->strangers--;
        }
    }
}

static enum dr_code look_at_some(struct sa_change *c, const uint64_t *pick, uint64_t count,
                                 enum sa_look look, uint64_t *left, struct dr_err *err)
{
    struct sa_query q;
    bool is_first = true;
    bool is_locking = look == SA_LOOK_LOCK;
    c->strangers = 0;
    sa_query_init(&q, c->store);
    sa_add_look(c, &q);
    sa_add_from_key(&q, c->table);
    sa_add_and(&q, &is_first);
    sa_add_keys(&q, c->table, c->key, pick, 0, count);
    if (!c->has_values) {
        sa_add_selection(&q, &c->walk, &is_first);
    }
    dr_str_add(&q.text, " ORDER BY ");
    sa_add_key_columns(&q, c->table);
    dr_str_add(&q.text, is_locking ? sa_lock_words(c->store) : "");
    enum dr_code rc = sa_query_rows(c->store, &q, sa_take_look, c, err);
    sa_query_fini(&q);
    uint64_t rest = pick_absent(c, pick, count, left);
    if (rc == DR_OK && rest > 0 && is_locking) {
        c->strangers = 0;
        rc = mark_rest(c, left, rest, !c->has_values, SA_LOCKED, err);
        rest = pick_absent(c, pick, count, left);
    }
    if (rc == DR_OK && rest > 0 && !c->has_values) {
        c->strangers = 0;
        rc = mark_rest(c, left, rest, false, SA_CHANGED, err);
    }
    if (rc == DR_OK) {
        note_strangers(c, pick, count);
    }
    return rc;
}

enum dr_code sa_look_at(struct sa_change *c, const uint64_t *pick, uint64_t count,
                        enum sa_look look, struct dr_err *err)
{
    uint64_t each = sa_keys_each(c->table);
    uint64_t *left = dr_arena_alloc(c->arena, (each + 1) * sizeof *left);
    enum dr_code rc = left == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint64_t i = 0; i < count; i++) {
        c->state[pick[i]] = SA_ABSENT;
    }
    for (uint64_t from = 0; rc == DR_OK && from < count; from += each) {
        uint64_t some = count - from < each ? count - from : each;
        rc = look_at_some(c, pick + from, some, look, left, err);
    }
    return rc;
}

/* ---- probe ---- */

static enum dr_code probe_keys(struct sa_change *c, struct dr_err *err)
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
    enum dr_code rc = sa_look_at(c, pick, count, SA_LOOK, err);
    sa_settle_doubles(c);
    for (uint64_t i = 0; rc == DR_OK && i < c->batch->count; i++) {
        c->tally->same += c->state[i] == SA_SAME;
        c->tally->absent += c->state[i] == SA_ABSENT;
        c->tally->changed += c->state[i] == SA_CHANGED || c->state[i] == SA_LOCKED;
    }
    return rc;
}

enum dr_code sa_probe(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct sa_change c;
    enum dr_code rc = sa_change_init(&c, impl, r, batch, tally, false, err);
    if (rc == DR_OK) {
        rc = c.table->key_count == 0 ? sa_keyless_probe(&c, err) : probe_keys(&c, err);
    }
    if (rc != DR_OK) {
        *tally = (struct dr_tally){0};
        sa_table_forget(impl, r->collection);
    }
    sa_change_fini(&c);
    return rc;
}
