/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of placement: the golden vectors, the expectations of the reference's own tests, and
 * thousands of layouts made up from seeds, small ones against all possible answers.
 *
 * Layouts are written as the shards of each node: "[0,2][1]". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "catalog/table.h"

enum { NODES_MAX = 64, TEXT_BYTES = 16 * 1024 };

static struct dr_arena *arena;

static int open_arena(void **state)
{
    (void)state;
    arena = dr_arena_create(1 << 16);
    return arena == NULL;
}

static int close_arena(void **state)
{
    (void)state;
    dr_arena_destroy(arena);
    return 0;
}

/* --- layouts as texts --- */

static void add_holder(struct dr_layout_plan *p, uint32_t shard, uint32_t node)
{
    for (; p->shard_count <= shard; p->shard_count++) {
        p->count[p->shard_count] = 0;
        p->holder[p->shard_count] = dr_arena_alloc(arena, NODES_MAX * sizeof(uint32_t));
    }
    p->holder[shard][p->count[shard]++] = node;
}

static struct dr_layout_plan empty_layout(void)
{
    struct dr_layout_plan p = {0};
    p.count = dr_arena_alloc(arena, 4096 * sizeof(uint32_t));
    p.holder = dr_arena_alloc(arena, 4096 * sizeof(uint32_t *));
    return p;
}

static struct dr_layout_plan layout(const char *text, uint32_t *nodes_out)
{
    struct dr_layout_plan p = empty_layout();
    uint32_t node = 0;
    for (const char *at = text; *at != '\0';) {
        if (*at >= '0' && *at <= '9') {
            add_holder(&p, (uint32_t)strtoul(at, (char **)&at, 10), node);
            continue;
        }
        node += *at == ']';
        at++;
    }
    *nodes_out = node;
    return p;
}

static const char *print(const struct dr_layout_plan *p, uint32_t nodes)
{
    static char text[TEXT_BYTES];
    size_t used = 0;
    for (uint32_t n = 0; n < nodes; n++) {
        bool is_first = true;
        text[used++] = '[';
        for (uint32_t s = 0; s < p->shard_count; s++) {
            for (uint32_t k = 0; k < p->count[s]; k++) {
                if (p->holder[s][k] == n) {
                    used += (size_t)snprintf(text + used, sizeof text - used, "%s%u",
                                             is_first ? "" : ",", s);
                    is_first = false;
                }
            }
        }
        text[used++] = ']';
    }
    text[used] = '\0';
    return text;
}

static bool holds(const struct dr_layout_plan *p, uint32_t shard, uint32_t node)
{
    for (uint32_t k = 0; k < p->count[shard]; k++) {
        if (p->holder[shard][k] == node) {
            return true;
        }
    }
    return false;
}

static uint32_t load_of(const struct dr_layout_plan *p, uint32_t node)
{
    uint32_t load = 0;
    for (uint32_t s = 0; s < p->shard_count; s++) {
        load += holds(p, s, node);
    }
    return load;
}

/* --- new tables --- */

static const struct {
    uint32_t nodes, shards, rf;
    const char *layout;
} golden[] = {
    {2, 4, 1, "[0,2][1,3]"},          {3, 2, 1, "[0][][1]"},
    {3, 3, 1, "[0][2][1]"},           {3, 4, 1, "[0,3][2][1]"},
    {2, 2, 2, "[0,1][0,1]"},          {3, 2, 2, "[0,1][1][0]"},
    {3, 4, 2, "[0,1,3][1,2,3][0,2]"}, {3, 6, 2, "[0,1,3,5][1,2,3,4][0,2,4,5]"},
    {4, 3, 2, "[0,2][1][0,2][1]"},    {4, 3, 3, "[0,2][0,1,2][0,1][1,2]"},
};

static struct dr_layout_plan place_new(uint32_t nodes, uint32_t shards, uint32_t rf)
{
    struct dr_layout_plan p;
    struct dr_err err = {0};
    assert_int_equal(dr_place_new(nodes, shards, rf, arena, &p, &err), DR_OK);
    return p;
}

static void new_tables_are_placed_as_the_golden_vectors_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        struct dr_layout_plan p = place_new(golden[i].nodes, golden[i].shards, golden[i].rf);
        assert_string_equal(print(&p, golden[i].nodes), golden[i].layout);
    }
}

