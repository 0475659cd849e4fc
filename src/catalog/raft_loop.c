/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the peer's thread: bring libraft up, run the loop, publish what it says, bring it down.
 *
 *   (move ->) load -> run -> (hand leadership over) -> close -> end
 *
 * Every end, also a failed start, goes through the same closing. Moving is for a cluster of one
 * that gets another address (the embedded default that others shall join): its log is looked at,
 * and when nobody else is in it, a configuration with the new address is appended. */
#include <assert.h>
#include <signal.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "catalog/raft_private.h"

enum {
    ELECTION_MS = 1000,
    SNAPSHOT_THRESHOLD = 1024,
    SNAPSHOT_TRAILING = 128,
    CONNECT_RETRY_MS = 250,
};

enum dr_code dr_loop_code(int raft_code)
{
    static const struct {
        int raft;
        enum dr_code code;
    } rows[] = {
        {0, DR_OK},
        {RAFT_NOMEM, DR_NOMEM},
        {RAFT_BADID, DR_NOT_FOUND},
        {RAFT_NOTFOUND, DR_NOT_FOUND},
        {RAFT_DUPLICATEID, DR_EXISTS},
        {RAFT_DUPLICATEADDRESS, DR_EXISTS},
        {RAFT_BADROLE, DR_INPUT},
        {RAFT_TOOBIG, DR_INPUT},
        {RAFT_MALFORMED, DR_CORRUPT},
        {RAFT_CORRUPT, DR_CORRUPT},
        {RAFT_NOTLEADER, DR_BUSY},
        {RAFT_BUSY, DR_BUSY},
        {RAFT_LEADERSHIPLOST, DR_UNKNOWN},
        {RAFT_SHUTDOWN, DR_UNKNOWN},
        {RAFT_CANCELED, DR_UNKNOWN},
        {RAFT_CANTCHANGE, DR_CONFLICT},
        {RAFT_NOCONNECTION, DR_UNREACHABLE},
        {RAFT_IOERR, DR_IO},
        {RAFT_NOSPACE, DR_FULL},
        {RAFT_TOOMANY, DR_FULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].raft == raft_code) {
            return rows[i].code;
        }
    }
    return DR_INTERNAL;
}

/* --- publishing --- */

static enum dr_node_state find_state(const struct dr_node *n)
{
    switch (n->raft.state) {
    case RAFT_FOLLOWER:
        return DR_NODE_FOLLOWER;
    case RAFT_CANDIDATE:
        return DR_NODE_CANDIDATE;
    case RAFT_LEADER:
        return DR_NODE_LEADER;
    default: /* libraft's codes are plain numbers */
        return DR_NODE_STOPPED;
    }
}

static enum dr_node_role find_role(int role)
{
    if (role == RAFT_VOTER) {
        return DR_NODE_VOTER;
    }
    return role == RAFT_STANDBY ? DR_NODE_STANDBY : DR_NODE_SPARE;
}

/* Remember when each member last answered: libraft's own mark is cleared once per election time. */
static void note_heard(struct dr_node *n, unsigned place, dr_mono_ms now)
{
    const struct raft_progress *p = &n->raft.leader_state.progress[place];
    if (p->recent_recv || p->match_index != n->heard_match[place]) {
        n->heard_at[place] = now;
        n->heard_match[place] = p->match_index;
    }
}

static void publish_members(struct dr_node *n, struct dr_node_status *s)
{
    const struct raft_configuration *c = &n->raft.configuration;
    bool is_leader = n->raft.state == RAFT_LEADER && n->raft.leader_state.progress != NULL;
    dr_mono_ms now = dr_mono_now();
    if (n->heard_term != n->raft.current_term || n->heard_members != c->n) {
        n->heard_term = n->raft.current_term;
        n->heard_members = c->n;
        memset(n->heard_at, 0, sizeof n->heard_at);
        memset(n->heard_match, 0, sizeof n->heard_match);
    }
    s->is_voter = false;
    s->member_count = c->n < DR_NODE_MEMBERS_MAX ? c->n : DR_NODE_MEMBERS_MAX;
    for (unsigned i = 0; i < s->member_count; i++) {
        struct dr_node_member *m = &s->member[i];
        m->id = c->servers[i].id;
        dr_copy_text(m->address, sizeof m->address, c->servers[i].address);
        m->role = find_role(c->servers[i].role);
        m->match_index = 0;
        m->heard_ms_ago = -1;
        s->is_voter = s->is_voter || (m->id == n->config.id && m->role == DR_NODE_VOTER);
        if (is_leader && m->id == n->config.id) {
            m->match_index = n->raft.last_stored;
            m->heard_ms_ago = 0;
        } else if (is_leader) {
            note_heard(n, i, now);
            m->match_index = n->heard_match[i];
            m->heard_ms_ago = n->heard_at[i] == 0 ? -1 : now - n->heard_at[i];
        }
    }
}

