/* SPDX-License-Identifier: Apache-2.0 */
/* The fixtures of MongoDB, on the stand-in: one shard without sharding, and two shards with a
 * range-sharded, a compound, a hash-sharded and an unsharded collection, on an old version (chunks
 * by ns) and a new one (by uuid). One stand-in per fixture serves all its promises. */
#include "conform/conform.h"

#ifdef DROVER_STORE_MONGODB

#include "base/backoff.h"
#include "mongodb/standin_help.h"
#include "store/mongodb/mongodb_private.h"

static struct standin standin;
static const char *running; /* what the stand-in was started as; NULL: it was not */
static int splits;

static void stop_standin(void)
{
    standin_stop(&standin);
}

static void use_standin(const char *version, const char *shards)
{
    static char started[64];
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "%s %s", version, shards);
    if (running == NULL || strcmp(running, wanted) != 0) {
        standin_stop(&standin);
        standin_start(&standin, "lying_standin.py", version, shards);
        if (running == NULL) {
            assert_int_equal(atexit(stop_standin), 0);
        }
        dr_copy_text(started, sizeof started, wanted);
        running = started;
    }
    standin_do(standin.router, "admin", "{\"standin\": 1, \"clear\": \"all\"}");
    standin_do(standin.router, "admin", "{\"standin\": 1, \"set\": {\"lag_s\": 0}}");
    standin_do(standin.router, "shop", "{\"dropDatabase\": 1}");
}

/* ---- rows as documents ---- */

static void append_value(bson_t *doc, const char *field, const struct dr_value *v)
{
    switch (v->type) {
    case DR_V_NULL:
        assert_true(bson_append_null(doc, field, -1));
        break;
    case DR_V_INT:
        assert_true(bson_append_int64(doc, field, -1, v->i));
        break;
    case DR_V_REAL:
        assert_true(bson_append_double(doc, field, -1, v->r));
        break;
    case DR_V_TEXT:
        assert_true(bson_append_utf8(doc, field, -1, v->data, (int)v->len));
        break;
    case DR_V_BLOB:
        assert_true(
            bson_append_binary(doc, field, -1, BSON_SUBTYPE_BINARY, v->data, (uint32_t)v->len));
        break;
    case DR_V_MIN:
        assert_true(bson_append_minkey(doc, field, -1));
        break;
    case DR_V_MAX:
        assert_true(bson_append_maxkey(doc, field, -1));
        break;
    case DR_V_TAGGED:
        fail();
    }
}

static int64_t hash_value(const struct dr_value *v)
{
    bson_t doc = BSON_INITIALIZER;
    bson_iter_t it;
    append_value(&doc, "v", v);
    assert_true(bson_iter_init_find(&it, &doc, "v"));
    int64_t hash = mg_hash(&it);
    bson_destroy(&doc);
    return hash;
}

static int64_t id_of(const struct dr_item *item)
{
    bson_t key;
    bson_iter_t it;
    assert_true(bson_init_static(&key, item->key, item->key_len));
    assert_true(bson_iter_init_find(&it, &key, "_id"));
    return bson_iter_as_int64(&it);
}

static void append_row(bson_t *to, const char *name, const struct conform_row *row)
{
    const struct conform_shape *shape = conform_shape(row->of);
    bson_t doc;
    assert_true(bson_append_document_begin(to, name, -1, &doc));
    assert_true(bson_append_int64(&doc, "_id", -1, row->id));
    assert_true(bson_append_int64(&doc, "id", -1, row->id));
    for (uint32_t i = 0; i < shape->column_count; i++) {
        append_value(&doc, shape->column[i].name, &row->value[i]);
    }
    assert_true(bson_append_document_end(to, &doc));
}

static void insert_all(enum conform_collection of)
{
    bson_t command = BSON_INITIALIZER, documents;
    char digits[16];
    assert_true(bson_append_utf8(&command, "insert", -1, conform_shape(of)->name, -1));
    assert_true(bson_append_array_begin(&command, "documents", -1, &documents));
    for (uint32_t n = 0; n < conform_row_count(of); n++) {
        struct conform_row row;
        conform_row(of, n, &row);
        (void)snprintf(digits, sizeof digits, "%u", n);
        append_row(&documents, digits, &row);
    }
    assert_true(bson_append_array_end(&command, &documents));
    bson_destroy(standin_reply(standin.router, "shop", &command));
    bson_destroy(&command);
}

