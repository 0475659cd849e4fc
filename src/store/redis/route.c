/* SPDX-License-Identifier: Apache-2.0 */
/* Which server a key's command goes to, and following it when its slot moves. In a cluster the
 * table of slots is read again after every MOVED and every lost primary; ASK is followed for the
 * one command only, as the cluster specification wants it. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "store/redis/redis_private.h"

enum { ADDRESS_BYTES = 300 };

/* ---- the table of slots ---- */

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *at = data; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) {
        h = (h ^ at[i]) * UINT64_C(1099511628211);
    }
    return h;
}

/* The same for every handle and every order in which the servers list their slots. */
static void hash_table(struct rd_store *s)
{
    static const uint64_t start = UINT64_C(14695981039346656037);
    uint64_t h = start;
    for (uint32_t slot = 0; slot < RD_SLOTS; slot++) {
        const char *name = s->owner[slot] == 0 ? "" : s->node[s->owner[slot] - 1]->name;
        if (slot == 0 || s->owner[slot] != s->owner[slot - 1]) {
            h = hash_bytes(hash_bytes(h, &slot, sizeof slot), name, strlen(name));
        }
    }
    s->table_hash = h;
}

static uint16_t index_of(const struct rd_store *s, const struct rd_node *n)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->node[i] == n) {
            return (uint16_t)(i + 1);
        }
    }
    return 0;
}

static enum dr_code note_slots(struct rd_store *s, const struct rd_node *from, const redisReply *r,
                               uint16_t *owner, struct dr_err *err)
{
    char name[ADDRESS_BYTES];
    struct rd_node *n = NULL;
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
        r->element[0]->type != REDIS_REPLY_INTEGER || r->element[1]->type != REDIS_REPLY_INTEGER ||
        r->element[2]->type != REDIS_REPLY_ARRAY || r->element[2]->elements < 2 ||
        r->element[2]->element[1]->type != REDIS_REPLY_INTEGER) {
        return dr_fail(err, DR_UNSUPPORTED, "redis %s: CLUSTER SLOTS is malformed", from->name);
    }
    long long first = r->element[0]->integer;
    long long last = r->element[1]->integer;
    const redisReply *host = r->element[2]->element[0];
    bool has_host = host->type == REDIS_REPLY_STRING && host->len > 0;
    const char *text = has_host ? host->str : from->host;
    (void)snprintf(name, sizeof name, strchr(text, ':') != NULL ? "[%s]:%lld" : "%s:%lld", text,
                   r->element[2]->element[1]->integer);
    enum dr_code rc = rd_node_find(s, name, true, &n, err);
    for (long long slot = first; rc == DR_OK && slot <= last && slot >= 0 && slot < RD_SLOTS;
         slot++) {
        owner[slot] = index_of(s, n);
    }
    return rc;
}

