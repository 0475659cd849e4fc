/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential back-off with jitter, and the one place in drover that sleeps.
 *
 * Source of the rule: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), the "equal
 * jitter" form: half of the delay is fixed so that a retry is never immediate. */
#ifndef DR_BASE_BACKOFF_H
#define DR_BASE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct dr_backoff {
    uint32_t first_ms; /* delay after the first failure */
    uint32_t max_ms;   /* ceiling */
};

/* Delay after `failures` failures in a row (1 is the first). Pure: `random` is any 64-bit number.
 */
uint64_t dr_backoff_ms(const struct dr_backoff *b, uint32_t failures, uint64_t random);

/* Wait up to `ms`, in slices, until `is_over(arg)` says so (may be NULL). True when it said so. */
bool dr_wait_ms(uint64_t ms, bool (*is_over)(void *arg), void *arg);

/* 64 random bits from the kernel (splitmix on failure); not for secrets. */
uint64_t dr_random(void);

#endif
