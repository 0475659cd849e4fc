/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on transfers and replicas: who holds a copy of a shard, and in which state. No
 * operation leaves a shard without a replica, or takes the last whole copy of it off the record. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"

/* The fields that name a transfer, all operations have them. False: refused. */
static const struct dr_collection *read_transfer(struct dr_apply *a, struct dr_transfer *t)
{
    uint64_t shard_id = 0;
    uint64_t to_shard_id = 0;
    memset(t, 0, sizeof *t);
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return NULL;
    }
    (void)dr_jr_u64(&a->fields, "shard_id", true, 0, UINT32_MAX, &shard_id);
    t->has_to_shard = dr_jr_u64(&a->fields, "to_shard_id", false, 0, UINT32_MAX, &to_shard_id);
    (void)dr_jr_u64(&a->fields, "from", true, 1, (uint64_t)INT64_MAX, &t->from);
    (void)dr_jr_u64(&a->fields, "to", true, 1, (uint64_t)INT64_MAX, &t->to);
    t->shard_id = (uint32_t)shard_id;
    t->to_shard_id = (uint32_t)to_shard_id;
    return c;
}

static bool read_method(struct dr_apply *a, struct dr_transfer *t)
{
    const char *method = "";
    (void)dr_jr_string(&a->fields, "method", true, &method);
    if (!dr_apply_fields_end(a)) {
        return false;
    }
    if (!dr_transfer_method_is_known(method)) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "no transfer method is called \"%.32s\"; there are stream_records, "
                              "snapshot, wal_delta and resharding_stream_records",
                              method);
        return false;
    }
    dr_copy_text(t->method, sizeof t->method, method);
    return true;
}

/* Position of the transfer, or UINT32_MAX, refused. */
static uint32_t find_transfer(struct dr_apply *a, const struct dr_collection_info *c,
                              const struct dr_transfer *wanted)
{
    for (uint32_t i = 0; i < c->transfer_count; i++) {
        const struct dr_transfer *t = &c->transfer[i];
        if (t->shard_id == wanted->shard_id && t->from == wanted->from && t->to == wanted->to &&
            t->has_to_shard == wanted->has_to_shard && t->to_shard_id == wanted->to_shard_id) {
            return i;
        }
    }
    (void)dr_apply_refuse(a, DR_NOT_FOUND,
                          "There is no transfer for shard %u from %" PRIu64 " to %" PRIu64,
                          wanted->shard_id, wanted->from, wanted->to);
    return UINT32_MAX;
}

/* What a replica is while it is being filled. One that was there before may hold what no other has:
 * it takes no writes until its source has had it emptied. */
static enum dr_replica_state filling_state(struct dr_draft *d, const struct dr_transfer *t)
{
    const struct dr_replica *before = dr_shard_replica(dr_draft_shard(d, t->shard_id), t->to);
    if (d->is_resharding && d->resharding.is_up && d->resharding.shard_id == t->shard_id &&
        d->resharding.stage == DR_RESHARD_MIGRATING) {
        return DR_REPLICA_RESHARDING;
    }
    if (before != NULL && before->state != DR_REPLICA_PARTIAL) {
        return DR_REPLICA_RECOVERY;
    }
    return strcmp(t->method, "stream_records") == 0 ? DR_REPLICA_PARTIAL : DR_REPLICA_RECOVERY;
}

static bool check_no_conflict(struct dr_apply *a, const struct dr_collection_info *c,
                              const struct dr_transfer *wanted)
{
    for (uint32_t i = 0; i < c->transfer_count; i++) {
        const struct dr_transfer *t = &c->transfer[i];
        if (t->shard_id == wanted->shard_id && (t->from == wanted->from || t->from == wanted->to ||
                                                t->to == wanted->from || t->to == wanted->to)) {
            (void)dr_apply_refuse(
                a, DR_CONFLICT, "Shard %u is already involved in transfer %" PRIu64 " -> %" PRIu64,
                t->shard_id, t->from, t->to);
            return false;
        }
    }
    if (c->transfer_count >= DR_TRANSFERS_MAX) {
        (void)dr_apply_refuse(a, DR_REFUSED, "%d transfers are going on, the most that may",
                              DR_TRANSFERS_MAX);
        return false;
    }
    return true;
}

