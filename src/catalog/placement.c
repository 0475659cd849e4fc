/* SPDX-License-Identifier: Apache-2.0 */
/* Which node holds which shard of a table. Pure and deterministic: the same question has the same
 * answer everywhere, so a plan can be looked at before it runs.
 *
 * A change is a flow of least cost: each shard sends its copies to nodes, a node that held the
 * shard before costs nothing, another one costs a move. It is found as in the textbooks (Ahuja,
 * Magnanti, Orlin, "Network Flows", 1993, chapter 9) by shifting load from one node to another
 * along the cheapest path: a copy goes from a to b, another one from b to c. What may not happen -
 * two copies of a shard on one node, a shard without any of its former holders - is no edge of the
 * graph. */
#include <assert.h>
#include <string.h>

#include "catalog/table.h"

enum {
    IS_ON = 1,  /* the layout being made has a copy here */
    WAS_ON = 2, /* the present one has */
    NOWHERE = UINT32_MAX,
    COST_MAX = INT32_MAX / 2,
    /* Copies times nodes up to which loads are levelled by paths of any length; beyond, by single
     * steps, which find the same number of moves unless a constraint is in the way. */
    PATHS_WORK_MAX = 2048,
};

static enum dr_code make_plan(struct dr_arena *a, uint32_t shards, struct dr_layout_plan *out,
                              struct dr_err *err)
{
    out->shard_count = shards;
    out->count = dr_arena_alloc(a, ((size_t)shards + 1) * sizeof *out->count);
    out->holder = dr_arena_alloc(a, ((size_t)shards + 1) * sizeof(uint32_t *));
    return out->count == NULL || out->holder == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* --- a new table ------------------------------------------------------------------------------ */

/* The candidates of one copy: least loaded nodes that the shard does not have; returns how many. */
static uint32_t find_least(const uint32_t *load, uint32_t nodes, const uint32_t *used,
                           uint32_t used_count, uint32_t *candidate)
{
    uint32_t least = UINT32_MAX;
    uint32_t count = 0;
    for (uint32_t n = 0; n < nodes; n++) {
        least = load[n] < least ? load[n] : least;
    }
    while (count == 0) { /* the least loaded may all have it: then the next ones */
        for (uint32_t n = 0; n < nodes; n++) {
            bool is_used = false;
            for (uint32_t k = 0; k < used_count; k++) {
                is_used = is_used || used[k] == n;
            }
            if (load[n] == least && !is_used) {
                candidate[count++] = n;
            }
        }
        least++;
    }
    return count;
}

enum dr_code dr_place_new(uint32_t nodes, uint32_t shards, uint32_t rf, struct dr_arena *a,
                          struct dr_layout_plan *out, struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    if (rf == 0 || shards == 0 || nodes == 0) {
        return dr_fail(err, DR_INPUT, "a table has at least one shard, one copy and one node");
    }
    if (rf > nodes) {
        return dr_fail(err, DR_REFUSED,
                       "%u copies of each shard need as many nodes, there are %u: add nodes or "
                       "ask for fewer copies",
                       rf, nodes);
    }
    uint32_t *load = dr_arena_alloc(a, (size_t)nodes * sizeof *load);
    uint32_t *candidate = dr_arena_alloc(a, (size_t)nodes * sizeof *candidate);
    if (load == NULL || candidate == NULL) {
        return dr_fail_nomem(err);
    }
    memset(load, 0, (size_t)nodes * sizeof *load);
    enum dr_code rc = make_plan(a, shards, out, err);
    for (uint32_t i = 0; rc == DR_OK && i < shards; i++) {
        out->count[i] = rf;
        out->holder[i] = dr_arena_alloc(a, (size_t)rf * sizeof(uint32_t));
        if (out->holder[i] == NULL) {
            return dr_fail_nomem(err);
        }
        for (uint32_t j = 0; j < rf; j++) {
            uint32_t count = find_least(load, nodes, out->holder[i], j, candidate);
            uint32_t chosen = candidate[(i + j) % count];
            out->holder[i][j] = chosen;
            load[chosen]++;
        }
    }
    return rc;
}

/* --- a change --------------------------------------------------------------------------------- */

struct change {
    const struct dr_layout_plan *now;
    uint32_t nodes, shards;
    uint32_t target; /* copies of each shard */
    uint32_t rf;
    uint32_t open; /* nodes that may hold */
    bool *is_open;
    bool *is_new;   /* open, without a copy so far */
    uint8_t *on;    /* shards x nodes */
    uint32_t *load; /* per node */
    uint32_t *kept; /* per shard: copies on former holders */
    /* of one search: */
    int32_t *cost;
    uint32_t *from_node;
    uint32_t *from_shard;
    uint32_t *line; /* a ring of nodes to look at */
    bool *is_in_line;
};

static uint8_t *cell(const struct change *c, uint32_t shard, uint32_t node)
{
    return &c->on[(size_t)shard * c->nodes + node];
}

static void put(struct change *c, uint32_t shard, uint32_t node)
{
    uint8_t *at = cell(c, shard, node);
    assert((*at & IS_ON) == 0);
    *at |= IS_ON;
    c->load[node]++;
    c->kept[shard] += (*at & WAS_ON) != 0;
}

static void take(struct change *c, uint32_t shard, uint32_t node)
{
    uint8_t *at = cell(c, shard, node);
    assert((*at & IS_ON) != 0);
    *at &= (uint8_t)~IS_ON;
    c->load[node]--;
    c->kept[shard] -= (*at & WAS_ON) != 0;
}

static void *alloc_zeroed(struct dr_arena *a, size_t count, size_t bytes_each)
{
    void *block = dr_arena_alloc(a, (count + 1) * bytes_each);
    if (block != NULL) {
        memset(block, 0, (count + 1) * bytes_each);
    }
    return block;
}

static enum dr_code begin_change(struct change *c, struct dr_arena *a, struct dr_err *err)
{
    c->is_open = alloc_zeroed(a, c->nodes, sizeof *c->is_open);
    c->is_new = alloc_zeroed(a, c->nodes, sizeof *c->is_new);
    c->on = alloc_zeroed(a, (size_t)c->shards * c->nodes, sizeof *c->on);
    c->load = alloc_zeroed(a, c->nodes, sizeof *c->load);
    c->kept = alloc_zeroed(a, c->shards, sizeof *c->kept);
    c->cost = alloc_zeroed(a, c->nodes, sizeof *c->cost);
    c->from_node = alloc_zeroed(a, c->nodes, sizeof *c->from_node);
    c->from_shard = alloc_zeroed(a, c->nodes, sizeof *c->from_shard);
    c->line = alloc_zeroed(a, c->nodes, sizeof *c->line);
    c->is_in_line = alloc_zeroed(a, c->nodes, sizeof *c->is_in_line);
    bool is_whole = c->is_open != NULL && c->is_new != NULL && c->on != NULL && c->load != NULL &&
                    c->kept != NULL && c->cost != NULL && c->from_node != NULL &&
                    c->from_shard != NULL && c->line != NULL && c->is_in_line != NULL;
    return is_whole ? DR_OK : dr_fail_nomem(err);
}

/* Keep what can be kept. DR_REFUSED where that leaves a shard without a source or without a holder
 * in common. */
static enum dr_code keep_copies(struct change *c, const bool *is_alive, struct dr_err *err)
{
    for (uint32_t s = 0; s < c->shards; s++) {
        bool is_alive_somewhere = false;
        for (uint32_t k = 0; k < c->now->count[s]; k++) {
            uint32_t n = c->now->holder[s][k];
            if (n >= c->nodes || (*cell(c, s, n) & WAS_ON) != 0) {
                return dr_fail(err, DR_INPUT, "shard %u: node %u is none, or stands there twice", s,
                               n);
            }
            *cell(c, s, n) |= WAS_ON;
            c->is_new[n] = false;
            is_alive_somewhere = is_alive_somewhere || is_alive[n];
            if (c->is_open[n]) {
                put(c, s, n);
            }
        }
        if (!is_alive_somewhere) {
            return dr_fail(err, DR_REFUSED,
                           "shard %u has no living copy: bring one of its nodes back first", s);
        }
        if (c->kept[s] == 0 && c->rf > 1) {
            return dr_fail(err, DR_REFUSED,
                           "shard %u would keep none of its living holders: remove its nodes one "
                           "after another",
                           s);
        }
    }
    return DR_OK;
}

/* The number of copies wanted: too many go from the fullest nodes (not the first holder), too few
 * come to the emptiest. Of equals the last: as the reference does. */
static void settle_counts(struct change *c)
{
    for (uint32_t s = 0; s < c->shards; s++) {
        uint32_t have = c->kept[s];
        for (; have > c->target; have--) {
            uint32_t fullest = NOWHERE;
            bool is_first_seen = false;
            for (uint32_t k = 0; k < c->now->count[s]; k++) {
                uint32_t n = c->now->holder[s][k];
                bool is_on = (*cell(c, s, n) & IS_ON) != 0;
                if (is_on && is_first_seen &&
                    (fullest == NOWHERE || c->load[n] >= c->load[fullest])) {
                    fullest = n;
                }
                is_first_seen = is_first_seen || is_on;
            }
            take(c, s, fullest);
        }
    }
    for (uint32_t s = 0; s < c->shards; s++) {
        for (uint32_t have = c->kept[s]; have < c->target; have++) {
            uint32_t emptiest = NOWHERE;
            for (uint32_t n = 0; n < c->nodes; n++) {
                if (c->is_open[n] && (*cell(c, s, n) & IS_ON) == 0 &&
                    (emptiest == NOWHERE || c->load[n] <= c->load[emptiest])) {
                    emptiest = n;
                }
            }
            put(c, s, emptiest);
        }
    }
}

/* May the copy of `s` on `a` go to `b`, and for how much? COST_MAX: no. */
static int32_t cost_of(const struct change *c, uint32_t s, uint32_t a, uint32_t b)
{
    uint8_t here = *cell(c, s, a);
    uint8_t there = *cell(c, s, b);
    bool was_here = (here & WAS_ON) != 0;
    bool was_there = (there & WAS_ON) != 0;
    if ((here & IS_ON) == 0 || (there & IS_ON) != 0 || !c->is_open[b]) {
        return COST_MAX;
    }
    if (was_here && !was_there && c->rf > 1 && c->kept[s] < 2) {
        return COST_MAX; /* the last former holder */
    }
    return (was_there ? 0 : 1) - (was_here ? 0 : 1);
}

/* The cheapest single step. Equal ones: the lowest shard. */
static int32_t find_step(const struct change *c, uint32_t a, uint32_t b, uint32_t *shard_out)
{
    int32_t best = COST_MAX;
    for (uint32_t s = 0; s < c->shards; s++) {
        int32_t cost = cost_of(c, s, a, b);
        if (cost < best) {
            best = cost;
            *shard_out = s;
        }
    }
    return best;
}

/* Cheapest paths from `a` to all nodes (Bellman and Ford, with a line of nodes to look at again).
 * No cycle gains anything, since each step so far was a cheapest one; the number of looks is
 * bounded all the same. */
static void find_paths(struct change *c, uint32_t a)
{
    uint32_t head = 0;
    uint32_t waiting = 1;
    uint64_t looks_max = (uint64_t)c->nodes * c->nodes + 1;
    for (uint32_t n = 0; n < c->nodes; n++) {
        c->cost[n] = n == a ? 0 : COST_MAX;
        c->from_node[n] = NOWHERE;
        c->is_in_line[n] = n == a;
    }
    c->line[0] = a;
    for (uint64_t looks = 0; waiting > 0 && looks < looks_max; looks++) {
        uint32_t n = c->line[head];
        head = head + 1 == c->nodes ? 0 : head + 1;
        waiting--;
        c->is_in_line[n] = false;
        for (uint32_t b = 0; b < c->nodes; b++) {
            uint32_t shard = 0;
            int32_t step = b == a || b == n ? COST_MAX : find_step(c, n, b, &shard);
            if (step == COST_MAX || c->cost[n] + step >= c->cost[b]) {
                continue;
            }
            c->cost[b] = c->cost[n] + step;
            c->from_node[b] = n;
            c->from_shard[b] = shard;
            if (!c->is_in_line[b]) {
                c->is_in_line[b] = true;
                uint32_t at = head + waiting;
                c->line[at < c->nodes ? at : at - c->nodes] = b;
                waiting++;
            }
        }
    }
}

/* Is the path to `b` one on which each shard moves once? Otherwise the steps would not be the ones
 * that were looked at. */
static bool is_plain_path(const struct change *c, uint32_t a, uint32_t b)
{
    uint32_t steps = 0;
    for (uint32_t n = b; n != a; n = c->from_node[n]) {
        if (c->from_node[n] == NOWHERE || ++steps > c->nodes) {
            return false;
        }
        for (uint32_t m = c->from_node[n]; m != a; m = c->from_node[m]) {
            if (c->from_node[m] == NOWHERE || c->from_shard[m] == c->from_shard[n]) {
                return false;
            }
        }
    }
    return true;
}

/* Every shard on the path is another one, so the order of the steps does not matter. */
static void walk_path(struct change *c, uint32_t a, uint32_t b)
{
    for (uint32_t n = b; n != a; n = c->from_node[n]) {
        take(c, c->from_shard[n], c->from_node[n]);
        put(c, c->from_shard[n], n);
    }
}

/* --- filling new nodes --- */

/* No node shall have more than `most` copies, no new one less than most - 1. */
static bool may_lose(const struct change *c, uint32_t n, uint32_t most)
{
    return c->load[n] > 0 && (!c->is_new[n] || c->load[n] >= most);
}

/* Level as far as it costs nothing: copies that must go somewhere else anyway can go anywhere. */
static void level_freely(struct change *c, uint32_t most)
{
    bool is_better = true;
    while (is_better) {
        is_better = false;
        for (uint32_t a = 0; a < c->nodes; a++) {
            uint32_t best = NOWHERE;
            if (c->load[a] < 2 || !may_lose(c, a, most)) {
                continue;
            }
            find_paths(c, a);
            for (uint32_t b = 0; b < c->nodes; b++) {
                if (c->is_open[b] && c->cost[b] <= 0 && c->load[b] + 2 <= c->load[a] &&
                    (best == NOWHERE || c->load[b] < c->load[best]) && is_plain_path(c, a, b)) {
                    best = b;
                }
            }
            if (best != NOWHERE) {
                walk_path(c, a, best);
                is_better = true;
            }
        }
    }
}

/* The cheapest way to bring one copy from `a` to `b`; COST_MAX: there is none. */
static int32_t look_way(struct change *c, uint32_t a, uint32_t b, bool is_exact)
{
    uint32_t shard = 0;
    int32_t step = find_step(c, a, b, &shard);
    if (is_exact || step == COST_MAX) {
        find_paths(c, a);
        if (c->cost[b] < step && is_plain_path(c, a, b)) {
            return c->cost[b];
        }
    }
    return step;
}

static void go_way(struct change *c, uint32_t a, uint32_t b, int32_t cost)
{
    uint32_t shard = 0;
    if (find_step(c, a, b, &shard) <= cost) {
        take(c, shard, a);
        put(c, shard, b);
    } else {
        find_paths(c, a);
        walk_path(c, a, b);
    }
}

/* A node with too many gives one to the cheapest that has room: new ones first, in their order,
 * then the emptiest. */
static bool unload_one(struct change *c, uint32_t a, uint32_t most, bool is_exact)
{
    uint32_t best = NOWHERE;
    int32_t best_cost = COST_MAX;
    for (uint32_t b = 0; b < c->nodes; b++) {
        if (!c->is_open[b] || c->load[b] >= most) {
            continue;
        }
        if (!is_exact && best != NOWHERE && (c->is_new[best] || c->load[b] >= c->load[best])) {
            continue;
        }
        int32_t cost = look_way(c, a, b, is_exact);
        bool is_better =
            cost < best_cost || (best != NOWHERE && cost == best_cost && !c->is_new[best] &&
                                 (c->is_new[b] || c->load[b] < c->load[best]));
        if (is_better) {
            best = b;
            best_cost = cost;
        }
    }
    if (best != NOWHERE) {
        go_way(c, a, best, best_cost);
    }
    return best != NOWHERE;
}

/* A new node that has too few gets one: the cheapest way, from the fullest, of those the first. */
static bool load_one(struct change *c, uint32_t b, uint32_t most, bool is_exact)
{
    uint32_t best = NOWHERE;
    int32_t best_cost = COST_MAX;
    for (uint32_t a = 0; a < c->nodes; a++) {
        if (a == b || !may_lose(c, a, most) ||
            (!is_exact && best != NOWHERE && c->load[a] <= c->load[best])) {
            continue;
        }
        int32_t cost = look_way(c, a, b, is_exact);
        if (cost < best_cost ||
            (best != NOWHERE && cost == best_cost && c->load[a] > c->load[best])) {
            best = a;
            best_cost = cost;
        }
    }
    if (best != NOWHERE) {
        go_way(c, best, b, best_cost);
    }
    return best != NOWHERE;
}

/* False: it cannot be. */
static bool fill_new(struct change *c, uint32_t most, bool is_exact)
{
    for (uint32_t n = 0; n < c->nodes; n++) {
        while (c->load[n] > most) {
            if (!unload_one(c, n, most, is_exact)) {
                return false;
            }
        }
    }
    for (uint32_t n = 0; n < c->nodes; n++) {
        while (c->is_new[n] && c->load[n] + 1 < most) {
            if (!load_one(c, n, most, is_exact)) {
                return false;
            }
        }
    }
    if (is_exact) {
        level_freely(c, most);
    }
    return true;
}

struct result {
    uint64_t moves;
    uint64_t unevenness; /* sum of the squares of loads */
};

static struct result measure(const struct change *c)
{
    struct result r = {0};
    for (uint32_t n = 0; n < c->nodes; n++) {
        r.unevenness += (uint64_t)c->load[n] * c->load[n];
    }
    for (uint32_t s = 0; s < c->shards; s++) {
        r.moves += c->target - c->kept[s];
    }
    return r;
}

/* What a limit of `most` costs at least: what is above it must go, what new nodes lack must come
 * from what goes anyway or from others. */
static uint64_t estimate(const struct change *c, uint32_t most)
{
    uint64_t above = 0;
    uint64_t lacking = 0;
    for (uint32_t n = 0; n < c->nodes; n++) {
        above += c->load[n] > most ? c->load[n] - most : 0;
        lacking += c->is_new[n] && c->load[n] + 1 < most ? most - 1 - c->load[n] : 0;
    }
    return above > lacking ? above : lacking;
}

/* Remembers and brings back the layout. */
struct kept_layout {
    uint8_t *on;
    uint32_t *load, *kept;
};

static void copy_layout(const struct change *c, uint8_t *on, uint32_t *load, uint32_t *kept,
                        const uint8_t *from_on, const uint32_t *from_load,
                        const uint32_t *from_kept)
{
    memcpy(on, from_on, (size_t)c->shards * c->nodes * sizeof *on);
    memcpy(load, from_load, (size_t)c->nodes * sizeof *load);
    memcpy(kept, from_kept, (size_t)c->shards * sizeof *kept);
}

/* Give new nodes their share with the fewest moves: for every limit of the fullest node there is a
 * cheapest layout, and the best of these is it. Where the limits are many, an estimate chooses. */
static enum dr_code share_out(struct change *c, bool is_exact, struct dr_arena *a,
                              struct dr_err *err)
{
    struct kept_layout base = {.on = alloc_zeroed(a, (size_t)c->shards * c->nodes, 1),
                               .load = alloc_zeroed(a, c->nodes, sizeof(uint32_t)),
                               .kept = alloc_zeroed(a, c->shards, sizeof(uint32_t))};
    uint64_t copies = (uint64_t)c->shards * c->target;
    uint32_t from = (uint32_t)((copies + c->open - 1) / c->open);
    uint32_t upto = from;
    uint32_t best = NOWHERE;
    struct result best_result = {UINT64_MAX, UINT64_MAX};
    uint64_t best_estimate = UINT64_MAX;
    if (base.on == NULL || base.load == NULL || base.kept == NULL) {
        return dr_fail_nomem(err);
    }
    copy_layout(c, base.on, base.load, base.kept, c->on, c->load, c->kept);
    for (uint32_t n = 0; n < c->nodes; n++) {
        upto = c->load[n] > upto ? c->load[n] : upto;
    }
    for (uint32_t most = from; most <= upto; most++) {
        struct result r = {UINT64_MAX, UINT64_MAX};
        if (!is_exact) {
            uint64_t cost = estimate(c, most);
            best = cost < best_estimate ? most : best;
            best_estimate = cost < best_estimate ? cost : best_estimate;
            continue;
        }
        if (estimate(c, most) <= best_result.moves && fill_new(c, most, true)) {
            r = measure(c);
        }
        if (r.moves < best_result.moves ||
            (r.moves == best_result.moves && r.unevenness < best_result.unevenness)) {
            best = most;
            best_result = r;
        }
        copy_layout(c, c->on, c->load, c->kept, base.on, base.load, base.kept);
    }
    if (best != NOWHERE && !fill_new(c, best, is_exact)) {
        copy_layout(c, c->on, c->load, c->kept, base.on, base.load, base.kept);
    }
    return DR_OK;
}

/* Former holders in their order, then the others. */
static enum dr_code write_plan(const struct change *c, struct dr_arena *a,
                               struct dr_layout_plan *out, struct dr_err *err)
{
    enum dr_code rc = make_plan(a, c->shards, out, err);
    for (uint32_t s = 0; rc == DR_OK && s < c->shards; s++) {
        uint32_t count = 0;
        out->holder[s] = dr_arena_alloc(a, (size_t)c->target * sizeof(uint32_t));
        if (out->holder[s] == NULL) {
            return dr_fail_nomem(err);
        }
        for (uint32_t k = 0; k < c->now->count[s]; k++) {
            uint32_t n = c->now->holder[s][k];
            if ((*cell(c, s, n) & IS_ON) != 0) {
                out->holder[s][count++] = n;
            }
        }
        for (uint32_t n = 0; n < c->nodes; n++) {
            if (*cell(c, s, n) == IS_ON) {
                out->holder[s][count++] = n;
            }
        }
        assert(count == c->target);
        out->count[s] = count;
    }
    return rc;
}

enum dr_code dr_place_change(const struct dr_layout_plan *now, uint32_t nodes, const bool *may_hold,
                             const bool *is_alive, uint32_t rf, struct dr_arena *a,
                             struct dr_layout_plan *out, struct dr_err *err)
{
    struct change c = {.now = now, .nodes = nodes, .shards = now->shard_count, .rf = rf};
    memset(out, 0, sizeof *out);
    enum dr_code rc = begin_change(&c, a, err);
    if (rc != DR_OK) {
        return rc;
    }
    for (uint32_t n = 0; n < nodes; n++) {
        c.is_open[n] = may_hold[n] && is_alive[n];
        c.is_new[n] = c.is_open[n];
        c.open += c.is_open[n];
    }
    if (c.open == 0 || rf == 0) {
        return dr_fail(err, DR_REFUSED, "no living node is left that could hold a shard");
    }
    c.target = rf < c.open ? rf : c.open;
    rc = keep_copies(&c, is_alive, err);
    if (rc != DR_OK) {
        return rc;
    }
    settle_counts(&c);
    bool is_exact = (uint64_t)c.shards * c.target * nodes <= PATHS_WORK_MAX;
    bool has_new = false;
    for (uint32_t n = 0; n < nodes; n++) {
        has_new = has_new || c.is_new[n];
    }
    if (has_new) {
        rc = share_out(&c, is_exact, a, err);
    } else if (is_exact) {
        level_freely(&c, 0);
    }
    if (rc != DR_OK) {
        return rc;
    }
    return write_plan(&c, a, out, err);
}

uint64_t dr_place_moves(const struct dr_layout_plan *from, const struct dr_layout_plan *to)
{
    uint64_t moves = 0;
    for (uint32_t s = 0; s < to->shard_count; s++) {
        for (uint32_t k = 0; k < to->count[s]; k++) {
            bool is_there = false;
            for (uint32_t i = 0; s < from->shard_count && i < from->count[s]; i++) {
                is_there = is_there || from->holder[s][i] == to->holder[s][k];
            }
            moves += !is_there;
        }
    }
    return moves;
}
