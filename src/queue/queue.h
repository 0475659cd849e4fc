/* SPDX-License-Identifier: Apache-2.0 */
/* The durable queue: operations, their steps, leases, undo, cleanup records, audit.
 *
 * One implementation now (queue/sqlite: DIR/queue.db, WAL, synchronous=FULL). Several threads and
 * several processes may use one data folder; only the *owner* (who holds DIR/owner.lock) runs
 * steps, the others put operations and set wishes, which the owner obeys. All writes of a process
 * go through one committer thread that puts whatever is waiting into one transaction: one fsync
 * covers many leases, saves and completions. A call marked "durable" returns after that fsync; one
 * marked "posted" returns at once and a later failure shows at the lease's next call or in
 * dr_queue_flush.
 *
 * Status of a step moves only through the table in queue/moves.c (drawn there):
 *   created -> leased -> processed; leased -> created (released) | waiting (retry at) |
 *   unknown (probe first) | failed (quarantine); failed -> created (re-driven);
 *   created|waiting|unknown -> cancelled (stopped; also never touched and rolled back);
 *   cancelled -> created (a stopped operation runs again);
 *   processed|touched -> undoing -> undone | undo_failed; undo_failed -> undoing (re-driven). */
#ifndef DR_QUEUE_QUEUE_H
#define DR_QUEUE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "plan/plan.h"

enum { DR_QUEUE_SCHEMA = 3, DR_NAME_BYTES = 128, DR_REASON_BYTES = 512, DR_URL_BYTES = 4097 };

/* clang-format off */
#define DR_STEP_STATUS_MAP(X)       \
    X(CREATED, "created")           \
    X(LEASED, "leased")             \
    X(WAITING, "waiting")           \
    X(UNKNOWN, "unknown")           \
    X(FAILED, "failed")             \
    X(PROCESSED, "processed")       \
    X(CANCELLED, "cancelled")       \
    X(UNDOING, "undoing")           \
    X(UNDONE, "undone")             \
    X(UNDO_FAILED, "undo_failed")
/* clang-format on */
enum dr_step_status {
#define X(name, text) DR_S_##name,
    DR_STEP_STATUS_MAP(X)
#undef X
        DR_S_COUNT
};
const char *dr_step_status_name(enum dr_step_status s);

/* What the operator wants; the operation's status says how far that has come. */
enum dr_wish {
    DR_WISH_HOLD, /* planned and stored, not approved */
    DR_WISH_RUN,
    DR_WISH_PAUSE,
    DR_WISH_STOP,     /* finish the batch, keep what is done, cancel the rest */
    DR_WISH_ROLLBACK, /* stop, then undo everything */
    DR_WISH_COUNT
};
const char *dr_wish_name(enum dr_wish w);

/* clang-format off */
#define DR_OP_STATUS_MAP(X)                  \
    X(PLANNED, "planned")                    \
    X(QUEUED, "queued")                      \
    X(RUNNING, "running")                    \
    X(PAUSING, "pausing")                    \
    X(PAUSED, "paused")                      \
    X(STOPPING, "stopping")                  \
    X(STOPPED, "stopped")                    \
    X(BLOCKED, "blocked")                    \
    X(DONE, "done")                          \
    X(ROLLING_BACK, "rolling back")          \
    X(ROLLED_BACK, "rolled back")            \
    X(ROLLBACK_BLOCKED, "rollback blocked")
/* clang-format on */
enum dr_op_status {
#define X(name, text) DR_O_##name,
    DR_OP_STATUS_MAP(X)
#undef X
        DR_O_COUNT
};
const char *dr_op_status_name(enum dr_op_status s);
bool dr_op_status_is_final(enum dr_op_status s); /* stopped, done, rolled back */
/* Will nothing move any more without a person? Final, planned, paused or blocked. */
bool dr_op_status_is_resting(enum dr_op_status s);

