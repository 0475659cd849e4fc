/* SPDX-License-Identifier: Apache-2.0 */
/* Batches and surveys: the containers adapters fill. */
#include <string.h>

#include "store/store.h"

enum { BLOCK_BYTES = 256 * 1024, ITEMS_FIRST = 256 };

/* The item array lives outside the arena, so that growing it wastes nothing. */
struct owned_batch {
    struct dr_batch batch; /* first: the public view */
    uint64_t room;
};

enum dr_code dr_batch_create(struct dr_batch **out, struct dr_err *err)
{
    *out = NULL;
    struct owned_batch *b = dr_calloc(1, sizeof *b);
    if (b == NULL) {
        return dr_fail_nomem(err);
    }
    b->batch.arena = dr_arena_create(BLOCK_BYTES);
    if (b->batch.arena == NULL) {
        dr_free(b);
        return dr_fail_nomem(err);
    }
    *out = &b->batch;
    return DR_OK;
}

void dr_batch_reset(struct dr_batch *b)
{
    dr_arena_reset(b->arena);
    b->count = 0;
    b->bytes = 0;
    b->is_end = false;
    b->after.len = 0;
    b->read_mark = 0;
    b->looked = 0;
}

void dr_batch_destroy(struct dr_batch *b)
{
    if (b == NULL) {
        return;
    }
    dr_arena_destroy(b->arena);
    dr_free(b->item);
    dr_free(b);
}

enum dr_code dr_batch_add(struct dr_batch *b, const void *key, size_t key_len, const void *value,
                          size_t value_len, struct dr_err *err)
{
    struct owned_batch *own = (struct owned_batch *)b;
    if (key_len > UINT32_MAX || value_len > UINT32_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "an item of more than 4 GiB");
    }
    if (b->count == own->room) {
        uint64_t room = own->room == 0 ? ITEMS_FIRST : own->room * 2;
        struct dr_item *grown = dr_realloc(b->item, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        b->item = grown;
        own->room = room;
    }
    struct dr_item item = {.key_len = (uint32_t)key_len, .value_len = (uint32_t)value_len};
    item.key = dr_arena_memdup(b->arena, key, key_len);
    item.value = value == NULL ? NULL : dr_arena_memdup(b->arena, value, value_len);
    if (item.key == NULL || (value != NULL && item.value == NULL)) {
        return dr_fail_nomem(err);
    }
    b->item[b->count++] = item;
    b->bytes += key_len + value_len;
    return DR_OK;
}

void dr_survey_destroy(struct dr_survey *s)
{
    if (s != NULL) {
        dr_arena_destroy(s->arena);
        dr_free(s);
    }
}
