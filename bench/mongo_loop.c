/* SPDX-License-Identifier: Apache-2.0 */
/* What a person would write to empty a collection, for bench_mongodb.sh: find the ids of N
 * documents, delete them, until none is found. And the ways there are to say which documents a
 * delete means.
 *
 * usage: mongo_loop URI DATABASE COLLECTION SHARD-KEY-FIELD BATCH WAY
 * WAY: ids         deleteMany {_id: {$in}}
 *      ids-key     deleteMany {_id: {$in}, KEY: {$in}}
 *      one         an unordered bulk of deleteOne {_id, KEY}
 *      unbounded   one deleteMany {}
 * Prints the number of documents that the server says it has deleted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mongoc/mongoc.h>

enum { KEY_BYTES = 16, DECIMAL = 10 };

struct loop {
    mongoc_collection_t *collection;
    const char *key;
    uint32_t batch;
    bool with_key, is_one_by_one;
    bson_t opts; /* of every write: majority, as drover writes */
    int64_t deleted;
};

static void stop_on(const bson_error_t *e, const char *what)
{
    (void)fprintf(stderr, "mongo_loop: %s: %s\n", what, e->message);
    exit(1);
}

static void delete_many(struct loop *l, const bson_t *query)
{
    bson_error_t e;
    bson_t reply;
    bson_iter_t it;
    if (!mongoc_collection_delete_many(l->collection, query, &l->opts, &reply, &e)) {
        stop_on(&e, "deleteMany");
    }
    if (bson_iter_init_find(&it, &reply, "deletedCount")) {
        l->deleted += bson_iter_as_int64(&it);
    }
    bson_destroy(&reply);
}

static void append_value(bson_t *list, uint32_t at, const bson_iter_t *value)
{
    char buf[KEY_BYTES];
    const char *name = NULL;
    (void)bson_uint32_to_string(at, &name, buf, sizeof buf);
    (void)bson_append_iter(list, name, -1, value);
}

/* {_id: {$in: ids}} or with {KEY: {$in: keys}} as well. */
static void delete_listed(struct loop *l, const bson_t *ids, const bson_t *keys)
{
    bson_t query = BSON_INITIALIZER;
    bson_t in;
    BSON_APPEND_DOCUMENT_BEGIN(&query, "_id", &in);
    BSON_APPEND_ARRAY(&in, "$in", ids);
    bson_append_document_end(&query, &in);
    if (l->with_key) {
        BSON_APPEND_DOCUMENT_BEGIN(&query, l->key, &in);
        BSON_APPEND_ARRAY(&in, "$in", keys);
        bson_append_document_end(&query, &in);
    }
    delete_many(l, &query);
    bson_destroy(&query);
}

static void add_one(struct loop *l, mongoc_bulk_operation_t *bulk, const bson_iter_t *id,
                    const bson_iter_t *key)
{
    bson_error_t e;
    bson_t query = BSON_INITIALIZER;
    (void)bson_append_iter(&query, "_id", -1, id);
    (void)bson_append_iter(&query, l->key, -1, key);
    if (!mongoc_bulk_operation_remove_one_with_opts(bulk, &query, NULL, &e)) {
        stop_on(&e, "deleteOne");
    }
    bson_destroy(&query);
}

static void execute(struct loop *l, mongoc_bulk_operation_t *bulk)
{
    bson_error_t e;
    bson_t reply;
    bson_iter_t it;
    if (mongoc_bulk_operation_execute(bulk, &reply, &e) == 0) {
        stop_on(&e, "bulk");
    }
    if (bson_iter_init_find(&it, &reply, "nRemoved")) {
        l->deleted += bson_iter_as_int64(&it);
    }
    bson_destroy(&reply);
}

/* Find up to a batch of documents and delete them. False: there are none. */
static bool run_batch(struct loop *l)
{
    bson_error_t e;
    bson_t empty = BSON_INITIALIZER;
    bson_t ids = BSON_INITIALIZER;
    bson_t keys = BSON_INITIALIZER;
    bson_t unordered = BSON_INITIALIZER;
    const bson_t *doc = NULL;
    uint32_t found = 0;
    bson_t *opts = BCON_NEW("limit", BCON_INT64(l->batch), "projection", "{", "_id", BCON_INT32(1),
                            l->key, BCON_INT32(1), "}");
    bson_copy_to(&l->opts, &unordered);
    BSON_APPEND_BOOL(&unordered, "ordered", false);
    mongoc_bulk_operation_t *bulk =
        mongoc_collection_create_bulk_operation_with_opts(l->collection, &unordered);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(l->collection, &empty, opts, NULL);
    while (mongoc_cursor_next(cursor, &doc)) {
        bson_iter_t id;
        bson_iter_t key;
        if (!bson_iter_init_find(&id, doc, "_id") || !bson_iter_init_find(&key, doc, l->key)) {
            (void)fprintf(stderr, "mongo_loop: a document without _id or %s\n", l->key);
            exit(1);
        }
        if (l->is_one_by_one) {
            add_one(l, bulk, &id, &key);
        } else {
            append_value(&ids, found, &id);
            append_value(&keys, found, &key);
        }
        found++;
    }
    if (mongoc_cursor_error(cursor, &e)) {
        stop_on(&e, "find");
    }
    mongoc_cursor_destroy(cursor);
    if (found > 0 && l->is_one_by_one) {
        execute(l, bulk);
    } else if (found > 0) {
        delete_listed(l, &ids, &keys);
    }
    mongoc_bulk_operation_destroy(bulk);
    bson_destroy(opts);
    bson_destroy(&unordered);
    bson_destroy(&ids);
    bson_destroy(&keys);
    return found > 0;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        (void)fprintf(stderr, "usage: mongo_loop URI DATABASE COLLECTION KEY BATCH "
                              "ids|ids-key|one|unbounded\n");
        return 2;
    }
    const char *way = argv[6];
    struct loop l = {.key = argv[4], .opts = BSON_INITIALIZER};
    l.batch = (uint32_t)strtoul(argv[5], NULL, DECIMAL);
    l.with_key = strcmp(way, "ids-key") == 0;
    l.is_one_by_one = strcmp(way, "one") == 0;
    mongoc_init();
    mongoc_client_t *client = mongoc_client_new(argv[1]);
    if (client == NULL || l.batch == 0) {
        (void)fprintf(stderr, "mongo_loop: a URI and a batch from 1 on are needed\n");
        return 2;
    }
    bson_t concern;
    BSON_APPEND_DOCUMENT_BEGIN(&l.opts, "writeConcern", &concern);
    BSON_APPEND_UTF8(&concern, "w", "majority");
    BSON_APPEND_BOOL(&concern, "j", true);
    bson_append_document_end(&l.opts, &concern);
    l.collection = mongoc_client_get_collection(client, argv[2], argv[3]);
    if (strcmp(way, "unbounded") == 0) {
        bson_t all = BSON_INITIALIZER;
        delete_many(&l, &all);
    } else {
        while (run_batch(&l)) {
        }
    }
    (void)printf("%lld\n", (long long)l.deleted);
    mongoc_collection_destroy(l.collection);
    bson_destroy(&l.opts);
    mongoc_client_destroy(client);
    mongoc_cleanup();
    return 0;
}
