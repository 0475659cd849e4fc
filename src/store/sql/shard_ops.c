/* SPDX-License-Identifier: Apache-2.0 */
/* Making, capturing, fencing, holding and dropping a shard's table. PostgreSQL does each in one
 * transaction. MariaDB commits at every DDL: there the record comes first and each step may be
 * found half done by the next call, which goes on. */
#include <stdio.h>
#include <string.h>

#include "store/sql/shard_private.h"

#include <xxhash.h>

enum { ARENA_BYTES = 16 * 1024, ROWS_EXACT_MAX = 1000000, MADE_OF_BYTES = 40 };

static enum dr_code begin_ddl(struct sa_store *s, struct dr_arena **a, struct dr_err *err)
{
    *a = dr_arena_create(ARENA_BYTES);
    if (*a == NULL) {
        return dr_fail_nomem(err);
    }
    return s->is_pg ? dr_sqldb_begin(s->db, err) : DR_OK;
}

static enum dr_code end_ddl(struct sa_store *s, struct dr_arena *a, enum dr_code rc,
                            struct dr_err *err)
{
    if (s->is_pg && rc == DR_OK) {
        rc = dr_sqldb_commit(s->db, err);
    } else if (s->is_pg) {
        dr_sqldb_rollback(s->db);
    }
    dr_arena_destroy(a);
    return rc;
}

/* ---- ensure ---- */

static void hash_columns(const char *columns, const char *extra, char *out)
{
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "%s\n%s", columns, extra);
    XXH128_hash_t h = XXH3_128bits(dr_str_text(&text), text.len);
    (void)snprintf(out, MADE_OF_BYTES, "%016llx%016llx", (unsigned long long)h.high64,
                   (unsigned long long)h.low64);
    dr_str_fini(&text);
}

/* A question mark outside of quotes would be taken for a parameter (PostgreSQL only). */
static void add_users_text(struct dr_str *to, const struct sa_store *s, const char *text)
{
    char quote = '\0';
    for (; *text != '\0'; text++) {
        if (quote == '\0' && (*text == '\'' || *text == '"')) {
            quote = *text;
        } else if (*text == quote) {
            quote = '\0';
        }
        dr_str_add(to, *text == '?' && quote == '\0' && s->is_pg ? "?" : "");
        dr_str_addc(to, *text);
    }
}

static enum dr_code create_table(struct sa_store *s, const struct dr_shard_id *id,
                                 const struct sh_thing *t, const char *columns, const char *extra,
                                 struct dr_err *err)
{
    struct dr_str sql;
    uint64_t affected = 0;
    dr_str_init(&sql);
    dr_str_addf(&sql, "CREATE TABLE %s (", t->quoted);
    add_users_text(&sql, s, columns);
    dr_str_addc(&sql, ')');
    if (!s->is_pg) {
        dr_str_addf(&sql, " COMMENT='" SH_STAMP "%s'", id->owner);
    }
    dr_str_addc(&sql, ' ');
    add_users_text(&sql, s, extra);
    enum dr_code rc =
        sql.is_short ? dr_fail_nomem(err) : dr_sqldb_exec(s->db, sql.data, NULL, 0, &affected, err);
    dr_str_fini(&sql);
    if (rc == DR_OK && s->is_pg) {
        rc = sh_exec(s->db, NULL, err, "COMMENT ON TABLE %s IS '" SH_STAMP "%s'", t->quoted,
                     id->owner);
    }
    return rc;
}

/* Is what was made fit to be a shard? */
static enum dr_code check_table(struct sa_store *s, const struct dr_shard_id *id,
                                struct dr_arena *a, struct dr_err *err)
{
    char *flaw = NULL;
    struct sh_thing now;
    struct sh_table table;
    enum dr_code rc = sh_look(s, id, SH_SHARD, false, a, &now, err);
    if (rc == DR_OK && !now.is_ours) {
        return dr_fail(err, DR_REFUSED,
                       "the comment of %s is drover's own; take COMMENT out of the table's options",
                       now.quoted);
    }
    rc = rc == DR_OK && s->is_pg ? sh_flaw_postgres(s, id->name, a, &flaw, err) : rc;
    rc = rc == DR_OK && !s->is_pg ? sh_flaw_mariadb(s, id->name, a, &flaw, err) : rc;
    if (rc == DR_OK && flaw != NULL) {
        return dr_fail(err, DR_REFUSED, "%s cannot be a shard: %s", now.quoted, flaw);
    }
    return rc == DR_OK ? sh_table_load(s, id->name, a, &table, err) : rc;
}

