/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of points and shard keys, and the hash that places them. Pure.
 *
 * The hash is SipHash-2-4 (Aumasson, Bernstein 2012) with an all-zero 128-bit key over
 * little-endian bytes: a number is u64 0, u64 id; a UUID is u64 1, u64 16 and its 16 bytes in RFC
 * 9562 order; a text is u64 2, u64 length and its bytes. Stable for ever: data lie where it says. A
 * shard key never enters a hash. */
#ifndef DR_CATALOG_IDS_H
#define DR_CATALOG_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

enum { DR_SHARD_KEY_BYTES_MAX = 255, DR_POINT_TEXT_BYTES_MAX = 1024 };

/* 12 and "12" are two keys. */
struct dr_shard_key {
    bool is_number;
    uint64_t number;
    char text[DR_SHARD_KEY_BYTES_MAX + 1]; /* not empty; valid UTF-8 without control characters */
};
int dr_shard_key_compare(const struct dr_shard_key *a,
                         const struct dr_shard_key *b); /* numbers first */
/* JSON: a string or an unsigned integer. DR_INPUT names `where`. */
DR_MUST enum dr_code dr_shard_key_from_json(const json_t *j, const char *where,
                                            struct dr_shard_key *out, struct dr_err *err);
json_t *dr_shard_key_to_json(const struct dr_shard_key *k); /* NULL when memory is short */
/* For people and messages: "eu" in quotes, 7 without. Returns buf. */
char *dr_shard_key_print(const struct dr_shard_key *k, char *buf, size_t buf_bytes);

enum dr_point_kind { DR_POINT_NUMBER, DR_POINT_UUID, DR_POINT_TEXT };
struct dr_point_id {
    enum dr_point_kind kind;
    uint64_t number;
    uint8_t uuid[16];
    const char *text; /* borrowed */
    size_t text_len;
};
/* JSON: unsigned integer; a string that is a UUID (hyphenated, simple, urn:uuid:, braced) is that
 * UUID, one of digits only that fits u64 is that number, any other is a text. */
DR_MUST enum dr_code dr_point_id_from_json(const json_t *j, const char *where,
                                           struct dr_point_id *out, struct dr_err *err);
json_t *dr_point_id_to_json(const struct dr_point_id *id);

uint64_t dr_siphash(const void *data, size_t bytes);
uint64_t dr_point_hash(const struct dr_point_id *id);

#endif
