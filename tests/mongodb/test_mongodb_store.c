/* SPDX-License-Identifier: Apache-2.0 */
/* What the MongoDB adapter reads and erases, on the stand-in router. The first tests repeat what
 * was measured on a real cluster; each is named for the promise. */
#include "mongodb/walk_help.h"

/* ---- bounds are places in an index ---- */

/* The collection `ranged` of the facts: 0..999, null, "zz", -5, split at 0 and 500. */
static void make_ranged(struct world *w)
{
    admin(w, "{\"shardCollection\": \"shop.ranged\", \"key\": {\"k\": 1}}");
    fill(w, "shop.ranged", 0, 1000, "{\"k\": \"$n\", \"body\": \"text\"}");
    shop(w, "{\"insert\": \"ranged\", \"documents\": [{\"_id\": 1000, \"k\": null}, "
            "{\"_id\": 1001, \"k\": \"zz\"}, {\"_id\": 1002, \"k\": -5}]}");
    admin(w, "{\"split\": \"shop.ranged\", \"middle\": {\"k\": 0}}");
    admin(w, "{\"split\": \"shop.ranged\", \"middle\": {\"k\": 500}}");
}

static void check_ranged(const char *version)
{
    struct world *w = begin(version);
    make_ranged(w);
    const struct {
        struct dr_bound from, upto;
        uint64_t count;
    } chunks[] = {{lowest(1), at_number(0), 2},
                  {at_number(0), at_number(500), 500},
                  {at_number(500), highest(1), 501}};
    for (size_t i = 0; i < 3; i++) {
        struct dr_range r =
            key_range(w, "shop.ranged", DR_BY_SHARD_RANGE, "k", chunks[i].from, chunks[i].upto);
        assert_int_equal(walk_all(w, &r, 70), chunks[i].count);
        assert_int_equal(count_of(w, &r), chunks[i].count);
        assert_int_equal(erase_all(w, &r, 90, i % 2 == 0), chunks[i].count);
        assert_int_equal(walk_all(w, &r, 70), 0);
    }
    assert_int_equal(owned(w, "shop.ranged"), 0);
    finish(w);
}

static void range_chunks_hold_null_and_other_types(void **state)
{
    (void)state;
    check_ranged("4.0.3");
    check_ranged("7.0.5"); /* chunks are found by uuid there */
}

struct chunk_list {
    uint32_t count;
    struct dr_bound from[CHUNKS_MAX], upto[CHUNKS_MAX];
    char node[CHUNKS_MAX][16];
};

static struct dr_bound hash_bound(const bson_iter_t *chunk, const char *name)
{
    bson_iter_t it, part;
    struct dr_bound b = {.parts = 1};
    assert_true(bson_iter_recurse(chunk, &it) && bson_iter_find(&it, name));
    assert_true(bson_iter_recurse(&it, &part) && bson_iter_next(&part));
    if (BSON_ITER_HOLDS_MINKEY(&part) || BSON_ITER_HOLDS_MAXKEY(&part)) {
        b.part[0].type = BSON_ITER_HOLDS_MINKEY(&part) ? DR_V_MIN : DR_V_MAX;
    } else {
        b.part[0] = number(bson_iter_as_int64(&part));
    }
    return b;
}

static void list_chunks(struct world *w, const char *ns, struct chunk_list *out)
{
    bson_iter_t it, chunk, shard;
    *out = (struct chunk_list){0};
    bson_t *reply = standin_ask(w->d.router, "admin", "{\"standin\": 1, \"layout\": \"%s\"}", ns);
    assert_true(bson_iter_init_find(&it, reply, "chunks") && bson_iter_recurse(&it, &chunk));
    while (bson_iter_next(&chunk)) {
        assert_true(out->count < CHUNKS_MAX);
        out->from[out->count] = hash_bound(&chunk, "min");
        out->upto[out->count] = hash_bound(&chunk, "max");
        assert_true(bson_iter_recurse(&chunk, &shard) && bson_iter_find(&shard, "shard"));
        dr_copy_text(out->node[out->count++], 16, bson_iter_utf8(&shard, NULL));
    }
    bson_destroy(reply);
}

