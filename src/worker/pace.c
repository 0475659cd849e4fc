/* SPDX-License-Identifier: Apache-2.0 */
/* Batch sizes by time: a batch shall take about batch_target_ms. Pure.
 *
 * Steering by time instead of rows keeps locks, transactions and replication steps short when rows
 * are big or the store is slow (the experience of every online schema-change tool). Growth is at
 * most twofold a batch and shrinking fourfold, so that one odd measurement does little. */
#include "worker/worker_private.h"

enum { ITEMS_FIRST = 500 };

static uint64_t clamp_items(uint64_t n, const struct dr_tuning *t)
{
    uint64_t max = t->batch_items_max > 0 ? t->batch_items_max : 1;
    uint64_t min = t->batch_items_min > 0 ? t->batch_items_min : 1;
    min = min > max ? max : min;
    return n < min ? min : n > max ? max : n;
}

uint64_t dr_pace_items(const struct dr_pace *p, const struct dr_tuning *t)
{
    return clamp_items(p->items == 0 ? ITEMS_FIRST : p->items, t);
}

void dr_pace_note(struct dr_pace *p, const struct dr_tuning *t, uint64_t read, double ms,
                  bool was_full)
{
    uint64_t now = dr_pace_items(p, t);
    double ratio = (double)t->batch_target_ms / (ms > 0.1 ? ms : 0.1);
    if (read == 0 || (!was_full && ratio > 1.0)) {
        return; /* a short batch was quick because it was short */
    }
    ratio = ratio > 2.0 ? 2.0 : ratio < 0.25 ? 0.25 : ratio;
    double next = (double)now * ratio;
    p->items = clamp_items(next < 1.0 ? 1 : (uint64_t)next, t);
}
