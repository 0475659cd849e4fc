/* SPDX-License-Identifier: Apache-2.0 */
/* SQL connections: which driver a URL means, the state of the transaction, when to connect again,
 * and what a lost connection means for the caller. The drivers know the wire. */
#include "store/sqldb.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "store/sqldb_url.h"

/* A transaction that the server or the network ended is GONE until the caller has taken notice (by
 * rollback, commit or begin): statements that were meant for it must not run on their own. */
enum tx_state { TX_NONE, TX_OPEN, TX_GONE };

struct dr_sqldb {
    const struct dr_sqldb_driver *driver;
    void *impl; /* NULL: not connected */
    char *url;
    char *database; /* of the first connection: info's pointers stay good for ever */
    char *schema;
    struct dr_sqldb_info info;
    enum tx_state tx;
    enum dr_code gone_code;
};

static enum dr_code fail_missing(struct dr_err *err, const char *what, const char *option)
{
    return dr_fail(err, DR_UNSUPPORTED, "this drover was built without %s; build it with -D%s=ON",
                   what, option);
}

static enum dr_code find_driver(enum dr_dialect dialect, const struct dr_sqldb_driver **out,
                                struct dr_err *err)
{
    *out = NULL;
    switch (dialect) {
    case DR_SQL_MARIADB:
#ifdef DROVER_STORE_MARIADB
        *out = dr_sqldb_mariadb();
#endif
        return *out != NULL ? DR_OK
                            : fail_missing(err, "MariaDB and MySQL", "DROVER_STORE_MARIADB");
    case DR_SQL_POSTGRES:
#ifdef DROVER_STORE_POSTGRES
        *out = dr_sqldb_postgres();
#endif
        return *out != NULL ? DR_OK : fail_missing(err, "PostgreSQL", "DROVER_STORE_POSTGRES");
    }
    return dr_fail(err, DR_INTERNAL, "no such SQL dialect");
}

static void disconnect(struct dr_sqldb *db)
{
    if (db->impl != NULL) {
        db->driver->close(db->impl);
        db->impl = NULL;
    }
}

