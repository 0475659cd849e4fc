/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: the router (or replica set), the cluster's metadata, and the shards themselves for
 * health only. Reads go to primaries whatever the URL says: a secondary may show what is gone. */
#include <netdb.h>

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum {
    SELECTION_MS = 5000,
    SOCKET_MS = 60000,
    DIRECT_SELECTION_MS = 2000,
    DIRECT_CONNECT_MS = 1000,
    DIRECT_SOCKET_MS = 5000,
    SCRATCH_BLOCK_BYTES = 64 * 1024,
};

static enum dr_code parse_uri(const char *text, const char *what, mongoc_uri_t **out,
                              struct dr_err *err)
{
    bson_error_t e;
    *out = mongoc_uri_new_with_error(text, &e);
    if (*out == NULL) { /* the library's text may quote parts of the URI, so it is not shown */
        return dr_fail(err, DR_INPUT,
                       "mongodb: %s is no URI the driver understands; write "
                       "mongodb://[user:password@]host:port[,host:port...]/[database][?options] "
                       "and percent-encode user and password",
                       what);
    }
    const bson_t *options = mongoc_uri_get_options(*out);
    if (!bson_has_field(options, MONGOC_URI_SERVERSELECTIONTIMEOUTMS)) {
        mongoc_uri_set_option_as_int32(*out, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECTION_MS);
    }
    if (!bson_has_field(options, MONGOC_URI_SERVERSELECTIONTRYONCE)) {
        mongoc_uri_set_option_as_bool(*out, MONGOC_URI_SERVERSELECTIONTRYONCE, false);
    }
    if (!bson_has_field(options, MONGOC_URI_SOCKETTIMEOUTMS)) {
        mongoc_uri_set_option_as_int32(*out, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_MS);
    }
    if (mongoc_uri_get_appname(*out) == NULL) {
        mongoc_uri_set_appname(*out, "drover");
    }
    return DR_OK;
}

enum dr_code mg_connect(const char *text, const char *what, mongoc_client_t **out,
                        struct dr_err *err)
{
    bson_error_t e;
    mongoc_uri_t *uri = NULL;
    *out = NULL;
    enum dr_code rc = parse_uri(text, what, &uri, err);
    if (rc != DR_OK) {
        return rc;
    }
    const mongoc_write_concern_t *wc = mongoc_uri_get_write_concern(uri);
    if (wc != NULL && !mongoc_write_concern_is_acknowledged(wc)) {
        mongoc_uri_destroy(uri);
        return dr_fail(err, DR_INPUT,
                       "mongodb: %s asks for w=0, so no erase would ever be confirmed; use "
                       "w=majority",
                       what);
    }
    *out = mongoc_client_new_from_uri_with_error(uri, &e);
    mongoc_uri_destroy(uri);
    if (*out == NULL) {
        return dr_fail(err, DR_INPUT, "mongodb: %s cannot be used: %.300s", what, e.message);
    }
    (void)mongoc_client_set_error_api(*out, MONGOC_ERROR_API_VERSION_2);
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_client_set_read_prefs(*out, primary);
    mongoc_read_prefs_destroy(primary);
    /* Commands that take a write concern get it by mg_append_write_concern: were it the client's
     * too, it would stand in them twice. */
    mongoc_write_concern_t *none = mongoc_write_concern_new();
    mongoc_client_set_write_concern(*out, none);
    mongoc_write_concern_destroy(none);
    return DR_OK;
}

static bool is_config(const struct mg_store *s, const char *database)
{
    return strcmp(database, "config") == 0 || strcmp(database, s->config_db) == 0;
}

static mongoc_client_t *client_for(const struct mg_store *s, const char *database,
                                   const char **name_out)
{
    bool is_metadata = is_config(s, database);
    *name_out = is_metadata ? s->config_db : database;
    return is_metadata ? s->config : s->client;
}

static bool is_reply_ok(const bson_t *reply)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, reply, "ok") && bson_iter_as_bool(&it) &&
           !bson_has_field(reply, "writeErrors") && !bson_has_field(reply, "writeConcernError");
}

enum dr_code mg_run(struct mg_store *s, const char *database, const bson_t *command, bool is_write,
                    bool accepts_errors, bson_t *reply, const char *what, struct dr_err *err)
{
    bson_error_t e = {0};
    const char *name = NULL;
    mongoc_client_t *client = client_for(s, database, &name);
    bool is_ok =
        is_write
            ? mongoc_client_write_command_with_opts(client, name, command, NULL, reply, &e)
            : mongoc_client_read_command_with_opts(client, name, command, NULL, NULL, reply, &e);
    if (bson_has_field(reply, "ok") && (accepts_errors || (is_ok && is_reply_ok(reply)))) {
        return DR_OK;
    }
    return mg_fail(s, &e, reply, is_write, what, err);
}

