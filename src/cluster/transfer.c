/* SPDX-License-Identifier: Apache-2.0 */
/* Owns copying shards: what a transfer in the catalog asks the peer at its source to do.
 *
 * The source streams its rows in the order they were written, and goes on until none is left: a
 * write that comes meanwhile is behind all others in that order, so it is streamed too. Rows carry
 * versions, so a row that the destination already has newer stays as it is. A destination that
 * takes no writes yet (Recovery) becomes Partial after the first pass; from then on writes go to
 * both. Then one entry makes it Active, and what was written until that entry was applied here is
 * sent after it. Nothing is remembered on disk: after a restart the copy begins anew.
 *
 * A replica that was there before (dead by now) may hold writes that were refused and are nowhere
 * else, which no row of the source would overwrite. It is in Recovery, and emptied first. */
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "cluster/cluster_private.h"

enum {
    PAGE_ROWS = 500,
    PAGE_BYTES = 1024 * 1024,
    PAGES_PER_STEP = 64,
    COPY_MS = 5000,
    FAILURES_MAX = 20, /* then the transfer is given up */
    PROPOSE_MS = 5000,
    HEALS_MAX = 4, /* at a time */
};

struct shard_copy {
    char uuid[DR_UUID_TEXT_BYTES];
    struct dr_transfer what;
    int64_t seq; /* sent up to here */
    uint32_t failures;
    dr_mono_ms not_before;
    bool is_seen;               /* in this round */
    bool is_emptied;            /* the destination, or there was no need */
    struct shard_rows *closing; /* held and closed to readers */
    struct shard_copy *next;
};

static bool is_same(const struct dr_transfer *a, const struct dr_transfer *b)
{
    return a->shard_id == b->shard_id && a->has_to_shard == b->has_to_shard &&
           a->to_shard_id == b->to_shard_id && a->from == b->from && a->to == b->to &&
           strcmp(a->method, b->method) == 0;
}

static struct shard_copy *find_copy(struct dr_cluster *c, const char *uuid,
                                    const struct dr_transfer *t)
{
    struct shard_copy *copy = c->copy;
    while (copy != NULL && (strcmp(copy->uuid, uuid) != 0 || !is_same(&copy->what, t))) {
        copy = copy->next;
    }
    if (copy == NULL) {
        copy = dr_calloc(1, sizeof *copy);
        if (copy != NULL) {
            dr_copy_text(copy->uuid, sizeof copy->uuid, uuid);
            copy->what = *t;
            copy->next = c->copy;
            c->copy = copy;
        }
    }
    return copy;
}

/* A move makes the new place the only one: from before that is agreed on, nobody reads here any
 * more, or a peer that has not heard of it yet would miss what was written there since. */
static enum dr_code close_source(struct dr_cluster *c, struct shard_copy *copy, struct dr_err *err)
{
    if (copy->what.is_sync || copy->what.has_to_shard || copy->closing != NULL) {
        return DR_OK;
    }
    enum dr_code rc =
        dr_shards_take(&c->shards, copy->uuid, copy->what.shard_id, true, &copy->closing, err);
    if (rc == DR_OK) {
        atomic_store(&copy->closing->is_closing, true);
    }
    return rc;
}

static void open_source(struct dr_cluster *c, struct shard_copy *copy)
{
    if (copy->closing != NULL) {
        atomic_store(&copy->closing->is_closing, false);
        dr_shards_give(&c->shards, copy->closing);
        copy->closing = NULL;
    }
}

/* Forget copies whose transfer is over. */
static void drop_copies(struct dr_cluster *c, bool is_all)
{
    struct shard_copy **at = &c->copy;
    while (*at != NULL) {
        struct shard_copy *copy = *at;
        if (copy->is_seen && !is_all) {
            copy->is_seen = false;
            at = &copy->next;
        } else {
            *at = copy->next;
            open_source(c, copy);
            dr_free(copy);
        }
    }
}

void dr_transfer_fini(struct dr_cluster *c)
{
    drop_copies(c, true);
}

/* --- one page
 * ------------------------------------------------------------------------------------------ */

struct copy_page {
    struct point_op op[PAGE_ROWS];
    size_t count;
    size_t bytes;
    int64_t last_seq;
    uint32_t looked_at;
    const struct dr_ring *ring; /* NULL: all rows; else those that it gives to `shard_id` */
    uint32_t shard_id;
    bool is_short;
};

