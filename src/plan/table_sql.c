/* SPDX-License-Identifier: Apache-2.0 */
/* How shards of SQL tables are made, moved and dropped: the steps, each with its rollback command.
 *
 *   create      0 reserve   1 a table per shard and holder              2 ready
 *   rebalance   0 begin     1 per shard that moves, one after another:   2 hold the sources
 *                             ensure, capture, copy, follow, verify,     3 drop them: no return
 *                             cut over                                   4 end
 *   drop        0 mark      1 rename out of use   2 hold   3 drop: no return   4 remove
 *
 * Moves that touch the same node follow each other, so that few shards are open at a time; moves
 * between other nodes run beside them. The undo of what a move set up waits for the undo of its cut
 * over. */
#include "plan/table_private.h"

#include <inttypes.h>
#include <string.h>

static const char undo_nothing[] = "{\"do\":\"nothing\"}";

enum { STAGE_MARK, STAGE_WORK, STAGE_HOLD, STAGE_RETIRE, STAGE_END };
enum { STAGE_READY = STAGE_HOLD, LEFT_MAX = 1000 };

static bool holds(const struct dr_layout_plan *l, uint32_t shard, uint32_t node)
{
    for (uint32_t i = 0; i < l->count[shard]; i++) {
        if (l->holder[shard][i] == node) {
            return true;
        }
    }
    return false;
}

static json_t *shard_json(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard)
{
    const char *name = dr_table_shard_name(p, v, shard);
    return name == NULL ? NULL
                        : json_pack("{s:s,s:s,s:s,s:s}", "name", name, "table", v->table, "owner",
                                    v->uuid, "operation", v->operation);
}

/* {"fleet":VERB,"shard":S} */
static const char *simple(struct dr_plan *p, const struct dr_table_view *v, const char *verb,
                          uint32_t shard)
{
    return dr_table_json(p,
                         json_pack("{s:s,s:o}", "fleet", verb, "shard", shard_json(p, v, shard)));
}

static const char *ensure_text(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard)
{
    return dr_table_json(p, json_pack("{s:s,s:o,s:s,s:s}", "fleet", "ensure", "shard",
                                      shard_json(p, v, shard), "columns", v->columns, "extra",
                                      v->extra));
}

/* The table of a finished creation may hold rows by the time it is rolled back: then it stays. */
static const char *drop_empty_text(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard)
{
    return dr_table_json(p, json_pack("{s:s,s:o,s:b}", "fleet", "drop", "shard",
                                      shard_json(p, v, shard), "only_empty", 1));
}

static const char *copy_text(struct dr_plan *p, const struct dr_table_view *v, const char *verb,
                             uint32_t shard, const char *from, json_t *to)
{
    json_t *j = json_pack("{s:s,s:o,s:s,s:o}", "fleet", verb, "shard", shard_json(p, v, shard),
                          "from", from, "to", to);
    if (j != NULL && strcmp(verb, "follow") == 0 &&
        json_object_set_new(j, "left_max", json_integer(LEFT_MAX)) != 0) {
        json_decref(j);
        j = NULL;
    }
    return dr_table_json(p, j);
}

