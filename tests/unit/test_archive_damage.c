/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of archive/ on damage: it is reported with its place, never read as something else,
 * and nothing but a torn tail is ever cut off. Each test is named for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "archive/archive.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "unit/archive_sample.h"

/* ---- damage ---- */

/* Open for writing after a file was cut to `bytes`; checks what must become of it. */
static void reopen_cut(const struct image *image, size_t bytes, uint64_t acked)
{
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    store(image->data, bytes);
    enum dr_code rc = open_writer(acked, &w, &err);
    if (bytes < acked) {
        assert_int_equal(rc, DR_CORRUPT);
        assert_has(err.msg, segment);
        assert_has(err.msg, "acknowledged");
        assert_stored(image->data, bytes); /* evidence is left alone */
        return;
    }
    assert_int_equal(rc, DR_OK);
    uint64_t frames = frames_in(image, bytes);
    assert_int_equal(dr_archive_length(w), image->end[frames]);
    assert_int_equal(bytes_of(segment), image->end[frames]);
    assert_true(bytes < image->end[0] || image->end[frames] >= acked);
    assert_int_equal(put_sample(w, frames, &length, &err), DR_OK);
    dr_archive_close(w);
    assert_holds(frames + 1);
}

static void a_file_cut_anywhere_keeps_its_whole_frames(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    for (size_t bytes = 0; bytes <= image.bytes; bytes++) {
        store(image.data, bytes);
        uint64_t frames = frames_in(&image, bytes);
        uint64_t listed = 0;
        uint64_t torn = 0;
        assert_int_equal(read_right_frames(&listed, &torn), frames);
        assert_int_equal(listed, frames);
        assert_int_equal(torn, bytes - (bytes < image.end[0] ? 0 : image.end[frames]));
        struct dr_err err = {0};
        enum dr_code rc = dr_archive_verify(segment, image.end[2], NULL, NULL, NULL, &err);
        assert_int_equal(rc, bytes < image.end[2] ? DR_CORRUPT : DR_OK);
        for (size_t i = 0; i <= FRAMES; i++) {
            reopen_cut(&image, bytes, i == 0 ? 0 : image.end[i]);
        }
    }
    dr_free(image.data);
}

static void reopen_flipped(const struct image *image, const char *flipped, size_t at,
                           uint64_t acked)
{
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    store(flipped, image->bytes);
    enum dr_code rc = open_writer(acked, &w, &err);
    if (at < acked || at < image->end[FRAMES - 1]) {
        assert_int_equal(rc, DR_CORRUPT);
        assert_has(err.msg, segment);
        assert_has(err.msg, "offset");
        assert_stored(flipped, image->bytes);
        return;
    }
    /* Only the last frame, and nobody vouches for it: the same as torn. */
    assert_int_equal(rc, DR_OK);
    assert_int_equal(dr_archive_length(w), image->end[FRAMES - 1]);
    dr_archive_close(w);
    assert_holds(FRAMES - 1);
}

static void a_flipped_bit_never_gives_a_wrong_item(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    struct dr_err err = {0};
    assert_int_equal(dr_archive_check_image(image.data, image.bytes, &err), DR_OK);
    for (size_t i = 0; i < image.bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            image.data[i] = (char)(image.data[i] ^ (1 << bit));
            bool is_last = i >= image.end[FRAMES - 1];
            assert_int_equal(dr_archive_check_image(image.data, image.bytes, &err),
                             is_last ? DR_OK : DR_CORRUPT);
            store(image.data, image.bytes);
            assert_int_equal(dr_archive_verify(segment, image.bytes, NULL, NULL, NULL, &err),
                             DR_CORRUPT);
            uint64_t listed = 0;
            uint64_t torn = 0;
            uint64_t right = read_right_frames(&listed, &torn);
            assert_true(is_last ? right == FRAMES - 1 : right < FRAMES);
            assert_true(!is_last || torn > 0); /* seen on opening, even by headers only */
            if (bit == i % 8) {
                reopen_flipped(&image, image.data, i, 0);
                reopen_flipped(&image, image.data, i, image.end[2]);
                reopen_flipped(&image, image.data, i, image.bytes);
            }
            image.data[i] = (char)(image.data[i] ^ (1 << bit));
        }
    }
    dr_free(image.data);
}

