/* SPDX-License-Identifier: Apache-2.0 */
/* Owns appending: a segment being written, its lock, and the way back when a put fails. The lock
 * (flock on the segment) keeps a worker whose lease was lost from writing into the file that the
 * next owner of the step appends to. One thread per handle. */
#include "archive/archive_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fault.h"
#include "base/file.h"

struct dr_archive_writer {
    char *path;
    int fd;
    uint64_t length; /* up to the end of the last whole frame */
    uint64_t count;
    uint64_t seed;
    bool has_leftover; /* a failed put could not be cut off */
    ZSTD_CCtx *packer;
    struct dr_archive_buf raw;
    struct dr_archive_buf frame;
};

static enum dr_code cut_file(int fd, const char *path, uint64_t bytes, struct dr_err *err)
{
    int failure = dr_fault_io_pass();
    if (failure == 0) {
        int rc = 0;
        do {
            rc = ftruncate(fd, (off_t)bytes);
        } while (rc != 0 && errno == EINTR);
        failure = rc == 0 ? 0 : errno;
    }
    if (failure != 0) {
        return dr_fail_errno(err, failure, "cut off an unfinished frame", path);
    }
    return dr_file_sync(fd, path, err);
}

static enum dr_code lock_segment(int fd, const char *path, struct dr_err *err)
{
    int failure = dr_fault_io_pass();
    if (failure == 0) {
        int rc = 0;
        do {
            rc = flock(fd, LOCK_EX | LOCK_NB);
        } while (rc != 0 && errno == EINTR);
        failure = rc == 0 ? 0 : errno;
    }
    if (failure == EWOULDBLOCK) {
        return dr_fail(err, DR_BUSY, "%s: another worker still has it open for writing", path);
    }
    return failure == 0 ? DR_OK : dr_fail_errno(err, failure, "lock", path);
}

/* DIR, DIR/archive and DIR/archive/op-N, each synced, so that the file's name survives. */
static enum dr_code sync_folders(const char *data_dir, const char *path, struct dr_err *err)
{
    enum dr_code rc = dr_dir_sync(data_dir, err);
    char *folder = dr_strdup(path);
    if (folder == NULL) {
        return rc == DR_OK ? dr_fail_nomem(err) : rc;
    }
    for (int level = 0; rc == DR_OK && level < 2; level++) {
        char *slash = strrchr(folder, '/');
        assert(slash != NULL);
        *slash = '\0';
        rc = dr_dir_sync(folder, err);
    }
    dr_free(folder);
    return rc;
}

static enum dr_code make_op_folder(const char *path, struct dr_err *err)
{
    char *folder = dr_strndup(path, (size_t)(strrchr(path, '/') - path));
    if (folder == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_dir_make(folder, err);
    dr_free(folder);
    return rc;
}

/* A segment the queue vouches for must be there; only an unknown one is made. */
static enum dr_code open_segment(struct dr_archive_writer *w, uint64_t acked_bytes,
                                 struct dr_err *err)
{
    int flags = O_RDWR | O_APPEND;
    if (acked_bytes == 0) {
        enum dr_code rc = make_op_folder(w->path, err);
        if (rc != DR_OK) {
            return rc;
        }
        flags |= O_CREAT;
    }
    enum dr_code rc = dr_file_open(w->path, flags, &w->fd, err);
    if (rc == DR_NOT_FOUND && acked_bytes > 0) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: is missing, but %" PRIu64
                       " bytes of it were acknowledged; put the file back from a copy",
                       w->path, acked_bytes);
    }
    return rc == DR_OK ? lock_segment(w->fd, w->path, err) : rc;
}

