/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of SQL servers: scheme, user, password, host, port, database, options. */
#include "store/sqldb_url.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    PORT_MARIADB = 3306,
    PORT_POSTGRES = 5432,
    PORT_MAX = 65535,
    CONNECT_S_DEFAULT = 5,
    READ_S_DEFAULT = 60,
    LIMIT_S_MAX = 7 * 24 * 3600,
};

static const struct {
    const char *name;
    enum dr_dialect dialect;
} schemes[] = {
    {"mysql://", DR_SQL_MARIADB},
    {"mariadb://", DR_SQL_MARIADB},
    {"postgres://", DR_SQL_POSTGRES},
    {"postgresql://", DR_SQL_POSTGRES},
};

static const struct {
    const char *name;
    enum dr_sql_tls tls;
} tls_modes[] = {
    {"disable", DR_SQL_TLS_OFF},
    {"disabled", DR_SQL_TLS_OFF},
    {"allow", DR_SQL_TLS_PREFER},
    {"prefer", DR_SQL_TLS_PREFER},
    {"preferred", DR_SQL_TLS_PREFER},
    {"require", DR_SQL_TLS_REQUIRE},
    {"required", DR_SQL_TLS_REQUIRE},
    {"verify-ca", DR_SQL_TLS_VERIFY_CA},
    {"verify_ca", DR_SQL_TLS_VERIFY_CA},
    {"verify-full", DR_SQL_TLS_VERIFY_FULL},
    {"verify_identity", DR_SQL_TLS_VERIFY_FULL},
};

/* The text of the URL is never shown: whatever is malformed may be a password. */
static enum dr_code fail_url(struct dr_err *err, const char *what, const char *which)
{
    return dr_fail(err, DR_INPUT,
                   "the SQL server's URL: %s%s; write mysql://user:password@host:port/database or "
                   "postgres://user:password@host:port/database, with user, password and database "
                   "percent-encoded",
                   what, which);
}

/* Copy `bytes` of `text` with %40 -> @. `what` names the part for messages. */
static enum dr_code decode_part(const char *text, size_t bytes, const char *what, char **out,
                                struct dr_err *err)
{
    char *copy = dr_strndup(text, bytes);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    if (!dr_percent_decode(copy)) {
        explicit_bzero(copy, bytes);
        dr_free(copy);
        return fail_url(err, "a broken %-escape in ", what);
    }
    dr_free(*out);
    *out = copy;
    return DR_OK;
}

static enum dr_code parse_user(struct dr_sqldb_url *u, const char *text, const char *end,
                               struct dr_err *err)
{
    const char *colon = memchr(text, ':', (size_t)(end - text));
    const char *user_end = colon == NULL ? end : colon;
    enum dr_code rc = DR_OK;
    if (user_end > text) {
        rc = decode_part(text, (size_t)(user_end - text), "the user", &u->user, err);
    }
    if (rc == DR_OK && colon != NULL) {
        rc = decode_part(colon + 1, (size_t)(end - colon - 1), "the password", &u->password, err);
    }
    return rc;
}

/* "host", "host:port", "[v6]:port" or nothing at all. */
static enum dr_code parse_host(struct dr_sqldb_url *u, const char *text, const char *end,
                               struct dr_err *err)
{
    const char *host = text;
    const char *host_end = memchr(text, ':', (size_t)(end - text));
    const char *colon = host_end;
    if (text < end && *text == '[') {
        host = text + 1;
        host_end = memchr(text, ']', (size_t)(end - text));
        if (host_end == NULL || (host_end + 1 < end && host_end[1] != ':')) {
            return fail_url(err, "the host is malformed", "");
        }
        colon = host_end + 1 < end ? host_end + 1 : NULL;
    }
    if (host_end == NULL) {
        host_end = end;
    }
    if (colon != NULL) {
        char number[8];
        uint64_t port = 0;
        if (end - colon - 1 < 1 || end - colon > (ptrdiff_t)sizeof number) {
            return fail_url(err, "the port is no number from 1 to 65535", "");
        }
        (void)snprintf(number, sizeof number, "%.*s", (int)(end - colon - 1), colon + 1);
        if (!dr_parse_u64(number, &port) || port == 0 || port > PORT_MAX) {
            return fail_url(err, "the port is no number from 1 to 65535", "");
        }
        u->port = (uint32_t)port;
    }
    return host_end > host ? decode_part(host, (size_t)(host_end - host), "the host", &u->host, err)
                           : DR_OK;
}

static enum dr_code set_tls(struct dr_sqldb_url *u, const char *value, struct dr_err *err)
{
    for (size_t i = 0; i < sizeof tls_modes / sizeof tls_modes[0]; i++) {
        if (strcasecmp(value, tls_modes[i].name) == 0) {
            u->tls = tls_modes[i].tls;
            return DR_OK;
        }
    }
    return fail_url(err,
                    "unknown TLS mode; known: disabled, preferred, required, verify_ca, "
                    "verify_identity (PostgreSQL's names too)",
                    "");
}

static enum dr_code set_limit(uint32_t *limit_s, const char *name, const char *value,
                              struct dr_err *err)
{
    uint64_t n = 0;
    if (!dr_parse_u64(value, &n) || n == 0 || n > LIMIT_S_MAX) {
        return fail_url(err, "no number of seconds from 1 to 604800 in option ", name);
    }
    *limit_s = (uint32_t)n;
    return DR_OK;
}

