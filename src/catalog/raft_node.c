/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a peer's life as its user sees it: folder, lock and identity, start and stop, status. */
#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_private.h"

enum { PEER_FORMAT = 1 };
#define ID_MAX ((uint64_t)1 << 53) /* what every JSON client can hold */

const char *dr_node_state_name(enum dr_node_state s)
{
    switch (s) {
    case DR_NODE_STOPPED:
        return "Stopped";
    case DR_NODE_FOLLOWER:
        return "Follower";
    case DR_NODE_CANDIDATE:
        return "Candidate";
    case DR_NODE_LEADER:
        return "Leader";
    case DR_NODE_FAILED:
        return "Failed";
    }
    return "?";
}

/* --- the folder --- */

static bool is_empty_folder(const char *path)
{
    bool is_empty = true;
    DIR *d = opendir(path);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        is_empty = is_empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return is_empty;
}

static enum dr_code write_peer(const char *path, uint64_t id, const char *address,
                               struct dr_err *err)
{
    json_t *j =
        json_pack("{s:i, s:I, s:s}", "v", PEER_FORMAT, "id", (json_int_t)id, "raft", address);
    char *text = j == NULL ? NULL : dr_json_text(j);
    enum dr_code rc =
        text == NULL ? dr_fail_nomem(err) : dr_file_replace(path, text, strlen(text), err);
    dr_free(text);
    json_decref(j);
    return rc;
}

