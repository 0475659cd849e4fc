/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of worker/ that need no store: batch sizes follow time, failures are judged by their
 * class, guards and rate limits count right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/worker_private.h"

static struct dr_tuning tuning_of(uint64_t min, uint64_t max, uint64_t target_ms)
{
    struct dr_tuning t;
    dr_tuning_default(&t);
    t.batch_items_min = min;
    t.batch_items_max = max;
    t.batch_target_ms = target_ms;
    return t;
}

/* --- pace ----------------------------------------------------------------------------------------
 */

static void test_the_first_batch_is_small_and_within_the_limits(void **state)
{
    (void)state;
    struct dr_pace p = {0};
    struct dr_tuning t = tuning_of(1, 10000, 500);
    assert_int_equal(dr_pace_items(&p, &t), 500);
    t = tuning_of(1, 20, 500);
    assert_int_equal(dr_pace_items(&p, &t), 20);
    t = tuning_of(800, 10000, 500);
    assert_int_equal(dr_pace_items(&p, &t), 800);
}

static void test_a_pace_is_at_least_one_item_however_odd_the_limits(void **state)
{
    (void)state;
    struct dr_pace p = {0};
    struct dr_tuning t = tuning_of(0, 0, 500);
    assert_int_equal(dr_pace_items(&p, &t), 1);
    t = tuning_of(50, 10, 500); /* the ceiling wins */
    assert_int_equal(dr_pace_items(&p, &t), 10);
    for (int i = 0; i < 50; i++) {
        dr_pace_note(&p, &t, 10, 1e9, true);
        assert_in_range(dr_pace_items(&p, &t), 1, 10);
    }
}

static void test_slow_batches_shrink_at_most_fourfold(void **state)
{
    (void)state;
    struct dr_pace p = {.items = 1000};
    struct dr_tuning t = tuning_of(1, 10000, 500);
    dr_pace_note(&p, &t, 1000, 1000.0, true);
    assert_int_equal(dr_pace_items(&p, &t), 500);
    dr_pace_note(&p, &t, 500, 60000.0, true);
    assert_int_equal(dr_pace_items(&p, &t), 125);
}

static void test_quick_batches_grow_at_most_twofold(void **state)
{
    (void)state;
    struct dr_pace p = {.items = 1000};
    struct dr_tuning t = tuning_of(1, 10000, 500);
    dr_pace_note(&p, &t, 1000, 0.0, true);
    assert_int_equal(dr_pace_items(&p, &t), 2000);
    dr_pace_note(&p, &t, 2000, 400.0, true);
    assert_int_equal(dr_pace_items(&p, &t), 2500);
    for (int i = 0; i < 10; i++) {
        dr_pace_note(&p, &t, dr_pace_items(&p, &t), 1.0, true);
    }
    assert_int_equal(dr_pace_items(&p, &t), 10000);
}

static void test_a_short_batch_proves_nothing_unless_it_was_slow(void **state)
{
    (void)state;
    struct dr_pace p = {.items = 1000};
    struct dr_tuning t = tuning_of(1, 10000, 500);
    dr_pace_note(&p, &t, 3, 1.0, false);
    assert_int_equal(dr_pace_items(&p, &t), 1000);
    dr_pace_note(&p, &t, 0, 9000.0, false);
    assert_int_equal(dr_pace_items(&p, &t), 1000);
    dr_pace_note(&p, &t, 3, 1000.0, false); /* ended by bytes or time: items are big */
    assert_int_equal(dr_pace_items(&p, &t), 500);
}

static void test_the_pace_settles_where_a_batch_takes_its_target(void **state)
{
    (void)state;
    struct dr_pace p = {0};
    struct dr_tuning t = tuning_of(1, 100000, 500);
    for (int i = 0; i < 20; i++) { /* a store of 10 items a millisecond */
        uint64_t n = dr_pace_items(&p, &t);
        dr_pace_note(&p, &t, n, (double)n / 10.0, true);
    }
    assert_in_range(dr_pace_items(&p, &t), 4900, 5100);
}

/* --- retry ---------------------------------------------------------------------------------------
 */

static const struct dr_retry_rules rules = {.tries_max = 3, .first_ms = 100, .max_ms = 1000};

