/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of request/tuning: only what is named changes, mistakes name their place, quiet
 * windows cover exactly what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "request/tuning.h"

enum { LOOP_MAX = 500 };

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static json_t *json_of(const char *text)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    if (dr_json_parse("text", text, strlen(text), &j, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
    return j;
}

/* By their text: a copy of a struct need not keep what lies between its members. */
static void assert_same_tuning(const struct dr_tuning *a, const struct dr_tuning *b)
{
    json_t *a_json = dr_tuning_to_json(a);
    json_t *b_json = dr_tuning_to_json(b);
    assert_non_null(a_json);
    assert_true(json_equal(a_json, b_json));
    json_decref(a_json);
    json_decref(b_json);
}

/* ---- tuning ---- */

static enum dr_code tune(const char *text, struct dr_tuning *t, struct dr_err *err)
{
    dr_err_clear(err);
    json_t *j = json_of(text);
    enum dr_code rc = dr_tuning_parse(j, "job: tuning", t, err);
    json_decref(j);
    return rc;
}

static const char all_keys[] =
    "{\"rate\":5000,\"batch_items_min\":10,\"batch_items_max\":20000,\"batch_bytes_max\":1048576,"
    "\"batch_target_ms\":250,\"max_items\":77,\"sleep_ratio\":1.5,\"per_node\":4,\"priority\":-9,"
    "\"lanes\":5,"
    "\"quiet\":[\"Mon-Fri 08:00-20:00\",\"Sat,Sun 22:30-06:00\",\"00:00-24:00\"],"
    "\"timezone\":\"-03:30\"}";

static void tuning_has_all_its_keys(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_tuning t;
    dr_tuning_default(&t);
    assert_int_equal(t.batch_items_min, 1);
    assert_int_equal(t.batch_items_max, 10000);
    assert_int_equal(t.batch_bytes_max, 8 * 1024 * 1024);
    assert_int_equal(t.batch_target_ms, 500);
    assert_int_equal(t.per_node, 1);
    assert_int_equal(t.lanes, 0);
    assert_int_equal(tune(all_keys, &t, &err), DR_OK);
    assert_int_equal(t.rate_items_s, 5000);
    assert_int_equal(t.batch_items_min, 10);
    assert_int_equal(t.batch_items_max, 20000);
    assert_int_equal(t.batch_bytes_max, 1048576);
    assert_int_equal(t.batch_target_ms, 250);
    assert_int_equal(t.max_items, 77);
    assert_true(t.sleep_ratio == 1.5);
    assert_int_equal(t.per_node, 4);
    assert_int_equal(t.lanes, 5);
    assert_int_equal(t.priority, -9);
    assert_int_equal(t.zone, DR_ZONE_FIXED);
    assert_int_equal(t.zone_offset_min, -210);
    assert_int_equal(t.quiet_count, 3);
    assert_int_equal(t.quiet[0].days, 0x1f);
    assert_int_equal(t.quiet[0].from_min, 480);
    assert_int_equal(t.quiet[0].upto_min, 1200);
    assert_int_equal(t.quiet[1].days, 0x60);
    assert_int_equal(t.quiet[1].from_min, 1350);
    assert_int_equal(t.quiet[1].upto_min, 360);
    assert_int_equal(t.quiet[2].days, 0x7f);
    assert_int_equal(t.quiet[2].upto_min, 1440);
}

static void tuning_changes_only_what_it_names(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_tuning t;
    struct dr_tuning want;
    dr_tuning_default(&t);
    assert_int_equal(tune(all_keys, &t, &err), DR_OK);
    want = t;
    assert_int_equal(tune("{}", &t, &err), DR_OK);
    assert_same_tuning(&t, &want);
    assert_int_equal(tune("{\"rate\":1}", &t, &err), DR_OK);
    want.rate_items_s = 1;
    assert_same_tuning(&t, &want);
    assert_int_equal(tune("{\"quiet\":[]}", &t, &err), DR_OK); /* the list as a whole */
    assert_int_equal(t.quiet_count, 0);
    assert_int_equal(t.zone_offset_min, -210);
    /* A mistake anywhere changes nothing at all. */
    want = t;
    assert_int_equal(tune("{\"rate\":9,\"quiet\":[\"08:00-09:00\"],\"per_node\":0}", &t, &err),
                     DR_INPUT);
    assert_same_tuning(&t, &want);
    assert_int_equal(tune("{\"batch_items_max\":9}", &t, &err), DR_INPUT);
    assert_has(err.msg, "job: tuning.batch_items_min: expected at most batch_items_max (9)");
    assert_same_tuning(&t, &want);
    assert_int_equal(tune("{\"batch_items_max\":9,\"batch_items_min\":9}", &t, &err), DR_OK);
}

static void every_tuning_mistake_names_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } rows[] = {
        {"[]", "job: tuning: expected an object"},
        {"{\"rate\":1000000001}", "job: tuning.rate: "},
        {"{\"rate\":\"5\"}", "job: tuning.rate: "},
        {"{\"batch_items_min\":0}", "job: tuning.batch_items_min: "},
        {"{\"batch_items_max\":1000001}", "job: tuning.batch_items_max: "},
        {"{\"batch_bytes_max\":1023}", "job: tuning.batch_bytes_max: "},
        {"{\"batch_target_ms\":0}", "job: tuning.batch_target_ms: "},
        {"{\"max_items\":-1}", "job: tuning.max_items: "},
        {"{\"sleep_ratio\":-1}", "job: tuning.sleep_ratio: "},
        {"{\"per_node\":0}", "job: tuning.per_node: "},
        {"{\"lanes\":1025}", "job: tuning.lanes: "},
        {"{\"priority\":101}", "job: tuning.priority: "},
        {"{\"quiet\":\"08:00-09:00\"}", "job: tuning.quiet: expected an array"},
        {"{\"quiet\":[7]}", "job: tuning.quiet[0]: "},
        {"{\"quiet\":[\"08:00-09:00\",\"x\\ty\"]}", "job: tuning.quiet[1]: "},
        {"{\"timezone\":\"Europe/Berlin\"}", "job: tuning.timezone: "},
        {"{\"timezone\":\"utc\"}", "job: tuning.timezone: "},
        {"{\"timezone\":\"+18:01\"}", "job: tuning.timezone: "},
        {"{\"timezone\":\"+2:00\"}", "job: tuning.timezone: "},
        {"{\"timezone\":\"+02:00x\"}", "job: tuning.timezone: "},
        {"{\"prioritty\":1}", "(did you mean \"priority\"?)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        struct dr_tuning t;
        dr_tuning_default(&t);
        assert_int_equal(tune(rows[i].text, &t, &err), DR_INPUT);
        assert_has(err.msg, rows[i].part);
        assert_null(strchr(err.msg, '\t'));
    }
}

