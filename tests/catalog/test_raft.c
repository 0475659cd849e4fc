/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of catalog/raft_node: each test is named for one. Peers are processes (raft_peer)
 * whose state is a hash over all entries in their order, so equal hashes mean equal logs. */
#include "catalog/raft_help.h"

#include <pthread.h>

#include "catalog/raft_node.h"

#define TOY "toy election=300 threshold=1000"

/* --- one peer --- */

static void one_peer_keeps_what_it_agreed_to_over_a_kill(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 1);
    uint64_t index = 0;
    for (int i = 0; i < 50; i++) {
        index = propose(&c, 0, "hello");
    }
    uint64_t hash = assert_equal_states(&c, index);
    kill_peer(&c, 1);
    start_ready(&c, 1);
    assert_int_equal(assert_equal_states(&c, index), hash);
    end_cluster(&c);
}

static void a_refusal_is_an_answer_not_a_failure(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 1);
    (void)ask(&c, 1, "propose 2000 refuse this");
    assert_true(is_answer(&c, "OK"));
    assert_non_null(strstr(c.line, "code=REFUSED"));
    (void)ask(&c, 1, "remove 2000 1");
    assert_true(is_answer(&c, "REFUSED")); /* the last voter */
    (void)ask(&c, 1, "assign 2000 7 voter");
    assert_true(is_answer(&c, "NOT_FOUND"));
    end_cluster(&c);
}

/* --- three and five --- */

static void a_follower_names_the_leader(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 3);
    unsigned leader = find_leader(&c, 0);
    unsigned follower = leader % 3 + 1;
    (void)ask(&c, follower, "propose 2000 hello");
    assert_true(is_answer(&c, "BUSY"));
    assert_int_equal(number_of(&c, "leader"), leader);
    (void)ask(&c, leader, "status");
    assert_int_equal(number_of(&c, "voters"), 3);
    assert_int_equal(number_of(&c, "heard"), 3);
    (void)ask(&c, leader, "barrier 5000");
    assert_true(is_answer(&c, "OK"));
    (void)assert_equal_states(&c, propose(&c, 0, "last"));
    end_cluster(&c);
}

static void a_killed_leader_is_replaced_and_nothing_is_lost(void **state)
{
    (void)state;
    struct cluster c;
    uint64_t hash = 0;
    start_cluster(&c, TOY);
    grow(&c, 3);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++) {
            (void)propose(&c, 0, "before");
        }
        unsigned leader = find_leader(&c, 0);
        kill_peer(&c, leader);
        uint64_t index = propose(&c, 0, "after");
        hash = assert_equal_states(&c, index);
        start_ready(&c, leader);
        assert_int_equal(assert_equal_states(&c, index), hash);
    }
    end_cluster(&c);
}

static void a_peer_that_was_away_catches_up_from_a_snapshot(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, "toy election=300 threshold=20 trailing=5");
    grow(&c, 3);
    unsigned away = find_leader(&c, 0) % 3 + 1;
    (void)ask(&c, away, "status");
    uint64_t last = number_of(&c, "last");
    kill_peer(&c, away);
    uint64_t index = 0;
    for (int i = 0; i < 100; i++) {
        index = propose(&c, 0, "while it was away");
    }
    (void)ask(&c, find_leader(&c, 0), "status");
    assert_true(number_of(&c, "snapshot") > last); /* the log alone cannot help it */
    start_ready(&c, away);
    uint64_t hash = assert_equal_states(&c, index);
    (void)ask(&c, away, "status");
    assert_true(number_of(&c, "snapshot") > last);
    for (unsigned id = 1; id <= 3; id++) { /* and everybody starts from theirs */
        kill_peer(&c, id);
    }
    for (unsigned id = 1; id <= 3; id++) {
        start_ready(&c, id);
    }
    (void)find_leader(&c, 0);
    assert_int_equal(assert_equal_states(&c, index), hash);
    end_cluster(&c);
}

