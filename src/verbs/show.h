/* SPDX-License-Identifier: Apache-2.0 */
/* How operations and steps look, as JSON and for people. Pure but for the clock's format. */
#ifndef DR_VERBS_SHOW_H
#define DR_VERBS_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "queue/queue.h"

json_t *dr_show_op_json(const struct dr_op *op); /* NULL when memory is short */
void dr_show_op(const struct dr_op *op, struct dr_str *out);
void dr_show_op_head(struct dr_str *out);
void dr_show_op_line(const struct dr_op *op, dr_wall_ms now, struct dr_str *out);
json_t *dr_show_step_json(const struct dr_step *s); /* NULL when memory is short */
/* "2026-11-21 05:48:26Z", "-" for 0; returns buf. */
char *dr_show_when(dr_wall_ms at, char *buf, size_t buf_bytes);
/* A text as JSON, NULL as null. Some were cut to fit a column, perhaps inside a character: then it
 * is shown in ASCII rather than keeping everything else from being told. NULL: memory is short. */
json_t *dr_show_text_json(const char *text);
/* The archive is still there and an undo would be accepted at `now`. */
bool dr_show_is_undo_possible(const struct dr_op *op);
/* What an operation of this kind does to items: "erased" or, of sharded tables, "copied". */
const char *dr_show_done_word(const struct dr_op *op);
/* Undo counts down what was done; everything else counts up. */
void dr_show_progress_of(const struct dr_op *op, uint64_t *done_out, uint64_t *total_out);

#endif
