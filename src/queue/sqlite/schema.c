/* SPDX-License-Identifier: Apache-2.0 */
/* The file DIR/queue.db: its tables, opening, migrating, owning. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "queue/sqlite/queue_private.h"

/* Version 1. steps_ready serves leasing: per operation, stage and node in order of priority and
 * age, only steps that may go. Long texts stand apart from the operation's row, which is rewritten
 * with every completion. The ids of an operation's steps are contiguous from first_step, which
 * makes walking them a range of the primary key. steps_view shows the columns of the requirement by
 * their names. */
static const char schema_1[] =
    "CREATE TABLE operations(id INTEGER PRIMARY KEY AUTOINCREMENT, operation_group TEXT NOT NULL"
    " UNIQUE, kind TEXT NOT NULL, target TEXT NOT NULL, store_url TEXT NOT NULL,"
    " tuning_version INTEGER NOT NULL DEFAULT 1, priority INTEGER NOT NULL, per_node INTEGER NOT "
    "NULL DEFAULT 0, wish INTEGER"
    " NOT NULL, wish_by TEXT NOT NULL, wish_reason TEXT NOT NULL DEFAULT '', is_rolling_back"
    " INTEGER NOT NULL DEFAULT 0, irreversible INTEGER NOT NULL, plan_hash INTEGER NOT NULL,"
    " archive_days INTEGER NOT NULL, archive_until INTEGER NOT NULL DEFAULT 0, archive_expired"
    " INTEGER NOT NULL DEFAULT 0, idempotency_key TEXT UNIQUE, waiting TEXT NOT NULL DEFAULT '',"
    " created_at INTEGER NOT NULL, started_at INTEGER NOT NULL DEFAULT 0, ended_at INTEGER NOT NULL"
    " DEFAULT 0, progress_at INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0, "
    "first_step"
    " INTEGER NOT NULL DEFAULT 0,"
    " items_estimated INTEGER NOT NULL DEFAULT 0, items_done INTEGER NOT NULL DEFAULT 0,"
    " items_undone INTEGER NOT NULL DEFAULT 0, items_conflict INTEGER NOT NULL DEFAULT 0,"
    " c0 INTEGER NOT NULL DEFAULT 0, c1 INTEGER NOT NULL DEFAULT 0, c2 INTEGER NOT NULL DEFAULT 0,"
    " c3 INTEGER NOT NULL DEFAULT 0, c4 INTEGER NOT NULL DEFAULT 0, c5 INTEGER NOT NULL DEFAULT 0,"
    " c6 INTEGER NOT NULL DEFAULT 0, c7 INTEGER NOT NULL DEFAULT 0, c8 INTEGER NOT NULL DEFAULT 0,"
    " c9 INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE texts(op_id INTEGER PRIMARY KEY, request_json TEXT NOT NULL, summary_json TEXT,"
    " tuning_json TEXT);"
    "CREATE INDEX operations_active ON operations(priority DESC, id) WHERE ended_at = 0;"
    "CREATE TABLE stages(op_id INTEGER NOT NULL, stage INTEGER NOT NULL, open INTEGER NOT NULL,"
    " undo_open INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(op_id, stage)) WITHOUT ROWID;"
    "CREATE TABLE lanes(op_id INTEGER NOT NULL, node TEXT NOT NULL, PRIMARY KEY(op_id, node))"
    " WITHOUT ROWID;"
    "CREATE TABLE steps(id INTEGER PRIMARY KEY AUTOINCREMENT, op_id INTEGER NOT NULL, kind INTEGER"
    " NOT NULL, status INTEGER NOT NULL DEFAULT 0, is_undo INTEGER NOT NULL DEFAULT 0, ready"
    " INTEGER NOT NULL DEFAULT 1, touched INTEGER NOT NULL DEFAULT 0, needs_probe INTEGER NOT NULL"
    " DEFAULT 0, stage INTEGER NOT NULL, priority INTEGER NOT NULL, node TEXT NOT NULL, query TEXT"
    " NOT NULL, rollback_query TEXT, cleanup TEXT, title TEXT NOT NULL, wait_for_id INTEGER NOT"
    " NULL DEFAULT 0, rollback_wait_for_id INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL"
    " DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0, estimated INTEGER NOT NULL DEFAULT 0, done "
    "INTEGER NOT NULL DEFAULT 0, undone"
    " INTEGER NOT NULL DEFAULT 0, conflicts INTEGER NOT NULL DEFAULT 0, archive_bytes INTEGER NOT"
    " NULL DEFAULT 0, archive_frames INTEGER NOT NULL DEFAULT 0, undo_position INTEGER NOT NULL"
    " DEFAULT 0, pass INTEGER NOT NULL DEFAULT 0, cursor BLOB, created_at INTEGER NOT NULL,"
    " updated_at INTEGER NOT NULL, next_attempt_at INTEGER NOT NULL DEFAULT 0, duration_ms INTEGER"
    " NOT NULL DEFAULT 0, lease_token INTEGER NOT NULL DEFAULT 0, lease_until INTEGER NOT NULL"
    " DEFAULT 0, lease_owner TEXT NOT NULL DEFAULT '', last_error TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX steps_ready ON steps(op_id, stage, node, priority DESC, id) WHERE status = 0 AND"
    " ready = 1;"
    "CREATE INDEX steps_undo ON steps(op_id, stage, node, id) WHERE status = 7;"
    "CREATE INDEX steps_held ON steps(status, next_attempt_at) WHERE status IN (1, 2, 3);"
    "CREATE INDEX steps_stuck ON steps(op_id, status) WHERE status IN (4, 9);"
    "CREATE INDEX steps_waited ON steps(wait_for_id) WHERE wait_for_id <> 0;"
    "CREATE TABLE cleanups(id INTEGER PRIMARY KEY AUTOINCREMENT, op_id INTEGER NOT NULL, step_id"
    " INTEGER NOT NULL UNIQUE, node TEXT NOT NULL, store_url TEXT NOT NULL, command TEXT NOT NULL,"
    " is_done INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, last_error TEXT NOT"
    " NULL DEFAULT '');"
    "CREATE TABLE removals(op_id INTEGER PRIMARY KEY, first_id INTEGER NOT NULL, upto_id INTEGER "
    "NOT"
    " NULL);"
    "CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, op_id INTEGER NOT NULL, at INTEGER"
    " NOT NULL, by TEXT NOT NULL, what TEXT NOT NULL);"
    "CREATE INDEX audit_op ON audit(op_id, id);"
    "CREATE VIEW steps_view AS SELECT s.id, s.node, s.query, s.rollback_query,"
    " nullif(s.wait_for_id, 0) AS wait_for_id, nullif(s.rollback_wait_for_id, 0) AS"
    " rollback_wait_for_id, o.operation_group, s.tries, CASE s.status WHEN 0 THEN 'created' WHEN 1"
    " THEN 'leased' WHEN 2 THEN 'waiting' WHEN 3 THEN 'unknown' WHEN 4 THEN 'failed' WHEN 5 THEN"
    " 'processed' WHEN 6 THEN 'cancelled' WHEN 7 THEN 'undoing' WHEN 8 THEN 'undone' ELSE"
    " 'undo_failed' END AS status, s.created_at, s.updated_at, s.duration_ms AS duration, s.stage,"
    " s.title, s.estimated, s.done, s.undone, s.last_error FROM steps s JOIN operations o ON o.id ="
    " s.op_id;";

