/* SPDX-License-Identifier: Apache-2.0 */
/* A state as JSON text: keys sorted, everything in its order, nothing left out - so that equal
 * states have equal texts and the text's hash compares peers. Shards are short arrays
 * [id, key's place or -1, peer, "state", ...], since there may be a hundred thousand. Rings are not
 * written: they follow from the ids. */
#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

#include "base/str.h"
#include "catalog/catalog_private.h"
#include "catalog/table_private.h"

/* Takes the reference of `j`; NULL: memory was short, which the string remembers. */
static void add_json(struct dr_str *s, json_t *j)
{
    char *text = j == NULL ? NULL : dr_json_text(j);
    if (text == NULL) {
        s->is_short = true;
    } else {
        dr_str_add(s, text);
    }
    dr_free(text);
    json_decref(j);
}

static void add_text(struct dr_str *s, const char *text)
{
    add_json(s, json_string(text));
}

static void add_keys(struct dr_str *s, const struct dr_collection_info *c)
{
    dr_str_add(s, "\"keys\":[");
    for (uint32_t i = 0; i < c->key_ring_count && c->method == DR_SHARDING_CUSTOM; i++) {
        dr_str_add(s, i == 0 ? "" : ",");
        add_json(s, dr_shard_key_to_json(&c->key_ring[i].key));
    }
    dr_str_add(s, "],");
}

static void add_resharding(struct dr_str *s, const struct dr_resharding *r)
{
    dr_str_addf(s, "\"resharding\":{\"direction\":\"%s\",", r->is_up ? "up" : "down");
    if (r->has_key) {
        dr_str_add(s, "\"key\":");
        add_json(s, dr_shard_key_to_json(&r->key));
        dr_str_addc(s, ',');
    }
    dr_str_addf(s, "\"peer_id\":%" PRIu64 ",\"shard_id\":%u,\"stage\":\"%s\",\"uuid\":\"%s\"},",
                r->peer_id, r->shard_id, dr_reshard_stage_name(r->stage), r->uuid);
}

static void add_shards(struct dr_str *s, const struct dr_collection_info *c)
{
    dr_str_add(s, "\"shards\":[");
    for (uint32_t i = 0; i < c->shard_count; i++) {
        const struct dr_shard *shard = &c->shard[i];
        long place = -1;
        if (shard->has_key) {
            place = (long)(dr_collection_ring(c, &shard->key) - c->key_ring);
        }
        dr_str_addf(s, "%s[%u,%ld", i == 0 ? "" : ",", shard->id, place);
        for (uint32_t k = 0; k < shard->replica_count; k++) {
            dr_str_addf(s, ",%" PRIu64 ",\"%s\"", shard->replica[k].peer_id,
                        dr_replica_state_name(shard->replica[k].state));
        }
        dr_str_addc(s, ']');
    }
    dr_str_add(s, "],");
}

static void add_transfers(struct dr_str *s, const struct dr_collection_info *c)
{
    dr_str_add(s, "\"transfers\":[");
    for (uint32_t i = 0; i < c->transfer_count; i++) {
        const struct dr_transfer *t = &c->transfer[i];
        dr_str_addf(s,
                    "%s{\"from\":%" PRIu64 ",\"method\":\"%s\",\"shard_id\":%u,\"sync\":%s,\"to\""
                    ":%" PRIu64,
                    i == 0 ? "" : ",", t->from, t->method, t->shard_id,
                    t->is_sync ? "true" : "false", t->to);
        if (t->has_to_shard) {
            dr_str_addf(s, ",\"to_shard_id\":%u", t->to_shard_id);
        }
        dr_str_addc(s, '}');
    }
    dr_str_add(s, "],");
}

