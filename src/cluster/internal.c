/* SPDX-License-Identifier: Apache-2.0 */
/* The calls between peers: one table. An answer is always {"class", "message", "result"} inside a
 * successful reply, so that the asking peer sees the class itself. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_private.h"

/* "hello": who is here, and how far. */
static void say_hello(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    (void)body;
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        dr_reply_give(reply, NULL);
        return;
    }
    dr_node_status(c->node, s);
    uint32_t format = c->tuning.announced_format;
    format = format == UINT32_MAX ? 0 : format == 0 ? DR_CATALOG_FORMAT : format;
    bool is_well = s->state != DR_NODE_FAILED && s->state != DR_NODE_STOPPED;
    dr_reply_give(reply,
                  json_pack("{s:I, s:I, s:I, s:I, s:b}", "peer_id", (json_int_t)c->id, "format",
                            (json_int_t)format, "applied", (json_int_t)s->applied_index, "term",
                            (json_int_t)s->term, "is_well", (int)is_well));
    dr_free(s);
}

/* "commit": wait until `index` is applied here; 0 only asks. */
static void wait_commit(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    json_int_t index = json_integer_value(json_object_get(body, "index"));
    json_int_t timeout_ms = json_integer_value(json_object_get(body, "timeout_ms"));
    if (timeout_ms < 0 || timeout_ms > DR_CLUSTER_TIMEOUT_MS) {
        timeout_ms = DR_CLUSTER_TIMEOUT_MS;
    }
    if (index > 0) {
        enum dr_code rc =
            dr_node_wait_applied(c->node, (uint64_t)index, (uint32_t)timeout_ms, &err);
        if (rc != DR_OK) {
            dr_reply_class_err(reply, DR_CLASS_TIMEOUT, &err);
            return;
        }
    }
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        dr_reply_give(reply, NULL);
        return;
    }
    dr_node_status(c->node, s);
    dr_reply_give(reply, json_pack("{s:I, s:I}", "commit", (json_int_t)s->commit_index, "applied",
                                   (json_int_t)s->applied_index));
    dr_free(s);
}

/* "state": the newest state here and its hash, for comparing peers. It costs a snapshot. */
static void say_state(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    (void)body;
    struct dr_err err = {0};
    char text[24];
    uint64_t hash = 0;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    uint64_t index = dr_catalog_index(cat);
    enum dr_code rc = dr_catalog_hash(cat, &hash, &err);
    dr_catalog_unref(cat);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    dr_reply_give(reply, json_pack("{s:I, s:s}", "index", (json_int_t)index, "hash", text));
}

static void lead_barrier(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    dr_lead_here(c, body, dr_lead_barrier, reply);
}

static void lead_remove(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    dr_lead_here(c, body, dr_lead_remove, reply);
}

static void lead_transfer(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    dr_lead_here(c, body, dr_lead_transfer, reply);
}

static const struct {
    const char *name;
    void (*run)(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply);
} calls[] = {
    {"hello", say_hello},
    {"commit", wait_commit},
    {"state", say_state},
    {"propose", dr_propose_here},
    {"join", dr_member_take_in},
    {"barrier", lead_barrier},
    {"remove", lead_remove},
    {"transfer", lead_transfer},
    {"shards/empty", dr_transfer_empty_here},
    {"points/write", dr_points_write_here},
    {"points/read", dr_points_read_here},
};

void dr_cluster_internal(struct dr_cluster *c, const char *name, const json_t *body,
                         struct dr_cluster_reply *reply)
{
    struct dr_cluster_reply inner = {0};
    memset(reply, 0, sizeof *reply);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            calls[i].run(c, body, &inner);
            json_t *result = inner.result == NULL ? json_null() : inner.result;
            dr_reply_give(reply, json_pack("{s:s, s:s, s:O}", "class", dr_class_name(inner.class),
                                           "message", inner.message, "result", result));
            dr_cluster_reply_fini(&inner);
            return;
        }
    }
    dr_reply_fail(reply, DR_CLASS_NOT_FOUND, "no call between peers is named %.64s", name);
}
