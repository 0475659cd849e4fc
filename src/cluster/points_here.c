/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what is on this peer: the points of one shard at a time, for this peer's own requests and
 * for those of others. */
#include <string.h>

#include "cluster/cluster_private.h"

enum {
    CATCH_UP_MS = 2000,
    PAGE_BYTES_MAX = 8 * 1024 * 1024, /* of one answer between peers */
    GET_BYTES_MAX = 32 * 1024 * 1024,
};

struct page_taker {
    json_t *points;
    const struct dr_ring *ring;
    uint32_t shard_id;
    uint64_t limit;
    size_t bytes, bytes_max;
    json_t *next; /* id of the first row that did not fit */
    bool is_short;
};

static bool append_point(json_t *points, const struct point_row *row)
{
    json_t *one = json_array();
    bool is_whole = one != NULL &&
                    json_array_append_new(one, dr_point_key_to_json(row->key, row->key_len)) == 0 &&
                    json_array_append_new(one, json_string(row->doc)) == 0;
    return json_array_append_new(points, one) == 0 && is_whole;
}

static bool take_page_row(void *arg, const struct point_row *row)
{
    struct page_taker *t = arg;
    if (dr_ring_owner(t->ring, row->hash) != t->shard_id) {
        return true;
    }
    size_t count = json_array_size(t->points);
    if (count >= t->limit || (count > 0 && t->bytes >= t->bytes_max)) {
        t->next = dr_point_key_to_json(row->key, row->key_len);
        t->is_short = t->next == NULL;
        return false;
    }
    t->bytes += strlen(row->doc) + 64;
    t->is_short = !append_point(t->points, row);
    return !t->is_short;
}

struct get_taker {
    json_t *points;
    size_t bytes;
    bool is_short;
};

static bool take_got_row(void *arg, const struct point_row *row)
{
    struct get_taker *t = arg;
    if (row->doc != NULL) {
        t->bytes += strlen(row->doc) + 64;
        t->is_short = !append_point(t->points, row);
    }
    return false;
}

struct read_here {
    struct dr_cluster *c;
    const struct dr_collection_info *info;
    const json_t *body;
    const char *op;
    struct shard_rows *file; /* NULL: no point was ever written here */
    const struct dr_shard *shard;
    size_t at; /* of the shard in the request */
    size_t bytes_max;
    struct get_taker got;
};

static enum dr_code scroll_here(struct read_here *h, json_t **out, struct dr_err *err)
{
    struct point_key from;
    struct dr_point_id id;
    enum dr_code rc = DR_OK;
    const json_t *offset = json_object_get(h->body, "offset");
    struct page_taker t = {.points = json_array(),
                           .ring = dr_points_read_ring(h->info, h->shard),
                           .shard_id = h->shard->id,
                           .limit = (uint64_t)json_integer_value(json_object_get(h->body, "limit")),
                           .bytes_max = h->bytes_max};
    bool has_offset = offset != NULL && !json_is_null(offset);
    if (has_offset) {
        rc = dr_point_id_from_json(offset, "offset", &id, err);
    }
    if (rc == DR_OK && has_offset) {
        dr_point_key_make(&id, &from);
    }
    if (rc == DR_OK && t.points == NULL) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK && h->file != NULL && t.ring != NULL) {
        rc = dr_shard_walk(h->file, has_offset ? &from : NULL, take_page_row, &t, err);
    }
    if (rc == DR_OK && t.is_short) {
        rc = dr_fail_nomem(err);
    }
    if (rc != DR_OK) {
        json_decref(t.points);
        json_decref(t.next);
        return rc;
    }
    *out =
        json_pack("{s:o, s:o}", "points", t.points, "next", t.next == NULL ? json_null() : t.next);
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code get_here(struct read_here *h, json_t **out, struct dr_err *err)
{
    const json_t *ids = json_array_get(json_object_get(h->body, "ids"), h->at);
    enum dr_code rc = DR_OK;
    h->got.points = json_array();
    if (h->got.points == NULL) {
        return dr_fail_nomem(err);
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(ids) && h->file != NULL; i++) {
        struct dr_point_id id;
        struct point_key key;
        rc = dr_point_id_from_json(json_array_get(ids, i), "ids", &id, err);
        if (rc == DR_OK) {
            dr_point_key_make(&id, &key);
            rc = dr_shard_get(h->file, &key, take_got_row, &h->got, err);
        }
        if (rc == DR_OK && h->got.is_short) {
            rc = dr_fail_nomem(err);
        }
        if (rc == DR_OK && h->got.bytes > GET_BYTES_MAX) {
            rc = dr_fail(err, DR_REFUSED,
                         "these points are more than %d bytes: ask for fewer ids "
                         "at a time",
                         GET_BYTES_MAX);
        }
    }
    if (rc != DR_OK) {
        json_decref(h->got.points);
        return rc;
    }
    *out = h->got.points;
    return DR_OK;
}

