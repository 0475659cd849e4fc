/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of planning "sql.purge": strategy from evidence, refusals, whole tables. */
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

#define EXTRA                                                                                      \
    "{\"dialect\":\"mariadb\",\"version\":\"10.11.6\",\"key\":[\"id\"],\"key_index\":\"PRIMARY\"," \
    "\"key_is_unique\":true,\"last_key\":[1000],\"plan\":\"index range scan on PRIMARY\","         \
    "\"uses_index\":true,\"estimate\":500,\"rows\":500,\"matches_all\":false,\"partitioned\":"     \
    "false,\"partitions\":[],\"cascades\":[],\"advice\":null,\"warnings\":[]}"

struct world {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_collection collection;
    struct dr_chunk chunk;
    struct dr_index index[2];
    const char *node[1];
    json_t *extra;
    char *extra_text;
    struct dr_plan *plan;
    struct dr_err err;
};

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static json_t *json_of(const char *text)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    if (dr_json_parse("text", text, strlen(text), &j, &err) != DR_OK) {
        print_error("%s in %s\n", err.msg, text);
        fail();
    }
    return j;
}

/* A table shop.t of 1,000 rows; `more` are further keys of the job. */
static struct world *make_world(const char *more, uint64_t matched)
{
    struct world *w = calloc(1, sizeof *w);
    char text[600];
    assert_non_null(w);
    (void)snprintf(text, sizeof text,
                   "{\"kind\":\"sql.purge\",\"store\":\"mysql://h/shop\",\"table\":\"t\"%s}", more);
    json_t *job = json_of(text);
    if (dr_request_parse(job, "job", &w->request, &w->err) != DR_OK) {
        print_error("%s\n", w->err.msg);
        fail();
    }
    json_decref(job);
    w->node[0] = "main";
    w->chunk = (struct dr_chunk){.node = "main", .rows = matched, .is_rows_known = true};
    w->index[0] =
        (struct dr_index){.name = "PRIMARY", .field_count = 1, .field = {"id"}, .is_unique = true};
    w->index[1] = (struct dr_index){.name = "by_expiry", .field_count = 1, .field = {"expires"}};
    w->collection = (struct dr_collection){.name = "shop.t",
                                           .epoch = 9,
                                           .rows_total = 1000,
                                           .rows_matched = matched,
                                           .index = w->index,
                                           .index_count = 2,
                                           .chunk = &w->chunk,
                                           .chunk_count = 1};
    w->survey = (struct dr_survey){.database = "shop",
                                   .node_count = 1,
                                   .node = w->node,
                                   .collection = &w->collection,
                                   .collection_count = 1};
    w->extra = json_of(EXTRA);
    return w;
}

static struct world *make_rows(const char *where, uint64_t matched)
{
    char more[300];
    (void)snprintf(more, sizeof more, ",\"where\":\"%s\"", where);
    return make_world(more, matched);
}

static void set(struct world *w, const char *key, const char *json)
{
    json_t *holder = json_of(json);
    json_object_set(w->extra, key, json_object_get(holder, "v"));
    json_decref(holder);
}

static enum dr_code plan(struct world *w)
{
    dr_plan_destroy(w->plan);
    w->plan = NULL;
    dr_err_clear(&w->err);
    dr_free(w->extra_text);
    w->extra_text = dr_json_text(w->extra);
    w->survey.extra = w->extra_text;
    return dr_plan_make(w->request, &w->survey, 0xffff, &w->plan, &w->err);
}

static void plan_ok(struct world *w)
{
    if (plan(w) != DR_OK) {
        print_error("no plan: %s\n", w->err.msg);
        fail();
    }
}

static void refuse(struct world *w, enum dr_code code, const char *part)
{
    assert_int_equal(plan(w), code);
    assert_null(w->plan);
    assert_has(w->err.msg, part);
}

static void free_world(struct world *w)
{
    dr_plan_destroy(w->plan);
    dr_request_destroy(w->request);
    json_decref(w->extra);
    dr_free(w->extra_text);
    free(w);
}

