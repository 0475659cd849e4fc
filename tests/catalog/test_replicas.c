/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of replicas, transfers, reshardings and the removal of peers. */
#include "catalog_world.h"

/* One collection of one shard on peer 1, and more peers around. */
static void open_one(struct world *w, uint64_t peers)
{
    world_open(w, 1);
    assert_int_equal(call(w, CREATE, "c", "{'shard_number':1}"), DR_OK);
    for (uint64_t id = 2; id <= peers; id++) {
        assert_int_equal(add_peer(w, id, 1), DR_OK);
    }
}

#define ENDS "{'shard_id':0,'from_peer_id':1,'to_peer_id':2}"

static void a_move_ends_on_the_other_peer(void **state)
{
    (void)state;
    struct world w;
    open_one(&w, 3);
    assert_int_equal(call(&w, CLUSTER, "c", "{'move_shard':" ENDS "}"), DR_OK);
    const struct dr_transfer *t = find(&w, "c")->transfer;
    assert_true(!t->is_sync && t->from == 1 && t->to == 2 && !t->has_to_shard);
    assert_string_equal(t->method, "stream_records");
    assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_PARTIAL);
    assert_int_equal(call(&w, CLUSTER, "c", "{'move_shard':" ENDS "}"), DR_CONFLICT);
    assert_says(w.message, "already involved in transfer 1 -> 2");
    assert_int_equal(call(&w, CLUSTER, "c",
                          "{'restart_transfer':{'shard_id':0,'from_peer_id':1,'to_peer_id':2,"
                          "'method':'wal_delta'}}"),
                     DR_OK);
    assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_RECOVERY);
    assert_int_equal(set_state(&w, "c", 0, 2, DR_REPLICA_ACTIVE), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_transfer':" ENDS "}"), DR_OK);
    assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_ACTIVE);
    assert_int_equal(replica_state(&w, "c", 0, 1), DR_REPLICA_STATE_COUNT);
    assert_int_equal(find(&w, "c")->transfer_count, 0);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_transfer':" ENDS "}"), DR_NOT_FOUND);
    world_close(&w);
}

static void an_aborted_copy_is_dead_and_an_aborted_move_gone(void **state)
{
    (void)state;
    struct world w;
    open_one(&w, 2);
    assert_int_equal(call(&w, CLUSTER, "c", "{'replicate_shard':" ENDS "}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'abort_transfer':" ENDS "}"), DR_OK);
    assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_DEAD);
    assert_int_equal(call(&w, CLUSTER, "c", "{'move_shard':" ENDS "}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'abort_transfer':" ENDS "}"), DR_OK);
    assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_STATE_COUNT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'abort_transfer':" ENDS "}"), DR_NOT_FOUND);
    assert_int_equal(replica_state(&w, "c", 0, 1), DR_REPLICA_ACTIVE);
    world_close(&w);
}

static void impossible_transfers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{'move_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':1}}",
        "{'move_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':9}}",
        "{'move_shard':{'shard_id':7,'from_peer_id':1,'to_peer_id':2}}",
        "{'move_shard':{'shard_id':0,'from_peer_id':2,'to_peer_id':3}}",
        "{'move_shard':{'shard_id':0,'from_peer_id':1}}",
        "{'move_shard':{'shard_id':'0','from_peer_id':1,'to_peer_id':2}}",
        "{'move_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':2,'method':'carrier_pigeon'}}",
        "{'move_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':2,'to_shard_id':0}}",
        "{'move_shard':[]}",
        "{}",
        "{'move_shard':{},'drop_replica':{}}",
    };
    struct world w;
    open_one(&w, 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(call(&w, CLUSTER, "c", bad[i]), DR_INPUT);
    }
    assert_int_equal(call(&w, CLUSTER, "c", "{'replicate_points':{}}"), DR_UNSUPPORTED);
    assert_int_equal(find(&w, "c")->transfer_count, 0);
    world_close(&w);
}

