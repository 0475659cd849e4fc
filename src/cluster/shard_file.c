/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the points of shards on disk: DIR/shards/COLLECTION-UUID/ID.db, one SQLite file each.
 *
 * A row is never overwritten by an older one: the version decides, not the order of arrival. So
 * writes may be repeated, may come twice by two ways (from a client and with a copy), and replicas
 * that got the same writes are equal. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "cluster/cluster_private.h"

enum {
    BUSY_MS = 10000,
    WALK_ROWS = 5000, /* at a time: writers wait no longer than that takes */
    CLEAN_ROWS = 1000,
    /* A deletion is remembered for so long; a replica that was away longer is filled anew. */
    DELETED_KEPT_DAYS = 30,
    COUNTER_BITS = 20,
};

static const char layout[] =
    "CREATE TABLE IF NOT EXISTS points(id BLOB PRIMARY KEY, hash INTEGER NOT NULL,"
    " version INTEGER NOT NULL, seq INTEGER NOT NULL, doc TEXT) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX IF NOT EXISTS points_seq ON points(seq);"
    "CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT "
    "ROWID;";

/* --- keys
 * ----------------------------------------------------------------------------------------- */

void dr_point_key_make(const struct dr_point_id *id, struct point_key *out)
{
    out->data[0] = (uint8_t)id->kind;
    out->len = 1;
    switch (id->kind) {
    case DR_POINT_NUMBER:
        for (unsigned i = 0; i < 8; i++) {
            out->data[out->len++] = (uint8_t)(id->number >> (56 - 8 * i));
        }
        break;
    case DR_POINT_UUID:
        memcpy(out->data + 1, id->uuid, sizeof id->uuid);
        out->len += sizeof id->uuid;
        break;
    case DR_POINT_TEXT: {
        size_t len =
            id->text_len < DR_POINT_TEXT_BYTES_MAX ? id->text_len : DR_POINT_TEXT_BYTES_MAX;
        memcpy(out->data + 1, id->text, len);
        out->len += len;
        break;
    }
    }
}

json_t *dr_point_key_to_json(const uint8_t *data, size_t len)
{
    struct dr_point_id id;
    memset(&id, 0, sizeof id);
    assert(len > 0);
    id.kind = (enum dr_point_kind)data[0];
    switch (id.kind) {
    case DR_POINT_NUMBER:
        for (unsigned i = 1; i < len && i < 9; i++) {
            id.number = id.number << 8 | data[i];
        }
        break;
    case DR_POINT_UUID:
        memcpy(id.uuid, data + 1, len - 1 < sizeof id.uuid ? len - 1 : sizeof id.uuid);
        break;
    case DR_POINT_TEXT:
        id.text = (const char *)data + 1;
        id.text_len = len - 1;
        break;
    }
    return dr_point_id_to_json(&id);
}

/* --- the set of open files
 * ------------------------------------------------------------------------ */

enum dr_code dr_shards_init(struct shard_files *s, const char *dir, struct dr_err *err)
{
    (void)pthread_mutex_init(&s->lock, NULL);
    s->dir = dr_asprintf("%s/shards", dir);
    return s->dir == NULL ? dr_fail_nomem(err) : dr_dir_make(s->dir, err);
}

static void close_file(struct shard_file *f)
{
    sqlite3_stmt *all[] = {f->put, f->get, f->page, f->after, f->hashes};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)sqlite3_finalize(all[i]);
    }
    dr_sql_close(&f->sql);
    (void)pthread_mutex_destroy(&f->lock);
    dr_free(f);
}

void dr_shards_fini(struct shard_files *s)
{
    while (s->first != NULL) {
        struct shard_file *f = s->first;
        s->first = f->next;
        assert(f->refs == 0);
        close_file(f);
    }
    if (s->dir != NULL) {
        (void)pthread_mutex_destroy(&s->lock);
    }
    dr_free(s->dir);
    s->dir = NULL;
}

static enum dr_code prepare_all(struct shard_file *f, struct dr_err *err)
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
        {&f->hashes, "SELECT id,hash FROM points WHERE id>?1 AND doc IS NOT NULL ORDER BY id"
                     " LIMIT ?2"},
    };
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof wanted / sizeof wanted[0]; i++) {
        rc = dr_sql_prepare(&f->sql, wanted[i].sql, wanted[i].out, err);
    }
    return rc;
}