static void five_peers_bear_two_deaths_and_refuse_after_three(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 5);
    unsigned first = find_leader(&c, 0);
    kill_peer(&c, first);
    (void)propose(&c, 0, "four");
    unsigned second = find_leader(&c, 0);
    kill_peer(&c, second);
    uint64_t index = propose(&c, 0, "three");
    unsigned third = find_leader(&c, 0);
    uint64_t hash = assert_equal_states(&c, index);
    unsigned fourth = 1;
    while (c.peer[fourth].pid == 0 || fourth == third) {
        fourth++;
    }
    kill_peer(&c, fourth);
    (void)ask(&c, third, "propose 1500 nobody agrees");
    assert_true(is_answer(&c, "UNKNOWN") || is_answer(&c, "BUSY"));
    do { /* it steps down once it has missed the others for an election time */
        (void)ask(&c, third, "propose 500 nobody agrees");
    } while (!is_answer(&c, "BUSY"));
    assert_int_equal(number_of(&c, "leader"), 0);
    (void)ask(&c, third, "hash");
    assert_int_equal(number_of(&c, "hash"), hash);
    start_ready(&c, first);
    start_ready(&c, second);
    (void)assert_equal_states(&c, propose(&c, 0, "four again"));
    end_cluster(&c);
}

/* Batches, pipelines and snapshots all on their way when one peer halts and the leader dies. */
static void a_leader_killed_under_load_leaves_equal_logs(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, "toy election=300 threshold=50 trailing=10");
    grow(&c, 3);
    for (int round = 0; round < 3; round++) {
        unsigned leader = find_leader(&c, 0);
        unsigned halted = leader % 3 + 1;
        send_line(&c.peer[leader], "bench 100000 40");
        (void)poll(NULL, 0, 100);
        assert_int_equal(kill(c.peer[halted].pid, SIGSTOP), 0);
        (void)poll(NULL, 0, 300);
        assert_int_equal(kill(c.peer[halted].pid, SIGCONT), 0);
        (void)poll(NULL, 0, 50 * round);
        kill_peer(&c, leader);
        uint64_t index = propose(&c, 0, "after the load");
        uint64_t hash = assert_equal_states(&c, index);
        assert_true(index > 100); /* there was a load */
        start_ready(&c, leader);
        assert_int_equal(assert_equal_states(&c, index), hash);
    }
    end_cluster(&c);
}

static void a_leader_cut_off_answers_truthfully(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 3);
    unsigned old = find_leader(&c, 0);
    for (unsigned id = 1; id <= 3; id++) {
        if (id != old) {
            assert_int_equal(kill(c.peer[id].pid, SIGSTOP), 0);
        }
    }
    send_line(&c.peer[old], "propose 30000 cut off"); /* written by the leader, seen by nobody */
    (void)poll(NULL, 0, 100);
    assert_int_equal(kill(c.peer[old].pid, SIGSTOP), 0);
    for (unsigned id = 1; id <= 3; id++) {
        if (id != old) {
            assert_int_equal(kill(c.peer[id].pid, SIGCONT), 0);
        }
    }
    uint64_t index = propose(&c, old, "the others go on");
    assert_int_equal(kill(c.peer[old].pid, SIGCONT), 0);
    read_line(&c, &c.peer[old]); /* what the old leader tells its client */
    /* The others may have got it after all (it was in their sockets when they were stopped). */
    assert_true(is_answer(&c, "BUSY") || is_answer(&c, "OK"));
    (void)assert_equal_states(&c, index);
    end_cluster(&c);
}

/* --- membership --- */

