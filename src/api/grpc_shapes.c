/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the messages whose JSON in REST does not look like their fields: ids, shard keys, selectors,
 * payload values, vectors. Pure. */
#ifdef DROVER_GRPC
#include "api/grpc_private.h"

#include <ctype.h>
#include <string.h>

#include <api_proto/collections.pb-c.h>
#include <api_proto/points.pb-c.h>

/* --- to JSON -------------------------------------------------------------------------------------
 */

static json_t *id_json(const Qdrant__PointId *id)
{
    char digits[24];
    if (id->point_id_options_case == QDRANT__POINT_ID__POINT_ID_OPTIONS_UUID) {
        return json_string(id->uuid);
    }
    if (id->point_id_options_case != QDRANT__POINT_ID__POINT_ID_OPTIONS_NUM) {
        return json_null();
    }
    if (id->num <= INT64_MAX) {
        return json_integer((json_int_t)id->num);
    }
    (void)snprintf(digits, sizeof digits, "%llu", (unsigned long long)id->num);
    return json_string(digits);
}

/* A number that JSON cannot hold becomes what no key is, so that it is refused and not mistaken for
 * a keyword of the same digits. */
static json_t *key_json(const Qdrant__ShardKey *k)
{
    if (k->key_case == QDRANT__SHARD_KEY__KEY_KEYWORD) {
        return json_string(k->keyword);
    }
    if (k->key_case != QDRANT__SHARD_KEY__KEY_NUMBER) {
        return json_false();
    }
    return k->number <= INT64_MAX ? json_integer((json_int_t)k->number)
                                  : json_real((double)k->number);
}

static json_t *selector_json(const Qdrant__ShardKeySelector *s)
{
    json_t *keys = json_array();
    for (size_t i = 0; keys != NULL && i < s->n_shard_keys; i++) {
        if (json_array_append_new(keys, key_json(s->shard_keys[i])) != 0) {
            json_decref(keys);
            return NULL;
        }
    }
    if (s->fallback == NULL) {
        return keys;
    }
    if (keys == NULL || json_array_size(keys) != 1) {
        /* Only one target can have a fallback: an object without a target is refused later. */
        json_decref(keys);
        return json_pack("{s:o}", "fallback", key_json(s->fallback));
    }
    json_t *both = json_pack("{s:O, s:o}", "target", json_array_get(keys, 0), "fallback",
                             key_json(s->fallback));
    json_decref(keys);
    return both;
}

static json_t *payload_value_json(const Qdrant__Value *v)
{
    json_t *inner = NULL;
    json_t *out = NULL;
    switch (v->kind_case) {
    case QDRANT__VALUE__KIND__NOT_SET:
    case QDRANT__VALUE__KIND_NULL_VALUE:
        return json_null();
    case QDRANT__VALUE__KIND_DOUBLE_VALUE:
        return json_real(v->double_value);
    case QDRANT__VALUE__KIND_INTEGER_VALUE:
        return json_integer(v->integer_value);
    case QDRANT__VALUE__KIND_STRING_VALUE:
        return json_string(v->string_value);
    case QDRANT__VALUE__KIND_BOOL_VALUE:
        return json_boolean(v->bool_value);
    case QDRANT__VALUE__KIND_STRUCT_VALUE:
        inner = dr_pb_to_json(&v->struct_value->base);
        out = json_incref(json_object_get(inner, "fields"));
        json_decref(inner);
        return out;
    case QDRANT__VALUE__KIND_LIST_VALUE:
        inner = dr_pb_to_json(&v->list_value->base);
        out = json_incref(json_object_get(inner, "values"));
        json_decref(inner);
        return out;
#if PROTOBUF_C_VERSION_NUMBER >= 1003000
    case _QDRANT__VALUE__KIND__CASE_IS_INT_SIZE:
        break;
#endif
    }
    return json_null();
}

