/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the bytes and the MACs of the handshake between Raft peers; sockets are raft_transport.c's.
 */
#include <assert.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/bytes.h"
#include "catalog/raft_hello.h"

enum {
    LABEL_BYTES = 24,
    FROM_ID_AT = HELLO_HEAD_BYTES,
    TO_ID_AT = FROM_ID_AT + 8,
    NONCE_AT = TO_ID_AT + 8,
    FROM_ADDRESS_AT = NONCE_AT + HELLO_NONCE_BYTES,
    TO_ADDRESS_AT = FROM_ADDRESS_AT + DR_NODE_ADDRESS_BYTES_MAX,
    MAC_AT = TO_ADDRESS_AT + DR_NODE_ADDRESS_BYTES_MAX,
};
_Static_assert(MAC_AT + HELLO_MAC_BYTES == HELLO_ANSWER_BYTES, "the answer has no gaps");

static const char challenge_mark[4] = {'D', 'R', 'R', 'C'};
static const char answer_mark[4] = {'D', 'R', 'R', 'H'};
static const char welcome_mark[4] = {'D', 'R', 'R', 'W'};
/* What libraft's own transport says first: its protocol version, 1, in 8 bytes. */
static const unsigned char bare_head[HELLO_HEAD_BYTES] = {1, 0, 0, 0, 0, 0, 0, 0};
/* One per direction: a MAC of one side is worth nothing on the other. Padded with zeros. */
static const char connector_label[LABEL_BYTES] = "drover raft connector";
static const char listener_label[LABEL_BYTES] = "drover raft listener";

static void put_head(unsigned char *at, const char *mark)
{
    memcpy(at, mark, 4);
    dr_put_le(at + 4, HELLO_VERSION, 4);
}

static enum dr_code check_head(const unsigned char *at, const char *mark, const char *what,
                               struct dr_err *err)
{
    if (memcmp(at, mark, 4) != 0) {
        return dr_fail(err, DR_CORRUPT, "what came is no %s of a drover peer", what);
    }
    uint64_t version = dr_get_le(at + 4, 4);
    if (version != HELLO_VERSION) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "the handshake has version %llu, this drover knows %d; run the same drover "
                       "on both peers",
                       (unsigned long long)version, HELLO_VERSION);
    }
    return DR_OK;
}

/* Over fixed lengths only, so that no two different exchanges give the same bytes. */
static enum dr_code make_mac(const struct hello_secret *s, const char *label,
                             const unsigned char *challenge, const unsigned char *answer,
                             size_t answer_bytes, unsigned char *mac_out, struct dr_err *err)
{
    unsigned char text[LABEL_BYTES + HELLO_CHALLENGE_BYTES + HELLO_ANSWER_BYTES];
    unsigned int bytes = 0;
    assert(s->count > 0 && s->count <= DR_RAFT_SECRET_BYTES_MAX);
    assert(answer_bytes <= HELLO_ANSWER_BYTES);
    memcpy(text, label, LABEL_BYTES);
    memcpy(text + LABEL_BYTES, challenge, HELLO_CHALLENGE_BYTES);
    memcpy(text + LABEL_BYTES + HELLO_CHALLENGE_BYTES, answer, answer_bytes);
    const unsigned char *mac =
        HMAC(EVP_sha256(), s->bytes, (int)s->count, text,
             LABEL_BYTES + HELLO_CHALLENGE_BYTES + answer_bytes, mac_out, &bytes);
    if (mac == NULL || bytes != HELLO_MAC_BYTES) {
        return dr_fail(err, DR_IO,
                       "HMAC-SHA256 failed; is OpenSSL's default provider switched off?");
    }
    return DR_OK;
}

enum dr_code dr_hello_nonce(unsigned char *nonce_out, struct dr_err *err)
{
    if (RAND_bytes(nonce_out, HELLO_NONCE_BYTES) != 1) {
        return dr_fail(err, DR_IO, "OpenSSL has no random numbers for a handshake");
    }
    return DR_OK;
}

void dr_hello_put_challenge(const unsigned char *nonce, unsigned char *challenge_out)
{
    put_head(challenge_out, challenge_mark);
    memcpy(challenge_out + HELLO_HEAD_BYTES, nonce, HELLO_NONCE_BYTES);
}

enum dr_code dr_hello_check_challenge(const unsigned char *challenge, struct dr_err *err)
{
    return check_head(challenge, challenge_mark, "challenge", err);
}

