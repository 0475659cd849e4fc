/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the rows of shards in a database: one table each, drover_shard_UUID_ID, with a row about it
 * in drover_points_shards, in MariaDB, MySQL or PostgreSQL.
 *
 * A write is one transaction that first locks the shard's row there and takes its sequence numbers
 * from it. So a transaction whose connection was lost, and which the server may still be ending,
 * comes before or after the next one as a whole: what a copy has read up to a number is complete up
 * to it. Whether such a transaction was done need not be known, because its rows carry versions. */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/cluster_private.h"

enum {
    PUT_ROWS = 64, /* of one statement */
    PUT_BYTES = 1024 * 1024,
    PUT_COLUMNS = 5,
    FORGET_ROWS = 100,
    PAGE_ROWS_FIRST = 32,
    PAGE_ROWS_MAX = 1024,
    WRITE_TRIES = 3,
};

static struct dr_value blob_of(const struct point_key *key)
{
    return (struct dr_value){.type = DR_V_BLOB, .data = key->data, .len = key->len};
}

static struct dr_value int_of(int64_t i)
{
    return (struct dr_value){.type = DR_V_INT, .i = i};
}

static struct dr_value text_of(const char *text)
{
    if (text == NULL) {
        return (struct dr_value){.type = DR_V_NULL};
    }
    return (struct dr_value){.type = DR_V_TEXT, .data = text, .len = strlen(text)};
}

/* Every statement that changes something passes here. */
static enum dr_code run(struct dr_sqldb *db, const char *sql, const struct dr_value *param,
                        uint32_t count, struct dr_err *err)
{
    enum dr_code rc = dr_fault_pass("cluster.shard.statement", err);
    return rc == DR_OK ? dr_sqldb_exec(db, sql, param, count, NULL, err) : rc;
}

/* A statement about the shard's own table: `format` has one %s for its name. */
static enum dr_code run_on(struct dr_sqldb *db, const char *name, const char *before,
                           const char *after, const struct dr_value *param, uint32_t count,
                           struct dr_err *err)
{
    char *sql = dr_asprintf("%s%s%s", before, name, after);
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : run(db, sql, param, count, err);
    dr_free(sql);
    return rc;
}

/* --- the shard's row in drover_points_shards
 * --------------------------------------------------------------------- */

struct number {
    bool is_there;
    int64_t value; /* 0 for NULL */
};

static enum dr_code take_number(void *arg, const struct dr_value *value, uint32_t count,
                                struct dr_err *err)
{
    struct number *n = arg;
    if (count != 1 || (value[0].type != DR_V_INT && value[0].type != DR_V_NULL)) {
        return dr_fail(err, DR_CORRUPT, "drover_points_shards: it is not drover's table");
    }
    n->is_there = true;
    n->value = value[0].type == DR_V_INT ? value[0].i : 0;
    return DR_OK;
}

static enum dr_code read_number(struct dr_sqldb *db, const char *sql, const char *name,
                                struct number *out, struct dr_err *err)
{
    const struct dr_value param = text_of(name);
    *out = (struct number){0};
    return dr_sqldb_query(db, sql, &param, name == NULL ? 0 : 1, take_number, out, err);
}

static enum dr_code fail_gone(const char *name, struct dr_err *err)
{
    return dr_fail(err, DR_NOT_FOUND,
                   "table %s is gone from this peer's database: when the replica is Dead, delete "
                   "its row from drover_points_shards too, and it is filled again",
                   name);
}

/* --- opening and removing
 * ------------------------------------------------------------------------------------------ */

