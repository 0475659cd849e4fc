/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of store/sql share: facts of a table, queries with parameters, walks and rows. */
#ifndef DR_STORE_SQL_SQL_PRIVATE_H
#define DR_STORE_SQL_SQL_PRIVATE_H

#include "base/clock.h"
#include "base/str.h"
#include "store/sqldb.h"
#include "store/store.h"

enum {
    SA_TABLES_MAX = 8,
    SA_REPLICAS_MAX = 16,
    SA_FACTS_MS = 30000,   /* triggers and references are looked up again after this */
    SA_KEYS_MAX = 1000,    /* keys of one statement */
    SA_PARAMS_MAX = 30000, /* servers take 65535 */
    SA_STATEMENT_BYTES_MAX = 4 * 1024 * 1024,
};

/* How a filter sees a column's values. SA_PLAIN is compared as the text that is read of it. */
enum sa_class { SA_INT, SA_FLOAT, SA_DECIMAL, SA_TEXT, SA_BLOB, SA_TIME, SA_PLAIN };

struct sa_column {
    const char *name;
    const char *quoted;
    const char *type;  /* for a cast: PostgreSQL without length, MariaDB the column's whole type */
    const char *param; /* what stands for a value of this column in a comparison: "?" and casts */
    const char *whole_type; /* as a CREATE TABLE has it */
    enum sa_class class;
    bool is_nullable;
    bool is_generated; /* computed: neither stored by us nor written */
    bool is_bool;      /* PostgreSQL's boolean, which is read as an integer */
    bool is_unsigned;
    bool is_sortable; /* its values compare the way they are sorted, so a walk may follow it */
};

struct sa_index {
    struct dr_index shown;
    int column[DR_KEY_PARTS_MAX];
    bool is_primary;
    bool is_strict; /* unique, whole, of columns that are never NULL: it names rows */
};

/* Another table that refers to this one, and what deleting a row here does there. */
struct sa_child {
    const char *name; /* schema.table */
    const char *rule; /* "cascade", "set null", "set default", or NULL: it forbids */
};

struct sa_table {
    struct dr_arena *arena; /* owns everything here, the struct too */
    const char *schema;
    const char *name;
    const char *shown;  /* schema.name */
    const char *quoted; /* "schema"."name" */
    const char *from;   /* what stands behind FROM: ONLY "schema"."name" where rows are inherited */
    uint64_t epoch;
    dr_mono_ms loaded_at;
    uint32_t column_count;
    struct sa_column *column;
    uint32_t stored_count; /* columns that are not computed */
    uint32_t index_count;
    struct sa_index *index;
    uint32_t key_count; /* 0: no usable key */
    int key[DR_KEY_PARTS_MAX];
    const char *key_index;
    uint32_t child_count;
    struct sa_child *child;
    const char *triggers; /* names, separated by commas, or NULL */
    bool is_view;
    bool is_system;
    bool is_partitioned;
    bool is_versioned; /* keeps the history of its rows itself */
    bool has_policies; /* row level security: some rows may be hidden from us */
    int64_t rows_estimate;
    uint64_t bytes;
    uint64_t row_bytes; /* of the rows read last, for the size of the next fetch; 0: not known */
};

struct sa_replica {
    char *url;
    struct dr_sqldb *db; /* NULL: not open */
};

/* How the copy of a shard went last time, for the size of its next batch. */
struct sa_pace {
    char name[64];
    uint64_t row_bytes; /* 0: not known */
    uint64_t rows_s;
};

struct sa_store {
    struct dr_sqldb *db;
    const struct dr_sqldb_info *info;
    bool is_pg;
    uint64_t lag_s_max;
    uint64_t history_max;
    uint64_t slot_bytes_max;
    uint64_t horizon_age_max;
    uint32_t replica_count;
    struct sa_replica replica[SA_REPLICAS_MAX];
    struct sa_table *table[SA_TABLES_MAX];
    uint32_t table_next;
    char *last_table; /* schema.name that was changed last: its autovacuum is a brake */
    uint32_t blind;   /* enum sa_brake bits that the server does not let us read */
    struct sa_pace pace;
};

/* Text of a statement with the values to bind, in order. Values are borrowed. */
struct sa_query {
    struct dr_str text;
    struct dr_value *bind;
    uint32_t bind_count;
    uint32_t bind_room;
    bool is_short;
    bool is_pg;
};

