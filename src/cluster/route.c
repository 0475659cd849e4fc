/* SPDX-License-Identifier: Apache-2.0 */
/* The route verb: where the points of these ids are, for applications that go there themselves. */
#include <string.h>

#include "cluster/cluster_private.h"

/* The peer's API, and where the shard's rows are in the peer's store, null when that is not known.
 */
static json_t *shape_replica(const struct point_route *r, const struct dr_shard *s,
                             const struct dr_replica *replica)
{
    char *store = NULL;
    char *table = NULL;
    json_t *one = NULL;
    const struct dr_peer *p = dr_catalog_peer(r->cat, replica->peer_id);
    bool is_known = p != NULL && p->store[0] != '\0';
    if (!is_known || dr_shards_locate(p->store, r->info->uuid, s->id, &store, &table)) {
        one = json_pack("{s:I, s:s, s:s?, s:s?, s:s?}", "peer_id", (json_int_t)replica->peer_id,
                        "state", dr_replica_state_name(replica->state), "uri",
                        p == NULL ? NULL : p->uri, "store", store, "table", table);
    }
    dr_free(store);
    dr_free(table);
    return one;
}

static json_t *shape_replicas(const struct point_route *r, const struct dr_shard *s)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < s->replica_count; i++) {
        json_t *one = shape_replica(r, s, &s->replica[i]);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static bool add_place(const struct point_route *r, const struct dr_point_id *id, uint32_t shard_id,
                      json_t *list)
{
    const struct dr_shard *s = dr_collection_shard(r->info, shard_id);
    json_t *j = json_pack("{s:I}", "shard_id", (json_int_t)shard_id);
    if (j == NULL || json_array_append_new(list, j) != 0) {
        return false;
    }
    return dr_shape_set(j, "id", dr_point_id_to_json(id)) &&
           (!s->has_key || dr_shape_set(j, "shard_key", dr_shard_key_to_json(&s->key))) &&
           dr_shape_set(j, "replicas", shape_replicas(r, s));
}

/* Each id alone, so that the answer keeps the order of the question. */
static enum dr_code route_one(struct point_route *r, const json_t *given, json_t *list,
                              struct dr_err *err)
{
    struct dr_point_id id;
    enum dr_code rc = dr_point_id_from_json(given, "ids", &id, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_points_aim(r, &id, 0, false, err);
    for (uint32_t i = 0; rc == DR_OK && i < r->target_count; i++) {
        if (r->target[i].count > 0 && !add_place(r, &id, r->target[i].shard_id, list)) {
            rc = dr_fail_nomem(err);
        }
        r->target[i].count = 0;
    }
    return rc;
}

void dr_cluster_route(struct dr_cluster *c, const struct dr_cluster_caller *who,
                      const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    struct point_route r;
    json_t *list = NULL;
    enum dr_code rc = DR_OK;
    const json_t *ids = json_object_get(body, "ids");
    memset(reply, 0, sizeof *reply);
    if (!dr_points_begin(c, who, collection, json_object_get(body, "shard_key"), &r, reply)) {
        goto out;
    }
    if (!json_is_array(ids) || json_array_size(ids) > POINTS_IDS_MAX) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "ids: expected a list of at most %d ids",
                      POINTS_IDS_MAX);
        goto out;
    }
    list = json_array();
    rc = list == NULL ? dr_fail_nomem(&err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(ids); i++) {
        rc = route_one(&r, json_array_get(ids, i), list, &err);
    }
    if (rc != DR_OK) {
        json_decref(list);
        dr_reply_class_err(reply, rc == DR_INPUT ? DR_CLASS_BAD_REQUEST : DR_CLASS_SERVICE, &err);
    } else {
        dr_reply_give(reply, list);
    }
out:
    dr_points_end(&r);
}
