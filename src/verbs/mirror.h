/* SPDX-License-Identifier: Apache-2.0 */
/* The mirror: keeps status records outside drover true to the operations that ask for them.
 *
 * One thread of the process that owns the data folder. An operation asks for records by a
 * "status_database" in its request; they are written where "status_store" points to, else into its
 * own store. Records hold absolute values and follow from the queue alone, so writing them again is
 * harmless, and whatever a crash left wrong the next owner writes right: what the queue does not
 * remember as written is written. Trouble with the records is logged and never stops the work.
 *
 * Where several operations keep records of the same database, the newest has the last word. */
#ifndef DR_VERBS_MIRROR_H
#define DR_VERBS_MIRROR_H

#include <stdint.h>

#include "base/err.h"
#include "obs/log.h"
#include "queue/queue.h"

struct dr_mirror_config {
    struct dr_queue *queue; /* owned by this process; outlives the mirror */
    struct dr_log *log;     /* may be NULL */
    uint32_t interval_ms;   /* between two looks, 0: 5000; more when a look takes long */
    uint32_t retry_first_ms, retry_max_ms; /* 0: 1000 and 60000 */
};

struct dr_mirror;

/* Start the thread. Copies the config. */
DR_MUST enum dr_code dr_mirror_start(const struct dr_mirror_config *c, struct dr_mirror **out,
                                     struct dr_err *err);
/* Write once more what is not yet as it should be, one try each, and end. Blocks for that. Accepts
 * NULL. */
void dr_mirror_stop(struct dr_mirror *m);

#endif