/* Holders that leave and do not answer: neither way asks them. */
static json_t *dead_of(const struct dr_table_view *v, const struct dr_layout_plan *to,
                       uint32_t shard)
{
    json_t *names = json_array();
    for (uint32_t i = 0; names != NULL && i < v->layout.count[shard]; i++) {
        uint32_t node = v->layout.holder[shard][i];
        if (!holds(to, shard, node) && !v->node[node].is_alive &&
            json_array_append_new(names, json_string(v->node[node].name)) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

static const char *cutover_text(struct dr_plan *p, const struct dr_table_view *v, const char *verb,
                                uint32_t shard, const struct dr_layout_plan *to)
{
    json_t *dead = dead_of(v, to, shard);
    json_t *j = json_pack("{s:s,s:o,s:i,s:o,s:o,s:i}", "fleet", verb, "shard",
                          shard_json(p, v, shard), "number", (int)shard, "from",
                          dr_table_names(v, v->layout.holder[shard], v->layout.count[shard]), "to",
                          dr_table_names(v, to->holder[shard], to->count[shard]), "fence_ms",
                          (int)p->request->u.table.fence_ms);
    if (dead != NULL && json_array_size(dead) == 0) {
        json_decref(dead);
    } else if (json_object_set_new(j, "dead", dead) != 0) { /* also where one of both is missing */
        json_decref(j);
        j = NULL;
    }
    return dr_table_json(p, j);
}

/* The number of the step; 0 when memory is short, also of one of the texts. */
static int64_t add(struct dr_table_list *l, const struct dr_plan_step *step, bool has_undo)
{
    bool is_short = step->node == NULL || step->query == NULL || step->title == NULL ||
                    (has_undo && step->rollback_query == NULL);
    return is_short ? 0 : dr_table_add(l, step);
}

static int64_t add_ensure(struct dr_table_list *l, const struct dr_table_view *v, uint32_t shard,
                          uint32_t node, const char *undo, int64_t wait_for)
{
    const struct dr_plan_step step = {.kind = DR_STEP_COMMAND,
                                      .node = v->node[node].name,
                                      .query = ensure_text(l->plan, v, shard),
                                      .rollback_query = undo,
                                      .stage = STAGE_WORK,
                                      .wait_for = wait_for,
                                      .title = dr_table_text(l->plan, "make %s_s%" PRIu32 " on %s",
                                                             v->table, shard, v->node[node].name)};
    return add(l, &step, true);
}

static int64_t add_hold_until(struct dr_table_list *l, const struct dr_table_view *v,
                              const char *title)
{
    int64_t until = v->now + (int64_t)l->plan->request->u.table.hold_s * 1000;
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = "catalog",
        .query = dr_table_json(
            l->plan, json_pack("{s:s,s:I}", "fleet", "hold-until", "until", (json_int_t)until)),
        .rollback_query = undo_nothing,
        .stage = STAGE_HOLD,
        .title = title};
    return add(l, &step, true);
}

/* --- create ---------------------------------------------------------------------------------- */

enum dr_code dr_table_sql_create(struct dr_table_list *l, const struct dr_table_view *v,
                                 const struct dr_layout_plan *to, struct dr_err *err)
{
    struct dr_plan *p = l->plan;
    json_t *fields = dr_table_reserve_fields(p, v, to, v->rf);
    bool is_good = fields != NULL && dr_table_add_catalog(l, v, STAGE_MARK, "table_reserve", fields,
                                                          "table_release", "reserve the name") > 0;
    for (uint32_t s = 0; is_good && s < to->shard_count; s++) {
        for (uint32_t i = 0; is_good && i < to->count[s]; i++) {
            is_good = add_ensure(l, v, s, to->holder[s][i], drop_empty_text(p, v, s), 0) > 0;
        }
    }
    is_good = is_good && dr_table_add_catalog(l, v, STAGE_READY, "table_ready", NULL, NULL,
                                              "open the table") > 0;
    return is_good ? DR_OK : dr_fail_nomem(err);
}

/* --- rebalance ------------------------------------------------------------------------------- */

static bool is_moved(const struct dr_table_view *v, const struct dr_layout_plan *to, uint32_t shard)
{
    return v->layout.count[shard] != to->count[shard] ||
           memcmp(v->layout.holder[shard], to->holder[shard],
                  to->count[shard] * sizeof to->holder[shard][0]) != 0;
}

/* One shard on its way. */
struct move {
    const struct dr_table_view *v;
    const struct dr_layout_plan *to;
    uint32_t shard;
    uint32_t source; /* the first holder that lives: it has every acknowledged row */
    uint32_t *fresh; /* nodes that get a copy; behind them the other living holders that stay */
    uint32_t fresh_count;
    uint32_t stay_count;
    int64_t *last;   /* by node: the cut over of the last move that touched it; 0: none */
    int64_t cutover; /* number that this move's cut over will have */
};

static enum dr_code begin_move(struct dr_plan *p, struct move *m, struct dr_err *err)
{
    const struct dr_layout_plan *now = &m->v->layout;
    m->fresh_count = 0;
    m->stay_count = 0;
    m->source = UINT32_MAX;
    m->fresh = dr_arena_alloc(p->arena, ((size_t)m->to->count[m->shard] + 1) * sizeof *m->fresh);
    if (m->fresh == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < now->count[m->shard] && m->source == UINT32_MAX; i++) {
        uint32_t node = now->holder[m->shard][i];
        m->source = m->v->node[node].is_alive ? node : UINT32_MAX;
    }
    for (uint32_t i = 0; i < m->to->count[m->shard]; i++) {
        uint32_t node = m->to->holder[m->shard][i];
        if (!holds(now, m->shard, node)) {
            m->fresh[m->fresh_count++] = node;
        }
    }
    for (uint32_t i = 0; i < m->to->count[m->shard]; i++) {
        uint32_t node = m->to->holder[m->shard][i];
        if (holds(now, m->shard, node) && node != m->source && m->v->node[node].is_alive) {
            m->fresh[m->fresh_count + m->stay_count++] = node;
        }
    }
    if (m->source == UINT32_MAX) {
        return dr_fail(err, DR_REFUSED,
                       "%s: no node that holds shard %" PRIu32
                       " answers; its rows come back with its node",
                       m->v->table, m->shard);
    }
    return DR_OK;
}

/* The latest cut over of a move that shares a node with this one. */
static int64_t find_before(const struct move *m)
{
    int64_t before = m->last[m->source];
    for (uint32_t i = 0; i < m->fresh_count; i++) {
        before = m->last[m->fresh[i]] > before ? m->last[m->fresh[i]] : before;
    }
    return before;
}

static int64_t add_ensures(struct dr_table_list *l, const struct move *m, int64_t before)
{
    int64_t last = before;
    for (uint32_t i = 0; i < m->fresh_count; i++) {
        last = add_ensure(l, m->v, m->shard, m->fresh[i], simple(l->plan, m->v, "drop", m->shard),
                          last);
        if (last == 0) {
            return -1;
        }
        l->step[l->count - 1].rollback_wait_for = m->cutover;
    }
    return last;
}

static int64_t add_capture(struct dr_table_list *l, const struct move *m, int64_t before)
{
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = m->v->node[m->source].name,
        .query = simple(l->plan, m->v, "capture", m->shard),
        .rollback_query = simple(l->plan, m->v, "uncapture", m->shard),
        .stage = STAGE_WORK,
        .wait_for = before,
        .rollback_wait_for = m->cutover,
        .title = dr_table_text(l->plan, "note changes of %s_s%" PRIu32 " on %s", m->v->table,
                               m->shard, m->v->node[m->source].name)};
    return add(l, &step, true);
}

static int64_t add_copy(struct dr_table_list *l, const struct move *m, const char *verb,
                        int64_t before)
{
    bool is_copy = strcmp(verb, "copy") == 0;
    const char *from = m->v->node[m->source].name;
    const char *shard = dr_table_shard_name(l->plan, m->v, m->shard);
    const char *title = is_copy                       ? "copy %s_s%" PRIu32 " from %s"
                        : strcmp(verb, "verify") == 0 ? "compare %s_s%" PRIu32 " with %s"
                                                      : "bring what changed in %s_s%" PRIu32
                                                        " from %s";
    json_t *to = dr_table_names(m->v, m->fresh,
                                m->fresh_count + (strcmp(verb, "verify") == 0 ? m->stay_count : 0));
    struct dr_plan_step step = {
        .kind = DR_STEP_COPY,
        .node = m->v->node[m->fresh[0]].name,
        .query = to == NULL ? NULL : copy_text(l->plan, m->v, verb, m->shard, from, to),
        .rollback_query = undo_nothing, /* the copies go with their tables */
        .stage = STAGE_WORK,
        .wait_for = before,
        .is_estimate_known = true,
        .title = dr_table_text(l->plan, title, m->v->table, m->shard, from)};
    if (is_copy && shard != NULL) {
        step.estimated = dr_table_rows(m->v, m->source, shard, &step.is_estimate_known);
    }
    return shard == NULL ? 0 : add(l, &step, true);
}

static int64_t add_cutover(struct dr_table_list *l, const struct move *m, int64_t before)
{
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = m->v->node[m->source].name,
        .query = cutover_text(l->plan, m->v, "cutover", m->shard, m->to),
        .rollback_query = cutover_text(l->plan, m->v, "cutback", m->shard, m->to),
        .stage = STAGE_WORK,
        .wait_for = before,
        .title = dr_table_text(l->plan, "switch shard %" PRIu32 " over", m->shard)};
    return add(l, &step, true);
}

