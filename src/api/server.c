/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way of a request: headers, who it is, limits, body, handler, answer, log line. All
 * checks that need no body are made before it is read. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api_private.h"
#include "base/mem.h"

enum {
    CONNECTION_BYTES = 32 * 1024, /* libmicrohttpd's own limit, above ours */
    DISCARD_BYTES_MAX = 8 * 1024 * 1024,
    ALLOW_BYTES = 128,
};

/* --- what a call can ask -------------------------------------------------------------------------
 */

const char *dr_call_header(const struct dr_call *c, const char *key)
{
    return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, key);
}

const char *dr_call_query(const struct dr_call *c, const char *key)
{
    return MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, key);
}

enum dr_code dr_call_query_i64(const struct dr_call *c, const char *key, int64_t min, int64_t max,
                               int64_t *out, struct dr_err *err)
{
    int64_t n = 0;
    const char *text = dr_call_query(c, key);
    if (text == NULL) {
        return DR_OK;
    }
    if (!dr_parse_i64(text, &n) || n < min || n > max) {
        return dr_fail(err, DR_INPUT, "query.%s: must be a number from %lld to %lld", key,
                       (long long)min, (long long)max);
    }
    *out = n;
    return DR_OK;
}

enum dr_code dr_call_need(const struct dr_call *c, enum dr_api_role role, const char *what,
                          struct dr_err *err)
{
    if (c->role >= role) {
        return DR_OK;
    }
    return dr_fail(err, DR_DENIED, "%s needs the role %s; this token has %s", what,
                   dr_role_name(role), dr_role_name(c->role));
}

/* --- checks before the body ----------------------------------------------------------------------
 */

static enum MHD_Result add_length(void *arg, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    size_t *bytes = arg;
    (void)kind;
    *bytes += strlen(key) + (value != NULL ? strlen(value) : 0) + 4;
    return MHD_YES;
}

struct query_check {
    const struct dr_route *route;
    char unknown[API_FIELD_BYTES]; /* the first one nobody knows */
};

static enum MHD_Result check_parameter(void *arg, enum MHD_ValueKind kind, const char *key,
                                       const char *value)
{
    struct query_check *q = arg;
    (void)kind;
    (void)value;
    for (const char *const *known = q->route->info.query; *known != NULL; known++) {
        if (strcmp(*known, key) == 0) {
            return MHD_YES;
        }
    }
    dr_copy_text(q->unknown, sizeof q->unknown, key);
    return MHD_NO;
}

/* "api-key: TOKEN" as the catalog's clients send it, or "Authorization: Bearer TOKEN"; or NULL. */
static const char *given_token(const struct dr_call *c)
{
    static const char scheme[] = "Bearer ";
    const char *key = dr_call_header(c, "api-key");
    const char *header = dr_call_header(c, MHD_HTTP_HEADER_AUTHORIZATION);
    if (key != NULL && key[0] != '\0') {
        return key;
    }
    bool is_bearer = header != NULL && strncasecmp(header, scheme, sizeof scheme - 1) == 0;
    return is_bearer ? header + sizeof scheme - 1 : NULL;
}

/* Another peer? Without any tokens everybody who reaches us is one. */
static bool is_peer(struct dr_call *c)
{
    const char *expected = c->api->serve->peer_token;
    const char *token = given_token(c);
    bool is =
        expected != NULL ? token != NULL && dr_token_is(expected, token) : c->api->tokens == NULL;
    if (is) {
        dr_copy_text(c->who, sizeof c->who, "peer");
    }
    return is;
}

/* Sets role and who; false when the token is missing or wrong. */
static bool authenticate(struct dr_call *c)
{
    char name[DR_NAME_BYTES / 2] = "";
    if (c->api->tokens == NULL) {
        c->role = DR_ROLE_ADMIN; /* only loopback addresses are served like this */
        dr_copy_text(c->who, sizeof c->who, "api:loopback");
        return true;
    }
    const char *token = given_token(c);
    if (token == NULL) {
        return false;
    }
    c->role = dr_tokens_find(c->api->tokens, token, name, sizeof name);
    (void)snprintf(c->who, sizeof c->who, "api:%s", name);
    return c->role != DR_ROLE_NONE;
}

/* A browser says where a page's request comes from. No page has any business here, and a service on
 * a loopback address is what pages on the Internet like to reach. */
