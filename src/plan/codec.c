/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the text of a step's command: {"range": {...}, "archive": true|false}, the latter only in an
 * erase step. The range's own form belongs to the store. Whoever reads a text without "archive"
 * archives: losing the undo has to be asked for in so many words. No state; any thread. */
#include "plan/plan_private.h"

#include <string.h>

enum dr_code dr_erase_spec_parse(const char *query, struct dr_arena *a, struct dr_erase_spec *out,
                                 struct dr_err *err)
{
    memset(out, 0, sizeof *out);
    json_t *j = NULL;
    enum dr_code rc = dr_json_parse("step", query, strlen(query), &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_jr r;
    const json_t *range = NULL;
    out->with_archive = true;
    dr_jr_init(&r, j, "step", err);
    (void)dr_jr_object(&r, "range", true, &range);
    (void)dr_jr_bool(&r, "archive", false, &out->with_archive);
    rc = dr_jr_finish(&r);
    if (rc != DR_OK) {
        goto out;
    }
    rc = dr_range_from_json(range, a, &out->range, err);
    if (rc != DR_OK) {
        dr_wrap(err, "step.range");
    }
out:
    json_decref(j);
    return rc;
}

/* {"range": ...}, with "archive" when that is asked for. NULL when memory is short. */
static char *write_text(const struct dr_range *range, const bool *with_archive)
{
    char *text = NULL;
    json_t *j = json_object();
    json_t *inner = dr_range_to_json(range);
    if (j == NULL || inner == NULL) {
        json_decref(inner);
        goto out;
    }
    if (json_object_set_new(j, "range", inner) != 0) { /* takes the range in any case */
        goto out;
    }
    if (with_archive != NULL &&
        json_object_set_new(j, "archive", json_boolean(*with_archive)) != 0) {
        goto out;
    }
    text = dr_json_text(j);
out:
    json_decref(j);
    return text;
}

char *dr_erase_spec_text(const struct dr_erase_spec *spec)
{
    return write_text(&spec->range, &spec->with_archive);
}

char *dr_verify_text(const struct dr_range *range)
{
    return write_text(range, NULL);
}
