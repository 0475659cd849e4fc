/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the mapping from result codes and endings to exit codes. Pure. */
#include "cli/exits.h"

/* SQLite's "cannot open" and a missing parent folder are, for our own files, all the same to the
 * operator: that place cannot be written. */
static enum dr_exit exit_of_data(enum dr_code code)
{
    switch (code) {
    case DR_UNSUPPORTED:
    case DR_CORRUPT:
        return DR_EXIT_DAMAGED;
    case DR_BUSY:
        return DR_EXIT_BUSY;
    case DR_DENIED:
    case DR_UNREACHABLE:
    case DR_IO:
    case DR_FULL:
    case DR_READONLY:
        return DR_EXIT_FULL;
    case DR_OK:
    case DR_USAGE:
    case DR_INPUT:
    case DR_REFUSED:
    case DR_NOT_FOUND:
    case DR_EXISTS:
    case DR_UNKNOWN:
    case DR_STALE:
    case DR_BRAKED:
    case DR_LOST:
    case DR_NOMEM:
    case DR_STOPPED:
    case DR_CONFLICT:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        break;
    }
    return dr_exit_of(code, DR_AT_NOTHING);
}

enum dr_exit dr_exit_of(enum dr_code code, enum dr_place place)
{
    if (place == DR_AT_DATA) {
        return exit_of_data(code);
    }
    switch (code) {
    case DR_OK:
        return DR_EXIT_DONE;
    case DR_USAGE:
        return DR_EXIT_USAGE;
    case DR_REFUSED:
    case DR_CONFLICT:
        return DR_EXIT_REFUSED;
    case DR_INPUT:
    case DR_UNSUPPORTED:
    case DR_EXISTS:
        return DR_EXIT_INPUT;
    case DR_DENIED:
    case DR_UNREACHABLE:
        return DR_EXIT_STORE;
    case DR_BUSY:
        return place == DR_AT_STORE ? DR_EXIT_STORE : DR_EXIT_BUSY;
    case DR_CORRUPT:
        return DR_EXIT_DAMAGED;
    case DR_STOPPED:
        return DR_EXIT_INTERRUPTED;
    case DR_NOT_FOUND:
        return place == DR_AT_ARCHIVE ? DR_EXIT_DAMAGED : DR_EXIT_NOT_FOUND;
    case DR_FULL:
    case DR_READONLY:
        return DR_EXIT_FULL;
    case DR_UNKNOWN:
    case DR_STALE:
    case DR_BRAKED:
    case DR_LOST:
    case DR_IO:
    case DR_NOMEM:
    case DR_INTERNAL:
    case DR_CODE_COUNT:
        return DR_EXIT_FAILED;
    }
    return DR_EXIT_FAILED;
}

enum dr_exit dr_exit_of_status(enum dr_op_status status, bool is_undo_asked)
{
    switch (status) {
    case DR_O_DONE:
        return is_undo_asked ? DR_EXIT_FAILED : DR_EXIT_DONE;
    case DR_O_PAUSING:
    case DR_O_PAUSED:
    case DR_O_STOPPING:
    case DR_O_STOPPED:
        return DR_EXIT_EARLY;
    case DR_O_BLOCKED:
    case DR_O_ROLLBACK_BLOCKED:
        return DR_EXIT_BLOCKED;
    case DR_O_ROLLED_BACK:
        return is_undo_asked ? DR_EXIT_DONE : DR_EXIT_ROLLED_BACK;
    case DR_O_PLANNED:
    case DR_O_QUEUED:
    case DR_O_RUNNING:
    case DR_O_ROLLING_BACK:
    case DR_O_COUNT:
        return DR_EXIT_FAILED;
    }
    return DR_EXIT_FAILED;
}
