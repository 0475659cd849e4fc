/* SPDX-License-Identifier: Apache-2.0 */
/* Owns writing points: to all replicas that take writes, with as many whole copies confirming as
 * write_consistency_factor says, and a replica that failed recorded as dead before the client hears
 * of success - or a later read could find the old value there.
 *
 * A write is made by one state of the catalog. Whoever receives it looks whether the collection has
 * changed since that state (changed_at_index) and, if so, refuses it as stale; the write is then
 * made again by the new state. So no write slips past a promotion, a copy or a resharding. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "cluster/cluster_private.h"

enum { CATCH_UP_MS = 2000, STALE_PAUSE_MS = 5, DEAD_MS = 5000, DEAD_SETTLE_MS = 1000 };

/* --- here
 * ------------------------------------------------------------------------------------------ */

struct write_guard {
    struct dr_cluster *c;
    const char *collection, *uuid;
    uint32_t shard_id;
    uint64_t index; /* of the state the write was made by */
    bool is_copy;
    bool is_stale;
    uint64_t index_here;
};

static bool has_replica_for(const struct dr_collection_info *info, const struct write_guard *g)
{
    const struct dr_shard *s = dr_collection_shard(info, g->shard_id);
    for (uint32_t i = 0; s != NULL && i < s->replica_count; i++) {
        if (s->replica[i].peer_id == g->c->id) {
            return g->is_copy || dr_replica_takes_writes(s->replica[i].state);
        }
    }
    return false;
}

static enum dr_code guard_write(void *arg, struct dr_err *err)
{
    struct write_guard *g = arg;
    struct dr_catalog *cat = dr_cluster_catalog(g->c);
    const struct dr_collection_info *info = dr_catalog_find(cat, g->collection);
    g->index_here = dr_catalog_index(cat);
    g->is_stale = info == NULL || strcmp(info->uuid, g->uuid) != 0 ||
                  (!g->is_copy && g->index < info->changed_at_index) || !has_replica_for(info, g);
    dr_catalog_unref(cat);
    return g->is_stale
               ? dr_fail(err, DR_STALE, "the collection has changed since the write was made")
               : DR_OK;
}

/* DR_STALE: g->index_here says what to wait for. */
static enum dr_code write_here(struct write_guard *g, const struct point_op *op, size_t count,
                               struct dr_err *err)
{
    struct shard_rows *f = NULL;
    struct dr_cluster *c = g->c;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    uint64_t index = dr_catalog_index(cat);
    dr_catalog_unref(cat);
    if (index < g->index) {
        enum dr_code waited = dr_node_wait_applied(c->node, g->index, CATCH_UP_MS, err);
        if (waited != DR_OK) {
            return dr_fail(err, DR_BUSY, "this peer has not caught up with entry %" PRIu64,
                           g->index);
        }
    }
    enum dr_code rc = guard_write(g, err); /* before a file is made for what is not here */
    if (rc == DR_OK) {
        rc = dr_shards_take(&c->shards, g->uuid, g->shard_id, true, &f, err);
    }
    if (rc == DR_OK) {
        for (size_t i = 0; i < count; i++) {
            dr_cluster_see_version(c, op[i].version);
        }
        rc = dr_shard_write(f, op, count, guard_write, g, err);
    }
    dr_shards_give(&c->shards, f);
    return rc;
}

json_t *dr_points_write_body(const struct dr_collection_info *info, uint64_t index,
                             uint32_t shard_id, bool is_copy, const struct point_op *op,
                             size_t count)
{
    json_t *points = json_array();
    for (size_t i = 0; points != NULL && i < count; i++) {
        /* The document as text: what a client nests deeply is not nested deeper on the way. */
        json_t *one = json_array();
        bool is_whole =
            one != NULL && json_array_append_new(one, dr_point_id_to_json(&op[i].id)) == 0 &&
            json_array_append_new(one, json_integer((json_int_t)op[i].version)) == 0 &&
            json_array_append_new(one, op[i].doc == NULL ? json_null() : json_string(op[i].doc)) ==
                0;
        if (json_array_append_new(points, one) != 0 || !is_whole) {
            json_decref(points);
            points = NULL;
        }
    }
    return points == NULL ? NULL
                          : json_pack("{s:s, s:s, s:I, s:I, s:b, s:o}", "collection", info->name,
                                      "uuid", info->uuid, "index", (json_int_t)index, "shard_id",
                                      (json_int_t)shard_id, "copy", (int)is_copy, "points", points);
}

