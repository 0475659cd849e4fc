/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from libraft's state machine calls to struct dr_fsm: headers off, index known,
 * failures final. On the node's thread, but for write_snapshot. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_private.h"

void dr_node_fail(struct dr_node *n, const struct dr_err *why)
{
    (void)pthread_mutex_lock(&n->lock);
    bool is_first = n->status.state != DR_NODE_FAILED;
    if (is_first) {
        n->status.state = DR_NODE_FAILED;
        n->status.failure = *why;
        (void)pthread_cond_broadcast(&n->changed);
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (is_first) {
        dr_log_err(n->config.log, DR_LOG_ERROR, "raft peer failed", why);
        (void)uv_async_send(&n->wake); /* closing libraft inside its own call is not allowed */
    }
}

/* Only the node's thread writes the state, so it may read it without the lock. */
static bool is_failed(const struct dr_node *n)
{
    return n->status.state == DR_NODE_FAILED;
}

/* libraft advances its index after each entry that was applied, so the one at hand is the next.
 * A code other than 0 leaves it where it is: the entry is not applied, now or ever by this life. */
static int apply_entry(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result_out)
{
    struct dr_node *n = fsm->data;
    uint64_t index = n->raft.last_applied + 1;
    struct entry_header h;
    struct dr_err err = {0};
    struct dr_apply_result result = {.code = DR_OK};
    const char *entry = NULL;
    *result_out = NULL;
    if (n->is_peeking) {
        return 0;
    }
    if (is_failed(n)) {
        return RAFT_IOERR;
    }
    enum dr_code rc = dr_wire_get_entry(buf, &h, &entry, &err);
    if (rc == DR_UNSUPPORTED) {
        /* One old peer must not stop: the same no-op as for an unknown operation. */
        result.code = DR_UNSUPPORTED;
        dr_copy_text(result.message, sizeof result.message, err.msg);
        dr_log_err(n->config.log, DR_LOG_WARN, "raft entry skipped", &err);
        rc = DR_OK;
    } else if (rc == DR_OK) {
        rc = n->fsm.apply(n->fsm.arg, index, entry, (size_t)h.bytes, &result, &err);
    }
    if (rc != DR_OK) {
        json_decref(result.value);
        dr_wrap(&err, "apply log entry %llu", (unsigned long long)index);
        dr_node_fail(n, &err);
        return RAFT_IOERR;
    }
    dr_ask_applied(n, index, &h, &result);
    return 0;
}

static int begin_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct dr_node *n = fsm->data;
    struct dr_err err = {0};
    if (n->is_peeking || is_failed(n)) {
        return RAFT_IOERR;
    }
    assert(n->held == NULL); /* libraft makes one snapshot at a time */
    *n_bufs = 1;
    *bufs = raft_calloc(1, sizeof **bufs);
    if (*bufs == NULL) {
        return RAFT_NOMEM;
    }
    if (n->fsm.snapshot_begin(n->fsm.arg, &n->held, &err) != DR_OK) {
        dr_log_err(n->config.log, DR_LOG_WARN, "raft snapshot", &err);
        raft_free(*bufs);
        *bufs = NULL;
        n->held = NULL;
        return RAFT_NOMEM;
    }
    n->held_index = n->raft.last_applied;
    return 0;
}

/* On a worker thread: touches the held state only. A failure here is a snapshot not made; libraft
 * tries again after the next entry. */
static int write_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct dr_node *n = fsm->data;
    struct dr_err err = {0};
    char *text = NULL;
    size_t bytes = 0;
    (void)n_bufs;
    enum dr_code rc = n->fsm.snapshot_encode(n->fsm.arg, n->held, &text, &bytes, &err);
    if (rc == DR_OK && bytes > DR_SNAPSHOT_BYTES_MAX) {
        rc = dr_fail(&err, DR_REFUSED, "a snapshot of %zu bytes is larger than the %d allowed",
                     bytes, DR_SNAPSHOT_BYTES_MAX);
    }
    if (rc == DR_OK) {
        (*bufs)->len = dr_wire_snapshot_bytes(bytes);
        (*bufs)->base = raft_malloc((*bufs)->len);
        rc = (*bufs)->base == NULL ? dr_fail_nomem(&err) : DR_OK;
    }
    if (rc == DR_OK) {
        dr_wire_put_snapshot((*bufs)->base, n->held_index, text, bytes);
    } else {
        dr_log_err(n->config.log, DR_LOG_WARN, "raft snapshot not made", &err);
    }
    dr_free(text);
    return rc == DR_OK ? 0 : RAFT_NOMEM;
}

static int end_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct dr_node *n = fsm->data;
    if (n->held != NULL) {
        n->fsm.snapshot_end(n->fsm.arg, n->held);
        n->held = NULL;
    }
    if (*bufs != NULL) {
        raft_free((*bufs)->base);
        raft_free(*bufs);
    }
    *bufs = NULL;
    *n_bufs = 0;
    return 0;
}

/* On success the buffer is ours to free, otherwise libraft frees it. */
static int restore_snapshot(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct dr_node *n = fsm->data;
    struct dr_err err = {0};
    uint64_t index = 0;
    const char *text = NULL;
    size_t bytes = 0;
    if (n->is_peeking) {
        raft_free(buf->base);
        return 0;
    }
    if (is_failed(n)) {
        return RAFT_IOERR;
    }
    enum dr_code rc = dr_wire_get_snapshot(buf, &index, &text, &bytes, &err);
    if (rc == DR_OK) {
        rc = n->fsm.restore(n->fsm.arg, index, text, bytes, &err);
    }
    if (rc != DR_OK) {
        dr_wrap(&err, "restore snapshot of entry %llu", (unsigned long long)index);
        dr_node_fail(n, &err);
        return RAFT_IOERR;
    }
    dr_log(n->config.log, DR_LOG_INFO, "raft snapshot restored", "id=%llu index=%llu bytes=%zu",
           (unsigned long long)n->config.id, (unsigned long long)index, bytes);
    dr_ask_skipped(n, index);
    raft_free(buf->base);
    return 0;
}

void dr_machine_init(struct dr_node *n)
{
    n->raft_fsm = (struct raft_fsm){
        .version = 3,
        .data = n,
        .apply = apply_entry,
        .snapshot = begin_snapshot,
        .restore = restore_snapshot,
        .snapshot_finalize = end_snapshot,
        .snapshot_async = write_snapshot,
    };
}
