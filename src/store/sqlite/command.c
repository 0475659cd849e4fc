/* SPDX-License-Identifier: Apache-2.0 */
/* Owns commands: the few statements that make or remove tables and indexes. Each is read by a small
 * tokenizer of our own first, because "exists already" and "does not exist" must be told from real
 * failures, and because nothing else may be run through this door. All of one text is one
 * transaction. */
#include <assert.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "store/sqlite/sqlite_private.h"

enum { COMMAND_BLOCK_BYTES = 4 * 1024, COMMANDS_MAX = 1000 };

enum token_kind { TOKEN_END, TOKEN_SEMICOLON, TOKEN_WORD, TOKEN_QUOTED, TOKEN_OTHER, TOKEN_BAD };

struct token {
    enum token_kind kind;
    const char *text; /* with its quotes */
    size_t len;
};

static const char *skip_space(const char *at)
{
    for (;;) {
        if (isspace((unsigned char)*at)) {
            at++;
        } else if (at[0] == '-' && at[1] == '-') {
            at += strcspn(at, "\n");
        } else if (at[0] == '/' && at[1] == '*') {
            const char *end = strstr(at + 2, "*/");
            at = end == NULL ? at + strlen(at) : end + 2;
        } else {
            return at;
        }
    }
}

/* Behind the closing quote; NULL when there is none. A doubled quote stands for itself. */
static const char *skip_quoted(const char *at)
{
    char close = *at == '[' ? ']' : *at;
    for (at++; *at != '\0'; at++) {
        if (*at != close) {
            continue;
        }
        if (close == ']' || at[1] != close) {
            return at + 1;
        }
        at++;
    }
    return NULL;
}

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static struct token next_token(const char **at)
{
    *at = skip_space(*at);
    struct token t = {.text = *at, .len = 1};
    if (**at == '\0') {
        t.len = 0;
        return t;
    }
    if (strchr("'\"`[", **at) != NULL) {
        const char *end = skip_quoted(*at);
        t.kind = end == NULL ? TOKEN_BAD : TOKEN_QUOTED;
        t.len = end == NULL ? strlen(*at) : (size_t)(end - *at);
    } else if (is_word_byte(**at)) {
        t.kind = TOKEN_WORD;
        while (is_word_byte((*at)[t.len])) {
            t.len++;
        }
    } else {
        t.kind = **at == ';' ? TOKEN_SEMICOLON : TOKEN_OTHER;
    }
    *at += t.len;
    return t;
}

static bool is_word(struct token t, const char *word)
{
    return t.kind == TOKEN_WORD && t.len == strlen(word) && strncasecmp(t.text, word, t.len) == 0;
}

/* A name as it is without its quotes; NULL when it is no name or memory is short. */
static char *name_of(struct token t, struct dr_arena *a)
{
    if (t.kind != TOKEN_WORD && t.kind != TOKEN_QUOTED) {
        return NULL;
    }
    char *out = dr_arena_alloc(a, t.len + 1);
    size_t length = 0;
    bool is_quoted = t.kind == TOKEN_QUOTED;
    char quote = t.text[0];
    for (size_t i = is_quoted; out != NULL && i < t.len - is_quoted; i++) {
        out[length++] = t.text[i];
        i += is_quoted && quote != '[' && t.text[i] == quote;
    }
    if (out != NULL) {
        out[length] = '\0';
    }
    return out;
}

struct command {
    bool is_create;
    const char *type; /* "table", "index" or "view", as sqlite_master has it */
    const char *name;
    const char *on;   /* CREATE INDEX: its table */
    const char *text; /* the statement alone */
};

static enum dr_code refuse(struct dr_err *err, const char *text, const char *why)
{
    return dr_fail(
        err, DR_REFUSED,
        "command \"%.80s\": %s; allowed are CREATE TABLE, CREATE INDEX, DROP TABLE, DROP "
        "INDEX and DROP VIEW",
        text, why);
}

/* "[main.]name" with the token already read; leaves the token behind it in *t. */
static enum dr_code read_name(const char **at, struct token *t, struct dr_arena *a,
                              const char **name_out, const char *text, struct dr_err *err)
{
    char *name = name_of(*t, a);
    *t = next_token(at);
    if (name != NULL && t->kind == TOKEN_OTHER && t->text[0] == '.') {
        if (strcasecmp(name, "main") != 0) {
            return refuse(err, text, "it names another schema than main");
        }
        *t = next_token(at);
        name = name_of(*t, a);
        *t = next_token(at);
    }
    *name_out = name;
    return name != NULL ? DR_OK : refuse(err, text, "a name is missing");
}

