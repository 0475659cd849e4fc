/* SPDX-License-Identifier: Apache-2.0 */
/* COPY of one server to COPY of others: rows pass through as the servers write them. What is read
 * is sent on at once, so that the source reads while the targets write. */
#include <assert.h>
#include <string.h>

#include "store/postgres/postgres_private.h"

enum { FLUSH_BYTES = 256 * 1024 };

/* Send a COPY and wait until the server is in its middle. */
static enum dr_code begin_copy(struct pg_conn *c, const char *sql, ExecStatusType wanted,
                               struct dr_err *err)
{
    PGresult *result = NULL;
    if (PQsendQuery(c->pq, sql) == 0) {
        return pg_fail_conn(c, err);
    }
    enum dr_code rc = pg_flush_sent(c, err);
    rc = rc == DR_OK ? pg_next_result(c, &result, err) : rc;
    if (rc == DR_OK && PQresultStatus(result) != wanted) {
        rc = result == NULL ? pg_fail_conn(c, err) : pg_fail_result(c, result, err);
    }
    PQclear(result);
    return rc;
}

/* Read what is left of a statement. Counts of the last result; the first failure is told. */
static enum dr_code finish_copy(struct pg_conn *c, uint64_t *rows, struct dr_err *err)
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
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_COMMAND_OK) {
            (void)dr_parse_u64(PQcmdTuples(result), rows);
        } else if (status == PGRES_COPY_OUT || status == PGRES_COPY_IN) {
            c->is_lost = true; /* out of step */
            PQclear(result);
            return rc == DR_OK ? dr_fail(err, DR_INTERNAL, "%s: COPY is out of step", c->shown)
                               : rc;
        } else if (rc == DR_OK) {
            rc = pg_fail_result(c, result, err);
        }
        PQclear(result);
    }
    if (PQstatus(c->pq) != CONNECTION_OK) {
        c->is_lost = true;
        rc = rc == DR_OK ? pg_fail_conn(c, err) : rc;
    }
    return rc;
}

/* The next row: *bytes -1 at the end. */
static enum dr_code next_row(struct pg_conn *c, char **row, int *bytes, struct dr_err *err)
{
    for (;;) {
        *bytes = PQgetCopyData(c->pq, row, 1);
        if (*bytes == -2) {
            return pg_fail_conn(c, err);
        }
        if (*bytes != 0) {
            return DR_OK;
        }
        if (!pg_wait(c->pq, false, dr_mono_now() + c->read_ms)) {
            c->is_lost = true;
            return dr_fail(err, DR_UNREACHABLE, "%s: no row within %lld s", c->shown,
                           (long long)(c->read_ms / 1000));
        }
        if (PQconsumeInput(c->pq) == 0) {
            return pg_fail_conn(c, err);
        }
    }
}

struct stream {
    struct pg_conn *source;
    struct pg_conn *target[DR_SQLDB_PIPE_MAX];
    uint32_t target_count;
    uint32_t begun_count; /* targets that are in the middle of a COPY */
    bool is_source_begun;
    bool is_source_read; /* to its end */
};

static enum dr_code send_row(struct stream *s, const char *row, int bytes, struct dr_err *err)
{
    for (uint32_t i = 0; i < s->target_count; i++) {
        if (PQputCopyData(s->target[i]->pq, row, bytes) != 1) {
            return pg_fail_conn(s->target[i], err);
        }
    }
    return DR_OK;
}

static enum dr_code pass_rows(struct stream *s, uint64_t bytes_max, struct dr_sqldb_piped *out,
                              struct dr_err *err)
{
    uint64_t unsent = 0;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK) {
        char *row = NULL;
        int bytes = 0;
        rc = next_row(s->source, &row, &bytes, err);
        if (rc != DR_OK || bytes < 0) {
            s->is_source_read = rc == DR_OK;
            break;
        }
        rc = send_row(s, row, bytes, err);
        PQfreemem(row);
        out->bytes += (uint64_t)bytes;
        unsent += (uint64_t)bytes;
        out->is_over = out->bytes > bytes_max;
        if (rc != DR_OK || out->is_over) {
            break;
        }
        for (uint32_t i = 0; unsent >= FLUSH_BYTES && rc == DR_OK && i < s->target_count; i++) {
            rc = pg_flush_sent(s->target[i], err);
        }
        unsent = unsent >= FLUSH_BYTES ? 0 : unsent;
    }
    return rc;
}

/* End both sides in order. `why`: NULL, or why the targets have to forget the rows. */
static enum dr_code end_stream(struct stream *s, const char *why, struct dr_sqldb_piped *out,
                               struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint64_t rows = 0;
    if (s->is_source_begun && !s->is_source_read && !s->source->is_lost) {
        char *row = NULL;
        int bytes = 0;
        pg_stop_server(s->source);
        while (next_row(s->source, &row, &bytes, NULL) == DR_OK && bytes > 0) {
            PQfreemem(row);
        }
    }
    if (s->is_source_begun && !s->source->is_lost) {
        enum dr_code got = finish_copy(s->source, &rows, why == NULL ? err : NULL);
        if (got != DR_OK && why == NULL) {
            rc = got; /* else it is our own cancelling */
            why = "drover: the source failed";
        }
    }
    for (uint32_t i = 0; i < s->begun_count; i++) {
        struct pg_conn *c = s->target[i];
        bool is_told = rc == DR_OK && why == NULL;
        if (c->is_lost) {
            continue;
        }
        enum dr_code got = PQputCopyEnd(c->pq, why) == 1 ? pg_flush_sent(c, is_told ? err : NULL)
                                                         : pg_fail_conn(c, is_told ? err : NULL);
        got = got == DR_OK ? finish_copy(c, &out->rows, is_told ? err : NULL) : got;
        rc = is_told ? got : rc;
    }
    return rc;
}

enum dr_code pg_pipe(void *source, void *const *target, const char *const *into,
                     uint32_t target_count, const struct dr_sqldb_pipe *pipe,
                     struct dr_sqldb_piped *out, struct dr_err *err)
{
    struct stream s = {.source = source, .target_count = target_count};
    struct dr_str text;
    const char *format = pipe->is_binary ? " (FORMAT binary)" : "";
    enum dr_code rc = DR_OK;
    assert(target_count <= DR_SQLDB_PIPE_MAX);
    dr_str_init(&text);
    for (uint32_t i = 0; rc == DR_OK && i < target_count; i++) {
        s.target[i] = target[i];
        dr_str_clear(&text);
        dr_str_addf(&text, "COPY %s (%s) FROM STDIN%s", into[i], pipe->columns, format);
        rc = text.is_short ? dr_fail_nomem(err)
                           : begin_copy(s.target[i], dr_str_text(&text), PGRES_COPY_IN, err);
        s.begun_count += rc == DR_OK;
    }
    if (rc == DR_OK) {
        dr_str_clear(&text);
        dr_str_addf(&text, "COPY (%s) TO STDOUT%s", pipe->select, format);
        rc = text.is_short ? dr_fail_nomem(err)
                           : begin_copy(s.source, dr_str_text(&text), PGRES_COPY_OUT, err);
        s.is_source_begun = rc == DR_OK;
    }
    if (rc == DR_OK) {
        rc = pass_rows(&s, pipe->bytes_max, out, err);
    }
    const char *why = rc != DR_OK || out->is_over ? "drover: given up" : NULL;
    enum dr_code ended = end_stream(&s, why, out, err);
    dr_str_fini(&text);
    return rc == DR_OK ? ended : rc;
}
