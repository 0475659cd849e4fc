/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of a resharding: one shard more, or one less, for the ids of one key.
 *
 *   start -> migrating_points -> read_hash_ring_committed -> write_hash_ring_committed -> finish
 *                  |
 *                abort
 *
 * While it migrates, writes go to the owners in both rings and reads to the old ones; after the
 * read commit reads go to the new owners; after the write commit so do writes. One at a time in a
 * collection. Under auto, shard_number follows from the shard's id, so that repeating is harmless.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"

static bool read_start(struct dr_apply *a, struct dr_resharding *r)
{
    const char *uuid = "";
    const char *direction = "";
    uint64_t shard_id = 0;
    memset(r, 0, sizeof *r);
    (void)dr_jr_string(&a->fields, "resharding_uuid", true, &uuid);
    (void)dr_jr_string(&a->fields, "direction", true, &direction);
    (void)dr_jr_u64(&a->fields, "shard_id", true, 0, UINT32_MAX - 1, &shard_id);
    (void)dr_jr_u64(&a->fields, "peer_id", true, 1, (uint64_t)INT64_MAX, &r->peer_id);
    r->has_key = dr_apply_key(a, "key", false, &r->key);
    if (!dr_apply_fields_end(a)) {
        return false;
    }
    r->shard_id = (uint32_t)shard_id;
    r->is_up = strcmp(direction, "up") == 0;
    if (!r->is_up && strcmp(direction, "down") != 0) {
        (void)dr_apply_refuse(a, DR_INPUT, "direction is up or down");
        return false;
    }
    if (!dr_uuid_text_is_good(uuid)) {
        (void)dr_apply_refuse(a, DR_INPUT, "uuid has 1 to 36 letters, digits, hyphens");
        return false;
    }
    dr_copy_text(r->uuid, sizeof r->uuid, uuid);
    return true;
}

static const struct dr_key_ring *find_ring(struct dr_apply *a, const struct dr_collection_info *c,
                                           const struct dr_resharding *r)
{
    char print[DR_SHARD_KEY_BYTES_MAX + 3];
    const struct dr_key_ring *ring = dr_collection_ring(c, r->has_key ? &r->key : NULL);
    if (ring != NULL) {
        return ring;
    }
    if (!r->has_key) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "must specify shard key on collection with custom sharding");
    } else if (c->method == DR_SHARDING_AUTO) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "cannot specify shard key %s on collection with auto sharding",
                              dr_shard_key_print(&r->key, print, sizeof print));
    } else {
        (void)dr_apply_refuse(a, DR_INPUT, "Shard key %s not found",
                              dr_shard_key_print(&r->key, print, sizeof print));
    }
    return NULL;
}

static bool is_transferred(const struct dr_collection_info *c, uint32_t shard_id)
{
    for (uint32_t i = 0; i < c->transfer_count; i++) {
        const struct dr_transfer *t = &c->transfer[i];
        if (t->shard_id == shard_id || (t->has_to_shard && t->to_shard_id == shard_id)) {
            return true;
        }
    }
    return false;
}

static bool check_start(struct dr_apply *a, const struct dr_collection *c,
                        const struct dr_resharding *r)
{
    const struct dr_collection_info *info = &c->info;
    const struct dr_key_ring *ring = find_ring(a, info, r);
    if (ring == NULL) {
        return false;
    }
    if (info->resharding != NULL) {
        (void)dr_apply_refuse(a, DR_CONFLICT, "Collection `%s` is being resharded already",
                              info->name);
        return false;
    }
    if (dr_catalog_peer(a->c, r->peer_id) == NULL) {
        (void)dr_apply_refuse(a, DR_INPUT, "Peer %" PRIu64 " does not exist", r->peer_id);
        return false;
    }
    uint32_t expected = ring->shard_id[ring->shard_count - 1];
    if (r->is_up) {
        expected = info->method == DR_SHARDING_CUSTOM ? c->next_shard_id
                                                      : info->shard[info->shard_count - 1].id + 1;
    } else if (ring->shard_count == 1) {
        (void)dr_apply_refuse(a, DR_REFUSED, "shard %u is the only one for its points", expected);
        return false;
    } else if (is_transferred(info, expected)) {
        (void)dr_apply_refuse(a, DR_CONFLICT, "shard %u is being transferred", expected);
        return false;
    }
    if (r->shard_id != expected) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "the shard of this resharding would be %u, not %u: look at the "
                              "collection and ask again",
                              expected, r->shard_id);
        return false;
    }
    return true;
}

enum dr_code dr_apply_start_resharding(struct dr_apply *a)
{
    struct dr_draft d;
    struct dr_resharding r;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL || !read_start(a, &r) || !check_start(a, c, &r)) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 1, a->err);
    if (rc != DR_OK) {
        return rc;
    }
    d.is_resharding = true;
    d.resharding = r;
    const struct dr_replica first = {.peer_id = r.peer_id, .state = DR_REPLICA_RESHARDING};
    if (r.is_up) {
        const struct dr_shard shard = {.id = r.shard_id,
                                       .has_key = r.has_key,
                                       .key = r.key,
                                       .replica_count = 1,
                                       .replica = &first};
        dr_draft_add_shard(&d, &shard);
        if (d.info.method == DR_SHARDING_AUTO) {
            d.info.shard_number = r.shard_id + 1;
        } else {
            d.next_shard_id = r.shard_id + 1;
        }
    }
    return dr_apply_finish(a, &d, c);
}

