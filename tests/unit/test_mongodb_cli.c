/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of `drover mongodb drop` that need no server: how its configuration file and its
 * options become a job, and what is refused before anything is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_private.h"

static char folder[64];

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-mongo-cli-XXXXXX");
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

static const char *write_file(const char *name, const char *text)
{
    static char path[2][160];
    static int next;
    struct dr_err err = {0};
    next = 1 - next;
    (void)snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    assert_int_equal(dr_file_replace(path[next], text, strlen(text), &err), DR_OK);
    return path[next];
}

/* --- the file becomes an order --------------------------------------------------------------- */

struct sample {
    json_t *config;
    struct dr_mongodb_order order;
    struct dr_err err;
};

static enum dr_code read_sample(struct sample *s, const char *text)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(dr_json_parse("text", text, strlen(text), &s->config, &s->err), DR_OK);
    s->order.job = json_object();
    assert_non_null(s->order.job);
    enum dr_code rc = dr_mongodb_order_read(s->config, "drop.json", &s->order, &s->err);
    return rc == DR_OK ? dr_mongodb_order_finish(&s->order, "drop.json", &s->err) : rc;
}

static void free_sample(struct sample *s)
{
    json_decref(s->order.job);
    dr_mongodb_order_fini(&s->order);
    json_decref(s->config);
}

static void expect_job(struct sample *s, const char *expected)
{
    char *text = dr_json_text(s->order.job);
    assert_non_null(text);
    assert_string_equal(text, expected);
    dr_free(text);
}

static void reject(const char *text, const char *part)
{
    struct sample s;
    if (read_sample(&s, text) != DR_INPUT) {
        print_error("accepted: %s\n", text);
        fail();
    }
    assert_has(s.err.msg, part);
    free_sample(&s);
}

#define LEAST "{\"mongo_uri\":\"mongodb://h:1\",\"tenant_db_name\":\"acme\""

static void the_defaults_are_careful(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(read_sample(&s, LEAST "}"), DR_OK);
    assert_true(s.order.is_dry_run);
    assert_null(s.order.log_file);
    expect_job(&s, "{\"database\":\"acme\",\"store\":\"mongodb://h:1/?w=majority&journal=true\","
                   "\"tuning\":{\"batch_items_max\":10000,\"lanes\":1}}");
    free_sample(&s);
}

static void every_key_has_its_place(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(
        read_sample(
            &s, "{\"mongo_uri\":\"mongodb://u:p%40x@h:1,i:2/x?ssl=true\",\"tenant_db_name\":"
                "\"acme\",\"config_db_name\":\"config\",\"alcatraz_db_name\":\"alcatraz\","
                "\"log_file\":\"/var/log/drop.log\",\"log_level\":\"WARNING\",\"dry_run\":false,"
                "\"deletes_per_batch\":500,\"concurrent_deletion_enabled\":true,\"writeConcern\":"
                "{\"w\":2,\"j\":false,\"wtimeout\":5000},\"config_uri\":\"mongodb://c:p@g:9/?a=b\","
                "\"status_uri\":\"mongodb://s:3\",\"rebalance_check_seconds\":60,\"collections\":"
                "[\"o\"],\"filter\":{\"b\":1,\"a\":2},\"drop_when_empty\":false,\"stop_balancer\":"
                "true,\"again\":true,\"irreversible\":true,\"temp_index\":true,\"chunk_sizes\":"
                "false}"),
        DR_OK);
    assert_false(s.order.is_dry_run);
    assert_string_equal(s.order.log_file, "/var/log/drop.log");
    assert_true(s.order.is_log_level_given);
    assert_int_equal(s.order.log_level, DR_LOG_WARN);
    expect_job(&s, "{\"again\":true,\"chunk_sizes\":false,\"collections\":[\"o\"],\"database\":"
                   "\"acme\",\"drop_when_empty\":false,\"filter\":{\"a\":2,\"b\":1},"
                   "\"irreversible\":true,\"status_database\":\"alcatraz\",\"status_store\":"
                   "\"mongodb://s:3\",\"stop_balancer\":true,\"store\":"
                   "\"mongodb://u:p%40x@h:1,i:2/x?ssl=true&w=2&journal=false&wtimeoutMS=5000"
                   "&drover.configUri=mongodb%3A%2F%2Fc%3Ap%40g%3A9%2F%3Fa%3Db&drover.configDb="
                   "config&drover.rebalanceCheck=60\",\"temp_index\":true,\"tuning\":"
                   "{\"batch_items_max\":500,\"lanes\":0}}");
    /* What was hidden as a whole cannot leak in part. */
    char shown[512];
    (void)dr_url_redact(json_string_value(json_object_get(s.order.job, "store")), shown,
                        sizeof shown);
    assert_null(strstr(shown, "c%3Ap"));
    assert_null(strstr(shown, "p%40x"));
    free_sample(&s);
}

