/* SPDX-License-Identifier: Apache-2.0 */
/* Owns `drover tokenserver purge`: options, the secret and where it may be seen, the log's form.
 * The purge itself lives in tokenserver/. It needs no data folder: the database is the queue. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli_private.h"
#ifdef DROVER_TOKENSERVER
#include "obs/statsd.h"
#include "tokenserver/purge.h"
#endif

#ifndef DROVER_TOKENSERVER
enum dr_code dr_cli_tokenserver_purge(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    (void)c;
    (void)exit_out;
    return dr_fail(
        err, DR_UNSUPPORTED,
        "this build has no token server purge; configure it with -DDROVER_TOKENSERVER=ON");
}
#else

enum { SECRET_BYTES_MAX = 4096, STATSD_PORT = 8125, PORT_MAX = 65535 };

struct given {
    struct dr_tokenserver_options options;
    char *secret;       /* owned, wiped */
    char *database_url; /* owned, wiped */
};

static void wipe_and_free(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        dr_free(text);
    }
}

static enum dr_code read_secret_file(const char *path, char **out, struct dr_err *err)
{
    char line[SECRET_BYTES_MAX];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return dr_fail_errno(err, errno, "open --secret-file", path);
    }
    (void)setvbuf(file, NULL, _IONBF, 0); /* no copy of the secret in a buffer of stdio */
    size_t bytes = fread(line, 1, sizeof line - 1, file);
    bool is_failed = ferror(file) != 0;
    bool is_long = bytes == sizeof line - 1;
    (void)fclose(file);
    line[bytes] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    *out = is_failed || is_long || line[0] == '\0' ? NULL : dr_strdup(line);
    bool is_empty = line[0] == '\0';
    explicit_bzero(line, sizeof line);
    if (is_failed) {
        return dr_fail(err, DR_IO, "--secret-file: %s cannot be read", path);
    }
    if (is_empty || is_long) {
        return dr_fail(err, DR_INPUT, "--secret-file: the first line of %s is %s", path,
                       is_empty ? "empty; it shall be the master secret" : "too long");
    }
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code take_secret(const struct dr_cli *c, struct given *g, struct dr_err *err)
{
    const char *file = dr_args_text(c->args, "secret-file", NULL);
    const char *variable = getenv("DROVER_SECRET");
    const char *word = c->word_count > 0 ? c->word[0] : NULL;
    if (word != NULL && file != NULL) {
        return dr_fail(err, DR_USAGE, "give the secret once: as SECRET or by --secret-file");
    }
    if (file != NULL) {
        return read_secret_file(file, &g->secret, err);
    }
    const char *text = word != NULL ? word : variable;
    if (text == NULL || text[0] == '\0') {
        return dr_fail(err, DR_USAGE,
                       "the master secret is missing: name a file with --secret-file, set "
                       "$DROVER_SECRET, or give it as SECRET");
    }
    g->secret = dr_strdup(text);
    if (g->secret == NULL) {
        return dr_fail_nomem(err);
    }
    if (word != NULL) {
        dr_cli_hide_word(word);
    }
    return DR_OK;
}

static enum dr_code take_database(const struct dr_cli *c, struct given *g, struct dr_err *err)
{
    const char *option = dr_args_text(c->args, "database", NULL);
    const char *text = option != NULL ? option : getenv("SYNC_TOKENSERVER__DATABASE_URL");
    if (text == NULL || text[0] == '\0') {
        return dr_fail(err, DR_USAGE,
                       "no database: give --database URL or set $SYNC_TOKENSERVER__DATABASE_URL, "
                       "as mysql://user:password@host/tokenserver");
    }
    g->database_url = dr_strdup(text);
    if (g->database_url == NULL) {
        return dr_fail_nomem(err);
    }
    dr_cli_hide_urls(c->args);
    return DR_OK;
}

