/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the promotion from auto to custom sharding. */
#include "catalog_world.h"

static uint32_t route_number(struct world *w, const char *name, uint64_t number)
{
    struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = number};
    uint32_t shard[2];
    uint32_t count = 0;
    struct dr_err err = {0};
    assert_int_equal(dr_route_point(find(w, name), NULL, &id, true, shard, 2, &count, &err), DR_OK);
    assert_int_equal(count, 1);
    return shard[0];
}

static void every_shard_and_replica_set_gets_the_key(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':5,'replication_factor':2}"), DR_OK);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    const struct dr_collection_info *old = dr_catalog_find(before, "c");
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':'main'}"), DR_OK);
    assert_true(w.changed);
    assert_says(w.message, "shard_number stays 5");
    const struct dr_collection_info *c = find(&w, "c");
    struct dr_shard_key key = text_key("main");
    assert_int_equal(c->method, DR_SHARDING_CUSTOM);
    assert_true(c->is_method_given && c->has_default_key);
    assert_int_equal(dr_shard_key_compare(&c->default_key, &key), 0);
    assert_int_equal(c->shard_number, 5);
    assert_string_equal(c->uuid, old->uuid);
    assert_int_equal(c->shard_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(c->shard[i].id, i); /* not renumbered */
        assert_true(c->shard[i].has_key);
        assert_int_equal(dr_shard_key_compare(&c->shard[i].key, &key), 0);
        assert_int_equal(c->shard[i].replica_count, 2);
        assert_memory_equal(c->shard[i].replica, old->shard[i].replica,
                            2 * sizeof(struct dr_replica));
    }
    assert_int_equal(c->key_ring_count, 1);
    assert_null(dr_collection_ring(c, NULL)); /* the ring without a key is gone */
    assert_ptr_equal(dr_collection_ring(c, &key)->ring, old->key_ring[0].ring);
    assert_int_equal(dr_collection_ring(c, &key)->shard_count, 5);
    assert_int_equal(old->method, DR_SHARDING_AUTO); /* who reads the old state goes on with it */
    assert_string_equal(json_string_value(json_object_get(w.value, "default_shard_key")), "main");
    assert_int_equal(json_integer_value(json_object_get(w.value, "shard_number")), 5);
    dr_catalog_unref(before);
    world_close(&w);
}

/* Also with rings that a restart builds anew from the snapshot. */
static void a_million_ids_keep_their_shard(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    char *text = NULL;
    size_t bytes = 0;
    world_open(&w, 3);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':7}"), DR_OK);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    assert_int_equal(dr_catalog_encode(w.c, &text, &bytes, &err), DR_OK);
    dr_catalog_unref(w.c);
    assert_int_equal(dr_catalog_decode(text, bytes, &w.c, &err), DR_OK);
    dr_free(text);
    struct dr_shard_key key = text_key("default");
    const struct dr_ring *old = dr_catalog_find(before, "c")->key_ring[0].ring;
    const struct dr_ring *new = dr_collection_ring(find(&w, "c"), &key)->ring;
    assert_ptr_not_equal(old, new);
    for (uint64_t i = 0; i < 1000000; i++) {
        struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = i};
        uint64_t hash = dr_point_hash(&id);
        if (dr_ring_owner(old, hash) != dr_ring_owner(new, hash)) {
            fail_msg("id %llu moved", (unsigned long long)i);
        }
    }
    assert_int_equal(route_number(&w, "c", 42),
                     dr_ring_owner(old, dr_point_hash(&(struct dr_point_id){.number = 42})));
    dr_catalog_unref(before);
    world_close(&w);
}

