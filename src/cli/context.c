/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the context of one invocation: data folder, configuration, log, queue handle, who asks.
 * Nothing is made on disk before a verb asks for the queue or the log. */
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli_private.h"

enum { PATH_BYTES = 4096, HOST_BYTES = 64, USER_BYTES = 60 };

static void note_who(struct dr_cli *c)
{
    char host[HOST_BYTES] = "";
    char buf[1024];
    struct passwd entry;
    struct passwd *found = NULL;
    if (gethostname(host, sizeof host - 1) != 0) {
        dr_copy_text(host, sizeof host, "localhost");
    }
    if (getpwuid_r(geteuid(), &entry, buf, sizeof buf, &found) == 0 && found != NULL) {
        (void)snprintf(c->who, sizeof c->who, "%.*s@%s", USER_BYTES, found->pw_name, host);
    } else {
        (void)snprintf(c->who, sizeof c->who, "uid %ld@%s", (long)geteuid(), host);
    }
}

static enum dr_code load_config(struct dr_cli *c, struct dr_err *err)
{
    char beside[PATH_BYTES];
    /* There --config names the job's file; drover's own still lies beside the data. */
    bool is_for_job = c->command->action == dr_cli_mongodb_drop;
    const char *path = is_for_job ? NULL : dr_args_text(c->args, "config", NULL);
    if (path == NULL) {
        int length = snprintf(beside, sizeof beside, "%s/drover.json", c->data_dir);
        if (length < 0 || (size_t)length >= sizeof beside) {
            return dr_fail(err, DR_INPUT, "--data: the path is longer than %d bytes",
                           PATH_BYTES - 16);
        }
        if (access(beside, F_OK) != 0) {
            return DR_OK;
        }
        path = beside;
    }
    enum dr_code rc = dr_config_load(&c->config, path, err);
    c->log_level = c->config.log_level;
    c->is_log_level_given = c->config.is_log_level_given;
    return rc == DR_NOT_FOUND ? DR_INPUT : rc;
}

static enum dr_code read_log_options(struct dr_cli *c, struct dr_err *err)
{
    const char *level = dr_args_text(c->args, "log-level", NULL);
    const char *format = dr_args_text(c->args, "log-format", "human");
    if (strcmp(format, "human") != 0 && strcmp(format, "json") != 0) {
        return dr_fail(err, DR_USAGE, "--log-format is human or json, not \"%.40s\"", format);
    }
    if (level != NULL) {
        if (!dr_log_level_parse(level, &c->log_level)) {
            return dr_fail(err, DR_USAGE,
                           "--log-level is error, warn, info or debug, not \"%.40s\"", level);
        }
        c->is_log_level_given = true;
    }
    return DR_OK;
}

enum dr_code dr_cli_init(struct dr_cli *c, struct dr_err *err)
{
    const char *folder = getenv("DROVER_DATA");
    c->log_fd = -1;
    c->is_json = dr_args_has(c->args, "json");
    c->is_quiet = dr_args_has(c->args, "quiet");
    c->is_yes = dr_args_has(c->args, "yes");
    c->data_dir = dr_args_text(c->args, "data",
                               folder != NULL && folder[0] != '\0' ? folder : "./drover-data");
    note_who(c);
    if (c->data_dir[0] == '\0') {
        return dr_fail(err, DR_USAGE, "--data needs the path of a folder");
    }
    enum dr_code rc = load_config(c, err);
    return rc == DR_OK ? read_log_options(c, err) : rc;
}

void dr_cli_fini(struct dr_cli *c)
{
    dr_cli_world_fini(c);
    dr_queue_close(c->queue);
    c->queue = NULL;
    dr_log_destroy(c->log);
    c->log = NULL;
    if (c->log_fd >= 0) {
        (void)close(c->log_fd);
        c->log_fd = -1;
    }
    dr_config_fini(&c->config);
}

enum dr_code dr_cli_queue(struct dr_cli *c, bool must_exist, struct dr_err *err)
{
    c->place = DR_AT_DATA;
    if (c->queue != NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_queue_open(c->data_dir, must_exist, &c->queue, err);
    if (rc == DR_NOT_FOUND && must_exist) {
        return dr_fail(err, DR_NOT_FOUND,
                       "no operations in %s: nothing was run there yet; name another folder with "
                       "--data DIR or $DROVER_DATA",
                       c->data_dir);
    }
    if (rc == DR_NOT_FOUND) {
        /* A parent that refuses new folders (as /proc does) looks like a missing one. */
        rc = DR_READONLY;
    }
    if (rc != DR_OK) {
        dr_wrap(err, "data folder %s", c->data_dir);
    }
    return rc;
}

enum dr_code dr_cli_log(struct dr_cli *c, enum dr_log_level level, struct dr_err *err)
{
    if (c->log != NULL) {
        return DR_OK;
    }
    if (c->config.log_file != NULL) {
        enum dr_code rc =
            dr_file_open(c->config.log_file, O_WRONLY | O_APPEND | O_CREAT, &c->log_fd, err);
        if (rc != DR_OK) {
            dr_wrap(err, "log_file");
            return rc;
        }
    }
    struct dr_log_config config = {
        .level = c->is_log_level_given ? c->log_level : level,
        .is_json = strcmp(dr_args_text(c->args, "log-format", "human"), "json") == 0,
        .fd = c->log_fd >= 0 ? c->log_fd : 0,
    };
    return dr_log_create(&config, &c->log, err);
}

void dr_cli_say(const struct dr_cli *c, const char *fmt, ...)
{
    if (c->is_quiet) {
        return;
    }
    va_list list;
    va_start(list, fmt);
    (void)vfprintf(stderr, fmt, list); /* NOLINT(clang-analyzer-valist.Uninitialized): it is */
    va_end(list);
    (void)fputc('\n', stderr);
}

enum dr_code dr_cli_put_json(json_t *j, struct dr_err *err)
{
    if (j == NULL) {
        return dr_fail_nomem(err);
    }
    /* A failing write shows in ferror(stdout), which the end of the program looks at. */
    int rc = json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(j);
    if (rc != 0 && ferror(stdout) == 0) {
        return dr_fail_nomem(err);
    }
    (void)fputc('\n', stdout);
    return DR_OK;
}

enum dr_code dr_cli_put_text(struct dr_str *s, struct dr_err *err)
{
    bool is_short = s->is_short;
    if (!is_short) {
        (void)fputs(dr_str_text(s), stdout);
    }
    dr_str_fini(s);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_cli_id(const struct dr_cli *c, uint32_t n, int64_t *out, struct dr_err *err)
{
    if (n >= c->word_count || !dr_parse_i64(c->word[n], out) || *out <= 0) {
        return dr_fail(err, DR_USAGE, "\"%.60s\" is not the number of %s; drover %s lists them",
                       n < c->word_count ? c->word[n] : "", n == 0 ? "an operation" : "a step",
                       n == 0 ? "status" : "steps OP");
    }
    return DR_OK;
}

enum dr_code dr_cli_op(struct dr_cli *c, struct dr_op *op, struct dr_err *err)
{
    int64_t id = 0;
    enum dr_code rc = dr_cli_id(c, 0, &id, err);
    if (rc == DR_OK) {
        rc = dr_cli_queue(c, true, err);
    }
    return rc == DR_OK ? dr_queue_op(c->queue, id, op, err) : rc;
}
