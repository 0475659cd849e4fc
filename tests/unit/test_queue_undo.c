/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/ about wishes, rollback and quarantine. */
#include "unit/queue_help.h"

/* --- every wish in every state ---------------------------------------------------------------- */

struct scene {
    struct rig *r;
    int64_t op;
    struct dr_lease held;
};

static void make_planned(struct scene *s)
{
    s->r->put.wish = DR_WISH_HOLD;
    add_many(s->r, 2, "s1", 1);
    s->op = put(s->r);
}

static void make_queued(struct scene *s)
{
    add_many(s->r, 2, "s1", 1);
    s->op = put(s->r);
}

static void make_running(struct scene *s)
{
    make_queued(s);
    lease_step(s->r, s->op, 1, &s->held);
}

static void make_pausing(struct scene *s)
{
    make_running(s);
    wish(s->r, s->op, DR_WISH_PAUSE);
}

static void make_paused(struct scene *s)
{
    make_queued(s);
    run_step(s->r, s->op, 1, DR_OUT_DONE);
    wish(s->r, s->op, DR_WISH_PAUSE);
}

static void make_stopping(struct scene *s)
{
    make_running(s);
    wish(s->r, s->op, DR_WISH_STOP);
}

static void make_stopped(struct scene *s)
{
    make_queued(s);
    run_step(s->r, s->op, 1, DR_OUT_DONE);
    wish(s->r, s->op, DR_WISH_STOP);
}

static void make_blocked(struct scene *s)
{
    make_queued(s);
    run_step(s->r, s->op, 1, DR_OUT_QUARANTINE);
    run_step(s->r, s->op, 2, DR_OUT_DONE);
}

static void make_done(struct scene *s)
{
    make_queued(s);
    assert_int_equal(run_all(s->r), 2);
}

static void make_rolling_back(struct scene *s)
{
    make_done(s);
    wish(s->r, s->op, DR_WISH_ROLLBACK);
}

static void make_undo_paused(struct scene *s)
{
    make_rolling_back(s);
    wish(s->r, s->op, DR_WISH_PAUSE);
}

static void make_rolled_back(struct scene *s)
{
    make_rolling_back(s);
    assert_int_equal(run_all(s->r), 2);
}

static void make_undo_blocked(struct scene *s)
{
    make_rolling_back(s);
    run_step(s->r, s->op, 2, DR_OUT_QUARANTINE);
    run_step(s->r, s->op, 1, DR_OUT_DONE);
}

/* What each wish leads to: a status, or "!" and a part of the refusal. */
static const struct row {
    void (*make)(struct scene *s);
    const char *status, *run, *pause, *stop, *rollback;
    bool can_move;
} rows[] = {
    {make_planned, "planned", "queued", "!only planned", "stopped", "rolled back", false},
    {make_queued, "queued", "queued", "paused", "stopped", "rolled back", true},
    {make_running, "running", "running", "pausing", "stopping", "rolling back", true},
    {make_pausing, "pausing", "running", "pausing", "stopping", "rolling back", true},
    {make_paused, "paused", "queued", "paused", "stopped", "rolling back", false},
    {make_stopping, "stopping", "running", "!is stopping", "stopping", "rolling back", true},
    {make_stopped, "stopped", "queued", "!has ended", "stopped", "rolling back", false},
    {make_blocked, "blocked", "blocked", "paused", "stopped", "rolling back", false},
    {make_done, "done", "!nothing to run", "!has ended", "!has ended", "rolling back", false},
    {make_rolling_back, "rolling back", "!cannot run forward again", "paused", "!pause it instead",
     "rolling back", true},
    {make_undo_paused, "paused", "rolling back", "paused", "!pause it instead", "rolling back",
     false},
    {make_rolled_back, "rolled back", "!submit its job anew", "!has ended", "!has ended",
     "!rolled back already", false},
    {make_undo_blocked, "rollback blocked", "!quarantine retry", "paused", "!pause it instead",
     "rollback blocked", false},
};

