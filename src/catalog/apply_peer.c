/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on peers: what one announces about itself, and its removal. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"

/* Text of a peer that fits its field; false: refused. */
static bool read_text(struct dr_apply *a, const char *field, bool is_required, char *buf,
                      size_t buf_bytes)
{
    const char *text = "";
    (void)dr_jr_string(&a->fields, field, is_required, &text);
    if (strlen(text) >= buf_bytes || !dr_catalog_is_clean_text(text, strlen(text))) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "entry.%s: has at most %zu bytes and no control characters", field,
                              buf_bytes - 1);
        return false;
    }
    dr_copy_text(buf, buf_bytes, text);
    return true;
}

static bool is_same_peer(const struct dr_peer *a, const struct dr_peer *b)
{
    return a->id == b->id && a->format == b->format && strcmp(a->uri, b->uri) == 0 &&
           strcmp(a->raft, b->raft) == 0 && strcmp(a->version, b->version) == 0 &&
           strcmp(a->store, b->store) == 0;
}

static enum dr_code set_peers(struct dr_apply *a, const struct dr_peer *peer, uint32_t count)
{
    struct dr_peer_table *table = NULL;
    enum dr_code rc = dr_peer_table_create(peer, count, &table, a->err);
    if (rc == DR_OK && a->out == NULL) {
        rc = dr_catalog_clone(a->c, a->index, 0, &a->out, a->err);
    }
    if (rc != DR_OK) {
        dr_peer_table_unref(table);
        return rc;
    }
    dr_peer_table_unref(a->out->peers);
    a->out->peers = table;
    return DR_OK;
}

/* The peers but the one with this id, with room for one more; NULL: short of memory. */
static struct dr_peer *copy_others(struct dr_apply *a, uint64_t id, uint32_t *count_out)
{
    const struct dr_peer_table *t = a->c->peers;
    struct dr_peer *copy = dr_arena_alloc(a->arena, ((size_t)t->count + 1) * sizeof *copy);
    *count_out = 0;
    for (uint32_t i = 0; copy != NULL && i < t->count; i++) {
        if (t->peer[i].id != id) {
            copy[(*count_out)++] = t->peer[i];
        }
    }
    return copy;
}

/* A program that does not know the promotion would pass over entries about what was promoted, and
 * so fall out of step. The collection that such a peer must not meet, or NULL. */
static const struct dr_collection_info *find_promoted(const struct dr_catalog *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->collection[i]->info.has_default_key) {
            return &c->collection[i]->info;
        }
    }
    return NULL;
}

static bool check_format(struct dr_apply *a, const struct dr_peer *p)
{
    const struct dr_collection_info *promoted =
        p->format < DR_PROMOTE_FORMAT ? find_promoted(a->c) : NULL;
    if (promoted != NULL) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "peer %" PRIu64 " understands entries up to format %u, but `%s` is "
                              "promoted, which needs format %d: update its program first",
                              p->id, p->format, promoted->name, DR_PROMOTE_FORMAT);
    }
    return promoted == NULL;
}

enum dr_code dr_apply_peer(struct dr_apply *a)
{
    struct dr_peer p;
    uint64_t format = 0;
    uint32_t count = 0;
    bool must_be_listed = false;
    memset(&p, 0, sizeof p);
    (void)dr_jr_bool(&a->fields, "listed", false, &must_be_listed);
    (void)dr_jr_u64(&a->fields, "id", true, 1, (uint64_t)INT64_MAX, &p.id);
    (void)dr_jr_u64(&a->fields, "format", true, 0, UINT32_MAX, &format);
    if (!read_text(a, "uri", true, p.uri, sizeof p.uri) ||
        !read_text(a, "raft", true, p.raft, sizeof p.raft) ||
        !read_text(a, "version", true, p.version, sizeof p.version) ||
        !read_text(a, "store", false, p.store, sizeof p.store) || !dr_apply_fields_end(a)) {
        return DR_OK;
    }
    p.format = (uint32_t)format;
    if (!check_format(a, &p)) {
        return DR_OK;
    }
    const struct dr_peer *before = dr_catalog_peer(a->c, p.id);
    if (before == NULL && must_be_listed) {
        return dr_apply_refuse(a, DR_NOT_FOUND, "peer %" PRIu64 " is not a member (any more)",
                               p.id);
    }
    if (before != NULL && is_same_peer(before, &p)) {
        return DR_OK;
    }
    if (before == NULL && a->c->peers->count >= DR_PEERS_MAX) {
        return dr_apply_refuse(a, DR_REFUSED, "there are %d peers, the most that fit",
                               DR_PEERS_MAX);
    }
    struct dr_peer *peer = copy_others(a, p.id, &count);
    if (peer == NULL) {
        return dr_fail_nomem(a->err);
    }
    peer[count++] = p;
    return set_peers(a, peer, count);
}

