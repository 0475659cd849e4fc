/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file (DIR/drover.json), read and checked once when drover starts. A plain value
 * that nobody changes afterwards, so any thread may read it. */
#ifndef DR_VERBS_CONFIG_H
#define DR_VERBS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "obs/log.h"
#include "request/request.h"

struct dr_config {
    json_t *json; /* owns what the others borrow */
    struct dr_protect protect;
    uint32_t threads;          /* 0: the pool's default */
    const json_t *defaults;    /* tuning beneath a job's own; NULL: none */
    const json_t *redis_stats; /* what a purge of a service's stats starts from; NULL: none */
    const char *log_file;      /* NULL: standard error */
    enum dr_log_level log_level;
    bool is_log_level_given;
};

/* Fills the zeroed *c. DR_INPUT names the file and the key; DR_NOT_FOUND when there is no file. */
DR_MUST enum dr_code dr_config_load(struct dr_config *c, const char *path, struct dr_err *err);
void dr_config_fini(struct dr_config *c); /* fine on a zeroed one */

#endif
