/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which servers sort values with the simple collation: by class of type first, numbers
 * of all widths by value. */
#include <netdb.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mongodb/mongodb_private.h"
#include "store/mongodb/number_private.h"

enum { NUMBER_BYTES = 64 };

/* The class under which the server sorts a type. */
int mg_canonical(bson_type_t type)
{
    switch (type) {
    case BSON_TYPE_MINKEY:
        return -1;
    case BSON_TYPE_EOD:
    case BSON_TYPE_UNDEFINED:
        return 0;
    case BSON_TYPE_NULL:
        return 5;
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DECIMAL128:
        return 10;
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
        return 15;
    case BSON_TYPE_DOCUMENT:
        return 20;
    case BSON_TYPE_ARRAY:
        return 25;
    case BSON_TYPE_BINARY:
        return 30;
    case BSON_TYPE_OID:
        return 35;
    case BSON_TYPE_BOOL:
        return 40;
    case BSON_TYPE_DATE_TIME:
        return 45;
    case BSON_TYPE_TIMESTAMP:
        return 47;
    case BSON_TYPE_REGEX:
        return 50;
    case BSON_TYPE_DBPOINTER:
        return 55;
    case BSON_TYPE_CODE:
        return 60;
    case BSON_TYPE_CODEWSCOPE:
        return 65;
    case BSON_TYPE_MAXKEY:
        break;
    }
    return 127;
}

