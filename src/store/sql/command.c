/* SPDX-License-Identifier: Apache-2.0 */
/* Owns commands: the few statements that make or remove tables and indexes. Each is read by a small
 * tokenizer of our own first, because "exists already" and "does not exist" must be told from real
 * failures, and because nothing else may be run through this door. MariaDB commits each statement
 * by itself, so a text that stopped half-way is simply run again. */
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "store/sql/sql_private.h"
#include "store/sql/whole_private.h"

enum { COMMAND_BLOCK_BYTES = 4 * 1024, COMMANDS_MAX = 1000 };

enum token_kind { TOKEN_END, TOKEN_SEMICOLON, TOKEN_WORD, TOKEN_QUOTED, TOKEN_OTHER, TOKEN_BAD };

struct token {
    enum token_kind kind;
    const char *text; /* with its quotes */
    size_t len;
};

struct reader {
    const char *at;
    bool is_pg;
    struct dr_arena *arena;
};

static const char *skip_space(const char *at)
{
    for (;;) {
        if (isspace((unsigned char)*at)) {
            at++;
        } else if (at[0] == '-' && at[1] == '-') {
            at += strcspn(at, "\n");
        } else {
            return at;
        }
    }
}

/* Behind the closing quote; NULL when there is none. Texts of MariaDB have backslash escapes. */
static const char *skip_quoted(const char *at, bool is_pg)
{
    char close = *at;
    for (at++; *at != '\0'; at++) {
        if (close == '\'' && !is_pg && *at == '\\' && at[1] != '\0') {
            at++;
        } else if (*at == close) {
            if (at[1] != close) {
                return at + 1;
            }
            at++;
        }
    }
    return NULL;
}

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static struct token next_token(struct reader *r)
{
    r->at = skip_space(r->at);
    struct token t = {.text = r->at, .len = 1};
    char c = *r->at;
    if (c == '\0') {
        t.len = 0;
        return t;
    }
    if (c == '\'' || c == '"' || c == '`') {
        const char *end = skip_quoted(r->at, r->is_pg);
        t.kind = end == NULL ? TOKEN_BAD : TOKEN_QUOTED;
        t.len = end == NULL ? strlen(r->at) : (size_t)(end - r->at);
    } else if (is_word_byte(c)) {
        t.kind = c == '$' ? TOKEN_BAD : TOKEN_WORD; /* dollar quotes are nothing we write */
        while (is_word_byte(r->at[t.len])) {
            t.len++;
        }
    } else {
        bool is_comment = c == '/' && r->at[1] == '*'; /* MariaDB runs what stands in some */
        t.kind = c == ';' ? TOKEN_SEMICOLON : is_comment || c == '\\' ? TOKEN_BAD : TOKEN_OTHER;
    }
    r->at += t.len;
    return t;
}

static bool is_word(struct token t, const char *word)
{
    return t.kind == TOKEN_WORD && t.len == strlen(word) && strncasecmp(t.text, word, t.len) == 0;
}

/* A name as it is without its quotes; NULL when it is no name or memory is short. */
static const char *name_of(const struct reader *r, struct token t)
{
    bool is_quoted = t.kind == TOKEN_QUOTED;
    if ((t.kind != TOKEN_WORD && !is_quoted) || t.text[0] == '\'') {
        return NULL;
    }
    char *out = dr_arena_alloc(r->arena, t.len + 1);
    size_t length = 0;
    for (size_t i = is_quoted; out != NULL && i < t.len - is_quoted; i++) {
        char c = t.text[i];
        out[length++] = r->is_pg && !is_quoted && c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        i += is_quoted && c == t.text[0];
    }
    if (out != NULL) {
        out[length] = '\0';
    }
    return out;
}

enum object { OBJECT_TABLE, OBJECT_INDEX, OBJECT_SEQUENCE };

struct command {
    bool is_create;
    bool is_owned; /* ALTER SEQUENCE ... OWNED BY: run it as it is */
    enum object object;
    const char *schema; /* NULL: not named */
    const char *name;
    const char *on_schema; /* of an index's table */
    const char *on;
    const char *text;
    const char *behind; /* CREATE INDEX: what stands behind the word and its conditions */
};

static enum dr_code refuse(struct dr_err *err, const char *text, const char *why)
{
    return dr_fail(err, DR_REFUSED,
                   "command \"%.80s\": %s; allowed are CREATE TABLE, CREATE INDEX, DROP TABLE and "
                   "DROP INDEX",
                   text, why);
}