/* 1003 documents in 4 chunks; every one is in exactly one, though no bound is a value of k. */
static void check_hashed(const char *version)
{
    struct world *w = begin(version);
    struct chunk_list chunks;
    uint64_t total = 0;
    admin(w, "{\"shardCollection\": \"shop.hashed\", \"key\": {\"k\": \"hashed\"}, "
             "\"numInitialChunks\": 4}");
    fill(w, "shop.hashed", 0, 1000, "{\"k\": \"$n\"}");
    shop(w, "{\"insert\": \"hashed\", \"documents\": [{\"_id\": 1000, \"k\": null}, "
            "{\"_id\": 1001, \"k\": \"zz\"}, {\"_id\": 1002, \"k\": -5}]}");
    list_chunks(w, "shop.hashed", &chunks);
    assert_int_equal(chunks.count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct dr_range r =
            key_range(w, "shop.hashed", DR_BY_SHARD_HASHED, "k", chunks.from[i], chunks.upto[i]);
        uint64_t given = walk_all(w, &r, 37);
        assert_in_range(given, 200, 300);
        assert_int_equal(count_of(w, &r), given);
        forget_counters(w);
        assert_int_equal(erase_all(w, &r, 100, true), given);
        assert_true(counter(w, "deletes.targeted") > 0);
        assert_int_equal(counter(w, "deletes.broadcast"), 0);
        total += given;
    }
    assert_int_equal(total, 1003);
    assert_int_equal(owned(w, "shop.hashed"), 0);
    finish(w);
}

static void hashed_chunks_hold_what_hashes_into_them(void **state)
{
    (void)state;
    check_hashed("4.0.3");
    check_hashed("5.0.9");
}

static struct dr_bound pair(int64_t a, struct dr_value b)
{
    return (struct dr_bound){2, {number(a), b}};
}

/* {a: 1, b: 1}, all with a = 1: only both fields together tell the chunks apart. */
static void compound_chunks_go_by_every_field(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.compound\", \"key\": {\"a\": 1, \"b\": 1}}");
    fill(w, "shop.compound", 0, 300, "{\"a\": 1, \"b\": \"$n\"}");
    admin(w, "{\"split\": \"shop.compound\", \"middle\": {\"a\": 1, \"b\": 100}}");
    admin(w, "{\"split\": \"shop.compound\", \"middle\": {\"a\": 1, \"b\": 200}}");
    admin(w, "{\"moveChunk\": \"shop.compound\", \"find\": {\"a\": 1, \"b\": 150}, \"to\": \"b\"}");
    struct dr_bound ends[] = {lowest(2), pair(1, number(100)), pair(1, number(200)), highest(2)};
    for (int i = 0; i < 3; i++) {
        struct dr_range r = {.node = i == 1 ? "b" : "a",
                             .collection = "shop.compound",
                             .access = DR_BY_SHARD_RANGE,
                             .key_count = 2,
                             .key = {"a", "b"},
                             .from = ends[i],
                             .upto = ends[i + 1]};
        renew_epoch(w, &r);
        assert_int_equal(walk_all(w, &r, 9), 100);
        assert_int_equal(erase_all(w, &r, 40, i % 2 == 0), 100);
        assert_int_equal(owned(w, "shop.compound"), 200 - 100 * i);
    }
    assert_int_equal(counter(w, "deletes.broadcast"), 0);
    finish(w);
}

/* A compound key with a hashed second part: bounds mix values and hashes. */
static void a_hashed_part_behind_a_plain_one_is_walked(void **state)
{
    (void)state;
    struct world *w = begin("4.4.0");
    admin(w, "{\"shardCollection\": \"shop.mixed\", \"key\": {\"a\": 1, \"b\": \"hashed\"}}");
    fill(w, "shop.mixed", 0, 400, "{\"a\": {\"$mod\": 4}, \"b\": \"$n\"}");
    admin(w,
          "{\"split\": \"shop.mixed\", \"middle\": {\"a\": 2, \"b\": {\"$numberLong\": \"0\"}}}");
    struct dr_bound middle = pair(2, number(0));
    struct dr_range r = {.node = "a",
                         .collection = "shop.mixed",
                         .access = DR_BY_SHARD_RANGE,
                         .key_count = 2,
                         .key = {"a", "b"},
                         .from = lowest(2),
                         .upto = middle};
    renew_epoch(w, &r);
    uint64_t low = erase_all(w, &r, 33, true);
    assert_in_range(low, 201, 299);
    r.from = middle;
    r.upto = highest(2);
    assert_int_equal(erase_all(w, &r, 33, false), 400 - low);
    assert_int_equal(owned(w, "shop.mixed"), 0);
    finish(w);
}

