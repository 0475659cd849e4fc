/* SPDX-License-Identifier: Apache-2.0 */
/* Following captured changes: entries are taken by themselves, the rows of their keys are read
 * after that and put in place of what the targets have under these keys; only when the targets have
 * committed are the entries forgotten. Doing it twice does no harm. */
#include <string.h>

#include "store/sql/shard_private.h"

enum { ROUNDS_MAX = 40, LEFT_EXACT_MAX = 100000, ENTRIES_MAX = 50000 };

struct taking {
    struct sh_move *m;
    const char *log;
    uint64_t entries;
    bool is_truncated;
    struct dr_str ids; /* MariaDB */
    uint64_t bytes_max;
    struct dr_sqldb_piped piped;
};

/* ---- what differs: how entries are taken ---- */

/* PostgreSQL: they are deleted in a transaction that ends after the targets', and kept aside. They
 * have no numbers: a sequence would change what writers see as their lastval(). */
static enum dr_code take_postgres(struct taking *x, uint64_t entries_max, struct dr_err *err)
{
    struct dr_sqldb *db = x->m->source->db;
    const char *name = x->m->id->name;
    int64_t truncates = 0;
    enum dr_code rc = dr_sqldb_begin(db, err);
    rc = rc == DR_OK ? sh_exec(db, NULL, err,
                               "CREATE TEMPORARY TABLE \"" SH_TAKEN "%s\" ON COMMIT DROP AS SELECT "
                               "drover_kind, %s FROM %s LIMIT 0",
                               name, x->m->table.keys, x->log)
                     : rc;
    rc = rc == DR_OK
             ? sh_exec(db, &x->entries, err,
                       "WITH gone AS (DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s "
                       "ORDER BY drover_at LIMIT %llu)) RETURNING drover_kind, %s) INSERT INTO "
                       "pg_temp.\"" SH_TAKEN "%s\" SELECT * FROM gone",
                       x->log, x->log, (unsigned long long)entries_max, x->m->table.keys, name)
             : rc;
    rc = rc == DR_OK && x->entries > 0
             ? sh_number(db, &truncates, err,
                         "SELECT count(*) FROM pg_temp.\"" SH_TAKEN "%s\" WHERE drover_kind = 't'",
                         name)
             : rc;
    rc = rc == DR_OK && x->entries > 0
             ? sh_exec(db, NULL, err, "ANALYZE pg_temp.\"" SH_TAKEN "%s\"", name)
             : rc;
    x->is_truncated = truncates > 0;
    return rc;
}

static enum dr_code take_id(void *arg, const struct dr_value *v, uint32_t count, struct dr_err *err)
{
    struct taking *x = arg;
    if (count != 1) {
        return DR_OK;
    }
    if (v[0].type == DR_V_INT) {
        dr_str_addf(&x->ids, "%s%lld", x->entries > 0 ? "," : "", (long long)v[0].i);
    } else {
        dr_str_addf(&x->ids, "%s%.*s", x->entries > 0 ? "," : "", (int)v[0].len,
                    (const char *)v[0].data);
    }
    x->entries++;
    return x->ids.is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code take_mariadb(struct taking *x, uint64_t entries_max, struct dr_err *err)
{
    dr_str_clear(&x->ids);
    x->entries = 0;
    return sh_rows(x->m->source->db, take_id, x, err,
                   "SELECT drover_id FROM %s ORDER BY drover_id LIMIT %llu", x->log,
                   (unsigned long long)entries_max);
}

/* "(distinct keys) k". With names of their own they are never taken for the table's: a key that is
 * equal to another one may be written differently. */
static void add_taken_keys(struct dr_str *to, const struct taking *x, bool is_renamed)
{
    const struct sh_table *t = &x->m->table;
    dr_str_add(to, "(SELECT DISTINCT ");
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s%s", i > 0 ? ", " : "", t->key[i]->quoted);
        if (is_renamed) {
            dr_str_addf(to, " AS drover_k%u", i);
        }
    }
    if (x->m->source->is_pg) {
        dr_str_addf(to, " FROM pg_temp.\"" SH_TAKEN "%s\" WHERE drover_kind <> 't') k",
                    x->m->id->name);
    } else {
        dr_str_addf(to, " FROM %s FORCE INDEX (PRIMARY) WHERE drover_id IN (%s)) k", x->log,
                    dr_str_text(&x->ids));
    }
}