static enum dr_code read_slots(struct rd_store *s, struct rd_node *n, struct dr_err *err)
{
    static const char *words[] = {"CLUSTER", "SLOTS"};
    uint16_t *owner = NULL;
    redisReply *reply = NULL;
    enum dr_code rc = rd_node_connect(s, n, err);
    if (rc == DR_OK) {
        rc = rd_ask(n, &reply, err, 2, words);
    }
    if (rc == DR_OK && reply->type != REDIS_REPLY_ARRAY) {
        rc = rd_fail_reply(n, reply, "CLUSTER SLOTS", err);
    }
    if (rc == DR_OK) {
        owner = dr_calloc(RD_SLOTS, sizeof *owner);
        rc = owner == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    for (size_t i = 0; rc == DR_OK && i < reply->elements; i++) {
        rc = note_slots(s, n, reply->element[i], owner, err);
    }
    if (rc == DR_OK) {
        memcpy(s->owner, owner, sizeof s->owner);
        hash_table(s);
        s->is_table_fresh = true;
    }
    dr_free(owner);
    freeReplyObject(reply);
    return rc;
}

enum dr_code rd_refresh(struct rd_store *s, struct dr_err *err)
{
    enum dr_code rc = dr_fail(err, DR_UNREACHABLE, "redis: no server of the cluster answers");
    uint32_t count = s->node_count; /* reading may add nodes */
    s->is_table_fresh = false;
    for (int connected = 1; connected >= 0; connected--) {
        for (uint32_t i = 0; rc != DR_OK && rc != DR_NOMEM && i < count; i++) {
            if ((s->node[i]->c != NULL) == (connected == 1)) {
                rc = read_slots(s, s->node[i], err);
            }
        }
    }
    return rc;
}

enum dr_code rd_learn(struct rd_store *s, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; !s->is_kind_known && i < s->seed_count; i++) {
        rc = rd_node_connect(s, s->node[i], err);
        if (rc == DR_OK) {
            s->is_kind_known = true;
            s->is_cluster = s->node[i]->is_cluster;
        } else if (rc != DR_UNREACHABLE) {
            return rc; /* a wrong password is no server that is down */
        }
    }
    if (s->is_kind_known && s->is_cluster && s->db > 0) {
        return dr_fail(err, DR_INPUT, "a redis cluster has only database 0, the URL names %" PRIu32,
                       s->db);
    }
    if (s->is_kind_known) {
        return s->is_cluster && !s->is_table_fresh ? rd_refresh(s, err) : DR_OK;
    }
    return rc;
}

uint32_t rd_slot_of(const struct rd_store *s, const char *key, size_t bytes)
{
    return s->is_cluster ? dr_redis_slot(key, bytes) : 0;
}

uint32_t rd_primaries(const struct rd_store *s, uint16_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < (s->is_cluster ? s->node_count : s->seed_count); i++) {
        bool is_owner = !s->is_cluster;
        for (uint32_t slot = 0; !is_owner && slot < RD_SLOTS; slot++) {
            is_owner = s->owner[slot] == i + 1;
        }
        uint32_t at = count;
        if (!is_owner) {
            continue;
        }
        for (; at > 0 && strcmp(s->node[out[at - 1]]->name, s->node[i]->name) > 0; at--) {
            out[at] = out[at - 1];
        }
        out[at] = (uint16_t)i;
        count++;
    }
    return count;
}

