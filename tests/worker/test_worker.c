/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the worker pool: what is wished happens, soon, and never more than is allowed. */
#include "worker/pool_help.h"

/* Every read takes a while, every batch is small: an operation that is worth interrupting. */
#define SLOW "scan=delay:20@1+1000000"
#define SMALL ", \"tuning\": {\"batch_items_max\": 5}"

/* --- running -------------------------------------------------------------------------------------
 */

static void test_an_operation_runs_to_its_end_and_back(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 4, 8, 400);
    int64_t op = put_drop(&b, NULL);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    struct dr_op o = op_now(&b, op);
    assert_int_equal(o.items_done, 400);
    assert_int_equal(o.count[DR_S_PROCESSED], o.steps);
    assert_int_equal(rows_now(&b), 0);
    roll_back(&b, op);
    assert_int_equal(op_now(&b, op).count[DR_S_UNDONE], o.steps);
    free_bed(&b);
}

static void test_a_run_for_all_ends_when_nothing_is_left_to_do(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 2, 2, 40);
    int64_t first = put_drop(&b, NULL);
    int64_t second = put_drop(&b, NULL);
    int64_t held = put_job(&b, &(struct job){.wish = DR_WISH_HOLD});
    run_op(&b, 0);
    expect_status(&b, first, DR_O_DONE);
    expect_status(&b, second, DR_O_DONE);
    expect_status(&b, held, DR_O_PLANNED);
    assert_int_equal(op_now(&b, first).items_done + op_now(&b, second).items_done, 40);
    free_bed(&b);
}

static void test_nodes_work_at_once_but_each_does_one_step_at_a_time(void **state)
{
    struct bed b;
    struct pool_run r;
    uint32_t most = 0;
    (void)state;
    make_bed(&b, SLOW, 4, 12, 240);
    int64_t op = put_drop(&b, NULL);
    make_run(&r, &b, op);
    r.config.threads = 8;
    start_run(&r);
    while (op_now(&b, op).status != DR_O_DONE) {
        struct dr_step s[16];
        uint32_t count = steps_now(&b, op, DR_S_LEASED, s, 16);
        most = count > most ? count : most;
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t k = 0; k < i; k++) {
                assert_string_not_equal(s[i].node, s[k].node);
            }
        }
        (void)dr_wait_ms(2, NULL, NULL);
    }
    join_run(&r);
    assert_in_range(most, 2, 4);
    free_bed(&b);
}

static void test_per_node_lets_a_node_do_more_at_once(void **state)
{
    struct bed b;
    struct pool_run r;
    uint32_t most = 0;
    (void)state;
    make_bed(&b, SLOW, 1, 6, 120);
    int64_t op = put_drop(&b, ", \"tuning\": {\"per_node\": 3}");
    make_run(&r, &b, op);
    r.config.threads = 6;
    start_run(&r);
    while (op_now(&b, op).status != DR_O_DONE) {
        struct dr_step s[8];
        uint32_t count = steps_now(&b, op, DR_S_LEASED, s, 8);
        most = count > most ? count : most;
        (void)dr_wait_ms(2, NULL, NULL);
    }
    join_run(&r);
    assert_in_range(most, 2, 3);
    free_bed(&b);
}

/* --- control from outside ------------------------------------------------------------------------
 */

static void test_pause_resume_stop_and_rollback_bite_within_seconds(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, SLOW, 4, 8, 4000);
    int64_t op = put_drop(&b, SMALL);
    make_run(&r, &b, 0);
    r.config.is_forever = true;
    start_run(&r);
    await_done(&b, op, 20);
    wish(&b, op, DR_WISH_PAUSE);
    assert_in_range(await_status(&b, op, DR_O_PAUSED), 0, 3000);
    uint64_t left = rows_now(&b);
    (void)dr_wait_ms(400, NULL, NULL);
    assert_int_equal(rows_now(&b), left);
    assert_int_equal(op_now(&b, op).items_done, 4000 - left);
    wish(&b, op, DR_WISH_RUN);
    await_done(&b, op, 4000 - left + 20);
    wish(&b, op, DR_WISH_STOP);
    assert_in_range(await_status(&b, op, DR_O_STOPPED), 0, 3000);
    left = rows_now(&b);
    assert_true(left > 0);
    assert_int_equal(op_now(&b, op).items_done, 4000 - left);
    wish(&b, op, DR_WISH_RUN); /* a stopped one may run again */
    await_done(&b, op, 4000 - left + 20);
    wish(&b, op, DR_WISH_ROLLBACK);
    (void)await_status(&b, op, DR_O_ROLLED_BACK);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    assert_int_equal(op_now(&b, op).items_undone, op_now(&b, op).items_done);
    stop_run(&r);
    free_bed(&b);
}

