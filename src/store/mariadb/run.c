/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: the text protocol for what has neither parameters nor rows, server-side prepared
 * statements for all else, for only those carry values with their types. */
#include <assert.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "store/mariadb/mariadb_private.h"

enum {
    ER_PREPARED_UNSUPPORTED = 1295,
    ER_PREPARED_TOO_MANY = 1461,
    PARAMS_MAX = 65535, /* of the protocol */
};

/* ---- prepared statements ---- */

static void forget_statement(struct md_statement *s)
{
    if (s->stmt != NULL) {
        (void)mysql_stmt_close(s->stmt);
    }
    dr_free(s->sql);
    *s = (struct md_statement){0};
}

void md_statements_close(struct md_conn *c)
{
    for (size_t i = 0; i < MD_STATEMENTS_MAX; i++) {
        forget_statement(&c->statement[i]);
    }
}

static struct md_statement *find_statement(struct md_conn *c, const char *sql)
{
    for (size_t i = 0; i < MD_STATEMENTS_MAX; i++) {
        if (c->statement[i].sql != NULL && strcmp(c->statement[i].sql, sql) == 0) {
            return &c->statement[i];
        }
    }
    return NULL;
}

/* An empty place, made by forgetting the statement that was not used for longest. */
static struct md_statement *take_place(struct md_conn *c)
{
    struct md_statement *oldest = &c->statement[0];
    for (size_t i = 0; i < MD_STATEMENTS_MAX; i++) {
        if (c->statement[i].used_at < oldest->used_at) {
            oldest = &c->statement[i];
        }
    }
    forget_statement(oldest);
    return oldest;
}

static enum dr_code prepare(struct md_conn *c, const char *sql, struct md_statement **out,
                            struct dr_err *err)
{
    struct md_statement *s = find_statement(c, sql);
    *out = NULL;
    if (s == NULL) {
        s = take_place(c);
        s->sql = dr_strdup(sql);
        s->stmt = mysql_stmt_init(c->mysql);
        if (s->sql == NULL || s->stmt == NULL) {
            forget_statement(s);
            return dr_fail_nomem(err);
        }
        if (mysql_stmt_prepare(s->stmt, sql, (unsigned long)strlen(sql)) != 0) {
            enum dr_code rc = md_fail_stmt(c, s->stmt, err);
            unsigned number = mysql_stmt_errno(s->stmt);
            forget_statement(s);
            if (number == ER_PREPARED_TOO_MANY) {
                md_statements_close(c); /* ours at least; the next try may fit */
            }
            return rc;
        }
    }
    s->used_at = ++c->tick;
    *out = s;
    return DR_OK;
}

/* ---- parameters ---- */

static enum dr_code bind_one(const struct dr_value *v, uint32_t index, MYSQL_BIND *b,
                             struct dr_err *err)
{
    switch (v->type) {
    case DR_V_NULL:
        b->buffer_type = MYSQL_TYPE_NULL;
        return DR_OK;
    case DR_V_INT:
        b->buffer_type = MYSQL_TYPE_LONGLONG;
        b->buffer = (void *)&v->i; /* the library reads it only */
        return DR_OK;
    case DR_V_REAL:
        b->buffer_type = MYSQL_TYPE_DOUBLE;
        b->buffer = (void *)&v->r;
        return DR_OK;
    case DR_V_TEXT:
    case DR_V_BLOB:
        b->buffer_type = v->type == DR_V_TEXT ? MYSQL_TYPE_STRING : MYSQL_TYPE_BLOB;
        b->buffer = v->len == 0 ? (void *)"" : (void *)v->data;
        b->buffer_length = (unsigned long)v->len;
        return DR_OK;
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        break;
    }
    return dr_fail(err, DR_INPUT, "parameter %u is of a type that SQL does not have", index + 1);
}

static enum dr_code bind_params(struct md_conn *c, MYSQL_STMT *stmt, const struct dr_value *param,
                                uint32_t count, struct dr_err *err)
{
    if (mysql_stmt_param_count(stmt) != count) {
        return dr_fail(err, DR_INPUT, "the statement has %lu parameters, %u values were given",
                       mysql_stmt_param_count(stmt), count);
    }
    if (count == 0) {
        return DR_OK;
    }
    MYSQL_BIND *bind = dr_calloc(count, sizeof *bind);
    if (bind == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = bind_one(&param[i], i, &bind[i], err);
    }
    /* The library copies the array, not what it points to. */
    if (rc == DR_OK && mysql_stmt_bind_param(stmt, bind) != 0) {
        rc = md_fail_stmt(c, stmt, err);
    }
    dr_free(bind);
    return rc;
}

/* Results behind the first (of CALL) are read and dropped, or the connection is out of step. */
static enum dr_code finish_statement(struct md_conn *c, MYSQL_STMT *stmt, struct dr_err *err)
{
    (void)mysql_stmt_free_result(stmt);
    while (mysql_stmt_more_results(stmt)) {
        if (mysql_stmt_next_result(stmt) > 0) {
            return md_fail_stmt(c, stmt, err);
        }
        (void)mysql_stmt_free_result(stmt);
    }
    return DR_OK;
}

