/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of plan/: which steps a request becomes, what is refused, and that a plan is stable,
 * small and honest about missing memory. The test of memory comes first: it reads the peak of the
 * whole process. */
#include <sys/resource.h>

#include "unit/plan_world.h"

/* --- strategies ------------------------------------------------------------------------------ */

static void drop_walks_every_chunk_and_verifies_it(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 erase w0 100 erase acme.events hashed chunk [MinKey, 0) on s1\n"
                 "2 1 erase w0 100 erase acme.events hashed chunk [0, MaxKey) on s2\n"
                 "3 1 erase w0 100 erase acme.orders chunk [MinKey, 10) on s1\n"
                 "4 1 erase w0 100 erase acme.orders chunk [10, 20) on s2\n"
                 "5 1 erase w0 100 erase acme.orders chunk [20, MaxKey) on s1\n"
                 "6 1 erase w0 5 erase acme.settings on s1\n"
                 "7 3 verify w1 0 verify acme.events hashed chunk [MinKey, 0) on s1\n"
                 "8 3 verify w2 0 verify acme.events hashed chunk [0, MaxKey) on s2\n"
                 "9 3 verify w3 0 verify acme.orders chunk [MinKey, 10) on s1\n"
                 "10 3 verify w4 0 verify acme.orders chunk [10, 20) on s2\n"
                 "11 3 verify w5 0 verify acme.orders chunk [20, MaxKey) on s1\n"
                 "12 3 verify w6 0 verify acme.settings on s1\n");
    assert_int_equal(dr_plan_step_count(w->plan), 12);
    assert_int_equal(dr_plan_estimated(w->plan), 505);
    assert_int_equal(dr_plan_no_return(w->plan), 0);
    assert_int_equal(dr_plan_part_at(w->plan, 0)->strategy, DR_BY_CHUNK_HASHED);
    assert_int_equal(dr_plan_part_at(w->plan, 1)->strategy, DR_BY_CHUNK_RANGE);
    assert_string_equal(dr_plan_part_at(w->plan, 2)->why, "unsharded: walks the primary key on s1");
    assert_string_equal(dr_strategy_efficiency(dr_plan_part_at(w->plan, 2)->strategy), "high");
    free_world(w);
}

static void step_texts_are_exact(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    static const char *names[] = {"settings"};
    w->request.u.tenant_drop.collection = names;
    w->request.u.tenant_drop.collection_count = 1;
    w->request.u.tenant_drop.drop_when_empty = true;
    w->collection[2].drop_text = "DROP TABLE \"acme.settings\"";
    w->collection[2].create_text = "CREATE TABLE \"acme.settings\"(id)";
    plan_ok(w);
    expect_steps(w, true,
                 "1 1 erase w0 5 erase acme.settings on s1\n"
                 "  + {\"archive\":true,\"range\":{\"access\":\"scan\",\"collection\":"
                 "\"acme.settings\",\"epoch\":7,\"node\":\"s1\"}}\n"
                 "  - {\"do\":\"restore\"}\n  ! NULL\n"
                 "2 3 verify w1 0 verify acme.settings on s1\n"
                 "  + {\"range\":{\"access\":\"scan\",\"collection\":"
                 "\"acme.settings\",\"epoch\":7,\"node\":\"s1\"}}\n"
                 "  - {\"do\":\"nothing\"}\n  ! NULL\n"
                 "3 5 command w0 0 drop empty acme.settings on s1\n"
                 "  + DROP TABLE \"acme.settings\"\n"
                 "  - CREATE TABLE \"acme.settings\"(id)\n  ! NULL\n");
    free_world(w);
}

static void referred_collections_come_after_those_that_refer(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    for (int i = 0; i < 3; i++) {
        w->collection[i].drop_text = "DROP TABLE \"x\"";
        w->collection[i].create_text = "CREATE TABLE \"x\"(id)";
    }
    w->survey.collection = &w->collection[1];
    w->survey.collection_count = 2;
    w->collection[1].has_reference = true;
    w->chunk[1][0].upto = bound1(max_key);
    w->collection[1].chunk_count = 1;
    w->request.u.tenant_drop.drop_when_empty = true;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 erase w0 5 erase acme.settings on s1\n"
                 "2 2 erase w0 100 erase acme.orders chunk [MinKey, MaxKey) on s1\n"
                 "3 3 verify w2 0 verify acme.orders chunk [MinKey, MaxKey) on s1\n"
                 "4 3 verify w1 0 verify acme.settings on s1\n"
                 "5 5 command w0 0 drop empty acme.settings on s1\n"
                 "6 6 command w0 0 drop empty acme.orders on s1\n"
                 "7 6 command w0 0 drop empty acme.orders on s2\n");
    assert_has(dr_plan_part_at(w->plan, 0)->warning, "refer to it");
    free_world(w);
}

