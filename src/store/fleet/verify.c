/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the comparison of a shard's copies before its writers are held: one range of keys after the
 * other, while they write. A range that differs is followed and compared again, and made smaller,
 * so that rows which are written all the time have their moment alone. A single row that still
 * differs is late when its key is in the log, for an entry is made in the transaction of its write
 * and is taken by nobody else; without an entry it is a difference. What was equal once and is
 * written later is in the log as well; the cut over follows it to its end.
 *
 * Only copies that nobody reads yet get the log here. A holder in use is written by its writers
 * themselves: a row brought there while they write could be older than theirs. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "store/fleet/fleet_private.h"
#include "store/shard_rows.h"

enum {
    TRIES_MAX = 20,
    SHRINK_BY = 8,
    GROW_BY = 2,
    PAUSE_MS = 5, /* for a writer between two holders; longer each time */
    FOLLOW_EVERY = 4,
    FOLLOW_ROWS = 1000,
    FOLLOW_ENOUGH = 100,
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
    uint64_t rows; /* of the ranges that are done with */
    uint64_t left; /* of the log */
    int tries;     /* of this range */
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

static bool has_holders_in_use(const struct verify *v)
{
    return v->fresh_count < v->c->to.count;
}

/* Bring what is in the log, until little is left or time is up: while writers write it is never
 * empty for long. */
static enum dr_code drain(struct verify *v, struct dr_err *err)
{
    struct dr_budget budget = v->budget;
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)budget.ms_max;
    enum dr_code rc = DR_OK;
    budget.items_max = FOLLOW_ROWS;
    v->left = 0;
    while (rc == DR_OK && v->fresh_count > 0) {
        uint64_t applied = 0;
        rc = dr_shard_follow(v->source, v->fresh, v->fresh_count, &v->c->shard, &budget, &applied,
                             &v->left, err);
        if (v->left <= FOLLOW_ENOUGH || dr_mono_now() >= until) {
            break;
        }
    }
    return rc == DR_OK ? dr_fault_pass("fleet.verify.followed", err) : rc;
}

static enum dr_code compare(struct verify *v, struct dr_store *const *target, uint32_t count,
                            struct dr_err *err)
{
    enum dr_code rc = dr_shard_compare(v->source, target, count, &v->c->shard, &v->budget,
                                       v->cursor, &v->seen, err);
    v->seen.is_different = v->seen.is_different && !v->seen.is_logged;
    return rc;
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
        if (rc == DR_OK && one.is_different && !one.is_logged) {
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
    return rc == DR_OK ? compare(v, v->fresh, v->fresh_count, err) : rc;
}

static enum dr_code judge(struct verify *v, struct dr_err *err)
{
    const char *node = NULL;
    bool is_new = false;
    enum dr_code rc = find_culprit(v, &node, &is_new, err);
    if (rc != DR_OK || node == NULL) {
        return rc;
    }
    if (!is_new) {
        return leave_to_cutover(v, node, err);
    }
    return dr_fail(err, DR_CONFLICT,
                   "shard %s: row contents differ: node %s has not what node %s has under the keys "
                   "%s, and nothing of it is in the log. A TRUNCATE or a change of columns?",
                   v->c->shard.name, node, v->c->source, v->seen.range);
}

/* ---- one batch ---- */

/* The range differs: look at less of it, so that its rows can be told one by one; give writers the
 * time to reach the next holder; bring what is late. */
static enum dr_code look_closer(struct verify *v, struct dr_err *err)
{
    uint64_t rows = v->seen.rows / SHRINK_BY;
    enum dr_code rc = DR_OK;
    v->budget.items_max = rows == 0                          ? 1
                          : v->seen.rows > DR_SHARD_ROWS_MAX ? DR_SHARD_ROWS_MAX
                                                             : rows;
    if (v->tries++ % FOLLOW_EVERY == FOLLOW_EVERY - 1) {
        rc = drain(v, err);
    }
    if (rc == DR_OK && has_holders_in_use(v)) {
        (void)dr_wait_ms((uint64_t)v->tries * PAUSE_MS, NULL, NULL);
    }
    return rc == DR_OK && v->tries >= TRIES_MAX ? judge(v, err) : rc;
}

static void go_on(struct verify *v, uint64_t items_max)
{
    uint64_t rows = v->budget.items_max * GROW_BY;
    v->rows += v->seen.rows;
    v->tries = 0;
    uint64_t left = v->rows < items_max ? items_max - v->rows : 0; /* 0: the batch ends */
    v->budget.items_max = rows < left ? rows : left;
}

/* As many rows as the batch may have; at least one range, unless it became equal at the last look.
 */
static enum dr_code compare_some(struct verify *v, uint64_t items_max, struct dr_err *err)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)v->budget.ms_max;
    bool is_first = true;
    enum dr_code rc = DR_OK;
    do {
        rc = compare(v, v->target, v->c->to.count, err);
        rc = rc == DR_OK && is_first ? dr_fault_pass("fleet.verify.compared", err) : rc;
        is_first = false;
        while (rc == DR_OK && v->seen.is_different && v->tries < TRIES_MAX) {
            rc = look_closer(v, err);
            rc = rc == DR_OK && v->tries < TRIES_MAX ? compare(v, v->target, v->c->to.count, err)
                                                     : rc;
        }
        if (rc != DR_OK || v->seen.is_different) {
            return rc;
        }
        go_on(v, items_max);
    } while (!v->seen.is_end && v->rows < items_max && dr_mono_now() < until);
    return rc;
}

enum dr_code fl_verify(struct fl_fleet *f, const struct fl_command *c, struct dr_store *source,
                       struct dr_store *const *target, const struct dr_budget *budget,
                       struct dr_cursor *cursor, struct dr_copied *out, struct dr_err *err)
{
    struct verify v = {
        .f = f, .c = c, .source = source, .target = target, .budget = *budget, .cursor = cursor};
    uint64_t items_max = budget->items_max == 0 ? 1 : budget->items_max;
    v.budget.items_max = items_max;
    enum dr_code rc = find_fresh(&v, err);
    rc = rc == DR_OK ? drain(&v, err) : rc;
    rc = rc == DR_OK ? compare_some(&v, items_max, err) : rc;
    if (rc == DR_OK) {
        out->read = v.rows;
        out->left = v.left;
        /* The end of the log has to be short enough for the fence. */
        out->is_end = v.seen.is_end && !v.seen.is_different && v.left <= LEFT_MAX;
    }
    return rc;
}
