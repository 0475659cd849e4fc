/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the worker pool about failures: what heals is waited for, what does not is set
 * aside with its reason, and whatever goes wrong, rows and counts stay right. */
#include "worker/pool_help.h"

/* --- what heals ----------------------------------------------------------------------------------
 */

static void test_passing_failures_are_retried_until_it_is_done(void **state)
{
    const char *rules[] = {"scan=busy@1+2;erase=unreachable@2+2", "open=unreachable@1+4",
                           "epoch=busy@2+3;health=unreachable@1+2", "survey=busy@1;erase=stale@1+2",
                           "health=bad@1+5"};
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        struct bed b;
        make_bed(&b, rules[i], 2, 4, 100);
        assert_int_equal(dr_memory_bump_epoch(b.name, ORDERS), DR_OK);
        int64_t op = put_drop(&b, NULL);
        run_op(&b, op);
        expect_status(&b, op, DR_O_DONE);
        assert_int_equal(op_now(&b, op).items_done, 100);
        roll_back(&b, op);
        free_bed(&b);
    }
}

static void test_why_it_is_being_retried_is_told(void **state)
{
    struct bed b;
    struct pool_run r;
    struct dr_step s[1];
    (void)state;
    make_bed(&b, "scan=unreachable@1", 1, 1, 20);
    int64_t op = put_drop(&b, NULL);
    make_run(&r, &b, op);
    r.config.retry_first_ms = r.config.retry_max_ms = 1500;
    start_run(&r);
    (void)await_op(&b, op, is_waiting_for, "s1: fault: cannot be reached");
    assert_int_equal(steps_now(&b, op, DR_S_WAITING, s, 1), 1);
    assert_has(s[0].last_error, "cannot be reached");
    assert_int_equal(s[0].tries, 1);
    join_run(&r);
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

static void test_one_node_that_fails_for_long_does_not_hold_up_the_others(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    int64_t op = put_drop(&b, NULL);
    dr_memory_remove(b.name); /* every call is unreachable now */
    make_run(&r, &b, op);
    start_run(&r);
    (void)dr_wait_ms(400, NULL, NULL);
    assert_int_equal(op_now(&b, op).count[DR_S_FAILED], 0); /* however many tries */
    lay_out(&b);
    join_run(&r);
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

/* --- what does not -------------------------------------------------------------------------------
 */

static void test_a_permanent_failure_sets_one_step_aside_and_the_others_finish(void **state)
{
    struct bed b;
    struct dr_step s[8];
    uint64_t count = 0;
    (void)state;
    make_bed(&b, "erase=denied@1", 2, 8, 160);
    int64_t op = put_drop(&b, NULL);
    run_op(&b, op);
    expect_status(&b, op, DR_O_BLOCKED);
    assert_int_equal(steps_now(&b, op, DR_S_FAILED, s, 8), 1);
    assert_has(s[0].last_error, "not permitted");
    assert_int_equal(op_now(&b, op).count[DR_S_PROCESSED], 7);
    assert_int_equal(op_now(&b, op).items_done, 140);
    assert_int_equal(rows_now(&b), 20);
    MUST(&b, dr_queue_redrive(b.q, op, 0, "tester@here", &count, &b.err));
    assert_int_equal(count, 1);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    assert_int_equal(op_now(&b, op).items_done, 160);
    roll_back(&b, op);
    free_bed(&b);
}

/* Between two steps nothing is leased, and the failed one makes the operation look blocked: that is
 * not the end as long as others can move. */
static void test_a_blocked_look_in_passing_does_not_end_the_run(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "erase=denied@1;health=bad@2+20", 1, 4, 80); /* a second of nothing leased */
    int64_t op = put_drop(&b, NULL);
    make_run(&r, &b, op);
    r.config.threads = 1;
    MUST(&b, dr_pool_run(&r.config, &b.err));
    expect_status(&b, op, DR_O_BLOCKED);
    assert_int_equal(op_now(&b, op).count[DR_S_PROCESSED], 3);
    assert_int_equal(op_now(&b, op).count[DR_S_CREATED], 4); /* the four that verify */
    assert_int_equal(rows_now(&b), 20);
    free_bed(&b);
}

static void test_a_broken_read_is_given_up_only_after_so_many_tries(void **state)
{
    (void)state;
    for (int failures = 2; failures <= 3; failures++) { /* tries_max is 3 */
        struct bed b;
        char rules[32];
        struct dr_step s[1];
        (void)snprintf(rules, sizeof rules, "scan=io@1+%d", failures - 1);
        make_bed(&b, rules, 1, 1, 20);
        int64_t op = put_drop(&b, NULL);
        run_op(&b, op);
        expect_status(&b, op, failures < 3 ? DR_O_DONE : DR_O_BLOCKED);
        if (failures == 3) {
            assert_int_equal(steps_now(&b, op, DR_S_FAILED, s, 1), 1);
            assert_has(s[0].last_error, "input/output error");
        }
        free_bed(&b);
    }
}

/* That the node was away for long says nothing about a step whose own read fails once. */
static void test_failures_of_the_node_do_not_count_as_tries_of_a_step(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "scan=unreachable@1+5;scan=io@7", 1, 6, 60);
    int64_t op = put_drop(&b, NULL);
    make_run(&r, &b, op);
    r.config.tries_max = 6;
    r.config.threads = 1;
    MUST(&b, dr_pool_run(&r.config, &b.err));
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

static void test_a_quarantined_step_is_rolled_back_with_the_rest(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "erase=denied@3", 1, 2, 100);
    int64_t op = put_drop(&b, ", \"tuning\": {\"batch_items_max\": 7}");
    run_op(&b, op);
    expect_status(&b, op, DR_O_BLOCKED);
    assert_int_equal(op_now(&b, op).items_done, 14 + 50);
    roll_back(&b, op);
    assert_int_equal(op_now(&b, op).items_undone, 64);
    free_bed(&b);
}

