/* SPDX-License-Identifier: Apache-2.0 */
/* The hash of hashed indexes, as servers compute it: drover checks with it that a document lies in
 * the chunk it was read from. tests/vectors/mongodb-hashed-keys.json comes from a real server.
 *
 * MD5 over: seed, canonical type, and for numbers the value as an integer (doubles truncated,
 * decimals rounded, both clamped), for the rest its bytes, for documents each element in turn. */
#include <netdb.h>

#include <assert.h>
#include <math.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/bytes.h"
#include "store/mongodb/mongodb_private.h"
#include "store/mongodb/number_private.h"

enum { MD5_BYTES = 16, DEPTH_MAX = 200 };

/* A fixed set of parts cannot fail but for memory inside the library: then nothing is known. */
static void add(EVP_MD_CTX *ctx, const void *data, size_t bytes)
{
    int is_ok = EVP_DigestUpdate(ctx, data, bytes);
    assert(is_ok == 1);
    (void)is_ok;
}

static void add_u32(EVP_MD_CTX *ctx, uint32_t n)
{
    uint8_t le[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    add(ctx, le, sizeof le);
}

static void add_i64(EVP_MD_CTX *ctx, int64_t number)
{
    uint8_t le[8];
    for (unsigned i = 0; i < sizeof le; i++) {
        le[i] = (uint8_t)((uint64_t)number >> (8 * i));
    }
    add(ctx, le, sizeof le);
}

static int64_t integer_of_double(double r)
{
    if (isnan(r)) {
        return 0;
    }
    return r >= 9223372036854775808.0    ? INT64_MAX
           : r <= -9223372036854775808.0 ? INT64_MIN
                                         : (int64_t)r;
}

/* Rounded to even, as the server's decimal library does it, and clamped. */
static int64_t integer_of_decimal(const bson_decimal128_t *bits)
{
    struct mg_decimal d = mg_decimal_from(bits);
    const mg_u128 limit = d.is_negative ? (mg_u128)1 << 63 : ((mg_u128)1 << 63) - 1;
    if (d.is == MG_DECIMAL_NAN) {
        return 0;
    }
    mg_u128 n = d.is == MG_DECIMAL_INFINITE ? limit : d.coefficient;
    unsigned digit = 0;
    bool has_rest = false;
    for (; d.exponent < 0 && (n > 0 || digit > 0); d.exponent++) {
        has_rest = has_rest || digit > 0;
        digit = (unsigned)(n % 10);
        n /= 10;
    }
    if (digit > 5 || (digit == 5 && (has_rest || n % 2 == 1))) {
        n++;
    }
    for (; d.exponent > 0 && n > 0 && n <= limit; d.exponent--) {
        n *= 10;
    }
    n = n > limit ? limit : n;
    return d.is_negative ? (int64_t)(0 - (uint64_t)n) : (int64_t)n;
}

static void add_element(EVP_MD_CTX *ctx, const bson_iter_t *it, bool with_name, unsigned depth);

static void add_children(EVP_MD_CTX *ctx, bson_iter_t *child, unsigned depth)
{
    while (depth < DEPTH_MAX && bson_iter_next(child)) {
        add_element(ctx, child, true, depth + 1);
    }
    add_u32(ctx, 0); /* the element that ends every document; it has no name and no value */
}

static void add_scope(EVP_MD_CTX *ctx, const bson_iter_t *it, unsigned depth)
{
    uint32_t code_bytes = 0;
    uint32_t scope_bytes = 0;
    const uint8_t *scope = NULL;
    bson_t doc;
    bson_iter_t child;
    const char *code = bson_iter_codewscope(it, &code_bytes, &scope_bytes, &scope);
    add(ctx, code, (size_t)code_bytes + 1);
    if (bson_init_static(&doc, scope, scope_bytes) && bson_iter_init(&child, &doc)) {
        add_children(ctx, &child, depth);
    }
}

static void add_element(EVP_MD_CTX *ctx, const bson_iter_t *it, bool with_name, unsigned depth)
{
    bson_type_t type = bson_iter_type(it);
    bson_iter_t child;
    bson_decimal128_t decimal;
    size_t bytes = 0;
    add_u32(ctx, (uint32_t)mg_canonical(type));
    if (with_name) {
        const char *name = bson_iter_key(it);
        add(ctx, name, strlen(name) + 1);
    }
    if (type == BSON_TYPE_DOUBLE) {
        add_i64(ctx, integer_of_double(bson_iter_double(it)));
    } else if (type == BSON_TYPE_INT32 || type == BSON_TYPE_INT64) {
        add_i64(ctx, bson_iter_as_int64(it));
    } else if (type == BSON_TYPE_DECIMAL128) {
        (void)bson_iter_decimal128(it, &decimal);
        add_i64(ctx, integer_of_decimal(&decimal));
    } else if (type == BSON_TYPE_DOCUMENT || type == BSON_TYPE_ARRAY) {
        if (bson_iter_recurse(it, &child)) {
            add_children(ctx, &child, depth);
        }
    } else if (type == BSON_TYPE_CODEWSCOPE) {
        add_scope(ctx, it, depth);
    } else {
        const uint8_t *value = mg_value_bytes(it, &bytes);
        add(ctx, value, bytes);
    }
}

int64_t mg_hash(const bson_iter_t *it)
{
    uint8_t md5[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int is_ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_md5(), NULL);
    assert(is_ok == 1); /* without MD5 no document could be told to lie in its chunk */
    add_u32(ctx, 0);
    if (it == NULL) {
        add_u32(ctx, (uint32_t)mg_canonical(BSON_TYPE_NULL));
    } else {
        add_element(ctx, it, false, 0);
    }
    is_ok = EVP_DigestFinal_ex(ctx, md5, NULL);
    assert(is_ok == 1);
    EVP_MD_CTX_free(ctx);
    return (int64_t)dr_get_le(md5, 8);
}
