/* SPDX-License-Identifier: Apache-2.0 */
/* The one table through which a step's status moves, and the status of an operation. Pure. */
#ifndef DR_QUEUE_MOVES_H
#define DR_QUEUE_MOVES_H

#include <stdbool.h>

#include "queue/queue.h"

enum dr_step_event {
    DR_ON_LEASE,      /* a worker takes it */
    DR_ON_DONE,       /* acknowledged */
    DR_ON_RELEASE,    /* given back as it is */
    DR_ON_RETRY,      /* failed, again later */
    DR_ON_LOST,       /* lease ran out or reply lost: look first */
    DR_ON_QUARANTINE, /* given up until a person says otherwise */
    DR_ON_WAKE,       /* its time has come */
    DR_ON_CANCEL,     /* stopped, or rolled back without ever having been touched */
    DR_ON_RESUME,     /* a stopped operation runs again; also what was cleaned up meanwhile */
    DR_ON_UNDO,       /* rolled back after having been touched */
    DR_ON_REDRIVE,    /* a person puts it back */
    DR_ON_REARM,      /* undone by a partial rollback: as if it had never run */
    DR_EVENT_COUNT
};

/* False when the table has no such move; *to is untouched then. `is_undo` is the direction the step
 * goes in: waiting, leased and unknown exist in both. */
bool dr_step_move(enum dr_step_status from, enum dr_step_event on, bool is_undo,
                  enum dr_step_status *to);
/* Does a step of this status keep later stages from starting / earlier ones from being undone? */
bool dr_step_is_open(enum dr_step_status s, bool is_undo);
bool dr_step_is_undo_open(enum dr_step_status s, bool is_undo);

#endif
