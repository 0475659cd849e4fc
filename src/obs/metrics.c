/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the registry of metrics. One mutex guards the lists, which only grow; the numbers themselves
 * are atomic, so a worker that counts never waits for somebody who reads. */
#include "obs/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

struct dr_metric {
    struct dr_metric *next; /* in the family, in the order of making */
    const struct dr_metric_family *family;
    char value[DR_METRIC_LABELS_MAX][DR_METRIC_VALUE_BYTES_MAX];
    atomic_uint_fast64_t number; /* counter: the count; gauge, histogram: bits of a double */
    atomic_uint_fast64_t bucket[DR_METRIC_BUCKETS_MAX + 1]; /* not cumulative; the last is +Inf */
};

struct family {
    const struct dr_metric_family *family;
    struct dr_metric *first, *last;
    struct dr_metric *other; /* where everything beyond the limit lands */
    uint32_t count;
};

struct dr_metrics {
    pthread_mutex_t mutex;
    uint32_t family_count;
    struct family family[DR_METRIC_FAMILIES_MAX];
};

enum dr_code dr_metrics_create(struct dr_metrics **out, struct dr_err *err)
{
    *out = dr_calloc(1, sizeof **out);
    if (*out == NULL) {
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_init(&(*out)->mutex, NULL);
    return DR_OK;
}

void dr_metrics_destroy(struct dr_metrics *m)
{
    if (m == NULL) {
        return;
    }
    for (uint32_t i = 0; i < m->family_count; i++) {
        for (struct dr_metric *s = m->family[i].first; s != NULL;) {
            struct dr_metric *gone = s;
            s = s->next;
            dr_free(gone);
        }
    }
    (void)pthread_mutex_destroy(&m->mutex);
    dr_free(m);
}

/* --- finding -------------------------------------------------------------------------------------
 */

static struct family *find_family(struct dr_metrics *m, const struct dr_metric_family *family)
{
    for (uint32_t i = 0; i < m->family_count; i++) {
        if (m->family[i].family == family) {
            return &m->family[i];
        }
    }
    assert(m->family_count < DR_METRIC_FAMILIES_MAX);
    struct family *f = &m->family[m->family_count++];
    f->family = family;
    return f;
}

static bool has_values(const struct dr_metric *s, const char *const *value)
{
    for (uint32_t i = 0; i < s->family->label_count; i++) {
        if (strncmp(s->value[i], value[i], DR_METRIC_VALUE_BYTES_MAX - 1) != 0) {
            return false;
        }
    }
    return true;
}

static struct dr_metric *make_series(struct family *f, const char *const *value)
{
    struct dr_metric *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->family = f->family;
    for (uint32_t i = 0; i < f->family->label_count; i++) {
        dr_copy_text(s->value[i], sizeof s->value[i], value[i]);
    }
    if (f->last != NULL) {
        f->last->next = s;
    } else {
        f->first = s;
    }
    f->last = s;
    f->count++;
    return s;
}

static struct dr_metric *find_series(struct family *f, const char *const *value)
{
    static const char *const other[DR_METRIC_LABELS_MAX] = {"other", "other", "other", "other"};
    for (struct dr_metric *s = f->first; s != NULL; s = s->next) {
        if (has_values(s, value)) {
            return s;
        }
    }
    if (f->count < DR_METRIC_SERIES_MAX) {
        return make_series(f, value);
    }
    if (f->other == NULL) {
        f->other = make_series(f, other);
    }
    return f->other;
}

struct dr_metric *dr_metrics_get(struct dr_metrics *m, const struct dr_metric_family *family,
                                 const char *const *value)
{
    if (m == NULL) {
        return NULL;
    }
    assert(family->label_count <= DR_METRIC_LABELS_MAX);
    assert(family->bucket_count <= DR_METRIC_BUCKETS_MAX);
    (void)pthread_mutex_lock(&m->mutex);
    struct dr_metric *s = find_series(find_family(m, family), value);
    (void)pthread_mutex_unlock(&m->mutex);
    return s;
}

/* --- counting ------------------------------------------------------------------------------------
 */

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void dr_metric_add(struct dr_metric *s, uint64_t n)
{
    if (s != NULL) {
        assert(s->family->type == DR_METRIC_COUNTER);
        (void)atomic_fetch_add(&s->number, n);
    }
}

void dr_metric_set(struct dr_metric *s, double value)
{
    if (s != NULL) {
        assert(s->family->type == DR_METRIC_GAUGE);
        atomic_store(&s->number, bits_of(value));
    }
}

void dr_metric_see(struct dr_metric *s, double value)
{
    uint32_t at = 0;
    if (s == NULL || isnan(value)) {
        return;
    }
    assert(s->family->type == DR_METRIC_HISTOGRAM);
    while (at < s->family->bucket_count && value > s->family->bucket[at]) {
        at++;
    }
    (void)atomic_fetch_add(&s->bucket[at], 1);
    uint_fast64_t before = atomic_load(&s->number);
    while (!atomic_compare_exchange_weak(&s->number, &before, bits_of(double_of(before) + value))) {
    }
}

double dr_metric_value(const struct dr_metric *s)
{
    uint64_t seen = 0;
    if (s == NULL) {
        return 0;
    }
    switch (s->family->type) {
    case DR_METRIC_COUNTER:
        return (double)atomic_load(&s->number);
    case DR_METRIC_GAUGE:
        return double_of(atomic_load(&s->number));
    case DR_METRIC_HISTOGRAM:
        for (uint32_t i = 0; i <= s->family->bucket_count; i++) {
            seen += atomic_load(&s->bucket[i]);
        }
        return (double)seen;
    }
    return 0;
}

/* --- text ----------------------------------------------------------------------------------------
 */

static void add_escaped(struct dr_str *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            dr_str_add(out, "\\n");
            continue;
        }
        if (*text == '\\' || *text == '"') {
            dr_str_addc(out, '\\');
        }
        dr_str_addc(out, *text);
    }
}