static void check_one_wish(const struct row *row, enum dr_wish w, const char *expected)
{
    struct scene s = {.r = make_rig()};
    row->make(&s);
    const char *name = dr_op_status_name(op_of(s.r, s.op).status);
    assert_string_equal(name, row->status);
    expect_can_move(s.r, s.op, row->can_move);
    expect_idle(s.r, !row->can_move);
    if (expected[0] == '!') {
        refuse_wish(s.r, s.op, w, expected + 1);
    } else {
        wish(s.r, s.op, w);
        struct dr_op op = op_of(s.r, s.op);
        if (strcmp(dr_op_status_name(op.status), expected) != 0) {
            print_error("%s + %s:\n", row->status, dr_wish_name(w));
        }
        assert_string_equal(dr_op_status_name(op.status), expected);
        assert_int_equal(op.ended_at > 0, dr_op_status_is_final(op.status));
        assert_string_equal(op.wish_by, "bob@host");
        assert_string_equal(op.wish_reason, "because");
    }
    expect_counts_agree(s.r);
    dr_lease_fini(&s.held);
    free_rig(s.r);
}

static void every_wish_in_every_state_moves_or_says_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_one_wish(&rows[i], DR_WISH_RUN, rows[i].run);
        check_one_wish(&rows[i], DR_WISH_PAUSE, rows[i].pause);
        check_one_wish(&rows[i], DR_WISH_STOP, rows[i].stop);
        check_one_wish(&rows[i], DR_WISH_ROLLBACK, rows[i].rollback);
    }
    struct rig *r = make_rig();
    assert_int_equal(dr_queue_wish(r->q, 5, DR_WISH_RUN, "bob", "", &r->err), DR_NOT_FOUND);
    assert_has(r->err.msg, "no operation 5");
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    assert_int_equal(dr_queue_wish(r->q, id, DR_WISH_HOLD, "bob", "", &r->err), DR_INTERNAL);
    assert_int_equal(op_of(r, id).wish, DR_WISH_RUN);
    assert_int_equal(run_all(r), 1);
    bool can = true;
    OK(r, dr_queue_can_move(r->q, 5, &can, &r->err));
    assert_false(can);
    expect_idle(r, true);
    free_rig(r);
}

/* --- pause and stop --------------------------------------------------------------------------- */

static void a_paused_operation_leases_nothing_until_it_runs_again(void **state)
{
    (void)state;
    struct scene s = {.r = make_rig()};
    make_pausing(&s);
    expect_no_lease(s.r);
    OK(s.r, dr_queue_save(s.r->q, &s.held, LEASE_MS, true, &s.r->err)); /* what is held goes on */
    finish(s.r, &s.held, DR_OUT_RELEASE);
    expect_op(s.r, s.op, DR_O_PAUSED);
    expect_no_lease(s.r);
    wish(s.r, s.op, DR_WISH_RUN);
    assert_int_equal(run_all(s.r), 2);
    expect_op(s.r, s.op, DR_O_DONE);
    free_rig(s.r);
}

static void the_last_step_done_while_pausing_ends_the_operation(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    wish(r, id, DR_WISH_PAUSE);
    finish(r, &l, DR_OUT_DONE);
    expect_op(r, id, DR_O_DONE);
    assert_true(op_of(r, id).ended_at > 0);
    free_rig(r);
}

