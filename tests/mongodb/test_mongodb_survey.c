/* SPDX-License-Identifier: Apache-2.0 */
/* Survey, strategies of filters, health, commands and status documents, on the stand-in cluster. */
#include "mongodb/survey_help.h"

/* ---- survey ---- */

static void views_and_the_like_are_never_erased(void **state)
{
    (void)state;
    start("5.0.9");
    tell("k", "{'insert': 'plain', 'documents': [{'_id': 1}]}");
    tell("k", "{'create': 'v', 'viewOn': 'plain', 'pipeline': []}");
    tell("k", "{'create': 'ts', 'timeseries': {'timeField': 'at'}}");
    tell("k", "{'create': 'cap', 'capped': true, 'size': 4096}");
    look("{'database': 'k'}");
    assert_string_equal(extra_text("k.v", "kind"), "view");
    assert_true(collection("k.v")->is_view);
    assert_non_null(extra_text("k.v", "why_not"));
    assert_string_equal(extra_text("k.system.views", "kind"), "system");
    assert_true(collection("k.system.views")->is_system);
    assert_string_equal(extra_text("k.ts", "kind"), "timeseries");
    assert_non_null(extra_text("k.ts", "why_not"));
    assert_non_null(collection("k.ts")->warning);
    assert_string_equal(extra_text("k.cap", "kind"), "capped");
    assert_null(extra_text("k.cap", "why_not")); /* 5.0 erases from capped collections */
    assert_null(extra_text("k.plain", "why_not"));
    assert_false(collection("k.plain")->is_view || collection("k.plain")->is_system);
}

static void a_capped_collection_cannot_be_erased_before_5(void **state)
{
    (void)state;
    start("4.0.3");
    tell("k", "{'create': 'cap', 'capped': true, 'size': 4096}");
    look("{'database': 'k'}");
    assert_has(extra_text("k.cap", "why_not"), "5.0");
    assert_has(collection("k.cap")->warning, "capped");
}

static void a_size_that_cannot_be_had_is_a_warning_and_the_chunk_stays(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    tell("admin", "{'standin': 1, 'fault': {'command': 'dataSize', 'skip': 1, 'code': 96, "
                  "'codeName': 'OperationFailed', 'errmsg': 'cannot say'}}");
    look("{'database': 't'}");
    const struct dr_collection *c = collection("t.r");
    assert_int_equal(c->chunk_count, 3);
    assert_true(c->chunk[0].is_rows_known);
    assert_false(c->chunk[1].is_rows_known);
    assert_true(c->chunk[2].is_rows_known);
    assert_int_equal(c->chunk[2].rows, 40);
    assert_has(c->warning, "1 of 3 chunks");
    assert_has(c->warning, "cannot say");
    assert_int_equal(c->rows_total, 100);
}

static void sizes_are_not_asked_for_when_not_wanted(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    look("{'database': 't', 'chunk_sizes': false}");
    const struct dr_collection *c = collection("t.r");
    assert_int_equal(c->chunk_count, 3);
    assert_false(c->chunk[0].is_rows_known);
    assert_int_equal(c->rows_total, 100);
    json_t *counters = ask("admin", "{'standin': 1, 'counters': 1}");
    char *text = json_dumps(counters, 0);
    assert_null(strstr(text, "dataSize"));
    free(text);
    json_decref(counters);
}

static void shards_that_cannot_be_asked_are_told(void **state)
{
    (void)state;
    start("4.0.3");
    tell("t", "{'insert': 'u', 'documents': [{'_id': 1}]}");
    tell("admin", "{'standin': 1, 'deny': ['serverStatus']}");
    look("{'database': 't'}");
    assert_has(collection("t.u")->warning, "serverStatus cannot be read");
    assert_non_null(json_object_get(json_object_get(extra, "unreadable"), "a"));
    struct dr_health health;
    must(dr_store_health(store, "a", &health, &err));
    assert_true(health.is_ok); /* unreadable is no reason to stop, but it was said */
}

