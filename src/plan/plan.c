/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the plan: the table of operation kinds, the guards over the whole, and the order of steps.
 *
 *   stage  0  create temporary indexes, let balancers rest
 *          1  erase collections nobody refers to      2  erase those that were referred to
 *          3  verify, each step behind its erase step
 *          4  drop temporary indexes, let balancers work again
 *          5  drop empty collections                  6  drop those that were referred to; take
 *                                                        services off the marked set
 *          7  drop the empty database
 *
 * Pure: no clock, file, socket or thread. A finished plan is read-only, so any thread may read. */
#include "plan/plan_private.h"
#include "plan/table_private.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum { PLAN_BLOCK_BYTES = 16 * 1024 };

/* One line per operation kind: its file fills p->target and p->pick. */
static const struct {
    const char *name;
    enum dr_code (*choose)(struct dr_plan *p, struct dr_err *err);
} kinds[] = {
    {"tenant.drop", dr_plan_tenant_drop},       {"purge", dr_plan_purge},
    {"redis.purge-stats", dr_plan_redis_purge}, {"mongodb.drop", dr_plan_mongodb_drop},
    {"sql.purge", dr_plan_sql_purge},           {"table.create", dr_plan_table},
    {"table.rebalance", dr_plan_table},         {"table.drop", dr_plan_table},
};

static const char *const step_kinds[DR_STEP_KIND_COUNT] = {[DR_STEP_ERASE] = "erase",
                                                           [DR_STEP_VERIFY] = "verify",
                                                           [DR_STEP_COMMAND] = "command",
                                                           [DR_STEP_COPY] = "copy"};

const char *dr_step_kind_name(enum dr_step_kind kind)
{
    assert((unsigned)kind < DR_STEP_KIND_COUNT);
    return step_kinds[kind];
}

bool dr_step_kind_parse(const char *name, enum dr_step_kind *out)
{
    for (int i = 0; i < DR_STEP_KIND_COUNT; i++) {
        if (strcmp(step_kinds[i], name) == 0) {
            *out = (enum dr_step_kind)i;
            return true;
        }
    }
    return false;
}

/* --- guards ---------------------------------------------------------------------------------- */

enum dr_code dr_plan_guard_collection(const struct dr_plan *p, const struct dr_collection *c,
                                      struct dr_err *err)
{
    if (c->is_view) {
        return dr_fail(err, DR_REFUSED,
                       "%s is a view and holds no data; name the collections it reads from",
                       c->name);
    }
    if (c->is_system) {
        return dr_fail(err, DR_REFUSED, "%s belongs to the database system and is never erased",
                       c->name);
    }
    if (c->has_triggers) {
        return dr_fail(err, DR_REFUSED,
                       "%s has triggers: erasing or restoring would run code that touches other "
                       "rows; drop the triggers first and create them again afterwards",
                       c->name);
    }
    if (!p->request->irreversible && (p->can & DR_CAN_RESTORE) == 0) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: this store cannot put items back; set \"irreversible\": true to erase "
                       "without undo",
                       c->name);
    }
    return DR_OK;
}

static enum dr_code guard_items(const struct dr_plan *p, struct dr_err *err)
{
    uint64_t limit = p->request->max_items;
    uint64_t tuned = p->request->tuning.max_items;
    if (limit == 0 || (tuned != 0 && tuned < limit)) {
        limit = tuned;
    }
    if (limit == 0 || p->estimated <= limit || p->is_upper_bound) { /* then it counts when run */
        return DR_OK;
    }
    return dr_fail(err, DR_REFUSED,
                   "%s: %" PRIu64 " items would be erased, max_items allows %" PRIu64
                   "; narrow the job or raise max_items",
                   p->target, p->estimated, limit);
}

/* --- order of steps -------------------------------------------------------------------------- */

static struct dr_run *add_run(struct dr_plan *p, struct dr_pick *pick, enum dr_role role,
                              uint32_t stage, uint64_t count)
{
    struct dr_run *run = &p->run[p->run_count];
    *run = (struct dr_run){.role = role,
                           .stage = stage,
                           .pick = pick,
                           .count = count,
                           .first = (int64_t)p->step_count + 1};
    pick->part.steps += count;
    p->step_count += count;
    p->run_count++;
    assert(p->run_count <= p->pick_count * DR_RUNS_PER_PICK);
    return run;
}

