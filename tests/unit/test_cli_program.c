/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the whole command line that need no worker: refusals, exit codes, approval. */
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

#include "base/file.h"
#include "base/mem.h"
#include "base/sql.h"
#include "base/str.h"
#include "cli/cli.h"

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-cli-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    char data[96];
    (void)snprintf(data, sizeof data, "%s/data", folder);
    return setenv("DROVER_DATA", data, 1);
}

static int remove_folder(void **state)
{
    char command[96];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

static char said[8192];      /* both outputs of the last drive() */
static uint64_t allocations; /* how many it made since dr_mem_fail_at */

static char words[8192];
static const char *word[64];

/* Words that may be changed, as main() gets them. */
static void copy_words(const char *const *argv, int argc)
{
    size_t used = 0;
    assert_true(argc < 64);
    for (int i = 0; i < argc; i++) {
        size_t bytes = strlen(argv[i]) + 1;
        assert_true(used + bytes <= sizeof words);
        memcpy(words + used, argv[i], bytes);
        word[i] = words + used;
        used += bytes;
    }
}

/* Run the program with these arguments; its output goes to `said`. */
static int drive(const char *const *argv)
{
    struct dr_cli_stop stop = {false, false};
    char path[96];
    char *text = NULL;
    size_t bytes = 0;
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    (void)snprintf(path, sizeof path, "%s/said", folder);
    (void)fflush(NULL);
    int out = dup(STDOUT_FILENO);
    int err = dup(STDERR_FILENO);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    copy_words(argv, argc); /* passwords in them are overwritten */
    int code = dr_cli_main(argc, word, &stop, NULL);
    allocations = dr_mem_fail_at(0);
    (void)fflush(NULL);
    assert_true(dup2(out, STDOUT_FILENO) >= 0);
    assert_true(dup2(err, STDERR_FILENO) >= 0);
    (void)close(out);
    (void)close(err);
    (void)fclose(file);
    struct dr_err failure = {0};
    assert_int_equal(dr_file_load(path, 1 << 20, &text, &bytes, &failure), DR_OK);
    dr_copy_text(said, sizeof said, text);
    dr_free(text);
    return code;
}
#define DRIVE(...) drive((const char *const[]){"drover", __VA_ARGS__, NULL})

static bool is_there(const char *name)
{
    struct stat st;
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &st) == 0;
}

static const char *write_job(const char *name, const char *text)
{
    static char path[160];
    struct dr_err err = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(dr_file_replace(path, text, strlen(text), &err), DR_OK);
    return path;
}

static void wrong_command_lines_end_with_2_and_one_line(void **state)
{
    (void)state;
    assert_int_equal(drive((const char *const[]){"drover", NULL}), 2);
    assert_int_equal(DRIVE("statsu"), 2);
    assert_has(said, "drover: ");
    assert_has(said, "status");
    assert_int_equal(DRIVE("status", "--jsno"), 2);
    assert_int_equal(DRIVE("pause", "seven"), 2);
    assert_has(said, "seven");
    assert_int_equal(DRIVE("pause"), 2);
    assert_int_equal(DRIVE("status", "1", "2"), 2);
    assert_int_equal(DRIVE("archive"), 2);
    assert_int_equal(DRIVE("archive", "expire"), 2);
    assert_int_equal(DRIVE("archive", "expire", "1", "--due"), 2);
    assert_int_equal(DRIVE("--log-level", "loud", "status"), 2);
    assert_int_equal(DRIVE("run", "1", "--dry-run"), 2);
    assert_int_equal(DRIVE("purge", "--store", "memory:x"), 2);
    assert_has(said, "--database");
    assert_int_equal(DRIVE("completion", "tcsh"), 2);
    assert_int_equal(strchr(said, '\n') - said, (ptrdiff_t)strlen(said) - 1);
}

static void help_is_given_for_every_command_in_every_form(void **state)
{
    (void)state;
    assert_int_equal(DRIVE("help"), 0);
    assert_has(said, "quarantine retry");
    assert_int_equal(DRIVE("--help"), 0);
    assert_int_equal(DRIVE("run", "--help"), 0);
    assert_has(said, "usage: drover run JOB|OP");
    assert_int_equal(DRIVE("help", "archive", "list"), 0);
    assert_has(said, "usage: drover archive list");
    assert_int_equal(DRIVE("help", "collection"), 0);
    assert_has(said, "collection promote NAME");
    assert_null(strstr(said, "archive"));
    assert_int_equal(DRIVE("help", "nothing"), 2);
    assert_int_equal(DRIVE("help", "collection", "nothing"), 2);
    assert_int_equal(DRIVE("--version"), 0);
    assert_has(said, "drover " DROVER_VERSION);
    assert_has(said, "memory");
}

