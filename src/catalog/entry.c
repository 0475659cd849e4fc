/* SPDX-License-Identifier: Apache-2.0 */
/* Making entries: from a request and the state the proposer sees to the text that every peer will
 * apply. Whatever could differ between peers - ids, places, uuids - is decided here and written
 * down. Each text is tried on the proposer's state first, so that most mistakes are answered
 * without troubling the log; the answer that counts is that of apply. */
#include <inttypes.h>
#include <string.h>

#include "catalog/catalog_private.h"

json_t *dr_entry_begin(const char *op)
{
    return json_pack("{s:i, s:s}", "v", (int)DR_CATALOG_FORMAT_FIRST, "op", op);
}

enum dr_code dr_entry_set(json_t *entry, const char *field, json_t *value, struct dr_err *err)
{
    return json_object_set_new(entry, field, value) != 0 ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_entry_begin_collection(const struct dr_catalog *c, const char *op, const char *name,
                                       const struct dr_collection_info **info_out, json_t **out,
                                       struct dr_err *err)
{
    *out = NULL;
    *info_out = dr_catalog_find(c, name);
    if (*info_out == NULL) {
        return dr_fail(err, DR_NOT_FOUND, "Collection `%s` doesn't exist!", name);
    }
    *out = json_pack("{s:i, s:s, s:s, s:s}", "v", (int)DR_CATALOG_FORMAT_FIRST, "op", op, "name",
                     (*info_out)->name, "uuid", (*info_out)->uuid);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code try_entry(const struct dr_catalog *c, const char *text, struct dr_err *err)
{
    struct dr_catalog *after = NULL;
    struct dr_apply_result result;
    enum dr_code rc =
        dr_catalog_apply(c, dr_catalog_index(c) + 1, text, strlen(text), &after, &result, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_catalog_unref(after);
    json_decref(result.value);
    return result.code == DR_OK ? DR_OK : dr_fail(err, result.code, "%s", result.message);
}

enum dr_code dr_entry_end(const struct dr_catalog *c, json_t *entry, enum dr_code rc, char **out,
                          struct dr_err *err)
{
    *out = NULL;
    char *text = NULL;
    if (rc != DR_OK) {
        goto out;
    }
    text = dr_json_text(entry);
    if (text == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    if (strlen(text) > DR_ENTRY_BYTES_MAX) {
        rc = dr_fail(err, DR_INPUT, "this takes an entry of %zu bytes; at most %d are possible",
                     strlen(text), DR_ENTRY_BYTES_MAX);
        goto out;
    }
    if (c != NULL) {
        rc = try_entry(c, text, err);
    }
out:
    json_decref(entry);
    if (rc != DR_OK) {
        dr_free(text);
        return rc;
    }
    *out = text;
    return DR_OK;
}

const json_t *dr_entry_field(const json_t *body, const char *field)
{
    const json_t *value = json_object_get(body, field);
    return value == NULL || json_is_null(value) ? NULL : value;
}

enum dr_code dr_entry_number(const json_t *body, const char *field, uint64_t min, uint64_t max,
                             uint64_t *out, struct dr_err *err)
{
    const json_t *value = dr_entry_field(body, field);
    if (value == NULL) {
        return DR_OK;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
        return dr_fail(err, DR_INPUT, "%s: expected a whole number from %" PRIu64 " to %" PRIu64,
                       field, min, max);
    }
    *out = (uint64_t)number;
    return DR_OK;
}

enum dr_code dr_entry_check_body(const json_t *body, struct dr_err *err)
{
    if (body != NULL && !json_is_object(body) && !json_is_null(body)) {
        return dr_fail(err, DR_INPUT, "body: expected an object");
    }
    return DR_OK;
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names != NULL && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

/* The fields of `body` that are none of `known`, into entry.metadata. Nulls are kept when they mean
 * taking something away. */
static enum dr_code keep_rest(json_t *metadata, const json_t *body, const char *const *known,
                              bool is_update, struct dr_err *err)
{
    json_t *from = (json_t *)body; /* jansson's iterator only reads through it */
    for (void *at = json_object_iter(from); at != NULL; at = json_object_iter_next(from, at)) {
        const char *key = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        if (is_one_of(key, known) || (json_is_null(value) && !is_update)) {
            continue;
        }
        if (json_object_set(metadata, key, value) != 0) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

/* Takes the reference of `metadata`; nothing in it is nothing to say. */
static enum dr_code set_metadata(json_t *entry, json_t *metadata, enum dr_code rc,
                                 struct dr_err *err)
{
    if (rc != DR_OK || json_object_size(metadata) == 0) {
        json_decref(metadata);
        return rc;
    }
    return dr_entry_set(entry, "metadata", metadata, err);
}

static const char *const create_fields[] = {
    "vectors", "shard_number", "sharding_method", "replication_factor", "write_consistency_factor",
    NULL};

static enum dr_code fill_create(const struct dr_catalog *c, json_t *entry, const json_t *body,
                                uint64_t seed, struct dr_err *err)
{
    const json_t *method_value = dr_entry_field(body, "sharding_method");
    const json_t *vectors = dr_entry_field(body, "vectors");
    enum dr_sharding_method method = DR_SHARDING_AUTO;
    uint64_t replicas = 1;
    uint64_t writes = 1;
    if (method_value != NULL &&
        (!json_is_string(method_value) ||
         !dr_sharding_method_parse(json_string_value(method_value), &method))) {
        return dr_fail(err, DR_INPUT, "sharding_method: expected \"auto\" or \"custom\"");
    }
    uint32_t peers = dr_catalog_peer_count(c);
    uint64_t shards = method == DR_SHARDING_AUTO && peers > 0 ? peers : 1;
    enum dr_code rc = dr_entry_number(body, "shard_number", 1, DR_SHARDS_MAX, &shards, err);
    if (rc == DR_OK) {
        rc = dr_entry_number(body, "replication_factor", 1, DR_FACTOR_MAX, &replicas, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_number(body, "write_consistency_factor", 1, DR_FACTOR_MAX, &writes, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (json_object_set_new(entry, "method", json_string(dr_sharding_method_name(method))) != 0 ||
        json_object_set_new(entry, "is_method_given", json_boolean(method_value != NULL)) != 0 ||
        json_object_set_new(entry, "shard_number", json_integer((json_int_t)shards)) != 0 ||
        json_object_set_new(entry, "replication_factor", json_integer((json_int_t)replicas)) != 0 ||
        json_object_set_new(entry, "write_consistency_factor", json_integer((json_int_t)writes)) !=
            0 ||
        (vectors != NULL && json_object_set(entry, "vectors", (json_t *)vectors) != 0)) {
        return dr_fail_nomem(err);
    }
    json_t *metadata = json_object();
    rc = metadata == NULL ? dr_fail_nomem(err)
                          : keep_rest(metadata, body, create_fields, false, err);
    rc = set_metadata(entry, metadata, rc, err);
    if (rc != DR_OK) {
        return rc;
    }
    uint32_t placed = method == DR_SHARDING_AUTO ? (uint32_t)shards : 0;
    return dr_entry_place(c, entry, placed, (uint32_t)replicas, NULL, 0, seed, err);
}

enum dr_code dr_entry_create_collection(const struct dr_catalog *c, const char *name,
                                        const json_t *body, const char *uuid, uint64_t seed,
                                        char **out, struct dr_err *err)
{
    *out = NULL;
    enum dr_code rc = dr_collection_name_check(name, err);
    if (rc == DR_OK) {
        rc = dr_entry_check_body(body, err);
    }
    if (rc == DR_OK && !dr_uuid_text_is_good(uuid)) {
        rc = dr_fail(err, DR_INPUT, "uuid: has 1 to 36 letters, digits, hyphens");
    }
    if (rc != DR_OK) {
        return rc;
    }
    json_t *entry = json_pack("{s:i, s:s, s:s, s:s}", "v", (int)DR_CATALOG_FORMAT_FIRST, "op",
                              "create_collection", "name", name, "uuid", uuid);
    rc = entry == NULL ? dr_fail_nomem(err) : fill_create(c, entry, body, seed, err);
    return dr_entry_end(c, entry, rc, out, err);
}

/* An alias is refused: who deletes by it may mean only the alias, and data cannot come back. */
enum dr_code dr_entry_delete_collection(const struct dr_catalog *c, const char *name, char **out,
                                        struct dr_err *err)
{
    *out = NULL;
    const struct dr_alias *alias = dr_alias_table_find(c->aliases, name);
    uint32_t at = 0;
    if (alias != NULL) {
        return dr_fail(
            err, DR_REFUSED,
            "`%s` is an alias of collection `%s`: delete the collection by its own name, "
            "or the alias by an alias action",
            name, alias->collection);
    }
    enum dr_code rc = dr_collection_name_check(name, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_there = dr_catalog_position(c, name, &at);
    json_t *entry = dr_entry_begin("delete_collection");
    rc = entry == NULL ? dr_fail_nomem(err) : dr_entry_set(entry, "name", json_string(name), err);
    if (rc == DR_OK && is_there) {
        rc = dr_entry_set(entry, "uuid", json_string(c->collection[at]->info.uuid), err);
    }
    return dr_entry_end(c, entry, rc, out, err);
}

static const char *const update_fields[] = {"params", "vectors", NULL};
static const char *const update_params[] = {"replication_factor", "write_consistency_factor",
                                            "sharding_method", "shard_number", NULL};

static enum dr_code fill_update(json_t *entry, const json_t *body, struct dr_err *err)
{
    const json_t *params = dr_entry_field(body, "params");
    static const char *const numbers[] = {"replication_factor", "write_consistency_factor"};
    enum dr_code rc = dr_entry_check_body(params, err);
    for (unsigned i = 0; rc == DR_OK && i < 2; i++) {
        uint64_t number = 0;
        rc = dr_entry_number(params, numbers[i], 1, DR_FACTOR_MAX, &number, err);
        if (rc == DR_OK && number > 0) {
            rc = dr_entry_set(entry, numbers[i], json_integer((json_int_t)number), err);
        }
    }
    const json_t *method = dr_entry_field(params, "sharding_method");
    if (method == NULL) {
        method = dr_entry_field(body, "sharding_method");
    }
    if (rc == DR_OK && method != NULL) {
        rc = json_is_string(method)
                 ? dr_entry_set(entry, "method", json_incref((json_t *)method), err)
                 : dr_fail(err, DR_INPUT, "sharding_method: expected \"auto\" or \"custom\"");
    }
    if (rc == DR_OK && (dr_entry_field(params, "shard_number") != NULL ||
                        dr_entry_field(body, "shard_number") != NULL)) {
        rc = dr_fail(err, DR_REFUSED,
                     "shard_number: cannot be changed here; reshard the collection, or create "
                     "another shard key");
    }
    if (rc != DR_OK) {
        return rc;
    }
    json_t *metadata = json_object();
    if (metadata == NULL) {
        return dr_fail_nomem(err);
    }
    rc = keep_rest(metadata, body, update_fields, true, err);
    if (rc == DR_OK) {
        rc = keep_rest(metadata, params, update_params, true, err);
    }
    if (rc == DR_OK) {
        (void)json_object_del(metadata, "sharding_method"); /* read above, if it was there */
        (void)json_object_del(metadata, "shard_number");
    }
    return set_metadata(entry, metadata, rc, err);
}

enum dr_code dr_entry_update_collection(const struct dr_catalog *c, const char *name,
                                        const json_t *body, char **out, struct dr_err *err)
{
    const struct dr_collection_info *info = NULL;
    json_t *entry = NULL;
    *out = NULL;
    enum dr_code rc = dr_entry_check_body(body, err);
    if (rc == DR_OK) {
        rc = dr_entry_begin_collection(c, "update_collection", name, &info, &entry, err);
    }
    if (rc == DR_OK) {
        rc = fill_update(entry, body, err);
    }
    return dr_entry_end(c, entry, rc, out, err);
}

/* An action as it came, with the uuid of the collection that a new alias is to name. */
static enum dr_code add_action(const struct dr_catalog *c, json_t *actions, const json_t *action,
                               struct dr_err *err)
{
    const json_t *create = json_object_get(action, "create_alias");
    json_t *copy = json_deep_copy(action);
    if (json_object_size(action) != 1 ||
        (create == NULL && json_object_get(action, "delete_alias") == NULL &&
         json_object_get(action, "rename_alias") == NULL)) {
        json_decref(copy);
        return dr_fail(err, DR_INPUT,
                       "actions: each is one of create_alias, delete_alias, "
                       "rename_alias");
    }
    if (copy == NULL || !json_equal(copy, action)) {
        json_decref(copy); /* a copy may lack a part when memory is short, and not say so */
        return dr_fail_nomem(err);
    }
    if (json_array_append_new(actions, copy) != 0) {
        return dr_fail_nomem(err);
    }
    if (create == NULL) {
        return DR_OK;
    }
    const char *name = json_string_value(json_object_get(create, "collection_name"));
    uint32_t at = 0;
    if (name == NULL || !dr_catalog_position(c, name, &at)) {
        return dr_fail(err, name == NULL ? DR_INPUT : DR_NOT_FOUND,
                       name == NULL ? "create_alias.collection_name: expected a name"
                                    : "Collection `%s` doesn't exist!",
                       name);
    }
    return dr_entry_set(json_object_get(copy, "create_alias"), "uuid",
                        json_string(c->collection[at]->info.uuid), err);
}

enum dr_code dr_entry_aliases(const struct dr_catalog *c, const json_t *body, char **out,
                              struct dr_err *err)
{
    *out = NULL;
    const json_t *given = dr_entry_field(body, "actions");
    if (!json_is_array(given) || json_array_size(given) > DR_ALIAS_ACTIONS_MAX) {
        return dr_fail(err, DR_INPUT, "actions: expected a list of at most %d",
                       DR_ALIAS_ACTIONS_MAX);
    }
    json_t *actions = json_array();
    json_t *entry = dr_entry_begin("aliases");
    enum dr_code rc = actions == NULL || entry == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(given); i++) {
        rc = add_action(c, actions, json_array_get(given, i), err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "actions", json_incref(actions), err);
    }
    json_decref(actions);
    return dr_entry_end(c, entry, rc, out, err);
}
