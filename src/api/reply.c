/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the answers: which status a failure has, how errors look, and the sending. */
#include <stdio.h>
#include <string.h>

#include "api/api_private.h"
#include "base/mem.h"

static unsigned status_at_data(enum dr_code code)
{
    switch (code) {
    case DR_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case DR_CORRUPT:
    case DR_UNSUPPORTED:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    case DR_BUSY:
    case DR_DENIED:
    case DR_UNREACHABLE:
    case DR_IO:
    case DR_FULL:
    case DR_READONLY:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case DR_OK:
    case DR_USAGE:
    case DR_INPUT:
    case DR_REFUSED:
    case DR_EXISTS:
    case DR_UNKNOWN:
    case DR_STALE:
    case DR_BRAKED:
    case DR_LOST:
    case DR_NOMEM:
    case DR_STOPPED:
    case DR_CONFLICT:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        break;
    }
    return dr_api_status_of(code, DR_AT_NOTHING);
}

unsigned dr_api_status_of(enum dr_code code, enum dr_place place)
{
    if (place == DR_AT_DATA) {
        return status_at_data(code);
    }
    switch (code) {
    case DR_OK:
        return MHD_HTTP_OK;
    case DR_USAGE:
    case DR_INPUT:
    case DR_NOT_FOUND: /* what the job names is not there: the job is wrong, not the path */
        return MHD_HTTP_BAD_REQUEST;
    case DR_UNSUPPORTED:
        return MHD_HTTP_NOT_IMPLEMENTED;
    case DR_REFUSED:
    case DR_EXISTS:
    case DR_CONFLICT:
        return MHD_HTTP_CONFLICT;
    case DR_DENIED:
        return place == DR_AT_STORE ? MHD_HTTP_BAD_GATEWAY : MHD_HTTP_FORBIDDEN;
    case DR_UNREACHABLE:
    case DR_UNKNOWN:
    case DR_IO:
        return place == DR_AT_STORE ? MHD_HTTP_BAD_GATEWAY : MHD_HTTP_INTERNAL_SERVER_ERROR;
    case DR_BUSY:
    case DR_STALE:
    case DR_BRAKED:
    case DR_FULL:
    case DR_READONLY:
    case DR_NOMEM:
    case DR_STOPPED:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case DR_LOST:
    case DR_CORRUPT:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

/* The X of `unknown key "X"` and `key "X" is missing`, 0 characters for anything else. */
static const char *quoted_key(const char *what, size_t *length_out)
{
    static const char *const leads[] = {"unknown key \"", "key \""};
    for (size_t i = 0; i < sizeof leads / sizeof leads[0]; i++) {
        size_t lead = strlen(leads[i]);
        if (strncmp(what, leads[i], lead) == 0) {
            *length_out = strcspn(what + lead, "\"");
            return what + lead;
        }
    }
    *length_out = 0;
    return what;
}

void dr_api_field_of(const char *message, char *buf, size_t buf_bytes)
{
    static const char *const roots[] = {"body", "job", "query"};
    static const char path_letters[] = "abcdefghijklmnopqrstuvwxyz_.[]0123456789";
    buf[0] = '\0';
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        size_t key = 0;
        size_t root = strlen(roots[i]);
        const char *path = message + root;
        if (strncmp(message, roots[i], root) != 0 || (*path != '.' && *path != ':')) {
            continue;
        }
        path += *path == '.' ? 1 : 0;
        size_t length = strcspn(path, ": ");
        if (path[length] != ':' || path[length + 1] != ' ') {
            return; /* the place of a mistake in the JSON's form: "body:3:7: ..." */
        }
        const char *what = path + length + 2;
        const char *name = quoted_key(what, &key);
        if (length == 0 && key == 0) { /* "job: tuning.rate: ..." */
            length = strspn(what, path_letters);
            path = what;
            length = what[length] == ':' ? length : 0;
        }
        (void)snprintf(buf, buf_bytes, "%.*s%s%.*s", (int)length, path,
                       length > 0 && key > 0 ? "." : "", (int)key, name);
        return;
    }
}

void dr_call_fail(struct dr_call *c, unsigned status, const char *code, const char *message)
{
    char field[API_FIELD_BYTES] = "";
    if (c->is_catalog) {
        dr_rest_fail_early(c, status, code, message);
        return;
    }
    if (status == MHD_HTTP_BAD_REQUEST) {
        dr_api_field_of(message, field, sizeof field);
    }
    json_t *error = json_pack("{s:s, s:s}", "code", code, "message", message);
    if (error == NULL) { /* a message that is no UTF-8, as a name in it may be */
        error = json_pack("{s:s, s:s}", "code", code, "message", "the request is not valid UTF-8");
    }
    if (error != NULL && field[0] != '\0') {
        (void)json_object_set_new(error, "field", json_string(field));
    }
    json_decref(c->reply);
    c->reply = error == NULL ? NULL : json_pack("{s:o}", "error", error);
    c->status = status;
    c->is_text = false;
}

void dr_call_fail_err(struct dr_call *c, enum dr_code code, const struct dr_err *err)
{
    unsigned status = dr_api_status_of(code, c->place);
    if (status >= MHD_HTTP_INTERNAL_SERVER_ERROR && status != MHD_HTTP_NOT_IMPLEMENTED) {
        dr_log_err(c->api->serve->log, DR_LOG_WARN, "a request failed", err);
    }
    dr_call_fail(c, status, dr_code_name(code),
                 err->msg[0] != '\0' ? err->msg : dr_code_text(code));
}

static void free_body(void *text)
{
    dr_free(text);
}

/* Not const only because the library's parameter is not; nobody writes to it. */
static char no_memory[] =
    "{\"error\":{\"code\":\"NOMEM\",\"message\":\"memory is short; come again\"}}\n";

/* The body as text; NULL when memory is short. */
static char *body_text(struct dr_call *c)
{
    if (c->is_text) {
        return dr_str_take(&c->text);
    }
    char *text = NULL;
    if (c->reply != NULL) {
        text = c->is_catalog ? dr_rest_text(c->reply) : dr_json_text(c->reply);
    }
    char *line = text != NULL ? dr_asprintf("%s\n", text) : NULL;
    dr_free(text);
    return line;
}

static struct MHD_Response *make_response(struct dr_call *c)
{
    char *text = body_text(c);
    struct MHD_Response *r = NULL;
    if (text != NULL) {
        r = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free_body);
    }
    if (text != NULL && r == NULL) {
        dr_free(text);
    }
    if (r == NULL) {
        c->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        c->is_text = false;
        r = MHD_create_response_from_buffer(sizeof no_memory - 1, no_memory,
                                            MHD_RESPMEM_PERSISTENT);
    }
    return r;
}

enum MHD_Result dr_call_send(struct dr_call *c, const char *header, const char *value)
{
    struct MHD_Response *r = make_response(c);
    c->is_answered = true;
    if (r == NULL) {
        return MHD_NO; /* not even the response's head: the connection is closed */
    }
    /* A header that does not fit into memory is missing, which no caller's safety hangs on. */
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  c->is_text ? "text/plain; version=0.0.4; charset=utf-8"
                                             : "application/json");
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (c->status == MHD_HTTP_SERVICE_UNAVAILABLE) {
        (void)MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    }
    if (c->location[0] != '\0') {
        (void)MHD_add_response_header(r, MHD_HTTP_HEADER_LOCATION, c->location);
    }
    if (header != NULL) {
        (void)MHD_add_response_header(r, header, value);
    }
    enum MHD_Result sent = MHD_queue_response(c->connection, c->status, r);
    MHD_destroy_response(r);
    return sent;
}
