/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the grammar of the command line; which commands and options exist is table.c's. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { SUGGEST_BYTES_MAX = 64, SHOWN_BYTES_MAX = 80 };

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned dr_suggest_distance(const char *a, const char *b)
{
    size_t m = strlen(a);
    size_t n = strlen(b);
    if (m >= SUGGEST_BYTES_MAX || n >= SUGGEST_BYTES_MAX) {
        return UINT32_MAX;
    }
    unsigned cost[3][SUGGEST_BYTES_MAX + 1] = {{0}};
    for (size_t j = 0; j <= n; j++) {
        cost[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= m; i++) {
        unsigned *row = cost[i % 3];
        const unsigned *above = cost[(i + 2) % 3];
        const unsigned *two_above = cost[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned differs = a[i - 1] != b[j - 1];
            row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + differs);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], two_above[j - 2] + 1);
            }
        }
    }
    return cost[m % 3][n];
}

unsigned dr_suggest_score(const char *word, const char *candidate)
{
    unsigned distance = dr_suggest_distance(word, candidate);
    size_t length = strlen(word);
    if (length >= 3 && strncmp(word, candidate, length) == 0) {
        return 1; /* a beginning, as "quar" of "quarantine" */
    }
    /* Of a short word nearly nothing may be wrong, or everything would be near everything. */
    unsigned allowed = length <= 3 ? 1 : length <= 6 ? 2 : DR_SUGGEST_DISTANCE_MAX;
    return distance <= allowed ? distance : UINT32_MAX;
}

static const struct dr_option *find_in(const struct dr_option *table, const char *name,
                                       size_t length)
{
    for (const struct dr_option *o = table; o != NULL && o->name != NULL; o++) {
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) {
            return o;
        }
    }
    return NULL;
}

static void find_nearest(const struct dr_option *table, const char *name, unsigned *best,
                         const char **nearest)
{
    for (const struct dr_option *o = table; o != NULL && o->name != NULL; o++) {
        unsigned score = dr_suggest_score(name, o->name);
        if (score < *best) {
            *best = score;
            *nearest = o->name;
        }
    }
}

static enum dr_code fail_unknown(const struct dr_option *global, const struct dr_option *own,
                                 const char *name, size_t length, struct dr_err *err)
{
    char shown[SHOWN_BYTES_MAX];
    (void)snprintf(shown, sizeof shown, "%.*s", (int)least((unsigned)length, sizeof shown - 1),
                   name);
    unsigned best = UINT32_MAX;
    const char *nearest = NULL;
    find_nearest(own, shown, &best, &nearest);
    find_nearest(global, shown, &best, &nearest);
    if (nearest != NULL) {
        return dr_fail(err, DR_USAGE, "unknown option --%s (did you mean --%s?)", shown, nearest);
    }
    return dr_fail(err, DR_USAGE, "unknown option --%s; see drover help", shown);
}

static bool is_real(const char *text)
{
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(value) && value >= 0;
}

static enum dr_code check_value(const struct dr_option *o, const char *text, struct dr_err *err)
{
    uint64_t u;
    int64_t i;
    const char *wanted = NULL;
    switch (o->type) {
    case DR_OPT_FLAG:
    case DR_OPT_TEXT:
        break;
    case DR_OPT_U64:
        wanted = dr_parse_u64(text, &u) ? NULL : "a whole number";
        break;
    case DR_OPT_I64:
        wanted = dr_parse_i64(text, &i) ? NULL : "a whole number";
        break;
    case DR_OPT_REAL:
        wanted = is_real(text) ? NULL : "a number, 0 or more";
        break;
    case DR_OPT_DURATION:
        wanted = dr_parse_duration_ms(text, &u) ? NULL : "a duration such as 30d, 12h or 90s";
        break;
    }
    if (wanted != NULL) {
        return dr_fail(err, DR_USAGE, "--%s wants %s, not \"%.40s\"", o->name, wanted, text);
    }
    return DR_OK;
}