struct dr_op {
    int64_t id;
    char group[DR_NAME_BYTES]; /* operation_group, unique: "tenant.drop-acme-7" */
    char kind[DR_NAME_BYTES];
    char target[DR_NAME_BYTES];
    char store_url[DR_URL_BYTES];
    enum dr_wish wish;
    char wish_by[DR_NAME_BYTES]; /* user@host of who asked last */
    char wish_reason[DR_REASON_BYTES];
    enum dr_op_status status; /* derived from wish and counts, never stored */
    int32_t priority;
    bool is_irreversible;
    bool is_atomic;         /* rolls itself back when a step ends in quarantine */
    bool is_past_no_return; /* a step without rollback command was begun: it only goes forward */
    int64_t rollback_to;    /* step id: a partial rollback undoes what comes behind it; 0: all */
    uint32_t stage;         /* the lowest stage with an unfinished step */
    dr_wall_ms created_at, started_at, ended_at, progress_at; /* 0: not yet */
    dr_wall_ms archive_until; /* undo data is kept at least until then; 0: no archive */
    bool is_archive_expired;
    uint64_t plan_hash;
    uint64_t steps;             /* in all */
    uint64_t count[DR_S_COUNT]; /* steps by status */
    uint64_t items_estimated, items_done, items_undone, items_conflict;
    char waiting[DR_REASON_BYTES]; /* why nothing moves at the moment, or "" */
    uint64_t tuning_version;       /* goes up with each change */
};

/* Derive the status. Pure. */
enum dr_op_status dr_op_status_of(enum dr_wish wish, const uint64_t count[DR_S_COUNT]);

struct dr_step {
    int64_t id, op_id;
    enum dr_step_kind kind;
    enum dr_step_status status;
    uint32_t stage;
    int32_t priority;
    int64_t wait_for_id, rollback_wait_for_id; /* step ids, 0: none */
    uint32_t tries;
    uint64_t estimated, done, undone;
    dr_wall_ms created_at, updated_at, next_attempt_at;
    uint64_t duration_ms;
    char node[DR_NAME_BYTES];
    char title[256];
    char lease_owner[DR_NAME_BYTES];
    char last_error[DR_REASON_BYTES];
    char waits_because[DR_REASON_BYTES]; /* "waits for step 12, which is quarantined"; "" if not */
};

struct dr_queue;

/* Open DIR/queue.db, making or migrating it. A newer schema than this build knows is DR_UNSUPPORTED
 * with a clear message and nothing touched; a damaged file is DR_CORRUPT; `must_exist` makes a
 * missing one DR_NOT_FOUND. Starts the committer thread. */
DR_MUST enum dr_code dr_queue_open(const char *data_dir, bool must_exist, struct dr_queue **out,
                                   struct dr_err *err);
/* Flushes, stops the committer. Accepts NULL. */
void dr_queue_close(struct dr_queue *q);
const char *dr_queue_data_dir(const struct dr_queue *q);
/* Become the owner: exclusive lock, DR_BUSY naming the holder when another process is. Also turns
 * every lease of earlier owners into `unknown` (their processes are gone). Released by close. */
DR_MUST enum dr_code dr_queue_own(struct dr_queue *q, struct dr_err *err);
/* Is somebody (else) running this data folder? holder gets "pid 123 on host, drover run". */
bool dr_queue_is_owned(const struct dr_queue *q, char *holder, size_t holder_bytes);

/* --- putting ------------------------------------------------------------------------------- */
struct dr_put {
    const char *kind;
    const char *target;
    const char *store_url;
    const char *request_json; /* the job as given */
    const char *summary_json; /* dr_plan_to_json without steps, or NULL */
    const char *tuning_json;  /* or NULL */
    int32_t priority;
    enum dr_wish wish; /* HOLD or RUN */
    bool is_irreversible;
    uint64_t plan_hash;
    uint32_t archive_days;       /* 0: nothing is archived */
    bool is_atomic;              /* a step that ends in quarantine rolls the operation back */
    uint32_t give_up_s;          /* a step that has failed for so long (busy, unreachable) goes to
                                    quarantine; 0: never, it is tried again as long as it takes */
    int64_t no_return_from;      /* number of the first step that may have no rollback command, the
                                    point of no return; 0: there is none */
    const char *by;              /* user@host */
    const char *idempotency_key; /* or NULL: a second put with the same key gives the first's id */
};
/* Put an operation and all steps that `next` gives, in one transaction: whole or not at all. Holds
 * one step in memory at a time. A step without rollback_query is DR_REFUSED unless is_irreversible;
 * wait_for may only name lower step numbers. Durable. */
