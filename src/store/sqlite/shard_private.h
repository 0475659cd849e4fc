/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of shards on SQLite share: one call about one shard, with all that the file says
 * of it. Every call is one transaction, so nothing half made is ever seen.
 *
 * Names in the file: the shard's table NAME or, held, drover_held_NAME; its log drover_log_NAME;
 * triggers drover_fence_?_NAME and drover_log_?_NAME, ? being i, u or d (and r or q, see
 * shard_capture.c). A trigger of the fence lets
 * writes pass while drover_pass has a row: only drover puts one there, and takes it away before its
 * transaction ends, so nobody else ever sees it. */
#ifndef DR_STORE_SQLITE_SHARD_PRIVATE_H
#define DR_STORE_SQLITE_SHARD_PRIVATE_H

#include "store/shard.h"
#include "store/sqlite/sqlite_private.h"

#define SQS_LOG "drover_log_"
#define SQS_HELD "drover_held_"
#define SQS_FENCE "drover_fence_"

struct sqs_record {
    bool is_there;
    bool is_ours; /* of the asked owner */
    const char *owner, *operation, *columns, *extra;
};

struct sqs {
    struct sq_node *n;
    struct dr_arena *a;
    const struct dr_shard_id *id;
    const char *log, *held; /* names of tables */
    bool has_tables;        /* the records' own */
    bool has_table, has_held, has_log;
    struct sqs_record in_use, out_of_use, logged;
    bool is_fenced;
    bool is_captured; /* log and all of its triggers */
};

/* Begin and look. On success sqs_end() has to follow. `with_records`: make the tables of records
 * where there are none. */
enum dr_code sqs_begin_read(void *impl, const struct dr_shard_id *id, struct sqs *x,
                            struct dr_err *err);
enum dr_code sqs_begin_write(void *impl, const struct dr_shard_id *id, bool with_records,
                             struct sqs *x, struct dr_err *err);
/* Commit when rc is DR_OK, else undo; frees. Returns what became of it. */
enum dr_code sqs_end(struct sqs *x, enum dr_code rc, struct dr_err *err);
/* Run one statement put together in the arena; NULL: memory was short. */
enum dr_code sqs_run(struct sqs *x, const char *text, struct dr_err *err);
/* The table, in use or held, of this owner: DR_NOT_FOUND, DR_REFUSED. */
enum dr_code sqs_thing(struct sqs *x, const char **name_out, struct dr_err *err);
enum dr_code sqs_add_record(struct sqs *x, const char *role, const char *columns, const char *extra,
                            struct dr_err *err);
enum dr_code sqs_drop_record(struct sqs *x, const char *role, struct dr_err *err);
/* Triggers, log and its record go; whatever is missing is fine. */
enum dr_code sqs_drop_capture(struct sqs *x, struct dr_err *err);

/* How rows of the shard are read, found and put, as of its table now; texts in the arena. */
struct sqs_shape {
    uint32_t column_count; /* stored ones: generated columns come by themselves */
    uint32_t key_count;
    uint32_t key[DR_KEY_PARTS_MAX]; /* places among the stored columns */
    const char *columns;            /* quoted, with commas */
    const char *key_columns;
    const char *table;       /* quoted */
    const char *const *name; /* per stored column */
    const char *const *quoted;
};
enum dr_code sqs_read_shape(struct sq_node *n, const char *table, struct dr_arena *a,
                            struct sqs_shape *out, struct dr_err *err);

/* ---- shard.c ---- */
enum dr_code sqs_ensure(void *impl, const struct dr_shard_id *id, const char *columns,
                        const char *extra, struct dr_err *err);
enum dr_code sqs_drop(void *impl, const struct dr_shard_id *id, bool is_held, struct dr_err *err);
enum dr_code sqs_hold(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err);
enum dr_code sqs_facts(void *impl, const struct dr_shard_id *id, struct dr_shard_facts *out,
                       struct dr_err *err);
enum dr_code sqs_records(void *impl, struct dr_arena *a, struct dr_shard_record **out,
                         uint32_t *count_out, struct dr_err *err);
/* ---- shard_capture.c ---- */
enum dr_code sqs_capture(void *impl, const struct dr_shard_id *id, bool is_on, struct dr_err *err);
enum dr_code sqs_fence(void *impl, const struct dr_shard_id *id, bool is_on, uint32_t wait_ms,
                       struct dr_err *err);
/* ---- shard_copy.c ---- */
enum dr_code sqs_copy(void *source, void *const *target, uint32_t target_count,
                      const struct dr_shard_id *id, const struct dr_budget *budget,
                      struct dr_cursor *cursor, uint64_t *rows_out, uint64_t *bytes_out,
                      bool *is_end_out, struct dr_err *err);
enum dr_code sqs_follow(void *source, void *const *target, uint32_t target_count,
                        const struct dr_shard_id *id, const struct dr_budget *budget,
                        uint64_t *applied_out, uint64_t *left_out, struct dr_err *err);
/* Also for what compares. Has the batch used up its budget? One row always goes. */
bool sqs_is_spent(const struct dr_budget *b, uint64_t rows, uint64_t bytes, dr_mono_ms until);
/* The key that a row begins with, encoded, in place of the last one. */
enum dr_code sqs_note_key(const struct sqs *x, sqlite3_stmt *st, uint32_t key_count,
                          struct dr_str *last, struct dr_err *err);
/* "?, ?" */
void sqs_add_marks(struct dr_str *out, uint32_t count);
/* Columns from `first` on. */
enum dr_code sqs_read_values(struct sq_node *n, sqlite3_stmt *st, int first, uint32_t count,
                             struct dr_value *out, struct dr_err *err);
/* DR_REFUSED: a key that has NULL in it. */
enum dr_code sqs_check_key(const struct sq_node *n, const struct dr_shard_id *id,
                           const struct dr_value *key, uint32_t count, struct dr_err *err);
/* ---- shard_compare.c ---- */
enum dr_code sqs_digest(void *impl, const struct dr_shard_id *id, struct dr_shard_digest *out,
                        struct dr_err *err);
enum dr_code sqs_compare(void *source, void *const *target, uint32_t target_count,
                         const struct dr_shard_id *id, const struct dr_budget *budget,
                         struct dr_cursor *cursor, struct dr_shard_compared *out,
                         struct dr_err *err);

#endif