/* "[schema.]name" with the token already read; leaves the token behind it in *t. */
static enum dr_code read_name(struct reader *r, struct token *t, const char **schema,
                              const char **name, const char *text, struct dr_err *err)
{
    *schema = NULL;
    *name = name_of(r, *t);
    *t = next_token(r);
    if (*name != NULL && t->kind == TOKEN_OTHER && t->text[0] == '.') {
        *schema = *name;
        *t = next_token(r);
        *name = name_of(r, *t);
        *t = next_token(r);
    }
    return *name != NULL ? DR_OK : refuse(err, text, "a name is missing");
}

static enum dr_code read_index(struct reader *r, struct token *t, struct command *c,
                               struct dr_err *err)
{
    if (!is_word(*t, "on")) {
        return c->is_create ? refuse(err, c->text, "ON and a table are missing") : DR_OK;
    }
    *t = next_token(r);
    if (is_word(*t, "only")) {
        *t = next_token(r);
    }
    return read_name(r, t, &c->on_schema, &c->on, c->text, err);
}

/* ALTER SEQUENCE name OWNED BY ..., the one thing a serial column needs beside its table. */
static enum dr_code read_owner(struct reader *r, struct command *c, struct dr_err *err)
{
    struct token t = next_token(r);
    if (!r->is_pg || !is_word(t, "sequence")) {
        return refuse(err, c->text, "it neither creates nor drops");
    }
    t = next_token(r);
    enum dr_code rc = read_name(r, &t, &c->schema, &c->name, c->text, err);
    c->object = OBJECT_SEQUENCE;
    c->is_owned = true;
    return rc == DR_OK && !is_word(t, "owned") ? refuse(err, c->text, "only OWNED BY is known")
                                               : rc;
}

static bool read_object(struct reader *r, struct token *t, struct command *c)
{
    bool is_special = c->is_create && (is_word(*t, "unique") || is_word(*t, "unlogged"));
    bool is_unique = is_special && is_word(*t, "unique");
    if (is_special) {
        *t = next_token(r);
    }
    c->object = is_word(*t, "index")      ? OBJECT_INDEX
                : is_word(*t, "sequence") ? OBJECT_SEQUENCE
                                          : OBJECT_TABLE;
    bool is_known = is_word(*t, "table") || c->object == OBJECT_INDEX ||
                    (c->object == OBJECT_SEQUENCE && c->is_create && r->is_pg);
    return is_known && (!is_special || is_unique == (c->object == OBJECT_INDEX));
}

static enum dr_code read_head(struct reader *r, struct command *c, struct dr_err *err)
{
    struct token t = next_token(r);
    c->is_create = is_word(t, "create");
    if (is_word(t, "alter")) {
        return read_owner(r, c, err);
    }
    if (!c->is_create && !is_word(t, "drop")) {
        return refuse(err, c->text, "it neither creates nor drops");
    }
    t = next_token(r);
    if (!read_object(r, &t, c)) {
        return refuse(err, c->text, "it is about something else than a table or an index");
    }
    t = next_token(r);
    if (is_word(t, "concurrently")) {
        t = next_token(r);
    }
    if (is_word(t, "if")) { /* what it asks for is done anyway */
        do {
            t = next_token(r);
        } while (is_word(t, "not") || is_word(t, "exists"));
    }
    c->behind = t.text;
    enum dr_code rc = read_name(r, &t, &c->schema, &c->name, c->text, err);
    if (rc == DR_OK && c->object == OBJECT_INDEX) {
        rc = read_index(r, &t, c, err);
    } else if (rc == DR_OK && c->is_create && c->object == OBJECT_TABLE &&
               !(t.kind == TOKEN_OTHER && t.text[0] == '(')) {
        rc = refuse(err, c->text, "it would copy rows or another table's form");
    } else if (rc == DR_OK && !c->is_create && t.kind != TOKEN_END) {
        rc = refuse(err, c->text, "it drops more than one thing");
    }
    return rc;
}

/* The next statement of the text; *found_out is false at the end. */
static enum dr_code read_command(struct reader *r, struct command *c, bool *found_out,
                                 struct dr_err *err)
{
    const char *begin;
    struct token t;
    do {
        begin = skip_space(r->at);
        r->at = begin;
        t = next_token(r);
    } while (t.kind == TOKEN_SEMICOLON);
    *found_out = t.kind != TOKEN_END;
    const char *end = begin;
    while (t.kind != TOKEN_END && t.kind != TOKEN_SEMICOLON) {
        if (t.kind == TOKEN_BAD) {
            return dr_fail(err, DR_INPUT,
                           "command \"%.80s\": a quote is not closed, or there is a comment, a "
                           "backslash or a dollar quote",
                           begin);
        }
        end = t.text + t.len;
        t = next_token(r);
    }
    *c = (struct command){0};
    if (!*found_out) {
        return DR_OK;
    }
    c->text = dr_arena_printf(r->arena, "%.*s", (int)(end - begin), begin);
    if (c->text == NULL) {
        return dr_fail_nomem(err);
    }
    struct reader head = {.at = c->text, .is_pg = r->is_pg, .arena = r->arena};
    return read_head(&head, c, err);
}

