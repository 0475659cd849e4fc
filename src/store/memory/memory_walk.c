/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the order of walks: which rows a range selects and the next few of them behind a cursor.
 * Changes nothing. Under the registry's mutex. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

/* Place of a row in a walk: the ordering values, then the id. */
struct place {
    struct dr_memory_row *row;
    struct dr_bound at; /* borrowed from the row */
    int64_t id;
};

enum dr_code dr_memory_need_collection(const struct dr_memory_store *m, const char *collection,
                                       struct dr_memory_collection **out, struct dr_err *err)
{
    *out = dr_memory_find_collection(m, collection);
    if (*out == NULL || !dr_memory_is_there(*out)) {
        return dr_fail(err, DR_NOT_FOUND, "memory:%s: no collection %s; look at the layout again",
                       m->name, collection);
    }
    return DR_OK;
}

enum dr_code dr_memory_need_node(const struct dr_memory_store *m, const char *node,
                                 struct dr_memory_node **out, struct dr_err *err)
{
    *out = dr_memory_find_node(m, node);
    return *out != NULL ? DR_OK
                        : dr_fail(err, DR_NOT_FOUND, "memory:%s: no node %s; look at the layout",
                                  m->name, node);
}

/* The chunk's key must still be the collection's: bounds on another key select other rows. */
static enum dr_code check_shard_key(struct dr_memory_walk *w, struct dr_err *err)
{
    const struct dr_range *r = w->range;
    const struct dr_memory_collection *c = w->collection;
    enum dr_sharding planned =
        r->access == DR_BY_SHARD_HASHED ? DR_SHARDED_HASHED : DR_SHARDED_RANGE;
    bool is_same = c->sharding == planned && c->key_count == r->key_count;
    for (uint32_t i = 0; is_same && i < r->key_count; i++) {
        is_same = strcmp(c->key[i], r->key[i]) == 0;
        w->field[i] = c->key[i];
    }
    if (!is_same) {
        return dr_fail(err, DR_STALE, "%s is not sharded by this key any more; plan again",
                       c->name);
    }
    w->is_hashed = planned == DR_SHARDED_HASHED;
    w->field_count = w->is_hashed ? 1 : r->key_count;
    return DR_OK;
}

static enum dr_code check_index(const struct dr_memory_store *m, struct dr_memory_walk *w,
                                struct dr_err *err)
{
    const struct dr_memory_index *index = dr_memory_find_index(m, w->range->index);
    if (index == NULL || index->collection == NULL ||
        strcmp(index->collection, w->collection->name) != 0) {
        return dr_fail(err, DR_NOT_FOUND, "%s has no index %s; plan again", w->collection->name,
                       w->range->index);
    }
    if (index->is_partial || index->field_count == 0) {
        return dr_fail(err, DR_INPUT, "index %s does not cover every row of %s; walk another way",
                       index->name, w->collection->name);
    }
    w->field_count = index->field_count;
    memcpy(w->field, index->field, sizeof w->field);
    return DR_OK;
}

