/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/ about turning back: by itself, in part, not past the point of no return;
 * and what is remembered of it. */
#include "unit/queue_help.h"

static void make_command(struct dr_plan_step *s, const char *undo)
{
    s->kind = DR_STEP_COMMAND;
    s->query = "CREATE something";
    s->rollback_query = undo;
    s->estimated = 0;
}

static struct dr_rollback_run last_run(struct rig *r, int64_t op_id)
{
    struct dr_rollback_run run = {0};
    uint32_t count = 0;
    OK(r, dr_queue_rollbacks(r->q, op_id, 0, &run, 1, &count, &r->err));
    assert_int_equal(count, 1);
    return run;
}

static uint32_t count_runs(struct rig *r, int64_t op_id)
{
    struct dr_rollback_run run[8];
    uint32_t count = 0;
    OK(r, dr_queue_rollbacks(r->q, op_id, 0, run, 8, &count, &r->err));
    return count;
}

static struct dr_queue_facts numbers(struct rig *r)
{
    struct dr_queue_facts f;
    OK(r, dr_queue_numbers(r->q, dr_wall_now(), 0, &f, &r->err));
    return f;
}

/* --- by itself -------------------------------------------------------------------------------- */

static int64_t put_atomic(struct rig *r, int steps)
{
    r->put.is_atomic = true;
    for (int i = 0; i < steps; i++) {
        make_command(add(r, "s1", 1), "DROP it");
    }
    return put(r);
}

static void an_atomic_operation_undoes_what_it_did_when_a_step_fails(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t op = put_atomic(r, 4);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    run_step(r, op, 3, DR_OUT_QUARANTINE);
    expect_op(r, op, DR_O_ROLLING_BACK);
    expect_step(r, op, 4, DR_S_CANCELLED); /* what has not run never does */
    struct dr_rollback_run run = last_run(r, op);
    assert_string_equal(run.trigger, "failure");
    assert_has(run.reason, "it broke");
    assert_string_equal(run.result, "running");
    assert_int_equal(run.steps, 3);
    /* Newest first; also the one that failed, for nobody knows how far it came. */
    run_step(r, op, 3, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    run_step(r, op, 1, DR_OUT_DONE);
    expect_op(r, op, DR_O_ROLLED_BACK);
    run = last_run(r, op);
    assert_string_equal(run.result, "done");
    assert_int_equal(run.undone, 3);
    assert_int_equal(run.worked_ms, 15);
    assert_true(run.ended_at >= run.started_at);
    expect_counts_agree(r);
    free_rig(r);
}

static void a_failed_undo_blocks_says_what_and_goes_on_when_put_back(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    uint64_t count = 0;
    int64_t op = put_atomic(r, 2);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_QUARANTINE);
    run_step(r, op, 2, DR_OUT_QUARANTINE); /* its undo fails as well */
    run_step(r, op, 1, DR_OUT_DONE);
    expect_op(r, op, DR_O_ROLLBACK_BLOCKED);
    struct dr_rollback_run run = last_run(r, op);
    assert_string_equal(run.result, "blocked");
    assert_int_equal(run.failed, 1);
    assert_has(run.first_error, "it broke");
    assert_int_equal(numbers(r).rollbacks_failed, 1);
    assert_int_equal(numbers(r).steps_undo_failed, 1);
    OK(r, dr_queue_redrive(r->q, op, 0, "ann", &count, &r->err));
    assert_int_equal(count, 1);
    run_step(r, op, 2, DR_OUT_DONE);
    expect_op(r, op, DR_O_ROLLED_BACK);
    assert_string_equal(last_run(r, op).result, "done");
    free_rig(r);
}

static void a_failure_while_paused_turns_back_only_when_it_is_resumed(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    int64_t op = put_atomic(r, 3);
    run_step(r, op, 1, DR_OUT_DONE);
    lease_step(r, op, 2, &l);
    wish(r, op, DR_WISH_PAUSE);
    finish(r, &l, DR_OUT_QUARANTINE);
    expect_op(r, op, DR_O_PAUSED);
    expect_no_lease(r);
    wish(r, op, DR_WISH_RUN);
    expect_op(r, op, DR_O_ROLLING_BACK);
    assert_int_equal(run_all(r), 2);
    expect_op(r, op, DR_O_ROLLED_BACK);
    free_rig(r);
}