enum dr_code mg_find_one(struct mg_store *s, const char *database, const char *collection,
                         const bson_t *query, const bson_t *opts, bson_t **out, struct dr_err *err)
{
    bson_error_t e;
    bson_t limited = BSON_INITIALIZER;
    const bson_t *reply = NULL;
    const bson_t *doc = NULL;
    const char *name = NULL;
    char what[MG_NS_BYTES + 32];
    enum dr_code rc = DR_OK;
    *out = NULL;
    mongoc_client_t *client = client_for(s, database, &name);
    if (opts != NULL) {
        bson_copy_to_excluding_noinit(opts, &limited, "limit", NULL);
    }
    BSON_APPEND_INT64(&limited, "limit", 1);
    mongoc_collection_t *c = mongoc_client_get_collection(client, name, collection);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, query, &limited, NULL);
    if (mongoc_cursor_next(cursor, &doc)) {
        *out = bson_copy(doc);
    } else if (mongoc_cursor_error_document(cursor, &e, &reply)) {
        (void)snprintf(what, sizeof what, "read %s.%s", name, collection);
        rc = mg_fail(s, &e, reply, false, what, err);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    bson_destroy(&limited);
    return rc;
}

void mg_append_write_concern(const struct mg_store *s, bson_t *command)
{
    const mongoc_write_concern_t *wc =
        mongoc_uri_get_write_concern(mongoc_client_get_uri(s->client));
    mongoc_write_concern_t *own =
        wc == NULL ? mongoc_write_concern_new() : mongoc_write_concern_copy(wc);
    if (mongoc_write_concern_get_w(own) == MONGOC_WRITE_CONCERN_W_DEFAULT) {
        mongoc_write_concern_set_w(own, MONGOC_WRITE_CONCERN_W_MAJORITY);
    }
    (void)mongoc_write_concern_append(own, command);
    mongoc_write_concern_destroy(own);
}

static void fini_shards(struct mg_store *s)
{
    for (uint32_t i = 0; i < s->shard_count; i++) {
        dr_free(s->shard[i].host);
        if (s->shard[i].direct != s->client) {
            mongoc_client_destroy(s->shard[i].direct);
        }
    }
    dr_free(s->shard);
    s->shard = NULL;
    s->shard_count = 0;
}

/* A shard that is known already keeps its connection, unless it has moved to other hosts. */
static enum dr_code add_shard(struct mg_store *s, struct mg_shard *fresh, uint32_t *count,
                              const char *name, const char *host, struct dr_err *err)
{
    if (*count == MG_SHARDS_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "mongodb: more than %d shards", MG_SHARDS_MAX);
    }
    if (name[0] == '\0' || strlen(name) >= MG_NAME_BYTES) {
        return dr_fail(err, DR_UNSUPPORTED, "mongodb: a shard's name is empty or longer than %d",
                       MG_NAME_BYTES - 1);
    }
    struct mg_shard *to = &fresh[*count];
    dr_copy_text(to->name, sizeof to->name, name);
    to->host = dr_strdup(host);
    if (to->host == NULL) {
        return dr_fail_nomem(err);
    }
    (*count)++;
    struct mg_shard *old = mg_shard_find(s, name);
    if (old != NULL && strcmp(old->host, host) == 0) {
        to->direct = old->direct;
        to->is_direct_tried = old->is_direct_tried;
        dr_copy_text(to->why_unreadable, sizeof to->why_unreadable, old->why_unreadable);
        old->direct = NULL;
    }
    return DR_OK;
}

static enum dr_code read_shards(struct mg_store *s, struct mg_shard *fresh, uint32_t *count,
                                struct dr_err *err)
{
    bson_error_t e;
    bson_t query = BSON_INITIALIZER;
    bson_t *opts = BCON_NEW("sort", "{", "_id", BCON_INT32(1), "}");
    const bson_t *doc = NULL;
    const bson_t *reply = NULL;
    enum dr_code rc = DR_OK;
    mongoc_collection_t *c = mongoc_client_get_collection(s->config, s->config_db, "shards");
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, &query, opts, NULL);
    while (rc == DR_OK && mongoc_cursor_next(cursor, &doc)) {
        rc = add_shard(s, fresh, count, mg_text(doc, "_id"), mg_text(doc, "host"), err);
    }
    if (rc == DR_OK && mongoc_cursor_error_document(cursor, &e, &reply)) {
        rc = mg_fail(s, &e, reply, false, "read the list of shards (config.shards)", err);
    } else if (rc == DR_OK && *count == 0) {
        rc = dr_fail(err, DR_NOT_FOUND,
                     "mongodb: %s.shards names no shard; check drover.configUri and "
                     "drover.configDb",
                     s->config_db);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    bson_destroy(opts);
    bson_destroy(&query);
    return rc;
}