static enum dr_code read_op(const json_t *one, struct point_op *op, struct dr_err *err)
{
    const json_t *version = json_array_get(one, 1);
    const json_t *doc = json_array_get(one, 2);
    if (!json_is_integer(version) || (!json_is_string(doc) && !json_is_null(doc))) {
        return dr_fail(err, DR_INPUT, "points: expected [id, version, document]");
    }
    op->version = (uint64_t)json_integer_value(version);
    op->doc = json_string_value(doc);
    return dr_point_id_from_json(json_array_get(one, 0), "points", &op->id, err);
}

void dr_points_write_here(struct dr_cluster *c, const json_t *body, struct dr_cluster_reply *reply)
{
    struct dr_err err = {0};
    struct dr_jr r;
    struct write_guard g = {.c = c};
    uint64_t shard_id = 0;
    const json_t *points = NULL;
    dr_jr_init(&r, body, "points/write", &err);
    (void)dr_jr_string(&r, "collection", true, &g.collection);
    (void)dr_jr_string(&r, "uuid", true, &g.uuid);
    (void)dr_jr_u64(&r, "index", true, 0, (uint64_t)INT64_MAX, &g.index);
    (void)dr_jr_u64(&r, "shard_id", true, 0, UINT32_MAX, &shard_id);
    (void)dr_jr_bool(&r, "copy", true, &g.is_copy);
    (void)dr_jr_array(&r, "points", true, POINTS_IDS_MAX, &points);
    if (dr_jr_finish(&r) != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    g.shard_id = (uint32_t)shard_id;
    size_t count = json_array_size(points);
    struct point_op *op = dr_calloc(count + 1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(&err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = read_op(json_array_get(points, i), &op[i], &err);
    }
    if (rc == DR_OK) {
        rc = write_here(&g, op, count, &err);
    }
    dr_free(op);
    if (rc != DR_OK && rc != DR_STALE) {
        dr_reply_err(reply, &err);
        return;
    }
    dr_reply_give(reply, json_pack("{s:b, s:I}", "stale", (int)(rc == DR_STALE), "index",
                                   (json_int_t)g.index_here));
}

/* --- to all replicas
 * --------------------------------------------------------------------------------- */

/* One shard's part of one request: ops of it, and how its replicas fared. */
struct shard_write {
    const struct dr_shard *shard;
    struct point_op *op; /* copies of the request's; they own nothing */
    size_t count;
    json_t *body;
    bool has_whole; /* some replica is a whole copy */
    uint32_t need;
    bool is_done[DR_REPLICAS_MAX];
    bool is_failed[DR_REPLICAS_MAX];
    char why[256]; /* of the last failure */
};
struct write_plan {
    struct dr_cluster *c;
    struct point_route *r;
    uint64_t index;
    struct shard_write *part;
    uint32_t count, room;
    struct peer_call *call; /* tag: the part; at: the replica */
    uint32_t *call_replica;
    uint32_t call_count;
    bool is_stale;
    uint64_t stale_index;
};

static bool is_whole_copy(enum dr_replica_state s)
{
    return s == DR_REPLICA_ACTIVE || s == DR_REPLICA_ACTIVE_READ || s == DR_REPLICA_RESHARDING ||
           s == DR_REPLICA_RESHARDING_SCALE_DOWN;
}

static bool counts(const struct shard_write *w, uint32_t replica)
{
    return !w->has_whole || is_whole_copy(w->shard->replica[replica].state);
}

static void note_failure(struct shard_write *w, uint32_t replica, const char *why)
{
    w->is_failed[replica] = true;
    dr_copy_text(w->why, sizeof w->why, why);
}

static struct shard_write *add_part(struct write_plan *p)
{
    if (p->count == p->room) {
        uint32_t room = p->room == 0 ? 8 : p->room * 2;
        struct shard_write *more = dr_realloc(p->part, room * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        p->part = more;
        p->room = room;
    }
    memset(&p->part[p->count], 0, sizeof p->part[0]);
    return &p->part[p->count++];
}

/* Cut a shard's ops into parts that fit a message. */
static enum dr_code plan_target(struct write_plan *p, const struct point_target *t,
                                const struct point_op *op, struct dr_err *err)
{
    const struct dr_collection_info *info = p->r->info;
    size_t at = 0;
    while (at < t->count) {
        size_t bytes = 0;
        size_t end = at;
        while (end < t->count && end - at < POINTS_CHUNK_MAX && bytes < POINTS_CHUNK_BYTES) {
            const char *doc = op[t->at[end]].doc;
            bytes += doc == NULL ? 32 : strlen(doc) + 32;
            end++;
        }
        struct shard_write *w = add_part(p);
        if (w == NULL) {
            return dr_fail_nomem(err);
        }
        w->shard = dr_collection_shard(info, t->shard_id);
        w->count = end - at;
        w->op = dr_calloc(w->count, sizeof *w->op);
        if (w->op == NULL) {
            return dr_fail_nomem(err);
        }
        for (size_t i = 0; i < w->count; i++) {
            w->op[i] = op[t->at[at + i]];
        }
        uint32_t replicas = w->shard->replica_count;
        w->need =
            info->write_consistency_factor < replicas ? info->write_consistency_factor : replicas;
        for (uint32_t k = 0; k < replicas; k++) {
            w->has_whole = w->has_whole || is_whole_copy(w->shard->replica[k].state);
        }
        at = end;
    }
    return DR_OK;
}

/* Refuse before anything is written what cannot be confirmed by enough. */
static enum dr_code check_enough(const struct write_plan *p, struct dr_err *err)
{
    for (uint32_t i = 0; i < p->count; i++) {
        const struct shard_write *w = &p->part[i];
        uint32_t able = 0;
        for (uint32_t k = 0; k < w->shard->replica_count; k++) {
            able += dr_replica_takes_writes(w->shard->replica[k].state) && counts(w, k);
        }
        if (able < w->need || able == 0) {
            return dr_fail(err, DR_UNREACHABLE,
                           "shard %u has %u replicas that can confirm a write, %u have to "
                           "(write_consistency_factor %u)",
                           w->shard->id, able, w->need, p->r->info->write_consistency_factor);
        }
    }
    return DR_OK;
}

static enum dr_code plan_calls(struct write_plan *p, struct dr_err *err)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        most += p->part[i].shard->replica_count;
    }
    p->call = dr_calloc(most + 1, sizeof *p->call);
    p->call_replica = dr_calloc(most + 1, sizeof *p->call_replica);
    if (p->call == NULL || p->call_replica == NULL) {
        return dr_fail_nomem(err);
    }
    for (uint32_t i = 0; i < p->count; i++) {
        struct shard_write *w = &p->part[i];
        for (uint32_t k = 0; k < w->shard->replica_count; k++) {
            const struct dr_replica *replica = &w->shard->replica[k];
            if (replica->peer_id == p->c->id || !dr_replica_takes_writes(replica->state)) {
                continue;
            }
            if (w->body == NULL) {
                w->body = dr_points_write_body(p->r->info, p->index, w->shard->id, false, w->op,
                                               w->count);
            }
            if (w->body == NULL) {
                return dr_fail_nomem(err);
            }
            struct peer_call *call = &p->call[p->call_count];
            dr_peers_address(p->r->cat, replica->peer_id, call);
            call->name = "points/write";
            call->body = w->body;
            call->tag = w;
            p->call_replica[p->call_count++] = k;
        }
    }
    return DR_OK;
}

static void note_stale(struct write_plan *p, uint64_t index)
{
    p->is_stale = true;
    p->stale_index = index > p->stale_index ? index : p->stale_index;
}

static void write_local_parts(struct write_plan *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct shard_write *w = &p->part[i];
        for (uint32_t k = 0; k < w->shard->replica_count; k++) {
            struct dr_err err = {0};
            if (w->shard->replica[k].peer_id != p->c->id ||
                !dr_replica_takes_writes(w->shard->replica[k].state)) {
                continue;
            }
            struct write_guard g = {.c = p->c,
                                    .collection = p->r->info->name,
                                    .uuid = p->r->info->uuid,
                                    .shard_id = w->shard->id,
                                    .index = p->index};
            enum dr_code rc = write_here(&g, w->op, w->count, &err);
            if (rc == DR_OK) {
                w->is_done[k] = true;
            } else if (rc == DR_STALE) {
                note_stale(p, g.index_here);
            } else {
                note_failure(w, k, err.msg);
            }
        }
    }
}

