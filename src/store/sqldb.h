/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to an SQL server, MariaDB/MySQL or PostgreSQL: statements with parameters, rows as
 * typed values, transactions. What the SQL adapters and the token server's purge stand on.
 *
 * The session is set up so that what is read can be written back exactly: UTC, ISO dates, full
 * precision of floats, hex bytea, READ COMMITTED, double quotes around names in both dialects
 * (ANSI_QUOTES), zero as an identity value and zero dates allowed. One thread at a time. Calls
 * block for at most the timeouts of the URL (defaults: connect 5 s, read and write 60 s). */
#ifndef DR_STORE_SQLDB_H
#define DR_STORE_SQLDB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/value.h"

enum dr_dialect { DR_SQL_MARIADB, DR_SQL_POSTGRES };

struct dr_sqldb; /* opaque */

/* What a session knows of its server. */
struct dr_sqldb_info {
    enum dr_dialect dialect;
    bool is_mysql;        /* Oracle's, not MariaDB: no DELETE ... RETURNING */
    uint32_t version;     /* 101119 for 10.11.19, 150020 for 15.20 */
    const char *database; /* of the connection */
    const char *schema;   /* MariaDB: the database; PostgreSQL: current_schema() */
    bool is_read_only;    /* a replica, or in recovery */
};

/* mysql://user:password@host:port/database?..., mariadb://..., postgres://..., postgresql://...
 * User, password and database percent-encoded. Known options: ssl-mode / sslmode, ssl-ca /
 * sslrootcert, connect_timeout, read_timeout (seconds), socket (MariaDB) / host (PostgreSQL) for a
 * Unix socket; drover.* options are skipped. A password may also come from the environment variable
 * that ?password_env=NAME names. DR_INPUT for a bad URL, DR_DENIED, DR_UNREACHABLE. */
DR_MUST enum dr_code dr_sqldb_open(const char *url, struct dr_sqldb **out, struct dr_err *err);
void dr_sqldb_close(struct dr_sqldb *db); /* accepts NULL */
const struct dr_sqldb_info *dr_sqldb_info(const struct dr_sqldb *db);

/* Parameters are ? in both dialects (outside of quotes and comments). Values: NULL, INT, REAL,
 * TEXT, BLOB. A column type may decide how PostgreSQL reads a TEXT parameter: write ?::bigint
 * there. affected_out may be NULL. A lost connection is DR_UNKNOWN for exec (the statement may have
 * been done) unless a transaction was open: then DR_UNREACHABLE, for the server rolls it back; a
 * lost commit is DR_UNKNOWN. A deadlock or serialization failure is DR_BUSY with the transaction
 * gone. Permission: DR_DENIED; missing table or column: DR_NOT_FOUND; duplicate key: DR_EXISTS;
 * foreign key or check: DR_CONFLICT; syntax: DR_INPUT; read-only server: DR_READONLY; full disk:
 * DR_FULL. */
DR_MUST enum dr_code dr_sqldb_exec(struct dr_sqldb *db, const char *sql,
                                   const struct dr_value *param, uint32_t param_count,
                                   uint64_t *affected_out, struct dr_err *err);
/* Rows one after another; values borrow until `row` returns. `row` may return an error to stop; it
 * must not use `db`. MariaDB: integers INT (unsigned ones over INT64_MAX as TEXT), FLOAT and DOUBLE
 * REAL, binary strings, BIT and geometry BLOB, all else TEXT. PostgreSQL: int2/int4/int8 INT, bool
 * INT, bytea BLOB, all else TEXT as the type's output function writes it. A lost connection is
 * DR_UNREACHABLE. */
typedef enum dr_code (*dr_sqldb_row_fn)(void *arg, const struct dr_value *value, uint32_t count,
                                        struct dr_err *err);
DR_MUST enum dr_code dr_sqldb_query(struct dr_sqldb *db, const char *sql,
                                    const struct dr_value *param, uint32_t param_count,
                                    dr_sqldb_row_fn row, void *arg, struct dr_err *err);
/* First column of the first row as INT or TEXT in the arena; *found_out false without a row. */
DR_MUST enum dr_code dr_sqldb_value(struct dr_sqldb *db, const char *sql,
                                    const struct dr_value *param, uint32_t param_count,
                                    struct dr_arena *a, struct dr_value *out, bool *found_out,
                                    struct dr_err *err);
DR_MUST enum dr_code dr_sqldb_begin(struct dr_sqldb *db, struct dr_err *err);
DR_MUST enum dr_code dr_sqldb_commit(struct dr_sqldb *db, struct dr_err *err);
void dr_sqldb_rollback(struct dr_sqldb *db); /* harmless without a transaction */
bool dr_sqldb_in_transaction(const struct dr_sqldb *db);
/* Is the connection still usable? After a lost one the next call connects again by itself, unless a
 * transaction was open. */
bool dr_sqldb_is_alive(const struct dr_sqldb *db);

/* Append "name" with quotes doubled. */
void dr_sql_quote_name(struct dr_str *out, const char *name);

/* Rows of one server into others of the same kind, byte for byte, without being understood on the
 * way: COPY to COPY, or the text protocol to LOAD DATA (to REPLACE where the server allows no
 * LOCAL). Memory holds some rows; with more than one target of MariaDB, all of them. */
struct dr_sqldb_pipe {
    const char *select;  /* read at the source; no parameters */
    const char *columns; /* of the targets, in that order: "a", "b" */
    bool is_binary;      /* PostgreSQL: every type's binary form means the same on both sides */
    uint64_t bytes_max;  /* more than that: it stops, is_over, everything to be rolled back */
};
struct dr_sqldb_piped {
    uint64_t rows, bytes;
    bool is_over;
};
enum { DR_SQLDB_PIPE_MAX = 16 };
/* `into` are the quoted tables of the targets, each in a transaction of its own. MariaDB: rows
 * replace those that have one of their unique keys. After a failure roll all transactions back. */
DR_MUST enum dr_code dr_sqldb_pipe(struct dr_sqldb *source, struct dr_sqldb *const *target,
                                   const char *const *into, uint32_t target_count,
                                   const struct dr_sqldb_pipe *pipe, struct dr_sqldb_piped *out,
                                   struct dr_err *err);

/* ---- what a driver gives: one in store/mariadb/, one in store/postgres/ ---- */
struct dr_sqldb_driver {
    enum dr_code (*open)(const char *url, void **impl, struct dr_sqldb_info *info,
                         struct dr_err *err);
    void (*close)(void *impl);
    /* row NULL: exec. Rewrites ? as it needs. */
    enum dr_code (*run)(void *impl, const char *sql, const struct dr_value *param,
                        uint32_t param_count, uint64_t *affected, dr_sqldb_row_fn row, void *arg,
                        struct dr_err *err);
    bool (*is_alive)(void *impl);
    enum dr_code (*pipe)(void *source, void *const *target, const char *const *into,
                         uint32_t target_count, const struct dr_sqldb_pipe *pipe,
                         struct dr_sqldb_piped *out, struct dr_err *err);
};
const struct dr_sqldb_driver *dr_sqldb_mariadb(void);
const struct dr_sqldb_driver *dr_sqldb_postgres(void);

#endif
