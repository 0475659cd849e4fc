/* SPDX-License-Identifier: Apache-2.0 */
/* The neutral row filter of a job: a conjunction of comparisons of one field each.
 *
 * JSON: {"status": "dead", "expires": {"lt": 1700000000, "ge": 0}, "kind": {"in": ["a","b"]},
 *        "note": {"is_null": true}}. Operators: eq ne lt le gt ge in is_null. null means is_null.
 * A comparison is never true for a NULL field except is_null (SQL's rule, also on other stores). */
#ifndef DR_STORE_FILTER_H
#define DR_STORE_FILTER_H

#include "store/value.h"

enum dr_filter_op {
    DR_F_EQ,
    DR_F_NE,
    DR_F_LT,
    DR_F_LE,
    DR_F_GT,
    DR_F_GE,
    DR_F_IN,
    DR_F_IS_NULL,
    DR_F_NOT_NULL
};

enum { DR_FILTER_TERMS_MAX = 32, DR_FILTER_IN_MAX = 1000 };

struct dr_term {
    const char *field;
    enum dr_filter_op op;
    uint32_t value_count;
    const struct dr_value *value;
};

struct dr_filter {
    uint32_t term_count;
    struct dr_term term[DR_FILTER_TERMS_MAX];
};

/* Everything lives in the arena. An empty object is DR_REFUSED: "an empty filter matches all". */
DR_MUST enum dr_code dr_filter_parse(const json_t *j, struct dr_arena *a,
                                     const struct dr_filter **out, struct dr_err *err);
json_t *dr_filter_to_json(const struct dr_filter *f);
void dr_filter_print(const struct dr_filter *f, struct dr_str *out); /* status = "dead" and ... */
/* True when the form alone shows that (nearly) every row matches: only NOT_NULL/NE/is_null:false
 * terms, or bounds at the ends of the value order (ge "" , ge the smallest int, lt the largest). */
bool dr_filter_is_catch_all(const struct dr_filter *f);
/* Does a row match? `find` gives the value of a field (NULL pointer: no such field = NULL value).
 */
bool dr_filter_match(const struct dr_filter *f,
                     const struct dr_value *(*find)(void *arg, const char *field), void *arg);

#endif
