/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of prepared statements as typed values, one at a time, unbuffered: memory holds one row.
 *
 * Dates and times are taken as their parts and written here, with exactly the column's digits; the
 * library's own conversion drops a fraction that is zero. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "store/mariadb/mariadb_private.h"

enum {
    CHARSET_BINARY = 63,
    COLUMN_BYTES_FIRST = 128,
    TIME_TEXT_BYTES = 64,
    FRACTION_DIGITS = 6,
};

struct column {
    enum enum_field_types type; /* what the library is asked for */
    bool is_unsigned;
    bool is_blob;
    unsigned decimals;
    union {
        int64_t i;
        uint64_t u;
        float f;
        double d;
        MYSQL_TIME time;
    } fixed;
    char text[TIME_TEXT_BYTES]; /* of a date, or of an integer above INT64_MAX */
    char *data;                 /* of what has no fixed size */
    unsigned long room;
    unsigned long bytes;
    my_bool is_null;
    my_bool is_cut;
};

bool md_is_binary(const MYSQL_FIELD *f)
{
    switch (f->type) {
    case MYSQL_TYPE_BIT:
    case MYSQL_TYPE_GEOMETRY:
        return true;
    case MYSQL_TYPE_TINY_BLOB:
    case MYSQL_TYPE_BLOB:
    case MYSQL_TYPE_MEDIUM_BLOB:
    case MYSQL_TYPE_LONG_BLOB:
    case MYSQL_TYPE_STRING:
    case MYSQL_TYPE_VAR_STRING:
    case MYSQL_TYPE_VARCHAR:
        return f->charsetnr == CHARSET_BINARY && (f->flags & (ENUM_FLAG | SET_FLAG)) == 0;
    default: /* a list of the client library that grows */
        return false;
    }
}

static enum enum_field_types wanted_type(const MYSQL_FIELD *f)
{
    switch (f->type) {
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_YEAR:
        return MYSQL_TYPE_LONGLONG;
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE:
    case MYSQL_TYPE_DATE:
    case MYSQL_TYPE_TIME:
    case MYSQL_TYPE_DATETIME:
    case MYSQL_TYPE_TIMESTAMP:
        return f->type;
    default: /* a list of the client library that grows */
        return md_is_binary(f) ? MYSQL_TYPE_BLOB : MYSQL_TYPE_STRING;
    }
}

static bool is_sized(enum enum_field_types type)
{
    return type == MYSQL_TYPE_BLOB || type == MYSQL_TYPE_STRING;
}

static void bind_column(struct column *c, MYSQL_BIND *b)
{
    b->buffer_type = c->type;
    b->is_unsigned = c->is_unsigned;
    b->buffer = is_sized(c->type) ? (void *)c->data : (void *)&c->fixed;
    b->buffer_length = is_sized(c->type) ? c->room : sizeof c->fixed;
    b->length = &c->bytes;
    b->is_null = &c->is_null;
    b->error = &c->is_cut;
}

static enum dr_code prepare_columns(MYSQL_RES *meta, struct column *column, MYSQL_BIND *bind,
                                    unsigned count, struct dr_err *err)
{
    const MYSQL_FIELD *field = mysql_fetch_fields(meta);
    for (unsigned i = 0; i < count; i++) {
        struct column *c = &column[i];
        c->type = wanted_type(&field[i]);
        c->is_unsigned = (field[i].flags & UNSIGNED_FLAG) != 0;
        c->is_blob = md_is_binary(&field[i]);
        c->decimals = field[i].decimals;
        if (is_sized(c->type)) {
            c->data = dr_malloc(COLUMN_BYTES_FIRST);
            c->room = COLUMN_BYTES_FIRST;
            if (c->data == NULL) {
                return dr_fail_nomem(err);
            }
        }
        bind_column(c, &bind[i]);
    }
    return DR_OK;
}

/* ---- one value ---- */

/* The digits are the column's; a function's result has no number of its own (31 or 39 there). */
static size_t add_fraction(char *text, size_t at, const MYSQL_TIME *t, unsigned decimals)
{
    if (decimals > FRACTION_DIGITS) {
        decimals = t->second_part == 0 ? 0 : FRACTION_DIGITS;
    }
    if (decimals == 0) {
        return at;
    }
    (void)snprintf(text + at, TIME_TEXT_BYTES - at, ".%06lu", t->second_part % 1000000);
    at += 1 + decimals;
    text[at] = '\0';
    return at;
}

static size_t print_time(const struct column *c, char *text)
{
    const MYSQL_TIME *t = &c->fixed.time;
    int n = 0;
    if (c->type == MYSQL_TYPE_TIME) {
        n = snprintf(text, TIME_TEXT_BYTES, "%s%02u:%02u:%02u", t->neg ? "-" : "",
                     t->day * 24 + t->hour, t->minute, t->second);
        return add_fraction(text, (size_t)n, t, c->decimals);
    }
    if (c->type == MYSQL_TYPE_DATE) {
        return (size_t)snprintf(text, TIME_TEXT_BYTES, "%04u-%02u-%02u", t->year, t->month, t->day);
    }
    n = snprintf(text, TIME_TEXT_BYTES, "%04u-%02u-%02u %02u:%02u:%02u", t->year, t->month, t->day,
                 t->hour, t->minute, t->second);
    return add_fraction(text, (size_t)n, t, c->decimals);
}

