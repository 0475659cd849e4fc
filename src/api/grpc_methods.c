/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of gRPC calls: for each the message in, the REST body it becomes, whom it asks,
 * and the message out. */
#ifdef DROVER_GRPC
#include "api/grpc_private.h"

#include <stdio.h>
#include <string.h>

#include <grpc/status.h>

#include <api_proto/collections.pb-c.h>
#include <api_proto/drover_sharding.pb-c.h>
#include <api_proto/points.pb-c.h>
#include <api_proto/qdrant.pb-c.h>

#include "base/mem.h"

/* --- bodies --------------------------------------------------------------------------------------
 */

struct rename {
    const char *from, *to;
};

/* A copy with some keys under other names. */
static json_t *copy_renamed(const json_t *request, const struct rename *renames)
{
    json_t *body = json_copy((json_t *)(uintptr_t)request); /* NOLINT: it is only read */
    for (; body != NULL && renames->from != NULL; renames++) {
        json_t *value = json_object_get(body, renames->from);
        if (value != NULL && json_object_set(body, renames->to, value) != 0) {
            json_decref(body);
            return NULL;
        }
        (void)json_object_del(body, renames->from);
    }
    if (body != NULL) {
        (void)json_object_del(body, "collection_name");
        (void)json_object_del(body, "timeout");
    }
    return body;
}

static json_t *body_plain(const json_t *request)
{
    static const struct rename none[] = {{NULL, NULL}};
    return copy_renamed(request, none);
}

static json_t *body_create(const json_t *request)
{
    static const struct rename renames[] = {{"vectors_config", "vectors"}, {NULL, NULL}};
    json_t *body = copy_renamed(request, renames);
    if (json_object_size(json_object_get(body, "metadata")) == 0) {
        (void)json_object_del(body, "metadata");
    }
    return body;
}

static json_t *body_setup(const json_t *request)
{
    static const struct rename renames[] = {{"create_shard_key", "create_sharding_key"},
                                            {"delete_shard_key", "drop_sharding_key"},
                                            {NULL, NULL}};
    json_t *body = copy_renamed(request, renames);
    json_t *create = json_object_get(body, "create_sharding_key");
    if (json_array_size(json_object_get(create, "placement")) == 0) {
        (void)json_object_del(create, "placement"); /* a list of none is none in a message */
    }
    return body;
}

/* The message inside; an empty object when there is none, which lacks the key. */
static json_t *body_key(const json_t *request)
{
    json_t *inner = json_object_get(request, "request");
    json_t *body = inner != NULL ? json_copy(inner) : json_object();
    if (json_array_size(json_object_get(body, "placement")) == 0) {
        (void)json_object_del(body, "placement");
    }
    return body;
}

static json_t *body_points(const json_t *request)
{
    static const struct rename renames[] = {
        {"shard_key_selector", "shard_key"}, {"with_vectors", "with_vector"}, {NULL, NULL}};
    return copy_renamed(request, renames);
}

/* {"points": {"points": {"ids": [...]}}} or {"points": {"filter": ...}} */
static json_t *body_delete(const json_t *request)
{
    json_t *body = body_points(request);
    json_t *selector = json_object_get(body, "points");
    json_t *ids = json_object_get(json_object_get(selector, "points"), "ids");
    json_t *filter = json_object_get(selector, "filter");
    int rc = 0;
    if (filter != NULL) {
        rc = json_object_set(body, "filter", filter);
    }
    if (ids != NULL) {
        rc = json_object_set(body, "points", ids);
    } else {
        (void)json_object_del(body, "points");
    }
    if (rc != 0) {
        json_decref(body);
        return NULL;
    }
    return body;
}

/* --- checks that only messages need --------------------------------------------------------------
 */

static bool refuse(struct dr_fault *f, const char *text)
{
    f->kind = DR_FAULT_RANGE;
    dr_copy_text(f->text, sizeof f->text, text);
    return false;
}

