/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the use of SQLite's API and the wording of its failures. A connection belongs to one thread
 * at a time: it is opened without SQLite's own mutex. */
#include "base/sql.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"

enum { WHAT_BYTES = 80, WHAT_WORDS = 3 };

struct sql_rule {
    int primary; /* SQLite's code without its extension */
    enum dr_code code;
    const char *plain;
    const char *remedy;
};

static const struct sql_rule rules[] = {
    {SQLITE_BUSY, DR_BUSY, "locked by another process",
     "wait until it has finished and run the same command again"},
    {SQLITE_LOCKED, DR_BUSY, "locked by another statement", "run the same command again"},
    {SQLITE_FULL, DR_FULL, "disk full", "free space and run the same command again"},
    {SQLITE_CORRUPT, DR_CORRUPT, "damaged database file",
     "keep a copy, then restore a backup or use sqlite3's .recover"},
    {SQLITE_NOTADB, DR_CORRUPT, "not a SQLite database",
     "check the path, or restore the file from a backup"},
    {SQLITE_READONLY, DR_READONLY, "not writable",
     "check the owner and mode of the file, its folder and the mount"},
    {SQLITE_IOERR, DR_IO, "input/output error",
     "check the disk and the kernel log, then run the same command again"},
    {SQLITE_CANTOPEN, DR_UNREACHABLE, "cannot be opened",
     "check that the path exists and that this user may open the file and its folder"},
    {SQLITE_NOMEM, DR_NOMEM, "out of memory", "free memory and run the same command again"},
    {SQLITE_CONSTRAINT, DR_CONFLICT, "a constraint does not hold",
     "something else is there now; look at it before repeating"},
    {SQLITE_PERM, DR_DENIED, "not permitted", "check the owner and mode of the file"},
    {SQLITE_AUTH, DR_DENIED, "not permitted", "check the owner and mode of the file"},
    {SQLITE_MISUSE, DR_INTERNAL, "wrong use of SQLite", "this is a mistake in drover; report it"},
};

static const struct sql_rule other_rule = {SQLITE_ERROR, DR_INPUT, "statement refused",
                                           "check the statement and the table it names"};

/* The rule for this failure; a full disk may hide behind an I/O error, memory as well. */
static const struct sql_rule *find_rule(const struct dr_sql *s, int sqlite_rc)
{
    int primary = sqlite_rc & 0xff;
    if (sqlite_rc == SQLITE_IOERR_NOMEM) {
        primary = SQLITE_NOMEM;
    } else if (primary == SQLITE_IOERR && s->db != NULL) {
        int system = sqlite3_system_errno(s->db);
        primary = system == ENOSPC || system == EDQUOT ? SQLITE_FULL : primary;
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].primary == primary) {
            return &rules[i];
        }
    }
    return &other_rule;
}

enum dr_code dr_sql_fail(struct dr_sql *s, int sqlite_rc, const char *what, struct dr_err *err)
{
    const struct sql_rule *rule = find_rule(s, sqlite_rc);
    const char *detail = sqlite3_errstr(sqlite_rc);
    /* The connection's own text is richer, but may belong to another call by now. */
    if (s->db != NULL && (sqlite3_extended_errcode(s->db) & 0xff) == (sqlite_rc & 0xff)) {
        detail = sqlite3_errmsg(s->db);
    }
    return dr_fail(err, rule->code, "%s: %s while %s (%s); %s",
                   s->path == NULL ? "database" : s->path, rule->plain, what, detail, rule->remedy);
}

/* "running INSERT INTO step": enough to find the statement. It stops before anything that can be
 * a user's value, because messages are logged. */
static const char *describe_sql(const char *sql, char *buf, size_t buf_bytes)
{
    dr_copy_text(buf, buf_bytes, "running ");
    size_t used = strlen(buf);
    unsigned words = 0;
    const char *at = sql == NULL ? "" : sql + strspn(sql, " \t\r\n");
    while (*at != '\0' && words < WHAT_WORDS) {
        size_t length = strcspn(at, " \t\r\n('\"=;,");
        if (length == 0 || used + length + 2 > buf_bytes) {
            break;
        }
        if (words > 0) {
            buf[used++] = ' ';
        }
        memcpy(buf + used, at, length);
        used += length;
        words++;
        at += length;
        at += strspn(at, " \t\r\n");
    }
    buf[used] = '\0';
    if (words == 0) {
        dr_copy_text(buf, buf_bytes, "running a statement");
    }
    return buf;
}

/* SQLite would make the file readable for everybody, and it may hold users' rows. mknod() makes it
 * without a descriptor: closing one would drop the locks of this process on the file. */
static void make_private_file(const char *path)
{
    if (path[0] == '\0' || path[0] == ':') {
        return;
    }
    /* A failure shows up again, with a better text, when SQLite opens the file. */
    int rc = mknod(path, S_IFREG | 0600, 0);
    (void)rc;
}

/* Reads the header now, so that a file which is no database is refused at opening. */
static enum dr_code check_opened(struct dr_sql *s, unsigned flags, struct dr_err *err)
{
    int rc = sqlite3_exec(s->db, "PRAGMA schema_version", NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        return dr_sql_fail(s, rc, "opening", err);
    }
    /* SQLite silently falls back to reading only; a caller who wants to write must hear it now. */
    if ((flags & DR_SQL_READONLY) == 0 && sqlite3_db_readonly(s->db, "main") == 1) {
        return dr_sql_fail(s, SQLITE_READONLY, "opening", err);
    }
    return DR_OK;
}

