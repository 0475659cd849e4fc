/* SPDX-License-Identifier: Apache-2.0 */
/* What of a key is read, archived and compared: type, DUMP payload and absolute expiry. The codec
 * is dr_values_encode of [1, type, payload, expiry or null]; the 1 is its version. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/redis/redis_private.h"

enum { VALUE_VERSION = 1, VALUE_PARTS = 4, CALLS_PER_KEY = 3, EXPIRY_SLACK_MS = 1500 };

enum dr_code rd_value_encode(const struct rd_value *v, struct dr_str *out, struct dr_err *err)
{
    struct dr_value part[VALUE_PARTS] = {
        {.type = DR_V_INT, .i = VALUE_VERSION},
        {.type = DR_V_TEXT, .data = v->type, .len = v->type_bytes},
        {.type = DR_V_BLOB, .data = v->payload, .len = v->payload_bytes},
        {.type = v->expires_ms < 0 ? DR_V_NULL : DR_V_INT, .i = v->expires_ms},
    };
    dr_str_clear(out);
    dr_values_encode(part, VALUE_PARTS, out);
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code rd_value_decode(const struct dr_item *item, struct rd_value *out, struct dr_err *err)
{
    struct dr_value part[VALUE_PARTS];
    uint32_t count = 0;
    *out = (struct rd_value){0};
    enum dr_code rc =
        dr_values_decode(item->value, item->value_len, part, VALUE_PARTS, &count, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (count != VALUE_PARTS || part[0].type != DR_V_INT || part[0].i != VALUE_VERSION ||
        part[1].type != DR_V_TEXT || part[2].type != DR_V_BLOB || part[2].len == 0 ||
        (part[3].type != DR_V_INT && part[3].type != DR_V_NULL)) {
        return dr_fail(err, DR_CORRUPT, "an archived value that is not one of redis");
    }
    *out = (struct rd_value){
        .type = part[1].data,
        .type_bytes = part[1].len,
        .payload = part[2].data,
        .payload_bytes = part[2].len,
        .expires_ms = part[3].type == DR_V_NULL ? -1 : part[3].i,
    };
    return DR_OK;
}

/* Servers before 7.0 tell only the remaining time, so the computed expiry differs a little. */
bool rd_value_same(const struct rd_store *s, const struct rd_value *a, const struct rd_value *b)
{
    int64_t slack = s->lacks_pexpiretime ? EXPIRY_SLACK_MS : 0;
    bool is_forever = a->expires_ms < 0 || b->expires_ms < 0;
    if (a->payload_bytes != b->payload_bytes ||
        memcmp(a->payload, b->payload, a->payload_bytes) != 0) {
        return false;
    }
    return is_forever ? a->expires_ms == b->expires_ms
                      : llabs(a->expires_ms - b->expires_ms) <= slack;
}

/* ---- types ---- */

static const char *type_of(const struct rd_spec *p, const redisReply *r)
{
    for (uint32_t i = 0; i < p->type_count; i++) {
        if (strcmp(p->type[i], r->str) == 0) {
            return p->type[i];
        }
    }
    return strcmp(r->str, "none") == 0 ? "none" : "other";
}

/* One command per key, in one exchange. */
static enum dr_code ask_each(struct rd_store *s, const char *node, const char *command,
                             const struct dr_item *item, size_t count, const char *from,
                             const char *upto, struct rd_call **call_out, struct dr_err *err)
{
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    enum dr_code rc = call == NULL ? dr_fail_nomem(err) : DR_OK;
    *call_out = NULL;
    if (call != NULL) {
        memset(call, 0, count * sizeof *call);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = rd_call_make(s, &call[i], command, &item[i], 1, err);
        if (rc == DR_OK && from != NULL) {
            rc = rd_call_add(s, &call[i], from, strlen(from), err);
        }
        if (rc == DR_OK && upto != NULL) {
            rc = rd_call_add(s, &call[i], upto, strlen(upto), err);
        }
    }
    if (rc == DR_OK) {
        rc = rd_exchange(s, node, call, count, NULL, err);
    }
    if (rc != DR_OK) {
        rd_calls_free(call, call == NULL ? 0 : count);
        return rc;
    }
    *call_out = call;
    return DR_OK;
}

enum dr_code rd_types(struct rd_store *s, const char *node, const struct rd_spec *p,
                      const struct dr_item *item, size_t count, const char **type_out,
                      struct dr_err *err)
{
    struct rd_call *call = NULL;
    enum dr_code rc = ask_each(s, node, "TYPE", item, count, NULL, NULL, &call, err);
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        if (call[i].reply->type == REDIS_REPLY_STATUS) {
            type_out[i] = type_of(p, call[i].reply);
        } else {
            rc = rd_fail_reply(call[i].to, call[i].reply, "TYPE", err);
        }
    }
    rd_calls_free(call, call == NULL ? 0 : count);
    return rc;
}

