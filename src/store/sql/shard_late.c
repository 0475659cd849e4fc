/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what differs in a range is only late: the rows of both sides one by one, and the keys in
 * the log. The source is read first and the log last: the write of a row that was seen has
 * committed its entry by then, and nobody else takes entries. */
#include <inttypes.h>
#include <string.h>

#include "store/shard_rows.h"
#include "store/sql/shard_private.h"

enum { LOG_ENTRIES_MAX = 20000 };

struct taker {
    struct dr_shard_rows *rows;
    uint32_t key_count;
    struct dr_str key;
    bool is_truncated; /* an entry of the log says that all rows went */
};

/* The key's parts, each with its length before it. */
static enum dr_code take_row(void *arg, const struct dr_value *v, uint32_t count,
                             struct dr_err *err)
{
    struct taker *x = arg;
    if (count != x->key_count + 1) {
        return DR_OK;
    }
    dr_str_clear(&x->key);
    for (uint32_t i = 0; i < x->key_count; i++) {
        if (v[i].type == DR_V_INT) {
            dr_str_addf(&x->key, "i%lld,", (long long)v[i].i);
        } else if (v[i].type == DR_V_NULL) {
            x->is_truncated = true;
        } else {
            dr_str_addf(&x->key, "t%zu:", (size_t)v[i].len);
            dr_str_addn(&x->key, v[i].data, v[i].len);
        }
    }
    return x->key.is_short ? dr_fail_nomem(err)
                           : dr_shard_rows_add(x->rows, dr_str_text(&x->key), x->key.len,
                                               sh_hash_of(&v[x->key_count]), err);
}

static void add_key_texts(struct dr_str *to, const struct sh_table *t)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s AS drover_k%u, ", t->key[i]->key_text, i);
    }
}

static enum dr_code take_all(struct sa_store *s, struct dr_str *sql, struct taker *x,
                             struct dr_err *err)
{
    enum dr_code rc = sql->is_short ? dr_fail_nomem(err)
                                    : sh_rows(s->db, take_row, x, err, "%s", dr_str_text(sql));
    dr_shard_rows_sort(x->rows);
    return rc;
}

static enum dr_code read_rows(struct sa_store *s, const struct sh_table *t,
                              const struct sh_range *r, struct taker *x, struct dr_err *err)
{
    struct dr_str sql;
    dr_str_init(&sql);
    dr_str_add(&sql, "SELECT ");
    add_key_texts(&sql, t);
    sh_add_row_hash(&sql, s, t);
    dr_str_addf(&sql, s->is_pg ? " FROM ONLY %s t" : " FROM %s FORCE INDEX (PRIMARY)", t->quoted);
    enum dr_code rc = sh_add_range(&sql, s, t, r, err);
    dr_str_addf(&sql, " LIMIT %d", DR_SHARD_ROWS_MAX + 1);
    rc = rc == DR_OK ? take_all(s, &sql, x, err) : rc;
    dr_str_fini(&sql);
    return rc;
}

static enum dr_code read_log(struct sa_store *s, const struct dr_shard_id *id,
                             const struct sh_table *t, const struct sh_range *r, struct taker *x,
                             struct dr_err *err)
{
    struct dr_str sql;
    struct sh_thing log;
    enum dr_code rc = sh_look(s, id, SH_LOGGED, false, t->arena, &log, err);
    if (rc != DR_OK || !log.exists || !log.is_ours) {
        return rc;
    }
    dr_str_init(&sql);
    dr_str_add(&sql, "SELECT DISTINCT ");
    add_key_texts(&sql, t);
    dr_str_addf(&sql, "0 FROM %s", log.quoted);
    rc = sh_add_range(&sql, s, t, r, err);
    if (s->is_pg && (r->has_after || r->has_upto)) {
        dr_str_add(&sql, " OR drover_kind = 't'");
    }
    dr_str_addf(&sql, " LIMIT %d", LOG_ENTRIES_MAX);
    rc = rc == DR_OK ? take_all(s, &sql, x, err) : rc;
    dr_str_fini(&sql);
    return rc;
}

enum dr_code sh_is_logged(const struct sh_look_at *node, uint32_t count,
                          const struct dr_shard_id *id, const struct sh_range *range, bool *out,
                          struct dr_err *err)
{
    struct dr_shard_rows rows[DR_SHARD_TARGETS_MAX + 2]; /* source, targets, log */
    const struct sh_table *t = node[0].t;
    struct taker x = {.key_count = t->key_count};
    bool fits = true;
    enum dr_code rc = DR_OK;
    dr_str_init(&x.key);
    for (uint32_t i = 0; i <= count; i++) {
        dr_shard_rows_init(&rows[i], t->arena);
    }
    for (uint32_t i = 0; rc == DR_OK && fits && i < count; i++) {
        x.rows = &rows[i];
        rc = read_rows(node[i].s, node[i].t, range, &x, err);
        fits = rows[i].count <= DR_SHARD_ROWS_MAX;
    }
    x.rows = &rows[count];
    rc = rc == DR_OK && fits ? read_log(node[0].s, id, t, range, &x, err) : rc;
    *out = rc == DR_OK && fits;
    for (uint32_t i = 1; *out && !x.is_truncated && i < count; i++) {
        *out = dr_shard_rows_are_logged(&rows[0], &rows[i], &rows[count]);
    }
    for (uint32_t i = 0; i <= count; i++) {
        dr_shard_rows_fini(&rows[i]);
    }
    dr_str_fini(&x.key);
    return rc;
}