static void repeating_it_changes_nothing_and_another_key_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    char *first = text_of(&w, PROMOTE, "c", "{'default_shard_key':'a'}");
    char *rival = text_of(&w, PROMOTE, "c", "{'default_shard_key':'b'}");
    assert_int_equal(apply(&w, first), DR_OK);
    assert_true(w.changed);
    uint64_t hash = state_hash(w.c);
    assert_int_equal(apply(&w, first), DR_OK); /* the same entry twice in the log */
    assert_false(w.changed);
    assert_says(w.message, "already");
    assert_int_equal(apply(&w, rival), DR_REFUSED); /* proposed at the same time, came second */
    assert_says(w.message, "\"a\"");
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':'a'}"), DR_OK);
    assert_false(w.changed);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_REFUSED); /* "default" is another key */
    assert_true(state_hash(w.c) == hash);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'z'}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':'a'}"), DR_OK);
    assert_false(w.changed); /* nor does it matter what came since */
    dr_free(first);
    dr_free(rival);
    world_close(&w);
}

static void a_number_is_another_key_than_its_digits(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':12}"), DR_OK);
    assert_true(find(&w, "c")->default_key.is_number);
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':'12'}"), DR_REFUSED);
    assert_int_equal(call(&w, PROMOTE, "c", "{'default_shard_key':12}"), DR_OK);
    world_close(&w);
}

static void only_an_auto_collection_is_promoted(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, PROMOTE, "none", NULL), DR_NOT_FOUND);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'default'}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_REFUSED);
    assert_says(w.message, "not in Auto sharding mode");
    assert_int_equal(call(&w, CREATE, "a", "{}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "a", "{'default_shard_key':''}"), DR_INPUT);
    assert_int_equal(call(&w, PROMOTE, "a", "{'default_shard_key':[1]}"), DR_INPUT);
    assert_int_equal(call(&w, PROMOTE, "a", "[]"), DR_INPUT);
    assert_int_equal(find(&w, "a")->method, DR_SHARDING_AUTO);
    world_close(&w);
}

static void transfers_are_in_the_way_wherever_they_come_in_the_log(void **state)
{
    (void)state;
    static const char move[] = "{'move_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':2}}";
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':1}"), DR_OK);
    const char *transfer = find(&w, "c")->shard[0].replica[0].peer_id == 1
                               ? move
                               : "{'move_shard':{'shard_id':0,'from_peer_id':2,'to_peer_id':1}}";
    char *late = text_of(&w, PROMOTE, "c", NULL);
    char *late_move = text_of(&w, CLUSTER, "c", transfer);
    assert_int_equal(apply(&w, late_move), DR_OK);
    assert_int_equal(apply(&w, late), DR_CONFLICT); /* validated again when it is applied */
    assert_says(w.message, "transferred");
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_CONFLICT);
    assert_int_equal(find(&w, "c")->method, DR_SHARDING_AUTO);
    dr_free(late_move);
    late_move = NULL;
    assert_int_equal(
        call(&w, CLUSTER, "c",
             transfer == move
                 ? "{'abort_transfer':{'shard_id':0,'from_peer_id':1,'to_peer_id':2}}"
                 : "{'abort_transfer':{'shard_id':0,'from_peer_id':2,'to_peer_id':1}}"),
        DR_OK);
    late_move = text_of(&w, CLUSTER, "c", transfer);
    assert_int_equal(apply(&w, late), DR_OK);
    assert_int_equal(apply(&w, late_move), DR_OK); /* by shard id: it works after, with the key */
    assert_true(find(&w, "c")->shard[0].has_key && find(&w, "c")->transfer_count == 1);
    dr_free(late);
    dr_free(late_move);
    world_close(&w);
}

static void resharding_is_in_the_way_at_every_stage(void **state)
{
    (void)state;
    static const char *const step[] = {"{'start_resharding':{'direction':'up'}}",
                                       "{'commit_read_hash_ring':{}}",
                                       "{'commit_write_hash_ring':{}}"};
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    char *late = text_of(&w, PROMOTE, "c", NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(call(&w, CLUSTER, "c", step[i]), DR_OK);
        assert_int_equal(apply(&w, late), DR_CONFLICT);
        assert_says(w.message, "resharded");
    }
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_resharding':{}}"), DR_OK);
    assert_int_equal(apply(&w, late), DR_CONFLICT); /* there is a shard it has not seen */
    assert_says(w.message, "other shards");
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    assert_int_equal(find(&w, "c")->shard_count, 3);
    dr_free(late);
    world_close(&w);
}

