/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of the token server and Hawk signatures, byte for byte as the reference library makes them
 * (vectors/tokenserver.json). Secrets are wiped after use and never reach a message. Pure apart
 * from randomness where a caller gives NULL. */
#ifndef DR_TOKENSERVER_TOKEN_H
#define DR_TOKENSERVER_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct dr_token_user {
    int64_t uid;
    const char *node; /* "https://node.example.com" */
    const char *email;
    int64_t generation;
    int64_t keys_changed_at; /* meaningful when has_keys_changed_at */
    bool has_keys_changed_at;
    const char *client_state; /* hex, may be "" */
};

/* "0000000000450-uw": caller frees with dr_free. DR_INPUT when client_state is no hex. */
DR_MUST enum dr_code dr_token_key_id(const struct dr_token_user *u, char **out, struct dr_err *err);

struct dr_token {
    char *token;          /* Hawk id */
    char *derived_secret; /* Hawk key; dr_token_fini wipes it */
};
/* `salt` 6 hex digits or NULL for random ones; `expires_text` as it stands in the JSON (vectors
 * have 4102444800.5) or NULL for now + lifetime_s. */
DR_MUST enum dr_code dr_token_make(const char *master_secret, const struct dr_token_user *u,
                                   const char *salt, const char *expires_text, int64_t lifetime_s,
                                   struct dr_token *out, struct dr_err *err);
void dr_token_fini(struct dr_token *t);

/* The whole header value: Hawk id="...", ts="...", nonce="...", mac="...". ts 0: now; nonce NULL:
 * random. Caller frees with dr_free. */
DR_MUST enum dr_code dr_hawk_header(const struct dr_token *t, const char *method, const char *url,
                                    int64_t ts, const char *nonce, char **out, struct dr_err *err);

/* "{node}/1.5/{uid}", node's trailing slashes dropped. dr_free. */
char *dr_token_data_url(const char *node, int64_t uid);

#endif
