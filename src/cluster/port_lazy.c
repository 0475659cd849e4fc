/* SPDX-License-Identifier: Apache-2.0 */
/* A catalog for commands that work on a data folder without a daemon: a stand-alone peer that is
 * started by the first question and stopped with its owner. Most commands ask nothing and then no
 * file of it is touched. Any thread. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "cluster/port.h"

struct dr_port {
    char *dir; /* DIR/cluster */
    struct dr_log *log;
    struct dr_catalog_port outer;
    pthread_mutex_t lock; /* guards what follows */
    struct dr_cluster *cluster;
    struct dr_catalog_port inner;
};

/* Whose folder is it? *id_out 0: nobody's yet. */
static enum dr_code look_at_folder(const char *dir, uint64_t *id_out, struct dr_err *err)
{
    json_t *peer = NULL;
    enum dr_code rc = DR_OK;
    char *path = dr_asprintf("%s/peer.json", dir);
    *id_out = 0;
    if (path == NULL) {
        return dr_fail_nomem(err);
    }
    if (access(path, F_OK) != 0) {
        goto out; /* or it cannot be looked at: then the peer's start says why */
    }
    rc = dr_json_load(path, &peer, err);
    if (rc != DR_OK) {
        goto out;
    }
    json_int_t id = json_integer_value(json_object_get(peer, "id"));
    const char *raft = json_string_value(json_object_get(peer, "raft"));
    *id_out = id > 0 ? (uint64_t)id : 0;
    /* What a peer without a listener writes there; all else is an address that others know. */
    if (raft != NULL && strcmp(raft, "embedded") != 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "the catalog in %s belongs to a peer of a cluster (%s): run drover serve and "
                     "send the request there",
                     dir, raft);
    }
out:
    json_decref(peer);
    dr_free(path);
    return rc;
}

static enum dr_code start_peer(struct dr_port *p, struct dr_err *err)
{
    struct dr_cluster_config config = {.dir = p->dir, .is_bootstrap = true, .log = p->log};
    enum dr_code rc = look_at_folder(p->dir, &config.raft_id, err);
    if (rc == DR_OK) {
        rc = dr_cluster_start(&config, &p->cluster, err);
    }
    if (rc == DR_OK) {
        dr_cluster_port(p->cluster, &p->inner);
    }
    return rc;
}

/* The peer's port, started when it does not run; what failed is tried again by the next call. */
static enum dr_code take_inner(struct dr_port *p, struct dr_catalog_port *out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&p->lock);
    if (p->cluster == NULL) {
        rc = start_peer(p, err);
    }
    *out = p->inner;
    (void)pthread_mutex_unlock(&p->lock);
    return rc;
}

static enum dr_code read_table(void *arg, const char *table, json_t **out, struct dr_err *err)
{
    struct dr_catalog_port inner;
    enum dr_code rc = take_inner(arg, &inner, err);
    *out = NULL;
    return rc == DR_OK ? inner.read(inner.arg, table, out, err) : rc;
}

static enum dr_code list_tables(void *arg, json_t **out, struct dr_err *err)
{
    struct dr_catalog_port inner;
    enum dr_code rc = take_inner(arg, &inner, err);
    *out = NULL;
    return rc == DR_OK ? inner.list(inner.arg, out, err) : rc;
}

static enum dr_code change_table(void *arg, const json_t *entry, struct dr_err *err)
{
    struct dr_catalog_port inner;
    enum dr_code rc = take_inner(arg, &inner, err);
    return rc == DR_OK ? inner.change(inner.arg, entry, err) : rc;
}

enum dr_code dr_port_create(const char *data_dir, struct dr_log *log, struct dr_port **out,
                            struct dr_err *err)
{
    *out = NULL;
    struct dr_port *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    p->dir = dr_asprintf("%s/cluster", data_dir);
    p->log = log;
    if (p->dir == NULL) {
        dr_free(p);
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_init(&p->lock, NULL);
    p->outer = (struct dr_catalog_port){
        .arg = p, .read = read_table, .list = list_tables, .change = change_table};
    *out = p;
    return DR_OK;
}

const struct dr_catalog_port *dr_port_catalog(struct dr_port *p)
{
    return &p->outer;
}

void dr_port_destroy(struct dr_port *p)
{
    if (p == NULL) {
        return;
    }
    dr_cluster_stop(p->cluster);
    (void)pthread_mutex_destroy(&p->lock);
    dr_free(p->dir);
    dr_free(p);
}
