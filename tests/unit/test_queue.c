/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/ about putting, leasing and finishing. */
#include <sys/resource.h>

#include "unit/queue_help.h"

#if defined(__has_feature) /* clang's way to say what gcc says by __SANITIZE_ADDRESS__ */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED
#endif

/* --- putting ---------------------------------------------------------------------------------- */

static void what_was_put_reads_back_whole(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.priority = 7;
    r->put.archive_days = 30;
    r->put.summary_json = "{\"steps\":2}";
    add(r, "s1", 1)->priority = 3;
    add(r, "s2", 2)->wait_for = 1;
    r->step[1].kind = DR_STEP_VERIFY;
    r->step[0].rollback_wait_for = 2;
    int64_t id = put(r);
    struct dr_op op = op_of(r, id);
    assert_has(op.group, "tenant.drop-acme-");
    assert_string_equal(op.kind, "tenant.drop");
    assert_string_equal(op.target, "acme");
    assert_string_equal(op.store_url, "sqlite:/data");
    assert_int_equal(op.wish, DR_WISH_RUN);
    assert_int_equal(op.status, DR_O_QUEUED);
    assert_int_equal(op.priority, 7);
    assert_int_equal(op.plan_hash, 42);
    assert_int_equal(op.steps, 2);
    assert_int_equal(op.count[DR_S_CREATED], 2);
    assert_int_equal(op.items_estimated, 10); /* only what erases */
    assert_int_equal(op.stage, 1);
    assert_true(op.created_at > 0 && op.started_at == 0 && op.ended_at == 0);
    struct dr_step s = step_of(r, id, 2);
    assert_int_equal(s.op_id, id);
    assert_int_equal(s.kind, DR_STEP_VERIFY);
    assert_int_equal(s.wait_for_id, step_of(r, id, 1).id);
    assert_int_equal(step_of(r, id, 1).rollback_wait_for_id, s.id);
    assert_int_equal(step_of(r, id, 1).priority, 3);
    assert_string_equal(s.node, "s2");
    char *request = NULL;
    char *summary = NULL;
    char *tuning = NULL;
    OK(r, dr_queue_texts(r->q, id, &request, &summary, &tuning, &r->err));
    assert_string_equal(request, "{\"kind\":\"tenant.drop\"}");
    assert_string_equal(summary, "{\"steps\":2}");
    assert_null(tuning);
    dr_free(request);
    dr_free(summary);
    assert_int_equal(dr_queue_texts(r->q, id + 1, &request, NULL, NULL, &r->err), DR_NOT_FOUND);
    assert_int_equal(dr_queue_op(r->q, id + 1, &op, &r->err), DR_NOT_FOUND);
    free_rig(r);
}

static void expect_nothing_stored(struct rig *r)
{
    static const char *const tables[] = {"operations", "steps", "texts",   "stages",
                                         "lanes",      "audit", "cleanups"};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char sql[64];
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal(raw_int(r, sql), 0);
    }
}

static void a_plan_that_breaks_off_leaves_nothing(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t id = 77;
    add_many(r, 5, "s1", 1);
    for (r->fail_at = 1; r->fail_at <= 6; r->fail_at++) {
        assert_int_equal(try_put(r, &id), DR_IO);
        assert_has(r->err.msg, "the plan broke off");
        assert_int_equal(id, 0);
        expect_nothing_stored(r);
    }
    r->fail_at = 0;
    assert_int_equal(op_of(r, put(r)).steps, 5);
    free_rig(r);
}

static void expect_put_refused(struct rig *r, enum dr_code code, const char *part)
{
    int64_t id = 77;
    assert_int_equal(try_put(r, &id), code);
    assert_has(r->err.msg, part);
    assert_int_equal(id, 0);
    expect_nothing_stored(r);
    r->steps = 0;
}