const uint8_t *mg_value_bytes(const bson_iter_t *it, size_t *bytes_out)
{
    size_t from = it->key + strlen(bson_iter_key(it)) + 1;
    *bytes_out = it->next_off - from;
    return it->raw + from;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_i64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_bytes(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    size_t both = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = both == 0 ? 0 : memcmp(a, b, both);
    return order != 0 ? order : compare_u64(a_bytes, b_bytes);
}

static bool is_nan(const bson_iter_t *it)
{
    bson_decimal128_t bits;
    if (bson_iter_type(it) == BSON_TYPE_DOUBLE) {
        return isnan(bson_iter_double(it));
    }
    return bson_iter_type(it) == BSON_TYPE_DECIMAL128 && bson_iter_decimal128(it, &bits) &&
           mg_decimal_from(&bits).is == MG_DECIMAL_NAN;
}

/* Doubles are compared with decimals at 34 digits, as the server does it. */
static struct mg_decimal decimal_of_double(double r)
{
    struct mg_decimal d = {.is = MG_DECIMAL_FINITE, .is_negative = r < 0};
    char text[NUMBER_BYTES];
    if (isinf(r)) {
        d.is = MG_DECIMAL_INFINITE;
        return d;
    }
    (void)snprintf(text, sizeof text, "%.*e", MG_DECIMAL_DIGITS - 1, fabs(r));
    const char *at = text;
    for (; *at != 'e' && *at != '\0'; at++) {
        if (*at >= '0' && *at <= '9') {
            d.coefficient = d.coefficient * 10 + (unsigned)(*at - '0');
        }
    }
    d.exponent = (int)strtol(*at == 'e' ? at + 1 : "0", NULL, 10) - (MG_DECIMAL_DIGITS - 1);
    return d;
}

/* With all 34 digits used, so that exponents can be compared before digits. */
static struct mg_decimal widen(struct mg_decimal d)
{
    while (d.coefficient != 0 && d.coefficient < mg_decimal_limit() / 10) {
        d.coefficient *= 10;
        d.exponent--;
    }
    return d;
}

static struct mg_decimal decimal_of(const bson_iter_t *it)
{
    struct mg_decimal d = {.is = MG_DECIMAL_FINITE};
    bson_decimal128_t bits;
    if (bson_iter_type(it) == BSON_TYPE_DECIMAL128 && bson_iter_decimal128(it, &bits)) {
        d = mg_decimal_from(&bits);
    } else if (bson_iter_type(it) == BSON_TYPE_DOUBLE) {
        d = decimal_of_double(bson_iter_double(it));
    } else {
        int64_t n = bson_iter_as_int64(it);
        d.is_negative = n < 0;
        d.coefficient = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    }
    return widen(d);
}

static int sign_of(const struct mg_decimal *d)
{
    int magnitude = d->is == MG_DECIMAL_INFINITE || d->coefficient != 0;
    return d->is_negative ? -magnitude : magnitude;
}

static int compare_decimals(const struct mg_decimal *a, const struct mg_decimal *b)
{
    int sign = sign_of(a);
    if (sign != sign_of(b) || sign == 0) {
        return sign - sign_of(b);
    }
    if (a->is != b->is) {
        return a->is == MG_DECIMAL_INFINITE ? sign : -sign;
    }
    if (a->is == MG_DECIMAL_INFINITE) {
        return 0;
    }
    if (a->exponent != b->exponent) {
        return a->exponent > b->exponent ? sign : -sign;
    }
    return a->coefficient == b->coefficient ? 0 : a->coefficient > b->coefficient ? sign : -sign;
}

/* Exact: an integer that a double cannot hold is not turned into one. */
static int compare_mixed(double r, int64_t n)
{
    if (r >= 9223372036854775808.0) {
        return 1;
    }
    if (r < -9223372036854775808.0) {
        return -1;
    }
    int64_t whole = (int64_t)r;
    if (whole != n) {
        return compare_i64(whole, n);
    }
    double rest = r - (double)whole;
    return rest < 0 ? -1 : rest > 0;
}

static int compare_numbers(const bson_iter_t *a, const bson_iter_t *b)
{
    bson_type_t at = bson_iter_type(a);
    bson_type_t bt = bson_iter_type(b);
    if (is_nan(a) || is_nan(b)) { /* below all numbers, equal to each other */
        return (int)is_nan(b) - (int)is_nan(a);
    }
    if (at == BSON_TYPE_DECIMAL128 || bt == BSON_TYPE_DECIMAL128) {
        struct mg_decimal x = decimal_of(a);
        struct mg_decimal y = decimal_of(b);
        return compare_decimals(&x, &y);
    }
    if (at == BSON_TYPE_DOUBLE && bt == BSON_TYPE_DOUBLE) {
        double x = bson_iter_double(a);
        double y = bson_iter_double(b);
        return x < y ? -1 : x > y;
    }
    if (at == BSON_TYPE_DOUBLE) {
        return compare_mixed(bson_iter_double(a), bson_iter_as_int64(b));
    }
    if (bt == BSON_TYPE_DOUBLE) {
        return -compare_mixed(bson_iter_double(b), bson_iter_as_int64(a));
    }
    return compare_i64(bson_iter_as_int64(a), bson_iter_as_int64(b));
}

/* Strings, symbols and code: length, text, NUL. */
static int compare_texts(const bson_iter_t *a, const bson_iter_t *b)
{
    size_t a_bytes = 0;
    size_t b_bytes = 0;
    const uint8_t *x = mg_value_bytes(a, &a_bytes);
    const uint8_t *y = mg_value_bytes(b, &b_bytes);
    return a_bytes < 5 || b_bytes < 5 ? compare_u64(a_bytes, b_bytes)
                                      : compare_bytes(x + 4, a_bytes - 5, y + 4, b_bytes - 5);
}

static int compare_children(bson_iter_t *a, bson_iter_t *b)
{
    for (;;) {
        bool has_a = bson_iter_next(a);
        bool has_b = bson_iter_next(b);
        if (!has_a || !has_b) {
            return (int)has_a - (int)has_b;
        }
        int order = mg_canonical(bson_iter_type(a)) - mg_canonical(bson_iter_type(b));
        order = order != 0 ? order : strcmp(bson_iter_key(a), bson_iter_key(b));
        order = order != 0 ? order : mg_compare(a, b);
        if (order != 0) {
            return order;
        }
    }
}

static int compare_documents(const bson_iter_t *a, const bson_iter_t *b)
{
    bson_iter_t x;
    bson_iter_t y;
    bool has_a = bson_iter_recurse(a, &x);
    bool has_b = bson_iter_recurse(b, &y);
    return has_a && has_b ? compare_children(&x, &y) : (int)has_a - (int)has_b;
}

static int compare_scopes(const bson_iter_t *a, const bson_iter_t *b)
{
    uint32_t bytes[2] = {0};
    uint32_t scope_bytes[2] = {0};
    const uint8_t *scope[2] = {NULL};
    bson_t a_doc;
    bson_t b_doc;
    bson_iter_t a_it;
    bson_iter_t b_it;
    const char *x = bson_iter_codewscope(a, &bytes[0], &scope_bytes[0], &scope[0]);
    const char *y = bson_iter_codewscope(b, &bytes[1], &scope_bytes[1], &scope[1]);
    int order = compare_bytes(x, bytes[0], y, bytes[1]);
    if (order != 0 || !bson_init_static(&a_doc, scope[0], scope_bytes[0]) ||
        !bson_init_static(&b_doc, scope[1], scope_bytes[1]) || !bson_iter_init(&a_it, &a_doc) ||
        !bson_iter_init(&b_it, &b_doc)) {
        return order;
    }
    return compare_children(&a_it, &b_it);
}

static int compare_binaries(const bson_iter_t *a, const bson_iter_t *b)
{
    bson_subtype_t a_kind = BSON_SUBTYPE_BINARY;
    bson_subtype_t b_kind = BSON_SUBTYPE_BINARY;
    uint32_t a_bytes = 0;
    uint32_t b_bytes = 0;
    const uint8_t *x = NULL;
    const uint8_t *y = NULL;
    bson_iter_binary(a, &a_kind, &a_bytes, &x);
    bson_iter_binary(b, &b_kind, &b_bytes, &y);
    int order = compare_u64(a_bytes, b_bytes);
    order = order != 0 ? order : (int)a_kind - (int)b_kind;
    return order != 0 || a_bytes == 0 ? order : memcmp(x, y, a_bytes);
}

static int compare_regexes(const bson_iter_t *a, const bson_iter_t *b)
{
    const char *a_options = NULL;
    const char *b_options = NULL;
    const char *x = bson_iter_regex(a, &a_options);
    const char *y = bson_iter_regex(b, &b_options);
    int order = strcmp(x, y);
    return order != 0 ? order : strcmp(a_options, b_options);
}

static int compare_timestamps(const bson_iter_t *a, const bson_iter_t *b)
{
    uint32_t at[2] = {0};
    uint32_t counter[2] = {0};
    bson_iter_timestamp(a, &at[0], &counter[0]);
    bson_iter_timestamp(b, &at[1], &counter[1]);
    int order = compare_u64(at[0], at[1]);
    return order != 0 ? order : compare_u64(counter[0], counter[1]);
}

static int compare_raw(const bson_iter_t *a, const bson_iter_t *b)
{
    size_t a_bytes = 0;
    size_t b_bytes = 0;
    const uint8_t *x = mg_value_bytes(a, &a_bytes);
    const uint8_t *y = mg_value_bytes(b, &b_bytes);
    int order = compare_u64(a_bytes, b_bytes);
    return order != 0 || a_bytes == 0 ? order : memcmp(x, y, a_bytes);
}

int mg_compare(const bson_iter_t *a, const bson_iter_t *b)
{
    int class = mg_canonical(bson_iter_type(a));
    int order = class - mg_canonical(bson_iter_type(b));
    if (order != 0) {
        return order;
    }
    switch (bson_iter_type(a)) {
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DECIMAL128:
        return compare_numbers(a, b);
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_CODE:
        return compare_texts(a, b);
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        return compare_documents(a, b);
    case BSON_TYPE_BINARY:
        return compare_binaries(a, b);
    case BSON_TYPE_DATE_TIME:
        return compare_i64(bson_iter_date_time(a), bson_iter_date_time(b));
    case BSON_TYPE_TIMESTAMP:
        return compare_timestamps(a, b);
    case BSON_TYPE_REGEX:
        return compare_regexes(a, b);
    case BSON_TYPE_CODEWSCOPE:
        return compare_scopes(a, b);
    case BSON_TYPE_EOD:
    case BSON_TYPE_UNDEFINED:
    case BSON_TYPE_OID:
    case BSON_TYPE_BOOL:
    case BSON_TYPE_NULL:
    case BSON_TYPE_DBPOINTER:
    case BSON_TYPE_MAXKEY:
    case BSON_TYPE_MINKEY:
        break;
    }
    return compare_raw(a, b);
}
