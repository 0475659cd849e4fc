/* SPDX-License-Identifier: Apache-2.0 */
/* Owns membership: announcing this peer, joining, taking others in, removing, leadership. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_private.h"

enum { ANNOUNCE_MS = 3000, JOIN_MS = 15000 };

static uint32_t format_of(const struct dr_cluster *c)
{
    uint32_t f = c->tuning.announced_format;
    return f == UINT32_MAX ? 0 : f == 0 ? DR_CATALOG_FORMAT : f;
}

static void describe_self(const struct dr_cluster *c, struct dr_peer *p)
{
    memset(p, 0, sizeof *p);
    p->id = c->id;
    p->format = format_of(c);
    dr_copy_text(p->uri, sizeof p->uri, c->api_uri);
    dr_copy_text(p->raft, sizeof p->raft, c->raft_listen == NULL ? "" : c->raft_listen);
    dr_copy_text(p->version, sizeof p->version, DROVER_VERSION);
    if (strlen(c->shards.store) < sizeof p->store) { /* a cut address would be a wrong one */
        dr_copy_text(p->store, sizeof p->store, c->shards.store);
    }
}

/* A peer that was removed, or not taken in yet, has nothing to announce: the leader lists it when
 * it takes it in. */
enum dr_code dr_member_announce(struct dr_cluster *c, struct dr_err *err)
{
    struct dr_peer self;
    struct proposal p;
    char *entry = NULL;
    describe_self(c, &self);
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    dr_node_status(c->node, s);
    bool is_known_leader = s->leader_id != 0;
    bool is_voter = s->is_voter;
    dr_free(s);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_peer *listed = dr_catalog_peer(cat, c->id);
    bool is_same = listed != NULL && listed->format == self.format &&
                   strcmp(listed->uri, self.uri) == 0 && strcmp(listed->raft, self.raft) == 0 &&
                   strcmp(listed->version, self.version) == 0 &&
                   strcmp(listed->store, self.store) == 0;
    bool is_listed = listed != NULL;
    dr_catalog_unref(cat);
    if (is_same) {
        return DR_OK;
    }
    if (!is_known_leader || (!is_listed && !is_voter)) {
        return dr_fail(err, DR_BUSY, "not a member yet");
    }
    /* One that was taken in is listed by then; if it is not, it was removed. */
    enum dr_code rc = is_listed || c->join_uri != NULL ? dr_entry_peer_news(&self, &entry, err)
                                                       : dr_entry_peer(&self, &entry, err);
    if (rc == DR_OK) {
        rc = dr_propose(c, entry, ANNOUNCE_MS, &p, err);
    }
    dr_free(entry);
    if (rc != DR_OK) {
        return rc;
    }
    json_decref(p.result.value);
    if (p.result.code == DR_NOT_FOUND) {
        return dr_fail(err, DR_BUSY, "not a member");
    }
    return p.result.code == DR_OK ? DR_OK : dr_fail(err, p.result.code, "%s", p.result.message);
}

static bool is_member(struct dr_cluster *c)
{
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return false;
    }
    dr_node_status(c->node, s);
    bool is_in = s->is_voter;
    dr_free(s);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    is_in = is_in && dr_catalog_peer(cat, c->id) != NULL;
    dr_catalog_unref(cat);
    return is_in;
}

enum dr_code dr_member_join(struct dr_cluster *c, struct dr_err *err)
{
    struct dr_peer self;
    struct peer_call call = {.name = "join", .is_once = true};
    if (is_member(c)) {
        return DR_OK; /* since before a restart */
    }
    describe_self(c, &self);
    dr_copy_text(call.uri, sizeof call.uri, c->join_uri);
    call.body = json_pack("{s:I, s:s, s:s, s:I, s:s, s:I}", "id", (json_int_t)self.id, "uri",
                          self.uri, "raft", self.raft, "format", (json_int_t)self.format, "version",
                          self.version, "timeout_ms", (json_int_t)JOIN_MS);
    if (call.body == NULL) {
        return dr_fail_nomem(err);
    }
    dr_peers_ask(c, &call, 1, JOIN_MS + 1000);
    enum dr_code rc = dr_peers_judge(&call, err);
    if (rc == DR_OK) {
        enum dr_code code = DR_UNKNOWN;
        const char *message = json_string_value(json_object_get(call.reply.result, "message"));
        (void)dr_code_parse(json_string_value(json_object_get(call.reply.result, "code")), &code);
        rc = code == DR_OK ? DR_OK
                           : dr_fail(err, code, "%s refused: %s", c->join_uri,
                                     message == NULL ? "" : message);
    }
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return rc;
}

