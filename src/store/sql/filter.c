/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the text of neutral filters. It must select exactly what dr_filter_match says: values of one
 * class only (numbers, texts, blobs) are compared by order, texts by their bytes whatever collation
 * the column has, and nothing is true of NULL. An equality is said twice, once in the column's own
 * words so that an index can serve it, and once in bytes.
 *
 * Dates and times are texts to a filter, but compared as what they are: "2020-01-01" finds the
 * midnight that is read as "2020-01-01 00:00:00". Decimals are numbers, though read as texts. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "store/sql/sql_private.h"

static const char nothing[] = "1 = 0";

static bool is_number_class(enum sa_class class)
{
    return class == SA_INT || class == SA_FLOAT || class == SA_DECIMAL;
}

static bool is_of_class(const struct sa_column *c, const struct dr_value *v)
{
    switch (v->type) {
    case DR_V_INT:
    case DR_V_REAL:
        return is_number_class(c->class);
    case DR_V_TEXT:
        return c->class == SA_TEXT || c->class == SA_TIME || c->class == SA_PLAIN;
    case DR_V_BLOB:
        return c->class == SA_BLOB;
    case DR_V_MIN:
    case DR_V_NULL:
    case DR_V_MAX:
    case DR_V_TAGGED:
        return false;
    }
    return false;
}

/* Text that no server can hold in a text column; jansson checks UTF-8 for us. */
static bool is_text_possible(const struct sa_query *q, const struct dr_value *v)
{
    if (q->is_pg && v->len > 0 && memchr(v->data, 0, v->len) != NULL) {
        return false;
    }
    json_t *j = json_stringn(v->len > 0 ? v->data : "", v->len);
    json_decref(j);
    return j != NULL;
}

/* ---- numbers ---- */

/* A comparison said exactly in the column's own kind of number. */
struct exact {
    enum dr_filter_op op;
    struct dr_value value;
    bool is_never;  /* true of no number */
    bool is_always; /* true of every number */
};

static bool is_low_side(enum dr_filter_op op)
{
    return op == DR_F_LT || op == DR_F_LE;
}

static void set_outcome(struct exact *x, bool is_true)
{
    x->is_always = is_true;
    x->is_never = !is_true;
}

/* An integer column against a real: 60.5 lies between two integers. */
static void make_integral(struct exact *x)
{
    double r = x->value.r;
    bool is_order = x->op != DR_F_EQ && x->op != DR_F_NE;
    if (r >= 9223372036854775808.0 || r < -9223372036854775808.0) {
        bool is_above = r > 0;
        set_outcome(x, is_order ? is_low_side(x->op) == is_above : x->op == DR_F_NE);
        return;
    }
    double down = floor(r);
    x->value = (struct dr_value){.type = DR_V_INT, .i = (int64_t)down};
    if (down == r) {
        return;
    }
    if (!is_order) {
        set_outcome(x, x->op == DR_F_NE);
        return;
    }
    x->op = is_low_side(x->op) ? DR_F_LE : DR_F_GT;
}

/* A column of reals against an integer that no real equals. */
static void make_real(struct exact *x)
{
    int64_t i = x->value.i;
    double r = (double)i;
    bool is_beyond = r >= 9223372036854775808.0;
    x->value = (struct dr_value){.type = DR_V_REAL, .r = r};
    if (!is_beyond && (int64_t)r == i) {
        return;
    }
    if (x->op == DR_F_EQ || x->op == DR_F_NE) {
        set_outcome(x, x->op == DR_F_NE);
        return;
    }
    bool is_above = is_beyond || (int64_t)r > i;
    x->op = is_low_side(x->op) ? (is_above ? DR_F_LT : DR_F_LE) : (is_above ? DR_F_GE : DR_F_GT);
}

