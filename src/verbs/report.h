/* SPDX-License-Identifier: Apache-2.0 */
/* The report of an operation: what it was, how long it took, what was done to which collection on
 * which node, and what a person should know. The same form for a dry run, from the plan. */
#ifndef DR_VERBS_REPORT_H
#define DR_VERBS_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "plan/plan.h"
#include "queue/queue.h"

/* As JSON, see README.md; the queue is only read. Release with json_decref. */
DR_MUST enum dr_code dr_report_op(struct dr_queue *q, int64_t op_id, json_t **out,
                                  struct dr_err *err);
/* Of a dry run that took `took_ms`. */
DR_MUST enum dr_code dr_report_plan(const struct dr_plan *p, uint64_t took_ms, json_t **out,
                                    struct dr_err *err);
/* For people, at most `rows_max` rows of the table (0: all). */
DR_MUST enum dr_code dr_report_text(struct dr_queue *q, int64_t op_id, uint32_t rows_max,
                                    struct dr_str *out, struct dr_err *err);
/* Can a report be written there? Asked before the work, which may take days. DR_INPUT if not. */
DR_MUST enum dr_code dr_report_check(const char *path, struct dr_err *err);
/* Write it whole or not at all: beside, then renamed over. */
DR_MUST enum dr_code dr_report_write(const char *path, const json_t *report, struct dr_err *err);
/* The report's JSON as text, in the order of its fields. Shortness of memory sticks in *out. */
void dr_report_print(const json_t *report, struct dr_str *out);
/* "1h 02m 05s", hours without end; returns buf. */
char *dr_report_hms(uint64_t ms, char *buf, size_t buf_bytes);

#endif
