/* SPDX-License-Identifier: Apache-2.0 */
/* "mongodb.drop": collections of a MongoDB cluster, chunk by chunk, or what a filter of the
 * adapter's language selects in one of them. What the filter can use was found out by the survey
 * and stands in its `extra` (see tests/unit/test_mongodb_plan.c for its form); here is decided what
 * follows from it. One router reaches all shards, so that a command is one step. Pure. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "plan/plan_private.h"

enum { NAMES_SHOWN = 6 };

/* What the survey says of one collection in the adapter's own words. */
struct facts {
    const json_t *extra;      /* of the whole survey */
    const json_t *collection; /* NULL: nothing */
    const json_t *filter;     /* NULL: no filter */
};

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const struct dr_mongodb_drop *wants(const struct dr_plan *p)
{
    return &p->request->u.mongodb_drop;
}

/* "acme.orders" of database "acme" is "orders". */
static const char *short_name(const struct dr_plan *p, const struct dr_collection *c)
{
    size_t length = strlen(p->request->database);
    bool is_inside = strncmp(c->name, p->request->database, length) == 0 && c->name[length] == '.';
    return is_inside ? c->name + length + 1 : "";
}

static bool is_named(const struct dr_plan *p, const struct dr_collection *c)
{
    const struct dr_mongodb_drop *want = wants(p);
    for (uint32_t i = 0; i < want->collection_count; i++) {
        if (strcmp(want->collection[i], short_name(p, c)) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code check_names(const struct dr_plan *p, struct dr_err *err)
{
    const struct dr_mongodb_drop *want = wants(p);
    for (uint32_t i = 0; i < want->collection_count; i++) {
        bool is_there = false;
        for (uint32_t k = 0; k < p->survey->collection_count && !is_there; k++) {
            is_there = strcmp(short_name(p, &p->survey->collection[k]), want->collection[i]) == 0;
        }
        if (!is_there) {
            return dr_fail(err, DR_NOT_FOUND, "%s.%s: no such collection", p->request->database,
                           want->collection[i]);
        }
    }
    return DR_OK;
}

/* --- collections that stay ------------------------------------------------------------------- */

/* Why it is left alone when it is not named, or NULL. */
static const char *say_left_alone(const struct dr_collection *c, const struct facts *f)
{
    const char *why_not = text_of(f->collection, "why_not");
    if (c->is_view) {
        return "a view holds no documents: left alone";
    }
    if (c->is_system) {
        return "belongs to the database system: left alone";
    }
    return why_not;
}

static enum dr_code refuse_named(const struct dr_plan *p, const struct dr_collection *c,
                                 const struct facts *f, struct dr_err *err)
{
    const char *why_not = text_of(f->collection, "why_not");
    enum dr_code rc = dr_plan_guard_collection(p, c, err);
    if (rc == DR_OK && why_not != NULL) {
        rc = dr_fail(err, DR_REFUSED, "%s cannot be erased document by document: %s", c->name,
                     why_not);
    }
    return rc;
}

/* --- shards that are done -------------------------------------------------------------------- */

/* The shards whose status documents say completed, and what is on them. */
struct completed {
    const json_t *shard; /* {"SHARD": "when"}, NULL: none */
    uint64_t chunks, rows;
    bool are_rows_known;
    struct dr_str names;
    unsigned shown;
    const char *last; /* the shard named last */
};

static void note_completed(struct completed *d, const struct dr_chunk *chunk)
{
    d->chunks++;
    d->rows += chunk->rows;
    d->are_rows_known = d->are_rows_known && chunk->is_rows_known;
    char mark[256];
    (void)snprintf(mark, sizeof mark, "%.100s (%.60s)", chunk->node,
                   json_is_string(json_object_get(d->shard, chunk->node))
                       ? text_of(d->shard, chunk->node)
                       : "?");
    if (strstr(dr_str_text(&d->names), mark) != NULL) {
        return;
    }
    if (d->shown < NAMES_SHOWN) {
        dr_str_addf(&d->names, "%s%s", d->shown == 0 ? "" : ", ", mark);
    } else if (d->shown == NAMES_SHOWN) {
        dr_str_add(&d->names, ", ...");
    }
    d->shown++;
}

/* The chunks of shards that are not done; NULL and all of them when none is. */
static enum dr_code list_open_chunks(struct dr_plan *p, const struct dr_collection *c,
                                     struct completed *d, const uint64_t **out, uint64_t *count_out,
                                     struct dr_err *err)
{
    *out = NULL;
    *count_out = c->chunk_count;
    if (d->shard == NULL || json_object_size(d->shard) == 0) {
        return DR_OK;
    }
    uint64_t *open = dr_arena_alloc(p->arena, (c->chunk_count + 1) * sizeof *open);
    if (open == NULL) {
        return dr_fail_nomem(err);
    }
    *count_out = 0;
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        if (json_object_get(d->shard, c->chunk[i].node) == NULL) {
            open[(*count_out)++] = i;
        } else {
            note_completed(d, &c->chunk[i]);
        }
    }
    *out = d->chunks == 0 ? NULL : open;
    return d->names.is_short ? dr_fail_nomem(err) : DR_OK;
}

/* Somebody who reads only "completed" must also read that documents are there. */
static const char *say_completed(struct dr_arena *a, struct completed *d)
{
    char number[40];
    const char *there = "";
    if (!d->are_rows_known) {
        there = "; whether documents are there now is not known";
    } else if (d->rows > 0) {
        there = dr_arena_printf(a, "; but %s documents are there now",
                                dr_human_count(d->rows, number, sizeof number));
    }
    return there == NULL ? NULL
                         : dr_arena_printf(a,
                                           "completed on %s per status documents%s; --again "
                                           "(\"again\": true) takes it",
                                           dr_str_text(&d->names), there);
}

/* --- counting -------------------------------------------------------------------------------- */

/* Rows of a step whose own were not counted are its share of those that the collection has beyond
 * what was counted, so that the sum of the steps stays right. */
static void share_rows(struct dr_plan *p, struct dr_pick *pick, uint64_t elsewhere, bool is_counted)
{
    uint64_t sum = 0;
    uint64_t unknown = 0;
    for (uint64_t k = 0; k < pick->work_count; k++) {
        const struct dr_chunk *work = dr_pick_work(pick, k);
        sum += work->rows;
        unknown += !work->is_rows_known;
    }
    uint64_t matched = pick->collection->rows_matched;
    matched = matched > elsewhere ? matched - elsewhere : 0;
    if (unknown > 0 && matched > sum) {
        pick->share = (matched - sum + unknown - 1) / unknown;
        p->is_shared = true;
    }
    pick->part.estimated = unknown > 0 && matched > sum ? matched : sum;
    pick->is_estimate_known = unknown == 0 || is_counted;
    p->is_shared = p->is_shared || unknown > 0;
}

/* --- everything of a collection -------------------------------------------------------------- */

static enum dr_code leave_out_completed(struct dr_plan *p, struct dr_pick *pick,
                                        struct completed *d, struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    const uint64_t *open = NULL;
    uint64_t count = 0;
    enum dr_code rc = list_open_chunks(p, c, d, &open, &count, err);
    if (rc != DR_OK || d->chunks == 0) {
        return rc;
    }
    const char *why = say_completed(p->arena, d);
    if (why == NULL) {
        return dr_fail_nomem(err);
    }
    if (count == 0) {
        return dr_pick_nothing(p, c, why, pick, err);
    }
    pick->chunk = open;
    pick->work_count = count;
    return dr_pick_warn(p, pick, why, err);
}

/* Documents on a shard that is left out would keep the collection from being empty. */
static enum dr_code drop_if_wanted(struct dr_plan *p, struct dr_pick *pick,
                                   const struct completed *d, struct dr_err *err)
{
    if (!wants(p)->drop_when_empty || pick->work_count == 0) {
        return DR_OK;
    }
    if (d->chunks > 0 && (d->rows > 0 || !d->are_rows_known)) {
        return dr_pick_warn(p, pick, "not dropped: shards that are left out may hold documents",
                            err);
    }
    return dr_pick_drop(p, pick, err);
}

static enum dr_code pick_whole(struct dr_plan *p, const struct dr_collection *c,
                               const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    struct completed d = {.are_rows_known = true};
    dr_str_init(&d.names);
    d.shard = wants(p)->again ? NULL : json_object_get(f->collection, "completed");
    enum dr_code rc = dr_pick_whole(p, c, pick, err);
    if (rc == DR_OK && pick->work_count > 0) {
        rc = leave_out_completed(p, pick, &d, err);
    }
    if (rc == DR_OK && pick->work_count > 0) {
        if (c->sharding == DR_UNSHARDED) {
            pick->part.strategy = DR_BY_FULL_SCAN; /* no consent: all of it goes in any case */
        }
        share_rows(p, pick, d.rows, false);
        rc = drop_if_wanted(p, pick, &d, err);
    }
    dr_str_fini(&d.names);
    return rc;
}

/* --- what a filter selects ------------------------------------------------------------------- */

static enum dr_code guard_filter(const struct dr_plan *p, const struct dr_collection *c,
                                 struct dr_err *err)
{
    if (c->rows_total > 0 && c->rows_matched >= c->rows_total && !p->request->whole_collection) {
        return dr_fail(err, DR_REFUSED,
                       "%s: the filter matches every document (%" PRIu64
                       "); set \"whole_collection\": true (--whole-collection) if that is meant",
                       c->name, c->rows_total);
    }
    return DR_OK;
}

/* One walk over the whole collection on `node`: by an index or by reading it. */
static enum dr_code pick_one_walk(struct dr_plan *p, struct dr_pick *pick,
                                  enum dr_strategy strategy, enum dr_access access,
                                  const char *node, const char *index, const char *why,
                                  struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    struct dr_chunk *work = dr_arena_alloc(p->arena, sizeof *work);
    if (work == NULL || why == NULL) {
        return dr_fail_nomem(err);
    }
    *work = (struct dr_chunk){.node = node, .rows = c->rows_matched, .is_rows_known = true};
    pick->part.strategy = strategy;
    pick->part.why = why;
    pick->part.estimated = c->rows_matched;
    pick->is_estimate_known = true;
    pick->access = access;
    pick->index = index;
    pick->is_by_node = true;
    pick->by_node = work;
    pick->node_count = 1;
    pick->work_count = 1;
    return DR_OK;
}

/* Chunk by chunk: only the sum of the matches was counted. */
static enum dr_code pick_chunks(struct dr_plan *p, struct dr_pick *pick, enum dr_strategy strategy,
                                const char *why, struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    bool is_hashed = c->sharding == DR_SHARDED_HASHED;
    if (c->chunk_count == 0) {
        return dr_pick_nothing(p, c, "no chunk can hold a match: there is nothing to do", pick,
                               err);
    }
    pick->part.strategy = strategy;
    pick->part.why = why;
    pick->access = is_hashed ? DR_BY_SHARD_HASHED : DR_BY_SHARD_RANGE;
    pick->work_count = c->chunk_count;
    share_rows(p, pick, 0, true);
    return DR_OK;
}

static enum dr_code need_consent(const struct dr_plan *p, const struct dr_collection *c,
                                 enum dr_strategy strategy, const char *why, struct dr_err *err)
{
    char rows[40];
    if (p->request->allow_scan) {
        return DR_OK;
    }
    return dr_fail(err, DR_REFUSED,
                   "%s: %s, so %s (%s) would go through %s documents on %" PRIu32
                   " shard%s. Set \"allow_scan\": true (--allow-scan) to accept that, or create an "
                   "index, or set \"temp_index\": true (--temp-index)",
                   c->name, why, dr_strategy_name(strategy), dr_strategy_efficiency(strategy),
                   dr_human_count(c->rows_total, rows, sizeof rows),
                   c->sharding == DR_UNSHARDED ? 1 : p->survey->node_count,
                   c->sharding == DR_UNSHARDED || p->survey->node_count == 1 ? "" : "s");
}

/* The first field that the filter compares, also inside of its $and. */
static const char *first_field(const json_t *filter)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)filter, key, value)
    {
        const char *inner = NULL;
        if (key[0] != '$') {
            return key;
        }
        for (size_t i = 0; strcmp(key, "$and") == 0 && i < json_array_size(value); i++) {
            inner = first_field(json_array_get(value, i));
            if (inner != NULL) {
                return inner;
            }
        }
    }
    return NULL;
}