static void purge_by_shard_key_takes_only_chunks_that_can_match(void **state)
{
    (void)state;
    struct world *w = make_purge("orders", "{\"customer\": {\"ge\": 12, \"lt\": 20}}");
    plan_ok(w);
    expect_steps(w, true,
                 "1 1 erase w0 1 erase acme.orders chunk [10, 20) on s2\n"
                 "  + {\"archive\":true,\"range\":{\"access\":\"shard-range\",\"collection\":"
                 "\"acme.orders\",\"epoch\":7,\"filter\":{\"customer\":{\"ge\":12,\"lt\":20}},"
                 "\"from\":[10],\"key\":[\"customer\"],\"node\":\"s2\",\"upto\":[20]}}\n"
                 "  - {\"do\":\"restore\"}\n  ! NULL\n"
                 "2 3 verify w1 0 verify acme.orders chunk [10, 20) on s2\n"
                 "  + {\"range\":{\"access\":\"shard-range\",\"collection\":"
                 "\"acme.orders\",\"epoch\":7,\"filter\":{\"customer\":{\"ge\":12,\"lt\":20}},"
                 "\"from\":[10],\"key\":[\"customer\"],\"node\":\"s2\",\"upto\":[20]}}\n"
                 "  - {\"do\":\"nothing\"}\n  ! NULL\n");
    expect_part(w, DR_BY_CHUNK_RANGE, "1 of 3 chunks");
    free_world(w);

    static const struct {
        const char *json;
        uint64_t chunks;
    } cases[] = {
        {"{\"customer\": 10}", 1},
        {"{\"customer\": {\"lt\": 10}}", 1},
        {"{\"customer\": {\"le\": 10}}", 2},
        {"{\"customer\": {\"gt\": 19.5}}", 2}, /* 19.7 is below 20 */
        {"{\"customer\": {\"in\": [1, 25]}}", 2},
        {"{\"customer\": \"text\"}", 1},            /* behind all numbers */
        {"{\"customer\": {\"lt\": \"text\"}}", 1},  /* no number is less than a text */
        {"{\"customer\": {\"is_null\": true}}", 1}, /* the chunk that starts at MIN */
        {"{\"customer\": {\"ne\": 3}, \"customer2\": 1}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        w = make_purge("orders", cases[i].json);
        if (cases[i].chunks == 0) {
            refuse(w, DR_REFUSED, "allow_scan");
        } else {
            plan_ok(w);
            assert_int_equal(dr_plan_step_count(w->plan), 2 * cases[i].chunks);
        }
        free_world(w);
    }
}

static void purge_by_hashed_key_takes_the_chunk_of_the_hash(void **state)
{
    (void)state;
    struct world *w = make_purge("events", "{\"user\": 42}");
    const struct dr_value v = num(42);
    const char *node = dr_value_hash(&v) < 0 ? "s1" : "s2";
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, false, &text);
    assert_has(dr_str_text(&text), node);
    dr_str_fini(&text);
    expect_part(w, DR_BY_CHUNK_HASHED, "1 of 2 chunks");
    w->request.u.purge.filter = filter(w, "{\"user\": {\"gt\": 42}}"); /* a hash has no order */
    refuse(w, DR_REFUSED, "allow_scan");
    free_world(w);
}

