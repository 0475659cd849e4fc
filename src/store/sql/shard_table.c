/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of a shard's table as copy, follow and digest need them, and texts made of them. They are
 * read anew for every batch: a definition may have changed. */
#include <string.h>

#include "store/sql/shard_private.h"

enum { COLUMNS_MAX = 4096 };

struct sh_column *sh_new_column(struct sh_table *t)
{
    uint32_t n = t->column_count;
    if (n == COLUMNS_MAX) {
        return NULL;
    }
    if (n == 0 || (n & (n - 1)) == 0) {
        struct sh_column *grown = dr_arena_alloc(t->arena, (n == 0 ? 1 : n * 2) * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        if (n > 0) {
            memcpy(grown, t->column, n * sizeof *grown);
        }
        t->column = grown;
    }
    t->column[n] = (struct sh_column){.before = "", .behind = ""};
    t->column_count++;
    return &t->column[n];
}

static enum dr_code keep_text(struct dr_arena *a, struct dr_str *from, const char **out,
                              struct dr_err *err)
{
    *out = from->is_short ? NULL : dr_arena_strdup(a, dr_str_text(from));
    dr_str_clear(from);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code make_lists(struct sh_table *t, struct dr_err *err)
{
    struct dr_str columns;
    struct dr_str select;
    dr_str_init(&columns);
    dr_str_init(&select);
    for (uint32_t i = 0; i < t->column_count; i++) {
        const struct sh_column *c = &t->column[i];
        if (c->key_at > 0 && c->key_at <= SH_KEYS_MAX) {
            t->key[c->key_at - 1] = c;
            t->key_count = c->key_at > t->key_count ? c->key_at : t->key_count;
        }
        if (!c->is_generated) {
            dr_str_addf(&columns, "%s%s", columns.len > 0 ? ", " : "", c->quoted);
            dr_str_addf(&select, "%s%s", select.len > 0 ? ", " : "", c->select);
        }
    }
    enum dr_code rc = keep_text(t->arena, &columns, &t->columns, err);
    rc = rc == DR_OK ? keep_text(t->arena, &select, &t->select, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < t->key_count; i++) {
        if (t->key[i] == NULL) {
            rc = dr_fail(err, DR_REFUSED, "%s: the primary key cannot be read", t->quoted);
        } else {
            dr_str_addf(&columns, "%s%s", i > 0 ? ", " : "", t->key[i]->quoted);
        }
    }
    rc = rc == DR_OK ? keep_text(t->arena, &columns, &t->keys, err) : rc;
    dr_str_fini(&columns);
    dr_str_fini(&select);
    return rc;
}

enum dr_code sh_table_load(struct sa_store *s, const char *table, struct dr_arena *a,
                           struct sh_table *out, struct dr_err *err)
{
    *out = (struct sh_table){.arena = a, .quoted = sh_place(s, a, "", table)};
    if (out->quoted == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc =
        s->is_pg ? sh_load_postgres(s, table, out, err) : sh_load_mariadb(s, table, out, err);
    if (rc == DR_OK && out->column_count == 0) {
        rc = dr_fail(err, DR_NOT_FOUND, "there is no table %s", out->quoted);
    }
    rc = rc == DR_OK ? make_lists(out, err) : rc;
    if (rc == DR_OK && out->key_count == 0) {
        rc = dr_fail(err, DR_REFUSED, "%s has no primary key of at most %d columns", out->quoted,
                     SH_KEYS_MAX);
    }
    return rc;
}

/* ---- texts ---- */

void sh_add_join(struct dr_str *to, const struct sh_table *t, const char *left, const char *right)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s%s.%s = %s.%s", i > 0 ? " AND " : "", left, t->key[i]->quoted, right,
                    t->key[i]->quoted);
    }
}

void sh_add_definitions(struct dr_str *to, const struct sh_table *t)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s%s %s", i > 0 ? ", " : "", t->key[i]->quoted, t->key[i]->definition);
    }
}

void sh_add_keys(struct dr_str *to, const struct sh_table *t, const char *prefix)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s%s%s", i > 0 ? ", " : "", prefix, t->key[i]->quoted);
    }
}

/* What comes out of a cursor goes into a statement: only what can be such a value does. */
static enum dr_code add_key_literal(struct dr_str *to, const struct sa_store *s,
                                    const struct sh_column *c, const char *text, struct dr_err *err)
{
    static const char *const allowed[] = {
        [SH_PLAIN] = "0123456789+-.eE", [SH_HEX] = "0123456789ABCDEF"};
    if (c->kind != SH_QUOTED) {
        if (text[strspn(text, allowed[c->kind])] != '\0' || (c->kind == SH_PLAIN && !*text)) {
            return dr_fail(err, DR_CORRUPT, "the cursor holds no value of column %s", c->quoted);
        }
        dr_str_addf(to, "%s%s%s", c->before, text, c->behind);
        return DR_OK;
    }
    dr_str_addc(to, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'' || (*text == '\\' && !s->is_pg)) {
            dr_str_addc(to, *text);
        }
        dr_str_addc(to, *text);
    }
    dr_str_addc(to, '\'');
    return DR_OK;
}

/* (a > x OR (a = x AND b > y)): MariaDB makes ranges of its index of that, of a row comparison it
 * does not. */
static enum dr_code add_nested(struct dr_str *to, const struct sa_store *s,
                               const struct sh_table *t, bool is_above, char *const *text,
                               struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    dr_str_addc(to, '(');
    for (uint32_t i = 0; rc == DR_OK && i < t->key_count; i++) {
        bool is_last = i + 1 == t->key_count;
        dr_str_addf(to, "%s(", i > 0 ? " OR " : "");
        for (uint32_t k = 0; rc == DR_OK && k < i; k++) {
            dr_str_addf(to, "%s = ", t->key[k]->quoted);
            rc = add_key_literal(to, s, t->key[k], text[k], err);
            dr_str_add(to, " AND ");
        }
        dr_str_addf(to, "%s %s ", t->key[i]->quoted, is_above ? ">" : is_last ? "<=" : "<");
        rc = rc == DR_OK ? add_key_literal(to, s, t->key[i], text[i], err) : rc;
        dr_str_addc(to, ')');
    }
    dr_str_addc(to, ')');
    return rc;
}

enum dr_code sh_add_bound(struct dr_str *to, const struct sa_store *s, const struct sh_table *t,
                          bool is_above, char *const *text, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (!s->is_pg) {
        return add_nested(to, s, t, is_above, text, err);
    }
    dr_str_addf(to, "(%s) %s (", t->keys, is_above ? ">" : "<=");
    for (uint32_t i = 0; rc == DR_OK && i < t->key_count; i++) {
        dr_str_add(to, i > 0 ? ", " : "");
        rc = add_key_literal(to, s, t->key[i], text[i], err);
    }
    dr_str_addc(to, ')');
    return rc;
}
