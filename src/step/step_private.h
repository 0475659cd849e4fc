/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of steps behind step.h: one table of functions each. */
#ifndef DR_STEP_PRIVATE_H
#define DR_STEP_PRIVATE_H

#include "archive/archive.h"
#include "step/step.h"

struct dr_step_run {
    const struct dr_step_env *env;
    struct dr_lease *lease;
    struct dr_arena *arena; /* parsed commands */
    const struct step_way *way;
    /* erase */
    struct dr_erase_spec spec;
    struct dr_archive_writer *writer;
    struct dr_archive_item *items; /* the batch in the archive's words */
    uint64_t items_room;
    struct dr_cursor cursor;
    bool is_pass_fruitful; /* this pass has found something: another one follows */
    unsigned barren;       /* passes in a row that found items and erased none */
    uint64_t pass_erased;
    bool has_open_frame; /* archived, outcome not known */
    /* restore */
    struct dr_archive_reader *reader;
    bool is_repeat_possible; /* an earlier try failed: its last frame may be back already */
};

/* One way of doing a step. */
struct step_way {
    const char *name;
    enum dr_code (*begin)(struct dr_step_run *run, struct dr_err *err); /* may be NULL */
    enum dr_code (*batch)(struct dr_step_run *run, const struct dr_budget *budget,
                          struct dr_step_report *report, struct dr_err *err);
};

/* The lease's command into run->spec, with the request filled in where the command refers to it. */
DR_MUST enum dr_code dr_step_parse(struct dr_step_run *run, struct dr_err *err);

/* The run's cursor into the lease's mark; at the end of what it walks there is none. */
void dr_step_note_cursor(struct dr_step_run *run, bool is_end);

const struct step_way *dr_step_way_erase(void);
const struct step_way *dr_step_way_restore(void);
const struct step_way *dr_step_way_verify(void);
const struct step_way *dr_step_way_command(void);
const struct step_way *dr_step_way_copy(void);

/* May this range be worked on, although the plan's epoch may be over? Sets range->epoch to the
 * layout's epoch now. DR_CONFLICT when the node no longer holds all of the range. */
DR_MUST enum dr_code dr_layout_check(struct dr_layout *l, struct dr_store *store,
                                     struct dr_range *range, bool is_undo, struct dr_err *err);
/* Find out by probing how many items of frame `n`, which the queue does not vouch for, were erased;
 * the lease's mark counts them then. */
DR_MUST enum dr_code dr_step_resolve_frame(struct dr_step_run *run,
                                           struct dr_archive_reader *reader, uint64_t n,
                                           struct dr_err *err);
/* Copy one archived frame into a batch. */
DR_MUST enum dr_code dr_step_batch_from_frame(struct dr_batch *batch,
                                              const struct dr_archive_item *item, uint64_t count,
                                              struct dr_err *err);

#endif
