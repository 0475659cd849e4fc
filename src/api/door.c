/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how a failure of the catalog looks on each door, and the one call that two paths share. */
#include "api/door_private.h"

#include <microhttpd.h>

#include "base/mem.h"

/* The numbers of gRPC's statuses, so that a build without gRPC knows them too. */
enum grpc_number {
    GRPC_NUMBER_OK = 0,
    GRPC_NUMBER_INVALID_ARGUMENT = 3,
    GRPC_NUMBER_DEADLINE_EXCEEDED = 4,
    GRPC_NUMBER_NOT_FOUND = 5,
    GRPC_NUMBER_ALREADY_EXISTS = 6,
    GRPC_NUMBER_PERMISSION_DENIED = 7,
    GRPC_NUMBER_UNIMPLEMENTED = 12,
    GRPC_NUMBER_INTERNAL = 13,
    GRPC_NUMBER_UNAVAILABLE = 14,
};

unsigned dr_class_http(enum dr_cluster_class class)
{
    switch (class) {
    case DR_CLASS_OK:
        return MHD_HTTP_OK;
    case DR_CLASS_BAD_INPUT:
    case DR_CLASS_BAD_REQUEST:
        return MHD_HTTP_BAD_REQUEST;
    case DR_CLASS_EXISTS:
        return MHD_HTTP_CONFLICT;
    case DR_CLASS_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case DR_CLASS_FORBIDDEN:
        return MHD_HTTP_FORBIDDEN;
    case DR_CLASS_STANDALONE:
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    case DR_CLASS_TIMEOUT:
        return MHD_HTTP_REQUEST_TIMEOUT;
    case DR_CLASS_UNAVAILABLE:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case DR_CLASS_SERVICE:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

int dr_class_grpc(enum dr_cluster_class class)
{
    switch (class) {
    case DR_CLASS_OK:
        return GRPC_NUMBER_OK;
    case DR_CLASS_BAD_INPUT:
    case DR_CLASS_BAD_REQUEST:
        return GRPC_NUMBER_INVALID_ARGUMENT;
    case DR_CLASS_EXISTS:
        return GRPC_NUMBER_ALREADY_EXISTS;
    case DR_CLASS_NOT_FOUND:
        return GRPC_NUMBER_NOT_FOUND;
    case DR_CLASS_FORBIDDEN:
        return GRPC_NUMBER_PERMISSION_DENIED;
    case DR_CLASS_STANDALONE:
        return GRPC_NUMBER_UNIMPLEMENTED;
    case DR_CLASS_TIMEOUT:
        return GRPC_NUMBER_DEADLINE_EXCEEDED;
    case DR_CLASS_UNAVAILABLE:
        return GRPC_NUMBER_UNAVAILABLE;
    case DR_CLASS_SERVICE:
        return GRPC_NUMBER_INTERNAL;
    }
    return GRPC_NUMBER_INTERNAL;
}

const char *dr_class_prefix(enum dr_cluster_class class)
{
    switch (class) {
    case DR_CLASS_OK:
    case DR_CLASS_STANDALONE:
        return "";
    case DR_CLASS_BAD_INPUT:
    case DR_CLASS_EXISTS:
        return "Wrong input: ";
    case DR_CLASS_BAD_REQUEST:
        return "Bad request: ";
    case DR_CLASS_NOT_FOUND:
        return "Not found: ";
    case DR_CLASS_FORBIDDEN:
        return "Forbidden: ";
    case DR_CLASS_TIMEOUT:
        return "Timeout: ";
    case DR_CLASS_UNAVAILABLE:
        return "Shard temporarily unavailable: ";
    case DR_CLASS_SERVICE:
        return "Service internal error: ";
    }
    return "";
}

#ifdef DROVER_RAFT
void dr_door_cluster_op(struct dr_cluster *c, const struct dr_cluster_caller *who,
                        const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    const json_t *promote = json_object_get(body, "promote_to_custom_sharding");
    if (promote == NULL) {
        dr_cluster_cluster_op(c, who, collection, body, reply);
        return;
    }
    dr_cluster_promote(c, who, collection, promote, reply);
    if (reply->class == DR_CLASS_OK) {
        json_decref(reply->result);
        reply->result = json_true();
    }
}
#endif