static enum dr_code add_move(struct dr_table_list *l, struct move *m, struct dr_err *err)
{
    enum dr_code rc = begin_move(l->plan, m, err);
    if (rc != DR_OK) {
        return rc;
    }
    int64_t before = find_before(m);
    m->cutover = (int64_t)l->count + m->fresh_count + 1 + (m->fresh_count > 0 ? 3 : 0) + 1;
    before = add_ensures(l, m, before);
    if (before >= 0) {
        before = add_capture(l, m, before);
    }
    if (before > 0 && m->fresh_count > 0) {
        before = add_copy(l, m, "copy", before);
        before = before > 0 ? add_copy(l, m, "follow", before) : 0;
        before = before > 0 ? add_copy(l, m, "verify", before) : 0;
    }
    int64_t cutover = before > 0 ? add_cutover(l, m, before) : 0;
    if (cutover == 0) {
        return dr_fail_nomem(err);
    }
    if (cutover != m->cutover) {
        return dr_fail(err, DR_INTERNAL, "the steps of a move were not counted right");
    }
    m->last[m->source] = cutover;
    for (uint32_t i = 0; i < m->fresh_count; i++) {
        m->last[m->fresh[i]] = cutover;
    }
    return DR_OK;
}

/* The sources of a move that are no longer holders, and live. */
static json_t *leaving_of(const struct dr_table_view *v, const struct dr_layout_plan *to,
                          uint32_t shard)
{
    json_t *names = json_array();
    for (uint32_t i = 0; names != NULL && i < v->layout.count[shard]; i++) {
        uint32_t node = v->layout.holder[shard][i];
        if (!holds(to, shard, node) && v->node[node].is_alive &&
            json_array_append_new(names, json_string(v->node[node].name)) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

static int64_t add_retire(struct dr_table_list *l, const struct dr_table_view *v,
                          const struct dr_layout_plan *to, uint32_t shard)
{
    json_t *gone = leaving_of(v, to, shard);
    const char *first = v->node[to->holder[shard][0]].name;
    json_t *j = gone == NULL
                    ? NULL
                    : json_pack("{s:s,s:o,s:s,s:o}", "fleet", "retire", "shard",
                                shard_json(l->plan, v, shard), "uncapture", first, "drop", gone);
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = first,
        .query = dr_table_json(l->plan, j),
        .stage = STAGE_RETIRE,
        .title = dr_table_text(l->plan, "drop the replaced copies of shard %" PRIu32, shard)};
    return add(l, &step, false);
}

/* What one node has of a shard goes, with its rows. */
static const char *drop_text(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard,
                             uint32_t node)
{
    return dr_table_json(p, json_pack("{s:s,s:o,s:n,s:[s]}", "fleet", "retire", "shard",
                                      shard_json(p, v, shard), "uncapture", "drop",
                                      v->node[node].name));
}

/* A dead node that is given up still has its copies when it comes back. They are on record as
 * leftovers, with the way to reach it: the catalog will have forgotten the node. */
static const char *clean_text(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard,
                              uint32_t node)
{
    return dr_table_json(p, json_pack("{s:s,s:o,s:s}", "fleet", "clean", "shard",
                                      shard_json(p, v, shard), "url", v->node[node].url));
}

static int64_t add_given_up(struct dr_table_list *l, const struct dr_table_view *v, uint32_t shard,
                            uint32_t node)
{
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = "catalog", /* the node itself does not answer */
        .query = dr_table_json(l->plan, json_pack("{s:s}", "fleet", "give-up")),
        .stage = STAGE_RETIRE,
        .cleanup = clean_text(l->plan, v, shard, node),
        .title = dr_table_text(l->plan, "give up shard %" PRIu32 " on %s; cleaned when it is back",
                               shard, v->node[node].name)};
    return step.cleanup == NULL ? 0 : add(l, &step, false);
}

/* What a change that was taken back has left on a node that leaves now: nobody asks the node for it
 * later. Of a dead one nothing is known; a shard that has lost a copy may have lost that one. */
static bool may_have_left(const struct dr_table_view *v, const struct dr_layout_plan *to,
                          uint32_t shard, uint32_t node, const char *name)
{
    const struct dr_table_seen_node *n = &v->node[node];
    if (!n->is_leaving || holds(&v->layout, shard, node) || holds(to, shard, node)) {
        return false;
    }
    if (!n->is_alive) {
        return v->layout.count[shard] < v->rf;
    }
    const json_t *seen = dr_table_seen_shard(v, node, name);
    return json_is_true(json_object_get(seen, "owned")) ||
           json_is_true(json_object_get(seen, "held"));
}

static int64_t add_leftover(struct dr_table_list *l, const struct dr_table_view *v,
                            const struct dr_layout_plan *to, uint32_t shard, uint32_t node)
{
    if (!v->node[node].is_alive) {
        return add_given_up(l, v, shard, node);
    }
    const char *first = v->node[to->holder[shard][0]].name;
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = first,
        .query = drop_text(l->plan, v, shard, node),
        .stage = STAGE_RETIRE,
        .title = dr_table_text(l->plan, "drop what was left of shard %" PRIu32 " on %s", shard,
                               v->node[node].name)};
    return add(l, &step, false);
}