static enum dr_code read_peer(const json_t *body, struct dr_peer *p, struct dr_err *err)
{
    struct dr_jr r;
    uint64_t format = 0;
    uint64_t timeout_ms = 0;
    const char *uri = "";
    const char *raft = "";
    const char *version = "";
    memset(p, 0, sizeof *p);
    dr_jr_init(&r, body, "join", err);
    (void)dr_jr_u64(&r, "id", true, 1, (uint64_t)INT64_MAX, &p->id);
    (void)dr_jr_u64(&r, "format", true, 0, UINT32_MAX, &format);
    (void)dr_jr_string(&r, "uri", true, &uri);
    (void)dr_jr_string(&r, "raft", true, &raft);
    (void)dr_jr_string(&r, "version", true, &version);
    (void)dr_jr_u64(&r, "timeout_ms", false, 1, INT32_MAX, &timeout_ms);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc != DR_OK) {
        return rc;
    }
    if (raft[0] == '\0' || strlen(raft) >= DR_NODE_ADDRESS_BYTES_MAX ||
        strlen(uri) >= sizeof p->uri || strlen(version) >= sizeof p->version) {
        return dr_fail(err, DR_INPUT, "join: an address is missing or too long");
    }
    p->format = (uint32_t)format;
    dr_copy_text(p->uri, sizeof p->uri, uri);
    dr_copy_text(p->raft, sizeof p->raft, raft);
    dr_copy_text(p->version, sizeof p->version, version);
    return DR_OK;
}

/* An old program would pass over entries it does not know, and so fall out of step with the others:
 * it is not let in. Nor is a second peer with an id that is taken. */
static enum dr_code check_newcomer(struct dr_cluster *c, const struct dr_peer *p,
                                   struct dr_err *err)
{
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    enum dr_code rc = DR_OK;
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    dr_node_status(c->node, s);
    for (uint32_t i = 0; rc == DR_OK && i < s->member_count; i++) {
        if (s->member[i].id == p->id && strcmp(s->member[i].address, p->raft) != 0) {
            rc = dr_fail(err, DR_CONFLICT,
                         "peer %" PRIu64 " is in the cluster with the raft address %s: give the "
                         "new one another --raft-id",
                         p->id, s->member[i].address);
        }
    }
    if (rc == DR_OK && p->format < DR_CATALOG_FORMAT) {
        rc =
            dr_fail(err, DR_REFUSED,
                    "peer %" PRIu64 " understands entries up to format %u, this cluster writes %d: "
                    "update its program first",
                    p->id, p->format, DR_CATALOG_FORMAT);
    }
    dr_free(s);
    return rc;
}

