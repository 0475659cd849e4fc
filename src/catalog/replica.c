/* SPDX-License-Identifier: Apache-2.0 */
/* The names and meanings of states, methods and stages, and the rules for names of collections:
 * one table each. Pure. */
#include <string.h>

#include "base/str.h"
#include "catalog/catalog_private.h"

struct replica_row {
    const char *name;
    bool is_readable;
    bool takes_writes;
    bool is_source; /* has all data */
    bool is_stable; /* nothing is under way with it */
};

static const struct replica_row replica_rows[DR_REPLICA_STATE_COUNT] = {
    [DR_REPLICA_ACTIVE] = {"Active", true, true, true, true},
    [DR_REPLICA_DEAD] = {"Dead", false, false, false, true},
    [DR_REPLICA_PARTIAL] = {"Partial", false, true, false, true},
    [DR_REPLICA_INITIALIZING] = {"Initializing", false, true, false, false},
    [DR_REPLICA_LISTENER] = {"Listener", false, true, false, true},
    [DR_REPLICA_PARTIAL_SNAPSHOT] = {"PartialSnapshot", false, false, false, false},
    [DR_REPLICA_RECOVERY] = {"Recovery", false, false, false, false},
    [DR_REPLICA_RESHARDING] = {"Resharding", false, true, true, false},
    [DR_REPLICA_RESHARDING_SCALE_DOWN] = {"ReshardingScaleDown", true, true, true, false},
    [DR_REPLICA_ACTIVE_READ] = {"ActiveRead", true, true, true, false},
    [DR_REPLICA_MANUAL_RECOVERY] = {"ManualRecovery", false, false, false, false},
};

const char *dr_replica_state_name(enum dr_replica_state s)
{
    return s < DR_REPLICA_STATE_COUNT ? replica_rows[s].name : "?";
}

bool dr_replica_state_parse(const char *name, enum dr_replica_state *out)
{
    for (unsigned i = 0; i < DR_REPLICA_STATE_COUNT; i++) {
        if (strcmp(replica_rows[i].name, name) == 0) {
            *out = (enum dr_replica_state)i;
            return true;
        }
    }
    return false;
}

bool dr_replica_is_readable(enum dr_replica_state s)
{
    return s < DR_REPLICA_STATE_COUNT && replica_rows[s].is_readable;
}

bool dr_replica_takes_writes(enum dr_replica_state s)
{
    return s < DR_REPLICA_STATE_COUNT && replica_rows[s].takes_writes;
}

bool dr_replica_is_source(enum dr_replica_state s)
{
    return s < DR_REPLICA_STATE_COUNT && replica_rows[s].is_source;
}

bool dr_replica_is_stable(enum dr_replica_state s)
{
    return s < DR_REPLICA_STATE_COUNT && replica_rows[s].is_stable;
}

static const char *const stage_names[] = {
    [DR_RESHARD_MIGRATING] = "migrating_points",
    [DR_RESHARD_READ_COMMITTED] = "read_hash_ring_committed",
    [DR_RESHARD_WRITE_COMMITTED] = "write_hash_ring_committed",
};

const char *dr_reshard_stage_name(enum dr_reshard_stage s)
{
    return stage_names[s];
}

bool dr_reshard_stage_parse(const char *name, enum dr_reshard_stage *out)
{
    for (unsigned i = 0; i < sizeof stage_names / sizeof stage_names[0]; i++) {
        if (strcmp(stage_names[i], name) == 0) {
            *out = (enum dr_reshard_stage)i;
            return true;
        }
    }
    return false;
}

const char *dr_sharding_method_name(enum dr_sharding_method m)
{
    return m == DR_SHARDING_CUSTOM ? "custom" : "auto";
}

bool dr_sharding_method_parse(const char *name, enum dr_sharding_method *out)
{
    if (strcmp(name, "auto") != 0 && strcmp(name, "custom") != 0) {
        return false;
    }
    *out = name[0] == 'c' ? DR_SHARDING_CUSTOM : DR_SHARDING_AUTO;
    return true;
}

bool dr_transfer_method_is_known(const char *name)
{
    static const char *const known[] = {"stream_records", "snapshot", "wal_delta",
                                        "resharding_stream_records"};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i], name) == 0) {
            return true;
        }
    }
    return false;
}

