/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verb serve: its options, the catalog's peer beside the pool, and the order in which they
 * begin and end: the peer runs before the first request and after the last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote_private.h"
#include "cluster/port.h"
#ifdef DROVER_RAFT
#include "cluster/cluster.h"
#endif

enum { SERVE_THREADS_MAX = 256, PATH_BYTES = 4096, URI_BYTES = 512 };

/* Options that only a catalog has a use for. */
static const char *const catalog_options[] = {
    "raft-listen", "raft-secret-file", "raft-open",   "raft-id", "bootstrap",
    "join",        "peer-token-file",  "grpc-listen", "api-uri", "points-store"};

static const char *given_of(const struct dr_args *a, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (dr_args_has(a, names[i])) {
            return names[i];
        }
    }
    return NULL;
}

#ifdef DROVER_RAFT
static const uint64_t raft_id_max = UINT64_C(1) << 53; /* what every client's numbers hold */

static bool ends_with_port_0(const char *listen)
{
    const char *colon = strrchr(listen, ':');
    return colon != NULL && strcmp(colon, ":0") == 0;
}

static bool is_any_address(const char *listen)
{
    return strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0;
}

static enum dr_code check_peer_options(const struct dr_args *a, struct dr_err *err)
{
    static const char *const of_peers[] = {"raft-secret-file", "raft-open", "raft-id",
                                           "bootstrap",        "join",      "peer-token-file"};
    const char *raft = dr_args_text(a, "raft-listen", NULL);
    const char *lonely = given_of(a, of_peers, sizeof of_peers / sizeof of_peers[0]);
    const char *listen = dr_args_text(a, "listen", DR_SERVE_LISTEN);
    uint64_t id = dr_args_u64(a, "raft-id", 1);
    if (raft == NULL && lonely != NULL) {
        return dr_fail(err, DR_USAGE, "--%s is for a peer of a cluster: give --raft-listen too",
                       lonely);
    }
    if (dr_args_has(a, "bootstrap") && dr_args_has(a, "join")) {
        return dr_fail(err, DR_USAGE,
                       "--bootstrap begins a cluster and --join enters one: give one of them");
    }
    if (dr_args_has(a, "raft-open") && dr_args_has(a, "raft-secret-file")) {
        return dr_fail(err, DR_USAGE,
                       "--raft-open is for a peer without a secret: leave it or "
                       "--raft-secret-file out");
    }
    if (id == 0 || id > raft_id_max) {
        return dr_fail(err, DR_USAGE, "--raft-id is a number from 1 to %llu",
                       (unsigned long long)raft_id_max);
    }
    if (raft != NULL && dr_args_has(a, "tokens") && !dr_args_has(a, "peer-token-file")) {
        return dr_fail(err, DR_USAGE,
                       "--tokens with --raft-listen needs --peer-token-file: without it no other "
                       "peer could ask this one");
    }
    if (raft != NULL && !dr_args_has(a, "api-uri") &&
        (ends_with_port_0(listen) || is_any_address(listen))) {
        return dr_fail(err, DR_USAGE,
                       "--listen %s does not say how other peers reach this API: give --api-uri "
                       "http://HOST:PORT",
                       listen);
    }
    return DR_OK;
}

/* From the file, else from the environment, else none: only with a listener to protect. */
static enum dr_code read_raft_secret(const struct dr_args *a, char **out, struct dr_err *err)
{
    const char *file = dr_args_text(a, "raft-secret-file", NULL);
    const char *text = getenv("DROVER_RAFT_SECRET");
    *out = NULL;
    if (!dr_args_has(a, "raft-listen")) {
        return DR_OK;
    }
    if (file != NULL) {
        return dr_cli_read_token("raft-secret-file", file, out, err);
    }
    if (text == NULL || text[0] == '\0') {
        return DR_OK;
    }
    size_t length = strlen(text);
    if (length < DR_RAFT_SECRET_BYTES_MIN || length > DR_RAFT_SECRET_BYTES_MAX) {
        return dr_fail(err, DR_INPUT,
                       "DROVER_RAFT_SECRET has %zu characters; make one of %d to %d with: openssl "
                       "rand -hex 24",
                       length, DR_RAFT_SECRET_BYTES_MIN, DR_RAFT_SECRET_BYTES_MAX);
    }
    if (dr_args_has(a, "raft-open")) {
        return dr_fail(err, DR_USAGE,
                       "--raft-open is for a peer without a secret, but DROVER_RAFT_SECRET is set");
    }
    *out = dr_strdup(text);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static void forget(char *secret)
{
    if (secret != NULL) {
        explicit_bzero(secret, strlen(secret));
        dr_free(secret);
    }
}

/* The URL of the points' store, which leaves the process list at once. NULL: not given. */
static enum dr_code take_points_store(const struct dr_args *a, char **out, struct dr_err *err)
{
    const char *given = dr_args_text(a, "points-store", NULL);
    *out = NULL;
    if (given == NULL) {
        return DR_OK;
    }
    *out = dr_strdup(given);
    if (*out == NULL) {
        return dr_fail_nomem(err);
    }
    dr_cli_hide_urls(a);
    return DR_OK;
}

static enum dr_code start_cluster(struct dr_cli *c, const char *peer_token, struct dr_metrics *m,
                                  struct dr_cluster **out, struct dr_err *err)
{
    char dir[PATH_BYTES];
    char uri[URI_BYTES];
    const struct dr_args *a = c->args;
    const char *raft = dr_args_text(a, "raft-listen", NULL);
    char *secret = NULL;
    char *points_store = NULL;
    int length = snprintf(dir, sizeof dir, "%s/cluster", c->data_dir);
    if (length < 0 || (size_t)length >= sizeof dir) {
        return dr_fail(err, DR_INPUT, "--data: the path is too long");
    }
    enum dr_code rc = read_raft_secret(a, &secret, err);
    if (rc == DR_OK) {
        rc = take_points_store(a, &points_store, err);
    }
    if (rc != DR_OK) {
        forget(secret);
        return rc;
    }
    (void)snprintf(uri, sizeof uri, "http://%s", dr_args_text(a, "listen", DR_SERVE_LISTEN));
    const struct dr_cluster_config config = {
        .dir = dir,
        .raft_id = dr_args_u64(a, "raft-id", 0),
        .raft_listen = raft,
        .raft_secret = secret,
        .is_raft_open = dr_args_has(a, "raft-open"),
        .api_uri = dr_args_text(a, "api-uri", uri),
        .is_bootstrap = raft == NULL || dr_args_has(a, "bootstrap"), /* alone: a cluster of one */
        .join_uri = dr_args_text(a, "join", NULL),
        .peer_token = peer_token,
        .points_store = points_store,
        .log = c->log,
        .metrics = m,
    };
    c->place = DR_AT_DATA;
    rc = dr_cluster_start(&config, out, err);
    forget(secret);
    forget(points_store);
    return rc;
}

static void stop_cluster(struct dr_cluster *c)
{
    dr_cluster_stop(c);
}
#else
static enum dr_code check_peer_options(const struct dr_args *a, struct dr_err *err)
{
    size_t count = sizeof catalog_options / sizeof catalog_options[0];
    const char *given = given_of(a, catalog_options, count);
    if (given != NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "--%s: this build has no catalog; configure it with -DDROVER_RAFT=ON",
                       given);
    }
    return DR_OK;
}

