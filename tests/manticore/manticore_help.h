/* SPDX-License-Identifier: Apache-2.0 */
/* Manticore nodes for tests (stand-ins of tests/support, or real ones), and a plain client that
 * sends what drover itself would not. */
#ifndef DR_TESTS_MANTICORE_HELP_H
#define DR_TESTS_MANTICORE_HELP_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <mysql.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "store/store.h"

enum { MT_NODES = 3, MT_TEXT = 160 };

struct nodes {
    char folder[64];
    char sql[MT_NODES][MT_TEXT];
    char binary[MT_NODES][MT_TEXT];
    char data[MT_NODES][MT_TEXT];
    struct dr_store *store[MT_NODES];
    bool is_real;
};

static DR_UNUSED void nodes_note(struct nodes *n, const char *line)
{
    int k = 0;
    char value[MT_TEXT];
    if (sscanf(line, "NODE%d=%159s", &k, value) == 2 && k >= 1 && k <= MT_NODES) {
        memcpy(n->sql[k - 1], value, sizeof value);
    } else if (sscanf(line, "BINARY%d=%159s", &k, value) == 2 && k >= 1 && k <= MT_NODES) {
        memcpy(n->binary[k - 1], value, sizeof value);
    } else if (sscanf(line, "DATA%d=%159s", &k, value) == 2 && k >= 1 && k <= MT_NODES) {
        memcpy(n->data[k - 1], value, sizeof value);
    }
    n->is_real = n->is_real || strncmp(line, "REAL=1", 6) == 0;
}

/* Run "manticore_server.sh WORDS"; reads the facts it prints. */
static DR_UNUSED void nodes_control(struct nodes *n, const char *words)
{
    char command[1024], line[512];
    const char *folder = getenv("DROVER_TESTS_DIR");
    const char *file = __FILE__;
    int bytes = (int)(strrchr(file, '/') - file);
    if (folder != NULL) {
        (void)snprintf(command, sizeof command, "'%s/support/manticore_server.sh' %s", folder,
                       words);
    } else {
        (void)snprintf(command, sizeof command, "'%.*s/../support/manticore_server.sh' %s", bytes,
                       file, words);
    }
    FILE *f = popen(command, "r"); /* NOLINT(cert-env33-c) */
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        nodes_note(n, line);
    }
    if (pclose(f) != 0) {
        fail_msg("failed: %s", command);
    }
}

static DR_UNUSED void nodes_tell(struct nodes *n, const char *verb, int k, const char *more)
{
    char words[512];
    (void)snprintf(words, sizeof words, "%s %s %d %s", verb, n->folder, k + 1, more);
    nodes_control(n, words);
}

/* Trouble on demand, told to a stand-in by a message like those of the nodes among themselves: its
 * length and JSON. (A program for each would take longer than what it is for.) */
static DR_UNUSED void nodes_hook(struct nodes *n, int k, const char *action, const char *match)
{
    char text[512], address[MT_TEXT], answer[512];
    int bytes = snprintf(text + 4, sizeof text - 4, "{\"op\":\"hook\",\"text\":\"%s:1:%s\"}",
                         action, match);
    const uint32_t length = (uint32_t)bytes;
    struct sockaddr_in to = {.sin_family = AF_INET};
    memcpy(address, n->binary[k], sizeof address);
    char *colon = strrchr(address, ':');
    assert_non_null(colon);
    *colon = '\0';
    to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
    for (int i = 0; i < 4; i++) {
        text[i] = (char)(length >> 8 * i & 255);
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(fd, text, length + 4, MSG_NOSIGNAL), length + 4);
    assert_true(recv(fd, answer, sizeof answer, 0) > 4); /* it has taken it */
    (void)close(fd);
}

static DR_UNUSED void store_open(struct nodes *n, int k)
{
    char url[MT_TEXT + 32];
    struct dr_err e = {0};
    (void)snprintf(url, sizeof url, "manticore://%s", n->sql[k]);
    if (dr_store_open(url, &n->store[k], &e) != DR_OK) {
        fail_msg("%s", e.msg);
    }
}

static DR_UNUSED int nodes_start(void **state)
{
    struct nodes *n = calloc(1, sizeof *n);
    char words[256];
    assert_non_null(n);
    (void)snprintf(n->folder, sizeof n->folder, "/tmp/drover-manticore-XXXXXX");
    assert_non_null(mkdtemp(n->folder));
    (void)snprintf(words, sizeof words, "start %d %s --owner %d", MT_NODES, n->folder,
                   (int)getpid());
    nodes_control(n, words);
    for (int k = 0; k < MT_NODES; k++) {
        store_open(n, k);
    }
    *state = n;
    return 0;
}

static DR_UNUSED int nodes_stop(void **state)
{
    struct nodes *n = *state;
    char words[256];
    for (int k = 0; k < MT_NODES; k++) {
        dr_store_close(n->store[k]);
    }
    (void)snprintf(words, sizeof words, "stop %s", n->folder);
    nodes_control(n, words);
    free(n);
    return 0;
}

/* --- commands of the adapter --- */

