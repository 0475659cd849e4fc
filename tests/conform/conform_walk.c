/* SPDX-License-Identifier: Apache-2.0 */
/* What every promise starts with: an open store with its survey, ranges as a plan would make them,
 * and walks that count what they were given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "conform/conform.h"

enum { BATCHES_MAX = 100000 };

static int64_t (*id_by)(const struct dr_item *item); /* of the fixture in use */

int conform_setup(void **state)
{
    struct conform *c = calloc(1, sizeof *c);
    char url[512];
    if (c == NULL) {
        return -1;
    }
    c->f = *state;
    *state = c;
    id_by = c->f->id;
    conform_hash_by(c->f->hash);
    c->f->make();
    (void)snprintf(url, sizeof url, "%s%s", c->f->prefix, c->f->url());
    c->arena = dr_arena_create(4096);
    assert_non_null(c->arena);
    assert_ok(c, dr_batch_create(&c->batch, &c->err));
    assert_ok(c, dr_store_open(url, &c->s, &c->err));
    assert_ok(c, dr_store_survey(c->s, c->f->database, NULL, &c->survey, &c->err));
    return 0;
}

int conform_teardown(void **state)
{
    struct conform *c = *state;
    dr_survey_destroy(c->survey);
    dr_store_close(c->s);
    dr_batch_destroy(c->batch);
    dr_arena_destroy(c->arena);
    c->f->clean();
    free(c);
    return 0;
}

const char *conform_name(const struct conform *c, enum conform_collection of)
{
    static char name[C_LIMIT][64];
    (void)snprintf(name[of], sizeof name[of], "%s.%s", c->f->database, conform_shape(of)->name);
    return name[of];
}

const char *conform_node(const struct conform *c, const char *sharded_node)
{
    return c->f->plain_node != NULL ? c->f->plain_node : sharded_node;
}

const struct dr_collection *conform_find(const struct dr_survey *survey, const char *name)
{
    for (uint32_t i = 0; i < survey->collection_count; i++) {
        if (strcmp(survey->collection[i].name, name) == 0) {
            return &survey->collection[i];
        }
    }
    return NULL;
}

const struct dr_collection *conform_collection(const struct conform *c, enum conform_collection of)
{
    const struct dr_collection *found = conform_find(c->survey, conform_name(c, of));
    assert_non_null(found);
    return found;
}

struct dr_range conform_range(const struct conform *c, enum conform_collection of, uint64_t chunk)
{
    const struct dr_collection *from = conform_collection(c, of);
    assert_true(chunk < from->chunk_count);
    struct dr_range range = {.node = from->chunk[chunk].node,
                             .collection = from->name,
                             .access = DR_BY_SCAN,
                             .epoch = from->epoch};
    if (from->sharding != DR_UNSHARDED) {
        range.access = from->sharding == DR_SHARDED_HASHED ? DR_BY_SHARD_HASHED : DR_BY_SHARD_RANGE;
        range.key_count = from->key_count;
        memcpy(range.key, from->key, sizeof range.key);
        range.from = from->chunk[chunk].from;
        range.upto = from->chunk[chunk].upto;
    }
    return range;
}

struct dr_bound conform_bound(const struct conform *c, enum conform_collection of,
                              const struct dr_bound *bound)
{
    struct dr_bound whole = *bound;
    while (c->f->is_routed && whole.parts < conform_shape(of)->key_count) {
        /* A prefix stands before all that follow; the very end stands behind everything. */
        bool is_top = whole.part[0].type == DR_V_MAX;
        whole.part[whole.parts++] = (struct dr_value){.type = is_top ? DR_V_MAX : DR_V_MIN};
    }
    return whole;
}

struct dr_range conform_scan_range(const struct conform *c, enum conform_collection of,
                                   const char *node)
{
    const struct dr_collection *from = conform_collection(c, of);
    return (struct dr_range){
        .node = node, .collection = from->name, .access = DR_BY_SCAN, .epoch = from->epoch};
}

const struct dr_filter *conform_filter(struct conform *c, const char *json)
{
    json_t *j = NULL;
    const struct dr_filter *filter = NULL;
    assert_ok(c, dr_json_parse("filter", json, strlen(json), &j, &c->err));
    enum dr_code rc = dr_filter_parse(j, c->arena, &filter, &c->err);
    json_decref(j);
    assert_ok(c, rc);
    return filter;
}

struct dr_budget conform_budget(uint64_t items_max, bool with_values)
{
    return (struct dr_budget){
        .items_max = items_max, .bytes_max = 1 << 24, .ms_max = 60000, .with_values = with_values};
}

int64_t conform_id(const struct dr_item *item)
{
    struct dr_value value;
    uint32_t count = 0;
    struct dr_err err;
    if (id_by != NULL) {
        return id_by(item);
    }
    enum dr_code rc = dr_values_decode(item->key, item->key_len, &value, 1, &count, &err);
    assert_int_equal(rc, DR_OK);
    assert_int_equal(value.type, DR_V_INT);
    return value.i;
}

uint64_t conform_walk(struct conform *c, const struct dr_range *range,
                      const struct dr_budget *budget, uint32_t *seen, uint32_t seen_count)
{
    struct dr_cursor *at = calloc(1, sizeof *at);
    uint64_t items = 0;
    uint64_t batches = 0;
    assert_non_null(at);
    do {
        assert_ok(c, dr_store_scan(c->s, range, budget, at, c->batch, &c->err));
        assert_true(c->batch->count <= budget->items_max);
        assert_true(c->batch->count <= 1 || c->batch->bytes <= budget->bytes_max);
        uint64_t bytes = 0;
        for (uint64_t i = 0; i < c->batch->count; i++) {
            const struct dr_item *item = &c->batch->item[i];
            int64_t id = conform_id(item);
            assert_true(id > 0 && id <= seen_count);
            seen[id - 1]++;
            assert_int_equal(item->value != NULL, budget->with_values);
            bytes += item->key_len + item->value_len;
        }
        assert_int_equal(bytes, c->batch->bytes);
        items += c->batch->count;
        *at = c->batch->after;
        assert_true(++batches < BATCHES_MAX);
    } while (!c->batch->is_end);
    free(at);
    return items;
}

void conform_read(struct conform *c, const struct dr_range *range, uint64_t items_max,
                  bool with_values)
{
    struct dr_budget budget = conform_budget(items_max, with_values);
    struct dr_cursor *start = calloc(1, sizeof *start);
    assert_non_null(start);
    assert_ok(c, dr_store_scan(c->s, range, &budget, start, c->batch, &c->err));
    free(start);
    assert_true(c->batch->count > 0);
}

uint64_t conform_total(const struct conform *c, enum conform_collection of)
{
    return c->f->plain_node != NULL ? c->f->count(of, c->f->plain_node)
                                    : c->f->count(of, NODE_A) + c->f->count(of, NODE_B);
}

bool conform_has(const struct conform *c, enum conform_collection of, int64_t id)
{
    return c->f->plain_node != NULL ? c->f->has(of, c->f->plain_node, id)
                                    : c->f->has(of, NODE_A, id) || c->f->has(of, NODE_B, id);
}