enum dr_code mg_learn_shards(struct mg_store *s, struct dr_err *err)
{
    if (!s->is_router) {
        return DR_OK; /* one shard, learned when the store was opened */
    }
    uint32_t count = 0;
    struct mg_shard *fresh = dr_calloc(MG_SHARDS_MAX, sizeof *fresh);
    if (fresh == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = read_shards(s, fresh, &count, err);
    if (rc != DR_OK && count == 0) {
        dr_free(fresh);
        return rc;
    }
    /* Also after an error: connections of the old list live in the new one now. */
    fini_shards(s);
    s->shard = fresh;
    s->shard_count = count;
    return rc;
}

struct mg_shard *mg_shard_find(struct mg_store *s, const char *name)
{
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (strcmp(s->shard[i].name, name) == 0) {
            return &s->shard[i];
        }
    }
    return NULL;
}

/* Credentials and TLS as the store's URL has them; hosts, set and short limits of its own. */
static mongoc_uri_t *direct_uri(const struct mg_store *s, const struct mg_shard *shard)
{
    static const char *const kept[] = {"tls", "ssl", "authsource", "authmechanism", "compressors"};
    const mongoc_uri_t *main_uri = mongoc_client_get_uri(s->client);
    const char *slash = strchr(shard->host, '/');
    const char *hosts = slash == NULL ? shard->host : slash + 1;
    char *text = slash == NULL ? dr_asprintf("mongodb://%s/", hosts)
                               : dr_asprintf("mongodb://%s/?replicaSet=%.*s", hosts,
                                             (int)(slash - shard->host), shard->host);
    mongoc_uri_t *uri = text == NULL ? NULL : mongoc_uri_new(text);
    bson_iter_t it;
    dr_free(text);
    if (uri == NULL) {
        return NULL;
    }
    if (mongoc_uri_get_username(main_uri) != NULL) {
        (void)mongoc_uri_set_username(uri, mongoc_uri_get_username(main_uri));
        (void)mongoc_uri_set_auth_source(uri, mongoc_uri_get_auth_source(main_uri));
    }
    if (mongoc_uri_get_password(main_uri) != NULL) {
        (void)mongoc_uri_set_password(uri, mongoc_uri_get_password(main_uri));
    }
    if (mongoc_uri_get_auth_mechanism(main_uri) != NULL) {
        (void)mongoc_uri_set_auth_mechanism(uri, mongoc_uri_get_auth_mechanism(main_uri));
    }
    (void)bson_iter_init(&it, mongoc_uri_get_options(main_uri));
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bool is_kept = false;
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
            is_kept = is_kept || strncasecmp(key, kept[i], strlen(kept[i])) == 0;
        }
        if (is_kept && BSON_ITER_HOLDS_BOOL(&it)) {
            (void)mongoc_uri_set_option_as_bool(uri, key, bson_iter_bool(&it));
        } else if (is_kept && BSON_ITER_HOLDS_UTF8(&it)) {
            (void)mongoc_uri_set_option_as_utf8(uri, key, bson_iter_utf8(&it, NULL));
        }
    }
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, DIRECT_SELECTION_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, DIRECT_CONNECT_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, DIRECT_SOCKET_MS);
    (void)mongoc_uri_set_appname(uri, "drover");
    return uri;
}

mongoc_client_t *mg_shard_direct(struct mg_store *s, struct mg_shard *shard)
{
    if (shard->is_direct_tried) {
        return shard->direct;
    }
    shard->is_direct_tried = true;
    mongoc_uri_t *uri = direct_uri(s, shard);
    shard->direct = uri == NULL ? NULL : mongoc_client_new_from_uri(uri);
    if (shard->direct == NULL) {
        (void)snprintf(shard->why_unreadable, sizeof shard->why_unreadable,
                       "shard %.64s: no connection can be made to %.128s", shard->name,
                       shard->host);
    } else {
        (void)mongoc_client_set_error_api(shard->direct, MONGOC_ERROR_API_VERSION_2);
    }
    mongoc_uri_destroy(uri);
    return shard->direct;
}

/* ---- opening ---- */

