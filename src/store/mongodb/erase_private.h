/* SPDX-License-Identifier: Apache-2.0 */
/* What the walk, the erase, the look by key and the restore share: positions and item keys.
 *
 * An item's key is a BSON document {_id: value, "shard.key.path": value or null, ...}: paths are
 * flat names there, in the order of the shard key. Its value is the whole BSON document. */
#ifndef DR_STORE_MONGODB_ERASE_PRIVATE_H
#define DR_STORE_MONGODB_ERASE_PRIVATE_H

#include "store/mongodb/mongodb_private.h"

enum { MG_IDS_MAX = 1500 };

enum mg_position_kind {
    MG_AT_START, /* nothing given yet */
    MG_AT_KEY,   /* behind `key`, less the documents at exactly that key that are not listed */
    MG_AT_COUNT, /* an order that no key can resume: from the beginning, what is erased is gone */
};

/* Where a walk stands. */
struct mg_position {
    enum mg_position_kind kind;
    bson_t *key;    /* MG_AT_KEY: the last item's key as the index has it (hashes, not values) */
    uint64_t given; /* MG_AT_COUNT: items given so far; tells two positions apart */
    bool is_list_short; /* more than MG_IDS_MAX at this key: none is listed, all come again */
    uint32_t id_count;
    uint64_t id[MG_IDS_MAX]; /* hashes of the ids given at exactly this key */
};

/* ---- walk_cursor.c ---- */
void mg_position_fini(struct mg_position *p);
/* `from` NULL or of length 0 is the start. DR_CORRUPT on anything malformed. */
DR_MUST enum dr_code mg_position_decode(const struct dr_cursor *from, struct mg_position *out,
                                        struct dr_err *err);
void mg_position_encode(const struct mg_position *p, struct dr_cursor *out);
/* FNV-1a of the raw _id element: its type and its bytes. */
uint64_t mg_id_hash(const bson_t *doc);
/* Go to `key`, where the document of this id was given. */
DR_MUST enum dr_code mg_position_move(struct mg_position *p, const bson_t *key, uint64_t id_hash,
                                      struct dr_err *err);
/* Go to `key` with nothing given there yet. */
DR_MUST enum dr_code mg_position_jump(struct mg_position *p, const bson_t *key, struct dr_err *err);
bool mg_position_has(const struct mg_position *p, const bson_t *key, uint64_t id_hash);
/* Order of two documents of an index's keys, by their values alone. A shorter one is a prefix. */
int mg_key_compare(const bson_t *a, const bson_t *b);
/* The keys that `pattern` has for a document: hashed parts as their hash, a missing field as null.
 * `is_flat`: the document is an item's key, its names are paths. Fills `out`, which is initialised.
 * False when a field holds an array: such a document stands at several places of the index. */
bool mg_index_key(const bson_t *pattern, const bson_t *doc, bool is_flat, bson_t *out);
bool mg_is_hashed(const bson_iter_t *pattern_part);
/* Does the key lie in the range's bounds? For ranges of a shard key. */
DR_MUST enum dr_code mg_key_in_range(const struct mg_coll *c, const struct dr_range *r,
                                     const bson_t *index_key, bool *is_in_out, struct dr_err *err);

/* ---- probe.c ---- */
/* Is the node a shard of this cluster? DR_NOT_FOUND otherwise. */
DR_MUST enum dr_code mg_node_use(struct mg_store *s, const char *node, struct dr_err *err);
/* An item's key and value as documents over its memory. DR_CORRUPT when they are none. */
DR_MUST enum dr_code mg_item_key(const struct mg_coll *c, const struct dr_item *item, bson_t *out,
                                 struct dr_err *err);
DR_MUST enum dr_code mg_item_value(const struct mg_coll *c, const struct dr_item *item, bson_t *out,
                                   struct dr_err *err);
/* May this kind of collection be changed document by document? DR_REFUSED, DR_UNSUPPORTED. */
DR_MUST enum dr_code mg_check_kind(const struct mg_store *s, const struct mg_coll *c,
                                   struct dr_err *err);

/* What became of an item, found by its key. */
enum mg_seen {
    MG_SEEN_NOTHING, /* no document of this id */
    MG_SEEN_SAME,    /* with values: byte for byte; without: there and still selected */
    MG_SEEN_CHANGED, /* there, but another content, or not selected any more */
    MG_SEEN_MOVED,   /* this id stands under another shard key */
};
/* Look for batch->item[from .. upto) of the collection in s->coll; seen[] has upto - from entries.
 * `query` NULL: everything is selected. */
DR_MUST enum dr_code mg_look(struct mg_store *s, const struct dr_batch *batch, uint64_t from,
                             uint64_t upto, const bson_t *query, uint8_t *seen, struct dr_err *err);
/* How many items from `from` on fit one statement: MG_STATEMENT_ITEMS, MG_STATEMENT_BYTES. */
uint64_t mg_slice_end(const struct dr_batch *batch, uint64_t from, bool with_values);
/* {locale: "simple"}: of sharded collections, whose shard key index has no other order. */
void mg_append_collation(const struct mg_coll *c, bson_t *to);

#endif
