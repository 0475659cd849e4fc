/* SPDX-License-Identifier: Apache-2.0 */
/* How sharded tables of Manticore are made, moved and dropped. Copies are kept by its replication:
 * with rf 2 and more each shard has a cluster of its own, named like the shard, for all its life;
 * with rf 1 a shard is in a temporary cluster while it moves. A node gets a copy by joining, and
 * gives one up by leaving, so that every acknowledged write is in all copies at every moment: a
 * shard that is moving is never outside of its cluster, and a cluster is only ever added to by a
 * node that holds the rows.
 *
 *   create      0 reserve  1 CREATE CLUSTER  2 JOIN, CREATE TABLE  3 ALTER CLUSTER ADD  4 wrappers
 *               5 ready
 *   rebalance   0 begin    1 survivors of dead nodes; temporary clusters  2 ALTER CLUSTER ADD (rf
 * 1) 3 JOIN     4 compare copies   5 wrappers, and wait for statements on the old ones 6 catalog  7
 * hold             8 compare again             9 leave: no return 10 tidy up 11 end drop        0
 * mark     5 withdraw wrappers  7 hold  9 DELETE CLUSTER  10 drop: no return  11 remove
 *
 * Until stage 9 old and new holders are in one cluster: going back is to publish the old wrappers,
 * to wait for statements on the new ones, and to leave. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "plan/table_manticore_private.h"

enum { BINARY_PORT = 9312, TEMP_HEX_OF_OPERATION = 5 };

bool dr_mc_has_groups(const struct dr_table_view *v)
{
    return v->rf > 1;
}

bool dr_mc_holds(const struct dr_layout_plan *l, uint32_t shard, uint32_t node)
{
    for (uint32_t i = 0; i < l->count[shard]; i++) {
        if (l->holder[shard][i] == node) {
            return true;
        }
    }
    return false;
}

/* --- names and addresses -----------------------------------------------------------------------
 */

/* Is this the address of a node that answers? */
static bool is_of_living(const struct dr_table_view *v, const char *address)
{
    for (uint32_t n = 0; n < v->node_count; n++) {
        const char *seen = json_string_value(json_object_get(v->node[n].manticore, "binary"));
        if (v->node[n].is_alive && seen != NULL && strcmp(seen, address) == 0) {
            return true;
        }
    }
    return false;
}

/* The one address in a cluster's member list that no living node has. NULL: none, or several. */
static const char *stranger_of(const struct dr_table_view *v, const json_t *cluster,
                               const char *list)
{
    const char *found = NULL;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(cluster, list), i, one)
    {
        const char *address = json_string_value(one);
        if (address == NULL || is_of_living(v, address)) {
            continue;
        }
        if (found != NULL) {
            return NULL;
        }
        found = address;
    }
    return found;
}

/* How the members of a dead node's clusters call it: those where it is the only dead one. */
static const char *address_by_peers(struct dr_mc_work *w, uint32_t dead)
{
    const struct dr_layout_plan *now = &w->v->layout;
    for (uint32_t s = 0; dr_mc_has_groups(w->v) && s < now->shard_count; s++) {
        const char *name = dr_mc_cluster_of(w, s);
        uint32_t dead_count = 0;
        for (uint32_t i = 0; i < now->count[s]; i++) {
            dead_count += !w->v->node[now->holder[s][i]].is_alive;
        }
        bool is_told = name != NULL && dead_count == 1 && dr_mc_holds(now, s, dead);
        for (uint32_t i = 0; is_told && i < now->count[s]; i++) {
            const struct dr_table_seen_node *peer = &w->v->node[now->holder[s][i]];
            const json_t *cluster =
                json_object_get(json_object_get(peer->manticore, "clusters"), name);
            const char *found = stranger_of(w->v, cluster, "nodes_view");
            found = found == NULL ? stranger_of(w->v, cluster, "nodes_set") : found;
            if (found != NULL) {
                return found;
            }
        }
    }
    return NULL;
}