static void sixty_shards_on_five_nodes_are_thirty_six_each(void **state)
{
    (void)state;
    static const char first[] = "[0,1,3,5,8,9,10,12,13,15,";
    struct dr_layout_plan p = place_new(5, 60, 3);
    for (uint32_t n = 0; n < 5; n++) {
        assert_int_equal(load_of(&p, n), 36);
    }
    assert_int_equal(strncmp(print(&p, 5), first, sizeof first - 1), 0);
}

static void new_tables_are_level_whatever_is_asked(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 9; nodes++) {
        for (uint32_t rf = 1; rf <= nodes; rf++) {
            for (uint32_t shards = 1; shards <= 40; shards += 3) {
                struct dr_layout_plan p = place_new(nodes, shards, rf);
                uint32_t least = UINT32_MAX;
                uint32_t most = 0;
                for (uint32_t n = 0; n < nodes; n++) {
                    uint32_t load = load_of(&p, n);
                    least = load < least ? load : least;
                    most = load > most ? load : most;
                }
                assert_true(most - least <= 1);
                for (uint32_t s = 0; s < shards; s++) {
                    for (uint32_t k = 1; k < p.count[s]; k++) {
                        for (uint32_t i = 0; i < k; i++) {
                            assert_true(p.holder[s][i] != p.holder[s][k]);
                        }
                    }
                }
                dr_arena_reset(arena);
            }
        }
    }
}

static void more_copies_than_nodes_are_refused(void **state)
{
    (void)state;
    struct dr_layout_plan p;
    struct dr_err err = {0};
    assert_int_equal(dr_place_new(2, 4, 3, arena, &p, &err), DR_REFUSED);
    assert_non_null(strstr(err.msg, "add nodes"));
    assert_int_equal(dr_place_new(0, 4, 1, arena, &p, &err), DR_INPUT);
    assert_int_equal(dr_place_new(2, 0, 1, arena, &p, &err), DR_INPUT);
}

/* --- changes: what the reference's tests and plans expect --- */

/* Nodes: "." as it was, "x" dead, "-" leaving, "+" new. One letter each, new ones at the end. */
struct question {
    uint32_t nodes;
    bool may_hold[NODES_MAX], is_alive[NODES_MAX];
};

static struct question read_nodes(const char *text)
{
    struct question q = {.nodes = (uint32_t)strlen(text)};
    for (uint32_t n = 0; n < q.nodes; n++) {
        q.may_hold[n] = text[n] == '.' || text[n] == '+';
        q.is_alive[n] = text[n] != 'x';
    }
    return q;
}

