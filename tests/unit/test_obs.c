/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of obs/: each test is named for one. The log writes into a pipe's or file's
 * descriptor and gets its time from the test. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "obs/log.h"
#include "obs/progress.h"

enum { OUT_BYTES = 256 * 1024 };

/* A log into an unlinked file, with clocks the test moves. */
struct bench {
    struct dr_log *log;
    int fd;
    dr_wall_ms wall;
    dr_mono_ms mono;
    char out[OUT_BYTES];
};

static dr_wall_ms read_wall(void *arg)
{
    return ((struct bench *)arg)->wall;
}

static dr_mono_ms read_mono(void *arg)
{
    return ((struct bench *)arg)->mono;
}

static struct bench *open_bench(enum dr_log_level level, bool is_json)
{
    struct bench *b = dr_calloc(1, sizeof *b);
    assert_non_null(b);
    char path[] = "/tmp/drover-log-XXXXXX";
    b->fd = mkstemp(path);
    assert_true(b->fd >= 0);
    assert_int_equal(unlink(path), 0);
    b->wall = 1795240106123;
    b->mono = 1000;
    struct dr_log_config config = {
        .level = level,
        .is_json = is_json,
        .fd = b->fd,
        .wall_now = read_wall,
        .mono_now = read_mono,
        .clock_arg = b,
    };
    struct dr_err err = {0};
    assert_int_equal(dr_log_create(&config, &b->log, &err), DR_OK);
    return b;
}

/* All that was written so far. */
static const char *written(struct bench *b)
{
    ssize_t got = pread(b->fd, b->out, sizeof b->out - 1, 0);
    assert_true(got >= 0);
    b->out[got] = '\0';
    return b->out;
}

static void close_bench(struct bench *b)
{
    dr_log_destroy(b->log);
    close(b->fd);
    dr_free(b);
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

/* ---- log ---- */

static void log_human_line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, false);
    dr_log(b->log, DR_LOG_INFO, "step leased", "step=%lld op=%u node=%s from=waiting", 41LL, 7U,
           "eu-3");
    assert_string_equal(written(b), "2026-11-21T05:48:26.123Z info  step leased step=41 op=7 "
                                    "node=eu-3 from=waiting\n");
    close_bench(b);
}

static void log_json_line_is_one_object_with_typed_fields(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_DEBUG, true);
    const char *volatile none = NULL; /* or the compiler sees through it */
    dr_log(b->log, DR_LOG_WARN, "odd \"event\"",
           "d=%d l=%ld z=%zu j=%jd h=%hd x=%x f=%.2f nan=%f s=%s cut=%.*s none=%s c=%c w=word", -5,
           -7000000000L, (size_t)9, (intmax_t)-1, (short)3, 255U, 1.239, (double)NAN,
           "a\"b\\c\n\t\x01\xc3\xa4\xff", 2, "xyz", none, 'q');
    json_error_t error;
    json_t *j = json_loads(written(b), JSON_REJECT_DUPLICATES, &error);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "at")), "2026-11-21T05:48:26.123Z");
    assert_string_equal(json_string_value(json_object_get(j, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(j, "event")), "odd \"event\"");
    assert_int_equal(json_integer_value(json_object_get(j, "d")), -5);
    assert_true(json_integer_value(json_object_get(j, "l")) == -7000000000LL);
    assert_int_equal(json_integer_value(json_object_get(j, "z")), 9);
    assert_int_equal(json_integer_value(json_object_get(j, "j")), -1);
    assert_int_equal(json_integer_value(json_object_get(j, "h")), 3);
    assert_string_equal(json_string_value(json_object_get(j, "x")), "ff");
    assert_true(fabs(json_real_value(json_object_get(j, "f")) - 1.24) < 1e-9);
    assert_true(json_is_null(json_object_get(j, "nan")));
    assert_string_equal(json_string_value(json_object_get(j, "s")),
                        "a\"b\\c\n\t\x01\xc3\xa4\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(j, "cut")), "xy");
    assert_string_equal(json_string_value(json_object_get(j, "none")), "-");
    assert_string_equal(json_string_value(json_object_get(j, "c")), "q");
    assert_string_equal(json_string_value(json_object_get(j, "w")), "word");
    json_decref(j);
    assert_int_equal(count_lines(b->out), 1);
    close_bench(b);
}

static void log_value_cannot_forge_a_line_or_a_field(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, false);
    dr_log(b->log, DR_LOG_INFO, "read", "a=%s b=%s c=%s d=%s", "x y", "k=v", "1\n2026 error forged",
           "");
    assert_has(written(b), " a=\"x y\" b=\"k=v\" c=\"1\\n2026 error forged\" d=\"\"\n");
    assert_int_equal(count_lines(b->out), 1);
    close_bench(b);
}

