/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/http.h against real sockets: each test is named for one. */
#include "tokenserver/node_help.h"

#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/http.h"
#include "tokenserver/token.h"

enum { TIMEOUT_MS = 5000 };

static struct dr_err err;
static struct dr_http *h;

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
}

static int start_all(void **state)
{
    (void)state;
    start_nodes(3);
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    stop_nodes();
    return 0;
}

static int open_handle(void **state)
{
    (void)state;
    const struct dr_http_config config = {.connections_max = 8, .connections_per_host_max = 2};
    reset_nodes();
    return dr_http_create(&config, &h, &err) == DR_OK ? 0 : -1;
}

static int close_handle(void **state)
{
    (void)state;
    dr_http_destroy(h);
    h = NULL;
    return 0;
}

static void start_url(const char *url, const char *authorization, uint64_t timeout_ms, void *tag)
{
    const struct dr_http_request r = {.method = "DELETE",
                                      .url = url,
                                      .authorization = authorization,
                                      .timeout_ms = timeout_ms,
                                      .tag = tag};
    must(dr_http_start(h, &r, &err));
}

/* A signed deletion of `uid` on node i. */
static void start_delete(int i, int uid, uint64_t timeout_ms, void *tag)
{
    char node[64];
    (void)snprintf(node, sizeof node, "http://127.0.0.1:%d", nodes.ports[i]);
    const struct dr_token_user u = {
        .uid = uid, .node = node, .email = "a@b", .generation = 1, .client_state = "aabb"};
    struct dr_token t;
    char *header = NULL;
    must(dr_token_make(NODE_SECRET, &u, NULL, NULL, 300, &t, &err));
    char *url = dr_token_data_url(node, uid);
    assert_non_null(url);
    must(dr_hawk_header(&t, "DELETE", url, 0, NULL, &header, &err));
    start_url(url, header, timeout_ms, tag);
    dr_free(header);
    dr_free(url);
    dr_token_fini(&t);
}

static struct dr_http_answer wait_answer(void)
{
    struct dr_http_answer a = {0};
    bool has = false;
    must(dr_http_wait(h, 20000, &a, &has, &err));
    assert_true(has);
    return a;
}

static struct dr_http_answer do_delete(int i, int uid)
{
    start_delete(i, uid, TIMEOUT_MS, NULL);
    return wait_answer();
}

static void signed_deletions_are_believed(void **state)
{
    (void)state;
    tell_node(0, "{\"data\": [7]}");
    struct dr_http_answer a = do_delete(0, 7);
    assert_int_equal(a.failure, DR_HTTP_NONE);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.detail, "{}");
    assert_int_equal(node_number(0, "data"), 0);
    assert_int_equal(do_delete(0, 7).status, 404);
    assert_int_equal(node_number(0, "refusals"), 0);
}

static void unsigned_and_spoiled_requests_are_not(void **state)
{
    (void)state;
    char url[64];
    tell_node(0, "{\"data\": [7]}");
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/1.5/7", nodes.ports[0]);
    start_url(url, NULL, TIMEOUT_MS, NULL);
    assert_int_equal(wait_answer().status, 401);
    start_url(url, "Hawk id=\"QUJD\", ts=\"1\", nonce=\"a\", mac=\"b\"", TIMEOUT_MS, NULL);
    assert_int_not_equal(wait_answer().status, 200);
    assert_int_equal(node_number(0, "data"), 1);
}

static void connections_are_kept_and_their_number_is_bounded(void **state)
{
    (void)state;
    tell_node(0, "{\"data_range\": [0, 60], \"slow_ms\": 2}");
    for (int i = 0; i < 60; i++) {
        start_delete(0, i, TIMEOUT_MS, NULL);
    }
    assert_int_equal(dr_http_open_count(h), 60);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(wait_answer().status, 200);
    }
    assert_int_equal(dr_http_open_count(h), 0);
    assert_int_equal(node_number(0, "requests"), 60);
    assert_true(node_number(0, "connections") <= 2);
    assert_true(node_number(0, "open_max") <= 2);
}

