/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of health share: a catalog that is a JSON array, nodes that are SQLite files, and
 * short words for reports. */
#ifndef TESTS_UNIT_HEALTH_HELP_H
#define TESTS_UNIT_HEALTH_HELP_H

#include "base/json.h"
#include "store/shard.h"
#include "store/world.h"
#include "unit/queue_help.h"
#include "verbs/health.h"

#define TABLE_UUID "11111111-1111-4111-8111-111111111111"
#define CREATE_UUID "22222222-2222-4222-8222-222222222222"
#define OTHER_UUID "33333333-3333-4333-8333-333333333333"
#define MOVE_UUID "44444444-4444-4444-8444-444444444444"

struct town { /* a queue, a catalog, two nodes */
    struct rig *r;
    json_t *tables;
    struct dr_catalog_port port;
    struct dr_store_world world;
    char node[2][96]; /* URLs */
};

static DR_UNUSED enum dr_code read_table(void *arg, const char *table, json_t **out,
                                         struct dr_err *err)
{
    struct town *t = arg;
    for (size_t i = 0; i < json_array_size(t->tables); i++) {
        json_t *one = json_array_get(t->tables, i);
        if (strcmp(json_string_value(json_object_get(one, "name")), table) == 0) {
            *out = json_deep_copy(one);
            return DR_OK;
        }
    }
    *out = NULL;
    return dr_fail(err, DR_NOT_FOUND, "no table %s", table);
}

static DR_UNUSED enum dr_code list_tables(void *arg, json_t **out, struct dr_err *err)
{
    struct town *t = arg;
    (void)err;
    *out = json_deep_copy(t->tables);
    return DR_OK;
}

static DR_UNUSED enum dr_code change_table(void *arg, const json_t *entry, struct dr_err *err)
{
    (void)arg;
    (void)entry;
    return dr_fail(err, DR_INTERNAL, "nobody changes the catalog here");
}

static DR_UNUSED struct town *make_town(void)
{
    struct town *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->r = make_rig();
    t->tables = json_array();
    t->port = (struct dr_catalog_port){
        .arg = t, .read = read_table, .list = list_tables, .change = change_table};
    t->world.catalog = &t->port;
    for (int i = 0; i < 2; i++) {
        struct dr_sql s = {0};
        (void)snprintf(t->node[i], sizeof t->node[i], "sqlite:%s/n%d.db", t->r->dir, i);
        OK(t->r, dr_sql_open(&s, t->node[i] + strlen("sqlite:"), DR_SQL_CREATE, 5000, &t->r->err));
        OK(t->r, dr_sql_exec(&s, "CREATE TABLE other(id INTEGER PRIMARY KEY)", &t->r->err));
        dr_sql_close(&s);
    }
    return t;
}

static DR_UNUSED void free_town(struct town *t)
{
    json_decref(t->tables);
    free_rig(t->r);
    free(t);
}

static DR_UNUSED void on_node(struct town *t, int node, const char *sql)
{
    struct dr_sql s = {0};
    OK(t->r, dr_sql_open(&s, t->node[node] + strlen("sqlite:"), DR_SQL_CREATE, 5000, &t->r->err));
    OK(t->r, dr_sql_exec(&s, sql, &t->r->err));
    dr_sql_close(&s);
}

static DR_UNUSED int64_t ask_node_int(struct town *t, int node, const char *sql)
{
    struct dr_sql s = {0};
    int64_t n = 0;
    OK(t->r, dr_sql_open(&s, t->node[node] + strlen("sqlite:"), DR_SQL_READONLY, 5000, &t->r->err));
    OK(t->r, dr_sql_int(&s, sql, -1, &n, &t->r->err));
    dr_sql_close(&s);
    return n;
}