static void log_drops_what_is_below_its_level(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_WARN, false);
    dr_log_event(b->log, DR_LOG_INFO, "hidden");
    dr_log_event(b->log, DR_LOG_WARN, "shown");
    assert_string_equal(written(b), "2026-11-21T05:48:26.123Z warn  shown\n");
    assert_true(dr_log_is_on(b->log, DR_LOG_ERROR));
    assert_false(dr_log_is_on(b->log, DR_LOG_INFO));
    close_bench(b);

    dr_log(NULL, DR_LOG_ERROR, "nobody", "a=%d", 1);
    dr_log_event(NULL, DR_LOG_ERROR, "nobody");
    dr_log_tick(NULL);
    dr_log_destroy(NULL);
    assert_false(dr_log_is_on(NULL, DR_LOG_ERROR));
}

static void log_level_names_are_read_back(void **state)
{
    (void)state;
    for (int i = DR_LOG_ERROR; i <= DR_LOG_DEBUG; i++) {
        enum dr_log_level level = DR_LOG_ERROR;
        assert_true(dr_log_level_parse(dr_log_level_name((enum dr_log_level)i), &level));
        assert_int_equal(level, i);
    }
    enum dr_log_level level = DR_LOG_WARN;
    assert_false(dr_log_level_parse("verbose", &level));
    assert_int_equal(level, DR_LOG_WARN);
}

static void log_repeats_are_counted_then_said_once(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, false);
    for (int i = 0; i < 13; i++) {
        dr_log(b->log, DR_LOG_WARN, "store slow", "store=%s", "eu-3");
        dr_log(b->log, DR_LOG_WARN, "store slow", "store=%s", "eu-4");
        b->mono += 100;
    }
    assert_int_equal(count_lines(written(b)), 2);
    b->mono += DR_LOG_REPEAT_MS;
    dr_log_tick(b->log);
    assert_int_equal(count_lines(written(b)), 4);
    assert_has(b->out, "store slow store=eu-3 repeated=12\n");
    assert_has(b->out, "store slow store=eu-4 repeated=12\n");
    dr_log_tick(b->log);
    assert_int_equal(count_lines(written(b)), 4);

    /* A new window begins with a whole line again. */
    dr_log(b->log, DR_LOG_WARN, "store slow", "store=%s", "eu-3");
    assert_int_equal(count_lines(written(b)), 5);
    /* Another level or another field is another event. */
    dr_log(b->log, DR_LOG_ERROR, "store slow", "store=%s", "eu-3");
    dr_log(b->log, DR_LOG_WARN, "store slow", "store=%s n=%d", "eu-3", 1);
    assert_int_equal(count_lines(written(b)), 7);
    close_bench(b);
}

static void log_repeat_count_survives_destroy_and_crowding(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, true);
    dr_log(b->log, DR_LOG_INFO, "first", "n=%d", 0);
    dr_log(b->log, DR_LOG_INFO, "first", "n=%d", 0);
    for (int i = 0; i < 100; i++) {
        b->mono++;
        dr_log(b->log, DR_LOG_INFO, "other", "n=%d", i);
    }
    assert_int_equal(count_lines(written(b)), 102);
    assert_has(b->out, "\"event\":\"first\",\"n\":0,\"repeated\":1}\n");
    dr_log(b->log, DR_LOG_INFO, "last", "n=%d", 0);
    dr_log(b->log, DR_LOG_INFO, "last", "n=%d", 0);
    dr_log_destroy(b->log);
    b->log = NULL;
    assert_has(written(b), "\"event\":\"last\",\"n\":0,\"repeated\":1}\n");
    close_bench(b);
}

static void log_too_long_line_stays_valid_json_and_says_so(void **state)
{
    (void)state;
    char *text = dr_malloc(20001);
    memset(text, '\x01', 20000);
    text[20000] = '\0';
    struct bench *b = open_bench(DR_LOG_INFO, true);
    for (int i = 0; i < 3; i++) {
        dr_log(b->log, DR_LOG_INFO, "long", "a=%d b=%.*s c=%.*s d=%.*s e=%s", i, 2000, text, 700,
               text, 1000, text, text);
    }
    dr_log(b->log, DR_LOG_INFO, text, "a=%d", 1);
    memset(text, 'y', 20000);
    dr_log(b->log, DR_LOG_INFO, "cut", "a=%s", text);
    char *at = (char *)(uintptr_t)written(b);
    for (unsigned lines = 0; lines < 5; lines++) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        *end = '\0';
        json_t *j = json_loads(at, 0, NULL);
        assert_non_null(j);
        if (lines < 3) {
            assert_int_equal(json_integer_value(json_object_get(j, "a")), lines);
            assert_true(json_is_true(json_object_get(j, "truncated")));
        }
        if (lines == 4) {
            assert_int_equal(json_string_length(json_object_get(j, "a")), DR_LOG_VALUE_BYTES_MAX);
        }
        json_decref(j);
        at = end + 1;
    }
    close_bench(b);
    dr_free(text);
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 300; i++) {
        dr_log(arg, DR_LOG_INFO, "thread", "n=%d", i);
    }
    return NULL;
}

