/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the fleet's handle: which node is reached by which URL, and the stores that are open. URLs
 * come from the catalog's records and are never shown. One thread at a time. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "store/fleet/fleet_private.h"
#include "store/fleet/fleet_store.h"

enum { HEALTH_VALID_MS = 1000 };

static const char scheme[] = "fleet:";

/* ---- nodes that are open ---- */

static void close_at(struct fl_fleet *f, uint32_t i)
{
    dr_store_close(f->node[i].store);
    dr_free(f->node[i].name);
    dr_free(f->node[i].url);
    f->node[i] = f->node[--f->node_count];
    f->node[f->node_count] = (struct fl_node){0};
}

/* One command uses far fewer nodes than may be open, so it is none of those in use. */
static void close_oldest(struct fl_fleet *f)
{
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < f->node_count; i++) {
        oldest = f->node[i].used_at < f->node[oldest].used_at ? i : oldest;
    }
    close_at(f, oldest);
}

void fl_close_node(struct fl_fleet *f, const char *node)
{
    for (uint32_t i = f->node_count; i > 0; i--) {
        if (strcmp(f->node[i - 1].name, node) == 0) {
            close_at(f, i - 1);
        }
    }
}

enum dr_code fl_note(struct fl_fleet *f, const char *node, enum dr_code rc)
{
    if (rc == DR_UNREACHABLE || rc == DR_UNKNOWN) {
        fl_close_node(f, node);
    }
    return rc;
}

static enum dr_code open_url(struct fl_fleet *f, const char *node, const char *url,
                             struct dr_store **out, struct dr_err *err)
{
    for (uint32_t i = 0; i < f->node_count; i++) {
        if (strcmp(f->node[i].name, node) == 0 && strcmp(f->node[i].url, url) == 0) {
            *out = f->node[i].store;
            f->node[i].used_at = ++f->clock;
            return DR_OK;
        }
    }
    fl_close_node(f, node); /* its URL has changed */
    if (strncmp(url, scheme, strlen(scheme)) == 0) {
        return dr_fail(err, DR_REFUSED, "node %s: a fleet cannot be a node of a fleet", node);
    }
    if (f->node_count == FL_NODES_OPEN_MAX) {
        close_oldest(f);
    }
    struct fl_node *n = &f->node[f->node_count];
    enum dr_code rc = dr_store_open(url, &n->store, err);
    if (rc != DR_OK) {
        dr_wrap(err, "node %s", node);
        return rc;
    }
    n->name = dr_strdup(node);
    n->url = dr_strdup(url);
    n->used_at = ++f->clock;
    f->node_count++;
    if (n->name == NULL || n->url == NULL) {
        dr_store_close(n->store);
        dr_free(n->name);
        dr_free(n->url);
        f->node[--f->node_count] = (struct fl_node){0};
        return dr_fail_nomem(err);
    }
    *out = n->store;
    return DR_OK;
}

/* ---- the catalog's records ---- */

const char *fl_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

void fl_forget_record(struct fl_fleet *f)
{
    json_decref(f->seen.record);
    dr_free(f->seen.name);
    f->seen = (struct fl_table){0};
}

enum dr_code fl_read_record(struct fl_fleet *f, const char *table, json_t **out, struct dr_err *err)
{
    json_t *record = NULL;
    *out = NULL;
    fl_forget_record(f);
    enum dr_code rc = f->catalog->read(f->catalog->arg, table, &record, err);
    if (rc != DR_OK) {
        dr_wrap(err, "catalog");
        return rc;
    }
    f->seen.name = dr_strdup(table);
    f->seen.record = record;
    if (f->seen.name == NULL) {
        fl_forget_record(f);
        return dr_fail_nomem(err);
    }
    *out = json_incref(record);
    return DR_OK;
}

static const char *url_in(const json_t *record, const char *node)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(record, "nodes"), i, one)
    {
        if (strcmp(fl_text(one, "name"), node) == 0) {
            return fl_text(one, "url");
        }
    }
    return NULL;
}

/* The table whose record has such a node: names of nodes are made of their address, so records that
 * share one mean the same place. */
static enum dr_code find_table_of(struct fl_fleet *f, const char *node, char **table_out,
                                  struct dr_err *err)
{
    json_t *all = NULL;
    size_t i;
    const json_t *one;
    *table_out = NULL;
    enum dr_code rc = f->catalog->list(f->catalog->arg, &all, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_array_foreach(all, i, one)
    {
        if (url_in(one, node) != NULL) {
            *table_out = dr_strdup(fl_text(one, "name"));
            rc = *table_out == NULL ? dr_fail_nomem(err) : DR_OK;
            break;
        }
    }
    json_decref(all);
    return rc == DR_OK && *table_out == NULL
               ? dr_fail(err, DR_NOT_FOUND, "no table in the catalog has a node \"%s\"", node)
               : rc;
}

static enum dr_code open_by_record(struct fl_fleet *f, const char *table, const char *node,
                                   struct dr_store **out, struct dr_err *err)
{
    json_t *record = NULL;
    bool is_seen = f->seen.name != NULL && strcmp(f->seen.name, table) == 0;
    const char *url = is_seen ? url_in(f->seen.record, node) : NULL;
    if (url == NULL) { /* not read yet, or a node that came since */
        enum dr_code rc = fl_read_record(f, table, &record, err);
        if (rc != DR_OK) {
            return rc;
        }
        url = url_in(record, node); /* which f->seen keeps */
        json_decref(record);
    }
    if (url == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "table %s has no node \"%s\" in the catalog", table,
                       node);
    }
    return open_url(f, node, url, out, err);
}

