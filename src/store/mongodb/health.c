/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a shard may be worked on now: no chunk moves, its secondaries keep up, the server does
 * not hold writers back itself, its cache is not full of unwritten pages, write tickets are left.
 *
 * The numbers come from the shard itself. Where it cannot be reached past the router (often it must
 * not be) they are missing: the survey says so, and moves and replies alone have to do. */
#include <netdb.h>

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum {
    HEALTH_VALID_MS = 1000,
    HEALTH_WAIT_MS = 5000,
    LAG_MS_MAX = 10000,
    DIRTY_PERCENT_MAX = 20,   /* the server's eviction trigger: behind it clients must evict */
    TICKETS_PERCENT_MAX = 90, /* of the write tickets in use */
    STATE_PRIMARY = 1,
    STATE_SECONDARY = 2,
};

static void say(struct dr_health *out, const struct mg_shard *shard, const char *fmt, ...)
    DR_PRINTF(3, 4);
static void say(struct dr_health *out, const struct mg_shard *shard, const char *fmt, ...)
{
    char text[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)snprintf(out->reason, sizeof out->reason, "shard %.64s: %s", shard->name, text);
    out->is_ok = false;
    out->wait_hint_ms = HEALTH_WAIT_MS;
}

static void check_server(const struct mg_shard *shard, const bson_t *status, struct dr_health *out)
{
    static const char *const pools[] = {"wiredTiger.concurrentTransactions.write",
                                        "queues.execution.write"};
    double dirty = 0;
    double room = 0;
    if (mg_is_true(status, "flowControl.isLagged")) {
        say(out, shard, "flow control says that the majority of its members lags");
        return;
    }
    if (mg_number(status, "wiredTiger.cache.tracked dirty bytes in the cache", &dirty) &&
        mg_number(status, "wiredTiger.cache.maximum bytes configured", &room) && room > 0 &&
        dirty * 100 > room * DIRTY_PERCENT_MAX) {
        say(out, shard, "%.0f%% of its cache is dirty, limit %d%%", dirty * 100 / room,
            DIRTY_PERCENT_MAX);
        return;
    }
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++) {
        bson_t pool;
        double used = 0;
        double total = 0;
        if (mg_document(status, pools[i], &pool) && mg_number(&pool, "out", &used) &&
            mg_number(&pool, "totalTickets", &total) && total > 0 &&
            used * 100 > total * TICKETS_PERCENT_MAX) {
            say(out, shard, "%.0f of %.0f write tickets are in use, limit %d%%", used, total,
                TICKETS_PERCENT_MAX);
            return;
        }
    }
}

static bool date_of(const bson_t *doc, const char *field, int64_t *out)
{
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, field) || !BSON_ITER_HOLDS_DATE_TIME(&it)) {
        return false;
    }
    *out = bson_iter_date_time(&it);
    return true;
}

/* Secondaries only: one that is down is the replica set's own business (majority writes tell). */
static void check_members(const struct mg_shard *shard, const bson_t *status, struct dr_health *out)
{
    bson_t members;
    bson_iter_t it;
    int64_t newest = 0;
    int64_t oldest = 0;
    bool has_primary = false;
    bool has_secondary = false;
    if (!mg_document(status, "members", &members) || !bson_iter_init(&it, &members)) {
        return;
    }
    while (bson_iter_next(&it)) {
        bson_t member;
        uint32_t bytes = 0;
        const uint8_t *data = NULL;
        double state = 0;
        int64_t at = 0;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it)) {
            continue;
        }
        bson_iter_document(&it, &bytes, &data);
        if (!bson_init_static(&member, data, bytes) || !mg_number(&member, "state", &state) ||
            !date_of(&member, "optimeDate", &at)) {
            continue;
        }
        if ((int)state == STATE_PRIMARY) {
            has_primary = true;
            newest = at;
        } else if ((int)state == STATE_SECONDARY && (!has_secondary || at < oldest)) {
            has_secondary = true;
            oldest = at;
        }
    }
    if (has_primary && has_secondary && newest - oldest > LAG_MS_MAX) {
        say(out, shard, "a secondary lags by %.1f s, limit %d s", (double)(newest - oldest) / 1000,
            LAG_MS_MAX / 1000);
    }
}

/* One status command to the shard itself. False, with the reason kept, when it cannot be read. */
static bool ask_shard(struct mg_shard *shard, const char *name, bson_t *reply)
{
    bson_error_t e = {0};
    bson_t *command = BCON_NEW(name, BCON_INT32(1));
    bool is_ok =
        mongoc_client_command_simple(shard->direct, "admin", command, NULL, reply, &e) != 0;
    bson_destroy(command);
    if (!is_ok) {
        (void)snprintf(shard->why_unreadable, sizeof shard->why_unreadable,
                       "shard %.64s: %s cannot be read: %.140s", shard->name, name, e.message);
    }
    return is_ok;
}

void mg_shard_health(struct mg_store *s, struct mg_shard *shard, struct dr_health *out)
{
    bson_t reply;
    if (mg_shard_direct(s, shard) == NULL) {
        return;
    }
    shard->why_unreadable[0] = '\0';
    bool is_read = ask_shard(shard, "serverStatus", &reply);
    if (is_read) {
        check_server(shard, &reply, out);
    }
    bson_destroy(&reply);
    bool is_set = strcmp(shard->name, "standalone") != 0 || s->is_router;
    if (!is_read || !out->is_ok || !is_set) {
        return;
    }
    if (ask_shard(shard, "replSetGetStatus", &reply)) {
        check_members(shard, &reply, out);
    }
    bson_destroy(&reply);
}

enum dr_code mg_health(void *impl, const char *node, struct dr_health *out, struct dr_err *err)
{
    struct mg_store *s = impl;
    bool is_moving = false;
    char what[200];
    enum dr_code rc = DR_OK;
    *out = (struct dr_health){.is_ok = true, .valid_ms = HEALTH_VALID_MS};
    struct mg_shard *shard = mg_shard_find(s, node);
    if (shard == NULL) {
        rc = mg_learn_shards(s, err);
        shard = rc == DR_OK ? mg_shard_find(s, node) : NULL;
    }
    if (rc == DR_OK && shard == NULL) {
        rc = dr_fail(err, DR_NOT_FOUND, "mongodb: there is no shard %.64s", node);
    }
    if (rc == DR_OK) {
        rc = mg_is_moving(s, s->coll.ns[0] == '\0' ? NULL : s->coll.ns, node, &is_moving, what,
                          sizeof what, err);
    }
    if (rc != DR_OK) {
        *out = (struct dr_health){0}; /* no reading means wait */
        return rc;
    }
    assert(shard != NULL);
    if (is_moving) {
        out->is_ok = false;
        out->wait_hint_ms = s->rebalance_ms;
        (void)snprintf(out->reason, sizeof out->reason, "rebalancing: %s", what);
        return DR_OK;
    }
    mg_shard_health(s, shard, out);
    if (!s->is_router && shard->why_unreadable[0] != '\0') {
        struct dr_err own; /* the one server there is: if it is gone, nothing may go on */
        bson_t reply;
        bson_t *ping = BCON_NEW("ping", BCON_INT32(1));
        rc = mg_run(s, "admin", ping, false, false, &reply, "ping", &own);
        bson_destroy(ping);
        bson_destroy(&reply);
        rc = rc == DR_OK ? DR_OK : dr_fail(err, rc, "%s", own.msg);
    }
    return rc;
}
