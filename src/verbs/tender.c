/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the schedule of a daemon: one thread that looks at health, recovers what it can, alerts and
 * cleans up, each at its time. A failed round is logged and comes again at its next time; work is
 * never held up by it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/mem.h"
#include "obs/metrics.h"
#include "verbs/health.h"

enum { SLICE_MS = 500, MINUTE_MS = 60 * 1000, OFF = -1 };

static const char by_drover[] = "drover";

/* A time of day, on one day of the week or on all. */
struct at_time {
    int hour; /* OFF: never */
    int minute;
    int week_day; /* 0 is Sunday; OFF: every day */
};

struct tend {
    bool is_enabled, recovers, asks_nodes;
    uint64_t health_ms, clusters_ms, node_wait_ms; /* 0: never */
    struct at_time daily, weekly;
    struct dr_cleanup_ages ages;
};

enum round { HEALTH, CLUSTERS, DAILY, WEEKLY, ROUNDS };

struct dr_tender {
    struct dr_tender_config config;
    struct tend tend;
    struct dr_health_rules rules;
    struct dr_alerter *alerter;
    pthread_t thread;
    atomic_bool is_stopping;
    dr_mono_ms next_mono[ROUNDS]; /* HEALTH, CLUSTERS */
    dr_wall_ms next_wall[ROUNDS]; /* DAILY, WEEKLY */
};

static const struct dr_metric_family health_issues = {
    .name = "drover_health_issues",
    .help = "Issues that the last look at health found.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family health_warnings = {
    .name = "drover_health_warnings",
    .help = "Warnings of the last look at health.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family health_looked = {
    .name = "drover_health_look_time_seconds",
    .help = "When health was looked at last, in seconds since 1970.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family orphans = {
    .name = "drover_orphans",
    .help = "Resources that were left over at the last look at health.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family alert_firing = {
    .name = "drover_alert_firing",
    .help = "1 while a threshold is crossed.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"alert"},
};

/* --- configuration -----------------------------------------------------------------------------
 */

static bool parse_clock(const char *text, struct at_time *out)
{
    int hour = 0;
    int minute = 0;
    int used = 0;
    if (sscanf(text, "%2d:%2d%n", &hour, &minute, &used) != 2 || text[used] != '\0' || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59) {
        return false;
    }
    out->hour = hour;
    out->minute = minute;
    return true;
}

/* "02:00", or with `has_day` "sun 03:00"; "off". */
static enum dr_code parse_time(const char *key, const char *text, bool has_day, struct at_time *out,
                               struct dr_err *err)
{
    static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    *out = (struct at_time){.hour = OFF, .week_day = OFF};
    if (strcmp(text, "off") == 0) {
        return DR_OK;
    }
    for (int d = 0; has_day && d < 7; d++) {
        if (strncmp(text, days[d], 3) == 0 && text[3] == ' ') {
            out->week_day = d;
        }
    }
    bool is_fine =
        has_day ? out->week_day != OFF && parse_clock(text + 4, out) : parse_clock(text, out);
    return is_fine
               ? DR_OK
               : dr_fail(err, DR_INPUT, "tend.%s: \"%.40s\" is no time; write \"%s\" or \"off\"",
                         key, text, has_day ? "sun 03:00" : "02:00");
}

static enum dr_code parse_ages(const json_t *j, struct dr_cleanup_ages *out, struct dr_err *err)
{
    struct dr_jr r;
    if (j == NULL) {
        return DR_OK;
    }
    dr_jr_init(&r, j, "tend.ages", err);
    (void)dr_jr_duration(&r, "clusters", false, &out->clusters);
    (void)dr_jr_duration(&r, "groups", false, &out->groups);
    (void)dr_jr_duration(&r, "queue", false, &out->queue);
    (void)dr_jr_duration(&r, "state", false, &out->state);
    return dr_jr_finish(&r);
}

