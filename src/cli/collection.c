/* SPDX-License-Identifier: Apache-2.0 */
/* Owns `drover collection ...`: requests to a daemon that has the catalog, and how its answers look
 * on a terminal. Nothing here opens a data folder. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_private.h"
#include "cli/remote_private.h"

enum { ROUTE_IDS_MAX = DR_ARGS_WORDS_MAX, KEY_TEXT_BYTES = 300 };

/* "/collections/NAME" and what follows it. */
static enum dr_code make_path(const struct dr_cli *c, const char *behind, char **out,
                              struct dr_err *err)
{
    struct dr_str path;
    uint64_t timeout = dr_args_u64(c->args, "timeout", 0);
    dr_str_init(&path);
    dr_str_add(&path, "/collections/");
    dr_str_add_percent(&path, c->word[0]);
    dr_str_add(&path, behind);
    if (timeout > 0) {
        dr_str_addf(&path, "?timeout=%llu", (unsigned long long)timeout);
    }
    *out = dr_str_take(&path);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* Ask about the collection that the first word names. */
static enum dr_code ask(struct dr_cli *c, const char *method, const char *behind,
                        const json_t *body, json_t **result_out, struct dr_err *err)
{
    char *path = NULL;
    *result_out = NULL;
    enum dr_code rc = make_path(c, behind, &path, err);
    if (rc == DR_OK) {
        rc = dr_cli_remote(c, method, path, body, result_out, err);
    }
    dr_free(path);
    return rc;
}

/* 12 is a number, "12" in quotes a text, and anything else is the text it is. */
static json_t *key_of(const char *text)
{
    uint64_t number = 0;
    size_t length = strlen(text);
    if (dr_parse_u64(text, &number) && number <= INT64_MAX) {
        return json_integer((json_int_t)number);
    }
    if (length > 2 && text[0] == '"' && text[length - 1] == '"') {
        return json_stringn(text + 1, length - 2);
    }
    return json_string(text);
}

static const char *print_key(const json_t *key, char *buf, size_t buf_bytes)
{
    if (json_is_integer(key)) {
        (void)snprintf(buf, buf_bytes, "%lld", (long long)json_integer_value(key));
    } else {
        (void)snprintf(buf, buf_bytes, "\"%s\"", json_is_string(key) ? json_string_value(key) : "");
    }
    return buf;
}

static long long number_in(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text_in(const json_t *object, const char *key, const char *absent)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : absent;
}

/* With --json the result itself; else the sentence. Takes the result. */
static enum dr_code conclude(struct dr_cli *c, json_t *result, const char *sentence,
                             struct dr_err *err)
{
    if (c->is_json) {
        return dr_cli_put_json(result, err);
    }
    json_decref(result);
    (void)printf("%s\n", sentence);
    return DR_OK;
}

enum dr_code dr_cli_collection_list(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *result = NULL;
    json_t *item;
    size_t i;
    (void)exit_out;
    enum dr_code rc = dr_cli_remote(c, "GET", "/collections", NULL, &result, err);
    if (rc != DR_OK || c->is_json) {
        return rc == DR_OK ? dr_cli_put_json(result, err) : rc;
    }
    json_array_foreach(json_object_get(result, "collections"), i, item)
    {
        (void)printf("%s\n", text_in(item, "name", "?"));
    }
    json_decref(result);
    return DR_OK;
}

/* --- create --------------------------------------------------------------------------------------
 */

static enum dr_code add_number(const struct dr_cli *c, const char *option, const char *key,
                               json_t *body, struct dr_err *err)
{
    uint64_t n = dr_args_u64(c->args, option, 0);
    if (!dr_args_has(c->args, option)) {
        return DR_OK;
    }
    if (n == 0 || n > UINT32_MAX) {
        return dr_fail(err, DR_USAGE, "--%s is a number from 1 to %u", option, UINT32_MAX);
    }
    return json_object_set_new(body, key, json_integer((json_int_t)n)) != 0 ? dr_fail_nomem(err)
                                                                            : DR_OK;
}

static enum dr_code fill_create(const struct dr_cli *c, json_t *body, struct dr_err *err)
{
    const char *method = dr_args_text(c->args, "sharding-method", NULL);
    const char *vectors = dr_args_text(c->args, "vectors", NULL);
    json_t *parsed = NULL;
    enum dr_code rc = add_number(c, "shard-number", "shard_number", body, err);
    if (rc == DR_OK) {
        rc = add_number(c, "replication-factor", "replication_factor", body, err);
    }
    if (rc == DR_OK) {
        rc = add_number(c, "write-consistency", "write_consistency_factor", body, err);
    }
    if (rc == DR_OK && method != NULL) {
        if (strcmp(method, "auto") != 0 && strcmp(method, "custom") != 0) {
            return dr_fail(err, DR_USAGE, "--sharding-method is auto or custom, not \"%.40s\"",
                           method);
        }
        rc = json_object_set_new(body, "sharding_method", json_string(method)) != 0
                 ? dr_fail_nomem(err)
                 : DR_OK;
    }
    if (rc == DR_OK && vectors != NULL) {
        rc = dr_json_parse("--vectors", vectors, strlen(vectors), &parsed, err);
        if (rc == DR_OK && json_object_set_new(body, "vectors", parsed) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    return rc;
}

enum dr_code dr_cli_collection_create(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *result = NULL;
    json_t *body = json_object();
    (void)exit_out;
    enum dr_code rc = body == NULL ? dr_fail_nomem(err) : fill_create(c, body, err);
    if (rc == DR_OK) {
        rc = ask(c, "PUT", "", body, &result, err);
    }
    json_decref(body);
    return rc == DR_OK ? conclude(c, result, "created", err) : rc;
}

/* --- show ----------------------------------------------------------------------------------------
 */

static void print_shards(const json_t *list, const char *peer_label, long long own_peer)
{
    char key[KEY_TEXT_BYTES];
    json_t *shard;
    size_t i;
    json_array_foreach(list, i, shard)
    {
        const json_t *k = json_object_get(shard, "shard_key");
        bool is_local = json_object_get(shard, "peer_id") == NULL;
        (void)printf("  shard %-6lld %s %-16lld %-20s %s\n", number_in(shard, "shard_id"),
                     peer_label, is_local ? own_peer : number_in(shard, "peer_id"),
                     text_in(shard, "state", "?"), k != NULL ? print_key(k, key, sizeof key) : "-");
    }
}

static void print_show(const char *name, const json_t *info, const json_t *cluster)
{
    const json_t *params = json_object_get(json_object_get(info, "config"), "params");
    (void)printf("%s: %s, sharding %s, shard_number %lld, replication_factor %lld, "
                 "write_consistency_factor %lld, %lld points\n",
                 name, text_in(info, "status", "?"), text_in(params, "sharding_method", "auto"),
                 number_in(params, "shard_number"), number_in(params, "replication_factor"),
                 number_in(params, "write_consistency_factor"), number_in(info, "points_count"));
    long long own = number_in(cluster, "peer_id");
    print_shards(json_object_get(cluster, "local_shards"), "peer", own);
    print_shards(json_object_get(cluster, "remote_shards"), "peer", own);
    size_t moving = json_array_size(json_object_get(cluster, "shard_transfers"));
    if (moving > 0) {
        (void)printf("  %zu transfers are going on\n", moving);
    }
}

enum dr_code dr_cli_collection_show(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *info = NULL;
    json_t *cluster = NULL;
    json_t *promotions = NULL;
    (void)exit_out;
    enum dr_code rc = ask(c, "GET", "", NULL, &info, err);
    if (rc == DR_OK) {
        rc = ask(c, "GET", "/cluster", NULL, &cluster, err);
    }
    if (rc == DR_OK && c->is_json) {
        rc = ask(c, "GET", "/sharding/promotions", NULL, &promotions, err);
    }
    if (rc == DR_OK && c->is_json) {
        rc = dr_cli_put_json(json_pack("{s:O, s:O, s:O}", "info", info, "cluster", cluster,
                                       "promotions", promotions),
                             err);
    } else if (rc == DR_OK) {
        print_show(c->word[0], info, cluster);
    }
    json_decref(info);
    json_decref(cluster);
    json_decref(promotions);
    return rc;
}

/* --- delete, promote -----------------------------------------------------------------------------
 */

enum dr_code dr_cli_collection_delete(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *result = NULL;
    (void)exit_out;
    enum dr_code rc = dr_cli_confirm(
        c, "This deletes the collection with all its points, on every peer, for good.", c->word[0],
        err);
    if (rc == DR_OK) {
        rc = ask(c, "DELETE", "", NULL, &result, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (json_is_false(result)) {
        json_decref(result);
        return dr_fail(err, DR_NOT_FOUND, "there is no collection \"%s\"", c->word[0]);
    }
    return conclude(c, result, "deleted", err);
}

static enum dr_code print_promoted(struct dr_cli *c, json_t *result, struct dr_err *err)
{
    char key[KEY_TEXT_BYTES];
    if (c->is_json) {
        return dr_cli_put_json(result, err);
    }
    (void)printf("%s: %lld shards under the key %s; shard_number now means %s\n",
                 json_is_true(json_object_get(result, "promoted")) ? "promoted"
                                                                   : "was promoted already",
                 number_in(result, "shards"),
                 print_key(json_object_get(result, "default_shard_key"), key, sizeof key),
                 text_in(result, "shard_number_means", "shards per key"));
    json_decref(result);
    return DR_OK;
}

enum dr_code dr_cli_collection_promote(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *result = NULL;
    const char *key = dr_args_text(c->args, "default-shard-key", NULL);
    (void)exit_out;
    enum dr_code rc = dr_cli_confirm(
        c, "This turns auto sharding into custom sharding. There is no way back.", c->word[0], err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *body =
        key != NULL ? json_pack("{s:o}", "default_shard_key", key_of(key)) : json_object();
    rc = body == NULL ? dr_fail(err, DR_USAGE, "--default-shard-key is not valid UTF-8")
                      : ask(c, "POST", "/sharding/promote_to_custom", body, &result, err);
    json_decref(body);
    return rc == DR_OK ? print_promoted(c, result, err) : rc;
}

/* --- route ---------------------------------------------------------------------------------------
 */

static void print_routes(const json_t *list)
{
    char key[KEY_TEXT_BYTES];
    json_t *route;
    json_t *replica;
    size_t i;
    size_t k;
    json_array_foreach(list, i, route)
    {
        const json_t *shard_key = json_object_get(route, "shard_key");
        (void)printf(
            "%s: shard %lld%s%s\n", print_key(json_object_get(route, "id"), key, sizeof key),
            number_in(route, "shard_id"), shard_key != NULL ? " of key " : "",
            shard_key != NULL ? print_key(shard_key, (char[KEY_TEXT_BYTES]){0}, KEY_TEXT_BYTES)
                              : "");
        json_array_foreach(json_object_get(route, "replicas"), k, replica)
        {
            (void)printf("  peer %-16lld %-20s %s\n", number_in(replica, "peer_id"),
                         text_in(replica, "state", "?"), text_in(replica, "uri", "-"));
        }
    }
}

enum dr_code dr_cli_collection_route(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    json_t *result = NULL;
    json_t *ids = json_array();
    const char *key = dr_args_text(c->args, "shard-key", NULL);
    (void)exit_out;
    int rc_json = ids == NULL ? -1 : 0;
    for (uint32_t i = 1; rc_json == 0 && i < c->word_count; i++) {
        rc_json = json_array_append_new(ids, key_of(c->word[i]));
    }
    json_t *body = json_pack("{s:o}", "ids", ids);
    if (rc_json == 0 && body != NULL && key != NULL) {
        rc_json = json_object_set_new(body, "shard_key", key_of(key));
    }
    enum dr_code rc = rc_json != 0 || body == NULL
                          ? dr_fail(err, DR_USAGE, "an id or key is not valid UTF-8")
                          : ask(c, "POST", "/route", body, &result, err);
    json_decref(body);
    if (rc == DR_OK && c->is_json) {
        return dr_cli_put_json(result, err);
    }
    if (rc == DR_OK) {
        print_routes(result);
        json_decref(result);
    }
    return rc;
}

/* --- keys ----------------------------------------------------------------------------------------
 */

static enum dr_code create_key(struct dr_cli *c, const char *key, struct dr_err *err)
{
    json_t *result = NULL;
    json_t *body = json_pack("{s:o}", "shard_key", key_of(key));
    enum dr_code rc = body == NULL ? dr_fail(err, DR_USAGE, "--create is not valid UTF-8")
                                   : add_number(c, "shards", "shards_number", body, err);
    if (rc == DR_OK) {
        rc = ask(c, "PUT", "/shards", body, &result, err);
    }
    json_decref(body);
    return rc == DR_OK ? conclude(c, result, "created", err) : rc;
}

static enum dr_code drop_key(struct dr_cli *c, const char *key, struct dr_err *err)
{
    json_t *result = NULL;
    bool is_promoted = dr_args_has(c->args, "confirm-drop-promoted");
    enum dr_code rc = dr_cli_confirm(
        c, "This deletes the shard key with all points under it, for good.", key, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_t *body = json_pack("{s:o}", "shard_key", key_of(key));
    if (body != NULL && is_promoted) {
        (void)json_object_set_new(body, "confirm_drop_promoted", json_true());
    }
    rc = body == NULL ? dr_fail(err, DR_USAGE, "--drop is not valid UTF-8")
                      : ask(c, "POST", "/shards/delete", body, &result, err);
    json_decref(body);
    return rc == DR_OK ? conclude(c, result, "dropped", err) : rc;
}

enum dr_code dr_cli_collection_keys(struct dr_cli *c, int *exit_out, struct dr_err *err)
{
    char text[KEY_TEXT_BYTES];
    json_t *result = NULL;
    json_t *item;
    size_t i;
    const char *create = dr_args_text(c->args, "create", NULL);
    const char *drop = dr_args_text(c->args, "drop", NULL);
    (void)exit_out;
    if (create != NULL && drop != NULL) {
        return dr_fail(err, DR_USAGE, "give --create or --drop, not both");
    }
    if (create != NULL) {
        return create_key(c, create, err);
    }
    if (drop != NULL) {
        return drop_key(c, drop, err);
    }
    enum dr_code rc = ask(c, "GET", "/shards", NULL, &result, err);
    if (rc != DR_OK || c->is_json) {
        return rc == DR_OK ? dr_cli_put_json(result, err) : rc;
    }
    json_array_foreach(json_object_get(result, "shard_keys"), i, item)
    {
        (void)printf("%s\n", print_key(json_object_get(item, "key"), text, sizeof text));
    }
    json_decref(result);
    return DR_OK;
}