static void peers_join_leave_and_hand_over(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 3);
    unsigned leader = find_leader(&c, 0);
    unsigned target = leader % 3 + 1;
    (void)ask(&c, leader, "transfer 10000 %u", target);
    assert_true(is_answer(&c, "OK"));
    assert_int_equal(find_leader(&c, 0), target);
    start_ready(&c, 4);
    (void)ask(&c, target, "add 10000 4 %s", c.peer[4].address);
    assert_true(is_answer(&c, "OK"));
    (void)ask(&c, target, "add 10000 4 %s", c.peer[4].address); /* again: nothing to do */
    assert_true(is_answer(&c, "OK"));
    (void)ask(&c, target, "assign 10000 4 standby");
    assert_true(is_answer(&c, "OK"));
    (void)assert_equal_states(&c, propose(&c, 0, "seen by the standby"));
    (void)ask(&c, 4, "status");
    assert_int_equal(number_of(&c, "voter"), 0);
    (void)ask(&c, target, "assign 20000 4 voter");
    assert_true(is_answer(&c, "OK"));
    (void)ask(&c, target, "status");
    assert_int_equal(number_of(&c, "voters"), 4);
    stop_peer(&c, target); /* a leader that goes hands over first */
    unsigned heir = find_leader(&c, target);
    (void)ask(&c, heir, "remove 10000 %u", target);
    assert_true(is_answer(&c, "OK"));
    (void)ask(&c, heir, "remove 10000 %u", target);
    assert_true(is_answer(&c, "OK"));
    (void)ask(&c, heir, "status");
    assert_int_equal(number_of(&c, "members"), 3);
    (void)assert_equal_states(&c, propose(&c, 0, "without it"));
    end_cluster(&c);
}

static void a_joiner_gets_a_log_that_is_gone_already(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, "toy election=300 threshold=20 trailing=5");
    grow(&c, 1);
    uint64_t index = 0;
    for (int i = 0; i < 60; i++) {
        index = propose(&c, 0, "early");
    }
    join(&c, 2);
    join(&c, 3);
    (void)assert_equal_states(&c, index);
    kill_peer(&c, 1);
    (void)assert_equal_states(&c, propose(&c, 0, "late"));
    end_cluster(&c);
}

static void a_peer_on_its_own_may_get_an_address_and_company(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    (void)snprintf(c.peer[1].dir, sizeof c.peer[1].dir, "%s/1", c.folder);
    (void)snprintf(c.peer[1].address, sizeof c.peer[1].address, "-"); /* embedded: no listener */
    c.count = 1;
    start_ready(&c, 1);
    (void)propose(&c, 0, "alone");
    uint64_t index = propose(&c, 0, "still alone");
    uint64_t hash = assert_equal_states(&c, index);
    kill_peer(&c, 1);
    for (int i = 0; i < 2; i++) { /* moving once more is as good */
        (void)snprintf(c.peer[1].address, sizeof c.peer[1].address, "127.0.0.1:%u", find_port());
        start_ready(&c, 1);
        assert_int_equal(assert_equal_states(&c, index), hash);
        stop_peer(&c, 1);
    }
    start_ready(&c, 1);
    join(&c, 2);
    join(&c, 3);
    (void)assert_equal_states(&c, propose(&c, 0, "together"));
    stop_peer(&c, 1); /* now others know it: it cannot move any more */
    char address[32];
    (void)snprintf(address, sizeof address, "%s", c.peer[1].address);
    (void)snprintf(c.peer[1].address, sizeof c.peer[1].address, "127.0.0.1:%u", find_port());
    start_peer(&c, 1, NULL);
    read_line(&c, &c.peer[1]);
    assert_true(is_answer(&c, "CONFLICT"));
    reap(&c.peer[1]);
    (void)snprintf(c.peer[1].address, sizeof c.peer[1].address, "%s", address);
    start_ready(&c, 1);
    (void)assert_equal_states(&c, propose(&c, 0, "together again"));
    end_cluster(&c);
}

/* --- failures of the machine --- */