/* The parts of a filter came as counts of bytes: whether there are any is all that is known. */
static bool is_unfiltered(const json_t *body, const char *key, struct dr_fault *f)
{
    static const char *const parts[] = {"should", "must", "must_not", "min_should"};
    const json_t *filter = json_object_get(body, key);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const json_t *part = json_object_get(filter, parts[i]);
        if (json_array_size(part) > 0 || json_is_integer(part)) {
            return refuse(f, "filter: filters are not served over gRPC; use REST");
        }
    }
    return true;
}

static bool check_upsert(const json_t *body, struct dr_fault *f)
{
    return is_unfiltered(body, "update_filter", f) && dr_check_upsert(body, f);
}

static bool check_delete(const json_t *body, struct dr_fault *f)
{
    /* An empty filter selects everything: no filter at all is taken. */
    if (json_object_get(body, "filter") != NULL) {
        return refuse(f, "filter: filters are not served over gRPC; use REST");
    }
    return dr_check_points_delete(body, f);
}

static bool check_count(const json_t *body, struct dr_fault *f)
{
    return is_unfiltered(body, "filter", f) && dr_check_count(body, f);
}

static bool check_scroll(const json_t *body, struct dr_fault *f)
{
    if (json_object_get(body, "order_by") != NULL) {
        return refuse(f, "order_by: is not served over gRPC");
    }
    return is_unfiltered(body, "filter", f) && dr_check_scroll(body, f);
}

static bool check_key(const json_t *body, struct dr_fault *f)
{
    if (json_object_size(body) == 0) {
        return refuse(f, "request: empty request");
    }
    return dr_check_create_key(body, f);
}

static bool check_drop(const json_t *body, struct dr_fault *f)
{
    if (json_object_size(body) == 0) {
        return refuse(f, "request: empty request");
    }
    return dr_check_drop_key(body, f);
}

/* --- answers -------------------------------------------------------------------------------------
 */

static json_t *shape_result(const json_t *result)
{
    return json_pack("{s:O}", "result", result);
}

static json_t *shape_same(const json_t *result)
{
    return json_copy((json_t *)(uintptr_t)result); /* NOLINT: it is only read */
}

static json_t *shape_scroll(const json_t *result)
{
    return json_pack("{s:O?, s:O?}", "result", json_object_get(result, "points"),
                     "next_page_offset", json_object_get(result, "next_page_offset"));
}

