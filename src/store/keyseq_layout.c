/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the layout: how keys are made of fields. Whatever could make one key belong to two sections,
 * or a service's keys not begin alike, is refused here, so that nothing behind has to think of it.
 */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "store/keyseq_private.h"

enum { WHERE_BYTES = 512, DIM_BYTES_MAX = 32 };

#define HEAD "{\"path\":\"stats/{service:$service}"
#define FOR_SERVICES "\",\"periods\":[\"eternity\",\"month\",\"week\",\"day\",\"hour\"]}"
#define FOR_OTHERS "\",\"periods\":[\"eternity\",\"year\",\"month\",\"week\",\"day\",\"hour\"]}"

/* 3scale's statistics. Keys of minutes are not named: they expire by themselves. */
static const char shipped[] =
    "{\"sections\":[" HEAD "/metric:$metric" FOR_SERVICES "," HEAD
    "/response_code:$code" FOR_SERVICES "," HEAD "/cinstance:$application/metric:$metric" FOR_OTHERS
    "," HEAD "/cinstance:$application/response_code:$code" FOR_OTHERS "," HEAD
    "/uinstance:$user/metric:$metric" FOR_OTHERS "," HEAD
    "/uinstance:$user/response_code:$code" FOR_OTHERS "],"
    "\"values\":{\"code\":[\"200\",\"2XX\",\"403\",\"404\",\"4XX\",\"500\",\"503\",\"5XX\"]},"
    "\"exclude\":[\"*cinstances*\"],\"prefix\":\"stats/\","
    "\"marked_set\":\"set_with_services_marked_for_deletion\"}";

/* --- values ---------------------------------------------------------------------------------- */

static bool is_dim_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz_");
    return length > 0 && length <= DIM_BYTES_MAX && name[length] == '\0';
}

