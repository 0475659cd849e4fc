/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of store/sqlite share: connections, facts of a table, queries and rows. */
#ifndef DR_STORE_SQLITE_SQLITE_PRIVATE_H
#define DR_STORE_SQLITE_SQLITE_PRIVATE_H

#include "base/sql.h"
#include "base/str.h"
#include "store/store.h"

enum { SQ_STATEMENTS_MAX = 16, SQ_TABLES_MAX = 8, SQ_BUSY_MS = 5000, SQ_SLICE_COLUMNS = 1000 };

/* SQLite's affinities: they convert the other side of a comparison, see sq_needs_plus(). */
enum sq_affinity { SQ_AFF_NONE, SQ_AFF_TEXT, SQ_AFF_NUMERIC, SQ_AFF_INTEGER, SQ_AFF_REAL };

struct sq_column {
    const char *name;
    const char *quoted; /* "name", ready for SQL */
    enum sq_affinity affinity;
    bool is_generated;
};

/* Something a row is ordered or found by: a column or the rowid. */
struct sq_ref {
    const char *sql;
    enum sq_affinity affinity;
    bool is_binary; /* compared by bytes, whatever collation the column declares */
    int column;     /* index in sq_table.column, -1: the rowid */
};

/* Facts of one table on one node, as of schema_version. */
struct sq_table {
    struct dr_arena *arena; /* owns everything here, the struct too */
    const char *name;
    const char *quoted;
    int64_t schema_version;
    uint32_t column_count;
    uint32_t stored_count; /* columns that are not generated */
    struct sq_column *column;
    bool is_view;
    bool is_virtual;
    bool has_triggers;
    bool is_without_rowid;
    const char *rowid; /* how SQL can name the rowid; NULL: it cannot, or there is none */
    int rowid_column;  /* the INTEGER PRIMARY KEY column, -1: none */
    uint32_t id_count; /* 1 for rowid tables, else the primary key's columns */
    struct sq_ref *id;
    uint32_t index_count;
    struct dr_index *index;
    int64_t shape; /* hash of the stored columns' names: rows fit only the shape they came from */
};

struct sq_statement {
    char *text;
    sqlite3_stmt *st;
    uint64_t used_at;
};

struct sq_node {
    char *name;
    char *path;
    struct dr_sql sql; /* sql.db NULL: not open yet */
    struct sq_statement statement[SQ_STATEMENTS_MAX];
    uint64_t clock; /* counts uses of statements, for the oldest to go */
    struct sq_table *table[SQ_TABLES_MAX];
    uint32_t table_next;
    uint64_t writes; /* transactions this handle began: data_version does not count our own */
    /* A mark names one state of the file as this connection saw it; see sq_node_mark(). */
    uint64_t mark;
    uint64_t mark_writes;
    int64_t mark_version;
};

struct sq_store {
    bool is_plain;
    struct dr_sql layout; /* plain file: unused after opening, node[0] has the connection */
    char *path;
    uint32_t node_count;
    struct sq_node **node;
};

/* Text of a query with the values to bind, in order. Values are borrowed. */
struct sq_query {
    struct dr_str text;
    struct dr_value *bind;
    uint32_t bind_count;
    uint32_t bind_room;
    bool is_short;
};

/* ---- node.c: connections, cached statements, transactions ---- */
struct sq_node *sq_node_create(const char *name, const char *path);
void sq_node_destroy(struct sq_node *n); /* accepts NULL */
/* The node by name, connected. DR_NOT_FOUND when the layout does not have it. */
enum dr_code sq_node_find(struct sq_store *s, const char *name, struct sq_node **out,
                          struct dr_err *err);
enum dr_code sq_connect(struct dr_sql *sql, const char *path, struct dr_err *err);
enum dr_code sq_node_connect(struct sq_node *n, struct dr_err *err);
/* A cached statement, reset and without bindings; give it back with sq_done(). */
enum dr_code sq_prepare(struct sq_node *n, const char *text, sqlite3_stmt **out,
                        struct dr_err *err);
void sq_done(sqlite3_stmt *st); /* accepts NULL */
enum dr_code sq_begin_read(struct sq_node *n, struct dr_err *err);
void sq_end_read(struct sq_node *n);
enum dr_code sq_begin_write(struct sq_node *n, struct dr_err *err);
/* DR_UNKNOWN when the outcome cannot be told; rolled back on every failure. */
enum dr_code sq_commit(struct sq_node *n, struct dr_err *err);
/* The mark of a table in the file's state; call inside a transaction. Equal marks of one handle
 * mean that nobody has committed anything to the file between the two calls. 0 stands for no mark.
 */
