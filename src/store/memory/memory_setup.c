/* SPDX-License-Identifier: Apache-2.0 */
/* The functions by which tests make, change and look at memory stores. Any thread. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

/* Lock the store and find the collection; on any failure nothing is locked. */
static enum dr_code lock_collection(const char *name, const char *collection,
                                    struct dr_memory_store **m_out,
                                    struct dr_memory_collection **c_out)
{
    *c_out = NULL;
    enum dr_code rc = dr_memory_lock(name, m_out, NULL);
    if (rc != DR_OK) {
        return rc;
    }
    *c_out = dr_memory_find_collection(*m_out, collection);
    if (*c_out == NULL) {
        dr_memory_unlock();
        return DR_NOT_FOUND;
    }
    return DR_OK;
}

enum dr_code dr_memory_add_node(const char *name, const char *node)
{
    struct dr_memory_store *m = NULL;
    enum dr_code rc = dr_memory_lock(name, &m, NULL);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_memory_node *all = NULL;
    const char *copy = NULL;
    if (dr_memory_find_node(m, node) != NULL) {
        rc = DR_EXISTS;
        goto out;
    }
    all = dr_memory_grow(m->node, m->node_count, &m->node_room, sizeof *all);
    copy = dr_arena_strdup(m->arena, node);
    m->node = all == NULL ? m->node : all;
    if (all == NULL || copy == NULL) {
        rc = DR_NOMEM;
        goto out;
    }
    all[m->node_count++] = (struct dr_memory_node){.name = copy, .is_ok = true, .reason = ""};
out:
    dr_memory_unlock();
    return rc;
}

enum dr_code dr_memory_add_collection(const char *name, const char *collection,
                                      enum dr_sharding sharding, const char *const *key,
                                      uint32_t key_count, const char *primary)
{
    bool is_key_right = key_count <= DR_KEY_PARTS_MAX &&
                        (sharding == DR_UNSHARDED) == (key_count == 0) &&
                        (sharding != DR_SHARDED_HASHED || key_count == 1);
    if (!is_key_right) {
        return DR_INPUT;
    }
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = dr_memory_lock(name, &m, NULL);
    if (rc != DR_OK) {
        return rc;
    }
    if (dr_memory_find_collection(m, collection) != NULL) {
        rc = DR_EXISTS;
        goto out;
    }
    rc = dr_memory_make_collection(m, collection, primary, &c, NULL);
    if (rc != DR_OK) {
        goto out;
    }
    c->sharding = sharding;
    for (uint32_t i = 0; i < key_count; i++) {
        c->key[i] = dr_arena_strdup(m->arena, key[i]);
        if (c->key[i] == NULL) {
            rc = DR_NOMEM;
            goto out;
        }
    }
    c->key_count = key_count;
    for (size_t i = 0; rc == DR_OK && i < m->node_count; i++) {
        struct dr_memory_part *part = NULL;
        /* An unsharded collection stands on its primary only. */
        if (sharding != DR_UNSHARDED || strcmp(m->node[i].name, primary) == 0) {
            rc = dr_memory_make_part(m, c, m->node[i].name, &part, NULL);
        }
    }
out:
    dr_memory_unlock();
    return rc;
}

static enum dr_code copy_bound(struct dr_arena *a, const struct dr_bound *from,
                               struct dr_bound *out)
{
    *out = *from;
    for (uint32_t i = 0; i < from->parts; i++) {
        struct dr_value *v = &out->part[i];
        if (v->type == DR_V_TEXT || v->type == DR_V_BLOB) {
            v->data = dr_arena_memdup(a, v->data, v->len);
            if (v->data == NULL) {
                return DR_NOMEM;
            }
        }
    }
    return DR_OK;
}

enum dr_code dr_memory_add_chunk(const char *name, const char *collection, const char *node,
                                 const struct dr_bound *from, const struct dr_bound *upto)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, &m, &c);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_memory_part *part = NULL;
    struct dr_memory_chunk *all = NULL;
    struct dr_memory_chunk fresh = {0};
    rc = dr_memory_make_part(m, c, node, &part, NULL);
    if (rc == DR_OK) {
        rc = copy_bound(m->arena, from, &fresh.from);
    }
    if (rc == DR_OK) {
        rc = copy_bound(m->arena, upto, &fresh.upto);
    }
    if (rc != DR_OK) {
        goto out;
    }
    all = dr_memory_grow(c->chunk, c->chunk_count, &c->chunk_room, sizeof *all);
    if (all == NULL) {
        rc = DR_NOMEM;
        goto out;
    }
    c->chunk = all;
    fresh.node = part->node;
    size_t at = c->chunk_count++; /* kept in order of bounds, as a survey tells them */
    while (at > 0 && dr_bound_compare(&all[at - 1].from, &fresh.from) > 0) {
        all[at] = all[at - 1];
        at--;
    }
    all[at] = fresh;
out:
    dr_memory_unlock();
    return rc;
}