static void plans_that_cannot_work_are_refused_whole(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    expect_put_refused(r, DR_REFUSED, "without a single step");
    add_many(r, 2, "s1", 1);
    r->step[1].rollback_query = NULL;
    expect_put_refused(r, DR_REFUSED, "has no rollback command");
    add_many(r, 3, "s1", 1);
    r->step[1].wait_for = 3; /* forward */
    expect_put_refused(r, DR_INTERNAL, "not before it");
    add_many(r, 2, "s1", 1);
    r->step[1].wait_for = 2; /* itself */
    expect_put_refused(r, DR_INTERNAL, "not before it");
    add_many(r, 2, "s1", 1);
    r->step[1].wait_for = -1;
    expect_put_refused(r, DR_INTERNAL, "not before it");
    add_many(r, 2, "s1", 1);
    r->step[0].rollback_wait_for = 3; /* there are only two */
    expect_put_refused(r, DR_INTERNAL, "not in the plan");
    add_many(r, 2, "s1", 1);
    r->step[1].number = 3;
    expect_put_refused(r, DR_INTERNAL, "comes after");
    add_many(r, 1, "s1", 1);
    r->put.wish = DR_WISH_ROLLBACK;
    expect_put_refused(r, DR_INTERNAL, "to hold or to run");
    free_rig(r);
}

static void an_irreversible_plan_may_lack_undo_and_cannot_roll_back(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.is_irreversible = true;
    add(r, "s1", 1)->rollback_query = NULL;
    int64_t id = put(r);
    assert_true(op_of(r, id).is_irreversible);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "irreversible");
    struct dr_lease l;
    lease_step(r, id, 1, &l);
    assert_null(l.rollback_query);
    finish(r, &l, DR_OUT_DONE);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "irreversible");
    free_rig(r);
}

static void the_same_key_gives_the_same_operation(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.idempotency_key = "ticket-1";
    add_many(r, 2, "s1", 1);
    int64_t first = put(r);
    add_many(r, 3, "s1", 1);
    assert_int_equal(put(r), first);
    assert_int_equal(op_of(r, first).steps, 2);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"), 2);
    r->put.idempotency_key = "ticket-2";
    add_many(r, 1, "s1", 1);
    assert_true(put(r) != first);
    r->put.idempotency_key = NULL;
    add_many(r, 1, "s1", 1);
    int64_t third = put(r);
    add_many(r, 1, "s1", 1);
    assert_true(put(r) != third);
    free_rig(r);
}

struct long_plan {
    int64_t at, end;
};

static enum dr_code next_of_long(void *arg, struct dr_plan_step *step, bool *has_out,
                                 struct dr_err *err)
{
    static const char *const nodes[] = {"s1", "s2", "s3"};
    struct long_plan *p = arg;
    (void)err;
    *has_out = p->at < p->end;
    if (*has_out) {
        p->at++;
        *step = (struct dr_plan_step){.number = p->at,
                                      .node = nodes[p->at % 3],
                                      .query = "q",
                                      .rollback_query = "r",
                                      .stage = 1,
                                      .estimated = 1};
    }
    return DR_OK;
}

static int64_t put_long(struct rig *r, int64_t steps)
{
    struct long_plan plan = {.end = steps};
    int64_t op = 0;
    OK(r, dr_queue_put(r->q, &r->put, next_of_long, &plan, &op, &r->err));
    return op;
}

static long peak_kb(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

/* First in main(): the peak is the process's. */
static void a_hundred_thousand_steps_are_put_in_flat_memory(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    (void)put_long(r, 20000); /* fills caches */
    long before = peak_kb();
    int64_t id = put_long(r, 100000);
    long grown = peak_kb() - before;
#if !defined(IS_SANITIZED) /* sanitizers keep what was freed */
    if (grown > 8 * 1024) {
        print_error("grew by %ld KB\n", grown);
    }
    assert_true(grown <= 8 * 1024);
#else
    (void)grown;
#endif
    struct dr_op op = op_of(r, id);
    assert_int_equal(op.steps, 100000);
    assert_int_equal(op.items_estimated, 100000);
    struct dr_lease l;
    assert_true(lease(r, &l));
    finish(r, &l, DR_OUT_DONE);
    free_rig(r);
}

static void the_view_of_steps_has_the_required_columns(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 2, "s1", 1);
    r->step[1].wait_for = 1;
    r->step[1].query = "the query";
    r->step[1].rollback_query = "the undo";
    r->step[0].rollback_wait_for = 2;
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM (SELECT id, node, query, rollback_query,"
                                " wait_for_id, rollback_wait_for_id, operation_group, tries,"
                                " status, created_at, updated_at, duration FROM steps_view)"),
                     2);
    assert_int_equal(
        raw_int(r, "SELECT count(*) FROM steps_view a JOIN steps_view b ON b.wait_for_id=a.id AND"
                   " a.rollback_wait_for_id=b.id WHERE a.wait_for_id IS NULL AND"
                   " b.rollback_wait_for_id IS NULL AND b.query='the query' AND"
                   " b.rollback_query='the undo' AND a.status='processed' AND b.status='created'"
                   " AND a.duration=5 AND a.operation_group LIKE 'tenant.drop-acme-%'"),
        1);
    for (int s = 0; s < DR_S_COUNT; s++) {
        char sql[160];
        (void)snprintf(sql, sizeof sql, "UPDATE steps SET status=%d WHERE wait_for_id<>0", s);
        raw_exec(r, sql);
        (void)snprintf(sql, sizeof sql,
                       "SELECT count(*) FROM steps_view WHERE wait_for_id IS NOT NULL AND"
                       " status='%s'",
                       dr_step_status_name((enum dr_step_status)s));
        assert_int_equal(raw_int(r, sql), 1);
    }
    free_rig(r);
}