/* ---- running ---- */

/* An index by its name: where it is. */
struct place {
    struct dr_arena *arena;
    uint32_t count;
    const char *schema;
    const char *table;
    bool is_valid;
    bool is_partitioned;
};

static enum dr_code take_place(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct place *p = arg;
    if (count < 4) {
        return DR_OK;
    }
    p->count++;
    p->schema = sa_copy(p->arena, &v[0]);
    p->table = sa_copy(p->arena, &v[1]);
    p->is_valid = sa_int(&v[2]) != 0;
    p->is_partitioned = sa_int(&v[3]) != 0;
    return p->schema == NULL || p->table == NULL ? dr_fail_nomem(err) : DR_OK;
}

static const char mariadb_index_sql[] =
    "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME, 1, 0 FROM information_schema.STATISTICS WHERE "
    "INDEX_NAME = ?";
static const char postgres_index_sql[] =
    "SELECT n.nspname::text, r.relname::text, i.indisvalid::int, (r.relkind = 'p')::int FROM "
    "pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN "
    "pg_catalog.pg_class r ON r.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = "
    "x.relnamespace WHERE x.relname = ?::text";
static const char mariadb_table_sql[] =
    "SELECT TABLE_SCHEMA, TABLE_NAME, 1, 0 FROM information_schema.TABLES WHERE TABLE_NAME = ? AND "
    "TABLE_SCHEMA = ?";
static const char postgres_table_sql[] =
    "SELECT n.nspname::text, c.relname::text, 1, (c.relkind = 'p')::int FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ?::text AND "
    "n.nspname = ?::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

static enum dr_code look_up(struct sa_store *s, const struct command *c, struct place *out,
                            struct dr_err *err)
{
    struct dr_value param[3] = {sa_text(c->name)};
    struct dr_str sql;
    uint32_t count = 1;
    const char *schema = c->object == OBJECT_INDEX && !s->is_pg ? c->on_schema : c->schema;
    dr_str_init(&sql);
    if (c->object != OBJECT_INDEX) {
        dr_str_add(&sql, s->is_pg ? postgres_table_sql : mariadb_table_sql);
        param[count++] = sa_text(c->schema == NULL ? s->info->schema : c->schema);
    } else {
        dr_str_add(&sql, s->is_pg ? postgres_index_sql : mariadb_index_sql);
        if (c->on != NULL) {
            dr_str_add(&sql, s->is_pg ? " AND r.relname = ?::text" : " AND TABLE_NAME = ?");
            param[count++] = sa_text(c->on);
            schema = c->on_schema == NULL ? s->info->schema : c->on_schema;
        }
        if (schema != NULL) {
            dr_str_add(&sql, s->is_pg ? " AND n.nspname = ?::text" : " AND TABLE_SCHEMA = ?");
            param[count++] = sa_text(schema);
        }
    }
    enum dr_code rc =
        sql.is_short ? dr_fail_nomem(err)
                     : dr_sqldb_query(s->db, dr_str_text(&sql), param, count, take_place, out, err);
    dr_str_fini(&sql);
    return rc;
}

static enum dr_code check_empty(struct sa_store *s, const struct place *p, struct dr_err *err)
{
    struct dr_str sql;
    int64_t has_row = 0;
    dr_str_init(&sql);
    dr_str_add(&sql, "SELECT 1 FROM ");
    dr_sql_quote_name(&sql, p->schema);
    dr_str_addc(&sql, '.');
    dr_sql_quote_name(&sql, p->table);
    dr_str_add(&sql, " LIMIT 1");
    enum dr_code rc =
        sql.is_short ? dr_fail_nomem(err)
                     : sa_ask_number(s->db, dr_str_text(&sql), NULL, NULL, &has_row, NULL, err);
    dr_str_fini(&sql);
    return rc == DR_OK && has_row != 0
               ? dr_fail(err, DR_REFUSED,
                         "table %s.%s still has rows; erase them first, so that they can be "
                         "restored",
                         p->schema, p->table)
               : rc;
}

static void add_drop_index(const struct sa_store *s, const struct command *c, const struct place *p,
                           struct dr_str *sql)
{
    dr_str_add(sql, s->is_pg && !p->is_partitioned ? "DROP INDEX CONCURRENTLY " : "DROP INDEX ");
    if (s->is_pg) {
        dr_sql_quote_name(sql, p->schema);
        dr_str_addc(sql, '.');
    }
    dr_sql_quote_name(sql, c->name);
    if (!s->is_pg) {
        dr_str_add(sql, " ON ");
        dr_sql_quote_name(sql, p->schema);
        dr_str_addc(sql, '.');
        dr_sql_quote_name(sql, p->table);
    }
}

