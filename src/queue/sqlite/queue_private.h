/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the SQLite queue: connections, the committer's jobs, and the pieces they share.
 *
 * Two connections: `w` belongs to the committer thread alone, `r` is for reading, under r_mutex. */
#ifndef DR_QUEUE_SQLITE_PRIVATE_H
#define DR_QUEUE_SQLITE_PRIVATE_H

#include <pthread.h>
#include <stdarg.h>

#include "base/sql.h"
#include "queue/moves.h"
#include "queue/queue.h"

enum {
    QUEUE_APPLICATION_ID = 0x44525651, /* "DRVQ" */
    QUEUE_BUSY_MS = 60000,             /* a million steps put by another process take seconds */
    QUEUE_STATEMENTS_MAX = 96,
    QUEUE_GROUP_MAX = 1024, /* jobs in one transaction */
    QUEUE_POSTED_MAX = 8192,
    QUEUE_LOST_MAX = 256,
    QUEUE_WAITS_MAX = 64,
    QUEUE_WAITS_AGAIN_MS = 500, /* a wish, perhaps of another process, may have cleared it */
};

/* A connection with its prepared statements, found again by the address of their text. */
struct queue_conn {
    struct dr_sql sql;
    unsigned count;
    struct {
        const char *text;
        sqlite3_stmt *st;
    } cached[QUEUE_STATEMENTS_MAX];
};

/* One piece of writing. run() is called by the committer inside a transaction; what it did is
 * taken back when it fails. Posted jobs are on the heap and freed by the committer. */
struct queue_job {
    struct queue_job *next;
    enum dr_code (*run)(struct dr_queue *q, struct queue_job *job, struct dr_err *err);
    void *arg;
    enum dr_code rc;
    bool is_done;
    bool is_posted;
    int64_t step_id; /* posted: whose failure this would be */
    uint64_t token;
    struct dr_err err;
};

struct queue_lost { /* a posted write that failed, told at the lease's next call */
    int64_t step_id;
    uint64_t token;
    struct dr_err err;
};

struct dr_queue {
    char *dir;
    char *db_path;
    char *lock_path;
    int owner_fd; /* -1: not the owner */
    struct queue_conn w;
    struct queue_conn r;
    pthread_mutex_t r_mutex;
    pthread_t committer;
    bool has_committer;
    pthread_mutex_t mutex; /* all below */
    pthread_cond_t has_work, has_result;
    struct queue_job *first, *last;
    unsigned posted;
    bool is_closing;
    struct dr_err posted_err; /* the first posted failure since the last flush */
    unsigned lost_count;
    struct queue_lost lost[QUEUE_LOST_MAX];
    struct {
        int64_t op_id;
        dr_mono_ms at;
        char reason[DR_REASON_BYTES];
    } waits[QUEUE_WAITS_MAX];
    unsigned waits_next;
};

/* --- connection helpers ------------------------------------------------------------------------
 */
DR_MUST enum dr_code dr_q_prepare(struct queue_conn *c, const char *sql, sqlite3_stmt **out,
                                  struct dr_err *err);
/* Bind by a format: i int64_t, s text or NULL, b data + size_t. The statement is left unstepped. */
DR_MUST enum dr_code dr_q_bind(struct queue_conn *c, sqlite3_stmt **out, struct dr_err *err,
                               const char *sql, const char *format, ...);
DR_MUST enum dr_code dr_q_run(struct queue_conn *c, struct dr_err *err, const char *sql,
                              const char *format, ...);
/* First column of the first row; `absent` without a row or with NULL. */
DR_MUST enum dr_code dr_q_int(struct queue_conn *c, int64_t *out, int64_t absent,
                              struct dr_err *err, const char *sql, const char *format, ...);
void dr_q_conn_close(struct queue_conn *c);

/* --- the committer ------------------------------------------------------------------------------
 */
DR_MUST enum dr_code dr_q_start(struct dr_queue *q, struct dr_err *err);
void dr_q_stop(struct dr_queue *q);
/* Hand over and wait for the commit. */
DR_MUST enum dr_code dr_q_commit(struct dr_queue *q,
                                 enum dr_code (*run)(struct dr_queue *, struct queue_job *,
                                                     struct dr_err *),
                                 void *arg, struct dr_err *err);
/* Hand over a heap job and go on; waits only while too many are outstanding. */
void dr_q_post(struct dr_queue *q, struct queue_job *job);