static bool take_row(void *arg, const struct point_row *row)
{
    struct copy_page *p = arg;
    p->last_seq = row->seq;
    p->looked_at++;
    if (p->ring == NULL || dr_ring_owner(p->ring, row->hash) == p->shard_id) {
        struct point_op *op = &p->op[p->count];
        memset(op, 0, sizeof *op);
        op->version = row->version;
        op->owned_id = dr_point_key_to_json(row->key, row->key_len);
        p->count++;
        p->is_short = op->owned_id == NULL ||
                      dr_point_id_from_json(op->owned_id, "id", &op->id, NULL) != DR_OK;
        if (row->doc != NULL) {
            op->owned_doc = dr_strdup(row->doc);
            op->doc = op->owned_doc;
            p->is_short = p->is_short || op->doc == NULL;
            p->bytes += strlen(row->doc);
        }
    }
    return !p->is_short && p->count < PAGE_ROWS && p->looked_at < PAGE_ROWS * 10 &&
           p->bytes < PAGE_BYTES;
}

static void empty_page(struct copy_page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        json_decref(p->op[i].owned_id);
        dr_free(p->op[i].owned_doc);
    }
    p->count = 0;
}

static enum dr_code send_page(struct dr_cluster *c, const struct dr_catalog *cat,
                              const struct dr_collection_info *info, const struct dr_transfer *t,
                              const struct copy_page *p, struct dr_err *err)
{
    struct peer_call call = {.name = "points/write"};
    dr_peers_address(cat, t->to, &call);
    call.body =
        dr_points_write_body(info, dr_catalog_index(cat),
                             t->has_to_shard ? t->to_shard_id : t->shard_id, true, p->op, p->count);
    if (call.body == NULL) {
        return dr_fail_nomem(err);
    }
    dr_peers_ask(c, &call, 1, COPY_MS);
    enum dr_code rc = dr_peers_judge(&call, err);
    if (rc == DR_OK && json_is_true(json_object_get(call.reply.result, "stale"))) {
        rc = dr_fail(err, DR_STALE, "peer %" PRIu64 " has no such replica now", t->to);
    }
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return rc;
}

/* Stream until nothing is left or the step is long enough. *is_even_out: all is there. */
static enum dr_code stream(struct dr_cluster *c, const struct dr_catalog *cat,
                           const struct dr_collection_info *info, struct shard_copy *copy,
                           uint32_t pages_max, bool *is_even_out, struct dr_err *err)
{
    const struct dr_transfer *t = &copy->what;
    const struct dr_shard *s = dr_collection_shard(info, t->shard_id);
    struct shard_rows *f = NULL;
    struct copy_page *p = dr_calloc(1, sizeof *p);
    *is_even_out = false;
    enum dr_code rc = p == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_shards_take(&c->shards, info->uuid, t->shard_id, false, &f, err);
    }
    if (rc == DR_OK && t->has_to_shard && s != NULL) {
        const struct dr_key_ring *ring = dr_points_key_ring(info, s);
        p->ring = ring == NULL ? NULL : ring->next != NULL ? ring->next : ring->ring;
        p->shard_id = t->to_shard_id;
    }
    *is_even_out = rc == DR_OK && f == NULL; /* nothing was ever written */
    for (uint32_t i = 0; rc == DR_OK && f != NULL && i < pages_max && !*is_even_out; i++) {
        p->looked_at = 0;
        p->bytes = 0;
        rc = dr_shard_walk_after(f, copy->seq, take_row, p, err);
        if (rc == DR_OK && p->is_short) {
            rc = dr_fail_nomem(err);
        }
        if (rc == DR_OK && p->count > 0) {
            rc = send_page(c, cat, info, t, p, err);
        }
        if (rc == DR_OK && p->looked_at > 0) {
            copy->seq = p->last_seq;
        }
        *is_even_out = rc == DR_OK && p->looked_at == 0;
        empty_page(p);
    }
    dr_shards_give(&c->shards, f);
    dr_free(p);
    return rc;
}

/* --- a whole transfer
 * ------------------------------------------------------------------------------------ */

