/* SPDX-License-Identifier: Apache-2.0 */
/* Real SQL servers for tests, started by tests/support/sql_server.sh and stopped at the end of the
 * test program, however it ends. */
#ifndef DR_TESTS_SQL_HELP_H
#define DR_TESTS_SQL_HELP_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "store/sqldb.h"

enum { SQL_URL_BYTES = 256, SQL_COMMAND_BYTES = 1024 };

struct sql_server {
    char kind[16]; /* "mariadb", "postgres"; "" is not started */
    char folder[64];
    char url[SQL_URL_BYTES];       /* as the ordinary user "drover" */
    char admin_url[SQL_URL_BYTES]; /* as the superuser */
    char socket[128];
    int port;
    long pid;
};

/* Beside this file, or where DROVER_TESTS_DIR says. */
static DR_UNUSED const char *sql_script(char *buf, size_t bytes)
{
    const char *folder = getenv("DROVER_TESTS_DIR");
    if (folder != NULL) {
        (void)snprintf(buf, bytes, "%s/support/sql_server.sh", folder);
    } else {
        const char *file = __FILE__;
        const char *slash = strrchr(file, '/');
        (void)snprintf(buf, bytes, "%.*s/../support/sql_server.sh", (int)(slash - file), file);
    }
    return buf;
}

static DR_UNUSED void sql_note(struct sql_server *s, const char *line)
{
    static const char *const names[] = {"URL=", "ADMIN_URL=", "SOCKET="};
    char *to[] = {s->url, s->admin_url, s->socket};
    size_t room[] = {sizeof s->url, sizeof s->admin_url, sizeof s->socket};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = strlen(names[i]);
        if (strncmp(line, names[i], bytes) == 0) {
            (void)snprintf(to[i], room[i], "%.*s", (int)strcspn(line + bytes, "\n"), line + bytes);
        }
    }
    if (strncmp(line, "PORT=", 5) == 0) {
        s->port = (int)strtol(line + 5, NULL, 10);
    }
    if (strncmp(line, "PID=", 4) == 0) {
        s->pid = strtol(line + 4, NULL, 10);
    }
}

/* Run "sql_server.sh WORDS"; reads the facts it prints. */
static DR_UNUSED void sql_control(struct sql_server *s, const char *words)
{
    char script[SQL_COMMAND_BYTES / 2];
    char command[SQL_COMMAND_BYTES];
    char line[SQL_URL_BYTES + 16];
    (void)snprintf(command, sizeof command, "'%s' %s", sql_script(script, sizeof script), words);
    FILE *f = popen(command, "r"); /* NOLINT(cert-env33-c) */
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        sql_note(s, line);
    }
    if (pclose(f) != 0) {
        fail_msg("failed: %s", command);
    }
}

/* `options` are more options for the server, or "". */
static DR_UNUSED void sql_start_with(struct sql_server *s, const char *kind, const char *options)
{
    char words[SQL_COMMAND_BYTES / 2];
    *s = (struct sql_server){0};
    (void)snprintf(s->folder, sizeof s->folder, "/tmp/drover-sql-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    (void)snprintf(s->kind, sizeof s->kind, "%s", kind);
    (void)snprintf(words, sizeof words, "start %s %s --owner %d %s", kind, s->folder, (int)getpid(),
                   options);
    sql_control(s, words);
    assert_true(s->url[0] != '\0' && s->admin_url[0] != '\0' && s->port != 0);
}

static DR_UNUSED void sql_start(struct sql_server *s, const char *kind)
{
    sql_start_with(s, kind, "");
}

/* verb: halt, crash, again */
static DR_UNUSED void sql_tell(struct sql_server *s, const char *verb)
{
    char words[128];
    (void)snprintf(words, sizeof words, "%s %s", verb, s->folder);
    sql_control(s, words);
}

static DR_UNUSED void sql_stop(struct sql_server *s)
{
    if (s->kind[0] != '\0') {
        sql_tell(s, "stop");
        (void)rmdir(s->folder);
    }
    *s = (struct sql_server){0};
}

/* ---- statements that must work ---- */

static DR_UNUSED void sql_must(enum dr_code rc, const struct dr_err *e)
{
    if (rc != DR_OK) {
        fail_msg("%s: %s", dr_code_name(rc), e->msg);
    }
}

static DR_UNUSED struct dr_sqldb *sql_open(const char *url)
{
    struct dr_err e = {0};
    struct dr_sqldb *db = NULL;
    sql_must(dr_sqldb_open(url, &db, &e), &e);
    assert_non_null(db);
    return db;
}

static DR_UNUSED void sql_do(struct dr_sqldb *db, const char *sql)
{
    struct dr_err e = {0};
    enum dr_code rc = dr_sqldb_exec(db, sql, NULL, 0, NULL, &e);
    if (rc != DR_OK) {
        fail_msg("%s: %s: %s", sql, dr_code_name(rc), e.msg);
    }
}

/* First value of the first row as a number; INT64_MIN for NULL or no row. */
static DR_UNUSED int64_t sql_number(struct dr_sqldb *db, const char *sql)
{
    struct dr_err e = {0};
    struct dr_arena *a = dr_arena_create(4096);
    struct dr_value v;
    bool is_found = false;
    assert_non_null(a);
    enum dr_code rc = dr_sqldb_value(db, sql, NULL, 0, a, &v, &is_found, &e);
    if (rc != DR_OK) {
        fail_msg("%s: %s: %s", sql, dr_code_name(rc), e.msg);
    }
    int64_t n = !is_found             ? INT64_MIN
                : v.type == DR_V_INT  ? v.i
                : v.type == DR_V_TEXT ? strtoll(v.data, NULL, 10)
                                      : INT64_MIN;
    dr_arena_destroy(a);
    return n;
}

static DR_UNUSED struct dr_value sql_text(const char *text)
{
    return (struct dr_value){.type = DR_V_TEXT, .data = text, .len = strlen(text)};
}

static DR_UNUSED struct dr_value sql_int(int64_t i)
{
    return (struct dr_value){.type = DR_V_INT, .i = i};
}

static DR_UNUSED struct dr_value sql_blob(const void *data, size_t bytes)
{
    return (struct dr_value){.type = DR_V_BLOB, .data = data, .len = bytes};
}

#endif
