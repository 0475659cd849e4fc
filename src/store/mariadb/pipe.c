/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of one server into others: read unbuffered in the text protocol, without any conversion of
 * character sets, and given to LOAD DATA LOCAL as it asks for more, so that source and target work
 * at the same time. Where a server allows no LOCAL, REPLACE with literals does the same, slower.
 *
 * LOCAL makes a server able to ask for any file of ours. It never gets one: the handler that the
 * library calls knows only the rows at hand, and refuses whenever no pipe is at work. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "store/mariadb/mariadb_private.h"

enum {
    ER_NOT_ALLOWED = 1148,
    ER_LOCAL_DISABLED_MYSQL = 3948,
    ER_LOCAL_DISABLED_MARIADB = 4166,
    STATEMENT_BYTES = 1024 * 1024,
};

/* ---- the rows on their way ---- */

struct feed {
    struct md_conn *source;
    MYSQL_RES *result;
    const MYSQL_FIELD *field;
    unsigned columns;
    uint64_t bytes_max;
    struct dr_sqldb_piped *out;
    struct dr_str text; /* lines that were read and not yet taken; with is_kept all of them */
    size_t taken;
    bool is_kept; /* for the targets that come later */
    bool is_end;
    enum dr_code rc;
    struct dr_err *err;
};

static void add_escaped(struct dr_str *to, const char *data, unsigned long bytes)
{
    static const char names[256] = {['\t'] = 't', ['\n'] = 'n', ['\\'] = '\\'};
    const char *from = data;
    const char *end = data + bytes;
    for (const char *at = data; at < end; at++) {
        char name = names[(unsigned char)*at];
        if (name != '\0') {
            char escape[2] = {'\\', name};
            dr_str_addn(to, from, (size_t)(at - from));
            dr_str_addn(to, escape, sizeof escape);
            from = at + 1;
        }
    }
    dr_str_addn(to, from, (size_t)(end - from));
}

static void add_line(struct feed *f, MYSQL_ROW row, const unsigned long *bytes)
{
    for (unsigned i = 0; i < f->columns; i++) {
        if (i > 0) {
            dr_str_addc(&f->text, '\t');
        }
        if (row[i] == NULL) {
            dr_str_addn(&f->text, "\\N", 2);
        } else {
            add_escaped(&f->text, row[i], bytes[i]);
            f->out->bytes += bytes[i];
        }
    }
    dr_str_addc(&f->text, '\n');
}

/* The next row of the source; NULL at the end, after a failure, or when it is too much. */
static MYSQL_ROW read_row(struct feed *f, const unsigned long **bytes)
{
    if (f->is_end) {
        return NULL;
    }
    MYSQL_ROW row = f->out->bytes > f->bytes_max ? NULL : mysql_fetch_row(f->result);
    if (row != NULL) {
        *bytes = mysql_fetch_lengths(f->result);
        f->out->rows++;
        return row;
    }
    f->is_end = true;
    f->out->is_over = f->out->bytes > f->bytes_max;
    if (!f->out->is_over && mysql_errno(f->source->mysql) != 0) {
        f->rc = md_fail_conn(f->source, f->err);
    }
    return NULL;
}

/* Read until `bytes` can be taken, or the end. */
static void fill(struct feed *f, size_t bytes)
{
    const unsigned long *lengths = NULL;
    if (!f->is_kept && f->taken == f->text.len) {
        dr_str_clear(&f->text);
        f->taken = 0;
    }
    while (f->rc == DR_OK && f->text.len - f->taken < bytes) {
        MYSQL_ROW row = read_row(f, &lengths);
        if (row == NULL) {
            return;
        }
        add_line(f, row, lengths);
        if (f->text.is_short) {
            f->rc = dr_fail_nomem(f->err);
        }
    }
}

/* ---- what the library calls ---- */

static int begin_feed(void **state, const char *name, void *arg)
{
    (void)name;
    *state = arg;
    return arg == NULL;
}

/* An end before the end, after a failure, makes the server keep the rows so far: the caller rolls
 * back. */
static int read_feed(void *state, char *buf, unsigned bytes)
{
    struct feed *f = state;
    fill(f, bytes);
    if (f->rc != DR_OK) {
        return 0;
    }
    size_t n = f->text.len - f->taken < bytes ? f->text.len - f->taken : bytes;
    if (n > 0) {
        memcpy(buf, f->text.data + f->taken, n);
    }
    f->taken += n;
    return (int)n;
}

static void end_feed(void *state)
{
    (void)state;
}

