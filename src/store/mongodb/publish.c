/* SPDX-License-Identifier: Apache-2.0 */
/* Status documents: how far each collection is on each shard, for people and tools that look into
 * the database. drover's own truth is its queue; these follow it. Only what they call completed is
 * read back, so that a shard that somebody finished is not worked on again. */
#include <netdb.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum { UPDATES_MAX = 500 };

struct place {
    mongoc_client_t *client; /* NULL: the request wants no status documents */
    bool is_own;             /* opened here */
    char tenant[MG_NAME_BYTES];
    char database[MG_NAME_BYTES];
    char collection[MG_NS_BYTES];
};

static void close_place(struct place *p)
{
    if (p->is_own) {
        mongoc_client_destroy(p->client);
    }
    *p = (struct place){0};
}

static enum dr_code connect_place(struct mg_store *s, const char *store, struct place *p,
                                  struct dr_err *err)
{
    struct mg_url parts;
    if (store == NULL) {
        p->client = s->client;
        return DR_OK;
    }
    enum dr_code rc = mg_url_parse(store, &parts, err);
    if (rc != DR_OK) {
        dr_wrap(err, "status_store");
        return rc;
    }
    rc = mg_connect(parts.uri, "status_store", &p->client, err);
    p->is_own = rc == DR_OK;
    mg_url_fini(&parts);
    return rc;
}

static enum dr_code open_place(struct mg_store *s, const char *spec, struct place *p,
                               struct dr_err *err)
{
    json_t *job = NULL;
    *p = (struct place){0};
    enum dr_code rc = dr_json_parse("job", spec, strlen(spec), &job, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *database = json_string_value(json_object_get(job, "status_database"));
    const char *tenant = json_string_value(json_object_get(job, "database"));
    if (database == NULL || tenant == NULL) {
        json_decref(job);
        return DR_OK;
    }
    dr_copy_text(p->database, sizeof p->database, database);
    dr_copy_text(p->tenant, sizeof p->tenant, tenant);
    (void)snprintf(p->collection, sizeof p->collection, "%s_decomm_status_tracking", p->tenant);
    rc = connect_place(s, json_string_value(json_object_get(job, "status_store")), p, err);
    json_decref(job);
    return rc;
}

static int64_t number_of(const json_t *entry, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(entry, key));
}

static void append_text(bson_t *to, const char *field, const json_t *value)
{
    if (json_is_string(value)) {
        (void)bson_append_utf8(to, field, -1, json_string_value(value), -1);
    } else {
        (void)bson_append_null(to, field, -1);
    }
}

/* {q: {collection_name, shard}, u: {$set: ...}, upsert: true} */
static enum dr_code append_update(const struct place *p, const json_t *entry, uint32_t number,
                                  bson_t *updates, struct dr_err *err)
{
    const char *collection = json_string_value(json_object_get(entry, "collection"));
    const char *node = json_string_value(json_object_get(entry, "node"));
    const char *status = json_string_value(json_object_get(entry, "status"));
    size_t tenant_bytes = strlen(p->tenant);
    char text[16];
    const char *key = NULL;
    bson_t update;
    bson_t query;
    bson_t change;
    bson_t set;
    if (collection == NULL || node == NULL || status == NULL) {
        return dr_fail(err, DR_INPUT,
                       "status documents: an entry without collection, node or status");
    }
    if (strncmp(collection, p->tenant, tenant_bytes) == 0 && collection[tenant_bytes] == '.') {
        collection += tenant_bytes + 1;
    }
    (void)bson_uint32_to_string(number, &key, text, sizeof text);
    bson_append_document_begin(updates, key, -1, &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "q", &query);
    BSON_APPEND_UTF8(&query, "collection_name", collection);
    BSON_APPEND_UTF8(&query, "shard", node);
    bson_append_document_end(&update, &query);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "u", &change);
    BSON_APPEND_DOCUMENT_BEGIN(&change, "$set", &set);
    BSON_APPEND_UTF8(&set, "status", status);
    BSON_APPEND_INT64(&set, "total_documents", number_of(entry, "total"));
    BSON_APPEND_INT64(&set, "total_deleted", number_of(entry, "done"));
    BSON_APPEND_INT64(&set, "chunks_processed", number_of(entry, "steps_done"));
    BSON_APPEND_INT64(&set, "total_chunks", number_of(entry, "steps"));
    append_text(&set, "last_processed_chunk", json_object_get(entry, "last"));
    BSON_APPEND_DATE_TIME(&set, "last_updated", dr_wall_now());
    append_text(&set, "error", json_object_get(entry, "error"));
    bson_append_document_end(&change, &set);
    bson_append_document_end(&update, &change);
    BSON_APPEND_BOOL(&update, "upsert", true);
    bson_append_document_end(updates, &update);
    return DR_OK;
}