static json_t *floats_json(const float *data, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (json_array_append_new(list, json_real((double)data[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *sparse_json(const float *values, size_t value_count, const uint32_t *indices,
                           size_t index_count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < index_count; i++) {
        if (json_array_append_new(list, json_integer(indices[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:o, s:o}", "indices", list, "values", floats_json(values, value_count));
}

/* `rows` vectors of the same length behind each other. */
static json_t *rows_json(const float *data, size_t count, uint32_t rows)
{
    json_t *list = json_array();
    size_t length = count / rows;
    for (uint32_t i = 0; list != NULL && i < rows; i++) {
        if (json_array_append_new(list, floats_json(data + i * length, length)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *multi_json(const Qdrant__MultiDenseVector *m)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < m->n_vectors; i++) {
        json_t *row = floats_json(m->vectors[i]->data, m->vectors[i]->n_data);
        if (json_array_append_new(list, row) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *vector_json(const Qdrant__Vector *v)
{
    if (v->vector_case == QDRANT__VECTOR__VECTOR_DENSE) {
        return floats_json(v->dense->data, v->dense->n_data);
    }
    if (v->vector_case == QDRANT__VECTOR__VECTOR_SPARSE) {
        return sparse_json(v->sparse->values, v->sparse->n_values, v->sparse->indices,
                           v->sparse->n_indices);
    }
    if (v->vector_case == QDRANT__VECTOR__VECTOR_MULTI_DENSE) {
        return multi_json(v->multi_dense);
    }
    if (v->indices != NULL) {
        return sparse_json(v->data, v->n_data, v->indices->data, v->indices->n_data);
    }
    if (v->has_vectors_count && v->vectors_count > 0 && v->vectors_count <= v->n_data) {
        return rows_json(v->data, v->n_data, v->vectors_count);
    }
    return floats_json(v->data, v->n_data);
}

static json_t *inner_json(const ProtobufCMessage *m, const char *key)
{
    json_t *object = dr_pb_to_json(m);
    json_t *inner = json_incref(json_object_get(object, key));
    json_decref(object);
    return inner;
}

static json_t *vectors_json(const Qdrant__Vectors *v)
{
    if (v->vectors_options_case == QDRANT__VECTORS__VECTORS_OPTIONS_VECTOR) {
        return vector_json(v->vector);
    }
    if (v->vectors_options_case == QDRANT__VECTORS__VECTORS_OPTIONS_VECTORS) {
        return inner_json(&v->vectors->base, "vectors");
    }
    return json_object();
}

static json_t *with_payload_json(const Qdrant__WithPayloadSelector *s)
{
    if (s->selector_options_case == QDRANT__WITH_PAYLOAD_SELECTOR__SELECTOR_OPTIONS_INCLUDE) {
        return inner_json(&s->include->base, "fields");
    }
    if (s->selector_options_case == QDRANT__WITH_PAYLOAD_SELECTOR__SELECTOR_OPTIONS_EXCLUDE) {
        return json_pack("{s:o}", "exclude", inner_json(&s->exclude->base, "fields"));
    }
    return json_boolean(s->enable);
}

static json_t *with_vectors_json(const Qdrant__WithVectorsSelector *s)
{
    if (s->selector_options_case == QDRANT__WITH_VECTORS_SELECTOR__SELECTOR_OPTIONS_INCLUDE) {
        return inner_json(&s->include->base, "names");
    }
    return json_boolean(s->enable);
}

static json_t *vectors_config_json(const Qdrant__VectorsConfig *v)
{
    if (v->config_case == QDRANT__VECTORS_CONFIG__CONFIG_PARAMS) {
        return dr_pb_to_json(&v->params->base);
    }
    if (v->config_case == QDRANT__VECTORS_CONFIG__CONFIG_PARAMS_MAP) {
        return inner_json(&v->params_map->base, "map");
    }
    return json_object();
}

/* {"id", "payload", "vector"} */
static json_t *point_json(const Qdrant__PointStruct *p)
{
    json_t *out = json_object();
    json_t *payload = p->n_payload > 0 ? json_object() : NULL;
    int rc = out == NULL;
    for (size_t i = 0; rc == 0 && payload != NULL && i < p->n_payload; i++) {
        const Qdrant__PointStruct__PayloadEntry *e = p->payload[i];
        rc = json_object_set_new(payload, e->key != NULL ? e->key : "",
                                 e->value != NULL ? payload_value_json(e->value) : json_null());
    }
    if (rc == 0 && p->id != NULL) {
        rc = json_object_set_new(out, "id", id_json(p->id));
    }
    if (rc == 0 && payload != NULL) {
        rc = json_object_set(out, "payload", payload);
    }
    if (rc == 0 && p->vectors != NULL) {
        rc = json_object_set_new(out, "vector", vectors_json(p->vectors));
    }
    json_decref(payload);
    if (rc != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* The first member of every message is its base, so each cast is to where it points. */
bool dr_shape_to_json(const ProtobufCMessage *m, json_t **out)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    const void *p = m;
    if (d == &qdrant__point_id__descriptor) {
        *out = id_json(p);
    } else if (d == &qdrant__shard_key__descriptor) {
        *out = key_json(p);
    } else if (d == &qdrant__shard_key_selector__descriptor) {
        *out = selector_json(p);
    } else if (d == &qdrant__value__descriptor) {
        *out = payload_value_json(p);
    } else if (d == &qdrant__point_struct__descriptor) {
        *out = point_json(p);
    } else if (d == &qdrant__vector__descriptor) {
        *out = vector_json(p);
    } else if (d == &qdrant__vectors__descriptor) {
        *out = vectors_json(p);
    } else if (d == &qdrant__with_payload_selector__descriptor) {
        *out = with_payload_json(p);
    } else if (d == &qdrant__with_vectors_selector__descriptor) {
        *out = with_vectors_json(p);
    } else if (d == &qdrant__vectors_config__descriptor) {
        *out = vectors_config_json(p);
    } else {
        return false;
    }
    return true;
}

/* --- from JSON -----------------------------------------------------------------------------------
 */

static json_t *shape_id(json_t *j)
{
    uint64_t number = 0;
    bool is_number =
        json_is_integer(j) || (json_is_string(j) && dr_parse_u64(json_string_value(j), &number));
    return json_pack("{s:O}", is_number ? "num" : "uuid", j);
}

static json_t *shape_payload_value(json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return json_pack("{s:{s:O}}", "struct_value", "fields", j);
    case JSON_ARRAY:
        return json_pack("{s:{s:O}}", "list_value", "values", j);
    case JSON_STRING:
        return json_pack("{s:O}", "string_value", j);
    case JSON_INTEGER:
        return json_pack("{s:O}", "integer_value", j);
    case JSON_REAL:
        return json_pack("{s:O}", "double_value", j);
    case JSON_TRUE:
    case JSON_FALSE:
        return json_pack("{s:O}", "bool_value", j);
    case JSON_NULL:
        break;
    }
    return json_pack("{s:s}", "null_value", "NULL_VALUE");
}

/* Dense ones in both places, for clients of either age. */
static json_t *shape_vector(json_t *j)
{
    if (json_is_object(j)) {
        return json_pack("{s:{s:O?, s:O?}}", "sparse", "values", json_object_get(j, "values"),
                         "indices", json_object_get(j, "indices"));
    }
    if (!json_is_array(json_array_get(j, 0))) {
        return json_pack("{s:O, s:{s:O}}", "data", j, "dense", "data", j);
    }
    json_t *rows = json_array();
    for (size_t i = 0; i < json_array_size(j); i++) {
        json_t *row = json_pack("{s:O}", "data", json_array_get(j, i));
        if (json_array_append_new(rows, row) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:{s:o}}", "multi_dense", "vectors", rows);
}

static json_t *shape_vectors(json_t *j)
{
    bool is_sparse = json_object_get(j, "indices") != NULL && json_object_get(j, "values") != NULL;
    if (json_is_object(j) && !is_sparse) {
        return json_pack("{s:{s:O}}", "vectors", "vectors", j);
    }
    return json_pack("{s:O}", "vector", j);
}

static json_t *shape_vectors_config(json_t *j)
{
    bool is_one = json_is_integer(json_object_get(j, "size"));
    return is_one ? json_pack("{s:O}", "params", j)
                  : json_pack("{s:{s:O}}", "params_map", "map", j);
}

json_t *dr_shape_from_json(const ProtobufCMessageDescriptor *d, const json_t *given)
{
    json_t *j = (json_t *)(uintptr_t)given; /* NOLINT: only its count changes */
    if (d == &qdrant__point_id__descriptor) {
        return shape_id(j);
    }
    if (d == &qdrant__shard_key__descriptor) {
        return json_pack("{s:O}", json_is_integer(j) ? "number" : "keyword", j);
    }
    if (d == &qdrant__value__descriptor) {
        return shape_payload_value(j);
    }
    if (d == &qdrant__vector__descriptor) {
        return shape_vector(j);
    }
    if (d == &qdrant__vectors__descriptor) {
        return shape_vectors(j);
    }
    if (d == &qdrant__vectors_config__descriptor) {
        return shape_vectors_config(j);
    }
    if (d == &qdrant__optimizer_status__descriptor && json_is_string(j)) {
        return json_pack("{s:b}", "ok", 1);
    }
    if (d == &qdrant__retrieved_point__descriptor) {
        json_t *copy = json_copy(j);
        json_t *vector = json_object_get(j, "vector");
        if (copy != NULL && vector != NULL && json_object_set(copy, "vectors", vector) != 0) {
            json_decref(copy);
            return NULL;
        }
        return copy;
    }
    if (d == &qdrant__collection_params__descriptor) {
        json_t *copy = json_copy(j);
        json_t *vectors = json_object_get(j, "vectors");
        bool is_given = json_object_size(vectors) > 0;
        if (copy != NULL && is_given && json_object_set(copy, "vectors_config", vectors) != 0) {
            json_decref(copy);
            return NULL;
        }
        return copy;
    }
    return json_incref(j);
}

/* --- enums ---------------------------------------------------------------------------------------
 */

static bool is_snake(const ProtobufCEnumDescriptor *d)
{
    return d == &qdrant__sharding_method__descriptor ||
           d == &qdrant__shard_transfer_method__descriptor ||
           d == &qdrant__resharding_direction__descriptor;
}

json_t *dr_shape_enum(const ProtobufCEnumDescriptor *d, int value)
{
    char text[64];
    size_t used = 0;
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(d, value);
    if (known == NULL) {
        return json_string("unknown");
    }
    if (!is_snake(d)) {
        return json_string(known->name);
    }
    for (const char *at = known->name; *at != '\0' && used + 2 < sizeof text; at++) {
        if (isupper((unsigned char)*at) && at != known->name) {
            text[used++] = '_';
        }
        text[used++] = (char)tolower((unsigned char)*at);
    }
    return json_stringn(text, used);
}

/* "wait_timeout" is "WaitTimeout". */
static bool is_same_name(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += *a == '_' ? 1 : 0;
        b += *b == '_' ? 1 : 0;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
    }
}

int dr_shape_enum_value(const ProtobufCEnumDescriptor *d, const char *name)
{
    for (unsigned i = 0; i < d->n_values; i++) {
        if (is_same_name(d->values[i].name, name)) {
            return d->values[i].value;
        }
    }
    return -1;
}
#endif
