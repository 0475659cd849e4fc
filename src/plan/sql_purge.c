/* SPDX-License-Identifier: Apache-2.0 */
/* "sql.purge": the rows of one table that an expression selects, or the whole table at once.
 *
 *   rows      one walk along a key, whose evidence (the server's own EXPLAIN) the survey brings
 *   truncate  one command, without undo
 *   drop      rename, hold until a date, drop: only the last has no undo
 *
 * Pure: reads request and survey, allocates from the plan's arena. */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "plan/plan_private.h"
#include "store/hold.h"

enum { MANY_SHARE = 10, SORTED_ROWS_MAX = 10000, DATE_BYTES = 40, NUMBER_BYTES = 40 };

static const char undo_nothing[] = "{\"do\":\"nothing\"}";

/* What the survey says in the adapter's own words. Borrowed from `extra`. */
struct facts {
    json_t *extra; /* owned */
    const char *dialect;
    const char *key; /* "a, b" in the arena; NULL: no usable key */
    const char *first_column;
    const char *key_index;
    const char *plan;
    const char *advice;
    bool is_unique;
    bool uses_index;
    bool is_sorted_by_index; /* the index is used, but not in its order, for a few rows */
    bool serves;             /* an index narrows what the expression selects */
    bool matches_all;
};

static const struct dr_sql_purge *wants(const struct dr_plan *p)
{
    return &p->request->u.sql_purge;
}

/* --- facts ----------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key, const char *absent)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL || text[0] == '\0' ? absent : text;
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_' || (unsigned char)c >= 0x80;
}

/* Does the expression name a column, outside of texts? */
static bool names_column(const char *where, const char *column)
{
    size_t bytes = strlen(column);
    bool is_in_text = false;
    char before = ' ';
    for (const char *at = where; *at != '\0'; before = *at, at++) {
        is_in_text = *at == '\'' ? !is_in_text : is_in_text;
        if (!is_in_text && !is_name_byte(before) && strncasecmp(at, column, bytes) == 0 &&
            !is_name_byte(at[bytes])) {
            return true;
        }
    }
    return false;
}

