/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of what plan/ writes: the codec of a step's command, the table for people, the JSON.
 */
#include "unit/plan_world.h"

/* --- codec ----------------------------------------------------------------------------------- */

static void spec_survives_text_and_back(void **state)
{
    (void)state;
    struct world *w = make_world("purge");
    const struct dr_value odd[] = {min_key,
                                   max_key,
                                   {.type = DR_V_NULL},
                                   num(INT64_MIN),
                                   {.type = DR_V_REAL, .r = 0.1},
                                   {.type = DR_V_REAL, .r = -1e300},
                                   {.type = DR_V_TEXT, .data = "a\0\"\xff\n", .len = 5},
                                   {.type = DR_V_BLOB, .data = "\x00\xfe", .len = 2}};
    struct dr_erase_spec spec = {.with_archive = true};
    spec.range = (struct dr_range){.node = "s\"1",
                                   .collection = "acme.b\xc3\xbc"
                                                 "cher",
                                   .access = DR_BY_SHARD_RANGE,
                                   .key_count = DR_KEY_PARTS_MAX,
                                   .epoch = INT64_MAX,
                                   .filter = filter(w, "{\"a\": {\"in\": [1, 0.5, \"x\"]}}")};
    spec.range.from.parts = spec.range.upto.parts = DR_KEY_PARTS_MAX;
    for (int i = 0; i < DR_KEY_PARTS_MAX; i++) {
        spec.range.key[i] = "field";
        spec.range.from.part[i] = odd[i];
        spec.range.upto.part[i] = odd[DR_KEY_PARTS_MAX - 1 - i];
    }
    struct dr_erase_spec back;
    char *text = dr_erase_spec_text(&spec);
    assert_non_null(text);
    assert_int_equal(dr_erase_spec_parse(text, w->arena, &back, &w->err), DR_OK);
    assert_true(back.with_archive);
    assert_string_equal(back.range.node, spec.range.node);
    assert_string_equal(back.range.collection, spec.range.collection);
    assert_true(back.range.epoch == spec.range.epoch);
    assert_int_equal(back.range.key_count, DR_KEY_PARTS_MAX);
    assert_int_equal(dr_bound_compare(&back.range.from, &spec.range.from), 0);
    assert_int_equal(dr_bound_compare(&back.range.upto, &spec.range.upto), 0);
    char *again = dr_erase_spec_text(&back);
    assert_string_equal(again, text);
    dr_free(again);
    dr_free(text);
    free_world(w);
}

static void spec_that_is_wrong_says_where(void **state)
{
    (void)state;
#define RANGE "{\"node\":\"s1\",\"collection\":\"a.b\",\"access\":\"scan\",\"epoch\":1}"
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "step:1"},
        {"[]", "step"},
        {"{}", "range"},
        {"{\"range\": 5}", "range"},
        {"{\"range\": " RANGE ", \"archive\": \"no\"}", "archive"},
        {"{\"range\": " RANGE ", \"archiv\": true}", "archiv"},
        {"{\"range\": {\"node\": \"s1\"}}", "step.range"},
    };
    struct dr_arena *a = dr_arena_create(1024);
    struct dr_erase_spec spec;
    struct dr_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(dr_erase_spec_parse(cases[i].text, a, &spec, &err), DR_INPUT);
        assert_has(err.msg, cases[i].part);
    }
    assert_int_equal(dr_erase_spec_parse("{\"range\": " RANGE "}", a, &spec, &err), DR_OK);
    assert_true(spec.with_archive); /* not asked for in words: the undo is kept */
    assert_int_equal(
        dr_erase_spec_parse("{\"range\": " RANGE ", \"archive\": false}", a, &spec, &err), DR_OK);
    assert_false(spec.with_archive);
    dr_arena_destroy(a);
}

static void step_kinds_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < DR_STEP_KIND_COUNT; i++) {
        enum dr_step_kind kind = DR_STEP_KIND_COUNT;
        assert_true(dr_step_kind_parse(dr_step_kind_name((enum dr_step_kind)i), &kind));
        assert_int_equal(kind, i);
    }
    enum dr_step_kind kind;
    assert_false(dr_step_kind_parse("eras", &kind));
}

/* --- output ---------------------------------------------------------------------------------- */

static void print_plan(struct world *w, bool is_dry_run, uint64_t steps_max, struct dr_str *text)
{
    dr_str_init(text);
    assert_int_equal(dr_plan_print(w->plan, is_dry_run, steps_max, text, &w->err), DR_OK);
}

static void print_is_aligned_and_hides_secrets(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    w->request.store_url = "mongodb://me:hunter2@db/acme";
    w->request.tuning.rate_items_s = 100;
    w->request.tuning.batch_items_max = 10000;
    w->chunk[0][0].rows = 1234567;
    w->collection[0].rows_total = 1234667;
    w->collection[1].warning = "has\x1b[31m colours";
    plan_ok(w);
    struct dr_str text;
    print_plan(w, true, 3, &text);
    char expected[4096];
    (void)snprintf(
        expected, sizeof expected,
        "DRY RUN - nothing is touched\n"
        "tenant.drop of acme on mongodb://me:***@db/acme\n"
        "\n"
        "COLLECTION     STRATEGY      EFFICIENCY  STEPS   TO ERASE   OF TOTAL\n"
        "acme.events    shard-hashed  medium          4  1,234,667  1,234,667\n"
        "    why: hash-sharded by (user): one step per chunk, 2 chunks on 2 nodes\n"
        "acme.orders    shard-range   high            6        300        300\n"
        "    why: range-sharded by (customer): one step per chunk, 3 chunks on 2 nodes\n"
        "    warning: has?[31m colours\n"
        "acme.settings  shard-range   high            2          5          5\n"
        "    why: unsharded: walks the primary key on s1\n"
        "\n"
        "#  STAGE  NODE  STEP                                                  ITEMS  UNDO\n"
        "1      1  s1    erase acme.events hashed chunk [MinKey, 0) on s1  1,234,567  from the "
        "archive\n"
        "2      1  s2    erase acme.events hashed chunk [0, MaxKey) on s2        100  from the "
        "archive\n"
        "3      1  s1    erase acme.orders chunk [MinKey, 10) on s1              100  from the "
        "archive\n"
        "   ... and 9 more\n"
        "\n"
        "total: 12 steps, 1,234,972 of 1,234,972 items to erase\n"
        "undo: from the archive, kept 30 days\n"
        "speed: at most 100 items/s: 3h 25m 49s or longer; 1 step at once per node, batches of up "
        "to 10,000\n"
        "plan hash: %016llx\n",
        (unsigned long long)dr_plan_hash(w->plan));
    assert_string_equal(dr_str_text(&text), expected);
    dr_str_fini(&text);
    free_world(w);
}

