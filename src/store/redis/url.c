/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: the store's URL and the names of nodes. Messages never show what was given as user and
 * password. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "obs/log.h"
#include "store/redis/redis_private.h"

enum { SHOWN_BYTES = 512, DEFAULT_PORT = 6379, PORT_MAX = 65535 };

static enum dr_code fail_url(struct dr_err *err, const char *url, const char *what)
{
    char shown[SHOWN_BYTES];
    return dr_fail(err, DR_INPUT,
                   "%s: %s; write redis://[user:password@]host:port[,host:port...][/db]",
                   dr_url_redact(url, shown, sizeof shown), what);
}

/* user:password, user or :password, from `text` up to `end`. */
static enum dr_code parse_secret(struct rd_store *s, const char *url, const char *text,
                                 const char *end, struct dr_err *err)
{
    const char *colon = memchr(text, ':', (size_t)(end - text));
    const char *user_end = colon == NULL ? end : colon;
    if (user_end > text) {
        s->user = dr_strndup(text, (size_t)(user_end - text));
        if (s->user == NULL) {
            return dr_fail_nomem(err);
        }
    }
    if (colon == NULL) {
        return fail_url(err, url, "a user without a password");
    }
    s->password = dr_strndup(colon + 1, (size_t)(end - colon - 1));
    if (s->password == NULL) {
        return dr_fail_nomem(err);
    }
    if ((s->user != NULL && !dr_percent_decode(s->user)) || !dr_percent_decode(s->password)) {
        return fail_url(err, url, "user or password holds a broken %-escape");
    }
    return DR_OK;
}

/* "host:port", "[v6]:port", or without a port. False: malformed. */
static bool split_address(const char *name, const char **host, size_t *host_bytes, int *port)
{
    const char *colon = NULL;
    uint64_t number = DEFAULT_PORT;
    *host = name;
    if (name[0] == '[') {
        const char *close = strchr(name, ']');
        if (close == NULL || (close[1] != ':' && close[1] != '\0')) {
            return false;
        }
        *host = name + 1;
        *host_bytes = (size_t)(close - name - 1);
        colon = close[1] == ':' ? close + 1 : NULL;
    } else {
        colon = strrchr(name, ':');
        *host_bytes = colon == NULL ? strlen(name) : (size_t)(colon - name);
        if (memchr(name, ':', *host_bytes) != NULL) {
            return false;
        }
    }
    if (colon != NULL && (!dr_parse_u64(colon + 1, &number) || number == 0 || number > PORT_MAX)) {
        return false;
    }
    *port = (int)number;
    return *host_bytes > 0;
}

static enum dr_code add_node(struct rd_store *s, const char *name, struct rd_node **out,
                             struct dr_err *err)
{
    const char *host = NULL;
    size_t host_bytes = 0;
    int port = 0;
    *out = NULL;
    if (!split_address(name, &host, &host_bytes, &port)) {
        return dr_fail(err, DR_INPUT, "\"%.128s\" is no host:port", name);
    }
    if (s->node_count == RD_NODES_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "more than %d redis servers", RD_NODES_MAX);
    }
    struct rd_node *n = dr_calloc(1, sizeof *n);
    if (n == NULL) {
        return dr_fail_nomem(err);
    }
    n->host = dr_strndup(host, host_bytes);
    n->port = port;
    n->name = n->host == NULL                ? NULL
              : strchr(n->host, ':') != NULL ? dr_asprintf("[%s]:%d", n->host, port)
                                             : dr_asprintf("%s:%d", n->host, port);
    if (n->name == NULL) {
        rd_node_destroy(n);
        return dr_fail_nomem(err);
    }
    s->node[s->node_count++] = n;
    *out = n;
    return DR_OK;
}

enum dr_code rd_node_find(struct rd_store *s, const char *name, bool may_add, struct rd_node **out,
                          struct dr_err *err)
{
    *out = NULL;
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (strcmp(s->node[i]->name, name) == 0) {
            *out = s->node[i];
            return DR_OK;
        }
    }
    if (!may_add) {
        return dr_fail(err, DR_NOT_FOUND, "no redis server %s; the URL names %s%s", name,
                       s->node[0]->name, s->seed_count > 1 ? " and others" : "");
    }
    return add_node(s, name, out, err);
}

static enum dr_code parse_hosts(struct rd_store *s, const char *url, char *hosts,
                                struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (char *at = hosts; rc == DR_OK && at != NULL;) {
        char *comma = strchr(at, ',');
        struct rd_node *n = NULL;
        if (comma != NULL) {
            *comma = '\0';
        }
        uint32_t before = s->node_count;
        const char *host = NULL;
        size_t host_bytes = 0;
        int port = 0;
        if (!split_address(at, &host, &host_bytes, &port)) {
            return fail_url(err, url, "a host or port is malformed");
        }
        rc = add_node(s, at, &n, err);
        assert(rc != DR_OK || n != NULL);
        for (uint32_t i = 0; rc == DR_OK && i < before; i++) {
            if (strcmp(s->node[i]->name, n->name) == 0) {
                rc = fail_url(err, url, "a server is named twice");
            }
        }
        at = comma == NULL ? NULL : comma + 1;
    }
    s->seed_count = s->node_count;
    return rc;
}

enum dr_code rd_url_parse(struct rd_store *s, const char *url, struct dr_err *err)
{
    static const char scheme[] = "redis://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0) {
        return fail_url(err, url, "no redis:// URL");
    }
    const char *rest = url + sizeof scheme - 1;
    const char *at = strrchr(rest, '@'); /* a password may hold an @ although it should not */
    enum dr_code rc = at == NULL ? DR_OK : parse_secret(s, url, rest, at, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *hosts = at == NULL ? rest : at + 1;
    const char *slash = strchr(hosts, '/');
    if (slash != NULL && slash[1] != '\0') {
        uint64_t db = 0;
        if (!dr_parse_u64(slash + 1, &db) || db > RD_DB_MAX) {
            return fail_url(err, url, "the database is no number");
        }
        s->db = (uint32_t)db;
    }
    char *copy = slash == NULL ? dr_strdup(hosts) : dr_strndup(hosts, (size_t)(slash - hosts));
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    rc = parse_hosts(s, url, copy, err);
    dr_free(copy);
    return rc;
}