/* --- pieces used by several files (all inside a job) ---------------------------------------------
 */
/* What move the numbers of one step's change: counts by status, stages. */
DR_MUST enum dr_code dr_q_count_move(struct dr_queue *q, int64_t op_id, uint32_t stage,
                                     enum dr_step_status from, bool from_undo,
                                     enum dr_step_status to, bool to_undo, struct dr_err *err);
/* Move all steps of an operation with status `from` (and a condition, may be "") by one event. */
DR_MUST enum dr_code dr_q_move_all(struct dr_queue *q, int64_t op_id, enum dr_step_status from,
                                   enum dr_step_event on, bool is_undo, const char *condition,
                                   struct dr_err *err);
/* Bring the steps that nobody holds in line with what is wished (cancel, undo). */
DR_MUST enum dr_code dr_q_settle(struct dr_queue *q, int64_t op_id, enum dr_wish wish,
                                 struct dr_err *err);
/* Count everything anew, after moves of many steps. */
DR_MUST enum dr_code dr_q_recount(struct dr_queue *q, int64_t op_id, struct dr_err *err);
/* Note or clear ended_at, and with it archive_until, by the counts as they are now. */
DR_MUST enum dr_code dr_q_note_end(struct dr_queue *q, int64_t op_id, struct dr_err *err);
/* rollback.c: the history of a rollback, begun (after the steps were settled), worked on, ended. */
DR_MUST enum dr_code dr_q_rollback_begin(struct dr_queue *q, int64_t op_id, int64_t to_step,
                                         const char *trigger, const char *by, const char *reason,
                                         struct dr_err *err);
DR_MUST enum dr_code dr_q_rollback_worked(struct dr_queue *q, int64_t op_id, uint64_t ms,
                                          const char *error, struct dr_err *err);
DR_MUST enum dr_code dr_q_rollback_end(struct dr_queue *q, int64_t op_id, struct dr_err *err);
/* A step went to quarantine: remember when, and roll an atomic operation back. */
DR_MUST enum dr_code dr_q_note_failure(struct dr_queue *q, int64_t op_id, int64_t step_id,
                                       bool is_undo, const char *error, struct dr_err *err);
/* An atomic operation whose steps have failed turns back instead of going on. */
bool dr_q_must_turn_back(const struct dr_op *op);
/* Set wish and direction, settle the steps, write the history. */
DR_MUST enum dr_code dr_q_turn_back(struct dr_queue *q, int64_t op_id, int64_t to_step,
                                    const char *trigger, const char *by, const char *reason,
                                    struct dr_err *err);
/* May it be rolled back, wholly or in part, as far as points of no return are concerned? */
DR_MUST enum dr_code dr_q_check_return(struct dr_queue *q, const struct dr_op *op,
                                       struct dr_err *err);
DR_MUST enum dr_code dr_q_audit(struct dr_queue *q, int64_t op_id, const char *by, const char *what,
                                struct dr_err *err);
DR_MUST enum dr_code dr_q_open_files(struct dr_queue *q, bool must_exist, struct dr_err *err);
/* An operation row of `c`; DR_NOT_FOUND. */
DR_MUST enum dr_code dr_q_read_op(struct queue_conn *c, int64_t op_id, struct dr_op *out,
                                  struct dr_err *err);
DR_MUST enum dr_code dr_q_can_move(struct queue_conn *c, int64_t op_id, bool *can_out,
                                   struct dr_err *err);

/* All steps of the operation ?1, as a range of the primary key. */
#define QUEUE_STEPS_OF_1                                                                           \
    "id >= (SELECT first_step FROM operations WHERE id=?1) AND"                                    \
    " id < (SELECT first_step + steps FROM operations WHERE id=?1)"

/* A paused rollback is still one: what comes back from a worker is to be undone (4: rollback), or,
 * where a partial one leaves it alone, stays as it is (3: stop). */
#define QUEUE_WISH_TO_FOLLOW(step)                                                                 \
    "CASE WHEN is_rolling_back AND " step ">rollback_to THEN 4 WHEN is_rolling_back THEN 3 ELSE "  \
    "wish END"

/* "c0".."c9": the columns of operations that count steps by status. */
#define QUEUE_COUNTS "c0,c1,c2,c3,c4,c5,c6,c7,c8,c9"

#endif
