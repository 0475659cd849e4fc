/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen tables, the set of them, and drafts: what a table keeps to, whoever made it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "catalog/table_private.h"

enum { TABLE_BLOCK_BYTES = 1024 };

static const char *const state_names[] = {
    [DR_TABLE_MAKING] = "making",
    [DR_TABLE_READY] = "ready",
    [DR_TABLE_CHANGING] = "changing",
    [DR_TABLE_DROPPING] = "dropping",
};

/* A node's URL begins with one of these. */
static const struct {
    const char *engine, *scheme;
} schemes[] = {
    {"sqlite", "sqlite:"},     {"mysql", "mysql:"},         {"mysql", "mariadb:"},
    {"postgres", "postgres:"}, {"postgres", "postgresql:"}, {"manticore", "manticore:"},
};
enum { SCHEME_COUNT = sizeof schemes / sizeof schemes[0] };

const char *dr_table_state_name(enum dr_table_state s)
{
    return state_names[s];
}

bool dr_table_state_parse(const char *name, enum dr_table_state *out)
{
    for (unsigned i = 0; i < sizeof state_names / sizeof state_names[0]; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *out = (enum dr_table_state)i;
            return true;
        }
    }
    return false;
}

/* --- counting --- */

static void count_up(_Atomic uint32_t *refs)
{
    uint32_t before = atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
}

struct dr_table *dr_table_ref(const struct dr_table *t)
{
    struct dr_table *same = (struct dr_table *)t; /* only the counter is written */
    count_up(&same->refs);
    return same;
}

void dr_table_unref(struct dr_table *t)
{
    if (t != NULL && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
        dr_arena_destroy(t->arena);
        dr_free(t);
    }
}

const struct dr_table *dr_table_of(const struct dr_table_info *info)
{
    return (const struct dr_table *)((const char *)info - offsetof(struct dr_table, info));
}

struct dr_table_set *dr_table_set_ref(struct dr_table_set *set)
{
    if (set != NULL) {
        count_up(&set->refs);
    }
    return set;
}

void dr_table_set_unref(struct dr_table_set *set)
{
    if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        dr_table_unref(set->table[i]);
    }
    dr_free(set);
}