static void the_last_whole_copy_stays(void **state)
{
    (void)state;
    struct world w;
    open_one(&w, 2);
    assert_int_equal(call(&w, CLUSTER, "c", "{'drop_replica':{'shard_id':0,'peer_id':1}}"),
                     DR_REFUSED);
    assert_says(w.message, "must have at least one active replica");
    assert_int_equal(set_state(&w, "c", 0, 1, DR_REPLICA_DEAD), DR_REFUSED);
    assert_int_equal(call(&w, CLUSTER, "c", "{'replicate_shard':" ENDS "}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'drop_replica':{'shard_id':0,'peer_id':1}}"),
                     DR_REFUSED); /* the other one is not whole yet */
    assert_int_equal(call(&w, CLUSTER, "c", "{'drop_replica':{'shard_id':0,'peer_id':2}}"),
                     DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_transfer':" ENDS "}"), DR_OK);
    assert_int_equal(set_state(&w, "c", 0, 1, DR_REPLICA_DEAD), DR_OK);
    assert_int_equal(set_state(&w, "c", 0, 1, DR_REPLICA_DEAD), DR_OK);
    assert_false(w.changed);
    assert_int_equal(set_state(&w, "c", 0, 2, DR_REPLICA_DEAD), DR_REFUSED);
    assert_int_equal(call(&w, CLUSTER, "c", "{'drop_replica':{'shard_id':0,'peer_id':1}}"), DR_OK);
    assert_int_equal(set_state(&w, "c", 0, 1, DR_REPLICA_ACTIVE), DR_INPUT); /* it is gone */
    world_close(&w);
}

/* A dead replica may hold what no other has: it takes no writes until that is gone. */
static void a_replica_that_was_there_before_begins_in_recovery(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':1,'replication_factor':2}"), DR_OK);
    const struct dr_shard *s = dr_collection_shard(find(&w, "c"), 0);
    uint64_t from = s->replica[0].peer_id;
    uint64_t to = s->replica[1].peer_id;
    char body[128];
    assert_int_equal(set_state(&w, "c", 0, to, DR_REPLICA_DEAD), DR_OK);
    (void)snprintf(body, sizeof body,
                   "{'replicate_shard':{'shard_id':0,'from_peer_id':%u,'to_peer_id':%u}}",
                   (unsigned)from, (unsigned)to);
    assert_int_equal(call(&w, CLUSTER, "c", body), DR_OK);
    assert_int_equal(replica_state(&w, "c", 0, to), DR_REPLICA_RECOVERY);
    assert_false(dr_replica_takes_writes(DR_REPLICA_RECOVERY));
    world_close(&w);
}

static void a_state_is_changed_only_from_what_was_expected(void **state)
{
    (void)state;
    struct world w;
    struct dr_err err = {0};
    char *text = NULL;
    enum dr_replica_state expected = DR_REPLICA_PARTIAL;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':1,'replication_factor':2}"), DR_OK);
    enum dr_code rc =
        dr_entry_replica_state(w.c, "c", 0, 1, DR_REPLICA_DEAD, &expected, &text, &err);
    assert_int_equal(made(&w, rc, text, &err), DR_CONFLICT);
    expected = DR_REPLICA_ACTIVE;
    rc = dr_entry_replica_state(w.c, "c", 0, 1, DR_REPLICA_DEAD, &expected, &text, &err);
    assert_int_equal(made(&w, rc, text, &err), DR_OK);
    assert_int_equal(set_state(&w, "c", 0, 1, DR_REPLICA_RESHARDING), DR_CONFLICT);
    world_close(&w);
}

static void a_peer_with_shards_is_removed_by_force_only(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "both", "{'shard_number':1,'replication_factor':2}"), DR_OK);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    assert_int_equal(remove_peer(&w, 1, false), DR_CONFLICT);
    assert_says(w.message, "as there are shards on it");
    assert_int_equal(remove_peer(&w, 1, true), DR_OK);
    assert_null(dr_catalog_peer(w.c, 1));
    assert_int_equal(replica_state(&w, "both", 0, 1), DR_REPLICA_STATE_COUNT);
    assert_int_equal(replica_state(&w, "both", 0, 2), DR_REPLICA_ACTIVE);
    /* Where the only copy was is not forgotten. */
    uint32_t lost = replica_state(&w, "c", 0, 1) == DR_REPLICA_STATE_COUNT ? 1 : 0;
    assert_int_equal(replica_state(&w, "c", lost, 1), DR_REPLICA_DEAD);
    world_close(&w);
}