/* One line for the adapter's command; NULL when memory is short. Takes the reference. */
static const char *command_line(struct dr_arena *a, const char *database, json_t *command)
{
    json_t *line =
        command == NULL ? NULL : json_pack("{s:s, s:o}", "db", database, "command", command);
    char *text = line == NULL ? NULL : dr_json_text_in_order(line);
    const char *copy = text == NULL ? NULL : dr_arena_strdup(a, text);
    dr_free(text);
    json_decref(line);
    return copy;
}

static enum dr_code add_temp_index(struct dr_plan *p, struct dr_pick *pick, const char *field,
                                   const char **name_out, struct dr_err *err)
{
    const char *database = p->request->database;
    const char *collection = short_name(p, pick->collection);
    struct dr_aside index = {.make_title = "create temporary index on",
                             .undo_title = "drop temporary index on"};
    uint64_t hash = XXH64(field, strlen(field), XXH64(collection, strlen(collection), 0));
    const char *name = dr_arena_printf(p->arena, "drover_tmp_%016" PRIx64, hash);
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    index.make = command_line(p->arena, database,
                              json_pack("{s:s, s:[{s:{s:i}, s:s}], s:{s:s}}", "createIndexes",
                                        collection, "indexes", "key", field, 1, "name", name,
                                        "writeConcern", "w", "majority"));
    index.undo = command_line(p->arena, database,
                              json_pack("{s:s, s:s, s:{s:s}}", "dropIndexes", collection, "index",
                                        name, "writeConcern", "w", "majority"));
    if (index.make == NULL || index.undo == NULL) {
        return dr_fail_nomem(err);
    }
    dr_pick_add_aside(pick, &index);
    *name_out = name;
    return DR_OK;
}

