/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as what a stranger sends in the handshake between Raft peers. The first byte says what
 * is done with the rest: taken as it is, or sealed first by somebody who knows the secret, so that
 * what lies behind the MAC is reached too. No crash, a reason for every refusal, nothing accepted
 * that was not sealed, and ids and addresses of what is accepted are whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/raft_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct hello_secret secret = {(const unsigned char *)"0123456789abcdef", 16};
static const char own_address[] = "127.0.0.1:9";
enum { OWN_ID = 9 };

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void check_stranger(const unsigned char *challenge, const unsigned char *answer)
{
    struct dr_err err = {0};
    struct hello_ends ends;
    must(dr_hello_check_answer(&secret, challenge, answer, OWN_ID, own_address, &ends, &err) !=
         DR_OK);
    must(err.msg[0] != '\0');
    err = (struct dr_err){0};
    must(dr_hello_check_welcome(&secret, challenge, answer, answer, &err) != DR_OK);
    must(err.msg[0] != '\0');
    err = (struct dr_err){0};
    must(dr_hello_check_head(answer, &err) == DR_OK || err.msg[0] != '\0');
    err = (struct dr_err){0};
    must(dr_hello_check_challenge(answer, &err) == DR_OK || err.msg[0] != '\0');
}

static void check_member(const unsigned char *challenge, const unsigned char *text)
{
    struct dr_err err = {0};
    struct hello_ends ends = {0};
    struct hello_ends seen;
    unsigned char answer[HELLO_ANSWER_BYTES];
    unsigned char welcome[HELLO_WELCOME_BYTES];
    memcpy(&ends, text, sizeof ends); /* fields that do not end, too */
    must(dr_hello_put_answer(&secret, challenge, &ends, text, answer, &err) == DR_OK);
    enum dr_code rc =
        dr_hello_check_answer(&secret, challenge, answer, OWN_ID, own_address, &seen, &err);
    if (rc != DR_OK) {
        must(err.msg[0] != '\0' && (rc == DR_CONFLICT || rc == DR_CORRUPT));
        return;
    }
    must(seen.to_id == OWN_ID && seen.from_id != OWN_ID && seen.from_id != 0);
    must(strcmp(seen.to_address, own_address) == 0);
    must(strnlen(seen.from_address, sizeof seen.from_address) < sizeof seen.from_address);
    must(dr_hello_put_welcome(&secret, challenge, answer, welcome, &err) == DR_OK);
    must(dr_hello_check_welcome(&secret, challenge, answer, welcome, &err) == DR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    unsigned char challenge[HELLO_CHALLENGE_BYTES] = {0};
    unsigned char text[HELLO_ANSWER_BYTES] = {0};
    _Static_assert(sizeof(struct hello_ends) <= HELLO_ANSWER_BYTES, "the ends come out of it");
    if (bytes == 0) {
        return 0;
    }
    size_t left = bytes - 1;
    memcpy(text, data + 1, left < sizeof text ? left : sizeof text);
    if (left > sizeof text) {
        left -= sizeof text;
        memcpy(challenge, data + 1 + sizeof text,
               left < sizeof challenge ? left : sizeof challenge);
    }
    if (data[0] % 2 == 0) {
        check_stranger(challenge, text);
    } else {
        check_member(challenge, text);
    }
    return 0;
}