static void damage_before_a_whole_frame_is_never_cut_off(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    /* The second frame's place is full of rubbish, then of zeros, then missing. */
    size_t from = (size_t)image.end[1];
    size_t upto = (size_t)image.end[2];
    char *copy = dr_memdup(image.data, image.bytes);
    for (int rubbish = 0; rubbish < 2; rubbish++) {
        memset(copy + from, rubbish == 0 ? 0x5a : 0, upto - from);
        store(copy, image.bytes);
        assert_int_equal(open_writer(0, &w, &err), DR_CORRUPT);
        assert_has(err.msg, "a whole frame stands at offset");
        assert_int_equal(dr_archive_check_image(copy, image.bytes, &err), DR_CORRUPT);
        assert_stored(copy, image.bytes);
    }
    memmove(copy + from, copy + upto, image.bytes - upto);
    size_t shorter = image.bytes - (upto - from);
    store(copy, shorter);
    assert_int_equal(open_writer(0, &w, &err), DR_CORRUPT);
    assert_stored(copy, shorter);
    dr_free(copy);

    /* A frame that stands there twice. */
    size_t first = (size_t)(image.end[1] - image.end[0]);
    copy = dr_malloc(image.bytes + first);
    memcpy(copy, image.data, image.bytes);
    memcpy(copy + image.bytes, image.data + image.end[0], first);
    store(copy, image.bytes + first);
    assert_int_equal(open_writer(0, &w, &err), DR_CORRUPT);
    dr_free(copy);
    dr_free(image.data);
}

static void a_frame_far_behind_damage_is_found(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    /* The magic of the last frame lies across each border of the search's window in turn. */
    size_t last = (size_t)(image.end[3] - image.end[2]);
    size_t window = 256 * 1024;
    size_t room = (size_t)image.end[2] + 2 * window + last;
    char *copy = dr_malloc(room);
    struct dr_err err = {0};
    for (size_t gap = window - 6; gap < window + 6; gap++) {
        memset(copy, 0xF7, room);
        memcpy(copy, image.data, (size_t)image.end[2]);
        memcpy(copy + image.end[2] + gap, image.data + image.end[2], last);
        size_t bytes = (size_t)image.end[2] + gap + last;
        assert_int_equal(dr_archive_check_image(copy, bytes, &err), DR_CORRUPT);
        store(copy, bytes);
        assert_int_equal(dr_archive_verify(segment, 0, NULL, NULL, NULL, &err), DR_CORRUPT);
        assert_int_equal(dr_archive_check_image(copy, bytes - 1, &err), DR_OK);
    }
    dr_free(copy);
    dr_free(image.data);
}

static void rows_that_hold_a_segment_are_no_frames(void **state)
{
    (void)state;
    enum { RAW_LEVEL = -100000 }; /* zstd then keeps the bytes as they are */
    static const char other[] = "{\"store\":\"other\"}";
    struct image inner;
    make_image(&inner);
    struct dr_err err = {0};
    struct dr_archive_item item = {
        .key = "k", .key_len = 1, .value = inner.data, .value_len = (uint32_t)inner.bytes};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    char path[200];
    (void)dr_archive_path(folder, OP, STEP + 1, path, sizeof path);
    assert_int_equal(dr_archive_open(folder, OP, STEP + 1, 0, other, RAW_LEVEL, &w, &err), DR_OK);
    uint64_t start = dr_archive_length(w);
    assert_int_equal(dr_archive_put(w, &item, 1, &length, &err), DR_OK);
    dr_archive_close(w);
    char *outer = NULL;
    size_t outer_bytes = 0;
    assert_int_equal(dr_file_load(path, IMAGE_BYTES_MAX, &outer, &outer_bytes, &err), DR_OK);
    assert_non_null(memmem(outer, outer_bytes, inner.data + inner.end[1],
                           (size_t)(inner.end[2] - inner.end[1])));
    assert_int_equal(truncate(path, (off_t)length - 1), 0);
    assert_int_equal(dr_archive_open(folder, OP, STEP + 1, 0, other, RAW_LEVEL, &w, &err), DR_OK);
    assert_int_equal(dr_archive_length(w), start);
    dr_archive_close(w);
    dr_free(outer);
    dr_free(inner.data);
}