static int32_t find_list(const struct dr_keyseq *s, const char *dim, size_t bytes)
{
    for (uint32_t i = 0; i < s->list_count; i++) {
        if (strlen(s->list[i].dim) == bytes && memcmp(s->list[i].dim, dim, bytes) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static enum dr_code read_values(const json_t *values, const char *path, struct dr_keyseq *s,
                                struct dr_err *err)
{
    char where[WHERE_BYTES];
    struct dr_jr r;
    (void)snprintf(where, sizeof where, "%.400s.values", path);
    dr_jr_init(&r, values, where, err);
    json_t *object = (json_t *)values; /* iterating does not change it */
    for (void *at = json_object_iter(object); r.rc == DR_OK && at != NULL;
         at = json_object_iter_next(object, at)) {
        const char *name = json_object_iter_key(at);
        if (!is_dim_name(name) || find_list(s, name, strlen(name)) >= 0) {
            return dr_fail(err, DR_INPUT,
                           "%s: \"%.64s\" cannot name a dimension: it is taken, or not of a to z "
                           "and _",
                           where, name);
        }
        if (s->list_count == KEYSEQ_LISTS_MAX) {
            return dr_fail(err, DR_INPUT, "%s: at most %d lists are accepted", where,
                           KEYSEQ_LISTS_MAX - LIST_OF_LAYOUT);
        }
        s->list[s->list_count].dim = dr_arena_strdup(s->arena, name);
        if (s->list[s->list_count].dim == NULL) {
            return dr_fail_nomem(err);
        }
        dr_keyseq_read_list(&r, name, s, s->list_count++);
    }
    return r.rc;
}

/* --- paths ----------------------------------------------------------------------------------- */

/* "{service:$service}": text, at most one dimension, text. */
static enum dr_code cut_segment(struct dr_keyseq *s, struct keyseq_section *sec, const char *text,
                                size_t bytes, const char *where, struct dr_err *err)
{
    struct keyseq_segment *g = &sec->segment[sec->segment_count++];
    const char *dollar = memchr(text, '$', bytes);
    *g = (struct keyseq_segment){.head = text, .tail = "", .list = -1};
    g->head_bytes = (uint32_t)(dollar == NULL ? bytes : (size_t)(dollar - text));
    if (bytes == 0) {
        return dr_fail(err, DR_INPUT, "%s: nothing between two \"/\"", where);
    }
    if (dollar == NULL) {
        return DR_OK;
    }
    size_t left = bytes - g->head_bytes - 1;
    size_t length = 0;
    while (length < left &&
           (islower((unsigned char)dollar[1 + length]) != 0 || dollar[1 + length] == '_')) {
        length++;
    }
    g->tail = dollar + 1 + length;
    g->tail_bytes = (uint32_t)(left - length);
    g->list = find_list(s, dollar + 1, length);
    if (g->list < 0) {
        return dr_fail(err, DR_INPUT, "%s: \"$%.*s\" is no dimension", where, (int)length,
                       dollar + 1);
    }
    if (memchr(g->tail, '$', g->tail_bytes) != NULL) {
        return dr_fail(err, DR_INPUT, "%s: two dimensions without a \"/\" between them", where);
    }
    for (uint32_t i = 0; i < sec->dim_count; i++) {
        if (sec->dim[i] == (uint32_t)g->list) {
            return dr_fail(err, DR_INPUT, "%s: \"$%s\" is named twice", where,
                           s->list[g->list].dim);
        }
    }
    if (sec->dim_count == KEYSEQ_DIMS_MAX) {
        return dr_fail(err, DR_INPUT, "%s: at most %d dimensions are accepted", where,
                       KEYSEQ_DIMS_MAX);
    }
    sec->dim[sec->dim_count++] = (uint32_t)g->list;
    return DR_OK;
}

static enum dr_code cut_path(struct dr_keyseq *s, struct keyseq_section *sec, const char *where,
                             struct dr_err *err)
{
    const char *at = sec->path;
    enum dr_code rc = DR_OK;
    assert(at != NULL && s->prefix != NULL);
    while (rc == DR_OK && at != NULL) {
        const char *slash = strchr(at, '/');
        size_t bytes = slash == NULL ? strlen(at) : (size_t)(slash - at);
        if (sec->segment_count == KEYSEQ_SEGMENTS_MAX) {
            return dr_fail(err, DR_INPUT, "%s: at most %d fields are accepted", where,
                           KEYSEQ_SEGMENTS_MAX);
        }
        rc = cut_segment(s, sec, at, bytes, where, err);
        at = slash == NULL ? NULL : slash + 1;
    }
    if (rc == DR_OK && (sec->dim_count == 0 || sec->dim[0] != LIST_SERVICE)) {
        rc = dr_fail(err, DR_INPUT, "%s: $service must be the first dimension", where);
    }
    if (rc == DR_OK && strncmp(sec->path, s->prefix, s->prefix_bytes) != 0) {
        rc = dr_fail(err, DR_INPUT, "%s: does not begin with the prefix \"%s\"", where, s->prefix);
    }
    return rc;
}

static enum dr_code read_periods(const json_t *periods, struct keyseq_section *sec,
                                 const char *where, struct dr_err *err)
{
    for (size_t i = 0; i < json_array_size(periods); i++) {
        const char *name = json_string_value(json_array_get(periods, i));
        enum dr_period p;
        if (name == NULL || !dr_keyseq_period_parse(name, strlen(name), &p)) {
            return dr_fail(err, DR_INPUT,
                           "%s: known periods are eternity, year, month, week, day and hour",
                           where);
        }
        for (uint32_t k = 0; k < sec->period_count; k++) {
            if (sec->period[k] == p) {
                return dr_fail(err, DR_INPUT, "%s: \"%s\" is named twice", where, name);
            }
        }
        sec->period[sec->period_count++] = p;
    }
    return sec->period_count > 0 ? DR_OK : dr_fail(err, DR_INPUT, "%s: no period", where);
}

/* --- sections side by side ------------------------------------------------------------------- */

/* Can one text be both? Errs towards yes. */
static bool can_be_same(const struct keyseq_segment *a, const struct keyseq_segment *b)
{
    if (a->list < 0 && b->list < 0) {
        return a->head_bytes == b->head_bytes && memcmp(a->head, b->head, a->head_bytes) == 0;
    }
    if (a->list < 0 || b->list < 0) {
        const struct keyseq_segment *fixed = a->list < 0 ? a : b;
        const struct keyseq_segment *open = a->list < 0 ? b : a;
        return fixed->head_bytes > open->head_bytes + open->tail_bytes &&
               memcmp(fixed->head, open->head, open->head_bytes) == 0 &&
               memcmp(fixed->head + fixed->head_bytes - open->tail_bytes, open->tail,
                      open->tail_bytes) == 0;
    }
    uint32_t head = a->head_bytes < b->head_bytes ? a->head_bytes : b->head_bytes;
    uint32_t tail = a->tail_bytes < b->tail_bytes ? a->tail_bytes : b->tail_bytes;
    return memcmp(a->head, b->head, head) == 0 &&
           memcmp(a->tail + a->tail_bytes - tail, b->tail + b->tail_bytes - tail, tail) == 0;
}

static bool can_overlap(const struct keyseq_section *a, const struct keyseq_section *b)
{
    bool is_same = a->segment_count == b->segment_count;
    for (uint32_t i = 0; is_same && i < a->segment_count; i++) {
        is_same = can_be_same(&a->segment[i], &b->segment[i]);
    }
    return is_same;
}

/* Bytes of the path up to and with the segment of the service. */
static size_t bytes_to_service(const struct keyseq_section *sec)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < sec->segment_count; i++) {
        const struct keyseq_segment *g = &sec->segment[i];
        bytes = (size_t)(g->tail + g->tail_bytes - sec->path);
        if (g->list == LIST_SERVICE) {
            break;
        }
    }
    return bytes;
}

static enum dr_code compare_sections(const struct dr_keyseq *s, const struct keyseq_section *sec,
                                     const char *where, struct dr_err *err)
{
    const struct keyseq_section *first = &s->section[0];
    size_t bytes = bytes_to_service(sec);
    if (bytes != bytes_to_service(first) || memcmp(sec->path, first->path, bytes) != 0) {
        return dr_fail(err, DR_INPUT,
                       "%s: all sections must begin alike, up to the field of $service", where);
    }
    for (const struct keyseq_section *other = first; other < sec; other++) {
        if (can_overlap(other, sec)) {
            return dr_fail(err, DR_INPUT, "%s: the same key could belong to \"%s\" and \"%s\"",
                           where, other->path, sec->path);
        }
    }
    return DR_OK;
}

/* --- excludes -------------------------------------------------------------------------------- */

static bool ends_like(const char *name, const char *text, size_t bytes)
{
    size_t length = strlen(name);
    return bytes <= length && strncasecmp(name + length - bytes, text, bytes) == 0;
}

/* "*TEXT*" where TEXT cannot stretch over two fields nor meet a period: so whether a generated key
 * is excluded is seen by its single fields. */
static bool is_exclude(const char *pattern)
{
    size_t bytes = strlen(pattern);
    if (bytes < 3 || pattern[0] != '*' || pattern[bytes - 1] != '*' ||
        memchr(pattern + 1, '*', bytes - 2) != NULL || strpbrk(pattern, "?/") != NULL) {
        return false;
    }
    bytes -= 2;
    const char *text = pattern + 1;
    for (unsigned p = 0; p < KEYSEQ_PERIODS; p++) {
        const char *name = dr_keyseq_period_name((enum dr_period)p);
        if (strcasestr(name, text) == NULL && !ends_like(name, text, bytes)) {
            size_t rest = bytes;
            while (rest > 0 && isdigit((unsigned char)text[rest - 1]) != 0) {
                rest--;
            }
            if (rest > 0 && (text[rest - 1] != ':' || !ends_like(name, text, rest - 1))) {
                continue;
            }
        }
        return false;
    }
    return true;
}

static enum dr_code read_excludes(const json_t *list, const char *path, struct dr_keyseq *s,
                                  struct dr_err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[WHERE_BYTES];
        (void)snprintf(where, sizeof where, "%.400s.exclude[%zu]", path, i);
        enum dr_code rc =
            dr_keyseq_copy_text(json_array_get(list, i), where, s->arena, &s->exclude[i], err);
        if (rc != DR_OK) {
            return rc;
        }
        if (!is_exclude(s->exclude[i])) {
            return dr_fail(err, DR_INPUT,
                           "%s: expected \"*TEXT*\", TEXT without *, ? and / and no part of a "
                           "period's name or digits",
                           where);
        }
        s->exclude_count++;
    }
    return DR_OK;
}

