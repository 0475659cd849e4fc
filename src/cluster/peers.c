/* SPDX-License-Identifier: Apache-2.0 */
/* Owns talking to other peers: POST {uri}/internal/{name} with the peer token, JSON both ways.
 *
 * An answer's result is {"class", "message", "result"}: the class travels inside, so nothing is
 * guessed from an HTTP status. A handle of store/http belongs to one thread at a time: callers
 * borrow one, and what they leave behind (kept connections) serves the next. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_private.h"

enum { LOOK_MS = 250 }; /* how soon a wait for answers notices that this peer stops */

static struct http_spare *borrow_http(struct dr_cluster *c, struct dr_err *err)
{
    (void)pthread_mutex_lock(&c->http_lock);
    struct http_spare *spare = c->http;
    if (spare != NULL) {
        c->http = spare->next;
    }
    (void)pthread_mutex_unlock(&c->http_lock);
    if (spare != NULL) {
        return spare;
    }
    spare = dr_calloc(1, sizeof *spare);
    if (spare == NULL) {
        dr_note_nomem(err);
        return NULL;
    }
    const struct dr_http_config config = {.connections_max = DR_PEERS_MAX,
                                          .connect_timeout_ms = PEER_LOOK_MS};
    enum dr_code rc = dr_http_create(&config, &spare->http, err);
    if (rc != DR_OK) {
        dr_free(spare);
        return NULL;
    }
    return spare;
}

/* One with open requests is not kept: nobody waits for their answers any more. */
static void return_http(struct dr_cluster *c, struct http_spare *spare)
{
    if (dr_http_open_count(spare->http) > 0) {
        dr_http_destroy(spare->http);
        dr_free(spare);
        return;
    }
    (void)pthread_mutex_lock(&c->http_lock);
    spare->next = c->http;
    c->http = spare;
    (void)pthread_mutex_unlock(&c->http_lock);
}

void dr_peers_fini(struct dr_cluster *c)
{
    while (c->http != NULL) {
        struct http_spare *spare = c->http;
        c->http = spare->next;
        dr_http_destroy(spare->http);
        dr_free(spare);
    }
}

static void fail_call(struct peer_call *call, enum dr_http_failure failure, const char *why)
{
    call->failure = failure;
    dr_copy_text(call->detail, sizeof call->detail, why);
}

static void read_frame(struct peer_call *call, const json_t *frame)
{
    const char *cls = json_string_value(json_object_get(frame, "class"));
    const char *message = json_string_value(json_object_get(frame, "message"));
    if (!dr_class_parse(cls, &call->reply.class)) {
        fail_call(call, DR_HTTP_BROKEN, "the answer has no class: is this a drover peer?");
        return;
    }
    dr_copy_text(call->reply.message, sizeof call->reply.message, message == NULL ? "" : message);
    call->reply.result = json_incref(json_object_get(frame, "result"));
    call->failure = DR_HTTP_NONE;
}

static void read_answer(struct peer_call *call, struct dr_http_answer *a)
{
    json_t *j = NULL;
    struct dr_err err = {0};
    if (a->failure != DR_HTTP_NONE) {
        fail_call(call, a->failure, a->detail);
    } else if (a->status != 200) {
        fail_call(call, DR_HTTP_BROKEN, "");
        (void)snprintf(call->detail, sizeof call->detail, "HTTP status %u: %.200s", a->status,
                       a->detail);
    } else if (dr_json_parse_upto("answer", a->body == NULL ? "" : a->body, a->body_bytes,
                                  PEER_ANSWER_BYTES_MAX, &j, &err) != DR_OK) {
        fail_call(call, DR_HTTP_BROKEN, err.msg);
    } else {
        read_frame(call, json_object_get(j, "result"));
    }
    json_decref(j);
    dr_free(a->body);
    a->body = NULL;
}