static void completed_shards_are_read_back(void **state)
{
    static const char job[] = "{\"database\": \"t\", \"status_database\": \"alcatraz\"}";
    (void)state;
    start("4.0.3");
    make_ranged();
    must(
        dr_store_publish(store, job,
                         "[{\"collection\": \"t.r\", \"node\": \"a\", \"status\": \"completed\", "
                         "\"total\": 60, \"done\": 60, \"steps\": 2, \"steps_done\": 2, \"last\": "
                         "\"[30, 60)\", \"error\": null}, {\"collection\": \"t.r\", \"node\": "
                         "\"b\", \"status\": \"failed\", \"total\": 40, \"done\": 1, \"steps\": 1, "
                         "\"steps_done\": 0, \"last\": null, \"error\": \"x\"}]",
                         &err));
    look("{'database': 't', 'status_database': 'alcatraz'}");
    const json_t *done = json_object_get(extra_of("t.r"), "completed");
    assert_int_equal(json_object_size(done), 1);
    assert_has(json_string_value(json_object_get(done, "a")), "T");
    look("{'database': 't'}");
    assert_null(json_object_get(extra_of("t.r"), "completed"));
}

static void creating_commands_make_the_collection_again(void **state)
{
    (void)state;
    start("4.0.3");
    shard_collection("t", "c", "{'b': 1, 'a': 1}");
    tell("t", "{'createIndexes': 'c', 'indexes': [{'key': {'z': -1, 'y': 1}, 'name': 'zy', "
              "'sparse': true}]}");
    look("{'database': 't'}");
    const struct dr_collection *c = collection("t.c");
    assert_string_equal(c->drop_text, "{\"drop_if_empty\":\"t.c\"}");
    must(dr_store_command(store, "a", c->drop_text, &err));
    uint64_t epoch = 0;
    assert_int_equal(dr_store_epoch(store, "t.c", &epoch, &err), DR_NOT_FOUND);
    must(dr_store_command(store, "a", c->create_text, &err));
    must(dr_store_command(store, "a", c->create_text, &err)); /* and once more changes nothing */
    must(mg_coll_use(impl, "t.c", &err));
    assert_int_equal(impl->coll.kind, MG_SHARDED);
    assert_string_equal(impl->coll.key[0], "b");
    assert_string_equal(impl->coll.key[1], "a");
    look("{'database': 't'}");
    c = collection("t.c");
    bool has_zy = false;
    for (uint32_t i = 0; i < c->index_count; i++) {
        has_zy = has_zy || (strcmp(c->index[i].name, "zy") == 0 && c->index[i].is_partial &&
                            strcmp(c->index[i].field[0], "z") == 0);
    }
    assert_true(has_zy);
}

/* ---- the strategy of a filter ---- */

static void expect_use(const char *name, const char *filter, const char *use, const char *why,
                       uint64_t chunks)
{
    char job[512];
    char ns[64];
    (void)snprintf(job, sizeof job, "{'database': 't', 'collections': ['%s'], 'filter': %s}", name,
                   filter);
    (void)snprintf(ns, sizeof ns, "t.%s", name);
    look(job);
    if (strcmp(filter_text(ns, "use"), use) != 0) {
        fail_msg("%s: %s, because %s; expected %s", filter, filter_text(ns, "use"),
                 filter_text(ns, "why"), use);
    }
    assert_has(filter_text(ns, "why"), why);
    if (collection(ns)->chunk_count != chunks) {
        fail_msg("%s: %" PRIu64 " chunks, expected %" PRIu64, filter, collection(ns)->chunk_count,
                 chunks);
    }
}

static uint64_t matched(const char *ns)
{
    return (uint64_t)json_integer_value(
        json_object_get(json_object_get(extra_of(ns), "filter"), "matched"));
}