static void acknowledged_bytes_end_with_a_frame(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    for (uint64_t acked = 1; acked <= image.bytes; acked++) {
        bool is_end = false;
        for (size_t i = 0; i <= FRAMES; i++) {
            is_end = is_end || acked == image.end[i];
        }
        struct dr_err err = {0};
        assert_int_equal(dr_archive_verify(segment, acked, NULL, NULL, NULL, &err),
                         is_end ? DR_OK : DR_CORRUPT);
    }
    dr_free(image.data);
}

static void a_missing_file_is_not_made_when_acknowledged(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    struct dr_archive_reader *r = NULL;
    assert_int_equal(open_writer(100, &w, &err), DR_CORRUPT);
    assert_has(err.msg, "is missing");
    assert_int_equal(bytes_of(segment), UINT64_MAX);
    assert_int_equal(dr_archive_read_open(segment, &r, &err), DR_NOT_FOUND);
    assert_int_equal(dr_archive_verify(segment, 0, NULL, NULL, NULL, &err), DR_NOT_FOUND);
    assert_int_equal(dr_archive_verify(segment, 100, NULL, NULL, NULL, &err), DR_CORRUPT);
    assert_int_equal(dr_archive_read_open(folder, &r, &err), DR_INPUT);
}

static void a_header_torn_at_creation_is_written_anew(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    char *zeros = dr_calloc(1, header_bytes);
    struct dr_err err = {0};
    for (size_t bytes = 0; bytes <= header_bytes; bytes++) {
        for (int is_zero = 0; is_zero < 2; is_zero++) { /* length kept, content lost */
            struct dr_archive_writer *w = NULL;
            store(is_zero ? zeros : image.data, bytes);
            uint64_t listed = 0;
            uint64_t torn = 0;
            assert_int_equal(read_right_frames(&listed, &torn), 0);
            assert_int_equal(listed, 0);
            assert_int_equal(torn, !is_zero && bytes == header_bytes ? 0 : bytes);
            assert_int_equal(open_writer(0, &w, &err), DR_OK);
            dr_archive_close(w);
            assert_stored(image.data, header_bytes);
        }
    }
    dr_free(zeros);
    dr_free(image.data);
}

static void another_format_version_is_refused(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    image.data[8] = 2;
    uint64_t sum = XXH3_64bits(image.data, header_bytes - 8);
    for (size_t i = 0; i < 8; i++) {
        image.data[header_bytes - 8 + i] = (char)(sum >> (8 * i));
    }
    store(image.data, image.bytes);
    assert_int_equal(open_writer(0, &w, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "version");
    assert_int_equal(dr_archive_check_image(image.data, image.bytes, &err), DR_UNSUPPORTED);
    dr_free(image.data);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(a_file_cut_anywhere_keeps_its_whole_frames),
        EACH(a_flipped_bit_never_gives_a_wrong_item),
        EACH(damage_before_a_whole_frame_is_never_cut_off),
        EACH(a_frame_far_behind_damage_is_found),
        EACH(rows_that_hold_a_segment_are_no_frames),
        EACH(acknowledged_bytes_end_with_a_frame),
        EACH(a_missing_file_is_not_made_when_acknowledged),
        EACH(a_header_torn_at_creation_is_written_anew),
        EACH(another_format_version_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
