/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the node's table "drover_shards": what was made here, for whom. A name proves nothing: a
 * table is ours when it is on record by the same owner AND its comment says so, too, for a record
 * is written before its thing and may outlive it. */
#include <string.h>

#include "store/sql/shard_private.h"

static const char *const role_name[] = {"shard", "log", "held"};
static const char *const role_prefix[] = {"", SH_LOG, SH_HELD};

/* Literals of the schema's and the records' names; the schema comes from the server. */
static enum dr_code has_records(struct sa_store *s, struct dr_arena *a, bool *out,
                                struct dr_err *err)
{
    int64_t n = 0;
    const char *schema = sh_literal(s, a, s->info->schema);
    enum dr_code rc =
        schema == NULL ? dr_fail_nomem(err)
        : s->is_pg
            ? sh_number(s->db, &n, err,
                        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = "
                        "'" SH_RECORDS "'",
                        schema)
            : sh_number(s->db, &n, err,
                        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s "
                        "AND TABLE_NAME = '" SH_RECORDS "'",
                        schema);
    *out = n > 0;
    return rc;
}

enum dr_code sh_records_table(struct sa_store *s, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(1024);
    char *place = a == NULL ? NULL : sh_place(s, a, "", SH_RECORDS);
    bool is_there = false;
    enum dr_code rc = place == NULL ? dr_fail_nomem(err) : has_records(s, a, &is_there, err);
    if (rc == DR_OK && !is_there && s->info->schema[0] == '\0') {
        rc = dr_fail(err, DR_INPUT, "the database has no schema to work in; set search_path");
    }
    if (rc == DR_OK && !is_there) {
        const char *text = s->is_pg ? "text" : "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin";
        rc = sh_exec(s->db, NULL, err,
                     "CREATE TABLE IF NOT EXISTS %s (name %s NOT NULL, role %s NOT NULL, "
                     "shard_table %s NOT NULL, owner %s NOT NULL, operation %s NOT NULL, made_of "
                     "%s NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (name, role))%s",
                     place, text, text, text, text, text, text, s->is_pg ? "" : " ENGINE=InnoDB");
    }
    dr_arena_destroy(a);
    return rc;
}

/* ---- the thing of a record ---- */

