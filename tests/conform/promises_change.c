/* SPDX-License-Identifier: Apache-2.0 */
/* Promises about changing: erase, probe, restore, command. Each test is named for one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conform/conform.h"

enum { ALLOCATIONS_MAX = 20000 };

static const char other_note[] = "changed since it was read, behind our back";

/* Change one field of the row an item names, behind the adapter's back; its length stays when it
 * has one, so that only a comparison of the bytes can tell. */
static void change_row(struct conform *c, enum conform_collection of, int64_t id)
{
    struct conform_row row;
    conform_row(of, id - 1, &row);
    struct dr_value *v = &row.value[of == C_ORDERS ? 5 : conform_shape(of)->column_count - 1];
    size_t length = v->len > 0 ? v->len : sizeof other_note - 1;
    if (v->type == DR_V_INT) {
        v->i++;
    } else {
        *v = (struct dr_value){.type = DR_V_TEXT, .data = other_note, .len = length};
    }
    c->f->put(&row, conform_node(c, row.node));
}

static void assert_tally(const struct dr_tally *tally, uint64_t erased, uint64_t absent,
                         uint64_t changed)
{
    assert_int_equal(tally->erased, erased);
    assert_int_equal(tally->absent, absent);
    assert_int_equal(tally->changed, changed);
    assert_int_equal(tally->restored + tally->conflicts, 0);
}

static void assert_probe(struct conform *c, const struct dr_range *range, uint64_t same,
                         uint64_t absent, uint64_t changed)
{
    struct dr_tally tally;
    assert_ok(c, dr_store_probe(c->s, range, c->batch, &tally, &c->err));
    assert_int_equal(tally.same, same);
    assert_int_equal(tally.absent, absent);
    assert_int_equal(tally.changed, changed);
    assert_int_equal(tally.erased + tally.restored, 0);
}

static void assert_restore(struct conform *c, const struct dr_range *range, uint64_t restored,
                           uint64_t same, uint64_t conflicts)
{
    struct dr_tally tally;
    assert_ok(c, dr_store_restore(c->s, range, c->batch, &tally, &c->err));
    assert_int_equal(tally.restored, restored);
    assert_int_equal(tally.same, same);
    assert_int_equal(tally.conflicts, conflicts);
}

/* ---- erase ---- */

static void erase_removes_exactly_the_batch(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        struct dr_range range = conform_range(c, of, 0);
        conform_read(c, &range, 8, true);
        uint64_t count = c->batch->count;
        bool is_gone[CONFORM_ROWS_MAX] = {false};
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_tally(&tally, count, 0, 0);
        for (uint64_t i = 0; i < count; i++) {
            is_gone[conform_id(&c->batch->item[i]) - 1] = true;
        }
        for (uint32_t n = 0; n < conform_row_count(of); n += 1 + n % 3) {
            assert_int_equal(conform_has(c, of, n + 1), !is_gone[n]);
        }
        assert_int_equal(conform_total(c, of), conform_row_count(of) - count);
    }
}

static void a_repeated_erase_erases_nothing_more(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    for (int with_values = 0; with_values < 2; with_values++) {
        struct dr_range range = conform_range(c, C_ORDERS, 0);
        conform_read(c, &range, 9, with_values != 0);
        uint64_t count = c->batch->count;
        uint64_t before = conform_total(c, C_ORDERS);
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_tally(&tally, count, 0, 0);
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_tally(&tally, 0, count, 0);
        assert_int_equal(conform_total(c, C_ORDERS), before - count);
    }
}

static void an_item_named_twice_is_erased_once(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    for (int with_values = 0; with_values < 2; with_values++) {
        uint64_t before = conform_total(c, C_ORDERS);
        conform_read(c, &range, 1, with_values != 0);
        const struct dr_item item = c->batch->item[0];
        assert_ok(
            c, dr_batch_add(c->batch, item.key, item.key_len, item.value, item.value_len, &c->err));
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_tally(&tally, 1, 1, 0);
        assert_int_equal(conform_total(c, C_ORDERS), before - 1);
    }
}

