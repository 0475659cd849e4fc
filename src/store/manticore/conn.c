/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to one node, and what its errors mean. Nothing but the statement itself is ever
 * sent: Manticore speaks MySQL's protocol but knows little of its session. */
#include <errmsg.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "store/manticore/manticore_private.h"

enum { PORT_MAX = 65535, LIMIT_S_MAX = 604800, ERROR_NO_TABLE = 1146, ERROR_DENIED = 1045 };

static enum dr_code fail_url(struct dr_err *err, const char *what)
{
    return dr_fail(err, DR_INPUT,
                   "the Manticore node's URL: %s; write "
                   "manticore://[user:password@]host[:9306][?binary=host:9312]",
                   what);
}

static enum dr_code decode(char **to, const char *from, size_t bytes, struct dr_err *err)
{
    dr_free(*to);
    *to = dr_strndup(from, bytes);
    if (*to == NULL) {
        return dr_fail_nomem(err);
    }
    return dr_percent_decode(*to) ? DR_OK : fail_url(err, "a broken %-escape");
}

static enum dr_code parse_host(struct mt_store *s, const char *from, const char *end,
                               struct dr_err *err)
{
    const char *host = from, *host_end = memchr(from, ':', (size_t)(end - from));
    const char *colon = host_end;
    if (from < end && *from == '[') {
        host = from + 1;
        host_end = memchr(from, ']', (size_t)(end - from));
        colon = host_end != NULL && host_end + 1 < end ? host_end + 1 : NULL;
        if (host_end == NULL || (colon != NULL && *colon != ':')) {
            return fail_url(err, "the host is malformed");
        }
    }
    host_end = host_end == NULL ? end : host_end;
    s->port = MT_SQL_PORT;
    if (colon != NULL) {
        char number[8];
        uint64_t port = 0;
        (void)snprintf(number, sizeof number, "%.*s", (int)(end - colon - 1), colon + 1);
        if (end - colon > (ptrdiff_t)sizeof number - 1 || !dr_parse_u64(number, &port) ||
            port == 0 || port > PORT_MAX) {
            return fail_url(err, "the port is no number from 1 to 65535");
        }
        s->port = (uint32_t)port;
    }
    if (host_end == host) {
        return fail_url(err, "the host is missing");
    }
    return decode(&s->host, host, (size_t)(host_end - host), err);
}

static enum dr_code parse_option(struct mt_store *s, const char *from, size_t bytes,
                                 struct dr_err *err)
{
    char *text = NULL;
    uint64_t n = 0;
    enum dr_code rc = decode(&text, from, bytes, err);
    char *value = rc == DR_OK ? strchr(text, '=') : NULL;
    if (rc != DR_OK) {
        goto out;
    }
    if (value == NULL) {
        rc = fail_url(err, "an option without a value");
        goto out;
    }
    *value++ = '\0';
    bool is_limit = strcmp(text, "connect_timeout") == 0 || strcmp(text, "read_timeout") == 0;
    if (is_limit && dr_parse_u64(value, &n) && n > 0 && n <= LIMIT_S_MAX) {
        *(text[0] == 'c' ? &s->connect_s : &s->read_s) = (unsigned)n;
    } else if (strcmp(text, "binary") == 0 && strchr(value, ':') != NULL) {
        dr_free(s->binary);
        s->binary = dr_strdup(value);
        rc = s->binary == NULL ? dr_fail_nomem(err) : DR_OK;
    } else {
        rc = fail_url(err, "an option that is none of binary=host:port, connect_timeout=S, "
                           "read_timeout=S");
    }
out:
    dr_free(text);
    return rc;
}

static enum dr_code parse_url(struct mt_store *s, const char *url, struct dr_err *err)
{
    static const char scheme[] = "manticore://";
    enum dr_code rc = DR_OK;
    if (strncmp(url, scheme, sizeof scheme - 1) != 0) {
        return fail_url(err, "it does not begin with manticore://");
    }
    const char *from = url + sizeof scheme - 1;
    const char *end = from + strcspn(from, "/?");
    const char *options = end + strspn(end, "/");
    const char *at = memchr(from, '@', (size_t)(end - from));
    if (at != NULL) {
        const char *colon = memchr(from, ':', (size_t)(at - from));
        rc = decode(&s->user, from, (size_t)((colon == NULL ? at : colon) - from), err);
        if (rc == DR_OK && colon != NULL) {
            rc = decode(&s->password, colon + 1, (size_t)(at - colon - 1), err);
        }
        from = at + 1;
    }
    rc = rc == DR_OK ? parse_host(s, from, end, err) : rc;
    if (rc == DR_OK && *options != '\0' && *options != '?') {
        rc = fail_url(err, "a node has no databases, there is nothing to name behind the host");
    }
    while (rc == DR_OK && *options != '\0') {
        const char *option = options + 1;
        size_t bytes = strcspn(option, "&");
        rc = parse_option(s, option, bytes, err);
        options = option + bytes;
    }
    return rc;
}

