/* SPDX-License-Identifier: Apache-2.0 */
/* Findings: how one is kept, what the nodes are worth reporting, and how a report looks as JSON and
 * as text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "verbs/health_private.h"

enum { DETAILS_SHOWN = 10 };

enum dr_code dr_finding_add(struct dr_health_report *r, const char *type, bool is_issue,
                            uint64_t count, json_t *details, const char *advice, struct dr_err *err)
{
    if (details == NULL) {
        return dr_fail_nomem(err);
    }
    if (count == 0) {
        json_decref(details);
        return DR_OK;
    }
    if (r->count == r->room) {
        uint32_t room = r->room == 0 ? 16 : r->room * 2;
        struct dr_finding *grown = dr_realloc(r->finding, room * sizeof *grown);
        if (grown == NULL) {
            json_decref(details);
            return dr_fail_nomem(err);
        }
        r->finding = grown;
        r->room = room;
    }
    struct dr_finding *f = &r->finding[r->count++];
    *f = (struct dr_finding){.is_issue = is_issue, .count = count, .details = details};
    dr_copy_text(f->type, sizeof f->type, type);
    dr_copy_text(f->advice, sizeof f->advice, advice);
    return DR_OK;
}

/* --- nodes and tables --------------------------------------------------------------------------
 */

static enum dr_code judge_nodes(const struct dr_seen *s, struct dr_health_report *r,
                                struct dr_err *err)
{
    json_t *silent = json_array();
    for (size_t i = 0; silent != NULL && i < json_array_size(s->nodes); i++) {
        const json_t *node = json_array_get(s->nodes, i);
        if (!json_is_true(json_object_get(node, "answered"))) {
            (void)json_array_append_new(silent,
                                        json_pack("{s:s, s:s}", "node", dr_text_of(node, "name"),
                                                  "why", dr_text_of(node, "why")));
        }
    }
    return dr_finding_add(r, "unreachable_nodes", false, json_array_size(silent), silent,
                          "see whether these nodes run; what is on them is not known until they "
                          "answer",
                          err);
}

/* Without the node's URL, which may hold a secret. */
static enum dr_code judge_orphans(const struct dr_seen *s, struct dr_health_report *r,
                                  struct dr_err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < json_array_size(s->orphans); i++) {
        json_t *one = json_copy(json_array_get(s->orphans, i));
        if (one != NULL) {
            (void)json_object_del(one, "url");
            (void)json_object_del(one, "is_copy");
        }
        (void)json_array_append_new(list, one);
    }
    r->orphans = json_array_size(s->orphans) + r->numbers.cleanups_due;
    if (list != NULL && r->numbers.cleanups_due > 0) {
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:I}", "kind", "cleanup records that are due",
                                              "count", (json_int_t)r->numbers.cleanups_due));
    }
    return dr_finding_add(r, "orphaned_resources", false, r->orphans, list,
                          "drover cleanup --dry-run lists what can go, drover cleanup removes it",
                          err);
}

struct layout_look {
    const struct dr_seen *seen;
    json_t *missing; /* the catalog says it is there, the node says it is not */
    json_t *few;     /* fewer live copies than there should be */
};

static void look_at_shard(struct layout_look *l, const json_t *table, const json_t *shard)
{
    const json_t *holders = json_object_get(shard, "holders");
    const char *name = dr_text_of(shard, "table");
    bool is_ready = strcmp(dr_text_of(table, "state"), "ready") == 0;
    json_int_t wanted = json_integer_value(json_object_get(table, "rf"));
    json_int_t live = 0;
    for (size_t i = 0; i < json_array_size(holders); i++) {
        const char *holder = json_string_value(json_array_get(holders, i));
        const char *url = holder == NULL ? NULL : dr_node_url(table, holder);
        const json_t *node = url == NULL ? NULL : dr_find_node(l->seen->nodes, url, NULL);
        if (!json_is_true(json_object_get(node, "answered"))) {
            continue;
        }
        if (dr_node_has_shard(node, table, name)) {
            live++;
        } else if (is_ready) {
            (void)json_array_append_new(l->missing,
                                        json_pack("{s:s, s:s, s:s, s:s}", "table",
                                                  dr_text_of(table, "name"), "shard", name, "node",
                                                  holder, "why", "the node has no such shard"));
        }
    }
    if (live < wanted) {
        (void)json_array_append_new(l->few, json_pack("{s:s, s:s, s:I, s:I}", "table",
                                                      dr_text_of(table, "name"), "shard", name,
                                                      "copies", live, "wanted", wanted));
    }
}

/* A table that says an operation is changing it which the queue does not know, or which is over. */
static void look_at_holder(struct layout_look *l, const json_t *table)
{
    const char *operation = dr_text_of(table, "operation");
    if (operation[0] != '\0' && json_object_get(l->seen->busy, operation) == NULL) {
        (void)json_array_append_new(
            l->missing, json_pack("{s:s, s:s, s:s, s:s}", "table", dr_text_of(table, "name"),
                                  "state", dr_text_of(table, "state"), "operation", operation,
                                  "why", "it is held by an operation that is not in this queue"));
    }
}

static enum dr_code judge_layout(const struct dr_seen *s, struct dr_health_report *r,
                                 struct dr_err *err)
{
    size_t i;
    size_t n;
    json_t *table;
    json_t *shard;
    struct layout_look l = {.seen = s, .missing = json_array(), .few = json_array()};
    json_array_foreach(s->tables, i, table)
    {
        look_at_holder(&l, table);
        if (s->nodes == NULL || strcmp(dr_text_of(table, "state"), "making") == 0) {
            continue;
        }
        json_array_foreach(json_object_get(table, "shards"), n, shard)
        {
            look_at_shard(&l, table, shard);
        }
    }
    enum dr_code rc = dr_finding_add(
        r, "table_mismatch", true, json_array_size(l.missing), l.missing,
        "look at the node first; a table without a lost shard's other copies needs a restore", err);
    if (rc != DR_OK) {
        json_decref(l.few);
        return rc;
    }
    return dr_finding_add(r, "under_replicated", false, json_array_size(l.few), l.few,
                          "bring the missing nodes back, or rebalance the table without them", err);
}