static void log_lines_of_threads_stay_whole(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, true);
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, b->log), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    dr_log_destroy(b->log);
    b->log = NULL;
    char *at = (char *)(uintptr_t)written(b);
    long long events = 0;
    for (char *end = strchr(at, '\n'); end != NULL; end = strchr(at, '\n')) {
        *end = '\0';
        json_t *j = json_loads(at, 0, NULL);
        assert_non_null(j);
        json_t *repeated = json_object_get(j, "repeated");
        events += repeated == NULL ? 1 : json_integer_value(repeated);
        json_decref(j);
        at = end + 1;
    }
    assert_int_equal(events, 1200); /* each event was written or counted */
    close_bench(b);
}

static void log_carries_an_error_and_needs_no_memory(void **state)
{
    (void)state;
    struct bench *b = open_bench(DR_LOG_INFO, false);
    struct dr_err err = {0};
    assert_int_equal(dr_fail(&err, DR_FULL, "/x: disk full"), DR_FULL);
    (void)dr_mem_fail_at(1);
    dr_log_err(b->log, DR_LOG_ERROR, "step failed", &err);
    assert_int_equal(dr_mem_fail_at(1), 0);
    assert_has(written(b), "error step failed code=FULL msg=\"/x: disk full\"\n");
    struct dr_log_config config = {0};
    struct dr_log *log = b->log;
    assert_int_equal(dr_log_create(&config, &log, &err), DR_NOMEM);
    assert_null(log);
    (void)dr_mem_fail_at(0);
    close_bench(b);
}

static void redact_hides_every_password(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *shown;
    } rows[] = {
        {"mongodb://u:pw@host:27017/db", "mongodb://u:***@host:27017/db"},
        {"redis://:pw@host", "redis://:***@host"},
        {"redis://host:6379/0", "redis://host:6379/0"},
        {"pg://u@host/db", "pg://u@host/db"},
        {"pg://u:p@ss@host/db", "pg://u:***@host/db"},
        {"pg://u:p/s?s#@host/db", "pg://u:***@host/db"},
        {"pg://u:@host", "pg://u:***@host"},
        {"mongodb://u:pw@a:1,b:2/db?x=1", "mongodb://u:***@a:1,b:2/db?x=1"},
        {"pg://h/db?user=u&password=pw&x=1", "pg://h/db?user=u&password=***&x=1"},
        {"host=h PASSWORD='p w' dbname=d", "host=h PASSWORD=*** dbname=d"},
        {"u:pw@host/db", "u:***@host/db"},
        {"sqlite:///var/lib/x.db", "sqlite:///var/lib/x.db"},
        {"pg://h?password=a:b@c", "pg://h?password=***"},
        {"mongodb://h/?drover.configUri=mongodb%3A%2F%2Fu%3Apw%40c&w=1",
         "mongodb://h/?drover.configUri=***&w=1"},
        {"mongodb://u:pw@h/?w=1&statusURI=mongodb://x:y@z", "mongodb://u:***@z"},
        {"", ""},
    };
    char b[128];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(dr_url_redact(rows[i].url, b, sizeof b), rows[i].shown);
    }
    char tiny[8];
    assert_string_equal(dr_url_redact("pg://u:pw@h", tiny, sizeof tiny), "pg://u");
}

/* ---- progress ---- */

