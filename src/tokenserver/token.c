/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the making of tokens: key ids, the payload, its signature, the secret derived from both.
 * Leaves the signing of requests to hawk.c. No state; any thread.
 *
 * The storage node takes a token apart and checks it, so every byte must be the one that the
 * reference library (tokenlib, Python) would make: the payload's blanks, its escapes, its order. */
#include "tokenserver/token.h"

#include <assert.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "tokenserver/token_private.h"

enum { SALT_BYTES = 3, SALT_DIGITS = 6 };

#define INFO_SIGNING "services.mozilla.com/tokenlib/v1/signing"
#define INFO_DERIVE "services.mozilla.com/tokenlib/v1/derive/"

enum dr_code dr_token_mac(const void *key, size_t key_bytes, const void *data, size_t data_bytes,
                          uint8_t out[DR_MAC_BYTES], struct dr_err *err)
{
    assert(key != NULL && data != NULL);
    if (key_bytes > INT_MAX) {
        return dr_fail(err, DR_INPUT, "a key of %zu bytes is too long", key_bytes);
    }
    unsigned out_bytes = 0;
    if (HMAC(EVP_sha256(), key, (int)key_bytes, data, data_bytes, out, &out_bytes) == NULL ||
        out_bytes != DR_MAC_BYTES) {
        return dr_fail(err, DR_INTERNAL,
                       "HMAC-SHA256 failed; is OpenSSL's default provider switched off?");
    }
    return DR_OK;
}

enum dr_code dr_token_hkdf(const char *secret, const void *salt, size_t salt_bytes,
                           const char *info, uint8_t out[DR_MAC_BYTES], struct dr_err *err)
{
    uint8_t extracted[DR_MAC_BYTES] = {0};
    struct dr_str block;
    dr_str_init(&block);
    enum dr_code rc = dr_token_mac(salt, salt_bytes, secret, strlen(secret), extracted, err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_add(&block, info);
    dr_str_addc(&block, '\x01');
    if (block.is_short) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = dr_token_mac(extracted, sizeof extracted, block.data, block.len, out, err);
out:
    OPENSSL_cleanse(extracted, sizeof extracted);
    dr_str_fini(&block);
    return rc;
}

char *dr_token_base64(const void *data, size_t bytes, bool is_url, bool is_padded)
{
    if (bytes > INT_MAX / 2) {
        return NULL;
    }
    char *text = dr_malloc((bytes + 2) / 3 * 4 + 1);
    if (text == NULL) {
        return NULL;
    }
    int len = EVP_EncodeBlock((unsigned char *)text, data, (int)bytes);
    assert(len >= 0);
    for (int i = 0; is_url && i < len; i++) {
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    }
    while (!is_padded && len > 0 && text[len - 1] == '=') {
        len--;
    }
    text[len] = '\0';
    return text;
}

enum dr_code dr_token_random(void *out, size_t bytes, struct dr_err *err)
{
    if (RAND_bytes(out, (int)bytes) != 1) {
        return dr_fail(err, DR_IO, "OpenSSL has no random bytes for a salt or a nonce");
    }
    return DR_OK;
}

void dr_token_free_secret(char *text)
{
    if (text != NULL) {
        OPENSSL_cleanse(text, strlen(text));
        dr_free(text);
    }
}

static int read_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* *bytes_out is a block of its own even for an empty text. */
static enum dr_code read_hex(const char *hex, uint8_t **bytes_out, size_t *count_out,
                             struct dr_err *err)
{
    *bytes_out = NULL;
    size_t digits = strlen(hex);
    if (digits % 2 != 0) {
        return dr_fail(err, DR_INPUT, "client_state has %zu hex digits; they must come in pairs",
                       digits);
    }
    uint8_t *bytes = dr_malloc(digits / 2 + 1);
    if (bytes == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < digits / 2; i++) {
        int high = read_digit(hex[2 * i]);
        int low = read_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            dr_free(bytes);
            return dr_fail(err, DR_INPUT, "client_state is no hex text at character %zu",
                           2 * i + 1);
        }
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    *bytes_out = bytes;
    *count_out = digits / 2;
    return DR_OK;
}

enum dr_code dr_token_key_id(const struct dr_token_user *u, char **out, struct dr_err *err)
{
    *out = NULL;
    uint8_t *state = NULL;
    char *encoded = NULL;
    size_t bytes = 0;
    enum dr_code rc = read_hex(u->client_state, &state, &bytes, err);
    if (rc != DR_OK) {
        goto out;
    }
    encoded = dr_token_base64(state, bytes, true, false);
    /* The reference says "keys_changed_at or generation": in Python a zero counts as absent. */
    bool is_changed = u->has_keys_changed_at && u->keys_changed_at != 0;
    long long stamp = is_changed ? u->keys_changed_at : u->generation;
    *out = encoded == NULL ? NULL : dr_asprintf("%013lld-%s", stamp, encoded);
    rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
out:
    dr_free(encoded);
    dr_free(state);
    return rc;
}

/* One UTF-8 character at text[0..len): its length, or 0 when it is none. */
static size_t read_utf8(const unsigned char *text, size_t len, uint32_t *point_out)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t more = 0; more < 4; more++) {
        if ((text[0] & forms[more].mask) != forms[more].lead) {
            continue;
        }
        uint32_t point = text[0] & (unsigned char)~forms[more].mask;
        for (size_t i = 1; i <= more; i++) {
            if (i >= len || (text[i] & 0xC0) != 0x80) {
                return 0;
            }
            point = point << 6 | (text[i] & 0x3FU);
        }
        bool is_surrogate = point >= 0xD800 && point <= 0xDFFF;
        *point_out = point;
        return point < forms[more].least || is_surrogate || point > 0x10FFFF ? 0 : more + 1;
    }
    return 0;
}

