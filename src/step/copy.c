/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that copy: batch by batch, the cursor in the lease's mark. What is copied, from where and
 * where to, is the command's text and the store's business; a batch may be repeated from an older
 * cursor. */
#include <inttypes.h>
#include <string.h>

#include "step/step_private.h"

static enum dr_code begin_copy(struct dr_step_run *run, struct dr_err *err)
{
    const struct dr_progress_mark *m = &run->lease->mark;
    if (m->cursor_len > DR_CURSOR_BYTES_MAX) {
        return dr_fail(err, DR_CORRUPT, "step %" PRId64 ": a stored cursor of %zu bytes",
                       run->lease->step_id, m->cursor_len);
    }
    run->cursor.len = (uint32_t)m->cursor_len;
    if (m->cursor_len > 0) {
        memcpy(run->cursor.data, m->cursor, m->cursor_len);
    }
    run->lease->needs_probe = false; /* a lost batch is done once more */
    return DR_OK;
}

static enum dr_code batch_copy(struct dr_step_run *run, const struct dr_budget *budget,
                               struct dr_step_report *report, struct dr_err *err)
{
    struct dr_copied copied = {0};
    struct dr_lease *l = run->lease;
    enum dr_code rc = run->env->still_mine(run->env->arg, err);
    rc = rc == DR_OK ? dr_store_copy(run->env->store, l->query, budget, &run->cursor, &copied, err)
                     : rc;
    if (rc != DR_OK) {
        return rc;
    }
    l->mark.done += copied.rows;
    dr_step_note_cursor(run, copied.is_end);
    report->items = copied.rows;
    report->read = copied.rows + copied.read;
    report->bytes = copied.bytes;
    report->is_done = copied.is_end;
    return DR_OK;
}

const struct step_way *dr_step_way_copy(void)
{
    static const struct step_way way = {.name = "copy", .begin = begin_copy, .batch = batch_copy};
    return &way;
}
