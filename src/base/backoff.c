/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the rule of waiting between retries and the only sleep in drover. Any thread. */
#include "base/backoff.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"

enum { WAIT_SLICE_MS = 20 }; /* how late a wish to stop may be noticed */

uint64_t dr_backoff_ms(const struct dr_backoff *b, uint32_t failures, uint64_t random)
{
    if (failures == 0) {
        return 0;
    }
    uint64_t first = b->first_ms == 0 ? 1 : b->first_ms;
    uint64_t max = b->max_ms == 0 ? 1 : b->max_ms;
    uint32_t doublings = failures - 1;
    /* first is below 2^32, so up to 31 doublings fit into 64 bits; more are above any maximum. */
    uint64_t delay = doublings > 31 ? max : first << doublings;
    if (delay > max) {
        delay = max;
    }
    uint64_t spread = delay / 2;
    uint64_t fixed = delay - spread;
    uint64_t result = fixed + random % (spread + 1);
    assert(result >= 1 && result <= max);
    return result;
}

bool dr_wait_ms(uint64_t ms, bool (*is_over)(void *arg), void *arg)
{
    dr_mono_ms start = dr_mono_now();
    for (;;) {
        if (is_over != NULL && is_over(arg)) {
            return true;
        }
        uint64_t passed = (uint64_t)(dr_mono_now() - start);
        if (passed >= ms) {
            return false;
        }
        uint64_t slice = ms - passed < WAIT_SLICE_MS ? ms - passed : WAIT_SLICE_MS;
        struct timespec pause = {.tv_nsec = (long)(slice * 1000000)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* a signal only shortens it */
    }
}

uint64_t dr_random(void)
{
    static _Atomic uint64_t fallback_state;
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) == (ssize_t)sizeof value) {
        return value;
    }

    /* splitmix64 (Steele, Lea, Flood 2014), stirred by the clock: early in boot only. */
    const uint64_t golden = 0x9E3779B97F4A7C15U;
    uint64_t z = atomic_fetch_add(&fallback_state, golden) + golden + (uint64_t)dr_mono_us();
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}