static enum dr_code pick_temp_index(struct dr_plan *p, struct dr_pick *pick, struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    const char *field = first_field(json_object_get(p->request->json, "filter"));
    /* DR_CAN_TEMP_INDEX is about SQL; this one is made by a command of this planner's own. */
    const uint32_t bits = DR_CAN_INDEX | DR_CAN_COMMAND;
    const char *name = NULL;
    if (field == NULL) {
        return dr_fail(err, DR_REFUSED,
                       "%s: no index can serve this filter, it compares no field that every "
                       "match has; set \"allow_scan\": true (--allow-scan) to read all documents",
                       c->name);
    }
    if ((p->can & bits) != bits) {
        return dr_fail(err, DR_UNSUPPORTED, "%s: this store cannot make a temporary index",
                       c->name);
    }
    enum dr_code rc = add_temp_index(p, pick, field, &name, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_plain = c->sharding == DR_UNSHARDED;
    rc = pick_one_walk(
        p, pick, is_plain ? DR_BY_INDEXED : DR_BY_BROADCAST, DR_BY_INDEX,
        is_plain ? c->chunk[0].node : p->survey->node[0], name,
        dr_arena_printf(p->arena, "temporary index on (%s), made and removed by this plan", field),
        err);
    return rc == DR_OK
               ? dr_pick_warn(p, pick, "making the temporary index reads every document once: low",
                              err)
               : rc;
}

static enum dr_code fail_facts(const struct dr_collection *c, const char *use, struct dr_err *err)
{
    return dr_fail(err, DR_CORRUPT, "%s: the survey's way \"%.40s\" does not fit the collection",
                   c->name, use);
}

/* The way the survey found, when no temporary index takes its place. */
static enum dr_code pick_surveyed(struct dr_plan *p, struct dr_pick *pick, const struct facts *f,
                                  struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    const char *use = text_of(f->filter, "use");
    const char *index = text_of(f->filter, "index");
    const char *why = dr_arena_strdup(p->arena, text_of(f->filter, "why"));
    const char *index_copy = index == NULL ? NULL : dr_arena_strdup(p->arena, index);
    bool is_plain = c->sharding == DR_UNSHARDED;
    if (why == NULL || (index != NULL && index_copy == NULL)) {
        return dr_fail_nomem(err);
    }
    if (strcmp(use, "shard-range") == 0 && c->sharding == DR_SHARDED_RANGE) {
        return pick_chunks(p, pick, DR_BY_CHUNK_RANGE, why, err);
    }
    if (strcmp(use, "shard-hashed") == 0 && c->sharding == DR_SHARDED_HASHED) {
        return pick_chunks(p, pick, DR_BY_CHUNK_HASHED, why, err);
    }
    if (strcmp(use, "indexed") == 0 && is_plain && index != NULL) {
        return pick_one_walk(p, pick, DR_BY_INDEXED, DR_BY_INDEX, c->chunk[0].node, index_copy, why,
                             err);
    }
    bool is_broadcast = strcmp(use, "broadcast") == 0 && !is_plain && index != NULL;
    if (!is_broadcast && strcmp(use, "scan") != 0) {
        return fail_facts(c, use, err);
    }
    enum dr_strategy strategy = is_broadcast ? DR_BY_BROADCAST : DR_BY_FULL_SCAN;
    enum dr_code rc = need_consent(p, c, strategy, why, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (is_broadcast) {
        return pick_one_walk(p, pick, strategy, DR_BY_INDEX, p->survey->node[0], index_copy, why,
                             err);
    }
    return is_plain ? pick_one_walk(p, pick, strategy, DR_BY_SCAN, c->chunk[0].node, NULL, why, err)
                    : pick_chunks(p, pick, strategy, why, err);
}

static enum dr_code pick_filtered(struct dr_plan *p, const struct dr_collection *c,
                                  const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    const char *use = text_of(f->filter, "use");
    if (use == NULL || text_of(f->filter, "why") == NULL || p->survey->node_count == 0 ||
        (c->sharding == DR_UNSHARDED && c->chunk_count != 1)) {
        return fail_facts(c, use == NULL ? "none" : use, err);
    }
    enum dr_code rc = guard_filter(p, c, err);
    if (rc != DR_OK) {
        return rc;
    }
    *pick = (struct dr_pick){.collection = c, .is_spec_of_request = true};
    pick->part.collection = c->name;
    pick->part.total = c->rows_total;
    pick->part.warning = c->warning;
    bool is_served = json_is_true(json_object_get(f->filter, "has_index")) ||
                     strncmp(use, "shard-", strlen("shard-")) == 0 || strcmp(use, "indexed") == 0;
    return wants(p)->temp_index && !is_served ? pick_temp_index(p, pick, err)
                                              : pick_surveyed(p, pick, f, err);
}

/* --- the balancer ---------------------------------------------------------------------------- */

static json_t *no_balance_command(const char *ns, bool is_on)
{
    json_t *change = is_on ? json_pack("{s:{s:b}}", "$set", "noBalance", 1)
                           : json_pack("{s:{s:s}}", "$unset", "noBalance", "");
    return change == NULL
               ? NULL
               : json_pack("{s:s, s:[{s:{s:s}, s:o}], s:{s:s}}", "update", "collections", "updates",
                           "q", "_id", ns, "u", change, "writeConcern", "w", "majority");
}

/* Only where nobody else has stopped it: it would be put back against their will. */
static enum dr_code rest_balancer(struct dr_plan *p, struct dr_pick *pick, const struct facts *f,
                                  struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    struct dr_aside rest = {
        .make_title = "stop balancing", .undo_title = "balance again", .make = NULL, .undo = NULL};
    if (!wants(p)->stop_balancer || c->sharding == DR_UNSHARDED || pick->work_count == 0 ||
        json_is_true(json_object_get(f->collection, "no_balance"))) {
        return DR_OK;
    }
    if ((p->can & DR_CAN_COMMAND) == 0) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: this store runs no commands; leave out \"stop_balancer\"", c->name);
    }
    rest.make = command_line(p->arena, "config", no_balance_command(c->name, true));
    rest.undo = command_line(p->arena, "config", no_balance_command(c->name, false));
    if (rest.make == NULL || rest.undo == NULL) {
        return dr_fail_nomem(err);
    }
    dr_pick_add_aside(pick, &rest);
    return DR_OK;
}