static enum dr_code propose_end(struct dr_cluster *c, const struct dr_collection_info *info,
                                const char *op, const struct dr_transfer *t, struct dr_err *err)
{
    struct proposal p;
    char *entry = NULL;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    json_t *fields =
        json_pack("{s:I, s:I, s:I}", "shard_id", (json_int_t)t->shard_id, "from_peer_id",
                  (json_int_t)t->from, "to_peer_id", (json_int_t)t->to);
    json_t *body = NULL;
    enum dr_code rc = DR_OK;
    if (fields != NULL && t->has_to_shard &&
        !dr_shape_set(fields, "to_shard_id", json_integer(t->to_shard_id))) {
        json_decref(fields);
        fields = NULL;
    }
    body = fields == NULL ? NULL : json_pack("{s:o}", op, fields);
    rc = body == NULL ? dr_fail_nomem(err)
                      : dr_entry_cluster(cat, info->name, body, dr_random(), &entry, err);
    dr_catalog_unref(cat);
    json_decref(body);
    if (rc == DR_OK) {
        rc = dr_propose(c, entry, PROPOSE_MS, &p, err);
        dr_free(entry);
        if (rc == DR_OK) {
            json_decref(p.result.value);
            rc = p.result.code == DR_OK ? DR_OK
                                        : dr_fail(err, p.result.code, "%s", p.result.message);
        }
    }
    return rc;
}

static enum dr_code propose_state(struct dr_cluster *c, const struct dr_collection_info *info,
                                  const struct dr_transfer *t, enum dr_replica_state state,
                                  struct dr_err *err)
{
    struct proposal p;
    char *entry = NULL;
    struct dr_catalog *cat = dr_cluster_catalog(c);
    enum dr_code rc =
        dr_entry_replica_state(cat, info->name, t->shard_id, t->to, state, NULL, &entry, err);
    dr_catalog_unref(cat);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_propose(c, entry, PROPOSE_MS, &p, err);
    dr_free(entry);
    if (rc == DR_OK) {
        json_decref(p.result.value);
        rc = p.result.code == DR_OK ? DR_OK : dr_fail(err, p.result.code, "%s", p.result.message);
    }
    return rc;
}

static bool find_state(const struct dr_collection_info *info, uint32_t shard_id, uint64_t peer_id,
                       enum dr_replica_state *out)
{
    const struct dr_shard *s = dr_collection_shard(info, shard_id);
    for (uint32_t i = 0; s != NULL && i < s->replica_count; i++) {
        if (s->replica[i].peer_id == peer_id) {
            *out = s->replica[i].state;
            return true;
        }
    }
    return false;
}

static bool is_recovering(const struct dr_collection_info *info, uint32_t shard_id,
                          uint64_t peer_id)
{
    enum dr_replica_state state = DR_REPLICA_DEAD;
    return find_state(info, shard_id, peer_id, &state) &&
           (state == DR_REPLICA_RECOVERY || state == DR_REPLICA_PARTIAL_SNAPSHOT);
}

/* All is there: make it count, then send what was written until it did. */
static enum dr_code finish(struct dr_cluster *c, const struct dr_catalog *cat,
                           const struct dr_collection_info *info, struct shard_copy *copy,
                           struct dr_err *err)
{
    bool is_even = false;
    const struct dr_transfer *t = &copy->what;
    if (!t->has_to_shard && is_recovering(info, t->shard_id, t->to)) {
        return propose_state(c, info, t, DR_REPLICA_PARTIAL, err); /* and one more pass */
    }
    enum dr_code rc = close_source(c, copy, err);
    if (rc == DR_OK) {
        rc = propose_end(c, info, "finish_transfer", t, err);
    }
    if (rc != DR_OK) {
        if (rc != DR_UNKNOWN) { /* else it may have been agreed on: closed until that is known */
            open_source(c, copy);
        }
        return rc;
    }
    dr_log(c->log, DR_LOG_INFO, "a shard is copied", "collection=%s shard=%u from=%llu to=%llu",
           info->name, t->shard_id, (unsigned long long)t->from, (unsigned long long)t->to);
    while (rc == DR_OK && !is_even) {
        rc = stream(c, cat, info, copy, PAGES_PER_STEP, &is_even, err);
    }
    if (rc != DR_OK && !t->has_to_shard) {
        struct dr_err why = {0};
        dr_log_err(c->log, DR_LOG_WARN, "the last rows of a copy were not sent", err);
        rc = propose_state(c, info, t, DR_REPLICA_DEAD, &why);
        if (rc != DR_OK) {
            dr_log_err(c->log, DR_LOG_ERROR, "a replica without its last rows counts as whole",
                       &why);
        }
    }
    return DR_OK;
}

