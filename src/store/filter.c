/* SPDX-License-Identifier: Apache-2.0 */
/* Filters: parsing, printing, and matching on our side. Pure.
 *
 * Semantics, the same for every store: the order operators (lt le gt ge) compare only values of one
 * class (numbers, texts, blobs) - a text is never "less than 5"; eq and in need the same class by
 * nature; ne holds for every other value that is not NULL. */
#include "store/filter.h"

#include <assert.h>
#include <string.h>

static const char *const op_names[] = {"eq", "ne", "lt", "le", "gt", "ge", "in", "is_null"};
static const char *const op_signs[] = {"=", "!=", "<", "<=", ">", ">=", "in"};

static bool find_op(const char *name, enum dr_filter_op *out)
{
    for (int i = 0; i <= DR_F_IS_NULL; i++) {
        if (strcmp(op_names[i], name) == 0) {
            *out = (enum dr_filter_op)i;
            return true;
        }
    }
    return false;
}

/* Values of a term: one, or the members of an `in` array. NULL, MIN and MAX cannot be compared. */
static enum dr_code parse_values(const json_t *j, struct dr_arena *a, struct dr_term *t,
                                 const char *where, struct dr_err *err)
{
    bool is_in = t->op == DR_F_IN;
    size_t count = is_in ? json_array_size(j) : 1;
    if (is_in && (!json_is_array(j) || count == 0 || count > DR_FILTER_IN_MAX)) {
        return dr_fail(err, DR_INPUT, "%s.in: an array of 1 to %d values is needed", where,
                       DR_FILTER_IN_MAX);
    }
    struct dr_value *v = dr_arena_alloc(a, count * sizeof *v);
    if (v == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < count; i++) {
        enum dr_code rc = dr_value_from_json(is_in ? json_array_get(j, i) : j, a, &v[i], err);
        if (rc != DR_OK) {
            dr_wrap(err, "%s.%s", where, op_names[t->op]);
            return rc;
        }
        if (v[i].type == DR_V_NULL || v[i].type == DR_V_MIN || v[i].type == DR_V_MAX) {
            return dr_fail(err, DR_INPUT,
                           "%s.%s: null, $min and $max compare with nothing; use {\"is_null\": "
                           "true}",
                           where, op_names[t->op]);
        }
    }
    t->value = v;
    t->value_count = (uint32_t)count;
    return DR_OK;
}