static void progress_rate_and_eta_come_from_the_window(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    struct dr_progress_view v = dr_progress_view(&p, 0);
    assert_false(v.is_percent_known || v.is_rate_known || v.is_eta_known);

    dr_progress_feed(&p, 0, 0, 100000);
    v = dr_progress_view(&p, 500);
    assert_true(v.is_percent_known);
    assert_false(v.is_rate_known); /* too early to say */
    for (dr_mono_ms t = 100; t <= 10000; t += 100) {
        dr_progress_feed(&p, t, (uint64_t)t, 100000); /* 1000 per second */
    }
    v = dr_progress_view(&p, 10000);
    assert_true(v.is_rate_known && v.is_eta_known);
    assert_true(fabs(v.per_s - 1000) < 0.01);
    assert_int_equal((v.eta_ms + 500) / 1000, 90);
    assert_true(fabs(v.percent - 10) < 0.01);

    /* Ten times slower for longer than the window: the old speed is forgotten. */
    for (dr_mono_ms t = 10100; t <= 50000; t += 100) {
        dr_progress_feed(&p, t, 10000 + (uint64_t)(t - 10000) / 10, 100000);
    }
    v = dr_progress_view(&p, 50000);
    assert_true(fabs(v.per_s - 100) < 1);
}

static void progress_stall_makes_the_rate_fall_to_nothing(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    for (dr_mono_ms t = 0; t <= 10000; t += 1000) {
        dr_progress_feed(&p, t, (uint64_t)t, 100000);
    }
    struct dr_progress_view before = dr_progress_view(&p, 10000);
    struct dr_progress_view later = dr_progress_view(&p, 20000);
    assert_true(later.per_s < before.per_s);
    struct dr_progress_view end = dr_progress_view(&p, 60000);
    assert_true(end.is_rate_known && end.per_s < 0.01);
    assert_false(end.is_eta_known);
}

static void progress_never_says_100_before_the_end(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    char line[DR_PROGRESS_LINE_BYTES];
    uint64_t total = 10000000;
    dr_progress_feed(&p, 0, total - 1, total);
    assert_true(dr_progress_view(&p, 0).percent < 100);
    assert_has(dr_progress_line(&p, 0, 80, line, sizeof line), " 99.9%");
    assert_null(strstr(line, "100"));
    dr_progress_feed(&p, 1000, total, total);
    assert_has(dr_progress_line(&p, 1000, 80, line, sizeof line), "100.0%");
    assert_true(dr_progress_view(&p, 1000).is_eta_known);
    assert_int_equal(dr_progress_view(&p, 1000).eta_ms, 0);
    dr_progress_feed(&p, 0, UINT64_MAX, UINT64_MAX);
    assert_true(dr_progress_view(&p, 0).percent <= 100);
}

static void progress_beyond_the_total_is_honest(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    dr_progress_feed(&p, 0, 0, 100);
    dr_progress_feed(&p, 2000, 150, 100);
    struct dr_progress_view v = dr_progress_view(&p, 2000);
    assert_true(v.is_over);
    assert_false(v.is_eta_known);
    assert_true(v.percent <= 100);
    char line[DR_PROGRESS_LINE_BYTES];
    (void)dr_progress_line(&p, 2000, 90, line, sizeof line);
    assert_has(line, "100+%  150/100  75/s  ETA unknown");
}

static void progress_without_a_total_is_unknown_not_zero(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    dr_progress_feed(&p, 0, 0, 0);
    dr_progress_feed(&p, 2000, 12345, 0);
    struct dr_progress_view v = dr_progress_view(&p, 2000);
    assert_false(v.is_percent_known || v.is_eta_known);
    assert_true(v.is_rate_known);
    char line[DR_PROGRESS_LINE_BYTES];
    assert_has(dr_progress_line(&p, 2000, 100, line, sizeof line),
               "] unknown %  12,345  6,173/s  ETA unknown");
}

static void progress_waiting_shows_the_reason_and_forgets_the_rate(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    dr_progress_feed(&p, 0, 0, 100000);
    dr_progress_feed(&p, 10000, 10000, 100000);
    dr_progress_wait(&p, "outside of the window");
    struct dr_progress_view v = dr_progress_view(&p, 11000);
    assert_false(v.is_rate_known || v.is_eta_known);
    assert_true(v.is_percent_known);
    char line[DR_PROGRESS_LINE_BYTES];
    assert_has(dr_progress_line(&p, 11000, 80, line, sizeof line),
               " 10.0%  10,000/100,000  waiting: outside of the window");
    dr_progress_feed(&p, 3600000, 10000, 100000);
    dr_progress_resume(&p);
    dr_progress_feed(&p, 3601000, 10000, 100000);
    dr_progress_feed(&p, 3611000, 20000, 100000);
    v = dr_progress_view(&p, 3611000);
    assert_true(fabs(v.per_s - 1000) < 1); /* the hour of waiting is not in it */

    dr_progress_wait(&p, "");
    assert_has(dr_progress_line(&p, 3611000, 80, line, sizeof line), "waiting: paused");
    dr_progress_finish(&p);
    assert_has(dr_progress_line(&p, 3611000, 80, line, sizeof line), "finished");
}

