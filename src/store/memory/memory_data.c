/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the registry of memory stores, their mutex and the data model; leaves walking to
 * memory_store.c and the functions for tests to memory_setup.c. Any thread, under the mutex. */
#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct dr_memory_store *registry;

void *dr_memory_grow(void *array, size_t count, size_t *room, size_t each)
{
    if (count < *room) {
        return array;
    }
    size_t more = *room == 0 ? 8 : *room * 2;
    void *fresh = dr_realloc(array, more * each);
    if (fresh != NULL) {
        *room = more;
    }
    return fresh;
}

static void destroy_store(struct dr_memory_store *m)
{
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->collection_count; i++) {
        struct dr_memory_collection *c = m->collection[i];
        for (size_t p = 0; p < c->part_count; p++) {
            for (size_t r = 0; r < c->part[p].count; r++) {
                dr_memory_row_destroy(c->part[p].row[r]);
            }
            dr_free(c->part[p].row);
        }
        dr_free(c->part);
        dr_free(c->chunk);
        dr_free(c);
    }
    dr_free(m->collection);
    dr_free(m->node);
    dr_free(m->index);
    dr_memory_free_records(m);
    dr_free(m->name);
    dr_arena_destroy(m->arena);
    dr_free(m);
}

/* The link that points to the store of this name, or to NULL at the end. */
static struct dr_memory_store **find_link(const char *name)
{
    struct dr_memory_store **link = &registry;
    while (*link != NULL && strcmp((*link)->name, name) != 0) {
        link = &(*link)->next;
    }
    return link;
}

void dr_memory_remove(const char *name)
{
    (void)pthread_mutex_lock(&registry_mutex);
    struct dr_memory_store **link = find_link(name);
    struct dr_memory_store *old = *link;
    if (old != NULL) {
        *link = old->next;
    }
    (void)pthread_mutex_unlock(&registry_mutex);
    destroy_store(old);
}

enum dr_code dr_memory_reset(const char *name)
{
    struct dr_memory_store *m = dr_calloc(1, sizeof *m);
    if (m == NULL) {
        return DR_NOMEM;
    }
    m->name = dr_strdup(name);
    m->arena = dr_arena_create(4096);
    if (m->name == NULL || m->arena == NULL) {
        destroy_store(m);
        return DR_NOMEM;
    }
    dr_memory_remove(name);
    (void)pthread_mutex_lock(&registry_mutex);
    m->next = registry;
    registry = m;
    (void)pthread_mutex_unlock(&registry_mutex);
    return DR_OK;
}

enum dr_code dr_memory_lock(const char *name, struct dr_memory_store **out, struct dr_err *err)
{
    (void)pthread_mutex_lock(&registry_mutex);
    *out = *find_link(name);
    if (*out == NULL) {
        (void)pthread_mutex_unlock(&registry_mutex);
        return dr_fail(err, DR_UNREACHABLE,
                       "memory:%s: no such store in this process; make it before opening it", name);
    }
    return DR_OK;
}

void dr_memory_unlock(void)
{
    (void)pthread_mutex_unlock(&registry_mutex);
}

struct dr_memory_node *dr_memory_find_node(const struct dr_memory_store *m, const char *node)
{
    for (size_t i = 0; i < m->node_count; i++) {
        if (strcmp(m->node[i].name, node) == 0) {
            return &m->node[i];
        }
    }
    return NULL;
}

struct dr_memory_collection *dr_memory_find_collection(const struct dr_memory_store *m,
                                                       const char *collection)
{
    for (size_t i = 0; i < m->collection_count; i++) {
        if (strcmp(m->collection[i]->name, collection) == 0) {
            return m->collection[i];
        }
    }
    return NULL;
}

bool dr_memory_is_there(const struct dr_memory_collection *c)
{
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->part[i].is_there) {
            return true;
        }
    }
    return false;
}

struct dr_memory_part *dr_memory_find_part(const struct dr_memory_collection *c, const char *node)
{
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->part[i].is_there && strcmp(c->part[i].node, node) == 0) {
            return &c->part[i];
        }
    }
    return NULL;
}

struct dr_memory_index *dr_memory_find_index(const struct dr_memory_store *m, const char *index)
{
    for (size_t i = 0; i < m->index_count; i++) {
        if (strcmp(m->index[i].name, index) == 0) {
            return &m->index[i];
        }
    }
    return NULL;
}