static void wipe(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        dr_free(text);
    }
}

static void disconnect(struct mt_store *s)
{
    if (s->mysql != NULL) {
        mysql_close(s->mysql);
        s->mysql = NULL;
    }
}

void mt_close(struct mt_store *s)
{
    if (s == NULL) {
        return;
    }
    disconnect(s);
    wipe(s->password);
    dr_free(s->user);
    dr_free(s->host);
    dr_free(s->binary);
    dr_free(s);
}

static enum dr_code fail_connect(const struct mt_store *s, MYSQL *mysql, struct dr_err *err)
{
    unsigned number = mysql_errno(mysql);
    return dr_fail(err, number == ERROR_DENIED ? DR_DENIED : DR_UNREACHABLE,
                   "Manticore node %s: connect: %s (error %u)", s->shown, mysql_error(mysql),
                   number);
}

static enum dr_code reconnect(struct mt_store *s, struct dr_err *err)
{
    unsigned protocol = MYSQL_PROTOCOL_TCP, off = 0;
    disconnect(s);
    MYSQL *mysql = mysql_init(NULL);
    if (mysql == NULL) {
        return dr_fail_nomem(err);
    }
    bool is_ok = mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol) == 0 &&
                 mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &s->connect_s) == 0 &&
                 mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &s->read_s) == 0 &&
                 mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &s->read_s) == 0 &&
                 mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &off) == 0 &&
                 mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4") == 0;
    enum dr_code rc = DR_OK;
    if (!is_ok) {
        rc = dr_fail(err, DR_INTERNAL, "libmariadb refuses an option");
    } else if (mysql_real_connect(mysql, s->host, s->user == NULL ? "drover" : s->user,
                                  s->password == NULL ? "" : s->password, NULL, s->port, NULL,
                                  0) == NULL) {
        rc = fail_connect(s, mysql, err);
    }
    if (rc != DR_OK) {
        mysql_close(mysql);
        return rc;
    }
    s->mysql = mysql;
    return DR_OK;
}

enum dr_code mt_open(const char *url, struct mt_store **out, struct dr_err *err)
{
    struct mt_store *s = dr_calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    s->connect_s = MT_CONNECT_S;
    s->read_s = MT_READ_S;
    enum dr_code rc = parse_url(s, url, err);
    if (rc == DR_OK) {
        bool is_v6 = strchr(s->host, ':') != NULL;
        (void)snprintf(s->shown, sizeof s->shown, "%s%.200s%s:%u", is_v6 ? "[" : "", s->host,
                       is_v6 ? "]" : "", s->port);
        rc = reconnect(s, err);
    }
    if (rc != DR_OK) {
        mt_close(s);
        return rc;
    }
    *out = s;
    return DR_OK;
}

enum dr_code mt_open_other(const struct mt_store *s, const char *address, struct mt_store **out,
                           struct dr_err *err)
{
    struct dr_str url;
    dr_str_init(&url);
    *out = NULL;
    dr_str_add(&url, "manticore://");
    if (s->user != NULL) {
        dr_str_add_percent(&url, s->user);
        dr_str_addc(&url, ':');
        dr_str_add_percent(&url, s->password == NULL ? "" : s->password);
        dr_str_addc(&url, '@');
    }
    dr_str_addf(&url, "%s?connect_timeout=%u&read_timeout=%u", address, s->connect_s, s->read_s);
    enum dr_code rc = url.is_short ? dr_fail_nomem(err) : mt_open(dr_str_text(&url), out, err);
    if (url.data != NULL) {
        explicit_bzero(url.data, url.len);
    }
    dr_str_fini(&url);
    return rc;
}

/* --- statements --------------------------------------------------------------------------------
 */

/* All errors of a statement are 1064, so the text decides. The first that fits. */
static const struct {
    const char *part;
    enum dr_code code;
} texts[] = {
    {"cannot access directory", DR_INPUT},
    {"is not ready", DR_BUSY},
    {"donor", DR_BUSY},
    {"transaction aborted", DR_BUSY},
    {"is locked", DR_BUSY},
    {"maxed out", DR_BUSY},
    {"connection refused", DR_UNREACHABLE},
    {"network error", DR_UNREACHABLE},
    {"timed out", DR_BUSY},
    {"already exists", DR_EXISTS},
    {"already part of cluster", DR_CONFLICT},
    {"is not in cluster", DR_CONFLICT},
    {"unable to drop a cluster table", DR_CONFLICT},
    {"unknown cluster", DR_NOT_FOUND},
    {"unknown local table", DR_NOT_FOUND},
    {"no such table", DR_NOT_FOUND},
    {"unknown or wrong type of table", DR_NOT_FOUND},
};

