/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the fleet's vocabulary: reading its commands strictly, and running those that are one call
 * to one node. Any other text is the node's own command and goes there as it is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "store/fleet/fleet_private.h"
#include "store/hold.h"

enum { LEFT_MAX = 1000000, FENCE_MS_MAX = 600000, SHARDS_MAX = 100000 };

static const char fleet_begin[] = "{\"fleet\":";

/* Fields of a command besides "fleet". */
enum {
    HAS_ENTRY = 1,
    HAS_SHARD = 2,
    HAS_COLUMNS = 4,
    HAS_MOVE = 8,    /* "from": NODE, "to": [NODES] */
    HAS_LEFT = 16,   /* "left_max" */
    HAS_SWITCH = 32, /* "number", "from": [NODES], "to": [NODES], "fence_ms" */
    HAS_UNTIL = 64,
    HAS_RETIRE = 128, /* "uncapture", "drop" */
    HAS_EMPTY = 256,  /* "only_empty" */
    HAS_URL = 512,    /* "url", "command" */
};

static const struct {
    const char *name;
    unsigned has;
} verbs[FL_WHAT_COUNT] = {
    [FL_CATALOG] = {"catalog", HAS_ENTRY},
    [FL_ENSURE] = {"ensure", HAS_SHARD | HAS_COLUMNS},
    [FL_DROP] = {"drop", HAS_SHARD | HAS_EMPTY},
    [FL_CAPTURE] = {"capture", HAS_SHARD},
    [FL_UNCAPTURE] = {"uncapture", HAS_SHARD},
    [FL_COPY] = {"copy", HAS_SHARD | HAS_MOVE},
    [FL_FOLLOW] = {"follow", HAS_SHARD | HAS_MOVE | HAS_LEFT},
    [FL_VERIFY] = {"verify", HAS_SHARD | HAS_MOVE},
    [FL_CUTOVER] = {"cutover", HAS_SHARD | HAS_SWITCH},
    [FL_CUTBACK] = {"cutback", HAS_SHARD | HAS_SWITCH},
    [FL_HOLD] = {"hold", HAS_SHARD},
    [FL_UNHOLD] = {"unhold", HAS_SHARD},
    [FL_HOLD_UNTIL] = {"hold-until", HAS_UNTIL},
    [FL_RETIRE] = {"retire", HAS_SHARD | HAS_RETIRE},
    [FL_CLEAN] = {"clean", HAS_SHARD | HAS_URL},
    [FL_GIVE_UP] = {"give-up", 0},
};

const char *fl_what_name(enum fl_what what)
{
    return verbs[what].name;
}

bool fl_is_command(const char *text)
{
    return strncmp(text, fleet_begin, strlen(fleet_begin)) == 0;
}

