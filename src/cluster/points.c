/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs that change points: reading the bodies that clients send. What cannot be done is
 * refused, never passed over: a filter that was ignored would delete everything. */
#include <string.h>

#include "cluster/cluster_private.h"

static void free_ops(struct point_op *op, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_decref(op[i].owned_id);
        dr_free(op[i].owned_doc);
    }
    dr_free(op);
}

static enum dr_code read_id(const json_t *given, const char *where, struct point_op *op,
                            struct dr_err *err)
{
    enum dr_code rc = dr_point_id_from_json(given, where, &op->id, err);
    if (rc == DR_OK) {
        op->owned_id = json_incref((json_t *)given);
    }
    return rc;
}

/* Vector and payload as they are kept. Nulls are as good as absent. */
static enum dr_code make_doc(const json_t *vector, const json_t *payload, struct point_op *op,
                             struct dr_err *err)
{
    json_t *doc = json_object();
    enum dr_code rc = DR_OK;
    if (payload != NULL && !json_is_null(payload) && !json_is_object(payload)) {
        rc = dr_fail(err, DR_INPUT, "payload: expected an object");
        goto out;
    }
    if (doc == NULL ||
        (vector != NULL && !json_is_null(vector) &&
         json_object_set(doc, "vector", (json_t *)vector) != 0) ||
        (payload != NULL && !json_is_null(payload) &&
         json_object_set(doc, "payload", (json_t *)payload) != 0)) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    op->owned_doc = dr_json_text(doc);
    op->doc = op->owned_doc;
    if (op->doc == NULL) {
        rc = dr_fail_nomem(err);
    } else if (strlen(op->doc) > POINT_BYTES_MAX) {
        rc = dr_fail(err, DR_INPUT, "a point of %zu bytes; at most %d are possible",
                     strlen(op->doc), POINT_BYTES_MAX);
    }
out:
    json_decref(doc);
    return rc;
}

static enum dr_code read_points(const json_t *list, struct point_op *op, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        if (!json_is_object(p) || json_object_get(p, "id") == NULL) {
            return dr_fail(err, DR_INPUT, "points[%zu]: expected an object with an id", i);
        }
        rc = read_id(json_object_get(p, "id"), "points: id", &op[i], err);
        if (rc == DR_OK) {
            rc = make_doc(json_object_get(p, "vector"), json_object_get(p, "payload"), &op[i], err);
        }
    }
    return rc;
}

/* Columns instead of rows. Named vectors come as an object of lists. */
static enum dr_code batch_vector(const json_t *vectors, size_t i, json_t **out, struct dr_err *err)
{
    *out = NULL;
    if (vectors == NULL || json_is_null(vectors)) {
        return DR_OK;
    }
    if (json_is_array(vectors)) {
        *out = json_incref(json_array_get(vectors, i));
        return *out == NULL ? dr_fail(err, DR_INPUT, "batch.vectors: shorter than ids") : DR_OK;
    }
    json_t *named = json_object();
    json_t *from = (json_t *)vectors; /* jansson's iterator only reads through it */
    enum dr_code rc = named == NULL ? dr_fail_nomem(err) : DR_OK;
    for (void *at = json_object_iter(from); rc == DR_OK && at != NULL;
         at = json_object_iter_next(from, at)) {
        json_t *one = json_array_get(json_object_iter_value(at), i);
        if (one == NULL) {
            rc = dr_fail(err, DR_INPUT, "batch.vectors.%.64s: shorter than ids",
                         json_object_iter_key(at));
        } else if (json_object_set(named, json_object_iter_key(at), one) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    if (rc != DR_OK) {
        json_decref(named);
        return rc;
    }
    *out = named;
    return DR_OK;
}

static enum dr_code read_batch(const json_t *batch, struct point_op *op, struct dr_err *err)
{
    const json_t *ids = json_object_get(batch, "ids");
    const json_t *payloads = json_object_get(batch, "payloads");
    enum dr_code rc = DR_OK;
    if (payloads != NULL && !json_is_null(payloads) &&
        json_array_size(payloads) != json_array_size(ids)) {
        return dr_fail(err, DR_INPUT, "batch.payloads: expected as many as ids");
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(ids); i++) {
        json_t *vector = NULL;
        rc = read_id(json_array_get(ids, i), "batch.ids", &op[i], err);
        if (rc == DR_OK) {
            rc = batch_vector(json_object_get(batch, "vectors"), i, &vector, err);
        }
        if (rc == DR_OK) {
            rc = make_doc(vector, json_array_get(payloads, i), &op[i], err);
        }
        json_decref(vector);
    }
    return rc;
}

/* The list of the body, checked for its size; NULL: see the reply. */
static const json_t *need_list(const json_t *list, const char *where,
                               struct dr_cluster_reply *reply)
{
    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > POINTS_IDS_MAX) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "%s: expected a list of 1 to %d", where,
                      POINTS_IDS_MAX);
        return NULL;
    }
    return list;
}

void dr_points_upsert(struct dr_cluster *c, const struct dr_cluster_caller *who,
                      const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    memset(reply, 0, sizeof *reply);
    const json_t *batch = json_object_get(body, "batch");
    const json_t *list = batch != NULL
                             ? need_list(json_object_get(batch, "ids"), "batch.ids", reply)
                             : need_list(json_object_get(body, "points"), "points", reply);
    if (list == NULL) {
        return;
    }
    if (json_object_get(body, "update_filter") != NULL &&
        !json_is_null(json_object_get(body, "update_filter"))) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "update_filter: filters are not possible here");
        return;
    }
    size_t count = json_array_size(list);
    struct point_op *op = dr_calloc(count, sizeof *op);
    enum dr_code rc = op == NULL      ? dr_fail_nomem(&err)
                      : batch != NULL ? read_batch(batch, op, &err)
                                      : read_points(list, op, &err);
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
    } else {
        dr_points_write(c, who, collection, json_object_get(body, "shard_key"), op, count, reply);
    }
    if (op != NULL) {
        free_ops(op, count);
    }
}

void dr_points_delete(struct dr_cluster *c, const struct dr_cluster_caller *who,
                      const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    memset(reply, 0, sizeof *reply);
    if (json_object_get(body, "filter") != NULL) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT,
                      "filter: points are deleted by their ids here, {\"points\": [ids]}");
        return;
    }
    const json_t *list = need_list(json_object_get(body, "points"), "points", reply);
    if (list == NULL) {
        return;
    }
    size_t count = json_array_size(list);
    struct point_op *op = dr_calloc(count, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(&err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = read_id(json_array_get(list, i), "points", &op[i], &err);
    }
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
    } else {
        dr_points_write(c, who, collection, json_object_get(body, "shard_key"), op, count, reply);
    }
    if (op != NULL) {
        free_ops(op, count);
    }
}