static enum dr_code start_cluster(struct dr_cli *c, const char *peer_token, struct dr_metrics *m,
                                  struct dr_cluster **out, struct dr_err *err)
{
    (void)c;
    (void)peer_token;
    (void)m;
    (void)err;
    *out = NULL;
    return DR_OK;
}

static void stop_cluster(struct dr_cluster *c)
{
    (void)c;
}
#endif

static enum dr_code check_options(const struct dr_cli *c, uint64_t threads, struct dr_err *err)
{
    size_t count = sizeof catalog_options / sizeof catalog_options[0];
    const char *given = given_of(c->args, catalog_options, count);
    if (c->serve == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "this build has no API; build it with -DDROVER_API=ON (drover work "
                       "--forever works on the data folder without one)");
    }
    if (threads > SERVE_THREADS_MAX) {
        return dr_fail(err, DR_USAGE, "--threads is at most %d", SERVE_THREADS_MAX);
    }
    if (dr_args_has(c->args, "no-catalog") && given != NULL) {
        return dr_fail(err, DR_USAGE, "--%s makes no sense with --no-catalog", given);
    }
    return check_peer_options(c->args, err);
}

static enum dr_code own_folder(struct dr_cli *c, struct dr_err *err)
{
    enum dr_code rc = dr_cli_queue(c, false, err);
    if (rc == DR_OK) {
        rc = dr_cli_own(c, err);
    }
    if (rc == DR_OK) {
        c->place = DR_AT_NOTHING;
        rc = dr_cli_log(c, DR_LOG_INFO, err);
    }
    return rc;
}

enum dr_code dr_cli_serve(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    char *peer_token = NULL;
    struct dr_metrics *metrics = NULL;
    struct dr_cluster *cluster = NULL;
    struct dr_catalog_port port = {0};
    const char *token_file = dr_args_text(c->args, "peer-token-file", NULL);
    uint64_t threads = dr_args_u64(c->args, "threads", c->config.threads);
    (void)exit_out;
    enum dr_code rc = check_options(c, threads, err);
    if (rc == DR_OK && token_file != NULL) {
        rc = dr_cli_read_token("peer-token-file", token_file, &peer_token, err);
    }
    if (rc == DR_OK) {
        rc = own_folder(c, err);
    }
    if (rc == DR_OK) {
        rc = dr_metrics_create(&metrics, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    dr_cli_become_graceful(c);
    if (!dr_args_has(c->args, "no-catalog")) {
        rc = start_cluster(c, peer_token, metrics, &cluster, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    c->place = DR_AT_NOTHING;
    if (cluster != NULL) {
        dr_cluster_port(cluster, &port);
        c->world.catalog = &port;
    }
    const struct dr_serve serve = {
        .queue = c->queue,
        .log = c->log,
        .config = &c->config,
        .listen = dr_args_text(c->args, "listen", DR_SERVE_LISTEN),
        .tokens_path = dr_args_text(c->args, "tokens", NULL),
        .threads = (uint32_t)threads,
        .world = &c->world,
        .ask_stop = &c->stop->is_asked,
        .place = &c->place,
        .cluster = cluster,
        .peer_token = peer_token,
        .grpc_listen = dr_args_text(c->args, "grpc-listen", NULL),
        .metrics = metrics,
    };
    rc = c->serve(&serve, err);
out:
    c->world.catalog = NULL;
    stop_cluster(cluster);
    dr_metrics_destroy(metrics);
    if (peer_token != NULL) {
        explicit_bzero(peer_token, strlen(peer_token));
        dr_free(peer_token);
    }
    return rc;
}
