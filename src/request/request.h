/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: what a person wants, one struct per operation kind, parsed and guarded before anything
 * else happens. A new kind is one file here (a struct dr_request_kind) and one in plan/.
 *
 * Kinds now:
 *  "tenant.drop": {"kind", "store": URL, "database": NAME, "collections": [NAMES, optional],
 *                  "drop_when_empty": bool}
 *  "purge":       {"kind", "store", "database", "collection": NAME, "filter": {...},
 *                  "temp_index": bool}
 *  "redis.purge-stats": {"kind", "store": "redis://...", "services", "applications", "metrics",
 *                  "users": [TEXTS], "from", "to": T, "marked", "zero_values", "overwrite": bool,
 *                  "layout": {...}, "log_deleted": FILE, "strategy": "auto"|"keys"|"scan",
 *                  "partition_keys": N}. T: seconds since 1970, or UTC "2019-12-16[T10:00:00Z]" (a
 *                  date alone is its first second). See store/keyseq.h and docs/redis-stats.md.
 *  "mongodb.drop": {"kind", "store": "mongodb://...", "database", "collections": [NAMES, optional],
 *                  "filter": {extended JSON, needs exactly one collection}, "temp_index",
 *                  "drop_when_empty", "stop_balancer", "again", "chunk_sizes" (default on): bools,
 *                  "status_store": URI (default: store), "status_database": NAME (default: none,
 *                  then no status documents)}. The store's URL may carry drover.configUri,
 *                  drover.configDb and drover.rebalanceCheck: see store/mongodb/README.md.
 *  "sql.purge":    {"kind", "store": "mysql:..." | "postgres:..." | "sqlite:...", "database": NAME
 *                  (MariaDB: default the URL's; PostgreSQL: the schema, default "public"; SQLite:
 *                  "main"), "table": NAME, "where": SQL EXPRESSION, "key": [COLUMNS] (default: the
 *                  primary key or the best unique key), "allow_no_key": bool, "replicas": [URLs],
 *                  "mode": "rows" | "truncate" | "drop", "hold_days": N (drop: renamed first;
 *                  "hold_until": ms since 1970, the same as a date)}.
 *  "table.create": {"kind", "table": NAME, "columns": DDL between the parentheses, "extra": TEXT,
 *                  "shards": N, "rf": M, "nodes": [{"url", "name" (default: from the URL)}],
 *                  "timeout_s": S (default 30: then it gives up and rolls itself back),
 *                  "if_not_exists": bool}
 *  "table.rebalance": {"kind", "table", "add": [{"url", "name"}], "remove": [NAMES or URLs],
 *                  "hold_s": S (default 3600: how long the source of a move is kept),
 *                  "fence_ms": N (default 2000: the longest that writes to a shard may wait),
 *                  "give_up_s": S (default 1800)}. Without add and remove: heal what failed nodes
 *                  held, and level.
 *  "table.drop":   {"kind", "table", "hold_s": S (default 86400), "if_exists": bool}
 *                  Tables have no "store": it is "fleet:", the nodes stand in the job or the
 *                  catalog. dr_request_resolve puts "operation" and "uuid" there. See
 *                  docs/sharded-tables.md.
 * Common, all optional: "allow_scan", "irreversible", "whole_collection" (consent to a filter that
 * matches every row), "max_items", "drift" (how far the matched count may stray from the plan: 0.5
 * is 50%, default 0.5), "archive_days" (default 30), "note", "tuning": {...}. */
#ifndef DR_REQUEST_REQUEST_H
#define DR_REQUEST_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "request/tuning.h"
#include "store/filter.h"
#include "store/store.h"

enum { DR_COLLECTIONS_MAX = 1000, DR_PROTECT_MAX = 64 };

struct dr_tenant_drop {
    uint32_t collection_count; /* 0: all of the database */
    const char **collection;   /* without the database's name */
    bool drop_when_empty;
};

struct dr_purge {
    const char *collection;
    const struct dr_filter *filter;
    bool temp_index;
};

/* What is selected, and where status documents go, stands in the request's JSON: the adapter reads
 * it from there. */
struct dr_mongodb_drop {
    uint32_t collection_count; /* 0: all of the database */
    const char **collection;   /* without the database's name */
    bool has_filter;
    bool temp_index;
    bool drop_when_empty;
    bool stop_balancer; /* per collection, while it is worked on; always put back */
    bool again;         /* also what the status documents call completed */
};

enum dr_sql_mode { DR_SQL_ROWS, DR_SQL_TRUNCATE, DR_SQL_DROP };

/* "where" and "key" stand in the request's JSON, where the adapter reads them; dr_request_resolve
 * puts "key" and "last_key" (the greatest key at planning: rows inserted later are not chased)
 * there. */
