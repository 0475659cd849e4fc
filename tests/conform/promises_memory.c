/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of the memory store's functions for tests: other suites lean on them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conform/conform.h"
#include "store/memory/memory_store.h"

enum { THREADS = 4, STEP_ITEMS = 5, ALLOCATIONS_MAX = 20000 };

static const char store_name[] = "conform";

static void a_moved_chunk_takes_its_rows_and_makes_the_layout_another(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(10, true);
    struct dr_tally tally;
    uint32_t seen[ORDERS_COUNT] = {0};
    const struct dr_bound from = {1, {{.type = DR_V_INT, .i = 55}}};
    struct dr_range range = conform_range(c, C_ORDERS, 1);
    uint64_t on_a = dr_memory_count(store_name, "shop.orders", NODE_A);
    uint64_t on_b = dr_memory_count(store_name, "shop.orders", NODE_B);
    uint64_t sum = dr_memory_checksum(store_name, "shop.orders");
    uint64_t rows = 0;
    assert_ok(c, dr_store_count(c->s, &range, &rows, &c->err));
    assert_true(rows > 10);
    conform_read(c, &range, 10, true);
    assert_int_equal(dr_memory_move_chunk(store_name, "shop.orders", &from, NODE_A), DR_OK);
    assert_int_equal(dr_memory_count(store_name, "shop.orders", NODE_A), on_a + rows);
    assert_int_equal(dr_memory_count(store_name, "shop.orders", NODE_B), on_b - rows);
    assert_int_not_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
    assert_int_equal(dr_store_erase(c->s, &range, c->batch, &tally, &c->err), DR_STALE);
    /* A new survey sees the chunk in its new place, and every row still exactly once. */
    dr_survey_destroy(c->survey);
    assert_ok(c, dr_store_survey(c->s, "shop", NULL, &c->survey, &c->err));
    assert_string_equal(conform_range(c, C_ORDERS, 1).node, NODE_A);
    for (uint64_t i = 0; i < 4; i++) {
        range = conform_range(c, C_ORDERS, i);
        (void)conform_walk(c, &range, &budget, seen, ORDERS_COUNT);
    }
    for (uint32_t n = 0; n < ORDERS_COUNT; n++) {
        assert_int_equal(seen[n], 1);
    }
    assert_int_equal(dr_memory_move_chunk(store_name, "shop.orders", &from, NODE_B), DR_OK);
    assert_int_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
}

static void a_chunk_is_not_moved_onto_other_rows(void **state)
{
    (void)state;
    struct conform_row row;
    const struct dr_bound from = {1, {{.type = DR_V_INT, .i = 55}}};
    const struct dr_bound nowhere = {1, {{.type = DR_V_INT, .i = 56}}};
    conform_row(C_ORDERS, 65, &row);
    conform_memory.put(&row, NODE_A); /* the same id stands on the target already */
    uint64_t sum = dr_memory_checksum(store_name, "shop.orders");
    assert_int_equal(dr_memory_move_chunk(store_name, "shop.orders", &from, NODE_A), DR_CONFLICT);
    assert_int_equal(dr_memory_move_chunk(store_name, "shop.orders", &nowhere, NODE_A),
                     DR_NOT_FOUND);
    assert_int_equal(dr_memory_move_chunk(store_name, "shop.orders", &from, "n9"), DR_NOT_FOUND);
    assert_int_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
}

static void the_checksum_sees_any_change_and_forgets_it_when_undone(void **state)
{
    struct conform *c = *state;
    struct conform_row row;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    uint64_t sum = dr_memory_checksum(store_name, "shop.orders");
    assert_int_not_equal(sum, 0);
    conform_row(C_ORDERS, 7, &row);
    row.value[5].i++;
    conform_memory.put(&row, row.node);
    assert_int_not_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
    row.value[5].i--;
    conform_memory.put(&row, row.node);
    assert_int_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
    conform_read(c, &range, 20, true);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_int_not_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
    assert_ok(c, dr_store_restore(c->s, &range, c->batch, &tally, &c->err));
    assert_int_equal(dr_memory_checksum(store_name, "shop.orders"), sum);
    assert_int_equal(dr_memory_checksum(store_name, "shop.nosuch"), 0);
}

