/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verbs that steer: pause, resume, stop, rollback, tune. They set wishes, which the owner
 * of the data folder obeys; an undo that nobody would do is done here. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli_private.h"

enum { HOLDER_BYTES = 256, WHAT_BYTES = DR_NAME_BYTES + 128 };

static const char *reason_of(const struct dr_cli *c)
{
    return dr_args_text(c->args, "reason", "");
}

/* Say what will happen now, and who will do it. */
static enum dr_code show_after(struct dr_cli *c, int64_t op_id, const char *what,
                               const char *verb_to_do_it, struct dr_err *err)
{
    char holder[HOLDER_BYTES];
    struct dr_op op;
    enum dr_code rc = dr_queue_op(c->queue, op_id, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(dr_show_op_json(&op), err);
    }
    if (dr_queue_is_owned(c->queue, holder, sizeof holder)) {
        dr_cli_say(c, "operation %lld is %s; %s (%s)", (long long)op_id,
                   dr_op_status_name(op.status), what, holder);
    } else if (dr_op_status_is_resting(op.status)) {
        dr_cli_say(c, "operation %lld is %s", (long long)op_id, dr_op_status_name(op.status));
    } else {
        dr_cli_say(c,
                   "operation %lld is %s; nobody works on this data folder; start: drover %s "
                   "%lld",
                   (long long)op_id, dr_op_status_name(op.status), verb_to_do_it, (long long)op_id);
    }
    return DR_OK;
}

static enum dr_code wish_and_show(struct dr_cli *c, enum dr_wish wish, const char *what,
                                  struct dr_err *err)
{
    struct dr_op op;
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK) {
        rc = dr_queue_wish(c->queue, op.id, wish, c->who, reason_of(c), err);
    }
    return rc == DR_OK ? show_after(c, op.id, what, "run", err) : rc;
}

enum dr_code dr_cli_pause(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    (void)exit_out;
    return wish_and_show(c, DR_WISH_PAUSE, "it rests after the batch at hand", err);
}

/* Resuming a plan nobody approved must not go around the question that run asks. */
enum dr_code dr_cli_resume(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    (void)exit_out;
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK) {
        rc = dr_cli_approve_op(c, &op, err);
    }
    if (rc == DR_OK) {
        rc = dr_queue_wish(c->queue, op.id, DR_WISH_RUN, c->who, reason_of(c), err);
    }
    return rc == DR_OK ? show_after(c, op.id, "it goes on", "run", err) : rc;
}

/* Work on the undo here, or look on while the owner does it; if the owner dies meanwhile, take
 * over. */
static enum dr_code undo_to_the_end(struct dr_cli *c, int64_t op_id, struct dr_err *err)
{
    bool is_ended = false;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && !is_ended) {
        c->place = DR_AT_DATA;
        rc = dr_queue_own(c->queue, err);
        if (rc == DR_OK) {
            return dr_cli_pool(c, op_id, false, err);
        }
        if (rc == DR_BUSY) {
            dr_err_clear(err);
            rc = dr_cli_follow(c, op_id, &is_ended, err);
        }
    }
    return rc;
}

static enum dr_code undo(struct dr_cli *c, const char *reason_default, int *exit_out,
                         struct dr_err *err)
{
    struct dr_op op;
    char what[WHAT_BYTES];
    char count[32];
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK && op.status == DR_O_ROLLED_BACK) {
        dr_cli_catch_up_records(c);
        return dr_cli_conclude(c, op.id, true, exit_out, err);
    }
    if (rc == DR_OK && op.wish != DR_WISH_ROLLBACK) {
        (void)snprintf(what, sizeof what, "This puts back %s items of %s.",
                       dr_human_count(op.items_done, count, sizeof count), op.target);
        rc = dr_cli_confirm(c, what, op.target, err);
        if (rc == DR_OK) {
            const char *reason = reason_of(c);
            rc = dr_queue_wish(c->queue, op.id, DR_WISH_ROLLBACK, c->who,
                               reason[0] != '\0' ? reason : reason_default, err);
        }
    }
    if (rc == DR_OK) {
        rc = undo_to_the_end(c, op.id, err);
    }
    return rc == DR_OK ? dr_cli_conclude(c, op.id, true, exit_out, err) : rc;
}

enum dr_code dr_cli_stop_op(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    if (dr_args_has(c->args, "now")) {
        return undo(c, "stop --now", exit_out, err);
    }
    return wish_and_show(c, DR_WISH_STOP, "it ends after the batch at hand, what is done stays",
                         err);
}

/* Only what comes behind a step goes back. */
static enum dr_code undo_part(struct dr_cli *c, int64_t to, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    char what[WHAT_BYTES];
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK) {
        (void)snprintf(what, sizeof what, "This undoes the steps of %.60s behind step %lld.",
                       op.target, (long long)to);
        rc = dr_cli_confirm(c, what, op.target, err);
    }
    if (rc == DR_OK) {
        rc = dr_queue_rollback_to(c->queue, op.id, to, c->who, reason_of(c), err);
    }
    if (rc == DR_OK) {
        rc = undo_to_the_end(c, op.id, err);
    }
    if (rc == DR_OK) {
        rc = dr_cli_conclude(c, op.id, true, exit_out, err);
    }
    if (rc == DR_OK && *exit_out == DR_EXIT_EARLY) { /* stopped is what was asked for */
        *exit_out = DR_EXIT_DONE;
    }
    return rc;
}

enum dr_code dr_cli_rollback(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    uint64_t to = dr_args_u64(c->args, "to", 0);
    if (dr_args_has(c->args, "to")) {
        return to > 0 && to < INT64_MAX
                   ? undo_part(c, (int64_t)to, exit_out, err)
                   : dr_fail(err, DR_USAGE,
                             "--to: the number of a step; drover steps OP lists them");
    }
    return undo(c, "", exit_out, err);
}

static enum dr_code print_tuning(struct dr_cli *c, int64_t op_id, const json_t *tuning,
                                 struct dr_err *err)
{
    struct dr_str out;
    const char *key;
    json_t *value;
    if (tuning == NULL) {
        return dr_fail_nomem(err);
    }
    if (c->is_json) {
        return dr_cli_put_json(json_incref((json_t *)tuning), err);
    }
    dr_str_init(&out);
    dr_str_addf(&out, "tuning of operation %lld:\n", (long long)op_id);
    json_object_foreach((json_t *)tuning, key, value)
    {
        if (json_is_string(value)) {
            dr_str_addf(&out, "  %-18s%s\n", key, json_string_value(value));
            continue;
        }
        char *text = json_is_array(value) ? dr_json_text(value) : NULL;
        if (json_is_array(value)) {
            dr_str_addf(&out, "  %-18s%s\n", key, text != NULL ? text : "?");
        } else {
            dr_str_addf(&out, "  %-18s%.10g\n", key, json_number_value(value));
        }
        dr_free(text);
    }
    return dr_cli_put_text(&out, err);
}

enum dr_code dr_cli_tune(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    json_t *changes = NULL;
    json_t *whole = NULL;
    (void)exit_out;
    enum dr_code rc = dr_cli_tuning_options(c, &changes, err);
    if (rc == DR_OK) {
        rc = dr_cli_op(c, &op, err);
    }
    if (rc == DR_OK) {
        rc = dr_steer_tune(c->queue, op.id, changes, "tune", c->who, &whole, err);
    }
    if (rc == DR_OK) {
        rc = print_tuning(c, op.id, whole, err);
    }
    json_decref(whole);
    json_decref(changes);
    return rc;
}