static struct dr_run *find_run(struct dr_plan *p, const struct dr_pick *pick, enum dr_role role)
{
    for (uint32_t i = 0; i < p->run_count; i++) {
        if (p->run[i].pick == pick && p->run[i].role == role) {
            return &p->run[i];
        }
    }
    return NULL;
}

static uint64_t count_drops(const struct dr_plan *p, const struct dr_pick *pick)
{
    return pick->is_routed || pick->collection->sharding == DR_UNSHARDED ? 1
                                                                         : p->survey->node_count;
}

/* The runs that make or remove what the pick needs only for a while. Where each node is told by
 * itself, its own steps need not wait for the others. */
static void add_asides(struct dr_plan *p, struct dr_pick *pick, enum dr_role role, uint32_t stage)
{
    for (uint32_t i = 0; i < pick->aside_count; i++) {
        struct dr_run *run = add_run(p, pick, role, stage, pick->is_routed ? 1 : pick->work_count);
        run->aside = &pick->aside[i];
        if (role == DR_ROLE_TIDY && !pick->is_routed) {
            run->after = find_run(p, pick, DR_ROLE_VERIFY);
        }
    }
}

static void add_erase(struct dr_plan *p, struct dr_pick *pick, uint32_t stage)
{
    struct dr_run *run = add_run(p, pick, DR_ROLE_ERASE, stage, pick->work_count);
    run->after = pick->is_routed ? NULL : find_run(p, pick, DR_ROLE_PREPARE);
    if (p->request->irreversible && p->no_return == 0) {
        p->no_return = run->first;
    }
}

/* The commands of the pick's own list; the first without an undo is the point of no return. */
static void add_told(struct dr_plan *p, struct dr_pick *pick, uint32_t stage)
{
    for (uint32_t i = 0; i < pick->told_count; i++) {
        if (pick->told[i].stage != stage) {
            continue;
        }
        struct dr_run *run = add_run(p, pick, DR_ROLE_TOLD, stage, 1);
        run->told = &pick->told[i];
        if (run->told->undo == NULL && p->no_return == 0) {
            p->no_return = run->first;
        }
    }
}

/* The runs of one collection in one stage. */
static void add_stage(struct dr_plan *p, struct dr_pick *pick, uint32_t stage)
{
    bool is_referred = pick->collection->has_reference;
    uint32_t erase_stage = is_referred ? DR_STAGE_ERASE_REFERRED : DR_STAGE_ERASE;
    uint32_t drop_stage = is_referred ? DR_STAGE_DROP_REFERRED : DR_STAGE_DROP;
    add_told(p, pick, stage);
    if (pick->work_count == 0) {
        return;
    }
    if (stage == DR_STAGE_PREPARE) {
        add_asides(p, pick, DR_ROLE_PREPARE, stage);
    } else if (stage == erase_stage) {
        add_erase(p, pick, stage);
    } else if (stage == DR_STAGE_VERIFY) {
        /* Behind a router a collection that got stuck holds up no other's proof: each verify step
         * waits for its own erase step, not for the whole stage. */
        struct dr_run *run = add_run(p, pick, DR_ROLE_VERIFY,
                                     pick->is_proved_alone ? erase_stage : stage, pick->work_count);
        run->after = find_run(p, pick, DR_ROLE_ERASE);
    } else if (stage == DR_STAGE_TIDY) {
        add_asides(p, pick, DR_ROLE_TIDY, stage);
    } else if (stage == DR_STAGE_DROP_REFERRED && pick->stats != NULL &&
               pick->stats->marked_set != NULL) {
        (void)add_run(p, pick, DR_ROLE_UNMARK, stage,
                      (uint64_t)pick->stats->want->service_count * pick->stats->marked_nodes);
    } else if (stage == drop_stage && pick->is_dropped) {
        (void)add_run(p, pick, DR_ROLE_DROP_COLLECTION, stage, count_drops(p, pick));
    } else if (stage == DR_STAGE_DROP_DATABASE && pick->drop_database != NULL) {
        (void)add_run(p, pick, DR_ROLE_DROP_DATABASE, stage, 1);
    }
}

