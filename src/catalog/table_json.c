/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as JSON: for people, programs and files; and as part of a snapshot, where every number is
 * checked again when it is read. */
#include <string.h>

#include "base/str.h"
#include "catalog/table_private.h"

enum { DECODE_BLOCK_BYTES = 64 * 1024 };

/* --- for others --- */

/* Where the part that must not be shown (user and password) ends; NULL: there is none. A password
 * may hold what should have been encoded: a later @ counts when what stands before it cannot be a
 * host and port. */
static const char *find_secret_end(const char *from)
{
    size_t host = strcspn(from, "/?#");
    size_t path = strcspn(from, "?#");
    const char *at = memrchr(from, '@', host);
    if (at != NULL) {
        return at + 1;
    }
    const char *colon = memchr(from, ':', host);
    bool is_port =
        colon == NULL || strspn(colon + 1, "0123456789") + 1 == host - (size_t)(colon - from);
    const char *later = memrchr(from, '@', path);
    return is_port || from[0] == '[' || later == NULL ? NULL : later + 1;
}

/* The URL without user and password; NULL: memory is short. */
static json_t *show_url(const char *engine, const char *url, bool with_secrets)
{
    const char *slashes = strcmp(engine, "sqlite") == 0 ? NULL : strstr(url, "://");
    const char *end = slashes == NULL || with_secrets ? NULL : find_secret_end(slashes + 3);
    if (end == NULL) {
        return json_string(url);
    }
    char *shown = dr_asprintf("%.*s%s", (int)(slashes + 3 - url), url, end);
    json_t *j = shown == NULL ? NULL : json_string(shown);
    dr_free(shown);
    return j;
}

/* Takes the reference of `one`; a list that fails becomes NULL. */
static void append(json_t **list, json_t *one)
{
    if (*list == NULL || one == NULL || json_array_append_new(*list, one) != 0) {
        if (*list == NULL) {
            json_decref(one);
        }
        json_decref(*list);
        *list = NULL;
    }
}

static json_t *show_nodes(const struct dr_table_info *t, bool with_secrets)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->node_count; i++) {
        const struct dr_table_node *n = &t->node[i];
        append(&list, json_pack("{s:s, s:o, s:b, s:b}", "name", n->name, "url",
                                show_url(t->engine, n->url, with_secrets), "leaving",
                                (int)n->is_leaving, "coming", (int)n->is_coming));
    }
    return list;
}

static json_t *show_shards(const struct dr_table_info *t)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->shard_count; i++) {
        char name[DR_TABLE_NAME_BYTES_MAX + 16];
        json_t *holders = json_array();
        (void)snprintf(name, sizeof name, "%s_s%u", t->name, i);
        for (uint32_t k = 0; holders != NULL && k < t->shard[i].holder_count; k++) {
            append(&holders, json_string(t->node[t->shard[i].holder[k]].name));
        }
        append(&list, json_pack("{s:I, s:s, s:o}", "shard", (json_int_t)i, "table", name, "holders",
                                holders));
    }
    return list;
}

json_t *dr_table_to_json(const struct dr_table_info *t, bool with_secrets)
{
    const char *options = dr_table_of(t)->options;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:o, s:o}",
                          "name", t->name, "uuid", t->uuid, "engine", t->engine, "columns",
                          t->columns, "extra", t->extra, "rf", (json_int_t)t->rf, "state",
                          dr_table_state_name(t->state), "operation", t->operation, "what", t->what,
                          "version", (json_int_t)t->version, "routing", DR_TABLE_ROUTING, "nodes",
                          show_nodes(t, with_secrets), "shards", show_shards(t));
    if (j != NULL && options[0] != '\0' &&
        json_object_set_new(j, "options", json_loads(options, 0, NULL)) != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* --- snapshots --- */

enum { NODE_LEAVES = 1, NODE_COMES = 2 };

static json_t *encode_nodes(const struct dr_table_info *t)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->node_count; i++) {
        const struct dr_table_node *n = &t->node[i];
        append(&list,
               json_pack("[s, s, i]", n->name, n->url,
                         (n->is_leaving ? NODE_LEAVES : 0) | (n->is_coming ? NODE_COMES : 0)));
    }
    return list;
}