void dr_loop_publish(struct dr_node *n)
{
    raft_id leader = 0;
    const char *address = NULL;
    if (n->raft.state != RAFT_UNAVAILABLE) {
        raft_leader(&n->raft, &leader, &address);
    }
    (void)pthread_mutex_lock(&n->lock);
    struct dr_node_status *s = &n->status;
    enum dr_node_state state = s->state == DR_NODE_FAILED ? DR_NODE_FAILED : find_state(n);
    enum dr_node_state before = s->state;
    bool is_news =
        s->state != state || s->leader_id != leader || s->applied_index != n->raft.last_applied;
    s->state = state;
    s->term = n->raft.current_term;
    s->commit_index = n->raft.commit_index;
    s->last_index = raft_last_index(&n->raft);
    s->applied_index = n->raft.last_applied;
    s->snapshot_index = n->raft.log.snapshot.last_index;
    s->leader_id = leader;
    dr_copy_text(s->leader_address, sizeof s->leader_address, address == NULL ? "" : address);
    s->waiting = n->waiting_count;
    publish_members(n, s);
    if (is_news) {
        (void)pthread_cond_broadcast(&n->changed);
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (before != state) {
        dr_log(n->config.log, DR_LOG_INFO, "raft state", "id=%llu from=%s to=%s term=%llu",
               (unsigned long long)n->config.id, dr_node_state_name(before),
               dr_node_state_name(state), n->raft.current_term);
    }
}

static enum dr_code fail_raft(struct dr_err *err, int failure, const char *what, const char *more)
{
    enum dr_code code = dr_loop_code(failure);
    return dr_fail(err, code == DR_OK ? DR_INTERNAL : code, "%s: %s", what,
                   more != NULL && more[0] != '\0' ? more : raft_strerror(failure));
}

/* --- the transport: none, libraft's own, or ours that asks for the secret --- */

static enum dr_code open_transport(struct dr_node *n, struct dr_err *err)
{
    const struct transport_config config = {
        .secret = n->secret, .bind = n->bind, .log = n->config.log};
    if (n->config.listen == NULL) {
        dr_quiet_transport(&n->transport);
        return DR_OK;
    }
    if (n->secret != NULL) {
        return dr_transport_open(&n->transport, &n->loop, &config, err);
    }
    int failure = raft_uv_tcp_init(&n->transport, &n->loop);
    if (failure != 0) {
        return fail_raft(err, failure, "raft listener", n->transport.errmsg);
    }
    failure = n->bind == NULL ? 0 : raft_uv_tcp_set_bind_address(&n->transport, n->bind);
    if (failure != 0) {
        (void)fail_raft(err, failure, n->bind, n->transport.errmsg);
        raft_uv_tcp_close(&n->transport);
        return err->code;
    }
    return DR_OK;
}

static void close_transport(struct dr_node *n)
{
    if (n->config.listen != NULL && n->secret != NULL) {
        dr_transport_fini(&n->transport);
    } else if (n->config.listen != NULL) {
        raft_uv_tcp_close(&n->transport);
    }
}

/* --- closing --- */

static void on_raft_closed(struct raft *r)
{
    struct dr_node *n = r->data;
    raft_uv_close(&n->io);
    close_transport(n);
    uv_close((uv_handle_t *)&n->wake, NULL);
    uv_close((uv_handle_t *)&n->tick, NULL);
    uv_close((uv_handle_t *)&n->prepare, NULL);
}

static void close_raft(struct dr_node *n)
{
    if (n->is_closing) {
        return;
    }
    n->is_closing = true;
    (void)pthread_mutex_lock(&n->lock);
    n->is_over = true; /* from here on nobody adds to the inbox or touches `wake` */
    (void)pthread_mutex_unlock(&n->lock);
    raft_close(&n->raft, on_raft_closed);
}

static void on_farewell(struct raft_transfer *req)
{
    close_raft(req->data);
}

static bool has_other_voter(const struct dr_node *n)
{
    for (unsigned i = 0; i < n->raft.configuration.n; i++) {
        const struct raft_server *s = &n->raft.configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != n->config.id) {
            return true;
        }
    }
    return false;
}

/* Hand leadership over before going, so that the others need not wait for an election. */
static void leave(struct dr_node *n)
{
    if (n->is_leaving) {
        return;
    }
    n->is_leaving = true;
    if (n->raft.state == RAFT_LEADER && n->raft.transfer == NULL && has_other_voter(n)) {
        n->farewell.data = n;
        if (raft_transfer(&n->raft, &n->farewell, 0, on_farewell) == 0) {
            return;
        }
    }
    close_raft(n);
}