static void looking_where_nothing_is_ends_with_11_and_makes_nothing(void **state)
{
    (void)state;
    assert_int_equal(DRIVE("status"), 11);
    assert_has(said, "--data");
    assert_int_equal(DRIVE("pause", "1"), 11);
    assert_int_equal(DRIVE("run", "1", "--yes"), 11);
    assert_int_equal(DRIVE("work"), 11);
    assert_false(is_there("data"));
}

static void a_wrong_job_file_ends_with_4(void **state)
{
    (void)state;
    assert_int_equal(DRIVE("plan", "/nothere/job.json"), 4);
    assert_has(said, "/nothere/job.json");
    assert_int_equal(DRIVE("run", write_job("broken", "{\"kind\": \n,}"), "--yes"), 4);
    assert_has(said, "broken:2:");
    assert_int_equal(DRIVE("plan", write_job("list", "[1]")), 4);
    assert_false(is_there("data"));
}

static void the_configuration_is_strict(void **state)
{
    char path[160];
    (void)state;
    assert_int_equal(DRIVE("--config", "/nothere/drover.json", "status"), 4);
    dr_copy_text(path, sizeof path, write_job("c1", "{\"protected\": []}"));
    assert_int_equal(DRIVE("--config", path, "status"), 4);
    assert_has(said, "protect");
    dr_copy_text(path, sizeof path, write_job("c2", "{\"protect\": [7]}"));
    assert_int_equal(DRIVE("--config", path, "status"), 4);
    assert_has(said, "protect[0]");
    dr_copy_text(path, sizeof path, write_job("c3", "{\"defaults\": {\"rat\": 5}}"));
    assert_int_equal(DRIVE("--config", path, "status"), 4);
    assert_has(said, "defaults");
    dr_copy_text(path, sizeof path, write_job("c4", "{\"log_level\": \"loud\"}"));
    assert_int_equal(DRIVE("--config", path, "status"), 4);
    dr_copy_text(path, sizeof path,
                 write_job("c5", "{\"protect\": [\"acm*\"], \"threads\": 2, \"log_level\": "
                                 "\"warn\", \"defaults\": {\"rate\": 50}}"));
    assert_int_equal(DRIVE("--config", path, "status"), 11);
}

static void an_empty_collection_name_never_means_all_of_them(void **state)
{
    (void)state;
    assert_int_equal(DRIVE("tenant", "drop", "--store", "memory:none", "--database", "acme",
                           "--collection", "", "--dry-run"),
                     4);
    assert_has(said, "collection");
}

static void a_protected_name_is_refused_before_the_store_is_asked(void **state)
{
    char config[160];
    (void)state;
    assert_int_equal(DRIVE("tenant", "drop", "--store", "nosuch:x", "--database", "admin", "--yes"),
                     3);
    assert_has(said, "protected");
    dr_copy_text(config, sizeof config, write_job("conf", "{\"protect\": [\"acm*\"]}"));
    assert_int_equal(DRIVE("--config", config, "tenant", "drop", "--store", "nosuch:x",
                           "--database", "acme", "--yes"),
                     3);
    assert_int_equal(DRIVE("tenant", "drop", "--store", "nosuch:x", "--database", "acme", "--yes"),
                     4);
    assert_has(said, "nosuch");
    assert_false(is_there("data"));
}

#ifdef DROVER_STORE_SQLITE
/* A small database and a job that empties it; returns the job's path. */
static const char *make_store_and_job(void)
{
    static char job[256];
    static char path[160];
    struct dr_sql s = {0};
    struct dr_err err = {0};
    (void)snprintf(path, sizeof path, "%s/app.db", folder);
    assert_int_equal(dr_sql_open(&s, path, DR_SQL_CREATE, 1000, &err), DR_OK);
    assert_int_equal(dr_sql_exec(&s,
                                 "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT);"
                                 "INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c');",
                                 &err),
                     DR_OK);
    dr_sql_close(&s);
    (void)snprintf(job, sizeof job,
                   "{\"kind\": \"tenant.drop\", \"store\": \"sqlite:%s\", \"database\": \"main\"}",
                   path);
    return write_job("job.json", job);
}

static void a_plan_is_stored_approved_and_steered(void **state)
{
    char job[160];
    (void)state;
    dr_copy_text(job, sizeof job, make_store_and_job());
    assert_int_equal(DRIVE("plan", job), 0);
    assert_has(said, "DRY RUN");
    assert_int_equal(DRIVE("run", job, "--dry-run", "--json"), 0);
    assert_false(is_there("data"));
    assert_int_equal(DRIVE("plan", job, "--save"), 0);
    assert_has(said, "stored as operation 1");
    assert_int_equal(DRIVE("status", "1"), 0);
    assert_has(said, "planned");
    assert_int_equal(DRIVE("steps", "1", "--status", "nonsense"), 2);
    assert_int_equal(DRIVE("steps", "1", "--limit", "1"), 0);
    assert_int_equal(DRIVE("submit", job, "--yes", "--json", "--key", "k"), 0);
    assert_has(said, "\"operation\": 2");
    assert_int_equal(DRIVE("submit", job, "--yes", "--json", "--key", "k"), 0);
    assert_has(said, "\"operation\": 2");
    assert_int_equal(DRIVE("pause", "2", "--reason", "lunch"), 0);
    assert_int_equal(DRIVE("explain", "2"), 0);
    assert_has(said, "lunch");
    assert_int_equal(DRIVE("tune", "2", "--rate", "77", "--quiet-hours", "08:00-09:00"), 0);
    assert_int_equal(DRIVE("tune", "2", "--quiet-hours", ""), 0);
    assert_has(said, "77");
    assert_int_equal(DRIVE("tune", "2", "--quiet-hours", "8-9"), 4);
    assert_int_equal(DRIVE("explain", "2"), 0);
    assert_has(said, "rate is limited to 77 ");
    assert_int_equal(DRIVE("archive", "expire", "2", "--yes"), 3);
    assert_int_equal(DRIVE("audit", "2"), 0);
    assert_has(said, "lunch");
}