static void a_document_whose_key_is_maxkey_is_in_the_last_chunk(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.ends\", \"key\": {\"k\": 1}}");
    shop(w, "{\"insert\": \"ends\", \"documents\": [{\"_id\": 1, \"k\": {\"$maxKey\": 1}}, "
            "{\"_id\": 2, \"k\": {\"$minKey\": 1}}, {\"_id\": 3, \"k\": 7}]}");
    struct dr_range r = key_range(w, "shop.ends", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    assert_int_equal(walk_all(w, &r, 1), 3);
    assert_int_equal(erase_all(w, &r, 1, true), 3);
    finish(w);
}

/* ---- keys and ids of every kind ---- */

static const char *const every_id[] = {
    "1",
    "{\"$numberLong\": \"9007199254740993\"}",
    "2.5",
    "{\"$numberDouble\": \"NaN\"}",
    "{\"$numberDouble\": \"-Infinity\"}",
    "{\"$numberDecimal\": \"3.70\"}",
    "\"text\"",
    "\"\"",
    "{\"x\": 1, \"y\": [1, 2]}",
    "{}",
    "{\"$binary\": {\"base64\": \"AAEC\", \"subType\": \"00\"}}",
    "{\"$binary\": {\"base64\": \"AAECAwQFBgcICQoLDA0ODw==\", \"subType\": \"04\"}}",
    "{\"$oid\": \"507f1f77bcf86cd799439011\"}",
    "true",
    "false",
    "null",
    "{\"$date\": {\"$numberLong\": \"1795219200000\"}}",
    "{\"$timestamp\": {\"t\": 5, \"i\": 6}}",
    "{\"$minKey\": 1}",
    "{\"$maxKey\": 1}",
    "{\"$code\": \"f()\"}",
    "{\"$symbol\": \"s\"}",
};
enum { EVERY_ID = sizeof every_id / sizeof every_id[0] };

static void insert_every_id(struct world *w, const char *name, const char *more)
{
    for (size_t i = 0; i < EVERY_ID; i++) {
        shop(w, "{\"insert\": \"%s\", \"documents\": [{\"_id\": %s, \"n\": %zu%s}]}", name,
             every_id[i], i, more);
    }
}

static void ids_of_every_type_are_walked_erased_and_put_back(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    insert_every_id(w, "ids", "");
    struct dr_range r = scan_range(w, "shop.ids");
    for (uint64_t items = 1; items < 4; items++) {
        assert_int_equal(walk_all(w, &r, items), EVERY_ID);
    }
    w->at.len = 0;
    for (size_t i = 0; i < EVERY_ID; i++) { /* each batch by a process of its own */
        reopen(w);
        read_on(w, &r, 1, true);
        assert_int_equal(w->batch->count, 1);
        erase_batch(w, &r);
        assert_tally(w, 1, 0, 0);
        assert_int_equal(owned(w, "shop.ids"), EVERY_ID - 1);
        must(w, dr_store_restore(w->s, &r, w->batch, &w->tally, &w->err));
        assert_int_equal(w->tally.restored, 1);
    }
    assert_int_equal(erase_all(w, &r, 100, true), EVERY_ID);
    finish(w);
}

static void ids_of_every_type_are_hashed_as_the_server_does(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.idhash\", \"key\": {\"_id\": \"hashed\"}, "
             "\"numInitialChunks\": 2}");
    insert_every_id(w, "idhash", "");
    uint64_t erased = 0;
    for (int half = 0; half < 2; half++) {
        struct dr_range r =
            key_range(w, "shop.idhash", DR_BY_SHARD_HASHED, "_id",
                      half == 0 ? lowest(1) : at_number(0), half == 0 ? at_number(0) : highest(1));
        uint64_t given = walk_all(w, &r, 2);
        assert_int_equal(erase_all(w, &r, 3, half == 0), given);
        erased += given;
    }
    assert_int_equal(erased, EVERY_ID);
    assert_int_equal(owned(w, "shop.idhash"), 0);
    finish(w);
}

