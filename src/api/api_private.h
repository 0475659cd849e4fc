/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the API: one request from its headers to its answer. A struct dr_call belongs to the
 * connection's thread; struct dr_api is shared and does not change after the start but for what is
 * atomic or has a lock. */
#ifndef DR_API_API_PRIVATE_H
#define DR_API_API_PRIVATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "queue/queue.h"

enum { API_PATH_BYTES = 256, API_TEXT_BYTES = 512, API_CODE_BYTES = 32, API_FIELD_BYTES = 128 };

/* --- tokens.c ------------------------------------------------------------------------------------
 */
struct dr_tokens;
/* DR_INPUT names the line, DR_REFUSED says that others may read or change the file. */
DR_MUST enum dr_code dr_tokens_load(const char *path, struct dr_tokens **out, struct dr_err *err);
void dr_tokens_destroy(struct dr_tokens *t); /* accepts NULL */
/* Role and name of a token, DR_ROLE_NONE for none. Takes the same time whatever the token is. */
enum dr_api_role dr_tokens_find(const struct dr_tokens *t, const char *token, char *name,
                                size_t name_bytes);
/* Is it this one? The same time whatever was given. */
bool dr_token_is(const char *expected, const char *given);
const char *dr_role_name(enum dr_api_role role);

/* --- listen.c ------------------------------------------------------------------------------------
 */
/* Open a listening socket at "ADDR:PORT"; *is_loopback_out and the port it got. */
DR_MUST enum dr_code dr_listen_open(const char *where, bool must_be_loopback, int *fd_out,
                                    uint16_t *port_out, struct dr_err *err);
/* DR_INPUT when `where`, the value of `option`, is no address; DR_REFUSED when it must be a
 * loopback one and is not. */
DR_MUST enum dr_code dr_listen_check(const char *option, const char *where, bool must_be_loopback,
                                     struct dr_err *err);

/* --- the shared part -----------------------------------------------------------------------------
 */
struct dr_ready { /* the last look at whether work is possible, kept for a moment */
    pthread_mutex_t mutex;
    dr_mono_ms at; /* 0: never looked */
    bool is_ready;
    char why[DR_REASON_BYTES]; /* it is not */
};

struct dr_grpc; /* grpc_server.c */

struct dr_api {
    const struct dr_serve *serve;
    struct dr_metrics *metrics;
    struct dr_tokens *tokens; /* NULL: everybody who reaches us may do everything */
    struct MHD_Daemon *daemon;
    uint16_t port;
    dr_wall_ms started_at;
    atomic_uint plans;         /* surveys going on */
    atomic_size_t large_bytes; /* of the large bodies being received or worked on */
    struct dr_grpc *grpc;      /* NULL: none */
    struct dr_ready ready;
    pthread_mutex_t scrape; /* gauges are set and printed by one request at a time */
    struct {                /* of the rollbacks in the queue, what is counted already */
        uint64_t begun, failed;
        dr_wall_ms ended_at; /* those that ended until then are in the histogram */
    } counted;               /* under `scrape` */
};

/* --- one request ---------------------------------------------------------------------------------
 */
struct dr_route;

struct dr_call {
    struct dr_api *api;
    struct MHD_Connection *connection;
    char method[16];
    char path[API_PATH_BYTES]; /* as it came, cut: for the log */
    const struct dr_route *route;
    char *param;     /* decoded {id}; NULL when the route has none */
    char *param2;    /* the second one */
    bool is_catalog; /* the path is one of the catalog's, whatever the method */
    int64_t op_id;
    enum dr_api_role role;
    char who[DR_NAME_BYTES]; /* "api:NAME" */
    struct dr_str body;
    size_t discarded;
    size_t large_bytes; /* counted in the shared part */
    bool is_crowded;    /* more large bodies than may be */
    json_t *json;       /* the parsed body; NULL: none came */
    int64_t begin_us;
    dr_mono_ms body_until;
    enum dr_place place;
    /* the answer */
    unsigned status;
    json_t *reply;
    struct dr_str text; /* instead of reply, when it is plain text */
    char location[64];
    bool is_text;
    bool is_answered;
};

struct dr_route {
    struct dr_api_route_info info;
    /* Fills status and reply, or fails with place set. */
    enum dr_code (*run)(struct dr_call *c, struct dr_err *err);
    size_t body_bytes_max; /* 0: DR_API_BODY_BYTES_MAX */
    enum { BODY_NONE, BODY_MAY, BODY_MUST } body;
    bool is_catalog; /* its answers come in the catalog's envelope; unknown parameters of the query
                        are ignored, a slash at the end too */
    bool is_peer;    /* for other peers only, by the peer token */
};