static enum dr_code add_term(struct dr_filter *f, const char *field, enum dr_filter_op op,
                             const json_t *j, struct dr_arena *a, struct dr_err *err)
{
    char where[256];
    dr_copy_text(where, sizeof where, "filter.");
    dr_copy_text(where + strlen(where), sizeof where - strlen(where), field);
    if (f->term_count >= DR_FILTER_TERMS_MAX) {
        return dr_fail(err, DR_INPUT, "%s: a filter has at most %d comparisons", where,
                       DR_FILTER_TERMS_MAX);
    }
    struct dr_term *t = &f->term[f->term_count];
    *t = (struct dr_term){.field = dr_arena_strdup(a, field), .op = op};
    if (t->field == NULL) {
        return dr_fail_nomem(err);
    }
    if (op == DR_F_IS_NULL) {
        if (!json_is_boolean(j) && !json_is_null(j)) {
            return dr_fail(err, DR_INPUT, "%s.is_null: true or false is needed", where);
        }
        t->op = json_is_false(j) ? DR_F_NOT_NULL : DR_F_IS_NULL;
    } else {
        enum dr_code rc = parse_values(j, a, t, where, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    f->term_count++;
    return DR_OK;
}

/* {"$blob": ...} and its kind are values, everything else inside braces names operators. */
static bool is_value_object(const json_t *j)
{
    const char *key = json_object_iter_key(json_object_iter((json_t *)j));
    return key != NULL && key[0] == '$';
}

static enum dr_code parse_field(struct dr_filter *f, const char *field, const json_t *j,
                                struct dr_arena *a, struct dr_err *err)
{
    if (field[0] == '\0') {
        return dr_fail(err, DR_INPUT, "filter: a field without a name");
    }
    if (json_is_null(j)) {
        return add_term(f, field, DR_F_IS_NULL, j, a, err);
    }
    if (!json_is_object(j) || is_value_object(j)) {
        return add_term(f, field, DR_F_EQ, j, a, err);
    }
    if (json_object_size(j) == 0) {
        return dr_fail(err, DR_INPUT, "filter.%s: no comparison inside the braces", field);
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)j, name, value)
    {
        enum dr_filter_op op = DR_F_EQ;
        if (!find_op(name, &op)) {
            return dr_fail(err, DR_INPUT,
                           "filter.%s: unknown comparison \"%s\"; known are eq ne lt le gt ge in "
                           "is_null",
                           field, name);
        }
        enum dr_code rc = add_term(f, field, op, value, a, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

enum dr_code dr_filter_parse(const json_t *j, struct dr_arena *a, const struct dr_filter **out,
                             struct dr_err *err)
{
    *out = NULL;
    if (!json_is_object(j)) {
        return dr_fail(err, DR_INPUT, "filter: an object like {\"field\": value} is needed");
    }
    if (json_object_size(j) == 0) {
        return dr_fail(err, DR_REFUSED,
                       "filter: an empty filter would match every row; name what shall go");
    }
    struct dr_filter *f = dr_arena_alloc(a, sizeof *f);
    if (f == NULL) {
        return dr_fail_nomem(err);
    }
    f->term_count = 0;
    const char *field;
    json_t *value;
    json_object_foreach((json_t *)j, field, value)
    {
        enum dr_code rc = parse_field(f, field, value, a, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    *out = f;
    return DR_OK;
}

static json_t *term_value_json(const struct dr_term *t)
{
    if (t->op == DR_F_IS_NULL || t->op == DR_F_NOT_NULL) {
        return json_boolean(t->op == DR_F_IS_NULL);
    }
    if (t->op != DR_F_IN) {
        return dr_value_to_json(&t->value[0]);
    }
    json_t *array = json_array();
    for (uint32_t i = 0; array != NULL && i < t->value_count; i++) {
        if (json_array_append_new(array, dr_value_to_json(&t->value[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Two terms of one field and operator cannot come from JSON (keys are unique), so neither can they
 * collide on the way back. */
json_t *dr_filter_to_json(const struct dr_filter *f)
{
    json_t *o = json_object();
    for (uint32_t i = 0; o != NULL && i < f->term_count; i++) {
        const struct dr_term *t = &f->term[i];
        enum dr_filter_op op = t->op == DR_F_NOT_NULL ? DR_F_IS_NULL : t->op;
        json_t *ops = json_object_get(o, t->field);
        bool is_bad = false;
        if (ops == NULL) {
            ops = json_object();
            is_bad = json_object_set_new(o, t->field, ops) != 0;
        }
        if (is_bad || json_object_set_new(ops, op_names[op], term_value_json(t)) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

void dr_filter_print(const struct dr_filter *f, struct dr_str *out)
{
    for (uint32_t i = 0; i < f->term_count; i++) {
        const struct dr_term *t = &f->term[i];
        dr_str_add(out, i > 0 ? " and " : "");
        dr_str_add(out, t->field);
        if (t->op == DR_F_IS_NULL || t->op == DR_F_NOT_NULL) {
            dr_str_add(out, t->op == DR_F_IS_NULL ? " is null" : " is not null");
            continue;
        }
        dr_str_addf(out, " %s ", op_signs[t->op]);
        dr_str_add(out, t->op == DR_F_IN ? "(" : "");
        for (uint32_t k = 0; k < t->value_count; k++) {
            if (k == 5) {
                dr_str_addf(out, ", ... %u more", (unsigned)(t->value_count - k));
                break;
            }
            dr_str_add(out, k > 0 ? ", " : "");
            dr_value_print(&t->value[k], out);
        }
        dr_str_add(out, t->op == DR_F_IN ? ")" : "");
    }
}

/* Does this comparison, by its form alone, let (nearly) everything through? */
static bool is_wide_open(const struct dr_term *t)
{
    const struct dr_value *v = t->value;
    bool is_lowest =
        v != NULL &&
        ((v->type == DR_V_TEXT && v->len == 0) || (v->type == DR_V_BLOB && v->len == 0) ||
         (v->type == DR_V_INT && v->i == INT64_MIN) || (v->type == DR_V_REAL && v->r <= -9.2e18));
    bool is_highest = v != NULL && ((v->type == DR_V_INT && v->i == INT64_MAX) ||
                                    (v->type == DR_V_REAL && v->r >= 9.2e18));
    switch (t->op) {
    case DR_F_NE:
    case DR_F_NOT_NULL:
        return true;
    case DR_F_GT:
    case DR_F_GE:
        return is_lowest;
    case DR_F_LT:
    case DR_F_LE:
        return is_highest;
    case DR_F_EQ:
    case DR_F_IN:
    case DR_F_IS_NULL:
        return false;
    }
    return false;
}

bool dr_filter_is_catch_all(const struct dr_filter *f)
{
    for (uint32_t i = 0; i < f->term_count; i++) {
        if (!is_wide_open(&f->term[i])) {
            return false;
        }
    }
    return true;
}

static bool is_number(const struct dr_value *v)
{
    return v->type == DR_V_INT || v->type == DR_V_REAL;
}

static bool is_one_class(const struct dr_value *a, const struct dr_value *b)
{
    return (is_number(a) && is_number(b)) || a->type == b->type;
}

static bool match_term(const struct dr_term *t, const struct dr_value *v)
{
    if (v == NULL || v->type == DR_V_NULL) {
        return t->op == DR_F_IS_NULL;
    }
    switch (t->op) {
    case DR_F_IS_NULL:
        return false;
    case DR_F_NOT_NULL:
        return true;
    case DR_F_NE:
        return dr_value_compare(v, &t->value[0]) != 0;
    case DR_F_EQ:
    case DR_F_IN:
        for (uint32_t i = 0; i < t->value_count; i++) {
            if (dr_value_compare(v, &t->value[i]) == 0) {
                return true;
            }
        }
        return false;
    case DR_F_LT:
        return is_one_class(v, &t->value[0]) && dr_value_compare(v, &t->value[0]) < 0;
    case DR_F_LE:
        return is_one_class(v, &t->value[0]) && dr_value_compare(v, &t->value[0]) <= 0;
    case DR_F_GT:
        return is_one_class(v, &t->value[0]) && dr_value_compare(v, &t->value[0]) > 0;
    case DR_F_GE:
        return is_one_class(v, &t->value[0]) && dr_value_compare(v, &t->value[0]) >= 0;
    }
    assert(false && "filter operator");
    return false;
}

bool dr_filter_match(const struct dr_filter *f,
                     const struct dr_value *(*find)(void *arg, const char *field), void *arg)
{
    for (uint32_t i = 0; i < f->term_count; i++) {
        if (!match_term(&f->term[i], find(arg, f->term[i].field))) {
            return false;
        }
    }
    return true;
}
