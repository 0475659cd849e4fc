/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the gRPC server: a fixed number of slots, each of which takes one call after the other from
 * its headers to its status, and as many threads on one completion queue. grpc core does HTTP/2,
 * deadlines and the inflation of gzip. A slot whose client does not send its message in time is
 * cancelled. */
#ifdef DROVER_GRPC
#include "api/grpc_private.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "base/mem.h"

enum {
    SLOTS = 16, /* calls at the same time, each of up to DR_API_POINTS_BYTES_MAX */
    GRACE_MS = 10 * 1000,
    TICK_MS = 1000,
    STREAMS_MAX = 64,
    KEEPALIVE_MS = 60 * 1000,
    KEEPALIVE_PATIENCE_MS = 20 * 1000,
    METHOD_BYTES = 128,
    TOKEN_TEXT_BYTES = 192,
};

enum stage { STAGE_IDLE, STAGE_ACCEPT, STAGE_READ, STAGE_ANSWER };

struct slot {
    struct dr_grpc *server;
    pthread_mutex_t mutex; /* of call, against the cancelling of late ones */
    enum stage stage;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message;
    grpc_byte_buffer *answer;
    int is_cancelled;
    dr_mono_ms read_until;
    int64_t begin_us;
    const struct dr_grpc_method *method;
    char name[METHOD_BYTES];
    char who[DR_NAME_BYTES];
    int status;
};

struct dr_grpc {
    struct dr_api *api;
    grpc_server *server;
    grpc_completion_queue *queue;
    uint16_t port;
    pthread_t thread[SLOTS];
    unsigned thread_count;
    struct slot slot[SLOTS];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_stopping;
    bool is_shut;    /* the server has told that it takes no more */
    unsigned active; /* slots that wait for an event */
};

static void to_text(grpc_slice s, char *buf, size_t buf_bytes)
{
    size_t length = GRPC_SLICE_LENGTH(s);
    length = length < buf_bytes ? length : buf_bytes - 1;
    memcpy(buf, GRPC_SLICE_START_PTR(s), length);
    buf[length] = '\0';
}

/* --- who it is -----------------------------------------------------------------------------------
 */

static bool find_token(const struct slot *s, char *buf, size_t buf_bytes)
{
    static const char scheme[] = "Bearer ";
    bool is_found = false;
    for (size_t i = 0; i < s->metadata.count && !is_found; i++) {
        const grpc_metadata *m = &s->metadata.metadata[i];
        if (grpc_slice_str_cmp(m->key, "api-key") == 0) {
            to_text(m->value, buf, buf_bytes);
            is_found = buf[0] != '\0';
        } else if (grpc_slice_str_cmp(m->key, "authorization") == 0) {
            to_text(m->value, buf, buf_bytes);
            is_found = strncasecmp(buf, scheme, sizeof scheme - 1) == 0;
            if (is_found) {
                memmove(buf, buf + sizeof scheme - 1, strlen(buf + sizeof scheme - 1) + 1);
            }
        }
    }
    return is_found;
}

static enum dr_api_role authenticate(struct slot *s)
{
    char token[TOKEN_TEXT_BYTES] = "";
    char name[DR_NAME_BYTES / 2] = "";
    enum dr_api_role role = DR_ROLE_NONE;
    const struct dr_tokens *tokens = s->server->api->tokens;
    if (tokens == NULL) {
        dr_copy_text(s->who, sizeof s->who, "grpc:loopback");
        return DR_ROLE_ADMIN;
    }
    if (find_token(s, token, sizeof token)) {
        role = dr_tokens_find(tokens, token, name, sizeof name);
    }
    explicit_bzero(token, sizeof token);
    (void)snprintf(s->who, sizeof s->who, "grpc:%s", name);
    return role;
}

/* What can be said before the message: 0 to go on. */
static int admit(struct slot *s, struct dr_grpc_outcome *out)
{
    enum dr_api_role role = authenticate(s);
    s->method = dr_grpc_method_find(s->name);
    if (s->method == NULL) {
        out->status = GRPC_STATUS_UNIMPLEMENTED;
        (void)snprintf(out->text, sizeof out->text, "there is no call %s", s->name);
    } else if (s->method->role != DR_ROLE_NONE && role == DR_ROLE_NONE) {
        out->status = GRPC_STATUS_UNAUTHENTICATED;
        dr_copy_text(out->text, sizeof out->text, "a valid token is needed: send api-key");
    } else if (role < s->method->role) {
        out->status = GRPC_STATUS_PERMISSION_DENIED;
        (void)snprintf(out->text, sizeof out->text,
                       "Forbidden: this call needs the role %s; this token has %s",
                       dr_role_name(s->method->role), dr_role_name(role));
    } else if (s->method->verb != NULL && s->server->api->serve->cluster == NULL) {
        out->status = GRPC_STATUS_UNIMPLEMENTED;
        dr_copy_text(out->text, sizeof out->text, "this daemon has no catalog of collections");
    }
    return out->status;
}