static void removing_a_peer_ends_its_transfers(void **state)
{
    (void)state;
    for (unsigned sync = 0; sync < 2; sync++) {
        struct world w;
        open_one(&w, 2);
        assert_int_equal(call(&w, CLUSTER, "c",
                              sync ? "{'replicate_shard':" ENDS "}" : "{'move_shard':" ENDS "}"),
                         DR_OK);
        assert_int_equal(remove_peer(&w, 1, true), DR_OK); /* the source */
        assert_int_equal(find(&w, "c")->transfer_count, 0);
        assert_int_equal(replica_state(&w, "c", 0, 1), DR_REPLICA_DEAD);
        assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_DEAD);
        world_close(&w);
        open_one(&w, 2);
        assert_int_equal(call(&w, CLUSTER, "c",
                              sync ? "{'replicate_shard':" ENDS "}" : "{'move_shard':" ENDS "}"),
                         DR_OK);
        assert_int_equal(remove_peer(&w, 2, true), DR_OK); /* the target */
        assert_int_equal(find(&w, "c")->transfer_count, 0);
        assert_int_equal(replica_state(&w, "c", 0, 1), DR_REPLICA_ACTIVE);
        assert_int_equal(replica_state(&w, "c", 0, 2), DR_REPLICA_STATE_COUNT);
        world_close(&w);
    }
}

static void resharding_up_takes_all_stages_in_order(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_NOT_FOUND);
    assert_int_equal(
        call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'up','shard_key':'k'}}"),
        DR_INPUT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'side'}}"), DR_INPUT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'up','peer_id':2}}"),
                     DR_OK);
    const struct dr_collection_info *c = find(&w, "c");
    assert_int_equal(c->shard_number, 3);
    assert_int_equal(replica_state(&w, "c", 2, 2), DR_REPLICA_RESHARDING);
    assert_int_equal(dr_ring_shard_count(c->key_ring[0].ring), 2);
    assert_int_equal(dr_ring_shard_count(c->key_ring[0].next), 3);
    assert_int_equal(strlen(c->resharding->uuid), 36);
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'up'}}"),
                     DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_resharding':{}}"), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_write_hash_ring':{}}"), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_OK);
    assert_int_equal(replica_state(&w, "c", 2, 2), DR_REPLICA_ACTIVE);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_OK);
    assert_false(w.changed);
    assert_int_equal(call(&w, CLUSTER, "c", "{'abort_resharding':{}}"), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_write_hash_ring':{}}"), DR_OK);
    assert_null(find(&w, "c")->key_ring[0].next);
    assert_int_equal(dr_ring_shard_count(find(&w, "c")->key_ring[0].ring), 3);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_resharding':{}}"), DR_OK);
    assert_null(find(&w, "c")->resharding);
    world_close(&w);
}

static void an_aborted_resharding_leaves_what_was(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    const struct dr_ring *ring = find(&w, "c")->key_ring[0].ring;
    static const char *const direction[] = {"{'start_resharding':{'direction':'up'}}",
                                            "{'start_resharding':{'direction':'down'}}"};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(call(&w, CLUSTER, "c", direction[i]), DR_OK);
        assert_int_equal(remove_peer(&w, find(&w, "c")->resharding->peer_id, true), DR_CONFLICT);
        assert_int_equal(call(&w, CLUSTER, "c", "{'abort_resharding':{}}"), DR_OK);
        assert_int_equal(find(&w, "c")->shard_number, 2);
        assert_int_equal(find(&w, "c")->shard_count, 2);
        assert_ptr_equal(find(&w, "c")->key_ring[0].ring, ring);
        assert_null(find(&w, "c")->key_ring[0].next);
    }
    world_close(&w);
}

