/* SPDX-License-Identifier: Apache-2.0 */
/* Promises about looking: survey, epoch, health, count, scan. Each test is named for one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conform/conform.h"

static uint32_t seen[CONFORM_ROWS_MAX];

static void forget_seen(void)
{
    memset(seen, 0, sizeof seen);
}

/* Every row 0 .. count-1 was given `times` times. */
static void assert_all_seen(enum conform_collection of, uint32_t times)
{
    for (uint32_t n = 0; n < conform_row_count(of); n++) {
        if (seen[n] != times) {
            print_error("row %u of %s was given %u times\n", n, conform_shape(of)->name, seen[n]);
        }
        assert_int_equal(seen[n], times);
    }
}

/* ---- survey ---- */

static void survey_lists_exactly_the_collections_in_order(void **state)
{
    struct conform *c = *state;
    assert_string_equal(c->survey->database, c->f->database);
    assert_int_equal(c->survey->node_count, c->f->plain_node != NULL ? 1 : 2);
    assert_int_equal(c->survey->collection_count, C_LIMIT);
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct dr_collection *found = &c->survey->collection[of];
        assert_string_equal(found->name, conform_name(c, of));
        assert_int_equal(found->rows_total, conform_row_count(of));
        assert_int_equal(found->rows_matched, conform_row_count(of));
        assert_false(found->is_view || found->is_system || found->has_triggers ||
                     found->has_reference);
    }
}

static void survey_tells_the_layout(void **state)
{
    struct conform *c = *state;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct conform_shape *shape = conform_shape(of);
        const struct dr_collection *found = conform_collection(c, of);
        bool is_sharded = c->f->plain_node == NULL && shape->sharding != DR_UNSHARDED;
        assert_int_equal(found->sharding, is_sharded ? shape->sharding : DR_UNSHARDED);
        assert_int_equal(found->key_count, is_sharded ? shape->key_count : 0);
        assert_int_equal(found->chunk_count, is_sharded ? shape->chunk_count : 1);
        for (uint32_t i = 0; i < found->key_count; i++) {
            assert_string_equal(found->key[i], shape->key[i]);
        }
        for (uint32_t i = 0; is_sharded && i < shape->chunk_count; i++) {
            assert_string_equal(found->chunk[i].node, shape->chunk[i].node);
            struct dr_bound from = conform_bound(c, of, &shape->chunk[i].from);
            struct dr_bound upto = conform_bound(c, of, &shape->chunk[i].upto);
            assert_int_equal(dr_bound_compare(&found->chunk[i].from, &from), 0);
            assert_int_equal(dr_bound_compare(&found->chunk[i].upto, &upto), 0);
        }
        if (!is_sharded) {
            assert_string_equal(found->chunk[0].node, conform_node(c, NODE_A));
            assert_int_equal(found->chunk[0].from.parts + found->chunk[0].upto.parts, 0);
        }
    }
}

/* The rows of each chunk, counted from the data itself. */
static void count_expected(enum conform_collection of, bool (*is_wanted)(int64_t n),
                           uint64_t *rows_out)
{
    for (uint32_t n = 0; n < conform_row_count(of); n++) {
        struct conform_row row;
        conform_row(of, n, &row);
        if (is_wanted == NULL || is_wanted(n)) {
            rows_out[conform_shape(of)->chunk_count == 0 ? 0 : conform_chunk_of(&row)]++;
        }
    }
}

static bool is_dead(int64_t n)
{
    return n % 4 == 0;
}

static void assert_survey_counts(struct conform *c, const struct dr_survey *survey,
                                 enum conform_collection of, bool (*is_wanted)(int64_t n))
{
    uint64_t expected[4] = {0};
    uint64_t total = 0;
    count_expected(of, is_wanted, expected);
    const struct dr_collection *found = conform_find(survey, conform_name(c, of));
    assert_non_null(found);
    for (uint64_t i = 0; i < found->chunk_count; i++) {
        assert_true(found->chunk[i].is_rows_known);
        total += expected[i];
        if (found->sharding != DR_UNSHARDED) {
            assert_int_equal(found->chunk[i].rows, expected[i]);
        }
    }
    if (found->sharding == DR_UNSHARDED) {
        total = expected[0] + expected[1] + expected[2] + expected[3];
        assert_int_equal(found->chunk[0].rows, total);
    }
    assert_int_equal(found->rows_matched, total);
    assert_int_equal(found->rows_total, conform_row_count(of));
}

