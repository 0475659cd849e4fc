/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of verbs/health.h about looking, recovering and cleaning up. */
#include "unit/health_help.h"

#define HOUR "3600000"
#define TWO_DAYS "172800000"

/* --- the queue -------------------------------------------------------------------------------- */

static void a_quiet_queue_is_healthy(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_health_report report = look(r, NULL);
    assert_true(report.is_healthy);
    assert_int_equal(report.count, 0);
    json_t *j = dr_health_json(&report);
    assert_string_equal(json_string_value(json_object_get(j, "overall_status")), "healthy");
    assert_int_equal(json_array_size(json_object_get(j, "recommendations")), 1);
    json_decref(j);
    dr_health_report_fini(&report);
    free_rig(r);
}

static void an_operation_that_does_not_move_is_stuck(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 2, "s1", 1);
    int64_t op = put(r);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0); /* not yet */
    struct dr_lease l;
    lease_step(r, op, 1, &l);
    age_queue(r, HOUR);
    struct dr_health_report report = look(r, NULL);
    const struct dr_finding *f = find(&report, "stuck_operations");
    assert_non_null(f);
    assert_true(f->is_issue);
    assert_false(report.is_healthy);
    json_t *one = json_array_get(f->details, 0);
    assert_int_equal(json_integer_value(json_object_get(one, "operation")), op);
    assert_true(json_integer_value(json_object_get(one, "idle_ms")) >= 3600000);
    json_t *j = dr_health_json(&report);
    assert_string_equal(json_string_value(json_object_get(j, "overall_status")), "unhealthy");
    assert_int_equal(json_array_size(json_object_get(j, "issues")), 1);
    json_decref(j);
    dr_health_report_fini(&report);
    finish(r, &l, DR_OUT_DONE); /* it moves */
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    free_rig(r);
}

static void what_is_braked_or_paused_is_not_stuck(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 2, "s1", 1);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_RELEASE);
    age_queue(r, HOUR);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 1);
    dr_queue_waiting(r->q, op, "quiet hours until tomorrow");
    OK(r, dr_queue_flush(r->q, &r->err));
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    dr_queue_waiting(r->q, op, "s1: replication lag 40 s, limit 10 s");
    OK(r, dr_queue_flush(r->q, &r->err));
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    dr_queue_waiting(r->q, op, "");
    OK(r, dr_queue_flush(r->q, &r->err));
    wish(r, op, DR_WISH_PAUSE);
    age_queue(r, HOUR);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    wish(r, op, DR_WISH_RUN); /* a moment ago: it shall have its time */
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    free_rig(r);
}

static void a_step_told_not_now_is_no_stall_and_one_that_fails_is(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    struct dr_lease l;
    lease_step(r, op, 1, &l);
    struct dr_finish f = {.outcome = DR_OUT_RETRY,
                          .next_attempt_at = dr_wall_now() + 60000,
                          .error = "held until tomorrow",
                          .is_braked = true};
    l.tries = 0; /* as the worker does it */
    OK(r, dr_queue_finish(r->q, &l, &f, true, &r->err));
    dr_lease_fini(&l);
    age_queue(r, HOUR);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    raw_exec(r, "UPDATE steps SET next_attempt_at=1");
    uint64_t moved = 0;
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    run_step(r, op, 1, DR_OUT_RETRY);
    (void)sweep_late(r);
    run_step(r, op, 1, DR_OUT_RETRY);
    dr_queue_waiting(r->q, op, "s1: connection refused");
    OK(r, dr_queue_flush(r->q, &r->err));
    age_queue(r, HOUR);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 1);
    free_rig(r);
}

static void work_that_nobody_owns_is_told(void **state)
{
    (void)state;
    struct rig *r = make_empty_rig();
    OK(r, dr_queue_open(r->dir, false, &r->q, &r->err));
    add_many(r, 1, "s1", 1);
    (void)put(r);
    assert_int_equal(count_found(r, NULL, "owner_missing"), 0);
    age_queue(r, HOUR);
    assert_int_equal(count_found(r, NULL, "owner_missing"), 1);
    assert_int_equal(count_found(r, NULL, "stuck_operations"), 0);
    OK(r, dr_queue_own(r->q, &r->err));
    assert_int_equal(count_found(r, NULL, "owner_missing"), 0);
    free_rig(r);
}

