/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how rows of a shard travel from one file to others: the copy in the order of the primary
 * key, and the following of logged keys. Values are bound as they were read, so every type arrives
 * byte for byte; generated columns compute themselves. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "store/sqlite/shard_private.h"

enum { COPY_BLOCK_BYTES = 32 * 1024, CLOCK_EVERY_ROWS = 64 };

/* ---- shape ---- */

static enum dr_code find_stored(const struct sq_table *t, const char *name, uint32_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (t->column[i].is_generated) {
            continue;
        }
        if (sqlite3_stricmp(t->column[i].name, name) == 0) {
            return DR_OK;
        }
        (*out)++;
    }
    return DR_NOT_FOUND;
}

static enum dr_code read_key(struct sq_node *n, const struct sq_table *t, struct sqs_shape *out,
                             struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    enum dr_code rc =
        sq_prepare(n, "SELECT name FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk", &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, t->name, -1, SQLITE_STATIC);
    }
    while (rc == DR_OK) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        if (out->key_count == DR_KEY_PARTS_MAX ||
            find_stored(t, dr_sql_text(st, 0), &out->key[out->key_count]) != DR_OK) {
            rc = dr_fail(err, DR_REFUSED, "%s: the primary key of \"%s\" cannot be followed",
                         n->path, t->name);
            break;
        }
        out->key_count++;
    }
    sq_done(st);
    return rc == DR_OK && out->key_count == 0
               ? dr_fail(err, DR_REFUSED, "%s: \"%s\" has no primary key", n->path, t->name)
               : rc;
}

enum dr_code sqs_read_shape(struct sq_node *n, const char *table, struct dr_arena *a,
                            struct sqs_shape *out, struct dr_err *err)
{
    const struct sq_table *t = NULL;
    struct dr_str all;
    struct dr_str keys;
    *out = (struct sqs_shape){0};
    enum dr_code rc = sq_table_get(n, table, &t, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&all);
    dr_str_init(&keys);
    const char **name = dr_arena_alloc(a, (t->column_count + 1) * sizeof *name);
    const char **quoted = dr_arena_alloc(a, (t->column_count + 1) * sizeof *quoted);
    bool is_short = name == NULL || quoted == NULL;
    for (uint32_t i = 0; !is_short && i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            dr_str_addf(&all, "%s%s", out->column_count == 0 ? "" : ", ", t->column[i].quoted);
            name[out->column_count] = dr_arena_strdup(a, t->column[i].name);
            quoted[out->column_count] = dr_arena_strdup(a, t->column[i].quoted);
            is_short = name[out->column_count] == NULL || quoted[out->column_count] == NULL;
            out->column_count++;
        }
    }
    rc = is_short ? dr_fail_nomem(err) : read_key(n, t, out, err);
    for (uint32_t i = 0; rc == DR_OK && i < out->key_count; i++) {
        dr_str_addf(&keys, "%s%s", i == 0 ? "" : ", ", quoted[out->key[i]]);
    }
    out->name = name;
    out->quoted = quoted;
    out->table = sq_quote(a, table);
    out->columns = all.is_short ? NULL : dr_arena_strdup(a, dr_str_text(&all));
    out->key_columns = keys.is_short ? NULL : dr_arena_strdup(a, dr_str_text(&keys));
    if (rc == DR_OK && (out->table == NULL || out->columns == NULL || out->key_columns == NULL)) {
        rc = dr_fail_nomem(err);
    }
    dr_str_fini(&all);
    dr_str_fini(&keys);
    return rc;
}

/* ---- targets ---- */

/* A target while a batch is written to it. */
struct side {
    struct sqs x;
    bool is_open;
    sqlite3_stmt *put, *drop;
};

void sqs_add_marks(struct dr_str *out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        dr_str_add(out, i == 0 ? "?" : ", ?");
    }
}

