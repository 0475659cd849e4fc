/* SPDX-License-Identifier: Apache-2.0 */
/* How copies of Manticore's shards move: the stages are drawn in table_manticore.c. Until an old
 * holder leaves, old and new ones are in one cluster, so nothing is lost forwards or backwards. */
#include <inttypes.h>
#include <string.h>

#include "plan/table_manticore_private.h"

static bool is_moved(const struct dr_table_view *v, const struct dr_layout_plan *to, uint32_t shard)
{
    return v->layout.count[shard] != to->count[shard] ||
           memcmp(v->layout.holder[shard], to->holder[shard],
                  to->count[shard] * sizeof to->holder[shard][0]) != 0;
}

/* Out of the cluster, and this node's copy goes, where `other` keeps one. */
static const char *leave_text(struct dr_mc_work *w, uint32_t shard, uint32_t other)
{
    return dr_table_json(w->p,
                         json_pack("{s:s,s:s,s:s,s:s}", "manticore", "leave", "cluster",
                                   dr_mc_cluster_of(w, shard), "table", dr_mc_table_of(w, shard),
                                   "node", dr_mc_sql_address(w, other)));
}

static const char *compare_text(struct dr_mc_work *w, uint32_t shard, uint32_t other)
{
    return dr_table_json(w->p,
                         json_pack("{s:s,s:s,s:s}", "manticore", "same-count", "table",
                                   dr_mc_table_of(w, shard), "node", dr_mc_sql_address(w, other)));
}

/* --- rebalance ---------------------------------------------------------------------------------
 */

/* The holder that stays, else the first that lives: it has every acknowledged row. */
static uint32_t source_of(const struct dr_mc_work *w, uint32_t shard)
{
    const struct dr_layout_plan *now = &w->v->layout;
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 0; i < now->count[shard]; i++) {
        uint32_t node = now->holder[shard][i];
        if (w->v->node[node].is_alive && dr_mc_holds(w->to, shard, node)) {
            return node;
        }
        if (w->v->node[node].is_alive && found == UINT32_MAX) {
            found = node;
        }
    }
    return found;
}

/* A survivor may be told to go on alone only where those that do not answer cannot be going on
 * themselves: half of the members, or fewer, have no quorum. */
static enum dr_code check_quorum(const struct dr_mc_work *w, uint32_t shard, struct dr_err *err)
{
    const struct dr_layout_plan *now = &w->v->layout;
    uint32_t dead = 0;
    for (uint32_t i = 0; i < now->count[shard]; i++) {
        dead += !w->v->node[now->holder[shard][i]].is_alive;
    }
    if (source_of(w, shard) == UINT32_MAX) {
        return dr_fail(err, DR_REFUSED,
                       "%s: no node that holds shard %" PRIu32
                       " answers; its rows come back with its node",
                       w->v->table, shard);
    }
    if (2 * dead > now->count[shard]) {
        return dr_fail(err, DR_REFUSED,
                       "%s: %" PRIu32 " of %" PRIu32 " nodes that hold shard %" PRIu32
                       " do not answer; they could be at work together elsewhere, and to go on "
                       "without them could make two truths; bring one of them back first",
                       w->v->table, dead, now->count[shard], shard);
    }
    return DR_OK;
}

static enum dr_code check_moves(struct dr_mc_work *w, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t s = 0; rc == DR_OK && s < w->to->shard_count; s++) {
        if (!is_moved(w->v, w->to, s)) {
            continue;
        }
        rc = check_quorum(w, s, err);
        for (uint32_t i = 0; rc == DR_OK && i < w->to->count[s]; i++) {
            uint32_t node = w->to->holder[s][i];
            if (!dr_mc_holds(&w->v->layout, s, node)) {
                rc = dr_mc_check_free(w, node, s, err);
            }
        }
    }
    return rc;
}

/* With rf 1 and nothing to give to anybody there is nothing to replicate. */
static uint32_t fresh_count(const struct dr_mc_work *w, uint32_t shard)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->to->count[shard]; i++) {
        count += !dr_mc_holds(&w->v->layout, shard, w->to->holder[shard][i]);
    }
    return count;
}

/* Let the survivors go on without the dead member, whether its absence was noticed already or not.
 */