/* ---- layout ---- */

static void make_index(enum conform_collection of, const char *pattern)
{
    standin_do(standin.router, "shop",
               "{\"createIndexes\": \"%s\", \"indexes\": [{\"key\": %s, \"name\": \"%s\"}]}",
               conform_shape(of)->name, pattern, conform_shape(of)->index_name);
}

static void append_bound(bson_t *command, const char *name, enum conform_collection of,
                         const struct dr_bound *bound)
{
    const struct conform_shape *shape = conform_shape(of);
    static const struct dr_value least = {.type = DR_V_MIN};
    bson_t doc;
    assert_true(bson_append_document_begin(command, name, -1, &doc));
    for (uint32_t i = 0; i < shape->key_count; i++) {
        bool is_end = bound->part[0].type == DR_V_MIN || bound->part[0].type == DR_V_MAX;
        append_value(&doc, shape->key[i],
                     i < bound->parts ? &bound->part[i]
                     : is_end         ? &bound->part[0]
                                      : &least);
    }
    assert_true(bson_append_document_end(command, &doc));
}

static void split_at(enum conform_collection of, const struct dr_bound *bound)
{
    char name[64];
    bson_t command = BSON_INITIALIZER;
    (void)snprintf(name, sizeof name, "shop.%s", conform_shape(of)->name);
    assert_true(bson_append_utf8(&command, "split", -1, name, -1));
    append_bound(&command, "middle", of, bound);
    bson_destroy(standin_reply(standin.router, "admin", &command));
    bson_destroy(&command);
}

static void move_to(enum conform_collection of, const struct conform_chunk *chunk)
{
    char name[64];
    bson_t command = BSON_INITIALIZER, bounds;
    (void)snprintf(name, sizeof name, "shop.%s", conform_shape(of)->name);
    assert_true(bson_append_utf8(&command, "moveChunk", -1, name, -1));
    assert_true(bson_append_array_begin(&command, "bounds", -1, &bounds));
    append_bound(&bounds, "0", of, &chunk->from);
    append_bound(&bounds, "1", of, &chunk->upto);
    assert_true(bson_append_array_end(&command, &bounds));
    assert_true(bson_append_utf8(&command, "to", -1, chunk->node, -1));
    bson_destroy(standin_reply(standin.router, "admin", &command));
    bson_destroy(&command);
}

static void shard(enum conform_collection of, const char *pattern)
{
    const struct conform_shape *shape = conform_shape(of);
    standin_do(standin.router, "admin",
               "{\"shardCollection\": \"shop.%s\", \"key\": %s, \"numInitialChunks\": 1}",
               shape->name, pattern);
    for (uint32_t i = 1; i < shape->chunk_count; i++) {
        split_at(of, &shape->chunk[i].from);
    }
    for (uint32_t i = 0; i < shape->chunk_count; i++) {
        move_to(of, &shape->chunk[i]);
    }
}

static void make_rows(void)
{
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        insert_all(of);
    }
}

static void make_plain(void)
{
    use_standin("4.4.0", "main");
    make_index(C_ORDERS, "{\"customer\": 1}");
    make_index(C_PAIRS, "{\"tenant\": 1, \"seq\": 1}");
    make_index(C_SETTINGS, "{\"name\": 1}");
    make_rows();
}

static void make_sharded(const char *version)
{
    use_standin(version, NODE_A "," NODE_B);
    standin_do(standin.router, "admin",
               "{\"enableSharding\": \"shop\", \"primaryShard\": \"" NODE_A "\"}");
    make_index(C_ORDERS, "{\"customer\": 1}");
    make_index(C_PAIRS, "{\"tenant\": 1, \"seq\": 1}");
    make_index(C_SETTINGS, "{\"name\": 1}");
    shard(C_ORDERS, "{\"customer\": 1}");
    shard(C_PAIRS, "{\"tenant\": 1, \"seq\": 1}");
    shard(C_EVENTS, "{\"user\": \"hashed\"}");
    make_rows();
}

static void make_old(void)
{
    make_sharded("4.0.3");
}

static void make_new(void)
{
    make_sharded("7.0.5");
}

/* The stand-in stays: the next promise empties it. */
static void clean(void)
{
}

static const char *url(void)
{
    return standin.url;
}

/* ---- behind the adapter's back, on one shard directly ---- */