/* IF EXISTS, IF NOT EXISTS: what they ask for is done anyway. */
static void skip_condition(const char **at, struct token *t)
{
    if (is_word(*t, "if")) {
        do {
            *t = next_token(at);
        } while (is_word(*t, "not") || is_word(*t, "exists"));
    }
}

static enum dr_code read_head(const char **at, struct dr_arena *a, struct command *c,
                              struct dr_err *err)
{
    struct token t = next_token(at);
    c->is_create = is_word(t, "create");
    if (!c->is_create && !is_word(t, "drop")) {
        return refuse(err, c->text, "it neither creates nor drops");
    }
    t = next_token(at);
    bool is_unique = c->is_create && is_word(t, "unique");
    if (is_unique) {
        t = next_token(at);
    }
    bool is_view = !c->is_create && is_word(t, "view");
    c->type = is_word(t, "index")   ? "index"
              : is_view             ? "view"
              : is_word(t, "table") ? "table"
                                    : NULL;
    if (c->type == NULL || (is_unique && c->type[0] != 'i')) {
        return refuse(err, c->text, "it is about something else than a table or an index");
    }
    t = next_token(at);
    skip_condition(at, &t);
    enum dr_code rc = read_name(at, &t, a, &c->name, c->text, err);
    if (rc != DR_OK || !c->is_create) {
        return rc;
    }
    if (c->type[0] == 'i') {
        if (!is_word(t, "on")) {
            return refuse(err, c->text, "ON and a table are missing");
        }
        t = next_token(at);
        return read_name(at, &t, a, &c->on, c->text, err);
    }
    return is_word(t, "as") ? refuse(err, c->text, "it would copy rows") : DR_OK;
}

/* The next statement of the text; *found_out is false at the end. */
static enum dr_code read_command(const char **at, struct dr_arena *a, struct command *c,
                                 bool *found_out, struct dr_err *err)
{
    const char *begin;
    struct token t;
    do {
        begin = skip_space(*at);
        *at = begin;
        t = next_token(at);
    } while (t.kind == TOKEN_SEMICOLON);
    *found_out = t.kind != TOKEN_END;
    const char *end = begin;
    while (t.kind != TOKEN_END && t.kind != TOKEN_SEMICOLON) {
        if (t.kind == TOKEN_BAD) {
            return dr_fail(err, DR_INPUT, "command \"%.80s\": a quote is not closed", begin);
        }
        end = t.text + t.len;
        t = next_token(at);
    }
    *c = (struct command){0};
    if (!*found_out) {
        return DR_OK;
    }
    char *text = dr_arena_alloc(a, (size_t)(end - begin) + 1);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    memcpy(text, begin, (size_t)(end - begin));
    text[end - begin] = '\0';
    c->text = text;
    const char *head = text;
    return read_head(&head, a, c, err);
}

/* ---- running ---- */

/* What sqlite_master has under that name: its type and table, into the arena; NULL: nothing. */
static enum dr_code look_up(struct sq_node *n, const struct command *c, struct dr_arena *a,
                            const char **type_out, const char **table_out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    *type_out = NULL;
    *table_out = NULL;
    enum dr_code rc = sq_prepare(
        n,
        "SELECT type, tbl_name FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type <> "
        "'trigger'",
        &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, c->name, -1, SQLITE_STATIC);
        rc = dr_sql_step(&n->sql, st, &is_row, err);
    }
    if (rc == DR_OK && is_row) {
        *type_out = dr_arena_strdup(a, dr_sql_text(st, 0));
        *table_out = dr_arena_strdup(a, dr_sql_text(st, 1));
        rc = *type_out == NULL || *table_out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    sq_done(st);
    return rc;
}

static enum dr_code check_empty(struct sq_node *n, const struct command *c, struct dr_arena *a,
                                struct dr_err *err)
{
    int64_t has_row = 0;
    const char *quoted = sq_quote(a, c->name);
    char *text =
        quoted == NULL ? NULL : dr_arena_printf(a, "SELECT EXISTS(SELECT 1 FROM %s)", quoted);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_sql_int(&n->sql, text, 0, &has_row, err);
    return rc == DR_OK && has_row != 0
               ? dr_fail(err, DR_REFUSED,
                         "node %s: table %s still has rows; erase them first, so that they can be "
                         "restored",
                         n->name, c->name)
               : rc;
}

