/* SPDX-License-Identifier: Apache-2.0 */
/* Undoing an erase: the step's frames go back from the last to the first, each only where nothing
 * is. Last first, because an item that was archived twice (left alone once because it had changed,
 * erased later) must come back in its newest form. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "step/step_private.h"

enum { ARENA_BLOCK_BYTES = 64 * 1024 };

static enum dr_code open_reader(struct dr_step_run *run, struct dr_err *err)
{
    char path[4096];
    struct dr_lease *l = run->lease;
    enum dr_code rc = dr_archive_read_open(
        dr_archive_path(run->env->data_dir, l->op_id, l->step_id, path, sizeof path), &run->reader,
        err);
    if (rc == DR_NOT_FOUND && l->mark.archive_bytes == 0) {
        dr_err_clear(err); /* it never came to archiving anything, so nothing was erased */
        return DR_OK;
    }
    if (rc == DR_NOT_FOUND) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: the archive of step %" PRId64 " is missing; bring the file back, then "
                       "retry the step",
                       path, l->step_id);
    }
    if (rc != DR_OK) {
        return rc;
    }
    uint64_t frames = dr_archive_frame_count(run->reader);
    if (frames < l->mark.archive_frames) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: holds %" PRIu64 " whole frames where %" PRIu64
                       " were written; bring the file back, then retry the step",
                       path, frames, l->mark.archive_frames);
    }
    return DR_OK;
}

/* Frames whose outcome nobody noted when the roll-back was wished: what they erased must be counted
 * before it is put back. */
static enum dr_code resolve_last_frames(struct dr_step_run *run, struct dr_err *err)
{
    const struct dr_progress_mark *m = &run->lease->mark;
    uint64_t frames = dr_archive_frame_count(run->reader);
    enum dr_code rc = DR_OK;
    for (uint64_t n = m->archive_frames; rc == DR_OK && m->undo_position == 0 && n < frames; n++) {
        rc = dr_step_resolve_frame(run, run->reader, n, err);
    }
    return rc;
}

static enum dr_code begin_restore(struct dr_step_run *run, struct dr_err *err)
{
    struct dr_lease *l = run->lease;
    enum dr_code rc = dr_step_parse(run, err);
    if (rc == DR_OK && !run->spec.with_archive) {
        rc = dr_fail(err, DR_REFUSED, "step %" PRId64 " kept no archive", l->step_id);
    }
    if (rc == DR_OK) {
        rc = open_reader(run, err);
    }
    if (rc == DR_OK && run->reader != NULL && dr_archive_frame_count(run->reader) > 0) {
        rc = dr_layout_check(run->env->layout, run->env->store, &run->spec.range, true, err);
        if (rc == DR_OK) {
            rc = resolve_last_frames(run, err);
        }
    }
    /* needs_probe stays until a frame is back: a step that is given back before has found nothing
     * out. */
    run->is_repeat_possible = l->needs_probe || l->tries > 0;
    return rc;
}

/* --- conflicts that are none -------------------------------------------------------------------
 */

struct key_ref {
    const void *key;
    uint32_t key_len;
};

static int compare_keys(const void *a, const void *b)
{
    const struct key_ref *x = a;
    const struct key_ref *y = b;
    uint32_t shared = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, shared);
    return c != 0 ? c : x->key_len < y->key_len ? -1 : x->key_len > y->key_len ? 1 : 0;
}

/* The keys of frame `n` behind which something else stands now. */
static enum dr_code find_changed(struct dr_step_run *run, const struct dr_archive_item *item,
                                 uint64_t count, struct dr_arena *arena, struct key_ref *key,
                                 uint64_t *count_out, struct dr_err *err)
{
    struct dr_tally tally;
    enum dr_code rc = DR_OK;
    *count_out = 0;
    for (uint64_t i = 0; rc == DR_OK && i < count; i++) {
        rc = dr_step_batch_from_frame(run->env->batch, &item[i], 1, err);
        if (rc == DR_OK) {
            rc = dr_store_probe(run->env->store, &run->spec.range, run->env->batch, &tally, err);
        }
        if (rc == DR_OK && tally.same == 0) {
            struct key_ref *k = &key[(*count_out)++];
            k->key_len = item[i].key_len;
            k->key = dr_arena_memdup(arena, item[i].key, item[i].key_len);
            rc = k->key == NULL ? dr_fail_nomem(err) : DR_OK;
        }
    }
    return rc;
}

