/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of archive/: what was acknowledged is read back exactly, a put that fails or dies
 * leaves no trace. Each test is named for one; damage has a file of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive/archive.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/mem.h"
#include "unit/archive_sample.h"

/* ---- reading back ---- */

static void frames_are_read_back_exactly(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    struct dr_err err = {0};
    struct dr_archive_reader *r = NULL;
    assert_int_equal(dr_archive_read_open(segment, &r, &err), DR_OK);
    assert_string_equal(dr_archive_context(r), context);
    assert_int_equal(dr_archive_frame_count(r), FRAMES);
    assert_int_equal(dr_archive_torn_bytes(r), 0);
    for (uint64_t n = FRAMES; n-- > 0;) { /* backwards, as an undo reads */
        const struct dr_archive_item *item = NULL;
        uint64_t count = 0;
        assert_int_equal(dr_archive_read(r, n, &item, &count, &err), DR_OK);
        assert_true(is_sample(n, item, count));
        assert_null(item[0].value);
        assert_non_null(item[1].value);
        assert_int_equal(item[1].value_len, 0);
        struct dr_archive_frame frame = dr_archive_frame_at(r, n);
        assert_int_equal(frame.sequence, n);
        assert_int_equal(frame.offset, image.end[n]);
        assert_int_equal(frame.offset + frame.bytes, image.end[n + 1]);
        assert_int_equal(frame.count, count);
    }
    const struct dr_archive_item *item = NULL;
    uint64_t count = 0;
    assert_int_equal(dr_archive_read(r, FRAMES, &item, &count, &err), DR_NOT_FOUND);
    dr_archive_read_close(r);

    uint64_t frames = 0;
    uint64_t items = 0;
    uint64_t bytes = 0;
    assert_int_equal(dr_archive_verify(segment, image.bytes, &frames, &items, &bytes, &err), DR_OK);
    assert_int_equal(frames, FRAMES);
    assert_int_equal(items, 3 + 4 + 5);
    assert_int_equal(bytes, image.bytes);
    assert_int_equal(dr_archive_verify(segment, 0, NULL, NULL, NULL, &err), DR_OK);
    dr_free(image.data);
}

static void reopening_appends_behind_what_is_there(void **state)
{
    (void)state;
    struct dr_err err = {0};
    uint64_t length = 0;
    for (uint64_t i = 0; i < 10; i++) {
        struct dr_archive_writer *w = NULL;
        assert_int_equal(open_writer(length, &w, &err), DR_OK);
        assert_int_equal(dr_archive_length(w), length == 0 ? header_bytes : length);
        assert_int_equal(put_sample(w, i, &length, &err), DR_OK);
        dr_archive_close(w);
    }
    assert_int_equal(bytes_of(segment), length);
    assert_holds(10);
}

static void a_frame_nobody_vouches_for_stays(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    struct dr_err err = {0};
    for (size_t i = 0; i <= FRAMES; i++) {
        struct dr_archive_writer *w = NULL;
        assert_int_equal(open_writer(i == 0 ? 0 : image.end[i], &w, &err), DR_OK);
        assert_int_equal(dr_archive_length(w), image.bytes);
        dr_archive_close(w);
        assert_stored(image.data, image.bytes);
    }
    dr_free(image.data);
}

static void a_large_batch_is_read_back(void **state)
{
    (void)state;
    enum { COUNT = 20000, BYTES = 300 };
    struct dr_archive_item *item = dr_calloc(COUNT, sizeof *item);
    uint8_t *bytes = dr_malloc((size_t)COUNT * BYTES);
    assert_non_null(item);
    assert_non_null(bytes);
    uint64_t random = 1;
    for (size_t i = 0; i < (size_t)COUNT * BYTES; i++) { /* does not compress */
        random = random * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(random >> 56);
    }
    for (size_t i = 0; i < COUNT; i++) {
        item[i] = (struct dr_archive_item){
            .key = bytes + i * BYTES, .key_len = 9, .value = bytes + i * BYTES, .value_len = BYTES};
    }
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    assert_int_equal(dr_archive_put(w, item, COUNT, &length, &err), DR_OK);
    assert_true(length > (uint64_t)COUNT * BYTES);
    dr_archive_close(w);
    struct dr_archive_reader *r = NULL;
    const struct dr_archive_item *got = NULL;
    uint64_t count = 0;
    assert_int_equal(dr_archive_read_open(segment, &r, &err), DR_OK);
    assert_int_equal(dr_archive_read(r, 0, &got, &count, &err), DR_OK);
    assert_int_equal(count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(got[i].key_len, 9);
        assert_int_equal(got[i].value_len, BYTES);
        assert_memory_equal(got[i].key, item[i].key, 9);
        assert_memory_equal(got[i].value, item[i].value, BYTES);
    }
    dr_archive_read_close(r);
    dr_free(item);
    dr_free(bytes);
}

