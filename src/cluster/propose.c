/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way of an entry to the leader and back: propose here, or hand it to the leader's API,
 * then wait until it is applied here too.
 *
 * Repeated is only what certainly did not happen (DR_BUSY of the node, a connection that was never
 * made). An outcome nobody saw is told as such: the entry may still be committed. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "cluster/cluster_private.h"

enum { RETRY_MS = 30, RETRY_MS_MAX = 200, ANSWER_GRACE_MS = 500 };

uint64_t dr_caller_timeout(const struct dr_cluster_caller *who)
{
    return who == NULL || who->timeout_ms == 0 ? DR_CLUSTER_TIMEOUT_MS : who->timeout_ms;
}

static uint32_t time_left(dr_mono_ms until)
{
    dr_mono_ms left = until - dr_mono_now();
    return left <= 0 ? 0 : left > INT32_MAX ? INT32_MAX : (uint32_t)left;
}

/* "propose" of the leader: its result is {"code", "leader_id"} or, with code "OK", what came of the
 * entry. */
static enum dr_code read_forwarded(const json_t *j, struct proposal *out, uint64_t *leader_out,
                                   struct dr_err *err)
{
    enum dr_code code = DR_INTERNAL;
    enum dr_code result = DR_INTERNAL;
    const char *message = json_string_value(json_object_get(j, "message"));
    *leader_out = (uint64_t)json_integer_value(json_object_get(j, "leader_id"));
    if (!dr_code_parse(json_string_value(json_object_get(j, "code")), &code)) {
        return dr_fail(err, DR_UNKNOWN, "the leader's answer cannot be read");
    }
    if (code != DR_OK) {
        return dr_fail(err, code, "%s", message == NULL ? "" : message);
    }
    if (!dr_code_parse(json_string_value(json_object_get(j, "result_code")), &result)) {
        return dr_fail(err, DR_UNKNOWN, "the leader's answer cannot be read");
    }
    out->index = (uint64_t)json_integer_value(json_object_get(j, "index"));
    out->result.code = result;
    out->result.changed = json_is_true(json_object_get(j, "changed"));
    dr_copy_text(out->result.message, sizeof out->result.message, message == NULL ? "" : message);
    out->result.value = json_incref(json_object_get(j, "value"));
    return DR_OK;
}

static enum dr_code forward(struct dr_cluster *c, uint64_t leader_id, const char *entry,
                            uint32_t timeout_ms, struct proposal *out, uint64_t *leader_out,
                            struct dr_err *err)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    struct peer_call call = {.name = "propose", .is_once = true};
    enum dr_code rc = DR_OK;
    *leader_out = 0;
    dr_peers_address(cat, leader_id, &call);
    dr_catalog_unref(cat);
    if (call.uri[0] == '\0') {
        return dr_fail(err, DR_BUSY, "peer %" PRIu64 " leads and has not announced its address yet",
                       leader_id);
    }
    call.body = json_pack("{s:s, s:I}", "entry", entry, "timeout_ms", (json_int_t)timeout_ms);
    if (call.body == NULL) {
        return dr_fail_nomem(err);
    }
    dr_peers_ask(c, &call, 1, (uint64_t)timeout_ms + ANSWER_GRACE_MS);
    if (call.failure == DR_HTTP_CONNECT) {
        rc = dr_fail(err, DR_BUSY, "the leader, peer %" PRIu64 ", cannot be reached: %s", leader_id,
                     call.detail);
    } else if (call.failure != DR_HTTP_NONE) {
        rc = dr_fail(err, DR_UNKNOWN, "the leader, peer %" PRIu64 ": %s", leader_id, call.detail);
    } else if (call.reply.class != DR_CLASS_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "the leader, peer %" PRIu64 ": %s", leader_id,
                     call.reply.message);
    } else {
        rc = read_forwarded(call.reply.result, out, leader_out, err);
    }
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return rc;
}

