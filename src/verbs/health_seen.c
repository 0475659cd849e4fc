/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the comparing of what the nodes say with what the catalog and the queue know: what belongs
 * to nobody.
 *
 * A thing belongs to somebody when the catalog places it where it is, or when the operation on its
 * record is in the queue and not over. An unreachable node says nothing, so nothing on it is left
 * over. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "verbs/health_private.h"
#include "verbs/steer.h"

enum { CLEANUPS_MAX = 256, NAME_BYTES = 256 };

const char *dr_text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static const json_t *find_by(const json_t *list, const char *key, const char *value)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        if (strcmp(dr_text_of(one, key), value) == 0) {
            return one;
        }
    }
    return NULL;
}

const json_t *dr_find_table(const json_t *tables, const char *name)
{
    return find_by(tables, "name", name);
}

const json_t *dr_find_node(const json_t *nodes, const char *url, const char *name)
{
    return url != NULL ? find_by(nodes, "url", url) : find_by(nodes, "name", name);
}

const char *dr_node_url(const json_t *table, const char *node)
{
    return json_string_value(
        json_object_get(find_by(json_object_get(table, "nodes"), "name", node), "url"));
}

bool dr_node_has_shard(const json_t *node, const json_t *table, const char *shard)
{
    char system[NAME_BYTES];
    const json_t *names = json_object_get(node, "system_tables");
    const json_t *records = json_object_get(node, "records");
    (void)snprintf(system, sizeof system, "system.%s", shard);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name != NULL && strcasecmp(name, system) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < json_array_size(records); i++) {
        const json_t *r = json_array_get(records, i);
        if (strcmp(dr_text_of(r, "name"), shard) == 0 &&
            strcmp(dr_text_of(r, "role"), "shard") == 0 &&
            strcmp(dr_text_of(r, "owner"), dr_text_of(table, "uuid")) == 0 &&
            json_is_true(json_object_get(r, "exists"))) {
            return true;
        }
    }
    return false;
}

/* --- the queue ---------------------------------------------------------------------------------
 */

struct busy {
    struct dr_queue *queue;
    json_t *map;
};

static enum dr_code add_busy(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct busy *b = arg;
    char *text = NULL;
    json_t *j = NULL;
    /* A stopped one may run on: what it made is its own until it is rolled back or forgotten. */
    if (strncmp(op->kind, "table.", 6) != 0 || op->status == DR_O_DONE ||
        op->status == DR_O_ROLLED_BACK) {
        return DR_OK;
    }
    enum dr_code rc = dr_queue_texts(b->queue, op->id, &text, NULL, NULL, err);
    if (rc == DR_OK && text != NULL) {
        rc = dr_json_parse("stored request", text, strlen(text), &j, err);
    }
    const char *uuid = dr_text_of(j, "operation");
    if (rc == DR_OK && uuid[0] != '\0' &&
        json_object_set_new(b->map, uuid, json_integer(op->id)) != 0) {
        rc = dr_fail_nomem(err);
    }
    json_decref(j);
    dr_free(text);
    return rc;
}

enum dr_code dr_busy_read(struct dr_queue *q, json_t **out, struct dr_err *err)
{
    struct busy b = {.queue = q, .map = json_object()};
    enum dr_code rc = b.map == NULL ? dr_fail_nomem(err) : dr_each_op(q, add_busy, &b, err);
    if (rc != DR_OK) {
        json_decref(b.map);
        b.map = NULL;
    }
    *out = b.map;
    return rc;
}

/* "node shard" of every cleanup record that is open: those are no orphans, their removal stands in
 * the queue already. */
static enum dr_code read_recorded(struct dr_queue *q, json_t **out, struct dr_err *err)
{
    uint32_t count = 0;
    json_t *map = json_object();
    struct dr_cleanup *c = dr_calloc(CLEANUPS_MAX, sizeof *c);
    enum dr_code rc = c == NULL || map == NULL
                          ? dr_fail_nomem(err)
                          : dr_queue_cleanups(q, false, c, CLEANUPS_MAX, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        struct dr_err ignored = {0};
        json_t *j = NULL;
        char key[NAME_BYTES * 2];
        if (c[i].command[0] != '{' ||
            dr_json_parse("cleanup", c[i].command, strlen(c[i].command), &j, &ignored) != DR_OK) {
            continue; /* a cut one or a text for another store names no shard */
        }
        (void)snprintf(key, sizeof key, "%.128s %.128s", c[i].node,
                       dr_text_of(json_object_get(j, "shard"), "name"));
        rc = json_object_set_new(map, key, json_true()) != 0 ? dr_fail_nomem(err) : DR_OK;
        json_decref(j);
    }
    dr_free(c);
    if (rc != DR_OK) {
        json_decref(map);
        map = NULL;
    }
    *out = map;
    return rc;
}

/* --- orphans -----------------------------------------------------------------------------------
 */

