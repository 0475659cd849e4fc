/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a range: one walker for chunks, indexes and whole collections.
 *
 * A range is read through the router by find with min, max and hint: bounds of chunks are places in
 * an index, never values of fields. The sort by the index's own order costs the server nothing, and
 * makes the router merge several shards in that order; positions rely on it. An order by hash
 * cannot be asked for, so a range with a hashed part is walked in legs, one chunk after the other:
 * within a chunk one shard answers, in the order of its index. The same legs serve the scan of one
 * node of a sharded collection.
 *
 * A find with a filter answers when it has found enough, however long that takes. So a filtered
 * walk goes through windows of 10,000 keys, whose ends the index alone tells, and may give nothing.
 *
 * What lies outside its range or comes out of order is DR_CORRUPT: our hash or our order would then
 * differ from the server's, and a position made from it could skip documents. */
#include <string.h>

#include "store/mongodb/walk_private.h"

enum { REPLY_ITEMS_MAX = 2000, COUNT_ITEMS_MAX = 10000, LIVE_TRIES = 2 };

static void close_cursor(struct mg_walk *w)
{
    if (w->cursor != NULL) {
        mongoc_cursor_destroy(w->cursor);
        w->cursor = NULL;
    }
    mg_clear_doc(&w->held);
    mg_clear_doc(&w->leg_from);
    mg_clear_doc(&w->leg_upto);
    w->is_window = false;
}

static void walk_destroy(struct mg_walk *w)
{
    if (w != NULL) {
        close_cursor(w);
        mg_clear_doc(&w->pattern);
        mg_position_fini(&w->at);
        dr_free(w);
    }
}

void mg_live_close(struct mg_store *s)
{
    if (s->live.cursor != NULL) {
        mongoc_cursor_destroy(s->live.cursor);
    }
    if (s->live.session != NULL) {
        mongoc_client_session_destroy(s->live.session);
    }
    mg_clear_doc(&s->live.pending);
    dr_free(s->live.range_text);
    s->live.cursor = NULL;
    s->live.session = NULL;
    s->live.range_text = NULL;
    s->live.after.len = 0;
}

static enum dr_code end_leg(struct mg_walk *w, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    w->is_end = (!w->has_legs && !w->is_window) || w->leg_upto == NULL;
    w->looked += w->is_window ? MG_WINDOW_ITEMS : 0;
    if (!w->is_end) {
        rc = mg_position_jump(&w->at, w->leg_upto, err);
    }
    close_cursor(w);
    return rc;
}

/* The next document of the range, borrowed until the next call; NULL at the end, and at the end of
 * a window when time is up. */
static enum dr_code next_doc(struct mg_walk *w, const bson_t **out, struct dr_err *err)
{
    bson_error_t e;
    const bson_t *reply = NULL;
    enum dr_code rc = DR_OK;
    *out = NULL;
    while (rc == DR_OK && !w->is_end) {
        if (w->cursor == NULL) {
            if (w->looked >= MG_WINDOW_ITEMS && w->until > 0 && dr_mono_now() >= w->until) {
                break;
            }
            rc = mg_walk_open(w, err);
            if (rc != DR_OK || w->is_end) {
                break;
            }
        }
        if (mongoc_cursor_next(w->cursor, out)) {
            w->looked++;
            return DR_OK;
        }
        *out = NULL;
        rc = mongoc_cursor_error_document(w->cursor, &e, &reply)
                 ? mg_fail(w->s, &e, reply, false, w->range->collection, err)
                 : end_leg(w, err);
    }
    return rc;
}

/* ---- one document ---- */

static enum dr_code fail_lying(const struct mg_walk *w, const bson_t *doc, const char *how,
                               struct dr_err *err)
{
    bson_iter_t it;
    bson_t id = BSON_INITIALIZER;
    if (bson_iter_init_find(&it, doc, "_id")) {
        (void)bson_append_iter(&id, "_id", 3, &it);
    }
    char *text = bson_as_relaxed_extended_json(&id, NULL);
    enum dr_code rc =
        dr_fail(err, DR_CORRUPT,
                "%s: the document %.200s %s; rebuild that index (validate tells more) before "
                "anything is erased here",
                w->range->collection, text == NULL ? "" : text, how);
    bson_free(text);
    bson_destroy(&id);
    return rc;
}

