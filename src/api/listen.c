/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the listening socket: numeric addresses only, so that no resolver decides who reaches us. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_private.h"

enum { BACKLOG = 128, ADDRESS_BYTES = 64, PORT_MAX = 65535 };

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t bytes;
    bool is_loopback;
};

static bool parse_host(const char *host, uint16_t port, struct address *a)
{
    memset(a, 0, sizeof *a);
    if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (inet_pton(AF_INET, host, &a->u.v4.sin_addr) == 1) {
        a->u.v4.sin_family = AF_INET;
        a->u.v4.sin_port = htons(port);
        a->bytes = sizeof a->u.v4;
        a->is_loopback = ntohl(a->u.v4.sin_addr.s_addr) >> 24 == 127;
        return true;
    }
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET6, host, &a->u.v6.sin6_addr) == 1) {
        a->u.v6.sin6_family = AF_INET6;
        a->u.v6.sin6_port = htons(port);
        a->bytes = sizeof a->u.v6;
        a->is_loopback = IN6_IS_ADDR_LOOPBACK(&a->u.v6.sin6_addr);
        return true;
    }
    return false;
}

static bool parse_where(const char *where, struct address *a)
{
    char host[ADDRESS_BYTES];
    uint64_t port = 0;
    const char *colon = strrchr(where, ':');
    if (colon == NULL || !dr_parse_u64(colon + 1, &port) || port > PORT_MAX) {
        return false;
    }
    size_t length = (size_t)(colon - where);
    if (length >= 2 && where[0] == '[' && colon[-1] == ']') {
        where++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof host) {
        return false;
    }
    memcpy(host, where, length);
    host[length] = '\0';
    return parse_host(host, (uint16_t)port, a);
}

static enum dr_code fail_listen(const char *where, const char *what, int number, struct dr_err *err)
{
    return dr_fail(err, DR_IO, "--listen %s: %s: %s%s", where, what, strerror(number),
                   number == EADDRINUSE ? "; another program answers there" : "");
}

static enum dr_code take_where(const char *option, const char *where, bool must_be_loopback,
                               struct address *a, struct dr_err *err)
{
    if (!parse_where(where, a)) {
        return dr_fail(err, DR_INPUT,
                       "%s %.80s: must be ADDR:PORT with a numeric address, as "
                       "127.0.0.1:8350 or [::1]:8350",
                       option, where);
    }
    if (must_be_loopback && !a->is_loopback) {
        return dr_fail(err, DR_REFUSED,
                       "%s %s: without tokens everybody who reaches that address could "
                       "erase data; give --tokens FILE, or listen on 127.0.0.1",
                       option, where);
    }
    return DR_OK;
}

enum dr_code dr_listen_check(const char *option, const char *where, bool must_be_loopback,
                             struct dr_err *err)
{
    struct address a;
    return take_where(option, where, must_be_loopback, &a, err);
}

enum dr_code dr_listen_open(const char *where, bool must_be_loopback, int *fd_out,
                            uint16_t *port_out, struct dr_err *err)
{
    struct address a = {0};
    int on = 1;
    *fd_out = -1;
    enum dr_code rc = take_where("--listen", where, must_be_loopback, &a, err);
    if (rc != DR_OK) {
        return rc;
    }
    int fd = socket(a.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fail_listen(where, "no socket", errno, err);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.u.any.sa_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, &a.u.any, a.bytes) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &a.u.any, &a.bytes) != 0) {
        rc = fail_listen(where, "cannot listen", errno, err);
        (void)close(fd);
        return rc;
    }
    *port_out = ntohs(a.u.any.sa_family == AF_INET6 ? a.u.v6.sin6_port : a.u.v4.sin_port);
    *fd_out = fd;
    return DR_OK;
}
