/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite: one list of promises, run on every store adapter.
 *
 * A fixture makes a store that holds the rows of conform_data.c and changes it behind the adapter's
 * back. Adding a store means adding a fixture file and naming it in test_conform.c. */
#ifndef DR_TESTS_CONFORM_H
#define DR_TESTS_CONFORM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

enum {
    CONFORM_FIELDS_MAX = 6,
    CONFORM_ROWS_MAX = 1024,
    CONFORM_TEXT_BYTES = 32,
    ORDERS_COUNT = 240,
    EVENTS_COUNT = 160,
    PAIRS_COUNT = 60,
    SETTINGS_COUNT = 30,
};

/* The collections, by their short names, in order of names. */
enum conform_collection { C_EVENTS, C_ORDERS, C_PAIRS, C_SETTINGS, C_LIMIT };

struct conform_column {
    const char *name;
    const char *sql_type;
};

struct conform_chunk {
    const char *node;
    struct dr_bound from, upto;
};

/* What a fixture has to lay out. Row ids count from 1 within a collection. */
struct conform_shape {
    const char *name; /* short */
    enum dr_sharding sharding;
    uint32_t key_count;
    const char *key[DR_KEY_PARTS_MAX];
    const char *hash_column; /* for stores that keep the hash in a column */
    uint32_t column_count;   /* the id aside */
    struct conform_column column[CONFORM_FIELDS_MAX];
    const char *index_name; /* index over the column index_field */
    const char *index_field;
    uint32_t chunk_count;
    struct conform_chunk chunk[4];
};

struct conform_row {
    enum conform_collection of;
    const char *node; /* where it lives when the store is sharded */
    int64_t id;
    int64_t n; /* 0 .. count-1: what the promises reason about */
    int64_t hash;
    struct dr_value value[CONFORM_FIELDS_MAX];
    char text[2][CONFORM_TEXT_BYTES];
};

/* Nodes of the sharded fixtures; a plain one has conform_fixture.plain_node only. */
#define NODE_A "n1"
#define NODE_B "n2"

struct conform_fixture {
    const char *name;
    const char *prefix;     /* before the URL: a wrapping store, or "" */
    const char *database;   /* "shop", or "main" of a plain file */
    const char *plain_node; /* the only node, or NULL: sharded over NODE_A and NODE_B */
    void (*make)(void);     /* a fresh store with all rows; what was there before is gone */
    void (*clean)(void);
    const char *(*url)(void);
    void (*put)(const struct conform_row *row, const char *node); /* insert or replace */
    void (*remove)(enum conform_collection of, const char *node, int64_t id);
    bool (*has)(enum conform_collection of, const char *node, int64_t id);
    uint64_t (*count)(enum conform_collection of, const char *node);
    void (*bump_epoch)(enum conform_collection of);          /* NULL: layouts of it never change */
    void (*lie)(const char *node, int64_t id, int64_t hash); /* of an event; NULL: no hashes */
    void (*unhash)(const char *node, int64_t id);     /* no hash stored at all; NULL: cannot be */
    void (*set_health)(const char *node, bool is_ok); /* NULL: cannot be made unwell */
    const char *(*table)(enum conform_collection of); /* as a CREATE INDEX names it, quoted */
    /* Of stores that are no SQL database; NULL: as the others do it. */
    bool is_routed; /* one walk reaches all nodes, orphans are never seen, and a chunk's bounds
                       have all parts of the key */
    int64_t (*id)(const struct dr_item *item);
    int64_t (*hash)(const struct dr_value *v); /* of a hashed key */
    const char *(*index_command)(enum conform_collection of,
                                 bool is_drop); /* drover_tmp(kind, at) */
};

extern const struct conform_fixture conform_memory;
extern const struct conform_fixture conform_sqlite_plain;
extern const struct conform_fixture conform_sqlite_sharded;
extern const struct conform_fixture conform_mariadb;
extern const struct conform_fixture conform_postgres;
extern const struct conform_fixture conform_mongodb_plain;
extern const struct conform_fixture conform_mongodb_sharded;     /* 4.0: chunks by ns */
extern const struct conform_fixture conform_mongodb_sharded_new; /* 7.0: chunks by uuid */

/* ---- conform_data.c ---- */
const struct conform_shape *conform_shape(enum conform_collection of);
uint32_t conform_row_count(enum conform_collection of);
void conform_row(enum conform_collection of, int64_t n, struct conform_row *out);
/* How hashed keys are hashed from here on; NULL: as our own stores do. */
void conform_hash_by(int64_t (*hash)(const struct dr_value *v));
/* The chunk that a row of a sharded collection belongs to. */
uint32_t conform_chunk_of(const struct conform_row *row);

/* ---- conform_walk.c: what every promise starts with ---- */
struct conform {
    const struct conform_fixture *f;
    struct dr_store *s;
    struct dr_survey *survey;
    struct dr_batch *batch;
    struct dr_arena *arena;
    struct dr_err err;
};
int conform_setup(void **state);
int conform_teardown(void **state);

const char *conform_name(const struct conform *c, enum conform_collection of); /* "shop.orders" */
const char *conform_node(const struct conform *c, const char *sharded_node);
const struct dr_collection *conform_find(const struct dr_survey *survey, const char *name);
/* The surveyed collection; fails the test when it is missing. */
const struct dr_collection *conform_collection(const struct conform *c, enum conform_collection of);
/* The range of one chunk, as a plan would make it. */
struct dr_range conform_range(const struct conform *c, enum conform_collection of, uint64_t chunk);
/* A bound of a shape as the store tells it: a routed one with every part of the key. */
struct dr_bound conform_bound(const struct conform *c, enum conform_collection of,
                              const struct dr_bound *bound);
struct dr_range conform_scan_range(const struct conform *c, enum conform_collection of,
                                   const char *node);
const struct dr_filter *conform_filter(struct conform *c, const char *json);
struct dr_budget conform_budget(uint64_t items_max, bool with_values);
/* The row id of an item. */
int64_t conform_id(const struct dr_item *item);
/* Walk a range to its end, counting how often each id was given; returns the items. */
uint64_t conform_walk(struct conform *c, const struct dr_range *range,
                      const struct dr_budget *budget, uint32_t *seen, uint32_t seen_count);
/* Read the first items of a range into c->batch. */
void conform_read(struct conform *c, const struct dr_range *range, uint64_t items_max,
                  bool with_values);
uint64_t conform_total(const struct conform *c, enum conform_collection of); /* all nodes */
/* Is the row there, on any node? */
bool conform_has(const struct conform *c, enum conform_collection of, int64_t id);
#define assert_ok(c, call)                                                                         \
    do {                                                                                           \
        enum dr_code rc_ = (call);                                                                 \
        if (rc_ != DR_OK) {                                                                        \
            print_error("%s: %s\n", #call, (c)->err.msg);                                          \
        }                                                                                          \
        assert_int_equal(rc_, DR_OK);                                                              \
    } while (0)

/* ---- the promises ---- */
extern const struct CMUnitTest conform_reading[];
extern const size_t conform_reading_count;
extern const struct CMUnitTest conform_changing[];
extern const size_t conform_changing_count;
extern const struct CMUnitTest conform_faults[]; /* of the fault store over any fixture */
extern const size_t conform_faults_count;
extern const struct CMUnitTest conform_memory_alone[]; /* of the memory store's own functions */
extern const size_t conform_memory_alone_count;

#endif