DR_MUST enum dr_code dr_queue_put(struct dr_queue *q, const struct dr_put *put,
                                  enum dr_code (*next)(void *arg, struct dr_plan_step *step,
                                                       bool *has_out, struct dr_err *err),
                                  void *arg, int64_t *op_id_out, struct dr_err *err);

/* --- leasing (owner only) -------------------------------------------------------------------- */
struct dr_progress_mark {    /* what a save stores of a step */
    uint64_t done;           /* items erased so far (forward) */
    uint64_t undone;         /* items put back so far (undo) */
    uint64_t conflicts;      /* items that could not be put back: something else is there */
    uint64_t archive_bytes;  /* acknowledged length of the step's archive segment */
    uint64_t archive_frames; /* frames in it whose batch is known to be erased or resolved */
    uint64_t undo_position;  /* undo: frames put back so far, counted from the last */
    uint32_t pass;           /* erase: number of the pass over the range */
    void *cursor;            /* opaque; owned by the lease */
    size_t cursor_len;
};

struct dr_lease {
    int64_t step_id, op_id;
    uint64_t token; /* fencing: only the newest token may save or finish */
    bool is_undo;
    bool needs_probe; /* outcome of the last try unknown: look before acting */
    enum dr_step_kind kind;
    uint32_t tries;           /* attempts before this one that failed in a row */
    uint32_t give_up_s;       /* of the operation; 0: never */
    dr_wall_ms failing_since; /* of the first failure in the present row of them; 0: none */
    uint32_t deaths;          /* holders in a row that died or went silent without any progress */
    int32_t priority;         /* of the operation */
    uint64_t estimated;
    struct dr_progress_mark mark; /* where it stands; cursor owned by the lease */
    char *node;
    char *query;
    char *rollback_query; /* NULL: none */
    char *cleanup;        /* NULL: none */
    char *store_url;
    dr_mono_ms until; /* after this moment the lease must not be used any more */
};
void dr_lease_fini(struct dr_lease *l); /* frees what it owns; fine on a zeroed one */

struct dr_lease_rules {
    const char *worker;        /* "host:pid:thread" */
    uint32_t lease_ms;         /* default 8000: a dead worker is replaced in under 10 s */
    uint32_t per_node_default; /* steps at once per node where the operation says nothing else */
    /* May a step of this operation on this node start now? NULL: always. Called by the committer
     * thread; must not call the queue. */
    bool (*may_start)(void *arg, int64_t op_id, const char *store_url, const char *node);
    void *may_start_arg;
};
/* Lease up to `max` runnable steps (1 for erase work; more only makes sense for tiny steps):
 * operations by priority, then age; forward steps of the lowest open stage; undo steps in reverse
 * order of id and stage, honouring rollback_wait_for. Steps leased in one call for one node count
 * once against the per-node limit only if max > 1. Records cleanup rows of these steps in the same
 * transaction. Sets *count_out to 0 when nothing is runnable. Durable. */
DR_MUST enum dr_code dr_queue_lease(struct dr_queue *q, const struct dr_lease_rules *rules,
                                    struct dr_lease *lease, uint32_t max, uint32_t *count_out,
                                    struct dr_err *err);
/* Prolong; DR_LOST when it is somebody else's by now. Durable. */
DR_MUST enum dr_code dr_queue_renew(struct dr_queue *q, struct dr_lease *l, uint32_t lease_ms,
                                    struct dr_err *err);
/* Save cursor and counts (also prolongs). DR_LOST for an old token. Durable when `is_durable`, else
 * posted. */
