/* SPDX-License-Identifier: Apache-2.0 */
/* Looking by key: what erase, probe and restore need to know of items.
 *
 * Documents are looked for by _id alone, on all shards, so that one whose shard key was changed is
 * seen as changed and not as gone; which item a document is, its whole key decides. */
#include <stdlib.h>
#include <string.h>

#include "store/mongodb/erase_private.h"

enum { ITEM_OVERHEAD_BYTES = 64 };

enum dr_code mg_node_use(struct mg_store *s, const char *node, struct dr_err *err)
{
    if (mg_shard_find(s, node) != NULL) {
        return DR_OK;
    }
    enum dr_code rc = mg_learn_shards(s, err);
    if (rc == DR_OK && mg_shard_find(s, node) == NULL) {
        rc = dr_fail(err, DR_NOT_FOUND, "this cluster has no shard \"%.100s\"", node);
    }
    return rc;
}

enum dr_code mg_check_kind(const struct mg_store *s, const struct mg_coll *c, struct dr_err *err)
{
    enum { WIRE_5_0 = 13, WIRE_7_0 = 21 };
    switch (c->kind) {
    case MG_PLAIN:
    case MG_SHARDED:
        return DR_OK;
    case MG_VIEW:
        return dr_fail(err, DR_REFUSED, "%s is a view and holds no documents of its own", c->ns);
    case MG_SYSTEM:
        return dr_fail(err, DR_REFUSED, "%s belongs to the server and is left alone", c->ns);
    case MG_TIMESERIES:
        return s->wire >= WIRE_7_0
                   ? DR_OK
                   : dr_fail(err, DR_UNSUPPORTED,
                             "%s is a time series, and server %s cannot delete single documents "
                             "of one; drop it as a whole",
                             c->ns, s->version);
    case MG_CAPPED:
        return s->wire >= WIRE_5_0
                   ? DR_OK
                   : dr_fail(err, DR_UNSUPPORTED,
                             "%s is capped, and server %s cannot delete from one; drop it as a "
                             "whole",
                             c->ns, s->version);
    }
    return dr_fail(err, DR_INTERNAL, "%s is of a kind that nobody knows", c->ns);
}

static bool is_valid_doc(const void *data, size_t length, bson_t *out)
{
    return data != NULL && bson_init_static(out, data, length) &&
           bson_validate(out, BSON_VALIDATE_NONE, NULL);
}

enum dr_code mg_item_key(const struct mg_coll *c, const struct dr_item *item, bson_t *out,
                         struct dr_err *err)
{
    bson_iter_t it;
    if (!is_valid_doc(item->key, item->key_len, out) || !bson_iter_init_find(&it, out, "_id")) {
        return dr_fail(err, DR_CORRUPT, "%s: the key of an item is no document with an _id", c->ns);
    }
    return DR_OK;
}

enum dr_code mg_item_value(const struct mg_coll *c, const struct dr_item *item, bson_t *out,
                           struct dr_err *err)
{
    bson_t key;
    bson_iter_t id, other;
    enum dr_code rc = mg_item_key(c, item, &key, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!is_valid_doc(item->value, item->value_len, out) || !bson_iter_init_find(&id, out, "_id") ||
        !bson_iter_init_find(&other, &key, "_id") || mg_compare(&id, &other) != 0) {
        return dr_fail(err, DR_CORRUPT, "%s: an item's value is not the document its key names",
                       c->ns);
    }
    return DR_OK;
}

uint64_t mg_slice_end(const struct dr_batch *batch, uint64_t from, bool with_values)
{
    uint64_t bytes = 0;
    uint64_t at = from;
    while (at < batch->count && at - from < MG_STATEMENT_ITEMS) {
        const struct dr_item *item = &batch->item[at];
        bytes += item->key_len + ITEM_OVERHEAD_BYTES + (with_values ? item->value_len : 0);
        if (at > from && bytes > MG_STATEMENT_BYTES) {
            break;
        }
        at++;
    }
    return at;
}

/* ---- which item is this document? ---- */

/* The items in the order of their ids. */
struct named {
    const void *key;
    uint32_t key_len;
    uint32_t at; /* in seen[] */
};

