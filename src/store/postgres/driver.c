/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a connection to PostgreSQL, and what its session is set to. */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "store/postgres/postgres_private.h"
#include "store/sqldb_url.h"

enum { NUMBER_BYTES = 24, VERSION_CHECKS_CLIENT = 140000, IDLE_READS_MAX = 8 };

/* One statement, for each costs a round trip. client_min_messages spares notices nobody reads. */
static const char session_setup[] =
    "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false), "
    "set_config('IntervalStyle', 'postgres', false), set_config('extra_float_digits', '3', false), "
    "set_config('bytea_output', 'hex', false), set_config('xmloption', 'content', false), "
    "set_config('lc_monetary', 'C', false), set_config('standard_conforming_strings', 'on', "
    "false), "
    "set_config('default_transaction_isolation', 'read committed', false), "
    "set_config('client_min_messages', 'error', false), set_config('lock_timeout', '%us', false)";

static const char *tls_name(const struct dr_sqldb_url *u)
{
    switch (u->tls) {
    case DR_SQL_TLS_OFF:
        return "disable";
    case DR_SQL_TLS_PREFER:
        return "prefer";
    case DR_SQL_TLS_REQUIRE:
        return "require";
    case DR_SQL_TLS_VERIFY_CA:
        return "verify-ca";
    case DR_SQL_TLS_VERIFY_FULL:
        return "verify-full";
    }
    return "verify-full";
}

/* Notices are dropped; a server's farewell to an idle connection comes as one. */
static void take_notice(void *arg, const PGresult *result)
{
    struct pg_conn *c = arg;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) {
        c->is_lost = true;
    }
}

/* Drive the connection with a limit of our own, for libpq's holds per address only. The long form
 * of messages is switched on in between: the SQLSTATE of a refusal is only in it. */
static enum dr_code finish_connect(struct pg_conn *c, const struct dr_sqldb_url *u,
                                   struct dr_err *err)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)u->connect_s * 1000;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    (void)PQsetErrorVerbosity(c->pq, PQERRORS_VERBOSE);
    (void)PQsetNoticeReceiver(c->pq, take_notice, c);
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED) {
            return pg_fail_connect(c, err);
        }
        if (!pg_wait(c->pq, status == PGRES_POLLING_WRITING, until)) {
            return dr_fail(err, DR_UNREACHABLE, "connect: %s: no answer within %u s", c->shown,
                           u->connect_s);
        }
        status = PQconnectPoll(c->pq);
    }
    (void)PQsetErrorVerbosity(c->pq, PQERRORS_DEFAULT);
    return PQsetnonblocking(c->pq, 1) == 0 ? DR_OK : pg_fail_conn(c, err);
}

static enum dr_code connect_server(struct pg_conn *c, const struct dr_sqldb_url *u,
                                   struct dr_err *err)
{
    char port[NUMBER_BYTES];
    char silence_ms[NUMBER_BYTES];
    const char *ca = u->tls_ca;
    (void)snprintf(port, sizeof port, "%u", u->port);
    (void)snprintf(silence_ms, sizeof silence_ms, "%u", u->read_s * 1000);
    const char *name[] = {"host",
                          "port",
                          "dbname",
                          "sslmode",
                          "gssencmode",
                          "client_encoding",
                          "application_name",
                          "keepalives_idle",
                          "tcp_user_timeout",
                          "user",
                          "password",
                          "sslrootcert",
                          NULL};
    const char *value[] = {u->socket != NULL ? u->socket : u->host,
                           port,
                           u->database,
                           tls_name(u),
                           "disable",
                           "UTF8",
                           "drover",
                           "30",
                           silence_ms,
                           u->user,
                           u->password,
                           ca,
                           NULL}; /* a NULL value is the default */
    c->pq = PQconnectStartParams(name, value, 0);
    if (c->pq == NULL) {
        return dr_fail_nomem(err);
    }
    if (PQstatus(c->pq) == CONNECTION_BAD) {
        return pg_fail_connect(c, err);
    }
    return finish_connect(c, u, err);
}

