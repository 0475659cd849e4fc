/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a key sequence: lists of values, sections cut into segments, periods as numbers.
 *
 * A section's path is cut at "/" into segments, each with at most one dimension: so a key is split
 * in one way only, and no value can pretend to be two fields. */
#ifndef DR_STORE_KEYSEQ_PRIVATE_H
#define DR_STORE_KEYSEQ_PRIVATE_H

#include "base/mem.h"
#include "store/keyseq.h"

enum {
    KEYSEQ_DIMS_MAX = 8, /* of one section; struct dr_keyseq_at has room for as many */
    KEYSEQ_LISTS_MAX = 16,
    KEYSEQ_SEGMENTS_MAX = 16,
    KEYSEQ_EXCLUDES_MAX = 16,
    KEYSEQ_PERIODS = DR_P_HOUR + 1,
    KEYSEQ_PERIOD_BYTES_MAX = 32, /* "/eternity", "/month:20191216172422" and the NUL */
};

/* The lists every job can give; "values" of the layout follow them. */
enum { LIST_SERVICE, LIST_APPLICATION, LIST_METRIC, LIST_USER, LIST_OF_LAYOUT };

struct keyseq_list {
    const char *dim; /* "service": what a path calls it */
    uint32_t count;
    const char **text;
    uint32_t *bytes;
    uint32_t *slot; /* hash table: index + 1, or 0 */
    uint32_t slot_count;
    uint32_t bytes_max;
};

struct keyseq_segment {
    const char *head; /* text before the dimension, or all of it */
    const char *tail; /* text behind the dimension */
    uint32_t head_bytes;
    uint32_t tail_bytes;
    int32_t list; /* -1: no dimension */
};

struct keyseq_section {
    const char *path;
    uint32_t segment_count;
    struct keyseq_segment segment[KEYSEQ_SEGMENTS_MAX];
    uint32_t dim_count;
    uint32_t dim[KEYSEQ_DIMS_MAX]; /* lists, in the order of the path */
    uint32_t period_count;
    enum dr_period period[KEYSEQ_PERIODS];
    uint64_t per_stem;    /* keys of one combination of values: the sum over the periods */
    uint64_t per_service; /* keys of one service */
};

struct dr_keyseq {
    struct dr_arena *arena; /* owns all but itself */
    uint32_t list_count;
    struct keyseq_list list[KEYSEQ_LISTS_MAX];
    uint32_t section_count;
    struct keyseq_section section[DR_KEYSEQ_SECTIONS_MAX];
    uint32_t exclude_count;
    const char *exclude[KEYSEQ_EXCLUDES_MAX];
    const char *prefix;
    size_t prefix_bytes;
    const char *marked_set;
    const char *pattern_all;
    const char **pattern; /* one per service */
    bool has_period;
    int64_t from, to;                 /* seconds, both inside */
    int64_t first[KEYSEQ_PERIODS];    /* number of the period that holds `from` */
    uint64_t periods[KEYSEQ_PERIODS]; /* how many touch [from, to] */
    uint64_t per_service;
    uint64_t count;
};

/* keyseq_period.c */
const char *dr_keyseq_period_name(enum dr_period p);
bool dr_keyseq_period_parse(const char *name, size_t bytes, enum dr_period *out);
/* Periods of a kind are numbered; these turn a moment into the number and back into the start. */
int64_t dr_keyseq_period_number(enum dr_period p, int64_t at);
int64_t dr_keyseq_period_start(enum dr_period p, int64_t number);
/* "201912161" into `out` (at least 15 bytes, not terminated); returns the number of characters. */
size_t dr_keyseq_period_write(int64_t start, char *out);
/* The start that a text means; false when it is no text of the start of a period of this kind. */
bool dr_keyseq_period_read(enum dr_period p, const char *text, size_t bytes, int64_t *start_out);

/* keyseq_list.c */
/* Take over a list of texts into lists[at]; a missing one is empty. A mistake sticks in `r`. */
void dr_keyseq_read_list(struct dr_jr *r, const char *key, struct dr_keyseq *s, uint32_t at);
bool dr_keyseq_has_value(const struct keyseq_list *l, const char *text, size_t bytes);
/* A text without control characters and of sane length, copied; NULL when it is none. */
DR_MUST enum dr_code dr_keyseq_copy_text(const json_t *j, const char *where, struct dr_arena *a,
                                         const char **out, struct dr_err *err);

/* keyseq_layout.c: sections, values, excludes, prefix and marked set of "layout". */
DR_MUST enum dr_code dr_keyseq_read_layout(const json_t *layout, const char *path,
                                           struct dr_keyseq *s, struct dr_err *err);

/* keyseq_match.c: does an exclude hit this text? */
const char *dr_keyseq_find_exclude(const struct dr_keyseq *s, const char *text);

#endif