/* One try, here and then at the leader. */
static enum dr_code try_once(struct dr_cluster *c, const char *entry, dr_mono_ms until,
                             struct proposal *out, struct dr_err *err)
{
    struct dr_node_answer answer;
    uint64_t other = 0;
    enum dr_code rc =
        dr_node_propose(c->node, entry, strlen(entry), time_left(until), &answer, err);
    if (rc == DR_OK) {
        out->result = answer.result;
        out->index = answer.index;
        return DR_OK;
    }
    json_decref(answer.result.value);
    if (rc != DR_BUSY || answer.leader_id == 0 || answer.leader_id == c->id) {
        return rc;
    }
    rc = forward(c, answer.leader_id, entry, time_left(until), out, &other, err);
    if (rc != DR_OK) {
        return rc;
    }
    enum dr_code waited = dr_node_wait_applied(c->node, out->index, time_left(until), err);
    if (waited != DR_OK) {
        json_decref(out->result.value);
        out->result.value = NULL;
        return dr_fail(err, DR_UNKNOWN, "committed, but not applied here in time");
    }
    return DR_OK;
}

enum dr_code dr_propose(struct dr_cluster *c, const char *entry, uint64_t timeout_ms,
                        struct proposal *out, struct dr_err *err)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)timeout_ms;
    const struct dr_backoff backoff = {.first_ms = RETRY_MS, .max_ms = RETRY_MS_MAX};
    for (uint32_t tries = 1;; tries++) {
        memset(out, 0, sizeof *out);
        enum dr_code rc = try_once(c, entry, until, out, err);
        if (rc != DR_BUSY) {
            return rc;
        }
        uint32_t left = time_left(until);
        uint64_t pause = dr_backoff_ms(&backoff, tries, dr_random());
        if (pause >= left) { /* a try in no time would only leave open what came of it */
            return dr_fail(err, DR_BUSY,
                           "Failed to propose operation: leader is not established within %" PRIu64
                           " seconds",
                           (timeout_ms + 999) / 1000);
        }
        if (dr_wait_ms(pause, dr_cluster_is_stopping, c)) {
            return dr_fail(err, DR_STOPPED, "this peer is stopping");
        }
    }
}

bool dr_propose_for(struct dr_cluster *c, const struct dr_cluster_caller *who, char *entry,
                    enum dr_code made, const struct dr_err *made_err, struct proposal *out,
                    struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    uint64_t timeout_ms = dr_caller_timeout(who);
    memset(out, 0, sizeof *out);
    if (made != DR_OK) {
        dr_reply_err(reply, made_err);
        return false;
    }
    enum dr_code rc = dr_propose(c, entry, timeout_ms, out, &err);
    dr_free(entry);
    if (rc == DR_UNKNOWN) {
        dr_log_err(c->log, DR_LOG_WARN, "the outcome of a proposal is not known", &err);
        dr_reply_fail(reply, DR_CLASS_SERVICE,
                      "Waiting for consensus operation commit failed. Timeout set at: %" PRIu64
                      " seconds",
                      (timeout_ms + 999) / 1000);
        return false;
    }
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return false;
    }
    if (out->result.code != DR_OK) {
        (void)dr_fail(&err, out->result.code, "%s", out->result.message);
        dr_reply_err(reply, &err);
        json_decref(out->result.value);
        out->result.value = NULL;
        return false;
    }
    return true;
}

void dr_propose_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_node_answer answer;
    struct dr_err err = {0};
    const char *entry = json_string_value(json_object_get(body, "entry"));
    json_int_t timeout_ms = json_integer_value(json_object_get(body, "timeout_ms"));
    if (entry == NULL || timeout_ms <= 0 || timeout_ms > INT32_MAX) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "propose: entry and timeout_ms are needed");
        return;
    }
    enum dr_code rc =
        dr_node_propose(c->node, entry, strlen(entry), (uint32_t)timeout_ms, &answer, &err);
    const char *message = rc == DR_OK ? answer.result.message : err.msg;
    json_t *value = answer.result.value;
    dr_reply_give(reply, json_pack("{s:s, s:s, s:I, s:I, s:s, s:b, s:o*}", "code", dr_code_name(rc),
                                   "message", message, "leader_id", (json_int_t)answer.leader_id,
                                   "index", (json_int_t)answer.index, "result_code",
                                   dr_code_name(answer.result.code), "changed",
                                   (int)answer.result.changed, "value", value));
}

/* --- what only the leader does -----------------------------------------------------------------
 */

static uint64_t read_id(const json_t *body)
{
    return (uint64_t)json_integer_value(json_object_get(body, "id"));
}

enum dr_code dr_lead_barrier(struct dr_cluster *c, const json_t *body, uint64_t timeout_ms,
                             struct dr_node_answer *answer, struct dr_err *err)
{
    (void)body;
    return dr_node_barrier(c->node, (uint32_t)timeout_ms, answer, err);
}