static void judge_calls(struct write_plan *p)
{
    for (uint32_t i = 0; i < p->call_count; i++) {
        struct dr_err err = {0};
        struct peer_call *call = &p->call[i];
        struct shard_write *w = call->tag;
        if (dr_peers_judge(call, &err) != DR_OK) {
            note_failure(w, p->call_replica[i], err.msg);
        } else if (json_is_true(json_object_get(call->reply.result, "stale"))) {
            note_stale(p,
                       (uint64_t)json_integer_value(json_object_get(call->reply.result, "index")));
        } else {
            w->is_done[p->call_replica[i]] = true;
        }
    }
}

static void end_plan(struct write_plan *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        dr_free(p->part[i].op);
        json_decref(p->part[i].body);
    }
    dr_peers_free(p->call, p->call_count);
    dr_free(p->call_replica);
    dr_free(p->part);
}

/* --- what failed
 * -------------------------------------------------------------------------------------- */

/* A replica being filled gets what it missed with the copy. */
static bool is_being_filled(const struct dr_collection_info *info, uint32_t shard_id,
                            uint64_t peer_id)
{
    for (uint32_t i = 0; i < info->transfer_count; i++) {
        const struct dr_transfer *t = &info->transfer[i];
        if (!t->has_to_shard && t->shard_id == shard_id && t->to == peer_id) {
            return true;
        }
    }
    return false;
}

