/* SPDX-License-Identifier: Apache-2.0 */
/* A store on a stand-in, ranges as a plan would make them, and walks that count what they gave. */
#ifndef DR_TESTS_MONGODB_WALK_HELP_H
#define DR_TESTS_MONGODB_WALK_HELP_H

#include "mongodb/standin_help.h"
#include "store/store.h"

enum { BATCHES_MAX = 20000, CHUNKS_MAX = 16 };

struct world {
    struct standin d;
    struct dr_store *s;
    struct dr_batch *batch;
    struct dr_cursor at;
    struct dr_tally tally;
    struct dr_err err;
};

#define must(w, call)                                                                              \
    do {                                                                                           \
        enum dr_code rc_ = (call);                                                                 \
        if (rc_ != DR_OK) {                                                                        \
            print_error("%s: %s: %s\n", #call, dr_code_name(rc_), (w)->err.msg);                   \
        }                                                                                          \
        assert_int_equal(rc_, DR_OK);                                                              \
    } while (0)

#define admin(w, ...) standin_do((w)->d.router, "admin", __VA_ARGS__)
#define shop(w, ...) standin_do((w)->d.router, "shop", __VA_ARGS__)

static DR_UNUSED void reopen(struct world *w)
{
    dr_store_close(w->s);
    w->s = NULL;
    must(w, dr_store_open(w->d.url, &w->s, &w->err));
}

static DR_UNUSED struct world *begin_with(const char *file, const char *version, const char *shards)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    standin_start(&w->d, file, version, shards);
    must(w, dr_store_open(w->d.url, &w->s, &w->err));
    must(w, dr_batch_create(&w->batch, &w->err));
    admin(w, "{\"enableSharding\": \"shop\", \"primaryShard\": \"a\"}");
    return w;
}

static DR_UNUSED struct world *begin(const char *version)
{
    return begin_with("../support/mongo_standin.py", version, "a,b");
}

static DR_UNUSED void finish(struct world *w)
{
    dr_store_close(w->s);
    dr_batch_destroy(w->batch);
    standin_stop(&w->d);
    free(w);
}

static DR_UNUSED void fill(struct world *w, const char *ns, int from, int count, const char *fields)
{
    admin(
        w,
        "{\"standin\": 1, \"fill\": {\"ns\": \"%s\", \"from\": %d, \"count\": %d, \"fields\": %s}}",
        ns, from, count, fields);
}

/* An integer, or one end, as a bound of one part; compound ones are put together by the test. */
static DR_UNUSED struct dr_value number(int64_t n)
{
    return (struct dr_value){.type = DR_V_INT, .i = n};
}
static DR_UNUSED struct dr_bound at_number(int64_t n)
{
    return (struct dr_bound){1, {number(n)}};
}
static DR_UNUSED struct dr_bound lowest(uint32_t parts)
{
    struct dr_bound b = {.parts = parts};
    for (uint32_t i = 0; i < parts; i++) {
        b.part[i].type = DR_V_MIN;
    }
    return b;
}
static DR_UNUSED struct dr_bound highest(uint32_t parts)
{
    struct dr_bound b = {.parts = parts};
    for (uint32_t i = 0; i < parts; i++) {
        b.part[i].type = DR_V_MAX;
    }
    return b;
}

static DR_UNUSED void renew_epoch(struct world *w, struct dr_range *r)
{
    must(w, dr_store_epoch(w->s, r->collection, &r->epoch, &w->err));
}

static DR_UNUSED struct dr_range key_range(struct world *w, const char *ns, enum dr_access access,
                                           const char *key, struct dr_bound from,
                                           struct dr_bound upto)
{
    struct dr_range r = {.node = "a",
                         .collection = ns,
                         .access = access,
                         .key_count = 1,
                         .key = {key},
                         .from = from,
                         .upto = upto};
    renew_epoch(w, &r);
    return r;
}

static DR_UNUSED struct dr_range scan_range(struct world *w, const char *ns)
{
    struct dr_range r = {.node = "a", .collection = ns, .access = DR_BY_SCAN};
    renew_epoch(w, &r);
    return r;
}

static DR_UNUSED struct dr_budget budget_of(uint64_t items, bool with_values)
{
    return (struct dr_budget){.items_max = items,
                              .bytes_max = UINT64_C(1) << 30,
                              .ms_max = 600000,
                              .with_values = with_values};
}