static void test_a_rollback_that_fails_is_set_aside_and_can_be_redriven(void **state)
{
    struct bed b;
    uint64_t count = 0;
    (void)state;
    make_bed(&b, "restore=denied@1", 1, 4, 100);
    int64_t op = put_drop(&b, NULL);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    wish(&b, op, DR_WISH_ROLLBACK);
    run_op(&b, op);
    expect_status(&b, op, DR_O_ROLLBACK_BLOCKED);
    assert_int_equal(rows_now(&b), 75);
    MUST(&b, dr_queue_redrive(b.q, op, 0, "tester@here", &count, &b.err));
    assert_int_equal(count, 1);
    run_op(&b, op);
    expect_status(&b, op, DR_O_ROLLED_BACK);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    free_bed(&b);
}

/* --- leases that are lost ------------------------------------------------------------------------
 */

static void test_a_lost_lease_erases_nothing_twice_and_loses_no_count(void **state)
{
    const char *rules[] = {"scan=delay:350@2+1", "erase=delay:350@2+1", "erase=delay:350@1",
                           "scan=delay:300@3;erase=delay:300@5;epoch=delay:300@9"};
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        struct bed b;
        struct pool_run r;
        make_bed(&b, rules[i], 2, 2, 100);
        int64_t op = put_drop(&b, ", \"tuning\": {\"batch_items_max\": 7}");
        make_run(&r, &b, op);
        r.config.lease_ms = 40; /* gone before the keeper comes by again */
        MUST(&b, dr_pool_run(&r.config, &b.err));
        expect_status(&b, op, DR_O_DONE);
        assert_int_equal(op_now(&b, op).items_done, 100);
        assert_int_equal(rows_now(&b), 0);
        assert_true(dr_fault_store_calls(b.url, "probe") > 0); /* it was taken over indeed */
        roll_back(&b, op);
        free_bed(&b);
    }
}

static void test_a_long_batch_keeps_its_lease(void **state)
{
    struct bed b;
    struct pool_run r;
    struct dr_step s[2];
    (void)state;
    make_bed(&b, "scan=delay:1600@1", 1, 1, 20);
    int64_t op = put_drop(&b, NULL);
    make_run(&r, &b, op);
    r.config.lease_ms = 1000;
    MUST(&b, dr_pool_run(&r.config, &b.err));
    expect_status(&b, op, DR_O_DONE);
    assert_true(steps_now(&b, op, DR_S_PROCESSED, s, 2) > 0);
    assert_int_equal(dr_fault_store_calls(b.url, "erase"), 1); /* nobody took it over */
    assert_string_equal(s[0].last_error, "");
    free_bed(&b);
}