static json_t *encode_shards(const struct dr_table_info *t)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->shard_count; i++) {
        json_t *holders = json_array();
        for (uint32_t k = 0; holders != NULL && k < t->shard[i].holder_count; k++) {
            append(&holders, json_integer(t->shard[i].holder[k]));
        }
        append(&list, holders);
    }
    return list;
}

static void encode_table(struct dr_str *s, const struct dr_table *table)
{
    const struct dr_table_info *t = &table->info;
    json_t *j = json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:I, s:s}",
        "changed_at", (json_int_t)t->changed_at_index, "columns", t->columns, "creator",
        table->creator, "engine", t->engine, "extra", t->extra, "name", t->name, "nodes",
        encode_nodes(t), "operation", t->operation, "options", table->options, "routing",
        DR_TABLE_ROUTING, "rf", (json_int_t)t->rf, "shards", encode_shards(t), "state",
        dr_table_state_name(t->state), "uuid", t->uuid, "version", (json_int_t)t->version, "what",
        t->what);
    char *text = j == NULL ? NULL : dr_json_text(j);
    if (text == NULL) {
        s->is_short = true;
    } else {
        dr_str_add(s, text);
    }
    dr_free(text);
    json_decref(j);
}

void dr_table_set_encode(struct dr_str *s, const struct dr_table_set *set)
{
    if (set == NULL) {
        return;
    }
    dr_str_add(s, ",\"tables\":[");
    for (uint32_t i = 0; i < set->count && s->len <= DR_SNAPSHOT_BYTES_MAX; i++) {
        dr_str_add(s, i == 0 ? "" : ",");
        encode_table(s, set->table[i]);
    }
    dr_str_addc(s, ']');
}

static enum dr_code decode_nodes(struct dr_table_draft *d, const json_t *list, struct dr_err *err)
{
    d->node = dr_arena_alloc(d->arena, (json_array_size(list) + 1) * sizeof *d->node);
    if (d->node == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const json_t *flags = json_array_get(one, 2);
        json_int_t flag = json_integer_value(flags);
        struct dr_table_node n = {.name = json_string_value(json_array_get(one, 0)),
                                  .url = json_string_value(json_array_get(one, 1)),
                                  .is_leaving = (flag & NODE_LEAVES) != 0,
                                  .is_coming = (flag & NODE_COMES) != 0};
        if (json_array_size(one) != 3 || n.name == NULL || n.url == NULL ||
            !json_is_integer(flags) || flag < 0 || flag > (NODE_LEAVES | NODE_COMES)) {
            return dr_fail(err, DR_INPUT, "node %zu: expected [name, url, flags]", i);
        }
        d->node[d->info.node_count++] = n;
    }
    return DR_OK;
}

/* An object with the same text as the one that was written? */
static enum dr_code check_options(const char *text, struct dr_err *err)
{
    json_t *j = NULL;
    if (text[0] == '\0') {
        return DR_OK;
    }
    if (strlen(text) > DR_TABLE_OPTIONS_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "table.options: is too long");
    }
    enum dr_code rc = dr_catalog_parse(text, strlen(text), &j, err);
    if (rc == DR_OK && (!json_is_object(j) || json_object_size(j) == 0)) {
        rc = dr_fail(err, DR_INPUT, "table.options: is no object");
    }
    if (rc == DR_OK) { /* the kept text must be the one that is written again */
        char *again = dr_json_text(j);
        rc = again == NULL ? dr_fail_nomem(err)
             : strcmp(again, text) == 0
                 ? DR_OK
                 : dr_fail(err, DR_INPUT, "table.options: is not in its canonical form");
        dr_free(again);
    }
    json_decref(j);
    return rc;
}

