/* SPDX-License-Identifier: Apache-2.0 */
/* Stand-in clusters for tests: each a process of tests/support/mongo_standin.py on free loopback
 * ports, stopped at the end whatever happens. Also a raw client, to set the stage and to look. */
#ifndef DR_TESTS_MONGODB_HELP_H
#define DR_TESTS_MONGODB_HELP_H

#include <netdb.h>

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "base/json.h"
#include "base/str.h"
#include "store/mongodb/mongodb_store.h"

enum { CLUSTER_SHARDS_MAX = 4, LINE_BYTES = 4096 };

struct cluster {
    pid_t pid;
    int port;
    char uri[128];
    char shard_uri[CLUSTER_SHARDS_MAX][160]; /* in the order of their names */
    mongoc_client_t *raw;
};

static struct cluster cluster;
static struct dr_err err;

static DR_UNUSED void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
}

static DR_UNUSED void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text == NULL ? "" : text);
        fail();
    }
}

/* The repository's file, wherever the test program runs. */
static DR_UNUSED const char *repository_path(const char *path, char *buf, size_t buf_bytes)
{
    dr_copy_text(buf, buf_bytes, __FILE__);
    char *slash = strstr(buf, "tests/mongodb/");
    if (slash != NULL) {
        *slash = '\0';
    }
    size_t at = slash == NULL ? 0 : (size_t)(slash - buf);
    (void)snprintf(buf + at, buf_bytes - at, "%s", path);
    return buf;
}

static DR_UNUSED void stop_cluster(void)
{
    mongoc_client_destroy(cluster.raw);
    if (cluster.pid > 0) {
        (void)kill(cluster.pid, SIGKILL);
        (void)waitpid(cluster.pid, NULL, 0);
    }
    cluster = (struct cluster){0};
}

/* The child's one line of JSON; "" when it ended without one. */
static DR_UNUSED void read_line(int fd, char *line, size_t line_bytes)
{
    size_t used = 0;
    while (used + 1 < line_bytes) {
        ssize_t n = read(fd, line + used, 1);
        if (n <= 0 || line[used] == '\n') {
            break;
        }
        used++;
    }
    line[used] = '\0';
}

static DR_UNUSED void take_addresses(const char *line)
{
    json_t *told = json_loads(line, 0, NULL);
    const char *name = NULL;
    json_t *port = NULL;
    unsigned i = 0;
    if (told == NULL) {
        fail_msg("the stand-in said \"%s\"", line);
    }
    cluster.port = (int)json_integer_value(json_object_get(told, "port"));
    (void)snprintf(cluster.uri, sizeof cluster.uri, "mongodb://127.0.0.1:%d/", cluster.port);
    json_object_foreach(json_object_get(told, "shard_ports"), name, port)
    {
        if (i < CLUSTER_SHARDS_MAX) {
            (void)snprintf(cluster.shard_uri[i], sizeof cluster.shard_uri[i],
                           "mongodb://127.0.0.1:%d/", (int)json_integer_value(port));
            i++;
        }
    }
    json_decref(told);
}

static DR_UNUSED void start_cluster(const char *version)
{
    int pipes[2];
    char path[512];
    char line[LINE_BYTES];
    stop_cluster();
    assert_int_equal(pipe(pipes), 0);
    (void)repository_path("tests/support/mongo_standin.py", path, sizeof path);
    cluster.pid = fork();
    assert_true(cluster.pid >= 0);
    if (cluster.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(pipes[1], STDOUT_FILENO);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
        (void)execlp("python3", "python3", path, "--port", "0", "--version", version, "--shards",
                     "a,b", (char *)NULL);
        _exit(127);
    }
    (void)close(pipes[1]);
    read_line(pipes[0], line, sizeof line);
    (void)close(pipes[0]);
    take_addresses(line);
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL);
    cluster.raw = mongoc_client_new(cluster.uri);
    assert_non_null(cluster.raw);
    (void)mongoc_client_set_error_api(cluster.raw, MONGOC_ERROR_API_VERSION_2);
}

/* A command of the raw client, as extended JSON; ' stands for ". False when it failed. */
static DR_UNUSED bool tell_raw(const char *database, const char *text, bson_t *reply)
{
    bson_error_t e;
    char *quoted = dr_strdup(text);
    assert_non_null(quoted);
    for (char *at = quoted; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    bson_t *command = bson_new_from_json((const uint8_t *)quoted, -1, &e);
    if (command == NULL) {
        fail_msg("%s: %s", quoted, e.message);
    }
    bool is_ok = mongoc_client_command_simple(cluster.raw, database, command, NULL, reply, &e);
    bson_destroy(command);
    dr_free(quoted);
    return is_ok;
}

static DR_UNUSED void tell(const char *database, const char *format, ...) DR_PRINTF(2, 3);
static DR_UNUSED void tell(const char *database, const char *format, ...)
{
    char text[LINE_BYTES];
    bson_t reply;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!tell_raw(database, text, &reply) || bson_has_field(&reply, "writeErrors")) {
        char *said = bson_as_relaxed_extended_json(&reply, NULL);
        fail_msg("%s: %s", text, said);
    }
    bson_destroy(&reply);
}

/* A reply as jansson's; the caller's. */
static DR_UNUSED json_t *ask(const char *database, const char *text)
{
    bson_t reply;
    assert_true(tell_raw(database, text, &reply));
    char *said = bson_as_relaxed_extended_json(&reply, NULL);
    json_t *j = json_loads(said, 0, NULL);
    assert_non_null(j);
    bson_free(said);
    bson_destroy(&reply);
    return j;
}

/* A number of a reply at a path like "cursor.firstBatch". */
static DR_UNUSED double ask_number(const char *database, const char *text, const char *field)
{
    json_t *j = ask(database, text);
    double n = json_number_value(json_object_get(j, field));
    json_decref(j);
    return n;
}

/* Sharded by `key` (as JSON), the filled or empty collection db.name. */
static DR_UNUSED void shard_collection(const char *database, const char *name, const char *key)
{
    tell("admin", "{'enableSharding': '%s'}", database);
    tell(database, "{'createIndexes': '%s', 'indexes': [{'key': %s, 'name': 'shard_key'}]}", name,
         key);
    tell("admin", "{'shardCollection': '%s.%s', 'key': %s}", database, name, key);
}

#endif