static void survey_counts_each_chunk(void **state)
{
    struct conform *c = *state;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        assert_survey_counts(c, c->survey, of, NULL);
    }
}

static void survey_counts_what_the_filter_selects(void **state)
{
    struct conform *c = *state;
    struct dr_survey *survey = NULL;
    const struct dr_filter *filter = conform_filter(c, "{\"id\": {\"lt\": 21}}");
    assert_ok(c, dr_store_survey(c->s, c->f->database, filter, &survey, &c->err));
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct dr_collection *found = conform_find(survey, conform_name(c, of));
        assert_non_null(found);
        assert_int_equal(found->rows_matched, 20);
        assert_int_equal(found->rows_total, conform_row_count(of));
    }
    dr_survey_destroy(survey);
}

static void survey_is_the_same_twice(void **state)
{
    struct conform *c = *state;
    struct dr_survey *again = NULL;
    assert_ok(c, dr_store_survey(c->s, c->f->database, NULL, &again, &c->err));
    assert_int_equal(again->node_count, c->survey->node_count);
    for (uint32_t i = 0; i < again->node_count; i++) {
        assert_string_equal(again->node[i], c->survey->node[i]);
    }
    assert_int_equal(again->collection_count, c->survey->collection_count);
    for (uint32_t i = 0; i < again->collection_count; i++) {
        const struct dr_collection *a = &again->collection[i];
        const struct dr_collection *b = &c->survey->collection[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->epoch, b->epoch);
        assert_int_equal(a->bytes_total, b->bytes_total);
        assert_int_equal(a->index_count, b->index_count);
        for (uint32_t k = 0; k < a->index_count; k++) {
            assert_string_equal(a->index[k].name, b->index[k].name);
        }
        assert_int_equal(a->chunk_count, b->chunk_count);
        for (uint64_t k = 0; k < a->chunk_count; k++) {
            assert_string_equal(a->chunk[k].node, b->chunk[k].node);
            assert_int_equal(dr_bound_compare(&a->chunk[k].from, &b->chunk[k].from), 0);
            assert_int_equal(a->chunk[k].rows, b->chunk[k].rows);
        }
    }
    dr_survey_destroy(again);
}

static void survey_of_an_unknown_database_has_no_collections(void **state)
{
    struct conform *c = *state;
    struct dr_survey *none = NULL;
    enum dr_code rc = dr_store_survey(c->s, "nosuch", NULL, &none, &c->err);
    assert_true(rc == DR_NOT_FOUND || (rc == DR_OK && none->collection_count == 0));
    assert_true(rc == DR_OK || none == NULL);
    dr_survey_destroy(none);
}

/* ---- epoch and health ---- */

static void epoch_is_the_surveyed_one_until_the_layout_changes(void **state)
{
    struct conform *c = *state;
    uint64_t epoch = 0;
    const struct dr_collection *orders = conform_collection(c, C_ORDERS);
    assert_ok(c, dr_store_epoch(c->s, orders->name, &epoch, &c->err));
    assert_int_equal(epoch, orders->epoch);
    if (c->f->bump_epoch != NULL) {
        c->f->bump_epoch(C_ORDERS);
        assert_ok(c, dr_store_epoch(c->s, orders->name, &epoch, &c->err));
        assert_int_not_equal(epoch, orders->epoch);
    }
}

static void health_of_each_node_has_a_term(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    for (uint32_t i = 0; i < c->survey->node_count; i++) {
        assert_ok(c, dr_store_health(c->s, c->survey->node[i], &health, &c->err));
        assert_true(health.is_ok);
        assert_true(health.valid_ms > 0);
    }
}

static void health_of_an_unwell_node_says_why_and_how_long_to_wait(void **state)
{
    struct conform *c = *state;
    struct dr_health health;
    if (c->f->set_health == NULL) {
        skip();
    }
    c->f->set_health(NODE_B, false);
    assert_ok(c, dr_store_health(c->s, NODE_B, &health, &c->err));
    assert_false(health.is_ok);
    assert_string_not_equal(health.reason, "");
    assert_true(health.wait_hint_ms > 0);
    assert_ok(c, dr_store_health(c->s, NODE_A, &health, &c->err));
    assert_true(health.is_ok);
    c->f->set_health(NODE_B, true);
    assert_ok(c, dr_store_health(c->s, NODE_B, &health, &c->err));
    assert_true(health.is_ok);
}

