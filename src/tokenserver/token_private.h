/* SPDX-License-Identifier: Apache-2.0 */
/* What token.c and hawk.c share: MACs and base64. For this folder and its tests. */
#ifndef DR_TOKENSERVER_TOKEN_PRIVATE_H
#define DR_TOKENSERVER_TOKEN_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tokenserver/token.h"

enum { DR_MAC_BYTES = 32, DR_NONCE_BYTES = 6 };

/* HMAC-SHA256. */
DR_MUST enum dr_code dr_token_mac(const void *key, size_t key_bytes, const void *data,
                                  size_t data_bytes, uint8_t out[DR_MAC_BYTES], struct dr_err *err);
/* HKDF-SHA256 (RFC 5869) with 32 bytes of output, which is one block of its expansion. */
DR_MUST enum dr_code dr_token_hkdf(const char *secret, const void *salt, size_t salt_bytes,
                                   const char *info, uint8_t out[DR_MAC_BYTES], struct dr_err *err);
/* Caller frees with dr_free; NULL when memory is short. The URL alphabet has - and _. */
char *dr_token_base64(const void *data, size_t bytes, bool is_url, bool is_padded);
/* Bytes nobody can guess. */
DR_MUST enum dr_code dr_token_random(void *out, size_t bytes, struct dr_err *err);
/* Wipe, then free; accepts NULL. */
void dr_token_free_secret(char *text);

/* The JSON inside of a token, byte for byte as Python's json.dumps writes it. Caller frees. */
DR_MUST enum dr_code dr_token_payload(const struct dr_token_user *u, const char *salt,
                                      const char *expires_text, char **out, struct dr_err *err);
/* Derives the key that signs tokens. */
DR_MUST enum dr_code dr_token_signing_key(const char *master_secret, uint8_t out[DR_MAC_BYTES],
                                          struct dr_err *err);
/* The text whose MAC proves a request. Caller frees. */
DR_MUST enum dr_code dr_hawk_normalize(const char *method, const char *url, int64_t ts,
                                       const char *nonce, char **out, struct dr_err *err);

#endif
