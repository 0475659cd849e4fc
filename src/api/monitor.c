/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what a monitoring system sees: alive, ready, and the numbers. What lasts (operations, steps,
 * items) is read from the queue when it is asked for; what happens here is counted as it happens.
 */
#include <stdio.h>
#include <string.h>

#include "api/api_private.h"
#include "base/file.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "verbs/health.h"
#include "verbs/steer.h"

enum { READY_MS = 500, RUNS_SEEN = 256 };

static const uint64_t disk_free_min = UINT64_C(16) << 20; /* below it the pool does not work */

static const struct dr_metric_family api_requests = {
    .name = "drover_api_requests_total",
    .help = "Requests answered.",
    .type = DR_METRIC_COUNTER,
    .label_count = 3,
    .label = {"method", "route", "code"},
};
static const struct dr_metric_family api_seconds = {
    .name = "drover_api_request_seconds",
    .help = "From the headers of a request to the end of its answer.",
    .type = DR_METRIC_HISTOGRAM,
    .label_count = 1,
    .label = {"route"},
    .bucket_count = 8,
    .bucket = {0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60},
};
static const struct dr_metric_family commit_seconds = {
    .name = "drover_queue_commit_seconds",
    .help = "How long requests waited until the queue had made something durable.",
    .type = DR_METRIC_HISTOGRAM,
    .bucket_count = 9,
    .bucket = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5},
};
static const struct dr_metric_family operations = {
    .name = "drover_operations",
    .help = "Operations in the queue by status.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"status"},
};
static const struct dr_metric_family steps = {
    .name = "drover_steps",
    .help = "Steps in the queue by status.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"status"},
};
static const struct dr_metric_family quarantine = {
    .name = "drover_quarantined_steps",
    .help = "Steps that wait for a person.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family waiting = {
    .name = "drover_operations_waiting",
    .help = "Operations that do not move at the moment, by reason.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"reason"},
};
static const struct dr_metric_family kept_items = {
    .name = "drover_operation_items",
    .help = "Items of all operations in the queue.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"what"},
};
static const struct dr_metric_family is_ready_now = {
    .name = "drover_ready",
    .help = "1 when work is possible, as /readyz says.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family build = {
    .name = "drover_build_info",
    .help = "The running version.",
    .type = DR_METRIC_GAUGE,
    .label_count = 1,
    .label = {"version"},
};
static const struct dr_metric_family started = {
    .name = "drover_start_time_seconds",
    .help = "When this process began to serve, in seconds since 1970.",
    .type = DR_METRIC_GAUGE,
};

static const struct dr_metric_family rollbacks = {
    .name = "drover_rollbacks_total",
    .help = "Rollbacks begun, whole and in part, by persons and by failures.",
    .type = DR_METRIC_COUNTER,
};
static const struct dr_metric_family rollback_failures = {
    .name = "drover_rollback_failures_total",
    .help = "Rollbacks with a step that could not be undone at once.",
    .type = DR_METRIC_COUNTER,
};
static const struct dr_metric_family rollback_seconds = {
    .name = "drover_rollback_seconds",
    .help = "Time that the undoing of an ended rollback took, added up over its steps.",
    .type = DR_METRIC_HISTOGRAM,
    .bucket_count = 8,
    .bucket = {0.01, 0.1, 1, 10, 60, 600, 3600, 36000},
};
static const struct dr_metric_family queue_depth = {
    .name = "drover_queue_depth",
    .help = "Steps of running operations that are not done yet.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family stuck = {
    .name = "drover_stuck_operations",
    .help = "Operations that should move and have not for too long.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family failed = {
    .name = "drover_failed_last_hour",
    .help = "Operations of which a step went to quarantine within the last hour.",
    .type = DR_METRIC_GAUGE,
};
static const struct dr_metric_family dead = {
    .name = "drover_workers_dead",
    .help = "Processes that worked on the queue and went silent without saying so.",
    .type = DR_METRIC_GAUGE,
};

/* Methods come from anybody; only those we know become labels. */
static const char *known_method(const char *method)
{
    static const char *const known[] = {"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i], method) == 0) {
            return known[i];
        }
    }
    return "other";
}

void dr_api_count_request(const struct dr_call *c)
{
    char code[8];
    const char *route = c->route != NULL ? c->route->info.path : "none";
    (void)snprintf(code, sizeof code, "%u", c->status);
    const char *const value[] = {known_method(c->method), route, code};
    dr_metric_add(dr_metrics_get(c->api->metrics, &api_requests, value), 1);
    dr_metric_see(dr_metrics_get(c->api->metrics, &api_seconds, &route),
                  (double)(dr_mono_us() - c->begin_us) / 1e6);
}

void dr_api_count_commit(struct dr_api *api, int64_t begin_us)
{
    dr_metric_see(dr_metrics_get(api->metrics, &commit_seconds, NULL),
                  (double)(dr_mono_us() - begin_us) / 1e6);
}

