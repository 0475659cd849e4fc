/* SPDX-License-Identifier: Apache-2.0 */
/* What one kind of request must say of itself, and the checks that kinds share. */
#ifndef DR_REQUEST_REQUEST_PRIVATE_H
#define DR_REQUEST_REQUEST_PRIVATE_H

#include "request/request.h"

enum { DR_REQUEST_NAME_BYTES_MAX = 120, DR_REQUEST_NOTE_BYTES_MAX = 1000 };

struct dr_request_kind {
    const char *name;
    /* True: `parse` sets r->database; otherwise the job names it. */
    bool has_own_database;
    /* True: r->json says what is looked for, no filter does. */
    bool needs_spec;
    /* True: r->json holds documents of the store, in which the order of keys has a meaning. */
    bool keeps_order;
    /* The store's URL of all jobs of this kind, which then name none; NULL: the job names it. */
    const char *fixed_store;
    /* Read the kind's own keys into r->u. A mistake sticks in `jr`, or is returned. It may leave a
     * normalised job in r->json. */
    enum dr_code (*parse)(struct dr_jr *jr, struct dr_request *r, struct dr_err *err);
    /* Guards of this kind beside protected names of database and collections. */
    enum dr_code (*guard)(const struct dr_request *r, struct dr_err *err);
    /* The n-th collection the request names, or NULL behind the last one. */
    const char *(*collection)(const struct dr_request *r, uint32_t n);
    const struct dr_filter *(*filter)(const struct dr_request *r);
    /* The n-th name beside database and collections that the configuration may protect, or NULL
     * behind the last one; NULL: the kind has none. */
    const char *(*guarded_name)(const struct dr_request *r, uint32_t n);
    /* Fill in what only the survey knows; NULL: nothing. */
    enum dr_code (*resolve)(struct dr_request *r, const struct dr_survey *s, struct dr_err *err);
    /* Arena-owned text to confirm with; NULL when memory is short. */
    const char *(*make_target)(const struct dr_request *r);
};

const struct dr_request_kind *dr_request_kind_tenant_drop(void);
const struct dr_request_kind *dr_request_kind_purge(void);
const struct dr_request_kind *dr_request_kind_redis_purge(void);
const struct dr_request_kind *dr_request_kind_sql_purge(void);
const struct dr_request_kind *dr_request_kind_mongodb_drop(void);
const struct dr_request_kind *dr_request_kind_table_create(void);
const struct dr_request_kind *dr_request_kind_table_rebalance(void);
const struct dr_request_kind *dr_request_kind_table_drop(void);

/* A required name of a database or collection, copied into the arena. */
void dr_request_read_name(struct dr_jr *jr, const char *key, struct dr_arena *a, const char **out);
/* "collections", when the job has it: names, each once, at least one ("none" must never be read as
 * "all"). `check` may be NULL and looks at each name as well. Into the arena. */
DR_MUST enum dr_code dr_request_read_collections(
    struct dr_jr *jr, struct dr_arena *a,
    enum dr_code (*check)(const char *where, const char *name, struct dr_err *err),
    const char ***name_out, uint32_t *count_out, struct dr_err *err);
/* The same check for a name that is no value of a key of its own; `where` is its path. */
DR_MUST enum dr_code dr_request_check_name(const char *where, const char *name, struct dr_err *err);

#endif
