/* SPDX-License-Identifier: Apache-2.0 */
/* What an operation does now, why not faster, and what comes next, in sentences. */
#ifndef DR_VERBS_EXPLAIN_H
#define DR_VERBS_EXPLAIN_H

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "queue/queue.h"

/* Append the sentences, a line each. Reads the queue and the disk's free space; any thread. */
DR_MUST enum dr_code dr_explain_op(struct dr_queue *q, const struct dr_op *op, struct dr_str *out,
                                   struct dr_err *err);
/* The same as an object {"operation", "status", "waiting", "explanation": [lines]}. */
DR_MUST enum dr_code dr_explain_op_json(struct dr_queue *q, const struct dr_op *op, json_t **out,
                                        struct dr_err *err);

#endif
