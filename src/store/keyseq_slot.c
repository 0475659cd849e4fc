/* SPDX-License-Identifier: Apache-2.0 */
/* Owns which slot of a Redis cluster a key lives in: CRC16 (XMODEM: polynomial 0x1021, start 0) of
 * its hash tag, which is what stands between the first "{" and the first "}" behind it. */
#include <string.h>

#include "store/keyseq.h"

enum { SLOTS = 16384, POLYNOMIAL = 0x1021 };

static uint32_t sum_up(const char *data, size_t bytes)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= (uint32_t)(unsigned char)data[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) != 0 ? (crc << 1) ^ POLYNOMIAL : crc << 1;
        }
        crc &= 0xffff;
    }
    return crc;
}

uint32_t dr_redis_slot(const char *key, size_t bytes)
{
    const char *open = memchr(key, '{', bytes);
    if (open != NULL) {
        size_t rest = bytes - (size_t)(open + 1 - key);
        const char *close = memchr(open + 1, '}', rest);
        if (close != NULL && close > open + 1) { /* "{}" is no tag */
            return sum_up(open + 1, (size_t)(close - open - 1)) % SLOTS;
        }
    }
    return sum_up(key, bytes) % SLOTS;
}
