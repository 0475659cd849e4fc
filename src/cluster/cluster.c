/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the life of a peer: its node, its shards' files, its keeper; and what it says about itself.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/file.h"
#include "cluster/cluster_private.h"

enum { ALONE_MS = 5000, CATCH_UP_PAUSE_MS = 10 };

static void note_change(void *arg, const struct dr_catalog *cat)
{
    (void)cat;
    dr_keeper_wake(arg);
}

static void note_failure(void *arg, const struct dr_err *why)
{
    struct dr_cluster *c = arg;
    dr_log_err(c->log, DR_LOG_ERROR, "this raft peer has stopped for good", why);
}

static bool copy_if(char **out, const char *text)
{
    *out = text == NULL ? NULL : dr_strdup(text);
    return text == NULL || *out != NULL;
}

/* "http://host/" and "http://host" are the same peer. */
static bool copy_uri(char **out, const char *text)
{
    if (!copy_if(out, text)) {
        return false;
    }
    size_t len = *out == NULL ? 0 : strlen(*out);
    while (len > 0 && (*out)[len - 1] == '/') {
        (*out)[--len] = '\0';
    }
    return true;
}

static enum dr_code copy_config(struct dr_cluster *c, const struct dr_cluster_config *config,
                                struct dr_err *err)
{
    c->id = config->raft_id == 0 ? 1 : config->raft_id;
    c->is_distributed = config->raft_listen != NULL;
    c->log = config->log;
    c->metrics = config->metrics;
    if (config->join_uri != NULL && config->raft_listen == NULL) {
        return dr_fail(err, DR_USAGE,
                       "joining a cluster needs a raft listener: give --raft-listen");
    }
    if (config->peer_token != NULL) {
        c->authorization = dr_asprintf("Bearer %s", config->peer_token);
    }
    if (!copy_if(&c->dir, config->dir) || !copy_if(&c->raft_listen, config->raft_listen) ||
        !copy_uri(&c->api_uri, config->api_uri == NULL ? "" : config->api_uri) ||
        !copy_uri(&c->join_uri, config->join_uri) ||
        (config->peer_token != NULL && c->authorization == NULL)) {
        return dr_fail_nomem(err);
    }
    return DR_OK;
}

static enum dr_code start_node(struct dr_cluster *c, const struct dr_cluster_config *given,
                               struct dr_err *err)
{
    const struct dr_node_config config = {.id = c->id,
                                          .listen = c->raft_listen,
                                          .secret = given->raft_secret,
                                          .is_open = given->is_raft_open,
                                          .dir = c->dir,
                                          .is_bootstrap = given->is_bootstrap || !c->is_distributed,
                                          .election_ms = c->tuning.election_ms,
                                          .snapshot_threshold = c->tuning.snapshot_threshold,
                                          .snapshot_trailing = c->tuning.snapshot_trailing,
                                          .log = c->log,
                                          .on_change = note_change,
                                          .on_change_arg = c,
                                          .on_failed = note_failure,
                                          .on_failed_arg = c};
    enum dr_code rc = dr_node_create(&config, &c->node, err);
    return rc == DR_OK ? dr_node_start(c->node, err) : rc;
}

static enum dr_code start_keeper(struct dr_cluster *c, struct dr_err *err)
{
    if (pthread_create(&c->keeper, NULL, dr_keeper_main, c) != 0) {
        return dr_fail(err, DR_IO, "no thread for the cluster's keeper: are there too many?");
    }
    c->has_keeper = true;
    return DR_OK;
}

/* Alone, it is listed before anybody asks for a collection, which needs peers to be put on. Of
 * several, the keeper does it when there is a leader. */
static void announce_alone(struct dr_cluster *c)
{
    struct dr_err err = {0};
    uint64_t leader = 0;
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return; /* the keeper tries again */
    }
    dr_node_status(c->node, s);
    bool is_alone = s->is_voter && s->member_count == 1;
    dr_free(s);
    if (!is_alone) {
        return;
    }
    enum dr_code rc = dr_node_wait_leader(c->node, ALONE_MS, &leader, &err);
    if (rc == DR_OK) {
        rc = dr_member_announce(c, &err);
    }
    c->is_announced = rc == DR_OK;
    if (rc != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "announcing this peer failed, trying again", &err);
    }
}

