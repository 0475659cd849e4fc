/* SPDX-License-Identifier: Apache-2.0 */
/* Owns acting on a report: what can heal by being tried again is tried again, a bounded number of
 * times; everything else is named to a person. What is paused, held or planned is left alone. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "verbs/health_private.h"
#include "verbs/steer.h"

enum { RETRIES_MAX = 3, STEPS_MAX = 256 };

struct recovery {
    struct dr_queue *queue;
    const struct dr_store_world *world;
    const char *by;
    json_t *actions, *recovered, *failed, *person;
};

static enum dr_code add(json_t *list, json_t *one, struct dr_err *err)
{
    return json_array_append_new(list, one) != 0 ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code act(struct recovery *v, const char *action, struct dr_err *err)
{
    return add(v->actions, json_string(action), err);
}

static enum dr_code fail(struct recovery *v, const char *what, const char *error,
                         struct dr_err *err)
{
    return add(v->failed, json_pack("{s:s, s:s}", "what", what, "error", error), err);
}

static enum dr_code ask_person(struct recovery *v, const char *what, const char *why,
                               struct dr_err *err)
{
    return add(v->person, json_pack("{s:s, s:s}", "what", what, "why", why), err);
}

/* --- quarantined steps -------------------------------------------------------------------------
 */

static void note_of(int64_t step_id, char *buf, size_t buf_bytes)
{
    (void)snprintf(buf, buf_bytes, "recovery: step %" PRId64 " put back", step_id);
}

/* How often recovery has put this step back: it is in the audit, so that a restart does not forget
 * it. */
static enum dr_code count_retries(struct recovery *v, int64_t op_id, int64_t step_id, unsigned *out,
                                  struct dr_err *err)
{
    char note[64];
    int64_t after = 0;
    uint32_t count = 0;
    *out = 0;
    note_of(step_id, note, sizeof note);
    struct dr_audit *page = dr_calloc(DR_PAGE, sizeof *page);
    enum dr_code rc = page == NULL ? dr_fail_nomem(err) : DR_OK;
    do {
        rc = rc == DR_OK ? dr_queue_audits(v->queue, op_id, after, page, DR_PAGE, &count, err) : rc;
        for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
            after = page[i].id;
            *out += strcmp(page[i].what, note) == 0;
        }
    } while (rc == DR_OK && count == DR_PAGE);
    dr_free(page);
    return rc;
}

/* The queue keeps no code of a failure, but how it went: what cannot heal goes to quarantine at its
 * first failure, what can only after it was tried again. */
static bool can_heal(const struct dr_step *s)
{
    return s->status == DR_S_UNDO_FAILED || s->tries > 0;
}