static void one_that_is_not_atomic_stays_where_it_failed(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 2, "s1", 1);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_QUARANTINE);
    expect_op(r, op, DR_O_BLOCKED);
    assert_int_equal(count_runs(r, op), 0);
    assert_int_equal(numbers(r).failed_last_hour, 1);
    assert_int_equal(numbers(r).steps_quarantined, 1);
    free_rig(r);
}

static void an_atomic_operation_that_dies_in_the_middle_of_turning_back_goes_on(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    int64_t op = put_atomic(r, 3);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_QUARANTINE);
    lease_step(r, op, 2, &l); /* and the process dies */
    dr_lease_fini(&l);
    reopen_queue(r);
    assert_int_equal(run_all(r), 2);
    expect_op(r, op, DR_O_ROLLED_BACK);
    assert_string_equal(last_run(r, op).result, "done");
    free_rig(r);
}

/* --- the point of no return ------------------------------------------------------------------- */

static int64_t put_with_no_return(struct rig *r)
{
    r->put.is_atomic = true;
    r->put.no_return_from = 3;
    make_command(add(r, "s1", 1), "DROP it");
    make_command(add(r, "s1", 2), "DROP it");
    make_command(add(r, "s1", 3), NULL);
    make_command(add(r, "s1", 3), NULL);
    return put(r);
}

static void before_the_point_of_no_return_everything_goes_back(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t op = put_with_no_return(r);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    assert_false(op_of(r, op).is_past_no_return);
    wish(r, op, DR_WISH_ROLLBACK);
    assert_int_equal(run_all(r), 2);
    expect_op(r, op, DR_O_ROLLED_BACK);
    assert_string_equal(last_run(r, op).trigger, "person");
    free_rig(r);
}

static void behind_it_there_is_only_forward(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    int64_t op = put_with_no_return(r);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    lease_step(r, op, 3, &l); /* it may be half done from this moment on */
    assert_true(op_of(r, op).is_past_no_return);
    refuse_wish(r, op, DR_WISH_ROLLBACK, "point of no return");
    finish(r, &l, DR_OUT_RELEASE);
    refuse_wish(r, op, DR_WISH_ROLLBACK, "point of no return");
    assert_int_equal(dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "x", &r->err),
                     DR_REFUSED);
    assert_has(r->err.msg, "point of no return");
    run_step(r, op, 3, DR_OUT_QUARANTINE); /* it does not turn back by itself either */
    run_step(r, op, 4, DR_OUT_DONE);
    expect_op(r, op, DR_O_BLOCKED);
    assert_int_equal(count_runs(r, op), 0);
    free_rig(r);
}

static void a_step_without_rollback_is_refused_before_the_point_of_no_return(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t op = 0;
    r->put.no_return_from = 2;
    make_command(add(r, "s1", 1), NULL);
    make_command(add(r, "s1", 1), NULL);
    assert_int_equal(try_put(r, &op), DR_REFUSED);
    assert_has(r->err.msg, "step 1");
    free_rig(r);
}

/* --- in part ---------------------------------------------------------------------------------- */