static enum dr_code create_table(struct dr_sqldb *db, enum dr_dialect dialect, const char *name,
                                 struct dr_err *err)
{
    char *sql = NULL;
    enum dr_code rc = DR_OK;
    switch (dialect) {
    case DR_SQL_MARIADB:
        sql = dr_asprintf("CREATE TABLE IF NOT EXISTS %s(id VARBINARY(%d) PRIMARY KEY,"
                          " hash BIGINT NOT NULL, version BIGINT NOT NULL, seq BIGINT NOT NULL,"
                          " doc LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,"
                          " KEY %s_seq(seq)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
                          name, IDKEY_BYTES_MAX, name);
        break;
    case DR_SQL_POSTGRES:
        sql = dr_asprintf("CREATE TABLE IF NOT EXISTS %s(id BYTEA PRIMARY KEY,"
                          " hash BIGINT NOT NULL, version BIGINT NOT NULL, seq BIGINT NOT NULL,"
                          " doc TEXT)",
                          name);
        break;
    }
    rc = sql == NULL ? dr_fail_nomem(err) : run(db, sql, NULL, 0, err);
    dr_free(sql);
    if (rc == DR_OK && dialect == DR_SQL_POSTGRES) {
        sql = dr_asprintf("CREATE INDEX IF NOT EXISTS %s_seq ON %s(seq)", name, name);
        rc = sql == NULL ? dr_fail_nomem(err) : run(db, sql, NULL, 0, err);
        dr_free(sql);
    }
    return rc;
}

/* The row last: what has one has a table. A table that was left without a row is gone on with; its
 * rows carry versions. */
static enum dr_code create_shard(struct shard_rows *r, struct dr_sqldb *db, const char *name,
                                 struct dr_err *err)
{
    struct number seq = {0};
    char *sql = dr_asprintf("SELECT max(seq) FROM %s", name);
    enum dr_code rc = sql == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = create_table(db, dr_sql_pool_dialect(r->set->pool), name, err);
    }
    if (rc == DR_OK) {
        rc = read_number(db, sql, NULL, &seq, err);
    }
    dr_free(sql);
    if (rc != DR_OK) {
        return rc;
    }
    const struct dr_value param[] = {text_of(name), text_of(r->uuid), int_of(r->shard_id),
                                     int_of(seq.value)};
    return run(db,
               "INSERT INTO drover_points_shards(name, collection, shard_id, seq, ring)"
               " VALUES(?, ?, ?, ?, -1)",
               param, 4, err);
}

static enum dr_code find_or_create(struct shard_rows *r, struct dr_sqldb *db, bool is_create,
                                   struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct number n = {0};
    dr_shard_table_name(r->uuid, r->shard_id, name);
    enum dr_code rc =
        read_number(db, "SELECT seq FROM drover_points_shards WHERE name = ?", name, &n, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!n.is_there) {
        rc = is_create ? create_shard(r, db, name, err) : DR_OK;
        r->is_open = rc == DR_OK && is_create;
        return rc;
    }
    char *sql = dr_asprintf("SELECT max(seq) FROM %s", name);
    rc = sql == NULL ? dr_fail_nomem(err) : read_number(db, sql, NULL, &n, err);
    dr_free(sql);
    r->is_open = rc == DR_OK;
    return rc == DR_NOT_FOUND ? fail_gone(name, err) : rc;
}

static enum dr_code open_rows(struct shard_rows *r, bool is_create, struct dr_err *err)
{
    struct dr_sqldb *db = NULL;
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    if (rc == DR_OK) {
        rc = find_or_create(r, db, is_create, err);
    }
    dr_sql_pool_take_back(r->set->pool, db);
    return rc;
}

static void close_rows(struct shard_rows *r)
{
    r->is_open = false; /* connections are the pool's */
}

/* The row first: a table without one is nobody's. */
static enum dr_code remove_rows(struct shard_rows *r, struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct dr_sqldb *db = NULL;
    dr_shard_table_name(r->uuid, r->shard_id, name);
    const struct dr_value param = text_of(name);
    r->is_open = false;
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    if (rc == DR_OK) {
        rc = run(db, "DELETE FROM drover_points_shards WHERE name = ?", &param, 1, err);
    }
    if (rc == DR_OK) {
        rc = run_on(db, name, "DROP TABLE IF EXISTS ", "", NULL, 0, err);
    }
    dr_sql_pool_take_back(r->set->pool, db);
    return rc;
}

/* --- writing
 * --------------------------------------------------------------------------------------- */

/* The rows of one statement. */
struct put {
    struct dr_sqldb *db;
    enum dr_dialect dialect;
    char name[SHARD_TABLE_BYTES];
    int64_t seq; /* the last one given */
    struct point_key key[PUT_ROWS];
    struct dr_value param[PUT_ROWS * PUT_COLUMNS];
    uint32_t count;
    size_t bytes;
};

