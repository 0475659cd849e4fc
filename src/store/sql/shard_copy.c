/* SPDX-License-Identifier: Apache-2.0 */
/* Copying a shard in batches of its key's order. The last key of a batch is found first, so that
 * the rows themselves pass through without being looked at. */
#include <assert.h>
#include <string.h>

#include "store/sql/shard_private.h"

enum { ROWS_FIRST = 5000, ROW_BYTES_GUESS = 1024, ROUNDS_MAX = 64 };

/* ---- the cursor: a JSON array of the last key's texts ---- */

enum dr_code sh_cursor_read(const struct dr_cursor *cursor, const struct sh_table *t,
                            char **text_out, bool *found_out, struct dr_err *err)
{
    json_t *list = NULL;
    *found_out = cursor->len > 0;
    if (cursor->len == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("cursor", (const char *)cursor->data, cursor->len, &list, err);
    if (rc == DR_OK && (!json_is_array(list) || json_array_size(list) != t->key_count)) {
        rc = dr_fail(err, DR_CORRUPT, "the cursor does not fit the key of %s", t->quoted);
    }
    for (uint32_t i = 0; rc == DR_OK && i < t->key_count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        text_out[i] = text == NULL ? NULL : dr_arena_strdup(t->arena, text);
        if (text_out[i] == NULL) {
            rc = text == NULL ? dr_fail(err, DR_CORRUPT, "the cursor holds no text")
                              : dr_fail_nomem(err);
        }
    }
    json_decref(list);
    return rc;
}

enum dr_code sh_cursor_write(const struct sh_table *t, char *const *text, struct dr_cursor *cursor,
                             struct dr_err *err)
{
    json_t *list = json_array();
    char *out = NULL;
    enum dr_code rc = list == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < t->key_count; i++) {
        if (json_array_append_new(list, json_string(text[i])) != 0) {
            rc = dr_fail(err, DR_UNSUPPORTED, "a key of %s is no UTF-8 text", t->quoted);
        }
    }
    if (rc == DR_OK && (out = dr_json_text(list)) == NULL) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK && strlen(out) > DR_CURSOR_BYTES_MAX) {
        rc =
            dr_fail(err, DR_UNSUPPORTED, "a key of %s is longer than a cursor can hold", t->quoted);
    }
    if (rc == DR_OK) {
        cursor->len = (uint32_t)strlen(out);
        memcpy(cursor->data, out, cursor->len);
    }
    dr_free(out);
    json_decref(list);
    return rc;
}

/* ---- where a batch ends ---- */

struct bound {
    const struct sh_table *t;
    char **text;
    bool is_found;
};

static enum dr_code take_bound(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct bound *b = arg;
    for (uint32_t i = 0; i < b->t->key_count && i < count; i++) {
        b->text[i] = v[i].type == DR_V_INT ? dr_arena_printf(b->t->arena, "%lld", (long long)v[i].i)
                                           : sa_copy(b->t->arena, &v[i]);
        if (b->text[i] == NULL) {
            return dr_fail_nomem(err);
        }
    }
    b->is_found = true;
    return DR_OK;
}

enum dr_code sh_find_bound(struct sa_store *s, const struct sh_table *t, char *const *after,
                           uint64_t rows_max, char **text_out, bool *found_out, struct dr_err *err)
{
    struct dr_str sql;
    struct bound b = {.t = t, .text = text_out};
    enum dr_code rc = DR_OK;
    assert(rows_max > 0);
    dr_str_init(&sql);
    /* Names of their own: "a"::text would be called "a", and sorted by. */
    dr_str_add(&sql, "SELECT ");
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(&sql, "%s%s AS drover_k%u", i > 0 ? ", " : "", t->key[i]->key_text, i);
    }
    dr_str_addf(&sql, " FROM %s%s%s", s->is_pg ? "ONLY " : "", t->quoted,
                s->is_pg ? "" : " FORCE INDEX (PRIMARY)");
    if (after != NULL) {
        dr_str_add(&sql, " WHERE ");
        rc = sh_add_bound(&sql, s, t, true, after, err);
    }
    dr_str_addf(&sql, " ORDER BY %s LIMIT 1 OFFSET %llu", t->keys,
                (unsigned long long)(rows_max - 1));
    rc = rc == DR_OK && sql.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? sh_rows(s->db, take_bound, &b, err, "%s", sql.data) : rc;
    *found_out = b.is_found;
    dr_str_fini(&sql);
    return rc;
}