enum dr_code dr_hello_put_answer(const struct hello_secret *s, const unsigned char *challenge,
                                 const struct hello_ends *ends, const unsigned char *nonce,
                                 unsigned char *answer_out, struct dr_err *err)
{
    memset(answer_out, 0, HELLO_ANSWER_BYTES);
    put_head(answer_out, answer_mark);
    dr_put_le(answer_out + FROM_ID_AT, ends->from_id, 8);
    dr_put_le(answer_out + TO_ID_AT, ends->to_id, 8);
    memcpy(answer_out + NONCE_AT, nonce, HELLO_NONCE_BYTES);
    memcpy(answer_out + FROM_ADDRESS_AT, ends->from_address,
           strnlen(ends->from_address, DR_NODE_ADDRESS_BYTES_MAX - 1));
    memcpy(answer_out + TO_ADDRESS_AT, ends->to_address,
           strnlen(ends->to_address, DR_NODE_ADDRESS_BYTES_MAX - 1));
    return make_mac(s, connector_label, challenge, answer_out, MAC_AT, answer_out + MAC_AT, err);
}

enum dr_code dr_hello_check_head(const unsigned char *head, struct dr_err *err)
{
    if (memcmp(head, bare_head, HELLO_HEAD_BYTES) == 0) {
        return dr_fail(err, DR_DENIED,
                       "this peer has no secret; give it the --raft-secret-file of the others");
    }
    return check_head(head, answer_mark, "answer", err);
}

/* An address ends within its field, and only zeros follow it. */
static bool is_address(const unsigned char *at)
{
    size_t length = strnlen((const char *)at, DR_NODE_ADDRESS_BYTES_MAX);
    for (size_t i = length; i < DR_NODE_ADDRESS_BYTES_MAX; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return length > 0 && length < DR_NODE_ADDRESS_BYTES_MAX;
}

static enum dr_code check_ends(const unsigned char *answer, uint64_t id, const char *address,
                               struct hello_ends *ends_out, struct dr_err *err)
{
    struct hello_ends e = {.from_id = dr_get_le(answer + FROM_ID_AT, 8),
                           .to_id = dr_get_le(answer + TO_ID_AT, 8)};
    if (!is_address(answer + FROM_ADDRESS_AT) || !is_address(answer + TO_ADDRESS_AT) ||
        e.from_id == 0) {
        return dr_fail(err, DR_CORRUPT, "an answer without a sender or an address");
    }
    memcpy(e.from_address, answer + FROM_ADDRESS_AT, DR_NODE_ADDRESS_BYTES_MAX);
    memcpy(e.to_address, answer + TO_ADDRESS_AT, DR_NODE_ADDRESS_BYTES_MAX);
    if (e.to_id != id || strcmp(e.to_address, address) != 0) {
        return dr_fail(err, DR_CONFLICT, "peer %llu wants peer %llu at %s; this is peer %llu at %s",
                       (unsigned long long)e.from_id, (unsigned long long)e.to_id, e.to_address,
                       (unsigned long long)id, address);
    }
    if (e.from_id == id) {
        return dr_fail(err, DR_CONFLICT,
                       "a peer at %s has the id of this one, %llu; ids are given once",
                       e.from_address, (unsigned long long)id);
    }
    *ends_out = e;
    return DR_OK;
}

enum dr_code dr_hello_check_answer(const struct hello_secret *s, const unsigned char *challenge,
                                   const unsigned char *answer, uint64_t id, const char *address,
                                   struct hello_ends *ends_out, struct dr_err *err)
{
    unsigned char mac[HELLO_MAC_BYTES];
    enum dr_code rc = dr_hello_check_head(answer, err);
    if (rc == DR_OK) {
        rc = make_mac(s, connector_label, challenge, answer, MAC_AT, mac, err);
    }
    if (rc == DR_OK && CRYPTO_memcmp(mac, answer + MAC_AT, sizeof mac) != 0) {
        rc = dr_fail(err, DR_DENIED, "this peer has another secret");
    }
    /* Nothing it says is looked at before it has proved to be one of us. */
    return rc == DR_OK ? check_ends(answer, id, address, ends_out, err) : rc;
}

enum dr_code dr_hello_put_welcome(const struct hello_secret *s, const unsigned char *challenge,
                                  const unsigned char *answer, unsigned char *welcome_out,
                                  struct dr_err *err)
{
    put_head(welcome_out, welcome_mark);
    return make_mac(s, listener_label, challenge, answer, HELLO_ANSWER_BYTES,
                    welcome_out + HELLO_HEAD_BYTES, err);
}

enum dr_code dr_hello_check_welcome(const struct hello_secret *s, const unsigned char *challenge,
                                    const unsigned char *answer, const unsigned char *welcome,
                                    struct dr_err *err)
{
    unsigned char mac[HELLO_MAC_BYTES];
    enum dr_code rc = check_head(welcome, welcome_mark, "welcome", err);
    if (rc == DR_OK) {
        rc = make_mac(s, listener_label, challenge, answer, HELLO_ANSWER_BYTES, mac, err);
    }
    if (rc == DR_OK && CRYPTO_memcmp(mac, welcome + HELLO_HEAD_BYTES, sizeof mac) != 0) {
        rc = dr_fail(err, DR_DENIED, "the listener has another secret");
    }
    return rc;
}
