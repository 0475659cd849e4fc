/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the queue share: a queue in a folder of its own, plans made of a few lines,
 * and short words for leasing, finishing and looking. */
#ifndef TESTS_UNIT_QUEUE_HELP_H
#define TESTS_UNIT_QUEUE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/sql.h"
#include "queue/moves.h"
#include "queue/queue.h"

enum { PLAN_MAX = 40, LEASE_MS = 600000 };

struct rig {
    char dir[64];
    struct dr_queue *q;
    struct dr_err err;
    struct dr_put put;
    struct dr_lease_rules rules;
    /* The plan that is put next. */
    struct dr_plan_step step[PLAN_MAX];
    int steps;
    int at;
    int fail_at; /* the call of next() that fails; 0: none */
};

#define OK(r, call) check_ok(r, call, #call, __FILE__, __LINE__)

static DR_UNUSED void check_ok(struct rig *r, enum dr_code rc, const char *what, const char *file,
                               int line)
{
    if (rc != DR_OK) {
        print_error("%s: %s: %s\n", what, dr_code_name(rc), r->err.msg);
        _fail(file, line);
    }
}

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static DR_UNUSED void make_folder(char *dir, size_t bytes)
{
    /* In memory where possible: these tests make thousands of commits. */
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dir, bytes, "%s/drover-queue-XXXXXX", base);
    assert_non_null(mkdtemp(dir));
}

static DR_UNUSED void remove_folder(const char *dir)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static DR_UNUSED void open_queue(struct rig *r)
{
    OK(r, dr_queue_open(r->dir, false, &r->q, &r->err));
    OK(r, dr_queue_own(r->q, &r->err));
}

static DR_UNUSED void reopen_queue(struct rig *r)
{
    dr_queue_close(r->q);
    r->q = NULL;
    open_queue(r);
}

/* A folder without a queue in it. */
static DR_UNUSED struct rig *make_empty_rig(void)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    make_folder(r->dir, sizeof r->dir);
    r->put = (struct dr_put){.kind = "tenant.drop",
                             .target = "acme",
                             .store_url = "sqlite:/data",
                             .request_json = "{\"kind\":\"tenant.drop\"}",
                             .wish = DR_WISH_RUN,
                             .plan_hash = 42,
                             .by = "ann@host"};
    r->rules = (struct dr_lease_rules){
        .worker = "host:1:1", .lease_ms = LEASE_MS, .per_node_default = 100};
    return r;
}

static DR_UNUSED struct rig *make_rig(void)
{
    struct rig *r = make_empty_rig();
    open_queue(r);
    return r;
}

static DR_UNUSED void free_rig(struct rig *r)
{
    dr_fault_arm(NULL);
    (void)dr_mem_fail_at(0);
    dr_queue_close(r->q);
    remove_folder(r->dir);
    free(r);
}

/* --- plans ------------------------------------------------------------------------------------ */

static DR_UNUSED struct dr_plan_step *add(struct rig *r, const char *node, uint32_t stage)
{
    assert_true(r->steps < PLAN_MAX);
    struct dr_plan_step *s = &r->step[r->steps++];
    *s = (struct dr_plan_step){.number = r->steps,
                               .kind = DR_STEP_ERASE,
                               .node = node,
                               .query = "{\"range\":1}",
                               .rollback_query = "{\"do\":\"restore\"}",
                               .stage = stage,
                               .estimated = 10,
                               .title = "erase something"};
    return s;
}

static DR_UNUSED void add_many(struct rig *r, int count, const char *node, uint32_t stage)
{
    for (int i = 0; i < count; i++) {
        (void)add(r, node, stage);
    }
}

static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has_out,
                              struct dr_err *err)
{
    struct rig *r = arg;
    *has_out = r->at < r->steps;
    if (r->fail_at > 0 && r->at + 1 == r->fail_at) {
        return dr_fail(err, DR_IO, "the plan broke off");
    }
    if (*has_out) {
        *step = r->step[r->at++];
    }
    return DR_OK;
}

static DR_UNUSED enum dr_code try_put(struct rig *r, int64_t *op_out)
{
    r->at = 0;
    dr_err_clear(&r->err);
    return dr_queue_put(r->q, &r->put, next_step, r, op_out, &r->err);
}

/* Put what was added; the next plan starts anew. */
static DR_UNUSED int64_t put(struct rig *r)
{
    int64_t op = 0;
    OK(r, try_put(r, &op));
    assert_true(op > 0);
    r->steps = 0;
    return op;
}

/* --- looking ---------------------------------------------------------------------------------- */

static DR_UNUSED struct dr_op op_of(struct rig *r, int64_t op_id)
{
    struct dr_op op;
    OK(r, dr_queue_op(r->q, op_id, &op, &r->err));
    return op;
}

/* The n-th step (from 1) of an operation. */
static DR_UNUSED struct dr_step step_of(struct rig *r, int64_t op_id, int n)
{
    struct dr_step *all = calloc(PLAN_MAX, sizeof *all);
    uint32_t count = 0;
    assert_non_null(all);
    OK(r, dr_queue_steps(r->q, op_id, DR_S_COUNT, 0, all, PLAN_MAX, &count, &r->err));
    assert_true(n >= 1 && (uint32_t)n <= count);
    struct dr_step s = all[n - 1];
    free(all);
    return s;
}

static DR_UNUSED void expect_step(struct rig *r, int64_t op_id, int n, enum dr_step_status status)
{
    assert_string_equal(dr_step_status_name(step_of(r, op_id, n).status),
                        dr_step_status_name(status));
}

static DR_UNUSED void expect_op(struct rig *r, int64_t op_id, enum dr_op_status status)
{
    assert_string_equal(dr_op_status_name(op_of(r, op_id).status), dr_op_status_name(status));
}

