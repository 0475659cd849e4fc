/* SPDX-License-Identifier: Apache-2.0 */
/* One Raft peer: libraft over libuv in a thread of its own, driving a state machine.
 *
 * The state machine is an interface (struct dr_fsm); the catalog's is made by dr_catalog_fsm_create
 * (raft_fsm.c) and is what a node gets when none is given. The node owns the log, the snapshots,
 * the listener and the waiting callers; consensus itself is libraft's.
 *
 * Any thread may call anything here; calls that wait say so. Callbacks run on the node's thread and
 * must not call back into the node.
 *
 * Start-up: an empty folder with is_bootstrap becomes a cluster of one voter; an empty folder
 * without it waits to be added by the leader of a cluster (dr_node_add there); a folder with a log
 * goes on where it stopped. When the state machine fails (a full disk), the peer stops for good,
 * loudly, with the entry not applied: a restart applies it again. */
#ifndef DR_CATALOG_RAFT_NODE_H
#define DR_CATALOG_RAFT_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "catalog/catalog.h"
#include "obs/log.h"

enum {
    DR_NODE_ADDRESS_BYTES_MAX = 64, /* IPv4 and port */
    DR_NODE_MEMBERS_MAX = DR_PEERS_MAX,
    DR_NODE_WAITING_MAX = 4096, /* proposals in flight; more are DR_BUSY */
    DR_NODE_BATCH_MAX = 256,    /* proposals that share one write of the log */
    DR_NODE_BATCH_BYTES_MAX = 8 * 1024 * 1024,
    DR_RAFT_FORMAT = 1, /* of the header in front of entries and snapshots */
    DR_RAFT_SECRET_BYTES_MIN = 16,
    DR_RAFT_SECRET_BYTES_MAX = 512,
};

/* A state machine. All calls but snapshot_encode come from the node's thread, in log order. */
struct dr_fsm {
    void *arg;
    /* Apply one committed entry. The code is about this machine: anything but DR_OK stops the peer
     * with the entry not applied. A refusal is DR_OK with result->code set. The text is not
     * NUL-terminated. */
    enum dr_code (*apply)(void *arg, uint64_t index, const char *entry, size_t bytes,
                          struct dr_apply_result *result, struct dr_err *err);
    /* Three steps of a snapshot: take hold of the state (quick), write it as text (dr_free; on a
     * worker thread while entries go on being applied), let go. */
    enum dr_code (*snapshot_begin)(void *arg, void **held_out, struct dr_err *err);
    enum dr_code (*snapshot_encode)(void *arg, void *held, char **text_out, size_t *bytes_out,
                                    struct dr_err *err);
    void (*snapshot_end)(void *arg, void *held);
    /* Replace the state by a snapshot whose last entry is `index`. */
    enum dr_code (*restore)(void *arg, uint64_t index, const char *text, size_t bytes,
                            struct dr_err *err);
    void (*destroy)(void *arg); /* may be NULL */
};

/* The catalog as a state machine: entries by dr_catalog_apply, files below `dir` written before an
 * entry counts as applied. `on_change` (may be NULL) sees every new state on the node's thread. */
typedef void (*dr_node_change_fn)(void *arg, const struct dr_catalog *c);
DR_MUST enum dr_code dr_catalog_fsm_create(const char *dir, struct dr_log *log,
                                           dr_node_change_fn on_change, void *on_change_arg,
                                           struct dr_fsm *out, struct dr_err *err);
/* A reference to the state of a machine that dr_catalog_fsm_create made. Any thread. */
struct dr_catalog *dr_catalog_fsm_state(const struct dr_fsm *fsm);

struct dr_node_config {
    uint64_t id;           /* 1 .. 2^53, the same for ever */
    const char *listen;    /* "127.0.0.1:7010", as the others reach it; NULL: no listener, a
                              cluster of one that nobody can join */
    const char *bind;      /* where to listen if that differs; NULL: `listen` */
    const char *secret;    /* what every peer of the cluster has to know to be heard, 16 to 512
                              bytes; copied, never logged. NULL: whoever reaches the listener is
                              believed, so it has to be on loopback */
    bool is_open;          /* without a secret: allow an address other than loopback all the same */
    const char *dir;       /* made when missing; holds raft/, peer.json, collections/ */
    bool is_bootstrap;     /* a no-op once there is a log */
    uint32_t election_ms;  /* 0: 1000 */
    uint32_t heartbeat_ms; /* 0: a tenth of it */
    uint32_t snapshot_threshold; /* entries; 0: 1024 */
    uint32_t snapshot_trailing;  /* entries kept behind a snapshot; 0: 128 */
    struct dr_log *log;          /* borrowed; may be NULL */
    const struct dr_fsm *fsm;    /* copied; NULL: the catalog. The node destroys it. */
    dr_node_change_fn on_change; /* for the catalog */
    void *on_change_arg;
    void (*on_failed)(void *arg, const struct dr_err *why); /* the peer has stopped for good */
    void *on_failed_arg;
};

enum dr_node_state {
    DR_NODE_STOPPED,
    DR_NODE_FOLLOWER,
    DR_NODE_CANDIDATE,
    DR_NODE_LEADER,
    DR_NODE_FAILED
};
const char *dr_node_state_name(enum dr_node_state s); /* "Follower" ... as the API shows it */

enum dr_node_role { DR_NODE_STANDBY, DR_NODE_VOTER, DR_NODE_SPARE };