static void tuning_survives_its_own_json(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        all_keys,
        "{\"timezone\":\"local\",\"quiet\":[\"Mon,Wed-Fri 00:00-00:00\",\"Sun-Mon 23:59-00:01\"]}",
        "{\"timezone\":\"+14:00\",\"sleep_ratio\":0.1,\"max_items\":9223372036854775807}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct dr_err err = {0};
        struct dr_tuning t;
        struct dr_tuning again;
        dr_tuning_default(&t);
        dr_tuning_default(&again);
        assert_int_equal(tune(texts[i], &t, &err), DR_OK);
        json_t *j = dr_tuning_to_json(&t);
        assert_non_null(j);
        assert_int_equal(dr_tuning_parse(j, "again", &again, &err), DR_OK);
        assert_same_tuning(&t, &again);
        assert_int_equal(t.quiet_count, again.quiet_count);
        assert_memory_equal(t.quiet, again.quiet, t.quiet_count * sizeof t.quiet[0]);
        json_decref(j);
        uint64_t n = 1;
        for (; n < LOOP_MAX; n++) {
            (void)dr_mem_fail_at(n);
            j = dr_tuning_to_json(&t);
            (void)dr_mem_fail_at(0);
            if (j != NULL) {
                break;
            }
        }
        json_decref(j);
        assert_true(n == (t.quiet_count > 0 ? 2 : 1)); /* only the text buffer is ours */
    }
}

/* ---- quiet windows ---- */