static enum dr_code lead_join(struct dr_cluster *c, const json_t *body, uint64_t timeout_ms,
                              struct dr_node_answer *answer, struct dr_err *err)
{
    struct dr_peer p;
    char *entry = NULL;
    uint32_t wait_ms = (uint32_t)timeout_ms;
    enum dr_code rc = read_peer(body, &p, err);
    if (rc == DR_OK) {
        rc = dr_lead_barrier(c, NULL, timeout_ms, answer, err); /* only a real leader judges */
    }
    if (rc == DR_OK) {
        rc = check_newcomer(c, &p, err);
    }
    if (rc == DR_OK) {
        rc = dr_node_add(c->node, p.id, p.raft, wait_ms, answer, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_peer(&p, &entry, err);
    }
    if (rc == DR_OK) {
        rc = dr_node_propose(c->node, entry, strlen(entry), wait_ms, answer, err);
    }
    if (rc == DR_OK && answer->result.code != DR_OK) {
        rc = dr_fail(err, answer->result.code, "%s", answer->result.message);
    }
    if (rc == DR_OK) {
        json_decref(answer->result.value);
        rc = dr_node_assign(c->node, p.id, DR_NODE_VOTER, wait_ms, answer, err);
    }
    dr_free(entry);
    if (rc == DR_OK) {
        dr_log(c->log, DR_LOG_INFO, "took a peer in", "peer=%llu raft=%s api=%s",
               (unsigned long long)p.id, p.raft, p.uri);
    }
    return rc;
}

void dr_member_take_in(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    json_int_t timeout_ms = json_integer_value(json_object_get(body, "timeout_ms"));
    if (timeout_ms <= 0 || timeout_ms > JOIN_MS) {
        timeout_ms = JOIN_MS;
    }
    enum dr_code rc = DR_UNSUPPORTED;
    if (c->is_distributed) {
        rc = dr_lead_or_ask(c, "join", body, (uint64_t)timeout_ms, lead_join, &err);
    } else {
        (void)dr_fail(&err, rc, "this peer has no raft listener: nobody can join it");
    }
    dr_reply_give(reply, json_pack("{s:s, s:s}", "code", dr_code_name(rc), "message", err.msg));
}

static bool is_raft_member(struct dr_cluster *c, uint64_t id)
{
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    bool is_in = s == NULL; /* when in doubt, ask the leader */
    if (s != NULL) {
        dr_node_status(c->node, s);
        for (uint32_t i = 0; i < s->member_count; i++) {
            is_in = is_in || s->member[i].id == id;
        }
    }
    dr_free(s);
    return is_in;
}

/* First off the record, which says no while shards are on it; then out of the consensus. A call
 * that was cut between the two is finished by repeating it. */
void dr_cluster_remove_peer(struct dr_cluster *c, const struct dr_cluster_caller *who, uint64_t id,
                            bool is_forced, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    struct proposal p;
    char *entry = NULL;
    memset(reply, 0, sizeof *reply);
    if (!dr_reply_need_cluster(c, reply)) {
        return;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    bool is_listed = dr_catalog_peer(cat, id) != NULL;
    bool is_last = is_listed && dr_catalog_peer_count(cat) == 1;
    enum dr_code rc = DR_OK;
    if (is_last) {
        rc = dr_fail(&err, DR_REFUSED, "peer %" PRIu64 " is the only one and stays", id);
    } else if (is_listed || !is_raft_member(c, id)) {
        rc = dr_entry_remove_peer(cat, id, is_forced, &entry, &err);
    }
    dr_catalog_unref(cat);
    if (rc != DR_OK || entry != NULL) {
        if (!dr_propose_for(c, who, entry, rc, &err, &p, reply)) {
            return;
        }
        json_decref(p.result.value);
    }
    json_t *body = json_pack("{s:I}", "id", (json_int_t)id);
    rc = body == NULL
             ? dr_fail_nomem(&err)
             : dr_lead_or_ask(c, "remove", body, dr_caller_timeout(who), dr_lead_remove, &err);
    json_decref(body);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    dr_log(c->log, DR_LOG_INFO, "removed a peer", "audit=yes peer=%llu force=%d by=%s",
           (unsigned long long)id, (int)is_forced,
           who == NULL || who->who == NULL ? "unknown" : who->who);
    dr_reply_true(reply);
}

void dr_cluster_transfer_leader(struct dr_cluster *c, uint64_t id, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    memset(reply, 0, sizeof *reply);
    if (!dr_reply_need_cluster(c, reply)) {
        return;
    }
    json_t *body = json_pack("{s:I}", "id", (json_int_t)id);
    enum dr_code rc = body == NULL ? dr_fail_nomem(&err)
                                   : dr_lead_or_ask(c, "transfer", body, DR_CLUSTER_TIMEOUT_MS,
                                                    dr_lead_transfer, &err);
    json_decref(body);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    dr_reply_true(reply);
}

/* Catch up with what the cluster has agreed on; the leader sends the log or a snapshot by itself.
 */
void dr_cluster_recover(struct dr_cluster *c, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    memset(reply, 0, sizeof *reply);
    if (!dr_reply_need_cluster(c, reply)) {
        return;
    }
    json_t *body = json_object();
    enum dr_code rc = body == NULL ? dr_fail_nomem(&err)
                                   : dr_lead_or_ask(c, "barrier", body, DR_CLUSTER_TIMEOUT_MS,
                                                    dr_lead_barrier, &err);
    json_decref(body);
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (rc == DR_OK && s == NULL) {
        rc = dr_fail_nomem(&err);
    }
    if (rc == DR_OK) {
        uint64_t index = 0;
        dr_node_status(c->node, s);
        rc = dr_cluster_ask_commit(c, s, &index)
                 ? dr_node_wait_applied(c->node, index, DR_CLUSTER_TIMEOUT_MS, &err)
                 : dr_fail(&err, DR_BUSY, "the leader does not answer");
    }
    dr_free(s);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    dr_reply_true(reply);
}