static void a_filter_on_the_shard_key_picks_the_chunks_that_can_match(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    expect_use("r", "{'k': 35}", "shard-range", "shard key", 1);
    assert_int_equal(matched("t.r"), 1);
    assert_int_equal(collection("t.r")->rows_matched, 1);
    assert_int_equal(collection("t.r")->rows_total, 100);
    assert_true(collection("t.r")->chunk[0].is_rows_known);
    assert_int_equal(collection("t.r")->chunk[0].rows, 1);
    expect_use("r", "{'k': {'$gte': 30, '$lt': 60}}", "shard-range", "k", 1);
    expect_use("r", "{'k': {'$gt': 30, '$lte': 60}}", "shard-range", "k", 2);
    expect_use("r", "{'k': {'$gte': 29.5, '$lt': 30.5}}", "shard-range", "k", 2);
    expect_use("r", "{'k': {'$in': [1, 99]}}", "shard-range", "k", 2);
    expect_use("r", "{'k': {'$gt': 59}}", "shard-range", "k", 2);
    expect_use("r", "{'$and': [{'k': {'$gt': 60}}, {'s': 1}]}", "shard-range", "k", 1);
    expect_use("r", "{'k': {'$lt': 0}}", "shard-range", "k", 1);
    /* strings live in the last chunk only, numbers below them in any */
    expect_use("r", "{'k': {'$gte': 'a'}}", "shard-range", "k", 1);
    expect_use("r", "{'k': {'$lt': 'a'}}", "shard-range", "k", 1);
    /* null finds missing fields, patterns find more than they say: nothing is pruned by these */
    expect_use("r", "{'k': null}", "broadcast", "does not narrow", 3);
    expect_use("r", "{'k': {'$in': [5, null]}}", "broadcast", "does not narrow", 3);
    expect_use("r", "{'k': {'$gte': {'$minKey': 1}}}", "scan", "does not narrow", 3);
    expect_use("r", "{'k': {'$ne': 5}}", "scan", "does not narrow", 3);
    expect_use("r", "{'$or': [{'k': 5}, {'s': 1}]}", "scan", "does not narrow", 3);
}

static void a_compound_key_prunes_by_its_first_field(void **state)
{
    (void)state;
    start("4.0.3");
    shard_collection("t", "c", "{'a': 1, 'b': 1}");
    tell("admin", "{'split': 't.c', 'middle': {'a': 1, 'b': 100}}");
    tell("admin", "{'split': 't.c', 'middle': {'a': 2, 'b': 0}}");
    expect_use("c", "{'a': 1}", "shard-range", "a", 2);
    expect_use("c", "{'a': 2}", "shard-range", "a", 2); /* (2, MinKey) lies in the middle chunk */
    expect_use("c", "{'a': 3}", "shard-range", "a", 1);
    expect_use("c", "{'a': {'$gte': 2}}", "shard-range", "a", 2);
    expect_use("c", "{'a': {'$gt': 2}}", "shard-range", "a", 1);
    expect_use("c", "{'a': {'$lt': 1}}", "shard-range", "a", 1);
    expect_use("c", "{'a': {'$lte': 1}}", "shard-range", "a", 2);
    expect_use("c", "{'b': 3}", "scan", "does not narrow", 3);
}

static void a_hashed_key_prunes_by_the_hash_of_equalities_only(void **state)
{
    (void)state;
    start("4.0.3");
    shard_collection("t", "h", "{'k': 'hashed'}");
    tell("admin", "{'split': 't.h', 'middle': {'k': {'$numberLong': '4854801880128277513'}}}");
    tell("admin", "{'split': 't.h', 'middle': {'k': {'$numberLong': '4854801880128277514'}}}");
    look("{'database': 't'}");
    uint64_t all = collection("t.h")->chunk_count;
    expect_use("h", "{'k': 0}", "shard-hashed", "hashed shard key", 1);
    const struct dr_chunk *chunk = &collection("t.h")->chunk[0];
    assert_true(chunk->from.part[0].i == INT64_C(4854801880128277513));
    expect_use("h", "{'k': {'$in': [0, 1]}}", "shard-hashed", "hashed", 2);
    /* a double hashes as cut to 0, a decimal that equals it as rounded to 1: both chunks count */
    expect_use("h", "{'k': 0.7}", "shard-hashed", "hashed", 2);
    expect_use("h", "{'k': {'$gt': 0}}", "scan", "does not narrow", all);
    expect_use("h", "{'k': {'$numberDecimal': '0'}}", "scan", "does not narrow", all);
}

static void an_index_serves_where_the_server_would_use_it(void **state)
{
    (void)state;
    start("4.0.3");
    tell("admin", "{'standin': 1, 'fill': {'ns': 't.u', 'count': 50, 'fields': {'s': {'$mod': 10}, "
                  "'p': '$n', 'q': '$n', 'm': '$n'}}}");
    tell("t", "{'createIndexes': 'u', 'indexes': [{'key': {'s': 1}, 'name': 's_1'}, {'key': {'p': "
              "'hashed'}, 'name': 'p_hashed'}, {'key': {'m': 1}, 'name': 'm_1'}]}");
    tell("t", "{'insert': 'u', 'documents': [{'_id': 'many', 'm': [1, 2]}]}");
    expect_use("u", "{'s': 3}", "indexed", "s_1", 1);
    assert_string_equal(filter_text("t.u", "index"), "s_1");
    assert_int_equal(matched("t.u"), 5);
    assert_int_equal(collection("t.u")->chunk[0].rows, 5);
    expect_use("u", "{'_id': 7}", "indexed", "_id_", 1);
    assert_string_equal(filter_text("t.u", "index"), "_id_");
    expect_use("u", "{'p': 3}", "scan", "plain directions", 1);
    assert_true(
        json_is_false(json_object_get(json_object_get(extra_of("t.u"), "filter"), "has_index")));
    expect_use("u", "{'m': 3}", "scan", "array", 1);
    expect_use("u", "{'q': 3}", "scan", "no index", 1);
    assert_null(filter_text("t.u", "index"));
}