static enum dr_code decode_head(struct dr_table_draft *d, const json_t *object,
                                const json_t **nodes, const json_t **shards, struct dr_err *err)
{
    struct dr_jr j;
    const char *routing = "";
    const char *state = "";
    const char *uuid = "";
    uint64_t rf = 0;
    dr_jr_init(&j, object, "table", err);
    (void)dr_jr_u64(&j, "changed_at", true, 0, (uint64_t)INT64_MAX, &d->info.changed_at_index);
    (void)dr_jr_string(&j, "columns", true, &d->info.columns);
    (void)dr_jr_string(&j, "creator", true, &d->creator);
    (void)dr_jr_string(&j, "engine", true, &d->info.engine);
    (void)dr_jr_string(&j, "extra", true, &d->info.extra);
    (void)dr_jr_string(&j, "name", true, &d->info.name);
    (void)dr_jr_array(&j, "nodes", true, DR_TABLE_NODES_MAX, nodes);
    (void)dr_jr_string(&j, "operation", true, &d->info.operation);
    (void)dr_jr_string(&j, "options", true, &d->options);
    (void)dr_jr_string(&j, "routing", true, &routing);
    (void)dr_jr_u64(&j, "rf", true, 1, DR_TABLE_HOLDERS_MAX, &rf);
    (void)dr_jr_array(&j, "shards", true, DR_TABLE_SHARDS_MAX, shards);
    (void)dr_jr_string(&j, "state", true, &state);
    (void)dr_jr_string(&j, "uuid", true, &uuid);
    (void)dr_jr_u64(&j, "version", true, 1, (uint64_t)INT64_MAX, &d->info.version);
    (void)dr_jr_string(&j, "what", true, &d->info.what);
    enum dr_code rc = dr_jr_finish(&j);
    if (rc != DR_OK) {
        return rc;
    }
    if (!dr_uuid_text_is_good(uuid) || !dr_table_state_parse(state, &d->info.state) ||
        strcmp(routing, DR_TABLE_ROUTING) != 0) {
        return dr_fail(err, DR_INPUT, "table: a uuid, state or routing that is none");
    }
    dr_copy_text(d->info.uuid, sizeof d->info.uuid, uuid);
    d->info.rf = (uint32_t)rf;
    d->info.shard_count = (uint32_t)json_array_size(*shards);
    return check_options(d->options, err);
}

static enum dr_code decode_table(struct dr_arena *arena, const json_t *object,
                                 struct dr_table **out, struct dr_err *err)
{
    struct dr_table_draft d = {.arena = arena};
    const json_t *nodes = NULL;
    const json_t *shards = NULL;
    enum dr_code rc = decode_head(&d, object, &nodes, &shards, err);
    if (rc == DR_OK) {
        rc = decode_nodes(&d, nodes, err);
    }
    if (rc == DR_OK) {
        rc = dr_table_read_placement(shards, d.info.node_count, arena, &d.shard, err);
    }
    if (rc == DR_OK) {
        rc = dr_table_draft_check(&d, err);
    }
    return rc == DR_OK ? dr_table_draft_freeze(&d, out, err) : rc;
}

enum dr_code dr_table_set_decode(const json_t *list, struct dr_table_set **out, struct dr_err *err)
{
    size_t count = json_array_size(list);
    enum dr_code rc = DR_OK;
    *out = NULL;
    if (count == 0) { /* no tables are written as nothing at all */
        return dr_fail(err, DR_INPUT, "tables: an empty list");
    }
    struct dr_arena *arena = dr_arena_create(DECODE_BLOCK_BYTES);
    struct dr_table_set *set = dr_calloc(1, sizeof *set + count * sizeof(struct dr_table *));
    if (arena == NULL || set == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    set->refs = 1;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        struct dr_table *t = NULL;
        dr_arena_reset(arena);
        rc = decode_table(arena, json_array_get(list, i), &t, err);
        if (rc == DR_OK && i > 0 && strcmp(set->table[i - 1]->info.name, t->info.name) >= 0) {
            rc = dr_fail(err, DR_INPUT, "tables must stand in the order of their names");
            dr_table_unref(t);
        }
        if (rc == DR_OK) {
            set->table[set->count++] = t;
        } else {
            dr_wrap(err, "table %zu", i);
        }
    }
out:
    dr_arena_destroy(arena);
    if (rc != DR_OK) {
        if (set != NULL && set->refs == 1) {
            dr_table_set_unref(set);
        } else {
            dr_free(set);
        }
        return rc;
    }
    *out = set;
    return DR_OK;
}
