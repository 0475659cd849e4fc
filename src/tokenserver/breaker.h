/* SPDX-License-Identifier: Apache-2.0 */
/* A circuit breaker: keeps a node that fails again and again from being asked, then lets one
 * request through to see. Pure: time comes in as an argument.
 *
 *     closed ──(failures_max in a row)──> open ──(open_until)──> probing ──ok──> closed
 *                                          ^                        │
 *                                          └──── fails: twice as long
 */
#ifndef DR_TOKENSERVER_BREAKER_H
#define DR_TOKENSERVER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

struct dr_breaker_rule {
    uint32_t failures_max; /* in a row; 0: never opens */
    uint64_t open_ms;      /* the first time */
    uint64_t open_ms_max;  /* doubled up to this */
};

enum dr_breaker_state { DR_BREAKER_CLOSED, DR_BREAKER_OPEN, DR_BREAKER_PROBING };

/* All zero is closed. */
struct dr_breaker {
    enum dr_breaker_state state;
    uint32_t failures; /* in a row while closed */
    uint32_t openings; /* in a row without a success between */
    int64_t open_until_ms;
};

/* May a request start now? */
bool dr_breaker_may_start(const struct dr_breaker *b, int64_t now_ms);
/* A request starts: true when it is the one that decides, to be handed to dr_breaker_note. Only
 * after dr_breaker_may_start. */
bool dr_breaker_start(struct dr_breaker *b);
/* A request ended. Answers of requests sent before it opened change nothing while it is open. True
 * when it opened just now. */
bool dr_breaker_note(struct dr_breaker *b, const struct dr_breaker_rule *rule, bool is_probe,
                     bool is_ok, int64_t now_ms);
/* The probe ended without saying anything about the node (it was never sent, say). */
void dr_breaker_forget_probe(struct dr_breaker *b);

#endif