static enum dr_code ensure_inside(struct sa_store *s, const struct dr_shard_id *id,
                                  const char *columns, const char *extra, struct dr_arena *a,
                                  struct dr_err *err)
{
    struct sh_thing t;
    char made_of[MADE_OF_BYTES];
    hash_columns(columns, extra, made_of);
    enum dr_code rc = sh_records_table(s, err);
    rc = rc == DR_OK ? sh_look(s, id, SH_SHARD, s->is_pg, a, &t, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if (t.exists && t.is_ours) {
        return strcmp(t.made_of, made_of) == 0
                   ? DR_OK
                   : dr_fail(err, DR_CONFLICT, "%s is there already, made of other columns",
                             t.quoted);
    }
    if (t.exists || (t.owner != NULL && !t.is_ours)) {
        return dr_fail(err, DR_EXISTS, "%s is there already and not ours (owner on record: %s)",
                       t.quoted, t.owner == NULL ? "none" : t.owner);
    }
    rc = sh_record_put(s, id, SH_SHARD, made_of, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = create_table(s, id, &t, columns, extra, err);
    bool is_made = rc == DR_OK;
    rc = rc == DR_OK ? check_table(s, id, a, err) : rc;
    if (!s->is_pg && rc != DR_OK && rc != DR_UNKNOWN && rc != DR_UNREACHABLE) {
        enum dr_code undone =
            is_made ? sh_exec(s->db, NULL, NULL, "DROP TABLE IF EXISTS %s", t.quoted) : DR_OK;
        undone = undone == DR_OK ? sh_record_drop(s, id, SH_SHARD, NULL) : undone;
        if (undone != DR_OK) {
            dr_wrap(err, "and what was half made could not be removed; drop it");
        }
    }
    return rc;
}

enum dr_code sh_ensure(void *impl, const struct dr_shard_id *id, const char *columns,
                       const char *extra, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct dr_arena *a = NULL;
    enum dr_code rc = begin_ddl(s, &a, err);
    if (rc == DR_OK && s->is_pg) {
        /* Two that make the records' table at once would fail in odd ways. */
        int64_t unused = 0;
        rc = sh_number(s->db, &unused, err,
                       "SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtext('drover_shards'))) x");
    }
    rc = rc == DR_OK ? ensure_inside(s, id, columns, extra, a, err) : rc;
    return end_ddl(s, a, rc, err);
}

/* ---- capture ---- */

enum dr_code sh_trigger_look(struct sa_store *s, const char *table, enum sh_trigger what,
                             bool *all_out, bool *some_out, struct dr_err *err)
{
    int64_t n = 0;
    struct dr_arena *a = dr_arena_create(1024);
    const char *schema = a == NULL ? NULL : sh_literal(s, a, s->info->schema);
    const char *name = what == SH_CAPTURE ? "drover_capture" : "drover_fence";
    enum dr_code rc = schema == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK && s->is_pg) {
        rc = sh_number(s->db, &n, err,
                       "SELECT count(*) FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON "
                       "c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                       "WHERE n.nspname = %s AND c.relname = '%s' AND g.tgname IN ('%s', "
                       "'%s_truncate') AND g.tgenabled = 'A'",
                       schema, table, name, name);
    } else if (rc == DR_OK) {
        rc = sh_number(s->db, &n, err,
                       "SELECT COUNT(DISTINCT EVENT_MANIPULATION) FROM "
                       "information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s AND "
                       "EVENT_OBJECT_TABLE = '%s' AND LEFT(TRIGGER_NAME, 8) = 'drover_%c'",
                       schema, table, what == SH_CAPTURE ? 'c' : 'f');
    }
    *all_out = n == (s->is_pg ? 2 : 3);
    *some_out = n > 0;
    dr_arena_destroy(a);
    return rc;
}

enum dr_code sh_trigger_set(struct sa_store *s, const struct dr_shard_id *id, const char *table,
                            enum sh_trigger what, bool is_on, const struct sh_table *t,
                            uint32_t wait_ms, struct dr_err *err)
{
    enum dr_code rc = s->is_pg ? sh_trigger_set_postgres(s, id, table, what, is_on, t, wait_ms, err)
                               : sh_trigger_set_mariadb(s, id, table, what, is_on, t, wait_ms, err);
    if (rc == DR_BUSY) {
        dr_wrap(err, "transactions that use %s did not end within %u ms; nothing is changed", table,
                wait_ms);
    }
    return rc;
}

static enum dr_code create_log(struct sa_store *s, const struct dr_shard_id *id,
                               const struct sh_thing *log, const struct sh_table *t,
                               struct dr_err *err)
{
    struct dr_str keys;
    dr_str_init(&keys);
    sh_add_definitions(&keys, t);
    enum dr_code rc = keys.is_short ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK && s->is_pg) {
        rc = sh_exec(s->db, NULL, err,
                     "CREATE TABLE %s (drover_at bigint NOT NULL, drover_kind \"char\" NOT NULL, "
                     "%s)",
                     log->quoted, keys.data);
        rc = rc == DR_OK ? sh_exec(s->db, NULL, err, "CREATE INDEX ON %s (drover_at)", log->quoted)
                         : rc;
        rc = rc == DR_OK
                 ? sh_exec(s->db, NULL, err, "ALTER TABLE %s REPLICA IDENTITY FULL", log->quoted)
                 : rc;
        rc = rc == DR_OK ? sh_exec(s->db, NULL, err, "COMMENT ON TABLE %s IS '" SH_STAMP "%s'",
                                   log->quoted, id->owner)
                         : rc;
    } else if (rc == DR_OK) {
        rc = sh_exec(s->db, NULL, err,
                     "CREATE TABLE %s (drover_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY "
                     "KEY, %s) ENGINE=InnoDB COMMENT='" SH_STAMP "%s'",
                     log->quoted, keys.data, id->owner);
    }
    dr_str_fini(&keys);
    return rc;
}

static enum dr_code capture_on(struct sa_store *s, const struct dr_shard_id *id, struct dr_arena *a,
                               struct dr_err *err)
{
    struct sh_thing shard;
    struct sh_thing log;
    struct sh_table t;
    bool is_all = false;
    bool is_some = false;
    enum dr_code rc = sh_need(s, id, SH_SHARD, s->is_pg, a, &shard, err);
    rc = rc == DR_OK ? sh_look(s, id, SH_LOGGED, false, a, &log, err) : rc;
    rc = rc == DR_OK ? sh_table_load(s, id->name, a, &t, err) : rc;
    rc = rc == DR_OK ? sh_trigger_look(s, id->name, SH_CAPTURE, &is_all, &is_some, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if (!log.is_ours && (log.exists || log.owner != NULL)) {
        return dr_fail(err, DR_EXISTS, "%s is there already and not ours", log.quoted);
    }
    rc = sh_record_put(s, id, SH_LOGGED, "", err);
    if (rc == DR_OK && !log.exists) {
        rc = create_log(s, id, &log, &t, err);
    }
    if (rc == DR_OK && !is_all) {
        rc = sh_trigger_set(s, id, id->name, SH_CAPTURE, true, &t, DR_SHARD_FENCE_WAIT_MS, err);
    }
    return rc;
}

/* Triggers first: a writer whose trigger finds no log would fail. */
static enum dr_code capture_off(struct sa_store *s, const struct dr_shard_id *id,
                                struct dr_arena *a, struct dr_err *err)
{
    struct sh_thing shard;
    struct sh_thing log;
    bool is_all = false;
    bool is_some = false;
    enum dr_code rc = sh_look(s, id, SH_SHARD, false, a, &shard, err);
    rc = rc == DR_OK ? sh_look(s, id, SH_LOGGED, false, a, &log, err) : rc;
    if (rc != DR_OK || log.owner == NULL) {
        return rc;
    }
    if (!log.is_ours) {
        return dr_fail(err, DR_REFUSED, "%s is not ours; it is left alone", log.quoted);
    }
    if (shard.exists && shard.is_ours) {
        rc = sh_trigger_look(s, id->name, SH_CAPTURE, &is_all, &is_some, err);
        if (rc == DR_OK && is_some) {
            rc = sh_trigger_set(s, id, id->name, SH_CAPTURE, false, NULL, DR_SHARD_FENCE_WAIT_MS,
                                err);
        }
    }
    rc = rc == DR_OK && log.exists ? sh_exec(s->db, NULL, err, "DROP TABLE %s", log.quoted) : rc;
    return rc == DR_OK ? sh_record_drop(s, id, SH_LOGGED, err) : rc;
}

enum dr_code sh_capture(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct dr_arena *a = NULL;
    enum dr_code rc = begin_ddl(s, &a, err);
    if (rc == DR_OK) {
        rc = is_on ? capture_on(s, id, a, err) : capture_off(s, id, a, err);
    }
    return end_ddl(s, a, rc, err);
}

/* ---- fence ---- */

enum dr_code sh_fence(void *impl, const struct dr_shard_id *id, bool is_on, uint32_t wait_ms,
                      struct dr_err *err)
{
    struct sa_store *s = impl;
    struct dr_arena *a = NULL;
    struct sh_thing shard;
    bool is_all = false;
    bool is_some = false;
    enum dr_code rc = begin_ddl(s, &a, err);
    rc = rc == DR_OK ? sh_look(s, id, SH_SHARD, s->is_pg, a, &shard, err) : rc;
    if (rc == DR_OK && !shard.exists && !is_on) {
        return end_ddl(s, a, DR_OK, err); /* nothing is there to be fenced */
    }
    rc = rc == DR_OK ? sh_need(s, id, SH_SHARD, false, a, &shard, err) : rc;
    rc = rc == DR_OK ? sh_trigger_look(s, id->name, SH_FENCE, &is_all, &is_some, err) : rc;
    if (rc == DR_OK && (is_on ? !is_all : is_some)) {
        rc = sh_trigger_set(s, id, id->name, SH_FENCE, is_on, NULL, wait_ms, err);
    }
    return end_ddl(s, a, rc, err);
}

/* ---- hold ---- */

static enum dr_code check_log_empty(struct sa_store *s, const struct sh_thing *log,
                                    struct dr_err *err)
{
    int64_t left = 0;
    enum dr_code rc = DR_OK;
    if (log->exists) {
        rc = sh_number(s->db, &left, err, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT 1) x",
                       log->quoted);
    }
    return rc == DR_OK && left > 0
               ? dr_fail(err, DR_CONFLICT,
                         "%s holds changes that were not followed yet; fence and follow first",
                         log->quoted)
               : rc;
}

static enum dr_code rename_table(struct sa_store *s, const struct sh_thing *from,
                                 const struct sh_thing *to, struct dr_err *err)
{
    return s->is_pg ? sh_exec(s->db, NULL, err, "ALTER TABLE %s RENAME TO \"%s\"", from->quoted,
                              to->table)
                    : sh_exec(s->db, NULL, err, "RENAME TABLE %s TO %s", from->quoted, to->quoted);
}

/* From one role to the other. A table out of use does not change: its capture ends. */
static enum dr_code hold_inside(struct sa_store *s, const struct dr_shard_id *id, bool is_on,
                                struct dr_arena *a, struct dr_err *err)
{
    struct sh_thing from;
    struct sh_thing to;
    struct sh_thing log;
    enum sh_role from_role = is_on ? SH_SHARD : SH_IS_HELD;
    enum sh_role to_role = is_on ? SH_IS_HELD : SH_SHARD;
    enum dr_code rc = sh_look(s, id, from_role, s->is_pg, a, &from, err);
    rc = rc == DR_OK ? sh_look(s, id, to_role, s->is_pg, a, &to, err) : rc;
    if (rc == DR_OK && !from.exists && to.exists && to.is_ours) {
        return sh_record_drop(s, id, from_role, err); /* done already, perhaps not to its end */
    }
    rc = rc == DR_OK ? sh_need(s, id, from_role, false, a, &from, err) : rc;
    if (rc == DR_OK && (to.exists || (to.owner != NULL && !to.is_ours))) {
        return dr_fail(err, DR_EXISTS, "%s is there already; drop it first", to.quoted);
    }
    if (rc == DR_OK && is_on) {
        rc = sh_look(s, id, SH_LOGGED, false, a, &log, err);
        rc = rc == DR_OK ? check_log_empty(s, &log, err) : rc;
        rc = rc == DR_OK ? capture_off(s, id, a, err) : rc;
    }
    rc = rc == DR_OK ? sh_record_put(s, id, to_role, from.made_of, err) : rc;
    rc = rc == DR_OK ? rename_table(s, &from, &to, err) : rc;
    return rc == DR_OK ? sh_record_drop(s, id, from_role, err) : rc;
}

enum dr_code sh_hold(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct dr_arena *a = NULL;
    enum dr_code rc = begin_ddl(s, &a, err);
    rc = rc == DR_OK ? hold_inside(s, id, is_on, a, err) : rc;
    return end_ddl(s, a, rc, err);
}

/* ---- drop ---- */

static enum dr_code drop_inside(struct sa_store *s, const struct dr_shard_id *id, bool is_held,
                                struct dr_arena *a, struct dr_err *err)
{
    struct sh_thing t;
    struct sh_thing log = {0};
    enum sh_role role = is_held ? SH_IS_HELD : SH_SHARD;
    enum dr_code rc = sh_look(s, id, role, s->is_pg, a, &t, err);
    rc = rc == DR_OK && !is_held ? sh_look(s, id, SH_LOGGED, s->is_pg, a, &log, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if ((t.exists || t.owner != NULL) && !t.is_ours) {
        return dr_fail(err, DR_REFUSED, "%s is not on record as ours; it is left alone", t.quoted);
    }
    if ((log.exists || log.owner != NULL) && !log.is_ours) {
        return dr_fail(err, DR_REFUSED, "%s is not on record as ours; it is left alone",
                       log.quoted);
    }
    rc = t.exists ? sh_exec(s->db, NULL, err, "DROP TABLE %s", t.quoted) : DR_OK;
    rc = rc == DR_OK && log.exists ? sh_exec(s->db, NULL, err, "DROP TABLE %s", log.quoted) : rc;
    rc = rc == DR_OK && s->is_pg ? sh_functions_drop(s, id, err) : rc;
    rc = rc == DR_OK && !is_held ? sh_record_drop(s, id, SH_LOGGED, err) : rc;
    return rc == DR_OK ? sh_record_drop(s, id, role, err) : rc;
}

enum dr_code sh_drop(void *impl, const struct dr_shard_id *id, bool is_held, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct dr_arena *a = NULL;
    enum dr_code rc = begin_ddl(s, &a, err);
    rc = rc == DR_OK ? drop_inside(s, id, is_held, a, err) : rc;
    return end_ddl(s, a, rc, err);
}

/* ---- facts ---- */

static enum dr_code count_rows(struct sa_store *s, const struct sh_thing *t, struct dr_arena *a,
                               struct dr_shard_facts *out, struct dr_err *err)
{
    int64_t rows = 0;
    int64_t bytes = 0;
    int64_t estimate = 0;
    const char *schema = sh_literal(s, a, s->info->schema);
    const char *place = sh_literal(s, a, t->quoted);
    enum dr_code rc =
        schema == NULL || place == NULL
            ? dr_fail_nomem(err)
            : sh_number(s->db, &rows, err, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT %d) x",
                        t->quoted, ROWS_EXACT_MAX + 1);
    if (rc == DR_OK && s->is_pg) {
        rc = sh_number(s->db, &bytes, err, "SELECT pg_catalog.pg_total_relation_size(%s)", place);
        rc = rc == DR_OK
                 ? sh_number(s->db, &estimate, err,
                             "SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = "
                             "%s::regclass",
                             place)
                 : rc;
    } else if (rc == DR_OK) {
        rc = sh_number(s->db, &bytes, err,
                       "SELECT CAST(DATA_LENGTH + INDEX_LENGTH AS SIGNED) FROM "
                       "information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = '%s'",
                       schema, t->table);
        rc = rc == DR_OK ? sh_number(s->db, &estimate, err,
                                     "SELECT CAST(TABLE_ROWS AS SIGNED) FROM "
                                     "information_schema.TABLES WHERE TABLE_SCHEMA = %s AND "
                                     "TABLE_NAME = '%s'",
                                     schema, t->table)
                         : rc;
    }
    out->rows = (uint64_t)(rows > ROWS_EXACT_MAX && estimate > rows ? estimate : rows);
    out->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    return rc;
}

enum dr_code sh_facts(void *impl, const struct dr_shard_id *id, struct dr_shard_facts *out,
                      struct dr_err *err)
{
    struct sa_store *s = impl;
    struct sh_thing shard;
    struct sh_thing held;
    struct sh_thing log;
    bool has_triggers = false;
    bool is_some = false;
    int64_t left = 0;
    struct dr_arena *a = dr_arena_create(ARENA_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_look(s, id, SH_SHARD, false, a, &shard, err) : rc;
    rc = rc == DR_OK ? sh_look(s, id, SH_IS_HELD, false, a, &held, err) : rc;
    rc = rc == DR_OK ? sh_look(s, id, SH_LOGGED, false, a, &log, err) : rc;
    if (rc != DR_OK) {
        goto out;
    }
    out->exists = shard.exists;
    out->is_owned = shard.is_ours || held.is_ours;
    out->is_held = held.exists && held.is_ours;
    if (shard.exists && shard.is_ours) {
        rc = sh_trigger_look(s, id->name, SH_FENCE, &out->is_fenced, &is_some, err);
        rc = rc == DR_OK ? sh_trigger_look(s, id->name, SH_CAPTURE, &has_triggers, &is_some, err)
                         : rc;
        rc = rc == DR_OK ? count_rows(s, &shard, a, out, err) : rc;
        out->is_captured = has_triggers && log.exists && log.is_ours;
    }
    if (rc == DR_OK && log.exists && log.is_ours) {
        rc = sh_number(s->db, &left, err, "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT %d) x",
                       log.quoted, ROWS_EXACT_MAX);
        out->log_rows = (uint64_t)left;
    }
out:
    dr_arena_destroy(a);
    return rc;
}