static void init_locks(struct dr_cluster *c)
{
    dr_mono_cond_init(&c->wake);
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_mutex_init(&c->http_lock, NULL);
    (void)pthread_mutex_init(&c->record_lock, NULL);
    c->is_lock_there = true;
}

enum dr_code dr_cluster_start_tuned(const struct dr_cluster_config *config,
                                    const struct cluster_tuning *tuning, struct dr_cluster **out,
                                    struct dr_err *err)
{
    *out = NULL;
    struct dr_cluster *c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    if (tuning != NULL) {
        c->tuning = *tuning;
    }
    init_locks(c);
    enum dr_code rc = copy_config(c, config, err);
    if (rc == DR_OK) {
        rc = dr_dir_make(c->dir, err);
    }
    if (rc == DR_OK) {
        const struct shard_place place = {
            .dir = c->dir, .store = config->points_store, .peer_id = c->id, .log = c->log};
        rc = dr_shards_init(&c->shards, &place, err);
    }
    if (rc == DR_OK) {
        rc = start_node(c, config, err);
    }
    if (rc == DR_OK) {
        dr_promotions_load(c); /* under the folder's lock, which the node holds */
        announce_alone(c);
        rc = start_keeper(c, err);
    }
    if (rc != DR_OK) {
        dr_cluster_stop(c);
        return rc;
    }
    dr_log(c->log, DR_LOG_INFO, "catalog peer started", "peer=%llu raft=%s api=%s points=%s",
           (unsigned long long)c->id, c->raft_listen == NULL ? "none" : c->raft_listen, c->api_uri,
           c->shards.store);
    *out = c;
    return DR_OK;
}

enum dr_code dr_cluster_start(const struct dr_cluster_config *config, struct dr_cluster **out,
                              struct dr_err *err)
{
    return dr_cluster_start_tuned(config, NULL, out, err);
}

void dr_cluster_stop(struct dr_cluster *c)
{
    if (c == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&c->lock);
    c->is_stopping = true;
    (void)pthread_cond_broadcast(&c->wake);
    (void)pthread_mutex_unlock(&c->lock);
    if (c->has_keeper) {
        (void)pthread_join(c->keeper, NULL);
    }
    dr_transfer_fini(c);
    dr_node_destroy(c->node);
    dr_catalog_unref(c->seen);
    dr_shards_fini(&c->shards);
    dr_peers_fini(c);
    (void)pthread_mutex_destroy(&c->http_lock);
    (void)pthread_mutex_destroy(&c->record_lock);
    (void)pthread_mutex_destroy(&c->lock);
    (void)pthread_cond_destroy(&c->wake);
    dr_free(c->dir);
    dr_free(c->raft_listen);
    dr_free(c->api_uri);
    dr_free(c->join_uri);
    dr_free(c->authorization);
    dr_free(c);
}

bool dr_cluster_is_distributed(const struct dr_cluster *c)
{
    return c->is_distributed;
}

struct dr_catalog *dr_cluster_catalog(const struct dr_cluster *c)
{
    return dr_node_catalog(c->node);
}

uint64_t dr_cluster_peer_id(const struct dr_cluster *c)
{
    return c->id;
}

bool dr_cluster_is_stopping(void *cluster)
{
    struct dr_cluster *c = cluster;
    (void)pthread_mutex_lock(&c->lock);
    bool is_stopping = c->is_stopping;
    (void)pthread_mutex_unlock(&c->lock);
    return is_stopping;
}

/* --- versions of points: milliseconds and a counter, never backwards ----------------------------
 */

enum { COUNTER_BITS = 20 };

uint64_t dr_cluster_next_version(struct dr_cluster *c)
{
    uint64_t now = (uint64_t)dr_wall_now() << COUNTER_BITS;
    uint_fast64_t last = atomic_load(&c->clock);
    uint64_t next = 0;
    do {
        next = last >= now ? last + 1 : now;
        /* Two peers never give the same one: the low bits carry who gave it. */
        next = (next & ~UINT64_C(0xff)) + (c->id & 0xff);
        next = next <= last ? next + 0x100 : next;
    } while (!atomic_compare_exchange_weak(&c->clock, &last, next));
    return next;
}

