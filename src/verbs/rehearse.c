/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the rehearsal of rollback commands: forward step by step, back step by step, and a look at
 * everything before and after each. One thread; the caller's process owns the data folder, and
 * nobody else leases steps of the rehearsed operation. */
#include "verbs/rehearse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/mem.h"
#include "step/step.h"
#include "store/shard.h"

enum {
    LEASE_MS = 600000,
    TRIES_MAX = 12,
    FIRST_WAIT_MS = 50,
    MAX_WAIT_MS = 2000,
    BATCH_ITEMS = 1000,
    BATCH_MS = 2000,
    ARENA_BLOCK_BYTES = 16 * 1024
};

static const uint64_t batch_bytes = UINT64_C(8) << 20;
static const char reason[] = "rehearsal";

struct done_step {
    int64_t id;
    json_t *before; /* fingerprint from before the step: a set of lines */
    bool is_undone;
};

struct stage {
    struct dr_queue *queue;
    const struct dr_store_world *world;
    const struct dr_prepared *p;
    const char *by;
    int64_t op_id;
    char *request; /* stored text of the operation */
    struct done_step *step;
    uint32_t count, room;
    json_t *after_all; /* fingerprint behind the last forward step */
    struct dr_rehearsal *out;
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

/* --- fingerprints ------------------------------------------------------------------------------
 */

static enum dr_code add_line(json_t *lines, const char *line, struct dr_err *err)
{
    return line == NULL || json_object_set_new(lines, line, json_true()) != 0 ? dr_fail_nomem(err)
                                                                              : DR_OK;
}

static enum dr_code add_text(json_t *lines, const char *node, const char *what, json_t *j,
                             struct dr_err *err)
{
    char *text = j == NULL ? NULL : dr_json_text(j);
    char *line = text == NULL ? NULL : dr_asprintf("%s: %s %s", node, what, text);
    enum dr_code rc = add_line(lines, line, err);
    dr_free(line);
    dr_free(text);
    json_decref(j);
    return rc;
}

/* The record without what only counts changes: going there and back is two of them. */
static enum dr_code print_catalog(struct stage *t, json_t *lines, json_t **record_out,
                                  struct dr_err *err)
{
    json_t *record = NULL;
    *record_out = NULL;
    const struct dr_catalog_port *port = t->world->catalog;
    enum dr_code rc = port->read(port->arg, dr_request_target(t->p->request), &record, err);
    if (rc == DR_NOT_FOUND) {
        dr_err_clear(err);
        return add_line(lines, "catalog: no such table", err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    size_t i;
    json_t *node;
    (void)json_object_del(record, "version");
    (void)json_object_del(record, "changed_at_index");
    json_array_foreach(json_object_get(record, "nodes"), i, node)
    {
        (void)json_object_del(node, "url"); /* it may hold a secret */
    }
    *record_out = json_incref(record);
    return add_text(lines, "catalog", "record", record, err);
}

/* Does the catalog place the shard on this node? */
static bool is_placed(const json_t *record, const char *shard, const char *node)
{
    const json_t *shards = json_object_get(record, "shards");
    for (size_t i = 0; i < json_array_size(shards); i++) {
        const json_t *one = json_array_get(shards, i);
        const json_t *holders = json_object_get(one, "holders");
        for (size_t n = 0;
             strcmp(text_of(one, "table"), shard) == 0 && n < json_array_size(holders); n++) {
            const char *holder = json_string_value(json_array_get(holders, n));
            if (holder != NULL && strcmp(holder, node) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Without the times, and without counts of rows, which those who write change meanwhile. A copy
 * that nobody is sent to may stay fenced: that is what a step back leaves it as, on purpose. */
static json_t *shard_json(const struct dr_shard_record *r, const struct dr_shard_facts *f,
                          bool is_in_use)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:b}", "name", r->name, "table", r->table,
                     "owner", r->owner, "role", r->role, "exists", (int)r->exists, "captured",
                     (int)f->is_captured, "fenced", (int)(is_in_use && f->is_fenced), "held",
                     (int)f->is_held);
}

static enum dr_code print_shards(struct dr_store *s, const char *node, const json_t *catalog,
                                 json_t *lines, struct dr_err *err)
{
    struct dr_shard_record *record = NULL;
    uint32_t count = 0;
    struct dr_arena *a = dr_arena_create(ARENA_BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : dr_shard_records(s, a, &record, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        const struct dr_shard_record *r = &record[i];
        struct dr_shard_facts facts = {0};
        const struct dr_shard_id id = {
            .name = r->name, .table = r->table, .owner = r->owner, .operation = r->operation};
        rc = dr_shard_facts(s, &id, &facts, err);
        bool is_in_use = is_placed(catalog, r->name, node);
        rc = rc == DR_OK ? add_text(lines, node, "shard", shard_json(r, &facts, is_in_use), err)
                         : rc;
    }
    dr_arena_destroy(a);
    return rc;
}

/* A Manticore node: every cluster with its tables, and every table. */
static enum dr_code print_clusters(struct dr_store *s, const char *node, json_t *lines,
                                   struct dr_err *err)
{
    struct dr_survey *survey = NULL;
    json_t *facts = NULL;
    const char *name;
    json_t *one;
    enum dr_code rc = dr_store_survey_spec(s, "{}", &survey, err);
    if (rc == DR_OK) {
        const char *extra = survey->extra == NULL ? "{}" : survey->extra;
        rc = dr_json_parse("the node's facts", extra, strlen(extra), &facts, err);
    }
    if (rc == DR_OK) {
        json_object_foreach(json_object_get(facts, "clusters"), name, one)
        {
            json_t *kept = json_pack("{s:s, s:O?, s:O?}", "name", name, "nodes",
                                     json_object_get(one, "nodes_set"), "tables",
                                     json_object_get(one, "tables"));
            rc = rc == DR_OK ? add_text(lines, node, "cluster", kept, err) : rc;
        }
    }
    static const char *const lists[] = {"tables", "system_tables"};
    for (size_t n = 0; rc == DR_OK && n < sizeof lists / sizeof lists[0]; n++) {
        const json_t *list = json_object_get(facts, lists[n]);
        for (size_t i = 0; rc == DR_OK && i < json_array_size(list); i++) {
            const char *table = json_string_value(json_array_get(list, i));
            rc = add_text(lines, node, lists[n],
                          json_pack("{s:s}", "name", table == NULL ? "" : table), err);
        }
    }
    json_decref(facts);
    if (survey != NULL) {
        dr_survey_destroy(survey);
    }
    return rc;
}

static enum dr_code print_node(const json_t *node, bool is_manticore, const json_t *catalog,
                               json_t *lines, struct dr_err *err)
{
    struct dr_store *s = NULL;
    const char *name = text_of(node, "name");
    if (!json_is_true(json_object_get(node, "is_alive"))) {
        return DR_OK; /* the plan does not touch it either */
    }
    enum dr_code rc = dr_store_open(text_of(node, "url"), &s, err);
    if (rc == DR_OK) {
        rc = is_manticore ? print_clusters(s, name, lines, err)
                          : print_shards(s, name, catalog, lines, err);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "look at %s", name);
    }
    dr_store_close(s);
    return rc;
}

static enum dr_code print_fleet(struct stage *t, json_t *lines, struct dr_err *err)
{
    json_t *extra = NULL;
    json_t *record = NULL;
    const char *text = t->p->survey->extra == NULL ? "{}" : t->p->survey->extra;
    enum dr_code rc = dr_json_parse("the survey's facts", text, strlen(text), &extra, err);
    bool is_manticore = strcmp(text_of(extra, "engine"), "manticore") == 0;
    const json_t *nodes = json_object_get(extra, "nodes");
    rc = rc == DR_OK ? print_catalog(t, lines, &record, err) : rc;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(nodes); i++) {
        rc = print_node(json_array_get(nodes, i), is_manticore, record, lines, err);
    }
    json_decref(record);
    json_decref(extra);
    return rc;
}

static enum dr_code print_collection(const struct dr_collection *c, json_t *lines,
                                     struct dr_err *err)
{
    enum dr_code rc = add_text(lines, c->name, "collection",
                               json_pack("{s:I, s:b, s:s}", "rows", (json_int_t)c->rows_total,
                                         "triggers", (int)c->has_triggers, "made",
                                         c->create_text == NULL ? "" : c->create_text),
                               err);
    for (uint32_t i = 0; rc == DR_OK && i < c->index_count; i++) {
        rc = add_text(
            lines, c->name, "index",
            json_pack("{s:s, s:b}", "name", c->index[i].name, "unique", (int)c->index[i].is_unique),
            err);
    }
    return rc;
}

/* Any other store: what its survey tells of the database. */
static enum dr_code print_store(struct stage *t, json_t *lines, struct dr_err *err)
{
    struct dr_store *s = NULL;
    struct dr_survey *survey = NULL;
    const struct dr_request *r = t->p->request;
    enum dr_code rc = dr_store_open_in(t->world, r->store_url, &s, err);
    rc = rc == DR_OK ? dr_store_survey(s, r->database, NULL, &survey, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < survey->collection_count; i++) {
        rc = print_collection(&survey->collection[i], lines, err);
    }
    if (survey != NULL) {
        dr_survey_destroy(survey);
    }
    dr_store_close(s);
    return rc;
}

static enum dr_code take_print(struct stage *t, json_t **out, struct dr_err *err)
{
    json_t *lines = json_object();
    bool is_fleet = strncmp(t->p->request->store_url, "fleet:", strlen("fleet:")) == 0;
    enum dr_code rc = lines == NULL ? dr_fail_nomem(err)
                      : is_fleet    ? print_fleet(t, lines, err)
                                    : print_store(t, lines, err);
    if (rc != DR_OK) {
        json_decref(lines);
        lines = NULL;
    }
    *out = lines;
    return rc;
}

/* Lines of `a` that `b` has not. */
static json_t *lines_without(const json_t *a, const json_t *b)
{
    const char *line;
    json_t *ignored;
    json_t *list = json_array();
    json_object_foreach((json_t *)a, line, ignored)
    {
        (void)ignored;
        if (json_object_get(b, line) == NULL) {
            (void)json_array_append_new(list, json_string(line));
        }
    }
    return list;
}

/* --- one step ----------------------------------------------------------------------------------
 */

static enum dr_code request_of(void *arg, const char **text_out, struct dr_err *err)
{
    struct stage *t = arg;
    enum dr_code rc = DR_OK;
    if (t->request == NULL) {
        rc = dr_queue_texts(t->queue, t->op_id, &t->request, NULL, NULL, err);
    }
    *text_out = t->request;
    return rc;
}

/* Nobody else works on it: the lease is as long as any step. */
static enum dr_code still_mine(void *arg, struct dr_err *err)
{
    (void)arg;
    (void)err;
    return DR_OK;
}

static enum dr_code try_step(struct stage *t, struct dr_lease *l, struct dr_err *err)
{
    const struct dr_budget budget = {
        .items_max = BATCH_ITEMS, .bytes_max = batch_bytes, .ms_max = BATCH_MS};
    struct dr_step_env env = {.data_dir = dr_queue_data_dir(t->queue),
                              .request = request_of,
                              .still_mine = still_mine,
                              .arg = t};
    struct dr_step_run *run = NULL;
    struct dr_step_report report = {0};
    enum dr_code rc = dr_store_open_in(t->world, l->store_url, &env.store, err);
    rc = rc == DR_OK ? dr_layout_create(&env.layout, err) : rc;
    rc = rc == DR_OK ? dr_batch_create(&env.batch, err) : rc;
    rc = rc == DR_OK ? dr_step_begin(&env, l, &run, err) : rc;
    while (rc == DR_OK && !report.is_done) {
        rc = dr_step_batch(run, &budget, &report, err);
        rc = rc == DR_OK ? dr_queue_save(t->queue, l, LEASE_MS, true, err) : rc;
    }
    dr_step_end(run);
    dr_batch_destroy(env.batch);
    dr_layout_destroy(env.layout);
    dr_store_close(env.store);
    return rc;
}

/* With a few tries: a rehearsal shall not fail because a lock was held for a moment. */
static enum dr_code work_on(struct stage *t, struct dr_lease *l, struct dr_err *err)
{
    const struct dr_backoff backoff = {FIRST_WAIT_MS, MAX_WAIT_MS};
    enum dr_code rc = DR_OK;
    for (uint32_t tries = 1; tries <= TRIES_MAX; tries++) {
        dr_err_clear(err);
        rc = try_step(t, l, err);
        if (rc == DR_OK || rc == DR_BRAKED || dr_code_retry(rc) == DR_RETRY_NEVER) {
            return rc;
        }
        l->needs_probe |= dr_code_retry(rc) == DR_RETRY_PROBE;
        (void)dr_wait_ms(dr_backoff_ms(&backoff, tries, dr_random()), NULL, NULL);
    }
    return rc;
}

static bool is_mine(void *arg, int64_t op_id, const char *store_url, const char *node)
{
    const struct stage *t = arg;
    (void)store_url;
    (void)node;
    return op_id == t->op_id;
}

static enum dr_code lease_one(struct stage *t, struct dr_lease *l, bool *has_out,
                              struct dr_err *err)
{
    const struct dr_lease_rules rules = {.worker = reason,
                                         .lease_ms = LEASE_MS,
                                         .per_node_default = 1,
                                         .may_start = is_mine,
                                         .may_start_arg = t};
    uint32_t count = 0;
    enum dr_code rc = dr_queue_lease(t->queue, &rules, l, 1, &count, err);
    *has_out = rc == DR_OK && count > 0;
    return rc;
}

/* Ends the lease by what came out; *why keeps its message. */
static enum dr_code finish(struct stage *t, struct dr_lease *l, enum dr_code did,
                           const struct dr_err *why, uint64_t us, struct dr_err *err)
{
    struct dr_finish f = {.outcome = DR_OUT_DONE, .duration_ms = us / 1000};
    if (did == DR_BRAKED) {
        f.outcome = DR_OUT_RELEASE;
    } else if (did != DR_OK) {
        f.outcome = DR_OUT_QUARANTINE;
        f.error = why->msg;
    }
    enum dr_code rc = dr_queue_finish(t->queue, l, &f, true, err);
    dr_lease_fini(l);
    return rc;
}

/* --- forward -----------------------------------------------------------------------------------
 */

/* Stage of the first step that cannot be undone; UINT32_MAX when all can. Nothing of that stage is
 * leased: leasing it would be the point of no return. */
static enum dr_code find_last_stage(struct stage *t, uint32_t *out, struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has = true;
    *out = UINT32_MAX;
    enum dr_code rc = dr_plan_begin(t->p->plan, &it, err);
    while (rc == DR_OK && has) {
        rc = dr_plan_next(it, &step, &has, err);
        if (rc == DR_OK && has && step.rollback_query == NULL && step.stage < *out) {
            *out = step.stage;
        }
    }
    dr_plan_end(it);
    return rc;
}

static enum dr_code remember(struct stage *t, int64_t step_id, json_t *before, struct dr_err *err)
{
    if (t->count == t->room) {
        uint32_t room = t->room == 0 ? 32 : t->room * 2;
        struct done_step *grown = dr_realloc(t->step, room * sizeof *grown);
        if (grown == NULL) {
            json_decref(before);
            return dr_fail_nomem(err);
        }
        t->step = grown;
        t->room = room;
    }
    t->step[t->count++] = (struct done_step){.id = step_id, .before = before};
    return DR_OK;
}

/* *go_on false: the end, the point of no return, or a failure, which *why tells. */
static enum dr_code one_forward(struct stage *t, uint32_t last_stage, bool *go_on,
                                struct dr_err *why, struct dr_err *err)
{
    struct dr_lease l = {0};
    json_t *before = t->after_all;
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_queue_op(t->queue, t->op_id, op, err);
    bool may = rc == DR_OK && op->wish == DR_WISH_RUN && !dr_op_status_is_resting(op->status) &&
               op->stage < last_stage;
    dr_free(op);
    *go_on = false;
    if (may) {
        rc = lease_one(t, &l, go_on, err);
    }
    if (rc != DR_OK || !*go_on) {
        return rc;
    }
    int64_t id = l.step_id;
    int64_t begin = dr_mono_us();
    enum dr_code did = work_on(t, &l, why);
    uint64_t us = (uint64_t)(dr_mono_us() - begin);
    t->out->forward_us += us;
    rc = finish(t, &l, did, why, us, err);
    *go_on = rc == DR_OK && did == DR_OK;
    if (did == DR_BRAKED) { /* it waits for a date: as far as can be gone */
        dr_err_clear(why);
    }
    if (!*go_on) {
        return rc;
    }
    t->out->steps++;
    t->after_all = NULL;
    rc = remember(t, id, before, err);
    return rc == DR_OK ? take_print(t, &t->after_all, err) : rc;
}

static enum dr_code go_forward(struct stage *t, struct dr_err *why, struct dr_err *err)
{
    uint32_t last_stage = 0;
    bool go_on = true;
    enum dr_code rc = find_last_stage(t, &last_stage, err);
    rc = rc == DR_OK ? take_print(t, &t->after_all, err) : rc;
    while (rc == DR_OK && go_on) {
        rc = one_forward(t, last_stage, &go_on, why, err);
    }
    return rc;
}

/* --- back --------------------------------------------------------------------------------------
 */

/* The fingerprint that must be there now: the one from before the oldest undone step, when nothing
 * newer stands. NULL: another order of steps leaves nothing to compare with yet. */
static json_t *expected_now(const struct stage *t)
{
    uint32_t standing = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        if (!t->step[i].is_undone) {
            if (standing != i) {
                return NULL;
            }
            standing++;
        }
    }
    return standing == t->count ? t->after_all : t->step[standing].before;
}

static enum dr_code compare(struct stage *t, int64_t step_id, struct dr_err *err)
{
    json_t *now = NULL;
    uint32_t count = 0;
    struct dr_step *step = NULL;
    const json_t *then = expected_now(t);
    if (then == NULL) {
        return DR_OK;
    }
    enum dr_code rc = take_print(t, &now, err);
    if (rc != DR_OK || json_equal(then, now)) {
        json_decref(now);
        return rc;
    }
    t->out->differing++;
    step = dr_calloc(1, sizeof *step);
    rc = step == NULL
             ? dr_fail_nomem(err)
             : dr_queue_steps(t->queue, t->op_id, DR_S_COUNT, step_id - 1, step, 1, &count, err);
    if (rc == DR_OK) {
        json_t *one = json_pack("{s:I, s:s, s:o, s:o}", "step", (json_int_t)step_id, "title",
                                count > 0 ? step->title : "", "missing", lines_without(then, now),
                                "left", lines_without(now, then));
        rc = json_array_append_new(t->out->differences, one) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    dr_free(step);
    json_decref(now);
    return rc;
}

static enum dr_code one_back(struct stage *t, bool *go_on, struct dr_err *why, struct dr_err *err)
{
    struct dr_lease l = {0};
    enum dr_code rc = lease_one(t, &l, go_on, err);
    if (rc != DR_OK || !*go_on) {
        return rc;
    }
    int64_t id = l.step_id;
    int64_t begin = dr_mono_us();
    enum dr_code did = work_on(t, &l, why);
    uint64_t us = (uint64_t)(dr_mono_us() - begin);
    t->out->undo_us += us;
    rc = finish(t, &l, did, why, us, err);
    *go_on = rc == DR_OK && did == DR_OK;
    if (!*go_on) {
        return rc;
    }
    t->out->undone++;
    for (uint32_t i = 0; i < t->count; i++) {
        t->step[i].is_undone |= t->step[i].id == id;
    }
    return compare(t, id, err);
}

static enum dr_code go_back(struct stage *t, struct dr_err *why, struct dr_err *err)
{
    bool go_on = true;
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_queue_op(t->queue, t->op_id, op, err);
    if (rc == DR_OK && op->wish != DR_WISH_ROLLBACK) { /* a failed atomic one has turned already */
        rc = dr_queue_wish(t->queue, t->op_id, DR_WISH_ROLLBACK, t->by, reason, err);
    }
    while (rc == DR_OK && go_on) {
        rc = one_back(t, &go_on, why, err);
    }
    rc = rc == DR_OK ? dr_queue_op(t->queue, t->op_id, op, err) : rc;
    if (rc == DR_OK && op->status != DR_O_ROLLED_BACK && why->code == DR_OK) {
        rc = dr_fail(err, DR_CONFLICT,
                     "operation %" PRId64 " is %s after the rehearsal; see drover "
                     "explain %" PRId64,
                     t->op_id, dr_op_status_name(op->status), t->op_id);
    }
    dr_free(op);
    return rc;
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static enum dr_code put_on_stage(struct stage *t, struct dr_err *err)
{
    enum dr_place ignored = DR_AT_NOTHING;
    const struct dr_job_put put = {.wish = DR_WISH_HOLD, .by = t->by};
    enum dr_code rc = dr_queue_own(t->queue, err);
    rc = rc == DR_OK ? dr_job_store(t->queue, t->p, &put, &t->op_id, NULL, &ignored, err) : rc;
    rc = rc == DR_OK ? dr_queue_audit(t->queue, t->op_id, t->by, reason, err) : rc;
    return rc == DR_OK ? dr_queue_wish(t->queue, t->op_id, DR_WISH_RUN, t->by, reason, err) : rc;
}

enum dr_code dr_rehearse(struct dr_queue *q, const struct dr_store_world *world,
                         const struct dr_prepared *p, const char *by, int64_t *op_id_out,
                         struct dr_rehearsal *out, struct dr_err *err)
{
    struct dr_err forward = {0};
    struct dr_err back = {0};
    struct stage t = {.queue = q, .world = world, .p = p, .by = by, .out = out};
    *op_id_out = 0;
    *out = (struct dr_rehearsal){.differences = json_array()};
    if (out->differences == NULL) {
        return dr_fail_nomem(err);
    }
    if (dr_plan_is_irreversible(p->plan)) {
        return dr_fail(err, DR_REFUSED,
                       "an irreversible operation has no rollback commands to rehearse");
    }
    enum dr_code rc = put_on_stage(&t, err);
    *op_id_out = t.op_id;
    if (rc == DR_OK) {
        rc = go_forward(&t, &forward, err);
        struct dr_err undo = {0};
        enum dr_code did = go_back(&t, &back, &undo); /* whatever happened before */
        if (rc == DR_OK && did != DR_OK) {
            rc = did;
            *err = undo;
        }
    }
    if (rc == DR_OK && (forward.code != DR_OK || back.code != DR_OK)) {
        const struct dr_err *why = back.code != DR_OK ? &back : &forward;
        rc = dr_fail(err, why->code, "%s of operation %" PRId64 ": %.700s",
                     back.code != DR_OK ? "undoing a step" : "a step", t.op_id, why->msg);
    }
    for (uint32_t i = 0; i < t.count; i++) {
        json_decref(t.step[i].before);
    }
    json_decref(t.after_all);
    dr_free(t.step);
    dr_free(t.request);
    return rc;
}

void dr_rehearsal_fini(struct dr_rehearsal *r)
{
    json_decref(r->differences);
    *r = (struct dr_rehearsal){0};
}