/* Version 2: how many steps of an operation may run at once over all nodes; 0: no limit. */
static const char schema_2[] = "ALTER TABLE operations ADD COLUMN lanes INTEGER NOT NULL DEFAULT 0";

/* Version 3: operations that roll themselves back, points of no return, partial rollbacks and the
 * history of all of them; when a step began to fail; what failed when; who works on the queue. */
static const char schema_3[] =
    "ALTER TABLE operations ADD COLUMN atomic INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE operations ADD COLUMN give_up_s INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE operations ADD COLUMN no_return_from INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE operations ADD COLUMN rollback_to INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE steps ADD COLUMN failing_since INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE rollbacks(id INTEGER PRIMARY KEY AUTOINCREMENT, op_id INTEGER NOT NULL, trigger"
    " TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL, to_step INTEGER NOT NULL, started_at"
    " INTEGER NOT NULL, ended_at INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL, undone_before"
    " INTEGER NOT NULL, undone INTEGER NOT NULL DEFAULT 0, worked_ms INTEGER NOT NULL DEFAULT 0,"
    " first_error TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX rollbacks_op ON rollbacks(op_id, id);"
    "CREATE INDEX rollbacks_open ON rollbacks(op_id) WHERE ended_at = 0;"
    "CREATE INDEX rollbacks_at ON rollbacks(started_at);"
    "CREATE TABLE failures(id INTEGER PRIMARY KEY, op_id INTEGER NOT NULL, step_id INTEGER NOT"
    " NULL, at INTEGER NOT NULL, is_undo INTEGER NOT NULL);"
    "CREATE INDEX failures_at ON failures(at);"
    "CREATE TABLE heartbeats(worker TEXT PRIMARY KEY, started_at INTEGER NOT NULL, seen_at INTEGER"
    " NOT NULL, is_ended INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;";

/* What turns version n into n + 1, at place n. */
static const char *const migrations[DR_QUEUE_SCHEMA] = {schema_1, schema_2, schema_3};