static void a_step_held_while_stopping_ends_as_its_outcome_says(void **state)
{
    (void)state;
    static const enum dr_step_status after[] = {
        [DR_OUT_DONE] = DR_S_PROCESSED,    [DR_OUT_RELEASE] = DR_S_CANCELLED,
        [DR_OUT_RETRY] = DR_S_CANCELLED,   [DR_OUT_UNKNOWN] = DR_S_CANCELLED,
        [DR_OUT_QUARANTINE] = DR_S_FAILED,
    };
    for (int o = DR_OUT_DONE; o <= DR_OUT_QUARANTINE; o++) {
        struct scene s = {.r = make_rig()};
        struct dr_lease l;
        make_stopping(&s);
        expect_step(s.r, s.op, 2, DR_S_CANCELLED);
        expect_op(s.r, s.op, DR_O_STOPPING);
        assert_int_equal(op_of(s.r, s.op).ended_at, 0);
        finish(s.r, &s.held, (enum dr_outcome)o);
        expect_step(s.r, s.op, 1, after[o]);
        expect_op(s.r, s.op, DR_O_STOPPED);
        assert_true(op_of(s.r, s.op).ended_at > 0);
        expect_no_lease(s.r);
        expect_counts_agree(s.r);
        wish(s.r, s.op, DR_WISH_RUN);
        assert_int_equal(op_of(s.r, s.op).ended_at, 0);
        if (after[o] == DR_S_CANCELLED) {
            lease_step(s.r, s.op, 1, &l);
            assert_int_equal(l.needs_probe, o == DR_OUT_UNKNOWN);
            finish(s.r, &l, DR_OUT_DONE);
        }
        run_step(s.r, s.op, 2, DR_OUT_DONE);
        expect_op(s.r, s.op, after[o] == DR_S_FAILED ? DR_O_BLOCKED : DR_O_DONE);
        free_rig(s.r);
    }
}

static void a_lease_lost_while_stopping_is_cancelled_and_probed_when_run_again(void **state)
{
    (void)state;
    struct scene s = {.r = make_rig()};
    make_stopping(&s);
    dr_lease_fini(&s.held);
    assert_int_equal(sweep_late(s.r), 1);
    expect_step(s.r, s.op, 1, DR_S_CANCELLED);
    expect_op(s.r, s.op, DR_O_STOPPED);
    wish(s.r, s.op, DR_WISH_RUN);
    lease_step(s.r, s.op, 1, &s.held);
    assert_true(s.held.needs_probe);
    finish(s.r, &s.held, DR_OUT_DONE);
    free_rig(s.r);
    s = (struct scene){.r = make_rig()};
    make_stopping(&s);
    dr_lease_fini(&s.held);
    reopen_queue(s.r); /* the same when the whole process is gone */
    expect_step(s.r, s.op, 1, DR_S_CANCELLED);
    expect_op(s.r, s.op, DR_O_STOPPED);
    free_rig(s.r);
}

/* --- rollback --------------------------------------------------------------------------------- */

static void undo_goes_backwards_by_stage_and_id(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease a;
    struct dr_lease b;
    add_many(r, 3, "s1", 1);
    add_many(r, 1, "s2", 1);
    add_many(r, 2, "s1", 4);
    int64_t id = put(r);
    assert_int_equal(run_all(r), 6);
    wish(r, id, DR_WISH_ROLLBACK);
    assert_int_equal(op_of(r, id).ended_at, 0);
    assert_has(step_of(r, id, 1).waits_because, "waits for stage 4");
    lease_step(r, id, 6, &a);
    assert_true(a.is_undo);
    assert_false(a.needs_probe);
    lease_step(r, id, 5, &b);
    expect_no_lease(r);
    finish(r, &a, DR_OUT_DONE);
    expect_no_lease(r); /* the stage is not undone yet */
    finish(r, &b, DR_OUT_DONE);
    lease_step(r, id, 3, &a);
    lease_step(r, id, 2, &b);
    finish(r, &b, DR_OUT_DONE);
    finish(r, &a, DR_OUT_DONE);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 4, DR_OUT_DONE); /* lanes go by name */
    expect_op(r, id, DR_O_ROLLED_BACK);
    assert_true(op_of(r, id).ended_at > 0);
    expect_counts_agree(r);
    free_rig(r);
}