static void test_asking_to_stop_releases_everything(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, SLOW, 4, 8, 4000);
    int64_t op = put_drop(&b, SMALL);
    make_run(&r, &b, op);
    start_run(&r);
    await_done(&b, op, 50);
    dr_mono_ms begin = dr_mono_now();
    stop_run(&r);
    assert_in_range(dr_mono_now() - begin, 0, 3000);
    struct dr_op o = op_now(&b, op);
    assert_int_equal(o.count[DR_S_LEASED], 0);
    assert_int_equal(o.count[DR_S_UNKNOWN], 0);
    assert_int_equal(o.items_done, 4000 - rows_now(&b));
    assert_true(rows_now(&b) > 0);
    roll_back(&b, op);
    free_bed(&b);
}

static void test_a_run_for_one_operation_leaves_the_others_queued(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    int64_t other = put_job(&b, &(struct job){.wish = DR_WISH_RUN, .priority = 50});
    int64_t op = put_drop(&b, NULL);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    expect_status(&b, other, DR_O_QUEUED);
    assert_int_equal(op_now(&b, other).count[DR_S_CREATED], op_now(&b, other).steps);
    free_bed(&b);
}

static void test_higher_priority_goes_first_between_steps(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, SLOW, 1, 10, 100);
    int64_t low = put_drop(&b, NULL);
    make_run(&r, &b, 0);
    r.config.threads = 1;
    start_run(&r);
    await_done(&b, low, 10);
    int64_t high = put_job(&b, &(struct job){.wish = DR_WISH_RUN, .priority = 50});
    (void)await_status(&b, high, DR_O_DONE);
    struct dr_op o = op_now(&b, low);
    assert_true(o.count[DR_S_CREATED] > 0); /* it had to wait */
    join_run(&r);
    expect_status(&b, low, DR_O_DONE);
    assert_int_equal(op_now(&b, low).items_done + op_now(&b, high).items_done, 100);
    free_bed(&b);
}

/* --- brakes and guards ---------------------------------------------------------------------------
 */

static void test_a_sick_node_is_waited_for_and_the_reason_told(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    int64_t op = put_drop(&b, NULL);
    assert_int_equal(dr_memory_set_health(b.name, "s1", false, "replication lag 31 s, limit 10 s"),
                     DR_OK);
    make_run(&r, &b, op);
    start_run(&r);
    (void)await_op(&b, op, is_waiting_for, "s1: replication lag 31 s, limit 10 s");
    await_done(&b, op, 50); /* the other node goes on */
    assert_int_equal(dr_memory_count(b.name, ORDERS, "s1"), 50);
    assert_int_equal(dr_memory_set_health(b.name, "s1", true, NULL), DR_OK);
    join_run(&r);
    expect_status(&b, op, DR_O_DONE);
    assert_string_equal(op_now(&b, op).waiting, "");
    free_bed(&b);
}

