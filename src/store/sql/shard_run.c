/* SPDX-License-Identifier: Apache-2.0 */
/* Statements put together from names and literals, and their simplest answers. Question marks are
 * parameters for store/sqldb.h: no user's text may come in here. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/sql/shard_private.h"

static char *print_statement(const char *fmt, va_list ap)
{
    char *text = NULL;
    va_list again;
    va_copy(again, ap);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): begun by the caller */
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n >= 0 && (text = dr_malloc((size_t)n + 1)) != NULL) {
        (void)vsnprintf(text, (size_t)n + 1, fmt, ap);
    }
    return text;
}

enum dr_code sh_exec(struct dr_sqldb *db, uint64_t *affected, struct dr_err *err, const char *fmt,
                     ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *sql = print_statement(fmt, ap);
    va_end(ap);
    enum dr_code rc =
        sql == NULL ? dr_fail_nomem(err) : dr_sqldb_exec(db, sql, NULL, 0, affected, err);
    dr_free(sql);
    return rc;
}

enum dr_code sh_rows(struct dr_sqldb *db, dr_sqldb_row_fn row, void *arg, struct dr_err *err,
                     const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *sql = print_statement(fmt, ap);
    va_end(ap);
    enum dr_code rc =
        sql == NULL ? dr_fail_nomem(err) : dr_sqldb_query(db, sql, NULL, 0, row, arg, err);
    dr_free(sql);
    return rc;
}

struct first {
    struct dr_arena *a;
    char *text;
    int64_t number;
    bool is_seen;
};

static enum dr_code take_first(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct first *f = arg;
    if (count == 0 || f->is_seen) {
        return DR_OK;
    }
    f->is_seen = true;
    f->number = sa_int(&v[0]);
    if (f->a != NULL && v[0].type != DR_V_NULL) {
        f->text = v[0].type == DR_V_INT ? dr_arena_printf(f->a, "%lld", (long long)v[0].i)
                                        : sa_copy(f->a, &v[0]);
        return f->text == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return DR_OK;
}

enum dr_code sh_number(struct dr_sqldb *db, int64_t *out, struct dr_err *err, const char *fmt, ...)
{
    struct first f = {0};
    va_list ap;
    va_start(ap, fmt);
    char *sql = print_statement(fmt, ap);
    va_end(ap);
    enum dr_code rc =
        sql == NULL ? dr_fail_nomem(err) : dr_sqldb_query(db, sql, NULL, 0, take_first, &f, err);
    dr_free(sql);
    *out = f.number;
    return rc;
}

enum dr_code sh_text(struct dr_sqldb *db, struct dr_arena *a, char **out, struct dr_err *err,
                     const char *fmt, ...)
{
    struct first f = {.a = a};
    va_list ap;
    va_start(ap, fmt);
    char *sql = print_statement(fmt, ap);
    va_end(ap);
    enum dr_code rc =
        sql == NULL ? dr_fail_nomem(err) : dr_sqldb_query(db, sql, NULL, 0, take_first, &f, err);
    dr_free(sql);
    *out = f.text;
    return rc;
}

char *sh_place(const struct sa_store *s, struct dr_arena *a, const char *prefix, const char *name)
{
    char *out = NULL;
    struct dr_str text;
    dr_str_init(&text);
    dr_sql_quote_name(&text, s->info->schema);
    dr_str_addf(&text, ".\"%s%s\"", prefix, name);
    if (!text.is_short) {
        out = dr_arena_strdup(a, text.data);
    }
    dr_str_fini(&text);
    return out;
}

char *sh_literal(const struct sa_store *s, struct dr_arena *a, const char *text)
{
    char *out = NULL;
    struct dr_str to;
    dr_str_init(&to);
    dr_str_addc(&to, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'' || (*text == '\\' && !s->is_pg)) {
            dr_str_addc(&to, *text);
        }
        dr_str_addc(&to, *text);
    }
    dr_str_addc(&to, '\'');
    if (!to.is_short) {
        out = dr_arena_strdup(a, to.data);
    }
    dr_str_fini(&to);
    return out;
}
