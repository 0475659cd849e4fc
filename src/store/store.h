/* SPDX-License-Identifier: Apache-2.0 */
/* Stores: the promises every database adapter keeps, and the handle the rest of drover uses.
 *
 * A store is opened by URL. A handle belongs to one thread at a time; open one per thread. Calls
 * block for at most the budget plus one round trip. store.c is the thick wrapper: it checks
 * arguments, counts and times calls; adapters fill struct dr_store_ops. All adapters pass
 * tests/conform. Nobody else includes a client library.
 *
 * Words: a *collection* is a table, collection or keyspace, named "database.name"; a *node* is the
 * shard that holds a part of it; a *chunk* is a half-open range of its shard key on one node. */
#ifndef DR_STORE_STORE_H
#define DR_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/filter.h"
#include "store/value.h"

/* What the planner may rely on. */
enum dr_store_can {
    DR_CAN_SHARD_RANGE = 1 << 0,  /* walk one chunk of a range-sharded collection */
    DR_CAN_SHARD_HASHED = 1 << 1, /* walk one chunk of a hash-sharded collection */
    DR_CAN_INDEX = 1 << 2,        /* walk a secondary index */
    DR_CAN_SCAN = 1 << 3,         /* walk everything a node holds of a collection */
    DR_CAN_BROADCAST = 1 << 4,    /* one query to all shards */
    DR_CAN_KEY_LIST = 1 << 5,     /* erase keys generated from a description */
    DR_CAN_TEMP_INDEX = 1 << 6,   /* make and remove an index as a plan step */
    DR_CAN_COMMAND = 1 << 7,      /* run text commands (DDL) */
    DR_CAN_RESTORE = 1 << 8,      /* put archived items back */
    DR_CAN_COUNT = 1 << 9,        /* exact counts of a range */
    DR_CAN_ROUTE = 1 << 10,       /* ranges are reached through a router: wherever their chunks
                                     live now, and in however many parts */
};

enum dr_sharding { DR_UNSHARDED, DR_SHARDED_RANGE, DR_SHARDED_HASHED };

/* How a range is walked; each names its order and so the cursor's meaning. */
enum dr_access {
    DR_BY_SHARD_RANGE,
    DR_BY_SHARD_HASHED,
    DR_BY_INDEX,
    DR_BY_SCAN,
    DR_BY_KEYS, /* key-list: keys generated from a description, a slice of their sequence */
};

struct dr_index {
    const char *name;
    uint32_t field_count;
    const char *field[DR_KEY_PARTS_MAX];
    bool is_unique;
    bool is_partial; /* covers only some rows: never usable for a walk */
};

struct dr_chunk {
    const char *node;
    struct dr_bound from, upto; /* half-open, on the shard key (on its hash when hashed) */
    uint64_t rows;              /* matching the survey's filter; exact when the store can count */
    uint64_t bytes;             /* 0: unknown */
    bool is_rows_known;         /* a failing count is a warning: the chunk is still worked on */
};

struct dr_collection {
    const char *name; /* "database.name" */
    enum dr_sharding sharding;
    uint32_t key_count; /* shard key fields, 0 when unsharded */
    const char *key[DR_KEY_PARTS_MAX];
    uint64_t epoch;        /* changes whenever the layout of this collection does */
    uint64_t rows_total;   /* all rows, all nodes */
    uint64_t rows_matched; /* rows the filter selects, all nodes */
    uint64_t bytes_total;  /* 0: unknown */
    uint32_t index_count;
    const struct dr_index *index;
    uint64_t chunk_count; /* unsharded: one chunk without bounds on the primary node */
    const struct dr_chunk *chunk;
    bool is_view;            /* never erasable */
    bool is_system;          /* never erasable */
    bool has_triggers;       /* erasing or restoring would run code that touches other rows */
    bool has_reference;      /* other collections refer to it: erase them first */
    const char *create_text; /* commands that make it again, newline separated, or NULL */
    const char *drop_text;   /* command that drops it when empty, or NULL */
    const char *warning;     /* something a person should know, or NULL */
};

