/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of commands: parsing, `drover help`, the manual and the completions come from it.
 */
#ifndef DR_CLI_TABLE_H
#define DR_CLI_TABLE_H

#include <stdint.h>

#include "base/err.h"
#include "cli/options.h"

struct dr_cli;

struct dr_command {
    const char *name; /* one or two words: "run", "archive list" */
    const char *args; /* words after it: "JOB|OP" */
    uint32_t words_min, words_max;
    const char *summary;             /* one line, no full stop */
    const char *help;                /* sentences */
    const struct dr_option *options; /* ends with a zeroed entry; never NULL */
    /* *exit_out is preset to 0; a failure's exit code follows from code and place. */
    enum dr_code (*action)(struct dr_cli *c, int *exit_out, struct dr_err *err);
};

const struct dr_command *dr_command_table(uint32_t *count_out);
const struct dr_option *dr_global_options(void);
/* The command that these words begin with; *used_out says how many words its name took. NULL when
 * they name none. */
const struct dr_command *dr_command_find(const char *const *word, uint32_t word_count,
                                         uint32_t *used_out);
/* Why no command was found: the nearest one, or the second words there are. Always DR_USAGE. */
enum dr_code dr_command_unknown(const char *const *word, uint32_t word_count, struct dr_err *err);

#endif
