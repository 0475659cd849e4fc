/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the triggers of a shard: those that log the keys of what changes, and those that refuse
 * every write. Making them takes the file's write lock, so a writer either committed before and is
 * in the log or the copy, or meets the trigger. */
#include <string.h>

#include "store/sqlite/shard_private.h"

/* ---- capture ---- */

/* "OLD.\"a\", OLD.\"b\"" for the key's columns. */
static void add_key(struct dr_str *out, const struct sqs_shape *shape, const char *const *quoted,
                    const char *prefix)
{
    for (uint32_t i = 0; i < shape->key_count; i++) {
        dr_str_addf(out, "%s%s%s", i == 0 ? "" : ", ", prefix, quoted[shape->key[i]]);
    }
}

static void add_insert(struct dr_str *out, const struct sqs *x, const struct sqs_shape *shape)
{
    dr_str_addf(out, "INSERT INTO \"%s\"(", x->log);
    for (uint32_t i = 0; i < shape->key_count; i++) {
        dr_str_addf(out, "%sk%u", i == 0 ? "" : ", ", i);
    }
    dr_str_add(out, ") SELECT ");
}

static void begin_trigger(struct dr_str *out, const struct sqs *x, const char *table, char when,
                          const char *event)
{
    dr_str_addf(out, "CREATE TRIGGER \"" SQS_LOG "%c_%s\" AFTER %s ON \"%s\" BEGIN ", when,
                x->id->name, event, table);
}

static void add_triggers(struct dr_str *out, const struct sqs *x, const char *table,
                         const struct sqs_shape *shape, const char *const *quoted)
{
    begin_trigger(out, x, table, 'i', "INSERT");
    add_insert(out, x, shape);
    add_key(out, shape, quoted, "NEW.");
    dr_str_add(out, "; END;");
    begin_trigger(out, x, table, 'd', "DELETE");
    add_insert(out, x, shape);
    add_key(out, shape, quoted, "OLD.");
    dr_str_add(out, "; END;");
    begin_trigger(out, x, table, 'u', "UPDATE");
    add_insert(out, x, shape);
    add_key(out, shape, quoted, "OLD.");
    dr_str_add(out, "; ");
    add_insert(out, x, shape);
    add_key(out, shape, quoted, "NEW.");
    /* A changed key is two keys. Bytes count: a collation may take two keys for one. */
    dr_str_add(out, " WHERE ");
    for (uint32_t i = 0; i < shape->key_count; i++) {
        const char *name = quoted[shape->key[i]];
        dr_str_addf(out, "%sNEW.%s IS NOT OLD.%s COLLATE BINARY", i == 0 ? "" : " OR ", name, name);
    }
    dr_str_add(out, "; END;");
}

/* "(\"u\" = NEW.\"u\") OR ...", a part for every unique index beside the primary key; empty where
 * there is none. One over an expression is left out. */
