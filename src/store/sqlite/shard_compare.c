/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what tells whether shards are equal: the digest of all rows of one, and the comparison of
 * the next range of rows of one with the same range of others. */
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "store/shard_rows.h"
#include "store/sqlite/shard_private.h"

/* ---- digest ---- */

struct digest_sum {
    uint64_t sum_low, sum_high, xor_low, xor_high, rows;
};

/* A sum and an exclusive or of the rows' hashes do not know their order; two of each, of 64 bits,
 * because equal rows would cancel each other out in the one and not in the other. */
static enum dr_code add_row(struct sq_node *n, sqlite3_stmt *st, int first, struct dr_value *value,
                            uint32_t count, struct dr_str *row, struct digest_sum *out,
                            struct dr_err *err)
{
    enum dr_code rc = sqs_read_values(n, st, first, count, value, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_clear(row);
    dr_values_encode(value, count, row);
    if (row->is_short) {
        return dr_fail_nomem(err);
    }
    XXH128_hash_t h = XXH3_128bits(row->data, row->len);
    out->sum_low += h.low64;
    out->sum_high += h.high64;
    out->xor_low ^= h.low64;
    out->xor_high ^= h.high64;
    out->rows++;
    return DR_OK;
}

static enum dr_code sum_rows(struct sqs *x, const struct sqs_shape *shape, struct digest_sum *out,
                             struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    struct dr_str row;
    dr_str_init(&row);
    struct dr_value *value = dr_arena_alloc(x->a, shape->column_count * sizeof *value);
    const char *text = dr_arena_printf(x->a, "SELECT %s FROM %s", shape->columns, shape->table);
    enum dr_code rc =
        value == NULL || text == NULL ? dr_fail_nomem(err) : sq_prepare(x->n, text, &st, err);
    while (rc == DR_OK) {
        rc = dr_sql_step(&x->n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        rc = add_row(x->n, st, 0, value, shape->column_count, &row, out, err);
    }
    sq_done(st);
    dr_str_fini(&row);
    return rc;
}

enum dr_code sqs_digest(void *impl, const struct dr_shard_id *id, struct dr_shard_digest *out,
                        struct dr_err *err)
{
    struct sqs x;
    struct sqs_shape shape;
    struct digest_sum sum = {0};
    const char *name = NULL;
    enum dr_code rc = sqs_begin_read(impl, id, &x, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = sqs_thing(&x, &name, err);
    rc = rc == DR_OK ? sqs_read_shape(x.n, name, x.a, &shape, err) : rc;
    rc = rc == DR_OK ? sum_rows(&x, &shape, &sum, err) : rc;
    if (rc == DR_OK) {
        out->rows = sum.rows;
        (void)snprintf(out->text, sizeof out->text,
                       "%016" PRIx64 "%016" PRIx64 "%016" PRIx64 "%016" PRIx64, sum.sum_high,
                       sum.sum_low, sum.xor_high, sum.xor_low);
    }
    (void)sqs_end(&x, DR_STOPPED, NULL);
    return rc;
}

/* ---- comparing range by range ---- */

struct comparing {
    struct sqs from;
    struct sqs_shape shape;
    const struct dr_budget *budget;
    const struct dr_cursor *cursor; /* behind which the range begins */
    struct dr_str last;             /* key of the range's last row, encoded */
    bool is_end;                    /* there is no last row: the range is open upwards */
    uint64_t rows, bytes;
    struct digest_sum sum; /* of the source */
};

/* " WHERE (keys) > (...) AND (keys) <= (...)": the range; while the source is read its end is not
 * known yet, so `is_open`. The values that are to be bound go to `at`. */
static enum dr_code print_range(const struct comparing *c, const char *keys, bool is_open,
                                struct dr_str *text, struct dr_value *at, uint32_t *count_out,
                                struct dr_err *err)
{
    uint32_t low = 0;
    uint32_t high = 0;
    enum dr_code rc = DR_OK;
    if (c->cursor->len > 0) {
        rc = dr_values_decode(c->cursor->data, c->cursor->len, at, DR_KEY_PARTS_MAX, &low, err);
        if (rc == DR_OK && low != c->shape.key_count) {
            rc = dr_fail(err, DR_CORRUPT, "the cursor of a comparison does not fit the key");
        }
        dr_str_addf(text, " WHERE (%s) > (", keys);
        sqs_add_marks(text, low);
        dr_str_addc(text, ')');
    }
    if (rc == DR_OK && !is_open) {
        rc = dr_values_decode(c->last.data, c->last.len, at + low, DR_KEY_PARTS_MAX, &high, err);
        dr_str_addf(text, " %s (%s) <= (", low > 0 ? "AND" : "WHERE", keys);
        sqs_add_marks(text, high);
        dr_str_addc(text, ')');
    }
    *count_out = low + high;
    return rc;
}

static enum dr_code bind_range(struct sq_node *n, const struct dr_str *text,
                               const struct dr_value *at, uint32_t count, sqlite3_stmt **out,
                               struct dr_err *err)
{
    enum dr_code rc =
        text->is_short ? dr_fail_nomem(err) : sq_prepare(n, dr_str_text(text), out, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = sq_bind(n, *out, (int)i + 1, &at[i], err);
    }
    return rc;
}

/* The keys, then all columns. */
static enum dr_code start_range(const struct comparing *c, struct sq_node *n, const char *table,
                                bool is_open, sqlite3_stmt **out, struct dr_err *err)
{
    struct dr_value at[2 * DR_KEY_PARTS_MAX];
    uint32_t count = 0;
    struct dr_str text;
    *out = NULL;
    dr_str_init(&text);
    dr_str_addf(&text, "SELECT %s, %s FROM %s", c->shape.key_columns, c->shape.columns, table);
    enum dr_code rc = print_range(c, c->shape.key_columns, is_open, &text, at, &count, err);
    dr_str_addf(&text, " ORDER BY %s", c->shape.key_columns);
    rc = rc == DR_OK ? bind_range(n, &text, at, count, out, err) : rc;
    dr_str_fini(&text);
    return rc;
}

static enum dr_code note_key(struct comparing *c, sqlite3_stmt *st, struct dr_err *err)
{
    enum dr_code rc = sqs_note_key(&c->from, st, c->shape.key_count, &c->last, err);
    return rc != DR_OK || c->last.len <= DR_CURSOR_BYTES_MAX
               ? rc
               : dr_fail(err, DR_UNSUPPORTED, "%s: a primary key of \"%s\" is longer than %d",
                         c->from.n->path, c->from.id->name, DR_CURSOR_BYTES_MAX);
}

/* The next rows of the source: their sum, and the key of the last one. */
static enum dr_code sum_source(struct comparing *c, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    struct dr_str row;
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)c->budget->ms_max;
    struct dr_value *value = dr_arena_alloc(c->from.a, c->shape.column_count * sizeof *value);
    dr_str_init(&row);
    enum dr_code rc = value == NULL ? dr_fail_nomem(err)
                                    : start_range(c, c->from.n, c->shape.table, true, &st, err);
    while (rc == DR_OK && !sqs_is_spent(c->budget, c->rows, c->bytes, until)) {
        rc = dr_sql_step(&c->from.n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            c->is_end = rc == DR_OK;
            break;
        }
        rc = note_key(c, st, err);
        rc = rc == DR_OK ? add_row(c->from.n, st, (int)c->shape.key_count, value,
                                   c->shape.column_count, &row, &c->sum, err)
                         : rc;
        c->bytes += row.len;
        c->rows++;
    }
    sq_done(st);
    dr_str_fini(&row);
    return rc;
}

/* The same range of a target; one row more than the source has is enough to know. */
static enum dr_code sum_target(const struct comparing *c, struct sqs *to, const char *table,
                               struct digest_sum *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = true;
    struct dr_str row;
    struct dr_value *value = dr_arena_alloc(to->a, c->shape.column_count * sizeof *value);
    dr_str_init(&row);
    enum dr_code rc =
        value == NULL ? dr_fail_nomem(err) : start_range(c, to->n, table, c->is_end, &st, err);
    while (rc == DR_OK && is_row && out->rows <= c->rows) {
        rc = dr_sql_step(&to->n->sql, st, &is_row, err);
        if (rc == DR_OK && is_row) {
            rc = add_row(to->n, st, (int)c->shape.key_count, value, c->shape.column_count, &row,
                         out, err);
        }
    }
    sq_done(st);
    dr_str_fini(&row);
    return rc;
}

/* A target and its table, which has to be of the source's columns. On success sqs_end() follows. */
static enum dr_code open_target(const struct comparing *c, void *impl, struct sqs *to,
                                struct sqs_shape *shape, struct dr_err *err)
{
    const char *name = NULL;
    enum dr_code rc = sqs_begin_read(impl, c->from.id, to, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = sqs_thing(to, &name, err);
    rc = rc == DR_OK ? sqs_read_shape(to->n, name, to->a, shape, err) : rc;
    if (rc == DR_OK && (strcmp(shape->columns, c->shape.columns) != 0 ||
                        strcmp(shape->key_columns, c->shape.key_columns) != 0)) {
        rc = dr_fail(err, DR_CONFLICT, "%s: \"%s\" has other columns than in %s", to->n->path,
                     c->from.id->name, c->from.n->path);
    }
    if (rc != DR_OK) {
        (void)sqs_end(to, DR_STOPPED, NULL);
    }
    return rc;
}

static enum dr_code compare_target(const struct comparing *c, void *impl, bool *same_out,
                                   struct dr_err *err)
{
    struct sqs to;
    struct sqs_shape shape;
    struct digest_sum sum = {0};
    enum dr_code rc = open_target(c, impl, &to, &shape, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = sum_target(c, &to, shape.table, &sum, err);
    *same_out = memcmp(&sum, &c->sum, sizeof sum) == 0;
    (void)sqs_end(&to, DR_STOPPED, NULL);
    return rc;
}

static void print_bound(const void *data, size_t bytes, struct dr_str *out)
{
    struct dr_value key[DR_KEY_PARTS_MAX];
    uint32_t count = 0;
    if (dr_values_decode(data, bytes, key, DR_KEY_PARTS_MAX, &count, NULL) != DR_OK) {
        count = 0;
    }
    dr_str_addc(out, '(');
    for (uint32_t i = 0; i < count; i++) {
        dr_str_add(out, i == 0 ? "" : ", ");
        dr_value_print(&key[i], out);
    }
    dr_str_addc(out, ')');
}

static void tell_range(const struct comparing *c, char *buf, size_t buf_bytes)
{
    struct dr_str text;
    dr_str_init(&text);
    if (c->cursor->len > 0) {
        dr_str_add(&text, "behind ");
        print_bound(c->cursor->data, c->cursor->len, &text);
    }
    if (!c->is_end) {
        dr_str_add(&text, c->cursor->len > 0 ? " up to " : "up to ");
        print_bound(c->last.data, c->last.len, &text);
    }
    dr_copy_text(buf, buf_bytes, text.len == 0 ? "all" : dr_str_text(&text));
    dr_str_fini(&text);
}

/* The log's columns have no collation of their own; keys are ordered by the table's. */
static enum dr_code print_log_keys(const struct comparing *c, const char *table, struct dr_str *out,
                                   struct dr_err *err)
{
    for (uint32_t i = 0; i < c->shape.key_count; i++) {
        const char *collation = NULL;
        const char *column = c->shape.name[c->shape.key[i]];
        if (sqlite3_table_column_metadata(c->from.n->sql.db, NULL, table, column, NULL, &collation,
                                          NULL, NULL, NULL) != SQLITE_OK ||
            collation == NULL) {
            collation = "BINARY";
        }
        dr_str_addf(out, "%sk%u COLLATE \"%s\"", i == 0 ? "" : ", ", i, collation);
    }
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}

/* Rows of a statement that gives the key's parts first: the key as bytes, and a hash of what is
 * behind it. */
static enum dr_code take_rows(const struct comparing *c, struct sq_node *n, sqlite3_stmt *st,
                              uint32_t columns, struct dr_shard_rows *out, struct dr_err *err)
{
    bool is_row = true;
    uint32_t keys = c->shape.key_count;
    struct dr_str text;
    struct dr_value *value = dr_arena_alloc(c->from.a, (keys + columns) * sizeof *value);
    enum dr_code rc = value == NULL ? dr_fail_nomem(err) : DR_OK;
    dr_str_init(&text);
    while (rc == DR_OK && is_row && out->count <= DR_SHARD_ROWS_MAX) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        rc = sqs_read_values(n, st, 0, keys + columns, value, err);
        dr_str_clear(&text);
        dr_values_encode(value, keys, &text);
        size_t key_bytes = text.len;
        dr_values_encode(value + keys, columns, &text);
        rc = rc == DR_OK && text.is_short ? dr_fail_nomem(err) : rc;
        rc = rc == DR_OK
                 ? dr_shard_rows_add(out, text.data, key_bytes,
                                     XXH3_64bits(text.data + key_bytes, text.len - key_bytes), err)
                 : rc;
    }
    dr_shard_rows_sort(out);
    dr_str_fini(&text);
    return rc;
}

/* Keys in the log that are in the range. */
static enum dr_code read_log(const struct comparing *c, const char *table,
                             struct dr_shard_rows *out, struct dr_err *err)
{
    struct dr_value at[2 * DR_KEY_PARTS_MAX];
    uint32_t count = 0;
    sqlite3_stmt *st = NULL;
    struct dr_str text;
    struct dr_str keys;
    if (!c->from.has_log) {
        return DR_OK;
    }
    dr_str_init(&text);
    dr_str_init(&keys);
    enum dr_code rc = print_log_keys(c, table, &keys, err);
    dr_str_add(&text, "SELECT DISTINCT ");
    for (uint32_t i = 0; i < c->shape.key_count; i++) {
        dr_str_addf(&text, "%sk%u", i == 0 ? "" : ", ", i);
    }
    dr_str_addf(&text, " FROM \"%s\"", c->from.log);
    rc = rc == DR_OK ? print_range(c, dr_str_text(&keys), c->is_end, &text, at, &count, err) : rc;
    rc = rc == DR_OK ? bind_range(c->from.n, &text, at, count, &st, err) : rc;
    rc = rc == DR_OK ? take_rows(c, c->from.n, st, 0, out, err) : rc;
    sq_done(st);
    dr_str_fini(&keys);
    dr_str_fini(&text);
    return rc;
}

static enum dr_code read_rows(const struct comparing *c, struct sq_node *n, const char *table,
                              struct dr_shard_rows *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = start_range(c, n, table, c->is_end, &st, err);
    rc = rc == DR_OK ? take_rows(c, n, st, c->shape.column_count, out, err) : rc;
    sq_done(st);
    return rc;
}

static enum dr_code read_target(const struct comparing *c, void *impl, struct dr_shard_rows *out,
                                struct dr_err *err)
{
    struct sqs to;
    struct sqs_shape shape;
    enum dr_code rc = open_target(c, impl, &to, &shape, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = read_rows(c, to.n, shape.table, out, err);
    (void)sqs_end(&to, DR_STOPPED, NULL);
    return rc;
}

/* Is what differs only late? The source is read first and the log last: the write of a row that was
 * seen has committed its entry by then, and nobody else takes entries. */
static enum dr_code find_logged(const struct comparing *c, const char *table, void *const *target,
                                uint32_t target_count, bool *out, struct dr_err *err)
{
    struct dr_shard_rows rows[DR_SHARD_TARGETS_MAX + 2]; /* targets, source, log */
    struct dr_shard_rows *source = &rows[target_count];
    struct dr_shard_rows *log = &rows[target_count + 1];
    for (uint32_t i = 0; i < target_count + 2; i++) {
        dr_shard_rows_init(&rows[i], c->from.a);
    }
    enum dr_code rc = read_rows(c, c->from.n, c->shape.table, source, err);
    bool fits = source->count <= DR_SHARD_ROWS_MAX;
    for (uint32_t i = 0; rc == DR_OK && fits && i < target_count; i++) {
        rc = read_target(c, target[i], &rows[i], err);
        fits = rows[i].count <= DR_SHARD_ROWS_MAX;
    }
    rc = rc == DR_OK && fits ? read_log(c, table, log, err) : rc;
    *out = rc == DR_OK && fits;
    for (uint32_t i = 0; *out && i < target_count; i++) {
        *out = dr_shard_rows_are_logged(source, &rows[i], log);
    }
    for (uint32_t i = 0; i < target_count + 2; i++) {
        dr_shard_rows_fini(&rows[i]);
    }
    return rc;
}

enum dr_code sqs_compare(void *source, void *const *target, uint32_t target_count,
                         const struct dr_shard_id *id, const struct dr_budget *budget,
                         struct dr_cursor *cursor, struct dr_shard_compared *out,
                         struct dr_err *err)
{
    const char *name = NULL;
    bool is_same = true;
    bool is_logged = false;
    struct comparing c = {.budget = budget, .cursor = cursor};
    enum dr_code rc = sqs_begin_read(source, id, &c.from, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&c.last);
    rc = sqs_thing(&c.from, &name, err);
    rc = rc == DR_OK ? sqs_read_shape(c.from.n, name, c.from.a, &c.shape, err) : rc;
    rc = rc == DR_OK ? sum_source(&c, err) : rc;
    sq_end_read(c.from.n);
    for (uint32_t i = 0; rc == DR_OK && is_same && i < target_count; i++) {
        rc = compare_target(&c, target[i], &is_same, err);
    }
    if (rc == DR_OK && !is_same && c.rows <= DR_SHARD_ROWS_MAX) {
        rc = find_logged(&c, name, target, target_count, &is_logged, err);
    }
    if (rc == DR_OK) {
        *out = (struct dr_shard_compared){
            .rows = c.rows, .is_different = !is_same, .is_logged = is_logged, .is_end = c.is_end};
        tell_range(&c, out->range, sizeof out->range);
        if ((is_same || is_logged) && c.last.len > 0) {
            memcpy(cursor->data, c.last.data, c.last.len);
            cursor->len = (uint32_t)c.last.len;
        }
    }
    dr_str_fini(&c.last);
    (void)sqs_end(&c.from, DR_STOPPED, NULL);
    return rc;
}
