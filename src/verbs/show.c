/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how operations and steps look, for people and as JSON. Pure but for the clock's format. */
#include "verbs/show.h"

#include <stdio.h>
#include <string.h>

#include "obs/log.h"

enum { COUNT_BYTES = 32, WHEN_BYTES = 40, URL_BYTES = 512, PLAIN_BYTES = 1024 };

char *dr_show_when(dr_wall_ms at, char *buf, size_t buf_bytes)
{
    char full[WHEN_BYTES];
    if (at == 0) {
        dr_copy_text(buf, buf_bytes, "-");
        return buf;
    }
    (void)dr_wall_text(at, full, sizeof full); /* 2026-11-21T05:48:26.123Z */
    full[10] = ' ';
    full[19] = 'Z';
    full[20] = '\0';
    dr_copy_text(buf, buf_bytes, full);
    return buf;
}

json_t *dr_show_text_json(const char *text)
{
    char plain[PLAIN_BYTES];
    json_t *j = text == NULL ? json_null() : json_string(text);
    if (j != NULL) {
        return j;
    }
    dr_copy_text(plain, sizeof plain, text);
    for (char *c = plain; *c != '\0'; c++) {
        *c = (*c & '\x80') != 0 ? '?' : *c;
    }
    return json_string(plain);
}

bool dr_show_is_undo_possible(const struct dr_op *op)
{
    bool has_done = op->is_atomic ? op->count[DR_S_PROCESSED] > 0 : op->items_done > 0;
    return !op->is_irreversible && !op->is_archive_expired && !op->is_past_no_return &&
           op->status != DR_O_ROLLED_BACK && has_done;
}

void dr_show_progress_of(const struct dr_op *op, uint64_t *done_out, uint64_t *total_out)
{
    bool is_undo = op->status == DR_O_ROLLING_BACK || op->status == DR_O_ROLLED_BACK ||
                   op->status == DR_O_ROLLBACK_BLOCKED;
    *done_out = is_undo ? op->items_undone + op->items_conflict : op->items_done;
    *total_out = is_undo ? op->items_done : op->items_estimated;
    if (op->is_atomic && is_undo) { /* what was copied is not put back, it goes: steps count */
        *done_out = op->count[DR_S_UNDONE];
        *total_out = op->count[DR_S_UNDONE] + op->count[DR_S_UNDOING] +
                     op->count[DR_S_UNDO_FAILED] + op->count[DR_S_LEASED] +
                     op->count[DR_S_WAITING] + op->count[DR_S_UNKNOWN];
    } else if (op->is_atomic && op->items_estimated == 0) {
        *done_out = op->count[DR_S_PROCESSED];
        *total_out = op->steps;
    }
}

/* Whole percent; 100 only when it has ended, so that nobody reads "100%" while rows are left. */
static void show_percent(const struct dr_op *op, char *buf, size_t buf_bytes)
{
    uint64_t done;
    uint64_t total;
    dr_show_progress_of(op, &done, &total);
    if (op->status == DR_O_DONE || op->status == DR_O_ROLLED_BACK) {
        dr_copy_text(buf, buf_bytes, "100%");
    } else if (total == 0) {
        dr_copy_text(buf, buf_bytes, "-");
    } else if (done > total) {
        dr_copy_text(buf, buf_bytes, "100+%");
    } else {
        double percent = 100.0 * (double)done / (double)total;
        (void)snprintf(buf, buf_bytes, "%.0f%%", percent > 99.0 ? 99.0 : percent);
    }
}

static int add_when(json_t *j, const char *key, dr_wall_ms at)
{
    char text[WHEN_BYTES];
    return json_object_set_new(
        j, key, at == 0 ? json_null() : json_string(dr_wall_text(at, text, sizeof text)));
}

static json_t *items_json(const struct dr_op *op)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "estimated", (json_int_t)op->items_estimated, "done",
                     (json_int_t)op->items_done, "undone", (json_int_t)op->items_undone,
                     "conflicts", (json_int_t)op->items_conflict);
}

static json_t *steps_json(const struct dr_op *op)
{
    json_t *j = json_pack("{s:I}", "total", (json_int_t)op->steps);
    int bad = j == NULL ? -1 : 0;
    for (int s = 0; s < DR_S_COUNT && bad == 0; s++) {
        bad |= json_object_set_new(j, dr_step_status_name((enum dr_step_status)s),
                                   json_integer((json_int_t)op->count[s]));
    }
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

const char *dr_show_done_word(const struct dr_op *op)
{
    return strncmp(op->kind, "table.", 6) == 0 ? "copied" : "erased";
}

json_t *dr_show_op_json(const struct dr_op *op)
{
    char url[URL_BYTES];
    json_t *j =
        json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:I}", "id",
                  (json_int_t)op->id, "group", op->group, "kind", op->kind, "target", op->target,
                  "store", dr_url_redact(op->store_url, url, sizeof url), "status",
                  dr_op_status_name(op->status), "wish", dr_wish_name(op->wish), "wish_by",
                  op->wish_by, "reason", op->wish_reason, "priority", (int)op->priority,
                  "irreversible", op->is_irreversible ? 1 : 0, "stage", (json_int_t)op->stage);
    if (j == NULL) {
        return NULL;
    }
    int bad = add_when(j, "created_at", op->created_at);
    bad |= add_when(j, "started_at", op->started_at);
    bad |= add_when(j, "ended_at", op->ended_at);
    bad |= add_when(j, "archive_until", op->archive_until);
    bad |= json_object_set_new(j, "archive_expired", json_boolean(op->is_archive_expired));
    bad |= json_object_set_new(j, "waiting", json_string(op->waiting));
    bad |= json_object_set_new(j, "atomic", json_boolean(op->is_atomic));
    bad |= json_object_set_new(j, "past_no_return", json_boolean(op->is_past_no_return));
    bad |= json_object_set_new(j, "rollback_to", json_integer(op->rollback_to));
    /* Items before steps: people and scripts look for the first "done". */
    bad |= json_object_set_new(j, "items", items_json(op));
    bad |= json_object_set_new(j, "steps", steps_json(op));
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static void add_steps(const struct dr_op *op, struct dr_str *out)
{
    char count[COUNT_BYTES];
    dr_str_addf(out, "steps:     %s", dr_human_count(op->steps, count, sizeof count));
    const char *separator = " (";
    for (int s = 0; s < DR_S_COUNT; s++) {
        if (op->count[s] > 0) {
            dr_str_addf(out, "%s%s %s", separator,
                        dr_human_count(op->count[s], count, sizeof count),
                        dr_step_status_name((enum dr_step_status)s));
            separator = ", ";
        }
    }
    dr_str_add(out, strcmp(separator, ", ") == 0 ? ")\n" : "\n");
}

