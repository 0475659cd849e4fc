/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP door: `drover serve`. Requests become calls of verbs/ and the queue, results become
 * JSON. Each connection has a thread of libmicrohttpd; the pool runs in the caller's.
 * docs/openapi.json describes the routes, and a test compares it with the table here. */
#ifndef DR_API_API_H
#define DR_API_API_H

#include <stdint.h>

#include "base/err.h"
#include "obs/metrics.h"
#include "verbs/serve.h"

enum {
    DR_API_BODY_BYTES_MAX = 1024 * 1024,
    DR_API_HEADER_BYTES_MAX = 16 * 1024,
    DR_API_CONNECTIONS_MAX = 128,
    DR_API_TIMEOUT_S = 30, /* of a silent connection, and of a request's body as a whole */
    DR_API_PLANS_MAX = 8,  /* surveys at the same time; more are asked to come again */
    DR_API_KEY_BYTES_MAX = 200,
    DR_API_POINTS_BYTES_MAX = 32 * 1024 * 1024, /* a body with points */
    DR_API_PEER_BYTES_MAX = 48 * 1024 * 1024,   /* the same from another peer, with its frame */
    /* Large bodies at the same time; who comes later is asked to come again. */
    DR_API_LARGE_BYTES_MAX = 256 * 1024 * 1024,
};

/* Everything `drover serve` does: HTTP in threads, the pool in this one, until asked to stop. */
enum dr_code dr_api_serve(const struct dr_serve *s, struct dr_err *err);

/* --- the parts, for tests ------------------------------------------------------------------------
 */
struct dr_api;

/* Listen and answer in threads of its own. DR_REFUSED when the address is no loopback one and there
 * are no tokens, DR_INPUT for a bad address or tokens file, DR_IO when it cannot be bound. Borrows
 * *s; `m` may be NULL. */
DR_MUST enum dr_code dr_api_start(const struct dr_serve *s, struct dr_metrics *m,
                                  struct dr_api **out, struct dr_err *err);
uint16_t dr_api_port(const struct dr_api *api);
uint16_t dr_api_grpc_port(const struct dr_api *api); /* 0: no gRPC */
/* Ends when the requests at hand are answered. Accepts NULL. */
void dr_api_stop(struct dr_api *api);

enum dr_api_role { DR_ROLE_NONE, DR_ROLE_READ, DR_ROLE_OPERATE, DR_ROLE_ADMIN };

struct dr_api_route_info {
    const char *method;
    const char *path; /* "/operations/{id}/pause" */
    const char *name; /* operationId */
    enum dr_api_role role;
    const char *const *query; /* parameters it knows; NULL-terminated */
};
/* The n-th route; false behind the last one. */
int dr_api_route_at(uint32_t n, struct dr_api_route_info *out);

#endif
