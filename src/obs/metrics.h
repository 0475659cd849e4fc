/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for a monitoring system: counters, gauges and histograms, given out as Prometheus text
 * (format 0.0.4).
 *
 * A family is a const struct of the module that counts; a series is a family with label values. The
 * number of series of a family is bounded: beyond it, everything lands in one series whose values
 * are all "other", so that no caller can fill the memory with names. Any thread may call anything;
 * counting takes no lock. NULL for the registry or a series is allowed and does nothing, so that
 * code need not ask whether anybody looks. */
#ifndef DR_OBS_METRICS_H
#define DR_OBS_METRICS_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    DR_METRIC_LABELS_MAX = 4,
    DR_METRIC_BUCKETS_MAX = 16,
    DR_METRIC_SERIES_MAX = 256, /* of a family, "other" not counted */
    DR_METRIC_FAMILIES_MAX = 64,
    DR_METRIC_VALUE_BYTES_MAX = 96, /* of a label's value; longer ones are cut */
};

enum dr_metric_type { DR_METRIC_COUNTER, DR_METRIC_GAUGE, DR_METRIC_HISTOGRAM };

/* Kept for the registry's life; one per name. */
struct dr_metric_family {
    const char *name; /* "drover_batches_total" */
    const char *help;
    enum dr_metric_type type;
    uint32_t label_count;
    const char *label[DR_METRIC_LABELS_MAX];
    uint32_t bucket_count; /* histogram: upper bounds, ascending; +Inf is added */
    double bucket[DR_METRIC_BUCKETS_MAX];
};

struct dr_metrics;
struct dr_metric;

/* DR_NOMEM is the only failure; *out is NULL then. */
DR_MUST enum dr_code dr_metrics_create(struct dr_metrics **out, struct dr_err *err);
void dr_metrics_destroy(struct dr_metrics *m);

/* The series of `family` with these label values (NULL when it has no labels), made when new; good
 * until the registry is destroyed. NULL when memory is short: counting then does nothing. */
struct dr_metric *dr_metrics_get(struct dr_metrics *m, const struct dr_metric_family *family,
                                 const char *const *value);

void dr_metric_add(struct dr_metric *s, uint64_t n);   /* counter */
void dr_metric_set(struct dr_metric *s, double value); /* gauge */
void dr_metric_see(struct dr_metric *s, double value); /* histogram: one observation */
double dr_metric_value(const struct dr_metric *s);     /* counter, gauge; histogram: how many */

/* Append everything as text, families in the order of their first use. A failed append shows in
 * out->is_short. */
void dr_metrics_text(struct dr_metrics *m, struct dr_str *out);

#endif