static const json_t *find_shard(const json_t *table, const char *shard)
{
    return find_by(json_object_get(table, "shards"), "table", shard);
}

/* Is the shard placed on the node with this URL? */
static bool is_placed(const json_t *table, const json_t *shard, const char *url)
{
    const json_t *holders = json_object_get(shard, "holders");
    for (size_t i = 0; i < json_array_size(holders); i++) {
        const char *holder = json_string_value(json_array_get(holders, i));
        const char *at = holder == NULL ? NULL : dr_node_url(table, holder);
        if (at != NULL && strcmp(at, url) == 0) {
            return true;
        }
    }
    return false;
}

/* Do all nodes that shall hold the shard say that they do? Then another copy is one too many. */
static bool is_held_elsewhere(const struct dr_seen *s, const json_t *table, const json_t *shard)
{
    const json_t *holders = json_object_get(shard, "holders");
    size_t count = json_array_size(holders);
    for (size_t i = 0; i < count; i++) {
        const char *holder = json_string_value(json_array_get(holders, i));
        const char *url = holder == NULL ? NULL : dr_node_url(table, holder);
        const json_t *node = url == NULL ? NULL : dr_find_node(s->nodes, url, NULL);
        if (node == NULL || !dr_node_has_shard(node, table, dr_text_of(shard, "table"))) {
            return false;
        }
    }
    return count > 0;
}

static bool is_busy(const struct dr_seen *s, const char *operation)
{
    return operation[0] != '\0' && json_object_get(s->busy, operation) != NULL;
}

/* NULL: it belongs to somebody. */
static const char *why_orphan(const struct dr_seen *s, const char *url, const json_t *record,
                              bool *is_copy)
{
    const json_t *table = dr_find_table(s->tables, dr_text_of(record, "table"));
    bool is_same = strcmp(dr_text_of(table, "uuid"), dr_text_of(record, "owner")) == 0;
    *is_copy = false;
    if (is_busy(s, dr_text_of(record, "operation"))) {
        return NULL;
    }
    if (table == NULL) {
        return "its table is not in the catalog";
    }
    if (!is_same) {
        return "it is of an earlier table of this name";
    }
    if (is_busy(s, dr_text_of(table, "operation"))) {
        return NULL;
    }
    const json_t *shard = find_shard(table, dr_text_of(record, "name"));
    if (strcmp(dr_text_of(record, "role"), "log") == 0) {
        return dr_text_of(table, "operation")[0] == '\0' ? "a log of changes that nobody follows"
                                                         : NULL;
    }
    if (shard != NULL && is_placed(table, shard, url) &&
        strcmp(dr_text_of(record, "role"), "held") != 0) {
        return NULL;
    }
    *is_copy = shard != NULL && is_held_elsewhere(s, table, shard);
    return "the catalog does not place it on this node";
}

static enum dr_code add_orphan(struct dr_seen *s, const json_t *node, const json_t *record,
                               const char *why, bool is_copy, struct dr_err *err)
{
    json_t *j = json_copy((json_t *)record);
    if (j == NULL || json_object_set_new(j, "kind", json_string("shard")) != 0 ||
        json_object_set_new(j, "node", json_string(dr_text_of(node, "name"))) != 0 ||
        json_object_set_new(j, "url", json_string(dr_text_of(node, "url"))) != 0 ||
        json_object_set_new(j, "why", json_string(why)) != 0 ||
        json_object_set_new(j, "is_copy", json_boolean(is_copy)) != 0) {
        json_decref(j);
        return dr_fail_nomem(err);
    }
    return json_array_append_new(s->orphans, j) != 0 ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code add_records(struct dr_seen *s, const json_t *node, const json_t *recorded,
                                struct dr_err *err)
{
    const json_t *list = json_object_get(node, "records");
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(list); i++) {
        const json_t *record = json_array_get(list, i);
        char key[NAME_BYTES * 2];
        bool is_copy = false;
        (void)snprintf(key, sizeof key, "%.128s %.128s", dr_text_of(node, "name"),
                       dr_text_of(record, "name"));
        const char *why = json_object_get(recorded, key) != NULL
                              ? NULL
                              : why_orphan(s, dr_text_of(node, "url"), record, &is_copy);
        rc = why == NULL ? DR_OK : add_orphan(s, node, record, why, is_copy, err);
    }
    return rc;
}

/* "temp_move_TABLE_s0_XXXXXXXXhhhhh": the last five digits are the first of the operation's uuid.
 * False for a name that no move has made. */
static bool is_temporary(const char *cluster, char *hex, size_t hex_bytes)
{
    static const char prefix[] = "temp_move_";
    size_t bytes = strlen(cluster);
    const char *tail = strrchr(cluster, '_');
    if (strncmp(cluster, prefix, sizeof prefix - 1) != 0 || tail == NULL || strlen(tail) != 14 ||
        strspn(tail + 1, "0123456789abcdef") != 13) {
        return false;
    }
    (void)snprintf(hex, hex_bytes, "%s", cluster + bytes - 5);
    return true;
}