static enum dr_code learn_version(struct mg_store *s, struct dr_err *err)
{
    bson_t reply;
    bson_t *command = BCON_NEW("buildInfo", BCON_INT32(1));
    enum dr_code rc = mg_run(s, "admin", command, false, false, &reply, "buildInfo", err);
    if (rc == DR_OK) {
        dr_copy_text(s->version, sizeof s->version, mg_text(&reply, "version"));
    }
    bson_destroy(command);
    bson_destroy(&reply);
    return rc;
}

/* A shard's own server shows documents that have moved away and checks no versions. */
static enum dr_code refuse_shard(struct mg_store *s, struct dr_err *err)
{
    struct dr_err own;
    bson_t *found = NULL;
    bson_t *query = BCON_NEW("_id", BCON_UTF8("shardIdentity"));
    enum dr_code rc = mg_find_one(s, "admin", "system.version", query, NULL, &found, &own);
    bson_destroy(query);
    if (rc != DR_OK && rc != DR_DENIED) {
        dr_fail(err, rc, "%s", own.msg);
        return rc;
    }
    if (found == NULL) {
        return DR_OK; /* a replica set of its own, or nobody may say */
    }
    bson_destroy(found);
    return dr_fail(err, DR_REFUSED,
                   "mongodb: the URL names a shard of a cluster, where orphaned documents show; "
                   "give the address of a router (mongos)");
}

static enum dr_code learn_replica_set(struct mg_store *s, const bson_t *hello, struct dr_err *err)
{
    const char *set = mg_text(hello, "setName");
    const char *me = mg_text(hello, "me");
    s->shard = dr_calloc(1, sizeof *s->shard);
    if (s->shard == NULL) {
        return dr_fail_nomem(err);
    }
    s->shard->host = dr_strdup(me);
    if (s->shard->host == NULL) {
        return dr_fail_nomem(err);
    }
    dr_copy_text(s->shard->name, sizeof s->shard->name, set[0] == '\0' ? "standalone" : set);
    s->shard->direct = s->client;
    s->shard->is_direct_tried = true;
    s->shard_count = 1;
    return refuse_shard(s, err);
}

static enum dr_code learn_kind(struct mg_store *s, struct dr_err *err)
{
    bson_t hello;
    bson_iter_t it;
    bson_t *command = BCON_NEW("isMaster", BCON_INT32(1)); /* 4.0 knows no hello */
    enum dr_code rc = mg_run(s, "admin", command, false, false, &hello, "connect", err);
    if (rc == DR_OK) {
        s->is_router = strcmp(mg_text(&hello, "msg"), "isdbgrid") == 0;
        s->wire =
            bson_iter_init_find(&it, &hello, "maxWireVersion") ? (int)bson_iter_as_int64(&it) : 0;
        rc = learn_version(s, err);
    }
    if (rc == DR_OK && bson_has_field(&hello, "configsvr")) {
        rc = dr_fail(err, DR_REFUSED,
                     "mongodb: the URL names a config server; give the address of a router "
                     "(mongos), and the config servers' as drover.configUri");
    }
    if (rc == DR_OK) {
        rc = s->is_router ? mg_learn_shards(s, err) : learn_replica_set(s, &hello, err);
    }
    bson_destroy(command);
    bson_destroy(&hello);
    return rc;
}

enum dr_code mg_open(const char *url, void **impl_out, struct dr_err *err)
{
    struct mg_url parts;
    *impl_out = NULL;
    enum dr_code rc = mg_url_parse(url, &parts, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct mg_store *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        mg_url_fini(&parts);
        return dr_fail_nomem(err);
    }
    s->config_db = parts.config_db;
    parts.config_db = NULL;
    s->rebalance_ms = parts.rebalance_ms;
    s->scratch = dr_arena_create(SCRATCH_BLOCK_BYTES);
    rc = s->scratch == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = mg_connect(parts.uri, "the store's URL", &s->client, err);
        s->config = s->client;
    }
    if (rc == DR_OK && parts.config_uri != NULL) {
        s->config = NULL;
        rc = mg_connect(parts.config_uri, "drover.configUri", &s->config, err);
    }
    if (rc == DR_OK) {
        rc = learn_kind(s, err);
    }
    mg_url_fini(&parts);
    if (rc != DR_OK) {
        mg_close(s);
        return rc;
    }
    *impl_out = s;
    return DR_OK;
}

void mg_close(void *impl)
{
    struct mg_store *s = impl;
    if (s == NULL) {
        return;
    }
    mg_live_close(s);
    mg_coll_fini(&s->coll);
    dr_free(s->filter.text);
    bson_destroy(s->filter.query);
    fini_shards(s);
    if (s->config != s->client) {
        mongoc_client_destroy(s->config);
    }
    mongoc_client_destroy(s->client);
    dr_arena_destroy(s->scratch);
    dr_free(s->config_db);
    dr_free(s);
}
