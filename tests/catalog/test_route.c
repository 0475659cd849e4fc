/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of routing: which shards a request goes to, with a key, without one, with several,
 * and during a resharding. */
#include "catalog_world.h"

enum { ROOM = 64 };

struct answer {
    enum dr_code code;
    uint32_t shard[ROOM];
    uint32_t count;
    char message[1024];
};

static struct answer route(struct world *w, const char *selector, bool is_write, bool is_all,
                           uint64_t number)
{
    struct answer a = {0};
    struct dr_selector s;
    struct dr_err err = {0};
    struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = number};
    json_t *j = selector == NULL ? NULL : quoted(selector);
    struct dr_arena *arena = dr_arena_create(1024);
    a.code = dr_selector_from_json(j, arena, &s, &err);
    if (a.code == DR_OK) {
        a.code =
            is_all ? dr_route_all(find(w, "c"), &s, is_write, a.shard, ROOM, &a.count, &err)
                   : dr_route_point(find(w, "c"), &s, &id, is_write, a.shard, ROOM, &a.count, &err);
    }
    (void)snprintf(a.message, sizeof a.message, "%s", err.msg);
    if (a.code != DR_OK) {
        assert_int_equal(a.count, 0);
        assert_true(a.message[0] != '\0');
    }
    dr_arena_destroy(arena);
    json_decref(j);
    return a;
}

static struct answer route_point(struct world *w, const char *selector, bool is_write)
{
    return route(w, selector, is_write, false, 42);
}

static struct answer route_all(struct world *w, const char *selector, bool is_write)
{
    return route(w, selector, is_write, true, 0);
}

static void an_auto_collection_has_one_way(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    static const uint32_t owner[] = {2, 2, 2, 2, 2, 0, 2, 2, 0, 1}; /* of the published table */
    for (uint64_t i = 0; i < 10; i++) {
        struct answer a = route(&w, NULL, i % 2 == 0, false, i);
        assert_int_equal(a.code, DR_OK);
        assert_int_equal(a.count, 1);
        assert_int_equal(a.shard[0], owner[i]);
    }
    assert_int_equal(route_all(&w, NULL, false).count, 3);
    assert_int_equal(route_all(&w, NULL, true).count, 3);
    struct answer a = route_point(&w, "'k'", true);
    assert_int_equal(a.code, DR_INPUT);
    assert_says(a.message, "Shard key \"k\" not found");
    assert_int_equal(route_all(&w, "'k'", false).code, DR_INPUT);
    world_close(&w);
}

static void without_keys_writes_are_refused_and_reads_find_nothing(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    struct answer a = route_point(&w, NULL, true);
    assert_int_equal(a.code, DR_INPUT);
    assert_says(a.message, "Shard key not specified");
    a = route_point(&w, NULL, false);
    assert_int_equal(a.code, DR_OK);
    assert_int_equal(a.count, 0);
    assert_int_equal(route_all(&w, NULL, false).count, 0);
    assert_int_equal(route_all(&w, NULL, true).code, DR_INPUT);
    world_close(&w);
}

static void after_a_promotion_old_clients_go_on(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    uint32_t before = route_point(&w, NULL, true).shard[0];
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    for (unsigned is_write = 0; is_write < 2; is_write++) {
        assert_int_equal(route_point(&w, NULL, is_write).shard[0], before);
        assert_int_equal(route_point(&w, "'default'", is_write).shard[0], before);
        assert_int_equal(route_all(&w, NULL, is_write).count, 3);
    }
    assert_int_equal(route_point(&w, "'other'", true).code, DR_INPUT);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'eu','shards_number':1}"), DR_OK);
    struct answer a = route_point(&w, NULL, true);
    assert_int_equal(a.code, DR_INPUT);
    assert_says(a.message, "\"default\", \"eu\""); /* the list of what there is to choose */
    assert_int_equal(route_all(&w, NULL, true).code, DR_INPUT);
    a = route_point(&w, NULL, false); /* an id may live under each key */
    assert_int_equal(a.count, 2);
    assert_int_equal(a.shard[0], before);
    assert_int_equal(a.shard[1], 3);
    assert_int_equal(route_all(&w, NULL, false).count, 4);
    assert_int_equal(route_point(&w, "'default'", true).shard[0], before);
    assert_int_equal(route_point(&w, "'eu'", true).shard[0], 3);
    world_close(&w);
}