static void a_peer_whose_disk_fails_stops_and_repeats_the_entry_later(void **state)
{
    (void)state;
    struct cluster c;
    start_cluster(&c, TOY);
    grow(&c, 3);
    unsigned bad = find_leader(&c, 0) % 3 + 1;
    stop_peer(&c, bad);
    start_peer(&c, bad, "toy.apply=error");
    read_line(&c, &c.peer[bad]);
    assert_true(is_answer(&c, "OK"));
    uint64_t index = propose(&c, bad, "disk");
    (void)ask(&c, bad, "applied 20000 %llu", (unsigned long long)index);
    assert_true(is_answer(&c, "STOPPED"));
    (void)ask(&c, bad, "status");
    assert_non_null(strstr(c.line, "state=Failed"));
    assert_true(number_of(&c, "applied") < index);
    (void)ask(&c, bad, "propose 1000 x");
    assert_true(is_answer(&c, "STOPPED"));
    kill_peer(&c, bad);
    uint64_t hash = assert_equal_states(&c, index);
    start_ready(&c, bad);
    assert_int_equal(assert_equal_states(&c, index), hash);
    end_cluster(&c);
}

/* --- the interface, in this process --- */

static enum dr_code accept_entry(void *arg, uint64_t index, const char *entry, size_t bytes,
                                 struct dr_apply_result *result, struct dr_err *err)
{
    (void)index;
    (void)entry;
    (void)err;
    *(size_t *)arg += bytes;
    result->changed = true;
    return DR_OK;
}

static enum dr_code no_begin(void *arg, void **held_out, struct dr_err *err)
{
    (void)arg;
    *held_out = NULL;
    return dr_fail(err, DR_NOMEM, "none");
}

static size_t accepted_bytes;
static const struct dr_fsm counting_machine = {
    .arg = &accepted_bytes, .apply = accept_entry, .snapshot_begin = no_begin};

static void wrong_configurations_are_refused(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_node *n = NULL;
    struct dr_node *other = NULL;
    char dir[] = "/tmp/drover-raft-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct dr_node_config config = {
        .id = 3, .dir = dir, .is_bootstrap = true, .fsm = &counting_machine};
    struct dr_node_config bad = config;
    bad.id = 0;
    assert_int_equal(dr_node_create(&bad, &n, &err), DR_INPUT);
    bad = config;
    bad.is_bootstrap = false;
    assert_int_equal(dr_node_create(&bad, &n, &err), DR_INPUT);
    bad = config;
    bad.listen = "0.0.0.0:7000";
    assert_int_equal(dr_node_create(&bad, &n, &err), DR_REFUSED);
    assert_int_equal(dr_node_create(&config, &n, &err), DR_OK);
    assert_int_equal(dr_node_create(&config, &other, &err), DR_BUSY);
    dr_node_destroy(n);
    bad = config;
    bad.id = 4;
    assert_int_equal(dr_node_create(&bad, &n, &err), DR_CONFLICT);
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

static void entries_are_bounded(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_node *n = NULL;
    struct dr_node_answer a;
    char dir[] = "/tmp/drover-raft-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct dr_node_config config = {
        .id = 3, .dir = dir, .is_bootstrap = true, .fsm = &counting_machine};
    char *large = calloc(1, DR_ENTRY_BYTES_MAX + 1);
    assert_non_null(large);
    accepted_bytes = 0;
    assert_int_equal(dr_node_create(&config, &n, &err), DR_OK);
    assert_int_equal(dr_node_propose(n, "x", 1, 1000, &a, &err), DR_STOPPED);
    assert_int_equal(dr_node_start(n, &err), DR_OK);
    assert_int_equal(dr_node_propose(n, large, 0, 1000, &a, &err), DR_INPUT);
    assert_int_equal(dr_node_propose(n, large, DR_ENTRY_BYTES_MAX + 1, 1000, &a, &err), DR_INPUT);
    assert_int_equal(dr_node_propose(n, large, DR_ENTRY_BYTES_MAX, 20000, &a, &err), DR_OK);
    assert_int_equal(dr_node_propose(n, "odd", 3, 20000, &a, &err), DR_OK);
    assert_int_equal(accepted_bytes, DR_ENTRY_BYTES_MAX + 3);
    dr_node_destroy(n);
    accepted_bytes = 0; /* read back from the disk byte for byte */
    assert_int_equal(dr_node_create(&config, &n, &err), DR_OK);
    assert_int_equal(dr_node_start(n, &err), DR_OK);
    assert_int_equal(accepted_bytes, DR_ENTRY_BYTES_MAX + 3);
    dr_node_destroy(n);
    free(large);
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* Every caller gets the outcome of its own entry: the machine says the entry back. */
static enum dr_code echo_entry(void *arg, uint64_t index, const char *entry, size_t bytes,
                               struct dr_apply_result *result, struct dr_err *err)
{
    (void)err;
    *(uint64_t *)arg = index;
    (void)snprintf(result->message, sizeof result->message, "%.*s", (int)bytes, entry);
    return DR_OK;
}