static void a_warm_writer_allocates_nothing(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    assert_int_equal(put_sample(w, 2, &length, &err), DR_OK);
    (void)dr_mem_fail_at(0);
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(put_sample(w, i, &length, &err), DR_OK);
    }
    assert_int_equal(dr_mem_fail_at(0), 0);
    dr_archive_close(w);
}

/* ---- failures of a put ---- */

static void a_failed_put_leaves_the_file_as_it_was(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        enum dr_code code;
    } rows[] = {
        {"archive.put.begun=error", DR_IO},   {"archive.put.half=error", DR_IO},
        {"archive.put.written=error", DR_IO}, {"archive.put.begun=full", DR_FULL},
        {"archive.put.half=full", DR_FULL},   {"archive.put.written=full", DR_FULL},
    };
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    for (uint64_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t before = dr_archive_length(w);
        dr_fault_arm(rows[i].spec);
        assert_int_equal(put_sample(w, i, &length, &err), rows[i].code);
        assert_int_equal(length, before);
        assert_int_equal(dr_archive_length(w), before);
        assert_int_equal(bytes_of(segment), before);
        assert_int_equal(put_sample(w, i, &length, &err), DR_OK);
        assert_int_equal(bytes_of(segment), length);
    }
    dr_fault_arm(NULL);
    dr_archive_close(w);
    assert_holds(sizeof rows / sizeof rows[0]);
}

static void a_kill_at_any_point_loses_no_acknowledged_frame(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        uint64_t frames; /* whole ones afterwards; one was acknowledged before */
    } rows[] = {
        {"archive.put.begun=kill", 1},
        {"archive.put.half=kill", 1},
        {"archive.put.written=kill", 2},
        {"archive.put.synced=kill", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        struct dr_archive_writer *w = NULL;
        uint64_t acked = 0;
        (void)unlink(segment);
        assert_int_equal(open_writer(0, &w, &err), DR_OK);
        assert_int_equal(put_sample(w, 0, &acked, &err), DR_OK);
        dr_archive_close(w);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            uint64_t length = 0;
            dr_fault_arm(rows[i].spec);
            enum dr_code rc = open_writer(acked, &w, NULL);
            rc = rc == DR_OK ? put_sample(w, 1, &length, NULL) : rc;
            _exit(rc == DR_OK ? 0 : 1); /* must not be reached */
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(open_writer(acked, &w, &err), DR_OK);
        assert_true(dr_archive_length(w) >= acked);
        dr_archive_close(w);
        assert_holds(rows[i].frames);
    }
}

/* Three puts with a failure somewhere, trying each twice; what was acknowledged must be there. */
static enum dr_code work_through(uint64_t *acked_frames, uint64_t *acked_bytes)
{
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    enum dr_code first = open_writer(0, &w, &err);
    enum dr_code rc = first;
    if (rc != DR_OK) {
        assert_true(err.msg[0] != '\0');
        rc = open_writer(0, &w, &err);
    }
    assert_int_equal(rc, DR_OK);
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint64_t length = 0;
        rc = put_sample(w, i, &length, &err);
        if (rc != DR_OK) {
            first = rc;
            rc = put_sample(w, i, &length, &err);
        }
        assert_int_equal(rc, DR_OK);
        *acked_frames = i + 1;
        *acked_bytes = length;
    }
    dr_archive_close(w);
    return first;
}

/* As work_through, but giving up at the first failure, as a worker that dies would. */
static enum dr_code work_until_failure(uint64_t *acked_frames, uint64_t *acked_bytes)
{
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    *acked_frames = 0;
    *acked_bytes = 0;
    enum dr_code rc = open_writer(0, &w, &err);
    for (uint64_t i = 0; rc == DR_OK && i < FRAMES; i++) {
        uint64_t length = 0;
        rc = put_sample(w, i, &length, &err);
        if (rc == DR_OK) {
            *acked_frames = i + 1;
            *acked_bytes = length;
        }
    }
    dr_archive_close(w);
    return rc;
}

