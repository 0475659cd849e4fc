/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of base/: each test is named for one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

/* ---- err ---- */

static void err_every_code_has_a_name_and_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < DR_CODE_COUNT; i++) {
        assert_true(dr_code_name((enum dr_code)i)[0] != '\0');
        assert_true(dr_code_text((enum dr_code)i)[0] != '\0');
    }
    assert_string_equal(dr_code_name(DR_REFUSED), "REFUSED");
    assert_string_equal(dr_code_text(DR_REFUSED), "a guard said no");
    assert_int_equal(dr_code_retry(DR_BUSY), DR_RETRY_LATER);
    assert_int_equal(dr_code_retry(DR_UNKNOWN), DR_RETRY_PROBE);
    assert_int_equal(dr_code_retry(DR_REFUSED), DR_RETRY_NEVER);
    assert_string_equal(dr_code_name(DR_CODE_COUNT), "INVALID");
}

static void err_wrap_puts_the_general_before_the_particular(void **state)
{
    (void)state;
    struct dr_err err = {0};
    assert_int_equal(dr_fail(&err, DR_INPUT, "key %d", 7), DR_INPUT);
    dr_wrap(&err, "read batch %s", "x");
    dr_wrap(&err, "job 3");
    assert_string_equal(err.msg, "job 3: read batch x: key 7");
    assert_int_equal(err.code, DR_INPUT);

    assert_int_equal(dr_fail(&err, DR_IO, "again: %s", err.msg), DR_IO);
    assert_string_equal(err.msg, "again: job 3: read batch x: key 7");

    dr_err_clear(&err);
    dr_wrap(&err, "nothing failed");
    assert_string_equal(err.msg, "");
}

static void err_is_always_terminated_and_null_is_allowed(void **state)
{
    (void)state;
    char text[3 * DR_ERR_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct dr_err err = {0};
    assert_int_equal(dr_fail(&err, DR_IO, "%s", text), DR_IO);
    assert_int_equal(strlen(err.msg), DR_ERR_BYTES - 1);
    dr_wrap(&err, "head");
    assert_int_equal(strlen(err.msg), DR_ERR_BYTES - 1);
    assert_int_equal(strncmp(err.msg, "head: xxx", 9), 0);
    dr_wrap(&err, "%s", text);
    assert_int_equal(strlen(err.msg), DR_ERR_BYTES - 1);

    assert_int_equal(dr_fail(NULL, DR_BUSY, "x"), DR_BUSY);
    assert_int_equal(dr_fail_nomem(NULL), DR_NOMEM);
    dr_wrap(NULL, "x");
    dr_err_clear(NULL);
}

static void err_errno_becomes_a_code_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        int value;
        enum dr_code code;
        const char *part;
    } rows[] = {
        {ENOSPC, DR_FULL, "free space"},
        {EDQUOT, DR_FULL, "quota"},
        {EROFS, DR_READONLY, "read-only"},
        {EACCES, DR_DENIED, "owner and mode"},
        {ENOENT, DR_NOT_FOUND, "check the path"},
        {EIO, DR_IO, "kernel log"},
        {ENOMEM, DR_NOMEM, "memory"},
        {ENOTTY, DR_IO, "/a/b: cannot write: "},
        {EMFILE, DR_IO, "ulimit"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        assert_int_equal(dr_fail_errno(&err, rows[i].value, "write", "/a/b"), rows[i].code);
        assert_has(err.msg, rows[i].part);
        assert_has(err.msg, "/a/b: cannot write");
    }
}

/* ---- mem ---- */

/* Uses every allocating helper; true when all of them succeeded. Never leaks. */
static bool allocate_everything(void)
{
    void *m = dr_malloc(0);
    char *c = dr_calloc(4, 4);
    void *grown = dr_realloc(NULL, 10);
    char *d = dr_strdup("drover");
    char *n = dr_strndup("drover", 3);
    void *e = dr_memdup("", 0);
    char *f = dr_asprintf("%d-%s", 7, "x");
    struct dr_arena *a = dr_arena_create(64);
    bool is_whole = m != NULL && c != NULL && grown != NULL && d != NULL && n != NULL && e != NULL;
    is_whole = is_whole && f != NULL && a != NULL;
    if (a != NULL) {
        is_whole = dr_arena_alloc(a, 10000) != NULL && is_whole;
        is_whole = dr_arena_printf(a, "%s", "text") != NULL && is_whole;
    }
    if (is_whole) {
        assert_string_equal(n, "dro");
        assert_string_equal(f, "7-x");
        assert_int_equal(c[15], 0);
    }
    dr_free(m);
    dr_free(c);
    dr_free(grown);
    dr_free(d);
    dr_free(n);
    dr_free(e);
    dr_free(f);
    dr_arena_destroy(a);
    return is_whole;
}

