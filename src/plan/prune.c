/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the question which chunks can hold matches of a filter. Always errs towards including a
 * chunk: one too many costs a step, one too few leaves rows that were to go.
 *
 * A term on the first shard key field is a set of points (eq, in, is_null) or one interval (lt, le,
 * gt, ge) in the order of values. A chunk's first field spans [from, upto) or, when later fields
 * share the last value, [from, upto]. Pure; any thread. */
#include "plan/plan_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Set of values one term can be true for: `point` when there are points, else lo..hi. */
struct span {
    struct dr_value lo, hi;
    bool is_lo_in, is_hi_in;
    uint32_t point_count;
    struct dr_value *point; /* sorted */
    bool is_null;           /* NULL keys: they belong to the chunk that starts at MIN */
};

static const struct dr_value lowest = {.type = DR_V_MIN};
static const struct dr_value highest = {.type = DR_V_MAX};
static const struct dr_value null_value = {.type = DR_V_NULL};
static const struct dr_value empty_text = {.type = DR_V_TEXT, .data = ""};
static const struct dr_value empty_blob = {.type = DR_V_BLOB, .data = ""};

static int compare_points(const void *a, const void *b)
{
    return dr_value_compare(a, b);
}

/* lt 5 is true for numbers only: the ends of a value's own type class close the open side. */
static void bound_class(const struct dr_value *v, struct span *s)
{
    s->is_lo_in = true;
    s->is_hi_in = false;
    switch (v->type) {
    case DR_V_INT:
    case DR_V_REAL:
        s->lo = null_value;
        s->is_lo_in = false;
        s->hi = empty_text;
        return;
    case DR_V_TEXT:
        s->lo = empty_text;
        s->hi = empty_blob;
        return;
    case DR_V_BLOB:
        s->lo = empty_blob;
        s->hi = highest;
        return;
    case DR_V_MIN:
    case DR_V_NULL:
    case DR_V_MAX:
    case DR_V_TAGGED:
        s->lo = lowest;
        s->hi = highest;
        s->is_hi_in = true;
        return;
    }
}

static void narrow_to_term(const struct dr_term *t, struct span *s)
{
    bound_class(&t->value[0], s);
    if (t->op == DR_F_LT || t->op == DR_F_LE) {
        s->hi = t->value[0];
        s->is_hi_in = t->op == DR_F_LE;
    } else {
        s->lo = t->value[0];
        s->is_lo_in = t->op == DR_F_GE;
    }
}

static bool is_prunable(const struct dr_term *t, bool is_hashed)
{
    switch (t->op) {
    case DR_F_EQ:
    case DR_F_IN:
        return t->value_count > 0;
    case DR_F_LT:
    case DR_F_LE:
    case DR_F_GT:
    case DR_F_GE:
        return !is_hashed && t->value_count > 0;
    case DR_F_IS_NULL:
        return !is_hashed;
    case DR_F_NE:
    case DR_F_NOT_NULL:
        return false;
    }
    return false;
}

static enum dr_code make_span(struct dr_arena *a, const struct dr_term *t, bool is_hashed,
                              struct span *s, struct dr_err *err)
{
    memset(s, 0, sizeof *s);
    if (t->op != DR_F_EQ && t->op != DR_F_IN && t->op != DR_F_IS_NULL) {
        narrow_to_term(t, s);
        return DR_OK;
    }
    s->is_null = t->op == DR_F_IS_NULL;
    s->point_count = s->is_null ? 1 : t->value_count;
    s->point =
        dr_arena_memdup(a, s->is_null ? &null_value : t->value, s->point_count * sizeof *s->point);
    if (s->point == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; is_hashed && i < s->point_count; i++) {
        s->point[i] = (struct dr_value){.type = DR_V_INT, .i = dr_value_hash(&t->value[i])};
    }
    qsort(s->point, s->point_count, sizeof *s->point, compare_points);
    return DR_OK;
}

static bool starts_at_min(const struct dr_chunk *c)
{
    return c->from.parts == 0 || c->from.part[0].type == DR_V_MIN;
}

