/* SPDX-License-Identifier: Apache-2.0 */
/* What the files shard_*.c share: facts of a shard's table, its records, and the two dialects. */
#ifndef DR_STORE_SQL_SHARD_PRIVATE_H
#define DR_STORE_SQL_SHARD_PRIVATE_H

#include "store/shard.h"
#include "store/sql/sql_private.h"

/* Names of what belongs to a shard: with DR_SHARD_NAME_BYTES_MAX they fit both servers. */
#define SH_RECORDS "drover_shards"
#define SH_LOG "drover_log_"
#define SH_HELD "drover_held_"
#define SH_KEYS "drover_keys_"   /* temporary */
#define SH_ROWS "drover_rows_"   /* temporary */
#define SH_TAKEN "drover_taken_" /* temporary */
#define SH_STAMP "drover:" /* and the owner: the comment of every table that drover has made */
#define SH_REFUSAL "drover: shard moved, ask the catalog"

enum { SH_NAME_BYTES = 64, SH_KEYS_MAX = 16 };

/* ---- shard_run.c: statements put together from names that were checked ---- */
enum dr_code sh_exec(struct dr_sqldb *db, uint64_t *affected, struct dr_err *err, const char *fmt,
                     ...) DR_PRINTF(4, 5);
/* 0 without a row. */
enum dr_code sh_number(struct dr_sqldb *db, int64_t *out, struct dr_err *err, const char *fmt, ...)
    DR_PRINTF(4, 5);
/* NULL without a row or for NULL. */
enum dr_code sh_text(struct dr_sqldb *db, struct dr_arena *a, char **out, struct dr_err *err,
                     const char *fmt, ...) DR_PRINTF(5, 6);
enum dr_code sh_rows(struct dr_sqldb *db, dr_sqldb_row_fn row, void *arg, struct dr_err *err,
                     const char *fmt, ...) DR_PRINTF(5, 6);
/* "schema"."prefix_name" */
char *sh_place(const struct sa_store *s, struct dr_arena *a, const char *prefix, const char *name);
/* A string literal. */
char *sh_literal(const struct sa_store *s, struct dr_arena *a, const char *text);

/* ---- shard_record.c: what is on record, and whether the thing is there and ours ---- */
enum sh_role { SH_SHARD, SH_LOGGED, SH_IS_HELD };
struct sh_thing {
    char *table;     /* its name without schema */
    char *quoted;    /* with it */
    char *owner;     /* on record; NULL: not on record */
    char *operation; /* on record */
    char *made_of;   /* hash of the columns it was made of */
    bool exists;     /* a table of that name */
    bool is_stamped; /* ... that says it is of the asked owner */
    bool is_ours;    /* on record by the asked owner, and stamped if it exists */
};
/* With `is_locked` (inside of a transaction) nobody else acts on this shard here until its end. */
enum dr_code sh_look(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                     bool is_locked, struct dr_arena *a, struct sh_thing *out, struct dr_err *err);
/* DR_NOT_FOUND, DR_REFUSED: it has to be there and ours. */
enum dr_code sh_need(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                     bool is_locked, struct dr_arena *a, struct sh_thing *out, struct dr_err *err);
enum dr_code sh_record_put(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                           const char *made_of, struct dr_err *err);
enum dr_code sh_record_drop(struct sa_store *s, const struct dr_shard_id *id, enum sh_role role,
                            struct dr_err *err);
enum dr_code sh_records_table(struct sa_store *s, struct dr_err *err);
enum dr_code sh_records(void *impl, struct dr_arena *a, struct dr_shard_record **out,
                        uint32_t *count_out, struct dr_err *err);

/* ---- shard_table.c, shard_postgres.c, shard_mariadb.c ---- */
/* How a key's value is written into a statement. */
enum sh_kind { SH_QUOTED, SH_PLAIN, SH_HEX };
struct sh_column {
    const char *name;
    const char *quoted;
    const char *definition; /* as a column of a log or a list of keys */
    const char *select;     /* what the pipe reads */
    const char *digest;     /* what goes into a row's digest (MariaDB) */
    const char *key_text;   /* the value as text, for the cursor */
    const char *before;     /* around the literal of a key */
    const char *behind;
    enum sh_kind kind;
    uint32_t key_at; /* 1, ...: its place in the primary key */
    bool is_generated;
    const char *sequence; /* PostgreSQL: what numbers it, quoted */
};
struct sh_unique {
    const char *expressions; /* a, b AS ... */
    const char *where;       /* of a partial one, or NULL */
    uint32_t count;
};
struct sh_table {
    struct dr_arena *arena;
    const char *quoted;
    uint32_t column_count;
    struct sh_column *column;
    uint32_t key_count;
    const struct sh_column *key[SH_KEYS_MAX];
    const char *columns; /* stored ones, quoted */
    const char *select;
    const char *keys; /* quoted */
    uint32_t unique_count;
    struct sh_unique *unique; /* PostgreSQL: all but the primary key */
    bool is_binary;
    bool is_hashed; /* PostgreSQL can hash its rows exactly without making text of them */
};
enum dr_code sh_table_load(struct sa_store *s, const char *table, struct dr_arena *a,
                           struct sh_table *out, struct dr_err *err);