static enum dr_code keep_option(struct dr_args *a, const struct dr_option *o, const char *text,
                                struct dr_err *err)
{
    if (o->type != DR_OPT_FLAG && !o->is_many && dr_args_has(a, o->name)) {
        return dr_fail(err, DR_USAGE, "--%s is given twice", o->name);
    }
    if (a->given_count == DR_ARGS_OPTIONS_MAX) {
        return dr_fail(err, DR_USAGE, "more than %d options", DR_ARGS_OPTIONS_MAX);
    }
    if (text != NULL) {
        enum dr_code rc = check_value(o, text, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    a->given[a->given_count++] = (struct dr_given){.option = o, .text = text};
    return DR_OK;
}

/* One "--name" or "--name=VALUE" at argv[*at]; moves *at onto a value it takes from there. */
static enum dr_code take_option(int argc, const char *const *argv, int *at,
                                const struct dr_option *global, const struct dr_option *own,
                                struct dr_args *a, struct dr_err *err)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct dr_option *o = find_in(own, name, length);
    if (o == NULL) {
        o = find_in(global, name, length);
    }
    if (o == NULL) {
        return fail_unknown(global, own, name, length, err);
    }
    if (o->type == DR_OPT_FLAG) {
        if (equals != NULL) {
            return dr_fail(err, DR_USAGE, "--%s takes no value", o->name);
        }
        return keep_option(a, o, NULL, err);
    }
    if (equals != NULL) {
        return keep_option(a, o, equals + 1, err);
    }
    /* "--data --json" is a forgotten value far more often than a folder named "--json". */
    if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0) {
        return dr_fail(err, DR_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    }
    *at += 1;
    return keep_option(a, o, argv[*at], err);
}

enum dr_code dr_args_parse(int argc, const char *const *argv, const struct dr_option *global,
                           dr_options_of options_of, void *arg, struct dr_args *out,
                           struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    bool is_words_only = false;
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        if (!is_words_only && strcmp(text, "--") == 0) {
            is_words_only = true;
            continue;
        }
        if (is_words_only || text[0] != '-' || text[1] == '\0') {
            if (out->word_count == DR_ARGS_WORDS_MAX) {
                return dr_fail(err, DR_USAGE, "more than %d words; see drover help",
                               DR_ARGS_WORDS_MAX);
            }
            out->word[out->word_count++] = text;
            continue;
        }
        enum dr_code rc;
        const struct dr_option *own = options_of(arg, out->word, out->word_count);
        const struct dr_option *letter = strcmp(text, "-h") == 0 ? find_in(global, "help", 4)
                                         : strcmp(text, "-v") == 0 && own != NULL
                                             ? find_in(own, "verbose", 7)
                                             : NULL;
        if (letter != NULL) {
            rc = keep_option(out, letter, NULL, err);
        } else if (text[1] != '-') {
            rc =
                dr_fail(err, DR_USAGE,
                        "unknown option %.40s; options are written --name (see drover help)", text);
        } else {
            rc = take_option(argc, argv, &i, global, own, out, err);
        }
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

bool dr_args_has(const struct dr_args *a, const char *name)
{
    for (uint32_t i = 0; i < a->given_count; i++) {
        if (strcmp(a->given[i].option->name, name) == 0) {
            return true;
        }
    }
    return false;
}

const char *dr_args_nth(const struct dr_args *a, const char *name, uint32_t n)
{
    for (uint32_t i = 0; i < a->given_count; i++) {
        if (strcmp(a->given[i].option->name, name) == 0 && n-- == 0) {
            return a->given[i].text;
        }
    }
    return NULL;
}

const char *dr_args_text(const struct dr_args *a, const char *name, const char *absent)
{
    const char *text = dr_args_nth(a, name, 0);
    return text != NULL ? text : absent;
}

uint64_t dr_args_u64(const struct dr_args *a, const char *name, uint64_t absent)
{
    const char *text = dr_args_nth(a, name, 0);
    uint64_t value = absent;
    return text != NULL && dr_parse_u64(text, &value) ? value : absent;
}