static void a_sharded_collection_is_asked_everywhere_only_for_few_matches(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    tell("t", "{'createIndexes': 'r', 'indexes': [{'key': {'rare': 1}, 'name': 'rare_1'}]}");
    expect_use("r", "{'rare': 7}", "broadcast", "rare_1", 3);
    assert_string_equal(filter_text("t.r", "index"), "rare_1");
    expect_use("r", "{'rare': {'$gte': 9}}", "scan", "large part", 3);
    expect_use("r", "{'s': 3}", "scan", "no index", 3);
}

static void a_collation_keeps_texts_from_pruning(void **state)
{
    (void)state;
    start("4.0.3");
    tell("t", "{'create': 'l', 'collation': {'locale': 'en', 'strength': 2}}");
    tell("admin", "{'enableSharding': 't'}");
    tell("t", "{'createIndexes': 'l', 'indexes': [{'key': {'k': 1}, 'name': 'k', 'collation': "
              "{'locale': 'simple'}}]}");
    tell("admin", "{'shardCollection': 't.l', 'key': {'k': 1}, 'collation': {'locale': 'simple'}}");
    tell("admin", "{'split': 't.l', 'middle': {'k': 'a'}}");
    expect_use("l", "{'k': 'B'}", "scan", "does not narrow", 2);
    expect_use("l", "{'k': 5}", "shard-range", "k", 1);
}

/* ---- health ---- */

static void expect_health(const char *node, bool is_ok, const char *reason, uint64_t wait_ms)
{
    struct dr_health health;
    must(dr_store_health(store, node, &health, &err));
    if (health.is_ok != is_ok) {
        fail_msg("%s is %s: %s", node, health.is_ok ? "ok" : "not ok", health.reason);
    }
    assert_int_equal(health.valid_ms, 1000);
    if (!is_ok) {
        assert_has(health.reason, reason);
        assert_true(health.wait_hint_ms == wait_ms);
    }
}

static void each_brake_stops_its_shard_and_lets_go(void **state)
{
    (void)state;
    start("4.4.1");
    make_ranged();
    expect_health("a", true, "", 0);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'lag_s': 30}}");
    expect_health("a", false, "lags by 30", 5000);
    expect_health("b", true, "", 0);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'lag_s': 9}}");
    expect_health("a", true, "", 0);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'flow_lagged': true}}");
    expect_health("a", false, "flow control", 5000);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'flow_lagged': false, 'dirty': 0.21}}");
    expect_health("a", false, "21% of its cache", 5000);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'dirty': 0.19, 'tickets': 120}}");
    expect_health("a", false, "120 of 128", 5000);
    tell("admin", "{'standin': 1, 'set': {'shard': 'a', 'tickets': 100}}");
    expect_health("a", true, "", 0);
    tell("admin", "{'standin': 1, 'set': {'migrating': 't.r'}}");
    expect_health("a", false, "rebalancing: t.r", 7000);
    tell("admin", "{'standin': 1, 'set': {'migrating': null}}");
    expect_health("a", true, "", 0);
    struct dr_health health;
    assert_int_equal(dr_store_health(store, "nowhere", &health, &err), DR_NOT_FOUND);
    assert_false(health.is_ok);
}

/* ---- commands ---- */

