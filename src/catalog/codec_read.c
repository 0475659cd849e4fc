/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a snapshot. It may come from a disk that lied or a peer that is not one: every number is
 * bounded, every name checked, every reference looked up, and what comes out keeps to the same
 * rules as what operations make. */
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"
#include "catalog/table_private.h"

enum { DECODE_BLOCK_BYTES = 256 * 1024 };

/* Reading one collection: the arena ends with it. */
struct reading {
    struct dr_arena *arena;
    struct dr_draft d;
    struct dr_err *err;
};

static enum dr_code fail_shard(struct reading *r, size_t at)
{
    return dr_fail(r->err, DR_INPUT,
                   "shard %zu: expected [id, place of the key or -1, peer, \"state\", ...]", at);
}

static enum dr_code read_shard(struct reading *r, const json_t *j, const struct dr_shard_key *key,
                               size_t key_count, size_t at)
{
    struct dr_shard *s = &r->d.shard[at];
    size_t items = json_array_size(j);
    if (!json_is_array(j) || items < 4 || items % 2 != 0 ||
        items > 2 + 2 * (size_t)DR_REPLICAS_MAX) {
        return fail_shard(r, at);
    }
    const json_t *id = json_array_get(j, 0);
    const json_t *place = json_array_get(j, 1);
    json_int_t key_at = json_integer_value(place);
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) > UINT32_MAX - 1 || !json_is_integer(place) || key_at < -1 ||
        (key_at >= 0 && (size_t)key_at >= key_count)) {
        return fail_shard(r, at);
    }
    memset(s, 0, sizeof *s);
    s->id = (uint32_t)json_integer_value(id);
    s->has_key = key_at >= 0;
    if (s->has_key) {
        s->key = key[key_at];
    }
    s->replica_count = (uint32_t)(items / 2 - 1);
    struct dr_replica *replica = dr_arena_alloc(r->arena, s->replica_count * sizeof *replica);
    if (replica == NULL) {
        return dr_fail_nomem(r->err);
    }
    for (uint32_t i = 0; i < s->replica_count; i++) {
        const json_t *peer = json_array_get(j, 2 + 2 * (size_t)i);
        const char *state = json_string_value(json_array_get(j, 3 + 2 * (size_t)i));
        if (!json_is_integer(peer) || json_integer_value(peer) <= 0 || state == NULL ||
            !dr_replica_state_parse(state, &replica[i].state)) {
            return fail_shard(r, at);
        }
        replica[i].peer_id = (uint64_t)json_integer_value(peer);
    }
    s->replica = replica;
    return DR_OK;
}

static enum dr_code read_shards(struct reading *r, const json_t *keys, const json_t *shards)
{
    size_t key_count = json_array_size(keys);
    size_t count = json_array_size(shards);
    struct dr_shard_key *key = dr_arena_alloc(r->arena, (key_count + 1) * sizeof *key);
    r->d.shard = dr_arena_alloc(r->arena, (count + 1) * sizeof *r->d.shard);
    if (key == NULL || r->d.shard == NULL) {
        return dr_fail_nomem(r->err);
    }
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < key_count; i++) {
        rc = dr_shard_key_from_json(json_array_get(keys, i), "keys", &key[i], r->err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = read_shard(r, json_array_get(shards, i), key, key_count, i);
    }
    r->d.shard_count = (uint32_t)count;
    return rc;
}

static enum dr_code read_transfers(struct reading *r, const json_t *transfers)
{
    size_t count = json_array_size(transfers);
    r->d.transfer = dr_arena_alloc(r->arena, (count + 1) * sizeof *r->d.transfer);
    if (r->d.transfer == NULL) {
        return dr_fail_nomem(r->err);
    }
    for (size_t i = 0; i < count; i++) {
        struct dr_transfer *t = &r->d.transfer[i];
        struct dr_jr j;
        const char *method = "";
        uint64_t shard_id = 0;
        uint64_t to_shard_id = 0;
        memset(t, 0, sizeof *t);
        dr_jr_init(&j, json_array_get(transfers, i), "transfer", r->err);
        (void)dr_jr_u64(&j, "shard_id", true, 0, UINT32_MAX, &shard_id);
        t->has_to_shard = dr_jr_u64(&j, "to_shard_id", false, 0, UINT32_MAX, &to_shard_id);
        (void)dr_jr_u64(&j, "from", true, 1, (uint64_t)INT64_MAX, &t->from);
        (void)dr_jr_u64(&j, "to", true, 1, (uint64_t)INT64_MAX, &t->to);
        (void)dr_jr_bool(&j, "sync", true, &t->is_sync);
        (void)dr_jr_string(&j, "method", true, &method);
        enum dr_code rc = dr_jr_finish(&j);
        if (rc != DR_OK) {
            return rc;
        }
        if (!dr_transfer_method_is_known(method)) {
            return dr_fail(r->err, DR_INPUT, "transfer.method: is none there is");
        }
        t->shard_id = (uint32_t)shard_id;
        t->to_shard_id = (uint32_t)to_shard_id;
        dr_copy_text(t->method, sizeof t->method, method);
    }
    r->d.transfer_count = (uint32_t)count;
    return DR_OK;
}

