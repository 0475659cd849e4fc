/* SPDX-License-Identifier: Apache-2.0 */
/* Owns reading points: each shard from one readable replica, this peer's own first, the next one
 * when that does not answer. A shard that nobody can read is an error: an answer is whole or none.
 *
 * An id counts for the shard that the ring gives it to; what a resharding left behind elsewhere is
 * not seen. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "cluster/cluster_private.h"

enum {
    CATCH_UP_MS = 2000,
    STALE_PAUSE_MS = 5,
};

/* --- from all shards
 * ----------------------------------------------------------------------------------- */

/* Called once for each target with its part of the answer. */
typedef enum dr_code take_part_fn(void *arg, const struct point_target *t, const json_t *part,
                                  struct dr_err *err);
struct read_plan {
    struct dr_cluster *c;
    struct point_route *r;
    const char *op;
    const json_t *offset;
    uint64_t limit;
    const json_t *ids;
    take_part_fn *take;
    void *arg;
    uint64_t timeout_ms;
    uint32_t *tries; /* of each target; UINT32_MAX: done */
    bool is_stale;
    uint64_t stale_index;
    char why[256];
};

/* The peer to ask for this target now; 0: nobody is left. */
static uint64_t choose_peer(const struct read_plan *p, uint32_t target)
{
    uint64_t peer[DR_REPLICAS_MAX];
    const struct dr_shard *s = dr_collection_shard(p->r->info, p->r->target[target].shard_id);
    uint32_t count = dr_points_readers(p->c, s, peer);
    return p->tries[target] < count ? peer[p->tries[target]] : 0;
}

