/* SPDX-License-Identifier: Apache-2.0 */
/* Several peers in one process: their questions to each other go straight to dr_cluster_internal,
 * through text as over a wire, and a peer can be cut off from the others' questions. */
#ifndef DR_TESTS_CLUSTER_HELP_H
#define DR_TESTS_CLUSTER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "cluster/cluster_private.h"
#include "obs/metrics.h"

enum { WORLD_PEERS = 4, SOON_MS = 20000 };

static bool world_heals; /* dead replicas by themselves */

struct world {
    struct dr_cluster *peer[WORLD_PEERS + 1]; /* by id, from 1 */
    pthread_rwlock_t lock[WORLD_PEERS + 1];
    atomic_bool is_cut[WORLD_PEERS + 1];
    char raft[WORLD_PEERS + 1][32];
    char uri[WORLD_PEERS + 1][32];
    char dir[WORLD_PEERS + 1][128];
    char folder[64];
    struct cluster_tuning tuning;
    struct dr_metrics *metrics;
    struct dr_log *log;
};

/* One question, the answer as text and back. */
static inline void world_ask_one(struct world *w, uint64_t from, struct peer_call *call)
{
    unsigned to = 0;
    call->failure = DR_HTTP_CONNECT;
    (void)snprintf(call->detail, sizeof call->detail, "connection refused");
    if (sscanf(call->uri, "test://%u", &to) != 1 || to == 0 || to > WORLD_PEERS ||
        atomic_load(&w->is_cut[to]) || atomic_load(&w->is_cut[from])) {
        return;
    }
    (void)pthread_rwlock_rdlock(&w->lock[to]);
    if (w->peer[to] != NULL) {
        struct dr_cluster_reply reply;
        struct dr_err err;
        json_t *sent = NULL;
        json_t *got = NULL;
        char *text = dr_json_text(call->body);
        assert_non_null(text);
        assert_int_equal(dr_json_parse_upto("question", text, strlen(text), 64u << 20, &sent, &err),
                         DR_OK);
        dr_free(text);
        dr_cluster_internal(w->peer[to], call->name, sent, &reply);
        assert_int_equal(reply.class, DR_CLASS_OK);
        text = dr_json_text(reply.result);
        assert_non_null(text);
        assert_int_equal(dr_json_parse_upto("answer", text, strlen(text), 64u << 20, &got, &err),
                         DR_OK);
        dr_free(text);
        call->failure = DR_HTTP_NONE;
        assert_true(
            dr_class_parse(json_string_value(json_object_get(got, "class")), &call->reply.class));
        dr_copy_text(call->reply.message, sizeof call->reply.message,
                     json_string_value(json_object_get(got, "message")));
        call->reply.result = json_incref(json_object_get(got, "result"));
        dr_cluster_reply_fini(&reply);
        json_decref(sent);
        json_decref(got);
    }
    (void)pthread_rwlock_unlock(&w->lock[to]);
}

static inline void world_ask(void *arg, struct dr_cluster *from, struct peer_call *call,
                             uint32_t count, uint64_t timeout_ms)
{
    (void)timeout_ms;
    for (uint32_t i = 0; i < count; i++) {
        world_ask_one(arg, dr_cluster_peer_id(from), &call[i]);
    }
}

static inline unsigned world_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    (void)close(fd);
    return ntohs(at.sin_port);
}

static inline void world_start_peer(struct world *w, unsigned id)
{
    struct dr_err err = {0};
    char join[32];
    (void)snprintf(join, sizeof join, "test://%u", id == 1 ? 2 : 1);
    const struct dr_cluster_config config = {.dir = w->dir[id],
                                             .raft_id = id,
                                             .raft_listen = w->raft[id],
                                             .api_uri = w->uri[id],
                                             .is_bootstrap = id == 1,
                                             .join_uri = id == 1 ? NULL : join,
                                             .log = w->log,
                                             .metrics = w->metrics};
    w->tuning.ask = world_ask;
    w->tuning.ask_arg = w;
    struct dr_cluster *c = NULL;
    if (dr_cluster_start_tuned(&config, &w->tuning, &c, &err) != DR_OK) {
        print_error("peer %u: %s\n", id, err.msg);
        fail();
    }
    (void)pthread_rwlock_wrlock(&w->lock[id]);
    w->peer[id] = c;
    atomic_store(&w->is_cut[id], false);
    (void)pthread_rwlock_unlock(&w->lock[id]);
}

static inline void world_stop_peer(struct world *w, unsigned id)
{
    atomic_store(&w->is_cut[id], true);
    (void)pthread_rwlock_wrlock(&w->lock[id]);
    struct dr_cluster *c = w->peer[id];
    w->peer[id] = NULL;
    (void)pthread_rwlock_unlock(&w->lock[id]);
    dr_cluster_stop(c);
}

