/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the purger: its options, its connections, its runs and the sleep between them. Leaves the
 * statements to rows.c, the requests to request.c, the loop of a run to work.c. One thread. */
#include "tokenserver/purge.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "tokenserver/purge_private.h"
#include "tokenserver/token_private.h"

enum {
    RETRY_FIRST_MS = 1000,
    RETRY_MAX_MS = 60000,
    TRIES_MAX = 5,
    PAUSE_MS_MAX = 10 * 60 * 1000,
    ERASE_ROWS_MAX = 64,
    ERASE_WAIT_MS = 20,
    BREAKER_MS_MAX = 10 * 60 * 1000,
    OFFSET_MAX = 1000000000,
    SECONDS_MAX = INT32_MAX,
};

void dr_tokenserver_options_default(struct dr_tokenserver_options *o)
{
    *o = (struct dr_tokenserver_options){
        .purge_interval_s = 3600,
        .grace_period_s = 86400,
        .max_per_loop = 10,
        .request_timeout_s = 60,
        .requests_max = 16,
        .requests_per_node_max = 4,
        .breaker_failures = 5,
        .breaker_s = 60,
    };
}

void dr_purge_tune(struct dr_tokenserver *t, const struct dr_purge_tuning *tuning)
{
    uint64_t open_ms = tuning->breaker_ms != 0 ? tuning->breaker_ms : t->o.breaker_s * 1000;
    t->tuning = *tuning;
    t->breaker_rule = (struct dr_breaker_rule){
        .failures_max = t->o.breaker_failures,
        .open_ms = open_ms,
        .open_ms_max = open_ms > BREAKER_MS_MAX ? open_ms : BREAKER_MS_MAX,
    };
}

static enum dr_code check_options(const struct dr_tokenserver_options *o, struct dr_err *err)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } numbers[] = {
        {"purge-interval", o->purge_interval_s, 0, SECONDS_MAX},
        {"max-per-loop", o->max_per_loop, 1, OFFSET_MAX},
        {"max-offset", o->max_offset, 0, OFFSET_MAX},
        {"request-timeout", o->request_timeout_s, 1, 86400},
        {"concurrency", o->requests_max, 1, 10000},
        {"per-node", o->requests_per_node_max, 1, 10000},
        {"breaker-rest", o->breaker_s, 0, 86400},
    };
    if (o->database_url == NULL || o->database_url[0] == '\0') {
        return dr_fail(err, DR_INPUT, "no database; give the token server's database URL");
    }
    if (o->secret == NULL || o->secret[0] == '\0') {
        return dr_fail(err, DR_INPUT, "no secret; give the token server's master secret");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].value < numbers[i].min || numbers[i].value > numbers[i].max) {
            return dr_fail(err, DR_INPUT, "%s is %llu; it goes from %llu to %llu", numbers[i].name,
                           (unsigned long long)numbers[i].value, (unsigned long long)numbers[i].min,
                           (unsigned long long)numbers[i].max);
        }
    }
    if (o->grace_period_s > SECONDS_MAX || o->grace_period_s < -(int64_t)SECONDS_MAX) {
        return dr_fail(err, DR_INPUT, "grace-period is %lld seconds; that is out of all bounds",
                       (long long)o->grace_period_s);
    }
    return DR_OK;
}