/* routes.c: find by path; *allow_out gets the methods the path knows ("GET, POST"), "" when none
 * does. The parameters are decoded into c->param and c->param2. */
const struct dr_route *dr_route_find(struct dr_call *c, const char *path, char *allow_out,
                                     size_t allow_bytes);

/* reply.c */
/* HTTP status of a failure. */
unsigned dr_api_status_of(enum dr_code code, enum dr_place place);
/* The answer to a failure: status, JSON with a code, the message and the field it names. */
void dr_call_fail(struct dr_call *c, unsigned status, const char *code, const char *message);
void dr_call_fail_err(struct dr_call *c, enum dr_code code, const struct dr_err *err);
/* Send what the call holds. */
enum MHD_Result dr_call_send(struct dr_call *c, const char *header, const char *value);
/* "job.applications[2]" of "job.applications[2]: must be a text"; "" when no field is named. */
void dr_api_field_of(const char *message, char *buf, size_t buf_bytes);

/* DR_INPUT when the query's number is wrong. */
DR_MUST enum dr_code dr_call_query_i64(const struct dr_call *c, const char *key, int64_t min,
                                       int64_t max, int64_t *out, struct dr_err *err);
const char *dr_call_query(const struct dr_call *c, const char *key);
const char *dr_call_header(const struct dr_call *c, const char *key);
/* DR_DENIED unless the caller's role reaches `role`; `what` says for what. */
DR_MUST enum dr_code dr_call_need(const struct dr_call *c, enum dr_api_role role, const char *what,
                                  struct dr_err *err);

/* --- the catalog's routes: catalog_*.c -----------------------------------------------------------
 */
/* The n-th one; NULL behind the last. */
const struct dr_route *dr_rest_route_at(uint32_t n);
/* {"status": {"error": text}, "time": seconds} with this HTTP status. */
void dr_rest_fail(struct dr_call *c, unsigned status, const char *text);
/* The same for what fails before a handler runs; puts the text's class in front of it. */
void dr_rest_fail_early(struct dr_call *c, unsigned status, const char *code, const char *message);
/* The envelope as text, its time to the microsecond (the key is taken out of `reply`); NULL when
 * memory is short. */
char *dr_rest_text(json_t *reply);
/* There is no catalog here: 404 in both forms, so that every client shows a text. */
void dr_rest_fail_absent(struct dr_call *c);

/* --- gRPC: grpc_*.c, or grpc_none.c in a build without it ----------------------------------------
 */
/* Listen at serve->grpc_listen and answer in threads of its own. */
DR_MUST enum dr_code dr_grpc_start(struct dr_api *api, struct dr_grpc **out, struct dr_err *err);
uint16_t dr_grpc_port(const struct dr_grpc *g); /* 0 for NULL */
void dr_grpc_stop(struct dr_grpc *g);           /* accepts NULL */

/* monitor.c */
void dr_api_count_request(const struct dr_call *c);
/* Note how long a durable call took; returns rc. */
void dr_api_count_commit(struct dr_api *api, int64_t begin_us);

/* the handlers: jobs.c, ops.c, health.c, monitor.c */
#define DR_API_HANDLER(name) enum dr_code name(struct dr_call *c, struct dr_err *err)
DR_API_HANDLER(dr_api_submit);
DR_API_HANDLER(dr_api_delete_stats);
DR_API_HANDLER(dr_api_list);
DR_API_HANDLER(dr_api_get);
DR_API_HANDLER(dr_api_steps);
DR_API_HANDLER(dr_api_explain);
DR_API_HANDLER(dr_api_pause);
DR_API_HANDLER(dr_api_resume);
DR_API_HANDLER(dr_api_stop_op);
DR_API_HANDLER(dr_api_rollback);
DR_API_HANDLER(dr_api_tune);
DR_API_HANDLER(dr_api_healthz);
DR_API_HANDLER(dr_api_readyz);
DR_API_HANDLER(dr_api_metrics);
DR_API_HANDLER(dr_api_health);
DR_API_HANDLER(dr_api_recover);
DR_API_HANDLER(dr_api_cleanup);
DR_API_HANDLER(dr_api_alerts);
DR_API_HANDLER(dr_api_rollbacks);
DR_API_HANDLER(dr_api_op_rollbacks);
#undef DR_API_HANDLER

#endif