/* "host:9306" and "host:9312" of a node; of a dead one as far as its URL and its peers tell. */
const char *dr_mc_address(struct dr_mc_work *w, uint32_t node, bool is_binary)
{
    const struct dr_table_seen_node *n = &w->v->node[node];
    const char *seen =
        json_string_value(json_object_get(n->manticore, is_binary ? "binary" : "sql"));
    if (seen != NULL && seen[0] != '\0') {
        return seen;
    }
    const char *said = strstr(n->url, "binary=");
    if (is_binary && said != NULL) {
        said += strlen("binary=");
        return dr_table_text(w->p, "%.*s", (int)strcspn(said, "&"), said);
    }
    const char *told = is_binary && !w->v->node[node].is_alive ? address_by_peers(w, node) : NULL;
    if (told != NULL) {
        return told;
    }
    const char *from = strstr(n->url, "://");
    from = from == NULL ? n->url : from + 3;
    size_t bytes = strcspn(from, "/?");
    const char *at = memchr(from, '@', bytes);
    if (at != NULL) {
        bytes -= (size_t)(at + 1 - from);
        from = at + 1;
    }
    if (!is_binary) {
        return dr_table_text(w->p, "%.*s", (int)bytes, from);
    }
    const char *colon = memchr(from, ':', bytes);
    return dr_table_text(w->p, "%.*s:%d", (int)(colon == NULL ? bytes : (size_t)(colon - from)),
                         from, BINARY_PORT);
}

const char *dr_mc_sql_address(struct dr_mc_work *w, uint32_t node)
{
    return dr_mc_address(w, node, false);
}

const char *dr_mc_table_of(struct dr_mc_work *w, uint32_t shard)
{
    return dr_table_text(w->p, "system.%s_s%" PRIu32, w->v->table, shard);
}

/* The shard's own cluster, or, with rf 1, that of this move. The temporary name tells the second it
 * was made in. */
const char *dr_mc_cluster_of(struct dr_mc_work *w, uint32_t shard)
{
    char hex[TEMP_HEX_OF_OPERATION + 1] = "00000";
    size_t n = 0;
    if (dr_mc_has_groups(w->v)) {
        return dr_table_shard_name(w->p, w->v, shard);
    }
    for (const char *c = w->v->operation; *c != '\0' && n < TEMP_HEX_OF_OPERATION; c++) {
        if (isxdigit((unsigned char)*c)) {
            hex[n++] = (char)tolower((unsigned char)*c);
        }
    }
    return dr_table_text(w->p, "temp_move_%s_s%" PRIu32 "_%08" PRIx32 "%s", w->v->table, shard,
                         (uint32_t)(w->v->now / 1000), hex);
}

/* --- the wrapper -------------------------------------------------------------------------------
 */
static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* agent='a:9312:system.t_s0|b:9312:system.t_s0[...]' or, with one copy here, local='system.t_s0' */
static const char *clause(struct dr_mc_work *w, const struct dr_layout_plan *layout, uint32_t shard,
                          uint32_t node)
{
    struct dr_str out;
    const char *table = dr_mc_table_of(w, shard);
    dr_str_init(&out);
    if (!dr_mc_has_groups(w->v) && layout->count[shard] == 1 && layout->holder[shard][0] == node) {
        dr_str_addf(&out, "local='%s'", table);
    } else {
        dr_str_add(&out, "agent='");
        for (uint32_t n = 0, seen = 0; n < w->v->node_count; n++) {
            const char *at = dr_mc_holds(layout, shard, n) ? dr_mc_address(w, n, true) : NULL;
            if (at != NULL) {
                dr_str_addf(&out, "%s%s:%s", seen++ > 0 ? "|" : "", at, table);
            }
        }
        dr_str_addf(&out, "%s'",
                    dr_mc_has_groups(w->v) ? "[retry_count=2,ha_strategy=noerrors]" : "");
    }
    const char *text =
        out.is_short || table == NULL ? NULL : dr_arena_strdup(w->p->arena, dr_str_text(&out));
    dr_str_fini(&out);
    return text;
}

/* Every wrapper lists every shard: one left out would route ids to other shards. */
static const char *wrapper_text(struct dr_mc_work *w, const struct dr_layout_plan *layout,
                                uint32_t node)
{
    struct dr_str out;
    const char **list =
        dr_arena_alloc(w->p->arena, ((size_t)layout->shard_count + 1) * sizeof *list);
    const char *text = NULL;
    dr_str_init(&out);
    for (uint32_t s = 0; list != NULL && s < layout->shard_count; s++) {
        list[s] = clause(w, layout, s, node);
        if (list[s] == NULL) {
            list = NULL;
        }
    }
    if (list != NULL) {
        qsort(list, layout->shard_count, sizeof *list, compare_texts);
        dr_str_addf(&out, "CREATE TABLE `%s` (%s) type='shard'", w->v->table, w->v->columns);
        for (uint32_t s = 0; s < layout->shard_count; s++) {
            dr_str_addf(&out, " %s", list[s]);
        }
        dr_str_addf(&out, "%s%s", w->v->extra[0] == '\0' ? "" : " ", w->v->extra);
        text = out.is_short ? NULL : dr_arena_strdup(w->p->arena, dr_str_text(&out));
    }
    dr_str_fini(&out);
    return text;
}

