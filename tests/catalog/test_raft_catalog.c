/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the catalog on Raft peers (catalog/raft_fsm and below): each test is named for
 * one. Peers are processes that die at fault points or by SIGKILL; equal hashes mean equal states,
 * `check` compares a peer's files with its state. */
#include "catalog/raft_help.h"

#define FAST "election=300"
#define PEER_1                                                                                     \
    "{\"format\":1,\"id\":1,\"op\":\"peer\",\"raft\":\"127.0.0.1:1\",\"uri\":\"http://h:1\","      \
    "\"v\":1,\"version\":\"0.1.0\"}"
#define CREATE                                                                                     \
    "{\"is_method_given\":false,\"method\":\"auto\",\"name\":\"docs\",\"op\":"                     \
    "\"create_collection\",\"peers\":[1],\"placement\":[[0],[0],[0]],\"replication_factor\":1,"    \
    "\"shard_number\":3,\"uuid\":\"u-1\",\"v\":1,\"write_consistency_factor\":1}"
#define PROMOTE_TO(key)                                                                            \
    "{\"key\":\"" key "\",\"name\":\"docs\",\"op\":\"promote_to_custom_sharding\","                \
    "\"shard_ids\":[0,1,2],\"uuid\":\"u-1\",\"v\":1}"
#define PROMOTE PROMOTE_TO("default")
#define DELETE "{\"name\":\"docs\",\"op\":\"delete_collection\",\"uuid\":\"u-1\",\"v\":1}"
#define NOP "{\"op\":\"nop\",\"v\":1}"

static void assert_files(struct cluster *c)
{
    for (unsigned id = 1; id <= c->count; id++) {
        if (c->peer[id].pid == 0) {
            continue;
        }
        (void)ask(c, id, "check");
        if (!is_answer(c, "OK") || number_of(c, "half") != 0) {
            print_error("files of peer %u: %s\n", id, c->line);
            fail();
        }
    }
}

static bool has_in_file(const struct cluster *c, unsigned id, const char *file, const char *part)
{
    char path[256];
    char text[LINE_BYTES];
    (void)snprintf(path, sizeof path, "%s/collections/docs/%s", c->peer[id].dir, file);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return false;
    }
    size_t got = fread(text, 1, sizeof text - 1, f);
    text[got] = '\0';
    (void)fclose(f);
    return strstr(text, part) != NULL;
}

static void assert_promoted_everywhere(struct cluster *c)
{
    for (unsigned id = 1; id <= c->count; id++) {
        if (c->peer[id].pid != 0) {
            assert_true(has_in_file(c, id, "collection_config.json", "\"custom\""));
            assert_true(has_in_file(c, id, "shard_key_mapping.json", "[0,1,2]"));
        }
    }
}

/* A cluster with one auto collection, everywhere. */
static void start_with_collection(struct cluster *c, const char *options, unsigned peers)
{
    start_cluster(c, options);
    grow(c, peers);
    (void)propose(c, 0, PEER_1);
    (void)assert_equal_states(c, propose(c, 0, CREATE));
    assert_files(c);
}

static void restart_with(struct cluster *c, unsigned id, const char *fault)
{
    stop_peer(c, id);
    start_peer(c, id, fault);
    read_line(c, &c->peer[id]);
    assert_true(is_answer(c, "OK"));
}

/* Make peer `id` the leader. */
static void give_leadership(struct cluster *c, unsigned id)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        unsigned leader = find_leader(c, 0);
        if (leader == id) {
            return;
        }
        (void)ask(c, leader, "transfer 5000 %u", id);
    }
    print_error("peer %u does not become leader\n", id);
    fail();
}

/* --- promotion --- */