static void test_every_code_is_judged_by_its_class(void **state)
{
    (void)state;
    for (int code = DR_USAGE; code < DR_CODE_COUNT; code++) {
        struct dr_retry_plan p = dr_retry_decide((enum dr_code)code, 0, &rules, 7);
        if (code == DR_LOST || code == DR_STOPPED) {
            assert_int_equal(p.outcome, DR_OUT_RELEASE);
            assert_true(p.is_silent);
            continue;
        }
        assert_false(p.is_silent);
        switch (dr_code_retry((enum dr_code)code)) {
        case DR_RETRY_NEVER:
            assert_int_equal(p.outcome, DR_OUT_QUARANTINE);
            break;
        case DR_RETRY_LATER:
            assert_int_equal(p.outcome, DR_OUT_RETRY);
            assert_in_range(p.delay_ms, 50, 100);
            break;
        case DR_RETRY_PROBE:
            assert_int_equal(p.outcome, DR_OUT_UNKNOWN);
            assert_in_range(p.delay_ms, 50, 100);
            break;
        }
    }
}

static void test_the_delay_doubles_up_to_its_ceiling(void **state)
{
    (void)state;
    for (uint64_t r = 0; r < 50; r++) {
        uint64_t random = r * 0x9e3779b97f4a7c15U;
        assert_in_range(dr_retry_decide(DR_BUSY, 1, &rules, random).delay_ms, 100, 200);
        assert_in_range(dr_retry_decide(DR_BUSY, 2, &rules, random).delay_ms, 200, 400);
        assert_in_range(dr_retry_decide(DR_BUSY, 9, &rules, random).delay_ms, 500, 1000);
        assert_in_range(dr_retry_decide(DR_BUSY, UINT32_MAX, &rules, random).delay_ms, 0, 1000);
    }
}

static void test_a_sick_node_is_waited_for_as_long_as_it_takes(void **state)
{
    (void)state;
    const enum dr_code lane[] = {DR_UNREACHABLE, DR_BUSY, DR_FULL};
    for (size_t i = 0; i < sizeof lane / sizeof lane[0]; i++) {
        struct dr_retry_plan p = dr_retry_decide(lane[i], 1000, &rules, 1);
        assert_int_equal(p.outcome, DR_OUT_RETRY);
        assert_true(p.is_lane_wide);
    }
    struct dr_retry_plan p = dr_retry_decide(DR_STALE, 1000, &rules, 1);
    assert_int_equal(p.outcome, DR_OUT_RETRY);
    assert_false(p.is_lane_wide);
    assert_int_equal(dr_retry_decide(DR_UNKNOWN, 1000, &rules, 1).outcome, DR_OUT_UNKNOWN);
}

static void test_a_broken_read_is_tried_only_so_often(void **state)
{
    (void)state;
    const enum dr_code own[] = {DR_IO, DR_NOMEM};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        assert_int_equal(dr_retry_decide(own[i], 1, &rules, 1).outcome, DR_OUT_RETRY);
        assert_false(dr_retry_decide(own[i], 1, &rules, 1).is_lane_wide);
        assert_int_equal(dr_retry_decide(own[i], 2, &rules, 1).outcome, DR_OUT_QUARANTINE);
        assert_int_equal(dr_retry_decide(own[i], 3, &rules, 1).outcome, DR_OUT_QUARANTINE);
    }
}

/* --- control: a queue in a temporary folder, one operation of one command ------------------------
 */

struct room {
    char dir[64];
    struct dr_queue *q;
    struct dr_control *c;
    int64_t op;
    struct dr_err err;
};

static enum dr_code one_step(void *arg, struct dr_plan_step *step, bool *has, struct dr_err *err)
{
    int *left = arg;
    (void)err;
    *has = (*left)-- > 0;
    *step = (struct dr_plan_step){.number = 1,
                                  .kind = DR_STEP_ERASE,
                                  .node = "s1",
                                  .query = "x",
                                  .rollback_query = "y",
                                  .stage = 1,
                                  .estimated = 100,
                                  .is_estimate_known = true,
                                  .title = "t"};
    return DR_OK;
}

static void make_room(struct room *r, const char *job, const char *tuning)
{
    int steps = 1;
    *r = (struct room){.dir = "/tmp/drover-pace-XXXXXX"};
    assert_non_null(mkdtemp(r->dir));
    assert_int_equal(dr_queue_open(r->dir, false, &r->q, &r->err), DR_OK);
    assert_int_equal(dr_queue_own(r->q, &r->err), DR_OK);
    struct dr_put put = {.kind = "tenant.drop",
                         .target = "acme",
                         .store_url = "memory:none",
                         .request_json = job,
                         .tuning_json = tuning,
                         .wish = DR_WISH_RUN,
                         .archive_days = 1,
                         .by = "me"};
    assert_int_equal(dr_queue_put(r->q, &put, one_step, &steps, &r->op, &r->err), DR_OK);
    assert_int_equal(dr_control_create(r->q, NULL, 0, &r->c, &r->err), DR_OK);
    assert_int_equal(dr_control_load(r->c, r->op, &r->err), DR_OK);
}

