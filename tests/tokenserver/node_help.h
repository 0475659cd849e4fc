/* SPDX-License-Identifier: Apache-2.0 */
/* Storage nodes for tests: starts support/storage_node.py and talks to its control page over plain
 * sockets, so that nothing of drover's own HTTP is needed to set the stage or to look. */
#ifndef DR_TESTS_NODE_HELP_H
#define DR_TESTS_NODE_HELP_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

enum { NODES_MAX = 16 };
#define NODE_SECRET "the nodes' secret"

static struct {
    pid_t pid;
    int keep_fd; /* the nodes serve until it closes */
    int count;
    int ports[NODES_MAX];
} nodes;

/* A path beside the tests, from the place of this header. */
static DR_UNUSED const char *beside_tests(const char *name, char *buf, size_t buf_bytes)
{
    const char *slash = strstr(__FILE__, "tokenserver/node_help.h");
    int len = slash == NULL ? 0 : (int)(slash - __FILE__);
    (void)snprintf(buf, buf_bytes, "%.*s%s", len, __FILE__, name);
    return buf;
}

static DR_UNUSED void run_nodes(int count, int in, int out)
{
    char script[512], number[16];
    (void)beside_tests("support/storage_node.py", script, sizeof script);
    (void)snprintf(number, sizeof number, "%d", count);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(in, STDIN_FILENO);
    (void)dup2(out, STDOUT_FILENO);
    (void)execlp("python3", "python3", script, "--nodes", number, "--secret", NODE_SECRET, NULL);
    _exit(127);
}

static DR_UNUSED void read_ports(const char *text)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    assert_int_equal(dr_json_parse("ports", text, strlen(text), &j, &err), DR_OK);
    json_t *list = json_object_get(j, "ports");
    nodes.count = (int)json_array_size(list);
    for (int i = 0; i < nodes.count; i++) {
        nodes.ports[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    }
    json_decref(j);
}

static DR_UNUSED void start_nodes(int count)
{
    int in[2], out[2];
    assert_true(count <= NODES_MAX);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        run_nodes(count, in[0], out[1]);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    char text[512];
    size_t len = 0;
    ssize_t n = 0;
    do {
        n = read(out[0], text + len, sizeof text - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && memchr(text, '\n', len) == NULL && len < sizeof text - 1);
    text[len] = '\0';
    (void)close(out[0]);
    nodes.pid = pid;
    nodes.keep_fd = in[1];
    read_ports(text);
    assert_int_equal(nodes.count, count);
}

static DR_UNUSED void stop_nodes(void)
{
    if (nodes.pid > 0) {
        (void)close(nodes.keep_fd);
        (void)kill(nodes.pid, SIGKILL);
        (void)waitpid(nodes.pid, NULL, 0);
        nodes.pid = 0;
    }
}

/* One HTTP request over a fresh connection; the whole answer as text. */
static DR_UNUSED void talk_to_node(int port, const char *request, struct dr_str *answer)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    size_t bytes = strlen(request);
    assert_int_equal(send(fd, request, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    char buf[4096];
    ssize_t n = 0;
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        dr_str_addn(answer, buf, (size_t)n);
    }
    (void)close(fd);
}

/* tell_node(0, "{\"status\": 503}") */
static DR_UNUSED void tell_node(int i, const char *format, ...)
{
    char body[512], request[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(body, sizeof body, format, args);
    va_end(args);
    (void)snprintf(request, sizeof request,
                   "POST /__control HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    struct dr_str answer;
    dr_str_init(&answer);
    talk_to_node(nodes.ports[i], request, &answer);
    assert_non_null(strstr(dr_str_text(&answer), " 200 "));
    dr_str_fini(&answer);
}

/* Caller releases with json_decref. */
static DR_UNUSED json_t *ask_node(int i)
{
    struct dr_err err = {0};
    struct dr_str answer;
    dr_str_init(&answer);
    talk_to_node(nodes.ports[i], "GET /__control HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                 &answer);
    const char *body = strstr(dr_str_text(&answer), "\r\n\r\n");
    assert_non_null(body);
    json_t *j = NULL;
    assert_int_equal(dr_json_parse("node", body + 4, strlen(body + 4), &j, &err), DR_OK);
    dr_str_fini(&answer);
    return j;
}

/* A number, or the length of a list, of a node's report. */
static DR_UNUSED long long node_number(int i, const char *key)
{
    json_t *j = ask_node(i);
    json_t *value = json_object_get(j, key);
    assert_non_null(value);
    long long n =
        json_is_array(value) ? (long long)json_array_size(value) : json_integer_value(value);
    json_decref(j);
    return n;
}

static DR_UNUSED void reset_nodes(void)
{
    for (int i = 0; i < nodes.count; i++) {
        tell_node(i, "{\"reset\": true, \"slow_ms\": 0}");
    }
}

#endif
