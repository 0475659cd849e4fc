/* SPDX-License-Identifier: Apache-2.0 */
/* Erasing what was read, and nothing else.
 *
 * A delete of many that the router sends to several shards carries no shard version, so it can miss
 * documents or hit them twice while chunks move. Therefore a statement of many is used only where
 * the range lies on one shard now, and it names the values of the whole shard key: the router then
 * sends it to that shard, which checks the version. Everywhere else each document has a statement
 * of its own with limit 1. All statements of up to 1,000 items travel in one command.
 *
 * The reply counts. When it counts fewer than were named, each item is looked for by its key. */
#include <string.h>

#include "store/mongodb/erase_private.h"

enum {
    POINTS_MAX = 4096, /* combinations of shard key values that a router has to look up at once */
    ROUNDS_MAX = 3,
};

struct eraser {
    struct mg_store *s;
    const struct dr_range *range;
    const struct dr_batch *batch;
    const bson_t *query; /* NULL: everything */
    bool with_values;
    bool is_single; /* one statement for each item */
    uint64_t erased;
};

/* ---- before anything is sent ---- */

/* Its place in the range follows from the item's own key: hashes are computed here once more. */
static enum dr_code check_place(const struct eraser *e, const bson_t *key, struct dr_err *err)
{
    const struct mg_coll *c = &e->s->coll;
    bson_t index_key;
    bool is_in = true;
    if (e->range->access != DR_BY_SHARD_RANGE && e->range->access != DR_BY_SHARD_HASHED) {
        return DR_OK;
    }
    (void)mg_index_key(c->pattern, key, true, &index_key);
    enum dr_code rc = mg_key_in_range(c, e->range, &index_key, &is_in, err);
    bson_destroy(&index_key);
    if (rc == DR_OK && !is_in) {
        rc = dr_fail(err, DR_CORRUPT,
                     "%s: an item to erase does not lie in its chunk by its shard key; nothing was "
                     "erased",
                     c->ns);
    }
    return rc;
}

static enum dr_code check_item(const struct eraser *e, const struct dr_item *item,
                               struct dr_err *err)
{
    const struct mg_coll *c = &e->s->coll;
    bson_t key, value;
    bson_iter_t it;
    enum dr_code rc = mg_item_key(c, item, &key, err);
    for (uint32_t i = 0; rc == DR_OK && c->kind == MG_SHARDED && i < c->key_count; i++) {
        if (!bson_iter_init_find(&it, &key, c->key[i])) {
            rc = dr_fail(err, DR_CORRUPT, "%s: the key of an item lacks the shard key field %s",
                         c->ns, c->key[i]);
        }
    }
    if (rc == DR_OK) {
        rc = check_place(e, &key, err);
    }
    if (rc == DR_OK && e->with_values) {
        rc = mg_item_value(c, item, &value, err);
    }
    return rc;
}

