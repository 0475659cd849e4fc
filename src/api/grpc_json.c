/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way between messages and JSON, driven by the messages' own descriptions. Pure. */
#ifdef DROVER_GRPC
#include "api/grpc_private.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* --- limits --------------------------------------------------------------------------------------
 */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct scan {
    const uint8_t *at, *end;
};

static bool take_varint(struct scan *s, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        uint8_t byte = *s->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* One field's value; *inner_out spans it when it is of bytes. */
static bool take_value(struct scan *s, unsigned wire, struct scan *inner_out)
{
    uint64_t n = 0;
    *inner_out = (struct scan){NULL, NULL};
    switch (wire) {
    case WIRE_VARINT:
        return take_varint(s, &n);
    case WIRE_64:
        n = 8;
        break;
    case WIRE_32:
        n = 4;
        break;
    case WIRE_BYTES:
        if (!take_varint(s, &n)) {
            return false;
        }
        break;
    default: /* a number from outside, no enum; groups are not served */
        return false;
    }
    if (n > (uint64_t)(s->end - s->at)) {
        return false;
    }
    if (wire == WIRE_BYTES) {
        *inner_out = (struct scan){s->at, s->at + n};
    }
    s->at += n;
    return true;
}

static bool is_bounded(const ProtobufCMessageDescriptor *d, struct scan s, unsigned depth,
                       uint32_t *left)
{
    if (depth > DR_PB_DEPTH_MAX || *left == 0) {
        return false;
    }
    --*left;
    while (s.at < s.end) {
        uint64_t tag = 0;
        struct scan inner;
        if (!take_varint(&s, &tag) || !take_value(&s, (unsigned)(tag & 7), &inner)) {
            return false;
        }
        const ProtobufCFieldDescriptor *f =
            tag >> 3 <= INT32_MAX ? protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3))
                                  : NULL;
        bool is_message = f != NULL && f->type == PROTOBUF_C_TYPE_MESSAGE && inner.at != NULL;
        if (is_message && !is_bounded(f->descriptor, inner, depth + 1, left)) {
            return false;
        }
    }
    return true;
}

bool dr_pb_is_bounded(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t bytes)
{
    uint32_t left = DR_PB_MESSAGES_MAX;
    return is_bounded(d, (struct scan){data, data + bytes}, 0, &left);
}

/* --- messages become JSON ------------------------------------------------------------------------
 */

static void *pb_alloc(void *arg, size_t bytes)
{
    (void)arg;
    return dr_malloc(bytes);
}

static void pb_free(void *arg, void *p)
{
    (void)arg;
    dr_free(p);
}

ProtobufCAllocator *dr_pb_allocator(void)
{
    /* Not const only because the library's parameter is not; nobody writes to it. */
    static ProtobufCAllocator allocator = {pb_alloc, pb_free, NULL};
    return &allocator;
}

static const void *member(const ProtobufCMessage *m, unsigned offset)
{
    return (const char *)m + offset;
}

static bool is_present(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const void *at = member(m, f->offset);
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t chosen;
        memcpy(&chosen, member(m, f->quantifier_offset), sizeof chosen);
        return chosen == f->id;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE) {
        const void *p;
        memcpy(&p, at, sizeof p);
        return p != NULL;
    }
    protobuf_c_boolean has;
    memcpy(&has, member(m, f->quantifier_offset), sizeof has);
    return has != 0;
}

/* Beyond what JSON holds as a whole number an id is written as digits, which mean the same. */
static json_t *u64_json(uint64_t n)
{
    char text[24];
    if (n <= INT64_MAX) {
        return json_integer((json_int_t)n);
    }
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    return json_string(text);
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return sizeof(void *);
}