static void failed_operations_and_rollbacks_are_issues(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_QUARANTINE);
    struct dr_health_report report = look(r, NULL);
    const struct dr_finding *f = find(&report, "failed_operations");
    assert_non_null(f);
    assert_true(f->is_issue);
    assert_string_equal(json_string_value(json_object_get(json_array_get(f->details, 0), "error")),
                        "it broke");
    dr_health_report_fini(&report);
    add_many(r, 1, "s1", 1);
    int64_t back = put(r);
    run_step(r, back, 1, DR_OUT_DONE);
    wish(r, back, DR_WISH_ROLLBACK);
    run_step(r, back, 1, DR_OUT_QUARANTINE);
    assert_int_equal(count_found(r, NULL, "rollback_failures"), 1);
    assert_int_equal(count_found(r, NULL, "failed_operations"), 1);
    free_rig(r);
}

static void a_silent_worker_is_dead_and_matters_when_there_is_work(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    dr_queue_heartbeat(r->q, "h:1", false);
    dr_queue_heartbeat(r->q, "h:2", true);
    OK(r, dr_queue_flush(r->q, &r->err));
    assert_int_equal(count_found(r, NULL, "dead_workers"), 0);
    raw_exec(r, "UPDATE heartbeats SET seen_at=seen_at-60000");
    struct dr_health_report report = look(r, NULL);
    assert_int_equal(find(&report, "dead_workers")->count, 1);
    assert_true(report.is_healthy);
    dr_health_report_fini(&report);
    add_many(r, 1, "s1", 1);
    (void)put(r);
    report = look(r, NULL);
    assert_true(find(&report, "dead_workers")->is_issue);
    dr_health_report_fini(&report);
    free_rig(r);
}

/* --- recovery --------------------------------------------------------------------------------- */

static void what_can_heal_is_put_back_three_times_and_then_a_person_is_asked(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    for (int i = 0; i < 3; i++) {
        fail_after_a_retry(r, op, 1);
        json_t *did = recover(r, NULL);
        assert_int_equal(json_array_size(json_object_get(did, "recovered")), 1);
        expect_step(r, op, 1, DR_S_CREATED);
        json_decref(did);
    }
    fail_after_a_retry(r, op, 1);
    json_t *did = recover(r, NULL);
    assert_int_equal(json_array_size(json_object_get(did, "recovered")), 0);
    assert_int_equal(json_array_size(json_object_get(did, "needs_a_person")), 1);
    expect_step(r, op, 1, DR_S_FAILED);
    json_decref(did);
    free_rig(r);
}

static void what_cannot_heal_or_is_paused_is_left_alone(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_QUARANTINE); /* at its first failure */
    json_decref(recover(r, NULL));
    expect_step(r, op, 1, DR_S_FAILED);
    add_many(r, 2, "s2", 1);
    int64_t paused = put(r);
    fail_after_a_retry(r, paused, 1);
    wish(r, paused, DR_WISH_PAUSE);
    json_decref(recover(r, NULL));
    expect_step(r, paused, 1, DR_S_FAILED);
    wish(r, paused, DR_WISH_RUN);
    json_decref(recover(r, NULL));
    expect_step(r, paused, 1, DR_S_CREATED);
    free_rig(r);
}