static void note_failure(struct dr_cluster *c, const struct dr_collection_info *info,
                         struct shard_copy *copy, const struct dr_err *err)
{
    const struct dr_backoff backoff = {.first_ms = 100, .max_ms = 3000};
    struct dr_err why = {0};
    copy->failures++;
    copy->not_before =
        dr_mono_now() + (dr_mono_ms)dr_backoff_ms(&backoff, copy->failures, dr_random());
    dr_log(c->log, DR_LOG_WARN, "copying a shard failed, trying again",
           "collection=%s shard=%u to=%llu failures=%u why=%s", info->name, copy->what.shard_id,
           (unsigned long long)copy->what.to, copy->failures, err->msg);
    if (copy->failures >= FAILURES_MAX &&
        propose_end(c, info, "abort_transfer", &copy->what, &why) == DR_OK) {
        dr_log(c->log, DR_LOG_WARN, "gave a transfer up", "collection=%s shard=%u to=%llu",
               info->name, copy->what.shard_id, (unsigned long long)copy->what.to);
    }
}

/* Before the first row: have the destination emptied, if it takes no writes yet. */
static enum dr_code empty_destination(struct dr_cluster *c, const struct dr_catalog *cat,
                                      const struct dr_collection_info *info,
                                      struct shard_copy *copy, struct dr_err *err)
{
    const struct dr_transfer *t = &copy->what;
    if (copy->is_emptied || t->has_to_shard || !is_recovering(info, t->shard_id, t->to)) {
        copy->is_emptied = true;
        return DR_OK;
    }
    struct peer_call call = {.name = "shards/empty"};
    dr_peers_address(cat, t->to, &call);
    call.body =
        json_pack("{s:s, s:s, s:I, s:I}", "collection", info->name, "uuid", info->uuid, "shard_id",
                  (json_int_t)t->shard_id, "index", (json_int_t)dr_catalog_index(cat));
    if (call.body == NULL) {
        return dr_fail_nomem(err);
    }
    dr_peers_ask(c, &call, 1, COPY_MS);
    enum dr_code rc = dr_peers_judge(&call, err);
    copy->is_emptied = rc == DR_OK;
    dr_peers_call_fini(&call, 1);
    json_decref(call.body);
    return rc;
}

/* Is this peer's replica of that very shard in Recovery? Then nobody reads or writes it. */
static bool may_be_emptied(struct dr_cluster *c, const char *collection, const char *uuid,
                           uint32_t shard_id)
{
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_catalog_find(cat, collection);
    bool may =
        info != NULL && strcmp(info->uuid, uuid) == 0 && is_recovering(info, shard_id, c->id);
    dr_catalog_unref(cat);
    return may;
}

/* A question that came late must not empty what is being filled by now: look again, and if that
 * has happened, the replica is not whole and has to begin anew. */
static void give_up_emptied(struct dr_cluster *c, const char *collection, uint32_t shard_id)
{
    struct dr_err err = {0};
    struct dr_catalog *cat = dr_cluster_catalog(c);
    const struct dr_collection_info *info = dr_catalog_find(cat, collection);
    const struct dr_transfer t = {.shard_id = shard_id, .to = c->id};
    if (info != NULL && propose_state(c, info, &t, DR_REPLICA_DEAD, &err) != DR_OK) {
        dr_log_err(c->log, DR_LOG_ERROR, "a replica that was emptied counts as filled", &err);
    }
    dr_catalog_unref(cat);
}

void dr_transfer_empty_here(struct dr_cluster *c, const json_t *body,
                            struct dr_cluster_reply *reply)
{
    struct dr_jr r;
    struct dr_err err = {0};
    const char *collection = "";
    const char *uuid = "";
    uint64_t shard_id = 0;
    uint64_t index = 0;
    dr_jr_init(&r, body, "shards/empty", &err);
    (void)dr_jr_string(&r, "collection", true, &collection);
    (void)dr_jr_string(&r, "uuid", true, &uuid);
    (void)dr_jr_u64(&r, "shard_id", true, 0, UINT32_MAX, &shard_id);
    (void)dr_jr_u64(&r, "index", true, 1, INT64_MAX, &index);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK) {
        rc = dr_node_wait_applied(c->node, index, COPY_MS, &err);
    }
    if (rc != DR_OK) {
        dr_reply_err(reply, &err);
        return;
    }
    if (!may_be_emptied(c, collection, uuid, (uint32_t)shard_id)) {
        dr_reply_fail(reply, DR_CLASS_BAD_REQUEST, "shard %u of `%s` is not recovering here",
                      (unsigned)shard_id, collection);
        return;
    }
    bool is_gone = dr_shards_remove(&c->shards, uuid, (uint32_t)shard_id);
    if (is_gone && !may_be_emptied(c, collection, uuid, (uint32_t)shard_id)) {
        give_up_emptied(c, collection, (uint32_t)shard_id);
        is_gone = false;
    }
    if (!is_gone) {
        dr_reply_fail(reply, DR_CLASS_UNAVAILABLE, "shard %u of `%s` cannot be emptied right now",
                      (unsigned)shard_id, collection);
        return;
    }
    dr_reply_true(reply);
}

