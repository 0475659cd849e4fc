/* SPDX-License-Identifier: Apache-2.0 */
/* Owns requests: from a caller's thread into the inbox, on the node's thread to libraft, and back.
 *
 * A proposal is known again by the token in its header, not by its place in the log: the place may
 * be taken by another leader's entry, the token cannot. So a proposal is answered as applied even
 * when it was committed after this peer lost leadership, and as dropped (safe to repeat) as soon as
 * something else has taken its place. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_private.h"

/* --- on the caller's thread --- */

static struct node_request *create_request(enum node_ask ask)
{
    struct node_request *r = dr_calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    dr_mono_cond_init(&r->is_over);
    r->ask = ask;
    r->holders = 1;
    return r;
}

static void destroy_request(struct node_request *r)
{
    assert(r->holders == 0);
    json_decref(r->answer.result.value);
    raft_free(r->buf.base);
    (void)pthread_cond_destroy(&r->is_over);
    dr_free(r);
}

static enum dr_code say_stopped(const struct dr_node *n, struct dr_err *err)
{
    if (n->status.state == DR_NODE_FAILED) {
        return dr_fail(err, DR_STOPPED, "this raft peer has failed: %s", n->status.failure.msg);
    }
    return dr_fail(err, DR_STOPPED, "this raft peer does not run");
}

/* Hand the request over and wait for its end. Consumes the caller's hold on it. */
static enum dr_code run_request(struct dr_node *n, struct node_request *r, uint32_t timeout_ms,
                                struct dr_node_answer *answer, struct dr_err *err)
{
    struct timespec deadline = dr_mono_deadline(timeout_ms);
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&n->lock);
    if (!n->is_started || n->is_over || n->is_stop_asked || n->status.state == DR_NODE_FAILED) {
        rc = say_stopped(n, err);
        goto out;
    }
    r->holders++;
    r->next = NULL;
    if (n->last_in == NULL) {
        n->first_in = r;
        (void)uv_async_send(&n->wake); /* under the lock: the handle is open while !is_over */
    } else {
        n->last_in->next = r;
    }
    n->last_in = r;
    int failure = 0;
    while (!r->is_done && failure == 0) {
        failure = pthread_cond_timedwait(&r->is_over, &n->lock, &deadline);
    }
    if (!r->is_done) {
        answer->leader_id = n->status.leader_id;
        dr_copy_text(answer->leader_address, sizeof answer->leader_address,
                     n->status.leader_address);
        rc = dr_fail(err, DR_UNKNOWN,
                     "no outcome within %u ms; it may still be committed, so look before repeating",
                     timeout_ms);
        goto out;
    }
    rc = r->code;
    *answer = r->answer;
    r->answer.result.value = NULL; /* the caller's now */
    if (rc != DR_OK && err != NULL) {
        *err = r->err;
    }
out:
    r->holders--;
    bool is_last = r->holders == 0;
    (void)pthread_mutex_unlock(&n->lock);
    if (is_last) {
        destroy_request(r);
    }
    return rc;
}

enum dr_code dr_node_propose(struct dr_node *n, const char *entry, size_t bytes,
                             uint32_t timeout_ms, struct dr_node_answer *answer, struct dr_err *err)
{
    memset(answer, 0, sizeof *answer);
    if (bytes == 0 || bytes > DR_ENTRY_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "an entry of %zu bytes; 1 to %d are possible", bytes,
                       DR_ENTRY_BYTES_MAX);
    }
    struct node_request *r = create_request(ASK_PROPOSE);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    (void)pthread_mutex_lock(&n->lock);
    r->token = ++n->next_token;
    (void)pthread_mutex_unlock(&n->lock);
    r->buf.len = dr_wire_entry_bytes(bytes);
    r->buf.base = raft_malloc(r->buf.len);
    if (r->buf.base == NULL) {
        r->holders = 0;
        destroy_request(r);
        return dr_fail_nomem(err);
    }
    struct entry_header h = {
        .format = DR_RAFT_FORMAT, .nonce = n->nonce, .token = r->token, .bytes = bytes};
    dr_wire_put_entry(r->buf.base, &h, entry);
    return run_request(n, r, timeout_ms, answer, err);
}