static enum dr_code set_password_env(struct dr_sqldb_url *u, const char *name, struct dr_err *err)
{
    const char *value = getenv(name);
    if (value == NULL) {
        return dr_fail(err, DR_INPUT,
                       "the SQL server's URL names the environment variable %.64s for its "
                       "password, but it is not set",
                       name);
    }
    dr_free(u->password);
    u->password = dr_strdup(value);
    return u->password == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code move_text(char **to, char **value)
{
    dr_free(*to);
    *to = *value;
    *value = NULL;
    return DR_OK;
}

static enum dr_code set_option(struct dr_sqldb_url *u, const char *name, char **value,
                               struct dr_err *err)
{
    bool is_pg = u->dialect == DR_SQL_POSTGRES;
    assert(name != NULL);
    assert(*value != NULL);
    if (strncmp(name, "drover.", 7) == 0) {
        return DR_OK;
    }
    if (strcmp(name, "ssl-mode") == 0 || strcmp(name, "sslmode") == 0) {
        return set_tls(u, *value, err);
    }
    if (strcmp(name, "ssl-ca") == 0 || strcmp(name, "sslrootcert") == 0) {
        return move_text(&u->tls_ca, value);
    }
    if (strcmp(name, is_pg ? "host" : "socket") == 0) {
        return move_text(&u->socket, value);
    }
    if (strcmp(name, "connect_timeout") == 0) {
        return set_limit(&u->connect_s, name, *value, err);
    }
    if (strcmp(name, "read_timeout") == 0) {
        return set_limit(&u->read_s, name, *value, err);
    }
    if (strcmp(name, "password_env") == 0) {
        return set_password_env(u, *value, err);
    }
    return fail_url(err,
                    "an unknown option; known: ssl-mode, sslmode, ssl-ca, sslrootcert, "
                    "connect_timeout, read_timeout, password_env, drover.*, ",
                    is_pg ? "host" : "socket");
}

static enum dr_code parse_options(struct dr_sqldb_url *u, const char *text, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && *text != '\0') {
        size_t bytes = strcspn(text, "&");
        const char *equals = memchr(text, '=', bytes);
        char *name = NULL;
        char *value = NULL;
        if (equals == NULL) {
            return fail_url(err, "an option without a value", "");
        }
        rc = decode_part(text, (size_t)(equals - text), "an option", &name, err);
        if (rc == DR_OK) {
            rc = decode_part(equals + 1, bytes - (size_t)(equals - text) - 1, "an option", &value,
                             err);
        }
        if (rc == DR_OK) {
            rc = set_option(u, name, &value, err);
        }
        dr_free(name);
        dr_free(value);
        text += bytes + (text[bytes] == '&' ? 1 : 0);
    }
    return rc;
}

static const char *find_scheme(const char *text, struct dr_sqldb_url *u)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t bytes = strlen(schemes[i].name);
        if (strncasecmp(text, schemes[i].name, bytes) == 0) {
            u->dialect = schemes[i].dialect;
            return text + bytes;
        }
    }
    return NULL;
}

enum dr_code dr_sqldb_url_parse(const char *text, struct dr_sqldb_url *out, struct dr_err *err)
{
    *out = (struct dr_sqldb_url){
        .tls = DR_SQL_TLS_PREFER, .connect_s = CONNECT_S_DEFAULT, .read_s = READ_S_DEFAULT};
    const char *rest = find_scheme(text, out);
    if (rest == NULL) {
        return fail_url(err, "unknown scheme", "");
    }
    out->port = out->dialect == DR_SQL_MARIADB ? PORT_MARIADB : PORT_POSTGRES;
    const char *options = rest + strcspn(rest, "?");
    const char *at = memrchr(rest, '@', (size_t)(options - rest));
    const char *host = at == NULL ? rest : at + 1;
    const char *slash = memchr(host, '/', (size_t)(options - host));
    const char *host_end = slash == NULL ? options : slash;
    enum dr_code rc = at == NULL ? DR_OK : parse_user(out, rest, at, err);
    if (rc == DR_OK) {
        rc = parse_host(out, host, host_end, err);
    }
    if (rc == DR_OK && (slash == NULL || slash + 1 == options)) {
        rc = fail_url(err, "no database", "");
    }
    if (rc == DR_OK) {
        rc = decode_part(slash + 1, (size_t)(options - slash - 1), "the database", &out->database,
                         err);
    }
    if (rc == DR_OK && *options == '?') {
        rc = parse_options(out, options + 1, err);
    }
    if (rc == DR_OK && out->host == NULL && out->socket == NULL) {
        rc = fail_url(err, "neither a host nor a socket", "");
    }
    return rc;
}

void dr_sqldb_url_fini(struct dr_sqldb_url *u)
{
    if (u->password != NULL) {
        explicit_bzero(u->password, strlen(u->password));
    }
    char *part[] = {u->user, u->password, u->host, u->database, u->socket, u->tls_ca};
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        dr_free(part[i]);
    }
    *u = (struct dr_sqldb_url){0};
}

char *dr_sqldb_url_show(const struct dr_sqldb_url *u, char *buf, size_t buf_bytes)
{
    assert(buf_bytes > 0);
    if (u->socket != NULL) {
        (void)snprintf(buf, buf_bytes, "%.128s, database %.64s", u->socket, u->database);
    } else {
        (void)snprintf(buf, buf_bytes, "%.128s:%u/%.64s", u->host, u->port, u->database);
    }
    return buf;
}

uint32_t dr_sqldb_url_lock_s(const struct dr_sqldb_url *u)
{
    return u->read_s > 1 ? u->read_s / 2 : 1;
}