static void mem_every_single_allocation_can_fail(void **state)
{
    (void)state;
    uint64_t failures = 0;
    for (uint64_t n = 1; n < 100; n++) {
        (void)dr_mem_fail_at(n);
        bool is_whole = allocate_everything();
        uint64_t made = dr_mem_fail_at(0);
        if (is_whole) {
            assert_true(n > made);
            break;
        }
        failures++;
    }
    assert_int_equal(failures, 11);
    assert_true(allocate_everything());
}

static void mem_fails_once_and_then_works(void **state)
{
    (void)state;
    (void)dr_mem_fail_at(2);
    void *a = dr_malloc(1);
    void *b = dr_malloc(1);
    void *c = dr_malloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_int_equal(dr_mem_fail_at(0), 3);
    assert_int_equal(dr_mem_fail_at(0), 0);
    dr_free(a);
    dr_free(c);
    dr_free(NULL);
    size_t half = SIZE_MAX / 2; /* a variable, or the compiler warns of the size itself */
    assert_null(dr_calloc(half, 4));
}

static void arena_is_aligned_counts_and_resets(void **state)
{
    (void)state;
    struct dr_arena *a = dr_arena_create(1024);
    assert_non_null(a);
    size_t sum = 0;
    for (size_t i = 0; i < 500; i++) {
        unsigned char *p = dr_arena_alloc(a, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xab, i);
        sum += i;
    }
    assert_int_equal(dr_arena_bytes(a), sum);
    assert_null(dr_arena_alloc(a, SIZE_MAX - 4));

    dr_arena_reset(a);
    assert_int_equal(dr_arena_bytes(a), 0);
    (void)dr_mem_fail_at(0);
    char *text = dr_arena_strdup(a, "kept");
    assert_string_equal(dr_arena_printf(a, "%s+%d", text, 1), "kept+1");
    assert_memory_equal(dr_arena_memdup(a, "abc", 3), "abc", 3);
    assert_int_equal(dr_mem_fail_at(0), 0); /* the first block was kept */
    dr_arena_destroy(a);
    dr_arena_destroy(NULL);
}

/* ---- str ---- */

static void str_grows_and_gives_its_text_away(void **state)
{
    (void)state;
    struct dr_str s;
    dr_str_init(&s);
    assert_string_equal(dr_str_text(&s), "");
    for (int i = 0; i < 1000; i++) {
        dr_str_addf(&s, "%d,", i);
    }
    dr_str_addc(&s, '!');
    dr_str_addn(&s, "ab", 1);
    dr_str_add(&s, "");
    assert_int_equal(s.len, 10 + 90 * 2 + 900 * 3 + 1000 + 2);
    assert_has(dr_str_text(&s), ",999,!a");
    char *text = dr_str_take(&s);
    assert_int_equal(strlen(text), 3892);
    dr_free(text);
    assert_null(s.data);

    text = dr_str_take(&s);
    assert_string_equal(text, "");
    dr_free(text);
}

static void str_a_failed_append_sticks_until_cleared(void **state)
{
    (void)state;
    struct dr_str s;
    dr_str_init(&s);
    dr_str_add(&s, "first");
    (void)dr_mem_fail_at(1);
    dr_str_addf(&s, "%200d", 1);
    dr_str_add(&s, "x");
    assert_true(s.is_short);
    assert_string_equal(dr_str_text(&s), "first");
    assert_null(dr_str_take(&s));

    dr_str_add(&s, "again");
    dr_str_clear(&s);
    assert_false(s.is_short);
    assert_string_equal(dr_str_text(&s), "");
    dr_str_fini(&s);
    (void)dr_mem_fail_at(0);
}