/* From one shard to another: only points that a resharding moves do that. */
static bool check_other_shard(struct dr_apply *a, const struct dr_collection_info *c,
                              const struct dr_transfer *t)
{
    const struct dr_shard *target = dr_collection_shard(c, t->to_shard_id);
    if (strcmp(t->method, "resharding_stream_records") != 0 || c->resharding == NULL ||
        t->shard_id == t->to_shard_id ||
        (c->resharding->shard_id != t->shard_id && c->resharding->shard_id != t->to_shard_id)) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "to_shard_id is for transfers of a resharding, with the method "
                              "resharding_stream_records and its shard at one end");
        return false;
    }
    if (target == NULL || dr_shard_replica(target, t->to) == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u has no replica on peer %" PRIu64,
                              t->to_shard_id, t->to);
        return false;
    }
    return true;
}

static bool check_same_shard(struct dr_apply *a, const struct dr_shard *s,
                             const struct dr_transfer *t)
{
    const struct dr_replica *target = dr_shard_replica(s, t->to);
    if (strcmp(t->method, "resharding_stream_records") == 0) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "resharding_stream_records is for transfers to another shard: give "
                              "to_shard_id");
        return false;
    }
    if (target != NULL && dr_replica_is_source(target->state)) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u is on peer %" PRIu64 " already (%s)", s->id,
                              t->to, dr_replica_state_name(target->state));
        return false;
    }
    if (target == NULL && s->replica_count >= DR_REPLICAS_MAX) {
        (void)dr_apply_refuse(a, DR_REFUSED, "Shard %u has %d replicas, the most it may", s->id,
                              DR_REPLICAS_MAX);
        return false;
    }
    return true;
}

static bool check_start(struct dr_apply *a, const struct dr_collection_info *c,
                        const struct dr_transfer *t)
{
    const struct dr_shard *s = dr_collection_shard(c, t->shard_id);
    const struct dr_replica *source = s == NULL ? NULL : dr_shard_replica(s, t->from);
    if (s == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u of %s does not exist", t->shard_id, c->name);
        return false;
    }
    if (t->from == t->to) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "a transfer goes from one peer to another, not to peer "
                              "%" PRIu64 " itself",
                              t->to);
        return false;
    }
    if (dr_catalog_peer(a->c, t->to) == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Peer %" PRIu64 " does not exist", t->to);
        return false;
    }
    if (source == NULL || !dr_replica_is_source(source->state)) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u has no whole copy on peer %" PRIu64 " (%s)",
                              t->shard_id, t->from,
                              source == NULL ? "none" : dr_replica_state_name(source->state));
        return false;
    }
    return check_no_conflict(a, c, t) &&
           (t->has_to_shard ? check_other_shard(a, c, t) : check_same_shard(a, s, t));
}