static enum dr_code read_resharding(struct reading *r, const json_t *object)
{
    struct dr_jr j;
    struct dr_resharding *out = &r->d.resharding;
    const char *direction = "";
    const char *stage = "";
    const char *uuid = "";
    const json_t *key = NULL;
    uint64_t shard_id = 0;
    dr_jr_init(&j, object, "resharding", r->err);
    (void)dr_jr_string(&j, "direction", true, &direction);
    (void)dr_jr_string(&j, "stage", true, &stage);
    (void)dr_jr_string(&j, "uuid", true, &uuid);
    (void)dr_jr_u64(&j, "shard_id", true, 0, UINT32_MAX - 1, &shard_id);
    (void)dr_jr_u64(&j, "peer_id", true, 1, (uint64_t)INT64_MAX, &out->peer_id);
    out->has_key = dr_jr_any(&j, "key", false, &key);
    enum dr_code rc = dr_jr_finish(&j);
    if (rc == DR_OK && out->has_key) {
        rc = dr_shard_key_from_json(key, "resharding.key", &out->key, r->err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    out->is_up = strcmp(direction, "up") == 0;
    if ((!out->is_up && strcmp(direction, "down") != 0) || !dr_uuid_text_is_good(uuid) ||
        !dr_reshard_stage_parse(stage, &out->stage)) {
        return dr_fail(r->err, DR_INPUT, "resharding: a direction, stage or uuid that is none");
    }
    out->shard_id = (uint32_t)shard_id;
    dr_copy_text(out->uuid, sizeof out->uuid, uuid);
    r->d.is_resharding = true;
    return DR_OK;
}

static enum dr_code check_head(struct reading *r, const char *name, const char *uuid,
                               const char *method)
{
    struct dr_collection_info *info = &r->d.info;
    enum dr_code rc = dr_collection_name_check(name, r->err);
    if (rc == DR_OK &&
        (!dr_uuid_text_is_good(uuid) || !dr_sharding_method_parse(method, &info->method))) {
        rc = dr_fail(r->err, DR_INPUT, "a uuid or method that is none");
    }
    if (rc == DR_OK && info->vectors != NULL) {
        rc = dr_extra_check(info->vectors, "vectors", r->err);
    }
    if (rc == DR_OK && info->metadata != NULL) {
        rc = dr_extra_check(info->metadata, "metadata", r->err);
    }
    info->name = name;
    dr_copy_text(info->uuid, sizeof info->uuid, uuid);
    return rc;
}

/* Numbers and texts of a collection, and its lists for the others to read. */
static enum dr_code read_head(struct reading *r, const json_t *object, const json_t **keys,
                              const json_t **shards, const json_t **transfers,
                              const json_t **resharding)
{
    struct dr_jr j;
    struct dr_collection_info *info = &r->d.info;
    const char *name = "";
    const char *uuid = "";
    const char *method = "";
    const json_t *key = NULL;
    uint64_t next = 0;
    uint64_t shards_each = 0;
    uint64_t replicas = 0;
    uint64_t writes = 0;
    dr_jr_init(&j, object, "collection", r->err);
    (void)dr_jr_u64(&j, "changed_at", true, 0, (uint64_t)INT64_MAX, &info->changed_at_index);
    info->has_default_key = dr_jr_any(&j, "default_key", false, &key);
    (void)dr_jr_array(&j, "keys", true, DR_SHARDS_MAX, keys);
    (void)dr_jr_object(&j, "metadata", false, &info->metadata);
    (void)dr_jr_string(&j, "method", true, &method);
    (void)dr_jr_bool(&j, "method_given", true, &info->is_method_given);
    (void)dr_jr_string(&j, "name", true, &name);
    (void)dr_jr_u64(&j, "next_shard_id", true, 0, UINT32_MAX, &next);
    (void)dr_jr_u64(&j, "replication_factor", true, 1, DR_FACTOR_MAX, &replicas);
    (void)dr_jr_object(&j, "resharding", false, resharding);
    (void)dr_jr_u64(&j, "shard_number", true, 1, DR_SHARDS_MAX, &shards_each);
    (void)dr_jr_array(&j, "shards", true, DR_SHARDS_MAX, shards);
    (void)dr_jr_array(&j, "transfers", true, DR_TRANSFERS_MAX, transfers);
    (void)dr_jr_string(&j, "uuid", true, &uuid);
    (void)dr_jr_any(&j, "vectors", false, &info->vectors);
    (void)dr_jr_u64(&j, "write_consistency_factor", true, 1, DR_FACTOR_MAX, &writes);
    enum dr_code rc = dr_jr_finish(&j);
    if (rc == DR_OK && info->has_default_key) {
        rc = dr_shard_key_from_json(key, "collection.default_key", &info->default_key, r->err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    info->shard_number = (uint32_t)shards_each;
    info->replication_factor = (uint32_t)replicas;
    info->write_consistency_factor = (uint32_t)writes;
    r->d.next_shard_id = (uint32_t)next;
    return check_head(r, name, uuid, method);
}

static enum dr_code read_collection(struct dr_arena *arena, const json_t *object,
                                    struct dr_collection **out, struct dr_err *err)
{
    struct reading r = {.arena = arena, .err = err, .d = {.arena = arena}};
    const json_t *keys = NULL;
    const json_t *shards = NULL;
    const json_t *transfers = NULL;
    const json_t *resharding = NULL;
    enum dr_code rc = read_head(&r, object, &keys, &shards, &transfers, &resharding);
    if (rc == DR_OK) {
        rc = read_shards(&r, keys, shards);
    }
    if (rc == DR_OK) {
        rc = read_transfers(&r, transfers);
    }
    if (rc == DR_OK && resharding != NULL) {
        rc = read_resharding(&r, resharding);
    }
    if (rc == DR_OK) {
        rc = dr_draft_check(&r.d, err);
    }
    if (rc == DR_OK) {
        rc = dr_draft_freeze(&r.d, NULL, out, err);
    }
    if (rc == DR_OK && r.d.info.has_default_key &&
        dr_collection_ring(&(*out)->info, &r.d.info.default_key) == NULL) {
        rc = dr_fail(err, DR_INPUT, "collection.default_key: no shard has it");
    }
    return rc;
}

static enum dr_code read_collections(struct dr_catalog *c, const json_t *list, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    struct dr_arena *arena = dr_arena_create(DECODE_BLOCK_BYTES);
    c->room = (uint32_t)json_array_size(list);
    c->collection = dr_calloc(c->room, sizeof(struct dr_collection *));
    if (arena == NULL || c->collection == NULL) {
        rc = dr_fail_nomem(err);
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(list); i++) {
        struct dr_collection *made = NULL;
        uint32_t at = 0;
        dr_arena_reset(arena);
        rc = read_collection(arena, json_array_get(list, i), &made, err);
        if (rc == DR_OK && dr_catalog_position(c, made->info.name, &at)) {
            rc = dr_fail(err, DR_INPUT, "two collections have the same name");
        }
        if (rc != DR_OK) {
            dr_collection_unref(made);
            dr_wrap(err, "collection %zu", i);
            break;
        }
        dr_catalog_put(c, made);
    }
    dr_arena_destroy(arena);
    return rc;
}

static enum dr_code read_aliases(struct dr_catalog *c, const json_t *list, struct dr_err *err)
{
    size_t count = json_array_size(list);
    enum dr_code rc = DR_OK;
    struct dr_alias *alias = dr_calloc(count, sizeof *alias);
    if (alias == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        const json_t *pair = json_array_get(list, i);
        uint32_t at = 0;
        alias[i].name = json_string_value(json_array_get(pair, 0));
        alias[i].collection = json_string_value(json_array_get(pair, 1));
        if (json_array_size(pair) != 2 || alias[i].name == NULL || alias[i].collection == NULL ||
            dr_collection_name_check(alias[i].name, NULL) != DR_OK ||
            dr_catalog_position(c, alias[i].name, &at) ||
            !dr_catalog_position(c, alias[i].collection, &at)) {
            rc = dr_fail(err, DR_INPUT,
                         "alias %zu: expected [name, collection], the name free and "
                         "the collection there",
                         i);
        }
    }
    if (rc == DR_OK) {
        rc = dr_alias_table_create(alias, (uint32_t)count, &c->aliases, err);
    }
    dr_free(alias);
    return rc;
}

/* A text of the peer into its field of fixed size. */
static void read_peer_text(struct dr_jr *j, const char *key, bool is_required, char *buf,
                           size_t buf_bytes)
{
    const char *text = "";
    (void)dr_jr_string(j, key, is_required, &text);
    if (j->rc == DR_OK &&
        (strlen(text) >= buf_bytes || !dr_catalog_is_clean_text(text, strlen(text)))) {
        j->rc = dr_fail(j->err, DR_INPUT, "peer.%s: is too long or has control characters", key);
        return;
    }
    dr_copy_text(buf, buf_bytes, text);
}

static enum dr_code read_peers(struct dr_catalog *c, const json_t *list, struct dr_err *err)
{
    size_t count = json_array_size(list);
    enum dr_code rc = DR_OK;
    struct dr_peer *peer = dr_calloc(count, sizeof *peer);
    if (peer == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        struct dr_jr j;
        uint64_t format = 0;
        dr_jr_init(&j, json_array_get(list, i), "peer", err);
        (void)dr_jr_u64(&j, "id", true, 1, (uint64_t)INT64_MAX, &peer[i].id);
        (void)dr_jr_u64(&j, "format", true, 0, UINT32_MAX, &format);
        read_peer_text(&j, "uri", true, peer[i].uri, sizeof peer[i].uri);
        read_peer_text(&j, "raft", true, peer[i].raft, sizeof peer[i].raft);
        read_peer_text(&j, "version", true, peer[i].version, sizeof peer[i].version);
        read_peer_text(&j, "store", false, peer[i].store, sizeof peer[i].store);
        peer[i].format = (uint32_t)format;
        rc = dr_jr_finish(&j);
    }
    if (rc == DR_OK) {
        rc = dr_peer_table_create(peer, (uint32_t)count, &c->peers, err);
    }
    dr_free(peer);
    return rc;
}

static enum dr_code read_state(struct dr_catalog *c, const json_t *object, struct dr_err *err)
{
    struct dr_jr j;
    uint64_t version = 0;
    const json_t *aliases = NULL;
    const json_t *collections = NULL;
    const json_t *peers = NULL;
    const json_t *tables = NULL;
    dr_jr_init(&j, object, "snapshot", err);
    (void)dr_jr_u64(&j, "v", true, 1, (uint64_t)INT64_MAX, &version);
    if (j.rc == DR_OK && version > DR_CATALOG_FORMAT) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "the snapshot has format %llu, this peer understands up to %d: update it",
                       (unsigned long long)version, DR_CATALOG_FORMAT);
    }
    (void)dr_jr_u64(&j, "index", true, 0, (uint64_t)INT64_MAX, &c->index);
    (void)dr_jr_array(&j, "aliases", true, DR_ALIASES_MAX, &aliases);
    (void)dr_jr_array(&j, "collections", true, DR_COLLECTIONS_PER_CATALOG_MAX, &collections);
    (void)dr_jr_array(&j, "peers", true, DR_PEERS_MAX, &peers);
    if (version >= DR_CATALOG_FORMAT_TABLES) {
        (void)dr_jr_array(&j, "tables", true, DR_TABLES_MAX, &tables);
    }
    enum dr_code rc = dr_jr_finish(&j);
    if (rc == DR_OK && tables != NULL) {
        rc = dr_table_set_decode(tables, &c->tables, err);
    }
    if (rc == DR_OK) {
        rc = read_collections(c, collections, err);
    }
    if (rc == DR_OK) {
        rc = read_aliases(c, aliases, err);
    }
    return rc == DR_OK ? read_peers(c, peers, err) : rc;
}

/* base/json's reader ends at 4 MiB, a snapshot does not; the library's own bound of depth holds
 * here, and what is kept as JSON is measured again. */
static enum dr_code parse_text(const char *text, size_t bytes, json_t **out, struct dr_err *err)
{
    if (bytes > DR_SNAPSHOT_BYTES_MAX) {
        return dr_fail(err, DR_CORRUPT, "a text of %zu bytes; at most %d are accepted", bytes,
                       DR_SNAPSHOT_BYTES_MAX);
    }
    return dr_catalog_parse(text, bytes, out, err);
}

enum dr_code dr_catalog_decode(const char *text, size_t bytes, struct dr_catalog **out,
                               struct dr_err *err)
{
    *out = NULL;
    json_t *object = NULL;
    struct dr_catalog *c = NULL;
    struct dr_err why = {0};
    enum dr_code rc = parse_text(text, bytes, &object, &why);
    if (rc == DR_OK) {
        c = dr_calloc(1, sizeof *c);
        rc = c == NULL ? dr_fail_nomem(&why) : DR_OK;
    }
    if (rc == DR_OK) {
        c->refs = 1;
        rc = read_state(c, object, &why);
    }
    json_decref(object);
    if (rc != DR_OK) {
        dr_catalog_unref(c);
        bool is_machine = rc == DR_NOMEM || rc == DR_UNSUPPORTED;
        return dr_fail(err, is_machine ? rc : DR_CORRUPT, "catalog snapshot: %s", why.msg);
    }
    *out = c;
    return DR_OK;
}
