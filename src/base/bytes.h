/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in messages, cursors and files: little-endian, 1 to 8 bytes. */
#ifndef DR_BASE_BYTES_H
#define DR_BASE_BYTES_H

#include <stdint.h>

static inline void dr_put_le(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint64_t dr_get_le(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

#endif
