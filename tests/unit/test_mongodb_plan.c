/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the plan kind "mongodb.drop" without a filter: which steps on which shard, what
 * is left alone and why, what is dropped, how the balancer rests, and the table of chunks. */
#include "unit/mongodb_world.h"

/* --- everything ------------------------------------------------------------------------------ */

static void a_step_for_each_chunk_and_one_for_a_plain_collection(void **state)
{
    (void)state;
    struct world *w = make_world(JOB "}", NO_EXTRA);
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 100 erase acme.events hashed chunk [MinKey, 0) on a\n"
                 "2 1 w0 100 erase acme.events hashed chunk [0, MaxKey) on b\n"
                 "3 1 w0 100 erase acme.orders chunk [MinKey, 10) on a\n"
                 "4 1 w0 100 erase acme.orders chunk [10, 20) on b\n"
                 "5 1 w0 100 erase acme.orders chunk [20, MaxKey) on a\n"
                 "6 1 w0 5 erase acme.settings on a\n"
                 "7 1 w1 0 verify acme.events hashed chunk [MinKey, 0) on a\n"
                 "8 1 w2 0 verify acme.events hashed chunk [0, MaxKey) on b\n"
                 "9 1 w3 0 verify acme.orders chunk [MinKey, 10) on a\n"
                 "10 1 w4 0 verify acme.orders chunk [10, 20) on b\n"
                 "11 1 w5 0 verify acme.orders chunk [20, MaxKey) on a\n"
                 "12 1 w6 0 verify acme.settings on a\n");
    assert_int_equal(part_of(w, "acme.events")->strategy, DR_BY_CHUNK_HASHED);
    assert_int_equal(part_of(w, "acme.orders")->strategy, DR_BY_CHUNK_RANGE);
    /* No consent to scan is asked for: all of it goes in any case. */
    assert_int_equal(part_of(w, "acme.settings")->strategy, DR_BY_FULL_SCAN);
    assert_int_equal(dr_plan_estimated(w->plan), 505);
    free_world(w);
}

static void views_and_system_collections_are_left_alone_with_the_reason(void **state)
{
    (void)state;
    struct world *w = make_world(
        JOB "}", "{\"collections\":{\"acme.meters\":{\"kind\":\"timeseries\",\"why_not\":\"a time "
                 "series of this version cannot be erased by _id\"}}}");
    w->collection[EVENTS].is_view = true;
    w->collection[ORDERS_AT].is_system = true;
    add_plain(w, EXTRA_AT, "acme.meters");
    w->survey.collection_count = 4;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 5 erase acme.settings on a\n2 1 w1 0 verify acme.settings on a\n");
    assert_has(part_of(w, "acme.events")->warning, "a view holds no documents");
    assert_has(part_of(w, "acme.orders")->warning, "belongs to the database system");
    assert_has(part_of(w, "acme.meters")->warning, "a time series of this version");
    free_world(w);
}

static void named_ones_that_cannot_be_erased_are_refused(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", NO_EXTRA);
    w->collection[ORDERS_AT].is_view = true;
    refuse(w, DR_REFUSED, "acme.orders is a view");
    w = make_world(ORDERS "}", NO_EXTRA);
    w->collection[ORDERS_AT].is_system = true;
    refuse(w, DR_REFUSED, "acme.orders belongs to the database system");
    w = make_world(ORDERS "}",
                   "{\"collections\":{\"acme.orders\":{\"why_not\":\"capped before 5.0\"}}}");
    refuse(w, DR_REFUSED, "acme.orders cannot be erased document by document: capped before 5.0");
    w = make_world(JOB ",\"collections\":[\"gone\"]}", NO_EXTRA);
    refuse(w, DR_NOT_FOUND, "acme.gone: no such collection");
    w = make_world(JOB "}", NO_EXTRA);
    w->survey.collection_count = 0;
    refuse(w, DR_NOT_FOUND, "no collection to erase");
}