static void flags_and_partial_indexes_show_in_a_survey(void **state)
{
    struct conform *c = *state;
    static const char *const field[] = {"kind"};
    struct dr_budget budget = conform_budget(5, true);
    unsigned flags = DR_MEMORY_VIEW | DR_MEMORY_SYSTEM | DR_MEMORY_TRIGGERS | DR_MEMORY_REFERENCE;
    assert_int_equal(dr_memory_set_flags(store_name, "shop.orders", flags), DR_OK);
    assert_int_equal(dr_memory_add_index(store_name, "shop.orders", "half", field, 1, true, true),
                     DR_OK);
    assert_int_equal(dr_memory_add_index(store_name, "shop.orders", "half", field, 1, true, true),
                     DR_EXISTS);
    dr_survey_destroy(c->survey);
    assert_ok(c, dr_store_survey(c->s, "shop", NULL, &c->survey, &c->err));
    const struct dr_collection *orders = conform_collection(c, C_ORDERS);
    assert_true(orders->is_view && orders->is_system && orders->has_triggers &&
                orders->has_reference);
    assert_int_equal(orders->index_count, 2);
    assert_true(orders->index[1].is_partial && orders->index[1].is_unique);
    struct dr_range range = conform_scan_range(c, C_ORDERS, NODE_A);
    range.access = DR_BY_INDEX;
    range.index = "half";
    assert_int_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err), DR_INPUT);
}

static void another_shard_key_than_planned_is_stale(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(5, true);
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    range.key[0] = "kind";
    assert_int_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err), DR_STALE);
    range = conform_range(c, C_EVENTS, 0);
    range.access = DR_BY_SHARD_RANGE;
    assert_int_equal(dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err), DR_STALE);
}

static void commands_take_plain_words_too(void **state)
{
    struct conform *c = *state;
    assert_ok(c, dr_store_command(c->s, NODE_A,
                                  "create index lone; Create Index kind_at ON "
                                  "shop.orders (kind, at)\n\ncreate collection shop.x",
                                  &c->err));
    assert_true(dr_memory_has_index(store_name, "lone"));
    assert_true(dr_memory_has_index(store_name, "kind_at"));
    assert_true(dr_memory_has_collection(store_name, "shop.x"));
    assert_ok(c, dr_store_command(c->s, NODE_A,
                                  "drop index lone;drop index if exists kind_at;\n"
                                  "drop collection shop.x;",
                                  &c->err));
    assert_false(dr_memory_has_index(store_name, "lone"));
    assert_false(dr_memory_has_index(store_name, "kind_at"));
    assert_false(dr_memory_has_collection(store_name, "shop.x"));
    static const char *const wrong[] = {
        "",
        " ;\n; ",
        "create",
        "create index",
        "drop index",
        "drop index a b",
        "create view v",
        "create collection nodatabase",
        "create index i on",
        "create index i on shop.orders",
        "create index i over shop.orders (kind)",
        "create index i on shop.orders (a,b,c,d,e,f,g,h,i)",
        "create index \"open",
        "unique index x",
        "create unique collection shop.u",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (dr_store_command(c->s, NODE_A, wrong[i], &c->err) != DR_INPUT) {
            print_error("accepted: %s\n", wrong[i]);
            fail();
        }
    }
    assert_int_equal(
        dr_store_command(c->s, NODE_A, "create index i on shop.nosuch (kind)", &c->err),
        DR_NOT_FOUND);
}

static void a_removed_store_is_unreachable_for_open_handles(void **state)
{
    struct conform *c = *state;
    uint64_t epoch = 0;
    struct dr_health health;
    dr_memory_remove(store_name);
    assert_int_equal(dr_store_epoch(c->s, "shop.orders", &epoch, &c->err), DR_UNREACHABLE);
    assert_int_equal(dr_store_health(c->s, NODE_A, &health, &c->err), DR_UNREACHABLE);
    assert_int_equal(dr_memory_add_node(store_name, "n3"), DR_UNREACHABLE);
    assert_int_equal(dr_memory_count(store_name, "shop.orders", NULL), 0);
}

struct worker {
    struct dr_survey *survey;
    uint64_t chunk;
    uint64_t erased;
    bool is_right;
};

/* Each thread empties one chunk of orders through a handle of its own. */
static void *erase_chunk(void *arg)
{
    struct worker *w = arg;
    struct conform c = {.f = &conform_memory, .survey = w->survey};
    struct dr_budget budget = conform_budget(STEP_ITEMS, true);
    struct dr_tally tally;
    struct dr_cursor *at = calloc(1, sizeof *at);
    struct dr_range range = {0};
    enum dr_code rc = at == NULL ? DR_NOMEM : dr_batch_create(&c.batch, &c.err);
    if (rc == DR_OK) {
        rc = dr_store_open("memory:conform", &c.s, &c.err);
    }
    const struct dr_collection *orders = &w->survey->collection[C_ORDERS];
    range.node = orders->chunk[w->chunk].node;
    range.collection = orders->name;
    range.access = DR_BY_SHARD_RANGE;
    range.key_count = 1;
    range.key[0] = orders->key[0];
    range.from = orders->chunk[w->chunk].from;
    range.upto = orders->chunk[w->chunk].upto;
    range.epoch = orders->epoch;
    while (rc == DR_OK) {
        rc = dr_store_scan(c.s, &range, &budget, at, c.batch, &c.err);
        if (rc == DR_OK) {
            *at = c.batch->after;
            rc = dr_store_erase(c.s, &range, c.batch, &tally, &c.err);
            w->erased += tally.erased;
        }
        if (rc == DR_OK && c.batch->is_end) {
            break;
        }
    }
    w->is_right = rc == DR_OK;
    dr_store_close(c.s);
    dr_batch_destroy(c.batch);
    free(at);
    return NULL;
}