static enum dr_code run_command(struct sq_node *n, const struct command *c, struct dr_arena *a,
                                struct dr_err *err)
{
    const char *type = NULL;
    const char *table = NULL;
    assert(c->name != NULL && c->type != NULL);
    enum dr_code rc = look_up(n, c, a, &type, &table, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (strncasecmp(c->name, "sqlite_", 7) == 0 || strcasecmp(c->name, "drover_shards") == 0 ||
        strcasecmp(c->name, "drover_collections") == 0 ||
        strcasecmp(c->name, "drover_chunks") == 0) {
        return refuse(err, c->text, "the name belongs to SQLite or to the layout");
    }
    if (type == NULL && !c->is_create) {
        return DR_OK; /* gone already */
    }
    if (type != NULL && strcmp(type, c->type) != 0) {
        return dr_fail(err, DR_CONFLICT, "node %s: \"%s\" is a %s, not a %s", n->name, c->name,
                       type, c->type);
    }
    if (type != NULL && c->on != NULL && sqlite3_stricmp(table, c->on) != 0) {
        return dr_fail(err, DR_CONFLICT, "node %s: an index \"%s\" exists already, on table \"%s\"",
                       n->name, c->name, table);
    }
    if (type != NULL && c->is_create) {
        return DR_OK; /* there already */
    }
    if (!c->is_create && strcmp(c->type, "table") == 0) {
        rc = check_empty(n, c, a, err);
    }
    rc = rc == DR_OK ? dr_sql_exec(&n->sql, c->text, err) : rc;
    if (rc != DR_OK) {
        dr_wrap(err, "node %s", n->name);
    }
    return rc;
}

static enum dr_code run_all(struct sq_node *n, const char *text, bool is_run, struct dr_arena *a,
                            struct dr_err *err)
{
    const char *at = text;
    enum dr_code rc = DR_OK;
    for (int i = 0; rc == DR_OK; i++) {
        struct command c = {0};
        bool is_found = false;
        rc = read_command(&at, a, &c, &is_found, err);
        if (rc != DR_OK || !is_found) {
            break;
        }
        if (i == COMMANDS_MAX) {
            return dr_fail(err, DR_INPUT, "a text of more than %d commands", COMMANDS_MAX);
        }
        rc = is_run ? run_command(n, &c, a, err) : DR_OK;
    }
    return rc;
}

enum dr_code sq_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    struct sq_node *n = NULL;
    bool is_whole = false;
    enum dr_code rc = sq_whole(impl, node, text, &is_whole, err);
    if (rc != DR_OK || is_whole) {
        return rc;
    }
    struct dr_arena *a = dr_arena_create(COMMAND_BLOCK_BYTES);
    rc = a == NULL ? dr_fail_nomem(err) : sq_node_find(impl, node, &n, err);
    /* All of it is read before any of it is run. */
    rc = rc == DR_OK ? run_all(n, text, false, a, err) : rc;
    rc = rc == DR_OK ? sq_begin_write(n, err) : rc;
    if (rc != DR_OK) {
        goto out;
    }
    n->writes++;
    rc = dr_fault_pass("store.sqlite.command.begun", err);
    rc = rc == DR_OK ? run_all(n, text, true, a, err) : rc;
    if (rc != DR_OK) {
        dr_sql_rollback(&n->sql);
        goto out;
    }
    rc = sq_commit(n, err);
    if (rc == DR_OK && dr_fault_pass("store.sqlite.command.committed", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "node %s: the answer to the commit was lost", n->name);
    }
out:
    dr_arena_destroy(a);
    return rc;
}

enum dr_code sq_check(void *impl, const char *node, const char *text, bool is_now,
                      struct dr_err *err)
{
    struct sq_node *n = NULL;
    bool is_whole = false;
    enum dr_code rc = sq_whole_check(text, &is_whole, err);
    struct dr_arena *a = NULL;
    if (rc == DR_OK && !is_whole) {
        a = dr_arena_create(COMMAND_BLOCK_BYTES);
        rc = a == NULL ? dr_fail_nomem(err) : run_all(NULL, text, false, a, err);
    }
    if (rc == DR_OK && is_now) {
        rc = sq_node_find(impl, node, &n, err);
        if (rc == DR_NOT_FOUND) { /* the node is away; the thing may well be there */
            rc = dr_fail(err, DR_UNREACHABLE, "there is no node \"%.64s\" now", node);
        }
    }
    dr_arena_destroy(a);
    return rc;
}
