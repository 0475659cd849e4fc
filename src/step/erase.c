/* SPDX-License-Identifier: Apache-2.0 */
/* Erasing a range, one batch at a time, in the order that loses nothing:
 *
 *   layout still fits -> read -> archive + fsync -> still mine -> erase -> mark
 *
 * Passes over the range repeat until one finds nothing, because rows may be written behind the
 * cursor and rows that changed between reading and erasing are left for the next pass. */
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "obs/log.h"
#include "step/step_private.h"

enum { ZSTD_LEVEL = 1, BARREN_PASSES_MAX = 20, CONTEXT_BYTES = 1024 };

/* Where the archive's items come from, for whoever finds the file without the queue. */
static enum dr_code make_context(const struct dr_step_run *run, char **out, struct dr_err *err)
{
    char url[CONTEXT_BYTES];
    json_t *j = json_pack("{s:s, s:s, s:s, s:i}", "store",
                          dr_url_redact(run->lease->store_url, url, sizeof url), "collection",
                          run->spec.range.collection, "node", run->spec.range.node, "codec", 1);
    *out = j == NULL ? NULL : dr_json_text(j);
    json_decref(j);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* One frame that the queue does not vouch for: it was archived, and then erased or not. */
enum dr_code dr_step_resolve_frame(struct dr_step_run *run, struct dr_archive_reader *reader,
                                   uint64_t n, struct dr_err *err)
{
    struct dr_progress_mark *m = &run->lease->mark;
    const struct dr_archive_item *item = NULL;
    struct dr_tally tally = {0};
    uint64_t count = 0;
    struct dr_batch *batch = run->env->batch;
    enum dr_code rc = dr_archive_read(reader, n, &item, &count, err);
    if (rc == DR_OK) {
        rc = dr_step_batch_from_frame(batch, item, count, err);
    }
    if (rc == DR_OK) {
        rc = dr_store_probe(run->env->store, &run->spec.range, batch, &tally, err);
    }
    if (rc != DR_OK) {
        dr_wrap(err, "finding out what frame %" PRIu64 " of step %" PRId64 " has erased", n,
                run->lease->step_id);
        return rc;
    }
    struct dr_archive_frame frame = dr_archive_frame_at(reader, n);
    m->done += tally.absent;
    m->archive_frames = n + 1;
    m->archive_bytes = frame.offset + frame.bytes;
    return DR_OK;
}

static enum dr_code resolve_open_frames(struct dr_step_run *run, struct dr_err *err)
{
    char path[4096];
    struct dr_lease *l = run->lease;
    struct dr_archive_reader *reader = NULL;
    enum dr_code rc = dr_archive_read_open(
        dr_archive_path(run->env->data_dir, l->op_id, l->step_id, path, sizeof path), &reader, err);
    for (uint64_t n = l->mark.archive_frames; rc == DR_OK && n < dr_archive_frame_count(reader);
         n++) {
        rc = dr_step_resolve_frame(run, reader, n, err);
    }
    if (reader != NULL) {
        dr_archive_read_close(reader);
    }
    run->has_open_frame = rc != DR_OK;
    return rc;
}

static enum dr_code open_archive(struct dr_step_run *run, struct dr_err *err)
{
    struct dr_lease *l = run->lease;
    char *context = NULL;
    enum dr_code rc = make_context(run, &context, err);
    if (rc == DR_OK) {
        rc = dr_archive_open(run->env->data_dir, l->op_id, l->step_id, l->mark.archive_bytes,
                             context, ZSTD_LEVEL, &run->writer, err);
    }
    dr_free(context);
    /* The first holder of a step starts from nothing; any later one may find frames whose outcome
     * nobody has noted. */
    if (rc == DR_OK && l->token > 1) {
        rc = resolve_open_frames(run, err);
        dr_fault_mark("worker.probed");
    }
    return rc;
}

static enum dr_code begin_erase(struct dr_step_run *run, struct dr_err *err)
{
    struct dr_lease *l = run->lease;
    enum dr_code rc = dr_step_parse(run, err);
    if (rc == DR_OK && l->mark.cursor_len > DR_CURSOR_BYTES_MAX) {
        rc = dr_fail(err, DR_CORRUPT, "step %" PRId64 ": a stored cursor of %zu bytes", l->step_id,
                     l->mark.cursor_len);
    }
    if (rc == DR_OK) {
        rc = dr_layout_check(run->env->layout, run->env->store, &run->spec.range, false, err);
    }
    if (rc == DR_OK && run->spec.with_archive) {
        rc = open_archive(run, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    l->needs_probe = false;
    run->cursor.len = (uint32_t)l->mark.cursor_len;
    if (l->mark.cursor_len > 0) {
        memcpy(run->cursor.data, l->mark.cursor, l->mark.cursor_len);
        run->is_pass_fruitful = true; /* what the pass found before is not stored: assume so */
    }
    return DR_OK;
}

static enum dr_code archive_batch(struct dr_step_run *run, const struct dr_batch *b,
                                  uint64_t *length_out, struct dr_err *err)
{
    if (b->count > run->items_room) {
        struct dr_archive_item *grown =
            dr_realloc(run->items, (size_t)b->count * sizeof *run->items);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        run->items = grown;
        run->items_room = b->count;
    }
    for (uint64_t i = 0; i < b->count; i++) {
        run->items[i] = (struct dr_archive_item){.key = b->item[i].key,
                                                 .value = b->item[i].value,
                                                 .key_len = b->item[i].key_len,
                                                 .value_len = b->item[i].value_len};
    }
    run->has_open_frame = true;
    enum dr_code rc = dr_archive_put(run->writer, run->items, b->count, length_out, err);
    if (rc == DR_OK) {
        rc = dr_fault_pass("erase.archived", err);
    }
    return rc;
}

/* The range holds nothing more behind the cursor: is another pass due, or is the step done? */
static enum dr_code end_pass(struct dr_step_run *run, struct dr_step_report *report,
                             struct dr_err *err)
{
    run->lease->mark.pass++;
    run->cursor.len = 0;
    /* A slice of a key sequence is walked once: its keys are named and not found, so nothing can
     * turn up behind the cursor; a verify step looks at the end. */
    if (!run->is_pass_fruitful || run->spec.range.access == DR_BY_KEYS) {
        report->is_done = true;
        return DR_OK;
    }
    run->barren = run->pass_erased > 0 ? 0 : run->barren + 1;
    run->is_pass_fruitful = false;
    run->pass_erased = 0;
    if (run->barren >= BARREN_PASSES_MAX) {
        return dr_fail(err, DR_CONFLICT,
                       "%s on %s: %d passes in a row found items and could erase none of them, "
                       "because they change all the time",
                       run->spec.range.collection, run->spec.range.node, BARREN_PASSES_MAX);
    }
    return DR_OK;
}

/* The reply to an erase was lost. An archived batch is looked at when the step is begun again; of
 * one without archive nobody will know then what it was, so its count is made good at once. */
static void count_lost_reply(struct dr_step_run *run)
{
    struct dr_err err;
    struct dr_tally seen = {0};
    if (dr_store_probe(run->env->store, &run->spec.range, run->env->batch, &seen, &err) == DR_OK) {
        run->lease->mark.done += seen.absent;
    }
}

static enum dr_code erase_items(struct dr_step_run *run, struct dr_step_report *report,
                                struct dr_err *err)
{
    struct dr_progress_mark *m = &run->lease->mark;
    const struct dr_batch *b = run->env->batch;
    struct dr_tally tally = {0};
    uint64_t length = 0;
    enum dr_code rc = DR_OK;
    if (run->spec.with_archive) {
        rc = archive_batch(run, b, &length, err);
    }
    if (rc == DR_OK) {
        rc = run->env->still_mine(run->env->arg, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("erase.before", err);
    }
    if (rc == DR_OK) {
        rc = dr_store_erase(run->env->store, &run->spec.range, b, &tally, err);
        /* Generated keys need not have been there: their absence says nothing. */
        if (rc == DR_UNKNOWN && !run->spec.with_archive && run->spec.range.access != DR_BY_KEYS) {
            count_lost_reply(run);
        }
    }
    if (rc == DR_OK) {
        dr_fault_mark("erase.after");
        run->has_open_frame = false;
        m->done += tally.erased;
        m->archive_frames += run->spec.with_archive;
        m->archive_bytes = run->spec.with_archive ? length : 0;
        run->pass_erased += tally.erased;
        report->items = tally.erased;
    }
    return rc;
}

static enum dr_code batch_erase(struct dr_step_run *run, const struct dr_budget *budget,
                                struct dr_step_report *report, struct dr_err *err)
{
    struct dr_batch *b = run->env->batch;
    struct dr_budget own = *budget;
    bool is_look = budget->items_max == 0;
    own.items_max = is_look ? 1 : budget->items_max;
    own.with_values = run->spec.with_archive;
    enum dr_code rc = run->has_open_frame ? resolve_open_frames(run, err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_layout_check(run->env->layout, run->env->store, &run->spec.range, false, err);
    }
    if (rc == DR_OK) {
        rc = dr_store_scan(run->env->store, &run->spec.range, &own, &run->cursor, b, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("erase.read", err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (is_look && b->count > 0) {
        return dr_fail(err, DR_BRAKED, "%s on %s: items are left, but none may be erased now",
                       run->spec.range.collection, run->spec.range.node);
    }
    report->read = b->looked > b->count ? b->looked : b->count;
    report->bytes = b->bytes;
    if (b->count > 0) {
        run->is_pass_fruitful = true;
        rc = erase_items(run, report, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    run->cursor = b->after;
    if (b->is_end) {
        rc = end_pass(run, report, err);
    }
    dr_step_note_cursor(run, false);
    return rc;
}

const struct step_way *dr_step_way_erase(void)
{
    static const struct step_way way = {
        .name = "erase", .begin = begin_erase, .batch = batch_erase};
    return &way;
}