/* Returns whether there is more to do at once. */
static bool run_transfer(struct dr_cluster *c, const struct dr_catalog *cat,
                         const struct dr_collection_info *info, const struct dr_transfer *t)
{
    struct dr_err err = {0};
    enum dr_replica_state state = DR_REPLICA_DEAD;
    bool is_even = false;
    struct shard_copy *copy = find_copy(c, info->uuid, t);
    if (copy == NULL) {
        return false;
    }
    copy->is_seen = true;
    if (dr_mono_now() < copy->not_before) {
        return false;
    }
    enum dr_code rc = DR_OK;
    if (!find_state(info, t->shard_id, c->id, &state) ||
        (state != DR_REPLICA_ACTIVE && state != DR_REPLICA_ACTIVE_READ &&
         state != DR_REPLICA_RESHARDING && state != DR_REPLICA_RESHARDING_SCALE_DOWN)) {
        copy->failures = FAILURES_MAX;
        rc = dr_fail(&err, DR_CONFLICT, "this peer's replica is no whole copy any more");
    }
    if (rc == DR_OK) {
        rc = empty_destination(c, cat, info, copy, &err);
    }
    if (rc == DR_OK) {
        rc = stream(c, cat, info, copy, PAGES_PER_STEP, &is_even, &err);
    }
    if (rc == DR_OK && is_even) {
        rc = finish(c, cat, info, copy, &err);
    }
    if (rc != DR_OK) {
        note_failure(c, info, copy, &err);
        return false;
    }
    copy->failures = 0;
    return !is_even;
}

void dr_transfer_step(struct dr_cluster *c, const struct dr_catalog *cat)
{
    bool is_more = false;
    for (uint32_t i = 0; i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(cat, i);
        for (uint32_t k = 0; k < info->transfer_count && !dr_cluster_is_stopping(c); k++) {
            if (info->transfer[k].from == c->id) {
                is_more = run_transfer(c, cat, info, &info->transfer[k]) || is_more;
            }
        }
    }
    drop_copies(c, false);
    if (is_more) {
        dr_keeper_wake(c);
    }
}

/* --- healing
 * --------------------------------------------------------------------------------------------- */

static bool is_in_transfer(const struct dr_collection_info *info, uint32_t shard_id)
{
    for (uint32_t i = 0; i < info->transfer_count; i++) {
        if (info->transfer[i].shard_id == shard_id) {
            return true;
        }
    }
    return false;
}

/* A dead replica here and a whole one elsewhere: ask to be filled. */
static bool heal_shard(struct dr_cluster *c, const struct dr_catalog *cat,
                       const struct dr_collection_info *info, const struct dr_shard *s)
{
    struct proposal p;
    struct dr_err err = {0};
    char *entry = NULL;
    uint64_t from = 0;
    bool is_dead = false;
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id == c->id) {
            is_dead = s->replica[i].state == DR_REPLICA_DEAD;
        } else if (s->replica[i].state == DR_REPLICA_ACTIVE && from == 0) {
            from = s->replica[i].peer_id;
        }
    }
    if (!is_dead || from == 0 || is_in_transfer(info, s->id)) {
        return false;
    }
    json_t *body =
        json_pack("{s:{s:I, s:I, s:I}}", "replicate_shard", "shard_id", (json_int_t)s->id,
                  "from_peer_id", (json_int_t)from, "to_peer_id", (json_int_t)c->id);
    enum dr_code rc = body == NULL
                          ? dr_fail_nomem(&err)
                          : dr_entry_cluster(cat, info->name, body, dr_random(), &entry, &err);
    json_decref(body);
    if (rc == DR_OK) {
        rc = dr_propose(c, entry, PROPOSE_MS, &p, &err);
        dr_free(entry);
    }
    if (rc != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "a dead replica could not ask to be filled", &err);
        return false;
    }
    json_decref(p.result.value);
    dr_log(c->log, DR_LOG_INFO, "a dead replica asks to be filled",
           "collection=%s shard=%u from=%llu said=%s", info->name, s->id, (unsigned long long)from,
           p.result.code == DR_OK ? "yes" : p.result.message);
    return true;
}

