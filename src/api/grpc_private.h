/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of gRPC: messages as JSON and back, the calls, and the server that carries them. */
#ifndef DR_API_GRPC_PRIVATE_H
#define DR_API_GRPC_PRIVATE_H

#include <protobuf-c/protobuf-c.h>

#include "api/api_private.h"
#include "api/door_private.h"

enum {
    DR_PB_DEPTH_MAX = 64,         /* messages inside each other; a payload's level takes two */
    DR_PB_MESSAGES_MAX = 4 << 20, /* in one request; empty ones cost far more than they weigh */
};

/* --- grpc_json.c ---------------------------------------------------------------------------------
 */
ProtobufCAllocator *dr_pb_allocator(void);
/* Would unpacking stay within the limits above? Unpacking itself recurses without one. */
bool dr_pb_is_bounded(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t bytes);
/* Field names become keys, maps objects; ids, keys, payloads and vectors look as in REST. NULL when
 * memory is short, a text is no UTF-8 or a number is not finite. */
json_t *dr_pb_to_json(const ProtobufCMessage *m);
/* The other way; what the message does not know is left out. Release with
 * protobuf_c_message_free_unpacked and our allocator. NULL when memory is short. */
ProtobufCMessage *dr_pb_from_json(const ProtobufCMessageDescriptor *d, const json_t *j);

/* --- grpc_shapes.c -------------------------------------------------------------------------------
 */
/* Messages that do not look like their fields. True: this is one of them, and *out its JSON. */
bool dr_shape_to_json(const ProtobufCMessage *m, json_t **out);
/* JSON that has to be brought into the message's form first: a new reference, `j` itself for all
 * others, NULL when memory is short. */
json_t *dr_shape_from_json(const ProtobufCMessageDescriptor *d, const json_t *j);
/* How REST writes an enum's value: `auto`, `stream_records`, but `Active`. */
json_t *dr_shape_enum(const ProtobufCEnumDescriptor *d, int value);
/* The value of a name in either spelling; -1: none. */
int dr_shape_enum_value(const ProtobufCEnumDescriptor *d, const char *name);

/* --- grpc_methods.c ------------------------------------------------------------------------------
 */
struct dr_grpc_method {
    const char *path; /* "/qdrant.Points/Upsert" */
    enum dr_api_role role;
    bool is_new_name;
    const ProtobufCMessageDescriptor *request, *answer;
    dr_cluster_verb *verb; /* NULL: answered without the catalog */
    bool (*check)(const json_t *body, struct dr_fault *f);
    /* The REST body of a request, a new reference; NULL: memory was short. */
    json_t *(*body)(const json_t *request);
    /* The answer in the message's form out of the REST result; takes nothing. */
    json_t *(*shape)(const json_t *result);
};
/* NULL: there is no such call. */
const struct dr_grpc_method *dr_grpc_method_find(const char *path);

struct dr_grpc_outcome {
    int status; /* of gRPC */
    char text[DR_ERR_BYTES];
    uint8_t *data; /* dr_free; NULL unless status is 0 */
    size_t bytes;
};
/* Run a call: unpack, check, ask, pack. `timeout_ms` is what the client's deadline leaves, 0: no
 * deadline. */
void dr_grpc_run(struct dr_cluster *cluster, const struct dr_grpc_method *m, const char *who,
                 uint64_t timeout_ms, const uint8_t *data, size_t bytes,
                 struct dr_grpc_outcome *out);

#endif
