/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of the stand-in cluster: chunks, epochs, moves, connections. */
#include "mongodb/survey_help.h"

/* ---- layout ---- */

static void expect_chunks_of_ranged(void)
{
    look("{'kind': 'mongodb.drop', 'database': 't', 'collections': ['r']}");
    const struct dr_collection *c = collection("t.r");
    assert_int_equal(c->sharding, DR_SHARDED_RANGE);
    assert_int_equal(c->key_count, 1);
    assert_string_equal(c->key[0], "k");
    assert_int_equal(c->chunk_count, 3);
    assert_int_equal(c->chunk[0].from.part[0].type, DR_V_MIN);
    assert_int_equal(c->chunk[0].upto.part[0].i, 30);
    assert_int_equal(c->chunk[1].from.part[0].i, 30);
    assert_int_equal(c->chunk[2].from.part[0].i, 60);
    assert_int_equal(c->chunk[2].upto.part[0].type, DR_V_MAX);
    assert_int_equal(c->chunk[0].rows, 30);
    assert_int_equal(c->chunk[1].rows, 30);
    assert_int_equal(c->chunk[2].rows, 40);
    assert_true(c->chunk[2].is_rows_known && c->chunk[2].bytes > 0);
    assert_int_equal(c->rows_total, 100);
    assert_int_equal(c->rows_matched, 100);
    assert_string_equal(c->chunk[0].node, c->chunk[1].node);
    assert_string_not_equal(c->chunk[0].node, c->chunk[2].node);
    assert_null(c->warning);
    assert_string_equal(extra_text("t.r", "kind"), "sharded");
}

static void chunks_are_found_by_the_name_of_their_collection_up_to_4x(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    expect_chunks_of_ranged();
    assert_int_equal(json_integer_value(json_object_get(extra, "wire")), 7);
    assert_string_equal(json_string_value(json_object_get(extra, "version")), "4.0.3");
    assert_true(json_is_true(json_object_get(extra, "is_router")));
    assert_int_equal(survey->node_count, 2);
    assert_string_equal(survey->node[0], "a");
    must(mg_coll_use(impl, "t.r", &err));
    assert_false(impl->coll.has_uuid);
}

static void chunks_are_found_by_uuid_from_5_on(void **state)
{
    (void)state;
    start("5.0.9");
    make_ranged();
    expect_chunks_of_ranged();
    must(mg_coll_use(impl, "t.r", &err));
    assert_true(impl->coll.has_uuid);
}

static void a_hashed_and_a_compound_key_are_told_apart(void **state)
{
    (void)state;
    start("4.4.1");
    shard_collection("t", "h", "{'k': 'hashed'}");
    shard_collection("t", "c", "{'a.x': 1, 'b': 1}");
    tell("admin", "{'split': 't.c', 'middle': {'a.x': 5, 'b': 'm'}}");
    look("{'database': 't'}");
    const struct dr_collection *h = collection("t.h");
    assert_int_equal(h->sharding, DR_SHARDED_HASHED);
    for (uint64_t i = 1; i < h->chunk_count; i++) {
        assert_int_equal(h->chunk[i].from.part[0].type, DR_V_INT);
        assert_true(dr_bound_compare(&h->chunk[i - 1].upto, &h->chunk[i].from) == 0);
    }
    const struct dr_collection *c = collection("t.c");
    assert_int_equal(c->key_count, 2);
    assert_string_equal(c->key[0], "a.x");
    assert_int_equal(c->chunk_count, 2);
    assert_int_equal(c->chunk[1].from.part[0].i, 5);
    assert_memory_equal(c->chunk[1].from.part[1].data, "m", 1);
}

static void an_unsharded_collection_is_one_chunk_on_its_primary(void **state)
{
    (void)state;
    start("4.0.3");
    tell("u", "{'insert': 'one', 'documents': [{'_id': 1}, {'_id': 2}]}");
    json_t *db = ask("config", "{'find': 'databases', 'filter': {'_id': 'u'}}");
    const char *primary = json_string_value(json_object_get(
        json_array_get(json_object_get(json_object_get(db, "cursor"), "firstBatch"), 0),
        "primary"));
    look("{'database': 'u'}");
    const struct dr_collection *c = collection("u.one");
    assert_int_equal(c->sharding, DR_UNSHARDED);
    assert_int_equal(c->chunk_count, 1);
    assert_string_equal(c->chunk[0].node, primary);
    assert_int_equal(c->chunk[0].from.parts, 0);
    assert_int_equal(c->chunk[0].rows, 2);
    assert_true(c->chunk[0].is_rows_known);
    assert_string_equal(extra_text("u.one", "kind"), "plain");
    json_decref(db);
}