static int tell_feed(void *state, char *buf, unsigned bytes)
{
    (void)state;
    (void)snprintf(buf, bytes, "drover gives no files");
    return ER_NOT_ALLOWED;
}

void md_refuse_local(MYSQL *mysql)
{
    mysql_set_local_infile_handler(mysql, begin_feed, read_feed, end_feed, tell_feed, NULL);
}

/* ---- targets ---- */

static bool is_local_refused(struct md_conn *c)
{
    unsigned number = mysql_errno(c->mysql);
    return number == ER_NOT_ALLOWED || number == ER_LOCAL_DISABLED_MYSQL ||
           number == ER_LOCAL_DISABLED_MARIADB;
}

static enum dr_code note_warning(void *arg, const struct dr_value *value, uint32_t count,
                                 struct dr_err *err)
{
    struct dr_str *text = arg;
    (void)err;
    if (text->len == 0 && count == 3 && value[2].type == DR_V_TEXT) {
        dr_str_addn(text, value[2].data, value[2].len);
    }
    return DR_OK;
}

/* A warning means that something else was stored than what was sent. */
static enum dr_code check_warnings(struct md_conn *c, struct dr_err *err)
{
    struct dr_str text;
    uint64_t affected = 0;
    if (mysql_warning_count(c->mysql) == 0) {
        return DR_OK;
    }
    dr_str_init(&text);
    enum dr_code rc = md_run_text(c, "SHOW WARNINGS", &affected, note_warning, &text, err);
    if (rc == DR_OK) {
        rc = dr_fail(err, DR_CONFLICT, "%s: rows would not be stored as they were read: %.300s",
                     c->shown, dr_str_text(&text));
    }
    dr_str_fini(&text);
    return rc;
}

/* *is_refused_out: the server takes no LOCAL, and nothing was read for it. */
static enum dr_code load(struct md_conn *c, const char *into, const char *columns, struct feed *f,
                         bool *is_refused_out, struct dr_err *err)
{
    uint64_t affected = 0;
    enum dr_code rc = DR_OK;
    char *sql = dr_asprintf("LOAD DATA LOCAL INFILE 'drover' REPLACE INTO TABLE %s CHARACTER SET "
                            "binary (%s)",
                            into, columns);
    if (sql == NULL) {
        return dr_fail_nomem(err);
    }
    f->taken = 0;
    mysql_set_local_infile_handler(c->mysql, begin_feed, read_feed, end_feed, tell_feed, f);
    rc = md_run_text(c, sql, &affected, NULL, NULL, err);
    md_refuse_local(c->mysql);
    dr_free(sql);
    *is_refused_out = rc != DR_OK && !c->is_lost && is_local_refused(c);
    c->is_local_off = c->is_local_off || *is_refused_out;
    if (f->rc != DR_OK) {
        return f->rc;
    }
    return rc == DR_OK ? check_warnings(c, err) : rc;
}

/* ---- without LOCAL ---- */

static void add_hex(struct dr_str *to, const char *data, unsigned long bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    char chunk[1024];
    size_t n = 0;
    dr_str_addn(to, "x'", 2);
    for (unsigned long i = 0; i < bytes; i++) {
        chunk[n++] = digits[(unsigned char)data[i] >> 4];
        chunk[n++] = digits[(unsigned char)data[i] & 15];
        if (n == sizeof chunk) {
            dr_str_addn(to, chunk, n);
            n = 0;
        }
    }
    dr_str_addn(to, chunk, n);
    dr_str_addc(to, '\'');
}

/* Numbers and times stand for themselves; all else is bytes. */
static void add_literal(struct dr_str *to, const MYSQL_FIELD *f, const char *data,
                        unsigned long bytes)
{
    bool is_time = f->type == MYSQL_TYPE_DATE || f->type == MYSQL_TYPE_TIME ||
                   f->type == MYSQL_TYPE_DATETIME || f->type == MYSQL_TYPE_TIMESTAMP;
    if (data == NULL) {
        dr_str_add(to, "NULL");
    } else if (is_time) {
        dr_str_addf(to, "'%.*s'", (int)bytes, data);
    } else if (IS_NUM(f->type)) {
        dr_str_addn(to, data, bytes);
    } else {
        add_hex(to, data, bytes);
    }
}

