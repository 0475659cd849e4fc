/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of applying entries: collections, aliases, shard keys, peers, and what no entry may
 * do. Replicas and resharding: test_replicas.c; promotion: test_promote.c. */
#include "catalog_world.h"

static void a_new_auto_collection_is_spread_over_the_peers(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3);
    assert_int_equal(
        call(&w, CREATE, "c", "{'shard_number':6,'replication_factor':2,'vectors':{'size':4}}"),
        DR_OK);
    const struct dr_collection_info *c = find(&w, "c");
    assert_int_equal(c->method, DR_SHARDING_AUTO);
    assert_false(c->is_method_given);
    assert_int_equal(c->shard_count, 6);
    unsigned held[4] = {0};
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(c->shard[i].id, i);
        assert_false(c->shard[i].has_key);
        assert_int_equal(c->shard[i].replica_count, 2);
        assert_true(c->shard[i].replica[0].peer_id < c->shard[i].replica[1].peer_id);
        held[c->shard[i].replica[0].peer_id]++;
        held[c->shard[i].replica[1].peer_id]++;
    }
    assert_true(held[1] == 4 && held[2] == 4 && held[3] == 4);
    assert_int_equal(c->key_ring_count, 1);
    assert_int_equal(dr_ring_shard_count(c->key_ring[0].ring), 6);
    assert_null(c->key_ring[0].next);
    assert_int_equal(json_integer_value(json_object_get(c->vectors, "size")), 4);
    assert_true(c->changed_at_index == w.index);
    world_close(&w);
}

static void there_are_never_more_replicas_than_peers(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'replication_factor':5}"), DR_OK);
    assert_int_equal(find(&w, "c")->shard_count, 2); /* as many as peers, when nothing is said */
    assert_int_equal(find(&w, "c")->shard[0].replica_count, 2);
    assert_int_equal(find(&w, "c")->replication_factor, 5);
    world_close(&w);
}

static void a_new_shard_goes_to_who_holds_least(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "a", "{'shard_number':4}"), DR_OK);
    assert_int_equal(add_peer(&w, 3, 1), DR_OK);
    assert_int_equal(call(&w, CREATE, "b", "{'shard_number':1}"), DR_OK);
    assert_true(find(&w, "b")->shard[0].replica[0].peer_id == 3);
    world_close(&w);
}

static void parameters_nobody_knows_are_kept(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c",
                          "{'on_disk_payload':true,'hnsw_config':{'m':16},'vectors':null,"
                          "'sharding_method':'custom'}"),
                     DR_OK);
    const struct dr_collection_info *c = find(&w, "c");
    assert_null(c->vectors);
    assert_true(json_is_true(json_object_get(c->metadata, "on_disk_payload")));
    assert_true(c->is_method_given && c->method == DR_SHARDING_CUSTOM);
    assert_int_equal(c->shard_count, 0);
    assert_int_equal(c->key_ring_count, 0);
    assert_int_equal(
        call(&w, UPDATE, "c",
             "{'params':{'replication_factor':3,'on_disk_payload':null},'strict_mode_config':{}}"),
        DR_OK);
    c = find(&w, "c");
    assert_int_equal(c->replication_factor, 3);
    assert_null(json_object_get(c->metadata, "on_disk_payload"));
    assert_non_null(json_object_get(c->metadata, "hnsw_config"));
    assert_non_null(json_object_get(c->metadata, "strict_mode_config"));
    assert_int_equal(call(&w, UPDATE, "c", "{'params':{'replication_factor':3}}"), DR_OK);
    assert_false(w.changed);
    world_close(&w);
}

static void wrong_bodies_are_refused_by_the_maker(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]",
        "{'shard_number':0}",
        "{'shard_number':'3'}",
        "{'shard_number':100001}",
        "{'replication_factor':0}",
        "{'write_consistency_factor':-1}",
        "{'sharding_method':'both'}",
        "{'sharding_method':1}",
    };
    static const char *const bad_name[] = {"", ".", "..", "a/b", "a\\b", "a\"b", "a\nb", "a|b"};
    struct world w;
    world_open(&w, 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(call(&w, CREATE, "c", bad[i]), DR_INPUT);
    }
    for (size_t i = 0; i < sizeof bad_name / sizeof bad_name[0]; i++) {
        assert_int_equal(call(&w, CREATE, bad_name[i], "{}"), DR_INPUT);
    }
    assert_int_equal(dr_catalog_collection_count(w.c), 0);
    world_close(&w);
    world_open(&w, 0);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_REFUSED);
    assert_says(w.message, "no peer");
    world_close(&w);
}