/* --- the order of leasing --------------------------------------------------------------------- */

static void operations_go_by_priority_then_age_and_steps_by_priority_then_id(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 3, "s1", 1);
    r->step[2].priority = 5;
    int64_t old = put(r);
    add_many(r, 1, "s1", 1);
    int64_t young = put(r);
    r->put.priority = 9;
    add_many(r, 1, "s1", 1);
    int64_t urgent = put(r);
    r->put.priority = -1;
    add_many(r, 1, "s1", 1);
    int64_t idle = put(r);
    run_step(r, urgent, 1, DR_OUT_DONE);
    run_step(r, old, 3, DR_OUT_DONE);
    run_step(r, old, 1, DR_OUT_DONE);
    OK(r, dr_queue_tune(r->q, idle, "{}", 3, "bob@host", &r->err));
    run_step(r, idle, 1, DR_OUT_DONE);
    run_step(r, old, 2, DR_OUT_DONE);
    run_step(r, young, 1, DR_OUT_DONE);
    expect_no_lease(r);
    free_rig(r);
}

static void a_stage_opens_when_all_lower_ones_are_processed(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease a;
    struct dr_lease b;
    add(r, "s2", 4)->priority = 99;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    assert_int_equal(op_of(r, id).stage, 1);
    assert_has(step_of(r, id, 1).waits_because, "waits for stage 1");
    lease_step(r, id, 2, &a);
    lease_step(r, id, 3, &b);
    expect_no_lease(r);
    finish(r, &a, DR_OUT_DONE);
    expect_no_lease(r);
    finish(r, &b, DR_OUT_RETRY); /* waiting keeps the stage open too */
    expect_no_lease(r);
    assert_int_equal(sweep_late(r), 1);
    run_step(r, id, 3, DR_OUT_DONE);
    assert_int_equal(op_of(r, id).stage, 4);
    assert_string_equal(step_of(r, id, 1).waits_because, "");
    run_step(r, id, 1, DR_OUT_DONE);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

static void a_step_waits_for_the_one_it_names(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 4, "s1", 1);
    r->step[1].wait_for = 1;
    r->step[2].wait_for = 1;
    r->step[3].wait_for = 3;
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    expect_no_lease(r);
    assert_has(step_of(r, id, 2).waits_because, "which is leased");
    finish(r, &l, DR_OUT_RELEASE);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_DONE);
    lease_step(r, id, 3, &l);
    expect_no_lease(r);
    finish(r, &l, DR_OUT_DONE);
    run_step(r, id, 4, DR_OUT_DONE);
    free_rig(r);
}