bool fl_has_name(const struct fl_names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

static void read_shard(struct dr_jr *r, struct fl_command *c)
{
    const json_t *shard = NULL;
    struct dr_jr s;
    if (!dr_jr_object(r, "shard", true, &shard)) {
        return;
    }
    dr_jr_init(&s, shard, "command.shard", r->err);
    (void)dr_jr_string(&s, "name", true, &c->shard.name);
    (void)dr_jr_string(&s, "table", true, &c->shard.table);
    (void)dr_jr_string(&s, "owner", true, &c->shard.owner);
    (void)dr_jr_string(&s, "operation", true, &c->shard.operation);
    r->rc = dr_jr_finish(&s);
}

static bool is_node_name(const char *name)
{
    size_t bytes = strlen(name);
    return bytes > 0 && bytes <= FL_NODE_BYTES_MAX && strcmp(name, FL_CATALOG_NODE) != 0;
}

static void check_node(struct dr_jr *r, const char *key, const char *name)
{
    if (r->rc == DR_OK && !is_node_name(name)) {
        r->rc = dr_fail(r->err, DR_INPUT, "command.%s: \"%.40s\" is no name of a node", key, name);
    }
}

static void read_names(struct dr_jr *r, const char *key, bool may_be_empty, struct fl_names *out)
{
    const json_t *list = NULL;
    size_t i;
    const json_t *one;
    if (!dr_jr_array(r, key, true, FL_NAMES_MAX, &list)) {
        return;
    }
    json_array_foreach(list, i, one)
    {
        const char *name = json_is_string(one) ? json_string_value(one) : "";
        check_node(r, key, name);
        for (uint32_t k = 0; r->rc == DR_OK && k < out->count; k++) {
            if (strcmp(out->name[k], name) == 0) {
                r->rc =
                    dr_fail(r->err, DR_INPUT, "command.%s: \"%s\" stands there twice", key, name);
            }
        }
        if (r->rc != DR_OK) {
            return;
        }
        out->name[out->count++] = name;
    }
    if (out->count == 0 && !may_be_empty) {
        r->rc = dr_fail(r->err, DR_INPUT, "command.%s: nodes are missing", key);
    }
}

static void read_retire(struct dr_jr *r, struct fl_command *c)
{
    const json_t *uncapture = NULL;
    if (dr_jr_any(r, "uncapture", true, &uncapture) && !json_is_null(uncapture)) {
        c->uncapture = json_string_value(uncapture);
        check_node(r, "uncapture", c->uncapture == NULL ? "" : c->uncapture);
    }
    read_names(r, "drop", true, &c->drop);
}

/* Optional; a node that is gone cannot be one that stays. */
static void read_dead(struct dr_jr *r, struct fl_command *c)
{
    if (r->rc != DR_OK || json_object_get(c->root, "dead") == NULL) {
        return;
    }
    read_names(r, "dead", true, &c->dead);
    for (uint32_t i = 0; r->rc == DR_OK && i < c->dead.count; i++) {
        if (!fl_has_name(&c->from, c->dead.name[i]) || fl_has_name(&c->to, c->dead.name[i])) {
            r->rc = dr_fail(r->err, DR_INPUT, "command.dead: \"%s\" is not a node that leaves",
                            c->dead.name[i]);
        }
    }
}

static void read_fields(struct dr_jr *r, unsigned has, struct fl_command *c)
{
    if ((has & HAS_ENTRY) != 0) {
        (void)dr_jr_object(r, "entry", true, &c->entry);
    }
    if ((has & HAS_SHARD) != 0) {
        read_shard(r, c);
    }
    if ((has & HAS_COLUMNS) != 0) {
        (void)dr_jr_string(r, "columns", true, &c->columns);
        (void)dr_jr_string(r, "extra", true, &c->extra);
    }
    if ((has & HAS_MOVE) != 0) {
        if (dr_jr_string(r, "from", true, &c->source)) {
            check_node(r, "from", c->source);
        }
        read_names(r, "to", false, &c->to);
    }
    if ((has & HAS_LEFT) != 0) {
        (void)dr_jr_u64(r, "left_max", true, 0, LEFT_MAX, &c->left_max);
    }
    if ((has & HAS_SWITCH) != 0) {
        (void)dr_jr_u64(r, "number", true, 0, SHARDS_MAX, &c->number);
        read_names(r, "from", false, &c->from);
        read_names(r, "to", false, &c->to);
        (void)dr_jr_u64(r, "fence_ms", true, 1, FENCE_MS_MAX, &c->fence_ms);
        read_dead(r, c);
    }
    if ((has & HAS_UNTIL) != 0) {
        (void)dr_jr_i64(r, "until", true, 0, INT64_MAX, &c->until);
    }
    if ((has & HAS_RETIRE) != 0) {
        read_retire(r, c);
    }
    if ((has & HAS_URL) != 0) {
        (void)dr_jr_string(r, "url", false, &c->url);
        (void)dr_jr_string(r, "command", false, &c->command);
        if (r->rc == DR_OK && c->command != NULL && c->url == NULL) {
            r->rc = dr_fail(r->err, DR_INPUT, "command.command: its url is missing");
        }
    }
    if ((has & HAS_EMPTY) != 0) {
        (void)dr_jr_bool(r, "only_empty", false, &c->is_only_empty);
    }
}

/* An entry has to be one of a table's; what it may say beyond that is the catalog's to judge. */
static void check_entry(struct dr_jr *r, const struct fl_command *c)
{
    static const char *const needed[] = {"op", "name", "uuid", "operation"};
    for (size_t i = 0; r->rc == DR_OK && i < sizeof needed / sizeof needed[0]; i++) {
        if (fl_text(c->entry, needed[i])[0] == '\0') {
            r->rc = dr_fail(r->err, DR_INPUT, "command.entry.%s is missing", needed[i]);
        }
    }
    if (r->rc == DR_OK && strncmp(fl_text(c->entry, "op"), "table_", 6) != 0) {
        r->rc = dr_fail(r->err, DR_REFUSED, "command.entry.op: \"%.32s\" is not about tables",
                        fl_text(c->entry, "op"));
    }
}

static enum dr_code find_verb(const char *name, enum fl_what *out, struct dr_err *err)
{
    for (unsigned i = 0; i < FL_WHAT_COUNT; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            *out = (enum fl_what)i;
            return DR_OK;
        }
    }
    return dr_fail(err, DR_INPUT, "command.fleet: \"%.32s\" is not known", name);
}