struct sh_column *sh_new_column(struct sh_table *t);
enum dr_code sh_load_postgres(struct sa_store *s, const char *table, struct sh_table *t,
                              struct dr_err *err);
enum dr_code sh_load_mariadb(struct sa_store *s, const char *table, struct sh_table *t,
                             struct dr_err *err);
/* Why a table cannot be a shard; NULL: it can. */
enum dr_code sh_flaw_postgres(struct sa_store *s, const char *table, struct dr_arena *a, char **out,
                              struct dr_err *err);
enum dr_code sh_flaw_mariadb(struct sa_store *s, const char *table, struct dr_arena *a, char **out,
                             struct dr_err *err);
/* `t` has the keys in question: "prefix.a = other.a AND ..." */
void sh_add_join(struct dr_str *to, const struct sh_table *t, const char *left, const char *right);
/* Definitions of the keys' columns: "a" bigint, "b" text. */
void sh_add_definitions(struct dr_str *to, const struct sh_table *t);
/* "prefix"."a", "prefix"."b" */
void sh_add_keys(struct dr_str *to, const struct sh_table *t, const char *prefix);
/* "(keys) > (texts)" or "<= "; texts are checked. */
enum dr_code sh_add_bound(struct dr_str *to, const struct sa_store *s, const struct sh_table *t,
                          bool is_above, char *const *text, struct dr_err *err);

/* Rows behind `after` up to `upto`, by the texts of their keys. */
struct sh_range {
    char *after[SH_KEYS_MAX];
    char *upto[SH_KEYS_MAX];
    bool has_after, has_upto;
};
/* " WHERE ..." or nothing: all of the table. */
enum dr_code sh_add_range(struct dr_str *to, const struct sa_store *s, const struct sh_table *t,
                          const struct sh_range *range, struct dr_err *err);

/* ---- triggers: shard_capture.c, shard_fence.c over the two dialects ---- */
enum sh_trigger { SH_CAPTURE, SH_FENCE };
/* All of them there and switched on? *some_out: at least one. */
enum dr_code sh_trigger_look(struct sa_store *s, const char *table, enum sh_trigger what,
                             bool *all_out, bool *some_out, struct dr_err *err);
/* Make what is missing, or remove what is there, while nobody writes; DR_BUSY after wait_ms with
 * nothing changed. `t` (its keys) only for making SH_CAPTURE. */
enum dr_code sh_trigger_set(struct sa_store *s, const struct dr_shard_id *id, const char *table,
                            enum sh_trigger what, bool is_on, const struct sh_table *t,
                            uint32_t wait_ms, struct dr_err *err);
enum dr_code sh_trigger_set_mariadb(struct sa_store *s, const struct dr_shard_id *id,
                                    const char *table, enum sh_trigger what, bool is_on,
                                    const struct sh_table *t, uint32_t wait_ms, struct dr_err *err);
enum dr_code sh_trigger_set_postgres(struct sa_store *s, const struct dr_shard_id *id,
                                     const char *table, enum sh_trigger what, bool is_on,
                                     const struct sh_table *t, uint32_t wait_ms,
                                     struct dr_err *err);
/* Functions that no trigger uses any more. */
enum dr_code sh_functions_drop(struct sa_store *s, const struct dr_shard_id *id,
                               struct dr_err *err);

/* ---- shard_target.c: both sides of copy and follow ---- */
struct sh_move {
    struct sa_store *source;
    struct sa_store *target[DR_SHARD_TARGETS_MAX];
    uint32_t target_count;
    const struct dr_shard_id *id;
    struct dr_arena *arena;
    struct sh_table table; /* of the source */
    struct sh_thing shard; /* at the source */
    const char *operation; /* the targets' records have to name it; NULL: any */
};
/* Facts of the source, then a transaction on each target, which is locked and let through its
 * fence. */
