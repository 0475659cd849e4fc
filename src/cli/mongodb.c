/* SPDX-License-Identifier: Apache-2.0 */
/* Owns `drover mongodb drop`: a mongodb.drop job from a configuration file or from options. With a
 * file nothing is erased unless that file, or --live, says so. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli_private.h"

enum {
    SECONDS_PER_DAY = 86400,
    SECONDS_PER_HOUR = 3600,
    SECONDS_PER_MINUTE = 60,
    WHEN_BYTES = 40,
    URL_BYTES = 512
};

/* What a file says is said there alone; the common options of a job may add to it. */
static const char *const own_options[] = {
    "uri",        "database",        "collection",      "filter",          "config-uri",
    "status-uri", "config-database", "status-database", "rebalance-check", "write-concern",
};

/* --- from a file ----------------------------------------------------------------------------- */

static enum dr_code load_file(struct dr_cli *c, const char *path, json_t **config,
                              struct dr_mongodb_order *o, struct dr_err *err)
{
    for (size_t i = 0; i < sizeof own_options / sizeof own_options[0]; i++) {
        if (dr_args_has(c->args, own_options[i])) {
            return dr_fail(err, DR_USAGE, "--%s: with --config this is a key of the file",
                           own_options[i]);
        }
    }
    enum dr_code rc = dr_json_load(path, config, err);
    if (rc == DR_NOT_FOUND) {
        return dr_fail(err, DR_INPUT, "%s: there is no such configuration file", path);
    }
    if (rc != DR_OK) {
        return rc == DR_NOMEM ? rc : DR_INPUT; /* the file is what is wrong */
    }
    rc = dr_mongodb_order_read(*config, path, o, err);
    if (rc == DR_OK && dr_args_has(c->args, "live")) {
        o->is_dry_run = false;
    }
    return rc;
}

/* --- from options ---------------------------------------------------------------------------- */

