/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the question what a key is. Strict: a key that is not exactly as the layout would write it
 * is somebody else's, for what is erased by mistake is worse than what is left. */
#include <string.h>

#include "base/str.h"
#include "store/keyseq_private.h"

struct piece {
    const char *text;
    size_t bytes;
};

static bool is_absent(const char *text, size_t bytes)
{
    return bytes == 3 && memcmp(text, "N/A", 3) == 0;
}

const char *dr_keyseq_find_exclude(const struct dr_keyseq *s, const char *text)
{
    for (uint32_t i = 0; i < s->exclude_count; i++) {
        if (dr_glob_match(s->exclude[i], text)) {
            return s->exclude[i];
        }
    }
    return NULL;
}

/* The field at `at` up to the next "/", or with the one of "N/A". */
static size_t measure_field(const struct keyseq_segment *g, const char *at, const char *end)
{
    size_t whole = g->head_bytes + 3 + g->tail_bytes;
    if (g->list >= 0 && (size_t)(end - at) >= whole && is_absent(at + g->head_bytes, 3) &&
        memcmp(at + g->head_bytes + 3, g->tail, g->tail_bytes) == 0 &&
        (at + whole == end || at[whole] == '/')) {
        return whole;
    }
    const char *slash = memchr(at, '/', (size_t)(end - at));
    return (size_t)((slash == NULL ? end : slash) - at);
}

/* Does a value fit its dimension at all? What a layout lists is complete. */
static bool is_value(const struct dr_keyseq *s, int32_t list, const char *text, size_t bytes)
{
    if (bytes == 0) {
        return false;
    }
    if (list == LIST_SERVICE) {
        return memchr(text, '{', bytes) == NULL && memchr(text, '}', bytes) == NULL;
    }
    return list < LIST_OF_LAYOUT || is_absent(text, bytes) ||
           dr_keyseq_has_value(&s->list[list], text, bytes);
}

/* Cut the stem along a section's segments; value[list] is set for each dimension. */
static bool match_stem(const struct dr_keyseq *s, const struct keyseq_section *sec, const char *at,
                       const char *end, struct piece *value)
{
    for (uint32_t i = 0; i < sec->segment_count; i++) {
        const struct keyseq_segment *g = &sec->segment[i];
        size_t bytes = measure_field(g, at, end);
        size_t fixed = g->head_bytes + g->tail_bytes;
        if (bytes < fixed || memcmp(at, g->head, g->head_bytes) != 0 ||
            memcmp(at + bytes - g->tail_bytes, g->tail, g->tail_bytes) != 0) {
            return false;
        }
        if (g->list < 0) {
            if (bytes != fixed) {
                return false;
            }
        } else {
            struct piece *v = &value[g->list];
            *v = (struct piece){at + g->head_bytes, bytes - fixed};
            if (!is_value(s, g->list, v->text, v->bytes)) {
                return false;
            }
        }
        at += bytes;
        if (i + 1 < sec->segment_count) {
            if (at == end) {
                return false;
            }
            at++; /* the "/" that ended the field */
        }
    }
    return at == end;
}

/* "day:20191216" as one of the section's periods. */
static bool match_period(const struct keyseq_section *sec, const char *text, size_t bytes,
                         enum dr_period *p_out, int64_t *start_out)
{
    const char *colon = memchr(text, ':', bytes);
    size_t name = colon == NULL ? bytes : (size_t)(colon - text);
    if (!dr_keyseq_period_parse(text, name, p_out)) {
        return false;
    }
    bool is_known = false;
    for (uint32_t i = 0; i < sec->period_count; i++) {
        is_known = is_known || sec->period[i] == *p_out;
    }
    if (!is_known) {
        return false;
    }
    if (*p_out == DR_P_ETERNITY) {
        return colon == NULL;
    }
    return colon != NULL && dr_keyseq_period_read(*p_out, colon + 1, bytes - name - 1, start_out);
}

static bool is_selected(const struct dr_keyseq *s, const struct keyseq_section *sec,
                        const struct piece *value, enum dr_period p, int64_t start)
{
    for (uint32_t i = 0; i < sec->dim_count; i++) {
        const uint32_t at = sec->dim[i];
        const struct keyseq_list *l = &s->list[at];
        bool is_any = at >= LIST_OF_LAYOUT || (at != LIST_SERVICE && l->count == 0);
        if (!is_any && !dr_keyseq_has_value(l, value[at].text, value[at].bytes)) {
            return false;
        }
    }
    if (!s->has_period || p == DR_P_ETERNITY) {
        return true;
    }
    int64_t number = dr_keyseq_period_number(p, start);
    return number >= s->first[p] && (uint64_t)(number - s->first[p]) < s->periods[p];
}

enum dr_key_kind dr_keyseq_classify(const struct dr_keyseq *s, const char *key, size_t bytes)
{
    char text[DR_KEYSEQ_KEY_BYTES_MAX];
    if (bytes >= sizeof text || bytes < s->prefix_bytes ||
        memcmp(key, s->prefix, s->prefix_bytes) != 0 || memchr(key, '\0', bytes) != NULL) {
        return DR_KEY_ALIEN;
    }
    memcpy(text, key, bytes);
    text[bytes] = '\0';
    const char *slash = strrchr(text, '/');
    if (slash == NULL || dr_keyseq_find_exclude(s, text) != NULL) {
        return DR_KEY_ALIEN;
    }
    for (uint32_t i = 0; i < s->section_count; i++) {
        const struct keyseq_section *sec = &s->section[i];
        struct piece value[KEYSEQ_LISTS_MAX];
        enum dr_period p;
        int64_t start = 0;
        if (match_stem(s, sec, text, slash, value)) { /* no key fits two sections */
            if (!match_period(sec, slash + 1, (size_t)(text + bytes - slash - 1), &p, &start)) {
                return DR_KEY_ALIEN;
            }
            return is_selected(s, sec, value, p, start) ? DR_KEY_SELECTED : DR_KEY_OTHER;
        }
    }
    return DR_KEY_ALIEN;
}