static enum dr_code write_header(struct dr_archive_writer *w, uint64_t bytes_now,
                                 const char *context, struct dr_err *err)
{
    const size_t context_bytes = strlen(context);
    enum dr_code rc = DR_OK;
    if (bytes_now > 0) {
        rc = cut_file(w->fd, w->path, 0, err);
    }
    if (rc == DR_OK) {
        rc = dr_archive_buf_reserve(
            &w->frame, DR_ARCHIVE_FIXED_BYTES + context_bytes + DR_ARCHIVE_CHECKSUM_BYTES, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    const size_t bytes = dr_archive_header_encode(w->frame.data, context, context_bytes, &w->seed);
    rc = dr_file_write_all(w->fd, w->path, w->frame.data, bytes, err);
    if (rc == DR_OK) {
        rc = dr_file_sync(w->fd, w->path, err);
    }
    w->length = bytes;
    return rc;
}

/* Take over what the file holds: cut a torn tail off, write the header when none is whole. */
static enum dr_code adopt_content(struct dr_archive_writer *w, const char *data_dir,
                                  uint64_t acked_bytes, const char *context, struct dr_err *err)
{
    struct dr_archive_scan scan = {
        .source = {.path = w->path, .fd = w->fd},
        .depth = DR_ARCHIVE_BY_CHECKSUM,
        .acked_bytes = acked_bytes,
    };
    enum dr_code rc = dr_archive_file_bytes(w->fd, w->path, &scan.source.bytes, err);
    if (rc == DR_OK) {
        rc = dr_archive_scan_run(&scan, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    if (!scan.has_header) {
        rc = write_header(w, scan.source.bytes, context, err);
    } else {
        w->length = scan.whole_bytes;
        w->count = scan.count;
        w->seed = scan.seed;
        if (scan.whole_bytes < scan.source.bytes) {
            rc = cut_file(w->fd, w->path, scan.whole_bytes, err);
        }
    }
    if (rc == DR_OK && w->count == 0) { /* a frame proves that the folders were synced before it */
        rc = sync_folders(data_dir, w->path, err);
    }
    if (rc == DR_OK && w->count > 0) {
        /* Frames that a crash kept from being synced may still be in the page cache only. */
        rc = dr_file_sync(w->fd, w->path, err);
    }
out:
    dr_archive_scan_fini(&scan);
    return rc;
}

static enum dr_code make_packer(struct dr_archive_writer *w, int level, struct dr_err *err)
{
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel()) {
        return dr_fail(err, DR_INPUT, "archive: compression level %d; zstd takes %d to %d", level,
                       ZSTD_minCLevel(), ZSTD_maxCLevel());
    }
    w->packer = ZSTD_createCCtx();
    if (w->packer == NULL) {
        return dr_fail_nomem(err);
    }
    const size_t rc = ZSTD_CCtx_setParameter(w->packer, ZSTD_c_compressionLevel, level);
    return ZSTD_isError(rc) ? dr_fail(err, DR_INTERNAL, "archive: zstd refuses level %d: %s", level,
                                      ZSTD_getErrorName(rc))
                            : DR_OK;
}

enum dr_code dr_archive_open(const char *data_dir, int64_t op_id, int64_t step_id,
                             uint64_t acked_bytes, const char *context, int level,
                             struct dr_archive_writer **out, struct dr_err *err)
{
    *out = NULL;
    if (strlen(context) > DR_ARCHIVE_CONTEXT_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "archive: a context of %zu bytes; at most %d fit",
                       strlen(context), DR_ARCHIVE_CONTEXT_BYTES_MAX);
    }
    struct dr_archive_writer *w = dr_calloc(1, sizeof *w);
    if (w == NULL) {
        return dr_fail_nomem(err);
    }
    w->fd = -1;
    enum dr_code rc = DR_OK;
    const size_t path_bytes = strlen(data_dir) + 80;
    w->path = dr_malloc(path_bytes);
    if (w->path == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    (void)dr_archive_path(data_dir, op_id, step_id, w->path, path_bytes);
    rc = make_packer(w, level, err);
    if (rc == DR_OK) {
        rc = open_segment(w, acked_bytes, err);
    }
    if (rc == DR_OK) {
        rc = adopt_content(w, data_dir, acked_bytes, context, err);
    }
out:
    if (rc == DR_OK) {
        *out = w;
    } else {
        dr_archive_close(w);
    }
    return rc;
}

static enum dr_code check_batch(const struct dr_archive_writer *w, uint64_t raw_bytes,
                                uint64_t count, struct dr_err *err)
{
    if (count == 0) {
        return dr_fail(err, DR_INTERNAL, "%s: asked to archive a batch without items", w->path);
    }
    if (raw_bytes > DR_ARCHIVE_FRAME_BYTES_MAX) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: a batch of %" PRIu64 " items is larger than the %d bytes a frame may "
                       "have; lower tuning.batch_bytes_max, or exclude the row when it is a single "
                       "one",
                       w->path, count, DR_ARCHIVE_FRAME_BYTES_MAX);
    }
    return DR_OK;
}

/* Build the whole frame in w->frame. */
static enum dr_code build_frame(struct dr_archive_writer *w, const struct dr_archive_item *item,
                                uint64_t count, size_t *bytes_out, struct dr_err *err)
{
    *bytes_out = 0;
    const uint64_t raw_bytes = dr_archive_items_bytes(item, count);
    enum dr_code rc = check_batch(w, raw_bytes, count, err);
    if (rc == DR_OK) {
        rc = dr_archive_buf_reserve(&w->raw, (size_t)raw_bytes, err);
    }
    const size_t room = rc == DR_OK ? ZSTD_compressBound((size_t)raw_bytes) : 0;
    if (rc == DR_OK) {
        rc = dr_archive_buf_reserve(&w->frame, room + DR_ARCHIVE_FRAME_EXTRA_BYTES, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    dr_archive_items_encode(w->raw.data, item, count);
    const size_t packed = ZSTD_compress2(w->packer, w->frame.data + DR_ARCHIVE_FRAME_HEADER_BYTES,
                                         room, w->raw.data, (size_t)raw_bytes);
    if (ZSTD_isError(packed)) {
        /* The room is always enough and the level was checked: what is left is memory. */
        return dr_fail(err, DR_NOMEM,
                       "%s: cannot compress %" PRIu64 " bytes: %s; free memory and "
                       "try again",
                       w->path, raw_bytes, ZSTD_getErrorName(packed));
    }
    const struct dr_archive_frame_header header = {
        .sequence = w->count,
        .count = count,
        .raw_bytes = raw_bytes,
        .packed_bytes = packed,
    };
    dr_archive_frame_encode(w->frame.data, &header);
    const size_t covered = DR_ARCHIVE_FRAME_HEADER_BYTES + packed;
    dr_archive_put_u64(w->frame.data + covered,
                       XXH3_64bits_withSeed(w->frame.data, covered, w->seed));
    *bytes_out = covered + DR_ARCHIVE_CHECKSUM_BYTES;
    return DR_OK;
}

/* One write; a test build makes it two, so that a crash between them can be tried. */
static enum dr_code write_frame(struct dr_archive_writer *w, size_t bytes, struct dr_err *err)
{
    size_t from = 0;
#ifdef DROVER_FAULTS
    enum dr_code half =
        dr_file_write_all(w->fd, w->path, w->frame.data, DR_ARCHIVE_FRAME_HEADER_BYTES, err);
    if (half == DR_OK) {
        half = dr_fault_pass("archive.put.half", err);
    }
    if (half != DR_OK) {
        return half;
    }
    from = DR_ARCHIVE_FRAME_HEADER_BYTES;
#endif
    return dr_file_write_all(w->fd, w->path, w->frame.data + from, bytes - from, err);
}

/* A put that failed could not be cut off then; nothing may be appended behind it. */
static enum dr_code cut_leftover(struct dr_archive_writer *w, struct dr_err *err)
{
    if (!w->has_leftover) {
        return DR_OK;
    }
    enum dr_code rc = cut_file(w->fd, w->path, w->length, err);
    w->has_leftover = rc != DR_OK;
    return rc;
}

static enum dr_code write_and_sync(struct dr_archive_writer *w, size_t bytes, struct dr_err *err)
{
    enum dr_code rc = dr_fault_pass("archive.put.begun", err);
    if (rc == DR_OK) {
        rc = write_frame(w, bytes, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("archive.put.written", err);
    }
    if (rc == DR_OK) {
        rc = dr_file_sync(w->fd, w->path, err);
    }
    return rc;
}

enum dr_code dr_archive_put(struct dr_archive_writer *w, const struct dr_archive_item *item,
                            uint64_t count, uint64_t *length_out, struct dr_err *err)
{
    *length_out = w->length;
    enum dr_code rc = cut_leftover(w, err);
    size_t bytes = 0;
    if (rc == DR_OK) {
        rc = build_frame(w, item, count, &bytes, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = write_and_sync(w, bytes, err);
    if (rc != DR_OK) {
        /* The first failure is the one to report; the next put or open tries again to cut. */
        w->has_leftover = true;
        enum dr_code cut = cut_leftover(w, NULL);
        (void)cut;
        return rc;
    }
    dr_fault_mark("archive.put.synced");
    w->length += bytes;
    w->count++;
    *length_out = w->length;
    return DR_OK;
}

uint64_t dr_archive_length(const struct dr_archive_writer *w)
{
    return w->length;
}

void dr_archive_close(struct dr_archive_writer *w)
{
    if (w == NULL) {
        return;
    }
    if (w->fd >= 0) {
        (void)close(w->fd); /* every put was synced: nothing is left to fail */
    }
    (void)ZSTD_freeCCtx(w->packer);
    dr_archive_buf_fini(&w->raw);
    dr_archive_buf_fini(&w->frame);
    dr_free(w->path);
    dr_free(w);
}