enum dr_code dr_collection_name_check(const char *name, struct dr_err *err)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > DR_COLLECTION_NAME_BYTES_MAX) {
        return dr_fail(err, DR_INPUT, "a collection's name has 1 to %d bytes, this one has %zu",
                       DR_COLLECTION_NAME_BYTES_MAX, bytes);
    }
    if (!dr_catalog_is_clean_text(name, bytes) || strpbrk(name, "<>:\"/\\|?*") != NULL) {
        return dr_fail(err, DR_INPUT,
                       "a collection's name is UTF-8 text without control characters and without "
                       "any of < > : \" / \\ | ? *");
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return dr_fail(err, DR_INPUT, "a collection cannot be named \"%s\": its name is a folder's",
                       name);
    }
    return DR_OK;
}

bool dr_uuid_text_is_good(const char *uuid)
{
    size_t bytes = strlen(uuid);
    return bytes > 0 && bytes < DR_UUID_TEXT_BYTES &&
           strspn(uuid, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") == bytes;
}

static bool is_flatter_than(const json_t *j, unsigned depth)
{
    if (depth == 0) {
        return false;
    }
    if (json_is_array(j)) {
        for (size_t i = 0; i < json_array_size(j); i++) {
            if (!is_flatter_than(json_array_get(j, i), depth - 1)) {
                return false;
            }
        }
    } else if (json_is_object(j)) {
        json_t *object = (json_t *)j; /* jansson's iterator only reads through it */
        for (void *at = json_object_iter(object); at != NULL;
             at = json_object_iter_next(object, at)) {
            if (!is_flatter_than(json_object_iter_value(at), depth - 1)) {
                return false;
            }
        }
    }
    return true;
}

struct room {
    size_t left;
    bool is_over;
};

static int count_piece(const char *piece, size_t bytes, void *arg)
{
    struct room *room = arg;
    (void)piece;
    room->is_over = bytes > room->left;
    room->left -= room->is_over ? 0 : bytes;
    return room->is_over ? -1 : 0;
}

enum dr_code dr_extra_check(const json_t *j, const char *where, struct dr_err *err)
{
    struct room room = {.left = DR_EXTRA_BYTES_MAX};
    if (!is_flatter_than(j, DR_EXTRA_DEPTH_MAX)) {
        return dr_fail(err, DR_INPUT, "%s: nested deeper than %d levels", where,
                       DR_EXTRA_DEPTH_MAX);
    }
    if (json_dump_callback(j, count_piece, &room, JSON_COMPACT | JSON_ENCODE_ANY) != 0) {
        return room.is_over
                   ? dr_fail(err, DR_INPUT, "%s: more than %d bytes", where, DR_EXTRA_BYTES_MAX)
                   : dr_fail_nomem(err);
    }
    return DR_OK;
}

char *dr_collection_keys_print(const struct dr_collection_info *c, char *buf, size_t buf_bytes)
{
    struct dr_str s;
    char one[DR_SHARD_KEY_BYTES_MAX + 3];
    dr_str_init(&s);
    for (uint32_t i = 0; i < c->key_ring_count && s.len < buf_bytes; i++) {
        dr_str_addf(&s, "%s%s", i == 0 ? "" : ", ",
                    dr_shard_key_print(&c->key_ring[i].key, one, sizeof one));
    }
    dr_copy_text(buf, buf_bytes, dr_str_text(&s));
    if (s.len >= buf_bytes && buf_bytes > 4) { /* the list goes on */
        size_t at = buf_bytes - 4;
        while (at > 0 && ((unsigned char)buf[at] & 0xc0) == 0x80) {
            at--;
        }
        dr_copy_text(buf + at, 4, "...");
    }
    dr_str_fini(&s);
    return buf;
}

enum dr_code dr_catalog_check_method(const char *name, enum dr_sharding_method from,
                                     enum dr_sharding_method to, struct dr_err *err)
{
    if (from == DR_SHARDING_CUSTOM && to == DR_SHARDING_AUTO) {
        return dr_fail(err, DR_REFUSED,
                       "Collection `%s` is custom and cannot become auto: the promotion is one-way",
                       name);
    }
    return DR_OK;
}
