/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a node: its clusters and tables, for the fleet's survey, and its health. */
#include <stdio.h>
#include <string.h>

#include "store/manticore/manticore_private.h"

enum { HEALTH_VALID_MS = 2000, HEALTH_WAIT_MS = 500, BLOCK_BYTES = 16 * 1024 };

/* A node is fit for work when it answers and is not copying whole tables. A cluster without quorum
 * is told but stops nothing: the very steps that heal it run on this node. */
enum dr_code mt_health(void *impl, const char *node, struct dr_health *out, struct dr_err *err)
{
    struct mt_store *s = impl;
    struct mt_cluster *all = NULL;
    uint32_t count = 0;
    (void)node;
    *out = (struct dr_health){.is_ok = true, .valid_ms = HEALTH_VALID_MS};
    struct dr_arena *a = dr_arena_create(BLOCK_BYTES);
    enum dr_code rc = a == NULL ? dr_fail_nomem(err) : mt_clusters_read(s, a, &all, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        bool is_moving =
            strcmp(all[i].node_state, "joining") == 0 || strcmp(all[i].node_state, "donor") == 0;
        if (is_moving || (out->is_ok && !mt_cluster_is_ready(&all[i]))) {
            out->is_ok = out->is_ok && !is_moving;
            (void)snprintf(out->reason, sizeof out->reason, "%.80s: cluster %.60s is %.30s, %.30s",
                           s->shown, all[i].name, all[i].status, all[i].node_state);
        }
    }
    out->wait_hint_ms = out->is_ok ? 0 : HEALTH_WAIT_MS;
    dr_arena_destroy(a);
    return rc;
}

/* "a:9312,a:9312:replication,b:9312,b:9312:replication" -> ["a:9312","b:9312"] */
static json_t *addresses(const char *list)
{
    json_t *j = json_array();
    while (j != NULL && *list != '\0') {
        size_t bytes = strcspn(list, ",");
        static const char replication[] = ":replication";
        size_t tail = sizeof replication - 1;
        bool is_twin = bytes > tail && strncmp(list + bytes - tail, replication, tail) == 0;
        if (bytes > 0 && !is_twin && json_array_append_new(j, json_stringn(list, bytes)) != 0) {
            json_decref(j);
            return NULL;
        }
        list += bytes;
        list += *list == ',';
    }
    return j;
}

static enum dr_code set(json_t *object, const char *key, json_t *value, struct dr_err *err)
{
    return object == NULL || json_object_set_new(object, key, value) != 0 ? dr_fail_nomem(err)
                                                                          : DR_OK;
}

static enum dr_code add_cluster(json_t *clusters, const struct mt_cluster *c, struct dr_err *err)
{
    json_t *j = json_object();
    enum dr_code rc = set(j, "status", json_string(c->status), err);
    rc = rc == DR_OK ? set(j, "node_state", json_string(c->node_state), err) : rc;
    rc = rc == DR_OK ? set(j, "size", json_integer((json_int_t)c->size), err) : rc;
    rc = rc == DR_OK ? set(j, "nodes_set", addresses(c->nodes_set), err) : rc;
    rc = rc == DR_OK ? set(j, "nodes_view", addresses(c->nodes_view), err) : rc;
    rc = rc == DR_OK ? set(j, "tables", addresses(c->tables), err) : rc;
    if (rc == DR_OK && c->last_error[0] != '\0') {
        rc = set(j, "last_error", json_string(c->last_error), err);
    }
    if (rc != DR_OK) {
        json_decref(j);
        return rc;
    }
    return set(clusters, c->name, j, err);
}

/* system.TABLE_s<digits> -> its name behind "system.", else NULL */
static const char *shard_of(const char *name, const char *table)
{
    size_t bytes = strlen(table);
    if (strncmp(name, "system.", 7) != 0 || strncasecmp(name + 7, table, bytes) != 0 ||
        strncmp(name + 7 + bytes, "_s", 2) != 0) {
        return NULL;
    }
    const char *digits = name + 7 + bytes + 2;
    return *digits != '\0' && strspn(digits, "0123456789") == strlen(digits) ? name + 7 : NULL;
}

