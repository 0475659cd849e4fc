/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the making of single steps: step k of a run, computed from the survey when it is asked for.
 * An iterator holds the texts of one step and belongs to one thread at a time. */
#include "plan/plan_private.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

static const char undo_restore[] = "{\"do\":\"restore\"}";
static const char undo_nothing[] = "{\"do\":\"nothing\"}";

struct dr_plan_iter {
    const struct dr_plan *plan;
    char *query;              /* of the last step, or NULL */
    struct dr_str text, undo; /* of the last step, where they are put together here */
    struct dr_str title;
    uint32_t run; /* the next step is step k of this run */
    uint64_t k;
};

/* --- titles ---------------------------------------------------------------------------------- */

static void print_range(const struct dr_range *r, struct dr_str *out)
{
    switch (r->access) {
    case DR_BY_SHARD_RANGE:
    case DR_BY_SHARD_HASHED:
        dr_str_add(out, r->access == DR_BY_SHARD_RANGE ? " chunk [" : " hashed chunk [");
        dr_print_bound(&r->from, "MinKey", out);
        dr_str_add(out, ", ");
        dr_print_bound(&r->upto, "MaxKey", out);
        dr_str_addc(out, ')');
        return;
    case DR_BY_INDEX:
        dr_str_addf(out, " by index %s", r->index);
        return;
    case DR_BY_KEYS:
    case DR_BY_SCAN:
        if (r->filter != NULL) {
            dr_str_add(out, " by reading all");
        }
        return;
    }
}

/* --- steps ----------------------------------------------------------------------------------- */

static const char *node_of(const struct dr_plan *p, const struct dr_run *run, uint64_t k)
{
    const struct dr_collection *c = run->pick->collection;
    if (run->role == DR_ROLE_UNMARK) {
        return dr_stats_marked_node(run->pick, k);
    }
    if (run->role == DR_ROLE_TOLD) {
        return c->chunk[0].node;
    }
    if (run->role != DR_ROLE_DROP_COLLECTION || run->pick->is_routed) {
        return dr_pick_work(run->pick, k)->node;
    }
    /* A table of a sharded collection may stand empty on nodes without a chunk. */
    return c->sharding == DR_UNSHARDED ? c->chunk[0].node : p->survey->node[k];
}

static void fill_range(const struct dr_pick *pick, uint64_t k, struct dr_range *r)
{
    const struct dr_collection *c = pick->collection;
    const struct dr_chunk *work = dr_pick_work(pick, k);
    *r = (struct dr_range){.node = work->node,
                           .collection = c->name,
                           .access = pick->access,
                           .index = pick->index,
                           .filter = pick->filter,
                           .is_spec_of_request = pick->is_spec_of_request,
                           .epoch = c->epoch};
    if (pick->access == DR_BY_SHARD_RANGE || pick->access == DR_BY_SHARD_HASHED) {
        r->key_count = c->key_count;
        memcpy(r->key, c->key, sizeof r->key);
        r->from = work->from;
        r->upto = work->upto;
    }
    if (pick->stats != NULL) {
        dr_stats_fill_range(pick, k, r);
    }
}

static void print_walk(const struct dr_run *run, uint64_t k, const struct dr_plan_step *step,
                       const struct dr_range *r, struct dr_str *title)
{
    if (run->pick->stats != NULL) {
        dr_stats_title(run->pick, step->kind, k, title);
    } else {
        dr_str_addf(title, "%s %s", dr_step_kind_name(step->kind), r->collection);
        print_range(r, title);
    }
    dr_str_addf(title, " on %s", r->node);
}

static enum dr_code fill_walk(struct dr_plan_iter *it, const struct dr_run *run, uint64_t k,
                              struct dr_plan_step *step, struct dr_err *err)
{
    bool is_erase = run->role == DR_ROLE_ERASE;
    bool is_irreversible = it->plan->request->irreversible;
    const struct dr_pick *pick = run->pick;
    const struct dr_chunk *work = dr_pick_work(pick, k);
    struct dr_erase_spec spec = {.with_archive = !is_irreversible};
    fill_range(run->pick, k, &spec.range);
    step->kind = is_erase ? DR_STEP_ERASE : DR_STEP_VERIFY;
    step->node = node_of(it->plan, run, k);
    dr_str_clear(&it->text);
    if (run->pick->stats != NULL &&
        dr_stats_text(&spec.range, step->kind, spec.with_archive, &it->text)) {
        step->query = dr_str_text(&it->text);
    } else {
        it->query = is_erase ? dr_erase_spec_text(&spec) : dr_verify_text(&spec.range);
        step->query = it->query;
    }
    if (step->query == NULL || it->text.is_short) {
        return dr_fail_nomem(err);
    }
    step->rollback_query = !is_erase ? undo_nothing : is_irreversible ? NULL : undo_restore;
    step->estimated = !is_erase ? 0 : work->is_rows_known ? work->rows : work->rows + pick->share;
    step->is_estimate_known = !is_erase || work->is_rows_known;
    step->priority = run->pick->priority;
    if (is_erase && run->pick->stats != NULL) {
        step->estimated = dr_stats_estimate(run->pick, k, &step->is_estimate_known);
    }
    print_walk(run, k, step, &spec.range, &it->title);
    return DR_OK;
}