static const struct {
    const char *what;
    const char *now;
    const char *nodes;
    uint32_t rf;
    const char *after; /* NULL: refused */
} changes[] = {
    /* 3.1: of equals the last one takes the copy. */
    {"4n S3 R2 losing n4", "[0,2][1][0,2][1]", "...x", 2, "[0,2][1][0,1,2][]"},
    /* 3.2 */
    {"rf1 2n S4 + n", "[0,1][2,3]", "..+", 1, "[1][2,3][0]"},
    {"rf1 2n S4 + n, turned", "[0,2][1,3]", "..+", 1, "[2][1,3][0]"},
    {"rf1 1n S6 + 2", "[0,1,2,3,4,5]", ".++", 1, "[4,5][0,1][2,3]"},
    {"rf1 1n S2 + 3: the old one keeps a shard", "[0,1]", ".+++", 1, "[1][0][][]"},
    {"two nodes with a shard each + 3: nothing", "[0][1]", "..+++", 1, "[0][1][][][]"},
    /* UtilTest */
    {"a third node that takes nothing", "[0,2][1,3]", "..-", 1, "[0,2][1,3][]"},
    {"rf2 S2 + n", "[0,1][0,1]", "..+", 2, "[1][0,1][0]"},
    {"losing the empty node", "[0][][1]", ".x.", 1, "[0][][1]"},
    {"no loss", "[0][][1]", "...", 1, "[0][][1]"},
    {"rf1 2n S4, the second goes", "[0,2][1,3]", ".-", 1, "[0,1,2,3][]"},
    {"rf1 2n S4, the second dies with the only copies", "[0,2][1,3]", ".x", 1, NULL},
    /* UtilNewNodeTest */
    {"no new nodes", "[0,2][1,3]", "..", 1, "[0,2][1,3]"},
    {"rf3 from 2 nodes + 1", "[0,1][0,1]", "..+", 3, "[0,1][0,1][0,1]"},
    /* OutageScenarioTest */
    {"rf2, one of three", "[0,1,3][1,2,3][0,2]", "..x", 2, "[0,1,2,3][0,1,2,3][]"},
    {"rf2, two of four", "[0,1][2,3][0,1][2,3]", "..xx", 2, "[0,1,2,3][0,1,2,3][][]"},
    {"rf1, one of two", "[0,1][2,3]", ".-", 1, "[0,1,2,3][]"},
    {"rf1, one of three", "[0,3][2][1]", "..-", 1, "[0,3][1,2][]"},
    {"rf3, one of four with a spare", "[0,1][0,1][0,1][]", "..x.", 3, "[0,1][0,1][][0,1]"},
    {"rf2, only one left", "[0,1,2,3][0,1,2,3]", ".x", 2, "[0,1,2,3][]"},
    {"rf2, no failure", "[0,1,3][1,2,3][0,2]", "...", 2, "[0,1,3][1,2,3][0,2]"},
    /* All at once would leave a shard without anybody who had it. */
    {"rf2, both holders leave", "[0][0][][]", "--..", 2, NULL},
    {"rf2, one holder leaves, one dies", "[0][0][][]", "-x..", 2, NULL},
    {"nobody is left", "[0][0]", "xx", 2, NULL},
};

static void changes_are_those_the_reference_has_where_it_is_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct question q = read_nodes(changes[i].nodes);
        struct dr_layout_plan after;
        struct dr_err err = {0};
        uint32_t named = 0;
        struct dr_layout_plan now = layout(changes[i].now, &named);
        enum dr_code rc = dr_place_change(&now, q.nodes, q.may_hold, q.is_alive, changes[i].rf,
                                          arena, &after, &err);
        if (changes[i].after == NULL) {
            assert_int_equal(rc, DR_REFUSED);
            assert_true(err.msg[0] != '\0');
            continue;
        }
        if (rc != DR_OK || strcmp(print(&after, q.nodes), changes[i].after) != 0) {
            print_error("%s: expected %s, got %s\n", changes[i].what, changes[i].after,
                        rc == DR_OK ? print(&after, q.nodes) : err.msg);
            fail();
        }
    }
}

static void refusals_name_the_shard(void **state)
{
    (void)state;
    struct question q = read_nodes("..--");
    struct dr_layout_plan after;
    struct dr_err err = {0};
    uint32_t named = 0;
    struct dr_layout_plan now = layout("[0][0][1][1]", &named);
    assert_int_equal(dr_place_change(&now, 4, q.may_hold, q.is_alive, 2, arena, &after, &err),
                     DR_REFUSED);
    assert_non_null(strstr(err.msg, "shard 1"));
    q = read_nodes("..xx");
    assert_int_equal(dr_place_change(&now, 4, q.may_hold, q.is_alive, 2, arena, &after, &err),
                     DR_REFUSED);
    assert_non_null(strstr(err.msg, "shard 1 has no living copy"));
}

static uint64_t moves_of(uint32_t nodes, uint32_t shards, uint32_t rf, uint32_t added)
{
    bool yes[NODES_MAX];
    struct dr_layout_plan after;
    struct dr_err err = {0};
    struct dr_layout_plan now = place_new(nodes, shards, rf);
    memset(yes, 1, sizeof yes);
    assert_int_equal(dr_place_change(&now, nodes + added, yes, yes, rf, arena, &after, &err),
                     DR_OK);
    return dr_place_moves(&now, &after);
}

static void a_new_node_costs_its_share_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(moves_of(3, 60, 2, 1), 30);
    assert_int_equal(moves_of(4, 60, 2, 1), 24);
    assert_int_equal(moves_of(1, 6, 1, 2), 4);
    assert_int_equal(moves_of(16, 3000, 3, 0), 0);
    assert_int_equal(moves_of(10, 3000, 2, 2), 1000);
}

