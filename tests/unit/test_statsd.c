/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of obs/statsd.h: each test is named for one. A real UDP socket listens. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "obs/statsd.h"

static struct dr_err err;
static int server = -1;
static uint16_t server_port;

static int open_server(void **state)
{
    (void)state;
    const struct timeval limit = {.tv_sec = 5};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof a;
    server = socket(AF_INET, SOCK_DGRAM, 0);
    int rc = bind(server, (struct sockaddr *)&a, sizeof a);
    rc |= getsockname(server, (struct sockaddr *)&a, &bytes);
    rc |= setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    server_port = ntohs(a.sin_port);
    return rc;
}

static int close_server(void **state)
{
    (void)state;
    return server < 0 ? 0 : close(server);
}

static struct dr_statsd *make(const char *host, const char *prefix)
{
    struct dr_statsd *s = NULL;
    assert_int_equal(dr_statsd_create(host, server_port, prefix, &s, &err), DR_OK);
    assert_non_null(s);
    return s;
}

static void assert_received(const char *want)
{
    char text[1024];
    ssize_t n = recv(server, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_string_equal(text, want);
}

static void metrics_arrive_with_prefix_and_tags(void **state)
{
    (void)state;
    struct dr_statsd *s = make("127.0.0.1", "tokenserver");
    dr_statsd_count(s, "delete_user", 1, "type:not_down");
    assert_received("tokenserver.delete_user:1|c|#type:not_down");
    dr_statsd_count(s, "row_failure", 3, "reason:http_5xx,node:a");
    assert_received("tokenserver.row_failure:3|c|#reason:http_5xx,node:a");
    dr_statsd_gauge(s, "purge.backlog.size", INT64_MAX, NULL);
    assert_received("tokenserver.purge.backlog.size:9223372036854775807|g");
    dr_statsd_timing(s, "purge.run.duration_ms", 12, "");
    assert_received("tokenserver.purge.run.duration_ms:12|ms");
    assert_int_equal(dr_statsd_dropped(s), 0);
    dr_statsd_destroy(s);
}

static void names_stand_alone_without_a_prefix(void **state)
{
    (void)state;
    struct dr_statsd *s = make("localhost", NULL);
    dr_statsd_count(s, "a", -2, NULL);
    dr_statsd_destroy(s);
    s = make("127.0.0.1", "");
    dr_statsd_count(s, "b", 2, NULL);
    dr_statsd_destroy(s);
    char text[64];
    ssize_t n = recv(server, text, sizeof text, 0);
    assert_true(n == 6 || n == 5); /* localhost may be ::1, where nobody listens */
    if (n == 6) {
        assert_memory_equal(text, "a:-2|c", 6);
        assert_received("b:2|c");
    } else {
        assert_memory_equal(text, "b:2|c", 5);
    }
}

static void negative_gauge_is_set_not_subtracted(void **state)
{
    (void)state;
    struct dr_statsd *s = make("127.0.0.1", "p");
    dr_statsd_gauge(s, "g", -5, NULL);
    assert_received("p.g:0|g");
    assert_received("p.g:-5|g");
    dr_statsd_destroy(s);
}

static void without_a_server_all_is_dropped_and_counted(void **state)
{
    (void)state;
    struct dr_statsd *s = make(NULL, "p");
    dr_statsd_count(s, "a", 1, NULL);
    dr_statsd_gauge(s, "a", 1, NULL);
    dr_statsd_timing(s, "a", 1, NULL);
    assert_int_equal(dr_statsd_dropped(s), 3);
    dr_statsd_destroy(s);
    dr_statsd_count(NULL, "a", 1, NULL);
    dr_statsd_gauge(NULL, "a", 1, NULL);
    dr_statsd_timing(NULL, "a", 1, NULL);
    assert_int_equal(dr_statsd_dropped(NULL), 0);
    dr_statsd_destroy(NULL);
}

static void oversized_metric_is_dropped_whole(void **state)
{
    (void)state;
    char tags[2000];
    memset(tags, 'x', sizeof tags - 1);
    tags[sizeof tags - 1] = '\0';
    struct dr_statsd *s = make("127.0.0.1", "p");
    dr_statsd_count(s, "a", 1, tags);
    assert_int_equal(dr_statsd_dropped(s), 1);
    dr_statsd_count(s, "next", 1, NULL);
    assert_received("p.next:1|c");
    dr_statsd_destroy(s);
}

static void gone_server_neither_blocks_nor_fails(void **state)
{
    (void)state;
    struct dr_statsd *s = make("127.0.0.1", "p");
    assert_int_equal(close(server), 0);
    server = -1;
    dr_mono_ms start = dr_mono_now();
    for (int i = 0; i < 10000; i++) {
        dr_statsd_count(s, "a", 1, NULL);
    }
    assert_true(dr_mono_now() - start < 5000);
    assert_true(dr_statsd_dropped(s) > 0); /* the port's refusals come back as errors */
    dr_statsd_destroy(s);
}

static void unknown_host_is_named(void **state)
{
    (void)state;
    struct dr_statsd *s = NULL;
    assert_int_equal(dr_statsd_create("no.such.host.invalid", 8125, "p", &s, &err), DR_UNREACHABLE);
    assert_null(s);
    assert_non_null(strstr(err.msg, "no.such.host.invalid"));
}

static void *count_many(void *arg)
{
    for (int i = 0; i < 40; i++) {
        dr_statsd_count(arg, "t", 1, NULL);
    }
    return NULL;
}

static void any_thread_may_send(void **state)
{
    (void)state;
    struct dr_statsd *s = make("127.0.0.1", "p");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, s), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    uint64_t left = 160 - dr_statsd_dropped(s);
    assert_true(left > 0);
    for (uint64_t i = 0; i < left; i++) {
        assert_received("p.t:1|c");
    }
    dr_statsd_destroy(s);
}

static void short_memory_is_said(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        struct dr_statsd *s = NULL;
        (void)dr_mem_fail_at(n);
        assert_int_equal(dr_statsd_create("127.0.0.1", 1, "p", &s, &err), DR_NOMEM);
        (void)dr_mem_fail_at(0);
        assert_null(s);
    }
}

#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, open_server, close_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(metrics_arrive_with_prefix_and_tags),
        WITH_SERVER(names_stand_alone_without_a_prefix),
        WITH_SERVER(negative_gauge_is_set_not_subtracted),
        WITH_SERVER(without_a_server_all_is_dropped_and_counted),
        WITH_SERVER(oversized_metric_is_dropped_whole),
        WITH_SERVER(gone_server_neither_blocks_nor_fails),
        WITH_SERVER(unknown_host_is_named),
        WITH_SERVER(any_thread_may_send),
        WITH_SERVER(short_memory_is_said),
    };
    return cmocka_run_group_tests_name("statsd", tests, NULL, NULL);
}
