/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the judgement which frames of a segment are whole, and whether what follows the last whole
 * one is a torn tail (a crash in the middle of a put) or damage (a mistake of disk or person).
 *
 * A put is synced before the next begins, so a crash tears at most the last frame. Hence a bad
 * frame is a torn tail only when it lies behind the acknowledged bytes and no whole frame stands
 * anywhere behind it. All else is DR_CORRUPT: cutting it off could lose rows that were erased
 * already. */
#include "archive/archive_private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/fault.h"
#include "base/file.h"

enum { WINDOW_BYTES = 256 * 1024, FRAMES_FIRST = 64 };

enum dr_code dr_archive_buf_reserve(struct dr_archive_buf *b, size_t bytes, struct dr_err *err)
{
    if (bytes <= b->room && b->data != NULL) {
        return DR_OK;
    }
    /* A little more than asked for: batches of about the same size then stop allocating. */
    size_t room = bytes + bytes / 4 + 256;
    dr_free(b->data);
    b->room = 0;
    b->data = dr_malloc(room);
    if (b->data == NULL) {
        return dr_fail_nomem(err);
    }
    b->room = room;
    return DR_OK;
}

void dr_archive_buf_fini(struct dr_archive_buf *b)
{
    dr_free(b->data);
    *b = (struct dr_archive_buf){0};
}

enum dr_code dr_archive_file_bytes(int fd, const char *path, uint64_t *bytes_out,
                                   struct dr_err *err)
{
    *bytes_out = 0;
    struct stat info;
    int failure = dr_fault_io_pass();
    if (failure == 0 && fstat(fd, &info) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        return dr_fail_errno(err, failure, "ask for the length", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return dr_fail(err, DR_INPUT, "%s: not a regular file; name an archive segment", path);
    }
    *bytes_out = (uint64_t)info.st_size;
    return DR_OK;
}

enum dr_code dr_archive_view(const struct dr_archive_source *source, uint64_t offset, size_t bytes,
                             struct dr_archive_buf *buf, const uint8_t **view_out,
                             struct dr_err *err)
{
    assert(offset <= source->bytes && bytes <= source->bytes - offset);
    *view_out = NULL;
    if (source->image != NULL) {
        *view_out = source->image + offset;
        return DR_OK;
    }
    enum dr_code rc = dr_archive_buf_reserve(buf, bytes, err);
    if (rc != DR_OK) {
        return rc;
    }
    size_t got = 0;
    rc = dr_file_read_at(source->fd, source->path, offset, buf->data, bytes, &got, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (got < bytes) {
        return dr_fail(err, DR_IO, "%s: became shorter while it was read, at offset %" PRIu64,
                       source->path, offset + got);
    }
    *view_out = buf->data;
    return DR_OK;
}

/* Does a frame start here whose checksum is right? Fills the header when it looks like one. */
static enum dr_code check_frame(struct dr_archive_scan *scan, uint64_t offset, bool with_checksum,
                                struct dr_archive_frame_header *header, bool *is_whole_out,
                                struct dr_err *err)
{
    *is_whole_out = false;
    const uint64_t left = scan->source.bytes - offset;
    if (left < DR_ARCHIVE_FRAME_EXTRA_BYTES) {
        return DR_OK;
    }
    const uint8_t *view = NULL;
    enum dr_code rc = dr_archive_view(&scan->source, offset, DR_ARCHIVE_FRAME_HEADER_BYTES,
                                      &scan->packed, &view, err);
    if (rc != DR_OK || !dr_archive_frame_decode(view, header)) {
        return rc;
    }
    const uint64_t bytes = dr_archive_frame_bytes(header);
    if (bytes > left) {
        return DR_OK;
    }
    if (!with_checksum && bytes < left) {
        *is_whole_out = true;
        return DR_OK;
    }
    rc = dr_archive_view(&scan->source, offset, (size_t)bytes, &scan->packed, &view, err);
    if (rc != DR_OK) {
        return rc;
    }
    const size_t covered = (size_t)bytes - DR_ARCHIVE_CHECKSUM_BYTES;
    *is_whole_out =
        XXH3_64bits_withSeed(view, covered, scan->seed) == dr_archive_get_u64(view + covered);
    return DR_OK;
}

/* The first whole frame at or behind `from`; UINT64_MAX when there is none. */
static enum dr_code find_later_frame(struct dr_archive_scan *scan, uint64_t from,
                                     uint64_t *offset_out, struct dr_err *err)
{
    *offset_out = UINT64_MAX;
    struct dr_archive_buf window = {0};
    enum dr_code rc = DR_OK;
    const uint64_t end = scan->source.bytes;
    while (rc == DR_OK && from < end && end - from >= DR_ARCHIVE_FRAME_EXTRA_BYTES) {
        size_t bytes = end - from < WINDOW_BYTES ? (size_t)(end - from) : (size_t)WINDOW_BYTES;
        const uint8_t *view = NULL;
        rc = dr_archive_view(&scan->source, from, bytes, &window, &view, err);
        size_t at = 0;
        while (rc == DR_OK && *offset_out == UINT64_MAX && at < bytes) {
            at += dr_archive_find_magic(view + at, bytes - at);
            if (at >= bytes) {
                break;
            }
            struct dr_archive_frame_header header;
            bool is_whole = false;
            rc = check_frame(scan, from + at, true, &header, &is_whole, err);
            if (is_whole) {
                *offset_out = from + at;
            }
            at++;
        }
        if (*offset_out != UINT64_MAX || bytes < WINDOW_BYTES) {
            break;
        }
        from += bytes - (sizeof(uint32_t) - 1); /* a magic may lie across the border */
    }
    dr_archive_buf_fini(&window);
    return rc;
}

/* The frame at whole_bytes is not whole: a torn tail, or damage? */
static enum dr_code judge_tail(struct dr_archive_scan *scan, struct dr_err *err)
{
    const char *path = scan->source.path;
    const uint64_t at = scan->whole_bytes;
    if (at < scan->acked_bytes) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: frame %" PRIu64 " at offset %" PRIu64 " is damaged, inside the %" PRIu64
                       " bytes that were acknowledged; put the file back from a copy",
                       path, scan->count, at, scan->acked_bytes);
    }
    uint64_t later = 0;
    enum dr_code rc = find_later_frame(scan, at, &later, err);
    if (rc == DR_OK && later != UINT64_MAX) {
        rc = dr_fail(err, DR_CORRUPT,
                     "%s: frame %" PRIu64 " at offset %" PRIu64 " is damaged, and a whole frame "
                     "stands at offset %" PRIu64 "; put the file back from a copy",
                     path, scan->count, at, later);
    }
    return rc;
}

