/* SPDX-License-Identifier: Apache-2.0 */
/* MariaDB's half of shards: what information_schema says of a table, and its triggers. */
#include <stdio.h>
#include <string.h>

#include "store/sql/shard_private.h"

#include <xxhash.h>

static bool is_in(const char *type, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(type, list[i]) == 0) {
            return true;
        }
    }
    return false;
}
#define IS_IN(type, list) is_in(type, list, sizeof(list) / sizeof *(list))

static const char *const floats[] = {"float", "double", "real"};
static const char *const integers[] = {"tinyint", "smallint", "mediumint", "int",
                                       "bigint",  "year",     "decimal"};
static const char *const times[] = {"date", "time", "datetime", "timestamp"};
static const char *const shorts[] = {"char", "varchar", "binary", "varbinary", "enum", "set"};
static const char *const addresses[] = {"uuid", "inet6", "inet4"};

/* How a value is read for the pipe, for a digest, and as text of a cursor. A FLOAT by itself is
 * printed with six digits only; as a DOUBLE with all that it has. Large values go into the digest
 * as their own, for a statement's texts may not be longer than max_allowed_packet. */
static enum dr_code describe(struct sh_table *t, struct sh_column *c, const char *type,
                             const char *charset, const char *collation, struct dr_err *err)
{
    struct dr_arena *a = t->arena;
    const char *q = c->quoted;
    c->select = q;
    c->kind = SH_HEX;
    c->before = "x'";
    c->behind = "'";
    c->key_text = dr_arena_printf(a, "HEX(%s)", q);
    if (IS_IN(type, floats)) {
        c->select = dr_arena_printf(a, "(%s * 1e0)", q);
        c->digest = dr_arena_printf(a, "IFNULL(%s * 1e0, 'N')", q);
    } else if (IS_IN(type, addresses)) {
        c->select =
            dr_arena_printf(a, "CAST(%s AS BINARY(%d))", q, strcmp(type, "inet4") == 0 ? 4 : 16);
        c->digest = dr_arena_printf(a, "IFNULL(CAST(%s AS CHAR), 'N')", q);
    } else if (IS_IN(type, integers) || IS_IN(type, times)) {
        c->digest = dr_arena_printf(a, "IFNULL(%s, 'N')", q);
    } else if (strcmp(type, "bit") == 0) {
        c->digest = dr_arena_printf(a, "IFNULL(%s + 0, 'N')", q);
    } else if (IS_IN(type, shorts)) {
        c->digest = dr_arena_printf(a, "IFNULL(LENGTH(%s), 'N'), CAST(%s AS BINARY)", q, q);
    } else {
        c->digest = dr_arena_printf(a, "IFNULL(MD5(%s), 'N')", q);
    }
    if (IS_IN(type, integers) || IS_IN(type, floats)) {
        c->kind = SH_PLAIN;
        c->before = c->behind = "";
        c->key_text = dr_arena_printf(a, "CAST(%s AS CHAR)", c->select);
    } else if (IS_IN(type, times) || IS_IN(type, addresses)) {
        c->kind = SH_QUOTED;
        c->key_text = dr_arena_printf(a, "CAST(%s AS CHAR)", q);
    } else if (charset != NULL) {
        c->before = dr_arena_printf(a, "_%s x'", charset);
        c->behind = dr_arena_printf(a, "' COLLATE %s", collation);
    }
    return c->digest == NULL || c->select == NULL || c->key_text == NULL || c->before == NULL ||
                   c->behind == NULL
               ? dr_fail_nomem(err)
               : DR_OK;
}

