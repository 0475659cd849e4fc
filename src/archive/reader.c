/* SPDX-License-Identifier: Apache-2.0 */
/* Owns reading: the index of a segment's whole frames, unpacking one of them, verifying all. It
 * knows nothing of acknowledged lengths but in dr_archive_verify. One thread per handle. */
#include "archive/archive_private.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/file.h"

struct dr_archive_reader {
    char *path;
    struct dr_archive_scan scan;
    struct dr_archive_item *item;
    uint64_t item_room;
};

enum dr_code dr_archive_read_open(const char *path, struct dr_archive_reader **out,
                                  struct dr_err *err)
{
    *out = NULL;
    struct dr_archive_reader *r = dr_calloc(1, sizeof *r);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    r->scan.source.fd = -1;
    r->scan.depth = DR_ARCHIVE_BY_HEADER;
    r->scan.with_frames = true;
    r->path = dr_strdup(path);
    r->scan.source.path = r->path;
    enum dr_code rc = r->path == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_file_open(path, O_RDONLY, &r->scan.source.fd, err);
    }
    if (rc == DR_OK) {
        rc = dr_archive_file_bytes(r->scan.source.fd, path, &r->scan.source.bytes, err);
    }
    if (rc == DR_OK) {
        rc = dr_archive_scan_run(&r->scan, err);
    }
    if (rc == DR_OK) {
        *out = r;
    } else {
        dr_archive_read_close(r);
    }
    return rc;
}

uint64_t dr_archive_frame_count(const struct dr_archive_reader *r)
{
    return r->scan.count;
}

struct dr_archive_frame dr_archive_frame_at(const struct dr_archive_reader *r, uint64_t n)
{
    assert(n < r->scan.count);
    return r->scan.frame[n];
}

uint64_t dr_archive_torn_bytes(const struct dr_archive_reader *r)
{
    return r->scan.source.bytes - r->scan.whole_bytes;
}

const char *dr_archive_context(const struct dr_archive_reader *r)
{
    return r->scan.context == NULL ? "" : r->scan.context;
}

static enum dr_code reserve_items(struct dr_archive_reader *r, uint64_t count, struct dr_err *err)
{
    if (count <= r->item_room) {
        return DR_OK;
    }
    dr_free(r->item);
    r->item_room = 0;
    r->item = dr_calloc((size_t)count, sizeof r->item[0]);
    if (r->item == NULL) {
        return dr_fail_nomem(err);
    }
    r->item_room = count;
    return DR_OK;
}

enum dr_code dr_archive_read(struct dr_archive_reader *r, uint64_t n,
                             const struct dr_archive_item **item_out, uint64_t *count_out,
                             struct dr_err *err)
{
    *item_out = NULL;
    *count_out = 0;
    if (n >= r->scan.count) {
        return dr_fail(err, DR_NOT_FOUND, "%s: frame %" PRIu64 " is not there; it has %" PRIu64,
                       r->path, n, r->scan.count);
    }
    const struct dr_archive_frame *frame = &r->scan.frame[n];
    /* Sound before allocating by its count: a header was only looked at on opening. */
    enum dr_code rc = dr_archive_unpack(&r->scan, frame, NULL, err);
    if (rc == DR_OK) {
        rc = reserve_items(r, frame->count, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    bool is_sound =
        dr_archive_items_decode(r->scan.raw.data, frame->raw_bytes, frame->count, r->item);
    assert(is_sound); /* dr_archive_unpack walked the same bytes */
    (void)is_sound;
    *item_out = r->item;
    *count_out = frame->count;
    return DR_OK;
}

void dr_archive_read_close(struct dr_archive_reader *r)
{
    if (r == NULL) {
        return;
    }
    if (r->scan.source.fd >= 0) {
        (void)close(r->scan.source.fd);
    }
    dr_archive_scan_fini(&r->scan);
    dr_free(r->item);
    dr_free(r->path);
    dr_free(r);
}

enum dr_code dr_archive_verify(const char *path, uint64_t acked_bytes, uint64_t *frames_out,
                               uint64_t *items_out, uint64_t *bytes_out, struct dr_err *err)
{
    struct dr_archive_scan scan = {
        .source = {.path = path, .fd = -1},
        .depth = DR_ARCHIVE_BY_CONTENT,
        .acked_bytes = acked_bytes,
    };
    enum dr_code rc = dr_file_open(path, O_RDONLY, &scan.source.fd, err);
    if (rc == DR_NOT_FOUND && acked_bytes > 0) {
        rc = dr_fail(err, DR_CORRUPT,
                     "%s: is missing, but %" PRIu64
                     " bytes of it were acknowledged; put the file back from a copy",
                     path, acked_bytes);
    }
    if (rc == DR_OK) {
        rc = dr_archive_file_bytes(scan.source.fd, path, &scan.source.bytes, err);
    }
    if (rc == DR_OK) {
        rc = dr_archive_scan_run(&scan, err);
    }
    if (frames_out != NULL) {
        *frames_out = scan.count;
    }
    if (items_out != NULL) {
        *items_out = scan.items;
    }
    if (bytes_out != NULL) {
        *bytes_out = scan.whole_bytes;
    }
    if (scan.source.fd >= 0) {
        (void)close(scan.source.fd);
    }
    dr_archive_scan_fini(&scan);
    return rc;
}

enum dr_code dr_archive_check_image(const void *data, size_t bytes, struct dr_err *err)
{
    struct dr_archive_scan scan = {
        .source = {.path = "image",
                   .image = bytes == 0 ? (const uint8_t *)"" : data,
                   .fd = -1,
                   .bytes = bytes},
        .depth = DR_ARCHIVE_BY_CONTENT,
    };
    enum dr_code rc = dr_archive_scan_run(&scan, err);
    dr_archive_scan_fini(&scan);
    return rc;
}