static void find_id(const void *doc, uint32_t length, bson_t *over, bson_iter_t *out)
{
    (void)bson_init_static(over, doc, length);
    (void)bson_iter_init_find(out, over, "_id");
}

static int order_by_id(const void *a, const void *b)
{
    const struct named *left = a, *right = b;
    bson_t left_doc, right_doc;
    bson_iter_t left_id, right_id;
    find_id(left->key, left->key_len, &left_doc, &left_id);
    find_id(right->key, right->key_len, &right_doc, &right_id);
    return mg_compare(&left_id, &right_id);
}

/* Does the document stand at the item's key: the shard key's values, a missing one as null? */
static bool is_at_key(const struct named *n, const bson_t *doc)
{
    bson_t key;
    bson_iter_t part, here;
    (void)bson_init_static(&key, n->key, n->key_len);
    (void)bson_iter_init(&part, &key);
    while (bson_iter_next(&part)) {
        if (strcmp(bson_iter_key(&part), "_id") == 0) {
            continue;
        }
        bool is_same = mg_find_path(doc, bson_iter_key(&part), &here)
                           ? mg_compare(&part, &here) == 0
                           : BSON_ITER_HOLDS_NULL(&part);
        if (!is_same) {
            return false;
        }
    }
    return true;
}

struct look {
    struct mg_store *s;
    const struct dr_batch *batch;
    uint64_t from;
    uint32_t count;
    struct named *named;
    uint8_t *seen;
    bool with_values;
};

static void note_item(struct look *look, const struct named *n, const bson_t *doc, bool is_first)
{
    const struct dr_item *item = &look->batch->item[look->from + n->at];
    uint8_t *seen = &look->seen[n->at];
    if (!is_at_key(n, doc)) {
        *seen = *seen == MG_SEEN_NOTHING ? MG_SEEN_MOVED : *seen;
    } else if (!look->with_values) {
        *seen = is_first ? MG_SEEN_CHANGED : MG_SEEN_SAME;
    } else {
        bool is_same =
            item->value_len == doc->len && memcmp(item->value, bson_get_data(doc), doc->len) == 0;
        *seen = is_same ? MG_SEEN_SAME : MG_SEEN_CHANGED;
    }
}

/* All items of this document's id: one may be named twice, or stand on two shards. */
static void note_doc(struct look *look, const bson_t *doc, bool is_first)
{
    struct named wanted = {.key = bson_get_data(doc), .key_len = doc->len};
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, "_id")) {
        return;
    }
    uint32_t low = 0, high = look->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order_by_id(&look->named[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < look->count && order_by_id(&look->named[low], &wanted) == 0; low++) {
        note_item(look, &look->named[low], doc, is_first);
    }
}

static enum dr_code name_items(struct look *look, bson_t *ids, struct dr_err *err)
{
    char digits[16];
    const char *name = NULL;
    bson_t key;
    bson_iter_t it;
    for (uint32_t i = 0; i < look->count; i++) {
        const struct dr_item *item = &look->batch->item[look->from + i];
        enum dr_code rc = mg_item_key(&look->s->coll, item, &key, err);
        if (rc != DR_OK) {
            return rc;
        }
        look->named[i] = (struct named){.key = item->key, .key_len = item->key_len, .at = i};
        (void)bson_iter_init_find(&it, &key, "_id");
        (void)bson_uint32_to_string(i, &name, digits, sizeof digits);
        (void)bson_append_iter(ids, name, -1, &it);
    }
    qsort(look->named, look->count, sizeof *look->named, order_by_id);
    return DR_OK;
}

static void append_key_projection(const struct mg_coll *c, bson_t *opts)
{
    bson_t fields;
    (void)bson_append_document_begin(opts, "projection", -1, &fields);
    for (uint32_t i = 0; c->kind == MG_SHARDED && i < c->key_count; i++) {
        if (strcmp(c->key[i], "_id") != 0 && strncmp(c->key[i], "_id.", 4) != 0) {
            (void)bson_append_int32(&fields, c->key[i], -1, 1);
        }
    }
    (void)bson_append_int32(&fields, "_id", -1, 1);
    (void)bson_append_document_end(opts, &fields);
}

