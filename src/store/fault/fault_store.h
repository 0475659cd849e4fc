/* SPDX-License-Identifier: Apache-2.0 */
/* The fault store: wraps another store and spoils chosen calls. Built in with DROVER_FAULTS only.
 *
 * URL `fault:RULES|INNER-URL`, for example `fault:erase=unknown_done@2;scan=busy@1+3|memory:x`.
 * RULES are `op=action@n[+k]`, separated by ';': the n-th call of that op (from 1) and the k calls
 * after it do the action. `none` or nothing at all: no rules. The first rule that fits wins.
 *
 *   op      open scan erase probe restore command health epoch count survey publish, or *
 *           for every one
 *   action  unknown_done      do the call, then answer DR_UNKNOWN
 *           unknown_not_done  answer DR_UNKNOWN, do nothing
 *           busy unreachable stale denied io
 *                             answer that code, do nothing
 *           bad               health only: do the call, then say not ok
 *           delay:MS          wait that long, then do the call
 *           none              do the call
 *
 * A `*` rule counts all calls together. Calls are counted per full URL over the whole process, so
 * a handle that is opened again goes on counting. A wrong rule is DR_INPUT and is named. All
 * DR_CAN bits are set; what the inner store lacks is answered DR_UNSUPPORTED by it. */
#ifndef DR_STORE_FAULT_FAULT_STORE_H
#define DR_STORE_FAULT_FAULT_STORE_H

#include "store/store.h"

#ifdef DROVER_FAULTS
const struct dr_store_ops *dr_store_fault_ops(void);

/* For tests: forget all counts. Handles that are open start again from the first call. */
void dr_fault_store_reset(void);
/* For tests: calls of `op` counted so far under this full URL; op "*" is all of them. */
uint64_t dr_fault_store_calls(const char *url, const char *op);
#endif

#endif