static void purge_by_index_prefers_unique_then_more_fields(void **state)
{
    (void)state;
    static const struct {
        const char *json, *index;
    } cases[] = {
        {"{\"status\": {\"lt\": 5}}", "a_one"}, /* by name; the partial one never */
        {"{\"status\": 5, \"kind\": 3}", "z_two"},
        {"{\"status\": 5, \"kind\": 3, \"email\": {\"in\": [\"a\"]}}", "uniq"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = make_purge("orders", cases[i].json);
        add_indexes(w, 1);
        plan_ok(w);
        expect_part(w, DR_BY_INDEXED, cases[i].index);
        assert_int_equal(dr_plan_step_count(w->plan), 4); /* two nodes */
        free_world(w);
    }
    struct world *w = make_purge("orders", "{\"status\": 5}");
    add_indexes(w, 1);
    w->chunk[1][2].is_rows_known = false;
    plan_ok(w);
    expect_steps(w, false,
                 "1 1 erase w0 2? erase acme.orders by index a_one on s1\n"
                 "2 1 erase w0 1 erase acme.orders by index a_one on s2\n"
                 "3 3 verify w1 0 verify acme.orders by index a_one on s1\n"
                 "4 3 verify w2 0 verify acme.orders by index a_one on s2\n");
    free_world(w);
}

static void temporary_index_is_made_used_and_removed(void **state)
{
    (void)state;
    struct world *w = make_purge("settings", "{\"a\\\"b\": {\"lt\": 5}, \"note\": {\"ne\": 1}}");
    w->request.u.purge.temp_index = true;
    w->collection[2].drop_text = "DROP TABLE \"acme.settings\";";
    plan_ok(w);
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, true, &text);
    const char *name = strstr(dr_str_text(&text), "drover_tmp_acme_settings_");
    assert_non_null(name);
    char expected[2048];
    int length = (int)strcspn(name, "\"");
    assert_int_equal(length, (int)strlen("drover_tmp_acme_settings_") + 16);
    (void)snprintf(expected, sizeof expected,
                   "1 0 command w0 0 create temporary index on acme.settings on s1\n"
                   "  + CREATE INDEX IF NOT EXISTS \"%.*s\" ON \"acme.settings\"(\"a\"\"b\")\n"
                   "  - DROP INDEX IF EXISTS \"%.*s\"\n  ! DROP INDEX IF EXISTS \"%.*s\"\n"
                   "2 1 erase w1 0 erase acme.settings by index %.*s on s1\n",
                   length, name, length, name, length, name, length, name);
    assert_memory_equal(dr_str_text(&text), expected, strlen(expected));
    (void)snprintf(expected, sizeof expected,
                   "3 3 verify w2 0 verify acme.settings by index %.*s on s1\n", length, name);
    assert_has(dr_str_text(&text), expected);
    (void)snprintf(expected, sizeof expected,
                   "4 4 command w3 0 drop temporary index on acme.settings on s1\n"
                   "  + DROP INDEX IF EXISTS \"%.*s\"\n  - {\"do\":\"nothing\"}\n  ! NULL\n",
                   length, name);
    assert_has(dr_str_text(&text), expected);
    dr_str_fini(&text);
    expect_part(w, DR_BY_INDEXED, "temporary index on (a\"b)");
    w->collection[2].drop_text = NULL;
    refuse(w, DR_UNSUPPORTED, "temporary");
    free_world(w);
}

static void reading_everything_needs_consent(void **state)
{
    (void)state;
    struct world *w = make_purge("orders", "{\"total\": {\"lt\": 50}}");
    refuse(w, DR_REFUSED, "broadcast would read all 300 rows on 2 nodes (low, expensive)");
    assert_has(w->err.msg, "allow_scan");
    assert_has(w->err.msg, "create an index on total");
    assert_has(w->err.msg, "temp_index");
    w->request.allow_scan = true;
    plan_ok(w);
    expect_part(w, DR_BY_BROADCAST, "asks 2 nodes");
    expect_steps(w, false,
                 "1 1 erase w0 2 erase acme.orders by reading all on s1\n"
                 "2 1 erase w0 1 erase acme.orders by reading all on s2\n"
                 "3 3 verify w1 0 verify acme.orders by reading all on s1\n"
                 "4 3 verify w2 0 verify acme.orders by reading all on s2\n");
    w->request.u.purge.collection = "settings";
    plan_ok(w);
    expect_part(w, DR_BY_FULL_SCAN, "every row on s1");
    free_world(w);
}

/* --- guards ---------------------------------------------------------------------------------- */

