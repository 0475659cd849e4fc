/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/ about what stands beside the steps: archive, cleanup records, audit,
 * tuning, waiting reasons, versions, retention. */
#include "unit/queue_help.h"

/* --- archive, cleanup, audit ------------------------------------------------------------------ */

static void an_expired_archive_refuses_rollback(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.archive_days = 30;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    assert_int_equal(dr_queue_archive_expire(r->q, id, "bob", &r->err), DR_REFUSED);
    assert_has(r->err.msg, "is queued");
    assert_int_equal(run_all(r), 1);
    wish(r, id, DR_WISH_ROLLBACK);
    assert_int_equal(dr_queue_archive_expire(r->q, id, "bob", &r->err), DR_REFUSED);
    assert_int_equal(run_all(r), 1);
    add_many(r, 1, "s1", 1);
    id = put(r);
    assert_int_equal(run_all(r), 1);
    assert_false(op_of(r, id).is_archive_expired);
    OK(r, dr_queue_archive_expire(r->q, id, "bob", &r->err));
    assert_true(op_of(r, id).is_archive_expired);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "archive has expired");
    assert_int_equal(dr_queue_archive_expire(r->q, 99, "bob", &r->err), DR_NOT_FOUND);
    free_rig(r);
}

static uint32_t cleanups(struct rig *r, bool only_due, struct dr_cleanup *c)
{
    uint32_t count = 9;
    OK(r, dr_queue_cleanups(r->q, only_due, c, 4, &count, &r->err));
    return count;
}

static void a_cleanup_is_on_record_before_its_step_runs_and_due_after_the_end(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_cleanup *c = calloc(4, sizeof *c);
    struct dr_lease l;
    assert_non_null(c);
    add(r, "s1", 1)->cleanup = "DROP INDEX a";
    add(r, "s2", 1)->cleanup = "DROP INDEX b";
    int64_t id = put(r);
    assert_int_equal(cleanups(r, false, c), 0);
    lease_step(r, id, 1, &l);
    assert_int_equal(cleanups(r, false, c), 1);
    assert_int_equal(cleanups(r, true, c + 1), 0);
    assert_string_equal(c[0].command, "DROP INDEX a");
    assert_string_equal(c[0].node, "s1");
    assert_string_equal(c[0].store_url, "sqlite:/data");
    assert_int_equal(c[0].op_id, id);
    assert_int_equal(c[0].step_id, l.step_id);
    finish(r, &l, DR_OUT_RELEASE);
    run_step(r, id, 1, DR_OUT_DONE); /* again: still one record */
    assert_int_equal(cleanups(r, false, c), 1);
    wish(r, id, DR_WISH_STOP);
    assert_int_equal(cleanups(r, true, c), 1);
    OK(r, dr_queue_cleanup_done(r->q, c[0].id, "s1 is away", &r->err));
    assert_int_equal(cleanups(r, true, c), 1);
    assert_int_equal(c[0].tries, 1);
    assert_string_equal(c[0].last_error, "s1 is away");
    OK(r, dr_queue_cleanup_done(r->q, c[0].id, NULL, &r->err));
    assert_int_equal(cleanups(r, false, c), 0);
    /* What was removed after the stop is made again, and its removal is due again. */
    wish(r, id, DR_WISH_RUN);
    assert_int_equal(run_all(r), 2);
    assert_int_equal(cleanups(r, true, c), 2);
    assert_string_equal(c[0].command, "DROP INDEX a");
    assert_string_equal(c[1].command, "DROP INDEX b");
    free(c);
    free_rig(r);
}

static void what_is_made_a_second_time_is_cleaned_a_second_time(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_cleanup *c = calloc(4, sizeof *c);
    struct dr_lease l;
    assert_non_null(c);
    add(r, "s1", 1)->cleanup = "DROP INDEX a";
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    wish(r, id, DR_WISH_STOP);
    finish(r, &l, DR_OUT_RELEASE);
    assert_int_equal(cleanups(r, true, c), 1);
    OK(r, dr_queue_cleanup_done(r->q, c[0].id, NULL, &r->err));
    wish(r, id, DR_WISH_RUN);
    run_step(r, id, 1, DR_OUT_DONE);
    assert_int_equal(cleanups(r, true, c), 1);
    wish(r, id, DR_WISH_ROLLBACK);
    assert_int_equal(cleanups(r, true, c), 0); /* not while it goes on */
    run_step(r, id, 1, DR_OUT_DONE);
    assert_int_equal(cleanups(r, true, c), 1);
    free(c);
    free_rig(r);
}