/* {route="/metrics",code="200",le="0.1"}, or nothing without labels. */
static void add_labels(struct dr_str *out, const struct dr_metric *s, const char *le)
{
    const char *separator = "{";
    for (uint32_t i = 0; i < s->family->label_count; i++) {
        dr_str_addf(out, "%s%s=\"", separator, s->family->label[i]);
        add_escaped(out, s->value[i]);
        dr_str_addc(out, '"');
        separator = ",";
    }
    if (le != NULL) {
        dr_str_addf(out, "%sle=\"%s\"", separator, le);
        separator = ",";
    }
    dr_str_add(out, separator[0] == ',' ? "} " : " ");
}

static void add_histogram(struct dr_str *out, const struct dr_metric *s)
{
    const struct dr_metric_family *f = s->family;
    struct dr_str le;
    uint64_t seen = 0;
    dr_str_init(&le);
    for (uint32_t i = 0; i <= f->bucket_count; i++) {
        dr_str_clear(&le);
        if (i < f->bucket_count) {
            dr_str_addf(&le, "%g", f->bucket[i]);
        } else {
            dr_str_add(&le, "+Inf");
        }
        seen += atomic_load(&s->bucket[i]);
        dr_str_addf(out, "%s_bucket", f->name);
        add_labels(out, s, dr_str_text(&le));
        dr_str_addf(out, "%" PRIu64 "\n", seen);
    }
    out->is_short = out->is_short || le.is_short;
    dr_str_fini(&le);
    dr_str_addf(out, "%s_sum", f->name);
    add_labels(out, s, NULL);
    dr_str_addf(out, "%.9g\n%s_count", double_of(atomic_load(&s->number)), f->name);
    add_labels(out, s, NULL);
    dr_str_addf(out, "%" PRIu64 "\n", seen);
}

static void add_series(struct dr_str *out, const struct dr_metric *s)
{
    switch (s->family->type) {
    case DR_METRIC_COUNTER:
        dr_str_add(out, s->family->name);
        add_labels(out, s, NULL);
        dr_str_addf(out, "%" PRIu64 "\n", (uint64_t)atomic_load(&s->number));
        return;
    case DR_METRIC_GAUGE:
        dr_str_add(out, s->family->name);
        add_labels(out, s, NULL);
        dr_str_addf(out, "%.17g\n", double_of(atomic_load(&s->number)));
        return;
    case DR_METRIC_HISTOGRAM:
        add_histogram(out, s);
        return;
    }
}

static const char *type_name(enum dr_metric_type type)
{
    switch (type) {
    case DR_METRIC_COUNTER:
        return "counter";
    case DR_METRIC_GAUGE:
        return "gauge";
    case DR_METRIC_HISTOGRAM:
        return "histogram";
    }
    return "untyped";
}

void dr_metrics_text(struct dr_metrics *m, struct dr_str *out)
{
    if (m == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&m->mutex);
    for (uint32_t i = 0; i < m->family_count; i++) {
        const struct family *f = &m->family[i];
        dr_str_addf(out, "# HELP %s %s\n# TYPE %s %s\n", f->family->name, f->family->help,
                    f->family->name, type_name(f->family->type));
        for (const struct dr_metric *s = f->first; s != NULL; s = s->next) {
            add_series(out, s);
        }
    }
    (void)pthread_mutex_unlock(&m->mutex);
}
