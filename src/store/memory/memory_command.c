/* SPDX-License-Identifier: Apache-2.0 */
/* The text commands of the memory store: reading their few words and doing them. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

enum { WORDS_MAX = 32, WORD_BYTES = 256 };

struct command {
    char word[WORDS_MAX][WORD_BYTES];
    bool is_name[WORDS_MAX]; /* quoted: never a keyword */
    unsigned count;
};

static bool is_end(char c)
{
    return c == '\0' || c == '\n' || c == ';';
}

/* Read one command, up to a newline, a ';' or the end. NULL when it is too long or a quote is
 * left open; else where the next one starts. Parentheses and commas only separate. */
static const char *read_command(const char *at, struct command *out)
{
    out->count = 0;
    for (;;) {
        at += strspn(at, " \t\r(),");
        if (is_end(*at)) {
            return at;
        }
        bool is_quoted = *at == '"';
        at += is_quoted ? 1 : 0;
        size_t len = strcspn(at, is_quoted ? "\"" : " \t\r\n;(),\"");
        if (out->count == WORDS_MAX || len >= WORD_BYTES || (is_quoted && at[len] != '"')) {
            return NULL;
        }
        memcpy(out->word[out->count], at, len);
        out->word[out->count][len] = '\0';
        out->is_name[out->count] = is_quoted;
        out->count++;
        at += len + (is_quoted ? 1 : 0);
    }
}

static bool is_word(const struct command *c, unsigned i, const char *word)
{
    return i < c->count && !c->is_name[i] && strcasecmp(c->word[i], word) == 0;
}

static enum dr_code create_index(struct dr_memory_store *m, const struct command *c, unsigned at,
                                 bool is_unique, struct dr_err *err)
{
    struct dr_memory_index fresh = {.name = c->word[at], .is_unique = is_unique};
    if (dr_memory_find_index(m, fresh.name) != NULL) {
        return DR_OK;
    }
    if (at + 1 < c->count) {
        unsigned fields = c->count - at - 3;
        if (!is_word(c, at + 1, "on") || at + 3 >= c->count || fields > DR_KEY_PARTS_MAX) {
            return dr_fail(err, DR_INPUT,
                           "index %s: write it as create index NAME on DB.COLL (FIELD, ...)",
                           fresh.name);
        }
        const struct dr_memory_collection *of = dr_memory_find_collection(m, c->word[at + 2]);
        if (of == NULL || !dr_memory_is_there(of)) {
            return dr_fail(err, DR_NOT_FOUND, "index %s: no collection %s; create it first",
                           fresh.name, c->word[at + 2]);
        }
        fresh.collection = c->word[at + 2];
        for (unsigned i = 0; i < fields; i++) {
            fresh.field[fresh.field_count++] = c->word[at + 3 + i];
        }
    }
    return dr_memory_make_index(m, &fresh, err);
}

static enum dr_code create_collection(struct dr_memory_store *m, const char *node, const char *name,
                                      struct dr_err *err)
{
    const char *dot = strchr(name, '.');
    if (dot == NULL || dot == name || dot[1] == '\0') {
        return dr_fail(err, DR_INPUT, "collection %s: name it DATABASE.NAME", name);
    }
    struct dr_memory_part *part = NULL;
    struct dr_memory_collection *c = dr_memory_find_collection(m, name);
    enum dr_code rc = DR_OK;
    if (c == NULL) {
        rc = dr_memory_make_collection(m, name, node, &c, err);
    }
    return rc != DR_OK ? rc : dr_memory_make_part(m, c, node, &part, err);
}

static enum dr_code drop_collection(struct dr_memory_store *m, const char *node, const char *name,
                                    struct dr_err *err)
{
    struct dr_memory_collection *c = dr_memory_find_collection(m, name);
    struct dr_memory_part *part = c == NULL ? NULL : dr_memory_find_part(c, node);
    if (part == NULL) {
        return DR_OK;
    }
    if (part->count > 0) {
        return dr_fail(err, DR_REFUSED, "%s on %s still holds %zu rows; erase them first", name,
                       node, part->count);
    }
    part->is_there = false;
    for (size_t i = m->index_count; i > 0 && !dr_memory_is_there(c); i--) {
        const struct dr_memory_index *index = &m->index[i - 1];
        if (index->collection != NULL && strcmp(index->collection, name) == 0) {
            dr_memory_drop_index(m, index->name);
        }
    }
    return DR_OK;
}

static enum dr_code run_one(struct dr_memory_store *m, const char *node, const struct command *c,
                            struct dr_err *err)
{
    unsigned at = 1;
    bool is_create = is_word(c, 0, "create");
    bool is_unique = is_create && is_word(c, 1, "unique");
    at += is_unique ? 1 : 0;
    bool is_index = is_word(c, at, "index");
    bool is_collection = is_word(c, at, "collection") || is_word(c, at, "table");
    at++;
    if (is_create && is_word(c, at, "if") && is_word(c, at + 1, "not") &&
        is_word(c, at + 2, "exists")) {
        at += 3;
    } else if (!is_create && is_word(c, at, "if") && is_word(c, at + 1, "exists")) {
        at += 2;
    }
    bool is_known = (is_create || is_word(c, 0, "drop")) && (is_index || is_collection) &&
                    !(is_unique && is_collection) && at < c->count &&
                    (at + 1 == c->count || (is_create && is_index));
    if (!is_known) {
        return dr_fail(err, DR_INPUT,
                       "memory:%s: not a command of this store (%s %s ...); it knows create and "
                       "drop of index and collection",
                       m->name, c->word[0], c->count > 1 ? c->word[1] : "");
    }
    if (is_index && is_create) {
        return create_index(m, c, at, is_unique, err);
    }
    if (is_index) {
        dr_memory_drop_index(m, c->word[at]);
        return DR_OK;
    }
    return is_create ? create_collection(m, node, c->word[at], err)
                     : drop_collection(m, node, c->word[at], err);
}

enum dr_code dr_memory_run_commands(struct dr_memory_store *m, const char *node, const char *text,
                                    struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    struct command *c = dr_malloc(sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    const char *at = text;
    bool is_any = false;
    while (rc == DR_OK) {
        at = read_command(at, c);
        if (at == NULL) {
            rc = dr_fail(err, DR_INPUT, "memory:%s: a command is too long or has an open quote",
                         m->name);
            break;
        }
        if (c->count > 0) {
            is_any = true;
            rc = run_one(m, node, c, err);
        }
        if (*at == '\0') {
            break;
        }
        at++;
    }
    if (rc == DR_OK && !is_any) {
        rc = dr_fail(err, DR_INPUT, "memory:%s: the command is empty", m->name);
    }
    dr_free(c);
    return rc;
}