static struct exact make_exact(const struct sa_query *q, const struct sa_column *c,
                               enum dr_filter_op op, const struct dr_value *v)
{
    struct exact x = {.op = op, .value = *v};
    if (c->class == SA_INT && v->type == DR_V_REAL) {
        bool is_wide = !q->is_pg && c->is_unsigned && v->r >= 9223372036854775808.0;
        if (!is_wide) { /* only an unsigned column reaches so far */
            make_integral(&x);
        }
    } else if (c->class == SA_FLOAT && v->type == DR_V_INT) {
        make_real(&x);
    }
    return x;
}

static void add_number_value(struct sa_query *q, const struct sa_column *c,
                             const struct dr_value *v)
{
    const char *text = "?";
    if (q->is_pg) {
        text = c->class == SA_INT ? "?::bigint" : c->class == SA_FLOAT ? "?::float8" : "?::numeric";
    }
    dr_str_add(&q->text, text);
    sa_bind(q, v);
}

static void add_column(struct sa_query *q, const struct sa_column *c)
{
    dr_str_addf(&q->text, c->is_bool ? "%s::int" : "%s", c->quoted);
}

/* ---- one side of a comparison ---- */

/* The column as bytes. */
static void add_bytes(struct sa_query *q, const struct sa_column *c)
{
    if (c->class == SA_BLOB) {
        dr_str_addf(&q->text, q->is_pg || c->is_sortable ? "%s" : "CAST(%s AS BINARY)", c->quoted);
    } else if (q->is_pg) {
        dr_str_addf(&q->text, "%s::text COLLATE \"C\"", c->quoted);
    } else {
        dr_str_addf(&q->text, "CAST(CONVERT(%s USING utf8mb4) AS BINARY)", c->quoted);
    }
}

static void add_bytes_value(struct sa_query *q, const struct sa_column *c, const struct dr_value *v)
{
    const char *text = q->is_pg ? (c->class == SA_BLOB ? "?::bytea" : "?::text")
                                : (c->class == SA_BLOB ? "?" : "CAST(? AS BINARY)");
    dr_str_add(&q->text, text);
    sa_bind(q, v);
}

static void add_time_value(struct sa_query *q, const struct sa_column *c, const struct dr_value *v)
{
    if (q->is_pg) {
        dr_str_addf(&q->text, "?::%s", c->type);
    } else {
        bool is_time = strncmp(c->type, "time", 4) == 0 && strncmp(c->type, "timestamp", 9) != 0;
        dr_str_add(&q->text, is_time ? "CAST(? AS TIME(6))" : "CAST(? AS DATETIME(6))");
    }
    sa_bind(q, v);
}

static const char *sign_of(enum dr_filter_op op)
{
    switch (op) {
    case DR_F_EQ:
        return " = ";
    case DR_F_NE:
        return " <> ";
    case DR_F_LT:
        return " < ";
    case DR_F_LE:
        return " <= ";
    case DR_F_GT:
        return " > ";
    case DR_F_GE:
        return " >= ";
    case DR_F_IN:
    case DR_F_IS_NULL:
    case DR_F_NOT_NULL:
        break;
    }
    assert(false && "a comparison of one value");
    return "";
}

/* ---- terms ---- */

static void add_outcome(struct sa_query *q, const struct sa_column *c, bool is_true)
{
    if (is_true) {
        dr_str_addf(&q->text, "%s IS NOT NULL", c->quoted);
    } else {
        dr_str_add(&q->text, nothing);
    }
}

static void add_number_term(struct sa_query *q, const struct sa_column *c, enum dr_filter_op op,
                            const struct dr_value *v)
{
    struct exact x = make_exact(q, c, op, v);
    if (x.is_never || x.is_always) {
        add_outcome(q, c, x.is_always);
        return;
    }
    add_column(q, c);
    dr_str_add(&q->text, sign_of(x.op));
    add_number_value(q, c, &x.value);
}