static void the_audit_knows_who_did_what(void **state)
{
    (void)state;
    static const char *const expected[] = {"ann@host submitted",
                                           "bob@host pause: because",
                                           "bob@host run: because",
                                           "eve tune: {\"per_node\":3}",
                                           "bob quarantine retry: 1 steps",
                                           "bob@host stop: because",
                                           "bob archive expired",
                                           "carl looked at it"};
    enum { ROWS = 8 };
    struct rig *r = make_rig();
    struct dr_audit *a = calloc(ROWS + 1, sizeof *a);
    uint64_t redriven = 0;
    uint32_t count = 0;
    assert_non_null(a);
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    wish(r, id, DR_WISH_PAUSE);
    wish(r, id, DR_WISH_RUN);
    run_step(r, id, 1, DR_OUT_QUARANTINE);
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":3}", 1, "eve", &r->err));
    OK(r, dr_queue_redrive(r->q, id, 0, "bob", &redriven, &r->err));
    wish(r, id, DR_WISH_STOP);
    refuse_wish(r, id, DR_WISH_PAUSE, "has ended"); /* what was refused did not happen */
    OK(r, dr_queue_archive_expire(r->q, id, "bob", &r->err));
    OK(r, dr_queue_audit(r->q, id, "carl", "looked at it", &r->err));
    OK(r, dr_queue_audits(r->q, id, 0, a, ROWS + 1, &count, &r->err));
    assert_int_equal(count, ROWS);
    for (int i = 0; i < ROWS; i++) {
        char line[2 * DR_REASON_BYTES];
        (void)snprintf(line, sizeof line, "%s %s", a[i].by, a[i].what);
        assert_string_equal(line, expected[i]);
        assert_true(a[i].at > 0 && a[i].op_id == id);
    }
    OK(r, dr_queue_audits(r->q, id, a[5].id, a, ROWS, &count, &r->err));
    assert_int_equal(count, 2);
    r->put.wish = DR_WISH_HOLD;
    add_many(r, 1, "s1", 1);
    int64_t held = put(r);
    OK(r, dr_queue_audits(r->q, held, 0, a, ROWS, &count, &r->err));
    assert_int_equal(count, 1);
    assert_string_equal(a[0].what, "planned");
    OK(r, dr_queue_audits(r->q, 0, 0, a, ROWS + 1, &count, &r->err));
    assert_int_equal(count, ROWS + 1);
    free(a);
    free_rig(r);
}

static void tuning_is_stored_and_numbered(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    char *tuning = NULL;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    uint64_t version = op_of(r, id).tuning_version;
    OK(r, dr_queue_tune(r->q, id, "{\"per_node\":3}", 8, "eve", &r->err));
    assert_int_equal(op_of(r, id).tuning_version, version + 1);
    assert_int_equal(op_of(r, id).priority, 8);
    OK(r, dr_queue_texts(r->q, id, NULL, NULL, &tuning, &r->err));
    assert_string_equal(tuning, "{\"per_node\":3}");
    dr_free(tuning);
    assert_int_equal(dr_queue_tune(r->q, 99, "{}", 8, "eve", &r->err), DR_NOT_FOUND);
    assert_int_equal(dr_queue_tune(r->q, id, "{", 8, "eve", &r->err), DR_INPUT);
    assert_int_equal(op_of(r, id).tuning_version, version + 1);
    free_rig(r);
}

/* --- waiting, version ------------------------------------------------------------------------- */

static void expect_waiting(struct rig *r, int64_t op_id, const char *reason)
{
    OK(r, dr_queue_flush(r->q, &r->err));
    assert_string_equal(op_of(r, op_id).waiting, reason);
}

static void an_operation_says_why_nothing_moves(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    dr_queue_waiting(r->q, id, "s1 is too slow");
    expect_waiting(r, id, "s1 is too slow");
    dr_queue_waiting(r->q, id, "s1 is away");
    expect_waiting(r, id, "s1 is away");
    dr_queue_waiting(r->q, id, "");
    expect_waiting(r, id, "");
    dr_queue_waiting(r->q, id, "s1 is away");
    expect_waiting(r, id, "s1 is away");
    reopen_queue(r); /* the next owner has reasons of its own */
    expect_waiting(r, id, "");
    dr_queue_waiting(r->q, id, "s1 is away");
    expect_waiting(r, id, "s1 is away");
    assert_int_equal(run_all(r), 1);
    expect_waiting(r, id, ""); /* not after the end */
    free_rig(r);
}

