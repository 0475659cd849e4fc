/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of the API: a data folder, a memory store, a server in this process on a free
 * port, and HTTP over plain sockets, so that malformed requests can be sent too. */
#ifndef DR_TESTS_API_API_HELP_H
#define DR_TESTS_API_API_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/queue.h"
#include "store/memory/memory_store.h"

#define READER "reader-0123456789abcdef"
#define OPERATOR "operator-0123456789abcdef"
#define ADMIN "admin-0123456789abcdef"
#define JSON_TYPE "Content-Type: application/json\r\n"
#define DROP_ACME "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\",\"database\":\"acme\"}"
#define DROP_GLOBEX "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\",\"database\":\"globex\"}"

enum { ANSWER_BYTES = 512 * 1024, ROWS = 200 };

struct bench {
    char folder[64];
    char tokens[96];
    struct dr_config config;
    struct dr_log *log;
    struct dr_queue *queue;
    struct dr_metrics *metrics;
    atomic_bool ask_stop;
    enum dr_place place;
    struct dr_serve serve;
    struct dr_api *api;
};

struct answer {
    int status; /* 0: the connection ended without an answer */
    char *text; /* head and body */
    const char *body;
    json_t *json; /* NULL when the body is none */
};

static inline void write_text(const char *path, const char *text, mode_t mode)
{
    struct dr_err err = {0};
    assert_int_equal(dr_file_replace(path, text, strlen(text), &err), DR_OK);
    assert_int_equal(chmod(path, mode), 0);
}

static inline void fill_store(void)
{
    static const char *const names[] = {"acme.orders", "globex.orders"};
    assert_int_equal(dr_memory_reset("api"), DR_OK);
    assert_int_equal(dr_memory_add_node("api", "main"), DR_OK);
    for (unsigned c = 0; c < 2; c++) {
        assert_int_equal(dr_memory_add_collection("api", names[c], DR_UNSHARDED, NULL, 0, "main"),
                         DR_OK);
        for (int64_t id = 1; id <= ROWS; id++) {
            const struct dr_memory_field field = {.name = "n",
                                                  .value = {.type = DR_V_INT, .i = id}};
            assert_int_equal(dr_memory_put("api", names[c], "main", id, &field, 1), DR_OK);
        }
    }
}