static enum dr_code add_unique(struct dr_str *out, struct sqs *x, const char *table,
                               struct dr_err *err)
{
    sqlite3_stmt *st = NULL;
    bool is_row = false;
    int64_t index = -1;
    enum dr_code rc =
        sq_prepare(x->n,
                   "SELECT l.seq, i.name FROM pragma_index_list(?1) l, pragma_index_info(l.name) i "
                   "WHERE l.\"unique\" AND l.origin <> 'pk' AND NOT EXISTS(SELECT 1 FROM "
                   "pragma_index_info(l.name) e WHERE e.name IS NULL) ORDER BY l.seq, i.seqno",
                   &st, err);
    if (rc == DR_OK) {
        (void)sqlite3_bind_text(st, 1, table, -1, SQLITE_STATIC);
    }
    while (rc == DR_OK) {
        rc = dr_sql_step(&x->n->sql, st, &is_row, err);
        if (rc != DR_OK || !is_row) {
            break;
        }
        bool is_same = sqlite3_column_int64(st, 0) == index;
        const char *name = sq_quote(x->a, dr_sql_text(st, 1));
        dr_str_add(out, is_same ? " AND " : index < 0 ? "(" : ") OR (");
        dr_str_addf(out, "%s = NEW.%s", name == NULL ? "" : name, name == NULL ? "" : name);
        index = sqlite3_column_int64(st, 0);
        rc = name == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_str_add(out, index < 0 ? "" : ")");
    sq_done(st);
    return rc;
}

/* REPLACE throws a row out that has the same value in a unique column, and tells no trigger of it:
 * such a row's key is noted beforehand. Where it stays after all, nothing is lost by looking. */
static enum dr_code add_thrown_out(struct dr_str *out, struct sqs *x, const char *table,
                                   const struct sqs_shape *shape, struct dr_err *err)
{
    struct dr_str where;
    dr_str_init(&where);
    enum dr_code rc = add_unique(&where, x, table, err);
    for (int i = 0; rc == DR_OK && where.len > 0 && i < 2; i++) {
        dr_str_addf(out, "CREATE TRIGGER \"" SQS_LOG "%c_%s\" BEFORE %s ON \"%s\" BEGIN ",
                    i == 0 ? 'r' : 'q', x->id->name, i == 0 ? "INSERT" : "UPDATE", table);
        add_insert(out, x, shape);
        dr_str_addf(out, "%s FROM \"%s\" WHERE %s; END;", shape->key_columns, table,
                    dr_str_text(&where));
    }
    if (where.is_short) {
        rc = dr_fail_nomem(err);
    }
    dr_str_fini(&where);
    return rc;
}

/* Columns without a type: a key is kept as it is, byte by byte. */
static void add_log_table(struct dr_str *out, const struct sqs *x, const struct sqs_shape *shape)
{
    dr_str_addf(out, "CREATE TABLE IF NOT EXISTS \"%s\"(id INTEGER PRIMARY KEY AUTOINCREMENT",
                x->log);
    for (uint32_t i = 0; i < shape->key_count; i++) {
        dr_str_addf(out, ", k%u", i);
    }
    dr_str_add(out, ");");
}

static enum dr_code start_capture(struct sqs *x, struct dr_err *err)
{
    const char *name = NULL;
    struct sqs_shape shape;
    struct dr_str text;
    enum dr_code rc = sqs_thing(x, &name, err);
    if (rc != DR_OK || (x->is_captured && x->logged.is_ours)) {
        return rc;
    }
    if (x->has_log && !x->logged.is_ours) {
        return dr_fail(err, DR_EXISTS, "%s: \"%s\" exists and is not on record as this shard's log",
                       x->n->path, x->log);
    }
    dr_str_init(&text);
    rc = sqs_read_shape(x->n, name, x->a, &shape, err);
    rc = rc == DR_OK ? sqs_add_record(x, "log", "", "", err) : rc;
    if (rc == DR_OK) {
        add_log_table(&text, x, &shape);
        add_triggers(&text, x, name, &shape, shape.quoted);
        rc = add_thrown_out(&text, x, name, &shape, err);
    }
    if (rc == DR_OK) {
        rc = text.is_short ? dr_fail_nomem(err) : sqs_run(x, dr_str_text(&text), err);
    }
    dr_str_fini(&text);
    return rc;
}

enum dr_code sqs_capture(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_write(impl, id, is_on, &x, err);
    if (rc != DR_OK) {
        return rc;
    }
    return sqs_end(&x, is_on ? start_capture(&x, err) : sqs_drop_capture(&x, err), err);
}

/* ---- fence ---- */

static enum dr_code drop_fence(struct sqs *x, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (const char *when = "iud"; rc == DR_OK && *when != '\0'; when++) {
        rc = sqs_run(x,
                     dr_arena_printf(x->a, "DROP TRIGGER IF EXISTS \"" SQS_FENCE "%c_%s\"", *when,
                                     x->id->name),
                     err);
    }
    return rc;
}

static enum dr_code make_fence(struct sqs *x, struct dr_err *err)
{
    static const struct {
        char when;
        const char *event;
    } triggers[] = {{'i', "INSERT"}, {'u', "UPDATE"}, {'d', "DELETE"}};
    const char *name = NULL;
    enum dr_code rc = sqs_thing(x, &name, err);
    if (rc != DR_OK || x->is_fenced) {
        return rc;
    }
    for (size_t i = 0; rc == DR_OK && i < sizeof triggers / sizeof triggers[0]; i++) {
        rc = sqs_run(x,
                     dr_arena_printf(x->a,
                                     "CREATE TRIGGER IF NOT EXISTS \"" SQS_FENCE
                                     "%c_%s\" BEFORE %s ON \"%s\" WHEN NOT EXISTS (SELECT 1 FROM "
                                     "drover_pass) BEGIN SELECT RAISE(ABORT, 'drover: shard "
                                     "moved, ask the catalog'); END",
                                     triggers[i].when, x->id->name, triggers[i].event, name),
                     err);
    }
    return rc;
}

static enum dr_code stop_fence(struct sqs *x, struct dr_err *err)
{
    const char *name = NULL;
    if (!x->has_table && !x->has_held) {
        return DR_OK; /* its triggers went with it */
    }
    enum dr_code rc = sqs_thing(x, &name, err);
    return rc == DR_OK ? drop_fence(x, err) : rc;
}

/* Taking a fence down that is not up must not wait for whoever kept it from being put up. */
static enum dr_code look_for_fence(void *impl, const struct dr_shard_id *id, bool *is_up,
                                   struct dr_err *err)
{
    struct sqs x;
    enum dr_code rc = sqs_begin_read(impl, id, &x, err);
    if (rc != DR_OK) {
        return rc;
    }
    *is_up = x.is_fenced;
    (void)sqs_end(&x, DR_STOPPED, NULL);
    return DR_OK;
}

static void set_wait(struct sq_store *s, dr_mono_ms ms)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->node[i]->sql.db != NULL) {
            (void)sqlite3_busy_timeout(s->node[i]->sql.db, ms > INT32_MAX ? INT32_MAX
                                                           : ms > 0       ? (int)ms
                                                                          : 1);
        }
    }
}

/* The write lock is waited for no longer than `wait_ms`, nor is the end of readers in the way of
 * the commit. */
enum dr_code sqs_fence(void *impl, const struct dr_shard_id *id, bool is_on, uint32_t wait_ms,
                       struct dr_err *err)
{
    struct sqs x;
    struct sq_store *s = impl;
    bool is_up = false;
    dr_mono_ms until = dr_mono_now() + wait_ms;
    enum dr_code rc = look_for_fence(impl, id, &is_up, err);
    if (rc != DR_OK || (!is_on && !is_up)) {
        return rc;
    }
    set_wait(s, wait_ms);
    rc = sqs_begin_write(impl, id, is_on, &x, err);
    if (rc == DR_OK) {
        set_wait(s, until - dr_mono_now());
        rc = sqs_end(&x, is_on ? make_fence(&x, err) : stop_fence(&x, err), err);
    }
    set_wait(s, SQ_BUSY_MS);
    return rc;
}
