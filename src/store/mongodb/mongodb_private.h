/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this adapter share. A handle belongs to one thread at a time.
 *
 * Facts it rests on (measured on a real 4.0 cluster): a chunk's bounds are index bounds and never
 * field values, so a range is walked by find with min, max and hint; config.chunks names its
 * collection by ns up to 4.x and by uuid from 5.0 on. */
#ifndef DR_STORE_MONGODB_MONGODB_PRIVATE_H
#define DR_STORE_MONGODB_MONGODB_PRIVATE_H

#include <mongoc/mongoc.h>

#include "base/str.h"
#include "store/mongodb/mongodb_store.h"

enum {
    MG_SHARDS_MAX = 1000,
    MG_NS_BYTES = 384,
    MG_NAME_BYTES = 128,
    MG_VERSION_BYTES = 32,
    MG_REBALANCE_S = 300,
    MG_STATEMENT_BYTES = 8 * 1024 * 1024, /* of one delete statement: servers take 16 MiB */
    MG_STATEMENT_ITEMS = 1000,
};

struct mg_shard {
    char name[MG_NAME_BYTES];
    char *host;              /* "rs/host:port,host:port" as in config.shards */
    mongoc_client_t *direct; /* for health only; NULL: not tried, or not reachable */
    bool is_direct_tried;
    char why_unreadable[256]; /* why its health cannot be read, "" when it can */
};

enum mg_kind { MG_PLAIN, MG_SHARDED, MG_VIEW, MG_TIMESERIES, MG_SYSTEM, MG_CAPPED };

/* One collection as it is laid out at `epoch`. */
struct mg_coll {
    char ns[MG_NS_BYTES]; /* "database.name" */
    char database[MG_NAME_BYTES];
    const char *name; /* points into ns, behind the dot */
    enum mg_kind kind;
    bool is_there;
    bool is_no_balance;
    bool has_uuid;     /* chunks are found by uuid (5.0+), otherwise by ns */
    bson_value_t uuid; /* type 0: none */
    uint32_t key_count;
    char *key[DR_KEY_PARTS_MAX]; /* shard key fields, dotted paths as they are */
    bool is_hashed_part[DR_KEY_PARTS_MAX];
    bson_t *pattern;             /* shard key pattern {k: 1} or {k: "hashed"}; NULL: not sharded */
    enum dr_sharding sharding;   /* HASHED when the first part is hashed */
    char primary[MG_NAME_BYTES]; /* shard of an unsharded collection */
    uint64_t epoch;              /* fits int64; changes with every move, split, merge, drop */
};

/* A range's filter, parsed once for all calls that carry the same text. */
struct mg_filter {
    char *text;    /* the spec's or the neutral filter's text; NULL: none */
    bson_t *query; /* NULL: everything */
};

/* A cursor of the server kept open behind a batch, so that a walk over many equal keys does not
 * begin again at the first of them. Only a hint: without it the walk goes on from dr_cursor. */
struct mg_live {
    mongoc_cursor_t *cursor;
    mongoc_client_session_t *session;
    char *range_text; /* whose walk it is */
    uint64_t epoch;
    struct dr_cursor after; /* valid only for exactly this position */
    bson_t *pending;        /* a document read but not given, or NULL */
};

struct mg_store {
    mongoc_client_t *client; /* router or replica set: data */
    mongoc_client_t *config; /* metadata; equals client when no own URI is given */
    char *config_db;
    uint64_t rebalance_ms;
    bool is_router;
    int wire; /* maxWireVersion: 7 is 4.0, 9 is 4.4, 13 is 5.0, 21 is 7.0 */
    char version[MG_VERSION_BYTES];
    uint32_t shard_count;
    struct mg_shard *shard; /* of a replica set: one, named by its set */
    struct mg_coll coll;    /* the collection used last */
    struct mg_filter filter;
    struct mg_live live;
    struct dr_arena *scratch;
};