enum dr_code dr_memory_walk_prepare(const struct dr_memory_store *m, const struct dr_range *range,
                                    struct dr_memory_walk *w, struct dr_err *err)
{
    *w = (struct dr_memory_walk){.range = range};
    struct dr_memory_node *node = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = dr_memory_need_node(m, range->node, &node, err);
    if (rc == DR_OK) {
        rc = dr_memory_need_collection(m, range->collection, &c, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    w->collection = c;
    w->part = dr_memory_find_part(c, range->node);
    switch (range->access) {
    case DR_BY_SHARD_RANGE:
    case DR_BY_SHARD_HASHED:
        return check_shard_key(w, err);
    case DR_BY_INDEX:
        return check_index(m, w, err);
    case DR_BY_SCAN:
        return DR_OK;
    case DR_BY_KEYS:
        break;
    }
    return dr_fail(err, DR_INPUT, "%s: unknown kind of walk", range->collection);
}

static void place_row(const struct dr_memory_walk *w, const struct dr_memory_row *r,
                      struct place *out)
{
    out->id = r->id;
    if (w->is_hashed) {
        out->at.parts = 1;
        out->at.part[0] = (struct dr_value){.type = DR_V_INT, .i = r->stored_hash};
    } else {
        dr_memory_key_of(r, w->field, w->field_count, &out->at);
    }
}

static int compare_places(const struct place *a, const struct place *b)
{
    int order = dr_bound_compare(&a->at, &b->at);
    return order != 0 ? order : (a->id > b->id) - (a->id < b->id);
}

const struct dr_value *dr_memory_find_in_row(void *arg, const char *field)
{
    return dr_memory_field_of(arg, field);
}

/* Does the row lie in the range and does the filter want it? In a hashed chunk a row that only one
 * of its two hashes puts here means a damaged store: whoever acts on it may lose a row. */
enum dr_code dr_memory_walk_select(const struct dr_memory_walk *w, struct dr_memory_row *r,
                                   bool *is_out, struct dr_err *err)
{
    const struct dr_range *range = w->range;
    struct dr_bound at;
    *is_out = true;
    if (w->is_hashed) {
        struct dr_bound real = {.parts = 1};
        at = (struct dr_bound){.parts = 1};
        at.part[0] = (struct dr_value){.type = DR_V_INT, .i = r->stored_hash};
        real.part[0] =
            (struct dr_value){.type = DR_V_INT, .i = dr_memory_hash_of(w->collection, r)};
        *is_out = dr_memory_is_between(&at, &range->from, &range->upto);
        if (r->stored_hash != real.part[0].i &&
            (*is_out || dr_memory_is_between(&real, &range->from, &range->upto))) {
            return dr_fail(err, DR_CORRUPT,
                           "%s on %s: row %lld has the hash %lld stored, but its key gives %lld; "
                           "repair the store first",
                           w->collection->name, range->node, (long long)r->id,
                           (long long)r->stored_hash, (long long)real.part[0].i);
        }
    } else if (range->access == DR_BY_SHARD_RANGE) {
        dr_memory_key_of(r, w->field, w->field_count, &at);
        *is_out = dr_memory_is_between(&at, &range->from, &range->upto);
    }
    *is_out = *is_out &&
              (range->filter == NULL || dr_filter_match(range->filter, dr_memory_find_in_row, r));
    return DR_OK;
}

enum dr_code dr_memory_walk_count(const struct dr_memory_walk *w, uint64_t *rows_out,
                                  struct dr_err *err)
{
    *rows_out = 0;
    for (size_t i = 0; w->part != NULL && i < w->part->count; i++) {
        bool is_selected = false;
        enum dr_code rc = dr_memory_walk_select(w, w->part->row[i], &is_selected, err);
        if (rc != DR_OK) {
            return rc;
        }
        *rows_out += is_selected ? 1 : 0;
    }
    return DR_OK;
}

/* Where a walk goes on. The id alone would not do: the row it names may be gone by then. */
static enum dr_code read_cursor(const struct dr_memory_walk *w, const struct dr_cursor *from,
                                struct place *out, struct dr_err *err)
{
    struct dr_value value[DR_KEY_PARTS_MAX + 1];
    uint32_t count = 0;
    enum dr_code rc =
        dr_values_decode(from->data, from->len, value, DR_KEY_PARTS_MAX + 1, &count, err);
    if (rc != DR_OK) {
        dr_wrap(err, "the position in %s", w->collection->name);
        return rc;
    }
    if (count != w->field_count + 1 || value[count - 1].type != DR_V_INT) {
        return dr_fail(err, DR_INPUT, "the position in %s belongs to another walk; start again",
                       w->collection->name);
    }
    out->row = NULL;
    out->id = value[count - 1].i;
    out->at.parts = w->field_count;
    memcpy(out->at.part, value, w->field_count * sizeof value[0]);
    return DR_OK;
}

enum dr_code dr_memory_walk_after(const struct dr_memory_walk *w, const struct dr_memory_row *row,
                                  struct dr_cursor *out, struct dr_err *err)
{
    struct place place;
    struct dr_value value[DR_KEY_PARTS_MAX + 1];
    enum dr_code rc = DR_OK;
    struct dr_str bytes;
    place_row(w, row, &place);
    memcpy(value, place.at.part, place.at.parts * sizeof value[0]);
    value[place.at.parts] = (struct dr_value){.type = DR_V_INT, .i = row->id};
    dr_str_init(&bytes);
    dr_values_encode(value, place.at.parts + 1, &bytes);
    if (bytes.is_short) {
        rc = dr_fail_nomem(err);
    } else if (bytes.len > sizeof out->data) {
        rc = dr_fail(err, DR_UNSUPPORTED,
                     "%s: the key of row %lld is longer than a position may be (%d bytes)",
                     w->collection->name, (long long)row->id, DR_CURSOR_BYTES_MAX);
    } else {
        memcpy(out->data, bytes.data, bytes.len);
        out->len = (uint32_t)bytes.len;
    }
    dr_str_fini(&bytes);
    return rc;
}

/* A heap whose top is the last place kept: what comes later than the top is not wanted. */
struct place_heap {
    struct place *place;
    size_t count;
    size_t room;
    uint64_t count_max;
};

static void sift_up(struct place *heap, size_t at)
{
    while (at > 0 && compare_places(&heap[at], &heap[(at - 1) / 2]) > 0) {
        struct place swapped = heap[at];
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = swapped;
        at = (at - 1) / 2;
    }
}

static void sift_down(struct place *heap, size_t count)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && compare_places(&heap[child + 1], &heap[child]) > 0) {
            child++;
        }
        if (child >= count || compare_places(&heap[child], &heap[at]) <= 0) {
            return;
        }
        struct place swapped = heap[at];
        heap[at] = heap[child];
        heap[child] = swapped;
        at = child;
    }
}