static enum dr_code copy_options(struct dr_tokenserver *t, const struct dr_tokenserver_options *o,
                                 struct dr_err *err)
{
    t->o = *o;
    t->database_url = dr_strdup(o->database_url);
    t->secret = dr_strdup(o->secret);
    bool has_override = o->override_node != NULL && o->override_node[0] != '\0';
    t->override_node = has_override ? dr_strdup(o->override_node) : NULL;
    t->o.database_url = t->database_url;
    t->o.secret = NULL;
    t->o.override_node = t->override_node;
    bool is_short =
        t->database_url == NULL || t->secret == NULL || (has_override && t->override_node == NULL);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code open_http(struct dr_tokenserver *t, struct dr_err *err)
{
    /* How many go to one node at once is our own limit; two nodes may share a host. */
    const struct dr_http_config config = {.connections_max = t->o.requests_max,
                                          .connections_per_host_max = t->o.requests_max};
    return dr_http_create(&config, &t->http, err);
}

enum dr_code dr_tokenserver_create(const struct dr_tokenserver_options *o, struct dr_log *log,
                                   struct dr_statsd *statsd, struct dr_tokenserver **out,
                                   struct dr_err *err)
{
    static const struct dr_purge_tuning tuning = {
        .retry = {.first_ms = RETRY_FIRST_MS, .max_ms = RETRY_MAX_MS},
        .tries_max = TRIES_MAX,
        .pause_ms_max = PAUSE_MS_MAX,
        .erase_rows_max = ERASE_ROWS_MAX,
        .erase_wait_ms = ERASE_WAIT_MS,
    };
    *out = NULL;
    enum dr_code rc = check_options(o, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_tokenserver *t = dr_calloc(1, sizeof *t);
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->log = log;
    t->statsd = statsd;
    rc = copy_options(t, o, err);
    if (rc == DR_OK) {
        rc = open_http(t, err);
    }
    if (rc != DR_OK) {
        dr_tokenserver_destroy(t);
        return rc;
    }
    dr_purge_tune(t, &tuning);
    *out = t;
    return DR_OK;
}

/* Forget what belongs to one run. Requests still open are cut: their rows stay, and come again. */
static void reset_run(struct dr_tokenserver *t)
{
    if (t->flying != NULL) {
        dr_http_destroy(t->http);
        t->http = NULL;
    }
    while (t->flying != NULL) {
        struct dr_purge_row *row = t->flying;
        t->flying = row->next;
        row->node->in_flight--;
        dr_free(row);
    }
    dr_purge_reset_nodes(t);
    dr_purge_scan_fini(&t->scan);
    for (unsigned kind = 0; kind < DR_PURGE_KINDS; kind++) {
        t->gone_count[kind] = 0;
    }
    t->claimed = t->confirmed = 0;
    t->deferred_count = 0;
    t->is_stopping = t->is_denied = false;
    t->result = (struct dr_tokenserver_result){0};
}

void dr_tokenserver_destroy(struct dr_tokenserver *t)
{
    if (t == NULL) {
        return;
    }
    reset_run(t);
    dr_purge_destroy_nodes(t);
    for (unsigned kind = 0; kind < DR_PURGE_KINDS; kind++) {
        dr_free(t->gone[kind]);
    }
    dr_http_destroy(t->http);
    dr_sqldb_close(t->db);
    dr_free(t->deferred);
    dr_free(t->override_node);
    dr_token_free_secret(t->database_url); /* it has a password in it */
    dr_token_free_secret(t->secret);
    dr_free(t);
}

/* A number of rows to begin behind, as the reference chooses it: purgers without a range of their
 * own meet less often. */
static uint64_t choose_offset(const struct dr_tokenserver *t)
{
    return t->o.max_offset == 0 ? 0 : dr_random() % (t->o.max_offset + 1);
}

static enum dr_code prepare_run(struct dr_tokenserver *t, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (t->http == NULL) {
        rc = open_http(t, err);
    }
    if (rc == DR_OK && t->db == NULL) {
        rc = dr_sqldb_open(t->database_url, &t->db, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    t->cutoff = dr_wall_now() - t->o.grace_period_s * 1000;
    t->scan.offset = choose_offset(t);
    t->scan.is_turning = t->scan.offset > 0;
    rc = dr_purge_survey(t, err);
    if (rc == DR_OK) {
        dr_statsd_gauge(t->statsd, "purge.backlog.size", (int64_t)t->result.backlog, NULL);
        dr_log(t->log, DR_LOG_INFO, "purging old user records",
               "backlog=%llu on_downed_nodes=%llu dry_run=%d",
               (unsigned long long)t->result.backlog, (unsigned long long)t->result.skipped_downed,
               t->o.is_dry_run);
    }
    return rc;
}

static enum dr_code finish_run(struct dr_tokenserver *t, enum dr_code rc, struct dr_err *err)
{
    if (rc == DR_OK && t->is_denied) {
        rc = dr_fail(err, DR_DENIED,
                     "a storage node refuses our signature; check the secret and both clocks");
    } else if (rc == DR_OK && t->is_stopping) {
        rc = dr_fail(err, DR_STOPPED, "stopped on request; what was purged stays purged");
    }
    if (rc == DR_OK && t->result.is_limit_reached) {
        dr_statsd_count(t->statsd, "max_records", 1, NULL);
    }
    dr_statsd_timing(t->statsd, "purge.run.duration_ms", t->result.ms, NULL);
    if (rc != DR_STOPPED) {
        dr_statsd_count(t->statsd, rc == DR_OK ? "purge.run.success" : "purge.run.failure", 1,
                        NULL);
    }
    dr_log(t->log, DR_LOG_INFO, "purge run ended",
           "code=%s fetched=%llu purged=%llu nodeless=%llu failed=%llu deferred=%llu ms=%llu",
           dr_code_name(rc), (unsigned long long)t->result.fetched,
           (unsigned long long)t->result.purged, (unsigned long long)t->result.nodeless,
           (unsigned long long)t->result.failed, (unsigned long long)t->result.deferred,
           (unsigned long long)t->result.ms);
    return rc;
}

enum dr_code dr_tokenserver_run_once(struct dr_tokenserver *t, bool (*should_stop)(void *arg),
                                     void *arg, struct dr_tokenserver_result *out,
                                     struct dr_err *err)
{
    struct dr_err own = {0};
    err = err == NULL ? &own : err;
    dr_mono_ms start = dr_mono_now();
    dr_err_clear(err);
    t->should_stop = should_stop;
    t->stop_arg = arg;
    enum dr_code rc = prepare_run(t, err);
    if (rc == DR_OK) {
        rc = dr_purge_work(t, err);
    }
    t->result.ms = (uint64_t)(dr_mono_now() - start);
    rc = finish_run(t, rc, err);
    *out = t->result;
    if (t->db != NULL && rc != DR_OK && !dr_sqldb_is_alive(t->db)) {
        dr_sqldb_close(t->db);
        t->db = NULL;
    }
    reset_run(t);
    return rc;
}

static void add_result(struct dr_tokenserver_result *sum, const struct dr_tokenserver_result *one)
{
    sum->fetched += one->fetched;
    sum->purged += one->purged;
    sum->nodeless += one->nodeless;
    sum->deferred += one->deferred;
    sum->failed += one->failed;
    sum->ms += one->ms;
    sum->skipped_downed = one->skipped_downed; /* of the last run: the others saw the same rows */
    sum->backlog = one->backlog;
    sum->is_limit_reached = one->is_limit_reached;
}

/* The interval plus or minus 30 %, so that purgers started together drift apart. */
static uint64_t choose_sleep_ms(const struct dr_tokenserver *t)
{
    uint64_t interval_ms = t->o.purge_interval_s * 1000;
    uint64_t spread = interval_ms * 6 / 10;
    return interval_ms - spread / 2 + dr_random() % (spread + 1);
}

enum dr_code dr_tokenserver_run(struct dr_tokenserver *t, bool (*should_stop)(void *arg), void *arg,
                                struct dr_tokenserver_result *out, struct dr_err *err)
{
    *out = (struct dr_tokenserver_result){0};
    for (;;) {
        struct dr_tokenserver_result one = {0};
        enum dr_code rc = dr_tokenserver_run_once(t, should_stop, arg, &one, err);
        add_result(out, &one);
        if (t->o.is_oneshot || rc == DR_STOPPED || one.is_limit_reached) {
            return rc;
        }
        if (rc != DR_OK) { /* the next run may fare better */
            dr_log_err(t->log, DR_LOG_ERROR, "purge run failed", err);
        }
        uint64_t sleep_ms = choose_sleep_ms(t);
        dr_log(t->log, DR_LOG_DEBUG, "sleeping", "ms=%llu", (unsigned long long)sleep_ms);
        if (dr_wait_ms(sleep_ms, should_stop, arg)) {
            return dr_fail(err, DR_STOPPED, "stopped on request between two runs");
        }
    }
}
