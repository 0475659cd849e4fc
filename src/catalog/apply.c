/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of all operations: read the entry, find its function, hand back the new state or the
 * same one with a reason. Pure: no clock, no random number, no file, nothing of this peer alone; so
 * every peer that applies the same entries holds the same state.
 *
 * What is wrong with an entry is its own affair (result), what is wrong with this machine is the
 * caller's (return code): an entry that cannot be understood must not stop the log. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog_private.h"
#include "catalog/table_private.h"

enum { APPLY_BLOCK_BYTES = 64 * 1024 };

static enum dr_code apply_nothing(struct dr_apply *a)
{
    (void)dr_apply_fields_end(a);
    return DR_OK;
}

static const struct {
    const char *op;
    dr_apply_op *apply;
} operations[] = {
    {"abort_resharding", dr_apply_abort_resharding},
    {"abort_transfer", dr_apply_abort_transfer},
    {"aliases", dr_apply_aliases},
    {"commit_read_hash_ring", dr_apply_commit_read},
    {"commit_write_hash_ring", dr_apply_commit_write},
    {"create_collection", dr_apply_create_collection},
    {"create_key", dr_apply_create_key},
    {"delete_collection", dr_apply_delete_collection},
    {"drop_key", dr_apply_drop_key},
    {"drop_replica", dr_apply_drop_replica},
    {"finish_resharding", dr_apply_finish_resharding},
    {"finish_transfer", dr_apply_finish_transfer},
    {"nop", apply_nothing},
    {"peer", dr_apply_peer},
    {"promote_to_custom_sharding", dr_apply_promote},
    {"remove_peer", dr_apply_remove_peer},
    {"replica_state", dr_apply_replica_state},
    {"restart_transfer", dr_apply_restart_transfer},
    {"start_resharding", dr_apply_start_resharding},
    {"start_transfer", dr_apply_start_transfer},
    {"table_begin", dr_apply_table_begin},
    {"table_cancel", dr_apply_table_cancel},
    {"table_drop", dr_apply_table_drop},
    {"table_end", dr_apply_table_end},
    {"table_ready", dr_apply_table_ready},
    {"table_release", dr_apply_table_release},
    {"table_remove", dr_apply_table_remove},
    {"table_reserve", dr_apply_table_reserve},
    {"table_switch", dr_apply_table_switch},
    {"table_undrop", dr_apply_table_undrop},
    {"update_collection", dr_apply_update_collection},
};

enum dr_code dr_apply_refuse(struct dr_apply *a, enum dr_code code, const char *fmt, ...)
{
    va_list args;
    assert(code != DR_OK);
    a->result->code = code;
    va_start(args, fmt);
    (void)vsnprintf(a->result->message, sizeof a->result->message, fmt, args);
    va_end(args);
    return DR_OK;
}

const struct dr_collection *dr_apply_collection(struct dr_apply *a)
{
    const char *name = NULL;
    const char *uuid = NULL;
    uint32_t at = 0;
    (void)dr_jr_string(&a->fields, "name", true, &name);
    (void)dr_jr_string(&a->fields, "uuid", true, &uuid);
    if (a->fields.rc != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
        return NULL;
    }
    if (!dr_catalog_position(a->c, name, &at)) {
        (void)dr_apply_refuse(a, DR_NOT_FOUND, "Collection `%s` doesn't exist!", name);
        return NULL;
    }
    const struct dr_collection *c = dr_catalog_collection(a->c, at);
    if (strcmp(c->info.uuid, uuid) != 0) {
        (void)dr_apply_refuse(a, DR_CONFLICT,
                              "Collection `%s` was deleted and created again since this was asked "
                              "for: look at it and ask again",
                              name);
        return NULL;
    }
    return c;
}

bool dr_apply_fields_end(struct dr_apply *a)
{
    if (a->result->code == DR_OK && dr_jr_finish(&a->fields) != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
    }
    return a->result->code == DR_OK;
}

bool dr_apply_key(struct dr_apply *a, const char *field, bool is_required, struct dr_shard_key *out)
{
    const json_t *value = NULL;
    if (!dr_jr_any(&a->fields, field, is_required, &value)) {
        return false;
    }
    a->fields.rc = dr_shard_key_from_json(value, field, out, &a->input_err);
    return a->fields.rc == DR_OK;
}

enum dr_code dr_apply_finish(struct dr_apply *a, struct dr_draft *d,
                             const struct dr_collection *old)
{
    struct dr_collection *made = NULL;
    struct dr_err why = {0};
    if (dr_draft_check(d, &why) != DR_OK) {
        return dr_apply_refuse(a, DR_INPUT, "Collection `%s`: %s", d->info.name, why.msg);
    }
    d->info.changed_at_index = a->index;
    enum dr_code rc = dr_draft_freeze(d, old, &made, a->err);
    if (rc == DR_OK && a->out == NULL) {
        rc = dr_catalog_clone(a->c, a->index, 1, &a->out, a->err);
    }
    if (rc != DR_OK) {
        dr_collection_unref(made);
        return rc;
    }
    dr_catalog_put(a->out, made);
    return DR_OK;
}

