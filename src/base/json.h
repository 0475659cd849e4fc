/* SPDX-License-Identifier: Apache-2.0 */
/* JSON over jansson: strict reading with the place of a mistake, and a reader that reports the path
 * of a wrong field and refuses keys nobody asked for. json_t is jansson's. */
#ifndef DR_BASE_JSON_H
#define DR_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { DR_JSON_KEYS_MAX = 64, DR_JSON_BYTES_MAX = 4 * 1024 * 1024, DR_JSON_DEPTH_MAX = 32 };

/* Parse text; DR_INPUT with "name:line:column: what" on a mistake. Duplicate keys are refused.
 * Release with json_decref. */
DR_MUST enum dr_code dr_json_parse(const char *name, const char *text, size_t bytes, json_t **out,
                                   struct dr_err *err);
/* The same for texts that may be larger than DR_JSON_BYTES_MAX. */
DR_MUST enum dr_code dr_json_parse_upto(const char *name, const char *text, size_t bytes,
                                        size_t bytes_max, json_t **out, struct dr_err *err);
DR_MUST enum dr_code dr_json_load(const char *path, json_t **out, struct dr_err *err);
/* Compact text with sorted keys (stable); caller frees with dr_free. NULL when memory is short. */
char *dr_json_text(const json_t *j);
/* The same with the keys as they were written: where an adapter's documents are inside, their order
 * has a meaning. */
char *dr_json_text_in_order(const json_t *j);

/* Reads one object: each get_* notes the key as known; dr_jr_finish refuses the others.
 * The first mistake sticks in `err` and later gets are no-ops, so callers check once. */
struct dr_jr {
    const json_t *object;
    const char *path; /* "job" or "job.windows": borrowed, shown in messages */
    struct dr_err *err;
    enum dr_code rc;
    const char *known[DR_JSON_KEYS_MAX];
    unsigned known_count;
};
/* `j` must be an object, else DR_INPUT. */
void dr_jr_init(struct dr_jr *r, const json_t *j, const char *path, struct dr_err *err);
/* Each returns true when the key is present and right; the out value is untouched otherwise.
 * `is_required` makes absence a mistake. Strings are borrowed from the object. */
bool dr_jr_string(struct dr_jr *r, const char *key, bool is_required, const char **out);
bool dr_jr_u64(struct dr_jr *r, const char *key, bool is_required, uint64_t min, uint64_t max,
               uint64_t *out);
bool dr_jr_i64(struct dr_jr *r, const char *key, bool is_required, int64_t min, int64_t max,
               int64_t *out);
bool dr_jr_real(struct dr_jr *r, const char *key, bool is_required, double min, double max,
                double *out);
bool dr_jr_bool(struct dr_jr *r, const char *key, bool is_required, bool *out);
bool dr_jr_object(struct dr_jr *r, const char *key, bool is_required, const json_t **out);
bool dr_jr_array(struct dr_jr *r, const char *key, bool is_required, size_t items_max,
                 const json_t **out);
bool dr_jr_any(struct dr_jr *r, const char *key, bool is_required, const json_t **out);
/* A duration: a string as dr_parse_duration_ms takes it, or a number of seconds. */
bool dr_jr_duration(struct dr_jr *r, const char *key, bool is_required, uint64_t *ms_out);
/* Refuse unknown keys (naming the nearest known one) and return the first mistake's code. */
DR_MUST enum dr_code dr_jr_finish(struct dr_jr *r);

#endif