static void only_named_collections_are_worked_on(void **state)
{
    (void)state;
    struct world *w = make_world(JOB ",\"collections\":[\"settings\"]}", NO_EXTRA);
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 5 erase acme.settings on a\n2 1 w1 0 verify acme.settings on a\n");
    assert_int_equal(dr_plan_part_count(w->plan), 1);
    free_world(w);
}

/* --- counts that failed ---------------------------------------------------------------------- */

/* A failing dataSize keeps no chunk from being erased, and the sum stays what was counted. */
static void a_chunk_that_could_not_be_counted_is_still_erased(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", NO_EXTRA);
    w->chunk[ORDERS_AT][1].is_rows_known = false;
    w->chunk[ORDERS_AT][1].rows = w->chunk[ORDERS_AT][1].bytes = 0;
    w->chunk[ORDERS_AT][2].is_rows_known = false;
    w->chunk[ORDERS_AT][2].rows = w->chunk[ORDERS_AT][2].bytes = 0;
    w->collection[ORDERS_AT].rows_total = w->collection[ORDERS_AT].rows_matched = 311;
    w->collection[ORDERS_AT].warning = "dataSize failed";
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 100 erase acme.orders chunk [MinKey, 10) on a\n"
                 "2 1 w0 106? erase acme.orders chunk [10, 20) on b\n"
                 "3 1 w0 106? erase acme.orders chunk [20, MaxKey) on a\n"
                 "4 1 w1 0 verify acme.orders chunk [MinKey, 10) on a\n"
                 "5 1 w2 0 verify acme.orders chunk [10, 20) on b\n"
                 "6 1 w3 0 verify acme.orders chunk [20, MaxKey) on a\n");
    assert_int_equal(dr_plan_estimated(w->plan), 311);
    assert_has(part_of(w, "acme.orders")->warning, "dataSize failed");
    struct dr_str out;
    dr_str_init(&out);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &out, &w->err), DR_OK);
    assert_has(dr_str_text(&out), "about 106");
    dr_str_fini(&out);
    free_world(w);
}

/* --- shards that are done -------------------------------------------------------------------- */

static void completed_shards_are_left_out_until_asked_again(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", DONE_ON_A);
    w->chunk[ORDERS_AT][0].rows = w->chunk[ORDERS_AT][2].rows = 0;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 100 erase acme.orders chunk [10, 20) on b\n"
                 "2 1 w1 0 verify acme.orders chunk [10, 20) on b\n");
    const char *warning = part_of(w, "acme.orders")->warning;
    assert_has(warning, "completed on a (2026-11-21T10:00Z) per status documents; --again");
    assert_lacks(warning, "documents are there");
    free_world(w);
    w = make_world(ORDERS ",\"again\":true}", DONE_ON_A);
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 6);
    assert_null(part_of(w, "acme.orders")->warning);
    free_world(w);
}

static void documents_on_a_completed_shard_are_warned_of(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", DONE_ON_A);
    plan_ok(w);
    assert_has(part_of(w, "acme.orders")->warning, "but 200 documents are there now");
    assert_int_equal(dr_plan_estimated(w->plan), 100);
    w->chunk[ORDERS_AT][2].is_rows_known = false;
    plan_ok(w);
    assert_has(part_of(w, "acme.orders")->warning, "whether documents are there now is not known");
    free_world(w);
}

static void a_collection_that_is_completed_everywhere_has_no_steps(void **state)
{
    (void)state;
    struct world *w = make_world(
        JOB "}", "{\"collections\":{\"acme.orders\":{\"completed\":{\"a\":\"t1\",\"b\":\"t2\"}},"
                 "\"acme.settings\":{\"completed\":{\"a\":\"t3\"}}}}");
    plan_ok(w);
    assert_int_equal(part_of(w, "acme.orders")->steps, 0);
    assert_has(part_of(w, "acme.orders")->warning, "completed on a (t1), b (t2)");
    assert_int_equal(part_of(w, "acme.settings")->steps, 0);
    assert_int_equal(dr_plan_step_count(w->plan), 4); /* events */
    free_world(w);
}

/* --- dropping -------------------------------------------------------------------------------- */

