/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the choice of a strategy for one collection, and the sentence that says why.
 *
 * A filtered collection takes the first that fits: chunks by a term on the shard key, an index, the
 * temporary index the job asked for, everything. Whatever reads everything needs "allow_scan".
 * Pure: reads the survey, allocates from the plan's arena. */
#include "plan/plan_private.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <xxhash.h>

static const struct {
    const char *name;
    const char *efficiency;
} strategies[DR_STRATEGY_COUNT] = {
    [DR_BY_CHUNK_RANGE] = {"shard-range", "high"},
    [DR_BY_CHUNK_HASHED] = {"shard-hashed", "medium"},
    [DR_BY_KEY_LIST] = {"key-list", "high"},
    [DR_BY_INDEXED] = {"indexed", "medium"},
    [DR_BY_FULL_SCAN] = {"scan", "low"},
    [DR_BY_BROADCAST] = {"broadcast", "low, expensive"},
};

const char *dr_strategy_name(enum dr_strategy s)
{
    assert((unsigned)s < DR_STRATEGY_COUNT);
    return strategies[s].name;
}

const char *dr_strategy_efficiency(enum dr_strategy s)
{
    assert((unsigned)s < DR_STRATEGY_COUNT);
    return strategies[s].efficiency;
}

/* --- facts about a collection ---------------------------------------------------------------- */

static const char *list_fields(struct dr_arena *a, uint32_t count, const char *const *field)
{
    const char *list = count > 0 ? field[0] : "";
    for (uint32_t i = 1; i < count && list != NULL; i++) {
        list = dr_arena_printf(a, "%s, %s", list, field[i]);
    }
    return list;
}

/* Place of `node` among the sorted nodes of the pick, or where it would stand. */
static uint32_t find_node(const struct dr_pick *pick, const char *node, bool *is_there_out)
{
    uint32_t from = 0;
    uint32_t upto = pick->node_count;
    *is_there_out = false;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        int order = strcmp(pick->by_node[middle].node, node);
        if (order == 0) {
            *is_there_out = true;
            return middle;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return from;
}

static bool insert_node(struct dr_arena *a, struct dr_pick *pick, uint32_t at, const char *node,
                        uint32_t *room)
{
    if (pick->node_count == *room) {
        *room = *room == 0 ? 8 : *room * 2;
        struct dr_chunk *more = dr_arena_alloc(a, *room * sizeof *more);
        if (more == NULL) {
            return false;
        }
        if (pick->node_count > 0) {
            memcpy(more, pick->by_node, pick->node_count * sizeof *more);
        }
        pick->by_node = more;
    }
    memmove(&pick->by_node[at + 1], &pick->by_node[at],
            (pick->node_count - at) * sizeof *pick->by_node);
    pick->by_node[at] = (struct dr_chunk){.node = node, .is_rows_known = true};
    pick->node_count++;
    return true;
}

/* The nodes that hold chunks, sorted by name, each with the sum of its chunks' rows. */
static enum dr_code gather_nodes(struct dr_arena *a, const struct dr_collection *c,
                                 struct dr_pick *pick, struct dr_err *err)
{
    uint32_t room = 0;
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        bool is_there;
        uint32_t at = find_node(pick, c->chunk[i].node, &is_there);
        if (!is_there && !insert_node(a, pick, at, c->chunk[i].node, &room)) {
            return dr_fail_nomem(err);
        }
        pick->by_node[at].rows += c->chunk[i].rows;
        pick->by_node[at].is_rows_known =
            pick->by_node[at].is_rows_known && c->chunk[i].is_rows_known;
    }
    return DR_OK;
}

/* Chunks come sorted and must neither overlap, or two steps would work on one item, nor leave a
 * hole, or nobody would. */
static enum dr_code check_chunks(struct dr_plan *p, const struct dr_collection *c,
                                 struct dr_pick *pick, struct dr_err *err)
{
    bool has_hole = false;
    if (c->sharding == DR_UNSHARDED && c->chunk_count > 1) {
        return dr_fail(err, DR_CORRUPT, "%s: unsharded, but surveyed in %" PRIu64 " chunks",
                       c->name, c->chunk_count);
    }
    for (uint64_t i = 1; i < c->chunk_count; i++) {
        const struct dr_bound *end = &c->chunk[i - 1].upto;
        const struct dr_bound *start = &c->chunk[i].from;
        int order = end->parts == 0 || start->parts == 0 ? 1 : dr_bound_compare(end, start);
        if (order > 0) {
            return dr_fail(err, DR_CORRUPT,
                           "%s: chunks %" PRIu64 " and %" PRIu64 " overlap (nodes %s and %s); "
                           "repair the layout, or wait until the move between them has ended",
                           c->name, i, i + 1, c->chunk[i - 1].node, c->chunk[i].node);
        }
        has_hole = has_hole || order < 0;
    }
    if (!has_hole) {
        return DR_OK;
    }
    return dr_pick_warn(p, pick, "the chunks leave a hole: rows of no chunk are not found", err);
}