static void what_a_dropped_collection_left_behind_is_ignored(void **state)
{
    (void)state;
    start("4.0.3");
    tell("config", "{'insert': 'collections', 'documents': [{'_id': 't.gone', 'dropped': true, "
                   "'key': {'k': 1}, 'lastmodEpoch': {'$oid': '507f1f77bcf86cd799439011'}}]}");
    tell("t", "{'insert': 'gone', 'documents': [{'_id': 1}]}");
    look("{'database': 't'}");
    assert_int_equal(collection("t.gone")->sharding, DR_UNSHARDED);
    assert_int_equal(collection("t.gone")->rows_total, 1);
    tell("t", "{'drop': 'gone'}");
    uint64_t epoch = 0;
    assert_int_equal(dr_store_epoch(store, "t.gone", &epoch, &err), DR_NOT_FOUND);
}

static void a_database_that_is_not_there_is_not_found(void **state)
{
    (void)state;
    start("4.0.3");
    struct dr_survey *none = NULL;
    assert_int_equal(dr_store_survey_spec(store, "{\"database\": \"nil\"}", &none, &err),
                     DR_NOT_FOUND);
    assert_null(none);
    assert_has(err.msg, "nil");
}

static void check_epochs(const char *version)
{
    start(version);
    make_ranged();
    uint64_t first = epoch_of("t.r");
    assert_true(epoch_of("t.r") == first); /* nothing happened */
    tell("t", "{'insert': 'r', 'documents': [{'_id': 1000, 'k': 5}]}");
    assert_true(epoch_of("t.r") == first);
    tell("admin", "{'split': 't.r', 'middle': {'k': 80}}");
    uint64_t split = epoch_of("t.r");
    assert_true(split != first);
    must(mg_coll_use(impl, "t.r", &err));
    tell("admin", "{'moveChunk': 't.r', 'find': {'k': 5}, 'to': '%s'}", "b");
    tell("admin", "{'moveChunk': 't.r', 'find': {'k': 5}, 'to': '%s'}", "a");
    uint64_t moved = epoch_of("t.r");
    assert_true(moved != split && moved != first);
    tell("t", "{'drop': 'r'}");
    shard_collection("t", "r", "{'k': 1}");
    uint64_t anew = epoch_of("t.r");
    assert_true(anew != moved && anew != split && anew != first);
}

static void the_epoch_changes_with_every_split_move_and_drop(void **state)
{
    (void)state;
    check_epochs("4.0.3");
    (void)stop(NULL);
    check_epochs("5.0.9");
}

static void the_epoch_of_an_unsharded_collection_changes_when_it_is_made_anew(void **state)
{
    (void)state;
    start("4.0.3");
    tell("t", "{'insert': 'u', 'documents': [{'_id': 1}]}");
    uint64_t first = epoch_of("t.u");
    assert_true(epoch_of("t.u") == first);
    tell("t", "{'drop': 'u'}");
    tell("t", "{'insert': 'u', 'documents': [{'_id': 1}]}");
    assert_true(epoch_of("t.u") != first);
    uint64_t second = epoch_of("t.u");
    shard_collection("t", "u", "{'_id': 1}");
    assert_true(epoch_of("t.u") != second);
}

static void a_range_says_on_how_many_shards_it_lies(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    must(mg_coll_use(impl, "t.r", &err));
    struct dr_range r = {.collection = "t.r",
                         .access = DR_BY_SHARD_RANGE,
                         .key_count = 1,
                         .key = {"k"},
                         .from = {.parts = 1, .part = {{.type = DR_V_INT, .i = 0}}},
                         .upto = {.parts = 1, .part = {{.type = DR_V_INT, .i = 60}}}};
    uint32_t count = 0;
    must(mg_shards_of_range(impl, &r, &count, &err));
    assert_int_equal(count, 1); /* the chunk that begins at 60 is not touched */
    r.upto.part[0].i = 61;
    must(mg_shards_of_range(impl, &r, &count, &err));
    assert_int_equal(count, 2);
    r.from.part[0].i = 60;
    must(mg_shards_of_range(impl, &r, &count, &err));
    assert_int_equal(count, 1);
    must(mg_check_key(&impl->coll, &r, &err));
    r.key[0] = "other";
    assert_int_equal(mg_check_key(&impl->coll, &r, &err), DR_CONFLICT);
    r.key[0] = "k";
    r.access = DR_BY_SHARD_HASHED;
    assert_int_equal(mg_check_key(&impl->coll, &r, &err), DR_CONFLICT);
    assert_has(err.msg, "anew");
}

/* ---- moving ---- */

static bool is_moving(const char *ns, const char *shard, char *what, size_t what_bytes)
{
    bool is = false;
    must(mg_is_moving(impl, ns, shard, &is, what, what_bytes, &err));
    return is;
}