static enum dr_code prepare_put(struct side *to, const struct sqs_shape *shape, const char *name,
                                struct dr_err *err)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "REPLACE INTO \"%s\"(%s) VALUES(", name, shape->columns);
    sqs_add_marks(&text, shape->column_count);
    dr_str_addc(&text, ')');
    enum dr_code rc =
        text.is_short ? dr_fail_nomem(err) : sq_prepare(to->x.n, dr_str_text(&text), &to->put, err);
    dr_str_clear(&text);
    dr_str_addf(&text, "DELETE FROM \"%s\" WHERE ", name);
    for (uint32_t i = 0; i < shape->key_count; i++) {
        dr_str_addf(&text, "%s%s = ?", i == 0 ? "" : " AND ", shape->quoted[shape->key[i]]);
    }
    if (rc == DR_OK) {
        rc = text.is_short ? dr_fail_nomem(err)
                           : sq_prepare(to->x.n, dr_str_text(&text), &to->drop, err);
    }
    dr_str_fini(&text);
    return rc;
}

/* A fence is for others: the row in drover_pass lets this transaction through it. */
static enum dr_code open_side(struct side *to, void *impl, const struct dr_shard_id *id,
                              const struct sqs_shape *shape, bool is_copy, struct dr_err *err)
{
    const char *name = NULL;
    enum dr_code rc = sqs_begin_write(impl, id, true, &to->x, err);
    if (rc != DR_OK) {
        return rc;
    }
    to->is_open = true;
    rc = sqs_thing(&to->x, &name, err);
    if (rc == DR_OK && name == to->x.held) {
        rc = dr_fail(err, DR_REFUSED, "%s: \"%s\" is held out of use", to->x.n->path, id->name);
    }
    /* A copy may bring rows that are older than what is there: not to a shard that is written to.
     */
    if (rc == DR_OK && is_copy && strcmp(to->x.in_use.operation, id->operation) != 0 &&
        !to->x.is_fenced) {
        rc = dr_fail(err, DR_REFUSED, "%s: \"%s\" was not made by this operation: it is in use",
                     to->x.n->path, id->name);
    }
    rc = rc == DR_OK ? sqs_run(&to->x, "INSERT OR IGNORE INTO drover_pass VALUES(1)", err) : rc;
    return rc == DR_OK ? prepare_put(to, shape, name, err) : rc;
}

static enum dr_code close_sides(struct side *to, uint32_t count, enum dr_code rc,
                                struct dr_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        sq_done(to[i].put);
        sq_done(to[i].drop);
        if (to[i].is_open) {
            rc = rc == DR_OK ? sqs_run(&to[i].x, "DELETE FROM drover_pass", err) : rc;
            rc = sqs_end(&to[i].x, rc, err);
        }
    }
    return rc;
}

static enum dr_code open_sides(struct side *to, void *const *target, uint32_t count,
                               const struct dr_shard_id *id, const struct sqs_shape *shape,
                               bool is_copy, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    memset(to, 0, count * sizeof *to);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = open_side(&to[i], target[i], id, shape, is_copy, err);
    }
    return rc;
}

/* The row under `from` (columns from `first` on) as it is. */
static enum dr_code put_row(struct side *to, uint32_t count, sqlite3_stmt *from, int first,
                            const struct sqs_shape *shape, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        int bound = SQLITE_OK;
        for (uint32_t k = 0; bound == SQLITE_OK && k < shape->column_count; k++) {
            bound = sqlite3_bind_value(to[i].put, (int)k + 1,
                                       sqlite3_column_value(from, first + (int)k));
        }
        rc = bound == SQLITE_OK ? dr_sql_run(&to[i].x.n->sql, to[i].put, err)
                                : dr_sql_fail(&to[i].x.n->sql, bound, "binding a row", err);
    }
    return rc;
}

static enum dr_code drop_row(struct side *to, uint32_t count, const struct dr_value *key,
                             uint32_t key_count, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        for (uint32_t k = 0; rc == DR_OK && k < key_count; k++) {
            rc = sq_bind(to[i].x.n, to[i].drop, (int)k + 1, &key[k], err);
        }
        rc = rc == DR_OK ? dr_sql_run(&to[i].x.n->sql, to[i].drop, err) : rc;
    }
    return rc;
}

enum dr_code sqs_read_values(struct sq_node *n, sqlite3_stmt *st, int first, uint32_t count,
                             struct dr_value *out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = sq_column_value(n, st, first + (int)i, &out[i], err);
    }
    return rc;
}