static void views_system_and_triggers_are_refused_by_name(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    static const char *names[] = {"orders"};
    w->collection[1].has_triggers = true;
    refuse(w, DR_REFUSED, "acme.orders has triggers");
    w->request.u.tenant_drop.collection = names;
    w->request.u.tenant_drop.collection_count = 1;
    refuse(w, DR_REFUSED, "trigger");
    w->collection[1].has_triggers = false;
    w->collection[1].is_view = true;
    refuse(w, DR_REFUSED, "acme.orders is a view");
    w->collection[1].is_view = false;
    w->collection[1].is_system = true;
    refuse(w, DR_REFUSED, "acme.orders belongs to the database system");
    names[0] = "nothere";
    refuse(w, DR_NOT_FOUND, "acme.nothere");
    names[0] = "acme.orders";
    refuse(w, DR_NOT_FOUND, "acme.acme.orders");
    free_world(w);
}

static void drop_of_all_skips_views_and_says_so(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    w->collection[0].is_view = true;
    w->collection[1].is_system = true;
    w->collection[1].has_triggers = true; /* of no matter: it is left alone */
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2);
    assert_int_equal(dr_plan_estimated(w->plan), 5);
    assert_int_equal(dr_plan_part_count(w->plan), 3);
    assert_has(dr_plan_part_at(w->plan, 0)->warning, "view");
    assert_has(dr_plan_part_at(w->plan, 1)->warning, "left alone");
    w->collection[2].chunk_count = 0;
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 0);
    assert_has(dr_plan_part_at(w->plan, 2)->warning, "no chunk");
    w->survey.collection_count = 2;
    refuse(w, DR_NOT_FOUND, "no collection to erase");
    w->survey.collection_count = 0;
    refuse(w, DR_NOT_FOUND, "no collection to erase");
    free_world(w);
}

static void filters_that_say_too_much_or_nonsense_are_refused(void **state)
{
    (void)state;
    struct world *w = make_purge("orders", "{\"customer\": {\"ge\": 0}}");
    w->collection[1].rows_matched = w->collection[1].rows_total;
    refuse(w, DR_REFUSED, "every row");
    w->request.whole_collection = true;
    plan_ok(w);
    w->collection[1].warning = "one count failed; has no field \"customr\"";
    refuse(w, DR_INPUT, "acme.orders has no field \"customr\"");
    w->collection[1].warning = NULL;
    w->request.u.purge.collection = "nothere";
    refuse(w, DR_NOT_FOUND, "acme.nothere");
    static const struct dr_filter empty = {0};
    w->request.u.purge.collection = "orders";
    w->request.u.purge.filter = &empty;
    refuse(w, DR_REFUSED, "empty filter");
    w->request.u.purge.filter = filter(w, "{\"customer\": {\"ge\": 0}}");
    w->request.whole_collection = false;
    w->collection[1].rows_total = 0; /* an empty collection matches nothing, not everything */
    w->collection[1].rows_matched = 0;
    plan_ok(w);
    free_world(w);
}

static void max_items_counts_the_smaller_limit(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    w->request.max_items = 504;
    refuse(w, DR_REFUSED, "max_items allows 504");
    assert_has(w->err.msg, "505");
    w->request.max_items = 505;
    plan_ok(w);
    w->request.tuning.max_items = 100;
    refuse(w, DR_REFUSED, "max_items allows 100");
    w->request.max_items = 0;
    refuse(w, DR_REFUSED, "max_items allows 100");
    w->request.tuning.max_items = 0;
    w->chunk[0][0].rows = 0; /* its count failed: the collection's own count stands in */
    w->chunk[0][0].is_rows_known = false;
    plan_ok(w);
    assert_int_equal(dr_plan_estimated(w->plan), 505);
    free_world(w);
}

