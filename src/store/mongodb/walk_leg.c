/* SPDX-License-Identifier: Apache-2.0 */
/* Where a walk reads: the index, the bounds of the next leg or window, and the find on it. */
#include <string.h>

#include "store/mongodb/walk_private.h"

enum { PATHS_MAX = 2 * DR_KEY_PARTS_MAX + 33 };

void mg_clear_doc(bson_t **doc)
{
    if (*doc != NULL) {
        bson_destroy(*doc);
        *doc = NULL;
    }
}

/* ---- which index ---- */

static bool is_true_or_there(const bson_t *index, const char *option)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, index, option) &&
           (!BSON_ITER_HOLDS_BOOL(&it) || bson_iter_bool(&it));
}

/* An index that leaves documents out would lose them, and of some kinds there is no walk. */
static enum dr_code check_index(const struct mg_walk *w, const bson_t *index, struct dr_err *err)
{
    static const char *const partial[] = {"partialFilterExpression", "sparse", "weights",
                                          "wildcardProjection", "hidden"};
    bson_iter_t it, part;
    for (size_t i = 0; i < sizeof partial / sizeof partial[0]; i++) {
        if (is_true_or_there(index, partial[i])) {
            return dr_fail(err, DR_CONFLICT,
                           "%s: the index %s is no whole index (%s), so a walk over it would miss "
                           "documents; plan again",
                           w->range->collection, w->range->index, partial[i]);
        }
    }
    if (!bson_iter_init_find(&it, index, "key") || !bson_iter_recurse(&it, &part)) {
        return dr_fail(err, DR_CORRUPT, "%s: the index %s has no key", w->range->collection,
                       w->range->index);
    }
    while (bson_iter_next(&part)) {
        if (!BSON_ITER_HOLDS_NUMBER(&part) || strstr(bson_iter_key(&part), "$**") != NULL) {
            return dr_fail(err, DR_CONFLICT,
                           "%s: the index %s is of a kind that has no order of values (field %s); "
                           "plan again",
                           w->range->collection, w->range->index, bson_iter_key(&part));
        }
    }
    return DR_OK;
}

static enum dr_code take_index(struct mg_walk *w, const bson_t *index, struct dr_err *err)
{
    bson_iter_t it;
    const uint8_t *data = NULL;
    uint32_t length = 0;
    bson_t key;
    enum dr_code rc = check_index(w, index, err);
    if (rc == DR_OK && bson_iter_init_find(&it, index, "key")) {
        bson_iter_document(&it, &length, &data);
        if (bson_init_static(&key, data, length)) {
            w->pattern = bson_copy(&key);
        }
        /* Positions are made of values, and this index may hold something made from them. */
        w->has_positions = !bson_iter_init_find(&it, index, "collation");
    }
    return rc;
}

/* The index by its name, from listIndexes; _id_ is always there. */
static enum dr_code find_index(struct mg_walk *w, struct dr_err *err)
{
    const struct mg_coll *c = &w->s->coll;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(w->s->client, c->database, c->name);
    mongoc_cursor_t *indexes = mongoc_collection_find_indexes_with_opts(collection, NULL);
    const bson_t *index = NULL, *reply = NULL;
    bson_error_t e;
    bson_iter_t it;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && w->pattern == NULL && mongoc_cursor_next(indexes, &index)) {
        if (bson_iter_init_find(&it, index, "name") && BSON_ITER_HOLDS_UTF8(&it) &&
            strcmp(bson_iter_utf8(&it, NULL), w->range->index) == 0) {
            rc = take_index(w, index, err);
        }
    }
    if (rc == DR_OK && mongoc_cursor_error_document(indexes, &e, &reply)) {
        rc = mg_fail(w->s, &e, reply, false, "listIndexes", err);
    }
    if (rc == DR_OK && w->pattern == NULL) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s has no index %s any more; plan again",
                     w->range->collection, w->range->index);
    }
    mongoc_cursor_destroy(indexes);
    mongoc_collection_destroy(collection);
    return rc;
}

static bool is_ascending(const bson_t *pattern)
{
    bson_iter_t part;
    (void)bson_iter_init(&part, pattern);
    while (bson_iter_next(&part)) {
        if (!BSON_ITER_HOLDS_NUMBER(&part) || bson_iter_as_int64(&part) < 1) {
            return false;
        }
    }
    return true;
}