/* ---- what is not there ---- */

static bool is_not_known(enum dr_code rc)
{
    return rc == DR_INPUT || rc == DR_NOT_FOUND;
}

static void unknown_nodes_are_refused(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_scan_range(c, C_ORDERS, conform_node(c, NODE_A));
    struct dr_budget budget = conform_budget(10, true);
    struct dr_health health;
    struct dr_tally tally;
    uint64_t rows = 0;
    conform_read(c, &range, 10, true);
    range.node = "nowhere";
    assert_true(is_not_known(dr_store_health(c->s, "nowhere", &health, &c->err)));
    assert_true(is_not_known(dr_store_command(c->s, "nowhere", "drop index x", &c->err)));
    assert_true(is_not_known(dr_store_count(c->s, &range, &rows, &c->err)));
    assert_true(is_not_known(dr_store_probe(c->s, &range, c->batch, &tally, &c->err)));
    assert_true(is_not_known(dr_store_erase(c->s, &range, c->batch, &tally, &c->err)));
    assert_true(is_not_known(dr_store_restore(c->s, &range, c->batch, &tally, &c->err)));
    assert_non_null(strstr(c->err.msg, "nowhere"));
    assert_true(is_not_known(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err)));
    assert_int_equal(c->batch->count, 0);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

static void missing_collections_are_not_found(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_scan_range(c, C_ORDERS, conform_node(c, NODE_A));
    struct dr_tally tally;
    uint64_t epoch = 0;
    char name[64];
    conform_read(c, &range, 10, true);
    dr_copy_text(name, sizeof name, c->f->database);
    dr_copy_text(name + strlen(name), sizeof name - strlen(name), ".nosuch");
    range.collection = name;
    assert_int_equal(dr_store_restore(c->s, &range, c->batch, &tally, &c->err), DR_NOT_FOUND);
    assert_non_null(strstr(c->err.msg, "nosuch"));
    assert_int_equal(dr_store_epoch(c->s, name, &epoch, &c->err), DR_NOT_FOUND);
}

/* ---- scan ---- */

static void walk_whole(struct conform *c, enum conform_collection of,
                       const struct dr_budget *budget)
{
    uint64_t chunks = conform_collection(c, of)->chunk_count;
    uint64_t items = 0;
    forget_seen();
    for (uint64_t i = 0; i < chunks; i++) {
        struct dr_range range = conform_range(c, of, i);
        uint64_t rows = 0;
        uint64_t walked = conform_walk(c, &range, budget, seen, conform_row_count(of));
        assert_ok(c, dr_store_count(c->s, &range, &rows, &c->err));
        assert_int_equal(rows, walked);
        items += walked;
    }
    assert_int_equal(items, conform_row_count(of));
    assert_all_seen(of, 1);
}

static void chunks_give_each_row_exactly_once_whatever_the_budget(void **state)
{
    struct conform *c = *state;
    static const uint64_t items_max[] = {1, 3, 7, 1000, UINT64_MAX};
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        for (size_t i = 0; i < sizeof items_max / sizeof items_max[0]; i++) {
            struct dr_budget budget = conform_budget(items_max[i], i % 2 == 0);
            walk_whole(c, of, &budget);
        }
    }
}

static void a_tiny_byte_budget_still_gives_one_item(void **state)
{
    struct conform *c = *state;
    static const uint64_t bytes_max[] = {0, 1, 150};
    for (size_t i = 0; i < sizeof bytes_max / sizeof bytes_max[0]; i++) {
        struct dr_budget budget = conform_budget(1000, true);
        budget.bytes_max = bytes_max[i];
        walk_whole(c, C_ORDERS, &budget);
    }
}

static void an_elapsed_time_budget_still_makes_progress(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(1000, true);
    budget.ms_max = 0;
    walk_whole(c, C_ORDERS, &budget);
}