enum dr_code dr_api_healthz(struct dr_call *c, struct dr_err *err)
{
    c->reply = json_pack("{s:s}", "status", "ok");
    return c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* --- ready ---------------------------------------------------------------------------------------
 */

static void look(struct dr_api *api)
{
    struct dr_err err = {0};
    uint64_t bytes = 0;
    struct dr_ready *r = &api->ready;
    const atomic_bool *ask_stop = api->serve->ask_stop;
    r->why[0] = '\0';
    if (ask_stop != NULL && atomic_load(ask_stop)) {
        dr_copy_text(r->why, sizeof r->why, "drover is ending");
        return;
    }
    int64_t begin = dr_mono_us();
    enum dr_code rc = dr_queue_flush(api->serve->queue, &err);
    dr_api_count_commit(api, begin);
    if (rc == DR_OK) {
        rc = dr_disk_free(dr_queue_data_dir(api->serve->queue), &bytes, &err);
    }
    if (rc != DR_OK) {
        dr_log_err(api->serve->log, DR_LOG_WARN, "not ready", &err);
        dr_copy_text(r->why, sizeof r->why, "the queue cannot be written");
    } else if (bytes < disk_free_min) {
        dr_copy_text(r->why, sizeof r->why, "no space is left for the archive");
    }
#ifdef DROVER_RAFT
    char why[DR_REASON_BYTES] = "the catalog is not ready";
    if (r->why[0] == '\0' && api->serve->cluster != NULL &&
        !dr_cluster_is_ready(api->serve->cluster, why, sizeof why)) {
        dr_copy_text(r->why, sizeof r->why, why);
    }
#endif
}

/* Looked at most twice a second, however many ask: it costs a commit, and anybody may ask. */
static bool is_ready(struct dr_api *api, char *why, size_t why_bytes)
{
    struct dr_ready *r = &api->ready;
    (void)pthread_mutex_lock(&r->mutex);
    dr_mono_ms now = dr_mono_now();
    if (r->at == 0 || now - r->at >= READY_MS) {
        look(api);
        r->at = now;
        r->is_ready = r->why[0] == '\0';
    }
    bool is = r->is_ready;
    dr_copy_text(why, why_bytes, r->why);
    (void)pthread_mutex_unlock(&r->mutex);
    return is;
}

enum dr_code dr_api_readyz(struct dr_call *c, struct dr_err *err)
{
    char why[DR_REASON_BYTES];
    if (!is_ready(c->api, why, sizeof why)) {
        dr_call_fail(c, MHD_HTTP_SERVICE_UNAVAILABLE, "NOT_READY", why);
        return DR_OK;
    }
    c->reply = json_pack("{s:s}", "status", "ready");
    return c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* --- numbers -------------------------------------------------------------------------------------
 */

enum waits { WAITS_QUIET, WAITS_DISK, WAITS_LIMIT, WAITS_NODE, WAITS_COUNT };

struct sums {
    uint64_t op[DR_O_COUNT], step[DR_S_COUNT], waits[WAITS_COUNT];
    uint64_t estimated, done, undone, conflicts;
};

/* Reasons are sentences; labels must be few. */
static enum waits classify_wait(const char *reason)
{
    if (strncmp(reason, "quiet hours", strlen("quiet hours")) == 0) {
        return WAITS_QUIET;
    }
    if (strncmp(reason, "no space", strlen("no space")) == 0) {
        return WAITS_DISK;
    }
    if (strncmp(reason, "max_items", strlen("max_items")) == 0 ||
        strncmp(reason, "drift", strlen("drift")) == 0) {
        return WAITS_LIMIT;
    }
    return WAITS_NODE;
}

static enum dr_code add_op(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct sums *s = arg;
    (void)err;
    s->op[op->status]++;
    for (int i = 0; i < DR_S_COUNT; i++) {
        s->step[i] += op->count[i];
    }
    if (op->waiting[0] != '\0' && !dr_op_status_is_final(op->status)) {
        s->waits[classify_wait(op->waiting)]++;
    }
    s->estimated += op->items_estimated;
    s->done += op->items_done;
    s->undone += op->items_undone;
    s->conflicts += op->items_conflict;
    return DR_OK;
}

static void set_gauge(struct dr_metrics *m, const struct dr_metric_family *family,
                      const char *label, double value)
{
    dr_metric_set(dr_metrics_get(m, family, &label), value);
}

static void set_gauges(struct dr_metrics *m, const struct sums *s)
{
    static const char *const waits_name[WAITS_COUNT] = {"quiet_hours", "disk", "guard", "node"};
    for (int i = 0; i < DR_O_COUNT; i++) {
        set_gauge(m, &operations, dr_op_status_name((enum dr_op_status)i), (double)s->op[i]);
    }
    for (int i = 0; i < DR_S_COUNT; i++) {
        set_gauge(m, &steps, dr_step_status_name((enum dr_step_status)i), (double)s->step[i]);
    }
    for (int i = 0; i < WAITS_COUNT; i++) {
        set_gauge(m, &waiting, waits_name[i], (double)s->waits[i]);
    }
    set_gauge(m, &quarantine, NULL, (double)(s->step[DR_S_FAILED] + s->step[DR_S_UNDO_FAILED]));
    set_gauge(m, &kept_items, "estimated", (double)s->estimated);
    set_gauge(m, &kept_items, "erased", (double)s->done);
    set_gauge(m, &kept_items, "restored", (double)s->undone);
    set_gauge(m, &kept_items, "conflicts", (double)s->conflicts);
}

/* --- health --------------------------------------------------------------------------------------
 */

/* Counters may not go down, also when the queue forgets old rollbacks: what is new since the last
 * scrape is added. */
static void count_up(struct dr_metrics *m, const struct dr_metric_family *family, uint64_t now,
                     uint64_t *counted)
{
    dr_metric_add(dr_metrics_get(m, family, NULL), now > *counted ? now - *counted : 0);
    *counted = now;
}

/* Rollbacks that ended since the last scrape. One that ends in this very millisecond is left for
 * the next. */
static enum dr_code see_rollbacks(struct dr_api *api, struct dr_err *err)
{
    uint32_t count = 0;
    dr_wall_ms from = api->counted.ended_at;
    dr_wall_ms upto = dr_wall_now();
    struct dr_rollback_run *run = dr_calloc(RUNS_SEEN, sizeof *run);
    enum dr_code rc =
        run == NULL ? dr_fail_nomem(err)
                    : dr_queue_rollbacks(api->serve->queue, 0, 0, run, RUNS_SEEN, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        if (run[i].ended_at >= from && run[i].ended_at < upto && run[i].ended_at != 0) {
            dr_metric_see(dr_metrics_get(api->metrics, &rollback_seconds, NULL),
                          (double)run[i].worked_ms / 1000);
        }
    }
    if (rc == DR_OK) {
        api->counted.ended_at = upto;
    }
    dr_free(run);
    return rc;
}

static double count_of(const struct dr_health_report *r, const char *type)
{
    double count = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->finding[i].type, type) == 0) {
            count += (double)r->finding[i].count;
        }
    }
    return count;
}

