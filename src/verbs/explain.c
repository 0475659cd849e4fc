/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the explanation of an operation: what an operation does now, why not faster, what comes
 * next, in sentences that name the remedy. */
#include "verbs/explain.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "verbs/show.h"
#include "verbs/steer.h"

enum {
    NOW_SHOWN = 8,
    NEXT_SHOWN = 3,
    TROUBLE_SHOWN = 5,
    TEXT_BYTES = 64,
    HOLDER_BYTES = 256,
    DISK_LOW_BYTES = 64 * 1024 * 1024
};

struct telling {
    struct dr_queue *q;
    const struct dr_op *op;
    struct dr_tuning tuning;
    dr_wall_ms now;
    struct dr_str *out; /* a sentence a line */
    /* the list of steps that is being told */
    const char *lead;
    unsigned shown, shown_max;
    bool with_error;
    bool only_leased; /* leave out those that nobody works on */
};

static enum dr_code tell_step(void *arg, const struct dr_step *s, bool *more, struct dr_err *err)
{
    struct telling *t = arg;
    char when[TEXT_BYTES];
    (void)err;
    if (t->only_leased && s->lease_owner[0] == '\0') {
        return DR_OK;
    }
    dr_str_addf(t->out, "%s step %lld on %s: %s", t->lead, (long long)s->id, s->node, s->title);
    if (t->with_error) {
        if (s->tries > 1) {
            dr_str_addf(t->out, "; %u failures in a row, the last", s->tries);
        }
        dr_str_addf(t->out, ": %s", s->last_error[0] != '\0' ? s->last_error : "not known");
        if (s->next_attempt_at > 0 && (s->status == DR_S_WAITING || s->status == DR_S_UNKNOWN)) {
            dr_str_addf(t->out, "; next try at %s",
                        dr_show_when(s->next_attempt_at, when, sizeof when));
        }
    } else if (s->lease_owner[0] != '\0') {
        dr_str_addf(t->out, " (by %s)", s->lease_owner);
    }
    if (s->waits_because[0] != '\0') {
        dr_str_addf(t->out, "; %s", s->waits_because);
    }
    dr_str_addc(t->out, '\n');
    *more = ++t->shown < t->shown_max;
    return DR_OK;
}

