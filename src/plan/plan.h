/* SPDX-License-Identifier: Apache-2.0 */
/* The planner: request + survey -> steps. Pure: no clock, file, socket or thread.
 *
 * A plan lists every step with strategy, efficiency, estimate, order and undo, and is what a dry
 * run prints. Steps come from an iterator so that a plan of a million steps never stands in memory
 * twice. Order: stage 0 prepares (temporary index), stage 1 erases, stage 2 verifies, later stages
 * tidy up (drop the temporary index, drop the empty collection, the point of no return last). */
#ifndef DR_PLAN_PLAN_H
#define DR_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "request/request.h"
#include "store/store.h"

enum dr_step_kind {
    DR_STEP_ERASE,   /* query: {"range": {...}, "archive": true|false} */
    DR_STEP_VERIFY,  /* query: {"range": {...}}: fails unless the range is empty */
    DR_STEP_COMMAND, /* query and rollback_query: text commands for the node */
    DR_STEP_COPY,    /* query: a text for dr_store_copy, batch by batch; undo like a command's */
    DR_STEP_KIND_COUNT
};
const char *dr_step_kind_name(enum dr_step_kind kind); /* "erase" */
bool dr_step_kind_parse(const char *name, enum dr_step_kind *out);

enum dr_strategy {
    DR_BY_CHUNK_RANGE,
    DR_BY_CHUNK_HASHED,
    DR_BY_KEY_LIST,
    DR_BY_INDEXED,
    DR_BY_FULL_SCAN,
    DR_BY_BROADCAST,
    DR_STRATEGY_COUNT
};
const char *dr_strategy_name(enum dr_strategy s); /* "shard-range" ... */
const char *
dr_strategy_efficiency(enum dr_strategy s); /* "high", "medium", "low", "low, expensive" */

/* One step of a plan. Texts are borrowed until the next dr_plan_next on the same iterator. */
struct dr_plan_step {
    int64_t number; /* 1, 2, 3 ... within the plan */
    enum dr_step_kind kind;
    const char *node;
    const char *query;
    const char *rollback_query; /* NULL only in an irreversible plan */
    int64_t wait_for;           /* number of the step that must be processed first; 0: none */
    int64_t rollback_wait_for;  /* number of the step that must be undone first; 0: none */
    uint32_t stage;             /* runs when all steps of lower stages are processed */
    int32_t priority;           /* within the operation; higher first */
    uint64_t estimated;         /* items; 0 for commands */
    bool is_estimate_known;
    const char *cleanup; /* command that removes what this step makes, or NULL; recorded
                            before the step runs, run whenever the operation ends */
    const char *title;   /* for people: "erase acme.orders chunk [10, 20) on s1" */
};

struct dr_plan_part { /* one collection */
    const char *collection;
    enum dr_strategy strategy;
    const char *why;     /* why this strategy */
    const char *warning; /* or NULL */
    uint64_t steps;
    uint64_t estimated; /* items to erase */
    uint64_t total;     /* items there */
};

struct dr_plan;
/* Choose strategies and apply the guards that need the survey: views and system collections,
 * triggers, a filter that matches every row, more than max_items, low strategies without
 * allow_scan, a named collection that is not there. DR_REFUSED with the reason and the remedy.
 * Borrows request and survey for its life. */
DR_MUST enum dr_code dr_plan_make(const struct dr_request *request, const struct dr_survey *survey,
                                  uint32_t store_can, struct dr_plan **out, struct dr_err *err);
void dr_plan_destroy(struct dr_plan *p);

uint64_t dr_plan_step_count(const struct dr_plan *p);
uint64_t dr_plan_estimated(const struct dr_plan *p);
bool dr_plan_is_irreversible(const struct dr_plan *p);
int64_t dr_plan_no_return(const struct dr_plan *p); /* first step number without undo; 0: none */
/* A step that cannot be done ends the whole: it is rolled back by itself. */
bool dr_plan_is_atomic(const struct dr_plan *p);
/* How long a step may fail before it counts as one that cannot be done, seconds; 0: for ever. */
uint32_t dr_plan_give_up_s(const struct dr_plan *p);
uint32_t dr_plan_part_count(const struct dr_plan *p);
const struct dr_plan_part *dr_plan_part_at(const struct dr_plan *p, uint32_t i);
/* Hash over all steps: the same request on the same survey gives the same plan. */
uint64_t dr_plan_hash(const struct dr_plan *p);

struct dr_plan_iter;
DR_MUST enum dr_code dr_plan_begin(const struct dr_plan *p, struct dr_plan_iter **out,
                                   struct dr_err *err);
/* *has_out false at the end. */
DR_MUST enum dr_code dr_plan_next(struct dr_plan_iter *it, struct dr_plan_step *step, bool *has_out,
                                  struct dr_err *err);
void dr_plan_end(struct dr_plan_iter *it);

/* Table for people: header with mode and target, collections with strategy and reason, then at most
 * `steps_max` steps (0: all), totals, the undo and the point of no return. */
DR_MUST enum dr_code dr_plan_print(const struct dr_plan *p, bool is_dry_run, uint64_t steps_max,
                                   struct dr_str *out, struct dr_err *err);
/* Summary as JSON (parts and totals), with all steps when `with_steps`. */
DR_MUST enum dr_code dr_plan_to_json(const struct dr_plan *p, bool with_steps, json_t **out,
                                     struct dr_err *err);

/* Codec of a step's erase/verify command (fuzzed): text -> range. */
struct dr_erase_spec {
    struct dr_range range;
    bool with_archive;
};
DR_MUST enum dr_code dr_erase_spec_parse(const char *query, struct dr_arena *a,
                                         struct dr_erase_spec *out, struct dr_err *err);
char *dr_erase_spec_text(const struct dr_erase_spec *spec); /* dr_free; NULL when short */

#endif
