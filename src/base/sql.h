/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite wrapper: opening, prepared statements, transactions, one translation of result codes.
 *
 * Used by queue/ for drover's own data and by store/sqlite. A struct dr_sql belongs to one thread
 * at a time. SQLITE_BUSY waits up to busy_ms, then is DR_BUSY; SQLITE_FULL is DR_FULL,
 * SQLITE_CORRUPT and NOTADB DR_CORRUPT, READONLY DR_READONLY, IOERR DR_IO, CANTOPEN DR_UNREACHABLE,
 * NOMEM DR_NOMEM, CONSTRAINT DR_CONFLICT, other DR_INPUT. Messages hold path, SQLite's text and a
 * remedy. */
#ifndef DR_BASE_SQL_H
#define DR_BASE_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct dr_sql {
    sqlite3 *db;
    char *path;
};

enum { DR_SQL_READONLY = 1, DR_SQL_CREATE = 2 };

DR_MUST enum dr_code dr_sql_open(struct dr_sql *s, const char *path, unsigned flags,
                                 uint32_t busy_ms, struct dr_err *err);
void dr_sql_close(struct dr_sql *s); /* accepts a zeroed one */
/* Run one or more statements without results. */
DR_MUST enum dr_code dr_sql_exec(struct dr_sql *s, const char *sql, struct dr_err *err);
/* sqlite3_mprintf formats: %Q, %q, %w too; hence no check of them by the compiler. */
DR_MUST enum dr_code dr_sql_execf(struct dr_sql *s, struct dr_err *err, const char *fmt, ...);
DR_MUST enum dr_code dr_sql_prepare(struct dr_sql *s, const char *sql, sqlite3_stmt **out,
                                    struct dr_err *err);
/* Step: *row_out says whether there is a row. On an error the statement is reset. */
DR_MUST enum dr_code dr_sql_step(struct dr_sql *s, sqlite3_stmt *st, bool *row_out,
                                 struct dr_err *err);
/* Step a statement that gives no rows, then reset it and clear its bindings. */
DR_MUST enum dr_code dr_sql_run(struct dr_sql *s, sqlite3_stmt *st, struct dr_err *err);
/* One integer from a query; `absent` when there is no row or it is NULL. */
DR_MUST enum dr_code dr_sql_int(struct dr_sql *s, const char *sql, int64_t absent, int64_t *out,
                                struct dr_err *err);
/* Translate the connection's last error, naming what was tried. */
enum dr_code dr_sql_fail(struct dr_sql *s, int sqlite_rc, const char *what, struct dr_err *err);
DR_MUST enum dr_code dr_sql_begin(struct dr_sql *s, struct dr_err *err); /* BEGIN IMMEDIATE */
DR_MUST enum dr_code dr_sql_commit(struct dr_sql *s,
                                   struct dr_err *err); /* on failure: rolled back */
void dr_sql_rollback(struct dr_sql *s);                 /* fine when no transaction is open */
/* Text of a column, "" for NULL; borrowed until the next step. */
const char *dr_sql_text(sqlite3_stmt *st, int column);

#endif