static void the_database_goes_last_and_only_with_all_of_its_collections(void **state)
{
    (void)state;
    struct world *w = make_world(JOB ",\"drop_when_empty\":true}", NO_EXTRA);
    w->survey.collection = &w->collection[SETTINGS];
    w->survey.collection_count = 1;
    plan_ok(w);
    expect_steps(w, true,
                 "1 1 w0 5 erase acme.settings on a\n"
                 "  + {\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":"
                 "\"acme.settings\",\"epoch\":7,\"node\":\"a\"}}\n"
                 "  - {\"do\":\"restore\"}\n  ! NULL\n"
                 "2 1 w1 0 verify acme.settings on a\n"
                 "  + {\"range\":{\"access\":\"scan\",\"collection\":\"acme.settings\",\"epoch\":7,"
                 "\"node\":\"a\"}}\n"
                 "  - {\"do\":\"nothing\"}\n  ! NULL\n"
                 "3 5 w0 0 drop empty acme.settings on a\n"
                 "  + {\"drop_if_empty\":\"acme.p\"}\n"
                 "  - {\"db\":\"acme\",\"p\":1}\n  ! NULL\n"
                 "4 7 w0 0 drop empty database acme on a\n"
                 "  + {\"drop_database_if_empty\":\"acme\"}\n"
                 "  - {\"do\":\"nothing\"}\n  ! NULL\n");
    free_world(w);
    /* A sharded collection is dropped once, through the router. */
    w = make_world(ORDERS ",\"drop_when_empty\":true}", NO_EXTRA);
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 7); /* and no database: others were not named */
    free_world(w);
    w = make_world(JOB ",\"drop_when_empty\":true}", NO_EXTRA);
    w->collection[EVENTS].is_view = true;
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 3 + 3 + 1 + 1 + 2);
    assert_has(part_of(w, "acme.events")->warning, "the database stays because of it");
    free_world(w);
}

static void a_collection_with_documents_on_a_left_out_shard_is_not_dropped(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS ",\"drop_when_empty\":true}", DONE_ON_A);
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    assert_has(part_of(w, "acme.orders")->warning, "not dropped");
    w->chunk[ORDERS_AT][0].rows = w->chunk[ORDERS_AT][2].rows = 0;
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 3);
    free_world(w);
}

/* --- the balancer ---------------------------------------------------------------------------- */

#define NO_BALANCE(op, value)                                                                      \
    "{\"db\":\"config\",\"command\":{\"update\":\"collections\",\"updates\":[{\"q\":{\"_id\":"     \
    "\"acme.orders\"},\"u\":{\"" op "\":{\"noBalance\":" value "}}}],\"writeConcern\":{\"w\":"     \
    "\"majority\"}}}"

static void the_balancer_rests_and_is_put_back_whatever_happens(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS ",\"stop_balancer\":true}", NO_EXTRA);
    w->collection[ORDERS_AT].chunk_count = 1;
    w->chunk[ORDERS_AT][0].upto = end(DR_V_MAX);
    w->collection[ORDERS_AT].rows_total = w->collection[ORDERS_AT].rows_matched = 100;
    plan_ok(w);
    expect_steps(
        w, true,
        "1 0 w0 0 stop balancing acme.orders on a\n"
        "  + " NO_BALANCE("$set", "true") "\n  - " NO_BALANCE(
            "$unset",
            "\"\"") "\n"
                    "  ! " NO_BALANCE(
                        "$unset",
                        "\"\"") "\n"
                                "2 1 w0 100 erase acme.orders chunk [MinKey, MaxKey) on a\n"
                                "  + "
                                "{\"archive\":true,\"range\":{\"access\":\"shard-range\","
                                "\"collection\":"
                                "\"acme.orders\",\"epoch\":7,\"from\":[{\"$min\":1}],\"key\":["
                                "\"k\"],\"node\":"
                                "\"a\",\"upto\":[{\"$max\":1}]}}\n"
                                "  - {\"do\":\"restore\"}\n  ! NULL\n"
                                "3 1 w2 0 verify acme.orders chunk [MinKey, MaxKey) on a\n"
                                "  + "
                                "{\"range\":{\"access\":\"shard-range\",\"collection\":\"acme."
                                "orders\","
                                "\"epoch\":7,\"from\":[{\"$min\":1}],\"key\":[\"k\"],\"node\":"
                                "\"a\",\"upto\":"
                                "[{\"$max\":1}]}}\n"
                                "  - {\"do\":\"nothing\"}\n  ! NULL\n"
                                "4 4 w0 0 balance again acme.orders on a\n"
                                "  + " NO_BALANCE("$unset",
                                                  "\"\"") "\n"
                                                          "  - {\"do\":\"nothing\"}\n  ! NULL\n");
    free_world(w);
}