static void undo_waits_for_the_step_it_names(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 3, "s1", 1);
    r->step[2].rollback_wait_for = 1;
    int64_t id = put(r);
    assert_int_equal(run_all(r), 3);
    wish(r, id, DR_WISH_ROLLBACK);
    assert_has(step_of(r, id, 3).waits_because, "which is undoing");
    run_step(r, id, 2, DR_OUT_DONE);
    run_step(r, id, 1, DR_OUT_RETRY);
    expect_no_lease(r); /* not while it waits for its time either */
    assert_int_equal(sweep_late(r), 1);
    lease_step(r, id, 1, &l);
    expect_no_lease(r);
    finish(r, &l, DR_OUT_QUARANTINE);
    expect_no_lease(r);
    expect_op(r, id, DR_O_ROLLBACK_BLOCKED);
    assert_has(step_of(r, id, 3).waits_because, "which is quarantined");
    uint64_t count = 0;
    OK(r, dr_queue_redrive(r->q, id, 0, "bob@host", &count, &r->err));
    assert_int_equal(count, 1);
    expect_can_move(r, id, true);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 3, DR_OUT_DONE);
    expect_op(r, id, DR_O_ROLLED_BACK);
    free_rig(r);
}

static void nothing_is_undone_beneath_a_step_that_still_runs_forward(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 1, "s1", 1);
    add_many(r, 1, "s1", 5);
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    lease_step(r, id, 2, &l);
    wish(r, id, DR_WISH_ROLLBACK);
    expect_step(r, id, 1, DR_S_UNDOING);
    expect_no_lease(r);
    expect_can_move(r, id, true);
    finish(r, &l, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_DONE);
    run_step(r, id, 1, DR_OUT_DONE);
    expect_op(r, id, DR_O_ROLLED_BACK);
    add_many(r, 2, "s1", 1);
    r->step[0].rollback_wait_for = 2;
    id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    lease_step(r, id, 2, &l);
    wish(r, id, DR_WISH_ROLLBACK);
    expect_no_lease(r);
    finish(r, &l, DR_OUT_RELEASE);
    assert_int_equal(run_all(r), 2);
    expect_op(r, id, DR_O_ROLLED_BACK);
    free_rig(r);
}

static void only_what_was_touched_is_undone(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 6, "s1", 1);
    r->step[5].wait_for = 5;
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    run_step(r, id, 2, DR_OUT_RETRY);
    run_step(r, id, 3, DR_OUT_UNKNOWN);
    raw_exec(r, "UPDATE steps SET next_attempt_at=9000000000000 WHERE status=3");
    run_step(r, id, 4, DR_OUT_QUARANTINE);
    run_step(r, id, 5, DR_OUT_RELEASE); /* a worker held it: it may have done something */
    assert_has(step_of(r, id, 6).waits_because, "which is created");
    wish(r, id, DR_WISH_ROLLBACK);
    for (int i = 1; i <= 5; i++) {
        expect_step(r, id, i, DR_S_UNDOING);
        assert_int_equal(step_of(r, id, i).tries, 0);
    }
    expect_step(r, id, 6, DR_S_CANCELLED);
    assert_int_equal(run_all(r), 5);
    expect_step(r, id, 6, DR_S_CANCELLED);
    expect_op(r, id, DR_O_ROLLED_BACK);
    expect_counts_agree(r);
    free_rig(r);
}

static void a_stopped_operation_rolls_back_what_it_did(void **state)
{
    (void)state;
    struct scene s = {.r = make_rig()};
    make_stopping(&s);
    finish(s.r, &s.held, DR_OUT_RELEASE); /* cancelled, but touched */
    wish(s.r, s.op, DR_WISH_ROLLBACK);
    expect_step(s.r, s.op, 1, DR_S_UNDOING);
    expect_step(s.r, s.op, 2, DR_S_CANCELLED);
    run_step(s.r, s.op, 1, DR_OUT_DONE);
    expect_op(s.r, s.op, DR_O_ROLLED_BACK);
    free_rig(s.r);
}

