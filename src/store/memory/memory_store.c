/* SPDX-License-Identifier: Apache-2.0 */
/* The memory adapter: walks, erases, restores, surveys. The data model is in memory_data.c, the
 * commands in memory_command.c. Handles hold a name only, so that a store may vanish under them. */
#include "store/memory/memory_store.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

enum { HEALTH_VALID_MS = 1000, HEALTH_WAIT_MS = 200, CLOCK_EVERY = 64 };

static const char scheme_text[] = "memory";

struct memory_handle {
    char *name;
};

static enum dr_code open_memory(const char *url, void **impl_out, struct dr_err *err)
{
    *impl_out = NULL;
    const char *name = url + sizeof scheme_text;
    if (*name == '\0') {
        return dr_fail(err, DR_INPUT, "%s: a memory store needs a name, as in memory:test", url);
    }
    struct dr_memory_store *m = NULL;
    enum dr_code rc = dr_memory_lock(name, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_memory_unlock();
    struct memory_handle *h = dr_calloc(1, sizeof *h);
    char *copy = dr_strdup(name);
    if (h == NULL || copy == NULL) {
        dr_free(h);
        dr_free(copy);
        return dr_fail_nomem(err);
    }
    h->name = copy;
    *impl_out = h;
    return DR_OK;
}

static void close_memory(void *impl)
{
    struct memory_handle *h = impl;
    if (h != NULL) {
        dr_free(h->name);
        dr_free(h);
    }
}

static enum dr_code lock_handle(void *impl, struct dr_memory_store **out, struct dr_err *err)
{
    const struct memory_handle *h = impl;
    return dr_memory_lock(h->name, out, err);
}

static enum dr_code survey_memory(void *impl, const char *database, const struct dr_filter *filter,
                                  struct dr_survey *survey, struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_survey(m, database, filter, survey, err);
    dr_memory_unlock();
    return rc;
}

static enum dr_code epoch_memory(void *impl, const char *collection, uint64_t *epoch_out,
                                 struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_need_collection(m, collection, &c, err);
    if (rc == DR_OK) {
        *epoch_out = c->epoch;
    }
    dr_memory_unlock();
    return rc;
}

static enum dr_code health_memory(void *impl, const char *node, struct dr_health *out,
                                  struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_node *n = NULL;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_need_node(m, node, &n, err);
    if (rc == DR_OK) {
        out->is_ok = n->is_ok;
        out->valid_ms = HEALTH_VALID_MS;
        out->wait_hint_ms = n->is_ok ? 0 : HEALTH_WAIT_MS;
        dr_copy_text(out->reason, sizeof out->reason, n->is_ok ? "" : n->reason);
    }
    dr_memory_unlock();
    return rc;
}

static enum dr_code count_memory(void *impl, const struct dr_range *range, uint64_t *rows_out,
                                 struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_walk w;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_walk_prepare(m, range, &w, err);
    if (rc == DR_OK) {
        rc = dr_memory_walk_count(&w, rows_out, err);
    }
    dr_memory_unlock();
    return rc;
}

/* ---- scan, erase, probe, restore, command ---- */

static enum dr_code encode_key(int64_t id, struct dr_str *out, struct dr_err *err)
{
    struct dr_value value = {.type = DR_V_INT, .i = id};
    dr_str_clear(out);
    dr_values_encode(&value, 1, out);
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code decode_key(const struct dr_item *item, int64_t *id_out, struct dr_err *err)
{
    struct dr_value value;
    uint32_t count = 0;
    enum dr_code rc = dr_values_decode(item->key, item->key_len, &value, 1, &count, err);
    if (rc == DR_OK && (count != 1 || value.type != DR_V_INT)) {
        rc = dr_fail(err, DR_CORRUPT, "an item's key is none of a memory store");
    }
    *id_out = rc == DR_OK ? value.i : 0;
    return rc;
}

/* Copy rows into the batch until a limit is met. *is_all_out: none was left over. */
static enum dr_code fill_batch(struct dr_memory_row *const *row, size_t count,
                               const struct dr_budget *budget, struct dr_batch *batch,
                               bool *is_all_out, struct dr_err *err)
{
    dr_mono_ms deadline = dr_mono_now();
    deadline += (dr_mono_ms)(budget->ms_max < INT32_MAX ? budget->ms_max : INT32_MAX);
    enum dr_code rc = DR_OK;
    struct dr_str key;
    dr_str_init(&key);
    *is_all_out = false;
    for (size_t i = 0; i < count; i++) {
        rc = encode_key(row[i]->id, &key, err);
        if (rc != DR_OK) {
            goto out;
        }
        size_t value_len = budget->with_values ? row[i]->byte_count : 0;
        if (i > 0 && batch->bytes + key.len + value_len > budget->bytes_max) {
            goto out;
        }
        if (i > 0 && i % CLOCK_EVERY == 0 && dr_mono_now() > deadline) {
            goto out;
        }
        rc = dr_batch_add(batch, key.data, key.len, budget->with_values ? row[i]->bytes : NULL,
                          value_len, err);
        if (rc != DR_OK) {
            goto out;
        }
    }
    *is_all_out = true;
out:
    dr_str_fini(&key);
    return rc;
}

static enum dr_code scan_memory(void *impl, const struct dr_range *range,
                                const struct dr_budget *budget, const struct dr_cursor *from,
                                struct dr_batch *batch, struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_walk w;
    struct dr_memory_row **row = NULL;
    size_t count = 0;
    bool is_more = false;
    bool is_all = true;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_walk_prepare(m, range, &w, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_memory_walk_next(&w, from, budget->items_max, &row, &count, &is_more, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = fill_batch(row, count, budget, batch, &is_all, err);
    if (rc != DR_OK) {
        goto out;
    }
    batch->is_end = is_all && !is_more;
    batch->read_mark = m->version;
    if (batch->count > 0) {
        rc = dr_memory_walk_after(&w, row[batch->count - 1], &batch->after, err);
    } else if (from != NULL) {
        batch->after = *from;
    }
out:
    dr_free(row);
    dr_memory_unlock();
    return rc;
}

enum item_state { ITEM_SAME, ITEM_CHANGED, ITEM_ABSENT };

/* Compare an item with what is there now; *row_out is the row unless it is absent. */
static enum dr_code look_at_item(const struct dr_memory_walk *w, const struct dr_item *item,
                                 enum item_state *state_out, struct dr_memory_row **row_out,
                                 struct dr_err *err)
{
    int64_t id = 0;
    size_t at = 0;
    bool is_same = false;
    *row_out = NULL;
    *state_out = ITEM_ABSENT;
    enum dr_code rc = decode_key(item, &id, err);
    if (rc != DR_OK || w->part == NULL || !dr_memory_find_row(w->part, id, &at)) {
        return rc;
    }
    struct dr_memory_row *row = w->part->row[at];
    if (item->value != NULL) {
        is_same = row->byte_count == item->value_len &&
                  memcmp(row->bytes, item->value, item->value_len) == 0;
    } else {
        rc = dr_memory_walk_select(w, row, &is_same, err);
    }
    *row_out = row;
    *state_out = is_same ? ITEM_SAME : ITEM_CHANGED;
    return rc;
}

static void unmark_rows(const struct dr_memory_part *part)
{
    for (size_t i = 0; part != NULL && i < part->count; i++) {
        part->row[i]->is_erased = false;
    }
}

/* Mark what may go, all items first: a mistake in the last one must leave the first in place. */
static enum dr_code mark_items(const struct dr_memory_walk *w, const struct dr_batch *batch,
                               struct dr_tally *tally, struct dr_err *err)
{
    for (uint64_t i = 0; i < batch->count; i++) {
        enum item_state state = ITEM_ABSENT;
        struct dr_memory_row *row = NULL;
        enum dr_code rc = look_at_item(w, &batch->item[i], &state, &row, err);
        if (rc != DR_OK) {
            unmark_rows(w->part);
            return rc;
        }
        if (row == NULL || row->is_erased) {
            tally->absent++;
        } else if (state == ITEM_CHANGED) {
            tally->changed++;
        } else {
            row->is_erased = true;
            tally->erased++;
        }
    }
    return DR_OK;
}

static enum dr_code erase_memory(void *impl, const struct dr_range *range,
                                 const struct dr_batch *batch, struct dr_tally *tally,
                                 struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    struct dr_memory_walk w;
    struct dr_tally done = {0};
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_need_collection(m, range->collection, &c, err);
    if (rc == DR_OK && c->epoch != range->epoch) {
        rc = dr_fail(err, DR_STALE, "%s: the layout is at epoch %llu, planned for %llu; plan again",
                     c->name, (unsigned long long)c->epoch, (unsigned long long)range->epoch);
    }
    if (rc == DR_OK) {
        rc = dr_memory_walk_prepare(m, range, &w, err);
    }
    if (rc == DR_OK) {
        rc = mark_items(&w, batch, &done, err);
    }
    if (rc == DR_OK) {
        if (w.part != NULL && done.erased > 0) {
            dr_memory_sweep(w.part);
            m->version++;
        }
        *tally = done;
    }
    dr_memory_unlock();
    return rc;
}

static enum dr_code probe_memory(void *impl, const struct dr_range *range,
                                 const struct dr_batch *batch, struct dr_tally *tally,
                                 struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_walk w;
    struct dr_tally seen = {0};
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_walk_prepare(m, range, &w, err);
    for (uint64_t i = 0; rc == DR_OK && i < batch->count; i++) {
        enum item_state state = ITEM_ABSENT;
        struct dr_memory_row *row = NULL;
        rc = look_at_item(&w, &batch->item[i], &state, &row, err);
        switch (state) {
        case ITEM_SAME:
            seen.same++;
            break;
        case ITEM_CHANGED:
            seen.changed++;
            break;
        case ITEM_ABSENT:
            seen.absent++;
            break;
        }
    }
    if (rc == DR_OK) {
        *tally = seen;
    }
    dr_memory_unlock();
    return rc;
}

/* Put one item back unless something is there. */
static enum dr_code restore_item(const struct dr_memory_collection *c, struct dr_memory_part *part,
                                 const struct dr_item *item, struct dr_tally *tally,
                                 struct dr_err *err)
{
    size_t at = 0;
    int64_t id = 0;
    struct dr_memory_row *row = NULL;
    if (item->value == NULL) {
        return dr_fail(err, DR_INPUT, "%s: an item without its values cannot be put back", c->name);
    }
    enum dr_code rc = decode_key(item, &id, err);
    if (rc == DR_OK) {
        rc = dr_memory_row_create(item->value, item->value_len, &row, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (row->id != id) {
        rc = dr_fail(err, DR_CORRUPT,
                     "%s: an item's key says row %lld, its value row %lld; "
                     "verify the archive",
                     c->name, (long long)id, (long long)row->id);
    } else if (dr_memory_find_row(part, id, &at)) {
        bool is_same = part->row[at]->byte_count == row->byte_count &&
                       memcmp(part->row[at]->bytes, row->bytes, row->byte_count) == 0;
        tally->same += is_same ? 1 : 0;
        tally->conflicts += is_same ? 0 : 1;
    } else {
        row->stored_hash = dr_memory_hash_of(c, row);
        rc = dr_memory_insert_row(part, at, row, err);
        if (rc == DR_OK) {
            tally->restored++;
            return DR_OK; /* the part owns the row now */
        }
    }
    dr_memory_row_destroy(row);
    return rc;
}

/* Not all or nothing: what a failure leaves behind is "same" for the repetition. */
static enum dr_code restore_memory(void *impl, const struct dr_range *range,
                                   const struct dr_batch *batch, struct dr_tally *tally,
                                   struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_node *node = NULL;
    struct dr_memory_collection *c = NULL;
    struct dr_memory_part *part = NULL;
    struct dr_tally done = {0};
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_need_node(m, range->node, &node, err);
    if (rc == DR_OK) {
        rc = dr_memory_need_collection(m, range->collection, &c, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    part = dr_memory_find_part(c, range->node);
    if (part == NULL) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s is not on node %s; create it first", c->name,
                     range->node);
        goto out;
    }
    for (uint64_t i = 0; rc == DR_OK && i < batch->count; i++) {
        rc = restore_item(c, part, &batch->item[i], &done, err);
    }
    m->version += done.restored > 0 ? 1 : 0;
    if (rc == DR_OK) {
        *tally = done;
    }
out:
    dr_memory_unlock();
    return rc;
}

static enum dr_code command_memory(void *impl, const char *node, const char *text,
                                   struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_node *n = NULL;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_need_node(m, node, &n, err);
    if (rc == DR_OK) {
        rc = dr_memory_run_commands(m, n->name, text, err);
    }
    dr_memory_unlock();
    return rc;
}

static enum dr_code publish_memory(void *impl, const char *spec, const char *state,
                                   struct dr_err *err)
{
    struct dr_memory_store *m = NULL;
    enum dr_code rc = lock_handle(impl, &m, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_memory_keep_record(m, spec, state, err);
    dr_memory_unlock();
    return rc;
}

const struct dr_store_ops *dr_store_memory_ops(void)
{
    static const struct dr_store_ops ops = {
        .scheme = scheme_text,
        .can = DR_CAN_SHARD_RANGE | DR_CAN_SHARD_HASHED | DR_CAN_INDEX | DR_CAN_SCAN |
               DR_CAN_BROADCAST | DR_CAN_TEMP_INDEX | DR_CAN_COMMAND | DR_CAN_RESTORE |
               DR_CAN_COUNT,
        .open = open_memory,
        .close = close_memory,
        .survey = survey_memory,
        .epoch = epoch_memory,
        .health = health_memory,
        .count = count_memory,
        .scan = scan_memory,
        .erase = erase_memory,
        .probe = probe_memory,
        .restore = restore_memory,
        .command = command_memory,
        .publish = publish_memory,
    };
    return &ops;
}
