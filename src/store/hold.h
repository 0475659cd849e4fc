/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about a whole table, told alike to every SQL store: take it out of use by another name,
 * keep it so until a date, drop it then; or truncate it. The planner writes them, adapters read
 * them back here and say them in their own dialect. */
#ifndef DR_STORE_HOLD_H
#define DR_STORE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define DR_HOLD_SUFFIX "_drover_hold"

/* The longest name a held table may have: PostgreSQL would cut a longer one silently. */
enum { DR_HOLD_NAME_BYTES_MAX = 63 };

enum dr_whole {
    DR_WHOLE_NONE,     /* some other command: the adapter's own business */
    DR_WHOLE_TRUNCATE, /* TRUNCATE TABLE "schema"."name" */
    DR_WHOLE_RENAME,   /* ALTER TABLE "schema"."name" RENAME TO "to" */
    DR_WHOLE_HOLD,     /* HOLD UNTIL milliseconds since 1970 */
    DR_WHOLE_DROP,     /* DROP HELD TABLE "schema"."name": with its rows; the name ends in the
                          suffix, so that no other table can be meant */
};

struct dr_whole_command {
    enum dr_whole what;
    const char *schema;
    const char *name;
    const char *to;
    dr_wall_ms until;
};

/* Read a command; texts into the arena. DR_OK with DR_WHOLE_NONE for what is not of these; DR_INPUT
 * for what begins like one of them and goes on differently. */
DR_MUST enum dr_code dr_whole_parse(const char *text, struct dr_arena *a,
                                    struct dr_whole_command *out, struct dr_err *err);
/* Write one. */
void dr_whole_print(const struct dr_whole_command *c, struct dr_str *out);

/* Does the text say "hold"? Then DR_OK when its date is over, and DR_BRAKED, with the date, before.
 * For adapters that know only this one of the commands. */
DR_MUST enum dr_code dr_store_hold(const char *text, bool *is_hold_out, struct dr_err *err);
/* The same at a given time. */
DR_MUST enum dr_code dr_store_hold_at(const struct dr_whole_command *c, dr_wall_ms now,
                                      struct dr_err *err);

#endif
