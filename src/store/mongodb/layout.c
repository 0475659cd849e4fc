/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata: how a collection is laid out now, its chunks, and whether they are moving. Everything
 * is read anew each time; what is kept in s->coll belongs to the epoch it carries. */
#include <netdb.h>

#include <assert.h>
#include <string.h>

#include "store/mongodb/number_private.h"
#include "store/mongodb/survey_private.h"

enum { CHUNK_PAGE = 1000 };

static const uint64_t fnv_start = UINT64_C(14695981039346656037);
static const uint64_t fnv_prime = UINT64_C(1099511628211);

static uint64_t mix(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++) {
        h = (h ^ at[i]) * fnv_prime;
    }
    return h;
}

static uint64_t mix_text(uint64_t h, const char *text)
{
    return mix(h, text, strlen(text) + 1);
}

/* A field's type and bytes; a field that is missing counts as well. */
static uint64_t mix_field(uint64_t h, const bson_t *doc, const char *field)
{
    bson_iter_t it;
    size_t bytes = 0;
    if (!bson_iter_init_find(&it, doc, field)) {
        return mix(h, "", 1);
    }
    uint8_t type = (uint8_t)bson_iter_type(&it);
    const uint8_t *raw = mg_value_bytes(&it, &bytes);
    h = mix(h, &type, 1);
    return mix(h, raw, bytes);
}

void mg_coll_fini(struct mg_coll *c)
{
    for (uint32_t i = 0; i < c->key_count; i++) {
        dr_free(c->key[i]);
    }
    bson_destroy(c->pattern);
    if (c->uuid.value_type != 0) {
        bson_value_destroy(&c->uuid);
    }
    *c = (struct mg_coll){0};
}

static enum dr_code take_name(struct mg_coll *c, const char *ns, struct dr_err *err)
{
    const char *dot = strchr(ns, '.');
    size_t database_bytes = dot == NULL ? 0 : (size_t)(dot - ns);
    if (database_bytes == 0 || dot[1] == '\0' || database_bytes >= sizeof c->database ||
        strlen(ns) >= sizeof c->ns) {
        return dr_fail(err, DR_INPUT, "mongodb: \"%.128s\" is no \"database.collection\"", ns);
    }
    dr_copy_text(c->ns, sizeof c->ns, ns);
    memcpy(c->database, ns, database_bytes);
    c->database[database_bytes] = '\0';
    c->name = c->ns + database_bytes + 1;
    return DR_OK;
}

static enum dr_code take_key(struct mg_coll *c, const bson_t *key, struct dr_err *err)
{
    bson_iter_t it;
    (void)bson_iter_init(&it, key);
    while (bson_iter_next(&it)) {
        if (c->key_count == DR_KEY_PARTS_MAX) {
            return dr_fail(err, DR_UNSUPPORTED,
                           "mongodb: %s: a shard key of more than %d fields is not supported",
                           c->ns, DR_KEY_PARTS_MAX);
        }
        c->key[c->key_count] = dr_strdup(bson_iter_key(&it));
        if (c->key[c->key_count] == NULL) {
            return dr_fail_nomem(err);
        }
        c->is_hashed_part[c->key_count] = BSON_ITER_HOLDS_UTF8(&it);
        c->key_count++;
    }
    if (c->key_count == 0) {
        return dr_fail(err, DR_CORRUPT, "mongodb: %s: config.collections has an empty shard key",
                       c->ns);
    }
    c->pattern = bson_copy(key);
    c->kind = MG_SHARDED;
    c->sharding = c->is_hashed_part[0] ? DR_SHARDED_HASHED : DR_SHARDED_RANGE;
    return DR_OK;
}

/* {uuid} or {ns}, whichever names this collection's chunks. */
static void append_owner(const struct mg_coll *c, bson_t *query)
{
    if (c->has_uuid) {
        (void)bson_append_value(query, "uuid", -1, &c->uuid);
    } else {
        BSON_APPEND_UTF8(query, "ns", c->ns);
    }
}