static void fill_command(struct dr_plan_iter *it, const struct dr_run *run, uint64_t k,
                         struct dr_plan_step *step)
{
    const struct dr_collection *c = run->pick->collection;
    bool is_irreversible = it->plan->request->irreversible;
    const char *what = "";
    const char *name = c->name;
    step->kind = DR_STEP_COMMAND;
    step->is_estimate_known = true;
    step->node = node_of(it->plan, run, k);
    if (run->role == DR_ROLE_DROP_COLLECTION) {
        what = "drop empty";
        step->query = c->drop_text;
        step->rollback_query = is_irreversible ? NULL : c->create_text;
    } else if (run->role == DR_ROLE_DROP_DATABASE) {
        what = "drop empty database";
        name = it->plan->request->database;
        step->query = run->pick->drop_database;
        step->rollback_query = undo_nothing; /* it comes back with its first collection */
    } else if (run->role == DR_ROLE_TOLD) {
        what = run->told->title;
        step->query = run->told->query;
        step->rollback_query = run->told->undo;
    } else if (run->role == DR_ROLE_PREPARE) {
        what = run->aside->make_title;
        step->query = run->aside->make;
        step->rollback_query = run->aside->undo;
        step->cleanup = run->aside->undo;
    } else {
        what = run->aside->undo_title;
        step->query = run->aside->undo;
        step->rollback_query = undo_nothing;
    }
    dr_str_addf(&it->title, "%s %s on %s", what, name, step->node);
}