/* From 4.4 a document may lack the shard key: it counts as null, and $in would also mean others. */
static void missing_and_null_shard_keys_are_one_place(void **state)
{
    (void)state;
    struct world *w = begin("4.4.0");
    admin(w, "{\"shardCollection\": \"shop.holes\", \"key\": {\"k\": 1}}");
    shop(w, "{\"insert\": \"holes\", \"documents\": [{\"_id\": 1}, {\"_id\": 2, \"k\": null}, "
            "{\"_id\": 3, \"k\": 1}, {\"_id\": 4}, {\"_id\": 5, \"k\": \"x\"}]}");
    for (int with_values = 0; with_values < 2; with_values++) {
        struct dr_range r =
            key_range(w, "shop.holes", DR_BY_SHARD_RANGE, "k", lowest(1), at_number(5));
        assert_int_equal(walk_all(w, &r, 1), 4);
        read_first(w, &r, 10, true);
        struct dr_range all = r;
        assert_int_equal(erase_all(w, &r, 3, with_values == 1), 4);
        assert_int_equal(owned(w, "shop.holes"), 1);
        shop(w, "{\"insert\": \"holes\", \"documents\": [{\"_id\": 1}, {\"_id\": 2, \"k\": null}, "
                "{\"_id\": 3, \"k\": 1}, {\"_id\": 4}]}");
        assert_int_equal(walk_all(w, &all, 2), 4);
    }
    finish(w);
}

/* A null key is found by its index place; another document with a missing key stays. */
static void a_null_key_does_not_take_others_along(void **state)
{
    (void)state;
    struct world *w = begin("4.4.0");
    admin(w, "{\"shardCollection\": \"shop.holes\", \"key\": {\"k\": 1}}");
    shop(w, "{\"insert\": \"holes\", \"documents\": [{\"_id\": 1, \"k\": null}]}");
    struct dr_range r = key_range(w, "shop.holes", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    read_first(w, &r, 10, false);
    shop(w, "{\"insert\": \"holes\", \"documents\": [{\"_id\": 2}, {\"_id\": 3, \"k\": null}]}");
    erase_batch(w, &r);
    assert_tally(w, 1, 0, 0);
    assert_int_equal(owned(w, "shop.holes"), 2);
    finish(w);
}

static void a_regular_expression_as_key_is_a_value(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.regex\", \"key\": {\"k\": 1}}");
    shop(w, "{\"insert\": \"regex\", \"documents\": ["
            "{\"_id\": 1, \"k\": {\"$regularExpression\": {\"pattern\": \"a.*\", \"options\": "
            "\"\"}}}, {\"_id\": 2, \"k\": \"abc\"}, {\"_id\": 3, \"k\": \"axe\"}]}");
    struct dr_range r = key_range(w, "shop.regex", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    assert_int_equal(walk_all(w, &r, 1), 3);
    w->at.len = 0;
    do { /* the expression sorts behind the texts: it is the last one */
        read_on(w, &r, 1, true);
    } while (w->batch->count == 0 || id_number(&w->batch->item[0]) != 1);
    erase_batch(w, &r);
    assert_tally(w, 1, 0, 0);
    assert_int_equal(owned(w, "shop.regex"), 2);
    assert_int_equal(erase_all(w, &r, 10, false), 2);
    finish(w);
}

static void dotted_shard_keys_are_read_from_within(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.deep\", \"key\": {\"who.id\": 1, \"who.at\": 1}}");
    for (int i = 0; i < 60; i++) {
        shop(w,
             "{\"insert\": \"deep\", \"documents\": [{\"_id\": %d, \"who\": {\"id\": %d, \"at\": "
             "\"t%d\", \"x\": 1}}]}",
             i, i / 20, i % 7);
    }
    admin(w, "{\"split\": \"shop.deep\", \"middle\": {\"who.id\": 1, \"who.at\": \"t3\"}}");
    struct dr_bound middle = pair(1, (struct dr_value){.type = DR_V_TEXT, .data = "t3", .len = 2});
    uint64_t erased = 0;
    for (int half = 0; half < 2; half++) {
        struct dr_range r = {.node = "a",
                             .collection = "shop.deep",
                             .access = DR_BY_SHARD_RANGE,
                             .key_count = 2,
                             .key = {"who.id", "who.at"},
                             .from = half == 0 ? lowest(2) : middle,
                             .upto = half == 0 ? middle : highest(2)};
        renew_epoch(w, &r);
        uint64_t given = walk_all(w, &r, 4);
        assert_int_equal(erase_all(w, &r, 11, half == 1), given);
        erased += given;
    }
    assert_int_equal(erased, 60);
    assert_int_equal(counter(w, "deletes.broadcast"), 0);
    finish(w);
}

