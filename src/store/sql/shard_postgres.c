/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL's half of shards: what its catalogs say of a table, and its triggers. */
#include <string.h>

#include "store/sql/shard_private.h"

/* Objects that come with the server have smaller numbers: their binary forms hold no numbers that
 * are different elsewhere. */
#define FIRST_OWN_OID "16384"

static enum dr_code take_column(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct sh_table *t = arg;
    struct sh_column *c = count < 8 ? NULL : sh_new_column(t);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->name = sa_copy(t->arena, &v[0]);
    c->definition = sa_copy(t->arena, &v[1]);
    c->is_generated = sa_int(&v[2]) != 0;
    c->key_at = (uint32_t)sa_int(&v[3]);
    t->is_binary = t->is_binary && sa_int(&v[4]) != 0;
    t->is_hashed = t->is_hashed && sa_int(&v[7]) != 0;
    c->sequence = v[5].type == DR_V_NULL ? NULL : sa_copy(t->arena, &v[5]);
    c->quoted = c->name == NULL ? NULL : sa_quote(t->arena, c->name);
    c->select = c->quoted;
    c->key_text = c->quoted == NULL ? NULL : dr_arena_printf(t->arena, "%s::text", c->quoted);
    c->kind = SH_QUOTED;
    return c->definition == NULL || c->key_text == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code take_unique(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct sh_table *t = arg;
    uint32_t n = t->unique_count;
    struct sh_unique *grown = dr_arena_alloc(t->arena, (n + 1) * sizeof *grown);
    if (count != 3 || grown == NULL) {
        return dr_fail_nomem(err);
    }
    if (n > 0) {
        memcpy(grown, t->unique, n * sizeof *grown);
    }
    t->unique = grown;
    t->unique_count++;
    t->unique[n].expressions = sa_copy(t->arena, &v[0]);
    t->unique[n].where = v[1].type == DR_V_NULL ? NULL : sa_copy(t->arena, &v[1]);
    t->unique[n].count = (uint32_t)sa_int(&v[2]);
    return t->unique[n].expressions == NULL || (v[1].type != DR_V_NULL && !t->unique[n].where)
               ? dr_fail_nomem(err)
               : DR_OK;
}

/* Types whose equal values are equal bytes (not numeric: 1.0 is 1.00; not float: 0 is -0): boolean,
 * bytea, "char", integers, text, oid, varchar, date, time, timestamps, uuid. */
#define EXACT_TYPES "(16, 17, 18, 20, 21, 23, 25, 26, 1043, 1082, 1083, 1114, 1184, 2950)"

#define RELATION                                                                                   \
    "(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "          \
    "c.relnamespace WHERE n.nspname = %s AND c.relname = %s)"

enum dr_code sh_load_postgres(struct sa_store *s, const char *table, struct sh_table *t,
                              struct dr_err *err)
{
    const char *schema = sh_literal(s, t->arena, s->info->schema);
    const char *name = sh_literal(s, t->arena, table);
    if (schema == NULL || name == NULL) {
        return dr_fail_nomem(err);
    }
    t->is_binary = true;
    t->is_hashed = true;
    enum dr_code rc = sh_rows(
        s->db, take_column, t, err,
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN "
        "a.attcollation <> 0 AND a.attcollation <> y.typcollation THEN (SELECT ' COLLATE ' || "
        "pg_catalog.quote_ident(m.nspname) || '.' || pg_catalog.quote_ident(l.collname) FROM "
        "pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace m ON m.oid = l.collnamespace WHERE "
        "l.oid = a.attcollation) ELSE '' END, (a.attgenerated <> '')::int, COALESCE((SELECT "
        "u.o::int FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS u(n, o) "
        "WHERE i.indrelid = a.attrelid AND i.indisprimary AND u.n = a.attnum AND u.o <= "
        "i.indnkeyatts), 0), (a.atttypid < " FIRST_OWN_OID ")::int, "
        "pg_catalog.pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), a.attnum, "
        "(pg_catalog.current_setting('server_version_num')::int >= 140000 AND a.atttypid "
        "IN " EXACT_TYPES " AND NOT EXISTS (SELECT FROM pg_catalog.pg_collation d WHERE d.oid = "
        "a.attcollation AND NOT d.collisdeterministic))::int FROM "
        "pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid WHERE "
        "a.attrelid = " RELATION " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        schema, name);
    if (rc != DR_OK) {
        return rc;
    }
    return sh_rows(s->db, take_unique, t, err,
                   "SELECT (SELECT string_agg('(' || pg_catalog.pg_get_indexdef(i.indexrelid, "
                   "k, false) || ') AS drover_e' || k, ', ' ORDER BY k) FROM generate_series(1, "
                   "i.indnkeyatts::int) k), pg_catalog.pg_get_expr(i.indpred, i.indrelid), "
                   "i.indnkeyatts::int FROM pg_catalog.pg_index i WHERE i.indrelid = " RELATION
                   " AND i.indisunique AND NOT i.indisprimary AND i.indislive ORDER BY "
                   "i.indexrelid",
                   schema, name);
}

enum dr_code sh_flaw_postgres(struct sa_store *s, const char *table, struct dr_arena *a, char **out,
                              struct dr_err *err)
{
    const char *schema = sh_literal(s, a, s->info->schema);
    const char *name = sh_literal(s, a, table);
    if (schema == NULL || name == NULL) {
        return dr_fail_nomem(err);
    }
    return sh_text(
        s->db, a, out, err,
        "SELECT CASE WHEN c.relkind <> 'r' THEN 'it is partitioned' WHEN c.relrowsecurity THEN 'it "
        "hides rows (row level security)' WHEN c.relhasrules THEN 'it has rules' WHEN EXISTS "
        "(SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) THEN "
        "'it has triggers' WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = "
        "c.oid OR h.inhparent = c.oid) THEN 'it inherits' WHEN EXISTS (SELECT FROM "
        "pg_catalog.pg_constraint x WHERE (x.conrelid = c.oid OR x.confrelid = c.oid) AND "
        "x.contype "
        "= 'f') THEN 'it has a foreign key' WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint x "
        "WHERE x.conrelid = c.oid AND x.contype = 'x') THEN 'it has an exclusion constraint' WHEN "
        "EXISTS (SELECT FROM pg_catalog.pg_constraint x WHERE x.conrelid = c.oid AND "
        "x.condeferrable) THEN 'it has a deferrable constraint' WHEN NOT EXISTS (SELECT FROM "
        "pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) THEN 'it has no "
        "primary "
        "key' END FROM pg_catalog.pg_class c WHERE c.oid = " RELATION,
        schema, name);
}

/* ---- triggers ---- */

static const char *const function_of[] = {"drover_capture_", "drover_fence_"};
static const char *const trigger_of[] = {"drover_capture", "drover_fence"};

/* Writers need no right on the log: the function has its owner's. Keys are compared as texts, for
 * an operator of their type may be out of reach here; one entry too many does no harm. */
static void add_capture_body(struct dr_str *to, const struct dr_shard_id *id, const char *log,
                             const struct sh_table *t)
{
    static const char now[] = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    dr_str_addf(to,
                "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = "
                "pg_catalog, pg_temp AS $drover$ -- " SH_STAMP "%s\nBEGIN IF TG_OP = 'TRUNCATE' "
                "THEN INSERT INTO %s (drover_at, drover_kind) VALUES (-1, 't'); RETURN NULL; END "
                "IF; IF TG_OP <> 'INSERT' THEN INSERT INTO %s (drover_at, drover_kind, %s) VALUES "
                "(%s, 'k', ",
                id->owner, log, log, t->keys, now);
    sh_add_keys(to, t, "OLD.");
    dr_str_add(to, "); END IF; IF TG_OP = 'INSERT'");
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(to, "%s NEW.%s::text IS DISTINCT FROM OLD.%s::text",
                    i > 0 ? " OR" : " OR TG_OP = 'UPDATE' AND (", t->key[i]->quoted,
                    t->key[i]->quoted);
    }
    dr_str_addf(to, ") THEN INSERT INTO %s (drover_at, drover_kind, %s) VALUES (%s, 'k', ", log,
                t->keys, now);
    sh_add_keys(to, t, "NEW.");
    dr_str_add(to, "); END IF; RETURN NULL; END $drover$");
}

/* Row triggers fire where rows of a replication arrive, too (ENABLE ALWAYS). */
static void add_fence_body(struct dr_str *to, const struct dr_shard_id *id)
{
    dr_str_addf(to,
                "() RETURNS trigger LANGUAGE plpgsql AS $drover$ -- " SH_STAMP
                "%s\nBEGIN IF pg_catalog.current_setting('drover.pass', true) IS DISTINCT FROM "
                "'%s' THEN RAISE EXCEPTION '" SH_REFUSAL "'; END IF; IF TG_OP = 'TRUNCATE' THEN "
                "RETURN NULL; END IF; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; "
                "END $drover$",
                id->owner, id->owner);
}

static enum dr_code make_function(struct sa_store *s, const struct dr_shard_id *id,
                                  enum sh_trigger what, const struct sh_table *t,
                                  struct dr_arena *a, struct dr_err *err)
{
    int64_t strangers = 0;
    struct dr_str text;
    char *log = sh_place(s, a, SH_LOG, id->name);
    char *function = sh_place(s, a, function_of[what], id->name);
    char *schema = sh_literal(s, a, s->info->schema);
    if (log == NULL || function == NULL || schema == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = sh_number(s->db, &strangers, err,
                                "SELECT count(*) FROM pg_catalog.pg_proc p JOIN "
                                "pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE "
                                "n.nspname = %s AND p.proname = '%s%s' AND strpos(p.prosrc, "
                                "'" SH_STAMP "%s') = 0",
                                schema, function_of[what], id->name, id->owner);
    if (rc == DR_OK && strangers > 0) {
        rc = dr_fail(err, DR_EXISTS, "function %s is not ours; it is left alone", function);
    }
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&text);
    dr_str_addf(&text, "CREATE OR REPLACE FUNCTION %s", function);
    if (what == SH_CAPTURE) {
        add_capture_body(&text, id, log, t);
    } else {
        add_fence_body(&text, id);
    }
    rc = text.is_short ? dr_fail_nomem(err) : sh_exec(s->db, NULL, err, "%s", text.data);
    dr_str_fini(&text);
    return rc;
}

static enum dr_code make_triggers(struct sa_store *s, const struct dr_shard_id *id,
                                  const char *place, enum sh_trigger what, struct dr_arena *a,
                                  struct dr_err *err)
{
    const char *name = trigger_of[what];
    const char *when = what == SH_CAPTURE ? "AFTER" : "BEFORE";
    char *function = sh_place(s, a, function_of[what], id->name);
    enum dr_code rc = function == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? sh_exec(s->db, NULL, err, "DROP TRIGGER IF EXISTS %s ON %s", name, place)
                     : rc;
    rc = rc == DR_OK
             ? sh_exec(s->db, NULL, err, "DROP TRIGGER IF EXISTS %s_truncate ON %s", name, place)
             : rc;
    rc = rc == DR_OK ? sh_exec(s->db, NULL, err,
                               "CREATE TRIGGER %s %s INSERT OR UPDATE OR DELETE ON %s FOR EACH "
                               "ROW EXECUTE FUNCTION %s()",
                               name, when, place, function)
                     : rc;
    rc = rc == DR_OK ? sh_exec(s->db, NULL, err,
                               "CREATE TRIGGER %s_truncate %s TRUNCATE ON %s FOR EACH STATEMENT "
                               "EXECUTE FUNCTION %s()",
                               name, when, place, function)
                     : rc;
    return rc == DR_OK ? sh_exec(s->db, NULL, err,
                                 "ALTER TABLE %s ENABLE ALWAYS TRIGGER %s, ENABLE ALWAYS TRIGGER "
                                 "%s_truncate",
                                 place, name, name)
                       : rc;
}

enum dr_code sh_trigger_set_postgres(struct sa_store *s, const struct dr_shard_id *id,
                                     const char *table, enum sh_trigger what, bool is_on,
                                     const struct sh_table *t, uint32_t wait_ms, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(4096);
    char *place = a == NULL ? NULL : sh_place(s, a, "", table);
    enum dr_code rc = place == NULL ? dr_fail_nomem(err) : DR_OK;
    /* One lock for all that follows, taken within the time or not at all. */
    rc = rc == DR_OK
             ? sh_exec(s->db, NULL, err, "SET LOCAL lock_timeout = %u", wait_ms == 0 ? 1 : wait_ms)
             : rc;
    rc = rc == DR_OK ? sh_exec(s->db, NULL, err, "LOCK TABLE ONLY %s IN %s MODE", place,
                               is_on ? "SHARE ROW EXCLUSIVE" : "ACCESS EXCLUSIVE")
                     : rc;
    if (rc == DR_OK && is_on) {
        rc = make_function(s, id, what, t, a, err);
        rc = rc == DR_OK ? make_triggers(s, id, place, what, a, err) : rc;
    } else if (rc == DR_OK) {
        rc = sh_exec(s->db, NULL, err, "DROP TRIGGER IF EXISTS %s ON %s", trigger_of[what], place);
        rc = rc == DR_OK ? sh_exec(s->db, NULL, err, "DROP TRIGGER IF EXISTS %s_truncate ON %s",
                                   trigger_of[what], place)
                         : rc;
        rc = rc == DR_OK ? sh_functions_drop(s, id, err) : rc;
    }
    dr_arena_destroy(a);
    return rc;
}

enum dr_code sh_functions_drop(struct sa_store *s, const struct dr_shard_id *id, struct dr_err *err)
{
    struct dr_arena *a = dr_arena_create(2048);
    char *schema = a == NULL ? NULL : sh_literal(s, a, s->info->schema);
    enum dr_code rc = schema == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < 2; i++) {
        int64_t unused = 0;
        char *function = sh_place(s, a, function_of[i], id->name);
        rc =
            function == NULL
                ? dr_fail_nomem(err)
                : sh_number(s->db, &unused, err,
                            "SELECT count(*) FROM pg_catalog.pg_proc p JOIN "
                            "pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = "
                            "%s AND p.proname = '%s%s' AND strpos(p.prosrc, '" SH_STAMP
                            "%s') > 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE "
                            "g.tgfoid = p.oid)",
                            schema, function_of[i], id->name, id->owner);
        if (rc == DR_OK && unused > 0) {
            rc = sh_exec(s->db, NULL, err, "DROP FUNCTION IF EXISTS %s()", function);
        }
    }
    dr_arena_destroy(a);
    return rc;
}