static void answers_carry_their_tag_in_the_order_they_end(void **state)
{
    (void)state;
    int slow = 0, quick = 0;
    tell_node(0, "{\"data\": [1], \"slow_ms\": 300}");
    tell_node(1, "{\"data\": [2]}");
    start_delete(0, 1, TIMEOUT_MS, &slow);
    start_delete(1, 2, TIMEOUT_MS, &quick);
    assert_ptr_equal(wait_answer().tag, &quick);
    struct dr_http_answer a = wait_answer();
    assert_ptr_equal(a.tag, &slow);
    assert_true(a.elapsed_ms >= 290);
}

static void timeout_is_an_unknown_outcome(void **state)
{
    (void)state;
    tell_node(0, "{\"data\": [1], \"fail\": \"hang\"}");
    start_delete(0, 1, 200, NULL);
    struct dr_http_answer a = wait_answer();
    assert_int_equal(a.failure, DR_HTTP_TIMEOUT);
    assert_int_equal(a.status, 0);
    assert_true(a.elapsed_ms >= 190 && a.elapsed_ms < 5000);
    assert_true(a.detail[0] != '\0');
    /* The connection is not used again: the next request gets its own answer. */
    tell_node(0, "{\"fail\": \"\"}");
    assert_int_equal(do_delete(0, 1).status, 200);
}

static void refused_connection_was_never_sent(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, not listening: nobody else gets the port */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &bytes), 0);
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/1.5/7", ntohs(a.sin_port));
    start_url(url, NULL, TIMEOUT_MS, NULL);
    assert_int_equal(wait_answer().failure, DR_HTTP_CONNECT);
    start_url("http://no.such.host.invalid/1.5/7", NULL, TIMEOUT_MS, NULL);
    assert_int_equal(wait_answer().failure, DR_HTTP_CONNECT);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%d/1.5/7", nodes.ports[0]);
    start_url(url, NULL, TIMEOUT_MS, NULL); /* TLS to a server that speaks none */
    assert_int_equal(wait_answer().failure, DR_HTTP_CONNECT);
    (void)close(fd);
}

static void broken_answers_are_no_answers(void **state)
{
    (void)state;
    static const char *const ways[] = {"close_before", "close_after", "garbage", "cut", "flood"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        tell_node(0, "{\"data\": [1], \"fail\": \"%s\"}", ways[i]);
        struct dr_http_answer a = do_delete(0, 1);
        if (a.failure != DR_HTTP_BROKEN) {
            fail_msg("%s: failure %d status %u %s", ways[i], (int)a.failure, a.status, a.detail);
        }
        assert_int_equal(a.status, 0);
        assert_true(a.detail[0] != '\0');
    }
}

static void redirects_are_reported_not_followed(void **state)
{
    (void)state;
    tell_node(0, "{\"redirect\": \"http://127.0.0.1:%d/1.5/1\"}", nodes.ports[1]);
    tell_node(1, "{\"data\": [1]}");
    struct dr_http_answer a = do_delete(0, 1);
    assert_int_equal(a.status, 302);
    assert_int_equal(node_number(1, "requests"), 0);
}

static void retry_after_is_read_as_seconds_and_as_date(void **state)
{
    (void)state;
    tell_node(0, "{\"status\": 503, \"retry_after\": \"7\"}");
    struct dr_http_answer a = do_delete(0, 1);
    assert_int_equal(a.status, 503);
    assert_int_equal(a.retry_after_ms, 7000);
    char date[64];
    time_t later = time(NULL) + 100;
    struct tm parts;
    (void)gmtime_r(&later, &parts);
    (void)strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    tell_node(0, "{\"retry_after\": \"%s\"}", date);
    a = do_delete(0, 1);
    assert_true(a.retry_after_ms > 80000 && a.retry_after_ms <= 101000);
    tell_node(0, "{\"retry_after\": \"soon\"}");
    assert_int_equal(do_delete(0, 1).retry_after_ms, 0);
    tell_node(0, "{\"retry_after\": \"99999999999\"}");
    assert_true(do_delete(0, 1).retry_after_ms <= 7ULL * 24 * 3600 * 1000);
}

