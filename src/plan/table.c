/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for sharded tables: what the survey saw, the layout wanted, and the parts that all engines
 * share. How a shard is made, moved and dropped is planned in table_sql.c and table_manticore.c. */
#include "plan/table_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ABOUT_HOLDERS_MAX = 40, LIST_FIRST_ROOM = 64 };

/* --- lists ----------------------------------------------------------------------------------- */

void *dr_table_zeroed(struct dr_arena *a, size_t bytes)
{
    void *p = dr_arena_alloc(a, bytes);
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}

const char *dr_table_json(struct dr_plan *p, json_t *j)
{
    char *text = j == NULL ? NULL : dr_json_text_in_order(j);
    const char *out = text == NULL ? NULL : dr_arena_strdup(p->arena, text);
    dr_free(text);
    json_decref(j);
    return out;
}

static bool make_room(struct dr_table_list *l)
{
    if (l->count < l->room) {
        return true;
    }
    uint64_t room = l->room == 0 ? LIST_FIRST_ROOM : l->room * 2;
    struct dr_plan_step *step = dr_arena_alloc(l->plan->arena, room * sizeof *step);
    if (step == NULL) {
        return false;
    }
    if (l->count > 0) {
        memcpy(step, l->step, l->count * sizeof *step);
    }
    l->step = step;
    l->room = room;
    return true;
}

static bool keep(struct dr_plan *p, const char **text)
{
    *text = *text == NULL ? NULL : dr_arena_strdup(p->arena, *text);
    return *text != NULL;
}

int64_t dr_table_add(struct dr_table_list *l, const struct dr_plan_step *step)
{
    bool has_undo = step->rollback_query != NULL;
    bool has_cleanup = step->cleanup != NULL;
    if (!make_room(l)) {
        return 0;
    }
    struct dr_plan_step *s = &l->step[l->count];
    *s = *step;
    s->number = (int64_t)l->count + 1;
    s->is_estimate_known = step->kind != DR_STEP_COPY || step->is_estimate_known;
    if (!keep(l->plan, &s->node) || !keep(l->plan, &s->query) || !keep(l->plan, &s->title) ||
        keep(l->plan, &s->rollback_query) != has_undo ||
        keep(l->plan, &s->cleanup) != has_cleanup) {
        return 0;
    }
    l->count++;
    return s->number;
}

const char *dr_table_entry(struct dr_plan *p, const struct dr_table_view *v, const char *op,
                           json_t *more)
{
    json_t *entry = json_pack("{s:i,s:s,s:s,s:s,s:s}", "v", 1, "op", op, "name", v->table, "uuid",
                              v->uuid, "operation", v->operation);
    if (entry == NULL || (more != NULL && json_object_update(entry, more) != 0)) {
        json_decref(entry);
        json_decref(more);
        return NULL;
    }
    json_decref(more);
    return dr_table_json(p, json_pack("{s:s,s:o}", "fleet", "catalog", "entry", entry));
}

int64_t dr_table_add_catalog(struct dr_table_list *l, const struct dr_table_view *v, uint32_t stage,
                             const char *op, json_t *more, const char *undo_op, const char *title)
{
    struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = "catalog",
        .query = dr_table_entry(l->plan, v, op, more),
        .rollback_query = undo_op == NULL ? NULL : dr_table_entry(l->plan, v, undo_op, NULL),
        .stage = stage,
        .title = title};
    return step.query == NULL || (undo_op != NULL && step.rollback_query == NULL)
               ? 0
               : dr_table_add(l, &step);
}

const char *dr_table_shard_name(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard)
{
    return dr_table_text(p, "%s_s%" PRIu32, v->table, shard);
}

