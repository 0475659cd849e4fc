/* SPDX-License-Identifier: Apache-2.0 */
/* A bed for the tests of step/ and worker/: a sharded database "acme" in the memory store behind a
 * fault store, a temporary data folder with its queue, plans put into it, and hands to do steps. */
#ifndef TESTS_WORKER_HELP_H
#define TESTS_WORKER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive/archive.h"
#include "base/backoff.h"
#include "base/fault.h"
#include "base/str.h"
#include "plan/plan.h"
#include "step/step.h"
#include "store/fault/fault_store.h"
#include "store/memory/memory_store.h"
#include "worker/worker.h"

#define ORDERS "acme.orders"

enum { LEASE_LONG_MS = 60000, OPS_MAX = 4 };

struct bed {
    char dir[64];
    char name[32];
    char url[512];  /* fault:RULES|memory:NAME */
    char plain[64]; /* memory:NAME, for surveys that shall not count as calls */
    int nodes, chunks, rows;
    uint64_t sum; /* checksum of acme.orders as it was laid out */
    struct dr_queue *q;
    struct dr_err err;
};

/* Calls that must work in a test: the message is what one wants to see when they do not. */
#define MUST(bed, call)                                                                            \
    do {                                                                                           \
        if ((call) != DR_OK) {                                                                     \
            print_error("%s: %s\n", #call, (bed)->err.msg);                                        \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

/* --- the database --------------------------------------------------------------------------------
 */

static DR_UNUSED struct dr_bound bound_of(int64_t customer)
{
    return (struct dr_bound){.parts = 1, .part = {{.type = DR_V_INT, .i = customer}}};
}

static DR_UNUSED struct dr_bound bound_at(const struct bed *b, int chunk)
{
    if (chunk == 0) {
        return (struct dr_bound){.parts = 1, .part = {{.type = DR_V_MIN}}};
    }
    if (chunk == b->chunks) {
        return (struct dr_bound){.parts = 1, .part = {{.type = DR_V_MAX}}};
    }
    return bound_of((int64_t)b->rows * chunk / b->chunks);
}

static DR_UNUSED int node_of_chunk(const struct bed *b, int chunk)
{
    return chunk % b->nodes + 1;
}

/* Row `id` belongs to customer `id`; `note` is what its text says. */
static DR_UNUSED void put_row_of(const struct bed *b, int64_t id, int64_t customer,
                                 const char *note)
{
    char node[16];
    const struct dr_memory_field field[] = {
        {"customer", {.type = DR_V_INT, .i = customer}},
        {"note", {.type = DR_V_TEXT, .data = note, .len = strlen(note)}},
        {"status", {.type = DR_V_TEXT, .data = id % 2 == 0 ? "dead" : "live", .len = 4}}};
    int chunk = b->chunks - 1;
    while (chunk > 0 && customer < (int64_t)b->rows * chunk / b->chunks) {
        chunk--;
    }
    (void)snprintf(node, sizeof node, "s%d", node_of_chunk(b, chunk));
    assert_int_equal(dr_memory_put(b->name, ORDERS, node, id, field, 3), DR_OK);
}

static DR_UNUSED void put_row(const struct bed *b, int64_t id, const char *note)
{
    put_row_of(b, id, id, note);
}

static DR_UNUSED uint64_t rows_now(const struct bed *b)
{
    return dr_memory_count(b->name, ORDERS, NULL);
}

static DR_UNUSED void lay_out(struct bed *b)
{
    static const char *const key[] = {"customer"};
    char text[64];
    assert_int_equal(dr_memory_reset(b->name), DR_OK);
    for (int i = 1; i <= b->nodes; i++) {
        (void)snprintf(text, sizeof text, "s%d", i);
        assert_int_equal(dr_memory_add_node(b->name, text), DR_OK);
    }
    assert_int_equal(dr_memory_add_collection(b->name, ORDERS, DR_SHARDED_RANGE, key, 1, "s1"),
                     DR_OK);
    for (int i = 0; i < b->chunks; i++) {
        struct dr_bound from = bound_at(b, i);
        struct dr_bound upto = bound_at(b, i + 1);
        (void)snprintf(text, sizeof text, "s%d", node_of_chunk(b, i));
        assert_int_equal(dr_memory_add_chunk(b->name, ORDERS, text, &from, &upto), DR_OK);
    }
    for (int i = 0; i < b->rows; i++) {
        (void)snprintf(text, sizeof text, "order %d \xc3\xbc", i);
        put_row(b, i, text);
    }
    b->sum = dr_memory_checksum(b->name, ORDERS);
}

static DR_UNUSED void open_queue(struct bed *b)
{
    MUST(b, dr_queue_open(b->dir, false, &b->q, &b->err));
    MUST(b, dr_queue_own(b->q, &b->err));
}

static DR_UNUSED void make_bed(struct bed *b, const char *rules, int nodes, int chunks, int rows)
{
    static int number;
    *b = (struct bed){.nodes = nodes, .chunks = chunks, .rows = rows};
    (void)snprintf(b->dir, sizeof b->dir, "/tmp/drover-worker-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    (void)snprintf(b->name, sizeof b->name, "bed%d", ++number);
    (void)snprintf(b->plain, sizeof b->plain, "memory:%s", b->name);
    (void)snprintf(b->url, sizeof b->url, "fault:%s|%s", rules, b->plain);
    lay_out(b);
    open_queue(b);
}

static DR_UNUSED void free_bed(struct bed *b)
{
    char command[128];
    dr_queue_close(b->q);
    dr_memory_remove(b->name);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", b->dir);
    assert_int_equal(system(command), 0);
}

/* --- plans ---------------------------------------------------------------------------------------
 */

/* A plan's steps, after those that make temporary indexes when the test wants some. */
struct steps {
    struct dr_plan_iter *it;
    int indexes;
    int64_t shift;
    char query[96], drop[96];
};

static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has, struct dr_err *err)
{
    struct steps *s = arg;
    if (s->shift < s->indexes) {
        s->shift++;
        *has = true;
        (void)snprintf(s->query, sizeof s->query, "create index drover_%d on acme.orders (note)",
                       (int)s->shift);
        (void)snprintf(s->drop, sizeof s->drop, "drop index if exists drover_%d", (int)s->shift);
        *step = (struct dr_plan_step){.number = s->shift,
                                      .kind = DR_STEP_COMMAND,
                                      .node = "s1",
                                      .query = s->query,
                                      .rollback_query = s->drop,
                                      .cleanup = s->drop,
                                      .title = "make a temporary index"};
        return DR_OK;
    }
    enum dr_code rc = dr_plan_next(s->it, step, has, err);
    step->number += s->shift;
    step->wait_for += step->wait_for > 0 ? s->shift : 0;
    return rc;
}

struct job {
    const char *more; /* JSON members beside kind, store, database: ", \"max_items\": 5" */
    const char *kind; /* NULL: tenant.drop */
    int32_t priority;
    enum dr_wish wish;
    uint32_t give_up_s; /* with is_atomic: as dr_put has them */
    bool is_atomic;
    int indexes; /* first steps that make the indexes drover_1, drover_2 ..., each with a cleanup */
};

static DR_UNUSED int64_t put_plan(struct bed *b, const struct dr_request *r, const struct job *job,
                                  const char *text)
{
    struct dr_store *store = NULL;
    struct dr_survey *survey = NULL;
    struct dr_plan *plan = NULL;
    struct steps steps = {.indexes = job->indexes};
    int64_t op = 0;
    MUST(b, dr_store_open(b->plain, &store, &b->err));
    MUST(b, dr_store_survey(store, "acme", dr_request_filter(r), &survey, &b->err));
    MUST(b, dr_plan_make(r, survey, dr_store_can(store), &plan, &b->err));
    MUST(b, dr_plan_begin(plan, &steps.it, &b->err));
    json_t *tuning = dr_tuning_to_json(&r->tuning);
    char *tuning_text = dr_json_text(tuning);
    struct dr_put put = {.kind = r->kind_name,
                         .target = dr_request_target(r),
                         .store_url = r->store_url,
                         .request_json = text,
                         .tuning_json = tuning_text,
                         .priority = job->priority,
                         .wish = job->wish,
                         .is_irreversible = dr_plan_is_irreversible(plan),
                         .plan_hash = dr_plan_hash(plan),
                         .archive_days = r->archive_days,
                         .is_atomic = job->is_atomic,
                         .give_up_s = job->give_up_s,
                         .by = "tester@here"};
    MUST(b, dr_queue_put(b->q, &put, next_step, &steps, &op, &b->err));
    dr_plan_end(steps.it);
    dr_plan_destroy(plan);
    dr_survey_destroy(survey);
    dr_store_close(store);
    json_decref(tuning);
    dr_free(tuning_text);
    return op;
}

static DR_UNUSED int64_t put_job(struct bed *b, const struct job *job)
{
    char text[2048];
    json_t *j = NULL;
    struct dr_request *r = NULL;
    (void)snprintf(
        text, sizeof text, "{\"kind\": \"%s\", \"store\": \"%s\", \"database\": \"acme\"%s}",
        job->kind == NULL ? "tenant.drop" : job->kind, b->url, job->more == NULL ? "" : job->more);
    MUST(b, dr_json_parse("job", text, strlen(text), &j, &b->err));
    MUST(b, dr_request_parse(j, "job", &r, &b->err));
    int64_t op = put_plan(b, r, job, text);
    dr_request_destroy(r);
    json_decref(j);
    return op;
}

/* Drop the tenant, approved. */
static DR_UNUSED int64_t put_drop(struct bed *b, const char *more)
{
    return put_job(b, &(struct job){.more = more, .wish = DR_WISH_RUN});
}

static DR_UNUSED struct dr_op op_now(struct bed *b, int64_t op)
{
    struct dr_op out;
    MUST(b, dr_queue_op(b->q, op, &out, &b->err));
    return out;
}

static DR_UNUSED uint32_t steps_now(struct bed *b, int64_t op, enum dr_step_status status,
                                    struct dr_step *step, uint32_t max)
{
    uint32_t count = 0;
    MUST(b, dr_queue_steps(b->q, op, status, 0, step, max, &count, &b->err));
    return count;
}

static DR_UNUSED void wish(struct bed *b, int64_t op, enum dr_wish w)
{
    MUST(b, dr_queue_wish(b->q, op, w, "tester@here", "a test", &b->err));
}

static DR_UNUSED void expect_status(struct bed *b, int64_t op, enum dr_op_status status)
{
    struct dr_op o = op_now(b, op);
    if (o.status != status) {
        struct dr_step s[1];
        print_error("operation is %s, expected %s; waiting: %s; reason: %s\n",
                    dr_op_status_name(o.status), dr_op_status_name(status), o.waiting,
                    o.wish_reason);
        if (steps_now(b, op, DR_S_FAILED, s, 1) > 0 || steps_now(b, op, DR_S_UNDO_FAILED, s, 1)) {
            print_error("  %s: %s\n", s[0].title, s[0].last_error);
        }
        fail();
    }
}

#endif