static void test_nothing_is_leased_in_quiet_hours_and_the_reason_told(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    int64_t op = put_drop(&b, ", \"tuning\": {\"quiet\": [\"00:00-24:00\"]}");
    make_run(&r, &b, op);
    start_run(&r);
    (void)await_op(&b, op, is_waiting_for, "quiet hours until");
    (void)dr_wait_ms(200, NULL, NULL);
    struct dr_op o = op_now(&b, op);
    assert_int_equal(o.count[DR_S_LEASED], 0);
    assert_int_equal(rows_now(&b), 100);
    tune(&b, op, "{\"quiet\": []}", 0);
    join_run(&r);
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

static void test_the_rate_is_not_exceeded(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "none", 4, 8, 4000);
    int64_t op = put_drop(&b, ", \"tuning\": {\"rate\": 200}");
    make_run(&r, &b, op);
    dr_mono_ms begin = dr_mono_now();
    start_run(&r);
    (void)dr_wait_ms(1500, NULL, NULL);
    stop_run(&r);
    double seconds = (double)(dr_mono_now() - begin) / 1000.0;
    uint64_t most = (uint64_t)(200.0 * seconds) + 4 * 51; /* a slice of each thread ahead of time */
    assert_in_range(4000 - rows_now(&b), 1, most);
    free_bed(&b);
}

static void test_a_raised_rate_is_obeyed_while_it_waits(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, "none", 1, 1, 500);
    int64_t op = put_drop(&b, ", \"tuning\": {\"rate\": 1, \"batch_items_max\": 1}");
    make_run(&r, &b, op);
    start_run(&r);
    await_done(&b, op, 1);
    tune(&b, op, "{\"rate\": 0}", 0);
    join_run(&r); /* 500 s at the old rate */
    expect_status(&b, op, DR_O_DONE);
    free_bed(&b);
}

static void test_max_items_stops_exactly_there_and_a_raise_goes_on(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 4, 8, 400);
    int64_t op = put_drop(&b, NULL);
    tune(&b, op, "{\"max_items\": 101, \"batch_items_max\": 7}", 0);
    run_op(&b, op);
    expect_status(&b, op, DR_O_PAUSED);
    assert_int_equal(rows_now(&b), 299);
    assert_int_equal(op_now(&b, op).items_done, 101);
    assert_has(op_now(&b, op).wish_reason, "max_items reached: 101 items are gone");
    tune(&b, op, "{\"max_items\": 250, \"batch_items_max\": 7}", 0);
    wish(&b, op, DR_WISH_RUN);
    run_op(&b, op);
    expect_status(&b, op, DR_O_PAUSED);
    assert_int_equal(rows_now(&b), 150);
    tune(&b, op, "{\"max_items\": 0}", 0);
    wish(&b, op, DR_WISH_RUN);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    assert_int_equal(op_now(&b, op).items_done, 400);
    free_bed(&b);
}

static void test_max_items_holds_when_replies_are_lost(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "erase=unknown_done@1+5", 4, 8, 400);
    int64_t op = put_drop(&b, NULL);
    tune(&b, op, "{\"max_items\": 100, \"batch_items_max\": 7}", 0);
    run_op(&b, op);
    expect_status(&b, op, DR_O_PAUSED);
    assert_int_equal(rows_now(&b), 300);
    assert_int_equal(op_now(&b, op).items_done, 100);
    free_bed(&b);
}

static void test_a_limit_that_is_just_enough_lets_the_operation_end(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    int64_t op = put_drop(&b, ", \"max_items\": 100");
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    assert_int_equal(op_now(&b, op).items_done, 100);
    roll_back(&b, op);
    free_bed(&b);
}

static void test_rows_beyond_a_spent_limit_stay_and_pause_it(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 1, 1, 50);
    int64_t op = put_drop(&b, ", \"max_items\": 50");
    for (int id = 100; id < 120; id++) {
        put_row(&b, id, "written after planning");
    }
    run_op(&b, op);
    expect_status(&b, op, DR_O_PAUSED);
    assert_int_equal(rows_now(&b), 20);
    assert_int_equal(op_now(&b, op).items_done, 50);
    assert_has(op_now(&b, op).wish_reason, "max_items reached");
    free_bed(&b);
}

static void test_drift_pauses_and_resuming_goes_on(void **state)
{
    struct bed b;
    (void)state;
    make_bed(&b, "none", 1, 1, 20);
    int64_t op = put_drop(&b, ", \"drift\": 0, \"tuning\": {\"batch_items_max\": 50}");
    for (int id = 100; id < 1700; id++) {
        put_row(&b, id, "written after planning");
    }
    run_op(&b, op);
    expect_status(&b, op, DR_O_PAUSED);
    assert_has(op_now(&b, op).wish_reason, "drift:");
    assert_in_range(op_now(&b, op).items_done, 1021, 1100);
    assert_int_equal(rows_now(&b), 1620 - op_now(&b, op).items_done);
    wish(&b, op, DR_WISH_RUN);
    run_op(&b, op);
    expect_status(&b, op, DR_O_DONE);
    assert_int_equal(op_now(&b, op).items_done, 1620);
    free_bed(&b);
}