/* Values of the first key field that the chunk can hold. */
static void span_of_chunk(const struct dr_chunk *c, struct span *s)
{
    s->lo = c->from.parts == 0 ? lowest : c->from.part[0];
    s->is_lo_in = true;
    s->hi = c->upto.parts == 0 ? highest : c->upto.part[0];
    s->is_hi_in = c->upto.parts == 0;
    for (uint32_t i = 1; i < c->upto.parts; i++) {
        if (c->upto.part[i].type != DR_V_MIN) {
            s->is_hi_in = true; /* (10, "a") as the end: rows (10, less than "a") are inside */
        }
    }
}

static bool is_below_end(const struct dr_value *v, const struct span *s)
{
    int order = dr_value_compare(v, &s->hi);
    return order < 0 || (order == 0 && s->is_hi_in);
}

/* Is a point of `set` within `area`? By binary search for the first point not below the start. */
static bool holds_point(const struct span *area, const struct span *set)
{
    uint32_t from = 0;
    uint32_t upto = set->point_count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        if (dr_value_compare(&set->point[middle], &area->lo) < 0) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return from < set->point_count && is_below_end(&set->point[from], area);
}

static bool overlaps(const struct span *a, const struct span *b)
{
    int a_starts_b_ends = dr_value_compare(&a->lo, &b->hi);
    int b_starts_a_ends = dr_value_compare(&b->lo, &a->hi);
    return (a_starts_b_ends < 0 || (a_starts_b_ends == 0 && a->is_lo_in && b->is_hi_in)) &&
           (b_starts_a_ends < 0 || (b_starts_a_ends == 0 && b->is_lo_in && a->is_hi_in));
}

static bool can_hold(const struct dr_collection *c, const struct dr_chunk *chunk,
                     const struct span *set, uint32_t set_count)
{
    /* Where a NULL in a later key field is kept is the store's secret; the first chunk is the one
     * other place it may be. */
    if (starts_at_min(chunk) && c->sharding == DR_SHARDED_RANGE && c->key_count > 1) {
        return true;
    }
    struct span area = {0};
    span_of_chunk(chunk, &area);
    for (uint32_t i = 0; i < set_count; i++) {
        bool is_hit =
            set[i].point_count > 0 ? holds_point(&area, &set[i]) : overlaps(&area, &set[i]);
        if (!is_hit && !(set[i].is_null && starts_at_min(chunk))) {
            return false;
        }
    }
    return true;
}

static enum dr_code prune(struct dr_arena *a, const struct dr_collection *c,
                          const struct dr_filter *f, bool is_hashed, bool *is_usable_out,
                          const uint64_t **chunk_out, uint64_t *count_out, struct dr_err *err)
{
    *is_usable_out = false;
    struct span *set = dr_arena_alloc(a, DR_FILTER_TERMS_MAX * sizeof *set);
    uint64_t *chunk = dr_arena_alloc(a, c->chunk_count * sizeof *chunk);
    if (set == NULL || chunk == NULL) {
        return dr_fail_nomem(err);
    }
    assert(f->term_count <= DR_FILTER_TERMS_MAX);
    uint32_t set_count = 0;
    for (uint32_t i = 0; i < f->term_count; i++) {
        const struct dr_term *t = &f->term[i];
        if (strcmp(t->field, c->key[0]) != 0 || !is_prunable(t, is_hashed)) {
            continue;
        }
        enum dr_code rc = make_span(a, t, is_hashed, &set[set_count++], err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    if (set_count == 0) {
        return DR_OK;
    }
    uint64_t count = 0;
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        if (can_hold(c, &c->chunk[i], set, set_count)) {
            chunk[count++] = i;
        }
    }
    *is_usable_out = true;
    *chunk_out = chunk;
    *count_out = count;
    return DR_OK;
}

enum dr_code dr_prune_range(struct dr_arena *a, const struct dr_collection *c,
                            const struct dr_filter *f, bool *is_usable_out,
                            const uint64_t **chunk_out, uint64_t *count_out, struct dr_err *err)
{
    return prune(a, c, f, false, is_usable_out, chunk_out, count_out, err);
}

enum dr_code dr_prune_hashed(struct dr_arena *a, const struct dr_collection *c,
                             const struct dr_filter *f, bool *is_usable_out,
                             const uint64_t **chunk_out, uint64_t *count_out, struct dr_err *err)
{
    return prune(a, c, f, true, is_usable_out, chunk_out, count_out, err);
}
