/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the REST calls about points. Every write is answered when write_consistency_factor replicas
 * have it, whatever `wait` and `ordering` ask for: both are checked, and more is promised. */
#include "api/rest_private.h"

#ifdef DROVER_RAFT
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

typedef bool check_fn(const json_t *body, struct dr_fault *f);

static bool is_one_of(const char *text, const char *const *known)
{
    for (; *known != NULL; known++) {
        if (strcmp(text, *known) == 0) {
            return true;
        }
    }
    return false;
}

/* False with *f filled when a parameter has a value it cannot have. */
static bool check_query(const struct dr_call *c, uint64_t *timeout_ms_out, struct dr_fault *f)
{
    static const char *const bools[] = {"true", "false", NULL};
    static const char *const orders[] = {"weak", "medium", "strong", NULL};
    static const char *const levels[] = {"majority", "quorum", "all", NULL};
    uint64_t n = 0;
    const char *wait = dr_call_query(c, "wait");
    const char *ordering = dr_call_query(c, "ordering");
    const char *level = dr_call_query(c, "consistency");
    const char *timeout = dr_call_query(c, "timeout");
    const char *wrong = NULL;
    if (wait != NULL && !is_one_of(wait, bools)) {
        wrong = "wait: expected `true` or `false`";
    } else if (ordering != NULL && !is_one_of(ordering, orders)) {
        wrong = "ordering: expected `weak`, `medium` or `strong`";
    } else if (level != NULL && !is_one_of(level, levels) && (!dr_parse_u64(level, &n) || n == 0)) {
        wrong = "consistency: expected a number of replicas, `majority`, `quorum` or `all`";
    } else if (timeout != NULL && !dr_parse_u64(timeout, &n)) {
        wrong = "timeout: expected a whole number of seconds";
    }
    if (wrong != NULL) {
        f->kind = DR_FAULT_FORMAT;
        dr_copy_text(f->text, sizeof f->text, wrong);
        return false;
    }
    *timeout_ms_out = timeout != NULL ? n * 1000 : 0;
    return timeout == NULL || dr_check_timeout(n, f);
}

/* Asks the verb with `body`; *is_asked_out false: the call is answered already. */
static void ask_points(struct dr_call *c, dr_cluster_verb *verb, check_fn *check,
                       const json_t *body, struct dr_cluster_reply *reply, bool *is_asked_out)
{
    struct dr_fault f = {0};
    struct dr_cluster_caller who = {.who = c->who};
    *is_asked_out = false;
    if (!dr_check_name(c->param, false, &f)) {
        dr_rest_fault(c, "path parameters", &f);
    } else if (!check_query(c, &who.timeout_ms, &f)) {
        dr_rest_fault(c, "query parameters", &f);
    } else if (!check(body, &f)) {
        dr_rest_fault(c, "JSON body", &f);
    } else {
        verb(c->api->serve->cluster, &who, c->param, body, reply);
        *is_asked_out = true;
    }
}

static enum dr_code run_points(struct dr_call *c, dr_cluster_verb *verb, check_fn *check,
                               struct dr_err *err)
{
    struct dr_cluster_reply reply = {0};
    bool is_asked = false;
    ask_points(c, verb, check, c->json, &reply, &is_asked);
    return is_asked ? dr_rest_answer(c, &reply, err) : DR_OK;
}

enum dr_code dr_rest_upsert(struct dr_call *c, struct dr_err *err)
{
    return run_points(c, dr_points_upsert, dr_check_upsert, err);
}

enum dr_code dr_rest_points_get(struct dr_call *c, struct dr_err *err)
{
    return run_points(c, dr_points_get, dr_check_points_get, err);
}

enum dr_code dr_rest_points_delete(struct dr_call *c, struct dr_err *err)
{
    return run_points(c, dr_points_delete, dr_check_points_delete, err);
}

enum dr_code dr_rest_points_count(struct dr_call *c, struct dr_err *err)
{
    return run_points(c, dr_points_count, dr_check_count, err);
}

enum dr_code dr_rest_points_scroll(struct dr_call *c, struct dr_err *err)
{
    return run_points(c, dr_points_scroll, dr_check_scroll, err);
}

enum dr_code dr_rest_point(struct dr_call *c, struct dr_err *err)
{
    int64_t number = 0;
    char text[DR_DOOR_TEXT_BYTES];
    bool is_asked = false;
    struct dr_cluster_reply reply = {0};
    json_t *id = dr_parse_i64(c->param2, &number) && number >= 0 ? json_integer(number)
                                                                 : json_string(c->param2);
    json_t *body = json_pack("{s:[o], s:b, s:b}", "ids", id, "with_payload", 1, "with_vector", 1);
    if (body == NULL) {
        dr_rest_fail(c, MHD_HTTP_BAD_REQUEST, "Bad request: the point's id is not valid UTF-8");
        return DR_OK;
    }
    ask_points(c, dr_points_get, dr_check_points_get, body, &reply, &is_asked);
    json_decref(body);
    if (!is_asked) {
        return DR_OK;
    }
    if (reply.class == DR_CLASS_OK && json_array_size(reply.result) == 0) {
        (void)snprintf(text, sizeof text, "Not found: Point with id %.200s does not exists!",
                       c->param2);
        dr_rest_fail(c, MHD_HTTP_NOT_FOUND, text);
        dr_cluster_reply_fini(&reply);
        return DR_OK;
    }
    if (reply.class == DR_CLASS_OK) {
        json_t *first = json_incref(json_array_get(reply.result, 0));
        json_decref(reply.result);
        reply.result = first;
    }
    return dr_rest_answer(c, &reply, err);
}
#endif