/* --- the layout ------------------------------------------------------------------------------ */

static enum dr_code read_section(const json_t *j, const char *where, struct dr_keyseq *s,
                                 struct dr_err *err)
{
    struct keyseq_section *sec = &s->section[s->section_count];
    const json_t *path = NULL;
    const json_t *periods = NULL;
    struct dr_jr r;
    dr_jr_init(&r, j, where, err);
    (void)dr_jr_any(&r, "path", true, &path);
    (void)dr_jr_array(&r, "periods", true, KEYSEQ_PERIODS, &periods);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK) {
        rc = dr_keyseq_copy_text(path, where, s->arena, &sec->path, err);
    }
    if (rc == DR_OK) {
        rc = cut_path(s, sec, where, err);
    }
    if (rc == DR_OK) {
        rc = read_periods(periods, sec, where, err);
    }
    if (rc == DR_OK) {
        rc = compare_sections(s, sec, where, err);
    }
    s->section_count += rc == DR_OK;
    return rc;
}

/* What the job's layout does not say is as shipped. */
static enum dr_code merge_layout(const json_t *layout, json_t **out, struct dr_err *err)
{
    json_t *all = json_loads(shipped, 0, NULL);
    *out = all;
    if (all == NULL || (layout != NULL && json_object_update(all, (json_t *)layout) != 0)) {
        return dr_fail_nomem(err);
    }
    return DR_OK;
}