/* ---- the targets ---- */

static enum dr_code make_keys_table(struct sh_move *m, struct sa_store *to, struct dr_err *err)
{
    struct dr_str keys;
    enum dr_code rc = DR_OK;
    dr_str_init(&keys);
    sh_add_definitions(&keys, &m->table);
    if (!to->is_pg) {
        rc = sh_exec(to->db, NULL, err, "DROP TEMPORARY TABLE IF EXISTS \"" SH_KEYS "%s\"",
                     m->id->name);
    }
    rc = rc == DR_OK && keys.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK
             ? sh_exec(to->db, NULL, err, "CREATE TEMPORARY TABLE \"" SH_KEYS "%s\" (%s)%s",
                       m->id->name, keys.data, to->is_pg ? " ON COMMIT DROP" : " ENGINE=InnoDB")
             : rc;
    dr_str_fini(&keys);
    return rc;
}

static enum dr_code send_keys(struct taking *x, struct dr_err *err)
{
    struct sh_move *m = x->m;
    const char *into[DR_SHARD_TARGETS_MAX];
    struct dr_str select;
    struct dr_sqldb_piped piped = {0};
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < m->target_count; i++) {
        into[i] = dr_arena_printf(m->arena, "%s\"" SH_KEYS "%s\"",
                                  m->source->is_pg ? "pg_temp." : "", m->id->name);
        rc = into[i] == NULL ? dr_fail_nomem(err) : make_keys_table(m, m->target[i], err);
    }
    dr_str_init(&select);
    dr_str_add(&select, "SELECT ");
    for (uint32_t i = 0; i < m->table.key_count; i++) {
        dr_str_addf(&select, "%s%s", i > 0 ? ", " : "", m->table.key[i]->select);
    }
    dr_str_add(&select, " FROM ");
    add_taken_keys(&select, x, false);
    rc = rc == DR_OK && select.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? sh_pipe(m, select.data, m->table.keys, into, UINT64_MAX, &piped, err) : rc;
    dr_str_fini(&select);
    return rc;
}

/* What the targets have under these keys goes. MariaDB is told to look keys up one by one: reading
 * all of the table it would wait for others' locks. */
static enum dr_code clear_target(struct taking *x, struct sa_store *to, struct dr_err *err)
{
    struct sh_move *m = x->m;
    struct dr_str join;
    char *place = sh_place(to, m->arena, "", m->id->name);
    enum dr_code rc = place == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK && x->is_truncated) {
        rc = sh_exec(to->db, NULL, err, "DELETE FROM %s", place);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (to->is_pg) {
        rc = sh_exec(to->db, NULL, err, "ANALYZE pg_temp.\"" SH_KEYS "%s\"", m->id->name);
        return rc == DR_OK ? sh_stage_make(m, to, err) : rc;
    }
    dr_str_init(&join);
    sh_add_join(&join, &m->table, "t", "k");
    rc = join.is_short
             ? dr_fail_nomem(err)
             : sh_exec(to->db, NULL, err,
                       "DELETE t FROM \"" SH_KEYS "%s\" k STRAIGHT_JOIN %s t FORCE INDEX (PRIMARY) "
                       "ON %s",
                       m->id->name, place, join.data);
    dr_str_fini(&join);
    return rc;
}

static enum dr_code send_rows(struct taking *x, struct dr_err *err)
{
    struct sh_move *m = x->m;
    const char *into[DR_SHARD_TARGETS_MAX];
    struct dr_str select;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < m->target_count; i++) {
        into[i] = m->source->is_pg
                      ? dr_arena_printf(m->arena, "pg_temp.\"" SH_ROWS "%s\"", m->id->name)
                      : sh_place(m->target[i], m->arena, "", m->id->name);
        rc = into[i] == NULL ? dr_fail_nomem(err) : clear_target(x, m->target[i], err);
    }
    dr_str_init(&select);
    dr_str_addf(&select, "SELECT %s FROM ", m->table.select);
    add_taken_keys(&select, x, true);
    dr_str_addf(&select, " %s %s%s ON ", m->source->is_pg ? "JOIN ONLY" : "STRAIGHT_JOIN",
                m->table.quoted, m->source->is_pg ? " AS t" : " AS t FORCE INDEX (PRIMARY)");
    for (uint32_t i = 0; i < m->table.key_count; i++) {
        dr_str_addf(&select, "%st.%s = k.drover_k%u", i > 0 ? " AND " : "", m->table.key[i]->quoted,
                    i);
    }
    rc = rc == DR_OK && select.is_short ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK ? sh_pipe(m, select.data, m->table.columns, into, x->bytes_max, &x->piped, err)
                     : rc;
    for (uint32_t i = 0;
         rc == DR_OK && !x->piped.is_over && m->source->is_pg && i < m->target_count; i++) {
        rc = sh_stage_apply(m, m->target[i], false, err);
    }
    dr_str_fini(&select);
    return rc;
}