static json_t *shape_promote(const json_t *result)
{
    json_t *out = shape_same(result);
    if (out != NULL && json_object_set_new(out, "result", json_true()) != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *shape_health(const json_t *result)
{
    (void)result;
    return json_pack("{s:s, s:s}", "title", DR_DOOR_TITLE, "version", DR_DOOR_VERSION);
}

/* --- the table -----------------------------------------------------------------------------------
 */

#define IN(name) &qdrant__##name##__descriptor
#define COLLECTIONS "/qdrant.Collections/"
#define POINTS "/qdrant.Points/"

static const struct dr_grpc_method methods[] = {
    {COLLECTIONS "Get", DR_ROLE_READ, false, IN(get_collection_info_request),
     IN(get_collection_info_response), dr_cluster_get_collection, NULL, body_plain, shape_result},
    {COLLECTIONS "List", DR_ROLE_READ, false, IN(list_collections_request),
     IN(list_collections_response), dr_cluster_list_collections, NULL, body_plain, shape_same},
    {COLLECTIONS "Create", DR_ROLE_ADMIN, true, IN(create_collection),
     IN(collection_operation_response), dr_cluster_create_collection, dr_check_create, body_create,
     shape_result},
    {COLLECTIONS "Update", DR_ROLE_ADMIN, false, IN(update_collection),
     IN(collection_operation_response), dr_cluster_update_collection, dr_check_update, body_plain,
     shape_result},
    {COLLECTIONS "Delete", DR_ROLE_ADMIN, false, IN(delete_collection),
     IN(collection_operation_response), dr_cluster_delete_collection, NULL, body_plain,
     shape_result},
    {COLLECTIONS "CollectionClusterInfo", DR_ROLE_READ, false, IN(collection_cluster_info_request),
     IN(collection_cluster_info_response), dr_cluster_collection_cluster, NULL, body_plain,
     shape_same},
    {COLLECTIONS "CollectionExists", DR_ROLE_READ, false, IN(collection_exists_request),
     IN(collection_exists_response), dr_cluster_collection_exists, NULL, body_plain, shape_result},
    {COLLECTIONS "UpdateCollectionClusterSetup", DR_ROLE_ADMIN, false,
     IN(update_collection_cluster_setup_request), IN(update_collection_cluster_setup_response),
     dr_door_cluster_op, dr_check_cluster_op, body_setup, shape_result},
    {COLLECTIONS "CreateShardKey", DR_ROLE_ADMIN, false, IN(create_shard_key_request),
     IN(create_shard_key_response), dr_cluster_create_key, check_key, body_key, shape_result},
    {COLLECTIONS "DeleteShardKey", DR_ROLE_ADMIN, false, IN(delete_shard_key_request),
     IN(delete_shard_key_response), dr_cluster_drop_key, check_drop, body_key, shape_result},
    {COLLECTIONS "ListShardKeys", DR_ROLE_READ, false, IN(list_shard_keys_request),
     IN(list_shard_keys_response), dr_cluster_list_keys, NULL, body_plain, shape_same},
    {POINTS "Upsert", DR_ROLE_OPERATE, false, IN(upsert_points), IN(points_operation_response),
     dr_points_upsert, check_upsert, body_points, shape_result},
    {POINTS "Delete", DR_ROLE_OPERATE, false, IN(delete_points), IN(points_operation_response),
     dr_points_delete, check_delete, body_delete, shape_result},
    {POINTS "Get", DR_ROLE_READ, false, IN(get_points), IN(get_response), dr_points_get,
     dr_check_points_get, body_points, shape_result},
    {POINTS "Count", DR_ROLE_READ, false, IN(count_points), IN(count_response), dr_points_count,
     check_count, body_points, shape_result},
    {POINTS "Scroll", DR_ROLE_READ, false, IN(scroll_points), IN(scroll_response), dr_points_scroll,
     check_scroll, body_points, shape_scroll},
    {"/drover.Sharding/PromoteToCustomSharding", DR_ROLE_ADMIN, false,
     &drover__promote_to_custom_sharding_request__descriptor,
     &drover__promote_to_custom_sharding_response__descriptor, dr_cluster_promote, dr_check_promote,
     body_plain, shape_promote},
    {"/qdrant.Qdrant/HealthCheck", DR_ROLE_NONE, false, IN(health_check_request),
     IN(health_check_reply), NULL, NULL, body_plain, shape_health},
};

const struct dr_grpc_method *dr_grpc_method_find(const char *path)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].path, path) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

/* --- running one ---------------------------------------------------------------------------------
 */

static void fail(struct dr_grpc_outcome *out, int status, const char *prefix, const char *text)
{
    out->status = status;
    (void)snprintf(out->text, sizeof out->text, "%s%s", prefix, text);
}

static void fail_fault(struct dr_grpc_outcome *out, const struct dr_fault *f)
{
    bool is_range = f->kind == DR_FAULT_RANGE;
    out->status = GRPC_STATUS_INVALID_ARGUMENT;
    (void)snprintf(out->text, sizeof out->text, "%s in body: %s%s%s",
                   is_range ? "Validation error" : "Format error", is_range ? "[" : "", f->text,
                   is_range ? "]" : "");
}

static json_t *unpack(const struct dr_grpc_method *m, const uint8_t *data, size_t bytes,
                      struct dr_grpc_outcome *out)
{
    if (!dr_pb_is_bounded(m->request, data, bytes)) {
        fail(out, GRPC_STATUS_INVALID_ARGUMENT, "",
             "Format error in body: no valid message, or one nested too deeply");
        return NULL;
    }
    ProtobufCMessage *message =
        protobuf_c_message_unpack(m->request, dr_pb_allocator(), bytes, data);
    json_t *request = message != NULL ? dr_pb_to_json(message) : NULL;
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, dr_pb_allocator());
    }
    if (request == NULL) {
        fail(out, GRPC_STATUS_INVALID_ARGUMENT, "",
             "Format error in body: no valid message, a text that is not UTF-8, a number that is "
             "not finite, or memory is short");
    }
    return request;
}

