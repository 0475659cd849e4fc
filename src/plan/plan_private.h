/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a plan: picks (what is done to one collection) and runs (equal steps in a row).
 *
 * A plan keeps no steps. It keeps a few runs, and step k of a run is computed from the survey when
 * the iterator comes to it: a million steps cost the memory of one. */
#ifndef DR_PLAN_PLAN_PRIVATE_H
#define DR_PLAN_PLAN_PRIVATE_H

#include "plan/plan.h"

/* What a run of steps does to its collection. */
enum dr_role {
    DR_ROLE_PREPARE, /* make an aside */
    DR_ROLE_ERASE,
    DR_ROLE_VERIFY,
    DR_ROLE_TIDY, /* remove it again */
    DR_ROLE_DROP_COLLECTION,
    DR_ROLE_UNMARK, /* take a service off the marked set */
    DR_ROLE_DROP_DATABASE,
    DR_ROLE_TOLD, /* a command of the pick's own list */
};

/* Collections others refer to are erased, and dropped, one stage after those that refer. */
enum {
    DR_STAGE_PREPARE = 0,
    DR_STAGE_ERASE = 1,
    DR_STAGE_ERASE_REFERRED = 2,
    DR_STAGE_VERIFY = 3,
    DR_STAGE_TIDY = 4,
    DR_STAGE_DROP = 5,
    DR_STAGE_DROP_REFERRED = 6,
    DR_STAGE_DROP_DATABASE = 7
};

/* What is made for the time of the erasing and never stays: a temporary index, a balancer that
 * rests. Its removal is on record before it is made. */
struct dr_aside {
    const char *make; /* commands */
    const char *undo;
    const char *make_title; /* "create temporary index on" */
    const char *undo_title;
};
enum { DR_ASIDES_PER_PICK = 2 };

/* A command that a kind plans by itself: one step in a stage. */
struct dr_told {
    uint32_t stage;
    const char *query;
    const char *undo;  /* NULL: there is none; only in an irreversible plan */
    const char *title; /* what is done, in front of the collection's name */
};
enum { DR_TOLD_PER_PICK = 3 };

/* Keys that a description selects: how a pick's steps share them (redis_purge.c). */
struct dr_stats {
    const struct dr_redis_purge *want;
    const char *target;   /* "service 1006", for titles of scans */
    bool is_by_keys;      /* slices of the key sequence; otherwise each node is scanned */
    uint64_t per_service; /* generated keys of one service */
    uint64_t per_step;
    uint64_t slices;        /* of one service */
    uint64_t servers;       /* steps for one slice: stand-alone servers, each may hold its keys */
    const uint32_t *owner;  /* in a cluster: the chunk (primary) of each service */
    const char *marked_set; /* NULL: nothing to take off it */
    uint32_t marked_first;  /* chunks of the nodes that can hold the set */
    uint32_t marked_nodes;
};

/* One collection and how it is worked on. Everything is owned by the plan's arena or borrowed from
 * request and survey. */
struct dr_pick {
    const struct dr_collection *collection;
    struct dr_plan_part part;
    const struct dr_filter *filter; /* NULL: everything */
    enum dr_access access;
    const char *index;        /* DR_BY_INDEX */
    uint64_t work_count;      /* erase steps; as many verify steps */
    bool is_estimate_known;   /* no count of a step failed */
    bool is_by_node;          /* a step per node; otherwise one per chunk */
    const uint64_t *chunk;    /* chunks that can hold matches; NULL: all */
    struct dr_chunk *by_node; /* nodes of the chunks, sorted, with the sum of rows; no bounds */
    uint32_t node_count;
    struct dr_aside aside[DR_ASIDES_PER_PICK];
    uint32_t aside_count;
    struct dr_told told[DR_TOLD_PER_PICK];
    uint32_t told_count;
    bool is_routed;               /* one command reaches all nodes; otherwise one for each */
    bool is_proved_alone;         /* each verify step waits for its own erase step only */
    bool is_spec_of_request;      /* what is selected stands in the request */
    uint64_t share;               /* what a step whose rows are unknown is taken for */
    const char *drop_database;    /* command behind the drop of the last collection, or NULL */
    bool is_dropped;              /* dropped when verified empty */
    const struct dr_stats *stats; /* NULL: not selected by a description */
    int32_t priority;             /* of its erase and verify steps */
};

struct dr_run {
    enum dr_role role;
    uint32_t stage;
    const struct dr_pick *pick;
    int64_t first; /* number of its first step */
    uint64_t count;
    const struct dr_run *after;   /* step k waits for step k of that run, or NULL */
    const struct dr_aside *aside; /* of the roles PREPARE and TIDY */
    const struct dr_told *told;   /* of the role TOLD */
};

enum { DR_RUNS_PER_PICK = 4 + 2 * DR_ASIDES_PER_PICK + DR_TOLD_PER_PICK };

struct dr_plan {
    struct dr_arena *arena;
    const struct dr_request *request;
    const struct dr_survey *survey;
    uint32_t can;
    const char *target; /* database or database.collection */
    struct dr_pick *pick;
    uint32_t pick_count;
    struct dr_run *run;
    uint32_t run_count;
    uint64_t step_count;
    uint64_t estimated;
    uint64_t total;
    bool is_estimate_known;
    bool is_upper_bound;   /* estimates say "at most": nobody can count beforehand */
    bool is_shared;        /* estimates of steps say "about": only their sum was counted */
    bool has_chunk_table;  /* shown before the steps */
    const char *where;     /* what is selected, in the store's language, for people; or NULL */
    const char *selection; /* text that steps refer to and the hash covers, or NULL */
    int64_t no_return;
    uint64_t hash;
    /* A plan that is a list: these are its steps, and there are no picks and runs. */
    const struct dr_plan_step *list;
    bool is_list;
    bool is_atomic;     /* a failing step rolls the whole back */
    uint32_t give_up_s; /* how long a step may fail; 0: for ever */
    const char *about;  /* lines for people in place of the collections */
    json_t *facts;      /* the same for programs, "layout" of the summary; owned */
};