/* ---- url.c ---- */
/* Take drover's options out of the URL. Free uri, config_uri and config_db with dr_free. */
struct mg_url {
    char *uri;
    char *config_uri; /* NULL: the same connection */
    char *config_db;
    uint64_t rebalance_ms;
};
DR_MUST enum dr_code mg_url_parse(const char *url, struct mg_url *out, struct dr_err *err);
void mg_url_fini(struct mg_url *u);

/* ---- error.c ---- */
/* The code that follows from a driver's error and the server's reply (either may be NULL), by error
 * labels first and codes then. `is_write`: a lost answer is DR_UNKNOWN, not DR_UNREACHABLE. A write
 * concern that timed out is DR_UNKNOWN. Authentication, permission, a bad name: never retried. */
enum dr_code mg_fail(const struct mg_store *s, const bson_error_t *e, const bson_t *reply,
                     bool is_write, const char *what, struct dr_err *err);
/* The number in "code" of a reply or of its first writeErrors element; 0: none. */
int32_t mg_reply_code(const bson_t *reply);

/* ---- conn.c ---- */
DR_MUST enum dr_code mg_open(const char *url, void **impl_out, struct dr_err *err);
void mg_close(void *impl);
/* Run a database command and give the reply, which the caller destroys with bson_destroy in any
 * case. database "config" (or the configured one) goes to the metadata connection. A reply with
 * ok: 0, writeErrors or a writeConcernError is an error here, unless `accepts_errors`. */
DR_MUST enum dr_code mg_run(struct mg_store *s, const char *database, const bson_t *command,
                            bool is_write, bool accepts_errors, bson_t *reply, const char *what,
                            struct dr_err *err);
/* First document of a find, copied; *out NULL when there is none. database as for mg_run. */
DR_MUST enum dr_code mg_find_one(struct mg_store *s, const char *database, const char *collection,
                                 const bson_t *query, const bson_t *opts, bson_t **out,
                                 struct dr_err *err);
/* The write concern of the URI, appended to a command; nothing when it names none (then majority).
 */
void mg_append_write_concern(const struct mg_store *s, bson_t *command);
/* Shards as of now, again. */
DR_MUST enum dr_code mg_learn_shards(struct mg_store *s, struct dr_err *err);
struct mg_shard *mg_shard_find(struct mg_store *s, const char *name); /* NULL: unknown */
/* A connection to the shard itself, for health; NULL with why_unreadable set. */
mongoc_client_t *mg_shard_direct(struct mg_store *s, struct mg_shard *shard);

/* ---- bson.c: BSON and drover's values ---- */
/* INT for all integers, REAL, TEXT, NULL, MIN, MAX, and DR_V_TAGGED for the rest (NaN as well).
 * Lossless apart from the width of a number. Bytes go to the arena. */
DR_MUST enum dr_code mg_value_from(const bson_iter_t *it, struct dr_arena *a, struct dr_value *out,
                                   struct dr_err *err);
bool mg_value_append(bson_t *to, const char *field, const struct dr_value *v);
/* {k: 1, b: "x"} in the order of `key` -> bound; a chunk's min or max. */
DR_MUST enum dr_code mg_bound_from(const bson_t *doc, const struct mg_coll *c, struct dr_arena *a,
                                   struct dr_bound *out, struct dr_err *err);
/* And back; parts that are not there are MinKey. */
bool mg_bound_to(const struct dr_bound *b, const struct mg_coll *c, bson_t *out);
/* The value at a dotted path; false when there is none (a missing shard key field is null). */
bool mg_find_path(const bson_t *doc, const char *path, bson_iter_t *out);
/* {"$and": ...}-free query for a neutral filter, with SQL's rule that NULL matches only is_null. */
DR_MUST enum dr_code mg_query_from_filter(const struct dr_filter *f, bson_t **out,
                                          struct dr_err *err);
/* The query of a range: its neutral filter, or "filter" of its spec; NULL: everything. Borrowed,
 * valid until the next call. */