/* PostgreSQL makes indexes without locking writers out, but not of partitioned tables. */
static enum dr_code add_create_index(struct sa_store *s, const struct command *c,
                                     struct dr_arena *a, struct dr_str *sql, struct dr_err *err)
{
    struct place on = {.arena = a};
    struct command table = {.object = OBJECT_TABLE, .schema = c->on_schema, .name = c->on};
    enum dr_code rc = look_up(s, &table, &on, err);
    bool is_unique = strcasestr(c->text, "unique") != NULL &&
                     strcasestr(c->text, "unique") < strcasestr(c->text, "index");
    dr_str_addf(sql, "CREATE %sINDEX %s%s", is_unique ? "UNIQUE " : "",
                on.count > 0 && !on.is_partitioned ? "CONCURRENTLY " : "", c->behind);
    return rc;
}

static enum dr_code run_text(struct sa_store *s, const struct dr_str *sql, bool is_create,
                             struct dr_err *err)
{
    enum dr_code rc = sql->is_short ? dr_fail_nomem(err)
                                    : dr_sqldb_exec(s->db, dr_str_text(sql), NULL, 0, NULL, err);
    if ((is_create && rc == DR_EXISTS) || (!is_create && rc == DR_NOT_FOUND)) {
        dr_err_clear(err); /* somebody was faster */
        rc = DR_OK;
    }
    return rc;
}

static enum dr_code run_command(struct sa_store *s, const struct command *c, struct dr_arena *a,
                                struct dr_err *err)
{
    struct place p = {.arena = a};
    struct dr_str sql;
    dr_str_init(&sql);
    enum dr_code rc = look_up(s, c, &p, err);
    bool is_there = p.count > 0;
    if (rc != DR_OK || (!c->is_owned && is_there == c->is_create && p.is_valid == is_there)) {
        goto out; /* already so */
    }
    if (p.count > 1) {
        rc = dr_fail(err, DR_CONFLICT, "%" PRIu32 " indexes are called \"%s\"; name the table",
                     p.count, c->name);
        goto out;
    }
    if (c->object == OBJECT_INDEX && is_there) { /* to be dropped, or left broken by a failure */
        add_drop_index(s, c, &p, &sql);
        rc = run_text(s, &sql, false, err);
        dr_str_clear(&sql);
    }
    if (rc != DR_OK || (c->object == OBJECT_INDEX && !c->is_create)) {
        goto out;
    }
    if (c->object == OBJECT_TABLE && !c->is_create) {
        rc = check_empty(s, &p, err);
    }
    if (rc == DR_OK && s->is_pg && c->object == OBJECT_INDEX) {
        rc = add_create_index(s, c, a, &sql, err);
    } else {
        dr_str_add(&sql, c->text);
    }
    rc = rc == DR_OK ? run_text(s, &sql, c->is_create, err) : rc;
out:
    dr_str_fini(&sql);
    return rc;
}

static enum dr_code run_all(struct sa_store *s, const char *text, bool is_run, struct dr_arena *a,
                            struct dr_err *err)
{
    struct reader r = {.at = text, .is_pg = s->is_pg, .arena = a};
    enum dr_code rc = DR_OK;
    for (int i = 0; rc == DR_OK; i++) {
        struct command c = {0};
        bool is_found = false;
        rc = read_command(&r, &c, &is_found, err);
        if (rc != DR_OK || !is_found) {
            break;
        }
        if (i == COMMANDS_MAX) {
            return dr_fail(err, DR_INPUT, "a text of more than %d commands", COMMANDS_MAX);
        }
        rc = is_run ? run_command(s, &c, a, err) : DR_OK;
    }
    return rc;
}

enum dr_code sa_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    struct sa_store *s = impl;
    bool is_whole = false;
    enum dr_code rc = sa_whole(s, node, text, &is_whole, err);
    if (rc != DR_OK || is_whole) {
        return rc;
    }
    struct dr_arena *a = dr_arena_create(COMMAND_BLOCK_BYTES);
    rc = a == NULL ? dr_fail_nomem(err) : sa_find_node(node, err);
    /* All of it is read before any of it is run. */
    rc = rc == DR_OK ? run_all(s, text, false, a, err) : rc;
    rc = rc == DR_OK ? dr_fault_pass("store.sql.command.begun", err) : rc;
    rc = rc == DR_OK ? run_all(s, text, true, a, err) : rc;
    if (rc == DR_OK && dr_fault_pass("store.sql.command.done", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "the answer to the command was lost");
    }
    for (uint32_t i = 0; i < SA_TABLES_MAX; i++) { /* whatever it was about has changed */
        sa_table_destroy(s->table[i]);
        s->table[i] = NULL;
    }
    dr_arena_destroy(a);
    return rc;
}