static enum dr_code read_texts(const json_t *prefix, const json_t *marked, const char *path,
                               struct dr_keyseq *s, struct dr_err *err)
{
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "%.400s.marked_set", path);
    enum dr_code rc = dr_keyseq_copy_text(marked, where, s->arena, &s->marked_set, err);
    if (rc == DR_OK) {
        (void)snprintf(where, sizeof where, "%.400s.prefix", path);
        rc = dr_keyseq_copy_text(prefix, where, s->arena, &s->prefix, err);
    }
    s->prefix_bytes = rc == DR_OK ? strlen(s->prefix) : 0;
    return rc;
}

enum dr_code dr_keyseq_read_layout(const json_t *layout, const char *path, struct dr_keyseq *s,
                                   struct dr_err *err)
{
    const json_t *sections = NULL;
    const json_t *values = NULL;
    const json_t *excludes = NULL;
    const json_t *prefix = NULL;
    const json_t *marked = NULL;
    const json_t *types = NULL;
    json_t *all = NULL;
    struct dr_jr r;
    assert(s->list_count == LIST_OF_LAYOUT);
    enum dr_code rc = merge_layout(layout, &all, err);
    if (rc != DR_OK) {
        goto out;
    }
    dr_jr_init(&r, all, path, err);
    (void)dr_jr_array(&r, "sections", true, DR_KEYSEQ_SECTIONS_MAX, &sections);
    (void)dr_jr_object(&r, "values", true, &values);
    (void)dr_jr_array(&r, "exclude", true, KEYSEQ_EXCLUDES_MAX, &excludes);
    (void)dr_jr_any(&r, "prefix", true, &prefix);
    (void)dr_jr_any(&r, "marked_set", true, &marked);
    (void)dr_jr_any(&r, "types", false, &types); /* what the keys may hold: the adapter's own */
    rc = dr_jr_finish(&r);
    if (rc == DR_OK && json_array_size(sections) == 0) {
        rc = dr_fail(err, DR_INPUT, "%s.sections: at least one is needed", path);
    }
    if (rc == DR_OK) {
        rc = read_texts(prefix, marked, path, s, err);
    }
    if (rc == DR_OK) {
        rc = read_excludes(excludes, path, s, err);
    }
    if (rc == DR_OK) {
        rc = read_values(values, path, s, err);
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(sections); i++) {
        char where[WHERE_BYTES];
        (void)snprintf(where, sizeof where, "%.400s.sections[%zu]", path, i);
        rc = read_section(json_array_get(sections, i), where, s, err);
    }
out:
    json_decref(all);
    return rc;
}