enum dr_code fl_command_parse(const char *text, struct fl_command *out, struct dr_err *err)
{
    struct dr_jr r;
    const char *name = NULL;
    *out = (struct fl_command){.what = FL_WHAT_COUNT};
    enum dr_code rc = dr_json_parse("command", text, strlen(text), &out->root, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_jr_init(&r, out->root, "command", err);
    if (dr_jr_string(&r, "fleet", true, &name)) {
        r.rc = find_verb(name, &out->what, err);
    }
    if (r.rc == DR_OK) {
        read_fields(&r, verbs[out->what].has, out);
    }
    if (r.rc == DR_OK && out->what == FL_CATALOG) {
        check_entry(&r, out);
    }
    return dr_jr_finish(&r);
}

void fl_command_fini(struct fl_command *c)
{
    json_decref(c->root);
    c->root = NULL;
}

/* ---- running ---- */

/* Nobody may write between the look and the drop, so the shard is fenced for that moment. */
static enum dr_code drop_empty(struct dr_store *s, const struct fl_command *c, struct dr_err *err)
{
    struct dr_shard_facts facts;
    enum dr_code rc = dr_shard_facts(s, &c->shard, &facts, err);
    if (rc == DR_OK && facts.exists && facts.is_owned) {
        rc = dr_shard_fence(s, &c->shard, true, DR_SHARD_FENCE_WAIT_MS, err);
        rc = rc == DR_OK ? dr_shard_facts(s, &c->shard, &facts, err) : rc;
    }
    if (rc == DR_OK && facts.exists && facts.rows > 0) {
        enum dr_code undone = dr_shard_fence(s, &c->shard, false, DR_SHARD_FENCE_WAIT_MS, NULL);
        return dr_fail(err, DR_REFUSED, "shard %s holds %" PRIu64 " rows%s; use drover table drop",
                       c->shard.name, facts.rows, undone == DR_OK ? "" : " and is still fenced");
    }
    return rc == DR_OK ? dr_shard_drop(s, &c->shard, false, err) : rc;
}

/* What stands there and is on record of somebody else, or of nobody, was not made by the step that
 * is undone: making it was refused. It stays as it is. */
static enum dr_code drop_ours(struct dr_store *s, const struct fl_command *c, struct dr_err *err)
{
    struct dr_shard_facts facts;
    enum dr_code rc = dr_shard_facts(s, &c->shard, &facts, err);
    if (rc != DR_OK || (facts.exists && !facts.is_owned)) {
        return rc;
    }
    return c->is_only_empty ? drop_empty(s, c, err) : dr_shard_drop(s, &c->shard, false, err);
}

static enum dr_code wait_until(int64_t until, struct dr_err *err)
{
    struct dr_whole_command hold = {.what = DR_WHOLE_HOLD, .until = until};
    return dr_store_hold_at(&hold, dr_wall_now(), err);
}

static enum dr_code run_on_node(struct fl_fleet *f, const char *node, const struct fl_command *c,
                                struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = fl_open_node(f, c->shard.table, node, &s, err);
    if (rc != DR_OK) {
        return rc;
    }
    switch (c->what) {
    case FL_ENSURE:
        rc = dr_shard_ensure(s, &c->shard, c->columns, c->extra, err);
        break;
    case FL_DROP:
        rc = drop_ours(s, c, err);
        break;
    case FL_CAPTURE:
    case FL_UNCAPTURE:
        rc = dr_shard_capture(s, &c->shard, c->what == FL_CAPTURE, err);
        break;
    case FL_HOLD:
    case FL_UNHOLD:
        rc = dr_shard_hold(s, &c->shard, c->what == FL_HOLD, err);
        break;
    case FL_CATALOG:
    case FL_COPY:
    case FL_FOLLOW:
    case FL_VERIFY:
    case FL_CUTOVER:
    case FL_CUTBACK:
    case FL_HOLD_UNTIL:
    case FL_RETIRE:
    case FL_CLEAN:
    case FL_GIVE_UP:
    case FL_WHAT_COUNT:
        rc = dr_fail(err, DR_INTERNAL, "\"%s\" is no command of one node", fl_what_name(c->what));
        break;
    }
    return fl_note(f, node, rc);
}

/* A step on the catalog's node is about the catalog, or about no node at all. */
bool fl_is_in_place(const struct fl_command *c, const char *node)
{
    bool is_anywhere = c->what == FL_HOLD_UNTIL || c->what == FL_GIVE_UP ||
                       (c->what == FL_CLEAN && c->url != NULL);
    return is_anywhere || (c->what == FL_CATALOG) == (strcmp(node, FL_CATALOG_NODE) == 0);
}

static enum dr_code run(struct fl_fleet *f, const char *node, const struct fl_command *c,
                        struct dr_err *err)
{
    if (!fl_is_in_place(c, node)) {
        return dr_fail(err, DR_INPUT, "\"%s\" does not belong on node %s", fl_what_name(c->what),
                       node);
    }
    switch (c->what) {
    case FL_CATALOG:
        return f->catalog->change(f->catalog->arg, c->entry, err);
    case FL_CUTOVER:
        return fl_cutover(f, c, err);
    case FL_CUTBACK:
        return fl_cutback(f, c, node, err);
    case FL_HOLD_UNTIL:
        return wait_until(c->until, err);
    case FL_RETIRE:
        return fl_retire(f, c, err);
    case FL_CLEAN:
        return fl_clean(f, c, node, err);
    case FL_GIVE_UP: /* what it leaves behind is on record as its clean-up */
        return DR_OK;
    case FL_COPY:
    case FL_FOLLOW:
    case FL_VERIFY:
        return dr_fail(err, DR_INPUT, "\"%s\" is a copy step, not a command",
                       fl_what_name(c->what));
    case FL_ENSURE:
    case FL_DROP:
    case FL_CAPTURE:
    case FL_UNCAPTURE:
    case FL_HOLD:
    case FL_UNHOLD:
    case FL_WHAT_COUNT:
        break;
    }
    return run_on_node(f, node, c, err);
}

/* The points "fleet.VERB" and "fleet.VERB.done"; the catalog's have the name of the entry instead.
 */
static enum dr_code pass_verb(const struct fl_command *c, const char *behind, struct dr_err *err)
{
    char point[64];
    (void)snprintf(point, sizeof point, "fleet.%.32s%s",
                   c->what == FL_CATALOG ? fl_text(c->entry, "op") : fl_what_name(c->what), behind);
    return dr_fault_pass(point, err);
}

/* An answer that is lost: what was asked for has happened, but nobody knows. */
static enum dr_code lose_answer(const struct fl_command *c, struct dr_err *err)
{
    return pass_verb(c, ".done", err) == DR_OK
               ? DR_OK
               : dr_fail(err, DR_UNKNOWN, "fault point: the answer to \"%s\" was lost",
                         fl_what_name(c->what));
}

enum dr_code fl_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    struct fl_fleet *f = impl;
    struct fl_command c;
    struct dr_store *store = NULL;
    if (!fl_is_command(text)) {
        enum dr_code rc = fl_open_node(f, NULL, node, &store, err);
        return rc == DR_OK ? fl_note(f, node, dr_store_command(store, FL_INNER_NODE, text, err))
                           : rc;
    }
    enum dr_code rc = fl_command_parse(text, &c, err);
    rc = rc == DR_OK ? pass_verb(&c, "", err) : rc;
    rc = rc == DR_OK ? run(f, node, &c, err) : rc;
    rc = rc == DR_OK ? lose_answer(&c, err) : rc;
    fl_command_fini(&c);
    if (rc == DR_NOT_FOUND) { /* the record may be older than what was asked for */
        fl_forget_record(f);
    }
    return rc;
}