static enum dr_code order_steps(struct dr_plan *p, struct dr_err *err)
{
    p->run = dr_arena_alloc(p->arena, (size_t)p->pick_count * DR_RUNS_PER_PICK * sizeof *p->run);
    if (p->run == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t stage = 0; stage <= DR_STAGE_DROP_DATABASE; stage++) {
        for (uint32_t i = 0; i < p->pick_count; i++) {
            add_stage(p, &p->pick[i], stage);
        }
    }
    return DR_OK;
}

static void sum_up(struct dr_plan *p)
{
    p->is_estimate_known = true;
    for (uint32_t i = 0; i < p->pick_count; i++) {
        p->estimated += p->pick[i].part.estimated;
        bool is_idle = p->pick[i].work_count == 0 && p->pick[i].told_count == 0;
        p->total += is_idle ? 0 : p->pick[i].part.total;
        p->is_estimate_known = p->is_estimate_known && p->pick[i].is_estimate_known;
    }
}

static enum dr_code choose(struct dr_plan *p, struct dr_err *err)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, p->request->kind_name) == 0) {
            return kinds[i].choose(p, err);
        }
    }
    return dr_fail(err, DR_UNSUPPORTED, "\"%s\": no planner for this kind of operation",
                   p->request->kind_name);
}

static enum dr_code fill_plan(struct dr_plan *p, struct dr_err *err)
{
    p->arena = dr_arena_create(PLAN_BLOCK_BYTES);
    if (p->arena == NULL) {
        return dr_fail_nomem(err);
    }
    p->pick = dr_arena_alloc(p->arena, ((size_t)p->survey->collection_count + 1) * sizeof *p->pick);
    if (p->pick == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = choose(p, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (p->is_list) { /* it is made as it shall be */
        return dr_plan_compute_hash(p, &p->hash, err);
    }
    sum_up(p);
    rc = guard_items(p, err);
    if (rc == DR_OK) {
        rc = order_steps(p, err);
    }
    return rc == DR_OK ? dr_plan_compute_hash(p, &p->hash, err) : rc;
}

enum dr_code dr_plan_make(const struct dr_request *request, const struct dr_survey *survey,
                          uint32_t store_can, struct dr_plan **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_plan *p = dr_calloc(1, sizeof *p);
    if (p == NULL) {
        return dr_fail_nomem(err);
    }
    p->request = request;
    p->survey = survey;
    p->can = store_can;
    enum dr_code rc = fill_plan(p, err);
    if (rc != DR_OK) {
        dr_plan_destroy(p);
        return rc;
    }
    *out = p;
    return DR_OK;
}

void dr_plan_destroy(struct dr_plan *p)
{
    if (p == NULL) {
        return;
    }
    json_decref(p->facts);
    dr_arena_destroy(p->arena);
    dr_free(p);
}

uint64_t dr_plan_step_count(const struct dr_plan *p)
{
    return p->step_count;
}

uint64_t dr_plan_estimated(const struct dr_plan *p)
{
    return p->estimated;
}

bool dr_plan_is_irreversible(const struct dr_plan *p)
{
    return p->request->irreversible;
}

bool dr_plan_is_atomic(const struct dr_plan *p)
{
    return p->is_atomic;
}

uint32_t dr_plan_give_up_s(const struct dr_plan *p)
{
    return p->give_up_s;
}

int64_t dr_plan_no_return(const struct dr_plan *p)
{
    return p->no_return;
}

uint32_t dr_plan_part_count(const struct dr_plan *p)
{
    return p->pick_count;
}

const struct dr_plan_part *dr_plan_part_at(const struct dr_plan *p, uint32_t i)
{
    assert(i < p->pick_count);
    return &p->pick[i].part;
}

uint64_t dr_plan_hash(const struct dr_plan *p)
{
    return p->hash;
}