static enum dr_code newest_chunk(struct mg_store *s, bson_t **out, struct dr_err *err)
{
    bson_t query = BSON_INITIALIZER;
    bson_t *opts = BCON_NEW("sort", "{", "lastmod", BCON_INT32(-1), "}");
    append_owner(&s->coll, &query);
    enum dr_code rc = mg_find_one(s, "config", "chunks", &query, opts, out, err);
    bson_destroy(opts);
    bson_destroy(&query);
    return rc;
}

/* The collection's entry says by what its chunks are named only since 5.0 (it has a timestamp
 * then); while a cluster is being upgraded the other way may still hold, so it is tried too. */
static enum dr_code find_chunks(struct mg_store *s, const bson_t *entry, bson_t **newest,
                                struct dr_err *err)
{
    struct mg_coll *c = &s->coll;
    bson_iter_t it;
    bool may_be_uuid = bson_iter_init_find(&it, entry, "uuid");
    if (may_be_uuid) {
        bson_value_copy(bson_iter_value(&it), &c->uuid);
    }
    c->has_uuid = may_be_uuid && bson_has_field(entry, "timestamp");
    enum dr_code rc = newest_chunk(s, newest, err);
    if (rc == DR_OK && *newest == NULL && may_be_uuid) {
        c->has_uuid = !c->has_uuid;
        rc = newest_chunk(s, newest, err);
    }
    if (rc == DR_OK && *newest == NULL) {
        rc = dr_fail(err, DR_STALE,
                     "mongodb: %s is sharded but has no chunks: it is being dropped or made at "
                     "this moment, or drover.configUri names another cluster",
                     c->ns);
    }
    return rc;
}

