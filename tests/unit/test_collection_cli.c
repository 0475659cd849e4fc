/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of `drover collection` and of the catalog's options of `drover serve`: requests over
 * HTTP to an API in this process, whose cluster only notes what it is asked; output, exit codes. */
#include "api/api_help.h"

#include <fcntl.h>

#include "api/fake_cluster.h"
#include "cli/cli.h"
#include "cli/exits.h"

enum { OUTPUT_BYTES = 16 * 1024, ARGS_MAX = 24 };

static struct bench *bench;
static char server[64];
static char output[OUTPUT_BYTES];
static char talk[OUTPUT_BYTES];

static void take(int saved, int fd, int number, char *buf)
{
    assert_int_equal(dup2(saved, number), number);
    (void)close(saved);
    ssize_t got = pread(fd, buf, OUTPUT_BYTES - 1, 0);
    assert_true(got >= 0);
    buf[got] = '\0';
    (void)close(fd);
}

static int divert(int number, int *saved)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/out-%d", bench->folder, number);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    *saved = dup(number);
    assert_int_equal(dup2(fd, number), number);
    return fd;
}

/* Run `drover ARGS --server ...`; what it wrote is in output and talk. */
static int run_serverless(const char *const *args)
{
    static struct dr_cli_stop stop;
    const char *argv[ARGS_MAX] = {"drover"};
    int argc = 1;
    int saved_out;
    int saved_err;
    for (; args[argc - 1] != NULL; argc++) {
        argv[argc] = args[argc - 1];
    }
    (void)fflush(stdout);
    int out = divert(STDOUT_FILENO, &saved_out);
    int err = divert(STDERR_FILENO, &saved_err);
    int code = dr_cli_main(argc, argv, &stop, dr_api_serve);
    (void)fflush(stdout);
    take(saved_err, err, STDERR_FILENO, talk);
    take(saved_out, out, STDOUT_FILENO, output);
    return code;
}

#define RUN(...) run_serverless((const char *const[]){__VA_ARGS__, "--server", server, NULL})
#define RUN_ALONE(...) run_serverless((const char *const[]){__VA_ARGS__, NULL})

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static int make_world(void **state)
{
    char data[96];
    (void)state;
    bench = make_bench(NULL);
    fake_reset();
    bench->serve.cluster = &fake;
    use_tokens(bench);
    start_api(bench);
    (void)snprintf(server, sizeof server, "http://127.0.0.1:%u/",
                   (unsigned)dr_api_port(bench->api));
    (void)snprintf(data, sizeof data, "%s/cli-data", bench->folder);
    return setenv("DROVER_DATA", data, 1) != 0 || setenv("DROVER_TOKEN", ADMIN, 1) != 0 ? -1 : 0;
}

static int drop_world(void **state)
{
    (void)state;
    drop_bench(bench);
    fake_reset();
    return 0;
}

static void collections_are_listed_a_line_each(void **state)
{
    (void)state;
    fake_answers("{\"collections\":[{\"name\":\"a b\"},{\"name\":\"c\"}]}");
    assert_int_equal(RUN("collection", "list"), DR_EXIT_DONE);
    assert_string_equal(output, "a b\nc\n");
    assert_int_equal(RUN("collection", "list", "--json"), DR_EXIT_DONE);
    assert_has(output, "\"name\": \"a b\"");
}