static enum dr_code parse_tend(const json_t *config, struct tend *out, struct dr_err *err)
{
    struct dr_jr r;
    const char *daily = "02:00";
    const char *weekly = "sun 03:00";
    const json_t *ages = NULL;
    const json_t *j = json_object_get(config, "tend");
    *out = (struct tend){.is_enabled = true,
                         .recovers = true,
                         .asks_nodes = true,
                         .health_ms = 5ULL * MINUTE_MS,
                         .clusters_ms = 60ULL * MINUTE_MS,
                         .node_wait_ms = 5000};
    dr_cleanup_ages_default(&out->ages);
    enum dr_code rc = DR_OK;
    if (j != NULL) {
        dr_jr_init(&r, j, "tend", err);
        (void)dr_jr_bool(&r, "enabled", false, &out->is_enabled);
        (void)dr_jr_bool(&r, "recover", false, &out->recovers);
        (void)dr_jr_bool(&r, "asks_nodes", false, &out->asks_nodes);
        (void)dr_jr_duration(&r, "node_wait", false, &out->node_wait_ms);
        (void)dr_jr_duration(&r, "health_every", false, &out->health_ms);
        (void)dr_jr_duration(&r, "clusters_every", false, &out->clusters_ms);
        (void)dr_jr_string(&r, "daily_at", false, &daily);
        (void)dr_jr_string(&r, "weekly_at", false, &weekly);
        (void)dr_jr_object(&r, "ages", false, &ages);
        rc = dr_jr_finish(&r);
    }
    if (rc == DR_OK && out->node_wait_ms > MINUTE_MS) {
        rc = dr_fail(err, DR_INPUT, "tend.node_wait: at most a minute");
    }
    rc = rc == DR_OK ? parse_ages(ages, &out->ages, err) : rc;
    rc = rc == DR_OK ? parse_time("daily_at", daily, false, &out->daily, err) : rc;
    return rc == DR_OK ? parse_time("weekly_at", weekly, true, &out->weekly, err) : rc;
}

