/* SPDX-License-Identifier: Apache-2.0 */
/* How a step's status moves, and what an operation's status is. Pure.
 *
 *                    release
 *               +---------------+                        undo (rollback)
 *               v               |                   +--------------------+
 *   put --> CREATED --lease--> LEASED --done--> PROCESSED                |
 *             ^ |               | | |                                    v
 *        wake | | cancel  retry | | | quarantine                      UNDOING <--- wake, redrive
 *             | v               v | +----> FAILED --undo------------->  | ^  lease, release
 *             | CANCELLED  WAITING|          | redrive                  v |
 *             |    |              | lost     v                        LEASED --retry--> WAITING
 *             |    | resume       v        CREATED                      | | \--lost----> UNKNOWN
 *             |    +--> CREATED  UNKNOWN --lease (probe first)     done | | quarantine
 *             +------------------------                                 v v
 *                                                                UNDONE  UNDO_FAILED
 *                                        CANCELLED <--rearm (partial) ---+
 */
#include "queue/moves.h"

#include <assert.h>
#include <stddef.h>

enum direction { FORWARD = 1, UNDO = 2, BOTH = 3 };

static const struct {
    enum dr_step_status from;
    enum dr_step_event on;
    enum direction direction;
    enum dr_step_status to;
} moves[] = {
    {DR_S_CREATED, DR_ON_LEASE, FORWARD, DR_S_LEASED},
    {DR_S_UNKNOWN, DR_ON_LEASE, BOTH, DR_S_LEASED},
    {DR_S_UNDOING, DR_ON_LEASE, BOTH, DR_S_LEASED},
    {DR_S_LEASED, DR_ON_DONE, FORWARD, DR_S_PROCESSED},
    {DR_S_LEASED, DR_ON_DONE, UNDO, DR_S_UNDONE},
    {DR_S_LEASED, DR_ON_RELEASE, FORWARD, DR_S_CREATED},
    {DR_S_LEASED, DR_ON_RELEASE, UNDO, DR_S_UNDOING},
    {DR_S_LEASED, DR_ON_RETRY, BOTH, DR_S_WAITING},
    {DR_S_LEASED, DR_ON_LOST, BOTH, DR_S_UNKNOWN},
    {DR_S_LEASED, DR_ON_QUARANTINE, FORWARD, DR_S_FAILED},
    {DR_S_LEASED, DR_ON_QUARANTINE, UNDO, DR_S_UNDO_FAILED},
    {DR_S_WAITING, DR_ON_WAKE, FORWARD, DR_S_CREATED},
    {DR_S_WAITING, DR_ON_WAKE, UNDO, DR_S_UNDOING},
    {DR_S_CREATED, DR_ON_CANCEL, FORWARD, DR_S_CANCELLED},
    {DR_S_WAITING, DR_ON_CANCEL, FORWARD, DR_S_CANCELLED},
    {DR_S_UNKNOWN, DR_ON_CANCEL, FORWARD, DR_S_CANCELLED},
    {DR_S_CANCELLED, DR_ON_RESUME, FORWARD, DR_S_CREATED},
    {DR_S_PROCESSED, DR_ON_RESUME, FORWARD, DR_S_CREATED}, /* what it made was cleaned up */
    {DR_S_CREATED, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_WAITING, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_UNKNOWN, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_FAILED, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_PROCESSED, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_CANCELLED, DR_ON_UNDO, FORWARD, DR_S_UNDOING},
    {DR_S_FAILED, DR_ON_REDRIVE, FORWARD, DR_S_CREATED},
    {DR_S_UNDO_FAILED, DR_ON_REDRIVE, UNDO, DR_S_UNDOING},
    {DR_S_UNDONE, DR_ON_REARM, UNDO, DR_S_CANCELLED}, /* when a partial rollback has ended */
};

bool dr_step_move(enum dr_step_status from, enum dr_step_event on, bool is_undo,
                  enum dr_step_status *to)
{
    enum direction direction = is_undo ? UNDO : FORWARD;
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        if (moves[i].from == from && moves[i].on == on && (moves[i].direction & direction) != 0) {
            *to = moves[i].to;
            return true;
        }
    }
    return false;
}

bool dr_step_is_open(enum dr_step_status s, bool is_undo)
{
    switch (s) {
    case DR_S_CREATED:
    case DR_S_FAILED:
        return true;
    case DR_S_LEASED:
    case DR_S_WAITING:
    case DR_S_UNKNOWN:
        return !is_undo;
    case DR_S_PROCESSED:
    case DR_S_CANCELLED:
    case DR_S_UNDOING:
    case DR_S_UNDONE:
    case DR_S_UNDO_FAILED:
    case DR_S_COUNT:
        return false;
    }
    return false;
}