/* A step that brings down whoever touches it must not do so for ever. */
static void test_a_step_over_which_workers_die_is_set_aside(void **state)
{
    struct bed b;
    struct dr_step s[1];
    struct dr_lease_rules rules = {.worker = "gone", .lease_ms = 60000, .per_node_default = 1};
    uint64_t back = 0;
    (void)state;
    make_bed(&b, "none", 1, 1, 20);
    int64_t op = put_drop(&b, NULL);
    for (int i = 0; i < 3; i++) { /* tries_max is 3; closing the queue is what dying looks like */
        struct dr_lease lease = {0};
        uint32_t count = 0;
        MUST(&b, dr_queue_lease(b.q, &rules, &lease, 1, &count, &b.err));
        assert_int_equal(count, 1);
        assert_int_equal(lease.deaths, i);
        dr_lease_fini(&lease);
        dr_queue_close(b.q);
        open_queue(&b);
    }
    run_op(&b, op);
    expect_status(&b, op, DR_O_BLOCKED);
    assert_int_equal(rows_now(&b), 20);
    assert_int_equal(steps_now(&b, op, DR_S_FAILED, s, 1), 1);
    assert_has(s[0].last_error, "3 workers in a row");
    MUST(&b, dr_queue_redrive(b.q, op, 0, "test", &back, &b.err));
    assert_int_equal(back, 1);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

/* --- what turns back -----------------------------------------------------------------------------
 */

static void test_an_atomic_operation_puts_everything_back_when_a_step_cannot_be_done(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "erase=denied@3", 1, 4, 100); /* two chunks are gone by then */
    int64_t op = put_job(&b, &(struct job){.wish = DR_WISH_RUN, .is_atomic = true});
    run_op(&b, op);
    expect_status(&b, op, DR_O_ROLLED_BACK);
    assert_int_equal(rows_now(&b), 100);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    struct dr_op o = op_now(&b, op);
    assert_string_equal(o.wish_by, "drover");
    assert_has(o.wish_reason, "step ");
    assert_int_equal(o.items_undone, o.items_done);
    free_bed(&b);
}

static void test_a_node_that_stays_away_is_given_up_after_the_time_allowed(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "scan=unreachable@3+1000000", 1, 4, 100);
    int64_t op = put_job(&b, &(struct job){.wish = DR_WISH_RUN, .is_atomic = true, .give_up_s = 1});
    dr_mono_ms begin = dr_mono_now();
    run_op(&b, op);
    assert_true(dr_mono_now() - begin >= 1000); /* not before */
    expect_status(&b, op, DR_O_ROLLED_BACK);
    assert_has(op_now(&b, op).wish_reason, "cannot be reached");
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    free_bed(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_atomic_operation_puts_everything_back_when_a_step_cannot_be_done),
        cmocka_unit_test(test_a_node_that_stays_away_is_given_up_after_the_time_allowed),
        cmocka_unit_test(test_passing_failures_are_retried_until_it_is_done),
        cmocka_unit_test(test_why_it_is_being_retried_is_told),
        cmocka_unit_test(test_one_node_that_fails_for_long_does_not_hold_up_the_others),
        cmocka_unit_test(test_a_permanent_failure_sets_one_step_aside_and_the_others_finish),
        cmocka_unit_test(test_a_blocked_look_in_passing_does_not_end_the_run),
        cmocka_unit_test(test_a_broken_read_is_given_up_only_after_so_many_tries),
        cmocka_unit_test(test_failures_of_the_node_do_not_count_as_tries_of_a_step),
        cmocka_unit_test(test_a_quarantined_step_is_rolled_back_with_the_rest),
        cmocka_unit_test(test_a_rollback_that_fails_is_set_aside_and_can_be_redriven),
        cmocka_unit_test(test_a_lost_lease_erases_nothing_twice_and_loses_no_count),
        cmocka_unit_test(test_a_long_batch_keeps_its_lease),
        cmocka_unit_test(test_a_step_over_which_workers_die_is_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