enum dr_code sh_add_range(struct dr_str *to, const struct sa_store *s, const struct sh_table *t,
                          const struct sh_range *range, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (range->has_after) {
        dr_str_add(to, " WHERE ");
        rc = sh_add_bound(to, s, t, true, range->after, err);
    }
    if (rc == DR_OK && range->has_upto) {
        dr_str_add(to, range->has_after ? " AND " : " WHERE ");
        rc = sh_add_bound(to, s, t, false, range->upto, err);
    }
    return rc == DR_OK && to->is_short ? dr_fail_nomem(err) : rc;
}

/* ---- one batch ---- */

struct batch {
    struct sh_move *m;
    struct sh_range at;
    struct dr_str range; /* " WHERE ..." or empty */
};

static enum dr_code make_range(struct batch *b, struct dr_err *err)
{
    dr_str_clear(&b->range);
    return sh_add_range(&b->range, b->m->source, &b->m->table, &b->at, err);
}

/* PostgreSQL: COPY straight into the table where nothing is in the way, else into a table beside
 * it. MariaDB replaces rows by itself. */
static enum dr_code choose_places(struct batch *b, bool is_all_staged, const char **into,
                                  bool *staged, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < b->m->target_count; i++) {
        struct sa_store *to = b->m->target[i];
        int64_t in_the_way = is_all_staged;
        into[i] = sh_place(to, b->m->arena, "", b->m->id->name);
        staged[i] = false;
        if (into[i] == NULL) {
            return dr_fail_nomem(err);
        }
        if (to->is_pg && !is_all_staged) {
            rc = sh_number(to->db, &in_the_way, err,
                           "SELECT count(*) FROM (SELECT 1 FROM %s%s LIMIT 1) x", into[i],
                           dr_str_text(&b->range));
        }
        if (rc == DR_OK && to->is_pg && in_the_way > 0) {
            staged[i] = true;
            into[i] = dr_arena_printf(b->m->arena, "pg_temp.\"" SH_ROWS "%s\"", b->m->id->name);
            rc = into[i] == NULL ? dr_fail_nomem(err) : sh_stage_make(b->m, to, err);
        }
    }
    return rc;
}

static enum dr_code pass_batch(struct batch *b, bool is_all_staged, uint64_t bytes_max,
                               struct dr_sqldb_piped *piped, struct dr_err *err)
{
    struct sh_move *m = b->m;
    const char *into[DR_SHARD_TARGETS_MAX];
    bool staged[DR_SHARD_TARGETS_MAX] = {false};
    struct dr_str select;
    enum dr_code rc = choose_places(b, is_all_staged, into, staged, err);
    dr_str_init(&select);
    dr_str_addf(&select, "SELECT %s FROM %s%s%s%s ORDER BY %s", m->table.select,
                m->source->is_pg ? "ONLY " : "", m->table.quoted,
                m->source->is_pg ? "" : " FORCE INDEX (PRIMARY)", dr_str_text(&b->range),
                m->table.keys);
    rc = rc == DR_OK && select.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? sh_pipe(m, select.data, m->table.columns, into, bytes_max, piped, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && !piped->is_over && i < m->target_count; i++) {
        rc = staged[i] ? sh_stage_apply(m, m->target[i], true, err) : DR_OK;
    }
    dr_str_fini(&select);
    return rc;
}

/* ---- the size of a batch ---- */