static const struct dr_plan_part *part_of(struct world *w)
{
    assert_int_equal(dr_plan_part_count(w->plan), 1);
    return dr_plan_part_at(w->plan, 0);
}

static void expect_steps(struct world *w, const char *expected)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_str out;
    bool has = true;
    dr_str_init(&out);
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    for (;;) {
        assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
        if (!has) {
            break;
        }
        dr_str_addf(&out, "%d %u %s w%d %u %s\n  + %s\n  - %s\n", (int)s.number, s.stage,
                    dr_step_kind_name(s.kind), (int)s.wait_for, (unsigned)s.estimated, s.title,
                    s.query, s.rollback_query == NULL ? "NULL" : s.rollback_query);
        assert_string_equal(s.node, "main");
    }
    dr_plan_end(it);
    assert_string_equal(dr_str_text(&out), expected);
    dr_str_fini(&out);
}

static void many_matches_are_walked_by_the_unique_key(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 100);
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_CHUNK_RANGE);
    assert_has(part_of(w)->why, "by the unique key (id), index PRIMARY");
    assert_has(part_of(w)->why, "100 of 1,000 rows");
    assert_has(part_of(w)->why, "index range scan on PRIMARY");
    assert_int_equal(dr_plan_estimated(w->plan), 100);
    expect_steps(w, "1 1 erase w0 100 erase shop.t on main\n"
                    "  + {\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":\"shop.t\""
                    ",\"epoch\":9,\"node\":\"main\",\"spec\":\"request\"}}\n"
                    "  - {\"do\":\"restore\"}\n"
                    "2 3 verify w1 0 verify shop.t on main\n"
                    "  + {\"range\":{\"access\":\"scan\",\"collection\":\"shop.t\",\"epoch\":9,"
                    "\"node\":\"main\",\"spec\":\"request\"}}\n"
                    "  - {\"do\":\"nothing\"}\n");
    free_world(w);
}

static void few_matches_need_an_index_or_consent(void **state)
{
    (void)state;
    struct world *w = make_rows("kind = 'x'", 99);
    refuse(w, DR_REFUSED, "would read 1,000 rows for the 99 that match");
    assert_has(w->err.msg, "--allow-scan");
    w->request->allow_scan = true;
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_FULL_SCAN);
    free_world(w);

    /* Another index would serve it: it is named. */
    w = make_rows("\\\"expires\\\" < 5", 99);
    refuse(w, DR_REFUSED, "Index by_expiry");
    assert_has(w->err.msg, "--key expires");
    free_world(w);
    /* A name inside of a text is no column. */
    w = make_rows("kind = 'expires'", 99);
    assert_int_equal(plan(w), DR_REFUSED);
    assert_null(strstr(w->err.msg, "by_expiry"));
    free_world(w);
}

static void an_index_that_serves_the_expression_is_medium(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 3);
    set(w, "key", "{\"v\":[\"expires\"]}");
    set(w, "key_index", "{\"v\":\"by_expiry\"}");
    set(w, "key_is_unique", "{\"v\":false}");
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_INDEXED);
    assert_has(part_of(w)->why, "by the key (expires), index by_expiry");
    free_world(w);
    w = make_rows("id < 5", 3);
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_INDEXED);
    free_world(w);
    w = make_rows("kind = 1", 3);
    set(w, "serves", "{\"v\":true}");
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_INDEXED);
    free_world(w);
}

static void a_statement_without_an_index_is_refused(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 500);
    w->request->allow_scan = true;
    set(w, "uses_index", "{\"v\":false}");
    set(w, "plan", "{\"v\":\"full table scan, then a sort\"}");
    refuse(w, DR_REFUSED, "uses no index (full table scan, then a sort)");
    assert_has(w->err.msg, "--key");
    /* The walked index finds the rows, but they are sorted for each batch: only while they are few.
     */
    set(w, "plan", "{\"v\":\"Bitmap Index Scan on PRIMARY, then a sort\"}");
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_INDEXED);
    w->collection.rows_total = 50000;
    w->collection.rows_matched = 10001;
    refuse(w, DR_REFUSED, "uses no index");
    free_world(w);
}