static enum dr_code list_key(struct dr_plan *p, struct facts *f, struct dr_err *err)
{
    const json_t *key = json_object_get(f->extra, "key");
    for (size_t i = 0; i < json_array_size(key); i++) {
        const char *column = json_string_value(json_array_get(key, i));
        if (column == NULL) {
            return dr_fail(err, DR_CORRUPT, "%s: the survey's key is no list of columns",
                           p->target);
        }
        f->first_column = i == 0 ? column : f->first_column;
        f->key = i == 0 ? dr_arena_strdup(p->arena, column)
                        : dr_arena_printf(p->arena, "%s, %s", f->key, column);
        if (f->key == NULL) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code read_facts(struct dr_plan *p, const struct dr_collection *c, struct facts *f,
                               struct dr_err *err)
{
    const char *where = wants(p)->where;
    if (p->survey->extra == NULL) {
        return dr_fail(err, DR_INTERNAL, "%s: a survey without evidence", p->target);
    }
    enum dr_code rc =
        dr_json_parse("survey", p->survey->extra, strlen(p->survey->extra), &f->extra, err);
    if (rc != DR_OK) {
        return rc;
    }
    f->dialect = text_of(f->extra, "dialect", "?");
    f->key_index = text_of(f->extra, "key_index", NULL);
    f->plan = text_of(f->extra, "plan", "?");
    f->advice = text_of(f->extra, "advice", NULL);
    f->is_unique = json_is_true(json_object_get(f->extra, "key_is_unique"));
    f->uses_index = json_is_true(json_object_get(f->extra, "uses_index"));
    f->matches_all = json_is_true(json_object_get(f->extra, "matches_all"));
    rc = list_key(p, f, err);
    /* The few rows that the walked index finds may be sorted for each batch. */
    f->is_sorted_by_index = !f->uses_index && f->key_index != NULL &&
                            c->rows_matched <= SORTED_ROWS_MAX &&
                            names_column(f->plan, f->key_index);
    f->serves = f->is_sorted_by_index || json_is_true(json_object_get(f->extra, "serves")) ||
                (where != NULL && f->first_column != NULL && names_column(where, f->first_column));
    return rc;
}

/* --- refusals -------------------------------------------------------------------------------- */

/* "app.sessions (cascade), app.keys": texts, or objects with "table" and "rule". */
static enum dr_code guard_cascades(struct dr_plan *p, const struct facts *f, struct dr_err *err)
{
    const json_t *list = json_object_get(f->extra, "cascades");
    struct dr_str names;
    dr_str_init(&names);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *table =
            json_is_string(one) ? json_string_value(one) : text_of(one, "table", "?");
        const char *rule = text_of(one, "rule", NULL);
        dr_str_addf(&names, "%s%s", i == 0 ? "" : ", ", table);
        if (rule != NULL) {
            dr_str_addf(&names, " (on delete %s)", rule);
        }
    }
    enum dr_code rc = DR_OK;
    if (names.len > 0) {
        rc = dr_fail(err, DR_REFUSED,
                     "%s: deleting its rows would change rows of %s, which nobody archives; purge "
                     "the children first, then drop those constraints or their rows are gone",
                     p->target, dr_str_text(&names));
    }
    dr_str_fini(&names);
    return rc;
}

static enum dr_code guard_key(struct dr_plan *p, const struct facts *f, struct dr_err *err)
{
    if (f->key == NULL && !wants(p)->allow_no_key) {
        return dr_fail(
            err, DR_REFUSED,
            "%s: no usable key: no primary key and no unique index over columns that are "
            "never NULL. Add one, or set \"allow_no_key\": true (--allow-no-key) to take "
            "rows one at a time by all their columns, which is slow",
            p->target);
    }
    return DR_OK;
}

static enum dr_code guard_all(struct dr_plan *p, const struct dr_collection *c,
                              const struct facts *f, struct dr_err *err)
{
    char rows[NUMBER_BYTES];
    if (!f->matches_all || p->request->whole_collection) {
        return DR_OK;
    }
    return dr_fail(
        err, DR_REFUSED,
        "%s: the expression selects all %s rows. %s%sFor a whole table --mode truncate or "
        "--mode drop is one step instead of many, and so is dropping a partition; set "
        "\"whole_collection\": true (--whole-table) if row by row is what is meant",
        p->target, dr_human_count(c->rows_total, rows, sizeof rows),
        f->advice == NULL ? "" : f->advice, f->advice == NULL ? "" : ". ");
}

static enum dr_code guard_plan(struct dr_plan *p, const struct dr_collection *c,
                               const struct facts *f, struct dr_err *err)
{
    if (f->uses_index || f->is_sorted_by_index || f->key == NULL || c->rows_total == 0 ||
        c->rows_matched == 0) {
        return DR_OK;
    }
    return dr_fail(err, DR_REFUSED,
                   "%s: the statement uses no index (%s): every batch would read or sort the whole "
                   "table. Refresh the table's statistics (ANALYZE), or name with \"key\" (--key) "
                   "columns that have an index",
                   p->target, f->plan);
}

/* --- strategy of rows ------------------------------------------------------------------------ */

/* An index whose first column the expression names, other than the one that is walked. */
static const struct dr_index *find_better(const struct dr_plan *p, const struct dr_collection *c,
                                          const struct facts *f)
{
    for (uint32_t i = 0; i < c->index_count; i++) {
        const struct dr_index *x = &c->index[i];
        bool is_walked = f->key_index != NULL && strcmp(x->name, f->key_index) == 0;
        if (!is_walked && !x->is_partial && x->field_count > 0 &&
            names_column(wants(p)->where, x->field[0])) {
            return x;
        }
    }
    return NULL;
}

static enum dr_code need_consent(struct dr_plan *p, const struct dr_collection *c,
                                 const struct facts *f, struct dr_err *err)
{
    char rows[NUMBER_BYTES];
    char matched[NUMBER_BYTES];
    if (p->request->allow_scan || c->rows_total == 0) {
        return DR_OK;
    }
    const struct dr_index *better = find_better(p, c, f);
    (void)dr_human_count(c->rows_total, rows, sizeof rows);
    (void)dr_human_count(c->rows_matched, matched, sizeof matched);
    if (better == NULL) {
        return dr_fail(err, DR_REFUSED,
                       "%s: no index serves the expression, so scan (low) would read %s rows for "
                       "the %s that match. Set \"allow_scan\": true (--allow-scan) to accept that, "
                       "or create an index and name its columns with \"key\" (--key)",
                       p->target, rows, matched);
    }
    return dr_fail(err, DR_REFUSED,
                   "%s: a walk by its key would scan (low) %s rows for the %s that match. Index %s "
                   "fits better: name its columns with \"key\" (--key %s), or set \"allow_scan\": "
                   "true (--allow-scan)",
                   p->target, rows, matched, better->name, better->field[0]);
}

static enum dr_code choose_strategy(struct dr_plan *p, const struct dr_collection *c,
                                    const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    char matched[NUMBER_BYTES];
    char rows[NUMBER_BYTES];
    bool is_many =
        c->rows_matched >= c->rows_total / MANY_SHARE + (c->rows_total % MANY_SHARE != 0);
    const char *walk = f->key == NULL ? "without a key, row by row"
                                      : dr_arena_printf(p->arena, "by %s key (%s)%s%s",
                                                        f->is_unique ? "the unique" : "the", f->key,
                                                        f->key_index == NULL ? "" : ", index ",
                                                        f->key_index == NULL ? "" : f->key_index);
    (void)dr_human_count(c->rows_matched, matched, sizeof matched);
    (void)dr_human_count(c->rows_total, rows, sizeof rows);
    pick->part.strategy = DR_BY_FULL_SCAN;
    if (f->key != NULL && (f->uses_index || f->is_sorted_by_index)) {
        pick->part.strategy = f->uses_index && f->is_unique && is_many ? DR_BY_CHUNK_RANGE
                              : f->serves                              ? DR_BY_INDEXED
                                                                       : DR_BY_FULL_SCAN;
    }
    const char *how = pick->part.strategy == DR_BY_CHUNK_RANGE ? "many of the rows read match"
                      : pick->part.strategy == DR_BY_INDEXED   ? "an index serves the expression"
                                                               : "no index serves the expression";
    pick->part.why = walk == NULL ? NULL
                                  : dr_arena_printf(p->arena, "%s: %s, %s of %s rows (%s: %s)",
                                                    walk, how, matched, rows, f->dialect, f->plan);
    if (pick->part.why == NULL) {
        return dr_fail_nomem(err);
    }
    return pick->part.strategy == DR_BY_FULL_SCAN ? need_consent(p, c, f, err) : DR_OK;
}

static enum dr_code pick_rows(struct dr_plan *p, const struct dr_collection *c,
                              const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    enum dr_code rc = guard_cascades(p, f, err);
    rc = rc == DR_OK ? dr_plan_guard_collection(p, c, err) : rc;
    rc = rc == DR_OK ? guard_key(p, f, err) : rc;
    rc = rc == DR_OK ? guard_all(p, c, f, err) : rc;
    rc = rc == DR_OK ? guard_plan(p, c, f, err) : rc;
    rc = rc == DR_OK ? choose_strategy(p, c, f, pick, err) : rc;
    if (rc == DR_OK && f->key == NULL) {
        rc = dr_pick_warn(p, pick,
                          "without a key: of rows alike in every column one at a time goes, and "
                          "each deletion may read the whole table",
                          err);
    }
    if (rc == DR_OK && f->advice != NULL) {
        rc = dr_pick_warn(p, pick, f->advice, err);
    }
    pick->access = DR_BY_SCAN;
    pick->is_spec_of_request = true;
    pick->work_count = 1;
    pick->part.estimated = c->chunk[0].rows;
    pick->is_estimate_known = c->chunk[0].is_rows_known;
    p->where = wants(p)->where;
    return rc;
}

/* --- whole tables ---------------------------------------------------------------------------- */

static enum dr_code add_command(struct dr_plan *p, struct dr_pick *pick, uint32_t stage,
                                const struct dr_whole_command *command,
                                const struct dr_whole_command *undo, const char *title,
                                struct dr_err *err)
{
    struct dr_told *told = &pick->told[pick->told_count++];
    struct dr_str text;
    dr_str_init(&text);
    dr_whole_print(command, &text);
    *told = (struct dr_told){.stage = stage, .title = title};
    told->query = dr_arena_strdup(p->arena, dr_str_text(&text));
    bool is_short = text.is_short || told->query == NULL || title == NULL;
    dr_str_clear(&text);
    if (command->what == DR_WHOLE_HOLD) {
        told->undo = undo_nothing;
    } else if (undo != NULL) {
        dr_whole_print(undo, &text);
        told->undo = dr_arena_strdup(p->arena, dr_str_text(&text));
        is_short = is_short || told->undo == NULL;
    }
    is_short = is_short || text.is_short;
    dr_str_fini(&text);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code add_drop(struct dr_plan *p, struct dr_pick *pick, struct dr_err *err)
{
    const struct dr_sql_purge *want = wants(p);
    const char *schema = p->request->database;
    char date[DATE_BYTES];
    const char *held = dr_arena_printf(p->arena, "%s%s", want->table, DR_HOLD_SUFFIX);
    const struct dr_whole_command rename = {
        .what = DR_WHOLE_RENAME, .schema = schema, .name = want->table, .to = held};
    const struct dr_whole_command back = {
        .what = DR_WHOLE_RENAME, .schema = schema, .name = held, .to = want->table};
    const struct dr_whole_command hold = {.what = DR_WHOLE_HOLD, .until = want->hold_until};
    const struct dr_whole_command drop = {.what = DR_WHOLE_DROP, .schema = schema, .name = held};
    if (held == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = add_command(p, pick, DR_STAGE_ERASE, &rename, &back,
                                  dr_arena_printf(p->arena, "rename to %s:", held), err);
    if (rc == DR_OK && want->hold_until > 0) {
        (void)dr_wall_text(want->hold_until, date, sizeof date);
        rc = add_command(p, pick, DR_STAGE_VERIFY, &hold, NULL,
                         dr_arena_printf(p->arena, "hold until %s:", date), err);
    }
    return rc == DR_OK ? add_command(p, pick, DR_STAGE_DROP, &drop, NULL, "drop with its rows", err)
                       : rc;
}

static enum dr_code guard_whole(struct dr_plan *p, const struct dr_collection *c,
                                const struct facts *f, struct dr_err *err)
{
    bool is_drop = wants(p)->mode == DR_SQL_DROP;
    struct dr_collection seen = *c;
    seen.has_triggers = false; /* neither way runs triggers of rows */
    enum dr_code rc = dr_plan_guard_collection(p, &seen, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->has_reference) {
        return dr_fail(err, DR_REFUSED,
                       "%s: other tables refer to it, so the server would refuse %s or they would "
                       "lose what they refer to; purge the children first and drop their "
                       "constraints, or use mode \"rows\"",
                       p->target, is_drop ? "to drop it" : "TRUNCATE");
    }
    if (!is_drop && strcmp(f->dialect, "sqlite") == 0) {
        return dr_fail(err, DR_REFUSED,
                       "%s: SQLite has no TRUNCATE; use --mode drop, or --mode rows with "
                       "--whole-table",
                       p->target);
    }
    if ((p->can & DR_CAN_COMMAND) == 0) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store runs no commands; use mode \"rows\"",
                       p->target);
    }
    return DR_OK;
}

static enum dr_code pick_table(struct dr_plan *p, const struct dr_collection *c,
                               const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    const struct dr_sql_purge *want = wants(p);
    const struct dr_whole_command truncate = {
        .what = DR_WHOLE_TRUNCATE, .schema = p->request->database, .name = want->table};
    enum dr_code rc = guard_whole(p, c, f, err);
    if (rc != DR_OK) {
        return rc;
    }
    pick->part.strategy = DR_BY_CHUNK_RANGE;
    pick->part.estimated = c->rows_total;
    pick->is_estimate_known = true;
    if (want->mode == DR_SQL_DROP) {
        pick->part.why = want->hold_until > 0
                             ? "the whole table goes: renamed, held, then dropped"
                             : "the whole table goes: renamed, then dropped at once";
        return add_drop(p, pick, err);
    }
    pick->part.why = "the whole table is emptied by one command";
    return add_command(p, pick, DR_STAGE_ERASE, &truncate, NULL, "truncate", err);
}

/* --- the whole ------------------------------------------------------------------------------- */

/* Steps refer to the request without repeating it, so that the plan's hash must cover what it
 * selects. */
static enum dr_code keep_selection(struct dr_plan *p, struct dr_err *err)
{
    static const char *const keys[] = {"where", "key", "last_key", "mode", "allow_no_key"};
    json_t *chosen = json_object();
    enum dr_code rc = chosen == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(p->request->json, keys[i]);
        if (value != NULL && json_object_set(chosen, keys[i], value) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    char *text = rc == DR_OK ? dr_json_text(chosen) : NULL;
    p->selection = text == NULL ? NULL : dr_arena_strdup(p->arena, text);
    dr_free(text);
    json_decref(chosen);
    return rc == DR_OK && p->selection == NULL ? dr_fail_nomem(err) : rc;
}

static const struct dr_collection *find_table(const struct dr_plan *p)
{
    for (uint32_t i = 0; i < p->survey->collection_count; i++) {
        const struct dr_collection *c = &p->survey->collection[i];
        if (strcmp(c->name, p->target) == 0 && (c->chunk_count == 1 || c->is_view)) {
            return c;
        }
    }
    return NULL;
}

enum dr_code dr_plan_sql_purge(struct dr_plan *p, struct dr_err *err)
{
    struct dr_pick *pick = &p->pick[0];
    struct facts f = {.dialect = "?", .plan = "?"};
    p->target = dr_request_target(p->request);
    const struct dr_collection *c = find_table(p);
    if (c == NULL) {
        return dr_fail(err, DR_NOT_FOUND,
                       "%s: there is no such table; check \"database\" and \"table\"", p->target);
    }
    enum dr_code rc = read_facts(p, c, &f, err);
    if (rc != DR_OK) {
        goto out;
    }
    *pick = (struct dr_pick){.collection = c, .is_routed = true};
    pick->part =
        (struct dr_plan_part){.collection = c->name, .total = c->rows_total, .warning = c->warning};
    rc = wants(p)->mode == DR_SQL_ROWS ? pick_rows(p, c, &f, pick, err)
                                       : pick_table(p, c, &f, pick, err);
    p->pick_count = rc == DR_OK ? 1 : 0;
    rc = rc == DR_OK ? keep_selection(p, err) : rc;
out:
    json_decref(f.extra);
    return rc;
}
