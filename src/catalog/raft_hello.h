/* SPDX-License-Identifier: Apache-2.0 */
/* The three messages with which two Raft peers prove to each other that they know one secret,
 * before libraft gets the stream. Pure but for the random numbers of dr_hello_nonce.
 *
 *   listener -> connector   challenge  "DRRC" version, nonce of the listener
 *   connector -> listener   answer     "DRRH" version, from id, to id, nonce of the connector,
 *                                      from address, to address, MAC over label, challenge, answer
 *   listener -> connector   welcome    "DRRW" version, MAC over another label, challenge, answer
 *
 * The connector proves itself first: who merely reaches a listener gets no MAC to guess secrets
 * with. Ids, addresses, both nonces and the label of the direction are in what is authenticated, so
 * a recording, a reflection and an answer meant for another peer fail. Numbers are little-endian.
 */
#ifndef DR_CATALOG_RAFT_HELLO_H
#define DR_CATALOG_RAFT_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "catalog/raft_node.h"

enum {
    HELLO_VERSION = 1,
    HELLO_HEAD_BYTES = 8, /* mark and version */
    HELLO_NONCE_BYTES = 32,
    HELLO_MAC_BYTES = 32, /* HMAC-SHA256 */
    HELLO_CHALLENGE_BYTES = HELLO_HEAD_BYTES + HELLO_NONCE_BYTES,
    HELLO_ANSWER_BYTES =
        HELLO_HEAD_BYTES + 16 + HELLO_NONCE_BYTES + 2 * DR_NODE_ADDRESS_BYTES_MAX + HELLO_MAC_BYTES,
    HELLO_WELCOME_BYTES = HELLO_HEAD_BYTES + HELLO_MAC_BYTES,
};

struct hello_secret {
    const unsigned char *bytes;
    size_t count;
};

/* Who connects to whom, as the connector says it. */
struct hello_ends {
    uint64_t from_id, to_id;
    char from_address[DR_NODE_ADDRESS_BYTES_MAX], to_address[DR_NODE_ADDRESS_BYTES_MAX];
};

/* 32 random bytes; DR_IO when the system has none. */
DR_MUST enum dr_code dr_hello_nonce(unsigned char *nonce_out, struct dr_err *err);
void dr_hello_put_challenge(const unsigned char *nonce, unsigned char *challenge_out);
DR_MUST enum dr_code dr_hello_check_challenge(const unsigned char *challenge, struct dr_err *err);
/* DR_IO when the MAC cannot be computed. */
DR_MUST enum dr_code dr_hello_put_answer(const struct hello_secret *s,
                                         const unsigned char *challenge,
                                         const struct hello_ends *ends, const unsigned char *nonce,
                                         unsigned char *answer_out, struct dr_err *err);
/* Is what came so far the beginning of an answer? Says after 8 bytes whether a peer without a
 * secret, one of another version, or no drover at all is talking. */
DR_MUST enum dr_code dr_hello_check_head(const unsigned char *head, struct dr_err *err);
/* The ends are filled in only with DR_OK. DR_DENIED: another secret, or not made for this
 * challenge; DR_CORRUPT: no answer at all; DR_UNSUPPORTED: another version; DR_CONFLICT: it was
 * meant for another peer than `id` at `address`, or says that it is that peer itself. */
DR_MUST enum dr_code dr_hello_check_answer(const struct hello_secret *s,
                                           const unsigned char *challenge,
                                           const unsigned char *answer, uint64_t id,
                                           const char *address, struct hello_ends *ends_out,
                                           struct dr_err *err);
DR_MUST enum dr_code dr_hello_put_welcome(const struct hello_secret *s,
                                          const unsigned char *challenge,
                                          const unsigned char *answer, unsigned char *welcome_out,
                                          struct dr_err *err);
DR_MUST enum dr_code dr_hello_check_welcome(const struct hello_secret *s,
                                            const unsigned char *challenge,
                                            const unsigned char *answer,
                                            const unsigned char *welcome, struct dr_err *err);

#endif