/* --- what a step leaves behind -------------------------------------------------------------------
 */

static void test_a_temporary_index_is_removed_however_the_operation_ends(void **state)
{
    const enum dr_wish ends[] = {DR_WISH_RUN, DR_WISH_STOP, DR_WISH_ROLLBACK};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct bed b;
        struct pool_run r;
        struct dr_cleanup c[8];
        uint32_t count = 0;
        make_bed(&b, SLOW, 2, 2, 200);
        int64_t op = put_job(&b, &(struct job){.more = SMALL, .wish = DR_WISH_RUN, .indexes = 20});
        make_run(&r, &b, op);
        start_run(&r);
        await_done(&b, op, 10);
        assert_true(dr_memory_has_index(b.name, "drover_1"));
        assert_true(dr_memory_has_index(b.name, "drover_20"));
        if (ends[i] != DR_WISH_RUN) {
            wish(&b, op, ends[i]);
        }
        join_run(&r);
        for (int k = 1; k <= 20; k++) {
            char name[32];
            (void)snprintf(name, sizeof name, "drover_%d", k);
            assert_false(dr_memory_has_index(b.name, name));
        }
        MUST(&b, dr_queue_cleanups(b.q, false, c, 8, &count, &b.err));
        assert_int_equal(count, 0);
        assert_int_equal(rows_now(&b),
                         200 - op_now(&b, op).items_done + op_now(&b, op).items_undone);
        free_bed(&b);
    }
}

static void test_a_stop_in_the_middle_can_be_rolled_back_completely(void **state)
{
    struct bed b;
    struct pool_run r;
    (void)state;
    make_bed(&b, SLOW, 4, 8, 2000);
    int64_t op = put_drop(&b, SMALL);
    make_run(&r, &b, op);
    start_run(&r);
    await_done(&b, op, 200);
    wish(&b, op, DR_WISH_STOP);
    join_run(&r);
    expect_status(&b, op, DR_O_STOPPED);
    assert_in_range(rows_now(&b), 1, 1800);
    roll_back(&b, op);
    free_bed(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_operation_runs_to_its_end_and_back),
        cmocka_unit_test(test_a_run_for_all_ends_when_nothing_is_left_to_do),
        cmocka_unit_test(test_nodes_work_at_once_but_each_does_one_step_at_a_time),
        cmocka_unit_test(test_per_node_lets_a_node_do_more_at_once),
        cmocka_unit_test(test_pause_resume_stop_and_rollback_bite_within_seconds),
        cmocka_unit_test(test_asking_to_stop_releases_everything),
        cmocka_unit_test(test_a_run_for_one_operation_leaves_the_others_queued),
        cmocka_unit_test(test_higher_priority_goes_first_between_steps),
        cmocka_unit_test(test_a_sick_node_is_waited_for_and_the_reason_told),
        cmocka_unit_test(test_nothing_is_leased_in_quiet_hours_and_the_reason_told),
        cmocka_unit_test(test_the_rate_is_not_exceeded),
        cmocka_unit_test(test_a_raised_rate_is_obeyed_while_it_waits),
        cmocka_unit_test(test_max_items_stops_exactly_there_and_a_raise_goes_on),
        cmocka_unit_test(test_max_items_holds_when_replies_are_lost),
        cmocka_unit_test(test_a_limit_that_is_just_enough_lets_the_operation_end),
        cmocka_unit_test(test_rows_beyond_a_spent_limit_stay_and_pause_it),
        cmocka_unit_test(test_drift_pauses_and_resuming_goes_on),
        cmocka_unit_test(test_a_temporary_index_is_removed_however_the_operation_ends),
        cmocka_unit_test(test_a_stop_in_the_middle_can_be_rolled_back_completely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