static void add_compare(struct sa_query *q, const struct sa_column *c, enum dr_filter_op op,
                        const struct dr_value *v)
{
    bool is_comparable = is_of_class(c, v) && (v->type != DR_V_TEXT || is_text_possible(q, v));
    if (!is_comparable) {
        add_outcome(q, c, op == DR_F_NE);
        return;
    }
    if (is_number_class(c->class)) {
        add_number_term(q, c, op, v);
        return;
    }
    if (c->class == SA_TIME) {
        dr_str_addf(&q->text, "%s%s", c->quoted, sign_of(op));
        add_time_value(q, c, v);
        return;
    }
    if (op == DR_F_EQ && c->class == SA_TEXT) {
        dr_str_addf(&q->text, q->is_pg ? "%s = ?::text AND " : "%s = ? AND ", c->quoted);
        sa_bind(q, v);
    }
    add_bytes(q, c);
    dr_str_add(&q->text, sign_of(op));
    add_bytes_value(q, c, v);
}

/* One list of an IN; `is_bytes` chooses between the column's own words and bytes. False: it would
 * be empty. */
static bool add_list(struct sa_query *q, const struct sa_column *c, const struct dr_term *t,
                     bool is_bytes)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->value_count; i++) {
        const struct dr_value *v = &t->value[i];
        struct exact x = {.op = DR_F_EQ, .value = *v};
        if (!is_of_class(c, v) || (v->type == DR_V_TEXT && !is_text_possible(q, v))) {
            continue;
        }
        if (is_number_class(c->class)) {
            x = make_exact(q, c, DR_F_EQ, v);
            if (x.is_never) {
                continue;
            }
        }
        if (count++ == 0) {
            if (is_bytes) {
                add_bytes(q, c);
            } else {
                add_column(q, c);
            }
        }
        dr_str_add(&q->text, count == 1 ? " IN (" : ",");
        if (is_number_class(c->class)) {
            add_number_value(q, c, &x.value);
        } else if (c->class == SA_TIME) {
            add_time_value(q, c, v);
        } else if (is_bytes) {
            add_bytes_value(q, c, v);
        } else {
            dr_str_add(&q->text, q->is_pg ? "?::text" : "?");
            sa_bind(q, v);
        }
    }
    dr_str_add(&q->text, count > 0 ? ")" : nothing);
    return count > 0;
}

static void add_in(struct sa_query *q, const struct sa_column *c, const struct dr_term *t)
{
    bool is_plain = is_number_class(c->class) || c->class == SA_TIME;
    if (is_plain || c->class == SA_TEXT) {
        if (!add_list(q, c, t, false) || is_plain) {
            return;
        }
        dr_str_add(&q->text, " AND ");
    }
    (void)add_list(q, c, t, true);
}

void sa_add_filter(struct sa_query *q, const struct sa_table *t, const struct dr_filter *f)
{
    for (uint32_t i = 0; i < f->term_count; i++) {
        const struct dr_term *term = &f->term[i];
        int at = sa_column_find(t, term->field);
        assert(at >= 0); /* sa_filter_check() came first */
        const struct sa_column *c = &t->column[at];
        dr_str_add(&q->text, i == 0 ? "" : " AND ");
        switch (term->op) {
        case DR_F_IS_NULL:
            dr_str_addf(&q->text, "%s IS NULL", c->quoted);
            break;
        case DR_F_NOT_NULL:
            dr_str_addf(&q->text, "%s IS NOT NULL", c->quoted);
            break;
        case DR_F_IN:
            add_in(q, c, term);
            break;
        case DR_F_EQ:
        case DR_F_NE:
        case DR_F_LT:
        case DR_F_LE:
        case DR_F_GT:
        case DR_F_GE:
            add_compare(q, c, term->op, &term->value[0]);
            break;
        }
    }
}

enum dr_code sa_filter_check(const struct sa_table *t, const struct dr_filter *f,
                             struct dr_err *err)
{
    for (uint32_t i = 0; f != NULL && i < f->term_count; i++) {
        const struct dr_term *term = &f->term[i];
        if (sa_column_find(t, term->field) < 0) {
            return dr_fail(err, DR_INPUT, "filter: %s has no field \"%s\"", t->shown, term->field);
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