static void options_that_the_uri_has_already_are_kept(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(read_sample(&s, "{\"mongo_uri\":\"mongodb+srv://h/?retryWrites=true&W=3\","
                                     "\"tenant_db_name\":\"acme\"}"),
                     DR_OK);
    assert_string_equal(json_string_value(json_object_get(s.order.job, "store")),
                        "mongodb+srv://h/?retryWrites=true&W=3&journal=true");
    free_sample(&s);
    reject("{\"mongo_uri\":\"mongodb://h/?w=3\",\"tenant_db_name\":\"acme\",\"writeConcern\":"
           "{\"w\":\"majority\"}}",
           "drop.json.writeConcern.w: the URI says w= as well");
    assert_int_equal(
        read_sample(&s, "{\"mongo_uri\":\"mongodb://h/?\",\"tenant_db_name\":\"acme\"}"), DR_OK);
    assert_string_equal(json_string_value(json_object_get(s.order.job, "store")),
                        "mongodb://h/?w=majority&journal=true");
    free_sample(&s);
}

static void a_tag_of_a_write_concern_is_escaped(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(read_sample(&s, LEAST ",\"writeConcern\":{\"w\":\"two & more\"}}"), DR_OK);
    assert_string_equal(json_string_value(json_object_get(s.order.job, "store")),
                        "mongodb://h:1/?w=two%20%26%20more&journal=true");
    free_sample(&s);
}

static void mistakes_in_the_file_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[]", "drop.json"},
        {"{\"tenant_db_name\":\"acme\"}", "one of mongo_uri, mongo_uri_env and mongo_uri_file"},
        {"{\"mongo_uri\":\"mongodb://h\"}", "tenant_db_name"},
        {LEAST ",\"mongo_uri_env\":\"X\"}", "only one of mongo_uri"},
        {"{\"mongo_uri\":\"http://u:hunter2@h\",\"tenant_db_name\":\"acme\"}",
         "must begin with mongodb://"},
        {LEAST ",\"status_uri\":\"h\"}", "status documents must begin with mongodb://"},
        {LEAST ",\"config_uri\":\"h\"}", "metadata must begin with mongodb://"},
        {LEAST ",\"dryrun\":false}", "dryrun"},
        {LEAST ",\"DRY_RUN\":false}", "DRY_RUN"},
        {LEAST ",\"dry_run\":\"false\"}", "dry_run"},
        {LEAST ",\"deletes_per_batch\":0}", "drop.json.deletes_per_batch"},
        {LEAST ",\"deletes_per_batch\":1000001}", "drop.json.deletes_per_batch"},
        {LEAST ",\"concurrent_deletion_enabled\":1}", "drop.json.concurrent_deletion_enabled"},
        {LEAST ",\"log_level\":\"loud\"}", "drop.json.log_level"},
        {LEAST ",\"rebalance_check_seconds\":0}", "drop.json.rebalance_check_seconds"},
        {LEAST ",\"writeConcern\":\"majority\"}", "drop.json.writeConcern"},
        {LEAST ",\"writeConcern\":{\"w\":0}}", "drop.json.writeConcern.w"},
        {LEAST ",\"writeConcern\":{\"w\":\"\"}}", "drop.json.writeConcern.w"},
        {LEAST ",\"writeConcern\":{\"fsync\":true}}", "fsync"},
        {LEAST ",\"writeConcern\":{\"j\":1}}", "drop.json.writeConcern.j"},
        {LEAST ",\"mongo_password\":\"x\"}", "mongo_password"},
        {"{\"mongo_uri_env\":\"DROVER_TEST_UNSET\",\"tenant_db_name\":\"acme\"}",
         "no variable DROVER_TEST_UNSET"},
        {"{\"mongo_uri_file\":\"/nowhere/uri\",\"tenant_db_name\":\"acme\"}",
         "drop.json.mongo_uri_file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reject(cases[i].text, cases[i].part);
    }
    struct sample s;
    assert_int_equal(read_sample(&s, cases[4].text), DR_INPUT);
    assert_null(strstr(s.err.msg, "hunter2"));
    free_sample(&s);
}

