/* SPDX-License-Identifier: Apache-2.0 */
/* The way from a job's JSON to a stored plan, the same for the command line and the API: parse,
 * guard, survey, plan, put. Up to the put nothing is written anywhere. A struct dr_prepared belongs
 * to one thread; any thread may have one. */
#ifndef DR_VERBS_JOB_H
#define DR_VERBS_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "plan/plan.h"
#include "queue/queue.h"
#include "request/request.h"
#include "store/store.h"
#include "store/world.h"
#include "verbs/config.h"
#include "verbs/place.h"

struct dr_prepared {
    json_t *job; /* as given; kept for the record */
    struct dr_request *request;
    struct dr_store *store;
    struct dr_survey *survey;
    struct dr_plan *plan;
};

/* Parse `job` with the configuration's tuning beneath its own, guard, survey, plan: reads only.
 * Takes the reference to `job` in any case. `name` stands in messages; *place_out says whom a
 * failure was talking to. Blocks for the survey. Release with dr_prepared_fini, also on failure. */
DR_MUST enum dr_code dr_job_prepare(const struct dr_config *config,
                                    const struct dr_store_world *world, json_t *job,
                                    const char *name, struct dr_prepared *out,
                                    enum dr_place *place_out, struct dr_err *err);
/* The first half alone: parse and guard, no store is touched. */
DR_MUST enum dr_code dr_job_parse(const struct dr_config *config, json_t *job, const char *name,
                                  struct dr_prepared *out, struct dr_err *err);
/* The second half: open the store (in `world`, which may be NULL), survey, guard what only the
 * survey knows, plan; of an operation that shall roll itself back, have the store look at every
 * command and rollback command. */
DR_MUST enum dr_code dr_job_plan(const struct dr_config *config, const struct dr_store_world *world,
                                 struct dr_prepared *p, enum dr_place *place_out,
                                 struct dr_err *err);
void dr_prepared_fini(struct dr_prepared *p); /* fine on a zeroed one */

struct dr_job_put {
    enum dr_wish wish;
    const char *by;  /* user@host, or api:NAME */
    const char *key; /* idempotency key, or NULL */
    /* What the key stands for: a second put with it must ask for the same. NULL: the job. */
    const json_t *asked;
};
/* Store the plan. *is_repeated_out (may be NULL) says that the key was used before and that
 * *op_id_out is the first one's; that something else was asked for with it is DR_EXISTS. Durable.
 */
DR_MUST enum dr_code dr_job_store(struct dr_queue *q, const struct dr_prepared *p,
                                  const struct dr_job_put *put, int64_t *op_id_out,
                                  bool *is_repeated_out, enum dr_place *place_out,
                                  struct dr_err *err);
/* The operation that `key` was used for: *op_id_out 0 when none was; DR_EXISTS when something else
 * was asked for. Called before the survey: a repeat must not be refused because the first one has
 * done its work. */
DR_MUST enum dr_code dr_job_find(struct dr_queue *q, const char *key, const json_t *asked,
                                 int64_t *op_id_out, struct dr_err *err);

#endif