enum dr_code dr_health_rules_of(const json_t *config, struct dr_health_rules *out,
                                struct dr_err *err)
{
    struct tend tend;
    struct dr_alert_rules alerts;
    dr_health_rules_default(out);
    enum dr_code rc = parse_tend(config, &tend, err);
    rc = rc == DR_OK ? dr_alert_rules_parse(json_object_get(config, "alerts"), &alerts, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    out->stuck_ms = alerts.stuck_ms > 0 ? alerts.stuck_ms : out->stuck_ms;
    out->queue_depth = alerts.queue_depth;
    out->asks_nodes = tend.asks_nodes;
    out->node_wait_ms = (uint32_t)tend.node_wait_ms;
    return DR_OK;
}

enum dr_code dr_cleanup_ages_of(const json_t *config, struct dr_cleanup_ages *out,
                                struct dr_err *err)
{
    struct tend tend;
    enum dr_code rc = parse_tend(config, &tend, err);
    *out = tend.ages;
    return rc;
}

enum dr_code dr_tender_check(const json_t *config, struct dr_err *err)
{
    struct dr_health_rules ignored;
    return dr_health_rules_of(config, &ignored, err);
}

/* --- times -------------------------------------------------------------------------------------
 */

/* The next time it is so late, after `now`; 0: never. In local time, so summer time may make a day
 * longer or shorter, but never skip one. */
static dr_wall_ms next_time(const struct at_time *at, dr_wall_ms now)
{
    struct tm t;
    time_t seconds = (time_t)(now / 1000);
    if (at->hour == OFF || localtime_r(&seconds, &t) == NULL) {
        return 0;
    }
    for (int day = 0; day <= 8; day++) {
        struct tm then = t;
        then.tm_mday += day;
        then.tm_hour = at->hour;
        then.tm_min = at->minute;
        then.tm_sec = 0;
        then.tm_isdst = -1;
        time_t when = mktime(&then);
        if (when != (time_t)-1 && (dr_wall_ms)when * 1000 > now &&
            (at->week_day == OFF || then.tm_wday == at->week_day)) {
            return (dr_wall_ms)when * 1000;
        }
    }
    return 0;
}

static void plan_round(struct dr_tender *t, enum round round)
{
    dr_mono_ms mono = dr_mono_now();
    dr_wall_ms wall = dr_wall_now();
    switch (round) {
    case HEALTH:
        t->next_mono[HEALTH] = mono + (dr_mono_ms)t->tend.health_ms;
        return;
    case CLUSTERS:
        t->next_mono[CLUSTERS] = mono + (dr_mono_ms)t->tend.clusters_ms;
        return;
    case DAILY:
        t->next_wall[DAILY] = next_time(&t->tend.daily, wall);
        return;
    case WEEKLY:
        t->next_wall[WEEKLY] = next_time(&t->tend.weekly, wall);
        return;
    case ROUNDS:
        return;
    }
}

static bool is_due(const struct dr_tender *t, enum round round)
{
    switch (round) {
    case HEALTH:
        return t->tend.health_ms > 0 && dr_mono_now() >= t->next_mono[HEALTH];
    case CLUSTERS:
        return t->tend.clusters_ms > 0 && dr_mono_now() >= t->next_mono[CLUSTERS];
    case DAILY:
    case WEEKLY:
        return t->next_wall[round] != 0 && dr_wall_now() >= t->next_wall[round];
    case ROUNDS:
        break;
    }
    return false;
}

/* --- rounds ------------------------------------------------------------------------------------
 */

static void count(struct dr_tender *t, const struct dr_health_report *r)
{
    struct dr_metrics *m = t->config.metrics;
    struct dr_alert_rules rules;
    struct dr_alert alert[DR_ALERT_COUNT];
    struct dr_err ignored = {0};
    uint32_t issues = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        issues += r->finding[i].is_issue;
    }
    dr_metric_set(dr_metrics_get(m, &health_issues, NULL), issues);
    dr_metric_set(dr_metrics_get(m, &health_warnings, NULL), r->count - issues);
    dr_metric_set(dr_metrics_get(m, &health_looked, NULL), (double)r->at / 1000);
    dr_metric_set(dr_metrics_get(m, &orphans, NULL), (double)r->orphans);
    if (dr_alert_rules_parse(json_object_get(t->config.config, "alerts"), &rules, &ignored) !=
        DR_OK) {
        return;
    }
    dr_alerts_judge(&rules, r, alert);
    for (int i = 0; i < DR_ALERT_COUNT; i++) {
        dr_metric_set(dr_metrics_get(m, &alert_firing, &alert[i].name), alert[i].is_firing);
    }
}

static void log_report(struct dr_tender *t, const struct dr_health_report *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct dr_finding *f = &r->finding[i];
        dr_log(t->config.log, f->is_issue ? DR_LOG_WARN : DR_LOG_INFO, "health",
               "found=%s count=%llu advice=%s", f->type, (unsigned long long)f->count, f->advice);
    }
}

static void recover(struct dr_tender *t, const struct dr_health_report *r)
{
    struct dr_err err = {0};
    json_t *did = NULL;
    if (dr_health_recover(t->config.queue, t->config.world, r, by_drover, &did, &err) != DR_OK) {
        dr_log_err(t->config.log, DR_LOG_WARN, "recovery did not work", &err);
        return;
    }
    size_t recovered = json_array_size(json_object_get(did, "recovered"));
    size_t failed = json_array_size(json_object_get(did, "failed"));
    if (recovered > 0 || failed > 0) {
        dr_log(t->config.log, DR_LOG_INFO, "recovery", "recovered=%zu failed=%zu", recovered,
               failed);
    }
    json_decref(did);
}

static void look(struct dr_tender *t)
{
    struct dr_err err = {0};
    struct dr_health_report r = {0};
    if (dr_health_look(t->config.queue, t->config.world, &t->rules, &r, &err) != DR_OK) {
        dr_log_err(t->config.log, DR_LOG_WARN, "health cannot be looked at", &err);
        return;
    }
    log_report(t, &r);
    count(t, &r);
    if (t->config.recovers && t->tend.recovers) {
        recover(t, &r);
    }
    dr_alerter_look(t->alerter, &r);
    dr_health_report_fini(&r);
}