/* One find for the ids; `query` NULL: whatever the documents are. */
static enum dr_code find_ids(struct look *look, const bson_t *ids, const bson_t *query,
                             bool is_first, struct dr_err *err)
{
    struct mg_store *s = look->s;
    const struct mg_coll *c = &s->coll;
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, part;
    const bson_t *doc = NULL, *reply = NULL;
    bson_error_t e;
    mongoc_collection_t *collection = mongoc_client_get_collection(s->client, c->database, c->name);
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    (void)bson_append_document_begin(&filter, "_id", -1, &part);
    (void)bson_append_array(&part, "$in", -1, ids);
    (void)bson_append_document_end(&filter, &part);
    if (query != NULL) {
        (void)bson_append_array_begin(&filter, "$and", -1, &part);
        (void)bson_append_document(&part, "0", 1, query);
        (void)bson_append_array_end(&filter, &part);
    }
    (void)bson_append_document_begin(&opts, "readConcern", -1, &part);
    (void)bson_append_utf8(&part, "level", -1, "local", -1);
    (void)bson_append_document_end(&opts, &part);
    (void)bson_append_int64(&opts, "batchSize", -1, MG_STATEMENT_ITEMS + 1);
    if (!look->with_values) {
        append_key_projection(c, &opts);
    }
    mg_append_collation(c, &opts);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &filter, &opts, primary);
    while (mongoc_cursor_next(cursor, &doc)) {
        note_doc(look, doc, is_first);
    }
    enum dr_code rc = mongoc_cursor_error_document(cursor, &e, &reply)
                          ? mg_fail(s, &e, reply, false, c->ns, err)
                          : DR_OK;
    mongoc_cursor_destroy(cursor);
    mongoc_read_prefs_destroy(primary);
    mongoc_collection_destroy(collection);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

enum dr_code mg_look(struct mg_store *s, const struct dr_batch *batch, uint64_t from, uint64_t upto,
                     const bson_t *query, uint8_t *seen, struct dr_err *err)
{
    struct look look = {.s = s,
                        .batch = batch,
                        .from = from,
                        .count = (uint32_t)(upto - from),
                        .seen = seen,
                        .with_values = batch->item[from].value != NULL};
    bson_t ids = BSON_INITIALIZER;
    memset(seen, MG_SEEN_NOTHING, look.count);
    look.named = dr_calloc(look.count, sizeof *look.named);
    enum dr_code rc = look.named == NULL ? dr_fail_nomem(err) : name_items(&look, &ids, err);
    if (rc == DR_OK) {
        /* Without values the first look says who is there, the second who is still selected. */
        bool is_twice = !look.with_values && query != NULL;
        rc = find_ids(&look, &ids, NULL, is_twice, err);
        if (rc == DR_OK && is_twice) {
            rc = find_ids(&look, &ids, query, false, err);
        }
    }
    bson_destroy(&ids);
    dr_free(look.named);
    return rc;
}

enum dr_code mg_probe(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct mg_store *s = impl;
    const bson_t *query = NULL;
    uint8_t seen[MG_STATEMENT_ITEMS];
    enum dr_code rc = mg_node_use(s, range->node, err);
    if (rc == DR_OK) {
        rc = mg_coll_use(s, range->collection, err);
    }
    if (rc == DR_OK) {
        rc = mg_filter_use(s, range, &query, err);
    }
    for (uint64_t from = 0, upto = 0; rc == DR_OK && from < batch->count; from = upto) {
        upto = mg_slice_end(batch, from, batch->item[from].value != NULL);
        rc = mg_look(s, batch, from, upto, query, seen, err);
        for (uint64_t i = 0; rc == DR_OK && i < upto - from; i++) {
            switch ((enum mg_seen)seen[i]) {
            case MG_SEEN_NOTHING:
                tally->absent++;
                break;
            case MG_SEEN_SAME:
                tally->same++;
                break;
            case MG_SEEN_CHANGED:
            case MG_SEEN_MOVED:
                tally->changed++;
                break;
            }
        }
    }
    return rc;
}
