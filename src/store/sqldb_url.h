/* SPDX-License-Identifier: Apache-2.0 */
/* The address of an SQL server, taken apart: what both drivers read. See sqldb.h for its form. */
#ifndef DR_STORE_SQLDB_URL_H
#define DR_STORE_SQLDB_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/sqldb.h"

enum dr_sql_tls {
    DR_SQL_TLS_OFF,
    DR_SQL_TLS_PREFER,  /* the default: encrypted where the server can */
    DR_SQL_TLS_REQUIRE, /* encrypted, the certificate is not looked at */
    DR_SQL_TLS_VERIFY_CA,
    DR_SQL_TLS_VERIFY_FULL,
};

struct dr_sqldb_url {
    enum dr_dialect dialect;
    char *user;     /* NULL: the driver's default */
    char *password; /* NULL: none given */
    char *host;     /* NULL: by socket */
    char *database;
    char *socket; /* MariaDB: the file; PostgreSQL: the folder */
    char *tls_ca; /* a file with certificates, or NULL */
    uint32_t port;
    enum dr_sql_tls tls;
    uint32_t connect_s; /* time limits in seconds, at least 1 */
    uint32_t read_s;
};

/* Messages never hold user or password. The caller frees with fini, also after a failure. */
DR_MUST enum dr_code dr_sqldb_url_parse(const char *text, struct dr_sqldb_url *out,
                                        struct dr_err *err);
void dr_sqldb_url_fini(struct dr_sqldb_url *u); /* wipes the password */
/* "host:port/database" for messages, into buf; returns buf. */
char *dr_sqldb_url_show(const struct dr_sqldb_url *u, char *buf, size_t buf_bytes);
/* How long to wait for a lock: less than the read limit, or the connection would be given up while
 * the server still waits. */
uint32_t dr_sqldb_url_lock_s(const struct dr_sqldb_url *u);

#endif
