/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the configuration file of `drover mongodb drop` and how it becomes a job: the keys of the
 * rolling-drop script, those that drover adds, and the URL that carries them to the adapter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli_private.h"

enum {
    PER_BATCH_DEFAULT = 10000,
    PER_BATCH_MAX = 1000 * 1000,
    REBALANCE_S_MAX = 24 * 3600,
    SECRET_BYTES_MAX = 16 * 1024,
    WTIMEOUT_MS_MAX = 24 * 3600 * 1000,
    WHERE_BYTES = 256,
    NUMBER_BYTES = 64,
    NAMES = 2, /* of databases, the first keys of the file that are a job's */
};

/* --- URIs, which hold secrets ---------------------------------------------------------------- */

static enum dr_code load_secret(const char *where, const char *path, char **out, struct dr_err *err)
{
    size_t length = 0;
    enum dr_code rc = dr_file_load(path, SECRET_BYTES_MAX, out, &length, err);
    if (rc != DR_OK) {
        dr_wrap(err, "%s", where);
        return rc == DR_NOMEM ? rc : DR_INPUT;
    }
    while (length > 0 && strchr(" \t\r\n", (*out)[length - 1]) != NULL) {
        (*out)[--length] = '\0';
    }
    return DR_OK;
}

/* The three names of one URI; the reader of the object keeps them. */
struct uri_keys {
    const char *plain, *env, *file;
};

/* At most one of the three, and one of them when it is required. What they hold is never shown. */
static enum dr_code read_uri(struct dr_jr *jr, const struct uri_keys *key, bool is_required,
                             char **out, struct dr_err *err)
{
    char where[WHERE_BYTES];
    const char *text = NULL;
    const char *variable = NULL;
    const char *file = NULL;
    int given = dr_jr_string(jr, key->plain, false, &text);
    given += dr_jr_string(jr, key->env, false, &variable);
    given += dr_jr_string(jr, key->file, false, &file);
    if (jr->rc != DR_OK || (given == 0 && !is_required)) {
        return jr->rc;
    }
    if (given != 1) {
        return dr_fail(err, DR_INPUT, "%s: %s of %s, %s and %s is needed", jr->path,
                       given == 0 ? "one" : "only one", key->plain, key->env, key->file);
    }
    if (file != NULL) {
        (void)snprintf(where, sizeof where, "%.160s.%s", jr->path, key->file);
        return load_secret(where, file, out, err);
    }
    if (variable != NULL) {
        text = getenv(variable);
        if (text == NULL) {
            return dr_fail(err, DR_INPUT, "%s.%s: the environment has no variable %.100s", jr->path,
                           key->env, variable);
        }
    }
    *out = dr_strdup(text);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static bool is_mongodb_uri(const char *uri)
{
    return strncmp(uri, "mongodb://", 10) == 0 || strncmp(uri, "mongodb+srv://", 14) == 0;
}

/* --- the file -------------------------------------------------------------------------------- */

/* The script's levels by their Python names, and drover's. */
static enum dr_code read_level(struct dr_jr *jr, struct dr_mongodb_order *o, struct dr_err *err)
{
    static const struct {
        const char *name;
        enum dr_log_level level;
    } levels[] = {
        {"critical", DR_LOG_ERROR}, {"error", DR_LOG_ERROR}, {"warning", DR_LOG_WARN},
        {"warn", DR_LOG_WARN},      {"info", DR_LOG_INFO},   {"debug", DR_LOG_DEBUG},
    };
    const char *name = NULL;
    if (!dr_jr_string(jr, "log_level", false, &name)) {
        return jr->rc;
    }
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcasecmp(levels[i].name, name) == 0) {
            o->log_level = levels[i].level;
            o->is_log_level_given = true;
            return DR_OK;
        }
    }
    return dr_fail(err, DR_INPUT,
                   "%s.log_level: DEBUG, INFO, WARNING, ERROR or CRITICAL, not \"%.40s\"", jr->path,
                   name);
}

