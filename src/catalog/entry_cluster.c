/* SPDX-License-Identifier: Apache-2.0 */
/* Making the entries about shard keys, replicas, transfers, reshardings and peers, from the bodies
 * that clients of the well-known vector database send. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog_private.h"

/* Copy a whole number of the request into the entry, under the entry's name for it. */
static enum dr_code copy_number(json_t *entry, const char *field, const json_t *op,
                                const char *op_field, bool is_required, uint64_t max,
                                struct dr_err *err)
{
    uint64_t number = UINT64_MAX;
    enum dr_code rc = dr_entry_number(op, op_field, 0, max, &number, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (number == UINT64_MAX) {
        return is_required ? dr_fail(err, DR_INPUT, "%s: is missing", op_field) : DR_OK;
    }
    return dr_entry_set(entry, field, json_integer((json_int_t)number), err);
}

static enum dr_code copy_key(json_t *entry, const char *field, const json_t *op,
                             const char *op_field, bool is_required, struct dr_err *err)
{
    struct dr_shard_key key;
    const json_t *value = dr_entry_field(op, op_field);
    if (value == NULL) {
        return is_required ? dr_fail(err, DR_INPUT, "%s: is missing", op_field) : DR_OK;
    }
    enum dr_code rc = dr_shard_key_from_json(value, op_field, &key, err);
    return rc == DR_OK ? dr_entry_set(entry, field, json_incref((json_t *)value), err) : rc;
}

/* The peers of "placement"; *count_out stays 0 and *is_given_out false without it. */
static enum dr_code read_pool(const json_t *body, uint64_t *pool, uint32_t *count_out,
                              bool *is_given_out, struct dr_err *err)
{
    const json_t *list = dr_entry_field(body, "placement");
    *count_out = 0;
    *is_given_out = list != NULL;
    if (list == NULL) {
        return DR_OK;
    }
    if (!json_is_array(list) || json_array_size(list) > DR_PEERS_MAX) {
        return dr_fail(err, DR_INPUT, "placement: expected a list of at most %d peer ids",
                       DR_PEERS_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) <= 0) {
            return dr_fail(err, DR_INPUT, "placement: expected a list of peer ids");
        }
        pool[(*count_out)++] = (uint64_t)json_integer_value(id);
    }
    return DR_OK;
}

