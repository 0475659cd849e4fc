/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the promotion of a collection from auto to custom sharding, as the peer that was asked sees
 * it: validate, one entry, wait for the others. What became of each is noted by promotions.c.
 *
 * Nothing here makes the promotion safe - apply does, on every peer, from replicated state alone.
 * What only this peer can see (is there a quorum, do all peers answer) is looked at before. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/cluster_private.h"

static const struct dr_metric_family promotions_total = {
    .name = "drover_promotions_total",
    .help = "Promotions from auto to custom sharding asked of this peer, by outcome",
    .type = DR_METRIC_COUNTER,
    .label_count = 1,
    .label = {"outcome"}};
static const struct dr_metric_family promotion_seconds = {
    .name = "drover_promotion_seconds",
    .help = "From the question to the answer, of promotions that succeeded",
    .type = DR_METRIC_HISTOGRAM,
    .bucket_count = 10,
    .bucket = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10}};
/* --- validation
 * ----------------------------------------------------------------------------------- */

/* A leader that a quorum confirms. */
static bool check_quorum(struct dr_cluster *c, uint64_t timeout_ms, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    json_t *body = json_object();
    enum dr_code rc = body == NULL
                          ? dr_fail_nomem(&err)
                          : dr_lead_or_ask(c, "barrier", body, timeout_ms, dr_lead_barrier, &err);
    json_decref(body);
    if (rc != DR_OK) {
        dr_reply_fail(reply, DR_CLASS_SERVICE,
                      "the cluster has no quorum, so nothing can be promoted: %s", err.msg);
    }
    return rc == DR_OK;
}

static bool judge_hello(const struct peer_call *call, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    if (dr_peers_judge(call, &err) != DR_OK ||
        !json_is_true(json_object_get(call->reply.result, "is_well"))) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE,
                      "all peers have to be reachable for a promotion: %s",
                      err.msg[0] != '\0' ? err.msg : "one of them has stopped its consensus");
        return false;
    }
    json_int_t id = json_integer_value(json_object_get(call->reply.result, "peer_id"));
    json_int_t format = json_integer_value(json_object_get(call->reply.result, "format"));
    if ((uint64_t)id != call->peer_id) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE,
                      "peer %" PRIu64 " is not at %s any more: peer %lld answers there",
                      call->peer_id, call->uri, (long long)id);
        return false;
    }
    if (format < DR_CATALOG_FORMAT) {
        dr_reply_fail(reply, DR_CLASS_BAD_REQUEST,
                      "peer %" PRIu64 " runs a program that does not understand promotions: update "
                      "it first",
                      call->peer_id);
        return false;
    }
    return true;
}

static bool check_peers(struct dr_cluster *c, uint64_t timeout_ms, struct dr_cluster_reply *reply)
{
    uint32_t count = 0;
    bool is_good = true;
    uint64_t wait_ms = timeout_ms < PEER_LOOK_MS ? timeout_ms : PEER_LOOK_MS;
    json_t *body = json_object();
    struct peer_call *call =
        body == NULL ? NULL : dr_peers_ask_all(c, "hello", body, wait_ms, &count);
    if (call == NULL) {
        dr_reply_give(reply, NULL);
        is_good = false;
    }
    for (uint32_t i = 0; is_good && i < count; i++) {
        is_good = judge_hello(&call[i], reply);
    }
    dr_peers_free(call, count);
    json_decref(body);
    return is_good;
}

static bool read_key(const json_t *body, struct dr_shard_key *key, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    const json_t *given = json_object_get(body, "default_shard_key");
    memset(key, 0, sizeof *key);
    dr_copy_text(key->text, sizeof key->text, "default");
    if (given == NULL || json_is_null(given)) {
        return true;
    }
    if (dr_shard_key_from_json(given, "default_shard_key", key, &err) != DR_OK) {
        dr_reply_err(reply, &err);
        return false;
    }
    return true;
}

/* The entry, if nothing speaks against it; NULL: see the reply. An already promoted collection is
 * told so whoever is reachable. */
static char *validate(struct dr_cluster *c, const char *collection, const json_t *body,
                      dr_mono_ms until, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_reply_find(cat, collection, reply);
    bool is_auto = info != NULL && info->method == DR_SHARDING_AUTO;
    bool is_found = info != NULL;
    dr_catalog_unref(cat);
    if (!is_found) {
        return NULL;
    }
    dr_mono_ms left = until - dr_mono_now();
    uint64_t wait_ms = left < 1 ? 1 : (uint64_t)left;
    if (is_auto && (!check_quorum(c, wait_ms, reply) || !check_peers(c, wait_ms, reply))) {
        return NULL;
    }
    cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_promote(cat, collection, body, &entry, &err);
    dr_catalog_unref(cat);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return NULL;
    }
    return entry;
}

/* --- the call
 * ------------------------------------------------------------------------------------- */