static void free_room(struct room *r)
{
    char command[128];
    dr_control_destroy(r->c);
    dr_queue_close(r->q);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", r->dir);
    assert_int_equal(system(command), 0);
}

#define JOB(more)                                                                                  \
    "{\"kind\": \"tenant.drop\", \"store\": \"memory:x\", \"database\": \"acme\"" more "}"

static struct dr_op op_of(struct room *r)
{
    struct dr_op op;
    assert_int_equal(dr_queue_op(r->q, r->op, &op, &r->err), DR_OK);
    return op;
}

static void test_reservations_never_add_up_to_more_than_max_items(void **state)
{
    struct room r;
    char why[DR_REASON_BYTES];
    (void)state;
    make_room(&r, JOB(", \"max_items\": 100"), NULL);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 60);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 40);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 0);
    assert_string_equal(why, "");
    dr_control_spent(r.c, r.op); /* not reached yet: the others may erase less */
    assert_int_equal(op_of(&r).wish, DR_WISH_RUN);
    dr_control_settle(r.c, r.op, 60, 10);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 50);
    dr_control_settle(r.c, r.op, 50, 50);
    dr_control_settle(r.c, r.op, 40, 40);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 0);
    assert_string_equal(why, ""); /* just enough is no reason to pause: one may still look */
    assert_int_equal(op_of(&r).wish, DR_WISH_RUN);
    dr_control_spent(r.c, r.op);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 0);
    assert_non_null(strstr(why, "max_items reached"));
    struct dr_op op = op_of(&r);
    assert_int_equal(op.wish, DR_WISH_PAUSE);
    assert_non_null(strstr(op.wish_reason, "max_items reached"));
    assert_false(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    free_room(&r);
}

static void test_a_raised_limit_lets_a_resumed_operation_go_on(void **state)
{
    struct room r;
    char why[DR_REASON_BYTES];
    (void)state;
    make_room(&r, JOB(", \"max_items\": 10"), NULL);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 10);
    dr_control_settle(r.c, r.op, 10, 10);
    dr_control_spent(r.c, r.op);
    dr_control_refresh(r.c);
    assert_int_equal(dr_queue_tune(r.q, r.op, "{\"max_items\": 25}", 0, "me", &r.err), DR_OK);
    assert_int_equal(dr_queue_wish(r.q, r.op, DR_WISH_RUN, "me", "", &r.err), DR_OK);
    dr_control_refresh(r.c);
    assert_int_equal(dr_control_reserve(r.c, r.op, 60, why, sizeof why), 15);
    free_room(&r);
}

static void test_drift_pauses_and_a_resume_grants_the_same_slack_again(void **state)
{
    struct room r;
    char why[DR_REASON_BYTES];
    (void)state;
    make_room(&r, JOB(", \"drift\": 0.5"), NULL); /* 100 planned: 100 + 1000 + 50 */
    dr_control_settle(r.c, r.op, 0, 1150);
    assert_int_equal(dr_control_reserve(r.c, r.op, 5, why, sizeof why), 5);
    dr_control_settle(r.c, r.op, 5, 1);
    assert_int_equal(dr_control_reserve(r.c, r.op, 5, why, sizeof why), 0);
    assert_non_null(strstr(why, "drift"));
    dr_control_refresh(r.c);
    assert_int_equal(dr_queue_wish(r.q, r.op, DR_WISH_RUN, "me", "", &r.err), DR_OK);
    dr_control_refresh(r.c);
    assert_int_equal(dr_control_reserve(r.c, r.op, 5, why, sizeof why), 5);
    dr_control_settle(r.c, r.op, 5, 1600); /* 1151 + 1600 > 1151 * 1.5 + 1000 */
    assert_int_equal(dr_control_reserve(r.c, r.op, 5, why, sizeof why), 0);
    free_room(&r);
}

static void test_the_rate_counts_over_the_whole_operation(void **state)
{
    struct room r;
    (void)state;
    make_room(&r, JOB(""), "{\"rate\": 100}");
    assert_int_equal(dr_control_rate_wait_us(r.c, r.op, 1000000), 0);
    dr_control_rate_charge(r.c, r.op, 50, 1000000);
    assert_int_equal(dr_control_rate_wait_us(r.c, r.op, 1000000), 500000);
    dr_control_rate_charge(r.c, r.op, 10, 1100000); /* another thread, at the same time */
    assert_int_equal(dr_control_rate_wait_us(r.c, r.op, 1100000), 500000);
    assert_int_equal(dr_control_rate_wait_us(r.c, r.op, 1600000), 0);
    dr_control_rate_charge(r.c, r.op, 10, 9000000); /* idle time is not saved up */
    assert_int_equal(dr_control_rate_wait_us(r.c, r.op, 9000000), 100000);
    free_room(&r);
}

