/* SPDX-License-Identifier: Apache-2.0 */
/* The rows every fixture holds. Keys of every type, NULLs, empty texts and blobs, and values on the
 * very bounds of chunks; each value follows from n alone, so that promises can say what they expect
 * without asking a store. */
#include <stdio.h>
#include <string.h>

#include "conform/conform.h"

#define INT(x)                                                                                     \
    {                                                                                              \
        .type = DR_V_INT, .i = (x)                                                                 \
    }
#define TEXT(x)                                                                                    \
    {                                                                                              \
        .type = DR_V_TEXT, .data = (x), .len = sizeof(x) - 1                                       \
    }
#define LOWEST                                                                                     \
    {                                                                                              \
        .parts = 1, .part = { {.type = DR_V_MIN} }                                                 \
    }
#define HIGHEST                                                                                    \
    {                                                                                              \
        .parts = 1, .part = { {.type = DR_V_MAX} }                                                 \
    }
#define QUARTER ((int64_t)1 << 62)

static const struct conform_shape shapes[C_LIMIT] = {
    [C_EVENTS] = {.name = "events",
                  .sharding = DR_SHARDED_HASHED,
                  .key_count = 1,
                  .key = {"user"},
                  .hash_column = "user_hash",
                  .column_count = 2,
                  .column = {{"user", ""}, {"body", "TEXT"}},
                  .index_name = "events_by_hash",
                  .index_field = "user_hash",
                  .chunk_count = 4,
                  .chunk = {{NODE_A, LOWEST, {1, {INT(-QUARTER)}}},
                            {NODE_B, {1, {INT(-QUARTER)}}, {1, {INT(0)}}},
                            {NODE_A, {1, {INT(0)}}, {1, {INT(QUARTER)}}},
                            {NODE_B, {1, {INT(QUARTER)}}, HIGHEST}}},
    /* Two neighbours share a node, and a row stands on the bound between them. */
    [C_ORDERS] = {.name = "orders",
                  .sharding = DR_SHARDED_RANGE,
                  .key_count = 1,
                  .key = {"customer"},
                  .column_count = 6,
                  .column = {{"customer", ""},
                             {"kind", "TEXT"},
                             {"total", "REAL"},
                             {"note", "TEXT"},
                             {"proof", "BLOB"},
                             {"at", "INTEGER"}},
                  .index_name = "orders_by_customer",
                  .index_field = "customer",
                  .chunk_count = 4,
                  .chunk = {{NODE_A, LOWEST, {1, {INT(55)}}},
                            {NODE_B, {1, {INT(55)}}, {1, {INT(155)}}},
                            {NODE_B, {1, {INT(155)}}, {1, {TEXT("")}}},
                            {NODE_A, {1, {TEXT("")}}, HIGHEST}}},
    [C_PAIRS] = {.name = "pairs",
                 .sharding = DR_SHARDED_RANGE,
                 .key_count = 2,
                 .key = {"tenant", "seq"},
                 .column_count = 3,
                 .column = {{"tenant", "TEXT COLLATE NOCASE"}, {"seq", "REAL"}, {"note", "TEXT"}},
                 .index_name = "pairs_by_key",
                 .index_field = "tenant",
                 .chunk_count = 3,
                 /* A bound shorter than the key is a prefix: it stands before all that follow. */
                 .chunk = {{NODE_B, LOWEST, {1, {TEXT("D")}}},
                           {NODE_A, {1, {TEXT("D")}}, {2, {TEXT("c"), INT(5)}}},
                           {NODE_A, {2, {TEXT("c"), INT(5)}}, HIGHEST}}},
    [C_SETTINGS] = {.name = "settings",
                    .sharding = DR_UNSHARDED,
                    .column_count = 2,
                    .column = {{"name", "TEXT"}, {"value", "BLOB"}},
                    .index_name = "settings_by_name",
                    .index_field = "name"},
};

static int64_t (*hash_by)(const struct dr_value *v) = dr_value_hash;

void conform_hash_by(int64_t (*hash)(const struct dr_value *v))
{
    hash_by = hash == NULL ? dr_value_hash : hash;
}

const struct conform_shape *conform_shape(enum conform_collection of)
{
    return &shapes[of];
}

uint32_t conform_row_count(enum conform_collection of)
{
    static const uint32_t counts[C_LIMIT] = {
        [C_EVENTS] = EVENTS_COUNT,
        [C_ORDERS] = ORDERS_COUNT,
        [C_PAIRS] = PAIRS_COUNT,
        [C_SETTINGS] = SETTINGS_COUNT,
    };
    return counts[of];
}

static struct dr_value int_value(int64_t i)
{
    return (struct dr_value){.type = DR_V_INT, .i = i};
}

