/* SPDX-License-Identifier: Apache-2.0 */
/* A segment's image from anywhere: no crash, no endless loop, no unbounded memory. The input is
 * tried as it is, then with the checksums made right: as frames behind a good file header, as the
 * payload of a good frame, and as the items inside of a good payload. Otherwise checksums would
 * keep the fuzzer out of all that lies behind them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include <zstd.h>

#include "archive/archive.h"

enum { HEADER_BYTES = 16 + 2 + 8, FRAME_BYTES = 40, SUM_BYTES = 8, INPUT_BYTES_MAX = 1 << 16 };

static void put_number(uint8_t *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

/* Written here byte by byte as the format's second, independent description. */
static uint64_t put_file_header(uint8_t *to)
{
    memcpy(to, "DRARCH1\n", 8);
    put_number(to + 8, 1, 4);
    put_number(to + 12, 2, 4);
    memcpy(to + 16, "{}", 2);
    uint64_t seed = XXH3_64bits(to, 18);
    put_number(to + 18, seed, 8);
    return seed;
}

static size_t put_frame(uint8_t *to, uint64_t seed, uint64_t count, uint64_t raw_bytes,
                        size_t packed_bytes)
{
    static const uint8_t magic[4] = {0xF7, 'D', 'F', 0xFE};
    memcpy(to, magic, sizeof magic);
    put_number(to + 4, 1, 4);
    put_number(to + 8, 0, 8);
    put_number(to + 16, count, 8);
    put_number(to + 24, raw_bytes, 8);
    put_number(to + 32, packed_bytes, 8);
    put_number(to + FRAME_BYTES + packed_bytes,
               XXH3_64bits_withSeed(to, FRAME_BYTES + packed_bytes, seed), 8);
    return FRAME_BYTES + packed_bytes + SUM_BYTES;
}

static void check(const uint8_t *image, size_t bytes)
{
    struct dr_err err = {0};
    enum dr_code rc = dr_archive_check_image(image, bytes, &err);
    if (rc != DR_OK && err.msg[0] == '\0') {
        abort(); /* a refusal says why */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_BYTES_MAX) {
        return 0;
    }
    check(data, size);

    const size_t room = HEADER_BYTES + FRAME_BYTES + ZSTD_compressBound(size) + SUM_BYTES;
    uint8_t *image = malloc(room);
    if (image == NULL) {
        return 0;
    }
    const uint64_t seed = put_file_header(image);
    uint8_t *frame = image + HEADER_BYTES;

    memcpy(frame, data, size);
    check(image, HEADER_BYTES + size);
    if (size >= FRAME_BYTES + SUM_BYTES) {
        put_number(frame + size - SUM_BYTES, XXH3_64bits_withSeed(frame, size - SUM_BYTES, seed),
                   8);
        check(image, HEADER_BYTES + size);
    }
    unsigned long long raw = ZSTD_getFrameContentSize(data, size);
    if (raw <= 1 << 20) { /* larger ones are sound, but slow */
        memcpy(frame + FRAME_BYTES, data, size);
        check(image, HEADER_BYTES + put_frame(frame, seed, raw / 9, raw, size));
    }
    size_t packed = ZSTD_compress(frame + FRAME_BYTES, ZSTD_compressBound(size), data, size, 1);
    if (size > 0 && !ZSTD_isError(packed)) {
        check(image, HEADER_BYTES + put_frame(frame, seed, 1 + data[0] % 4, size, packed));
    }
    free(image);
    return 0;
}