DR_MUST enum dr_code dr_queue_save(struct dr_queue *q, struct dr_lease *l, uint32_t lease_ms,
                                   bool is_durable, struct dr_err *err);

enum dr_outcome {
    DR_OUT_DONE,       /* processed, or undone */
    DR_OUT_RELEASE,    /* put back as it is: pause, preemption, shutdown */
    DR_OUT_RETRY,      /* failed, try again at `next_attempt_at` */
    DR_OUT_UNKNOWN,    /* outcome not seen: probe at `next_attempt_at` */
    DR_OUT_QUARANTINE, /* keeps failing or cannot heal: failed, or undo_failed */
};
struct dr_finish {
    enum dr_outcome outcome;
    dr_wall_ms next_attempt_at; /* RETRY, UNKNOWN */
    const char *error;          /* RETRY, UNKNOWN, QUARANTINE: one line */
    bool is_braked;             /* RETRY: told "not now", which is no failure to be counted */
    uint64_t duration_ms;       /* added to the step's duration */
};
/* End the lease, storing l->mark as well. DR_LOST for an old token. Durable or posted. */
DR_MUST enum dr_code dr_queue_finish(struct dr_queue *q, struct dr_lease *l,
                                     const struct dr_finish *f, bool is_durable,
                                     struct dr_err *err);
/* Wait until everything posted so far is durable; the first posted failure since the last flush. */
DR_MUST enum dr_code dr_queue_flush(struct dr_queue *q, struct dr_err *err);
/* Leases whose time ran out -> unknown; waiting steps whose time has come -> created. Returns how
 * many were moved. Called by the owner about every 200 ms. */
DR_MUST enum dr_code dr_queue_sweep(struct dr_queue *q, uint64_t *moved_out, struct dr_err *err);

/* --- control (any process) ------------------------------------------------------------------- */
/* Set the wish. DR_NOT_FOUND, or DR_REFUSED with the reason when the move makes no sense (resume of
 * a finished one, rollback of an irreversible one or after its archive expired, ...). RUN from
 * STOPPED puts cancelled untouched steps back. Durable; recorded in the audit. */
DR_MUST enum dr_code dr_queue_wish(struct dr_queue *q, int64_t op_id, enum dr_wish wish,
                                   const char *by, const char *reason, struct dr_err *err);
/* Roll back what comes behind a step (by id, which stays done): the steps of higher ids and stages.
 * The operation is "stopped" afterwards and may run on, or be rolled back further. DR_REFUSED as
 * for DR_WISH_ROLLBACK, and when a step that stays would wait for one that goes. Both kinds of
 * rollback are refused when a step without rollback command has been begun (is_past_no_return): the
 * message names it and what to do instead. Durable; in the audit. */
DR_MUST enum dr_code dr_queue_rollback_to(struct dr_queue *q, int64_t op_id, int64_t step_id,
                                          const char *by, const char *reason, struct dr_err *err);
/* Store changed tuning (whole JSON, checked by the caller) and priority; bumps tuning_version. */
DR_MUST enum dr_code dr_queue_tune(struct dr_queue *q, int64_t op_id, const char *tuning_json,
                                   int32_t priority, const char *by, struct dr_err *err);
/* Note why an operation is waiting ("" clears). Cheap when unchanged. Posted. */
void dr_queue_waiting(struct dr_queue *q, int64_t op_id, const char *reason);

/* --- reading (any process, any thread; never blocks writers) -----------------------------------
 */
DR_MUST enum dr_code dr_queue_op(struct dr_queue *q, int64_t op_id, struct dr_op *out,
                                 struct dr_err *err);
/* Operations, newest first, from id below `before` (0: from the newest); at most `max`. */
DR_MUST enum dr_code dr_queue_ops(struct dr_queue *q, int64_t before, struct dr_op *op,
                                  uint32_t max, uint32_t *count_out, struct dr_err *err);
/* Steps with id above `after`, optionally of one status (DR_S_COUNT: all). */
DR_MUST enum dr_code dr_queue_steps(struct dr_queue *q, int64_t op_id, enum dr_step_status status,
                                    int64_t after, struct dr_step *step, uint32_t max,
                                    uint32_t *count_out, struct dr_err *err);
