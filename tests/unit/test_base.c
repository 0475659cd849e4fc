/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of base/: each test is named for one. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sql.h"
#include "base/str.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-test-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

/* The path of a file in the test's folder; four results live at the same time. */
static const char *in_folder(const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static void write_file(const char *path, const char *text)
{
    struct dr_err err = {0};
    assert_int_equal(dr_file_replace(path, text, strlen(text), &err), DR_OK);
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
    assert_int_equal(failures, 10);
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

/* ---- file ---- */

static void dir_make_makes_parents_and_is_repeatable(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("a//b/c/");
    assert_int_equal(dr_dir_make(path, &err), DR_OK);
    assert_int_equal(dr_dir_make(path, &err), DR_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(dr_dir_sync(path, &err), DR_OK);

    write_file(in_folder("plain"), "x");
    assert_int_equal(dr_dir_make(in_folder("plain"), &err), DR_NOT_FOUND);
    assert_int_equal(dr_dir_make(in_folder("plain/sub"), &err), DR_NOT_FOUND);
    assert_has(err.msg, "/plain");
    assert_int_equal(dr_dir_make("", &err), DR_NOT_FOUND);
    assert_int_equal(dr_dir_sync(in_folder("none"), &err), DR_NOT_FOUND);
}

static void file_load_returns_what_was_replaced(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    size_t bytes = 100000;
    char *big = dr_malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        big[i] = (char)(i * 7);
    }
    assert_int_equal(dr_file_replace(path, big, bytes, &err), DR_OK);
    char *back = NULL;
    size_t got = 0;
    assert_int_equal(dr_file_load(path, bytes, &back, &got, &err), DR_OK);
    assert_int_equal(got, bytes);
    assert_memory_equal(back, big, bytes);
    assert_int_equal(back[got], '\0');
    dr_free(back);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);

    assert_int_equal(dr_file_load(path, bytes - 1, &back, &got, &err), DR_REFUSED);
    assert_null(back);
    assert_has(err.msg, "99999 bytes");
    assert_int_equal(dr_file_replace(path, "", 0, &err), DR_OK);
    assert_int_equal(dr_file_load(path, 0, &back, &got, &err), DR_OK);
    assert_string_equal(back, "");
    dr_free(back);
    assert_int_equal(dr_file_load(in_folder("none"), 10, &back, &got, &err), DR_NOT_FOUND);
    assert_int_equal(dr_file_load(folder, 10, &back, &got, &err), DR_INPUT);
    dr_free(big);
}

static void file_read_at_tells_how_much_there_was(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    write_file(path, "0123456789");
    int fd = -1;
    assert_int_equal(dr_file_open(path, O_RDONLY, &fd, &err), DR_OK);
    char b[8] = "";
    size_t got = 0;
    assert_int_equal(dr_file_read_at(fd, path, 3, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 4);
    assert_memory_equal(b, "3456", 4);
    assert_int_equal(dr_file_read_at(fd, path, 8, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 2);
    assert_int_equal(dr_file_read_at(fd, path, 100, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(dr_file_read_at(fd, path, UINT64_MAX, b, 4, &got, &err), DR_INPUT);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_true(dr_file_write_all(fd, path, "x", 1, &err) != DR_OK); /* opened for reading */
    close(fd);
    assert_int_equal(dr_file_open(in_folder("none"), O_RDONLY, &fd, &err), DR_NOT_FOUND);
    assert_int_equal(fd, -1);
}

static void file_full_disk_says_free_space(void **state)
{
    (void)state;
    struct dr_err err = {0};
    int fd = -1;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_int_equal(dr_file_open("/dev/full", O_WRONLY, &fd, &err), DR_OK);
    assert_int_equal(dr_file_write_all(fd, "/dev/full", "x", 1, &err), DR_FULL);
    assert_has(err.msg, "free space");
    close(fd);
}

/* The reader in another process must see the old or the new text, never a mixture. */
static void file_replace_shows_old_or_new_never_half(void **state)
{
    (void)state;
    enum { BYTES = 200000, ROUNDS = 60 };
    const char *path = in_folder("data");
    char *text = dr_malloc(BYTES);
    struct dr_err err = {0};
    memset(text, 'a', BYTES);
    assert_int_equal(dr_file_replace(path, text, BYTES, &err), DR_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int failures = 0;
        for (int i = 0; i < ROUNDS; i++) {
            memset(text, 'a' + i % 26, BYTES);
            failures += dr_file_replace(path, text, BYTES, &err) != DR_OK;
        }
        _exit(failures == 0 ? 0 : 1);
    }
    int status = 0;
    unsigned reads = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        char *back = NULL;
        size_t got = 0;
        assert_int_equal(dr_file_load(path, BYTES, &back, &got, &err), DR_OK);
        assert_int_equal(got, BYTES);
        for (size_t i = 1; i < got; i++) {
            if (back[i] != back[0]) {
                fail_msg("byte %zu differs", i);
            }
        }
        dr_free(back);
        reads++;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(reads > 0);
    dr_free(text);
}

static unsigned count_entries(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    unsigned count = 0;
    assert_int_equal(fscanf(f, "%u", &count), 1);
    (void)pclose(f);
    return count;
}

static void file_replace_that_fails_keeps_the_old_and_no_litter(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    write_file(path, "old");
    (void)dr_mem_fail_at(1);
    assert_int_equal(dr_file_replace(path, "new", 3, &err), DR_NOMEM);
    (void)dr_mem_fail_at(0);
    assert_int_equal(mkdir(in_folder("dir"), 0700), 0);
    assert_true(dr_file_replace(in_folder("dir"), "new", 3, &err) != DR_OK);
    assert_int_equal(count_entries(), 2);
    assert_int_equal(dr_file_replace(in_folder("none/data"), "new", 3, &err), DR_NOT_FOUND);
#ifdef DROVER_FAULTS
    bool is_done = false;
    for (uint64_t n = 1; n < 50 && !is_done; n++) {
        write_file(path, "old");
        (void)dr_fault_io_at(n);
        enum dr_code rc = dr_file_replace(path, "new", 3, &err);
        (void)dr_fault_io_at(0);
        is_done = rc == DR_OK;
        assert_true(is_done || rc == DR_IO);
        char *back = NULL;
        size_t got = 0;
        assert_int_equal(dr_file_load(path, 10, &back, &got, &err), DR_OK);
        assert_true(strcmp(back, "new") == 0 || (!is_done && strcmp(back, "old") == 0));
        dr_free(back);
        assert_int_equal(count_entries(), 2);
    }
    assert_true(is_done);
#endif
}

/* The child holds the lock until its pipe is closed. */
static void file_lock_excludes_another_process(void **state)
{
    (void)state;
    const char *path = in_folder("lock");
    int ready[2];
    int done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    struct dr_err err = {0};
    char holder[32];
    assert_false(dr_file_is_locked(path, holder, sizeof holder));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = -1;
        char c = 'y';
        close(done[1]);
        if (dr_file_lock(path, "pid 7 on eu-3\nmore", &fd, NULL, 0, NULL) != DR_OK) {
            c = 'n';
        }
        ssize_t n = write(ready[1], &c, 1);
        n += read(done[0], &c, 1);
        _exit(n >= 1 ? 0 : 1);
    }
    close(done[0]);
    char c = 0;
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    int fd = 5;
    assert_int_equal(dr_file_lock(path, "me", &fd, holder, sizeof holder, &err), DR_BUSY);
    assert_int_equal(fd, -1);
    assert_string_equal(holder, "pid 7 on eu-3");
    assert_has(err.msg, "held by pid 7 on eu-3");
    holder[0] = '\0';
    assert_true(dr_file_is_locked(path, holder, sizeof holder));
    assert_string_equal(holder, "pid 7 on eu-3");

    close(done[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(dr_file_lock(path, "me", &fd, holder, sizeof holder, &err), DR_OK);
    assert_true(dr_file_is_locked(path, NULL, 0));
    char *text = NULL;
    size_t got = 0;
    assert_int_equal(dr_file_load(path, 100, &text, &got, &err), DR_OK);
    assert_string_equal(text, "me");
    dr_free(text);
    close(fd);
    assert_false(dr_file_is_locked(path, NULL, 0));
    close(ready[0]);
    close(ready[1]);
}

static void disk_free_is_known_for_an_existing_path(void **state)
{
    (void)state;
    struct dr_err err = {0};
    uint64_t bytes = 0;
    assert_int_equal(dr_disk_free(folder, &bytes, &err), DR_OK);
    assert_true(bytes > 0);
    assert_int_equal(dr_disk_free(in_folder("none"), &bytes, &err), DR_NOT_FOUND);
}

/* ---- fault ---- */

static void fault_points_act_at_the_named_passing(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    struct dr_err err = {0};
    dr_fault_arm("a@2=error,b=full,c=delay:30");
    assert_int_equal(dr_fault_pass("a", &err), DR_OK);
    assert_int_equal(dr_fault_pass("a", &err), DR_IO);
    assert_has(err.msg, "fault point a");
    assert_int_equal(dr_fault_pass("a", &err), DR_OK);
    assert_int_equal(dr_fault_pass("b", &err), DR_FULL);
    dr_mono_ms before = dr_mono_now();
    dr_fault_mark("c");
    assert_true(dr_mono_now() - before >= 29);
    assert_int_equal(dr_fault_pass("other", &err), DR_OK);
    dr_fault_arm(NULL);
    assert_int_equal(dr_fault_pass("b", &err), DR_OK);
#else
    assert_int_equal(dr_fault_pass("a", NULL), DR_OK);
    dr_fault_mark("a");
#endif
}

static void fault_kill_is_immediate(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dr_fault_arm("boom@3=kill");
        for (int i = 0; i < 3; i++) {
            dr_fault_mark("boom");
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
#else
    skip();
#endif
}

static void fault_io_counts_operations(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    struct dr_err err = {0};
    (void)dr_fault_io_at(2);
    assert_int_equal(dr_fault_io_pass(), 0);
    assert_int_equal(dr_fault_io_pass(), EIO);
    assert_int_equal(dr_fault_io_pass(), 0);
    assert_int_equal(dr_fault_io_at(1), 3);
    int fd = -1;
    assert_int_equal(dr_file_open(in_folder("x"), O_RDWR | O_CREAT, &fd, &err), DR_IO);
    assert_int_equal(fd, -1);
    assert_int_equal(dr_fault_io_at(0), 1);
#else
    skip();
#endif
}

/* ---- json ---- */

static enum dr_code parse(const char *text, json_t **out, struct dr_err *err)
{
    return dr_json_parse("job.json", text, strlen(text), out, err);
}

static void json_mistakes_name_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } rows[] = {
        {"", "job.json:1:0: "},
        {"{\n  \"a\": 1,\n  \"b\" 2\n}", "job.json:3:"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{\"a\":1} x", "job.json:1:9: "},
        {"{\"a\":", "job.json:1:"},
        {"{'a':1}", "job.json:1:"},
        {"{\"a\":\"\\u0000\"}", "job.json:1:"},
        {"[99999999999999999999]", "job.json:1:"},
        {"\"\xff\"", "job.json:1:"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        json_t *j = (json_t *)&err;
        assert_int_equal(parse(rows[i].text, &j, &err), DR_INPUT);
        assert_null(j);
        assert_has(err.msg, rows[i].part);
        assert_null(strchr(err.msg, '\n'));
    }
}

static void json_limits_depth_and_size(void **state)
{
    (void)state;
    struct dr_err err = {0};
    json_t *j = NULL;
    char text[200];
    memset(text, '[', DR_JSON_DEPTH_MAX);
    memset(text + DR_JSON_DEPTH_MAX, ']', DR_JSON_DEPTH_MAX);
    text[2 * DR_JSON_DEPTH_MAX] = '\0';
    assert_int_equal(parse(text, &j, &err), DR_OK);
    json_decref(j);
    memset(text, '[', DR_JSON_DEPTH_MAX + 1);
    text[DR_JSON_DEPTH_MAX + 1] = '\0';
    assert_int_equal(parse(text, &j, &err), DR_INPUT);
    assert_has(err.msg, "job.json:1:33: nested deeper than 32");
    /* Brackets inside of a string are no depth. */
    assert_int_equal(parse("\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"", &j, &err), DR_OK);
    json_decref(j);

    size_t bytes = DR_JSON_BYTES_MAX + 1;
    char *big = dr_malloc(bytes);
    memset(big, ' ', bytes);
    assert_int_equal(dr_json_parse("big", big, bytes, &j, &err), DR_INPUT);
    assert_int_equal(dr_file_replace(in_folder("big"), big, bytes, &err), DR_OK);
    assert_int_equal(dr_json_load(in_folder("big"), &j, &err), DR_INPUT);
    dr_free(big);
    assert_int_equal(dr_json_load(in_folder("none"), &j, &err), DR_NOT_FOUND);
}

static void json_text_is_stable(void **state)
{
    (void)state;
    struct dr_err err = {0};
    json_t *j = NULL;
    write_file(in_folder("j"), "{ \"b\": [1, true, null],\n \"a\": \"x\\n\" }");
    assert_int_equal(dr_json_load(in_folder("j"), &j, &err), DR_OK);
    char *text = dr_json_text(j);
    assert_string_equal(text, "{\"a\":\"x\\n\",\"b\":[1,true,null]}");
    dr_free(text);
    (void)dr_mem_fail_at(1);
    assert_null(dr_json_text(j));
    (void)dr_mem_fail_at(0);
    json_decref(j);
}

struct sample_job {
    const char *table;
    uint64_t max_items;
    int64_t shift;
    double share;
    bool is_dry;
    const json_t *filter;
    const json_t *windows;
    const json_t *any;
    uint64_t pause_ms;
};

static enum dr_code read_job(const char *text, struct sample_job *job, json_t **keep,
                             struct dr_err *err)
{
    *job = (struct sample_job){.max_items = 7};
    assert_int_equal(parse(text, keep, err), DR_OK);
    struct dr_jr r;
    dr_jr_init(&r, *keep, "job", err);
    (void)dr_jr_string(&r, "table", true, &job->table);
    (void)dr_jr_u64(&r, "max_items", false, 1, 100, &job->max_items);
    (void)dr_jr_i64(&r, "shift", false, -5, 5, &job->shift);
    (void)dr_jr_real(&r, "share", false, 0, 1, &job->share);
    (void)dr_jr_bool(&r, "dry", false, &job->is_dry);
    (void)dr_jr_object(&r, "filter", false, &job->filter);
    (void)dr_jr_array(&r, "windows", false, 2, &job->windows);
    (void)dr_jr_any(&r, "any", false, &job->any);
    (void)dr_jr_duration(&r, "pause", false, &job->pause_ms);
    return dr_jr_finish(&r);
}

static void json_reader_fills_what_is_there(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct sample_job job;
    json_t *j = NULL;
    assert_int_equal(
        read_job("{\"table\":\"t\",\"shift\":-5,\"share\":1,\"dry\":true,\"filter\":{},"
                 "\"windows\":[1,2],\"any\":null,\"pause\":\"2h\"}",
                 &job, &j, &err),
        DR_OK);
    assert_string_equal(job.table, "t");
    assert_int_equal(job.max_items, 7); /* absent: untouched */
    assert_int_equal(job.shift, -5);
    assert_true(job.share > 0.99 && job.is_dry);
    assert_non_null(job.filter);
    assert_int_equal(json_array_size(job.windows), 2);
    assert_true(json_is_null(job.any));
    assert_int_equal(job.pause_ms, 7200000);
    json_decref(j);
    assert_int_equal(read_job("{\"table\":\"t\",\"pause\":1.5}", &job, &j, &err), DR_OK);
    assert_int_equal(job.pause_ms, 1500);
    json_decref(j);
}

static void json_reader_words_its_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *msg;
    } rows[] = {
        {"[]", "job: expected an object, found array"},
        {"{}", "job: key \"table\" is missing"},
        {"{\"table\":1}", "job.table: expected a string, found 1"},
        {"{\"table\":\"t\",\"max_items\":\"9\"}",
         "job.max_items: expected a whole number from 1 to 100, found string"},
        {"{\"table\":\"t\",\"max_items\":101}",
         "job.max_items: expected a whole number from 1 to 100, found 101"},
        {"{\"table\":\"t\",\"max_items\":0}",
         "job.max_items: expected a whole number from 1 to 100, found 0"},
        {"{\"table\":\"t\",\"max_items\":-1}",
         "job.max_items: expected a whole number from 1 to 100, found -1"},
        {"{\"table\":\"t\",\"max_items\":2.5}",
         "job.max_items: expected a whole number from 1 to 100, found 2.5"},
        {"{\"table\":\"t\",\"shift\":6}",
         "job.shift: expected a whole number from -5 to 5, found 6"},
        {"{\"table\":\"t\",\"share\":1.5}", "job.share: expected a number from 0 to 1, found 1.5"},
        {"{\"table\":\"t\",\"dry\":0}", "job.dry: expected true or false, found 0"},
        {"{\"table\":\"t\",\"dry\":null}", "job.dry: expected true or false, found null"},
        {"{\"table\":\"t\",\"filter\":[]}", "job.filter: expected an object, found array"},
        {"{\"table\":\"t\",\"windows\":{}}", "job.windows: expected an array, found object"},
        {"{\"table\":\"t\",\"windows\":[1,2,3]}", "job.windows: expected at most 2 items, found 3"},
        {"{\"table\":\"t\",\"pause\":\"2 hours\"}",
         "job.pause: expected a duration such as \"90s\", \"30m\", \"2h\" or a number of seconds, "
         "found \"2 hours\""},
        {"{\"table\":\"t\",\"pause\":-1}",
         "job.pause: expected a duration such as \"90s\", \"30m\", \"2h\" or a number of seconds, "
         "found -1"},
        {"{\"table\":\"t\",\"tabel\":1}", "job: unknown key \"tabel\" (did you mean \"table\"?)"},
        {"{\"table\":\"t\",\"windos\":1}",
         "job: unknown key \"windos\" (did you mean \"windows\"?)"},
        {"{\"table\":\"t\",\"zzzzzz\":1}",
         "job: unknown key \"zzzzzz\" (known: table, max_items, shift, share, dry, filter, "
         "windows, any, pause)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        struct sample_job job;
        json_t *j = NULL;
        assert_int_equal(read_job(rows[i].text, &job, &j, &err), DR_INPUT);
        assert_string_equal(err.msg, rows[i].msg);
        json_decref(j);
    }
}

static void json_reader_shows_hostile_keys_safely(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct sample_job job;
    json_t *j = NULL;
    assert_int_equal(read_job("{\"table\":\"t\",\"a\\n\\u001b[2Jb\\\"\":1}", &job, &j, &err),
                     DR_INPUT);
    assert_has(err.msg, "\"a??[2Jb?\"");
    json_decref(j);
    char text[4000];
    int used = snprintf(text, sizeof text, "{\"table\":\"t\",\"a");
    for (int i = 0; i < 500; i++) {
        used += snprintf(text + used, sizeof text - (size_t)used, "\xc3\xa4");
    }
    (void)snprintf(text + used, sizeof text - (size_t)used, "\":1}");
    assert_int_equal(read_job(text, &job, &j, &err), DR_INPUT);
    assert_has(err.msg, "\xc3\xa4\" (known");
    json_decref(j);
}

/* ---- sql ---- */

static void sql_runs_and_reads_back(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_sql s;
    const char *path = in_folder("x.db");
    assert_int_equal(dr_sql_open(&s, path, DR_SQL_CREATE, 100, &err), DR_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(dr_sql_exec(&s, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);", &err),
                     DR_OK);
    assert_int_equal(dr_sql_execf(&s, &err, "INSERT INTO t VALUES(%d, %Q)", 1, "it's"), DR_OK);
    sqlite3_stmt *st = NULL;
    assert_int_equal(dr_sql_prepare(&s, "INSERT INTO t VALUES(?, ?)", &st, &err), DR_OK);
    for (int i = 2; i <= 3; i++) {
        sqlite3_bind_int(st, 1, i);
        assert_int_equal(dr_sql_run(&s, st, &err), DR_OK);
    }
    sqlite3_finalize(st);

    assert_int_equal(dr_sql_prepare(&s, "SELECT b FROM t ORDER BY a", &st, &err), DR_OK);
    bool is_row = false;
    assert_int_equal(dr_sql_step(&s, st, &is_row, &err), DR_OK);
    assert_true(is_row);
    assert_string_equal(dr_sql_text(st, 0), "it's");
    assert_int_equal(dr_sql_step(&s, st, &is_row, &err), DR_OK);
    assert_string_equal(dr_sql_text(st, 0), "");
    sqlite3_finalize(st);
    int64_t n = 0;
    assert_int_equal(dr_sql_int(&s, "SELECT count(*) FROM t", -1, &n, &err), DR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(dr_sql_int(&s, "SELECT a FROM t WHERE a > 9", -1, &n, &err), DR_OK);
    assert_int_equal(n, -1);
    assert_int_equal(dr_sql_int(&s, "SELECT max(a) FROM t WHERE a > 9", -2, &n, &err), DR_OK);
    assert_int_equal(n, -2);
    dr_sql_close(&s);
    dr_sql_close(&s);
}

static void sql_rollback_undoes_and_commit_keeps(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_sql s;
    int64_t n = 0;
    assert_int_equal(dr_sql_open(&s, in_folder("x.db"), DR_SQL_CREATE, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "CREATE TABLE t(a)", &err), DR_OK);
    dr_sql_rollback(&s); /* nothing is open */
    assert_int_equal(dr_sql_begin(&s, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO t VALUES(1)", &err), DR_OK);
    dr_sql_rollback(&s);
    assert_int_equal(dr_sql_begin(&s, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO t VALUES(1),(2)", &err), DR_OK);
    assert_int_equal(dr_sql_commit(&s, &err), DR_OK);
    assert_int_equal(dr_sql_int(&s, "SELECT count(*) FROM t", 0, &n, &err), DR_OK);
    assert_int_equal(n, 2);
    dr_sql_close(&s);
}

static void sql_commit_that_fails_is_rolled_back(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_sql s;
    assert_int_equal(dr_sql_open(&s, in_folder("x.db"), DR_SQL_CREATE, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s,
                                 "PRAGMA foreign_keys=ON; CREATE TABLE p(a INTEGER PRIMARY KEY);"
                                 "CREATE TABLE c(a REFERENCES p(a) DEFERRABLE INITIALLY DEFERRED)",
                                 &err),
                     DR_OK);
    assert_int_equal(dr_sql_begin(&s, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO c VALUES(1)", &err), DR_OK);
    assert_int_equal(dr_sql_commit(&s, &err), DR_CONFLICT);
    assert_has(err.msg, "COMMIT");
    assert_true(sqlite3_get_autocommit(s.db) != 0);
    dr_sql_close(&s);
}

static void sql_failures_say_what_where_and_what_to_do(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_sql s;
    char garbage[4096];
    memset(garbage, 'g', sizeof garbage);
    const char *path = in_folder("garbage.db");
    assert_int_equal(dr_file_replace(path, garbage, sizeof garbage, &err), DR_OK);
    assert_int_equal(dr_sql_open(&s, path, 0, 100, &err), DR_CORRUPT);
    assert_has(err.msg, "/garbage.db: not a SQLite database while opening");
    assert_has(err.msg, "backup");
    assert_null(strchr(err.msg, '\n'));
    assert_null(s.db);
    assert_null(s.path);

    assert_int_equal(dr_sql_open(&s, in_folder("none.db"), 0, 100, &err), DR_UNREACHABLE);
    assert_has(err.msg, "/none.db: cannot be opened");
    assert_int_equal(dr_sql_open(&s, in_folder("no/x.db"), DR_SQL_CREATE, 100, &err),
                     DR_UNREACHABLE);
    assert_int_equal(dr_sql_open(&s, folder, DR_SQL_CREATE, 100, &err), DR_UNREACHABLE);

    assert_int_equal(dr_sql_open(&s, in_folder("x.db"), DR_SQL_CREATE, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "CREATE TABLE t(a UNIQUE)", &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO nowhere VALUES('secret')", &err), DR_INPUT);
    assert_has(err.msg, "running INSERT INTO nowhere");
    assert_has(err.msg, "no such table: nowhere");
    assert_null(strstr(err.msg, "secret"));
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO t VALUES(1),(1)", &err), DR_CONFLICT);
    sqlite3_stmt *st = NULL;
    assert_int_equal(dr_sql_prepare(&s, "SELEKT", &st, &err), DR_INPUT);
    assert_null(st);
    assert_int_equal(dr_sql_prepare(&s, "  ", &st, &err), DR_INPUT);
    dr_sql_close(&s);

    assert_int_equal(dr_sql_open(&s, in_folder("x.db"), DR_SQL_READONLY, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "INSERT INTO t VALUES(2)", &err), DR_READONLY);
    assert_has(err.msg, "/x.db: not writable while running INSERT INTO t");
    dr_sql_close(&s);
}

static void sql_full_file_is_full_and_locked_is_busy(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_sql a;
    struct dr_sql b;
    const char *path = in_folder("x.db");
    assert_int_equal(dr_sql_open(&a, path, DR_SQL_CREATE, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&a, "CREATE TABLE t(a); PRAGMA max_page_count=3", &err), DR_OK);
    assert_int_equal(dr_sql_exec(&a, "INSERT INTO t VALUES(zeroblob(100000))", &err), DR_FULL);
    assert_has(err.msg, "disk full");
    assert_has(err.msg, "free space and run the same command again");

    assert_int_equal(dr_sql_open(&b, path, 0, 60, &err), DR_OK);
    assert_int_equal(dr_sql_begin(&a, &err), DR_OK);
    dr_mono_ms before = dr_mono_now();
    assert_int_equal(dr_sql_begin(&b, &err), DR_BUSY);
    assert_true(dr_mono_now() - before >= 40);
    dr_sql_rollback(&a);
    assert_int_equal(dr_sql_begin(&b, &err), DR_OK);
    dr_sql_rollback(&b);
    dr_sql_close(&a);
    dr_sql_close(&b);
}

static void sql_unwritable_file_is_refused_at_opening(void **state)
{
    (void)state;
    if (geteuid() == 0) {
        skip(); /* root may write everything */
    }
    struct dr_err err = {0};
    struct dr_sql s;
    const char *path = in_folder("x.db");
    assert_int_equal(dr_sql_open(&s, path, DR_SQL_CREATE, 100, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s, "CREATE TABLE t(a)", &err), DR_OK);
    dr_sql_close(&s);
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(dr_sql_open(&s, path, 0, 100, &err), DR_READONLY);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

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
        IN_FOLDER(dir_make_makes_parents_and_is_repeatable),
        IN_FOLDER(file_load_returns_what_was_replaced),
        IN_FOLDER(file_read_at_tells_how_much_there_was),
        IN_FOLDER(file_full_disk_says_free_space),
        IN_FOLDER(file_replace_shows_old_or_new_never_half),
        IN_FOLDER(file_replace_that_fails_keeps_the_old_and_no_litter),
        IN_FOLDER(file_lock_excludes_another_process),
        IN_FOLDER(disk_free_is_known_for_an_existing_path),
        IN_FOLDER(fault_points_act_at_the_named_passing),
        IN_FOLDER(fault_kill_is_immediate),
        IN_FOLDER(fault_io_counts_operations),
        IN_FOLDER(json_mistakes_name_their_place),
        IN_FOLDER(json_limits_depth_and_size),
        IN_FOLDER(json_text_is_stable),
        IN_FOLDER(json_reader_fills_what_is_there),
        IN_FOLDER(json_reader_words_its_mistakes),
        IN_FOLDER(json_reader_shows_hostile_keys_safely),
        IN_FOLDER(sql_runs_and_reads_back),
        IN_FOLDER(sql_rollback_undoes_and_commit_keeps),
        IN_FOLDER(sql_commit_that_fails_is_rolled_back),
        IN_FOLDER(sql_failures_say_what_where_and_what_to_do),
        IN_FOLDER(sql_full_file_is_full_and_locked_is_busy),
        IN_FOLDER(sql_unwritable_file_is_refused_at_opening),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
