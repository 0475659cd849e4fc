/* SPDX-License-Identifier: Apache-2.0 */
/* What an account of an operation promises: rows by collection and node, true counts, statuses that
 * say no more than is known, a deterministic order, flat memory. */
#include "unit/queue_help.h"

#include "base/file.h"
#include "verbs/account.h"
#include "verbs/report.h"

static const char *query_of(struct rig *r, const char *collection)
{
    static char text[PLAN_MAX][160];
    char *at = text[r->steps];
    (void)snprintf(at, sizeof text[0],
                   "{\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":\"%s\","
                   "\"epoch\":1,\"node\":\"x\"}}",
                   collection);
    return at;
}

static struct dr_plan_step *add_erase(struct rig *r, const char *collection, const char *node,
                                      uint64_t estimated)
{
    const char *query = query_of(r, collection);
    struct dr_plan_step *s = add(r, node, 1);
    s->query = query;
    s->estimated = estimated;
    return s;
}

static void add_verify(struct rig *r, const char *collection, const char *node)
{
    const char *query = query_of(r, collection);
    struct dr_plan_step *s = add(r, node, 2);
    s->kind = DR_STEP_VERIFY;
    s->query = query;
    s->estimated = 0;
}

static struct dr_account *account_of(struct rig *r, int64_t op)
{
    struct dr_account *a = NULL;
    OK(r, dr_account_make(r->q, op, &a, &r->err));
    assert_non_null(a);
    return a;
}

static void erase(struct rig *r, int64_t op, int n, uint64_t done)
{
    struct dr_lease l;
    lease_step(r, op, n, &l);
    l.mark.done = done;
    finish(r, &l, DR_OUT_DONE);
}

static void expect_row(const struct dr_account *a, uint32_t i, const char *collection,
                       const char *node, enum dr_row_status status, uint64_t done, uint64_t steps,
                       uint64_t steps_done)
{
    assert_true(i < a->row_count);
    const struct dr_account_row *row = &a->row[i];
    assert_string_equal(row->collection, collection);
    assert_string_equal(row->node, node);
    assert_string_equal(dr_row_status_name(row->status), dr_row_status_name(status));
    assert_int_equal(row->done, done);
    assert_int_equal(row->steps, steps);
    assert_int_equal(row->steps_done, steps_done);
}

static void rows_are_by_collection_and_node_in_order(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    (void)add_erase(r, "acme.orders", "s2", 10);
    (void)add_erase(r, "acme.events", "s1", 5);
    (void)add_erase(r, "acme.orders", "s1", 7);
    (void)add_erase(r, "acme.orders", "s2", 20);
    struct dr_plan_step *command = add(r, "s1", 3);
    command->kind = DR_STEP_COMMAND;
    int64_t op = put(r);
    struct dr_account *a = account_of(r, op);
    assert_int_equal(a->row_count, 3);
    expect_row(a, 0, "acme.events", "s1", DR_ROW_PENDING, 0, 1, 0);
    expect_row(a, 1, "acme.orders", "s1", DR_ROW_PENDING, 0, 1, 0);
    expect_row(a, 2, "acme.orders", "s2", DR_ROW_PENDING, 0, 2, 0);
    assert_int_equal(a->row[2].total, 30);
    assert_int_equal(a->total.total, 42);
    assert_int_equal(a->total.steps, 4);
    assert_null(a->row[2].last);
    dr_account_destroy(a);
    free_rig(r);
}

static void completed_needs_the_verify_step_too(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_erase(r, "acme.orders", "s1", 10)->title = "chunk one";
    add_erase(r, "acme.orders", "s1", 10)->title = "chunk two";
    add_verify(r, "acme.orders", "s1");
    int64_t op = put(r);
    erase(r, op, 1, 9);
    struct dr_account *a = account_of(r, op);
    expect_row(a, 0, "acme.orders", "s1", DR_ROW_IN_PROGRESS, 9, 2, 1);
    assert_string_equal(a->row[0].last, "chunk one");
    assert_true(a->row[0].updated_at > 0);
    dr_account_destroy(a);
    erase(r, op, 2, 11);
    a = account_of(r, op);
    expect_row(a, 0, "acme.orders", "s1", DR_ROW_IN_PROGRESS, 20, 2, 2);
    assert_string_equal(a->row[0].last, "chunk two");
    dr_account_destroy(a);
    run_step(r, op, 3, DR_OUT_DONE);
    a = account_of(r, op);
    expect_row(a, 0, "acme.orders", "s1", DR_ROW_COMPLETED, 20, 2, 2);
    assert_int_equal(a->total.status, DR_ROW_COMPLETED);
    dr_account_destroy(a);
    free_rig(r);
}