/* What an account needs of an erase or verify step; one row of many million is looked at once. */
struct dr_step_fact {
    int64_t id;
    enum dr_step_kind kind;
    enum dr_step_status status;
    uint64_t estimated, done, undone;
    uint64_t archive_bytes; /* acknowledged length of its segment */
    uint64_t duration_ms;
    dr_wall_ms updated_at;
    char collection[256]; /* of the range in its query; "" when that names none */
    char node[DR_NAME_BYTES];
    char title[256];
    char last_error[DR_REASON_BYTES];
};
/* Erase and verify steps with id above `after`, by id. */
DR_MUST enum dr_code dr_queue_facts(struct dr_queue *q, int64_t op_id, int64_t after,
                                    struct dr_step_fact *fact, uint32_t max, uint32_t *count_out,
                                    struct dr_err *err);
/* The operation put with this idempotency key; *op_id_out is 0 when there is none. */
DR_MUST enum dr_code dr_queue_find_key(struct dr_queue *q, const char *key, int64_t *op_id_out,
                                       struct dr_err *err);
/* Stored texts of an operation; dr_free them. Any out may be NULL. */
DR_MUST enum dr_code dr_queue_texts(struct dr_queue *q, int64_t op_id, char **request_json_out,
                                    char **summary_json_out, char **tuning_json_out,
                                    struct dr_err *err);
/* A number that changes whenever any process has changed the queue: poll it instead of everything.
 */
DR_MUST enum dr_code dr_queue_version(struct dr_queue *q, uint64_t *version_out,
                                      struct dr_err *err);
/* Can any step of the operation move, now or later, without a person? False for one that has ended,
 * is paused, or in which everything left waits for a quarantined step. */
DR_MUST enum dr_code dr_queue_can_move(struct dr_queue *q, int64_t op_id, bool *can_out,
                                       struct dr_err *err);
/* Is there anything the owner could do now or later without a person? (runs, retries, undo) */
DR_MUST enum dr_code dr_queue_is_idle(struct dr_queue *q, bool *idle_out, struct dr_err *err);

/* --- quarantine, cleanup, archive, audit, retention ------------------------------------------- */
/* Put quarantined steps of an operation back (step_id 0: all of them). */
DR_MUST enum dr_code dr_queue_redrive(struct dr_queue *q, int64_t op_id, int64_t step_id,
                                      const char *by, uint64_t *count_out, struct dr_err *err);
struct dr_cleanup {
    int64_t id, op_id, step_id;
    char node[DR_NAME_BYTES];
    char store_url[DR_URL_BYTES];
    char command[1024];
    bool is_done;
    uint32_t tries;
    char last_error[DR_REASON_BYTES];
};
/* Cleanup records that are due: their operation has ended (done, stopped, rolled back). */
DR_MUST enum dr_code dr_queue_cleanups(struct dr_queue *q, bool only_due, struct dr_cleanup *c,
                                       uint32_t max, uint32_t *count_out, struct dr_err *err);
DR_MUST enum dr_code dr_queue_cleanup_done(struct dr_queue *q, int64_t cleanup_id,
                                           const char *error_or_null, struct dr_err *err);
/* Path facts of step segments: acknowledged length of the archive of a step. */
DR_MUST enum dr_code dr_queue_archive_acked(struct dr_queue *q, int64_t step_id,
                                            uint64_t *bytes_out, struct dr_err *err);
/* Say that an operation's archive is gone (rollback refused from now on). Store first, then act. */
DR_MUST enum dr_code dr_queue_archive_expire(struct dr_queue *q, int64_t op_id, const char *by,
                                             struct dr_err *err);
/* Append to the audit: who did what. Durable. */
DR_MUST enum dr_code dr_queue_audit(struct dr_queue *q, int64_t op_id, const char *by,
                                    const char *what, struct dr_err *err);
