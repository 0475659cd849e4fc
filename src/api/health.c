/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the requests about health: looking at it, acting on it, cleaning up, alerts, and the history
 * of rollbacks. The work is verbs/health.h's. */
#include <string.h>

#include "api/api_private.h"
#include "base/mem.h"
#include "verbs/health.h"

enum { RUNS_DEFAULT = 50, RUNS_MAX = 200, WHATS_MAX = 8 };

static const json_t *config_of(const struct dr_call *c)
{
    return c->api->serve->config == NULL ? NULL : c->api->serve->config->json;
}

/* Nodes are asked: as heavy as a survey, so as few at a time. */
static enum dr_code look(struct dr_call *c, struct dr_health_report *out, struct dr_err *err)
{
    struct dr_health_rules rules;
    if (atomic_fetch_add(&c->api->plans, 1) >= DR_API_PLANS_MAX) {
        (void)atomic_fetch_sub(&c->api->plans, 1);
        return dr_fail(err, DR_BUSY, "%d requests ask the nodes at the moment; come again",
                       DR_API_PLANS_MAX);
    }
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_health_rules_of(config_of(c), &rules, err);
    rc = rc == DR_OK ? dr_health_look(c->api->serve->queue, c->api->serve->world, &rules, out, err)
                     : rc;
    (void)atomic_fetch_sub(&c->api->plans, 1);
    return rc;
}