/* Where the table of this name is, or would stand. */
static bool find_position(const struct dr_table_set *set, const char *name, uint32_t *at_out)
{
    uint32_t from = 0;
    uint32_t upto = set == NULL ? 0 : set->count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        int order = strcmp(set->table[middle]->info.name, name);
        if (order == 0) {
            *at_out = middle;
            return true;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    *at_out = from;
    return false;
}

enum dr_code dr_table_set_change(const struct dr_table_set *set, const char *name,
                                 struct dr_table *put, struct dr_table_set **out,
                                 struct dr_err *err)
{
    uint32_t at = 0;
    uint32_t old_count = set == NULL ? 0 : set->count;
    bool is_there = find_position(set, name, &at);
    uint32_t count = old_count + (put != NULL) - is_there;
    *out = NULL;
    if (count == 0) {
        return DR_OK;
    }
    struct dr_table_set *made =
        dr_calloc(1, sizeof *made + (size_t)count * sizeof(struct dr_table *));
    if (made == NULL) {
        dr_table_unref(put);
        return dr_fail_nomem(err);
    }
    assert(set != NULL || (at == 0 && old_count == 0));
    made->refs = 1;
    for (uint32_t i = 0; set != NULL && i < at; i++) {
        made->table[made->count++] = dr_table_ref(set->table[i]);
    }
    if (put != NULL) {
        made->table[made->count++] = put;
    }
    for (uint32_t i = at + is_there; i < old_count; i++) {
        made->table[made->count++] = dr_table_ref(set->table[i]);
    }
    assert(made->count == count);
    *out = made;
    return DR_OK;
}

uint32_t dr_catalog_table_count(const struct dr_catalog *c)
{
    return c->tables == NULL ? 0 : c->tables->count;
}

const struct dr_table_info *dr_catalog_table_at(const struct dr_catalog *c, uint32_t i)
{
    return i < dr_catalog_table_count(c) ? &c->tables->table[i]->info : NULL;
}

const struct dr_table_info *dr_catalog_table(const struct dr_catalog *c, const char *name)
{
    uint32_t at = 0;
    return find_position(c->tables, name, &at) ? &c->tables->table[at]->info : NULL;
}

/* --- drafts --- */

enum dr_code dr_table_name_check(const char *name, struct dr_err *err)
{
    size_t bytes = strlen(name);
    bool is_good =
        bytes > 0 && bytes <= DR_TABLE_NAME_BYTES_MAX && !(name[0] >= '0' && name[0] <= '9');
    for (size_t i = 0; is_good && i < bytes; i++) {
        char c = name[i];
        is_good =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    }
    return is_good ? DR_OK
                   : dr_fail(err, DR_INPUT,
                             "a table's name has 1 to %d letters of A-Z, a-z, 0-9 and _, and does "
                             "not begin with a digit",
                             DR_TABLE_NAME_BYTES_MAX);
}

enum dr_code dr_table_read_placement(const json_t *list, uint32_t nodes, struct dr_arena *arena,
                                     struct dr_table_shard **out, struct dr_err *err)
{
    size_t count = json_array_size(list);
    struct dr_table_shard *shard = dr_arena_alloc(arena, (count + 1) * sizeof *shard);
    if (shard == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *places = json_array_get(list, i);
        size_t holders = json_array_size(places);
        if (!json_is_array(places) || holders == 0 || holders > DR_TABLE_HOLDERS_MAX) {
            return dr_fail(err, DR_INPUT, "shard %zu: expected a list of 1 to %d numbers of nodes",
                           i, DR_TABLE_HOLDERS_MAX);
        }
        uint32_t *holder = dr_arena_alloc(arena, holders * sizeof *holder);
        if (holder == NULL) {
            return dr_fail_nomem(err);
        }
        for (size_t k = 0; k < holders; k++) {
            const json_t *place = json_array_get(places, k);
            json_int_t at = json_integer_value(place);
            if (!json_is_integer(place) || at < 0 || at >= (json_int_t)nodes) {
                return dr_fail(err, DR_INPUT, "shard %zu: no such place among the nodes", i);
            }
            holder[k] = (uint32_t)at;
        }
        shard[i] = (struct dr_table_shard){.holder_count = (uint32_t)holders, .holder = holder};
    }
    *out = shard;
    return DR_OK;
}

enum dr_code dr_table_draft_begin(struct dr_table_draft *d, struct dr_arena *arena,
                                  const struct dr_table *old, uint32_t extra_nodes,
                                  struct dr_err *err)
{
    const struct dr_table_info *info = &old->info;
    *d = (struct dr_table_draft){
        .arena = arena, .info = *info, .options = old->options, .creator = old->creator};
    d->node = dr_arena_alloc(arena, ((size_t)info->node_count + extra_nodes + 1) * sizeof *d->node);
    d->shard = dr_arena_alloc(arena, ((size_t)info->shard_count + 1) * sizeof *d->shard);
    if (d->node == NULL || d->shard == NULL) {
        return dr_fail_nomem(err);
    }
    memcpy(d->node, info->node, info->node_count * sizeof *d->node);
    memcpy(d->shard, info->shard, info->shard_count * sizeof *d->shard);
    return DR_OK;
}

struct numbered {
    struct dr_table_node node;
    uint32_t number;
};

static int compare_nodes(const void *a, const void *b)
{
    return strcmp(((const struct numbered *)a)->node.name, ((const struct numbered *)b)->node.name);
}

enum dr_code dr_table_draft_sort(struct dr_table_draft *d, const bool *is_gone, struct dr_err *err)
{
    uint32_t count = 0;
    struct numbered *sorted =
        dr_arena_alloc(d->arena, ((size_t)d->info.node_count + 1) * sizeof *sorted);
    uint32_t *number = dr_arena_alloc(d->arena, ((size_t)d->info.node_count + 1) * sizeof *number);
    if (sorted == NULL || number == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < d->info.node_count; i++) {
        number[i] = UINT32_MAX;
        if (is_gone == NULL || !is_gone[i]) {
            sorted[count++] = (struct numbered){.node = d->node[i], .number = i};
        }
    }
    qsort(sorted, count, sizeof *sorted, compare_nodes);
    for (uint32_t i = 0; i < count; i++) {
        d->node[i] = sorted[i].node;
        number[sorted[i].number] = i;
    }
    d->info.node_count = count;
    for (uint32_t i = 0; i < d->info.shard_count; i++) {
        struct dr_table_shard *s = &d->shard[i];
        uint32_t *holder = dr_arena_alloc(d->arena, ((size_t)s->holder_count + 1) * sizeof *holder);
        if (holder == NULL) {
            return dr_fail_nomem(err);
        }
        for (uint32_t k = 0; k < s->holder_count; k++) {
            holder[k] = number[s->holder[k]];
            assert(holder[k] < count);
        }
        s->holder = holder;
    }
    return DR_OK;
}

static bool is_of_engine(const char *url, const char *engine)
{
    for (unsigned i = 0; i < SCHEME_COUNT; i++) {
        if (strcmp(schemes[i].engine, engine) == 0 &&
            strncmp(url, schemes[i].scheme, strlen(schemes[i].scheme)) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_text_of(const char *text, size_t min, size_t max)
{
    size_t bytes = strlen(text);
    return bytes >= min && bytes <= max && dr_catalog_is_clean_text(text, bytes);
}

static enum dr_code check_nodes(const struct dr_table_draft *d, struct dr_err *err)
{
    if (d->info.node_count == 0 || d->info.node_count > DR_TABLE_NODES_MAX) {
        return dr_fail(err, DR_INPUT, "a table has 1 to %d nodes, not %u", DR_TABLE_NODES_MAX,
                       d->info.node_count);
    }
    for (uint32_t i = 0; i < d->info.node_count; i++) {
        const struct dr_table_node *n = &d->node[i];
        if (!is_text_of(n->name, 1, DR_TABLE_NODE_BYTES_MAX)) {
            return dr_fail(err, DR_INPUT,
                           "a node's name has 1 to %d bytes and no control characters",
                           DR_TABLE_NODE_BYTES_MAX);
        }
        if (i > 0 && strcmp(d->node[i - 1].name, n->name) >= 0) {
            return dr_fail(err, DR_INPUT, "the node %s stands there twice", n->name);
        }
        if (!is_text_of(n->url, 1, DR_TABLE_URL_BYTES_MAX)) {
            return dr_fail(err, DR_INPUT, "the URL of node %s is empty, too long or no text",
                           n->name);
        }
        if (!is_of_engine(n->url, d->info.engine)) {
            return dr_fail(err, DR_REFUSED,
                           "node %s is not a %s server: all nodes of a table are of one engine",
                           n->name, d->info.engine);
        }
    }
    return DR_OK;
}

static enum dr_code check_shards(const struct dr_table_draft *d, struct dr_err *err)
{
    if (d->info.shard_count == 0 || d->info.shard_count > DR_TABLE_SHARDS_MAX) {
        return dr_fail(err, DR_INPUT, "a table has 1 to %d shards, not %u", DR_TABLE_SHARDS_MAX,
                       d->info.shard_count);
    }
    for (uint32_t i = 0; i < d->info.shard_count; i++) {
        const struct dr_table_shard *s = &d->shard[i];
        if (s->holder_count == 0 || s->holder_count > DR_TABLE_HOLDERS_MAX) {
            return dr_fail(err, DR_INPUT, "shard %u: has 1 to %d holders, not %u", i,
                           DR_TABLE_HOLDERS_MAX, s->holder_count);
        }
        for (uint32_t k = 0; k < s->holder_count; k++) {
            if (s->holder[k] >= d->info.node_count) {
                return dr_fail(err, DR_INPUT, "shard %u: one of its holders is no node", i);
            }
            for (uint32_t other = 0; other < k; other++) {
                if (s->holder[other] == s->holder[k]) {
                    return dr_fail(err, DR_INPUT, "shard %u stands twice on node %s", i,
                                   d->node[s->holder[k]].name);
                }
            }
        }
    }
    return DR_OK;
}

/* Outside a change nothing comes or leaves, and nobody holds what is ready. */
static enum dr_code check_state(const struct dr_table_draft *d, struct dr_err *err)
{
    static const char *const whats[] = {
        [DR_TABLE_MAKING] = "create",
        [DR_TABLE_READY] = "",
        [DR_TABLE_CHANGING] = "rebalance",
        [DR_TABLE_DROPPING] = "drop",
    };
    bool is_held = d->info.state != DR_TABLE_READY;
    bool is_good =
        strcmp(d->info.what, whats[d->info.state]) == 0 &&
        (is_held ? dr_uuid_text_is_good(d->info.operation) : d->info.operation[0] == '\0');
    for (uint32_t i = 0; is_good && i < d->info.node_count; i++) {
        const struct dr_table_node *n = &d->node[i];
        is_good = !(n->is_leaving && n->is_coming) &&
                  (d->info.state == DR_TABLE_CHANGING || (!n->is_leaving && !n->is_coming));
    }
    return is_good ? DR_OK
                   : dr_fail(err, DR_INPUT, "what is %s has another operation or other nodes",
                             dr_table_state_name(d->info.state));
}

enum dr_code dr_table_draft_check(const struct dr_table_draft *d, struct dr_err *err)
{
    const struct dr_table_info *info = &d->info;
    bool is_engine = false;
    for (unsigned i = 0; i < SCHEME_COUNT; i++) {
        is_engine = is_engine || strcmp(schemes[i].engine, info->engine) == 0;
    }
    enum dr_code rc = dr_table_name_check(info->name, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!is_engine) {
        return dr_fail(err, DR_INPUT, "the engine is none of sqlite, mysql, postgres, manticore");
    }
    size_t columns = strlen(info->columns);
    if (columns == 0 || columns > DR_TABLE_COLUMNS_BYTES_MAX ||
        strlen(info->extra) > DR_TABLE_EXTRA_BYTES_MAX) {
        return dr_fail(err, DR_INPUT,
                       "columns have 1 to %d bytes, what stands behind them at most %d",
                       DR_TABLE_COLUMNS_BYTES_MAX, DR_TABLE_EXTRA_BYTES_MAX);
    }
    if (!dr_uuid_text_is_good(info->uuid) || !dr_uuid_text_is_good(d->creator)) {
        return dr_fail(err, DR_INPUT, "a uuid of the table or its operation is none");
    }
    if (info->rf == 0 || info->rf > DR_TABLE_HOLDERS_MAX) {
        return dr_fail(err, DR_INPUT, "a shard has 1 to %d copies, not %u", DR_TABLE_HOLDERS_MAX,
                       info->rf);
    }
    rc = check_nodes(d, err);
    if (rc == DR_OK) {
        rc = check_shards(d, err);
    }
    return rc == DR_OK ? check_state(d, err) : rc;
}

static bool copy_lists(struct dr_table *t, const struct dr_table_draft *d)
{
    uint32_t nodes = d->info.node_count;
    uint32_t shards = d->info.shard_count;
    size_t holders = 0;
    for (uint32_t i = 0; i < shards; i++) {
        holders += d->shard[i].holder_count;
    }
    struct dr_table_node *node = dr_arena_memdup(t->arena, d->node, nodes * sizeof *node);
    struct dr_table_shard *shard = dr_arena_memdup(t->arena, d->shard, shards * sizeof *shard);
    uint32_t *holder = dr_arena_alloc(t->arena, (holders + 1) * sizeof *holder);
    bool is_whole = node != NULL && shard != NULL && holder != NULL;
    for (uint32_t i = 0; is_whole && i < nodes; i++) {
        node[i].name = dr_arena_strdup(t->arena, node[i].name);
        node[i].url = dr_arena_strdup(t->arena, node[i].url);
        is_whole = node[i].name != NULL && node[i].url != NULL;
    }
    for (uint32_t i = 0; is_whole && i < shards; i++) {
        memcpy(holder, shard[i].holder, shard[i].holder_count * sizeof *holder);
        shard[i].holder = holder;
        holder += shard[i].holder_count;
    }
    t->info.node = node;
    t->info.shard = shard;
    return is_whole;
}

enum dr_code dr_table_draft_freeze(const struct dr_table_draft *d, struct dr_table **out,
                                   struct dr_err *err)
{
    *out = NULL;
    struct dr_table *t = dr_calloc(1, sizeof *t);
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->refs = 1;
    t->info = d->info;
    t->arena = dr_arena_create(TABLE_BLOCK_BYTES);
    const char **text[] = {&t->info.name,      &t->info.engine, &t->info.columns, &t->info.extra,
                           &t->info.operation, &t->info.what,   &t->options,      &t->creator};
    t->options = d->options;
    t->creator = d->creator;
    bool is_whole = t->arena != NULL;
    for (size_t i = 0; is_whole && i < sizeof text / sizeof text[0]; i++) {
        *text[i] = dr_arena_strdup(t->arena, *text[i]);
        is_whole = *text[i] != NULL;
    }
    if (!is_whole || !copy_lists(t, d)) {
        dr_table_unref(t);
        return dr_fail_nomem(err);
    }
    *out = t;
    return DR_OK;
}
