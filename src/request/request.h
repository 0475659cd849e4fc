/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: what a person wants, one struct per operation kind, parsed and guarded before anything
 * else happens. A new kind is one file here (a struct dr_request_kind) and one in plan/.
 *
 * Kinds now:
 *  "tenant.drop": {"kind", "store": URL, "database": NAME, "collections": [NAMES, optional],
 *                  "drop_when_empty": bool}
 *  "purge":       {"kind", "store", "database", "collection": NAME, "filter": {...},
 *                  "temp_index": bool}
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
    } u;
    bool allow_scan;
    bool irreversible;
    bool whole_collection;
    uint64_t max_items; /* 0: no limit */
    double drift;
    uint32_t archive_days;
    const char *note; /* may be NULL */
    struct dr_tuning tuning;
    json_t *json; /* the job as given, for the record */
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
/* Names of the kinds known, separated by spaces: "tenant.drop purge". */
const char *dr_request_kinds(void);

#endif
