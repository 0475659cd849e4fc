/* SPDX-License-Identifier: Apache-2.0 */
/* The shard of a row: CRC-32 as zlib has it (the reflected polynomial 0xEDB88320) of the id's text,
 * then Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014. Stable for
 * ever: rows lie where this says. Pure. */
#include <assert.h>

#include "catalog/table.h"

/* Half a byte at a time: sixteen numbers that can be checked by eye are enough for short ids. */
static const uint32_t crc_of_nibble[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

static uint32_t compute_crc(const char *data, size_t bytes)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= (unsigned char)data[i];
        crc = (crc >> 4) ^ crc_of_nibble[crc & 15];
        crc = (crc >> 4) ^ crc_of_nibble[crc & 15];
    }
    return ~crc;
}

uint32_t dr_table_route(uint32_t shard_count, const char *id, size_t id_bytes)
{
    uint64_t key = compute_crc(id, id_bytes);
    int64_t bucket = -1;
    int64_t next = 0;
    assert(shard_count > 0);
    while (next < (int64_t)shard_count) {
        bucket = next;
        key = key * UINT64_C(2862933555777941757) + 1;
        next = (int64_t)((double)(bucket + 1) *
                         ((double)(INT64_C(1) << 31) / (double)((key >> 33) + 1)));
    }
    return (uint32_t)bucket;
}