static void print_says_what_cannot_be_undone(void **state)
{
    (void)state;
    struct world *w = make_purge("settings", "{\"status\": 5}");
    struct dr_str text;
    w->request.irreversible = true;
    w->request.allow_scan = true;
    w->request.note = "ticket 5";
    w->chunk[2][0].is_rows_known = false;
    plan_ok(w);
    print_plan(w, false, 0, &text);
    assert_memory_equal(dr_str_text(&text), "PLAN\npurge of acme.settings", 24);
    assert_has(dr_str_text(&text), "note: ticket 5\n");
    assert_has(dr_str_text(&text), "where status = 5\n");
    assert_has(dr_str_text(&text), "  NONE\n");
    assert_has(dr_str_text(&text), ">= 1 of 5 items");
    assert_has(dr_str_text(&text), "IRREVERSIBLE: point of no return is step 1\n");
    assert_null(strstr(dr_str_text(&text), "more\n"));
    dr_str_fini(&text);
    free_world(w);

    w = make_world("tenant.drop");
    for (int i = 0; i < 3; i++) {
        w->collection[i].chunk_count = 0;
    }
    plan_ok(w);
    print_plan(w, true, 0, &text);
    assert_has(dr_str_text(&text), "nothing to do: 0 steps\n");
    dr_str_fini(&text);
    free_world(w);
}

static void print_cuts_titles_at_a_character(void **state)
{
    (void)state;
    char name[400] = "acme.";
    struct dr_str text;
    struct world *w = make_world("tenant.drop");
    for (size_t i = 5; i + 2 < sizeof name; i += 2) {
        memcpy(name + i, "\xc3\xbc", 3);
    }
    w->survey.collection = &w->collection[2];
    w->survey.collection_count = 1;
    w->collection[2].name = name;
    plan_ok(w);
    print_plan(w, true, 0, &text);
    const char *cut = strstr(dr_str_text(&text), "\xc3\xbc...");
    const char *title = strstr(dr_str_text(&text), "erase acme.");
    assert_non_null(cut); /* after a whole character */
    assert_non_null(title);
    assert_int_equal(cut + 2 - title, 11 + 2 * (90 - 11 - 3)); /* the column is full */
    assert_has(cut, "...      5  from the archive\n");
    dr_str_fini(&text);
    free_world(w);
}

static void json_has_parts_totals_and_steps(void **state)
{
    (void)state;
    struct world *w = make_purge("settings", "{\"status\": 5}");
    json_t *j = NULL;
    char hash[17];
    w->request.store_url = "mongodb://me:hunter2@db/acme";
    w->request.allow_scan = true;
    w->request.irreversible = true;
    plan_ok(w);
    assert_int_equal(dr_plan_to_json(w->plan, false, &j, &w->err), DR_OK);
    assert_string_equal(json_string_value(json_object_get(j, "kind")), "purge");
    assert_string_equal(json_string_value(json_object_get(j, "target")), "acme.settings");
    assert_null(strstr(json_string_value(json_object_get(j, "store")), "hunter2"));
    (void)snprintf(hash, sizeof hash, "%016llx", (unsigned long long)dr_plan_hash(w->plan));
    assert_string_equal(json_string_value(json_object_get(j, "hash")), hash);
    assert_int_equal(json_integer_value(json_object_get(j, "no_return")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "steps")), 2);
    assert_int_equal(json_integer_value(json_object_get(j, "estimated")), 1);
    assert_true(json_is_true(json_object_get(j, "irreversible")));
    const json_t *part = json_array_get(json_object_get(j, "parts"), 0);
    assert_string_equal(json_string_value(json_object_get(part, "strategy")), "scan");
    assert_string_equal(json_string_value(json_object_get(part, "efficiency")), "low");
    assert_null(json_object_get(j, "step_list"));
    json_decref(j);
    assert_int_equal(dr_plan_to_json(w->plan, true, &j, &w->err), DR_OK);
    const json_t *steps = json_object_get(j, "step_list");
    assert_int_equal(json_array_size(steps), 2);
    assert_true(json_is_null(json_object_get(json_array_get(steps, 0), "rollback_query")));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(steps, 1), "wait_for")), 1);
    json_decref(j);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spec_survives_text_and_back),
        cmocka_unit_test(spec_that_is_wrong_says_where),
        cmocka_unit_test(step_kinds_have_names),
        cmocka_unit_test(print_is_aligned_and_hides_secrets),
        cmocka_unit_test(print_says_what_cannot_be_undone),
        cmocka_unit_test(print_cuts_titles_at_a_character),
        cmocka_unit_test(json_has_parts_totals_and_steps),
    };
    return cmocka_run_group_tests_name("plan_text", tests, NULL, NULL);
}