/* Does an operation that is not over begin with these digits? */
static bool is_hex_busy(const struct dr_seen *s, const char *hex)
{
    const char *uuid;
    json_t *ignored;
    json_object_foreach(s->busy, uuid, ignored)
    {
        char digits[8] = "";
        size_t used = 0;
        (void)ignored;
        for (const char *c = uuid; *c != '\0' && used < 5; c++) {
            if (isxdigit((unsigned char)*c)) {
                digits[used++] = (char)tolower((unsigned char)*c);
            }
        }
        if (strcmp(digits, hex) == 0) {
            return true;
        }
    }
    return false;
}

/* The table that "users_s0" is a shard of by name; false when it does not look like one. */
static bool split_shard(const char *cluster, char *table, size_t table_bytes)
{
    const char *at = NULL;
    for (const char *c = cluster; (c = strstr(c, "_s")) != NULL; c += 2) {
        at = c;
    }
    if (at == NULL || at == cluster || at[2] == '\0' ||
        strspn(at + 2, "0123456789") != strlen(at + 2)) {
        return false;
    }
    (void)snprintf(table, table_bytes, "%.*s", (int)(at - cluster), cluster);
    return true;
}

static const char *why_cluster(const struct dr_seen *s, const char *url, const char *name)
{
    char hex[8];
    char table[NAME_BYTES];
    if (is_temporary(name, hex, sizeof hex)) {
        return is_hex_busy(s, hex) ? NULL : "a temporary cluster of a move that is over";
    }
    const json_t *known =
        split_shard(name, table, sizeof table) ? dr_find_table(s->tables, table) : NULL;
    if (known == NULL || dr_text_of(known, "operation")[0] != '\0') {
        return NULL;
    }
    const json_t *shard = find_shard(known, name);
    return shard != NULL && is_placed(known, shard, url)
               ? NULL
               : "a cluster named like a shard that the catalog does not place here";
}

/* Clusters carry no records, so their names are all there is: enough to tell a person, never enough
 * to remove one. A name like a shard's may be somebody else's: only those of tables that the
 * catalog knows are told. */
static enum dr_code add_clusters(struct dr_seen *s, const json_t *node, struct dr_err *err)
{
    const json_t *list = json_object_get(node, "clusters");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const char *why = name == NULL ? NULL : why_cluster(s, dr_text_of(node, "url"), name);
        if (why == NULL) {
            continue;
        }
        json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", "cluster", "node",
                              dr_text_of(node, "name"), "url", dr_text_of(node, "url"), "name",
                              name, "why", why);
        if (json_array_append_new(s->orphans, j) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code find_orphans(struct dr_queue *q, struct dr_seen *s, struct dr_err *err)
{
    json_t *recorded = NULL;
    enum dr_code rc = read_recorded(q, &recorded, err);
    for (size_t i = 0; rc == DR_OK && i < json_array_size(s->nodes); i++) {
        const json_t *node = json_array_get(s->nodes, i);
        if (!json_is_true(json_object_get(node, "answered"))) {
            continue;
        }
        rc = add_records(s, node, recorded, err);
        rc = rc == DR_OK ? add_clusters(s, node, err) : rc;
    }
    json_decref(recorded);
    return rc;
}

enum dr_code dr_seen_look(struct dr_queue *q, const struct dr_store_world *world, uint32_t wait_ms,
                          struct dr_seen *out, struct dr_err *err)
{
    *out = (struct dr_seen){.orphans = json_array()};
    const struct dr_catalog_port *port = world == NULL ? NULL : world->catalog;
    bool is_silent = false;
    enum dr_code rc = out->orphans == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK && port != NULL) {
        /* The nodes before the queue and the catalog: what an operation has made by then is on
         * record there, and an operation that begins later is seen. */
        rc = port->list(port->arg, &out->tables, err);
        is_silent = rc != DR_OK;
        if (rc == DR_OK && wait_ms > 0) {
            rc = dr_nodes_ask(out->tables, wait_ms, &out->nodes, err);
            json_decref(out->tables);
            out->tables = NULL;
            rc = rc == DR_OK ? port->list(port->arg, &out->tables, err) : rc;
        }
    }
    rc = rc == DR_OK ? dr_busy_read(q, &out->busy, err) : rc;
    rc = rc == DR_OK ? find_orphans(q, out, err) : rc;
    if (rc != DR_OK) {
        dr_seen_fini(out);
        out->is_catalog_silent = is_silent;
    }
    return rc;
}

void dr_seen_fini(struct dr_seen *s)
{
    json_decref(s->tables);
    json_decref(s->nodes);
    json_decref(s->busy);
    json_decref(s->orphans);
    *s = (struct dr_seen){0};
}