static json_t *begin_fields(const struct dr_table_view *v)
{
    json_t *added = json_array();
    json_t *gone = json_array();
    bool is_good = added != NULL && gone != NULL;
    for (uint32_t n = 0; is_good && n < v->node_count; n++) {
        const struct dr_table_seen_node *node = &v->node[n];
        if (node->is_new) {
            is_good = json_array_append_new(
                          added, json_pack("{s:s,s:s}", "name", node->name, "url", node->url)) == 0;
        } else if (node->is_leaving) {
            is_good = json_array_append_new(gone, json_string(node->name)) == 0;
        }
    }
    if (!is_good) {
        json_decref(added);
        json_decref(gone);
        return NULL;
    }
    return json_pack("{s:s,s:o,s:o}", "what", "rebalance", "add", added, "remove", gone);
}

static enum dr_code add_moves(struct dr_table_list *l, const struct dr_table_view *v,
                              const struct dr_layout_plan *to, struct dr_err *err)
{
    struct move m = {.v = v, .to = to};
    m.last = dr_table_zeroed(l->plan->arena, ((size_t)v->node_count + 1) * sizeof *m.last);
    if (m.last == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (m.shard = 0; rc == DR_OK && m.shard < to->shard_count; m.shard++) {
        if (is_moved(v, to, m.shard)) {
            rc = add_move(l, &m, err);
        }
    }
    return rc;
}

static enum dr_code add_retires(struct dr_table_list *l, const struct dr_table_view *v,
                                const struct dr_layout_plan *to, struct dr_err *err)
{
    for (uint32_t s = 0; s < to->shard_count; s++) {
        if (is_moved(v, to, s) && add_retire(l, v, to, s) == 0) {
            return dr_fail_nomem(err);
        }
        for (uint32_t i = 0; i < v->layout.count[s]; i++) {
            uint32_t node = v->layout.holder[s][i];
            if (!holds(to, s, node) && !v->node[node].is_alive &&
                add_given_up(l, v, s, node) == 0) {
                return dr_fail_nomem(err);
            }
        }
        const char *name = dr_table_shard_name(l->plan, v, s);
        for (uint32_t n = 0; n < v->node_count; n++) {
            if (name == NULL ||
                (may_have_left(v, to, s, n, name) && add_leftover(l, v, to, s, n) == 0)) {
                return dr_fail_nomem(err);
            }
        }
    }
    return DR_OK;
}

enum dr_code dr_table_sql_rebalance(struct dr_table_list *l, const struct dr_table_view *v,
                                    const struct dr_layout_plan *to, struct dr_err *err)
{
    json_t *fields = begin_fields(v);
    if (fields == NULL || dr_table_add_catalog(l, v, STAGE_MARK, "table_begin", fields,
                                               "table_cancel", "begin the rebalance") == 0) {
        return dr_fail_nomem(err);
    }
    uint64_t before = l->count;
    enum dr_code rc = add_moves(l, v, to, err);
    if (rc == DR_OK && l->count > before && l->plan->request->u.table.hold_s > 0 &&
        add_hold_until(l, v, "hold the replaced copies") == 0) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK) {
        rc = add_retires(l, v, to, err);
    }
    if (rc == DR_OK &&
        dr_table_add_catalog(l, v, STAGE_END, "table_end", NULL, NULL, "end the rebalance") == 0) {
        rc = dr_fail_nomem(err);
    }
    return rc;
}

