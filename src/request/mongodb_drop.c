/* SPDX-License-Identifier: Apache-2.0 */
/* The kind "mongodb.drop": all of a tenant's database, the collections named, or the documents of
 * one of them that a filter in extended JSON selects. What the filter means is the adapter's to
 * say; here only what no filter may be. No state. */
#include <stdio.h>
#include <string.h>

#include "request/request_private.h"

enum { WHERE_BYTES = 512, DATABASE_BYTES_MAX = 63, DEPTH_MAX = 64 };

/* --- names ----------------------------------------------------------------------------------- */

static bool is_mongodb_url(const char *url)
{
    /* A wrapping store may stand in front. */
    return strstr(url, "mongodb://") != NULL || strstr(url, "mongodb+srv://") != NULL;
}

/* What servers on every system take. */
static enum dr_code check_database(const struct dr_jr *jr, const char *key, const char *name,
                                   struct dr_err *err)
{
    if (strlen(name) > DATABASE_BYTES_MAX || strpbrk(name, "/\\. \"$*<>:|?") != NULL) {
        return dr_fail(err, DR_INPUT,
                       "%s.%s: \"%s\" is no name of a MongoDB database (at most %d bytes, without "
                       "blanks and any of / \\ . \" $ * < > : | ?)",
                       jr->path, key, name, DATABASE_BYTES_MAX);
    }
    return DR_OK;
}

static enum dr_code check_collection(const char *where, const char *name, struct dr_err *err)
{
    return strchr(name, '$') != NULL || name[0] == '.'
               ? dr_fail(err, DR_INPUT, "%s: \"%s\" is no name of a MongoDB collection", where,
                         name)
               : DR_OK;
}

/* --- the filter ------------------------------------------------------------------------------ */

/* An operator that cannot select what is erased, or NULL: those that run code, and those that need
 * an index of their own where the walk brings one. */
static const char *find_bad_operator(const json_t *json, unsigned depth)
{
    static const char *const bad[] = {"$where", "$function",   "$text",
                                      "$near",  "$nearSphere", "$geoNear"};
    const char *key;
    json_t *value;
    const char *found = NULL;
    if (depth > DEPTH_MAX) {
        return "nesting of more than 64 levels";
    }
    json_object_foreach((json_t *)json, key, value)
    {
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            if (strcmp(key, bad[i]) == 0) {
                return bad[i];
            }
        }
        found = find_bad_operator(value, depth + 1);
        if (found != NULL) {
            return found;
        }
    }
    for (size_t i = 0; i < json_array_size(json) && found == NULL; i++) {
        found = find_bad_operator(json_array_get(json, i), depth + 1);
    }
    return found;
}

static enum dr_code read_filter(struct dr_jr *jr, struct dr_mongodb_drop *d, struct dr_err *err)
{
    const json_t *filter = NULL;
    if (!dr_jr_object(jr, "filter", false, &filter)) {
        return jr->rc;
    }
    d->has_filter = true;
    if (d->collection_count != 1) {
        return dr_fail(err, DR_INPUT,
                       "%s.filter: needs exactly one collection in \"collections\", found %u",
                       jr->path, d->collection_count);
    }
    if (d->drop_when_empty) {
        return dr_fail(err, DR_INPUT,
                       "%s.drop_when_empty: a filter leaves documents behind; leave out one of the "
                       "two",
                       jr->path);
    }
    return DR_OK;
}

static enum dr_code guard_filter(const struct dr_request *r, struct dr_err *err)
{
    const json_t *filter = json_object_get(r->json, "filter");
    if (json_object_size(filter) == 0) {
        return dr_fail(err, DR_REFUSED,
                       "\"filter\": {} matches every document; leave the key out if all of %s.%s "
                       "shall go",
                       r->database, r->u.mongodb_drop.collection[0]);
    }
    const char *bad = find_bad_operator(filter, 0);
    if (bad != NULL) {
        return dr_fail(err, DR_REFUSED,
                       "the filter uses %s, which cannot select what is erased; write it with "
                       "comparisons of fields",
                       bad);
    }
    return DR_OK;
}

/* --- status documents ------------------------------------------------------------------------ */

static enum dr_code read_status(struct dr_jr *jr, struct dr_err *err)
{
    const char *url = NULL;
    const char *name = NULL;
    bool has_url = dr_jr_string(jr, "status_store", false, &url);
    bool has_name = dr_jr_string(jr, "status_database", false, &name);
    if (jr->rc != DR_OK) {
        return jr->rc;
    }
    if (has_url && !is_mongodb_url(url)) { /* not shown: it may hold a password */
        return dr_fail(err, DR_INPUT, "%s.status_store: expected a mongodb:// URL", jr->path);
    }
    if (has_url && !has_name) {
        return dr_fail(err, DR_INPUT,
                       "%s.status_database: \"status_store\" says where, this must say in which "
                       "database the status documents go",
                       jr->path);
    }
    if (!has_name) {
        return DR_OK;
    }
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "%.460s.status_database", jr->path);
    enum dr_code rc = dr_request_check_name(where, name, err);
    return rc == DR_OK ? check_database(jr, "status_database", name, err) : rc;
}

