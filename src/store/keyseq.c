/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the making of a key sequence from a job, and its size. A finished sequence is read-only, so
 * any thread may read it. Walking is keyseq_walk.c, recognising keyseq_match.c. */
#include "store/keyseq.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "store/keyseq_private.h"

enum { WHERE_BYTES = 512, ARENA_BLOCK_BYTES = 16 * 1024 };

static const int64_t at_max = 253402300799; /* the last second of the year 9999 */

/* --- reading --------------------------------------------------------------------------------- */

static enum dr_code read_moment(const json_t *j, const char *path, const char *key, int64_t *out,
                                struct dr_err *err)
{
    if (!json_is_integer(j)) {
        return dr_fail(err, DR_INPUT, "%s.%s: not a number of seconds since 1970 (UTC)", path, key);
    }
    *out = json_integer_value(j);
    if (*out <= 0 || *out > at_max) {
        return dr_fail(err, DR_INPUT, "%s.%s: %lld is no time: expected 1 to %lld seconds", path,
                       key, (long long)*out, (long long)at_max);
    }
    return DR_OK;
}

static enum dr_code read_period(const json_t *job, const char *path, struct dr_keyseq *s,
                                struct dr_err *err)
{
    const json_t *from = json_object_get(job, "from");
    const json_t *to = json_object_get(job, "to");
    if (from == NULL && to == NULL) {
        return DR_OK;
    }
    if (from == NULL || to == NULL) {
        return dr_fail(err, DR_INPUT, "%s.%s: missing; a period needs \"from\" and \"to\"", path,
                       from == NULL ? "from" : "to");
    }
    enum dr_code rc = read_moment(from, path, "from", &s->from, err);
    if (rc == DR_OK) {
        rc = read_moment(to, path, "to", &s->to, err);
    }
    if (rc == DR_OK && s->from > s->to) {
        rc = dr_fail(err, DR_INPUT, "%s.from: out of order: it is later than \"to\"", path);
    }
    if (rc != DR_OK) {
        return rc;
    }
    s->has_period = true;
    for (unsigned p = 0; p < KEYSEQ_PERIODS; p++) {
        s->first[p] = dr_keyseq_period_number((enum dr_period)p, s->from);
        s->periods[p] =
            (uint64_t)(dr_keyseq_period_number((enum dr_period)p, s->to) - s->first[p]) + 1;
    }
    return DR_OK;
}

static enum dr_code read_lists(const json_t *job, const char *path, struct dr_keyseq *s,
                               struct dr_err *err)
{
    static const char *const key[LIST_OF_LAYOUT] = {"services", "applications", "metrics", "users"};
    static const char *const dim[LIST_OF_LAYOUT] = {"service", "application", "metric", "user"};
    struct dr_jr r;
    dr_jr_init(&r, job, path, err);
    for (uint32_t i = 0; i < LIST_OF_LAYOUT; i++) {
        s->list[i].dim = dim[i];
        dr_keyseq_read_list(&r, key[i], s, i);
    }
    s->list_count = LIST_OF_LAYOUT;
    bool is_marked = false;
    (void)dr_jr_bool(&r, "marked", false, &is_marked);
    if (r.rc == DR_OK && s->list[LIST_SERVICE].count == 0 && !is_marked) {
        r.rc = dr_fail(err, DR_INPUT,
                       "%s.services: no service is named; name one, or say \"marked\": true", path);
    }
    return r.rc;
}

/* --- checks that need lists and layout ------------------------------------------------------- */

static enum dr_code check_excluded(const struct dr_keyseq *s, const struct keyseq_segment *g,
                                   const char *path, struct dr_err *err)
{
    const struct keyseq_list *l = g->list < 0 ? NULL : &s->list[g->list];
    for (uint32_t i = 0; i < (l == NULL ? 1 : l->count); i++) {
        char text[DR_KEYSEQ_KEY_BYTES_MAX];
        (void)snprintf(text, sizeof text, "%.*s%s%.*s", (int)g->head_bytes, g->head,
                       l == NULL ? "" : l->text[i], (int)g->tail_bytes, g->tail);
        const char *exclude = dr_keyseq_find_exclude(s, text);
        if (exclude != NULL) {
            return dr_fail(err, DR_INPUT,
                           "%s: keys with \"%.128s\" are excluded by the layout's \"%s\"", path,
                           text, exclude);
        }
    }
    return DR_OK;
}

static enum dr_code check_section(const struct dr_keyseq *s, const struct keyseq_section *sec,
                                  const char *path, struct dr_err *err)
{
    size_t bytes = sec->segment_count + KEYSEQ_PERIOD_BYTES_MAX;
    for (uint32_t i = 0; i < sec->segment_count; i++) {
        const struct keyseq_segment *g = &sec->segment[i];
        bytes += g->head_bytes + g->tail_bytes + (g->list < 0 ? 0 : s->list[g->list].bytes_max);
    }
    if (bytes > DR_KEYSEQ_KEY_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "%s: keys of \"%.256s\" could be longer than %d bytes", path,
                       sec->path, DR_KEYSEQ_KEY_BYTES_MAX);
    }
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < sec->segment_count; i++) {
        rc = check_excluded(s, &sec->segment[i], path, err);
    }
    return rc;
}

/* --- size ------------------------------------------------------------------------------------ */

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product;
    bool is_over = __builtin_mul_overflow(a, b, &product);
    return is_over || product > INT64_MAX ? INT64_MAX : product;
}