static void threads_with_a_handle_each_share_one_store(void **state)
{
    struct conform *c = *state;
    struct worker worker[THREADS];
    pthread_t thread[THREADS];
    uint64_t erased = 0;
    for (int i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){.survey = c->survey, .chunk = (uint64_t)i};
        assert_int_equal(pthread_create(&thread[i], NULL, erase_chunk, &worker[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(worker[i].is_right);
        erased += worker[i].erased;
    }
    assert_int_equal(erased, ORDERS_COUNT);
    assert_int_equal(dr_memory_count(store_name, "shop.orders", NULL), 0);
}

/* Make, survey and open: each allocation may fail, and a later attempt starts clean. */
static enum dr_code make_and_look(struct conform *c)
{
    static const char *const key[] = {"k"};
    static const struct dr_bound low = {1, {{.type = DR_V_MIN}}};
    static const struct dr_bound high = {1, {{.type = DR_V_TEXT, .data = "m", .len = 1}}};
    struct dr_memory_field field = {"k", {.type = DR_V_TEXT, .data = "a", .len = 1}};
    struct dr_store *s = NULL;
    struct dr_survey *survey = NULL;
    enum dr_code rc = dr_memory_reset("short");
    rc = rc == DR_OK ? dr_memory_add_node("short", "a") : rc;
    rc = rc == DR_OK ? dr_memory_add_node("short", "b") : rc;
    rc = rc == DR_OK ? dr_memory_add_collection("short", "d.c", DR_SHARDED_RANGE, key, 1, "a") : rc;
    rc = rc == DR_OK ? dr_memory_add_chunk("short", "d.c", "a", &low, &high) : rc;
    rc = rc == DR_OK ? dr_memory_add_index("short", "d.c", "i", key, 1, false, false) : rc;
    rc = rc == DR_OK ? dr_memory_put("short", "d.c", "a", 1, &field, 1) : rc;
    rc = rc == DR_OK ? dr_memory_move_chunk("short", "d.c", &low, "b") : rc;
    rc = rc == DR_OK ? dr_memory_set_health("short", "a", false, "x") : rc;
    rc = rc == DR_OK ? dr_store_open("memory:short", &s, &c->err) : rc;
    rc = rc == DR_OK ? dr_store_survey(s, "d", NULL, &survey, &c->err) : rc;
    rc = rc == DR_OK ? dr_store_command(s, "a", "create index z on d.c (k)", &c->err) : rc;
    assert_true(rc != DR_OK || (survey->collection_count == 1 && survey->node_count == 2));
    dr_survey_destroy(survey);
    dr_store_close(s);
    return rc;
}

static void short_memory_while_making_a_store_is_said(void **state)
{
    struct conform *c = *state;
    enum dr_code rc = DR_NOMEM;
    uint64_t n = 0;
    for (n = 1; rc != DR_OK && n < ALLOCATIONS_MAX; n++) {
        (void)dr_mem_fail_at(n);
        rc = make_and_look(c);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
    }
    assert_int_equal(rc, DR_OK);
    assert_true(n > 20);
    assert_int_equal(dr_memory_count("short", "d.c", "b"), 1);
    assert_int_equal(dr_memory_count("short", "d.c", "a"), 0);
    dr_memory_remove("short");
}

#define PROMISE(f) cmocka_unit_test_setup_teardown(f, conform_setup, conform_teardown)
const struct CMUnitTest conform_memory_alone[] = {
    PROMISE(a_moved_chunk_takes_its_rows_and_makes_the_layout_another),
    PROMISE(a_chunk_is_not_moved_onto_other_rows),
    PROMISE(the_checksum_sees_any_change_and_forgets_it_when_undone),
    PROMISE(flags_and_partial_indexes_show_in_a_survey),
    PROMISE(another_shard_key_than_planned_is_stale),
    PROMISE(commands_take_plain_words_too),
    PROMISE(a_removed_store_is_unreachable_for_open_handles),
    PROMISE(threads_with_a_handle_each_share_one_store),
    PROMISE(short_memory_while_making_a_store_is_said),
};
const size_t conform_memory_alone_count =
    sizeof conform_memory_alone / sizeof conform_memory_alone[0];