void dr_cluster_see_version(struct dr_cluster *c, uint64_t version)
{
    uint_fast64_t last = atomic_load(&c->clock);
    while (last < version && !atomic_compare_exchange_weak(&c->clock, &last, version)) {
    }
}

/* --- what it says about itself ------------------------------------------------------------------
 */

static json_t *shape_peers(const struct dr_catalog *cat)
{
    json_t *peers = json_object();
    for (uint32_t i = 0; peers != NULL && i < dr_catalog_peer_count(cat); i++) {
        const struct dr_peer *p = dr_catalog_peer_at(cat, i);
        char id[24];
        (void)snprintf(id, sizeof id, "%" PRIu64, p->id);
        if (!dr_shape_set(peers, id,
                          json_pack("{s:s, s:s}", "uri", p->uri, "version", p->version))) {
            json_decref(peers);
            return NULL;
        }
    }
    return peers;
}

static json_t *shape_thread(const struct dr_node_status *s)
{
    char at[32];
    if (s->state == DR_NODE_FAILED) {
        return json_pack("{s:s, s:s}", "consensus_thread_status", "stopped_with_err", "err",
                         s->failure.msg);
    }
    if (s->state == DR_NODE_STOPPED) {
        return json_pack("{s:s}", "consensus_thread_status", "stopped");
    }
    return json_pack("{s:s, s:s}", "consensus_thread_status", "working", "last_update",
                     dr_wall_text(dr_wall_now(), at, sizeof at));
}

static json_t *shape_raft(const struct dr_node_status *s)
{
    json_t *raft =
        json_pack("{s:I, s:I, s:I, s:s, s:b}", "term", (json_int_t)s->term, "commit",
                  (json_int_t)s->commit_index, "pending_operations", (json_int_t)s->waiting, "role",
                  dr_node_state_name(s->state), "is_voter", (int)s->is_voter);
    if (raft != NULL && s->leader_id != 0 &&
        !dr_shape_set(raft, "leader", json_integer((json_int_t)s->leader_id))) {
        json_decref(raft);
        return NULL;
    }
    return raft;
}