static void unsettled_replicas_are_in_the_way_and_dead_ones_are_not(void **state)
{
    (void)state;
    static const struct {
        enum dr_replica_state state;
        bool is_settled;
    } row[] = {
        {DR_REPLICA_INITIALIZING, false},
        {DR_REPLICA_RECOVERY, false},
        {DR_REPLICA_PARTIAL_SNAPSHOT, false},
        {DR_REPLICA_MANUAL_RECOVERY, false},
        {DR_REPLICA_ACTIVE_READ, false},
        {DR_REPLICA_DEAD, true},
        {DR_REPLICA_PARTIAL, true},
        {DR_REPLICA_LISTENER, true},
        {DR_REPLICA_ACTIVE, true},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct world w;
        world_open(&w, 2);
        assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3,'replication_factor':2}"), DR_OK);
        char *late = text_of(&w, PROMOTE, "c", NULL);
        assert_int_equal(set_state(&w, "c", 2, 1, row[i].state), DR_OK);
        assert_int_equal(apply(&w, late), row[i].is_settled ? DR_OK : DR_CONFLICT);
        if (!row[i].is_settled) {
            assert_says(w.message, "shard 2 on peer 1");
            assert_says(w.message, dr_replica_state_name(row[i].state));
        }
        dr_free(late);
        world_close(&w);
    }
}

static void an_alias_switched_meanwhile_does_not_redirect_it(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "one", "{}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "two", "{}"), DR_OK);
    assert_int_equal(
        call(&w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'one'}}]}"),
        DR_OK);
    char *late = text_of(&w, PROMOTE, "now", NULL);
    assert_int_equal(
        call(&w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'two'}}]}"),
        DR_OK);
    assert_int_equal(apply(&w, late), DR_OK);
    assert_int_equal(find(&w, "one")->method, DR_SHARDING_CUSTOM);
    assert_int_equal(find(&w, "two")->method, DR_SHARDING_AUTO);
    dr_free(late);
    world_close(&w);
}

static void keys_can_be_made_after_it_and_not_before(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    char *promote = text_of(&w, PROMOTE, "c", NULL);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'t'}"), DR_INPUT);
    assert_int_equal(apply(&w, promote), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'default'}"), DR_EXISTS);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'t'}"), DR_OK);
    const struct dr_collection_info *c = find(&w, "c");
    struct dr_shard_key key = text_key("t");
    assert_int_equal(dr_collection_ring(c, &key)->shard_count, 3); /* shard_number: of each key */
    assert_int_equal(dr_collection_ring(c, &key)->shard_id[0], 3); /* behind those there are */
    dr_free(promote);
    world_close(&w);
}

static void dropping_the_promoted_key_needs_a_word(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'default','confirm':true}"), DR_REFUSED);
    assert_says(w.message, "last");
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'t'}"), DR_OK);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'default'}"), DR_REFUSED);
    assert_says(w.message, "confirm");
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'default','confirm':false}"),
                     DR_REFUSED);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'default','confirm':1}"), DR_INPUT);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'default','confirm':true}"), DR_OK);
    assert_false(find(&w, "c")->has_default_key);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_REFUSED); /* it is no promoted one any more */
    world_close(&w);
}

static void a_peer_that_does_not_know_it_is_waited_for(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(add_peer(&w, 3, 0), DR_OK);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_REFUSED);
    assert_says(w.message, "peer 3");
    assert_int_equal(add_peer(&w, 3, 1), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    world_close(&w);
}