struct dr_audit {
    int64_t id, op_id;
    dr_wall_ms at;
    char by[DR_NAME_BYTES];
    char what[DR_REASON_BYTES];
};
DR_MUST enum dr_code dr_queue_audits(struct dr_queue *q, int64_t op_id, int64_t after,
                                     struct dr_audit *a, uint32_t max, uint32_t *count_out,
                                     struct dr_err *err);
/* --- rollback history, workers, what health asks -----------------------------------------------
 */
/* One rollback: begun by a wish, a partial one, or by the failure of a step of an atomic operation.
 * Written in the transaction that begins it, ended in the one that ends it. */
struct dr_rollback_run {
    int64_t id, op_id;
    char trigger[32]; /* "person", "failure" */
    char by[DR_NAME_BYTES];
    char reason[DR_REASON_BYTES];
    int64_t to_step;                 /* partial: the step that stays; 0: everything */
    dr_wall_ms started_at, ended_at; /* ended_at 0: running, or blocked by a failed step */
    uint64_t steps, undone, failed;  /* to undo, undone by now, in undo quarantine now */
    uint64_t worked_ms;              /* time that undoing took, added up */
    char result[32];                 /* "running" "done" "blocked" "abandoned" */
    char first_error[DR_REASON_BYTES];
};
/* Newest first, of one operation or (op_id 0) of all, with id below `before` (0: the newest). */
DR_MUST enum dr_code dr_queue_rollbacks(struct dr_queue *q, int64_t op_id, int64_t before,
                                        struct dr_rollback_run *run, uint32_t max,
                                        uint32_t *count_out, struct dr_err *err);
/* The owner's pool says every few seconds that it lives. */
void dr_queue_heartbeat(struct dr_queue *q, const char *worker, bool is_ending); /* posted */
struct dr_heartbeat {
    char worker[DR_NAME_BYTES];
    dr_wall_ms started_at, seen_at;
    bool is_ended; /* it went by itself, or another owner has taken over since */
};
DR_MUST enum dr_code dr_queue_heartbeats(struct dr_queue *q, struct dr_heartbeat *h, uint32_t max,
                                         uint32_t *count_out, struct dr_err *err);
/* Numbers for health and alerts, from indexes: cheap with many million steps. */
struct dr_queue_facts {
    uint64_t depth; /* steps of running operations that are not done yet */
    uint64_t ops_running, ops_paused, ops_blocked, ops_rolling_back, ops_rollback_blocked;
    uint64_t steps_quarantined, steps_undo_failed;
    uint64_t failed_last_hour; /* operations of which a step went to quarantine, forward or while
                                  undoing, within the last hour */
    uint64_t rollbacks;        /* begun since `since` */
    uint64_t rollbacks_failed; /* of these: those with a step that could not be undone at once */
    uint64_t cleanups_due, cleanups_failing;
};
DR_MUST enum dr_code dr_queue_numbers(struct dr_queue *q, dr_wall_ms now, dr_wall_ms since,
                                      struct dr_queue_facts *out, struct dr_err *err);
/* Remove ended operations older than `before` with their steps, in slices of a bounded number of
 * rows per transaction; never one whose archive has not expired, nor one with open cleanups. */
DR_MUST enum dr_code dr_queue_retain(struct dr_queue *q, dr_wall_ms before, bool is_dry_run,
                                     uint64_t *ops_out, uint64_t *steps_out, struct dr_err *err);

/* The same for one operation alone, whatever its age; *would_out (also of a dry run): it may go. */
DR_MUST enum dr_code dr_queue_forget_op(struct dr_queue *q, int64_t op_id, bool is_dry_run,
                                        bool *would_out, struct dr_err *err);
/* Forget what is older than `before` and belongs to no operation of the queue any more: lines of
 * the audit, rollback history, workers. In slices, as dr_queue_retain. */
struct dr_queue_traces {
    uint64_t audits, rollbacks, heartbeats;
};
DR_MUST enum dr_code dr_queue_forget_traces(struct dr_queue *q, dr_wall_ms before, bool is_dry_run,
                                            struct dr_queue_traces *out, struct dr_err *err);

#endif
