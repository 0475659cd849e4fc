/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the requests that store a new operation: any job, and the purge of a service's statistics.
 * What comes in here counts as approved by its sender. */
#include <stdio.h>
#include <string.h>

#include "api/api_private.h"
#include "verbs/job.h"
#include "verbs/show.h"

/* Answer with the operation: 202 when it is new, 200 when the key was used for it before. */
static enum dr_code answer_op(struct dr_call *c, int64_t op_id, bool is_repeated,
                              struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(c->api->serve->queue, op_id, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    c->reply = dr_show_op_json(&op);
    if (c->reply == NULL ||
        json_object_set_new(c->reply, "repeated", json_boolean(is_repeated)) != 0) {
        return dr_fail_nomem(err);
    }
    (void)snprintf(c->location, sizeof c->location, "/operations/%lld", (long long)op_id);
    c->status = is_repeated ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED;
    return DR_OK;
}

static enum dr_code read_key(const struct dr_call *c, const char **key_out, struct dr_err *err)
{
    const char *key = dr_call_header(c, "Idempotency-Key");
    *key_out = key;
    if (key == NULL) {
        return DR_OK;
    }
    for (const char *at = key; *at != '\0'; at++) {
        if (*at < 0x21 || *at > 0x7e) {
            return dr_fail(err, DR_INPUT,
                           "Idempotency-Key: must be printable ASCII without blanks");
        }
    }
    size_t length = strlen(key);
    if (length == 0 || length > DR_API_KEY_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "Idempotency-Key: must have 1 to %d characters",
                       DR_API_KEY_BYTES_MAX);
    }
    return DR_OK;
}

/* What cannot be undone is for admins, unless the configuration, which is theirs, asks for it. */
static enum dr_code may_be_irreversible(const struct dr_call *c, bool is_configured,
                                        struct dr_err *err)
{
    return is_configured ? DR_OK : dr_call_need(c, DR_ROLE_ADMIN, "an irreversible operation", err);
}

/* Survey and plan, a few at a time: they are the only requests that are heavy. */
static enum dr_code plan_in_turn(struct dr_call *c, struct dr_prepared *p, struct dr_err *err)
{
    if (atomic_fetch_add(&c->api->plans, 1) >= DR_API_PLANS_MAX) {
        (void)atomic_fetch_sub(&c->api->plans, 1);
        return dr_fail(err, DR_BUSY, "%d jobs are being planned at the moment; come again",
                       DR_API_PLANS_MAX);
    }
    enum dr_code rc = dr_job_plan(c->api->serve->config, c->api->serve->world, p, &c->place, err);
    (void)atomic_fetch_sub(&c->api->plans, 1);
    return rc;
}

static enum dr_code plan_and_store(struct dr_call *c, struct dr_prepared *p, const char *key,
                                   const json_t *asked, bool is_configured, struct dr_err *err)
{
    int64_t op_id = 0;
    bool is_repeated = false;
    const struct dr_job_put put = {.wish = DR_WISH_RUN, .by = c->who, .key = key, .asked = asked};
    enum dr_code rc = plan_in_turn(c, p, err);
    if (rc == DR_OK && dr_plan_is_irreversible(p->plan)) {
        rc = may_be_irreversible(c, is_configured, err);
    }
    if (rc == DR_OK) {
        int64_t begin = dr_mono_us();
        rc = dr_job_store(c->api->serve->queue, p, &put, &op_id, &is_repeated, &c->place, err);
        dr_api_count_commit(c->api, begin);
    }
    return rc == DR_OK ? answer_op(c, op_id, is_repeated, err) : rc;
}

/* Takes the reference to `job`. `asked` is what the sender asked for, which an idempotency key
 * stands for; `is_configured` says that the configuration wants it irreversible. */
static enum dr_code submit(struct dr_call *c, json_t *job, const json_t *asked, bool is_configured,
                           struct dr_err *err)
{
    const char *key = NULL;
    int64_t op_id = 0;
    struct dr_prepared p = {.job = job};
    enum dr_code rc = read_key(c, &key, err);
    if (rc == DR_OK && key != NULL) {
        c->place = DR_AT_DATA;
        rc = dr_job_find(c->api->serve->queue, key, asked, &op_id, err);
    }
    if (rc == DR_OK && op_id != 0) {
        rc = answer_op(c, op_id, true, err);
    } else if (rc == DR_OK) {
        c->place = DR_AT_NOTHING;
        rc = dr_job_parse(c->api->serve->config, job, "job", &p, err);
        if (rc == DR_OK && p.request->irreversible) {
            rc = may_be_irreversible(c, is_configured, err);
        }
        if (rc == DR_OK) {
            rc = plan_and_store(c, &p, key, asked, is_configured, err);
        }
    }
    dr_prepared_fini(&p);
    return rc;
}

enum dr_code dr_api_submit(struct dr_call *c, struct dr_err *err)
{
    return submit(c, json_incref(c->json), c->json, false, err);
}

/* What the sender asks for: the service and the body. The lists' elements and the order of the
 * times are the request's to check, which every door goes through; here it is only that nothing
 * else is asked for. *out is the caller's also on failure. */
static enum dr_code read_stats_body(const struct dr_call *c, json_t **out, struct dr_err *err)
{
    static const char *const keys[] = {"applications", "metrics", "users", "from", "to"};
    struct dr_jr r;
    const json_t *value = NULL;
    int bad = 0;
    json_t *service = json_string(c->param);
    if (service == NULL) {
        return dr_fail(err, DR_INPUT, "the service's id in the path is not valid UTF-8");
    }
    *out = json_pack("{s:s, s:[o]}", "kind", "redis.purge-stats", "services", service);
    if (*out == NULL) {
        return dr_fail_nomem(err);
    }
    dr_jr_init(&r, c->json, "body", err);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (dr_jr_any(&r, keys[i], false, &value)) {
            bad |= json_object_set(*out, keys[i], (json_t *)value);
        }
    }
    enum dr_code rc = dr_jr_finish(&r);
    return rc == DR_OK && bad != 0 ? dr_fail_nomem(err) : rc;
}

enum dr_code dr_api_delete_stats(struct dr_call *c, struct dr_err *err)
{
    json_t *asked = NULL;
    const json_t *start = c->api->serve->config->redis_stats;
    if (start == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "the configuration of this drover names no store for statistics (key "
                       "redis_stats)");
    }
    enum dr_code rc = read_stats_body(c, &asked, err);
    json_t *job = rc == DR_OK ? json_copy((json_t *)start) : NULL;
    if (rc == DR_OK && (job == NULL || json_object_update(job, asked) != 0)) {
        json_decref(job);
        rc = dr_fail_nomem(err);
    }
    /* Whichever way costs the store less is right here: the sender cannot know how many keys there
     * are, and the work is of low priority. A configuration that says otherwise is followed. */
    if (rc == DR_OK && json_object_get(job, "allow_scan") == NULL &&
        json_object_set_new(job, "allow_scan", json_true()) != 0) {
        json_decref(job);
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK) {
        bool is_configured = json_is_true(json_object_get(start, "irreversible"));
        rc = submit(c, job, asked, is_configured, err);
    }
    json_decref(asked);
    return rc;
}