static void quiet_texts_that_are_none(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "Mon",
        "08:00",
        "08:00-",
        "8:00-9:00",
        "08:00-9:0",
        "24:00-01:00",
        "08:60-09:00",
        "08:00-24:01",
        "08:00-09:00 ",
        " 08:00-09:00",
        "Mon08:00-09:00",
        "Mon- 08:00-09:00",
        "Mon, 08:00-09:00",
        "Mo 08:00-09:00",
        "Monday 08:00-09:00",
        "Mon-Fri-Sun 08:00-09:00",
        "Mon  08:00-09:00",
        "Mon* 08:00-09:00",
        "99:00-09:00",
        "08:00/09:00",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct dr_err err = {0};
        struct dr_tuning t;
        char text[100];
        dr_tuning_default(&t);
        (void)snprintf(text, sizeof text, "{\"quiet\":[\"%s\"]}", texts[i]);
        assert_int_equal(tune(text, &t, &err), DR_INPUT);
        assert_has(err.msg, "job: tuning.quiet[0]: ");
    }
}

/* 2026-11-16 is a Monday; `day` counts from it, UTC. */
static dr_wall_ms at(int day, int hour, int minute)
{
    struct tm t = {
        .tm_year = 126, .tm_mon = 10, .tm_mday = 16 + day, .tm_hour = hour, .tm_min = minute};
    return (dr_wall_ms)timegm(&t) * 1000;
}

struct when {
    int day, hour, minute;
};