static void a_scan_goes_on_after_its_rows_were_erased(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(7, true);
    struct dr_cursor *at = calloc(1, sizeof *at);
    struct dr_tally tally;
    assert_non_null(at);
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        uint64_t erased = 0;
        for (uint64_t i = 0; i < conform_collection(c, of)->chunk_count; i++) {
            struct dr_range range = conform_range(c, of, i);
            at->len = 0;
            do {
                assert_ok(c, dr_store_scan(c->s, &range, &budget, at, c->batch, &c->err));
                *at = c->batch->after;
                assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
                assert_int_equal(tally.erased, c->batch->count);
                erased += tally.erased;
            } while (!c->batch->is_end);
        }
        assert_int_equal(erased, conform_row_count(of));
        assert_int_equal(conform_total(c, of), 0);
    }
    free(at);
}

static void a_row_changed_after_the_read_is_left_alone(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 10, true);
    uint64_t count = c->batch->count;
    int64_t id = conform_id(&c->batch->item[count / 2]);
    change_row(c, C_ORDERS, id);
    assert_probe(c, &range, count - 1, 0, 1);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_tally(&tally, count - 1, 0, 1);
    assert_true(conform_has(c, C_ORDERS, id));
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - (count - 1));
}

static void a_row_erased_by_others_is_absent_and_the_rest_goes(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 10, true);
    uint64_t count = c->batch->count;
    c->f->remove(C_ORDERS, range.node, conform_id(&c->batch->item[0]));
    assert_probe(c, &range, count - 1, 1, 0);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_tally(&tally, count - 1, 1, 0);
}

static void keys_alone_erase_only_what_is_still_selected(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct conform_row row;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    range.filter = conform_filter(c, "{\"kind\": \"dead\"}");
    conform_read(c, &range, 12, false);
    uint64_t count = c->batch->count;
    assert_true(count >= 4);
    /* The first one is not dead any more; the second one changed, but still is. */
    int64_t live_id = conform_id(&c->batch->item[0]);
    conform_row(C_ORDERS, live_id - 1, &row);
    row.value[1] = (struct dr_value){.type = DR_V_TEXT, .data = "live", .len = 4};
    c->f->put(&row, conform_node(c, row.node));
    change_row(c, C_ORDERS, conform_id(&c->batch->item[1]));
    assert_probe(c, &range, count - 1, 0, 1);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_tally(&tally, count - 1, 0, 1);
    assert_true(conform_has(c, C_ORDERS, live_id));
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - (count - 1));
}

static void keys_alone_spare_a_row_that_left_the_chunk(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct conform_row row;
    if (c->f->plain_node != NULL) {
        skip();
    }
    struct dr_range range = conform_range(c, C_ORDERS, 1);
    conform_read(c, &range, 6, false);
    uint64_t count = c->batch->count;
    int64_t id = conform_id(&c->batch->item[0]);
    conform_row(C_ORDERS, id - 1, &row);
    row.value[0] = (struct dr_value){.type = DR_V_INT, .i = 7777};
    c->f->put(&row, range.node);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_tally(&tally, count - 1, 0, 1);
    assert_true(c->f->has(C_ORDERS, range.node, id));
}

static void an_erase_for_another_layout_is_stale_and_removes_nothing(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    for (int with_values = 0; with_values < 2; with_values++) {
        struct dr_range range = conform_range(c, C_ORDERS, 0);
        conform_read(c, &range, 10, with_values != 0);
        if (c->f->bump_epoch != NULL) {
            c->f->bump_epoch(C_ORDERS);
        } else {
            range.epoch++; /* planned for a layout this store never had */
        }
        assert_int_equal(dr_store_erase(c->s, &range, c->batch, &tally, &c->err), DR_STALE);
        assert_tally(&tally, 0, 0, 0);
        assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
    }
    if (c->f->bump_epoch != NULL) { /* under the epoch of now the very same erase works */
        struct dr_range range = conform_range(c, C_ORDERS, 0);
        assert_ok(c, dr_store_epoch(c->s, range.collection, &range.epoch, &c->err));
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_int_equal(tally.erased, c->batch->count);
    }
}

struct eraser {
    struct conform *c;
    struct dr_range range;
    struct dr_tally tally;
    enum dr_code rc;
};

static void *erase_in_thread(void *arg)
{
    struct eraser *e = arg;
    struct dr_store *s = NULL;
    struct dr_err err;
    char url[512];
    (void)snprintf(url, sizeof url, "%s%s", e->c->f->prefix, e->c->f->url());
    e->rc = dr_store_open(url, &s, &err);
    if (e->rc == DR_OK) {
        e->rc = dr_store_erase(s, &e->range, e->c->batch, &e->tally, &err);
    }
    dr_store_close(s);
    return NULL;
}

