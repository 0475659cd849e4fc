/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of a shard, computed by the server: a hash of each whole row, put together so that
 * their order does not matter. Taken in pieces of the key's order, so that no statement is silent
 * for longer than a connection may be.
 *
 * Not CRC32: the xor of CRCs does not see two values that have changed places. */
#include <stdio.h>
#include <string.h>

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

static enum dr_code take_sum(void *arg, const struct dr_value *v, uint32_t count,
                             struct dr_err *err)
{
    struct sum *s = arg;
    uint64_t hash = 0;
    (void)err;
    if (count != 2) {
        return DR_OK;
    }
    if (v[1].type == DR_V_INT) {
        hash = (uint64_t)v[1].i;
    } else if (v[1].type == DR_V_TEXT) {
        hash = parse_wrapped(v[1].data, v[1].len);
    }
    s->rows += (uint64_t)sa_int(&v[0]);
    s->hash = s->is_pg ? s->hash + hash : s->hash ^ hash;
    return DR_OK;
}

/* A row of PostgreSQL as text tells NULL from '' and floats exactly. */
static void add_hashes(struct dr_str *to, const struct sa_store *s, const struct sh_table *t)
{
    if (s->is_pg) {
        dr_str_addf(to,
                    "SELECT count(*), sum(pg_catalog.hashtextextended((t.*)::text COLLATE \"C\", "
                    "0))::text FROM ONLY %s t",
                    t->quoted);
        return;
    }
    dr_str_add(to, "SELECT COUNT(*), BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT_WS(',', ");
    for (uint32_t i = 0; i < t->column_count; i++) {
        dr_str_addf(to, "%s%s", i > 0 ? ", " : "", t->column[i].digest);
    }
    dr_str_addf(to, ")), 16), 16, 10) AS UNSIGNED)) FROM %s FORCE INDEX (PRIMARY)", t->quoted);
}

static enum dr_code sum_piece(struct sa_store *s, const struct sh_table *t, char *const *after,
                              char *const *upto, struct sum *sum, struct dr_err *err)
{
    struct dr_str sql;
    enum dr_code rc = DR_OK;
    dr_str_init(&sql);
    add_hashes(&sql, s, t);
    if (after != NULL) {
        dr_str_add(&sql, " WHERE ");
        rc = sh_add_bound(&sql, s, t, true, after, err);
    }
    if (rc == DR_OK && upto != NULL) {
        dr_str_add(&sql, after != NULL ? " AND " : " WHERE ");
        rc = sh_add_bound(&sql, s, t, false, upto, err);
    }
    rc = rc == DR_OK && sql.is_short ? dr_fail_nomem(err) : rc;
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
    char *key[2][SH_KEYS_MAX];
    bool has_upto = true;
    int now = 0;
    struct dr_arena *a = dr_arena_create(ARENA_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_need(s, id, SH_SHARD, false, a, &shard, err) : rc;
    rc = rc == DR_OK ? sh_table_load(s, id->name, a, &t, err) : rc;
    for (uint64_t piece = 0; rc == DR_OK && has_upto; piece++, now = 1 - now) {
        char **after = piece == 0 ? NULL : key[1 - now];
        rc = sh_find_bound(s, &t, after, PIECE_ROWS, key[now], &has_upto, err);
        rc = rc == DR_OK ? sum_piece(s, &t, after, has_upto ? key[now] : NULL, &sum, err) : rc;
    }
    if (rc == DR_OK) {
        out->rows = sum.rows;
        (void)snprintf(out->text, sizeof out->text, "%016llx%016llx", (unsigned long long)sum.rows,
                       (unsigned long long)sum.hash);
    }
    dr_arena_destroy(a);
    return rc;
}