static void pack(const struct dr_grpc_method *m, json_t *shaped, int64_t begin_us,
                 struct dr_grpc_outcome *out)
{
    double seconds = (double)(dr_mono_us() - begin_us) / 1e6;
    if (shaped == NULL || json_object_set_new(shaped, "time", json_real(seconds)) != 0) {
        fail(out, GRPC_STATUS_INTERNAL, "Service internal error: ", "memory is short");
        return;
    }
    ProtobufCMessage *message = dr_pb_from_json(m->answer, shaped);
    size_t bytes = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;
    out->data = message != NULL ? dr_malloc(bytes + 1) : NULL;
    if (out->data == NULL) {
        fail(out, GRPC_STATUS_INTERNAL, "Service internal error: ", "memory is short");
    } else {
        out->bytes = protobuf_c_message_pack(message, out->data);
    }
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, dr_pb_allocator());
    }
}

/* The request's own timeout, or what the deadline leaves when that is less. */
static bool take_timeout(const json_t *request, uint64_t deadline_ms, uint64_t *out,
                         struct dr_fault *f)
{
    const json_t *timeout = json_object_get(request, "timeout");
    *out = deadline_ms;
    if (timeout == NULL) {
        return true;
    }
    uint64_t seconds =
        json_is_integer(timeout) ? (uint64_t)json_integer_value(timeout) : UINT64_MAX;
    if (!dr_check_timeout(seconds, f)) {
        return false;
    }
    *out = deadline_ms != 0 && deadline_ms < seconds * 1000 ? deadline_ms : seconds * 1000;
    return true;
}

static void ask(struct dr_cluster *cluster, const struct dr_grpc_method *m,
                struct dr_cluster_caller *who, uint64_t deadline_ms, const json_t *request,
                struct dr_cluster_reply *reply, struct dr_grpc_outcome *out)
{
    struct dr_fault f = {0};
    const char *name = json_string_value(json_object_get(request, "collection_name"));
    bool has_name =
        protobuf_c_message_descriptor_get_field_by_name(m->request, "collection_name") != NULL;
    if (has_name && !dr_check_name(name != NULL ? name : "", m->is_new_name, &f)) {
        fail_fault(out, &f);
        return;
    }
    json_t *body = m->body(request);
    if (body == NULL) {
        fail(out, GRPC_STATUS_INTERNAL, "Service internal error: ", "memory is short");
    } else if (!take_timeout(request, deadline_ms, &who->timeout_ms, &f) ||
               (m->check != NULL && !m->check(body, &f))) {
        fail_fault(out, &f);
    } else {
        m->verb(cluster, who, has_name ? name : NULL, body, reply);
        if (reply->class != DR_CLASS_OK) {
            fail(out, dr_class_grpc(reply->class), "", reply->message);
        }
    }
    json_decref(body);
}

void dr_grpc_run(struct dr_cluster *cluster, const struct dr_grpc_method *m, const char *who,
                 uint64_t timeout_ms, const uint8_t *data, size_t bytes,
                 struct dr_grpc_outcome *out)
{
    struct dr_cluster_reply reply = {0};
    struct dr_cluster_caller caller = {.who = who};
    int64_t begin_us = dr_mono_us();
    json_t *request = unpack(m, data, bytes, out);
    if (request != NULL && m->verb != NULL) {
        ask(cluster, m, &caller, timeout_ms, request, &reply, out);
    }
    if (request != NULL && out->status == GRPC_STATUS_OK) {
        json_t *shaped = m->shape(reply.result);
        pack(m, shaped, begin_us, out);
        json_decref(shaped);
    }
    json_decref(request);
    dr_cluster_reply_fini(&reply);
}
#endif