static enum dr_code keep_place(struct place_heap *h, const struct place *p, struct dr_err *err)
{
    if (h->count == h->count_max) {
        if (compare_places(p, &h->place[0]) < 0) {
            h->place[0] = *p;
            sift_down(h->place, h->count);
        }
        return DR_OK;
    }
    struct place *place = dr_memory_grow(h->place, h->count, &h->room, sizeof *place);
    if (place == NULL) {
        return dr_fail_nomem(err);
    }
    h->place = place;
    place[h->count] = *p;
    sift_up(place, h->count++);
    return DR_OK;
}

/* Take the heap apart from its top: the rows come out last first. */
static enum dr_code list_rows(struct place_heap *h, struct dr_memory_row ***rows_out,
                              size_t *count_out, struct dr_err *err)
{
    struct dr_memory_row **rows = dr_malloc(h->count * sizeof(struct dr_memory_row *));
    if (rows == NULL) {
        return dr_fail_nomem(err);
    }
    *count_out = h->count;
    for (size_t left = h->count; left > 0; left--) {
        rows[left - 1] = h->place[0].row;
        h->place[0] = h->place[left - 1];
        sift_down(h->place, left - 1);
    }
    *rows_out = rows;
    return DR_OK;
}

enum dr_code dr_memory_walk_next(const struct dr_memory_walk *w, const struct dr_cursor *from,
                                 uint64_t rows_max, struct dr_memory_row ***rows_out,
                                 size_t *count_out, bool *is_more_out, struct dr_err *err)
{
    assert(rows_max > 0);
    *rows_out = NULL;
    *count_out = 0;
    *is_more_out = false;
    struct place_heap heap = {.count_max = rows_max};
    struct place start = {0};
    struct place place;
    uint64_t behind = 0;
    bool is_resumed = from != NULL && from->len > 0;
    enum dr_code rc = is_resumed ? read_cursor(w, from, &start, err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && w->part != NULL && i < w->part->count; i++) {
        struct dr_memory_row *row = w->part->row[i];
        bool is_selected = false;
        rc = dr_memory_walk_select(w, row, &is_selected, err);
        if (rc != DR_OK || !is_selected) {
            continue;
        }
        place.row = row;
        place_row(w, row, &place);
        if (!is_resumed || compare_places(&place, &start) > 0) {
            behind++;
            rc = keep_place(&heap, &place, err);
        }
    }
    if (rc == DR_OK) {
        *is_more_out = behind > heap.count;
        rc = list_rows(&heap, rows_out, count_out, err);
    }
    dr_free(heap.place);
    return rc;
}