void dr_transfer_heal(struct dr_cluster *c, const struct dr_catalog *cat)
{
    uint32_t asked = 0;
    for (uint32_t i = 0; i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(cat, i);
        for (uint32_t k = 0; k < info->transfer_count; k++) {
            asked += info->transfer[k].to == c->id;
        }
    }
    for (uint32_t i = 0; i < dr_catalog_collection_count(cat); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(cat, i);
        for (uint32_t k = 0; info->resharding == NULL && k < info->shard_count; k++) {
            if (asked >= HEALS_MAX || dr_cluster_is_stopping(c)) {
                return;
            }
            asked += heal_shard(c, cat, info, &info->shard[k]);
        }
    }
}

/* --- files
 * ------------------------------------------------------------------------------------------------
 */

static bool is_here(const struct dr_cluster *c, const struct dr_collection_info *info,
                    uint32_t shard_id)
{
    enum dr_replica_state state = DR_REPLICA_DEAD;
    return info != NULL && find_state(info, shard_id, c->id, &state);
}

static const struct dr_collection_info *find_same(const struct dr_catalog *cat,
                                                  const struct dr_collection_info *info)
{
    const struct dr_collection_info *other = cat == NULL ? NULL : dr_catalog_find(cat, info->name);
    return other != NULL && strcmp(other->uuid, info->uuid) == 0 ? other : NULL;
}

static bool remove_gone(struct dr_cluster *c, const struct dr_collection_info *old,
                        const struct dr_collection_info *new)
{
    bool is_done = true;
    for (uint32_t i = 0; i < old->shard_count; i++) {
        uint32_t id = old->shard[i].id;
        if (is_here(c, old, id) && !is_here(c, new, id)) {
            is_done = dr_shards_remove(&c->shards, old->uuid, id) && is_done;
        }
    }
    return is_done;
}

static void clean_shards(struct dr_cluster *c, const struct dr_collection_info *info)
{
    for (uint32_t i = 0; i < info->shard_count; i++) {
        const struct dr_shard *s = &info->shard[i];
        const struct dr_key_ring *ring = dr_points_key_ring(info, s);
        struct shard_rows *f = NULL;
        struct dr_err err = {0};
        if (ring == NULL || ring->next != NULL || !is_here(c, info, s->id)) {
            continue;
        }
        enum dr_code rc = dr_shards_take(&c->shards, info->uuid, s->id, false, &f, &err);
        if (rc == DR_OK && f != NULL) {
            rc = dr_shard_clean(f, ring, &err);
        }
        dr_shards_give(&c->shards, f);
        if (rc != DR_OK) {
            dr_log_err(c->log, DR_LOG_WARN, "a shard's file could not be looked after", &err);
        }
    }
}

/* May there be rows that another shard has now? After a resharding; or nobody knows, at the start.
 */
static bool is_unclean(const struct dr_collection_info *old, const struct dr_collection_info *new)
{
    return new->resharding == NULL && (old == NULL || old->resharding != NULL);
}

bool dr_transfer_tidy(struct dr_cluster *c, const struct dr_catalog *before,
                      const struct dr_catalog *now)
{
    bool is_done = true;
    for (uint32_t i = 0; before != NULL && i < dr_catalog_collection_count(before); i++) {
        const struct dr_collection_info *old = dr_catalog_collection_at(before, i);
        const struct dr_collection_info *new = find_same(now, old);
        if (new == NULL || new->changed_at_index != old->changed_at_index) {
            is_done = remove_gone(c, old, new) && is_done;
        }
    }
    for (uint32_t i = 0; i < dr_catalog_collection_count(now); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(now, i);
        const struct dr_collection_info *old = find_same(before, info);
        if (is_unclean(old, info)) {
            clean_shards(c, info);
        }
    }
    return is_done;
}