/* Its own key must say what the index said by giving it here and now. */
static enum dr_code check_place(struct mg_walk *w, const bson_t *doc, const bson_t *key,
                                struct dr_err *err)
{
    if (!w->is_sharded) {
        return DR_OK;
    }
    bool is_in = (w->leg_from == NULL || mg_key_compare(key, w->leg_from) >= 0) &&
                 (w->leg_upto == NULL || mg_key_compare(key, w->leg_upto) < 0);
    if (!is_in) {
        return fail_lying(w, doc,
                          w->s->coll.sharding == DR_SHARDED_HASHED
                              ? "was found in a chunk that its hash does not belong to"
                              : "was found in a range that its shard key does not belong to",
                          err);
    }
    if (w->at.kind == MG_AT_KEY && mg_key_compare(key, w->at.key) < 0) {
        return fail_lying(w, doc, "comes in another order than its shard key says", err);
    }
    return DR_OK;
}

static void make_item_key(const struct mg_coll *c, const bson_t *doc, bson_t *out)
{
    bson_iter_t it;
    bson_init(out);
    if (bson_iter_init_find(&it, doc, "_id")) {
        (void)bson_append_iter(out, "_id", 3, &it);
    }
    for (uint32_t i = 0; c->kind == MG_SHARDED && i < c->key_count; i++) {
        if (strcmp(c->key[i], "_id") == 0) {
            continue;
        }
        if (mg_find_path(doc, c->key[i], &it)) {
            (void)bson_append_iter(out, c->key[i], -1, &it);
        } else {
            (void)bson_append_null(out, c->key[i], -1);
        }
    }
}

/* Note that this document was given. */
static enum dr_code advance(struct mg_walk *w, const bson_t *key, bool is_single, uint64_t id_hash,
                            struct dr_err *err)
{
    if (w->has_positions && is_single && w->at.kind != MG_AT_COUNT) {
        return mg_position_move(&w->at, key, id_hash, err);
    }
    uint64_t given = w->at.given + 1;
    mg_position_fini(&w->at);
    w->has_positions = false;
    w->at.kind = MG_AT_COUNT;
    w->at.given = given;
    return DR_OK;
}

/* One document read: given before, given now, or held back because the batch is full.
 * `batch` NULL: only counted. */
static enum dr_code give_doc(struct mg_walk *w, const bson_t *doc, struct dr_batch *batch,
                             uint64_t bytes_max, bool *is_given_out, bool *is_full_out,
                             struct dr_err *err)
{
    bson_t index_key = BSON_INITIALIZER, key = BSON_INITIALIZER;
    bool is_single = true;
    enum dr_code rc = DR_OK;
    uint64_t id_hash = mg_id_hash(doc);
    *is_given_out = *is_full_out = false;
    if (w->pattern != NULL) {
        bson_destroy(&index_key);
        is_single = mg_index_key(w->pattern, doc, false, &index_key);
        rc = check_place(w, doc, &index_key, err);
    }
    if (rc != DR_OK || mg_position_has(&w->at, &index_key, id_hash)) {
        goto out;
    }
    if (batch != NULL) {
        bson_destroy(&key);
        make_item_key(&w->s->coll, doc, &key);
        uint32_t value_len = w->with_values ? doc->len : 0;
        if (batch->count > 0 && batch->bytes + key.len + value_len > bytes_max) {
            *is_full_out = true;
            goto out;
        }
        rc = dr_batch_add(batch, bson_get_data(&key), key.len,
                          w->with_values ? bson_get_data(doc) : NULL, value_len, err);
    }
    if (rc == DR_OK) {
        *is_given_out = true;
        rc = advance(w, &index_key, is_single, id_hash, err);
    }
out:
    bson_destroy(&index_key);
    bson_destroy(&key);
    return rc;
}

/* ---- between two batches ---- */

static char *range_text(const struct mg_walk *w)
{
    json_t *j = dr_range_to_json(w->range);
    char *text = j == NULL ? NULL : dr_json_text(j);
    json_decref(j);
    char *all = text == NULL ? NULL
                             : dr_asprintf("%s %s %s", w->with_values ? "values" : "keys", text,
                                           w->range->spec == NULL ? "" : w->range->spec);
    dr_free(text);
    return all;
}

static void put_doc(bson_t *to, const char *name, bson_t **doc)
{
    if (*doc != NULL) {
        (void)bson_append_document(to, name, -1, *doc);
        mg_clear_doc(doc);
    }
}

/* Leave the cursor open for the scan that goes on exactly here. Only a help: without memory for it
 * the walk goes on from its position. What is pending is wrapped with the leg's bounds. */