static enum dr_code fill_unmark(struct dr_plan_iter *it, const struct dr_run *run, uint64_t k,
                                struct dr_plan_step *step, struct dr_err *err)
{
    dr_str_clear(&it->text);
    dr_str_clear(&it->undo);
    dr_stats_unmark(run->pick, k, &it->text, &it->undo, &it->title);
    step->kind = DR_STEP_COMMAND;
    step->is_estimate_known = true;
    step->node = node_of(it->plan, run, k);
    step->query = dr_str_text(&it->text);
    step->rollback_query = it->plan->request->irreversible ? NULL : dr_str_text(&it->undo);
    return it->text.is_short || it->undo.is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code fill_step(struct dr_plan_iter *it, const struct dr_run *run, uint64_t k,
                              struct dr_plan_step *step, struct dr_err *err)
{
    *step = (struct dr_plan_step){.number = run->first + (int64_t)k, .stage = run->stage};
    if (run->after != NULL) {
        assert(k < run->after->count);
        step->wait_for = run->after->first + (int64_t)k;
    }
    dr_str_clear(&it->title);
    enum dr_code rc = DR_OK;
    switch (run->role) {
    case DR_ROLE_ERASE:
    case DR_ROLE_VERIFY:
        rc = fill_walk(it, run, k, step, err);
        break;
    case DR_ROLE_UNMARK:
        rc = fill_unmark(it, run, k, step, err);
        break;
    case DR_ROLE_PREPARE:
    case DR_ROLE_TIDY:
    case DR_ROLE_DROP_COLLECTION:
    case DR_ROLE_DROP_DATABASE:
    case DR_ROLE_TOLD:
        fill_command(it, run, k, step);
        break;
    }
    step->title = dr_str_text(&it->title);
    return rc == DR_OK && it->title.is_short ? dr_fail_nomem(err) : rc;
}

/* --- iterator -------------------------------------------------------------------------------- */

enum dr_code dr_plan_begin(const struct dr_plan *p, struct dr_plan_iter **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_plan_iter *it = dr_calloc(1, sizeof *it);
    if (it == NULL) {
        return dr_fail_nomem(err);
    }
    it->plan = p;
    dr_str_init(&it->title);
    dr_str_init(&it->text);
    dr_str_init(&it->undo);
    *out = it;
    return DR_OK;
}

enum dr_code dr_plan_next(struct dr_plan_iter *it, struct dr_plan_step *step, bool *has_out,
                          struct dr_err *err)
{
    const struct dr_plan *p = it->plan;
    *has_out = false;
    dr_free(it->query);
    it->query = NULL;
    if (p->is_list) {
        *has_out = it->k < p->step_count;
        if (*has_out) {
            *step = p->list[it->k++];
        }
        return DR_OK;
    }
    while (it->run < p->run_count && it->k == p->run[it->run].count) {
        it->run++;
        it->k = 0;
    }
    if (it->run == p->run_count) {
        return DR_OK;
    }
    enum dr_code rc = fill_step(it, &p->run[it->run], it->k, step, err);
    if (rc != DR_OK) {
        return rc; /* the same step may be asked for again */
    }
    it->k++;
    *has_out = true;
    return DR_OK;
}

void dr_plan_end(struct dr_plan_iter *it)
{
    if (it == NULL) {
        return;
    }
    dr_free(it->query);
    dr_str_fini(&it->title);
    dr_str_fini(&it->text);
    dr_str_fini(&it->undo);
    dr_free(it);
}

/* --- hash ------------------------------------------------------------------------------------ */

static uint64_t mix_text(uint64_t hash, const char *text)
{
    return text == NULL ? XXH3_64bits_withSeed("", 0, ~hash)
                        : XXH3_64bits_withSeed(text, strlen(text) + 1, hash);
}

static uint64_t mix_step(uint64_t hash, const struct dr_plan_step *s)
{
    const int64_t numbers[] = {s->number, (int64_t)s->kind,    s->wait_for, s->rollback_wait_for,
                               s->stage,  (int64_t)s->priority};
    hash = XXH3_64bits_withSeed(numbers, sizeof numbers, hash);
    hash = mix_text(hash, s->node);
    hash = mix_text(hash, s->query);
    hash = mix_text(hash, s->rollback_query);
    return mix_text(hash, s->cleanup);
}

/* What tells step k of a run from its first one: the node and the bounds, or the slice. */
static uint64_t mix_difference(uint64_t hash, const struct dr_plan *p, const struct dr_run *run,
                               uint64_t k, struct dr_str *buf)
{
    hash = mix_text(hash, node_of(p, run, k));
    if (run->role != DR_ROLE_ERASE && run->role != DR_ROLE_VERIFY) {
        return hash;
    }
    struct dr_range range;
    fill_range(run->pick, k, &range);
    if (range.access == DR_BY_KEYS) {
        const uint64_t slice[] = {range.offset, range.length};
        return XXH3_64bits_withSeed(slice, sizeof slice, hash);
    }
    dr_str_clear(buf);
    dr_values_encode(range.from.part, range.from.parts, buf);
    dr_values_encode(range.upto.part, range.upto.parts, buf);
    return XXH3_64bits_withSeed(dr_str_text(buf), buf->len, hash);
}

/* Over the texts of each run's first step and the differences of the others, which is what their
 * texts are made of; writing out a million texts to hash them takes ten seconds. Estimates stay
 * out: counts drift between planning and running, what is done must not. */
enum dr_code dr_plan_compute_hash(const struct dr_plan *p, uint64_t *hash_out, struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    struct dr_str buf;
    uint64_t hash = p->selection == NULL ? 0 : mix_text(0, p->selection);
    bool has_step = false;
    dr_str_init(&buf);
    enum dr_code rc = dr_plan_begin(p, &it, err);
    assert(rc != DR_OK || it != NULL);
    for (uint64_t i = 0; p->is_list && i < p->step_count; i++) {
        hash = mix_step(hash, &p->list[i]);
    }
    for (uint32_t i = 0; rc == DR_OK && i < p->run_count; i++) {
        const struct dr_run *run = &p->run[i];
        if (run->count == 0) {
            continue;
        }
        it->run = i;
        it->k = 0;
        rc = dr_plan_next(it, &step, &has_step, err);
        if (rc != DR_OK) {
            break;
        }
        assert(has_step && step.number == run->first);
        hash = mix_step(hash, &step);
        for (uint64_t k = 1; k < run->count && !buf.is_short; k++) {
            hash = mix_difference(hash, p, run, k, &buf);
        }
    }
    if (rc == DR_OK && buf.is_short) {
        rc = dr_fail_nomem(err);
    }
    dr_str_fini(&buf);
    dr_plan_end(it);
    *hash_out = hash;
    return rc;
}
