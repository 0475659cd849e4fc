/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the text of conditions. They must select exactly what dr_value_compare and dr_filter_match
 * say, so three habits of SQLite are kept out: collations (COLLATE BINARY), conversion of the other
 * side by a column's affinity (unary plus, only where it would convert), and NULL in comparisons.
 *
 * "Behind a position" in a compound order is not one comparison but a few: for (a, b, id) behind
 * (1, 2, 3) it is  a = 1 AND b = 2 AND id > 3,  then  a = 1 AND b > 2,  then  a > 1.  Each is one
 * range of an index and in order among themselves, so a walk runs them one after the other; one
 * OR of all three would make SQLite read and drop everything between the first and the last. */
#include <assert.h>
#include <string.h>

#include "store/sqlite/sqlite_private.h"

/* Would the column's affinity turn this value into another one before comparing? */
static bool needs_plus(enum sq_affinity affinity, const struct dr_value *v)
{
    bool is_numeric =
        affinity == SQ_AFF_NUMERIC || affinity == SQ_AFF_INTEGER || affinity == SQ_AFF_REAL;
    switch (v->type) {
    case DR_V_TEXT:
        return is_numeric;
    case DR_V_INT:
    case DR_V_REAL:
        return affinity == SQ_AFF_TEXT;
    case DR_V_NULL:
    case DR_V_BLOB:
    case DR_V_MIN:
    case DR_V_MAX:
    case DR_V_TAGGED:
        return false;
    }
    return true;
}

void sq_add_ref(struct sq_query *q, const struct sq_ref *r, bool with_plus)
{
    dr_str_addf(&q->text, with_plus ? "(+%s)" : "%s", r->sql);
    dr_str_add(&q->text, r->is_binary && r->column >= 0 ? " COLLATE BINARY" : "");
}

static void add_and(struct sq_query *q, bool *is_first)
{
    dr_str_add(&q->text, *is_first ? " WHERE " : " AND ");
    *is_first = false;
}

static void add_compare(struct sq_query *q, const struct sq_ref *r, const char *op,
                        const struct dr_value *v)
{
    sq_add_ref(q, r, needs_plus(r->affinity, v));
    dr_str_addf(&q->text, " %s ", op);
    sq_query_bind(q, v);
}

static void add_equal(struct sq_query *q, const struct sq_ref *r, const struct dr_value *v)
{
    if (v->type == DR_V_NULL) {
        dr_str_addf(&q->text, "%s IS NULL", r->sql);
    } else {
        add_compare(q, r, "=", v);
    }
}

/* Behind NULL is everything but NULL. Said as a comparison, an index can be entered there: the
 * smallest number is -Infinity, and a TEXT column, where it would become a text, has no numbers. */
static void add_behind(struct sq_query *q, const struct sq_ref *r, const struct dr_value *v)
{
    if (v->type == DR_V_NULL) {
        sq_add_ref(q, r, false);
        dr_str_add(&q->text, r->affinity == SQ_AFF_TEXT ? " >= ''" : " >= -9e999");
    } else {
        add_compare(q, r, ">", v);
    }
}

static void add_before(struct sq_query *q, const struct sq_ref *r, const struct dr_value *v,
                       bool is_inside, bool is_never_null)
{
    if (v->type == DR_V_NULL) {
        dr_str_addf(&q->text, is_inside ? "%s IS NULL" : "0", r->sql);
        return;
    }
    if (!is_never_null) {
        dr_str_addf(&q->text, "(%s IS NULL OR ", r->sql);
    }
    add_compare(q, r, is_inside ? "<=" : "<", v);
    dr_str_add(&q->text, is_never_null ? "" : ")");
}

/* Before the upper bound, parts [part, up_count) of it; those before are equal already. */
static void add_upper(struct sq_query *q, const struct sq_walk *w, const struct sq_span *s,
                      uint32_t part, bool is_never_null)
{
    uint32_t open = 0;
    for (; part + 1 < s->up_count; part++) {
        add_before(q, &w->ref[part], &s->up[part], true, is_never_null);
        dr_str_add(&q->text, " AND (");
        add_before(q, &w->ref[part], &s->up[part], false, is_never_null);
        dr_str_add(&q->text, " OR (");
        add_equal(q, &w->ref[part], &s->up[part]);
        dr_str_add(&q->text, " AND ");
        is_never_null = false;
        open++;
    }
    add_before(q, &w->ref[part], &s->up[part], s->is_up_inside, is_never_null);
    for (; open > 0; open--) {
        dr_str_add(&q->text, "))");
    }
}

uint32_t sq_span_segments(const struct sq_span *s)
{
    return s->low_count + s->is_low_inside;
}

