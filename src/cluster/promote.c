/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the promotion of a collection from auto to custom sharding, as the peer that was asked sees
 * it: validate, one entry, wait for the others; and the record of what became of each.
 *
 * Nothing here makes the promotion safe - apply does, on every peer, from replicated state alone.
 * What only this peer can see (is there a quorum, do all peers answer) is looked at before. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/cluster_private.h"

static const char *const phase_names[] = {
    [PROMOTION_VALIDATING] = "validating",
    [PROMOTION_PROPOSING] = "proposing",
    [PROMOTION_SETTLING] = "waiting_for_peers",
    [PROMOTION_DONE] = "done",
    [PROMOTION_UNKNOWN] = "unknown",
    [PROMOTION_FAILED] = "failed",
};

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
static const struct dr_metric_family promotions_running = {.name = "drover_promotions_running",
                                                           .help =
                                                               "Promotions going on at this peer",
                                                           .type = DR_METRIC_GAUGE};

/* --- the record
 * ----------------------------------------------------------------------------------- */

static uint32_t count_running(const struct dr_cluster *c)
{
    uint32_t running = 0;
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        running += c->promotion[i].is_used && c->promotion[i].ended == 0;
    }
    return running;
}

/* The oldest that has ended makes room. NULL: all places run. */
static struct promotion *find_place(struct dr_cluster *c)
{
    struct promotion *place = NULL;
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        struct promotion *p = &c->promotion[i];
        if (!p->is_used) {
            return p;
        }
        if (p->ended != 0 && (place == NULL || p->number < place->number)) {
            place = p;
        }
    }
    return place;
}

/* Returns its number; 0: too many at once. */
static uint64_t open_record(struct dr_cluster *c, const char *collection, const char *who)
{
    uint64_t number = 0;
    (void)pthread_mutex_lock(&c->lock);
    struct promotion *p = find_place(c);
    if (p != NULL) {
        memset(p, 0, sizeof *p);
        p->is_used = true;
        p->number = number = ++c->promotion_count;
        p->started = dr_wall_now();
        dr_copy_text(p->collection, sizeof p->collection, collection);
        dr_copy_text(p->who, sizeof p->who, who);
        dr_copy_text(p->key.text, sizeof p->key.text, "default");
    }
    uint32_t running = count_running(c);
    (void)pthread_mutex_unlock(&c->lock);
    dr_metric_set(dr_metrics_get(c->metrics, &promotions_running, NULL), running);
    return number;
}

static struct promotion *find_record(struct dr_cluster *c, uint64_t number)
{
    for (unsigned i = 0; i < PROMOTIONS_KEPT; i++) {
        if (c->promotion[i].is_used && c->promotion[i].number == number) {
            return &c->promotion[i];
        }
    }
    return NULL;
}

static void set_phase(struct dr_cluster *c, uint64_t number, enum promotion_phase phase)
{
    (void)pthread_mutex_lock(&c->lock);
    find_record(c, number)->phase = phase;
    (void)pthread_mutex_unlock(&c->lock);
}

static void set_key(struct dr_cluster *c, uint64_t number, const struct dr_shard_key *key)
{
    (void)pthread_mutex_lock(&c->lock);
    find_record(c, number)->key = *key;
    (void)pthread_mutex_unlock(&c->lock);
}

static void close_record(struct dr_cluster *c, uint64_t number, enum promotion_phase phase,
                         bool is_promoted, uint64_t index, const char *error)
{
    (void)pthread_mutex_lock(&c->lock);
    struct promotion *p = find_record(c, number);
    p->phase = phase;
    p->is_promoted = is_promoted;
    p->index = index;
    p->ended = dr_wall_now();
    dr_copy_text(p->error, sizeof p->error, error);
    uint32_t running = count_running(c);
    (void)pthread_mutex_unlock(&c->lock);
    dr_metric_set(dr_metrics_get(c->metrics, &promotions_running, NULL), running);
}

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
    set_key(c, number, &key);
    char *entry = validate(c, collection, body, until, reply);
    if (entry == NULL) {
        return false;
    }
    set_phase(c, number, PROMOTION_PROPOSING);
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
    set_phase(c, number, PROMOTION_SETTLING);
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
    uint64_t number = open_record(c, collection, name);
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
        close_record(c, number, is_unknown ? PROMOTION_UNKNOWN : PROMOTION_FAILED, false, 0,
                     reply->message);
        count_outcome(c, is_unknown ? "unknown" : is_refused ? "refused" : "failed");
        dr_log(c->log, DR_LOG_WARN, "a promotion was not done",
               "audit=yes collection=%s by=%s why=%s", collection, name, reply->message);
        return;
    }
    close_record(c, number, PROMOTION_DONE, is_promoted, index, "");
    count_outcome(c, is_promoted ? "promoted" : "unchanged");
    struct dr_cluster_reply ignored = {0};
    if (read_key(body, &key, &ignored)) {
        audit(c, collection, &key, name, is_promoted, index, begin);
    }
    dr_cluster_reply_fini(&ignored);
    give_result(c, collection, is_promoted, reply);
}

