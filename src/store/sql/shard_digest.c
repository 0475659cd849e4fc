/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of a shard, computed by the server: a hash of each whole row, put together so that
 * their order does not matter. Taken in pieces of the key's order, so that no statement is silent
 * for longer than a connection may be.
 *
 * Not CRC32: the xor of CRCs does not see two values that have changed places. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "store/shard_rows.h"
#include "store/sql/shard_private.h"

enum { PIECE_ROWS = 500000, ARENA_BYTES = 16 * 1024 };

struct sum {
    uint64_t rows;
    uint64_t hash;
    bool is_pg;
};

/* The last 64 bits of a decimal number of any length. */
static uint64_t parse_wrapped(const char *text, size_t bytes)
{
    uint64_t n = 0;
    bool is_negative = bytes > 0 && text[0] == '-';
    for (size_t i = is_negative; i < bytes && text[i] >= '0' && text[i] <= '9'; i++) {
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    return is_negative ? 0 - n : n;
}

uint64_t sh_hash_of(const struct dr_value *v)
{
    return v->type == DR_V_INT    ? (uint64_t)v->i
           : v->type == DR_V_TEXT ? parse_wrapped(v->data, v->len)
                                  : 0;
}

static enum dr_code take_sum(void *arg, const struct dr_value *v, uint32_t count,
                             struct dr_err *err)
{
    struct sum *s = arg;
    (void)err;
    if (count != 2) {
        return DR_OK;
    }
    uint64_t hash = sh_hash_of(&v[1]);
    s->rows += (uint64_t)sa_int(&v[0]);
    s->hash = s->is_pg ? s->hash + hash : s->hash ^ hash;
    return DR_OK;
}

/* A row of PostgreSQL as text tells NULL from '' and floats exactly. */
void sh_add_row_hash(struct dr_str *to, const struct sa_store *s, const struct sh_table *t)
{
    if (s->is_pg) {
        dr_str_add(to, "pg_catalog.hashtextextended((t.*)::text COLLATE \"C\", 0)");
        return;
    }
    dr_str_add(to, "CAST(CONV(LEFT(MD5(CONCAT_WS(',', ");
    for (uint32_t i = 0; i < t->column_count; i++) {
        dr_str_addf(to, "%s%s", i > 0 ? ", " : "", t->column[i].digest);
    }
    dr_str_add(to, ")), 16), 16, 10) AS UNSIGNED)");
}

static void add_hashes(struct dr_str *to, const struct sa_store *s, const struct sh_table *t,
                       bool is_hashed)
{
    dr_str_add(to, s->is_pg ? "SELECT count(*), sum(" : "SELECT COUNT(*), BIT_XOR(");
    if (is_hashed) {
        dr_str_add(to, "pg_catalog.hash_record_extended(t.*, 0)");
    } else {
        sh_add_row_hash(to, s, t);
    }
    dr_str_addf(to, s->is_pg ? ")::text FROM ONLY %s t" : ") FROM %s FORCE INDEX (PRIMARY)",
                t->quoted);
}

static enum dr_code sum_range(struct sa_store *s, const struct sh_table *t, bool is_hashed,
                              const struct sh_range *range, struct sum *sum, struct dr_err *err)
{
    struct dr_str sql;
    dr_str_init(&sql);
    add_hashes(&sql, s, t, is_hashed);
    enum dr_code rc = sh_add_range(&sql, s, t, range, err);
    rc = rc == DR_OK ? sh_rows(s->db, take_sum, sum, err, "%s", sql.data) : rc;
    dr_str_fini(&sql);
    return rc;
}

enum dr_code sh_digest(void *impl, const struct dr_shard_id *id, struct dr_shard_digest *out,
                       struct dr_err *err)
{
    struct sa_store *s = impl;
    struct sh_thing shard;
    struct sh_table t;
    struct sum sum = {.is_pg = s->is_pg};
    struct sh_range piece = {.has_upto = true};
    struct dr_arena *a = dr_arena_create(ARENA_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_need(s, id, SH_SHARD, false, a, &shard, err) : rc;
    rc = rc == DR_OK ? sh_table_load(s, id->name, a, &t, err) : rc;
    while (rc == DR_OK && piece.has_upto) {
        rc = sh_find_bound(s, &t, piece.has_after ? piece.after : NULL, PIECE_ROWS, piece.upto,
                           &piece.has_upto, err);
        rc = rc == DR_OK ? sum_range(s, &t, false, &piece, &sum, err) : rc;
        memcpy(piece.after, piece.upto, sizeof piece.after);
        piece.has_after = piece.has_upto;
    }
    if (rc == DR_OK) {
        out->rows = sum.rows;
        (void)snprintf(out->text, sizeof out->text, "%016llx%016llx", (unsigned long long)sum.rows,
                       (unsigned long long)sum.hash);
    }
    dr_arena_destroy(a);
    return rc;
}

/* ---- comparing range by range ---- */

/* One node's part: the servers count at the same time. */
struct side {
    struct sa_store *s;
    const struct dr_shard_id *id;
    const struct sh_range *at;
    uint64_t rows_max;
    struct dr_arena *arena;
    struct sh_thing shard;
    struct sh_table table;
    struct sum sum;
    bool is_hashed; /* on all sides, or none: servers of different age hash differently */
    bool is_over;   /* more than rows_max */
    bool has_thread;
    pthread_t thread;
    enum dr_code rc;
    struct dr_err err;
};

struct comparing {
    struct side source;
    struct side target[DR_SHARD_TARGETS_MAX];
    uint32_t target_count;
    struct sh_range at;
};

/* Are there more rows than the source can have? No more of them are counted than that takes: where
 * the source was emptied, the target's rows are many. */
static enum dr_code count_range(struct side *x)
{
    struct dr_str sql;
    int64_t rows = 0;
    dr_str_init(&sql);
    dr_str_addf(&sql, "SELECT COUNT(*) FROM (SELECT 1 FROM %s%s%s", x->s->is_pg ? "ONLY " : "",
                x->table.quoted, x->s->is_pg ? "" : " FORCE INDEX (PRIMARY)");
    enum dr_code rc = sh_add_range(&sql, x->s, &x->table, x->at, &x->err);
    dr_str_addf(&sql, " LIMIT %" PRIu64 ") x", x->rows_max + 1);
    rc = rc == DR_OK && sql.is_short ? dr_fail_nomem(&x->err) : rc;
    rc = rc == DR_OK ? sh_number(x->s->db, &rows, &x->err, "%s", sql.data) : rc;
    x->is_over = (uint64_t)rows > x->rows_max;
    dr_str_fini(&sql);
    return rc;
}

static enum dr_code load_side(struct side *x)
{
    x->sum.is_pg = x->s->is_pg;
    x->arena = dr_arena_create(ARENA_BYTES);
    enum dr_code rc = x->arena == NULL ? dr_fail_nomem(&x->err) : DR_OK;
    rc = rc == DR_OK ? sh_need(x->s, x->id, SH_SHARD, false, x->arena, &x->shard, &x->err) : rc;
    return rc == DR_OK ? sh_table_load(x->s, x->id->name, x->arena, &x->table, &x->err) : rc;
}

static enum dr_code sum_side(struct side *x)
{
    return sum_range(x->s, &x->table, x->is_hashed, x->at, &x->sum, &x->err);
}

static void *target_main(void *arg)
{
    struct side *x = arg;
    x->rc = x->rc == DR_OK ? count_range(x) : x->rc;
    x->rc = x->rc == DR_OK && !x->is_over ? sum_side(x) : x->rc;
    return NULL;
}

static void load_targets(struct comparing *c)
{
    bool is_hashed = c->source.table.is_hashed;
    for (uint32_t i = 0; i < c->target_count; i++) {
        c->target[i].rc = load_side(&c->target[i]);
        is_hashed = is_hashed && c->target[i].table.is_hashed;
    }
    c->source.is_hashed = is_hashed;
    for (uint32_t i = 0; i < c->target_count; i++) {
        c->target[i].is_hashed = is_hashed;
    }
}

/* Where there is no thread to be had it is done here, one after the other. */
static void sum_all(struct comparing *c)
{
    for (uint32_t i = 0; i < c->target_count; i++) {
        struct side *x = &c->target[i];
        x->has_thread = pthread_create(&x->thread, NULL, target_main, x) == 0;
    }
    c->source.rc = sum_side(&c->source);
    for (uint32_t i = 0; i < c->target_count; i++) {
        struct side *x = &c->target[i];
        if (x->has_thread) {
            (void)pthread_join(x->thread, NULL);
        } else {
            (void)target_main(x);
        }
    }
}

static enum dr_code judge_target(const struct comparing *c, struct side *x, bool *same,
                                 struct dr_err *err)
{
    if (x->rc != DR_OK) {
        return dr_fail(err, x->rc, "target: %s", x->err.msg);
    }
    if (strcmp(x->shard.made_of, c->source.shard.made_of) != 0 ||
        x->table.key_count != c->source.table.key_count) {
        return dr_fail(err, DR_CONFLICT, "target %s is made of other columns than the source",
                       x->shard.quoted);
    }
    *same = *same && !x->is_over && x->sum.rows == c->source.sum.rows &&
            x->sum.hash == c->source.sum.hash;
    return DR_OK;
}

static void add_key(struct dr_str *to, char *const *text, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        dr_str_addf(to, "%s%s", i > 0 ? ", " : "(", text[i]);
    }
    dr_str_addc(to, ')');
}

static void tell_range(const struct sh_range *at, uint32_t key_count, char *buf, size_t buf_bytes)
{
    struct dr_str text;
    dr_str_init(&text);
    if (at->has_after) {
        dr_str_add(&text, "behind ");
        add_key(&text, at->after, key_count);
    }
    if (at->has_upto) {
        dr_str_add(&text, at->has_after ? " up to " : "up to ");
        add_key(&text, at->upto, key_count);
    }
    dr_copy_text(buf, buf_bytes, text.len == 0 ? "all" : dr_str_text(&text));
    dr_str_fini(&text);
}

/* The range of the next rows, and what all sides have in it. */
static enum dr_code sum_next(struct comparing *c, const struct dr_budget *budget,
                             const struct dr_cursor *cursor, struct dr_err *err)
{
    struct side *x = &c->source;
    struct sh_range *at = &c->at;
    uint64_t rows_max = sh_plan_rows(x->s, x->id, budget);
    enum dr_code rc = load_side(x);
    rc = rc == DR_OK ? sh_cursor_read(cursor, &x->table, at->after, &at->has_after, &x->err) : rc;
    rc = rc == DR_OK ? sh_find_bound(x->s, &x->table, at->has_after ? at->after : NULL, rows_max,
                                     at->upto, &at->has_upto, &x->err)
                     : rc;
    for (uint32_t i = 0; i < c->target_count; i++) {
        c->target[i].rows_max = rows_max;
    }
    if (rc == DR_OK) {
        load_targets(c);
        sum_all(c);
        rc = x->rc;
    }
    return rc == DR_OK ? rc : dr_fail(err, rc, "%s", x->err.msg);
}

static enum dr_code find_logged(const struct comparing *c, bool *out, struct dr_err *err)
{
    struct sh_look_at node[DR_SHARD_TARGETS_MAX + 1] = {{c->source.s, &c->source.table}};
    for (uint32_t i = 0; i < c->target_count; i++) {
        node[i + 1] = (struct sh_look_at){c->target[i].s, &c->target[i].table};
    }
    return sh_is_logged(node, c->target_count + 1, c->source.id, &c->at, out, err);
}

enum dr_code sh_compare(void *source, void *const *target, uint32_t target_count,
                        const struct dr_shard_id *id, const struct dr_budget *budget,
                        struct dr_cursor *cursor, struct dr_shard_compared *out, struct dr_err *err)
{
    bool is_same = true;
    bool is_logged = false;
    struct comparing *c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->target_count = target_count;
    c->source = (struct side){.s = source, .id = id, .at = &c->at};
    for (uint32_t i = 0; i < target_count; i++) {
        c->target[i] = (struct side){.s = target[i], .id = id, .at = &c->at};
    }
    const struct sh_table *t = &c->source.table;
    enum dr_code rc = sum_next(c, budget, cursor, err);
    for (uint32_t i = 0; rc == DR_OK && i < target_count; i++) {
        rc = judge_target(c, &c->target[i], &is_same, err);
    }
    if (rc == DR_OK && !is_same && c->source.sum.rows <= DR_SHARD_ROWS_MAX) {
        rc = find_logged(c, &is_logged, err);
    }
    if (rc == DR_OK) {
        *out = (struct dr_shard_compared){.rows = c->source.sum.rows,
                                          .is_different = !is_same,
                                          .is_logged = is_logged,
                                          .is_end = !c->at.has_upto};
        tell_range(&c->at, t->key_count, out->range, sizeof out->range);
    }
    if (rc == DR_OK && (is_same || is_logged) && c->at.has_upto) {
        rc = sh_cursor_write(t, c->at.upto, cursor, err);
    }
    for (uint32_t i = 0; i < target_count; i++) {
        dr_arena_destroy(c->target[i].arena);
    }
    dr_arena_destroy(c->source.arena);
    dr_free(c);
    return rc;
}