static enum dr_code note_facts(void *arg, const struct dr_value *value, uint32_t count,
                               struct dr_err *err)
{
    struct pg_conn *c = arg;
    assert(count == 2);
    c->database = dr_strndup(value[0].data, value[0].len);
    c->schema =
        value[1].type == DR_V_NULL ? dr_strdup("") : dr_strndup(value[1].data, value[1].len);
    return c->database == NULL || c->schema == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code note_read_only(void *arg, const struct dr_value *value, uint32_t count,
                                   struct dr_err *err)
{
    bool *is_read_only = arg;
    (void)err;
    assert(count == 1);
    *is_read_only = value[0].type == DR_V_INT && value[0].i != 0;
    return DR_OK;
}

static enum dr_code set_session(struct pg_conn *c, const struct dr_sqldb_url *u,
                                struct dr_sqldb_info *info, struct dr_err *err)
{
    uint64_t affected = 0;
    char sql[sizeof session_setup + NUMBER_BYTES];
    (void)snprintf(sql, sizeof sql, session_setup, dr_sqldb_url_lock_s(u));
    enum dr_code rc = pg_run(c, sql, NULL, 0, &affected, NULL, NULL, err);
    /* A server that checks for us stops a statement that we have given up. Not everywhere possible,
     * and not needed. */
    if (rc == DR_OK && PQserverVersion(c->pq) >= VERSION_CHECKS_CLIENT) {
        enum dr_code checked = pg_run(c, "SET client_connection_check_interval = '5s'", NULL, 0,
                                      &affected, NULL, NULL, NULL);
        (void)checked;
    }
    if (rc == DR_OK) {
        rc = pg_run(c, "SELECT current_database()::text, current_schema()::text", NULL, 0,
                    &affected, note_facts, c, err);
    }
    if (rc == DR_OK) {
        rc = pg_run(c,
                    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool",
                    NULL, 0, &affected, note_read_only, &info->is_read_only, err);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "prepare the session");
    }
    return rc;
}

static void close_conn(void *impl)
{
    struct pg_conn *c = impl;
    if (c == NULL) {
        return;
    }
    if (c->pq != NULL) {
        PQfinish(c->pq);
    }
    dr_free(c->database);
    dr_free(c->schema);
    dr_free(c);
}

static enum dr_code open_conn(const char *url, void **impl, struct dr_sqldb_info *info,
                              struct dr_err *err)
{
    struct dr_sqldb_url u;
    struct pg_conn *c = NULL;
    *impl = NULL;
    enum dr_code rc = dr_sqldb_url_parse(url, &u, err);
    if (rc != DR_OK) {
        goto out;
    }
    c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    c->read_ms = (int64_t)u.read_s * 1000;
    (void)dr_sqldb_url_show(&u, c->shown, sizeof c->shown);
    rc = connect_server(c, &u, err);
    if (rc == DR_OK) {
        rc = set_session(c, &u, info, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    info->dialect = DR_SQL_POSTGRES;
    info->is_mysql = false;
    info->version = (uint32_t)PQserverVersion(c->pq);
    info->database = c->database;
    info->schema = c->schema;
    *impl = c;
    c = NULL;
out:
    close_conn(c);
    dr_sqldb_url_fini(&u);
    return rc;
}

/* Between statements the server may tell of changed settings, or say farewell, which may come some
 * time before the end of the stream. PQnotifies makes libpq look at what it has read. */
static bool is_conn_alive(void *impl)
{
    struct pg_conn *c = impl;
    for (int reads = 0; !c->is_lost && reads < IDLE_READS_MAX; reads++) {
        struct pollfd fd = {.fd = PQsocket(c->pq), .events = POLLIN};
        if (poll(&fd, 1, 0) == 0) {
            break; /* nothing to read, and no end either */
        }
        if (PQconsumeInput(c->pq) == 0 || PQstatus(c->pq) != CONNECTION_OK) {
            c->is_lost = true;
        }
        PGnotify *notify = PQnotifies(c->pq);
        PQfreemem(notify);
    }
    return !c->is_lost;
}

const struct dr_sqldb_driver *dr_sqldb_postgres(void)
{
    static const struct dr_sqldb_driver driver = {
        .open = open_conn,
        .close = close_conn,
        .run = pg_run,
        .is_alive = is_conn_alive,
        .pipe = pg_pipe,
    };
    return &driver;
}