/* ---- thousands of equal keys ---- */

static void make_equal(struct world *w, const char *name, const char *key)
{
    admin(w, "{\"shardCollection\": \"shop.%s\", \"key\": {\"k\": %s}}", name, key);
    char ns[64];
    (void)snprintf(ns, sizeof ns, "shop.%s", name);
    fill(w, ns, 0, 4000, "{\"k\": 7}");
    fill(w, ns, 4000, 20, "{\"k\": \"$n\"}");
}

static void equal_keys_are_given_once_within_a_process(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_equal(w, "same", "1");
    struct dr_range r = key_range(w, "shop.same", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    forget_counters(w);
    assert_int_equal(walk_all(w, &r, 50), 4020);
    /* The server's cursor went on from batch to batch: the equal keys were read once. */
    assert_true(counter(w, "commands.router.getMore") >= 75);
    finish(w);
}

static void equal_keys_go_on_after_a_restart(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_equal(w, "same", "\"hashed\"");
    struct dr_range r = key_range(w, "shop.same", DR_BY_SHARD_HASHED, "k", lowest(1), highest(1));
    char *seen = calloc(4020, 1);
    uint64_t given = 0;
    assert_non_null(seen);
    w->at.len = 0;
    for (int i = 0; i < 4; i++) { /* fewer than the list holds: none comes twice */
        reopen(w);
        read_on(w, &r, 300, false);
        for (uint64_t k = 0; k < w->batch->count; k++) {
            int64_t id = id_number(&w->batch->item[k]);
            assert_int_equal(seen[id], 0);
            seen[id] = 1;
        }
        given += w->batch->count;
    }
    assert_int_equal(given, 1200);
    free(seen);
    /* Erasing makes its way through any number, with a new process for each batch. */
    uint64_t erased = 0;
    w->at.len = 0;
    for (int i = 0; i < 100 && (i == 0 || !w->batch->is_end); i++) {
        reopen(w);
        read_on(w, &r, 500, i % 2 == 0);
        erase_batch(w, &r);
        erased += w->tally.erased;
    }
    assert_int_equal(erased, 4020);
    assert_int_equal(owned(w, "shop.same"), 0);
    finish(w);
}

/* More equal keys than a position can list: it says so, and nothing is skipped. */
static void a_long_list_of_equal_keys_skips_nothing(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_equal(w, "same", "1");
    struct dr_range r = key_range(w, "shop.same", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    char *seen = calloc(4020, 1);
    assert_non_null(seen);
    read_first(w, &r, 1600, false);
    for (int part = 0; part < 2; part++) {
        for (uint64_t k = 0; k < w->batch->count; k++) {
            seen[id_number(&w->batch->item[k])] = 1;
        }
        if (part == 0) {
            reopen(w);
            read_on(w, &r, 5000, false);
            assert_true(w->batch->is_end);
        }
    }
    for (int i = 0; i < 4020; i++) {
        assert_int_equal(seen[i], 1);
    }
    free(seen);
    finish(w);
}

/* ---- other walks ---- */

static void an_index_is_walked_whatever_its_direction(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    shop(w,
         "{\"createIndexes\": \"plain\", \"indexes\": ["
         "{\"key\": {\"at\": -1}, \"name\": \"down\"}, {\"key\": {\"at\": 1}, \"name\": \"up\"}, "
         "{\"key\": {\"tags\": 1}, \"name\": \"tags\"}, "
         "{\"key\": {\"at\": 1, \"x\": 1}, \"name\": \"holes\", \"sparse\": true}, "
         "{\"key\": {\"x\": \"hashed\"}, \"name\": \"hash\"}]}");
    fill(w, "shop.plain", 0, 200, "{\"at\": {\"$mod\": 9}, \"tags\": [1, 5, \"x\"]}");
    struct dr_range r = {.node = "a", .collection = "shop.plain", .access = DR_BY_INDEX};
    renew_epoch(w, &r);
    static const char *const good[] = {"down", "up", "tags", "_id_"};
    for (size_t i = 0; i < 4; i++) {
        r.index = good[i];
        assert_int_equal(walk_all(w, &r, 7), 200);
    }
    static const char *const bad[] = {"holes", "hash", "nosuch"};
    struct dr_budget budget = budget_of(5, true);
    for (size_t i = 0; i < 3; i++) {
        r.index = bad[i];
        enum dr_code rc = dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err);
        assert_int_equal(dr_code_retry(rc), DR_RETRY_NEVER);
        assert_non_null(strstr(w->err.msg, bad[i]));
    }
    r.index = "tags";
    read_first(w, &r, 30, true);
    erase_batch(w, &r);
    assert_tally(w, 30, 0, 0);
    reopen(w); /* from the beginning, where what was erased does not come again */
    w->at = w->batch->after;
    uint64_t rest = 0;
    do {
        read_on(w, &r, 50, true);
        rest += w->batch->count;
    } while (!w->batch->is_end);
    assert_int_equal(rest, 170);
    finish(w);
}

static void a_filter_of_the_request_selects(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = key_range(w, "shop.ranged", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    r.spec = "{\"kind\": \"mongodb.drop\", \"filter\": {\"k\": {\"$gte\": 100, \"$lt\": 150}}}";
    r.is_spec_of_request = true;
    assert_int_equal(walk_all(w, &r, 8), 50);
    assert_int_equal(count_of(w, &r), 50);
    assert_int_equal(erase_all(w, &r, 8, false), 50);
    assert_int_equal(owned(w, "shop.ranged"), 953);
    finish(w);
}

/* One match in many documents: no call looks through all of them, and positions lead through. */
static void rare_matches_are_looked_for_in_windows(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.rare\", \"key\": {\"k\": 1}}");
    fill(w, "shop.plain", 0, 23000, "{\"k\": 1}");
    fill(w, "shop.rare", 0, 23000, "{\"k\": \"$n\"}");
    for (int sharded = 0; sharded < 2; sharded++) {
        struct dr_range r =
            sharded == 0 ? scan_range(w, "shop.plain")
                         : key_range(w, "shop.rare", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
        struct dr_budget budget = budget_of(100, true);
        uint64_t found = 0, looked = 0, empty = 0;
        budget.ms_max = 0;
        r.spec = "{\"filter\": {\"_id\": {\"$gte\": 22990}}}";
        r.is_spec_of_request = true;
        w->at.len = 0;
        for (int i = 0; i < 30 && (i == 0 || !w->batch->is_end); i++) {
            reopen(w);
            must(w, dr_store_scan(w->s, &r, &budget, &w->at, w->batch, &w->err));
            w->at = w->batch->after;
            found += w->batch->count;
            looked += w->batch->looked;
            empty += w->batch->count == 0 && !w->batch->is_end ? 1 : 0;
        }
        assert_true(w->batch->is_end);
        assert_int_equal(found, 10);
        assert_int_equal(empty, 2);
        assert_true(looked >= 20000);
        assert_int_equal(count_of(w, &r), 10);
        assert_int_equal(erase_all(w, &r, 3, true), 10);
        assert_int_equal(walk_all(w, &r, 100), 0);
    }
    finish(w);
}

/* A broadcast: an index walk of a sharded collection; documents on several shards go one by one. */
static void a_broadcast_walk_erases_on_every_shard(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    admin(w, "{\"moveChunk\": \"shop.ranged\", \"find\": {\"k\": 600}, \"to\": \"b\"}");
    shop(w, "{\"createIndexes\": \"ranged\", \"indexes\": [{\"key\": {\"body\": 1}, \"name\": "
            "\"by_body\"}]}");
    struct dr_range r = {
        .node = "a", .collection = "shop.ranged", .access = DR_BY_INDEX, .index = "by_body"};
    r.spec = "{\"filter\": {\"body\": \"text\"}}";
    r.is_spec_of_request = true;
    renew_epoch(w, &r);
    forget_counters(w);
    assert_int_equal(erase_all(w, &r, 150, true), 1000);
    assert_int_equal(counter(w, "deletes.broadcast"), 0);
    assert_int_equal(owned(w, "shop.ranged"), 3);
    finish(w);
}

static void views_and_system_collections_are_refused(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    fill(w, "shop.plain", 0, 5, "{\"x\": 1}");
    shop(w, "{\"create\": \"window\", \"viewOn\": \"plain\", \"pipeline\": []}");
    shop(w, "{\"create\": \"ring\", \"capped\": true, \"size\": 100000}");
    fill(w, "shop.ring", 0, 5, "{\"x\": 1}");
    struct dr_budget budget = budget_of(5, true);
    static const char *const names[] = {"shop.window", "shop.system.views", "shop.ring"};
    for (size_t i = 0; i < 3; i++) {
        struct dr_range r = scan_range(w, names[i]);
        enum dr_code rc = dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err);
        assert_int_equal(rc, i == 2 ? DR_UNSUPPORTED : DR_REFUSED);
    }
    finish(w);
}

/* ---- sizes ---- */

static void big_documents_are_sent_in_slices(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    enum { BODY = 900 * 1024, COUNT = 24 };
    char *body = malloc(BODY + 1);
    assert_non_null(body);
    memset(body, 'x', BODY);
    body[BODY] = '\0';
    admin(w, "{\"shardCollection\": \"shop.big\", \"key\": {\"k\": 1}}");
    for (int i = 0; i < COUNT; i++) {
        bson_t *command = BCON_NEW("insert", "big", "documents", "[", "{", "_id", BCON_INT32(i),
                                   "k", BCON_INT32(i / 3), "body", BCON_UTF8(body), "}", "]");
        bson_destroy(standin_reply(w->d.router, "shop", command));
        bson_destroy(command);
    }
    free(body);
    struct dr_range r = key_range(w, "shop.big", DR_BY_SHARD_RANGE, "k", lowest(1), highest(1));
    struct dr_budget budget = budget_of(1000, true);
    budget.bytes_max = 5 * 1000 * 1000;
    must(w, dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err));
    assert_int_equal(w->batch->count, 5); /* the budget's bytes end the batch */
    assert_true(w->batch->bytes <= budget.bytes_max);
    w->at = w->batch->after;
    read_on(w, &r, 1000, true);
    assert_int_equal(w->batch->count, COUNT - 5); /* the one held back is not lost */
    read_first(w, &r, 1000, true);
    forget_counters(w);
    erase_batch(w, &r);
    assert_tally(w, COUNT, 0, 0);
    assert_int_equal(counter(w, "commands.router.delete"), 3); /* 9 fit 8 MiB */
    must(w, dr_store_restore(w->s, &r, w->batch, &w->tally, &w->err));
    assert_int_equal(w->tally.restored, COUNT);
    finish(w);
}