static void a_list_of_keys_goes_to_each_once(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'a'}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':7}"), DR_OK);
    assert_int_equal(route_point(&w, "['a',7,'a']", true).count, 2);
    assert_int_equal(route_all(&w, "['a',7,'a']", false).count, 2);
    assert_int_equal(route_all(&w, "['a','7']", false).code, DR_INPUT); /* 7 and "7" differ */
    assert_int_equal(route_all(&w, "7", false).shard[0], 2);
    struct answer a = route_point(&w, "[]", true);
    assert_int_equal(a.code, DR_INPUT);
    assert_says(a.message, "Empty shard keys selection");
    world_close(&w);
}

static void a_selector_is_a_key_a_list_or_target_and_fallback(void **state)
{
    (void)state;
    static const char *const bad[] = {"true",
                                      "1.5",
                                      "''",
                                      "[['a']]",
                                      "{'target':'a'}",
                                      "{'fallback':'a'}",
                                      "{'target':'a','fallback':'b','x':1}",
                                      "{'target':['a'],'fallback':'b'}"};
    struct dr_arena *arena = dr_arena_create(1024);
    struct dr_selector s;
    struct dr_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char wrapped[128];
        (void)snprintf(wrapped, sizeof wrapped, "[%s]", bad[i]);
        json_t *j = quoted(wrapped);
        assert_int_equal(dr_selector_from_json(json_array_get(j, 0), arena, &s, &err), DR_INPUT);
        json_decref(j);
    }
    json_t *many = json_array();
    for (int i = 0; i <= DR_SELECTOR_KEYS_MAX; i++) {
        assert_int_equal(json_array_append_new(many, json_integer(i)), 0);
    }
    assert_int_equal(dr_selector_from_json(many, arena, &s, &err), DR_INPUT);
    json_decref(many);
    assert_int_equal(dr_selector_from_json(NULL, arena, &s, &err), DR_OK);
    assert_true(s.key_count == 0 && !s.has_fallback);
    dr_arena_destroy(arena);
}

static void a_fallback_serves_while_the_target_does_not(void **state)
{
    (void)state;
    static const char both[] = "{'target':'t','fallback':'default'}";
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':1}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", NULL), DR_OK);
    assert_int_equal(route_point(&w, both, true).shard[0], 0);
    assert_int_equal(route_point(&w, "{'target':'t','fallback':'u'}", true).code, DR_NOT_FOUND);
    assert_int_equal(
        call(&w, CREATE_KEY, "c", "{'shard_key':'t','initial_state':'Partial','placement':[1]}"),
        DR_OK);
    for (unsigned is_write = 0; is_write < 2; is_write++) {
        struct answer a = route_point(&w, both, is_write); /* it is being filled */
        assert_true(a.count == 1 && a.shard[0] == 0);
        assert_int_equal(route_point(&w, "{'target':'t','fallback':'u'}", is_write).code,
                         DR_UNREACHABLE);
    }
    assert_int_equal(set_state(&w, "c", 1, 1, DR_REPLICA_ACTIVE_READ), DR_OK);
    struct answer a = route_point(&w, both, true);
    assert_true(a.count == 2 && a.shard[0] == 1 && a.shard[1] == 0); /* both must have it */
    assert_int_equal(route_point(&w, both, false).shard[0], 1);
    assert_int_equal(set_state(&w, "c", 1, 1, DR_REPLICA_ACTIVE), DR_OK);
    for (unsigned is_write = 0; is_write < 2; is_write++) {
        a = route_point(&w, both, is_write);
        assert_true(a.count == 1 && a.shard[0] == 1);
    }
    world_close(&w);
}