/* ---- query.c ---- */
void sa_query_init(struct sa_query *q, const struct sa_store *s);
void sa_query_fini(struct sa_query *q);
void sa_query_clear(struct sa_query *q);
void sa_bind(struct sa_query *q, const struct dr_value *v); /* adds the value, no text */
void sa_add_value(struct sa_query *q, const struct sa_column *c, const struct dr_value *v);
void sa_add_equal(struct sa_query *q, const struct sa_column *c, const struct dr_value *v);
enum dr_code sa_query_check(const struct sa_query *q, struct dr_err *err);
enum dr_code sa_query_exec(struct sa_store *s, const struct sa_query *q, uint64_t *affected,
                           struct dr_err *err);
enum dr_code sa_query_rows(struct sa_store *s, const struct sa_query *q, dr_sqldb_row_fn row,
                           void *arg, struct dr_err *err);
/* First value of the first row as a number; 0 when there is none. */
enum dr_code sa_query_number(struct sa_store *s, const struct sa_query *q, int64_t *out,
                             struct dr_err *err);
/* The same for fixed text with up to two text parameters (NULL: none). */
enum dr_code sa_ask_number(struct dr_sqldb *db, const char *sql, const char *a, const char *b,
                           int64_t *out, bool *found_out, struct dr_err *err);
struct dr_value sa_text(const char *text);
int64_t sa_int(const struct dr_value *v);
/* A text value copied to the arena; NULL for NULL or when memory is short. */
char *sa_copy(struct dr_arena *a, const struct dr_value *v);
bool sa_is(const struct dr_value *v, const char *text); /* ASCII case does not matter */
char *sa_quote(struct dr_arena *a, const char *name);
enum dr_code sa_copy_value(struct dr_arena *a, const struct dr_value *from, struct dr_value *to,
                           struct dr_err *err);

/* ---- table.c, catalog_*.c: facts of a table ---- */
/* "schema.table" in two parts; schema into the arena. */
enum dr_code sa_split_name(const char *collection, struct dr_arena *a, const char **schema,
                           const char **table, struct dr_err *err);
/* Borrowed until the next call. DR_NOT_FOUND when there is no such table. */
enum dr_code sa_table_get(struct sa_store *s, const char *collection, struct sa_table **out,
                          struct dr_err *err);
void sa_table_forget(struct sa_store *s, const char *collection);
void sa_table_destroy(struct sa_table *t);
int sa_column_find(const struct sa_table *t, const char *name); /* -1: no such column */
/* DR_UNSUPPORTED for views and, unless allowed, for tables whose rows no key names. */
enum dr_code sa_table_usable(const struct sa_table *t, bool allow_no_key, struct dr_err *err);
/* The definition as it is now, not as it was cached. */
enum dr_code sa_epoch_now(struct sa_store *s, const char *collection, uint64_t *out,
                          struct dr_err *err);
/* Names of the children whose rows would be changed; empty: none. */
void sa_add_cascades(const struct sa_table *t, struct dr_str *out);
bool sa_has_cascades(const struct sa_table *t);
enum dr_code sa_load_mariadb(struct sa_store *s, struct sa_table *t, struct dr_err *err);
enum dr_code sa_load_postgres(struct sa_store *s, struct sa_table *t, struct dr_err *err);
/* Text whose hash is the epoch; *found_out false: no such table. */
enum dr_code sa_define_mariadb(struct sa_store *s, const char *schema, const char *name,
                               struct dr_str *out, bool *found_out, struct dr_err *err);
enum dr_code sa_define_postgres(struct sa_store *s, const char *schema, const char *name,
                                struct dr_str *out, bool *found_out, struct dr_err *err);
/* While loading: room for one more, zeroed; NULL when memory is short. */
struct sa_column *sa_new_column(struct sa_table *t);
struct sa_child *sa_new_child(struct sa_table *t);
/* Add one field of an index; rows of one index come one after another. */
enum dr_code sa_add_index_field(struct sa_table *t, const char *index, const char *field,
                                bool is_unique, bool is_primary, bool is_unusable,
                                struct dr_err *err);

/* ---- spec.c: what a request of kind sql.purge says ---- */
struct sa_spec {
    const char *collection; /* schema.table, NULL when the spec names none */
    const char *where;      /* NULL: everything */
    uint32_t key_count;
    const char *key[DR_KEY_PARTS_MAX];
    struct dr_bound last; /* inclusive; parts 0: no bound */
    bool allow_no_key;
};
enum dr_code sa_spec_parse(const struct sa_store *s, const char *text, struct dr_arena *a,
                           struct sa_spec *out, struct dr_err *err);