static void a_partial_rollback_keeps_what_stands_before_and_runs_on(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    make_command(add(r, "s1", 1), "DROP it");
    make_command(add(r, "s1", 1), "DROP it");
    struct dr_plan_step *third = add(r, "s1", 1);
    make_command(third, "DROP it");
    third->wait_for = 2;
    make_command(add(r, "s1", 2), "DROP it");
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    run_step(r, op, 3, DR_OUT_DONE);
    OK(r, dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "from here", &r->err));
    expect_op(r, op, DR_O_ROLLING_BACK);
    run_step(r, op, 3, DR_OUT_DONE);
    run_step(r, op, 2, DR_OUT_DONE);
    expect_op(r, op, DR_O_STOPPED);
    expect_step(r, op, 1, DR_S_PROCESSED);
    expect_step(r, op, 2, DR_S_CANCELLED);
    struct dr_rollback_run run = last_run(r, op);
    assert_string_equal(run.result, "done");
    assert_int_equal(run.to_step, step_of(r, op, 1).id);
    assert_int_equal(run.undone, 2);
    expect_counts_agree(r);
    wish(r, op, DR_WISH_RUN);
    run_step(r, op, 2, DR_OUT_DONE); /* the third waits for it again */
    run_step(r, op, 3, DR_OUT_DONE);
    run_step(r, op, 4, DR_OUT_DONE);
    expect_op(r, op, DR_O_DONE);
    wish(r, op, DR_WISH_ROLLBACK); /* and all the way */
    assert_int_equal(run_all(r), 4);
    expect_op(r, op, DR_O_ROLLED_BACK);
    assert_int_equal(count_runs(r, op), 2);
    expect_counts_agree(r);
    free_rig(r);
}

static void a_partial_rollback_leaves_a_running_step_that_stays_alone(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 1, "s1", 1);
    add_many(r, 1, "s2", 1);
    int64_t op = put(r);
    lease_step(r, op, 1, &l);
    run_step(r, op, 2, DR_OUT_DONE);
    OK(r, dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "x", &r->err));
    finish(r, &l, DR_OUT_DONE);
    expect_step(r, op, 1, DR_S_PROCESSED);
    assert_int_equal(run_all(r), 1);
    expect_op(r, op, DR_O_STOPPED);
    expect_step(r, op, 1, DR_S_PROCESSED);
    expect_counts_agree(r);
    free_rig(r);
}

static void a_partial_rollback_that_crosses_stages_is_refused(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 2);
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    assert_int_equal(run_all(r), 2);
    assert_int_equal(dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "x", &r->err),
                     DR_REFUSED);
    assert_has(r->err.msg, "later stage");
    assert_int_equal(dr_queue_rollback_to(r->q, op, 4711, "ann", "x", &r->err), DR_NOT_FOUND);
    expect_op(r, op, DR_O_DONE);
    free_rig(r);
}

static void what_could_not_be_put_back_whole_keeps_its_step_undone(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 2, "s1", 1);
    int64_t op = put(r);
    assert_int_equal(run_all(r), 2);
    OK(r, dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "x", &r->err));
    lease_step(r, op, 2, &l);
    l.mark.conflicts = 1;
    finish(r, &l, DR_OUT_DONE);
    expect_op(r, op, DR_O_STOPPED);
    expect_step(r, op, 2, DR_S_UNDONE);
    free_rig(r);
}

static void a_partial_rollback_survives_a_crash(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 3, "s1", 1);
    int64_t op = put(r);
    assert_int_equal(run_all(r), 3);
    OK(r, dr_queue_rollback_to(r->q, op, step_of(r, op, 1).id, "ann", "x", &r->err));
    lease_step(r, op, 3, &l);
    dr_lease_fini(&l);
    reopen_queue(r);
    assert_int_equal(run_all(r), 2);
    expect_op(r, op, DR_O_STOPPED);
    expect_step(r, op, 1, DR_S_PROCESSED);
    expect_counts_agree(r);
    free_rig(r);
}

/* --- giving up, heartbeats, numbers ----------------------------------------------------------- */

