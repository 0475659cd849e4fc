/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/keyseq: which keys a description means, in which order, and what is left
 * alone. An independent generator here walks hour by hour with gmtime and writes every key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/keyseq.h"

enum { HOUR = 3600, DAY = 86400 };

static json_t *parse(const char *text)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    if (dr_json_parse("job", text, strlen(text), &j, &err) != DR_OK) {
        print_error("%s in %s\n", err.msg, text);
        fail();
    }
    return j;
}

static struct dr_keyseq *make(const char *text)
{
    struct dr_err err = {0};
    struct dr_keyseq *s = NULL;
    json_t *j = parse(text);
    if (dr_keyseq_create(j, "job", &s, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
    json_decref(j);
    return s;
}

static void refuse(const char *text, const char *part)
{
    struct dr_err err = {0};
    struct dr_keyseq *s = NULL;
    json_t *j = parse(text);
    enum dr_code rc = dr_keyseq_create(j, "job", &s, &err);
    if (rc != DR_INPUT || s != NULL || strstr(err.msg, part) == NULL) {
        print_error("%s: expected \"%s\", found code %d \"%s\"\n", text, part, rc, err.msg);
        fail();
    }
    json_decref(j);
}

static enum dr_key_kind kind_of(const struct dr_keyseq *s, const char *key)
{
    return dr_keyseq_classify(s, key, strlen(key));
}

static uint64_t seed = 20261121;
static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* --- an independent generator ---------------------------------------------------------------- */

/* Is the hour that begins at t the first of its period? */
static bool begins(const char *granularity, const struct tm *tm)
{
    bool is_midnight = tm->tm_hour == 0;
    switch (granularity[0]) {
    case 'h':
        return true;
    case 'd':
        return is_midnight;
    case 'w':
        return is_midnight && tm->tm_wday == 1;
    case 'm':
        return is_midnight && tm->tm_mday == 1;
    default:
        return is_midnight && tm->tm_mday == 1 && tm->tm_mon == 0;
    }
}

static void naive_text(const struct tm *tm, char *buf, size_t bytes)
{
    char time[8];
    (void)snprintf(time, sizeof time, "%02d%02d%02d", tm->tm_hour, tm->tm_min, tm->tm_sec);
    size_t length = strlen(time);
    while (length > 0 && time[length - 1] == '0') {
        time[--length] = '\0';
    }
    (void)snprintf(buf, bytes, "%04d%02d%02d%s", tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday,
                   time);
}

/* Keys of one stem and granularity, one per line: every period with an hour inside [from, to]. */
static void naive_periods(struct dr_str *out, const char *stem, const char *granularity,
                          int64_t from, int64_t to)
{
    if (strcmp(granularity, "eternity") == 0) {
        dr_str_addf(out, "%s/eternity\n", stem);
        return;
    }
    time_t t = (time_t)(from - from % HOUR);
    struct tm tm;
    while (gmtime_r(&t, &tm) != NULL && !begins(granularity, &tm)) {
        t -= HOUR; /* back to the start of the period that holds `from` */
    }
    for (; t <= to; t += HOUR) {
        if (gmtime_r(&t, &tm) != NULL && begins(granularity, &tm)) {
            char text[32];
            naive_text(&tm, text, sizeof text);
            dr_str_addf(out, "%s/%s:%s\n", stem, granularity, text);
        }
    }
}

static const char *const of_service[] = {"eternity", "month", "week", "day", "hour", NULL};
static const char *const of_others[] = {"eternity", "year", "month", "week", "day", "hour", NULL};
static const char *const codes[] = {"200", "2XX", "403", "404", "4XX", "500", "503", "5XX", NULL};

struct naive {
    const char *services[4], *applications[4], *metrics[4], *users[4]; /* NULL-terminated */
    int64_t from, to;
};

static void naive_leaves(struct dr_str *out, const char *head, const char *field,
                         const char *const *values, const char *const *granularity,
                         const struct naive *n)
{
    for (; *values != NULL; values++) {
        char stem[256];
        (void)snprintf(stem, sizeof stem, "%s/%s:%s", head, field, *values);
        for (const char *const *g = granularity; *g != NULL; g++) {
            naive_periods(out, stem, *g, n->from, n->to);
        }
    }
}

static void naive_keys(const struct naive *n, struct dr_str *out)
{
    for (const char *const *s = n->services; *s != NULL; s++) {
        char head[128];
        char deep[200];
        (void)snprintf(head, sizeof head, "stats/{service:%s}", *s);
        naive_leaves(out, head, "metric", n->metrics, of_service, n);
        naive_leaves(out, head, "response_code", codes, of_service, n);
        for (int user = 0; user < 2; user++) {
            const char *const *who = user == 0 ? n->applications : n->users;
            for (int code = 0; code < 2; code++) {
                for (const char *const *w = who; *w != NULL; w++) {
                    (void)snprintf(deep, sizeof deep, "%s/%s:%s", head,
                                   user == 0 ? "cinstance" : "uinstance", *w);
                    naive_leaves(out, deep, code == 0 ? "metric" : "response_code",
                                 code == 0 ? n->metrics : codes, of_others, n);
                }
            }
        }
    }
}

static void add_list(struct dr_str *job, const char *key, const char *const *values)
{
    dr_str_addf(job, "\"%s\":[", key);
    for (int i = 0; values[i] != NULL; i++) {
        dr_str_addf(job, "%s\"%s\"", i > 0 ? "," : "", values[i]);
    }
    dr_str_add(job, "],");
}

static struct dr_keyseq *make_naive(const struct naive *n)
{
    struct dr_str job;
    dr_str_init(&job);
    dr_str_addc(&job, '{');
    add_list(&job, "services", n->services);
    add_list(&job, "applications", n->applications);
    add_list(&job, "metrics", n->metrics);
    add_list(&job, "users", n->users);
    dr_str_addf(&job, "\"from\":%lld,\"to\":%lld}", (long long)n->from, (long long)n->to);
    struct dr_keyseq *s = make(dr_str_text(&job));
    dr_str_fini(&job);
    return s;
}

static void write_all(const struct dr_keyseq *s, struct dr_str *out)
{
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    dr_keyseq_seek(&at, s, 0);
    while (dr_keyseq_next(&at, &key, &bytes)) {
        assert_int_equal(strlen(key), bytes);
        dr_str_addn(out, key, bytes);
        dr_str_addc(out, '\n');
    }
}

static void expect_naive(const struct naive *n)
{
    struct dr_str found;
    struct dr_str wanted;
    struct dr_keyseq *s = make_naive(n);
    dr_str_init(&found);
    dr_str_init(&wanted);
    write_all(s, &found);
    naive_keys(n, &wanted);
    assert_string_equal(dr_str_text(&found), dr_str_text(&wanted));
    uint64_t lines = 0;
    for (const char *at = dr_str_text(&wanted); *at != '\0'; at++) {
        lines += *at == '\n';
    }
    assert_int_equal(dr_keyseq_count(s), lines);
    dr_str_fini(&found);
    dr_str_fini(&wanted);
    dr_keyseq_destroy(s);
}

/* --- tests ----------------------------------------------------------------------------------- */

static void a_small_sequence_is_exactly_this(void **state)
{
    (void)state;
    struct dr_keyseq *s = make("{\"services\":[\"s1\",\"s2\"],\"metrics\":[\"m1\"],"
                               "\"applications\":[\"a1\"],\"from\":1576490400,\"to\":1576494000,"
                               "\"layout\":{\"values\":{\"code\":[\"200\"]}}}"); /* 10:00 - 11:00 */
    struct dr_str text;
    dr_str_init(&text);
    write_all(s, &text);
    static const char one[] = "stats/{service:s1}/metric:m1/eternity\n"
                              "stats/{service:s1}/metric:m1/month:20191201\n"
                              "stats/{service:s1}/metric:m1/week:20191216\n"
                              "stats/{service:s1}/metric:m1/day:20191216\n"
                              "stats/{service:s1}/metric:m1/hour:201912161\n"
                              "stats/{service:s1}/metric:m1/hour:2019121611\n"
                              "stats/{service:s1}/response_code:200/eternity\n"
                              "stats/{service:s1}/response_code:200/month:20191201\n"
                              "stats/{service:s1}/response_code:200/week:20191216\n"
                              "stats/{service:s1}/response_code:200/day:20191216\n"
                              "stats/{service:s1}/response_code:200/hour:201912161\n"
                              "stats/{service:s1}/response_code:200/hour:2019121611\n"
                              "stats/{service:s1}/cinstance:a1/metric:m1/eternity\n"
                              "stats/{service:s1}/cinstance:a1/metric:m1/year:20190101\n";
    assert_int_equal(strncmp(dr_str_text(&text), one, strlen(one)), 0);
    assert_int_equal(dr_keyseq_count(s), 2 * (6 + 6 + 7 + 7));
    assert_int_equal(dr_keyseq_service_count(s), 2);
    assert_string_equal(dr_keyseq_service(s, 1), "s2");
    assert_null(dr_keyseq_service(s, 2));
    assert_string_equal(dr_keyseq_pattern(s, 1), "stats/{service:s2}*");
    assert_string_equal(dr_keyseq_pattern(s, UINT32_MAX), "stats/*");
    assert_string_equal(dr_keyseq_marked_set(s), "set_with_services_marked_for_deletion");
    dr_str_fini(&text);
    dr_keyseq_destroy(s);
}

static void agrees_with_a_naive_generator(void **state)
{
    (void)state;
    static const int64_t moments[][2] = {
        {1, 1},                             /* the first hours of all */
        {1576490400, 1576490400},           /* from == to */
        {1576490399, 1576490400},           /* one second apart, two hours */
        {1582848000, 1583107200},           /* the leap day of 2020 */
        {951696000, 951955200},             /* of 2000, a leap year by the 400 rule */
        {4107456000, 4107715200},           /* 2100, which is none */
        {1577750400, 1577923200},           /* into 2020: year, month and week change apart */
        {1609286400, 1609804800},           /* 2021 begins inside a week of 2020 */
        {1553994000, 1553997600},           /* the hour that Central Europe skips: UTC has it */
        {1300000000, 1300000000 + 40 * DAY} /* a while */
    };
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        expect_naive(&(struct naive){.services = {"1006", "s:x"},
                                     .applications = {"a60"},
                                     .metrics = {"255", "m*"},
                                     .users = {"joe", "N/A"},
                                     .from = moments[i][0],
                                     .to = moments[i][1]});
    }
    for (int i = 0; i < 60; i++) {
        int64_t from = 1 + (int64_t)draw(4000000000);
        struct naive n = {.services = {"7"}, .from = from, .to = from + (int64_t)draw(9 * DAY)};
        n.metrics[0] = draw(2) == 0 ? "m" : NULL;
        n.applications[0] = draw(2) == 0 ? "a b" : NULL;
        n.users[0] = draw(2) == 0 ? "\xc3\xbc" : NULL;
        expect_naive(&n);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char mixed[] =
    "{\"services\":[\"1\",\"2\",\"3\"],\"metrics\":[\"m1\",\"m22\"],\"applications\":[\"a\",\"bb\","
    "\"ccc\"],\"users\":[\"u\"],\"from\":1577400000,\"to\":1577923200}";

static void seeking_is_skipping_and_all_keys_differ_and_are_recognised(void **state)
{
    (void)state;
    struct dr_keyseq *s = make(mixed);
    uint64_t count = dr_keyseq_count(s);
    char **all = calloc(count, sizeof *all);
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    assert_non_null(all);
    dr_keyseq_seek(&at, s, 0);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(at.offset, i);
        assert_true(dr_keyseq_next(&at, &key, &bytes));
        assert_int_equal(dr_keyseq_classify(s, key, bytes), DR_KEY_SELECTED);
        all[i] = strdup(key);
        assert_true(key[15] == (char)('1' + i / (count / 3))); /* a service's keys: one third */
    }
    assert_false(dr_keyseq_next(&at, &key, &bytes));
    assert_false(dr_keyseq_next(&at, &key, &bytes));
    for (uint64_t i = 0; i < count; i++) {
        struct dr_keyseq_at other;
        memset(&other, 0xa5, sizeof other);
        dr_keyseq_seek(&other, s, i);
        for (uint64_t k = i; k < i + 60 && k < count; k++) {
            assert_true(dr_keyseq_next(&other, &key, &bytes));
            assert_string_equal(key, all[k]);
        }
    }
    dr_keyseq_seek(&at, s, count);
    assert_false(dr_keyseq_next(&at, &key, &bytes));
    dr_keyseq_seek(&at, s, UINT64_MAX);
    assert_false(dr_keyseq_next(&at, &key, &bytes));
    qsort(all, count, sizeof *all, compare_texts);
    for (uint64_t i = 1; i < count; i++) {
        assert_int_not_equal(strcmp(all[i - 1], all[i]), 0);
    }
    for (uint64_t i = 0; i < count; i++) {
        free(all[i]);
    }
    free(all);
    dr_keyseq_destroy(s);
}

static void periods_are_written_as_the_statistics_do(void **state)
{
    (void)state;
    char buf[16];
    static const struct {
        int64_t at;
        const char *text;
    } rows[] = {{1576490400, "201912161"},    {1576526400, "201912162"},
                {1576454400, "20191216"},     {1273166662, "20100506172422"},
                {1576490460, "201912161001"}, {1576458000, "2019121601"},
                {-259200, "19691229"},        {1582934400, "20200229"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(dr_period_text(DR_P_HOUR, rows[i].at, buf, sizeof buf), rows[i].text);
    }
    assert_string_equal(dr_period_text(DR_P_ETERNITY, 5, buf, sizeof buf), "");
}

static const struct {
    const char *key;
    enum dr_key_kind kind;
} judged[] = {
    {"stats/{service:1006}/cinstance:a60/metric:255/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:a60/metric:255/eternity", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:a60/metric:255/year:20150101", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:a60/metric:255/year:20160101", DR_KEY_OTHER},
    {"stats/{service:1006}/cinstance:a60/metric:255/month:20151101", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:a60/metric:255/month:20151001", DR_KEY_OTHER},
    {"stats/{service:1006}/cinstance:a60/metric:255/hour:201512062", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:a60/metric:255/hour:20151207", DR_KEY_OTHER},
    {"stats/{service:1006}/cinstance:a60/metric:255/hour:20151129235", DR_KEY_ALIEN},
    {"stats/{service:1006}/cinstance:a60/metric:N/A/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/cinstance:N/A/metric:255/week:20151130", DR_KEY_OTHER},
    {"stats/{service:1006}/cinstance:a60/metric:7/week:20151130", DR_KEY_OTHER},
    {"stats/{service:1006}/uinstance:any/metric:255/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/uinstance:N/A/metric:255/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/uinstance:N/A/response_code:4XX/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/response_code:N/A/week:20151130", DR_KEY_SELECTED},
    {"stats/{service:1006}/response_code:418/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:10060}/metric:255/week:20151130", DR_KEY_OTHER},
    {"stats/{service:N/A}/metric:255/week:20151130", DR_KEY_OTHER},
    {"stats/{service:1006}x/metric:255/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:10}06}/metric:255/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:}/metric:255/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/week:20151201", DR_KEY_ALIEN}, /* a Tuesday */
    {"stats/{service:1006}/metric:255/week:20151130000000", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/week:2015113", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/week:", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/week", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/eternity:", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/eternity:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/day:20150229", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/day:20151301", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/day:2015120x", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/hour:2015120124", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/hour:2015120110", DR_KEY_ALIEN}, /* 10:00 ends in 1 */
    {"stats/{service:1006}/metric:255/minute:201512010101", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/year:20150101", DR_KEY_ALIEN}, /* has no years */
    {"stats/{service:1006}/metric:255", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/", DR_KEY_ALIEN},
    {"stats/{service:1006}/metric:255/extra:1/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/cinstances:a60/metric:255/week:20151130", DR_KEY_ALIEN},
    {"stats/{service:1006}/cinstances", DR_KEY_ALIEN},
    {"stats/{service:1006}/cinstance:a60/metric:cinstances/eternity", DR_KEY_ALIEN},
    {"xstats/{service:1006}/metric:255/week:20151130", DR_KEY_ALIEN},
    {"stats/", DR_KEY_ALIEN},
    {"stats", DR_KEY_ALIEN},
    {"", DR_KEY_ALIEN},
    {"//", DR_KEY_ALIEN},
};

static void only_the_described_is_selected(void **state)
{
    (void)state;
    struct dr_keyseq *s =
        make("{\"services\":[\"1006\"],\"applications\":[\"a60\"],\"metrics\":[\"255\",\"N/A\"],"
             "\"from\":1448841600,\"to\":1449446399}"); /* week of 30 November 2015 */
    for (size_t i = 0; i < sizeof judged / sizeof judged[0]; i++) {
        if (kind_of(s, judged[i].key) != judged[i].kind) {
            print_error("%s: found %d\n", judged[i].key, kind_of(s, judged[i].key));
            fail();
        }
    }
    const char with_nul[] = "stats/{service:1006}/metric:2\0005/eternity";
    assert_int_equal(dr_keyseq_classify(s, with_nul, sizeof with_nul - 1), DR_KEY_ALIEN);
    char *huge = malloc(100000);
    assert_non_null(huge);
    memset(huge, 'x', 100000);
    memcpy(huge, "stats/{service:1006}/metric:", 28);
    memcpy(huge + 100000 - 9, "/eternity", 9);
    assert_int_equal(dr_keyseq_classify(s, huge, 100000), DR_KEY_ALIEN);
    free(huge);
    dr_keyseq_destroy(s);
}

static void without_lists_and_period_all_of_the_service_is_selected(void **state)
{
    (void)state;
    struct dr_keyseq *s = make("{\"services\":[\"a?[b]*\\\\\"]}");
    assert_int_equal(dr_keyseq_count(s), 0);
    assert_string_equal(dr_keyseq_pattern(s, 0), "stats/{service:a\\?\\[b\\]\\*\\\\}*");
    assert_int_equal(kind_of(s, "stats/{service:a?[b]*\\}/metric:m/hour:2030010123"),
                     DR_KEY_SELECTED);
    assert_int_equal(kind_of(s, "stats/{service:axb}/metric:m/eternity"), DR_KEY_OTHER);
    dr_keyseq_destroy(s);
    s = make("{\"marked\":true}"); /* not resolved yet: nobody's keys are selected */
    assert_int_equal(dr_keyseq_service_count(s), 0);
    assert_int_equal(dr_keyseq_count(s), 0);
    assert_int_equal(kind_of(s, "stats/{service:1}/metric:m/eternity"), DR_KEY_OTHER);
    dr_keyseq_destroy(s);
    s = make("{\"services\":[\"1\"],\"from\":1,\"to\":2,\"layout\":{\"values\":{\"code\":[]}}}");
    assert_int_equal(dr_keyseq_count(s), 0); /* a period, but no section with values */
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    dr_keyseq_seek(&at, s, 0);
    assert_false(dr_keyseq_next(&at, &key, &bytes));
    dr_keyseq_destroy(s);
}

/* Random texts, and keys with one byte changed: never a crash, and what is selected is a key. */
static void noise_is_never_selected(void **state)
{
    (void)state;
    static const char alphabet[] = "stats/{service:1}metric:m1/hour:20191227eternityN/A\x01\xff";
    struct dr_keyseq *s = make(mixed);
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    char text[256];
    for (int i = 0; i < 200000; i++) {
        size_t length = draw(80);
        size_t head = draw(2) == 0 ? 0 : 20; /* half of them begin like a key */
        memcpy(text, "stats/{service:1}/me", 20);
        for (size_t k = head; k < length + head; k++) {
            text[k] = alphabet[draw(sizeof alphabet - 1)];
        }
        assert_int_not_equal(dr_keyseq_classify(s, text, length + head), DR_KEY_SELECTED);
    }
    for (int i = 0; i < 200000; i++) {
        dr_keyseq_seek(&at, s, draw(dr_keyseq_count(s)));
        assert_true(dr_keyseq_next(&at, &key, &bytes));
        memcpy(text, key, bytes + 1);
        text[draw(bytes)] = (char)draw(256);
        if (dr_keyseq_classify(s, text, bytes) == DR_KEY_SELECTED) {
            assert_int_equal(strncmp(text, "stats/{service:", 15), 0);
            assert_non_null(strchr("123", text[15]));
            assert_true(memchr(text, '\0', bytes) == NULL);
        }
        assert_int_not_equal(dr_keyseq_classify(s, key, bytes - 1 - draw(4)) == DR_KEY_SELECTED &&
                                 strstr(key, "/hour:") == NULL,
                             1);
    }
    dr_keyseq_destroy(s);
}

static void wrong_descriptions_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *job;
        const char *part;
    } rows[] = {
        {"[]", "job"},
        {"{}", "job.services"},
        {"{\"services\":[]}", "job.services"},
        {"{\"services\":\"1\"}", "job.services"},
        {"{\"services\":[1]}", "job.services[0]"},
        {"{\"services\":[\"\"]}", "job.services[0]"},
        {"{\"services\":[\"1\",\"2\",\"1\"]}", "job.services[2]: \"1\" is named twice"},
        {"{\"services\":[\"a/b\"]}", "\"/\""},
        {"{\"services\":[\"a}b\"]}", "\"}\""},
        {"{\"services\":[\"a\\nb\"]}", "control"},
        {"{\"services\":[\"1\"],\"applications\":\"a\"}", "job.applications"},
        {"{\"services\":[\"1\"],\"metrics\":{}}", "job.metrics"},
        {"{\"services\":[\"1\"],\"metrics\":[null]}", "job.metrics[0]"},
        {"{\"services\":[\"1\"],\"users\":[\"xCINSTANCESx\"]}", "excluded"},
        {"{\"services\":[\"1\"],\"users\":[\"s\"],\"metrics\":[\"m\"],\"layout\":{\"exclude\":"
         "[\"*e:s*\"]}}",
         "excluded"},
        {"{\"services\":[\"1\"],\"from\":0,\"to\":5}", "job.from"},
        {"{\"services\":[\"1\"],\"from\":5,\"to\":0}", "job.to"},
        {"{\"services\":[\"1\"],\"from\":5}", "job.to"},
        {"{\"services\":[\"1\"],\"to\":5}", "job.from"},
        {"{\"services\":[\"1\"],\"from\":-5,\"to\":5}", "job.from"},
        {"{\"services\":[\"1\"],\"from\":\"x\",\"to\":5}", "job.from"},
        {"{\"services\":[\"1\"],\"from\":1.5,\"to\":5}", "job.from"},
        {"{\"services\":[\"1\"],\"from\":6,\"to\":5}", "out of order"},
        {"{\"services\":[\"1\"],\"from\":6,\"to\":999999999999999}", "job.to"},
        {"{\"services\":[\"1\"],\"layout\":[]}", "job.layout"},
        {"{\"services\":[\"1\"],\"layout\":{\"section\":[]}}", "sections"},
        {"{\"services\":[\"1\"],\"layout\":{\"sections\":[]}}", "job.layout.sections"},
        {"{\"services\":[\"1\"],\"layout\":{\"prefix\":\"\"}}", "job.layout.prefix"},
        {"{\"services\":[\"1\"],\"layout\":{\"prefix\":\"x\"}}", "prefix"},
        {"{\"services\":[\"1\"],\"layout\":{\"exclude\":[\"*\"]}}", "job.layout.exclude[0]"},
        {"{\"services\":[\"1\"],\"layout\":{\"exclude\":[\"*2019*\"]}}", "exclude[0]"},
        {"{\"services\":[\"1\"],\"layout\":{\"exclude\":[\"*y:2*\"]}}", "exclude[0]"},
        {"{\"services\":[\"1\"],\"layout\":{\"exclude\":[\"*onth*\"]}}", "exclude[0]"},
        {"{\"services\":[\"1\"],\"layout\":{\"exclude\":[\"*a/b*\"]}}", "exclude[0]"},
        {"{\"services\":[\"1\"],\"layout\":{\"values\":{\"user\":[]}}}", "user"},
        {"{\"services\":[\"1\"],\"layout\":{\"values\":{\"code\":[\"1\",\"1\"]}}}", "code[1]"},
        {"{\"services\":[\"1\"],\"layout\":{\"values\":{}}}", "$code"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        refuse(rows[i].job, rows[i].part);
    }
}

static void refuse_sections(const char *sections, const char *part)
{
    char job[2000];
    (void)snprintf(job, sizeof job, "{\"services\":[\"1\"],\"layout\":{\"sections\":[%s]}}",
                   sections);
    refuse(job, part);
}

#define S "stats/{service:$service}"
#define DAYS ",\"periods\":[\"day\"]}"

static void layouts_with_two_meanings_are_refused(void **state)
{
    (void)state;
    refuse_sections("{\"path\":\"stats/m:$metric\"" DAYS, "$service must be the first");
    refuse_sections("{\"path\":\"stats/$metric/$service\"" DAYS, "$service must be the first");
    refuse_sections("{\"path\":\"stats/$service$metric\"" DAYS, "without a \"/\"");
    refuse_sections("{\"path\":\"stats/$service/$metric/$metric\"" DAYS, "named twice");
    refuse_sections("{\"path\":\"stats/$service/$colour\"" DAYS, "\"$colour\" is no dimension");
    refuse_sections("{\"path\":\"stats/$service//$metric\"" DAYS, "nothing between");
    refuse_sections("{\"path\":\"" S "/m\",\"periods\":[]}", "no period");
    refuse_sections("{\"path\":\"" S "/m\",\"periods\":[\"decade\"]}", "known periods");
    refuse_sections("{\"path\":\"" S "/m\",\"periods\":[\"day\",\"day\"]}", "named twice");
    refuse_sections("{\"path\":\"" S "/m\"}", "periods");
    refuse_sections("{\"path\":\"" S "/m:$metric\"" DAYS ",{\"path\":\"" S "/m:$user\"" DAYS,
                    "the same key");
    refuse_sections("{\"path\":\"" S "/m:$metric\"" DAYS ",{\"path\":\"" S "/m:x\"" DAYS,
                    "the same key");
    refuse_sections("{\"path\":\"" S "/m:$metric\"" DAYS ",{\"path\":\"" S "/$user\"" DAYS,
                    "the same key");
    refuse_sections("{\"path\":\"" S "/$metric-x\"" DAYS ",{\"path\":\"" S "/$user:a-x\"" DAYS,
                    "the same key");
    refuse_sections("{\"path\":\"" S "/m\"" DAYS ",{\"path\":\"stats/s:$service/n\"" DAYS,
                    "begin alike");
    char job[3000];
    char dims[2400] = "";
    for (int i = 0; i < 600; i++) {
        (void)strncat(dims, "abc", sizeof dims - strlen(dims) - 1);
    }
    (void)snprintf(job, sizeof job, "{\"services\":[\"%.500s\"],\"metrics\":[\"%.500s\"]}", dims,
                   dims);
    refuse(job, "longer than 1024");
}

static void a_layout_of_ones_own_is_followed(void **state)
{
    (void)state;
    struct dr_keyseq *s =
        make("{\"services\":[\"x\"],\"metrics\":[\"m\"],\"from\":86400,\"to\":172800,\"layout\":{"
             "\"prefix\":\"c:\",\"marked_set\":\"gone\",\"exclude\":[],\"values\":{\"kind\":[\"r\","
             "\"w\"]},"
             "\"sections\":[{\"path\":\"c:$service/k-$kind-k/all/$metric\",\"periods\":[\"day\","
             "\"eternity\"]}]}}");
    struct dr_str text;
    dr_str_init(&text);
    write_all(s, &text);
    assert_string_equal(dr_str_text(&text),
                        "c:x/k-r-k/all/m/day:19700102\nc:x/k-r-k/all/m/day:19700103\n"
                        "c:x/k-r-k/all/m/eternity\nc:x/k-w-k/all/m/day:19700102\n"
                        "c:x/k-w-k/all/m/day:19700103\nc:x/k-w-k/all/m/eternity\n");
    assert_string_equal(dr_keyseq_pattern(s, 0), "c:x*");
    assert_string_equal(dr_keyseq_pattern(s, UINT32_MAX), "c:*");
    assert_string_equal(dr_keyseq_marked_set(s), "gone");
    assert_int_equal(kind_of(s, "c:x/k-r-k/all/m/eternity"), DR_KEY_SELECTED);
    assert_int_equal(kind_of(s, "c:x/k-r-/all/m/eternity"), DR_KEY_ALIEN);
    assert_int_equal(kind_of(s, "c:x/k-k/all/m/eternity"), DR_KEY_ALIEN);
    assert_int_equal(kind_of(s, "c:x/k-r-k/all2/m/eternity"), DR_KEY_ALIEN);
    dr_str_fini(&text);
    dr_keyseq_destroy(s);
}

static long peak_kb(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

static void add_names(struct dr_str *job, const char *key, int count)
{
    dr_str_addf(job, "\"%s\":[", key);
    for (int i = 0; i < count; i++) {
        dr_str_addf(job, "%s\"%c%d\"", i > 0 ? "," : "", key[0], i);
    }
    dr_str_add(job, "],");
}

static void millions_of_keys_take_no_memory(void **state)
{
    (void)state;
    struct dr_str job;
    dr_str_init(&job);
    dr_str_addc(&job, '{');
    add_names(&job, "services", 3);
    add_names(&job, "applications", 20);
    add_names(&job, "metrics", 10);
    dr_str_add(&job, "\"from\":1546300800,\"to\":1577836799}"); /* all of 2019 */
    struct dr_keyseq *s = make(dr_str_text(&job));
    long before = peak_kb();
    /* Per stem of a service: 1 + 12 + 53 + 365 + 8760; applications have a year, too. */
    uint64_t stem = 1 + 12 + 53 + 365 + 8760;
    assert_int_equal(dr_keyseq_count(s), 3 * (18 * stem + 20 * 18 * (stem + 1)));
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    uint64_t count = 0;
    dr_keyseq_seek(&at, s, 0);
    while (dr_keyseq_next(&at, &key, &bytes)) {
        count++;
    }
    assert_int_equal(count, dr_keyseq_count(s));
    assert_string_equal(key, "stats/{service:s2}/cinstance:a19/response_code:5XX/hour:2019123123");
    assert_true(peak_kb() - before < 1024);
    dr_keyseq_destroy(s);
    dr_str_fini(&job);
}

static void a_sequence_without_end_saturates_and_can_be_sought(void **state)
{
    (void)state;
    struct dr_str job;
    dr_str_init(&job);
    dr_str_addc(&job, '{');
    add_names(&job, "services", 100000);
    add_names(&job, "applications", 100000);
    add_names(&job, "metrics", 100000);
    dr_str_add(&job, "\"from\":1,\"to\":253402300799}");
    struct dr_keyseq *s = make(dr_str_text(&job));
    struct dr_keyseq_at at;
    const char *key;
    size_t bytes;
    assert_int_equal(dr_keyseq_count(s), INT64_MAX);
    for (int i = 0; i < 1000; i++) {
        dr_keyseq_seek(&at, s, draw(INT64_MAX));
        assert_true(dr_keyseq_next(&at, &key, &bytes));
        assert_int_equal(dr_keyseq_classify(s, key, bytes), DR_KEY_SELECTED);
    }
    dr_keyseq_destroy(s);
    dr_str_clear(&job);
    dr_str_addc(&job, '{');
    add_names(&job, "services", 100001);
    dr_str_add(&job, "\"from\":1,\"to\":2}");
    refuse(dr_str_text(&job), "job.services: expected at most 100000");
    dr_str_fini(&job);
}

static void missing_memory_is_reported_at_every_place(void **state)
{
    (void)state;
    json_t *j = parse(mixed);
    struct dr_err err = {0};
    enum dr_code rc = DR_NOMEM;
    unsigned n = 0;
    while (rc != DR_OK) {
        struct dr_keyseq *s = NULL;
        (void)dr_mem_fail_at(++n);
        rc = dr_keyseq_create(j, "job", &s, &err);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK ? s != NULL : rc == DR_NOMEM && s == NULL);
        dr_keyseq_destroy(s);
        assert_true(n < 1000);
    }
    assert_true(n > 3);
    dr_keyseq_destroy(NULL);
    json_decref(j);
}

/* Values that redis-cli CLUSTER KEYSLOT gives, and the check value of CRC16 XMODEM. */
static void slots_are_those_of_a_cluster(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t slot;
    } rows[] = {{"123456789", 0x31c3 % 16384},
                {"foo", 12182},
                {"{foo}bar", 12182},
                {"a{foo}{bar}", 12182},
                {"", 0},
                {"foo{}{bar}", 8363},
                {"foo{{bar}}zap", 4015},
                {"user1000", 3443},
                {"{user1000}.following", 3443}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(dr_redis_slot(rows[i].key, strlen(rows[i].key)), rows[i].slot);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(millions_of_keys_take_no_memory),
        cmocka_unit_test(a_small_sequence_is_exactly_this),
        cmocka_unit_test(agrees_with_a_naive_generator),
        cmocka_unit_test(seeking_is_skipping_and_all_keys_differ_and_are_recognised),
        cmocka_unit_test(periods_are_written_as_the_statistics_do),
        cmocka_unit_test(only_the_described_is_selected),
        cmocka_unit_test(without_lists_and_period_all_of_the_service_is_selected),
        cmocka_unit_test(noise_is_never_selected),
        cmocka_unit_test(wrong_descriptions_are_refused_by_name),
        cmocka_unit_test(layouts_with_two_meanings_are_refused),
        cmocka_unit_test(a_layout_of_ones_own_is_followed),
        cmocka_unit_test(a_sequence_without_end_saturates_and_can_be_sought),
        cmocka_unit_test(missing_memory_is_reported_at_every_place),
        cmocka_unit_test(slots_are_those_of_a_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
