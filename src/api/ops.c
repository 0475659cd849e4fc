/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the requests about stored operations: looking and steering. Steering sets a wish, which the
 * pool beside us obeys; the answer says how far that has come. */
#include <string.h>

#include "api/api_private.h"
#include "base/mem.h"
#include "verbs/explain.h"
#include "verbs/show.h"
#include "verbs/steer.h"

enum { OPS_DEFAULT = 50, OPS_MAX = 200, STEPS_DEFAULT = 100, STEPS_MAX = 500 };

static struct dr_queue *queue_of(const struct dr_call *c)
{
    return c->api->serve->queue;
}

/* {KEY: list, "next": the id to go on with, or null at the end}. Takes the reference to `list`. */
static enum dr_code answer_page(struct dr_call *c, const char *key, json_t *list, int64_t next,
                                struct dr_err *err)
{
    json_t *after = next != 0 ? json_integer(next) : json_null();
    c->reply = json_pack("{s:o, s:o}", key, list, "next", after);
    return c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_api_list(struct dr_call *c, struct dr_err *err)
{
    int64_t before = 0;
    int64_t limit = OPS_DEFAULT;
    uint32_t count = 0;
    struct dr_op *page = NULL;
    json_t *list = NULL;
    enum dr_code rc = dr_call_query_i64(c, "before", 1, INT64_MAX, &before, err);
    if (rc == DR_OK) {
        rc = dr_call_query_i64(c, "limit", 1, OPS_MAX, &limit, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    page = dr_calloc((size_t)limit, sizeof *page);
    list = json_array();
    rc = page == NULL || list == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        c->place = DR_AT_DATA;
        rc = dr_queue_ops(queue_of(c), before, page, (uint32_t)limit, &count, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = json_array_append_new(list, dr_show_op_json(&page[i])) != 0 ? dr_fail_nomem(err)
                                                                         : DR_OK;
    }
    if (rc == DR_OK) {
        bool may_be_more = count == (uint32_t)limit;
        rc = answer_page(c, "operations", json_incref(list), may_be_more ? page[count - 1].id : 0,
                         err);
    }
    json_decref(list);
    dr_free(page);
    return rc;
}

/* Read the operation of the path into *op and answer with it. */
static enum dr_code answer_op(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(queue_of(c), c->op_id, &op, err);
    if (rc == DR_OK) {
        c->reply = dr_show_op_json(&op);
        rc = c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return rc;
}

enum dr_code dr_api_get(struct dr_call *c, struct dr_err *err)
{
    return answer_op(c, err);
}

static enum dr_code query_status(const struct dr_call *c, enum dr_step_status *out,
                                 struct dr_err *err)
{
    const char *text = dr_call_query(c, "status");
    *out = DR_S_COUNT;
    for (int s = 0; text != NULL && s < DR_S_COUNT; s++) {
        if (strcmp(dr_step_status_name((enum dr_step_status)s), text) == 0) {
            *out = (enum dr_step_status)s;
        }
    }
    return text != NULL && *out == DR_S_COUNT
               ? dr_fail(err, DR_INPUT, "query.status: no step has the status \"%.40s\"", text)
               : DR_OK;
}

enum dr_code dr_api_steps(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    int64_t after = 0;
    int64_t limit = STEPS_DEFAULT;
    uint32_t count = 0;
    enum dr_step_status status = DR_S_COUNT;
    struct dr_step *page = NULL;
    json_t *list = NULL;
    enum dr_code rc = dr_call_query_i64(c, "after", 0, INT64_MAX, &after, err);
    if (rc == DR_OK) {
        rc = dr_call_query_i64(c, "limit", 1, STEPS_MAX, &limit, err);
    }
    if (rc == DR_OK) {
        rc = query_status(c, &status, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    page = dr_calloc((size_t)limit, sizeof *page);
    list = json_array();
    c->place = DR_AT_DATA;
    rc = page == NULL || list == NULL ? dr_fail_nomem(err)
                                      : dr_queue_op(queue_of(c), c->op_id, &op, err);
    if (rc == DR_OK) {
        rc = dr_queue_steps(queue_of(c), c->op_id, status, after, page, (uint32_t)limit, &count,
                            err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = json_array_append_new(list, dr_show_step_json(&page[i])) != 0 ? dr_fail_nomem(err)
                                                                           : DR_OK;
    }
    if (rc == DR_OK) {
        bool may_be_more = count == (uint32_t)limit;
        rc = answer_page(c, "steps", json_incref(list), may_be_more ? page[count - 1].id : 0, err);
    }
    json_decref(list);
    dr_free(page);
    return rc;
}

enum dr_code dr_api_explain(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(queue_of(c), c->op_id, &op, err);
    return rc == DR_OK ? dr_explain_op_json(queue_of(c), &op, &c->reply, err) : rc;
}

/* --- steering ------------------------------------------------------------------------------------
 */

/* The optional body of a wish; `now` is NULL where there is no such key. */
static enum dr_code read_wish_body(const struct dr_call *c, const char **reason, bool *now,
                                   struct dr_err *err)
{
    struct dr_jr r;
    if (c->json == NULL) {
        return DR_OK;
    }
    dr_jr_init(&r, c->json, "body", err);
    (void)dr_jr_string(&r, "reason", false, reason);
    if (now != NULL) {
        (void)dr_jr_bool(&r, "now", false, now);
    }
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK && strlen(*reason) >= DR_REASON_BYTES) {
        rc = dr_fail(err, DR_INPUT, "body.reason: is longer than %d bytes", DR_REASON_BYTES - 1);
    }
    return rc;
}

static enum dr_code set_wish(struct dr_call *c, enum dr_wish wish, const char *reason,
                             struct dr_err *err)
{
    c->place = DR_AT_DATA;
    int64_t begin = dr_mono_us();
    enum dr_code rc = dr_queue_wish(queue_of(c), c->op_id, wish, c->who, reason, err);
    dr_api_count_commit(c->api, begin);
    if (rc == DR_OK) {
        rc = answer_op(c, err);
    }
    if (rc == DR_OK) {
        c->status = MHD_HTTP_ACCEPTED;
    }
    return rc;
}

static enum dr_code wish_of_body(struct dr_call *c, enum dr_wish wish, struct dr_err *err)
{
    const char *reason = "";
    enum dr_code rc = read_wish_body(c, &reason, NULL, err);
    return rc == DR_OK ? set_wish(c, wish, reason, err) : rc;
}

enum dr_code dr_api_pause(struct dr_call *c, struct dr_err *err)
{
    return wish_of_body(c, DR_WISH_PAUSE, err);
}

/* Resuming a plan that nobody approved approves it: that takes the role that submitting takes. */
enum dr_code dr_api_resume(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(queue_of(c), c->op_id, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (op.is_irreversible && !dr_op_is_approved(&op)) {
        c->place = DR_AT_NOTHING;
        rc = dr_call_need(c, DR_ROLE_ADMIN, "approving an irreversible operation", err);
    }
    return rc == DR_OK ? wish_of_body(c, DR_WISH_RUN, err) : rc;
}

enum dr_code dr_api_stop_op(struct dr_call *c, struct dr_err *err)
{
    const char *reason = "";
    bool now = false;
    enum dr_code rc = read_wish_body(c, &reason, &now, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (now && reason[0] == '\0') {
        reason = "stop now";
    }
    return set_wish(c, now ? DR_WISH_ROLLBACK : DR_WISH_STOP, reason, err);
}

static enum dr_code rollback_to(struct dr_call *c, int64_t step_id, const char *reason,
                                struct dr_err *err)
{
    c->place = DR_AT_DATA;
    int64_t begin = dr_mono_us();
    enum dr_code rc = dr_queue_rollback_to(queue_of(c), c->op_id, step_id, c->who, reason, err);
    dr_api_count_commit(c->api, begin);
    rc = rc == DR_OK ? answer_op(c, err) : rc;
    if (rc == DR_OK) {
        c->status = MHD_HTTP_ACCEPTED;
    }
    return rc;
}

/* All of it, or with "to_step" what comes behind that step. */
enum dr_code dr_api_rollback(struct dr_call *c, struct dr_err *err)
{
    struct dr_jr r;
    const char *reason = "";
    int64_t step_id = 0;
    if (json_object_get(c->json, "to_step") == NULL) {
        return wish_of_body(c, DR_WISH_ROLLBACK, err);
    }
    dr_jr_init(&r, c->json, "body", err);
    (void)dr_jr_string(&r, "reason", false, &reason);
    (void)dr_jr_i64(&r, "to_step", true, 1, INT64_MAX, &step_id);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK && strlen(reason) >= DR_REASON_BYTES) {
        rc = dr_fail(err, DR_INPUT, "body.reason: is longer than %d bytes", DR_REASON_BYTES - 1);
    }
    return rc == DR_OK ? rollback_to(c, step_id, reason, err) : rc;
}

/* Speed is for operators; the number of items that may go is a guard, and guards are for admins. */
enum dr_code dr_api_tune(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    struct dr_tuning checked;
    if (json_object_get(c->json, "max_items") != NULL) {
        enum dr_code may = dr_call_need(c, DR_ROLE_ADMIN, "changing max_items", err);
        if (may != DR_OK) {
            return may;
        }
    }
    dr_tuning_default(&checked);
    enum dr_code rc = dr_tuning_parse(c->json, "body", &checked, err);
    if (rc != DR_OK) {
        return rc;
    }
    c->place = DR_AT_DATA;
    rc = dr_queue_op(queue_of(c), c->op_id, &op, err);
    if (rc == DR_OK) {
        int64_t begin = dr_mono_us();
        rc = dr_steer_tune(queue_of(c), c->op_id, json_object_size(c->json) > 0 ? c->json : NULL,
                           "body", c->who, &c->reply, err);
        dr_api_count_commit(c->api, begin);
    }
    return rc;
}
