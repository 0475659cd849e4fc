/* SPDX-License-Identifier: Apache-2.0 */
/* Shards: what one node does with the piece of a sharded table that lives on it, while the table is
 * made, a piece is moved, or the table is dropped. Offered by adapters that have `shard` in their
 * struct dr_store_ops (sqlite, mysql, postgres); Manticore has clusters instead (store/manticore).
 *
 * A shard is a table NAME in the database (schema) of the node's URL. Whatever drover makes there
 * is on record in the node's own table "drover_shards" before it is made: name, owner, role
 * ("shard", "log", "held"), table it belongs to, created_at. Nothing without such a record, or with
 * the record of another owner, is ever dropped, renamed or emptied: names prove nothing.
 *
 * An *owner* is the uuid of the sharded table, an *operation* the uuid of what changes it now.
 *
 * A move follows the design of online schema changes (gh-ost, pt-online-schema-change) and of
 * Vitess' MoveTables with its reverse traffic:
 *
 *     ensure(target)  capture(source)  copy...copy  follow...follow  compare...compare
 *     cut over:  fence(old holders)  follow until empty  capture(target)
 *                catalog switched  unfence(who stays)  hold(who leaves)
 *     later:     uncapture(target)  drop(held source)
 *
 * - *capture*: triggers write the key of every changed row (both keys of a changed key) into a log
 *   table, in the transaction of the change. Entries are taken by their own ids, never by ranges: a
 *   smaller id may be committed later than a greater one. A key is read after its entry was, so the
 *   last entry always leads to the last state.
 * - *fence*: triggers that refuse every write with an error that says "drover: shard moved, ask the
 *   catalog". Setting it waits for writers in flight (a table lock of the server), at most
 *   `wait_ms`; then DR_BUSY with nothing changed. Reads go on.
 * - *compare*: contents are compared range by range while writes go on, as pt-table-checksum and
 *   VDiff do: reading all of a shard would hold its writers for as long as that takes. What is
 *   written after a range was compared is in the log, which is followed under the fence.
 * - every call may be repeated after a lost reply or a crash: "already so" is DR_OK.
 *
 * All calls block for at most the timeouts of the URL, copy, follow and compare for the budget too.
 */
#ifndef DR_STORE_SHARD_H
#define DR_STORE_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "store/store.h"

enum { DR_SHARD_NAME_BYTES_MAX = 50, DR_SHARD_FENCE_WAIT_MS = 2000, DR_SHARD_TARGETS_MAX = 16 };

struct dr_shard_id {
    const char *name;      /* of the shard's table: "users_s0"; [A-Za-z_][A-Za-z0-9_]* */
    const char *table;     /* sharded table it belongs to: "users" */
    const char *owner;     /* uuid of the sharded table */
    const char *operation; /* uuid of the operation that acts */
};

/* Equal contents have equal digests on nodes of the same kind; order of rows does not matter. */
struct dr_shard_digest {
    uint64_t rows;
    char text[65]; /* hex */
};

struct dr_shard_facts {
    bool exists;
    bool is_owned;    /* on record, by the asked owner */
    bool is_captured; /* triggers and log are there */
    bool is_fenced;
    bool is_held;      /* renamed out of use: exists is false then */
    uint64_t rows;     /* exact up to 1,000,000, else the server's estimate */
    uint64_t bytes;    /* 0: unknown */
    uint64_t log_rows; /* captured and not yet followed; 0 without capture */
};

/* What compare found in one range. */
struct dr_shard_compared {
    uint64_t rows;     /* of the source in the range */
    bool is_different; /* one target at least has not exactly these rows */
    bool is_logged;    /* ... but the keys of all rows that differ are in the source's log */
    bool is_end;       /* the range is open upwards: there is nothing behind it */
    char range[101];   /* its keys for people, cut */
};

/* One thing on record on a node, for health and cleanup. */
struct dr_shard_record {
    const char *name, *table, *owner, *operation, *role;
    dr_wall_ms created_at;
    bool exists; /* the thing itself; a record without a thing is a trace of a crash */
};