/* A step of the resharding that is there. *c_out NULL: refused. */
static enum dr_code begin_step(struct dr_apply *a, const struct dr_collection **c_out,
                               struct dr_draft *d)
{
    *c_out = NULL;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL || !dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (c->info.resharding == NULL) {
        return dr_apply_refuse(a, DR_NOT_FOUND, "Collection `%s` is not being resharded",
                               c->info.name);
    }
    *c_out = c;
    return dr_draft_begin(d, a->arena, c, 0, a->err);
}

/* Ids of auto shards have no gaps, so the one that goes was the last: its id is how many stay. */
static void drop_last_shard(struct dr_draft *d, uint32_t shard_id)
{
    dr_draft_drop_shard(d, shard_id);
    if (d->info.method == DR_SHARDING_AUTO) {
        d->info.shard_number = shard_id;
    }
}

static enum dr_code refuse_stage(struct dr_apply *a, const struct dr_draft *d, const char *what)
{
    return dr_apply_refuse(a, DR_CONFLICT, "the resharding of `%s` is at %s: cannot %s",
                           d->info.name, dr_reshard_stage_name(d->resharding.stage), what);
}

/* Reads of the new shard begin, so its copies must be complete, and are then like all others. */
enum dr_code dr_apply_commit_read(struct dr_apply *a)
{
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_step(a, &c, &d);
    if (rc != DR_OK || c == NULL || d.resharding.stage == DR_RESHARD_READ_COMMITTED) {
        return rc;
    }
    if (d.resharding.stage != DR_RESHARD_MIGRATING) {
        return refuse_stage(a, &d, "commit the ring for reads");
    }
    struct dr_shard *s = dr_draft_shard(&d, d.resharding.shard_id);
    if (is_transferred(&c->info, s->id)) {
        return dr_apply_refuse(a, DR_CONFLICT, "shard %u is being transferred: finish that first",
                               s->id);
    }
    for (uint32_t i = 0; rc == DR_OK && d.resharding.is_up && i < s->replica_count; i++) {
        if (s->replica[i].state == DR_REPLICA_RESHARDING) {
            rc = dr_draft_set_replica(&d, s, s->replica[i].peer_id, DR_REPLICA_ACTIVE, a->err);
        }
    }
    d.resharding.stage = DR_RESHARD_READ_COMMITTED;
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

enum dr_code dr_apply_commit_write(struct dr_apply *a)
{
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_step(a, &c, &d);
    if (rc != DR_OK || c == NULL || d.resharding.stage == DR_RESHARD_WRITE_COMMITTED) {
        return rc;
    }
    if (d.resharding.stage != DR_RESHARD_READ_COMMITTED) {
        return refuse_stage(a, &d, "commit the ring for writes");
    }
    d.resharding.stage = DR_RESHARD_WRITE_COMMITTED;
    return dr_apply_finish(a, &d, c);
}

enum dr_code dr_apply_finish_resharding(struct dr_apply *a)
{
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_step(a, &c, &d);
    if (rc != DR_OK || c == NULL) {
        return rc;
    }
    uint32_t shard_id = d.resharding.shard_id;
    if (d.resharding.stage != DR_RESHARD_WRITE_COMMITTED) {
        return refuse_stage(a, &d, "finish");
    }
    if (is_transferred(&c->info, shard_id)) {
        return dr_apply_refuse(a, DR_CONFLICT, "shard %u is being transferred: finish that first",
                               shard_id);
    }
    d.is_resharding = false;
    if (!d.resharding.is_up) {
        drop_last_shard(&d, shard_id);
    }
    return dr_apply_finish(a, &d, c);
}

/* Once reads see the new ring, points may be in their new place only: no way back. */
enum dr_code dr_apply_abort_resharding(struct dr_apply *a)
{
    struct dr_draft d;
    const struct dr_collection *c = NULL;
    enum dr_code rc = begin_step(a, &c, &d);
    if (rc != DR_OK || c == NULL) {
        return rc;
    }
    uint32_t shard_id = d.resharding.shard_id;
    if (d.resharding.stage != DR_RESHARD_MIGRATING) {
        return refuse_stage(a, &d, "abort, go on with it");
    }
    d.is_resharding = false;
    if (d.resharding.is_up) {
        drop_last_shard(&d, shard_id);
    } else {
        uint32_t kept = 0; /* what it moved away from the shard that stays after all */
        for (uint32_t i = 0; i < d.transfer_count; i++) {
            if (!d.transfer[i].has_to_shard) {
                d.transfer[kept++] = d.transfer[i];
            }
        }
        d.transfer_count = kept;
    }
    return dr_apply_finish(a, &d, c);
}
