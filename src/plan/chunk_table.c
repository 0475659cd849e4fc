/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of chunks: what lies where before anything is erased, chunk by chunk, summed up
 * by shard and over all. It shows the survey, also what the plan leaves out. Pure. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan_private.h"

enum { COLUMNS = 7, NUMBER_BYTES = 40, BOUND_WIDTH_MAX = 40, BYTES_PER_MB = 1024 * 1024 };

struct sum {
    const char *shard; /* NULL: all */
    uint64_t chunks, bytes, rows;
    bool are_rows_known;
};

struct sums {
    uint32_t count;
    struct sum *shard; /* sorted by name */
    struct sum all;
};

static int compare_sums(const void *a, const void *b)
{
    return strcmp(((const struct sum *)a)->shard, ((const struct sum *)b)->shard);
}

static void add_chunk(struct sum *s, const struct dr_chunk *chunk)
{
    s->chunks++;
    s->bytes += chunk->bytes;
    s->rows += chunk->rows;
    s->are_rows_known = s->are_rows_known && chunk->is_rows_known;
}

static void add_to_shard(struct sums *s, const struct dr_chunk *chunk)
{
    const struct sum key = {.shard = chunk->node};
    struct sum *found = bsearch(&key, s->shard, s->count, sizeof key, compare_sums);
    if (found != NULL) {
        add_chunk(found, chunk);
    }
    add_chunk(&s->all, chunk);
}

/* Free `shard` with dr_free. */
static enum dr_code sum_up(const struct dr_plan *p, struct sums *s, struct dr_err *err)
{
    s->all = (struct sum){.are_rows_known = true};
    s->count = p->survey->node_count;
    s->shard = dr_calloc((size_t)s->count + 1, sizeof *s->shard);
    if (s->shard == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        s->shard[i] = (struct sum){.shard = p->survey->node[i], .are_rows_known = true};
    }
    qsort(s->shard, s->count, sizeof *s->shard, compare_sums);
    for (uint32_t i = 0; i < p->pick_count; i++) {
        const struct dr_collection *c = p->pick[i].collection;
        for (uint64_t k = 0; k < c->chunk_count; k++) {
            add_to_shard(s, &c->chunk[k]);
        }
    }
    return DR_OK;
}

/* --- for people ------------------------------------------------------------------------------ */

struct row {
    const char *cell[COLUMNS];
    char number[NUMBER_BYTES], size[NUMBER_BYTES], rows[NUMBER_BYTES];
    struct dr_str from, upto;
};

static const char *const heads[COLUMNS] = {"COLLECTION", "SHARD", "CHUNK",    "MIN",
                                           "MAX",        "MB",    "DOCUMENTS"};

/* Bytes of 0 are unknown unless nothing is there. */
static const char *show_size(uint64_t bytes, uint64_t rows, bool is_known, char *buf, size_t room)
{
    if (bytes == 0 && (rows > 0 || !is_known)) {
        return "?";
    }
    (void)snprintf(buf, room, "%.2f", (double)bytes / BYTES_PER_MB);
    return buf;
}

static const char *show_rows(uint64_t rows, bool is_known, char *buf, size_t room)
{
    return is_known ? dr_human_count(rows, buf, room) : "?";
}

static void fill_row(const struct dr_collection *c, uint64_t k, struct row *r)
{
    const struct dr_chunk *chunk = &c->chunk[k];
    bool is_plain = c->sharding == DR_UNSHARDED;
    dr_str_clear(&r->from);
    dr_str_clear(&r->upto);
    if (!is_plain) {
        dr_print_bound(&chunk->from, "MinKey", &r->from);
        dr_print_bound(&chunk->upto, "MaxKey", &r->upto);
    }
    (void)snprintf(r->number, sizeof r->number, "%" PRIu64, k + 1);
    r->cell[0] = c->name;
    r->cell[1] = chunk->node;
    r->cell[2] = r->number;
    r->cell[3] = is_plain ? "-" : dr_str_text(&r->from);
    r->cell[4] = is_plain ? "-" : dr_str_text(&r->upto);
    r->cell[5] =
        show_size(chunk->bytes, chunk->rows, chunk->is_rows_known, r->size, sizeof r->size);
    r->cell[6] = show_rows(chunk->rows, chunk->is_rows_known, r->rows, sizeof r->rows);
}

static void measure(const struct row *r, size_t *width)
{
    for (int i = 0; i < COLUMNS; i++) {
        size_t length = dr_print_width(r->cell[i]);
        bool is_bound = i == 3 || i == 4;
        length = is_bound && length > BOUND_WIDTH_MAX ? BOUND_WIDTH_MAX : length;
        width[i] = length > width[i] ? length : width[i];
    }
}

static void add_row(struct dr_str *out, const char *const *cell, const size_t *width)
{
    for (int i = 0; i < COLUMNS; i++) {
        dr_str_add(out, i > 0 ? "  " : "");
        dr_print_cell(out, cell[i], width[i], i == 2 || i >= 5);
    }
    dr_str_addc(out, '\n');
}

/* One walk over the first `shown` chunks: measures when `out` is NULL, prints otherwise. */
static void walk_rows(const struct dr_plan *p, uint64_t shown, struct row *r, size_t *width,
                      struct dr_str *out)
{
    uint64_t done = 0;
    for (uint32_t i = 0; i < p->pick_count; i++) {
        const struct dr_collection *c = p->pick[i].collection;
        for (uint64_t k = 0; k < c->chunk_count && done < shown; k++, done++) {
            fill_row(c, k, r);
            if (out == NULL) {
                measure(r, width);
            } else {
                add_row(out, r->cell, width);
            }
        }
    }
}