/* The router looks up each combination of a compound key's values, so they are limited. */
static void statements_of_compound_keys_stay_small(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.grid\", \"key\": {\"a\": 1, \"b\": 1}}");
    fill(w, "shop.grid", 0, 700, "{\"a\": \"$n\", \"b\": \"$n\"}");
    struct dr_range r = {.node = "a",
                         .collection = "shop.grid",
                         .access = DR_BY_SHARD_RANGE,
                         .key_count = 2,
                         .key = {"a", "b"},
                         .from = lowest(2),
                         .upto = highest(2)};
    renew_epoch(w, &r);
    read_first(w, &r, 700, false);
    forget_counters(w);
    erase_batch(w, &r);
    assert_tally(w, 700, 0, 0);
    assert_int_equal(counter(w, "commands.router.delete"), 1);
    assert_int_equal(counter(w, "statements.delete"), 11); /* 64 x 64 combinations each */
    finish(w);
}

/* What a batch costs: the numbers the adapter is judged by on any server. */
static void a_batch_costs_a_handful_of_commands(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r =
        key_range(w, "shop.ranged", DR_BY_SHARD_RANGE, "k", at_number(0), at_number(500));
    forget_counters(w);
    read_first(w, &r, 500, true);
    erase_batch(w, &r);
    assert_tally(w, 500, 0, 0);
    assert_int_equal(counter(w, "commands.router.delete"), 1);
    assert_int_equal(counter(w, "statements.delete"), 1);
    assert_int_equal(counter(w, "deletes.targeted"), 1);
    /* Metadata twice for the read and twice for the erase, its chunks, and the read itself. */
    assert_true(counter(w, "commands.router.find") <= 7);
    finish(w);
}