/* ---- copy steps ---- */

enum dr_code fl_copy(void *impl, const char *spec, const struct dr_budget *budget,
                     struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err)
{
    struct fl_fleet *f = impl;
    struct fl_command c = {0};
    struct dr_store *source = NULL;
    struct dr_store *target[FL_NAMES_MAX];
    enum dr_code rc = fl_command_parse(spec, &c, err);
    if (rc == DR_OK && c.what != FL_COPY && c.what != FL_FOLLOW && c.what != FL_VERIFY) {
        rc = dr_fail(err, DR_INPUT, "\"%s\" is no copy step", fl_what_name(c.what));
    }
    rc = rc == DR_OK ? pass_verb(&c, "", err) : rc;
    rc = rc == DR_OK ? fl_open_node(f, c.shard.table, c.source, &source, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < c.to.count; i++) {
        rc = fl_open_node(f, c.shard.table, c.to.name[i], &target[i], err);
    }
    if (rc == DR_OK && c.what == FL_COPY) {
        rc = dr_shard_copy(source, target, c.to.count, &c.shard, budget, cursor, &out->rows,
                           &out->bytes, &out->is_end, err);
    } else if (rc == DR_OK && c.what == FL_VERIFY) {
        rc = fl_verify(f, &c, source, target, budget, cursor, out, err);
    } else if (rc == DR_OK) {
        rc = dr_shard_follow(source, target, c.to.count, &c.shard, budget, &out->rows, &out->left,
                             err);
        out->is_end = rc == DR_OK && out->left <= c.left_max;
    }
    rc = rc == DR_OK ? lose_answer(&c, err) : rc;
    if (rc == DR_UNREACHABLE || rc == DR_UNKNOWN) { /* whichever it was */
        fl_close_node(f, c.source);
        for (uint32_t i = 0; i < c.to.count; i++) {
            fl_close_node(f, c.to.name[i]);
        }
    }
    fl_command_fini(&c);
    return rc;
}
