/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of copy and follow. The targets' records are locked first and the source is read after
 * that: of two that work at once (a worker that was taken for dead, and the one in its place) the
 * later one reads later, so nothing old is ever written over something new. */
#include <assert.h>
#include <string.h>

#include "store/sql/shard_private.h"

enum { ARENA_BYTES = 64 * 1024 };

static enum dr_code begin_target(struct sh_move *m, struct sa_store *to, struct dr_err *err)
{
    struct sh_thing t;
    int64_t unused = 0;
    enum dr_code rc = dr_sqldb_begin(to->db, err);
    rc = rc == DR_OK ? sh_need(to, m->id, SH_SHARD, true, m->arena, &t, err) : rc;
    if (rc != DR_OK) {
        dr_wrap(err, "target");
        return rc;
    }
    bool is_fenced = false;
    bool is_some = false;
    bool is_other = m->operation != NULL && strcmp(t.operation, m->operation) != 0;
    /* A copy may bring rows that are older than what is there: not to a shard that is written to.
     */
    if (is_other) {
        rc = sh_trigger_look(to, m->id->name, SH_FENCE, &is_fenced, &is_some, err);
    }
    if (rc == DR_OK && is_other && !is_fenced) {
        return dr_fail(err, DR_REFUSED,
                       "target %s was made by operation %s, not by this one: its rows are in use",
                       t.quoted, t.operation);
    }
    if (rc == DR_OK && strcmp(t.made_of, m->shard.made_of) != 0) {
        return dr_fail(err, DR_CONFLICT, "target %s is made of other columns than the source",
                       t.quoted);
    }
    if (rc != DR_OK) {
        return rc;
    }
    return to->is_pg ? sh_number(to->db, &unused, err,
                                 "SELECT 1 FROM (SELECT set_config('drover.pass', "
                                 "'%s', true)) x",
                                 m->id->owner)
                     : sh_exec(to->db, NULL, err, "SET @drover_pass = '%s'", m->id->owner);
}

static enum dr_code begin_targets(struct sh_move *m, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < m->target_count; i++) {
        rc = begin_target(m, m->target[i], err);
    }
    return rc;
}

enum dr_code sh_move_begin(struct sh_move *m, void *source, void *const *target,
                           uint32_t target_count, const struct dr_shard_id *id, bool is_copy,
                           struct dr_err *err)
{
    *m = (struct sh_move){.source = source,
                          .target_count = target_count,
                          .id = id,
                          .arena = dr_arena_create(ARENA_BYTES),
                          .operation = is_copy ? id->operation : NULL};
    assert(target_count <= DR_SHARD_TARGETS_MAX);
    for (uint32_t i = 0; i < target_count; i++) {
        m->target[i] = target[i];
    }
    enum dr_code rc = m->arena == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_need(m->source, id, SH_SHARD, false, m->arena, &m->shard, err) : rc;
    rc = rc == DR_OK ? sh_table_load(m->source, id->name, m->arena, &m->table, err) : rc;
    return rc == DR_OK ? begin_targets(m, err) : rc;
}

enum dr_code sh_move_again(struct sh_move *m, struct dr_err *err)
{
    dr_sqldb_rollback(m->source->db);
    for (uint32_t i = 0; i < m->target_count; i++) {
        dr_sqldb_rollback(m->target[i]->db);
    }
    return begin_targets(m, err);
}

enum dr_code sh_move_commit(struct sh_move *m, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < m->target_count; i++) {
        rc = dr_sqldb_commit(m->target[i]->db, err);
    }
    return rc;
}

void sh_move_end(struct sh_move *m)
{
    dr_sqldb_rollback(m->source->db);
    for (uint32_t i = 0; i < m->target_count; i++) {
        struct sa_store *to = m->target[i];
        dr_sqldb_rollback(to->db);
        /* A new connection has no such variable; PostgreSQL's went with the transaction. */
        if (!to->is_pg && dr_sqldb_is_alive(to->db) &&
            sh_exec(to->db, NULL, NULL, "SET @drover_pass = NULL") != DR_OK) {
            continue; /* the connection is lost, and the variable with it */
        }
    }
    dr_arena_destroy(m->arena);
    m->arena = NULL;
}

enum dr_code sh_pipe(struct sh_move *m, const char *select, const char *columns,
                     const char *const *into, uint64_t bytes_max, struct dr_sqldb_piped *out,
                     struct dr_err *err)
{
    struct dr_sqldb *to[DR_SHARD_TARGETS_MAX];
    struct dr_sqldb_pipe pipe = {.select = select,
                                 .columns = columns,
                                 .is_binary = m->table.is_binary,
                                 .bytes_max = bytes_max};
    for (uint32_t i = 0; i < m->target_count; i++) {
        to[i] = m->target[i]->db;
    }
    return dr_sqldb_pipe(m->source->db, to, into, m->target_count, &pipe, out, err);
}

/* ---- numbers given away ---- */

static enum dr_code sync_sequences(struct sh_move *m, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < m->table.column_count; i++) {
        const struct sh_column *c = &m->table.column[i];
        char *last = NULL;
        if (c->sequence == NULL) {
            continue;
        }
        rc = sh_text(m->source->db, m->arena, &last, err,
                     "SELECT last_value::text FROM %s WHERE is_called", c->sequence);
        for (uint32_t k = 0; rc == DR_OK && last != NULL && k < m->target_count; k++) {
            int64_t unused = 0;
            const struct sa_store *to = m->target[k];
            char *place = sh_place(to, m->arena, "", m->id->name);
            char *table = place == NULL ? NULL : sh_literal(to, m->arena, place);
            char *column = sh_literal(to, m->arena, c->name);
            char *sequence = NULL;
            rc = table == NULL || column == NULL
                     ? dr_fail_nomem(err)
                     : sh_text(to->db, m->arena, &sequence, err,
                               "SELECT pg_catalog.pg_get_serial_sequence(%s, %s)", table, column);
            if (rc == DR_OK && sequence != NULL) {
                rc = sh_number(to->db, &unused, err,
                               "SELECT pg_catalog.setval(p.seqrelid::regclass, %s) FROM "
                               "pg_catalog.pg_sequence p, %s q WHERE p.seqrelid = '%s'::regclass "
                               "AND CASE WHEN p.seqincrement > 0 THEN q.last_value < %s ELSE "
                               "q.last_value > %s END",
                               last, sequence, sequence, last, last);
            }
        }
    }
    return rc;
}