static void add_undo(const struct dr_op *op, struct dr_str *out)
{
    char when[WHEN_BYTES];
    dr_str_add(out, "undo:      ");
    if (op->is_irreversible) {
        dr_str_add(out, "none, it is irreversible\n");
    } else if (op->is_archive_expired) {
        dr_str_add(out, "no more, the archive has expired\n");
    } else if (op->archive_until != 0) {
        dr_str_addf(out, "kept until %s\n", dr_show_when(op->archive_until, when, sizeof when));
    } else {
        dr_str_add(out, "kept from the first batch on\n");
    }
}

void dr_show_op(const struct dr_op *op, struct dr_str *out)
{
    char a[COUNT_BYTES];
    char b[COUNT_BYTES];
    char percent[COUNT_BYTES];
    char when[WHEN_BYTES];
    char url[URL_BYTES];
    dr_str_addf(out, "operation: %lld (%s)\nkind:      %s\ntarget:    %s\nstore:     %s\n",
                (long long)op->id, op->group, op->kind, op->target,
                dr_url_redact(op->store_url, url, sizeof url));
    dr_str_addf(out, "status:    %s", dr_op_status_name(op->status));
    if (op->waiting[0] != '\0') {
        dr_str_addf(out, ", waiting: %s", op->waiting);
    }
    dr_str_addf(out, "\nwish:      %s, by %s%s%s\n", dr_wish_name(op->wish), op->wish_by,
                op->wish_reason[0] != '\0' ? ": " : "", op->wish_reason);
    show_percent(op, percent, sizeof percent);
    dr_str_addf(out, "items:     %s of about %s %s (%s)",
                dr_human_count(op->items_done, a, sizeof a),
                dr_human_count(op->items_estimated, b, sizeof b), dr_show_done_word(op), percent);
    if (op->items_undone > 0 || op->items_conflict > 0) {
        dr_str_addf(out, ", %s put back, %s conflicts",
                    dr_human_count(op->items_undone, a, sizeof a),
                    dr_human_count(op->items_conflict, b, sizeof b));
    }
    dr_str_addc(out, '\n');
    add_steps(op, out);
    dr_str_addf(out, "created:   %s\n", dr_show_when(op->created_at, when, sizeof when));
    dr_str_addf(out, "started:   %s\n", dr_show_when(op->started_at, when, sizeof when));
    dr_str_addf(out, "ended:     %s\n", dr_show_when(op->ended_at, when, sizeof when));
    if (op->is_past_no_return) {
        dr_str_add(out, "undo:      none: the point of no return is passed\n");
        return;
    }
    add_undo(op, out);
}

void dr_show_op_head(struct dr_str *out)
{
    dr_str_addf(out, "%5s  %-16s %-15s %-24s %6s %15s  %s\n", "OP", "STATUS", "KIND", "TARGET",
                "DONE", "ITEMS", "AGE");
}

void dr_show_op_line(const struct dr_op *op, dr_wall_ms now, struct dr_str *out)
{
    char percent[COUNT_BYTES];
    char items[COUNT_BYTES];
    char age[COUNT_BYTES];
    show_percent(op, percent, sizeof percent);
    dr_str_addf(
        out, "%5lld  %-16s %-15s %-24s %6s %15s  %s\n", (long long)op->id,
        dr_op_status_name(op->status), op->kind, op->target, percent,
        dr_human_count(op->items_done, items, sizeof items),
        dr_human_ms(now > op->created_at ? (uint64_t)(now - op->created_at) : 0, age, sizeof age));
}

json_t *dr_show_step_json(const struct dr_step *s)
{
    json_t *j = json_pack("{s:I, s:I, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id",
                          (json_int_t)s->id, "operation", (json_int_t)s->op_id, "kind",
                          dr_step_kind_name(s->kind), "status", dr_step_status_name(s->status),
                          "stage", (json_int_t)s->stage, "node", s->node, "title", s->title,
                          "tries", (json_int_t)s->tries, "estimated", (json_int_t)s->estimated,
                          "done", (json_int_t)s->done, "undone", (json_int_t)s->undone,
                          "duration_ms", (json_int_t)s->duration_ms);
    if (j == NULL) {
        return NULL;
    }
    int bad = add_when(j, "next_attempt_at", s->next_attempt_at);
    bad |= json_object_set_new(j, "lease_owner", json_string(s->lease_owner));
    bad |= json_object_set_new(j, "last_error", json_string(s->last_error));
    bad |= json_object_set_new(j, "waits_because", json_string(s->waits_because));
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}
