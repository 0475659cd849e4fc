/* SPDX-License-Identifier: Apache-2.0 */
/* The account of an operation: how far each collection is on each node, from what the queue knows.
 *
 * Memory is by collection and node, however many steps there are. A plain value of its maker; any
 * thread may make one while the operation runs, and then it is as of about now. */
#ifndef DR_VERBS_ACCOUNT_H
#define DR_VERBS_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "plan/plan.h"
#include "queue/queue.h"

/* clang-format off */
#define DR_ROW_STATUS_MAP(X)          \
    X(PENDING, "pending")             \
    X(IN_PROGRESS, "in_progress")     \
    X(COMPLETED, "completed")         \
    X(FAILED, "failed")
/* clang-format on */
enum dr_row_status {
#define X(name, text) DR_ROW_##name,
    DR_ROW_STATUS_MAP(X)
#undef X
};
const char *dr_row_status_name(enum dr_row_status s);

struct dr_account_row {
    char *collection; /* NULL in the totals */
    char *node;
    enum dr_row_status status; /* completed: every erase and verify step is; failed: one is stuck */
    uint64_t total;            /* items, as planned */
    uint64_t done;             /* erased and not put back */
    uint64_t steps, steps_done; /* erase steps: the chunks */
    char *last;                 /* the chunk that was finished last, or NULL */
    char *error;                /* of the first quarantined step, or NULL */
    dr_wall_ms updated_at;      /* when a step moved last; 0: none has */
    uint64_t worked_ms;         /* time that steps have taken, added up */
    uint64_t archive_bytes;
    /* What the status is made of. */
    uint64_t parts, parts_done, parts_idle, parts_stuck;
    dr_wall_ms last_at;
};

struct dr_account {
    uint32_t row_count, row_room;
    struct dr_account_row *row;  /* by collection, then node */
    struct dr_account_row total; /* without names, last and error */
};

/* Reads all steps of the operation, a page at a time. Destroy with dr_account_destroy. */
DR_MUST enum dr_code dr_account_make(struct dr_queue *q, int64_t op_id, struct dr_account **out,
                                     struct dr_err *err);
/* What a plan would do: everything is pending. */
DR_MUST enum dr_code dr_account_of_plan(const struct dr_plan *p, struct dr_account **out,
                                        struct dr_err *err);
void dr_account_destroy(struct dr_account *a); /* accepts NULL */

/* A table for people, at most `rows_max` rows (0: all), quarantined ones in any case, and a line of
 * totals. */
void dr_account_print(const struct dr_account *a, uint32_t rows_max, struct dr_str *out);
/* {"rows": [...], "totals": {...}}; NULL when memory is short. */
json_t *dr_account_json(const struct dr_account *a);
/* The text that dr_store_publish takes; dr_free it, NULL when memory is short. */
char *dr_account_state(const struct dr_account *a);

#endif
