/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of routes and the way from a path to one of them. Pure but for the decoded
 * parameter. */
#include <stdio.h>
#include <string.h>

#include "api/api_private.h"
#include "base/mem.h"

static const char *const no_query[] = {NULL};
static const char *const page_query[] = {"before", "limit", NULL};
static const char *const step_query[] = {"after", "limit", "status", NULL};

#define OURS(method, path, name, role, query, body, run)                                           \
    {                                                                                              \
        {method, path, name, role, query}, run, 0, body, false, false                              \
    }

static const struct dr_route routes[] = {
    OURS("DELETE", "/services/{id}/stats", "deleteServiceStats", DR_ROLE_OPERATE, no_query,
         BODY_MUST, dr_api_delete_stats),
    OURS("POST", "/operations", "submitOperation", DR_ROLE_OPERATE, no_query, BODY_MUST,
         dr_api_submit),
    OURS("GET", "/operations", "listOperations", DR_ROLE_READ, page_query, BODY_NONE, dr_api_list),
    OURS("GET", "/operations/{id}", "getOperation", DR_ROLE_READ, no_query, BODY_NONE, dr_api_get),
    OURS("GET", "/operations/{id}/steps", "listSteps", DR_ROLE_READ, step_query, BODY_NONE,
         dr_api_steps),
    OURS("GET", "/operations/{id}/explain", "explainOperation", DR_ROLE_READ, no_query, BODY_NONE,
         dr_api_explain),
    OURS("POST", "/operations/{id}/pause", "pauseOperation", DR_ROLE_OPERATE, no_query, BODY_MAY,
         dr_api_pause),
    OURS("POST", "/operations/{id}/resume", "resumeOperation", DR_ROLE_OPERATE, no_query, BODY_MAY,
         dr_api_resume),
    OURS("POST", "/operations/{id}/stop", "stopOperation", DR_ROLE_OPERATE, no_query, BODY_MAY,
         dr_api_stop_op),
    OURS("POST", "/operations/{id}/rollback", "rollbackOperation", DR_ROLE_OPERATE, no_query,
         BODY_MAY, dr_api_rollback),
    OURS("POST", "/operations/{id}/tune", "tuneOperation", DR_ROLE_OPERATE, no_query, BODY_MUST,
         dr_api_tune),
    OURS("GET", "/operations/{id}/rollbacks", "listRollbacksOfOperation", DR_ROLE_READ, page_query,
         BODY_NONE, dr_api_op_rollbacks),
    OURS("GET", "/rollbacks", "listRollbacks", DR_ROLE_READ, page_query, BODY_NONE,
         dr_api_rollbacks),
    OURS("GET", "/health", "getHealth", DR_ROLE_READ, no_query, BODY_NONE, dr_api_health),
    OURS("POST", "/health/recover", "recover", DR_ROLE_OPERATE, no_query, BODY_NONE,
         dr_api_recover),
    OURS("POST", "/cleanup", "cleanUp", DR_ROLE_OPERATE, no_query, BODY_MUST, dr_api_cleanup),
    OURS("GET", "/alerts", "getAlerts", DR_ROLE_READ, no_query, BODY_NONE, dr_api_alerts),
    OURS("GET", "/healthz", "isAlive", DR_ROLE_NONE, no_query, BODY_NONE, dr_api_healthz),
    OURS("GET", "/livez", "isAliveToo", DR_ROLE_NONE, no_query, BODY_NONE, dr_api_healthz),
    OURS("GET", "/readyz", "isReady", DR_ROLE_NONE, no_query, BODY_NONE, dr_api_readyz),
    OURS("GET", "/metrics", "getMetrics", DR_ROLE_READ, no_query, BODY_NONE, dr_api_metrics),
};

enum { ROUTE_COUNT = sizeof routes / sizeof routes[0] };

/* Ours first, then the catalog's; NULL behind the last. */
static const struct dr_route *route_at(uint32_t n)
{
    return n < ROUTE_COUNT ? &routes[n] : dr_rest_route_at(n - ROUTE_COUNT);
}