static enum dr_code ask_for_member(struct dr_node *n, enum node_ask ask, uint64_t id,
                                   const char *address, enum dr_node_role role, uint32_t timeout_ms,
                                   struct dr_node_answer *answer, struct dr_err *err)
{
    memset(answer, 0, sizeof *answer);
    struct node_request *r = create_request(ask);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    r->id = id;
    r->role = role;
    dr_copy_text(r->address, sizeof r->address, address);
    return run_request(n, r, timeout_ms, answer, err);
}

enum dr_code dr_node_barrier(struct dr_node *n, uint32_t timeout_ms, struct dr_node_answer *answer,
                             struct dr_err *err)
{
    return ask_for_member(n, ASK_BARRIER, 0, "", DR_NODE_SPARE, timeout_ms, answer, err);
}

enum dr_code dr_node_add(struct dr_node *n, uint64_t id, const char *address, uint32_t timeout_ms,
                         struct dr_node_answer *answer, struct dr_err *err)
{
    if (id == 0 || address[0] == '\0' || strlen(address) >= DR_NODE_ADDRESS_BYTES_MAX) {
        memset(answer, 0, sizeof *answer);
        return dr_fail(err, DR_INPUT,
                       "a member needs an id above 0 and an address of 1 to %d bytes",
                       DR_NODE_ADDRESS_BYTES_MAX - 1);
    }
    return ask_for_member(n, ASK_ADD, id, address, DR_NODE_SPARE, timeout_ms, answer, err);
}

enum dr_code dr_node_assign(struct dr_node *n, uint64_t id, enum dr_node_role role,
                            uint32_t timeout_ms, struct dr_node_answer *answer, struct dr_err *err)
{
    return ask_for_member(n, ASK_ASSIGN, id, "", role, timeout_ms, answer, err);
}

enum dr_code dr_node_remove(struct dr_node *n, uint64_t id, uint32_t timeout_ms,
                            struct dr_node_answer *answer, struct dr_err *err)
{
    return ask_for_member(n, ASK_REMOVE, id, "", DR_NODE_SPARE, timeout_ms, answer, err);
}

enum dr_code dr_node_transfer(struct dr_node *n, uint64_t id, uint32_t timeout_ms,
                              struct dr_node_answer *answer, struct dr_err *err)
{
    return ask_for_member(n, ASK_TRANSFER, id, "", DR_NODE_SPARE, timeout_ms, answer, err);
}

/* --- on the node's thread --- */

void dr_ask_finish(struct dr_node *n, struct node_request *r, enum dr_code code)
{
    raft_id id = 0;
    const char *address = NULL;
    if (n->raft.state != RAFT_UNAVAILABLE) {
        raft_leader(&n->raft, &id, &address);
    }
    (void)pthread_mutex_lock(&n->lock);
    assert(!r->is_done);
    r->is_done = true;
    r->code = code;
    r->answer.index = r->index;
    r->answer.leader_id = id;
    dr_copy_text(r->answer.leader_address, sizeof r->answer.leader_address,
                 address == NULL ? "" : address);
    if (code == DR_OK && r->ask == ASK_PROPOSE && r->index > n->status.applied_index) {
        n->status.applied_index = r->index; /* who got this answer may ask for the status next */
    }
    (void)pthread_cond_signal(&r->is_over);
    r->holders--;
    bool is_last = r->holders == 0; /* the caller has given up */
    (void)pthread_mutex_unlock(&n->lock);
    if (is_last) {
        destroy_request(r);
    }
}

