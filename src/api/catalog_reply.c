/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the envelope of the catalog's answers: {"result", "status": "ok", "time"} and
 * {"status": {"error"}, "time"}, as clients of such catalogs read it. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "api/rest_private.h"
#include "base/mem.h"

static double seconds_since(const struct dr_call *c)
{
    return (double)(dr_mono_us() - c->begin_us) / 1e6;
}

/* A double prints with all its 17 digits, which results need and a clock does not: the envelope's
 * time is written here, to the microsecond. Its key is the last one of every envelope. */
char *dr_rest_text(json_t *reply)
{
    struct dr_str s;
    const json_t *time = json_object_get(reply, "time");
    if (!json_is_real(time)) {
        return dr_json_text(reply);
    }
    char seconds[64];
    int length = snprintf(seconds, sizeof seconds, "%.6f", json_real_value(time));
    while (length > 3 && seconds[length - 1] == '0' && seconds[length - 2] != '.') {
        seconds[--length] = '\0';
    }
    (void)json_object_del(reply, "time");
    char *text = dr_json_text(reply);
    if (text == NULL) {
        return NULL;
    }
    size_t bytes = strlen(text);
    assert(bytes > 2 && text[bytes - 1] == '}'); /* an envelope has a status */
    dr_str_init(&s);
    dr_str_addn(&s, text, bytes - 1);
    dr_str_addf(&s, ",\"time\":%s}", seconds);
    dr_free(text);
    return dr_str_take(&s);
}

void dr_rest_fail(struct dr_call *c, unsigned status, const char *text)
{
    json_decref(c->reply);
    c->reply = json_pack("{s:{s:s}, s:f}", "status", "error", text, "time", seconds_since(c));
    if (c->reply == NULL) { /* a text that is no UTF-8, as a name in it may be */
        c->reply = json_pack("{s:{s:s}, s:f}", "status", "error", "the request is not valid UTF-8",
                             "time", seconds_since(c));
    }
    c->status = status;
    c->is_text = false;
}

void dr_rest_fail_absent(struct dr_call *c)
{
    static const char text[] = "Not found: this daemon has no catalog of collections (it is built "
                               "without one, or was started with --no-catalog)";
    dr_rest_fail(c, MHD_HTTP_NOT_FOUND, text);
    if (c->reply != NULL) {
        /* Ours as well: what is not there looks the same on every path. */
        (void)json_object_set_new(
            c->reply, "error",
            json_pack("{s:s, s:s}", "code", "NOT_FOUND", "message", text + strlen("Not found: ")));
    }
}

/* Failures from the door itself and from a lack of memory; those of the cluster have their class
 * already. */
void dr_rest_fail_early(struct dr_call *c, unsigned status, const char *code, const char *message)
{
    char text[DR_ERR_BYTES];
    const char *prefix = "";
    const char *body = "body: ";
    if (status == MHD_HTTP_FORBIDDEN) {
        prefix = "Forbidden: ";
    } else if (status == MHD_HTTP_NOT_FOUND) {
        prefix = "Not found: ";
    } else if (status == MHD_HTTP_BAD_REQUEST && strncmp(message, "body", 4) == 0) {
        prefix = "Format error in JSON body: ";
        message += strncmp(message, body, strlen(body)) == 0 ? strlen(body) : 0;
    } else if (status == MHD_HTTP_BAD_REQUEST) {
        prefix = "Bad request: ";
    } else if (status >= MHD_HTTP_INTERNAL_SERVER_ERROR && strcmp(code, "BUSY") != 0) {
        prefix = "Service internal error: ";
    }
    (void)snprintf(text, sizeof text, "%s%s", prefix, message);
    dr_rest_fail(c, status, text);
}

void dr_rest_fault(struct dr_call *c, const char *where, const struct dr_fault *f)
{
    char text[DR_DOOR_TEXT_BYTES + 64];
    bool is_range = f->kind == DR_FAULT_RANGE;
    bool is_body = strcmp(where, "JSON body") == 0;
    (void)snprintf(text, sizeof text, "%s in %s: %s%s%s",
                   is_range  ? "Validation error"
                   : is_body ? "Format error"
                             : "Deserialize error",
                   where, is_range ? "[" : "", f->text, is_range ? "]" : "");
    dr_rest_fail(c, is_range ? MHD_HTTP_UNPROCESSABLE_CONTENT : MHD_HTTP_BAD_REQUEST, text);
}

enum dr_code dr_rest_result(struct dr_call *c, json_t *result, struct dr_err *err)
{
    c->status = MHD_HTTP_OK;
    c->reply = result == NULL ? NULL
                              : json_pack("{s:o, s:s, s:f}", "result", result, "status", "ok",
                                          "time", seconds_since(c));
    return c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
}

#ifdef DROVER_RAFT
enum dr_code dr_rest_answer(struct dr_call *c, struct dr_cluster_reply *reply, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (reply->class == DR_CLASS_OK) {
        rc = dr_rest_result(c, json_incref(reply->result), err);
    } else {
        unsigned status = dr_class_http(reply->class);
        if (status >= MHD_HTTP_INTERNAL_SERVER_ERROR) {
            dr_log(c->api->serve->log, DR_LOG_WARN, "a catalog request failed", "msg=%s",
                   reply->message);
        }
        dr_rest_fail(c, status, reply->message);
    }
    dr_cluster_reply_fini(reply);
    return rc;
}
#endif
