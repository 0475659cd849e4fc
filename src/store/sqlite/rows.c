/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how rows travel: values to and from SQLite, identities, and the encoded row
 * [shape, rowid unless a column holds it, stored columns in table order]. */
#include <assert.h>
#include <string.h>

#include "store/sqlite/sqlite_private.h"

/* ---- queries ---- */

void sq_query_init(struct sq_query *q)
{
    *q = (struct sq_query){0};
    dr_str_init(&q->text);
}

void sq_query_fini(struct sq_query *q)
{
    dr_str_fini(&q->text);
    dr_free(q->bind);
    *q = (struct sq_query){0};
}

void sq_query_bind(struct sq_query *q, const struct dr_value *v)
{
    if (q->bind_count == q->bind_room) {
        uint32_t room = q->bind_room == 0 ? 16 : q->bind_room * 2;
        struct dr_value *grown = dr_realloc(q->bind, room * sizeof *grown);
        if (grown == NULL) {
            q->is_short = true;
            return;
        }
        q->bind = grown;
        q->bind_room = room;
    }
    q->bind[q->bind_count++] = *v;
    dr_str_addc(&q->text, '?');
}

enum dr_code sq_bind(struct sq_node *n, sqlite3_stmt *st, int at, const struct dr_value *v,
                     struct dr_err *err)
{
    /* A NULL pointer would bind NULL instead of an empty text or blob. */
    const void *data = v->data == NULL ? "" : v->data;
    int rc = SQLITE_MISUSE;
    switch (v->type) {
    case DR_V_NULL:
        rc = sqlite3_bind_null(st, at);
        break;
    case DR_V_INT:
        rc = sqlite3_bind_int64(st, at, v->i);
        break;
    case DR_V_REAL:
        rc = sqlite3_bind_double(st, at, v->r);
        break;
    case DR_V_TEXT:
        rc = sqlite3_bind_text64(st, at, data, v->len, SQLITE_STATIC, SQLITE_UTF8);
        break;
    case DR_V_BLOB:
        rc = sqlite3_bind_blob64(st, at, data, v->len, SQLITE_STATIC);
        break;
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        return dr_fail(err, DR_INTERNAL, "an open bound was to be bound as a value");
    }
    return rc == SQLITE_OK ? DR_OK : dr_sql_fail(&n->sql, rc, "binding a value", err);
}

enum dr_code sq_query_start(struct sq_node *n, const struct sq_query *q, sqlite3_stmt **out,
                            struct dr_err *err)
{
    *out = NULL;
    if (q->is_short || q->text.is_short) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = sq_prepare(n, dr_str_text(&q->text), out, err);
    for (uint32_t i = 0; rc == DR_OK && i < q->bind_count; i++) {
        rc = sq_bind(n, *out, (int)i + 1, &q->bind[i], err);
    }
    return rc;
}

enum dr_code sq_column_value(struct sq_node *n, sqlite3_stmt *st, int at, struct dr_value *out,
                             struct dr_err *err)
{
    *out = (struct dr_value){.type = DR_V_NULL};
    switch (sqlite3_column_type(st, at)) {
    case SQLITE_INTEGER:
        out->type = DR_V_INT;
        out->i = sqlite3_column_int64(st, at);
        return DR_OK;
    case SQLITE_FLOAT:
        out->type = DR_V_REAL;
        out->r = sqlite3_column_double(st, at);
        return DR_OK;
    case SQLITE_TEXT:
        out->type = DR_V_TEXT;
        break;
    case SQLITE_BLOB:
        out->type = DR_V_BLOB;
        break;
    default:
        return DR_OK;
    }
    /* column_blob gives a text's bytes as they are, valid UTF-8 or not. */
    out->data = sqlite3_column_blob(st, at);
    out->len = (size_t)sqlite3_column_bytes(st, at);
    if (out->data == NULL) {
        if (sqlite3_errcode(n->sql.db) == SQLITE_NOMEM) {
            return dr_fail_nomem(err);
        }
        out->data = "";
    }
    return DR_OK;
}

/* ---- identities ---- */

