/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of the fault store, over any fixture: what it spoils, and what a caller can find out
 * afterwards. */
#include "conform/conform.h"

#ifdef DROVER_FAULTS

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/fault/fault_store.h"

static char url[512]; /* of the handle that open_with() made */

static void open_with(struct conform *c, const char *rules)
{
    dr_fault_store_reset();
    (void)snprintf(url, sizeof url, "fault:%s|%s", rules, c->f->url());
    dr_store_close(c->s);
    c->s = NULL;
    assert_ok(c, dr_store_open(url, &c->s, &c->err));
}

static enum dr_code erase_batch(struct conform *c, struct dr_tally *tally)
{
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    return dr_store_erase(c->s, &range, c->batch, tally, &c->err);
}

static void probe_batch(struct conform *c, struct dr_tally *tally)
{
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    assert_ok(c, dr_store_probe(c->s, &range, c->batch, tally, &c->err));
}

static void read_batch(struct conform *c)
{
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 10, true);
}

static void a_lost_reply_of_a_done_erase_is_probed_as_absent(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    open_with(c, "erase=unknown_done@1");
    read_batch(c);
    assert_int_equal(erase_batch(c, &tally), DR_UNKNOWN);
    assert_int_equal(tally.erased + tally.absent + tally.changed, 0);
    probe_batch(c, &tally);
    assert_int_equal(tally.absent, c->batch->count);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - c->batch->count);
    assert_ok(c, erase_batch(c, &tally));
    assert_int_equal(tally.absent, c->batch->count);
}

static void a_lost_erase_is_probed_as_same(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    open_with(c, "erase=unknown_not_done@1");
    read_batch(c);
    assert_int_equal(erase_batch(c, &tally), DR_UNKNOWN);
    probe_batch(c, &tally);
    assert_int_equal(tally.same, c->batch->count);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
    assert_ok(c, erase_batch(c, &tally));
    assert_int_equal(tally.erased, c->batch->count);
}

static void a_lost_reply_of_a_restore_is_same_when_repeated(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    open_with(c, "restore=unknown_done@1");
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    read_batch(c);
    assert_ok(c, erase_batch(c, &tally));
    assert_int_equal(dr_store_restore(c->s, &range, c->batch, &tally, &c->err), DR_UNKNOWN);
    assert_int_equal(tally.restored, 0);
    assert_ok(c, dr_store_restore(c->s, &range, c->batch, &tally, &c->err));
    assert_int_equal(tally.same, c->batch->count);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

static void busy_ends_after_the_calls_it_names(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    struct dr_budget budget = conform_budget(10, true);
    open_with(c, "scan=busy@2+1");
    assert_ok(c, dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err), DR_BUSY);
        assert_int_equal(c->batch->count, 0);
        assert_string_not_equal(c->err.msg, "");
    }
    assert_ok(c, dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err));
    assert_int_equal(dr_fault_store_calls(url, "scan"), 4);
}

static void every_op_answers_the_code_asked_for(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    struct dr_survey *survey = NULL;
    struct dr_health health;
    struct dr_tally tally;
    uint64_t number = 0;
    open_with(c, "erase=stale@1;probe=denied@1;restore=io@1;command=unreachable@1;"
                 "health=busy@1;epoch=unreachable@1;count=io@1;survey=unreachable@1");
    read_batch(c);
    const char *node = range.node;
    assert_int_equal(erase_batch(c, &tally), DR_STALE);
    assert_int_equal(dr_store_probe(c->s, &range, c->batch, &tally, &c->err), DR_DENIED);
    assert_int_equal(dr_store_restore(c->s, &range, c->batch, &tally, &c->err), DR_IO);
    assert_int_equal(dr_store_command(c->s, node, "drop index x", &c->err), DR_UNREACHABLE);
    assert_int_equal(dr_store_health(c->s, node, &health, &c->err), DR_BUSY);
    assert_int_equal(dr_store_epoch(c->s, range.collection, &number, &c->err), DR_UNREACHABLE);
    assert_int_equal(dr_store_count(c->s, &range, &number, &c->err), DR_IO);
    assert_int_equal(dr_store_survey(c->s, c->f->database, NULL, &survey, &c->err), DR_UNREACHABLE);
    assert_null(survey);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
    probe_batch(c, &tally); /* and all of them work the second time */
    assert_int_equal(tally.same, c->batch->count);
    assert_ok(c, erase_batch(c, &tally));
    assert_ok(c, dr_store_restore(c->s, &range, c->batch, &tally, &c->err));
    assert_ok(c, dr_store_command(c->s, node, "drop index x", &c->err));
    assert_ok(c, dr_store_epoch(c->s, range.collection, &number, &c->err));
    assert_ok(c, dr_store_count(c->s, &range, &number, &c->err));
    assert_ok(c, dr_store_survey(c->s, c->f->database, NULL, &survey, &c->err));
    assert_int_equal(survey->collection_count, C_LIMIT);
    dr_survey_destroy(survey);
}

static void an_unwell_node_is_said_and_counting_goes_on_after_reopening(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    const char *node = conform_node(c, NODE_A);
    open_with(c, "health=bad@2");
    assert_ok(c, dr_store_health(c->s, node, &health, &c->err));
    assert_true(health.is_ok);
    dr_store_close(c->s);
    c->s = NULL;
    assert_ok(c, dr_store_open(url, &c->s, &c->err));
    assert_ok(c, dr_store_health(c->s, node, &health, &c->err));
    assert_false(health.is_ok);
    assert_string_not_equal(health.reason, "");
    assert_true(health.wait_hint_ms > 0);
    assert_ok(c, dr_store_health(c->s, node, &health, &c->err));
    assert_true(health.is_ok);
    dr_fault_store_reset();
    assert_int_equal(dr_fault_store_calls(url, "health"), 0);
}

