/* SPDX-License-Identifier: Apache-2.0 */
/* The rollback test mode: does every step's rollback command take back what the step did?
 *
 * Runs the plan step by step on the real nodes, taking a fingerprint (dr_rehearsal_print: tables,
 * columns, triggers, records, clusters of the nodes, and the catalog's record) before the first and
 * after each; then undoes step by step, newest first, comparing the fingerprint after each undo
 * with the one from before that step. Stops before the point of no return. What it made is gone at
 * the end; a difference names the step and both fingerprints' differing lines, and what could not
 * be undone stays on record for recovery. The operation stands in the queue with note "rehearsal".
 */
#ifndef DR_VERBS_REHEARSE_H
#define DR_VERBS_REHEARSE_H

#include "base/err.h"
#include "base/json.h"
#include "queue/queue.h"
#include "store/world.h"
#include "verbs/job.h"

struct dr_rehearsal {
    uint64_t steps, undone;
    uint64_t differing; /* undos after which something was not as before */
    uint64_t forward_us, undo_us;
    json_t *differences; /* [{"step","title","missing":[lines],"left":[lines]}]; owned */
};
DR_MUST enum dr_code dr_rehearse(struct dr_queue *q, const struct dr_store_world *world,
                                 const struct dr_prepared *p, const char *by, int64_t *op_id_out,
                                 struct dr_rehearsal *out, struct dr_err *err);
void dr_rehearsal_fini(struct dr_rehearsal *r);

#endif
