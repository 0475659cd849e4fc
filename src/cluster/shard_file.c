/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the rows of shards in files: DIR/shards/COLLECTION-UUID/ID.db, one SQLite file each. One
 * connection per file, used under the shard's lock. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "cluster/cluster_private.h"

enum { BUSY_MS = 10000 };

static const char layout[] =
    "CREATE TABLE IF NOT EXISTS points(id BLOB PRIMARY KEY, hash INTEGER NOT NULL,"
    " version INTEGER NOT NULL, seq INTEGER NOT NULL, doc TEXT) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX IF NOT EXISTS points_seq ON points(seq);"
    "CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT "
    "ROWID;";

struct file {
    struct dr_sql sql;
    sqlite3_stmt *put, *get, *page, *after, *hashes;
    int64_t last_seq;
};

static struct file *file_of(const struct shard_rows *r)
{
    return r->own;
}

/* --- opening and removing
 * ------------------------------------------------------------------------------------------ */

static void close_file(struct file *f)
{
    sqlite3_stmt *all[] = {f->put, f->get, f->page, f->after, f->hashes};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)sqlite3_finalize(all[i]);
    }
    dr_sql_close(&f->sql);
    dr_free(f);
}

static enum dr_code prepare_all(struct file *f, struct dr_err *err)
{
    const struct {
        sqlite3_stmt **out;
        const char *sql;
    } wanted[] = {
        {&f->put, "INSERT INTO points(id,hash,version,seq,doc) VALUES(?1,?2,?3,?4,?5)"
                  " ON CONFLICT(id) DO UPDATE SET version=excluded.version, seq=excluded.seq,"
                  " doc=excluded.doc WHERE excluded.version > points.version"},
        {&f->get, "SELECT id,hash,version,seq,doc FROM points WHERE id=?1"},
        {&f->page, "SELECT id,hash,version,seq,doc FROM points WHERE id>=?1 AND doc IS NOT NULL"
                   " ORDER BY id"},
        {&f->after, "SELECT id,hash,version,seq,doc FROM points WHERE seq>?1 ORDER BY seq"},
        {&f->hashes, "SELECT id,hash,version,seq,NULL FROM points WHERE id>?1 AND doc IS NOT NULL"
                     " ORDER BY id LIMIT ?2"},
    };
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof wanted / sizeof wanted[0]; i++) {
        rc = dr_sql_prepare(&f->sql, wanted[i].sql, wanted[i].out, err);
    }
    return rc;
}