/* --- drop ------------------------------------------------------------------------------------ */

static int64_t add_hold(struct dr_table_list *l, const struct dr_table_view *v, uint32_t shard,
                        uint32_t node)
{
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = v->node[node].name,
        .query = simple(l->plan, v, "hold", shard),
        .rollback_query = simple(l->plan, v, "unhold", shard),
        .stage = STAGE_WORK,
        .title = dr_table_text(l->plan, "take %s_s%" PRIu32 " on %s out of use", v->table, shard,
                               v->node[node].name)};
    return add(l, &step, true);
}

static int64_t add_drop_held(struct dr_table_list *l, const struct dr_table_view *v, uint32_t shard,
                             uint32_t node)
{
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = v->node[node].name,
        .query = drop_text(l->plan, v, shard, node),
        .stage = STAGE_RETIRE,
        .title = dr_table_text(l->plan, "drop %s_s%" PRIu32 " on %s with its rows", v->table, shard,
                               v->node[node].name)};
    return add(l, &step, false);
}

enum dr_code dr_table_sql_drop(struct dr_table_list *l, const struct dr_table_view *v,
                               struct dr_err *err)
{
    const struct dr_layout_plan *now = &v->layout;
    bool is_good = dr_table_add_catalog(l, v, STAGE_MARK, "table_drop", NULL, "table_undrop",
                                        "close the table") > 0;
    for (uint32_t s = 0; is_good && s < now->shard_count; s++) {
        for (uint32_t i = 0; is_good && i < now->count[s]; i++) {
            is_good = add_hold(l, v, s, now->holder[s][i]) > 0;
        }
    }
    is_good = is_good && (l->plan->request->u.table.hold_s == 0 ||
                          add_hold_until(l, v, "hold the tables") > 0);
    for (uint32_t s = 0; is_good && s < now->shard_count; s++) {
        for (uint32_t i = 0; is_good && i < now->count[s]; i++) {
            is_good = add_drop_held(l, v, s, now->holder[s][i]) > 0;
        }
    }
    is_good = is_good && dr_table_add_catalog(l, v, STAGE_END, "table_remove", NULL, NULL,
                                              "forget the table") > 0;
    return is_good ? DR_OK : dr_fail_nomem(err);
}
