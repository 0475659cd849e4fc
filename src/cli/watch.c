/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the tables of operations: status and watch without a number, and watching one. */
#include <stdio.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "cli/cli_private.h"

enum { LOOK_MS = 1000, PLAIN_TABLE_MS = 5000 };

static enum dr_code watch_one(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    bool is_ended = false;
    bool is_told = false;
    enum dr_code rc = dr_cli_op(c, &op, err);
    while (rc == DR_OK && !is_ended) {
        rc = dr_cli_follow(c, op.id, &is_ended, err);
        if (rc == DR_OK && !is_ended && !is_told) {
            is_told = true;
            dr_cli_say(c, "nobody works on this data folder; start: drover run %lld",
                       (long long)op.id);
        }
    }
    if (rc == DR_OK) {
        rc = dr_queue_op(c->queue, op.id, &op, err);
    }
    return rc == DR_OK ? dr_cli_conclude(c, op.id, op.wish == DR_WISH_ROLLBACK, exit_out, err) : rc;
}

struct table {
    struct dr_str text;
    json_t *list; /* NULL: text */
    dr_wall_ms now;
    bool is_moving; /* some operation is not at rest */
};

static enum dr_code add_to_table(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct table *t = arg;
    t->is_moving = t->is_moving || !dr_op_status_is_resting(op->status);
    if (t->list == NULL) {
        dr_show_op_line(op, t->now, &t->text);
    } else if (json_array_append_new(t->list, dr_show_op_json(op)) != 0) {
        return dr_fail_nomem(err);
    }
    return DR_OK;
}

/* Print all operations once; *moving_out (may be NULL) says whether there is more to come. */
enum dr_code dr_cli_print_ops(struct dr_cli *c, const char *before, bool *moving_out,
                              struct dr_err *err)
{
    struct table t = {.now = dr_wall_now()};
    dr_str_init(&t.text);
    if (c->is_json) {
        t.list = json_array();
        if (t.list == NULL) {
            return dr_fail_nomem(err);
        }
    } else {
        dr_str_add(&t.text, before);
        dr_show_op_head(&t.text);
    }
    enum dr_code rc = dr_each_op(c->queue, add_to_table, &t, err);
    if (moving_out != NULL) {
        *moving_out = t.is_moving;
    }
    if (rc != DR_OK) {
        json_decref(t.list);
        dr_str_fini(&t.text);
        return rc;
    }
    if (t.list != NULL) {
        dr_str_fini(&t.text);
        return dr_cli_put_json(t.list, err);
    }
    return dr_cli_put_text(&t.text, err);
}

static enum dr_code watch_all(struct dr_cli *c, struct dr_err *err)
{
    bool is_moving = true;
    bool is_terminal = isatty(STDOUT_FILENO) != 0 && !c->is_json;
    uint64_t ms = is_terminal ? LOOK_MS : PLAIN_TABLE_MS;
    enum dr_code rc = dr_cli_queue(c, true, err);
    while (rc == DR_OK) {
        rc = dr_cli_print_ops(c, is_terminal ? "\033[H\033[J" : "", &is_moving, err);
        (void)fflush(stdout);
        if (!is_moving || ferror(stdout) != 0) {
            break;
        }
        (void)dr_wait_ms(ms, NULL, NULL);
    }
    return rc;
}

enum dr_code dr_cli_watch(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    return c->word_count > 0 ? watch_one(c, exit_out, err) : watch_all(c, err);
}
