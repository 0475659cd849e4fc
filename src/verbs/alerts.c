/* SPDX-License-Identifier: Apache-2.0 */
/* The five thresholds: read from the configuration, held against a report of health, and written as
 * rules for Prometheus. Sending is alerts_send.c's. Pure; any thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "verbs/health.h"

enum { COUNT_MAX = 1000000000 };

static const double rate_default = 0.05;
static const uint64_t half_hour_ms = 30ULL * 60 * 1000;
static const uint64_t hour_ms = 60ULL * 60 * 1000;
static const uint64_t rollbacks_min = 2; /* below it a rate says nothing */

void dr_alert_rules_default(struct dr_alert_rules *r)
{
    *r = (struct dr_alert_rules){.rollback_failure_rate = rate_default,
                                 .stuck_ms = half_hour_ms,
                                 .orphans = 50,
                                 .queue_depth = 1000,
                                 .failed_last_hour = 10,
                                 .repeat_ms = hour_ms};
}

static enum dr_code check_hooks(const struct dr_alert_rules *r, struct dr_err *err)
{
    if (r->command != NULL && r->command[strspn(r->command, " ")] == '\0') {
        return dr_fail(err, DR_INPUT, "alerts.command: names no program");
    }
    if (r->webhook == NULL) {
        return DR_OK;
    }
#ifdef DROVER_HTTP
    if (strncmp(r->webhook, "http://", 7) != 0 && strncmp(r->webhook, "https://", 8) != 0) {
        return dr_fail(err, DR_INPUT, "alerts.webhook: must be a URL, http:// or https://");
    }
    return DR_OK;
#else
    return dr_fail(err, DR_INPUT,
                   "alerts.webhook: this drover was built without HTTP requests; use "
                   "alerts.command with curl");
#endif
}

enum dr_code dr_alert_rules_parse(const json_t *j, struct dr_alert_rules *out, struct dr_err *err)
{
    struct dr_jr r;
    dr_alert_rules_default(out);
    if (j == NULL) {
        return DR_OK;
    }
    dr_jr_init(&r, j, "alerts", err);
    (void)dr_jr_real(&r, "rollback_failure_rate", false, 0, 1, &out->rollback_failure_rate);
    (void)dr_jr_duration(&r, "stuck", false, &out->stuck_ms);
    (void)dr_jr_u64(&r, "orphans", false, 0, COUNT_MAX, &out->orphans);
    (void)dr_jr_u64(&r, "queue_depth", false, 0, COUNT_MAX, &out->queue_depth);
    (void)dr_jr_u64(&r, "failed_last_hour", false, 0, COUNT_MAX, &out->failed_last_hour);
    (void)dr_jr_string(&r, "webhook", false, &out->webhook);
    (void)dr_jr_string(&r, "command", false, &out->command);
    (void)dr_jr_duration(&r, "repeat", false, &out->repeat_ms);
    enum dr_code rc = dr_jr_finish(&r);
    return rc == DR_OK ? check_hooks(out, err) : rc;
}

/* --- judging -----------------------------------------------------------------------------------
 */

/* The longest that an operation has not moved, in ms: stuck, or waiting for an owner. */
static uint64_t longest_idle_ms(const struct dr_health_report *r)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct dr_finding *f = &r->finding[i];
        if (strcmp(f->type, "stuck_operations") != 0 && strcmp(f->type, "owner_missing") != 0) {
            continue;
        }
        size_t n;
        json_t *one;
        json_array_foreach(f->details, n, one)
        {
            json_int_t ms = json_integer_value(json_object_get(one, "idle_ms"));
            longest = ms > 0 && (uint64_t)ms > longest ? (uint64_t)ms : longest;
        }
    }
    return longest;
}

static struct dr_alert judge_one(const char *name, double value, double limit)
{
    return (struct dr_alert){
        .name = name, .is_firing = limit > 0 && value > limit, .value = value, .limit = limit};
}