static enum dr_code take_column(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct sh_table *t = arg;
    struct sh_column *c = count < 7 ? NULL : sh_new_column(t);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    char *type = sa_copy(t->arena, &v[1]);
    char *whole = sa_copy(t->arena, &v[2]);
    char *charset = v[3].type == DR_V_NULL ? NULL : sa_copy(t->arena, &v[3]);
    char *collation = v[4].type == DR_V_NULL ? NULL : sa_copy(t->arena, &v[4]);
    c->name = sa_copy(t->arena, &v[0]);
    c->quoted = c->name == NULL ? NULL : sa_quote(t->arena, c->name);
    c->is_generated = sa_int(&v[5]) != 0;
    c->key_at = (uint32_t)sa_int(&v[6]);
    if (type == NULL || whole == NULL || c->quoted == NULL) {
        return dr_fail_nomem(err);
    }
    /* A TIMESTAMP without NULL would set itself to the current time. */
    c->definition = charset == NULL
                        ? dr_arena_printf(t->arena, "%s NULL", whole)
                        : dr_arena_printf(t->arena, "%s CHARACTER SET %s COLLATE %s NULL", whole,
                                          charset, collation);
    return c->definition == NULL ? dr_fail_nomem(err)
                                 : describe(t, c, type, charset, collation, err);
}

enum dr_code sh_load_mariadb(struct sa_store *s, const char *table, struct sh_table *t,
                             struct dr_err *err)
{
    const char *schema = sh_literal(s, t->arena, s->info->schema);
    const char *name = sh_literal(s, t->arena, table);
    if (schema == NULL || name == NULL) {
        return dr_fail_nomem(err);
    }
    return sh_rows(s->db, take_column, t, err,
                   "SELECT c.COLUMN_NAME, LOWER(c.DATA_TYPE), c.COLUMN_TYPE, "
                   "c.CHARACTER_SET_NAME, c.COLLATION_NAME, c.EXTRA LIKE '%%GENERATED%%' AND "
                   "c.EXTRA NOT LIKE '%%DEFAULT_GENERATED%%', COALESCE((SELECT i.SEQ_IN_INDEX "
                   "FROM information_schema.STATISTICS i WHERE i.TABLE_SCHEMA = %s AND "
                   "i.TABLE_NAME = %s AND i.INDEX_NAME = 'PRIMARY' AND i.COLUMN_NAME = "
                   "c.COLUMN_NAME), 0) FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = "
                   "%s AND c.TABLE_NAME = %s ORDER BY c.ORDINAL_POSITION",
                   schema, name, schema, name);
}

/* A key of names (ENUM) is sorted by numbers and compared by names: no walk can follow it. */
enum dr_code sh_flaw_mariadb(struct sa_store *s, const char *table, struct dr_arena *a, char **out,
                             struct dr_err *err)
{
    const char *schema = sh_literal(s, a, s->info->schema);
    const char *name = sh_literal(s, a, table);
    if (schema == NULL || name == NULL) {
        return dr_fail_nomem(err);
    }
    return sh_text(
        s->db, a, out, err,
        "SELECT CASE WHEN t.TABLE_TYPE <> 'BASE TABLE' THEN 'it is no plain table' WHEN t.ENGINE "
        "<> 'InnoDB' THEN 'its engine is not InnoDB' WHEN EXISTS (SELECT 1 FROM "
        "information_schema.REFERENTIAL_CONSTRAINTS f WHERE f.CONSTRAINT_SCHEMA = %s AND "
        "(f.TABLE_NAME = %s OR f.REFERENCED_TABLE_NAME = %s)) THEN 'it has a foreign key, and "
        "cascades fire no triggers' WHEN EXISTS (SELECT 1 FROM information_schema.TRIGGERS g WHERE "
        "g.EVENT_OBJECT_SCHEMA = %s AND g.EVENT_OBJECT_TABLE = %s) THEN 'it has triggers' WHEN NOT "
        "EXISTS (SELECT 1 FROM information_schema.STATISTICS i WHERE i.TABLE_SCHEMA = %s AND "
        "i.TABLE_NAME = %s AND i.INDEX_NAME = 'PRIMARY') THEN 'it has no primary key' WHEN EXISTS "
        "(SELECT 1 FROM information_schema.STATISTICS i WHERE i.TABLE_SCHEMA = %s AND i.TABLE_NAME "
        "= %s AND i.INDEX_NAME = 'PRIMARY' AND i.SUB_PART IS NOT NULL) THEN 'its primary key is a "
        "prefix' WHEN EXISTS (SELECT 1 FROM information_schema.STATISTICS i JOIN "
        "information_schema.COLUMNS c ON c.TABLE_SCHEMA = i.TABLE_SCHEMA AND c.TABLE_NAME = "
        "i.TABLE_NAME AND c.COLUMN_NAME = i.COLUMN_NAME WHERE i.TABLE_SCHEMA = %s AND i.TABLE_NAME "
        "= %s AND i.INDEX_NAME = 'PRIMARY' AND LOWER(c.DATA_TYPE) IN ('enum', 'set', 'bit')) THEN "
        "'its primary key holds an ENUM, SET or BIT' END FROM information_schema.TABLES t WHERE "
        "t.TABLE_SCHEMA = %s AND t.TABLE_NAME = %s",
        schema, name, name, schema, name, schema, name, schema, name, schema, name, schema, name);
}