static enum dr_code fill_create_key(const struct dr_catalog *c,
                                    const struct dr_collection_info *info, json_t *entry,
                                    const json_t *body, uint64_t seed, struct dr_err *err)
{
    uint64_t pool[DR_PEERS_MAX];
    uint32_t pool_count = 0;
    bool is_pool_given = false;
    uint64_t shards = info->shard_number;
    uint64_t replicas = info->replication_factor;
    const json_t *state = dr_entry_field(body, "initial_state");
    enum dr_code rc = copy_key(entry, "key", body, "shard_key", true, err);
    if (rc == DR_OK && state != NULL && !json_is_string(state)) {
        rc = dr_fail(err, DR_INPUT, "initial_state: expected \"Active\" or \"Partial\"");
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "state",
                          state == NULL ? json_string(dr_replica_state_name(DR_REPLICA_ACTIVE))
                                        : json_incref((json_t *)state),
                          err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_number(body, "shard_number", 1, DR_SHARDS_MAX, &shards, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_number(body, "shards_number", 1, DR_SHARDS_MAX, &shards, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_number(body, "replication_factor", 1, DR_FACTOR_MAX, &replicas, err);
    }
    if (rc == DR_OK) {
        rc = read_pool(body, pool, &pool_count, &is_pool_given, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_place(c, entry, (uint32_t)shards, (uint32_t)replicas,
                            is_pool_given ? pool : NULL, pool_count, seed, err);
    }
    return rc;
}

enum dr_code dr_entry_create_key(const struct dr_catalog *c, const char *name, const json_t *body,
                                 uint64_t seed, char **out, struct dr_err *err)
{
    const struct dr_collection_info *info = NULL;
    json_t *entry = NULL;
    *out = NULL;
    enum dr_code rc = dr_entry_begin_collection(c, "create_key", name, &info, &entry, err);
    if (rc == DR_OK && info->method == DR_SHARDING_AUTO) {
        rc = dr_fail(err, DR_INPUT, "Shard Key cannot be created with Auto sharding method");
    }
    if (rc == DR_OK) {
        rc = fill_create_key(c, info, entry, body, seed, err);
    }
    return dr_entry_end(c, entry, rc, out, err);
}

enum dr_code dr_entry_drop_key(const struct dr_catalog *c, const char *name, const json_t *body,
                               char **out, struct dr_err *err)
{
    const struct dr_collection_info *info = NULL;
    json_t *entry = NULL;
    *out = NULL;
    enum dr_code rc = dr_entry_begin_collection(c, "drop_key", name, &info, &entry, err);
    const json_t *confirm = dr_entry_field(body, "confirm");
    if (rc == DR_OK) {
        rc = copy_key(entry, "key", body, "shard_key", true, err);
    }
    if (rc == DR_OK && confirm != NULL) {
        rc = json_is_boolean(confirm)
                 ? dr_entry_set(entry, "confirm", json_incref((json_t *)confirm), err)
                 : dr_fail(err, DR_INPUT, "confirm: expected true or false");
    }
    return dr_entry_end(c, entry, rc, out, err);
}

/* A peer that does not know the promotion would go on as if nothing had happened. */
static enum dr_code check_all_understand(const struct dr_catalog *c, struct dr_err *err)
{
    for (uint32_t i = 0; i < dr_catalog_peer_count(c); i++) {
        const struct dr_peer *p = dr_catalog_peer_at(c, i);
        if (p->format < DR_PROMOTE_FORMAT) {
            return dr_fail(err, DR_REFUSED,
                           "peer %" PRIu64 " has not announced that it understands promotions "
                           "(entry format %d): update or remove it first",
                           p->id, DR_PROMOTE_FORMAT);
        }
    }
    return DR_OK;
}

static enum dr_code fill_promote(const struct dr_collection_info *info, json_t *entry,
                                 const json_t *body, struct dr_err *err)
{
    enum dr_code rc = copy_key(entry, "key", body, "default_shard_key", false, err);
    if (rc == DR_OK && json_object_get(entry, "key") == NULL) {
        rc = dr_entry_set(entry, "key", json_string("default"), err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    json_t *ids = json_array();
    if (ids == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < info->shard_count; i++) {
        if (json_array_append_new(ids, json_integer(info->shard[i].id)) != 0) {
            json_decref(ids);
            return dr_fail_nomem(err);
        }
    }
    return dr_entry_set(entry, "shard_ids", ids, err);
}

enum dr_code dr_entry_promote(const struct dr_catalog *c, const char *name, const json_t *body,
                              char **out, struct dr_err *err)
{
    const struct dr_collection_info *info = NULL;
    json_t *entry = NULL;
    *out = NULL;
    enum dr_code rc = dr_entry_check_body(body, err);
    if (rc == DR_OK) {
        rc = dr_entry_begin_collection(c, "promote_to_custom_sharding", name, &info, &entry, err);
    }
    if (rc == DR_OK && info->method == DR_SHARDING_AUTO) {
        rc = check_all_understand(c, err);
    }
    if (rc == DR_OK) {
        rc = fill_promote(info, entry, body, err);
    }
    return dr_entry_end(c, entry, rc, out, err);
}

/* --- POST /collections/{name}/cluster ----------------------------------------------------------
 */

struct cluster_call {
    const struct dr_catalog *c;
    const struct dr_collection_info *info;
    const json_t *op; /* the operation's object */
    json_t *entry;
    uint64_t seed;
};

static enum dr_code fill_transfer(const struct cluster_call *k, bool has_method, struct dr_err *err)
{
    enum dr_code rc = copy_number(k->entry, "shard_id", k->op, "shard_id", true, UINT32_MAX, err);
    if (rc == DR_OK) {
        rc = copy_number(k->entry, "from", k->op, "from_peer_id", true, INT64_MAX, err);
    }
    if (rc == DR_OK) {
        rc = copy_number(k->entry, "to", k->op, "to_peer_id", true, INT64_MAX, err);
    }
    if (rc == DR_OK) {
        rc = copy_number(k->entry, "to_shard_id", k->op, "to_shard_id", false, UINT32_MAX, err);
    }
    if (rc != DR_OK || !has_method) {
        return rc;
    }
    const json_t *method = dr_entry_field(k->op, "method");
    if (method != NULL && !json_is_string(method)) {
        return dr_fail(err, DR_INPUT, "method: expected the name of a transfer method");
    }
    const char *fallback = json_object_get(k->entry, "to_shard_id") == NULL
                               ? "stream_records"
                               : "resharding_stream_records";
    return dr_entry_set(k->entry, "method",
                        method == NULL ? json_string(fallback) : json_incref((json_t *)method),
                        err);
}

static enum dr_code fill_replicate(const struct cluster_call *k, struct dr_err *err)
{
    enum dr_code rc = fill_transfer(k, true, err);
    return rc == DR_OK ? dr_entry_set(k->entry, "sync", json_true(), err) : rc;
}

static enum dr_code fill_move(const struct cluster_call *k, struct dr_err *err)
{
    enum dr_code rc = fill_transfer(k, true, err);
    return rc == DR_OK ? dr_entry_set(k->entry, "sync", json_false(), err) : rc;
}

static enum dr_code fill_restart(const struct cluster_call *k, struct dr_err *err)
{
    return fill_transfer(k, true, err);
}

static enum dr_code fill_end(const struct cluster_call *k, struct dr_err *err)
{
    return fill_transfer(k, false, err);
}

static enum dr_code fill_drop_replica(const struct cluster_call *k, struct dr_err *err)
{
    enum dr_code rc = copy_number(k->entry, "shard_id", k->op, "shard_id", true, UINT32_MAX, err);
    return rc == DR_OK ? copy_number(k->entry, "peer_id", k->op, "peer_id", true, INT64_MAX, err)
                       : rc;
}

static enum dr_code fill_nothing(const struct cluster_call *k, struct dr_err *err)
{
    (void)k;
    (void)err;
    return DR_OK;
}

/* A version 4 UUID from the seed: the proposer drew that at random. */
static enum dr_code set_uuid(const struct cluster_call *k, struct dr_err *err)
{
    const json_t *given = dr_entry_field(k->op, "uuid");
    char text[DR_UUID_TEXT_BYTES];
    if (given != NULL) {
        return json_is_string(given)
                   ? dr_entry_set(k->entry, "resharding_uuid", json_incref((json_t *)given), err)
                   : dr_fail(err, DR_INPUT, "uuid: expected a text");
    }
    const uint64_t low[2] = {k->seed, 1};
    const uint64_t high[2] = {k->seed, 2};
    uint64_t a = dr_catalog_hash_words(low, 2);
    uint64_t b = dr_catalog_hash_words(high, 2);
    (void)snprintf(text, sizeof text, "%08x-%04x-4%03x-%04x-%012" PRIx64, (unsigned)(a >> 32),
                   (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                   (unsigned)(0x8000 | (b >> 48 & 0x3fff)), b & UINT64_C(0xffffffffffff));
    return dr_entry_set(k->entry, "resharding_uuid", json_string(text), err);
}

/* The shard that a resharding adds or removes, as apply will reckon too. */
static enum dr_code set_resharding_shard(const struct cluster_call *k, bool is_up,
                                         struct dr_err *err)
{
    struct dr_shard_key key;
    const json_t *given = json_object_get(k->entry, "key");
    uint64_t peer_id = 0;
    enum dr_code rc = DR_OK;
    if (given != NULL) {
        rc = dr_shard_key_from_json(given, "shard_key", &key, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    const struct dr_key_ring *ring = dr_collection_ring(k->info, given == NULL ? NULL : &key);
    uint32_t at = 0;
    bool is_there = dr_catalog_position(k->c, k->info->name, &at);
    uint32_t shard_id = 0; /* without a ring apply says what is wrong */
    if (is_up && is_there) {
        shard_id = k->info->method == DR_SHARDING_CUSTOM ? k->c->collection[at]->next_shard_id
                                                         : k->info->shard_count;
        rc = dr_entry_pick_peer(k->c, k->seed, &peer_id, err);
    } else if (ring != NULL) {
        shard_id = ring->shard_id[ring->shard_count - 1];
        peer_id = dr_collection_shard(k->info, shard_id)->replica[0].peer_id;
    } else {
        rc = dr_entry_pick_peer(k->c, k->seed, &peer_id, err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(k->entry, "shard_id", json_integer(shard_id), err);
    }
    if (rc == DR_OK) {
        rc = copy_number(k->entry, "peer_id", k->op, "peer_id", false, INT64_MAX, err);
    }
    if (rc == DR_OK && json_object_get(k->entry, "peer_id") == NULL) {
        rc = dr_entry_set(k->entry, "peer_id", json_integer((json_int_t)peer_id), err);
    }
    return rc;
}

static enum dr_code fill_start_resharding(const struct cluster_call *k, struct dr_err *err)
{
    const char *direction = json_string_value(json_object_get(k->op, "direction"));
    if (direction == NULL) {
        return dr_fail(err, DR_INPUT, "direction: expected \"up\" or \"down\"");
    }
    enum dr_code rc = dr_entry_set(k->entry, "direction", json_string(direction), err);
    if (rc == DR_OK) {
        rc = copy_key(k->entry, "key", k->op, "shard_key", false, err);
    }
    if (rc == DR_OK) {
        rc = set_uuid(k, err);
    }
    return rc == DR_OK ? set_resharding_shard(k, strcmp(direction, "up") == 0, err) : rc;
}

static const struct {
    const char *name; /* on the wire */
    const char *op;   /* in the entry */
    enum dr_code (*fill)(const struct cluster_call *k, struct dr_err *err);
} cluster_ops[] = {
    {"move_shard", "start_transfer", fill_move},
    {"replicate_shard", "start_transfer", fill_replicate},
    {"abort_transfer", "abort_transfer", fill_end},
    {"restart_transfer", "restart_transfer", fill_restart},
    {"finish_transfer", "finish_transfer", fill_end},
    {"drop_replica", "drop_replica", fill_drop_replica},
    {"start_resharding", "start_resharding", fill_start_resharding},
    {"abort_resharding", "abort_resharding", fill_nothing},
    {"commit_read_hash_ring", "commit_read_hash_ring", fill_nothing},
    {"commit_write_hash_ring", "commit_write_hash_ring", fill_nothing},
    {"finish_resharding", "finish_resharding", fill_nothing},
};

enum dr_code dr_entry_cluster(const struct dr_catalog *c, const char *name, const json_t *body,
                              uint64_t seed, char **out, struct dr_err *err)
{
    *out = NULL;
    if (!json_is_object(body) || json_object_size(body) != 1) {
        return dr_fail(err, DR_INPUT,
                       "body: expected an object with exactly one operation, such "
                       "as {\"move_shard\": {...}}");
    }
    void *only = json_object_iter((json_t *)body);
    const char *wanted = json_object_iter_key(only);
    struct cluster_call k = {.c = c, .op = json_object_iter_value(only), .seed = seed};
    enum dr_code rc = dr_entry_check_body(k.op, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (strcmp(wanted, "create_sharding_key") == 0) {
        return dr_entry_create_key(c, name, k.op, seed, out, err);
    }
    if (strcmp(wanted, "drop_sharding_key") == 0) {
        return dr_entry_drop_key(c, name, k.op, out, err);
    }
    if (strcmp(wanted, "promote_to_custom_sharding") == 0) {
        return dr_entry_promote(c, name, k.op, out, err);
    }
    for (size_t i = 0; i < sizeof cluster_ops / sizeof cluster_ops[0]; i++) {
        if (strcmp(cluster_ops[i].name, wanted) == 0) {
            rc = dr_entry_begin_collection(c, cluster_ops[i].op, name, &k.info, &k.entry, err);
            if (rc == DR_OK) {
                rc = cluster_ops[i].fill(&k, err);
            }
            return dr_entry_end(c, k.entry, rc, out, err);
        }
    }
    return dr_fail(err, DR_UNSUPPORTED, "no operation is called \"%.64s\" here", wanted);
}

enum dr_code dr_entry_replica_state(const struct dr_catalog *c, const char *name, uint32_t shard_id,
                                    uint64_t peer_id, enum dr_replica_state state,
                                    const enum dr_replica_state *from, char **out,
                                    struct dr_err *err)
{
    const struct dr_collection_info *info = NULL;
    json_t *entry = NULL;
    *out = NULL;
    enum dr_code rc = dr_entry_begin_collection(c, "replica_state", name, &info, &entry, err);
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "shard_id", json_integer(shard_id), err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "peer_id", json_integer((json_int_t)peer_id), err);
    }
    if (rc == DR_OK) {
        rc = dr_entry_set(entry, "state", json_string(dr_replica_state_name(state)), err);
    }
    if (rc == DR_OK && from != NULL) {
        rc = dr_entry_set(entry, "from", json_string(dr_replica_state_name(*from)), err);
    }
    return dr_entry_end(c, entry, rc, out, err);
}

static enum dr_code make_peer(const struct dr_peer *p, bool is_news, char **out, struct dr_err *err)
{
    *out = NULL;
    if (p->id == 0 || p->id > (uint64_t)INT64_MAX) {
        return dr_fail(err, DR_INPUT, "a peer's id is from 1 to %" PRId64, INT64_MAX);
    }
    if (!dr_catalog_is_clean_text(p->uri, strlen(p->uri)) ||
        !dr_catalog_is_clean_text(p->raft, strlen(p->raft)) ||
        !dr_catalog_is_clean_text(p->version, strlen(p->version)) ||
        !dr_catalog_is_clean_text(p->store, strlen(p->store))) {
        return dr_fail(err, DR_INPUT, "peer %" PRIu64 ": addresses and version are UTF-8 text",
                       p->id);
    }
    json_t *entry =
        json_pack("{s:i, s:s, s:I, s:s, s:s, s:I, s:s}", "v", (int)DR_CATALOG_FORMAT_FIRST, "op",
                  "peer", "id", (json_int_t)p->id, "uri", p->uri, "raft", p->raft, "format",
                  (json_int_t)p->format, "version", p->version);
    enum dr_code rc = entry == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK && p->store[0] != '\0') {
        rc = dr_entry_set(entry, "store", json_string(p->store), err);
    }
    if (rc == DR_OK && is_news) {
        rc = dr_entry_set(entry, "listed", json_true(), err);
    }
    return dr_entry_end(NULL, entry, rc, out, err);
}

enum dr_code dr_entry_peer(const struct dr_peer *p, char **out, struct dr_err *err)
{
    return make_peer(p, false, out, err);
}

enum dr_code dr_entry_peer_news(const struct dr_peer *p, char **out, struct dr_err *err)
{
    return make_peer(p, true, out, err);
}

enum dr_code dr_entry_remove_peer(const struct dr_catalog *c, uint64_t id, bool is_forced,
                                  char **out, struct dr_err *err)
{
    *out = NULL;
    json_t *entry = json_pack("{s:i, s:s, s:I, s:b}", "v", (int)DR_CATALOG_FORMAT_FIRST, "op",
                              "remove_peer", "id", (json_int_t)id, "force", (int)is_forced);
    return dr_entry_end(c, entry, entry == NULL ? dr_fail_nomem(err) : DR_OK, out, err);
}