static enum dr_code code_of(unsigned number, const char *text)
{
    if (number == ERROR_NO_TABLE) {
        return DR_NOT_FOUND;
    }
    if (number == ERROR_DENIED) {
        return DR_DENIED;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcasestr(text, texts[i].part) != NULL) {
            return texts[i].code;
        }
    }
    return DR_INPUT;
}

/* Numbers of the client library mean that the connection is of no use any more. */
static bool is_loss(unsigned number)
{
    return number == 0 || number >= CR_MIN_ERROR;
}

static enum dr_code fail_statement(struct mt_store *s, const char *sql, bool is_change,
                                   struct dr_err *err)
{
    unsigned number = mysql_errno(s->mysql);
    const char *text = mysql_error(s->mysql);
    if (is_loss(number)) {
        enum dr_code rc = dr_fail(err, is_change ? DR_UNKNOWN : DR_UNREACHABLE,
                                  "Manticore node %s: \"%.160s\": the answer did not come: %s%s",
                                  s->shown, sql, text, is_change ? "; it may have been done" : "");
        disconnect(s);
        return rc;
    }
    return dr_fail(err, code_of(number, text), "Manticore node %s: \"%.160s\": %s", s->shown, sql,
                   text);
}

/* Between statements the node has nothing to say: what can be read is its farewell. */
static bool is_alive(struct mt_store *s)
{
    char byte;
    if (s->mysql == NULL) {
        return false;
    }
    ssize_t n = recv((int)mysql_get_socket(s->mysql), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static enum dr_code read_rows(MYSQL_RES *result, mt_row_fn row, void *arg, struct dr_err *err)
{
    enum { COLUMNS_MAX = 256 };
    const char *name[COLUMNS_MAX];
    uint32_t count = mysql_num_fields(result);
    MYSQL_ROW cells;
    enum dr_code rc = DR_OK;
    if (count > COLUMNS_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "a table with more than 256 columns");
    }
    const MYSQL_FIELD *fields = mysql_fetch_fields(result);
    for (uint32_t i = 0; i < count; i++) {
        name[i] = fields[i].name;
    }
    while (rc == DR_OK && (cells = mysql_fetch_row(result)) != NULL) {
        rc = row == NULL ? DR_OK : row(arg, (const char *const *)cells, name, count, err);
    }
    return rc;
}

static enum dr_code run(struct mt_store *s, const char *sql, bool is_change, mt_row_fn row,
                        void *arg, struct dr_err *err)
{
    enum dr_code rc = is_alive(s) ? DR_OK : reconnect(s, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (mysql_real_query(s->mysql, sql, strlen(sql)) != 0) {
        return fail_statement(s, sql, is_change, err);
    }
    MYSQL_RES *result = mysql_store_result(s->mysql);
    if (result == NULL) {
        return mysql_field_count(s->mysql) == 0 ? DR_OK : fail_statement(s, sql, is_change, err);
    }
    s->warnings = mysql_warning_count(s->mysql);
    rc = read_rows(result, row, arg, err);
    mysql_free_result(result);
    return rc;
}

enum dr_code mt_ask(struct mt_store *s, const char *sql, mt_row_fn row, void *arg,
                    struct dr_err *err)
{
    return run(s, sql, false, row, arg, err);
}

/* The fault points: before anything is sent, and when it is done but nobody knows yet. */
enum dr_code mt_change(struct mt_store *s, const char *sql, struct dr_err *err)
{
    enum dr_code rc = dr_fault_pass("manticore.change", err);
    rc = rc == DR_OK ? run(s, sql, true, NULL, NULL, err) : rc;
    if (rc == DR_OK && dr_fault_pass("manticore.change.done", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "fault point: the answer to \"%.160s\" was lost", sql);
    }
    return rc;
}

static enum dr_code note_number(void *arg, const char *const *cell, const char *const *name,
                                uint32_t count, struct dr_err *err)
{
    (void)name;
    if (count != 1 || cell[0] == NULL || !dr_parse_u64(cell[0], arg)) {
        return dr_fail(err, DR_INTERNAL, "the node answers a question for a number with no number");
    }
    return DR_OK;
}

enum dr_code mt_ask_number(struct mt_store *s, const char *sql, uint64_t *out, struct dr_err *err)
{
    *out = 0;
    enum dr_code rc = mt_ask(s, sql, note_number, out, err);
    if (rc == DR_OK && s->warnings > 0) {
        rc = dr_fail(err, DR_BUSY,
                     "Manticore node %s: \"%.160s\": the answer is partial: a node with a part of "
                     "the table does not answer",
                     s->shown, sql);
    }
    return rc;
}