static void add_escaped(struct dr_str *s, uint32_t point)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letter[] = "\"\\bfnrt";
    const char *found = point < 0x80 && point != 0 ? strchr(plain, (int)point) : NULL;
    if (found != NULL) {
        dr_str_addc(s, '\\');
        dr_str_addc(s, letter[found - plain]);
    } else if (point >= ' ' && point <= '~') {
        dr_str_addc(s, (char)point);
    } else if (point < 0x10000) {
        dr_str_addf(s, "\\u%04x", point);
    } else {
        dr_str_addf(s, "\\u%04x\\u%04x", 0xD800 + ((point - 0x10000) >> 10),
                    0xDC00 + ((point - 0x10000) & 0x3FF));
    }
}

/* A JSON string as Python writes it with ensure_ascii. */
static enum dr_code add_json_string(struct dr_str *s, const char *what, const char *text,
                                    size_t len, struct dr_err *err)
{
    dr_str_addc(s, '"');
    for (size_t i = 0; i < len;) {
        uint32_t point = 0;
        size_t used = read_utf8((const unsigned char *)text + i, len - i, &point);
        if (used == 0) {
            return dr_fail(err, DR_INPUT, "%s is no UTF-8 text at byte %zu", what, i + 1);
        }
        add_escaped(s, point);
        i += used;
    }
    dr_str_addc(s, '"');
    return DR_OK;
}