static void two_erasers_of_one_batch_erase_each_row_once(void **state)
{
    struct conform *c = *state;
    struct eraser eraser[2];
    pthread_t thread[2];
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 40, true);
    (void)c->f->url(); /* the fixtures keep it in a static buffer: fill it before the threads */
    for (int i = 0; i < 2; i++) {
        eraser[i] = (struct eraser){.c = c, .range = range};
    }
    /* The main thread is one of the two, so that only one other uses the fixture's URL at a time.
     */
    assert_int_equal(pthread_create(&thread[1], NULL, erase_in_thread, &eraser[1]), 0);
    enum dr_code rc = dr_store_erase(c->s, &range, c->batch, &eraser[0].tally, &c->err);
    assert_int_equal(pthread_join(thread[1], NULL), 0);
    assert_int_equal(rc, DR_OK);
    assert_int_equal(eraser[1].rc, DR_OK);
    assert_int_equal(eraser[0].tally.erased + eraser[1].tally.erased, c->batch->count);
    assert_int_equal(eraser[0].tally.absent + eraser[1].tally.absent, c->batch->count);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - c->batch->count);
}

/* ---- probe ---- */

static void probe_tells_same_absent_and_changed_and_touches_nothing(void **state)
{
    struct conform *c = *state;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        struct dr_range range = conform_range(c, of, 0);
        conform_read(c, &range, 8, true);
        uint64_t count = c->batch->count;
        assert_probe(c, &range, count, 0, 0);
        change_row(c, of, conform_id(&c->batch->item[0]));
        c->f->remove(of, range.node, conform_id(&c->batch->item[1]));
        assert_probe(c, &range, count - 2, 1, 1);
        assert_int_equal(conform_total(c, of), conform_row_count(of) - 1);
    }
}

/* ---- restore ---- */

static void restore_puts_back_and_repeating_is_harmless(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        uint64_t chunks = conform_collection(c, of)->chunk_count;
        for (uint64_t i = 0; i < chunks; i++) {
            struct dr_range range = conform_range(c, of, i);
            conform_read(c, &range, 1000, true);
            uint64_t count = c->batch->count;
            assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
            assert_int_equal(tally.erased, count);
            assert_probe(c, &range, 0, count, 0);
            assert_restore(c, &range, count, 0, 0);
            assert_probe(c, &range, count, 0, 0); /* byte for byte */
            assert_restore(c, &range, 0, count, 0);
            assert_int_equal(conform_total(c, of), conform_row_count(of));
        }
    }
}

static void restored_rows_are_found_by_every_walk(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    uint32_t seen[EVENTS_COUNT] = {0};
    struct dr_budget budget = conform_budget(10, true);
    uint64_t chunks = conform_collection(c, C_EVENTS)->chunk_count;
    for (uint64_t i = 0; i < chunks; i++) {
        struct dr_range range = conform_range(c, C_EVENTS, i);
        conform_read(c, &range, 1000, true);
        assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
        assert_restore(c, &range, c->batch->count, 0, 0);
        (void)conform_walk(c, &range, &budget, seen, EVENTS_COUNT);
    }
    for (uint32_t n = 0; n < EVENTS_COUNT; n++) {
        assert_int_equal(seen[n], 1);
    }
}

static void restore_never_overwrites(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 6, true);
    uint64_t count = c->batch->count;
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    change_row(c, C_ORDERS, conform_id(&c->batch->item[1])); /* another row of that id */
    assert_restore(c, &range, count - 1, 0, 1);
    assert_probe(c, &range, count - 1, 0, 1); /* the other one is still the other one */
    assert_restore(c, &range, 0, count - 1, 1);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

static void restore_without_values_is_refused(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 3, false);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    enum dr_code rc = dr_store_restore(c->s, &range, c->batch, &tally, &c->err);
    assert_int_not_equal(rc, DR_OK);
    assert_int_equal(dr_code_retry(rc), DR_RETRY_NEVER);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - 3);
}

