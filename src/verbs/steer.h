/* SPDX-License-Identifier: Apache-2.0 */
/* Steering shared by both doors: tuning of stored operations, paging over them, and what counts as
 * approved. Any thread; the queue handle may be shared. */
#ifndef DR_VERBS_STEER_H
#define DR_VERBS_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "queue/queue.h"
#include "request/tuning.h"

enum { DR_PAGE = 64 }; /* operations, steps and audit rows read at a time */

/* Has somebody approved it? A plan that was paused or stopped before is no less a mere plan. */
bool dr_op_is_approved(const struct dr_op *op);
/* The stored tuning of an operation. */
DR_MUST enum dr_code dr_steer_read_tuning(struct dr_queue *q, int64_t op_id, struct dr_tuning *out,
                                          struct dr_err *err);
/* Change what the object `changes` names (NULL: only read) and give the whole tuning; `path` is
 * shown in messages. Release *whole_out with json_decref. Durable when something changes. */
DR_MUST enum dr_code dr_steer_tune(struct dr_queue *q, int64_t op_id, const json_t *changes,
                                   const char *path, const char *by, json_t **whole_out,
                                   struct dr_err *err);
/* Call `each` for every operation, newest first. */
DR_MUST enum dr_code dr_each_op(struct dr_queue *q,
                                enum dr_code (*each)(void *arg, const struct dr_op *op,
                                                     struct dr_err *err),
                                void *arg, struct dr_err *err);
/* Call `each` for the steps of an operation, DR_S_COUNT: all; stops when *more turns false. */
DR_MUST enum dr_code dr_each_step(struct dr_queue *q, int64_t op_id, enum dr_step_status status,
                                  enum dr_code (*each)(void *arg, const struct dr_step *step,
                                                       bool *more, struct dr_err *err),
                                  void *arg, struct dr_err *err);

#endif