/* From the queue alone: a scrape does not wait for nodes. */
static enum dr_code set_health(struct dr_api *api, struct dr_err *err)
{
    struct dr_health_rules rules;
    struct dr_health_report r = {0};
    struct dr_queue_facts all;
    struct dr_queue *q = api->serve->queue;
    const struct dr_config *config = api->serve->config;
    enum dr_code rc = dr_health_rules_of(config == NULL ? NULL : config->json, &rules, err);
    rules.asks_nodes = false;
    rc = rc == DR_OK ? dr_health_look(q, NULL, &rules, &r, err) : rc;
    rc = rc == DR_OK ? dr_queue_numbers(q, r.at, 0, &all, err) : rc;
    rc = rc == DR_OK ? see_rollbacks(api, err) : rc;
    if (rc == DR_OK) {
        count_up(api->metrics, &rollbacks, all.rollbacks, &api->counted.begun);
        count_up(api->metrics, &rollback_failures, all.rollbacks_failed, &api->counted.failed);
        set_gauge(api->metrics, &queue_depth, NULL, (double)r.numbers.depth);
        set_gauge(api->metrics, &failed, NULL, (double)r.numbers.failed_last_hour);
        set_gauge(api->metrics, &stuck, NULL,
                  count_of(&r, "stuck_operations") + count_of(&r, "owner_missing"));
        set_gauge(api->metrics, &dead, NULL, count_of(&r, "dead_workers"));
    }
    dr_health_report_fini(&r);
    return rc;
}

enum dr_code dr_api_metrics(struct dr_call *c, struct dr_err *err)
{
    char why[DR_REASON_BYTES];
    struct dr_api *api = c->api;
    struct sums *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    bool is = is_ready(api, why, sizeof why);
    c->place = DR_AT_DATA;
    (void)pthread_mutex_lock(&api->scrape);
    enum dr_code rc = dr_each_op(api->serve->queue, add_op, s, err);
    rc = rc == DR_OK ? set_health(api, err) : rc;
    if (rc == DR_OK) {
        set_gauges(api->metrics, s);
        set_gauge(api->metrics, &is_ready_now, NULL, is ? 1 : 0);
        set_gauge(api->metrics, &build, DROVER_VERSION, 1);
        set_gauge(api->metrics, &started, NULL, (double)api->started_at / 1000.0);
        dr_metrics_text(api->metrics, &c->text);
        c->is_text = true;
        rc = c->text.is_short ? dr_fail_nomem(err) : DR_OK;
    }
    (void)pthread_mutex_unlock(&api->scrape);
    dr_free(s);
    return rc;
}
