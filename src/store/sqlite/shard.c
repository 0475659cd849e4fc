/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what drover makes for shards in a plain file and the records of it: making, dropping,
 * holding, facts. Who may touch what is decided by the records alone, never by names. Logs and
 * fences are in shard_capture.c, moving rows in shard_copy.c. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "store/sqlite/shard_private.h"

enum { SHARD_BLOCK_BYTES = 8 * 1024, RECORDS_MAX = 100000 };

static const char make_tables[] =
    "CREATE TABLE IF NOT EXISTS drover_shards(name TEXT NOT NULL COLLATE NOCASE, role TEXT NOT "
    "NULL, \"table\" TEXT NOT NULL, owner TEXT NOT NULL, operation TEXT NOT NULL, columns TEXT NOT "
    "NULL, extra TEXT NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY(name, role)) WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS drover_pass(one INTEGER PRIMARY KEY);";

/* ---- looking ---- */

static enum dr_code count_named(struct sqs *x, const char *type, const char *like, int64_t *out,
                                struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    *out = 0;
    enum dr_code rc = like == NULL ? dr_fail_nomem(err)
                                   : sq_prepare(x->n,
                                                "SELECT count(*) FROM sqlite_master WHERE type "
                                                "GLOB ? AND name = ? COLLATE NOCASE",
                                                &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, type, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(st, 2, like, -1, SQLITE_STATIC);
        rc = dr_sql_step(&x->n->sql, st, &is_row, err);
    }
    *out = rc == DR_OK && is_row ? sqlite3_column_int64(st, 0) : 0;
    sq_done(st);
    return rc;
}

static enum dr_code has_named(struct sqs *x, const char *type, const char *name, bool *out,
                              struct dr_err *err)
{
    int64_t count = 0;
    enum dr_code rc = count_named(x, type, name, &count, err);
    *out = count > 0;
    return rc;
}

static enum dr_code read_record(struct sqs *x, const char *role, struct sqs_record *out,
                                struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc = sq_prepare(x->n,
                                 "SELECT owner, operation, columns, extra FROM drover_shards WHERE "
                                 "name = ? AND role = ?",
                                 &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, x->id->name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(st, 2, role, -1, SQLITE_STATIC);
        rc = dr_sql_step(&x->n->sql, st, &out->is_there, err);
    }
    if (rc == DR_OK && out->is_there) {
        out->owner = dr_arena_strdup(x->a, dr_sql_text(st, 0));
        out->operation = dr_arena_strdup(x->a, dr_sql_text(st, 1));
        out->columns = dr_arena_strdup(x->a, dr_sql_text(st, 2));
        out->extra = dr_arena_strdup(x->a, dr_sql_text(st, 3));
        bool is_short = out->owner == NULL || out->operation == NULL || out->columns == NULL ||
                        out->extra == NULL;
        rc = is_short ? dr_fail_nomem(err) : DR_OK;
        out->is_ours = rc == DR_OK && strcmp(out->owner, x->id->owner) == 0;
    }
    sq_done(st);
    return rc;
}

static enum dr_code has_triggers(struct sqs *x, const char *prefix, bool *out, struct dr_err *err)
{
    int64_t count = 0;
    enum dr_code rc = DR_OK;
    *out = true;
    for (const char *when = "iud"; rc == DR_OK && *when != '\0'; when++) {
        const char *name = dr_arena_printf(x->a, "%s%c_%s", prefix, *when, x->id->name);
        rc = count_named(x, "trigger", name, &count, err);
        *out = *out && count > 0;
    }
    return rc;
}

static enum dr_code look(struct sqs *x, struct dr_err *err)
{
    x->log = dr_arena_printf(x->a, SQS_LOG "%s", x->id->name);
    x->held = dr_arena_printf(x->a, SQS_HELD "%s", x->id->name);
    enum dr_code rc = x->log == NULL || x->held == NULL ? dr_fail_nomem(err) : DR_OK;
    rc = rc == DR_OK ? has_named(x, "table", "drover_shards", &x->has_tables, err) : rc;
    rc = rc == DR_OK ? has_named(x, "[tv]*[^r]", x->id->name, &x->has_table, err) : rc;
    rc = rc == DR_OK ? has_named(x, "table", x->held, &x->has_held, err) : rc;
    rc = rc == DR_OK ? has_named(x, "table", x->log, &x->has_log, err) : rc;
    if (rc == DR_OK && x->has_tables) {
        rc = read_record(x, "shard", &x->in_use, err);
        rc = rc == DR_OK ? read_record(x, "held", &x->out_of_use, err) : rc;
        rc = rc == DR_OK ? read_record(x, "log", &x->logged, err) : rc;
    }
    rc = rc == DR_OK ? has_triggers(x, SQS_FENCE, &x->is_fenced, err) : rc;
    rc = rc == DR_OK ? has_triggers(x, SQS_LOG, &x->is_captured, err) : rc;
    x->is_captured = x->is_captured && x->has_log;
    return rc;
}