static void a_step_held_when_rollback_is_wished_is_undone_whatever_its_outcome(void **state)
{
    (void)state;
    for (int o = DR_OUT_DONE; o <= DR_OUT_QUARANTINE + 2; o++) {
        struct scene s = {.r = make_rig()};
        struct dr_lease l;
        make_queued(&s);
        lease_step(s.r, s.op, 1, &s.held);
        finish(s.r, &s.held, DR_OUT_UNKNOWN); /* a try, and something to probe */
        lease_step(s.r, s.op, 1, &s.held);
        wish(s.r, s.op, DR_WISH_ROLLBACK);
        expect_step(s.r, s.op, 1, DR_S_LEASED);
        expect_step(s.r, s.op, 2, DR_S_CANCELLED);
        expect_op(s.r, s.op, DR_O_ROLLING_BACK);
        s.held.mark.done = 3;
        if (o <= DR_OUT_QUARANTINE) {
            finish(s.r, &s.held, (enum dr_outcome)o);
        } else { /* its time runs out; its process dies */
            OK(s.r, dr_queue_save(s.r->q, &s.held, LEASE_MS, true, &s.r->err));
            dr_lease_fini(&s.held);
            if (o == DR_OUT_QUARANTINE + 1) {
                assert_int_equal(sweep_late(s.r), 1);
            } else {
                reopen_queue(s.r);
            }
        }
        expect_step(s.r, s.op, 1, DR_S_UNDOING);
        expect_counts_agree(s.r);
        lease_step(s.r, s.op, 1, &l);
        assert_true(l.is_undo);
        assert_false(l.needs_probe);
        assert_int_equal(l.tries, 0);
        assert_int_equal(l.mark.done, 3);
        finish(s.r, &l, DR_OUT_DONE);
        expect_op(s.r, s.op, DR_O_ROLLED_BACK);
        free_rig(s.r);
    }
}

static void a_rollback_paused_with_a_step_still_running_forward_forgets_nothing(void **state)
{
    (void)state;
    for (int o = DR_OUT_DONE; o <= DR_OUT_QUARANTINE + 2; o++) {
        struct scene s = {.r = make_rig()};
        struct dr_lease l;
        make_queued(&s);
        run_step(s.r, s.op, 1, DR_OUT_DONE);
        lease_step(s.r, s.op, 2, &s.held);
        wish(s.r, s.op, DR_WISH_ROLLBACK);
        lease_step(s.r, s.op, 1, &l);
        finish(s.r, &l, DR_OUT_DONE);
        wish(s.r, s.op, DR_WISH_PAUSE);
        if (o <= DR_OUT_QUARANTINE) {
            finish(s.r, &s.held, (enum dr_outcome)o);
        } else {
            dr_lease_fini(&s.held);
            if (o == DR_OUT_QUARANTINE + 1) {
                assert_int_equal(sweep_late(s.r), 1);
            } else {
                reopen_queue(s.r);
            }
        }
        expect_op(s.r, s.op, DR_O_PAUSED);
        assert_int_equal(op_of(s.r, s.op).ended_at, 0);
        wish(s.r, s.op, DR_WISH_RUN);
        expect_op(s.r, s.op, DR_O_ROLLING_BACK);
        run_step(s.r, s.op, 2, DR_OUT_DONE);
        expect_op(s.r, s.op, DR_O_ROLLED_BACK);
        expect_counts_agree(s.r);
        free_rig(s.r);
    }
}