static void a_failed_rollback_is_put_back(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    run_step(r, op, 1, DR_OUT_DONE);
    wish(r, op, DR_WISH_ROLLBACK);
    run_step(r, op, 1, DR_OUT_QUARANTINE);
    json_decref(recover(r, NULL));
    expect_step(r, op, 1, DR_S_UNDOING);
    run_step(r, op, 1, DR_OUT_DONE);
    expect_op(r, op, DR_O_ROLLED_BACK);
    free_rig(r);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void what_the_catalog_places_is_nobodys_orphan(void **state)
{
    (void)state;
    struct town *t = make_town();
    add_table(t, "users", "ready", "", "n0", "n1");
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s1", "users", TABLE_UUID, CREATE_UUID);
    struct dr_health_report report = look(t->r, &t->world);
    assert_int_equal(report.count, 0);
    assert_int_equal(report.orphans, 0);
    dr_health_report_fini(&report);
    make_shard(t, 1, "gone_s0", "gone", OTHER_UUID, CREATE_UUID);
    report = look(t->r, &t->world);
    assert_int_equal(report.orphans, 1);
    const struct dr_finding *f = find(&report, "orphaned_resources");
    assert_false(f->is_issue);
    char *text = json_dumps(f->details, 0);
    assert_has(text, "gone_s0");
    assert_null(strstr(text, "sqlite:")); /* URLs may hold secrets */
    free(text);
    dr_health_report_fini(&report);
    free_town(t);
}

static int64_t put_table_operation(struct town *t, enum dr_wish w)
{
    struct rig *r = t->r;
    r->put.kind = "table.rebalance";
    r->put.request_json = "{\"kind\":\"table.rebalance\",\"operation\":\"" MOVE_UUID "\"}";
    r->put.wish = w;
    add_many(r, 1, "s1", 1);
    int64_t op = put(r);
    r->put.kind = "tenant.drop";
    r->put.request_json = "{\"kind\":\"tenant.drop\"}";
    r->put.wish = DR_WISH_RUN;
    return op;
}

static void what_an_operation_owns_stays_whatever_its_age(void **state)
{
    (void)state;
    static const enum dr_wish wishes[] = {DR_WISH_RUN, DR_WISH_PAUSE, DR_WISH_HOLD};
    struct town *t = make_town();
    add_table(t, "users", "ready", "", "n0", "n1");
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s1", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s0", "users", TABLE_UUID, MOVE_UUID); /* half a move */
    age_records(t);
    int64_t op = put_table_operation(t, DR_WISH_HOLD);
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        if (wishes[i] != DR_WISH_HOLD) {
            wish(t->r, op, wishes[i]);
        }
        assert_int_equal(count_found(t->r, &t->world, "orphaned_resources"), 0);
        json_decref(clean(t->r, &t->world, DR_CLEAN_CLUSTERS, false));
        assert_int_equal(
            ask_node_int(t, 1, "SELECT count(*) FROM sqlite_master WHERE name='users_s0'"), 1);
    }
    wish(t->r, op, DR_WISH_RUN);
    run_step(t->r, op, 1, DR_OUT_DONE); /* over: now it belongs to nobody */
    assert_int_equal(count_found(t->r, &t->world, "orphaned_resources"), 1);
    free_town(t);
}

static void a_silent_node_is_a_warning_and_no_orphan(void **state)
{
    (void)state;
    struct town *t = make_town();
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s1", "users", TABLE_UUID, CREATE_UUID);
    assert_int_equal(unlink(t->node[1] + strlen("sqlite:")), 0);
    add_table(t, "users", "ready", "", "n0", "n1");
    struct dr_health_report report = look(t->r, &t->world);
    assert_true(report.is_healthy);
    assert_int_equal(report.orphans, 0);
    assert_int_equal(find(&report, "unreachable_nodes")->count, 1);
    assert_int_equal(find(&report, "under_replicated")->count, 1);
    assert_null(find(&report, "table_mismatch"));
    dr_health_report_fini(&report);
    free_town(t);
}

static void a_shard_that_is_not_where_it_should_be_is_an_issue(void **state)
{
    (void)state;
    struct town *t = make_town();
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "other_s1", "other", OTHER_UUID, CREATE_UUID);
    add_table(t, "users", "ready", "", "n0", "n1");
    struct dr_health_report report = look(t->r, &t->world);
    assert_false(report.is_healthy);
    assert_int_equal(find(&report, "table_mismatch")->count, 1);
    assert_int_equal(find(&report, "under_replicated")->count, 1);
    dr_health_report_fini(&report);
    free_town(t);
}

/* --- cleanup ---------------------------------------------------------------------------------- */

static void expect_same(json_t *dry, json_t *real)
{
    (void)json_object_del(dry, "timestamp");
    (void)json_object_del(real, "timestamp");
    assert_true(json_is_true(json_object_get(dry, "dry_run")));
    (void)json_object_del(dry, "dry_run");
    (void)json_object_del(real, "dry_run");
    if (!json_equal(dry, real)) {
        print_error("dry:  %s\nreal: %s\n", json_dumps(dry, JSON_SORT_KEYS),
                    json_dumps(real, JSON_SORT_KEYS));
        fail();
    }
    json_decref(dry);
    json_decref(real);
}