/* GETRANGE of two bytes: enough to tell "0" from "00", and no big value travels. */
enum dr_code rd_zeroes(struct rd_store *s, const char *node, const struct dr_item *item,
                       size_t count, bool *out, struct dr_err *err)
{
    struct rd_call *call = NULL;
    enum dr_code rc = ask_each(s, node, "GETRANGE", item, count, "0", "1", &call, err);
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const redisReply *r = call[i].reply;
        out[i] = r->type == REDIS_REPLY_STRING && r->len == 1 && r->str[0] == '0';
        if (r->type == REDIS_REPLY_ERROR && !rd_is_error(r, "WRONGTYPE")) {
            rc = rd_fail_reply(call[i].to, r, "GETRANGE", err);
        }
    }
    rd_calls_free(call, call == NULL ? 0 : count);
    return rc;
}

/* ---- looking ---- */

void rd_look_free(struct rd_look *l)
{
    rd_calls_free(l->call, l->call_count);
    *l = (struct rd_look){0};
}

static enum dr_code make_look(struct rd_store *s, const struct dr_item *item, size_t count,
                              bool watch, struct rd_look *out, struct dr_err *err)
{
    const char *expiry = s->lacks_pexpiretime ? "PTTL" : "PEXPIRETIME";
    size_t run_end = 0;
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        if (watch && i == run_end) {
            size_t run = rd_run_length(s, item, i, count, RD_KEYS_PER_COMMAND);
            rc = rd_call_make(s, &out->call[out->call_count++], "WATCH", &item[i], run, err);
            run_end = i + run;
        }
        if (rc == DR_OK) {
            rc = rd_call_make(s, &out->call[out->call_count++], "DUMP", &item[i], 1, err);
        }
        if (rc == DR_OK) {
            rc = rd_call_make(s, &out->call[out->call_count++], expiry, &item[i], 1, err);
        }
    }
    return rc;
}

static enum dr_code read_one(struct rd_store *s, const struct rd_call *dump,
                             const struct rd_call *expiry, int64_t now, struct rd_value *out,
                             struct dr_err *err)
{
    const redisReply *r = dump->reply;
    const redisReply *e = expiry->reply;
    *out = (struct rd_value){.type = "string", .type_bytes = 6, .expires_ms = -1};
    if (r->type == REDIS_REPLY_NIL) {
        return DR_OK;
    }
    if (r->type != REDIS_REPLY_STRING) {
        return rd_fail_reply(dump->to, r, "DUMP", err);
    }
    if (e->type != REDIS_REPLY_INTEGER) {
        return rd_fail_reply(expiry->to, e, expiry->argv[0], err);
    }
    if (e->integer == -2) {
        return DR_OK; /* expired in between: it is absent */
    }
    out->payload = r->str;
    out->payload_bytes = r->len;
    out->expires_ms = e->integer < 0 ? -1 : e->integer + (s->lacks_pexpiretime ? now : 0);
    return DR_OK;
}

static enum dr_code read_look(struct rd_store *s, struct rd_look *l, bool *again,
                              struct dr_err *err)
{
    size_t key = 0;
    int64_t now = dr_wall_now();
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < l->call_count; i++) {
        struct rd_call *c = &l->call[i];
        if (c->argv[0][0] == 'W') {
            if (rd_is_error(c->reply, "TRYAGAIN")) {
                s->redirects++; /* a slot on its way: these keys are simply not watched */
            } else if (c->reply->type != REDIS_REPLY_STATUS) {
                rc = rd_fail_reply(c->to, c->reply, "WATCH", err);
            }
            continue;
        }
        if (!s->lacks_pexpiretime && rd_is_unknown_command(c[1].reply)) {
            s->lacks_pexpiretime = true;
            *again = true;
            return DR_OK;
        }
        rc = read_one(s, c, c + 1, now, &l->value[key++], err);
        i++;
    }
    assert(rc != DR_OK || key == l->count);
    return rc;
}

enum dr_code rd_look(struct rd_store *s, const char *node, const struct dr_item *item, size_t count,
                     bool watch, struct rd_look *out, struct dr_err *err)
{
    bool again = true;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && again) { /* twice where a server turns out to be old */
        again = false;
        *out = (struct rd_look){.count = count};
        out->call = dr_arena_alloc(s->scratch, count * CALLS_PER_KEY * sizeof *out->call);
        out->value = dr_arena_alloc(s->scratch, count * sizeof *out->value);
        if (out->call == NULL || out->value == NULL) {
            return dr_fail_nomem(err);
        }
        memset(out->call, 0, count * CALLS_PER_KEY * sizeof *out->call);
        rc = make_look(s, item, count, watch, out, err);
        if (rc == DR_OK) {
            rc = rd_exchange(s, node, out->call, out->call_count, NULL, err);
        }
        if (rc == DR_OK) {
            rc = read_look(s, out, &again, err);
        }
        if (rc != DR_OK || again) {
            rd_look_free(out);
        }
    }
    return rc;
}