static void check_moving(const char *version)
{
    char what[200];
    start(version);
    make_ranged();
    shard_collection("t", "other", "{'k': 1}");
    assert_false(is_moving(NULL, NULL, what, sizeof what));
    tell("admin", "{'standin': 1, 'set': {'balancer': {'mode': 'full', 'round': true}}}");
    assert_false(is_moving(NULL, NULL, what, sizeof what)); /* a round is no move */
    look("{'database': 't'}");
    assert_true(json_is_true(json_object_get(json_object_get(extra, "balancer"), "is_running")));
    assert_int_equal(json_array_size(json_object_get(json_object_get(extra, "balancer"), "moving")),
                     0);
    tell("admin", "{'standin': 1, 'set': {'migrating': 't.other'}}");
    assert_true(is_moving("t.other", NULL, what, sizeof what));
    assert_has(what, "t.other");
    assert_true(is_moving(NULL, NULL, what, sizeof what));
    assert_false(is_moving("t.nothing", NULL, what, sizeof what));
    look("{'database': 't'}");
    const json_t *moving = json_object_get(json_object_get(extra, "balancer"), "moving");
    assert_true(json_array_size(moving) > 0);
    assert_has(json_string_value(json_array_get(moving, 0)), "t.other: chunk moves");
    tell("admin", "{'standin': 1, 'set': {'migrating': null}}");
    assert_false(is_moving("t.other", NULL, what, sizeof what));
}

static void a_running_move_is_seen_and_a_running_round_is_none(void **state)
{
    (void)state;
    check_moving("4.0.3");
    (void)stop(NULL);
    check_moving("5.0.9");
}

/* Each means alone: the others are taken away. */
static void a_move_is_seen_by_each_means_alone(void **state)
{
    char what[200];
    (void)state;
    start("4.0.3");
    tell("config", "{'insert': 'locks', 'documents': [{'_id': 't.l', 'state': 2, 'why': 'Migrating "
                   "chunk(s) in collection t.l'}, {'_id': 't.d', 'state': 2, 'why': "
                   "'dropCollection'}, {'_id': 't.free', 'state': 0, 'why': 'Migrating chunk(s) in "
                   "collection t.free'}]}");
    assert_true(is_moving("t.l", NULL, what, sizeof what));
    assert_has(what, "config.locks");
    assert_false(is_moving("t.d", NULL, what, sizeof what));
    assert_false(is_moving("t.free", NULL, what, sizeof what));
    tell("config", "{'delete': 'locks', 'deletes': [{'q': {'_id': 't.l'}, 'limit': 1}]}");
    tell("config", "{'insert': 'migrations', 'documents': [{'_id': 'm', 'ns': 't.m', 'fromShard': "
                   "'a', 'toShard': 'x'}]}");
    assert_true(is_moving("t.m", NULL, what, sizeof what));
    assert_has(what, "config.migrations");
    assert_true(is_moving(NULL, "a", what, sizeof what));
    assert_true(is_moving("t.none", "a", what, sizeof what));
    assert_false(is_moving(NULL, "b", what, sizeof what));
}

static void missing_rights_are_told_and_are_no_no(void **state)
{
    char what[300];
    bool is = true;
    (void)state;
    start("4.0.3");
    tell("admin", "{'standin': 1, 'deny': ['find config.migrations']}");
    assert_int_equal(mg_is_moving(impl, NULL, NULL, &is, what, sizeof what, &err), DR_DENIED);
    assert_has(err.msg, "migrations");
    assert_has(err.msg, "roles");
    struct dr_health health;
    assert_int_equal(dr_store_health(store, "a", &health, &err), DR_DENIED);
    assert_false(health.is_ok);
    tell("admin", "{'standin': 1, 'deny': ['find config.locks']}");
    assert_int_equal(mg_is_moving(impl, NULL, NULL, &is, what, sizeof what, &err), DR_DENIED);
    tell("admin", "{'standin': 1, 'deny': ['currentOp', 'balancerStatus']}");
    must(mg_is_moving(impl, NULL, NULL, &is, what, sizeof what, &err));
    assert_false(is);
    assert_has(what, "currentOp is not permitted");
    tell("t", "{'insert': 'u', 'documents': [{'_id': 1}]}");
    look("{'database': 't'}");
    const json_t *balancer = json_object_get(extra, "balancer");
    assert_string_equal(json_string_value(json_object_get(balancer, "mode")), "unknown");
    assert_has(json_string_value(json_object_get(balancer, "note")), "balancerStatus");
    uint64_t epoch = 0;
    tell("admin", "{'standin': 1, 'deny': ['find config.collections']}");
    assert_int_equal(dr_store_epoch(store, "t.u", &epoch, &err), DR_DENIED);
}