static void secrets_come_from_the_environment_or_a_file(void **state)
{
    (void)state;
    struct sample s;
    char text[512];
    assert_int_equal(setenv("DROVER_TEST_URI", "mongodb://u:secret@h:1", 1), 0);
    const char *path = write_file("uri", "mongodb://s:other@t:2/\r\n");
    (void)snprintf(text, sizeof text,
                   "{\"mongo_uri_env\":\"DROVER_TEST_URI\",\"status_uri_file\":\"%s\","
                   "\"alcatraz_db_name\":\"alcatraz\",\"tenant_db_name\":\"acme\"}",
                   path);
    assert_int_equal(read_sample(&s, text), DR_OK);
    assert_string_equal(json_string_value(json_object_get(s.order.job, "store")),
                        "mongodb://u:secret@h:1/?w=majority&journal=true");
    assert_string_equal(json_string_value(json_object_get(s.order.job, "status_store")),
                        "mongodb://s:other@t:2/");
    free_sample(&s);
}

static void short_memory_is_told(void **state)
{
    (void)state;
    struct sample s;
    enum dr_code rc = DR_NOMEM;
    uint64_t n = 1;
    for (; n < 100 && rc == DR_NOMEM; n++) {
        memset(&s, 0, sizeof s);
        static const char text[] = LEAST ",\"config_uri\":\"mongodb://c\",\"status_uri\":"
                                         "\"mongodb://s\",\"alcatraz_db_name\":\"a\"}";
        assert_int_equal(dr_json_parse("t", text, strlen(text), &s.config, &s.err), DR_OK);
        s.order.job = json_object();
        dr_mem_fail_at(n);
        rc = dr_mongodb_order_read(s.config, "t", &s.order, &s.err);
        rc = rc == DR_OK ? dr_mongodb_order_finish(&s.order, "t", &s.err) : rc;
        dr_mem_fail_at(0);
        free_sample(&s);
    }
    assert_int_equal(rc, DR_OK);
    assert_true(n > 4);
}

/* --- the program ----------------------------------------------------------------------------- */

static char said[16384];

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
#define DROP(...) drive((const char *const[]){"drover", "mongodb", "drop", __VA_ARGS__, NULL})

/* Nobody listens there, and the driver gives up at once. */
#define NOBODY "mongodb://u:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=200"

static void a_command_line_says_all_in_one_place(void **state)
{
    (void)state;
    const char *path = write_file("c.json", LEAST "}");
    assert_int_equal(drive((const char *const[]){"drover", "mongodb", "drop", NULL}), 2);
    assert_has(said, "--uri");
    assert_int_equal(DROP("--uri", NOBODY), 2);
    assert_has(said, "--database");
    assert_int_equal(DROP("--config", path, "--database", "other"), 2);
    assert_has(said, "--database: with --config this is a key of the file");
    assert_int_equal(DROP("--config", path, "--filter", "{}"), 2);
    assert_int_equal(DROP("--config", path, "--live", "--dry-run"), 2);
    assert_has(said, "contradict");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--live"), 2);
    assert_has(said, "--live");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--rebalance-check", "2d"), 2);
    assert_has(said, "--rebalance-check");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--rebalance-check", "0"), 2);
    assert_int_equal(drive((const char *const[]){"drover", "mongodb", NULL}), 2);
    assert_has(said, "drop");
    assert_int_equal(drive((const char *const[]){"drover", "help", "mongodb", "drop", NULL}), 0);
    assert_has(said, "--live");
    assert_has(said, "--stop-balancer");
}

static void wrong_input_ends_with_4(void **state)
{
    (void)state;
    assert_int_equal(DROP("--config", "/nowhere/c.json"), 4);
    assert_has(said, "there is no such configuration file");
    assert_int_equal(DROP("--config", write_file("c.json", "{")), 4);
    assert_int_equal(DROP("--config", write_file("c.json", LEAST ",\"colections\":[]}")), 4);
    assert_has(said, "colections");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--filter", "{"), 4);
    assert_has(said, "--filter");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--filter", "{\"a\":1}"), 4);
    assert_has(said, "needs exactly one collection");
    assert_int_equal(DROP("--uri", NOBODY, "--database", "acme", "--write-concern", "{\"x\":1}"),
                     4);
    assert_has(said, "options.writeConcern");
    assert_int_equal(DROP("--uri", "localhost", "--database", "acme"), 4);
    assert_has(said, "must begin with mongodb://");
}