static enum dr_code send_put(struct put *p, struct dr_err *err)
{
    struct dr_str sql;
    if (p->count == 0) {
        return DR_OK;
    }
    dr_str_init(&sql);
    dr_str_addf(&sql, "INSERT INTO %s%s(id, hash, version, seq, doc) VALUES", p->name,
                p->dialect == DR_SQL_POSTGRES ? " AS t" : "");
    for (uint32_t i = 0; i < p->count; i++) {
        dr_str_add(&sql, i == 0 ? "(?,?,?,?,?)" : ",(?,?,?,?,?)");
    }
    switch (p->dialect) {
    case DR_SQL_MARIADB: /* from left to right: version is the old one until it is set */
        dr_str_add(&sql, " ON DUPLICATE KEY UPDATE"
                         " seq = IF(VALUES(version) > version, VALUES(seq), seq),"
                         " doc = IF(VALUES(version) > version, VALUES(doc), doc),"
                         " version = GREATEST(version, VALUES(version))");
        break;
    case DR_SQL_POSTGRES:
        dr_str_add(&sql, " ON CONFLICT(id) DO UPDATE SET version = excluded.version,"
                         " seq = excluded.seq, doc = excluded.doc"
                         " WHERE excluded.version > t.version");
        break;
    }
    char *text = dr_str_take(&sql);
    enum dr_code rc =
        text == NULL ? dr_fail_nomem(err) : run(p->db, text, p->param, p->count * PUT_COLUMNS, err);
    dr_free(text);
    p->count = 0;
    p->bytes = 0;
    return rc;
}

/* PostgreSQL refuses to touch a row twice in one statement. */
static bool has_key(const struct put *p, const struct point_key *key)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->key[i].len == key->len && memcmp(p->key[i].data, key->data, key->len) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code add_op(struct put *p, const struct point_op *op, struct dr_err *err)
{
    struct point_key key;
    size_t bytes = op->doc == NULL ? 0 : strlen(op->doc);
    enum dr_code rc = DR_OK;
    dr_point_key_make(&op->id, &key);
    if (p->count == PUT_ROWS || (p->count > 0 && p->bytes + bytes > PUT_BYTES) ||
        has_key(p, &key)) {
        rc = send_put(p, err);
    }
    if (rc == DR_OK) {
        struct dr_value *v = &p->param[(size_t)p->count * PUT_COLUMNS];
        p->key[p->count] = key;
        v[0] = blob_of(&p->key[p->count]);
        v[1] = int_of((int64_t)dr_point_hash(&op->id));
        v[2] = int_of((int64_t)op->version);
        v[3] = int_of(++p->seq);
        v[4] = text_of(op->doc);
        p->count++;
        p->bytes += bytes;
    }
    return rc;
}

/* Between begin and commit. */
static enum dr_code put_all(struct put *p, const struct point_op *op, size_t count,
                            struct dr_err *err)
{
    struct number seq = {0};
    enum dr_code rc =
        read_number(p->db, "SELECT seq FROM drover_points_shards WHERE name = ? FOR UPDATE",
                    p->name, &seq, err);
    if (rc == DR_OK && !seq.is_there) {
        rc = fail_gone(p->name, err);
    }
    p->seq = seq.value;
    p->count = 0;
    p->bytes = 0;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = add_op(p, &op[i], err);
    }
    if (rc == DR_OK) {
        rc = send_put(p, err);
    }
    if (rc == DR_OK) {
        const struct dr_value param[] = {int_of(p->seq), text_of(p->name)};
        rc = run(p->db, "UPDATE drover_points_shards SET seq = ? WHERE name = ?", param, 2, err);
    }
    return rc;
}

static enum dr_code end_transaction(struct dr_sqldb *db, enum dr_code rc, struct dr_err *err)
{
    if (rc == DR_OK) {
        return dr_sqldb_commit(db, err);
    }
    dr_sqldb_rollback(db);
    return rc;
}

