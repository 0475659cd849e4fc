/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of tokenserver/breaker.h: each test is named for one. Time is a number here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tokenserver/breaker.h"

static const struct dr_breaker_rule rule = {.failures_max = 3, .open_ms = 100, .open_ms_max = 350};

/* One request at `now`: true when it was let through. */
static bool ask(struct dr_breaker *b, bool is_ok, int64_t now)
{
    if (!dr_breaker_may_start(b, now)) {
        return false;
    }
    bool is_probe = dr_breaker_start(b);
    (void)dr_breaker_note(b, &rule, is_probe, is_ok, now);
    return true;
}

static void opens_after_failures_in_a_row_only(void **state)
{
    (void)state;
    struct dr_breaker b = {0};
    for (int i = 0; i < 100; i++) { /* two failures, one success: never three in a row */
        assert_true(ask(&b, i % 3 == 2, i));
    }
    b = (struct dr_breaker){0};
    assert_true(ask(&b, false, 0));
    assert_true(ask(&b, false, 0));
    assert_false(dr_breaker_start(&b));
    assert_true(dr_breaker_note(&b, &rule, false, false, 10));
    assert_int_equal(b.state, DR_BREAKER_OPEN);
    assert_int_equal(b.open_until_ms, 110);
    assert_false(ask(&b, true, 10));
    assert_false(ask(&b, true, 109));
}

static void lets_one_probe_through(void **state)
{
    (void)state;
    struct dr_breaker b = {.state = DR_BREAKER_OPEN, .openings = 1, .open_until_ms = 100};
    assert_true(dr_breaker_may_start(&b, 100));
    assert_true(dr_breaker_start(&b));
    assert_false(dr_breaker_may_start(&b, 1000)); /* not a second one, however late */
    assert_false(dr_breaker_note(&b, &rule, true, true, 1000));
    assert_int_equal(b.state, DR_BREAKER_CLOSED);
    assert_true(dr_breaker_may_start(&b, 1000));
}

static void rests_twice_as_long_each_time_up_to_the_maximum(void **state)
{
    (void)state;
    static const int64_t rests[] = {100, 200, 350, 350, 350};
    struct dr_breaker b = {0};
    int64_t now = 0;
    for (uint32_t i = 0; i < rule.failures_max; i++) {
        assert_true(ask(&b, false, now));
    }
    for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
        assert_int_equal(b.open_until_ms, now + rests[i]);
        now = b.open_until_ms;
        assert_true(ask(&b, false, now));
    }
    b.openings = UINT32_MAX - 1; /* no overflow after years */
    now = b.open_until_ms;
    assert_true(ask(&b, false, now));
    assert_int_equal(b.open_until_ms, now + 350);
}

static void success_starts_the_rests_anew(void **state)
{
    (void)state;
    struct dr_breaker b = {.state = DR_BREAKER_OPEN, .openings = 3, .open_until_ms = 0};
    assert_true(ask(&b, true, 0));
    assert_int_equal(b.openings, 0);
    for (uint32_t i = 0; i < rule.failures_max; i++) {
        assert_true(ask(&b, false, 5));
    }
    assert_int_equal(b.open_until_ms, 105);
}

static void stragglers_change_nothing_while_open(void **state)
{
    (void)state;
    struct dr_breaker b = {.state = DR_BREAKER_OPEN, .openings = 1, .open_until_ms = 100};
    assert_false(dr_breaker_note(&b, &rule, false, false, 50));
    assert_false(dr_breaker_note(&b, &rule, false, true, 60));
    assert_int_equal(b.state, DR_BREAKER_OPEN);
    assert_int_equal(b.open_until_ms, 100);
    assert_true(dr_breaker_start(&b));
    assert_false(dr_breaker_note(&b, &rule, false, true, 110));
    assert_int_equal(b.state, DR_BREAKER_PROBING);
    assert_true(dr_breaker_note(&b, &rule, true, false, 120));
    assert_int_equal(b.open_until_ms, 320);
}

static void forgotten_probe_may_be_sent_again(void **state)
{
    (void)state;
    struct dr_breaker b = {.state = DR_BREAKER_OPEN, .openings = 1, .open_until_ms = 100};
    assert_true(dr_breaker_start(&b));
    dr_breaker_forget_probe(&b);
    assert_true(dr_breaker_may_start(&b, 100));
    b = (struct dr_breaker){0};
    dr_breaker_forget_probe(&b);
    assert_int_equal(b.state, DR_BREAKER_CLOSED);
}

static void zero_failures_allowed_means_never_open(void **state)
{
    (void)state;
    const struct dr_breaker_rule never = {.failures_max = 0, .open_ms = 1, .open_ms_max = 1};
    struct dr_breaker b = {0};
    for (int i = 0; i < 1000; i++) {
        assert_false(dr_breaker_note(&b, &never, false, false, i));
    }
    assert_true(dr_breaker_may_start(&b, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_after_failures_in_a_row_only),
        cmocka_unit_test(lets_one_probe_through),
        cmocka_unit_test(rests_twice_as_long_each_time_up_to_the_maximum),
        cmocka_unit_test(success_starts_the_rests_anew),
        cmocka_unit_test(stragglers_change_nothing_while_open),
        cmocka_unit_test(forgotten_probe_may_be_sent_again),
        cmocka_unit_test(zero_failures_allowed_means_never_open),
    };
    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
