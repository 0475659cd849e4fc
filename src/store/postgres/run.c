/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: sent with text parameters (bytea binary), read row by row, so that memory holds one
 * row. All waiting is done here, with a limit, for libpq itself would wait for ever. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/postgres_private.h"

enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    PARAMS_MAX = 65535,       /* of the protocol */
    NUMBER_BYTES = 32,        /* text of a number */
    DROPPED_ROWS_MAX = 10000, /* read and dropped before the server is told to stop */
};

struct params {
    const char **text;
    char (*number)[NUMBER_BYTES];
    Oid *type;
    int *bytes;
    int *format;
    char **owned; /* terminated copies of texts */
    uint32_t count;
};

static void free_params(struct params *p)
{
    for (uint32_t i = 0; p->owned != NULL && i < p->count; i++) {
        dr_free(p->owned[i]);
    }
    dr_free(p->text);
    dr_free(p->number);
    dr_free(p->type);
    dr_free(p->bytes);
    dr_free(p->format);
    dr_free(p->owned);
}

static enum dr_code set_text(struct params *p, uint32_t i, const struct dr_value *v,
                             struct dr_err *err)
{
    if (v->len > 0 && memchr(v->data, '\0', v->len) != NULL) {
        return dr_fail(err, DR_INPUT, "parameter %u holds a NUL, which no text in PostgreSQL can",
                       i + 1);
    }
    p->owned[i] = dr_strndup(v->len == 0 ? "" : v->data, v->len);
    p->text[i] = p->owned[i];
    return p->owned[i] == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* Numbers and texts go without a type, so that the place they stand in decides, as with literals:
 * 1 fits a boolean, a numeric and a bigint column. */
static enum dr_code set_param(struct params *p, uint32_t i, const struct dr_value *v,
                              struct dr_err *err)
{
    switch (v->type) {
    case DR_V_NULL:
        return DR_OK;
    case DR_V_INT:
        (void)snprintf(p->number[i], NUMBER_BYTES, "%lld", (long long)v->i);
        p->text[i] = p->number[i];
        return DR_OK;
    case DR_V_REAL:
        (void)snprintf(p->number[i], NUMBER_BYTES, "%.17g", v->r);
        p->text[i] = p->number[i];
        return DR_OK;
    case DR_V_TEXT:
        return set_text(p, i, v, err);
    case DR_V_BLOB:
        if (v->len > INT32_MAX) {
            return dr_fail(err, DR_INPUT, "parameter %u is larger than 2 GiB", i + 1);
        }
        p->text[i] = v->len == 0 ? "" : v->data;
        p->bytes[i] = (int)v->len;
        p->format[i] = 1;
        p->type[i] = OID_BYTEA;
        return DR_OK;
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        break;
    }
    return dr_fail(err, DR_INPUT, "parameter %u is of a type that SQL does not have", i + 1);
}

static enum dr_code make_params(struct params *p, const struct dr_value *param, uint32_t count,
                                struct dr_err *err)
{
    if (count == 0) {
        return DR_OK;
    }
    p->count = count;
    p->text = dr_calloc(count, sizeof *p->text);
    p->number = dr_calloc(count, sizeof *p->number);
    p->type = dr_calloc(count, sizeof *p->type);
    p->bytes = dr_calloc(count, sizeof *p->bytes);
    p->format = dr_calloc(count, sizeof *p->format);
    p->owned = dr_calloc(count, sizeof *p->owned);
    if (p->text == NULL || p->number == NULL || p->type == NULL || p->bytes == NULL ||
        p->format == NULL || p->owned == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = set_param(p, i, &param[i], err);
    }
    return rc;
}

/* ---- waiting ---- */

bool pg_wait(PGconn *pq, bool for_write, dr_mono_ms until)
{
    for (;;) {
        struct pollfd fd = {.fd = PQsocket(pq), .events = for_write ? POLLIN | POLLOUT : POLLIN};
        dr_mono_ms left = until - dr_mono_now();
        if (fd.fd < 0 || left <= 0) {
            return false;
        }
        int n = poll(&fd, 1, left > 1000 ? 1000 : (int)left);
        if (n > 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return false;
        }
    }
}

static enum dr_code fail_silent(struct pg_conn *c, struct dr_err *err)
{
    c->is_lost = true;
    return dr_fail(err, DR_UNREACHABLE,
                   "%s: no answer within %lld s; the connection is given up (read_timeout of the "
                   "URL is the limit)",
                   c->shown, (long long)(c->read_ms / 1000));
}

enum dr_code pg_flush_sent(struct pg_conn *c, struct dr_err *err)
{
    for (;;) {
        int left = PQflush(c->pq);
        if (left <= 0) {
            /* A failed write is told by the result: the server may have said why before. */
            return DR_OK;
        }
        if (!pg_wait(c->pq, true, dr_mono_now() + c->read_ms)) {
            return fail_silent(c, err);
        }
        (void)PQconsumeInput(c->pq);
    }
}

/* The next result, NULL in *out at the end of the statement. */
enum dr_code pg_next_result(struct pg_conn *c, PGresult **out, struct dr_err *err)
{
    *out = NULL;
    while (PQisBusy(c->pq)) {
        if (!pg_wait(c->pq, false, dr_mono_now() + c->read_ms)) {
            return fail_silent(c, err);
        }
        if (PQconsumeInput(c->pq) == 0 && PQstatus(c->pq) != CONNECTION_OK) {
            break; /* PQgetResult says what there is to say */
        }
    }
    *out = PQgetResult(c->pq);
    return DR_OK;
}

/* ---- rows ---- */

static enum dr_code decode_bytea(const char *text, size_t bytes, struct dr_value *out,
                                 unsigned char **owned, struct dr_err *err)
{
    static const char digits[] = "0123456789abcdef";
    if (bytes < 2 || text[0] != '\\' || text[1] != 'x' || bytes % 2 != 0) {
        return dr_fail(err, DR_CORRUPT, "a bytea did not come in hex; is bytea_output changed?");
    }
    unsigned char *data = dr_malloc(bytes / 2);
    if (data == NULL) {
        return dr_fail_nomem(err);
    }
    *owned = data;
    for (size_t i = 2; i < bytes; i += 2) {
        const char *high = memchr(digits, text[i], sizeof digits - 1);
        const char *low = memchr(digits, text[i + 1], sizeof digits - 1);
        if (high == NULL || low == NULL) {
            return dr_fail(err, DR_CORRUPT, "a bytea that is no hex");
        }
        data[i / 2 - 1] = (unsigned char)((high - digits) * 16 + (low - digits));
    }
    *out = (struct dr_value){.type = DR_V_BLOB, .data = data, .len = bytes / 2 - 1};
    return DR_OK;
}

static enum dr_code read_value(const PGresult *result, int column, struct dr_value *out,
                               unsigned char **owned, struct dr_err *err)
{
    const char *text = PQgetvalue(result, 0, column);
    size_t bytes = (size_t)PQgetlength(result, 0, column);
    *out = (struct dr_value){.type = DR_V_NULL};
    if (PQgetisnull(result, 0, column)) {
        return DR_OK;
    }
    switch (PQftype(result, column)) {
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
        out->type = DR_V_INT;
        return dr_parse_i64(text, &out->i)
                   ? DR_OK
                   : dr_fail(err, DR_CORRUPT, "an integer that is none: %.40s", text);
    case OID_BOOL:
        out->type = DR_V_INT;
        out->i = text[0] == 't';
        return DR_OK;
    case OID_BYTEA:
        return decode_bytea(text, bytes, out, owned, err);
    default: /* any other type's output function wrote a text */
        out->type = DR_V_TEXT;
        out->data = text;
        out->len = bytes;
        return DR_OK;
    }
}

static enum dr_code give_row(const PGresult *result, dr_sqldb_row_fn row, void *arg,
                             struct dr_err *err)
{
    int count = PQnfields(result);
    struct dr_value *value = dr_calloc((size_t)count + 1, sizeof *value);
    unsigned char **owned = dr_calloc((size_t)count + 1, sizeof *owned);
    enum dr_code rc = value == NULL || owned == NULL ? dr_fail_nomem(err) : DR_OK;
    for (int i = 0; rc == DR_OK && i < count; i++) {
        rc = read_value(result, i, &value[i], &owned[i], err);
    }
    if (rc == DR_OK) {
        rc = row(arg, value, (uint32_t)count, err);
    }
    for (int i = 0; owned != NULL && i < count; i++) {
        dr_free(owned[i]);
    }
    dr_free(owned);
    dr_free(value);
    return rc;
}

/* ---- one statement ---- */

struct reading {
    uint64_t *affected;
    dr_sqldb_row_fn row; /* NULL: rows are not wanted */
    void *arg;
    bool is_commit;
    uint64_t dropped;
};

void pg_stop_server(struct pg_conn *c)
{
    char message[256];
    PGcancel *cancel = PQgetCancel(c->pq);
    if (cancel != NULL) {
        (void)PQcancel(cancel, message, sizeof message); /* if it fails, the rows are read on */
        PQfreeCancel(cancel);
    }
}

static void note_affected(const PGresult *result, uint64_t *affected)
{
    uint64_t n = 0;
    if (dr_parse_u64(PQcmdTuples((PGresult *)result), &n)) {
        *affected = n;
    }
}

/* `rc` is what happened so far: after a failure everything else is read and dropped. */
static enum dr_code take_result(struct pg_conn *c, const PGresult *result, struct reading *r,
                                enum dr_code rc, struct dr_err *err)
{
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
        if (rc != DR_OK || r->row == NULL) {
            if (rc != DR_OK && ++r->dropped == DROPPED_ROWS_MAX) {
                pg_stop_server(c);
            }
            return rc;
        }
        return give_row(result, r->row, r->arg, err);
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        note_affected(result, r->affected);
        /* COMMIT of a failed transaction succeeds and rolls back. */
        if (rc == DR_OK && r->is_commit && strcmp(PQcmdStatus((PGresult *)result), "COMMIT") != 0) {
            return dr_fail(err, DR_CONFLICT,
                           "%s: the transaction was rolled back, for one of its statements failed",
                           c->shown);
        }
        return rc;
    case PGRES_EMPTY_QUERY:
        return rc != DR_OK ? rc : dr_fail(err, DR_INPUT, "%s: an empty statement", c->shown);
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_FATAL_ERROR: {
        enum dr_code failed = pg_fail_result(c, result, rc == DR_OK ? err : NULL);
        return rc == DR_OK ? failed : rc;
    }
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_COPY_BOTH:
        c->is_lost = true; /* nobody reads on: the connection is out of step */
        return rc != DR_OK ? rc
                           : dr_fail(err, DR_UNSUPPORTED, "%s: COPY is not supported", c->shown);
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
        break;
    }
    c->is_lost = true;
    return rc != DR_OK ? rc : dr_fail(err, DR_INTERNAL, "%s: an unexpected result", c->shown);
}