bool sq_add_segment(struct sq_query *q, const struct sq_walk *w, const struct sq_span *s,
                    uint32_t number, bool *is_first)
{
    assert(number < sq_span_segments(s));
    uint32_t equal = s->low_count + s->is_low_inside - 1 - number;
    bool is_behind = equal < s->low_count;
    bool is_bounded = s->has_up;
    for (uint32_t i = 0; is_bounded && i < equal && i < s->up_count; i++) {
        int c = dr_value_compare(&s->low[i], &s->up[i]);
        if (c > 0) {
            return false;
        }
        is_bounded = c == 0;
    }
    if (is_bounded && s->up_count <= equal) {
        if (!s->is_up_inside) {
            return false;
        }
        is_bounded = false;
    }
    for (uint32_t i = 0; i < equal; i++) {
        add_and(q, is_first);
        add_equal(q, &w->ref[i], &s->low[i]);
    }
    if (is_behind) {
        add_and(q, is_first);
        add_behind(q, &w->ref[equal], &s->low[equal]);
    }
    if (is_bounded) {
        add_and(q, is_first);
        add_upper(q, w, s, equal, is_behind);
    }
    return true;
}

/* ---- filters ---- */

/* The order operators compare within one class only; NULL drops out by itself. */
static void add_class(struct sq_query *q, const struct sq_ref *r, const struct dr_value *v,
                      bool is_upward)
{
    switch (v->type) {
    case DR_V_INT:
    case DR_V_REAL:
        if (is_upward) {
            dr_str_addf(&q->text, " AND typeof(%s) IN ('integer', 'real')", r->sql);
        }
        return;
    case DR_V_TEXT:
        dr_str_addf(&q->text, " AND typeof(%s) = 'text'", r->sql);
        return;
    case DR_V_BLOB:
        if (!is_upward) {
            dr_str_addf(&q->text, " AND typeof(%s) = 'blob'", r->sql);
        }
        return;
    case DR_V_MIN:
    case DR_V_NULL:
    case DR_V_MAX:
    case DR_V_TAGGED:
        return;
    }
}

static void add_in(struct sq_query *q, const struct sq_ref *r, const struct dr_term *t)
{
    bool with_plus = false;
    for (uint32_t i = 0; i < t->value_count; i++) {
        with_plus = with_plus || needs_plus(r->affinity, &t->value[i]);
    }
    sq_add_ref(q, r, with_plus);
    dr_str_add(&q->text, " IN (");
    for (uint32_t i = 0; i < t->value_count; i++) {
        dr_str_add(&q->text, i == 0 ? "" : ",");
        sq_query_bind(q, &t->value[i]);
    }
    dr_str_addc(&q->text, ')');
}

static void add_term(struct sq_query *q, const struct sq_ref *r, const struct dr_term *t)
{
    switch (t->op) {
    case DR_F_IS_NULL:
        dr_str_addf(&q->text, "%s IS NULL", r->sql);
        return;
    case DR_F_NOT_NULL:
        dr_str_addf(&q->text, "%s IS NOT NULL", r->sql);
        return;
    case DR_F_IN:
        add_in(q, r, t);
        return;
    case DR_F_EQ:
        add_compare(q, r, "=", &t->value[0]);
        return;
    case DR_F_NE:
        add_compare(q, r, "<>", &t->value[0]);
        return;
    case DR_F_LT:
    case DR_F_LE:
        add_compare(q, r, t->op == DR_F_LT ? "<" : "<=", &t->value[0]);
        add_class(q, r, &t->value[0], false);
        return;
    case DR_F_GT:
    case DR_F_GE:
        add_compare(q, r, t->op == DR_F_GT ? ">" : ">=", &t->value[0]);
        add_class(q, r, &t->value[0], true);
        return;
    }
}

void sq_add_filter(struct sq_query *q, const struct sq_table *t, const struct dr_filter *f,
                   bool *is_first)
{
    for (uint32_t i = 0; f != NULL && i < f->term_count; i++) {
        int column = sq_column_find(t, f->term[i].field);
        assert(column >= 0); /* sq_filter_check() came first */
        struct sq_ref r = {.sql = t->column[column].quoted,
                           .affinity = t->column[column].affinity,
                           .is_binary = true,
                           .column = column};
        add_and(q, is_first);
        add_term(q, &r, &f->term[i]);
    }
}

enum dr_code sq_filter_check(const struct sq_table *t, const struct dr_filter *f,
                             const char *collection, struct dr_err *err)
{
    for (uint32_t i = 0; f != NULL && i < f->term_count; i++) {
        const struct dr_term *term = &f->term[i];
        if (sq_column_find(t, term->field) < 0) {
            return dr_fail(err, DR_INPUT, "filter: %s has no field \"%s\"", collection,
                           term->field);
        }
        for (uint32_t k = 0; k < term->value_count; k++) {
            enum dr_value_type type = term->value[k].type;
            if (type == DR_V_NULL || type == DR_V_MIN || type == DR_V_MAX) {
                return dr_fail(err, DR_INPUT, "filter: \"%s\" cannot be compared with %s",
                               term->field, type == DR_V_NULL ? "null" : "an open bound");
            }
        }
    }
    return DR_OK;
}
