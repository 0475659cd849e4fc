/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of base/json and base/sql: each test is named for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sql.h"

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

static const struct {
    const char *text;
    const char *msg;
} mistakes[] = {
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
    {"{\"table\":\"t\",\"shift\":6}", "job.shift: expected a whole number from -5 to 5, found 6"},
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
    {"{\"table\":\"t\",\"windos\":1}", "job: unknown key \"windos\" (did you mean \"windows\"?)"},
    {"{\"table\":\"t\",\"zzzzzz\":1}",
     "job: unknown key \"zzzzzz\" (known: table, max_items, shift, share, dry, filter, "
     "windows, any, pause)"},
};

static void json_reader_words_its_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct dr_err err = {0};
        struct sample_job job;
        json_t *j = NULL;
        assert_int_equal(read_job(mistakes[i].text, &job, &j, &err), DR_INPUT);
        assert_string_equal(err.msg, mistakes[i].msg);
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
    return cmocka_run_group_tests_name("base_data", tests, NULL, NULL);
}
