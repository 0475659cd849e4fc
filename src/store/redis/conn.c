/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: opening with its handshake, sending, receiving, and what error replies mean. A
 * connection on which anything was lost is closed, because its replies no longer fit its commands.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/redis/redis_private.h"

void rd_node_drop(struct rd_node *n)
{
    if (n->c != NULL) {
        redisFree(n->c);
        n->c = NULL;
    }
    n->watch_mark = 0;
}

void rd_node_destroy(struct rd_node *n)
{
    if (n != NULL) {
        rd_node_drop(n);
        dr_free(n->name);
        dr_free(n->host);
        dr_free(n);
    }
}

bool rd_is_error(const redisReply *r, const char *prefix)
{
    return r != NULL && r->type == REDIS_REPLY_ERROR &&
           strncmp(r->str, prefix, strlen(prefix)) == 0;
}

bool rd_is_unknown_command(const redisReply *r)
{
    return rd_is_error(r, "ERR unknown command") || rd_is_error(r, "ERR unknown subcommand") ||
           rd_is_error(r, "ERR Unknown subcommand") || rd_is_error(r, "ERR invalid command") ||
           rd_is_error(r, "ERR unsupported command");
}

enum dr_code rd_fail_reply(struct rd_node *n, const redisReply *r, const char *what,
                           struct dr_err *err)
{
    static const struct {
        const char *prefix;
        enum dr_code code;
        const char *advice;
    } rules[] = {
        {"NOAUTH", DR_DENIED, "; put user and password into the URL"},
        {"WRONGPASS", DR_DENIED, "; check user and password"},
        {"ERR invalid password", DR_DENIED, "; check the password"},
        {"ERR AUTH", DR_DENIED, "; the server has no password: leave it out of the URL"},
        {"ERR Client sent AUTH", DR_DENIED, "; leave the password out of the URL"},
        {"NOPERM", DR_DENIED, "; the user's ACL does not permit it"},
        {"LOADING", DR_BUSY, ""},
        {"BUSY ", DR_BUSY, ""},
        {"MASTERDOWN", DR_BUSY, ""},
        {"TRYAGAIN", DR_BUSY, ""},
        {"CLUSTERDOWN", DR_BUSY, ""},
        {"NOREPLICAS", DR_BUSY, ""},
        {"MISCONF", DR_BUSY, ""},
        {"READONLY", DR_UNREACHABLE, "; it has become a replica"},
        {"OOM", DR_FULL, "; give the server memory"},
        {"WRONGTYPE", DR_CONFLICT, ""},
    };
    if (r == NULL || r->type != REDIS_REPLY_ERROR) {
        return dr_fail(err, DR_UNSUPPORTED, "redis %s: an answer to %s that is none (type %d)",
                       n->name, what, r == NULL ? 0 : r->type);
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (strncmp(r->str, rules[i].prefix, strlen(rules[i].prefix)) == 0) {
            if (rules[i].code == DR_UNREACHABLE || rules[i].code == DR_DENIED) {
                rd_node_drop(n);
            }
            return dr_fail(err, rules[i].code, "redis %s: %s: %.200s%s", n->name, what, r->str,
                           rules[i].advice);
        }
    }
    return dr_fail(err, DR_UNSUPPORTED, "redis %s: %s: %.200s", n->name, what, r->str);
}

static enum dr_code fail_lost(struct rd_node *n, bool is_write, struct dr_err *err)
{
    char why[160];
    if (n->c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        (void)snprintf(why, sizeof why, "no answer within %d ms", RD_COMMAND_MS);
    } else {
        (void)snprintf(why, sizeof why, "%s", n->c->errstr);
    }
    bool is_nomem = n->c->err == REDIS_ERR_OOM;
    rd_node_drop(n);
    if (is_write) {
        return dr_fail(err, DR_UNKNOWN, "redis %s: %s after a change was sent", n->name, why);
    }
    return is_nomem ? dr_fail_nomem(err)
                    : dr_fail(err, DR_UNREACHABLE, "redis %s: %s", n->name, why);
}

enum dr_code rd_append(struct rd_node *n, int argc, const char **argv, const size_t *bytes,
                       struct dr_err *err)
{
    if (redisAppendCommandArgv(n->c, argc, argv, bytes) != REDIS_OK) {
        rd_node_drop(n); /* nothing was sent yet, but what is buffered may be half a command */
        return dr_fail_nomem(err);
    }
    return DR_OK;
}

void rd_flush(struct rd_node *n)
{
    int is_done = n->c == NULL;
    while (!is_done && redisBufferWrite(n->c, &is_done) == REDIS_OK) {
    }
}

enum dr_code rd_receive(struct rd_node *n, bool is_write, redisReply **out, struct dr_err *err)
{
    void *reply = NULL;
    *out = NULL;
    if (n->c == NULL) {
        return dr_fail(err, is_write ? DR_UNKNOWN : DR_UNREACHABLE,
                       "redis %s: the connection was lost", n->name);
    }
    if (redisGetReply(n->c, &reply) != REDIS_OK || reply == NULL) {
        return fail_lost(n, is_write, err);
    }
    *out = reply;
    return DR_OK;
}

enum dr_code rd_ask(struct rd_node *n, redisReply **out, struct dr_err *err, int argc,
                    const char **argv)
{
    *out = NULL;
    enum dr_code rc = rd_append(n, argc, argv, NULL, err);
    return rc == DR_OK ? rd_receive(n, false, out, err) : rc;
}