static void glob_table(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *text;
        bool is_match;
    } rows[] = {
        {"", "", true},           {"", "a", false},           {"*", "", true},
        {"*", "abc", true},       {"?", "", false},           {"?", "a", true},
        {"a*c", "abbbc", true},   {"a*c", "abbbd", false},    {"a?c", "abc", true},
        {"a?c", "ac", false},     {"*b*", "abc", true},       {"AB*", "abc", true},
        {"ab*", "ABC", true},     {"**a", "bba", true},       {"a**", "a", true},
        {"*.log", "x.log", true}, {"*.log", "x.logs", false}, {"[a]", "a", false},
        {"[a]", "[a]", true},     {"a\\*", "a\\b", true},     {"user:*:tmp", "user:1:2:tmp", true},
        {"*ab", "aab", true},     {"*aab", "aaaab", true},    {"abc", "ab", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (dr_glob_match(rows[i].pattern, rows[i].text) != rows[i].is_match) {
            print_error("row %zu: %s against %s\n", i, rows[i].pattern, rows[i].text);
            fail();
        }
    }
}

static void glob_stays_fast_on_a_hostile_pattern(void **state)
{
    (void)state;
    char text[4001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    dr_mono_ms before = dr_mono_now();
    assert_false(dr_glob_match("*a*a*a*a*a*a*a*a*a*a*b", text));
    assert_true(dr_mono_now() - before < 2000);
}

static void parse_numbers_whole_or_not_at_all(void **state)
{
    (void)state;
    uint64_t u = 5;
    assert_true(dr_parse_u64("0", &u) && u == 0);
    assert_true(dr_parse_u64("18446744073709551615", &u) && u == UINT64_MAX);
    static const char *const bad[] = {
        "", " 1", "1 ", "+1", "-1", "1x", "0x1", "18446744073709551616", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        u = 77;
        assert_false(dr_parse_u64(bad[i], &u));
        assert_int_equal(u, 77);
    }
    assert_false(dr_parse_u64(NULL, &u));

    int64_t i = 5;
    assert_true(dr_parse_i64("-9223372036854775808", &i) && i == INT64_MIN);
    assert_true(dr_parse_i64("9223372036854775807", &i) && i == INT64_MAX);
    assert_true(dr_parse_i64("-0", &i) && i == 0);
    assert_false(dr_parse_i64("9223372036854775808", &i));
    assert_false(dr_parse_i64("-9223372036854775809", &i));
    assert_false(dr_parse_i64("--1", &i));
    assert_false(dr_parse_i64("-", &i));
}

static void parse_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"2h", 7200000}, {"30m", 1800000}, {"90s", 90000}, {"7d", 604800000},
        {"250ms", 250},  {"15", 15000},    {"0", 0},       {"0ms", 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t ms = 1;
        assert_true(dr_parse_duration_ms(good[i].text, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {
        "", "h", "-1s", "1.5h", "2 h", "2H", "2hh", "1w", " 2h", "2h ", "18446744073709551615s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t ms = 1;
        assert_false(dr_parse_duration_ms(bad[i], &ms));
        assert_int_equal(ms, 1);
    }
    uint64_t ms = 1;
    assert_false(dr_parse_duration_ms(NULL, &ms));
}

static void human_forms(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(dr_human_count(0, b, sizeof b), "0");
    assert_string_equal(dr_human_count(999, b, sizeof b), "999");
    assert_string_equal(dr_human_count(1000, b, sizeof b), "1,000");
    assert_string_equal(dr_human_count(1234567, b, sizeof b), "1,234,567");
    assert_string_equal(dr_human_count(UINT64_MAX, b, sizeof b), "18,446,744,073,709,551,615");
    assert_string_equal(dr_human_bytes(999, b, sizeof b), "999 B");
    assert_string_equal(dr_human_bytes(1400000000, b, sizeof b), "1.4 GB");
    assert_string_equal(dr_human_bytes(999999, b, sizeof b), "1.0 MB");
    assert_string_equal(dr_human_bytes(UINT64_MAX, b, sizeof b), "18.4 EB");
    assert_string_equal(dr_human_ms(250, b, sizeof b), "250ms");
    assert_string_equal(dr_human_ms(59999, b, sizeof b), "59s");
    assert_string_equal(dr_human_ms(125000, b, sizeof b), "2m 05s");
    assert_string_equal(dr_human_ms(10925000, b, sizeof b), "3h 02m 05s");
    assert_string_equal(dr_human_ms(90000000, b, sizeof b), "1d 01h 00m");

    char tiny[4];
    assert_string_equal(dr_human_count(1234567, tiny, sizeof tiny), "1,2");
    dr_copy_text(tiny, sizeof tiny, "abcdef");
    assert_string_equal(tiny, "abc");
    dr_copy_text(tiny, 1, "abcdef");
    assert_string_equal(tiny, "");
}

/* ---- clock, backoff ---- */

static void clock_text_is_utc_with_milliseconds(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(dr_wall_text(0, b, sizeof b), "1970-01-01T00:00:00.000Z");
    assert_string_equal(dr_wall_text(1795240106123, b, sizeof b), "2026-11-21T05:48:26.123Z");
    assert_string_equal(dr_wall_text(-1, b, sizeof b), "1969-12-31T23:59:59.999Z");
    (void)dr_wall_text(INT64_MAX, b, sizeof b);
    (void)dr_wall_text(INT64_MIN, b, sizeof b);
    assert_true(dr_wall_now() > 1700000000000);
}

static void clock_mono_does_not_go_back(void **state)
{
    (void)state;
    int64_t last = dr_mono_us();
    for (int i = 0; i < 10000; i++) {
        int64_t now = dr_mono_us();
        assert_true(now >= last);
        last = now;
    }
    assert_true(dr_mono_now() >= last / 1000);
}

static void backoff_stays_between_half_and_the_ceiling(void **state)
{
    (void)state;
    static const struct dr_backoff rows[] = {
        {100, 60000}, {1, 1}, {0, 0}, {5000, 100}, {UINT32_MAX, UINT32_MAX}, {3, 1000},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        const struct dr_backoff *b = &rows[r];
        uint64_t max = b->max_ms == 0 ? 1 : b->max_ms;
        for (uint32_t i = 0; i < 5000; i++) {
            uint32_t failures = i % 100 == 99 ? UINT32_MAX - i : 1 + i % 70;
            uint64_t full = b->first_ms == 0 ? 1 : b->first_ms;
            for (uint32_t k = 1; k < failures && full < max; k++) {
                full *= 2;
            }
            full = full > max ? max : full;
            uint64_t ms = dr_backoff_ms(b, failures, dr_random());
            assert_true(ms <= full);
            assert_true(ms >= (full + 1) / 2);
        }
        assert_int_equal(dr_backoff_ms(b, 0, 7), 0);
    }
    const struct dr_backoff b = {100, 60000};
    assert_int_equal(dr_backoff_ms(&b, 1, 0), 50);
    assert_int_equal(dr_backoff_ms(&b, 1, 50), 100);
    assert_int_equal(dr_backoff_ms(&b, 3, 0), 200);
}

static bool is_third_look(void *arg)
{
    int *looks = arg;
    return ++*looks == 3;
}

static void wait_ends_early_when_told(void **state)
{
    (void)state;
    int looks = 0;
    dr_mono_ms before = dr_mono_now();
    assert_true(dr_wait_ms(60000, is_third_look, &looks));
    assert_true(dr_mono_now() - before < 10000);
    looks = 0;
    assert_false(dr_wait_ms(0, is_third_look, &looks));
    assert_int_equal(looks, 1);
    before = dr_mono_now();
    assert_false(dr_wait_ms(30, NULL, NULL));
    assert_true(dr_mono_now() - before >= 29);
    assert_true(dr_random() != dr_random());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_every_code_has_a_name_and_a_text),
        cmocka_unit_test(err_wrap_puts_the_general_before_the_particular),
        cmocka_unit_test(err_is_always_terminated_and_null_is_allowed),
        cmocka_unit_test(err_errno_becomes_a_code_with_a_remedy),
        cmocka_unit_test(mem_every_single_allocation_can_fail),
        cmocka_unit_test(mem_fails_once_and_then_works),
        cmocka_unit_test(arena_is_aligned_counts_and_resets),
        cmocka_unit_test(str_grows_and_gives_its_text_away),
        cmocka_unit_test(str_a_failed_append_sticks_until_cleared),
        cmocka_unit_test(glob_table),
        cmocka_unit_test(glob_stays_fast_on_a_hostile_pattern),
        cmocka_unit_test(parse_numbers_whole_or_not_at_all),
        cmocka_unit_test(parse_durations),
        cmocka_unit_test(human_forms),
        cmocka_unit_test(clock_text_is_utc_with_milliseconds),
        cmocka_unit_test(clock_mono_does_not_go_back),
        cmocka_unit_test(backoff_stays_between_half_and_the_ceiling),
        cmocka_unit_test(wait_ends_early_when_told),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