static enum dr_code keep_frame(struct dr_archive_scan *scan, const struct dr_archive_frame *frame,
                               struct dr_err *err)
{
    if (scan->count == scan->frame_room) {
        uint64_t room = scan->frame_room == 0 ? FRAMES_FIRST : scan->frame_room * 2;
        struct dr_archive_frame *grown =
            dr_realloc(scan->frame, (size_t)room * sizeof scan->frame[0]);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        scan->frame = grown;
        scan->frame_room = room;
    }
    scan->frame[scan->count] = *frame;
    return DR_OK;
}

static enum dr_code take_frame(struct dr_archive_scan *scan,
                               const struct dr_archive_frame_header *header, struct dr_err *err)
{
    const struct dr_archive_frame frame = {
        .sequence = header->sequence,
        .offset = scan->whole_bytes,
        .bytes = dr_archive_frame_bytes(header),
        .count = header->count,
        .raw_bytes = header->raw_bytes,
    };
    enum dr_code rc = DR_OK;
    if (scan->depth == DR_ARCHIVE_BY_CONTENT) {
        rc = dr_archive_unpack(scan, &frame, NULL, err);
    }
    if (rc == DR_OK && scan->with_frames) {
        rc = keep_frame(scan, &frame, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    const uint64_t end = frame.offset + frame.bytes;
    if (frame.offset < scan->acked_bytes && scan->acked_bytes < end) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: %" PRIu64 " bytes were acknowledged, but that is in the middle of the "
                       "frame at offset %" PRIu64 "; put the file back from a copy",
                       scan->source.path, scan->acked_bytes, frame.offset);
    }
    scan->whole_bytes = end;
    scan->count++;
    scan->items += frame.count;
    return DR_OK;
}