static void add_survivor(struct dr_mc_work *w, uint32_t shard, uint32_t dead)
{
    uint32_t node = source_of(w, shard);
    const char *c = dr_mc_cluster_of(w, shard);
    const char *wait =
        dr_table_json(w->p, json_pack("{s:s,s:s,s:i,s:s}", "manticore", "wait-synced", "cluster", c,
                                      "size", 1, "without", dr_mc_address(w, dead, true)));
    (void)dr_mc_add_step(
        w, MOVE_PREPARE, dr_mc_name_of(w, node),
        wait == NULL ? NULL
                     : dr_table_text(w->p, "SET CLUSTER %s GLOBAL 'pc.bootstrap' = 1\n%s", c, wait),
        DR_MC_UNDO_NOTHING,
        dr_table_text(w->p, "let cluster %s go on without %s", c, dr_mc_name_of(w, dead)));
}

static void add_prepare(struct dr_mc_work *w, uint32_t shard)
{
    const struct dr_layout_plan *now = &w->v->layout;
    if (!dr_mc_has_groups(w->v)) {
        (void)dr_mc_add_cluster(w, MOVE_PREPARE, shard, source_of(w, shard));
        return;
    }
    for (uint32_t i = 0; i < now->count[shard]; i++) {
        if (!w->v->node[now->holder[shard][i]].is_alive) {
            add_survivor(w, shard, now->holder[shard][i]);
        }
    }
}

static void add_joins(struct dr_mc_work *w, uint32_t shard)
{
    uint32_t source = source_of(w, shard);
    const char *c = dr_mc_cluster_of(w, shard);
    int64_t before = 0;
    for (uint32_t i = 0; i < w->to->count[shard]; i++) {
        uint32_t node = w->to->holder[shard][i];
        if (dr_mc_holds(&w->v->layout, shard, node)) {
            continue;
        }
        int64_t joined =
            dr_mc_add_step(w, MOVE_JOIN, dr_mc_name_of(w, node), dr_mc_join_text(w, shard, source),
                           leave_text(w, shard, source),
                           dr_table_text(w->p, "copy %s from %s to %s by joining cluster %s",
                                         dr_mc_table_of(w, shard), dr_mc_name_of(w, source),
                                         dr_mc_name_of(w, node), c));
        dr_mc_wait_for(w, joined, before);
        before = joined;
    }
}

static void add_compares(struct dr_mc_work *w, uint32_t shard)
{
    uint32_t source = source_of(w, shard);
    for (uint32_t i = 0; i < w->to->count[shard]; i++) {
        uint32_t node = w->to->holder[shard][i];
        if (dr_mc_holds(&w->v->layout, shard, node)) {
            continue;
        }
        const char *wait =
            dr_table_json(w->p, json_pack("{s:s,s:s,s:i}", "manticore", "wait-synced", "cluster",
                                          dr_mc_cluster_of(w, shard), "size", 2));
        (void)dr_mc_add_step(
            w, MOVE_COMPARE, dr_mc_name_of(w, node),
            wait == NULL ? NULL
                         : dr_table_text(w->p, "%s\n%s", wait, compare_text(w, shard, source)),
            DR_MC_UNDO_NOTHING,
            dr_table_text(w->p, "compare %s on %s with %s", dr_mc_table_of(w, shard),
                          dr_mc_name_of(w, node), dr_mc_name_of(w, source)));
    }
}

static void add_wrappers(struct dr_mc_work *w)
{
    for (uint32_t n = 0; n < w->v->node_count; n++) {
        const struct dr_table_seen_node *node = &w->v->node[n];
        if (!node->is_alive) {
            continue; /* its old wrapper goes when it is back */
        }
        (void)dr_mc_add_step(
            w, MOVE_WRAPPER, node->name, dr_mc_publish_text(w, w->to, n),
            node->is_new ? dr_mc_withdraw_text(w) : dr_mc_publish_text(w, &w->v->layout, n),
            dr_table_text(w->p, "publish the new layout of %s on %s", w->v->table, node->name));
    }
}

static const char *switch_text(struct dr_mc_work *w, uint32_t shard, bool is_forward)
{
    const struct dr_layout_plan *now = &w->v->layout;
    json_t *old = dr_table_names(w->v, now->holder[shard], now->count[shard]);
    json_t *new = dr_table_names(w->v, w->to->holder[shard], w->to->count[shard]);
    json_t *more = json_pack("{s:i,s:o,s:o}", "shard", (int)shard, "from", is_forward ? old : new,
                             "to", is_forward ? new : old);
    return more == NULL ? NULL : dr_table_entry(w->p, w->v, "table_switch", more);
}