static void count_section(const struct dr_keyseq *s, struct keyseq_section *sec)
{
    for (uint32_t i = 0; s->has_period && i < sec->period_count; i++) {
        sec->per_stem += s->periods[sec->period[i]];
    }
    sec->per_service = sec->per_stem;
    for (uint32_t i = 0; i < sec->dim_count; i++) {
        if (sec->dim[i] != LIST_SERVICE) {
            sec->per_service = multiply(sec->per_service, s->list[sec->dim[i]].count);
        }
    }
}

static void count_keys(struct dr_keyseq *s)
{
    for (uint32_t i = 0; i < s->section_count; i++) {
        count_section(s, &s->section[i]);
        uint64_t sum = s->per_service + s->section[i].per_service; /* two times INT64_MAX fits */
        s->per_service = sum > INT64_MAX ? INT64_MAX : sum;
    }
    s->count = multiply(s->per_service, s->list[LIST_SERVICE].count);
}

/* --- patterns -------------------------------------------------------------------------------- */

static void add_escaped(struct dr_str *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\0' && strchr("*?[]^\\", text[i]) != NULL) {
            dr_str_addc(out, '\\');
        }
        dr_str_addc(out, text[i]);
    }
}

/* The text of the first section up to and with the service: all sections begin alike. */
static void add_pattern(const struct dr_keyseq *s, uint32_t service, struct dr_str *out)
{
    const struct keyseq_section *sec = &s->section[0];
    const struct keyseq_list *l = &s->list[LIST_SERVICE];
    for (uint32_t i = 0; i < sec->segment_count; i++) {
        const struct keyseq_segment *g = &sec->segment[i];
        dr_str_add(out, i > 0 ? "/" : "");
        add_escaped(out, g->head, g->head_bytes);
        if (g->list == LIST_SERVICE) {
            add_escaped(out, l->text[service], l->bytes[service]);
            add_escaped(out, g->tail, g->tail_bytes);
            break;
        }
    }
    dr_str_addc(out, '*');
}

static enum dr_code make_patterns(struct dr_keyseq *s, struct dr_err *err)
{
    const uint32_t count = s->list[LIST_SERVICE].count;
    struct dr_str text;
    dr_str_init(&text);
    add_escaped(&text, s->prefix, s->prefix_bytes);
    dr_str_addc(&text, '*');
    s->pattern_all = dr_arena_strdup(s->arena, dr_str_text(&text));
    s->pattern = dr_arena_alloc(s->arena, ((size_t)count + 1) * sizeof *s->pattern);
    bool is_short = text.is_short || s->pattern_all == NULL || s->pattern == NULL;
    for (uint32_t i = 0; i < count && !is_short; i++) {
        dr_str_clear(&text);
        add_pattern(s, i, &text);
        s->pattern[i] = dr_arena_strdup(s->arena, dr_str_text(&text));
        is_short = text.is_short || s->pattern[i] == NULL;
    }
    dr_str_fini(&text);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

/* --- life ------------------------------------------------------------------------------------ */

static enum dr_code fill_sequence(const json_t *job, const char *path, struct dr_keyseq *s,
                                  struct dr_err *err)
{
    const json_t *layout = json_object_get(job, "layout");
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "%.400s.layout", path);
    enum dr_code rc = read_lists(job, path, s, err);
    if (rc == DR_OK) {
        rc = read_period(job, path, s, err);
    }
    if (rc == DR_OK && layout != NULL && !json_is_object(layout)) {
        rc = dr_fail(err, DR_INPUT, "%s: expected an object", where);
    }
    if (rc == DR_OK) {
        rc = dr_keyseq_read_layout(layout, where, s, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < s->section_count; i++) {
        rc = check_section(s, &s->section[i], path, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    count_keys(s);
    return make_patterns(s, err);
}

enum dr_code dr_keyseq_create(const json_t *job, const char *path, struct dr_keyseq **out,
                              struct dr_err *err)
{
    *out = NULL;
    struct dr_keyseq *s = dr_calloc(1, sizeof *s);
    if (s == NULL) {
        return dr_fail_nomem(err);
    }
    s->arena = dr_arena_create(ARENA_BLOCK_BYTES);
    enum dr_code rc = s->arena == NULL ? dr_fail_nomem(err) : fill_sequence(job, path, s, err);
    if (rc != DR_OK) {
        dr_keyseq_destroy(s);
        return rc;
    }
    *out = s;
    return DR_OK;
}

void dr_keyseq_destroy(struct dr_keyseq *s)
{
    if (s == NULL) {
        return;
    }
    dr_arena_destroy(s->arena);
    dr_free(s);
}

uint64_t dr_keyseq_count(const struct dr_keyseq *s)
{
    return s->count;
}

uint32_t dr_keyseq_service_count(const struct dr_keyseq *s)
{
    return s->list[LIST_SERVICE].count;
}

const char *dr_keyseq_service(const struct dr_keyseq *s, uint32_t i)
{
    return i < s->list[LIST_SERVICE].count ? s->list[LIST_SERVICE].text[i] : NULL;
}

const char *dr_keyseq_pattern(const struct dr_keyseq *s, uint32_t i)
{
    if (i == UINT32_MAX) {
        return s->pattern_all;
    }
    return i < s->list[LIST_SERVICE].count ? s->pattern[i] : NULL;
}

const char *dr_keyseq_marked_set(const struct dr_keyseq *s)
{
    return s->marked_set;
}