/* End with a message of libraft's. */
static void finish_with(struct dr_node *n, struct node_request *r, int raft_code, const char *what)
{
    enum dr_code code = dr_loop_code(raft_code);
    if (code != DR_OK) {
        code = dr_fail(&r->err, code, "%s: %s", what, raft_strerror(raft_code));
    }
    dr_ask_finish(n, r, code);
}

/* Proposals that wait for their entry, in the order of the log. */
static void push_waiting(struct dr_node *n, struct node_request *r)
{
    assert(n->last_waiting == NULL || n->last_waiting->index < r->index);
    r->next = NULL;
    if (n->last_waiting == NULL) {
        n->first_waiting = r;
    } else {
        n->last_waiting->next = r;
    }
    n->last_waiting = r;
    n->waiting_count++;
}

static struct node_request *pop_waiting(struct dr_node *n)
{
    struct node_request *r = n->first_waiting;
    n->first_waiting = r->next;
    if (n->first_waiting == NULL) {
        n->last_waiting = NULL;
    }
    n->waiting_count--;
    return r;
}

void dr_ask_applied(struct dr_node *n, uint64_t index, const struct entry_header *h,
                    struct dr_apply_result *result)
{
    while (n->first_waiting != NULL && n->first_waiting->index <= index) {
        struct node_request *r = pop_waiting(n);
        if (r->index == index && h->nonce == n->nonce && h->token == r->token) {
            r->answer.result = *result;
            result->value = NULL;
            dr_ask_finish(n, r, DR_OK);
        } else {
            enum dr_code code = dr_fail(&r->err, DR_BUSY,
                                        "a new leader has dropped the entry before it was "
                                        "committed; propose it again");
            dr_ask_finish(n, r, code);
        }
    }
    json_decref(result->value); /* nobody waits here for it */
    result->value = NULL;
}

static void end_unknown(struct dr_node *n, struct node_request *r, const char *why)
{
    enum dr_code code = dr_fail(&r->err, DR_UNKNOWN,
                                "%s; it may be committed, so look before "
                                "repeating",
                                why);
    dr_ask_finish(n, r, code);
}

void dr_ask_skipped(struct dr_node *n, uint64_t index)
{
    while (n->first_waiting != NULL && n->first_waiting->index <= index) {
        end_unknown(n, pop_waiting(n), "this peer caught up from a snapshot");
    }
}

/* All that callers have handed over since the last look. */
static struct node_request *take_incoming(struct dr_node *n)
{
    (void)pthread_mutex_lock(&n->lock);
    struct node_request *r = n->first_in;
    n->first_in = n->last_in = NULL;
    (void)pthread_mutex_unlock(&n->lock);
    return r;
}

void dr_ask_end_all(struct dr_node *n)
{
    while (n->first_waiting != NULL) {
        end_unknown(n, pop_waiting(n), "this raft peer stops");
    }
    struct node_request *r = take_incoming(n);
    while (r != NULL) {
        struct node_request *next = r->next;
        enum dr_code code = dr_fail(&r->err, DR_STOPPED, "this raft peer stops");
        dr_ask_finish(n, r, code);
        r = next;
    }
}

static void on_batch(struct raft_apply *req, int status, void *result)
{
    struct node_batch *batch = req->data;
    (void)status; /* losing leadership decides nothing: the tokens do */
    (void)result;
    dr_free(batch);
}

