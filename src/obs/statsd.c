/* SPDX-License-Identifier: Apache-2.0 */
/* Owns one connected UDP socket and the text of a metric. Nothing is kept between calls apart from
 * the count of what was dropped, so any thread may send without a lock: one metric is one send(),
 * and the kernel keeps datagrams whole. */
#include "obs/statsd.h"

#include <assert.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

enum { LINE_BYTES = 512 /* below any path's limit, so that a datagram is never cut in pieces */ };

struct dr_statsd {
    int fd;       /* -1: everything is dropped */
    char *prefix; /* "" or "name." */
    _Atomic uint64_t dropped;
};

/* The first address that accepts a connect(); for UDP that only needs a route. */
static int open_socket(const struct addrinfo *list)
{
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        int fd =
            socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0) {
            continue;
        }
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            return fd;
        }
        (void)close(fd);
    }
    return -1;
}

static enum dr_code connect_to(const char *host, uint16_t port, int *fd_out, struct dr_err *err)
{
    char service[8];
    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0) {
        return dr_fail(err, DR_UNREACHABLE,
                       "statsd server \"%s\": %s; give a host name or address that exists", host,
                       gai_strerror(rc));
    }
    *fd_out = open_socket(list);
    freeaddrinfo(list);
    if (*fd_out < 0) {
        return dr_fail(err, DR_UNREACHABLE, "statsd server \"%s\": no route to port %u", host,
                       (unsigned)port);
    }
    return DR_OK;
}

enum dr_code dr_statsd_create(const char *host, uint16_t port, const char *prefix,
                              struct dr_statsd **out, struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = DR_OK;
    struct dr_statsd *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    s->fd = -1;
    bool has_prefix = prefix != NULL && prefix[0] != '\0';
    s->prefix = has_prefix ? dr_asprintf("%s.", prefix) : dr_strdup("");
    if (s->prefix == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (host != NULL) {
        rc = connect_to(host, port, &s->fd, err);
    }
out:
    if (rc != DR_OK) {
        dr_statsd_destroy(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

void dr_statsd_destroy(struct dr_statsd *s)
{
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    dr_free(s->prefix);
    dr_free(s);
}

/* `kind` is statsd's letter. `value` is signed text, since gauges may be negative. */
static void send_metric(struct dr_statsd *s, const char *name, const char *value, const char *kind,
                        const char *tags)
{
    assert(name != NULL && value != NULL);
    if (s->fd < 0) {
        atomic_fetch_add(&s->dropped, 1);
        return;
    }
    char line[LINE_BYTES];
    bool has_tags = tags != NULL && tags[0] != '\0';
    int n = snprintf(line, sizeof line, "%s%s:%s|%s%s%s", s->prefix, name, value, kind,
                     has_tags ? "|#" : "", has_tags ? tags : "");
    if (n < 0 || (size_t)n >= sizeof line ||
        send(s->fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
        atomic_fetch_add(&s->dropped, 1);
    }
}

void dr_statsd_count(struct dr_statsd *s, const char *name, int64_t n, const char *tags)
{
    if (s == NULL) {
        return;
    }
    char value[32];
    (void)snprintf(value, sizeof value, "%lld", (long long)n);
    send_metric(s, name, value, "c", tags);
}

void dr_statsd_gauge(struct dr_statsd *s, const char *name, int64_t value, const char *tags)
{
    if (s == NULL) {
        return;
    }
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    if (value < 0) {
        /* A sign means "change by" in statsd; setting a negative value takes a zero first. */
        send_metric(s, name, "0", "g", tags);
    }
    send_metric(s, name, text, "g", tags);
}

void dr_statsd_timing(struct dr_statsd *s, const char *name, uint64_t ms, const char *tags)
{
    if (s == NULL) {
        return;
    }
    char value[32];
    (void)snprintf(value, sizeof value, "%llu", (unsigned long long)ms);
    send_metric(s, name, value, "ms", tags);
}

uint64_t dr_statsd_dropped(const struct dr_statsd *s)
{
    return s == NULL ? 0 : atomic_load(&s->dropped);
}