static enum dr_code copy_option(const struct dr_cli *c, const char *option, char **out,
                                struct dr_err *err)
{
    const char *text = dr_args_text(c->args, option, NULL);
    *out = text == NULL ? NULL : dr_strdup(text);
    return text != NULL && *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* An option whose value is JSON. *out stays NULL when it is not given. */
static enum dr_code parse_option(const struct dr_cli *c, const char *option, json_t **out,
                                 struct dr_err *err)
{
    char name[WHEN_BYTES];
    const char *text = dr_args_text(c->args, option, NULL);
    (void)snprintf(name, sizeof name, "--%s", option);
    return text == NULL ? DR_OK : dr_json_parse(name, text, strlen(text), out, err);
}

static enum dr_code set_text(const struct dr_cli *c, const char *option, const char *key,
                             json_t *job, struct dr_err *err)
{
    const char *text = dr_args_text(c->args, option, NULL);
    if (text == NULL || json_object_set_new(job, key, json_string(text)) == 0) {
        return DR_OK;
    }
    return dr_fail(err, DR_INPUT, "--%s: not valid UTF-8, or out of memory", option);
}

static enum dr_code add_selection(struct dr_cli *c, json_t *job, struct dr_err *err)
{
    json_t *filter = NULL;
    enum dr_code rc = set_text(c, "database", "database", job, err);
    if (rc == DR_OK) {
        rc = set_text(c, "status-database", "status_database", job, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "collection")) {
        rc = dr_cli_add_list(c->args, "collection", "collections", false, job, err);
    }
    if (rc == DR_OK) {
        rc = parse_option(c, "filter", &filter, err);
    }
    if (rc == DR_OK && filter != NULL && json_object_set_new(job, "filter", filter) != 0) {
        rc = dr_fail_nomem(err);
    }
    return rc;
}

static enum dr_code read_options(struct dr_cli *c, json_t **concern, struct dr_mongodb_order *o,
                                 struct dr_err *err)
{
    static const char *const needed[] = {"uri", "database", NULL};
    uint64_t ms = 0;
    enum dr_code rc = dr_cli_need_options(c, needed, err);
    if (rc == DR_OK && dr_args_has(c->args, "live")) {
        return dr_fail(err, DR_USAGE,
                       "--live overrides dry_run of a --config file; without one "
                       "leave out --dry-run");
    }
    if (rc == DR_OK) {
        rc = copy_option(c, "uri", &o->uri, err);
    }
    if (rc == DR_OK) {
        rc = copy_option(c, "config-uri", &o->config_uri, err);
    }
    if (rc == DR_OK) {
        rc = copy_option(c, "status-uri", &o->status_uri, err);
    }
    if (rc == DR_OK) {
        rc = parse_option(c, "write-concern", concern, err);
    }
    o->write_concern = *concern;
    o->config_db = dr_args_text(c->args, "config-database", NULL);
    if (rc == DR_OK && dr_args_has(c->args, "rebalance-check")) {
        bool is_good = dr_parse_duration_ms(dr_args_text(c->args, "rebalance-check", ""), &ms);
        o->rebalance_s = ms / 1000;
        if (!is_good || o->rebalance_s < 1 || o->rebalance_s > SECONDS_PER_DAY) {
            rc = dr_fail(err, DR_USAGE, "--rebalance-check: from 1 second to 1 day");
        }
    }
    return rc == DR_OK ? add_selection(c, o->job, err) : rc;
}

/* --- the job --------------------------------------------------------------------------------- */

/* Flags that only ever add, to a file as well. */
static enum dr_code add_flags(const struct dr_cli *c, json_t *job, struct dr_err *err)
{
    static const struct {
        const char *option, *key;
        bool value;
    } flags[] = {
        {"stop-balancer", "stop_balancer", true},
        {"again", "again", true},
        {"no-chunk-sizes", "chunk_sizes", false},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (dr_args_has(c->args, flags[i].option) &&
            json_object_set_new(job, flags[i].key, json_boolean(flags[i].value)) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code make_order(struct dr_cli *c, json_t **config, struct dr_mongodb_order *o,
                               struct dr_err *err)
{
    const char *path = dr_args_text(c->args, "config", NULL);
    const char *name = path == NULL ? "options" : path;
    enum dr_code rc =
        path != NULL ? load_file(c, path, config, o, err) : read_options(c, config, o, err);
    if (rc == DR_OK) {
        rc = dr_mongodb_order_finish(o, name, err);
    }
    if (rc == DR_OK) {
        rc = add_flags(c, o->job, err);
    }
    if (rc == DR_OK && dr_args_has(c->args, "live") && dr_args_has(c->args, "dry-run")) {
        rc = dr_fail(err, DR_USAGE, "--live and --dry-run contradict each other");
    }
    return rc == DR_OK ? dr_cli_add_job_options(c, o->job, err) : rc;
}

/* The file's log: opened before anything happens, so that nothing is missing from it. */
static enum dr_code open_log(struct dr_cli *c, const struct dr_mongodb_order *o, struct dr_err *err)
{
    if (o->is_log_level_given && !dr_args_has(c->args, "log-level")) {
        c->log_level = o->log_level;
        c->is_log_level_given = true;
    }
    if (o->log_file == NULL) {
        return DR_OK;
    }
    const char *before = c->config.log_file;
    c->config.log_file = o->log_file;
    enum dr_code rc = dr_cli_log(c, DR_LOG_INFO, err);
    c->config.log_file = before; /* the name goes with the file that said it */
    return rc;
}

static void say_start(struct dr_cli *c, const struct dr_mongodb_order *o, bool is_dry_run)
{
    char url[URL_BYTES];
    char when[WHEN_BYTES];
    const char *store = json_string_value(json_object_get(o->job, "store"));
    const char *database = json_string_value(json_object_get(o->job, "database"));
    dr_cli_say(c, "rolling drop of %s on %s: %s, started %s", database == NULL ? "?" : database,
               dr_url_redact(store == NULL ? "?" : store, url, sizeof url),
               is_dry_run ? "dry run, nothing is touched" : "LIVE",
               dr_show_when(dr_wall_now(), when, sizeof when));
}

static void say_end(struct dr_cli *c, dr_mono_ms begin, bool is_dry_run, enum dr_code rc,
                    int exit_code)
{
    char when[WHEN_BYTES];
    uint64_t s = (uint64_t)(dr_mono_now() - begin) / 1000;
    const char *how = rc != DR_OK ? "failed" : exit_code != 0 ? "not done" : "done";
    dr_cli_say(c, "rolling drop %s (%s), ended %s after %lluh %llum %llus", how,
               is_dry_run ? "dry run" : "live", dr_show_when(dr_wall_now(), when, sizeof when),
               (unsigned long long)(s / SECONDS_PER_HOUR),
               (unsigned long long)(s / SECONDS_PER_MINUTE % SECONDS_PER_MINUTE),
               (unsigned long long)(s % SECONDS_PER_MINUTE));
}

static void log_parts(struct dr_cli *c, const struct dr_plan *plan)
{
    for (uint32_t i = 0; i < dr_plan_part_count(plan); i++) {
        const struct dr_plan_part *part = dr_plan_part_at(plan, i);
        dr_log(c->log, DR_LOG_INFO, "collection",
               "name=%s strategy=%s steps=%llu to_erase=%llu of=%llu why=%s", part->collection,
               part->steps == 0 ? "-" : dr_strategy_name(part->strategy),
               (unsigned long long)part->steps, (unsigned long long)part->estimated,
               (unsigned long long)part->total, part->why);
        if (part->warning != NULL) {
            dr_log(c->log, DR_LOG_WARN, "collection", "name=%s warning=%s", part->collection,
                   part->warning);
        }
    }
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

/* What was measured: each chunk for those who asked for more, the sum of each shard in any case. */
static void log_chunks(struct dr_cli *c, const json_t *chunks)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(chunks, "list"), i, row)
    {
        char *range = dr_json_text(json_object_get(row, "min"));
        dr_log(c->log, DR_LOG_DEBUG, "chunk",
               "collection=%s shard=%s chunk=%lld bytes=%lld documents=%lld min=%s",
               json_string_value(json_object_get(row, "collection")),
               json_string_value(json_object_get(row, "shard")), number_of(row, "chunk"),
               number_of(row, "bytes"), number_of(row, "documents"), range == NULL ? "?" : range);
        dr_free(range);
    }
    json_array_foreach(json_object_get(chunks, "shards"), i, row)
    {
        dr_log(c->log, DR_LOG_INFO, "shard", "name=%s chunks=%lld mb=%.2f documents=%lld",
               json_string_value(json_object_get(row, "shard")), number_of(row, "chunks"),
               (double)number_of(row, "bytes") / (1024.0 * 1024.0), number_of(row, "documents"));
    }
}

void dr_cli_log_plan(struct dr_cli *c, const struct dr_plan *plan)
{
    struct dr_err err = {0};
    json_t *summary = NULL;
    if (c->log == NULL) {
        return;
    }
    log_parts(c, plan);
    /* With all steps only when somebody reads them: there may be a million. */
    bool is_detailed = dr_log_is_on(c->log, DR_LOG_DEBUG);
    if (dr_plan_to_json(plan, is_detailed, &summary, &err) != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "the plan is not logged", &err);
        return;
    }
    log_chunks(c, json_object_get(summary, "chunks"));
    json_decref(summary);
}

/* The way of run, where --dry-run decides: a file's dry_run counts as if it had been given. */
static enum dr_code run_order(struct dr_cli *c, struct dr_mongodb_order *o, int *exit_out,
                              struct dr_err *err)
{
    static const struct dr_option dry_run = {.name = "dry-run", .type = DR_OPT_FLAG};
    const struct dr_args *given = c->args;
    struct dr_args args = *given;
    dr_mono_ms begin = dr_mono_now();
    bool is_dry_run = o->is_dry_run || dr_args_has(given, "dry-run");
    if (is_dry_run && !dr_args_has(given, "dry-run")) {
        if (args.given_count == DR_ARGS_OPTIONS_MAX) {
            return dr_fail(err, DR_USAGE, "too many options");
        }
        args.given[args.given_count++] = (struct dr_given){.option = &dry_run};
    }
    say_start(c, o, is_dry_run);
    json_t *job = o->job;
    o->job = NULL; /* dr_cli_run_job takes it */
    c->args = &args;
    enum dr_code rc = dr_cli_run_job(c, job, "job", exit_out, err);
    c->args = given;
    say_end(c, begin, is_dry_run, rc, *exit_out);
    return rc;
}

enum dr_code dr_cli_mongodb_drop(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *config = NULL;
    struct dr_mongodb_order o = {0};
    o.job = json_pack("{s:s}", "kind", "mongodb.drop");
    enum dr_code rc = o.job == NULL ? dr_fail_nomem(err) : make_order(c, &config, &o, err);
    if (rc == DR_OK) {
        rc = open_log(c, &o, err);
    }
    if (rc == DR_OK) {
        rc = run_order(c, &o, exit_out, err);
        if (rc != DR_OK) { /* the screen gets it from whoever called */
            dr_log_err(o.log_file == NULL ? NULL : c->log, DR_LOG_ERROR, "rolling drop failed",
                       err);
        }
    }
    json_decref(o.job);
    dr_mongodb_order_fini(&o);
    json_decref(config);
    return rc;
}
