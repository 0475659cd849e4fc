/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the sockets between Raft peers until each end has proved to the other that it knows the
 * cluster's secret (raft_hello.h); then the stream is libraft's. The node's thread only.
 *
 *   incoming   accepted -> challenge sent -> answer checked -> welcome sent ------> libraft
 *   outgoing   connecting -> challenge read -> answer sent -> welcome checked ----> libraft
 *                    any of them -> dropped (refused, hung, closed, pushed out) -> freed
 *
 * Nobody who has not proved himself costs more than one struct and a socket for HANDSHAKE_MS, and
 * there are at most INCOMING_MAX of them: one more pushes the oldest out, since an honest peer is
 * through within a round trip and one who only holds places is not. What is libraft's is never
 * touched. */
#include <assert.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_hello.h"
#include "catalog/raft_private.h"

enum {
    HANDSHAKE_MS = 3000, /* from the first packet to the proof */
    SWEEP_MS = 200,
    INCOMING_MAX = 64, /* connections not yet proved */
    BACKLOG = 128,
    WRITES_MAX = 2, /* of one handshake */
};

struct transport;
struct link { /* one connection before it is libraft's */
    struct transport *t;
    struct link *before, *after; /* by age */
    uv_tcp_t *tcp;               /* raft_malloc: libraft frees it with raft_free */
    uv_connect_t connect;
    uv_write_t write[WRITES_MAX];
    unsigned write_count, writes_open;
    bool is_incoming, is_connected, is_proved, is_dropped;
    dr_mono_ms deadline;
    struct hello_ends ends;
    struct raft_uv_connect *req; /* outgoing */
    int status;                  /* for it, when dropped */
    char other[DR_NODE_ADDRESS_BYTES_MAX];
    unsigned char challenge[HELLO_CHALLENGE_BYTES];
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    unsigned char *into; /* the message being read */
    size_t wanted, got;
};

struct transport {
    struct raft_uv_transport *base;
    uv_loop_t *loop;
    struct dr_log *log;
    char *secret_text, *bind, *address;
    struct hello_secret secret;
    uint64_t id;
    uv_tcp_t listener;
    uv_timer_t sweep;
    unsigned handles_open; /* of these two */
    bool is_closing;
    bool is_stalled; /* a connection could not be accepted for want of memory */
    struct link *first, *last;
    unsigned incoming_count, dropped_count;
    raft_uv_accept_cb on_accept;
    raft_uv_transport_close_cb on_close;
};

/* --- links --- */

static void on_sweep(uv_timer_t *timer);