enum dr_code fl_open_node(struct fl_fleet *f, const char *table, const char *node,
                          struct dr_store **out, struct dr_err *err)
{
    char *found = NULL;
    *out = NULL;
    if (table == NULL && f->table[0] != '\0') {
        table = f->table;
    }
    if (table == NULL && f->seen.record != NULL && url_in(f->seen.record, node) != NULL) {
        return open_url(f, node, url_in(f->seen.record, node), out, err);
    }
    enum dr_code rc = table == NULL ? find_table_of(f, node, &found, err) : DR_OK;
    if (rc == DR_OK) {
        rc = open_by_record(f, table == NULL ? found : table, node, out, err);
    }
    dr_free(found);
    return rc;
}

bool fl_is_holder(const json_t *record, const char *shard, const char *node)
{
    size_t i;
    size_t k;
    const json_t *one;
    const json_t *holder;
    json_array_foreach(json_object_get(record, "shards"), i, one)
    {
        if (strcmp(fl_text(one, "table"), shard) != 0) {
            continue;
        }
        json_array_foreach(json_object_get(one, "holders"), k, holder)
        {
            if (strcmp(json_string_value(holder) == NULL ? "" : json_string_value(holder), node) ==
                0) {
                return true;
            }
        }
    }
    return false;
}

/* ---- the handle ---- */

static void close_fleet(void *impl)
{
    struct fl_fleet *f = impl;
    if (f == NULL) {
        return;
    }
    while (f->node_count > 0) {
        close_at(f, f->node_count - 1);
    }
    fl_forget_record(f);
    dr_free(f->table);
    dr_free(f);
}

enum dr_code dr_store_fleet_open(const struct dr_store_world *world, const char *url,
                                 void **impl_out, struct dr_err *err)
{
    *impl_out = NULL;
    if (world == NULL || world->catalog == NULL) {
        return dr_fail(err, DR_REFUSED,
                       "sharded tables need the catalog, which this process does not have; use "
                       "drover table");
    }
    if (strncmp(url, scheme, strlen(scheme)) != 0) {
        return dr_fail(err, DR_INPUT, "\"%.64s\" is no fleet", url);
    }
    struct fl_fleet *f = dr_calloc(1, sizeof *f);
    if (f == NULL) {
        return dr_fail_nomem(err);
    }
    f->catalog = world->catalog;
    f->table = dr_strdup(url + strlen(scheme));
    if (f->table == NULL) {
        dr_free(f);
        return dr_fail_nomem(err);
    }
    *impl_out = f;
    return DR_OK;
}

static enum dr_code open_alone(const char *url, void **impl_out, struct dr_err *err)
{
    return dr_store_fleet_open(NULL, url, impl_out, err);
}

/* ---- what every store has ---- */

static enum dr_code read_health(void *impl, const char *node, struct dr_health *out,
                                struct dr_err *err)
{
    struct fl_fleet *f = impl;
    struct dr_store *store = NULL;
    if (strcmp(node, FL_CATALOG_NODE) == 0) {
        *out = (struct dr_health){.is_ok = true, .valid_ms = HEALTH_VALID_MS};
        return DR_OK;
    }
    enum dr_code rc = fl_open_node(f, NULL, node, &store, err);
    return rc == DR_OK ? fl_note(f, node, dr_store_health(store, FL_INNER_NODE, out, err)) : rc;
}

/* Layouts of tables change by the fleet's own steps, in order: nothing could be stale. */
static enum dr_code read_epoch(void *impl, const char *collection, uint64_t *epoch_out,
                               struct dr_err *err)
{
    (void)impl;
    (void)collection;
    (void)err;
    *epoch_out = 1;
    return DR_OK;
}

static enum dr_code refuse(const char *what, struct dr_err *err)
{
    return dr_fail(err, DR_UNSUPPORTED, "a fleet makes and moves shards; it does not %s", what);
}

static enum dr_code survey(void *impl, const char *database, const struct dr_filter *filter,
                           struct dr_survey *out, struct dr_err *err)
{
    (void)impl;
    (void)database;
    (void)filter;
    (void)out;
    return refuse("survey by filters", err);
}

static enum dr_code count(void *impl, const struct dr_range *range, uint64_t *rows_out,
                          struct dr_err *err)
{
    (void)impl;
    (void)range;
    (void)rows_out;
    return refuse("count ranges", err);
}

static enum dr_code scan(void *impl, const struct dr_range *range, const struct dr_budget *budget,
                         const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    (void)impl;
    (void)range;
    (void)budget;
    (void)from;
    (void)batch;
    return refuse("walk ranges", err);
}

/* Erasing, probing and restoring, which are of one form. */
static enum dr_code change(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                           struct dr_tally *tally, struct dr_err *err)
{
    (void)impl;
    (void)range;
    (void)batch;
    (void)tally;
    return refuse("change rows", err);
}

static const struct dr_store_ops ops = {
    .scheme = "fleet",
    .can = DR_CAN_COMMAND,
    .open = open_alone,
    .close = close_fleet,
    .survey = survey,
    .epoch = read_epoch,
    .health = read_health,
    .count = count,
    .scan = scan,
    .erase = change,
    .probe = change,
    .restore = change,
    .command = fl_command,
    .survey_spec = fl_survey_spec,
    .check = fl_check,
    .copy = fl_copy,
};

const struct dr_store_ops *dr_store_fleet_ops(void)
{
    return &ops;
}