/* Moves under way that concern this collection: work on it waits for their end. */
static enum dr_code warn_of_moves(struct dr_plan *p, struct dr_pick *pick, const struct facts *f,
                                  struct dr_err *err)
{
    const json_t *moving = json_object_get(json_object_get(f->extra, "balancer"), "moving");
    size_t length = strlen(pick->collection->name);
    for (size_t i = 0; i < json_array_size(moving) && pick->work_count > 0; i++) {
        const char *text = json_string_value(json_array_get(moving, i));
        if (text != NULL && strncmp(text, pick->collection->name, length) == 0 &&
            text[length] == ':') {
            const char *warning =
                dr_arena_printf(p->arena, "rebalancing now (%s): waits until that has ended",
                                text + length + 1 + (text[length + 1] == ' '));
            return warning == NULL ? dr_fail_nomem(err) : dr_pick_warn(p, pick, warning, err);
        }
    }
    return DR_OK;
}

/* --- the whole ------------------------------------------------------------------------------- */

static enum dr_code pick_one(struct dr_plan *p, const struct dr_collection *c,
                             const struct facts *f, struct dr_pick *pick, struct dr_err *err)
{
    const char *left_alone = say_left_alone(c, f);
    enum dr_code rc = DR_OK;
    if (wants(p)->collection_count > 0) {
        rc = refuse_named(p, c, f, err);
    } else if (left_alone != NULL) {
        const char *why = dr_arena_strdup(p->arena, left_alone);
        return why == NULL ? dr_fail_nomem(err) : dr_pick_nothing(p, c, why, pick, err);
    } else {
        rc = dr_plan_guard_collection(p, c, err);
    }
    if (rc == DR_OK) {
        rc = wants(p)->has_filter ? pick_filtered(p, c, f, pick, err)
                                  : pick_whole(p, c, f, pick, err);
    }
    pick->is_routed = true;
    pick->is_proved_alone = true;
    if (rc == DR_OK) {
        rc = rest_balancer(p, pick, f, err);
    }
    return rc == DR_OK ? warn_of_moves(p, pick, f, err) : rc;
}