/* ---- triggers ---- */

static const char *const event_of[] = {"INSERT", "UPDATE", "DELETE"};
enum { EVENTS = 3 };

/* A trigger's name is one of its whole schema, so it cannot be the same on a held table and on the
 * one in use: the operation is hashed into it. They are found again by their table. */
static void name_trigger(const struct dr_shard_id *id, enum sh_trigger what, int event, char *buf,
                         size_t bytes)
{
    char text[2 * SH_NAME_BYTES + 2];
    (void)snprintf(text, sizeof text, "%s %s", id->name, id->operation);
    (void)snprintf(buf, bytes, "drover_%c%c_%016llx", what == SH_CAPTURE ? 'c' : 'f', "iud"[event],
                   (unsigned long long)XXH64(text, strlen(text), 0));
}

static void add_log_insert(struct dr_str *to, const char *log, const struct sh_table *t,
                           const char *prefix)
{
    dr_str_addf(to, "INSERT INTO %s (%s) VALUES (", log, t->keys);
    sh_add_keys(to, t, prefix);
    dr_str_add(to, "); ");
}

static void add_capture_body(struct dr_str *to, const char *log, const struct sh_table *t,
                             int event)
{
    if (event != 0) {
        add_log_insert(to, log, t, "OLD.");
    }
    if (event == 1) {
        dr_str_add(to, "IF NOT (");
        for (uint32_t i = 0; i < t->key_count; i++) {
            dr_str_addf(to, "%sOLD.%s <=> NEW.%s", i > 0 ? " AND " : "", t->key[i]->quoted,
                        t->key[i]->quoted);
        }
        dr_str_add(to, ") THEN ");
    }
    if (event != 2) {
        add_log_insert(to, log, t, "NEW.");
    }
    dr_str_add(to, event == 1 ? "END IF; " : "");
}

static enum dr_code make_trigger(struct sa_store *s, const struct dr_shard_id *id,
                                 const char *place, enum sh_trigger what, int event,
                                 const struct sh_table *t, struct dr_arena *a, struct dr_err *err)
{
    char name[SH_NAME_BYTES];
    struct dr_str text;
    char *log = sh_place(s, a, SH_LOG, id->name);
    char *trigger = NULL;
    name_trigger(id, what, event, name, sizeof name);
    trigger = sh_place(s, a, "", name);
    if (log == NULL || trigger == NULL) {
        return dr_fail_nomem(err);
    }
    dr_str_init(&text);
    dr_str_addf(&text, "CREATE TRIGGER %s %s %s ON %s FOR EACH ROW BEGIN ", trigger,
                what == SH_CAPTURE ? "AFTER" : "BEFORE", event_of[event], place);
    if (what == SH_CAPTURE) {
        add_capture_body(&text, log, t, event);
    } else {
        dr_str_addf(&text,
                    "IF @drover_pass IS NULL OR @drover_pass <> '%s' THEN SIGNAL SQLSTATE '45000' "
                    "SET MESSAGE_TEXT = '" SH_REFUSAL "'; END IF; ",
                    id->owner);
    }
    dr_str_add(&text, "END");
    enum dr_code rc =
        text.is_short ? dr_fail_nomem(err) : sh_exec(s->db, NULL, err, "%s", text.data);
    dr_str_fini(&text);
    return rc;
}

struct found {
    struct dr_arena *a;
    char *name[EVENTS];
};

static enum dr_code take_trigger(void *arg, const struct dr_value *v, uint32_t count,
                                 struct dr_err *err)
{
    struct found *f = arg;
    for (int e = 0; count == 2 && e < EVENTS; e++) {
        if (sa_is(&v[1], event_of[e])) {
            f->name[e] = sa_copy(f->a, &v[0]);
            return f->name[e] == NULL ? dr_fail_nomem(err) : DR_OK;
        }
    }
    return DR_OK;
}