/* --- status
 * --------------------------------------------------------------------------------------- */

static json_t *shape_promotion(const struct promotion *p)
{
    char started[32];
    char ended[32];
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:b}", "id", (json_int_t)p->number,
                          "collection", p->collection, "phase", phase_names[p->phase], "by", p->who,
                          "started", dr_wall_text(p->started, started, sizeof started), "promoted",
                          (int)p->is_promoted);
    if (j == NULL) {
        return NULL;
    }
    bool is_whole =
        dr_shape_set(j, "default_shard_key", dr_shard_key_to_json(&p->key)) &&
        dr_shape_set(j, "ended",
                     p->ended == 0 ? json_null()
                                   : json_string(dr_wall_text(p->ended, ended, sizeof ended))) &&
        dr_shape_set(j, "error", p->error[0] == '\0' ? json_null() : json_string(p->error)) &&
        (p->index == 0 || dr_shape_set(j, "index", json_integer((json_int_t)p->index)));
    if (!is_whole) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* What this peer was not asked for, but knows to have happened. */
static json_t *shape_known(const struct dr_collection_info *info)
{
    json_t *key = dr_shard_key_to_json(&info->default_key);
    return key == NULL ? NULL
                       : json_pack("{s:s, s:s, s:b, s:o, s:n, s:n, s:n}", "collection", info->name,
                                   "phase", "done", "promoted", 1, "default_shard_key", key,
                                   "started", "ended", "error");
}

static bool is_wanted(const char *collection, const struct dr_collection_info *info,
                      const char *name)
{
    return collection == NULL || strcmp(collection, name) == 0 ||
           (info != NULL && strcmp(info->name, name) == 0);
}

static bool add(json_t *list, json_t *one)
{
    return one != NULL && json_array_append_new(list, one) == 0;
}

/* Newest first; then promoted collections that no record here is about. */
void dr_cluster_promotions(struct dr_cluster *c, const struct dr_cluster_caller *who,
                           const char *collection, const json_t *body,
                           struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    memset(reply, 0, sizeof *reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info =
        collection == NULL ? NULL : dr_catalog_find(cat, collection);
    json_t *list = json_array();
    bool is_whole = list != NULL;
    (void)pthread_mutex_lock(&c->lock);
    for (uint64_t n = c->promotion_count; is_whole && n > 0; n--) {
        const struct promotion *p = find_record(c, n);
        if (p == NULL && n + (uint64_t)PROMOTIONS_KEPT * 2 < c->promotion_count) {
            break; /* all before made room long ago */
        }
        if (p != NULL && is_wanted(collection, info, p->collection)) {
            is_whole = add(list, shape_promotion(p));
        }
    }
    (void)pthread_mutex_unlock(&c->lock);
    size_t recorded = json_array_size(list);
    for (uint32_t i = 0; is_whole && i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *one = dr_catalog_collection_at(cat, i);
        bool is_new = one->has_default_key && is_wanted(collection, info, one->name);
        for (size_t k = 0; is_new && k < recorded; k++) {
            const json_t *r = json_array_get(list, k);
            const char *name = json_string_value(json_object_get(r, "collection"));
            const char *phase = json_string_value(json_object_get(r, "phase"));
            is_new = strcmp(name, one->name) != 0 || strcmp(phase, "done") != 0;
        }
        is_whole = !is_new || add(list, shape_known(one));
    }
    dr_catalog_unref(cat);
    if (!is_whole) {
        json_decref(list);
        list = NULL;
    }
    dr_reply_give(reply, list == NULL ? NULL : json_pack("{s:o}", "promotions", list));
}