/* Folder, store, queue and log; the server is started by start_api. */
static inline struct bench *make_bench(const char *config_json)
{
    struct dr_err err = {0};
    char path[96];
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    (void)snprintf(b->folder, sizeof b->folder, "/tmp/drover-api-XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    fill_store();
    if (config_json != NULL) {
        (void)snprintf(path, sizeof path, "%s/drover.json", b->folder);
        write_text(path, config_json, 0600);
        assert_int_equal(dr_config_load(&b->config, path, &err), DR_OK);
    }
    (void)snprintf(path, sizeof path, "%s/data", b->folder);
    assert_int_equal(dr_queue_open(path, false, &b->queue, &err), DR_OK);
    assert_int_equal(dr_queue_own(b->queue, &err), DR_OK);
    struct dr_log_config quiet = {.level = DR_LOG_ERROR};
    assert_int_equal(dr_log_create(&quiet, &b->log, &err), DR_OK);
    assert_int_equal(dr_metrics_create(&b->metrics, &err), DR_OK);
    b->serve = (struct dr_serve){.queue = b->queue,
                                 .log = b->log,
                                 .config = &b->config,
                                 .listen = "127.0.0.1:0",
                                 .ask_stop = &b->ask_stop,
                                 .place = &b->place};
    return b;
}

static inline void use_tokens(struct bench *b)
{
    (void)snprintf(b->tokens, sizeof b->tokens, "%s/tokens", b->folder);
    write_text(b->tokens,
               "# who may do what\nread:" READER "\noperate:console:" OPERATOR "\nadmin:" ADMIN
               "\n",
               0600);
    b->serve.tokens_path = b->tokens;
}

static inline void start_api(struct bench *b)
{
    struct dr_err err = {0};
    enum dr_code rc = dr_api_start(&b->serve, b->metrics, &b->api, &err);
    if (rc != DR_OK) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(rc, DR_OK);
}

static inline void drop_bench(struct bench *b)
{
    char command[96];
    dr_api_stop(b->api);
    dr_metrics_destroy(b->metrics);
    dr_queue_close(b->queue);
    dr_log_destroy(b->log);
    dr_config_fini(&b->config);
    dr_memory_remove("api");
    (void)snprintf(command, sizeof command, "rm -rf '%s'", b->folder);
    assert_int_equal(system(command), 0);
    free(b);
}

/* --- HTTP ----------------------------------------------------------------------------------------
 */

static inline int open_port(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 20};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

/* False when the other side has closed: it may have answered before it read all. */
static inline bool send_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        data += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

/* Without a look at the JSON, which would allocate. */
static inline struct answer read_text(int fd)
{
    struct answer a = {0};
    size_t used = 0;
    a.text = calloc(1, ANSWER_BYTES);
    assert_non_null(a.text);
    for (ssize_t got; used < ANSWER_BYTES - 1 &&
                      (got = recv(fd, a.text + used, ANSWER_BYTES - 1 - used, 0)) > 0;) {
        used += (size_t)got;
    }
    (void)close(fd);
    if (strncmp(a.text, "HTTP/1.1 ", 9) == 0) {
        a.status = (int)strtol(a.text + 9, NULL, 10);
    }
    const char *body = strstr(a.text, "\r\n\r\n");
    a.body = body != NULL ? body + 4 : "";
    return a;
}

static inline struct answer read_answer(int fd)
{
    struct answer a = read_text(fd);
    if (a.body[0] == '{') {
        struct dr_err err = {0};
        assert_int_equal(dr_json_parse("answer", a.body, strlen(a.body), &a.json, &err), DR_OK);
    }
    return a;
}

static inline void free_answer(struct answer *a)
{
    json_decref(a->json);
    free(a->text);
    memset(a, 0, sizeof *a);
}

static inline struct answer send_raw(const struct bench *b, const char *data, size_t bytes)
{
    int fd = open_port(dr_api_port(b->api));
    (void)send_all(fd, data, bytes);
    return read_answer(fd);
}

/* One request on a connection of its own. `headers` are whole lines with their ends. */
static inline struct answer ask(const struct bench *b, const char *method, const char *path,
                                const char *token, const char *headers, const char *body)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", method, path);
    if (token != NULL) {
        dr_str_addf(&text, "Authorization: Bearer %s\r\n", token);
    }
    dr_str_add(&text, headers != NULL ? headers : "");
    if (body != NULL) {
        dr_str_addf(&text, "%sContent-Length: %zu\r\n",
                    headers == NULL || strstr(headers, "Content-Type") == NULL ? JSON_TYPE : "",
                    strlen(body));
    }
    dr_str_addf(&text, "\r\n%s", body != NULL ? body : "");
    assert_false(text.is_short);
    struct answer a = send_raw(b, dr_str_text(&text), text.len);
    dr_str_fini(&text);
    return a;
}

static inline const char *error_part(const struct answer *a, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(a->json, "error"), key));
    return text != NULL ? text : "";
}

/* Ask and compare the status, and the error's code and field when they are not NULL. */
static inline void expect(const struct bench *b, const char *method, const char *path,
                          const char *token, const char *headers, const char *body, int status,
                          const char *code, const char *field)
{
    struct answer a = ask(b, method, path, token, headers, body);
    if (a.status != status || (code != NULL && strcmp(error_part(&a, "code"), code) != 0) ||
        (field != NULL && strcmp(error_part(&a, "field"), field) != 0)) {
        print_error("%s %s %s: wanted %d %s %s, got:\n%s\n", method, path, body != NULL ? body : "",
                    status, code != NULL ? code : "", field != NULL ? field : "", a.text);
        fail();
    }
    free_answer(&a);
}

static inline uint32_t count_ops(const struct bench *b)
{
    struct dr_err err = {0};
    uint32_t count = 0;
    struct dr_op *op = calloc(64, sizeof *op);
    assert_non_null(op);
    assert_int_equal(dr_queue_ops(b->queue, 0, op, 64, &count, &err), DR_OK);
    free(op);
    return count;
}

static inline int64_t id_of(const struct answer *a)
{
    return json_integer_value(json_object_get(a->json, "id"));
}

static inline const char *text_of(const struct answer *a, const char *key)
{
    const char *text = json_string_value(json_object_get(a->json, key));
    return text != NULL ? text : "";
}

#endif
