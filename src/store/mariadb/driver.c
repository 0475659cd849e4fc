/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a connection to MariaDB or MySQL, and what its session is set to. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "store/mariadb/mariadb_private.h"
#include "store/sqldb_url.h"

/* Strict, so that nothing that is put back is cut; zero and odd dates are let through, because they
 * may be there. Backslashes in strings stay escapes, as the users' own filters expect. */
static const char session_setup[] =
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES,"
    "ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = 1, "
    "sql_safe_updates = 0, sql_select_limit = DEFAULT, unique_checks = 1, foreign_key_checks = 1, "
    "innodb_lock_wait_timeout = LEAST(@@innodb_lock_wait_timeout, %u), "
    "lock_wait_timeout = LEAST(@@lock_wait_timeout, %u)";

static enum dr_code set_options(struct md_conn *c, const struct dr_sqldb_url *u, struct dr_err *err)
{
    unsigned on = 1;
    /* Else "localhost" would mean a socket at some default path, whatever the port. */
    unsigned protocol = u->socket == NULL ? MYSQL_PROTOCOL_TCP : MYSQL_PROTOCOL_SOCKET;
    my_bool yes = 1;
    bool is_ok = mysql_options(c->mysql, MYSQL_OPT_PROTOCOL, &protocol) == 0 &&
                 mysql_options(c->mysql, MYSQL_OPT_CONNECT_TIMEOUT, &u->connect_s) == 0 &&
                 mysql_options(c->mysql, MYSQL_OPT_READ_TIMEOUT, &u->read_s) == 0 &&
                 mysql_options(c->mysql, MYSQL_OPT_WRITE_TIMEOUT, &u->read_s) == 0 &&
                 mysql_options(c->mysql, MYSQL_OPT_LOCAL_INFILE, &on) == 0 &&
                 mysql_options(c->mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4") == 0;
    /* The client library has no "preferred": to name TLS options makes it use TLS if the server
     * can, and whether it did is looked at after connecting. */
    if (is_ok && u->tls != DR_SQL_TLS_OFF && u->socket == NULL) {
        is_ok = mysql_ssl_set(c->mysql, NULL, NULL, u->tls_ca, NULL, NULL) == 0;
    }
    if (is_ok && (u->tls == DR_SQL_TLS_VERIFY_CA || u->tls == DR_SQL_TLS_VERIFY_FULL)) {
        is_ok = mysql_options(c->mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes) == 0;
    }
    /* LOCAL serves md_pipe alone; whatever a server asks for besides is refused. */
    md_refuse_local(c->mysql);
    return is_ok ? DR_OK : dr_fail(err, DR_INTERNAL, "libmariadb refuses an option");
}

static enum dr_code connect_server(struct md_conn *c, const struct dr_sqldb_url *u,
                                   struct dr_err *err)
{
    enum dr_code rc = set_options(c, u, err);
    if (rc != DR_OK) {
        return rc;
    }
    /* FOUND_ROWS: an UPDATE counts the rows it matched, as PostgreSQL does. Several statements in
     * one text stay off. */
    if (mysql_real_connect(c->mysql, u->socket != NULL ? NULL : u->host, u->user,
                           u->password == NULL ? "" : u->password, u->database, u->port, u->socket,
                           CLIENT_FOUND_ROWS) == NULL) {
        rc = md_fail_conn(c, err);
        dr_wrap(err, "connect");
        return rc;
    }
    if (u->tls >= DR_SQL_TLS_REQUIRE && u->socket == NULL &&
        mysql_get_ssl_cipher(c->mysql) == NULL) {
        return dr_fail(err, DR_DENIED,
                       "%s: the server offers no TLS, which the URL requires; switch it on there",
                       c->shown);
    }
    return DR_OK;
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

static enum dr_code set_session(struct md_conn *c, const struct dr_sqldb_url *u,
                                struct dr_sqldb_info *info, struct dr_err *err)
{
    char sql[sizeof session_setup + 32];
    uint64_t affected = 0;
    uint32_t lock_s = dr_sqldb_url_lock_s(u);
    (void)snprintf(sql, sizeof sql, session_setup, lock_s, lock_s);
    enum dr_code rc = md_run_text(c, sql, &affected, NULL, NULL, err);
    if (rc == DR_OK) {
        rc = md_run_text(c, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", &affected,
                         NULL, NULL, err);
    }
    if (rc == DR_OK) {
        rc = md_run_text(c, "SELECT @@global.read_only", &affected, note_read_only,
                         &info->is_read_only, err);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "prepare the session");
    }
    return rc;
}

static void close_conn(void *impl)
{
    struct md_conn *c = impl;
    if (c == NULL) {
        return;
    }
    md_statements_close(c);
    if (c->mysql != NULL) {
        mysql_close(c->mysql);
    }
    dr_free(c->database);
    dr_free(c);
}

static enum dr_code open_conn(const char *url, void **impl, struct dr_sqldb_info *info,
                              struct dr_err *err)
{
    struct dr_sqldb_url u;
    struct md_conn *c = NULL;
    *impl = NULL;
    enum dr_code rc = dr_sqldb_url_parse(url, &u, err);
    if (rc != DR_OK) {
        goto out;
    }
    c = dr_calloc(1, sizeof *c);
    if (c == NULL || (c->database = dr_strdup(u.database)) == NULL ||
        (c->mysql = mysql_init(NULL)) == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    (void)dr_sqldb_url_show(&u, c->shown, sizeof c->shown);
    rc = connect_server(c, &u, err);
    if (rc == DR_OK) {
        rc = set_session(c, &u, info, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    info->dialect = DR_SQL_MARIADB;
    info->is_mysql = mariadb_connection(c->mysql) == 0;
    info->version = (uint32_t)mysql_get_server_version(c->mysql);
    info->database = c->database;
    info->schema = c->database;
    *impl = c;
    c = NULL;
out:
    close_conn(c);
    dr_sqldb_url_fini(&u);
    return rc;
}

/* Between statements the server has nothing to say: what can be read is its farewell, or, with TLS,
 * perhaps a session ticket; a ping tells them apart. */
static bool is_conn_alive(void *impl)
{
    struct md_conn *c = impl;
    char byte;
    if (c->is_lost) {
        return false;
    }
    ssize_t n = recv((int)mysql_get_socket(c->mysql), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    bool is_quiet = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (n == 0 || (n < 0 && !is_quiet) || (n > 0 && mysql_get_ssl_cipher(c->mysql) == NULL) ||
        (n > 0 && mysql_ping(c->mysql) != 0)) {
        c->is_lost = true;
    }
    return !c->is_lost;
}

const struct dr_sqldb_driver *dr_sqldb_mariadb(void)
{
    static const struct dr_sqldb_driver driver = {
        .open = open_conn,
        .close = close_conn,
        .run = md_run,
        .is_alive = is_conn_alive,
        .pipe = md_pipe,
    };
    return &driver;
}