static void quiet_windows_hold_in_every_zone(void **state)
{
    (void)state;
    static const struct {
        const char *tuning;
        struct when now;
        struct when over; /* day -1: not quiet */
    } rows[] = {
        {"{}", {0, 12, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Mon-Fri 08:00-20:00\"]}", {0, 7, 59}, {-1, 0, 0}},
        {"{\"quiet\":[\"Mon-Fri 08:00-20:00\"]}", {0, 8, 0}, {0, 20, 0}},
        {"{\"quiet\":[\"Mon-Fri 08:00-20:00\"]}", {4, 19, 59}, {4, 20, 0}},
        {"{\"quiet\":[\"Mon-Fri 08:00-20:00\"]}", {4, 20, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Mon-Fri 08:00-20:00\"]}", {5, 12, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"mon-fri 08:00-20:00\"]}", {6, 12, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Fri-Mon 08:00-20:00\"]}", {6, 12, 0}, {6, 20, 0}},
        {"{\"quiet\":[\"Fri-Mon 08:00-20:00\"]}", {1, 12, 0}, {-1, 0, 0}},
        /* Over midnight: the day is the one it begins on. */
        {"{\"quiet\":[\"Sun 22:00-06:00\"]}", {6, 23, 0}, {7, 6, 0}},
        {"{\"quiet\":[\"Sun 22:00-06:00\"]}", {7, 5, 59}, {7, 6, 0}},
        {"{\"quiet\":[\"Sun 22:00-06:00\"]}", {6, 5, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Sun 22:00-06:00\"]}", {7, 6, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"22:00-00:00\"]}", {2, 23, 30}, {3, 0, 0}},
        {"{\"quiet\":[\"22:00-00:00\"]}", {3, 0, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Tue 08:00-08:00\"]}", {2, 7, 0}, {2, 8, 0}},
        {"{\"quiet\":[\"Tue 00:00-24:00\"]}", {1, 0, 0}, {2, 0, 0}},
        /* Unions: touching, overlapping, contained, over several days. */
        {"{\"quiet\":[\"08:00-12:00\",\"12:00-14:00\"]}", {0, 9, 0}, {0, 14, 0}},
        {"{\"quiet\":[\"12:00-14:00\",\"08:00-12:30\"]}", {0, 9, 0}, {0, 14, 0}},
        {"{\"quiet\":[\"08:00-20:00\",\"09:00-10:00\"]}", {0, 9, 30}, {0, 20, 0}},
        {"{\"quiet\":[\"08:00-10:00\",\"10:01-11:00\"]}", {0, 9, 0}, {0, 10, 0}},
        {"{\"quiet\":[\"Fri 20:00-24:00\",\"Sat,Sun 00:00-24:00\",\"Mon 00:00-06:00\"]}",
         {4, 21, 0},
         {7, 6, 0}},
        {"{\"quiet\":[\"00:00-24:00\"]}", {3, 5, 30}, {10, 5, 30}}, /* for ever: ask in a week */
        {"{\"quiet\":[\"08:00-08:00\"]}", {3, 5, 30}, {10, 5, 30}},
        /* Fixed offsets. */
        {"{\"quiet\":[\"Mon 08:00-20:00\"],\"timezone\":\"+02:00\"}", {0, 6, 0}, {0, 18, 0}},
        {"{\"quiet\":[\"Mon 08:00-20:00\"],\"timezone\":\"+02:00\"}", {0, 18, 0}, {-1, 0, 0}},
        {"{\"quiet\":[\"Mon 08:00-20:00\"],\"timezone\":\"-05:30\"}", {0, 13, 29}, {-1, 0, 0}},
        {"{\"quiet\":[\"Mon 08:00-20:00\"],\"timezone\":\"-05:30\"}", {1, 1, 0}, {1, 1, 30}},
        {"{\"quiet\":[\"Mon 00:00-24:00\"],\"timezone\":\"+14:00\"}", {-1, 10, 0}, {0, 10, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        struct dr_tuning t;
        dr_tuning_default(&t);
        assert_int_equal(tune(rows[i].tuning, &t, &err), DR_OK);
        const struct when *n = &rows[i].now;
        const struct when *o = &rows[i].over;
        dr_wall_ms now = at(n->day, n->hour, n->minute);
        dr_wall_ms over = 0;
        bool is_quiet = dr_tuning_is_quiet(&t, now, &over);
        dr_wall_ms want = o->day < 0 ? now : at(o->day, o->hour, o->minute);
        if (is_quiet != (o->day >= 0) || over != want) {
            print_error("row %zu: %s: quiet %d until %lld, expected %lld\n", i, rows[i].tuning,
                        is_quiet, (long long)over, (long long)want);
            fail();
        }
    }
}

static void quiet_ends_to_the_millisecond(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_tuning t;
    dr_wall_ms over = 0;
    dr_tuning_default(&t);
    assert_int_equal(tune("{\"quiet\":[\"08:00-20:00\"]}", &t, &err), DR_OK);
    assert_false(dr_tuning_is_quiet(&t, at(0, 8, 0) - 1, &over));
    assert_true(dr_tuning_is_quiet(&t, at(0, 8, 0), &over));
    assert_true(dr_tuning_is_quiet(&t, at(0, 20, 0) - 1, &over));
    assert_int_equal(over, at(0, 20, 0));
    assert_false(dr_tuning_is_quiet(&t, at(0, 20, 0), &over));
    /* Clocks that are far off do no harm; before 1970 windows hold, too. */
    assert_false(dr_tuning_is_quiet(&t, INT64_MAX, &over));
    assert_false(dr_tuning_is_quiet(&t, INT64_MIN, &over));
    assert_false(dr_tuning_is_quiet(&t, -1, &over));
    assert_true(dr_tuning_is_quiet(&t, -(4 * 3600 * 1000) - 1, &over));
    assert_int_equal(over, -(4 * 3600 * 1000));
}

static void set_zone(const char *name)
{
    assert_int_equal(setenv("TZ", name, 1), 0);
    tzset();
}

/* Berlin by rule, so that no zone files are needed: summer time from 2026-03-29 01:00 UTC to
 * 2026-10-25 01:00 UTC. */
static const char berlin[] = "CET-1CEST,M3.5.0,M10.5.0/3";

static dr_wall_ms utc(int month, int day, int hour, int minute)
{
    struct tm t = {
        .tm_year = 126, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};
    return (dr_wall_ms)timegm(&t) * 1000;
}

static void quiet_follows_local_summer_time(void **state)
{
    (void)state;
    static const struct {
        const char *quiet;
        dr_wall_ms now, over; /* over 0: not quiet */
    } rows[] = {
        /* Winter +01:00, summer +02:00. */
        {"08:00-20:00", 1768460400000, 1768503600000}, /* 2026-01-15 07:00Z -> 19:00Z */
        {"08:00-20:00", 1768460399999, 0},
        {"08:00-20:00", 1784095200000, 1784138400000}, /* 2026-07-15 06:00Z -> 18:00Z */
        {"08:00-20:00", 1784138400000, 0},
    };
    set_zone(berlin);
    struct dr_err err = {0};
    struct dr_tuning t;
    dr_wall_ms over = 0;
    char text[100];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dr_tuning_default(&t);
        (void)snprintf(text, sizeof text, "{\"timezone\":\"local\",\"quiet\":[\"%s\"]}",
                       rows[i].quiet);
        assert_int_equal(tune(text, &t, &err), DR_OK);
        assert_int_equal(dr_tuning_is_quiet(&t, rows[i].now, &over), rows[i].over != 0);
        assert_int_equal(over, rows[i].over != 0 ? rows[i].over : rows[i].now);
    }
    /* The night of 23 hours: 22:00 to 06:00 lasts seven. */
    assert_int_equal(tune("{\"timezone\":\"local\",\"quiet\":[\"22:00-06:00\"]}", &t, &err), DR_OK);
    assert_false(dr_tuning_is_quiet(&t, utc(3, 28, 20, 59), &over));
    assert_true(dr_tuning_is_quiet(&t, utc(3, 28, 21, 0), &over));
    assert_int_equal(over, utc(3, 29, 4, 0));
    /* The night of 25 hours: nine. */
    assert_true(dr_tuning_is_quiet(&t, utc(10, 24, 20, 0), &over));
    assert_int_equal(over, utc(10, 25, 5, 0));
    /* 02:00 to 02:30 happens twice that night: from the first start to the last end. */
    assert_int_equal(tune("{\"quiet\":[\"02:00-02:30\"]}", &t, &err), DR_OK);
    assert_false(dr_tuning_is_quiet(&t, utc(10, 24, 23, 59), &over));
    assert_true(dr_tuning_is_quiet(&t, utc(10, 25, 0, 0), &over));
    assert_int_equal(over, utc(10, 25, 1, 30));
    assert_true(dr_tuning_is_quiet(&t, utc(10, 25, 1, 29), &over));
    assert_false(dr_tuning_is_quiet(&t, utc(10, 25, 1, 30), &over));
    /* A window that the night of 23 hours skips must not stretch over the day. */
    for (int minute = 0; minute < 24 * 60; minute++) {
        dr_wall_ms now = utc(3, 29, 0, 0) + minute * 60000LL;
        if (dr_tuning_is_quiet(&t, now, &over)) {
            assert_true(over > now && over - now <= 90 * 60000);
        }
    }
    set_zone("UTC");
}

/* Against the plain definition: minute by minute, in a zone without changes. */
static void unions_agree_with_counting_minutes(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (int round = 0; round < 60; round++) {
        struct dr_tuning t;
        dr_tuning_default(&t);
        t.zone = DR_ZONE_FIXED;
        t.zone_offset_min = (int32_t)(round * 37 % 1440) - 720;
        t.quiet_count = 1 + (uint32_t)round % 6;
        for (uint32_t i = 0; i < t.quiet_count; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            t.quiet[i].days = (uint8_t)(random >> 33 & 0x7f);
            t.quiet[i].from_min = (uint16_t)((random >> 40) % 1440);
            t.quiet[i].upto_min = (uint16_t)((random >> 52) % 1440 + 1);
        }
        static bool is_quiet[3 * 7 * 1440]; /* of local minutes; the middle week is whole */
        memset(is_quiet, 0, sizeof is_quiet);
        for (int day = 0; day < 21; day++) {
            for (uint32_t i = 0; i < t.quiet_count; i++) {
                int from = t.quiet[i].from_min;
                int upto = t.quiet[i].upto_min + (t.quiet[i].upto_min <= from ? 1440 : 0);
                for (int m = from; (t.quiet[i].days >> (day % 7) & 1) != 0 && m < upto; m++) {
                    size_t minute = (size_t)(day * 1440 + m);
                    if (minute < sizeof is_quiet) {
                        is_quiet[minute] = true;
                    }
                }
            }
        }
        for (int minute = 7 * 1440; minute < 14 * 1440; minute += 13) {
            dr_wall_ms now = at(-7, 0, 0) + (minute - t.zone_offset_min) * 60000LL;
            dr_wall_ms over = 0;
            int end = minute;
            while (end < minute + 7 * 1440 && is_quiet[end]) {
                end++;
            }
            assert_int_equal(dr_tuning_is_quiet(&t, now, &over), is_quiet[minute]);
            assert_int_equal(over, now + (end - minute) * 60000LL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tuning_has_all_its_keys),
        cmocka_unit_test(tuning_changes_only_what_it_names),
        cmocka_unit_test(every_tuning_mistake_names_its_place),
        cmocka_unit_test(tuning_survives_its_own_json),
        cmocka_unit_test(quiet_texts_that_are_none),
        cmocka_unit_test(quiet_windows_hold_in_every_zone),
        cmocka_unit_test(quiet_ends_to_the_millisecond),
        cmocka_unit_test(quiet_follows_local_summer_time),
        cmocka_unit_test(unions_agree_with_counting_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