static DR_UNUSED void expect_can_move(struct rig *r, int64_t op_id, bool expected)
{
    bool can = !expected;
    OK(r, dr_queue_can_move(r->q, op_id, &can, &r->err));
    assert_int_equal(can, expected);
}

static DR_UNUSED void expect_idle(struct rig *r, bool expected)
{
    bool is_idle = !expected;
    OK(r, dr_queue_is_idle(r->q, &is_idle, &r->err));
    assert_int_equal(is_idle, expected);
}

/* A number out of the file, past the queue's own reading. */
static DR_UNUSED int64_t raw_int(struct rig *r, const char *sql)
{
    struct dr_sql s = {0};
    char path[96];
    int64_t n = 0;
    (void)snprintf(path, sizeof path, "%s/queue.db", r->dir);
    OK(r, dr_sql_open(&s, path, DR_SQL_READONLY, 5000, &r->err));
    OK(r, dr_sql_int(&s, sql, -1, &n, &r->err));
    dr_sql_close(&s);
    return n;
}

static DR_UNUSED void raw_exec(struct rig *r, const char *sql)
{
    struct dr_sql s = {0};
    char path[96];
    (void)snprintf(path, sizeof path, "%s/queue.db", r->dir);
    OK(r, dr_sql_open(&s, path, DR_SQL_CREATE, 5000, &r->err));
    OK(r, dr_sql_exec(&s, sql, &r->err));
    dr_sql_close(&s);
}

/* The counts of the operation are those of its steps; so are the open stages. */
static DR_UNUSED void expect_counts_agree(struct rig *r)
{
    static const char counts[] =
        "SELECT count(*) FROM operations o WHERE (c0,c1,c2,c3,c4,c5,c6,c7,c8,c9) <> (SELECT"
        " count(*) FILTER (WHERE status=0), count(*) FILTER (WHERE status=1), count(*) FILTER"
        " (WHERE status=2), count(*) FILTER (WHERE status=3), count(*) FILTER (WHERE status=4),"
        " count(*) FILTER (WHERE status=5), count(*) FILTER (WHERE status=6), count(*) FILTER"
        " (WHERE status=7), count(*) FILTER (WHERE status=8), count(*) FILTER (WHERE status=9)"
        " FROM steps WHERE op_id=o.id)";
    static const char stages[] =
        "SELECT count(*) FROM stages g WHERE (open, undo_open) <> (SELECT count(*) FILTER (WHERE"
        " status IN (0,4) OR (status IN (1,2,3) AND is_undo=0)), count(*) FILTER (WHERE status IN"
        " (7,9) OR (status IN (1,2,3) AND is_undo=1)) FROM steps s WHERE s.op_id=g.op_id AND"
        " s.stage=g.stage)";
    assert_int_equal(raw_int(r, counts), 0);
    assert_int_equal(raw_int(r, stages), 0);
}

/* --- acting ----------------------------------------------------------------------------------- */

/* True with one leased step, false when nothing is runnable. */
static DR_UNUSED bool lease(struct rig *r, struct dr_lease *l)
{
    uint32_t count = 7;
    OK(r, dr_queue_lease(r->q, &r->rules, l, 1, &count, &r->err));
    assert_true(count <= 1);
    return count == 1;
}

static DR_UNUSED void expect_no_lease(struct rig *r)
{
    struct dr_lease l = {0};
    assert_false(lease(r, &l));
}

/* Lease, and insist that it is the n-th step of the operation. */
static DR_UNUSED void lease_step(struct rig *r, int64_t op_id, int n, struct dr_lease *l)
{
    assert_true(lease(r, l));
    assert_int_equal(l->op_id, op_id);
    assert_int_equal(l->step_id, step_of(r, op_id, n).id);
}

static DR_UNUSED void finish(struct rig *r, struct dr_lease *l, enum dr_outcome outcome)
{
    struct dr_finish f = {.outcome = outcome, .duration_ms = 5};
    f.error = outcome == DR_OUT_DONE || outcome == DR_OUT_RELEASE ? NULL : "it broke";
    OK(r, dr_queue_finish(r->q, l, &f, true, &r->err));
    dr_lease_fini(l);
}

static DR_UNUSED void run_step(struct rig *r, int64_t op_id, int n, enum dr_outcome outcome)
{
    struct dr_lease l;
    lease_step(r, op_id, n, &l);
    finish(r, &l, outcome);
}

/* Lease and finish well until nothing is left; gives how many. */
static DR_UNUSED int run_all(struct rig *r)
{
    struct dr_lease l;
    int count = 0;
    while (lease(r, &l)) {
        finish(r, &l, DR_OUT_DONE);
        assert_true(++count < 10000);
    }
    return count;
}

static DR_UNUSED void wish(struct rig *r, int64_t op_id, enum dr_wish w)
{
    OK(r, dr_queue_wish(r->q, op_id, w, "bob@host", "because", &r->err));
}

static DR_UNUSED void refuse_wish(struct rig *r, int64_t op_id, enum dr_wish w, const char *part)
{
    struct dr_op before = op_of(r, op_id);
    assert_int_equal(dr_queue_wish(r->q, op_id, w, "bob@host", "because", &r->err), DR_REFUSED);
    assert_has(r->err.msg, part);
    struct dr_op after = op_of(r, op_id);
    assert_memory_equal(&before, &after, sizeof before);
}

/* Make the leases and retries of all steps due now, as if their time had passed. */
static DR_UNUSED uint64_t sweep_late(struct rig *r)
{
    uint64_t moved = 0;
    raw_exec(r, "UPDATE steps SET next_attempt_at=1 WHERE status IN (1,2,3)");
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    return moved;
}

#endif
