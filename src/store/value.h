/* SPDX-License-Identifier: Apache-2.0 */
/* Typed values, key bounds and ranges: the vocabulary every store shares.
 *
 * The order of values is MIN < NULL < numbers < text < blob < tagged < MAX; text, blobs and tagged
 * compare by bytes, numbers by value across INT and REAL. Values borrow their bytes unless a
 * function says otherwise. */
#ifndef DR_STORE_VALUE_H
#define DR_STORE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

/* The numbers are stored: new types go to the end. */
enum dr_value_type {
    DR_V_MIN,
    DR_V_NULL,
    DR_V_INT,
    DR_V_REAL,
    DR_V_TEXT,
    DR_V_BLOB,
    DR_V_MAX,
    DR_V_TAGGED, /* a type only some stores have: its tag in the first byte, then bytes whose order
                    is the order of the values; only that store's adapter makes and reads it */
};

/* Tags, in the order in which document stores sort their types. A payload that no line describes is
 * the adapter's own. */
enum dr_tag {
    DR_TAG_DECIMAL = 1,
    DR_TAG_OBJECT = 3,
    DR_TAG_ARRAY = 4,
    DR_TAG_BINARY = 5,
    DR_TAG_OBJECT_ID = 7,  /* 12 bytes */
    DR_TAG_BOOL = 8,       /* 1 byte */
    DR_TAG_DATE = 9,       /* ms since 1970, 8 bytes, big-endian, sign bit flipped */
    DR_TAG_TIMESTAMP = 10, /* seconds and counter, 4 bytes each, big-endian */
    DR_TAG_REGEX = 11,
    DR_TAG_OTHER = 15,
};

struct dr_value {
    enum dr_value_type type;
    int64_t i;        /* DR_V_INT */
    double r;         /* DR_V_REAL, never NaN */
    const void *data; /* DR_V_TEXT (not terminated), DR_V_BLOB, DR_V_TAGGED */
    size_t len;
};

enum { DR_KEY_PARTS_MAX = 8 };

/* One end of a half-open range over a (compound) key. parts == 0 means "no bound". */
struct dr_bound {
    uint32_t parts;
    struct dr_value part[DR_KEY_PARTS_MAX];
};

int dr_value_compare(const struct dr_value *a, const struct dr_value *b); /* <0, 0, >0 */
int dr_bound_compare(const struct dr_bound *a, const struct dr_bound *b); /* shorter is a prefix */

/* JSON: null, true/false (1/0), integer, real, "text", {"$blob": "hex"}, {"$min": 1}, {"$max": 1},
 * {"$tagged": "hex"}.
 * Text that is not valid UTF-8 travels as {"$text": "hex"}. from_json copies into the arena. */
json_t *dr_value_to_json(const struct dr_value *v); /* NULL when memory is short */
DR_MUST enum dr_code dr_value_from_json(const json_t *j, struct dr_arena *a, struct dr_value *out,
                                        struct dr_err *err);
json_t *dr_bound_to_json(const struct dr_bound *b); /* an array */
DR_MUST enum dr_code dr_bound_from_json(const json_t *j, struct dr_arena *a, struct dr_bound *out,
                                        struct dr_err *err);
/* For people: 12, "abc", x'00ff', MinKey, MaxKey, ObjectId("..."), ISODate("..."). */
void dr_value_print(const struct dr_value *v, struct dr_str *out);

/* Binary codec of a row of values (archive records, cursors): versioned by its first byte, bounded,
 * little-endian. decode borrows text and blobs from `data`. DR_CORRUPT on anything malformed. */
void dr_values_encode(const struct dr_value *v, uint32_t count, struct dr_str *out);
DR_MUST enum dr_code dr_values_decode(const void *data, size_t bytes, struct dr_value *v,
                                      uint32_t count_max, uint32_t *count_out, struct dr_err *err);

/* The documented 64-bit hash of hash-sharded collections of our own stores: XXH64 with seed 0 over
 * the encoded single value (dr_values_encode of it, REAL that is integral counted as INT), taken as
 * a signed integer. Stable for ever: chunk bounds are compared with it. */
int64_t dr_value_hash(const struct dr_value *v);

#endif