/* ---- one call ---- */

static enum dr_code start(void *impl, const struct dr_shard_id *id, struct sqs *x,
                          struct dr_err *err)
{
    struct sq_store *s = impl;
    *x = (struct sqs){.id = id};
    if (!s->is_plain) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: a layout file; shards live in plain files only",
                       s->path);
    }
    enum dr_code rc = sq_node_find(s, "main", &x->n, err);
    x->a = rc == DR_OK ? dr_arena_create(SHARD_BLOCK_BYTES) : NULL;
    return rc == DR_OK && x->a == NULL ? dr_fail_nomem(err) : rc;
}

static enum dr_code give_up(struct sqs *x, enum dr_code rc)
{
    if (x->n != NULL) {
        dr_sql_rollback(&x->n->sql);
    }
    dr_arena_destroy(x->a);
    x->a = NULL;
    return rc;
}

enum dr_code sqs_begin_read(void *impl, const struct dr_shard_id *id, struct sqs *x,
                            struct dr_err *err)
{
    enum dr_code rc = start(impl, id, x, err);
    rc = rc == DR_OK ? sq_begin_read(x->n, err) : rc;
    rc = rc == DR_OK ? look(x, err) : rc;
    return rc == DR_OK ? DR_OK : give_up(x, rc);
}

enum dr_code sqs_begin_write(void *impl, const struct dr_shard_id *id, bool with_records,
                             struct sqs *x, struct dr_err *err)
{
    enum dr_code rc = start(impl, id, x, err);
    rc = rc == DR_OK ? sq_begin_write(x->n, err) : rc;
    if (rc == DR_OK) {
        assert(x->n != NULL);
        x->n->writes++;
        rc = dr_fault_pass("store.sqlite.shard.begun", err);
    }
    rc = rc == DR_OK && with_records ? dr_sql_exec(&x->n->sql, make_tables, err) : rc;
    rc = rc == DR_OK ? look(x, err) : rc;
    return rc == DR_OK ? DR_OK : give_up(x, rc);
}

enum dr_code sqs_end(struct sqs *x, enum dr_code rc, struct dr_err *err)
{
    if (rc == DR_OK) {
        rc = sq_commit(x->n, err);
        if (rc == DR_OK && dr_fault_pass("store.sqlite.shard.committed", err) != DR_OK) {
            rc = dr_fail(err, DR_UNKNOWN, "%s: the answer to the commit was lost", x->n->path);
        }
    }
    return give_up(x, rc);
}

enum dr_code sqs_run(struct sqs *x, const char *text, struct dr_err *err)
{
    return text == NULL ? dr_fail_nomem(err) : dr_sql_exec(&x->n->sql, text, err);
}

static enum dr_code refuse_foreign(const struct sqs *x, struct dr_err *err)
{
    return dr_fail(err, DR_REFUSED,
                   "%s: \"%s\" is not on record as this table's shard; it is left alone",
                   x->n->path, x->id->name);
}

enum dr_code sqs_thing(struct sqs *x, const char **name_out, struct dr_err *err)
{
    *name_out = NULL;
    if (x->has_table) {
        *name_out = x->id->name;
        return x->in_use.is_ours ? DR_OK : refuse_foreign(x, err);
    }
    if (x->has_held) {
        *name_out = x->held;
        return x->out_of_use.is_ours ? DR_OK : refuse_foreign(x, err);
    }
    return dr_fail(err, DR_NOT_FOUND, "%s: there is no shard \"%s\"", x->n->path, x->id->name);
}

/* ---- records ---- */