/* --- the loop's callbacks --- */

static void on_wake(uv_async_t *handle)
{
    struct dr_node *n = handle->data;
    (void)pthread_mutex_lock(&n->lock);
    bool is_stop_asked = n->is_stop_asked;
    bool is_failed = n->status.state == DR_NODE_FAILED;
    (void)pthread_mutex_unlock(&n->lock);
    if (n->is_closing) {
        return;
    }
    if (is_failed) {
        close_raft(n);
        return;
    }
    dr_ask_serve(n);
    if (is_stop_asked) {
        leave(n);
    }
}

static void on_tick(uv_timer_t *handle)
{
    (void)handle; /* wakes the loop; on_prepare does the rest */
}

static void on_prepare(uv_prepare_t *handle)
{
    struct dr_node *n = handle->data;
    if (!n->is_closing) {
        dr_loop_publish(n);
    }
}

/* --- starting --- */

static enum dr_code open_handles(struct dr_node *n, struct dr_err *err)
{
    n->wake.data = n->tick.data = n->prepare.data = n;
    int failure = uv_async_init(&n->loop, &n->wake, on_wake);
    if (failure != 0) {
        return dr_fail(err, DR_IO, "raft loop: %s", uv_strerror(failure));
    }
    (void)uv_timer_init(&n->loop, &n->tick); /* these two only fill in their structs */
    (void)uv_prepare_init(&n->loop, &n->prepare);
    return DR_OK;
}

static void close_handles(struct dr_node *n)
{
    uv_close((uv_handle_t *)&n->wake, NULL);
    uv_close((uv_handle_t *)&n->tick, NULL);
    uv_close((uv_handle_t *)&n->prepare, NULL);
}

static enum dr_code open_raft(struct dr_node *n, struct dr_err *err)
{
    enum dr_code rc = open_transport(n, err);
    if (rc != DR_OK) {
        return rc;
    }
    int failure = raft_uv_init(&n->io, &n->loop, n->raft_dir, &n->transport);
    if (failure != 0) {
        (void)fail_raft(err, failure, n->raft_dir, n->io.errmsg);
        goto out;
    }
    assert(n->io.async_work != NULL);
    n->io.version = 2; /* raft_uv_init fills in async_work, and says 1 all the same */
    raft_uv_set_connect_retry_delay(&n->io, CONNECT_RETRY_MS);
    dr_machine_init(n);
    failure = raft_init(&n->raft, &n->io, &n->raft_fsm, n->config.id, n->address);
    if (failure != 0) {
        (void)fail_raft(err, failure, n->raft_dir, n->raft.errmsg);
        raft_uv_close(&n->io);
        goto out;
    }
    n->raft.data = n;
    return DR_OK;
out:
    close_transport(n);
    return err->code;
}

static void configure_raft(struct dr_node *n)
{
    const struct dr_node_config *c = &n->config;
    uint32_t election_ms = c->election_ms == 0 ? ELECTION_MS : c->election_ms;
    uint32_t beat_ms = c->heartbeat_ms == 0 ? (election_ms + 9) / 10 : c->heartbeat_ms;
    raft_set_election_timeout(&n->raft, election_ms);
    raft_set_heartbeat_timeout(&n->raft, beat_ms);
    raft_set_pre_vote(&n->raft, true);
    raft_set_snapshot_threshold(&n->raft, c->snapshot_threshold == 0 ? SNAPSHOT_THRESHOLD
                                                                     : c->snapshot_threshold);
    raft_set_snapshot_trailing(&n->raft, c->snapshot_trailing == 0 ? SNAPSHOT_TRAILING
                                                                   : c->snapshot_trailing);
    (void)uv_timer_start(&n->tick, on_tick, beat_ms, beat_ms);
    (void)uv_prepare_start(&n->prepare, on_prepare);
}

/* Write the first configuration, or with raft_recover() another one: this peer alone. */
static enum dr_code write_alone(struct dr_node *n,
                                int (*write)(struct raft *, const struct raft_configuration *),
                                const char *what, struct dr_err *err)
{
    struct raft_configuration c;
    raft_configuration_init(&c);
    int failure = raft_configuration_add(&c, n->config.id, n->address, RAFT_VOTER);
    if (failure == 0) {
        failure = write(&n->raft, &c);
    }
    raft_configuration_close(&c);
    if (failure != 0 && failure != RAFT_CANTBOOTSTRAP) {
        return fail_raft(err, failure, what, raft_errmsg(&n->raft));
    }
    return DR_OK;
}