static json_t *value_json(const ProtobufCFieldDescriptor *f, const void *at)
{
    union {
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
        float f;
        double d;
        protobuf_c_boolean b;
        ProtobufCBinaryData bytes;
        const char *text;
        const ProtobufCMessage *m;
    } v;
    memcpy(&v, at, size_of(f->type));
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(v.i32);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(v.u32);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_integer(v.i64);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return u64_json(v.u64);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)v.f);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(v.d);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(v.b);
    case PROTOBUF_C_TYPE_ENUM:
        return dr_shape_enum(f->descriptor, v.i32);
    case PROTOBUF_C_TYPE_BYTES:
        return json_integer((json_int_t)v.bytes.len); /* only asked whether there are any */
    case PROTOBUF_C_TYPE_STRING:
        return json_string(v.text);
    case PROTOBUF_C_TYPE_MESSAGE:
        return dr_pb_to_json(v.m);
    }
    return NULL;
}

/* A map is a list of messages with a key and a value. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
    static const char suffix[] = "Entry";
    const ProtobufCMessageDescriptor *d = f->descriptor;
    if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label != PROTOBUF_C_LABEL_REPEATED) {
        return false;
    }
    size_t length = strlen(d->short_name);
    return length > sizeof suffix - 1 && d->n_fields == 2 &&
           strcmp(d->short_name + length - (sizeof suffix - 1), suffix) == 0;
}

static bool add_entry(json_t *map, const ProtobufCMessage *entry)
{
    json_t *pair = dr_pb_to_json(entry); /* {"key", "value"} */
    const char *key = json_string_value(json_object_get(pair, "key"));
    json_t *value = json_object_get(pair, "value");
    bool is_added =
        pair != NULL && json_object_set_new(map, key != NULL ? key : "",
                                            value != NULL ? json_incref(value) : json_null()) == 0;
    json_decref(pair);
    return is_added;
}

