/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a Raft peer share. The thread rules:
 *   - everything of libraft and libuv is touched by the node's thread only;
 *   - `lock` guards what is below it; requests travel through `inbox` and uv_async_send();
 *   - a request is held by its caller and by the node's thread; the last one to let go frees it. */
#ifndef DR_CATALOG_RAFT_PRIVATE_H
#define DR_CATALOG_RAFT_PRIVATE_H

#include <pthread.h>
#include <raft.h>
#include <raft/uv.h>
#include <uv.h>

#include "base/clock.h"
#include "catalog/raft_node.h"

enum node_ask { ASK_PROPOSE, ASK_BARRIER, ASK_ADD, ASK_ASSIGN, ASK_REMOVE, ASK_TRANSFER };

struct node_request {
    struct dr_node *node;
    enum node_ask ask;
    uint64_t id; /* of a member */
    enum dr_node_role role;
    char address[DR_NODE_ADDRESS_BYTES_MAX];
    struct raft_buffer buf; /* a proposal: header, entry, padding; raft_malloc */
    uint64_t token;         /* of a proposal, also in its header */
    uint64_t index;
    union {
        struct raft_barrier barrier;
        struct raft_change change;
        struct raft_transfer transfer;
    } raft;
    /* Under the node's lock. */
    int holders;
    bool is_done;
    enum dr_code code;
    struct dr_err err;
    struct dr_node_answer answer;
    pthread_cond_t is_over;
    struct node_request *next; /* of the inbox, then of the waiting proposals */
};

/* Proposals that share one raft_apply(). */
struct node_batch {
    struct raft_apply apply;
    struct dr_node *node;
};

struct dr_node {
    struct dr_node_config config;
    struct dr_fsm fsm;
    bool is_catalog;
    char *dir, *raft_dir, *address, *bind, *secret;
    int lock_fd;
    bool is_fresh;   /* no log was there */
    bool is_moved;   /* the log was written for another address */
    bool is_peeking; /* the log is only looked at: nothing is applied */
    pthread_t thread;
    bool has_thread;

    /* The node's thread only. */
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick;
    uv_prepare_t prepare;
    struct raft_uv_transport transport;
    struct raft_io io;
    struct raft_fsm raft_fsm;
    struct raft raft;
    struct raft_transfer farewell; /* of a graceful stop */
    uint64_t nonce;                /* set once: tells our tokens from those of an earlier life */
    struct node_request *first_waiting, *last_waiting; /* proposals by index */
    uint32_t waiting_count;
    void *held; /* state of the snapshot being written */
    uint64_t held_index;
    bool is_leaving, is_closing;
    dr_mono_ms heard_at[DR_NODE_MEMBERS_MAX]; /* by place in the configuration */
    uint64_t heard_match[DR_NODE_MEMBERS_MAX];
    uint64_t heard_term;
    unsigned heard_members;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* status, or start and end of the thread */
    struct node_request *first_in, *last_in;
    uint64_t next_token;
    bool is_started, is_over, is_stop_asked;
    struct dr_err start_err;
    struct dr_node_status status;
};

/* --- raft_wire.c: headers in front of entries and snapshots; pure --- */
enum { ENTRY_HEADER_BYTES = 32, SNAPSHOT_HEADER_BYTES = 24 };
struct entry_header {
    uint32_t format;
    uint64_t nonce, token, bytes;
};
/* Total length, a multiple of 8 as libraft's log wants it. */
size_t dr_wire_entry_bytes(size_t bytes);
void dr_wire_put_entry(void *base, const struct entry_header *h, const char *entry);
/* DR_CORRUPT, or DR_UNSUPPORTED for a newer format (h->nonce and token are then 0). */
enum dr_code dr_wire_get_entry(const struct raft_buffer *buf, struct entry_header *h,
                               const char **entry_out, struct dr_err *err);
size_t dr_wire_snapshot_bytes(size_t bytes);
void dr_wire_put_snapshot(void *base, uint64_t index, const char *text, size_t bytes);
enum dr_code dr_wire_get_snapshot(const struct raft_buffer *buf, uint64_t *index_out,
                                  const char **text_out, size_t *bytes_out, struct dr_err *err);

/* --- raft_ask.c: requests and their answers --- */
/* On the node's thread: take what came in and hand it to libraft. */
void dr_ask_serve(struct dr_node *n);
/* End `r` with this outcome; the message is r->err's. */
void dr_ask_finish(struct dr_node *n, struct node_request *r, enum dr_code code);
/* An entry was applied: answer its proposer if it is ours, and those whose place it took. */
void dr_ask_applied(struct dr_node *n, uint64_t index, const struct entry_header *h,
                    struct dr_apply_result *result);
/* A snapshot jumped over `index`: what became of entries up to it cannot be known here. */
void dr_ask_skipped(struct dr_node *n, uint64_t index);
/* The peer ends: everybody who waits gets to know. */
void dr_ask_end_all(struct dr_node *n);

/* --- raft_machine.c: libraft's state machine calls, translated --- */
void dr_machine_init(struct dr_node *n);
/* The state machine failed: note why and let the loop close the peer. */
void dr_node_fail(struct dr_node *n, const struct dr_err *why);

/* --- raft_node.c --- */
/* Note in peer.json where this peer is reached now. */
enum dr_code dr_node_note_address(struct dr_node *n, struct dr_err *err);

/* --- raft_loop.c: the thread --- */
void *dr_loop_main(void *arg);
void dr_loop_publish(struct dr_node *n);
enum dr_code dr_loop_code(int raft_code);

/* --- raft_transport.c: libuv TCP between peers that prove to know one secret --- */
struct transport_config {
    const char *secret; /* the strings are copied */
    const char *bind;   /* NULL: the address the peer is known by */
    struct dr_log *log; /* borrowed; may be NULL */
};
enum dr_code dr_transport_open(struct raft_uv_transport *t, uv_loop_t *loop,
                               const struct transport_config *config, struct dr_err *err);
/* After libraft has closed it, or when libraft never got it. */
void dr_transport_fini(struct raft_uv_transport *t);

/* --- raft_quiet.c: a transport for a cluster of one: no socket at all --- */
void dr_quiet_transport(struct raft_uv_transport *t);

#endif
