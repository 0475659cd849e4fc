/* SPDX-License-Identifier: Apache-2.0 */
/* Text commands of steps: only those that put a service into the set of the marked ones or take it
 * out. Anything else could change what no undo knows. */
#include <assert.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "store/redis/redis_private.h"

enum { WORDS_MAX = 64 };

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* One escape of a "..." word; returns how many characters it took behind the backslash. */
static size_t unescape(const char *at, char *out)
{
    static const char from[] = "nrtba\\\"";
    static const char to[] = "\n\r\t\b\a\\\"";
    if (at[0] == 'x' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2])) {
        *out = (char)(hex_digit(at[1]) * 16 + hex_digit(at[2]));
        return 3;
    }
    const char *known = at[0] == '\0' ? NULL : strchr(from, at[0]);
    *out = known == NULL ? at[0] : to[known - from];
    return at[0] == '\0' ? 0 : 1;
}

/* A word as redis-cli reads it: plain, '...' (only \' is special) or "..." with escapes. */
static bool read_word(const char **at, char *out, size_t *bytes)
{
    char quote = **at == '"' || **at == '\'' ? *(*at)++ : '\0';
    *bytes = 0;
    for (const char *c = *at;; c++) {
        bool is_end = quote == '\0' ? *c == '\0' || isspace((unsigned char)*c) : *c == quote;
        if (is_end) {
            *at = c + (quote != '\0');
            return quote == '\0' || **at == '\0' || isspace((unsigned char)**at);
        }
        if (*c == '\0') {
            return false;
        }
        if (quote == '"' && *c == '\\') {
            size_t took = unescape(c + 1, &out[(*bytes)++]);
            c += took;
        } else if (quote == '\'' && *c == '\\' && c[1] == '\'') {
            out[(*bytes)++] = '\'';
            c++;
        } else {
            out[(*bytes)++] = *c;
        }
    }
}

static enum dr_code split_line(struct rd_store *s, const char *line, struct rd_call *call,
                               struct dr_err *err)
{
    size_t length = strlen(line);
    *call = (struct rd_call){0};
    call->argv = dr_arena_alloc(s->scratch, WORDS_MAX * sizeof *call->argv);
    call->bytes = dr_arena_alloc(s->scratch, WORDS_MAX * sizeof *call->bytes);
    if (call->argv == NULL || call->bytes == NULL) {
        return dr_fail_nomem(err);
    }
    for (const char *at = line; *at != '\0';) {
        if (isspace((unsigned char)*at)) {
            at++;
            continue;
        }
        char *word = dr_arena_alloc(s->scratch, length + 1);
        if (word == NULL) {
            return dr_fail_nomem(err);
        }
        if (call->argc == WORDS_MAX || !read_word(&at, word, &call->bytes[call->argc])) {
            return dr_fail(err, DR_INPUT, "redis: unbalanced quotes or too many words in \"%.80s\"",
                           line);
        }
        word[call->bytes[call->argc]] = '\0';
        call->argv[call->argc++] = word;
    }
    return DR_OK;
}

enum dr_code rd_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    static const char point_sent[] = "store.redis.command.sent";
    struct rd_store *s = impl;
    struct rd_call call;
    dr_arena_reset(s->scratch);
    enum dr_code rc = split_line(s, text, &call, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (call.argc < 3 ||
        (strcasecmp(call.argv[0], "SREM") != 0 && strcasecmp(call.argv[0], "SADD") != 0)) {
        return dr_fail(err, DR_REFUSED,
                       "redis: only \"SREM key member ...\" and \"SADD key member ...\" are run, "
                       "not \"%.80s\"",
                       text);
    }
    rc = rd_learn(s, err);
    if (rc == DR_OK || !s->is_cluster) {
        call.slot = rd_slot_of(s, call.argv[1], call.bytes[1]);
        rc = rd_exchange(s, node, &call, 1, point_sent, err);
    }
    if (rc == DR_UNKNOWN) {
        rc = dr_fail(err, DR_UNREACHABLE, "redis: the reply to %s was lost; it may be repeated",
                     call.argv[0]);
    }
    assert(rc != DR_OK || call.reply != NULL);
    if (rc == DR_OK && call.reply->type != REDIS_REPLY_INTEGER) {
        rc = rd_fail_reply(call.to, call.reply, call.argv[0], err);
    }
    rd_calls_free(&call, 1);
    return rc;
}