/* A status document in the tenant itself would be erased with it; in the others servers and
 * routers keep their own. */
static enum dr_code guard_status(const struct dr_request *r, struct dr_err *err)
{
    static const char *const reserved[] = {"admin", "local", "config"};
    const char *name = json_string_value(json_object_get(r->json, "status_database"));
    if (name == NULL) {
        return DR_OK;
    }
    if (strcmp(name, r->database) == 0) {
        return dr_fail(err, DR_REFUSED,
                       "status_database: \"%s\" is the database to be erased; status documents "
                       "need another one",
                       name);
    }
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (strcmp(name, reserved[i]) == 0) {
            return dr_fail(err, DR_REFUSED,
                           "status_database: \"%s\" belongs to the cluster itself; status "
                           "documents need a database of their own",
                           name);
        }
    }
    return DR_OK;
}

/* Status documents tell how far a whole shard is, and later runs skip what they call completed: a
 * job that erases only some documents must not write them. */
static enum dr_code forget_status(const struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    r->json = json_deep_copy(jr->object);
    if (r->json == NULL) {
        return dr_fail_nomem(err);
    }
    (void)json_object_del(r->json, "status_store");
    (void)json_object_del(r->json, "status_database");
    return DR_OK;
}

/* --- the kind -------------------------------------------------------------------------------- */

static enum dr_code parse_drop(struct dr_jr *jr, struct dr_request *r, struct dr_err *err)
{
    struct dr_mongodb_drop *d = &r->u.mongodb_drop;
    bool has_sizes = true;
    (void)dr_jr_bool(jr, "temp_index", false, &d->temp_index);
    (void)dr_jr_bool(jr, "drop_when_empty", false, &d->drop_when_empty);
    (void)dr_jr_bool(jr, "stop_balancer", false, &d->stop_balancer);
    (void)dr_jr_bool(jr, "again", false, &d->again);
    (void)dr_jr_bool(jr, "chunk_sizes", false, &has_sizes); /* read by the adapter */
    if (jr->rc != DR_OK) {
        return jr->rc;
    }
    if (!is_mongodb_url(r->store_url)) {
        return dr_fail(err, DR_INPUT, "%s.store: this kind needs a mongodb:// URL", jr->path);
    }
    enum dr_code rc = check_database(jr, "database", r->database, err);
    if (rc == DR_OK) {
        rc = dr_request_read_collections(jr, r->arena, check_collection, &d->collection,
                                         &d->collection_count, err);
    }
    if (rc == DR_OK) {
        rc = read_filter(jr, d, err);
    }
    if (rc == DR_OK && d->temp_index && !d->has_filter) {
        rc = dr_fail(err, DR_INPUT,
                     "%s.temp_index: an index helps a filter, and there is none; leave it out",
                     jr->path);
    }
    if (rc == DR_OK) {
        rc = read_status(jr, err);
    }
    return rc == DR_OK && d->has_filter ? forget_status(jr, r, err) : rc;
}

static enum dr_code guard_drop(const struct dr_request *r, struct dr_err *err)
{
    enum dr_code rc = guard_status(r, err);
    return rc == DR_OK && r->u.mongodb_drop.has_filter ? guard_filter(r, err) : rc;
}

static const char *collection_of_drop(const struct dr_request *r, uint32_t n)
{
    const struct dr_mongodb_drop *d = &r->u.mongodb_drop;
    return n < d->collection_count ? d->collection[n] : NULL;
}

static const struct dr_filter *no_filter(const struct dr_request *r)
{
    (void)r; /* it is extended JSON, which only the adapter reads */
    return NULL;
}

static const char *make_drop_target(const struct dr_request *r)
{
    const struct dr_mongodb_drop *d = &r->u.mongodb_drop;
    return d->collection_count == 1
               ? dr_arena_printf(r->arena, "%s.%s", r->database, d->collection[0])
               : dr_arena_strdup(r->arena, r->database);
}

const struct dr_request_kind *dr_request_kind_mongodb_drop(void)
{
    static const struct dr_request_kind kind = {
        .name = "mongodb.drop",
        .needs_spec = true,
        .keeps_order = true,
        .parse = parse_drop,
        .guard = guard_drop,
        .collection = collection_of_drop,
        .filter = no_filter,
        .make_target = make_drop_target,
    };
    return &kind;
}
