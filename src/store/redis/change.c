/* SPDX-License-Identifier: Apache-2.0 */
/* Probe and restore. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/redis/redis_private.h"

enum { LOOK_KEYS = 64 };

static enum dr_code probe_values(struct rd_store *s, const char *node, const struct dr_item *item,
                                 size_t count, struct dr_tally *tally, struct dr_err *err)
{
    struct rd_look look = {0};
    enum dr_code rc = rd_look(s, node, item, count, false, &look, err);
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        struct rd_value was;
        rc = rd_value_decode(&item[i], &was, err);
        if (rc == DR_OK && look.value[i].payload == NULL) {
            tally->absent++;
        } else if (rc == DR_OK) {
            bool is_same = rd_value_same(s, &was, &look.value[i]);
            tally->same += is_same;
            tally->changed += !is_same;
        }
    }
    rd_look_free(&look);
    return rc;
}

static enum dr_code probe_names(struct rd_store *s, const char *node, const struct dr_item *item,
                                size_t count, struct dr_tally *tally, struct dr_err *err)
{
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    enum dr_code rc = call == NULL ? dr_fail_nomem(err) : DR_OK;
    size_t made = 0;
    for (; rc == DR_OK && made < count; made++) {
        rc = rd_call_make(s, &call[made], "EXISTS", &item[made], 1, err);
    }
    if (rc == DR_OK) {
        rc = rd_exchange(s, node, call, count, NULL, err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const redisReply *r = call[i].reply;
        if (r->type != REDIS_REPLY_INTEGER) {
            rc = rd_fail_reply(call[i].to, r, "EXISTS", err);
        } else {
            tally->same += r->integer > 0;
            tally->absent += r->integer == 0;
        }
    }
    rd_calls_free(call, made);
    return rc;
}

enum dr_code rd_probe(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct rd_store *s = impl;
    enum dr_code rc = DR_OK;
    uint64_t step = batch->item[0].value != NULL ? LOOK_KEYS : RD_PIPE_CALLS;
    for (uint64_t i = 0; rc == DR_OK && i < batch->count; i += step) {
        size_t some = (size_t)(batch->count - i < step ? batch->count - i : step);
        dr_arena_reset(s->scratch);
        rc = batch->item[0].value != NULL
                 ? probe_values(s, range->node, &batch->item[i], some, tally, err)
                 : probe_names(s, range->node, &batch->item[i], some, tally, err);
    }
    return rc;
}

/* ---- restore ---- */

static enum dr_code make_restore(struct rd_store *s, struct rd_call *call,
                                 const struct dr_item *item, const struct rd_value *v,
                                 bool overwrite, struct dr_err *err)
{
    char ttl[24];
    (void)snprintf(ttl, sizeof ttl, "%" PRId64, v->expires_ms < 0 ? 0 : v->expires_ms);
    enum dr_code rc = rd_call_make(s, call, "RESTORE", item, 1, err);
    if (rc == DR_OK) {
        rc = rd_call_add(s, call, ttl, strlen(ttl), err);
    }
    if (rc == DR_OK) { /* borrowed: payloads are big, and the batch outlives the call */
        call->argv[call->argc] = v->payload;
        call->bytes[call->argc++] = v->payload_bytes;
        rc = rd_call_add(s, call, "ABSTTL", 6, err);
    }
    if (rc == DR_OK && overwrite) {
        rc = rd_call_add(s, call, "REPLACE", 7, err);
    }
    return rc;
}

static enum dr_code fail_restore(struct rd_call *call, struct dr_err *err)
{
    const redisReply *r = call->reply;
    if (rd_is_error(r, "ERR DUMP payload") || rd_is_error(r, "ERR Bad data format")) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "redis %s (version %s): cannot read what was archived: %.120s; it was "
                       "written by a newer server: restore on one of that version",
                       call->to->name, call->to->version, r->str);
    }
    return rd_fail_reply(call->to, r, "RESTORE", err);
}

/* Something is there already. The same thing? */
static enum dr_code judge_busy_key(struct rd_store *s, const char *node, const struct dr_item *item,
                                   const struct rd_value *was, struct dr_tally *tally,
                                   struct dr_err *err)
{
    struct rd_look look = {0};
    enum dr_code rc = rd_look(s, node, item, 1, false, &look, err);
    if (rc == DR_OK && look.value[0].payload == NULL) {
        rc = dr_fail(err, DR_BUSY, "redis: a key came and went while it was restored");
    } else if (rc == DR_OK) {
        bool is_same = rd_value_same(s, was, &look.value[0]);
        tally->same += is_same;
        tally->conflicts += !is_same;
    }
    rd_look_free(&look);
    return rc;
}

static enum dr_code restore_some(struct rd_store *s, const char *node, const struct dr_item *item,
                                 size_t count, bool overwrite, struct dr_tally *tally,
                                 struct dr_err *err)
{
    static const char point_sent[] = "store.redis.restore.sent";
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    struct rd_value *value = dr_arena_alloc(s->scratch, count * sizeof *value);
    size_t *of = dr_arena_alloc(s->scratch, count * sizeof *of);
    size_t calls = 0;
    int64_t now = dr_wall_now();
    if (call == NULL || value == NULL || of == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = rd_value_decode(&item[i], &value[i], err);
        if (rc == DR_OK && value[i].expires_ms >= 0 && value[i].expires_ms <= now) {
            tally->same++; /* had it never been erased, it would be gone by itself */
        } else if (rc == DR_OK) {
            of[calls] = i;
            rc = make_restore(s, &call[calls++], &item[i], &value[i], overwrite, err);
        }
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = rd_exchange(s, node, call, calls, point_sent, err);
    for (size_t c = 0; rc == DR_OK && c < calls; c++) {
        if (call[c].reply->type == REDIS_REPLY_STATUS) {
            tally->restored++;
        } else if (rd_is_error(call[c].reply, "BUSYKEY")) {
            rc = judge_busy_key(s, node, &item[of[c]], &value[of[c]], tally, err);
        } else {
            rc = fail_restore(&call[c], err);
        }
    }
    rd_calls_free(call, calls);
    return rc;
}

enum dr_code rd_restore(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err)
{
    struct rd_store *s = impl;
    struct rd_spec *p = NULL;
    enum dr_code rc = range->spec == NULL ? DR_OK : rd_spec_use(s, range->spec, &p, err);
    bool overwrite = p != NULL && p->overwrite;
    for (uint64_t i = 0; rc == DR_OK && i < batch->count; i += LOOK_KEYS) {
        size_t some = (size_t)(batch->count - i < LOOK_KEYS ? batch->count - i : LOOK_KEYS);
        dr_arena_reset(s->scratch);
        rc = restore_some(s, range->node, &batch->item[i], some, overwrite, tally, err);
    }
    return rc;
}