enum dr_code sq_node_mark(struct sq_node *n, const char *table, uint64_t *out, struct dr_err *err);
/* The file's table for a collection: "db.name" itself on a shard, what follows "main." else. */
enum dr_code sq_table_name(const struct sq_store *s, const char *collection, const char **out,
                           struct dr_err *err);
/* The epoch of a collection's layout. A plain file has no layout that could change: always 1. */
enum dr_code sq_epoch(struct sq_store *s, const char *collection, uint64_t *out,
                      struct dr_err *err);

/* ---- table.c: facts of a table ---- */
/* Borrowed until the next call for this node. DR_NOT_FOUND when there is no such table. */
enum dr_code sq_table_get(struct sq_node *n, const char *name, const struct sq_table **out,
                          struct dr_err *err);
/* As before, and refuses what cannot be walked or changed (views, virtual tables, no identity). */
enum dr_code sq_table_usable(struct sq_node *n, const char *name, const struct sq_table **out,
                             struct dr_err *err);
void sq_table_destroy(struct sq_table *t);
int sq_column_find(const struct sq_table *t, const char *name); /* -1: no such column */
char *sq_quote(struct dr_arena *a, const char *name);

/* ---- rows.c: values in and out, identities, encoded rows ---- */
void sq_query_init(struct sq_query *q);
void sq_query_fini(struct sq_query *q);
void sq_query_bind(struct sq_query *q, const struct dr_value *v); /* adds "?" and the value */
/* Prepare the query and bind its values. */
enum dr_code sq_query_start(struct sq_node *n, const struct sq_query *q, sqlite3_stmt **out,
                            struct dr_err *err);
enum dr_code sq_bind(struct sq_node *n, sqlite3_stmt *st, int at, const struct dr_value *v,
                     struct dr_err *err);
/* A result column, borrowed until the next step. */
enum dr_code sq_column_value(struct sq_node *n, sqlite3_stmt *st, int at, struct dr_value *out,
                             struct dr_err *err);
/* Values of an item's key, checked against the table's identity. */
enum dr_code sq_key_decode(const struct sq_table *t, const struct dr_item *item,
                           struct dr_value *id, struct dr_err *err);
/* Values in a stored row before its columns: the shape, and the rowid when no column holds it. */
uint32_t sq_row_extra(const struct sq_table *t);
void sq_add_identity_where(const struct sq_table *t, struct sq_query *q, const struct dr_value *id);
/* Look one row up by identity. With `all`, value[column_count] of every column, generated ones too.
 * The values are copied into the arena. */
enum dr_code sq_row_fetch(struct sq_node *n, const struct sq_table *t, const struct dr_value *id,
                          struct dr_arena *a, struct dr_value *value, bool *found_out,
                          struct dr_err *err);
/* Encode a row: `value` holds all columns in table order. */
void sq_row_encode(const struct sq_table *t, const struct dr_value *id,
                   const struct dr_value *value, struct dr_value *scratch, struct dr_str *out);

/* ---- where.c: conditions ---- */
struct sq_walk {
    const struct sq_table *table;
    const char *index;      /* INDEXED BY, quoted; NULL: the table's own tree or the planner */
    const char *index_name; /* the same without quotes */
    bool is_own_tree;       /* NOT INDEXED: the order is the table's own */
    uint32_t ref_count;     /* what rows are ordered by, identity last */
    uint32_t key_count;     /* how many of them are the range's key */
    struct sq_ref *ref;
    int hashed_column;    /* the field whose hash is stored, -1 */
    const char *where;    /* an expression that a person wrote, or NULL */
    struct dr_bound last; /* the walk ends with rows that begin with this; parts 0: open */
};
/* What lies behind a position and before a bound, as a series of simple queries. */
struct sq_span {
    const struct dr_value *low; /* a prefix of a position in the order; may be empty */
    uint32_t low_count;
    bool is_low_inside; /* rows that begin with `low` belong to it */
    bool has_up;
    uint32_t up_count;
    bool is_up_inside; /* rows that begin with `up` belong to it */
    struct dr_value up[DR_KEY_PARTS_MAX];
};
uint32_t sq_span_segments(const struct sq_span *s);
/* Add the conditions of segment `number`; false: it is empty by its form. */
bool sq_add_segment(struct sq_query *q, const struct sq_walk *w, const struct sq_span *s,
                    uint32_t number, bool *is_first);