static enum dr_code connect_now(struct dr_sqldb *db, struct dr_err *err)
{
    struct dr_sqldb_info info = {0};
    disconnect(db);
    enum dr_code rc = db->driver->open(db->url, &db->impl, &info, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (db->database == NULL) {
        db->database = dr_strdup(info.database);
        db->schema = dr_strdup(info.schema);
        if (db->database == NULL || db->schema == NULL) {
            return dr_fail_nomem(err);
        }
    }
    db->info = info;
    db->info.database = db->database;
    db->info.schema = db->schema;
    return DR_OK;
}

enum dr_code dr_sqldb_open(const char *url, struct dr_sqldb **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_sqldb_url parsed;
    struct dr_sqldb *db = NULL;
    enum dr_code rc = dr_sqldb_url_parse(url, &parsed, err);
    if (rc != DR_OK) {
        goto out;
    }
    db = dr_calloc(1, sizeof *db);
    if (db == NULL || (db->url = dr_strdup(url)) == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = find_driver(parsed.dialect, &db->driver, err);
    if (rc == DR_OK) {
        rc = connect_now(db, err);
    }
    if (rc == DR_OK) {
        *out = db;
        db = NULL;
    }
out:
    dr_sqldb_close(db);
    dr_sqldb_url_fini(&parsed);
    return rc;
}

void dr_sqldb_close(struct dr_sqldb *db)
{
    if (db == NULL) {
        return;
    }
    disconnect(db);
    if (db->url != NULL) {
        explicit_bzero(db->url, strlen(db->url)); /* it holds the password */
    }
    dr_free(db->url);
    dr_free(db->database);
    dr_free(db->schema);
    dr_free(db);
}

const struct dr_sqldb_info *dr_sqldb_info(const struct dr_sqldb *db)
{
    return &db->info;
}

bool dr_sqldb_is_alive(const struct dr_sqldb *db)
{
    return db->impl != NULL && db->driver->is_alive(db->impl);
}

bool dr_sqldb_in_transaction(const struct dr_sqldb *db)
{
    return db->tx == TX_OPEN;
}

static enum dr_code lose_transaction(struct dr_sqldb *db, enum dr_code code)
{
    db->tx = TX_GONE;
    db->gone_code = code;
    return code;
}

/* Before every statement: is there a connection, and is it the one the transaction is on? A server
 * closes idle connections; noticing it here, before anything is sent, spares a DR_UNKNOWN. */
static enum dr_code ensure_ready(struct dr_sqldb *db, struct dr_err *err)
{
    if (db->tx == TX_GONE) {
        return dr_fail(err, db->gone_code,
                       "the transaction has ended already (%s); roll back and begin again",
                       dr_code_text(db->gone_code));
    }
    if (dr_sqldb_is_alive(db)) {
        return DR_OK;
    }
    if (db->tx == TX_OPEN) {
        (void)dr_fail(err, DR_UNREACHABLE,
                      "the connection was lost inside a transaction; the server rolls it back");
        return lose_transaction(db, DR_UNREACHABLE);
    }
    return connect_now(db, err);
}

/* DELETE ... RETURNING goes through query but changes rows: losing it is not harmless. Anything
 * that does not begin like a pure read counts; WITH may hide a change. */
static bool is_reading(const char *sql)
{
    static const char *const words[] = {"SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "VALUES", "TABLE"};
    sql += strspn(sql, " \t\r\n(");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strncasecmp(sql, words[i], strlen(words[i])) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code run_statement(struct dr_sqldb *db, const char *sql,
                                  const struct dr_value *param, uint32_t param_count,
                                  uint64_t *affected, dr_sqldb_row_fn row, void *arg,
                                  struct dr_err *err)
{
    enum dr_code rc = ensure_ready(db, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_harmless = row != NULL && is_reading(sql);
    rc = db->driver->run(db->impl, sql, param, param_count, affected, row, arg, err);
    if (rc == DR_OK) {
        return rc;
    }
    bool is_lost = rc == DR_UNREACHABLE && !db->driver->is_alive(db->impl);
    if (is_lost) {
        disconnect(db);
    }
    if (db->tx == TX_OPEN && (is_lost || rc == DR_BUSY)) {
        if (!is_lost) {
            /* A deadlock has ended it on the server, a lock timeout on MariaDB has not. */
            dr_sqldb_rollback(db);
        }
        return lose_transaction(db, rc);
    }
    if (is_lost && !is_harmless) {
        dr_wrap(err, "the statement may have been done");
        if (err != NULL) {
            err->code = DR_UNKNOWN;
        }
        rc = DR_UNKNOWN;
    }
    return rc;
}

enum dr_code dr_sqldb_exec(struct dr_sqldb *db, const char *sql, const struct dr_value *param,
                           uint32_t param_count, uint64_t *affected_out, struct dr_err *err)
{
    uint64_t affected = 0;
    assert(sql != NULL);
    enum dr_code rc = run_statement(db, sql, param, param_count, &affected, NULL, NULL, err);
    if (affected_out != NULL) {
        *affected_out = rc == DR_OK ? affected : 0;
    }
    return rc;
}

enum dr_code dr_sqldb_query(struct dr_sqldb *db, const char *sql, const struct dr_value *param,
                            uint32_t param_count, dr_sqldb_row_fn row, void *arg,
                            struct dr_err *err)
{
    uint64_t affected = 0;
    assert(sql != NULL);
    assert(row != NULL);
    return run_statement(db, sql, param, param_count, &affected, row, arg, err);
}

struct first_value {
    struct dr_arena *a;
    struct dr_value *out;
    bool is_found;
};

static enum dr_code keep_first(void *arg, const struct dr_value *value, uint32_t count,
                               struct dr_err *err)
{
    struct first_value *f = arg;
    if (f->is_found || count == 0) {
        return DR_OK; /* rows behind the first are read and dropped */
    }
    *f->out = value[0];
    if (value[0].type == DR_V_TEXT || value[0].type == DR_V_BLOB) {
        char *copy = dr_arena_alloc(f->a, value[0].len + 1);
        if (copy == NULL) {
            return dr_fail_nomem(err);
        }
        if (value[0].len > 0) {
            memcpy(copy, value[0].data, value[0].len);
        }
        copy[value[0].len] = '\0';
        f->out->data = copy;
    }
    f->is_found = true;
    return DR_OK;
}

enum dr_code dr_sqldb_value(struct dr_sqldb *db, const char *sql, const struct dr_value *param,
                            uint32_t param_count, struct dr_arena *a, struct dr_value *out,
                            bool *found_out, struct dr_err *err)
{
    struct first_value f = {.a = a, .out = out};
    *out = (struct dr_value){.type = DR_V_NULL};
    enum dr_code rc = dr_sqldb_query(db, sql, param, param_count, keep_first, &f, err);
    *found_out = rc == DR_OK && f.is_found;
    return rc;
}

enum dr_code dr_sqldb_begin(struct dr_sqldb *db, struct dr_err *err)
{
    uint64_t affected = 0;
    if (db->tx == TX_OPEN) {
        return dr_fail(err, DR_INTERNAL, "a transaction is open already");
    }
    db->tx = TX_NONE;
    enum dr_code rc = ensure_ready(db, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = db->driver->run(db->impl, "START TRANSACTION", NULL, 0, &affected, NULL, NULL, err);
    if (rc == DR_OK) {
        db->tx = TX_OPEN;
    } else {
        disconnect(db); /* whether it has begun is not known: start from nothing next time */
    }
    return rc;
}

enum dr_code dr_sqldb_commit(struct dr_sqldb *db, struct dr_err *err)
{
    uint64_t affected = 0;
    enum tx_state before = db->tx;
    db->tx = TX_NONE;
    if (before == TX_NONE) {
        return dr_fail(err, DR_INTERNAL, "commit without a transaction");
    }
    if (before == TX_GONE) {
        return dr_fail(err, db->gone_code, "commit: the transaction has ended already (%s)",
                       dr_code_text(db->gone_code));
    }
    enum dr_code rc = DR_UNREACHABLE;
    if (db->impl != NULL) {
        rc = db->driver->run(db->impl, "COMMIT", NULL, 0, &affected, NULL, NULL, err);
    }
    if (rc == DR_OK) {
        return rc;
    }
    if (!dr_sqldb_is_alive(db)) {
        disconnect(db);
        return dr_fail(err, DR_UNKNOWN,
                       "the connection was lost at commit: whether it was done is not known; look "
                       "before doing it again");
    }
    db->tx = TX_OPEN; /* on a server that keeps it after a failed commit */
    dr_sqldb_rollback(db);
    dr_wrap(err, "commit");
    return rc;
}

void dr_sqldb_rollback(struct dr_sqldb *db)
{
    uint64_t affected = 0;
    enum tx_state before = db->tx;
    db->tx = TX_NONE;
    if (before != TX_OPEN || db->impl == NULL) {
        return;
    }
    enum dr_code rc = db->driver->run(db->impl, "ROLLBACK", NULL, 0, &affected, NULL, NULL, NULL);
    if (rc != DR_OK) {
        disconnect(db); /* the server rolls back what a closed connection leaves */
    }
}

/* What a failed pipe leaves of one connection. */
static void settle_pipe(struct dr_sqldb *db)
{
    if (dr_sqldb_is_alive(db)) {
        return;
    }
    disconnect(db);
    if (db->tx == TX_OPEN) {
        (void)lose_transaction(db, DR_UNREACHABLE);
    }
}

enum dr_code dr_sqldb_pipe(struct dr_sqldb *source, struct dr_sqldb *const *target,
                           const char *const *into, uint32_t target_count,
                           const struct dr_sqldb_pipe *pipe, struct dr_sqldb_piped *out,
                           struct dr_err *err)
{
    void *impl[DR_SQLDB_PIPE_MAX];
    *out = (struct dr_sqldb_piped){0};
    assert(target_count > 0 && target_count <= DR_SQLDB_PIPE_MAX);
    enum dr_code rc = ensure_ready(source, err);
    for (uint32_t i = 0; rc == DR_OK && i < target_count; i++) {
        assert(target[i]->driver == source->driver && target[i] != source);
        if (target[i]->tx == TX_NONE) {
            return dr_fail(err, DR_INTERNAL, "rows are piped into a transaction only");
        }
        rc = ensure_ready(target[i], err);
        impl[i] = target[i]->impl;
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = source->driver->pipe(source->impl, impl, into, target_count, pipe, out, err);
    if (rc != DR_OK || out->is_over) {
        settle_pipe(source);
        for (uint32_t i = 0; i < target_count; i++) {
            settle_pipe(target[i]);
        }
    }
    return rc;
}

void dr_sql_quote_name(struct dr_str *out, const char *name)
{
    dr_str_addc(out, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"') {
            dr_str_addc(out, '"');
        }
        dr_str_addc(out, *name);
    }
    dr_str_addc(out, '"');
}
