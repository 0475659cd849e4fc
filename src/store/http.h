/* SPDX-License-Identifier: Apache-2.0 */
/* Many HTTP requests at once over kept-alive connections: what deleting on storage nodes needs, and
 * what the peers of a cluster ask each other.
 *
 * One handle belongs to one thread; requests run inside dr_http_wait. The driver underneath is
 * libcurl's multi interface. TLS certificates are checked. Redirects are not followed: a request
 * that deletes goes where it was signed for, or nowhere. */
#ifndef DR_STORE_HTTP_H
#define DR_STORE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct dr_http; /* opaque */

enum dr_http_failure {
    DR_HTTP_NONE,    /* an answer came: see status */
    DR_HTTP_CONNECT, /* never sent: name, connection refused, TLS */
    DR_HTTP_TIMEOUT, /* sent or not, no whole answer in time: outcome unknown */
    DR_HTTP_BROKEN,  /* the connection broke, or no valid HTTP came: outcome unknown */
};

struct dr_http_request {
    const char *method;        /* "DELETE" */
    const char *url;           /* copied */
    const char *authorization; /* value of the header, or NULL; copied; never logged */
    uint64_t timeout_ms;       /* of the whole request */
    void *tag;                 /* handed back */
    const void *body;          /* copied; NULL: none */
    size_t body_bytes;
    const char *content_type; /* of the body; NULL: "application/octet-stream"; copied */
    size_t answer_bytes_max;  /* keep the answer's body up to so much; 0: only its first bytes */
    bool is_once;             /* never over a kept connection, which libcurl may try twice */
};

struct dr_http_answer {
    void *tag;
    enum dr_http_failure failure;
    uint32_t status;         /* 0 without an answer */
    uint64_t retry_after_ms; /* from Retry-After (seconds or date), 0: none */
    uint64_t elapsed_ms;
    char detail[256]; /* for people: the failure, or the answer's first bytes */
    char *body;       /* NUL-terminated; the caller's (dr_free); NULL unless asked for and whole */
    size_t body_bytes;
};

struct dr_http_config {
    uint32_t connections_max;          /* over all hosts; 0: 64 */
    uint32_t connections_per_host_max; /* 0: 4 */
    uint64_t connect_timeout_ms;       /* 0: 10 s */
};

DR_MUST enum dr_code dr_http_create(const struct dr_http_config *config, struct dr_http **out,
                                    struct dr_err *err);
void dr_http_destroy(struct dr_http *h); /* open requests are cut; accepts NULL */
/* Start a request. DR_INPUT for a URL that is none, or not http(s). */
DR_MUST enum dr_code dr_http_start(struct dr_http *h, const struct dr_http_request *r,
                                   struct dr_err *err);
/* Work until an answer is there or `wait_ms` are over; *has_out says which. Answers come as they
 * end, in any order. */
DR_MUST enum dr_code dr_http_wait(struct dr_http *h, uint64_t wait_ms, struct dr_http_answer *out,
                                  bool *has_out, struct dr_err *err);
uint32_t dr_http_open_count(const struct dr_http *h);

#endif
