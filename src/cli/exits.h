/* SPDX-License-Identifier: Apache-2.0 */
/* Exit codes: one list makes the numbers, the manual and the mapping's targets. Pure. */
#ifndef DR_CLI_EXITS_H
#define DR_CLI_EXITS_H

#include <stdbool.h>

#include "base/err.h"
#include "queue/queue.h"
#include "verbs/place.h"

#define DR_EXIT_MAP(X)                                                                             \
    X(DONE, 0, "done as asked")                                                                    \
    X(FAILED, 1, "failed unexpectedly")                                                            \
    X(USAGE, 2, "the command line is wrong")                                                       \
    X(REFUSED, 3, "refused by a guard")                                                            \
    X(INPUT, 4, "the job or a file is wrong")                                                      \
    X(STORE, 5, "the store cannot be reached")                                                     \
    X(BUSY, 6, "the data folder is in use by another drover")                                      \
    X(DAMAGED, 7, "data folder or archive damaged, or of a newer version")                         \
    X(EARLY, 8, "ended early: paused or stopped on request")                                       \
    X(BLOCKED, 9, "blocked: steps are in quarantine")                                              \
    X(ROLLED_BACK, 10, "ended by a rollback though something else was asked")                      \
    X(NOT_FOUND, 11, "not found")                                                                  \
    X(FULL, 12, "disk full or not writable")                                                       \
    X(UNHEALTHY, 13, "health found an issue, an alert fires, or a rehearsal found a difference")   \
    X(INTERRUPTED, 130, "interrupted; the state is saved")

enum dr_exit {
#define X(name, number, text) DR_EXIT_##name = (number),
    DR_EXIT_MAP(X)
#undef X
};

enum dr_exit dr_exit_of(enum dr_code code, enum dr_place place);
/* How an operation that was followed to its end came out. `is_undo_asked`: a rollback is what the
 * person wanted, so it is a success. A status that is no ending is DR_EXIT_FAILED. */
enum dr_exit dr_exit_of_status(enum dr_op_status status, bool is_undo_asked);

#endif