/* --- steps -------------------------------------------------------------------------------------
 */

/* The step's number; 0, and the work is short, when a text of it is missing. `undo` NULL: there is
 * none. */
int64_t dr_mc_add_step(struct dr_mc_work *w, uint32_t stage, const char *node, const char *query,
                       const char *undo, const char *title)
{
    const struct dr_plan_step step = {.kind = DR_STEP_COMMAND,
                                      .node = node,
                                      .query = query,
                                      .rollback_query = undo,
                                      .stage = stage,
                                      .title = title};
    bool must_be_undone = undo == NULL && (stage < MOVE_LEAVE);
    if (w->is_short || node == NULL || query == NULL || title == NULL || must_be_undone) {
        w->is_short = true;
        return 0;
    }
    int64_t number = dr_table_add(w->l, &step);
    w->is_short = number == 0;
    return number;
}

void dr_mc_wait_for(struct dr_mc_work *w, int64_t number, int64_t before)
{
    if (number > 0 && before > 0) {
        w->l->step[number - 1].wait_for = before;
        w->l->step[before - 1].rollback_wait_for = number;
    }
}

const char *dr_mc_name_of(const struct dr_mc_work *w, uint32_t node)
{
    return w->v->node[node].name;
}

static const char *only_empty(struct dr_mc_work *w, const char *verb, const char *cluster,
                              const char *table)
{
    json_t *j = json_pack("{s:s,s:s*,s:s,s:b}", "manticore", verb, "cluster", cluster, "table",
                          table, "only_empty", 1);
    return dr_table_json(w->p, j);
}

const char *dr_mc_join_text(struct dr_mc_work *w, uint32_t shard, uint32_t at)
{
    const char *c = dr_mc_cluster_of(w, shard);
    return dr_table_text(w->p, "JOIN CLUSTER %s AT '%s' '%s' as path", c,
                         dr_mc_address(w, at, true), c);
}

static const char *create_cluster_text(struct dr_mc_work *w, uint32_t shard)
{
    const char *c = dr_mc_cluster_of(w, shard);
    return dr_table_text(w->p, "CREATE CLUSTER %s '%s' as path", c, c);
}

static const char *attach_text(struct dr_mc_work *w, uint32_t shard, bool is_add)
{
    return dr_table_text(w->p, "ALTER CLUSTER %s %s %s", dr_mc_cluster_of(w, shard),
                         is_add ? "ADD" : "DROP", dr_mc_table_of(w, shard));
}

/* Publish and wait in one step, so that undoing it waits as well: nobody may still write to a copy
 * that is about to leave. */
const char *dr_mc_publish_text(struct dr_mc_work *w, const struct dr_layout_plan *layout,
                               uint32_t node)
{
    const char *publish = dr_table_json(w->p, json_pack("{s:s,s:s}", "manticore", "publish",
                                                        "create", wrapper_text(w, layout, node)));
    const char *wait = dr_table_json(
        w->p, json_pack("{s:s,s:s}", "manticore", "wait-unused", "table", w->v->table));
    return publish == NULL || wait == NULL ? NULL : dr_table_text(w->p, "%s\n%s", publish, wait);
}

const char *dr_mc_withdraw_text(struct dr_mc_work *w)
{
    return dr_table_json(w->p,
                         json_pack("{s:s,s:s}", "manticore", "withdraw", "table", w->v->table));
}

void dr_mc_add_hold(struct dr_mc_work *w, const char *title)
{
    uint32_t hold_s = w->p->request->u.table.hold_s;
    if (hold_s > 0) {
        json_int_t until = w->v->now + (int64_t)hold_s * 1000;
        (void)dr_mc_add_step(
            w, MOVE_HOLD, "catalog",
            dr_table_json(w->p, json_pack("{s:s,s:I}", "fleet", "hold-until", "until", until)),
            DR_MC_UNDO_NOTHING, title);
    }
}

/* --- create ------------------------------------------------------------------------------------
 */
static bool list_has(const json_t *list, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one)
    {
        const char *text = json_string_value(one);
        if (text != NULL && strcasecmp(text, name) == 0) {
            return true;
        }
    }
    return false;
}

