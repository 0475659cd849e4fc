/* SPDX-License-Identifier: Apache-2.0 */
/* A made-up MongoDB database for the tests of plan/: "acme" with events (hashed) and orders (by
 * range) on shards a and b, and settings, unsharded on a. The planner needs no store. */
#ifndef TESTS_UNIT_MONGODB_WORLD_H
#define TESTS_UNIT_MONGODB_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "plan/plan.h"

#define JOB "{\"kind\":\"mongodb.drop\",\"store\":\"mongodb://h:1\",\"database\":\"acme\""
#define ORDERS JOB ",\"collections\":[\"orders\"]"
#define DONE_ON_A                                                                                  \
    "{\"collections\":{\"acme.orders\":{\"completed\":{\"a\":\"2026-11-21T10:00Z\"}}}}"
#define NO_EXTRA "{\"collections\":{}}"

enum { EVENTS, ORDERS_AT, SETTINGS, EXTRA_AT, COLLECTIONS, CHUNKS = 4 };
enum { CAN_ALL = 0xffff };

struct world {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_collection collection[COLLECTIONS];
    struct dr_chunk chunk[COLLECTIONS][CHUNKS];
    const char *node[2];
    uint32_t can;
    struct dr_plan *plan;
    struct dr_err err;
};

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text == NULL ? "NULL" : text);
        fail();
    }
}

static DR_UNUSED void assert_lacks(const char *text, const char *part)
{
    if (text != NULL && strstr(text, part) != NULL) {
        print_error("did not expect \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static DR_UNUSED struct dr_bound number(int64_t i)
{
    return (struct dr_bound){.parts = 1, .part = {{.type = DR_V_INT, .i = i}}};
}

static DR_UNUSED struct dr_bound end(enum dr_value_type type)
{
    return (struct dr_bound){.parts = 1, .part = {{.type = type}}};
}

/* Chunks of 100 documents and 1 MiB between MinKey, the cuts and MaxKey, on a, b, a ... */
static DR_UNUSED void shard(struct world *w, int i, const char *name, enum dr_sharding sharding,
                            int cuts, int64_t first)
{
    struct dr_collection *c = &w->collection[i];
    *c = (struct dr_collection){.name = name,
                                .sharding = sharding,
                                .epoch = 7,
                                .key_count = 1,
                                .key = {"k"},
                                .chunk = w->chunk[i],
                                .chunk_count = (uint64_t)cuts + 1,
                                .drop_text = "{\"drop_if_empty\":\"acme.x\"}",
                                .create_text = "{\"db\":\"acme\"}"};
    c->rows_total = c->rows_matched = 100 * c->chunk_count;
    for (int k = 0; k <= cuts; k++) {
        w->chunk[i][k] =
            (struct dr_chunk){.node = w->node[k % 2],
                              .from = k == 0 ? end(DR_V_MIN) : number(first + (k - 1) * 10),
                              .upto = k == cuts ? end(DR_V_MAX) : number(first + k * 10),
                              .rows = 100,
                              .bytes = 1024 * 1024,
                              .is_rows_known = true};
    }
}

static DR_UNUSED void add_plain(struct world *w, int i, const char *name)
{
    w->chunk[i][0] = (struct dr_chunk){.node = "a", .rows = 5, .bytes = 512, .is_rows_known = true};
    w->collection[i] = (struct dr_collection){.name = name,
                                              .epoch = 7,
                                              .rows_total = 5,
                                              .rows_matched = 5,
                                              .chunk = w->chunk[i],
                                              .chunk_count = 1,
                                              .drop_text = "{\"drop_if_empty\":\"acme.p\"}",
                                              .create_text = "{\"db\":\"acme\",\"p\":1}"};
}

static DR_UNUSED struct world *make_world(const char *job, const char *extra)
{
    struct world *w = calloc(1, sizeof *w);
    json_t *j = NULL;
    assert_non_null(w);
    if (dr_json_parse("job", job, strlen(job), &j, &w->err) != DR_OK ||
        dr_request_parse(j, "job", &w->request, &w->err) != DR_OK) {
        print_error("%s\n", w->err.msg);
        fail();
    }
    json_decref(j);
    w->node[0] = "a";
    w->node[1] = "b";
    shard(w, EVENTS, "acme.events", DR_SHARDED_HASHED, 1, 0);
    shard(w, ORDERS_AT, "acme.orders", DR_SHARDED_RANGE, 2, 10);
    add_plain(w, SETTINGS, "acme.settings");
    w->survey = (struct dr_survey){.database = "acme",
                                   .node_count = 2,
                                   .node = w->node,
                                   .collection_count = 3,
                                   .collection = w->collection,
                                   .extra = extra};
    w->can = CAN_ALL;
    return w;
}

static DR_UNUSED void free_world(struct world *w)
{
    dr_plan_destroy(w->plan);
    dr_request_destroy(w->request);
    free(w);
}

static DR_UNUSED enum dr_code plan(struct world *w)
{
    dr_plan_destroy(w->plan);
    w->plan = NULL;
    return dr_plan_make(w->request, &w->survey, w->can, &w->plan, &w->err);
}

static DR_UNUSED void plan_ok(struct world *w)
{
    if (plan(w) != DR_OK) {
        print_error("no plan: %s\n", w->err.msg);
        fail();
    }
}

static DR_UNUSED void refuse(struct world *w, enum dr_code code, const char *part)
{
    assert_int_equal(plan(w), code);
    assert_null(w->plan);
    assert_has(w->err.msg, part);
    free_world(w);
}

static DR_UNUSED void expect_steps(const struct world *w, bool with_texts, const char *expected)
{
    struct dr_str text;
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_err err = {0};
    bool has = true;
    dr_str_init(&text);
    assert_int_equal(dr_plan_begin(w->plan, &it, &err), DR_OK);
    for (;;) {
        assert_int_equal(dr_plan_next(it, &s, &has, &err), DR_OK);
        if (!has) {
            break;
        }
        dr_str_addf(&text, "%d %u w%d %u%s %s\n", (int)s.number, s.stage, (int)s.wait_for,
                    (unsigned)s.estimated, s.is_estimate_known ? "" : "?", s.title);
        if (with_texts) {
            dr_str_addf(&text, "  + %s\n  - %s\n  ! %s\n", s.query,
                        s.rollback_query == NULL ? "NULL" : s.rollback_query,
                        s.cleanup == NULL ? "NULL" : s.cleanup);
        }
    }
    dr_plan_end(it);
    assert_string_equal(dr_str_text(&text), expected);
    dr_str_fini(&text);
}

static DR_UNUSED const struct dr_plan_part *part_of(const struct world *w, const char *collection)
{
    for (uint32_t i = 0; i < dr_plan_part_count(w->plan); i++) {
        if (strcmp(dr_plan_part_at(w->plan, i)->collection, collection) == 0) {
            return dr_plan_part_at(w->plan, i);
        }
    }
    fail_msg("no part %s", collection);
    return NULL;
}

#endif