static enum dr_code tell_steps(struct telling *t, enum dr_step_status status, const char *lead,
                               unsigned shown_max, bool with_error, struct dr_err *err)
{
    t->lead = lead;
    t->shown = 0;
    t->shown_max = shown_max;
    t->with_error = with_error;
    t->only_leased = status == DR_S_UNDOING; /* from the start all that will be undone are so */
    if (t->op->count[status] == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_each_step(t->q, t->op->id, status, tell_step, t, err);
    if (rc == DR_OK && t->op->count[status] > t->shown) {
        bool is_rest = t->shown > 0;
        const char *name = dr_step_status_name(status);
        dr_str_addf(t->out, "%s%llu %s are %s: drover steps %lld --status %s\n",
                    is_rest ? "... and " : "",
                    (unsigned long long)(t->op->count[status] - t->shown),
                    is_rest ? "more that" : "steps", name, (long long)t->op->id, name);
    }
    return rc;
}

static void tell_who(struct telling *t, const char *what)
{
    const struct dr_op *op = t->op;
    dr_str_addf(t->out, "%s by %s%s%s.\n", what, op->wish_by,
                op->wish_reason[0] != '\0' ? ", because: " : "", op->wish_reason);
}

static void tell_state(struct telling *t)
{
    const struct dr_op *op = t->op;
    char done[TEXT_BYTES];
    char total[TEXT_BYTES];
    dr_str_addf(t->out, "Operation %lld (%s of %s) is %s: %s of about %s items are %s",
                (long long)op->id, op->kind, op->target, dr_op_status_name(op->status),
                dr_human_count(op->items_done, done, sizeof done),
                dr_human_count(op->items_estimated, total, sizeof total), dr_show_done_word(op));
    if (op->items_undone > 0 || op->items_conflict > 0) {
        dr_str_addf(t->out, ", %s are put back, %s conflicts are left alone",
                    dr_human_count(op->items_undone, done, sizeof done),
                    dr_human_count(op->items_conflict, total, sizeof total));
    }
    dr_str_add(t->out, ".\n");
    switch (op->wish) {
    case DR_WISH_HOLD:
        dr_str_addf(t->out, "It is only planned; approve it with: drover run %lld\n",
                    (long long)op->id);
        break;
    case DR_WISH_RUN:
        break;
    case DR_WISH_PAUSE:
        tell_who(t, "The pause was asked for");
        dr_str_addf(t->out, "To go on: drover resume %lld, or drover run %lld if nobody works.\n",
                    (long long)op->id, (long long)op->id);
        break;
    case DR_WISH_STOP:
        tell_who(t, "The stop was asked for");
        break;
    case DR_WISH_ROLLBACK:
        tell_who(t, "The rollback was asked for");
        break;
    case DR_WISH_COUNT:
        break;
    }
}

static void tell_worker(struct telling *t)
{
    char holder[HOLDER_BYTES];
    bool is_resting = dr_op_status_is_resting(t->op->status);
    if (dr_queue_is_owned(t->q, holder, sizeof holder)) {
        dr_str_addf(t->out, "The data folder is worked on by %s.\n", holder);
    } else if (!is_resting) {
        dr_str_addf(t->out,
                    "Nobody works on this data folder, so nothing moves; start: drover %s %lld\n",
                    t->op->wish == DR_WISH_ROLLBACK ? "rollback" : "run", (long long)t->op->id);
    }
}

static void tell_quiet(struct telling *t)
{
    dr_wall_ms over = 0;
    char when[TEXT_BYTES];
    if (t->tuning.quiet_count == 0) {
        return;
    }
    if (dr_tuning_is_quiet(&t->tuning, t->now, &over)) {
        dr_str_addf(t->out,
                    "It is a quiet hour: no work until %s; drover tune %lld --quiet-hours "
                    "\"\" lifts that.\n",
                    dr_show_when(over, when, sizeof when), (long long)t->op->id);
    } else {
        dr_str_addf(t->out, "Quiet hours are set (%u windows), none is now.\n",
                    t->tuning.quiet_count);
    }
}

static void tell_limits(struct telling *t)
{
    const struct dr_tuning *tuning = &t->tuning;
    char count[TEXT_BYTES];
    char bytes[TEXT_BYTES];
    if (t->op->waiting[0] != '\0') {
        dr_str_addf(t->out, "It waits: %s\n", t->op->waiting);
    }
    if (tuning->rate_items_s > 0) {
        dr_str_addf(t->out,
                    "The rate is limited to %s items a second; drover tune %lld --rate N "
                    "changes it.\n",
                    dr_human_count(tuning->rate_items_s, count, sizeof count),
                    (long long)t->op->id);
    }
    tell_quiet(t);
    dr_str_addf(t->out,
                "At most %u step%s at once on a node, %s items or %s in a batch of about "
                "%llu ms.\n",
                tuning->per_node, tuning->per_node == 1 ? "" : "s",
                dr_human_count(tuning->batch_items_max, count, sizeof count),
                dr_human_bytes(tuning->batch_bytes_max, bytes, sizeof bytes),
                (unsigned long long)tuning->batch_target_ms);
    if (tuning->lanes > 0) {
        dr_str_addf(t->out, "At most %u of its steps run at once over all nodes.\n", tuning->lanes);
    }
    if (tuning->sleep_ratio > 0) {
        dr_str_addf(t->out, "After a batch it rests %.2g times as long as the batch took.\n",
                    tuning->sleep_ratio);
    }
    if (tuning->max_items > 0) {
        dr_str_addf(t->out, "It pauses beyond %s items.\n",
                    dr_human_count(tuning->max_items, count, sizeof count));
    }
}

/* A disk that is nearly full is the reason even when the one who met it is gone by now. */
static void tell_disk(struct telling *t)
{
    uint64_t bytes = 0;
    char text[TEXT_BYTES];
    struct dr_err ignored = {0};
    if (dr_disk_free(dr_queue_data_dir(t->q), &bytes, &ignored) == DR_OK &&
        bytes < DISK_LOW_BYTES) {
        dr_str_addf(t->out, "Only %s of space are left on the disk of %s; make room there.\n",
                    dr_human_bytes(bytes, text, sizeof text), dr_queue_data_dir(t->q));
    }
}

static enum dr_code tell_if_goes_first(void *arg, const struct dr_op *other, struct dr_err *err)
{
    struct telling *t = arg;
    (void)err;
    if (other->id != t->op->id && other->priority > t->op->priority &&
        !dr_op_status_is_resting(other->status)) {
        dr_str_addf(t->out, "Operation %lld (priority %d) goes before this one (priority %d).\n",
                    (long long)other->id, (int)other->priority, (int)t->op->priority);
    }
    return DR_OK;
}

static void tell_undo(struct telling *t)
{
    const struct dr_op *op = t->op;
    char when[TEXT_BYTES];
    if (op->wish == DR_WISH_ROLLBACK) {
        return;
    }
    if (op->is_past_no_return) {
        dr_str_add(t->out, "It cannot be undone any more: its point of no return is passed.\n");
    } else if (op->is_irreversible) {
        dr_str_add(t->out, "It is irreversible: what is erased is not archived.\n");
    } else if (op->is_archive_expired) {
        dr_str_add(t->out, "It cannot be undone any more: its archive has expired.\n");
    } else if (dr_show_is_undo_possible(op) && op->archive_until > 0) {
        dr_str_addf(t->out, "It can be undone until %s: drover rollback %lld\n",
                    dr_show_when(op->archive_until, when, sizeof when), (long long)op->id);
    } else if (dr_show_is_undo_possible(op)) {
        dr_str_addf(t->out, "It can be undone: drover rollback %lld\n", (long long)op->id);
    }
}

static enum dr_code tell_trouble(struct telling *t, struct dr_err *err)
{
    enum dr_code rc = tell_steps(t, DR_S_WAITING, "Retried later:", TROUBLE_SHOWN, true, err);
    if (rc == DR_OK) {
        rc = tell_steps(t, DR_S_UNKNOWN, "Outcome not known, looked at first:", TROUBLE_SHOWN, true,
                        err);
    }
    if (rc == DR_OK) {
        rc = tell_steps(t, DR_S_FAILED, "In quarantine:", TROUBLE_SHOWN, true, err);
    }
    if (rc == DR_OK) {
        rc = tell_steps(t, DR_S_UNDO_FAILED, "In quarantine, its undo failed:", TROUBLE_SHOWN, true,
                        err);
    }
    if (rc == DR_OK && t->op->count[DR_S_FAILED] + t->op->count[DR_S_UNDO_FAILED] > 0) {
        dr_str_addf(t->out,
                    "Once the cause is gone: drover quarantine retry %lld, then drover %s "
                    "%lld.\n",
                    (long long)t->op->id, t->op->wish == DR_WISH_ROLLBACK ? "rollback" : "run",
                    (long long)t->op->id);
    }
    return rc;
}

static enum dr_code tell_all(struct telling *t, struct dr_err *err)
{
    enum dr_code rc = dr_steer_read_tuning(t->q, t->op->id, &t->tuning, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_over = dr_op_status_is_final(t->op->status);
    tell_state(t);
    tell_worker(t);
    rc = tell_steps(t, DR_S_LEASED, "Now:", NOW_SHOWN, false, err);
    if (rc == DR_OK) {
        rc = tell_steps(t, DR_S_UNDOING, "Now putting back:", NOW_SHOWN, false, err);
    }
    if (rc == DR_OK && !is_over) {
        tell_limits(t);
        tell_disk(t);
        rc = dr_each_op(t->q, tell_if_goes_first, t, err);
    }
    if (rc == DR_OK) {
        rc = tell_trouble(t, err);
    }
    if (rc == DR_OK && !is_over && t->op->wish != DR_WISH_ROLLBACK) {
        rc = tell_steps(t, DR_S_CREATED, "Next:", NEXT_SHOWN, false, err);
    }
    if (rc == DR_OK) {
        tell_undo(t);
    }
    return rc;
}

enum dr_code dr_explain_op(struct dr_queue *q, const struct dr_op *op, struct dr_str *out,
                           struct dr_err *err)
{
    struct telling t = {.q = q, .op = op, .out = out, .now = dr_wall_now()};
    return tell_all(&t, err);
}

static json_t *lines_of(const struct dr_str *text)
{
    json_t *lines = json_array();
    int bad = lines == NULL || text->is_short ? -1 : 0;
    for (const char *at = dr_str_text(text); bad == 0 && *at != '\0';) {
        size_t length = strcspn(at, "\n");
        bad |= json_array_append_new(lines, json_stringn(at, length));
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    if (bad != 0) {
        json_decref(lines);
        return NULL;
    }
    return lines;
}

enum dr_code dr_explain_op_json(struct dr_queue *q, const struct dr_op *op, json_t **out,
                                struct dr_err *err)
{
    struct dr_str text;
    *out = NULL;
    dr_str_init(&text);
    enum dr_code rc = dr_explain_op(q, op, &text, err);
    if (rc == DR_OK) {
        json_t *lines = lines_of(&text);
        *out = lines == NULL ? NULL
                             : json_pack("{s:I, s:s, s:s, s:o}", "operation", (json_int_t)op->id,
                                         "status", dr_op_status_name(op->status), "waiting",
                                         op->waiting, "explanation", lines);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_str_fini(&text);
    return rc;
}