static void what_the_store_cannot_is_said(void **state)
{
    (void)state;
    static const struct {
        uint32_t bit;
        const char *part;
    } cases[] = {
        {DR_CAN_SCAN, "acme.settings: this store cannot walk a whole"},
        {DR_CAN_SHARD_RANGE, "acme.orders: this store cannot walk chunks of a range"},
        {DR_CAN_SHARD_HASHED, "acme.events: this store cannot walk chunks of a hashed"},
        {DR_CAN_RESTORE, "\"irreversible\""},
        {DR_CAN_COMMAND, "\"drop_when_empty\""},
    };
    struct world *w = make_world("tenant.drop");
    for (int i = 0; i < 3; i++) {
        w->collection[i].drop_text = "DROP TABLE \"x\"";
        w->collection[i].create_text = "CREATE TABLE \"x\"(id)";
    }
    w->request.u.tenant_drop.drop_when_empty = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t can = (uint32_t)CAN_ALL & ~cases[i].bit;
        struct dr_plan *p = NULL;
        assert_int_equal(dr_plan_make(&w->request, &w->survey, can, &p, &w->err), DR_UNSUPPORTED);
        assert_null(p);
        assert_has(w->err.msg, cases[i].part);
    }
    w->collection[2].create_text = NULL;
    refuse(w, DR_REFUSED, "acme.settings: the store does not say how to create");
    w->request.irreversible = true; /* nobody will want to create it again */
    plan_ok(w);
    w->request.irreversible = false;
    w->collection[2].drop_text = NULL;
    refuse(w, DR_REFUSED, "acme.settings: the store does not say how to drop");
    w->request.kind_name = "copy";
    refuse(w, DR_UNSUPPORTED, "\"copy\"");
    free_world(w);
}

static void overlapping_chunks_are_never_planned(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    w->chunk[1][1].from = bound1(num(9));
    refuse(w, DR_CORRUPT, "chunks 1 and 2 overlap");
    w->chunk[1][1].from = (struct dr_bound){0};
    refuse(w, DR_CORRUPT, "overlap");
    w->chunk[1][1].from = bound1(num(11)); /* a hole is worked around, and told */
    plan_ok(w);
    assert_has(dr_plan_part_at(w->plan, 1)->warning, "hole");
    w->collection[2].chunk_count = 2;
    refuse(w, DR_CORRUPT, "unsharded");
    free_world(w);
}

static void irreversible_plans_name_the_point_of_no_return(void **state)
{
    (void)state;
    struct world *w = make_purge("settings", "{\"a\": 5}");
    w->request.u.purge.temp_index = true;
    w->request.irreversible = true;
    w->collection[2].drop_text = "DROP TABLE \"settings\"";
    plan_ok(w);
    assert_true(dr_plan_is_irreversible(w->plan));
    assert_int_equal(dr_plan_no_return(w->plan), 2); /* making the index can be undone */
    struct dr_str text;
    dr_str_init(&text);
    list_steps(w->plan, true, &text);
    assert_has(dr_str_text(&text), "\"archive\":false");
    assert_has(dr_str_text(&text), "  - NULL\n");
    dr_str_fini(&text);
    free_world(w);
}

/* --- stability, streaming, memory ------------------------------------------------------------ */

static void same_facts_give_the_same_plan_and_other_facts_another(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    plan_ok(w);
    uint64_t hash = dr_plan_hash(w->plan);
    w->chunk[0][0].rows = 101; /* counts drift while nothing else changes */
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) == hash);
    w->collection[0].epoch = 8;
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    w->collection[0].epoch = 7;
    w->chunk[1][1].node = "s3";
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    w->chunk[1][1].node = "s2";
    w->chunk[1][1].upto = bound1(num(19)); /* either end of a range counts */
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    w->chunk[1][1].upto = bound1(num(20));
    w->chunk[1][1].from = bound1(num(11));
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    w->chunk[1][1].from = bound1(num(10));
    w->request.irreversible = true;
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) != hash);
    w->request.irreversible = false;
    plan_ok(w);
    assert_true(dr_plan_hash(w->plan) == hash);
    free_world(w);
}

static long peak_kb(void)
{
    struct rusage use;
    assert_int_equal(getrusage(RUSAGE_SELF, &use), 0);
    return use.ru_maxrss;
}

#if defined(__has_feature) /* clang's way to say what gcc says by __SANITIZE_ADDRESS__ */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED
#endif

#if defined(IS_SANITIZED)
/* Fewer, for the time it takes; freed memory stays in quarantine, 256 MB of it. */
enum { MANY_CHUNKS = 25 * 1000, PEAK_KB_MAX = 400 * 1024 };
#else
enum { MANY_CHUNKS = 500 * 1000, PEAK_KB_MAX = 4 * 1024 }; /* an erase and a verify step each */
#endif