static void null_and_mixed_keys_lie_in_the_chunk_their_order_says(void **state)
{
    struct conform *c = *state;
    if (c->f->plain_node != NULL) {
        skip();
    }
    static const enum conform_collection all[] = {C_ORDERS, C_PAIRS, C_EVENTS};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        for (uint32_t chunk = 0; chunk < conform_shape(all[k])->chunk_count; chunk++) {
            struct dr_range range = conform_range(c, all[k], chunk);
            struct dr_budget budget = conform_budget(5, false);
            forget_seen();
            (void)conform_walk(c, &range, &budget, seen, conform_row_count(all[k]));
            for (uint32_t n = 0; n < conform_row_count(all[k]); n++) {
                struct conform_row row;
                conform_row(all[k], n, &row);
                assert_int_equal(seen[n], conform_chunk_of(&row) == chunk ? 1 : 0);
                bool is_null = all[k] != C_EVENTS && row.value[0].type == DR_V_NULL;
                assert_true(!is_null || seen[n] == (chunk == 0 ? 1 : 0));
            }
        }
    }
}

static void a_row_on_a_node_without_its_chunk_is_in_no_chunk(void **state)
{
    struct conform *c = *state;
    struct conform_row row;
    struct dr_budget budget = conform_budget(9, true);
    if (c->f->plain_node != NULL) {
        skip();
    }
    for (enum conform_collection of = C_EVENTS; of <= C_PAIRS; of++) {
        conform_row(of, 2, &row);
        row.id = 900; /* an orphan of an interrupted migration */
        c->f->put(&row, strcmp(row.node, NODE_A) == 0 ? NODE_B : NODE_A);
        forget_seen();
        for (uint64_t i = 0; i < conform_collection(c, of)->chunk_count; i++) {
            struct dr_range range = conform_range(c, of, i);
            (void)conform_walk(c, &range, &budget, seen, CONFORM_ROWS_MAX);
        }
        assert_int_equal(seen[899], 0);
        for (uint32_t i = 0; i < c->survey->node_count; i++) {
            struct dr_range range = conform_scan_range(c, of, c->survey->node[i]);
            (void)conform_walk(c, &range, &budget, seen, CONFORM_ROWS_MAX);
        }
        /* A scan of the node finds it; a router shows nobody what no chunk holds. */
        assert_int_equal(seen[899], c->f->is_routed ? 0 : 1);
        assert_all_seen(of, 2);
    }
}

static void a_scan_of_the_nodes_gives_each_row_exactly_once(void **state)
{
    struct conform *c = *state;
    for (enum conform_collection of = 0; of < C_SETTINGS; of++) {
        forget_seen();
        for (uint32_t i = 0; i < c->survey->node_count; i++) {
            struct dr_range range = conform_scan_range(c, of, c->survey->node[i]);
            struct dr_budget budget = conform_budget(13, true);
            (void)conform_walk(c, &range, &budget, seen, conform_row_count(of));
        }
        assert_all_seen(of, 1);
    }
}

/* Walk one index over all nodes. The settings stand on the first node alone, and a router reaches
 * all nodes from there. */
static void walk_index(struct conform *c, enum conform_collection of, const char *index)
{
    forget_seen();
    bool is_one_walk = of == C_SETTINGS || c->f->is_routed;
    for (uint32_t i = 0; i < c->survey->node_count && (!is_one_walk || i == 0); i++) {
        struct dr_budget budget = conform_budget(4, i % 2 == 0);
        struct dr_range range = conform_scan_range(c, of, c->survey->node[i]);
        range.access = DR_BY_INDEX;
        range.index = index;
        (void)conform_walk(c, &range, &budget, seen, conform_row_count(of));
    }
    assert_all_seen(of, 1);
}

/* The index of pairs is not sorted by bytes in stores that have collations: either it is surveyed
 * as unusable, and then refused, or it must be walked like the others. */
static void an_index_walk_gives_each_row_exactly_once(void **state)
{
    struct conform *c = *state;
    static const enum conform_collection all[] = {C_ORDERS, C_PAIRS, C_SETTINGS};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        const struct dr_collection *found = conform_collection(c, all[k]);
        assert_true(found->index_count > 0);
        for (uint32_t x = 0; x < found->index_count; x++) {
            if (!found->index[x].is_partial) {
                walk_index(c, all[k], found->index[x].name);
                continue;
            }
            struct dr_budget budget = conform_budget(4, true);
            struct dr_range range = conform_range(c, all[k], 0);
            range.access = DR_BY_INDEX;
            range.index = found->index[x].name;
            assert_int_equal(all[k], C_PAIRS);
            assert_int_not_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err),
                                 DR_OK);
        }
    }
}

