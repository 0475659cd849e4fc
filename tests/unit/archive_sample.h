/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of archive/ share: a folder per test, batches whose content follows from their
 * sequence, and a segment of three of them as bytes. */
#ifndef DR_UNIT_ARCHIVE_SAMPLE_H
#define DR_UNIT_ARCHIVE_SAMPLE_H

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

#include "archive/archive.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

enum { OP = 7, STEP = 41, FRAMES = 3, LEVEL = 1, IMAGE_BYTES_MAX = 1 << 20, LOOP_MAX = 400 };

static const char context[] = "{\"store\":\"sqlite:x\",\"collection\":\"acme.orders\"}";
static const size_t header_bytes = 16 + sizeof context - 1 + 8;

static char folder[64];
static char segment[160];

static inline void remove_tree(void)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) {
        print_error("cannot remove %s\n", folder);
    }
}

static inline int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-test-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)dr_archive_path(folder, OP, STEP, segment, sizeof segment);
    return 0;
}

static inline int remove_folder(void **state)
{
    (void)state;
    dr_fault_arm(NULL);
    (void)dr_fault_io_at(0);
    (void)dr_mem_fail_at(0);
    remove_tree();
    return 0;
}

static inline void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

/* ---- batches whose content follows from their sequence ---- */

enum { ITEMS_MAX = 8 };

struct sample {
    struct dr_archive_item item[ITEMS_MAX];
    char key[ITEMS_MAX][24];
    char value[ITEMS_MAX][40];
    uint64_t count;
};

/* Has a NULL value, an empty one, an empty key and bytes that are no text. */
static inline void make_sample(uint64_t sequence, struct sample *s)
{
    s->count = 3 + sequence % 3;
    for (uint64_t i = 0; i < s->count; i++) {
        int key_len = snprintf(s->key[i], sizeof s->key[i], "key-%llu-%llu",
                               (unsigned long long)sequence, (unsigned long long)i);
        int value_len = snprintf(s->value[i], sizeof s->value[i], "value %llu of %llu",
                                 (unsigned long long)i, (unsigned long long)sequence);
        s->value[i][1] = '\0';
        s->item[i] = (struct dr_archive_item){
            .key = s->key[i],
            .value = s->value[i],
            .key_len = (uint32_t)key_len,
            .value_len = (uint32_t)value_len,
        };
    }
    s->item[0].value = NULL;
    s->item[0].value_len = 0;
    s->item[1].value_len = 0;
    s->item[2].key_len = 0;
}

static inline bool is_sample(uint64_t sequence, const struct dr_archive_item *item, uint64_t count)
{
    struct sample want;
    make_sample(sequence, &want);
    bool is_same = count == want.count;
    for (uint64_t i = 0; is_same && i < count; i++) {
        const struct dr_archive_item *w = &want.item[i];
        is_same = item[i].key_len == w->key_len && item[i].value_len == w->value_len &&
                  memcmp(item[i].key, w->key, w->key_len) == 0 &&
                  (item[i].value == NULL) == (w->value == NULL) &&
                  (w->value_len == 0 || memcmp(item[i].value, w->value, w->value_len) == 0);
    }
    return is_same;
}

static inline enum dr_code put_sample(struct dr_archive_writer *w, uint64_t sequence,
                                      uint64_t *length, struct dr_err *err)
{
    struct sample s;
    make_sample(sequence, &s);
    return dr_archive_put(w, s.item, s.count, length, err);
}

static inline enum dr_code open_writer(uint64_t acked, struct dr_archive_writer **w,
                                       struct dr_err *err)
{
    return dr_archive_open(folder, OP, STEP, acked, context, LEVEL, w, err);
}

/* ---- images of a segment ---- */

struct image {
    char *data;
    size_t bytes;
    uint64_t end[FRAMES + 1]; /* end[0] is the file header's, end[n] the n-th frame's */
};

static inline void load(struct image *image)
{
    struct dr_err err = {0};
    assert_int_equal(dr_file_load(segment, IMAGE_BYTES_MAX, &image->data, &image->bytes, &err),
                     DR_OK);
}

static inline void store(const void *data, size_t bytes)
{
    FILE *f = fopen(segment, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline uint64_t bytes_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_size : UINT64_MAX;
}

static inline void assert_stored(const void *data, size_t bytes)
{
    struct image now;
    load(&now);
    assert_int_equal(now.bytes, bytes);
    assert_memory_equal(now.data, data, bytes);
    dr_free(now.data);
}

static inline void make_image(struct image *image)
{
    struct dr_err err = {0};
    struct dr_archive_writer *w = NULL;
    assert_int_equal(open_writer(0, &w, &err), DR_OK);
    image->end[0] = dr_archive_length(w);
    assert_int_equal(image->end[0], header_bytes);
    for (uint64_t i = 0; i < FRAMES; i++) {
        assert_int_equal(put_sample(w, i, &image->end[i + 1], &err), DR_OK);
        assert_int_equal(dr_archive_length(w), image->end[i + 1]);
    }
    dr_archive_close(w);
    load(image);
    assert_int_equal(image->bytes, image->end[FRAMES]);
}

/* How many whole frames the first `bytes` bytes hold. */
static inline uint64_t frames_in(const struct image *image, uint64_t bytes)
{
    uint64_t n = 0;
    while (n < FRAMES && image->end[n + 1] <= bytes) {
        n++;
    }
    return n;
}

/* Read all frames: each is right or DR_CORRUPT, never wrong. Returns the number of right ones. */
static inline uint64_t read_right_frames(uint64_t *listed_out, uint64_t *torn_out)
{
    struct dr_err err = {0};
    struct dr_archive_reader *r = NULL;
    enum dr_code rc = dr_archive_read_open(segment, &r, &err);
    *listed_out = 0;
    *torn_out = 0;
    if (rc != DR_OK) {
        assert_int_equal(rc, DR_CORRUPT);
        assert_null(r);
        return 0;
    }
    *listed_out = dr_archive_frame_count(r);
    *torn_out = dr_archive_torn_bytes(r);
    uint64_t right = 0;
    for (uint64_t n = 0; n < *listed_out; n++) {
        const struct dr_archive_item *item = NULL;
        uint64_t count = 0;
        rc = dr_archive_read(r, n, &item, &count, &err);
        if (rc == DR_OK) {
            assert_true(is_sample(n, item, count));
            right++;
        } else {
            assert_int_equal(rc, DR_CORRUPT);
            assert_null(item);
            assert_has(err.msg, segment);
            assert_has(err.msg, "offset");
        }
    }
    dr_archive_read_close(r);
    return right;
}

static inline void assert_holds(uint64_t frames)
{
    uint64_t listed = 0;
    uint64_t torn = 0;
    assert_int_equal(read_right_frames(&listed, &torn), frames);
    assert_int_equal(listed, frames);
    assert_int_equal(torn, 0);
}

#endif