enum dr_code sq_key_decode(const struct sq_table *t, const struct dr_item *item,
                           struct dr_value *id, struct dr_err *err)
{
    uint32_t count = 0;
    enum dr_code rc = dr_values_decode(item->key, item->key_len, id, t->id_count, &count, err);
    if (rc != DR_OK) {
        dr_wrap(err, "identity of a row of %s", t->name);
        return rc;
    }
    bool is_good = count == t->id_count && (t->is_without_rowid || id[0].type == DR_V_INT);
    for (uint32_t i = 0; i < count; i++) {
        is_good = is_good && id[i].type != DR_V_MIN && id[i].type != DR_V_MAX;
    }
    return is_good
               ? DR_OK
               : dr_fail(err, DR_UNSUPPORTED,
                         "table %s has another primary key than when its rows were read", t->name);
}

void sq_add_identity_where(const struct sq_table *t, struct sq_query *q, const struct dr_value *id)
{
    for (uint32_t i = 0; i < t->id_count; i++) {
        dr_str_add(&q->text, i == 0 ? " WHERE " : " AND ");
        dr_str_add(&q->text, t->id[i].sql);
        dr_str_add(&q->text, " = ");
        sq_query_bind(q, &id[i]);
    }
}

/* ---- whole rows ---- */

uint32_t sq_row_extra(const struct sq_table *t)
{
    return !t->is_without_rowid && t->rowid_column < 0 ? 2 : 1;
}

static enum dr_code copy_value(struct dr_value *v, struct dr_arena *a, struct dr_err *err)
{
    if ((v->type == DR_V_TEXT || v->type == DR_V_BLOB) && v->len > 0) {
        v->data = dr_arena_memdup(a, v->data, v->len);
        return v->data == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return DR_OK;
}

/* Columns [from, upto) of the row: SQLite limits the columns of one result to as many as a table
 * can have, so that a wide row with its rowid would not fit. */
static enum dr_code fetch_slice(struct sq_node *n, const struct sq_table *t,
                                const struct dr_value *id, uint32_t from, uint32_t upto,
                                struct dr_arena *a, struct dr_value *value, bool *found_out,
                                struct dr_err *err)
{
    struct sq_query q;
    sqlite3_stmt *st = NULL;
    sq_query_init(&q);
    dr_str_add(&q.text, "SELECT ");
    for (uint32_t i = from; i < upto; i++) {
        dr_str_add(&q.text, i == from ? "" : ", ");
        dr_str_add(&q.text, t->column[i].quoted);
    }
    dr_str_addf(&q.text, " FROM %s", t->quoted);
    sq_add_identity_where(t, &q, id);
    enum dr_code rc = sq_query_start(n, &q, &st, err);
    if (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, found_out, err);
    }
    for (uint32_t i = from; rc == DR_OK && *found_out && i < upto; i++) {
        rc = sq_column_value(n, st, (int)(i - from), &value[i], err);
        rc = rc == DR_OK ? copy_value(&value[i], a, err) : rc;
    }
    sq_done(st);
    sq_query_fini(&q);
    return rc;
}

enum dr_code sq_row_fetch(struct sq_node *n, const struct sq_table *t, const struct dr_value *id,
                          struct dr_arena *a, struct dr_value *value, bool *found_out,
                          struct dr_err *err)
{
    *found_out = true;
    enum dr_code rc = DR_OK;
    for (uint32_t from = 0; rc == DR_OK && *found_out && from < t->column_count;) {
        uint32_t upto =
            t->column_count - from > SQ_SLICE_COLUMNS ? from + SQ_SLICE_COLUMNS : t->column_count;
        rc = fetch_slice(n, t, id, from, upto, a, value, found_out, err);
        from = upto;
    }
    return rc;
}

void sq_row_encode(const struct sq_table *t, const struct dr_value *id,
                   const struct dr_value *value, struct dr_value *scratch, struct dr_str *out)
{
    uint32_t count = 0;
    scratch[count++] = (struct dr_value){.type = DR_V_INT, .i = t->shape};
    if (sq_row_extra(t) > 1) {
        scratch[count++] = id[0];
    }
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            scratch[count++] = value[i];
        }
    }
    assert(count == sq_row_extra(t) + t->stored_count);
    dr_values_encode(scratch, count, out);
}