static enum dr_code find_triggers(struct sa_store *s, const char *table, enum sh_trigger what,
                                  struct found *f, struct dr_err *err)
{
    const char *schema = sh_literal(s, f->a, s->info->schema);
    return schema == NULL
               ? dr_fail_nomem(err)
               : sh_rows(s->db, take_trigger, f, err,
                         "SELECT TRIGGER_NAME, EVENT_MANIPULATION FROM information_schema.TRIGGERS "
                         "WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = '%s' AND "
                         "LEFT(TRIGGER_NAME, 8) = 'drover_%c'",
                         schema, table, what == SH_CAPTURE ? 'c' : 'f');
}

/* Each CREATE TRIGGER commits by itself, but the table's lock stays ours from first to last, so
 * nobody writes between two of them. */
static enum dr_code change_triggers(struct sa_store *s, const struct dr_shard_id *id,
                                    const char *place, enum sh_trigger what, bool is_on,
                                    const struct sh_table *t, struct found *f, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (int e = 0; rc == DR_OK && e < EVENTS; e++) {
        if (is_on && f->name[e] == NULL) {
            rc = make_trigger(s, id, place, what, e, t, f->a, err);
        } else if (!is_on && f->name[e] != NULL) {
            char *trigger = sh_place(s, f->a, "", f->name[e]);
            rc = trigger == NULL ? dr_fail_nomem(err)
                                 : sh_exec(s->db, NULL, err, "DROP TRIGGER IF EXISTS %s", trigger);
        }
    }
    return rc;
}

static void forget_made(struct sa_store *s, const char *table, enum sh_trigger what,
                        struct dr_arena *a, const struct found *before)
{
    struct found now = {.a = a};
    if (!dr_sqldb_is_alive(s->db) || find_triggers(s, table, what, &now, NULL) != DR_OK) {
        return;
    }
    for (int e = 0; e < EVENTS; e++) {
        char *trigger =
            now.name[e] == NULL || before->name[e] != NULL ? NULL : sh_place(s, a, "", now.name[e]);
        if (trigger != NULL &&
            sh_exec(s->db, NULL, NULL, "DROP TRIGGER IF EXISTS %s", trigger) != DR_OK) {
            return; /* the next fence, or its taking away, finds it */
        }
    }
}

enum dr_code sh_trigger_set_mariadb(struct sa_store *s, const struct dr_shard_id *id,
                                    const char *table, enum sh_trigger what, bool is_on,
                                    const struct sh_table *t, uint32_t wait_ms, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(8192);
    struct found before = {.a = a};
    char *place = a == NULL ? NULL : sh_place(s, a, "", table);
    uint32_t wait_s = wait_ms < 1000 ? 1 : (wait_ms + 999) / 1000;
    enum dr_code rc = place == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_exec(s->db, NULL, err,
                               "SET @drover_wait = @@lock_wait_timeout, SESSION "
                               "lock_wait_timeout = %u",
                               wait_s)
                     : rc;
    if (rc != DR_OK) {
        goto out;
    }
    rc = sh_exec(s->db, NULL, err, "LOCK TABLES %s WRITE", place);
    if (rc == DR_OK) {
        rc = find_triggers(s, table, what, &before, err);
        rc = rc == DR_OK ? change_triggers(s, id, place, what, is_on, t, &before, err) : rc;
        if (rc != DR_OK && is_on) {
            forget_made(s, table, what, a, &before);
        }
        enum dr_code unlocked = sh_exec(s->db, NULL, rc == DR_OK ? err : NULL, "UNLOCK TABLES");
        rc = rc == DR_OK ? unlocked : rc;
    }
    /* On a new connection there is nothing to set back, and @drover_wait is NULL there. */
    enum dr_code reset = sh_exec(s->db, NULL, NULL,
                                 "SET SESSION lock_wait_timeout = COALESCE(@drover_wait, "
                                 "@@lock_wait_timeout)");
    (void)reset;
out:
    dr_arena_destroy(a);
    return rc;
}