enum dr_code dr_memory_add_index(const char *name, const char *collection, const char *index,
                                 const char *const *field, uint32_t field_count, bool is_unique,
                                 bool is_partial)
{
    if (field_count == 0 || field_count > DR_KEY_PARTS_MAX) {
        return DR_INPUT;
    }
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, &m, &c);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_memory_index fresh = {.name = index,
                                    .collection = collection,
                                    .field_count = field_count,
                                    .is_unique = is_unique,
                                    .is_partial = is_partial};
    for (uint32_t i = 0; i < field_count; i++) {
        fresh.field[i] = field[i];
    }
    rc = dr_memory_find_index(m, index) != NULL ? DR_EXISTS : dr_memory_make_index(m, &fresh, NULL);
    dr_memory_unlock();
    return rc;
}

enum dr_code dr_memory_set_flags(const char *name, const char *collection, unsigned flags)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, &m, &c);
    if (rc == DR_OK) {
        c->flags = flags;
        dr_memory_unlock();
    }
    return rc;
}

static enum dr_code make_row(int64_t id, const struct dr_memory_field *field, uint32_t field_count,
                             struct dr_memory_row **out)
{
    *out = NULL;
    struct dr_value value[DR_MEMORY_ROW_VALUES_MAX];
    value[0] = (struct dr_value){.type = DR_V_INT, .i = id};
    for (uint32_t i = 0; i < field_count; i++) {
        value[1 + 2 * i] = (struct dr_value){
            .type = DR_V_TEXT, .data = field[i].name, .len = strlen(field[i].name)};
        value[2 + 2 * i] = field[i].value;
    }
    struct dr_str bytes;
    dr_str_init(&bytes);
    dr_values_encode(value, 1 + 2 * field_count, &bytes);
    enum dr_code rc =
        bytes.is_short ? DR_NOMEM : dr_memory_row_create(bytes.data, bytes.len, out, NULL);
    dr_str_fini(&bytes);
    return rc;
}

enum dr_code dr_memory_put(const char *name, const char *collection, const char *node, int64_t id,
                           const struct dr_memory_field *field, uint32_t field_count)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    struct dr_memory_part *part = NULL;
    struct dr_memory_row *row = NULL;
    size_t at = 0;
    if (field_count > DR_MEMORY_FIELDS_MAX) {
        return DR_INPUT;
    }
    enum dr_code rc = make_row(id, field, field_count, &row);
    if (rc != DR_OK) {
        return rc;
    }
    rc = lock_collection(name, collection, &m, &c);
    if (rc != DR_OK) {
        dr_memory_row_destroy(row);
        return rc;
    }
    rc = dr_memory_make_part(m, c, node, &part, NULL);
    if (rc != DR_OK) {
        goto out;
    }
    row->stored_hash = dr_memory_hash_of(c, row);
    if (dr_memory_find_row(part, id, &at)) {
        dr_memory_row_destroy(part->row[at]);
        part->row[at] = row;
    } else {
        rc = dr_memory_insert_row(part, at, row, NULL);
    }
    m->version++;
out:
    dr_memory_unlock();
    if (rc != DR_OK) {
        dr_memory_row_destroy(row);
    }
    return rc;
}

/* Lock the store and find the row; on any failure nothing is locked. */
static enum dr_code lock_row(const char *name, const char *collection, const char *node, int64_t id,
                             struct dr_memory_store **m_out, struct dr_memory_part **part_out,
                             size_t *at_out)
{
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, m_out, &c);
    if (rc != DR_OK) {
        return rc;
    }
    *part_out = dr_memory_find_part(c, node);
    if (*part_out == NULL || !dr_memory_find_row(*part_out, id, at_out)) {
        dr_memory_unlock();
        return DR_NOT_FOUND;
    }
    return DR_OK;
}

enum dr_code dr_memory_delete(const char *name, const char *collection, const char *node,
                              int64_t id)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_part *part = NULL;
    size_t at = 0;
    enum dr_code rc = lock_row(name, collection, node, id, &m, &part, &at);
    if (rc == DR_OK) {
        part->row[at]->is_erased = true;
        dr_memory_sweep(part);
        m->version++;
        dr_memory_unlock();
    }
    return rc;
}

enum dr_code dr_memory_set_hash(const char *name, const char *collection, const char *node,
                                int64_t id, int64_t hash)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_part *part = NULL;
    size_t at = 0;
    enum dr_code rc = lock_row(name, collection, node, id, &m, &part, &at);
    if (rc == DR_OK) {
        part->row[at]->stored_hash = hash;
        m->version++;
        dr_memory_unlock();
    }
    return rc;
}

static bool is_in_chunk(const struct dr_memory_collection *c, const struct dr_memory_chunk *chunk,
                        const struct dr_memory_row *r)
{
    struct dr_bound at = {.parts = 1};
    if (c->sharding == DR_SHARDED_HASHED) {
        at.part[0] = (struct dr_value){.type = DR_V_INT, .i = r->stored_hash};
    } else {
        dr_memory_key_of(r, c->key, c->key_count, &at);
    }
    return dr_memory_is_between(&at, &chunk->from, &chunk->upto);
}

