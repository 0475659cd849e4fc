/* SPDX-License-Identifier: Apache-2.0 */
/* Putting documents back: look, insert what is missing, and look again at what was refused because
 * its key is taken. Nothing is ever overwritten. */
#include <string.h>

#include "store/mongodb/erase_private.h"

enum { DUPLICATE_KEY = 11000, DUPLICATE_KEY_OLD = 11001, DUPLICATE_KEY_UPDATE = 12582 };

struct restorer {
    struct mg_store *s;
    const struct dr_batch *batch;
    uint8_t seen[MG_STATEMENT_ITEMS];  /* enum mg_seen, of the slice's items */
    uint32_t pick[MG_STATEMENT_ITEMS]; /* places in the slice, in the order they were sent */
    bool is_taken[MG_STATEMENT_ITEMS]; /* by the same order: refused, its key is taken */
};

static enum dr_code check_items(const struct mg_coll *c, const struct dr_batch *batch,
                                struct dr_err *err)
{
    bson_t value;
    enum dr_code rc = DR_OK;
    for (uint64_t i = 0; rc == DR_OK && i < batch->count; i++) {
        if (batch->item[i].value == NULL) {
            return dr_fail(err, DR_INPUT, "%s: items read without their values cannot be put back",
                           c->ns);
        }
        rc = mg_item_value(c, &batch->item[i], &value, err);
    }
    return rc;
}

static bson_t *make_command(const struct restorer *r, uint64_t from, uint32_t count)
{
    bson_t *command = bson_new();
    bson_t documents, value;
    char digits[16];
    const char *name = NULL;
    (void)bson_append_utf8(command, "insert", -1, r->s->coll.name, -1);
    (void)bson_append_array_begin(command, "documents", -1, &documents);
    for (uint32_t i = 0; i < count; i++) {
        const struct dr_item *item = &r->batch->item[from + r->pick[i]];
        (void)bson_init_static(&value, item->value, item->value_len);
        (void)bson_uint32_to_string(i, &name, digits, sizeof digits);
        (void)bson_append_document(&documents, name, -1, &value);
    }
    (void)bson_append_array_end(command, &documents);
    (void)bson_append_bool(command, "ordered", -1, false);
    mg_append_write_concern(r->s, command);
    return command;
}

static int64_t field_of(const bson_t *doc, const char *name)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, doc, name) ? bson_iter_as_int64(&it) : -1;
}

/* Mark the documents that were refused because their key is taken. False: there is another error
 * in the reply, which is the one to report. */
static bool note_taken(struct restorer *r, const bson_t *reply, uint32_t count)
{
    bson_iter_t it, error;
    const uint8_t *data = NULL;
    uint32_t length = 0;
    bson_t one;
    if (field_of(reply, "ok") != 1 || bson_has_field(reply, "writeConcernError")) {
        return false;
    }
    if (!bson_iter_init_find(&it, reply, "writeErrors") || !bson_iter_recurse(&it, &error)) {
        return true;
    }
    while (bson_iter_next(&error)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(&error)) {
            return false;
        }
        bson_iter_document(&error, &length, &data);
        if (!bson_init_static(&one, data, length)) {
            return false;
        }
        int64_t code = field_of(&one, "code"), at = field_of(&one, "index");
        bool is_duplicate =
            code == DUPLICATE_KEY || code == DUPLICATE_KEY_OLD || code == DUPLICATE_KEY_UPDATE;
        if (!is_duplicate || at < 0 || at >= count) {
            return false;
        }
        r->is_taken[at] = true;
    }
    return true;
}

static enum dr_code insert(struct restorer *r, uint64_t from, uint32_t count, struct dr_err *err)
{
    bson_t reply = BSON_INITIALIZER;
    bson_t *command = make_command(r, from, count);
    memset(r->is_taken, 0, sizeof r->is_taken);
    enum dr_code rc = mg_run(r->s, r->s->coll.database, command, true, true, &reply, "insert", err);
    if (rc == DR_OK && !note_taken(r, &reply, count)) {
        rc = mg_fail(r->s, NULL, &reply, true, "insert", err);
    }
    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

/* Refused ones: a race, or the same document twice in the batch, may have put the very same there
 * meanwhile; everything else is a conflict, also a value that another unique index refuses. */
static enum dr_code judge_taken(struct restorer *r, uint64_t from, uint64_t upto, uint32_t sent,
                                struct dr_tally *tally, struct dr_err *err)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < sent; i++) {
        taken += r->is_taken[i] ? 1 : 0;
    }
    tally->restored += sent - taken;
    enum dr_code rc = taken == 0 ? DR_OK : mg_look(r->s, r->batch, from, upto, NULL, r->seen, err);
    for (uint32_t i = 0; rc == DR_OK && taken > 0 && i < sent; i++) {
        if (!r->is_taken[i]) {
            continue;
        }
        if (r->seen[r->pick[i]] == MG_SEEN_SAME) {
            tally->same++;
        } else {
            tally->conflicts++;
        }
    }
    return rc;
}

static enum dr_code restore_slice(struct restorer *r, uint64_t from, uint64_t upto,
                                  struct dr_tally *tally, struct dr_err *err)
{
    uint32_t missing = 0;
    enum dr_code rc = mg_look(r->s, r->batch, from, upto, NULL, r->seen, err);
    for (uint32_t i = 0; rc == DR_OK && i < upto - from; i++) {
        switch ((enum mg_seen)r->seen[i]) {
        case MG_SEEN_SAME:
            tally->same++;
            break;
        case MG_SEEN_CHANGED:
            tally->conflicts++;
            break;
        case MG_SEEN_MOVED: /* the same id under another shard key: the insert will tell */
        case MG_SEEN_NOTHING:
            r->pick[missing++] = i;
            break;
        }
    }
    if (rc == DR_OK && missing > 0) {
        rc = insert(r, from, missing, err);
    }
    return rc == DR_OK && missing > 0 ? judge_taken(r, from, upto, missing, tally, err) : rc;
}

enum dr_code mg_restore(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err)
{
    struct mg_store *s = impl;
    struct restorer r = {.s = s, .batch = batch};
    struct dr_tally sum = {0};
    enum dr_code rc = mg_node_use(s, range->node, err);
    if (rc == DR_OK) {
        rc = mg_coll_use(s, range->collection, err);
    }
    if (rc == DR_OK && !s->coll.is_there) {
        rc = dr_fail(err, DR_NOT_FOUND,
                     "there is no collection %s to put documents back into; make it again first",
                     range->collection);
    }
    if (rc == DR_OK) {
        rc = mg_check_kind(s, &s->coll, err);
    }
    if (rc == DR_OK) {
        rc = check_items(&s->coll, batch, err);
    }
    for (uint64_t from = 0, upto = 0; rc == DR_OK && from < batch->count; from = upto) {
        upto = mg_slice_end(batch, from, true);
        rc = restore_slice(&r, from, upto, &sum, err);
    }
    if (rc == DR_OK) {
        *tally = sum;
    }
    return rc;
}