/* The reference lays out anew and forgets who has the rows: section 0, number 3. */
static void no_shard_loses_all_its_holders_to_new_ones(void **state)
{
    (void)state;
    static const uint32_t cases[][4] = {{4, 3, 2, 1}, {3, 5, 2, 1}, {3, 60, 2, 1}, {2, 7, 2, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool yes[NODES_MAX];
        struct dr_layout_plan after;
        struct dr_err err = {0};
        struct dr_layout_plan now = place_new(cases[i][0], cases[i][1], cases[i][2]);
        memset(yes, 1, sizeof yes);
        assert_int_equal(dr_place_change(&now, cases[i][0] + cases[i][3], yes, yes, cases[i][2],
                                         arena, &after, &err),
                         DR_OK);
        for (uint32_t s = 0; s < cases[i][1]; s++) {
            bool is_common = false;
            for (uint32_t k = 0; k < after.count[s]; k++) {
                is_common = is_common || holds(&now, s, after.holder[s][k]);
            }
            assert_true(is_common);
        }
    }
}

static void the_first_holder_stays_first_where_it_stays(void **state)
{
    (void)state;
    struct dr_layout_plan now = empty_layout();
    struct dr_layout_plan after;
    struct dr_err err = {0};
    struct question q = read_nodes(".x..");
    add_holder(&now, 0, 2);
    add_holder(&now, 0, 1);
    add_holder(&now, 0, 0);
    assert_int_equal(dr_place_change(&now, 4, q.may_hold, q.is_alive, 3, arena, &after, &err),
                     DR_OK);
    assert_int_equal(after.holder[0][0], 2);
    assert_int_equal(after.holder[0][1], 0);
    assert_int_equal(after.holder[0][2], 3);
    assert_int_equal(dr_place_change(&now, 4, q.may_hold, q.is_alive, 1, arena, &after, &err),
                     DR_OK);
    assert_int_equal(after.count[0], 1);
    assert_int_equal(after.holder[0][0], 2);
}

/* --- made up layouts --- */

static uint64_t seed_state;

static uint32_t draw(uint32_t below)
{
    seed_state = seed_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(seed_state >> 33) % below;
}

struct made_up {
    struct dr_layout_plan now;
    struct question q;
    uint32_t rf;
};

static struct made_up make_up(uint32_t nodes_max, uint32_t shards_max, uint32_t rf_max)
{
    struct made_up m = {.now = empty_layout()};
    m.q.nodes = 1 + draw(nodes_max);
    m.rf = 1 + draw(rf_max);
    uint32_t shards = 1 + draw(shards_max);
    uint32_t old = 1 + draw(m.q.nodes); /* nodes behind these have nothing yet */
    for (uint32_t n = 0; n < m.q.nodes; n++) {
        uint32_t kind = draw(6);
        m.q.is_alive[n] = kind != 0;
        m.q.may_hold[n] = kind > 1;
    }
    for (uint32_t s = 0; s < shards; s++) {
        uint32_t copies = 1 + draw(m.rf < old ? m.rf : old);
        while (m.now.shard_count <= s || m.now.count[s] < copies) {
            uint32_t n = draw(old);
            if (m.now.shard_count <= s || !holds(&m.now, s, n)) {
                add_holder(&m.now, s, n);
            }
        }
    }
    return m;
}

static bool is_open(const struct made_up *m, uint32_t n)
{
    return m->q.may_hold[n] && m->q.is_alive[n];
}

static uint32_t count_open(const struct made_up *m)
{
    uint32_t count = 0;
    for (uint32_t n = 0; n < m->q.nodes; n++) {
        count += is_open(m, n);
    }
    return count;
}

/* May the table be changed at all? */
static bool is_possible(const struct made_up *m)
{
    for (uint32_t s = 0; s < m->now.shard_count; s++) {
        bool is_alive = false;
        bool is_common = false;
        for (uint32_t k = 0; k < m->now.count[s]; k++) {
            is_alive = is_alive || m->q.is_alive[m->now.holder[s][k]];
            is_common = is_common || is_open(m, m->now.holder[s][k]);
        }
        if (!is_alive || (m->rf > 1 && !is_common)) {
            return false;
        }
    }
    return count_open(m) > 0;
}

static void check_layout(const struct made_up *m, const struct dr_layout_plan *after)
{
    uint32_t open = count_open(m);
    assert_int_equal(after->shard_count, m->now.shard_count);
    for (uint32_t s = 0; s < after->shard_count; s++) {
        bool is_common = false;
        assert_int_equal(after->count[s], m->rf < open ? m->rf : open);
        for (uint32_t k = 0; k < after->count[s]; k++) {
            assert_true(is_open(m, after->holder[s][k]));
            is_common = is_common || holds(&m->now, s, after->holder[s][k]);
            for (uint32_t i = 0; i < k; i++) {
                assert_true(after->holder[s][i] != after->holder[s][k]);
            }
        }
        assert_true(is_common || m->rf == 1);
        uint32_t first = m->now.holder[s][0];
        assert_true(!holds(after, s, first) || after->holder[s][0] == first);
    }
}

struct verdict {
    bool is_filled; /* no new node has two fewer than another one */
    uint32_t spread;
};

static struct verdict judge(const struct made_up *m, const uint32_t *load)
{
    struct verdict v = {.is_filled = true};
    uint32_t least = UINT32_MAX;
    uint32_t least_new = UINT32_MAX;
    uint32_t most = 0;
    for (uint32_t n = 0; n < m->q.nodes; n++) {
        if (!is_open(m, n)) {
            continue;
        }
        most = load[n] > most ? load[n] : most;
        least = load[n] < least ? load[n] : least;
        if (load_of(&m->now, n) == 0 && load[n] < least_new) {
            least_new = load[n];
        }
    }
    v.is_filled = least_new == UINT32_MAX || most <= least_new + 1;
    v.spread = most - least;
    return v;
}

/* All layouts there are: the least moves of those that fill the new nodes, and with so many moves
 * the least spread. */
struct search {
    const struct made_up *m;
    uint32_t target;
    uint32_t load[NODES_MAX];
    uint32_t best_moves, best_spread;
};

static void try_shard(struct search *f, uint32_t shard, uint32_t moves)
{
    const struct made_up *m = f->m;
    if (moves > f->best_moves) {
        return;
    }
    if (shard == m->now.shard_count) {
        struct verdict v = judge(m, f->load);
        if (v.is_filled && (moves < f->best_moves || v.spread < f->best_spread)) {
            f->best_moves = moves;
            f->best_spread = v.spread;
        }
        return;
    }
    for (uint32_t set = 0; set < 1u << m->q.nodes; set++) {
        uint32_t size = 0;
        uint32_t added = 0;
        bool is_fit = true;
        for (uint32_t n = 0; n < m->q.nodes; n++) {
            if ((set >> n & 1) != 0) {
                size++;
                added += !holds(&m->now, shard, n);
                is_fit = is_fit && is_open(m, n);
            }
        }
        if (!is_fit || size != f->target || (m->rf > 1 && added == size)) {
            continue;
        }
        for (uint32_t n = 0; n < m->q.nodes; n++) {
            f->load[n] += set >> n & 1;
        }
        try_shard(f, shard + 1, moves + added);
        for (uint32_t n = 0; n < m->q.nodes; n++) {
            f->load[n] -= set >> n & 1;
        }
    }
}

static void small_changes_are_the_best_there_are(void **state)
{
    (void)state;
    uint32_t compared = 0;
    seed_state = 7;
    for (uint32_t i = 0; i < 4000; i++) {
        struct made_up m = make_up(5, 5, 3);
        struct dr_layout_plan after;
        struct dr_err err = {0};
        enum dr_code rc = dr_place_change(&m.now, m.q.nodes, m.q.may_hold, m.q.is_alive, m.rf,
                                          arena, &after, &err);
        assert_int_equal(rc, is_possible(&m) ? DR_OK : DR_REFUSED);
        if (rc == DR_OK) {
            struct search f = {.m = &m, .best_moves = UINT32_MAX, .best_spread = UINT32_MAX};
            uint32_t load[NODES_MAX] = {0};
            uint32_t open = count_open(&m);
            f.target = m.rf < open ? m.rf : open;
            check_layout(&m, &after);
            try_shard(&f, 0, 0);
            for (uint32_t n = 0; n < m.q.nodes; n++) {
                load[n] = load_of(&after, n);
            }
            struct verdict v = judge(&m, load);
            uint64_t moves = dr_place_moves(&m.now, &after);
            bool is_best = f.best_moves == UINT32_MAX || (v.is_filled && moves == f.best_moves &&
                                                          (v.spread <= 1 || f.best_spread > 1));
            if (!is_best) {
                print_error("case %u, rf %u: %s", i, m.rf, print(&m.now, m.q.nodes));
                print_error(" -> %s: %llu moves, spread %u; best %u, %u\n",
                            print(&after, m.q.nodes), (unsigned long long)moves, v.spread,
                            f.best_moves, f.best_spread);
                fail();
            }
            compared += f.best_moves != UINT32_MAX;
        }
        dr_arena_reset(arena);
    }
    assert_true(compared > 1000);
}

static void large_changes_keep_all_promises(void **state)
{
    (void)state;
    uint32_t done = 0;
    seed_state = 11;
    for (uint32_t i = 0; i < 1500; i++) {
        struct made_up m = make_up(12, i % 50 == 0 ? 900 : 60, 4);
        struct dr_layout_plan after;
        struct dr_layout_plan again;
        struct dr_err err = {0};
        enum dr_code rc = dr_place_change(&m.now, m.q.nodes, m.q.may_hold, m.q.is_alive, m.rf,
                                          arena, &after, &err);
        assert_int_equal(rc, is_possible(&m) ? DR_OK : DR_REFUSED);
        if (rc == DR_OK) {
            check_layout(&m, &after);
            /* The same question, the same answer; and nothing to do afterwards. */
            assert_int_equal(dr_place_change(&m.now, m.q.nodes, m.q.may_hold, m.q.is_alive, m.rf,
                                             arena, &again, &err),
                             DR_OK);
            assert_int_equal(dr_place_moves(&after, &again), 0);
            assert_int_equal(dr_place_change(&after, m.q.nodes, m.q.may_hold, m.q.is_alive, m.rf,
                                             arena, &again, &err),
                             DR_OK);
            uint32_t load[NODES_MAX] = {0};
            for (uint32_t n = 0; n < m.q.nodes; n++) {
                load[n] = load_of(&after, n);
            }
            if (judge(&m, load).is_filled && judge(&m, load).spread <= 1) {
                assert_int_equal(dr_place_moves(&after, &again), 0);
            }
            done++;
        }
        dr_arena_reset(arena);
    }
    assert_true(done > 350);
}

static void a_lack_of_memory_is_an_error_not_a_crash(void **state)
{
    (void)state;
    struct question q = read_nodes("..+");
    uint32_t named = 0;
    bool is_over = false;
    for (uint64_t n = 1; !is_over; n++) {
        struct dr_arena *small = dr_arena_create(16);
        struct dr_layout_plan after;
        struct dr_err err = {0};
        struct dr_layout_plan now = layout("[0,1][0,1]", &named);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_place_change(&now, 3, q.may_hold, q.is_alive, 2, small, &after, &err);
        is_over = rc == DR_OK;
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        (void)dr_mem_fail_at(0);
        dr_arena_destroy(small);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_tables_are_placed_as_the_golden_vectors_say),
        cmocka_unit_test(sixty_shards_on_five_nodes_are_thirty_six_each),
        cmocka_unit_test(new_tables_are_level_whatever_is_asked),
        cmocka_unit_test(more_copies_than_nodes_are_refused),
        cmocka_unit_test(changes_are_those_the_reference_has_where_it_is_right),
        cmocka_unit_test(refusals_name_the_shard),
        cmocka_unit_test(a_new_node_costs_its_share_and_no_more),
        cmocka_unit_test(no_shard_loses_all_its_holders_to_new_ones),
        cmocka_unit_test(the_first_holder_stays_first_where_it_stays),
        cmocka_unit_test(small_changes_are_the_best_there_are),
        cmocka_unit_test(large_changes_keep_all_promises),
        cmocka_unit_test(a_lack_of_memory_is_an_error_not_a_crash),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