static int64_t take_i64(const struct dr_args *a, const char *name, int64_t absent)
{
    int64_t value = absent;
    const char *text = dr_args_text(a, name, NULL);
    return text != NULL && dr_parse_i64(text, &value) ? value : absent;
}

static uint32_t take_u32(const struct dr_args *a, const char *name, uint32_t absent)
{
    uint64_t value = dr_args_u64(a, name, absent);
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static enum dr_code take_options(const struct dr_args *a, struct dr_tokenserver_options *o,
                                 struct dr_err *err)
{
    o->purge_interval_s = dr_args_u64(a, "purge-interval", o->purge_interval_s);
    o->grace_period_s = take_i64(a, "grace-period", o->grace_period_s);
    o->max_per_loop = dr_args_u64(a, "max-per-loop", o->max_per_loop);
    o->max_offset = dr_args_u64(a, "max-offset", o->max_offset);
    o->max_records = dr_args_u64(a, "max-records", o->max_records);
    o->request_timeout_s = dr_args_u64(a, "request-timeout", o->request_timeout_s);
    o->is_oneshot = dr_args_has(a, "oneshot");
    o->is_dry_run = dr_args_has(a, "dryrun");
    o->is_forced = dr_args_has(a, "force");
    o->override_node = dr_args_text(a, "override_node", NULL);
    o->has_range_start = dr_args_has(a, "range_start");
    o->range_start = take_i64(a, "range_start", 0);
    o->has_range_end = dr_args_has(a, "range_end");
    o->range_end = take_i64(a, "range_end", 0);
    o->requests_max = take_u32(a, "concurrency", o->requests_max);
    o->requests_per_node_max = take_u32(a, "per-node", o->requests_per_node_max);
    o->breaker_failures = take_u32(a, "breaker-failures", o->breaker_failures);
    o->breaker_s = dr_args_u64(a, "breaker-rest", o->breaker_s);
    if (o->max_per_loop == 0 || o->request_timeout_s == 0 || o->requests_max == 0 ||
        o->requests_per_node_max == 0 || o->breaker_failures == 0) {
        return dr_fail(err, DR_USAGE,
                       "--max-per-loop, --request-timeout, --concurrency, --per-node and "
                       "--breaker-failures need at least 1");
    }
    uint64_t port = dr_args_u64(a, "metric_port", STATSD_PORT);
    if (port == 0 || port > PORT_MAX) {
        return dr_fail(err, DR_USAGE, "--metric_port is a number from 1 to %d", PORT_MAX);
    }
    if (o->has_range_start && o->has_range_end && o->range_end <= o->range_start) {
        return dr_fail(err, DR_USAGE, "--range_end lies before --range_start: nothing is selected");
    }
    return DR_OK;
}

static enum dr_code make_log(struct dr_cli *c, struct dr_log **out, struct dr_err *err)
{
    bool is_human = dr_args_has(c->args, "human_logs");
    const struct dr_log_config config = {
        .level = c->is_log_level_given             ? c->log_level
                 : dr_args_has(c->args, "verbose") ? DR_LOG_DEBUG
                                                   : DR_LOG_INFO,
        .is_json = !is_human,
        .is_cloud = !is_human,
    };
    return dr_log_create(&config, out, err);
}

static enum dr_code make_statsd(const struct dr_cli *c, struct dr_statsd **out, struct dr_err *err)
{
    return dr_statsd_create(dr_args_text(c->args, "metric_host", NULL),
                            (uint16_t)dr_args_u64(c->args, "metric_port", STATSD_PORT),
                            "tokenserver", out, err);
}

static bool is_asked_to_stop(void *arg)
{
    const struct dr_cli *c = arg;
    return atomic_load(&c->stop->is_asked);
}

/* Standard output has the result for programs, with --json. Standard error is the log, where people
 * get a sentence more; JSON lines have it in "purge run ended". */
static enum dr_code put_result(struct dr_cli *c, const struct dr_tokenserver_result *r,
                               struct dr_err *err)
{
    char shown[32];
    if (c->is_json) {
        return dr_cli_put_json(
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I}", "backlog",
                      (json_int_t)r->backlog, "fetched", (json_int_t)r->fetched, "purged",
                      (json_int_t)r->purged, "nodeless", (json_int_t)r->nodeless, "skipped_downed",
                      (json_int_t)r->skipped_downed, "deferred", (json_int_t)r->deferred, "failed",
                      (json_int_t)r->failed, "is_limit_reached", r->is_limit_reached, "ms",
                      (json_int_t)r->ms),
            err);
    }
    if (!dr_args_has(c->args, "human_logs")) {
        return DR_OK;
    }
    dr_cli_say(c,
               "%s%llu records purged with their data, %llu without a node, %llu of downed nodes "
               "left, %llu deferred, in %s",
               dr_args_has(c->args, "dryrun") ? "dry run, nothing done: " : "",
               (unsigned long long)r->purged, (unsigned long long)r->nodeless,
               (unsigned long long)r->skipped_downed, (unsigned long long)r->deferred,
               dr_human_ms(r->ms, shown, sizeof shown));
    return DR_OK;
}