static enum dr_code put_back(struct recovery *v, const struct dr_step *s, struct dr_err *err)
{
    char note[64];
    char what[96];
    unsigned retries = 0;
    uint64_t count = 0;
    struct dr_err failure = {0};
    (void)snprintf(what, sizeof what, "operation %" PRId64 ", step %" PRId64, s->op_id, s->id);
    if (!can_heal(s)) {
        return ask_person(v, what, s->last_error, err);
    }
    enum dr_code rc = count_retries(v, s->op_id, s->id, &retries, err);
    if (rc == DR_OK && retries >= RETRIES_MAX) {
        return ask_person(v, what, s->last_error, err);
    }
    /* The note first: a crash in between costs one of the tries, never gives one too many. */
    note_of(s->id, note, sizeof note);
    rc = rc == DR_OK ? dr_queue_audit(v->queue, s->op_id, v->by, note, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    if (dr_queue_redrive(v->queue, s->op_id, s->id, v->by, &count, &failure) != DR_OK) {
        return fail(v, what, failure.msg, err);
    }
    return count == 0 ? DR_OK : add(v->recovered, json_string(what), err);
}

/* Is somebody working on it, or would be if it could move? */
static bool is_wanted(const struct dr_op *op)
{
    return op->wish == DR_WISH_RUN || op->wish == DR_WISH_ROLLBACK;
}

static enum dr_code put_steps_back(struct recovery *v, const struct dr_op *op,
                                   enum dr_step_status status, struct dr_err *err)
{
    uint32_t count = 0;
    if (op->count[status] == 0) {
        return DR_OK;
    }
    struct dr_step *step = dr_calloc(STEPS_MAX, sizeof *step);
    enum dr_code rc =
        step == NULL ? dr_fail_nomem(err)
                     : dr_queue_steps(v->queue, op->id, status, 0, step, STEPS_MAX, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = put_back(v, &step[i], err);
    }
    dr_free(step);
    return rc;
}

static enum dr_code heal_op(struct recovery *v, int64_t op_id, struct dr_err *err)
{
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_queue_op(v->queue, op_id, op, err);
    if (rc == DR_NOT_FOUND) { /* forgotten since the look */
        dr_err_clear(err);
        rc = DR_OK;
    } else if (rc == DR_OK && is_wanted(op)) { /* the wish of now, not of the look */
        rc = put_steps_back(v, op, DR_S_FAILED, err);
        rc = rc == DR_OK ? put_steps_back(v, op, DR_S_UNDO_FAILED, err) : rc;
    }
    dr_free(op);
    return rc;
}

static enum dr_code heal_ops(struct recovery *v, const struct dr_finding *f, struct dr_err *err)
{
    size_t i;
    json_t *one;
    enum dr_code rc = act(v, "quarantined steps that can heal were put back", err);
    json_array_foreach(f->details, i, one)
    {
        rc = rc == DR_OK ? heal_op(v, json_integer_value(json_object_get(one, "operation")), err)
                         : rc;
    }
    return rc;
}

/* --- the rest ----------------------------------------------------------------------------------
 */

static enum dr_code sweep_leases(struct recovery *v, struct dr_err *err)
{
    uint64_t moved = 0;
    char what[64];
    enum dr_code rc = dr_queue_sweep(v->queue, &moved, err);
    if (rc == DR_OK && moved > 0) {
        (void)snprintf(what, sizeof what, "%" PRIu64 " dead leases", moved);
        rc = add(v->recovered, json_string(what), err);
    }
    return rc == DR_OK ? act(v, "dead leases were swept", err) : rc;
}

static enum dr_code clean(struct recovery *v, struct dr_err *err)
{
    struct dr_cleanup_ages ages;
    struct dr_err failure = {0};
    json_t *result = NULL;
    char what[64];
    dr_cleanup_ages_default(&ages);
    enum dr_code did = dr_cleanup_run(v->queue, v->world, DR_CLEAN_CLUSTERS, &ages, false, v->by,
                                      &result, &failure);
    enum dr_code rc = act(v, "leftovers were cleaned up", err);
    if (rc == DR_OK && did != DR_OK) {
        rc = fail(v, "cleanup", failure.msg, err);
    }
    json_int_t count = json_integer_value(json_object_get(result, "resources_cleaned"));
    if (rc == DR_OK && count > 0) {
        (void)snprintf(what, sizeof what, "%lld leftovers", (long long)count);
        rc = add(v->recovered, json_string(what), err);
    }
    const json_t *left =
        json_object_get(json_array_get(json_object_get(result, "actions_taken"), 0), "left");
    for (size_t i = 0; rc == DR_OK && i < json_array_size(left); i++) {
        const json_t *one = json_array_get(left, i);
        rc = ask_person(v, dr_text_of(one, "what"), dr_text_of(one, "error"), err);
    }
    if (rc == DR_OK && json_array_extend(v->failed, json_object_get(result, "errors")) != 0 &&
        result != NULL) {
        rc = dr_fail_nomem(err);
    }
    json_decref(result);
    return rc;
}

/* What a finding of this type is answered with. */
static const struct answer {
    const char *type;
    enum { HEAL_OPS, CLEAN, SWEEP, TELL } how;
} answers[] = {
    {"failed_operations", HEAL_OPS}, {"rollback_failures", HEAL_OPS}, {"quarantine", HEAL_OPS},
    {"orphaned_resources", CLEAN},   {"cleanup_failing", CLEAN},      {"dead_workers", SWEEP},
    {"stuck_operations", TELL},      {"owner_missing", TELL},         {"table_mismatch", TELL},
    {"under_replicated", TELL},      {"unreachable_nodes", TELL},     {"high_queue_depth", TELL},
};

static enum dr_code answer_all(struct recovery *v, const struct dr_health_report *r,
                               struct dr_err *err)
{
    bool is_clean = false;
    enum dr_code rc = r->count == 0 ? DR_OK : sweep_leases(v, err);
    for (uint32_t i = 0; rc == DR_OK && i < r->count; i++) {
        const struct dr_finding *f = &r->finding[i];
        for (size_t n = 0; rc == DR_OK && n < sizeof answers / sizeof answers[0]; n++) {
            if (strcmp(answers[n].type, f->type) != 0) {
                continue;
            }
            switch (answers[n].how) {
            case HEAL_OPS:
                rc = heal_ops(v, f, err);
                break;
            case CLEAN:
                rc = is_clean ? DR_OK : clean(v, err);
                is_clean = true;
                break;
            case SWEEP:
                break;
            case TELL:
                rc = ask_person(v, f->type, f->advice, err);
                break;
            }
        }
    }
    return rc;
}

enum dr_code dr_health_recover(struct dr_queue *q, const struct dr_store_world *world,
                               const struct dr_health_report *r, const char *by, json_t **out,
                               struct dr_err *err)
{
    char at[32];
    char what[96];
    struct recovery v = {.queue = q,
                         .world = world,
                         .by = by,
                         .actions = json_array(),
                         .recovered = json_array(),
                         .failed = json_array(),
                         .person = json_array()};
    *out = NULL;
    bool is_short =
        v.actions == NULL || v.recovered == NULL || v.failed == NULL || v.person == NULL;
    enum dr_code rc = is_short ? dr_fail_nomem(err) : dr_queue_own(q, err);
    rc = rc == DR_OK ? answer_all(&v, r, err) : rc;
    if (rc == DR_OK && json_array_size(v.recovered) > 0) {
        (void)snprintf(what, sizeof what, "recovery: %zu recovered, %zu failed",
                       json_array_size(v.recovered), json_array_size(v.failed));
        rc = dr_queue_audit(q, 0, by, what, err);
    }
    if (rc == DR_OK) {
        *out = json_pack("{s:s, s:O, s:O, s:O, s:O}", "timestamp",
                         dr_wall_text(dr_wall_now(), at, sizeof at), "actions_taken", v.actions,
                         "recovered", v.recovered, "failed", v.failed, "needs_a_person", v.person);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(v.actions);
    json_decref(v.recovered);
    json_decref(v.failed);
    json_decref(v.person);
    return rc;
}