/* --- the stages ----------------------------------------------------------------------------------
 */

static void set_stage(struct slot *s, enum stage stage)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->stage = stage;
    (void)pthread_mutex_unlock(&s->mutex);
}

static void leave(struct slot *s)
{
    struct dr_grpc *g = s->server;
    set_stage(s, STAGE_IDLE);
    (void)pthread_mutex_lock(&g->mutex);
    g->active--;
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->mutex);
}

/* Wait for the next call; no more when the server ends. */
static void accept_next(struct slot *s)
{
    struct dr_grpc *g = s->server;
    grpc_metadata_array_init(&s->metadata);
    grpc_call_details_init(&s->details);
    set_stage(s, STAGE_ACCEPT);
    if (grpc_server_request_call(g->server, &s->call, &s->details, &s->metadata, g->queue, g->queue,
                                 s) != GRPC_CALL_OK) {
        grpc_metadata_array_destroy(&s->metadata);
        grpc_call_details_destroy(&s->details);
        leave(s);
    }
}

static void release_call(struct slot *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    if (s->call != NULL) {
        grpc_call_unref(s->call);
    }
    s->call = NULL;
    (void)pthread_mutex_unlock(&s->mutex);
    if (s->message != NULL) {
        grpc_byte_buffer_destroy(s->message);
    }
    if (s->answer != NULL) {
        grpc_byte_buffer_destroy(s->answer);
    }
    s->message = NULL;
    s->answer = NULL;
    grpc_metadata_array_destroy(&s->metadata);
    grpc_call_details_destroy(&s->details);
}

static void finish_call(struct slot *s)
{
    dr_log(s->server->api->serve->log, DR_LOG_INFO, "request",
           "method=gRPC path=%s code=%d ms=%.1f who=%s end=%s", s->name, s->status,
           (double)(dr_mono_us() - s->begin_us) / 1000.0, s->who,
           s->is_cancelled != 0 ? "cut" : "sent");
    release_call(s);
    struct dr_grpc *g = s->server;
    (void)pthread_mutex_lock(&g->mutex);
    bool is_stopping = g->is_stopping;
    (void)pthread_mutex_unlock(&g->mutex);
    if (is_stopping) {
        leave(s);
    } else {
        accept_next(s);
    }
}

