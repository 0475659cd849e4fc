/* SPDX-License-Identifier: Apache-2.0 */
/* What hashing and sorting share: a value's class and bytes, and decimals taken apart, of which
 * BSON has only the bits. */
#ifndef DR_STORE_MONGODB_NUMBER_PRIVATE_H
#define DR_STORE_MONGODB_NUMBER_PRIVATE_H

#include <mongoc/mongoc.h>

/* The class under which the server sorts a type: -1 for MinKey ... 127 for MaxKey. */
int mg_canonical(bson_type_t type);
/* The value's own bytes in its document, without type and name. */
const uint8_t *mg_value_bytes(const bson_iter_t *it, size_t *bytes_out);

enum { MG_DECIMAL_DIGITS = 34, MG_DECIMAL_BIAS = 6176 };

__extension__ typedef unsigned __int128 mg_u128;

enum mg_decimal_class { MG_DECIMAL_FINITE, MG_DECIMAL_INFINITE, MG_DECIMAL_NAN };

/* (-1)^is_negative * coefficient * 10^exponent */
struct mg_decimal {
    enum mg_decimal_class is;
    bool is_negative;
    mg_u128 coefficient;
    int exponent;
};

/* 10^34, one more than the largest coefficient. */
static inline mg_u128 mg_decimal_limit(void)
{
    const mg_u128 ten17 = UINT64_C(100000000000000000);
    return ten17 * ten17;
}

/* Coefficients that do not fit 34 digits count as 0, as the format's standard says. */
static inline struct mg_decimal mg_decimal_from(const bson_decimal128_t *d)
{
    struct mg_decimal out = {.is = MG_DECIMAL_FINITE, .is_negative = (d->high >> 63) != 0};
    unsigned combination = (unsigned)((d->high >> 58) & 0x1f);
    if (combination == 0x1f) {
        out.is = MG_DECIMAL_NAN;
    } else if (combination == 0x1e) {
        out.is = MG_DECIMAL_INFINITE;
    } else if (combination >= 0x18) {
        out.exponent = (int)((d->high >> 47) & 0x3fff) - MG_DECIMAL_BIAS;
    } else {
        out.exponent = (int)((d->high >> 49) & 0x3fff) - MG_DECIMAL_BIAS;
        out.coefficient = ((mg_u128)(d->high & UINT64_C(0x1ffffffffffff)) << 64) | d->low;
        if (out.coefficient >= mg_decimal_limit()) {
            out.coefficient = 0;
        }
    }
    return out;
}

#endif