static void a_quarantined_step_makes_its_row_failed_and_only_its(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    (void)add_erase(r, "acme.events", "s1", 10);
    (void)add_erase(r, "acme.orders", "s1", 10);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_QUARANTINE);
    erase(r, op, 2, 10);
    struct dr_account *a = account_of(r, op);
    expect_row(a, 0, "acme.events", "s1", DR_ROW_FAILED, 0, 1, 0);
    expect_row(a, 1, "acme.orders", "s1", DR_ROW_COMPLETED, 10, 1, 1);
    assert_has(a->row[0].error, "it broke");
    assert_null(a->row[1].error);
    assert_int_equal(a->total.status, DR_ROW_FAILED);
    struct dr_str out;
    dr_str_init(&out);
    dr_account_print(a, 1, &out);
    assert_has(dr_str_text(&out), "it broke");
    assert_has(dr_str_text(&out), "... and 1 more");
    dr_str_fini(&out);
    dr_account_destroy(a);
    free_rig(r);
}

static void what_was_put_back_is_not_done_any_more(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    (void)add_erase(r, "acme.orders", "s1", 10);
    (void)add_erase(r, "acme.orders", "s2", 10);
    int64_t op = put(r);
    erase(r, op, 1, 10);
    wish(r, op, DR_WISH_ROLLBACK);
    struct dr_account *a = account_of(r, op);
    expect_row(a, 0, "acme.orders", "s1", DR_ROW_IN_PROGRESS, 10, 1, 0);
    expect_row(a, 1, "acme.orders", "s2", DR_ROW_PENDING, 0, 1, 0);
    dr_account_destroy(a);
    struct dr_lease l;
    lease_step(r, op, 1, &l);
    assert_true(l.is_undo);
    l.mark.undone = 10;
    finish(r, &l, DR_OUT_DONE);
    a = account_of(r, op);
    expect_row(a, 0, "acme.orders", "s1", DR_ROW_PENDING, 0, 1, 0);
    assert_null(a->row[0].last);
    dr_account_destroy(a);
    free_rig(r);
}

static void the_state_is_what_a_store_is_promised(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_erase(r, "acme.orders", "s1", 10)->title = "chunk one";
    (void)add_erase(r, "acme.orders", "s2", 4);
    int64_t op = put(r);
    erase(r, op, 1, 10);
    struct dr_account *a = account_of(r, op);
    char *text = dr_account_state(a);
    assert_string_equal(
        text, "[{\"collection\":\"acme.orders\",\"done\":10,\"error\":null,\"last\":\"chunk one\","
              "\"node\":\"s1\",\"status\":\"completed\",\"steps\":1,\"steps_done\":1,"
              "\"total\":10},{\"collection\":\"acme.orders\",\"done\":0,\"error\":null,"
              "\"last\":null,\"node\":\"s2\",\"status\":\"pending\",\"steps\":1,\"steps_done\":0,"
              "\"total\":4}]");
    dr_free(text);
    dr_account_destroy(a);
    free_rig(r);
}

static void a_title_cut_inside_a_character_is_still_told(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    static char title[300];
    memset(title, 'x', 254);
    (void)snprintf(title + 254, sizeof title - 254, "\xc3\xa4\xc3\xa4");
    add_erase(r, "acme.orders", "s1", 1)->title = title;
    int64_t op = put(r);
    erase(r, op, 1, 1);
    struct dr_account *a = account_of(r, op);
    char *text = dr_account_state(a);
    assert_non_null(text);
    assert_has(text, "xxx");
    dr_free(text);
    dr_account_destroy(a);
    free_rig(r);
}

/* --- many steps --------------------------------------------------------------------------------
 */

struct flood {
    int64_t left, count;
    char query[160];
};

static enum dr_code next_of_flood(void *arg, struct dr_plan_step *step, bool *has_out,
                                  struct dr_err *err)
{
    struct flood *f = arg;
    (void)err;
    *has_out = f->left > 0;
    if (*has_out) {
        f->left--;
        (void)snprintf(f->query, sizeof f->query,
                       "{\"archive\":true,\"range\":{\"collection\":\"acme.c%lld\"}}",
                       (long long)(f->left % 3));
        *step = (struct dr_plan_step){.number = f->count - f->left,
                                      .kind = DR_STEP_ERASE,
                                      .node = f->left % 2 == 0 ? "s1" : "s2",
                                      .query = f->query,
                                      .rollback_query = "{}",
                                      .stage = 1,
                                      .estimated = 3,
                                      .title = "a chunk"};
    }
    return DR_OK;
}