enum dr_code dr_api_health(struct dr_call *c, struct dr_err *err)
{
    struct dr_health_report r = {0};
    enum dr_code rc = look(c, &r, err);
    if (rc == DR_OK) {
        c->reply = dr_health_json(&r);
        rc = c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_health_report_fini(&r);
    return rc;
}

enum dr_code dr_api_recover(struct dr_call *c, struct dr_err *err)
{
    struct dr_health_report r = {0};
    enum dr_code rc = look(c, &r, err);
    rc = rc == DR_OK ? dr_health_recover(c->api->serve->queue, c->api->serve->world, &r, c->who,
                                         &c->reply, err)
                     : rc;
    dr_health_report_fini(&r);
    return rc;
}

enum dr_code dr_api_alerts(struct dr_call *c, struct dr_err *err)
{
    struct dr_health_report r = {0};
    struct dr_alert_rules rules;
    struct dr_alert alert[DR_ALERT_COUNT];
    json_t *list = json_array();
    enum dr_code rc = list == NULL ? dr_fail_nomem(err) : look(c, &r, err);
    rc = rc == DR_OK ? dr_alert_rules_parse(json_object_get(config_of(c), "alerts"), &rules, err)
                     : rc;
    if (rc == DR_OK) {
        dr_alerts_judge(&rules, &r, alert);
    }
    for (int i = 0; rc == DR_OK && i < DR_ALERT_COUNT; i++) {
        json_t *one =
            json_pack("{s:s, s:s, s:f, s:f, s:s}", "alert", alert[i].name, "state",
                      alert[i].limit <= 0  ? "off"
                      : alert[i].is_firing ? "firing"
                                           : "quiet",
                      "value", alert[i].value, "limit", alert[i].limit, "text", alert[i].text);
        rc = json_array_append_new(list, one) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        c->reply = json_pack("{s:O}", "alerts", list);
        rc = c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(list);
    dr_health_report_fini(&r);
    return rc;
}

/* --- cleanup -----------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    uint32_t what;
} whats[] = {
    {"clusters", DR_CLEAN_CLUSTERS}, {"groups", DR_CLEAN_GROUPS},     {"queue", DR_CLEAN_QUEUE},
    {"state", DR_CLEAN_STATE},       {"archives", DR_CLEAN_ARCHIVES}, {"all", DR_CLEAN_ALL},
};

static enum dr_code add_what(const json_t *item, size_t n, uint32_t *what, struct dr_err *err)
{
    const char *name = json_string_value(item);
    for (size_t i = 0; name != NULL && i < sizeof whats / sizeof whats[0]; i++) {
        if (strcmp(whats[i].name, name) == 0) {
            *what |= whats[i].what;
            return DR_OK;
        }
    }
    return dr_fail(err, DR_INPUT,
                   "body.what[%zu]: must be clusters, groups, queue, state, archives or all", n);
}

static enum dr_code read_cleanup(struct dr_call *c, uint32_t *what, bool *is_dry_run,
                                 struct dr_err *err)
{
    struct dr_jr r;
    size_t i;
    json_t *item;
    const json_t *list = NULL;
    dr_jr_init(&r, c->json, "body", err);
    (void)dr_jr_array(&r, "what", true, WHATS_MAX, &list);
    (void)dr_jr_bool(&r, "dry_run", false, is_dry_run);
    enum dr_code rc = dr_jr_finish(&r);
    json_array_foreach((json_t *)list, i, item)
    {
        rc = rc == DR_OK ? add_what(item, i, what, err) : rc;
    }
    return rc == DR_OK && *what == 0
               ? dr_fail(err, DR_INPUT, "body.what: names nothing to clean up")
               : rc;
}

/* Looking at what would go is for operators; what goes here is gone for good. */
enum dr_code dr_api_cleanup(struct dr_call *c, struct dr_err *err)
{
    uint32_t what = 0;
    bool is_dry_run = false;
    struct dr_cleanup_ages ages;
    enum dr_code rc = read_cleanup(c, &what, &is_dry_run, err);
    if (rc == DR_OK && !is_dry_run) {
        rc = dr_call_need(c, DR_ROLE_ADMIN, "a cleanup that is no dry run", err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    c->place = DR_AT_DATA;
    rc = dr_cleanup_ages_of(config_of(c), &ages, err);
    return rc == DR_OK ? dr_cleanup_run(c->api->serve->queue, c->api->serve->world, what, &ages,
                                        is_dry_run, c->who, &c->reply, err)
                       : rc;
}

/* --- history of rollbacks ----------------------------------------------------------------------
 */

static json_t *time_json(dr_wall_ms at)
{
    char text[32];
    return at == 0 ? json_null() : json_string(dr_wall_text(at, text, sizeof text));
}

static json_t *run_json(const struct dr_rollback_run *r)
{
    return json_pack(
        "{s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:s}", "id",
        (json_int_t)r->id, "operation", (json_int_t)r->op_id, "trigger", r->trigger, "by", r->by,
        "reason", r->reason, "to_step", r->to_step == 0 ? json_null() : json_integer(r->to_step),
        "started", time_json(r->started_at), "ended", time_json(r->ended_at), "steps",
        (json_int_t)r->steps, "undone", (json_int_t)r->undone, "failed", (json_int_t)r->failed,
        "worked_ms", (json_int_t)r->worked_ms, "result", r->result, "first_error", r->first_error);
}

static enum dr_code answer_runs(struct dr_call *c, int64_t op_id, struct dr_err *err)
{
    int64_t before = 0;
    int64_t limit = RUNS_DEFAULT;
    uint32_t count = 0;
    enum dr_code rc = dr_call_query_i64(c, "before", 1, INT64_MAX, &before, err);
    rc = rc == DR_OK ? dr_call_query_i64(c, "limit", 1, RUNS_MAX, &limit, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    json_t *list = json_array();
    struct dr_rollback_run *run = dr_calloc((size_t)limit, sizeof *run);
    c->place = DR_AT_DATA;
    rc = run == NULL || list == NULL ? dr_fail_nomem(err)
                                     : dr_queue_rollbacks(c->api->serve->queue, op_id, before, run,
                                                          (uint32_t)limit, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = json_array_append_new(list, run_json(&run[i])) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        bool may_be_more = count == (uint32_t)limit;
        c->reply = json_pack("{s:O, s:o}", "rollbacks", list, "next",
                             may_be_more ? json_integer(run[count - 1].id) : json_null());
        rc = c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(list);
    dr_free(run);
    return rc;
}

enum dr_code dr_api_rollbacks(struct dr_call *c, struct dr_err *err)
{
    return answer_runs(c, 0, err);
}

enum dr_code dr_api_op_rollbacks(struct dr_call *c, struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(c->api->serve->queue, c->op_id, &op, err);
    c->place = rc == DR_OK ? DR_AT_NOTHING : c->place;
    return rc == DR_OK ? answer_runs(c, c->op_id, err) : rc;
}