static json_t *repeated_json(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    size_t count;
    const char *items;
    bool is_object = is_map(f);
    memcpy(&count, member(m, f->quantifier_offset), sizeof count);
    memcpy(&items, member(m, f->offset), sizeof items);
    json_t *list = is_object ? json_object() : json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        const char *at = items + i * size_of(f->type);
        bool is_added;
        if (is_object) {
            const void *entry;
            memcpy(&entry, at, sizeof entry);
            is_added = add_entry(list, entry);
        } else {
            is_added = json_array_append_new(list, value_json(f, at)) == 0;
        }
        if (!is_added) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *dr_pb_to_json(const ProtobufCMessage *m)
{
    json_t *out = NULL;
    if (dr_shape_to_json(m, &out)) {
        return out;
    }
    out = json_object();
    for (unsigned i = 0; out != NULL && i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        json_t *value = NULL;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            value = repeated_json(m, f);
        } else if (is_present(m, f)) {
            value = value_json(f, member(m, f->offset));
        } else {
            continue;
        }
        if (json_object_set_new(out, f->name, value) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

/* --- JSON becomes messages -----------------------------------------------------------------------
 */

union scalar {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f;
    double d;
    protobuf_c_boolean b;
};

/* False when the JSON is not of this type. */
static bool take_scalar(const ProtobufCFieldDescriptor *f, const json_t *j, union scalar *v)
{
    int64_t whole = (int64_t)json_integer_value(j);
    bool is_whole = json_is_integer(j);
    switch (f->type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        v->u32 = (uint32_t)whole;
        return is_whole && whole >= 0 && whole <= (int64_t)UINT32_MAX;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        v->i32 = (int32_t)whole;
        return is_whole && whole >= INT32_MIN && whole <= INT32_MAX;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        v->i64 = whole;
        return is_whole;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        v->u64 = (uint64_t)whole;
        return json_is_string(j) ? dr_parse_u64(json_string_value(j), &v->u64)
                                 : is_whole && whole >= 0;
    case PROTOBUF_C_TYPE_FLOAT:
        v->f = (float)json_number_value(j);
        return json_is_number(j);
    case PROTOBUF_C_TYPE_DOUBLE:
        v->d = json_number_value(j);
        return json_is_number(j);
    case PROTOBUF_C_TYPE_BOOL:
        v->b = json_is_true(j);
        return json_is_boolean(j);
    case PROTOBUF_C_TYPE_ENUM:
        v->i32 = json_is_string(j) ? dr_shape_enum_value(f->descriptor, json_string_value(j)) : -1;
        return v->i32 >= 0;
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return false;
}

/* Writes the field's value at `at`; false when memory is short. *is_left_out: not this type. */
static bool put_value(const ProtobufCFieldDescriptor *f, const json_t *j, void *at,
                      bool *is_left_out)
{
    *is_left_out = false;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        void *m = dr_pb_from_json(f->descriptor, j);
        memcpy(at, &m, sizeof m);
        return m != NULL;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING && json_is_string(j)) {
        char *text = dr_strdup(json_string_value(j));
        memcpy(at, &text, sizeof text);
        return text != NULL;
    }
    union scalar v = {.u64 = 0};
    *is_left_out = !take_scalar(f, j, &v);
    if (!*is_left_out) {
        memcpy(at, &v, size_of(f->type));
    }
    return true;
}

static void *member_of(ProtobufCMessage *m, unsigned offset)
{
    return (char *)m + offset;
}

/* Append one value to the array at `items`, whose room is known to be enough. */
static bool put_item(const ProtobufCFieldDescriptor *f, const json_t *j, char *items, size_t *count)
{
    bool is_left_out = false;
    if (!put_value(f, j, items + *count * size_of(f->type), &is_left_out)) {
        return false;
    }
    *count += is_left_out ? 0 : 1;
    return true;
}

static bool put_repeated(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const json_t *j)
{
    size_t room = is_map(f) ? json_object_size(j) : json_array_size(j);
    size_t count = 0;
    bool is_put = true;
    const char *key;
    json_t *value;
    if (room == 0) {
        return true;
    }
    char *items = dr_calloc(room, size_of(f->type));
    if (items == NULL) {
        return false;
    }
    /* In the message at once, so that what is half built is released with it. */
    memcpy(member_of(m, f->offset), &items, sizeof items);
    if (is_map(f)) {
        json_object_foreach((json_t *)(uintptr_t)j, key, value) /* NOLINT: it is only read */
        {
            json_t *pair = json_pack("{s:s, s:O}", "key", key, "value", value);
            is_put = is_put && pair != NULL && put_item(f, pair, items, &count);
            json_decref(pair);
        }
    } else {
        for (size_t i = 0; is_put && i < room; i++) {
            is_put = put_item(f, json_array_get(j, i), items, &count);
        }
    }
    memcpy(member_of(m, f->quantifier_offset), &count, sizeof count);
    return is_put;
}

static bool put_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const json_t *j)
{
    bool is_left_out = false;
    if (j == NULL || json_is_null(j)) {
        return true;
    }
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        return put_repeated(m, f, j);
    }
    if (!put_value(f, j, member_of(m, f->offset), &is_left_out)) {
        return false;
    }
    bool is_pointer = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE;
    if (!is_left_out && (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        memcpy(member_of(m, f->quantifier_offset), &f->id, sizeof f->id);
    } else if (!is_left_out && !is_pointer) {
        const protobuf_c_boolean has = 1;
        memcpy(member_of(m, f->quantifier_offset), &has, sizeof has);
    }
    return true;
}

ProtobufCMessage *dr_pb_from_json(const ProtobufCMessageDescriptor *d, const json_t *j)
{
    json_t *shaped = dr_shape_from_json(d, j);
    ProtobufCMessage *m = shaped == NULL ? NULL : dr_malloc(d->sizeof_message);
    bool is_put = m != NULL;
    if (m != NULL) {
        protobuf_c_message_init(d, m);
    }
    for (unsigned i = 0; is_put && i < d->n_fields; i++) {
        is_put = put_field(m, &d->fields[i], json_object_get(shaped, d->fields[i].name));
    }
    json_decref(shaped);
    if (!is_put && m != NULL) {
        protobuf_c_message_free_unpacked(m, dr_pb_allocator());
        m = NULL;
    }
    return m;
}
#endif
