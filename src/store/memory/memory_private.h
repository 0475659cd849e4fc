/* SPDX-License-Identifier: Apache-2.0 */
/* The data model of the memory store, shared by its files. Everything here is guarded by the one
 * mutex of the registry: dr_memory_lock() gives the store, dr_memory_unlock() ends its use. */
#ifndef DR_STORE_MEMORY_MEMORY_PRIVATE_H
#define DR_STORE_MEMORY_MEMORY_PRIVATE_H

#include "store/memory/memory_store.h"

enum {
    DR_MEMORY_FIELDS_MAX = 64, /* of one row, the id aside */
    DR_MEMORY_ROW_VALUES_MAX = 1 + 2 * DR_MEMORY_FIELDS_MAX,
};

/* A row as it is archived: id, then name and value of each field. `value` borrows from `bytes`. */
struct dr_memory_row {
    int64_t id;
    int64_t stored_hash; /* of a hashed collection; a test can make it lie */
    bool is_erased;      /* marked within one erase, swept at its end */
    void *bytes;
    size_t byte_count;
    struct dr_value *value;
    uint32_t value_count;
};

/* What one node holds of a collection: rows by ascending id. */
struct dr_memory_part {
    const char *node;
    bool is_there; /* the collection was made on this node and not dropped */
    struct dr_memory_row **row;
    size_t count;
    size_t room;
};

struct dr_memory_chunk {
    const char *node;
    struct dr_bound from, upto;
};

struct dr_memory_collection {
    const char *name;
    enum dr_sharding sharding;
    uint32_t key_count;
    const char *key[DR_KEY_PARTS_MAX];
    const char *primary;
    uint64_t epoch;
    unsigned flags;
    struct dr_memory_part *part;
    size_t part_count, part_room;
    struct dr_memory_chunk *chunk;
    size_t chunk_count, chunk_room;
};

struct dr_memory_index {
    const char *name;
    const char *collection; /* NULL: made by a bare "create index NAME" */
    uint32_t field_count;
    const char *field[DR_KEY_PARTS_MAX];
    bool is_unique;
    bool is_partial;
};

struct dr_memory_node {
    const char *name;
    bool is_ok;
    const char *reason;
};

struct dr_memory_record { /* what was published last for one spec */
    char *spec;
    char *state;
    uint64_t times;
};

struct dr_memory_store {
    struct dr_memory_store *next;
    char *name;
    struct dr_arena *arena; /* names and bounds */
    uint64_t version;       /* counts changes of rows: the read mark */
    struct dr_memory_node *node;
    size_t node_count, node_room;
    struct dr_memory_collection **collection; /* by name */
    size_t collection_count, collection_room;
    struct dr_memory_index *index;
    size_t index_count, index_room;
    struct dr_memory_record *record;
    size_t record_count, record_room;
};

/* On success the registry is locked; DR_UNREACHABLE, not locked, when there is no such store. */
DR_MUST enum dr_code dr_memory_lock(const char *name, struct dr_memory_store **out,
                                    struct dr_err *err);
void dr_memory_unlock(void);

/* Room for one more element; NULL, and the old array stays, when memory is short. */
void *dr_memory_grow(void *array, size_t count, size_t *room, size_t each);

struct dr_memory_node *dr_memory_find_node(const struct dr_memory_store *m, const char *node);
/* Also finds one that is there on no node; dr_memory_is_there() tells. */
struct dr_memory_collection *dr_memory_find_collection(const struct dr_memory_store *m,
                                                       const char *collection);
bool dr_memory_is_there(const struct dr_memory_collection *c);
struct dr_memory_part *dr_memory_find_part(const struct dr_memory_collection *c, const char *node);
struct dr_memory_index *dr_memory_find_index(const struct dr_memory_store *m, const char *index);
/* The place of `id`, or where it would stand. True when it is there. */
bool dr_memory_find_row(const struct dr_memory_part *p, int64_t id, size_t *at_out);
/* Value of a field; NULL when the row has none of this name. */
const struct dr_value *dr_memory_field_of(const struct dr_memory_row *r, const char *field);
/* The hash of the shard key, computed now. */
int64_t dr_memory_hash_of(const struct dr_memory_collection *c, const struct dr_memory_row *r);
/* The shard key of a row as a bound; values borrowed. */
void dr_memory_key_of(const struct dr_memory_row *r, const char *const *key, uint32_t key_count,
                      struct dr_bound *out);