/* How it ended, for a collector of logs: what stands there in JSON is not said again in words. */
static enum dr_code log_ending(struct dr_cli *c, struct dr_log *log, enum dr_code rc, int *exit_out,
                               const struct dr_err *err)
{
    if (rc == DR_OK || dr_args_has(c->args, "human_logs")) {
        return rc;
    }
    *exit_out = (int)dr_exit_of(rc, c->place);
    dr_log(log, rc == DR_STOPPED ? DR_LOG_INFO : DR_LOG_ERROR,
           rc == DR_STOPPED ? "stopped" : "purge failed", "code=%s msg=%s exit=%d",
           dr_code_name(rc), err->msg, *exit_out);
    return DR_OK;
}

static enum dr_code run_purge(struct dr_cli *c, const struct given *g, int *exit_out,
                              struct dr_err *err)
{
    struct dr_log *log = NULL;
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *purge = NULL;
    struct dr_tokenserver_result result = {0};
    enum dr_code rc = make_log(c, &log, err);
    if (rc == DR_OK) {
        rc = make_statsd(c, &statsd, err);
    }
    if (rc == DR_OK && g->options.override_node != NULL && !g->options.is_forced) {
        dr_log_event(log, DR_LOG_WARN, "--override_node does nothing without --force");
    }
    if (rc == DR_OK) {
        c->place = DR_AT_STORE;
        rc = dr_tokenserver_create(&g->options, log, statsd, &purge, err);
    }
    if (rc == DR_OK) {
        dr_cli_become_graceful(c);
        rc = dr_tokenserver_run(purge, is_asked_to_stop, c, &result, err);
        c->place = rc == DR_OK ? DR_AT_NOTHING : c->place;
    }
    if (rc == DR_OK) {
        rc = put_result(c, &result, err);
    }
    rc = log == NULL ? rc : log_ending(c, log, rc, exit_out, err);
    dr_tokenserver_destroy(purge);
    dr_statsd_destroy(statsd);
    dr_log_destroy(log);
    return rc;
}

enum dr_code dr_cli_tokenserver_purge(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct given g = {0};
    dr_tokenserver_options_default(&g.options);
    enum dr_code rc = take_options(c->args, &g.options, err);
    if (rc == DR_OK) {
        rc = take_secret(c, &g, err);
    }
    if (rc == DR_OK) {
        rc = take_database(c, &g, err);
    }
    if (rc == DR_OK) {
        g.options.secret = g.secret;
        g.options.database_url = g.database_url;
        rc = run_purge(c, &g, exit_out, err);
    }
    wipe_and_free(g.secret);
    wipe_and_free(g.database_url);
    return rc;
}
#endif