static void many_steps_take_no_more_memory_than_few(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    uint64_t made[2];
    static const int64_t counts[2] = {600, 60000};
    for (int i = 0; i < 2; i++) {
        struct flood f = {.left = counts[i], .count = counts[i]};
        int64_t op = 0;
        OK(r, dr_queue_put(r->q, &r->put, next_of_flood, &f, &op, &r->err));
        (void)dr_mem_fail_at(0);
        struct dr_account *a = account_of(r, op);
        made[i] = dr_mem_fail_at(0);
        assert_int_equal(a->row_count, 6);
        assert_int_equal(a->total.steps, counts[i]);
        assert_int_equal(a->total.total, 3 * counts[i]);
        assert_string_equal(a->row[5].collection, "acme.c2");
        assert_string_equal(a->row[5].node, "s2");
        dr_account_destroy(a);
    }
    assert_int_equal(made[0], made[1]);
    free_rig(r);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_erase(r, "acme.orders", "s1", 10)->title = "chunk one";
    (void)add_erase(r, "acme.events", "s2", 4);
    int64_t op = put(r);
    erase(r, op, 1, 10);
    run_step(r, op, 2, DR_OUT_QUARANTINE);
    uint64_t n = 1;
    for (;; n++) {
        struct dr_account *a = NULL;
        struct dr_err err = {0};
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_account_make(r->q, op, &a, &err);
        char *text = rc == DR_OK ? dr_account_state(a) : NULL;
        uint64_t made = dr_mem_fail_at(0);
        bool is_over = made < n;
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        assert_true((rc == DR_OK) == (a != NULL));
        assert_true(!is_over || (rc == DR_OK && text != NULL));
        dr_free(text);
        dr_account_destroy(a);
        if (is_over) {
            break;
        }
        assert_true(n < 1000);
    }
    assert_true(n > 8);
    free_rig(r);
}

/* --- reports -----------------------------------------------------------------------------------
 */

static void a_report_names_what_was_done_and_hides_secrets(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    json_t *j = NULL;
    r->put.store_url = "sqlite://me:geheim@host/data";
    r->put.summary_json = "{\"parts\":[{\"collection\":\"acme.orders\",\"warning\":\"slow\"},"
                          "{\"collection\":\"acme.events\",\"warning\":null}]}";
    (void)add_erase(r, "acme.orders", "s1", 10);
    int64_t op = put(r);
    struct dr_lease l;
    lease_step(r, op, 1, &l);
    l.mark.done = 10;
    l.mark.archive_bytes = 777;
    finish(r, &l, DR_OUT_DONE);
    OK(r, dr_report_op(r->q, op, &j, &r->err));
    char *text = dr_json_text(j);
    assert_null(strstr(text, "geheim"));
    assert_has(text, "\"status\":\"done\"");
    assert_has(text, "\"dry_run\":false");
    assert_has(text, "\"erased\":10");
    assert_has(text, "\"bytes\":777");
    assert_has(text, "\"notes\":[\"acme.orders: slow\"]");
    assert_has(text, "\"rows\":[{\"collection\":\"acme.orders\"");
    dr_free(text);
    json_decref(j);
    free_rig(r);
}

static void a_report_replaces_files_and_nothing_else(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    char path[128];
    char *text = NULL;
    size_t bytes = 0;
    json_t *j = json_pack("{s:i}", "operation", 1);
    (void)snprintf(path, sizeof path, "%s/report.json", r->dir);
    OK(r, dr_report_check(path, &r->err));
    OK(r, dr_report_write(path, j, &r->err));
    OK(r, dr_report_check(path, &r->err));
    OK(r, dr_report_write(path, j, &r->err));
    OK(r, dr_file_load(path, 1000, &text, &bytes, &r->err));
    assert_string_equal(text, "{\n  \"operation\": 1\n}\n");
    dr_free(text);
    assert_int_equal(dr_report_check("/dev/null", &r->err), DR_INPUT);
    assert_has(r->err.msg, "no plain file");
    assert_int_equal(dr_report_check("/nowhere/at/all", &r->err), DR_INPUT);
    assert_has(r->err.msg, "/nowhere/at");
    assert_int_equal(dr_report_check("", &r->err), DR_INPUT);
    json_decref(j);
    free_rig(r);
}

static void times_are_hours_minutes_seconds(void **state)
{
    (void)state;
    char text[40];
    assert_string_equal(dr_report_hms(0, text, sizeof text), "0h 00m 00s");
    assert_string_equal(dr_report_hms(3725999, text, sizeof text), "1h 02m 05s");
    assert_string_equal(dr_report_hms(360000000, text, sizeof text), "100h 00m 00s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_by_collection_and_node_in_order),
        cmocka_unit_test(completed_needs_the_verify_step_too),
        cmocka_unit_test(a_quarantined_step_makes_its_row_failed_and_only_its),
        cmocka_unit_test(what_was_put_back_is_not_done_any_more),
        cmocka_unit_test(the_state_is_what_a_store_is_promised),
        cmocka_unit_test(a_title_cut_inside_a_character_is_still_told),
        cmocka_unit_test(many_steps_take_no_more_memory_than_few),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(a_report_names_what_was_done_and_hides_secrets),
        cmocka_unit_test(a_report_replaces_files_and_nothing_else),
        cmocka_unit_test(times_are_hours_minutes_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