struct dr_node_member {
    uint64_t id;
    char address[DR_NODE_ADDRESS_BYTES_MAX];
    enum dr_node_role role;
    /* The rest only on the leader; elsewhere 0 and -1. */
    uint64_t match_index;
    int64_t heard_ms_ago; /* since its last answer; -1: never in this term */
};
struct dr_node_status {
    enum dr_node_state state;
    uint64_t term, commit_index, last_index, applied_index, snapshot_index;
    uint64_t leader_id; /* 0: none known */
    char leader_address[DR_NODE_ADDRESS_BYTES_MAX];
    uint32_t waiting; /* proposals in flight here */
    bool is_voter;    /* this peer, in the newest configuration it knows */
    uint32_t member_count;
    struct dr_node_member member[DR_NODE_MEMBERS_MAX];
    struct dr_err failure; /* DR_NODE_FAILED: why */
};

/* What came of a call that only a leader can answer. */
struct dr_node_answer {
    struct dr_apply_result result; /* proposals; result.value is the caller's (json_decref) */
    uint64_t index;                /* of the entry; 0 when it never got one */
    uint64_t leader_id;            /* with DR_BUSY: whom to ask instead; 0: nobody is leader */
    char leader_address[DR_NODE_ADDRESS_BYTES_MAX];
};

struct dr_node;

/* Makes folders and takes the folder's lock (DR_BUSY when another process has it); starts nothing.
 * DR_CONFLICT when the folder belongs to another id, or has a catalog's files but no log. */
DR_MUST enum dr_code dr_node_create(const struct dr_node_config *config, struct dr_node **out,
                                    struct dr_err *err);
/* Load the log and start the thread. Returns when the peer runs, or why it cannot. A single voter
 * has applied its whole log by then. A cluster of one may have changed its address (the embedded
 * default that gets a listener); a member of a larger one gets DR_CONFLICT. */
DR_MUST enum dr_code dr_node_start(struct dr_node *n, struct dr_err *err);
/* Stop; a leader of several hands leadership over first, for at most one election time-out. Waiting
 * callers get DR_UNKNOWN. Blocks until the thread has ended. Harmless when stopped. */
void dr_node_stop(struct dr_node *n);
/* Stops if need be; nobody may be inside a call. Accepts NULL. */
void dr_node_destroy(struct dr_node *n);

/* Propose an entry and wait until this peer has applied it.
 * DR_OK: applied here; answer->result says with what outcome (it may be a refusal).
 * DR_INPUT: larger than DR_ENTRY_BYTES_MAX, or empty.
 * DR_BUSY: not proposed, or certainly not committed: this peer is not the leader
 *   (answer->leader_id is, 0 when nobody is), too many wait, or a new leader dropped it.
 * DR_UNKNOWN: time ran out, or the peer stops: it may still be committed. Look before repeating.
 * DR_STOPPED: the peer does not run (failed ones say why). */
DR_MUST enum dr_code dr_node_propose(struct dr_node *n, const char *entry, size_t bytes,
                                     uint32_t timeout_ms, struct dr_node_answer *answer,
                                     struct dr_err *err);
/* Wait until everything committed before this call is applied here, confirmed by a quorum. Codes as
 * above; a follower says DR_BUSY. */
DR_MUST enum dr_code dr_node_barrier(struct dr_node *n, uint32_t timeout_ms,
                                     struct dr_node_answer *answer, struct dr_err *err);
/* Membership, on the leader; one change at a time (DR_CONFLICT while another goes on). A new member
 * is a spare, which gets nothing; a standby gets the log and does not vote. Promoting waits until
 * it has caught up. Repeating a change that is done already is DR_OK. */
DR_MUST enum dr_code dr_node_add(struct dr_node *n, uint64_t id, const char *address,
                                 uint32_t timeout_ms, struct dr_node_answer *answer,
                                 struct dr_err *err);
DR_MUST enum dr_code dr_node_assign(struct dr_node *n, uint64_t id, enum dr_node_role role,
                                    uint32_t timeout_ms, struct dr_node_answer *answer,
                                    struct dr_err *err);
/* DR_REFUSED for the last voter. A leader that removes itself steps down. */
DR_MUST enum dr_code dr_node_remove(struct dr_node *n, uint64_t id, uint32_t timeout_ms,
                                    struct dr_node_answer *answer, struct dr_err *err);
/* Hand leadership to the voter `id` (0: any). DR_OK: it was handed over; DR_BUSY: it was not. */
DR_MUST enum dr_code dr_node_transfer(struct dr_node *n, uint64_t id, uint32_t timeout_ms,
                                      struct dr_node_answer *answer, struct dr_err *err);

/* The newest state (dr_catalog_unref), never waiting for a change. NULL with another machine. */
struct dr_catalog *dr_node_catalog(const struct dr_node *n);
void dr_node_status(struct dr_node *n, struct dr_node_status *out);
/* Wait until this peer has applied `index`; DR_BUSY when time runs out, DR_STOPPED. */
DR_MUST enum dr_code dr_node_wait_applied(struct dr_node *n, uint64_t index, uint32_t timeout_ms,
                                          struct dr_err *err);
/* Wait until a leader is known; DR_BUSY when time runs out, DR_STOPPED. */
DR_MUST enum dr_code dr_node_wait_leader(struct dr_node *n, uint32_t timeout_ms, uint64_t *id_out,
                                         struct dr_err *err);

#endif
