/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters: ? as everywhere in drover becomes PostgreSQL's $n. Reads just enough of the language
 * to know what is quoted or commented out. */
#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "store/postgres/postgres_private.h"

static bool is_name(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_' || ((unsigned char)c & 0x80) != 0;
}

/* Behind the closing quote, or at the end of the text. A doubled quote ends and begins again, which
 * comes to the same. */
static const char *skip_quoted(const char *at, bool has_escapes)
{
    char quote = *at++;
    while (*at != '\0' && *at != quote) {
        at += has_escapes && *at == '\\' && at[1] != '\0' ? 2 : 1;
    }
    return *at == '\0' ? at : at + 1;
}

static const char *skip_line(const char *at)
{
    return at + strcspn(at, "\n");
}

/* Comments nest. */
static const char *skip_comment(const char *at)
{
    unsigned depth = 0;
    do {
        if (at[0] == '/' && at[1] == '*') {
            depth++;
            at += 2;
        } else if (at[0] == '*' && at[1] == '/') {
            depth--;
            at += 2;
        } else if (*at != '\0') {
            at++;
        }
    } while (depth > 0 && *at != '\0');
    return at;
}

/* $tag$ ... $tag$; just behind the $ when it opens nothing. */
static const char *skip_dollar(const char *at)
{
    size_t tag = 1;
    if (isdigit((unsigned char)at[1]) != 0) {
        return at + 1; /* $1 */
    }
    while (is_name(at[tag])) {
        tag++;
    }
    if (at[tag] != '$') {
        return at + 1;
    }
    tag++;
    for (const char *end = at + tag; *end != '\0'; end++) {
        if (strncmp(end, at, tag) == 0) {
            return end + tag;
        }
    }
    return at + strlen(at);
}

/* E'...': the E must not be the end of a longer word. */
static bool is_escape_string(const char *sql, const char *at)
{
    return at > sql && (at[-1] == 'E' || at[-1] == 'e') && (at - 1 == sql || !is_name(at[-2]));
}

/* Behind the thing at `at` that is copied as it is: a quoted text, a comment, or one character. */
static const char *skip_thing(const char *sql, const char *at)
{
    if (*at == '\'') {
        return skip_quoted(at, is_escape_string(sql, at));
    }
    if (*at == '"') {
        return skip_quoted(at, false);
    }
    if (at[0] == '-' && at[1] == '-') {
        return skip_line(at);
    }
    if (at[0] == '/' && at[1] == '*') {
        return skip_comment(at);
    }
    if (*at == '$' && (at == sql || !is_name(at[-1]))) {
        return skip_dollar(at);
    }
    return at + 1;
}

enum dr_code pg_rewrite(const char *sql, struct dr_str *out, uint32_t *count_out,
                        struct dr_err *err)
{
    uint32_t count = 0;
    for (const char *at = sql; *at != '\0';) {
        if (at[0] == '?' && at[1] == '?') {
            dr_str_addc(out, '?'); /* the operator of jsonb */
            at += 2;
        } else if (*at == '?') {
            dr_str_addf(out, "$%u", ++count);
            at++;
        } else {
            const char *next = skip_thing(sql, at);
            assert(next > at);
            dr_str_addn(out, at, (size_t)(next - at));
            at = next;
        }
    }
    *count_out = count;
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}