DR_MUST enum dr_code mg_filter_use(struct mg_store *s, const struct dr_range *r,
                                   const bson_t **query_out, struct dr_err *err);
/* Order of two values as the server sorts them (simple collation). <0, 0, >0. */
int mg_compare(const bson_iter_t *a, const bson_iter_t *b);

/* ---- hash.c ---- */
/* The hash of a hashed index over this value; NULL: the field is missing. */
int64_t mg_hash(const bson_iter_t *it);

/* ---- layout.c: metadata ---- */
/* The collection's metadata as of now, into s->coll, and its epoch. Not there: is_there false. */
DR_MUST enum dr_code mg_coll_use(struct mg_store *s, const char *ns, struct dr_err *err);
void mg_coll_fini(struct mg_coll *c);
DR_MUST enum dr_code mg_epoch(void *impl, const char *collection, uint64_t *epoch_out,
                              struct dr_err *err);
/* Chunks of the collection in s->coll that touch [from, upto), sorted by min; parts 0: open. Walks
 * with a callback that gets config.chunks documents. */
DR_MUST enum dr_code
mg_chunks(struct mg_store *s, const struct dr_bound *from, const struct dr_bound *upto,
          enum dr_code (*take)(void *arg, const bson_t *chunk, struct dr_err *err), void *arg,
          struct dr_err *err);
/* On how many shards does the range lie now? */
DR_MUST enum dr_code mg_shards_of_range(struct mg_store *s, const struct dr_range *r,
                                        uint32_t *count_out, struct dr_err *err);
/* Is the shard key still what the range was planned for? DR_CONFLICT with the remedy otherwise. */
DR_MUST enum dr_code mg_check_key(const struct mg_coll *c, const struct dr_range *r,
                                  struct dr_err *err);
/* Is a chunk moving that concerns this collection or shard (either may be NULL)? All means of the
 * facts; a right that is missing is DR_DENIED, never "no". `what` says which and by what. */
DR_MUST enum dr_code mg_is_moving(struct mg_store *s, const char *ns, const char *shard,
                                  bool *is_moving_out, char *what, size_t what_bytes,
                                  struct dr_err *err);

/* ---- the operations ---- */
DR_MUST enum dr_code mg_survey(void *impl, const char *database, const struct dr_filter *filter,
                               struct dr_survey *survey, struct dr_err *err);
DR_MUST enum dr_code mg_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                                    struct dr_err *err);
DR_MUST enum dr_code mg_health(void *impl, const char *node, struct dr_health *out,
                               struct dr_err *err);
DR_MUST enum dr_code mg_count(void *impl, const struct dr_range *range, uint64_t *rows_out,
                              struct dr_err *err);
DR_MUST enum dr_code mg_scan(void *impl, const struct dr_range *range,
                             const struct dr_budget *budget, const struct dr_cursor *from,
                             struct dr_batch *batch, struct dr_err *err);
void mg_live_close(struct mg_store *s);
DR_MUST enum dr_code mg_erase(void *impl, const struct dr_range *range,
                              const struct dr_batch *batch, struct dr_tally *tally,
                              struct dr_err *err);
DR_MUST enum dr_code mg_probe(void *impl, const struct dr_range *range,
                              const struct dr_batch *batch, struct dr_tally *tally,
                              struct dr_err *err);
DR_MUST enum dr_code mg_restore(void *impl, const struct dr_range *range,
                                const struct dr_batch *batch, struct dr_tally *tally,
                                struct dr_err *err);
/* Lines of JSON: {"db": NAME, "command": {extended JSON}} runs that command; {"drop_if_empty":
 * "db.coll"} and {"drop_database_if_empty": "db"} look first, then drop. "Already so" is done. */
DR_MUST enum dr_code mg_command(void *impl, const char *node, const char *text, struct dr_err *err);
DR_MUST enum dr_code mg_publish(void *impl, const char *spec, const char *state,
                                struct dr_err *err);

#endif