static void fail_each(uint64_t (*arm)(uint64_t), enum dr_code expected)
{
    uint64_t n = 1;
    for (; n < LOOP_MAX; n++) {
        uint64_t frames = 0;
        uint64_t bytes = 0;
        (void)unlink(segment);
        (void)arm(n);
        enum dr_code rc = work_until_failure(&frames, &bytes);
        (void)arm(0);
        struct dr_err err = {0};
        struct dr_archive_writer *w = NULL;
        assert_int_equal(open_writer(bytes, &w, &err), DR_OK);
        dr_archive_close(w);
        assert_holds(frames);

        (void)unlink(segment);
        (void)arm(n);
        enum dr_code again = work_through(&frames, &bytes);
        (void)arm(0);
        assert_int_equal(again, rc);
        assert_int_equal(frames, FRAMES);
        assert_int_equal(bytes_of(segment), bytes);
        assert_holds(FRAMES);
        if (rc == DR_OK) {
            break;
        }
        assert_int_equal(rc, expected);
    }
    assert_true(n > 5 && n < LOOP_MAX);
}

static void any_failing_file_operation_is_survived(void **state)
{
    (void)state;
    fail_each(dr_fault_io_at, DR_IO);
}

static void any_failing_allocation_is_survived(void **state)
{
    (void)state;
    fail_each(dr_mem_fail_at, DR_NOMEM);
}

/* A put and the cut after it both fail: the handle must not append behind the leftover. */
static void a_leftover_is_cut_before_the_next_put(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    assert_int_equal(put_sample(w, 0, &length, &err), DR_OK);
    dr_fault_arm("archive.put.half=error");
    (void)dr_fault_io_at(2); /* the header is written, cutting fails */
    assert_int_equal(put_sample(w, 1, &length, &err), DR_IO);
    dr_fault_arm(NULL);
    assert_true(bytes_of(segment) > length);
    (void)dr_fault_io_at(1); /* cutting fails once more */
    assert_int_equal(put_sample(w, 1, &length, &err), DR_IO);
    (void)dr_fault_io_at(0);
    assert_int_equal(put_sample(w, 1, &length, &err), DR_OK);
    dr_archive_close(w);
    assert_int_equal(bytes_of(segment), length);
    assert_holds(2);
}

static void reading_survives_any_failure(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    assert_int_equal(truncate(segment, (off_t)image.bytes - 1), 0);
    uint64_t (*const arm[])(uint64_t) = {dr_fault_io_at, dr_mem_fail_at};
    const enum dr_code expected[] = {DR_IO, DR_NOMEM};
    for (size_t k = 0; k < 2; k++) {
        uint64_t n = 1;
        for (; n < LOOP_MAX; n++) {
            struct dr_err err = {0};
            struct dr_archive_reader *r = NULL;
            (void)arm[k](n);
            enum dr_code rc = dr_archive_read_open(segment, &r, &err);
            for (uint64_t i = 0; rc == DR_OK && i < FRAMES - 1; i++) {
                const struct dr_archive_item *item = NULL;
                uint64_t count = 0;
                rc = dr_archive_read(r, i, &item, &count, &err);
                assert_true(rc != DR_OK || is_sample(i, item, count));
            }
            dr_archive_read_close(r);
            if (rc == DR_OK) {
                rc = dr_archive_verify(segment, image.end[2], NULL, NULL, NULL, &err);
            }
            (void)arm[k](0);
            if (rc == DR_OK) {
                break;
            }
            assert_int_equal(rc, expected[k]);
        }
        assert_true(n > 5 && n < LOOP_MAX);
    }
    dr_free(image.data);
}

/* ---- limits and neighbours ---- */