/* What would be made must not be there: nothing on a node says whose it is. */
enum dr_code dr_mc_check_free(struct dr_mc_work *w, uint32_t node, uint32_t shard,
                              struct dr_err *err)
{
    const json_t *facts = w->v->node[node].manticore;
    const char *table = dr_mc_table_of(w, shard);
    const char *cluster = dr_mc_cluster_of(w, shard);
    if (table == NULL || cluster == NULL) {
        return dr_fail_nomem(err);
    }
    if (list_has(json_object_get(facts, "system_tables"), table)) {
        return dr_fail(err, DR_EXISTS,
                       "node %s has a table %s already, which drover did not make for this; look "
                       "at it, and drop it there if nobody needs it",
                       dr_mc_name_of(w, node), table);
    }
    if (json_object_get(json_object_get(facts, "clusters"), cluster) != NULL) {
        return dr_fail(err, DR_EXISTS,
                       "node %s is in a cluster %s already; if nobody needs it, run DELETE CLUSTER "
                       "%s there",
                       dr_mc_name_of(w, node), cluster, cluster);
    }
    return DR_OK;
}

static enum dr_code check_create(struct dr_mc_work *w, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t n = 0; n < w->v->node_count; n++) {
        if (list_has(json_object_get(w->v->node[n].manticore, "tables"), w->v->table)) {
            return dr_fail(err, DR_EXISTS, "node %s has a table %s already", dr_mc_name_of(w, n),
                           w->v->table);
        }
    }
    for (uint32_t s = 0; rc == DR_OK && s < w->to->shard_count; s++) {
        for (uint32_t i = 0; rc == DR_OK && i < w->to->count[s]; i++) {
            rc = dr_mc_check_free(w, w->to->holder[s][i], s, err);
        }
    }
    return rc;
}

int64_t dr_mc_add_cluster(struct dr_mc_work *w, uint32_t stage, uint32_t shard, uint32_t node)
{
    const char *c = dr_mc_cluster_of(w, shard);
    return dr_mc_add_step(w, stage, dr_mc_name_of(w, node), create_cluster_text(w, shard),
                          dr_table_text(w->p, "DELETE CLUSTER %s", c),
                          dr_table_text(w->p, "make cluster %s on %s", c, dr_mc_name_of(w, node)));
}

/* The lowest holder makes the cluster and the table, the others join it. */
static uint32_t founder_of(const struct dr_layout_plan *l, uint32_t shard)
{
    uint32_t lowest = l->holder[shard][0];
    for (uint32_t i = 1; i < l->count[shard]; i++) {
        lowest = l->holder[shard][i] < lowest ? l->holder[shard][i] : lowest;
    }
    return lowest;
}

/* Members join one after another: two at once, or one while a table is added, confuse a cluster. */
static void add_copies(struct dr_mc_work *w, uint32_t shard, int64_t made)
{
    const struct dr_table_view *v = w->v;
    uint32_t first = founder_of(w->to, shard);
    const char *c = dr_mc_cluster_of(w, shard);
    const char *table = dr_mc_table_of(w, shard);
    int64_t before = made;
    for (uint32_t n = 0; dr_mc_has_groups(v) && n < v->node_count; n++) {
        const char *node = dr_mc_name_of(w, n);
        if (n == first || !dr_mc_holds(w->to, shard, n)) {
            continue;
        }
        int64_t joined = dr_mc_add_step(w, MAKE_COPIES, node, dr_mc_join_text(w, shard, first),
                                        only_empty(w, "leave", c, table),
                                        dr_table_text(w->p, "join cluster %s on %s", c, node));
        dr_mc_wait_for(w, joined, before);
        before = joined;
    }
    (void)dr_mc_add_step(w, MAKE_COPIES, dr_mc_name_of(w, first),
                         dr_table_text(w->p, "CREATE TABLE IF NOT EXISTS %s (%s)%s%s", table,
                                       v->columns, v->extra[0] == '\0' ? "" : " ", v->extra),
                         only_empty(w, "drop-shard", NULL, table),
                         dr_table_text(w->p, "make %s on %s", table, dr_mc_name_of(w, first)));
}

void dr_mc_add_attach(struct dr_mc_work *w, uint32_t shard, uint32_t node, uint32_t stage)
{
    (void)dr_mc_add_step(w, stage, dr_mc_name_of(w, node), attach_text(w, shard, true),
                         attach_text(w, shard, false),
                         dr_table_text(w->p, "replicate %s in cluster %s", dr_mc_table_of(w, shard),
                                       dr_mc_cluster_of(w, shard)));
}