/* ---- opening ---- */

static void metadata_may_be_read_from_an_address_of_its_own(void **state)
{
    char options[512];
    (void)state;
    start_cluster("4.0.3");
    (void)snprintf(
        options, sizeof options,
        "?drover.configUri=mongodb%%3A%%2F%%2F127.0.0.1%%3A%d%%2F&drover.configDb=config",
        cluster.port);
    open_store(options);
    assert_ptr_not_equal(impl->config, impl->client);
    make_ranged();
    expect_chunks_of_ranged();
}

static void reads_go_to_primaries_and_writes_are_confirmed_by_the_majority(void **state)
{
    (void)state;
    start_cluster("4.0.3");
    open_store("?readPreference=secondary");
    assert_int_equal(mongoc_read_prefs_get_mode(mongoc_client_get_read_prefs(impl->client)),
                     MONGOC_READ_PRIMARY);
    command("{'db': 't', 'command': {'create': 'c'}}", DR_OK);
    json_t *last = ask("admin", "{'standin': 1, 'last': 'create'}");
    char *text = json_dumps(last, 0);
    assert_has(text, "majority");
    free(text);
    json_decref(last);
}

static void a_replica_set_is_one_node_with_its_own_name(void **state)
{
    void *opened = NULL;
    char what[64];
    bool is = true;
    (void)state;
    start_cluster("4.0.3");
    must(dr_store_mongodb_ops()->open(cluster.shard_uri[0], &opened, &err));
    impl = opened;
    assert_false(impl->is_router);
    assert_int_equal(impl->shard_count, 1);
    assert_string_equal(impl->shard[0].name, "a");
    must(mg_is_moving(impl, NULL, NULL, &is, what, sizeof what, &err));
    assert_false(is);
    struct dr_health health;
    must(mg_health(impl, "a", &health, &err));
    assert_true(health.is_ok);
}

/* Its own server says whose shard it is; there orphaned documents show. */
static void a_shard_past_its_router_is_refused(void **state)
{
    void *opened = NULL;
    bson_t reply;
    bson_error_t e;
    (void)state;
    start_cluster("4.0.3");
    mongoc_client_t *shard = mongoc_client_new(cluster.shard_uri[0]);
    bson_t *insert = BCON_NEW("insert", BCON_UTF8("system.version"), "documents", "[", "{", "_id",
                              BCON_UTF8("shardIdentity"), "shardName", BCON_UTF8("a"), "}", "]");
    assert_true(mongoc_client_command_simple(shard, "admin", insert, NULL, &reply, &e));
    bson_destroy(insert);
    bson_destroy(&reply);
    mongoc_client_destroy(shard);
    assert_int_equal(dr_store_mongodb_ops()->open(cluster.shard_uri[0], &opened, &err), DR_REFUSED);
    assert_has(err.msg, "router");
    assert_null(opened);
}

static void memory_that_runs_short_ends_a_survey_cleanly(void **state)
{
    static const char job[] = "{\"database\": \"t\", \"filter\": {\"k\": {\"$gt\": 5}}, "
                              "\"status_database\": \"alcatraz\", \"collections\": [\"r\"]}";
    (void)state;
    start("4.0.3");
    make_ranged();
    enum dr_code rc = DR_NOMEM;
    uint64_t n = 1;
    for (; n < 1000 && rc == DR_NOMEM; n++) {
        (void)dr_mem_fail_at(n);
        rc = dr_store_survey_spec(store, job, &survey, &err);
        (void)dr_mem_fail_at(0);
    }
    must(rc);
    assert_true(n > 5); /* arenas ask for little */
    assert_int_equal(survey->collection[0].chunk_count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(chunks_are_found_by_the_name_of_their_collection_up_to_4x),
        T(chunks_are_found_by_uuid_from_5_on),
        T(a_hashed_and_a_compound_key_are_told_apart),
        T(an_unsharded_collection_is_one_chunk_on_its_primary),
        T(what_a_dropped_collection_left_behind_is_ignored),
        T(a_database_that_is_not_there_is_not_found),
        T(the_epoch_changes_with_every_split_move_and_drop),
        T(the_epoch_of_an_unsharded_collection_changes_when_it_is_made_anew),
        T(a_range_says_on_how_many_shards_it_lies),
        T(a_running_move_is_seen_and_a_running_round_is_none),
        T(a_move_is_seen_by_each_means_alone),
        T(missing_rights_are_told_and_are_no_no),
        T(metadata_may_be_read_from_an_address_of_its_own),
        T(reads_go_to_primaries_and_writes_are_confirmed_by_the_majority),
        T(a_replica_set_is_one_node_with_its_own_name),
        T(a_shard_past_its_router_is_refused),
        T(memory_that_runs_short_ends_a_survey_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
