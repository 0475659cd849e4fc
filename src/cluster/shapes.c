/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of collections as clients of the well-known vector database read it. */
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_private.h"

bool dr_shape_set(json_t *j, const char *name, json_t *value)
{
    return value != NULL && json_object_set_new(j, name, value) == 0;
}

/* Something kept as the client gave it, or an empty object. */
static json_t *given_or_empty(const struct dr_collection_info *info, const char *name)
{
    const json_t *given = json_object_get(info->metadata, name);
    return given == NULL ? json_object() : json_incref((json_t *)given);
}

static json_t *shape_params(const struct dr_collection_info *info)
{
    const json_t *on_disk = json_object_get(info->metadata, "on_disk_payload");
    json_t *params =
        json_pack("{s:I, s:I, s:I, s:b}", "shard_number", (json_int_t)info->shard_number,
                  "replication_factor", (json_int_t)info->replication_factor,
                  "write_consistency_factor", (json_int_t)info->write_consistency_factor,
                  "on_disk_payload", on_disk == NULL || json_is_true(on_disk) ? 1 : 0);
    json_t *vectors = info->vectors == NULL ? json_object() : json_incref((json_t *)info->vectors);
    if (params == NULL || !dr_shape_set(params, "vectors", vectors)) {
        goto fail;
    }
    if (info->is_method_given &&
        !dr_shape_set(params, "sharding_method",
                      json_string(info->method == DR_SHARDING_CUSTOM ? "custom" : "auto"))) {
        goto fail;
    }
    if (info->has_default_key &&
        !dr_shape_set(params, "default_shard_key", dr_shard_key_to_json(&info->default_key))) {
        goto fail;
    }
    return params;
fail:
    json_decref(params);
    return NULL;
}

static json_t *shape_hnsw(const struct dr_collection_info *info)
{
    json_t *hnsw =
        json_pack("{s:i, s:i, s:i}", "m", 16, "ef_construct", 100, "full_scan_threshold", 10000);
    const json_t *given = json_object_get(info->metadata, "hnsw_config");
    if (hnsw != NULL && json_is_object(given) && json_object_update(hnsw, (json_t *)given) != 0) {
        json_decref(hnsw);
        return NULL;
    }
    return hnsw;
}

static json_t *shape_config(const struct dr_collection_info *info)
{
    json_t *config = json_object();
    if (config == NULL) {
        return NULL;
    }
    bool is_whole =
        dr_shape_set(config, "params", shape_params(info)) &&
        dr_shape_set(config, "hnsw_config", shape_hnsw(info)) &&
        dr_shape_set(config, "optimizer_config",
                     json_pack("{s:i, s:i, s:f, s:i}", "default_segment_number", 1,
                               "flush_interval_sec", 0, "deleted_threshold", 0.2,
                               "vacuum_min_vector_number", 1000)) &&
        dr_shape_set(config, "wal_config",
                     json_pack("{s:i, s:i}", "wal_capacity_mb", 32, "wal_segments_ahead", 0)) &&
        dr_shape_set(config, "quantization_config", json_null());
    if (is_whole && json_object_get(info->metadata, "metadata") != NULL) {
        is_whole = dr_shape_set(config, "metadata", given_or_empty(info, "metadata"));
    }
    if (!is_whole) {
        json_decref(config);
        return NULL;
    }
    return config;
}

/* green: all replicas are well; yellow: all shards can be read; red: one cannot. */
static const char *status_of(const struct dr_collection_info *info)
{
    const char *status = "green";
    for (uint32_t i = 0; i < info->shard_count; i++) {
        bool is_readable = false;
        for (uint32_t k = 0; k < info->shard[i].replica_count; k++) {
            enum dr_replica_state state = info->shard[i].replica[k].state;
            is_readable = is_readable || dr_replica_is_readable(state);
            if (state != DR_REPLICA_ACTIVE) {
                status = "yellow";
            }
        }
        if (!is_readable) {
            return "red";
        }
    }
    return status;
}

