/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the verbs that tend: quarantine and cleanup. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli_private.h"

enum { CLEANUPS_MAX = 256, HOLDER_BYTES = 256 };

static const uint64_t older_than_ms_default = 30ULL * 24 * 3600 * 1000;

struct quarantine {
    struct dr_cli *c;
    json_t *list; /* NULL: printed at once */
    int64_t only; /* operation, 0: all */
    uint64_t count;
};

static enum dr_code list_step(void *arg, const struct dr_step *s, bool *more, struct dr_err *err)
{
    struct quarantine *q = arg;
    (void)more;
    q->count++;
    if (q->list != NULL) {
        return json_array_append_new(q->list, dr_show_step_json(s)) != 0 ? dr_fail_nomem(err)
                                                                         : DR_OK;
    }
    (void)printf("op %lld step %lld (%s, %u failures) on %s: %s\n    %s\n    remedy the cause, "
                 "then: drover quarantine retry %lld %lld\n",
                 (long long)s->op_id, (long long)s->id, dr_step_status_name(s->status), s->tries,
                 s->node, s->title, s->last_error, (long long)s->op_id, (long long)s->id);
    return DR_OK;
}

static enum dr_code list_op(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct quarantine *q = arg;
    enum dr_code rc = DR_OK;
    if (q->only != 0 && q->only != op->id) {
        return DR_OK;
    }
    if (op->count[DR_S_FAILED] > 0) {
        rc = dr_each_step(q->c->queue, op->id, DR_S_FAILED, list_step, q, err);
    }
    if (rc == DR_OK && op->count[DR_S_UNDO_FAILED] > 0) {
        rc = dr_each_step(q->c->queue, op->id, DR_S_UNDO_FAILED, list_step, q, err);
    }
    return rc;
}

enum dr_code dr_cli_quarantine_list(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op = {.id = 0};
    struct quarantine q = {.c = c};
    (void)exit_out;
    enum dr_code rc = c->word_count > 0 ? dr_cli_op(c, &op, err) : dr_cli_queue(c, true, err);
    if (rc != DR_OK) {
        return rc;
    }
    q.only = op.id;
    q.list = c->is_json ? json_array() : NULL;
    if (c->is_json && q.list == NULL) {
        return dr_fail_nomem(err);
    }
    rc = op.id != 0 ? list_op(&q, &op, err) : dr_each_op(c->queue, list_op, &q, err);
    if (rc != DR_OK) {
        json_decref(q.list);
        return rc;
    }
    if (q.count == 0) {
        dr_cli_say(c, "no step is in quarantine");
    }
    return q.list != NULL ? dr_cli_put_json(q.list, err) : DR_OK;
}