static void an_empty_range_ends_at_once(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    struct dr_budget budget = conform_budget(10, true);
    struct dr_tally tally;
    uint64_t rows = 1;
    if (range.access == DR_BY_SHARD_RANGE) {
        range.from = (struct dr_bound){1, {{.type = DR_V_INT, .i = 1000000}}};
        range.upto = (struct dr_bound){1, {{.type = DR_V_INT, .i = 1000001}}};
    } else {
        range.filter = conform_filter(c, "{\"id\": -5}");
    }
    assert_ok(c, dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err));
    assert_int_equal(c->batch->count, 0);
    assert_true(c->batch->is_end);
    assert_ok(c, dr_store_count(c->s, &range, &rows, &c->err));
    assert_int_equal(rows, 0);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_int_equal(tally.erased + tally.absent + tally.changed, 0);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

static void lying_hashes_are_never_skipped(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(10, true);
    struct dr_cursor *at = calloc(1, sizeof *at);
    assert_non_null(at);
    if (c->f->lie == NULL || c->f->plain_node != NULL) {
        free(at);
        skip();
    }
    /* The first row of chunk 0 says that it belongs to chunk 2, which lies on the same node. */
    struct dr_range home = conform_range(c, C_EVENTS, 0);
    struct dr_range away = conform_range(c, C_EVENTS, 2);
    conform_read(c, &home, 1, false);
    c->f->lie(home.node, conform_id(&c->batch->item[0]), 4242);
    enum dr_code rc = DR_OK;
    do {
        rc = dr_store_scan(c->s, &away, &budget, at, c->batch, &c->err);
        *at = c->batch->after;
    } while (rc == DR_OK && !c->batch->is_end);
    assert_int_equal(rc, DR_CORRUPT);
    assert_int_equal(c->batch->count, 0);
    free(at);
}

static void a_lie_within_the_chunk_is_found_too(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(1000, false);
    if (c->f->lie == NULL || c->f->plain_node != NULL) {
        skip();
    }
    /* The last one comes first by its lie, so that a walk in the order of hashes can tell. */
    struct dr_range range = conform_range(c, C_EVENTS, 2);
    conform_read(c, &range, 1000, false);
    c->f->lie(range.node, conform_id(&c->batch->item[c->batch->count - 1]), 4242);
    assert_int_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err), DR_CORRUPT);
}

/* Its chunk cannot be told by any index: some walk must stumble over it, none may give it. */
static void a_row_without_a_stored_hash_is_not_skipped_quietly(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(1000, true);
    if (c->f->unhash == NULL || c->f->plain_node != NULL) {
        skip();
    }
    for (uint64_t home = 0; home < 4; home++) {
        struct dr_range range = conform_range(c, C_EVENTS, home);
        bool is_found = false;
        c->f->make();
        dr_store_close(c->s); /* the store is another one now */
        char url[512];
        (void)snprintf(url, sizeof url, "%s%s", c->f->prefix, c->f->url());
        c->s = NULL;
        assert_ok(c, dr_store_open(url, &c->s, &c->err));
        conform_read(c, &range, 3, false);
        c->f->unhash(range.node, conform_id(&c->batch->item[2]));
        for (uint64_t i = 0; i < 4; i++) {
            range = conform_range(c, C_EVENTS, i);
            enum dr_code rc = dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err);
            assert_true(rc == DR_OK || rc == DR_CORRUPT);
            is_found = is_found || rc == DR_CORRUPT;
        }
        assert_true(is_found);
    }
}

