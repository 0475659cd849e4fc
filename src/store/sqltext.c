/* SPDX-License-Identifier: Apache-2.0 */
/* A small scanner over quotes and parentheses. It refuses what it is not sure about: a person can
 * write the same in a form that all dialects read alike. Pure. */
#include "store/sqltext.h"

#include <stdbool.h>
#include <string.h>

struct scan {
    const char *where;
    const char *text;
    struct dr_err *err;
};

static enum dr_code refuse(const struct scan *s, const char *at, const char *what)
{
    return dr_fail(s->err, DR_INPUT,
                   "%s: %s at byte %zu; write one expression, as \"expires < 1700000000\"",
                   s->where, what, (size_t)(at - s->text) + 1);
}

/* The byte behind the closing quote, or NULL with the reason said. Doubled quotes stand for one. */
static const char *skip_quotes(const struct scan *s, const char *at)
{
    const char quote = *at;
    for (const char *p = at + 1; *p != '\0'; p++) {
        if (*p == '\\') {
            (void)refuse(s, p, "a backslash inside quotes, which dialects read differently");
            return NULL;
        }
        if (*p == quote && p[1] == quote) {
            p++;
        } else if (*p == quote) {
            return p + 1;
        }
    }
    (void)refuse(s, at, "a quote that is not closed");
    return NULL;
}

/* The byte behind a closing bracket, or NULL with the reason said. [..] is a subscript to one
 * server and quotes a name for another: what both read alike holds neither quotes nor parentheses.
 */
static const char *skip_brackets(const struct scan *s, const char *at)
{
    const char *end = at + strcspn(at, "]");
    const char *bad = at + 1 + strcspn(at + 1, "'\"`()[;#$?\\-/");
    if (*end == '\0') {
        (void)refuse(s, at, "a bracket that is not closed");
        return NULL;
    }
    if (bad < end) {
        (void)refuse(s, bad, "more than names and numbers inside brackets");
        return NULL;
    }
    return end + 1;
}

/* What may not stand outside of quotes, or NULL. */
static const char *find_forbidden(const char *at)
{
    if (*at == ';') {
        return "a semicolon";
    }
    if (*at == '`') { /* PostgreSQL takes it for an operator */
        return "a backtick; put names in double quotes";
    }
    if (at[0] == ':' && at[1] == '=') {
        return "an assignment";
    }
    if ((at[0] == '-' && at[1] == '-') || *at == '#' || (at[0] == '/' && at[1] == '*')) {
        return "a comment";
    }
    if (*at == '$') {
        return "a dollar sign outside of quotes";
    }
    if (*at == '?') {
        return "a parameter sign outside of quotes";
    }
    return *at == '\\' ? "a backslash" : NULL;
}

enum dr_code dr_sql_check_expression(const char *where, const char *text, struct dr_err *err)
{
    const struct scan s = {.where = where, .text = text, .err = err};
    size_t depth = 0;
    bool is_blank = true;
    if (strlen(text) > DR_SQL_EXPRESSION_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "%s: longer than %d bytes", where,
                       DR_SQL_EXPRESSION_BYTES_MAX);
    }
    for (const char *at = text; *at != '\0';) {
        const char *forbidden = find_forbidden(at);
        is_blank = is_blank && strchr(" \t\r\n", *at) != NULL;
        if (forbidden != NULL) {
            return refuse(&s, at, forbidden);
        }
        if (*at == '\'' || *at == '"' || *at == '[') {
            at = *at == '[' ? skip_brackets(&s, at) : skip_quotes(&s, at);
            if (at == NULL) {
                return DR_INPUT;
            }
            continue;
        }
        if (*at == ')' && depth == 0) {
            return refuse(&s, at, "a closing parenthesis too many");
        }
        depth += *at == '(';
        depth -= *at == ')';
        at++;
    }
    if (depth > 0) {
        return dr_fail(err, DR_INPUT, "%s: %zu parentheses are not closed", where, depth);
    }
    return is_blank ? dr_fail(err, DR_INPUT, "%s: empty; it would match every row", where) : DR_OK;
}