uint64_t sh_plan_rows(struct sa_store *s, const struct dr_shard_id *id,
                      const struct dr_budget *budget)
{
    struct sa_pace *p = &s->pace;
    if (strcmp(p->name, id->name) != 0) {
        *p = (struct sa_pace){0};
        dr_copy_text(p->name, sizeof p->name, id->name);
    }
    uint64_t row_bytes = p->row_bytes == 0 ? ROW_BYTES_GUESS : p->row_bytes;
    uint64_t rows = budget->bytes_max / row_bytes;
    uint64_t in_time = p->rows_s == 0 ? ROWS_FIRST : p->rows_s * (budget->ms_max / 10 + 1) / 100;
    rows = rows < in_time ? rows : in_time;
    rows = rows < budget->items_max ? rows : budget->items_max;
    return rows == 0 ? 1 : rows;
}

static void note_pace(struct sa_store *s, const struct dr_sqldb_piped *piped, dr_mono_ms ms)
{
    if (piped->rows > 0) {
        s->pace.row_bytes = piped->bytes / piped->rows + 1;
        s->pace.rows_s = piped->rows * 1000 / (uint64_t)(ms + 1) + 1;
    }
}

/* Until a batch fits: too many bytes halve it, a value in the way of another key's has it go
 * through the table beside. */
static enum dr_code copy_batch(struct batch *b, const struct dr_budget *budget, uint64_t rows,
                               struct dr_sqldb_piped *piped, struct dr_err *err)
{
    bool is_staged = false;
    enum dr_code rc = DR_OK;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t bytes_max = rows == 1 ? UINT64_MAX : budget->bytes_max;
        *piped = (struct dr_sqldb_piped){0};
        rc = round == 0 ? DR_OK : sh_move_again(b->m, err);
        rc = rc == DR_OK
                 ? sh_find_bound(b->m->source, &b->m->table, b->at.has_after ? b->at.after : NULL,
                                 rows, b->at.upto, &b->at.has_upto, err)
                 : rc;
        rc = rc == DR_OK ? make_range(b, err) : rc;
        rc = rc == DR_OK ? pass_batch(b, is_staged, bytes_max, piped, err) : rc;
        if (rc == DR_EXISTS && !is_staged && b->m->source->is_pg) {
            is_staged = true;
        } else if (rc == DR_OK && piped->is_over && rows > 1) {
            rows = rows / 2;
            b->m->source->pace.row_bytes *= 2;
        } else {
            return rc;
        }
    }
    return dr_fail(err, DR_BUSY, "the batch does not come to its end; again later");
}

enum dr_code sh_copy(void *source, void *const *target, uint32_t target_count,
                     const struct dr_shard_id *id, const struct dr_budget *budget,
                     struct dr_cursor *cursor, uint64_t *rows_out, uint64_t *bytes_out,
                     bool *is_end_out, struct dr_err *err)
{
    struct sa_store *s = source;
    struct sh_move m;
    struct batch b = {.m = &m};
    struct dr_sqldb_piped piped = {0};
    dr_mono_ms begun = dr_mono_now();
    dr_str_init(&b.range);
    enum dr_code rc = sh_move_begin(&m, source, target, target_count, id, true, err);
    rc = rc == DR_OK ? sh_cursor_read(cursor, &m.table, b.at.after, &b.at.has_after, err) : rc;
    rc = rc == DR_OK ? copy_batch(&b, budget, sh_plan_rows(s, id, budget), &piped, err) : rc;
    bool is_end = rc == DR_OK && !b.at.has_upto;
    if (is_end && s->is_pg) {
        rc = sh_sync_numbers(&m, err);
    }
    rc = rc == DR_OK ? sh_move_commit(&m, err) : rc;
    if (rc == DR_OK && is_end && !s->is_pg) {
        rc = sh_sync_numbers(&m, err);
    }
    if (rc == DR_OK && !is_end) {
        rc = sh_cursor_write(&m.table, b.at.upto, cursor, err);
    }
    if (rc == DR_OK) {
        note_pace(s, &piped, dr_mono_now() - begun);
        *rows_out = piped.rows;
        *bytes_out = piped.bytes;
        *is_end_out = is_end;
    }
    dr_str_fini(&b.range);
    sh_move_end(&m);
    return rc;
}