struct dr_survey {
    struct dr_arena *arena; /* owns everything below */
    const char *database;
    uint32_t node_count;
    const char **node;
    uint32_t collection_count;
    struct dr_collection *collection;
    const char *extra; /* JSON text with facts in the adapter's own words, or NULL */
};
void dr_survey_destroy(struct dr_survey *s);

/* What a step works on. Borrowed by the calls that take it. */
struct dr_range {
    const char *node;
    const char *collection; /* "database.name" */
    enum dr_access access;
    const char *index;  /* DR_BY_INDEX: the index's name */
    uint32_t key_count; /* DR_BY_SHARD_*: the shard key's fields, as planned */
    const char *key[DR_KEY_PARTS_MAX];
    struct dr_bound from, upto;     /* DR_BY_SHARD_*; parts 0 otherwise */
    const struct dr_filter *filter; /* NULL: everything in the range */
    const char *spec;               /* JSON text in the adapter's own words: what is selected, where
                                       a filter cannot say it; NULL: nothing */
    bool is_spec_of_request; /* spec is the operation's request, stored once and not per step */
    uint64_t offset, length; /* DR_BY_KEYS: slice of the key sequence of `spec` */
    uint64_t epoch;          /* the layout the plan was made for */
};

/* A batch ends at whichever limit is met first; one item is always allowed. */
struct dr_budget {
    uint64_t items_max;
    uint64_t bytes_max;
    uint64_t ms_max;
    bool with_values; /* false: keys only, nothing will be archived */
};

enum { DR_CURSOR_BYTES_MAX = 16 * 1024 };

/* Opaque position: only the adapter that made it reads it; text-safe it is not. len 0: the start.
 */
struct dr_cursor {
    uint32_t len;
    uint8_t data[DR_CURSOR_BYTES_MAX];
};

struct dr_item {
    const void *key;   /* identity, adapter's encoding: enough to erase or find exactly this item */
    const void *value; /* whole item, adapter's encoding; NULL when read without values */
    uint32_t key_len;
    uint32_t value_len;
};

struct dr_batch {
    struct dr_arena *arena; /* owns items */
    struct dr_item *item;
    uint64_t count;
    uint64_t bytes;  /* keys and values */
    uint64_t looked; /* candidates looked at, when more than count: generated keys that are not
                        there, keys scanned that do not match; 0: as many as count */
    bool is_end;     /* nothing of the range lies behind this batch */
    struct dr_cursor after; /* where the next scan goes on */
    uint64_t read_mark;     /* adapter's own: state of the node when this was read */
};
DR_MUST enum dr_code dr_batch_create(struct dr_batch **out, struct dr_err *err);
void dr_batch_reset(struct dr_batch *b); /* empty, memory kept */
void dr_batch_destroy(struct dr_batch *b);
/* Append one item, copied into the batch's arena. */
DR_MUST enum dr_code dr_batch_add(struct dr_batch *b, const void *key, size_t key_len,
                                  const void *value, size_t value_len, struct dr_err *err);

struct dr_tally {
    uint64_t erased;    /* removed by this very call */
    uint64_t absent;    /* were not there */
    uint64_t changed;   /* there, but no longer what was read (or no longer selected): left alone */
    uint64_t restored;  /* put back by this very call */
    uint64_t same;      /* restore/probe: there already, identical */
    uint64_t conflicts; /* restore: something else is there now, left alone */
};

/* Reading of a node's health; it expires (DESIGN section 6: no reading means wait). */
struct dr_health {
    bool is_ok;
    char reason[256];      /* when not ok: what, and the value against its limit */
    uint32_t valid_ms;     /* how long it may be relied on */
    uint64_t wait_hint_ms; /* when not ok: ask again after */
};

/* What one batch of a copy step did. */
struct dr_copied {
    uint64_t rows, bytes;
    uint64_t read; /* rows that were only compared */
    uint64_t left; /* known to be left, 0 when is_end or unknown */
    bool is_end;   /* nothing is left to copy, or so little that the next step takes it */
};