bool dr_step_is_undo_open(enum dr_step_status s, bool is_undo)
{
    switch (s) {
    case DR_S_UNDOING:
    case DR_S_UNDO_FAILED:
        return true;
    case DR_S_LEASED:
    case DR_S_WAITING:
    case DR_S_UNKNOWN:
        return is_undo;
    case DR_S_CREATED:
    case DR_S_FAILED:
    case DR_S_PROCESSED:
    case DR_S_CANCELLED:
    case DR_S_UNDONE:
    case DR_S_COUNT:
        return false;
    }
    return false;
}

static const char *const step_status_names[] = {
#define X(name, text) text,
    DR_STEP_STATUS_MAP(X)
#undef X
};

static const char *const op_status_names[] = {
#define X(name, text) text,
    DR_OP_STATUS_MAP(X)
#undef X
};

static const char *const wish_names[] = {"hold", "run", "pause", "stop", "rollback"};

const char *dr_step_status_name(enum dr_step_status s)
{
    assert((unsigned)s < DR_S_COUNT);
    return step_status_names[s];
}

const char *dr_op_status_name(enum dr_op_status s)
{
    assert((unsigned)s < DR_O_COUNT);
    return op_status_names[s];
}

const char *dr_wish_name(enum dr_wish w)
{
    assert((unsigned)w < DR_WISH_COUNT);
    return wish_names[w];
}

bool dr_op_status_is_final(enum dr_op_status s)
{
    return s == DR_O_STOPPED || s == DR_O_DONE || s == DR_O_ROLLED_BACK;
}

bool dr_op_status_is_resting(enum dr_op_status status)
{
    switch (status) {
    case DR_O_PLANNED:
    case DR_O_PAUSED:
    case DR_O_STOPPED:
    case DR_O_BLOCKED: /* only when nothing else of it can move either */
    case DR_O_DONE:
    case DR_O_ROLLED_BACK:
    case DR_O_ROLLBACK_BLOCKED:
        return true;
    case DR_O_QUEUED:
    case DR_O_RUNNING:
    case DR_O_PAUSING:
    case DR_O_STOPPING:
    case DR_O_ROLLING_BACK:
    case DR_O_COUNT:
        return false;
    }
    return false;
}

static enum dr_op_status status_of_run(const uint64_t n[DR_S_COUNT])
{
    uint64_t open = n[DR_S_CREATED] + n[DR_S_LEASED] + n[DR_S_WAITING] + n[DR_S_UNKNOWN];
    if (open + n[DR_S_FAILED] == 0) {
        return DR_O_DONE;
    }
    if (n[DR_S_LEASED] + n[DR_S_WAITING] + n[DR_S_UNKNOWN] > 0) {
        return DR_O_RUNNING;
    }
    return n[DR_S_FAILED] > 0 ? DR_O_BLOCKED : DR_O_QUEUED;
}

static enum dr_op_status status_of_rollback(const uint64_t n[DR_S_COUNT])
{
    uint64_t moving = n[DR_S_LEASED] + n[DR_S_WAITING] + n[DR_S_UNKNOWN];
    uint64_t left = moving + n[DR_S_CREATED] + n[DR_S_PROCESSED] + n[DR_S_FAILED] +
                    n[DR_S_UNDOING] + n[DR_S_UNDO_FAILED];
    if (left == 0) {
        return DR_O_ROLLED_BACK;
    }
    return moving == 0 && n[DR_S_UNDO_FAILED] > 0 ? DR_O_ROLLBACK_BLOCKED : DR_O_ROLLING_BACK;
}

enum dr_op_status dr_op_status_of(enum dr_wish wish, const uint64_t count[DR_S_COUNT])
{
    switch (wish) {
    case DR_WISH_HOLD:
        return DR_O_PLANNED;
    case DR_WISH_RUN:
        return status_of_run(count);
    case DR_WISH_PAUSE:
        if (status_of_run(count) == DR_O_DONE && count[DR_S_UNDOING] == 0 &&
            count[DR_S_UNDO_FAILED] == 0) {
            return count[DR_S_UNDONE] > 0 ? DR_O_ROLLED_BACK : DR_O_DONE;
        }
        return count[DR_S_LEASED] > 0 ? DR_O_PAUSING : DR_O_PAUSED;
    case DR_WISH_STOP:
        if (count[DR_S_LEASED] > 0) {
            return DR_O_STOPPING;
        }
        return count[DR_S_CANCELLED] + count[DR_S_FAILED] + count[DR_S_UNDONE] == 0 ? DR_O_DONE
                                                                                    : DR_O_STOPPED;
    case DR_WISH_ROLLBACK:
        return status_of_rollback(count);
    case DR_WISH_COUNT:
        break;
    }
    assert(false && "wish");
    return DR_O_PLANNED;
}