static void test_a_braked_node_is_left_alone_and_the_reason_told(void **state)
{
    struct room r;
    char url[] = "memory:none";
    char s1[] = "s1";
    (void)state;
    make_room(&r, JOB(""), NULL);
    struct dr_lease l = {.op_id = r.op, .store_url = url, .node = s1};
    assert_true(dr_control_may_start(r.c, r.op, url, "s1"));
    dr_control_lane_brake(r.c, &l, 100000, "replication is late", true);
    assert_false(dr_control_may_start(r.c, r.op, url, "s1"));
    assert_true(dr_control_may_start(r.c, r.op, url, "s2"));
    assert_true(dr_control_may_start(r.c, r.op, "memory:other", "s1"));
    assert_int_equal(dr_control_lane_failures(r.c, &l), 1);
    dr_control_refresh(r.c);
    assert_int_equal(dr_queue_flush(r.q, &r.err), DR_OK);
    assert_string_equal(op_of(&r).waiting, "s1: replication is late");
    dr_control_lane_clear(r.c, &l);
    assert_true(dr_control_may_start(r.c, r.op, url, "s1"));
    assert_int_equal(dr_control_lane_failures(r.c, &l), 0);
    dr_control_refresh(r.c);
    assert_int_equal(dr_queue_flush(r.q, &r.err), DR_OK);
    assert_string_equal(op_of(&r).waiting, "");
    free_room(&r);
}

static void test_nothing_starts_while_a_reason_holds_for_all(void **state)
{
    struct room r;
    (void)state;
    make_room(&r, JOB(""), NULL);
    dr_control_global(r.c, "no space");
    assert_false(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    dr_control_global(r.c, "");
    assert_true(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    free_room(&r);
}

static void test_quiet_hours_of_tuning_are_obeyed_at_the_next_look(void **state)
{
    struct room r;
    (void)state;
    make_room(&r, JOB(""), NULL);
    assert_true(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    assert_int_equal(dr_queue_tune(r.q, r.op, "{\"quiet\": [\"00:00-24:00\"]}", 0, "me", &r.err),
                     DR_OK);
    dr_control_refresh(r.c);
    assert_false(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    assert_int_equal(dr_queue_tune(r.q, r.op, "{\"quiet\": []}", 0, "me", &r.err), DR_OK);
    dr_control_refresh(r.c);
    assert_true(dr_control_may_start(r.c, r.op, "memory:none", "s1"));
    free_room(&r);
}

static void test_a_control_for_one_operation_starts_no_other(void **state)
{
    struct room r;
    struct dr_control *one = NULL;
    (void)state;
    make_room(&r, JOB(""), NULL);
    assert_int_equal(dr_control_create(r.q, NULL, r.op + 1, &one, &r.err), DR_OK);
    assert_false(dr_control_may_start(one, r.op, "memory:none", "s1"));
    assert_true(dr_control_may_start(one, r.op + 1, "memory:none", "s1"));
    dr_control_destroy(one);
    free_room(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_batch_is_small_and_within_the_limits),
        cmocka_unit_test(test_a_pace_is_at_least_one_item_however_odd_the_limits),
        cmocka_unit_test(test_slow_batches_shrink_at_most_fourfold),
        cmocka_unit_test(test_quick_batches_grow_at_most_twofold),
        cmocka_unit_test(test_a_short_batch_proves_nothing_unless_it_was_slow),
        cmocka_unit_test(test_the_pace_settles_where_a_batch_takes_its_target),
        cmocka_unit_test(test_every_code_is_judged_by_its_class),
        cmocka_unit_test(test_the_delay_doubles_up_to_its_ceiling),
        cmocka_unit_test(test_a_sick_node_is_waited_for_as_long_as_it_takes),
        cmocka_unit_test(test_a_broken_read_is_tried_only_so_often),
        cmocka_unit_test(test_reservations_never_add_up_to_more_than_max_items),
        cmocka_unit_test(test_a_raised_limit_lets_a_resumed_operation_go_on),
        cmocka_unit_test(test_drift_pauses_and_a_resume_grants_the_same_slack_again),
        cmocka_unit_test(test_the_rate_counts_over_the_whole_operation),
        cmocka_unit_test(test_a_braked_node_is_left_alone_and_the_reason_told),
        cmocka_unit_test(test_nothing_starts_while_a_reason_holds_for_all),
        cmocka_unit_test(test_quiet_hours_of_tuning_are_obeyed_at_the_next_look),
        cmocka_unit_test(test_a_control_for_one_operation_starts_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
