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

static const struct dr_route routes[] = {
    {{"DELETE", "/services/{id}/stats", "deleteServiceStats", DR_ROLE_OPERATE, no_query},
     BODY_MUST,
     dr_api_delete_stats},
    {{"POST", "/operations", "submitOperation", DR_ROLE_OPERATE, no_query},
     BODY_MUST,
     dr_api_submit},
    {{"GET", "/operations", "listOperations", DR_ROLE_READ, page_query}, BODY_NONE, dr_api_list},
    {{"GET", "/operations/{id}", "getOperation", DR_ROLE_READ, no_query}, BODY_NONE, dr_api_get},
    {{"GET", "/operations/{id}/steps", "listSteps", DR_ROLE_READ, step_query},
     BODY_NONE,
     dr_api_steps},
    {{"GET", "/operations/{id}/explain", "explainOperation", DR_ROLE_READ, no_query},
     BODY_NONE,
     dr_api_explain},
    {{"POST", "/operations/{id}/pause", "pauseOperation", DR_ROLE_OPERATE, no_query},
     BODY_MAY,
     dr_api_pause},
    {{"POST", "/operations/{id}/resume", "resumeOperation", DR_ROLE_OPERATE, no_query},
     BODY_MAY,
     dr_api_resume},
    {{"POST", "/operations/{id}/stop", "stopOperation", DR_ROLE_OPERATE, no_query},
     BODY_MAY,
     dr_api_stop_op},
    {{"POST", "/operations/{id}/rollback", "rollbackOperation", DR_ROLE_OPERATE, no_query},
     BODY_MAY,
     dr_api_rollback},
    {{"POST", "/operations/{id}/tune", "tuneOperation", DR_ROLE_OPERATE, no_query},
     BODY_MUST,
     dr_api_tune},
    {{"GET", "/healthz", "isAlive", DR_ROLE_NONE, no_query}, BODY_NONE, dr_api_healthz},
    {{"GET", "/readyz", "isReady", DR_ROLE_NONE, no_query}, BODY_NONE, dr_api_readyz},
    {{"GET", "/metrics", "getMetrics", DR_ROLE_READ, no_query}, BODY_NONE, dr_api_metrics},
};

enum { ROUTE_COUNT = sizeof routes / sizeof routes[0] };

int dr_api_route_at(uint32_t n, struct dr_api_route_info *out)
{
    if (n >= ROUTE_COUNT) {
        return 0;
    }
    *out = routes[n].info;
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

/* Does `path` fit? Where the pattern says {id}, *from_out and *bytes_out are what stands there. */
static bool fits(const char *pattern, const char *path, const char **from_out, size_t *bytes_out)
{
    *from_out = NULL;
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return false;
            }
            continue;
        }
        pattern = strchr(pattern, '}') + 1;
        *from_out = path;
        *bytes_out = strcspn(path, "/");
        path += *bytes_out;
    }
    return *path == '\0';
}

static bool take_param(struct dr_call *c, const struct dr_route *route, const char *from,
                       size_t bytes)
{
    if (from == NULL) {
        return true;
    }
    dr_free(c->param);
    c->param = decode_segment(from, bytes);
    bool is_op = strncmp(route->info.path, "/operations/", strlen("/operations/")) == 0;
    if (c->param == NULL) {
        return false;
    }
    return !is_op || (dr_parse_i64(c->param, &c->op_id) && c->op_id > 0);
}

const struct dr_route *dr_route_find(struct dr_call *c, const char *path, char *allow_out,
                                     size_t allow_bytes)
{
    const struct dr_route *found = NULL;
    size_t used = 0;
    allow_out[0] = '\0';
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        const char *from = NULL;
        size_t bytes = 0;
        if (!fits(routes[i].info.path, path, &from, &bytes)) {
            continue;
        }
        int wrote = snprintf(allow_out + used, allow_bytes - used, "%s%s", used > 0 ? ", " : "",
                             routes[i].info.method);
        used += wrote > 0 ? (size_t)wrote : 0;
        if (strcmp(routes[i].info.method, c->method) != 0) {
            continue;
        }
        if (!take_param(c, &routes[i], from, bytes)) {
            allow_out[0] = '\0';
            return NULL;
        }
        found = &routes[i];
    }
    return found;
}