static void append_link(struct link *l)
{
    struct transport *t = l->t;
    l->before = t->last;
    *(t->last == NULL ? &t->first : &t->last->after) = l;
    t->last = l;
    t->incoming_count += l->is_incoming;
    l->deadline = dr_mono_now() + HANDSHAKE_MS;
    if (t->handles_open > 0 && !uv_is_active((uv_handle_t *)&t->sweep)) {
        (void)uv_timer_start(&t->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    }
}

static void take_link(struct link *l)
{
    struct transport *t = l->t;
    *(l->before == NULL ? &t->first : &l->before->after) = l->after;
    *(l->after == NULL ? &t->last : &l->after->before) = l->before;
    l->before = l->after = NULL;
    t->incoming_count -= l->is_incoming;
}

static void end_if_closed(struct transport *t)
{
    if (t->is_closing && t->handles_open == 0 && t->dropped_count == 0 && t->on_close != NULL) {
        raft_uv_transport_close_cb on_close = t->on_close;
        t->on_close = NULL;
        on_close(t->base);
    }
}

static void on_link_closed(uv_handle_t *handle)
{
    struct link *l = handle->data;
    struct transport *t = l->t;
    raft_free(l->tcp);
    if (!l->is_incoming) {
        l->req->cb(l->req, NULL, t->is_closing ? RAFT_CANCELED : l->status);
    }
    dr_free(l);
    t->dropped_count--;
    end_if_closed(t);
}

static void drop_link(struct link *l, int status)
{
    if (l->is_dropped) {
        return;
    }
    l->is_dropped = true;
    l->status = status;
    take_link(l);
    l->t->dropped_count++;
    uv_close((uv_handle_t *)l->tcp, on_link_closed);
}

/* Say why, once: the log counts what repeats. */
static void refuse_link(struct link *l, const char *why)
{
    if (l->is_dropped) {
        return;
    }
    if (l->is_incoming) {
        dr_log(l->t->log, DR_LOG_WARN, "raft connection refused", "from=%s why=%s", l->other, why);
    } else {
        dr_log(l->t->log, DR_LOG_WARN, "raft peer not reached", "to=%s why=%s", l->other, why);
    }
    drop_link(l, RAFT_NOCONNECTION);
}

/* Both ends are proved and everything is written: the stream is libraft's from here on. */
static void hand_over_if_ready(struct link *l)
{
    if (!l->is_proved || l->is_dropped || l->writes_open > 0) {
        return;
    }
    struct transport *t = l->t;
    uv_stream_t *stream = (uv_stream_t *)l->tcp;
    (void)uv_read_stop(stream);
    (void)uv_tcp_nodelay(l->tcp, 1);
    take_link(l);
    if (l->is_incoming) {
        t->on_accept(t->base, l->ends.from_id, l->ends.from_address, stream);
    } else {
        l->req->cb(l->req, stream, 0);
    }
    dr_free(l);
}

static void on_written(uv_write_t *write, int status)
{
    struct link *l = write->data;
    l->writes_open--;
    if (l->is_dropped) {
        return;
    }
    if (status != 0) {
        refuse_link(l, uv_strerror(status));
        return;
    }
    hand_over_if_ready(l);
}

static enum dr_code write_message(struct link *l, unsigned char *message, size_t bytes,
                                  struct dr_err *err)
{
    assert(l->write_count < WRITES_MAX);
    uv_write_t *write = &l->write[l->write_count];
    uv_buf_t buf = uv_buf_init((char *)message, (unsigned)bytes);
    write->data = l;
    int failure = uv_write(write, (uv_stream_t *)l->tcp, &buf, 1, on_written);
    if (failure != 0) {
        return dr_fail(err, DR_IO, "%s", uv_strerror(failure));
    }
    l->write_count++;
    l->writes_open++;
    return DR_OK;
}

/* --- what the messages mean --- */

static void read_next(struct link *l, unsigned char *into, size_t bytes)
{
    l->into = into;
    l->wanted = bytes;
    l->got = 0;
}

static enum dr_code take_answer(struct link *l, struct dr_err *err)
{
    struct transport *t = l->t;
    if (l->wanted == HELLO_HEAD_BYTES) { /* who is no peer is told apart before he sends more */
        enum dr_code rc = dr_hello_check_head(l->answer, err);
        l->wanted = HELLO_ANSWER_BYTES;
        return rc;
    }
    enum dr_code rc = dr_hello_check_answer(&t->secret, l->challenge, l->answer, t->id, t->address,
                                            &l->ends, err);
    if (rc == DR_OK) {
        rc = dr_hello_put_welcome(&t->secret, l->challenge, l->answer, l->welcome, err);
    }
    if (rc == DR_OK) {
        rc = write_message(l, l->welcome, sizeof l->welcome, err);
    }
    l->is_proved = rc == DR_OK;
    return rc;
}

static enum dr_code take_challenge(struct link *l, struct dr_err *err)
{
    unsigned char nonce[HELLO_NONCE_BYTES];
    enum dr_code rc = dr_hello_check_challenge(l->challenge, err);
    if (rc == DR_OK) {
        rc = dr_hello_nonce(nonce, err);
    }
    if (rc == DR_OK) {
        rc = dr_hello_put_answer(&l->t->secret, l->challenge, &l->ends, nonce, l->answer, err);
    }
    if (rc == DR_OK) {
        rc = write_message(l, l->answer, sizeof l->answer, err);
    }
    read_next(l, l->welcome, sizeof l->welcome);
    return rc;
}

static enum dr_code take_message(struct link *l, struct dr_err *err)
{
    if (l->is_incoming) {
        return take_answer(l, err);
    }
    if (l->into == l->challenge) {
        return take_challenge(l, err);
    }
    enum dr_code rc =
        dr_hello_check_welcome(&l->t->secret, l->challenge, l->answer, l->welcome, err);
    l->is_proved = rc == DR_OK;
    return rc;
}

/* What a silence or an end of the connection means depends on how far both had come. */
static const char *explain_end(const struct link *l, bool is_timeout)
{
    if (l->is_incoming) {
        return is_timeout ? "it sent no answer to the challenge in time"
                          : "it closed the connection during the handshake";
    }
    if (!l->is_connected) {
        return "no connection in time";
    }
    if (l->into == l->challenge) {
        return is_timeout ? "that peer asks for no secret; give it the --raft-secret-file of this "
                            "one"
                          : "it closed the connection without a challenge; is it a drover peer?";
    }
    return is_timeout ? "it did not welcome this peer in time"
                      : "it refused this peer; is the --raft-secret-file the same there? its log "
                        "says why";
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct link *l = handle->data;
    (void)suggested; /* never more than the message: what follows is for libraft */
    *buf = uv_buf_init((char *)l->into + l->got, (unsigned)(l->wanted - l->got));
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buf)
{
    struct link *l = stream->data;
    struct dr_err err = {0};
    (void)buf;
    if (bytes == 0) {
        return;
    }
    if (bytes < 0) {
        refuse_link(l, explain_end(l, false));
        return;
    }
    l->got += (size_t)bytes;
    assert(l->got <= l->wanted);
    if (l->got < l->wanted) {
        return;
    }
    if (take_message(l, &err) != DR_OK) {
        refuse_link(l, err.msg);
        return;
    }
    if (l->is_proved) {
        (void)uv_read_stop(stream);
        hand_over_if_ready(l);
    }
}

/* --- incoming --- */

static struct link *make_link(struct transport *t, bool is_incoming)
{
    struct link *l = dr_calloc(1, sizeof *l);
    uv_tcp_t *tcp = l == NULL ? NULL : raft_malloc(sizeof *tcp);
    if (tcp == NULL) {
        dr_free(l);
        return NULL;
    }
    (void)uv_tcp_init(t->loop, tcp); /* opens nothing yet: it cannot fail */
    tcp->data = l;
    l->t = t;
    l->tcp = tcp;
    l->is_incoming = is_incoming;
    return l;
}

static void note_other(struct link *l)
{
    struct sockaddr_storage at = {0};
    int bytes = (int)sizeof at;
    dr_copy_text(l->other, sizeof l->other, "?");
    if (uv_tcp_getpeername(l->tcp, (struct sockaddr *)&at, &bytes) == 0 &&
        at.ss_family == AF_INET) {
        (void)uv_ip4_name((const struct sockaddr_in *)&at, l->other, sizeof l->other);
    }
}

static void push_out_oldest(struct transport *t)
{
    for (struct link *l = t->first; l != NULL; l = l->after) {
        if (l->is_incoming) {
            refuse_link(l, "too many connections without a proof at the same time");
            return;
        }
    }
}

static void accept_one(struct transport *t)
{
    unsigned char nonce[HELLO_NONCE_BYTES];
    struct dr_err err = {0};
    struct link *l = make_link(t, true);
    t->is_stalled = l == NULL; /* libuv calls again only when it was accepted: the sweep does */
    if (l == NULL) {
        (void)uv_timer_start(&t->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
        return;
    }
    if (t->incoming_count >= INCOMING_MAX) {
        push_out_oldest(t);
    }
    append_link(l);
    int failure = uv_accept((uv_stream_t *)&t->listener, (uv_stream_t *)l->tcp);
    if (failure != 0) {
        drop_link(l, RAFT_NOCONNECTION);
        return;
    }
    l->is_connected = true;
    note_other(l);
    enum dr_code rc = dr_hello_nonce(nonce, &err);
    if (rc == DR_OK) {
        dr_hello_put_challenge(nonce, l->challenge);
        rc = write_message(l, l->challenge, sizeof l->challenge, &err);
    }
    read_next(l, l->answer, HELLO_HEAD_BYTES);
    if (rc == DR_OK && uv_read_start((uv_stream_t *)l->tcp, give_buffer, on_read) != 0) {
        rc = dr_fail(&err, DR_IO, "the connection cannot be read");
    }
    if (rc != DR_OK) {
        refuse_link(l, err.msg);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct transport *t = listener->data;
    if (status == 0 && !t->is_closing) {
        accept_one(t);
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    dr_mono_ms now = dr_mono_now();
    if (t->is_stalled) {
        accept_one(t);
    }
    while (t->first != NULL && t->first->deadline <= now) { /* the oldest are first */
        refuse_link(t->first, explain_end(t->first, true));
    }
    if (t->first == NULL && !t->is_stalled) {
        (void)uv_timer_stop(timer);
    }
}

/* --- outgoing --- */

static void on_connected(uv_connect_t *connect, int status)
{
    struct link *l = connect->data;
    if (l->is_dropped) {
        return;
    }
    if (status != 0) { /* a peer that is down: libraft tries again, and the status shows it */
        drop_link(l, RAFT_NOCONNECTION);
        return;
    }
    l->is_connected = true;
    read_next(l, l->challenge, sizeof l->challenge);
    if (uv_read_start((uv_stream_t *)l->tcp, give_buffer, on_read) != 0) {
        refuse_link(l, "the connection cannot be read");
    }
}

/* "127.0.0.1:7010" */
static bool read_address(const char *text, struct sockaddr_in *out)
{
    char host[DR_NODE_ADDRESS_BYTES_MAX];
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof host || !dr_parse_u64(colon + 1, &port) ||
        port > UINT16_MAX) {
        return false;
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    return uv_ip4_addr(host, (int)port, out) == 0;
}

static int connect_peer(struct raft_uv_transport *base, struct raft_uv_connect *req, raft_id id,
                        const char *address, raft_uv_connect_cb cb)
{
    struct transport *t = base->impl;
    struct sockaddr_in at;
    if (!read_address(address, &at)) {
        (void)snprintf(base->errmsg, sizeof base->errmsg, "%s is not IPv4:PORT", address);
        return RAFT_INVALID;
    }
    struct link *l = make_link(t, false);
    if (l == NULL) {
        return RAFT_NOMEM;
    }
    l->req = req;
    req->cb = cb;
    l->connect.data = l;
    l->ends.from_id = t->id;
    l->ends.to_id = id;
    dr_copy_text(l->ends.from_address, sizeof l->ends.from_address, t->address);
    dr_copy_text(l->ends.to_address, sizeof l->ends.to_address, address);
    dr_copy_text(l->other, sizeof l->other, address);
    append_link(l);
    if (uv_tcp_connect(&l->connect, l->tcp, (const struct sockaddr *)&at, on_connected) != 0) {
        drop_link(l, RAFT_NOCONNECTION); /* and the request learns it from there */
    }
    return 0;
}

/* --- libraft's interface --- */

static int init_transport(struct raft_uv_transport *base, raft_id id, const char *address)
{
    struct transport *t = base->impl;
    t->id = id;
    t->address = dr_strdup(address);
    return t->address == NULL ? RAFT_NOMEM : 0;
}

static int listen_for_peers(struct raft_uv_transport *base, raft_uv_accept_cb cb)
{
    struct transport *t = base->impl;
    const char *where = t->bind == NULL ? t->address : t->bind;
    struct sockaddr_in at;
    t->on_accept = cb;
    if (!read_address(where, &at)) {
        (void)snprintf(base->errmsg, sizeof base->errmsg, "%s is not IPv4:PORT", where);
        return RAFT_INVALID;
    }
    (void)uv_tcp_init(t->loop, &t->listener);
    (void)uv_timer_init(t->loop, &t->sweep);
    t->listener.data = t->sweep.data = t;
    t->handles_open = 2;
    int failure = uv_tcp_bind(&t->listener, (const struct sockaddr *)&at, 0);
    if (failure == 0) {
        failure = uv_listen((uv_stream_t *)&t->listener, BACKLOG, on_connection);
    }
    if (failure != 0) {
        (void)snprintf(base->errmsg, sizeof base->errmsg, "listen at %s: %s", where,
                       uv_strerror(failure));
        return RAFT_IOERR;
    }
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct transport *t = handle->data;
    t->handles_open--;
    end_if_closed(t);
}

static void close_transport(struct raft_uv_transport *base, raft_uv_transport_close_cb cb)
{
    struct transport *t = base->impl;
    assert(!t->is_closing);
    t->is_closing = true;
    t->on_close = cb;
    while (t->first != NULL) {
        drop_link(t->first, RAFT_CANCELED);
    }
    if (t->handles_open > 0) {
        uv_close((uv_handle_t *)&t->listener, on_handle_closed);
        uv_close((uv_handle_t *)&t->sweep, on_handle_closed);
    }
    end_if_closed(t);
}

enum dr_code dr_transport_open(struct raft_uv_transport *base, uv_loop_t *loop,
                               const struct transport_config *config, struct dr_err *err)
{
    struct transport *t = dr_calloc(1, sizeof *t);
    *base = (struct raft_uv_transport){.impl = t,
                                       .init = init_transport,
                                       .listen = listen_for_peers,
                                       .connect = connect_peer,
                                       .close = close_transport};
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->base = base;
    t->loop = loop;
    t->log = config->log;
    t->secret_text = dr_strdup(config->secret);
    t->bind = config->bind == NULL ? NULL : dr_strdup(config->bind);
    if (t->secret_text == NULL || (config->bind != NULL && t->bind == NULL)) {
        dr_transport_fini(base);
        return dr_fail_nomem(err);
    }
    t->secret.bytes = (const unsigned char *)t->secret_text;
    t->secret.count = strlen(t->secret_text);
    return DR_OK;
}

void dr_transport_fini(struct raft_uv_transport *base)
{
    struct transport *t = base->impl;
    if (t == NULL) {
        return;
    }
    assert(t->first == NULL && t->dropped_count == 0);
    if (t->secret_text != NULL) {
        OPENSSL_cleanse(t->secret_text, strlen(t->secret_text));
    }
    dr_free(t->secret_text);
    dr_free(t->bind);
    dr_free(t->address);
    dr_free(t);
    base->impl = NULL;
}