static enum dr_code start_raft(struct dr_node *n, bool is_recovery, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (is_recovery) {
        rc = write_alone(n, raft_recover, "write the new address", err);
    } else if (n->is_fresh && n->config.is_bootstrap) {
        rc = write_alone(n, raft_bootstrap, "bootstrap", err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    int failure = raft_start(&n->raft);
    if (failure != 0 && n->status.state != DR_NODE_FAILED) {
        return fail_raft(err, failure, "load the raft log", raft_errmsg(&n->raft));
    }
    if (n->status.state == DR_NODE_FAILED) {
        *err = n->status.failure;
        return err->code;
    }
    return DR_OK;
}

static void report_start(struct dr_node *n, const struct dr_err *err)
{
    (void)pthread_mutex_lock(&n->lock);
    n->start_err = *err;
    n->is_started = true;
    n->is_over = n->is_over || err->code != DR_OK;
    (void)pthread_cond_broadcast(&n->changed);
    (void)pthread_mutex_unlock(&n->lock);
}

static void bring_down(struct dr_node *n)
{
    close_raft(n);
    (void)uv_run(&n->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&n->loop);
}

static enum dr_code bring_up_once(struct dr_node *n, bool is_recovery, struct dr_err *err)
{
    int failure = uv_loop_init(&n->loop);
    if (failure != 0) {
        return dr_fail(err, DR_IO, "raft loop: %s", uv_strerror(failure));
    }
    enum dr_code rc = open_handles(n, err);
    if (rc != DR_OK) {
        (void)uv_loop_close(&n->loop);
        return rc;
    }
    rc = open_raft(n, err);
    if (rc != DR_OK) {
        close_handles(n);
        (void)uv_run(&n->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&n->loop);
        return rc;
    }
    configure_raft(n);
    rc = start_raft(n, is_recovery, err);
    if (rc != DR_OK) {
        bring_down(n);
    }
    return rc;
}

/* Is this peer the only member its log knows? Reads the log and applies nothing. */
static enum dr_code find_alone(struct dr_node *n, struct dr_err *err)
{
    n->is_peeking = true;
    enum dr_code rc = bring_up_once(n, false, err);
    n->is_peeking = false;
    if (rc != DR_OK) {
        return rc;
    }
    const struct raft_configuration *c = &n->raft.configuration;
    if (c->n != 1 || c->servers[0].id != n->config.id) {
        rc = dr_fail(err, DR_CONFLICT,
                     "the other members know this peer by another address than %s; start it there, "
                     "or remove it from the cluster and join again with an empty folder",
                     n->address);
    }
    n->is_peeking = true; /* closing may still hand over entries */
    bring_down(n);
    n->is_peeking = false;
    n->is_closing = false;
    (void)pthread_mutex_lock(&n->lock);
    n->is_over = rc != DR_OK;
    (void)pthread_mutex_unlock(&n->lock);
    return rc;
}

static enum dr_code bring_up(struct dr_node *n, struct dr_err *err)
{
    if (n->is_moved) {
        enum dr_code rc = find_alone(n, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    enum dr_code rc = bring_up_once(n, n->is_moved, err);
    if (rc == DR_OK && n->is_moved) {
        rc = dr_node_note_address(n, err); /* until it is noted, every start moves anew */
        if (rc != DR_OK) {
            bring_down(n);
        }
    }
    return rc;
}

void *dr_loop_main(void *arg)
{
    struct dr_node *n = arg;
    struct dr_err err = {0};
    sigset_t all; /* signals are the program's main thread's; a broken pipe is a code here */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    enum dr_code rc = bring_up(n, &err);
    if (rc == DR_OK) {
        dr_loop_publish(n);
    }
    report_start(n, &err);
    if (rc != DR_OK) {
        return NULL;
    }
    (void)uv_run(&n->loop, UV_RUN_DEFAULT);
    int failure = uv_loop_close(&n->loop);
    assert(failure == 0); /* a handle left open would be used after it is freed */
    (void)failure;
    dr_ask_end_all(n);
    (void)pthread_mutex_lock(&n->lock);
    bool is_failed = n->status.state == DR_NODE_FAILED;
    if (!is_failed) {
        n->status.state = DR_NODE_STOPPED;
    }
    n->status.leader_id = 0;
    n->status.waiting = 0;
    (void)pthread_cond_broadcast(&n->changed);
    (void)pthread_mutex_unlock(&n->lock);
    if (is_failed && n->config.on_failed != NULL) {
        n->config.on_failed(n->config.on_failed_arg, &n->status.failure);
    }
    return NULL;
}