static enum dr_code use_sharded(struct mg_store *s, const bson_t *entry, const bson_t *key,
                                struct dr_err *err)
{
    struct mg_coll *c = &s->coll;
    bson_t *newest = NULL;
    enum dr_code rc = take_key(c, key, err);
    if (rc == DR_OK) {
        rc = find_chunks(s, entry, &newest, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    c->is_there = true;
    c->is_no_balance = mg_is_true(entry, "noBalance");
    uint64_t h = mix_text(fnv_start, "sharded");
    h = mix(h, bson_get_data(key), key->len);
    h = mix_field(h, entry, "lastmodEpoch");
    h = mix_field(h, entry, "uuid");
    h = mix_field(h, entry, "timestamp");
    h = mix_field(h, newest, "lastmod");
    h = mix_field(h, newest, "lastmodEpoch");
    c->epoch = h >> 1;
    if (mg_is_true(entry, "unsplittable")) { /* 8.0: an unsharded collection that is tracked */
        dr_copy_text(c->primary, sizeof c->primary, mg_text(newest, "shard"));
        for (uint32_t i = 0; i < c->key_count; i++) {
            dr_free(c->key[i]);
        }
        c->key_count = 0;
        bson_destroy(c->pattern);
        c->pattern = NULL;
        c->sharding = DR_UNSHARDED;
        c->kind = MG_PLAIN;
        c->epoch = mix_text(h, c->primary) >> 1;
    }
    bson_destroy(newest);
    return DR_OK;
}

static enum mg_kind kind_of_listed(const bson_t *listed, const char *name)
{
    bson_t options;
    const char *type = mg_text(listed, "type");
    if (strncmp(name, "system.", 7) == 0) {
        return MG_SYSTEM;
    }
    if (strcmp(type, "view") == 0) {
        return MG_VIEW;
    }
    if (strcmp(type, "timeseries") == 0) {
        return MG_TIMESERIES;
    }
    return mg_document(listed, "options", &options) && mg_is_true(&options, "capped") ? MG_CAPPED
                                                                                      : MG_PLAIN;
}

/* The database's primary shard; "" when the cluster does not know the database. */
static enum dr_code read_primary(struct mg_store *s, char *to, size_t to_bytes, struct dr_err *err)
{
    if (!s->is_router) {
        dr_copy_text(to, to_bytes, s->shard[0].name);
        return DR_OK;
    }
    bson_t *found = NULL;
    bson_t *query = BCON_NEW("_id", BCON_UTF8(s->coll.database));
    enum dr_code rc = mg_find_one(s, "config", "databases", query, NULL, &found, err);
    dr_copy_text(to, to_bytes, found == NULL ? "" : mg_text(found, "primary"));
    bson_destroy(found);
    bson_destroy(query);
    return rc;
}

/* Not sharded: what the database's list of collections says. */
static enum dr_code use_listed(struct mg_store *s, struct dr_err *err)
{
    struct mg_coll *c = &s->coll;
    bson_t reply;
    bson_t listed;
    bson_t info;
    bson_iter_t it;
    bson_iter_t first;
    uint32_t bytes = 0;
    const uint8_t *data = NULL;
    bson_t *command =
        BCON_NEW("listCollections", BCON_INT32(1), "filter", "{", "name", BCON_UTF8(c->name), "}");
    enum dr_code rc =
        mg_run(s, c->database, command, false, false, &reply, "list collections", err);
    bson_destroy(command);
    uint64_t h = mix_text(fnv_start, "listed");
    if (rc == DR_OK && bson_iter_init(&it, &reply) &&
        bson_iter_find_descendant(&it, "cursor.firstBatch.0", &first) &&
        BSON_ITER_HOLDS_DOCUMENT(&first)) {
        bson_iter_document(&first, &bytes, &data);
        (void)bson_init_static(&listed, data, bytes);
        c->is_there = true;
        c->kind = kind_of_listed(&listed, c->name);
        h = mix(h, &c->kind, sizeof c->kind);
        h = mg_document(&listed, "info", &info) ? mix_field(h, &info, "uuid") : h;
        rc = read_primary(s, c->primary, sizeof c->primary, err);
        h = mix_text(h, c->primary);
    }
    c->epoch = h >> 1;
    bson_destroy(&reply);
    return rc;
}

enum dr_code mg_coll_use(struct mg_store *s, const char *ns, struct dr_err *err)
{
    bson_t *entry = NULL;
    bson_t key;
    mg_coll_fini(&s->coll);
    enum dr_code rc = take_name(&s->coll, ns, err);
    assert(rc != DR_OK || s->coll.name != NULL);
    if (rc == DR_OK && s->is_router) {
        bson_t *query = BCON_NEW("_id", BCON_UTF8(s->coll.ns));
        rc = mg_find_one(s, "config", "collections", query, NULL, &entry, err);
        bson_destroy(query);
    }
    if (rc == DR_OK) {
        rc = entry != NULL && !mg_is_true(entry, "dropped") && mg_document(entry, "key", &key)
                 ? use_sharded(s, entry, &key, err)
                 : use_listed(s, err);
    }
    if (rc == DR_OK && strncmp(s->coll.name, "system.", 7) == 0) {
        s->coll.kind = MG_SYSTEM;
    }
    bson_destroy(entry);
    if (rc != DR_OK) {
        mg_coll_fini(&s->coll);
        dr_wrap(err, "layout of %.128s", ns);
    }
    return rc;
}

enum dr_code mg_epoch(void *impl, const char *collection, uint64_t *epoch_out, struct dr_err *err)
{
    struct mg_store *s = impl;
    enum dr_code rc = mg_coll_use(s, collection, err);
    if (rc == DR_OK && !s->coll.is_there) {
        return dr_fail(err, DR_NOT_FOUND, "mongodb: there is no collection %s", collection);
    }
    *epoch_out = rc == DR_OK ? s->coll.epoch : 0;
    return rc;
}

/* {field: {op: bound}}: whole bounds compare as documents do, which is in index order. */
static bool append_bound(bson_t *query, const char *field, const char *op,
                         const struct dr_bound *bound, const struct mg_coll *c)
{
    bson_t comparison;
    bson_t value;
    if (bound->parts == 0) {
        return true;
    }
    return bson_append_document_begin(query, field, -1, &comparison) &&
           bson_append_document_begin(&comparison, op, -1, &value) &&
           mg_bound_to(bound, c, &value) && bson_append_document_end(&comparison, &value) &&
           bson_append_document_end(query, &comparison);
}

enum dr_code mg_chunks(struct mg_store *s, const struct dr_bound *from, const struct dr_bound *upto,
                       enum dr_code (*take)(void *arg, const bson_t *chunk, struct dr_err *err),
                       void *arg, struct dr_err *err)
{
    bson_error_t e;
    bson_t query = BSON_INITIALIZER;
    const bson_t *doc = NULL;
    const bson_t *reply = NULL;
    enum dr_code rc = DR_OK;
    append_owner(&s->coll, &query);
    if (!append_bound(&query, "min", "$lt", upto, &s->coll) ||
        !append_bound(&query, "max", "$gt", from, &s->coll)) {
        bson_destroy(&query);
        return dr_fail(err, DR_CORRUPT, "mongodb: %s: a planned bound cannot be read", s->coll.ns);
    }
    bson_t *opts =
        BCON_NEW("sort", "{", "min", BCON_INT32(1), "}", "batchSize", BCON_INT32(CHUNK_PAGE));
    mongoc_collection_t *c = mongoc_client_get_collection(s->config, s->config_db, "chunks");
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, &query, opts, NULL);
    while (rc == DR_OK && mongoc_cursor_next(cursor, &doc)) {
        rc = take(arg, doc, err);
    }
    if (rc == DR_OK && mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(s, &e, reply, false, "read the chunks (config.chunks)", err);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    bson_destroy(opts);
    bson_destroy(&query);
    return rc;
}

struct shard_set {
    uint32_t count;
    uint32_t room;
    char (*name)[MG_NAME_BYTES];
};

static enum dr_code add_to_set(void *arg, const bson_t *chunk, struct dr_err *err)
{
    struct shard_set *set = arg;
    const char *shard = mg_text(chunk, "shard");
    for (uint32_t i = 0; i < set->count; i++) {
        if (strcmp(set->name[i], shard) == 0) {
            return DR_OK;
        }
    }
    if (set->count == MG_SHARDS_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "mongodb: more than %d shards", MG_SHARDS_MAX);
    }
    if (set->count == set->room) {
        uint32_t room = set->room == 0 ? 8 : set->room * 2;
        void *bigger = dr_realloc(set->name, (size_t)room * MG_NAME_BYTES);
        if (bigger == NULL) {
            return dr_fail_nomem(err);
        }
        set->name = bigger;
        set->room = room;
    }
    dr_copy_text(set->name[set->count++], MG_NAME_BYTES, shard);
    return DR_OK;
}

enum dr_code mg_shards_of_range(struct mg_store *s, const struct dr_range *r, uint32_t *count_out,
                                struct dr_err *err)
{
    struct shard_set set = {0};
    *count_out = 1;
    if (s->coll.kind != MG_SHARDED) {
        return DR_OK;
    }
    enum dr_code rc = mg_chunks(s, &r->from, &r->upto, add_to_set, &set, err);
    if (rc == DR_OK && set.count == 0) {
        rc = dr_fail(err, DR_STALE, "mongodb: %s: no chunk holds the range", s->coll.ns);
    }
    *count_out = set.count;
    dr_free(set.name);
    return rc;
}

enum dr_code mg_check_key(const struct mg_coll *c, const struct dr_range *r, struct dr_err *err)
{
    bool is_by_key = r->access == DR_BY_SHARD_RANGE || r->access == DR_BY_SHARD_HASHED;
    enum dr_sharding planned =
        r->access == DR_BY_SHARD_HASHED ? DR_SHARDED_HASHED : DR_SHARDED_RANGE;
    if (!is_by_key) {
        return DR_OK;
    }
    bool is_same = c->kind == MG_SHARDED && c->sharding == planned && c->key_count == r->key_count;
    for (uint32_t i = 0; is_same && i < c->key_count; i++) {
        is_same = strcmp(c->key[i], r->key[i]) == 0;
    }
    return is_same ? DR_OK
                   : dr_fail(err, DR_CONFLICT,
                             "mongodb: %s no longer has the shard key the plan was made for "
                             "(refined, resharded or dropped); plan the job anew",
                             c->ns);
}