static enum dr_code look_at_table(struct sa_store *s, struct dr_arena *a, const char *owner,
                                  struct sh_thing *t, struct dr_err *err)
{
    char *comment = NULL;
    const char *schema = sh_literal(s, a, s->info->schema);
    const char *table = sh_literal(s, a, t->table);
    const char *stamp = dr_arena_printf(a, SH_STAMP "%s", owner);
    if (schema == NULL || table == NULL || stamp == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc =
        s->is_pg ? sh_text(s->db, a, &comment, err,
                           "SELECT COALESCE(pg_catalog.obj_description(c.oid, 'pg_class'), '') "
                           "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
                           "c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
                           schema, table)
                 : sh_text(s->db, a, &comment, err,
                           "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE "
                           "TABLE_SCHEMA = %s AND TABLE_NAME = %s",
                           schema, table);
    t->exists = comment != NULL;
    t->is_stamped = comment != NULL && strcmp(comment, stamp) == 0;
    return rc;
}

struct taken {
    struct dr_arena *a;
    struct sh_thing *t;
};

static enum dr_code take_record(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct taken *x = arg;
    if (count == 3) {
        x->t->owner = sa_copy(x->a, &v[0]);
        x->t->operation = sa_copy(x->a, &v[1]);
        x->t->made_of = sa_copy(x->a, &v[2]);
    }
    return x->t->owner == NULL || x->t->operation == NULL || x->t->made_of == NULL
               ? dr_fail_nomem(err)
               : DR_OK;
}

enum dr_code sh_look(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                     bool is_locked, struct dr_arena *a, struct sh_thing *out, struct dr_err *err)
{
    bool is_there = false;
    struct taken taken = {.a = a, .t = out};
    *out = (struct sh_thing){0};
    out->table = dr_arena_printf(a, "%s%s", role_prefix[role], id->name);
    out->quoted = sh_place(s, a, role_prefix[role], id->name);
    char *records = sh_place(s, a, "", SH_RECORDS);
    if (out->table == NULL || out->quoted == NULL || records == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = has_records(s, a, &is_there, err);
    if (rc == DR_OK && is_there) {
        rc = sh_rows(s->db, take_record, &taken, err,
                     "SELECT owner, operation, made_of FROM %s WHERE name = '%s' AND role = "
                     "'%s'%s",
                     records, id->name, role_name[role], is_locked ? " FOR UPDATE" : "");
    }
    rc = rc == DR_OK ? look_at_table(s, a, id->owner, out, err) : rc;
    out->is_ours = out->owner != NULL && strcmp(out->owner, id->owner) == 0 &&
                   (!out->exists || out->is_stamped);
    return rc;
}

enum dr_code sh_need(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                     bool is_locked, struct dr_arena *a, struct sh_thing *out, struct dr_err *err)
{
    enum dr_code rc = sh_look(s, id, role, is_locked, a, out, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!out->exists) {
        return dr_fail(err, DR_NOT_FOUND, "there is no table %s", out->quoted);
    }
    return out->is_ours ? DR_OK
                        : dr_fail(err, DR_REFUSED,
                                  "table %s is not on record as made for owner %s%s; it is left "
                                  "alone",
                                  out->quoted, id->owner,
                                  out->owner != NULL && strcmp(out->owner, id->owner) == 0
                                      ? " (its comment was changed)"
                                      : "");
}

enum dr_code sh_record_put(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                           const char *made_of, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(1024);
    char *records = a == NULL ? NULL : sh_place(s, a, "", SH_RECORDS);
    enum dr_code rc = records == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = sh_exec(s->db, NULL, err,
                     "INSERT INTO %s%s (name, role, shard_table, owner, operation, made_of, "
                     "created_at) VALUES ('%s', '%s', '%s', '%s', '%s', '%s', %lld) %s",
                     records, s->is_pg ? " AS r" : "", id->name, role_name[role], id->table,
                     id->owner, id->operation, made_of, (long long)dr_wall_now(),
                     s->is_pg ? "ON CONFLICT (name, role) DO UPDATE SET operation = "
                                "excluded.operation, made_of = excluded.made_of WHERE r.owner = "
                                "excluded.owner"
                              : "ON DUPLICATE KEY UPDATE operation = IF(owner = VALUES(owner), "
                                "VALUES(operation), operation), made_of = IF(owner = "
                                "VALUES(owner), VALUES(made_of), made_of)");
    }
    dr_arena_destroy(a);
    return rc;
}

enum dr_code sh_record_drop(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                            struct dr_err *err)
{
    bool is_there = false;
    struct dr_arena *a = dr_arena_create(1024);
    char *records = a == NULL ? NULL : sh_place(s, a, "", SH_RECORDS);
    enum dr_code rc = records == NULL ? dr_fail_nomem(err) : has_records(s, a, &is_there, err);
    if (rc == DR_OK && is_there) {
        rc = sh_exec(s->db, NULL, err,
                     "DELETE FROM %s WHERE name = '%s' AND role = '%s' AND owner = '%s'", records,
                     id->name, role_name[role], id->owner);
    }
    dr_arena_destroy(a);
    return rc;
}

/* ---- all of them ---- */

enum { RECORDS_MAX = 100000 };

struct listing {
    struct dr_arena *a;
    struct dr_shard_record *record;
    uint32_t count, room;
};

static enum dr_code take_listed(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct listing *l = arg;
    if (count != 7 || l->count == RECORDS_MAX) {
        return DR_OK;
    }
    if (l->count == l->room) {
        uint32_t room = l->room == 0 ? 16 : l->room * 2;
        struct dr_shard_record *grown = dr_arena_alloc(l->a, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        if (l->count > 0) {
            memcpy(grown, l->record, l->count * sizeof *grown);
        }
        l->record = grown;
        l->room = room;
    }
    struct dr_shard_record *r = &l->record[l->count++];
    *r = (struct dr_shard_record){.name = sa_copy(l->a, &v[0]),
                                  .table = sa_copy(l->a, &v[1]),
                                  .owner = sa_copy(l->a, &v[2]),
                                  .operation = sa_copy(l->a, &v[3]),
                                  .role = sa_copy(l->a, &v[4]),
                                  .created_at = sa_int(&v[5]),
                                  .exists = sa_int(&v[6]) != 0};
    return r->name == NULL || r->table == NULL || r->owner == NULL || r->operation == NULL ||
                   r->role == NULL
               ? dr_fail_nomem(err)
               : DR_OK;
}

#define THING                                                                                      \
    "CONCAT(CASE r.role WHEN 'log' THEN '" SH_LOG "' WHEN 'held' THEN '" SH_HELD                   \
    "' ELSE '' END, r.name)"

enum dr_code sh_records(void *impl, struct dr_arena *a, struct dr_shard_record **out,
                        uint32_t *count_out, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct listing l = {.a = a};
    bool is_there = false;
    char *records = sh_place(s, a, "", SH_RECORDS);
    const char *schema = sh_literal(s, a, s->info->schema);
    enum dr_code rc =
        records == NULL || schema == NULL ? dr_fail_nomem(err) : has_records(s, a, &is_there, err);
    if (rc == DR_OK && is_there) {
        rc = sh_rows(
            s->db, take_listed, &l, err,
            "SELECT r.name, r.shard_table, r.owner, r.operation, r.role, r.created_at, (SELECT "
            "COUNT(*) FROM %s = %s AND %s = " THING ") FROM %s r ORDER BY r.name, r.role",
            s->is_pg ? "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
                       "c.relnamespace WHERE n.nspname"
                     : "information_schema.TABLES t WHERE t.TABLE_SCHEMA",
            schema, s->is_pg ? "c.relname" : "t.TABLE_NAME", records);
    }
    *out = l.record;
    *count_out = l.count;
    return rc;
}