/* SQLite lets several rows have the "same" key NULL: none of them could be told from another. */
enum dr_code sqs_check_key(const struct sq_node *n, const struct dr_shard_id *id,
                           const struct dr_value *key, uint32_t count, struct dr_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (key[i].type == DR_V_NULL) {
            return dr_fail(err, DR_REFUSED,
                           "%s: a row of \"%s\" has NULL in its primary key and cannot be moved; "
                           "declare the key NOT NULL",
                           n->path, id->name);
        }
    }
    return DR_OK;
}

/* ---- copy ---- */

struct copying {
    struct sqs from;
    struct sqs_shape shape;
    struct side to[DR_SHARD_TARGETS_MAX];
    uint32_t to_count;
    const struct dr_budget *budget;
    struct dr_str last; /* key of the last row, encoded */
    uint64_t rows, bytes;
    bool is_end;
};

/* All rows behind the cursor: its key first, then all columns. */
static enum dr_code start_rows(struct copying *c, const struct dr_cursor *cursor,
                               sqlite3_stmt **out, struct dr_err *err)
{
    struct dr_value at[DR_KEY_PARTS_MAX];
    uint32_t count = 0;
    struct dr_str text;
    *out = NULL;
    enum dr_code rc = DR_OK;
    if (cursor->len > 0) {
        rc = dr_values_decode(cursor->data, cursor->len, at, DR_KEY_PARTS_MAX, &count, err);
        if (rc == DR_OK && count != c->shape.key_count) {
            rc = dr_fail(err, DR_CORRUPT, "the cursor of a copy does not fit the primary key");
        }
    }
    dr_str_init(&text);
    dr_str_addf(&text, "SELECT %s, %s FROM %s", c->shape.key_columns, c->shape.columns,
                c->shape.table);
    if (count > 0) {
        dr_str_addf(&text, " WHERE (%s) > (", c->shape.key_columns);
        sqs_add_marks(&text, count);
        dr_str_addc(&text, ')');
    }
    dr_str_addf(&text, " ORDER BY %s", c->shape.key_columns);
    rc = rc == DR_OK && text.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? sq_prepare(c->from.n, dr_str_text(&text), out, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = sq_bind(c->from.n, *out, (int)i + 1, &at[i], err);
    }
    dr_str_fini(&text);
    return rc;
}

bool sqs_is_spent(const struct dr_budget *b, uint64_t rows, uint64_t bytes, dr_mono_ms until)
{
    bool is_late = rows % CLOCK_EVERY_ROWS == 0 && dr_mono_now() >= until;
    return rows > 0 && (rows >= b->items_max || bytes >= b->bytes_max || is_late);
}