static void a_dry_run_lists_what_the_real_one_does(void **state)
{
    (void)state;
    struct town *t = make_town();
    struct rig *r = t->r;
    add_table(t, "users", "ready", "", "n0", "n1");
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s1", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 0, "gone_s0", "gone", OTHER_UUID, CREATE_UUID); /* empty: goes */
    make_shard(t, 1, "kept_s0", "kept", OTHER_UUID, CREATE_UUID); /* holds a row: stays */
    on_node(t, 1, "INSERT INTO kept_s0 VALUES(1, 'a')");
    age_records(t);
    make_shard(t, 0, "young_s0", "young", OTHER_UUID, CREATE_UUID); /* not old enough */
    add_many(r, 1, "s1", 1);
    int64_t failed = put(r);
    run_step(r, failed, 1, DR_OUT_QUARANTINE);
    add_many(r, 1, "s1", 1);
    int64_t done = put(r);
    run_step(r, done, 1, DR_OUT_DONE);
    age_queue(r, "864000000");
    json_t *dry = clean(r, &t->world, DR_CLEAN_ALL, true);
    assert_int_equal(json_integer_value(json_object_get(dry, "resources_cleaned")), 2);
    expect_op(r, failed, DR_O_BLOCKED); /* nothing was touched */
    assert_int_equal(ask_node_int(t, 0, "SELECT count(*) FROM gone_s0"), 0);
    expect_same(dry, clean(r, &t->world, DR_CLEAN_ALL, false));
    assert_int_equal(ask_node_int(t, 0, "SELECT count(*) FROM sqlite_master WHERE name='gone_s0'"),
                     0);
    assert_int_equal(ask_node_int(t, 0, "SELECT count(*) FROM sqlite_master WHERE name='young_s0'"),
                     1);
    assert_int_equal(ask_node_int(t, 1, "SELECT count(*) FROM kept_s0"), 1);
    assert_int_equal(ask_node_int(t, 0, "SELECT count(*) FROM users_s0"), 0);
    struct dr_op op;
    assert_int_equal(dr_queue_op(r->q, done, &op, &r->err), DR_NOT_FOUND);
    free_town(t);
}

static void what_holds_rows_goes_when_it_is_retired_or_one_copy_too_many(void **state)
{
    (void)state;
    struct town *t = make_town();
    struct dr_store *s = NULL;
    add_table(t, "users", "ready", "", "n0", "n1");
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s1", "users", TABLE_UUID, CREATE_UUID);
    make_shard(t, 1, "users_s0", "users", TABLE_UUID, OTHER_UUID); /* half a copy */
    on_node(t, 1, "INSERT INTO users_s0 VALUES(1, 'a')");
    make_shard(t, 0, "gone_s0", "gone", OTHER_UUID, CREATE_UUID);
    on_node(t, 0, "INSERT INTO gone_s0 VALUES(1, 'a')");
    const struct dr_shard_id id = {
        .name = "gone_s0", .table = "gone", .owner = OTHER_UUID, .operation = CREATE_UUID};
    OK(t->r, dr_store_open(t->node[0], &s, &t->r->err));
    OK(t->r, dr_shard_hold(s, &id, true, &t->r->err));
    dr_store_close(s);
    age_records(t);
    json_t *did = clean(t->r, &t->world, DR_CLEAN_CLUSTERS, false);
    assert_int_equal(json_integer_value(json_object_get(did, "resources_cleaned")), 2);
    json_decref(did);
    assert_int_equal(ask_node_int(t, 1, "SELECT count(*) FROM sqlite_master WHERE name='users_s0'"),
                     0);
    assert_int_equal(ask_node_int(t, 0, "SELECT count(*) FROM drover_shards"), 1);
    assert_int_equal(count_found(t->r, &t->world, "orphaned_resources"), 0);
    free_town(t);
}

static void a_failed_operation_that_turned_back_is_forgotten_later(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_op op;
    r->put.is_atomic = true;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_QUARANTINE);
    expect_op(r, id, DR_O_ROLLING_BACK);
    (void)run_all(r);
    json_decref(clean(r, NULL, DR_CLEAN_GROUPS, false));
    expect_op(r, id, DR_O_ROLLED_BACK); /* ended a moment ago */
    age_queue(r, TWO_DAYS);
    json_t *dry = clean(r, NULL, DR_CLEAN_GROUPS, true);
    expect_same(dry, clean(r, NULL, DR_CLEAN_GROUPS, false));
    assert_int_equal(dr_queue_op(r->q, id, &op, &r->err), DR_NOT_FOUND);
    free_rig(r);
}

static void a_failed_deletion_is_named_and_left_to_a_person(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_QUARANTINE);
    age_queue(r, TWO_DAYS);
    json_decref(clean(r, NULL, DR_CLEAN_GROUPS, false));
    expect_op(r, id, DR_O_BLOCKED); /* nothing that was erased came back */
    free_rig(r);
}

