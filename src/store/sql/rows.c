/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how rows travel: an identity is the values of the key, a row [count, names ..., values ...]
 * of its stored columns in their order. The names are told so that a row can be put back into a
 * table that has got new columns since, and is not put into one whose columns mean other things. */
#include <assert.h>

#include "store/sql/sql_private.h"

uint32_t sa_row_room(const struct sa_table *t)
{
    return 1 + 2 * t->column_count;
}

void sa_row_encode(const struct sa_table *t, const struct dr_value *stored, struct dr_value *room,
                   struct dr_str *out)
{
    uint32_t count = 0;
    room[count++] = (struct dr_value){.type = DR_V_INT, .i = t->stored_count};
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            room[count++] = sa_text(t->column[i].name);
        }
    }
    for (uint32_t i = 0; i < t->stored_count; i++) {
        room[count++] = stored[i];
    }
    assert(count <= sa_row_room(t));
    dr_values_encode(room, count, out);
}

void sa_add_stored(struct sa_query *q, const struct sa_table *t)
{
    const char *comma = "";
    for (uint32_t i = 0; i < t->column_count; i++) {
        if (!t->column[i].is_generated) {
            dr_str_addf(&q->text, "%s%s", comma, t->column[i].quoted);
            comma = ", ";
        }
    }
}

void sa_add_key_columns(struct sa_query *q, const struct sa_table *t)
{
    for (uint32_t i = 0; i < t->key_count; i++) {
        dr_str_addf(&q->text, "%s%s", i == 0 ? "" : ", ", t->column[t->key[i]].quoted);
    }
}

enum dr_code sa_key_decode(const struct sa_table *t, const struct dr_item *item,
                           struct dr_value *key, struct dr_err *err)
{
    uint32_t count = 0;
    enum dr_code rc = dr_values_decode(item->key, item->key_len, key, t->key_count, &count, err);
    if (rc != DR_OK) {
        dr_wrap(err, "identity of a row of %s", t->shown);
        return rc;
    }
    bool is_good = count == t->key_count;
    for (uint32_t i = 0; i < count; i++) {
        is_good = is_good && key[i].type != DR_V_NULL && key[i].type != DR_V_MIN &&
                  key[i].type != DR_V_MAX && key[i].type != DR_V_TAGGED;
    }
    return is_good ? DR_OK
                   : dr_fail(err, DR_UNSUPPORTED,
                             "table %s has another key than when its rows were read", t->shown);
}

/* One column: IN, which both planners turn into a series of index look-ups; more: an OR of all. */
void sa_add_keys(struct sa_query *q, const struct sa_table *t, const struct dr_value *keys,
                 const uint64_t *pick, uint64_t from, uint64_t upto)
{
    if (t->key_count == 1) {
        const struct sa_column *c = &t->column[t->key[0]];
        dr_str_addf(&q->text, "%s IN (", c->quoted);
        for (uint64_t i = from; i < upto; i++) {
            dr_str_add(&q->text, i == from ? "" : ",");
            sa_add_value(q, c, &keys[pick[i]]);
        }
        dr_str_addc(&q->text, ')');
        return;
    }
    for (uint64_t i = from; i < upto; i++) {
        dr_str_add(&q->text, i == from ? "((" : " OR (");
        for (uint32_t k = 0; k < t->key_count; k++) {
            dr_str_add(&q->text, k == 0 ? "" : " AND ");
            sa_add_equal(q, &t->column[t->key[k]], &keys[pick[i] * t->key_count + k]);
        }
        dr_str_add(&q->text, i + 1 == upto ? "))" : ")");
    }
}
