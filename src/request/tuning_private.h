/* SPDX-License-Identifier: Apache-2.0 */
/* The text form of quiet windows, between tuning.c (JSON) and quiet.c (time). */
#ifndef DR_REQUEST_TUNING_PRIVATE_H
#define DR_REQUEST_TUNING_PRIVATE_H

#include <stdbool.h>

#include "base/str.h"
#include "request/tuning.h"

/* "HH:MM" up to 24:00, moving *at behind it. */
bool dr_tuning_read_time(const char **at, unsigned *minutes_out);
/* "[days ]HH:MM-HH:MM", the whole text. */
bool dr_tuning_read_quiet(const char *text, struct dr_quiet *out);
void dr_tuning_print_quiet(const struct dr_quiet *q, struct dr_str *out);

#endif