static void keep_live(struct mg_walk *w, const struct dr_cursor *after)
{
    struct mg_live *live = &w->s->live;
    char *text = w->cursor == NULL || w->is_end ? NULL : range_text(w);
    if (text == NULL) {
        return;
    }
    live->range_text = text;
    live->cursor = w->cursor;
    live->epoch = w->s->coll.epoch;
    live->after = *after;
    live->pending = bson_new();
    w->cursor = NULL;
    put_doc(live->pending, "doc", &w->held);
    put_doc(live->pending, "from", &w->leg_from);
    put_doc(live->pending, "upto", &w->leg_upto);
    (void)bson_append_bool(live->pending, "window", -1, w->is_window);
}

static void take_live(struct mg_walk *w, const struct dr_cursor *from)
{
    struct mg_live *live = &w->s->live;
    bson_iter_t it;
    char *text = live->cursor == NULL || from == NULL ? NULL : range_text(w);
    bool is_ours = text != NULL && strcmp(text, live->range_text) == 0 &&
                   live->epoch == w->s->coll.epoch && live->after.len == from->len &&
                   memcmp(live->after.data, from->data, from->len) == 0;
    dr_free(text);
    if (is_ours) {
        w->cursor = live->cursor;
        live->cursor = NULL;
        w->held = mg_copy_part(live->pending, "doc");
        w->leg_from = mg_copy_part(live->pending, "from");
        w->leg_upto = mg_copy_part(live->pending, "upto");
        w->is_window = bson_iter_init_find(&it, live->pending, "window") && bson_iter_bool(&it);
    }
    mg_live_close(w->s);
}

/* A position is of the index it was made on; the shard key may have been made anew since. */
static enum dr_code check_position(const struct mg_walk *w, struct dr_err *err)
{
    bson_iter_t part, it;
    bool is_same = w->at.kind != MG_AT_KEY || w->pattern != NULL;
    if (w->at.kind == MG_AT_KEY && is_same) {
        is_same = bson_count_keys(w->pattern) == bson_count_keys(w->at.key);
        (void)bson_iter_init(&part, w->pattern);
        (void)bson_iter_init(&it, w->at.key);
        while (is_same && bson_iter_next(&part) && bson_iter_next(&it)) {
            is_same = strcmp(bson_iter_key(&part), bson_iter_key(&it)) == 0;
        }
    }
    return is_same ? DR_OK
                   : dr_fail(err, DR_CONFLICT,
                             "%s: the saved position is of another index than the walk now; plan "
                             "the job anew",
                             w->range->collection);
}

