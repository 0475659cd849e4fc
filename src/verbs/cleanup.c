/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the removing of what is left over, and the listing of it beforehand. Both go the same way,
 * so that a dry run lists what the real one does: what may go is decided first, by the same looks,
 * and only the last step of each differs.
 *
 * The order matters: what is forgotten first (traces, ended operations) does not depend on what the
 * same run ends or expires later. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "archive/archive.h"
#include "base/mem.h"
#include "store/shard.h"
#include "verbs/health_private.h"
#include "verbs/steer.h"

enum { RECORDS_MAX = 1024, PATH_BYTES = 4096 };

static const uint64_t hour_ms = 3600ULL * 1000;

struct sweep {
    struct dr_queue *queue;
    const struct dr_store_world *world;
    struct dr_cleanup_ages ages;
    uint32_t what;
    bool is_dry_run;
    const char *by;
    dr_wall_ms now;
    uint64_t cleaned;
    json_t *items, *errors, *left; /* of the part at hand */
};

void dr_cleanup_ages_default(struct dr_cleanup_ages *a)
{
    *a = (struct dr_cleanup_ages){.clusters = hour_ms,
                                  .groups = 24ULL * hour_ms,
                                  .queue = 7ULL * 24 * hour_ms,
                                  .state = 30ULL * 24 * hour_ms};
}

static dr_wall_ms before(const struct sweep *w, uint64_t age_ms)
{
    return age_ms >= (uint64_t)w->now ? 0 : w->now - (dr_wall_ms)age_ms;
}