enum dr_code dr_token_payload(const struct dr_token_user *u, const char *salt,
                              const char *expires_text, char **out, struct dr_err *err)
{
    *out = NULL;
    char *key_id = NULL;
    struct dr_str s;
    dr_str_init(&s);
    enum dr_code rc = dr_token_key_id(u, &key_id, err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_addf(&s, "{\"uid\": %lld, \"node\": ", (long long)u->uid);
    rc = add_json_string(&s, "node", u->node, strlen(u->node), err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_add(&s, ", \"fxa_uid\": ");
    rc = add_json_string(&s, "email", u->email, strcspn(u->email, "@"), err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_addf(&s, ", \"fxa_kid\": \"%s\", \"salt\": \"%s\", \"expires\": %s}", key_id, salt,
                expires_text);
    *out = dr_str_take(&s);
    rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
out:
    dr_str_fini(&s);
    dr_free(key_id);
    return rc;
}

enum dr_code dr_token_signing_key(const char *master_secret, uint8_t out[DR_MAC_BYTES],
                                  struct dr_err *err)
{
    static const uint8_t zeros[DR_MAC_BYTES];
    return dr_token_hkdf(master_secret, zeros, sizeof zeros, INFO_SIGNING, out, err);
}

static enum dr_code sign_payload(const char *master_secret, const char *payload, char **token_out,
                                 struct dr_err *err)
{
    uint8_t key[DR_MAC_BYTES] = {0};
    uint8_t mac[DR_MAC_BYTES];
    struct dr_str s;
    dr_str_init(&s);
    enum dr_code rc = dr_token_signing_key(master_secret, key, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_token_mac(key, sizeof key, payload, strlen(payload), mac, err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_str_add(&s, payload);
    dr_str_addn(&s, mac, sizeof mac);
    *token_out = s.is_short ? NULL : dr_token_base64(s.data, s.len, true, true);
    rc = *token_out == NULL ? dr_fail_nomem(err) : DR_OK;
out:
    OPENSSL_cleanse(key, sizeof key);
    dr_str_fini(&s);
    return rc;
}

static enum dr_code derive_secret(const char *master_secret, const char *salt, const char *token,
                                  char **out, struct dr_err *err)
{
    uint8_t derived[DR_MAC_BYTES] = {0};
    char *info = dr_asprintf("%s%s", INFO_DERIVE, token);
    if (info == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_token_hkdf(master_secret, salt, strlen(salt), info, derived, err);
    if (rc == DR_OK) {
        *out = dr_token_base64(derived, sizeof derived, true, true);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    OPENSSL_cleanse(derived, sizeof derived);
    dr_free(info);
    return rc;
}

static enum dr_code make_salt(char *digits, size_t room, struct dr_err *err)
{
    uint8_t bytes[SALT_BYTES];
    enum dr_code rc = dr_token_random(bytes, sizeof bytes, err);
    if (rc == DR_OK) {
        (void)snprintf(digits, room, "%02x%02x%02x", bytes[0], bytes[1], bytes[2]);
    }
    return rc;
}

enum dr_code dr_token_make(const char *master_secret, const struct dr_token_user *u,
                           const char *salt, const char *expires_text, int64_t lifetime_s,
                           struct dr_token *out, struct dr_err *err)
{
    *out = (struct dr_token){0};
    char *payload = NULL;
    char own_salt[SALT_DIGITS + 1];
    char own_expires[32];
    enum dr_code rc = DR_OK;
    if (salt == NULL) {
        rc = make_salt(own_salt, sizeof own_salt, err);
        if (rc != DR_OK) {
            goto out;
        }
        salt = own_salt;
    }
    if (expires_text == NULL) {
        long long expires = dr_wall_now() / 1000 + lifetime_s;
        (void)snprintf(own_expires, sizeof own_expires, "%lld", expires);
        expires_text = own_expires;
    }
    rc = dr_token_payload(u, salt, expires_text, &payload, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = sign_payload(master_secret, payload, &out->token, err);
    if (rc != DR_OK) {
        goto out;
    }
    rc = derive_secret(master_secret, salt, out->token, &out->derived_secret, err);
out:
    if (rc != DR_OK) {
        dr_token_fini(out);
        dr_wrap(err, "token of uid %lld", (long long)u->uid);
    }
    dr_free(payload);
    return rc;
}

void dr_token_fini(struct dr_token *t)
{
    dr_free(t->token);
    dr_token_free_secret(t->derived_secret);
    *t = (struct dr_token){0};
}

char *dr_token_data_url(const char *node, int64_t uid)
{
    size_t len = strlen(node);
    while (len > 0 && node[len - 1] == '/') {
        len--;
    }
    return dr_asprintf("%.*s/1.5/%lld", (int)len, node, (long long)uid);
}
