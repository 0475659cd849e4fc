/* SPDX-License-Identifier: Apache-2.0 */
/* The same POST again and again over kept connections, for comparing two servers by one client:
 * `bench_http PORT PATH HEADER BODY WANT CLIENTS REQUESTS` prints answers in a second. Each must be
 * a 200 that contains WANT. In BODY `######` is replaced by a number that grows, so that no two
 * requests say the same. HEADER may be empty. Every client waits for its answer before it asks
 * again. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

enum { CLIENTS_MAX = 256, REQUEST_BYTES = 4096, ANSWER_BYTES = 65536 };

static struct {
    uint16_t port;
    const char *path, *header, *body, *want;
    uint64_t each;
    _Atomic uint64_t number, failed;
} load;

static void stop(const char *why)
{
    (void)fprintf(stderr, "bench_http: %s\n", why);
    exit(1);
}

static int connect_here(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(load.port)};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        stop("cannot connect");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static size_t write_request(char *out)
{
    char body[REQUEST_BYTES / 2];
    char digits[8];
    int body_bytes = snprintf(body, sizeof body, "%s", load.body);
    if (body_bytes < 0 || (size_t)body_bytes >= sizeof body) {
        stop("the body is too long");
    }
    (void)snprintf(digits, sizeof digits, "%06u",
                   (unsigned)(atomic_fetch_add(&load.number, 1) % 1000000));
    for (char *at = body; (at = strstr(at, "######")) != NULL;) {
        memcpy(at, digits, 6);
    }
    int bytes =
        snprintf(out, REQUEST_BYTES,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                 "%s%sContent-Length: %d\r\n\r\n%s",
                 load.path, load.header, load.header[0] == '\0' ? "" : "\r\n", body_bytes, body);
    if (bytes < 0 || bytes >= REQUEST_BYTES) {
        stop("the request is too long");
    }
    return (size_t)bytes;
}

/* Bytes of the whole answer once its head is there; 0: not yet. */
static size_t whole_bytes(const char *text)
{
    static const char name[] = "\r\nContent-Length:";
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL) {
        return 0;
    }
    const char *length = strcasestr(text, name);
    if (length == NULL || length > end) {
        stop("an answer without a length");
    }
    return (size_t)(end + 4 - text) + strtoul(length + sizeof name - 1, NULL, 10);
}

static bool read_answer(int fd, char *text)
{
    size_t have = 0;
    size_t want = 0;
    while (want == 0 || have < want) {
        ssize_t n = have + 1 < ANSWER_BYTES ? recv(fd, text + have, ANSWER_BYTES - 1 - have, 0) : 0;
        if (n <= 0) {
            stop("the connection ended within an answer");
        }
        have += (size_t)n;
        text[have] = '\0';
        want = want == 0 ? whole_bytes(text) : want;
    }
    return strncmp(text, "HTTP/1.1 200", 12) == 0 && strstr(text, load.want) != NULL;
}

static void *run_client(void *unused)
{
    (void)unused;
    static _Thread_local char answer[ANSWER_BYTES];
    char request[REQUEST_BYTES];
    int fd = connect_here();
    for (uint64_t i = 0; i < load.each; i++) {
        size_t bytes = write_request(request);
        if (send(fd, request, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) {
            stop("a request could not be sent");
        }
        if (!read_answer(fd, answer) && atomic_fetch_add(&load.failed, 1) == 0) {
            (void)fprintf(stderr, "bench_http: %.600s\n", answer);
        }
    }
    (void)close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t port = 0;
    uint64_t clients = 0;
    uint64_t requests = 0;
    pthread_t thread[CLIENTS_MAX];
    if (argc != 8 || !dr_parse_u64(argv[1], &port) || !dr_parse_u64(argv[6], &clients) ||
        !dr_parse_u64(argv[7], &requests) || clients == 0 || clients > CLIENTS_MAX) {
        stop("usage: bench_http PORT PATH HEADER BODY WANT CLIENTS REQUESTS");
    }
    load.port = (uint16_t)port;
    load.path = argv[2];
    load.header = argv[3];
    load.body = argv[4];
    load.want = argv[5];
    load.each = requests / clients;
    int64_t begin = dr_mono_us();
    for (uint64_t i = 0; i < clients; i++) {
        if (pthread_create(&thread[i], NULL, run_client, NULL) != 0) {
            stop("no thread");
        }
    }
    for (uint64_t i = 0; i < clients; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    double seconds = (double)(dr_mono_us() - begin) / 1e6;
    if (atomic_load(&load.failed) != 0) {
        stop("some answers were failures");
    }
    printf("%.0f\n", (double)(load.each * clients) / seconds);
    return 0;
}
