/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the plans for sharded tables: what the survey says, and a list of steps being made.
 *
 * These plans are short (some steps per shard), so they are lists, not runs. */
#ifndef DR_PLAN_TABLE_PRIVATE_H
#define DR_PLAN_TABLE_PRIVATE_H

#include "catalog/table.h"
#include "plan/plan_private.h"

/* A node of the table, or one that shall become one. Sorted by name: the index is the number that
 * placement knows it by. */
struct dr_table_seen_node {
    const char *name;
    const char *url; /* as given or in the catalog */
    bool is_alive;
    const char *why;         /* when not alive */
    bool is_new;             /* added by this job */
    bool is_leaving;         /* named to be removed */
    const json_t *shards;    /* survey: [{"name","exists","owned","held","rows","bytes"}] */
    const json_t *manticore; /* survey: facts of a Manticore node, or NULL */
};

struct dr_table_view {
    const char *operation; /* uuid of this operation */
    const char *uuid;      /* of the table: the record's, or a fresh one */
    const char *table;
    const char *engine;
    const char *columns, *extra;
    uint32_t rf;
    int64_t now; /* ms since 1970 at the survey */
    uint32_t node_count;
    struct dr_table_seen_node *node;
    struct dr_layout_plan layout; /* now; no shards for a table that is not there yet */
    bool has_record;
    const char *state; /* of the record: "ready" ...; "" */
    const json_t *record;
};

/* A list of steps. Numbers count from 1; every text is the plan's arena's. */
struct dr_table_list {
    struct dr_plan *plan;
    struct dr_plan_step *step;
    uint64_t count, room;
};
/* Append a copy (texts copied unless they are the arena's already is not asked: they are copied);
 * gives its number, 0 when memory is short. Fields number is set here. */
int64_t dr_table_add(struct dr_table_list *l, const struct dr_plan_step *step);
/* Zeroed memory of the arena; NULL when it is short. */
void *dr_table_zeroed(struct dr_arena *a, size_t bytes);
/* A text put together in the plan's arena; NULL when memory is short. */
#define dr_table_text(p, ...) dr_arena_printf((p)->arena, __VA_ARGS__)
/* The arena's compact JSON text of `j`, whose reference is taken; NULL when memory is short. Keys
 * keep their order. */
const char *dr_table_json(struct dr_plan *p, json_t *j);
/* {"fleet":"catalog","entry":{"v":1,"op":OP,"name","uuid","operation", and what `more` has}};
 * takes the reference of `more` (may be NULL). */
const char *dr_table_entry(struct dr_plan *p, const struct dr_table_view *v, const char *op,
                           json_t *more);
/* A step of the catalog with its inverse: node "catalog". undo NULL: none. */
int64_t dr_table_add_catalog(struct dr_table_list *l, const struct dr_table_view *v, uint32_t stage,
                             const char *op, json_t *more, const char *undo_op, const char *title);
/* "users_s3" */
const char *dr_table_shard_name(struct dr_plan *p, const struct dr_table_view *v, uint32_t shard);
/* The entry that reserves the table with this layout; NULL when memory is short. */
json_t *dr_table_reserve_fields(struct dr_plan *p, const struct dr_table_view *v,
                                const struct dr_layout_plan *to, uint32_t rf);
/* What the survey saw of a shard on this node; NULL: nothing. */
const json_t *dr_table_seen_shard(const struct dr_table_view *v, uint32_t node, const char *shard);
/* Rows of a shard as the survey saw them on this node; *is_known_out false when it did not. */
uint64_t dr_table_rows(const struct dr_table_view *v, uint32_t node, const char *shard,
                       bool *is_known_out);
json_t *dr_table_names(const struct dr_table_view *v, const uint32_t *holder, uint32_t count);

/* What each engine family plans: everything between the catalog's first and last step. The SQL
 * engines are in table_sql.c, Manticore in table_manticore.c. `to`: holders of each shard
 * afterwards. They add all steps, those of the catalog included, and set plan->no_return. */
enum dr_code dr_table_sql_create(struct dr_table_list *l, const struct dr_table_view *v,
                                 const struct dr_layout_plan *to, struct dr_err *err);
enum dr_code dr_table_sql_rebalance(struct dr_table_list *l, const struct dr_table_view *v,
                                    const struct dr_layout_plan *to, struct dr_err *err);
enum dr_code dr_table_sql_drop(struct dr_table_list *l, const struct dr_table_view *v,
                               struct dr_err *err);
enum dr_code dr_table_manticore_create(struct dr_table_list *l, const struct dr_table_view *v,
                                       const struct dr_layout_plan *to, struct dr_err *err);
enum dr_code dr_table_manticore_rebalance(struct dr_table_list *l, const struct dr_table_view *v,
                                          const struct dr_layout_plan *to, struct dr_err *err);
enum dr_code dr_table_manticore_drop(struct dr_table_list *l, const struct dr_table_view *v,
                                     struct dr_err *err);

/* table.c: the kinds table.create, table.rebalance, table.drop. */
enum dr_code dr_plan_table(struct dr_plan *p, struct dr_err *err);

#endif