static enum dr_code check_identity(struct dr_queue *q, int64_t *version_out, struct dr_err *err)
{
    int64_t application = 0;
    int64_t tables = 0;
    enum dr_code rc = dr_sql_int(&q->w.sql, "PRAGMA application_id", 0, &application, err);
    if (rc == DR_OK) {
        rc = dr_sql_int(&q->w.sql, "PRAGMA user_version", 0, version_out, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_int(&q->w.sql, "SELECT count(*) FROM sqlite_master", 0, &tables, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (application == QUEUE_APPLICATION_ID && *version_out > DR_QUEUE_SCHEMA) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: made by a newer drover (queue version %" PRId64
                       ", this one knows up to %d); use that one, nothing was touched",
                       q->db_path, *version_out, DR_QUEUE_SCHEMA);
    }
    if (application != QUEUE_APPLICATION_ID && (application != 0 || tables > 0)) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: a database of another program; choose another folder with --data",
                       q->db_path);
    }
    return DR_OK;
}

/* Under the write lock, because two processes may open a new folder at the same moment. */
static enum dr_code migrate(struct dr_queue *q, struct dr_err *err)
{
    int64_t version = 0;
    enum dr_code rc = check_identity(q, &version, err);
    if (rc != DR_OK || version == DR_QUEUE_SCHEMA) {
        return rc;
    }
    rc = dr_sql_begin(&q->w.sql, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = check_identity(q, &version, err);
    for (; rc == DR_OK && version < DR_QUEUE_SCHEMA; version++) {
        rc = dr_sql_exec(&q->w.sql, migrations[version], err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_execf(&q->w.sql, err, "PRAGMA application_id=%d; PRAGMA user_version=%d",
                          (int)QUEUE_APPLICATION_ID, (int)DR_QUEUE_SCHEMA);
    }
    if (rc != DR_OK) {
        dr_sql_rollback(&q->w.sql);
        return rc;
    }
    return dr_sql_commit(&q->w.sql, err);
}

enum dr_code dr_q_open_files(struct dr_queue *q, bool must_exist, struct dr_err *err)
{
    struct stat info;
    enum dr_code rc = DR_OK;
    bool is_there = stat(q->db_path, &info) == 0;
    if (!is_there && must_exist && (errno == ENOENT || errno == ENOTDIR)) {
        return dr_fail(err, DR_NOT_FOUND,
                       "%s: no drover data here; name the folder with --data or DROVER_DATA",
                       q->dir);
    }
    if (!is_there) {
        rc = dr_dir_make(q->dir, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_open(&q->w.sql, q->db_path, DR_SQL_CREATE, QUEUE_BUSY_MS, err);
    }
    if (rc == DR_OK) {
        int64_t version = 0; /* before anything is changed in somebody else's file */
        rc = check_identity(q, &version, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_exec(&q->w.sql,
                         "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                         "PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-8000;"
                         "PRAGMA temp_store=MEMORY;",
                         err);
    }
    if (rc == DR_OK) {
        rc = migrate(q, err);
    }
    if (rc == DR_OK && !is_there) {
        rc = dr_dir_sync(q->dir, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_open(&q->r.sql, q->db_path, 0, QUEUE_BUSY_MS, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_exec(&q->r.sql, "PRAGMA query_only=1; PRAGMA cache_size=-2000;", err);
    }
    return rc;
}

static enum dr_code open_all(struct dr_queue *q, const char *data_dir, bool must_exist,
                             struct dr_err *err)
{
    q->dir = dr_strdup(data_dir);
    q->db_path = dr_asprintf("%s/queue.db", data_dir);
    q->lock_path = dr_asprintf("%s/owner.lock", data_dir);
    if (q->dir == NULL || q->db_path == NULL || q->lock_path == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_q_open_files(q, must_exist, err);
    return rc == DR_OK ? dr_q_start(q, err) : rc;
}

enum dr_code dr_queue_open(const char *data_dir, bool must_exist, struct dr_queue **out,
                           struct dr_err *err)
{
    *out = NULL;
    struct dr_queue *q = dr_calloc(1, sizeof *q);
    if (q == NULL) {
        return dr_fail_nomem(err);
    }
    q->owner_fd = -1;
    (void)pthread_mutex_init(&q->mutex, NULL);
    (void)pthread_mutex_init(&q->r_mutex, NULL);
    (void)pthread_cond_init(&q->has_work, NULL);
    (void)pthread_cond_init(&q->has_result, NULL);
    enum dr_code rc = open_all(q, data_dir, must_exist, err);
    if (rc != DR_OK) {
        dr_queue_close(q);
        return rc;
    }
    *out = q;
    return DR_OK;
}

void dr_queue_close(struct dr_queue *q)
{
    if (q == NULL) {
        return;
    }
    dr_q_stop(q);
    dr_q_conn_close(&q->r);
    dr_q_conn_close(&q->w);
    if (q->owner_fd >= 0) {
        (void)close(q->owner_fd);
    }
    (void)pthread_cond_destroy(&q->has_result);
    (void)pthread_cond_destroy(&q->has_work);
    (void)pthread_mutex_destroy(&q->r_mutex);
    (void)pthread_mutex_destroy(&q->mutex);
    dr_free(q->dir);
    dr_free(q->db_path);
    dr_free(q->lock_path);
    dr_free(q);
}

const char *dr_queue_data_dir(const struct dr_queue *q)
{
    return q->dir;
}

/* --- owning ------------------------------------------------------------------------------------
 */

static enum dr_code read_touched_ops(struct dr_queue *q, const char *sql, int64_t *op, int max,
                                     int *count_out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool has_row = true;
    *count_out = 0;
    enum dr_code rc = dr_q_bind(&q->w, &st, err, sql, "");
    while (rc == DR_OK && has_row && *count_out < max) {
        rc = dr_sql_step(&q->w.sql, st, &has_row, err);
        if (rc == DR_OK && has_row) {
            op[(*count_out)++] = sqlite3_column_int64(st, 0);
        }
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

/* The leases of earlier owners: their processes are gone, what they did last is not known. */
static enum dr_code run_take_over(struct dr_queue *q, struct queue_job *job, struct dr_err *err)
{
    static const char find[] =
        "SELECT DISTINCT op_id FROM steps WHERE status IN (1,2,3) AND status=1 LIMIT 256";
    static const char wish_of[] = "SELECT wish FROM operations WHERE id = ?";
    static const char forget[] = "UPDATE operations SET waiting='' WHERE waiting<>''";
    static const char gone[] = "UPDATE heartbeats SET is_ended=1 WHERE is_ended=0";
    int64_t op[256];
    int count = 0;
    (void)job;
    enum dr_code rc = dr_q_run(&q->w, err, forget, "");
    rc = rc == DR_OK ? dr_q_run(&q->w, err, gone, "") : rc;
    if (rc != DR_OK) {
        return rc;
    }
    do {
        rc = read_touched_ops(q, find, op, 256, &count, err);
        for (int i = 0; rc == DR_OK && i < count; i++) {
            int64_t wish = 0;
            rc = dr_q_move_all(q, op[i], DR_S_LEASED, DR_ON_LOST, false, "", err);
            if (rc == DR_OK) {
                rc = dr_q_move_all(q, op[i], DR_S_LEASED, DR_ON_LOST, true, "", err);
            }
            if (rc == DR_OK) {
                rc = dr_q_recount(q, op[i], err);
            }
            if (rc == DR_OK) {
                rc = dr_q_int(&q->w, &wish, 0, err, wish_of, "i", op[i]);
            }
            if (rc == DR_OK) {
                rc = dr_q_settle(q, op[i], (enum dr_wish)wish, err);
            }
        }
        if (rc != DR_OK) {
            return rc;
        }
    } while (count > 0);
    return DR_OK;
}

enum dr_code dr_queue_own(struct dr_queue *q, struct dr_err *err)
{
    char host[DR_NAME_BYTES];
    char content[256];
    char holder[256];
    if (q->owner_fd >= 0) {
        return DR_OK;
    }
    if (gethostname(host, sizeof host) != 0) {
        dr_copy_text(host, sizeof host, "?");
    }
    host[sizeof host - 1] = '\0';
    (void)snprintf(content, sizeof content, "pid %ld on %s", (long)getpid(), host);
    enum dr_code rc = dr_file_lock(q->lock_path, content, &q->owner_fd, holder, sizeof holder, err);
    if (rc == DR_BUSY) {
        return dr_fail(err, DR_BUSY,
                       "%s: in use by another drover (%s); steer that one with status, pause, stop "
                       "... or choose another folder",
                       q->dir, holder[0] != '\0' ? holder : "unknown");
    }
    if (rc != DR_OK) {
        q->owner_fd = -1;
        return rc;
    }
    rc = dr_q_commit(q, run_take_over, NULL, err);
    if (rc != DR_OK) {
        (void)close(q->owner_fd);
        q->owner_fd = -1;
    }
    return rc;
}

bool dr_queue_is_owned(const struct dr_queue *q, char *holder, size_t holder_bytes)
{
    if (q->owner_fd >= 0) {
        dr_copy_text(holder, holder_bytes, "this process");
        return true;
    }
    return dr_file_is_locked(q->lock_path, holder, holder_bytes);
}
