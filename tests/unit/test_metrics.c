/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the metrics: right text, bounded series, counting from many threads, no crash
 * when memory is short or nobody looks. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "obs/metrics.h"

static const struct dr_metric_family plain = {
    .name = "t_plain_total", .help = "Plain.", .type = DR_METRIC_COUNTER};
static const struct dr_metric_family labelled = {
    .name = "t_labelled_total",
    .help = "By two labels.",
    .type = DR_METRIC_COUNTER,
    .label_count = 2,
    .label = {"route", "code"},
};
static const struct dr_metric_family level = {
    .name = "t_level", .help = "Goes up and down.", .type = DR_METRIC_GAUGE};
static const struct dr_metric_family times = {
    .name = "t_seconds",
    .help = "How long.",
    .type = DR_METRIC_HISTOGRAM,
    .label_count = 1,
    .label = {"work"},
    .bucket_count = 3,
    .bucket = {0.1, 1, 10},
};

static struct dr_metrics *make(void)
{
    struct dr_err err = {0};
    struct dr_metrics *m = NULL;
    assert_int_equal(dr_metrics_create(&m, &err), DR_OK);
    return m;
}

/* The whole text; the caller frees it with dr_free. */
static char *text_of(struct dr_metrics *m)
{
    struct dr_str out;
    dr_str_init(&out);
    dr_metrics_text(m, &out);
    assert_false(out.is_short);
    char *text = dr_str_take(&out);
    assert_non_null(text);
    return text;
}

static void counters_and_gauges_are_printed_with_help_and_type(void **state)
{
    struct dr_metrics *m = make();
    const char *const ok[] = {"/operations", "200"};
    const char *const bad[] = {"/operations", "404"};
    (void)state;
    dr_metric_add(dr_metrics_get(m, &plain, NULL), 3);
    dr_metric_add(dr_metrics_get(m, &plain, NULL), 4);
    dr_metric_add(dr_metrics_get(m, &labelled, ok), 1);
    dr_metric_add(dr_metrics_get(m, &labelled, bad), 2);
    dr_metric_set(dr_metrics_get(m, &level, NULL), 2.5);
    dr_metric_set(dr_metrics_get(m, &level, NULL), -1);
    char *text = text_of(m);
    assert_string_equal(text, "# HELP t_plain_total Plain.\n"
                              "# TYPE t_plain_total counter\n"
                              "t_plain_total 7\n"
                              "# HELP t_labelled_total By two labels.\n"
                              "# TYPE t_labelled_total counter\n"
                              "t_labelled_total{route=\"/operations\",code=\"200\"} 1\n"
                              "t_labelled_total{route=\"/operations\",code=\"404\"} 2\n"
                              "# HELP t_level Goes up and down.\n"
                              "# TYPE t_level gauge\n"
                              "t_level -1\n");
    dr_free(text);
    dr_metrics_destroy(m);
}

static void histograms_are_cumulative_and_bounds_are_inclusive(void **state)
{
    struct dr_metrics *m = make();
    const char *const erase = "erase";
    (void)state;
    struct dr_metric *s = dr_metrics_get(m, &times, &erase);
    dr_metric_see(s, 0.05);
    dr_metric_see(s, 0.1); /* on the bound: inside */
    dr_metric_see(s, 0.5);
    dr_metric_see(s, 100);
    assert_true(dr_metric_value(s) > 3.5 && dr_metric_value(s) < 4.5);
    char *text = text_of(m);
    assert_string_equal(text, "# HELP t_seconds How long.\n"
                              "# TYPE t_seconds histogram\n"
                              "t_seconds_bucket{work=\"erase\",le=\"0.1\"} 2\n"
                              "t_seconds_bucket{work=\"erase\",le=\"1\"} 3\n"
                              "t_seconds_bucket{work=\"erase\",le=\"10\"} 3\n"
                              "t_seconds_bucket{work=\"erase\",le=\"+Inf\"} 4\n"
                              "t_seconds_sum{work=\"erase\"} 100.65\n"
                              "t_seconds_count{work=\"erase\"} 4\n");
    dr_free(text);
    dr_metrics_destroy(m);
}