static enum dr_code check_layout(struct eraser *e, struct dr_err *err)
{
    struct mg_store *s = e->s;
    const struct dr_range *r = e->range;
    uint32_t shards = 1;
    enum dr_code rc = mg_node_use(s, r->node, err);
    if (rc == DR_OK) {
        rc = mg_coll_use(s, r->collection, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (!s->coll.is_there || s->coll.epoch != r->epoch) {
        return dr_fail(err, DR_STALE,
                       "%s: its chunks are not those of the plan any more; nothing was erased",
                       r->collection);
    }
    rc = mg_check_kind(s, &s->coll, err);
    if (rc == DR_OK && (r->access == DR_BY_SHARD_RANGE || r->access == DR_BY_SHARD_HASHED)) {
        rc = mg_check_key(&s->coll, r, err);
    }
    if (rc == DR_OK && s->coll.kind == MG_SHARDED && s->shard_count > 1) {
        rc = mg_shards_of_range(s, r, &shards, err);
    }
    e->is_single = shards != 1;
    return rc;
}

static enum dr_code prepare(struct eraser *e, struct dr_err *err)
{
    enum dr_code rc = check_layout(e, err);
    if (rc == DR_OK) {
        rc = mg_filter_use(e->s, e->range, &e->query, err);
    }
    for (uint64_t i = 0; rc == DR_OK && i < e->batch->count; i++) {
        rc = check_item(e, &e->batch->item[i], err);
    }
    return rc;
}

/* ---- statements ---- */

static void item_docs(const struct eraser *e, uint64_t at, bson_t *key, bson_t *value)
{
    const struct dr_item *item = &e->batch->item[at];
    (void)bson_init_static(key, item->key, item->key_len);
    if (e->with_values) {
        (void)bson_init_static(value, item->value, item->value_len);
    }
}

/* $in would take null for a missing field and a regular expression for a search. */
static bool is_alone(const bson_t *key)
{
    bson_iter_t it;
    (void)bson_iter_init(&it, key);
    while (bson_iter_next(&it)) {
        bool is_wide = BSON_ITER_HOLDS_NULL(&it) || BSON_ITER_HOLDS_UNDEFINED(&it) ||
                       BSON_ITER_HOLDS_REGEX(&it) || BSON_ITER_HOLDS_ARRAY(&it);
        if (is_wide && strcmp(bson_iter_key(&it), "_id") != 0) {
            return true;
        }
    }
    return false;
}

/* Only what is still as it was read, or, read without values, what is still selected. $in and $eq
 * of expressions compare whole documents in their order of fields. */
static void append_condition(const struct eraser *e, const uint32_t *pick, uint32_t count,
                             bson_t *query)
{
    bson_t expr, args, literal, list, key, value;
    if (!e->with_values) {
        if (e->query != NULL) {
            (void)bson_append_array_begin(query, "$and", -1, &list);
            (void)bson_append_document(&list, "0", 1, e->query);
            (void)bson_append_array_end(query, &list);
        }
        return;
    }
    (void)bson_append_document_begin(query, "$expr", -1, &expr);
    (void)bson_append_array_begin(&expr, count == 1 ? "$eq" : "$in", -1, &args);
    (void)bson_append_utf8(&args, "0", 1, "$$ROOT", -1);
    (void)bson_append_document_begin(&args, "1", 1, &literal);
    if (count == 1) {
        item_docs(e, pick[0], &key, &value);
        (void)bson_append_document(&literal, "$literal", -1, &value);
    } else {
        (void)bson_append_array_begin(&literal, "$literal", -1, &list);
        for (uint32_t i = 0; i < count; i++) {
            char digits[16];
            const char *name = NULL;
            item_docs(e, pick[i], &key, &value);
            (void)bson_uint32_to_string(i, &name, digits, sizeof digits);
            (void)bson_append_document(&list, name, -1, &value);
        }
        (void)bson_append_array_end(&literal, &list);
    }
    (void)bson_append_document_end(&args, &literal);
    (void)bson_append_array_end(&expr, &args);
    (void)bson_append_document_end(query, &expr);
}

/* {field: {$in: [...]}}; equal values that follow each other are named once. */
static void append_in(const struct eraser *e, const uint32_t *pick, uint32_t count,
                      const char *field, bson_t *query)
{
    bson_t in, list, key, before, value;
    bson_iter_t it, last;
    char digits[16];
    const char *name = NULL;
    uint32_t listed = 0;
    (void)bson_append_document_begin(query, field, -1, &in);
    (void)bson_append_array_begin(&in, "$in", -1, &list);
    for (uint32_t i = 0; i < count; i++) {
        item_docs(e, pick[i], &key, &value);
        (void)bson_iter_init_find(&it, &key, field);
        if (i > 0) {
            item_docs(e, pick[i - 1], &before, &value);
            if (bson_iter_init_find(&last, &before, field) && mg_compare(&it, &last) == 0) {
                continue;
            }
        }
        (void)bson_uint32_to_string(listed++, &name, digits, sizeof digits);
        (void)bson_append_iter(&list, name, -1, &it);
    }
    (void)bson_append_array_end(&in, &list);
    (void)bson_append_document_end(query, &in);
}

/* The key's fields beside _id, in the order of the shard key. */
static void append_many(const struct eraser *e, const uint32_t *pick, uint32_t count, bson_t *query)
{
    const struct mg_coll *c = &e->s->coll;
    append_in(e, pick, count, "_id", query);
    for (uint32_t i = 0; c->kind == MG_SHARDED && i < c->key_count; i++) {
        if (strcmp(c->key[i], "_id") != 0) {
            append_in(e, pick, count, c->key[i], query);
        }
    }
}

static void append_one(const struct eraser *e, uint32_t at, bson_t *query)
{
    bson_t key, value, equal;
    bson_iter_t it;
    item_docs(e, at, &key, &value);
    (void)bson_iter_init(&it, &key);
    while (bson_iter_next(&it)) {
        if (strcmp(bson_iter_key(&it), "_id") == 0) {
            (void)bson_append_iter(query, NULL, 0, &it);
        } else {
            (void)bson_append_document_begin(query, bson_iter_key(&it), -1, &equal);
            (void)bson_append_iter(&equal, "$eq", 3, &it);
            (void)bson_append_document_end(query, &equal);
        }
    }
}

static void append_statement(const struct eraser *e, const uint32_t *pick, uint32_t count,
                             bool is_single, uint32_t n, bson_t *statements)
{
    bson_t statement, query;
    char digits[16];
    const char *name = NULL;
    (void)bson_uint32_to_string(n, &name, digits, sizeof digits);
    (void)bson_append_document_begin(statements, name, -1, &statement);
    (void)bson_append_document_begin(&statement, "q", -1, &query);
    if (is_single) {
        append_one(e, pick[0], &query);
    } else {
        append_many(e, pick, count, &query);
    }
    append_condition(e, pick, count, &query);
    (void)bson_append_document_end(&statement, &query);
    (void)bson_append_int32(&statement, "limit", -1, is_single ? 1 : 0);
    mg_append_collation(&e->s->coll, &statement);
    (void)bson_append_document_end(statements, &statement);
}

/* How many of the items fit one statement. A router looks up every combination of the values that a
 * compound key's $in lists name, so their product has a limit. */
static uint32_t statement_count(const struct eraser *e, const uint32_t *pick, uint32_t count)
{
    const struct mg_coll *c = &e->s->coll;
    uint64_t values[DR_KEY_PARTS_MAX];
    bson_t key, before, value;
    bson_iter_t it, last;
    uint32_t n = 0;
    for (; n < count; n++) {
        uint64_t points = 1;
        item_docs(e, pick[n], &key, &value);
        if (c->kind == MG_SHARDED && is_alone(&key)) {
            break;
        }
        for (uint32_t k = 0; c->kind == MG_SHARDED && k < c->key_count; k++) {
            bool is_new = n == 0;
            if (!is_new) {
                item_docs(e, pick[n - 1], &before, &value);
                is_new = bson_iter_init_find(&it, &key, c->key[k]) &&
                         bson_iter_init_find(&last, &before, c->key[k]) &&
                         mg_compare(&it, &last) != 0;
            }
            values[k] = n == 0 ? 1 : values[k] + (is_new ? 1 : 0);
            points *= values[k];
        }
        if (n > 0 && points > POINTS_MAX) {
            break;
        }
    }
    return n;
}

static bson_t *make_command(const struct eraser *e, const uint32_t *pick, uint32_t count)
{
    bson_t *command = bson_new();
    bson_t statements;
    uint32_t n = 0;
    (void)bson_append_utf8(command, "delete", -1, e->s->coll.name, -1);
    (void)bson_append_array_begin(command, "deletes", -1, &statements);
    for (uint32_t at = 0; at < count;) {
        uint32_t many = e->is_single ? 0 : statement_count(e, pick + at, count - at);
        uint32_t taken = many == 0 ? 1 : many;
        append_statement(e, pick + at, taken, many == 0, n++, &statements);
        at += taken;
    }
    (void)bson_append_array_end(command, &statements);
    (void)bson_append_bool(command, "ordered", -1, false);
    mg_append_write_concern(e->s, command);
    return command;
}

static uint64_t reply_count(const bson_t *reply)
{
    bson_iter_t it;
    int64_t n = bson_iter_init_find(&it, reply, "n") ? bson_iter_as_int64(&it) : 0;
    return n < 0 ? 0 : (uint64_t)n;
}

static enum dr_code send_delete(struct eraser *e, const uint32_t *pick, uint32_t count,
                                uint64_t *n_out, struct dr_err *err)
{
    bson_t reply = BSON_INITIALIZER;
    bson_t *command = make_command(e, pick, count);
    enum dr_code rc =
        mg_run(e->s, e->s->coll.database, command, true, false, &reply, "delete", err);
    *n_out = reply_count(&reply);
    e->erased += *n_out;
    if (rc == DR_OK && *n_out > count) {
        rc = dr_fail(err, DR_CORRUPT,
                     "%s: a delete that named %u documents says it has erased %llu; stop and look",
                     e->s->coll.ns, count, (unsigned long long)*n_out);
    }
    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

/* ---- a slice: send, and look for what the count lacks ---- */

static uint32_t pick_same(const uint8_t *seen, uint64_t from, uint32_t count, uint32_t *pick)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (seen[i] == MG_SEEN_SAME) {
            pick[left++] = (uint32_t)(from + i);
        }
    }
    return left;
}

static uint64_t count_gone(const uint8_t *seen, uint32_t count)
{
    uint64_t gone = 0;
    for (uint32_t i = 0; i < count; i++) {
        gone += seen[i] == MG_SEEN_NOTHING ? 1 : 0;
    }
    return gone;
}

/* Who else erased some at the same time shows as a count alone: which ones nobody can tell. */
static void count_slice(uint64_t named, uint64_t erased, uint64_t gone, struct dr_tally *tally)
{
    if (erased >= named) {
        tally->erased += named;
        return;
    }
    uint64_t absent = gone > erased ? gone - erased : 0;
    tally->erased += erased;
    tally->absent += absent;
    tally->changed += named - erased - absent;
}

/* What is still there as it was read although it was named: a statement met a chunk on its way, or
 * others write. It is named again, a few times. */
static enum dr_code erase_slice(struct eraser *e, uint64_t from, uint64_t upto,
                                struct dr_tally *tally, struct dr_err *err)
{
    uint32_t pick[MG_STATEMENT_ITEMS];
    uint8_t seen[MG_STATEMENT_ITEMS];
    uint32_t count = (uint32_t)(upto - from);
    uint32_t left = count;
    uint64_t erased = 0, n = 0, gone = 0;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < count; i++) {
        pick[i] = (uint32_t)(from + i);
    }
    for (int round = 0; rc == DR_OK && left > 0 && round < ROUNDS_MAX; round++) {
        rc = send_delete(e, pick, left, &n, err);
        erased += n;
        if (rc != DR_OK || erased >= count) {
            break;
        }
        rc = mg_look(e->s, e->batch, from, upto, e->query, seen, err);
        if (rc == DR_OK) {
            gone = count_gone(seen, count);
            left = pick_same(seen, from, count, pick);
        }
    }
    if (rc == DR_OK) {
        count_slice(count, erased, gone, tally);
    }
    return rc;
}

enum dr_code mg_erase(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct eraser e = {
        .s = impl, .range = range, .batch = batch, .with_values = batch->item[0].value != NULL};
    struct dr_tally sum = {0};
    if (batch->count > UINT32_MAX) {
        return dr_fail(err, DR_INPUT, "%s: a batch of more than four billion items",
                       range->collection);
    }
    enum dr_code rc = prepare(&e, err);
    for (uint64_t from = 0, upto = 0; rc == DR_OK && from < batch->count; from = upto) {
        upto = mg_slice_end(batch, from, e.with_values);
        rc = erase_slice(&e, from, upto, &sum, err);
    }
    if (rc == DR_OK) {
        *tally = sum;
    } else if (e.erased > 0 && rc != DR_CORRUPT) {
        /* A part is gone: whoever asked must look before counting, whatever the reason was. */
        dr_wrap(err, "%llu items were erased, then", (unsigned long long)e.erased);
        rc = DR_UNKNOWN;
        if (err != NULL) {
            err->code = rc;
        }
    }
    return rc;
}
