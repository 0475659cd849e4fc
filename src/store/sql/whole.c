/* SPDX-License-Identifier: Apache-2.0 */
/* Owns commands about a whole table: out of use by another name, held, dropped; or truncated. A
 * repeated one finds that it is done already: DDL commits by itself and its answer can be lost. */
#include "store/sql/whole_private.h"

#include "base/fault.h"
#include "store/hold.h"

enum { WHOLE_BLOCK_BYTES = 2 * 1024 };

static enum dr_code has_table(struct sa_store *s, const char *schema, const char *name, bool *out,
                              struct dr_err *err)
{
    int64_t ignored = 0;
    return sa_ask_number(
        s->db,
        s->is_pg ? "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
                   "c.relnamespace WHERE n.nspname = ?::text AND c.relname = ?::text AND "
                   "c.relkind IN ('r', 'p')"
                 : "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME "
                   "= ? AND TABLE_TYPE = 'BASE TABLE'",
        schema, name, &ignored, out, err);
}

static void add_table(struct dr_str *sql, const char *schema, const char *name)
{
    dr_sql_quote_name(sql, schema);
    dr_str_addc(sql, '.');
    dr_sql_quote_name(sql, name);
}

static enum dr_code run_text(struct sa_store *s, const struct dr_str *sql, struct dr_err *err)
{
    return sql->is_short ? dr_fail_nomem(err)
                         : dr_sqldb_exec(s->db, dr_str_text(sql), NULL, 0, NULL, err);
}

static enum dr_code run_rename(struct sa_store *s, const struct dr_whole_command *c,
                               struct dr_str *sql, struct dr_err *err)
{
    bool is_old = false;
    bool is_new = false;
    enum dr_code rc = has_table(s, c->schema, c->name, &is_old, err);
    rc = rc == DR_OK ? has_table(s, c->schema, c->to, &is_new, err) : rc;
    if (rc != DR_OK || (!is_old && is_new)) {
        return rc; /* already so */
    }
    if (!is_old) {
        return dr_fail(err, DR_NOT_FOUND, "there is no table %s.%s", c->schema, c->name);
    }
    if (is_new) {
        return dr_fail(err, DR_CONFLICT,
                       "%s.%s cannot be renamed, a table \"%s\" exists; rename or drop that one "
                       "first",
                       c->schema, c->name, c->to);
    }
    dr_str_add(sql, "ALTER TABLE ");
    add_table(sql, c->schema, c->name);
    dr_str_add(sql, " RENAME TO ");
    if (s->is_pg) { /* it stays in its schema */
        dr_sql_quote_name(sql, c->to);
    } else {
        add_table(sql, c->schema, c->to);
    }
    return run_text(s, sql, err);
}

static enum dr_code run_drop(struct sa_store *s, const struct dr_whole_command *c,
                             struct dr_str *sql, struct dr_err *err)
{
    bool is_there = false;
    enum dr_code rc = has_table(s, c->schema, c->name, &is_there, err);
    if (rc != DR_OK || !is_there) {
        return rc;
    }
    dr_str_add(sql, "DROP TABLE ");
    add_table(sql, c->schema, c->name);
    return run_text(s, sql, err);
}

static enum dr_code change_table(struct sa_store *s, const struct dr_whole_command *c,
                                 struct dr_err *err)
{
    struct dr_str sql;
    dr_str_init(&sql);
    enum dr_code rc = dr_fault_pass("store.sql.command.begun", err);
    if (rc == DR_OK && c->what == DR_WHOLE_RENAME) {
        rc = run_rename(s, c, &sql, err);
    } else if (rc == DR_OK && c->what == DR_WHOLE_DROP) {
        rc = run_drop(s, c, &sql, err);
    } else if (rc == DR_OK) {
        dr_str_add(&sql, "TRUNCATE TABLE ");
        add_table(&sql, c->schema, c->name);
        rc = run_text(s, &sql, err);
    }
    dr_str_fini(&sql);
    for (uint32_t i = 0; i < SA_TABLES_MAX; i++) { /* whatever it was about has changed */
        sa_table_destroy(s->table[i]);
        s->table[i] = NULL;
    }
    if (rc == DR_OK && dr_fault_pass("store.sql.command.done", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "the answer to the command was lost");
    }
    return rc;
}

enum dr_code sa_whole(struct sa_store *s, const char *node, const char *text, bool *is_whole_out,
                      struct dr_err *err)
{
    struct dr_whole_command c = {.what = DR_WHOLE_NONE};
    struct dr_arena *a = dr_arena_create(WHOLE_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_whole_parse(text, a, &c, err);
    *is_whole_out = c.what != DR_WHOLE_NONE;
    if (rc == DR_OK && c.what == DR_WHOLE_HOLD) {
        rc = dr_store_hold_at(&c, dr_wall_now(), err);
    } else if (rc == DR_OK && *is_whole_out) {
        rc = sa_find_node(node, err);
        rc = rc == DR_OK ? change_table(s, &c, err) : rc;
    }
    dr_arena_destroy(a);
    return rc;
}
