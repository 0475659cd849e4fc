/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the bytes in front of entries and snapshots: a mark, a format, who proposed it, the length.
 *
 *   entry     "DRE1" u32 format, u64 nonce, u64 token, u64 bytes, text, zeros to a multiple of 8
 *   snapshot  "DRS1" u32 format, u64 index, u64 bytes, text, zeros to a multiple of 8
 *
 * Numbers are little-endian. libraft's log reads entries back only when their lengths are multiples
 * of 8, hence the padding and the length of our own. Pure. */
#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "catalog/raft_private.h"

static const char entry_mark[4] = {'D', 'R', 'E', '1'};
static const char snapshot_mark[4] = {'D', 'R', 'S', '1'};

static size_t round_up(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

size_t dr_wire_entry_bytes(size_t bytes)
{
    return ENTRY_HEADER_BYTES + round_up(bytes);
}

void dr_wire_put_entry(void *base, const struct entry_header *h, const char *entry)
{
    unsigned char *at = base;
    size_t bytes = (size_t)h->bytes;
    memcpy(at, entry_mark, sizeof entry_mark);
    dr_put_le(at + 4, h->format, 4);
    dr_put_le(at + 8, h->nonce, 8);
    dr_put_le(at + 16, h->token, 8);
    dr_put_le(at + 24, h->bytes, 8);
    memcpy(at + ENTRY_HEADER_BYTES, entry, bytes);
    memset(at + ENTRY_HEADER_BYTES + bytes, 0, round_up(bytes) - bytes);
}

enum dr_code dr_wire_get_entry(const struct raft_buffer *buf, struct entry_header *h,
                               const char **entry_out, struct dr_err *err)
{
    const unsigned char *at = buf->base;
    *h = (struct entry_header){0};
    *entry_out = NULL;
    if (buf->len < ENTRY_HEADER_BYTES || memcmp(at, entry_mark, sizeof entry_mark) != 0) {
        return dr_fail(err, DR_CORRUPT, "a log entry of %zu bytes does not begin with DRE1",
                       buf->len);
    }
    h->format = (uint32_t)dr_get_le(at + 4, 4);
    if (h->format != DR_RAFT_FORMAT) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "a log entry has format %u, this drover knows %d; upgrade this peer",
                       h->format, DR_RAFT_FORMAT);
    }
    h->nonce = dr_get_le(at + 8, 8);
    h->token = dr_get_le(at + 16, 8);
    h->bytes = dr_get_le(at + 24, 8);
    if (h->bytes > DR_ENTRY_BYTES_MAX || h->bytes > buf->len - ENTRY_HEADER_BYTES) {
        return dr_fail(err, DR_CORRUPT, "a log entry of %zu bytes says it has %llu", buf->len,
                       (unsigned long long)h->bytes);
    }
    *entry_out = (const char *)at + ENTRY_HEADER_BYTES;
    return DR_OK;
}

size_t dr_wire_snapshot_bytes(size_t bytes)
{
    return SNAPSHOT_HEADER_BYTES + round_up(bytes);
}

void dr_wire_put_snapshot(void *base, uint64_t index, const char *text, size_t bytes)
{
    unsigned char *at = base;
    memcpy(at, snapshot_mark, sizeof snapshot_mark);
    dr_put_le(at + 4, DR_RAFT_FORMAT, 4);
    dr_put_le(at + 8, index, 8);
    dr_put_le(at + 16, bytes, 8);
    memcpy(at + SNAPSHOT_HEADER_BYTES, text, bytes);
    memset(at + SNAPSHOT_HEADER_BYTES + bytes, 0, round_up(bytes) - bytes);
}

enum dr_code dr_wire_get_snapshot(const struct raft_buffer *buf, uint64_t *index_out,
                                  const char **text_out, size_t *bytes_out, struct dr_err *err)
{
    const unsigned char *at = buf->base;
    if (buf->len < SNAPSHOT_HEADER_BYTES || memcmp(at, snapshot_mark, sizeof snapshot_mark) != 0) {
        return dr_fail(err, DR_CORRUPT, "a snapshot of %zu bytes does not begin with DRS1",
                       buf->len);
    }
    uint64_t format = dr_get_le(at + 4, 4);
    uint64_t bytes = dr_get_le(at + 16, 8);
    if (format != DR_RAFT_FORMAT) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "a snapshot has format %llu, this drover knows %d; upgrade this peer",
                       (unsigned long long)format, DR_RAFT_FORMAT);
    }
    if (bytes > DR_SNAPSHOT_BYTES_MAX || bytes > buf->len - SNAPSHOT_HEADER_BYTES) {
        return dr_fail(err, DR_CORRUPT, "a snapshot of %zu bytes says it has %llu", buf->len,
                       (unsigned long long)bytes);
    }
    *index_out = dr_get_le(at + 8, 8);
    *text_out = (const char *)at + SNAPSHOT_HEADER_BYTES;
    *bytes_out = (size_t)bytes;
    return DR_OK;
}
