/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: prepared statements that are found again, binding by format. */
#include <assert.h>
#include <string.h>

#include "queue/sqlite/queue_private.h"

enum dr_code dr_q_prepare(struct queue_conn *c, const char *sql, sqlite3_stmt **out,
                          struct dr_err *err)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (c->cached[i].text == sql) {
            *out = c->cached[i].st;
            return DR_OK;
        }
    }
    assert(c->count < QUEUE_STATEMENTS_MAX);
    enum dr_code rc = dr_sql_prepare(&c->sql, sql, out, err);
    if (rc == DR_OK) {
        c->cached[c->count].text = sql;
        c->cached[c->count].st = *out;
        c->count++;
    }
    return rc;
}

static enum dr_code bind_list(struct queue_conn *c, sqlite3_stmt *st, const char *format,
                              va_list list, struct dr_err *err)
{
    for (int n = 1; format[n - 1] != '\0'; n++) {
        int rc = SQLITE_OK;
        if (format[n - 1] == 'i') {
            rc = sqlite3_bind_int64(st, n, va_arg(list, int64_t));
        } else if (format[n - 1] == 's') {
            rc = sqlite3_bind_text(st, n, va_arg(list, const char *), -1, SQLITE_STATIC);
        } else {
            assert(format[n - 1] == 'b');
            const void *data = va_arg(list, const void *);
            size_t bytes = va_arg(list, size_t);
            rc = sqlite3_bind_blob64(st, n, bytes > 0 ? data : NULL, bytes, SQLITE_STATIC);
        }
        if (rc != SQLITE_OK) {
            return dr_sql_fail(&c->sql, rc, "binding a value", err);
        }
    }
    return DR_OK;
}

enum dr_code dr_q_bind(struct queue_conn *c, sqlite3_stmt **out, struct dr_err *err,
                       const char *sql, const char *format, ...)
{
    va_list list;
    enum dr_code rc = dr_q_prepare(c, sql, out, err);
    if (rc == DR_OK) {
        (void)sqlite3_reset(*out);
        va_start(list, format);
        rc = bind_list(c, *out, format, list, err);
        va_end(list);
    }
    return rc;
}

enum dr_code dr_q_run(struct queue_conn *c, struct dr_err *err, const char *sql, const char *format,
                      ...)
{
    va_list list;
    sqlite3_stmt *st = NULL;
    enum dr_code rc = dr_q_prepare(c, sql, &st, err);
    if (rc == DR_OK) {
        va_start(list, format);
        rc = bind_list(c, st, format, list, err);
        va_end(list);
    }
    return rc == DR_OK ? dr_sql_run(&c->sql, st, err) : rc;
}

enum dr_code dr_q_int(struct queue_conn *c, int64_t *out, int64_t absent, struct dr_err *err,
                      const char *sql, const char *format, ...)
{
    va_list list;
    sqlite3_stmt *st = NULL;
    bool has_row = false;
    *out = absent;
    enum dr_code rc = dr_q_prepare(c, sql, &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_reset(st);
        va_start(list, format);
        rc = bind_list(c, st, format, list, err);
        va_end(list);
    }
    if (rc == DR_OK) {
        rc = dr_sql_step(&c->sql, st, &has_row, err);
    }
    if (rc == DR_OK && has_row && sqlite3_column_type(st, 0) != SQLITE_NULL) {
        *out = sqlite3_column_int64(st, 0);
    }
    if (st != NULL) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

void dr_q_conn_close(struct queue_conn *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        (void)sqlite3_finalize(c->cached[i].st);
    }
    c->count = 0;
    dr_sql_close(&c->sql);
}