/* Whatever happened to a plan before its approval, work on it starts with the question. */
static void no_way_leads_around_the_approval(void **state)
{
    char job[160];
    (void)state;
    dr_copy_text(job, sizeof job, make_store_and_job());
    assert_int_equal(DRIVE("plan", job, "--save"), 0);
    assert_int_equal(DRIVE("resume", "1"), 3);
    assert_int_equal(DRIVE("run", "1"), 3);
    (void)DRIVE("pause", "1");
    assert_int_equal(DRIVE("resume", "1"), 3);
    (void)DRIVE("stop", "1");
    assert_int_equal(DRIVE("resume", "1"), 3);
    assert_int_equal(DRIVE("run", "1"), 3);
    assert_has(said, "--yes");
}

static void short_memory_ends_with_a_message_and_nothing_lost(void **state)
{
    char job[160];
    (void)state;
    dr_copy_text(job, sizeof job, make_store_and_job());
    assert_int_equal(DRIVE("submit", job, "--yes"), 0);
    const char *const lines[][5] = {
        {"drover", "plan", job, "--json", NULL},   {"drover", "plan", job, NULL, NULL},
        {"drover", "status", "1", "--json", NULL}, {"drover", "status", NULL, NULL, NULL},
        {"drover", "explain", "1", NULL, NULL},    {"drover", "steps", "1", NULL, NULL},
        {"drover", "audit", "1", NULL, NULL},      {"drover", "tune", "1", NULL, NULL},
        {"drover", "archive", "list", NULL, NULL}, {"drover", "manual", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        uint64_t n = 1;
        do {
            (void)dr_mem_fail_at(n);
            int code = drive(lines[i]);
            if (code != 0) {
                assert_has(said, "drover: ");
            }
            if (allocations < n) {
                assert_int_equal(code, 0);
            }
        } while (allocations >= n++);
        assert_true(n > 3); /* or nothing was made to fail */
    }
    assert_int_equal(DRIVE("status", "1", "--json"), 0);
    assert_has(said, "queued");
}
#endif

/* Other users of the machine see the command line. */
static void passwords_leave_the_command_line(void **state)
{
    (void)state;
    static const char url[] = "mysql://u:hunter2@127.0.0.1:1/shop?connect_timeout=1";
    (void)DRIVE("sql", "purge", "--url", url, "--table", "t", "--where", "a = 1", "--replica",
                "mysql://r:hunter3@127.0.0.1:1/", "--note", "stays", "--dry-run");
    assert_string_equal(word[5], "--table");
    assert_int_equal(strspn(word[4], "*"), strlen(url));
    assert_int_equal(strspn(word[10], "*"), strlen("mysql://r:hunter3@127.0.0.1:1/"));
    assert_string_equal(word[12], "stays");
    assert_null(strstr(said, "hunter"));
    (void)DRIVE("tenant", "drop", "--store=redis://:hunter2@127.0.0.1:1", "--database", "a",
                "--dry-run");
    assert_non_null(strstr(word[3], "--store=***"));
    assert_null(strstr(word[3], "hunter"));
    /* Without a password there is nothing to hide. */
    (void)DRIVE("sql", "purge", "--url", "sqlite:/nowhere.db", "--table", "t", "--where", "a = 1");
    assert_string_equal(word[4], "sqlite:/nowhere.db");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wrong_command_lines_end_with_2_and_one_line, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(help_is_given_for_every_command_in_every_form, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(looking_where_nothing_is_ends_with_11_and_makes_nothing,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(passwords_leave_the_command_line, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_wrong_job_file_ends_with_4, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_configuration_is_strict, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(an_empty_collection_name_never_means_all_of_them,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_protected_name_is_refused_before_the_store_is_asked,
                                        make_folder, remove_folder),
#ifdef DROVER_STORE_SQLITE
        cmocka_unit_test_setup_teardown(a_plan_is_stored_approved_and_steered, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(no_way_leads_around_the_approval, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(short_memory_ends_with_a_message_and_nothing_lost,
                                        make_folder, remove_folder),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