static void read_value(struct column *c, struct dr_value *out)
{
    *out = (struct dr_value){.type = DR_V_NULL};
    if (c->is_null) {
        return;
    }
    if (c->type == MYSQL_TYPE_LONGLONG) {
        out->type = DR_V_INT;
        out->i = c->fixed.i;
        if (c->is_unsigned && c->fixed.u > INT64_MAX) {
            out->type = DR_V_TEXT;
            out->data = c->text;
            out->len =
                (size_t)snprintf(c->text, sizeof c->text, "%llu", (unsigned long long)c->fixed.u);
        }
    } else if (c->type == MYSQL_TYPE_FLOAT || c->type == MYSQL_TYPE_DOUBLE) {
        out->type = DR_V_REAL;
        out->r = c->type == MYSQL_TYPE_FLOAT ? (double)c->fixed.f : c->fixed.d;
    } else if (is_sized(c->type)) {
        out->type = c->is_blob ? DR_V_BLOB : DR_V_TEXT;
        out->data = c->data;
        out->len = c->bytes;
    } else {
        out->type = DR_V_TEXT;
        out->data = c->text;
        out->len = print_time(c, c->text);
    }
}

/* A value that was larger than its buffer: grow it and fetch the whole of it again. The larger
 * buffer serves the rows behind, too. */
static enum dr_code fetch_whole(struct md_conn *conn, MYSQL_STMT *stmt, struct column *c,
                                MYSQL_BIND *b, unsigned index, struct dr_err *err)
{
    if (c->is_null || !is_sized(c->type) || c->bytes <= c->room) {
        return DR_OK;
    }
    char *larger = dr_realloc(c->data, c->bytes);
    if (larger == NULL) {
        return dr_fail_nomem(err);
    }
    c->data = larger;
    c->room = c->bytes;
    bind_column(c, b);
    if (mysql_stmt_fetch_column(stmt, b, index, 0) != 0) {
        return md_fail_stmt(conn, stmt, err);
    }
    return DR_OK;
}

static enum dr_code fetch_row(struct md_conn *conn, MYSQL_STMT *stmt, struct column *column,
                              MYSQL_BIND *bind, unsigned count, bool *end_out, struct dr_err *err)
{
    *end_out = false;
    int fetched = mysql_stmt_fetch(stmt);
    if (fetched == MYSQL_NO_DATA) {
        *end_out = true;
        return DR_OK;
    }
    if (fetched != 0 && fetched != MYSQL_DATA_TRUNCATED) {
        return md_fail_stmt(conn, stmt, err);
    }
    bool has_grown = false;
    for (unsigned i = 0; i < count; i++) {
        unsigned long room = column[i].room;
        enum dr_code rc = fetch_whole(conn, stmt, &column[i], &bind[i], i, err);
        if (rc != DR_OK) {
            return rc;
        }
        has_grown = has_grown || column[i].room != room;
    }
    if (has_grown && mysql_stmt_bind_result(stmt, bind) != 0) {
        return md_fail_stmt(conn, stmt, err);
    }
    return DR_OK;
}

enum dr_code md_read_rows(struct md_conn *c, MYSQL_STMT *stmt, dr_sqldb_row_fn row, void *arg,
                          struct dr_err *err)
{
    unsigned count = mysql_stmt_field_count(stmt);
    MYSQL_RES *meta = mysql_stmt_result_metadata(stmt);
    struct column *column = dr_calloc(count, sizeof *column);
    MYSQL_BIND *bind = dr_calloc(count, sizeof *bind);
    struct dr_value *value = dr_calloc(count, sizeof *value);
    enum dr_code rc = DR_OK;
    bool is_end = false;
    if (meta == NULL || column == NULL || bind == NULL || value == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = prepare_columns(meta, column, bind, count, err);
    if (rc == DR_OK && mysql_stmt_bind_result(stmt, bind) != 0) {
        rc = md_fail_stmt(c, stmt, err);
    }
    while (rc == DR_OK) {
        rc = fetch_row(c, stmt, column, bind, count, &is_end, err);
        if (rc != DR_OK || is_end) {
            break;
        }
        for (unsigned i = 0; i < count; i++) {
            read_value(&column[i], &value[i]);
        }
        rc = row(arg, value, count, err);
    }
out:
    for (unsigned i = 0; column != NULL && i < count; i++) {
        dr_free(column[i].data);
    }
    dr_free(column);
    dr_free(bind);
    dr_free(value);
    if (meta != NULL) {
        mysql_free_result(meta);
    }
    return rc;
}