/* One shard's list of places in `peers` -> replicas by peer id. */
static enum dr_code read_replicas(struct dr_apply *a, const json_t *peers, const json_t *places,
                                  enum dr_replica_state state, struct dr_shard *s)
{
    size_t count = json_array_size(places);
    if (!json_is_array(places) || count == 0 || count > DR_REPLICAS_MAX) {
        return dr_apply_refuse(a, DR_INPUT, "entry.placement: each shard has 1 to %d replicas",
                               DR_REPLICAS_MAX);
    }
    struct dr_replica *replica = dr_arena_alloc(a->arena, count * sizeof *replica);
    if (replica == NULL) {
        return dr_fail_nomem(a->err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *place = json_array_get(places, i);
        json_int_t at = json_integer_value(place);
        if (!json_is_integer(place) || at < 0 || (uint64_t)at >= json_array_size(peers)) {
            return dr_apply_refuse(a, DR_INPUT, "entry.placement: no such place among the peers");
        }
        uint64_t id = (uint64_t)json_integer_value(json_array_get(peers, (size_t)at));
        size_t to = i;
        for (; to > 0 && replica[to - 1].peer_id > id; to--) {
            replica[to] = replica[to - 1];
        }
        replica[to] = (struct dr_replica){.peer_id = id, .state = state};
    }
    s->replica = replica;
    s->replica_count = (uint32_t)count;
    return DR_OK;
}

enum dr_code dr_apply_placement(struct dr_apply *a, const json_t *peers, const json_t *placement,
                                enum dr_replica_state state, struct dr_shard **out,
                                uint32_t *count_out)
{
    *out = NULL;
    for (size_t i = 0; i < json_array_size(peers); i++) {
        const json_t *id = json_array_get(peers, i);
        if (!json_is_integer(id) ||
            dr_catalog_peer(a->c, (uint64_t)json_integer_value(id)) == NULL) {
            return dr_apply_refuse(a, DR_INPUT, "placement contains unknown peers: [%" PRId64 "]",
                                   (int64_t)json_integer_value(id));
        }
    }
    size_t count = json_array_size(placement);
    struct dr_shard *shard = dr_arena_alloc(a->arena, (count + 1) * sizeof *shard);
    if (shard == NULL) {
        return dr_fail_nomem(a->err);
    }
    memset(shard, 0, (count + 1) * sizeof *shard);
    for (size_t i = 0; i < count; i++) {
        enum dr_code rc = read_replicas(a, peers, json_array_get(placement, i), state, &shard[i]);
        if (rc != DR_OK || a->result->code != DR_OK) {
            return rc;
        }
    }
    *out = shard;
    *count_out = (uint32_t)count;
    return DR_OK;
}

/* The function for the entry's operation; NULL: refused. */
static dr_apply_op *find_operation(struct dr_apply *a, const json_t *entry)
{
    uint64_t version = 0;
    const char *op = NULL;
    dr_jr_init(&a->fields, entry, "entry", &a->input_err);
    (void)dr_jr_u64(&a->fields, "v", true, 1, (uint64_t)INT64_MAX, &version);
    if (a->fields.rc == DR_OK && version > DR_CATALOG_FORMAT) {
        (void)dr_apply_refuse(a, DR_UNSUPPORTED,
                              "the entry has format %" PRIu64
                              ", this peer understands up to %d: update it",
                              version, DR_CATALOG_FORMAT);
        return NULL;
    }
    (void)dr_jr_string(&a->fields, "op", true, &op);
    if (a->fields.rc != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
        return NULL;
    }
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].op, op) == 0) {
            return operations[i].apply;
        }
    }
    (void)dr_apply_refuse(a, DR_UNSUPPORTED,
                          "no operation is called \"%.64s\" here: update this peer", op);
    return NULL;
}

static enum dr_code apply_text(struct dr_apply *a, const char *entry, size_t bytes)
{
    json_t *parsed = NULL;
    enum dr_code rc = bytes > DR_ENTRY_BYTES_MAX
                          ? dr_fail(&a->input_err, DR_INPUT,
                                    "an entry of %zu bytes; at most %d "
                                    "are accepted",
                                    bytes, DR_ENTRY_BYTES_MAX)
                          : dr_catalog_parse(entry, bytes, &parsed, &a->input_err);
    if (rc == DR_NOMEM) {
        return dr_fail_nomem(a->err);
    }
    if (rc != DR_OK) {
        return dr_apply_refuse(a, DR_INPUT, "entry: %s", a->input_err.msg);
    }
    dr_apply_op *apply = find_operation(a, parsed);
    if (apply != NULL) {
        rc = apply(a);
    }
    json_decref(parsed);
    return rc;
}

enum dr_code dr_catalog_apply(const struct dr_catalog *c, uint64_t index, const char *entry,
                              size_t bytes, struct dr_catalog **out, struct dr_apply_result *result,
                              struct dr_err *err)
{
    *out = NULL;
    memset(result, 0, sizeof *result);
    struct dr_apply a = {.c = c, .index = index, .result = result, .err = err};
    a.arena = dr_arena_create(APPLY_BLOCK_BYTES);
    if (a.arena == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = apply_text(&a, entry, bytes);
    dr_arena_destroy(a.arena);
    if (rc != DR_OK) {
        dr_catalog_unref(a.out);
        json_decref(result->value);
        memset(result, 0, sizeof *result);
        return rc;
    }
    if (result->code != DR_OK) { /* refused, perhaps with some of the work done */
        dr_catalog_unref(a.out);
        a.out = NULL;
        json_decref(result->value);
        result->value = NULL;
    }
    result->changed = a.out != NULL;
    *out = a.out != NULL ? a.out : dr_catalog_ref(c);
    return DR_OK;
}
