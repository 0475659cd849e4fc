/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verbs that look after everything at once: health, alerts, the history of rollbacks, and
 * the parts of cleanup that have names. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli_private.h"
#include "verbs/health.h"

enum { RUNS_PAGE = 64, WHEN_BYTES = 40, HOLDER_BYTES = 256 };

/* Look at the tables as well, where the catalog can be had: whoever else owns the folder looks for
 * himself. */
static const struct dr_store_world *world_of(struct dr_cli *c)
{
    char holder[HOLDER_BYTES];
    struct dr_err ignored = {0};
    if (dr_queue_is_owned(c->queue, holder, sizeof holder) && strcmp(holder, "this process") != 0) {
        dr_cli_say(c, "the nodes of sharded tables are not asked: %s works here", holder);
        return NULL;
    }
    return dr_cli_world(c, true, &ignored) == DR_OK ? &c->world : NULL;
}

static enum dr_code recover(struct dr_cli *c, const struct dr_health_report *r, struct dr_err *err)
{
    json_t *done = NULL;
    size_t i;
    json_t *one;
    enum dr_code rc = dr_cli_own(c, err);
    if (rc == DR_OK) {
        rc = dr_cli_world(c, false, err);
    }
    if (rc == DR_OK) {
        rc = dr_health_recover(c->queue, &c->world, r, c->who, &done, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(done, err);
    }
    json_array_foreach(json_object_get(done, "actions_taken"), i, one)
    {
        (void)printf("done: %s\n", json_string_value(one));
    }
    json_array_foreach(json_object_get(done, "failed"), i, one)
    {
        (void)printf("failed: %s: %s\n", json_string_value(json_object_get(one, "what")),
                     json_string_value(json_object_get(one, "error")));
    }
    json_array_foreach(json_object_get(done, "needs_a_person"), i, one)
    {
        (void)printf("needs a person: %s\n", json_string_value(one));
    }
    json_decref(done);
    return DR_OK;
}

enum dr_code dr_cli_health(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_health_rules rules;
    struct dr_health_report report = {0};
    bool recovers = dr_args_has(c->args, "recover");
    dr_health_rules_default(&rules);
    enum dr_code rc = dr_cli_queue(c, true, err);
    if (rc == DR_OK) {
        rc = dr_health_look(c->queue, world_of(c), &rules, &report, err);
    }
    if (rc == DR_OK && (!recovers || !c->is_json)) {
        if (c->is_json) {
            rc = dr_cli_put_json(dr_health_json(&report), err);
        } else {
            struct dr_str out;
            dr_str_init(&out);
            dr_health_print(&report, &out);
            rc = dr_cli_put_text(&out, err);
        }
    }
    if (rc == DR_OK && recovers) {
        rc = recover(c, &report, err);
    } else if (rc == DR_OK && !report.is_healthy) {
        *exit_out = DR_EXIT_UNHEALTHY;
    }
    dr_health_report_fini(&report);
    return rc;
}

/* --- alerts ---------------------------------------------------------------------------------- */

static enum dr_code rules_of(struct dr_cli *c, struct dr_alert_rules *rules, struct dr_err *err)
{
    const json_t *own = json_object_get(c->config.json, "alerts");
    dr_alert_rules_default(rules);
    return own == NULL ? DR_OK : dr_alert_rules_parse(own, rules, err);
}

enum dr_code dr_cli_alerts_rules(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_alert_rules rules;
    struct dr_str out;
    (void)exit_out;
    enum dr_code rc = rules_of(c, &rules, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&out);
    dr_alerts_prometheus(&rules, &out);
    return dr_cli_put_text(&out, err);
}

static enum dr_code put_alerts(struct dr_cli *c, const struct dr_alert *alert, bool *any_out,
                               struct dr_err *err)
{
    json_t *list = json_array();
    *any_out = false;
    for (int i = 0; list != NULL && i < DR_ALERT_COUNT; i++) {
        const struct dr_alert *a = &alert[i];
        *any_out = *any_out || a->is_firing;
        if (!c->is_json) {
            (void)printf("%-8s %-24s %s\n", a->is_firing ? "FIRING" : "ok", a->name, a->text);
            continue;
        }
        if (json_array_append_new(list, json_pack("{s:s,s:b,s:f,s:f,s:s}", "alert", a->name,
                                                  "firing", a->is_firing ? 1 : 0, "value", a->value,
                                                  "limit", a->limit, "text", a->text)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (c->is_json || list == NULL) {
        return dr_cli_put_json(list, err);
    }
    json_decref(list);
    return DR_OK;
}

/* Once, for a timer: looks, sends what is new or over, and says how it stands. */
enum dr_code dr_cli_alerts_check(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_alert_rules rules;
    struct dr_health_rules looked;
    struct dr_health_report report = {0};
    struct dr_alert alert[DR_ALERT_COUNT];
    struct dr_alerter *alerter = NULL;
    bool any = false;
    enum dr_code rc = rules_of(c, &rules, err);
    dr_health_rules_default(&looked);
    rc = rc == DR_OK ? dr_cli_queue(c, true, err) : rc;
    rc = rc == DR_OK ? dr_cli_log(c, DR_LOG_WARN, err) : rc;
    if (rc == DR_OK) {
        looked.stuck_ms = rules.stuck_ms > 0 ? rules.stuck_ms : looked.stuck_ms;
        rc = dr_health_look(c->queue, world_of(c), &looked, &report, err);
    }
    if (rc == DR_OK && !dr_args_has(c->args, "dry-run")) {
        rc = dr_alerter_create(c->data_dir, &rules, c->log, &alerter, err);
    }
    if (rc == DR_OK) {
        if (alerter != NULL) {
            dr_alerter_look(alerter, &report);
        }
        dr_alerts_judge(&rules, &report, alert);
        rc = put_alerts(c, alert, &any, err);
    }
    dr_alerter_destroy(alerter);
    dr_health_report_fini(&report);
    if (rc == DR_OK && any) {
        *exit_out = DR_EXIT_UNHEALTHY;
    }
    return rc;
}

/* --- the history of rollbacks ---------------------------------------------------------------- */

static json_t *run_json(const struct dr_rollback_run *r)
{
    char started[WHEN_BYTES];
    char ended[WHEN_BYTES];
    return json_pack("{s:I,s:I,s:s,s:s,s:s,s:I,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:s}", "id",
                     (json_int_t)r->id, "operation", (json_int_t)r->op_id, "trigger", r->trigger,
                     "by", r->by, "reason", r->reason, "to_step", (json_int_t)r->to_step, "started",
                     dr_show_when(r->started_at, started, WHEN_BYTES), "ended",
                     dr_show_when(r->ended_at, ended, WHEN_BYTES), "result", r->result, "steps",
                     (json_int_t)r->steps, "undone", (json_int_t)r->undone, "failed",
                     (json_int_t)r->failed, "worked_ms", (json_int_t)r->worked_ms, "first_error",
                     r->first_error);
}

static void print_run(const struct dr_rollback_run *r)
{
    char when[WHEN_BYTES];
    char took[32];
    (void)printf(
        "%5lld  op %-5lld %-20s %-8s %-8s %llu of %llu steps in %s%s%s%s%s\n", (long long)r->id,
        (long long)r->op_id, dr_show_when(r->started_at, when, sizeof when), r->trigger, r->result,
        (unsigned long long)r->undone, (unsigned long long)r->steps,
        dr_human_ms(r->worked_ms, took, sizeof took), r->reason[0] != '\0' ? "; " : "", r->reason,
        r->first_error[0] != '\0' ? "; could not be undone at once: " : "", r->first_error);
}

enum dr_code dr_cli_rollbacks(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op = {.id = 0};
    struct dr_rollback_run *run = dr_calloc(RUNS_PAGE, sizeof *run);
    json_t *list = c->is_json ? json_array() : NULL;
    uint32_t count = RUNS_PAGE;
    int64_t before = 0;
    (void)exit_out;
    enum dr_code rc = run == NULL || (c->is_json && list == NULL) ? dr_fail_nomem(err)
                      : c->word_count > 0                         ? dr_cli_op(c, &op, err)
                                                                  : dr_cli_queue(c, true, err);
    while (rc == DR_OK && count == RUNS_PAGE) {
        rc = dr_queue_rollbacks(c->queue, op.id, before, run, RUNS_PAGE, &count, err);
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            before = run[i].id;
            if (list == NULL) {
                print_run(&run[i]);
            } else if (json_array_append_new(list, run_json(&run[i])) != 0) {
                rc = dr_fail_nomem(err);
            }
        }
    }
    dr_free(run);
    if (rc != DR_OK) {
        json_decref(list);
        return rc;
    }
    if (list == NULL && before == 0) {
        dr_cli_say(c, "nothing was ever rolled back");
    }
    return list != NULL ? dr_cli_put_json(list, err) : DR_OK;
}

/* --- the named parts of cleanup -------------------------------------------------------------- */

uint32_t dr_cli_cleanup_parts(const struct dr_args *a)
{
    static const struct {
        const char *option;
        uint32_t what;
    } parts[] = {{"clusters", DR_CLEAN_CLUSTERS}, {"groups", DR_CLEAN_GROUPS},
                 {"queue", DR_CLEAN_QUEUE},       {"state", DR_CLEAN_STATE},
                 {"archives", DR_CLEAN_ARCHIVES}, {"all", DR_CLEAN_ALL}};
    uint32_t what = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        what |= dr_args_has(a, parts[i].option) ? parts[i].what : 0;
    }
    return what;
}

static void print_cleanup(const json_t *j)
{
    size_t i;
    size_t k;
    json_t *one;
    json_t *error;
    bool is_dry = json_is_true(json_object_get(j, "dry_run"));
    json_array_foreach(json_object_get(j, "actions_taken"), i, one)
    {
        (void)printf("%s: %lld %s\n", json_string_value(json_object_get(one, "what")),
                     (long long)json_integer_value(json_object_get(one, "cleaned_count")),
                     is_dry ? "would be removed" : "removed");
        json_array_foreach(json_object_get(one, "errors"), k, error)
        {
            (void)printf("  %s\n", json_string_value(error));
        }
    }
}

enum dr_code dr_cli_cleanup_named(struct dr_cli *c, uint32_t what, int *exit_out,
                                  struct dr_err *err)
{
    struct dr_cleanup_ages ages;
    json_t *done = NULL;
    uint64_t age_ms = 0;
    bool is_dry_run = dr_args_has(c->args, "dry-run");
    dr_cleanup_ages_default(&ages);
    if (dr_args_has(c->args, "older-than") &&
        dr_parse_duration_ms(dr_args_text(c->args, "older-than", ""), &age_ms)) {
        ages = (struct dr_cleanup_ages){
            .clusters = age_ms, .groups = age_ms, .queue = age_ms, .state = age_ms};
    }
    enum dr_code rc = dr_cli_queue(c, true, err);
    if (rc == DR_OK && !is_dry_run) {
        rc = dr_cli_own(c, err);
    }
    if (rc == DR_OK) {
        rc = dr_cleanup_run(c->queue, world_of(c), what, &ages, is_dry_run, c->who, &done, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (json_array_size(json_object_get(done, "errors")) > 0) {
        *exit_out = DR_EXIT_UNHEALTHY;
    }
    if (c->is_json) {
        return dr_cli_put_json(done, err);
    }
    print_cleanup(done);
    json_decref(done);
    return DR_OK;
}