enum dr_code dr_lead_remove(struct dr_cluster *c, const json_t *body, uint64_t timeout_ms,
                            struct dr_node_answer *answer, struct dr_err *err)
{
    return dr_node_remove(c->node, read_id(body), (uint32_t)timeout_ms, answer, err);
}

enum dr_code dr_lead_transfer(struct dr_cluster *c, const json_t *body, uint64_t timeout_ms,
                              struct dr_node_answer *answer, struct dr_err *err)
{
    return dr_node_transfer(c->node, read_id(body), (uint32_t)timeout_ms, answer, err);
}

void dr_lead_here(struct dr_cluster *c, const json_t *body, leader_fn *here,
                  struct dr_cluster_reply *reply)
{
    struct dr_node_answer answer;
    struct dr_err err = {0};
    memset(&answer, 0, sizeof answer);
    json_int_t timeout_ms = json_integer_value(json_object_get(body, "timeout_ms"));
    if (timeout_ms <= 0 || timeout_ms > INT32_MAX) {
        timeout_ms = DR_CLUSTER_TIMEOUT_MS;
    }
    enum dr_code rc = here(c, body, (uint64_t)timeout_ms, &answer, &err);
    json_decref(answer.result.value);
    dr_reply_give(reply, json_pack("{s:s, s:s, s:I}", "code", dr_code_name(rc), "message", err.msg,
                                   "leader_id", (json_int_t)answer.leader_id));
}

static enum dr_code ask_leader(struct dr_cluster *c, uint64_t leader_id, const char *name,
                               const json_t *body, uint32_t timeout_ms, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    struct peer_call call = {.name = name, .is_once = true};
    struct dr_catalog *cat = dr_cluster_catalog(c);
    dr_peers_address(cat, leader_id, &call);
    dr_catalog_unref(cat);
    if (call.uri[0] == '\0') {
        return dr_fail(err, DR_BUSY, "peer %" PRIu64 " leads and has not announced its address yet",
                       leader_id);
    }
    call.body = json_copy((json_t *)body);
    if (call.body == NULL ||
        !dr_shape_set(call.body, "timeout_ms", json_integer((json_int_t)timeout_ms))) {
        json_decref(call.body);
        return dr_fail_nomem(err);
    }
    dr_peers_ask(c, &call, 1, (uint64_t)timeout_ms + ANSWER_GRACE_MS);
    if (call.failure != DR_HTTP_NONE) {
        rc = dr_fail(err, call.failure == DR_HTTP_CONNECT ? DR_BUSY : DR_UNKNOWN,
                     "the leader, peer %" PRIu64 ": %s", leader_id, call.detail);
    } else if (call.reply.class != DR_CLASS_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "the leader, peer %" PRIu64 ": %s", leader_id,
                     call.reply.message);
    } else {
        const char *message = json_string_value(json_object_get(call.reply.result, "message"));
        enum dr_code code = DR_UNKNOWN;
        (void)dr_code_parse(json_string_value(json_object_get(call.reply.result, "code")), &code);
        rc = code == DR_OK ? DR_OK : dr_fail(err, code, "%s", message == NULL ? "" : message);
    }
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return rc;
}

enum dr_code dr_lead_or_ask(struct dr_cluster *c, const char *name, const json_t *body,
                            uint64_t timeout_ms, leader_fn *here, struct dr_err *err)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)timeout_ms;
    const struct dr_backoff backoff = {.first_ms = RETRY_MS, .max_ms = RETRY_MS_MAX};
    for (uint32_t tries = 1;; tries++) {
        struct dr_node_answer answer;
        memset(&answer, 0, sizeof answer);
        uint32_t left = time_left(until);
        enum dr_code rc = here(c, body, left == 0 ? 1 : left, &answer, err);
        json_decref(answer.result.value);
        if (rc == DR_BUSY && answer.leader_id != 0 && answer.leader_id != c->id) {
            left = time_left(until);
            rc = ask_leader(c, answer.leader_id, name, body, left == 0 ? 1 : left, err);
        }
        left = time_left(until);
        if (rc != DR_BUSY || left == 0) {
            return rc;
        }
        uint64_t pause = dr_backoff_ms(&backoff, tries, dr_random());
        if (dr_wait_ms(pause < left ? pause : left, dr_cluster_is_stopping, c)) {
            return dr_fail(err, DR_STOPPED, "this peer is stopping");
        }
    }
}