static void undo_keeps_its_progress_and_sums_are_exact(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    for (int i = 1; i <= 2; i++) {
        lease_step(r, id, i, &l);
        l.mark.done = 10;
        finish(r, &l, DR_OUT_DONE);
    }
    wish(r, id, DR_WISH_ROLLBACK);
    lease_step(r, id, 2, &l);
    l.mark.undone = 4;
    l.mark.conflicts = 1;
    l.mark.undo_position = 3;
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, true, &r->err));
    finish(r, &l, DR_OUT_RELEASE);
    expect_step(r, id, 2, DR_S_UNDOING);
    lease_step(r, id, 2, &l);
    assert_int_equal(l.mark.undone, 4);
    assert_int_equal(l.mark.conflicts, 1);
    assert_int_equal(l.mark.undo_position, 3);
    finish(r, &l, DR_OUT_RETRY);
    run_step(r, id, 1, DR_OUT_UNKNOWN);
    assert_int_equal(sweep_late(r), 1);
    lease_step(r, id, 1, &l); /* unknown goes first */
    assert_true(l.is_undo && l.needs_probe);
    l.mark.undone = 10;
    finish(r, &l, DR_OUT_DONE);
    lease_step(r, id, 2, &l);
    assert_int_equal(l.tries, 1);
    l.mark.undone = 8;
    l.mark.conflicts = 2;
    finish(r, &l, DR_OUT_DONE);
    struct dr_op op = op_of(r, id);
    assert_int_equal(op.status, DR_O_ROLLED_BACK);
    assert_int_equal(op.items_done, 20);
    assert_int_equal(op.items_undone, 18);
    assert_int_equal(op.items_conflict, 2);
    assert_int_equal(step_of(r, id, 2).undone, 8);
    free_rig(r);
}

static void an_undo_cut_off_by_a_crash_goes_on_as_undo(void **state)
{
    (void)state;
    struct scene s = {.r = make_rig()};
    make_rolling_back(&s);
    lease_step(s.r, s.op, 2, &s.held);
    dr_lease_fini(&s.held);
    reopen_queue(s.r);
    expect_step(s.r, s.op, 2, DR_S_UNKNOWN);
    lease_step(s.r, s.op, 2, &s.held);
    assert_true(s.held.is_undo && s.held.needs_probe);
    finish(s.r, &s.held, DR_OUT_DONE);
    run_step(s.r, s.op, 1, DR_OUT_DONE);
    expect_op(s.r, s.op, DR_O_ROLLED_BACK);
    free_rig(s.r);
}

/* --- quarantine ------------------------------------------------------------------------------- */

static void a_quarantined_step_blocks_what_needs_it_and_says_so(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    uint64_t count = 9;
    add_many(r, 4, "s1", 1);
    r->step[1].wait_for = 1;
    add(r, "s1", 4);
    int64_t id = put(r);
    run_step(r, id, 1, DR_OUT_QUARANTINE);
    assert_string_equal(step_of(r, id, 1).last_error, "it broke");
    expect_op(r, id, DR_O_RUNNING); /* the others go on */
    run_step(r, id, 3, DR_OUT_DONE);
    run_step(r, id, 4, DR_OUT_UNKNOWN);
    run_step(r, id, 4, DR_OUT_QUARANTINE);
    assert_int_equal(step_of(r, id, 4).tries, 1);
    expect_no_lease(r);
    expect_op(r, id, DR_O_BLOCKED);
    expect_can_move(r, id, false);
    expect_idle(r, true);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "waits for step %d, which is quarantined",
                   (int)step_of(r, id, 1).id);
    assert_string_equal(step_of(r, id, 2).waits_because, expected);
    assert_string_equal(step_of(r, id, 5).waits_because,
                        "waits for stage 1, in which steps are quarantined");
    OK(r, dr_queue_redrive(r->q, id, step_of(r, id, 3).id, "bob@host", &count, &r->err));
    assert_int_equal(count, 0); /* that one is well */
    OK(r, dr_queue_redrive(r->q, id, step_of(r, id, 4).id, "bob@host", &count, &r->err));
    assert_int_equal(count, 1);
    assert_int_equal(step_of(r, id, 4).tries, 0); /* a person has looked: it starts anew */
    run_step(r, id, 4, DR_OUT_DONE);
    OK(r, dr_queue_redrive(r->q, id, 0, "bob@host", &count, &r->err));
    assert_int_equal(count, 1);
    assert_int_equal(run_all(r), 3);
    expect_op(r, id, DR_O_DONE);
    assert_int_equal(dr_queue_redrive(r->q, 99, 0, "bob@host", &count, &r->err), DR_NOT_FOUND);
    expect_counts_agree(r);
    free_rig(r);
}