/* A table in the catalog: shard 0 on node `h0`, shard 1 on node `h1`. */
static DR_UNUSED void add_table(struct town *t, const char *name, const char *state,
                                const char *operation, const char *h0, const char *h1)
{
    json_t *one = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:s, s:[{s:s, s:s}, {s:s, s:s}], s:[{s:i, s:s+, s:[s]}, {s:i,"
        " s:s+, s:[s]}]}",
        "name", name, "uuid", TABLE_UUID, "engine", "sqlite", "rf", 1, "state", state, "operation",
        operation, "nodes", "name", "n0", "url", t->node[0], "name", "n1", "url", t->node[1],
        "shards", "shard", 0, "table", name, "_s0", "holders", h0, "shard", 1, "table", name, "_s1",
        "holders", h1);
    assert_non_null(one);
    assert_int_equal(json_array_append_new(t->tables, one), 0);
}

static DR_UNUSED void make_shard(struct town *t, int node, const char *name, const char *table,
                                 const char *owner, const char *operation)
{
    struct dr_store *s = NULL;
    const struct dr_shard_id id = {
        .name = name, .table = table, .owner = owner, .operation = operation};
    OK(t->r, dr_store_open(t->node[node], &s, &t->r->err));
    OK(t->r, dr_shard_ensure(s, &id, "id INTEGER PRIMARY KEY, v TEXT", "", &t->r->err));
    dr_store_close(s);
}

/* Everything on record on the nodes was made a day ago. */
static DR_UNUSED void age_records(struct town *t)
{
    for (int i = 0; i < 2; i++) {
        on_node(t, i, "UPDATE drover_shards SET created_at = created_at - 86400000");
    }
}

/* All times of the queue's operations lie so much further back. */
static DR_UNUSED void age_queue(struct rig *r, const char *ms)
{
    char sql[640];
    (void)snprintf(sql, sizeof sql,
                   "UPDATE operations SET created_at=created_at-%s, started_at=CASE started_at WHEN"
                   " 0 THEN 0 ELSE started_at-%s END, progress_at=CASE progress_at WHEN 0 THEN 0"
                   " ELSE progress_at-%s END, ended_at=CASE ended_at WHEN 0 THEN 0 ELSE"
                   " ended_at-%s END; UPDATE audit SET at=at-%s; UPDATE rollbacks SET"
                   " started_at=started_at-%s",
                   ms, ms, ms, ms, ms, ms);
    raw_exec(r, sql);
}

static DR_UNUSED struct dr_health_report look(struct rig *r, const struct dr_store_world *world)
{
    struct dr_health_rules rules;
    struct dr_health_report report = {0};
    dr_health_rules_default(&rules);
    OK(r, dr_health_look(r->q, world, &rules, &report, &r->err));
    return report;
}

static DR_UNUSED const struct dr_finding *find(const struct dr_health_report *r, const char *type)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->finding[i].type, type) == 0) {
            return &r->finding[i];
        }
    }
    return NULL;
}

static DR_UNUSED uint64_t count_found(struct rig *r, const struct dr_store_world *world,
                                      const char *type)
{
    struct dr_health_report report = look(r, world);
    const struct dr_finding *f = find(&report, type);
    uint64_t count = f == NULL ? 0 : f->count;
    dr_health_report_fini(&report);
    return count;
}

static DR_UNUSED json_t *recover(struct rig *r, const struct dr_store_world *world)
{
    json_t *out = NULL;
    struct dr_health_report report = look(r, world);
    OK(r, dr_health_recover(r->q, world, &report, "ann@host", &out, &r->err));
    dr_health_report_fini(&report);
    return out;
}

static DR_UNUSED json_t *clean(struct rig *r, const struct dr_store_world *world, uint32_t what,
                               bool is_dry_run)
{
    struct dr_cleanup_ages ages;
    json_t *out = NULL;
    dr_cleanup_ages_default(&ages);
    OK(r, dr_cleanup_run(r->q, world, what, &ages, is_dry_run, "ann@host", &out, &r->err));
    return out;
}

/* Finish a leased step as one that was tried again before it went to quarantine. */
static DR_UNUSED void fail_after_a_retry(struct rig *r, int64_t op, int n)
{
    run_step(r, op, n, DR_OUT_RETRY);
    raw_exec(r, "UPDATE steps SET next_attempt_at=1 WHERE status=2");
    uint64_t moved = 0;
    OK(r, dr_queue_sweep(r->q, &moved, &r->err));
    assert_int_equal(moved, 1);
    run_step(r, op, n, DR_OUT_QUARANTINE);
}

#endif