enum dr_code sqs_note_key(const struct sqs *x, sqlite3_stmt *st, uint32_t key_count,
                          struct dr_str *last, struct dr_err *err)
{
    struct dr_value key[DR_KEY_PARTS_MAX];
    enum dr_code rc = sqs_read_values(x->n, st, 0, key_count, key, err);
    rc = rc == DR_OK ? sqs_check_key(x->n, x->id, key, key_count, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_clear(last);
    dr_values_encode(key, key_count, last);
    return last->is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code copy_row(struct copying *c, sqlite3_stmt *st, struct dr_err *err)
{
    int keys = (int)c->shape.key_count;
    enum dr_code rc = sqs_note_key(&c->from, st, c->shape.key_count, &c->last, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (int i = 0; i < (int)c->shape.column_count; i++) {
        int type = sqlite3_column_type(st, keys + i);
        bool is_long = type == SQLITE_TEXT || type == SQLITE_BLOB;
        c->bytes += is_long ? (uint64_t)sqlite3_column_bytes(st, keys + i) : 8;
    }
    c->rows++;
    return put_row(c->to, c->to_count, st, keys, &c->shape, err);
}

static enum dr_code copy_rows(struct copying *c, const struct dr_cursor *cursor, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = true;
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)c->budget->ms_max;
    enum dr_code rc = start_rows(c, cursor, &st, err);
    while (rc == DR_OK) {
        rc = dr_sql_step(&c->from.n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            c->is_end = rc == DR_OK;
            break;
        }
        if (sqs_is_spent(c->budget, c->rows, c->bytes, until)) {
            break;
        }
        rc = copy_row(c, st, err);
    }
    sq_done(st);
    if (rc == DR_OK && (c->last.is_short || c->last.len > DR_CURSOR_BYTES_MAX)) {
        rc = c->last.is_short
                 ? dr_fail_nomem(err)
                 : dr_fail(err, DR_UNSUPPORTED, "%s: a primary key of \"%s\" is longer than %d",
                           c->from.n->path, c->from.id->name, DR_CURSOR_BYTES_MAX);
    }
    return rc;
}

enum dr_code sqs_copy(void *source, void *const *target, uint32_t target_count,
                      const struct dr_shard_id *id, const struct dr_budget *budget,
                      struct dr_cursor *cursor, uint64_t *rows_out, uint64_t *bytes_out,
                      bool *is_end_out, struct dr_err *err)
{
    const char *name = NULL;
    assert(target_count <= DR_SHARD_TARGETS_MAX);
    struct copying c = {.budget = budget, .to_count = target_count};
    enum dr_code rc = sqs_begin_read(source, id, &c.from, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&c.last);
    rc = sqs_thing(&c.from, &name, err);
    rc = rc == DR_OK ? sqs_read_shape(c.from.n, name, c.from.a, &c.shape, err) : rc;
    rc = rc == DR_OK ? open_sides(c.to, target, target_count, id, &c.shape, true, err) : rc;
    rc = rc == DR_OK ? copy_rows(&c, cursor, err) : rc;
    /* Reading ends before writing does: two copies that cross must not wait for each other. */
    sq_end_read(c.from.n);
    rc = rc == DR_OK ? dr_fault_pass("store.sqlite.shard.copy.read", err) : rc;
    rc = close_sides(c.to, target_count, rc, err);
    if (rc == DR_OK) {
        if (c.last.len > 0) {
            memcpy(cursor->data, c.last.data, c.last.len);
            cursor->len = (uint32_t)c.last.len;
        }
        *rows_out = c.rows;
        *bytes_out = c.bytes;
        *is_end_out = c.is_end;
    }
    dr_str_fini(&c.last);
    (void)sqs_end(&c.from, DR_STOPPED, NULL);
    return rc;
}

/* ---- follow ---- */

struct following {
    struct sqs from;
    struct sqs_shape shape;
    struct side to[DR_SHARD_TARGETS_MAX];
    uint32_t to_count;
    int64_t last; /* id of the last entry applied */
    uint64_t applied;
};

static enum dr_code start_find(struct following *f, sqlite3_stmt **out, struct dr_err *err)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "SELECT %s FROM %s WHERE ", f->shape.columns, f->shape.table);
    for (uint32_t i = 0; i < f->shape.key_count; i++) {
        dr_str_addf(&text, "%s%s = ?", i == 0 ? "" : " AND ", f->shape.quoted[f->shape.key[i]]);
    }
    enum dr_code rc =
        text.is_short ? dr_fail_nomem(err) : sq_prepare(f->from.n, dr_str_text(&text), out, err);
    dr_str_fini(&text);
    return rc;
}

/* Bring one key to what the source has there now. */
static enum dr_code follow_key(struct following *f, sqlite3_stmt *find, const struct dr_value *key,
                               struct dr_err *err)
{
    bool is_row = false;
    enum dr_code rc = sqs_check_key(f->from.n, f->from.id, key, f->shape.key_count, err);
    for (uint32_t i = 0; rc == DR_OK && i < f->shape.key_count; i++) {
        rc = sq_bind(f->from.n, find, (int)i + 1, &key[i], err);
    }
    rc = rc == DR_OK ? dr_sql_step(&f->from.n->sql, find, &is_row, err) : rc;
    if (rc == DR_OK) {
        rc = is_row ? put_row(f->to, f->to_count, find, 0, &f->shape, err)
                    : drop_row(f->to, f->to_count, key, f->shape.key_count, err);
    }
    sq_done(find);
    return rc;
}