static enum dr_code compare_peer(const char *path, uint64_t id, const char *address,
                                 bool *is_moved_out, struct dr_err *err)
{
    json_t *j = NULL;
    struct dr_jr r;
    uint64_t version = 0;
    uint64_t old_id = 0;
    const char *old_address = "";
    enum dr_code rc = dr_json_load(path, &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_jr_init(&r, j, path, err);
    (void)dr_jr_u64(&r, "v", true, 1, PEER_FORMAT, &version);
    (void)dr_jr_u64(&r, "id", true, 1, ID_MAX, &old_id);
    (void)dr_jr_string(&r, "raft", true, &old_address);
    rc = dr_jr_finish(&r);
    if (rc == DR_OK && old_id != id) {
        rc = dr_fail(err, DR_CONFLICT, "%s: this folder belongs to raft peer %llu, not %llu", path,
                     (unsigned long long)old_id, (unsigned long long)id);
    }
    *is_moved_out = rc == DR_OK && strcmp(old_address, address) != 0;
    json_decref(j);
    return rc;
}

enum dr_code dr_node_note_address(struct dr_node *n, struct dr_err *err)
{
    char *path = dr_asprintf("%s/peer.json", n->dir);
    enum dr_code rc =
        path == NULL ? dr_fail_nomem(err) : write_peer(path, n->config.id, n->address, err);
    dr_free(path);
    return rc;
}

/* Who this folder is, written before the first log entry. */
static enum dr_code settle_identity(struct dr_node *n, struct dr_err *err)
{
    char *path = dr_asprintf("%s/peer.json", n->dir);
    char *files = dr_asprintf("%s/collections", n->dir);
    enum dr_code rc = DR_OK;
    if (path == NULL || files == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    n->is_fresh = is_empty_folder(n->raft_dir);
    if (n->is_fresh && n->is_catalog && !is_empty_folder(files)) {
        rc = dr_fail(err, DR_CONFLICT,
                     "%s has collections but %s has no log: either bring the log back, or move the "
                     "collections away",
                     files, n->raft_dir);
        goto out;
    }
    rc = access(path, F_OK) == 0 ? compare_peer(path, n->config.id, n->address, &n->is_moved, err)
                                 : write_peer(path, n->config.id, n->address, err);
    if (rc == DR_OK && n->is_moved && n->is_fresh) { /* nobody has heard of the old address */
        n->is_moved = false;
        rc = write_peer(path, n->config.id, n->address, err);
    }
out:
    dr_free(path);
    dr_free(files);
    return rc;
}

static enum dr_code take_folder(struct dr_node *n, struct dr_err *err)
{
    enum dr_code rc = dr_dir_make(n->raft_dir, err);
    if (rc != DR_OK) {
        return rc;
    }
    char *path = dr_asprintf("%s/peer.lock", n->dir);
    if (path == NULL) {
        return dr_fail_nomem(err);
    }
    char text[64];
    (void)snprintf(text, sizeof text, "pid %ld\n", (long)getpid());
    rc = dr_file_lock(path, text, &n->lock_fd, NULL, 0, err);
    dr_free(path);
    return rc == DR_OK ? settle_identity(n, err) : rc;
}

/* --- create and destroy --- */

/* IPv4 and a port: that is what libraft takes, and a name could be answered by somebody else. */
static enum dr_code check_address(const struct dr_node_config *c, const char *at,
                                  struct dr_err *err)
{
    char host[DR_NODE_ADDRESS_BYTES_MAX];
    struct in_addr ip;
    uint64_t port = 0;
    size_t length = strcspn(at, ":");
    dr_copy_text(host, sizeof host, at);
    host[length < sizeof host ? length : 0] = '\0';
    if (strlen(at) >= sizeof host || at[length] == '\0' || inet_pton(AF_INET, host, &ip) != 1 ||
        !dr_parse_u64(at + length + 1, &port) || port > UINT16_MAX) {
        return dr_fail(err, DR_INPUT, "raft address \"%s\": expected IPv4:PORT", at);
    }
    if (c->secret == NULL && !c->is_open && strncmp(at, "127.", 4) != 0) {
        return dr_fail(
            err, DR_REFUSED,
            "raft address %s is not loopback, and whoever reaches it could change the "
            "catalog: give every peer the same --raft-secret-file, or say --raft-open if "
            "that network is yours alone",
            at);
    }
    return DR_OK;
}

static enum dr_code check_config(const struct dr_node_config *c, struct dr_err *err)
{
    if (c->id == 0 || c->id > ID_MAX) {
        return dr_fail(err, DR_INPUT, "a raft id is a number from 1 to 2^53");
    }
    if (c->dir == NULL || c->dir[0] == '\0') {
        return dr_fail(err, DR_INPUT, "a raft peer needs a folder");
    }
    const char *addresses[] = {c->listen, c->bind};
    for (unsigned i = 0; i < 2; i++) {
        enum dr_code rc = addresses[i] == NULL ? DR_OK : check_address(c, addresses[i], err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (c->listen != NULL && strncmp(c->listen, "0.", 2) == 0) {
        return dr_fail(err, DR_INPUT, "raft address %s: no other peer could reach that", c->listen);
    }
    size_t length = c->secret == NULL ? DR_RAFT_SECRET_BYTES_MIN : strlen(c->secret);
    if (length < DR_RAFT_SECRET_BYTES_MIN || length > DR_RAFT_SECRET_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "the raft secret has %zu bytes; it needs %d to %d", length,
                       DR_RAFT_SECRET_BYTES_MIN, DR_RAFT_SECRET_BYTES_MAX);
    }
    if (c->listen == NULL && !c->is_bootstrap) {
        return dr_fail(err, DR_INPUT, "a raft peer without a listener can only be on its own");
    }
    return DR_OK;
}

static struct dr_node *alloc_node(const struct dr_node_config *config)
{
    struct dr_node *n = dr_calloc(1, sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    dr_mono_cond_init(&n->changed);
    (void)pthread_mutex_init(&n->lock, NULL);
    n->config = *config;
    n->config.fsm = NULL;
    n->lock_fd = -1;
    n->is_over = true;
    n->nonce = dr_random();
    n->dir = dr_strdup(config->dir);
    n->raft_dir = dr_asprintf("%s/raft", config->dir);
    n->address = dr_strdup(config->listen == NULL ? "embedded" : config->listen);
    n->bind = config->bind == NULL ? NULL : dr_strdup(config->bind);
    n->secret = config->secret == NULL ? NULL : dr_strdup(config->secret);
    if (n->dir == NULL || n->raft_dir == NULL || n->address == NULL ||
        (config->bind != NULL && n->bind == NULL) ||
        (config->secret != NULL && n->secret == NULL)) {
        dr_node_destroy(n);
        return NULL;
    }
    n->config.listen = config->listen == NULL ? NULL : n->address;
    n->config.bind = n->bind;
    n->config.secret = n->secret;
    n->config.dir = n->dir;
    return n;
}

enum dr_code dr_node_create(const struct dr_node_config *config, struct dr_node **out,
                            struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = check_config(config, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_node *n = alloc_node(config);
    if (n == NULL) {
        return dr_fail_nomem(err);
    }
    n->is_catalog = config->fsm == NULL;
    rc = take_folder(n, err);
    if (rc == DR_OK && config->fsm == NULL) {
        rc = dr_catalog_fsm_create(n->dir, config->log, config->on_change, config->on_change_arg,
                                   &n->fsm, err);
    } else if (rc == DR_OK) {
        n->fsm = *config->fsm; /* ours from here on, not before: a caller frees it on failure */
    }
    if (rc != DR_OK) {
        dr_node_destroy(n);
        return rc;
    }
    *out = n;
    return DR_OK;
}

void dr_node_destroy(struct dr_node *n)
{
    if (n == NULL) {
        return;
    }
    dr_node_stop(n);
    if (n->fsm.destroy != NULL) {
        n->fsm.destroy(n->fsm.arg);
    }
    if (n->lock_fd >= 0) {
        (void)close(n->lock_fd);
    }
    (void)pthread_cond_destroy(&n->changed);
    (void)pthread_mutex_destroy(&n->lock);
    dr_free(n->dir);
    dr_free(n->raft_dir);
    dr_free(n->address);
    dr_free(n->bind);
    if (n->secret != NULL) {
        explicit_bzero(n->secret, strlen(n->secret));
    }
    dr_free(n->secret);
    dr_free(n);
}

/* --- start and stop --- */

enum dr_code dr_node_start(struct dr_node *n, struct dr_err *err)
{
    assert(!n->has_thread); /* a stopped node is made anew: its machine has seen the log already */
    (void)pthread_mutex_lock(&n->lock);
    n->is_over = false;
    (void)pthread_mutex_unlock(&n->lock);
    int failure = pthread_create(&n->thread, NULL, dr_loop_main, n);
    if (failure != 0) {
        return dr_fail(err, DR_NOMEM, "start the raft thread: %s", strerror(failure));
    }
    n->has_thread = true;
    (void)pthread_mutex_lock(&n->lock);
    while (!n->is_started) {
        (void)pthread_cond_wait(&n->changed, &n->lock);
    }
    enum dr_code rc = n->start_err.code;
    if (rc != DR_OK && err != NULL) {
        *err = n->start_err;
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (rc != DR_OK) {
        dr_wrap(err, "raft peer %llu in %s", (unsigned long long)n->config.id, n->dir);
    }
    return rc;
}

void dr_node_stop(struct dr_node *n)
{
    if (!n->has_thread) {
        return;
    }
    (void)pthread_mutex_lock(&n->lock);
    n->is_stop_asked = true;
    if (n->is_started && !n->is_over) {
        (void)uv_async_send(&n->wake);
    }
    (void)pthread_mutex_unlock(&n->lock);
    (void)pthread_join(n->thread, NULL);
    n->has_thread = false;
}

/* --- looking --- */

struct dr_catalog *dr_node_catalog(const struct dr_node *n)
{
    return n->is_catalog ? dr_catalog_fsm_state(&n->fsm) : NULL;
}

void dr_node_status(struct dr_node *n, struct dr_node_status *out)
{
    (void)pthread_mutex_lock(&n->lock);
    *out = n->status;
    (void)pthread_mutex_unlock(&n->lock);
}

/* Wait for a change of the status until `is_true` holds. The lock is held. */
static enum dr_code wait_until(struct dr_node *n, bool (*is_true)(const struct dr_node *, uint64_t),
                               uint64_t arg, uint32_t timeout_ms, const char *what,
                               struct dr_err *err)
{
    struct timespec at = dr_mono_deadline(timeout_ms);
    int failure = 0;
    while (!is_true(n, arg) && !n->is_over && failure == 0) {
        failure = pthread_cond_timedwait(&n->changed, &n->lock, &at);
    }
    if (is_true(n, arg)) {
        return DR_OK;
    }
    if (n->status.state == DR_NODE_FAILED) {
        return dr_fail(err, DR_STOPPED, "this raft peer has failed: %s", n->status.failure.msg);
    }
    if (n->is_over) {
        return dr_fail(err, DR_STOPPED, "this raft peer does not run");
    }
    return dr_fail(err, DR_BUSY, "%s within %u ms", what, timeout_ms);
}

static bool is_applied(const struct dr_node *n, uint64_t index)
{
    return n->status.applied_index >= index;
}

static bool is_led(const struct dr_node *n, uint64_t unused)
{
    (void)unused;
    return n->status.leader_id != 0;
}

enum dr_code dr_node_wait_applied(struct dr_node *n, uint64_t index, uint32_t timeout_ms,
                                  struct dr_err *err)
{
    (void)pthread_mutex_lock(&n->lock);
    enum dr_code rc =
        wait_until(n, is_applied, index, timeout_ms, "the entry was not applied here", err);
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

enum dr_code dr_node_wait_leader(struct dr_node *n, uint32_t timeout_ms, uint64_t *id_out,
                                 struct dr_err *err)
{
    (void)pthread_mutex_lock(&n->lock);
    enum dr_code rc = wait_until(n, is_led, 0, timeout_ms, "no leader was found", err);
    *id_out = rc == DR_OK ? n->status.leader_id : 0;
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}