static void a_node_takes_no_more_steps_than_its_limit(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease a;
    struct dr_lease b;
    struct dr_lease c;
    r->rules.per_node_default = 1;
    add_many(r, 3, "s1", 1);
    add_many(r, 3, "s2", 1);
    int64_t first = put(r);
    add_many(r, 2, "s1", 1);
    int64_t second = put(r);
    lease_step(r, first, 1, &a);
    lease_step(r, first, 4, &b);
    expect_no_lease(r); /* the second operation uses the same node of the same store */
    r->put.store_url = "sqlite:/other";
    add_many(r, 1, "s1", 1);
    int64_t elsewhere = put(r);
    lease_step(r, elsewhere, 1, &c);
    finish(r, &c, DR_OUT_DONE);
    finish(r, &a, DR_OUT_RELEASE);
    OK(r, dr_queue_tune(r->q, first, "{\"per_node\":2}", 0, "bob@host", &r->err));
    lease_step(r, first, 1, &a);
    lease_step(r, first, 2, &c);
    finish(r, &b, DR_OUT_DONE);
    lease_step(r, first, 5, &b);
    finish(r, &a, DR_OUT_DONE);
    finish(r, &b, DR_OUT_DONE);
    finish(r, &c, DR_OUT_DONE);
    assert_int_equal(run_all(r), 4);
    expect_op(r, second, DR_O_DONE);
    free_rig(r);
}

static void per_node_of_the_tuning_at_put_counts(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l[3];
    r->rules.per_node_default = 1;
    r->put.tuning_json = "{\"per_node\":2}";
    add_many(r, 4, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l[0]);
    lease_step(r, id, 2, &l[1]);
    expect_no_lease(r);
    finish(r, &l[0], DR_OUT_DONE);
    finish(r, &l[1], DR_OUT_DONE);
    /* Several tiny steps in one call count once. */
    r->rules.per_node_default = 1;
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":1}", 0, "bob@host", &r->err));
    uint32_t count = 0;
    OK(r, dr_queue_lease(r->q, &r->rules, l, 3, &count, &r->err));
    assert_int_equal(count, 2);
    finish(r, &l[0], DR_OUT_DONE);
    finish(r, &l[1], DR_OUT_DONE);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

static void lanes_limit_the_steps_of_an_operation_over_all_nodes(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease a;
    struct dr_lease b;
    r->put.tuning_json = "{\"per_node\":2,\"lanes\":1}";
    add_many(r, 2, "s1", 1);
    add_many(r, 2, "s2", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &a);
    expect_no_lease(r); /* s2 is free, but the operation has its one step */
    r->put.tuning_json = NULL;
    add_many(r, 1, "s2", 1);
    int64_t other = put(r);
    lease_step(r, other, 1, &b); /* the limit is not the node's */
    finish(r, &b, DR_OUT_DONE);
    finish(r, &a, DR_OUT_RELEASE);
    lease_step(r, id, 1, &a);
    expect_no_lease(r);
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":2,\"lanes\":2}", 0, "bob@host", &r->err));
    lease_step(r, id, 2, &b);
    expect_no_lease(r);
    finish(r, &a, DR_OUT_DONE);
    finish(r, &b, DR_OUT_DONE);
    /* One call that may take several steps gets no more either. */
    struct dr_lease l[3];
    uint32_t count = 0;
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":2,\"lanes\":1}", 0, "bob@host", &r->err));
    OK(r, dr_queue_lease(r->q, &r->rules, l, 3, &count, &r->err));
    assert_int_equal(count, 1);
    finish(r, &l[0], DR_OUT_DONE);
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":2}", 0, "bob@host", &r->err));
    assert_int_equal(run_all(r), 1);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

static bool start_only_on(void *arg, int64_t op_id, const char *store_url, const char *node)
{
    assert_true(op_id > 0);
    assert_string_equal(store_url, "sqlite:/data");
    return strcmp(node, arg) == 0;
}

static void the_owner_may_hold_back_a_node(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    char node[] = "s2";
    r->rules.may_start = start_only_on;
    r->rules.may_start_arg = node;
    add_many(r, 2, "s1", 1);
    add_many(r, 1, "s2", 1);
    int64_t id = put(r);
    run_step(r, id, 3, DR_OUT_DONE);
    expect_no_lease(r);
    node[1] = '1';
    assert_int_equal(run_all(r), 2);
    free_rig(r);
}

static void many_blocked_operations_do_not_starve_the_next(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    for (int i = 0; i < 70; i++) {
        add(r, "s1", 1);
        add(r, "s1", 2);
        int64_t id = put(r);
        run_step(r, id, 1, DR_OUT_QUARANTINE);
    }
    add_many(r, 1, "s1", 1);
    run_step(r, put(r), 1, DR_OUT_DONE);
    free_rig(r);
}