static void malformed_items_change_nothing(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    conform_read(c, &range, 3, true);
    assert_ok(c, dr_batch_add(c->batch, "\xff\xfe", 2, "\xff", 1, &c->err));
    assert_int_not_equal(dr_store_erase(c->s, &range, c->batch, &tally, &c->err), DR_OK);
    assert_int_not_equal(dr_store_probe(c->s, &range, c->batch, &tally, &c->err), DR_OK);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
    /* Nor does the failed erase take anything along with the next one. */
    conform_read(c, &range, 1, true);
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_tally(&tally, 1, 0, 0);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT - 1);
}

/* ---- command ---- */

static void command_all(struct conform *c, const char *text)
{
    for (uint32_t i = 0; i < c->survey->node_count; i++) {
        assert_ok(c, dr_store_command(c->s, c->survey->node[i], text, &c->err));
    }
}

static const struct dr_index *find_index(struct conform *c, const char *name)
{
    dr_survey_destroy(c->survey);
    assert_ok(c, dr_store_survey(c->s, c->f->database, NULL, &c->survey, &c->err));
    const struct dr_collection *orders = conform_collection(c, C_ORDERS);
    for (uint32_t i = 0; i < orders->index_count; i++) {
        if (strcmp(orders->index[i].name, name) == 0) {
            return &orders->index[i];
        }
    }
    return NULL;
}

static void creating_and_dropping_an_index_is_idempotent(void **state)
{
    struct conform *c = *state;
    char text[512], drop[512] = "DROP INDEX \"drover_tmp\"";
    if (c->f->index_command != NULL) {
        dr_copy_text(text, sizeof text, c->f->index_command(C_ORDERS, false));
        dr_copy_text(drop, sizeof drop, c->f->index_command(C_ORDERS, true));
    } else {
        (void)snprintf(text, sizeof text, "CREATE INDEX \"drover_tmp\" ON %s(\"kind\", \"at\")",
                       c->f->table(C_ORDERS));
    }
    assert_null(find_index(c, "drover_tmp"));
    command_all(c, text);
    command_all(c, text);
    const struct dr_index *index = find_index(c, "drover_tmp");
    assert_non_null(index);
    assert_int_equal(index->field_count, 2);
    assert_string_equal(index->field[0], "kind");
    assert_false(index->is_unique || index->is_partial);
    command_all(c, drop);
    command_all(c, drop);
    assert_null(find_index(c, "drover_tmp"));
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

static void a_dropped_index_is_not_walked(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(10, true);
    struct dr_range range = conform_scan_range(c, C_ORDERS, conform_node(c, NODE_A));
    range.access = DR_BY_INDEX;
    range.index = "drover_gone";
    enum dr_code rc = dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err);
    assert_int_not_equal(rc, DR_OK);
    assert_non_null(strstr(c->err.msg, "drover_gone"));
}

static void an_unknown_command_is_refused(void **state)
{
    struct conform *c = *state;
    const char *node = conform_node(c, NODE_A);
    enum dr_code rc = dr_store_command(c->s, node, "make coffee", &c->err);
    assert_true(rc == DR_INPUT || rc == DR_REFUSED);
    assert_string_not_equal(c->err.msg, "");
}

static void an_empty_collection_is_dropped_and_made_again(void **state)
{
    struct conform *c = *state;
    struct dr_tally tally;
    struct dr_range range = conform_range(c, C_SETTINGS, 0);
    const struct dr_collection *settings = conform_collection(c, C_SETTINGS);
    if (settings->drop_text == NULL || settings->create_text == NULL) {
        skip();
    }
    conform_read(c, &range, 1000, true);
    uint64_t count = c->batch->count;
    uint32_t indexes = settings->index_count;
    assert_ok(c, dr_store_erase(c->s, &range, c->batch, &tally, &c->err));
    assert_ok(c, dr_store_command(c->s, range.node, settings->drop_text, &c->err));
    assert_ok(c, dr_store_command(c->s, range.node, settings->drop_text, &c->err));
    assert_int_equal(dr_store_restore(c->s, &range, c->batch, &tally, &c->err), DR_NOT_FOUND);
    assert_ok(c, dr_store_command(c->s, range.node, settings->create_text, &c->err));
    assert_ok(c, dr_store_command(c->s, range.node, settings->create_text, &c->err));
    assert_restore(c, &range, count, 0, 0);
    assert_int_equal(conform_total(c, C_SETTINGS), SETTINGS_COUNT);
    struct dr_survey *again = NULL;
    assert_ok(c, dr_store_survey(c->s, c->f->database, NULL, &again, &c->err));
    const struct dr_collection *made = conform_find(again, conform_name(c, C_SETTINGS));
    assert_non_null(made);
    assert_int_equal(made->index_count, indexes);
    dr_survey_destroy(again);
}

