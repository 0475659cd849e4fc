/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics to a statsd server over UDP, with tags ("name:1|c|#key:value"). Sending never blocks and
 * never fails loudly: a metric that cannot be sent is dropped and counted. Any thread. */
#ifndef DR_OBS_STATSD_H
#define DR_OBS_STATSD_H

#include <stdint.h>

#include "base/err.h"

struct dr_statsd;
/* host NULL: a handle that drops everything. prefix "tokenserver" gives "tokenserver.name". */
DR_MUST enum dr_code dr_statsd_create(const char *host, uint16_t port, const char *prefix,
                                      struct dr_statsd **out, struct dr_err *err);
void dr_statsd_destroy(struct dr_statsd *s); /* accepts NULL */
/* tags: "type:not_down,reason:x" or NULL. NULL handles do nothing. */
void dr_statsd_count(struct dr_statsd *s, const char *name, int64_t n, const char *tags);
void dr_statsd_gauge(struct dr_statsd *s, const char *name, int64_t value, const char *tags);
void dr_statsd_timing(struct dr_statsd *s, const char *name, uint64_t ms, const char *tags);
uint64_t dr_statsd_dropped(const struct dr_statsd *s);

#endif