/* tenant_drop.c, purge.c: choose p->target and p->pick. */
enum dr_code dr_plan_tenant_drop(struct dr_plan *p, struct dr_err *err);
enum dr_code dr_plan_purge(struct dr_plan *p, struct dr_err *err);

/* mongodb_drop.c: the same, and p->has_chunk_table. */
enum dr_code dr_plan_mongodb_drop(struct dr_plan *p, struct dr_err *err);

/* chunk_table.c: where the documents lie, for people (at most `rows_max` chunks, 0: all) and for
 * programs (chunk by chunk only `with_chunks`). */
enum dr_code dr_chunk_table_print(const struct dr_plan *p, uint64_t rows_max, struct dr_str *out,
                                  struct dr_err *err);
enum dr_code dr_chunk_table_to_json(const struct dr_plan *p, bool with_chunks, json_t **out,
                                    struct dr_err *err);
/* print.c: a bound as "12" or "(12, "a")"; `text` in a column; "..." ends what is too long. */
void dr_print_bound(const struct dr_bound *b, const char *open_end, struct dr_str *out);
void dr_print_cell(struct dr_str *out, const char *text, size_t width, bool is_number);
size_t dr_print_width(const char *text);

/* redis_purge.c: the same, and what the steps of its pick are. */
enum dr_code dr_plan_redis_purge(struct dr_plan *p, struct dr_err *err);
const struct dr_chunk *dr_stats_work(const struct dr_pick *pick, uint64_t k);
void dr_stats_fill_range(const struct dr_pick *pick, uint64_t k, struct dr_range *r);
uint64_t dr_stats_estimate(const struct dr_pick *pick, uint64_t k, bool *is_known_out);
void dr_stats_title(const struct dr_pick *pick, enum dr_step_kind kind, uint64_t k,
                    struct dr_str *out);
/* The step's command, written straight: a plan can have a million of them. False, and nothing
 * written, when a name needs escaping; then the codec does it. */
bool dr_stats_text(const struct dr_range *r, enum dr_step_kind kind, bool with_archive,
                   struct dr_str *out);
const char *dr_stats_marked_node(const struct dr_pick *pick, uint64_t k);
/* Unmarking step k: its command, its rollback, its title. */
void dr_stats_unmark(const struct dr_pick *pick, uint64_t k, struct dr_str *query,
                     struct dr_str *rollback, struct dr_str *title);

/* sql_purge.c: the same. */
enum dr_code dr_plan_sql_purge(struct dr_plan *p, struct dr_err *err);

/* strategy.c */
/* Everything of a collection goes. */
enum dr_code dr_pick_whole(struct dr_plan *p, const struct dr_collection *c, struct dr_pick *pick,
                           struct dr_err *err);
/* What a filter selects goes. */
enum dr_code dr_pick_filtered(struct dr_plan *p, const struct dr_collection *c,
                              const struct dr_filter *filter, bool wants_temp_index,
                              struct dr_pick *pick, struct dr_err *err);
/* A pick without steps, and the reason. */
enum dr_code dr_pick_nothing(struct dr_plan *p, const struct dr_collection *c, const char *why,
                             struct dr_pick *pick, struct dr_err *err);
enum dr_code dr_pick_warn(struct dr_plan *p, struct dr_pick *pick, const char *warning,
                          struct dr_err *err);

/* Chunk by chunk: `count` of the survey's, listed in `chunk` (NULL: all). */
enum dr_code dr_pick_by_chunk(struct dr_plan *p, struct dr_pick *pick, enum dr_strategy strategy,
                              enum dr_access access, const uint64_t *chunk, uint64_t count,
                              const char *why, struct dr_err *err);
/* The collection shall be dropped when it is verified empty. */
enum dr_code dr_pick_drop(struct dr_plan *p, struct dr_pick *pick, struct dr_err *err);
void dr_pick_add_aside(struct dr_pick *pick, const struct dr_aside *aside);

/* What erase (and verify) step k works on: a chunk of the survey, or a node's sum over its chunks.
 */
const struct dr_chunk *dr_pick_work(const struct dr_pick *pick, uint64_t k);

/* plan.c: what the survey says against erasing from this collection at all. */
enum dr_code dr_plan_guard_collection(const struct dr_plan *p, const struct dr_collection *c,
                                      struct dr_err *err);

/* prune.c: chunks that can hold matches of the filter, found by its terms on the first shard key
 * field. *is_usable_out is false when no term helps; then nothing else is set. */
enum dr_code dr_prune_range(struct dr_arena *a, const struct dr_collection *c,
                            const struct dr_filter *f, bool *is_usable_out,
                            const uint64_t **chunk_out, uint64_t *count_out, struct dr_err *err);
enum dr_code dr_prune_hashed(struct dr_arena *a, const struct dr_collection *c,
                             const struct dr_filter *f, bool *is_usable_out,
                             const uint64_t **chunk_out, uint64_t *count_out, struct dr_err *err);

/* codec.c: the command of a verify step; dr_free, NULL when memory is short. */
char *dr_verify_text(const struct dr_range *range);

/* iterate.c: hash over the texts of all steps. */
enum dr_code dr_plan_compute_hash(const struct dr_plan *p, uint64_t *hash_out, struct dr_err *err);

#endif