/* --- leases and their ends -------------------------------------------------------------------- */

static void a_lease_carries_everything_and_a_save_comes_back(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    r->put.priority = 4;
    add(r, "s1", 1)->cleanup = "DROP INDEX i";
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    assert_false(l.is_undo || l.needs_probe);
    assert_int_equal(l.priority, 4);
    assert_int_equal(l.estimated, 10);
    assert_int_equal(l.tries, 0);
    assert_string_equal(l.node, "s1");
    assert_string_equal(l.query, "{\"range\":1}");
    assert_string_equal(l.rollback_query, "{\"do\":\"restore\"}");
    assert_string_equal(l.cleanup, "DROP INDEX i");
    assert_string_equal(l.store_url, "sqlite:/data");
    assert_true(l.until > dr_mono_now());
    assert_true(op_of(r, id).started_at > 0);
    assert_string_equal(step_of(r, id, 1).lease_owner, "host:1:1");
    l.mark = (struct dr_progress_mark){.done = 4,
                                       .archive_bytes = 99,
                                       .archive_frames = 3,
                                       .pass = 2,
                                       .cursor = dr_memdup("a\0b", 3),
                                       .cursor_len = 3};
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, true, &r->err));
    assert_int_equal(op_of(r, id).items_done, 4);
    assert_true(op_of(r, id).progress_at > 0);
    uint64_t acked = 0;
    OK(r, dr_queue_archive_acked(r->q, l.step_id, &acked, &r->err));
    assert_int_equal(acked, 99);
    l.mark.done = 6;
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, false, &r->err));
    OK(r, dr_queue_flush(r->q, &r->err));
    assert_int_equal(op_of(r, id).items_done, 6);
    finish(r, &l, DR_OUT_RELEASE);
    assert_string_equal(step_of(r, id, 1).lease_owner, "");
    lease_step(r, id, 1, &l);
    assert_int_equal(l.mark.done, 6);
    assert_int_equal(l.mark.archive_bytes, 99);
    assert_int_equal(l.mark.archive_frames, 3);
    assert_int_equal(l.mark.pass, 2);
    assert_int_equal(l.mark.cursor_len, 3);
    assert_memory_equal(l.mark.cursor, "a\0b", 3);
    l.mark.done = 9;
    finish(r, &l, DR_OUT_DONE);
    struct dr_step s = step_of(r, id, 1);
    assert_int_equal(s.done, 9);
    assert_int_equal(s.duration_ms, 10);
    assert_int_equal(op_of(r, id).items_done, 9);
    free_rig(r);
}

static void a_retry_waits_for_its_time_and_counts_the_try(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    uint64_t moved = 9;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    dr_wall_ms later = dr_wall_now() + 3600000;
    struct dr_finish f = {
        .outcome = DR_OUT_RETRY, .next_attempt_at = later, .error = "s1 is not there"};
    OK(r, dr_queue_finish(r->q, &l, &f, true, &r->err));
    dr_lease_fini(&l);
    struct dr_step s = step_of(r, id, 1);
    assert_int_equal(s.status, DR_S_WAITING);
    assert_int_equal(s.next_attempt_at, later);
    assert_int_equal(s.tries, 1);
    assert_string_equal(s.last_error, "s1 is not there");
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    assert_int_equal(moved, 0);
    expect_no_lease(r);
    expect_can_move(r, id, true);
    expect_idle(r, false);
    assert_int_equal(sweep_late(r), 1);
    expect_step(r, id, 1, DR_S_CREATED);
    lease_step(r, id, 1, &l);
    assert_int_equal(l.tries, 1);
    assert_false(l.needs_probe);
    finish(r, &l, DR_OUT_RELEASE); /* no failure: the number stays */
    lease_step(r, id, 1, &l);
    assert_int_equal(l.tries, 1);
    finish(r, &l, DR_OUT_DONE);
    assert_string_equal(step_of(r, id, 1).last_error, "");
    free_rig(r);
}

