/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the API about health: who may ask for what, and what the answers hold. */
#include "api/api_help.h"

static int64_t put_operation(struct bench *b)
{
    struct answer a = ask(b, "POST", "/operations", ADMIN, NULL, DROP_ACME);
    assert_int_equal(a.status, 202);
    int64_t id = json_integer_value(json_object_get(a.json, "id"));
    free_answer(&a);
    assert_true(id > 0);
    return id;
}

/* Lease and finish the next step. */
static int64_t end_step(struct bench *b, enum dr_outcome outcome)
{
    struct dr_err err = {0};
    struct dr_lease l = {0};
    uint32_t count = 0;
    const struct dr_lease_rules rules = {
        .worker = "test", .lease_ms = 60000, .per_node_default = 4};
    const struct dr_finish f = {.outcome = outcome,
                                .error = outcome == DR_OUT_DONE ? NULL : "it broke",
                                .duration_ms = 1500};
    assert_int_equal(dr_queue_lease(b->queue, &rules, &l, 1, &count, &err), DR_OK);
    assert_int_equal(count, 1);
    int64_t id = l.step_id;
    assert_int_equal(dr_queue_finish(b->queue, &l, &f, true, &err), DR_OK);
    dr_lease_fini(&l);
    return id;
}

static void health_tells_what_is_wrong_to_readers(void **state)
{
    (void)state;
    struct bench *b = make_bench(NULL);
    use_tokens(b);
    start_api(b);
    struct answer a = ask(b, "GET", "/health", READER, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(json_string_value(json_object_get(a.json, "overall_status")), "healthy");
    free_answer(&a);
    (void)put_operation(b);
    (void)end_step(b, DR_OUT_QUARANTINE);
    a = ask(b, "GET", "/health", READER, NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(a.json, "overall_status")), "unhealthy");
    assert_string_equal(json_string_value(json_object_get(
                            json_array_get(json_object_get(a.json, "issues"), 0), "type")),
                        "failed_operations");
    free_answer(&a);
    expect(b, "POST", "/health/recover", READER, NULL, NULL, 403, "DENIED", NULL);
    a = ask(b, "POST", "/health/recover", OPERATOR, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_array_size(json_object_get(a.json, "needs_a_person")), 1);
    free_answer(&a);
    drop_bench(b);
}

static void cleanup_is_for_admins_and_its_dry_run_for_operators(void **state)
{
    (void)state;
    struct bench *b = make_bench(NULL);
    use_tokens(b);
    start_api(b);
    struct answer a =
        ask(b, "POST", "/cleanup", OPERATOR, NULL, "{\"what\":[\"all\"],\"dry_run\":true}");
    assert_int_equal(a.status, 200);
    assert_true(json_is_true(json_object_get(a.json, "dry_run")));
    assert_int_equal(json_array_size(json_object_get(a.json, "actions_taken")), 5);
    free_answer(&a);
    expect(b, "POST", "/cleanup", OPERATOR, NULL, "{\"what\":[\"all\"]}", 403, "DENIED", NULL);
    expect(b, "POST", "/cleanup", READER, NULL, "{\"what\":[\"all\"],\"dry_run\":true}", 403,
           "DENIED", NULL);
    expect(b, "POST", "/cleanup", ADMIN, NULL, "{\"what\":[\"everything\"]}", 400, "INPUT",
           "what[0]");
    expect(b, "POST", "/cleanup", ADMIN, NULL, "{\"what\":[]}", 400, "INPUT", "what");
    a = ask(b, "POST", "/cleanup", ADMIN, NULL, "{\"what\":[\"queue\",\"state\"]}");
    assert_int_equal(a.status, 200);
    assert_int_equal(json_array_size(json_object_get(a.json, "actions_taken")), 2);
    free_answer(&a);
    drop_bench(b);
}

