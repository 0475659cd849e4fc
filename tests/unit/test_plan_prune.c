/* SPDX-License-Identifier: Apache-2.0 */
/* The promise of pruning: a chunk that can hold a match is never left out, checked against brute
 * force over random layouts, filters and rows of all types. */
#include "unit/plan_world.h"

/* --- pruning against brute force ------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t pick_random(uint32_t below)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(random_state >> 33) % below;
}

/* Few enough values that bounds, filters and rows meet often, of all classes. */
static struct dr_value random_value(bool may_be_null)
{
    static const char *const texts[] = {"", "a", "ab", "b", "\xff"};
    uint32_t n = pick_random(10);
    struct dr_value v = {.type = DR_V_NULL};
    if (n < 5) {
        return num((int64_t)n * 2 - 4);
    }
    if (n < 7) {
        v.type = DR_V_REAL;
        v.r = (double)pick_random(20) / 2 - 5;
        return v;
    }
    if (n == 9 && may_be_null) {
        return v;
    }
    v = txt(texts[pick_random(5)]);
    v.type = n == 8 ? DR_V_BLOB : DR_V_TEXT;
    return v;
}

static int compare_bounds(const void *a, const void *b)
{
    return dr_bound_compare(a, b);
}

struct row {
    struct dr_value v[2];
};

static const struct dr_value *find_in_row(void *arg, const char *field)
{
    const struct row *row = arg;
    return field[0] == 'k' ? &row->v[0] : field[0] == 'j' ? &row->v[1] : NULL;
}

static struct dr_filter random_filter(struct dr_value *values)
{
    static const enum dr_filter_op ops[] = {DR_F_EQ, DR_F_LT, DR_F_LE,     DR_F_GT,
                                            DR_F_GE, DR_F_IN, DR_F_IS_NULL};
    struct dr_filter f = {.term_count = 1 + pick_random(3)};
    for (uint32_t i = 0; i < f.term_count; i++) {
        struct dr_term *t = &f.term[i];
        t->field = i == 0 || pick_random(2) == 0 ? "k" : "j";
        t->op = i == 0 && f.term_count > 1 ? ops[pick_random(5)] : ops[pick_random(7)];
        t->value = &values[i * 4];
        t->value_count = t->op == DR_F_IN ? 1 + pick_random(4) : t->op == DR_F_IS_NULL ? 0 : 1;
        for (uint32_t k = 0; k < 4; k++) {
            values[i * 4 + k] = random_value(false);
        }
    }
    return f;
}

/* A random layout of 1..CHUNKS chunks over one or two key fields. */
static void random_layout(struct world *w, bool is_hashed)
{
    struct dr_bound cut[CHUNKS];
    uint32_t parts = is_hashed ? 1 : 1 + pick_random(2);
    uint32_t wanted = pick_random(CHUNKS);
    uint32_t cuts = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        cut[i] = (struct dr_bound){.parts = parts};
        for (uint32_t k = 0; k < parts; k++) {
            cut[i].part[k] = pick_random(12) == 0 && k > 0 ? min_key : random_value(true);
        }
        if (is_hashed) {
            const struct dr_value v = random_value(false);
            int64_t hash = dr_value_hash(&v); /* bounds exactly on hashes, too */
            cut[i].part[0] = num(pick_random(2) == 0 ? hash : hash / 2);
        }
    }
    qsort(cut, wanted, sizeof cut[0], compare_bounds);
    for (uint32_t i = 0; i < wanted; i++) {
        if (i == 0 || dr_bound_compare(&cut[i], &cut[cuts - 1]) != 0) {
            cut[cuts++] = cut[i];
        }
    }
    shard(w, 1, "acme.orders", is_hashed ? DR_SHARDED_HASHED : DR_SHARDED_RANGE, "k", 0, NULL);
    struct dr_collection *c = &w->collection[1];
    c->rows_matched = 1;
    c->key_count = parts;
    c->key[1] = "j";
    c->chunk_count = cuts + 1;
    struct dr_bound ends[2] = {{.parts = parts, .part = {min_key, min_key}},
                               {.parts = parts, .part = {max_key, max_key}}};
    for (uint32_t i = 0; i <= cuts; i++) {
        w->chunk[1][i] = (struct dr_chunk){.node = "s1",
                                           .from = i == 0 ? ends[0] : cut[i - 1],
                                           .upto = i == cuts ? ends[1] : cut[i]};
    }
}

static bool is_in_chunk(const struct dr_chunk *c, const struct dr_bound *key)
{
    return dr_bound_compare(&c->from, key) <= 0 && dr_bound_compare(key, &c->upto) < 0;
}

/* Is the chunk among the plan's erase steps? */
static bool is_planned(const struct world *w, const struct dr_chunk *c)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step s;
    struct dr_err err = {0};
    bool is_there = false;
    bool has = true;
    struct dr_arena *a = dr_arena_create(1024);
    assert_int_equal(dr_plan_begin(w->plan, &it, &err), DR_OK);
    while (has && !is_there) {
        struct dr_erase_spec spec;
        assert_int_equal(dr_plan_next(it, &s, &has, &err), DR_OK);
        if (!has || s.kind != DR_STEP_ERASE) {
            break;
        }
        assert_int_equal(dr_erase_spec_parse(s.query, a, &spec, &err), DR_OK);
        is_there = dr_bound_compare(&spec.range.from, &c->from) == 0;
    }
    dr_plan_end(it);
    dr_arena_destroy(a);
    return is_there;
}

static void no_chunk_with_a_match_is_left_out(void **state)
{
    (void)state;
    struct dr_value values[12];
    uint64_t matches = 0;
    uint64_t pruned = 0;
    for (random_state = 1; random_state != 0 && matches < 5000;) {
        bool is_hashed = pick_random(4) == 0;
        struct world *w = make_world("purge");
        random_layout(w, is_hashed);
        struct dr_filter f = random_filter(values);
        w->request.u.purge.collection = "orders";
        w->request.u.purge.filter = &f;
        w->request.allow_scan = true;
        plan_ok(w);
        const struct dr_collection *c = &w->collection[1];
        bool is_by_chunk = dr_plan_part_at(w->plan, 0)->strategy < DR_BY_KEY_LIST;
        pruned += is_by_chunk && dr_plan_step_count(w->plan) / 2 < c->chunk_count;
        for (int i = 0; is_by_chunk && i < 12; i++) {
            struct row row = {{random_value(true), random_value(true)}};
            struct dr_bound key = {.parts = c->key_count, .part = {row.v[0], row.v[1]}};
            if (!dr_filter_match(&f, find_in_row, &row)) {
                continue;
            }
            matches++;
            if (is_hashed) {
                key.part[0] = num(dr_value_hash(&row.v[0]));
            }
            if (!is_hashed && row.v[0].type == DR_V_NULL && !is_planned(w, &c->chunk[0])) {
                fail_msg("NULL keys belong to the chunk that starts at MIN");
            }
            for (uint64_t k = 0; k < c->chunk_count; k++) {
                if (is_in_chunk(&c->chunk[k], &key) && !is_planned(w, &c->chunk[k])) {
                    print_error("seed state %llu: a match was left out\n",
                                (unsigned long long)random_state);
                    fail();
                }
            }
        }
        free_world(w);
    }
    assert_true(pruned > 300); /* it is no promise if all chunks are always taken */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_chunk_with_a_match_is_left_out),
    };
    return cmocka_run_group_tests_name("plan_prune", tests, NULL, NULL);
}