enum dr_code dr_apply_start_transfer(struct dr_apply *a)
{
    struct dr_transfer t;
    struct dr_draft d;
    const struct dr_collection *c = read_transfer(a, &t);
    if (c == NULL) {
        return DR_OK;
    }
    (void)dr_jr_bool(&a->fields, "sync", true, &t.is_sync);
    if (!read_method(a, &t) || !check_start(a, &c->info, &t)) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc == DR_OK && !t.has_to_shard) {
        rc = dr_draft_set_replica(&d, dr_draft_shard(&d, t.shard_id), t.to, filling_state(&d, &t),
                                  a->err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    d.transfer[d.transfer_count++] = t;
    return dr_apply_finish(a, &d, c);
}

enum dr_code dr_apply_restart_transfer(struct dr_apply *a)
{
    struct dr_transfer t;
    struct dr_draft d;
    const struct dr_collection *c = read_transfer(a, &t);
    if (c == NULL || !read_method(a, &t)) {
        return DR_OK;
    }
    uint32_t at = find_transfer(a, &c->info, &t);
    if (at == UINT32_MAX) {
        return DR_OK;
    }
    if ((strcmp(t.method, "resharding_stream_records") == 0) != t.has_to_shard) {
        return dr_apply_refuse(a, DR_INPUT,
                               "resharding_stream_records is for transfers to another shard, and "
                               "those have no other method");
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_copy_text(d.transfer[at].method, sizeof d.transfer[at].method, t.method);
    if (!t.has_to_shard) {
        rc = dr_draft_set_replica(&d, dr_draft_shard(&d, t.shard_id), t.to, filling_state(&d, &t),
                                  a->err);
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

static enum dr_code begin_ending(struct dr_apply *a, const struct dr_collection **c_out,
                                 struct dr_draft *d, struct dr_transfer *t)
{
    *c_out = NULL;
    const struct dr_collection *c = read_transfer(a, t);
    if (c == NULL || !dr_apply_fields_end(a)) {
        return DR_OK;
    }
    uint32_t at = find_transfer(a, &c->info, t);
    if (at == UINT32_MAX) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(d, a->arena, c, 0, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    *t = d->transfer[at];
    d->transfer_count--;
    memmove(d->transfer + at, d->transfer + at + 1, (d->transfer_count - at) * sizeof *d->transfer);
    *c_out = c;
    return DR_OK;
}

/* The copy is whole: it counts from now on, and a move gives up the old one. */
enum dr_code dr_apply_finish_transfer(struct dr_apply *a)
{
    struct dr_transfer t;
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_ending(a, &c, &d, &t);
    if (rc != DR_OK || c == NULL) {
        return rc;
    }
    struct dr_shard *s = dr_draft_shard(&d, t.shard_id);
    if (!t.has_to_shard) {
        enum dr_replica_state state = filling_state(&d, &t) == DR_REPLICA_RESHARDING
                                          ? DR_REPLICA_RESHARDING
                                          : DR_REPLICA_ACTIVE;
        rc = dr_draft_set_replica(&d, s, t.to, state, a->err);
        if (rc == DR_OK && !t.is_sync) {
            rc = dr_draft_drop_replica(&d, s, t.from, a->err);
        }
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

enum dr_code dr_apply_abort_transfer(struct dr_apply *a)
{
    struct dr_transfer t;
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_ending(a, &c, &d, &t);
    if (rc != DR_OK || c == NULL) {
        return rc;
    }
    struct dr_shard *s = dr_draft_shard(&d, t.shard_id);
    if (!t.has_to_shard) {
        rc = t.is_sync ? dr_draft_set_replica(&d, s, t.to, DR_REPLICA_DEAD, a->err)
                       : dr_draft_drop_replica(&d, s, t.to, a->err);
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

/* --- replicas ----------------------------------------------------------------------------------
 */

static const struct dr_collection *read_replica(struct dr_apply *a, uint32_t *shard_id,
                                                uint64_t *peer_id)
{
    uint64_t id = 0;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return NULL;
    }
    (void)dr_jr_u64(&a->fields, "shard_id", true, 0, UINT32_MAX, &id);
    (void)dr_jr_u64(&a->fields, "peer_id", true, 1, (uint64_t)INT64_MAX, peer_id);
    *shard_id = (uint32_t)id;
    return c;
}

static const struct dr_replica *find_replica(struct dr_apply *a, const struct dr_collection_info *c,
                                             uint32_t shard_id, uint64_t peer_id,
                                             const struct dr_shard **shard_out)
{
    *shard_out = dr_collection_shard(c, shard_id);
    if (*shard_out == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u of %s does not exist", shard_id, c->name);
        return NULL;
    }
    const struct dr_replica *r = dr_shard_replica(*shard_out, peer_id);
    if (r == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard %u has no replica on peer %" PRIu64, shard_id,
                              peer_id);
    }
    return r;
}

/* The transfer that fills, or is fed by, this replica; NULL: none. */
static const struct dr_transfer *find_use(const struct dr_collection_info *c, uint32_t shard_id,
                                          uint64_t peer_id)
{
    for (uint32_t i = 0; i < c->transfer_count; i++) {
        const struct dr_transfer *t = &c->transfer[i];
        uint32_t target_id = t->has_to_shard ? t->to_shard_id : t->shard_id;
        if ((t->shard_id == shard_id && t->from == peer_id) ||
            (target_id == shard_id && t->to == peer_id)) {
            return t;
        }
    }
    return NULL;
}

/* Has the shard another replica that `is_good`? */
static bool has_other(const struct dr_shard *s, uint64_t peer_id,
                      bool (*is_good)(enum dr_replica_state))
{
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id != peer_id && is_good(s->replica[i].state)) {
            return true;
        }
    }
    return false;
}

enum dr_code dr_apply_drop_replica(struct dr_apply *a)
{
    uint32_t shard_id = 0;
    uint64_t peer_id = 0;
    const struct dr_shard *s = NULL;
    struct dr_draft d;
    const struct dr_collection *c = read_replica(a, &shard_id, &peer_id);
    if (c == NULL || !dr_apply_fields_end(a) ||
        find_replica(a, &c->info, shard_id, peer_id, &s) == NULL) {
        return DR_OK;
    }
    if (!has_other(s, peer_id, dr_replica_is_readable)) {
        return dr_apply_refuse(a, DR_REFUSED,
                               "Shard %u must have at least one active replica after removing "
                               "%" PRIu64,
                               shard_id, peer_id);
    }
    if (find_use(&c->info, shard_id, peer_id) != NULL) {
        return dr_apply_refuse(a, DR_CONFLICT,
                               "the replica of shard %u on peer %" PRIu64
                               " takes part in a transfer: abort that first",
                               shard_id, peer_id);
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc == DR_OK) {
        rc = dr_draft_drop_replica(&d, dr_draft_shard(&d, shard_id), peer_id, a->err);
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

static bool check_new_state(struct dr_apply *a, const struct dr_collection_info *c,
                            const struct dr_shard *s, const struct dr_replica *r,
                            enum dr_replica_state to)
{
    const struct dr_transfer *use = find_use(c, s->id, r->peer_id);
    bool is_of_resharding = to == DR_REPLICA_RESHARDING || to == DR_REPLICA_RESHARDING_SCALE_DOWN;
    if (is_of_resharding && c->resharding == NULL) {
        (void)dr_apply_refuse(a, DR_CONFLICT, "Collection `%s` is not being resharded", c->name);
        return false;
    }
    if (dr_replica_is_source(r->state) && !dr_replica_is_source(to) &&
        !has_other(s, r->peer_id, dr_replica_is_source)) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "the replica of shard %u on peer %" PRIu64
                              " is the last whole copy and stays %s",
                              s->id, r->peer_id, dr_replica_state_name(r->state));
        return false;
    }
    if (use != NULL && !use->has_to_shard && use->to == r->peer_id && dr_replica_is_source(to)) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "the replica of shard %u on peer %" PRIu64
                              " is being filled: finish the transfer instead",
                              s->id, r->peer_id);
        return false;
    }
    return true;
}

enum dr_code dr_apply_replica_state(struct dr_apply *a)
{
    uint32_t shard_id = 0;
    uint64_t peer_id = 0;
    const char *name = "";
    const char *from_name = NULL;
    enum dr_replica_state state = DR_REPLICA_ACTIVE;
    const struct dr_shard *s = NULL;
    struct dr_draft d;
    const struct dr_collection *c = read_replica(a, &shard_id, &peer_id);
    if (c == NULL) {
        return DR_OK;
    }
    (void)dr_jr_string(&a->fields, "state", true, &name);
    (void)dr_jr_string(&a->fields, "from", false, &from_name);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (!dr_replica_state_parse(name, &state)) {
        return dr_apply_refuse(a, DR_INPUT, "no replica state is called \"%.32s\"", name);
    }
    const struct dr_replica *r = find_replica(a, &c->info, shard_id, peer_id, &s);
    if (r == NULL) {
        return DR_OK;
    }
    if (from_name != NULL && strcmp(from_name, dr_replica_state_name(r->state)) != 0) {
        return dr_apply_refuse(a, DR_CONFLICT,
                               "the replica of shard %u on peer %" PRIu64 " is %s, not %.32s",
                               shard_id, peer_id, dr_replica_state_name(r->state), from_name);
    }
    if (r->state == state || !check_new_state(a, &c->info, s, r, state)) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc == DR_OK) {
        rc = dr_draft_set_replica(&d, dr_draft_shard(&d, shard_id), peer_id, state, a->err);
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}