struct dr_shard_ops {
    /* Record, then CREATE TABLE "name" (columns) extra. There already and owned by this owner with
     * the same columns: DR_OK. There and not ours: DR_EXISTS, untouched. A table without a primary
     * key is refused (DR_REFUSED) and removed again; so are foreign keys and triggers of its own.
     */
    enum dr_code (*ensure)(void *impl, const struct dr_shard_id *s, const char *columns,
                           const char *extra, struct dr_err *err);
    /* Drop the shard's table, its log and triggers, then the records. Absent: DR_OK. Not ours:
     * DR_REFUSED. `is_held`: only its held form, never the one in use. */
    enum dr_code (*drop)(void *impl, const struct dr_shard_id *s, bool is_held, struct dr_err *err);
    enum dr_code (*capture)(void *impl, const struct dr_shard_id *s, bool is_on,
                            struct dr_err *err);
    enum dr_code (*fence)(void *impl, const struct dr_shard_id *s, bool is_on, uint32_t wait_ms,
                          struct dr_err *err);
    /* Rename out of use and back. */
    enum dr_code (*hold)(void *impl, const struct dr_shard_id *s, bool is_on, struct dr_err *err);
    /* Copy the next rows behind `cursor` (in the order of the primary key) from `source` to all
     * targets, each in one transaction of its own (PostgreSQL: COPY to COPY; MariaDB: multi-row
     * inserts or LOAD DATA; whatever is fastest), then move the cursor. Rows of a repeated batch
     * overwrite themselves. Both sides are handles of this adapter. */
    enum dr_code (*copy)(void *source, void *const *target, uint32_t target_count,
                         const struct dr_shard_id *s, const struct dr_budget *budget,
                         struct dr_cursor *cursor, uint64_t *rows_out, uint64_t *bytes_out,
                         bool *is_end_out, struct dr_err *err);
    /* Bring the next captured changes (at most budget->items_max entries) to all targets, commit
     * there, then forget these entries. *left_out: entries still there, about. */
    enum dr_code (*follow)(void *source, void *const *target, uint32_t target_count,
                           const struct dr_shard_id *s, const struct dr_budget *budget,
                           uint64_t *applied_out, uint64_t *left_out, struct dr_err *err);
    enum dr_code (*digest)(void *impl, const struct dr_shard_id *s, struct dr_shard_digest *out,
                           struct dr_err *err);
    /* Compare the next rows behind `cursor` (at most budget->items_max of the source's) by digests
     * that the servers compute. The range is (cursor, last of these keys], the last one is open
     * upwards, so that rows which only a target has are found as well. The cursor moves when all
     * are equal, and when what
     * differs is_logged: it is late. That is told for ranges of up to DR_SHARD_ROWS_MAX rows. What
     * is read is bounded on both sides: of a target at most one row more. Nothing is locked: rows
     * that are written in between may look different, and are equal the next time when the log was
     * followed. */
    enum dr_code (*compare)(void *source, void *const *target, uint32_t target_count,
                            const struct dr_shard_id *s, const struct dr_budget *budget,
                            struct dr_cursor *cursor, struct dr_shard_compared *out,
                            struct dr_err *err);
    enum dr_code (*facts)(void *impl, const struct dr_shard_id *s, struct dr_shard_facts *out,
                          struct dr_err *err);
    /* All records on this node; texts into the arena. */
    enum dr_code (*records)(void *impl, struct dr_arena *a, struct dr_shard_record **out,
                            uint32_t *count_out, struct dr_err *err);
};

/* The same through a handle: checks names, counts and times. DR_UNSUPPORTED where the adapter has
 * no shards; DR_INPUT where source and targets are of different adapters. */
bool dr_shard_is_supported(const struct dr_store *s);
DR_MUST enum dr_code dr_shard_ensure(struct dr_store *s, const struct dr_shard_id *id,
                                     const char *columns, const char *extra, struct dr_err *err);
DR_MUST enum dr_code dr_shard_drop(struct dr_store *s, const struct dr_shard_id *id, bool is_held,
                                   struct dr_err *err);
DR_MUST enum dr_code dr_shard_capture(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                                      struct dr_err *err);
DR_MUST enum dr_code dr_shard_fence(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                                    uint32_t wait_ms, struct dr_err *err);
DR_MUST enum dr_code dr_shard_hold(struct dr_store *s, const struct dr_shard_id *id, bool is_on,
                                   struct dr_err *err);
DR_MUST enum dr_code dr_shard_copy(struct dr_store *source, struct dr_store *const *target,
                                   uint32_t target_count, const struct dr_shard_id *id,
                                   const struct dr_budget *budget, struct dr_cursor *cursor,
                                   uint64_t *rows_out, uint64_t *bytes_out, bool *is_end_out,
                                   struct dr_err *err);
DR_MUST enum dr_code dr_shard_follow(struct dr_store *source, struct dr_store *const *target,
                                     uint32_t target_count, const struct dr_shard_id *id,
                                     const struct dr_budget *budget, uint64_t *applied_out,
                                     uint64_t *left_out, struct dr_err *err);
DR_MUST enum dr_code dr_shard_digest(struct dr_store *s, const struct dr_shard_id *id,
                                     struct dr_shard_digest *out, struct dr_err *err);
DR_MUST enum dr_code dr_shard_compare(struct dr_store *source, struct dr_store *const *target,
                                      uint32_t target_count, const struct dr_shard_id *id,
                                      const struct dr_budget *budget, struct dr_cursor *cursor,
                                      struct dr_shard_compared *out, struct dr_err *err);
DR_MUST enum dr_code dr_shard_facts(struct dr_store *s, const struct dr_shard_id *id,
                                    struct dr_shard_facts *out, struct dr_err *err);
DR_MUST enum dr_code dr_shard_records(struct dr_store *s, struct dr_arena *a,
                                      struct dr_shard_record **out, uint32_t *count_out,
                                      struct dr_err *err);

#endif