json_t *dr_table_names(const struct dr_table_view *v, const uint32_t *holder, uint32_t count)
{
    json_t *names = json_array();
    for (uint32_t i = 0; names != NULL && i < count; i++) {
        if (json_array_append_new(names, json_string(v->node[holder[i]].name)) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

/* [{"name","url"}] of all nodes, or of the new ones. */
static json_t *node_list(const struct dr_table_view *v, bool only_new)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < v->node_count; i++) {
        if (only_new && !v->node[i].is_new) {
            continue;
        }
        if (json_array_append_new(list, json_pack("{s:s,s:s}", "name", v->node[i].name, "url",
                                                  v->node[i].url)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *dr_table_reserve_fields(struct dr_plan *p, const struct dr_table_view *v,
                                const struct dr_layout_plan *to, uint32_t rf)
{
    (void)p;
    json_t *placement = json_array();
    for (uint32_t s = 0; placement != NULL && s < to->shard_count; s++) {
        json_t *row = json_array();
        for (uint32_t i = 0; row != NULL && i < to->count[s]; i++) {
            if (json_array_append_new(row, json_integer(to->holder[s][i])) != 0) {
                json_decref(row);
                row = NULL;
            }
        }
        if (json_array_append_new(placement, row) != 0) {
            json_decref(placement);
            return NULL;
        }
    }
    return json_pack("{s:s,s:s,s:s,s:i,s:i,s:o,s:o}", "engine", v->engine, "columns", v->columns,
                     "extra", v->extra, "shards", (int)to->shard_count, "rf", (int)rf, "nodes",
                     node_list(v, false), "placement", placement);
}

const json_t *dr_table_seen_shard(const struct dr_table_view *v, uint32_t node, const char *shard)
{
    const json_t *list = v->node[node].shards;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name != NULL && strcmp(name, shard) == 0) {
            return one;
        }
    }
    return NULL;
}

uint64_t dr_table_rows(const struct dr_table_view *v, uint32_t node, const char *shard,
                       bool *is_known_out)
{
    const json_t *rows = json_object_get(dr_table_seen_shard(v, node, shard), "rows");
    *is_known_out = json_is_integer(rows);
    return *is_known_out ? (uint64_t)json_integer_value(rows) : 0;
}

/* --- reading the survey ---------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

static int compare_nodes(const void *a, const void *b)
{
    return strcmp(((const struct dr_table_seen_node *)a)->name,
                  ((const struct dr_table_seen_node *)b)->name);
}

static uint32_t find_node(const struct dr_table_view *v, const char *name)
{
    for (uint32_t i = 0; i < v->node_count; i++) {
        if (strcmp(v->node[i].name, name) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}

static enum dr_code read_nodes(struct dr_plan *p, struct dr_table_view *v, const json_t *extra,
                               struct dr_err *err)
{
    const json_t *list = json_object_get(extra, "nodes");
    size_t count = json_array_size(list);
    v->node = dr_table_zeroed(p->arena, (count + 1) * sizeof *v->node);
    if (v->node == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(list, i);
        v->node[i] =
            (struct dr_table_seen_node){.name = text_of(one, "name"),
                                        .url = text_of(one, "url"),
                                        .is_alive = json_is_true(json_object_get(one, "is_alive")),
                                        .why = text_of(one, "why"),
                                        .is_new = json_is_true(json_object_get(one, "is_new")),
                                        .shards = json_object_get(one, "shards"),
                                        .manticore = json_object_get(one, "manticore")};
        if (!json_is_object(v->node[i].manticore)) {
            v->node[i].manticore = NULL;
        }
    }
    v->node_count = (uint32_t)count;
    qsort(v->node, count, sizeof *v->node, compare_nodes);
    return DR_OK;
}

static enum dr_code read_layout(struct dr_plan *p, struct dr_table_view *v, struct dr_err *err)
{
    const json_t *shards = json_object_get(v->record, "shards");
    uint32_t count = (uint32_t)json_array_size(shards);
    v->layout.shard_count = count;
    v->layout.count = dr_table_zeroed(p->arena, ((size_t)count + 1) * sizeof *v->layout.count);
    v->layout.holder = dr_table_zeroed(p->arena, ((size_t)count + 1) * sizeof *v->layout.holder);
    if (v->layout.count == NULL || v->layout.holder == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t s = 0; s < count; s++) {
        const json_t *holders = json_object_get(json_array_get(shards, s), "holders");
        uint32_t copies = (uint32_t)json_array_size(holders);
        uint32_t *row = dr_arena_alloc(p->arena, ((size_t)copies + 1) * sizeof *row);
        if (row == NULL) {
            return dr_fail_nomem(err);
        }
        for (uint32_t i = 0; i < copies; i++) {
            const char *name = json_string_value(json_array_get(holders, i));
            row[i] = name == NULL ? UINT32_MAX : find_node(v, name);
            if (row[i] == UINT32_MAX) {
                return dr_fail(err, DR_CORRUPT,
                               "%s: the catalog puts shard %" PRIu32
                               " on a node that the table does not have",
                               v->table, s);
            }
        }
        v->layout.count[s] = copies;
        v->layout.holder[s] = row;
    }
    return DR_OK;
}

static enum dr_code read_view(struct dr_plan *p, const json_t *extra, struct dr_table_view *v,
                              struct dr_err *err)
{
    const struct dr_table_job *t = &p->request->u.table;
    const json_t *record = json_object_get(extra, "record");
    *v = (struct dr_table_view){.operation = text_of(extra, "operation"),
                                .uuid = text_of(extra, "uuid"),
                                .table = t->table,
                                .engine = text_of(extra, "engine"),
                                .columns = t->columns,
                                .extra = t->extra,
                                .rf = t->rf,
                                .now = json_integer_value(json_object_get(extra, "now")),
                                .has_record = json_is_object(record),
                                .state = "",
                                .record = record};
    if (v->has_record) {
        v->uuid = text_of(record, "uuid");
        v->engine = text_of(record, "engine");
        v->columns = text_of(record, "columns");
        v->extra = text_of(record, "extra");
        v->rf = (uint32_t)json_integer_value(json_object_get(record, "rf"));
        v->state = text_of(record, "state");
    }
    enum dr_code rc = read_nodes(p, v, extra, err);
    return rc == DR_OK && v->has_record ? read_layout(p, v, err) : rc;
}

/* --- what may be planned --------------------------------------------------------------------- */

static enum dr_code check_ready(const struct dr_table_view *v, struct dr_err *err)
{
    if (!v->has_record) {
        return dr_fail(err, DR_NOT_FOUND,
                       "there is no sharded table \"%s\"; drover table status lists them",
                       v->table);
    }
    if (strcmp(v->state, "ready") != 0) {
        return dr_fail(err, DR_REFUSED,
                       "%s is %s: another operation (%s, \"%s\") holds it; wait for its end, or "
                       "roll it back",
                       v->table, v->state, text_of(v->record, "operation"),
                       text_of(v->record, "what"));
    }
    return DR_OK;
}

static enum dr_code check_all_alive(const struct dr_table_view *v, struct dr_err *err)
{
    for (uint32_t i = 0; i < v->node_count; i++) {
        if (!v->node[i].is_alive) {
            return dr_fail(err, DR_UNREACHABLE, "%s: node %s does not answer: %s", v->table,
                           v->node[i].name, v->node[i].why);
        }
    }
    return DR_OK;
}

static enum dr_code mark_leaving(const struct dr_plan *p, struct dr_table_view *v,
                                 struct dr_err *err)
{
    const struct dr_table_job *t = &p->request->u.table;
    for (uint32_t i = 0; i < t->remove_count; i++) {
        uint32_t n = find_node(v, t->remove[i]);
        if (n == UINT32_MAX || v->node[n].is_new) {
            return dr_fail(err, DR_NOT_FOUND,
                           "%s: there is no node \"%s\"; drover table status %s "
                           "lists them",
                           v->table, t->remove[i], v->table);
        }
        v->node[n].is_leaving = true;
    }
    for (uint32_t n = 0; n < v->node_count; n++) {
        const struct dr_table_seen_node *node = &v->node[n];
        if (!node->is_alive && !node->is_leaving) {
            return dr_fail(err, DR_REFUSED,
                           "%s: node %s does not answer (%s); wait until it is back, or give up "
                           "its copies with --remove %s",
                           v->table, node->name, node->why, node->name);
        }
    }
    return DR_OK;
}

static enum dr_code want_layout(struct dr_plan *p, const struct dr_table_view *v,
                                struct dr_layout_plan *to, struct dr_err *err)
{
    bool *may_hold = dr_table_zeroed(p->arena, (size_t)v->node_count + 1);
    bool *is_alive = dr_table_zeroed(p->arena, (size_t)v->node_count + 1);
    if (may_hold == NULL || is_alive == NULL) {
        return dr_fail_nomem(err);
    }
    uint32_t left = 0;
    for (uint32_t n = 0; n < v->node_count; n++) {
        is_alive[n] = v->node[n].is_alive;
        may_hold[n] = v->node[n].is_alive && !v->node[n].is_leaving;
        left += may_hold[n];
    }
    if (left < v->rf) {
        return dr_fail(err, DR_REFUSED,
                       "%s has rf %" PRIu32 ", and only %" PRIu32
                       " nodes would be left to hold copies; add a node in the same job",
                       v->table, v->rf, left);
    }
    return dr_place_change(&v->layout, v->node_count, may_hold, is_alive, v->rf, p->arena, to, err);
}

/* --- for people and programs ----------------------------------------------------------------- */

static void add_holders(const struct dr_table_view *v, const struct dr_layout_plan *l, uint32_t s,
                        struct dr_str *out)
{
    for (uint32_t i = 0; i < l->count[s]; i++) {
        dr_str_addf(out, "%s%s", i == 0 ? "" : ", ", v->node[l->holder[s][i]].name);
    }
}

static bool is_same(const struct dr_layout_plan *a, const struct dr_layout_plan *b, uint32_t s)
{
    return a->count[s] == b->count[s] &&
           memcmp(a->holder[s], b->holder[s], a->count[s] * sizeof a->holder[s][0]) == 0;
}

static void describe_nodes(const struct dr_table_view *v, struct dr_str *out)
{
    for (uint32_t n = 0; n < v->node_count; n++) {
        const struct dr_table_seen_node *node = &v->node[n];
        dr_str_addf(out, "node %s%s%s\n", node->name,
                    node->is_leaving                ? " (leaves)"
                    : node->is_new && v->has_record ? " (new)"
                                                    : "",
                    node->is_alive ? ""
                                   : ", does not answer: its copies are made anew from others");
    }
}

static enum dr_code describe(struct dr_plan *p, const struct dr_table_view *v,
                             const struct dr_layout_plan *to, struct dr_err *err)
{
    struct dr_str out;
    uint32_t shown = 0;
    dr_str_init(&out);
    dr_str_addf(&out, "\n%s tables, %" PRIu32 " shards, rf %" PRIu32 "\n", v->engine,
                to->shard_count, v->rf);
    describe_nodes(v, &out);
    for (uint32_t s = 0; s < to->shard_count; s++) {
        if (v->has_record && is_same(&v->layout, to, s)) {
            continue;
        }
        if (++shown > ABOUT_HOLDERS_MAX) {
            continue;
        }
        dr_str_addf(&out, "shard %" PRIu32 ": ", s);
        if (v->has_record) {
            add_holders(v, &v->layout, s, &out);
            dr_str_add(&out, " -> ");
        }
        add_holders(v, to, s, &out);
        dr_str_addc(&out, '\n');
    }
    if (shown > ABOUT_HOLDERS_MAX) {
        dr_str_addf(&out, "... and %" PRIu32 " more shards\n", shown - ABOUT_HOLDERS_MAX);
    }
    if (v->has_record && shown == 0 && p->request->u.table.what == DR_TABLE_REBALANCE) {
        dr_str_add(&out, "every shard stays where it is\n");
    }
    p->about = dr_arena_strdup(p->arena, dr_str_text(&out));
    bool is_short = out.is_short || p->about == NULL;
    dr_str_fini(&out);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code make_facts(struct dr_plan *p, const struct dr_table_view *v,
                               const struct dr_layout_plan *to, struct dr_err *err)
{
    json_t *shards = json_array();
    for (uint32_t s = 0; shards != NULL && s < to->shard_count; s++) {
        json_t *from = v->has_record ? dr_table_names(v, v->layout.holder[s], v->layout.count[s])
                                     : json_array();
        if (json_array_append_new(shards,
                                  json_pack("{s:i,s:o,s:o}", "shard", (int)s, "from", from, "to",
                                            dr_table_names(v, to->holder[s], to->count[s]))) != 0) {
            json_decref(shards);
            shards = NULL;
        }
    }
    uint64_t moves = v->has_record ? dr_place_moves(&v->layout, to) : 0;
    p->facts = json_pack("{s:s,s:i,s:I,s:o}", "engine", v->engine, "rf", (int)v->rf, "copies_moved",
                         (json_int_t)moves, "shards", shards);
    return p->facts == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* --- the kinds ------------------------------------------------------------------------------- */

static enum dr_code plan_create(struct dr_table_list *l, struct dr_table_view *v,
                                struct dr_layout_plan *to, struct dr_err *err)
{
    const struct dr_table_job *t = &l->plan->request->u.table;
    if (v->has_record && t->if_exists) {
        *to = v->layout;
        return DR_OK; /* nothing to do */
    }
    if (v->has_record) {
        return dr_fail(err, DR_EXISTS, "the sharded table \"%s\" exists already (%s)", v->table,
                       v->state);
    }
    enum dr_code rc = check_all_alive(v, err);
    if (rc == DR_OK) {
        rc = dr_place_new(v->node_count, t->shards, t->rf, l->plan->arena, to, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    return strcmp(v->engine, "manticore") == 0 ? dr_table_manticore_create(l, v, to, err)
                                               : dr_table_sql_create(l, v, to, err);
}

static enum dr_code plan_rebalance(struct dr_table_list *l, struct dr_table_view *v,
                                   struct dr_layout_plan *to, struct dr_err *err)
{
    bool has_nodes = l->plan->request->u.table.node_count > 0;
    bool has_leaving = l->plan->request->u.table.remove_count > 0;
    enum dr_code rc = check_ready(v, err);
    if (rc == DR_OK) {
        rc = mark_leaving(l->plan, v, err);
    }
    if (rc == DR_OK) {
        rc = want_layout(l->plan, v, to, err);
    }
    if (rc != DR_OK || (dr_place_moves(&v->layout, to) == 0 && !has_nodes && !has_leaving)) {
        return rc;
    }
    return strcmp(v->engine, "manticore") == 0 ? dr_table_manticore_rebalance(l, v, to, err)
                                               : dr_table_sql_rebalance(l, v, to, err);
}

static enum dr_code plan_drop(struct dr_table_list *l, struct dr_table_view *v,
                              struct dr_layout_plan *to, struct dr_err *err)
{
    *to = v->layout;
    if (!v->has_record && l->plan->request->u.table.if_exists) {
        return DR_OK;
    }
    enum dr_code rc = check_ready(v, err);
    if (rc == DR_OK) {
        rc = check_all_alive(v, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    return strcmp(v->engine, "manticore") == 0 ? dr_table_manticore_drop(l, v, err)
                                               : dr_table_sql_drop(l, v, err);
}

static void take_list(struct dr_plan *p, const struct dr_table_list *l)
{
    p->is_list = true;
    p->list = l->step;
    p->step_count = l->count;
    p->is_estimate_known = true;
    for (uint64_t i = 0; i < l->count; i++) {
        p->estimated += l->step[i].estimated;
        p->is_estimate_known = p->is_estimate_known && l->step[i].is_estimate_known;
        if (l->step[i].rollback_query == NULL && p->no_return == 0) {
            p->no_return = l->step[i].number;
        }
    }
    p->total = p->estimated;
}

enum dr_code dr_plan_table(struct dr_plan *p, struct dr_err *err)
{
    const struct dr_table_job *t = &p->request->u.table;
    struct dr_table_view v;
    struct dr_table_list l = {.plan = p};
    struct dr_layout_plan to = {0};
    json_t *extra = NULL;
    const char *text = p->survey->extra == NULL ? "{}" : p->survey->extra;
    p->target = t->table;
    p->is_atomic = true;
    p->give_up_s = t->give_up_s;
    enum dr_code rc = dr_json_parse("survey", text, strlen(text), &extra, err);
    if (rc == DR_OK) {
        rc = read_view(p, extra, &v, err);
    }
    if (rc == DR_OK) {
        switch (t->what) {
        case DR_TABLE_CREATE:
            rc = plan_create(&l, &v, &to, err);
            break;
        case DR_TABLE_REBALANCE:
            rc = plan_rebalance(&l, &v, &to, err);
            break;
        case DR_TABLE_DROP:
            rc = plan_drop(&l, &v, &to, err);
            break;
        }
    }
    if (rc == DR_OK) {
        take_list(p, &l);
        rc = describe(p, &v, &to, err);
    }
    if (rc == DR_OK) {
        rc = make_facts(p, &v, &to, err);
    }
    json_decref(extra);
    return rc;
}
