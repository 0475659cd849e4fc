/* SPDX-License-Identifier: Apache-2.0 */
/* The survey: collections of a database, their chunks and indexes, what a filter selects and how it
 * is best found, whether anything moves, and what was finished before. Reads only. */
#include <netdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum { COLLECTIONS_MAX = 20000, WIRE_CAPPED_DELETES = 13 };

/* One entry of listCollections. */
struct listed {
    bson_t *doc;
};

struct work {
    struct mg_store *s;
    struct dr_survey *survey;
    const bson_t *query; /* NULL: everything */
    const json_t *only;  /* names, NULL: all */
    bool wants_sizes;
    json_t *completed;        /* {collection: {SHARD: time}} */
    json_t *collections;      /* of extra */
    struct dr_str unreadable; /* shards whose health cannot be read, until it is told */
    struct listed *listed;    /* entries of listCollections, by name */
    uint32_t listed_count;
    uint32_t listed_room;
};

/* ---- what there is ---- */

static bool is_wanted(const struct work *w, const char *name)
{
    size_t i = 0;
    const json_t *one = NULL;
    if (w->only == NULL || json_array_size(w->only) == 0) {
        return true;
    }
    json_array_foreach(w->only, i, one)
    {
        const char *text = json_string_value(one);
        if (text != NULL && strcmp(text, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code add_listed(struct work *w, const bson_t *entry, struct dr_err *err)
{
    if (w->listed_count == COLLECTIONS_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "mongodb: %s has more than %d collections",
                       w->survey->database, COLLECTIONS_MAX);
    }
    if (w->listed_count == w->listed_room) {
        uint32_t room = w->listed_room == 0 ? 64 : w->listed_room * 2;
        struct listed *bigger = dr_realloc(w->listed, room * sizeof *bigger);
        if (bigger == NULL) {
            return dr_fail_nomem(err);
        }
        w->listed = bigger;
        w->listed_room = room;
    }
    w->listed[w->listed_count++].doc = bson_copy(entry);
    return DR_OK;
}

static int compare_listed(const void *a, const void *b)
{
    const struct listed *x = a;
    const struct listed *y = b;
    return strcmp(mg_text(x->doc, "name"), mg_text(y->doc, "name"));
}

static enum dr_code list_collections(struct work *w, struct dr_err *err)
{
    bson_error_t e;
    const bson_t *entry = NULL;
    const bson_t *reply = NULL;
    bool is_any = false;
    enum dr_code rc = DR_OK;
    mongoc_database_t *d = mongoc_client_get_database(w->s->client, w->survey->database);
    mongoc_cursor_t *cursor = mongoc_database_find_collections_with_opts(d, NULL);
    while (rc == DR_OK && mongoc_cursor_next(cursor, &entry)) {
        is_any = true;
        if (is_wanted(w, mg_text(entry, "name"))) {
            rc = add_listed(w, entry, err);
        }
    }
    if (rc == DR_OK && mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(w->s, &e, reply, false, "list collections", err);
    } else if (rc == DR_OK && !is_any) {
        rc =
            dr_fail(err, DR_NOT_FOUND, "mongodb: there is no database %s, or it has no collections",
                    w->survey->database);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_database_destroy(d);
    if (w->listed_count > 0) {
        qsort(w->listed, w->listed_count, sizeof *w->listed, compare_listed);
    }
    return rc;
}

static enum dr_code read_indexes(struct mg_store *s, bson_t *out, struct dr_err *err)
{
    bson_error_t e;
    const bson_t *index = NULL;
    const bson_t *reply = NULL;
    char text[16];
    const char *key = NULL;
    uint32_t count = 0;
    enum dr_code rc = DR_OK;
    mongoc_collection_t *c =
        mongoc_client_get_collection(s->client, s->coll.database, s->coll.name);
    mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(c, NULL);
    while (mongoc_cursor_next(cursor, &index)) {
        (void)bson_uint32_to_string(count++, &key, text, sizeof text);
        (void)bson_append_document(out, key, -1, index);
    }
    if (mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(s, &e, reply, false, "list indexes", err);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    return rc;
}

static bool next_index(bson_iter_t *it, bson_t *out)
{
    while (bson_iter_next(it)) {
        uint32_t bytes = 0;
        const uint8_t *data = NULL;
        if (BSON_ITER_HOLDS_DOCUMENT(it)) {
            bson_iter_document(it, &bytes, &data);
            return bson_init_static(out, data, bytes);
        }
    }
    return false;
}

static enum dr_code fill_index(const bson_t *index, struct dr_arena *a, struct dr_index *to,
                               struct dr_err *err)
{
    bson_t key;
    bson_iter_t it;
    *to = (struct dr_index){.name = dr_arena_strdup(a, mg_text(index, "name"))};
    to->is_unique = mg_is_true(index, "unique") || strcmp(mg_text(index, "name"), "_id_") == 0;
    /* What does not hold every document once counts as partial: the planner walks none of them. */
    to->is_partial = bson_has_field(index, "partialFilterExpression") ||
                     mg_is_true(index, "sparse") || mg_is_true(index, "hidden") ||
                     bson_has_field(index, "collation");
    if (to->name == NULL) {
        return dr_fail_nomem(err);
    }
    if (!mg_document(index, "key", &key) || !bson_iter_init(&it, &key)) {
        return DR_OK;
    }
    while (bson_iter_next(&it) && to->field_count < DR_KEY_PARTS_MAX) {
        to->is_partial = to->is_partial || !BSON_ITER_HOLDS_NUMBER(&it) ||
                         strstr(bson_iter_key(&it), "$**") != NULL;
        to->field[to->field_count] = dr_arena_strdup(a, bson_iter_key(&it));
        if (to->field[to->field_count++] == NULL) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code fill_indexes(const bson_t *indexes, struct dr_arena *a,
                                 struct dr_collection *to, struct dr_err *err)
{
    bson_iter_t it;
    bson_t index;
    enum dr_code rc = DR_OK;
    uint32_t count = bson_count_keys(indexes);
    struct dr_index *list = dr_arena_alloc(a, (count + 1) * sizeof *list);
    if (list == NULL) {
        return dr_fail_nomem(err);
    }
    (void)bson_iter_init(&it, indexes);
    while (rc == DR_OK && next_index(&it, &index)) {
        rc = fill_index(&index, a, &list[to->index_count++], err);
    }
    to->index = list;
    return rc;
}

/* Chunks are walked by an index on exactly the shard key; a longer one that begins with it serves
 * the cluster but not a hint by the pattern. */
static bool has_key_index(const struct mg_coll *c, const bson_t *indexes)
{
    bson_iter_t it;
    bson_t index;
    bson_t key;
    (void)bson_iter_init(&it, indexes);
    while (next_index(&it, &index)) {
        bson_iter_t a;
        bson_iter_t b;
        if (!mg_document(&index, "key", &key) || bson_count_keys(&key) != c->key_count) {
            continue;
        }
        bool is_same = bson_iter_init(&a, &key) && bson_iter_init(&b, c->pattern);
        while (is_same && bson_iter_next(&a) && bson_iter_next(&b)) {
            is_same = strcmp(bson_iter_key(&a), bson_iter_key(&b)) == 0 && mg_compare(&a, &b) == 0;
        }
        if (is_same) {
            return true;
        }
    }
    return false;
}

static const char *why_not(const struct mg_store *s, const bson_t *indexes)
{
    switch (s->coll.kind) {
    case MG_VIEW:
        return "a view holds no documents of its own";
    case MG_SYSTEM:
        return "a system collection is never erased";
    case MG_TIMESERIES:
        return "a time series has no index on _id and erases no single documents; drop it, or let "
               "it expire (collMod expireAfterSeconds)";
    case MG_CAPPED:
        return s->wire < WIRE_CAPPED_DELETES
                   ? "a capped collection erases no documents before MongoDB 5.0; drop it"
                   : NULL;
    case MG_SHARDED:
        return has_key_index(&s->coll, indexes)
                   ? NULL
                   : "no index has exactly the shard key's fields, so chunks cannot be walked; "
                     "create that index";
    case MG_PLAIN:
        break;
    }
    return NULL;
}

static const char *kind_name(enum mg_kind kind)
{
    static const char *const names[] = {
        [MG_PLAIN] = "plain",   [MG_SHARDED] = "sharded",       [MG_VIEW] = "view",
        [MG_SYSTEM] = "system", [MG_TIMESERIES] = "timeseries", [MG_CAPPED] = "capped"};
    return names[kind];
}

/* ---- how much there is ---- */

static enum dr_code read_stats(struct mg_store *s, uint64_t *rows, uint64_t *bytes,
                               struct dr_err *err)
{
    bson_t reply;
    double n = 0;
    bson_t *command = BCON_NEW("collStats", BCON_UTF8(s->coll.name));
    enum dr_code rc = mg_run(s, s->coll.database, command, false, false, &reply, "collStats", err);
    *rows = rc == DR_OK && mg_number(&reply, "count", &n) && n > 0 ? (uint64_t)n : 0;
    *bytes = rc == DR_OK && mg_number(&reply, "size", &n) && n > 0 ? (uint64_t)n : 0;
    bson_destroy(command);
    bson_destroy(&reply);
    return rc;
}

static void add_warning(struct dr_str *warning, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        dr_str_add(warning, warning->len > 0 ? "; " : "");
        dr_str_add(warning, text);
    }
}

static enum dr_code fill_unsharded(struct work *w, const struct mg_use *use,
                                   struct dr_collection *to, struct dr_err *err)
{
    struct dr_arena *a = w->survey->arena;
    const char *primary = w->s->coll.primary;
    struct dr_chunk *chunk = dr_arena_alloc(a, sizeof *chunk);
    if (chunk == NULL) {
        return dr_fail_nomem(err);
    }
    if (primary[0] == '\0') {
        return dr_fail(err, DR_STALE,
                       "mongodb: %s.databases names no primary shard for %s; run it again, or "
                       "check drover.configUri",
                       w->s->config_db, w->survey->database);
    }
    *chunk = (struct dr_chunk){.node = dr_arena_strdup(a, primary),
                               .rows = use != NULL ? use->matched : to->rows_total,
                               .bytes = use != NULL ? 0 : to->bytes_total,
                               .is_rows_known = true};
    to->chunk = chunk;
    to->chunk_count = 1;
    return chunk->node == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* Sums of the chunks are better than the collection's own count, which holds orphans as well. */
static void sum_chunks(struct dr_collection *to)
{
    uint64_t rows = 0;
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < to->chunk_count; i++) {
        if (!to->chunk[i].is_rows_known) {
            return;
        }
        rows += to->chunk[i].rows;
        bytes += to->chunk[i].bytes;
    }
    to->rows_total = rows;
    to->bytes_total = bytes;
}

static enum dr_code fill_sharded(struct work *w, const struct mg_use *use, bool has_collation,
                                 struct dr_collection *to, struct dr_str *warning,
                                 struct dr_err *err)
{
    struct mg_coll *c = &w->s->coll;
    struct mg_chunk_wish wish = {
        .query = w->query,
        .is_pruned = use != NULL && (use->use == MG_USE_RANGE || use->use == MG_USE_HASHED),
        .has_collation = has_collation,
        .wants_sizes = use == NULL && w->wants_sizes};
    to->sharding = c->sharding;
    to->key_count = c->key_count;
    for (uint32_t i = 0; i < c->key_count; i++) {
        to->key[i] = dr_arena_strdup(w->survey->arena, c->key[i]);
        if (to->key[i] == NULL) {
            return dr_fail_nomem(err);
        }
    }
    enum dr_code rc = mg_survey_chunks(w->s, &wish, w->survey->arena, to, warning, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (use == NULL) {
        sum_chunks(to);
    }
    if (to->chunk_count == 1 && !to->chunk[0].is_rows_known) {
        struct dr_chunk one = to->chunk[0];
        one.rows = use != NULL ? use->matched : to->rows_total;
        one.is_rows_known = use != NULL || to->rows_total > 0;
        to->chunk = dr_arena_memdup(w->survey->arena, &one, sizeof one);
        rc = to->chunk == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return rc;
}

/* ---- one collection ---- */

static enum dr_code add_extra(struct work *w, const char *name, const char *not_why,
                              const struct mg_use *use, struct dr_err *err)
{
    const struct mg_coll *c = &w->s->coll;
    json_t *entry =
        json_pack("{s:s, s:b}", "kind", kind_name(c->kind), "no_balance", (int)c->is_no_balance);
    bool is_ok = entry != NULL;
    if (is_ok && not_why != NULL) {
        is_ok = json_object_set_new(entry, "why_not", json_string(not_why)) == 0;
    }
    json_t *done = w->completed == NULL ? NULL : json_object_get(w->completed, name);
    if (is_ok && done != NULL) {
        is_ok = json_object_set(entry, "completed", done) == 0;
    }
    if (is_ok && use != NULL) {
        json_t *filter =
            json_pack("{s:s, s:s, s:b, s:I}", "use", mg_use_name(use), "why", use->why, "has_index",
                      (int)use->has_index, "matched", (json_int_t)use->matched);
        is_ok =
            filter != NULL && (use->index[0] == '\0' ||
                               json_object_set_new(filter, "index", json_string(use->index)) == 0);
        is_ok = json_object_set_new(entry, "filter", filter) == 0 && is_ok;
    }
    is_ok = json_object_set_new(w->collections, c->ns, entry) == 0 && is_ok;
    return is_ok ? DR_OK : dr_fail_nomem(err);
}

static enum dr_code fill_rows(struct work *w, const bson_t *listed, const bson_t *indexes,
                              struct mg_use *use, struct dr_collection *to, struct dr_str *warning,
                              struct dr_err *err)
{
    bson_t options;
    struct dr_err own = {0};
    bool has_collation =
        mg_document(listed, "options", &options) && bson_has_field(&options, "collation");
    enum dr_code rc = read_stats(w->s, &to->rows_total, &to->bytes_total, &own);
    if (rc != DR_OK) { /* a total that is missing stops no work */
        add_warning(warning, own.msg);
        rc = DR_OK;
    }
    if (w->query != NULL) {
        rc = mg_use_choose(w->s, w->query, indexes, has_collation, to->rows_total, use, err);
    }
    const struct mg_use *chosen = w->query == NULL ? NULL : use;
    if (rc == DR_OK) {
        rc = w->s->coll.kind == MG_SHARDED
                 ? fill_sharded(w, chosen, has_collation, to, warning, err)
                 : fill_unsharded(w, chosen, to, err);
    }
    to->rows_matched = chosen == NULL ? to->rows_total : chosen->matched;
    to->rows_total = to->rows_total < to->rows_matched ? to->rows_matched : to->rows_total;
    return rc;
}

static bool is_shard_key_unique(const bson_t *indexes, const struct mg_coll *c)
{
    bson_iter_t it;
    bson_t index;
    bson_t key;
    (void)bson_iter_init(&it, indexes);
    while (c->pattern != NULL && next_index(&it, &index)) {
        if (mg_is_true(&index, "unique") && mg_document(&index, "key", &key) &&
            bson_equal(&key, c->pattern)) {
            return true;
        }
    }
    return false;
}

static enum dr_code fill_texts(struct work *w, const bson_t *listed, const bson_t *indexes,
                               struct dr_collection *to, struct dr_err *err)
{
    const struct mg_coll *c = &w->s->coll;
    struct dr_arena *a = w->survey->arena;
    enum dr_code rc = mg_create_text(c, listed, indexes, is_shard_key_unique(indexes, c), a,
                                     &to->create_text, err);
    json_t *line = rc == DR_OK ? json_pack("{s:s}", "drop_if_empty", c->ns) : NULL;
    char *text = line == NULL ? NULL : dr_json_text(line);
    to->drop_text = text == NULL ? NULL : dr_arena_strdup(a, text);
    dr_free(text);
    json_decref(line);
    return rc == DR_OK && to->drop_text == NULL ? dr_fail_nomem(err) : rc;
}

static enum dr_code survey_one(struct work *w, const bson_t *listed, struct dr_collection *to,
                               struct dr_err *err)
{
    struct mg_store *s = w->s;
    struct dr_arena *a = w->survey->arena;
    struct mg_use use = {0};
    struct dr_str warning;
    bson_t indexes = BSON_INITIALIZER;
    bool has_documents =
        s->coll.kind == MG_PLAIN || s->coll.kind == MG_SHARDED || s->coll.kind == MG_CAPPED;
    enum dr_code rc = DR_OK;
    dr_str_init(&warning);
    *to =
        (struct dr_collection){.epoch = s->coll.epoch,
                               .is_view = s->coll.kind == MG_VIEW || s->coll.kind == MG_TIMESERIES,
                               .is_system = s->coll.kind == MG_SYSTEM};
    to->name = dr_arena_strdup(a, s->coll.ns);
    if (has_documents) {
        rc = read_indexes(s, &indexes, err);
        rc = rc == DR_OK ? fill_indexes(&indexes, a, to, err) : rc;
        rc = rc == DR_OK ? fill_rows(w, listed, &indexes, &use, to, &warning, err) : rc;
        rc = rc == DR_OK ? fill_texts(w, listed, &indexes, to, err) : rc;
        if (rc == DR_OK) {
            add_warning(&warning, dr_str_text(&w->unreadable));
            dr_str_clear(&w->unreadable);
        }
    }
    const char *not_why = why_not(s, &indexes);
    if (rc == DR_OK) {
        rc = add_extra(w, s->coll.name, not_why, has_documents && w->query != NULL ? &use : NULL,
                       err);
    }
    if (s->coll.kind != MG_VIEW && s->coll.kind != MG_SYSTEM) {
        add_warning(&warning, not_why);
    }
    if (rc == DR_OK && warning.len > 0) {
        to->warning = dr_arena_strdup(a, dr_str_text(&warning));
    }
    if (rc == DR_OK &&
        (to->name == NULL || warning.is_short || (warning.len > 0 && to->warning == NULL))) {
        rc = dr_fail_nomem(err);
    }
    bson_destroy(&indexes);
    dr_str_fini(&warning);
    return rc;
}

static enum dr_code survey_all(struct work *w, struct dr_err *err)
{
    char ns[MG_NS_BYTES];
    struct dr_survey *survey = w->survey;
    enum dr_code rc = DR_OK;
    survey->collection =
        dr_arena_alloc(survey->arena, (w->listed_count + 1) * sizeof *survey->collection);
    if (survey->collection == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < w->listed_count; i++) {
        int bytes =
            snprintf(ns, sizeof ns, "%s.%s", survey->database, mg_text(w->listed[i].doc, "name"));
        if (bytes < 0 || (size_t)bytes >= sizeof ns) {
            return dr_fail(err, DR_UNSUPPORTED, "mongodb: a collection's name is too long");
        }
        rc = mg_coll_use(w->s, ns, err);
        if (rc == DR_OK && w->s->coll.is_there) {
            rc =
                survey_one(w, w->listed[i].doc, &survey->collection[survey->collection_count], err);
            survey->collection_count++;
        }
    }
    return rc;
}

/* ---- the cluster ---- */

static enum dr_code fill_nodes(struct work *w, struct dr_err *err)
{
    struct mg_store *s = w->s;
    enum dr_code rc = mg_learn_shards(s, err);
    if (rc != DR_OK) {
        return rc;
    }
    w->survey->node = dr_arena_alloc(w->survey->arena, (s->shard_count + 1) * sizeof(char *));
    for (uint32_t i = 0; w->survey->node != NULL && i < s->shard_count; i++) {
        struct dr_health unused = {.is_ok = true};
        w->survey->node[i] = dr_arena_strdup(w->survey->arena, s->shard[i].name);
        if (w->survey->node[i] == NULL) {
            return dr_fail_nomem(err);
        }
        w->survey->node_count++;
        mg_shard_health(s, &s->shard[i], &unused);
        if (s->shard[i].why_unreadable[0] != '\0') {
            dr_str_addf(&w->unreadable, "%s%s",
                        w->unreadable.len > 0 ? "; " : "health: ", s->shard[i].why_unreadable);
        }
    }
    return w->survey->node == NULL || w->unreadable.is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code note_move(void *arg, const struct mg_move *move, struct dr_err *err)
{
    char text[400];
    mg_move_print(move, text, sizeof text);
    return json_array_append_new(arg, json_string(text)) == 0 ? DR_OK : dr_fail_nomem(err);
}

/* A round that runs is told, but is no move. Without the right to ask, the mode is "unknown". */
static enum dr_code read_balancer(struct work *w, json_t **out, struct dr_err *err)
{
    struct dr_err own = {0};
    char note[256];
    bson_t reply = BSON_INITIALIZER;
    json_t *moving = json_array();
    enum dr_code rc = moving == NULL ? dr_fail_nomem(err) : DR_OK;
    *out = NULL;
    if (rc == DR_OK) {
        rc = mg_each_move(w->s, note_move, moving, note, sizeof note, err);
    }
    if (rc == DR_OK && w->s->is_router) {
        bson_t *command = BCON_NEW("balancerStatus", BCON_INT32(1));
        bson_destroy(&reply);
        if (mg_run(w->s, "admin", command, false, false, &reply, "balancerStatus", &own) != DR_OK) {
            bson_reinit(&reply);
        }
        bson_destroy(command);
    }
    if (rc == DR_OK) {
        const char *mode = mg_text(&reply, "mode");
        *out =
            json_pack("{s:s, s:b, s:O}", "mode",
                      mode[0] != '\0'   ? mode
                      : w->s->is_router ? "unknown"
                                        : "off",
                      "is_running", (int)mg_is_true(&reply, "inBalancerRound"), "moving", moving);
        const char *said = own.msg[0] != '\0' ? own.msg : note;
        rc = *out == NULL ||
                     (said[0] != '\0' && json_object_set_new(*out, "note", json_string(said)) != 0)
                 ? dr_fail_nomem(err)
                 : DR_OK;
    }
    bson_destroy(&reply);
    json_decref(moving);
    return rc;
}

static enum dr_code finish_extra(struct work *w, json_t *balancer, struct dr_err *err)
{
    json_t *extra = json_pack("{s:s, s:i, s:b, s:O, s:O}", "version", w->s->version, "wire",
                              w->s->wire, "is_router", (int)w->s->is_router, "balancer", balancer,
                              "collections", w->collections);
    bool is_ok = extra != NULL;
    for (uint32_t i = 0; is_ok && i < w->s->shard_count; i++) {
        const struct mg_shard *shard = &w->s->shard[i];
        json_t *all = json_object_get(extra, "unreadable");
        if (shard->why_unreadable[0] == '\0') {
            continue;
        }
        if (all == NULL) {
            all = json_object();
            is_ok = json_object_set_new(extra, "unreadable", all) == 0;
        }
        is_ok =
            is_ok && json_object_set_new(all, shard->name, json_string(shard->why_unreadable)) == 0;
    }
    char *text = is_ok ? dr_json_text(extra) : NULL;
    w->survey->extra = text == NULL ? NULL : dr_arena_strdup(w->survey->arena, text);
    dr_free(text);
    json_decref(extra);
    return w->survey->extra == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code run_survey(struct work *w, struct dr_err *err)
{
    json_t *balancer = NULL;
    dr_str_init(&w->unreadable);
    w->collections = json_object();
    enum dr_code rc = w->collections == NULL ? dr_fail_nomem(err) : fill_nodes(w, err);
    rc = rc == DR_OK ? read_balancer(w, &balancer, err) : rc;
    rc = rc == DR_OK ? list_collections(w, err) : rc;
    rc = rc == DR_OK ? survey_all(w, err) : rc;
    rc = rc == DR_OK ? finish_extra(w, balancer, err) : rc;
    for (uint32_t i = 0; i < w->listed_count; i++) {
        bson_destroy(w->listed[i].doc);
    }
    dr_free(w->listed);
    dr_str_fini(&w->unreadable);
    json_decref(w->collections);
    json_decref(balancer);
    return rc;
}

enum dr_code mg_survey(void *impl, const char *database, const struct dr_filter *filter,
                       struct dr_survey *survey, struct dr_err *err)
{
    bson_t *query = NULL;
    struct work w = {.s = impl, .survey = survey, .wants_sizes = true};
    enum dr_code rc = DR_OK;
    if (survey->database == NULL) {
        survey->database = dr_arena_strdup(survey->arena, database);
        rc = survey->database == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK && filter != NULL) {
        rc = mg_query_from_filter(filter, &query, err);
    }
    w.query = query;
    rc = rc == DR_OK ? run_survey(&w, err) : rc;
    bson_destroy(query);
    return rc;
}

enum dr_code mg_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct work w = {.s = impl, .survey = survey};
    const struct dr_range whole = {.spec = spec};
    json_t *job = NULL;
    json_t *completed = json_object();
    enum dr_code rc = completed == NULL ? dr_fail_nomem(err)
                                        : dr_json_parse("job", spec, strlen(spec), &job, err);
    if (rc == DR_OK) {
        const char *database = json_string_value(json_object_get(job, "database"));
        survey->database = database == NULL ? NULL : dr_arena_strdup(survey->arena, database);
        w.only = json_object_get(job, "collections");
        w.wants_sizes = !json_is_false(json_object_get(job, "chunk_sizes"));
        w.completed = completed;
        rc = database == NULL           ? dr_fail(err, DR_INPUT, "job: no database is named")
             : survey->database == NULL ? dr_fail_nomem(err)
                                        : mg_filter_use(impl, &whole, &w.query, err);
    }
    rc = rc == DR_OK ? mg_completed(w.s, spec, completed, err) : rc;
    rc = rc == DR_OK ? run_survey(&w, err) : rc;
    json_decref(job);
    json_decref(completed);
    return rc;
}