bool rd_is_primary(const struct rd_store *s, const char *name)
{
    for (uint32_t slot = 0; slot < RD_SLOTS; slot++) {
        if (s->owner[slot] != 0 && strcmp(s->node[s->owner[slot] - 1]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code route_by_slot(struct rd_store *s, uint32_t slot, struct rd_node **out,
                                  struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (int attempt = 0; attempt < 2; attempt++) {
        rc = s->is_table_fresh ? DR_OK : rd_refresh(s, err);
        if (rc != DR_OK) {
            return rc;
        }
        if (s->owner[slot] == 0) {
            s->is_table_fresh = false;
            return dr_fail(err, DR_BUSY, "redis: slot %" PRIu32 " has no server now", slot);
        }
        *out = s->node[s->owner[slot] - 1];
        rc = rd_node_use(s, *out, err);
        if (rc != DR_UNREACHABLE && rc != DR_REFUSED) {
            return rc;
        }
        s->is_table_fresh = false; /* a failover: somebody else owns the slot, or soon will */
    }
    if (rc == DR_REFUSED) {
        rc = dr_fail(err, DR_BUSY, "redis: slot %" PRIu32 " is failing over", slot);
    }
    return rc;
}

enum dr_code rd_route(struct rd_store *s, const char *node, uint32_t slot, struct rd_node **out,
                      struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = rd_learn(s, err);
    if (!s->is_kind_known) {
        return rc;
    }
    if (s->is_cluster) {
        return rc == DR_OK ? route_by_slot(s, slot, out, err) : rc;
    }
    rc = rd_node_find(s, node, false, out, err);
    return rc == DR_OK ? rd_node_use(s, *out, err) : rc;
}

/* ---- calls ---- */

enum dr_code rd_call_add(struct rd_store *s, struct rd_call *call, const void *word, size_t bytes,
                         struct dr_err *err)
{
    const char *copy = dr_arena_memdup(s->scratch, word, bytes);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    call->argv[call->argc] = copy;
    call->bytes[call->argc++] = bytes;
    return DR_OK;
}

enum dr_code rd_call_make(struct rd_store *s, struct rd_call *call, const char *name,
                          const struct dr_item *item, size_t key_count, struct dr_err *err)
{
    enum { SPARE = 6 };
    *call = (struct rd_call){0};
    call->argv = dr_arena_alloc(s->scratch, (key_count + SPARE) * sizeof *call->argv);
    call->bytes = dr_arena_alloc(s->scratch, (key_count + SPARE) * sizeof *call->bytes);
    if (call->argv == NULL || call->bytes == NULL) {
        return dr_fail_nomem(err);
    }
    call->argv[0] = name;
    call->bytes[0] = strlen(name);
    for (size_t i = 0; i < key_count; i++) {
        call->argv[i + 1] = item[i].key;
        call->bytes[i + 1] = item[i].key_len;
    }
    call->argc = (int)key_count + 1;
    call->slot = key_count == 0 ? 0 : rd_slot_of(s, item[0].key, item[0].key_len);
    return DR_OK;
}

void rd_calls_free(struct rd_call *call, size_t count)
{
    for (size_t i = 0; call != NULL && i < count; i++) {
        freeReplyObject(call[i].reply);
        call[i].reply = NULL;
    }
}

size_t rd_run_length(const struct rd_store *s, const struct dr_item *item, size_t i, size_t count,
                     size_t most)
{
    size_t n = 1;
    if (!s->is_cluster) {
        return count - i < most ? count - i : most;
    }
    uint32_t slot = rd_slot_of(s, item[i].key, item[i].key_len);
    while (n < most && i + n < count &&
           rd_slot_of(s, item[i + n].key, item[i + n].key_len) == slot) {
        n++;
    }
    return n;
}

/* ---- exchange ---- */

enum dr_code rd_redirect(struct rd_store *s, const redisReply *r, struct rd_target *to,
                         bool *is_out, struct dr_err *err)
{
    char name[ADDRESS_BYTES];
    bool is_moved = rd_is_error(r, "MOVED ");
    *is_out = s->is_cluster && (is_moved || rd_is_error(r, "ASK "));
    if (!*is_out) {
        return DR_OK;
    }
    const char *address = strrchr(r->str, ' ') + 1;
    (void)snprintf(name, sizeof name, "%s%s", address[0] == ':' ? s->node[0]->host : "", address);
    s->redirects++;
    to->is_asking = !is_moved;
    s->is_table_fresh = s->is_table_fresh && !is_moved;
    enum dr_code rc = rd_node_find(s, name, true, &to->node, err);
    if (rc == DR_OK) {
        rc = rd_node_connect(s, to->node, err);
    }
    return rc;
}

static enum dr_code send_again(struct rd_call *call, const struct rd_target *to, bool is_write,
                               struct dr_err *err)
{
    static const char *asking[] = {"ASKING"};
    redisReply *ignored = NULL;
    enum dr_code rc = to->is_asking ? rd_append(to->node, 1, asking, NULL, err) : DR_OK;
    if (rc == DR_OK) {
        rc = rd_append(to->node, call->argc, call->argv, call->bytes, err);
    }
    if (rc == DR_OK && to->is_asking) {
        rc = rd_receive(to->node, is_write, &ignored, err);
        freeReplyObject(ignored);
    }
    freeReplyObject(call->reply);
    call->reply = NULL;
    call->to = to->node;
    return rc == DR_OK ? rd_receive(to->node, is_write, &call->reply, err) : rc;
}

static enum dr_code follow(struct rd_store *s, struct rd_call *call, bool is_write,
                           struct dr_err *err)
{
    bool is_out = true;
    enum dr_code rc = DR_OK;
    for (int hop = 0; rc == DR_OK && is_out && hop < RD_HOPS_MAX; hop++) {
        struct rd_target to = {0};
        rc = rd_redirect(s, call->reply, &to, &is_out, err);
        if (rc == DR_OK && is_out) {
            rc = send_again(call, &to, is_write, err);
        }
    }
    if (rc == DR_OK && is_out) {
        rc = dr_fail(err, DR_BUSY, "redis: slot %" PRIu32 " is sent from server to server",
                     call->slot);
    }
    return rc;
}

/* Commands that were buffered or sent without their replies being read: the connections on which
 * they travel are of no more use. */
static void drop_all(struct rd_call *call, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (call[i].to != NULL) {
            rd_node_drop(call[i].to);
        }
    }
}

static enum dr_code pass_sent(struct rd_call *call, size_t count, const char *point,
                              struct dr_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || call[i].to != call[i - 1].to) {
            rd_flush(call[i].to);
        }
    }
    return dr_fault_pass(point, err) == DR_OK
               ? DR_OK
               : dr_fail(err, DR_UNKNOWN, "redis: a change was sent, its reply not read");
}

static enum dr_code exchange_some(struct rd_store *s, const char *node, struct rd_call *call,
                                  size_t count, const char *write_point, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    bool is_write = write_point != NULL;
    size_t i = 0;
    for (i = 0; rc == DR_OK && i < count; i++) {
        bool is_same = i > 0 && call[i].slot == call[i - 1].slot && call[i - 1].to->c != NULL;
        call[i].to = is_same ? call[i - 1].to : NULL;
        rc = is_same ? DR_OK : rd_route(s, node, call[i].slot, &call[i].to, err);
        assert(rc != DR_OK || call[i].to != NULL);
    }
    if (rc != DR_OK) {
        return rc; /* nothing is buffered yet */
    }
    for (i = 0; rc == DR_OK && i < count; i++) {
        assert(call[i].to != NULL);
        rc = call[i].to->c == NULL
                 ? dr_fail(err, DR_UNREACHABLE, "redis %s: connection lost", call[i].to->name)
                 : rd_append(call[i].to, call[i].argc, call[i].argv, call[i].bytes, err);
    }
    if (rc != DR_OK) {
        drop_all(call, count);
        return rc;
    }
    if (is_write) {
        rc = pass_sent(call, count, write_point, err);
    }
    for (i = 0; rc == DR_OK && i < count; i++) {
        rc = rd_receive(call[i].to, is_write, &call[i].reply, err);
    }
    if (rc != DR_OK) {
        drop_all(call, count);
        s->is_table_fresh = false;
        return rc;
    }
    for (i = 0; rc == DR_OK && s->is_cluster && i < count; i++) {
        rc = follow(s, &call[i], is_write, err);
        if (rc != DR_OK && is_write && i > 0) {
            /* Others of this exchange may have changed something that nobody will count. */
            rc = dr_fail(err, DR_UNKNOWN, "redis: a change was redirected and lost");
        }
    }
    return rc;
}

enum dr_code rd_exchange(struct rd_store *s, const char *node, struct rd_call *call, size_t count,
                         const char *write_point, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i += RD_PIPE_CALLS) {
        size_t some = count - i < RD_PIPE_CALLS ? count - i : RD_PIPE_CALLS;
        rc = exchange_some(s, node, call + i, some, write_point, err);
        if (rc != DR_OK && write_point != NULL && i > 0 && rc != DR_UNKNOWN) {
            rc = dr_fail(err, DR_UNKNOWN, "redis: some of several changes were made");
        }
    }
    return rc;
}