static void resharding_down_drops_the_last_shard_of_the_key(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2);
    assert_int_equal(call(&w, CREATE, "c", "{'sharding_method':'custom','shard_number':2}"), DR_OK);
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'a'}"), DR_OK); /* shards 1 and 2 */
    assert_int_equal(call(&w, CREATE_KEY, "c", "{'shard_key':'b'}"), DR_OK); /* shards 3 and 4 */
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'down'}}"), DR_INPUT);
    assert_says(w.message, "must specify shard key");
    assert_int_equal(
        call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'down','shard_key':'a'}}"), DR_OK);
    assert_int_equal(find(&w, "c")->resharding->shard_id, 2);
    assert_int_equal(call(&w, DROP_KEY, "c", "{'shard_key':'a'}"), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_write_hash_ring':{}}"), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'finish_resharding':{}}"), DR_OK);
    assert_null(dr_collection_shard(find(&w, "c"), 2));
    assert_int_equal(find(&w, "c")->shard_number, 2); /* of each key: a resharding leaves it */
    assert_int_equal(
        call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'down','shard_key':'a'}}"),
        DR_REFUSED);
    assert_int_equal(
        call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'up','shard_key':'a'}}"), DR_OK);
    assert_int_equal(find(&w, "c")->resharding->shard_id, 5); /* 2 is not used again */
    world_close(&w);
}

static void points_move_between_shards_only_while_resharding(void **state)
{
    (void)state;
    static const char move[] = "{'replicate_shard':{'shard_id':0,'from_peer_id':1,'to_peer_id':2,"
                               "'to_shard_id':1}}";
    struct world w;
    open_one(&w, 2);
    assert_int_equal(call(&w, CLUSTER, "c", move), DR_INPUT);
    assert_int_equal(call(&w, CLUSTER, "c", "{'start_resharding':{'direction':'up','peer_id':2}}"),
                     DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", move), DR_OK);
    assert_true(find(&w, "c")->transfer[0].has_to_shard);
    assert_int_equal(call(&w, CLUSTER, "c", "{'commit_read_hash_ring':{}}"), DR_CONFLICT);
    assert_int_equal(call(&w, CLUSTER, "c",
                          "{'finish_transfer':{'shard_id':0,'from_peer_id':1,'to_peer_id':2,"
                          "'to_shard_id':1}}"),
                     DR_OK);
    assert_int_equal(replica_state(&w, "c", 1, 2), DR_REPLICA_RESHARDING);
    assert_int_equal(call(&w, CLUSTER, "c", move), DR_OK);
    assert_int_equal(call(&w, CLUSTER, "c", "{'abort_resharding':{}}"), DR_OK);
    assert_int_equal(find(&w, "c")->transfer_count, 0); /* it went with its shard */
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_move_ends_on_the_other_peer),
        cmocka_unit_test(an_aborted_copy_is_dead_and_an_aborted_move_gone),
        cmocka_unit_test(impossible_transfers_are_refused),
        cmocka_unit_test(the_last_whole_copy_stays),
        cmocka_unit_test(a_replica_that_was_there_before_begins_in_recovery),
        cmocka_unit_test(a_state_is_changed_only_from_what_was_expected),
        cmocka_unit_test(a_peer_with_shards_is_removed_by_force_only),
        cmocka_unit_test(removing_a_peer_ends_its_transfers),
        cmocka_unit_test(resharding_up_takes_all_stages_in_order),
        cmocka_unit_test(an_aborted_resharding_leaves_what_was),
        cmocka_unit_test(resharding_down_drops_the_last_shard_of_the_key),
        cmocka_unit_test(points_move_between_shards_only_while_resharding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