static enum dr_code add_shards(struct mt_store *s, const char *table, const json_t *system_tables,
                               struct dr_arena *a, json_t *into, struct dr_err *err)
{
    size_t i;
    json_t *name;
    enum dr_code rc = DR_OK;
    json_array_foreach(system_tables, i, name)
    {
        const char *shard = shard_of(json_string_value(name), table);
        uint64_t rows = 0;
        if (shard == NULL) {
            continue;
        }
        char *sql = dr_arena_printf(a, "SELECT count(*) FROM %s", json_string_value(name));
        rc = sql == NULL ? dr_fail_nomem(err) : mt_ask_number(s, sql, &rows, err);
        if (rc != DR_OK) {
            return rc;
        }
        json_t *j = json_pack("{s:s,s:b,s:b,s:b,s:I,s:i}", "name", shard, "exists", 1, "owned", 1,
                              "held", 0, "rows", (json_int_t)rows, "bytes", 0);
        if (j == NULL || json_array_append_new(into, j) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code gather(struct mt_store *s, const char *table, struct dr_arena *a, json_t *facts,
                           struct dr_err *err)
{
    struct mt_cluster *all = NULL;
    uint32_t count = 0;
    const char *data_dir, *binary;
    enum dr_code rc = set(facts, "clusters", json_object(), err);
    rc = rc == DR_OK ? set(facts, "tables", json_array(), err) : rc;
    rc = rc == DR_OK ? set(facts, "system_tables", json_array(), err) : rc;
    rc = rc == DR_OK ? set(facts, "shards", json_array(), err) : rc;
    rc = rc == DR_OK ? mt_clusters_read(s, a, &all, &count, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = add_cluster(json_object_get(facts, "clusters"), &all[i], err);
    }
    json_t *system = json_object_get(facts, "system_tables");
    rc = rc == DR_OK ? mt_table_names(s, false, json_object_get(facts, "tables"), err) : rc;
    rc = rc == DR_OK ? mt_table_names(s, true, system, err) : rc;
    if (rc == DR_OK && table != NULL) {
        rc = add_shards(s, table, system, a, json_object_get(facts, "shards"), err);
    }
    rc = rc == DR_OK ? mt_settings(s, a, &data_dir, &binary, err) : rc;
    rc = rc == DR_OK ? set(facts, "data_dir", json_string(data_dir), err) : rc;
    rc = rc == DR_OK ? set(facts, "binary", json_string(binary), err) : rc;
    return rc == DR_OK ? set(facts, "sql", json_string(s->shown), err) : rc;
}

/* `spec`: the request's JSON; only its "table" counts. The facts are the survey's extra. */
enum dr_code mt_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct mt_store *s = impl;
    json_t *request = NULL, *facts = json_object();
    char *text = NULL;
    enum dr_code rc = dr_json_parse("request", spec, strlen(spec), &request, err);
    if (rc == DR_OK) {
        const char *table = json_string_value(json_object_get(request, "table"));
        rc = gather(s, table, survey->arena, facts, err);
    }
    if (rc != DR_OK) {
        goto out;
    }
    text = dr_json_text(facts);
    survey->node = dr_arena_alloc(survey->arena, sizeof *survey->node);
    survey->extra = text == NULL ? NULL : dr_arena_strdup(survey->arena, text);
    if (survey->extra == NULL || survey->node == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    survey->node_count = 1;
    survey->node[0] = dr_arena_strdup(survey->arena, s->shown);
    rc = survey->node[0] == NULL ? dr_fail_nomem(err) : DR_OK;
out:
    dr_free(text);
    json_decref(facts);
    json_decref(request);
    return rc;
}
