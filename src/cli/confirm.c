/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the question before anything is erased or put back. Typing the target's name, not "yes",
 * makes the operator read it (the habit of cloud consoles for deletions). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_private.h"

enum { ANSWER_BYTES = 512, WHAT_BYTES = DR_NAME_BYTES + 128 };

enum dr_code dr_cli_confirm(struct dr_cli *c, const char *what, const char *target,
                            struct dr_err *err)
{
    char answer[ANSWER_BYTES];
    if (c->is_yes) {
        return DR_OK;
    }
    if (isatty(STDIN_FILENO) == 0) {
        return dr_fail(err, DR_REFUSED,
                       "%s There is no terminal to ask on; say --yes if that is what you want",
                       what);
    }
    (void)fflush(stdout);
    /* Asked even with --quiet: a question nobody sees is a hang. */
    (void)fprintf(stderr, "%s Type %s to go on: ", what, target);
    if (fgets(answer, sizeof answer, stdin) == NULL) {
        (void)fputc('\n', stderr);
        return dr_fail(err, DR_REFUSED, "not confirmed; nothing was done");
    }
    answer[strcspn(answer, "\r\n")] = '\0';
    if (strcmp(answer, target) != 0) {
        return dr_fail(err, DR_REFUSED,
                       "not confirmed: that is not the name \"%s\"; nothing was done", target);
    }
    return DR_OK;
}

enum dr_code dr_cli_approve_op(struct dr_cli *c, const struct dr_op *op, struct dr_err *err)
{
    char what[WHAT_BYTES];
    char count[32];
    if (dr_op_is_approved(op)) {
        return DR_OK;
    }
    if (dr_cli_is_fleet(op->store_url)) {
        (void)snprintf(what, sizeof what, "This is %.60s of %.60s in %s steps.", op->kind,
                       op->target, dr_human_count(op->steps, count, sizeof count));
    } else {
        (void)snprintf(what, sizeof what, "This erases %s items of %s%s.",
                       dr_human_count(op->items_estimated, count, sizeof count), op->target,
                       op->is_irreversible ? ", without an archive and for ever" : "");
    }
    return dr_cli_confirm(c, what, op->target, err);
}