static void a_balancer_that_somebody_else_stopped_stays_stopped(void **state)
{
    (void)state;
    struct world *w = make_world(JOB ",\"stop_balancer\":true}",
                                 "{\"collections\":{\"acme.orders\":{\"no_balance\":true}}}");
    plan_ok(w);
    assert_int_equal(part_of(w, "acme.orders")->steps, 6);
    assert_int_equal(part_of(w, "acme.settings")->steps, 2); /* nothing to balance */
    assert_int_equal(part_of(w, "acme.events")->steps, 6);
    free_world(w);
}

static void a_move_under_way_is_told_with_its_collection(void **state)
{
    (void)state;
    struct world *w = make_world(JOB "}", "{\"balancer\":{\"moving\":[\"acme.orders: chunk moves "
                                          "from a to b\"]},\"collections\":{}}");
    plan_ok(w);
    assert_has(part_of(w, "acme.orders")->warning,
               "rebalancing now (chunk moves from a to b): waits until that has ended");
    assert_null(part_of(w, "acme.events")->warning);
    free_world(w);
}

/* --- for people and programs ----------------------------------------------------------------- */

static void the_chunk_table_tells_sizes_by_chunk_shard_and_in_all(void **state)
{
    (void)state;
    struct world *w = make_world(JOB "}", NO_EXTRA);
    struct dr_str out;
    dr_str_init(&out);
    w->chunk[ORDERS_AT][1].bytes = 1536 * 1024;
    plan_ok(w);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &out, &w->err), DR_OK);
    const char *text = dr_str_text(&out);
    assert_has(text, "DRY RUN");
    assert_has(text, "COLLECTION     SHARD  CHUNK  MIN     MAX       MB  DOCUMENTS\n");
    assert_has(text, "acme.events    a          1  MinKey  0       1.00        100\n");
    assert_has(text, "acme.orders    b          2  10      20      1.50        100\n");
    assert_has(text, "acme.settings  a          1  -       -       0.00          5\n");
    assert_has(text, "by shard:\n"
                     "a    4 chunks, 3.00 MB, 305 documents\n"
                     "b    2 chunks, 2.50 MB, 200 documents\n"
                     "all  6 chunks, 5.50 MB, 505 documents\n");
    dr_str_clear(&out);
    assert_int_equal(dr_plan_print(w->plan, false, 2, &out, &w->err), DR_OK);
    assert_has(dr_str_text(&out), "... 4 more\n");
    assert_lacks(dr_str_text(&out), "acme.orders    b          2");
    dr_str_fini(&out);
    free_world(w);
}

static void unknown_sizes_are_shown_as_unknown(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", NO_EXTRA);
    struct dr_str out;
    dr_str_init(&out);
    w->chunk[ORDERS_AT][1].is_rows_known = false;
    w->chunk[ORDERS_AT][1].rows = w->chunk[ORDERS_AT][1].bytes = 0;
    plan_ok(w);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &out, &w->err), DR_OK);
    assert_has(dr_str_text(&out), "acme.orders  b          2  10      20         ?          ?\n");
    assert_has(dr_str_text(&out), "b    1 chunk, ? MB, >= 0 documents\n");
    assert_has(dr_str_text(&out), "all  3 chunks, 2.00 MB, >= 200 documents\n");
    dr_str_fini(&out);
    free_world(w);
}

