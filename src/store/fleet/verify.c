/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the comparison of a shard's copies before its writers are held: one range of keys after the
 * other, while they write. A range that differs is given time: the log is followed, the range is
 * compared again and made smaller, so that rows which are written all the time have their moment
 * alone. What was equal once and is written later is in the log; the cut over follows it to its
 * end.
 *
 * Only copies that nobody reads yet get the log here. A holder in use is written by its writers
 * themselves: a row brought there while they write could be older than theirs. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "store/fleet/fleet_private.h"

enum {
    TRIES_MAX = 20,
    SHRINK_EVERY = 3,
    SHRINK_BY = 4,
    PAUSE_MS = 10, /* for a writer between two holders; longer each time */
    FOLLOW_ROWS = 1000,
    LEFT_MAX = 1000,
};

struct verify {
    struct fl_fleet *f;
    const struct fl_command *c;
    struct dr_store *source;
    struct dr_store *const *target; /* as in c->to */
    uint32_t fresh_count;
    struct dr_store *fresh[FL_NAMES_MAX]; /* not in use yet */
    struct dr_budget budget;              /* items_max: rows of the range */
    struct dr_cursor *cursor;
    struct dr_shard_compared seen;
    uint64_t left; /* of the log */
    bool is_quiet; /* nothing was written to the source around the last comparison */
};

static enum dr_code find_fresh(struct verify *v, struct dr_err *err)
{
    json_t *record = NULL;
    enum dr_code rc = fl_read_record(v->f, v->c->shard.table, &record, err);
    for (uint32_t i = 0; rc == DR_OK && i < v->c->to.count; i++) {
        if (!fl_is_holder(record, v->c->shard.name, v->c->to.name[i])) {
            v->fresh[v->fresh_count++] = v->target[i];
        }
    }
    json_decref(record);
    return rc;
}

/* Bring what is in the log, until it is empty or time is up. */
static enum dr_code drain(struct verify *v, struct dr_err *err)
{
    struct dr_budget budget = v->budget;
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)budget.ms_max;
    uint64_t applied_all = 0;
    enum dr_code rc = DR_OK;
    budget.items_max = FOLLOW_ROWS;
    v->left = v->fresh_count > 0;
    while (rc == DR_OK && v->left > 0) {
        uint64_t applied = 0;
        rc = dr_shard_follow(v->source, v->fresh, v->fresh_count, &v->c->shard, &budget, &applied,
                             &v->left, err);
        applied_all += applied;
        if (dr_mono_now() >= until) {
            break;
        }
    }
    v->is_quiet = applied_all == 0 && v->left == 0;
    return rc == DR_OK ? dr_fault_pass("fleet.verify.followed", err) : rc;
}

static enum dr_code compare(struct verify *v, struct dr_err *err)
{
    return dr_shard_compare(v->source, v->target, v->c->to.count, &v->c->shard, &v->budget,
                            v->cursor, &v->seen, err);
}

/* ---- what still differs ---- */

static bool is_fresh(const struct verify *v, const struct dr_store *s)
{
    for (uint32_t i = 0; i < v->fresh_count; i++) {
        if (v->fresh[i] == s) {
            return true;
        }
    }
    return false;
}

/* The first node that differs, a new one rather than a holder; NULL: it has just become equal. */
static enum dr_code find_culprit(struct verify *v, const char **node_out, bool *fresh_out,
                                 struct dr_err *err)
{
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    enum dr_code rc = cursor == NULL ? dr_fail_nomem(err) : DR_OK;
    *node_out = NULL;
    *fresh_out = false;
    for (uint32_t i = 0; rc == DR_OK && !*fresh_out && i < v->c->to.count; i++) {
        struct dr_shard_compared one;
        *cursor = *v->cursor;
        rc = dr_shard_compare(v->source, &v->target[i], 1, &v->c->shard, &v->budget, cursor, &one,
                              err);
        if (rc == DR_OK && one.is_different) {
            *fresh_out = is_fresh(v, v->target[i]);
            *node_out = *node_out == NULL || *fresh_out ? v->c->to.name[i] : *node_out;
        }
    }
    dr_free(cursor);
    return rc;
}

/* Half a write of somebody who died between two holders: the cut over reads all of a small shard
 * and mends the holder. Behind the range with the new ones alone. */