static enum dr_code write_once(struct shard_rows *r, struct put *p, const struct point_op *op,
                               size_t count, struct dr_err *err)
{
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &p->db, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_sqldb_begin(p->db, err);
    if (rc == DR_OK) {
        rc = end_transaction(p->db, put_all(p, op, count, err), err);
    }
    dr_sql_pool_take_back(r->set->pool, p->db);
    return rc;
}

static enum dr_code write_rows(struct shard_rows *r, const struct point_op *op, size_t count,
                               struct dr_err *err)
{
    struct put *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    p->dialect = dr_sql_pool_dialect(r->set->pool);
    dr_shard_table_name(r->uuid, r->shard_id, p->name);
    enum dr_code rc = DR_BUSY;
    /* A deadlock with somebody's own statements leaves nothing behind: once more. */
    for (unsigned i = 0; rc == DR_BUSY && i < WRITE_TRIES; i++) {
        rc = write_once(r, p, op, count, err);
    }
    if (rc == DR_NOT_FOUND) {
        r->is_open = false; /* the next one looks what is there */
    }
    dr_free(p);
    return rc;
}

static enum dr_code forget_some(struct dr_sqldb *db, const char *name, const struct point_key *key,
                                uint32_t count, struct dr_err *err)
{
    struct dr_value param[FORGET_ROWS];
    struct dr_str marks;
    dr_str_init(&marks);
    dr_str_add(&marks, " WHERE id IN (");
    for (uint32_t i = 0; i < count; i++) {
        param[i] = blob_of(&key[i]);
        dr_str_add(&marks, i == 0 ? "?" : ",?");
    }
    dr_str_addc(&marks, ')');
    char *after = dr_str_take(&marks);
    enum dr_code rc = after == NULL ? dr_fail_nomem(err)
                                    : run_on(db, name, "DELETE FROM ", after, param, count, err);
    dr_free(after);
    return rc;
}

static enum dr_code forget_rows(struct shard_rows *r, const struct point_key *key, uint32_t count,
                                struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct dr_sqldb *db = NULL;
    dr_shard_table_name(r->uuid, r->shard_id, name);
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    for (uint32_t done = 0; rc == DR_OK && done < count; done += FORGET_ROWS) {
        uint32_t some = count - done < FORGET_ROWS ? count - done : FORGET_ROWS;
        rc = forget_some(db, name, key + done, some, err);
    }
    dr_sql_pool_take_back(r->set->pool, db);
    return rc;
}

/* --- reading
 * --------------------------------------------------------------------------------------- */

struct page {
    point_row_fn *fn;
    void *arg;
    bool goes_on;
    uint32_t rows;
    struct point_key last; /* what the next page begins behind */
    int64_t last_seq;
    struct dr_str doc;
};

static enum dr_code take_row(void *arg, const struct dr_value *value, uint32_t count,
                             struct dr_err *err)
{
    struct page *p = arg;
    p->rows++;
    if (!p->goes_on) {
        return DR_OK; /* the rest of a small page */
    }
    if (count != 5 || value[0].type != DR_V_BLOB || value[0].len == 0 ||
        value[0].len > IDKEY_BYTES_MAX || value[1].type != DR_V_INT || value[2].type != DR_V_INT ||
        value[3].type != DR_V_INT) {
        return dr_fail(err, DR_CORRUPT, "a shard's table has a row that drover did not write");
    }
    p->last.len = value[0].len;
    memcpy(p->last.data, value[0].data, value[0].len);
    p->last_seq = value[3].i;
    bool has_doc = value[4].type == DR_V_TEXT;
    if (has_doc) {
        dr_str_clear(&p->doc);
        dr_str_addn(&p->doc, value[4].data, value[4].len);
        if (p->doc.is_short) {
            return dr_fail_nomem(err);
        }
    }
    const struct point_row row = {
        .key = p->last.data,
        .key_len = p->last.len,
        .hash = (uint64_t)value[1].i,
        .version = (uint64_t)value[2].i,
        .seq = value[3].i,
        .doc = has_doc ? dr_str_text(&p->doc) : NULL,
    };
    p->goes_on = p->fn(p->arg, &row);
    return DR_OK;
}

