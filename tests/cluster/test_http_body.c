/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of talking to peers over HTTP: what is sent, what comes back, what failures mean. A
 * server in a thread answers each connection by what the path asks for. */
#include <poll.h>

#include "cluster/cluster_help.h"

static struct {
    int fd;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint accepted;
    unsigned port;
    struct dr_cluster *behind; /* answers /internal/... */
} server;

static void send_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, text, bytes, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        text += sent;
        bytes -= (size_t)sent;
    }
}

static void send_answer(int fd, unsigned status, const char *body)
{
    char head[160];
    (void)snprintf(head, sizeof head,
                   "HTTP/1.1 %u X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                   status, strlen(body));
    send_all(fd, head, strlen(head));
    send_all(fd, body, strlen(body));
}

/* What the API's door does with a call between peers. */
static void answer_peer(int fd, const char *head, const char *body)
{
    char name[64] = "";
    struct dr_cluster_reply r;
    struct dr_err err;
    json_t *j = NULL;
    if (strstr(head, "Authorization: Bearer secret\r\n") == NULL) {
        send_answer(fd, 401, "no token");
        return;
    }
    assert_int_equal(sscanf(head, "POST /internal/%63s", name), 1);
    assert_int_equal(dr_json_parse("body", body, strlen(body), &j, &err), DR_OK);
    dr_cluster_internal(server.behind, name, j, &r);
    json_t *envelope =
        json_pack("{s:O, s:s, s:f}", "result", r.result, "status", "ok", "time", 0.1);
    char *text = dr_json_text(envelope);
    send_answer(fd, r.class == DR_CLASS_OK ? 200 : 404, text);
    dr_free(text);
    json_decref(envelope);
    json_decref(j);
    dr_cluster_reply_fini(&r);
}

static void answer_one(int fd, const char *head, const char *body)
{
    if (strncmp(head, "POST /echo", 10) == 0) {
        assert_non_null(strstr(head, "Content-Type: text/x\r\n"));
        assert_null(strstr(head, "Expect:"));
        send_answer(fd, 200, body);
    } else if (strncmp(head, "POST /internal/", 15) == 0) {
        answer_peer(fd, head, body);
    } else {
        send_answer(fd, 404, "nothing here");
    }
}

/* Requests of one connection until it closes. */
static void serve_connection(int fd)
{
    enum { ROOM = 8 << 20 };
    char *buf = calloc(1, ROOM);
    size_t used = 0;
    assert_non_null(buf);
    for (;;) {
        char *end = strstr(buf, "\r\n\r\n");
        char *length = end == NULL ? NULL : strstr(buf, "Content-Length: ");
        size_t body = length == NULL || length > end ? 0 : strtoul(length + 16, NULL, 10);
        size_t whole = end == NULL ? SIZE_MAX : (size_t)(end + 4 - buf) + body;
        if (used >= whole) {
            end[2] = '\0';
            char *copy = dr_strndup(end + 4, body);
            answer_one(fd, buf, copy);
            dr_free(copy);
            memmove(buf, buf + whole, used - whole + 1);
            used -= whole;
            continue;
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (atomic_load(&server.stop)) {
            break;
        }
        if (poll(&p, 1, 50) == 0) {
            continue;
        }
        ssize_t got = recv(fd, buf + used, ROOM - 1 - used, 0);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
        buf[used] = '\0';
    }
    free(buf);
    (void)close(fd);
}

static void *serve_thread(void *arg)
{
    serve_connection((int)(intptr_t)arg);
    return NULL;
}

static void *serve(void *arg)
{
    pthread_t thread[64];
    unsigned count = 0;
    (void)arg;
    while (!atomic_load(&server.stop) && count < 64) {
        struct pollfd p = {.fd = server.fd, .events = POLLIN};
        if (poll(&p, 1, 50) > 0) {
            int fd = accept(server.fd, NULL, NULL);
            atomic_fetch_add(&server.accepted, 1);
            if (pthread_create(&thread[count], NULL, serve_thread, (void *)(intptr_t)fd) == 0) {
                count++;
            }
        }
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    return NULL;
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    atomic_store(&server.stop, false);
    atomic_store(&server.accepted, 0);
    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server.fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(server.fd, 16) != 0 ||
        getsockname(server.fd, (struct sockaddr *)&at, &bytes) != 0) {
        return -1;
    }
    server.port = ntohs(at.sin_port);
    return pthread_create(&server.thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
    (void)state;
    atomic_store(&server.stop, true);
    (void)pthread_join(server.thread, NULL);
    return close(server.fd);
}

static struct dr_http_answer run_request(struct dr_http *h, const char *path, const char *body,
                                         size_t max, bool is_once)
{
    struct dr_err err;
    struct dr_http_answer a = {0};
    bool has = false;
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
    const struct dr_http_request r = {.method = "POST",
                                      .url = url,
                                      .timeout_ms = 5000,
                                      .body = body,
                                      .body_bytes = strlen(body),
                                      .content_type = "text/x",
                                      .answer_bytes_max = max,
                                      .is_once = is_once};
    assert_int_equal(dr_http_start(h, &r, &err), DR_OK);
    while (!has) {
        assert_int_equal(dr_http_wait(h, 1000, &a, &has, &err), DR_OK);
    }
    return a;
}

static void a_body_goes_and_comes_back_whole_up_to_its_limit(void **state)
{
    (void)state;
    struct dr_err err;
    struct dr_http *h = NULL;
    const struct dr_http_config config = {0};
    enum { LARGE = 2 << 20 };
    char *large = malloc(LARGE + 1);
    assert_non_null(large);
    memset(large, 'x', LARGE);
    large[LARGE] = '\0';
    assert_int_equal(dr_http_create(&config, &h, &err), DR_OK);
    struct dr_http_answer a = run_request(h, "/echo", "{\"a\":1}", 100, false);
    assert_int_equal(a.failure, DR_HTTP_NONE);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"a\":1}");
    assert_int_equal(a.body_bytes, 7);
    dr_free(a.body);
    a = run_request(h, "/echo", large, LARGE, false);
    assert_int_equal(a.body_bytes, LARGE);
    assert_memory_equal(a.body, large, LARGE);
    dr_free(a.body);
    a = run_request(h, "/echo", large, LARGE - 1, false);
    assert_int_equal(a.failure, DR_HTTP_BROKEN);
    assert_null(a.body);
    assert_non_null(strstr(a.detail, "longer than 2097151 bytes"));
    a = run_request(h, "/echo", "not kept", 0, false);
    assert_null(a.body);
    assert_string_equal(a.detail, "not kept");
    dr_http_destroy(h);
    free(large);
}

static void a_request_that_must_not_be_sent_twice_takes_no_kept_connection(void **state)
{
    (void)state;
    struct dr_err err;
    struct dr_http *h = NULL;
    const struct dr_http_config config = {0};
    assert_int_equal(dr_http_create(&config, &h, &err), DR_OK);
    for (unsigned i = 0; i < 3; i++) {
        dr_free(run_request(h, "/echo", "x", 10, false).body);
    }
    assert_int_equal(atomic_load(&server.accepted), 1);
    for (unsigned i = 0; i < 3; i++) {
        dr_free(run_request(h, "/echo", "x", 10, true).body);
    }
    assert_int_equal(atomic_load(&server.accepted), 4);
    dr_http_destroy(h);
}

static struct dr_cluster *start_alone(const char *dir, const char *token, const char *uri)
{
    struct dr_cluster *c = NULL;
    struct dr_err err;
    const struct dr_cluster_config config = {.dir = dir, .api_uri = uri, .peer_token = token};
    assert_int_equal(dr_cluster_start(&config, &c, &err), DR_OK);
    return c;
}

static void a_question_to_a_peer_carries_the_token_and_brings_its_class(void **state)
{
    (void)state;
    char dir[64] = "/tmp/drover-cluster-XXXXXX";
    char a[80];
    char b[80];
    char uri[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(a, sizeof a, "%s/a", dir);
    (void)snprintf(b, sizeof b, "%s/b", dir);
    (void)snprintf(uri, sizeof uri, "http://127.0.0.1:%u", server.port);
    server.behind = start_alone(a, "secret", uri);
    struct dr_cluster *c = start_alone(b, "secret", "http://127.0.0.1:1");
    struct dr_cluster *stranger = start_alone(dir, "wrong", "http://127.0.0.1:1");
    struct peer_call call[3] = {{.name = "hello"}, {.name = "points/write"}, {.name = "hello"}};
    for (unsigned i = 0; i < 3; i++) {
        dr_copy_text(call[i].uri, sizeof call[i].uri, i == 2 ? "http://127.0.0.1:1" : uri);
        call[i].body = json_object();
    }
    dr_peers_ask(c, call, 3, 5000);
    assert_int_equal(call[0].failure, DR_HTTP_NONE);
    assert_int_equal(call[0].reply.class, DR_CLASS_OK);
    assert_int_equal(json_integer_value(json_object_get(call[0].reply.result, "peer_id")), 1);
    assert_int_equal(call[1].failure, DR_HTTP_NONE);
    assert_int_equal(call[1].reply.class, DR_CLASS_BAD_INPUT);
    assert_int_equal(call[2].failure, DR_HTTP_CONNECT);
    dr_peers_call_fini(call, 3);
    memset(&call[0].reply, 0, sizeof call[0].reply);
    dr_peers_ask(stranger, call, 1, 5000);
    assert_int_equal(call[0].failure, DR_HTTP_BROKEN);
    assert_non_null(strstr(call[0].detail, "401"));
    for (unsigned i = 0; i < 3; i++) {
        json_decref(call[i].body);
    }
    dr_cluster_stop(c);
    dr_cluster_stop(stranger);
    dr_cluster_stop(server.behind);
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_goes_and_comes_back_whole_up_to_its_limit,
                                        start_server, stop_server),
        cmocka_unit_test_setup_teardown(
            a_request_that_must_not_be_sent_twice_takes_no_kept_connection, start_server,
            stop_server),
        cmocka_unit_test_setup_teardown(a_question_to_a_peer_carries_the_token_and_brings_its_class,
                                        start_server, stop_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