static bool is_from_page(const struct dr_call *c)
{
    const char *site = dr_call_header(c, "Sec-Fetch-Site");
    return dr_call_header(c, MHD_HTTP_HEADER_ORIGIN) != NULL ||
           (site != NULL && strcmp(site, "none") != 0);
}

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    size_t length = sizeof json - 1;
    return type != NULL && strncasecmp(type, json, length) == 0 &&
           (type[length] == '\0' || type[length] == ';' || type[length] == ' ');
}

static size_t body_bytes_max(const struct dr_call *c)
{
    return c->route->body_bytes_max != 0 ? c->route->body_bytes_max : DR_API_BODY_BYTES_MAX;
}

static void fail_large(struct dr_call *c)
{
    char message[API_TEXT_BYTES];
    (void)snprintf(message, sizeof message,
                   "the body is larger than %zu MiB; send several requests",
                   body_bytes_max(c) >> 20);
    dr_call_fail(c, MHD_HTTP_CONTENT_TOO_LARGE, "TOO_LARGE", message);
}

/* True when the body may come; else the call is failed. */
static bool check_body_headers(struct dr_call *c)
{
    uint64_t bytes = 0;
    const char *length = dr_call_header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool is_chunked = dr_call_header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    if (length != NULL && !dr_parse_u64(length, &bytes)) {
        dr_call_fail(c, MHD_HTTP_BAD_REQUEST, "INPUT", "Content-Length is no number");
        return false;
    }
    bool has_body = is_chunked || bytes > 0;
    if (length == NULL && !is_chunked && c->route->body == BODY_MUST) {
        dr_call_fail(c, MHD_HTTP_LENGTH_REQUIRED, "LENGTH_REQUIRED",
                     "this request needs a JSON body and its Content-Length");
        return false;
    }
    if (bytes > body_bytes_max(c)) {
        fail_large(c);
        return false;
    }
    if (has_body && c->route->body == BODY_NONE) {
        dr_call_fail(c, MHD_HTTP_BAD_REQUEST, "INPUT", "this request takes no body");
        return false;
    }
    if (has_body && !is_json_type(dr_call_header(c, MHD_HTTP_HEADER_CONTENT_TYPE))) {
        dr_call_fail(c, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE",
                     "the body must be JSON: send Content-Type: application/json");
        return false;
    }
    return true;
}

static bool check_query(struct dr_call *c)
{
    char message[API_TEXT_BYTES];
    struct query_check q = {.route = c->route};
    if (c->route->is_catalog) {
        return true; /* as everywhere where these calls are served, others are ignored */
    }
    (void)MHD_get_connection_values(c->connection, MHD_GET_ARGUMENT_KIND, check_parameter, &q);
    if (q.unknown[0] == '\0') {
        return true;
    }
    (void)snprintf(message, sizeof message, "query.%s: there is no such parameter", q.unknown);
    dr_call_fail(c, MHD_HTTP_BAD_REQUEST, "INPUT", message);
    return false;
}

/* Everything that can be said before the body: true to go on, else the answer is queued. */
static bool admit(struct dr_call *c, const char *path, enum MHD_Result *sent_out)
{
    char allow[ALLOW_BYTES];
    size_t header_bytes = 0;
    *sent_out = MHD_YES;
    (void)MHD_get_connection_values(c->connection, MHD_HEADER_KIND, add_length, &header_bytes);
    c->route = dr_route_find(c, path, allow, sizeof allow);
    bool is_open = c->route != NULL && c->route->info.role == DR_ROLE_NONE;
    bool is_known = authenticate(c);
    const char *header = NULL;
    const char *value = NULL;
    if (header_bytes > DR_API_HEADER_BYTES_MAX) {
        dr_call_fail(c, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE",
                     "the headers are larger than 16 KiB");
    } else if (is_from_page(c)) {
        dr_call_fail(c, MHD_HTTP_FORBIDDEN, "DENIED", "requests of web pages are not served");
    } else if (c->route != NULL && c->route->is_peer && !is_peer(c)) {
        dr_call_fail(c, MHD_HTTP_UNAUTHORIZED, "UNAUTHORIZED",
                     "this is for other peers: it needs the peer token (--peer-token-file)");
        header = MHD_HTTP_HEADER_WWW_AUTHENTICATE;
        value = "Bearer realm=\"drover-peer\"";
    } else if (!is_known && !is_open) {
        dr_call_fail(c, MHD_HTTP_UNAUTHORIZED, "UNAUTHORIZED",
                     "a valid token is needed: send Authorization: Bearer TOKEN");
        header = MHD_HTTP_HEADER_WWW_AUTHENTICATE;
        value = "Bearer realm=\"drover\"";
    } else if (c->route == NULL && allow[0] != '\0') {
        dr_call_fail(c, MHD_HTTP_METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED",
                     "the path is there, but not for this method");
        header = MHD_HTTP_HEADER_ALLOW;
        value = allow;
    } else if (c->route == NULL) {
        dr_call_fail(c, MHD_HTTP_NOT_FOUND, "NOT_FOUND", "there is nothing at this path");
    } else if (c->role < c->route->info.role) {
        struct dr_err err = {0};
        enum dr_code rc = dr_call_need(c, c->route->info.role, "this request", &err);
        dr_call_fail_err(c, rc, &err);
    } else if (c->route->is_catalog && c->api->serve->cluster == NULL) {
        dr_rest_fail_absent(c);
    } else if (check_query(c) && check_body_headers(c)) {
        return true;
    }
    *sent_out = dr_call_send(c, header, value);
    return false;
}

