/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing the way in which a lease's step is done, or undone. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "step/step_private.h"

enum { ARENA_BLOCK_BYTES = 16 * 1024 };

static enum dr_code do_nothing(struct dr_step_run *run, const struct dr_budget *budget,
                               struct dr_step_report *report, struct dr_err *err)
{
    (void)budget;
    (void)err;
    if (run->lease->kind == DR_STEP_COPY) {
        run->lease->mark.cursor_len = 0; /* what was copied goes: done again, it starts anew */
    }
    report->is_done = true;
    return DR_OK;
}

static const struct step_way way_nothing = {.name = "nothing", .batch = do_nothing};

static const char own_undo[] = "{\"do\"";

/* A rollback command is {"do": "restore"}, {"do": "nothing"}, or text for the store. */
static enum dr_code choose_undo(const struct dr_lease *l, const struct step_way **out,
                                struct dr_err *err)
{
    struct dr_jr r;
    json_t *j = NULL;
    const char *what = NULL;
    if (l->rollback_query == NULL) {
        return dr_fail(err, DR_REFUSED, "step %" PRId64 " has no rollback command", l->step_id);
    }
    /* Stores have commands in JSON as well; none of them begins with "do". */
    if (strncmp(l->rollback_query, own_undo, strlen(own_undo)) != 0) {
        *out = dr_step_way_command();
        return DR_OK;
    }
    enum dr_code rc =
        dr_json_parse("rollback", l->rollback_query, strlen(l->rollback_query), &j, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_jr_init(&r, j, "rollback", err);
    (void)dr_jr_string(&r, "do", true, &what);
    rc = dr_jr_finish(&r);
    if (rc == DR_OK && strcmp(what, "restore") == 0) {
        *out = dr_step_way_restore();
    } else if (rc == DR_OK && strcmp(what, "nothing") == 0) {
        *out = &way_nothing;
    } else if (rc == DR_OK) {
        rc = dr_fail(err, DR_INPUT, "rollback.do: \"%.32s\" is not known", what);
    }
    json_decref(j);
    return rc;
}

enum dr_code dr_step_parse(struct dr_step_run *run, struct dr_err *err)
{
    struct dr_range *range = &run->spec.range;
    enum dr_code rc = dr_erase_spec_parse(run->lease->query, run->arena, &run->spec, err);
    if (rc == DR_OK && range->is_spec_of_request) {
        rc = run->env->request == NULL
                 ? dr_fail(err, DR_INTERNAL, "step %" PRId64 " needs its operation's request",
                           run->lease->step_id)
                 : run->env->request(run->env->arg, &range->spec, err);
    }
    return rc;
}

static enum dr_code choose_way(const struct dr_lease *l, const struct step_way **out,
                               struct dr_err *err)
{
    if (l->is_undo) {
        return choose_undo(l, out, err);
    }
    switch (l->kind) {
    case DR_STEP_ERASE:
        *out = dr_step_way_erase();
        return DR_OK;
    case DR_STEP_VERIFY:
        *out = dr_step_way_verify();
        return DR_OK;
    case DR_STEP_COMMAND:
        *out = dr_step_way_command();
        return DR_OK;
    case DR_STEP_COPY:
        *out = dr_step_way_copy();
        return DR_OK;
    case DR_STEP_KIND_COUNT:
        break;
    }
    return dr_fail(err, DR_UNSUPPORTED,
                   "step %" PRId64 " is of a kind this drover does not know; use a newer one",
                   l->step_id);
}

enum dr_code dr_step_begin(const struct dr_step_env *env, struct dr_lease *lease,
                           struct dr_step_run **out, struct dr_err *err)
{
    *out = NULL;
    struct dr_step_run *run = dr_calloc(1, sizeof *run);
    if (run == NULL) {
        return dr_fail_nomem(err);
    }
    run->env = env;
    run->lease = lease;
    run->arena = dr_arena_create(ARENA_BLOCK_BYTES);
    enum dr_code rc = run->arena == NULL ? dr_fail_nomem(err) : choose_way(lease, &run->way, err);
    if (rc == DR_OK && run->way->begin != NULL) {
        rc = run->way->begin(run, err);
    }
    if (rc != DR_OK) {
        dr_step_end(run);
        return rc;
    }
    *out = run;
    return DR_OK;
}

enum dr_code dr_step_batch(struct dr_step_run *run, const struct dr_budget *budget,
                           struct dr_step_report *report, struct dr_err *err)
{
    *report = (struct dr_step_report){0};
    return run->way->batch(run, budget, report, err);
}

void dr_step_end(struct dr_step_run *run)
{
    if (run == NULL) {
        return;
    }
    if (run->writer != NULL) {
        dr_archive_close(run->writer);
    }
    if (run->reader != NULL) {
        dr_archive_read_close(run->reader);
    }
    dr_arena_destroy(run->arena);
    dr_free(run->items);
    dr_free(run);
}

/* `is_end`: done again after an undo, it begins at the start. */
void dr_step_note_cursor(struct dr_step_run *run, bool is_end)
{
    struct dr_progress_mark *m = &run->lease->mark;
    if (is_end || run->cursor.len == 0) {
        m->cursor_len = 0;
        return;
    }
    void *copy = dr_memdup(run->cursor.data, run->cursor.len);
    if (copy == NULL) {
        return; /* the older cursor is as right, only further back */
    }
    dr_free(m->cursor);
    m->cursor = copy;
    m->cursor_len = run->cursor.len;
}

enum dr_code dr_step_batch_from_frame(struct dr_batch *batch, const struct dr_archive_item *item,
                                      uint64_t count, struct dr_err *err)
{
    dr_batch_reset(batch);
    for (uint64_t i = 0; i < count; i++) {
        enum dr_code rc = dr_batch_add(batch, item[i].key, item[i].key_len, item[i].value,
                                       item[i].value_len, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}
