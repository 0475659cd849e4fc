/* SPDX-License-Identifier: Apache-2.0 */
/* The command line as words and options. Pure: no file, no environment, no allocation; everything
 * handed out borrows argv and the tables.
 *
 * Options may stand anywhere, before and after the command: `--name VALUE`, `--name=VALUE`, flags
 * without a value; `--` ends them, `-` alone is a word (standard input), `-h` is --help,
 * `-v` is --verbose where a command has that. */
#ifndef DR_CLI_OPTIONS_H
#define DR_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { DR_ARGS_WORDS_MAX = 16, DR_ARGS_OPTIONS_MAX = 256, DR_SUGGEST_DISTANCE_MAX = 3 };

enum dr_option_type {
    DR_OPT_FLAG, /* no value */
    DR_OPT_TEXT,
    DR_OPT_U64,
    DR_OPT_I64,
    DR_OPT_REAL,     /* 0 or more */
    DR_OPT_DURATION, /* "30d", "2h", plain seconds */
};

/* A table of options ends with a zeroed entry. */
struct dr_option {
    const char *name;  /* without dashes */
    const char *value; /* placeholder in the help; NULL for a flag */
    const char *help;
    enum dr_option_type type;
    bool is_many; /* may be given more than once */
};

struct dr_given {
    const struct dr_option *option;
    const char *text; /* NULL for a flag */
};

struct dr_args {
    const char *word[DR_ARGS_WORDS_MAX];
    uint32_t word_count;
    struct dr_given given[DR_ARGS_OPTIONS_MAX];
    uint32_t given_count;
};

/* Options of the command that the words so far name, or NULL when they name none (yet). */
typedef const struct dr_option *(*dr_options_of)(void *arg, const char *const *word,
                                                 uint32_t word_count);

/* Take argv[1..] apart. DR_USAGE names the mistake and, for an unknown option, the nearest one.
 * Values are checked against their type. */
DR_MUST enum dr_code dr_args_parse(int argc, const char *const *argv,
                                   const struct dr_option *global, dr_options_of options_of,
                                   void *arg, struct dr_args *out, struct dr_err *err);

bool dr_args_has(const struct dr_args *a, const char *name);
/* The first value of an option, or `absent`. */
const char *dr_args_text(const struct dr_args *a, const char *name, const char *absent);
uint64_t dr_args_u64(const struct dr_args *a, const char *name, uint64_t absent);
/* The n-th value of an option that may be given more than once; NULL behind the last. */
const char *dr_args_nth(const struct dr_args *a, const char *name, uint32_t n);

/* Optimal string alignment distance (a swap of neighbours counts one). Words of 64 bytes and more
 * are far from everything. */
unsigned dr_suggest_distance(const char *a, const char *b);
/* Is `candidate` near enough to `word` to be what was meant? Lower is nearer; UINT32_MAX: no. */
unsigned dr_suggest_score(const char *word, const char *candidate);

#endif
