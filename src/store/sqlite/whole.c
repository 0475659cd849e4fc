/* SPDX-License-Identifier: Apache-2.0 */
/* Owns commands about a whole table of a plain file: out of use by another name, held, dropped. A
 * repeated one finds that it is done already. */
#include "base/fault.h"
#include "store/hold.h"
#include "store/sqlite/sqlite_private.h"

#include <string.h>
#include <strings.h>

enum { WHOLE_BLOCK_BYTES = 2 * 1024 };

static enum dr_code has_table(struct sq_node *n, const char *name, bool *out, struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = sq_prepare(
        n, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", &st,
        err);
    *out = false;
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
        rc = dr_sql_step(&n->sql, st, out, err);
    }
    sq_done(st);
    return rc;
}

static enum dr_code run_text(struct sq_node *n, const char *text, struct dr_err *err)
{
    return text == NULL ? dr_fail_nomem(err) : dr_sql_exec(&n->sql, text, err);
}

static enum dr_code run_rename(struct sq_node *n, const struct dr_whole_command *c,
                               struct dr_arena *a, struct dr_err *err)
{
    bool is_old = false;
    bool is_new = false;
    enum dr_code rc = has_table(n, c->name, &is_old, err);
    rc = rc == DR_OK ? has_table(n, c->to, &is_new, err) : rc;
    if (rc != DR_OK || (!is_old && is_new)) {
        return rc; /* already so */
    }
    if (!is_old) {
        return dr_fail(err, DR_NOT_FOUND, "node %s: there is no table \"%s\"", n->name, c->name);
    }
    if (is_new) {
        return dr_fail(err, DR_CONFLICT,
                       "node %s: \"%s\" cannot be renamed, a table \"%s\" exists; rename or drop "
                       "that one first",
                       n->name, c->name, c->to);
    }
    const char *from = sq_quote(a, c->name);
    const char *to = sq_quote(a, c->to);
    return from == NULL || to == NULL
               ? dr_fail_nomem(err)
               : run_text(n, dr_arena_printf(a, "ALTER TABLE %s RENAME TO %s", from, to), err);
}

static enum dr_code run_drop(struct sq_node *n, const struct dr_whole_command *c,
                             struct dr_arena *a, struct dr_err *err)
{
    bool is_there = false;
    enum dr_code rc = has_table(n, c->name, &is_there, err);
    const char *name = is_there ? sq_quote(a, c->name) : NULL;
    if (rc != DR_OK || !is_there) {
        return rc;
    }
    return name == NULL ? dr_fail_nomem(err)
                        : run_text(n, dr_arena_printf(a, "DROP TABLE %s", name), err);
}

static enum dr_code change_table(struct sq_store *s, const char *node,
                                 const struct dr_whole_command *c, struct dr_arena *a,
                                 struct dr_err *err)
{
    struct sq_node *n = NULL;
    if (!s->is_plain || strcasecmp(c->schema, "main") != 0) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: whole tables are changed in plain files only",
                       s->path);
    }
    enum dr_code rc = sq_node_find(s, node, &n, err);
    rc = rc == DR_OK ? sq_begin_write(n, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    n->writes++;
    rc = dr_fault_pass("store.sqlite.command.begun", err);
    if (rc == DR_OK) {
        rc = c->what == DR_WHOLE_RENAME ? run_rename(n, c, a, err) : run_drop(n, c, a, err);
    }
    if (rc != DR_OK) {
        dr_sql_rollback(&n->sql);
        return rc;
    }
    rc = sq_commit(n, err);
    if (rc == DR_OK && dr_fault_pass("store.sqlite.command.committed", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "node %s: the answer to the commit was lost", n->name);
    }
    return rc;
}

enum dr_code sq_whole(struct sq_store *s, const char *node, const char *text, bool *is_whole_out,
                      struct dr_err *err)
{
    struct dr_whole_command c = {.what = DR_WHOLE_NONE};
    struct dr_arena *a = dr_arena_create(WHOLE_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_whole_parse(text, a, &c, err);
    *is_whole_out = c.what != DR_WHOLE_NONE;
    if (rc == DR_OK) {
        switch (c.what) {
        case DR_WHOLE_NONE:
            break;
        case DR_WHOLE_HOLD:
            rc = dr_store_hold_at(&c, dr_wall_now(), err);
            break;
        case DR_WHOLE_TRUNCATE:
            rc = dr_fail(err, DR_UNSUPPORTED,
                         "%s: SQLite has no TRUNCATE; use mode \"drop\", or \"rows\"", s->path);
            break;
        case DR_WHOLE_RENAME:
        case DR_WHOLE_DROP:
            rc = change_table(s, node, &c, a, err);
            break;
        }
    }
    dr_arena_destroy(a);
    return rc;
}

enum dr_code sq_whole_check(const char *text, bool *is_whole_out, struct dr_err *err)
{
    struct dr_whole_command c = {.what = DR_WHOLE_NONE};
    struct dr_arena *a = dr_arena_create(WHOLE_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_whole_parse(text, a, &c, err);
    *is_whole_out = c.what != DR_WHOLE_NONE;
    if (rc == DR_OK && c.what == DR_WHOLE_TRUNCATE) {
        rc = dr_fail(err, DR_UNSUPPORTED, "SQLite has no TRUNCATE");
    }
    dr_arena_destroy(a);
    return rc;
}