static void a_promotion_reaches_every_peer_and_its_files(void **state)
{
    (void)state;
    struct cluster c;
    start_with_collection(&c, FAST, 3);
    uint64_t index = propose(&c, 0, PROMOTE);
    assert_non_null(strstr(c.line, "code=OK changed=1"));
    uint64_t hash = assert_equal_states(&c, index);
    assert_files(&c);
    assert_promoted_everywhere(&c);
    index = propose(&c, 0, PROMOTE); /* again: nothing changes */
    assert_non_null(strstr(c.line, "code=OK changed=0"));
    index = propose(&c, 0, PROMOTE_TO("other"));
    assert_null(strstr(c.line, "code=OK"));
    assert_null(strstr(c.line, "msg=\n")); /* with its reason */
    index = propose(&c, 0, "{\"op\":\"from_the_future\",\"v\":1}");
    assert_non_null(strstr(c.line, "code=UNSUPPORTED"));
    index = propose(&c, 0, "this is not JSON");
    assert_non_null(strstr(c.line, "code=INPUT"));
    assert_int_equal(assert_equal_states(&c, index), hash);
    assert_files(&c);
    end_cluster(&c);
}

/* The leader dies between two writes of the files; the others finish, and it repairs itself. */
static void a_leader_killed_at_any_step_of_a_promotion_repairs_itself(void **state)
{
    (void)state;
    static const char *const points[] = {"catalog.mapping-due=kill", "catalog.mapping-written=kill",
                                         "catalog.config-written=kill"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct cluster c;
        start_with_collection(&c, FAST, 3);
        restart_with(&c, 2, points[i]);
        give_leadership(&c, 2);
        (void)ask(&c, 2, "propose 10000 %s", PROMOTE);
        assert_string_equal(c.line, ""); /* gone before it could answer */
        reap(&c.peer[2]);
        (void)propose(&c, 0, PROMOTE);
        uint64_t index = propose(&c, 0, NOP);
        uint64_t hash = assert_equal_states(&c, index);
        assert_promoted_everywhere(&c);
        start_ready(&c, 2);
        assert_int_equal(assert_equal_states(&c, index), hash);
        assert_files(&c);
        assert_promoted_everywhere(&c);
        end_cluster(&c);
    }
}

static void a_leader_killed_while_it_proposes_leaves_all_or_nothing(void **state)
{
    (void)state;
    struct cluster c;
    start_with_collection(&c, FAST, 3);
    for (int round = 0; round < 4; round++) {
        unsigned leader = find_leader(&c, 0);
        send_line(&c.peer[leader], "propose 10000 " PROMOTE);
        (void)poll(NULL, 0, round); /* a little later each time */
        kill_peer(&c, leader);
        uint64_t index = propose(&c, 0, NOP);
        uint64_t hash = assert_equal_states(&c, index);
        assert_files(&c);
        start_ready(&c, leader);
        assert_int_equal(assert_equal_states(&c, index), hash);
        assert_files(&c);
    }
    (void)propose(&c, 0, PROMOTE);
    (void)assert_equal_states(&c, propose(&c, 0, NOP));
    assert_promoted_everywhere(&c);
    end_cluster(&c);
}

static void a_follower_that_missed_a_promotion_gets_it_in_place_from_a_snapshot(void **state)
{
    (void)state;
    struct cluster c;
    char path[256];
    start_with_collection(&c, FAST " threshold=20 trailing=5", 3);
    unsigned away = find_leader(&c, 0) % 3 + 1;
    (void)snprintf(path, sizeof path, "%s/collections/docs/notes.txt", c.peer[away].dir);
    FILE *f = fopen(path, "w"); /* goes with the folder if anybody deletes and makes it anew */
    assert_non_null(f);
    (void)fclose(f);
    kill_peer(&c, away);
    uint64_t index = propose(&c, 0, PROMOTE);
    for (int i = 0; i < 60; i++) {
        index = propose(&c, 0, NOP);
    }
    (void)ask(&c, find_leader(&c, 0), "status");
    uint64_t snapshot = number_of(&c, "snapshot");
    assert_true(snapshot > 20);
    start_ready(&c, away);
    (void)assert_equal_states(&c, index);
    (void)ask(&c, away, "status");
    assert_true(number_of(&c, "snapshot") > 20);
    assert_files(&c);
    assert_promoted_everywhere(&c);
    assert_int_equal(access(path, F_OK), 0);
    end_cluster(&c);
}