static enum dr_code send_updates(struct mg_store *s, const struct place *p, const json_t *entries,
                                 size_t from, size_t upto, struct dr_err *err)
{
    bson_error_t e = {0};
    bson_t command = BSON_INITIALIZER;
    bson_t updates;
    bson_t wc;
    bson_t reply;
    enum dr_code rc = DR_OK;
    BSON_APPEND_UTF8(&command, "update", p->collection);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &updates);
    for (size_t i = from; rc == DR_OK && i < upto; i++) {
        rc = append_update(p, json_array_get(entries, i), (uint32_t)(i - from), &updates, err);
    }
    bson_append_array_end(&command, &updates);
    BSON_APPEND_BOOL(&command, "ordered", false);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "writeConcern", &wc);
    BSON_APPEND_UTF8(&wc, "w", "majority");
    bson_append_document_end(&command, &wc);
    if (rc == DR_OK) {
        bool is_ok = mongoc_client_write_command_with_opts(p->client, p->database, &command, NULL,
                                                           &reply, &e);
        if (!is_ok || bson_has_field(&reply, "writeErrors") ||
            bson_has_field(&reply, "writeConcernError")) {
            rc = mg_fail(s, &e, &reply, true, "write the status documents", err);
        }
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return rc;
}

enum dr_code mg_publish(void *impl, const char *spec, const char *state, struct dr_err *err)
{
    struct mg_store *s = impl;
    struct place p;
    json_t *entries = NULL;
    enum dr_code rc = open_place(s, spec, &p, err);
    if (rc != DR_OK || p.client == NULL) {
        return rc;
    }
    rc = dr_json_parse("status", state, strlen(state), &entries, err);
    if (rc == DR_OK && !json_is_array(entries)) {
        rc = dr_fail(err, DR_INPUT, "status documents: the state is no array");
    }
    size_t count = rc == DR_OK ? json_array_size(entries) : 0;
    for (size_t from = 0; rc == DR_OK && from < count; from += UPDATES_MAX) {
        size_t upto = from + UPDATES_MAX < count ? from + UPDATES_MAX : count;
        rc = send_updates(s, &p, entries, from, upto, err);
    }
    json_decref(entries);
    close_place(&p);
    return rc;
}

static enum dr_code add_completed(const bson_t *doc, json_t *out, struct dr_err *err)
{
    char at[40] = "";
    bson_iter_t it;
    const char *collection = mg_text(doc, "collection_name");
    const char *shard = mg_text(doc, "shard");
    if (collection[0] == '\0' || shard[0] == '\0') {
        return DR_OK; /* somebody else's document */
    }
    if (bson_iter_init_find(&it, doc, "last_updated") && BSON_ITER_HOLDS_DATE_TIME(&it)) {
        (void)dr_wall_text(bson_iter_date_time(&it), at, sizeof at);
    } else {
        dr_copy_text(at, sizeof at, mg_text(doc, "last_updated"));
    }
    json_t *shards = json_object_get(out, collection);
    if (shards == NULL) {
        shards = json_object();
        if (shards == NULL || json_object_set_new(out, collection, shards) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return json_object_set_new(shards, shard, json_string(at)) == 0 ? DR_OK : dr_fail_nomem(err);
}

enum dr_code mg_completed(struct mg_store *s, const char *spec, json_t *out, struct dr_err *err)
{
    struct place p;
    bson_error_t e;
    const bson_t *doc = NULL;
    const bson_t *reply = NULL;
    enum dr_code rc = open_place(s, spec, &p, err);
    if (rc != DR_OK || p.client == NULL) {
        return rc;
    }
    bson_t *query = BCON_NEW("status", BCON_UTF8("completed"));
    mongoc_collection_t *c = mongoc_client_get_collection(p.client, p.database, p.collection);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, query, NULL, NULL);
    while (rc == DR_OK && mongoc_cursor_next(cursor, &doc)) {
        rc = add_completed(doc, out, err);
    }
    if (rc == DR_OK && mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(s, &e, reply, false, "read the status documents", err);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    bson_destroy(query);
    close_place(&p);
    return rc;
}
