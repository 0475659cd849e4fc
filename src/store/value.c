/* SPDX-License-Identifier: Apache-2.0 */
/* Values: their order, their JSON, their binary form and their hash. Pure. */
#include "store/value.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "base/clock.h"

enum { CODEC_VERSION = 1, HEAD_BYTES = 5, VALUES_MAX = 1 << 20 };

/* Rank of a type in the order of values: INT and REAL share one. */
static int rank_of(enum dr_value_type type)
{
    switch (type) {
    case DR_V_MIN:
        return 0;
    case DR_V_NULL:
        return 1;
    case DR_V_INT:
    case DR_V_REAL:
        return 2;
    case DR_V_TEXT:
        return 3;
    case DR_V_BLOB:
        return 4;
    case DR_V_TAGGED:
        return 5;
    case DR_V_MAX:
        return 6;
    }
    assert(false && "value type");
    return 0;
}

static bool has_bytes(const struct dr_value *v)
{
    return v->type == DR_V_TEXT || v->type == DR_V_BLOB || v->type == DR_V_TAGGED;
}

/* Exact: a double beyond 2^53 must not be rounded to meet an integer. */
static int compare_int_real(int64_t i, double r)
{
    if (r >= 9223372036854775808.0) {
        return -1;
    }
    if (r < -9223372036854775808.0) {
        return 1;
    }
    int64_t whole = (int64_t)r;
    if (i != whole) {
        return i < whole ? -1 : 1;
    }
    double rest = r - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_bytes(const struct dr_value *a, const struct dr_value *b)
{
    size_t shared = a->len < b->len ? a->len : b->len;
    int c = shared > 0 ? memcmp(a->data, b->data, shared) : 0;
    return c != 0 ? c : a->len < b->len ? -1 : a->len > b->len ? 1 : 0;
}

static int compare_numbers(const struct dr_value *a, const struct dr_value *b)
{
    if (a->type == DR_V_INT && b->type == DR_V_INT) {
        return a->i < b->i ? -1 : a->i > b->i ? 1 : 0;
    }
    if (a->type == DR_V_REAL && b->type == DR_V_REAL) {
        return a->r < b->r ? -1 : a->r > b->r ? 1 : 0;
    }
    return a->type == DR_V_INT ? compare_int_real(a->i, b->r) : -compare_int_real(b->i, a->r);
}

int dr_value_compare(const struct dr_value *a, const struct dr_value *b)
{
    int rank = rank_of(a->type);
    int other = rank_of(b->type);
    if (rank != other) {
        return rank < other ? -1 : 1;
    }
    if (rank == rank_of(DR_V_INT)) {
        return compare_numbers(a, b);
    }
    return has_bytes(a) ? compare_bytes(a, b) : 0;
}

int dr_bound_compare(const struct dr_bound *a, const struct dr_bound *b)
{
    uint32_t shared = a->parts < b->parts ? a->parts : b->parts;
    for (uint32_t i = 0; i < shared; i++) {
        int c = dr_value_compare(&a->part[i], &b->part[i]);
        if (c != 0) {
            return c;
        }
    }
    return a->parts < b->parts ? -1 : a->parts > b->parts ? 1 : 0;
}

/* --- JSON ----------------------------------------------------------------------------------- */

static json_t *wrap_one(const char *key, json_t *value)
{
    json_t *o = value == NULL ? NULL : json_object();
    if (o == NULL) {
        json_decref(value);
        return NULL;
    }
    if (json_object_set_new(o, key, value) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *hex_json(const char *key, const struct dr_value *v)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *data = v->data;
    char *text = dr_malloc(v->len * 2 + 1);
    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < v->len; i++) {
        text[2 * i] = digits[data[i] >> 4];
        text[2 * i + 1] = digits[data[i] & 15];
    }
    json_t *j = wrap_one(key, json_stringn(text, v->len * 2));
    dr_free(text);
    return j;
}

json_t *dr_value_to_json(const struct dr_value *v)
{
    switch (v->type) {
    case DR_V_MIN:
        return wrap_one("$min", json_integer(1));
    case DR_V_MAX:
        return wrap_one("$max", json_integer(1));
    case DR_V_NULL:
        return json_null();
    case DR_V_INT:
        return json_integer(v->i);
    case DR_V_REAL:
        return isfinite(v->r) ? json_real(v->r)
                              : wrap_one("$real", json_string(v->r > 0 ? "inf" : "-inf"));
    case DR_V_TEXT:
        if (v->len == 0 || memchr(v->data, 0, v->len) == NULL) {
            json_t *j = json_stringn(v->len > 0 ? v->data : "", v->len);
            if (j != NULL) {
                return j; /* NULL also says: no valid UTF-8 */
            }
        }
        return hex_json("$text", v);
    case DR_V_BLOB:
        return hex_json("$blob", v);
    case DR_V_TAGGED:
        return hex_json("$tagged", v);
    }
    assert(false && "value type");
    return NULL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum dr_code bytes_from_hex(const json_t *j, const char *key, struct dr_arena *a,
                                   struct dr_value *out, struct dr_err *err)
{
    size_t length = json_string_length(j);
    const char *hex = json_string_value(j);
    if (hex == NULL || length % 2 != 0) {
        return dr_fail(err, DR_INPUT, "\"%s\" takes a text of hex digit pairs", key);
    }
    unsigned char *data = dr_arena_alloc(a, length / 2 + 1);
    if (data == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < length / 2; i++) {
        int high = hex_digit(hex[2 * i]);
        int low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return dr_fail(err, DR_INPUT, "\"%s\" takes hex digits only", key);
        }
        data[i] = (unsigned char)(high << 4 | low);
    }
    out->data = data;
    out->len = length / 2;
    return DR_OK;
}

static enum dr_code value_from_object(const json_t *j, struct dr_arena *a, struct dr_value *out,
                                      struct dr_err *err)
{
    const char *text = json_string_value(json_object_get(j, "$real"));
    const json_t *hex;
    if (json_object_size(j) == 1 && json_is_integer(json_object_get(j, "$min"))) {
        out->type = DR_V_MIN;
        return DR_OK;
    }
    if (json_object_size(j) == 1 && json_is_integer(json_object_get(j, "$max"))) {
        out->type = DR_V_MAX;
        return DR_OK;
    }
    if (json_object_size(j) == 1 && text != NULL &&
        (strcmp(text, "inf") == 0 || strcmp(text, "-inf") == 0)) {
        out->type = DR_V_REAL;
        out->r = text[0] == '-' ? -INFINITY : INFINITY;
        return DR_OK;
    }
    if (json_object_size(j) == 1 && (hex = json_object_get(j, "$blob")) != NULL) {
        out->type = DR_V_BLOB;
        return bytes_from_hex(hex, "$blob", a, out, err);
    }
    if (json_object_size(j) == 1 && (hex = json_object_get(j, "$text")) != NULL) {
        out->type = DR_V_TEXT;
        return bytes_from_hex(hex, "$text", a, out, err);
    }
    if (json_object_size(j) == 1 && (hex = json_object_get(j, "$tagged")) != NULL &&
        json_string_length(hex) >= 2) {
        out->type = DR_V_TAGGED;
        return bytes_from_hex(hex, "$tagged", a, out, err);
    }
    return dr_fail(err, DR_INPUT,
                   "a value is null, true, false, a number, a text, {\"$blob\": \"hex\"}, "
                   "{\"$text\": \"hex\"}, {\"$min\": 1} or {\"$max\": 1}");
}

enum dr_code dr_value_from_json(const json_t *j, struct dr_arena *a, struct dr_value *out,
                                struct dr_err *err)
{
    *out = (struct dr_value){.type = DR_V_NULL};
    switch (json_typeof(j)) {
    case JSON_NULL:
        return DR_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        out->type = DR_V_INT;
        out->i = json_is_true(j);
        return DR_OK;
    case JSON_INTEGER:
        out->type = DR_V_INT;
        out->i = json_integer_value(j);
        return DR_OK;
    case JSON_REAL:
        out->type = DR_V_REAL;
        out->r = json_real_value(j);
        return DR_OK;
    case JSON_STRING:
        out->type = DR_V_TEXT;
        out->len = json_string_length(j);
        out->data = dr_arena_memdup(a, json_string_value(j), out->len);
        return out->data == NULL ? dr_fail_nomem(err) : DR_OK;
    case JSON_OBJECT:
        return value_from_object(j, a, out, err);
    case JSON_ARRAY:
        break;
    }
    return dr_fail(err, DR_INPUT, "an array is no value");
}

json_t *dr_bound_to_json(const struct dr_bound *b)
{
    json_t *array = json_array();
    for (uint32_t i = 0; array != NULL && i < b->parts; i++) {
        if (json_array_append_new(array, dr_value_to_json(&b->part[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

enum dr_code dr_bound_from_json(const json_t *j, struct dr_arena *a, struct dr_bound *out,
                                struct dr_err *err)
{
    *out = (struct dr_bound){0};
    if (!json_is_array(j) || json_array_size(j) > DR_KEY_PARTS_MAX) {
        return dr_fail(err, DR_INPUT, "a bound is an array of at most %d values", DR_KEY_PARTS_MAX);
    }
    for (size_t i = 0; i < json_array_size(j); i++) {
        enum dr_code rc = dr_value_from_json(json_array_get(j, i), a, &out->part[i], err);
        if (rc != DR_OK) {
            return rc;
        }
        out->parts++;
    }
    return DR_OK;
}

/* --- for people ------------------------------------------------------------------------------ */

static void print_blob(const struct dr_value *v, struct dr_str *out)
{
    const unsigned char *data = v->data;
    dr_str_add(out, "x'");
    for (size_t i = 0; i < v->len && i < 32; i++) {
        dr_str_addf(out, "%02x", data[i]);
    }
    dr_str_add(out, v->len > 32 ? "...'" : "'");
}

static void print_text(const struct dr_value *v, struct dr_str *out)
{
    const char *data = v->data;
    dr_str_addc(out, '"');
    for (size_t i = 0; i < v->len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (i >= 64 && (c & 0xc0) != 0x80) { /* never cut inside a UTF-8 character */
            dr_str_add(out, "...");
            break;
        }
        if (c < 0x20 || c == 0x7f) {
            dr_str_addf(out, "\\x%02x", c);
        } else {
            dr_str_addc(out, (char)c);
        }
    }
    dr_str_addc(out, '"');
}

static uint64_t get_big_endian(const unsigned char *at, size_t bytes)
{
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        n = n << 8 | at[i];
    }
    return n;
}

static void print_tagged(const struct dr_value *v, struct dr_str *out)
{
    const unsigned char *data = v->data;
    const size_t bytes = v->len - 1;
    char date[32];
    if (data[0] == DR_TAG_OBJECT_ID && bytes == 12) {
        dr_str_add(out, "ObjectId(\"");
        for (size_t i = 1; i <= bytes; i++) {
            dr_str_addf(out, "%02x", data[i]);
        }
        dr_str_add(out, "\")");
    } else if (data[0] == DR_TAG_BOOL && bytes == 1) {
        dr_str_add(out, data[1] != 0 ? "true" : "false");
    } else if (data[0] == DR_TAG_DATE && bytes == 8) {
        int64_t ms = (int64_t)(get_big_endian(data + 1, 8) ^ UINT64_C(1) << 63);
        dr_str_addf(out, "ISODate(\"%s\")", dr_wall_text(ms, date, sizeof date));
    } else if (data[0] == DR_TAG_TIMESTAMP && bytes == 8) {
        dr_str_addf(out, "Timestamp(%" PRIu64 ", %" PRIu64 ")", get_big_endian(data + 1, 4),
                    get_big_endian(data + 5, 4));
    } else {
        print_blob(v, out);
    }
}

void dr_value_print(const struct dr_value *v, struct dr_str *out)
{
    switch (v->type) {
    case DR_V_MIN:
        dr_str_add(out, "MinKey");
        return;
    case DR_V_MAX:
        dr_str_add(out, "MaxKey");
        return;
    case DR_V_NULL:
        dr_str_add(out, "null");
        return;
    case DR_V_INT:
        dr_str_addf(out, "%" PRId64, v->i);
        return;
    case DR_V_REAL:
        dr_str_addf(out, "%.17g", v->r);
        return;
    case DR_V_TEXT:
        print_text(v, out);
        return;
    case DR_V_BLOB:
        print_blob(v, out);
        return;
    case DR_V_TAGGED:
        print_tagged(v, out);
        return;
    }
}

/* --- binary codec: version, count (4 bytes), then per value its type and its payload -----------
 */

static void put_u32(unsigned char *at, uint32_t n)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (unsigned char)(n >> (8 * i));
    }
}

static void put_u64(unsigned char *at, uint64_t n)
{
    for (int i = 0; i < 8; i++) {
        at[i] = (unsigned char)(n >> (8 * i));
    }
}

static uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_u64(const unsigned char *at)
{
    return (uint64_t)get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

/* The fixed part of one encoded value into `buf` (9 bytes room); returns its length. */
static size_t encode_head(const struct dr_value *v, unsigned char *buf)
{
    uint64_t bits = 0;
    buf[0] = (unsigned char)v->type;
    switch (v->type) {
    case DR_V_INT:
        put_u64(buf + 1, (uint64_t)v->i);
        return 9;
    case DR_V_REAL:
        memcpy(&bits, &v->r, sizeof bits);
        put_u64(buf + 1, bits);
        return 9;
    case DR_V_TEXT:
    case DR_V_BLOB:
    case DR_V_TAGGED:
        assert(v->len <= UINT32_MAX);
        put_u32(buf + 1, (uint32_t)v->len);
        return 5;
    case DR_V_MIN:
    case DR_V_NULL:
    case DR_V_MAX:
        return 1;
    }
    assert(false && "value type");
    return 1;
}

void dr_values_encode(const struct dr_value *v, uint32_t count, struct dr_str *out)
{
    unsigned char buf[9] = {CODEC_VERSION};
    assert(count <= VALUES_MAX);
    put_u32(buf + 1, count);
    dr_str_addn(out, buf, HEAD_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        dr_str_addn(out, buf, encode_head(&v[i], buf));
        if (has_bytes(&v[i]) && v[i].len > 0) {
            dr_str_addn(out, v[i].data, v[i].len);
        }
    }
}

/* One value at `at`; returns the bytes it takes, 0 when malformed. */
static size_t decode_one(const unsigned char *at, size_t left, struct dr_value *v)
{
    *v = (struct dr_value){.type = DR_V_NULL};
    if (left < 1 || at[0] > DR_V_TAGGED) {
        return 0;
    }
    v->type = (enum dr_value_type)at[0];
    if (v->type == DR_V_INT || v->type == DR_V_REAL) {
        if (left < 9) {
            return 0;
        }
        uint64_t bits = get_u64(at + 1);
        if (v->type == DR_V_INT) {
            v->i = (int64_t)bits;
        } else {
            memcpy(&v->r, &bits, sizeof bits);
        }
        return isnan(v->r) ? 0 : 9;
    }
    if (has_bytes(v)) {
        if (left < 5 || get_u32(at + 1) > left - 5) {
            return 0;
        }
        v->len = get_u32(at + 1);
        v->data = at + 5;
        return v->type == DR_V_TAGGED && v->len == 0 ? 0 : 5 + v->len;
    }
    return 1;
}

enum dr_code dr_values_decode(const void *data, size_t bytes, struct dr_value *v,
                              uint32_t count_max, uint32_t *count_out, struct dr_err *err)
{
    const unsigned char *at = data;
    size_t used = HEAD_BYTES;
    *count_out = 0;
    if (bytes < HEAD_BYTES || at[0] != CODEC_VERSION) {
        return dr_fail(err, DR_CORRUPT, "encoded values: no valid beginning");
    }
    uint32_t count = get_u32(at + 1);
    if (count > count_max) {
        return dr_fail(err, DR_CORRUPT, "encoded values: %" PRIu32 " where at most %" PRIu32 " fit",
                       count, count_max);
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t took = decode_one(at + used, bytes - used, &v[i]);
        if (took == 0) {
            return dr_fail(err, DR_CORRUPT, "encoded values: value %" PRIu32 " is malformed",
                           i + 1);
        }
        used += took;
    }
    if (used != bytes) {
        return dr_fail(err, DR_CORRUPT, "encoded values: %zu bytes too many", bytes - used);
    }
    *count_out = count;
    return DR_OK;
}

int64_t dr_value_hash(const struct dr_value *v)
{
    struct dr_value n = *v;
    unsigned char head[HEAD_BYTES + 9] = {CODEC_VERSION};
    XXH64_state_t state;
    if (v->type == DR_V_REAL && v->r >= -9223372036854775808.0 && v->r < 9223372036854775808.0 &&
        (double)(int64_t)v->r == v->r) {
        n = (struct dr_value){.type = DR_V_INT, .i = (int64_t)v->r};
    }
    put_u32(head + 1, 1);
    size_t bytes = HEAD_BYTES + encode_head(&n, head + HEAD_BYTES);
    (void)XXH64_reset(&state, 0);
    (void)XXH64_update(&state, head, bytes);
    if (has_bytes(&n) && n.len > 0) {
        (void)XXH64_update(&state, n.data, n.len);
    }
    return (int64_t)XXH64_digest(&state);
}