static void traces_of_what_is_gone_are_forgotten_and_those_of_others_kept(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    OK(r, dr_queue_audit(r->q, 0, "ann", "long ago", &r->err));
    OK(r, dr_queue_audit(r->q, id, "ann", "of an operation that is there", &r->err));
    dr_queue_heartbeat(r->q, "h:1", true);
    OK(r, dr_queue_flush(r->q, &r->err));
    raw_exec(r, "UPDATE heartbeats SET seen_at=1");
    age_queue(r, "3456000000");
    int64_t before = raw_int(r, "SELECT count(*) FROM audit WHERE op_id<>0");
    json_t *dry = clean(r, NULL, DR_CLEAN_STATE, true);
    expect_same(dry, clean(r, NULL, DR_CLEAN_STATE, false));
    assert_int_equal(raw_int(r, "SELECT count(*) FROM audit WHERE what='long ago'"), 0);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM audit WHERE op_id<>0"), before);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM heartbeats"), 0);
    free_rig(r);
}

static void only_the_owner_cleans_up_and_anybody_may_look(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_queue *other = NULL;
    struct dr_cleanup_ages ages;
    json_t *out = NULL;
    dr_cleanup_ages_default(&ages);
    OK(r, dr_queue_open(r->dir, true, &other, &r->err));
    assert_int_equal(dr_cleanup_run(other, NULL, DR_CLEAN_ALL, &ages, false, "x", &out, &r->err),
                     DR_BUSY);
    assert_null(out);
    OK(r, dr_cleanup_run(other, NULL, DR_CLEAN_ALL, &ages, true, "x", &out, &r->err));
    json_decref(out);
    dr_queue_close(other);
    free_rig(r);
}

static void a_look_survives_every_lack_of_memory(void **state)
{
    (void)state;
    struct town *t = make_town();
    struct dr_health_rules rules;
    add_table(t, "users", "ready", "", "n0", "n1");
    make_shard(t, 0, "users_s0", "users", TABLE_UUID, CREATE_UUID);
    add_many(t->r, 1, "s1", 1);
    int64_t op = put(t->r);
    run_step(t->r, op, 1, DR_OUT_QUARANTINE);
    dr_health_rules_default(&rules);
    bool is_done = false;
    for (uint64_t n = 1; !is_done && n < 5000; n++) {
        struct dr_health_report report = {0};
        struct dr_err err = {0};
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_health_look(t->r->q, &t->world, &rules, &report, &err);
        is_done = dr_mem_fail_at(0) < n;
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        dr_health_report_fini(&report);
    }
    assert_true(is_done);
    free_town(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_queue_is_healthy),
        cmocka_unit_test(an_operation_that_does_not_move_is_stuck),
        cmocka_unit_test(what_is_braked_or_paused_is_not_stuck),
        cmocka_unit_test(a_step_told_not_now_is_no_stall_and_one_that_fails_is),
        cmocka_unit_test(work_that_nobody_owns_is_told),
        cmocka_unit_test(failed_operations_and_rollbacks_are_issues),
        cmocka_unit_test(a_silent_worker_is_dead_and_matters_when_there_is_work),
        cmocka_unit_test(what_can_heal_is_put_back_three_times_and_then_a_person_is_asked),
        cmocka_unit_test(what_cannot_heal_or_is_paused_is_left_alone),
        cmocka_unit_test(a_failed_rollback_is_put_back),
        cmocka_unit_test(what_the_catalog_places_is_nobodys_orphan),
        cmocka_unit_test(what_an_operation_owns_stays_whatever_its_age),
        cmocka_unit_test(a_silent_node_is_a_warning_and_no_orphan),
        cmocka_unit_test(a_shard_that_is_not_where_it_should_be_is_an_issue),
        cmocka_unit_test(a_dry_run_lists_what_the_real_one_does),
        cmocka_unit_test(what_holds_rows_goes_when_it_is_retired_or_one_copy_too_many),
        cmocka_unit_test(a_failed_operation_that_turned_back_is_forgotten_later),
        cmocka_unit_test(a_failed_deletion_is_named_and_left_to_a_person),
        cmocka_unit_test(traces_of_what_is_gone_are_forgotten_and_those_of_others_kept),
        cmocka_unit_test(only_the_owner_cleans_up_and_anybody_may_look),
        cmocka_unit_test(a_look_survives_every_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