/* Read on from w->at into w->batch, and move w->at behind it. */
static DR_UNUSED void read_on(struct world *w, const struct dr_range *r, uint64_t items,
                              bool with_values)
{
    struct dr_budget budget = budget_of(items, with_values);
    must(w, dr_store_scan(w->s, r, &budget, &w->at, w->batch, &w->err));
    w->at = w->batch->after;
}

static DR_UNUSED void read_first(struct world *w, const struct dr_range *r, uint64_t items,
                                 bool with_values)
{
    w->at.len = 0;
    read_on(w, r, items, with_values);
}

/* Walk to the end without touching anything; the number of items given. */
static DR_UNUSED uint64_t walk_all(struct world *w, const struct dr_range *r, uint64_t items)
{
    uint64_t given = 0;
    w->at.len = 0;
    for (int i = 0; i < BATCHES_MAX; i++) {
        read_on(w, r, items, false);
        given += w->batch->count;
        if (w->batch->is_end) {
            return given;
        }
    }
    fail_msg("the walk of %s has no end", r->collection);
    return 0;
}

static DR_UNUSED uint64_t count_of(struct world *w, const struct dr_range *r)
{
    uint64_t rows = 0;
    must(w, dr_store_count(w->s, r, &rows, &w->err));
    return rows;
}

/* One pass of erasing; what was erased. */
static DR_UNUSED uint64_t erase_all(struct world *w, const struct dr_range *r, uint64_t items,
                                    bool with_values)
{
    uint64_t erased = 0;
    w->at.len = 0;
    for (int i = 0; i < BATCHES_MAX; i++) {
        read_on(w, r, items, with_values);
        must(w, dr_store_erase(w->s, r, w->batch, &w->tally, &w->err));
        erased += w->tally.erased;
        if (w->batch->is_end) {
            return erased;
        }
    }
    fail_msg("the erase of %s has no end", r->collection);
    return 0;
}

static DR_UNUSED void assert_tally(const struct world *w, uint64_t erased, uint64_t absent,
                                   uint64_t changed)
{
    assert_int_equal(w->tally.erased, erased);
    assert_int_equal(w->tally.absent, absent);
    assert_int_equal(w->tally.changed, changed);
}

static DR_UNUSED void erase_batch(struct world *w, const struct dr_range *r)
{
    must(w, dr_store_erase(w->s, r, w->batch, &w->tally, &w->err));
}

/* Documents that the shards own, orphans left out. */
static DR_UNUSED int64_t owned(struct world *w, const char *ns)
{
    char *name = dr_asprintf("digest.%s.count", ns);
    bson_iter_t it, digest, one, count;
    bson_t *reply = standin_ask(w->d.router, "admin", "{\"standin\": 1, \"digest\": \"%s\"}", ns);
    dr_free(name);
    assert_true(bson_iter_init_find(&it, reply, "digest") && bson_iter_recurse(&it, &digest));
    int64_t n = 0;
    if (bson_iter_find(&digest, ns)) {
        one = digest;
        assert_true(bson_iter_recurse(&one, &count) && bson_iter_find(&count, "count"));
        n = bson_iter_as_int64(&count);
    }
    bson_destroy(reply);
    return n;
}

/* A counter of the stand-in, by its path. 0 when it is not there. */
static DR_UNUSED int64_t counter(struct world *w, const char *path)
{
    bson_iter_t it, found;
    bson_t *reply = standin_ask(w->d.router, "admin", "{\"standin\": 1, \"counters\": 1}");
    assert_true(bson_iter_init(&it, reply));
    int64_t n = bson_iter_find_descendant(&it, path, &found) ? bson_iter_as_int64(&found) : 0;
    bson_destroy(reply);
    return n;
}

static DR_UNUSED void forget_counters(struct world *w)
{
    admin(w, "{\"standin\": 1, \"counters\": \"reset\"}");
}

/* The _id of an item as extended JSON, {"_id": ...}; bson_free it. */
static DR_UNUSED char *id_text(const struct dr_item *item)
{
    bson_t key, id = BSON_INITIALIZER;
    bson_iter_t it;
    assert_true(bson_init_static(&key, item->key, item->key_len));
    assert_true(bson_iter_init_find(&it, &key, "_id"));
    assert_true(bson_append_iter(&id, "_id", 3, &it));
    char *text = bson_as_canonical_extended_json(&id, NULL);
    bson_destroy(&id);
    return text;
}

static DR_UNUSED int64_t id_number(const struct dr_item *item)
{
    bson_t key;
    bson_iter_t it;
    assert_true(bson_init_static(&key, item->key, item->key_len));
    assert_true(bson_iter_init_find(&it, &key, "_id"));
    return bson_iter_as_int64(&it);
}

#endif