enum dr_code dr_sql_open(struct dr_sql *s, const char *path, unsigned flags, uint32_t busy_ms,
                         struct dr_err *err)
{
    assert((flags & ~(unsigned)(DR_SQL_READONLY | DR_SQL_CREATE)) == 0);
    assert(flags != (DR_SQL_READONLY | DR_SQL_CREATE));
    *s = (struct dr_sql){0};
    s->path = dr_strdup(path);
    if (s->path == NULL) {
        return dr_fail_nomem(err);
    }

    int mode = SQLITE_OPEN_NOMUTEX;
    mode |= (flags & DR_SQL_READONLY) != 0 ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if ((flags & DR_SQL_CREATE) != 0) {
        mode |= SQLITE_OPEN_CREATE;
        make_private_file(path);
    }
    enum dr_code rc = DR_OK;
    int sqlite_rc = sqlite3_open_v2(path, &s->db, mode, NULL);
    if (sqlite_rc != SQLITE_OK) {
        rc = dr_sql_fail(s, sqlite_rc, "opening", err);
        goto out;
    }
    (void)sqlite3_extended_result_codes(s->db, 1);
    (void)sqlite3_busy_timeout(s->db, busy_ms > INT32_MAX ? INT32_MAX : (int)busy_ms);
    rc = check_opened(s, flags, err);
out:
    if (rc != DR_OK) {
        dr_sql_close(s);
    }
    return rc;
}

void dr_sql_close(struct dr_sql *s)
{
    if (s == NULL) {
        return;
    }
    /* close_v2 also accepts statements still open: they keep the connection until they end. */
    (void)sqlite3_close_v2(s->db);
    dr_free(s->path);
    *s = (struct dr_sql){0};
}

enum dr_code dr_sql_exec(struct dr_sql *s, const char *sql, struct dr_err *err)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        char what[WHAT_BYTES];
        return dr_sql_fail(s, rc, describe_sql(sql, what, sizeof what), err);
    }
    return DR_OK;
}

enum dr_code dr_sql_execf(struct dr_sql *s, struct dr_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *sql = sqlite3_vmprintf(fmt, args);
    va_end(args);
    if (sql == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_sql_exec(s, sql, err);
    sqlite3_free(sql);
    return rc;
}

enum dr_code dr_sql_prepare(struct dr_sql *s, const char *sql, sqlite3_stmt **out,
                            struct dr_err *err)
{
    *out = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);
    if (rc != SQLITE_OK) {
        char what[WHAT_BYTES];
        return dr_sql_fail(s, rc, describe_sql(sql, what, sizeof what), err);
    }
    if (*out == NULL) {
        return dr_fail(err, DR_INPUT, "%s: the statement is empty", s->path);
    }
    return DR_OK;
}

enum dr_code dr_sql_step(struct dr_sql *s, sqlite3_stmt *st, bool *row_out, struct dr_err *err)
{
    *row_out = false;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *row_out = true;
        return DR_OK;
    }
    if (rc == SQLITE_DONE) {
        return DR_OK;
    }
    char what[WHAT_BYTES];
    enum dr_code code = dr_sql_fail(s, rc, describe_sql(sqlite3_sql(st), what, sizeof what), err);
    (void)sqlite3_reset(st);
    return code;
}

enum dr_code dr_sql_run(struct dr_sql *s, sqlite3_stmt *st, struct dr_err *err)
{
    bool is_row = false;
    enum dr_code rc = dr_sql_step(s, st, &is_row, err);
    /* A RETURNING clause gives rows nobody reads here; going on to the end completes the write. */
    while (rc == DR_OK && is_row) {
        rc = dr_sql_step(s, st, &is_row, err);
    }
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return rc;
}

enum dr_code dr_sql_int(struct dr_sql *s, const char *sql, int64_t absent, int64_t *out,
                        struct dr_err *err)
{
    *out = absent;
    sqlite3_stmt *st = NULL;
    enum dr_code rc = dr_sql_prepare(s, sql, &st, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_row = false;
    rc = dr_sql_step(s, st, &is_row, err);
    if (rc == DR_OK && is_row && sqlite3_column_type(st, 0) != SQLITE_NULL) {
        *out = sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st);
    return rc;
}

enum dr_code dr_sql_begin(struct dr_sql *s, struct dr_err *err)
{
    /* IMMEDIATE takes the write lock now: a read that turns into a write later could not wait. */
    return dr_sql_exec(s, "BEGIN IMMEDIATE", err);
}

enum dr_code dr_sql_commit(struct dr_sql *s, struct dr_err *err)
{
    enum dr_code rc = dr_sql_exec(s, "COMMIT", err);
    if (rc != DR_OK) {
        dr_sql_rollback(s);
    }
    return rc;
}

void dr_sql_rollback(struct dr_sql *s)
{
    if (s->db == NULL || sqlite3_get_autocommit(s->db) != 0) {
        return;
    }
    (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

const char *dr_sql_text(sqlite3_stmt *st, int column)
{
    const unsigned char *text = sqlite3_column_text(st, column);
    return text == NULL ? "" : (const char *)text;
}