static void a_million_steps_take_the_memory_of_one(void **state)
{
    (void)state;
    struct world *w = make_world("tenant.drop");
    struct dr_chunk *chunk = calloc(MANY_CHUNKS, sizeof *chunk);
    assert_non_null(chunk);
    for (int i = 0; i < MANY_CHUNKS; i++) {
        chunk[i].node = i % 2 == 0 ? "s1" : "s2";
        chunk[i].from = bound1(i == 0 ? min_key : num(i));
        chunk[i].upto = bound1(i + 1 == MANY_CHUNKS ? max_key : num(i + 1));
        chunk[i].is_rows_known = true;
        chunk[i].rows = 1;
    }
    w->collection[1].chunk = chunk;
    w->collection[1].chunk_count = MANY_CHUNKS;
    w->survey.collection = &w->collection[1];
    w->survey.collection_count = 1;
    long before = peak_kb();
    plan_ok(w);
    assert_int_equal(dr_plan_step_count(w->plan), 2 * MANY_CHUNKS);
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    bool has = true;
    int64_t count = 0;
    assert_int_equal(dr_plan_begin(w->plan, &it, &w->err), DR_OK);
    while (has) {
        assert_int_equal(dr_plan_next(it, &s, &has, &w->err), DR_OK);
        if (has && s.number != ++count) {
            fail();
        }
    }
    dr_plan_end(it);
    assert_int_equal(count, 2 * MANY_CHUNKS);
    assert_true(peak_kb() - before < PEAK_KB_MAX);
    free(chunk);
    free_world(w);
}

/* --- short of memory ------------------------------------------------------------------------- */

/* Plan, walk, print and summarise; any of them may run short. */
static enum dr_code run_all(struct world *w)
{
    struct dr_str text;
    json_t *j = NULL;
    dr_str_init(&text);
    enum dr_code rc = plan(w);
    if (rc == DR_OK) {
        rc = dr_plan_print(w->plan, true, 0, &text, &w->err);
    }
    if (rc == DR_OK) {
        rc = dr_plan_to_json(w->plan, true, &j, &w->err);
    }
    json_decref(j);
    dr_str_fini(&text);
    return rc;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    struct world *w[] = {
        make_world("tenant.drop"), make_purge("orders", "{\"customer\": {\"in\": [1, 2, 30]}}"),
        make_purge("orders", "{\"status\": 5}"), make_purge("settings", "{\"status\": 5}")};
    add_indexes(w[2], 1);
    w[3]->request.u.purge.temp_index = true;
    w[3]->collection[2].drop_text = "DROP TABLE \"x\"";
    w[0]->collection[1].has_reference = true;
    w[0]->collection[1].warning = "careful";
    json_set_alloc_funcs(dr_malloc, dr_free);
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        enum dr_code rc = DR_NOMEM;
        uint64_t n = 0;
        while (rc != DR_OK && n < 100000) {
            (void)dr_mem_fail_at(++n);
            rc = run_all(w[i]);
            if (rc != DR_OK) {
                assert_int_equal(rc, DR_NOMEM);
                assert_has(w[i]->err.msg, "memory");
            }
        }
        (void)dr_mem_fail_at(0);
        assert_int_equal(rc, DR_OK);
        assert_true(n > 20); /* it was armed */
        free_world(w[i]);
    }
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_steps_take_the_memory_of_one),
        cmocka_unit_test(drop_walks_every_chunk_and_verifies_it),
        cmocka_unit_test(step_texts_are_exact),
        cmocka_unit_test(referred_collections_come_after_those_that_refer),
        cmocka_unit_test(purge_by_shard_key_takes_only_chunks_that_can_match),
        cmocka_unit_test(purge_by_hashed_key_takes_the_chunk_of_the_hash),
        cmocka_unit_test(purge_by_index_prefers_unique_then_more_fields),
        cmocka_unit_test(temporary_index_is_made_used_and_removed),
        cmocka_unit_test(reading_everything_needs_consent),
        cmocka_unit_test(views_system_and_triggers_are_refused_by_name),
        cmocka_unit_test(drop_of_all_skips_views_and_says_so),
        cmocka_unit_test(filters_that_say_too_much_or_nonsense_are_refused),
        cmocka_unit_test(max_items_counts_the_smaller_limit),
        cmocka_unit_test(what_the_store_cannot_is_said),
        cmocka_unit_test(overlapping_chunks_are_never_planned),
        cmocka_unit_test(irreversible_plans_name_the_point_of_no_return),
        cmocka_unit_test(same_facts_give_the_same_plan_and_other_facts_another),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