static void a_full_disk_stops_one_peer_and_a_restart_repairs_it(void **state)
{
    (void)state;
    struct cluster c;
    start_with_collection(&c, FAST, 3);
    unsigned bad = find_leader(&c, 0) % 3 + 1;
    restart_with(&c, bad, "catalog.mapping-written=full");
    uint64_t index = propose(&c, bad, PROMOTE);
    (void)ask(&c, bad, "applied 20000 %llu", (unsigned long long)index);
    assert_true(is_answer(&c, "STOPPED"));
    (void)ask(&c, bad, "status");
    assert_non_null(strstr(c.line, "state=Failed"));
    assert_true(has_in_file(&c, bad, "shard_key_mapping.json", "[0,1,2]"));
    assert_false(has_in_file(&c, bad, "collection_config.json", "\"custom\""));
    kill_peer(&c, bad);
    start_ready(&c, bad);
    (void)assert_equal_states(&c, index);
    assert_files(&c);
    assert_promoted_everywhere(&c);
    end_cluster(&c);
}

/* --- one peer, killed at every point of every change --- */

static void one_peer_killed_at_every_point_ends_like_one_that_was_not(void **state)
{
    (void)state;
    static const char *const points[] = {"catalog.folder-made",     "catalog.mapping-due",
                                         "catalog.mapping-written", "catalog.config-written",
                                         "catalog.config-removed",  "catalog.mapping-removed"};
    static const char *const entries[] = {PEER_1, CREATE, PROMOTE, DELETE};
    enum { ENTRIES = sizeof entries / sizeof entries[0] };
    unsigned deaths = 0;
    for (size_t i = 0; i < 2 * sizeof points / sizeof points[0]; i++) {
        struct cluster c;
        char fault[64];
        start_cluster(&c, FAST " threshold=3 trailing=1");
        (void)snprintf(fault, sizeof fault, "%s@%zu=kill", points[i / 2], i % 2 + 1);
        start_peer(&c, 1, fault);
        read_line(&c, &c.peer[1]);
        uint64_t index = 0;
        for (size_t e = 0; e < ENTRIES; e++) {
            (void)ask(&c, 1, "propose 10000 %s", entries[e]);
            if (c.line[0] == '\0') {
                deaths++;
                reap(&c.peer[1]);
                start_ready(&c, 1);
                assert_files(&c);
            } else {
                assert_non_null(strstr(c.line, "code=OK"));
                index = number_of(&c, "index");
            }
        }
        (void)index;
        uint64_t hash = assert_equal_states(&c, propose(&c, 0, NOP));
        assert_files(&c);
        kill_peer(&c, 1);
        start_ready(&c, 1);
        assert_int_equal(assert_equal_states(&c, 1), hash);
        assert_files(&c);
        assert_false(has_in_file(&c, 1, "shard_key_mapping.json", ""));
        end_cluster(&c);
    }
    assert_true(deaths >= 9); /* six points; three of them are passed twice */
}

static void collections_without_a_log_are_not_guessed_at(void **state)
{
    (void)state;
    struct cluster c;
    char command[256];
    start_with_collection(&c, FAST, 1);
    stop_peer(&c, 1);
    (void)snprintf(command, sizeof command, "rm -rf '%s/raft'", c.peer[1].dir);
    assert_int_equal(system(command), 0);
    start_peer(&c, 1, NULL);
    read_line(&c, &c.peer[1]);
    assert_true(is_answer(&c, "CONFLICT"));
    assert_true(has_in_file(&c, 1, "collection_config.json", "u-1"));
    reap(&c.peer[1]);
    end_cluster(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_promotion_reaches_every_peer_and_its_files),
        cmocka_unit_test(a_leader_killed_at_any_step_of_a_promotion_repairs_itself),
        cmocka_unit_test(a_leader_killed_while_it_proposes_leaves_all_or_nothing),
        cmocka_unit_test(a_follower_that_missed_a_promotion_gets_it_in_place_from_a_snapshot),
        cmocka_unit_test(a_full_disk_stops_one_peer_and_a_restart_repairs_it),
        cmocka_unit_test(one_peer_killed_at_every_point_ends_like_one_that_was_not),
        cmocka_unit_test(collections_without_a_log_are_not_guessed_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