static enum dr_code run_prepared(struct md_conn *c, MYSQL_STMT *stmt, const struct dr_value *param,
                                 uint32_t param_count, uint64_t *affected, dr_sqldb_row_fn row,
                                 void *arg, struct dr_err *err)
{
    enum dr_code rc = bind_params(c, stmt, param, param_count, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (mysql_stmt_execute(stmt) != 0) {
        return md_fail_stmt(c, stmt, err);
    }
    if (mysql_stmt_field_count(stmt) == 0) {
        *affected = mysql_stmt_affected_rows(stmt);
    } else if (row != NULL) {
        rc = md_read_rows(c, stmt, row, arg, err);
    }
    enum dr_code finished = finish_statement(c, stmt, rc == DR_OK ? err : NULL);
    return rc == DR_OK ? finished : rc;
}

enum dr_code md_run(void *impl, const char *sql, const struct dr_value *param, uint32_t param_count,
                    uint64_t *affected, dr_sqldb_row_fn row, void *arg, struct dr_err *err)
{
    struct md_conn *c = impl;
    struct md_statement *s = NULL;
    *affected = 0;
    if (param_count > PARAMS_MAX) {
        return dr_fail(err, DR_INPUT, "%u parameters; a statement can have %d", param_count,
                       PARAMS_MAX);
    }
    if (row == NULL && param_count == 0) {
        return md_run_text(c, sql, affected, NULL, NULL, err);
    }
    enum dr_code rc = prepare(c, sql, &s, err);
    if (rc == DR_UNSUPPORTED && param_count == 0) {
        return md_run_text(c, sql, affected, row, arg, err); /* some SHOW of MySQL */
    }
    if (rc != DR_OK) {
        return rc;
    }
    assert(s != NULL);
    rc = run_prepared(c, s->stmt, param, param_count, affected, row, arg, err);
    if (rc != DR_OK) {
        forget_statement(s); /* nothing half-read is used again */
    }
    return rc;
}

/* ---- the text protocol ---- */

static void read_text_value(const MYSQL_FIELD *f, const char *text, unsigned long bytes,
                            struct dr_value *out)
{
    *out = (struct dr_value){.type = DR_V_NULL};
    if (text == NULL) {
        return;
    }
    out->type = md_is_binary(f) ? DR_V_BLOB : DR_V_TEXT;
    out->data = text;
    out->len = bytes;
    if (f->type == MYSQL_TYPE_FLOAT || f->type == MYSQL_TYPE_DOUBLE) {
        out->type = DR_V_REAL;
        out->r = strtod(text, NULL);
    } else if (IS_NUM(f->type) && f->type != MYSQL_TYPE_DECIMAL &&
               f->type != MYSQL_TYPE_NEWDECIMAL && f->type != MYSQL_TYPE_TIMESTAMP) {
        int64_t i = 0;
        if (dr_parse_i64(text, &i)) { /* else an unsigned one above INT64_MAX: stays text */
            out->type = DR_V_INT;
            out->i = i;
        }
    }
}

static enum dr_code read_text_rows(struct md_conn *c, MYSQL_RES *result, dr_sqldb_row_fn row,
                                   void *arg, struct dr_err *err)
{
    unsigned count = mysql_num_fields(result);
    const MYSQL_FIELD *field = mysql_fetch_fields(result);
    struct dr_value *value = dr_calloc(count, sizeof *value);
    if (value == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    while (rc == DR_OK) {
        MYSQL_ROW text = mysql_fetch_row(result);
        if (text == NULL) {
            rc = mysql_errno(c->mysql) != 0 ? md_fail_conn(c, err) : DR_OK;
            break;
        }
        const unsigned long *bytes = mysql_fetch_lengths(result);
        for (unsigned i = 0; i < count; i++) {
            read_text_value(&field[i], text[i], bytes[i], &value[i]);
        }
        rc = row(arg, value, count, err);
    }
    dr_free(value);
    return rc;
}

enum dr_code md_run_text(struct md_conn *c, const char *sql, uint64_t *affected,
                         dr_sqldb_row_fn row, void *arg, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    int more = -1;
    if (mysql_real_query(c->mysql, sql, (unsigned long)strlen(sql)) != 0) {
        return md_fail_conn(c, err);
    }
    do {
        MYSQL_RES *result = mysql_use_result(c->mysql);
        if (result != NULL) {
            if (row != NULL && rc == DR_OK) {
                rc = read_text_rows(c, result, row, arg, err);
                row = NULL; /* only the first result has rows for the caller */
            }
            mysql_free_result(result); /* reads what is left */
        } else if (mysql_errno(c->mysql) != 0) {
            return md_fail_conn(c, err);
        } else {
            *affected = mysql_affected_rows(c->mysql);
        }
        more = mysql_next_result(c->mysql);
        if (more > 0) {
            return rc == DR_OK ? md_fail_conn(c, err) : rc;
        }
    } while (more == 0);
    return rc;
}