/* How many of these keys come again in a later frame: those were put back in their newer form. */
static enum dr_code count_later(struct dr_step_run *run, uint64_t n, struct key_ref *key,
                                uint64_t count, uint64_t *later_out, struct dr_err *err)
{
    uint64_t frames = dr_archive_frame_count(run->reader);
    enum dr_code rc = DR_OK;
    *later_out = 0;
    qsort(key, (size_t)count, sizeof *key, compare_keys);
    for (uint64_t f = n + 1; rc == DR_OK && f < frames && count > 0; f++) {
        const struct dr_archive_item *item = NULL;
        uint64_t items = 0;
        rc = dr_archive_read(run->reader, f, &item, &items, err);
        for (uint64_t i = 0; rc == DR_OK && i < items; i++) {
            struct key_ref one = {.key = item[i].key, .key_len = item[i].key_len};
            struct key_ref *hit = bsearch(&one, key, (size_t)count, sizeof *key, compare_keys);
            if (hit != NULL) {
                uint64_t at = (uint64_t)(hit - key);
                memmove(hit, hit + 1, (size_t)(count - at - 1) * sizeof *key);
                count--;
                (*later_out)++;
            }
        }
    }
    return rc;
}

/* Conflicts of frame `n` less those that only say "a newer form is back already". Rare, so it may
 * cost a probe per item. */
static enum dr_code real_conflicts(struct dr_step_run *run, uint64_t n, uint64_t *conflicts,
                                   struct dr_err *err)
{
    const struct dr_archive_item *item = NULL;
    uint64_t count = 0;
    uint64_t changed = 0;
    uint64_t later = 0;
    struct dr_arena *arena = dr_arena_create(ARENA_BLOCK_BYTES);
    enum dr_code rc =
        arena == NULL ? dr_fail_nomem(err) : dr_archive_read(run->reader, n, &item, &count, err);
    struct key_ref *key = rc == DR_OK ? dr_arena_alloc(arena, (size_t)count * sizeof *key) : NULL;
    if (rc == DR_OK && key == NULL) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK) {
        rc = find_changed(run, item, count, arena, key, &changed, err);
    }
    if (rc == DR_OK) {
        rc = count_later(run, n, key, changed, &later, err);
    }
    if (rc == DR_OK) {
        *conflicts -= later < *conflicts ? later : *conflicts;
    }
    dr_arena_destroy(arena);
    return rc;
}

/* -----------------------------------------------------------------------------------------------
 */

static enum dr_code restore_frame(struct dr_step_run *run, uint64_t n, struct dr_tally *tally,
                                  struct dr_step_report *report, struct dr_err *err)
{
    const struct dr_archive_item *item = NULL;
    uint64_t count = 0;
    struct dr_batch *b = run->env->batch;
    enum dr_code rc = dr_archive_read(run->reader, n, &item, &count, err);
    if (rc == DR_OK) {
        rc = dr_step_batch_from_frame(b, item, count, err);
    }
    if (rc == DR_OK) {
        rc = run->env->still_mine(run->env->arg, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("restore.before", err);
    }
    if (rc == DR_OK) {
        rc = dr_store_restore(run->env->store, &run->spec.range, b, tally, err);
    }
    if (rc == DR_OK) {
        dr_fault_mark("restore.after");
        report->read = b->count;
        report->bytes = b->bytes;
        report->items = tally->restored;
    }
    if (rc == DR_OK && tally->conflicts > 0) {
        rc = real_conflicts(run, n, &tally->conflicts, err);
    }
    return rc;
}

static enum dr_code batch_restore(struct dr_step_run *run, const struct dr_budget *budget,
                                  struct dr_step_report *report, struct dr_err *err)
{
    struct dr_progress_mark *m = &run->lease->mark;
    uint64_t frames = run->reader == NULL ? 0 : dr_archive_frame_count(run->reader);
    struct dr_tally tally = {0};
    (void)budget; /* a frame was one batch when it was erased and is one on the way back */
    if (m->undo_position >= frames) {
        report->is_done = true;
        return DR_OK;
    }
    enum dr_code rc = restore_frame(run, frames - 1 - m->undo_position, &tally, report, err);
    if (rc != DR_OK) {
        return rc;
    }
    /* After an interruption the first frame may already be back: what is the same now was put back
     * by this step before it could say so, or was never erased. Never more can be back than was
     * gone. */
    uint64_t put_back = tally.restored + (run->is_repeat_possible ? tally.same : 0);
    uint64_t room = m->done > m->undone ? m->done - m->undone : 0;
    m->undone += put_back < room ? put_back : room;
    m->conflicts += tally.conflicts;
    m->undo_position++;
    run->is_repeat_possible = false;
    run->lease->needs_probe = false;
    report->is_done = m->undo_position == frames;
    return DR_OK;
}

const struct step_way *dr_step_way_restore(void)
{
    static const struct step_way way = {
        .name = "restore", .begin = begin_restore, .batch = batch_restore};
    return &way;
}