/* ---- filter.c ---- */
enum dr_code sa_filter_check(const struct sa_table *t, const struct dr_filter *f,
                             struct dr_err *err);
/* Adds "term AND term"; the check came first. */
void sa_add_filter(struct sa_query *q, const struct sa_table *t, const struct dr_filter *f);

/* ---- walk.c: order, scan, count ---- */
struct sa_walk {
    struct sa_table *table;
    const struct dr_filter *filter;
    struct sa_spec spec;
    const struct sa_index *index; /* what is followed; NULL: no order at all */
    uint32_t ref_count;           /* columns rows are ordered by, identity last */
    int ref[2 * DR_KEY_PARTS_MAX];
    bool is_by_key; /* the order is the identity's own */
};
enum dr_code sa_walk_plan(struct sa_store *s, const struct dr_range *r, struct dr_arena *a,
                          struct sa_walk *out, struct dr_err *err);
/* Adds " WHERE ..." or " AND ...": filter, where and last key. */
void sa_add_and(struct sa_query *q, bool *is_first);
void sa_add_selection(struct sa_query *q, const struct sa_walk *w, bool *is_first);
/* The range behind a position, as a series of simple queries: number 0 .. ref_count - 1. False: it
 * is empty by its form. */
bool sa_add_behind(struct sa_query *q, const struct sa_walk *w, const struct dr_value *at,
                   uint32_t number, bool *is_first);
void sa_add_order(struct sa_query *q, const struct sa_walk *w, bool is_down);
/* " FROM table" with the index that is to be used, where the dialect can say so. */
void sa_add_from(struct sa_query *q, const struct sa_walk *w);
/* The same with the key's index. Where MariaDB reads all of a small table instead, it stops at
 * every row that somebody else has locked. */
void sa_add_from_key(struct sa_query *q, const struct sa_table *t);
/* A DELETE takes no FORCE INDEX there, but an order with a limit makes it follow the key. */
void sa_add_delete_order(struct sa_query *q, const struct sa_table *t, uint64_t rows);
enum dr_code sa_count(void *impl, const struct dr_range *r, uint64_t *out, struct dr_err *err);
enum dr_code sa_scan(void *impl, const struct dr_range *r, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err);
enum dr_code sa_find_node(const char *node, struct dr_err *err);

/* ---- rows.c: identities and encoded rows ---- */
/* A row is [count, names ..., values ...] of its stored columns; a key the identity's values. */
void sa_row_encode(const struct sa_table *t, const struct dr_value *stored, struct dr_value *room,
                   struct dr_str *out);
uint32_t sa_row_room(const struct sa_table *t); /* values that encoding needs room for */
void sa_add_stored(struct sa_query *q, const struct sa_table *t); /* "a", "b", "c" */
void sa_add_key_columns(struct sa_query *q, const struct sa_table *t);
enum dr_code sa_key_decode(const struct sa_table *t, const struct dr_item *item,
                           struct dr_value *key, struct dr_err *err);
/* "(key is one of the items pick[from] .. pick[upto - 1])". */
void sa_add_keys(struct sa_query *q, const struct sa_table *t, const struct dr_value *keys,
                 const uint64_t *pick, uint64_t from, uint64_t upto);

/* ---- change.c: what erase, probe and restore share ---- */
enum sa_state { SA_ABSENT, SA_SAME, SA_CHANGED, SA_LOCKED };
struct sa_change {
    struct sa_store *store;
    const struct dr_range *range;
    const struct dr_batch *batch;
    struct dr_tally *tally;
    struct dr_arena *arena;
    struct sa_walk walk;
    struct sa_table *table;
    struct dr_value *key;  /* key_count values of each item */
    uint64_t *sorted;      /* items in order of their keys' bytes */
    enum sa_state *state;  /* of each item */
    bool *is_double;       /* the same key stands earlier in the batch */
    struct dr_value *room; /* for encoding */
    struct dr_str text;
    struct dr_str key_text;
    uint64_t strangers; /* rows found whose key is equal to the server but not to us */
    bool has_values;
};
/* With `is_restore` only the table's name of the range matters. */
enum dr_code sa_change_init(struct sa_change *c, void *impl, const struct dr_range *r,
                            const struct dr_batch *batch, struct dr_tally *tally, bool is_restore,
                            struct dr_err *err);
