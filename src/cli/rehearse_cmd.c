/* SPDX-License-Identifier: Apache-2.0 */
/* Owns --rehearse: the rollback test mode on the command line. */
#include <stdio.h>

#include "cli/cli_private.h"
#include "verbs/rehearse.h"

static void print_lines(const json_t *one, const char *key, const char *head)
{
    size_t i;
    json_t *line;
    json_array_foreach(json_object_get(one, key), i, line)
    {
        (void)printf("    %s %s\n", head, json_string_value(line));
    }
}

static void print_rehearsal(const struct dr_rehearsal *r, int64_t op_id)
{
    char forward[32];
    char undo[32];
    size_t i;
    json_t *one;
    (void)printf(
        "rehearsal (operation %lld): %llu steps done in %s, %llu undone in %s, %llu of them "
        "left something different\n",
        (long long)op_id, (unsigned long long)r->steps,
        dr_human_ms(r->forward_us / 1000, forward, sizeof forward), (unsigned long long)r->undone,
        dr_human_ms(r->undo_us / 1000, undo, sizeof undo), (unsigned long long)r->differing);
    json_array_foreach(r->differences, i, one)
    {
        (void)printf("  step %lld: %s\n",
                     (long long)json_integer_value(json_object_get(one, "step")),
                     json_string_value(json_object_get(one, "title")));
        print_lines(one, "missing", "missing:");
        print_lines(one, "left", "left:");
    }
}

enum dr_code dr_cli_rehearse(struct dr_cli *c, const struct dr_prepared *p, int *exit_out,
                             struct dr_err *err)
{
    struct dr_rehearsal r = {0};
    int64_t op_id = 0;
    enum dr_code rc = dr_cli_approve(c, p, err);
    if (rc == DR_OK) {
        rc = dr_cli_world(c, false, err);
    }
    if (rc == DR_OK) {
        rc = dr_rehearse(c->queue, &c->world, p, c->who, &op_id, &r, err);
    }
    if (rc == DR_OK && c->is_json) {
        rc = dr_cli_put_json(json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:O?}", "operation",
                                       (json_int_t)op_id, "steps", (json_int_t)r.steps, "undone",
                                       (json_int_t)r.undone, "differing", (json_int_t)r.differing,
                                       "forward_us", (json_int_t)r.forward_us, "undo_us",
                                       (json_int_t)r.undo_us, "differences", r.differences),
                             err);
    } else if (rc == DR_OK) {
        print_rehearsal(&r, op_id);
    }
    if (rc == DR_OK && (r.differing > 0 || r.undone < r.steps)) {
        *exit_out = DR_EXIT_UNHEALTHY;
    }
    dr_rehearsal_fini(&r);
    return rc;
}
