/* SPDX-License-Identifier: Apache-2.0 */
/* Storage nodes for bench_tokenserver.sh that cost next to nothing: each of them answers every
 * request with 200 after a fixed time, over kept connections. Signatures are not checked: the tests
 * do that, here the contestants are measured and not the node.
 *
 *   bench_node NODES MS      prints a port a line, serves until standard input ends */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NODES_MAX = 64, FDS_MAX = 1024, EVENTS = 64, WAITING_MAX = 4096 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/* Requests in the order of their answers: the delay is the same for all, so a ring will do. */
static struct {
    int fd;
    int64_t due_us;
} waiting[WAITING_MAX];
static unsigned first, behind;
static uint32_t tail_of[FDS_MAX]; /* the last four bytes that came in, per connection */

static int64_t now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_node: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0) {
        fail("epoll_ctl");
    }
}

static int open_node(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &bytes) != 0) {
        fail("listen");
    }
    printf("%u\n", (unsigned)ntohs(a.sin_port));
    return fd;
}

static void welcome(int epoll, int listener)
{
    const int yes = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || fd >= FDS_MAX) {
        fail("accept");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    tail_of[fd] = 0;
    watch(epoll, fd);
}

/* A request has no body, so an empty line ends it. */
static void take(int fd, int64_t delay_us)
{
    static char data[65536];
    ssize_t bytes = read(fd, data, sizeof data);
    if (bytes <= 0) {
        (void)close(fd);
        return;
    }
    for (ssize_t i = 0; i < bytes; i++) {
        tail_of[fd] = tail_of[fd] << 8 | (unsigned char)data[i];
        if (tail_of[fd] == 0x0d0a0d0a) {
            waiting[behind % WAITING_MAX].fd = fd;
            waiting[behind++ % WAITING_MAX].due_us = now_us() + delay_us;
        }
    }
}

/* Answer what is due; how long until the next is, in ms rounded up, -1 for nothing. */
static int answer_due(void)
{
    int64_t now = now_us();
    while (first != behind && waiting[first % WAITING_MAX].due_us <= now) {
        if (write(waiting[first % WAITING_MAX].fd, answer, sizeof answer - 1) < 0 &&
            errno != EPIPE && errno != EBADF && errno != ECONNRESET) {
            fail("write");
        }
        first++;
    }
    return first == behind ? -1 : (int)((waiting[first % WAITING_MAX].due_us - now + 999) / 1000);
}

int main(int argc, char **argv)
{
    int listener[NODES_MAX];
    int nodes = argc == 3 ? (int)strtol(argv[1], NULL, 10) : 0;
    int64_t delay_us = argc == 3 ? (int64_t)(strtod(argv[2], NULL) * 1000) : 0;
    if (nodes < 1 || nodes > NODES_MAX) {
        fprintf(stderr, "usage: bench_node NODES MS\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < nodes; i++) {
        listener[i] = open_node();
        watch(epoll, listener[i]);
    }
    (void)fflush(stdout);
    watch(epoll, STDIN_FILENO);
    for (;;) {
        struct epoll_event event[EVENTS];
        int count = epoll_wait(epoll, event, EVENTS, answer_due());
        for (int i = 0; i < count; i++) {
            int fd = event[i].data.fd;
            if (fd == STDIN_FILENO) {
                return 0;
            }
            bool is_new = false;
            for (int n = 0; n < nodes; n++) {
                is_new = is_new || fd == listener[n];
            }
            if (is_new) {
                welcome(epoll, fd);
            } else {
                take(fd, delay_us);
            }
        }
    }
}
