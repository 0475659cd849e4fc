/* SPDX-License-Identifier: Apache-2.0 */
/* What the plans for Manticore's sharded tables share: stages, texts of commands, and adding steps.
 */
#ifndef DR_PLAN_TABLE_MANTICORE_PRIVATE_H
#define DR_PLAN_TABLE_MANTICORE_PRIVATE_H

#include "plan/table_private.h"

#define DR_MC_UNDO_NOTHING "{\"do\":\"nothing\"}"

enum { MAKE_CLUSTER = 1, MAKE_COPIES, MAKE_ATTACH, MAKE_WRAPPER, MAKE_READY };
enum {
    MOVE_PREPARE = 1,
    MOVE_ATTACH,
    MOVE_JOIN,
    MOVE_COMPARE,
    MOVE_WRAPPER,
    MOVE_SWITCH,
    MOVE_HOLD,
    MOVE_COMPARE_AGAIN,
    MOVE_LEAVE,
    MOVE_TIDY,
    MOVE_END
};

struct dr_mc_work {
    struct dr_table_list *l;
    struct dr_plan *p;
    const struct dr_table_view *v;
    const struct dr_layout_plan *to;
    bool is_short; /* memory was short: checked once at the end */
};

bool dr_mc_has_groups(const struct dr_table_view *v); /* a cluster per shard, for all its life */
bool dr_mc_holds(const struct dr_layout_plan *l, uint32_t shard, uint32_t node);

/* Texts in the plan's arena; NULL when memory is short. */
const char *dr_mc_address(struct dr_mc_work *w, uint32_t node, bool is_binary);
const char *dr_mc_sql_address(struct dr_mc_work *w, uint32_t node);
const char *dr_mc_table_of(struct dr_mc_work *w, uint32_t shard); /* "system.users_s0" */
const char *dr_mc_cluster_of(struct dr_mc_work *w, uint32_t shard);
const char *dr_mc_name_of(const struct dr_mc_work *w, uint32_t node);
const char *dr_mc_join_text(struct dr_mc_work *w, uint32_t shard, uint32_t at);
const char *dr_mc_publish_text(struct dr_mc_work *w, const struct dr_layout_plan *layout,
                               uint32_t node);
const char *dr_mc_withdraw_text(struct dr_mc_work *w);

/* Steps. A missing text makes the work short. */
int64_t dr_mc_add_step(struct dr_mc_work *w, uint32_t stage, const char *node, const char *query,
                       const char *undo, const char *title);
void dr_mc_wait_for(struct dr_mc_work *w, int64_t number, int64_t before);
int64_t dr_mc_add_cluster(struct dr_mc_work *w, uint32_t stage, uint32_t shard, uint32_t node);
void dr_mc_add_attach(struct dr_mc_work *w, uint32_t shard, uint32_t node, uint32_t stage);
void dr_mc_add_hold(struct dr_mc_work *w, const char *title);

/* What would be made on a node must not be there: nothing on it says whose it is. */
DR_MUST enum dr_code dr_mc_check_free(struct dr_mc_work *w, uint32_t node, uint32_t shard,
                                      struct dr_err *err);

#endif
