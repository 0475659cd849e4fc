/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the plan kind "mongodb.drop" with a filter: how the survey's evidence becomes a
 * strategy, what needs consent, and the temporary index. */
#include "unit/mongodb_world.h"

/* --- filters --------------------------------------------------------------------------------- */

#define FILTERED ORDERS ",\"filter\":{\"status\":\"old\"}"
#define SURVEYED(use, more)                                                                        \
    "{\"collections\":{\"acme.orders\":{\"filter\":{\"use\":\"" use "\",\"why\":\"evidence\"" more \
    "}}}}"

/* orders with a filter that matches 30 of 300, which only the collection as a whole knows. */
static struct world *make_filtered(const char *job, const char *extra)
{
    struct world *w = make_world(job, extra);
    w->collection[ORDERS_AT].rows_matched = 30;
    for (int k = 0; k < 3; k++) {
        w->chunk[ORDERS_AT][k].rows = w->chunk[ORDERS_AT][k].bytes = 0;
        w->chunk[ORDERS_AT][k].is_rows_known = false;
    }
    return w;
}

static void make_plain(struct world *w)
{
    w->collection[ORDERS_AT].sharding = DR_UNSHARDED;
    w->collection[ORDERS_AT].key_count = 0;
    w->collection[ORDERS_AT].chunk_count = 1;
    w->chunk[ORDERS_AT][0].from.parts = w->chunk[ORDERS_AT][0].upto.parts = 0;
}

static void a_filter_on_the_shard_key_takes_only_the_surveyed_chunks(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED "}", SURVEYED("shard-range", ""));
    w->chunk[ORDERS_AT][1] = w->chunk[ORDERS_AT][2]; /* the middle chunk holds no match */
    w->collection[ORDERS_AT].chunk_count = 2;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 15? erase acme.orders chunk [MinKey, 10) on a\n"
                 "2 1 w0 15? erase acme.orders chunk [20, MaxKey) on a\n"
                 "3 1 w1 0 verify acme.orders chunk [MinKey, 10) on a\n"
                 "4 1 w2 0 verify acme.orders chunk [20, MaxKey) on a\n");
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_CHUNK_RANGE);
    assert_string_equal(dr_plan_part_at(w->plan, 0)->why, "evidence");
    assert_lacks(dr_plan_part_at(w->plan, 0)->warning, "hole");
    assert_int_equal(dr_plan_estimated(w->plan), 30);
    w->collection[ORDERS_AT].chunk_count = 0;
    w->collection[ORDERS_AT].rows_matched = 0;
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 0);
    assert_has(dr_plan_part_at(w->plan, 0)->warning, "no chunk can hold a match");
    free_world(w);
}

static void a_filter_on_a_hashed_key_goes_by_hash(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED "}", SURVEYED("shard-hashed", ""));
    w->collection[ORDERS_AT].sharding = DR_SHARDED_HASHED;
    plan_ok(w);
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_CHUNK_HASHED);
    assert_int_equal(dr_plan_step_count(w->plan), 6);
    free_world(w);
    /* Evidence that contradicts the layout is no evidence. */
    w = make_filtered(FILTERED "}", SURVEYED("shard-hashed", ""));
    refuse(w, DR_CORRUPT, "shard-hashed");
}

