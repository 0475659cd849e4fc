/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from the command line to a daemon: address, token, one request, and what its answer
 * means for the exit code. */
#include "cli/remote_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#ifdef DROVER_HTTP
#include "store/http.h"
#endif

enum {
    TOKEN_BYTES_MIN = 16,
    TOKEN_BYTES_MAX = 127,
    TOKEN_FILE_BYTES = 512,
    REQUEST_MS = 60 * 1000,
    WAIT_MS = 200,
    ANSWER_BYTES_MAX = 64 * 1024 * 1024,
    SHOWN_BYTES = 900,
};

enum dr_code dr_cli_read_token(const char *option, const char *path, char **out, struct dr_err *err)
{
    char text[TOKEN_FILE_BYTES] = "";
    struct stat st;
    size_t bytes = 0;
    int fd = -1;
    *out = NULL;
    enum dr_code rc = dr_file_open(path, O_RDONLY, &fd, err);
    if (rc != DR_OK) {
        return dr_fail(err, DR_INPUT, "--%s: %s cannot be opened", option, path);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = dr_fail(err, DR_INPUT, "--%s: %s is no plain file", option, path);
    } else if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "--%s: others may read %s, or the group may change it; first: chmod 600 %s",
                     option, path, path);
    } else {
        rc = dr_file_read_at(fd, path, 0, text, sizeof text - 1, &bytes, err);
    }
    (void)close(fd);
    text[bytes < sizeof text ? bytes : 0] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    size_t length = strlen(text);
    if (rc == DR_OK &&
        (length < TOKEN_BYTES_MIN || length > TOKEN_BYTES_MAX || strcspn(text, " \t") != length)) {
        rc = dr_fail(err, DR_INPUT,
                     "--%s: the first line of %s is no token of %d to %d characters; make one "
                     "with: openssl rand -hex 24",
                     option, path, TOKEN_BYTES_MIN, TOKEN_BYTES_MAX);
    }
    if (rc == DR_OK) {
        *out = dr_strdup(text);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    explicit_bzero(text, sizeof text);
    return rc;
}

#ifndef DROVER_HTTP
enum dr_code dr_cli_remote(struct dr_cli *c, const char *method, const char *path,
                           const json_t *body, json_t **result_out, struct dr_err *err)
{
    (void)c;
    (void)method;
    (void)path;
    (void)body;
    *result_out = NULL;
    return dr_fail(err, DR_UNSUPPORTED,
                   "this build sends no HTTP requests; configure it with -DDROVER_RAFT=ON");
}
#else