/* DR_STALE: the state was not what it was. */
static enum dr_code record_dead(struct write_plan *p, const struct shard_write *w, uint32_t replica,
                                struct dr_err *err)
{
    char *entry = NULL;
    struct proposal done;
    const struct dr_replica *r = &w->shard->replica[replica];
    enum dr_code rc = dr_entry_replica_state(p->r->cat, p->r->info->name, w->shard->id, r->peer_id,
                                             DR_REPLICA_DEAD, &r->state, &entry, err);
    if (rc == DR_OK) {
        rc = dr_propose(p->c, entry, DEAD_MS, &done, err);
    }
    dr_free(entry);
    if (rc != DR_OK) {
        return rc;
    }
    json_decref(done.result.value);
    if (done.result.code == DR_CONFLICT) {
        note_stale(p, done.index);
        return dr_fail(err, DR_STALE, "%s", done.result.message);
    }
    if (done.result.code != DR_OK) {
        return dr_fail(err, done.result.code, "%s", done.result.message);
    }
    (void)dr_peers_settle(p->c, done.index, DEAD_SETTLE_MS); /* or another may still read there */
    dr_log(p->c->log, DR_LOG_WARN, "a replica failed a write and is dead now",
           "collection=%s shard=%u peer=%llu why=%s", p->r->info->name, w->shard->id,
           (unsigned long long)r->peer_id, w->why);
    return DR_OK;
}

/* Several parts of one shard: its replica is recorded once. */
static bool is_recorded(const struct write_plan *p, uint32_t part, uint32_t replica)
{
    for (uint32_t i = 0; i < part; i++) {
        if (p->part[i].shard == p->part[part].shard && p->part[i].is_failed[replica]) {
            return true;
        }
    }
    return false;
}

