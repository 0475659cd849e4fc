/* SPDX-License-Identifier: Apache-2.0 */
#include "store/shard_rows.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 64 };

void dr_shard_rows_init(struct dr_shard_rows *r, struct dr_arena *arena)
{
    *r = (struct dr_shard_rows){.arena = arena};
}

void dr_shard_rows_fini(struct dr_shard_rows *r)
{
    dr_free(r->row);
    *r = (struct dr_shard_rows){0};
}

enum dr_code dr_shard_rows_add(struct dr_shard_rows *r, const void *key, size_t key_bytes,
                               uint64_t hash, struct dr_err *err)
{
    if (r->count == r->room) {
        uint32_t room = r->room == 0 ? ROOM_FIRST : r->room * 2;
        struct dr_shard_row *row = dr_realloc(r->row, room * sizeof *row);
        if (row == NULL) {
            return dr_fail_nomem(err);
        }
        r->row = row;
        r->room = room;
    }
    char *copy = dr_arena_alloc(r->arena, key_bytes + 1);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    memcpy(copy, key, key_bytes);
    copy[key_bytes] = '\0';
    r->row[r->count++] =
        (struct dr_shard_row){.key = copy, .key_bytes = (uint32_t)key_bytes, .hash = hash};
    return DR_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct dr_shard_row *x = a;
    const struct dr_shard_row *y = b;
    uint32_t bytes = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    int order = memcmp(x->key, y->key, bytes);
    return order != 0 ? order : (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
}

void dr_shard_rows_sort(struct dr_shard_rows *r)
{
    if (r->count > 0) {
        qsort(r->row, r->count, sizeof *r->row, compare_keys);
    }
}

static bool has_key(const struct dr_shard_rows *log, const struct dr_shard_row *row)
{
    return log->count > 0 &&
           bsearch(row, log->row, log->count, sizeof *log->row, compare_keys) != NULL;
}

bool dr_shard_rows_are_logged(const struct dr_shard_rows *source,
                              const struct dr_shard_rows *target, const struct dr_shard_rows *log)
{
    uint32_t s = 0;
    uint32_t t = 0;
    while (s < source->count || t < target->count) {
        int order = 0;
        if (s < source->count && t < target->count) {
            order = compare_keys(&source->row[s], &target->row[t]);
        } else {
            order = s < source->count ? -1 : 1;
        }
        const struct dr_shard_row *row = order <= 0 ? &source->row[s] : &target->row[t];
        bool is_same = order == 0 && row->hash == target->row[t].hash;
        if (!is_same && !has_key(log, row)) {
            return false;
        }
        s += order <= 0;
        t += order >= 0;
    }
    return true;
}