/* One raft_apply() for several proposals: libraft writes and sends them in one go. */
static void propose_batch(struct dr_node *n, struct node_request **r, unsigned count)
{
    struct raft_buffer bufs[DR_NODE_BATCH_MAX];
    struct node_batch *batch = dr_calloc(1, sizeof *batch);
    uint64_t first = raft_last_index(&n->raft) + 1;
    int failure = batch == NULL ? RAFT_NOMEM : 0;
    for (unsigned i = 0; i < count; i++) {
        bufs[i] = r[i]->buf;
        r[i]->buf.base = NULL; /* libraft's, once it has accepted them */
        r[i]->index = first + i;
    }
    if (failure == 0) {
        batch->node = n;
        batch->apply.data = batch;
        /* A single voter may commit and apply inside the call: all must be waiting before it. */
        for (unsigned i = 0; i < count; i++) {
            push_waiting(n, r[i]);
        }
        failure = raft_apply(&n->raft, &batch->apply, bufs, count, on_batch);
    }
    if (failure == 0) {
        return;
    }
    dr_free(batch);
    if (n->last_waiting == r[count - 1]) { /* take back what was pushed: it is the tail */
        struct node_request *kept = NULL;
        for (struct node_request *at = n->first_waiting; at != r[0]; at = at->next) {
            kept = at;
        }
        n->last_waiting = kept;
        n->waiting_count -= count;
        if (kept == NULL) {
            n->first_waiting = NULL;
        } else {
            kept->next = NULL;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        r[i]->buf.base = bufs[i].base;
        r[i]->index = 0;
        finish_with(n, r[i], failure, "propose");
    }
}

static void on_barrier(struct raft_barrier *req, int status)
{
    struct node_request *r = req->data;
    finish_with(r->node, r, status, "barrier");
}

static void on_change(struct raft_change *req, int status)
{
    struct node_request *r = req->data;
    finish_with(r->node, r, status, "change the members");
}

static void on_transfer(struct raft_transfer *req)
{
    struct node_request *r = req->data;
    struct dr_node *n = r->node;
    raft_id id = 0;
    const char *address = NULL;
    if (n->raft.state != RAFT_UNAVAILABLE) {
        raft_leader(&n->raft, &id, &address);
    }
    enum dr_code code = DR_OK;
    if (n->raft.state == RAFT_LEADER || id == 0 || (r->id != 0 && id != r->id)) {
        code = dr_fail(&r->err, DR_BUSY, "leadership was not taken over within the election time");
    }
    dr_ask_finish(n, r, code);
}

static const struct raft_server *find_member(const struct dr_node *n, uint64_t id)
{
    for (unsigned i = 0; i < n->raft.configuration.n; i++) {
        if (n->raft.configuration.servers[i].id == id) {
            return &n->raft.configuration.servers[i];
        }
    }
    return NULL;
}

static unsigned count_voters(const struct dr_node *n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n->raft.configuration.n; i++) {
        count += n->raft.configuration.servers[i].role == RAFT_VOTER;
    }
    return count;
}

static int raft_role(enum dr_node_role role)
{
    switch (role) {
    case DR_NODE_STANDBY:
        return RAFT_STANDBY;
    case DR_NODE_VOTER:
        return RAFT_VOTER;
    case DR_NODE_SPARE:
        return RAFT_SPARE;
    }
    return RAFT_SPARE;
}

/* Done already, or impossible: then the request is finished and true is returned. */
static bool is_change_needless(struct dr_node *n, struct node_request *r)
{
    const struct raft_server *member = find_member(n, r->id);
    enum dr_code code = DR_OK;
    bool is_settled = n->raft.configuration_uncommitted_index == 0;
    bool is_sole = member != NULL && member->role == RAFT_VOTER && count_voters(n) == 1;
    if (r->ask == ASK_ADD) {
        if (member == NULL && n->raft.configuration.n >= DR_NODE_MEMBERS_MAX) {
            code = dr_fail(&r->err, DR_REFUSED, "a cluster has at most %d members",
                           DR_NODE_MEMBERS_MAX);
        } else if (member == NULL || !is_settled) {
            return false;
        } else if (strcmp(member->address, r->address) != 0) {
            code = dr_fail(&r->err, DR_EXISTS,
                           "member %llu is at %s already; remove it before adding it elsewhere",
                           (unsigned long long)r->id, member->address);
        }
    } else if (r->ask == ASK_REMOVE) {
        if (is_sole) {
            code = dr_fail(&r->err, DR_REFUSED, "the last voter cannot be removed");
        } else if (member != NULL || !is_settled) {
            return false;
        }
    } else if (member == NULL) {
        code = dr_fail(&r->err, DR_NOT_FOUND, "no member has id %llu", (unsigned long long)r->id);
    } else if (member->role != raft_role(r->role)) {
        if (!is_sole) {
            return false;
        }
        code = dr_fail(&r->err, DR_REFUSED, "the last voter must stay a voter");
    } else if (!is_settled) {
        return false;
    }
    dr_ask_finish(n, r, code);
    return true;
}

