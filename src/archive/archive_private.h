/* SPDX-License-Identifier: Apache-2.0 */
/* The segment format and what the files of this folder share. All numbers are little-endian.
 *
 *   file   "DRARCH1\n"  version u32  context length u32  context  checksum u64
 *   frame  magic u32  version u32  sequence u64  items u64  raw bytes u64  packed bytes u64
 *          payload (zstd of the items)  checksum u64
 *   item   key length u32  value length u32 (all ones: NULL, no value bytes)  key  value
 *
 * Checksums are XXH3-64 over all bytes before them in the header or frame. A frame's is seeded with
 * the file header's checksum: rows that happen to hold another segment's bytes are no frames. */
#ifndef DR_ARCHIVE_ARCHIVE_PRIVATE_H
#define DR_ARCHIVE_ARCHIVE_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zstd.h>

#include "archive/archive.h"

enum {
    DR_ARCHIVE_MAGIC_BYTES = 8,
    DR_ARCHIVE_FIXED_BYTES = 16, /* file header before the context */
    DR_ARCHIVE_CONTEXT_BYTES_MAX = 64 * 1024,
    DR_ARCHIVE_HEADER_BYTES_MAX = DR_ARCHIVE_FIXED_BYTES + DR_ARCHIVE_CONTEXT_BYTES_MAX + 8,
    DR_ARCHIVE_FRAME_HEADER_BYTES = 40,
    DR_ARCHIVE_CHECKSUM_BYTES = 8,
    DR_ARCHIVE_FRAME_EXTRA_BYTES = DR_ARCHIVE_FRAME_HEADER_BYTES + DR_ARCHIVE_CHECKSUM_BYTES,
    DR_ARCHIVE_ITEM_HEADER_BYTES = 8,
};

/* A block that only grows; its content is lost when it does. */
struct dr_archive_buf {
    uint8_t *data;
    size_t room;
};
DR_MUST enum dr_code dr_archive_buf_reserve(struct dr_archive_buf *b, size_t bytes,
                                            struct dr_err *err);
void dr_archive_buf_fini(struct dr_archive_buf *b);

/* ---- codec.c: bytes and nothing else ---- */

struct dr_archive_frame_header {
    uint64_t sequence;
    uint64_t count;
    uint64_t raw_bytes;
    uint64_t packed_bytes;
};

uint64_t dr_archive_get_u64(const uint8_t *from);
void dr_archive_put_u64(uint8_t *to, uint64_t value);
/* Write a whole file header for `context` into `to`; returns its length and its checksum. */
size_t dr_archive_header_encode(uint8_t *to, const char *context, size_t context_bytes,
                                uint64_t *checksum_out);
/* Bytes of the whole file header as its fixed part tells, or 0 when that is no fixed part. */
size_t dr_archive_header_bytes(const uint8_t *fixed);
uint32_t dr_archive_header_version(const uint8_t *fixed);
void dr_archive_frame_encode(uint8_t *to, const struct dr_archive_frame_header *header);
/* False when these bytes cannot be a frame's header: magic, version or sizes are impossible. */
bool dr_archive_frame_decode(const uint8_t *from, struct dr_archive_frame_header *out);
uint64_t dr_archive_frame_bytes(const struct dr_archive_frame_header *header);
/* Where the frame magic stands in `data`, or `bytes` when nowhere. */
size_t dr_archive_find_magic(const uint8_t *data, size_t bytes);
/* Bytes of the items before compression; UINT64_MAX when an item cannot be expressed. */
uint64_t dr_archive_items_bytes(const struct dr_archive_item *item, uint64_t count);
void dr_archive_items_encode(uint8_t *to, const struct dr_archive_item *item, uint64_t count);
/* Walk exactly `count` items that fill `data` exactly; `item` (may be NULL) gets them, borrowing.
 * False when the bytes are anything else. */
bool dr_archive_items_decode(const uint8_t *data, uint64_t bytes, uint64_t count,
                             struct dr_archive_item *item);

/* ---- scan.c: a file, or an image of one, and which of its frames are whole ---- */

struct dr_archive_source {
    const char *path;     /* for messages */
    const uint8_t *image; /* NULL: read from fd */
    int fd;
    uint64_t bytes;
};
/* `bytes` bytes at `offset`, from the image or through `buf`. They must lie inside the source. */
DR_MUST enum dr_code dr_archive_view(const struct dr_archive_source *source, uint64_t offset,
                                     size_t bytes, struct dr_archive_buf *buf,
                                     const uint8_t **view_out, struct dr_err *err);

enum dr_archive_depth {
    DR_ARCHIVE_BY_HEADER,   /* checksum of a frame that ends the file only */
    DR_ARCHIVE_BY_CHECKSUM, /* checksum of every frame */
    DR_ARCHIVE_BY_CONTENT,  /* unpack every frame and walk its items, too */
};

struct dr_archive_scan {
    struct dr_archive_source source;
    enum dr_archive_depth depth;
    uint64_t acked_bytes;
    bool with_frames; /* keep the index of frames */

    bool has_header; /* false: crashed at creation, no frame was begun; nothing below is set */
    char *context;   /* dr_free */
    uint64_t seed;
    uint64_t header_bytes;
    uint64_t whole_bytes; /* up to where the file header and the frames are whole */
    uint64_t count;
    uint64_t items;
    struct dr_archive_frame *frame; /* dr_free */
    uint64_t frame_room;
    struct dr_archive_buf packed;
    struct dr_archive_buf raw;
    ZSTD_DCtx *unpacker;
};
/* Fill the lower half of `scan` from the upper. DR_CORRUPT names file and offset. */
DR_MUST enum dr_code dr_archive_scan_run(struct dr_archive_scan *scan, struct dr_err *err);
void dr_archive_scan_fini(struct dr_archive_scan *scan); /* the source stays open */
/* Check the frame at `offset` (header, checksum, content) and unpack it into scan->raw. */
DR_MUST enum dr_code dr_archive_unpack(struct dr_archive_scan *scan,
                                       const struct dr_archive_frame *frame,
                                       struct dr_archive_item *item, struct dr_err *err);
/* fstat's size. */
DR_MUST enum dr_code dr_archive_file_bytes(int fd, const char *path, uint64_t *bytes_out,
                                           struct dr_err *err);

#endif