static enum dr_code settle_part(struct write_plan *p, uint32_t part, struct dr_err *err)
{
    struct shard_write *w = &p->part[part];
    enum dr_code rc = DR_OK;
    uint32_t confirmed = 0;
    for (uint32_t k = 0; k < w->shard->replica_count; k++) {
        confirmed += w->is_done[k] && counts(w, k);
    }
    for (uint32_t k = 0; confirmed > 0 && rc == DR_OK && k < w->shard->replica_count; k++) {
        if (w->is_failed[k] && !is_recorded(p, part, k) &&
            !is_being_filled(p->r->info, w->shard->id, w->shard->replica[k].peer_id)) {
            rc = record_dead(p, w, k, err);
        }
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (confirmed < w->need || confirmed == 0) {
        return dr_fail(
            err, DR_UNREACHABLE,
            "shard %u: %u replicas confirmed the write, %u have to; the last failure: %s",
            w->shard->id, confirmed, w->need, w->why);
    }
    return DR_OK;
}

/* One round by one state of the catalog. DR_STALE: again, after *index_out is applied here. */
static enum dr_code write_round(struct dr_cluster *c, struct point_route *r,
                                const struct point_op *op, uint64_t timeout_ms, uint64_t *index_out,
                                struct dr_err *err)
{
    struct write_plan p = {.c = c, .r = r, .index = dr_catalog_index(r->cat)};
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < r->target_count; i++) {
        rc = plan_target(&p, &r->target[i], op, err);
    }
    if (rc == DR_OK) {
        rc = check_enough(&p, err);
    }
    if (rc == DR_OK) {
        rc = plan_calls(&p, err);
    }
    if (rc == DR_OK) {
        write_local_parts(&p);
        dr_peers_ask(c, p.call, p.call_count,
                     timeout_ms < PEER_WRITE_MS ? timeout_ms : PEER_WRITE_MS);
        judge_calls(&p);
        rc = p.is_stale ? DR_STALE : DR_OK;
    }
    for (uint32_t i = 0; rc == DR_OK && i < p.count; i++) {
        rc = settle_part(&p, i, err);
    }
    *index_out = p.stale_index;
    end_plan(&p);
    return rc;
}

static void give_done(struct dr_cluster *c, struct dr_cluster_reply *reply)
{
    uint64_t number = atomic_fetch_add(&c->operations, 1);
    dr_reply_give(
        reply, json_pack("{s:I, s:s}", "operation_id", (json_int_t)number, "status", "completed"));
}

void dr_points_write(struct dr_cluster *c, const struct dr_cluster_caller *who,
                     const char *collection, const json_t *shard_key, struct point_op *op,
                     size_t count, struct dr_cluster_reply *reply)
{
    dr_mono_ms until = dr_mono_now() + (dr_mono_ms)dr_caller_timeout(who);
    for (size_t i = 0; i < count; i++) {
        op[i].version = dr_cluster_next_version(c); /* once: repeating changes nothing */
    }
    for (;;) {
        struct dr_err err = {0};
        struct point_route r;
        uint64_t index = 0;
        enum dr_code rc = DR_OK;
        dr_mono_ms left = until - dr_mono_now();
        if (!dr_points_begin(c, who, collection, shard_key, &r, reply)) {
            dr_points_end(&r);
            return;
        }
        for (size_t i = 0; rc == DR_OK && i < count; i++) {
            rc = dr_points_aim(&r, &op[i].id, i, true, &err);
        }
        if (rc == DR_OK) {
            rc = write_round(c, &r, op, left < 1 ? 1 : (uint64_t)left, &index, &err);
        }
        dr_points_end(&r);
        left = until - dr_mono_now();
        if (rc == DR_OK) {
            give_done(c, reply);
            return;
        }
        if (rc != DR_STALE) {
            dr_reply_err(reply, &err);
            return;
        }
        if (left <= 0) {
            dr_reply_fail(reply, DR_CLASS_TIMEOUT, "the collection kept changing under this write");
            return;
        }
        /* Not in time is no failure yet: the next round will tell. */
        enum dr_code waited = dr_node_wait_applied(
            c->node, index, left < CATCH_UP_MS ? (uint32_t)left : CATCH_UP_MS, NULL);
        (void)waited;
        (void)dr_wait_ms(STALE_PAUSE_MS, dr_cluster_is_stopping, c);
    }
}