static void start_change(struct dr_node *n, struct node_request *r)
{
    if (is_change_needless(n, r)) {
        return;
    }
    int failure = 0;
    r->raft.change.data = r;
    if (r->ask == ASK_ADD) {
        failure = raft_add(&n->raft, &r->raft.change, r->id, r->address, on_change);
    } else if (r->ask == ASK_ASSIGN) {
        failure = raft_assign(&n->raft, &r->raft.change, r->id, raft_role(r->role), on_change);
    } else {
        failure = raft_remove(&n->raft, &r->raft.change, r->id, on_change);
    }
    if (failure != 0) {
        finish_with(n, r, failure, "change the members");
    }
}

static void start_other(struct dr_node *n, struct node_request *r)
{
    int failure = 0;
    switch (r->ask) {
    case ASK_BARRIER:
        r->raft.barrier.data = r;
        failure = raft_barrier(&n->raft, &r->raft.barrier, on_barrier);
        if (failure != 0) {
            finish_with(n, r, failure, "barrier");
        }
        return;
    case ASK_TRANSFER:
        r->raft.transfer.data = r;
        failure = r->id == n->config.id
                      ? RAFT_BADID
                      : raft_transfer(&n->raft, &r->raft.transfer, r->id, on_transfer);
        if (failure != 0) {
            finish_with(n, r, failure, "hand leadership over");
        }
        return;
    case ASK_ADD:
    case ASK_ASSIGN:
    case ASK_REMOVE:
        start_change(n, r);
        return;
    case ASK_PROPOSE:
        assert(false); /* proposals go in batches */
        return;
    }
}

static bool is_refused(struct dr_node *n, struct node_request *r)
{
    enum dr_code code = DR_OK;
    if (n->raft.state != RAFT_LEADER || n->raft.transfer != NULL) {
        raft_id id = 0;
        const char *address = NULL;
        raft_leader(&n->raft, &id, &address);
        code = id == 0 || id == n->config.id
                   ? dr_fail(&r->err, DR_BUSY, "there is no leader at the moment")
                   : dr_fail(&r->err, DR_BUSY, "peer %llu at %s is the leader",
                             (unsigned long long)id, address);
    } else if (r->ask == ASK_PROPOSE && n->waiting_count >= DR_NODE_WAITING_MAX) {
        code = dr_fail(&r->err, DR_BUSY, "%d proposals wait already", DR_NODE_WAITING_MAX);
    }
    if (code == DR_OK) {
        return false;
    }
    dr_ask_finish(n, r, code);
    return true;
}

void dr_ask_serve(struct dr_node *n)
{
    struct node_request *batch[DR_NODE_BATCH_MAX];
    unsigned count = 0;
    size_t bytes = 0;
    struct node_request *r = take_incoming(n);
    while (r != NULL) {
        struct node_request *next = r->next;
        bool is_proposal = r->ask == ASK_PROPOSE;
        if (count > 0 && (!is_proposal || count == DR_NODE_BATCH_MAX ||
                          bytes + r->buf.len > DR_NODE_BATCH_BYTES_MAX)) {
            propose_batch(n, batch, count);
            count = 0;
            bytes = 0;
        }
        r->node = n;
        if (!is_refused(n, r)) {
            if (is_proposal) {
                batch[count++] = r;
                bytes += r->buf.len;
            } else {
                start_other(n, r);
            }
        }
        r = next;
    }
    if (count > 0) {
        propose_batch(n, batch, count);
    }
}
