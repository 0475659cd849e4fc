/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of points and shard keys: reading, printing, comparing and placing them. Owns nothing; what
 * the texts of point ids point to belongs to the caller. Pure. */
#include "catalog/ids.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"

enum { UUID_HEX_CHARS = 32, UUID_TEXT_CHARS = 36 };

int dr_shard_key_compare(const struct dr_shard_key *a, const struct dr_shard_key *b)
{
    if (a->is_number != b->is_number) {
        return a->is_number ? -1 : 1;
    }
    if (a->is_number) {
        return a->number < b->number ? -1 : a->number > b->number ? 1 : 0;
    }
    return strcmp(a->text, b->text);
}

/* How many bytes the character at `at` has; 0 when it is not UTF-8, or a control character. */
static size_t measure_char(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80) {
        return at[0] >= ' ' && at[0] != 0x7f ? 1 : 0;
    }
    size_t bytes = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || bytes > left) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_outside = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
    bool is_control = at[0] == 0xc2 && at[1] < 0xa0; /* C1: U+0080 to U+009F */
    return is_overlong || is_outside || is_control ? 0 : bytes;
}

bool dr_catalog_is_clean_text(const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t step = measure_char((const unsigned char *)text + at, bytes - at);
        if (step == 0) {
            return false;
        }
        at += step;
    }
    return true;
}

enum dr_code dr_shard_key_from_json(const json_t *j, const char *where, struct dr_shard_key *out,
                                    struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        out->is_number = true;
        out->number = (uint64_t)json_integer_value(j);
        return DR_OK;
    }
    if (!json_is_string(j)) {
        return dr_fail(err, DR_INPUT,
                       "%s: a shard key is a string or a whole number of 0 or more, such as "
                       "\"default\" or 7",
                       where);
    }
    size_t bytes = json_string_length(j);
    if (bytes == 0 || bytes > DR_SHARD_KEY_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "%s: a shard key has 1 to %d bytes, this one has %zu", where,
                       DR_SHARD_KEY_BYTES_MAX, bytes);
    }
    if (!dr_catalog_is_clean_text(json_string_value(j), bytes)) {
        return dr_fail(err, DR_INPUT, "%s: a shard key is UTF-8 text without control characters",
                       where);
    }
    memcpy(out->text, json_string_value(j), bytes);
    return DR_OK;
}

/* JSON numbers end at 2^63-1 here, so no catalog holds a greater key; asked for one, there is no
 * JSON for it. */
json_t *dr_shard_key_to_json(const struct dr_shard_key *k)
{
    if (!k->is_number) {
        return json_string(k->text);
    }
    return k->number > (uint64_t)INT64_MAX ? NULL : json_integer((json_int_t)k->number);
}