int dr_api_route_at(uint32_t n, struct dr_api_route_info *out)
{
    const struct dr_route *route = route_at(n);
    if (route == NULL) {
        return 0;
    }
    *out = route->info;
    return 1;
}

static int hex_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* One segment of a path, %XX decoded; NULL when it is malformed, empty or holds a control
 * character. A slash that was written %2F is part of the value and separates nothing. */
static char *decode_segment(const char *text, size_t bytes)
{
    size_t used = 0;
    char *out = bytes == 0 ? NULL : dr_malloc(bytes + 1);
    for (size_t i = 0; out != NULL && i < bytes; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < bytes ? hex_of(text[i + 1]) : -1;
            int low = i + 2 < bytes ? hex_of(text[i + 2]) : -1;
            c = high < 0 || low < 0 ? 0 : high * 16 + low; /* 0 is refused below */
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) {
            dr_free(out);
            return NULL;
        }
        out[used++] = (char)c;
    }
    if (out != NULL) {
        out[used] = '\0';
    }
    return out;
}

enum { PARAMS_MAX = 2 };

struct piece {
    const char *from; /* NULL: the pattern has none */
    size_t bytes;
};

/* Does `path` fit? Where the pattern says {id}, piece[] is what stands there. */
static bool fits(const char *pattern, const char *path, size_t path_bytes, struct piece *piece)
{
    const char *end = path + path_bytes;
    unsigned count = 0;
    piece[0] = piece[1] = (struct piece){NULL, 0};
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (path == end || *pattern++ != *path++) {
                return false;
            }
            continue;
        }
        size_t bytes = 0;
        while (path + bytes < end && path[bytes] != '/') {
            bytes++;
        }
        pattern = strchr(pattern, '}') + 1;
        piece[count++] = (struct piece){path, bytes};
        path += bytes;
    }
    return path == end;
}

static bool take_params(struct dr_call *c, const struct dr_route *route, const struct piece *piece)
{
    char **into[PARAMS_MAX] = {&c->param, &c->param2};
    for (unsigned i = 0; i < PARAMS_MAX; i++) {
        dr_free(*into[i]);
        *into[i] = NULL;
        if (piece[i].from == NULL) {
            continue;
        }
        *into[i] = decode_segment(piece[i].from, piece[i].bytes);
        if (*into[i] == NULL) {
            return false;
        }
    }
    bool is_op = strncmp(route->info.path, "/operations/", strlen("/operations/")) == 0;
    return !is_op || (dr_parse_i64(c->param, &c->op_id) && c->op_id > 0);
}

/* The catalog's clients may write a slash behind a path; ours never could. */
static size_t length_for(const struct dr_route *route, const char *path)
{
    size_t bytes = strlen(path);
    return route->is_catalog && bytes > 1 && path[bytes - 1] == '/' ? bytes - 1 : bytes;
}

const struct dr_route *dr_route_find(struct dr_call *c, const char *path, char *allow_out,
                                     size_t allow_bytes)
{
    const struct dr_route *found = NULL;
    const struct dr_route *route;
    size_t used = 0;
    allow_out[0] = '\0';
    for (uint32_t i = 0; (route = route_at(i)) != NULL; i++) {
        struct piece piece[PARAMS_MAX];
        if (!fits(route->info.path, path, length_for(route, path), piece)) {
            continue;
        }
        c->is_catalog |= route->is_catalog;
        int wrote = snprintf(allow_out + used, allow_bytes - used, "%s%s", used > 0 ? ", " : "",
                             route->info.method);
        used += wrote > 0 ? (size_t)wrote : 0;
        used = used < allow_bytes ? used : allow_bytes - 1;
        /* The first one that fits: fixed paths stand before those with parameters. */
        if (found != NULL || strcmp(route->info.method, c->method) != 0) {
            continue;
        }
        if (!take_params(c, route, piece)) {
            allow_out[0] = '\0';
            return NULL;
        }
        found = route;
    }
    return found;
}
