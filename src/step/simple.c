/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of one batch: verify that a range is empty, run a text command. */
#include <inttypes.h>

#include "step/step_private.h"

static enum dr_code batch_verify(struct dr_step_run *run, const struct dr_budget *budget,
                                 struct dr_step_report *report, struct dr_err *err)
{
    uint64_t rows = 0;
    (void)budget;
    enum dr_code rc = dr_step_parse(run, err);
    if (rc == DR_OK) {
        rc = dr_layout_check(run->env->layout, run->env->store, &run->spec.range, false, err);
    }
    if (rc == DR_OK) {
        rc = dr_store_count(run->env->store, &run->spec.range, &rows, err);
    }
    if (rc == DR_OK && rows > 0) {
        rc = dr_fail(err, DR_CONFLICT,
                     "%s on %s: %" PRIu64
                     " items are there after all was erased; something still writes them: stop "
                     "it, erase them with a new operation, then retry this step",
                     run->spec.range.collection, run->spec.range.node, rows);
    }
    report->is_done = rc == DR_OK;
    return rc;
}

/* Look before undoing: what is gone need not be removed, and a node that does not answer is asked
 * again later, with nothing half done. */
static enum dr_code check_undo(const struct dr_step_run *run, bool *is_done, struct dr_err *err)
{
    const struct dr_lease *l = run->lease;
    enum dr_code rc = dr_store_check(run->env->store, l->node, l->rollback_query, true, err);
    *is_done = rc == DR_NOT_FOUND;
    if (*is_done) {
        dr_err_clear(err);
        return DR_OK;
    }
    if (rc != DR_OK) {
        dr_wrap(err, "the rollback command cannot be run now");
    }
    return rc;
}

/* Commands are made so that repeating one is harmless ("already so" counts as done). */
static enum dr_code batch_command(struct dr_step_run *run, const struct dr_budget *budget,
                                  struct dr_step_report *report, struct dr_err *err)
{
    struct dr_lease *l = run->lease;
    (void)budget;
    bool is_undone = false;
    enum dr_code rc = run->env->still_mine(run->env->arg, err);
    if (rc == DR_OK && l->is_undo) {
        rc = check_undo(run, &is_undone, err);
    }
    if (rc == DR_OK && !is_undone) {
        rc = dr_store_command(run->env->store, l->node, l->is_undo ? l->rollback_query : l->query,
                              err);
    }
    report->is_done = rc == DR_OK;
    return rc;
}

const struct step_way *dr_step_way_verify(void)
{
    static const struct step_way way = {.name = "verify", .batch = batch_verify};
    return &way;
}

const struct step_way *dr_step_way_command(void)
{
    static const struct step_way way = {.name = "command", .batch = batch_command};
    return &way;
}