static void an_unchanged_reason_writes_nothing(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    uint64_t before = 0;
    uint64_t after = 0;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    dr_queue_waiting(r->q, id, "s1 is away");
    OK(r, dr_queue_flush(r->q, &r->err));
    OK(r, dr_queue_version(r->q, &before, &r->err));
    for (int i = 0; i < 1000; i++) {
        dr_queue_waiting(r->q, id, "s1 is away");
    }
    OK(r, dr_queue_flush(r->q, &r->err));
    OK(r, dr_queue_version(r->q, &after, &r->err));
    assert_int_equal(before, after);
    free_rig(r);
}

static void a_reason_that_a_wish_cleared_is_told_again(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_queue *other = NULL;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    dr_queue_waiting(r->q, id, "s1 is away");
    expect_waiting(r, id, "s1 is away");
    OK(r, dr_queue_open(r->dir, true, &other, &r->err));
    OK(r, dr_queue_wish(other, id, DR_WISH_PAUSE, "bob", "", &r->err));
    assert_string_equal(op_of(r, id).waiting, "");
    OK(r, dr_queue_wish(other, id, DR_WISH_RUN, "bob", "", &r->err));
    dr_mono_ms limit = dr_mono_now() + 5000;
    while (op_of(r, id).waiting[0] == '\0' && dr_mono_now() < limit) {
        dr_queue_waiting(r->q, id, "s1 is away");
    }
    expect_waiting(r, id, "s1 is away");
    dr_queue_close(other);
    free_rig(r);
}

static uint64_t version(struct rig *r, struct dr_queue *q)
{
    uint64_t v = 0;
    OK(r, dr_queue_version(q, &v, &r->err));
    return v;
}

static void the_version_changes_whoever_writes(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_queue *other = NULL;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    OK(r, dr_queue_open(r->dir, true, &other, &r->err));
    uint64_t mine = version(r, r->q);
    uint64_t theirs = version(r, other);
    assert_int_equal(version(r, r->q), mine);
    assert_int_equal(version(r, other), theirs);
    OK(r, dr_queue_wish(other, id, DR_WISH_PAUSE, "bob", "", &r->err));
    assert_true(version(r, r->q) != mine);
    assert_true(version(r, other) != theirs);
    mine = version(r, r->q);
    theirs = version(r, other);
    (void)op_of(r, id);
    assert_int_equal(version(r, r->q), mine);
    wish(r, id, DR_WISH_RUN);
    run_step(r, id, 1, DR_OUT_DONE);
    assert_true(version(r, r->q) != mine);
    assert_true(version(r, other) != theirs);
    dr_queue_close(other);
    free_rig(r);
}

/* --- retention -------------------------------------------------------------------------------- */

static void expect_retain(struct rig *r, dr_wall_ms before, uint64_t ops, uint64_t steps)
{
    uint64_t got_ops = 99;
    uint64_t got_steps = 99;
    for (int is_real = 0; is_real < 2; is_real++) { /* the dry run says what the real one does */
        int64_t rows = raw_int(r, "SELECT count(*) FROM steps");
        OK(r, dr_queue_retain(r->q, before, is_real == 0, &got_ops, &got_steps, &r->err));
        assert_int_equal(got_ops, ops);
        assert_int_equal(got_steps, steps);
        assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"),
                         rows - (is_real == 0 ? 0 : (int64_t)steps));
    }
}