static void a_collection_is_created_with_the_options(void **state)
{
    (void)state;
    fake_reset();
    assert_int_equal(RUN("collection", "create", "a/b", "--shard-number", "3", "--sharding-method",
                         "custom", "--replication-factor", "2", "--write-consistency", "1",
                         "--vectors", "{\"size\":4}", "--timeout", "7"),
                     DR_EXIT_INPUT); /* a slash cannot be in a name, and did not become a path */
    assert_int_equal(fake.calls, 0);
    assert_int_equal(RUN("collection", "create", "a b", "--shard-number", "3", "--sharding-method",
                         "custom", "--replication-factor", "2", "--write-consistency", "1",
                         "--vectors", "{\"size\":4}", "--timeout", "7"),
                     DR_EXIT_DONE);
    assert_string_equal(output, "created\n");
    assert_fake("dr_cluster_create_collection", "a b",
                "{\"replication_factor\":2,\"shard_number\":3,\"sharding_method\":\"custom\","
                "\"vectors\":{\"size\":4},\"write_consistency_factor\":1}");
    assert_int_equal(fake.timeout_ms, 7000);
    assert_int_equal(RUN("collection", "create", "c", "--sharding-method", "x"), DR_EXIT_USAGE);
    assert_int_equal(RUN("collection", "create", "c", "--shard-number", "0"), DR_EXIT_USAGE);
    assert_int_equal(RUN("collection", "create", "c", "--vectors", "{"), DR_EXIT_INPUT);
    assert_int_equal(fake.calls, 1);
}

static void what_cannot_be_undone_is_asked_for(void **state)
{
    (void)state;
    fake_reset();
    assert_int_equal(RUN("collection", "promote", "c"), DR_EXIT_REFUSED);
    assert_int_equal(RUN("collection", "delete", "c"), DR_EXIT_REFUSED);
    assert_int_equal(RUN("collection", "keys", "c", "--drop", "k"), DR_EXIT_REFUSED);
    assert_int_equal(fake.calls, 0);
    fake_answers("{\"promoted\":true,\"default_shard_key\":\"12\",\"shards\":3,"
                 "\"shard_number_means\":\"shards per key\"}");
    assert_int_equal(RUN("collection", "promote", "c", "--default-shard-key", "\"12\"", "--yes"),
                     DR_EXIT_DONE);
    assert_fake("dr_cluster_promote", "c", "{\"default_shard_key\":\"12\"}");
    assert_string_equal(
        output, "promoted: 3 shards under the key \"12\"; shard_number now means shards per key\n");
    fake_answers("false");
    assert_int_equal(RUN("collection", "delete", "c", "--yes"), DR_EXIT_NOT_FOUND);
    fake_answers("true");
    assert_int_equal(RUN("collection", "delete", "c", "--yes"), DR_EXIT_DONE);
}

static void keys_of_digits_are_numbers_unless_quoted(void **state)
{
    (void)state;
    fake_answers("true");
    assert_int_equal(RUN("collection", "keys", "c", "--create", "12", "--shards", "2"),
                     DR_EXIT_DONE);
    assert_fake("dr_cluster_create_key", "c", "{\"shard_key\":12,\"shards_number\":2}");
    assert_int_equal(RUN("collection", "keys", "c", "--create", "\"12\""), DR_EXIT_DONE);
    assert_fake("dr_cluster_create_key", "c", "{\"shard_key\":\"12\"}");
    assert_int_equal(
        RUN("collection", "keys", "c", "--drop", "k", "--confirm-drop-promoted", "--yes"),
        DR_EXIT_DONE);
    assert_fake("dr_cluster_drop_key", "c", "{\"confirm_drop_promoted\":true,\"shard_key\":\"k\"}");
    fake_answers("{\"shard_keys\":[{\"key\":12},{\"key\":\"12\"}]}");
    assert_int_equal(RUN("collection", "keys", "c"), DR_EXIT_DONE);
    assert_string_equal(output, "12\n\"12\"\n");
    assert_int_equal(RUN("collection", "keys", "c", "--create", "a", "--drop", "b"), DR_EXIT_USAGE);
}

static void routes_show_shards_and_peers(void **state)
{
    (void)state;
    fake_answers("[{\"id\":5,\"shard_id\":2,\"shard_key\":\"k\",\"replicas\":[{\"peer_id\":7,"
                 "\"state\":\"Active\",\"uri\":\"http://h:1\"}]}]");
    assert_int_equal(RUN("collection", "route", "c", "5", "abc", "--shard-key", "k"), DR_EXIT_DONE);
    assert_fake("dr_cluster_route", "c", "{\"ids\":[5,\"abc\"],\"shard_key\":\"k\"}");
    assert_has(output, "5: shard 2 of key \"k\"\n");
    assert_has(output, "Active");
    assert_has(output, "http://h:1");
}

