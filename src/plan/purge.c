/* SPDX-License-Identifier: Apache-2.0 */
/* "purge": what a filter selects in one collection. */
#include "plan/plan_private.h"

#include <inttypes.h>
#include <string.h>

static const struct dr_collection *find_collection(const struct dr_survey *s, const char *name)
{
    for (uint32_t i = 0; i < s->collection_count; i++) {
        if (strcmp(s->collection[i].name, name) == 0) {
            return &s->collection[i];
        }
    }
    return NULL;
}

static enum dr_code guard_filter(const struct dr_plan *p, const struct dr_collection *c,
                                 const struct dr_filter *f, struct dr_err *err)
{
    const char *no_field = c->warning == NULL ? NULL : strstr(c->warning, "has no field");
    if (f == NULL || f->term_count == 0) {
        return dr_fail(err, DR_REFUSED, "%s: an empty filter matches all; name what is to go",
                       c->name);
    }
    if (no_field != NULL) { /* the store's words for it, perhaps behind another warning */
        return dr_fail(err, DR_INPUT, "%s %s; correct the filter", c->name, no_field);
    }
    if (c->rows_total > 0 && c->rows_matched >= c->rows_total && !p->request->whole_collection) {
        return dr_fail(err, DR_REFUSED,
                       "%s: the filter matches every row (%" PRIu64 "); set \"whole_collection\": "
                       "true if that is meant",
                       c->name, c->rows_total);
    }
    return DR_OK;
}

enum dr_code dr_plan_purge(struct dr_plan *p, struct dr_err *err)
{
    const struct dr_purge *want = &p->request->u.purge;
    p->target = dr_arena_printf(p->arena, "%s.%s", p->request->database, want->collection);
    if (p->target == NULL) {
        return dr_fail_nomem(err);
    }
    const struct dr_collection *c = find_collection(p->survey, p->target);
    if (c == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "%s: no such collection", p->target);
    }
    enum dr_code rc = dr_plan_guard_collection(p, c, err);
    if (rc == DR_OK) {
        rc = guard_filter(p, c, want->filter, err);
    }
    if (rc == DR_OK) {
        rc = dr_pick_filtered(p, c, want->filter, want->temp_index, &p->pick[0], err);
    }
    if (rc == DR_OK && c->has_reference) {
        rc = dr_pick_warn(p, &p->pick[0], "other collections refer to it: they are not touched",
                          err);
    }
    p->pick_count = rc == DR_OK ? 1 : 0;
    return rc;
}
