/* SPDX-License-Identifier: Apache-2.0 */
/* What follows a failure, by its class. Pure. */
#include "base/backoff.h"
#include "worker/worker_private.h"

struct dr_retry_plan dr_retry_decide(enum dr_code code, uint32_t tries,
                                     const struct dr_retry_rules *rules, uint64_t random)
{
    struct dr_backoff backoff = {.first_ms = rules->first_ms, .max_ms = rules->max_ms};
    struct dr_retry_plan plan = {.outcome = DR_OUT_QUARANTINE};
    uint64_t delay = dr_backoff_ms(&backoff, tries + 1, random);
    if (code == DR_LOST || code == DR_STOPPED) {
        plan.outcome = DR_OUT_RELEASE;
        plan.is_silent = true;
        return plan;
    }
    switch (dr_code_retry(code)) {
    case DR_RETRY_NEVER:
        return plan;
    case DR_RETRY_PROBE:
        plan.outcome = DR_OUT_UNKNOWN;
        plan.delay_ms = delay;
        return plan;
    case DR_RETRY_LATER:
        break;
    }
    /* The store or the disk is to blame, and will heal or be healed: as long as it takes. A broken
     * read or too little memory can also be this step's own fault: not for ever. */
    bool is_own = code == DR_IO || code == DR_NOMEM;
    if (is_own && tries + 1 >= rules->tries_max) {
        return plan;
    }
    plan.outcome = DR_OUT_RETRY;
    plan.delay_ms = delay;
    plan.is_lane_wide = code == DR_UNREACHABLE || code == DR_BUSY || code == DR_FULL;
    return plan;
}