/* Whoever writes while points move reaches both places, and no read misses a point. */
static void resharding_up_is_seen_stage_by_stage(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    struct world after; /* what it will be like */
    world_open(&after, 2);
    assert_int_equal(call(&after, CREATE, "c", "{'shard_number':4}"), DR_OK);
    struct dr_catalog *start = dr_catalog_ref(w.c);
    static const char *const step[] = {"{'start_resharding':{'direction':'up'}}",
                                       "{'commit_read_hash_ring':{}}",
                                       "{'commit_write_hash_ring':{}}", "{'finish_resharding':{}}"};
    unsigned moved = 0;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(call(&w, CLUSTER, "c", step[i]), DR_OK);
        for (uint64_t id = 0; id < 500; id++) {
            struct dr_point_id point = {.kind = DR_POINT_NUMBER, .number = id};
            uint64_t hash = dr_point_hash(&point);
            uint32_t old = dr_ring_owner(dr_catalog_find(start, "c")->key_ring[0].ring, hash);
            uint32_t new = route(&after, NULL, true, false, id).shard[0];
            struct answer a = route(&w, NULL, true, false, id);
            if (i < 2) {
                assert_int_equal(a.count, old == new ? 1 : 2);
                assert_int_equal(a.shard[0], old);
                assert_int_equal(a.shard[a.count - 1], new);
            } else {
                assert_true(a.count == 1 && a.shard[0] == new);
            }
            moved += old != new ? 1 : 0;
            a = route(&w, NULL, false, false, id);
            assert_true(a.count == 1 && a.shard[0] == (i == 0 ? old : new));
        }
        assert_int_equal(route_all(&w, NULL, true).count, 4);
        assert_int_equal(route_all(&w, NULL, false).count, i == 0 ? 3 : 4);
    }
    assert_true(moved > 200);
    dr_catalog_unref(start);
    world_close(&after);
    world_close(&w);
}

static void resharding_down_hides_the_shard_that_goes(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'down'}}"), DR_OK);
    struct answer a = route_point(&w, NULL, true); /* id 42 is of shard 2, or not */
    assert_int_equal(route_all(&w, NULL, false).count, 3);
    unsigned twice = 0;
    for (uint64_t id = 0; id < 200; id++) {
        a = route(&w, NULL, true, false, id);
        twice += a.count == 2 ? 1 : 0;
        assert_true(a.count == 1 || (a.shard[0] == 2 && a.shard[1] < 2));
    }
    assert_true(twice > 20);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_OK);
    assert_int_equal(route_all(&w, NULL, false).count, 2);
    assert_int_equal(route_all(&w, NULL, true).count, 3);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_write_hash_ring':{}}"), DR_OK);
    assert_int_equal(route_all(&w, NULL, true).count, 2);
    for (uint64_t id = 0; id < 200; id++) {
        a = route(&w, NULL, true, false, id);
        assert_true(a.count == 1 && a.shard[0] < 2);
    }
    world_close(&w);
}

static void too_little_room_is_said_not_overrun(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    uint32_t shard[3] = {7, 7, 7};
    uint32_t count = 9;
    world_open(&w, 1);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    assert_int_equal(dr_route_all(find(&w, "c"), NULL, false, shard, 2, &count, &err), DR_INTERNAL);
    assert_int_equal(count, 0);
    assert_int_equal(shard[2], 7);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_auto_collection_has_one_way),
        cmocka_unit_test(without_keys_writes_are_refused_and_reads_find_nothing),
        cmocka_unit_test(after_a_promotion_old_clients_go_on),
        cmocka_unit_test(a_list_of_keys_goes_to_each_once),
        cmocka_unit_test(a_selector_is_a_key_a_list_or_target_and_fallback),
        cmocka_unit_test(a_fallback_serves_while_the_target_does_not),
        cmocka_unit_test(resharding_up_is_seen_stage_by_stage),
        cmocka_unit_test(resharding_down_hides_the_shard_that_goes),
        cmocka_unit_test(too_little_room_is_said_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