enum dr_code dr_seen_judge(const struct dr_seen *seen, struct dr_health_report *r,
                           struct dr_err *err)
{
    enum dr_code rc = judge_nodes(seen, r, err);
    rc = rc == DR_OK ? judge_layout(seen, r, err) : rc;
    return rc == DR_OK ? judge_orphans(seen, r, err) : rc;
}

void dr_health_report_fini(struct dr_health_report *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        json_decref(r->finding[i].details);
    }
    dr_free(r->finding);
    memset(r, 0, sizeof *r);
}

/* --- JSON --------------------------------------------------------------------------------------
 */

static const char *const all_types[] = {
    "stuck_operations",   "failed_operations", "rollback_failures", "quarantine",
    "orphaned_resources", "high_queue_depth",  "dead_workers",      "owner_missing",
    "unreachable_nodes",  "under_replicated",  "table_mismatch",    "cleanup_failing",
};

static const struct dr_finding *find_type(const struct dr_health_report *r, const char *type)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->finding[i].type, type) == 0) {
            return &r->finding[i];
        }
    }
    return NULL;
}

static json_t *checks_json(const struct dr_health_report *r)
{
    json_t *checks = json_object();
    for (size_t i = 0; checks != NULL && i < sizeof all_types / sizeof all_types[0]; i++) {
        const struct dr_finding *f = find_type(r, all_types[i]);
        const char *status = f == NULL ? "ok" : f->is_issue ? "issue" : "warning";
        (void)json_object_set_new(checks, all_types[i],
                                  json_pack("{s:s, s:I}", "status", status, "count",
                                            (json_int_t)(f == NULL ? 0 : f->count)));
    }
    const struct dr_queue_facts *n = &r->numbers;
    (void)json_object_set_new(
        checks, "queue",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "depth", (json_int_t)n->depth,
                  "running", (json_int_t)n->ops_running, "paused", (json_int_t)n->ops_paused,
                  "blocked", (json_int_t)n->ops_blocked, "rolling_back",
                  (json_int_t)n->ops_rolling_back, "failed_last_hour",
                  (json_int_t)n->failed_last_hour, "rollbacks_last_day", (json_int_t)n->rollbacks,
                  "rollbacks_failed_last_day", (json_int_t)n->rollbacks_failed));
    return checks;
}

json_t *dr_health_json(const struct dr_health_report *r)
{
    char at[32];
    json_t *issues = json_array();
    json_t *warnings = json_array();
    json_t *advice = json_array();
    int bad = issues == NULL || warnings == NULL || advice == NULL;
    for (uint32_t i = 0; bad == 0 && i < r->count; i++) {
        const struct dr_finding *f = &r->finding[i];
        bad |= json_array_append_new(f->is_issue ? issues : warnings,
                                     json_pack("{s:s, s:I, s:O}", "type", f->type, "count",
                                               (json_int_t)f->count, "details", f->details));
        bad |= json_array_append_new(advice, json_sprintf("%s: %s", f->type, f->advice));
    }
    if (bad == 0 && r->count == 0) {
        bad |= json_array_append_new(advice, json_string("nothing to do"));
    }
    json_t *j = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "overall_status",
                          r->is_healthy ? "healthy" : "unhealthy", "timestamp",
                          dr_wall_text(r->at, at, sizeof at), "checks", checks_json(r), "issues",
                          issues, "warnings", warnings, "recommendations", advice);
    if (bad != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* --- text --------------------------------------------------------------------------------------
 */

static void print_details(const struct dr_finding *f, struct dr_str *out)
{
    size_t count = json_array_size(f->details);
    for (size_t i = 0; i < count && i < DETAILS_SHOWN; i++) {
        const char *key;
        json_t *value;
        const char *separator = "    ";
        json_object_foreach(json_array_get(f->details, i), key, value)
        {
            char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
            dr_str_addf(out, "%s%s=%s", separator, key,
                        json_is_string(value) ? json_string_value(value) : text);
            free(text);
            separator = " ";
        }
        dr_str_add(out, "\n");
    }
    if (count > DETAILS_SHOWN) {
        dr_str_addf(out, "    and %zu more; --json has them all\n", count - DETAILS_SHOWN);
    }
}

void dr_health_print(const struct dr_health_report *r, struct dr_str *out)
{
    char at[32];
    const struct dr_queue_facts *n = &r->numbers;
    dr_str_addf(out, "%s at %s\n", r->is_healthy ? "healthy" : "UNHEALTHY",
                dr_wall_text(r->at, at, sizeof at));
    dr_str_addf(out,
                "queue: %" PRIu64 " steps to do; operations: %" PRIu64 " running, %" PRIu64
                " rolling back, %" PRIu64 " paused, %" PRIu64 " blocked\n",
                n->depth, n->ops_running, n->ops_rolling_back, n->ops_paused,
                n->ops_blocked + n->ops_rollback_blocked);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct dr_finding *f = &r->finding[i];
        dr_str_addf(out, "%s %s: %" PRIu64 "\n", f->is_issue ? "ISSUE" : "warning", f->type,
                    f->count);
        print_details(f, out);
        dr_str_addf(out, "  do: %s\n", f->advice);
    }
    if (r->count == 0) {
        dr_str_add(out, "nothing to do\n");
    }
}