bool dr_memory_find_row(const struct dr_memory_part *p, int64_t id, size_t *at_out)
{
    size_t from = 0;
    size_t upto = p->count;
    while (from < upto) {
        size_t middle = from + (upto - from) / 2;
        if (p->row[middle]->id < id) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    *at_out = from;
    return from < p->count && p->row[from]->id == id;
}

const struct dr_value *dr_memory_field_of(const struct dr_memory_row *r, const char *field)
{
    if (strcmp(field, "id") == 0) {
        return &r->value[0];
    }
    size_t len = strlen(field);
    for (uint32_t i = 1; i + 1 < r->value_count; i += 2) {
        if (r->value[i].len == len && memcmp(r->value[i].data, field, len) == 0) {
            return &r->value[i + 1];
        }
    }
    return NULL;
}

void dr_memory_key_of(const struct dr_memory_row *r, const char *const *key, uint32_t key_count,
                      struct dr_bound *out)
{
    assert(key_count <= DR_KEY_PARTS_MAX);
    out->parts = key_count;
    for (uint32_t i = 0; i < key_count; i++) {
        const struct dr_value *v = dr_memory_field_of(r, key[i]);
        out->part[i] = (struct dr_value){.type = DR_V_NULL};
        if (v != NULL) {
            out->part[i] = *v;
        }
    }
}

int64_t dr_memory_hash_of(const struct dr_memory_collection *c, const struct dr_memory_row *r)
{
    if (c->sharding != DR_SHARDED_HASHED) {
        return 0;
    }
    struct dr_bound key;
    dr_memory_key_of(r, c->key, 1, &key);
    return dr_value_hash(&key.part[0]);
}

bool dr_memory_is_between(const struct dr_bound *at, const struct dr_bound *from,
                          const struct dr_bound *upto)
{
    if (from->parts > 0 && dr_bound_compare(at, from) < 0) {
        return false;
    }
    return upto->parts == 0 || dr_bound_compare(at, upto) < 0;
}

/* Is this the shape of a row: an integer, then pairs of text and something storable? */
static bool is_row_shape(const struct dr_value *v, uint32_t count)
{
    if (count % 2 != 1 || v[0].type != DR_V_INT) {
        return false;
    }
    for (uint32_t i = 1; i < count; i += 2) {
        if (v[i].type != DR_V_TEXT || v[i + 1].type == DR_V_MIN || v[i + 1].type == DR_V_MAX) {
            return false;
        }
    }
    return true;
}

enum dr_code dr_memory_row_create(const void *bytes, size_t byte_count, struct dr_memory_row **out,
                                  struct dr_err *err)
{
    *out = NULL;
    struct dr_value value[DR_MEMORY_ROW_VALUES_MAX];
    enum dr_code rc = DR_OK;
    struct dr_memory_row *r = dr_calloc(1, sizeof *r);
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    r->bytes = dr_memdup(bytes, byte_count);
    if (r->bytes == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    r->byte_count = byte_count;
    rc = dr_values_decode(r->bytes, byte_count, value, DR_MEMORY_ROW_VALUES_MAX, &r->value_count,
                          err);
    if (rc != DR_OK) {
        goto out;
    }
    if (r->value_count == 0 || !is_row_shape(value, r->value_count)) {
        rc = dr_fail(err, DR_CORRUPT,
                     "these bytes are no row of a memory store; verify the archive");
        goto out;
    }
    r->id = value[0].i;
    r->value = dr_memdup(value, r->value_count * sizeof value[0]);
    if (r->value == NULL) {
        rc = dr_fail_nomem(err);
    }
out:
    if (rc != DR_OK) {
        dr_memory_row_destroy(r);
        return rc;
    }
    *out = r;
    return DR_OK;
}

void dr_memory_row_destroy(struct dr_memory_row *r)
{
    if (r == NULL) {
        return;
    }
    dr_free(r->value);
    dr_free(r->bytes);
    dr_free(r);
}

enum dr_code dr_memory_insert_row(struct dr_memory_part *p, size_t at, struct dr_memory_row *r,
                                  struct dr_err *err)
{
    assert(at <= p->count);
    struct dr_memory_row **row =
        dr_memory_grow(p->row, p->count, &p->room, sizeof(struct dr_memory_row *));
    if (row == NULL) {
        return dr_fail_nomem(err);
    }
    p->row = row;
    memmove(row + at + 1, row + at, (p->count - at) * sizeof(struct dr_memory_row *));
    row[at] = r;
    p->count++;
    return DR_OK;
}

void dr_memory_sweep(struct dr_memory_part *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->row[i]->is_erased) {
            dr_memory_row_destroy(p->row[i]);
        } else {
            p->row[kept++] = p->row[i];
        }
    }
    p->count = kept;
}