enum dr_code dr_cli_quarantine_retry(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct dr_op op;
    int64_t step_id = 0;
    uint64_t count = 0;
    char holder[HOLDER_BYTES];
    (void)exit_out;
    enum dr_code rc = c->word_count > 1 ? dr_cli_id(c, 1, &step_id, err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_cli_op(c, &op, err);
    }
    if (rc == DR_OK) {
        rc = dr_queue_redrive(c->queue, op.id, step_id, c->who, &count, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (count > 0 && !dr_queue_is_owned(c->queue, holder, sizeof holder)) {
        dr_cli_say(c, "nobody works on this data folder; start: drover %s %lld",
                   op.wish == DR_WISH_ROLLBACK ? "rollback" : "run", (long long)op.id);
    }
    if (c->is_json) {
        return dr_cli_put_json(
            json_pack("{s:I, s:I}", "operation", (json_int_t)op.id, "retried", (json_int_t)count),
            err);
    }
    (void)printf("%llu step%s put back\n", (unsigned long long)count, count == 1 ? "" : "s");
    return DR_OK;
}

struct tally {
    uint64_t done, failed;
    enum dr_code first_code; /* of the failures */
};

/* Remove one leftover in its store and record how that went. */
static enum dr_code do_cleanup(struct dr_cli *c, const struct dr_cleanup *one, struct tally *t,
                               struct dr_err *err)
{
    struct dr_store *store = NULL;
    struct dr_err failure = {0};
    enum dr_code rc = dr_store_open_in(&c->world, one->store_url, &store, &failure);
    if (rc == DR_OK) {
        rc = dr_store_command(store, one->node, one->command, &failure);
    }
    dr_store_close(store);
    if (rc == DR_OK) {
        t->done++;
    } else {
        t->failed++;
        t->first_code = t->first_code == DR_OK ? rc : t->first_code;
        (void)fprintf(stderr, "drover: cleanup of operation %lld on %s: %s\n",
                      (long long)one->op_id, one->node, failure.msg);
    }
    return dr_queue_cleanup_done(c->queue, one->id, rc == DR_OK ? NULL : failure.msg, err);
}

static void list_cleanup(const struct dr_cleanup *one, bool is_due)
{
    (void)printf("op %lld step %lld on %s%s: %s%s%s\n", (long long)one->op_id,
                 (long long)one->step_id, one->node, is_due ? "" : " (not yet due)", one->command,
                 one->last_error[0] != '\0' ? "; last error: " : "", one->last_error);
}

/* All that is due. Records that failed stay, so a full page of successes is the sign of more. */
static enum dr_code do_cleanups(struct dr_cli *c, bool is_dry_run, struct tally *t,
                                struct dr_err *err)
{
    uint32_t count = 0;
    uint64_t done_before;
    enum dr_code rc = DR_OK;
    struct dr_cleanup *page = dr_calloc(CLEANUPS_MAX, sizeof *page);
    if (page == NULL) {
        return dr_fail_nomem(err);
    }
    do {
        done_before = t->done;
        rc = dr_queue_cleanups(c->queue, true, page, CLEANUPS_MAX, &count, err);
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            if (page[i].is_done) {
                continue;
            }
            if (!is_dry_run) {
                rc = do_cleanup(c, &page[i], t, err);
                continue;
            }
            t->done++;
            if (!c->is_json) {
                list_cleanup(&page[i], true);
            }
        }
    } while (rc == DR_OK && !is_dry_run && count == CLEANUPS_MAX && t->done > done_before &&
             t->failed == 0);
    dr_free(page);
    return rc;
}

/* The owner cleans up by itself; two at once would only fail at each other's heels. */
static enum dr_code may_clean(struct dr_cli *c, bool is_dry_run, bool *may_out, struct dr_err *err)
{
    *may_out = true;
    if (is_dry_run) {
        return DR_OK;
    }
    enum dr_code rc = dr_queue_own(c->queue, err);
    if (rc == DR_OK) {
        rc = dr_cli_world(c, false, err); /* leftovers of sharded tables are found by the catalog */
    }
    if (rc == DR_BUSY) {
        dr_cli_say(c, "leftovers in the database are the owner's: %s", err->msg);
        dr_err_clear(err);
        *may_out = false;
        return DR_OK;
    }
    return rc;
}

enum dr_code dr_cli_cleanup(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    struct tally t = {0};
    bool may = false;
    bool is_dry_run = dr_args_has(c->args, "dry-run");
    uint64_t ops = 0;
    uint64_t steps = 0;
    uint64_t age_ms = older_than_ms_default;
    dr_wall_ms now = dr_wall_now();
    (void)dr_parse_duration_ms(dr_args_text(c->args, "older-than", "30d"), &age_ms);
    if (dr_cli_cleanup_parts(c->args) != 0) {
        return dr_cli_cleanup_named(c, dr_cli_cleanup_parts(c->args), exit_out, err);
    }
    enum dr_code rc = dr_cli_queue(c, true, err);
    if (rc == DR_OK) {
        rc = may_clean(c, is_dry_run, &may, err);
    }
    if (rc == DR_OK && may) {
        rc = do_cleanups(c, is_dry_run, &t, err);
    }
    if (rc == DR_OK) {
        dr_wall_ms before = age_ms > (uint64_t)now ? 0 : now - (dr_wall_ms)age_ms;
        rc = dr_queue_retain(c->queue, before, is_dry_run, &ops, &steps, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (t.failed > 0) {
        *exit_out = (int)dr_exit_of(t.first_code, DR_AT_STORE);
    }
    if (c->is_json) {
        return dr_cli_put_json(json_pack("{s:b, s:I, s:I, s:I, s:I}", "dry_run", is_dry_run ? 1 : 0,
                                         "leftovers", (json_int_t)t.done, "failed",
                                         (json_int_t)t.failed, "operations", (json_int_t)ops,
                                         "steps", (json_int_t)steps),
                               err);
    }
    (void)printf("%s: %llu leftovers in databases, %llu old operations with %llu steps\n",
                 is_dry_run ? "would remove" : "removed", (unsigned long long)t.done,
                 (unsigned long long)ops, (unsigned long long)steps);
    return DR_OK;
}
