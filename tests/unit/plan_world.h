/* SPDX-License-Identifier: Apache-2.0 */
/* A small made-up database for the tests of plan/: "acme" with events (hashed), orders (by range)
 * and settings (unsharded) on s1 and s2. The planner needs no store. */
#ifndef TESTS_UNIT_PLAN_WORLD_H
#define TESTS_UNIT_PLAN_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "plan/plan.h"

enum { COLLECTIONS = 4, CHUNKS = 8, CAN_ALL = 0xffff };

/* One database "acme": what tests change before planning. */
struct world {
    struct dr_arena *arena;
    struct dr_request request;
    struct dr_survey survey;
    struct dr_collection collection[COLLECTIONS];
    struct dr_chunk chunk[COLLECTIONS][CHUNKS];
    struct dr_index index[4];
    const char *node[3];
    struct dr_plan *plan;
    struct dr_err err;
};

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static DR_UNUSED struct dr_value num(int64_t i)
{
    return (struct dr_value){.type = DR_V_INT, .i = i};
}

static DR_UNUSED struct dr_value txt(const char *text)
{
    return (struct dr_value){.type = DR_V_TEXT, .data = text, .len = strlen(text)};
}

static DR_UNUSED struct dr_bound bound1(struct dr_value v)
{
    return (struct dr_bound){.parts = 1, .part = {v}};
}

static const struct dr_value min_key = {.type = DR_V_MIN};
static const struct dr_value max_key = {.type = DR_V_MAX};

/* Collection `i` with chunks between MIN, the cuts, and MAX; on s1, s2, s1 ... of 100 rows each. */
static DR_UNUSED void shard(struct world *w, int i, const char *name, enum dr_sharding sharding,
                            const char *key, int cuts, const struct dr_value *cut)
{
    struct dr_collection *c = &w->collection[i];
    *c = (struct dr_collection){.name = name, .sharding = sharding, .epoch = 7};
    c->chunk = w->chunk[i];
    c->chunk_count = (uint64_t)cuts + 1;
    c->rows_total = c->rows_matched = 100 * c->chunk_count;
    c->key_count = 1;
    c->key[0] = key;
    for (int k = 0; k <= cuts; k++) {
        w->chunk[i][k] = (struct dr_chunk){.node = w->node[k % 2],
                                           .from = bound1(k == 0 ? min_key : cut[k - 1]),
                                           .upto = bound1(k == cuts ? max_key : cut[k]),
                                           .rows = 100,
                                           .is_rows_known = true};
    }
}

static DR_UNUSED void add_unsharded(struct world *w, int i, const char *name)
{
    w->chunk[i][0] = (struct dr_chunk){.node = "s1", .rows = 5, .is_rows_known = true};
    w->collection[i] = (struct dr_collection){.name = name,
                                              .chunk = w->chunk[i],
                                              .chunk_count = 1,
                                              .rows_total = 5,
                                              .rows_matched = 5,
                                              .epoch = 7};
}

static DR_UNUSED struct world *make_world(const char *kind)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->arena = dr_arena_create(4096);
    assert_non_null(w->arena);
    w->node[0] = "s1";
    w->node[1] = "s2";
    w->survey = (struct dr_survey){
        .database = "acme", .node_count = 2, .node = w->node, .collection = w->collection};
    w->request.kind_name = kind;
    w->request.database = "acme";
    w->request.store_url = "sqlite:/data/cluster.db";
    w->request.archive_days = 30;
    w->request.tuning.per_node = 1;
    const struct dr_value cuts[] = {num(10), num(20)};
    const struct dr_value hashes[] = {num(0)};
    shard(w, 0, "acme.events", DR_SHARDED_HASHED, "user", 1, hashes);
    shard(w, 1, "acme.orders", DR_SHARDED_RANGE, "customer", 2, cuts);
    add_unsharded(w, 2, "acme.settings");
    w->survey.collection_count = 3;
    return w;
}

static DR_UNUSED void free_world(struct world *w)
{
    dr_plan_destroy(w->plan);
    dr_arena_destroy(w->arena);
    free(w);
}

static const struct dr_filter *filter(struct world *w, const char *json)
{
    json_t *j = NULL;
    const struct dr_filter *f = NULL;
    assert_int_equal(dr_json_parse("filter", json, strlen(json), &j, &w->err), DR_OK);
    assert_int_equal(dr_filter_parse(j, w->arena, &f, &w->err), DR_OK);
    json_decref(j);
    return f;
}

/* A purge of acme.`collection` that matches 50 of its rows. */
static DR_UNUSED struct world *make_purge(const char *collection, const char *json)
{
    struct world *w = make_world("purge");
    w->request.u.purge.collection = collection;
    w->request.u.purge.filter = filter(w, json);
    for (int i = 0; i < COLLECTIONS; i++) {
        w->collection[i].rows_matched = w->collection[i].rows_total > 5 ? 50 : 1;
        for (int k = 0; k < CHUNKS; k++) {
            w->chunk[i][k].rows /= 100;
        }
    }
    return w;
}

static DR_UNUSED enum dr_code plan(struct world *w)
{
    dr_plan_destroy(w->plan);
    w->plan = NULL;
    dr_err_clear(&w->err);
    return dr_plan_make(&w->request, &w->survey, CAN_ALL, &w->plan, &w->err);
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
}

/* All steps, a line each: number, stage, kind, what it waits for, estimate, title. With texts also
 * query, rollback and cleanup. */
static DR_UNUSED void list_steps(const struct dr_plan *p, bool with_texts, struct dr_str *out)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_err err = {0};
    bool has = true;
    assert_int_equal(dr_plan_begin(p, &it, &err), DR_OK);
    for (;;) {
        assert_int_equal(dr_plan_next(it, &s, &has, &err), DR_OK);
        if (!has) {
            break;
        }
        dr_str_addf(out, "%d %u %s w%d %u%s %s\n", (int)s.number, s.stage,
                    dr_step_kind_name(s.kind), (int)s.wait_for, (unsigned)s.estimated,
                    s.is_estimate_known ? "" : "?", s.title);
        if (with_texts) {
            dr_str_addf(out, "  + %s\n  - %s\n  ! %s\n", s.query,
                        s.rollback_query == NULL ? "NULL" : s.rollback_query,
                        s.cleanup == NULL ? "NULL" : s.cleanup);
        }
        assert_true(s.wait_for < s.number);
        assert_int_equal(s.rollback_wait_for, 0);
    }
    dr_plan_end(it);
}

static DR_UNUSED void expect_steps(struct world *w, bool with_texts, const char *expected)
{
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, with_texts, &text);
    assert_string_equal(dr_str_text(&text), expected);
    dr_str_fini(&text);
}

static DR_UNUSED void expect_part(struct world *w, enum dr_strategy strategy, const char *why)
{
    const struct dr_plan_part *part = dr_plan_part_at(w->plan, 0);
    assert_int_equal(part->strategy, strategy);
    assert_has(part->why, why);
}

static DR_UNUSED void add_indexes(struct world *w, int i)
{
    w->index[0] = (struct dr_index){"z_two", 2, {"status", "kind"}, false, false};
    w->index[1] = (struct dr_index){"a_one", 1, {"status"}, false, false};
    w->index[2] = (struct dr_index){"part", 1, {"status"}, true, true};
    w->index[3] = (struct dr_index){"uniq", 1, {"email"}, true, false};
    w->collection[i].index = w->index;
    w->collection[i].index_count = 4;
}

#endif