static void add_switch(struct dr_mc_work *w, uint32_t shard)
{
    (void)dr_mc_add_step(w, MOVE_SWITCH, "catalog", switch_text(w, shard, true),
                         switch_text(w, shard, false),
                         dr_table_text(w->p, "switch shard %" PRIu32 " over", shard));
}

/* What a dead node still has when it is back, and how to reach it: the catalog forgets it. */
static void add_given_up(struct dr_mc_work *w, uint32_t shard, uint32_t node)
{
    uint32_t stays = w->to->holder[shard][0];
    const char *leave = leave_text(w, shard, stays);
    const char *withdraw = dr_mc_withdraw_text(w);
    const char *command =
        leave == NULL || withdraw == NULL ? NULL : dr_table_text(w->p, "%s\n%s", withdraw, leave);
    json_t *id = json_pack("{s:s,s:s,s:s,s:s}", "name", dr_table_shard_name(w->p, w->v, shard),
                           "table", w->v->table, "owner", w->v->uuid, "operation", w->v->operation);
    const struct dr_plan_step step = {
        .kind = DR_STEP_COMMAND,
        .node = "catalog",
        .query = dr_table_json(w->p, json_pack("{s:s}", "fleet", "give-up")),
        .stage = MOVE_TIDY,
        .cleanup = dr_table_json(w->p, json_pack("{s:s,s:o,s:s,s:s}", "fleet", "clean", "shard", id,
                                                 "url", w->v->node[node].url, "command", command)),
        .title = dr_table_text(w->p, "give up shard %" PRIu32 " on %s; cleaned when it is back",
                               shard, dr_mc_name_of(w, node))};
    w->is_short = w->is_short || step.query == NULL || step.cleanup == NULL || step.title == NULL ||
                  dr_table_add(w->l, &step) == 0;
}

static void add_leaves(struct dr_mc_work *w, uint32_t shard, bool is_compare)
{
    const struct dr_layout_plan *now = &w->v->layout;
    uint32_t stays = w->to->holder[shard][0];
    for (uint32_t i = 0; i < now->count[shard]; i++) {
        uint32_t node = now->holder[shard][i];
        if (dr_mc_holds(w->to, shard, node) || !w->v->node[node].is_alive) {
            continue;
        }
        if (is_compare) {
            (void)dr_mc_add_step(w, MOVE_COMPARE_AGAIN, dr_mc_name_of(w, node),
                                 compare_text(w, shard, stays), DR_MC_UNDO_NOTHING,
                                 dr_table_text(w->p, "compare %s on %s with %s once more",
                                               dr_mc_table_of(w, shard), dr_mc_name_of(w, node),
                                               dr_mc_name_of(w, stays)));
        } else {
            (void)dr_mc_add_step(
                w, MOVE_LEAVE, dr_mc_name_of(w, node), leave_text(w, shard, stays), NULL,
                dr_table_text(w->p, "drop %s on %s, which %s has", dr_mc_table_of(w, shard),
                              dr_mc_name_of(w, node), dr_mc_name_of(w, stays)));
        }
    }
}

static void add_tidy(struct dr_mc_work *w, uint32_t shard)
{
    const struct dr_layout_plan *now = &w->v->layout;
    uint32_t stays = w->to->holder[shard][0];
    const char *c = dr_mc_cluster_of(w, shard);
    if (!dr_mc_has_groups(w->v)) {
        (void)dr_mc_add_step(w, MOVE_TIDY, dr_mc_name_of(w, stays),
                             dr_table_text(w->p, "DELETE CLUSTER %s", c), NULL,
                             dr_table_text(w->p, "remove cluster %s", c));
        return;
    }
    for (uint32_t i = 0; i < now->count[shard]; i++) {
        uint32_t node = now->holder[shard][i];
        if (!w->v->node[node].is_alive && !dr_mc_holds(w->to, shard, node)) {
            (void)dr_mc_add_step(
                w, MOVE_TIDY, dr_mc_name_of(w, stays),
                dr_table_text(w->p, "ALTER CLUSTER %s UPDATE nodes", c), NULL,
                dr_table_text(w->p, "forget %s in cluster %s", dr_mc_name_of(w, node), c));
            add_given_up(w, shard, node);
        }
    }
}

