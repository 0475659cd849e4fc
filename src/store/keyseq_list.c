/* SPDX-License-Identifier: Apache-2.0 */
/* Owns lists of values: services, applications, metrics, users and those of a layout. A value is
 * named once, and looked up by hash, for a scan asks for every key it meets. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "store/keyseq_private.h"

enum { WHERE_BYTES = 512, VALUE_BYTES_MAX = 512 };

enum dr_code dr_keyseq_copy_text(const json_t *j, const char *where, struct dr_arena *a,
                                 const char **out, struct dr_err *err)
{
    const char *text = json_string_value(j);
    if (text == NULL) {
        return dr_fail(err, DR_INPUT, "%s: expected a text", where);
    }
    const size_t bytes = strlen(text);
    bool is_clean = bytes > 0 && bytes <= VALUE_BYTES_MAX;
    for (size_t i = 0; i < bytes && is_clean; i++) {
        is_clean = (unsigned char)text[i] >= ' ' && text[i] != 0x7f;
    }
    if (!is_clean) {
        return dr_fail(err, DR_INPUT,
                       "%s: expected a text of 1 to %d bytes without control characters", where,
                       VALUE_BYTES_MAX);
    }
    *out = dr_arena_memdup(a, text, bytes + 1);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* A "/" would make one field look like two; "N/A" is what the statistics write for "none". */
static enum dr_code check_value(const char *value, const char *where, bool is_service,
                                struct dr_err *err)
{
    assert(value != NULL);
    if (strchr(value, '/') != NULL && strcmp(value, "N/A") != 0) {
        return dr_fail(err, DR_INPUT, "%s: a value of a key cannot contain \"/\"", where);
    }
    if (is_service && strpbrk(value, "{}") != NULL) {
        return dr_fail(err, DR_INPUT, "%s: the name of a service cannot contain \"{\" or \"}\"",
                       where);
    }
    return DR_OK;
}

/* Place of a text in the table, or the free place where it belongs. */
static uint32_t find_slot(const struct keyseq_list *l, const char *text, size_t bytes)
{
    const uint32_t mask = l->slot_count - 1;
    uint32_t at = (uint32_t)XXH3_64bits(text, bytes) & mask;
    while (l->slot[at] != 0) {
        uint32_t i = l->slot[at] - 1;
        if (l->bytes[i] == bytes && memcmp(l->text[i], text, bytes) == 0) {
            break;
        }
        at = (at + 1) & mask;
    }
    return at;
}

bool dr_keyseq_has_value(const struct keyseq_list *l, const char *text, size_t bytes)
{
    return l->count > 0 && l->slot[find_slot(l, text, bytes)] != 0;
}

static enum dr_code add_value(struct dr_keyseq *s, struct keyseq_list *l, const json_t *j,
                              const char *where, struct dr_err *err)
{
    const char *text = NULL;
    enum dr_code rc = dr_keyseq_copy_text(j, where, s->arena, &text, err);
    if (rc == DR_OK) {
        rc = check_value(text, where, l == &s->list[LIST_SERVICE], err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    const uint32_t bytes = (uint32_t)strlen(text);
    uint32_t slot = find_slot(l, text, bytes);
    if (l->slot[slot] != 0) {
        return dr_fail(err, DR_INPUT, "%s: \"%.64s\" is named twice; name it once", where, text);
    }
    l->text[l->count] = text;
    l->bytes[l->count] = bytes;
    l->bytes_max = bytes > l->bytes_max ? bytes : l->bytes_max;
    l->slot[slot] = ++l->count;
    return DR_OK;
}

static enum dr_code make_room(struct dr_keyseq *s, struct keyseq_list *l, size_t count,
                              struct dr_err *err)
{
    l->slot_count = 4;
    while (l->slot_count < 2 * count) {
        l->slot_count *= 2;
    }
    l->text = dr_arena_alloc(s->arena, count * sizeof *l->text);
    l->bytes = dr_arena_alloc(s->arena, count * sizeof *l->bytes);
    l->slot = dr_arena_alloc(s->arena, l->slot_count * sizeof *l->slot);
    if (l->text == NULL || l->bytes == NULL || l->slot == NULL) {
        return dr_fail_nomem(err);
    }
    memset(l->slot, 0, l->slot_count * sizeof *l->slot);
    return DR_OK;
}

void dr_keyseq_read_list(struct dr_jr *r, const char *key, struct dr_keyseq *s, uint32_t at)
{
    const json_t *array = NULL;
    struct keyseq_list *l = &s->list[at];
    assert(at < KEYSEQ_LISTS_MAX && l->count == 0);
    if (!dr_jr_array(r, key, false, DR_KEYSEQ_VALUES_MAX, &array) || json_array_size(array) == 0) {
        return;
    }
    r->rc = make_room(s, l, json_array_size(array), r->err);
    for (size_t i = 0; r->rc == DR_OK && i < json_array_size(array); i++) {
        char where[WHERE_BYTES];
        (void)snprintf(where, sizeof where, "%.400s.%.64s[%zu]", r->path, key, i);
        r->rc = add_value(s, l, json_array_get(array, i), where, r->err);
    }
}