static DR_UNUSED enum dr_code give(struct nodes *n, int k, struct dr_err *e, const char *fmt, ...)
    DR_PRINTF(4, 5);
static DR_UNUSED enum dr_code give(struct nodes *n, int k, struct dr_err *e, const char *fmt, ...)
{
    struct dr_str text;
    char part[4096];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(part, sizeof part, fmt, args);
    va_end(args);
    dr_str_init(&text);
    dr_str_add(&text, part);
    enum dr_code rc = dr_store_command(n->store[k], n->sql[k], dr_str_text(&text), e);
    dr_str_fini(&text);
    return rc;
}

#define MUST(n, k, ...)                                                                            \
    do {                                                                                           \
        struct dr_err e_ = {0};                                                                    \
        if (give(n, k, &e_, __VA_ARGS__) != DR_OK) {                                               \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, e_.msg);                                     \
        }                                                                                          \
    } while (0)

#define FAILS(code, part, n, k, ...)                                                               \
    do {                                                                                           \
        struct dr_err e_ = {0};                                                                    \
        enum dr_code rc_ = give(n, k, &e_, __VA_ARGS__);                                           \
        if (rc_ != (code) || strstr(e_.msg, part) == NULL) {                                       \
            fail_msg("%s:%d: wanted %s with \"%s\", got %s: %s", __FILE__, __LINE__,               \
                     dr_code_name(code), part, dr_code_name(rc_), e_.msg);                         \
        }                                                                                          \
    } while (0)

/* --- a plain client --- */

static DR_UNUSED MYSQL *plain_open(const char *address)
{
    char host[MT_TEXT];
    const char *colon = strrchr(address, ':');
    MYSQL *m = mysql_init(NULL);
    assert_non_null(m);
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    if (mysql_real_connect(m, host, "test", "", NULL, (unsigned)strtoul(colon + 1, NULL, 10), NULL,
                           0) == NULL) {
        mysql_close(m);
        return NULL;
    }
    return m;
}

/* True when the node acknowledged it. */
static DR_UNUSED bool plain_do(MYSQL *m, const char *sql)
{
    if (mysql_query(m, sql) != 0) {
        return false;
    }
    MYSQL_RES *r = mysql_store_result(m);
    if (r != NULL) {
        mysql_free_result(r);
    }
    return mysql_errno(m) == 0;
}

/* The first cell of an answer, "" when there is none; "!" and the error when it fails. */
static DR_UNUSED const char *plain_ask(struct nodes *n, int k, char *buf, size_t bytes,
                                       const char *sql)
{
    MYSQL *m = plain_open(n->sql[k]);
    assert_non_null(m);
    buf[0] = '\0';
    if (mysql_query(m, sql) != 0) {
        (void)snprintf(buf, bytes, "!%s", mysql_error(m));
    } else {
        MYSQL_RES *r = mysql_store_result(m);
        MYSQL_ROW row = r == NULL ? NULL : mysql_fetch_row(r);
        if (row != NULL && row[0] != NULL) {
            (void)snprintf(buf, bytes, "%s", row[0]);
        }
        if (r != NULL) {
            mysql_free_result(r);
        }
    }
    mysql_close(m);
    return buf;
}

static DR_UNUSED long count_of(struct nodes *n, int k, const char *table)
{
    char sql[256], buf[256];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    (void)plain_ask(n, k, buf, sizeof buf, sql);
    return buf[0] == '!' ? -1 : strtol(buf, NULL, 10);
}

/* The wrapper's parts as the node shows them. */
static DR_UNUSED void show_wrapper(struct nodes *n, int k, char *buf, size_t bytes)
{
    MYSQL *m = plain_open(n->sql[k]);
    assert_non_null(m);
    buf[0] = '\0';
    if (mysql_query(m, "SHOW CREATE TABLE users OPTION force=1") == 0) {
        MYSQL_RES *r = mysql_store_result(m);
        MYSQL_ROW row = r == NULL ? NULL : mysql_fetch_row(r);
        (void)snprintf(buf, bytes, "%s", row == NULL ? "" : row[1]);
        if (r != NULL) {
            mysql_free_result(r);
        }
    }
    mysql_close(m);
}

static DR_UNUSED void must_sql(struct nodes *n, int k, const char *sql)
{
    char buf[512];
    (void)plain_ask(n, k, buf, sizeof buf, sql);
    if (buf[0] == '!') {
        fail_msg("%s: %s", sql, buf);
    }
}

/* Facts of a node; json_decref. */
static DR_UNUSED json_t *facts_of(struct nodes *n, int k)
{
    struct dr_survey *survey = NULL;
    struct dr_err e = {0};
    json_t *j = NULL;
    if (dr_store_survey_spec(n->store[k], "{\"table\":\"users\"}", &survey, &e) != DR_OK) {
        fail_msg("%s", e.msg);
    }
    assert_int_equal(dr_json_parse("facts", survey->extra, strlen(survey->extra), &j, &e), DR_OK);
    dr_survey_destroy(survey);
    return j;
}

#endif