static void a_name_is_taken_once(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    char *first = text_of(&w, CREATE, "c", "{}");
    w.index++;
    char *second = text_of(&w, CREATE, "c", "{}"); /* proposed at the same time */
    assert_int_equal(apply(&w, first), DR_OK);
    assert_int_equal(apply(&w, first), DR_OK); /* the same again is no mistake */
    assert_false(w.changed);
    assert_int_equal(apply(&w, second), DR_EXISTS);
    assert_says(w.message, "already exists!");
    dr_free(first);
    dr_free(second);
    world_close(&w);
}

static void what_was_asked_of_one_collection_is_not_done_to_its_successor(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    char *late[] = {
        text_of(&w, DELETE, "c", NULL),
        text_of(&w, UPDATE, "c", "{'params':{'replication_factor':2}}"),
        text_of(&w, PROMOTE, "c", NULL),
    };
    assert_int_equal(call(&w, DELETE, "c", NULL), DR_OK);
    assert_true(json_is_true(w.value));
    assert_int_equal(apply(&w, late[1]), DR_NOT_FOUND);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(apply(&w, late[i]), DR_CONFLICT);
        assert_says(w.message, "again");
        dr_free(late[i]);
    }
    assert_int_equal(find(&w, "c")->method, DR_SHARDING_AUTO);
    world_close(&w);
}

static void deleting_what_is_not_there_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, DELETE, "none", NULL), DR_OK);
    assert_false(w.changed);
    assert_true(json_is_false(w.value));
    char *nothing = text_of(&w, DELETE, "c", NULL); /* and never deletes what came since */
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    assert_int_equal(apply(&w, nothing), DR_CONFLICT);
    dr_free(nothing);
    world_close(&w);
}

static void aliases_change_together_or_not_at_all(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "one", "{}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "two", "{}"), DR_OK);
    assert_int_equal(call(&w, ALIASES, NULL,
                          "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'one'}"
                          "}]}"),
                     DR_OK);
    assert_string_equal(find(&w, "now")->name, "one");
    assert_int_equal(
        call(&w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'two'}},"
             "{'delete_alias':{'alias_name':'never'}}]}"),
        DR_NOT_FOUND);
    assert_string_equal(find(&w, "now")->name, "one");
    assert_int_equal(
        call(&w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'now','collection_name':'two'}},"
             "{'rename_alias':{'old_alias_name':'now','new_alias_name':'then'}}]}"),
        DR_OK);
    assert_null(dr_catalog_find(w.c, "now"));
    assert_string_equal(find(&w, "then")->name, "two");
    assert_int_equal(call(&w, CREATE, "then", "{}"), DR_INPUT);
    assert_int_equal(
        call(&w, ALIASES, NULL,
             "{'actions':[{'create_alias':{'alias_name':'one','collection_name':'two'}}]}"),
        DR_EXISTS);
    assert_int_equal(call(&w, DELETE, "then", NULL), DR_REFUSED); /* an alias does not delete */
    assert_int_equal(call(&w, DELETE, "two", NULL), DR_OK);
    assert_int_equal(dr_catalog_alias_count(w.c), 0); /* its alias went with it */
    world_close(&w);
}

static void an_alias_made_for_a_deleted_collection_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    char *late = text_of(&w, ALIASES, NULL,
                         "{'actions':[{'create_alias':{'alias_name':'a','collection_name':'c'}}]}");
    assert_int_equal(call(&w, DELETE, "c", NULL), DR_OK);
    assert_int_equal(call(&w, CREATE, "c", "{}"), DR_OK);
    assert_int_equal(apply(&w, late), DR_NOT_FOUND);
    dr_free(late);
    world_close(&w);
}

