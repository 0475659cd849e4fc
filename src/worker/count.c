/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool counts for the monitoring: batches, items, and how steps end. */
#include "worker/worker_private.h"

static const struct dr_metric_family items = {
    .name = "drover_items_total",
    .help = "Items erased and put back by this process.",
    .type = DR_METRIC_COUNTER,
    .label_count = 1,
    .label = {"what"},
};
static const struct dr_metric_family batches = {
    .name = "drover_batch_seconds",
    .help = "How long batches took, with their archive.",
    .type = DR_METRIC_HISTOGRAM,
    .label_count = 1,
    .label = {"work"},
    .bucket_count = 12,
    .bucket = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
};
static const struct dr_metric_family ends = {
    .name = "drover_step_ends_total",
    .help = "How workers let go of steps.",
    .type = DR_METRIC_COUNTER,
    .label_count = 1,
    .label = {"outcome"},
};

void dr_pool_metrics_init(struct pool_metrics *p, struct dr_metrics *m)
{
    static const char *const what[] = {"erased", "restored"};
    static const char *const undo = "undo";
    static const char *const outcome[] = {"done", "given_back", "retry", "unknown", "quarantine"};
    for (unsigned i = 0; i < 2; i++) {
        p->items[i] = dr_metrics_get(m, &items, &what[i]);
    }
    for (unsigned i = 0; i < DR_STEP_KIND_COUNT; i++) {
        const char *work = dr_step_kind_name((enum dr_step_kind)i);
        p->batches[i] = dr_metrics_get(m, &batches, &work);
    }
    p->batches[DR_STEP_KIND_COUNT] = dr_metrics_get(m, &batches, &undo);
    for (unsigned i = DR_OUT_DONE; i <= DR_OUT_QUARANTINE; i++) {
        p->ends[i] = dr_metrics_get(m, &ends, &outcome[i]);
    }
}

void dr_pool_count_batch(const struct pool_metrics *p, const struct dr_lease *l, uint64_t count,
                         double ms)
{
    dr_metric_add(p->items[l->is_undo], count);
    dr_metric_see(p->batches[l->is_undo ? DR_STEP_KIND_COUNT : l->kind], ms / 1000.0);
}

void dr_pool_count_end(const struct pool_metrics *p, enum dr_outcome outcome)
{
    dr_metric_add(p->ends[outcome], 1);
}