static void label_values_are_escaped(void **state)
{
    struct dr_metrics *m = make();
    const char *const odd[] = {"a\"b\\c\nd", "x"};
    (void)state;
    dr_metric_add(dr_metrics_get(m, &labelled, odd), 1);
    char *text = text_of(m);
    assert_non_null(strstr(text, "{route=\"a\\\"b\\\\c\\nd\",code=\"x\"} 1\n"));
    dr_free(text);
    dr_metrics_destroy(m);
}

static void too_many_series_share_one_that_is_called_other(void **state)
{
    struct dr_metrics *m = make();
    char route[32];
    const char *const value[] = {route, "200"};
    (void)state;
    for (int i = 0; i < DR_METRIC_SERIES_MAX + 100; i++) {
        (void)snprintf(route, sizeof route, "/r%d", i);
        dr_metric_add(dr_metrics_get(m, &labelled, value), 1);
    }
    char *text = text_of(m);
    assert_non_null(strstr(text, "{route=\"other\",code=\"other\"} 100\n"));
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, "t_labelled_total{")) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, DR_METRIC_SERIES_MAX + 1);
    dr_free(text);
    dr_metrics_destroy(m);
}

static void the_same_values_give_the_same_series(void **state)
{
    struct dr_metrics *m = make();
    const char *const a[] = {"r", "1"};
    const char *const b[] = {"r", "2"};
    (void)state;
    assert_ptr_equal(dr_metrics_get(m, &labelled, a), dr_metrics_get(m, &labelled, a));
    assert_ptr_not_equal(dr_metrics_get(m, &labelled, a), dr_metrics_get(m, &labelled, b));
    dr_metrics_destroy(m);
}

static void without_a_registry_nothing_happens(void **state)
{
    (void)state;
    assert_null(dr_metrics_get(NULL, &plain, NULL));
    dr_metric_add(NULL, 1);
    dr_metric_set(NULL, 1);
    dr_metric_see(NULL, 1);
    assert_true(dr_metric_value(NULL) < 0.5);
    dr_metrics_destroy(NULL);
}

static void short_memory_loses_a_series_and_nothing_else(void **state)
{
    struct dr_metrics *m = make();
    const char *const value[] = {"r", "1"};
    struct dr_err err = {0};
    struct dr_metrics *none = NULL;
    (void)state;
    (void)dr_mem_fail_at(1);
    assert_null(dr_metrics_get(m, &labelled, value));
    (void)dr_mem_fail_at(0);
    dr_metric_add(dr_metrics_get(m, &labelled, value), 5); /* the next time there is room */
    char *text = text_of(m);
    assert_non_null(strstr(text, "code=\"1\"} 5\n"));
    dr_free(text);
    dr_metrics_destroy(m);
    (void)dr_mem_fail_at(1);
    assert_int_equal(dr_metrics_create(&none, &err), DR_NOMEM);
    (void)dr_mem_fail_at(0);
    assert_null(none);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count(void *arg)
{
    struct dr_metrics *m = arg;
    const char *const value[] = {"r", "1"};
    const char *const work = "erase";
    for (int i = 0; i < ROUNDS; i++) {
        dr_metric_add(dr_metrics_get(m, &labelled, value), 1);
        dr_metric_see(dr_metrics_get(m, &times, &work), 0.5);
    }
    return NULL;
}

static void nothing_is_lost_when_threads_count_at_once(void **state)
{
    struct dr_metrics *m = make();
    pthread_t thread[THREADS];
    char want[64];
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, count, m), 0);
    }
    for (int i = 0; i < 50; i++) { /* reading meanwhile */
        dr_free(text_of(m));
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    char *text = text_of(m);
    (void)snprintf(want, sizeof want, "code=\"1\"} %d\n", THREADS * ROUNDS);
    assert_non_null(strstr(text, want));
    (void)snprintf(want, sizeof want, "t_seconds_sum{work=\"erase\"} %d\n", THREADS * ROUNDS / 2);
    assert_non_null(strstr(text, want));
    dr_free(text);
    dr_metrics_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges_are_printed_with_help_and_type),
        cmocka_unit_test(histograms_are_cumulative_and_bounds_are_inclusive),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(too_many_series_share_one_that_is_called_other),
        cmocka_unit_test(the_same_values_give_the_same_series),
        cmocka_unit_test(without_a_registry_nothing_happens),
        cmocka_unit_test(short_memory_loses_a_series_and_nothing_else),
        cmocka_unit_test(nothing_is_lost_when_threads_count_at_once),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
