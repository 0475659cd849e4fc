/* SPDX-License-Identifier: Apache-2.0 */
/* What survey, health and the status documents share. */
#ifndef DR_STORE_MONGODB_SURVEY_PRIVATE_H
#define DR_STORE_MONGODB_SURVEY_PRIVATE_H

#include "store/mongodb/mongodb_private.h"

/* ---- small readers (bson_read.c) ---- */
const char *mg_text(const bson_t *doc, const char *path);           /* "" when it is not there */
bool mg_is_true(const bson_t *doc, const char *path);               /* dotted path, true or not 0 */
bool mg_number(const bson_t *doc, const char *path, double *out);   /* dotted path */
bool mg_document(const bson_t *doc, const char *path, bson_t *out); /* borrowed, arrays as well */

/* ---- moving.c ---- */
struct mg_move {
    const char *ns;   /* "": not told */
    const char *from; /* shard, "": not told */
    const char *to;
    const char *by; /* where it was seen: "config.migrations" ... */
};
/* Every running move, as far as the cluster tells. `note` says which means was not permitted though
 * others were. */
DR_MUST enum dr_code mg_each_move(struct mg_store *s,
                                  enum dr_code (*take)(void *arg, const struct mg_move *move,
                                                       struct dr_err *err),
                                  void *arg, char *note, size_t note_bytes, struct dr_err *err);
void mg_move_print(const struct mg_move *move, char *to, size_t to_bytes);

/* ---- health.c ---- */
/* Read the shard's own numbers, into why_unreadable or *out; never fails. */
void mg_shard_health(struct mg_store *s, struct mg_shard *shard, struct dr_health *out);

/* ---- survey_filter.c ---- */
struct mg_use {
    enum { MG_USE_RANGE, MG_USE_HASHED, MG_USE_INDEXED, MG_USE_SCAN, MG_USE_BROADCAST } use;
    char why[256];
    char index[MG_NAME_BYTES]; /* "": none */
    bool has_index;
    uint64_t matched;
};
const char *mg_use_name(const struct mg_use *u);
/* How the documents that match are best found in s->coll. `indexes`: the definitions as
 * listIndexes gives them, in one document. */
DR_MUST enum dr_code mg_use_choose(struct mg_store *s, const bson_t *query, const bson_t *indexes,
                                   bool has_collation, uint64_t total, struct mg_use *out,
                                   struct dr_err *err);
/* Can the chunk hold documents that match? True whenever that is not sure. */
bool mg_chunk_can_match(const struct mg_coll *c, const bson_t *query, bool has_collation,
                        const bson_t *chunk);

/* ---- survey_text.c ---- */
/* Commands that make the collection again, a line each: create, createIndexes, and for a sharded
 * one enableSharding and shardCollection. `listed` as listCollections gives it. Arena-owned. */
DR_MUST enum dr_code mg_create_text(const struct mg_coll *c, const bson_t *listed,
                                    const bson_t *indexes, bool is_unique, struct dr_arena *a,
                                    const char **out, struct dr_err *err);

/* ---- survey_chunks.c ---- */
/* What a survey wants to know of one collection's chunks. */
struct mg_chunk_wish {
    const bson_t *query; /* only chunks that can match, when `is_pruned` */
    bool is_pruned;
    bool has_collation;
    bool wants_sizes; /* ask for each chunk's documents and bytes */
};
/* Fill chunk[] of a sharded collection (s->coll). What of a size is not known goes to `warning`;
 * the chunk stays. */
DR_MUST enum dr_code mg_survey_chunks(struct mg_store *s, const struct mg_chunk_wish *wish,
                                      struct dr_arena *a, struct dr_collection *to,
                                      struct dr_str *warning, struct dr_err *err);

/* ---- publish.c ---- */
/* Add to `out`, by collection, what the status documents call completed: {SHARD: time}. Nothing
 * when the request names no status database. */
DR_MUST enum dr_code mg_completed(struct mg_store *s, const char *spec, json_t *out,
                                  struct dr_err *err);

/* ---- conn.c ---- */
DR_MUST enum dr_code mg_connect(const char *uri, const char *what, mongoc_client_t **out,
                                struct dr_err *err);

#endif