static void a_table_without_a_key_needs_to_be_allowed(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 500);
    set(w, "key", "{\"v\":[]}");
    set(w, "key_index", "{\"v\":null}");
    set(w, "uses_index", "{\"v\":false}");
    refuse(w, DR_REFUSED, "no usable key");
    w->request->u.sql_purge.allow_no_key = true;
    refuse(w, DR_REFUSED, "--allow-scan");
    w->request->allow_scan = true;
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_FULL_SCAN);
    assert_has(part_of(w)->warning, "one at a time");
    free_world(w);
}

static void all_rows_need_consent_and_bring_advice(void **state)
{
    (void)state;
    struct world *w = make_rows("1 = 1", 1000);
    set(w, "matches_all", "{\"v\":true}");
    set(w, "advice", "{\"v\":\"partition p1 can be dropped\"}");
    refuse(w, DR_REFUSED, "selects all 1,000 rows");
    assert_has(w->err.msg, "--mode truncate");
    assert_has(w->err.msg, "--mode drop");
    assert_has(w->err.msg, "partition p1 can be dropped");
    w->request->whole_collection = true;
    plan_ok(w);
    assert_int_equal(part_of(w)->strategy, DR_BY_CHUNK_RANGE);
    assert_has(part_of(w)->warning, "partition p1 can be dropped");
    free_world(w);
}

static void cascades_triggers_views_and_missing_tables_are_refused(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 500);
    set(w, "cascades", "{\"v\":[{\"table\":\"shop.child\",\"rule\":\"cascade\"},\"shop.other\"]}");
    w->collection.has_triggers = true;
    refuse(w, DR_REFUSED, "shop.child (on delete cascade), shop.other");
    assert_has(w->err.msg, "children first");
    set(w, "cascades", "{\"v\":[]}");
    refuse(w, DR_REFUSED, "has triggers");
    w->collection.has_triggers = false;
    w->collection.is_view = true;
    refuse(w, DR_REFUSED, "is a view");
    w->collection.is_view = false;
    w->collection.is_system = true;
    refuse(w, DR_REFUSED, "belongs to the database system");
    w->collection.is_system = false;
    w->collection.name = "shop.u";
    refuse(w, DR_NOT_FOUND, "shop.t: there is no such table");
    free_world(w);
}

static void max_items_holds(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 500);
    w->request->max_items = 499;
    refuse(w, DR_REFUSED, "max_items");
    free_world(w);
}

static void an_empty_table_is_no_reason_to_refuse(void **state)
{
    (void)state;
    struct world *w = make_rows("expires < 5", 0);
    w->collection.rows_total = 0;
    set(w, "uses_index", "{\"v\":false}");
    set(w, "last_key", "{\"v\":[]}");
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    free_world(w);
}

static void truncate_is_one_step_without_undo(void **state)
{
    (void)state;
    struct world *w = make_world(",\"mode\":\"truncate\",\"irreversible\":true", 1000);
    w->collection.has_triggers = true; /* those of rows do not run */
    plan_ok(w);
    expect_steps(w, "1 1 command w0 0 truncate shop.t on main\n"
                    "  + TRUNCATE TABLE \"shop\".\"t\"\n"
                    "  - NULL\n");
    assert_int_equal(dr_plan_no_return(w->plan), 1);
    assert_int_equal(dr_plan_estimated(w->plan), 1000);
    w->request->max_items = 999;
    refuse(w, DR_REFUSED, "max_items");
    w->request->max_items = 0;
    w->collection.has_reference = true;
    refuse(w, DR_REFUSED, "other tables refer to it");
    w->collection.has_reference = false;
    set(w, "dialect", "{\"v\":\"sqlite\"}");
    refuse(w, DR_REFUSED, "SQLite has no TRUNCATE; use --mode drop");
    free_world(w);
}