#define COUNTER                                                                                    \
    "SELECT CAST(COALESCE(AUTO_INCREMENT, 0) AS SIGNED) FROM information_schema.TABLES WHERE "     \
    "TABLE_SCHEMA = %s AND TABLE_NAME = '%s'"

/* ALTER TABLE commits: to be called when the rows are committed. */
static enum dr_code sync_counters(struct sh_move *m, struct dr_err *err)
{
    int64_t next = 0;
    const char *schema = sh_literal(m->source, m->arena, m->source->info->schema);
    enum dr_code rc = schema == NULL
                          ? dr_fail_nomem(err)
                          : sh_number(m->source->db, &next, err, COUNTER, schema, m->id->name);
    for (uint32_t i = 0; rc == DR_OK && next > 1 && i < m->target_count; i++) {
        struct sa_store *to = m->target[i];
        int64_t there = 0;
        const char *place = sh_place(to, m->arena, "", m->id->name);
        schema = sh_literal(to, m->arena, to->info->schema);
        rc = place == NULL || schema == NULL
                 ? dr_fail_nomem(err)
                 : sh_number(to->db, &there, err, COUNTER, schema, m->id->name);
        if (rc == DR_OK && there < next) {
            rc = sh_exec(to->db, NULL, err, "ALTER TABLE %s AUTO_INCREMENT = %lld", place,
                         (long long)next);
        }
    }
    return rc;
}

enum dr_code sh_sync_numbers(struct sh_move *m, struct dr_err *err)
{
    return m->source->is_pg ? sync_sequences(m, err) : sync_counters(m, err);
}

/* ---- PostgreSQL: rows put aside first ---- */

enum dr_code sh_stage_make(struct sh_move *m, struct sa_store *to, struct dr_err *err)
{
    char *place = sh_place(to, m->arena, "", m->id->name);
    return place == NULL ? dr_fail_nomem(err)
                         : sh_exec(to->db, NULL, err,
                                   "CREATE TEMPORARY TABLE \"" SH_ROWS "%s\" ON COMMIT DROP AS "
                                   "SELECT %s FROM %s LIMIT 0",
                                   m->id->name, m->table.columns, place);
}

/* A row that has one of our unique values under another key is old: the source, which is unique,
 * does not have it any more, and the change that took it away is captured and comes later. */
static enum dr_code clear_unique(struct sh_move *m, struct sa_store *to, const char *place,
                                 const struct sh_unique *u, struct dr_err *err)
{
    struct dr_str join;
    const char *where = u->where == NULL ? "true" : u->where;
    dr_str_init(&join);
    for (uint32_t i = 1; i <= u->count; i++) {
        dr_str_addf(&join, "%sa.drover_e%u = b.drover_e%u", i > 1 ? " AND " : "", i, i);
    }
    enum dr_code rc =
        join.is_short
            ? dr_fail_nomem(err)
            : sh_exec(to->db, NULL, err,
                      "DELETE FROM %s WHERE (%s) IN (SELECT %s FROM (SELECT %s, %s FROM %s WHERE "
                      "%s) a JOIN (SELECT %s FROM pg_temp.\"" SH_ROWS "%s\" WHERE %s) b ON %s)",
                      place, m->table.keys, m->table.keys, m->table.keys, u->expressions, place,
                      where, u->expressions, m->id->name, where, join.data);
    dr_str_fini(&join);
    return rc;
}

enum dr_code sh_stage_apply(struct sh_move *m, struct sa_store *to, bool is_own_keys,
                            struct dr_err *err)
{
    struct dr_str join;
    char *place = sh_place(to, m->arena, "", m->id->name);
    dr_str_init(&join);
    sh_add_join(&join, &m->table, "t", "k");
    enum dr_code rc = place == NULL || join.is_short ? dr_fail_nomem(err) : DR_OK;
    /* Without its size the planner would read the whole target for each handful of rows. */
    rc = rc == DR_OK ? sh_exec(to->db, NULL, err, "ANALYZE pg_temp.\"" SH_ROWS "%s\"", m->id->name)
                     : rc;
    if (rc == DR_OK) {
        rc = sh_exec(to->db, NULL, err, "DELETE FROM %s t USING pg_temp.\"%s%s\" k WHERE %s", place,
                     is_own_keys ? SH_ROWS : SH_KEYS, m->id->name, join.data);
    }
    for (uint32_t i = 0; rc == DR_OK && i < m->table.unique_count; i++) {
        rc = clear_unique(m, to, place, &m->table.unique[i], err);
    }
    if (rc == DR_OK) {
        rc = sh_exec(to->db, NULL, err,
                     "INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM "
                     "pg_temp.\"" SH_ROWS "%s\"",
                     place, m->table.columns, m->table.columns, m->id->name);
    }
    rc = rc == DR_OK
             ? sh_exec(to->db, NULL, err, "DROP TABLE pg_temp.\"" SH_ROWS "%s\"", m->id->name)
             : rc;
    dr_str_fini(&join);
    return rc;
}