static enum dr_code leave_to_cutover(struct verify *v, const char *node, struct dr_err *err)
{
    struct dr_shard_facts facts;
    enum dr_code rc = dr_shard_facts(v->source, &v->c->shard, &facts, err);
    if (rc == DR_OK && (facts.rows > FL_DIGEST_ROWS_MAX || v->fresh_count == 0)) {
        return dr_fail(err, DR_CONFLICT,
                       "shard %s: row contents differ: node %s, a holder that stays, has not what "
                       "node %s has under the keys %s. A writer that died between the two? Write "
                       "these rows once more to all holders",
                       v->c->shard.name, node, v->c->source, v->seen.range);
    }
    return rc == DR_OK ? dr_shard_compare(v->source, v->fresh, v->fresh_count, &v->c->shard,
                                          &v->budget, v->cursor, &v->seen, err)
                       : rc;
}

/* Rows that are written again and again, such as by writers that wait for a dead holder and repeat:
 * they have no quiet moment before the fence. All of a small shard is read behind it, by the cut
 * over, so nothing is gained by waiting. */
static enum dr_code leave_busy_to_cutover(struct verify *v, struct dr_err *err)
{
    struct dr_shard_facts facts;
    enum dr_code rc = dr_shard_facts(v->source, &v->c->shard, &facts, err);
    if (rc == DR_OK && facts.rows > FL_DIGEST_ROWS_MAX) {
        rc = dr_fail(err, DR_BUSY,
                     "shard %s: the keys %s are written all the time and could not be compared; "
                     "this is tried again",
                     v->c->shard.name, v->seen.range);
    }
    v->seen.is_different = false;
    v->seen.is_end = true;
    return rc;
}

static enum dr_code judge(struct verify *v, struct dr_err *err)
{
    const char *node = NULL;
    bool is_new = false;
    bool was_quiet = v->is_quiet;
    enum dr_code rc = was_quiet ? find_culprit(v, &node, &is_new, err) : DR_OK;
    rc = rc == DR_OK && was_quiet ? drain(v, err) : rc; /* was it quiet then, too? */
    if (rc != DR_OK) {
        return rc;
    }
    if (node != NULL && v->is_quiet && !is_new) {
        return leave_to_cutover(v, node, err);
    }
    if (node == NULL || !v->is_quiet) {
        return leave_busy_to_cutover(v, err);
    }
    return dr_fail(err, DR_CONFLICT,
                   "shard %s: row contents differ: node %s has not what node %s has under the keys "
                   "%s, and nothing of it is in the log. A TRUNCATE or a change of columns?",
                   v->c->shard.name, node, v->c->source, v->seen.range);
}

/* ---- one batch ---- */

static enum dr_code compare_again(struct verify *v, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (int tries = 1; rc == DR_OK && v->seen.is_different && tries < TRIES_MAX; tries++) {
        if (tries % SHRINK_EVERY == 0) {
            v->budget.items_max = v->budget.items_max / SHRINK_BY + 1;
        }
        rc = drain(v, err);
        if (rc == DR_OK && v->is_quiet && v->fresh_count < v->c->to.count) {
            (void)dr_wait_ms((uint64_t)tries * PAUSE_MS, NULL, NULL);
        }
        rc = rc == DR_OK ? compare(v, err) : rc;
    }
    if (rc == DR_OK && v->seen.is_different) {
        rc = drain(v, err);
        rc = rc == DR_OK ? judge(v, err) : rc;
    }
    return rc;
}

enum dr_code fl_verify(struct fl_fleet *f, const struct fl_command *c, struct dr_store *source,
                       struct dr_store *const *target, const struct dr_budget *budget,
                       struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err)
{
    struct verify v = {
        .f = f, .c = c, .source = source, .target = target, .budget = *budget, .cursor = cursor};
    enum dr_code rc = find_fresh(&v, err);
    rc = rc == DR_OK ? drain(&v, err) : rc;
    rc = rc == DR_OK ? compare(&v, err) : rc;
    rc = rc == DR_OK ? dr_fault_pass("fleet.verify.compared", err) : rc;
    rc = rc == DR_OK ? compare_again(&v, err) : rc;
    if (rc == DR_OK) {
        out->read = v.seen.rows;
        out->left = v.left;
        /* The end of the log has to be short enough for the fence. */
        out->is_end = v.seen.is_end && !v.seen.is_different && v.left <= LEFT_MAX;
    }
    return rc;
}