static void urls_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "/1.5/1",          "no url",      "file:///etc/passwd",
        "ftp://h/", "http://h:99999/", "http://h/a b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct dr_http_request r = {.method = "DELETE", .url = bad[i], .timeout_ms = 10};
        if (dr_http_start(h, &r, &err) != DR_INPUT) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
    }
    assert_int_equal(dr_http_open_count(h), 0);
}

static void waiting_ends_in_time_without_answers(void **state)
{
    (void)state;
    struct dr_http_answer a;
    bool has = true;
    dr_mono_ms start = dr_mono_now();
    must(dr_http_wait(h, 50, &a, &has, &err));
    assert_false(has);
    assert_true(dr_mono_now() - start >= 45);
    tell_node(0, "{\"slow_ms\": 400, \"data\": [1]}");
    start_delete(0, 1, TIMEOUT_MS, NULL);
    must(dr_http_wait(h, 0, &a, &has, &err));
    assert_false(has);
    must(dr_http_wait(h, 50, &a, &has, &err));
    assert_false(has);
    assert_int_equal(wait_answer().status, 200);
}

static void open_requests_are_cut_with_the_handle(void **state)
{
    (void)state;
    tell_node(0, "{\"data_range\": [0, 5], \"fail\": \"hang\"}");
    for (int i = 0; i < 5; i++) {
        start_delete(0, i, TIMEOUT_MS, NULL);
    }
    struct dr_http_answer a;
    bool has = true;
    must(dr_http_wait(h, 50, &a, &has, &err));
    assert_false(has);
    assert_int_equal(dr_http_open_count(h), 5);
    dr_http_destroy(h); /* the sanitizers look for leaks */
    h = NULL;
    dr_http_destroy(NULL);
}

static void short_memory_starts_nothing(void **state)
{
    (void)state;
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/1.5/7", nodes.ports[0]);
    const struct dr_http_request r = {
        .method = "DELETE", .url = url, .authorization = "x", .timeout_ms = 1000};
    for (uint64_t n = 1; n <= 2; n++) { /* our own allocations: the request, its header */
        (void)dr_mem_fail_at(n);
        assert_int_equal(dr_http_start(h, &r, &err), DR_NOMEM);
        (void)dr_mem_fail_at(0);
        assert_int_equal(dr_http_open_count(h), 0);
    }
    const struct dr_http_config config = {0};
    struct dr_http *other = NULL;
    (void)dr_mem_fail_at(1);
    assert_int_equal(dr_http_create(&config, &other, &err), DR_NOMEM);
    (void)dr_mem_fail_at(0);
    assert_null(other);
    assert_int_equal(node_number(0, "requests"), 0);
}

#define WITH_HANDLE(f) cmocka_unit_test_setup_teardown(f, open_handle, close_handle)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_HANDLE(signed_deletions_are_believed),
        WITH_HANDLE(unsigned_and_spoiled_requests_are_not),
        WITH_HANDLE(connections_are_kept_and_their_number_is_bounded),
        WITH_HANDLE(answers_carry_their_tag_in_the_order_they_end),
        WITH_HANDLE(timeout_is_an_unknown_outcome),
        WITH_HANDLE(refused_connection_was_never_sent),
        WITH_HANDLE(broken_answers_are_no_answers),
        WITH_HANDLE(redirects_are_reported_not_followed),
        WITH_HANDLE(retry_after_is_read_as_seconds_and_as_date),
        WITH_HANDLE(urls_that_are_none_are_refused),
        WITH_HANDLE(waiting_ends_in_time_without_answers),
        WITH_HANDLE(open_requests_are_cut_with_the_handle),
        WITH_HANDLE(short_memory_starts_nothing),
    };
    return cmocka_run_group_tests_name("http", tests, start_all, stop_all);
}