/* False when the value lies outside [from, upto); no parts: no bound. */
bool dr_memory_is_between(const struct dr_bound *at, const struct dr_bound *from,
                          const struct dr_bound *upto);

/* Make a row of encoded bytes (copied). DR_CORRUPT when they are no row. */
DR_MUST enum dr_code dr_memory_row_create(const void *bytes, size_t byte_count,
                                          struct dr_memory_row **out, struct dr_err *err);
void dr_memory_row_destroy(struct dr_memory_row *r);
/* Takes the row over on success only. */
DR_MUST enum dr_code dr_memory_insert_row(struct dr_memory_part *p, size_t at,
                                          struct dr_memory_row *r, struct dr_err *err);
/* Drop the rows marked as erased. */
void dr_memory_sweep(struct dr_memory_part *p);

DR_MUST enum dr_code dr_memory_make_collection(struct dr_memory_store *m, const char *collection,
                                               const char *primary,
                                               struct dr_memory_collection **out,
                                               struct dr_err *err);
/* The part on this node, made when missing. */
DR_MUST enum dr_code dr_memory_make_part(struct dr_memory_store *m, struct dr_memory_collection *c,
                                         const char *node, struct dr_memory_part **out,
                                         struct dr_err *err);
DR_MUST enum dr_code dr_memory_make_index(struct dr_memory_store *m,
                                          const struct dr_memory_index *i, struct dr_err *err);
void dr_memory_drop_index(struct dr_memory_store *m, const char *index);

DR_MUST enum dr_code dr_memory_need_collection(const struct dr_memory_store *m,
                                               const char *collection,
                                               struct dr_memory_collection **out,
                                               struct dr_err *err);
DR_MUST enum dr_code dr_memory_need_node(const struct dr_memory_store *m, const char *node,
                                         struct dr_memory_node **out, struct dr_err *err);

/* A range made ready: the part it lies on and the fields that order it. */
struct dr_memory_walk {
    const struct dr_range *range;
    const struct dr_memory_collection *collection;
    struct dr_memory_part *part; /* NULL: the collection is not on this node */
    uint32_t field_count;        /* before the id, which always comes last */
    const char *field[DR_KEY_PARTS_MAX];
    bool is_hashed; /* ordered by the hash instead of fields */
};
/* DR_NOT_FOUND for an unknown node, collection or index, DR_STALE when the shard key is another. */
DR_MUST enum dr_code dr_memory_walk_prepare(const struct dr_memory_store *m,
                                            const struct dr_range *range, struct dr_memory_walk *w,
                                            struct dr_err *err);
/* Does the row lie in the range and does the filter want it? DR_CORRUPT for a lying hash. */
DR_MUST enum dr_code dr_memory_walk_select(const struct dr_memory_walk *w, struct dr_memory_row *r,
                                           bool *is_out, struct dr_err *err);
DR_MUST enum dr_code dr_memory_walk_count(const struct dr_memory_walk *w, uint64_t *rows_out,
                                          struct dr_err *err);
/* The first `rows_max` selected rows behind the cursor, in order. *is_more_out: there are others
 * behind them. Free *rows_out with dr_free. */
DR_MUST enum dr_code dr_memory_walk_next(const struct dr_memory_walk *w,
                                         const struct dr_cursor *from, uint64_t rows_max,
                                         struct dr_memory_row ***rows_out, size_t *count_out,
                                         bool *is_more_out, struct dr_err *err);
/* The cursor that goes on behind this row. */
DR_MUST enum dr_code dr_memory_walk_after(const struct dr_memory_walk *w,
                                          const struct dr_memory_row *row, struct dr_cursor *out,
                                          struct dr_err *err);
const struct dr_value *dr_memory_find_in_row(void *row, const char *field); /* for filters */

DR_MUST enum dr_code dr_memory_survey(struct dr_memory_store *m, const char *database,
                                      const struct dr_filter *filter, struct dr_survey *survey,
                                      struct dr_err *err);

/* Keep what was published last for a spec; the store is locked. */
DR_MUST enum dr_code dr_memory_keep_record(struct dr_memory_store *m, const char *spec,
                                           const char *state, struct dr_err *err);
void dr_memory_free_records(struct dr_memory_store *m);

/* Run text commands; the store is locked. */
DR_MUST enum dr_code dr_memory_run_commands(struct dr_memory_store *m, const char *node,
                                            const char *text, struct dr_err *err);

#endif