static void a_damaged_position_is_refused(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(5, true);
    struct dr_cursor *at = calloc(1, sizeof *at);
    assert_non_null(at);
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        struct dr_range range = conform_range(c, of, 0);
        conform_read(c, &range, 5, true);
        struct dr_cursor good = c->batch->after;
        for (uint32_t len = 1; len < good.len; len++) { /* cut short at every place */
            *at = good;
            at->len = len;
            assert_int_not_equal(dr_store_scan(c->s, &range, &budget, at, c->batch, &c->err),
                                 DR_OK);
            assert_int_equal(c->batch->count, 0);
        }
        memset(at->data, 0xa5, 40);
        at->len = 40;
        assert_int_not_equal(dr_store_scan(c->s, &range, &budget, at, c->batch, &c->err), DR_OK);
    }
    free(at);
}

static void a_position_is_good_for_another_handle(void **state)
{
    struct conform *c = *state;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    struct dr_budget budget = conform_budget(1000, true);
    struct dr_store *other = NULL;
    struct dr_cursor *at = calloc(1, sizeof *at);
    uint64_t rows = 0;
    char url[512];
    assert_non_null(at);
    (void)snprintf(url, sizeof url, "%s%s", c->f->prefix, c->f->url());
    assert_ok(c, dr_store_count(c->s, &range, &rows, &c->err));
    conform_read(c, &range, 5, true);
    *at = c->batch->after;
    assert_ok(c, dr_store_open(url, &other, &c->err));
    assert_ok(c, dr_store_scan(other, &range, &budget, at, c->batch, &c->err));
    assert_int_equal(c->batch->count, rows - 5);
    assert_true(c->batch->is_end);
    dr_store_close(other);
    free(at);
}

/* ---- filters ---- */

static bool is_live(int64_t n)
{
    return n % 4 == 1 || n % 4 == 2;
}
static bool is_kind_null(int64_t n)
{
    return n % 4 == 3;
}
static bool is_kind_set(int64_t n)
{
    return n % 4 != 3;
}
static bool is_early(int64_t n)
{
    return n % 7 != 6 && n < 100;
}
static bool is_early_or_at(int64_t n)
{
    return n % 7 != 6 && n <= 100;
}
static bool is_late(int64_t n)
{
    return n % 7 != 6 && n > 100;
}
static bool is_late_or_at(int64_t n)
{
    return n % 7 != 6 && n >= 100;
}
static bool is_listed(int64_t n)
{
    return n == 5 || n == 16 || n == 43;
}
static bool is_small_number(int64_t n) /* customer < 60.5: no NULL, text or blob */
{
    return n % 10 == 1 || (n % 10 == 2 && n < 60) || (n % 10 > 4 && n <= 60);
}
static bool is_text_from_cust(int64_t n)
{
    return n % 10 == 3 && n != 3;
}
static bool is_empty_blob(int64_t n)
{
    return n % 3 == 1;
}
static bool is_real(int64_t n)
{
    return n == 12;
}
static bool is_dead_and_late(int64_t n)
{
    return is_dead(n) && is_late(n);
}
static bool is_not_55(int64_t n) /* ne holds across types, but not for NULL */
{
    return n % 10 != 0 && n != 55;
}

static const struct {
    const char *json;
    bool (*is_wanted)(int64_t n);
} filters[] = {
    {"{\"kind\": \"dead\"}", is_dead},
    {"{\"kind\": {\"ne\": \"dead\"}}", is_live},
    {"{\"kind\": null}", is_kind_null},
    {"{\"kind\": {\"is_null\": true}}", is_kind_null},
    {"{\"kind\": {\"is_null\": false}}", is_kind_set},
    {"{\"at\": {\"lt\": 1700000100}}", is_early},
    {"{\"at\": {\"le\": 1700000100}}", is_early_or_at},
    {"{\"at\": {\"gt\": 1700000100}}", is_late},
    {"{\"at\": {\"ge\": 1700000100}}", is_late_or_at},
    {"{\"id\": {\"in\": [6, 17, 44, 99999]}}", is_listed},
    {"{\"customer\": {\"lt\": 60.5}}", is_small_number},
    {"{\"customer\": {\"ge\": \"cust-\"}}", is_text_from_cust},
    {"{\"customer\": {\"ne\": 55}}", is_not_55},
    {"{\"customer\": 12.5}", is_real},
    {"{\"proof\": {\"$blob\": \"\"}}", is_empty_blob},
    {"{\"kind\": \"dead\", \"at\": {\"gt\": 1700000100}}", is_dead_and_late},
};