struct dr_shard_ops; /* store/shard.h */

struct dr_store; /* opaque handle */

struct dr_store_ops {
    const char *scheme; /* "sqlite", "memory", ... */
    uint32_t can;       /* DR_CAN_* */
    enum dr_code (*open)(const char *url, void **impl_out, struct dr_err *err);
    void (*close)(void *impl); /* accepts NULL */
    enum dr_code (*survey)(void *impl, const char *database, const struct dr_filter *filter,
                           struct dr_survey *survey, struct dr_err *err);
    enum dr_code (*epoch)(void *impl, const char *collection, uint64_t *epoch_out,
                          struct dr_err *err);
    enum dr_code (*health)(void *impl, const char *node, struct dr_health *out, struct dr_err *err);
    enum dr_code (*count)(void *impl, const struct dr_range *range, uint64_t *rows_out,
                          struct dr_err *err);
    enum dr_code (*scan)(void *impl, const struct dr_range *range, const struct dr_budget *budget,
                         const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err);
    enum dr_code (*erase)(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                          struct dr_tally *tally, struct dr_err *err);
    enum dr_code (*probe)(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                          struct dr_tally *tally, struct dr_err *err);
    enum dr_code (*restore)(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                            struct dr_tally *tally, struct dr_err *err);
    enum dr_code (*command)(void *impl, const char *node, const char *text, struct dr_err *err);
    /* Write down, outside drover, how far an operation is; NULL where a store has no such place. */
    enum dr_code (*publish)(void *impl, const char *spec, const char *state, struct dr_err *err);
    /* Survey by the adapter's own description; NULL where filters say it all. */
    enum dr_code (*survey_spec)(void *impl, const char *spec, struct dr_survey *survey,
                                struct dr_err *err);
    /* Would this text be understood, and can it be done now? See dr_store_check; NULL: nobody can
     * tell beforehand. */
    enum dr_code (*check)(void *impl, const char *node, const char *text, bool is_now,
                          struct dr_err *err);
    /* Copy steps; NULL: this store has none. See dr_store_copy. */
    enum dr_code (*copy)(void *impl, const char *spec, const struct dr_budget *budget,
                         struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err);
    const struct dr_shard_ops *shard; /* store/shard.h; NULL: this store holds no shards */
};

/* Find the adapter by the URL's scheme and open it. DR_INPUT for a bad URL or an unknown scheme
 * (the message lists what this build knows), DR_UNREACHABLE when the store does not answer. */
DR_MUST enum dr_code dr_store_open(const char *url, struct dr_store **out, struct dr_err *err);
void dr_store_close(struct dr_store *s); /* accepts NULL */
uint32_t dr_store_can(const struct dr_store *s);
const char *dr_store_url(const struct dr_store *s); /* without secrets */
/* Names of the adapters built in, separated by spaces. */
const char *dr_store_schemes(void);

/* Collections of `database`, their layout, indexes and counts of rows `filter` selects (NULL: all).
 * Reads only. Deterministic order (by name, chunks by bound). Destroy with dr_survey_destroy. */
DR_MUST enum dr_code dr_store_survey(struct dr_store *s, const char *database,
                                     const struct dr_filter *filter, struct dr_survey **out,
                                     struct dr_err *err);
/* The same where the request's own JSON says what is looked for (DR_CAN_KEY_LIST stores).
 * DR_UNSUPPORTED when the adapter knows only filters. */
DR_MUST enum dr_code dr_store_survey_spec(struct dr_store *s, const char *spec,
                                          struct dr_survey **out, struct dr_err *err);
/* The layout's epoch now; compare with the planned one before each batch. */
DR_MUST enum dr_code dr_store_epoch(struct dr_store *s, const char *collection, uint64_t *epoch_out,
                                    struct dr_err *err);
DR_MUST enum dr_code dr_store_health(struct dr_store *s, const char *node, struct dr_health *out,
                                     struct dr_err *err);
/* Exact number of items of the range. DR_UNSUPPORTED without DR_CAN_COUNT. */
DR_MUST enum dr_code dr_store_count(struct dr_store *s, const struct dr_range *range,
                                    uint64_t *rows_out, struct dr_err *err);