char *dr_shard_key_print(const struct dr_shard_key *k, char *buf, size_t buf_bytes)
{
    if (k->is_number) {
        (void)snprintf(buf, buf_bytes, "%" PRIu64, k->number);
    } else {
        (void)snprintf(buf, buf_bytes, "\"%s\"", k->text);
    }
    return buf;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 32 hexadecimal digits, with the four hyphens of RFC 9562 when `has_hyphens`. */
static bool parse_uuid_digits(const char *text, bool has_hyphens, uint8_t *out)
{
    size_t digit = 0;
    size_t chars = has_hyphens ? UUID_TEXT_CHARS : UUID_HEX_CHARS;
    memset(out, 0, 16);
    for (size_t i = 0; i < chars; i++) {
        if (has_hyphens && (i == 8 || i == 13 || i == 18 || i == 23)) {
            if (text[i] != '-') {
                return false;
            }
            continue;
        }
        int value = hex_value(text[i]);
        if (value < 0) {
            return false;
        }
        out[digit / 2] = (uint8_t)(out[digit / 2] << 4 | value);
        digit++;
    }
    return true;
}

static bool parse_uuid(const char *text, size_t length, uint8_t *out)
{
    static const char urn[] = "urn:uuid:";
    const size_t urn_chars = sizeof urn - 1;
    if (length == UUID_HEX_CHARS) {
        return parse_uuid_digits(text, false, out);
    }
    if (length == UUID_TEXT_CHARS) {
        return parse_uuid_digits(text, true, out);
    }
    if (length == UUID_TEXT_CHARS + 2 && text[0] == '{' && text[length - 1] == '}') {
        return parse_uuid_digits(text + 1, true, out);
    }
    if (length == UUID_TEXT_CHARS + urn_chars && memcmp(text, urn, urn_chars) == 0) {
        return parse_uuid_digits(text + urn_chars, true, out);
    }
    return false;
}

enum dr_code dr_point_id_from_json(const json_t *j, const char *where, struct dr_point_id *out,
                                   struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        out->number = (uint64_t)json_integer_value(j);
        return DR_OK;
    }
    if (!json_is_string(j)) {
        return dr_fail(err, DR_INPUT,
                       "%s: a point id is a whole number of 0 or more, a UUID or a text", where);
    }
    const char *text = json_string_value(j);
    size_t length = json_string_length(j);
    if (length == 0 || length > DR_POINT_TEXT_BYTES_MAX || strlen(text) != length) {
        return dr_fail(err, DR_INPUT,
                       "%s: a point id of text has 1 to %d bytes, none of them NUL; this one has "
                       "%zu",
                       where, DR_POINT_TEXT_BYTES_MAX, length);
    }
    if (parse_uuid(text, length, out->uuid)) {
        out->kind = DR_POINT_UUID;
        return DR_OK;
    }
    memset(out->uuid, 0, sizeof out->uuid);
    if (strspn(text, "0123456789") == length && dr_parse_u64(text, &out->number)) {
        return DR_OK;
    }
    out->kind = DR_POINT_TEXT;
    out->text = text;
    out->text_len = length;
    return DR_OK;
}

json_t *dr_point_id_to_json(const struct dr_point_id *id)
{
    char text[UUID_TEXT_CHARS + 1];
    switch (id->kind) {
    case DR_POINT_NUMBER:
        if (id->number > (uint64_t)INT64_MAX) { /* as digits: it reads back as the same number */
            (void)snprintf(text, sizeof text, "%" PRIu64, id->number);
            return json_string(text);
        }
        return json_integer((json_int_t)id->number);
    case DR_POINT_UUID: {
        const uint8_t *u = id->uuid;
        (void)snprintf(text, sizeof text,
                       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
                       u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
                       u[13], u[14], u[15]);
        return json_string(text);
    }
    case DR_POINT_TEXT:
        return json_stringn(id->text, id->text_len);
    }
    return NULL;
}

static uint64_t hash_text(const struct dr_point_id *id)
{
    unsigned char buf[16 + DR_POINT_TEXT_BYTES_MAX];
    size_t length = id->text_len < DR_POINT_TEXT_BYTES_MAX ? id->text_len : DR_POINT_TEXT_BYTES_MAX;
    const uint64_t head[2] = {htole64(2), htole64((uint64_t)length)};
    memcpy(buf, head, sizeof head);
    memcpy(buf + sizeof head, id->text, length);
    return dr_siphash(buf, sizeof head + length);
}

uint64_t dr_point_hash(const struct dr_point_id *id)
{
    if (id->kind == DR_POINT_NUMBER) {
        const uint64_t word[2] = {0, id->number};
        return dr_catalog_hash_words(word, 2);
    }
    if (id->kind == DR_POINT_TEXT) {
        return hash_text(id);
    }
    uint64_t half[2];
    memcpy(half, id->uuid, sizeof half);
    const uint64_t word[4] = {1, 16, le64toh(half[0]), le64toh(half[1])};
    return dr_catalog_hash_words(word, 4);
}
