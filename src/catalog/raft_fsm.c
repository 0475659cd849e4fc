/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the newest state of the catalog on this peer, as the state machine of a Raft peer.
 *
 * An entry counts as applied when its files are on the disk: apply makes the new state, writes what
 * changed, then shows the state to readers. A failed write leaves the old state in place and the
 * entry not applied. Readers take a reference under a lock held for a few instructions. */
#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "catalog/catalog_private.h"
#include "catalog/raft_node.h"

struct catalog_machine {
    char *dir;
    struct dr_log *log;
    dr_node_change_fn on_change;
    void *on_change_arg;
    pthread_mutex_t lock;
    struct dr_catalog *state; /* written by the node's thread, under the lock */
};

/* Takes over the reference `next`. */
static void show_state(struct catalog_machine *m, struct dr_catalog *next)
{
    (void)pthread_mutex_lock(&m->lock);
    struct dr_catalog *old = m->state;
    m->state = next;
    (void)pthread_mutex_unlock(&m->lock);
    if (m->on_change != NULL && old != next) {
        m->on_change(m->on_change_arg, next);
    }
    dr_catalog_unref(old);
}

static enum dr_code apply_entry(void *arg, uint64_t index, const char *entry, size_t bytes,
                                struct dr_apply_result *result, struct dr_err *err)
{
    struct catalog_machine *m = arg;
    struct dr_catalog *next = NULL;
    enum dr_code rc = dr_catalog_apply(m->state, index, entry, bytes, &next, result, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_catalog_write_files(m->dir, m->state, next, err);
    if (rc != DR_OK) {
        json_decref(result->value);
        result->value = NULL;
        dr_catalog_unref(next);
        return rc;
    }
    if (result->code != DR_OK) {
        dr_log(m->log, DR_LOG_INFO, "catalog entry refused", "index=%llu code=%s msg=%s",
               (unsigned long long)index, dr_code_name(result->code), result->message);
    }
    show_state(m, next);
    return DR_OK;
}

static enum dr_code begin_snapshot(void *arg, void **held_out, struct dr_err *err)
{
    struct catalog_machine *m = arg;
    (void)err;
    *held_out = dr_catalog_ref(m->state);
    return DR_OK;
}

static enum dr_code encode_snapshot(void *arg, void *held, char **text_out, size_t *bytes_out,
                                    struct dr_err *err)
{
    (void)arg;
    return dr_catalog_encode(held, text_out, bytes_out, err);
}

static void end_snapshot(void *arg, void *held)
{
    (void)arg;
    dr_catalog_unref(held);
}

/* The state is replaced as a whole; a collection whose method differs is the same collection (same
 * uuid) and keeps its files, rewritten in place. After a start the disk is compared too, because it
 * may hold what a crash left. */
static enum dr_code restore_snapshot(void *arg, uint64_t index, const char *text, size_t bytes,
                                     struct dr_err *err)
{
    struct catalog_machine *m = arg;
    struct dr_catalog *next = NULL;
    enum dr_code rc = dr_catalog_decode(text, bytes, &next, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (dr_catalog_index(next) > index) {
        rc = dr_fail(err, DR_CORRUPT, "the snapshot of entry %llu holds a state of entry %llu",
                     (unsigned long long)index, (unsigned long long)dr_catalog_index(next));
        goto out;
    }
    rc = dr_catalog_check_compatible(m->state, next, err);
    if (rc == DR_OK) {
        rc = dr_catalog_write_files(m->dir, NULL, next, err);
    }
    if (rc == DR_OK) {
        show_state(m, next);
        next = NULL;
    }
out:
    dr_catalog_unref(next);
    return rc;
}

static void destroy_machine(void *arg)
{
    struct catalog_machine *m = arg;
    if (m == NULL) {
        return;
    }
    dr_catalog_unref(m->state);
    (void)pthread_mutex_destroy(&m->lock);
    dr_free(m->dir);
    dr_free(m);
}

enum dr_code dr_catalog_fsm_create(const char *dir, struct dr_log *log, dr_node_change_fn on_change,
                                   void *on_change_arg, struct dr_fsm *out, struct dr_err *err)
{
    *out = (struct dr_fsm){0};
    struct catalog_machine *m = dr_calloc(1, sizeof *m);
    if (m == NULL) {
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_init(&m->lock, NULL);
    m->log = log;
    m->on_change = on_change;
    m->on_change_arg = on_change_arg;
    m->dir = dr_strdup(dir);
    enum dr_code rc = m->dir == NULL ? dr_fail_nomem(err) : dr_catalog_create(&m->state, err);
    if (rc != DR_OK) {
        destroy_machine(m);
        return rc;
    }
    *out = (struct dr_fsm){
        .arg = m,
        .apply = apply_entry,
        .snapshot_begin = begin_snapshot,
        .snapshot_encode = encode_snapshot,
        .snapshot_end = end_snapshot,
        .restore = restore_snapshot,
        .destroy = destroy_machine,
    };
    return DR_OK;
}

struct dr_catalog *dr_catalog_fsm_state(const struct dr_fsm *fsm)
{
    struct catalog_machine *m = fsm->arg;
    (void)pthread_mutex_lock(&m->lock);
    struct dr_catalog *state = dr_catalog_ref(m->state);
    (void)pthread_mutex_unlock(&m->lock);
    return state;
}