static struct dr_value text_value(struct conform_row *row, int slot, const char *fmt, int64_t n)
{
    int length = snprintf(row->text[slot], CONFORM_TEXT_BYTES, fmt, (long long)n);
    return (struct dr_value){.type = DR_V_TEXT, .data = row->text[slot], .len = (size_t)length};
}

/* n mod 10: 0 NULL, 1 negative, 2 real, 3 text, 4 blob; else the integer n itself. */
static struct dr_value mixed_key(struct conform_row *row, int64_t n)
{
    static const char blob[] = "\x00\xff\x80";
    switch (n % 10) {
    case 0:
        return (struct dr_value){.type = DR_V_NULL};
    case 1:
        return int_value(-n);
    case 2:
        return (struct dr_value){.type = DR_V_REAL, .r = (double)n + 0.5};
    case 3:
        return text_value(row, 0, n == 3 ? "" : "cust-%lld", n);
    case 4:
        return (struct dr_value){.type = DR_V_BLOB, .data = blob, .len = (size_t)(n / 10 % 4)};
    default:
        return int_value(n);
    }
}

static void make_order(struct conform_row *row, int64_t n)
{
    static const char proof[] = "\x01\x00\xfe\x7f";
    static const char *const kinds[] = {"dead", "live", "live"};
    struct dr_value *v = row->value;
    v[0] = mixed_key(row, n);
    v[1] = (struct dr_value){.type = DR_V_NULL};
    if (n % 4 != 3) {
        v[1] = (struct dr_value){.type = DR_V_TEXT, .data = kinds[n % 4], .len = 4};
    }
    v[2] = (struct dr_value){.type = DR_V_REAL, .r = (double)(n * 37 % 1000) / 8.0};
    v[3] = text_value(row, 1, n % 5 == 0 ? "" : "note \xc3\xbc %lld", n);
    v[4] = (struct dr_value){.type = DR_V_NULL};
    if (n % 3 != 0) {
        v[4] = (struct dr_value){
            .type = DR_V_BLOB, .data = proof, .len = n % 3 == 1 ? 0 : sizeof proof - 1};
    }
    v[5] = n % 7 == 6 ? (struct dr_value){.type = DR_V_NULL} : int_value(1700000000 + n);
}

static void make_event(struct conform_row *row, int64_t n)
{
    row->value[0] = mixed_key(row, n);
    row->value[1] = text_value(row, 1, "event %lld", n);
    if (n % 10 > 6) {
        row->value[0] = text_value(row, 0, "user-%lld", n / 3);
    } else if (n % 20 == 12) {
        row->value[0] = (struct dr_value){.type = DR_V_REAL, .r = (double)n}; /* hashed like n */
    }
    row->hash = hash_by(&row->value[0]);
}

static void make_pair(struct conform_row *row, int64_t n)
{
    static const char *const tenants[] = {"a", "B", "c", "D"}; /* by bytes: B D a c */
    row->value[0] = (struct dr_value){.type = DR_V_TEXT, .data = tenants[n % 4], .len = 1};
    if (n % 15 == 14) {
        row->value[0] = (struct dr_value){.type = DR_V_NULL};
    }
    row->value[1] = n % 11 == 10 ? (struct dr_value){.type = DR_V_NULL} : int_value(n / 4);
    row->value[2] = text_value(row, 1, "pair %lld", n);
}

void conform_row(enum conform_collection of, int64_t n, struct conform_row *out)
{
    memset(out, 0, sizeof *out);
    out->of = of;
    out->n = n;
    out->id = n + 1;
    out->node = NODE_A;
    switch (of) {
    case C_EVENTS:
        make_event(out, n);
        break;
    case C_ORDERS:
        make_order(out, n);
        break;
    case C_PAIRS:
        make_pair(out, n);
        break;
    case C_SETTINGS:
        out->value[0] = text_value(out, 0, "setting.%03lld", n);
        out->value[1] = (struct dr_value){
            .type = DR_V_BLOB, .data = "\x05\x00\x07\x00", .len = (size_t)(n % 5)};
        break;
    case C_LIMIT:
        fail();
    }
    if (shapes[of].chunk_count > 0) {
        out->node = shapes[of].chunk[conform_chunk_of(out)].node;
    }
}

uint32_t conform_chunk_of(const struct conform_row *row)
{
    const struct conform_shape *shape = &shapes[row->of];
    struct dr_bound at = {.parts = shape->key_count};
    memcpy(at.part, row->value, shape->key_count * sizeof at.part[0]);
    if (shape->sharding == DR_SHARDED_HASHED) {
        at.part[0] = int_value(row->hash);
    }
    for (uint32_t i = 0; i < shape->chunk_count; i++) {
        if (dr_bound_compare(&at, &shape->chunk[i].from) >= 0 &&
            dr_bound_compare(&at, &shape->chunk[i].upto) < 0) {
            return i;
        }
    }
    fail_msg("row %lld of %s is in no chunk", (long long)row->n, shape->name);
    return 0;
}
