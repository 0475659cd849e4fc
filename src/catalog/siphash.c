/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 with the all-zero key: Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * 2012. Two doors to one function: bytes, and whole little-endian words, which is what numeric ids
 * and the nodes of a ring are and what the speed of a lookup hangs on. Pure. */
#include <endian.h>
#include <string.h>

#include "catalog/catalog_private.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static inline void run_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = rotate_left(s->v2, 32);
}

static inline void take_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    run_round(s);
    run_round(s);
    s->v0 ^= word;
}

/* The initial state is the paper's constant xor a key of zeros. */
static inline struct sip start_hash(void)
{
    return (struct sip){
        .v0 = UINT64_C(0x736f6d6570736575),
        .v1 = UINT64_C(0x646f72616e646f6d),
        .v2 = UINT64_C(0x6c7967656e657261),
        .v3 = UINT64_C(0x7465646279746573),
    };
}

static inline uint64_t finish_hash(struct sip *s, uint64_t last_word)
{
    take_word(s, last_word);
    s->v2 ^= 0xff;
    run_round(s);
    run_round(s);
    run_round(s);
    run_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t dr_catalog_hash_words(const uint64_t *word, size_t count)
{
    struct sip s = start_hash();
    for (size_t i = 0; i < count; i++) {
        take_word(&s, word[i]);
    }
    return finish_hash(&s, (uint64_t)(count * 8) << 56);
}

uint64_t dr_siphash(const void *data, size_t bytes)
{
    const unsigned char *at = data;
    struct sip s = start_hash();
    size_t whole = bytes / 8;
    for (size_t i = 0; i < whole; i++) {
        uint64_t word;
        memcpy(&word, at + i * 8, 8);
        take_word(&s, le64toh(word));
    }
    uint64_t last = (uint64_t)bytes << 56;
    for (size_t i = 0; i < bytes % 8; i++) {
        last |= (uint64_t)at[whole * 8 + i] << (8 * i);
    }
    return finish_hash(&s, last);
}