/* "Bearer TOKEN", or NULL without a token. */
static enum dr_code make_authorization(const struct dr_cli *c, char **out, struct dr_err *err)
{
    const char *file = dr_args_text(c->args, "token-file", NULL);
    const char *variable = getenv("DROVER_TOKEN");
    char *token = NULL;
    enum dr_code rc = DR_OK;
    *out = NULL;
    if (file != NULL) {
        rc = dr_cli_read_token("token-file", file, &token, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (token == NULL && (variable == NULL || variable[0] == '\0')) {
        return DR_OK;
    }
    *out = dr_asprintf("Bearer %s", token != NULL ? token : variable);
    if (token != NULL) {
        explicit_bzero(token, strlen(token));
        dr_free(token);
    }
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code wait_for(struct dr_http *h, struct dr_http_answer *answer, struct dr_err *err)
{
    bool has = false;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && !has) { /* the request's own timeout ends it */
        rc = dr_http_wait(h, WAIT_MS, answer, &has, err);
    }
    return rc;
}

static enum dr_code code_of(uint32_t status, const char *text)
{
    static const char state[] = "Bad request: ";
    switch (status) {
    case 400:
        return strncmp(text, state, sizeof state - 1) == 0 ? DR_REFUSED : DR_INPUT;
    case 401:
    case 403:
        return DR_DENIED;
    case 404:
        return DR_NOT_FOUND;
    case 405:
    case 501:
        return DR_UNSUPPORTED;
    case 408:
        return DR_UNKNOWN; /* it may still happen */
    case 409:
        return DR_EXISTS;
    case 413:
    case 415:
    case 422:
        return DR_INPUT;
    case 429:
    case 503:
        return DR_UNREACHABLE;
    default:
        return status >= 500 ? DR_UNKNOWN : DR_INPUT;
    }
}

/* The envelope's error, or ours, or the first bytes. */
static enum dr_code fail_answer(const struct dr_http_answer *a, const json_t *json,
                                struct dr_err *err)
{
    const char *text = json_string_value(json_object_get(json_object_get(json, "status"), "error"));
    if (text == NULL) {
        text = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    }
    if (text == NULL) {
        text = a->detail[0] != '\0' ? a->detail : "no reason was given";
    }
    return dr_fail(err, code_of(a->status, text), "%.*s", SHOWN_BYTES, text);
}

static enum dr_code read_answer(const char *url, const struct dr_http_answer *a,
                                json_t **result_out, struct dr_err *err)
{
    struct dr_err unread = {0};
    json_t *json = NULL;
    if (a->failure == DR_HTTP_CONNECT) {
        return dr_fail(err, DR_UNREACHABLE, "%s: %s; is drover serve running there? (--server URL)",
                       url, a->detail);
    }
    if (a->failure != DR_HTTP_NONE) {
        return dr_fail(err, DR_UNKNOWN, "%s: %s; whether it was done is not known: look first", url,
                       a->detail);
    }
    enum dr_code rc = a->body == NULL ? DR_INPUT
                                      : dr_json_parse_upto("answer", a->body, a->body_bytes,
                                                           ANSWER_BYTES_MAX, &json, &unread);
    bool is_plain = a->status == 200 || a->status == 202;
    if (!is_plain) {
        rc = fail_answer(a, rc == DR_OK ? json : NULL, err);
    } else if (rc == DR_OK && json_object_get(json, "wish") != NULL) {
        *result_out = json_incref(json); /* an operation stands in no envelope */
    } else if (rc != DR_OK || json_object_get(json, "result") == NULL) {
        rc = dr_fail(err, DR_UNREACHABLE, "%s: this is no answer of a catalog: %.100s", url,
                     a->detail);
    } else {
        *result_out = json_incref(json_object_get(json, "result"));
    }
    json_decref(json);
    return rc;
}

static enum dr_code send_one(const struct dr_http_request *r, json_t **result_out,
                             struct dr_err *err)
{
    struct dr_http *h = NULL;
    struct dr_http_answer answer = {0};
    const struct dr_http_config config = {.connections_max = 1};
    enum dr_code rc = dr_http_create(&config, &h, err);
    if (rc == DR_OK) {
        rc = dr_http_start(h, r, err);
    }
    if (rc == DR_OK) {
        rc = wait_for(h, &answer, err);
    }
    if (rc == DR_OK) {
        rc = read_answer(r->url, &answer, result_out, err);
    }
    dr_free(answer.body);
    dr_http_destroy(h);
    return rc;
}

enum dr_code dr_cli_remote(struct dr_cli *c, const char *method, const char *path,
                           const json_t *body, json_t **result_out, struct dr_err *err)
{
    char *authorization = NULL;
    char *text = body != NULL ? dr_json_text(body) : NULL;
    const char *server = dr_args_text(c->args, "server", DR_CLI_SERVER);
    size_t length = strlen(server);
    *result_out = NULL;
    c->place = DR_AT_STORE;
    while (length > 0 && server[length - 1] == '/') {
        length--;
    }
    char *url = dr_asprintf("%.*s%s", (int)length, server, path);
    enum dr_code rc = url == NULL || (body != NULL && text == NULL)
                          ? dr_fail_nomem(err)
                          : make_authorization(c, &authorization, err);
    const struct dr_http_request request = {
        .method = method,
        .url = url,
        .authorization = authorization,
        .timeout_ms = REQUEST_MS + dr_args_u64(c->args, "timeout", 0) * 1000,
        .body = text,
        .body_bytes = text != NULL ? strlen(text) : 0,
        .content_type = text != NULL ? "application/json" : NULL,
        .answer_bytes_max = ANSWER_BYTES_MAX,
        .is_once = true,
    };
    if (rc == DR_OK) {
        rc = send_one(&request, result_out, err);
    }
    if (rc == DR_INPUT || rc == DR_REFUSED || rc == DR_NOT_FOUND || rc == DR_EXISTS) {
        c->place = DR_AT_NOTHING; /* an answer, no failure of the daemon */
    }
    if (authorization != NULL) {
        explicit_bzero(authorization, strlen(authorization));
    }
    dr_free(authorization);
    dr_free(text);
    dr_free(url);
    return rc;
}
#endif