static void add_sum(struct dr_str *out, const struct sum *s, size_t width)
{
    char chunks[NUMBER_BYTES], size[NUMBER_BYTES], rows[NUMBER_BYTES];
    dr_print_cell(out, s->shard == NULL ? "all" : s->shard, width, false);
    dr_str_addf(out, "  %s chunk%s, %s MB, %s%s documents\n",
                dr_human_count(s->chunks, chunks, sizeof chunks), s->chunks == 1 ? "" : "s",
                show_size(s->bytes, s->rows, s->are_rows_known, size, sizeof size),
                s->are_rows_known ? "" : ">= ", dr_human_count(s->rows, rows, sizeof rows));
}

static void add_sums(struct dr_str *out, const struct sums *s)
{
    size_t width = strlen("all");
    for (uint32_t i = 0; i < s->count; i++) {
        size_t length = dr_print_width(s->shard[i].shard);
        width = length > width ? length : width;
    }
    dr_str_add(out, "\nby shard:\n");
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->shard[i].chunks > 0) {
            add_sum(out, &s->shard[i], width);
        }
    }
    add_sum(out, &s->all, width);
}

enum dr_code dr_chunk_table_print(const struct dr_plan *p, uint64_t rows_max, struct dr_str *out,
                                  struct dr_err *err)
{
    struct sums s = {0};
    struct row r = {0};
    size_t width[COLUMNS];
    char more[NUMBER_BYTES];
    enum dr_code rc = sum_up(p, &s, err);
    if (rc != DR_OK || s.all.chunks == 0) {
        dr_free(s.shard);
        return rc;
    }
    dr_str_init(&r.from);
    dr_str_init(&r.upto);
    for (int i = 0; i < COLUMNS; i++) {
        width[i] = strlen(heads[i]);
    }
    uint64_t shown = rows_max == 0 || rows_max > s.all.chunks ? s.all.chunks : rows_max;
    walk_rows(p, shown, &r, width, NULL);
    dr_str_addc(out, '\n');
    add_row(out, heads, width);
    walk_rows(p, shown, &r, width, out);
    if (shown < s.all.chunks) {
        dr_str_addf(out, "... %s more\n", dr_human_count(s.all.chunks - shown, more, sizeof more));
    }
    add_sums(out, &s);
    if (r.from.is_short || r.upto.is_short) {
        rc = dr_fail_nomem(err);
    }
    dr_str_fini(&r.from);
    dr_str_fini(&r.upto);
    dr_free(s.shard);
    return rc;
}

/* --- for programs ---------------------------------------------------------------------------- */

static json_t *number(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static json_t *sum_json(const struct sum *s)
{
    json_t *o = json_pack("{s:s?, s:o, s:o, s:o, s:b}", "shard", s->shard, "chunks",
                          number(s->chunks), "bytes", number(s->bytes), "documents",
                          number(s->rows), "documents_known", (int)s->are_rows_known);
    if (o != NULL && s->shard == NULL) {
        (void)json_object_del(o, "shard");
    }
    return o;
}

static json_t *chunk_json(const struct dr_collection *c, uint64_t k)
{
    const struct dr_chunk *chunk = &c->chunk[k];
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "collection", c->name, "shard",
                     chunk->node, "chunk", number(k + 1), "min", dr_bound_to_json(&chunk->from),
                     "max", dr_bound_to_json(&chunk->upto), "bytes",
                     chunk->bytes > 0 || (chunk->is_rows_known && chunk->rows == 0)
                         ? number(chunk->bytes)
                         : json_null(),
                     "documents", chunk->is_rows_known ? number(chunk->rows) : json_null());
}

static bool append_chunks(const struct dr_plan *p, json_t *list)
{
    for (uint32_t i = 0; i < p->pick_count; i++) {
        const struct dr_collection *c = p->pick[i].collection;
        for (uint64_t k = 0; k < c->chunk_count; k++) {
            if (json_array_append_new(list, chunk_json(c, k)) != 0) {
                return false;
            }
        }
    }
    return true;
}

enum dr_code dr_chunk_table_to_json(const struct dr_plan *p, bool with_chunks, json_t **out,
                                    struct dr_err *err)
{
    struct sums s = {0};
    json_t *shards = json_array();
    json_t *list = with_chunks ? json_array() : NULL;
    *out = NULL;
    enum dr_code rc = sum_up(p, &s, err);
    bool is_short = shards == NULL || (with_chunks && list == NULL);
    for (uint32_t i = 0; rc == DR_OK && !is_short && i < s.count; i++) {
        is_short = s.shard[i].chunks > 0 && json_array_append_new(shards, sum_json(&s.shard[i]));
    }
    if (rc == DR_OK && !is_short && with_chunks) {
        is_short = !append_chunks(p, list);
    }
    if (rc == DR_OK && !is_short) {
        *out =
            json_pack("{s:O, s:o, s:O*}", "shards", shards, "all", sum_json(&s.all), "list", list);
        is_short = *out == NULL;
    }
    json_decref(shards);
    json_decref(list);
    dr_free(s.shard);
    return rc == DR_OK && is_short ? dr_fail_nomem(err) : rc;
}