/* Move the rows one by one; the ids were checked before. */
static enum dr_code move_rows(const struct dr_memory_collection *c,
                              const struct dr_memory_chunk *chunk, struct dr_memory_part *source,
                              struct dr_memory_part *target)
{
    size_t at = 0;
    size_t i = 0;
    for (i = 0; i < source->count; i++) {
        if (is_in_chunk(c, chunk, source->row[i]) &&
            dr_memory_find_row(target, source->row[i]->id, &at)) {
            return DR_CONFLICT;
        }
    }
    enum dr_code rc = DR_OK;
    size_t kept = 0;
    for (i = 0; i < source->count; i++) {
        struct dr_memory_row *r = source->row[i];
        if (rc == DR_OK && is_in_chunk(c, chunk, r)) {
            (void)dr_memory_find_row(target, r->id, &at);
            rc = dr_memory_insert_row(target, at, r, NULL);
            if (rc == DR_OK) {
                continue;
            }
        }
        source->row[kept++] = r;
    }
    source->count = kept;
    return rc;
}

enum dr_code dr_memory_move_chunk(const char *name, const char *collection,
                                  const struct dr_bound *from, const char *node)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, &m, &c);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_memory_chunk *chunk = NULL;
    struct dr_memory_part *target = NULL;
    struct dr_memory_part *source = NULL;
    for (size_t i = 0; i < c->chunk_count; i++) {
        if (dr_bound_compare(&c->chunk[i].from, from) == 0) {
            chunk = &c->chunk[i];
        }
    }
    if (chunk == NULL) {
        rc = DR_NOT_FOUND;
        goto out;
    }
    rc = dr_memory_make_part(m, c, node, &target, NULL); /* may move the array of parts */
    if (rc != DR_OK) {
        goto out;
    }
    source = dr_memory_find_part(c, chunk->node);
    if (source != NULL && source != target) {
        rc = move_rows(c, chunk, source, target);
    }
    if (rc == DR_OK) {
        chunk->node = target->node;
        c->epoch++;
        m->version++;
    }
out:
    dr_memory_unlock();
    return rc;
}

enum dr_code dr_memory_bump_epoch(const char *name, const char *collection)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    enum dr_code rc = lock_collection(name, collection, &m, &c);
    if (rc == DR_OK) {
        c->epoch++;
        dr_memory_unlock();
    }
    return rc;
}

enum dr_code dr_memory_set_health(const char *name, const char *node, bool is_ok,
                                  const char *reason)
{
    struct dr_memory_store *m = NULL;
    enum dr_code rc = dr_memory_lock(name, &m, NULL);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_memory_node *n = dr_memory_find_node(m, node);
    const char *copy = dr_arena_strdup(m->arena, reason == NULL ? "" : reason);
    if (n == NULL) {
        rc = DR_NOT_FOUND;
    } else if (copy == NULL) {
        rc = DR_NOMEM;
    } else {
        n->is_ok = is_ok;
        n->reason = copy;
    }
    dr_memory_unlock();
    return rc;
}

uint64_t dr_memory_count(const char *name, const char *collection, const char *node)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    uint64_t rows = 0;
    if (lock_collection(name, collection, &m, &c) == DR_OK) {
        for (size_t i = 0; i < c->part_count; i++) {
            if (node == NULL || strcmp(c->part[i].node, node) == 0) {
                rows += c->part[i].count;
            }
        }
        dr_memory_unlock();
    }
    return rows;
}

bool dr_memory_has_row(const char *name, const char *collection, const char *node, int64_t id)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_part *part = NULL;
    size_t at = 0;
    if (lock_row(name, collection, node, id, &m, &part, &at) != DR_OK) {
        return false;
    }
    dr_memory_unlock();
    return true;
}

/* FNV-1a; small, and independent of the hash that chunks are made with. */
static uint64_t mix_bytes(uint64_t sum, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        sum = (sum ^ at[i]) * 0x100000001b3U;
    }
    return sum;
}

uint64_t dr_memory_checksum(const char *name, const char *collection)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    uint64_t sum = 0;
    if (lock_collection(name, collection, &m, &c) == DR_OK) {
        for (size_t i = 0; i < c->part_count; i++) {
            const struct dr_memory_part *p = &c->part[i];
            uint64_t seed = mix_bytes(0xcbf29ce484222325U, p->node, strlen(p->node) + 1);
            for (size_t r = 0; r < p->count; r++) {
                uint64_t one = mix_bytes(seed, p->row[r]->bytes, p->row[r]->byte_count);
                sum += one ^ (one >> 29);
            }
        }
        dr_memory_unlock();
    }
    return sum;
}

bool dr_memory_has_index(const char *name, const char *index)
{
    struct dr_memory_store *m = NULL;
    if (dr_memory_lock(name, &m, NULL) != DR_OK) {
        return false;
    }
    bool is_found = dr_memory_find_index(m, index) != NULL;
    dr_memory_unlock();
    return is_found;
}

bool dr_memory_has_collection(const char *name, const char *collection)
{
    struct dr_memory_store *m = NULL;
    struct dr_memory_collection *c = NULL;
    if (lock_collection(name, collection, &m, &c) != DR_OK) {
        return false;
    }
    bool is_found = dr_memory_is_there(c);
    dr_memory_unlock();
    return is_found;
}