static void add_collection(struct dr_str *s, const struct dr_collection *c)
{
    const struct dr_collection_info *info = &c->info;
    dr_str_addf(s, "{\"changed_at\":%" PRIu64 ",", info->changed_at_index);
    if (info->has_default_key) {
        dr_str_add(s, "\"default_key\":");
        add_json(s, dr_shard_key_to_json(&info->default_key));
        dr_str_addc(s, ',');
    }
    add_keys(s, info);
    if (info->metadata != NULL) {
        dr_str_add(s, "\"metadata\":");
        add_json(s, json_incref((json_t *)info->metadata));
        dr_str_addc(s, ',');
    }
    dr_str_addf(s, "\"method\":\"%s\",\"method_given\":%s,\"name\":",
                dr_sharding_method_name(info->method), info->is_method_given ? "true" : "false");
    add_text(s, info->name);
    dr_str_addf(s, ",\"next_shard_id\":%u,\"replication_factor\":%u,", c->next_shard_id,
                info->replication_factor);
    if (info->resharding != NULL) {
        add_resharding(s, info->resharding);
    }
    dr_str_addf(s, "\"shard_number\":%u,", info->shard_number);
    add_shards(s, info);
    add_transfers(s, info);
    dr_str_addf(s, "\"uuid\":\"%s\",", info->uuid);
    if (info->vectors != NULL) {
        dr_str_add(s, "\"vectors\":");
        add_json(s, json_incref((json_t *)info->vectors));
        dr_str_addc(s, ',');
    }
    dr_str_addf(s, "\"write_consistency_factor\":%u}", info->write_consistency_factor);
}

static void add_peer(struct dr_str *s, const struct dr_peer *p)
{
    dr_str_addf(s, "{\"format\":%u,\"id\":%" PRIu64 ",\"raft\":", p->format, p->id);
    add_text(s, p->raft);
    if (p->store[0] != '\0') { /* else the text is as it was before stores were told */
        dr_str_add(s, ",\"store\":");
        add_text(s, p->store);
    }
    dr_str_add(s, ",\"uri\":");
    add_text(s, p->uri);
    dr_str_add(s, ",\"version\":");
    add_text(s, p->version);
    dr_str_addc(s, '}');
}

enum dr_code dr_catalog_encode(const struct dr_catalog *c, char **text_out, size_t *bytes_out,
                               struct dr_err *err)
{
    *text_out = NULL;
    *bytes_out = 0;
    struct dr_str s;
    dr_str_init(&s);
    dr_str_add(&s, "{\"aliases\":[");
    for (uint32_t i = 0; i < c->aliases->count; i++) {
        dr_str_add(&s, i == 0 ? "[" : ",[");
        add_text(&s, c->aliases->alias[i].name);
        dr_str_addc(&s, ',');
        add_text(&s, c->aliases->alias[i].collection);
        dr_str_addc(&s, ']');
    }
    dr_str_add(&s, "],\"collections\":[");
    for (uint32_t i = 0; i < c->count && s.len <= DR_SNAPSHOT_BYTES_MAX; i++) {
        dr_str_add(&s, i == 0 ? "" : ",");
        add_collection(&s, c->collection[i]);
    }
    dr_str_addf(&s, "],\"index\":%" PRIu64 ",\"peers\":[", c->index);
    for (uint32_t i = 0; i < c->peers->count; i++) {
        dr_str_add(&s, i == 0 ? "" : ",");
        add_peer(&s, &c->peers->peer[i]);
    }
    dr_str_addc(&s, ']');
    dr_table_set_encode(&s, c->tables);
    /* A state without tables keeps the text it has always had. */
    dr_str_addf(&s, ",\"v\":%d}",
                c->tables == NULL ? DR_CATALOG_FORMAT_FIRST : DR_CATALOG_FORMAT_TABLES);
    if (s.is_short) {
        dr_str_fini(&s);
        return dr_fail_nomem(err);
    }
    if (s.len > DR_SNAPSHOT_BYTES_MAX) {
        dr_str_fini(&s);
        return dr_fail(err, DR_REFUSED,
                       "the catalog's text has more than %d bytes, the most that "
                       "a snapshot may: delete collections",
                       DR_SNAPSHOT_BYTES_MAX);
    }
    *bytes_out = s.len;
    *text_out = dr_str_take(&s);
    return *text_out == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_catalog_hash(const struct dr_catalog *c, uint64_t *out, struct dr_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    enum dr_code rc = dr_catalog_encode(c, &text, &bytes, err);
    if (rc == DR_OK) {
        *out = XXH64(text, bytes, 0);
    }
    dr_free(text);
    return rc;
}