/* The database goes with its last collection, but only when nothing of it is left alone. */
static enum dr_code drop_database(struct dr_plan *p, struct dr_err *err)
{
    const struct dr_mongodb_drop *want = wants(p);
    if (!want->drop_when_empty || want->collection_count > 0) {
        return DR_OK;
    }
    for (uint32_t i = 0; i < p->pick_count; i++) {
        if (!p->pick[i].is_dropped) {
            return dr_pick_warn(p, &p->pick[i], "the database stays because of it", err);
        }
    }
    json_t *line = json_pack("{s:s}", "drop_database_if_empty", p->request->database);
    char *text = line == NULL ? NULL : dr_json_text_in_order(line);
    const char *copy = text == NULL ? NULL : dr_arena_strdup(p->arena, text);
    dr_free(text);
    json_decref(line);
    p->pick[p->pick_count - 1].drop_database = copy;
    return copy == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* Steps refer to the filter without repeating it, so that the plan's hash must cover it. */
static enum dr_code keep_selection(struct dr_plan *p, struct dr_err *err)
{
    if (!wants(p)->has_filter) {
        return DR_OK;
    }
    char *text = dr_json_text_in_order(json_object_get(p->request->json, "filter"));
    p->selection = text == NULL ? NULL : dr_arena_strdup(p->arena, text);
    dr_free(text);
    return p->selection == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code pick_all(struct dr_plan *p, const json_t *extra, struct dr_err *err)
{
    const json_t *all = json_object_get(extra, "collections");
    uint32_t with_data = 0;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < p->survey->collection_count; i++) {
        const struct dr_collection *c = &p->survey->collection[i];
        struct facts f = {.extra = extra, .collection = json_object_get(all, c->name)};
        f.filter = json_object_get(f.collection, "filter");
        if (wants(p)->collection_count > 0 && !is_named(p, c)) {
            continue;
        }
        with_data += say_left_alone(c, &f) == NULL;
        rc = pick_one(p, c, &f, &p->pick[p->pick_count], err);
        p->pick_count += rc == DR_OK;
    }
    if (rc == DR_OK && with_data == 0) {
        rc = dr_fail(err, DR_NOT_FOUND, "%s: no collection to erase in this database",
                     p->request->database);
    }
    return rc;
}

enum dr_code dr_plan_mongodb_drop(struct dr_plan *p, struct dr_err *err)
{
    const char *text = p->survey->extra == NULL ? "{}" : p->survey->extra;
    json_t *extra = NULL;
    p->target = dr_request_target(p->request);
    p->has_chunk_table = true;
    enum dr_code rc = check_names(p, err);
    if (rc == DR_OK) {
        rc = dr_json_parse("survey", text, strlen(text), &extra, err);
    }
    if (rc == DR_OK) {
        rc = pick_all(p, extra, err);
    }
    if (rc == DR_OK) {
        rc = drop_database(p, err);
    }
    if (rc == DR_OK) {
        rc = keep_selection(p, err);
    }
    json_decref(extra);
    return rc;
}