enum { CALLERS = 32, ENTRIES_EACH = 50 };
struct caller {
    struct dr_node *node;
    unsigned number;
    unsigned right;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;
    uint64_t last = 0;
    for (unsigned i = 0; i < ENTRIES_EACH; i++) {
        struct dr_node_answer a;
        struct dr_err err = {0};
        char text[32];
        (void)snprintf(text, sizeof text, "caller %u entry %u", c->number, i);
        if (dr_node_propose(c->node, text, strlen(text), 20000, &a, &err) == DR_OK &&
            strcmp(a.result.message, text) == 0 && a.index > last) {
            c->right++;
        }
        last = a.index;
    }
    return NULL;
}

static void every_caller_gets_the_outcome_of_its_own_entry(void **state)
{
    (void)state;
    static uint64_t applied_index;
    static struct dr_node_status s;
    struct dr_err err = {0};
    struct dr_node *n = NULL;
    pthread_t thread[CALLERS];
    struct caller caller[CALLERS];
    char dir[] = "/tmp/drover-raft-XXXXXX";
    const struct dr_fsm echo = {
        .arg = &applied_index, .apply = echo_entry, .snapshot_begin = no_begin};
    assert_non_null(mkdtemp(dir));
    struct dr_node_config config = {.id = 1, .dir = dir, .is_bootstrap = true, .fsm = &echo};
    applied_index = 0;
    assert_int_equal(dr_node_create(&config, &n, &err), DR_OK);
    assert_int_equal(dr_node_start(n, &err), DR_OK);
    for (unsigned i = 0; i < CALLERS; i++) {
        caller[i] = (struct caller){.node = n, .number = i};
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &caller[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(caller[i].right, ENTRIES_EACH);
    }
    dr_node_status(n, &s);
    assert_true(s.applied_index >= CALLERS * ENTRIES_EACH);
    dr_node_stop(n);
    assert_int_equal(applied_index, s.applied_index);
    dr_node_destroy(n);
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_configurations_are_refused),
        cmocka_unit_test(entries_are_bounded),
        cmocka_unit_test(every_caller_gets_the_outcome_of_its_own_entry),
        cmocka_unit_test(one_peer_keeps_what_it_agreed_to_over_a_kill),
        cmocka_unit_test(a_refusal_is_an_answer_not_a_failure),
        cmocka_unit_test(a_follower_names_the_leader),
        cmocka_unit_test(a_killed_leader_is_replaced_and_nothing_is_lost),
        cmocka_unit_test(a_peer_that_was_away_catches_up_from_a_snapshot),
        cmocka_unit_test(five_peers_bear_two_deaths_and_refuse_after_three),
        cmocka_unit_test(a_leader_killed_under_load_leaves_equal_logs),
        cmocka_unit_test(a_leader_cut_off_answers_truthfully),
        cmocka_unit_test(peers_join_leave_and_hand_over),
        cmocka_unit_test(a_joiner_gets_a_log_that_is_gone_already),
        cmocka_unit_test(a_peer_on_its_own_may_get_an_address_and_company),
        cmocka_unit_test(a_peer_whose_disk_fails_stops_and_repeats_the_entry_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