static bool is_on_peer(const struct dr_collection_info *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->shard_count; i++) {
        if (dr_shard_replica(&c->shard[i], id) != NULL) {
            return true;
        }
    }
    return false;
}

/* Transfers with the peer at one end will not end by themselves: what was being filled is dead. */
static enum dr_code end_transfers(struct dr_apply *a, struct dr_draft *d, uint64_t id)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->transfer_count; i++) {
        const struct dr_transfer t = d->transfer[i];
        if (t.from != id && t.to != id) {
            d->transfer[kept++] = t;
            continue;
        }
        if (!t.has_to_shard && t.to != id) {
            enum dr_code rc = dr_draft_set_replica(d, dr_draft_shard(d, t.shard_id), t.to,
                                                   DR_REPLICA_DEAD, a->err);
            if (rc != DR_OK) {
                return rc;
            }
        }
    }
    d->transfer_count = kept;
    return DR_OK;
}

/* Take the peer's replicas off the record, but keep, as dead, those that no whole copy elsewhere
 * makes up for: where the last one was must not be forgotten. */
static enum dr_code strip_collection(struct dr_apply *a, const struct dr_collection *c, uint64_t id)
{
    struct dr_draft d;
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc == DR_OK) {
        rc = end_transfers(a, &d, id);
    }
    for (uint32_t i = 0; rc == DR_OK && i < d.shard_count; i++) {
        struct dr_shard *s = &d.shard[i];
        bool has_copy = false;
        for (uint32_t k = 0; k < s->replica_count; k++) {
            has_copy = has_copy ||
                       (s->replica[k].peer_id != id && dr_replica_is_source(s->replica[k].state));
        }
        if (dr_shard_replica(s, id) != NULL) {
            rc = has_copy ? dr_draft_drop_replica(&d, s, id, a->err)
                          : dr_draft_set_replica(&d, s, id, DR_REPLICA_DEAD, a->err);
        }
    }
    return rc == DR_OK ? dr_apply_finish(a, &d, c) : rc;
}

enum dr_code dr_apply_remove_peer(struct dr_apply *a)
{
    uint64_t id = 0;
    bool is_forced = false;
    uint32_t count = 0;
    (void)dr_jr_u64(&a->fields, "id", true, 1, (uint64_t)INT64_MAX, &id);
    (void)dr_jr_bool(&a->fields, "force", true, &is_forced);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (dr_catalog_peer(a->c, id) == NULL) {
        return dr_apply_refuse(a, DR_NOT_FOUND, "Peer %" PRIu64 " does not exist", id);
    }
    for (uint32_t i = 0; i < a->c->count; i++) {
        const struct dr_collection *c = a->c->collection[i];
        if (c->info.resharding != NULL && c->info.resharding->peer_id == id) {
            return dr_apply_refuse(a, DR_CONFLICT,
                                   "Cannot remove peer %" PRIu64
                                   ": it leads the resharding of `%s`; finish or abort that first",
                                   id, c->info.name);
        }
        if (!is_on_peer(&c->info, id)) {
            continue;
        }
        if (!is_forced) {
            return dr_apply_refuse(a, DR_CONFLICT,
                                   "Cannot remove peer %" PRIu64 " as there are shards on it", id);
        }
        enum dr_code rc = strip_collection(a, c, id);
        if (rc != DR_OK || a->result->code != DR_OK) {
            return rc;
        }
    }
    struct dr_peer *peer = copy_others(a, id, &count);
    return peer == NULL ? dr_fail_nomem(a->err) : set_peers(a, peer, count);
}