static enum dr_code open_file(struct shard_files *s, const char *uuid, uint32_t shard_id,
                              bool is_create, struct shard_file **out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    struct shard_file *f = NULL;
    char *folder = dr_asprintf("%s/%s", s->dir, uuid);
    char *path = dr_asprintf("%s/%s/%u.db", s->dir, uuid, shard_id);
    *out = NULL;
    if (folder == NULL || path == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (access(path, F_OK) != 0 && !is_create) {
        goto out;
    }
    f = dr_calloc(1, sizeof *f);
    if (f == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    (void)pthread_mutex_init(&f->lock, NULL);
    dr_copy_text(f->uuid, sizeof f->uuid, uuid);
    f->shard_id = shard_id;
    rc = dr_dir_make(folder, err);
    if (rc == DR_OK) {
        rc = dr_sql_open(&f->sql, path, DR_SQL_CREATE, BUSY_MS, err);
    }
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
        rc = dr_sql_int(&f->sql, "SELECT max(seq) FROM points", 0, &f->last_seq, err);
    }
    if (rc == DR_OK) {
        rc = dr_dir_sync(folder, err);
    }
    if (rc == DR_OK) {
        *out = f;
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

/* Too many open: close the one that nobody has used for longest. Called with the lock. */
static void close_idle(struct shard_files *s)
{
    struct shard_file **oldest = NULL;
    for (struct shard_file **at = &s->first; *at != NULL; at = &(*at)->next) {
        if ((*at)->refs == 0 && (oldest == NULL || (*at)->used_at < (*oldest)->used_at)) {
            oldest = at;
        }
    }
    if (oldest != NULL) {
        struct shard_file *f = *oldest;
        *oldest = f->next;
        s->count--;
        close_file(f);
    }
}

static struct shard_file **find_file(struct shard_files *s, const char *uuid, uint32_t shard_id)
{
    struct shard_file **at = &s->first;
    while (*at != NULL && ((*at)->shard_id != shard_id || strcmp((*at)->uuid, uuid) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

enum dr_code dr_shards_take(struct shard_files *s, const char *uuid, uint32_t shard_id,
                            bool is_create, struct shard_file **out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    (void)pthread_mutex_lock(&s->lock);
    struct shard_file *f = *find_file(s, uuid, shard_id);
    if (f == NULL) {
        if (s->count >= SHARDS_OPEN_MAX) {
            close_idle(s);
        }
        rc = open_file(s, uuid, shard_id, is_create, &f, err);
        if (rc == DR_OK && f != NULL) {
            f->next = s->first;
            s->first = f;
            s->count++;
        }
    }
    if (rc == DR_OK && f != NULL) {
        f->refs++;
        f->used_at = ++s->uses;
    }
    (void)pthread_mutex_unlock(&s->lock);
    *out = rc == DR_OK ? f : NULL;
    return rc;
}

void dr_shards_give(struct shard_files *s, struct shard_file *f)
{
    if (f != NULL) {
        (void)pthread_mutex_lock(&s->lock);
        assert(f->refs > 0);
        f->refs--;
        (void)pthread_mutex_unlock(&s->lock);
    }
}

bool dr_shards_remove(struct shard_files *s, const char *uuid, uint32_t shard_id)
{
    static const char *const suffix[] = {"", "-wal", "-shm"};
    (void)pthread_mutex_lock(&s->lock);
    struct shard_file **at = find_file(s, uuid, shard_id);
    struct shard_file *f = *at;
    bool is_used = f != NULL && f->refs > 0;
    if (f != NULL && !is_used) {
        *at = f->next;
        s->count--;
        close_file(f);
    }
    for (unsigned i = 0; !is_used && i < 3; i++) {
        char *path = dr_asprintf("%s/%s/%u.db%s", s->dir, uuid, shard_id, suffix[i]);
        if (path != NULL) {
            (void)unlink(path);
        }
        dr_free(path);
    }
    char *folder = dr_asprintf("%s/%s", s->dir, uuid);
    if (folder != NULL) {
        (void)rmdir(folder); /* only when it was the last one */
    }
    dr_free(folder);
    (void)pthread_mutex_unlock(&s->lock);
    return !is_used;
}

/* --- one file
 * --------------------------------------------------------------------------------------- */

static enum dr_code put_op(struct shard_file *f, const struct point_op *op, struct dr_err *err)
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
    enum dr_code rc = dr_sql_run(&f->sql, f->put, err);
    if (rc == DR_OK) {
        f->last_seq++;
    }
    return rc;
}

enum dr_code dr_shard_write(struct shard_file *f, const struct point_op *op, size_t count,
                            shard_guard_fn *guard, void *arg, struct dr_err *err)
{
    (void)pthread_mutex_lock(&f->lock);
    int64_t before = f->last_seq;
    enum dr_code rc = guard(arg, err);
    if (rc == DR_OK) {
        rc = dr_fault_pass("cluster.shard.write", err);
    }
    if (rc == DR_OK) {
        rc = dr_sql_begin(&f->sql, err);
        for (size_t i = 0; rc == DR_OK && i < count; i++) {
            rc = put_op(f, &op[i], err);
        }
        if (rc == DR_OK) {
            rc = dr_sql_commit(&f->sql, err);
        } else {
            dr_sql_rollback(&f->sql);
        }
    }
    if (rc != DR_OK) {
        f->last_seq = before;
    }
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

/* Rows of a bound statement to the callback, until it says enough. */
static enum dr_code walk_rows(struct shard_file *f, sqlite3_stmt *st, point_row_fn *fn, void *arg,
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

enum dr_code dr_shard_walk(struct shard_file *f, const struct point_key *from, point_row_fn *fn,
                           void *arg, struct dr_err *err)
{
    static const struct point_key first = {.len = 0};
    const struct point_key *start = from == NULL ? &first : from;
    enum dr_code rc = DR_NOMEM;
    (void)pthread_mutex_lock(&f->lock);
    if (sqlite3_bind_blob(f->page, 1, start->data, (int)start->len, SQLITE_STATIC) == SQLITE_OK) {
        rc = walk_rows(f, f->page, fn, arg, err);
    } else {
        rc = dr_fail_nomem(err);
    }
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

enum dr_code dr_shard_walk_after(struct shard_file *f, int64_t seq, point_row_fn *fn, void *arg,
                                 struct dr_err *err)
{
    (void)pthread_mutex_lock(&f->lock);
    (void)sqlite3_bind_int64(f->after, 1, seq);
    enum dr_code rc = walk_rows(f, f->after, fn, arg, err);
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

enum dr_code dr_shard_get(struct shard_file *f, const struct point_key *key, point_row_fn *fn,
                          void *arg, struct dr_err *err)
{
    enum dr_code rc = DR_NOMEM;
    (void)pthread_mutex_lock(&f->lock);
    if (sqlite3_bind_blob(f->get, 1, key->data, (int)key->len, SQLITE_STATIC) == SQLITE_OK) {
        rc = walk_rows(f, f->get, fn, arg, err);
    } else {
        rc = dr_fail_nomem(err);
    }
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

/* --- whole walks in pieces
 * --------------------------------------------------------------------------- */

struct hash_page {
    struct point_key last; /* len 0: begin */
    uint32_t rows, rows_max;
    uint32_t shard_id;
    const struct dr_ring *ring;
    uint64_t owned;
    /* Keys that belong elsewhere, for cleaning. */
    struct point_key *strange;
    uint32_t strange_count;
};

static bool take_hash(void *arg, const struct point_row *row)
{
    struct hash_page *p = arg;
    size_t len = row->key_len < IDKEY_BYTES_MAX ? row->key_len : IDKEY_BYTES_MAX;
    p->last.len = len;
    memcpy(p->last.data, row->key, len);
    p->rows++;
    if (dr_ring_owner(p->ring, row->hash) == p->shard_id) {
        p->owned++;
    } else if (p->strange != NULL) {
        p->strange[p->strange_count++] = p->last;
    }
    return true;
}

/* With the lock. */
static enum dr_code walk_hashes(struct shard_file *f, struct hash_page *p, struct dr_err *err)
{
    struct point_key from = p->last;
    p->rows = 0;
    p->strange_count = 0;
    if (sqlite3_bind_blob(f->hashes, 1, from.data, (int)from.len, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int64(f->hashes, 2, p->rows_max) != SQLITE_OK) {
        return dr_fail_nomem(err);
    }
    return walk_rows(f, f->hashes, take_hash, p, err);
}

enum dr_code dr_shard_count(struct shard_file *f, const struct dr_ring *ring, uint64_t *out,
                            struct dr_err *err)
{
    struct hash_page page = {.rows_max = WALK_ROWS, .shard_id = f->shard_id, .ring = ring};
    enum dr_code rc = DR_OK;
    *out = 0;
    if (ring == NULL || dr_ring_shard_count(ring) == 0) {
        return DR_OK;
    }
    do {
        (void)pthread_mutex_lock(&f->lock);
        rc = walk_hashes(f, &page, err);
        (void)pthread_mutex_unlock(&f->lock);
    } while (rc == DR_OK && page.rows == page.rows_max);
    *out = page.owned;
    return rc;
}

static enum dr_code delete_strange(struct shard_file *f, const struct hash_page *p,
                                   struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = dr_sql_prepare(&f->sql, "DELETE FROM points WHERE id=?1", &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_begin(&f->sql, err);
    }
    if (rc != DR_OK) {
        (void)sqlite3_finalize(st);
        return rc;
    }
    for (uint32_t i = 0; rc == DR_OK && i < p->strange_count; i++) {
        if (sqlite3_bind_blob(st, 1, p->strange[i].data, (int)p->strange[i].len, SQLITE_STATIC) !=
            SQLITE_OK) {
            rc = dr_fail_nomem(err);
        } else {
            rc = dr_sql_run(&f->sql, st, err);
        }
    }
    if (rc == DR_OK) {
        rc = dr_sql_commit(&f->sql, err);
    } else {
        dr_sql_rollback(&f->sql);
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* What the file was last clean for. */
static int64_t sign_ring(const struct dr_key_ring *ring)
{
    size_t bytes = (size_t)ring->shard_count * sizeof *ring->shard_id;
    return (int64_t)(dr_siphash(ring->shard_id, bytes) >> 1);
}

static enum dr_code clean_rows(struct shard_file *f, const struct dr_key_ring *ring,
                               struct dr_err *err)
{
    struct hash_page page = {
        .rows_max = CLEAN_ROWS, .shard_id = f->shard_id, .ring = ring->ring, .owned = 0};
    enum dr_code rc = DR_OK;
    page.strange = dr_calloc(CLEAN_ROWS, sizeof *page.strange);
    if (page.strange == NULL) {
        return dr_fail_nomem(err);
    }
    do {
        (void)pthread_mutex_lock(&f->lock);
        rc = walk_hashes(f, &page, err);
        if (rc == DR_OK && page.strange_count > 0) {
            rc = delete_strange(f, &page, err);
        }
        (void)pthread_mutex_unlock(&f->lock);
    } while (rc == DR_OK && page.rows == page.rows_max);
    dr_free(page.strange);
    return rc;
}

enum dr_code dr_shard_clean(struct shard_file *f, const struct dr_key_ring *ring,
                            struct dr_err *err)
{
    int64_t last = -1;
    int64_t sign = sign_ring(ring);
    int64_t old = (dr_wall_now() - (int64_t)DELETED_KEPT_DAYS * 24 * 3600 * 1000) << COUNTER_BITS;
    (void)pthread_mutex_lock(&f->lock);
    enum dr_code rc =
        dr_sql_int(&f->sql, "SELECT value FROM facts WHERE name='ring'", -1, &last, err);
    (void)pthread_mutex_unlock(&f->lock);
    if (rc != DR_OK || last == sign) {
        return rc;
    }
    rc = clean_rows(f, ring, err);
    (void)pthread_mutex_lock(&f->lock);
    if (rc == DR_OK) {
        rc = dr_sql_execf(&f->sql, err,
                          "DELETE FROM points WHERE doc IS NULL AND version < %lld;"
                          "INSERT INTO facts(name,value) VALUES('ring',%lld)"
                          " ON CONFLICT(name) DO UPDATE SET value=excluded.value",
                          (long long)old, (long long)sign);
    }
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}