static void a_segment_has_one_writer(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_archive_writer *first = NULL;
    struct dr_archive_writer *second = NULL;
    assert_int_equal(open_writer(0, &first, &err), DR_OK);
    assert_int_equal(open_writer(0, &second, &err), DR_BUSY);
    assert_null(second);
    dr_archive_close(first);
    assert_int_equal(open_writer(0, &second, &err), DR_OK);
    dr_archive_close(second);
    dr_archive_close(NULL);
    dr_archive_read_close(NULL);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    uint64_t length = 0;
    char *large = dr_malloc(65 * 1024 + 1);
    memset(large, 'x', 65 * 1024);
    large[65 * 1024] = '\0';
    assert_int_equal(dr_archive_open(folder, OP, STEP, 0, large, LEVEL, &w, &err), DR_INPUT);
    assert_int_equal(dr_archive_open(folder, OP, STEP, 0, context, 1000, &w, &err), DR_INPUT);
    dr_free(large);
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    /* The lengths are looked at before the bytes. */
    struct dr_archive_item item = {
        .key = "k", .key_len = 1, .value = "v", .value_len = DR_ARCHIVE_FRAME_BYTES_MAX};
    assert_int_equal(dr_archive_put(w, &item, 1, &length, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "batch_bytes_max");
    item.value_len = UINT32_MAX;
    assert_int_equal(dr_archive_put(w, &item, 1, &length, &err), DR_UNSUPPORTED);
    assert_int_equal(dr_archive_put(w, &item, 0, &length, &err), DR_INTERNAL);
    assert_int_equal(length, header_bytes);
    assert_int_equal(put_sample(w, 0, &length, &err), DR_OK);
    dr_archive_close(w);
    assert_holds(1);
}

static void removing_takes_all_segments_of_one_operation(void **state)
{
    (void)state;
    struct dr_err err = {0};
    uint64_t bytes = 1;
    assert_int_equal(dr_archive_remove(folder, OP, &bytes, &err), DR_OK);
    assert_int_equal(bytes, 0);
    uint64_t sum = 0;
    for (int64_t step = 1; step <= 3; step++) {
        for (int64_t op = OP; op <= OP + 1; op++) {
            struct dr_archive_writer *w = NULL;
            uint64_t length = 0;
            assert_int_equal(dr_archive_open(folder, op, step, 0, context, LEVEL, &w, &err), DR_OK);
            assert_int_equal(put_sample(w, 0, &length, &err), DR_OK);
            dr_archive_close(w);
            sum += op == OP ? length : 0;
        }
    }
    uint64_t removed = 0;
    uint64_t n = 1;
    for (; n < LOOP_MAX; n++) { /* may fail anywhere and is then repeated */
        (void)dr_fault_io_at(n);
        enum dr_code rc = dr_archive_remove(folder, OP, &bytes, &err);
        (void)dr_fault_io_at(0);
        removed += bytes;
        if (rc == DR_OK) {
            break;
        }
        assert_int_equal(rc, DR_IO);
    }
    assert_true(n > 3 && n < LOOP_MAX);
    assert_int_equal(removed, sum);
    char op_folder[100];
    (void)snprintf(op_folder, sizeof op_folder, "%s/archive/op-%d", folder, OP);
    assert_int_equal(bytes_of(op_folder), UINT64_MAX);
    char path[200];
    for (int64_t step = 1; step <= 3; step++) {
        assert_int_equal(bytes_of(dr_archive_path(folder, OP, step, path, sizeof path)),
                         UINT64_MAX);
        assert_int_equal(dr_archive_verify(dr_archive_path(folder, OP + 1, step, path, sizeof path),
                                           0, NULL, NULL, NULL, &err),
                         DR_OK);
    }
    assert_int_equal(dr_archive_remove(folder, OP, NULL, &err), DR_OK);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(frames_are_read_back_exactly),
        EACH(reopening_appends_behind_what_is_there),
        EACH(a_frame_nobody_vouches_for_stays),
        EACH(a_large_batch_is_read_back),
        EACH(a_warm_writer_allocates_nothing),
        EACH(a_failed_put_leaves_the_file_as_it_was),
        EACH(a_kill_at_any_point_loses_no_acknowledged_frame),
        EACH(any_failing_file_operation_is_survived),
        EACH(any_failing_allocation_is_survived),
        EACH(a_leftover_is_cut_before_the_next_put),
        EACH(reading_survives_any_failure),
        EACH(a_segment_has_one_writer),
        EACH(what_does_not_fit_is_refused),
        EACH(removing_takes_all_segments_of_one_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