static enum dr_code count_here(struct read_here *h, json_t **out, struct dr_err *err)
{
    uint64_t count = 0;
    enum dr_code rc = DR_OK;
    if (h->file != NULL) {
        rc = dr_shard_count(h->file, dr_points_read_ring(h->info, h->shard), &count, err);
    }
    if (rc == DR_OK) {
        *out = json_integer((json_int_t)count);
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    return rc;
}

/* The shard, if this peer has a readable replica of it. */
static const struct dr_shard *find_readable(const struct read_here *h, uint32_t shard_id)
{
    const struct dr_shard *s = dr_collection_shard(h->info, shard_id);
    for (uint32_t i = 0; s != NULL && i < s->replica_count; i++) {
        if (s->replica[i].peer_id == h->c->id && dr_replica_is_readable(s->replica[i].state)) {
            return s;
        }
    }
    return NULL;
}

static enum dr_code read_shard(struct read_here *h, json_t **out, struct dr_err *err)
{
    enum dr_code rc =
        dr_shards_take(&h->c->shards, h->info->uuid, h->shard->id, false, &h->file, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (h->file != NULL && atomic_load(&h->file->is_closing)) {
        rc = dr_fail(err, DR_STALE, "shard %u is moving away", h->shard->id);
    } else if (strcmp(h->op, "scroll") == 0) {
        rc = scroll_here(h, out, err);
    } else if (strcmp(h->op, "get") == 0) {
        rc = get_here(h, out, err);
    } else if (strcmp(h->op, "count") == 0) {
        rc = count_here(h, out, err);
    } else {
        rc = dr_fail(err, DR_UNSUPPORTED, "points/read: no operation is named %.32s", h->op);
    }
    dr_shards_give(&h->c->shards, h->file);
    h->file = NULL;
    return rc;
}

/* DR_STALE: what was asked for is not here, or not any more. */
static enum dr_code read_all(struct read_here *h, const char *uuid, json_t *out, struct dr_err *err)
{
    const json_t *shards = json_object_get(h->body, "shards");
    size_t count = json_array_size(shards);
    enum dr_code rc = DR_OK;
    if (h->info == NULL || strcmp(h->info->uuid, uuid) != 0) {
        return DR_STALE;
    }
    h->bytes_max = count == 0 ? PAGE_BYTES_MAX : PAGE_BYTES_MAX / count;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        json_t *one = NULL;
        h->at = i;
        h->shard = find_readable(h, (uint32_t)json_integer_value(json_array_get(shards, i)));
        if (h->shard == NULL) {
            return DR_STALE;
        }
        rc = read_shard(h, &one, err);
        if (rc == DR_OK && json_array_append_new(out, one) != 0) {
            rc = dr_fail_nomem(err);
        }
    }
    return rc;
}

void dr_points_read_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    const char *collection = json_string_value(json_object_get(body, "collection"));
    const char *uuid = json_string_value(json_object_get(body, "uuid"));
    const char *op = json_string_value(json_object_get(body, "op"));
    uint64_t index = (uint64_t)json_integer_value(json_object_get(body, "index"));
    json_t *out = json_array();
    if (collection == NULL || uuid == NULL || op == NULL || out == NULL) {
        json_decref(out);
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "points/read: collection, uuid, op are needed");
        return;
    }
    struct dr_catalog *cat = dr_cluster_catalog(c);
    if (dr_catalog_index(cat) < index) {
        dr_catalog_unref(cat);
        /* Should it take longer, the look below says so. */
        enum dr_code waited = dr_node_wait_applied(c->node, index, CATCH_UP_MS, NULL);
        (void)waited;
        cat = dr_cluster_catalog(c);
    }
    struct read_here h = {.c = c, .info = dr_catalog_find(cat, collection), .body = body, .op = op};
    enum dr_code rc = read_all(&h, uuid, out, &err);
    uint64_t index_here = dr_catalog_index(cat);
    dr_catalog_unref(cat);
    if (rc == DR_OK || rc == DR_STALE) {
        dr_reply_give(reply, json_pack("{s:b, s:I, s:O}", "stale", (int)(rc == DR_STALE), "index",
                                       (json_int_t)index_here, "shards", out));
    } else {
        dr_reply_err(reply, &err);
    }
    json_decref(out);
}