static enum dr_code follow_entries(struct following *f, uint64_t max, dr_mono_ms until,
                                   struct dr_err *err)
{
    struct dr_value key[DR_KEY_PARTS_MAX];
    sqlite3_stmt *find = NULL;
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    const char *text = dr_arena_printf(f->from.a, "SELECT * FROM \"%s\" ORDER BY id", f->from.log);
    enum dr_code rc = start_find(f, &find, err);
    if (rc == DR_OK) {
        rc = text == NULL ? dr_fail_nomem(err) : sq_prepare(f->from.n, text, &st, err);
    }
    while (rc == DR_OK && f->applied < max) {
        rc = dr_sql_step(&f->from.n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        rc = sqs_read_values(f->from.n, st, 1, f->shape.key_count, key, err);
        rc = rc == DR_OK ? follow_key(f, find, key, err) : rc;
        f->last = sqlite3_column_int64(st, 0);
        f->applied++;
        if (f->applied % CLOCK_EVERY_ROWS == 0 && dr_mono_now() >= until) {
            break;
        }
    }
    sq_done(st);
    return rc;
}

/* All writers of a file take turns, so a smaller id is never committed after a greater one that was
 * seen: here, and only here, a range names exactly the entries that were taken. */
static enum dr_code forget_entries(void *source, const struct dr_shard_id *id, int64_t last,
                                   uint64_t *left_out, struct dr_err *err)
{
    struct sqs x;
    int64_t left = 0;
    enum dr_code rc = sqs_begin_write(source, id, false, &x, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (x.has_log && last > 0) {
        rc = sqs_run(
            &x, dr_arena_printf(x.a, "DELETE FROM \"%s\" WHERE id <= %" PRId64, x.log, last), err);
    }
    if (rc == DR_OK && x.has_log) {
        const char *text = dr_arena_printf(x.a, "SELECT count(*) FROM \"%s\"", x.log);
        rc = text == NULL ? dr_fail_nomem(err) : dr_sql_int(&x.n->sql, text, 0, &left, err);
    }
    *left_out = (uint64_t)left;
    return sqs_end(&x, rc, err);
}

static enum dr_code check_log(const struct sqs *x, struct dr_err *err)
{
    return x->is_captured && x->logged.is_ours
               ? DR_OK
               : dr_fail(err, DR_NOT_FOUND,
                         "%s: changes of \"%s\" are not captured: there is nothing to follow",
                         x->n->path, x->id->name);
}

enum dr_code sqs_follow(void *source, void *const *target, uint32_t target_count,
                        const struct dr_shard_id *id, const struct dr_budget *budget,
                        uint64_t *applied_out, uint64_t *left_out, struct dr_err *err)
{
    const char *name = NULL;
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)budget->ms_max;
    assert(target_count <= DR_SHARD_TARGETS_MAX);
    struct following f = {.to_count = target_count};
    enum dr_code rc = sqs_begin_read(source, id, &f.from, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = sqs_thing(&f.from, &name, err);
    rc = rc == DR_OK ? check_log(&f.from, err) : rc;
    rc = rc == DR_OK ? sqs_read_shape(f.from.n, name, f.from.a, &f.shape, err) : rc;
    rc = rc == DR_OK ? open_sides(f.to, target, target_count, id, &f.shape, false, err) : rc;
    rc = rc == DR_OK ? follow_entries(&f, budget->items_max, until, err) : rc;
    sq_end_read(f.from.n);
    rc = rc == DR_OK ? dr_fault_pass("store.sqlite.shard.follow.read", err) : rc;
    rc = close_sides(f.to, target_count, rc, err);
    int64_t last = f.last;
    (void)sqs_end(&f.from, DR_STOPPED, NULL);
    /* Died here: the entries are applied once more, which changes nothing. */
    rc = rc == DR_OK ? dr_fault_pass("store.sqlite.shard.follow.applied", err) : rc;
    rc = rc == DR_OK ? forget_entries(source, id, last, left_out, err) : rc;
    *applied_out = rc == DR_OK ? f.applied : 0;
    return rc;
}