static void give_result(struct dr_cluster *c, const char *collection, bool is_promoted,
                        struct dr_cluster_reply *reply)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_reply_find(cat, collection, reply);
    if (info != NULL && info->has_default_key) {
        const struct dr_key_ring *ring = dr_collection_ring(info, &info->default_key);
        json_t *j =
            json_pack("{s:b, s:I, s:I, s:s}", "promoted", (int)is_promoted, "shards",
                      (json_int_t)(ring == NULL ? 0 : ring->shard_count), "shard_number",
                      (json_int_t)info->shard_number, "shard_number_means", "shards per key");
        if (j != NULL &&
            !dr_shape_set(j, "default_shard_key", dr_shard_key_to_json(&info->default_key))) {
            json_decref(j);
            j = NULL;
        }
        dr_reply_give(reply, j);
    } else if (info != NULL) {
        dr_reply_fail(reply, DR_CLASS_BAD_REQUEST,
                      "collection `%s` was promoted and has been changed again since", collection);
    }
    dr_catalog_unref(cat);
}

static void count_outcome(struct dr_cluster *c, const char *outcome)
{
    dr_metric_add(dr_metrics_get(c->metrics, &promotions_total, &outcome), 1);
}

static void audit(struct dr_cluster *c, const char *collection, const struct dr_shard_key *key,
                  const char *who, bool is_promoted, uint64_t index, dr_mono_ms begin)
{
    char print[DR_SHARD_KEY_BYTES_MAX + 3];
    dr_log(c->log, DR_LOG_INFO, "promoted a collection to custom sharding",
           "audit=yes collection=%s key=%s by=%s changed=%d index=%llu ms=%lld", collection,
           dr_shard_key_print(key, print, sizeof print), who, (int)is_promoted,
           (unsigned long long)index, (long long)(dr_mono_now() - begin));
    dr_metric_see(dr_metrics_get(c->metrics, &promotion_seconds, NULL),
                  (double)(dr_mono_now() - begin) / 1000.0);
}

/* Everything between the two ends of the record. True: applied; *promoted_out, *index_out. */
static bool run_promotion(struct dr_cluster *c, const struct dr_cluster_caller *who,
                          const char *collection, const json_t *body, uint64_t number,
                          bool *promoted_out, uint64_t *index_out, struct dr_cluster_reply *reply)
{
    struct dr_shard_key key;
    struct proposal p;
    struct dr_err err = {0};
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)dr_caller_timeout(who);
    if (!read_key(body, &key, reply)) {
        return false;
    }
    dr_promotions_aim(c, number, &key);
    char *entry = validate(c, collection, body, until, reply);
    if (entry == NULL) {
        return false;
    }
    dr_promotions_enter(c, number, PROMOTION_PROPOSING);
    dr_fault_mark("cluster.promote.before_propose");
    dr_mono_ms left = until - dr_mono_now();
    struct dr_cluster_caller rest = {.who = who == NULL ? NULL : who->who,
                                     .timeout_ms = left < 1 ? 1 : (uint64_t)left};
    if (!dr_propose_for(c, &rest, entry, DR_OK, &err, &p, reply)) {
        return false;
    }
    json_decref(p.result.value);
    *promoted_out = p.result.changed;
    *index_out = p.index;
    dr_promotions_enter(c, number, PROMOTION_SETTLING);
    dr_fault_mark("cluster.promote.before_settle");
    left = until - dr_mono_now();
    (void)dr_peers_settle(c, p.index, left < 1 ? 1 : (uint64_t)left);
    return true;
}

void dr_cluster_promote(struct dr_cluster *c, const struct dr_cluster_caller *who,
                        const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    bool is_promoted = false;
    uint64_t index = 0;
    struct dr_shard_key key;
    dr_mono_ms begin = dr_mono_now();
    const char *name = who == NULL || who->who == NULL ? "unknown" : who->who;
    memset(reply, 0, sizeof *reply);
    if (!dr_reply_need_cluster(c, reply)) {
        count_outcome(c, "refused");
        return;
    }
    uint64_t number = dr_promotions_open(c, collection, name);
    if (number == 0) {
        dr_reply_fail(reply, DR_CLASS_SERVICE, "%d promotions are going on here: ask again later",
                      PROMOTIONS_KEPT);
        count_outcome(c, "refused");
        return;
    }
    if (!run_promotion(c, who, collection, body, number, &is_promoted, &index, reply)) {
        bool is_unknown =
            reply->class == DR_CLASS_SERVICE && strstr(reply->message, "commit failed") != NULL;
        bool is_refused = reply->class != DR_CLASS_SERVICE;
        dr_promotions_close(c, number, is_unknown ? PROMOTION_UNKNOWN : PROMOTION_FAILED, false, 0,
                            reply->message);
        count_outcome(c, is_unknown ? "unknown" : is_refused ? "refused" : "failed");
        dr_log(c->log, DR_LOG_WARN, "a promotion was not done",
               "audit=yes collection=%s by=%s why=%s", collection, name, reply->message);
        return;
    }
    dr_promotions_close(c, number, PROMOTION_DONE, is_promoted, index, "");
    count_outcome(c, is_promoted ? "promoted" : "unchanged");
    struct dr_cluster_reply ignored = {0};
    if (read_key(body, &key, &ignored)) {
        audit(c, collection, &key, name, is_promoted, index, begin);
    }
    dr_cluster_reply_fini(&ignored);
    give_result(c, collection, is_promoted, reply);
}