static void a_collection_with_rows_is_not_dropped(void **state)
{
    struct conform *c = *state;
    for (enum conform_collection of = 0; of < C_LIMIT; of++) {
        const struct dr_collection *found = conform_collection(c, of);
        for (uint64_t i = 0; found->drop_text != NULL && i < found->chunk_count; i++) {
            const char *node = found->chunk[i].node;
            assert_int_equal(dr_store_command(c->s, node, found->drop_text, &c->err), DR_REFUSED);
        }
        assert_int_equal(conform_total(c, of), conform_row_count(of));
    }
}

/* ---- short memory ---- */

static void short_memory_is_said_and_changes_nothing(void **state)
{
    struct conform *c = *state;
    struct dr_budget budget = conform_budget(20, true);
    struct dr_range range = conform_range(c, C_ORDERS, 0);
    struct dr_tally tally;
    uint64_t n = 0;
    enum dr_code rc = DR_NOMEM;
    for (n = 1; rc != DR_OK && n < ALLOCATIONS_MAX; n++) {
        (void)dr_mem_fail_at(n);
        rc = dr_store_scan(c->s, &range, &budget, NULL, c->batch, &c->err);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
    }
    assert_int_equal(rc, DR_OK);
    assert_true(n > 2); /* the loop has met at least one failure */
    uint64_t count = c->batch->count;
    rc = DR_NOMEM;
    for (n = 1; rc != DR_OK && n < ALLOCATIONS_MAX; n++) {
        assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
        (void)dr_mem_fail_at(n);
        rc = dr_store_erase(c->s, &range, c->batch, &tally, &c->err);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
    }
    assert_int_equal(rc, DR_OK);
    assert_int_equal(tally.erased, count);
    rc = DR_NOMEM;
    for (n = 1; rc != DR_OK && n < ALLOCATIONS_MAX; n++) {
        (void)dr_mem_fail_at(n);
        rc = dr_store_restore(c->s, &range, c->batch, &tally, &c->err);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
    }
    assert_int_equal(rc, DR_OK);
    assert_int_equal(tally.restored + tally.same, count);
    assert_int_equal(conform_total(c, C_ORDERS), ORDERS_COUNT);
}

#define PROMISE(f) cmocka_unit_test_setup_teardown(f, conform_setup, conform_teardown)
const struct CMUnitTest conform_changing[] = {
    PROMISE(erase_removes_exactly_the_batch),
    PROMISE(a_repeated_erase_erases_nothing_more),
    PROMISE(an_item_named_twice_is_erased_once),
    PROMISE(a_scan_goes_on_after_its_rows_were_erased),
    PROMISE(a_row_changed_after_the_read_is_left_alone),
    PROMISE(a_row_erased_by_others_is_absent_and_the_rest_goes),
    PROMISE(keys_alone_erase_only_what_is_still_selected),
    PROMISE(keys_alone_spare_a_row_that_left_the_chunk),
    PROMISE(an_erase_for_another_layout_is_stale_and_removes_nothing),
    PROMISE(two_erasers_of_one_batch_erase_each_row_once),
    PROMISE(probe_tells_same_absent_and_changed_and_touches_nothing),
    PROMISE(restore_puts_back_and_repeating_is_harmless),
    PROMISE(restored_rows_are_found_by_every_walk),
    PROMISE(restore_never_overwrites),
    PROMISE(restore_without_values_is_refused),
    PROMISE(malformed_items_change_nothing),
    PROMISE(creating_and_dropping_an_index_is_idempotent),
    PROMISE(a_dropped_index_is_not_walked),
    PROMISE(an_unknown_command_is_refused),
    PROMISE(an_empty_collection_is_dropped_and_made_again),
    PROMISE(a_collection_with_rows_is_not_dropped),
    PROMISE(short_memory_is_said_and_changes_nothing),
};
const size_t conform_changing_count = sizeof conform_changing / sizeof conform_changing[0];