static void redriving_a_stopped_operation_does_not_make_it_done(void **state)
{
    (void)state;
    struct scene s = {.r = make_rig()};
    uint64_t count = 0;
    make_blocked(&s);
    wish(s.r, s.op, DR_WISH_STOP);
    OK(s.r, dr_queue_redrive(s.r->q, s.op, 0, "bob@host", &count, &s.r->err));
    assert_int_equal(count, 1);
    expect_op(s.r, s.op, DR_O_STOPPED);
    expect_no_lease(s.r);
    expect_counts_agree(s.r);
    wish(s.r, s.op, DR_WISH_RUN);
    run_step(s.r, s.op, 1, DR_OUT_DONE);
    expect_op(s.r, s.op, DR_O_DONE);
    free_rig(s.r);
}

/* A table is renamed, held, dropped: until the drop begins the rename can be undone. */
static void an_irreversible_plan_can_be_undone_until_a_step_without_undo_begins(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    r->put.is_irreversible = true;
    add(r, "s1", 1)->rollback_query = "ALTER TABLE held RENAME TO t";
    add(r, "s1", 2)->rollback_query = NULL;
    int64_t id = put(r);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "irreversible"); /* nothing was done */
    run_step(r, id, 1, DR_OUT_DONE);
    wish(r, id, DR_WISH_ROLLBACK);
    assert_int_equal(run_all(r), 1);
    assert_string_equal(dr_op_status_name(op_of(r, id).status), "rolled back");
    free_rig(r);

    r = make_rig();
    r->put.is_irreversible = true;
    add(r, "s1", 1)->rollback_query = "ALTER TABLE held RENAME TO t";
    add(r, "s1", 2)->rollback_query = NULL;
    id = put(r);
    run_step(r, id, 1, DR_OUT_DONE);
    struct dr_lease l;
    lease_step(r, id, 2, &l);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "irreversible"); /* it may be done by now */
    finish(r, &l, DR_OUT_DONE);
    refuse_wish(r, id, DR_WISH_ROLLBACK, "irreversible");
    free_rig(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_irreversible_plan_can_be_undone_until_a_step_without_undo_begins),
        cmocka_unit_test(every_wish_in_every_state_moves_or_says_why_not),
        cmocka_unit_test(a_paused_operation_leases_nothing_until_it_runs_again),
        cmocka_unit_test(the_last_step_done_while_pausing_ends_the_operation),
        cmocka_unit_test(a_step_held_while_stopping_ends_as_its_outcome_says),
        cmocka_unit_test(a_lease_lost_while_stopping_is_cancelled_and_probed_when_run_again),
        cmocka_unit_test(undo_goes_backwards_by_stage_and_id),
        cmocka_unit_test(undo_waits_for_the_step_it_names),
        cmocka_unit_test(nothing_is_undone_beneath_a_step_that_still_runs_forward),
        cmocka_unit_test(only_what_was_touched_is_undone),
        cmocka_unit_test(a_stopped_operation_rolls_back_what_it_did),
        cmocka_unit_test(a_step_held_when_rollback_is_wished_is_undone_whatever_its_outcome),
        cmocka_unit_test(a_rollback_paused_with_a_step_still_running_forward_forgets_nothing),
        cmocka_unit_test(undo_keeps_its_progress_and_sums_are_exact),
        cmocka_unit_test(an_undo_cut_off_by_a_crash_goes_on_as_undo),
        cmocka_unit_test(a_quarantined_step_blocks_what_needs_it_and_says_so),
        cmocka_unit_test(redriving_a_stopped_operation_does_not_make_it_done),
    };
    return cmocka_run_group_tests_name("queue_undo", tests, NULL, NULL);
}