static bool has_hashed_part(const bson_t *pattern)
{
    bson_iter_t part;
    (void)bson_iter_init(&part, pattern);
    while (bson_iter_next(&part)) {
        if (mg_is_hashed(&part)) {
            return true;
        }
    }
    return false;
}

enum dr_code mg_walk_choose(struct mg_walk *w, struct dr_err *err)
{
    const struct mg_coll *c = &w->s->coll;
    bool is_by_key =
        w->range->access == DR_BY_SHARD_RANGE || w->range->access == DR_BY_SHARD_HASHED;
    if (w->range->access == DR_BY_INDEX) {
        enum dr_code rc = find_index(w, err);
        /* The server takes its bounds from the filter; a min of our own would undo them, and what
         * was erased does not come again anyway. */
        w->has_positions =
            rc == DR_OK && w->has_positions && w->query == NULL && is_ascending(w->pattern);
        return rc;
    }
    if (is_by_key) {
        enum dr_code rc = mg_check_key(c, w->range, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (c->kind == MG_TIMESERIES) {
        return DR_OK;
    }
    w->is_sharded = c->kind == MG_SHARDED && c->pattern != NULL;
    w->has_positions = true;
    w->pattern = w->is_sharded ? bson_copy(c->pattern) : BCON_NEW("_id", BCON_INT32(1));
    w->has_legs = w->is_sharded && (!is_by_key || has_hashed_part(w->pattern));
    return DR_OK;
}

/* ---- legs ---- */

struct leg_search {
    const struct mg_walk *w;
    const bson_t *from; /* NULL: open */
    bson_t *min, *max;
};

bson_t *mg_copy_part(const bson_t *doc, const char *name)
{
    bson_iter_t it;
    bson_t part;
    const uint8_t *data = NULL;
    uint32_t length = 0;
    if (!bson_iter_init_find(&it, doc, name) || !BSON_ITER_HOLDS_DOCUMENT(&it)) {
        return NULL;
    }
    bson_iter_document(&it, &length, &data);
    return bson_init_static(&part, data, length) ? bson_copy(&part) : NULL;
}

/* DR_STOPPED: this is the chunk; it is never seen outside. */
static enum dr_code take_chunk(void *arg, const bson_t *chunk, struct dr_err *err)
{
    struct leg_search *search = arg;
    bson_iter_t it;
    const char *shard = bson_iter_init_find(&it, chunk, "shard") && BSON_ITER_HOLDS_UTF8(&it)
                            ? bson_iter_utf8(&it, NULL)
                            : "";
    if (search->w->range->access == DR_BY_SCAN && strcmp(shard, search->w->range->node) != 0) {
        return DR_OK;
    }
    search->min = mg_copy_part(chunk, "min");
    search->max = mg_copy_part(chunk, "max");
    if (search->min == NULL || search->max == NULL) {
        return dr_fail(err, DR_CORRUPT, "%s: config.chunks has a chunk without bounds",
                       search->w->range->collection);
    }
    if (search->from == NULL || mg_key_compare(search->max, search->from) > 0) {
        return DR_STOPPED;
    }
    mg_clear_doc(&search->min);
    mg_clear_doc(&search->max);
    return DR_OK;
}

static bool is_all_of(const bson_t *bound, bson_type_t type)
{
    bson_iter_t it;
    (void)bson_iter_init(&it, bound);
    while (bson_iter_next(&it)) {
        if (bson_iter_type(&it) != type) {
            return false;
        }
    }
    return true;
}

/* The later of two lower bounds; takes both over. NULL is open. */
static bson_t *later_of(bson_t *a, bson_t *b)
{
    bool is_a = b == NULL || (a != NULL && mg_key_compare(a, b) >= 0);
    mg_clear_doc(is_a ? &b : &a);
    return is_a ? a : b;
}

static bson_t *earlier_of(bson_t *a, bson_t *b)
{
    bool is_a = b == NULL || (a != NULL && mg_key_compare(a, b) <= 0);
    mg_clear_doc(is_a ? &b : &a);
    return is_a ? a : b;
}

static enum dr_code bound_doc(const struct mg_walk *w, const struct dr_bound *bound, bson_t **out,
                              struct dr_err *err)
{
    bson_t doc = BSON_INITIALIZER;
    *out = NULL;
    if (bound->parts == 0) {
        return DR_OK;
    }
    if (!mg_bound_to(bound, &w->s->coll, &doc)) {
        bson_destroy(&doc);
        return dr_fail(err, DR_INPUT, "%s: a bound of the range cannot be put into BSON",
                       w->range->collection);
    }
    *out = bson_copy(&doc);
    bson_destroy(&doc);
    return DR_OK;
}

/* Cut the leg down to the first chunk that reaches behind its beginning. */
static enum dr_code cut_leg(struct mg_walk *w, struct dr_err *err)
{
    struct leg_search search = {.w = w, .from = w->leg_from};
    struct dr_bound from = w->range->from;
    enum dr_code rc = DR_OK;
    if (w->at.kind == MG_AT_KEY) {
        rc = mg_bound_from(w->leg_from, &w->s->coll, w->s->scratch, &from, err);
    }
    if (rc == DR_OK) {
        rc = mg_chunks(w->s, &from, &w->range->upto, take_chunk, &search, err);
    }
    if (rc == DR_OK) {
        w->is_end = true;
    } else if (rc == DR_STOPPED) {
        rc = DR_OK;
        w->leg_from = later_of(w->leg_from, search.min);
        w->leg_upto = earlier_of(w->leg_upto, search.max);
        search.min = search.max = NULL;
        w->is_end = w->leg_upto != NULL && mg_key_compare(w->leg_from, w->leg_upto) >= 0;
    }
    mg_clear_doc(&search.min);
    mg_clear_doc(&search.max);
    return rc;
}

/* Where to read from here: the bounds of the range and the position, and of a chunk for a leg. */
static enum dr_code set_leg(struct mg_walk *w, struct dr_err *err)
{
    bson_t *lowest = NULL;
    enum dr_code rc = DR_OK;
    bool is_bound = w->is_sharded && w->range->access != DR_BY_SCAN;
    mg_clear_doc(&w->leg_from);
    mg_clear_doc(&w->leg_upto);
    if (is_bound) {
        rc = bound_doc(w, &w->range->from, &lowest, err);
    }
    if (rc == DR_OK && is_bound) {
        rc = bound_doc(w, &w->range->upto, &w->leg_upto, err);
    }
    bson_t *reached = w->at.kind == MG_AT_KEY ? bson_copy(w->at.key) : NULL;
    w->leg_from = later_of(reached, lowest);
    if (rc == DR_OK && w->has_legs) {
        rc = cut_leg(w, err);
    }
    /* MaxKey itself belongs to the last chunk: no end is better than one that leaves it out. */
    if (w->leg_upto != NULL && is_all_of(w->leg_upto, BSON_TYPE_MAXKEY)) {
        mg_clear_doc(&w->leg_upto);
    }
    return rc;
}

/* ---- the find ---- */

static bool is_covered(const char *path, const char *const *paths, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strlen(paths[i]);
        if (strncmp(path, paths[i], length) == 0 && (path[length] == '\0' || path[length] == '.')) {
            return true;
        }
    }
    return false;
}

static void collect_paths(const bson_t *pattern, const char **paths, uint32_t *count)
{
    bson_iter_t it;
    (void)bson_iter_init(&it, pattern);
    while (bson_iter_next(&it) && *count < PATHS_MAX) {
        paths[(*count)++] = bson_iter_key(&it);
    }
}

/* _id, the shard key's and the index's fields. One path within another is a collision. */
static void append_projection(const struct mg_walk *w, bson_t *opts)
{
    const char *path[PATHS_MAX] = {"_id"};
    const struct mg_coll *c = &w->s->coll;
    bson_t fields;
    uint32_t count = 1;
    if (c->kind == MG_SHARDED && c->pattern != NULL) {
        collect_paths(c->pattern, path, &count);
    }
    if (w->pattern != NULL) {
        collect_paths(w->pattern, path, &count);
    }
    (void)bson_append_document_begin(opts, "projection", -1, &fields);
    for (uint32_t i = 0; i < count; i++) {
        bool is_needed = !is_covered(path[i], path, i);
        for (uint32_t k = i + 1; k < count && is_needed; k++) {
            is_needed = strcmp(path[i], path[k]) == 0 || !is_covered(path[i], &path[k], 1);
        }
        if (is_needed) {
            (void)bson_append_int32(&fields, path[i], -1, 1);
        }
    }
    (void)bson_append_document_end(opts, &fields);
}

void mg_append_collation(const struct mg_coll *c, bson_t *to)
{
    bson_t collation;
    if (c->kind == MG_SHARDED) {
        (void)bson_append_document_begin(to, "collation", -1, &collation);
        (void)bson_append_utf8(&collation, "locale", -1, "simple", -1);
        (void)bson_append_document_end(to, &collation);
    }
}

/* skip 0: the walk itself; otherwise the one key behind so many. */
static mongoc_cursor_t *find_here(const struct mg_walk *w, int64_t skip)
{
    static const bson_t everything = BSON_INITIALIZER;
    const struct mg_coll *c = &w->s->coll;
    bool is_all = w->query == NULL || skip > 0;
    bson_t opts = BSON_INITIALIZER;
    bson_t concern;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(w->s->client, c->database, c->name);
    /* Secondaries, and the read concern "available", would show orphans. */
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    (void)bson_append_document_begin(&opts, "readConcern", -1, &concern);
    (void)bson_append_utf8(&concern, "level", -1, "local", -1);
    (void)bson_append_document_end(&opts, &concern);
    if (skip > 0) {
        (void)bson_append_int64(&opts, "skip", -1, skip);
        (void)bson_append_int64(&opts, "limit", -1, 1);
    } else {
        (void)bson_append_int64(&opts, "batchSize", -1, w->reply_items);
    }
    if (w->pattern != NULL) {
        (void)bson_append_document(&opts, "hint", -1, w->pattern);
        if (w->has_positions && !has_hashed_part(w->pattern)) {
            (void)bson_append_document(&opts, "sort", -1, w->pattern);
        }
    }
    if (w->leg_from != NULL && !is_all_of(w->leg_from, BSON_TYPE_MINKEY)) {
        (void)bson_append_document(&opts, "min", -1, w->leg_from);
    }
    if (w->leg_upto != NULL) {
        (void)bson_append_document(&opts, "max", -1, w->leg_upto);
    }
    if (!w->with_values || skip > 0) {
        append_projection(w, &opts);
    }
    mg_append_collation(c, &opts);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(
        collection, is_all ? &everything : w->query, &opts, primary);
    mongoc_read_prefs_destroy(primary);
    mongoc_collection_destroy(collection);
    bson_destroy(&opts);
    return cursor;
}

/* End the leg behind so many keys; as it is when fewer are left, or when they are all equal. */
static enum dr_code cut_window(struct mg_walk *w, struct dr_err *err)
{
    const bson_t *doc = NULL, *reply = NULL;
    bson_error_t e;
    bson_t key = BSON_INITIALIZER;
    enum dr_code rc = DR_OK;
    mongoc_cursor_t *cursor = find_here(w, MG_WINDOW_ITEMS);
    if (mongoc_cursor_next(cursor, &doc)) {
        bson_destroy(&key);
        (void)mg_index_key(w->pattern, doc, false, &key);
        if (w->leg_from == NULL || mg_key_compare(&key, w->leg_from) > 0) {
            mg_clear_doc(&w->leg_upto);
            w->leg_upto = bson_copy(&key);
            w->is_window = true;
        }
    } else if (mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(w->s, &e, reply, false, w->range->collection, err);
    }
    mongoc_cursor_destroy(cursor);
    bson_destroy(&key);
    return rc;
}

enum dr_code mg_walk_open(struct mg_walk *w, struct dr_err *err)
{
    enum dr_code rc = set_leg(w, err);
    if (rc == DR_OK && !w->is_end && w->query != NULL && w->has_positions) {
        rc = cut_window(w, err);
    }
    if (rc == DR_OK && !w->is_end) {
        w->cursor = find_here(w, 0);
    }
    return rc;
}

/* Behind the last document of a leg: on to the next one, or the end. */