static void keys_get_shards_of_their_own(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom','shard_number':2}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'eu'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c",
                          "{'shard_key':7,'shards_number':1,'placement':[2],'initial_state':"
                          "'Partial'}"),
                     DR_OK);
    const struct dr_collection_info *c = find(&w, "c");
    assert_int_equal(c->key_ring_count, 2);
    assert_true(c->key_ring[0].key.is_number && c->key_ring[0].key.number == 7);
    struct dr_shard_key eu = text_key("eu");
    const struct dr_key_ring *ring = dr_collection_ring(c, &eu);
    assert_int_equal(ring->shard_count, 2);
    assert_int_equal(ring->shard_id[0], 1); /* native custom ids begin at 1 */
    assert_int_equal(ring->shard_id[1], 2);
    assert_int_equal(replica_state(&w, "c", 3, 2), DR_REPLICA_PARTIAL);
    assert_null(dr_collection_ring(c, NULL));
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'eu'}"), DR_EXISTS);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'7'}"), DR_OK); /* another key */
    assert_int_equal(find(&w, "c")->key_ring_count, 3);
    world_close(&w);
}

static void wrong_keys_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{'shard_key':''}",
        "{'shard_key':-1}",
        "{'shard_key':'a','placement':[]}",
        "{'shard_key':'a','placement':[9]}",
        "{'shard_key':'a','placement':[1,1]}",
        "{'shard_key':'a','initial_state':'Dead'}",
        "{'shard_key':'a','shards_number':0}",
    };
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "auto", "{}"), DR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(call(&w, CREATE_KEY, "c", bad[i]), DR_INPUT);
    }
    assert_int_equal(call(&w, CREATE_KEY, "auto", "{'shard_key':'a'}"), DR_INPUT);
    assert_says(w.message, "Auto sharding method");
    assert_int_equal(call(&w, CREATE_KEY, "none", "{'shard_key':'a'}"), DR_NOT_FOUND);
    assert_int_equal(call(&w, DROP_KEY, "auto", "{'shard_key':'a'}"), DR_INPUT);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'a'}"), DR_INPUT);
    world_close(&w);
}

static void the_last_key_stays_and_ids_are_never_used_again(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'a'}"), DR_OK);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'a'}"), DR_REFUSED);
    assert_says(w.message, "last");
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'b'}"), DR_OK);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'b'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'b'}"), DR_OK);
    assert_null(dr_collection_shard(find(&w, "c"), 2));
    assert_non_null(dr_collection_shard(find(&w, "c"), 3));
    world_close(&w);
}

static void custom_never_becomes_auto(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "a", "{}"), DR_OK);
    assert_int_equal(call(&w, UPDATE, "c", "{'params':{'sharding_method':'auto'}}"), DR_REFUSED);
    assert_says(w.message, "one-way");
    assert_int_equal(call(&w, UPDATE, "c", "{'sharding_method':'auto'}"), DR_REFUSED);
    assert_int_equal(call(&w, UPDATE, "c", "{'params':{'sharding_method':'custom'}}"), DR_OK);
    assert_int_equal(call(&w, UPDATE, "a", "{'params':{'sharding_method':'custom'}}"), DR_REFUSED);
    assert_says(w.message, "promot");
    assert_int_equal(call(&w, UPDATE, "a", "{'params':{'shard_number':9}}"), DR_REFUSED);
    world_close(&w);
}

static void entries_of_tomorrow_do_nothing_and_say_so(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "{'v':3,'op':'create_collection'}",
        "{'v':1,'op':'teleport','name':'c'}",
        "{'v':99999,'op':'teleport'}",
    };
    static const char *const broken[] = {"{'v':1}",
                                         "{'op':'nop'}",
                                         "[]",
                                         "7",
                                         "{'v':'1','op':'nop'}",
                                         "{'v':0,'op':'nop'}",
                                         "{'v':1,'op':'nop','more':1}",
                                         "{'v':1,'op':'delete_collection'}"};
    struct world w;
    world_open(&w, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(apply_quoted(&w, unknown[i]), DR_UNSUPPORTED);
    }
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_int_equal(apply_quoted(&w, broken[i]), DR_INPUT);
    }
    assert_int_equal(apply(&w, "{\"v\":1,"), DR_INPUT);
    assert_int_equal(apply(&w, ""), DR_INPUT);
    assert_int_equal(apply_quoted(&w, "{'v':1,'op':'nop'}"), DR_OK);
    assert_false(w.changed);
    world_close(&w);
}