static void guards_come_before_the_server(void **state)
{
    (void)state;
    assert_int_equal(DROP("--uri", NOBODY, "--database", "admin", "--yes"), 3);
    assert_has(said, "protected");
    assert_int_equal(
        DROP("--uri", NOBODY, "--database", "acme", "--collection", "c", "--filter", "{}", "--yes"),
        3);
    assert_has(said, "matches every document");
    assert_int_equal(
        DROP("--uri", NOBODY, "--database", "acme", "--status-database", "acme", "--yes"), 3);
    assert_has(said, "is the database to be erased");
}

static void a_file_erases_only_when_it_says_so(void **state)
{
    (void)state;
    static const char dry[] = "{\"mongo_uri\":\"" NOBODY "\",\"tenant_db_name\":\"acme\"}";
    static const char live[] =
        "{\"mongo_uri\":\"" NOBODY "\",\"tenant_db_name\":\"acme\",\"dry_run\":false}";
    assert_int_not_equal(DROP("--config", write_file("c.json", dry), "--yes"), 0);
    assert_has(said, "rolling drop of acme on mongodb://u:***@127.0.0.1:9/");
    assert_has(said, ": dry run, nothing is touched, started ");
    assert_has(said, "rolling drop failed (dry run), ended ");
    assert_has(said, " after 0h 0m ");
    assert_null(strstr(said, "hunter2"));
    assert_int_not_equal(DROP("--config", write_file("c.json", dry), "--yes", "--live"), 0);
    assert_has(said, ": LIVE, started ");
    assert_int_not_equal(DROP("--config", write_file("c.json", live), "--yes"), 0);
    assert_has(said, ": LIVE, started ");
    assert_int_not_equal(DROP("--config", write_file("c.json", live), "--yes", "--dry-run"), 0);
    assert_has(said, ": dry run, nothing is touched, started ");
    assert_int_not_equal(DROP("--uri", NOBODY, "--database", "acme", "--yes"), 0);
    assert_has(said, ": LIVE, started ");
}

static void the_log_file_is_opened_before_anything_happens(void **state)
{
    (void)state;
    char text[512];
    (void)snprintf(text, sizeof text,
                   "{\"mongo_uri\":\"" NOBODY "\",\"tenant_db_name\":\"acme\",\"log_file\":"
                   "\"%s/nowhere/drop.log\"}",
                   folder);
    assert_int_not_equal(DROP("--config", write_file("c.json", text)), 0);
    assert_has(said, "log_file");
    assert_null(strstr(said, "started"));
    (void)snprintf(text, sizeof text,
                   "{\"mongo_uri\":\"" NOBODY "\",\"tenant_db_name\":\"acme\",\"log_file\":"
                   "\"%s/drop.log\",\"log_level\":\"DEBUG\"}",
                   folder);
    assert_int_not_equal(DROP("--config", write_file("c.json", text)), 0);
    char path[96];
    (void)snprintf(path, sizeof path, "%s/drop.log", folder);
    assert_int_equal(access(path, F_OK), 0);
}

/* drover's own configuration lies beside the data; --config names the job's file here. */
static void the_configuration_beside_the_data_still_counts(void **state)
{
    (void)state;
    char data[96];
    struct dr_err err = {0};
    static const char own[] = "{\"protect\":[\"acme*\"]}";
    (void)snprintf(data, sizeof data, "%s/data", folder);
    assert_int_equal(dr_dir_make(data, &err), DR_OK);
    (void)write_file("data/drover.json", own);
    assert_int_equal(DROP("--config", write_file("c.json", LEAST "}")), 3);
    assert_has(said, "acme*");
    (void)snprintf(data, sizeof data, "%s/data/drover.json", folder);
    assert_int_equal(unlink(data), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_careful),
        cmocka_unit_test(every_key_has_its_place),
        cmocka_unit_test(options_that_the_uri_has_already_are_kept),
        cmocka_unit_test(a_tag_of_a_write_concern_is_escaped),
        cmocka_unit_test(mistakes_in_the_file_are_named),
        cmocka_unit_test(secrets_come_from_the_environment_or_a_file),
        cmocka_unit_test(short_memory_is_told),
        cmocka_unit_test(a_command_line_says_all_in_one_place),
        cmocka_unit_test(wrong_input_ends_with_4),
        cmocka_unit_test(guards_come_before_the_server),
        cmocka_unit_test(a_file_erases_only_when_it_says_so),
        cmocka_unit_test(the_log_file_is_opened_before_anything_happens),
        cmocka_unit_test(the_configuration_beside_the_data_still_counts),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