static void failures_have_the_daemons_words_and_an_exit_code(void **state)
{
    static const struct {
        enum dr_cluster_class class;
        const char *text;
        int exit_code;
    } failures[] = {
        {DR_CLASS_NOT_FOUND, "Not found: Collection `c` doesn't exist!", DR_EXIT_NOT_FOUND},
        {DR_CLASS_BAD_REQUEST, "Bad request: transfers are going on", DR_EXIT_REFUSED},
        {DR_CLASS_BAD_INPUT, "Wrong input: x", DR_EXIT_INPUT},
        {DR_CLASS_EXISTS, "Wrong input: y", DR_EXIT_INPUT},
        {DR_CLASS_UNAVAILABLE, "Shard temporarily unavailable: z", DR_EXIT_STORE},
        {DR_CLASS_TIMEOUT, "Timeout: t", DR_EXIT_FAILED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        fake_fails(failures[i].class, failures[i].text);
        assert_int_equal(RUN("collection", "show", "c"), failures[i].exit_code);
        assert_has(talk, failures[i].text);
        assert_string_equal(output, "");
    }
    assert_int_equal(RUN_ALONE("collection", "list", "--server", "http://127.0.0.1:1"),
                     DR_EXIT_STORE);
    assert_has(talk, "--server");
    assert_int_equal(RUN_ALONE("collection", "list", "--server", "nonsense"), DR_EXIT_INPUT);
}

static void tokens_come_from_a_private_file_or_the_environment(void **state)
{
    char path[96];
    (void)state;
    fake_reset();
    fake_answers("{\"collections\":[]}");
    (void)snprintf(path, sizeof path, "%s/token", bench->folder);
    write_text(path, "wrong-0123456789abcdef\n", 0600);
    assert_int_equal(RUN("collection", "list", "--token-file", path), DR_EXIT_STORE);
    assert_has(talk, "a valid token");
    write_text(path, READER "\n", 0600);
    assert_int_equal(RUN("collection", "list", "--token-file", path), DR_EXIT_DONE);
    assert_int_equal(RUN("collection", "delete", "c", "--yes", "--token-file", path),
                     DR_EXIT_STORE);
    assert_has(talk, "Forbidden: ");
    write_text(path, READER "\n", 0644);
    assert_int_equal(RUN("collection", "list", "--token-file", path), DR_EXIT_REFUSED);
    assert_has(talk, "chmod 600");
    assert_null(strstr(talk, READER));
}

static void wrong_options_of_a_peer_are_told_before_anything_is_made(void **state)
{
    static const char *const wrong[][6] = {
        {"serve", "--bootstrap", NULL},
        {"serve", "--join", "http://127.0.0.1:1", NULL},
        {"serve", "--raft-listen", "127.0.0.1:0", "--bootstrap", "--join=http://127.0.0.1:1", NULL},
        {"serve", "--raft-listen", "127.0.0.1:0", "--raft-id", "0", NULL},
        {"serve", "--raft-listen", "127.0.0.1:0", "--tokens", "x", NULL},
        {"serve", "--raft-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", NULL},
        {"serve", "--no-catalog", "--grpc-listen", "127.0.0.1:0", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(run_serverless(wrong[i]), DR_EXIT_USAGE);
    }
    assert_int_equal(access(getenv("DROVER_DATA"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_options_of_a_peer_are_told_before_anything_is_made),
        cmocka_unit_test(collections_are_listed_a_line_each),
        cmocka_unit_test(a_collection_is_created_with_the_options),
        cmocka_unit_test(what_cannot_be_undone_is_asked_for),
        cmocka_unit_test(keys_of_digits_are_numbers_unless_quoted),
        cmocka_unit_test(routes_show_shards_and_peers),
        cmocka_unit_test(failures_have_the_daemons_words_and_an_exit_code),
        cmocka_unit_test(tokens_come_from_a_private_file_or_the_environment),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}