/* ---- the neighbours ---- */

static char *digest_of(struct world *w, const char *ns)
{
    bson_t *reply = standin_ask(w->d.router, "admin", "{\"standin\": 1, \"digest\": \"%s\"}", ns);
    char *text = bson_as_canonical_extended_json(reply, NULL);
    bson_destroy(reply);
    return text;
}

static void neighbours_stay_byte_for_byte(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    fill(w, "shop.ranged2", 0, 1000, "{\"k\": \"$n\", \"body\": \"text\"}");
    fill(w, "shop.range", 0, 100, "{\"k\": \"$n\"}");
    fill(w, "shopping.ranged", 0, 1000, "{\"k\": \"$n\", \"body\": \"text\"}");
    static const char *const others[] = {"shop.ranged2", "shop.range", "shopping"};
    char *before[3];
    for (size_t i = 0; i < 3; i++) {
        before[i] = digest_of(w, others[i]);
    }
    struct dr_range r =
        key_range(w, "shop.ranged", DR_BY_SHARD_RANGE, "k", at_number(0), at_number(500));
    assert_int_equal(erase_all(w, &r, 100, true), 500);
    for (size_t i = 0; i < 3; i++) {
        char *after = digest_of(w, others[i]);
        assert_string_equal(before[i], after);
        bson_free(after);
        bson_free(before[i]);
    }
    assert_int_equal(owned(w, "shop.ranged"), 503); /* the chunks beside it as well */
    finish(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_chunks_hold_null_and_other_types),
        cmocka_unit_test(hashed_chunks_hold_what_hashes_into_them),
        cmocka_unit_test(compound_chunks_go_by_every_field),
        cmocka_unit_test(a_hashed_part_behind_a_plain_one_is_walked),
        cmocka_unit_test(a_document_whose_key_is_maxkey_is_in_the_last_chunk),
        cmocka_unit_test(ids_of_every_type_are_walked_erased_and_put_back),
        cmocka_unit_test(ids_of_every_type_are_hashed_as_the_server_does),
        cmocka_unit_test(missing_and_null_shard_keys_are_one_place),
        cmocka_unit_test(a_null_key_does_not_take_others_along),
        cmocka_unit_test(a_regular_expression_as_key_is_a_value),
        cmocka_unit_test(dotted_shard_keys_are_read_from_within),
        cmocka_unit_test(equal_keys_are_given_once_within_a_process),
        cmocka_unit_test(equal_keys_go_on_after_a_restart),
        cmocka_unit_test(a_long_list_of_equal_keys_skips_nothing),
        cmocka_unit_test(an_index_is_walked_whatever_its_direction),
        cmocka_unit_test(a_filter_of_the_request_selects),
        cmocka_unit_test(rare_matches_are_looked_for_in_windows),
        cmocka_unit_test(a_broadcast_walk_erases_on_every_shard),
        cmocka_unit_test(views_and_system_collections_are_refused),
        cmocka_unit_test(big_documents_are_sent_in_slices),
        cmocka_unit_test(statements_of_compound_keys_stay_small),
        cmocka_unit_test(a_batch_costs_a_handful_of_commands),
        cmocka_unit_test(neighbours_stay_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