/* --- body and handler ----------------------------------------------------------------------------
 */

/* Large bodies share a limit; false when this one goes over it. */
static bool count_large(struct dr_call *c, size_t bytes)
{
    if (c->route->body_bytes_max == 0 || c->is_crowded) {
        return true;
    }
    c->large_bytes += bytes;
    return atomic_fetch_add(&c->api->large_bytes, bytes) + bytes <= DR_API_LARGE_BYTES_MAX;
}

/* Take a piece of the body. A body that turns out too large is read on for a while, so that the
 * client gets to see the answer, but not kept. */
static enum MHD_Result take_body(struct dr_call *c, const char *data, size_t *bytes)
{
    if (c->is_answered) {
        *bytes = 0;
        return MHD_YES;
    }
    if (dr_mono_now() > c->body_until) {
        return MHD_NO;
    }
    c->is_crowded |= !count_large(c, *bytes);
    if (c->is_crowded || c->body.len + *bytes > body_bytes_max(c)) {
        c->discarded += *bytes;
        *bytes = 0;
        size_t patience = c->is_crowded ? body_bytes_max(c) : DISCARD_BYTES_MAX;
        return c->discarded > patience ? MHD_NO : MHD_YES;
    }
    dr_str_addn(&c->body, data, *bytes);
    *bytes = 0;
    return MHD_YES;
}

static enum dr_code parse_body(struct dr_call *c, struct dr_err *err)
{
    if (c->body.is_short) {
        return dr_fail_nomem(err);
    }
    if (c->body.len == 0) {
        return c->route->body == BODY_MUST
                   ? dr_fail(err, DR_INPUT, "body: is empty, a JSON object is needed")
                   : DR_OK;
    }
    enum dr_code rc = dr_json_parse_upto("body", dr_str_text(&c->body), c->body.len,
                                         body_bytes_max(c), &c->json, err);
    dr_str_fini(&c->body); /* it may be large, and the work may take long */
    dr_str_init(&c->body);
    if (rc == DR_OK && !json_is_object(c->json)) {
        rc = dr_fail(err, DR_INPUT, "body: must be a JSON object");
    }
    return rc;
}

static enum MHD_Result answer(struct dr_call *c)
{
    struct dr_err err = {0};
    if (c->is_crowded) {
        dr_call_fail(c, MHD_HTTP_SERVICE_UNAVAILABLE, "BUSY",
                     "too many large requests at the same time; come again");
        return dr_call_send(c, NULL, NULL);
    }
    if (c->discarded > 0) {
        fail_large(c);
        return dr_call_send(c, NULL, NULL);
    }
    c->status = MHD_HTTP_OK;
    c->place = DR_AT_NOTHING;
    enum dr_code rc = parse_body(c, &err);
    if (rc == DR_OK) {
        rc = c->route->run(c, &err);
    }
    if (rc != DR_OK) {
        dr_call_fail_err(c, rc, &err);
    }
    return dr_call_send(c, NULL, NULL);
}