static void a_stock_client_reaches_it_by_the_cluster_call(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    assert_int_equal(
        call(&w, CLUSTER, "c", "{'promote_to_custom_sharding':{'default_shard_key':'k'}}"), DR_OK);
    assert_string_equal(find(&w, "c")->default_key.text, "k");
    assert_int_equal(call(&w, CLUSTER, "c", "{'create_sharding_key':{'shard_key':'x'}}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'drop_sharding_key':{'shard_key':'x'}}"), DR_OK);
    world_close(&w);
}

static void a_damaged_entry_promotes_nothing(void **state)
{
    (void)state;
    static const char *const field[] = {"name", "uuid", "key", "shard_ids"};
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    char *good = text_of(&w, PROMOTE, "c", NULL);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned how = 0; how < 3; how++) {
            struct dr_err err = {0};
            json_t *entry = NULL;
            assert_int_equal(dr_json_parse("entry", good, strlen(good), &entry, &err), DR_OK);
            if (how == 0) {
                (void)json_object_del(entry, field[i]);
            } else if (how == 1) {
                (void)json_object_set_new(entry, field[i], json_real(1.5));
            } else {
                (void)json_object_set_new(entry, "surprise", json_true());
            }
            char *text = dr_json_text(entry);
            assert_int_equal(apply(&w, text), DR_INPUT);
            dr_free(text);
            json_decref(entry);
        }
    }
    assert_int_equal(find(&w, "c")->method, DR_SHARDING_AUTO);
    dr_free(good);
    world_close(&w);
}

/* It would pass over entries about the promoted collection, and fall out of step. */
static void a_peer_too_old_for_a_promoted_collection_is_not_let_in(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    assert_int_equal(add_peer(&w, 9, 0), DR_OK); /* nothing is promoted yet */
    assert_int_equal(remove_peer(&w, 9, false), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", "{}"), DR_OK);
    assert_int_equal(add_peer(&w, 9, 0), DR_REFUSED);
    assert_says(w.message, "peer 9 understands entries up to format 0");
    assert_says(w.message, "`c` is promoted, which needs format 1");
    assert_null(dr_catalog_peer(w.c, 9));
    /* Nor may one that is in come back with an older program. */
    assert_int_equal(add_peer(&w, 2, 0), DR_REFUSED);
    assert_int_equal(dr_catalog_peer(w.c, 2)->format, DR_CATALOG_FORMAT);
    assert_int_equal(add_peer(&w, 9, DR_CATALOG_FORMAT), DR_OK);
    assert_int_equal(call(&w, DELETE, "c", NULL), DR_OK);
    assert_int_equal(add_peer(&w, 8, 0), DR_OK);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shard_and_replica_set_gets_the_key),
        cmocka_unit_test(a_million_ids_keep_their_shard),
        cmocka_unit_test(repeating_it_changes_nothing_and_another_key_is_refused),
        cmocka_unit_test(a_number_is_another_key_than_its_digits),
        cmocka_unit_test(only_an_auto_collection_is_promoted),
        cmocka_unit_test(transfers_are_in_the_way_wherever_they_come_in_the_log),
        cmocka_unit_test(resharding_is_in_the_way_at_every_stage),
        cmocka_unit_test(unsettled_replicas_are_in_the_way_and_dead_ones_are_not),
        cmocka_unit_test(an_alias_switched_meanwhile_does_not_redirect_it),
        cmocka_unit_test(keys_can_be_made_after_it_and_not_before),
        cmocka_unit_test(dropping_the_promoted_key_needs_a_word),
        cmocka_unit_test(a_peer_that_does_not_know_it_is_waited_for),
        cmocka_unit_test(a_peer_too_old_for_a_promoted_collection_is_not_let_in),
        cmocka_unit_test(a_stock_client_reaches_it_by_the_cluster_call),
        cmocka_unit_test(a_damaged_entry_promotes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