const char *rd_info_field(const char *info, const char *field, char *buf, size_t buf_bytes)
{
    size_t length = strlen(field);
    buf[0] = '\0';
    for (const char *at = info; at != NULL && *at != '\0';) {
        if (strncmp(at, field, length) == 0 && at[length] == ':') {
            const char *value = at + length + 1;
            size_t bytes = strcspn(value, "\r\n");
            bytes = bytes < buf_bytes ? bytes : buf_bytes - 1;
            memcpy(buf, value, bytes);
            buf[bytes] = '\0';
            return buf;
        }
        at = strchr(at, '\n');
        at = at == NULL ? NULL : at + 1;
    }
    return buf;
}

static void note_info(struct rd_node *n, const redisReply *info)
{
    char text[32];
    n->is_proxy = info->type != REDIS_REPLY_STRING;
    n->run_id[0] = '\0';
    n->is_replica = n->is_cluster = n->is_loading = false;
    if (n->is_proxy) {
        return;
    }
    (void)rd_info_field(info->str, "run_id", n->run_id, sizeof n->run_id);
    (void)rd_info_field(info->str, "redis_version", n->version, sizeof n->version);
    n->is_replica = strcmp(rd_info_field(info->str, "role", text, sizeof text), "slave") == 0;
    n->is_cluster =
        strcmp(rd_info_field(info->str, "redis_mode", text, sizeof text), "cluster") == 0;
    n->is_loading = strcmp(rd_info_field(info->str, "loading", text, sizeof text), "1") == 0;
}

/* A proxy may not know INFO; everything else that is refused ends the connection. */
static enum dr_code shake_hands(struct rd_store *s, struct rd_node *n, struct dr_err *err)
{
    char db[16];
    redisReply *reply = NULL;
    const char *auth[] = {"AUTH", s->user, s->password};
    const char *plain[] = {"AUTH", s->password};
    const char *select[] = {"SELECT", db};
    const char *info[] = {"INFO"};
    enum dr_code rc = DR_OK;
    (void)snprintf(db, sizeof db, "%u", s->db);
    if (s->password != NULL) {
        rc = s->user != NULL ? rd_ask(n, &reply, err, 3, auth) : rd_ask(n, &reply, err, 2, plain);
        assert(rc != DR_OK || reply != NULL);
        if (rc == DR_OK && reply->type == REDIS_REPLY_ERROR) {
            rc = rd_is_error(reply, "ERR AUTH") || !rd_is_error(reply, "ERR")
                     ? rd_fail_reply(n, reply, "AUTH", err)
                     : dr_fail(err, DR_DENIED, "redis %s: AUTH: %.200s", n->name, reply->str);
        }
        freeReplyObject(reply);
        reply = NULL;
    }
    if (rc == DR_OK) {
        rc = rd_ask(n, &reply, err, 1, info);
        assert(rc != DR_OK || reply != NULL);
        if (rc == DR_OK && reply->type == REDIS_REPLY_ERROR && !rd_is_unknown_command(reply)) {
            rc = rd_fail_reply(n, reply, "INFO", err);
        }
    }
    if (rc == DR_OK) {
        note_info(n, reply);
    }
    freeReplyObject(reply);
    reply = NULL;
    if (rc == DR_OK && s->db > 0 && !n->is_loading) {
        rc = rd_ask(n, &reply, err, 2, select);
        assert(rc != DR_OK || reply != NULL);
        if (rc == DR_OK && reply->type == REDIS_REPLY_ERROR) {
            rc =
                dr_fail(err, DR_INPUT, "redis %s: database %u: %.200s", n->name, s->db, reply->str);
        }
        freeReplyObject(reply);
    }
    return rc;
}

enum dr_code rd_node_connect(struct rd_store *s, struct rd_node *n, struct dr_err *err)
{
    static const struct timeval connect_limit = {.tv_sec = RD_CONNECT_MS / 1000};
    static const struct timeval command_limit = {.tv_sec = RD_COMMAND_MS / 1000};
    if (n->c != NULL) {
        return DR_OK;
    }
    n->c = redisConnectWithTimeout(n->host, n->port, connect_limit);
    if (n->c == NULL) {
        return dr_fail_nomem(err);
    }
    if (n->c->err != 0) {
        enum dr_code rc =
            dr_fail(err, DR_UNREACHABLE, "redis %s: cannot connect: %s", n->name, n->c->errstr);
        rd_node_drop(n);
        return rc;
    }
    (void)redisEnableKeepAlive(n->c);
    enum dr_code rc = redisSetTimeout(n->c, command_limit) == REDIS_OK
                          ? shake_hands(s, n, err)
                          : dr_fail(err, DR_IO, "redis %s: cannot set a time limit", n->name);
    if (rc != DR_OK) {
        rd_node_drop(n);
    }
    return rc;
}

enum dr_code rd_node_use(struct rd_store *s, struct rd_node *n, struct dr_err *err)
{
    enum dr_code rc = rd_node_connect(s, n, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (n->is_loading || n->is_replica) { /* look again the next time */
        bool is_loading = n->is_loading;
        rd_node_drop(n);
        return is_loading
                   ? dr_fail(err, DR_BUSY, "redis %s: is loading its data set", n->name)
                   : dr_fail(err, DR_REFUSED,
                             "redis %s: is a replica; what is erased there comes back; name its "
                             "primary in the URL",
                             n->name);
    }
    return DR_OK;
}
