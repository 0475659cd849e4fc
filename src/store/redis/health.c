/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a server may be worked on now: it answers quickly, is not loading, no fork is copying
 * pages for each write, its replicas keep up, and there is memory left. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/redis/redis_private.h"

enum {
    HEALTH_VALID_MS = 1000,
    HEALTH_WAIT_MS = 2000,
    LATENCY_MS_MAX = 100,
    REPLICAS_MAX = 64,
    MEMORY_PERCENT_MAX = 95,
};

static const uint64_t replica_lag_bytes_max = UINT64_C(16) << 20;

static void say(struct dr_health *out, const struct rd_node *n, const char *fmt, ...)
    DR_PRINTF(3, 4);
static void say(struct dr_health *out, const struct rd_node *n, const char *fmt, ...)
{
    char text[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)snprintf(out->reason, sizeof out->reason, "redis %s: %s", n->name, text);
    out->is_ok = false;
    out->wait_hint_ms = HEALTH_WAIT_MS;
}

static uint64_t number_of(const char *info, const char *field)
{
    char text[32];
    uint64_t number = 0;
    return dr_parse_u64(rd_info_field(info, field, text, sizeof text), &number) ? number : 0;
}

static void check_replicas(const struct rd_node *n, const char *info, struct dr_health *out)
{
    uint64_t own = number_of(info, "master_repl_offset");
    uint64_t count = number_of(info, "connected_slaves");
    for (uint64_t i = 0; i < count && i < REPLICAS_MAX && out->is_ok; i++) {
        char field[24];
        char line[256];
        (void)snprintf(field, sizeof field, "slave%" PRIu64, i);
        (void)rd_info_field(info, field, line, sizeof line);
        const char *at = strstr(line, "offset=");
        uint64_t offset = at == NULL ? own : strtoull(at + 7, NULL, 10);
        if (line[0] != '\0' && strstr(line, "state=online") == NULL) {
            say(out, n, "a replica is not in step (%.100s)", line);
        } else if (own > offset && own - offset > replica_lag_bytes_max) {
            say(out, n, "a replica lags by %" PRIu64 " bytes, limit %" PRIu64, own - offset,
                replica_lag_bytes_max);
        }
    }
}

static void check_info(const struct rd_node *n, const char *info, struct dr_health *out)
{
    char policy[32];
    uint64_t used = number_of(info, "used_memory");
    uint64_t most = number_of(info, "maxmemory");
    if (number_of(info, "loading") != 0) {
        say(out, n, "is loading its data set");
    } else if (number_of(info, "rdb_bgsave_in_progress") != 0) {
        say(out, n, "a fork is writing a snapshot (BGSAVE)");
    } else if (number_of(info, "aof_rewrite_in_progress") != 0) {
        say(out, n, "a fork is rewriting the append-only file");
    } else if (most > 0 && used / 100 * 100 > most / 100 * MEMORY_PERCENT_MAX &&
               strcmp(rd_info_field(info, "maxmemory_policy", policy, sizeof policy),
                      "noeviction") == 0) {
        say(out, n, "%" PRIu64 " of %" PRIu64 " bytes of memory are used, limit %d%%", used, most,
            MEMORY_PERCENT_MAX);
    } else {
        check_replicas(n, info, out);
    }
}

static enum dr_code ask_info(struct rd_node *n, struct dr_health *out, struct dr_err *err)
{
    static const char *words[] = {"INFO"};
    redisReply *reply = NULL;
    enum dr_code rc = rd_ask(n, &reply, err, 1, words);
    if (rc == DR_OK && reply->type != REDIS_REPLY_STRING) {
        rc = rd_fail_reply(n, reply, "INFO", err);
    } else if (rc == DR_OK) {
        check_info(n, reply->str, out);
    }
    freeReplyObject(reply);
    return rc;
}

static enum dr_code check_node(struct rd_store *s, struct rd_node *n, struct dr_health *out,
                               struct dr_err *err)
{
    static const char *words[] = {"PING"};
    redisReply *reply = NULL;
    enum dr_code rc = rd_node_connect(s, n, err);
    if (rc == DR_OK && !n->is_proxy) {
        rc = ask_info(n, out, err);
    }
    if (rc != DR_OK || !out->is_ok) {
        return rc;
    }
    int64_t start = dr_mono_us();
    rc = rd_ask(n, &reply, err, 1, words);
    int64_t spent_ms = (dr_mono_us() - start) / 1000;
    if (rc == DR_OK && reply->type == REDIS_REPLY_ERROR) {
        rc = rd_fail_reply(n, reply, "PING", err);
    } else if (rc == DR_OK && spent_ms > LATENCY_MS_MAX) {
        say(out, n, "PING took %" PRId64 " ms, limit %d", spent_ms, LATENCY_MS_MAX);
    }
    freeReplyObject(reply);
    return rc;
}

/* A lane whose primary has failed over works on whoever owns its slots now, so these are asked. */
static enum dr_code check_cluster(struct rd_store *s, const char *node, struct dr_health *out,
                                  struct dr_err *err)
{
    uint16_t primary[RD_NODES_MAX];
    struct rd_node *n = NULL;
    enum dr_code rc = DR_OK;
    if (rd_is_primary(s, node)) {
        rc = rd_node_find(s, node, false, &n, err);
        rc = rc == DR_OK ? check_node(s, n, out, err) : rc;
        if (rc != DR_UNREACHABLE) {
            return rc;
        }
        rc = rd_refresh(s, err);
        if (rc == DR_OK && rd_is_primary(s, node)) {
            return dr_fail(err, DR_UNREACHABLE, "redis %s: does not answer", node);
        }
    }
    uint32_t count = rc == DR_OK ? rd_primaries(s, primary) : 0;
    for (uint32_t i = 0; rc == DR_OK && out->is_ok && i < count; i++) {
        rc = check_node(s, s->node[primary[i]], out, err);
    }
    return rc;
}

enum dr_code rd_health(void *impl, const char *node, struct dr_health *out, struct dr_err *err)
{
    struct rd_store *s = impl;
    struct rd_node *n = NULL;
    *out = (struct dr_health){.is_ok = true, .valid_ms = HEALTH_VALID_MS};
    enum dr_code rc = rd_learn(s, err);
    if (s->is_kind_known && s->is_cluster) {
        return rc == DR_OK ? check_cluster(s, node, out, err) : rc;
    }
    if (!s->is_kind_known && rc != DR_OK) {
        return rc;
    }
    rc = rd_node_find(s, node, false, &n, err);
    return rc == DR_OK ? check_node(s, n, out, err) : rc;
}