void sq_add_filter(struct sq_query *q, const struct sq_table *t, const struct dr_filter *f,
                   bool *is_first);
void sq_add_ref(struct sq_query *q, const struct sq_ref *r, bool with_plus);

/* ---- spec.c: what a request of kind sql.purge says ---- */
struct sq_spec {
    const char *table; /* NULL: the spec names none */
    const char *where; /* NULL: everything */
    uint32_t key_count;
    const char *key[DR_KEY_PARTS_MAX];
    struct dr_bound last; /* inclusive; parts 0: no bound */
};
/* `text` NULL gives an empty one. */
enum dr_code sq_spec_parse(const char *text, struct dr_arena *a, struct sq_spec *out,
                           struct dr_err *err);
/* Is this the name by which a key means the rowid, and no column's? */
bool sq_is_rowid(const struct sq_table *t, const struct sq_spec *spec);
void sq_add_where(struct sq_query *q, const struct sq_walk *w, bool *is_first);
/* Does the row with this identity match the walk's expression? */
enum dr_code sq_where_matches(struct sq_node *n, const struct sq_walk *w, const struct dr_value *id,
                              bool *out, struct dr_err *err);
enum dr_code sq_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err);

/* ---- walk.c: order, scan, count ---- */
/* The statement of a walk that begins behind `at` (NULL: at the start), for EXPLAIN. */
enum dr_code sq_walk_text(const struct sq_walk *w, const struct dr_value *at, struct sq_query *q,
                          struct dr_err *err);
/* order.c: everything about how to walk the range; `a` owns the parts. */
enum dr_code sq_walk_plan(struct sq_store *s, struct sq_node *n, const struct sq_table *t,
                          const struct dr_range *r, struct dr_arena *a, struct sq_walk *out,
                          struct dr_err *err);
/* Is this row (all columns) of the range and does its filter select it? */
bool sq_row_selected(const struct sq_walk *w, const struct dr_range *r,
                     const struct dr_value *value);
enum dr_code sq_filter_check(const struct sq_table *t, const struct dr_filter *f,
                             const char *collection, struct dr_err *err);
/* Rows of the whole table that the filter (may be NULL) selects. */
enum dr_code sq_count_table(struct sq_node *n, const struct sq_table *t, const struct dr_filter *f,
                            uint64_t *out, struct dr_err *err);
enum dr_code sq_count(void *impl, const struct dr_range *r, uint64_t *out, struct dr_err *err);
enum dr_code sq_scan(void *impl, const struct dr_range *r, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err);

/* ---- change.c, layout.c, command.c ---- */
enum dr_code sq_erase(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err);
enum dr_code sq_probe(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err);
enum dr_code sq_restore(void *impl, const struct dr_range *r, const struct dr_batch *batch,
                        struct dr_tally *tally, struct dr_err *err);
enum dr_code sq_survey(void *impl, const char *database, const struct dr_filter *filter,
                       struct dr_survey *survey, struct dr_err *err);
/* One table of a plain file, as a survey with one collection; DR_NOT_FOUND without it. */
enum dr_code sq_survey_one(struct sq_store *s, const char *table, struct dr_survey *survey,
                           struct dr_err *err);
/* The hash column of a hashed collection, into the arena. */
enum dr_code sq_hash_column(struct sq_store *s, const char *collection, struct dr_arena *a,
                            const char **out, struct dr_err *err);
enum dr_code sq_command(void *impl, const char *node, const char *text, struct dr_err *err);
/* Could the command be read, and with `is_now`, does the node answer? */
enum dr_code sq_check(void *impl, const char *node, const char *text, bool is_now,
                      struct dr_err *err);

/* ---- whole.c: commands about a whole table, see store/hold.h ---- */
/* *is_whole_out false: another command, nothing done. */
enum dr_code sq_whole(struct sq_store *s, const char *node, const char *text, bool *is_whole_out,
                      struct dr_err *err);
/* Would sq_whole understand it? Changes nothing. */
enum dr_code sq_whole_check(const char *text, bool *is_whole_out, struct dr_err *err);

#endif