static void filters_select_exactly_what_they_say(void **state)
{
    struct conform *c = *state;
    for (size_t k = 0; k < sizeof filters / sizeof filters[0]; k++) {
        const struct dr_filter *filter = conform_filter(c, filters[k].json);
        struct dr_budget budget = conform_budget(11, k % 2 == 0);
        forget_seen();
        for (uint64_t i = 0; i < conform_collection(c, C_ORDERS)->chunk_count; i++) {
            struct dr_range range = conform_range(c, C_ORDERS, i);
            range.filter = filter;
            uint64_t rows = 0;
            uint64_t items = conform_walk(c, &range, &budget, seen, ORDERS_COUNT);
            assert_ok(c, dr_store_count(c->s, &range, &rows, &c->err));
            assert_int_equal(rows, items);
        }
        for (uint32_t n = 0; n < ORDERS_COUNT; n++) {
            if (seen[n] != (filters[k].is_wanted(n) ? 1U : 0U)) {
                print_error("%s: row %u was given %u times\n", filters[k].json, n, seen[n]);
                fail();
            }
        }
    }
}

static void filters_count_alike_in_a_survey(void **state)
{
    struct conform *c = *state;
    struct dr_survey *survey = NULL;
    const struct dr_filter *filter = conform_filter(c, "{\"id\": {\"in\": [1, 5, 9, 13, 240]}}");
    assert_ok(c, dr_store_survey(c->s, c->f->database, filter, &survey, &c->err));
    const struct dr_collection *orders = conform_find(survey, conform_name(c, C_ORDERS));
    assert_non_null(orders);
    uint64_t rows = 0;
    for (uint64_t i = 0; i < orders->chunk_count; i++) {
        struct dr_range range = conform_range(c, C_ORDERS, i);
        uint64_t one = 0;
        range.filter = filter;
        assert_ok(c, dr_store_count(c->s, &range, &one, &c->err));
        /* Counting a filter chunk by chunk is dear behind a router; the sum is always known. */
        assert_true(orders->chunk[i].is_rows_known || c->f->is_routed);
        assert_true(!orders->chunk[i].is_rows_known || one == orders->chunk[i].rows);
        rows += one;
    }
    assert_int_equal(rows, 5);
    assert_int_equal(orders->rows_matched, 5);
    dr_survey_destroy(survey);
}

#define PROMISE(f) cmocka_unit_test_setup_teardown(f, conform_setup, conform_teardown)
const struct CMUnitTest conform_reading[] = {
    PROMISE(survey_lists_exactly_the_collections_in_order),
    PROMISE(survey_tells_the_layout),
    PROMISE(survey_counts_each_chunk),
    PROMISE(survey_counts_what_the_filter_selects),
    PROMISE(survey_is_the_same_twice),
    PROMISE(survey_of_an_unknown_database_has_no_collections),
    PROMISE(epoch_is_the_surveyed_one_until_the_layout_changes),
    PROMISE(health_of_each_node_has_a_term),
    PROMISE(health_of_an_unwell_node_says_why_and_how_long_to_wait),
    PROMISE(unknown_nodes_are_refused),
    PROMISE(missing_collections_are_not_found),
    PROMISE(chunks_give_each_row_exactly_once_whatever_the_budget),
    PROMISE(a_tiny_byte_budget_still_gives_one_item),
    PROMISE(an_elapsed_time_budget_still_makes_progress),
    PROMISE(null_and_mixed_keys_lie_in_the_chunk_their_order_says),
    PROMISE(a_row_on_a_node_without_its_chunk_is_in_no_chunk),
    PROMISE(a_scan_of_the_nodes_gives_each_row_exactly_once),
    PROMISE(an_index_walk_gives_each_row_exactly_once),
    PROMISE(an_empty_range_ends_at_once),
    PROMISE(a_row_without_a_stored_hash_is_not_skipped_quietly),
    PROMISE(a_damaged_position_is_refused),
    PROMISE(a_position_is_good_for_another_handle),
    PROMISE(lying_hashes_are_never_skipped),
    PROMISE(a_lie_within_the_chunk_is_found_too),
    PROMISE(filters_select_exactly_what_they_say),
    PROMISE(filters_count_alike_in_a_survey),
};
const size_t conform_reading_count = sizeof conform_reading / sizeof conform_reading[0];