static void steps_refer_to_the_filter_and_the_hash_covers_it(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED "}", SURVEYED("indexed", ",\"index\":\"status_1\""));
    make_plain(w);
    plan_ok(w);
    expect_steps(w, true,
                 "1 1 w0 30 erase acme.orders by index status_1 on a\n"
                 "  + {\"archive\":true,\"range\":{\"access\":\"index\",\"collection\":"
                 "\"acme.orders\",\"epoch\":7,\"index\":\"status_1\",\"node\":\"a\",\"spec\":"
                 "\"request\"}}\n"
                 "  - {\"do\":\"restore\"}\n  ! NULL\n"
                 "2 1 w1 0 verify acme.orders by index status_1 on a\n"
                 "  + {\"range\":{\"access\":\"index\",\"collection\":\"acme.orders\",\"epoch\":7,"
                 "\"index\":\"status_1\",\"node\":\"a\",\"spec\":\"request\"}}\n"
                 "  - {\"do\":\"nothing\"}\n  ! NULL\n");
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_INDEXED);
    uint64_t hash = dr_plan_hash(w->plan);
    free_world(w);
    w = make_filtered(ORDERS ",\"filter\":{\"status\":\"new\"}}",
                      SURVEYED("indexed", ",\"index\":\"status_1\""));
    make_plain(w);
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    free_world(w);
}

static void reading_everything_needs_consent(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED "}", SURVEYED("scan", ""));
    refuse(w, DR_REFUSED, "evidence, so scan (low) would go through 300 documents on 2 shards");
    w = make_filtered(FILTERED "}", SURVEYED("scan", ""));
    make_plain(w);
    refuse(w, DR_REFUSED, "on 1 shard.");
    w = make_filtered(FILTERED "}", SURVEYED("broadcast", ",\"index\":\"status_1\""));
    refuse(w, DR_REFUSED, "--allow-scan");
    w = make_filtered(FILTERED ",\"allow_scan\":true}", SURVEYED("scan", ""));
    plan_ok(w);
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_FULL_SCAN);
    expect_steps(w, false,
                 "1 1 w0 10? erase acme.orders chunk [MinKey, 10) on a\n"
                 "2 1 w0 10? erase acme.orders chunk [10, 20) on b\n"
                 "3 1 w0 10? erase acme.orders chunk [20, MaxKey) on a\n"
                 "4 1 w1 0 verify acme.orders chunk [MinKey, 10) on a\n"
                 "5 1 w2 0 verify acme.orders chunk [10, 20) on b\n"
                 "6 1 w3 0 verify acme.orders chunk [20, MaxKey) on a\n");
    free_world(w);
}

static void a_broadcast_is_one_walk_through_the_router(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED ",\"allow_scan\":true}",
                                    SURVEYED("broadcast", ",\"index\":\"status_1\""));
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 w0 30 erase acme.orders by index status_1 on a\n"
                 "2 1 w1 0 verify acme.orders by index status_1 on a\n");
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_BROADCAST);
    free_world(w);
}

static void a_filter_that_matches_all_needs_consent(void **state)
{
    (void)state;
    static const char extra[] = SURVEYED("shard-range", "");
    struct world *w = make_filtered(FILTERED "}", extra);
    w->collection[ORDERS_AT].rows_matched = 300;
    refuse(w, DR_REFUSED, "matches every document (300)");
    w = make_filtered(FILTERED ",\"whole_collection\":true}", extra);
    w->collection[ORDERS_AT].rows_matched = 300;
    plan_ok(w);
    assert_int_equal(dr_plan_estimated(w->plan), 300);
    free_world(w);
}

static void a_survey_without_evidence_is_not_guessed_at(void **state)
{
    (void)state;
    refuse(make_filtered(FILTERED ",\"allow_scan\":true}", NO_EXTRA), DR_CORRUPT, "acme.orders");
    refuse(make_filtered(FILTERED ",\"allow_scan\":true}", SURVEYED("magic", "")), DR_CORRUPT,
           "magic");
    refuse(make_filtered(FILTERED ",\"allow_scan\":true}", SURVEYED("broadcast", "")), DR_CORRUPT,
           "broadcast"); /* by which index? */
}

/* Completed shards were completed by another filter, or by none. */
static void status_documents_do_not_narrow_a_filter(void **state)
{
    (void)state;
    struct world *w = make_filtered(
        FILTERED "}", "{\"collections\":{\"acme.orders\":{\"completed\":{\"a\":\"t\"},\"filter\":"
                      "{\"use\":\"shard-range\",\"why\":\"evidence\"}}}}");
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 6);
    free_world(w);
}

