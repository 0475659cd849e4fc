/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the moves of a breaker. No clock, no state of its own. */
#include "tokenserver/breaker.h"

#include <assert.h>

bool dr_breaker_may_start(const struct dr_breaker *b, int64_t now_ms)
{
    switch (b->state) {
    case DR_BREAKER_CLOSED:
        return true;
    case DR_BREAKER_OPEN:
        return now_ms >= b->open_until_ms;
    case DR_BREAKER_PROBING:
        return false;
    }
    return false;
}

bool dr_breaker_start(struct dr_breaker *b)
{
    assert(b->state != DR_BREAKER_PROBING);
    if (b->state == DR_BREAKER_CLOSED) {
        return false;
    }
    b->state = DR_BREAKER_PROBING;
    return true;
}

static void open_breaker(struct dr_breaker *b, const struct dr_breaker_rule *rule, int64_t now_ms)
{
    uint64_t open_ms = rule->open_ms;
    for (uint32_t i = 0; i < b->openings && open_ms < rule->open_ms_max; i++) {
        open_ms *= 2;
    }
    if (open_ms > rule->open_ms_max) {
        open_ms = rule->open_ms_max;
    }
    b->state = DR_BREAKER_OPEN;
    b->failures = 0;
    b->openings++;
    b->open_until_ms = now_ms + (int64_t)open_ms;
}

bool dr_breaker_note(struct dr_breaker *b, const struct dr_breaker_rule *rule, bool is_probe,
                     bool is_ok, int64_t now_ms)
{
    if (b->state != DR_BREAKER_CLOSED && !is_probe) {
        return false;
    }
    if (is_ok) {
        *b = (struct dr_breaker){.state = DR_BREAKER_CLOSED};
        return false;
    }
    b->failures++;
    bool is_too_much = rule->failures_max != 0 && b->failures >= rule->failures_max;
    if (!is_probe && !is_too_much) {
        return false;
    }
    open_breaker(b, rule, now_ms);
    return true;
}

void dr_breaker_forget_probe(struct dr_breaker *b)
{
    if (b->state == DR_BREAKER_PROBING) {
        b->state = DR_BREAKER_OPEN; /* its time is over already: the next request may probe */
    }
}