static void what_is_so_already_is_done(void **state)
{
    (void)state;
    start("4.0.3");
    for (int i = 0; i < 2; i++) {
        command("{'db': 't', 'command': {'create': 'c'}}\n\n"
                "{'db': 't', 'command': {'createIndexes': 'c', 'indexes': [{'key': {'x': 1}, "
                "'name': 'x_1'}]}}",
                DR_OK);
    }
    for (int i = 0; i < 2; i++) {
        command("{'db': 't', 'command': {'dropIndexes': 'c', 'index': 'x_1'}}", DR_OK);
    }
    for (int i = 0; i < 2; i++) {
        command("{'db': 't', 'command': {'drop': 'c'}}", DR_OK);
    }
    command("{'db': 't', 'command': {'noSuchCommand': 1}}", DR_UNSUPPORTED);
    command("{'db': 't', 'command': {'collMod': 'c'}}", DR_NOT_FOUND);
    command("{'db': 't'}", DR_INPUT);
    command("not json", DR_INPUT);
    command("{'db': 't', 'command': {'drop': {'$oid': 'zz'}}}", DR_INPUT);
}

static void a_filled_collection_is_not_dropped(void **state)
{
    (void)state;
    start("4.0.3");
    make_ranged();
    command("{'drop_if_empty': 't.r'}", DR_REFUSED);
    assert_has(err.msg, "not empty");
    command("{'drop_database_if_empty': 't'}", DR_REFUSED);
    assert_has(err.msg, "r");
    tell("t", "{'delete': 'r', 'deletes': [{'q': {}, 'limit': 0}]}");
    /* documents a shard does not own do not keep an empty collection */
    tell("admin", "{'standin': 1, 'orphan': {'ns': 't.r', 'shard': 'b', 'documents': [{'_id': "
                  "5000, 'k': 1}]}}");
    json_t *layout = ask("admin", "{'standin': 1, 'layout': 't.r'}");
    json_decref(layout);
    command("{'drop_if_empty': 't.r'}", DR_OK);
    command("{'drop_if_empty': 't.r'}", DR_OK);
    command("{'drop_database_if_empty': 't'}", DR_OK);
    command("{'drop_database_if_empty': 't'}", DR_OK);
    command("{'drop_database_if_empty': 'config'}", DR_REFUSED);
    command("{'drop_database_if_empty': 'admin'}", DR_REFUSED);
}

static void no_balance_is_set_and_unset(void **state)
{
    static const char set[] = "{'db': 'config', 'command': {'update': 'collections', 'updates': "
                              "[{'q': {'_id': 't.r'}, 'u': {'$set': {'noBalance': true}}}]}}";
    static const char unset[] = "{'db': 'config', 'command': {'update': 'collections', 'updates': "
                                "[{'q': {'_id': 't.r'}, 'u': {'$unset': {'noBalance': ''}}}]}}";
    (void)state;
    start("4.0.3");
    make_ranged();
    uint64_t epoch = epoch_of("t.r");
    command(set, DR_OK);
    command(set, DR_OK);
    look("{'database': 't'}");
    assert_true(json_is_true(json_object_get(extra_of("t.r"), "no_balance")));
    assert_true(epoch_of("t.r") == epoch);
    command(unset, DR_OK);
    command(unset, DR_OK);
    look("{'database': 't'}");
    assert_true(json_is_false(json_object_get(extra_of("t.r"), "no_balance")));
}

static void a_command_whose_answer_is_lost_is_unknown(void **state)
{
    (void)state;
    start("4.0.3");
    command("{'db': 't', 'command': {'create': 'c'}}", DR_OK);
    tell("admin", "{'standin': 1, 'fault': {'command': 'drop', 'close': 'after'}}");
    command("{'db': 't', 'command': {'drop': 'c'}}", DR_UNKNOWN);
    command("{'db': 't', 'command': {'drop': 'c'}}", DR_OK);
    tell("admin", "{'standin': 1, 'fault': {'command': 'create', 'write_concern_error': true}}");
    command("{'db': 't', 'command': {'create': 'c'}}", DR_UNKNOWN);
    command("{'db': 't', 'command': {'create': 'c'}}", DR_OK);
}

/* ---- status documents ---- */

static json_t *status_documents(void)
{
    json_t *reply = ask("alcatraz", "{'find': 't_decomm_status_tracking', 'sort': {'shard': 1}}");
    json_t *list = json_incref(json_object_get(json_object_get(reply, "cursor"), "firstBatch"));
    json_decref(reply);
    return list;
}