static void add_withdrawals(struct dr_mc_work *w)
{
    for (uint32_t n = 0; n < w->v->node_count; n++) {
        if (w->v->node[n].is_leaving && w->v->node[n].is_alive) {
            (void)dr_mc_add_step(
                w, MOVE_TIDY, dr_mc_name_of(w, n), dr_mc_withdraw_text(w), NULL,
                dr_table_text(w->p, "withdraw %s on %s", w->v->table, dr_mc_name_of(w, n)));
        }
    }
}

static json_t *begin_fields(const struct dr_table_view *v)
{
    json_t *j = json_pack("{s:s,s:[],s:[]}", "what", "rebalance", "add", "remove");
    for (uint32_t n = 0; j != NULL && n < v->node_count; n++) {
        const struct dr_table_seen_node *node = &v->node[n];
        int failed = 0;
        if (node->is_new) {
            failed =
                json_array_append_new(json_object_get(j, "add"),
                                      json_pack("{s:s,s:s}", "name", node->name, "url", node->url));
        } else if (node->is_leaving) {
            failed = json_array_append_new(json_object_get(j, "remove"), json_string(node->name));
        }
        if (failed != 0) {
            json_decref(j);
            j = NULL;
        }
    }
    return j;
}

/* Is there a copy to hold at all? What a dead node has is out of reach anyway. */
static bool has_leaving(const struct dr_mc_work *w)
{
    const struct dr_layout_plan *now = &w->v->layout;
    for (uint32_t s = 0; s < now->shard_count; s++) {
        for (uint32_t i = 0; i < now->count[s]; i++) {
            uint32_t node = now->holder[s][i];
            if (w->v->node[node].is_alive && !dr_mc_holds(w->to, s, node)) {
                return true;
            }
        }
    }
    return false;
}

/* Each stage over all shards that move. */
static void add_stage(struct dr_mc_work *w, uint32_t stage)
{
    for (uint32_t s = 0; s < w->to->shard_count; s++) {
        bool is_fresh = is_moved(w->v, w->to, s) && fresh_count(w, s) > 0;
        if (!is_moved(w->v, w->to, s)) {
            continue;
        }
        if (stage == MOVE_PREPARE && (dr_mc_has_groups(w->v) || is_fresh)) {
            add_prepare(w, s);
        } else if (stage == MOVE_ATTACH && !dr_mc_has_groups(w->v) && is_fresh) {
            dr_mc_add_attach(w, s, source_of(w, s), MOVE_ATTACH);
        } else if (stage == MOVE_JOIN) {
            add_joins(w, s);
        } else if (stage == MOVE_COMPARE) {
            add_compares(w, s);
        } else if (stage == MOVE_SWITCH) {
            add_switch(w, s);
        } else if (stage == MOVE_COMPARE_AGAIN || stage == MOVE_LEAVE) {
            add_leaves(w, s, stage == MOVE_COMPARE_AGAIN);
        } else if (stage == MOVE_TIDY) {
            add_tidy(w, s);
        }
    }
}

enum dr_code dr_table_manticore_rebalance(struct dr_table_list *l, const struct dr_table_view *v,
                                          const struct dr_layout_plan *to, struct dr_err *err)
{
    struct dr_mc_work w = {.l = l, .p = l->plan, .v = v, .to = to};
    enum dr_code rc = check_moves(&w, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *fields = begin_fields(v);
    w.is_short = fields == NULL || dr_table_add_catalog(l, v, 0, "table_begin", fields,
                                                        "table_cancel", "begin the rebalance") == 0;
    for (uint32_t stage = MOVE_PREPARE; stage <= MOVE_TIDY; stage++) {
        if (stage == MOVE_WRAPPER) {
            add_wrappers(&w);
        } else if (stage == MOVE_HOLD && has_leaving(&w)) {
            dr_mc_add_hold(&w, "hold the replaced copies");
        } else {
            add_stage(&w, stage);
        }
    }
    add_withdrawals(&w);
    if (!w.is_short) {
        w.is_short =
            dr_table_add_catalog(l, v, MOVE_END, "table_end", NULL, NULL, "end the rebalance") == 0;
    }
    return w.is_short ? dr_fail_nomem(err) : DR_OK;
}