static json_t *make_ids(const struct read_plan *p, const struct point_target *t)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < t->count; i++) {
        if (json_array_append(list, json_array_get(p->ids, t->at[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *make_body(const struct read_plan *p, uint64_t peer_id, const uint64_t *chosen)
{
    json_t *shards = json_array();
    json_t *ids = json_array();
    json_t *body =
        json_pack("{s:s, s:s, s:I, s:s, s:I, s:O?}", "collection", p->r->info->name, "uuid",
                  p->r->info->uuid, "index", (json_int_t)dr_catalog_index(p->r->cat), "op", p->op,
                  "limit", (json_int_t)p->limit, "offset", p->offset);
    bool is_whole = shards != NULL && ids != NULL && body != NULL;
    for (uint32_t i = 0; is_whole && i < p->r->target_count; i++) {
        const struct point_target *t = &p->r->target[i];
        if (chosen[i] != peer_id) {
            continue;
        }
        is_whole = json_array_append_new(shards, json_integer(t->shard_id)) == 0 &&
                   (p->ids == NULL || json_array_append_new(ids, make_ids(p, t)) == 0);
    }
    is_whole = is_whole && json_object_set(body, "shards", shards) == 0 &&
               json_object_set(body, "ids", ids) == 0;
    json_decref(shards);
    json_decref(ids);
    if (!is_whole) {
        json_decref(body);
        return NULL;
    }
    return body;
}

static enum dr_code take_answer(struct read_plan *p, const struct peer_call *call,
                                const uint64_t *chosen, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    size_t at = 0;
    struct dr_err why = {0};
    if (call->failure == DR_HTTP_NONE &&
        (call->reply.class == DR_CLASS_BAD_REQUEST || call->reply.class == DR_CLASS_BAD_INPUT)) {
        return dr_fail(err, DR_REFUSED, "%s", call->reply.message); /* any peer would say so */
    }
    bool is_good = dr_peers_judge(call, &why) == DR_OK;
    const json_t *parts = json_object_get(call->reply.result, "shards");
    if (is_good && json_is_true(json_object_get(call->reply.result, "stale"))) {
        uint64_t index = (uint64_t)json_integer_value(json_object_get(call->reply.result, "index"));
        p->is_stale = true;
        p->stale_index = index > p->stale_index ? index : p->stale_index;
        return DR_OK;
    }
    if (!is_good) {
        dr_copy_text(p->why, sizeof p->why, why.msg);
    }
    for (uint32_t i = 0; rc == DR_OK && i < p->r->target_count; i++) {
        if (chosen[i] != call->peer_id) {
            continue;
        }
        if (!is_good) {
            p->tries[i]++;
            continue;
        }
        p->tries[i] = UINT32_MAX;
        rc = p->take(p->arg, &p->r->target[i], json_array_get(parts, at++), err);
    }
    return rc;
}

static void ask_here(struct read_plan *p, struct peer_call *call)
{
    dr_points_read_here(p->c, call->body, &call->reply);
    call->failure = DR_HTTP_NONE;
}

/* Ask each chosen peer once for all its targets. */
static enum dr_code ask_chosen(struct read_plan *p, const uint64_t *chosen, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint32_t count = 0;
    uint32_t remote = 0; /* those come first; this peer's own part last */
    struct peer_call *call = dr_calloc(p->r->target_count + 1, sizeof *call);
    if (call == NULL) {
        return dr_fail_nomem(err);
    }
    for (int is_own = 0; is_own < 2; is_own++) {
        for (uint32_t i = 0; rc == DR_OK && i < p->r->target_count; i++) {
            bool is_new = chosen[i] != 0 && (chosen[i] == p->c->id) == (is_own == 1);
            for (uint32_t k = 0; is_new && k < count; k++) {
                is_new = call[k].peer_id != chosen[i];
            }
            if (!is_new) {
                continue;
            }
            dr_peers_address(p->r->cat, chosen[i], &call[count]);
            call[count].name = "points/read";
            call[count].body = make_body(p, chosen[i], chosen);
            rc = call[count].body == NULL ? dr_fail_nomem(err) : DR_OK;
            count++;
        }
        remote = is_own == 0 ? count : remote;
    }
    if (rc == DR_OK) {
        dr_peers_ask(p->c, call, remote, p->timeout_ms);
        for (uint32_t i = remote; i < count; i++) {
            ask_here(p, &call[i]);
        }
    }
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = take_answer(p, &call[i], chosen, err);
    }
    for (uint32_t i = 0; i < count; i++) {
        json_decref(call[i].body);
    }
    dr_peers_free(call, count);
    return rc;
}

/* Until each target has been read, by one state of the catalog. DR_STALE: again by a newer one. */
static enum dr_code run_plan(struct read_plan *p, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    uint64_t *chosen = dr_calloc(p->r->target_count + 1, sizeof *chosen);
    p->tries = dr_calloc(p->r->target_count + 1, sizeof *p->tries);
    bool is_over = false;
    if (chosen == NULL || p->tries == NULL) {
        rc = dr_fail_nomem(err);
    }
    while (rc == DR_OK && !is_over) {
        is_over = true;
        for (uint32_t i = 0; rc == DR_OK && i < p->r->target_count; i++) {
            chosen[i] = 0;
            if (p->tries[i] == UINT32_MAX) {
                continue;
            }
            is_over = false;
            chosen[i] = choose_peer(p, i);
            if (chosen[i] == 0) {
                rc = dr_fail(err, DR_UNREACHABLE, "shard %u has no active replica%s%s",
                             p->r->target[i].shard_id,
                             p->why[0] == '\0' ? "" : " that answers: ", p->why);
            }
        }
        if (rc == DR_OK && !is_over) {
            rc = ask_chosen(p, chosen, err);
        }
        if (rc == DR_OK && p->is_stale) {
            rc = DR_STALE;
        }
    }
    dr_free(chosen);
    dr_free(p->tries);
    p->tries = NULL;
    return rc;
}

/* --- the verbs
 * ------------------------------------------------------------------------------------------ */

struct wanted_fields {
    bool is_payload, is_vector;
    const json_t *include, *exclude; /* names of payload fields; NULL: all, none */
    const json_t *vectors;           /* names; NULL: all */
};

struct read_verb {
    struct dr_cluster *c;
    const json_t *body;
    struct wanted_fields want;
    struct point_route *r;
    json_t *found; /* by key as text: {"id", "doc", "shard_id"}; or a list of such for scrolling */
    uint64_t count;
    struct point_key bound; /* ids from here on are not known */
    json_t *bound_id;
};

static enum dr_code read_wanted(const json_t *body, struct wanted_fields *w, struct dr_err *err)
{
    const json_t *payload = json_object_get(body, "with_payload");
    const json_t *vector = json_object_get(body, "with_vector");
    *w = (struct wanted_fields){.is_payload = true};
    if (json_is_boolean(payload)) {
        w->is_payload = json_is_true(payload);
    } else if (json_is_array(payload)) {
        w->include = payload;
    } else if (json_is_object(payload)) {
        w->include = json_object_get(payload, "include");
        w->exclude = json_object_get(payload, "exclude");
    } else if (payload != NULL && !json_is_null(payload)) {
        return dr_fail(err, DR_INPUT, "with_payload: expected true, false, or names of fields");
    }
    if (json_is_boolean(vector)) {
        w->is_vector = json_is_true(vector);
    } else if (json_is_array(vector)) {
        w->is_vector = true;
        w->vectors = vector;
    } else if (vector != NULL && !json_is_null(vector)) {
        return dr_fail(err, DR_INPUT, "with_vector: expected true, false, or names of vectors");
    }
    return DR_OK;
}

static bool is_named(const json_t *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *one = json_string_value(json_array_get(names, i));
        if (one != NULL && strcmp(one, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The members of an object that were asked for. */
static json_t *pick(json_t *from, const json_t *include, const json_t *exclude)
{
    if (!json_is_object(from)) {
        return json_incref(from);
    }
    json_t *to = json_object();
    for (void *at = json_object_iter(from); to != NULL && at != NULL;
         at = json_object_iter_next(from, at)) {
        const char *name = json_object_iter_key(at);
        if ((include == NULL || is_named(include, name)) &&
            (exclude == NULL || !is_named(exclude, name)) &&
            json_object_set(to, name, json_object_iter_value(at)) != 0) {
            json_decref(to);
            to = NULL;
        }
    }
    return to;
}

static json_t *make_record(const struct read_verb *v, const json_t *item)
{
    struct dr_err err = {0};
    json_t *doc = NULL;
    const char *text = json_string_value(json_object_get(item, "doc"));
    const struct dr_shard *s = dr_collection_shard(
        v->r->info, (uint32_t)json_integer_value(json_object_get(item, "shard_id")));
    json_t *record = json_pack("{s:O}", "id", json_object_get(item, "id"));
    if (record == NULL || dr_json_parse("point", text == NULL ? "{}" : text,
                                        text == NULL ? 2 : strlen(text), &doc, &err) != DR_OK) {
        goto fail;
    }
    if (v->want.is_payload) {
        json_t *payload = json_object_get(doc, "payload");
        if (!dr_shape_set(record, "payload",
                          payload == NULL ? json_object()
                                          : pick(payload, v->want.include, v->want.exclude))) {
            goto fail;
        }
    }
    if (v->want.is_vector) {
        json_t *vector = json_object_get(doc, "vector");
        if (!dr_shape_set(record, "vector",
                          vector == NULL ? json_object() : pick(vector, v->want.vectors, NULL))) {
            goto fail;
        }
    }
    if (s != NULL && s->has_key &&
        !dr_shape_set(record, "shard_key", dr_shard_key_to_json(&s->key))) {
        goto fail;
    }
    json_decref(doc);
    return record;
fail:
    json_decref(doc);
    json_decref(record);
    return NULL;
}

/* Keys as texts in the order of ids, so that an object of them sorts. */
static char *key_text(const json_t *id, struct point_key *key)
{
    static const char digits[] = "0123456789abcdef";
    struct dr_point_id parsed;
    if (dr_point_id_from_json(id, "id", &parsed, NULL) != DR_OK) {
        return NULL;
    }
    dr_point_key_make(&parsed, key);
    char *text = dr_malloc(key->len * 2 + 1);
    for (size_t i = 0; text != NULL && i < key->len; i++) {
        text[2 * i] = digits[key->data[i] >> 4];
        text[2 * i + 1] = digits[key->data[i] & 15];
    }
    if (text != NULL) {
        text[key->len * 2] = '\0';
    }
    return text;
}

/* [[id, doc], ...] of one shard into `found`; of an id under several keys the first stays. */
static enum dr_code note_points(struct read_verb *v, const json_t *points, uint32_t shard_id,
                                struct dr_err *err)
{
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *one = json_array_get(points, i);
        struct point_key key;
        char *name = key_text(json_array_get(one, 0), &key);
        if (name == NULL) {
            return dr_fail_nomem(err);
        }
        bool is_new = json_object_get(v->found, name) == NULL;
        bool is_set =
            !is_new ||
            dr_shape_set(v->found, name,
                         json_pack("{s:O, s:O, s:I}", "id", json_array_get(one, 0), "doc",
                                   json_array_get(one, 1), "shard_id", (json_int_t)shard_id));
        dr_free(name);
        if (!is_set) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static enum dr_code take_got(void *arg, const struct point_target *t, const json_t *part,
                             struct dr_err *err)
{
    return note_points(arg, part, t->shard_id, err);
}

static enum dr_code take_count(void *arg, const struct point_target *t, const json_t *part,
                               struct dr_err *err)
{
    struct read_verb *v = arg;
    (void)t;
    (void)err;
    v->count += (uint64_t)json_integer_value(part);
    return DR_OK;
}

static int compare_keys(const struct point_key *a, const struct point_key *b)
{
    int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static enum dr_code take_page(void *arg, const struct point_target *t, const json_t *part,
                              struct dr_err *err)
{
    struct read_verb *v = arg;
    struct dr_point_id id;
    struct point_key key;
    json_t *next = json_object_get(part, "next");
    if (next != NULL && !json_is_null(next)) {
        enum dr_code rc = dr_point_id_from_json(next, "next", &id, err);
        if (rc != DR_OK) {
            return rc;
        }
        dr_point_key_make(&id, &key);
        if (v->bound_id == NULL || compare_keys(&key, &v->bound) < 0) {
            json_decref(v->bound_id);
            v->bound_id = json_incref(next);
            v->bound = key;
        }
    }
    return note_points(v, json_object_get(part, "points"), t->shard_id, err);
}

static void reset_verb(struct read_verb *v)
{
    json_decref(v->found);
    json_decref(v->bound_id);
    v->found = json_object();
    v->bound_id = NULL;
    v->count = 0;
}

/* Route, read, and again when the catalog changed below. True: *v has what was read and `r` is
 * open, for the shape of the answer; the caller ends it. */
static bool read_until_fresh(struct dr_cluster *c, const struct dr_cluster_caller *who,
                             const char *collection, struct read_plan *p, struct read_verb *v,
                             struct point_route *r, struct dr_cluster_reply *reply)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)dr_caller_timeout(who);
    for (;;) {
        struct dr_err err = {0};
        enum dr_code rc = DR_OK;
        reset_verb(v);
        if (!dr_points_begin(c, who, collection, json_object_get(v->body, "shard_key"), r, reply)) {
            return false;
        }
        v->r = r;
        dr_mono_ms left = until - dr_mono_now();
        p->c = c;
        p->r = r;
        p->is_stale = false;
        p->timeout_ms = left < 1 ? 1 : (uint64_t)left;
        if (p->ids == NULL) {
            rc = dr_points_aim_all(r, &err);
        }
        for (size_t i = 0; rc == DR_OK && i < json_array_size(p->ids); i++) {
            struct dr_point_id id;
            rc = dr_point_id_from_json(json_array_get(p->ids, i), "ids", &id, &err);
            if (rc == DR_OK) {
                rc = dr_points_aim(r, &id, i, false, &err);
            }
        }
        if (rc == DR_INPUT) {
            dr_reply_class_err(reply, DR_CLASS_BAD_REQUEST, &err);
            return false;
        }
        if (rc == DR_OK) {
            rc = run_plan(p, &err);
        }
        if (rc != DR_STALE) {
            if (rc != DR_OK) {
                dr_reply_err(reply, &err);
            }
            return rc == DR_OK;
        }
        dr_points_end(r);
        left = until - dr_mono_now();
        if (left <= 0) {
            dr_reply_fail(reply, DR_CLASS_TIMEOUT, "the collection kept changing under this read");
            return false;
        }
        enum dr_code waited = dr_node_wait_applied(
            c->node, p->stale_index, left < CATCH_UP_MS ? (uint32_t)left : CATCH_UP_MS, NULL);
        (void)waited; /* the next round tells */
        (void)dr_wait_ms(STALE_PAUSE_MS, dr_cluster_is_stopping, c);
    }
}

static void end_verb(struct read_verb *v, struct point_route *r)
{
    json_decref(v->found);
    json_decref(v->bound_id);
    if (r->arena != NULL || r->cat != NULL) {
        dr_points_end(r);
    }
}

/* In the order of the question; what is not there is left out. */
void dr_points_get(struct dr_cluster *c, const struct dr_cluster_caller *who,
                   const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    struct point_route r = {0};
    struct read_verb v = {.c = c, .body = body};
    struct read_plan p = {
        .op = "get", .ids = json_object_get(body, "ids"), .take = take_got, .arg = &v};
    memset(reply, 0, sizeof *reply);
    if (!json_is_array(p.ids) || json_array_size(p.ids) > POINTS_IDS_MAX) {
        dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "ids: expected a list of at most %d ids",
                      POINTS_IDS_MAX);
        return;
    }
    if (read_wanted(body, &v.want, &err) != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    if (read_until_fresh(c, who, collection, &p, &v, &r, reply)) {
        json_t *list = json_array();
        for (size_t i = 0; list != NULL && i < json_array_size(p.ids); i++) {
            struct point_key key;
            char *name = key_text(json_array_get(p.ids, i), &key);
            json_t *item = name == NULL ? NULL : json_object_get(v.found, name);
            bool is_added = item == NULL || json_array_append_new(list, make_record(&v, item)) == 0;
            if (name == NULL || !is_added) {
                json_decref(list);
                list = NULL;
            } else if (item != NULL) {
                (void)json_object_del(v.found, name); /* once, however often it was asked for */
            }
            dr_free(name);
        }
        dr_reply_give(reply, list);
    }
    end_verb(&v, &r);
}

static bool refuse_filter(const json_t *body, const char *field, struct dr_cluster_reply *reply)
{
    const json_t *given = json_object_get(body, field);
    if (given == NULL || json_is_null(given) ||
        (json_is_object(given) && json_object_size(given) == 0)) {
        return false;
    }
    dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "%s: not possible here; points are found by their ids",
                  field);
    return true;
}

void dr_points_count(struct dr_cluster *c, const struct dr_cluster_caller *who,
                     const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct point_route r = {0};
    struct read_verb v = {.c = c, .body = body};
    struct read_plan p = {.op = "count", .take = take_count, .arg = &v};
    memset(reply, 0, sizeof *reply);
    if (refuse_filter(body, "filter", reply)) {
        return;
    }
    if (read_until_fresh(c, who, collection, &p, &v, &r, reply)) {
        dr_reply_give(reply, json_pack("{s:I}", "count", (json_int_t)v.count));
    }
    end_verb(&v, &r);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The first `limit` known ids, in order; *next_out the one behind them, if there is any. */
static json_t *make_page(struct read_verb *v, uint64_t limit, json_t **next_out)
{
    size_t count = json_object_size(v->found);
    size_t used = 0;
    json_t *list = json_array();
    const char **name = dr_calloc(count + 1, sizeof *name);
    if (list == NULL || name == NULL) {
        goto fail;
    }
    for (void *at = json_object_iter(v->found); at != NULL;
         at = json_object_iter_next(v->found, at)) {
        name[used++] = json_object_iter_key(at);
    }
    qsort(name, used, sizeof *name, compare_names);
    *next_out = NULL;
    for (size_t i = 0; i < used; i++) {
        struct point_key key;
        json_t *item = json_object_get(v->found, name[i]);
        char *text = key_text(json_object_get(item, "id"), &key);
        bool is_bad = text == NULL;
        dr_free(text);
        if (is_bad) {
            goto fail;
        }
        if (json_array_size(list) == limit ||
            (v->bound_id != NULL && compare_keys(&key, &v->bound) >= 0)) {
            *next_out = json_incref(json_object_get(item, "id"));
            break;
        }
        if (json_array_append_new(list, make_record(v, item)) != 0) {
            goto fail;
        }
    }
    if (*next_out == NULL && v->bound_id != NULL) {
        *next_out = json_incref(v->bound_id);
    }
    dr_free(name);
    return list;
fail:
    dr_free(name);
    json_decref(list);
    return NULL;
}

void dr_points_scroll(struct dr_cluster *c, const struct dr_cluster_caller *who,
                      const char *collection, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    struct point_route r = {0};
    struct read_verb v = {.c = c, .body = body};
    const json_t *limit = json_object_get(body, "limit");
    struct read_plan p = {.op = "scroll",
                          .offset = json_object_get(body, "offset"),
                          .limit = 10,
                          .take = take_page,
                          .arg = &v};
    memset(reply, 0, sizeof *reply);
    if (refuse_filter(body, "filter", reply) || refuse_filter(body, "order_by", reply)) {
        return;
    }
    if (limit != NULL && !json_is_null(limit)) {
        json_int_t n = json_integer_value(limit);
        if (!json_is_integer(limit) || n < 1 || n > POINTS_PAGE_MAX) {
            dr_reply_fail(reply, DR_CLASS_BAD_INPUT, "limit: expected a number from 1 to %d",
                          POINTS_PAGE_MAX);
            return;
        }
        p.limit = (uint64_t)n;
    }
    if (json_is_null(p.offset)) {
        p.offset = NULL;
    }
    if (read_wanted(body, &v.want, &err) != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    if (read_until_fresh(c, who, collection, &p, &v, &r, reply)) {
        json_t *next = NULL;
        json_t *list = make_page(&v, p.limit, &next);
        dr_reply_give(reply, list == NULL
                                 ? NULL
                                 : json_pack("{s:o, s:o}", "points", list, "next_page_offset",
                                             next == NULL ? json_null() : next));
    }
    end_verb(&v, &r);
}

bool dr_points_count_all(struct dr_cluster *c, const struct dr_catalog *cat,
                         const struct dr_collection_info *info, uint64_t *out, struct dr_err *err)
{
    struct read_verb v = {.c = c};
    struct point_route r = {.cat = dr_catalog_ref(cat), .info = info};
    struct read_plan p = {
        .c = c, .r = &r, .op = "count", .take = take_count, .arg = &v, .timeout_ms = PEER_LOOK_MS};
    enum dr_code rc = dr_points_aim_all(&r, err);
    if (rc == DR_OK) {
        rc = run_plan(&p, err);
    }
    *out = v.count;
    dr_points_end(&r);
    return rc == DR_OK;
}
