/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the connections: one per node, opened when first needed, with its cached statements, its
 * transactions and the mark that tells whether a file has changed. One thread at a time. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/sqlite/sqlite_private.h"

/* Writable when the file allows it: a plan can be made for a file that may only be read. */
enum dr_code sq_connect(struct dr_sql *sql, const char *path, struct dr_err *err)
{
    if (access(path, F_OK) != 0) { /* also keeps ":memory:" and "" from making a new database */
        return dr_fail(err, DR_UNREACHABLE, "%s: there is no such file; check the path", path);
    }
    enum dr_code rc = dr_sql_open(sql, path, 0, SQ_BUSY_MS, err);
    if (rc == DR_READONLY) {
        rc = dr_sql_open(sql, path, DR_SQL_READONLY, SQ_BUSY_MS, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    /* A misspelt name in double quotes shall be an error, not a text that may match every row. */
    (void)sqlite3_db_config(sql->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    rc = dr_sql_exec(sql, "PRAGMA foreign_keys=OFF; PRAGMA synchronous=FULL;", err);
    int64_t is_utf8 = 0;
    if (rc == DR_OK) {
        rc = dr_sql_int(sql, "SELECT encoding = 'UTF-8' FROM pragma_encoding", 0, &is_utf8, err);
    }
    if (rc == DR_OK && is_utf8 == 0) {
        /* Its texts sort by UTF-16 code units and lose invalid ones when they are read. */
        rc = dr_fail(err, DR_UNSUPPORTED, "%s: a UTF-16 database; only UTF-8 ones are supported",
                     path);
    }
    if (rc != DR_OK) {
        dr_sql_close(sql);
    }
    return rc;
}

struct sq_node *sq_node_create(const char *name, const char *path)
{
    struct sq_node *n = dr_calloc(1, sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    n->name = dr_strdup(name);
    n->path = dr_strdup(path);
    if (n->name == NULL || n->path == NULL) {
        sq_node_destroy(n);
        return NULL;
    }
    return n;
}

static void disconnect(struct sq_node *n)
{
    for (int i = 0; i < SQ_STATEMENTS_MAX; i++) {
        (void)sqlite3_finalize(n->statement[i].st);
        dr_free(n->statement[i].text);
        n->statement[i] = (struct sq_statement){0};
    }
    for (int i = 0; i < SQ_TABLES_MAX; i++) {
        sq_table_destroy(n->table[i]);
        n->table[i] = NULL;
    }
    dr_sql_close(&n->sql);
}

void sq_node_destroy(struct sq_node *n)
{
    if (n != NULL) {
        disconnect(n);
        dr_free(n->name);
        dr_free(n->path);
        dr_free(n);
    }
}

enum dr_code sq_node_connect(struct sq_node *n, struct dr_err *err)
{
    assert(n != NULL);
    if (n->sql.db != NULL) {
        return DR_OK;
    }
    enum dr_code rc = sq_connect(&n->sql, n->path, err);
    if (rc != DR_OK) {
        dr_wrap(err, "node %s", n->name);
        return rc;
    }
    /* Marks of two connections must never be equal: both count from a random number on. */
    sqlite3_randomness((int)sizeof n->mark, &n->mark);
    n->mark_version = -1;
    return DR_OK;
}

/* ---- finding nodes ---- */

static char *join_path(const char *layout_path, const char *path)
{
    const char *slash = strrchr(layout_path, '/');
    if (path[0] == '/' || slash == NULL) {
        return dr_strdup(path);
    }
    return dr_asprintf("%.*s/%s", (int)(slash - layout_path), layout_path, path);
}

/* Where the layout says that the node's file is, now. */
static enum dr_code read_shard_path(struct sq_store *s, const char *name, char **out,
                                    struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    struct dr_value v = {.type = DR_V_TEXT, .data = name, .len = strlen(name)};
    *out = NULL;
    enum dr_code rc =
        dr_sql_prepare(&s->layout, "SELECT path FROM drover_shards WHERE name = ?", &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, v.data, (int)v.len, SQLITE_STATIC);
        rc = dr_sql_step(&s->layout, st, &is_row, err);
    }
    if (rc == DR_OK && !is_row) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s: the layout has no node \"%s\"", s->path, name);
    } else if (rc == DR_OK) {
        *out = join_path(s->path, dr_sql_text(st, 0));
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

static struct sq_node *find_known(struct sq_store *s, const char *name)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (strcmp(s->node[i]->name, name) == 0) {
            return s->node[i];
        }
    }
    return NULL;
}

static enum dr_code add_node(struct sq_store *s, const char *name, const char *path,
                             struct sq_node **out, struct dr_err *err)
{
    struct sq_node **grown = dr_realloc(s->node, (s->node_count + 1) * sizeof(struct sq_node *));
    if (grown == NULL) {
        return dr_fail_nomem(err);
    }
    s->node = grown;
    *out = sq_node_create(name, path);
    if (*out == NULL) {
        return dr_fail_nomem(err);
    }
    s->node[s->node_count++] = *out;
    return DR_OK;
}

enum dr_code sq_node_find(struct sq_store *s, const char *name, struct sq_node **out,
                          struct dr_err *err)
{
    struct sq_node *n = find_known(s, name);
    char *path = NULL;
    *out = NULL;
    if (s->is_plain) {
        if (n == NULL) {
            return dr_fail(err, DR_NOT_FOUND, "%s: no node \"%s\"; a plain file has only \"main\"",
                           s->path, name);
        }
        *out = n;
        return sq_node_connect(n, err);
    }
    enum dr_code rc = read_shard_path(s, name, &path, err);
    if (rc != DR_OK) {
        return rc;
    }
    assert(path != NULL);
    if (n == NULL) {
        rc = add_node(s, name, path, &n, err);
    } else if (strcmp(n->path, path) != 0) {
        disconnect(n); /* the shard has moved to another file */
        dr_free(n->path);
        n->path = path;
        path = NULL;
    }
    if (rc == DR_OK) {
        rc = sq_node_connect(n, err);
    }
    if (rc == DR_OK) {
        *out = n;
    }
    dr_free(path);
    return rc;
}

enum dr_code sq_table_name(const struct sq_store *s, const char *collection, const char **out,
                           struct dr_err *err)
{
    *out = collection;
    if (!s->is_plain) {
        return DR_OK;
    }
    if (strncmp(collection, "main.", 5) != 0 || collection[5] == '\0') {
        return dr_fail(err, DR_NOT_FOUND,
                       "%s: no collection \"%s\"; a plain file has only the database \"main\"",
                       s->path, collection);
    }
    *out = collection + 5;
    return DR_OK;
}

/* ---- statements ---- */

enum dr_code sq_prepare(struct sq_node *n, const char *text, sqlite3_stmt **out, struct dr_err *err)
{
    struct sq_statement *oldest = &n->statement[0];
    *out = NULL;
    for (int i = 0; i < SQ_STATEMENTS_MAX; i++) {
        struct sq_statement *s = &n->statement[i];
        if (s->text != NULL && strcmp(s->text, text) == 0) {
            s->used_at = ++n->clock;
            *out = s->st;
            return DR_OK;
        }
        oldest = s->used_at < oldest->used_at ? s : oldest;
    }
    char *copy = dr_strdup(text);
    sqlite3_stmt *st = NULL;
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_sql_prepare(&n->sql, text, &st, err);
    if (rc != DR_OK) {
        dr_free(copy);
        return rc;
    }
    (void)sqlite3_finalize(oldest->st);
    dr_free(oldest->text);
    *oldest = (struct sq_statement){.text = copy, .st = st, .used_at = ++n->clock};
    *out = st;
    return DR_OK;
}

void sq_done(sqlite3_stmt *st)
{
    if (st != NULL) {
        (void)sqlite3_reset(st);
        (void)sqlite3_clear_bindings(st);
    }
}

/* ---- transactions ---- */

static enum dr_code run(struct sq_node *n, const char *text, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = sq_prepare(n, text, &st, err);
    return rc == DR_OK ? dr_sql_run(&n->sql, st, err) : rc;
}

enum dr_code sq_begin_read(struct sq_node *n, struct dr_err *err)
{
    return run(n, "BEGIN", err);
}

void sq_end_read(struct sq_node *n)
{
    dr_sql_rollback(&n->sql);
}

enum dr_code sq_begin_write(struct sq_node *n, struct dr_err *err)
{
    enum dr_code rc = run(n, "BEGIN IMMEDIATE", err);
    if (rc != DR_OK) {
        dr_wrap(err, "node %s", n->name);
    }
    return rc;
}

enum dr_code sq_commit(struct sq_node *n, struct dr_err *err)
{
    enum dr_code rc = run(n, "COMMIT", err);
    if (rc == DR_OK) {
        return DR_OK;
    }
    int primary = sqlite3_extended_errcode(n->sql.db) & 0xff;
    dr_sql_rollback(&n->sql);
    bool is_early = rc == DR_NOMEM && primary != SQLITE_NOMEM && primary != SQLITE_IOERR;
    if (is_early || primary == SQLITE_BUSY || primary == SQLITE_FULL ||
        primary == SQLITE_READONLY) {
        return rc; /* refused before anything of it could last */
    }
    return dr_fail(err, DR_UNKNOWN,
                   "node %s: %s: the commit failed and may have been done or not (SQLite: %s)",
                   n->name, n->path, sqlite3_errstr(primary));
}

static enum dr_code query_int(struct sq_node *n, const char *text, int64_t *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc = sq_prepare(n, text, &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    *out = rc == DR_OK && is_row ? sqlite3_column_int64(st, 0) : 0;
    sq_done(st);
    return rc;
}

/* FNV-1a: a mark read from one table must never vouch for rows of another. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3U;
    }
    return hash;
}

enum dr_code sq_node_mark(struct sq_node *n, const char *table, uint64_t *out, struct dr_err *err)
{
    int64_t version = 0;
    enum dr_code rc = query_int(n, "PRAGMA data_version", &version, err);
    if (rc != DR_OK) {
        return rc;
    }
    /* data_version counts the commits of others only, `writes` our own. */
    if (version != n->mark_version || n->writes != n->mark_writes) {
        n->mark_version = version;
        n->mark_writes = n->writes;
        n->mark++;
    }
    *out = n->mark ^ hash_name(table);
    return DR_OK;
}

/* ---- epoch ---- */

/* Always 1: schema_version would change with every index made for a walk. */
static enum dr_code read_plain_epoch(struct sq_store *s, const char *collection, uint64_t *out,
                                     struct dr_err *err)
{
    struct sq_node *n = NULL;
    const struct sq_table *t = NULL;
    const char *name = NULL;
    enum dr_code rc = sq_node_find(s, "main", &n, err);
    rc = rc == DR_OK ? sq_table_name(s, collection, &name, err) : rc;
    rc = rc == DR_OK ? sq_table_get(n, name, &t, err) : rc;
    *out = rc == DR_OK ? 1 : 0;
    return rc;
}

enum dr_code sq_epoch(struct sq_store *s, const char *collection, uint64_t *out, struct dr_err *err)
{
    const char *dot = strchr(collection, '.');
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    if (s->is_plain) {
        return read_plain_epoch(s, collection, out, err);
    }
    if (dot == NULL) {
        return dr_fail(err, DR_INPUT, "\"%s\" is no \"database.name\"", collection);
    }
    enum dr_code rc = dr_sql_prepare(
        &s->layout, "SELECT epoch FROM drover_collections WHERE database = ? AND name = ?", &st,
        err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, collection, (int)(dot - collection), SQLITE_STATIC);
        (void)sqlite3_bind_text(st, 2, dot + 1, -1, SQLITE_STATIC);
        rc = dr_sql_step(&s->layout, st, &is_row, err);
    }
    if (rc == DR_OK && !is_row) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s: the layout has no collection \"%s\" any more", s->path,
                     collection);
    } else if (rc == DR_OK) {
        *out = (uint64_t)sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st);
    return rc;
}
