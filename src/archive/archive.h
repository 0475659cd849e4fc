/* SPDX-License-Identifier: Apache-2.0 */
/* The archive: what a batch is about to erase, kept so that it can be put back.
 *
 * One append-only segment file per step: DIR/archive/op-<op>/step-<step>.dra, a file header and
 * then frames. A frame is one batch: header (magic, version, sequence, item count, sizes), payload
 * (zstd of the items), XXH3-64 checksum over header and payload. A frame counts once dr_archive_put
 * returned, i.e. after fsync; whatever a crash left torn behind the last whole frame was never
 * erased from the store and is cut off on the next open for writing. Whole frames are never removed
 * one by one: a frame whose batch may or may not have been erased stays (its items are restored
 * only where absent). A damaged frame that is followed by others, or lies inside the acknowledged
 * length, is DR_CORRUPT and names file and offset. One thread per handle. */
#ifndef DR_ARCHIVE_ARCHIVE_H
#define DR_ARCHIVE_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum { DR_ARCHIVE_VERSION = 1, DR_ARCHIVE_FRAME_BYTES_MAX = 256 * 1024 * 1024 };

struct dr_archive_item { /* same shape as a store's item; the archive looks at bytes only */
    const void *key;
    const void *value;
    uint32_t key_len;
    uint32_t value_len;
};

/* Path of a step's segment under the data folder, into buf; returns buf. */
char *dr_archive_path(const char *data_dir, int64_t op_id, int64_t step_id, char *buf,
                      size_t buf_bytes);

struct dr_archive_writer;
/* Open for appending; creates folders and file (both fsynced). `acked_bytes` is the length the
 * queue vouches for: a file shorter than that, or damaged inside it, is DR_CORRUPT. `context` (JSON
 * text: store URL without secrets, collection, node, codec) goes into the file header on creation.
 * `level` is zstd's. */
DR_MUST enum dr_code dr_archive_open(const char *data_dir, int64_t op_id, int64_t step_id,
                                     uint64_t acked_bytes, const char *context, int level,
                                     struct dr_archive_writer **out, struct dr_err *err);
/* Append one frame and fsync. On an error the file is cut back to where it was (or the next open
 * does it). *length_out is the file's length afterwards: save it with the cursor. */
DR_MUST enum dr_code dr_archive_put(struct dr_archive_writer *w, const struct dr_archive_item *item,
                                    uint64_t count, uint64_t *length_out, struct dr_err *err);
uint64_t dr_archive_length(const struct dr_archive_writer *w);
void dr_archive_close(struct dr_archive_writer *w);

struct dr_archive_reader;
struct dr_archive_frame {
    uint64_t sequence; /* 0, 1, 2 ... */
    uint64_t offset;   /* of the frame in the file */
    uint64_t bytes;    /* whole frame */
    uint64_t count;
    uint64_t raw_bytes; /* payload before compression */
};
/* Open for reading and index all whole frames (headers only). A torn tail behind the last whole
 * frame is ignored and reported by dr_archive_torn_bytes. DR_NOT_FOUND when there is no file. */
DR_MUST enum dr_code dr_archive_read_open(const char *path, struct dr_archive_reader **out,
                                          struct dr_err *err);
uint64_t dr_archive_frame_count(const struct dr_archive_reader *r);
struct dr_archive_frame dr_archive_frame_at(const struct dr_archive_reader *r, uint64_t n);
uint64_t dr_archive_torn_bytes(const struct dr_archive_reader *r);
const char *dr_archive_context(const struct dr_archive_reader *r);
/* Check and unpack frame `n`; items are borrowed until the next call or close. */
DR_MUST enum dr_code dr_archive_read(struct dr_archive_reader *r, uint64_t n,
                                     const struct dr_archive_item **item_out, uint64_t *count_out,
                                     struct dr_err *err);
void dr_archive_read_close(struct dr_archive_reader *r);

/* Read every frame and check every checksum. Totals may be NULL. */
DR_MUST enum dr_code dr_archive_verify(const char *path, uint64_t acked_bytes, uint64_t *frames_out,
                                       uint64_t *items_out, uint64_t *bytes_out,
                                       struct dr_err *err);
/* Remove all segments of an operation (its folder). Missing is fine. */
DR_MUST enum dr_code dr_archive_remove(const char *data_dir, int64_t op_id, uint64_t *bytes_out,
                                       struct dr_err *err);
/* Decode one file image from memory: the fuzz target's door; same checks as reading a file. */
DR_MUST enum dr_code dr_archive_check_image(const void *data, size_t bytes, struct dr_err *err);

#endif