static void progress_going_back_starts_anew(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    dr_progress_feed(&p, 0, 0, 1000);
    dr_progress_feed(&p, 5000, 500, 1000);
    dr_progress_feed(&p, 6000, 100, 1000); /* a step was undone */
    assert_false(dr_progress_view(&p, 6000).is_rate_known);
    dr_progress_feed(&p, 8000, 300, 1000);
    assert_true(fabs(dr_progress_view(&p, 8000).per_s - 100) < 0.1);
    dr_progress_feed(&p, 7000, 300, 1000); /* a clock that goes back */
    assert_false(dr_progress_view(&p, 7000).is_rate_known);
}

static void progress_line_fits_every_width(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    dr_progress_feed(&p, 0, 0, 5678000);
    dr_progress_feed(&p, 10000, 1234000, 5678000);
    char line[DR_PROGRESS_LINE_BYTES];
    for (unsigned width = 0; width <= 200; width++) {
        (void)dr_progress_line(&p, 10000, width, line, sizeof line);
        assert_true(strlen(line) <= width);
        assert_null(strchr(line, '\n'));
    }
    assert_string_equal(
        dr_progress_line(&p, 10000, 100, line, sizeof line),
        "[######........................]  21.7%  1,234,000/5,678,000  123,400/s  ETA 36s");
    assert_string_equal(dr_progress_line(&p, 10000, 40, line, sizeof line),
                        " 21.7%  1,234,000/5,678,000  ETA 36s");
    assert_string_equal(dr_progress_line(&p, 10000, 30, line, sizeof line),
                        " 21.7%  1,234,000/5,678,000");
    dr_progress_wait(&p, "\xc3\xa4\xc3\xb6\xc3\xbc");
    assert_string_equal(dr_progress_line(&p, 10000, 40, line, sizeof line),
                        " 21.7%  1,234,000/5,678,000  waiting: \xc3\xa4\xc3\xb6");
    char tiny[5];
    assert_string_equal(dr_progress_line(&p, 10000, 40, tiny, sizeof tiny), " 21.");
}

static void progress_holds_for_random_feeds(void **state)
{
    (void)state;
    struct dr_progress p;
    dr_progress_init(&p);
    uint64_t seed = 42;
    dr_mono_ms now = 0;
    uint64_t done = 0;
    char line[DR_PROGRESS_LINE_BYTES];
    for (int i = 0; i < 50000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        now += (dr_mono_ms)(seed >> 33) % 3000;
        done += (seed >> 40) % 100;
        dr_progress_feed(&p, now, done, (seed >> 20) % 4 == 0 ? 0 : 1000000);
        struct dr_progress_view v = dr_progress_view(&p, now);
        assert_true(v.percent >= 0 && v.percent <= 100);
        assert_true(v.per_s >= 0 && isfinite(v.per_s));
        assert_true(v.percent < 100 || p.done >= p.total);
        assert_true(p.samples_count <= DR_PROGRESS_SAMPLES_MAX);
        assert_true(strlen(dr_progress_line(&p, now, 70, line, sizeof line)) <= 70);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_human_line_has_time_level_event_and_fields),
        cmocka_unit_test(log_json_line_is_one_object_with_typed_fields),
        cmocka_unit_test(log_value_cannot_forge_a_line_or_a_field),
        cmocka_unit_test(log_drops_what_is_below_its_level),
        cmocka_unit_test(log_level_names_are_read_back),
        cmocka_unit_test(log_repeats_are_counted_then_said_once),
        cmocka_unit_test(log_repeat_count_survives_destroy_and_crowding),
        cmocka_unit_test(log_too_long_line_stays_valid_json_and_says_so),
        cmocka_unit_test(log_lines_of_threads_stay_whole),
        cmocka_unit_test(log_carries_an_error_and_needs_no_memory),
        cmocka_unit_test(redact_hides_every_password),
        cmocka_unit_test(progress_rate_and_eta_come_from_the_window),
        cmocka_unit_test(progress_stall_makes_the_rate_fall_to_nothing),
        cmocka_unit_test(progress_never_says_100_before_the_end),
        cmocka_unit_test(progress_beyond_the_total_is_honest),
        cmocka_unit_test(progress_without_a_total_is_unknown_not_zero),
        cmocka_unit_test(progress_waiting_shows_the_reason_and_forgets_the_rate),
        cmocka_unit_test(progress_going_back_starts_anew),
        cmocka_unit_test(progress_line_fits_every_width),
        cmocka_unit_test(progress_holds_for_random_feeds),
    };
    return cmocka_run_group_tests_name("obs", tests, NULL, NULL);
}
