/* SPDX-License-Identifier: Apache-2.0 */
/* Owns statements as they are put together: text and the values to bind, in order. */
#include <string.h>
#include <strings.h>

#include "store/sql/sql_private.h"

void sa_query_init(struct sa_query *q, const struct sa_store *s)
{
    *q = (struct sa_query){.is_pg = s->is_pg};
    dr_str_init(&q->text);
}

void sa_query_fini(struct sa_query *q)
{
    dr_str_fini(&q->text);
    dr_free(q->bind);
    *q = (struct sa_query){0};
}

void sa_query_clear(struct sa_query *q)
{
    dr_str_clear(&q->text);
    q->bind_count = 0;
    q->is_short = false;
}

void sa_bind(struct sa_query *q, const struct dr_value *v)
{
    if (q->bind_count == q->bind_room) {
        uint32_t room = q->bind_room == 0 ? 32 : q->bind_room * 2;
        struct dr_value *grown = dr_realloc(q->bind, room * sizeof *grown);
        if (grown == NULL) {
            q->is_short = true;
            return;
        }
        q->bind = grown;
        q->bind_room = room;
    }
    q->bind[q->bind_count++] = *v;
}

struct dr_value sa_text(const char *text)
{
    return (struct dr_value){.type = DR_V_TEXT, .data = text, .len = strlen(text)};
}

/* PostgreSQL reads a boolean from its text, whatever number it was read as. */
static struct dr_value as_bound(const struct sa_column *c, const struct dr_value *v)
{
    return c->is_bool && v->type == DR_V_INT ? sa_text(v->i != 0 ? "t" : "f") : *v;
}

void sa_add_value(struct sa_query *q, const struct sa_column *c, const struct dr_value *v)
{
    struct dr_value bound = as_bound(c, v);
    /* An unsigned number over INT64_MAX travels as text; compared as such it would be a double. */
    bool is_big = !q->is_pg && c->class == SA_INT && v->type == DR_V_TEXT;
    dr_str_add(&q->text, is_big ? "CAST(? AS UNSIGNED)" : c->param);
    sa_bind(q, &bound);
}

void sa_add_equal(struct sa_query *q, const struct sa_column *c, const struct dr_value *v)
{
    if (v->type == DR_V_NULL) {
        dr_str_addf(&q->text, "%s IS NULL", c->quoted);
        return;
    }
    dr_str_addf(&q->text, "%s = ", c->quoted);
    sa_add_value(q, c, v);
}

enum dr_code sa_query_check(const struct sa_query *q, struct dr_err *err)
{
    return q->is_short || q->text.is_short ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code sa_query_exec(struct sa_store *s, const struct sa_query *q, uint64_t *affected,
                           struct dr_err *err)
{
    enum dr_code rc = sa_query_check(q, err);
    return rc == DR_OK
               ? dr_sqldb_exec(s->db, dr_str_text(&q->text), q->bind, q->bind_count, affected, err)
               : rc;
}

enum dr_code sa_query_rows(struct sa_store *s, const struct sa_query *q, dr_sqldb_row_fn row,
                           void *arg, struct dr_err *err)
{
    enum dr_code rc = sa_query_check(q, err);
    return rc == DR_OK
               ? dr_sqldb_query(s->db, dr_str_text(&q->text), q->bind, q->bind_count, row, arg, err)
               : rc;
}

/* Decimal digits of a text, as far as they go: counts may come as NUMERIC. */
int64_t sa_int(const struct dr_value *v)
{
    char buf[32];
    int64_t i = 0;
    size_t length = 0;
    if (v->type == DR_V_INT) {
        return v->i;
    }
    if (v->type == DR_V_REAL) {
        return v->r >= 9.2e18 ? INT64_MAX : v->r <= -9.2e18 ? INT64_MIN : (int64_t)v->r;
    }
    if (v->type != DR_V_TEXT) {
        return 0;
    }
    const char *text = v->data;
    while (length < v->len && length + 1 < sizeof buf &&
           ((text[length] >= '0' && text[length] <= '9') || (length == 0 && text[0] == '-'))) {
        buf[length] = text[length];
        length++;
    }
    buf[length] = '\0';
    return dr_parse_i64(buf, &i) ? i : length > 18 ? INT64_MAX : 0;
}

struct number {
    int64_t value;
    bool is_found;
};

static enum dr_code take_number(void *arg, const struct dr_value *value, uint32_t count,
                                struct dr_err *err)
{
    struct number *n = arg;
    (void)err;
    if (!n->is_found && count > 0 && value[0].type != DR_V_NULL) {
        n->value = sa_int(&value[0]);
        n->is_found = true;
    }
    return DR_OK;
}

enum dr_code sa_query_number(struct sa_store *s, const struct sa_query *q, int64_t *out,
                             struct dr_err *err)
{
    struct number n = {0};
    enum dr_code rc = sa_query_rows(s, q, take_number, &n, err);
    *out = n.value;
    return rc;
}

enum dr_code sa_ask_number(struct dr_sqldb *db, const char *sql, const char *a, const char *b,
                           int64_t *out, bool *found_out, struct dr_err *err)
{
    struct number n = {0};
    struct dr_value param[2];
    uint32_t count = 0;
    if (a != NULL) {
        param[count++] = sa_text(a);
    }
    if (b != NULL) {
        param[count++] = sa_text(b);
    }
    enum dr_code rc = dr_sqldb_query(db, sql, param, count, take_number, &n, err);
    *out = n.value;
    if (found_out != NULL) {
        *found_out = n.is_found;
    }
    return rc;
}

char *sa_copy(struct dr_arena *a, const struct dr_value *v)
{
    if (v->type == DR_V_INT) {
        return dr_arena_printf(a, "%lld", (long long)v->i);
    }
    if (v->type != DR_V_TEXT && v->type != DR_V_BLOB) {
        return NULL;
    }
    char *copy = dr_arena_alloc(a, v->len + 1);
    if (copy != NULL) {
        if (v->len > 0) {
            memcpy(copy, v->data, v->len);
        }
        copy[v->len] = '\0';
    }
    return copy;
}

bool sa_is(const struct dr_value *v, const char *text)
{
    return (v->type == DR_V_TEXT || v->type == DR_V_BLOB) && v->len == strlen(text) &&
           strncasecmp(v->data, text, v->len) == 0;
}

char *sa_quote(struct dr_arena *a, const char *name)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_sql_quote_name(&text, name);
    char *copy = text.is_short ? NULL : dr_arena_strdup(a, dr_str_text(&text));
    dr_str_fini(&text);
    return copy;
}

enum dr_code sa_copy_value(struct dr_arena *a, const struct dr_value *from, struct dr_value *to,
                           struct dr_err *err)
{
    *to = *from;
    if ((from->type == DR_V_TEXT || from->type == DR_V_BLOB) && from->len > 0) {
        to->data = dr_arena_memdup(a, from->data, from->len);
        return to->data == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return DR_OK;
}