/* ---- one round ---- */

static enum dr_code take_and_send(struct taking *x, uint64_t entries_max, struct dr_err *err)
{
    x->piped = (struct dr_sqldb_piped){0};
    enum dr_code rc = x->m->source->is_pg ? take_postgres(x, entries_max, err)
                                          : take_mariadb(x, entries_max, err);
    if (rc != DR_OK || x->entries == 0) {
        return rc;
    }
    rc = send_keys(x, err);
    return rc == DR_OK ? send_rows(x, err) : rc;
}

/* Sequences are part of the targets' transactions' work, though not undone with them; MariaDB's
 * counters are set behind them. */
static enum dr_code finish(struct taking *x, bool is_drained, struct dr_err *err)
{
    struct sh_move *m = x->m;
    struct dr_sqldb *db = m->source->db;
    enum dr_code rc = DR_OK;
    if (m->source->is_pg) {
        rc = is_drained ? sh_sync_numbers(m, err) : DR_OK;
        rc = rc == DR_OK ? sh_move_commit(m, err) : rc;
        return rc == DR_OK ? dr_sqldb_commit(db, err) : rc;
    }
    rc = sh_move_commit(m, err);
    if (rc == DR_OK && x->entries > 0) {
        rc = sh_exec(db, NULL, err,
                     "DELETE l FROM %s AS l FORCE INDEX (PRIMARY) WHERE l.drover_id IN (%s)",
                     x->log, dr_str_text(&x->ids));
    }
    return rc == DR_OK && is_drained ? sh_sync_numbers(m, err) : rc;
}

static enum dr_code follow_batch(struct taking *x, const struct dr_budget *budget,
                                 struct dr_err *err)
{
    uint64_t entries_max = budget->items_max < ENTRIES_MAX ? budget->items_max : ENTRIES_MAX;
    entries_max = entries_max == 0 ? 1 : entries_max;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        enum dr_code rc = round == 0 ? DR_OK : sh_move_again(x->m, err);
        x->bytes_max = entries_max == 1 ? UINT64_MAX : budget->bytes_max;
        rc = rc == DR_OK ? take_and_send(x, entries_max, err) : rc;
        if (rc != DR_OK || !x->piped.is_over) {
            return rc == DR_OK ? finish(x, x->entries < entries_max, err) : rc;
        }
        entries_max = entries_max / 2;
    }
    return dr_fail(err, DR_BUSY, "the batch does not come to its end; again later");
}

enum dr_code sh_follow(void *source, void *const *target, uint32_t target_count,
                       const struct dr_shard_id *id, const struct dr_budget *budget,
                       uint64_t *applied_out, uint64_t *left_out, struct dr_err *err)
{
    struct sa_store *s = source;
    struct sh_move m;
    struct sh_thing log;
    struct taking x = {.m = &m};
    int64_t left = 0;
    dr_str_init(&x.ids);
    enum dr_code rc = sh_move_begin(&m, source, target, target_count, id, false, err);
    rc = rc == DR_OK ? sh_need(s, id, SH_LOGGED, false, m.arena, &log, err) : rc;
    x.log = rc == DR_OK ? log.quoted : "";
    rc = rc == DR_OK ? follow_batch(&x, budget, err) : rc;
    rc = rc == DR_OK
             ? sh_number(s->db, &left, err, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT %d) x",
                         x.log, LEFT_EXACT_MAX)
             : rc;
    if (rc == DR_OK) {
        *applied_out = x.entries;
        *left_out = (uint64_t)left;
    }
    dr_str_fini(&x.ids);
    sh_move_end(&m);
    return rc;
}