/* One page, behind what the last one ended with. */
static enum dr_code read_page(struct dr_sqldb *db, const char *name, const struct shard_query *q,
                              bool is_first, uint32_t limit, struct page *p, struct dr_err *err)
{
    struct dr_value param[2] = {blob_of(is_first ? &q->key : &p->last), int_of(limit)};
    const char *where = "";
    const char *doc = "doc";
    switch (q->ask) {
    case SHARD_ONE:
        where = "id = ? LIMIT ?";
        break;
    case SHARD_LIVE:
        where = is_first ? "id >= ? AND doc IS NOT NULL ORDER BY id LIMIT ?"
                         : "id > ? AND doc IS NOT NULL ORDER BY id LIMIT ?";
        break;
    case SHARD_AFTER:
        param[0] = int_of(is_first ? q->seq : p->last_seq);
        where = "seq > ? ORDER BY seq LIMIT ?";
        break;
    case SHARD_HASHES:
        doc = "NULL";
        where = "id > ? AND doc IS NOT NULL ORDER BY id LIMIT ?";
        break;
    }
    char *sql = dr_asprintf("SELECT id, hash, version, seq, %s FROM %s WHERE %s", doc, name, where);
    p->rows = 0;
    enum dr_code rc =
        sql == NULL ? dr_fail_nomem(err) : dr_sqldb_query(db, sql, param, 2, take_row, p, err);
    dr_free(sql);
    return rc;
}

/* Pages grow: who wants little gets it soon, who wants all does not ask often. */
static enum dr_code read_rows(struct shard_rows *r, const struct shard_query *q, point_row_fn *fn,
                              void *arg, struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct dr_sqldb *db = NULL;
    struct page p = {.fn = fn, .arg = arg, .goes_on = true};
    bool is_one_page = q->ask == SHARD_ONE || q->ask == SHARD_HASHES;
    bool is_more = true;
    uint32_t limit = q->ask == SHARD_ONE      ? 1
                     : q->ask == SHARD_HASHES ? q->limit
                                              : (uint32_t)PAGE_ROWS_FIRST;
    dr_shard_table_name(r->uuid, r->shard_id, name);
    dr_str_init(&p.doc);
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    for (bool is_first = true; rc == DR_OK && is_more; is_first = false) {
        rc = read_page(db, name, q, is_first, limit, &p, err);
        is_more = p.goes_on && p.rows == limit && !is_one_page;
        limit = limit * 2 < PAGE_ROWS_MAX ? limit * 2 : (uint32_t)PAGE_ROWS_MAX;
    }
    dr_sql_pool_take_back(r->set->pool, db);
    dr_str_fini(&p.doc);
    return rc;
}

static enum dr_code get_ring(struct shard_rows *r, int64_t *out, struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct dr_sqldb *db = NULL;
    struct number n = {0};
    dr_shard_table_name(r->uuid, r->shard_id, name);
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    if (rc == DR_OK) {
        rc = read_number(db, "SELECT ring FROM drover_points_shards WHERE name = ?", name, &n, err);
    }
    dr_sql_pool_take_back(r->set->pool, db);
    *out = n.is_there ? n.value : -1;
    return rc;
}

static enum dr_code set_ring(struct shard_rows *r, int64_t ring, int64_t before, struct dr_err *err)
{
    char name[SHARD_TABLE_BYTES];
    struct dr_sqldb *db = NULL;
    dr_shard_table_name(r->uuid, r->shard_id, name);
    const struct dr_value old = int_of(before);
    const struct dr_value param[] = {int_of(ring), text_of(name)};
    enum dr_code rc = dr_sql_pool_lend(r->set->pool, &db, err);
    if (rc == DR_OK) {
        rc = run_on(db, name, "DELETE FROM ", " WHERE doc IS NULL AND version < ?", &old, 1, err);
    }
    if (rc == DR_OK) {
        rc = run(db, "UPDATE drover_points_shards SET ring = ? WHERE name = ?", param, 2, err);
    }
    dr_sql_pool_take_back(r->set->pool, db);
    return rc;
}

const struct shard_ops *dr_shard_sql_ops(void)
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
