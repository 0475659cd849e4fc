/* SPDX-License-Identifier: Apache-2.0 */
/* Copy steps, and rollback commands that are looked at before they are run: a lease in the hand,
 * the fleet beneath. */
#include "step/step.h"
#include "unit/fleet_world.h"

static enum dr_code answer; /* of still_mine */

static enum dr_code still_mine(void *arg, struct dr_err *e)
{
    (void)arg;
    return answer == DR_OK ? DR_OK : dr_fail(e, answer, "no longer, says the test");
}

struct hand {
    struct dr_store *store;
    struct dr_step_env env;
    struct dr_lease lease;
    struct dr_step_run *run;
    struct dr_step_report report;
};

static void take(struct hand *h, enum dr_step_kind kind, const char *query, const char *undo)
{
    *h = (struct hand){0};
    answer = DR_OK;
    must(dr_store_open_in(&fake_world, "fleet:", &h->store, &err));
    h->env = (struct dr_step_env){.store = h->store, .still_mine = still_mine};
    h->lease = (struct dr_lease){.kind = kind,
                                 .step_id = 7,
                                 .is_undo = undo != NULL,
                                 .node = dr_strdup("n1"),
                                 .query = dr_strdup(query),
                                 .rollback_query = undo == NULL ? NULL : dr_strdup(undo)};
    must(dr_step_begin(&h->env, &h->lease, &h->run, &err));
}

/* The holder died: another one has the mark that was saved, and nothing else. */
static void change_hands(struct hand *h)
{
    dr_step_end(h->run);
    must(dr_step_begin(&h->env, &h->lease, &h->run, &err));
}

static enum dr_code batch(struct hand *h, uint64_t items)
{
    struct dr_budget budget = {.items_max = items, .bytes_max = 1 << 20, .ms_max = 5000};
    return dr_step_batch(h->run, &budget, &h->report, &err);
}

static void give_back(struct hand *h)
{
    dr_step_end(h->run);
    dr_free(h->lease.node);
    dr_free(h->lease.query);
    dr_free(h->lease.rollback_query);
    dr_free(h->lease.mark.cursor);
    dr_store_close(h->store);
}

static const char copy_query[] =
    "{\"fleet\":\"copy\",\"shard\":" SHARD ",\"from\":\"n0\",\"to\":[\"n1\"]}";

static void make_target(void)
{
    char url[200];
    struct dr_store *s = NULL;
    (void)snprintf(url, sizeof url, "sqlite:%s", node_path(1));
    must(dr_store_open(url, &s, &err));
    must(dr_shard_ensure(s, &users_s0, COLUMNS, "", &err));
    dr_store_close(s);
}

static void a_copy_goes_on_where_its_mark_says(void **state)
{
    (void)state;
    struct hand h;
    make_world("n0");
    make_target();
    take(&h, DR_STEP_COPY, copy_query, NULL);
    must(batch(&h, 50));
    assert_int_equal(h.lease.mark.done, 50);
    assert_int_equal(h.report.read, 50);
    assert_false(h.report.is_done);
    assert_true(h.lease.mark.cursor_len > 0);
    change_hands(&h);
    must(batch(&h, 50));
    assert_int_equal(h.report.items, 50);
    change_hands(&h);
    must(batch(&h, 50));
    assert_true(h.report.is_done);
    assert_int_equal(h.lease.mark.done, ROWS_BEFORE); /* none was copied twice */
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0"), ROWS_BEFORE);
    assert_int_equal(h.lease.mark.cursor_len, 0);
    give_back(&h);
}

static void a_copy_that_is_not_ours_any_more_writes_nothing(void **state)
{
    (void)state;
    struct hand h;
    make_world("n0");
    make_target();
    take(&h, DR_STEP_COPY, copy_query, NULL);
    answer = DR_LOST;
    assert_int_equal(batch(&h, 50), DR_LOST);
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0"), 0);
    give_back(&h);
}

static void an_undone_copy_begins_at_the_start(void **state)
{
    (void)state;
    struct hand h;
    make_world("n0");
    make_target();
    take(&h, DR_STEP_COPY, copy_query, NULL);
    must(batch(&h, 50));
    h.lease.is_undo = true;
    h.lease.rollback_query = dr_strdup("{\"do\":\"nothing\"}");
    change_hands(&h);
    must(batch(&h, 50));
    assert_true(h.report.is_done);
    assert_int_equal(h.lease.mark.cursor_len, 0);
    give_back(&h);
}

static void what_is_gone_is_undone_already(void **state)
{
    (void)state;
    struct hand h;
    make_world("n0");
    take(&h, DR_STEP_COMMAND, "", simple_text("drop"));
    must(batch(&h, 1));
    assert_true(h.report.is_done);
    give_back(&h);
    make_target();
    take(&h, DR_STEP_COMMAND, "", simple_text("drop"));
    must(batch(&h, 1));
    assert_true(h.report.is_done);
    assert_clean(1, false);
    give_back(&h);
}

static void a_node_that_is_away_is_undone_later(void **state)
{
    (void)state;
    struct hand h;
    make_world("n0");
    (void)unlink(node_path(1));
    take(&h, DR_STEP_COMMAND, "", simple_text("drop"));
    assert_int_equal(batch(&h, 1), DR_UNREACHABLE);
    assert_has(err.msg, "rollback command cannot be run now");
    assert_int_equal(dr_code_retry(DR_UNREACHABLE), DR_RETRY_LATER);
    give_back(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_goes_on_where_its_mark_says),
        cmocka_unit_test(a_copy_that_is_not_ours_any_more_writes_nothing),
        cmocka_unit_test(an_undone_copy_begins_at_the_start),
        cmocka_unit_test(what_is_gone_is_undone_already),
        cmocka_unit_test(a_node_that_is_away_is_undone_later),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