static void a_lease_says_since_when_its_step_fails(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    r->put.give_up_s = 30;
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    lease_step(r, op, 1, &l);
    assert_int_equal(l.give_up_s, 30);
    assert_int_equal(l.failing_since, 0);
    dr_wall_ms before = dr_wall_now();
    finish(r, &l, DR_OUT_RETRY);
    OK(r, dr_queue_sweep(r->q, &(uint64_t){0}, &r->err));
    lease_step(r, op, 1, &l);
    dr_wall_ms since = l.failing_since;
    assert_in_range(since, before, dr_wall_now());
    l.tries = 1;
    finish(r, &l, DR_OUT_RETRY);
    OK(r, dr_queue_sweep(r->q, &(uint64_t){0}, &r->err));
    lease_step(r, op, 1, &l);
    assert_int_equal(l.failing_since, since); /* of the first failure, not the last */
    struct dr_finish braked = {.outcome = DR_OUT_RETRY, .error = "not now", .is_braked = true};
    OK(r, dr_queue_finish(r->q, &l, &braked, true, &r->err));
    dr_lease_fini(&l);
    OK(r, dr_queue_sweep(r->q, &(uint64_t){0}, &r->err));
    lease_step(r, op, 1, &l);
    assert_int_equal(l.failing_since, 0);
    finish(r, &l, DR_OUT_DONE);
    free_rig(r);
}

static void heartbeats_tell_who_lives_and_a_new_owner_ends_the_old(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_heartbeat h[4];
    uint32_t count = 0;
    dr_queue_heartbeat(r->q, "host:1", false);
    dr_queue_heartbeat(r->q, "host:2", true);
    OK(r, dr_queue_flush(r->q, &r->err));
    OK(r, dr_queue_heartbeats(r->q, h, 4, &count, &r->err));
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(h[i].is_ended, strcmp(h[i].worker, "host:2") == 0);
        assert_true(h[i].seen_at >= h[i].started_at && h[i].started_at > 0);
    }
    reopen_queue(r);
    OK(r, dr_queue_heartbeats(r->q, h, 4, &count, &r->err));
    assert_int_equal(count, 2);
    assert_true(h[0].is_ended && h[1].is_ended);
    free_rig(r);
}

static void the_numbers_of_health_follow_the_operations(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 5, "s1", 1);
    int64_t op = put(r);
    assert_int_equal(numbers(r).depth, 5);
    assert_int_equal(numbers(r).ops_running, 1);
    run_step(r, op, 1, DR_OUT_DONE);
    assert_int_equal(numbers(r).depth, 4);
    wish(r, op, DR_WISH_PAUSE);
    assert_int_equal(numbers(r).depth, 0);
    assert_int_equal(numbers(r).ops_paused, 1);
    wish(r, op, DR_WISH_ROLLBACK);
    assert_int_equal(numbers(r).ops_rolling_back, 1);
    assert_int_equal(numbers(r).rollbacks, 1);
    assert_int_equal(run_all(r), 1);
    assert_int_equal(numbers(r).ops_rolling_back, 0);
    assert_int_equal(numbers(r).rollbacks_failed, 0);
    free_rig(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_atomic_operation_undoes_what_it_did_when_a_step_fails),
        cmocka_unit_test(a_failed_undo_blocks_says_what_and_goes_on_when_put_back),
        cmocka_unit_test(a_failure_while_paused_turns_back_only_when_it_is_resumed),
        cmocka_unit_test(one_that_is_not_atomic_stays_where_it_failed),
        cmocka_unit_test(an_atomic_operation_that_dies_in_the_middle_of_turning_back_goes_on),
        cmocka_unit_test(before_the_point_of_no_return_everything_goes_back),
        cmocka_unit_test(behind_it_there_is_only_forward),
        cmocka_unit_test(a_step_without_rollback_is_refused_before_the_point_of_no_return),
        cmocka_unit_test(a_partial_rollback_keeps_what_stands_before_and_runs_on),
        cmocka_unit_test(a_partial_rollback_leaves_a_running_step_that_stays_alone),
        cmocka_unit_test(a_partial_rollback_that_crosses_stages_is_refused),
        cmocka_unit_test(what_could_not_be_put_back_whole_keeps_its_step_undone),
        cmocka_unit_test(a_partial_rollback_survives_a_crash),
        cmocka_unit_test(a_lease_says_since_when_its_step_fails),
        cmocka_unit_test(heartbeats_tell_who_lives_and_a_new_owner_ends_the_old),
        cmocka_unit_test(the_numbers_of_health_follow_the_operations),
    };
    return cmocka_run_group_tests_name("queue_rollback", tests, NULL, NULL);
}