json_t *dr_cluster_info(struct dr_cluster *c)
{
    json_t *info = NULL;
    if (!c->is_distributed) {
        return json_pack("{s:s}", "status", "disabled");
    }
    struct dr_node_status *s = dr_calloc(1, sizeof *s); /* large: it lists the members */
    if (s == NULL) {
        return NULL;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    dr_node_status(c->node, s);
    info = json_pack("{s:s, s:I, s:{}}", "status", "enabled", "peer_id", (json_int_t)c->id,
                     "message_send_failures");
    if (info != NULL && (!dr_shape_set(info, "peers", shape_peers(cat)) ||
                         !dr_shape_set(info, "raft_info", shape_raft(s)) ||
                         !dr_shape_set(info, "consensus_thread_status", shape_thread(s)))) {
        json_decref(info);
        info = NULL;
    }
    dr_catalog_unref(cat);
    dr_free(s);
    return info;
}

/* --- readiness ----------------------------------------------------------------------------------
 */

bool dr_cluster_ask_commit(struct dr_cluster *c, const struct dr_node_status *s, uint64_t *out)
{
    if (s->leader_id == c->id) {
        *out = s->commit_index;
        return true;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    struct peer_call call = {.name = "commit", .body = json_pack("{s:i}", "index", 0)};
    dr_peers_address(cat, s->leader_id, &call);
    dr_catalog_unref(cat);
    bool is_there = false;
    if (call.body != NULL && call.uri[0] != '\0') {
        dr_peers_ask(c, &call, 1, PEER_LOOK_MS);
        is_there = dr_peers_judge(&call, NULL) == DR_OK;
        *out = (uint64_t)json_integer_value(json_object_get(call.reply.result, "commit"));
    }
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return is_there;
}

static bool are_shards_well(struct dr_cluster *c, char *why, size_t why_bytes)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    bool is_well = true;
    for (uint32_t i = 0; is_well && i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(cat, i);
        for (uint32_t k = 0; is_well && k < info->shard_count; k++) {
            const struct dr_shard *s = &info->shard[k];
            for (uint32_t r = 0; is_well && r < s->replica_count; r++) {
                enum dr_replica_state state = s->replica[r].state;
                is_well = s->replica[r].peer_id != c->id ||
                          (state != DR_REPLICA_DEAD && state != DR_REPLICA_RECOVERY);
                if (!is_well) {
                    (void)snprintf(why, why_bytes, "shard %u of `%.200s` is %s here", s->id,
                                   info->name, dr_replica_state_name(state));
                }
            }
        }
    }
    dr_catalog_unref(cat);
    return is_well;
}

/* What had to be applied at the first look; false: the leader does not say. */
static bool find_target(struct dr_cluster *c, const struct dr_node_status *s, uint64_t *out)
{
    (void)pthread_mutex_lock(&c->lock);
    bool has_target = c->has_ready_index;
    *out = c->ready_index;
    (void)pthread_mutex_unlock(&c->lock);
    if (has_target) {
        return true;
    }
    if (!dr_cluster_ask_commit(c, s, out)) {
        return false;
    }
    (void)pthread_mutex_lock(&c->lock);
    c->has_ready_index = true;
    c->ready_index = *out;
    (void)pthread_mutex_unlock(&c->lock);
    return true;
}

/* A peer that has just started sees an old state: that its replica is dead it may not know yet. */
bool dr_cluster_catch_up(struct dr_cluster *c, uint64_t timeout_ms)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)timeout_ms;
    struct dr_node_status *s = NULL;
    while (!atomic_load(&c->is_caught_up)) {
        uint64_t target = 0;
        s = s == NULL ? dr_calloc(1, sizeof *s) : s;
        if (s == NULL) {
            return false;
        }
        dr_node_status(c->node, s);
        if (s->leader_id != 0 && find_target(c, s, &target) && s->applied_index >= target) {
            atomic_store(&c->is_caught_up, true);
        } else if (dr_mono_now() >= until ||
                   dr_wait_ms(CATCH_UP_PAUSE_MS, dr_cluster_is_stopping, c)) {
            break;
        }
    }
    dr_free(s);
    return atomic_load(&c->is_caught_up);
}

/* One that has stopped for good falls behind: nobody should ask it any more. */
static bool does_run(const struct dr_node_status *s, char *why, size_t why_bytes)
{
    if (s->state != DR_NODE_FAILED && s->state != DR_NODE_STOPPED) {
        return true;
    }
    (void)snprintf(why, why_bytes, "the raft peer does not run: %.300s", s->failure.msg);
    return false;
}

static bool look_ready(struct dr_cluster *c, const struct dr_node_status *s, char *why,
                       size_t why_bytes)
{
    uint64_t target = 0;
    if (!does_run(s, why, why_bytes)) {
        return false;
    }
    if (s->leader_id == 0) {
        (void)snprintf(why, why_bytes, "no leader is known");
        return false;
    }
    if (!find_target(c, s, &target)) {
        (void)snprintf(why, why_bytes, "the leader does not answer");
        return false;
    }
    if (s->applied_index < target) {
        (void)snprintf(why, why_bytes, "applied %" PRIu64 " of %" PRIu64 " entries",
                       s->applied_index, target);
        return false;
    }
    return are_shards_well(c, why, why_bytes);
}

bool dr_cluster_is_ready(struct dr_cluster *c, char *why, size_t why_bytes)
{
    (void)pthread_mutex_lock(&c->lock);
    bool was_ready = c->is_ready_once;
    (void)pthread_mutex_unlock(&c->lock);
    dr_copy_text(why, why_bytes, "");
    struct dr_node_status *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        dr_copy_text(why, why_bytes, dr_code_text(DR_NOMEM));
        return false;
    }
    dr_node_status(c->node, s);
    bool is_ready = was_ready ? does_run(s, why, why_bytes) : look_ready(c, s, why, why_bytes);
    dr_free(s);
    if (is_ready) {
        (void)pthread_mutex_lock(&c->lock);
        c->is_ready_once = true;
        (void)pthread_mutex_unlock(&c->lock);
    }
    return is_ready;
}