static void an_open_can_fail_and_succeed_later(void **state)
{
    struct conform *c = *state;
    struct dr_store *s = NULL;
    char bad[512];
    (void)snprintf(bad, sizeof bad, "fault:open=unreachable@1;open=unknown_done@2|%s", c->f->url());
    dr_fault_store_reset();
    assert_int_equal(dr_store_open(bad, &s, &c->err), DR_UNREACHABLE);
    assert_null(s);
    assert_int_equal(dr_store_open(bad, &s, &c->err), DR_UNKNOWN);
    assert_null(s);
    assert_ok(c, dr_store_open(bad, &s, &c->err));
    dr_store_close(s);
}

static void a_star_counts_all_calls_together(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    uint64_t epoch = 0;
    const char *node = conform_node(c, NODE_A);
    const char *orders = conform_name(c, C_ORDERS);
    open_with(c, "*=io@3;health=busy@1"); /* the opening is the first; the first rule wins */
    assert_ok(c, dr_store_epoch(c->s, orders, &epoch, &c->err));
    assert_int_equal(dr_store_health(c->s, node, &health, &c->err), DR_IO);
    assert_ok(c, dr_store_health(c->s, node, &health, &c->err));
    assert_int_equal(dr_fault_store_calls(url, "*"), 4);
    assert_int_equal(dr_fault_store_calls(url, "health"), 2);
}

static void a_delay_waits_and_then_does_the_call(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    open_with(c, "health=delay:40@1");
    dr_mono_ms start = dr_mono_now();
    assert_ok(c, dr_store_health(c->s, conform_node(c, NODE_A), &health, &c->err));
    assert_true(dr_mono_now() - start >= 39); /* the clock is cut to whole milliseconds */
    assert_true(health.is_ok);
}

static void wrong_rules_are_named(void **state)
{
    struct conform *c = *state;
    static const char *const wrong[] = {
        "erase",
        "erase=busy",
        "erase=busy@",
        "erase=busy@0",
        "erase=busy@x",
        "erase=busy@1+",
        "erase=busy@1+x",
        "erase=sleepy@1",
        "eraze=busy@1",
        "erase=delay@1",
        "erase=delay:@1",
        "erase=delay:x@1",
        "erase=busy:30@1",
        "scan=bad@1",
        "=busy@1",
        "erase@1=busy",
        "erase=@1",
        "erase=busy@1@2",
        "erase=busy@1+18446744073709551615",
        "erase=delay:9999999999@1",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct dr_store *s = NULL;
        char text[512];
        (void)snprintf(text, sizeof text, "fault:scan=none@1;%s|%s", wrong[i], c->f->url());
        if (dr_store_open(text, &s, &c->err) != DR_INPUT) {
            print_error("accepted: %s\n", wrong[i]);
            fail();
        }
        assert_null(s);
        assert_non_null(strstr(c->err.msg, wrong[i]));
    }
}

static void a_wrong_inner_url_is_reported(void **state)
{
    struct conform *c = *state;
    struct dr_store *s = NULL;
    assert_int_equal(dr_store_open("fault:none", &s, &c->err), DR_INPUT);
    assert_int_equal(dr_store_open("fault:none|", &s, &c->err), DR_INPUT);
    assert_int_equal(dr_store_open("fault:none|nosuch:x", &s, &c->err), DR_INPUT);
    assert_int_equal(dr_store_open("fault:none|memory:", &s, &c->err), DR_INPUT);
    assert_int_equal(dr_store_open("fault:none|memory:nosuch", &s, &c->err), DR_UNREACHABLE);
    assert_int_equal(dr_store_open("memory:nosuch", &s, &c->err), DR_UNREACHABLE);
    assert_null(s);
}

static void faults_can_be_nested(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    char text[512];
    (void)snprintf(text, sizeof text, "fault:health=busy@1|fault:health=io@1|%s", c->f->url());
    dr_fault_store_reset();
    dr_store_close(c->s);
    c->s = NULL;
    assert_ok(c, dr_store_open(text, &c->s, &c->err));
    const char *node = conform_node(c, NODE_A);
    assert_int_equal(dr_store_health(c->s, node, &health, &c->err), DR_BUSY);
    assert_int_equal(dr_store_health(c->s, node, &health, &c->err), DR_IO);
    assert_ok(c, dr_store_health(c->s, node, &health, &c->err));
}

#define PROMISE(f) cmocka_unit_test_setup_teardown(f, conform_setup, conform_teardown)
const struct CMUnitTest conform_faults[] = {
    PROMISE(a_lost_reply_of_a_done_erase_is_probed_as_absent),
    PROMISE(a_lost_erase_is_probed_as_same),
    PROMISE(a_lost_reply_of_a_restore_is_same_when_repeated),
    PROMISE(busy_ends_after_the_calls_it_names),
    PROMISE(every_op_answers_the_code_asked_for),
    PROMISE(an_unwell_node_is_said_and_counting_goes_on_after_reopening),
    PROMISE(an_open_can_fail_and_succeed_later),
    PROMISE(a_star_counts_all_calls_together),
    PROMISE(a_delay_waits_and_then_does_the_call),
    PROMISE(wrong_rules_are_named),
    PROMISE(a_wrong_inner_url_is_reported),
    PROMISE(faults_can_be_nested),
};
const size_t conform_faults_count = sizeof conform_faults / sizeof conform_faults[0];

#endif
