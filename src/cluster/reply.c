/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: how codes become the classes that clients of the well-known vector database know, with
 * the text each class begins with. */
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_private.h"

static const struct {
    const char *name; /* between peers */
    const char *prefix;
} classes[] = {
    [DR_CLASS_OK] = {"ok", ""},
    [DR_CLASS_BAD_INPUT] = {"bad_input", "Wrong input: "},
    [DR_CLASS_BAD_REQUEST] = {"bad_request", "Bad request: "},
    [DR_CLASS_EXISTS] = {"exists", "Wrong input: "},
    [DR_CLASS_NOT_FOUND] = {"not_found", "Not found: "},
    [DR_CLASS_FORBIDDEN] = {"forbidden", "Forbidden: "},
    [DR_CLASS_STANDALONE] = {"standalone", ""},
    [DR_CLASS_TIMEOUT] = {"timeout", "Timeout: "},
    [DR_CLASS_UNAVAILABLE] = {"unavailable", "Shard temporarily unavailable: "},
    [DR_CLASS_SERVICE] = {"service", "Service internal error: "},
};
enum { CLASS_COUNT = sizeof classes / sizeof classes[0] };

const char *dr_class_name(enum dr_cluster_class cls)
{
    return classes[cls].name;
}

bool dr_class_parse(const char *name, enum dr_cluster_class *out)
{
    for (unsigned i = 0; name != NULL && i < CLASS_COUNT; i++) {
        if (strcmp(classes[i].name, name) == 0) {
            *out = (enum dr_cluster_class)i;
            return true;
        }
    }
    return false;
}

bool dr_code_parse(const char *name, enum dr_code *out)
{
    for (unsigned i = 0; name != NULL && i < DR_CODE_COUNT; i++) {
        if (strcmp(dr_code_name((enum dr_code)i), name) == 0) {
            *out = (enum dr_code)i;
            return true;
        }
    }
    return false;
}

void dr_cluster_reply_fini(struct dr_cluster_reply *r)
{
    json_decref(r->result);
    r->result = NULL;
}

void dr_reply_fail(struct dr_cluster_reply *r, enum dr_cluster_class cls, const char *fmt, ...)
{
    char text[DR_ERR_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_decref(r->result);
    r->result = NULL;
    r->class = cls;
    (void)snprintf(r->message, sizeof r->message, "%s%s", classes[cls].prefix, text);
}

void dr_reply_class_err(struct dr_cluster_reply *r, enum dr_cluster_class cls,
                        const struct dr_err *err)
{
    dr_reply_fail(r, cls, "%s", err->msg[0] == '\0' ? dr_code_text(err->code) : err->msg);
}

static enum dr_cluster_class class_of(enum dr_code code)
{
    switch (code) {
    case DR_USAGE:
    case DR_INPUT:
        return DR_CLASS_BAD_INPUT;
    case DR_REFUSED:
    case DR_CONFLICT:
    case DR_UNSUPPORTED:
        return DR_CLASS_BAD_REQUEST;
    case DR_EXISTS:
        return DR_CLASS_EXISTS;
    case DR_NOT_FOUND:
        return DR_CLASS_NOT_FOUND;
    case DR_DENIED:
        return DR_CLASS_FORBIDDEN;
    case DR_UNREACHABLE:
        return DR_CLASS_UNAVAILABLE;
    case DR_OK:
    case DR_BUSY:
    case DR_UNKNOWN:
    case DR_STALE:
    case DR_BRAKED:
    case DR_LOST:
    case DR_CORRUPT:
    case DR_FULL:
    case DR_READONLY:
    case DR_IO:
    case DR_NOMEM:
    case DR_STOPPED:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        return DR_CLASS_SERVICE;
    }
    return DR_CLASS_SERVICE;
}

void dr_reply_err(struct dr_cluster_reply *r, const struct dr_err *err)
{
    dr_reply_class_err(r, class_of(err->code), err);
}

void dr_reply_give(struct dr_cluster_reply *r, json_t *result)
{
    if (result == NULL) {
        dr_reply_fail(r, DR_CLASS_SERVICE, "%s", dr_code_text(DR_NOMEM));
        return;
    }
    json_decref(r->result);
    r->class = DR_CLASS_OK;
    r->message[0] = '\0';
    r->result = result;
}

void dr_reply_true(struct dr_cluster_reply *r)
{
    dr_reply_give(r, json_true());
}

bool dr_reply_need_cluster(const struct dr_cluster *c, struct dr_cluster_reply *r)
{
    if (!c->is_distributed) {
        dr_reply_fail(r, DR_CLASS_STANDALONE,
                      "Qdrant is running in standalone mode: this needs a "
                      "peer that was started with --raft-listen");
    }
    return c->is_distributed;
}

const struct dr_collection_info *dr_reply_find(const struct dr_catalog *cat, const char *name,
                                               struct dr_cluster_reply *r)
{
    const struct dr_collection_info *info = dr_catalog_find(cat, name);
    if (info == NULL) {
        dr_reply_fail(r, DR_CLASS_NOT_FOUND, "Collection `%s` doesn't exist!", name);
    }
    return info;
}