static enum dr_code read_results(struct pg_conn *c, struct reading *r, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (;;) {
        PGresult *result = NULL;
        enum dr_code got = pg_next_result(c, &result, rc == DR_OK ? err : NULL);
        if (got != DR_OK) {
            return rc == DR_OK ? got : rc;
        }
        if (result == NULL) {
            break;
        }
        rc = take_result(c, result, r, rc, err);
        PQclear(result);
        if (c->is_lost && PQstatus(c->pq) == CONNECTION_OK) {
            return rc; /* given up: what is left is not waited for */
        }
    }
    if (PQstatus(c->pq) != CONNECTION_OK) {
        c->is_lost = true;
        if (rc == DR_OK) {
            return pg_fail_conn(c, err);
        }
    }
    return rc;
}

enum dr_code pg_run(void *impl, const char *sql, const struct dr_value *param, uint32_t param_count,
                    uint64_t *affected, dr_sqldb_row_fn row, void *arg, struct dr_err *err)
{
    struct pg_conn *c = impl;
    struct params p = {0};
    struct dr_str text;
    uint32_t count = 0;
    struct reading r = {
        .affected = affected, .row = row, .arg = arg, .is_commit = strcmp(sql, "COMMIT") == 0};
    dr_str_init(&text);
    *affected = 0;
    enum dr_code rc = pg_rewrite(sql, &text, &count, err);
    if (rc != DR_OK) {
        goto out;
    }
    if (count != param_count || count > PARAMS_MAX) {
        rc = dr_fail(err, DR_INPUT,
                     "the statement has %u parameters (at most %d), %u values were given", count,
                     PARAMS_MAX, param_count);
        goto out;
    }
    rc = make_params(&p, param, param_count, err);
    if (rc != DR_OK) {
        goto out;
    }
    if (PQsendQueryParams(c->pq, dr_str_text(&text), (int)count, p.type, p.text, p.bytes, p.format,
                          0) == 0) {
        rc = pg_fail_conn(c, err);
        goto out;
    }
    (void)PQsetSingleRowMode(c->pq);
    rc = pg_flush_sent(c, err);
    if (rc == DR_OK) {
        rc = read_results(c, &r, err);
    }
out:
    free_params(&p);
    dr_str_fini(&text);
    return rc;
}