static void programs_get_the_same_table(void **state)
{
    (void)state;
    struct world *w = make_world(ORDERS "}", NO_EXTRA);
    json_t *j = NULL;
    w->chunk[ORDERS_AT][1].is_rows_known = false;
    w->chunk[ORDERS_AT][1].rows = w->chunk[ORDERS_AT][1].bytes = 0;
    plan_ok(w);
    assert_int_equal(dr_plan_to_json(w->plan, true, &j, &w->err), DR_OK);
    char *text = dr_json_text(json_object_get(j, "chunks"));
    assert_string_equal(
        text, "{\"all\":{\"bytes\":2097152,\"chunks\":3,\"documents\":200,\"documents_known\":"
              "false},\"list\":[{\"bytes\":1048576,\"chunk\":1,\"collection\":\"acme.orders\","
              "\"documents\":100,\"max\":[10],\"min\":[{\"$min\":1}],\"shard\":\"a\"},{\"bytes\":"
              "null,\"chunk\":2,\"collection\":\"acme.orders\",\"documents\":null,\"max\":[20],"
              "\"min\":[10],\"shard\":\"b\"},{\"bytes\":1048576,\"chunk\":3,\"collection\":"
              "\"acme.orders\",\"documents\":100,\"max\":[{\"$max\":1}],\"min\":[20],\"shard\":"
              "\"a\"}],\"shards\":[{\"bytes\":2097152,\"chunks\":2,\"documents\":200,"
              "\"documents_known\":true,\"shard\":\"a\"},{\"bytes\":0,\"chunks\":1,\"documents\":0,"
              "\"documents_known\":false,\"shard\":\"b\"}]}");
    dr_free(text);
    json_decref(j);
    /* What is stored with the operation has no list: there may be a million chunks. */
    assert_int_equal(dr_plan_to_json(w->plan, false, &j, &w->err), DR_OK);
    assert_null(json_object_get(json_object_get(j, "chunks"), "list"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "chunks"), "shards")), 2);
    json_decref(j);
    free_world(w);
}

static void short_memory_gives_no_plan(void **state)
{
    (void)state;
    struct world *w =
        make_world(JOB ",\"stop_balancer\":true,\"drop_when_empty\":true}", DONE_ON_A);
    bool is_through = false;
    uint64_t n = 1;
    for (; n < 500 && !is_through; n++) {
        dr_mem_fail_at(n);
        enum dr_code rc = plan(w);
        dr_mem_fail_at(0);
        is_through = rc == DR_OK;
        if (!is_through) {
            assert_int_equal(rc, DR_NOMEM);
            assert_null(w->plan);
        }
    }
    assert_true(is_through && n > 5);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_for_each_chunk_and_one_for_a_plain_collection),
        cmocka_unit_test(views_and_system_collections_are_left_alone_with_the_reason),
        cmocka_unit_test(named_ones_that_cannot_be_erased_are_refused),
        cmocka_unit_test(only_named_collections_are_worked_on),
        cmocka_unit_test(a_chunk_that_could_not_be_counted_is_still_erased),
        cmocka_unit_test(completed_shards_are_left_out_until_asked_again),
        cmocka_unit_test(documents_on_a_completed_shard_are_warned_of),
        cmocka_unit_test(a_collection_that_is_completed_everywhere_has_no_steps),
        cmocka_unit_test(the_database_goes_last_and_only_with_all_of_its_collections),
        cmocka_unit_test(a_collection_with_documents_on_a_left_out_shard_is_not_dropped),
        cmocka_unit_test(the_balancer_rests_and_is_put_back_whatever_happens),
        cmocka_unit_test(a_balancer_that_somebody_else_stopped_stays_stopped),
        cmocka_unit_test(a_move_under_way_is_told_with_its_collection),
        cmocka_unit_test(the_chunk_table_tells_sizes_by_chunk_shard_and_in_all),
        cmocka_unit_test(unknown_sizes_are_shown_as_unknown),
        cmocka_unit_test(programs_get_the_same_table),
        cmocka_unit_test(short_memory_gives_no_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
