/* SPDX-License-Identifier: Apache-2.0 */
/* How one step is done, batch by batch: erase, verify, command, and the undo of each.
 *
 * A run works on a lease and moves its mark; saving the mark is the caller's business. Every batch
 * is safe to repeat. One thread per run. */
#ifndef DR_STEP_STEP_H
#define DR_STEP_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "queue/queue.h"
#include "store/store.h"

/* What is known of a store's layout beyond the plan; kept by a thread beside its store handle, so
 * that a changed epoch costs one survey and not one per step. */
struct dr_layout;
DR_MUST enum dr_code dr_layout_create(struct dr_layout **out, struct dr_err *err);
void dr_layout_destroy(struct dr_layout *l);

struct dr_step_env {
    struct dr_store *store;   /* of the lease's URL */
    struct dr_layout *layout; /* of that store */
    struct dr_batch *batch;   /* scratch */
    const char *data_dir;
    /* The operation's request, for steps whose command refers to it; borrowed for the run's life.
     */
    enum dr_code (*request)(void *arg, const char **text_out, struct dr_err *err);
    /* Asked between archiving and erasing: DR_OK, DR_LOST when the lease is no longer ours,
     * DR_STOPPED when the operation shall do no further batch. */
    enum dr_code (*still_mine)(void *arg, struct dr_err *err);
    void *arg;
};

struct dr_step_report {
    bool is_done;   /* nothing of the step is left */
    uint64_t items; /* erased or put back by this batch */
    uint64_t read;  /* items looked at */
    uint64_t bytes;
};

struct dr_step_run;
/* Prepare: parse the command, check the layout, open the archive, find out what an interrupted try
 * has done (lease->needs_probe is cleared then). Borrows env and lease for the run's life. */
DR_MUST enum dr_code dr_step_begin(const struct dr_step_env *env, struct dr_lease *lease,
                                   struct dr_step_run **out, struct dr_err *err);
/* Do one batch within the budget and move lease->mark. After an error the run must be ended.
 * budget->items_max 0 only looks: DR_BRAKED, with nothing touched, when there is an item to erase.
 */
DR_MUST enum dr_code dr_step_batch(struct dr_step_run *run, const struct dr_budget *budget,
                                   struct dr_step_report *report, struct dr_err *err);
void dr_step_end(struct dr_step_run *run); /* accepts NULL */

#endif