static void there_is_one_status_document_for_each_collection_and_shard(void **state)
{
    static const char job[] = "{\"database\": \"t\", \"status_database\": \"alcatraz\"}";
    static const char first[] =
        "[{\"collection\": \"t.r\", \"node\": \"a\", \"status\": \"in_progress\", \"total\": 60, "
        "\"done\": 30, \"steps\": 2, \"steps_done\": 1, \"last\": \"[0, 30)\", \"error\": null},"
        "{\"collection\": \"t.r\", \"node\": \"b\", \"status\": \"pending\", \"total\": 40, "
        "\"done\": 0, \"steps\": 1, \"steps_done\": 0, \"last\": null, \"error\": null}]";
    static const char then[] =
        "[{\"collection\": \"t.r\", \"node\": \"a\", \"status\": \"failed\", \"total\": 60, "
        "\"done\": 31, \"steps\": 2, \"steps_done\": 1, \"last\": \"[0, 30)\", \"error\": "
        "\"why\"}]";
    (void)state;
    start("4.0.3");
    must(dr_store_publish(store, job, first, &err));
    must(dr_store_publish(store, job, first, &err));
    must(dr_store_publish(store, job, then, &err));
    json_t *list = status_documents();
    assert_int_equal(json_array_size(list), 2);
    const json_t *a = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(a, "collection_name")), "r");
    assert_string_equal(json_string_value(json_object_get(a, "shard")), "a");
    assert_string_equal(json_string_value(json_object_get(a, "status")), "failed");
    assert_string_equal(json_string_value(json_object_get(a, "error")), "why");
    assert_int_equal(json_integer_value(json_object_get(a, "total_documents")), 60);
    assert_int_equal(json_integer_value(json_object_get(a, "total_deleted")), 31);
    assert_int_equal(json_integer_value(json_object_get(a, "chunks_processed")), 1);
    assert_int_equal(json_integer_value(json_object_get(a, "total_chunks")), 2);
    assert_string_equal(json_string_value(json_object_get(a, "last_processed_chunk")), "[0, 30)");
    assert_non_null(json_object_get(a, "last_updated"));
    const json_t *b = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(b, "status")), "pending");
    assert_true(json_is_null(json_object_get(b, "error")));
    json_decref(list);
    must(dr_store_publish(store, "{\"database\": \"t\"}", then, &err)); /* wants none */
    assert_int_equal(dr_store_publish(store, job, "{}", &err), DR_INPUT);
}

static void status_documents_go_where_the_request_says(void **state)
{
    char job[512];
    (void)state;
    start("4.0.3");
    (void)snprintf(job, sizeof job,
                   "{\"database\": \"t\", \"status_database\": \"alcatraz\", \"status_store\": "
                   "\"%s?appname=elsewhere\"}",
                   cluster.uri);
    must(dr_store_publish(
        store, job, "[{\"collection\": \"r\", \"node\": \"a\", \"status\": \"pending\"}]", &err));
    json_t *list = status_documents();
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    (void)snprintf(job, sizeof job,
                   "{\"database\": \"t\", \"status_database\": \"alcatraz\", \"status_store\": "
                   "\"mongodb://u:geheim@127.0.0.1:1/?serverSelectionTimeoutMS=100\"}");
    assert_int_equal(dr_store_publish(store, job,
                                      "[{\"collection\": \"r\", \"node\": \"a\", \"status\": "
                                      "\"pending\"}]",
                                      &err),
                     DR_UNREACHABLE);
    assert_null(strstr(err.msg, "geheim"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(views_and_the_like_are_never_erased),
        T(a_capped_collection_cannot_be_erased_before_5),
        T(a_size_that_cannot_be_had_is_a_warning_and_the_chunk_stays),
        T(sizes_are_not_asked_for_when_not_wanted),
        T(shards_that_cannot_be_asked_are_told),
        T(completed_shards_are_read_back),
        T(creating_commands_make_the_collection_again),
        T(a_filter_on_the_shard_key_picks_the_chunks_that_can_match),
        T(a_compound_key_prunes_by_its_first_field),
        T(a_hashed_key_prunes_by_the_hash_of_equalities_only),
        T(an_index_serves_where_the_server_would_use_it),
        T(a_sharded_collection_is_asked_everywhere_only_for_few_matches),
        T(a_collation_keeps_texts_from_pruning),
        T(each_brake_stops_its_shard_and_lets_go),
        T(what_is_so_already_is_done),
        T(a_filled_collection_is_not_dropped),
        T(no_balance_is_set_and_unset),
        T(a_command_whose_answer_is_lost_is_unknown),
        T(there_is_one_status_document_for_each_collection_and_shard),
        T(status_documents_go_where_the_request_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