enum dr_code dr_table_manticore_create(struct dr_table_list *l, const struct dr_table_view *v,
                                       const struct dr_layout_plan *to, struct dr_err *err)
{
    struct dr_mc_work w = {.l = l, .p = l->plan, .v = v, .to = to};
    int64_t *made = dr_arena_alloc(l->plan->arena, ((size_t)to->shard_count + 1) * sizeof *made);
    enum dr_code rc = made == NULL ? dr_fail_nomem(err) : check_create(&w, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *fields = dr_table_reserve_fields(l->plan, v, to, v->rf);
    w.is_short = fields == NULL || dr_table_add_catalog(l, v, 0, "table_reserve", fields,
                                                        "table_release", "reserve the name") == 0;
    memset(made, 0, ((size_t)to->shard_count + 1) * sizeof *made);
    for (uint32_t s = 0; dr_mc_has_groups(v) && s < to->shard_count; s++) {
        made[s] = dr_mc_add_cluster(&w, MAKE_CLUSTER, s, founder_of(to, s));
    }
    for (uint32_t s = 0; s < to->shard_count; s++) {
        add_copies(&w, s, made[s]);
    }
    for (uint32_t s = 0; dr_mc_has_groups(v) && s < to->shard_count; s++) {
        dr_mc_add_attach(&w, s, founder_of(to, s), MAKE_ATTACH);
    }
    for (uint32_t n = 0; n < v->node_count; n++) {
        (void)dr_mc_add_step(
            &w, MAKE_WRAPPER, dr_mc_name_of(&w, n), wrapper_text(&w, to, n),
            only_empty(&w, "withdraw", NULL, v->table),
            dr_table_text(l->plan, "publish %s on %s", v->table, dr_mc_name_of(&w, n)));
    }
    if (!w.is_short) {
        w.is_short = dr_table_add_catalog(l, v, MAKE_READY, "table_ready", NULL, NULL,
                                          "open the table") == 0;
    }
    return w.is_short ? dr_fail_nomem(err) : DR_OK;
}

/* --- drop --------------------------------------------------------------------------------------
 */
enum dr_code dr_table_manticore_drop(struct dr_table_list *l, const struct dr_table_view *v,
                                     struct dr_err *err)
{
    struct dr_mc_work w = {.l = l, .p = l->plan, .v = v, .to = &v->layout};
    w.is_short =
        dr_table_add_catalog(l, v, 0, "table_drop", NULL, "table_undrop", "close the table") == 0;
    for (uint32_t n = 0; n < v->node_count; n++) {
        (void)dr_mc_add_step(
            &w, MOVE_WRAPPER, dr_mc_name_of(&w, n), dr_mc_withdraw_text(&w),
            dr_mc_publish_text(&w, &v->layout, n),
            dr_table_text(l->plan, "take %s on %s out of use", v->table, dr_mc_name_of(&w, n)));
    }
    dr_mc_add_hold(&w, "hold the tables");
    for (uint32_t s = 0; dr_mc_has_groups(v) && s < v->layout.shard_count; s++) {
        const char *c = dr_mc_cluster_of(&w, s);
        uint32_t first = v->layout.holder[s][0];
        (void)dr_mc_add_step(&w, MOVE_LEAVE, dr_mc_name_of(&w, first),
                             dr_table_text(l->plan, "DELETE CLUSTER %s", c), NULL,
                             dr_table_text(l->plan, "remove cluster %s", c));
    }
    for (uint32_t s = 0; s < v->layout.shard_count; s++) {
        const char *drop = dr_table_json(l->plan, json_pack("{s:s,s:s}", "manticore", "drop-shard",
                                                            "table", dr_mc_table_of(&w, s)));
        const char *c = dr_mc_cluster_of(&w, s);
        for (uint32_t i = 0; i < v->layout.count[s]; i++) {
            const char *node = dr_mc_name_of(&w, v->layout.holder[s][i]);
            /* A node that was away while the cluster was deleted has to delete it for itself. */
            const char *text = dr_mc_has_groups(v) && drop != NULL
                                   ? dr_table_text(l->plan, "DELETE CLUSTER %s\n%s", c, drop)
                                   : drop;
            (void)dr_mc_add_step(
                &w, MOVE_TIDY, node, text, NULL,
                dr_table_text(l->plan, "drop %s on %s with its rows", dr_mc_table_of(&w, s), node));
        }
    }
    if (!w.is_short) {
        w.is_short = dr_table_add_catalog(l, v, MOVE_END, "table_remove", NULL, NULL,
                                          "forget the table") == 0;
    }
    return w.is_short ? dr_fail_nomem(err) : DR_OK;
}