static enum dr_code walk_frames(struct dr_archive_scan *scan, struct dr_err *err)
{
    while (scan->whole_bytes < scan->source.bytes) {
        struct dr_archive_frame_header header = {0};
        bool is_whole = false;
        enum dr_code rc = check_frame(scan, scan->whole_bytes, scan->depth != DR_ARCHIVE_BY_HEADER,
                                      &header, &is_whole, err);
        if (rc != DR_OK) {
            return rc;
        }
        /* A whole frame with another number is one of a mixed-up file: judge_tail will find it. */
        if (!is_whole || header.sequence != scan->count) {
            return judge_tail(scan, err);
        }
        rc = take_frame(scan, &header, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

/* The file header is not whole. Before anything was acknowledged and with no frame begun it is what
 * a crash at creation leaves. */
static enum dr_code judge_header(const struct dr_archive_scan *scan, const uint8_t *view,
                                 size_t bytes, struct dr_err *err)
{
    const bool is_short = scan->source.bytes <= DR_ARCHIVE_HEADER_BYTES_MAX;
    if (scan->acked_bytes == 0 && is_short && dr_archive_find_magic(view, bytes) == bytes) {
        return DR_OK;
    }
    return dr_fail(err, DR_CORRUPT,
                   "%s: the file header (offset 0) is damaged or is not an archive's; put the file "
                   "back from a copy",
                   scan->source.path);
}

static enum dr_code read_header(struct dr_archive_scan *scan, struct dr_err *err)
{
    const uint64_t size = scan->source.bytes;
    const size_t bytes =
        size < DR_ARCHIVE_HEADER_BYTES_MAX ? (size_t)size : (size_t)DR_ARCHIVE_HEADER_BYTES_MAX;
    const uint8_t *view = NULL;
    enum dr_code rc = dr_archive_view(&scan->source, 0, bytes, &scan->packed, &view, err);
    if (rc != DR_OK) {
        return rc;
    }
    const size_t header_bytes = bytes < DR_ARCHIVE_FIXED_BYTES ? 0 : dr_archive_header_bytes(view);
    if (header_bytes == 0 || header_bytes > bytes) {
        return judge_header(scan, view, bytes, err);
    }
    const size_t covered = header_bytes - DR_ARCHIVE_CHECKSUM_BYTES;
    scan->seed = dr_archive_get_u64(view + covered);
    if (XXH3_64bits(view, covered) != scan->seed) {
        return judge_header(scan, view, bytes, err);
    }
    /* After the checksum: a flipped bit must not look like a file of the future. */
    if (dr_archive_header_version(view) != DR_ARCHIVE_VERSION) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: written in another format version; this drover reads version %d",
                       scan->source.path, DR_ARCHIVE_VERSION);
    }
    scan->context =
        dr_strndup((const char *)view + DR_ARCHIVE_FIXED_BYTES, covered - DR_ARCHIVE_FIXED_BYTES);
    if (scan->context == NULL) {
        return dr_fail_nomem(err);
    }
    scan->has_header = true;
    scan->header_bytes = header_bytes;
    scan->whole_bytes = header_bytes;
    return DR_OK;
}

enum dr_code dr_archive_scan_run(struct dr_archive_scan *scan, struct dr_err *err)
{
    if (scan->source.bytes < scan->acked_bytes) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: ends at offset %" PRIu64 ", but %" PRIu64
                       " bytes were acknowledged; put the file back from a copy",
                       scan->source.path, scan->source.bytes, scan->acked_bytes);
    }
    enum dr_code rc = read_header(scan, err);
    if (rc != DR_OK || !scan->has_header) {
        return rc;
    }
    if (scan->acked_bytes > 0 && scan->acked_bytes < scan->header_bytes) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: %" PRIu64 " bytes were acknowledged, but that is in the middle of the "
                       "file header (offset 0); put the file back from a copy",
                       scan->source.path, scan->acked_bytes);
    }
    return walk_frames(scan, err);
}

void dr_archive_scan_fini(struct dr_archive_scan *scan)
{
    dr_free(scan->context);
    dr_free(scan->frame);
    dr_archive_buf_fini(&scan->packed);
    dr_archive_buf_fini(&scan->raw);
    (void)ZSTD_freeDCtx(scan->unpacker); /* accepts NULL */
    scan->unpacker = NULL;
    scan->context = NULL;
    scan->frame = NULL;
}

static enum dr_code refuse_frame(const struct dr_archive_scan *scan,
                                 const struct dr_archive_frame *frame, const char *what,
                                 struct dr_err *err)
{
    return dr_fail(err, DR_CORRUPT,
                   "%s: frame %" PRIu64 " at offset %" PRIu64 " is damaged: %s; put the file back "
                   "from a copy",
                   scan->source.path, frame->sequence, frame->offset, what);
}

enum dr_code dr_archive_unpack(struct dr_archive_scan *scan, const struct dr_archive_frame *frame,
                               struct dr_archive_item *item, struct dr_err *err)
{
    struct dr_archive_frame_header header = {0};
    bool is_whole = false;
    enum dr_code rc = check_frame(scan, frame->offset, true, &header, &is_whole, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!is_whole || header.sequence != frame->sequence || header.count != frame->count ||
        header.raw_bytes != frame->raw_bytes || dr_archive_frame_bytes(&header) != frame->bytes) {
        return refuse_frame(scan, frame, "its checksum does not match", err);
    }
    /* check_frame left the frame in `packed`, or the image holds it. */
    const uint8_t *view =
        scan->source.image != NULL ? scan->source.image + frame->offset : scan->packed.data;
    const uint8_t *payload = view + DR_ARCHIVE_FRAME_HEADER_BYTES;
    const size_t packed = (size_t)header.packed_bytes;
    const size_t raw = (size_t)header.raw_bytes;
    if (ZSTD_getFrameContentSize(payload, packed) != (unsigned long long)raw) {
        return refuse_frame(scan, frame, "its payload has another length", err);
    }
    rc = dr_archive_buf_reserve(&scan->raw, raw, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (scan->unpacker == NULL) {
        scan->unpacker = ZSTD_createDCtx();
    }
    if (scan->unpacker == NULL) {
        return dr_fail_nomem(err);
    }
    const size_t got = ZSTD_decompressDCtx(scan->unpacker, scan->raw.data, raw, payload, packed);
    if (ZSTD_isError(got) || got != raw) {
        return refuse_frame(scan, frame, "its payload cannot be unpacked", err);
    }
    if (!dr_archive_items_decode(scan->raw.data, raw, header.count, item)) {
        return refuse_frame(scan, frame, "its items do not fill it", err);
    }
    return DR_OK;
}