static void remove_row(enum conform_collection of, const char *node, int64_t id)
{
    standin_do(standin_shard(&standin, node), "shop",
               "{\"delete\": \"%s\", \"deletes\": [{\"q\": {\"_id\": %lld}, \"limit\": 0}]}",
               conform_shape(of)->name, (long long)id);
}

static void put_row(const struct conform_row *row, const char *node)
{
    bson_t command = BSON_INITIALIZER, documents;
    remove_row(row->of, node, row->id);
    assert_true(bson_append_utf8(&command, "insert", -1, conform_shape(row->of)->name, -1));
    assert_true(bson_append_array_begin(&command, "documents", -1, &documents));
    append_row(&documents, "0", row);
    assert_true(bson_append_array_end(&command, &documents));
    bson_destroy(standin_reply(standin_shard(&standin, node), "shop", &command));
    bson_destroy(&command);
}

static uint64_t count_where(enum conform_collection of, const char *node, const char *query)
{
    return (uint64_t)standin_number(standin_ask(standin_shard(&standin, node), "shop",
                                                "{\"count\": \"%s\", \"query\": %s}",
                                                conform_shape(of)->name, query),
                                    "n");
}

static bool has_row(enum conform_collection of, const char *node, int64_t id)
{
    char query[64];
    (void)snprintf(query, sizeof query, "{\"_id\": %lld}", (long long)id);
    return count_where(of, node, query) > 0;
}

/* What moved away is left to the range deleter of the donor; nobody counts it. */
static uint64_t count_rows(enum conform_collection of, const char *node)
{
    return count_where(of, node, "{}");
}

static void bump_epoch(enum conform_collection of)
{
    char text[32];
    assert_int_equal(of, C_ORDERS);
    int length = snprintf(text, sizeof text, "zz%05d", splits++);
    struct dr_bound at = {1, {{.type = DR_V_TEXT, .data = text, .len = (size_t)length}}};
    split_at(of, &at);
}

static void lie_about(const char *node, int64_t id, int64_t hash)
{
    standin_do(
        standin.router, "admin",
        "{\"standin\": 1, \"lie\": {\"ns\": \"shop.events\", \"shard\": \"%s\", \"id\": %lld,"
        " \"hash\": %lld}}",
        node, (long long)id, (long long)hash);
}

static void set_health(const char *node, bool is_ok)
{
    standin_do(standin.router, "admin",
               "{\"standin\": 1, \"set\": {\"shard\": \"%s\", \"lag_s\": %d}}", node,
               is_ok ? 0 : 120);
    (void)dr_wait_ms(1100, NULL, NULL); /* the reading before this one is good for a second */
}

static const char *index_command(enum conform_collection of, bool is_drop)
{
    static char text[256];
    (void)snprintf(text, sizeof text,
                   is_drop ? "{\"db\": \"shop\", \"command\": {\"dropIndexes\": \"%s\", \"index\": "
                             "\"drover_tmp\"}}"
                           : "{\"db\": \"shop\", \"command\": {\"createIndexes\": \"%s\", "
                             "\"indexes\": [{\"key\": {\"kind\": 1, \"at\": 1}, \"name\": "
                             "\"drover_tmp\"}]}}",
                   conform_shape(of)->name);
    return text;
}

#define MONGODB_FIXTURE                                                                            \
    .prefix = "", .database = "shop", .clean = clean, .url = url, .put = put_row,                  \
    .remove = remove_row, .has = has_row, .count = count_rows, .is_routed = true, .id = id_of,     \
    .hash = hash_value, .index_command = index_command

/* No fixture has `unhash`: a hashed index holds a hash for every document, also for a missing
 * field.
 */
const struct conform_fixture conform_mongodb_plain = {
    .name = "mongodb, one shard", .plain_node = "main", .make = make_plain, MONGODB_FIXTURE};

const struct conform_fixture conform_mongodb_sharded = {.name = "mongodb 4.0, two shards",
                                                        .make = make_old,
                                                        .bump_epoch = bump_epoch,
                                                        .lie = lie_about,
                                                        .set_health = set_health,
                                                        MONGODB_FIXTURE};

const struct conform_fixture conform_mongodb_sharded_new = {.name = "mongodb 7.0, two shards",
                                                            .make = make_new,
                                                            .bump_epoch = bump_epoch,
                                                            .lie = lie_about,
                                                            .set_health = set_health,
                                                            MONGODB_FIXTURE};

#endif
