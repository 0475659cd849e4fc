/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the bytes of a segment: every number is written and read by explicit byte functions, so a
 * file moves between machines. Pure; any thread. */
#include "archive/archive_private.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

static const uint8_t file_magic[DR_ARCHIVE_MAGIC_BYTES] = {'D', 'R', 'A', 'R', 'C', 'H', '1', '\n'};
/* 0xF7 and 0xFE never occur in UTF-8: no context can contain a frame's magic. */
static const uint8_t frame_magic[4] = {0xF7, 'D', 'F', 0xFE};

static const uint32_t null_value_len = UINT32_MAX;

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static void put_u32(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    to[2] = (uint8_t)(value >> 16);
    to[3] = (uint8_t)(value >> 24);
}

uint64_t dr_archive_get_u64(const uint8_t *from)
{
    return (uint64_t)get_u32(from) | (uint64_t)get_u32(from + 4) << 32;
}

void dr_archive_put_u64(uint8_t *to, uint64_t value)
{
    put_u32(to, (uint32_t)value);
    put_u32(to + 4, (uint32_t)(value >> 32));
}

size_t dr_archive_header_encode(uint8_t *to, const char *context, size_t context_bytes,
                                uint64_t *checksum_out)
{
    assert(context_bytes <= DR_ARCHIVE_CONTEXT_BYTES_MAX);
    memcpy(to, file_magic, sizeof file_magic);
    put_u32(to + 8, DR_ARCHIVE_VERSION);
    put_u32(to + 12, (uint32_t)context_bytes);
    memcpy(to + DR_ARCHIVE_FIXED_BYTES, context, context_bytes);
    size_t at = DR_ARCHIVE_FIXED_BYTES + context_bytes;
    *checksum_out = XXH3_64bits(to, at);
    dr_archive_put_u64(to + at, *checksum_out);
    return at + DR_ARCHIVE_CHECKSUM_BYTES;
}

size_t dr_archive_header_bytes(const uint8_t *fixed)
{
    uint32_t context_bytes = get_u32(fixed + 12);
    if (memcmp(fixed, file_magic, sizeof file_magic) != 0 ||
        context_bytes > DR_ARCHIVE_CONTEXT_BYTES_MAX) {
        return 0;
    }
    return (size_t)DR_ARCHIVE_FIXED_BYTES + context_bytes + DR_ARCHIVE_CHECKSUM_BYTES;
}

uint32_t dr_archive_header_version(const uint8_t *fixed)
{
    return get_u32(fixed + 8);
}

void dr_archive_frame_encode(uint8_t *to, const struct dr_archive_frame_header *header)
{
    memcpy(to, frame_magic, sizeof frame_magic);
    put_u32(to + 4, DR_ARCHIVE_VERSION);
    dr_archive_put_u64(to + 8, header->sequence);
    dr_archive_put_u64(to + 16, header->count);
    dr_archive_put_u64(to + 24, header->raw_bytes);
    dr_archive_put_u64(to + 32, header->packed_bytes);
}

bool dr_archive_frame_decode(const uint8_t *from, struct dr_archive_frame_header *out)
{
    if (memcmp(from, frame_magic, sizeof frame_magic) != 0 ||
        get_u32(from + 4) != DR_ARCHIVE_VERSION) {
        return false;
    }
    *out = (struct dr_archive_frame_header){
        .sequence = dr_archive_get_u64(from + 8),
        .count = dr_archive_get_u64(from + 16),
        .raw_bytes = dr_archive_get_u64(from + 24),
        .packed_bytes = dr_archive_get_u64(from + 32),
    };
    return out->count > 0 && out->raw_bytes <= DR_ARCHIVE_FRAME_BYTES_MAX &&
           out->count <= out->raw_bytes / DR_ARCHIVE_ITEM_HEADER_BYTES &&
           out->packed_bytes <= ZSTD_compressBound((size_t)out->raw_bytes);
}

uint64_t dr_archive_frame_bytes(const struct dr_archive_frame_header *header)
{
    return DR_ARCHIVE_FRAME_EXTRA_BYTES + header->packed_bytes;
}

size_t dr_archive_find_magic(const uint8_t *data, size_t bytes)
{
    size_t at = 0;
    while (bytes - at >= sizeof frame_magic) {
        const uint8_t *hit = memchr(data + at, frame_magic[0], bytes - at - sizeof frame_magic + 1);
        if (hit == NULL) {
            break;
        }
        if (memcmp(hit, frame_magic, sizeof frame_magic) == 0) {
            return (size_t)(hit - data);
        }
        at = (size_t)(hit - data) + 1;
    }
    return bytes;
}

uint64_t dr_archive_items_bytes(const struct dr_archive_item *item, uint64_t count)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (item[i].value != NULL && item[i].value_len == null_value_len) {
            return UINT64_MAX;
        }
        bytes += DR_ARCHIVE_ITEM_HEADER_BYTES + (uint64_t)item[i].key_len;
        bytes += item[i].value == NULL ? 0 : item[i].value_len;
        if (bytes > DR_ARCHIVE_FRAME_BYTES_MAX) { /* stop here: `count` may be anything */
            return bytes;
        }
    }
    return bytes;
}

void dr_archive_items_encode(uint8_t *to, const struct dr_archive_item *item, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        put_u32(to, item[i].key_len);
        put_u32(to + 4, item[i].value == NULL ? null_value_len : item[i].value_len);
        to += DR_ARCHIVE_ITEM_HEADER_BYTES;
        if (item[i].key_len > 0) {
            memcpy(to, item[i].key, item[i].key_len);
            to += item[i].key_len;
        }
        if (item[i].value != NULL && item[i].value_len > 0) {
            memcpy(to, item[i].value, item[i].value_len);
            to += item[i].value_len;
        }
    }
}

bool dr_archive_items_decode(const uint8_t *data, uint64_t bytes, uint64_t count,
                             struct dr_archive_item *item)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (bytes - at < DR_ARCHIVE_ITEM_HEADER_BYTES) {
            return false;
        }
        uint32_t key_len = get_u32(data + at);
        uint32_t value_len = get_u32(data + at + 4);
        bool is_null = value_len == null_value_len;
        value_len = is_null ? 0 : value_len;
        at += DR_ARCHIVE_ITEM_HEADER_BYTES;
        if (bytes - at < (uint64_t)key_len + value_len) {
            return false;
        }
        if (item != NULL) {
            item[i] = (struct dr_archive_item){
                .key = data + at,
                .value = is_null ? NULL : data + at + key_len,
                .key_len = key_len,
                .value_len = value_len,
            };
        }
        at += (uint64_t)key_len + value_len;
    }
    return at == bytes;
}