static enum dr_code walk_create(struct mg_store *s, const struct dr_range *range, bool with_values,
                                struct mg_walk **out, struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = mg_node_use(s, range->node, err);
    if (rc == DR_OK) {
        rc = mg_coll_use(s, range->collection, err);
    }
    if (rc == DR_OK && !s->coll.is_there) {
        rc = dr_fail(err, DR_NOT_FOUND, "there is no collection %s", range->collection);
    }
    if (rc == DR_OK) {
        rc = mg_check_kind(s, &s->coll, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    struct mg_walk *w = dr_calloc(1, sizeof *w);
    if (w == NULL) {
        return dr_fail_nomem(err);
    }
    w->s = s;
    w->range = range;
    w->with_values = with_values;
    w->reply_items = REPLY_ITEMS_MAX;
    rc = mg_filter_use(s, range, &w->query, err);
    if (rc == DR_OK) {
        rc = mg_walk_choose(w, err);
    }
    if (rc != DR_OK) {
        walk_destroy(w);
        return rc;
    }
    dr_arena_reset(s->scratch);
    *out = w;
    return DR_OK;
}

/* The held document first: it was read by the scan before. */
static enum dr_code next_or_held(struct mg_walk *w, bson_t **owned, const bson_t **doc,
                                 struct dr_err *err)
{
    mg_clear_doc(owned);
    if (w->held != NULL) {
        *owned = w->held;
        w->held = NULL;
        *doc = *owned;
        return DR_OK;
    }
    return next_doc(w, doc, err);
}

static enum dr_code fill_batch(struct mg_walk *w, const struct dr_budget *budget,
                               struct dr_batch *batch, struct dr_err *err)
{
    dr_mono_ms begun = dr_mono_now();
    const bson_t *doc = NULL;
    bson_t *owned = NULL;
    bool is_full = false, is_given = false;
    enum dr_code rc = DR_OK;
    w->until = begun + (dr_mono_ms)(budget->ms_max < UINT32_MAX ? budget->ms_max : UINT32_MAX);
    while (rc == DR_OK && !is_full && batch->count < budget->items_max) {
        rc = next_or_held(w, &owned, &doc, err);
        if (rc != DR_OK || doc == NULL) {
            break;
        }
        rc = give_doc(w, doc, batch, budget->bytes_max, &is_given, &is_full, err);
        if (rc == DR_OK && is_full) {
            w->held = bson_copy(doc);
        }
        if (batch->count > 0 && (uint64_t)(dr_mono_now() - begun) >= budget->ms_max) {
            break;
        }
    }
    mg_clear_doc(&owned);
    return rc;
}

/* One try: from the live cursor when it stands exactly there, from the position otherwise. */
static enum dr_code scan_once(struct mg_store *s, const struct dr_range *range,
                              const struct dr_budget *budget, const struct dr_cursor *from,
                              struct dr_batch *batch, bool *was_live_out, struct dr_err *err)
{
    struct mg_walk *w = NULL;
    *was_live_out = false;
    enum dr_code rc = walk_create(s, range, budget->with_values, &w, err);
    if (rc != DR_OK) {
        mg_live_close(s);
        return rc;
    }
    if (budget->items_max < REPLY_ITEMS_MAX) {
        w->reply_items = budget->items_max < 2 ? 2 : (uint32_t)budget->items_max;
    }
    rc = mg_position_decode(from, &w->at, err);
    if (rc == DR_OK) {
        rc = check_position(w, err);
    }
    if (rc == DR_OK) {
        w->reply_items += w->at.id_count; /* these come first, and are passed over */
        take_live(w, from);
        *was_live_out = w->cursor != NULL;
        rc = fill_batch(w, budget, batch, err);
    }
    if (rc == DR_OK) {
        batch->is_end = w->is_end;
        batch->looked = w->looked;
        batch->read_mark = s->coll.epoch;
        mg_position_encode(&w->at, &batch->after);
        keep_live(w, &batch->after);
    }
    walk_destroy(w);
    return rc;
}

enum dr_code mg_scan(void *impl, const struct dr_range *range, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    struct mg_store *s = impl;
    bool was_live = false;
    enum dr_code rc = DR_OK;
    for (int i = 0; i < LIVE_TRIES; i++) {
        dr_batch_reset(batch);
        rc = scan_once(s, range, budget, from, batch, &was_live, err);
        /* The server forgets cursors; the position does not. */
        if (rc == DR_OK || !was_live || rc == DR_CORRUPT || rc == DR_NOMEM) {
            break;
        }
    }
    return rc;
}

/* ---- count ---- */

/* Of a time series, which has no index to walk. */
static enum dr_code count_by_server(struct mg_walk *w, uint64_t *rows_out, struct dr_err *err)
{
    const struct mg_coll *c = &w->s->coll;
    static const bson_t everything = BSON_INITIALIZER;
    bson_t reply = BSON_INITIALIZER;
    bson_iter_t it;
    const bson_t *query = w->query == NULL ? &everything : w->query;
    bson_t *command = BCON_NEW("aggregate", BCON_UTF8(c->name), "pipeline", "[", "{", "$match",
                               BCON_DOCUMENT(query), "}", "{", "$group", "{", "_id", BCON_NULL, "n",
                               "{", "$sum", BCON_INT32(1), "}", "}", "}", "]", "cursor", "{", "}");
    mg_append_collation(c, command);
    enum dr_code rc = mg_run(w->s, c->database, command, false, false, &reply, "count", err);
    *rows_out = 0;
    if (rc == DR_OK && bson_iter_init(&it, &reply) &&
        bson_iter_find_descendant(&it, "cursor.firstBatch.0.n", &it)) {
        *rows_out = (uint64_t)bson_iter_as_int64(&it);
    }
    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

static enum dr_code count_by_walk(struct mg_walk *w, uint64_t *rows_out, struct dr_err *err)
{
    const bson_t *doc = NULL;
    bool is_given = false, is_full = false;
    enum dr_code rc = next_doc(w, &doc, err);
    while (rc == DR_OK && doc != NULL) {
        rc = give_doc(w, doc, NULL, 0, &is_given, &is_full, err);
        *rows_out += is_given ? 1 : 0;
        if (rc == DR_OK) {
            rc = next_doc(w, &doc, err);
        }
    }
    return rc;
}

enum dr_code mg_count(void *impl, const struct dr_range *range, uint64_t *rows_out,
                      struct dr_err *err)
{
    struct mg_walk *w = NULL;
    *rows_out = 0;
    enum dr_code rc = walk_create(impl, range, false, &w, err);
    if (rc == DR_OK) {
        w->reply_items = COUNT_ITEMS_MAX;
        rc = w->pattern != NULL ? count_by_walk(w, rows_out, err)
                                : count_by_server(w, rows_out, err);
    }
    walk_destroy(w);
    return rc;
}