static void clean(struct dr_tender *t, uint32_t what)
{
    struct dr_err err = {0};
    json_t *did = NULL;
    if (dr_cleanup_run(t->config.queue, t->config.world, what, &t->tend.ages, false, by_drover,
                       &did, &err) != DR_OK) {
        dr_log_err(t->config.log, DR_LOG_WARN, "cleanup did not work", &err);
        return;
    }
    json_int_t cleaned = json_integer_value(json_object_get(did, "resources_cleaned"));
    size_t failed = json_array_size(json_object_get(did, "errors"));
    if (cleaned > 0 || failed > 0) {
        dr_log(t->config.log, failed > 0 ? DR_LOG_WARN : DR_LOG_INFO, "cleanup",
               "cleaned=%lld failed=%zu", (long long)cleaned, failed);
    }
    json_decref(did);
}

static void do_round(struct dr_tender *t, enum round round)
{
    switch (round) {
    case HEALTH:
        look(t);
        return;
    case CLUSTERS:
        clean(t, DR_CLEAN_CLUSTERS);
        return;
    case DAILY:
        clean(t, DR_CLEAN_GROUPS | DR_CLEAN_QUEUE);
        return;
    case WEEKLY:
        clean(t, DR_CLEAN_ALL);
        return;
    case ROUNDS:
        return;
    }
}

static bool is_over(void *arg)
{
    struct dr_tender *t = arg;
    return atomic_load(&t->is_stopping);
}

static bool is_any_due(void *arg)
{
    struct dr_tender *t = arg;
    for (int r = 0; r < ROUNDS; r++) {
        if (is_due(t, (enum round)r)) {
            return true;
        }
    }
    return is_over(t);
}

static void *tender_main(void *arg)
{
    struct dr_tender *t = arg;
    while (!is_over(t)) {
        (void)dr_wait_ms(SLICE_MS, is_any_due, t);
        for (int r = 0; r < ROUNDS && !is_over(t); r++) {
            if (is_due(t, (enum round)r)) {
                do_round(t, (enum round)r);
                plan_round(t, (enum round)r);
            }
        }
    }
    return NULL;
}

static enum dr_code prepare(struct dr_tender *t, struct dr_err *err)
{
    struct dr_alert_rules alerts;
    const json_t *config = t->config.config;
    enum dr_code rc = parse_tend(config, &t->tend, err);
    rc = rc == DR_OK ? dr_health_rules_of(config, &t->rules, err) : rc;
    rc = rc == DR_OK ? dr_alert_rules_parse(json_object_get(config, "alerts"), &alerts, err) : rc;
    rc = rc == DR_OK ? dr_alerter_create(dr_queue_data_dir(t->config.queue), &alerts, t->config.log,
                                         &t->alerter, err)
                     : rc;
    for (int r = 0; rc == DR_OK && r < ROUNDS; r++) {
        plan_round(t, (enum round)r);
    }
    return rc;
}

enum dr_code dr_tender_start(const struct dr_tender_config *c, struct dr_tender **out,
                             struct dr_err *err)
{
    *out = NULL;
    struct dr_tender *t = dr_calloc(1, sizeof *t);
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->config = *c;
    enum dr_code rc = prepare(t, err);
    bool is_wanted = rc == DR_OK && t->tend.is_enabled;
    if (is_wanted && pthread_create(&t->thread, NULL, tender_main, t) != 0) {
        rc = dr_fail(err, DR_NOMEM,
                     "no thread to tend the data folder; raise the limit of processes (ulimit -u)");
    }
    if (rc != DR_OK || !is_wanted) { /* switched off: *out stays NULL */
        dr_alerter_destroy(t->alerter);
        dr_free(t);
        return rc;
    }
    *out = t;
    return DR_OK;
}

void dr_tender_stop(struct dr_tender *t)
{
    if (t != NULL) {
        atomic_store(&t->is_stopping, true);
        (void)pthread_join(t->thread, NULL);
        dr_alerter_destroy(t->alerter);
        dr_free(t);
    }
}
