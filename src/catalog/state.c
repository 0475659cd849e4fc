/* SPDX-License-Identifier: Apache-2.0 */
/* States: an array of references to frozen collections, a table of aliases, a table of peers. A
 * change copies the array and shares everything else. Counters are atomic, the rest is immutable
 * once shown to others, so any thread may read, and drop, any state. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_private.h"
#include "catalog/table_private.h"

static void take(_Atomic uint32_t *refs)
{
    uint32_t before = atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
}

/* True when that was the last reference: then all writes of other threads are visible here. */
static bool give_back(_Atomic uint32_t *refs)
{
    uint32_t before = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);
    assert(before > 0);
    return before == 1;
}

static int compare_aliases(const void *a, const void *b)
{
    return strcmp(((const struct dr_alias *)a)->name, ((const struct dr_alias *)b)->name);
}

void dr_alias_table_unref(struct dr_alias_table *t)
{
    if (t != NULL && give_back(&t->refs)) {
        dr_arena_destroy(t->arena);
        dr_free(t);
    }
}

enum dr_code dr_alias_table_create(const struct dr_alias *alias, uint32_t count,
                                   struct dr_alias_table **out, struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = DR_OK;
    struct dr_alias_table *t = dr_calloc(1, sizeof *t);
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->refs = 1;
    t->count = count;
    t->arena = dr_arena_create(512);
    t->alias = t->arena == NULL ? NULL : dr_arena_alloc(t->arena, (count + 1) * sizeof *t->alias);
    if (t->alias == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        t->alias[i].name = dr_arena_strdup(t->arena, alias[i].name);
        t->alias[i].collection = dr_arena_strdup(t->arena, alias[i].collection);
        if (t->alias[i].name == NULL || t->alias[i].collection == NULL) {
            rc = dr_fail_nomem(err);
            goto out;
        }
    }
    qsort(t->alias, count, sizeof *t->alias, compare_aliases);
    for (uint32_t i = 1; i < count; i++) {
        if (strcmp(t->alias[i].name, t->alias[i - 1].name) == 0) {
            rc = dr_fail(err, DR_INPUT, "the alias `%s` stands there twice", t->alias[i].name);
            goto out;
        }
    }
out:
    if (rc != DR_OK) {
        dr_alias_table_unref(t);
        return rc;
    }
    *out = t;
    return DR_OK;
}

const struct dr_alias *dr_alias_table_find(const struct dr_alias_table *t, const char *name)
{
    const struct dr_alias wanted = {.name = name};
    return bsearch(&wanted, t->alias, t->count, sizeof *t->alias, compare_aliases);
}

static int compare_peers(const void *a, const void *b)
{
    uint64_t x = ((const struct dr_peer *)a)->id;
    uint64_t y = ((const struct dr_peer *)b)->id;
    return x < y ? -1 : x > y ? 1 : 0;
}

void dr_peer_table_unref(struct dr_peer_table *t)
{
    if (t != NULL && give_back(&t->refs)) {
        dr_free(t);
    }
}

enum dr_code dr_peer_table_create(const struct dr_peer *peer, uint32_t count,
                                  struct dr_peer_table **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_peer_table *t = dr_calloc(1, sizeof *t + count * sizeof t->peer[0]);
    if (t == NULL) {
        return dr_fail_nomem(err);
    }
    t->refs = 1;
    t->count = count;
    if (count > 0) {
        memcpy(t->peer, peer, count * sizeof *peer);
    }
    qsort(t->peer, count, sizeof t->peer[0], compare_peers);
    for (uint32_t i = 1; i < count; i++) {
        if (t->peer[i].id == t->peer[i - 1].id) {
            dr_peer_table_unref(t);
            return dr_fail(err, DR_INPUT, "a peer stands there twice");
        }
    }
    *out = t;
    return DR_OK;
}

enum dr_code dr_catalog_create(struct dr_catalog **out, struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = DR_OK;
    struct dr_catalog *c = dr_calloc(1, sizeof *c);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->refs = 1;
    rc = dr_alias_table_create(NULL, 0, &c->aliases, err);
    if (rc == DR_OK) {
        rc = dr_peer_table_create(NULL, 0, &c->peers, err);
    }
    if (rc != DR_OK) {
        dr_catalog_unref(c);
        return rc;
    }
    *out = c;
    return DR_OK;
}

struct dr_catalog *dr_catalog_ref(const struct dr_catalog *c)
{
    struct dr_catalog *same = (struct dr_catalog *)c; /* only the counter is written */
    take(&same->refs);
    return same;
}

void dr_catalog_unref(struct dr_catalog *c)
{
    if (c == NULL || !give_back(&c->refs)) {
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        dr_collection_unref(c->collection[i]);
    }
    dr_free(c->collection);
    dr_alias_table_unref(c->aliases);
    dr_peer_table_unref(c->peers);
    dr_table_set_unref(c->tables);
    dr_free(c);
}

