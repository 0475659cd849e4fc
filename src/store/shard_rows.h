/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a range by key and hash, so that two copies are told apart row by row: which keys
 * differ, and are all of them in the log of what has changed and was not followed yet? Adapters
 * fill them; keys are bytes that only have to be written the same way on every side. */
#ifndef DR_STORE_SHARD_ROWS_H
#define DR_STORE_SHARD_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum { DR_SHARD_ROWS_MAX = 1000 }; /* of a range that is looked at row by row */

struct dr_shard_row {
    const char *key;
    uint32_t key_bytes;
    uint64_t hash; /* of the whole row; 0 for entries of a log */
};

struct dr_shard_rows {
    struct dr_arena *arena; /* the caller's; keys are copied into it */
    struct dr_shard_row *row;
    uint32_t count, room;
};

void dr_shard_rows_init(struct dr_shard_rows *r, struct dr_arena *arena);
void dr_shard_rows_fini(struct dr_shard_rows *r);
DR_MUST enum dr_code dr_shard_rows_add(struct dr_shard_rows *r, const void *key, size_t key_bytes,
                                       uint64_t hash, struct dr_err *err);
/* By key, before the next. */
void dr_shard_rows_sort(struct dr_shard_rows *r);
/* Is the key of every row that only one of both has, or that has another hash, in the log? */
bool dr_shard_rows_are_logged(const struct dr_shard_rows *source,
                              const struct dr_shard_rows *target, const struct dr_shard_rows *log);

#endif