void dr_alerts_judge(const struct dr_alert_rules *rules, const struct dr_health_report *r,
                     struct dr_alert alert[DR_ALERT_COUNT])
{
    const struct dr_queue_facts *n = &r->numbers;
    char idle[32];
    char limit[32];
    uint64_t idle_ms = longest_idle_ms(r);
    double rate =
        n->rollbacks >= rollbacks_min ? (double)n->rollbacks_failed / (double)n->rollbacks : 0;
    alert[0] = judge_one("rollback_failure_rate", rate, rules->rollback_failure_rate);
    alert[1] =
        judge_one("stuck_operations", (double)idle_ms / 1000, (double)rules->stuck_ms / 1000);
    alert[2] = judge_one("orphaned_resources", (double)r->orphans, (double)rules->orphans);
    alert[3] = judge_one("queue_depth", (double)n->depth, (double)rules->queue_depth);
    alert[4] = judge_one("failed_operations", (double)n->failed_last_hour,
                         (double)rules->failed_last_hour);
    (void)snprintf(alert[0].text, sizeof alert[0].text,
                   "%" PRIu64 " of %" PRIu64 " rollbacks of the last 24 hours met a step that "
                   "could not be undone at once (limit %.1f %%)",
                   n->rollbacks_failed, n->rollbacks, rules->rollback_failure_rate * 100);
    (void)snprintf(alert[1].text, sizeof alert[1].text,
                   "the longest an operation has not moved: %s (limit %s)",
                   idle_ms == 0 ? "none is stuck" : dr_human_ms(idle_ms, idle, sizeof idle),
                   dr_human_ms(rules->stuck_ms, limit, sizeof limit));
    (void)snprintf(alert[2].text, sizeof alert[2].text,
                   "%" PRIu64 " resources are left over (limit %" PRIu64 ")", r->orphans,
                   rules->orphans);
    (void)snprintf(alert[3].text, sizeof alert[3].text,
                   "%" PRIu64 " steps wait or run (limit %" PRIu64 ")", n->depth,
                   rules->queue_depth);
    (void)snprintf(alert[4].text, sizeof alert[4].text,
                   "%" PRIu64 " operations failed within the last hour (limit %" PRIu64 ")",
                   n->failed_last_hour, rules->failed_last_hour);
}

/* --- Prometheus --------------------------------------------------------------------------------
 */

static void add_rule(struct dr_str *out, const char *name, const char *expr, const char *severity,
                     const char *summary)
{
    dr_str_addf(out,
                "      - alert: %s\n"
                "        expr: %s\n"
                "        labels:\n"
                "          severity: %s\n"
                "        annotations:\n"
                "          summary: \"%s\"\n",
                name, expr, severity, summary);
}

void dr_alerts_prometheus(const struct dr_alert_rules *rules, struct dr_str *out)
{
    char expr[256];
    char text[256];
    char ms[32];
    dr_str_add(out, "# Rules for Prometheus over the metrics of drover serve, made by: drover "
                    "alerts rules\n"
                    "groups:\n"
                    "  - name: drover\n"
                    "    rules:\n");
    if (rules->rollback_failure_rate > 0) {
        (void)snprintf(expr, sizeof expr,
                       "increase(drover_rollback_failures_total[24h]) / "
                       "increase(drover_rollbacks_total[24h]) > %g and "
                       "increase(drover_rollbacks_total[24h]) >= %" PRIu64,
                       rules->rollback_failure_rate, rollbacks_min);
        (void)snprintf(text, sizeof text, "More than %g %% of the rollbacks of a day failed",
                       rules->rollback_failure_rate * 100);
        add_rule(out, "DroverRollbackFailureRate", expr, "critical", text);
    }
    if (rules->stuck_ms > 0) {
        (void)snprintf(text, sizeof text, "An operation has not moved for %s",
                       dr_human_ms(rules->stuck_ms, ms, sizeof ms));
        add_rule(out, "DroverStuckOperations", "drover_stuck_operations > 0", "critical", text);
    }
    if (rules->orphans > 0) {
        (void)snprintf(expr, sizeof expr, "drover_orphans > %" PRIu64, rules->orphans);
        add_rule(out, "DroverOrphanedResources", expr, "warning",
                 "Resources are left over on the nodes of sharded tables");
    }
    if (rules->queue_depth > 0) {
        (void)snprintf(expr, sizeof expr, "drover_queue_depth > %" PRIu64, rules->queue_depth);
        add_rule(out, "DroverQueueDepth", expr, "warning", "Many steps wait in the queue");
    }
    if (rules->failed_last_hour > 0) {
        (void)snprintf(expr, sizeof expr, "drover_failed_last_hour > %" PRIu64,
                       rules->failed_last_hour);
        add_rule(out, "DroverFailedOperations", expr, "critical",
                 "Many operations failed within an hour");
    }
}