enum dr_code dr_catalog_clone(const struct dr_catalog *c, uint64_t index, uint32_t extra,
                              struct dr_catalog **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_catalog *copy = dr_calloc(1, sizeof *copy);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    copy->refs = 1;
    copy->index = index;
    copy->room = c->count + extra;
    copy->collection = dr_calloc(copy->room, sizeof(struct dr_collection *));
    if (copy->collection == NULL) {
        dr_catalog_unref(copy);
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < c->count; i++) {
        copy->collection[i] = dr_collection_ref(c->collection[i]);
    }
    copy->count = c->count;
    take(&c->aliases->refs);
    copy->aliases = c->aliases;
    take(&c->peers->refs);
    copy->peers = c->peers;
    copy->tables = dr_table_set_ref(c->tables);
    *out = copy;
    return DR_OK;
}

bool dr_catalog_position(const struct dr_catalog *c, const char *name, uint32_t *at_out)
{
    uint32_t from = 0;
    uint32_t upto = c->count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        int order = strcmp(c->collection[middle]->info.name, name);
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

void dr_catalog_put(struct dr_catalog *c, struct dr_collection *collection)
{
    uint32_t at = 0;
    if (dr_catalog_position(c, collection->info.name, &at)) {
        dr_collection_unref(c->collection[at]);
        c->collection[at] = collection;
        return;
    }
    assert(c->count < c->room);
    memmove(c->collection + at + 1, c->collection + at,
            (c->count - at) * sizeof(struct dr_collection *));
    c->collection[at] = collection;
    c->count++;
}

void dr_catalog_take_out(struct dr_catalog *c, uint32_t at)
{
    assert(at < c->count);
    dr_collection_unref(c->collection[at]);
    c->count--;
    memmove(c->collection + at, c->collection + at + 1,
            (c->count - at) * sizeof(struct dr_collection *));
}

const struct dr_collection *dr_catalog_collection(const struct dr_catalog *c, uint32_t i)
{
    assert(i < c->count);
    return c->collection[i];
}

uint64_t dr_catalog_index(const struct dr_catalog *c)
{
    return c->index;
}

uint32_t dr_catalog_collection_count(const struct dr_catalog *c)
{
    return c->count;
}

const struct dr_collection_info *dr_catalog_collection_at(const struct dr_catalog *c, uint32_t i)
{
    return i < c->count ? &c->collection[i]->info : NULL;
}

const struct dr_collection_info *dr_catalog_find(const struct dr_catalog *c, const char *name)
{
    uint32_t at = 0;
    const struct dr_alias *alias = dr_alias_table_find(c->aliases, name);
    return dr_catalog_position(c, alias != NULL ? alias->collection : name, &at)
               ? &c->collection[at]->info
               : NULL;
}

uint32_t dr_catalog_alias_count(const struct dr_catalog *c)
{
    return c->aliases->count;
}

struct dr_alias dr_catalog_alias_at(const struct dr_catalog *c, uint32_t i)
{
    assert(i < c->aliases->count);
    return c->aliases->alias[i];
}

uint32_t dr_catalog_peer_count(const struct dr_catalog *c)
{
    return c->peers->count;
}

const struct dr_peer *dr_catalog_peer_at(const struct dr_catalog *c, uint32_t i)
{
    return i < c->peers->count ? &c->peers->peer[i] : NULL;
}

const struct dr_peer *dr_catalog_peer(const struct dr_catalog *c, uint64_t id)
{
    uint32_t from = 0;
    uint32_t upto = c->peers->count;
    while (from < upto) {
        uint32_t middle = from + (upto - from) / 2;
        if (c->peers->peer[middle].id < id) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    return from < c->peers->count && c->peers->peer[from].id == id ? &c->peers->peer[from] : NULL;
}

/* Nobody having announced anything is not a yes either: the gate is for what is known. */
bool dr_catalog_all_understand(const struct dr_catalog *c, uint32_t format)
{
    for (uint32_t i = 0; i < c->peers->count; i++) {
        if (c->peers->peer[i].format == 0 || c->peers->peer[i].format < format) {
            return false;
        }
    }
    return c->peers->count > 0;
}

enum dr_code dr_catalog_check_compatible(const struct dr_catalog *before,
                                         const struct dr_catalog *after, struct dr_err *err)
{
    for (uint32_t i = 0; i < before->count; i++) {
        const struct dr_collection_info *old = &before->collection[i]->info;
        uint32_t at = 0;
        if (!dr_catalog_position(after, old->name, &at) ||
            strcmp(after->collection[at]->info.uuid, old->uuid) != 0) {
            continue; /* deleted, or another one of that name: nothing to go on with */
        }
        enum dr_code rc = dr_catalog_check_method(old->name, old->method,
                                                  after->collection[at]->info.method, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}