static void an_unknown_outcome_is_probed_before_anything_else_at_its_time(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    struct dr_finish f = {
        .outcome = DR_OUT_UNKNOWN, .next_attempt_at = dr_wall_now() + 3600000, .error = "no reply"};
    OK(r, dr_queue_finish(r->q, &l, &f, true, &r->err));
    dr_lease_fini(&l);
    expect_step(r, id, 1, DR_S_UNKNOWN);
    lease_step(r, id, 2, &l); /* the other need not wait */
    finish(r, &l, DR_OUT_RELEASE);
    raw_exec(r, "UPDATE steps SET next_attempt_at=1 WHERE status=3");
    lease_step(r, id, 1, &l);
    assert_true(l.needs_probe);
    assert_int_equal(l.tries, 1);
    finish(r, &l, DR_OUT_RETRY); /* not looked yet: still to be probed */
    assert_int_equal(sweep_late(r), 1);
    lease_step(r, id, 1, &l);
    assert_true(l.needs_probe);
    l.needs_probe = false; /* the worker has looked */
    finish(r, &l, DR_OUT_RELEASE);
    lease_step(r, id, 1, &l);
    assert_false(l.needs_probe);
    finish(r, &l, DR_OUT_DONE);
    free_rig(r);
}

static void an_old_token_changes_nothing(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease old;
    struct dr_lease new;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &old);
    assert_int_equal(sweep_late(r), 1);
    lease_step(r, id, 1, &new);
    assert_true(new.token > old.token);
    struct dr_step before = step_of(r, id, 1);
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    old.mark.done = 5;
    assert_int_equal(dr_queue_renew(r->q, &old, LEASE_MS, &r->err), DR_LOST);
    assert_int_equal(dr_queue_save(r->q, &old, LEASE_MS, true, &r->err), DR_LOST);
    assert_int_equal(dr_queue_finish(r->q, &old, &f, true, &r->err), DR_LOST);
    assert_has(r->err.msg, "no longer leased");
    OK(r, dr_queue_save(r->q, &old, LEASE_MS, false, &r->err)); /* posted: told later */
    assert_int_equal(dr_queue_flush(r->q, &r->err), DR_LOST);
    assert_int_equal(dr_queue_save(r->q, &old, LEASE_MS, false, &r->err), DR_LOST);
    OK(r, dr_queue_flush(r->q, &r->err));
    struct dr_step after = step_of(r, id, 1);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(op_of(r, id).items_done, 0);
    OK(r, dr_queue_renew(r->q, &new, LEASE_MS, &r->err));
    finish(r, &new, DR_OUT_DONE);
    assert_int_equal(dr_queue_finish(r->q, &old, &f, true, &r->err), DR_LOST);
    dr_lease_fini(&old);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

static void a_lease_that_runs_out_is_probed_by_the_next_worker(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    uint64_t moved = 9;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    assert_int_equal(moved, 0); /* its time is not up */
    OK(r, dr_queue_renew(r->q, &l, 0, &r->err));
    while (dr_mono_now() <= l.until + 1) {
    }
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    assert_int_equal(moved, 1);
    dr_lease_fini(&l);
    struct dr_step s = step_of(r, id, 1);
    assert_int_equal(s.status, DR_S_UNKNOWN);
    assert_string_equal(s.lease_owner, "");
    lease_step(r, id, 1, &l);
    assert_true(l.needs_probe);
    finish(r, &l, DR_OUT_DONE);
    free_rig(r);
}

static void a_save_prolongs_the_lease(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    uint64_t moved = 9;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    raw_exec(r, "UPDATE steps SET next_attempt_at=1, lease_until=1");
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, true, &r->err));
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    assert_int_equal(moved, 0);
    assert_true(l.until >= dr_mono_now() + LEASE_MS / 2);
    finish(r, &l, DR_OUT_DONE);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

static void a_new_owner_does_not_trust_the_leases_of_the_old(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    reopen_queue(r);
    expect_step(r, id, 1, DR_S_UNKNOWN);
    expect_step(r, id, 2, DR_S_CREATED);
    assert_int_equal(dr_queue_renew(r->q, &l, LEASE_MS, &r->err), DR_LOST);
    dr_lease_fini(&l);
    lease_step(r, id, 1, &l);
    assert_true(l.needs_probe);
    finish(r, &l, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_DONE);
    expect_counts_agree(r);
    free_rig(r);
}