static void entries_are_bounded(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    size_t bytes = (size_t)DR_ENTRY_BYTES_MAX + 16;
    char *text = dr_malloc(bytes + 1);
    memset(text, ' ', bytes);
    memcpy(text, "{\"v\":1,\"op\":\"nop\"}", 18);
    text[bytes] = '\0';
    assert_int_equal(apply(&w, text), DR_INPUT);
    dr_free(text);
    world_close(&w);
}

static void peers_announce_themselves(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    assert_false(dr_catalog_all_understand(w.c, 1)); /* nobody said anything */
    assert_int_equal(add_peer(&w, 5, 0), DR_OK);
    assert_int_equal(add_peer(&w, 2, 1), DR_OK);
    assert_false(dr_catalog_all_understand(w.c, 1));
    assert_int_equal(add_peer(&w, 5, 1), DR_OK);
    assert_true(dr_catalog_all_understand(w.c, 1));
    assert_false(dr_catalog_all_understand(w.c, 2));
    assert_int_equal(add_peer(&w, 5, 1), DR_OK);
    assert_false(w.changed);
    assert_int_equal(dr_catalog_peer_count(w.c), 2);
    assert_true(dr_catalog_peer_at(w.c, 0)->id == 2);
    assert_string_equal(dr_catalog_peer(w.c, 5)->uri, "http://127.0.0.1:6005/");
    assert_null(dr_catalog_peer(w.c, 3));
    assert_int_equal(remove_peer(&w, 3, false), DR_NOT_FOUND);
    /* What a removed peer still says of itself does not list it again. */
    struct dr_peer gone = {.id = 3, .format = 1, .uri = "http://127.0.0.1:6003", .version = "9"};
    struct dr_err news_err = {0};
    char *news = NULL;
    enum dr_code news_rc = dr_entry_peer_news(&gone, &news, &news_err);
    assert_int_equal(made(&w, news_rc, news, &news_err), DR_NOT_FOUND);
    assert_null(dr_catalog_peer(w.c, 3));
    assert_int_equal(remove_peer(&w, 2, false), DR_OK);
    assert_int_equal(dr_catalog_peer_count(w.c), 1);
    world_close(&w);
}

static void untouched_collections_are_shared_between_states(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "a", "{}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "b", "{}"), DR_OK);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    const struct dr_collection_info *a = dr_catalog_find(before, "a");
    const struct dr_collection_info *b = dr_catalog_find(before, "b");
    assert_int_equal(call(&w, UPDATE, "b", "{'params':{'replication_factor':2}}"), DR_OK);
    assert_ptr_equal(find(&w, "a"), a);
    assert_ptr_not_equal(find(&w, "b"), b);
    assert_int_equal(b->replication_factor, 1); /* the old state is as it was */
    assert_ptr_equal(find(&w, "b")->key_ring[0].ring, b->key_ring[0].ring);
    world_close(&w);
    assert_string_equal(a->name, "a"); /* and outlives the new one */
    dr_catalog_unref(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_auto_collection_is_spread_over_the_peers),
        cmocka_unit_test(there_are_never_more_replicas_than_peers),
        cmocka_unit_test(a_new_shard_goes_to_who_holds_least),
        cmocka_unit_test(parameters_nobody_knows_are_kept),
        cmocka_unit_test(wrong_bodies_are_refused_by_the_maker),
        cmocka_unit_test(a_name_is_taken_once),
        cmocka_unit_test(what_was_asked_of_one_collection_is_not_done_to_its_successor),
        cmocka_unit_test(deleting_what_is_not_there_changes_nothing),
        cmocka_unit_test(aliases_change_together_or_not_at_all),
        cmocka_unit_test(an_alias_made_for_a_deleted_collection_is_refused),
        cmocka_unit_test(keys_get_shards_of_their_own),
        cmocka_unit_test(wrong_keys_are_refused),
        cmocka_unit_test(the_last_key_stays_and_ids_are_never_used_again),
        cmocka_unit_test(custom_never_becomes_auto),
        cmocka_unit_test(entries_of_tomorrow_do_nothing_and_say_so),
        cmocka_unit_test(entries_are_bounded),
        cmocka_unit_test(peers_announce_themselves),
        cmocka_unit_test(untouched_collections_are_shared_between_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