json_t *dr_shape_collection(struct dr_cluster *c, const struct dr_catalog *cat,
                            const struct dr_collection_info *info)
{
    struct dr_err err = {0};
    uint64_t points = 0;
    /* A count that cannot be had is no reason to hide the collection. */
    bool is_counted = dr_points_count_all(c, cat, info, &points, &err);
    const char *status = status_of(info);
    if (!is_counted && strcmp(status, "green") == 0) {
        status = "yellow";
    }
    json_t *j = json_pack("{s:s, s:s, s:I, s:{}}", "status", status, "optimizer_status", "ok",
                          "segments_count", (json_int_t)info->shard_count, "payload_schema");
    if (j == NULL) {
        return NULL;
    }
    if (!dr_shape_set(j, "points_count",
                      is_counted ? json_integer((json_int_t)points) : json_null()) ||
        !dr_shape_set(j, "indexed_vectors_count", is_counted ? json_integer(0) : json_null()) ||
        !dr_shape_set(j, "config", shape_config(info))) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* --- GET /collections/{c}/cluster ----------------------------------------------------------------
 */

static bool add_shard_key(json_t *j, const struct dr_shard *s)
{
    return !s->has_key || dr_shape_set(j, "shard_key", dr_shard_key_to_json(&s->key));
}

static uint64_t count_local(struct dr_cluster *c, const struct dr_collection_info *info,
                            const struct dr_shard *s)
{
    struct shard_rows *f = NULL;
    uint64_t count = 0;
    if (dr_shards_take(&c->shards, info->uuid, s->id, false, &f, NULL) != DR_OK || f == NULL) {
        return 0;
    }
    if (dr_shard_count(f, dr_points_read_ring(info, s), &count, NULL) != DR_OK) {
        count = 0;
    }
    dr_shards_give(&c->shards, f);
    return count;
}

static bool add_replica(struct dr_cluster *c, const struct dr_collection_info *info,
                        const struct dr_shard *s, const struct dr_replica *r, json_t *local,
                        json_t *remote)
{
    bool is_local = r->peer_id == c->id;
    json_t *j = json_pack("{s:I, s:s}", "shard_id", (json_int_t)s->id, "state",
                          dr_replica_state_name(r->state));
    if (j == NULL) {
        return false;
    }
    bool is_whole = add_shard_key(j, s);
    if (is_local) {
        is_whole = is_whole && dr_shape_set(j, "points_count",
                                            json_integer((json_int_t)count_local(c, info, s)));
    } else {
        is_whole = is_whole && dr_shape_set(j, "peer_id", json_integer((json_int_t)r->peer_id));
    }
    if (!is_whole) {
        json_decref(j);
        return false;
    }
    return json_array_append_new(is_local ? local : remote, j) == 0;
}

static json_t *shape_transfers(const struct dr_collection_info *info)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < info->transfer_count; i++) {
        const struct dr_transfer *t = &info->transfer[i];
        json_t *j = json_pack("{s:I, s:I, s:I, s:b, s:s}", "shard_id", (json_int_t)t->shard_id,
                              "from", (json_int_t)t->from, "to", (json_int_t)t->to, "sync",
                              (int)t->is_sync, "method", t->method);
        bool is_whole = j != NULL;
        if (is_whole && t->has_to_shard) {
            is_whole = dr_shape_set(j, "to_shard_id", json_integer(t->to_shard_id));
        }
        if (!is_whole || json_array_append_new(list, j) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *shape_resharding(const struct dr_resharding *r)
{
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:I}", "uuid", r->uuid, "direction", r->is_up ? "up" : "down",
                  "shard_id", (json_int_t)r->shard_id, "peer_id", (json_int_t)r->peer_id);
    if (j != NULL &&
        !dr_shape_set(j, "shard_key", r->has_key ? dr_shard_key_to_json(&r->key) : json_null())) {
        json_decref(j);
        return NULL;
    }
    return j == NULL ? NULL : json_pack("[o]", j);
}

json_t *dr_shape_collection_cluster(struct dr_cluster *c, const struct dr_collection_info *info)
{
    json_t *local = json_array();
    json_t *remote = json_array();
    json_t *j = json_pack("{s:I, s:I}", "peer_id", (json_int_t)c->id, "shard_count",
                          (json_int_t)info->shard_count);
    bool is_whole = local != NULL && remote != NULL && j != NULL;
    for (uint32_t i = 0; is_whole && i < info->shard_count; i++) {
        const struct dr_shard *s = &info->shard[i];
        for (uint32_t k = 0; is_whole && k < s->replica_count; k++) {
            is_whole = add_replica(c, info, s, &s->replica[k], local, remote);
        }
    }
    is_whole = is_whole && json_object_set(j, "local_shards", local) == 0 &&
               json_object_set(j, "remote_shards", remote) == 0 &&
               dr_shape_set(j, "shard_transfers", shape_transfers(info));
    if (is_whole && info->resharding != NULL) {
        is_whole = dr_shape_set(j, "resharding_operations", shape_resharding(info->resharding));
    }
    json_decref(local);
    json_decref(remote);
    if (!is_whole) {
        json_decref(j);
        return NULL;
    }
    return j;
}