static struct dr_call *begin_call(struct dr_api *api, struct MHD_Connection *connection,
                                  const char *method, const char *path)
{
    struct dr_call *c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->api = api;
    c->connection = connection;
    c->begin_us = dr_mono_us();
    c->body_until = dr_mono_now() + (dr_mono_ms)DR_API_TIMEOUT_S * 1000;
    dr_copy_text(c->method, sizeof c->method, method);
    dr_copy_text(c->path, sizeof c->path, path);
    dr_str_init(&c->body);
    dr_str_init(&c->text);
    return c;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *bytes, void **call)
{
    struct dr_call *c = *call;
    enum MHD_Result sent = MHD_YES;
    (void)version;
    if (c == NULL) {
        c = begin_call(arg, connection, method, path);
        *call = c;
        if (c == NULL) {
            return MHD_NO;
        }
        (void)admit(c, path, &sent);
        return sent;
    }
    if (*bytes > 0) {
        return take_body(c, data, bytes);
    }
    return c->is_answered ? MHD_YES : answer(c);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **call,
                         enum MHD_RequestTerminationCode how)
{
    struct dr_call *c = *call;
    (void)arg;
    (void)connection;
    if (c == NULL) {
        return;
    }
    *call = NULL;
    if (c->is_answered) {
        dr_api_count_request(c);
    }
    dr_log(c->api->serve->log, DR_LOG_INFO, "request",
           "method=%s path=%s code=%u ms=%.1f who=%s end=%s", c->method, c->path, c->status,
           (double)(dr_mono_us() - c->begin_us) / 1000.0, c->who[0] != '\0' ? c->who : "-",
           how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "sent" : "cut");
    json_decref(c->json);
    json_decref(c->reply);
    dr_str_fini(&c->body);
    dr_str_fini(&c->text);
    (void)atomic_fetch_sub(&c->api->large_bytes, c->large_bytes);
    dr_free(c->param);
    dr_free(c->param2);
    dr_free(c);
}

/* --- starting and ending -------------------------------------------------------------------------
 */

static void on_library_log(void *arg, const char *fmt, va_list list)
{
    char text[API_TEXT_BYTES];
    struct dr_api *api = arg;
    (void)vsnprintf(text, sizeof text, fmt, list);
    text[strcspn(text, "\r\n")] = '\0';
    dr_log(api->serve->log, DR_LOG_DEBUG, "http", "msg=%s", text);
}

/* Paths and parameters stay as they came: what is decoded, and where, is decided in routes.c. */
static size_t leave_escaped(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text);
}

static enum dr_code start_daemon(struct dr_api *api, int fd, struct dr_err *err)
{
    api->daemon = MHD_start_daemon(
        MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_ERROR_LOG, 0, NULL,
        NULL, on_request, api, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, api,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)DR_API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)DR_API_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_END);
    if (api->daemon == NULL) {
        return dr_fail(err, DR_IO, "--listen %s: the HTTP server cannot be started",
                       api->serve->listen);
    }
    return DR_OK;
}

enum dr_code dr_api_start(const struct dr_serve *s, struct dr_metrics *m, struct dr_api **out,
                          struct dr_err *err)
{
    int fd = -1;
    struct dr_api *api = dr_calloc(1, sizeof *api);
    *out = NULL;
    if (api == NULL) {
        return dr_fail_nomem(err);
    }
    api->serve = s;
    api->metrics = m;
    api->started_at = dr_wall_now();
    (void)pthread_mutex_init(&api->ready.mutex, NULL);
    (void)pthread_mutex_init(&api->scrape, NULL);
    enum dr_code rc =
        s->tokens_path != NULL ? dr_tokens_load(s->tokens_path, &api->tokens, err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_listen_open(s->listen, api->tokens == NULL, &fd, &api->port, err);
    }
    if (rc == DR_OK) {
        rc = start_daemon(api, fd, err);
    }
    if (rc == DR_OK && s->grpc_listen != NULL) {
        rc = dr_grpc_start(api, &api->grpc, err);
    }
    if (rc != DR_OK) {
        if (fd >= 0 && api->daemon == NULL) {
            (void)close(fd);
        }
        dr_api_stop(api);
        return rc;
    }
    *out = api;
    return DR_OK;
}

uint16_t dr_api_port(const struct dr_api *api)
{
    return api->port;
}

uint16_t dr_api_grpc_port(const struct dr_api *api)
{
    return dr_grpc_port(api->grpc);
}

void dr_api_stop(struct dr_api *api)
{
    if (api == NULL) {
        return;
    }
    dr_grpc_stop(api->grpc);
    if (api->daemon != NULL) {
        MHD_stop_daemon(api->daemon); /* closes the listening socket as well */
    }
    dr_tokens_destroy(api->tokens);
    (void)pthread_mutex_destroy(&api->scrape);
    (void)pthread_mutex_destroy(&api->ready.mutex);
    dr_free(api);
}