#define until(what)                                                                                \
    do {                                                                                           \
        dr_mono_ms end_ = dr_mono_now() + SOON_MS;                                                 \
        while (!(what)) {                                                                          \
            if (dr_mono_now() > end_) {                                                            \
                print_error("not in time: %s\n", #what);                                           \
                fail();                                                                            \
            }                                                                                      \
            (void)dr_wait_ms(10, NULL, NULL);                                                      \
        }                                                                                          \
    } while (0)

static inline uint32_t world_peer_count(struct world *w, unsigned id)
{
    struct dr_catalog *cat = dr_cluster_catalog(w->peer[id]);
    uint32_t count = dr_catalog_peer_count(cat);
    dr_catalog_unref(cat);
    return count;
}

static inline bool world_is_voter(struct world *w, unsigned id)
{
    json_t *info = dr_cluster_info(w->peer[id]);
    json_t *raft = json_object_get(info, "raft_info");
    bool is_voter = json_is_true(json_object_get(raft, "is_voter"));
    json_decref(info);
    return is_voter;
}

static inline unsigned world_leader(struct world *w, unsigned of)
{
    json_t *info = dr_cluster_info(w->peer[of]);
    json_t *raft = json_object_get(info, "raft_info");
    unsigned id = (unsigned)json_integer_value(json_object_get(raft, "leader"));
    json_decref(info);
    return id;
}

/* Make this peer the leader, so that cutting another one off cuts nobody from the leader. */
static inline void world_lead(struct world *w, unsigned id)
{
    until(world_leader(w, id) != 0);
    while (world_leader(w, id) != id) {
        struct dr_cluster_reply r;
        dr_cluster_transfer_leader(w->peer[id], id, &r);
        dr_cluster_reply_fini(&r);
        until(world_leader(w, id) != 0);
    }
}

static inline void world_start(struct world *w, unsigned peers)
{
    memset(w, 0, sizeof *w);
    struct dr_err err;
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/drover-cluster-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(dr_metrics_create(&w->metrics, &err), DR_OK);
    if (getenv("CLUSTER_TEST_LOG") != NULL) {
        const struct dr_log_config log = {.level = DR_LOG_DEBUG};
        assert_int_equal(dr_log_create(&log, &w->log, &err), DR_OK);
    }
    for (unsigned i = 1; i <= WORLD_PEERS; i++) {
        (void)pthread_rwlock_init(&w->lock[i], NULL);
        (void)snprintf(w->raft[i], sizeof w->raft[i], "127.0.0.1:%u", world_port());
        (void)snprintf(w->uri[i], sizeof w->uri[i], "test://%u", i);
        (void)snprintf(w->dir[i], sizeof w->dir[i], "%s/%u", w->folder, i);
    }
    w->tuning.election_ms = 400;
    w->tuning.snapshot_threshold = 16;
    w->tuning.snapshot_trailing = 4;
    w->tuning.tick_ms = 50;
    w->tuning.is_not_healing = !world_heals;
    for (unsigned i = 1; i <= peers; i++) {
        world_start_peer(w, i);
        until(world_is_voter(w, i) && world_leader(w, i) != 0);
    }
    for (unsigned i = 1; i <= peers; i++) {
        until(world_peer_count(w, i) == peers && atomic_load(&w->peer[i]->is_caught_up));
    }
}

static inline void world_stop(struct world *w)
{
    char command[96];
    for (unsigned i = 1; i <= WORLD_PEERS; i++) {
        if (w->peer[i] != NULL) {
            world_stop_peer(w, i);
        }
        (void)pthread_rwlock_destroy(&w->lock[i]);
    }
    dr_metrics_destroy(w->metrics);
    dr_log_destroy(w->log);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", w->folder);
    assert_int_equal(system(command), 0);
}

/* --- asking
 * ---------------------------------------------------------------------------------------- */

static const struct dr_cluster_caller tester = {.who = "tester", .timeout_ms = 10000};

/* Body by a format with ' for ", NULL for none. The reply is the caller's. */
static inline struct dr_cluster_reply ask(struct dr_cluster *c, dr_cluster_verb *verb,
                                          const char *collection, const char *body)
{
    struct dr_cluster_reply reply;
    struct dr_err err;
    json_t *j = NULL;
    if (body != NULL) {
        char *text = dr_strdup(body);
        for (char *at = text; *at != '\0'; at++) {
            *at = *at == '\'' ? '"' : *at;
        }
        if (dr_json_parse("body", text, strlen(text), &j, &err) != DR_OK) {
            print_error("%s: %s\n", text, err.msg);
            fail();
        }
        dr_free(text);
    }
    verb(c, &tester, collection, j, &reply);
    json_decref(j);
    return reply;
}

/* Must succeed with this result (as sorted JSON with ' for "); NULL: any. */
static inline void want(struct dr_cluster *c, dr_cluster_verb *verb, const char *collection,
                        const char *body, const char *result)
{
    struct dr_cluster_reply r = ask(c, verb, collection, body);
    if (r.class != DR_CLASS_OK) {
        print_error("%s: %s\n", body == NULL ? "" : body, r.message);
        fail();
    }
    if (result != NULL) {
        char *text = json_dumps(r.result, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        for (char *at = text; *at != '\0'; at++) {
            *at = *at == '"' ? '\'' : *at;
        }
        assert_string_equal(text, result);
        free(text);
    }
    dr_cluster_reply_fini(&r);
}

/* Must fail with this class and a message that holds `part`. */
static inline void refuse(struct dr_cluster *c, dr_cluster_verb *verb, const char *collection,
                          const char *body, enum dr_cluster_class cls, const char *part)
{
    struct dr_cluster_reply r = ask(c, verb, collection, body);
    if (r.class != cls || strstr(r.message, part) == NULL) {
        print_error("%s: class %d, \"%s\"; expected %d, \"%s\"\n", body == NULL ? "" : body,
                    (int)r.class, r.message, (int)cls, part);
        fail();
    }
    assert_null(r.result);
    dr_cluster_reply_fini(&r);
}

static inline uint64_t count_points(struct dr_cluster *c, const char *collection, const char *body)
{
    struct dr_cluster_reply r = ask(c, dr_points_count, collection, body);
    if (r.class != DR_CLASS_OK) {
        print_error("count: %s\n", r.message);
        fail();
    }
    uint64_t count = (uint64_t)json_integer_value(json_object_get(r.result, "count"));
    dr_cluster_reply_fini(&r);
    return count;
}

/* Upsert ids from `from` to below `to`, each with payload {"n": id}. False: refused. */
static inline bool put_points(struct dr_cluster *c, const char *collection, unsigned from,
                              unsigned to, const char *key)
{
    struct dr_cluster_reply r;
    json_t *points = json_array();
    for (unsigned i = from; i < to; i++) {
        (void)json_array_append_new(points,
                                    json_pack("{s:I, s:[f,f], s:{s:I}}", "id", (json_int_t)i,
                                              "vector", 0.5, 1.0, "payload", "n", (json_int_t)i));
    }
    json_t *body = json_pack("{s:o, s:s*}", "points", points, "shard_key", key);
    dr_points_upsert(c, &tester, collection, body, &r);
    json_decref(body);
    bool is_done = r.class == DR_CLASS_OK;
    if (!is_done) {
        print_message("upsert: %s\n", r.message);
    }
    dr_cluster_reply_fini(&r);
    return is_done;
}

/* How many of the ids are there, with their own payload? */
static inline unsigned got_points(struct dr_cluster *c, const char *collection, unsigned from,
                                  unsigned to)
{
    struct dr_cluster_reply r;
    unsigned good = 0;
    json_t *ids = json_array();
    for (unsigned i = from; i < to; i++) {
        (void)json_array_append_new(ids, json_integer((json_int_t)i));
    }
    json_t *body = json_pack("{s:o}", "ids", ids);
    dr_points_get(c, &tester, collection, body, &r);
    json_decref(body);
    if (r.class != DR_CLASS_OK) {
        print_message("get: %s\n", r.message);
    }
    for (size_t i = 0; i < json_array_size(r.result); i++) {
        const json_t *one = json_array_get(r.result, i);
        good += json_integer_value(json_object_get(one, "id")) ==
                json_integer_value(json_object_get(json_object_get(one, "payload"), "n"));
    }
    dr_cluster_reply_fini(&r);
    return good;
}

/* "Active" ... of a replica, as this peer sees it; "none". */
static inline const char *replica_state(struct dr_cluster *c, const char *collection,
                                        uint32_t shard_id, uint64_t peer_id)
{
    const char *name = "none";
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_catalog_find(cat, collection);
    const struct dr_shard *s = info == NULL ? NULL : dr_collection_shard(info, shard_id);
    for (uint32_t i = 0; s != NULL && i < s->replica_count; i++) {
        if (s->replica[i].peer_id == peer_id) {
            name = dr_replica_state_name(s->replica[i].state);
        }
    }
    dr_catalog_unref(cat);
    return name;
}

static inline uint32_t transfer_count(struct dr_cluster *c, const char *collection)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    uint32_t count = dr_catalog_find(cat, collection)->transfer_count;
    dr_catalog_unref(cat);
    return count;
}

#endif
