/* SPDX-License-Identifier: Apache-2.0 */
/* Owns positions in a key sequence: from an offset to a key by division, then from key to key by
 * changing the digits of the period. Only when the fields change is the position computed anew. */
#include <assert.h>
#include <string.h>

#include "store/keyseq_private.h"

/* Digits of the calendar day in a key; hours follow them. */
enum { DAY_DIGITS = 8, DAY_S = 86400, HOUR_S = 3600 };

static size_t add_text(char *key, size_t at, const char *text, size_t bytes)
{
    assert(at + bytes < DR_KEYSEQ_KEY_BYTES_MAX); /* dr_keyseq_create refused longer ones */
    memcpy(key + at, text, bytes);
    return at + bytes;
}

/* "/day:", or "/eternity" */
static size_t add_period_name(char *key, size_t at, enum dr_period p)
{
    const char *name = dr_keyseq_period_name(p);
    key[at++] = '/';
    at = add_text(key, at, name, strlen(name));
    return p == DR_P_ETERNITY ? at : add_text(key, at, ":", 1);
}

static enum dr_period period_of(const struct dr_keyseq_at *at)
{
    return at->seq->section[at->section].period[at->period];
}

/* The fields in front of the period; returns their length. */
static size_t write_stem(struct dr_keyseq_at *at)
{
    const struct keyseq_section *sec = &at->seq->section[at->section];
    size_t bytes = 0;
    uint32_t dim = 0;
    for (uint32_t i = 0; i < sec->segment_count; i++) {
        const struct keyseq_segment *g = &sec->segment[i];
        if (i > 0) {
            at->key[bytes++] = '/';
        }
        bytes = add_text(at->key, bytes, g->head, g->head_bytes);
        if (g->list >= 0) {
            const struct keyseq_list *l = &at->seq->list[g->list];
            uint64_t index = at->index[dim++];
            bytes = add_text(at->key, bytes, l->text[index], l->bytes[index]);
            bytes = add_text(at->key, bytes, g->tail, g->tail_bytes);
        }
    }
    return bytes;
}

static void find_values(struct dr_keyseq_at *at, uint64_t service, uint64_t stem)
{
    const struct keyseq_section *sec = &at->seq->section[at->section];
    for (uint32_t i = sec->dim_count; i-- > 0;) {
        uint64_t count = at->seq->list[sec->dim[i]].count;
        if (sec->dim[i] == LIST_SERVICE) {
            at->index[i] = service;
        } else {
            at->index[i] = stem % count;
            stem /= count;
        }
    }
    assert(stem == 0);
}

void dr_keyseq_seek(struct dr_keyseq_at *at, const struct dr_keyseq *s, uint64_t offset)
{
    at->seq = s;
    at->offset = offset < s->count ? offset : s->count;
    at->key[0] = '\0';
    at->stem_bytes = 0;
    if (at->offset == s->count) {
        return;
    }
    uint64_t service = at->offset / s->per_service;
    uint64_t rest = at->offset % s->per_service;
    for (at->section = 0; rest >= s->section[at->section].per_service; at->section++) {
        rest -= s->section[at->section].per_service;
    }
    const struct keyseq_section *sec = &s->section[at->section];
    at->in_section = rest;
    find_values(at, service, rest / sec->per_stem);
    rest %= sec->per_stem;
    for (at->period = 0; rest >= s->periods[sec->period[at->period]]; at->period++) {
        rest -= s->periods[sec->period[at->period]];
    }
    enum dr_period p = sec->period[at->period];
    at->in_period = rest;
    at->start = dr_keyseq_period_start(p, s->first[p] + (int64_t)rest);
    at->stem_bytes = add_period_name(at->key, write_stem(at), p);
    at->key[at->stem_bytes] = '\0'; /* no digits yet */
}

/* Digits of the next key's period behind the stem. An hour that does not begin a day shares its day
 * with the key before. */
static size_t write_digits(struct dr_keyseq_at *at, enum dr_period p)
{
    if (p == DR_P_ETERNITY) {
        return at->stem_bytes;
    }
    char *digits = at->key + at->stem_bytes;
    if (p != DR_P_HOUR || at->in_period == 0 || at->start % DAY_S == 0 || digits[0] == '\0') {
        return at->stem_bytes + dr_keyseq_period_write(at->start, digits);
    }
    unsigned hour = (unsigned)(at->start % DAY_S / HOUR_S);
    digits[DAY_DIGITS] = (char)('0' + hour / 10);
    digits[DAY_DIGITS + 1] = (char)('0' + hour % 10);
    return at->stem_bytes + DAY_DIGITS + (hour % 10 == 0 ? 1 : 2);
}

/* Behind the last period of its kind: the next kind of the same stem, or the next stem. */
static void leave_period(struct dr_keyseq_at *at)
{
    const struct keyseq_section *sec = &at->seq->section[at->section];
    enum dr_period old = sec->period[at->period];
    if (at->period + 1 == sec->period_count) {
        dr_keyseq_seek(at, at->seq, at->offset);
        return;
    }
    size_t head = strlen(dr_keyseq_period_name(old)) + (old == DR_P_ETERNITY ? 1 : 2);
    enum dr_period p = sec->period[++at->period];
    at->in_period = 0;
    at->in_section++;
    at->start = dr_keyseq_period_start(p, at->seq->first[p]);
    at->stem_bytes = add_period_name(at->key, at->stem_bytes - head, p);
}

/* From the key just given to the next one; the text changes when it is asked for. */
static void step_on(struct dr_keyseq_at *at)
{
    enum dr_period p = period_of(at);
    const struct dr_keyseq *s = at->seq;
    at->in_period++;
    if (at->in_period == s->periods[p]) {
        return; /* left on the next call: the caller still reads this key */
    }
    at->in_section++;
    at->start = p == DR_P_HOUR ? at->start + HOUR_S
                               : dr_keyseq_period_start(p, s->first[p] + (int64_t)at->in_period);
}

bool dr_keyseq_next(struct dr_keyseq_at *at, const char **key_out, size_t *bytes_out)
{
    if (at->offset >= at->seq->count) {
        return false;
    }
    if (at->in_period == at->seq->periods[period_of(at)]) {
        leave_period(at);
    }
    size_t bytes = write_digits(at, period_of(at));
    at->key[bytes] = '\0';
    *key_out = at->key;
    *bytes_out = bytes;
    at->offset++;
    step_on(at);
    return true;
}
