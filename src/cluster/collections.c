/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs about collections, shard keys and aliases: from a request to an entry, and from the
 * outcome to the reply that clients expect. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "cluster/cluster_private.h"

static void start_reply(struct dr_cluster_reply *reply)
{
    memset(reply, 0, sizeof *reply);
}

void dr_cluster_list_collections(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                 const char *collection, const json_t *body,
                                 struct dr_cluster_reply *reply)
{
    (void)who;
    (void)collection;
    (void)body;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < dr_catalog_collection_count(cat); i++) {
        json_t *one = json_pack("{s:s}", "name", dr_catalog_collection_at(cat, i)->name);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    dr_catalog_unref(cat);
    dr_reply_give(reply, list == NULL ? NULL : json_pack("{s:o}", "collections", list));
}

void dr_cluster_collection_exists(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                  const char *collection, const json_t *body,
                                  struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    bool is_there = dr_catalog_find(cat, collection) != NULL;
    dr_catalog_unref(cat);
    dr_reply_give(reply, json_pack("{s:b}", "exists", (int)is_there));
}

/* A version 4 UUID: who a collection is, whatever its name. */
static void make_uuid(char text[DR_UUID_TEXT_BYTES])
{
    uint64_t a = dr_random();
    uint64_t b = dr_random();
    (void)snprintf(text, DR_UUID_TEXT_BYTES, "%08x-%04x-4%03x-%04x-%012" PRIx64,
                   (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                   (unsigned)(0x8000 | (b >> 48 & 0x3fff)), b & UINT64_C(0xffffffffffff));
}

/* Propose; when others are to know at once, wait for them too. */
static void finish_change(struct dr_cluster *c, const struct dr_cluster_caller *who, char *entry,
                          enum dr_code made, const struct dr_err *err, bool is_settled,
                          struct dr_cluster_reply *reply)
{
    struct proposal p;
    dr_mono_ms begin = dr_mono_now();
    uint64_t timeout_ms = dr_caller_timeout(who);
    if (!dr_propose_for(c, who, entry, made, err, &p, reply)) {
        return;
    }
    json_decref(p.result.value);
    uint64_t passed = (uint64_t)(dr_mono_now() - begin);
    if (is_settled && c->is_distributed && passed < timeout_ms) {
        (void)dr_peers_settle(c, p.index, timeout_ms - passed);
    }
    dr_reply_true(reply);
}

void dr_cluster_create_collection(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                  const char *collection, const json_t *body,
                                  struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    char uuid[DR_UUID_TEXT_BYTES];
    start_reply(reply);
    make_uuid(uuid);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc =
        dr_entry_create_collection(cat, collection, body, uuid, dr_random(), &entry, &err);
    dr_catalog_unref(cat);
    finish_change(c, who, entry, rc, &err, true, reply);
}

void dr_cluster_get_collection(struct dr_cluster *c, const struct dr_cluster_caller *who,
                               const char *collection, const json_t *body,
                               struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_reply_find(cat, collection, reply);
    if (info != NULL) {
        dr_reply_give(reply, dr_shape_collection(c, cat, info));
    }
    dr_catalog_unref(cat);
}

void dr_cluster_update_collection(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                  const char *collection, const json_t *body,
                                  struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_update_collection(cat, collection, body, &entry, &err);
    dr_catalog_unref(cat);
    finish_change(c, who, entry, rc, &err, false, reply);
}

/* `false` when there was none, as the reference answers. */
void dr_cluster_delete_collection(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                  const char *collection, const json_t *body,
                                  struct dr_cluster_reply *reply)
{
    (void)body;
    struct dr_err err = {0};
    struct proposal p;
    char *entry = NULL;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_delete_collection(cat, collection, &entry, &err);
    dr_catalog_unref(cat);
    if (!dr_propose_for(c, who, entry, rc, &err, &p, reply)) {
        return;
    }
    json_decref(p.result.value);
    if (p.result.changed) {
        dr_log(c->log, DR_LOG_INFO, "deleted a collection", "audit=yes collection=%s by=%s",
               collection, who == NULL || who->who == NULL ? "unknown" : who->who);
    }
    dr_reply_give(reply, json_boolean(p.result.changed));
}

void dr_cluster_collection_cluster(struct dr_cluster *c, const struct dr_cluster_caller *who,
                                   const char *collection, const json_t *body,
                                   struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_reply_find(cat, collection, reply);
    if (info != NULL) {
        dr_reply_give(reply, dr_shape_collection_cluster(c, info));
    }
    dr_catalog_unref(cat);
}

/* --- shard keys ----------------------------------------------------------------------------------
 */

void dr_cluster_list_keys(struct dr_cluster *c, const struct dr_cluster_caller *who,
                          const char *collection, const json_t *body,
                          struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    json_t *result = NULL;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_reply_find(cat, collection, reply);
    if (info == NULL) {
        goto out;
    }
    result = json_object(); /* auto: the field is absent */
    if (result != NULL && info->method == DR_SHARDING_CUSTOM) {
        json_t *keys = json_array();
        for (uint32_t i = 0; keys != NULL && i < info->key_ring_count; i++) {
            json_t *key = dr_shard_key_to_json(&info->key_ring[i].key);
            json_t *one = key == NULL ? NULL : json_pack("{s:o}", "key", key);
            if (one == NULL || json_array_append_new(keys, one) != 0) {
                json_decref(keys);
                keys = NULL;
            }
        }
        if (!dr_shape_set(result, "shard_keys", keys)) {
            json_decref(result);
            result = NULL;
        }
    }
    dr_reply_give(reply, result);
out:
    dr_catalog_unref(cat);
}

void dr_cluster_create_key(struct dr_cluster *c, const struct dr_cluster_caller *who,
                           const char *collection, const json_t *body,
                           struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    start_reply(reply);
    if (!dr_reply_need_cluster(c, reply)) {
        return;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_create_key(cat, collection, body, dr_random(), &entry, &err);
    dr_catalog_unref(cat);
    finish_change(c, who, entry, rc, &err, true, reply);
}

/* The confirmation under the name that the catalog knows; and its refusal with ours, before. */
static json_t *translate_drop(const struct dr_catalog *cat, const char *collection,
                              const json_t *body, struct dr_err *err)
{
    struct dr_shard_key key;
    char print[DR_SHARD_KEY_BYTES_MAX + 3];
    const json_t *given = json_object_get(body, "shard_key");
    const json_t *confirm = json_object_get(body, "confirm_drop_promoted");
    const struct dr_collection_info *info = dr_catalog_find(cat, collection);
    json_t *copy = json_object();
    if (copy == NULL ||
        (given != NULL && json_object_set(copy, "shard_key", (json_t *)given) != 0) ||
        (confirm != NULL && json_object_set(copy, "confirm", (json_t *)confirm) != 0)) {
        json_decref(copy);
        (void)dr_fail_nomem(err);
        return NULL;
    }
    if (info != NULL && info->has_default_key && info->key_ring_count > 1 &&
        !json_is_true(confirm) && dr_shard_key_from_json(given, "shard_key", &key, err) == DR_OK &&
        dr_shard_key_compare(&info->default_key, &key) == 0) {
        (void)dr_fail(
            err, DR_REFUSED,
            "%s is the key collection %s was promoted with: dropping it deletes all points "
            "from before; say \"confirm_drop_promoted\": true if you want that",
            dr_shard_key_print(&key, print, sizeof print), info->name);
        json_decref(copy);
        return NULL;
    }
    return copy;
}

void dr_cluster_drop_key(struct dr_cluster *c, const struct dr_cluster_caller *who,
                         const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    enum dr_code rc = DR_OK;
    start_reply(reply);
    if (!dr_reply_need_cluster(c, reply)) {
        return;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    json_t *translated = translate_drop(cat, collection, body, &err);
    if (translated == NULL) {
        rc = err.code;
    } else {
        dr_err_clear(&err);
        rc = dr_entry_drop_key(cat, collection, translated, &entry, &err);
    }
    dr_catalog_unref(cat);
    json_decref(translated);
    finish_change(c, who, entry, rc, &err, false, reply);
    if (reply->class == DR_CLASS_OK) {
        dr_log(c->log, DR_LOG_INFO, "dropped a shard key", "audit=yes collection=%s by=%s",
               collection, who == NULL || who->who == NULL ? "unknown" : who->who);
    }
}

/* --- POST /collections/{c}/cluster
 * ---------------------------------------------------------------- */

/* Operations that have a verb of their own, with its checks. */
static bool run_own_verb(struct dr_cluster *c, const struct dr_cluster_caller *who,
                         const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    static const struct {
        const char *name;
        dr_cluster_verb *run;
    } own[] = {
        {"create_sharding_key", dr_cluster_create_key},
        {"drop_sharding_key", dr_cluster_drop_key},
        {"promote_to_custom_sharding", dr_cluster_promote},
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        const json_t *op = json_object_get(body, own[i].name);
        if (op != NULL && json_object_size(body) == 1) {
            own[i].run(c, who, collection, op, reply);
            if (reply->class == DR_CLASS_OK) {
                dr_reply_true(reply); /* what this call always answers */
            }
            return true;
        }
    }
    return false;
}

void dr_cluster_cluster_op(struct dr_cluster *c, const struct dr_cluster_caller *who,
                           const char *collection, const json_t *body,
                           struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    char *entry = NULL;
    start_reply(reply);
    if (!dr_reply_need_cluster(c, reply) || run_own_verb(c, who, collection, body, reply)) {
        return;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_cluster(cat, collection, body, dr_random(), &entry, &err);
    dr_catalog_unref(cat);
    finish_change(c, who, entry, rc, &err, false, reply);
}

/* --- aliases
 * -------------------------------------------------------------------------------------- */

void dr_cluster_aliases(struct dr_cluster *c, const struct dr_cluster_caller *who,
                        const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    (void)collection;
    struct dr_err err = {0};
    char *entry = NULL;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc = dr_entry_aliases(cat, body, &entry, &err);
    dr_catalog_unref(cat);
    finish_change(c, who, entry, rc, &err, true, reply);
}

void dr_cluster_list_aliases(struct dr_cluster *c, const struct dr_cluster_caller *who,
                             const char *collection, const json_t *body,
                             struct dr_cluster_reply *reply)
{
    (void)who;
    (void)body;
    json_t *list = NULL;
    const struct dr_collection_info *only = NULL;
    start_reply(reply);
    struct dr_catalog *cat = dr_cluster_catalog(c);
    if (collection != NULL) {
        only = dr_reply_find(cat, collection, reply);
        if (only == NULL) {
            goto out;
        }
    }
    list = json_array();
    for (uint32_t i = 0; list != NULL && i < dr_catalog_alias_count(cat); i++) {
        struct dr_alias a = dr_catalog_alias_at(cat, i);
        if (only != NULL && strcmp(only->name, a.collection) != 0) {
            continue;
        }
        json_t *one =
            json_pack("{s:s, s:s}", "alias_name", a.name, "collection_name", a.collection);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    dr_reply_give(reply, list == NULL ? NULL : json_pack("{s:o}", "aliases", list));
out:
    dr_catalog_unref(cat);
}