static void a_drop_is_renamed_held_and_only_then_final(void **state)
{
    (void)state;
    struct world *w =
        make_world(",\"mode\":\"drop\",\"hold_until\":1700000000000,\"irreversible\":true", 1000);
    plan_ok(w);
    expect_steps(w, "1 1 command w0 0 rename to t_drover_hold: shop.t on main\n"
                    "  + ALTER TABLE \"shop\".\"t\" RENAME TO \"t_drover_hold\"\n"
                    "  - ALTER TABLE \"shop\".\"t_drover_hold\" RENAME TO \"t\"\n"
                    "2 3 command w0 0 hold until 2023-11-14T22:13:20.000Z: shop.t on main\n"
                    "  + HOLD UNTIL 1700000000000\n"
                    "  - {\"do\":\"nothing\"}\n"
                    "3 5 command w0 0 drop with its rows shop.t on main\n"
                    "  + DROP HELD TABLE \"shop\".\"t_drover_hold\"\n"
                    "  - NULL\n");
    assert_int_equal(dr_plan_no_return(w->plan), 3);
    assert_true(dr_plan_is_irreversible(w->plan));
    struct dr_str out;
    dr_str_init(&out);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &out, &w->err), DR_OK);
    assert_has(dr_str_text(&out),
               "point of no return is step 3; before it begins, drover rollback");
    dr_str_fini(&out);
    free_world(w);
    w = make_world(",\"mode\":\"drop\",\"irreversible\":true", 1000);
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    assert_int_equal(dr_plan_no_return(w->plan), 2);
    free_world(w);
}

static void the_hash_covers_what_is_selected(void **state)
{
    (void)state;
    struct world *a = make_rows("expires < 5", 500);
    struct world *b = make_rows("expires < 6", 500);
    plan_ok(a);
    plan_ok(b);
    assert_true(dr_plan_hash(a->plan) != dr_plan_hash(b->plan));
    uint64_t before = dr_plan_hash(a->plan);
    plan_ok(a);
    assert_true(dr_plan_hash(a->plan) == before);
    json_object_set_new(a->request->json, "last_key", json_pack("[i]", 7));
    plan_ok(a);
    assert_true(dr_plan_hash(a->plan) != before);
    struct dr_str out;
    dr_str_init(&out);
    assert_int_equal(dr_plan_print(a->plan, true, 0, &out, &a->err), DR_OK);
    assert_has(dr_str_text(&out), "where expires < 5\n");
    dr_str_fini(&out);
    free_world(a);
    free_world(b);
}

static void short_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct world *w =
        make_world(",\"mode\":\"drop\",\"hold_until\":1700000000000,\"irreversible\":true", 1000);
    plan_ok(w);
    for (uint64_t n = 1; n < 500; n++) {
        dr_plan_destroy(w->plan);
        w->plan = NULL;
        dr_err_clear(&w->err);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_plan_make(w->request, &w->survey, 0xffff, &w->plan, &w->err);
        (void)dr_mem_fail_at(0);
        if (rc == DR_OK) {
            assert_true(n > 5);
            free_world(w);
            return;
        }
        assert_int_equal(rc, DR_NOMEM);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_matches_are_walked_by_the_unique_key),
        cmocka_unit_test(few_matches_need_an_index_or_consent),
        cmocka_unit_test(an_index_that_serves_the_expression_is_medium),
        cmocka_unit_test(a_statement_without_an_index_is_refused),
        cmocka_unit_test(a_table_without_a_key_needs_to_be_allowed),
        cmocka_unit_test(all_rows_need_consent_and_bring_advice),
        cmocka_unit_test(cascades_triggers_views_and_missing_tables_are_refused),
        cmocka_unit_test(max_items_holds),
        cmocka_unit_test(an_empty_table_is_no_reason_to_refuse),
        cmocka_unit_test(truncate_is_one_step_without_undo),
        cmocka_unit_test(a_drop_is_renamed_held_and_only_then_final),
        cmocka_unit_test(the_hash_covers_what_is_selected),
        cmocka_unit_test(short_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