void sa_change_fini(struct sa_change *c);
enum sa_look { SA_LOOK, SA_LOOK_LOCK };
/* Find out the state of the items `pick` [0, count) names. */
enum dr_code sa_look_at(struct sa_change *c, const uint64_t *pick, uint64_t count,
                        enum sa_look look, struct dr_err *err);
enum dr_code sa_probe(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err);
const char *sa_lock_words(const struct sa_store *s);
/* Read rows into states: SELECT key [, stored columns] FROM table ... */
/* The columns that sa_take_look expects. */
void sa_add_looked_columns(struct sa_change *c, struct sa_query *q);
void sa_add_look(struct sa_change *c, struct sa_query *q);
enum dr_code sa_take_look(void *arg, const struct dr_value *value, uint32_t count,
                          struct dr_err *err);
uint64_t sa_keys_each(const struct sa_table *t); /* of one statement */
/* Copy the states of keys to the items that name them again. */
void sa_settle_doubles(struct sa_change *c);

/* ---- erase.c, keyless.c, restore.c ---- */
enum dr_code sa_erase(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err);
enum dr_code sa_restore(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err);
enum dr_code sa_keyless_erase(struct sa_change *c, struct dr_err *err);
enum dr_code sa_keyless_probe(struct sa_change *c, struct dr_err *err);
enum dr_code sa_check_epoch(struct sa_change *c, struct dr_err *err);
enum dr_code sa_end_change(struct sa_change *c, enum dr_code rc, const char *point,
                           struct dr_err *err);
/* Rows without a key: how many there are like this one, value by value. */
enum dr_code sa_keyless_count(struct sa_change *c, const struct dr_value *stored, int64_t *out,
                              struct dr_err *err);

/* ---- survey.c, survey_spec.c, explain.c, create.c ---- */
enum dr_code sa_survey(void *impl, const char *database, const struct dr_filter *filter,
                       struct dr_survey *survey, struct dr_err *err);
enum dr_code sa_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err);
/* Facts of one table into a zeroed collection; `warning` collects what a person should know. */
enum dr_code sa_describe(struct sa_store *s, struct sa_table *t, struct dr_arena *a,
                         struct dr_collection *out, struct dr_str *warning, struct dr_err *err);
void sa_warn(struct dr_str *warning, const char *text);
struct sa_explained {
    char plan[160];
    bool uses_index;
    int64_t estimate;
};
enum dr_code sa_explain(struct sa_store *s, const struct sa_walk *w, const struct dr_value *at,
                        struct sa_explained *out, struct dr_err *err);
/* NULL in *out with a warning where a table cannot be told exactly. */
enum dr_code sa_create_text(struct sa_store *s, const struct sa_table *t, struct dr_arena *a,
                            const char **out, struct dr_str *warning, struct dr_err *err);

/* ---- command.c ---- */
enum dr_code sa_command(void *impl, const char *node, const char *text, struct dr_err *err);

/* ---- health.c, brake.c ---- */
enum sa_brake {
    SA_BRAKE_LAG = 1 << 0,
    SA_BRAKE_HISTORY = 1 << 1,
    SA_BRAKE_SLOTS = 1 << 2,
    SA_BRAKE_VACUUM = 1 << 3,
    SA_BRAKE_HORIZON = 1 << 4,
    SA_BRAKE_WAITS = 1 << 5,
};
/* What was read; -1 where there is nothing to read. */
struct sa_vitals {
    bool is_read_only;
    bool is_replica_down; /* a replica that cannot be asked, or does not replicate */
    char replica[96];     /* the worst one, for the message */
    int64_t lag_s;
    int64_t history;
    int64_t slot_bytes;
    char slot[96];
    int64_t horizon_age;
    bool is_vacuuming;
    int64_t lock_waits; /* sessions that wait for a lock for some seconds */
};
enum { SA_LOCK_WAITS_MAX = 20 };
/* Pure: may work go on? */
void sa_judge(const struct sa_vitals *v, const struct sa_store *limits, struct dr_health *out);
enum dr_code sa_read_vitals(struct sa_store *s, struct sa_vitals *out, struct dr_err *err);
enum dr_code sa_health(void *impl, const char *node, struct dr_health *out, struct dr_err *err);
void sa_add_blind(const struct sa_store *s, struct dr_str *warning);

#endif
