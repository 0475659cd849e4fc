/* SPDX-License-Identifier: Apache-2.0 */
/* What may be changed while an operation runs: speed, batch limits, priority, quiet hours.
 *
 * JSON (all optional): {"rate": 5000, "batch_items_min": 10, "batch_items_max": 10000,
 * "batch_bytes_max": 8388608, "batch_target_ms": 500, "per_node": 1, "lanes": 0, "priority": 0,
 * "max_items": 0, "sleep_ratio": 0.0, "quiet": ["Mon-Fri 08:00-20:00"], "timezone": "UTC"}.
 * `quiet` lists when NOT to work: "[days ]HH:MM-HH:MM", days "Mon", "Mon-Fri", "Sat,Sun"; a window
 * whose end is before its start goes over midnight. Time zone: "UTC", "local" or "+HH:MM". Pure. */
#ifndef DR_REQUEST_TUNING_H
#define DR_REQUEST_TUNING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"

enum { DR_QUIET_MAX = 32 };

struct dr_quiet {
    uint8_t days;      /* bit 0 is Monday */
    uint16_t from_min; /* minute of the day, 0..1439 */
    uint16_t upto_min; /* 1..1440; <= from_min: ends on the next day */
};

enum dr_zone { DR_ZONE_UTC, DR_ZONE_LOCAL, DR_ZONE_FIXED };

struct dr_tuning {
    uint64_t rate_items_s;    /* 0: no limit; over the whole operation */
    uint64_t batch_items_min; /* default 1 */
    uint64_t batch_items_max; /* default 10000 */
    uint64_t batch_bytes_max; /* default 8 MiB */
    uint64_t batch_target_ms; /* default 500 */
    uint64_t max_items;       /* 0: no limit; the operation stops (paused, with reason) beyond it */
    double sleep_ratio;       /* sleep this times the batch's duration after each; default 0 */
    uint32_t per_node;        /* steps at once per node; default 1 */
    uint32_t lanes;           /* steps at once over all nodes; 0: no limit */
    int32_t priority;         /* -100..100, higher goes first; default 0 */
    enum dr_zone zone;
    int32_t zone_offset_min;
    uint32_t quiet_count;
    struct dr_quiet quiet[DR_QUIET_MAX];
};

void dr_tuning_default(struct dr_tuning *t);
/* Change only what the object names (on top of what `t` holds); unknown keys and out-of-range
 * values are DR_INPUT with the path. `path` is shown in messages ("job.tuning"). */
DR_MUST enum dr_code dr_tuning_parse(const json_t *j, const char *path, struct dr_tuning *t,
                                     struct dr_err *err);
json_t *dr_tuning_to_json(const struct dr_tuning *t);
/* Is `now` inside a quiet window? Then *over_out is when the (union of) window(s) ends. */
bool dr_tuning_is_quiet(const struct dr_tuning *t, dr_wall_ms now, dr_wall_ms *over_out);

#endif
