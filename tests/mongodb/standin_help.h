/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in router of its own for a test: started on free ports, killed at the end whatever
 * happens. Commands are extended JSON, sent with a client that the adapter has no hand in. */
#ifndef DR_TESTS_STANDIN_HELP_H
#define DR_TESTS_STANDIN_HELP_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mongoc/mongoc.h>

#include "base/err.h"
#include "base/str.h"

enum { STANDIN_SHARDS_MAX = 4, STANDIN_TEXT_BYTES = 64 * 1024 };

struct standin {
    pid_t pid;
    int port;
    char url[96];
    mongoc_client_t *router;
    uint32_t shard_count;
    char shard_name[STANDIN_SHARDS_MAX][16];
    mongoc_client_t *shard[STANDIN_SHARDS_MAX]; /* directly: orphans show */
};

/* The folder of this file, so that tests run from anywhere. */
static DR_UNUSED void standin_path(char *out, size_t bytes, const char *file)
{
    const char *here = __FILE__;
    const char *slash = strrchr(here, '/');
    (void)snprintf(out, bytes, "%.*s/%s", (int)(slash == NULL ? 1 : slash - here),
                   slash == NULL ? "." : here, file);
}

static DR_UNUSED mongoc_client_t *standin_client(int port, const char *options)
{
    char uri[160];
    (void)snprintf(uri, sizeof uri, "mongodb://127.0.0.1:%d/?serverSelectionTimeoutMS=10000%s",
                   port, options);
    mongoc_client_t *client = mongoc_client_new(uri);
    assert_non_null(client);
    (void)mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    return client;
}

static DR_UNUSED void standin_read_ports(struct standin *s, const char *line)
{
    bson_error_t e;
    bson_iter_t it, port;
    bson_t *ready = bson_new_from_json((const uint8_t *)line, -1, &e);
    assert_non_null(ready);
    assert_true(bson_iter_init_find(&it, ready, "port"));
    s->port = (int)bson_iter_as_int64(&it);
    assert_true(bson_iter_init_find(&it, ready, "shard_ports") && bson_iter_recurse(&it, &port));
    while (bson_iter_next(&port)) {
        assert_true(s->shard_count < STANDIN_SHARDS_MAX);
        dr_copy_text(s->shard_name[s->shard_count], sizeof s->shard_name[0], bson_iter_key(&port));
        s->shard[s->shard_count++] =
            standin_client((int)bson_iter_as_int64(&port), "&directConnection=true");
    }
    bson_destroy(ready);
}

/* `file`: of this folder, "../support/mongo_standin.py" mostly. */
static DR_UNUSED void standin_start(struct standin *s, const char *file, const char *version,
                                    const char *shards)
{
    char path[1024], line[512];
    int ends[2];
    *s = (struct standin){0};
    standin_path(path, sizeof path, file);
    mongoc_init();
    assert_int_equal(pipe(ends), 0);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execlp("python3", "python3", path, "--port", "0", "--version", version, "--shards",
                     shards, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof line, out));
    (void)fclose(out);
    standin_read_ports(s, line);
    (void)snprintf(s->url, sizeof s->url, "mongodb://127.0.0.1:%d/", s->port);
    s->router = standin_client(s->port, "");
}

static DR_UNUSED void standin_stop(struct standin *s)
{
    mongoc_client_destroy(s->router);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        mongoc_client_destroy(s->shard[i]);
    }
    if (s->pid > 0) {
        (void)kill(s->pid, SIGKILL);
        (void)waitpid(s->pid, NULL, 0);
    }
    *s = (struct standin){0};
}

/* Run a command; a reply that is not ok fails the test. Destroy it with bson_destroy. */
static DR_UNUSED bson_t *standin_reply(mongoc_client_t *client, const char *db,
                                       const bson_t *command)
{
    bson_error_t e;
    bson_t *reply = bson_new();
    bson_t own;
    bool is_ok = mongoc_client_command_simple(client, db, command, NULL, &own, &e);
    bson_destroy(reply);
    reply = bson_copy(&own);
    bson_destroy(&own);
    if (!is_ok || bson_has_field(reply, "writeErrors")) {
        char *text = bson_as_relaxed_extended_json(command, NULL);
        char *answer = bson_as_relaxed_extended_json(reply, NULL);
        print_error("%.400s: %s %s\n", text, is_ok ? "" : e.message, answer);
        bson_free(text);
        bson_free(answer);
        fail();
    }
    return reply;
}

static DR_UNUSED bson_t *standin_json(const char *json)
{
    bson_error_t e;
    bson_t *doc = bson_new_from_json((const uint8_t *)json, -1, &e);
    if (doc == NULL) {
        print_error("%s: %s\n", json, e.message);
        fail();
    }
    return doc;
}

static DR_UNUSED bson_t *standin_ask(mongoc_client_t *client, const char *db, const char *fmt, ...)
{
    static char text[STANDIN_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert_true(length > 0 && (size_t)length < sizeof text);
    bson_t *command = standin_json(text);
    bson_t *reply = standin_reply(client, db, command);
    bson_destroy(command);
    return reply;
}

#define standin_do(client, db, ...) bson_destroy(standin_ask((client), (db), __VA_ARGS__))

/* A number at a dotted path of a reply; fails the test when it is not there. */
static DR_UNUSED int64_t standin_number(bson_t *reply, const char *path)
{
    bson_iter_t it, found;
    assert_true(bson_iter_init(&it, reply));
    if (!bson_iter_find_descendant(&it, path, &found)) {
        print_error("no %s in the reply\n", path);
        fail();
    }
    int64_t number = bson_iter_as_int64(&found);
    bson_destroy(reply);
    return number;
}

static DR_UNUSED mongoc_client_t *standin_shard(struct standin *s, const char *name)
{
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (strcmp(s->shard_name[i], name) == 0) {
            return s->shard[i];
        }
    }
    fail_msg("no shard %s", name);
    return NULL;
}

#endif