static enum dr_code replace_rows(struct feed *f, struct md_conn *const *target,
                                 const char *const *into, uint32_t target_count,
                                 const char *columns, const char *values, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < target_count; i++) {
        uint64_t affected = 0;
        char *sql = dr_asprintf("REPLACE INTO %s (%s) VALUES %s", into[i], columns, values);
        rc = sql == NULL ? dr_fail_nomem(err)
                         : md_run_text(target[i], sql, &affected, NULL, NULL, err);
        rc = rc == DR_OK ? check_warnings(target[i], err) : rc;
        dr_free(sql);
    }
    f->rc = rc;
    return rc;
}

static enum dr_code pass_literals(struct feed *f, struct md_conn *const *target,
                                  const char *const *into, uint32_t target_count,
                                  const char *columns, struct dr_err *err)
{
    const unsigned long *bytes = NULL;
    MYSQL_ROW row = NULL;
    dr_str_clear(&f->text);
    while (f->rc == DR_OK && (row = read_row(f, &bytes)) != NULL) {
        dr_str_add(&f->text, f->text.len == 0 ? "(" : ",(");
        for (unsigned i = 0; i < f->columns; i++) {
            if (i > 0) {
                dr_str_addc(&f->text, ',');
            }
            add_literal(&f->text, &f->field[i], row[i], bytes[i]);
            f->out->bytes += bytes[i];
        }
        dr_str_addc(&f->text, ')');
        if (f->text.is_short) {
            f->rc = dr_fail_nomem(err);
        } else if (f->text.len >= STATEMENT_BYTES) {
            (void)replace_rows(f, target, into, target_count, columns, f->text.data, err);
            dr_str_clear(&f->text);
        }
    }
    if (f->rc == DR_OK && f->text.len > 0) {
        (void)replace_rows(f, target, into, target_count, columns, f->text.data, err);
    }
    return f->rc;
}

/* ---- the pipe ---- */

static enum dr_code pass_rows(struct feed *f, struct md_conn *const *target,
                              const char *const *into, uint32_t target_count, const char *columns,
                              struct dr_err *err)
{
    bool is_local_off = false;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < target_count; i++) {
        is_local_off = is_local_off || target[i]->is_local_off;
    }
    for (uint32_t i = 0; !is_local_off && rc == DR_OK && i < target_count; i++) {
        bool is_refused = false;
        rc = load(target[i], into[i], columns, f, &is_refused, err);
        if (is_refused && i == 0) {
            is_local_off = true;
            rc = DR_OK;
        } else if (is_refused) {
            return dr_fail(err, DR_BUSY, "%s takes no LOAD DATA LOCAL; again, with REPLACE",
                           target[i]->shown);
        }
    }
    return is_local_off ? pass_literals(f, target, into, target_count, columns, err) : rc;
}

/* The server converts nothing it answers, or converts as everybody else expects it. */
static enum dr_code set_results(struct md_conn *c, bool is_raw, struct dr_err *err)
{
    uint64_t affected = 0;
    enum dr_code rc = md_run_text(c,
                                  is_raw ? "SET SESSION character_set_results = NULL"
                                         : "SET SESSION character_set_results = utf8mb4",
                                  &affected, NULL, NULL, err);
    if (rc != DR_OK && !is_raw) {
        c->is_lost = true; /* nobody may read with the wrong setting */
    }
    return rc;
}

enum dr_code md_pipe(void *source, void *const *target, const char *const *into,
                     uint32_t target_count, const struct dr_sqldb_pipe *pipe,
                     struct dr_sqldb_piped *out, struct dr_err *err)
{
    struct md_conn *to[DR_SQLDB_PIPE_MAX];
    struct feed f = {.source = source,
                     .bytes_max = pipe->bytes_max,
                     .out = out,
                     .is_kept = target_count > 1,
                     .err = err};
    assert(target_count <= DR_SQLDB_PIPE_MAX);
    for (uint32_t i = 0; i < target_count; i++) {
        to[i] = target[i];
    }
    enum dr_code rc = set_results(f.source, true, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&f.text);
    if (mysql_real_query(f.source->mysql, pipe->select, (unsigned long)strlen(pipe->select)) != 0 ||
        (f.result = mysql_use_result(f.source->mysql)) == NULL) {
        rc = md_fail_conn(f.source, err);
        goto out;
    }
    f.field = mysql_fetch_fields(f.result);
    f.columns = mysql_num_fields(f.result);
    rc = pass_rows(&f, to, into, target_count, pipe->columns, err);
    mysql_free_result(f.result); /* reads what is left */
out:
    if (!f.source->is_lost) {
        enum dr_code set = set_results(f.source, false, rc == DR_OK ? err : NULL);
        rc = rc == DR_OK ? set : rc;
    }
    dr_str_fini(&f.text);
    return rc;
}