static enum dr_code open_at(const char *path, struct file **out, struct dr_err *err)
{
    struct file *f = dr_calloc(1, sizeof *f);
    if (f == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_sql_open(&f->sql, path, DR_SQL_CREATE, BUSY_MS, err);
    if (rc == DR_OK) {
        rc = dr_sql_exec(&f->sql, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_exec(&f->sql, layout, err);
    }
    if (rc == DR_OK) {
        rc = prepare_all(f, err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_int(&f->sql,
                        "SELECT max(seq) FROM (SELECT seq FROM points UNION ALL"
                        " SELECT value FROM facts WHERE name='seq')",
                        0, &f->last_seq, err);
    }
    if (rc != DR_OK) {
        close_file(f);
        return rc;
    }
    *out = f;
    return DR_OK;
}

static enum dr_code open_rows(struct shard_rows *r, bool is_create, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    struct file *f = NULL;
    char *folder = dr_asprintf("%s/%s", r->set->dir, r->uuid);
    char *path = dr_asprintf("%s/%s/%u.db", r->set->dir, r->uuid, r->shard_id);
    if (folder == NULL || path == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (access(path, F_OK) != 0 && !is_create) {
        goto out;
    }
    rc = dr_dir_make(folder, err);
    if (rc == DR_OK) {
        rc = open_at(path, &f, err);
    }
    if (rc == DR_OK) {
        rc = dr_dir_sync(folder, err);
    }
    if (rc == DR_OK) {
        r->own = f;
        r->is_open = true;
        f = NULL;
    }
out:
    if (f != NULL) {
        close_file(f);
    }
    dr_free(folder);
    dr_free(path);
    return rc;
}

static void close_rows(struct shard_rows *r)
{
    close_file(file_of(r));
    r->own = NULL;
    r->is_open = false;
}

static enum dr_code remove_rows(struct shard_rows *r, struct dr_err *err)
{
    static const char *const suffix[] = {"", "-wal", "-shm"};
    (void)err; /* a file that stays is unused, and found again with its shard */
    if (r->is_open) {
        close_rows(r);
    }
    for (unsigned i = 0; i < 3; i++) {
        char *path = dr_asprintf("%s/%s/%u.db%s", r->set->dir, r->uuid, r->shard_id, suffix[i]);
        if (path != NULL) {
            (void)unlink(path);
        }
        dr_free(path);
    }
    char *folder = dr_asprintf("%s/%s", r->set->dir, r->uuid);
    if (folder != NULL) {
        (void)rmdir(folder); /* only when it was the last one */
    }
    dr_free(folder);
    return DR_OK;
}

/* --- writing
 * --------------------------------------------------------------------------------------- */

static enum dr_code put_op(struct file *f, const struct point_op *op, struct dr_err *err)
{
    struct point_key key;
    dr_point_key_make(&op->id, &key);
    int failed = sqlite3_bind_blob(f->put, 1, key.data, (int)key.len, SQLITE_TRANSIENT);
    failed |= sqlite3_bind_int64(f->put, 2, (sqlite3_int64)dr_point_hash(&op->id));
    failed |= sqlite3_bind_int64(f->put, 3, (sqlite3_int64)op->version);
    failed |= sqlite3_bind_int64(f->put, 4, f->last_seq + 1);
    failed |= op->doc == NULL ? sqlite3_bind_null(f->put, 5)
                              : sqlite3_bind_text(f->put, 5, op->doc, -1, SQLITE_STATIC);
    if (failed != SQLITE_OK) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_fault_pass("cluster.shard.statement", err);
    if (rc == DR_OK) {
        rc = dr_sql_run(&f->sql, f->put, err);
    }
    if (rc == DR_OK) {
        f->last_seq++;
    }
    return rc;
}

/* Rows go, their numbers are not given again: a copy may have read up to them. */
static enum dr_code keep_seq(struct file *f, struct dr_err *err)
{
    return dr_sql_execf(&f->sql, err,
                        "INSERT INTO facts(name,value) VALUES('seq',%lld)"
                        " ON CONFLICT(name) DO UPDATE SET value=excluded.value",
                        (long long)f->last_seq);
}

static enum dr_code end_transaction(struct file *f, enum dr_code rc, struct dr_err *err)
{
    if (rc == DR_OK) {
        return dr_sql_commit(&f->sql, err);
    }
    dr_sql_rollback(&f->sql);
    return rc;
}

static enum dr_code write_rows(struct shard_rows *r, const struct point_op *op, size_t count,
                               struct dr_err *err)
{
    struct file *f = file_of(r);
    int64_t before = f->last_seq;
    enum dr_code rc = dr_sql_begin(&f->sql, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = put_op(f, &op[i], err);
    }
    rc = end_transaction(f, rc, err);
    if (rc != DR_OK) {
        f->last_seq = before;
    }
    return rc;
}

static enum dr_code forget_keys(struct file *f, sqlite3_stmt *st, const struct point_key *key,
                                uint32_t count, struct dr_err *err)
{
    enum dr_code rc = dr_sql_begin(&f->sql, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        if (sqlite3_bind_blob(st, 1, key[i].data, (int)key[i].len, SQLITE_STATIC) != SQLITE_OK) {
            rc = dr_fail_nomem(err);
        } else {
            rc = dr_sql_run(&f->sql, st, err);
        }
    }
    if (rc == DR_OK) {
        rc = keep_seq(f, err);
    }
    return end_transaction(f, rc, err);
}

static enum dr_code forget_rows(struct shard_rows *r, const struct point_key *key, uint32_t count,
                                struct dr_err *err)
{
    struct file *f = file_of(r);
    sqlite3_stmt *st = NULL;
    (void)pthread_mutex_lock(&r->lock);
    enum dr_code rc = dr_sql_prepare(&f->sql, "DELETE FROM points WHERE id=?1", &st, err);
    if (rc == DR_OK) {
        rc = forget_keys(f, st, key, count, err);
    }
    (void)sqlite3_finalize(st);
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

/* --- reading
 * --------------------------------------------------------------------------------------- */

/* Rows of a bound statement to the callback, until it says enough. */
static enum dr_code walk_rows(struct file *f, sqlite3_stmt *st, point_row_fn *fn, void *arg,
                              struct dr_err *err)
{
    bool has_row = false;
    bool goes_on = true;
    enum dr_code rc = DR_OK;
    while (goes_on && (rc = dr_sql_step(&f->sql, st, &has_row, err)) == DR_OK && has_row) {
        const struct point_row row = {
            .key = sqlite3_column_blob(st, 0),
            .key_len = (size_t)sqlite3_column_bytes(st, 0),
            .hash = (uint64_t)sqlite3_column_int64(st, 1),
            .version = (uint64_t)sqlite3_column_int64(st, 2),
            .seq = sqlite3_column_int64(st, 3),
            .doc = sqlite3_column_type(st, 4) == SQLITE_NULL ? NULL : dr_sql_text(st, 4),
        };
        goes_on = fn(arg, &row);
    }
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return rc;
}

static int bind_query(struct file *f, const struct shard_query *q, sqlite3_stmt **out)
{
    switch (q->ask) {
    case SHARD_ONE:
        *out = f->get;
        return sqlite3_bind_blob(f->get, 1, q->key.data, (int)q->key.len, SQLITE_STATIC);
    case SHARD_LIVE:
        *out = f->page;
        return sqlite3_bind_blob(f->page, 1, q->key.data, (int)q->key.len, SQLITE_STATIC);
    case SHARD_AFTER:
        *out = f->after;
        return sqlite3_bind_int64(f->after, 1, q->seq);
    case SHARD_HASHES:
        *out = f->hashes;
        return sqlite3_bind_blob(f->hashes, 1, q->key.data, (int)q->key.len, SQLITE_STATIC) |
               sqlite3_bind_int64(f->hashes, 2, q->limit);
    }
    return SQLITE_MISUSE;
}

static enum dr_code read_rows(struct shard_rows *r, const struct shard_query *q, point_row_fn *fn,
                              void *arg, struct dr_err *err)
{
    struct file *f = file_of(r);
    sqlite3_stmt *st = NULL;
    (void)pthread_mutex_lock(&r->lock);
    enum dr_code rc =
        bind_query(f, q, &st) == SQLITE_OK ? walk_rows(f, st, fn, arg, err) : dr_fail_nomem(err);
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

static enum dr_code get_ring(struct shard_rows *r, int64_t *out, struct dr_err *err)
{
    (void)pthread_mutex_lock(&r->lock);
    enum dr_code rc =
        dr_sql_int(&file_of(r)->sql, "SELECT value FROM facts WHERE name='ring'", -1, out, err);
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

static enum dr_code set_ring(struct shard_rows *r, int64_t ring, int64_t before, struct dr_err *err)
{
    struct file *f = file_of(r);
    (void)pthread_mutex_lock(&r->lock);
    enum dr_code rc = dr_sql_begin(&f->sql, err);
    if (rc == DR_OK) {
        rc = keep_seq(f, err);
        if (rc == DR_OK) {
            rc = dr_sql_execf(&f->sql, err,
                              "DELETE FROM points WHERE doc IS NULL AND version < %lld;"
                              "INSERT INTO facts(name,value) VALUES('ring',%lld)"
                              " ON CONFLICT(name) DO UPDATE SET value=excluded.value",
                              (long long)before, (long long)ring);
        }
        rc = end_transaction(f, rc, err);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return rc;
}

const struct shard_ops *dr_shard_file_ops(void)
{
    static const struct shard_ops ops = {
        .open = open_rows,
        .close = close_rows,
        .remove = remove_rows,
        .write = write_rows,
        .read = read_rows,
        .forget = forget_rows,
        .get_ring = get_ring,
        .set_ring = set_ring,
    };
    return &ops;
}