static void a_temporary_index_is_made_before_and_removed_behind(void **state)
{
    (void)state;
    struct world *w = make_filtered(ORDERS ",\"filter\":{\"$and\":[{\"$or\":[{\"x\":1}]},{\"a.b\":1"
                                           "}]},\"temp_index\":true,\"stop_balancer\":true}",
                                    SURVEYED("scan", ""));
    plan_ok(w);
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_BROADCAST);
    assert_has(dr_plan_part_at(w->plan, 0)->why, "temporary index on (a.b)");
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    bool has = false;
    char index[64] = "";
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
    assert_int_equal(s.stage, 0);
    const char *name = strstr(s.query, "drover_tmp_");
    assert_non_null(name);
    (void)snprintf(index, sizeof index, "%.*s", (int)strcspn(name, "\""), name);
    assert_has(s.query, "{\"db\":\"acme\",\"command\":{\"createIndexes\":\"orders\",\"indexes\":[{"
                        "\"key\":{\"a.b\":1},\"name\":\"drover_tmp_");
    assert_has(s.cleanup, "{\"db\":\"acme\",\"command\":{\"dropIndexes\":\"orders\",\"index\":");
    assert_has(s.cleanup, index);
    assert_string_equal(s.cleanup, s.rollback_query);
    assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
    assert_has(s.title, "stop balancing acme.orders");
    assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
    assert_has(s.query, index);
    dr_plan_end(it);
    assert_int_equal(dr_plan_step_count(w->plan), 6); /* 2 prepare, erase, verify, 2 tidy */
    free_world(w);
}

static void a_temporary_index_is_not_made_where_it_helps_nobody(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED ",\"temp_index\":true}", SURVEYED("shard-range", ""));
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 6);
    free_world(w);
    w = make_filtered(FILTERED ",\"temp_index\":true,\"allow_scan\":true}",
                      SURVEYED("broadcast", ",\"index\":\"status_1\",\"has_index\":true"));
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    free_world(w);
    w = make_filtered(ORDERS ",\"filter\":{\"$or\":[{\"a\":1},{\"b\":1}]},\"temp_index\":true}",
                      SURVEYED("scan", ""));
    refuse(w, DR_REFUSED, "no index can serve this filter");
    w = make_filtered(FILTERED ",\"temp_index\":true}", SURVEYED("scan", ""));
    w->can = CAN_ALL & ~(uint32_t)DR_CAN_COMMAND;
    refuse(w, DR_UNSUPPORTED, "cannot make a temporary index");
}

static void the_filter_is_shown(void **state)
{
    (void)state;
    struct world *w = make_filtered(FILTERED "}", SURVEYED("shard-range", ""));
    struct dr_str out;
    dr_str_init(&out);
    plan_ok(w);
    assert_int_equal(dr_plan_print(w->plan, true, 0, &out, &w->err), DR_OK);
    assert_has(dr_str_text(&out), "where {\"status\":\"old\"}\n");
    dr_str_fini(&out);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_on_the_shard_key_takes_only_the_surveyed_chunks),
        cmocka_unit_test(a_filter_on_a_hashed_key_goes_by_hash),
        cmocka_unit_test(steps_refer_to_the_filter_and_the_hash_covers_it),
        cmocka_unit_test(reading_everything_needs_consent),
        cmocka_unit_test(a_broadcast_is_one_walk_through_the_router),
        cmocka_unit_test(a_filter_that_matches_all_needs_consent),
        cmocka_unit_test(a_survey_without_evidence_is_not_guessed_at),
        cmocka_unit_test(status_documents_do_not_narrow_a_filter),
        cmocka_unit_test(a_temporary_index_is_made_before_and_removed_behind),
        cmocka_unit_test(a_temporary_index_is_not_made_where_it_helps_nobody),
        cmocka_unit_test(the_filter_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