/* --- building a pick ------------------------------------------------------------------------- */

enum dr_code dr_pick_warn(struct dr_plan *p, struct dr_pick *pick, const char *warning,
                          struct dr_err *err)
{
    const char *old = pick->part.warning;
    pick->part.warning = old == NULL ? dr_arena_strdup(p->arena, warning)
                                     : dr_arena_printf(p->arena, "%s; %s", old, warning);
    return pick->part.warning == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code start_pick(struct dr_plan *p, const struct dr_collection *c,
                               const struct dr_filter *filter, struct dr_pick *pick,
                               struct dr_err *err)
{
    *pick = (struct dr_pick){.collection = c, .filter = filter};
    pick->part.collection = c->name;
    pick->part.total = c->rows_total;
    pick->part.warning = c->warning;
    enum dr_code rc = check_chunks(p, c, pick, err);
    return rc == DR_OK ? gather_nodes(p->arena, c, pick, err) : rc;
}

enum dr_code dr_pick_nothing(struct dr_plan *p, const struct dr_collection *c, const char *why,
                             struct dr_pick *pick, struct dr_err *err)
{
    *pick = (struct dr_pick){.collection = c};
    pick->part.collection = c->name;
    pick->part.strategy = DR_BY_FULL_SCAN;
    pick->part.why = "no steps";
    pick->is_estimate_known = true;
    pick->part.total = c->rows_total;
    pick->part.warning = c->warning;
    return dr_pick_warn(p, pick, why, err);
}

void dr_pick_add_aside(struct dr_pick *pick, const struct dr_aside *aside)
{
    assert(pick->aside_count < DR_ASIDES_PER_PICK);
    pick->aside[pick->aside_count++] = *aside;
}

const struct dr_chunk *dr_pick_work(const struct dr_pick *pick, uint64_t k)
{
    assert(k < pick->work_count);
    if (pick->stats != NULL) {
        return dr_stats_work(pick, k);
    }
    if (pick->is_by_node) {
        return &pick->by_node[k];
    }
    return &pick->collection->chunk[pick->chunk == NULL ? k : pick->chunk[k]];
}

/* The count of items is what the steps' counts add up to, or the collection's when some failed. */
static enum dr_code finish_pick(struct dr_plan *p, struct dr_pick *pick, const char *why,
                                struct dr_err *err)
{
    uint64_t sum = 0;
    if (why == NULL) {
        return dr_fail_nomem(err);
    }
    pick->part.why = why;
    pick->is_estimate_known = true;
    for (uint64_t i = 0; i < pick->work_count; i++) {
        const struct dr_chunk *work = dr_pick_work(pick, i);
        sum += work->rows;
        pick->is_estimate_known = pick->is_estimate_known && work->is_rows_known;
    }
    uint64_t matched = pick->collection->rows_matched;
    pick->part.estimated = sum > matched ? sum : matched;
    if (pick->is_estimate_known) {
        return DR_OK;
    }
    return dr_pick_warn(p, pick, "some rows could not be counted: there may be more of them", err);
}

enum dr_code dr_pick_by_chunk(struct dr_plan *p, struct dr_pick *pick, enum dr_strategy strategy,
                              enum dr_access access, const uint64_t *chunk, uint64_t count,
                              const char *why, struct dr_err *err)
{
    pick->part.strategy = strategy;
    pick->access = access;
    pick->chunk = chunk;
    pick->work_count = count;
    return finish_pick(p, pick, why, err);
}

static enum dr_code choose_by_node(struct dr_plan *p, struct dr_pick *pick,
                                   enum dr_strategy strategy, enum dr_access access,
                                   const char *index, const char *why, struct dr_err *err)
{
    pick->part.strategy = strategy;
    pick->access = access;
    pick->index = index;
    pick->is_by_node = true;
    pick->work_count = pick->node_count;
    return finish_pick(p, pick, why, err);
}

static enum dr_code need_can(const struct dr_plan *p, uint32_t bit, const struct dr_collection *c,
                             const char *what, struct dr_err *err)
{
    if ((p->can & bit) != 0) {
        return DR_OK;
    }
    return dr_fail(err, DR_UNSUPPORTED, "%s: this store cannot %s", c->name, what);
}

static const char *sharding_word(const struct dr_collection *c)
{
    switch (c->sharding) {
    case DR_UNSHARDED:
        return "unsharded";
    case DR_SHARDED_RANGE:
        return "range-sharded";
    case DR_SHARDED_HASHED:
        return "hash-sharded";
    }
    return "?";
}

enum dr_code dr_pick_whole(struct dr_plan *p, const struct dr_collection *c, struct dr_pick *pick,
                           struct dr_err *err)
{
    enum dr_code rc = start_pick(p, c, NULL, pick, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->chunk_count == 0) {
        return dr_pick_nothing(p, c, "the layout knows no chunk of it", pick, err);
    }
    if (c->sharding == DR_UNSHARDED) {
        rc = need_can(p, DR_CAN_SCAN, c, "walk a whole collection", err);
        return rc != DR_OK ? rc
                           : dr_pick_by_chunk(p, pick, DR_BY_CHUNK_RANGE, DR_BY_SCAN, NULL, 1,
                                              dr_arena_printf(p->arena,
                                                              "unsharded: walks the primary key on "
                                                              "%s",
                                                              c->chunk[0].node),
                                              err);
    }
    bool is_hashed = c->sharding == DR_SHARDED_HASHED;
    rc = need_can(p, is_hashed ? DR_CAN_SHARD_HASHED : DR_CAN_SHARD_RANGE, c,
                  is_hashed ? "walk chunks of a hashed shard key"
                            : "walk chunks of a range-based shard key",
                  err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *fields = list_fields(p->arena, c->key_count, c->key);
    const char *why = fields == NULL
                          ? NULL
                          : dr_arena_printf(p->arena,
                                            "%s by (%s): one step per chunk, %" PRIu64
                                            " chunk%s on %" PRIu32 " node%s",
                                            sharding_word(c), fields, c->chunk_count,
                                            c->chunk_count == 1 ? "" : "s", pick->node_count,
                                            pick->node_count == 1 ? "" : "s");
    return dr_pick_by_chunk(p, pick, is_hashed ? DR_BY_CHUNK_HASHED : DR_BY_CHUNK_RANGE,
                            is_hashed ? DR_BY_SHARD_HASHED : DR_BY_SHARD_RANGE, NULL,
                            c->chunk_count, why, err);
}

/* --- filters: by chunk ----------------------------------------------------------------------- */

static enum dr_code try_chunks(struct dr_plan *p, struct dr_pick *pick, bool *is_chosen_out,
                               struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    bool is_hashed = c->sharding == DR_SHARDED_HASHED;
    uint32_t bit = is_hashed ? DR_CAN_SHARD_HASHED : DR_CAN_SHARD_RANGE;
    *is_chosen_out = false;
    if (c->sharding == DR_UNSHARDED || c->key_count == 0 || (is_hashed && c->key_count != 1) ||
        (p->can & bit) == 0) {
        return DR_OK;
    }
    const uint64_t *chunk = NULL;
    uint64_t count = 0;
    enum dr_code rc =
        is_hashed ? dr_prune_hashed(p->arena, c, pick->filter, is_chosen_out, &chunk, &count, err)
                  : dr_prune_range(p->arena, c, pick->filter, is_chosen_out, &chunk, &count, err);
    if (rc != DR_OK || !*is_chosen_out) {
        return rc;
    }
    const char *why = dr_arena_printf(p->arena,
                                      "the filter names %s shard key field %s: %" PRIu64
                                      " of %" PRIu64 " chunks can hold matches",
                                      is_hashed ? "values of the hashed" : "the leading", c->key[0],
                                      count, c->chunk_count);
    rc = dr_pick_by_chunk(p, pick, is_hashed ? DR_BY_CHUNK_HASHED : DR_BY_CHUNK_RANGE,
                          is_hashed ? DR_BY_SHARD_HASHED : DR_BY_SHARD_RANGE, chunk, count, why,
                          err);
    if (rc == DR_OK && count == 0) {
        rc = dr_pick_warn(p, pick, "no chunk can hold a match: there is nothing to do", err);
    }
    return rc;
}

/* --- filters: by index ----------------------------------------------------------------------- */

/* How narrow a term is: 3 eq, 2 in, 1 a range, 0 of no use to an index. */
static int rank_term(const struct dr_term *t)
{
    switch (t->op) {
    case DR_F_EQ:
        return 3;
    case DR_F_IN:
        return 2;
    case DR_F_LT:
    case DR_F_LE:
    case DR_F_GT:
    case DR_F_GE:
        return 1;
    case DR_F_NE:
    case DR_F_IS_NULL:
    case DR_F_NOT_NULL:
        return 0;
    }
    return 0;
}

static int rank_field(const struct dr_filter *f, const char *field)
{
    int best = 0;
    for (uint32_t i = 0; i < f->term_count; i++) {
        int rank = strcmp(f->term[i].field, field) == 0 ? rank_term(&f->term[i]) : 0;
        best = rank > best ? rank : best;
    }
    return best;
}

static uint32_t count_leading_eq(const struct dr_filter *f, const struct dr_index *x)
{
    uint32_t count = 0;
    while (count < x->field_count && rank_field(f, x->field[count]) == 3) {
        count++;
    }
    return count;
}

static bool is_better_index(const struct dr_filter *f, const struct dr_index *x,
                            const struct dr_index *than)
{
    if (than == NULL) {
        return true;
    }
    if (x->is_unique != than->is_unique) {
        return x->is_unique;
    }
    uint32_t matched = count_leading_eq(f, x);
    uint32_t other = count_leading_eq(f, than);
    return matched != other ? matched > other : strcmp(x->name, than->name) < 0;
}

static const struct dr_index *best_index(const struct dr_collection *c, const struct dr_filter *f)
{
    const struct dr_index *best = NULL;
    for (uint32_t i = 0; i < c->index_count; i++) {
        const struct dr_index *x = &c->index[i];
        bool is_fit = !x->is_partial && x->field_count > 0 && rank_field(f, x->field[0]) > 0;
        if (is_fit && is_better_index(f, x, best)) {
            best = x;
        }
    }
    return best;
}

static enum dr_code choose_index(struct dr_plan *p, struct dr_pick *pick, const struct dr_index *x,
                                 struct dr_err *err)
{
    const char *fields = list_fields(p->arena, x->field_count, x->field);
    const char *why = fields == NULL ? NULL
                                     : dr_arena_printf(p->arena,
                                                       "index %s (%s) fits the filter: one step "
                                                       "per node",
                                                       x->name, fields);
    return choose_by_node(p, pick, DR_BY_INDEXED, DR_BY_INDEX, x->name, why, err);
}

/* --- filters: by a temporary index ----------------------------------------------------------- */

static const char *best_field(const struct dr_filter *f)
{
    const char *best = NULL;
    int best_rank = 0;
    for (uint32_t i = 0; i < f->term_count; i++) {
        int rank = rank_term(&f->term[i]);
        if (rank > best_rank) {
            best_rank = rank;
            best = f->term[i].field;
        }
    }
    return best;
}

/* Where the table's own, quoted name stands in the store's text for dropping it: stores name tables
 * differently, and this is the only place to read it. 0 bytes when the text has another form. */
static const char *find_physical_name(const char *drop_text, size_t *bytes_out)
{
    static const char head[] = "DROP TABLE ";
    static const char guard[] = "IF EXISTS ";
    *bytes_out = 0;
    if (drop_text == NULL || strncmp(drop_text, head, sizeof head - 1) != 0) {
        return NULL;
    }
    const char *from = drop_text + sizeof head - 1;
    if (strncmp(from, guard, sizeof guard - 1) == 0) {
        from += sizeof guard - 1;
    }
    size_t length = strlen(from);
    while (length > 0 && strchr("; \t\r\n", from[length - 1]) != NULL) {
        length--;
    }
    if (length > 2 && from[0] == '"' && from[length - 1] == '"') {
        *bytes_out = length;
    }
    return from;
}

static const char *quote_name(struct dr_arena *a, const char *name)
{
    char *quoted = dr_arena_alloc(a, 2 * strlen(name) + 3);
    if (quoted == NULL) {
        return NULL;
    }
    char *to = quoted;
    *to++ = '"';
    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '"') {
            *to++ = '"';
        }
        *to++ = *at;
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

/* drover_tmp_<collection>_<hash>: readable, free of anything that needs quoting, and the same in
 * every plan, so that a leftover is found again instead of doubled. */
static const char *temp_index_name(struct dr_arena *a, const char *collection, const char *field)
{
    char readable[49];
    size_t length = 0;
    for (const char *at = collection; *at != '\0' && length + 1 < sizeof readable; at++) {
        bool is_plain =
            (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9');
        readable[length++] = is_plain ? *at : '_';
    }
    readable[length] = '\0';
    uint64_t hash = XXH64(field, strlen(field), XXH64(collection, strlen(collection), 0));
    return dr_arena_printf(a, "drover_tmp_%s_%016" PRIx64, readable, hash);
}

static enum dr_code choose_temp_index(struct dr_plan *p, struct dr_pick *pick, const char *field,
                                      struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    size_t table_bytes;
    const char *table = find_physical_name(c->drop_text, &table_bytes);
    if (table_bytes == 0 || table_bytes > INT_MAX) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s: the store does not say how the table is really called, so no temporary "
                       "index can be made; use \"allow_scan\" instead of \"temp_index\"",
                       c->name);
    }
    const char *name = temp_index_name(p->arena, c->name, field);
    const char *column = quote_name(p->arena, field);
    const char *why =
        dr_arena_printf(p->arena, "temporary index on (%s), made and removed by this plan", field);
    if (name == NULL || column == NULL || why == NULL) {
        return dr_fail_nomem(err);
    }
    struct dr_aside index = {.make_title = "create temporary index on",
                             .undo_title = "drop temporary index on"};
    index.make = dr_arena_printf(p->arena, "CREATE INDEX IF NOT EXISTS \"%s\" ON %.*s(%s)", name,
                                 (int)table_bytes, table, column);
    index.undo = dr_arena_printf(p->arena, "DROP INDEX IF EXISTS \"%s\"", name);
    if (index.make == NULL || index.undo == NULL) {
        return dr_fail_nomem(err);
    }
    dr_pick_add_aside(pick, &index);
    enum dr_code rc = choose_by_node(p, pick, DR_BY_INDEXED, DR_BY_INDEX, name, why, err);
    return rc != DR_OK
               ? rc
               : dr_pick_warn(p, pick, "making the temporary index reads every row once: low", err);
}

/* --- filters: everything --------------------------------------------------------------------- */

static enum dr_code choose_scan(struct dr_plan *p, struct dr_pick *pick, const char *field,
                                struct dr_err *err)
{
    const struct dr_collection *c = pick->collection;
    bool is_broadcast = c->sharding != DR_UNSHARDED && pick->node_count > 1;
    enum dr_strategy strategy = is_broadcast ? DR_BY_BROADCAST : DR_BY_FULL_SCAN;
    enum dr_code rc = need_can(p, DR_CAN_SCAN, c, "read a whole collection", err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!p->request->allow_scan) {
        char rows[32];
        const char *on = field == NULL ? pick->filter->term[0].field : field;
        return dr_fail(
            err, DR_REFUSED,
            "%s: neither shard key nor index fits the filter, so %s would read all %s rows on "
            "%" PRIu32 " node%s (%s). Set \"allow_scan\": true to accept that, or create "
            "an index on %s, or set \"temp_index\": true",
            c->name, dr_strategy_name(strategy), dr_human_count(c->rows_total, rows, sizeof rows),
            pick->node_count, pick->node_count == 1 ? "" : "s", dr_strategy_efficiency(strategy),
            on);
    }
    const char *why =
        is_broadcast ? dr_arena_printf(p->arena,
                                       "neither shard key nor index fits the filter: asks %" PRIu32
                                       " nodes and reads every row",
                                       pick->node_count)
                     : dr_arena_printf(p->arena, "no index fits the filter: reads every row on %s",
                                       c->chunk[0].node);
    return choose_by_node(p, pick, strategy, DR_BY_SCAN, NULL, why, err);
}

enum dr_code dr_pick_filtered(struct dr_plan *p, const struct dr_collection *c,
                              const struct dr_filter *filter, bool wants_temp_index,
                              struct dr_pick *pick, struct dr_err *err)
{
    enum dr_code rc = start_pick(p, c, filter, pick, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->chunk_count == 0) {
        return dr_pick_nothing(p, c, "the layout knows no chunk of it", pick, err);
    }
    bool is_chosen = false;
    rc = try_chunks(p, pick, &is_chosen, err);
    if (rc != DR_OK || is_chosen) {
        return rc;
    }
    const struct dr_index *x = (p->can & DR_CAN_INDEX) != 0 ? best_index(c, filter) : NULL;
    if (x != NULL) {
        return choose_index(p, pick, x, err);
    }
    const char *field = best_field(filter);
    const uint32_t bits = DR_CAN_INDEX | DR_CAN_TEMP_INDEX | DR_CAN_COMMAND;
    if (wants_temp_index && field != NULL && (p->can & bits) == bits) {
        return choose_temp_index(p, pick, field, err);
    }
    if (wants_temp_index && !p->request->allow_scan) {
        return dr_fail(err, field == NULL ? DR_REFUSED : DR_UNSUPPORTED,
                       field == NULL
                           ? "%s: no index can serve this filter (eq, in, lt, le, gt or ge on a "
                             "field is needed); set \"allow_scan\": true to read every row"
                           : "%s: this store cannot make a temporary index; set \"allow_scan\": "
                             "true to read every row",
                       c->name);
    }
    return choose_scan(p, pick, field, err);
}
