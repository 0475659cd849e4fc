/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs about sharded tables: the list, one of them, and where rows are. Read from the newest
 * state that this peer has applied. URLs are shown without user and password. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "catalog/table.h"
#include "cluster/cluster_private.h"
#include "cluster/port.h"

enum { ROW_ID_BYTES_MAX = 4096 };

/* The newest state, of a peer that has caught up; NULL: the reply says why not. */
static struct dr_catalog *take_state(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                     struct dr_cluster_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    if (!dr_cluster_catch_up(c, dr_caller_timeout(who))) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE,
                      "this peer has not caught up with the others since its start");
        return NULL;
    }
    return dr_cluster_catalog(c);
}

static const struct dr_table_info *find_table(const struct dr_catalog *cat, const char *name,
                                              struct dr_cluster_reply *reply)
{
    const struct dr_table_info *t = dr_catalog_table(cat, name);
    if (t == NULL) {
        dr_reply_fail(reply, DR_CLASS_NOT_FOUND, "Table `%.64s` doesn't exist!", name);
    }
    return t;
}

/* What a list of many shows of each. */
static json_t *shape_line(const struct dr_table_info *t)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", t->name, "uuid", t->uuid,
                     "engine", t->engine, "state", dr_table_state_name(t->state), "shards",
                     (json_int_t)t->shard_count, "rf", (json_int_t)t->rf, "nodes",
                     (json_int_t)t->node_count, "version", (json_int_t)t->version);
}

void dr_cluster_list_tables(struct dr_cluster *c, const struct dr_cluster_caller *who,
                            const char *collection, const json_t *body,
                            struct dr_cluster_reply *reply)
{
    (void)collection;
    (void)body;
    struct dr_catalog *cat = take_state(c, who, reply);
    if (cat == NULL) {
        return;
    }
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < dr_catalog_table_count(cat); i++) {
        if (json_array_append_new(list, shape_line(dr_catalog_table_at(cat, i))) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    dr_reply_give(reply, list == NULL ? NULL : json_pack("{s:o}", "tables", list));
    dr_catalog_unref(cat);
}

void dr_cluster_get_table(struct dr_cluster *c, const struct dr_cluster_caller *who,
                          const char *collection, const json_t *body,
                          struct dr_cluster_reply *reply)
{
    (void)body;
    struct dr_catalog *cat = take_state(c, who, reply);
    const struct dr_table_info *t = cat == NULL ? NULL : find_table(cat, collection, reply);
    if (t != NULL) {
        dr_reply_give(reply, dr_table_to_json(t, false));
    }
    dr_catalog_unref(cat);
}

/* --- routing --- */

/* The id as it is hashed: a text as it is, a number in decimal. False: it is neither. */
static bool read_id(const json_t *id, char *number, size_t number_bytes, const char **text_out)
{
    if (json_is_integer(id)) {
        (void)snprintf(number, number_bytes, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        *text_out = number;
        return true;
    }
    *text_out = json_string_value(id);
    return *text_out != NULL && strlen(*text_out) <= ROW_ID_BYTES_MAX;
}

static json_t *shape_holders(const struct dr_table_info *t, const json_t *nodes, uint32_t shard)
{
    json_t *list = json_array();
    for (uint32_t k = 0; list != NULL && k < t->shard[shard].holder_count; k++) {
        const json_t *node = json_array_get(nodes, t->shard[shard].holder[k]);
        json_t *one = json_pack("{s:O, s:O}", "node", json_object_get(node, "name"), "url",
                                json_object_get(node, "url"));
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* One line per id, in their order. `shown` is the table without secrets. NULL: memory is short. */
static json_t *route_ids(const struct dr_table_info *t, const json_t *shown, const json_t *ids)
{
    const json_t *nodes = json_object_get(shown, "nodes");
    const json_t *shards = json_object_get(shown, "shards");
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < json_array_size(ids); i++) {
        char number[32];
        const char *text = "";
        json_t *id = json_array_get(ids, i);
        (void)read_id(id, number, sizeof number, &text);
        uint32_t shard = dr_table_route(t->shard_count, text, strlen(text));
        const json_t *line = json_array_get(shards, shard);
        json_t *one = json_pack("{s:O, s:I, s:O, s:o, s:I}", "id", id, "shard", (json_int_t)shard,
                                "table", json_object_get(line, "table"), "holders",
                                shape_holders(t, nodes, shard), "version", (json_int_t)t->version);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static bool check_ids(const json_t *ids, struct dr_cluster_reply *reply)
{
    if (!json_is_array(ids) || json_array_size(ids) > POINTS_IDS_MAX) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "ids: expected a list of at most %d ids",
                      POINTS_IDS_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        char number[32];
        const char *text = "";
        if (!read_id(json_array_get(ids, i), number, sizeof number, &text)) {
            dr_reply_fail(reply, DR_CLASS_BAD_INPUT,
                          "ids[%zu]: expected a whole number or a text of at most %d bytes", i,
                          ROW_ID_BYTES_MAX);
            return false;
        }
    }
    return true;
}

void dr_cluster_route_table(struct dr_cluster *c, const struct dr_cluster_caller *who,
                            const char *collection, const json_t *body,
                            struct dr_cluster_reply *reply)
{
    const json_t *ids = json_object_get(body, "ids");
    struct dr_catalog *cat = take_state(c, who, reply);
    const struct dr_table_info *t = cat == NULL ? NULL : find_table(cat, collection, reply);
    if (t == NULL || !check_ids(ids, reply)) {
        goto out;
    }
    if (t->state == DR_TABLE_MAKING || t->state == DR_TABLE_DROPPING) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE, "table `%s` is %s: it has no shards to go to",
                      t->name, t->state == DR_TABLE_MAKING ? "being made" : "being dropped");
        goto out;
    }
    json_t *shown = dr_table_to_json(t, false);
    dr_reply_give(reply, shown == NULL ? NULL : route_ids(t, shown, ids));
    json_decref(shown);
out:
    dr_catalog_unref(cat);
}