static void alerts_have_the_configured_limits(void **state)
{
    (void)state;
    struct bench *b = make_bench("{\"alerts\":{\"queue_depth\":1,\"orphans\":0}}");
    use_tokens(b);
    start_api(b);
    (void)put_operation(b);
    struct answer a = ask(b, "GET", "/alerts", READER, NULL, NULL);
    const json_t *list = json_object_get(a.json, "alerts");
    assert_int_equal(json_array_size(list), 5);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "state")),
                        "off");
    const json_t *depth = json_array_get(list, 3);
    bool is_deep = json_number_value(json_object_get(depth, "value")) > 1;
    assert_string_equal(json_string_value(json_object_get(depth, "state")),
                        is_deep ? "firing" : "quiet");
    assert_true(json_number_value(json_object_get(depth, "limit")) == 1);
    free_answer(&a);
    drop_bench(b);
}

static void rollbacks_in_part_and_whole_are_history_and_numbers(void **state)
{
    (void)state;
    char path[64];
    char body[64];
    struct bench *b = make_bench(NULL);
    use_tokens(b);
    start_api(b);
    int64_t op = put_operation(b);
    int64_t first = end_step(b, DR_OUT_DONE);
    (void)snprintf(path, sizeof path, "/operations/%lld/rollback", (long long)op);
    expect(b, "POST", path, OPERATOR, NULL, "{\"to_step\":0}", 400, "INPUT", "to_step");
    expect(b, "POST", path, OPERATOR, NULL, "{\"to_step\":1,\"x\":1}", 400, "INPUT", "x");
    expect(b, "POST", path, OPERATOR, NULL, "{\"to_step\":999999}", 404, "NOT_FOUND", NULL);
    (void)snprintf(body, sizeof body, "{\"to_step\":%lld,\"reason\":\"half\"}", (long long)first);
    expect(b, "POST", path, READER, NULL, body, 403, "DENIED", NULL);
    struct answer a = ask(b, "POST", path, OPERATOR, NULL, body);
    assert_int_equal(a.status, 202);
    free_answer(&a);
    a = ask(b, "POST", path, OPERATOR, NULL, "{\"reason\":\"all of it\"}");
    assert_int_equal(a.status, 202);
    free_answer(&a);
    (void)end_step(b, DR_OUT_DONE);
    a = ask(b, "GET", "/rollbacks", READER, NULL, NULL);
    const json_t *list = json_object_get(a.json, "rollbacks");
    assert_int_equal(json_array_size(list), 2);
    const json_t *whole = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(whole, "reason")), "all of it");
    assert_true(json_is_null(json_object_get(whole, "to_step")));
    assert_string_equal(json_string_value(json_object_get(whole, "trigger")), "person");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 1), "to_step")),
                     first);
    free_answer(&a);
    (void)snprintf(path, sizeof path, "/operations/%lld/rollbacks?limit=1", (long long)op);
    a = ask(b, "GET", path, READER, NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(a.json, "rollbacks")), 1);
    assert_true(json_is_integer(json_object_get(a.json, "next")));
    free_answer(&a);
    expect(b, "GET", "/operations/77/rollbacks", READER, NULL, NULL, 404, "NOT_FOUND", NULL);
    (void)dr_wait_ms(2, NULL, NULL);
    for (int i = 0; i < 2; i++) { /* twice: nothing is counted twice */
        a = ask(b, "GET", "/metrics", READER, NULL, NULL);
        assert_non_null(strstr(a.body, "\ndrover_rollbacks_total 2\n"));
        assert_non_null(strstr(a.body, "\ndrover_rollback_failures_total 0\n"));
        assert_non_null(strstr(a.body, "\ndrover_rollback_seconds_count 2\n"));
        assert_non_null(strstr(a.body, "\ndrover_rollback_seconds_sum 1.5"));
        assert_non_null(strstr(a.body, "\ndrover_queue_depth 0\n"));
        assert_non_null(strstr(a.body, "\ndrover_stuck_operations 0\n"));
        assert_non_null(strstr(a.body, "\ndrover_failed_last_hour 0\n"));
        assert_non_null(strstr(a.body, "\ndrover_workers_dead 0\n"));
        free_answer(&a);
    }
    drop_bench(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_tells_what_is_wrong_to_readers),
        cmocka_unit_test(cleanup_is_for_admins_and_its_dry_run_for_operators),
        cmocka_unit_test(alerts_have_the_configured_limits),
        cmocka_unit_test(rollbacks_in_part_and_whole_are_history_and_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