/* Read the next items of the range after `from`. The batch is reset first. An empty batch without
 * is_end is possible only with looked > 0: candidates were looked at and none is there. An empty
 * batch with is_end says the range holds nothing more behind the cursor. Only whole, selected items
 * of the range are given: NULL keys belong to the chunk that starts at MIN; in a hashed chunk each
 * item's hash is computed on our side and an item whose stored hash lies is DR_CORRUPT, never
 * skipped. */
DR_MUST enum dr_code dr_store_scan(struct dr_store *s, const struct dr_range *range,
                                   const struct dr_budget *budget, const struct dr_cursor *from,
                                   struct dr_batch *batch, struct dr_err *err);
/* Erase exactly these items, each only if it still is what was read (with values) or still lies in
 * the range and matches the filter (without). Repeating it erases nothing else. All or nothing per
 * node where the store can. DR_UNKNOWN when the outcome was not seen: dr_store_probe, then decide.
 * DR_STALE, with nothing erased, when the layout's epoch is no longer range->epoch. */
DR_MUST enum dr_code dr_store_erase(struct dr_store *s, const struct dr_range *range,
                                    const struct dr_batch *batch, struct dr_tally *tally_out,
                                    struct dr_err *err);
/* Look, touch nothing: tally.same = still there as read, .absent = gone, .changed = different. */
DR_MUST enum dr_code dr_store_probe(struct dr_store *s, const struct dr_range *range,
                                    const struct dr_batch *batch, struct dr_tally *tally_out,
                                    struct dr_err *err);
/* Put items back without overwriting: tally.restored, .same (identical one is there: repeating is
 * harmless) and .conflicts (another one is there: left alone). Only range->node and ->collection
 * matter. A collection that is missing is DR_NOT_FOUND. */
DR_MUST enum dr_code dr_store_restore(struct dr_store *s, const struct dr_range *range,
                                      const struct dr_batch *batch, struct dr_tally *tally_out,
                                      struct dr_err *err);
/* Run one or more text commands on a node; "already so" (exists, does not exist) counts as done. */
DR_MUST enum dr_code dr_store_command(struct dr_store *s, const char *node, const char *text,
                                      struct dr_err *err);

/* Keep the status records that a request asks for (its text is `spec`) true to `state`: a JSON
 * array of {"collection", "node", "status": "pending"|"in_progress"|"completed"|"failed", "total",
 * "done", "steps", "steps_done", "last": TEXT or null, "error": TEXT or null}. Absolute values:
 * repeating it is harmless. DR_OK where the store or the request knows no such records. */
DR_MUST enum dr_code dr_store_publish(struct dr_store *s, const char *spec, const char *state,
                                      struct dr_err *err);

/* Validate a command without running it: its form and the names in it (DR_INPUT, DR_REFUSED), and
 * with `is_now` also that the node answers (DR_UNREACHABLE) and that what it works on is there
 * (DR_NOT_FOUND). DR_OK where the adapter cannot tell. Changes nothing. Used on every command and
 * rollback command of a plan before it is stored, and on a rollback command before it is run. */
DR_MUST enum dr_code dr_store_check(struct dr_store *s, const char *node, const char *text,
                                    bool is_now, struct dr_err *err);
/* Do one bounded batch of the copying that `spec` (the step's command) describes and move the
 * cursor. Safe to repeat from an older cursor. DR_UNSUPPORTED where the store knows no copying. */
DR_MUST enum dr_code dr_store_copy(struct dr_store *s, const char *spec,
                                   const struct dr_budget *budget, struct dr_cursor *cursor,
                                   struct dr_copied *out, struct dr_err *err);

/* JSON of a range as stored in a step's command, and back (into the arena). */
json_t *dr_range_to_json(const struct dr_range *r);
DR_MUST enum dr_code dr_range_from_json(const json_t *j, struct dr_arena *a, struct dr_range *out,
                                        struct dr_err *err);

#endif
