/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verbs that only look: status of one operation, its steps, the audit, explain. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli_private.h"

enum { STEPS_DEFAULT = 100, WHEN_BYTES = 40, LIST_BYTES = 256, HOLDER_BYTES = 256 };

enum dr_code dr_cli_status(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    struct dr_str out;
    char holder[HOLDER_BYTES];
    enum dr_code rc;
    (void)exit_out;
    if (c->word_count == 0) {
        rc = dr_cli_queue(c, true, err);
        return rc == DR_OK ? dr_cli_print_ops(c, "", NULL, err) : rc;
    }
    rc = dr_cli_op(c, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        return dr_cli_put_json(dr_show_op_json(&op), err);
    }
    dr_str_init(&out);
    dr_show_op(&op, &out);
    rc = dr_cli_put_text(&out, err);
    /* After a crash the last owner's steps still look like work. */
    if (rc == DR_OK && !dr_op_status_is_resting(op.status) &&
        !dr_queue_is_owned(c->queue, holder, sizeof holder)) {
        dr_cli_say(c, "nobody works on this data folder; start: drover %s %lld",
                   op.wish == DR_WISH_ROLLBACK ? "rollback" : "run", (long long)op.id);
    }
    return rc;
}

static enum dr_code parse_status(const struct dr_cli *c, enum dr_step_status *out,
                                 struct dr_err *err)
{
    char known[LIST_BYTES] = "";
    size_t used = 0;
    const char *text = dr_args_text(c->args, "status", NULL);
    *out = DR_S_COUNT;
    if (text == NULL) {
        return DR_OK;
    }
    for (int s = 0; s < DR_S_COUNT; s++) {
        const char *name = dr_step_status_name((enum dr_step_status)s);
        if (strcmp(name, text) == 0) {
            *out = (enum dr_step_status)s;
            return DR_OK;
        }
        if (used < sizeof known) {
            int wrote =
                snprintf(known + used, sizeof known - used, "%s%s", s == 0 ? "" : ", ", name);
            used += wrote > 0 ? (size_t)wrote : 0;
        }
    }
    return dr_fail(err, DR_USAGE, "--status is one of %s, not \"%.40s\"", known, text);
}

struct step_list {
    json_t *list; /* NULL: printed at once */
    uint64_t count, count_max;
    bool is_cut;
};

static enum dr_code list_step(void *arg, const struct dr_step *s, bool *more, struct dr_err *err)
{
    struct step_list *l = arg;
    if (l->count_max != 0 && l->count == l->count_max) {
        l->is_cut = true;
        *more = false;
        return DR_OK;
    }
    l->count++;
    if (l->list != NULL) {
        return json_array_append_new(l->list, dr_show_step_json(s)) != 0 ? dr_fail_nomem(err)
                                                                         : DR_OK;
    }
    (void)printf("%7lld  %-11s %-8s %5u  %-18s %12llu %12llu  %s%s%s%s%s\n", (long long)s->id,
                 dr_step_status_name(s->status), dr_step_kind_name(s->kind), s->stage, s->node,
                 (unsigned long long)s->estimated, (unsigned long long)s->done, s->title,
                 s->last_error[0] != '\0' ? "; " : "", s->last_error,
                 s->waits_because[0] != '\0' ? "; " : "", s->waits_because);
    return DR_OK;
}

enum dr_code dr_cli_steps(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    enum dr_step_status status;
    struct step_list l = {.count_max = dr_args_u64(c->args, "limit", STEPS_DEFAULT)};
    (void)exit_out;
    enum dr_code rc = parse_status(c, &status, err);
    if (rc == DR_OK) {
        rc = dr_cli_op(c, &op, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (c->is_json) {
        l.list = json_array();
        if (l.list == NULL) {
            return dr_fail_nomem(err);
        }
    } else {
        (void)printf("%7s  %-11s %-8s %5s  %-18s %12s %12s  %s\n", "STEP", "STATUS", "KIND",
                     "STAGE", "NODE", "ESTIMATED", "DONE", "WHAT");
    }
    rc = dr_each_step(c->queue, op.id, status, list_step, &l, err);
    if (rc != DR_OK) {
        json_decref(l.list);
        return rc;
    }
    if (l.is_cut) {
        dr_cli_say(c, "more than %llu steps; --limit 0 lists all", (unsigned long long)l.count_max);
    }
    return l.list != NULL ? dr_cli_put_json(l.list, err) : DR_OK;
}

static json_t *audit_json(const struct dr_audit *a)
{
    char when[WHEN_BYTES];
    return json_pack("{s:I, s:I, s:s, s:s, s:s}", "id", (json_int_t)a->id, "operation",
                     (json_int_t)a->op_id, "at", dr_wall_text(a->at, when, sizeof when), "by",
                     a->by, "what", a->what);
}

static enum dr_code list_audits(struct dr_cli *c, int64_t op_id, struct dr_audit *page,
                                json_t *list, struct dr_err *err)
{
    enum dr_code rc;
    uint32_t count = 0;
    int64_t after = 0;
    char when[WHEN_BYTES];
    do {
        rc = dr_queue_audits(c->queue, op_id, after, page, DR_PAGE, &count, err);
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            const struct dr_audit *a = &page[i];
            after = a->id;
            if (list == NULL) {
                (void)printf("%s  op %-5lld %-24s %s\n", dr_show_when(a->at, when, sizeof when),
                             (long long)a->op_id, a->by, a->what);
            } else if (json_array_append_new(list, audit_json(a)) != 0) {
                rc = dr_fail_nomem(err);
            }
        }
    } while (rc == DR_OK && count == DR_PAGE);
    return rc;
}

enum dr_code dr_cli_audit(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op = {.id = 0};
    json_t *list = NULL;
    struct dr_audit *page = NULL;
    (void)exit_out;
    enum dr_code rc = c->word_count > 0 ? dr_cli_op(c, &op, err) : dr_cli_queue(c, true, err);
    if (rc != DR_OK) {
        return rc;
    }
    page = dr_calloc(DR_PAGE, sizeof *page);
    list = c->is_json ? json_array() : NULL;
    if (page == NULL || (c->is_json && list == NULL)) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = list_audits(c, op.id, page, list, err);
    if (rc == DR_OK && list != NULL) {
        rc = dr_cli_put_json(json_incref(list), err);
    }
out:
    json_decref(list);
    dr_free(page);
    return rc;
}

enum dr_code dr_cli_explain(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    struct dr_str out;
    json_t *j = NULL;
    (void)exit_out;
    enum dr_code rc = dr_cli_op(c, &op, err);
    if (rc == DR_OK && c->is_json) {
        rc = dr_explain_op_json(c->queue, &op, &j, err);
        return rc == DR_OK ? dr_cli_put_json(j, err) : rc;
    }
    if (rc != DR_OK) {
        return rc;
    }
    dr_str_init(&out);
    rc = dr_explain_op(c->queue, &op, &out, err);
    if (rc != DR_OK) {
        dr_str_fini(&out);
        return rc;
    }
    return dr_cli_put_text(&out, err);
}
