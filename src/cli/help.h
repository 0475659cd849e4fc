/* SPDX-License-Identifier: Apache-2.0 */
/* Everything the program says about itself, made from the table of commands. Pure. */
#ifndef DR_CLI_HELP_H
#define DR_CLI_HELP_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "cli/table.h"

void dr_help_overview(struct dr_str *out);
/* The commands that begin with this word; false when none has a second one. */
bool dr_help_group(const char *first, struct dr_str *out);
void dr_help_command(const struct dr_command *command, struct dr_str *out);
/* The manual page in man(7) roff. */
void dr_help_manual(struct dr_str *out);
/* `shell` is "bash", "zsh" or "fish"; else DR_USAGE. */
DR_MUST enum dr_code dr_help_completion(const char *shell, struct dr_str *out, struct dr_err *err);

#endif