static void retention_removes_old_ends_and_nothing_else(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_op op;
    struct dr_cleanup *c = calloc(4, sizeof *c);
    struct dr_lease l;
    assert_non_null(c);
    add_many(r, 2, "s1", 1);
    int64_t done = put(r);
    assert_int_equal(run_all(r), 2);
    add(r, "s1", 1)->cleanup = "DROP INDEX a";
    int64_t unclean = put(r);
    assert_int_equal(run_all(r), 1);
    r->put.archive_days = 1;
    add_many(r, 3, "s1", 1);
    int64_t archived = put(r);
    lease_step(r, archived, 1, &l);
    l.mark.done = 1;
    finish(r, &l, DR_OUT_DONE);
    assert_int_equal(run_all(r), 2);
    add_many(r, 4, "s1", 1);
    int64_t running = put(r);
    run_step(r, running, 1, DR_OUT_DONE);
    dr_wall_ms later = dr_wall_now() + 1000;
    expect_retain(r, op_of(r, done).ended_at, 0, 0); /* not old enough */
    expect_retain(r, later, 1, 2);
    assert_int_equal(dr_queue_op(r->q, done, &op, &r->err), DR_NOT_FOUND);
    assert_int_equal(cleanups(r, true, c), 1);
    OK(r, dr_queue_cleanup_done(r->q, c[0].id, NULL, &r->err));
    expect_retain(r, later, 1, 1);
    assert_int_equal(dr_queue_op(r->q, unclean, &op, &r->err), DR_NOT_FOUND);
    OK(r, dr_queue_archive_expire(r->q, archived, "bob", &r->err));
    expect_retain(r, later, 1, 3);
    assert_int_equal(dr_queue_op(r->q, archived, &op, &r->err), DR_NOT_FOUND);
    expect_retain(r, later, 0, 0);
    assert_int_equal(run_all(r), 3);
    static const char *const tables[] = {"stages", "lanes", "texts", "steps"};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char sql[96];
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE op_id<>%d", tables[i],
                       (int)running);
        assert_int_equal(raw_int(r, sql), 0);
    }
    assert_int_equal(raw_int(r, "SELECT count(*) FROM cleanups"), 0);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM audit WHERE what='removed from the queue'"),
                     3);
    free(c);
    free_rig(r);
}

static enum dr_code next_same(void *arg, struct dr_plan_step *step, bool *has_out,
                              struct dr_err *err)
{
    int64_t *at = arg;
    (void)err;
    *has_out = *at < 12000;
    *step = (struct dr_plan_step){
        .number = ++*at, .node = "s1", .query = "q", .rollback_query = "r", .stage = 1};
    return DR_OK;
}

static void retention_goes_in_slices_and_a_broken_one_goes_on(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    int64_t at = 0;
    int64_t id = 0;
    uint64_t ops = 99;
    uint64_t steps = 99;
    OK(r, dr_queue_put(r->q, &r->put, next_same, &at, &id, &r->err));
    wish(r, id, DR_WISH_STOP);
    dr_wall_ms later = dr_wall_now() + 1000;
    dr_fault_arm("queue.commit.before@2=error");
    assert_int_equal(dr_queue_retain(r->q, later, false, &ops, &steps, &r->err), DR_IO);
    dr_fault_arm(NULL);
    /* The operation is gone at once, so that nobody can run half of it; its steps follow. */
    assert_int_equal(ops, 1);
    assert_int_equal(steps, 0);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM operations"), 0);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"), 12000);
    reopen_queue(r);
    OK(r, dr_queue_retain(r->q, later, false, &ops, &steps, &r->err));
    assert_int_equal(ops, 0);
    assert_int_equal(steps, 12000);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM removals"), 0);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"), 0);
    add_many(r, 1, "s1", 1);
    assert_true(put(r) > id); /* numbers are not used twice */
    assert_true(raw_int(r, "SELECT min(id) FROM steps") > 12000);
    free_rig(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_expired_archive_refuses_rollback),
        cmocka_unit_test(a_cleanup_is_on_record_before_its_step_runs_and_due_after_the_end),
        cmocka_unit_test(what_is_made_a_second_time_is_cleaned_a_second_time),
        cmocka_unit_test(the_audit_knows_who_did_what),
        cmocka_unit_test(tuning_is_stored_and_numbered),
        cmocka_unit_test(an_operation_says_why_nothing_moves),
        cmocka_unit_test(an_unchanged_reason_writes_nothing),
        cmocka_unit_test(a_reason_that_a_wish_cleared_is_told_again),
        cmocka_unit_test(the_version_changes_whoever_writes),
        cmocka_unit_test(retention_removes_old_ends_and_nothing_else),
        cmocka_unit_test(retention_goes_in_slices_and_a_broken_one_goes_on),
    };
    return cmocka_run_group_tests_name("queue_keep", tests, NULL, NULL);
}