/* Keys that are a job's under the same name, or another. */
static enum dr_code copy_keys(struct dr_jr *jr, json_t *job, struct dr_err *err)
{
    static const struct {
        const char *key, *job_key;
    } keys[] = {
        {"tenant_db_name", "database"},
        {"alcatraz_db_name", "status_database"},
        {"collections", "collections"},
        {"filter", "filter"},
        {"drop_when_empty", "drop_when_empty"},
        {"stop_balancer", "stop_balancer"},
        {"again", "again"},
        {"irreversible", "irreversible"},
        {"temp_index", "temp_index"},
        {"chunk_sizes", "chunk_sizes"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *value = NULL;
        const char *name = NULL;
        if (i < NAMES && !dr_jr_string(jr, keys[i].key, i == 0, &name)) {
            continue; /* named here by the file's key, not by the job's */
        }
        if (dr_jr_any(jr, keys[i].key, i == 0, &value) &&
            json_object_set(job, keys[i].job_key, (json_t *)value) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return jr->rc;
}

/* deletes_per_batch and concurrent_deletion_enabled are tuning. */
static enum dr_code read_speed(struct dr_jr *jr, json_t *job, struct dr_err *err)
{
    uint64_t per_batch = PER_BATCH_DEFAULT;
    bool is_concurrent = false;
    (void)dr_jr_u64(jr, "deletes_per_batch", false, 1, PER_BATCH_MAX, &per_batch);
    (void)dr_jr_bool(jr, "concurrent_deletion_enabled", false, &is_concurrent);
    if (jr->rc != DR_OK) {
        return jr->rc;
    }
    json_t *tuning = json_pack("{s:I, s:i}", "batch_items_max", (json_int_t)per_batch, "lanes",
                               is_concurrent ? 0 : 1);
    return tuning != NULL && json_object_set_new(job, "tuning", tuning) == 0 ? DR_OK
                                                                             : dr_fail_nomem(err);
}

enum dr_code dr_mongodb_order_read(const json_t *config, const char *name,
                                   struct dr_mongodb_order *o, struct dr_err *err)
{
    static const struct uri_keys keys[] = {
        {"mongo_uri", "mongo_uri_env", "mongo_uri_file"},
        {"config_uri", "config_uri_env", "config_uri_file"},
        {"status_uri", "status_uri_env", "status_uri_file"},
    };
    struct dr_jr jr;
    dr_jr_init(&jr, config, name, err);
    o->is_dry_run = true; /* what erases has to be asked for in so many words */
    enum dr_code rc = read_uri(&jr, &keys[0], true, &o->uri, err);
    if (rc == DR_OK) {
        rc = read_uri(&jr, &keys[1], false, &o->config_uri, err);
    }
    if (rc == DR_OK) {
        rc = read_uri(&jr, &keys[2], false, &o->status_uri, err);
    }
    if (rc == DR_OK) {
        rc = copy_keys(&jr, o->job, err);
    }
    (void)dr_jr_string(&jr, "config_db_name", false, &o->config_db);
    (void)dr_jr_bool(&jr, "dry_run", false, &o->is_dry_run);
    (void)dr_jr_string(&jr, "log_file", false, &o->log_file);
    (void)dr_jr_u64(&jr, "rebalance_check_seconds", false, 1, REBALANCE_S_MAX, &o->rebalance_s);
    (void)dr_jr_object(&jr, "writeConcern", false, &o->write_concern);
    if (rc == DR_OK) {
        rc = read_level(&jr, o, err);
    }
    if (rc == DR_OK) {
        rc = read_speed(&jr, o->job, err);
    }
    return rc == DR_OK ? dr_jr_finish(&jr) : rc;
}

/* --- the URL --------------------------------------------------------------------------------- */

static bool has_option(const char *uri, const char *name)
{
    size_t length = strlen(name);
    const char *at = strchr(uri, '?');
    while (at != NULL) {
        if (strncasecmp(at + 1, name, length) == 0 && at[1 + length] == '=') {
            return true;
        }
        at = strpbrk(at + 1, "&;");
    }
    return false;
}

/* "?name=" or "&name="; a "/" ends the hosts before any option. */
static void add_name(struct dr_str *out, const char *name)
{
    const char *text = dr_str_text(out);
    const char *hosts = strstr(text, "://");
    const char *at = strrchr(text, '@');
    if (hosts == NULL) { /* memory was short: the caller will see that */
        return;
    }
    if (strchr(text, '?') != NULL) {
        char last = text[out->len - 1];
        dr_str_add(out, last == '?' || last == '&' ? "" : "&");
    } else {
        hosts = at != NULL ? at : hosts + 2;
        dr_str_add(out, strchr(hosts + 1, '/') == NULL ? "/?" : "?");
    }
    dr_str_addf(out, "%s=", name);
}

static void add_option(struct dr_str *out, const char *name, const char *value)
{
    add_name(out, name);
    dr_str_add_percent(out, value);
}

/* An option that the URI has already is kept there, unless it was named here as well. */
static enum dr_code add_concern(struct dr_str *out, const char *uri, const char *name,
                                const char *key, const char *option, const char *value,
                                bool is_named, struct dr_err *err)
{
    if (!has_option(uri, option)) {
        add_option(out, option, value);
        return DR_OK;
    }
    return !is_named ? DR_OK
                     : dr_fail(err, DR_INPUT,
                               "%s.writeConcern.%s: the URI says %s= as well; say it in one place",
                               name, key, option);
}

/* "majority", a number of members, or the name of a tagged set. */
static enum dr_code read_members(struct dr_jr *jr, char *buf, size_t buf_bytes, bool *is_named_out,
                                 struct dr_err *err)
{
    const json_t *w = NULL;
    dr_copy_text(buf, buf_bytes, "majority");
    *is_named_out = dr_jr_any(jr, "w", false, &w);
    if (!*is_named_out) {
        return jr->rc;
    }
    const char *text = json_string_value(w);
    if (text != NULL && text[0] != '\0' && strlen(text) < buf_bytes) {
        dr_copy_text(buf, buf_bytes, text);
        return DR_OK;
    }
    if (json_is_integer(w) && json_integer_value(w) >= 1 && json_integer_value(w) <= 50) {
        (void)snprintf(buf, buf_bytes, "%d", (int)json_integer_value(w));
        return DR_OK;
    }
    return dr_fail(err, DR_INPUT,
                   "%s.w: \"majority\", the name of a tagged set, or a number of members from 1 "
                   "on (unacknowledged writes cannot be counted)",
                   jr->path);
}

static enum dr_code add_write_concern(const struct dr_mongodb_order *o, const char *name,
                                      struct dr_str *out, struct dr_err *err)
{
    struct dr_jr jr;
    char path[WHERE_BYTES];
    char members[NUMBER_BYTES];
    char wtimeout[NUMBER_BYTES];
    bool is_w_named = false;
    bool is_journaled = true;
    uint64_t ms = 0;
    json_t *none = json_object();
    (void)snprintf(path, sizeof path, "%.200s.writeConcern", name);
    dr_jr_init(&jr, o->write_concern != NULL ? o->write_concern : none, path, err);
    enum dr_code rc = read_members(&jr, members, sizeof members, &is_w_named, err);
    bool is_j_named = dr_jr_bool(&jr, "j", false, &is_journaled);
    bool has_timeout = dr_jr_u64(&jr, "wtimeout", false, 1, WTIMEOUT_MS_MAX, &ms);
    if (rc == DR_OK) {
        rc = dr_jr_finish(&jr);
    }
    if (rc == DR_OK) {
        rc = add_concern(out, o->uri, name, "w", "w", members, is_w_named, err);
    }
    if (rc == DR_OK) {
        rc = add_concern(out, o->uri, name, "j", "journal", is_journaled ? "true" : "false",
                         is_j_named, err);
    }
    if (rc == DR_OK && has_timeout) {
        (void)snprintf(wtimeout, sizeof wtimeout, "%llu", (unsigned long long)ms);
        rc = add_concern(out, o->uri, name, "wtimeout", "wtimeoutMS", wtimeout, true, err);
    }
    json_decref(none);
    return rc;
}

static void add_own_options(const struct dr_mongodb_order *o, struct dr_str *out)
{
    if (o->config_uri != NULL) {
        add_option(out, "drover.configUri", o->config_uri);
    }
    if (o->config_db != NULL) {
        add_option(out, "drover.configDb", o->config_db);
    }
    if (o->rebalance_s != 0) {
        add_name(out, "drover.rebalanceCheck");
        dr_str_addf(out, "%llu", (unsigned long long)o->rebalance_s);
    }
}

static enum dr_code check_uris(const struct dr_mongodb_order *o, const char *name,
                               struct dr_err *err)
{
    const char *const uris[] = {o->uri, o->config_uri, o->status_uri};
    static const char *const what[] = {"the cluster", "its metadata", "status documents"};
    static const char *const key[] = {"mongo_uri", "config_uri", "status_uri"};
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        if (uris[i] != NULL && !is_mongodb_uri(uris[i])) {
            return dr_fail(err, DR_INPUT,
                           "%s: the URI of %s must begin with mongodb:// or mongodb+srv:// (%s)",
                           name, what[i], key[i]);
        }
    }
    return DR_OK;
}

enum dr_code dr_mongodb_order_finish(struct dr_mongodb_order *o, const char *name,
                                     struct dr_err *err)
{
    struct dr_str url;
    dr_str_init(&url);
    enum dr_code rc = check_uris(o, name, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_add(&url, o->uri);
    rc = add_write_concern(o, name, &url, err);
    if (rc == DR_OK) {
        add_own_options(o, &url);
        rc = url.is_short ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK && json_object_set_new(o->job, "store", json_string(dr_str_text(&url))) != 0) {
        rc = dr_fail(err, DR_INPUT, "%s: the URI is no valid UTF-8, or out of memory", name);
    }
    if (rc == DR_OK && o->status_uri != NULL &&
        json_object_set_new(o->job, "status_store", json_string(o->status_uri)) != 0) {
        rc = dr_fail(err, DR_INPUT, "%s: the status URI is no valid UTF-8, or out of memory", name);
    }
    dr_str_fini(&url);
    return rc;
}

void dr_mongodb_order_fini(struct dr_mongodb_order *o)
{
    dr_free(o->uri);
    dr_free(o->config_uri);
    dr_free(o->status_uri);
    memset(o, 0, sizeof *o);
}