static enum dr_code start_call(struct dr_cluster *c, struct dr_http *http, struct peer_call *call,
                               uint64_t timeout_ms, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    char *url = dr_asprintf("%s/internal/%s", call->uri, call->name);
    char *text = dr_json_text(call->body);
    if (url == NULL || text == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    const struct dr_http_request request = {.method = "POST",
                                            .url = url,
                                            .authorization = c->authorization,
                                            .timeout_ms = timeout_ms,
                                            .tag = call,
                                            .body = text,
                                            .body_bytes = strlen(text),
                                            .content_type = "application/json",
                                            .answer_bytes_max = PEER_ANSWER_BYTES_MAX,
                                            .is_once = call->is_once};
    rc = dr_http_start(http, &request, err);
out:
    dr_free(url);
    dr_free(text);
    return rc;
}

static void ask_http(struct dr_cluster *c, struct peer_call *call, uint32_t count,
                     uint64_t timeout_ms)
{
    struct dr_err err = {0};
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)timeout_ms;
    struct http_spare *spare = borrow_http(c, &err);
    for (uint32_t i = 0; i < count; i++) {
        fail_call(&call[i], DR_HTTP_TIMEOUT, "no answer in time");
        if (spare == NULL || start_call(c, spare->http, &call[i], timeout_ms, &err) != DR_OK) {
            fail_call(&call[i], DR_HTTP_CONNECT, err.msg);
        }
    }
    while (spare != NULL && dr_http_open_count(spare->http) > 0) {
        struct dr_http_answer a;
        bool has = false;
        dr_mono_ms left = until - dr_mono_now();
        uint64_t wait_ms = left < 1 ? 1 : left > LOOK_MS ? LOOK_MS : (uint64_t)left;
        /* The request's own deadline comes first; the grace is for its report. */
        if (left < -1000 || dr_cluster_is_stopping(c) ||
            dr_http_wait(spare->http, wait_ms, &a, &has, &err) != DR_OK) {
            break;
        }
        if (has) {
            read_answer(a.tag, &a);
        }
    }
    if (spare != NULL) {
        return_http(c, spare);
    }
}

void dr_peers_ask(struct dr_cluster *c, struct peer_call *call, uint32_t count, uint64_t timeout_ms)
{
    if (count == 0) {
        return;
    }
    if (c->tuning.ask != NULL) {
        c->tuning.ask(c->tuning.ask_arg, c, call, count, timeout_ms);
        return;
    }
    ask_http(c, call, count, timeout_ms == 0 ? 1 : timeout_ms);
}

void dr_peers_address(const struct dr_catalog *cat, uint64_t peer_id, struct peer_call *call)
{
    const struct dr_peer *p = dr_catalog_peer(cat, peer_id);
    call->peer_id = peer_id;
    dr_copy_text(call->uri, sizeof call->uri, p == NULL ? "" : p->uri);
}

enum dr_code dr_peers_judge(const struct peer_call *call, struct dr_err *err)
{
    if (call->failure != DR_HTTP_NONE) {
        return dr_fail(err, DR_UNREACHABLE, "peer %" PRIu64 " (%s): %s", call->peer_id,
                       call->uri[0] == '\0' ? "no address known" : call->uri, call->detail);
    }
    if (call->reply.class != DR_CLASS_OK) {
        return dr_fail(err, DR_IO, "peer %" PRIu64 ": %s", call->peer_id, call->reply.message);
    }
    return DR_OK;
}

void dr_peers_call_fini(struct peer_call *call, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        dr_cluster_reply_fini(&call[i].reply);
    }
}

void dr_peers_free(struct peer_call *call, uint32_t count)
{
    if (call != NULL) {
        dr_peers_call_fini(call, count);
        dr_free(call);
    }
}

struct peer_call *dr_peers_ask_all(struct dr_cluster *c, const char *name, json_t *body,
                                   uint64_t timeout_ms, uint32_t *count_out)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    uint32_t peers = dr_catalog_peer_count(cat);
    uint32_t count = 0;
    struct peer_call *call = dr_calloc(peers + 1, sizeof *call);
    for (uint32_t i = 0; call != NULL && i < peers; i++) {
        const struct dr_peer *p = dr_catalog_peer_at(cat, i);
        if (p->id != c->id) {
            dr_peers_address(cat, p->id, &call[count]);
            call[count].name = name;
            call[count].body = body;
            count++;
        }
    }
    dr_catalog_unref(cat);
    *count_out = count;
    if (call != NULL) {
        dr_peers_ask(c, call, count, timeout_ms);
    }
    return call;
}

uint32_t dr_peers_settle(struct dr_cluster *c, uint64_t index, uint64_t timeout_ms)
{
    uint32_t count = 0;
    uint32_t behind = 0;
    uint64_t wait_ms = timeout_ms < PEER_SETTLE_MS_MAX ? timeout_ms : PEER_SETTLE_MS_MAX;
    json_t *body =
        json_pack("{s:I, s:I}", "index", (json_int_t)index, "timeout_ms", (json_int_t)wait_ms);
    struct peer_call *call = NULL;
    if (body != NULL) {
        call = dr_peers_ask_all(c, "commit", body, wait_ms + 500, &count);
    }
    for (uint32_t i = 0; call != NULL && i < count; i++) {
        if (dr_peers_judge(&call[i], NULL) != DR_OK) {
            behind++;
            dr_log(c->log, DR_LOG_WARN, "a peer has not applied a change yet",
                   "peer=%llu index=%llu why=%s", (unsigned long long)call[i].peer_id,
                   (unsigned long long)index,
                   call[i].failure == DR_HTTP_NONE ? call[i].reply.message : call[i].detail);
        }
    }
    dr_peers_free(call, count);
    json_decref(body);
    return behind;
}
