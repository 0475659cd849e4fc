/* SPDX-License-Identifier: Apache-2.0 */
/* The survey of a memory store: copies of everything into the survey's arena, and the counts. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/memory/memory_private.h"

struct survey_counts {
    const struct dr_filter *filter;
    struct dr_survey *survey;
    struct dr_memory_store *m;
};

static const char *copy_text(struct dr_arena *a, const char *text, bool *is_short)
{
    const char *copy = dr_arena_strdup(a, text);
    *is_short = *is_short || copy == NULL;
    return copy;
}

static void copy_bound(struct dr_arena *a, const struct dr_bound *from, struct dr_bound *out,
                       bool *is_short)
{
    *out = *from;
    for (uint32_t i = 0; i < from->parts; i++) {
        struct dr_value *v = &out->part[i];
        if (v->type == DR_V_TEXT || v->type == DR_V_BLOB) {
            v->data = dr_arena_memdup(a, v->data, v->len);
            *is_short = *is_short || v->data == NULL;
        }
    }
}

/* A count that fails (a lying hash) leaves the chunk in the survey, marked as unknown. */
static void count_chunk(const struct survey_counts *s, const struct dr_memory_collection *c,
                        struct dr_chunk *chunk)
{
    struct dr_range range = {.node = chunk->node,
                             .collection = c->name,
                             .access = DR_BY_SCAN,
                             .from = chunk->from,
                             .upto = chunk->upto,
                             .filter = s->filter};
    if (c->sharding != DR_UNSHARDED) {
        range.access = c->sharding == DR_SHARDED_HASHED ? DR_BY_SHARD_HASHED : DR_BY_SHARD_RANGE;
        range.key_count = c->key_count;
        memcpy(range.key, c->key, sizeof range.key);
    }
    struct dr_memory_walk w;
    struct dr_err ignored;
    chunk->is_rows_known = dr_memory_walk_prepare(s->m, &range, &w, &ignored) == DR_OK &&
                           dr_memory_walk_count(&w, &chunk->rows, &ignored) == DR_OK;
    chunk->rows = chunk->is_rows_known ? chunk->rows : 0;
}

static bool survey_chunks(const struct survey_counts *s, const struct dr_memory_collection *c,
                          struct dr_collection *out)
{
    struct dr_arena *a = s->survey->arena;
    size_t count = c->sharding == DR_UNSHARDED ? 1 : c->chunk_count;
    bool is_short = false;
    struct dr_chunk *chunk = dr_arena_alloc(a, count * sizeof *chunk);
    if (chunk == NULL) {
        return false;
    }
    memset(chunk, 0, count * sizeof *chunk);
    for (size_t i = 0; i < count; i++) {
        const char *node = c->sharding == DR_UNSHARDED ? c->primary : c->chunk[i].node;
        chunk[i].node = copy_text(a, node, &is_short);
        if (c->sharding != DR_UNSHARDED) {
            copy_bound(a, &c->chunk[i].from, &chunk[i].from, &is_short);
            copy_bound(a, &c->chunk[i].upto, &chunk[i].upto, &is_short);
        }
        if (is_short) {
            return false;
        }
        count_chunk(s, c, &chunk[i]);
    }
    out->chunk_count = count;
    out->chunk = chunk;
    return true;
}

/* Indexes of one collection, and the text that makes it again together with them. */
static bool survey_indexes(const struct survey_counts *s, const struct dr_memory_collection *c,
                           struct dr_collection *out)
{
    struct dr_arena *a = s->survey->arena;
    bool is_short = false;
    struct dr_index *index = dr_arena_alloc(a, s->m->index_count * sizeof *index);
    if (index == NULL) {
        return false;
    }
    struct dr_str text;
    dr_str_init(&text);
    dr_str_addf(&text, "create collection %s", c->name);
    for (size_t i = 0; i < s->m->index_count; i++) {
        const struct dr_memory_index *from = &s->m->index[i];
        if (from->collection == NULL || strcmp(from->collection, c->name) != 0) {
            continue;
        }
        struct dr_index *to = &index[out->index_count++];
        *to = (struct dr_index){.is_unique = from->is_unique, .is_partial = from->is_partial};
        to->name = copy_text(a, from->name, &is_short);
        to->field_count = from->field_count;
        dr_str_addf(&text, "\ncreate %sindex %s on %s (", from->is_unique ? "unique " : "",
                    from->name, c->name);
        for (uint32_t f = 0; f < from->field_count; f++) {
            to->field[f] = copy_text(a, from->field[f], &is_short);
            dr_str_addf(&text, "%s%s", f == 0 ? "" : ", ", from->field[f]);
        }
        dr_str_addc(&text, ')');
    }
    out->index = index;
    out->create_text = copy_text(a, dr_str_text(&text), &is_short);
    out->drop_text = dr_arena_printf(a, "drop collection %s", c->name);
    is_short = is_short || text.is_short || out->drop_text == NULL;
    dr_str_fini(&text);
    return !is_short;
}

static bool survey_collection(const struct survey_counts *s, const struct dr_memory_collection *c,
                              struct dr_collection *out)
{
    bool is_short = false;
    *out = (struct dr_collection){
        .sharding = c->sharding,
        .key_count = c->key_count,
        .epoch = c->epoch,
        .is_view = (c->flags & DR_MEMORY_VIEW) != 0,
        .is_system = (c->flags & DR_MEMORY_SYSTEM) != 0,
        .has_triggers = (c->flags & DR_MEMORY_TRIGGERS) != 0,
        .has_reference = (c->flags & DR_MEMORY_REFERENCE) != 0,
    };
    out->name = copy_text(s->survey->arena, c->name, &is_short);
    for (uint32_t i = 0; i < c->key_count; i++) {
        out->key[i] = copy_text(s->survey->arena, c->key[i], &is_short);
    }
    for (size_t p = 0; p < c->part_count; p++) {
        for (size_t r = 0; c->part[p].is_there && r < c->part[p].count; r++) {
            struct dr_memory_row *row = c->part[p].row[r];
            out->rows_total++;
            out->bytes_total += row->byte_count;
            out->rows_matched +=
                s->filter == NULL || dr_filter_match(s->filter, dr_memory_find_in_row, row) ? 1 : 0;
        }
    }
    return !is_short && survey_chunks(s, c, out) && survey_indexes(s, c, out);
}

enum dr_code dr_memory_survey(struct dr_memory_store *m, const char *database,
                              const struct dr_filter *filter, struct dr_survey *survey,
                              struct dr_err *err)
{
    struct survey_counts s = {.filter = filter, .survey = survey, .m = m};
    size_t length = strlen(database);
    bool is_short = false;
    survey->node = dr_arena_alloc(survey->arena, m->node_count * sizeof *survey->node);
    survey->collection =
        dr_arena_alloc(survey->arena, m->collection_count * sizeof *survey->collection);
    is_short = survey->node == NULL || survey->collection == NULL;
    for (size_t i = 0; !is_short && i < m->node_count; i++) {
        survey->node[survey->node_count++] = copy_text(survey->arena, m->node[i].name, &is_short);
    }
    for (size_t i = 0; !is_short && i < m->collection_count; i++) {
        const struct dr_memory_collection *c = m->collection[i];
        if (strncmp(c->name, database, length) == 0 && c->name[length] == '.' &&
            dr_memory_is_there(c)) {
            is_short = !survey_collection(&s, c, &survey->collection[survey->collection_count++]);
        }
    }
    return is_short ? dr_fail_nomem(err) : DR_OK;
}
