/* SPDX-License-Identifier: Apache-2.0 */
/* The layout now against the layout planned for.
 *
 * Behind a router every range goes on under the new epoch: its parts are found wherever they live.
 * Elsewhere, when the epoch has changed, the collection is surveyed anew. A range whose node still
 * holds all of it goes on under the new epoch. One of which a part lives elsewhere is not followed:
 * its step is quarantined with the reason, because both going on and skipping would leave rows
 * behind. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "step/step_private.h"

struct dr_layout {
    struct dr_survey *survey;
    char database[DR_NAME_BYTES];
};

enum dr_code dr_layout_create(struct dr_layout **out, struct dr_err *err)
{
    *out = dr_calloc(1, sizeof **out);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

void dr_layout_destroy(struct dr_layout *l)
{
    if (l != NULL) {
        dr_survey_destroy(l->survey);
        dr_free(l);
    }
}

static const struct dr_collection *find_collection(const struct dr_layout *l, const char *name)
{
    for (uint32_t i = 0; l->survey != NULL && i < l->survey->collection_count; i++) {
        if (strcmp(l->survey->collection[i].name, name) == 0) {
            return &l->survey->collection[i];
        }
    }
    return NULL;
}

/* The collection as it is laid out at `epoch`; surveys when what is known is older. */
static enum dr_code look(struct dr_layout *l, struct dr_store *store, const char *name,
                         uint64_t epoch, const struct dr_collection **out, struct dr_err *err)
{
    char database[DR_NAME_BYTES];
    dr_copy_text(database, sizeof database, name);
    char *dot = strchr(database, '.');
    if (dot != NULL) {
        *dot = '\0';
    }
    *out = strcmp(l->database, database) == 0 ? find_collection(l, name) : NULL;
    if (*out != NULL && (*out)->epoch == epoch) {
        return DR_OK;
    }
    dr_survey_destroy(l->survey);
    l->survey = NULL;
    enum dr_code rc = dr_store_survey(store, database, NULL, &l->survey, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_copy_text(l->database, sizeof l->database, database);
    *out = find_collection(l, name);
    if (*out == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "%s is no longer there", name);
    }
    return (*out)->epoch == epoch
               ? DR_OK
               : dr_fail(err, DR_STALE, "%s: the layout changes at this moment", name);
}

static bool is_min(const struct dr_bound *b)
{
    return b->parts == 0 || b->part[0].type == DR_V_MIN;
}

static bool is_max(const struct dr_bound *b)
{
    return b->parts == 0 || b->part[0].type == DR_V_MAX;
}

/* Does the range's node hold [from, upto)? Chunks come in the order of their bounds. */
static bool is_covered(const struct dr_collection *c, const struct dr_range *r)
{
    struct dr_bound at = r->from;
    bool is_at_min = is_min(&r->from);
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        const struct dr_chunk *k = &c->chunk[i];
        bool begins =
            is_at_min ? is_min(&k->from) : is_min(&k->from) || dr_bound_compare(&k->from, &at) <= 0;
        bool goes_on = is_max(&k->upto) || is_at_min || dr_bound_compare(&k->upto, &at) > 0;
        if (!begins || !goes_on) {
            continue;
        }
        if (strcmp(k->node, r->node) != 0) {
            return false;
        }
        if (is_max(&k->upto)) {
            return true;
        }
        at = k->upto;
        is_at_min = false;
        if (!is_max(&r->upto) && dr_bound_compare(&at, &r->upto) >= 0) {
            return true;
        }
    }
    return false;
}

static bool has_node(const struct dr_collection *c, const char *node)
{
    for (uint64_t i = 0; i < c->chunk_count; i++) {
        if (strcmp(c->chunk[i].node, node) == 0) {
            return true;
        }
    }
    return false;
}

/* Is the range still where the plan saw it? Walks over whole nodes select by filter and may go on
 * forward anywhere; putting rows back needs the placement to be the same. */
static bool is_still_there(const struct dr_collection *c, const struct dr_range *r, bool is_undo)
{
    if (r->access == DR_BY_SHARD_RANGE || r->access == DR_BY_SHARD_HASHED) {
        return is_covered(c, r);
    }
    if (c->sharding == DR_UNSHARDED) {
        return has_node(c, r->node);
    }
    return !is_undo;
}

enum dr_code dr_layout_check(struct dr_layout *l, struct dr_store *store, struct dr_range *range,
                             bool is_undo, struct dr_err *err)
{
    const struct dr_collection *c = NULL;
    uint64_t epoch = 0;
    enum dr_code rc = dr_store_epoch(store, range->collection, &epoch, err);
    if (rc != DR_OK || epoch == range->epoch) {
        return rc;
    }
    if ((dr_store_can(store) & DR_CAN_ROUTE) != 0) {
        range->epoch = epoch;
        return DR_OK;
    }
    rc = look(l, store, range->collection, epoch, &c, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!is_still_there(c, range, is_undo)) {
        return dr_fail(err, DR_CONFLICT,
                       "%s: a part of this range has moved away from %s since the plan was made "
                       "(layout %" PRIu64 ", planned for %" PRIu64 "); %s",
                       range->collection, range->node, epoch, range->epoch,
                       is_undo ? "move it back, then retry this step"
                               : "run the job anew for what is left: it plans for the new layout");
    }
    range->epoch = epoch;
    return DR_OK;
}