static void an_operation_says_when_it_started_and_ended(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.archive_days = 2;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    assert_int_equal(op_of(r, id).ended_at, 0);
    run_step(r, id, 2, DR_OUT_DONE);
    struct dr_op op = op_of(r, id);
    assert_int_equal(op.status, DR_O_DONE);
    assert_true(op.started_at > 0 && op.ended_at >= op.started_at);
    assert_int_equal(op.archive_until, op.ended_at + INT64_C(2) * 86400000);
    expect_can_move(r, id, false);
    expect_idle(r, true);
    r->put.archive_days = 0;
    add_many(r, 1, "s1", 1);
    assert_int_equal(op_of(r, put(r)).archive_until, 0);
    free_rig(r);
}

static void operations_list_newest_first_and_steps_by_status(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t id[3];
    struct dr_op *op = calloc(3, sizeof *op);
    struct dr_step *s = calloc(4, sizeof *s);
    uint32_t count = 0;
    assert_true(op != NULL && s != NULL);
    for (int i = 0; i < 3; i++) {
        add_many(r, 4, "s1", 1);
        id[i] = put(r);
    }
    OK(r, dr_queue_ops(r->q, 0, op, 2, &count, &r->err));
    assert_int_equal(count, 2);
    assert_true(op[0].id == id[2] && op[1].id == id[1]);
    OK(r, dr_queue_ops(r->q, id[1], op, 3, &count, &r->err));
    assert_int_equal(count, 1);
    assert_int_equal(op[0].id, id[0]);
    run_step(r, id[0], 1, DR_OUT_DONE);
    run_step(r, id[0], 2, DR_OUT_QUARANTINE);
    run_step(r, id[0], 3, DR_OUT_RETRY);
    for (int status = 0; status <= DR_S_COUNT; status++) {
        OK(r, dr_queue_steps(r->q, id[0], (enum dr_step_status)status, 0, s, 4, &count, &r->err));
        bool is_there = status == DR_S_PROCESSED || status == DR_S_FAILED ||
                        status == DR_S_WAITING || status == DR_S_CREATED;
        assert_int_equal(count, status == DR_S_COUNT ? 4 : is_there);
        assert_true(count != 1 || (int)s[0].status == status);
    }
    OK(r, dr_queue_steps(r->q, id[0], DR_S_COUNT, s[1].id, s, 4, &count, &r->err));
    assert_int_equal(count, 2);
    free(op);
    free(s);
    free_rig(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_steps_are_put_in_flat_memory),
        cmocka_unit_test(what_was_put_reads_back_whole),
        cmocka_unit_test(a_plan_that_breaks_off_leaves_nothing),
        cmocka_unit_test(plans_that_cannot_work_are_refused_whole),
        cmocka_unit_test(an_irreversible_plan_may_lack_undo_and_cannot_roll_back),
        cmocka_unit_test(the_same_key_gives_the_same_operation),
        cmocka_unit_test(the_view_of_steps_has_the_required_columns),
        cmocka_unit_test(operations_go_by_priority_then_age_and_steps_by_priority_then_id),
        cmocka_unit_test(a_stage_opens_when_all_lower_ones_are_processed),
        cmocka_unit_test(a_step_waits_for_the_one_it_names),
        cmocka_unit_test(a_node_takes_no_more_steps_than_its_limit),
        cmocka_unit_test(per_node_of_the_tuning_at_put_counts),
        cmocka_unit_test(lanes_limit_the_steps_of_an_operation_over_all_nodes),
        cmocka_unit_test(the_owner_may_hold_back_a_node),
        cmocka_unit_test(many_blocked_operations_do_not_starve_the_next),
        cmocka_unit_test(a_lease_carries_everything_and_a_save_comes_back),
        cmocka_unit_test(a_retry_waits_for_its_time_and_counts_the_try),
        cmocka_unit_test(an_unknown_outcome_is_probed_before_anything_else_at_its_time),
        cmocka_unit_test(an_old_token_changes_nothing),
        cmocka_unit_test(a_lease_that_runs_out_is_probed_by_the_next_worker),
        cmocka_unit_test(a_save_prolongs_the_lease),
        cmocka_unit_test(a_new_owner_does_not_trust_the_leases_of_the_old),
        cmocka_unit_test(an_operation_says_when_it_started_and_ended),
        cmocka_unit_test(operations_list_newest_first_and_steps_by_status),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