static enum dr_code add(json_t *list, json_t *one, struct dr_err *err)
{
    return json_array_append_new(list, one) != 0 ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code add_error(json_t *errors, const char *what, const char *error,
                              struct dr_err *err)
{
    return add(errors, json_pack("{s:s, s:s}", "what", what, "error", error), err);
}

/* --- cleanup records ---------------------------------------------------------------------------
 */

static enum dr_code run_record(struct dr_queue *q, const struct dr_store_world *world,
                               const struct dr_cleanup *c, json_t *errors, struct dr_err *err)
{
    struct dr_err failure = {0};
    struct dr_store *store = NULL;
    char what[DR_NAME_BYTES + 64];
    enum dr_code did = dr_store_open_in(world, c->store_url, &store, &failure);
    if (did == DR_OK) {
        did = dr_store_command(store, c->node, c->command, &failure);
    }
    dr_store_close(store);
    if (did != DR_OK) {
        (void)snprintf(what, sizeof what, "operation %lld on %s", (long long)c->op_id, c->node);
        enum dr_code rc = add_error(errors, what, failure.msg, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return dr_queue_cleanup_done(q, c->id, did == DR_OK ? NULL : failure.msg, err);
}

enum dr_code dr_cleanup_records(struct dr_queue *q, const struct dr_store_world *world,
                                bool is_dry_run, json_t *items, json_t *errors, struct dr_err *err)
{
    uint32_t count = 0;
    struct dr_cleanup *c = dr_calloc(RECORDS_MAX, sizeof *c);
    enum dr_code rc =
        c == NULL ? dr_fail_nomem(err) : dr_queue_cleanups(q, true, c, RECORDS_MAX, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        size_t failed = json_array_size(errors);
        if (!is_dry_run) {
            rc = run_record(q, world, &c[i], errors, err);
        }
        if (rc == DR_OK && json_array_size(errors) == failed) {
            rc = add(items,
                     json_pack("{s:s, s:I, s:I, s:s, s:s}", "kind", "cleanup record", "operation",
                               (json_int_t)c[i].op_id, "step", (json_int_t)c[i].step_id, "node",
                               c[i].node, "command", c[i].command),
                     err);
        }
    }
    dr_free(c);
    return rc;
}

/* --- orphans -----------------------------------------------------------------------------------
 */

static struct dr_shard_id id_of(const json_t *orphan)
{
    return (struct dr_shard_id){.name = dr_text_of(orphan, "name"),
                                .table = dr_text_of(orphan, "table"),
                                .owner = dr_text_of(orphan, "owner"),
                                .operation = dr_text_of(orphan, "operation")};
}

/* Sets *why_left to "" when it may go. What holds rows goes only when it is known to be retired, or
 * to be one copy too many. */
static enum dr_code decide(const struct dr_seen *seen, const json_t *orphan, struct dr_store *store,
                           char *why_left, size_t why_bytes, struct dr_err *err)
{
    struct dr_shard_facts facts = {0};
    const struct dr_shard_id id = id_of(orphan);
    const json_t *table = dr_find_table(seen->tables, id.table);
    bool is_gone = strcmp(dr_text_of(table, "uuid"), id.owner) != 0;
    bool is_held = strcmp(dr_text_of(orphan, "role"), "held") == 0;
    why_left[0] = '\0';
    if (strcmp(dr_text_of(orphan, "role"), "log") == 0 ||
        !json_is_true(json_object_get(orphan, "exists")) || (is_held && is_gone) ||
        json_is_true(json_object_get(orphan, "is_copy"))) {
        return DR_OK;
    }
    enum dr_code rc = is_held ? DR_OK : dr_shard_facts(store, &id, &facts, err);
    if (rc == DR_OK && (is_held || facts.rows > 0)) {
        (void)snprintf(why_left, why_bytes,
                       "it holds rows, and no other node is known to hold them: look, then drop it "
                       "by hand");
    }
    return rc;
}

/* Once more before the act: an operation may have begun since the look. */
static enum dr_code is_still_orphan(struct sweep *w, const json_t *orphan, bool *out,
                                    struct dr_err *err)
{
    json_t *busy = NULL;
    json_t *table = NULL;
    const struct dr_catalog_port *port = w->world->catalog;
    enum dr_code rc = port->read(port->arg, dr_text_of(orphan, "table"), &table, err);
    if (rc == DR_NOT_FOUND) {
        dr_err_clear(err);
        rc = DR_OK;
    }
    rc = rc == DR_OK ? dr_busy_read(w->queue, &busy, err) : rc;
    *out = rc == DR_OK && json_object_get(busy, dr_text_of(orphan, "operation")) == NULL &&
           json_object_get(busy, dr_text_of(table, "operation")) == NULL;
    json_decref(busy);
    json_decref(table);
    return rc;
}

static enum dr_code remove_orphan(const json_t *orphan, struct dr_store *store, struct dr_err *err)
{
    const struct dr_shard_id id = id_of(orphan);
    if (strcmp(dr_text_of(orphan, "role"), "log") == 0) {
        return dr_shard_capture(store, &id, false, err);
    }
    return dr_shard_drop(store, &id, strcmp(dr_text_of(orphan, "role"), "held") == 0, err);
}

static enum dr_code clean_orphan(struct sweep *w, const struct dr_seen *seen, const json_t *orphan,
                                 struct dr_err *err)
{
    struct dr_err failure = {0};
    struct dr_store *store = NULL;
    char why_left[DR_REASON_BYTES] = "";
    char what[2 * DR_NAME_BYTES];
    bool is_orphan = true;
    enum dr_code did = dr_store_open(dr_text_of(orphan, "url"), &store, &failure);
    did = did == DR_OK ? decide(seen, orphan, store, why_left, sizeof why_left, &failure) : did;
    if (did == DR_OK && why_left[0] == '\0' && !w->is_dry_run) {
        did = is_still_orphan(w, orphan, &is_orphan, &failure);
        did = did == DR_OK && is_orphan ? remove_orphan(orphan, store, &failure) : did;
    }
    dr_store_close(store);
    (void)snprintf(what, sizeof what, "%.100s on %.100s", dr_text_of(orphan, "name"),
                   dr_text_of(orphan, "node"));
    if (did != DR_OK) {
        return add_error(w->errors, what, failure.msg, err);
    }
    if (why_left[0] != '\0') {
        return add_error(w->left, what, why_left, err);
    }
    return !is_orphan
               ? DR_OK
               : add(w->items,
                     json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "kind", "shard", "node",
                               dr_text_of(orphan, "node"), "name", dr_text_of(orphan, "name"),
                               "role", dr_text_of(orphan, "role"), "operation",
                               dr_text_of(orphan, "operation"), "why", dr_text_of(orphan, "why")),
                     err);
}

static enum dr_code clean_orphans(struct sweep *w, struct dr_err *err)
{
    size_t i;
    json_t *one;
    struct dr_health_rules rules;
    struct dr_seen seen = {0};
    dr_health_rules_default(&rules);
    if (w->world == NULL || w->world->catalog == NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_seen_look(w->queue, w->world, rules.node_wait_ms, &seen, err);
    json_array_foreach(seen.orphans, i, one)
    {
        json_int_t made = json_integer_value(json_object_get(one, "created_at"));
        if (rc != DR_OK || made > before(w, w->ages.clusters)) {
            continue;
        }
        rc = strcmp(dr_text_of(one, "kind"), "shard") == 0
                 ? clean_orphan(w, &seen, one, err)
                 : add_error(w->left, dr_text_of(one, "name"),
                             "a cluster has no record of its owner: look, then DELETE CLUSTER by "
                             "hand",
                             err);
    }
    dr_seen_fini(&seen);
    return rc;
}

static enum dr_code clean_clusters(struct sweep *w, struct dr_err *err)
{
    enum dr_code rc =
        dr_cleanup_records(w->queue, w->world, w->is_dry_run, w->items, w->errors, err);
    return rc == DR_OK ? clean_orphans(w, err) : rc;
}

/* --- failed operations -------------------------------------------------------------------------
 */

struct ids {
    struct dr_op *op;
    uint32_t count, room;
};

/* Collected first: turning one back moves the pages. */
static enum dr_code collect(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct ids *l = arg;
    if (op->status != DR_O_BLOCKED && op->status != DR_O_ROLLED_BACK) {
        return DR_OK;
    }
    if (l->count == l->room) {
        uint32_t room = l->room == 0 ? 16 : l->room * 2;
        struct dr_op *grown = dr_realloc(l->op, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        l->op = grown;
        l->room = room;
    }
    l->op[l->count++] = *op;
    return DR_OK;
}

static enum dr_code turn_back(struct sweep *w, const struct dr_op *op, struct dr_err *err)
{
    struct dr_err failure = {0};
    dr_wall_ms touched = 0;
    enum dr_code rc = dr_last_touched(w->queue, op, &touched, err);
    if (rc != DR_OK || touched > before(w, w->ages.groups)) {
        return rc;
    }
    if (op->is_irreversible || op->is_past_no_return || op->is_archive_expired) {
        return add_error(w->left, op->group,
                         "it has failed and cannot be rolled back any more: remedy the cause and "
                         "retry it, or stop it",
                         err);
    }
    /* To put rows back that somebody wanted gone is a decision; undoing a half-made change is not.
     */
    if (!op->is_atomic) {
        return add_error(w->left, op->group,
                         "it has failed: remedy the cause and retry it, or roll it back", err);
    }
    if (!w->is_dry_run && dr_queue_wish(w->queue, op->id, DR_WISH_ROLLBACK, w->by,
                                        "cleanup: failed and left alone", &failure) != DR_OK) {
        return add_error(w->errors, op->group, failure.msg, err);
    }
    return add(w->items,
               json_pack("{s:s, s:I, s:s}", "kind", "roll back", "operation", (json_int_t)op->id,
                         "group", op->group),
               err);
}

/* Did it fail, rather than a person change their mind? */
static enum dr_code was_failed(struct sweep *w, const struct dr_op *op, bool *out,
                               struct dr_err *err)
{
    uint32_t count = 0;
    struct dr_rollback_run *run = dr_calloc(1, sizeof *run);
    enum dr_code rc = run == NULL ? dr_fail_nomem(err)
                                  : dr_queue_rollbacks(w->queue, op->id, 0, run, 1, &count, err);
    *out = rc == DR_OK && count > 0 &&
           (strcmp(run->trigger, "failure") == 0 || strncmp(run->reason, "cleanup:", 8) == 0);
    dr_free(run);
    return rc;
}

static enum dr_code forget(struct sweep *w, const struct dr_op *op, struct dr_err *err)
{
    bool is_failed = false;
    bool did = false;
    bool is_the_queues = (w->what & DR_CLEAN_QUEUE) != 0 && op->ended_at < before(w, w->ages.queue);
    if (op->ended_at > before(w, w->ages.groups) || is_the_queues) {
        return DR_OK;
    }
    enum dr_code rc = was_failed(w, op, &is_failed, err);
    if (rc == DR_OK && is_failed) {
        rc = dr_queue_forget_op(w->queue, op->id, w->is_dry_run, &did, err);
    }
    return rc != DR_OK || !did ? rc
                               : add(w->items,
                                     json_pack("{s:s, s:I, s:s}", "kind", "forget", "operation",
                                               (json_int_t)op->id, "group", op->group),
                                     err);
}

static enum dr_code clean_groups(struct sweep *w, struct dr_err *err)
{
    struct ids list = {0};
    enum dr_code rc = dr_each_op(w->queue, collect, &list, err);
    for (uint32_t i = 0; rc == DR_OK && i < list.count; i++) {
        rc = list.op[i].status == DR_O_BLOCKED ? turn_back(w, &list.op[i], err)
                                               : forget(w, &list.op[i], err);
    }
    dr_free(list.op);
    return rc;
}

/* --- the queue itself --------------------------------------------------------------------------
 */

static enum dr_code clean_queue(struct sweep *w, struct dr_err *err)
{
    uint64_t ops = 0;
    uint64_t steps = 0;
    enum dr_code rc =
        dr_queue_retain(w->queue, before(w, w->ages.queue), w->is_dry_run, &ops, &steps, err);
    w->cleaned += ops;
    return rc != DR_OK || ops == 0
               ? rc
               : add(w->items,
                     json_pack("{s:s, s:I, s:I}", "kind", "ended operations", "operations",
                               (json_int_t)ops, "steps", (json_int_t)steps),
                     err);
}

static enum dr_code clean_state(struct sweep *w, struct dr_err *err)
{
    struct dr_queue_traces t;
    enum dr_code rc =
        dr_queue_forget_traces(w->queue, before(w, w->ages.state), w->is_dry_run, &t, err);
    const struct {
        const char *kind;
        uint64_t count;
    } part[] = {
        {"audit lines", t.audits}, {"rollback history", t.rollbacks}, {"workers", t.heartbeats}};
    for (size_t i = 0; rc == DR_OK && i < sizeof part / sizeof part[0]; i++) {
        if (part[i].count > 0) {
            w->cleaned += part[i].count;
            rc = add(
                w->items,
                json_pack("{s:s, s:I}", "kind", part[i].kind, "count", (json_int_t)part[i].count),
                err);
        }
    }
    return rc;
}

/* --- archives ----------------------------------------------------------------------------------
 */

static bool has_archive(const struct sweep *w, int64_t op_id)
{
    char path[PATH_BYTES];
    (void)dr_archive_path(dr_queue_data_dir(w->queue), op_id, 1, path, sizeof path);
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return access(path, F_OK) == 0;
}

/* The queue first: from then on a rollback is refused, so that none finds half of its files. */
static enum dr_code clean_archive(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct sweep *w = arg;
    struct dr_err failure = {0};
    uint64_t bytes = 0;
    enum dr_code did = DR_OK;
    bool is_over =
        op->archive_until > 0 && op->archive_until <= w->now && dr_op_status_is_final(op->status);
    if (!op->is_archive_expired ? !is_over : !has_archive(w, op->id)) {
        return DR_OK;
    }
    if (!w->is_dry_run) {
        did = op->is_archive_expired ? DR_OK
                                     : dr_queue_archive_expire(w->queue, op->id, w->by, &failure);
        did = did == DR_OK
                  ? dr_archive_remove(dr_queue_data_dir(w->queue), op->id, &bytes, &failure)
                  : did;
    }
    return did != DR_OK ? add_error(w->errors, op->group, failure.msg, err)
                        : add(w->items,
                              json_pack("{s:s, s:I, s:s}", "kind", "archive", "operation",
                                        (json_int_t)op->id, "group", op->group),
                              err);
}

static enum dr_code clean_archives(struct sweep *w, struct dr_err *err)
{
    return dr_each_op(w->queue, clean_archive, w, err);
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static const struct part {
    const char *name;
    enum dr_code (*run)(struct sweep *w, struct dr_err *err);
    enum dr_cleanup_what what;
    bool is_counted; /* it counts by itself; else by items */
} parts[] = {
    {"state", clean_state, DR_CLEAN_STATE, true},
    {"queue", clean_queue, DR_CLEAN_QUEUE, true},
    {"groups", clean_groups, DR_CLEAN_GROUPS, false},
    {"clusters", clean_clusters, DR_CLEAN_CLUSTERS, false},
    {"archives", clean_archives, DR_CLEAN_ARCHIVES, false},
};

static enum dr_code run_part(struct sweep *w, const struct part *part, json_t *actions,
                             json_t *errors, uint64_t *total, struct dr_err *err)
{
    w->cleaned = 0;
    w->items = json_array();
    w->errors = json_array();
    w->left = json_array();
    bool is_short = w->items == NULL || w->errors == NULL || w->left == NULL;
    enum dr_code rc = is_short ? dr_fail_nomem(err) : part->run(w, err);
    if (rc != DR_OK && rc != DR_NOMEM) { /* the other parts may still be done */
        dr_wrap(err, "cleanup of %s", part->name);
        rc = add_error(w->errors, part->name, err->msg, err);
    }
    uint64_t cleaned = part->is_counted ? w->cleaned : json_array_size(w->items);
    if (rc == DR_OK) {
        rc = json_array_extend(errors, w->errors) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        rc = add(actions,
                 json_pack("{s:s, s:I, s:O, s:O, s:O}", "what", part->name, "cleaned_count",
                           (json_int_t)cleaned, "items", w->items, "left", w->left, "errors",
                           w->errors),
                 err);
        *total += cleaned;
    }
    json_decref(w->items);
    json_decref(w->errors);
    json_decref(w->left);
    return rc;
}

static enum dr_code note(struct sweep *w, uint64_t total, struct dr_err *err)
{
    char what[128];
    if (w->is_dry_run || total == 0) {
        return DR_OK;
    }
    (void)snprintf(what, sizeof what, "cleanup: %llu resources", (unsigned long long)total);
    return dr_queue_audit(w->queue, 0, w->by, what, err);
}

enum dr_code dr_cleanup_run(struct dr_queue *q, const struct dr_store_world *world, uint32_t what,
                            const struct dr_cleanup_ages *ages, bool is_dry_run, const char *by,
                            json_t **out, struct dr_err *err)
{
    char at[32];
    uint64_t total = 0;
    struct sweep w = {.queue = q,
                      .world = world,
                      .ages = *ages,
                      .what = what,
                      .is_dry_run = is_dry_run,
                      .by = by,
                      .now = dr_wall_now()};
    *out = NULL;
    enum dr_code rc = is_dry_run ? DR_OK : dr_queue_own(q, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *actions = json_array();
    json_t *errors = json_array();
    rc = actions == NULL || errors == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof parts / sizeof parts[0]; i++) {
        if ((what & (uint32_t)parts[i].what) != 0) {
            rc = run_part(&w, &parts[i], actions, errors, &total, err);
        }
    }
    rc = rc == DR_OK ? note(&w, total, err) : rc;
    if (rc == DR_OK) {
        *out =
            json_pack("{s:s, s:b, s:O, s:I, s:O}", "timestamp", dr_wall_text(w.now, at, sizeof at),
                      "dry_run", (int)is_dry_run, "actions_taken", actions, "resources_cleaned",
                      (json_int_t)total, "errors", errors);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(actions);
    json_decref(errors);
    return rc;
}