enum dr_code sh_move_begin(struct sh_move *m, void *source, void *const *target,
                           uint32_t target_count, const struct dr_shard_id *id, bool is_copy,
                           struct dr_err *err);
enum dr_code sh_move_again(struct sh_move *m, struct dr_err *err); /* roll back, begin anew */
enum dr_code sh_move_commit(struct sh_move *m, struct dr_err *err);
void sh_move_end(struct sh_move *m); /* rolls back what is open */
enum dr_code sh_pipe(struct sh_move *m, const char *select, const char *columns,
                     const char *const *into, uint64_t bytes_max, struct dr_sqldb_piped *out,
                     struct dr_err *err);
/* Numbers that the source has given away are not given again by the targets. */
enum dr_code sh_sync_numbers(struct sh_move *m, struct dr_err *err);
/* PostgreSQL: make a temporary table of the target's columns, and put its rows in place of those
 * that are in their way. */
enum dr_code sh_stage_make(struct sh_move *m, struct sa_store *to, struct dr_err *err);
enum dr_code sh_stage_apply(struct sh_move *m, struct sa_store *to, bool is_own_keys,
                            struct dr_err *err);

/* ---- the operations ---- */
enum dr_code sh_ensure(void *impl, const struct dr_shard_id *id, const char *columns,
                       const char *extra, struct dr_err *err);
enum dr_code sh_drop(void *impl, const struct dr_shard_id *id, bool is_held, struct dr_err *err);
enum dr_code sh_capture(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err);
enum dr_code sh_fence(void *impl, const struct dr_shard_id *id, bool is_on, uint32_t wait_ms,
                      struct dr_err *err);
enum dr_code sh_hold(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err);
enum dr_code sh_copy(void *source, void *const *target, uint32_t target_count,
                     const struct dr_shard_id *id, const struct dr_budget *budget,
                     struct dr_cursor *cursor, uint64_t *rows_out, uint64_t *bytes_out,
                     bool *is_end_out, struct dr_err *err);
enum dr_code sh_follow(void *source, void *const *target, uint32_t target_count,
                       const struct dr_shard_id *id, const struct dr_budget *budget,
                       uint64_t *applied_out, uint64_t *left_out, struct dr_err *err);
enum dr_code sh_digest(void *impl, const struct dr_shard_id *id, struct dr_shard_digest *out,
                       struct dr_err *err);
enum dr_code sh_compare(void *source, void *const *target, uint32_t target_count,
                        const struct dr_shard_id *id, const struct dr_budget *budget,
                        struct dr_cursor *cursor, struct dr_shard_compared *out,
                        struct dr_err *err);
/* ---- shard_late.c: whether what differs in a range is in the log ---- */
/* "a hash of the row t.*" as the server computes it. */
void sh_add_row_hash(struct dr_str *to, const struct sa_store *s, const struct sh_table *t);
uint64_t sh_hash_of(const struct dr_value *v);
struct sh_look_at {
    struct sa_store *s;
    const struct sh_table *t;
};
/* `node`: the source, then the targets. Asked after the range was read and found different. */
enum dr_code sh_is_logged(const struct sh_look_at *node, uint32_t count,
                          const struct dr_shard_id *id, const struct sh_range *range, bool *out,
                          struct dr_err *err);

enum dr_code sh_facts(void *impl, const struct dr_shard_id *id, struct dr_shard_facts *out,
                      struct dr_err *err);
/* Text of the cursor's keys, and back. *found_out false: the start. */
enum dr_code sh_cursor_read(const struct dr_cursor *cursor, const struct sh_table *t,
                            char **text_out, bool *found_out, struct dr_err *err);
enum dr_code sh_cursor_write(const struct sh_table *t, char *const *text, struct dr_cursor *cursor,
                             struct dr_err *err);
/* How many rows a batch should have: within the budget, by the pace of the batches before. */
uint64_t sh_plan_rows(struct sa_store *s, const struct dr_shard_id *id,
                      const struct dr_budget *budget);
/* The key of the rows_max-th row behind `after` (NULL: of all); *found_out false: there are fewer.
 */
enum dr_code sh_find_bound(struct sa_store *s, const struct sh_table *t, char *const *after,
                           uint64_t rows_max, char **text_out, bool *found_out, struct dr_err *err);

#endif