enum dr_code sqs_add_record(struct sqs *x, const char *role, const char *columns, const char *extra,
                            struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    enum dr_code rc =
        sq_prepare(x->n, "REPLACE INTO drover_shards VALUES(?, ?, ?, ?, ?, ?, ?, ?)", &st, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *text[] = {x->id->name,      role,    x->id->table, x->id->owner,
                          x->id->operation, columns, extra};
    for (int i = 0; i < 7; i++) {
        (void)sqlite3_bind_text(st, i + 1, text[i], -1, SQLITE_STATIC);
    }
    (void)sqlite3_bind_int64(st, 8, dr_wall_now());
    return dr_sql_run(&x->n->sql, st, err);
}

static enum dr_code change_records(struct sqs *x, const char *text, const char *role,
                                   struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    if (!x->has_tables) {
        return DR_OK;
    }
    enum dr_code rc = sq_prepare(x->n, text, &st, err);
    if (rc != DR_OK) {
        return rc;
    }
    (void)sqlite3_bind_text(st, 1, x->id->name, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(st, 2, role, -1, SQLITE_STATIC);
    return dr_sql_run(&x->n->sql, st, err);
}

enum dr_code sqs_drop_record(struct sqs *x, const char *role, struct dr_err *err)
{
    return change_records(x, "DELETE FROM drover_shards WHERE name = ? AND role = ?", role, err);
}

/* ---- making ---- */

/* One statement and nothing behind it: the columns come from a user and must not bring others. */
static enum dr_code create_table(struct sqs *x, const char *columns, const char *extra,
                                 struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    const char *tail = NULL;
    const char *text =
        dr_arena_printf(x->a, "CREATE TABLE \"%s\" (%s\n) %s", x->id->name, columns, extra);
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    int rc = sqlite3_prepare_v2(x->n->sql.db, text, -1, &st, &tail);
    if (rc != SQLITE_OK) {
        return dr_sql_fail(&x->n->sql, rc, "reading the columns", err);
    }
    enum dr_code code = DR_OK;
    if (tail[strspn(tail, " \t\r\n;")] != '\0') {
        code = dr_fail(err, DR_INPUT, "the columns are followed by another statement: \"%.60s\"",
                       tail);
    }
    code = code == DR_OK ? dr_sql_run(&x->n->sql, st, err) : code;
    (void)sqlite3_finalize(st);
    return code;
}

static enum dr_code ask_int(struct sqs *x, const char *text, int64_t *out, struct dr_err *err)
{
    return text == NULL ? dr_fail_nomem(err) : dr_sql_int(&x->n->sql, text, 0, out, err);
}

/* What cannot be moved safely is refused while there are no rows in it. */
static enum dr_code check_made(struct sqs *x, struct dr_err *err)
{
    int64_t keys = 0;
    int64_t references = 0;
    enum dr_code rc =
        ask_int(x,
                dr_arena_printf(x->a, "SELECT count(*) FROM pragma_table_xinfo('%s') WHERE pk > 0",
                                x->id->name),
                &keys, err);
    rc = rc == DR_OK
             ? ask_int(x,
                       dr_arena_printf(x->a, "SELECT count(*) FROM pragma_foreign_key_list('%s')",
                                       x->id->name),
                       &references, err)
             : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if (keys == 0) {
        return dr_fail(err, DR_REFUSED,
                       "the columns have no PRIMARY KEY: rows without one cannot be moved; add it");
    }
    if (keys > DR_KEY_PARTS_MAX) {
        return dr_fail(err, DR_REFUSED, "the primary key has %" PRId64 " columns; %d are possible",
                       keys, DR_KEY_PARTS_MAX);
    }
    return references == 0
               ? DR_OK
               : dr_fail(err, DR_REFUSED,
                         "the columns have foreign keys: what they refer to may be on another "
                         "node; leave them out");
}

static enum dr_code make(struct sqs *x, const char *columns, const char *extra, struct dr_err *err)
{
    bool is_foreign = x->in_use.is_there ? !x->in_use.is_ours : x->has_table;
    if (is_foreign) {
        return dr_fail(err, DR_EXISTS,
                       "%s: \"%s\" exists and is not on record as this table's shard", x->n->path,
                       x->id->name);
    }
    if (x->has_table) {
        bool is_same =
            strcmp(x->in_use.columns, columns) == 0 && strcmp(x->in_use.extra, extra) == 0;
        return is_same ? DR_OK
                       : dr_fail(err, DR_CONFLICT, "%s: \"%s\" exists with other columns",
                                 x->n->path, x->id->name);
    }
    enum dr_code rc = sqs_add_record(x, "shard", columns, extra, err);
    rc = rc == DR_OK ? create_table(x, columns, extra, err) : rc;
    return rc == DR_OK ? check_made(x, err) : rc;
}

enum dr_code sqs_ensure(void *impl, const struct dr_shard_id *id, const char *columns,
                        const char *extra, struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_write(impl, id, true, &x, err);
    return rc == DR_OK ? sqs_end(&x, make(&x, columns, extra, err), err) : rc;
}

/* ---- dropping ---- */

enum dr_code sqs_drop_capture(struct sqs *x, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (x->logged.is_there && !x->logged.is_ours) {
        return refuse_foreign(x, err);
    }
    for (const char *when = "iudrq"; rc == DR_OK && *when != '\0'; when++) {
        rc = sqs_run(x,
                     dr_arena_printf(x->a, "DROP TRIGGER IF EXISTS \"" SQS_LOG "%c_%s\"", *when,
                                     x->id->name),
                     err);
    }
    if (rc == DR_OK && x->logged.is_there) {
        rc = sqs_run(x, dr_arena_printf(x->a, "DROP TABLE IF EXISTS \"%s\"", x->log), err);
        rc = rc == DR_OK ? sqs_drop_record(x, "log", err) : rc;
    }
    return rc;
}

static enum dr_code drop_form(struct sqs *x, bool is_held, struct dr_err *err)
{
    const struct sqs_record *record = is_held ? &x->out_of_use : &x->in_use;
    const char *name = is_held ? x->held : x->id->name;
    bool is_there = is_held ? x->has_held : x->has_table;
    bool is_other_there = is_held ? x->has_table : x->has_held;
    if (!is_there && !record->is_there) {
        return DR_OK;
    }
    if (!record->is_ours) {
        return refuse_foreign(x, err);
    }
    enum dr_code rc = DR_OK;
    if (is_there) {
        rc = sqs_run(x, dr_arena_printf(x->a, "DROP TABLE \"%s\"", name), err);
    }
    /* The log is of whichever form is left. */
    if (rc == DR_OK && !is_other_there) {
        rc = sqs_drop_capture(x, err);
    }
    return rc == DR_OK ? sqs_drop_record(x, is_held ? "held" : "shard", err) : rc;
}

enum dr_code sqs_drop(void *impl, const struct dr_shard_id *id, bool is_held, struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_write(impl, id, false, &x, err);
    return rc == DR_OK ? sqs_end(&x, drop_form(&x, is_held, err), err) : rc;
}

/* ---- holding ---- */

/* ALTER TABLE takes the triggers along: a fenced shard is still fenced when it comes back. */
static enum dr_code change_form(struct sqs *x, bool is_on, struct dr_err *err)
{
    const struct sqs_record *from = is_on ? &x->in_use : &x->out_of_use;
    const struct sqs_record *to = is_on ? &x->out_of_use : &x->in_use;
    bool is_there = is_on ? x->has_table : x->has_held;
    bool is_done = is_on ? x->has_held : x->has_table;
    const char *from_name = is_on ? x->id->name : x->held;
    const char *to_name = is_on ? x->held : x->id->name;
    if (!is_there) {
        if (is_done) {
            return to->is_ours ? DR_OK : refuse_foreign(x, err);
        }
        return dr_fail(err, DR_NOT_FOUND, "%s: there is no table \"%s\"", x->n->path, from_name);
    }
    if (!from->is_ours) {
        return refuse_foreign(x, err);
    }
    if (is_done || to->is_there) {
        return dr_fail(err, DR_CONFLICT, "%s: \"%s\" exists already; drop one of the two",
                       x->n->path, to_name);
    }
    enum dr_code rc = sqs_run(
        x, dr_arena_printf(x->a, "ALTER TABLE \"%s\" RENAME TO \"%s\"", from_name, to_name), err);
    return rc == DR_OK
               ? change_records(x,
                                is_on ? "UPDATE drover_shards SET role = 'held' WHERE name = ? "
                                        "AND role = ?"
                                      : "UPDATE drover_shards SET role = 'shard' WHERE name = ? "
                                        "AND role = ?",
                                is_on ? "shard" : "held", err)
               : rc;
}

enum dr_code sqs_hold(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_write(impl, id, false, &x, err);
    return rc == DR_OK ? sqs_end(&x, change_form(&x, is_on, err), err) : rc;
}

/* ---- telling ---- */

static enum dr_code tell(struct sqs *x, struct dr_shard_facts *out, struct dr_err *err)
{
    int64_t rows = 0;
    int64_t log_rows = 0;
    enum dr_code rc = DR_OK;
    const char *name = x->has_table ? x->id->name : x->has_held ? x->held : NULL;
    if (name != NULL) {
        rc = ask_int(x, dr_arena_printf(x->a, "SELECT count(*) FROM \"%s\"", name), &rows, err);
    }
    if (rc == DR_OK && x->is_captured) {
        rc = ask_int(x, dr_arena_printf(x->a, "SELECT count(*) FROM \"%s\"", x->log), &log_rows,
                     err);
    }
    *out = (struct dr_shard_facts){
        .exists = x->has_table,
        .is_owned = x->in_use.is_there ? x->in_use.is_ours : !x->has_table && x->out_of_use.is_ours,
        .is_captured = x->is_captured,
        .is_fenced = x->is_fenced,
        .is_held = x->has_held,
        .rows = (uint64_t)rows,
        .log_rows = (uint64_t)log_rows,
    };
    return rc;
}

enum dr_code sqs_facts(void *impl, const struct dr_shard_id *id, struct dr_shard_facts *out,
                       struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_read(impl, id, &x, err);
    return rc == DR_OK ? give_up(&x, tell(&x, out, err)) : rc;
}

static bool copy_record(sqlite3_stmt *st, struct dr_arena *a, struct dr_shard_record *r)
{
    r->name = dr_arena_strdup(a, dr_sql_text(st, 0));
    r->role = dr_arena_strdup(a, dr_sql_text(st, 1));
    r->table = dr_arena_strdup(a, dr_sql_text(st, 2));
    r->owner = dr_arena_strdup(a, dr_sql_text(st, 3));
    r->operation = dr_arena_strdup(a, dr_sql_text(st, 4));
    r->created_at = sqlite3_column_int64(st, 5);
    r->exists = sqlite3_column_int(st, 6) != 0;
    return r->name != NULL && r->role != NULL && r->table != NULL && r->owner != NULL &&
           r->operation != NULL;
}

static enum dr_code list_records(struct sq_node *n, struct dr_arena *a,
                                 struct dr_shard_record **out, uint32_t *count_out,
                                 struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    int64_t room = 0;
    enum dr_code rc = dr_sql_int(&n->sql, "SELECT count(*) FROM pragma_table_info('drover_shards')",
                                 0, &room, err);
    if (rc != DR_OK || room == 0) {
        return rc;
    }
    rc = dr_sql_int(&n->sql, "SELECT count(*) FROM drover_shards", 0, &room, err);
    room = room > RECORDS_MAX ? RECORDS_MAX : room;
    struct dr_shard_record *r =
        rc == DR_OK ? dr_arena_alloc(a, ((size_t)room + 1) * sizeof *r) : NULL;
    rc = rc == DR_OK && r == NULL ? dr_fail_nomem(err) : rc;
    rc = rc == DR_OK
             ? sq_prepare(n,
                          "SELECT name, role, \"table\", owner, operation, created_at, EXISTS("
                          "SELECT 1 FROM sqlite_master m WHERE m.type = 'table' AND m.name = CASE "
                          "role WHEN 'log' THEN '" SQS_LOG "' WHEN 'held' THEN '" SQS_HELD
                          "' ELSE '' END || s.name COLLATE NOCASE) FROM drover_shards s ORDER BY "
                          "name, role",
                          &st, err)
             : rc;
    uint32_t count = 0;
    while (rc == DR_OK && (int64_t)count < room) {
        rc = dr_sql_step(&n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        rc = copy_record(st, a, &r[count++]) ? DR_OK : dr_fail_nomem(err);
    }
    sq_done(st);
    *out = rc == DR_OK ? r : NULL;
    *count_out = rc == DR_OK ? count : 0;
    return rc;
}

enum dr_code sqs_records(void *impl, struct dr_arena *a, struct dr_shard_record **out,
                         uint32_t *count_out, struct dr_err *err)
{
    struct sq_store *s = impl;
    struct sq_node *n = NULL;
    if (!s->is_plain) {
        return DR_OK; /* a layout file holds no shards of ours */
    }
    enum dr_code rc = sq_node_find(s, "main", &n, err);
    rc = rc == DR_OK ? sq_begin_read(n, err) : rc;
    if (rc == DR_OK) {
        rc = list_records(n, a, out, count_out, err);
        sq_end_read(n);
    }
    return rc;
}