struct dr_sql_purge {
    const char *table;
    const char *where;
    uint32_t key_count; /* as given; 0: to be chosen */
    const char *key[DR_KEY_PARTS_MAX];
    bool allow_no_key;
    enum dr_sql_mode mode;
    uint32_t hold_days;
    int64_t hold_until; /* ms since 1970; 0: the table is dropped as soon as it is out of use */
};

enum dr_redis_strategy { DR_REDIS_AUTO, DR_REDIS_KEYS, DR_REDIS_SCAN };

/* What selects the keys stands in the request's JSON, which dr_keyseq_create reads. */
struct dr_redis_purge {
    uint32_t service_count; /* 0 until dr_request_resolve when `marked` */
    const char **service;
    bool marked;             /* the services are those of the marked set, and leave it at the end */
    bool zero_values;        /* of the selected keys only those whose value is 0 */
    bool overwrite;          /* undo puts back what was there over what is there now */
    const char *log_deleted; /* file for each deleted key and value, or NULL */
    enum dr_redis_strategy strategy;
    uint64_t partition_keys; /* generated keys of one step */
};

enum { DR_TABLE_NODES_PER_JOB_MAX = 256 };
struct dr_table_job_node {
    const char *url;
    const char *name;
};
enum dr_table_what { DR_TABLE_CREATE, DR_TABLE_REBALANCE, DR_TABLE_DROP };
struct dr_table_job {
    enum dr_table_what what;
    const char *table;
    const char *columns, *extra;
    uint32_t shards, rf;
    uint32_t node_count; /* create: nodes; rebalance: those to add */
    struct dr_table_job_node *node;
    uint32_t remove_count;
    const char **remove; /* names */
    uint32_t hold_s, fence_ms, give_up_s;
    bool if_exists; /* drop: if_exists; create: if_not_exists */
};

struct dr_request_kind;

struct dr_request {
    struct dr_arena *arena; /* owns all that follows */
    const struct dr_request_kind *kind;
    const char *kind_name;
    const char *store_url;
    const char *database;
    union {
        struct dr_tenant_drop tenant_drop;
        struct dr_purge purge;
        struct dr_redis_purge redis_purge;
        struct dr_mongodb_drop mongodb_drop;
        struct dr_sql_purge sql_purge;
        struct dr_table_job table;
    } u;
    bool allow_scan;
    bool irreversible;
    bool whole_collection;
    uint64_t max_items; /* 0: no limit */
    double drift;
    uint32_t archive_days;
    const char *note; /* may be NULL */
    struct dr_tuning tuning;
    json_t *json; /* the job as given, for the record; times normalised to seconds */
};

/* Names nobody may erase: built-in ones (admin, config, local, system*, sqlite_*, drover_*) and
 * what the configuration adds; patterns with * and ?, matched against database and collection. */
struct dr_protect {
    uint32_t count;
    const char *pattern[DR_PROTECT_MAX];
};

/* Parse and check a job. `name` (file name or "job") is shown in messages with the place. */
DR_MUST enum dr_code dr_request_parse(const json_t *job, const char *name, struct dr_request **out,
                                      struct dr_err *err);
void dr_request_destroy(struct dr_request *r);
/* Guards that need no survey: protected names, empty and catch-all filters. DR_REFUSED + reason. */
DR_MUST enum dr_code dr_request_guard(const struct dr_request *r, const struct dr_protect *protect,
                                      struct dr_err *err);
/* The filter the survey shall count with, or NULL. */
const struct dr_filter *dr_request_filter(const struct dr_request *r);
/* What the operator types to confirm: the database, or database.collection. Arena-owned. */
const char *dr_request_target(const struct dr_request *r);
/* Does the request's own JSON say what is looked for? Then survey by dr_store_survey_spec. */
bool dr_request_needs_spec(const struct dr_request *r);
/* The text to store as the operation's request and to survey with. Free with dr_free; NULL when
 * memory is short. */
char *dr_request_json_text(const struct dr_request *r);
/* Fill in what only the survey knows: the services of the marked set, into `u` and `json`. Call it
 * between survey and plan, whatever the kind, and dr_request_guard once more behind it: the names
 * are new. DR_NOT_FOUND when nothing is marked, DR_REFUSED when a service named is not marked. */
DR_MUST enum dr_code dr_request_resolve(struct dr_request *r, const struct dr_survey *s,
                                        struct dr_err *err);
/* "sqlite", "mysql", "postgres" or "manticore" by a node's URL; NULL: nodes are not of that kind.
 */
const char *dr_table_engine_of(const char *url);
/* Names of the kinds known, separated by spaces: "tenant.drop purge ...". */
const char *dr_request_kinds(void);

#endif