enum dr_code dr_memory_make_part(struct dr_memory_store *m, struct dr_memory_collection *c,
                                 const char *node, struct dr_memory_part **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_memory_node *n = dr_memory_find_node(m, node);
    if (n == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "memory:%s: no node %s", m->name, node);
    }
    for (size_t i = 0; i < c->part_count; i++) {
        if (strcmp(c->part[i].node, node) == 0) {
            c->part[i].is_there = true;
            *out = &c->part[i];
            return DR_OK;
        }
    }
    struct dr_memory_part *part =
        dr_memory_grow(c->part, c->part_count, &c->part_room, sizeof *part);
    if (part == NULL) {
        return dr_fail_nomem(err);
    }
    c->part = part;
    part[c->part_count] = (struct dr_memory_part){.node = n->name, .is_there = true};
    *out = &part[c->part_count++];
    return DR_OK;
}

enum dr_code dr_memory_make_collection(struct dr_memory_store *m, const char *collection,
                                       const char *primary, struct dr_memory_collection **out,
                                       struct dr_err *err)
{
    *out = NULL;
    struct dr_memory_node *node = dr_memory_find_node(m, primary);
    if (node == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "memory:%s: no node %s", m->name, primary);
    }
    struct dr_memory_collection **all =
        dr_memory_grow(m->collection, m->collection_count, &m->collection_room,
                       sizeof(struct dr_memory_collection *));
    if (all == NULL) {
        return dr_fail_nomem(err);
    }
    m->collection = all;
    const char *name = dr_arena_strdup(m->arena, collection);
    struct dr_memory_collection *c = dr_calloc(1, sizeof *c);
    if (name == NULL || c == NULL) {
        dr_free(c);
        return dr_fail_nomem(err);
    }
    c->name = name;
    c->primary = node->name;
    c->epoch = 1;
    size_t at = m->collection_count; /* kept in order of names, as a survey tells them */
    while (at > 0 && strcmp(all[at - 1]->name, name) > 0) {
        all[at] = all[at - 1];
        at--;
    }
    all[at] = c;
    m->collection_count++;
    *out = c;
    return DR_OK;
}

enum dr_code dr_memory_make_index(struct dr_memory_store *m, const struct dr_memory_index *i,
                                  struct dr_err *err)
{
    assert(i->field_count <= DR_KEY_PARTS_MAX);
    struct dr_memory_index copy = *i;
    bool is_short = false;
    copy.name = dr_arena_strdup(m->arena, i->name);
    is_short = copy.name == NULL;
    if (i->collection != NULL) {
        copy.collection = dr_arena_strdup(m->arena, i->collection);
        is_short = is_short || copy.collection == NULL;
    }
    for (uint32_t f = 0; f < i->field_count; f++) {
        copy.field[f] = dr_arena_strdup(m->arena, i->field[f]);
        is_short = is_short || copy.field[f] == NULL;
    }
    struct dr_memory_index *all =
        dr_memory_grow(m->index, m->index_count, &m->index_room, sizeof *all);
    if (all == NULL || is_short) {
        m->index = all == NULL ? m->index : all;
        return dr_fail_nomem(err);
    }
    m->index = all;
    all[m->index_count++] = copy;
    return DR_OK;
}

void dr_memory_drop_index(struct dr_memory_store *m, const char *index)
{
    struct dr_memory_index *i = dr_memory_find_index(m, index);
    if (i != NULL) {
        size_t at = (size_t)(i - m->index);
        memmove(i, i + 1, (m->index_count - at - 1) * sizeof *i);
        m->index_count--;
    }
}