static void send_outcome(struct slot *s, struct dr_grpc_outcome *out)
{
    grpc_op op[4];
    size_t count = 0;
    grpc_slice details = grpc_slice_from_copied_string(out->text);
    memset(op, 0, sizeof op);
    op[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (out->data != NULL) {
        grpc_slice body = grpc_slice_from_copied_buffer((const char *)out->data, out->bytes);
        s->answer = grpc_raw_byte_buffer_create(&body, 1);
        grpc_slice_unref(body);
        op[count].op = GRPC_OP_SEND_MESSAGE;
        op[count++].data.send_message.send_message = s->answer;
    }
    op[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op[count].data.send_status_from_server.status = (grpc_status_code)out->status;
    op[count++].data.send_status_from_server.status_details = &details;
    op[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op[count++].data.recv_close_on_server.cancelled = &s->is_cancelled;
    set_stage(s, STAGE_ANSWER);
    s->status = out->status;
    grpc_call_error rc = grpc_call_start_batch(s->call, op, count, s, NULL);
    grpc_slice_unref(details);
    dr_free(out->data);
    out->data = NULL;
    if (rc != GRPC_CALL_OK) {
        dr_log(s->server->api->serve->log, DR_LOG_ERROR, "gRPC does not take an answer", "rc=%d",
               (int)rc);
        finish_call(s);
    }
}

static void read_message(struct slot *s)
{
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &s->message;
    (void)pthread_mutex_lock(&s->mutex);
    s->read_until = dr_mono_now() + (dr_mono_ms)DR_API_TIMEOUT_S * 1000;
    s->stage = STAGE_READ;
    (void)pthread_mutex_unlock(&s->mutex);
    if (grpc_call_start_batch(s->call, &op, 1, s, NULL) != GRPC_CALL_OK) {
        struct dr_grpc_outcome out = {.status = GRPC_STATUS_INTERNAL};
        send_outcome(s, &out);
    }
}

static void on_accepted(struct slot *s)
{
    struct dr_grpc_outcome out = {0};
    s->begin_us = dr_mono_us();
    s->is_cancelled = 0;
    to_text(s->details.method, s->name, sizeof s->name);
    if (admit(s, &out) != 0) {
        send_outcome(s, &out);
    } else {
        read_message(s);
    }
}

static uint64_t deadline_ms(const struct slot *s)
{
    gpr_timespec left =
        gpr_time_sub(gpr_convert_clock_type(s->details.deadline, GPR_CLOCK_REALTIME),
                     gpr_now(GPR_CLOCK_REALTIME));
    int32_t ms = gpr_time_to_millis(left);
    bool is_none =
        gpr_time_cmp(s->details.deadline, gpr_inf_future(s->details.deadline.clock_type)) == 0;
    return is_none ? 0 : ms < 1 ? 1 : (uint64_t)ms;
}

static void run_message(struct slot *s, struct dr_grpc_outcome *out)
{
    grpc_byte_buffer_reader reader;
    struct dr_api *api = s->server->api;
    if (grpc_byte_buffer_reader_init(&reader, s->message) == 0) {
        out->status = GRPC_STATUS_INTERNAL;
        dr_copy_text(out->text, sizeof out->text, "the message cannot be inflated");
        return;
    }
    grpc_slice body = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    size_t bytes = GRPC_SLICE_LENGTH(body);
    if (atomic_fetch_add(&api->large_bytes, bytes) + bytes > DR_API_LARGE_BYTES_MAX) {
        out->status = GRPC_STATUS_RESOURCE_EXHAUSTED;
        dr_copy_text(out->text, sizeof out->text,
                     "too many large requests at the same time; come again");
    } else {
        dr_grpc_run(api->serve->cluster, s->method, s->who, deadline_ms(s),
                    GRPC_SLICE_START_PTR(body), bytes, out);
    }
    (void)atomic_fetch_sub(&api->large_bytes, bytes);
    grpc_slice_unref(body);
}

static void on_read(struct slot *s)
{
    struct dr_grpc_outcome out = {0};
    set_stage(s, STAGE_ANSWER); /* late or not, it is not cancelled any more */
    if (s->message == NULL) {
        out.status = GRPC_STATUS_INVALID_ARGUMENT;
        dr_copy_text(out.text, sizeof out.text, "the call came without a whole message");
    } else {
        run_message(s, &out);
    }
    send_outcome(s, &out);
}

static void on_event(struct slot *s, bool is_ok)
{
    switch (s->stage) {
    case STAGE_ACCEPT:
        if (is_ok) {
            on_accepted(s);
        } else {
            grpc_metadata_array_destroy(&s->metadata);
            grpc_call_details_destroy(&s->details);
            leave(s);
        }
        return;
    case STAGE_READ:
        on_read(s);
        return;
    case STAGE_ANSWER:
        finish_call(s);
        return;
    case STAGE_IDLE:
        return;
    }
}

static void cancel_late(struct dr_grpc *g)
{
    dr_mono_ms now = dr_mono_now();
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &g->slot[i];
        (void)pthread_mutex_lock(&s->mutex);
        if (s->stage == STAGE_READ && now > s->read_until) {
            (void)grpc_call_cancel(s->call, NULL);
        }
        (void)pthread_mutex_unlock(&s->mutex);
    }
}

static void *work(void *arg)
{
    struct dr_grpc *g = arg;
    for (;;) {
        gpr_timespec until =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(TICK_MS, GPR_TIMESPAN));
        grpc_event e = grpc_completion_queue_next(g->queue, until, NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        if (e.type == GRPC_QUEUE_TIMEOUT) {
            cancel_late(g);
        } else if (e.tag == g) {
            (void)pthread_mutex_lock(&g->mutex);
            g->is_shut = true;
            (void)pthread_cond_broadcast(&g->changed);
            (void)pthread_mutex_unlock(&g->mutex);
        } else {
            on_event(e.tag, e.success != 0);
        }
    }
}

/* --- starting and ending -------------------------------------------------------------------------
 */

static grpc_server *make_server(void)
{
    grpc_arg arg[] = {
        {.type = GRPC_ARG_INTEGER, .key = "grpc.max_receive_message_length"},
        {.type = GRPC_ARG_INTEGER, .key = "grpc.max_metadata_size"},
        {.type = GRPC_ARG_INTEGER, .key = "grpc.max_concurrent_streams"},
        {.type = GRPC_ARG_INTEGER, .key = "grpc.keepalive_time_ms"},
        {.type = GRPC_ARG_INTEGER, .key = "grpc.keepalive_timeout_ms"},
        {.type = GRPC_ARG_INTEGER, .key = "grpc.so_reuseport"}, /* a second server is a mistake */
    };
    const int value[] = {DR_API_POINTS_BYTES_MAX,
                         DR_API_HEADER_BYTES_MAX,
                         STREAMS_MAX,
                         KEEPALIVE_MS,
                         KEEPALIVE_PATIENCE_MS,
                         0};
    for (size_t i = 0; i < sizeof arg / sizeof arg[0]; i++) {
        arg[i].value.integer = value[i];
    }
    const grpc_channel_args args = {.num_args = sizeof arg / sizeof arg[0], .args = arg};
    return grpc_server_create(&args, NULL);
}

static enum dr_code listen_at(struct dr_grpc *g, const char *where, struct dr_err *err)
{
    g->queue = grpc_completion_queue_create_for_next(NULL);
    g->server = make_server();
    grpc_server_register_completion_queue(g->server, g->queue, NULL);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(g->server, where, plain);
    grpc_server_credentials_release(plain);
    if (port == 0) {
        return dr_fail(err, DR_IO, "--grpc-listen %s: cannot listen; is something else there?",
                       where);
    }
    g->port = (uint16_t)port;
    return DR_OK;
}

enum dr_code dr_grpc_start(struct dr_api *api, struct dr_grpc **out, struct dr_err *err)
{
    const char *where = api->serve->grpc_listen;
    *out = NULL;
    enum dr_code rc = dr_listen_check("--grpc-listen", where, api->tokens == NULL, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_grpc *g = dr_calloc(1, sizeof *g);
    if (g == NULL) {
        return dr_fail_nomem(err);
    }
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    grpc_init();
    g->api = api;
    (void)pthread_mutex_init(&g->mutex, NULL);
    dr_mono_cond_init(&g->changed);
    for (unsigned i = 0; i < SLOTS; i++) {
        g->slot[i].server = g;
        (void)pthread_mutex_init(&g->slot[i].mutex, NULL);
    }
    rc = listen_at(g, where, err);
    if (rc == DR_OK) {
        grpc_server_start(g->server);
        g->active = SLOTS;
        for (unsigned i = 0; i < SLOTS; i++) {
            accept_next(&g->slot[i]);
        }
    }
    while (rc == DR_OK && g->thread_count < SLOTS) {
        if (pthread_create(&g->thread[g->thread_count], NULL, work, g) != 0) {
            rc = g->thread_count == 0 ? dr_fail(err, DR_NOMEM, "no thread for gRPC") : DR_OK;
            break; /* fewer do as well */
        }
        g->thread_count++;
    }
    if (rc != DR_OK) {
        dr_grpc_stop(g);
        return rc;
    }
    *out = g;
    return DR_OK;
}

uint16_t dr_grpc_port(const struct dr_grpc *g)
{
    return g != NULL ? g->port : 0;
}

static bool is_at_rest(const struct dr_grpc *g)
{
    return g->is_shut && g->active == 0;
}

/* Calls at hand may end; what takes too long is cancelled. */
static void wait_for_rest(struct dr_grpc *g)
{
    struct timespec until = dr_mono_deadline(GRACE_MS);
    (void)pthread_mutex_lock(&g->mutex);
    g->is_stopping = true;
    (void)pthread_mutex_unlock(&g->mutex);
    grpc_server_shutdown_and_notify(g->server, g->queue, g);
    (void)pthread_mutex_lock(&g->mutex);
    int rc = 0;
    while (!is_at_rest(g) && rc == 0) {
        rc = pthread_cond_timedwait(&g->changed, &g->mutex, &until);
    }
    bool is_late = !is_at_rest(g);
    (void)pthread_mutex_unlock(&g->mutex);
    if (is_late) {
        grpc_server_cancel_all_calls(g->server);
    }
    (void)pthread_mutex_lock(&g->mutex);
    while (!is_at_rest(g)) {
        (void)pthread_cond_wait(&g->changed, &g->mutex);
    }
    (void)pthread_mutex_unlock(&g->mutex);
}

/* Without a thread nobody takes the events: this one does. */
static void drain(struct dr_grpc *g)
{
    grpc_completion_queue_shutdown(g->queue);
    for (unsigned i = 0; i < g->thread_count; i++) {
        (void)pthread_join(g->thread[i], NULL);
    }
    if (g->thread_count == 0) {
        (void)work(g);
    }
}

void dr_grpc_stop(struct dr_grpc *g)
{
    if (g == NULL) {
        return;
    }
    if (g->thread_count > 0) {
        wait_for_rest(g);
    } else if (g->server != NULL) {
        g->is_stopping = true;
        grpc_server_shutdown_and_notify(g->server, g->queue, g);
    }
    drain(g);
    grpc_server_destroy(g->server);
    grpc_completion_queue_destroy(g->queue);
    grpc_shutdown();
    for (unsigned i = 0; i < SLOTS; i++) {
        (void)pthread_mutex_destroy(&g->slot[i].mutex);
    }
    (void)pthread_cond_destroy(&g->changed);
    (void)pthread_mutex_destroy(&g->mutex);
    dr_free(g);
}
#endif
