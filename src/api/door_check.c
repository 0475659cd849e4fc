/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what is wrong with a body on the face of it: missing fields, other types, values that cannot
 * be. What needs the catalog's state is refused by the cluster. Unknown fields are ignored, as
 * clients expect. Pure. */
#include <stdio.h>
#include <string.h>

#include "api/door_private.h"

enum kind { COUNT, U32, U64, BOOL, TEXT, LIST, OBJECT, KEY };

struct rule {
    const char *key;
    enum kind kind;
    bool is_required;
};

enum { PATH_BYTES = 64 };

static bool fault(struct dr_fault *f, enum dr_fault_kind kind, const char *prefix, const char *key,
                  const char *what)
{
    f->kind = kind;
    (void)snprintf(f->text, sizeof f->text, "%s%s: %s", prefix, key, what);
    return false;
}

static const char *kind_text(enum kind kind)
{
    switch (kind) {
    case COUNT:
    case U32:
        return "expected an unsigned 32-bit integer";
    case U64:
        return "expected an unsigned integer";
    case BOOL:
        return "expected true or false";
    case TEXT:
        return "expected a string";
    case LIST:
        return "expected a list";
    case OBJECT:
        return "expected an object";
    case KEY:
        return "expected a string or an unsigned integer";
    }
    return "has another type";
}

static bool is_unsigned(const json_t *j, uint64_t max)
{
    return json_is_integer(j) && json_integer_value(j) >= 0 &&
           (uint64_t)json_integer_value(j) <= max;
}

static bool is_of(enum kind kind, const json_t *j)
{
    switch (kind) {
    case COUNT:
    case U32:
        return is_unsigned(j, UINT32_MAX);
    case U64:
        return is_unsigned(j, INT64_MAX);
    case BOOL:
        return json_is_boolean(j);
    case TEXT:
        return json_is_string(j);
    case LIST:
        return json_is_array(j);
    case OBJECT:
        return json_is_object(j);
    case KEY:
        return json_is_string(j) || is_unsigned(j, INT64_MAX);
    }
    return false;
}

/* `prefix` is the path of the object, "params." or "". */
static bool follows(const json_t *body, const char *prefix, const struct rule *rules,
                    struct dr_fault *f)
{
    for (const struct rule *r = rules; r->key != NULL; r++) {
        const json_t *j = json_object_get(body, r->key);
        bool is_absent = j == NULL || json_is_null(j);
        if (is_absent && r->is_required) {
            f->kind = DR_FAULT_FORMAT;
            (void)snprintf(f->text, sizeof f->text, "missing field `%s%s`", prefix, r->key);
            return false;
        }
        if (!is_absent && !is_of(r->kind, j)) {
            return fault(f, DR_FAULT_FORMAT, prefix, r->key, kind_text(r->kind));
        }
        if (!is_absent && r->kind == COUNT && json_integer_value(j) == 0) {
            return fault(f, DR_FAULT_RANGE, prefix, r->key, "value 0 invalid, must be 1 or larger");
        }
    }
    return true;
}

bool dr_check_create(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {
        {"shard_number", COUNT, false},
        {"replication_factor", COUNT, false},
        {"write_consistency_factor", COUNT, false},
        {"sharding_method", TEXT, false},
        {"on_disk_payload", BOOL, false},
        {0},
    };
    if (!follows(body, "", rules, f)) {
        return false;
    }
    const char *method = json_string_value(json_object_get(body, "sharding_method"));
    if (method != NULL && strcmp(method, "auto") != 0 && strcmp(method, "custom") != 0) {
        return fault(f, DR_FAULT_FORMAT, "", "sharding_method",
                     "unknown variant, expected `auto` or `custom`");
    }
    return true;
}

bool dr_check_update(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"params", OBJECT, false}, {0}};
    static const struct rule inner[] = {
        {"replication_factor", COUNT, false},
        {"write_consistency_factor", COUNT, false},
        {0},
    };
    return follows(body, "", rules, f) &&
           follows(json_object_get(body, "params"), "params.", inner, f);
}

static const struct rule create_key_rules[] = {
    {"shard_key", KEY, true},
    {"shards_number", COUNT, false},
    {"shard_number", COUNT, false},
    {"replication_factor", COUNT, false},
    {"placement", LIST, false},
    {"initial_state", TEXT, false},
    {0},
};
static const struct rule drop_key_rules[] = {
    {"shard_key", KEY, true},
    {"confirm_drop_promoted", BOOL, false},
    {0},
};
static const struct rule transfer_rules[] = {
    {"shard_id", U32, true}, {"from_peer_id", U64, true}, {"to_peer_id", U64, true},
    {"method", TEXT, false}, {"to_shard_id", U32, false}, {0},
};
static const struct rule replica_rules[] = {
    {"shard_id", U32, true},
    {"peer_id", U64, true},
    {0},
};
static const struct rule promote_rules[] = {{"default_shard_key", KEY, false}, {0}};
static const struct rule resharding_rules[] = {
    {"direction", TEXT, true},
    {"peer_id", U64, false},
    {"shard_key", KEY, false},
    {0},
};
static const struct rule replicate_points_rules[] = {
    {"from_shard_key", KEY, true},
    {"to_shard_key", KEY, true},
    {"filter", OBJECT, false},
    {0},
};
static const struct rule no_rules[] = {{0}};

static const struct {
    const char *name;
    const struct rule *rules;
} operations[] = {
    {"move_shard", transfer_rules},
    {"replicate_shard", transfer_rules},
    {"abort_transfer", transfer_rules},
    {"restart_transfer", transfer_rules},
    {"drop_replica", replica_rules},
    {"create_sharding_key", create_key_rules},
    {"drop_sharding_key", drop_key_rules},
    {"promote_to_custom_sharding", promote_rules},
    {"replicate_points", replicate_points_rules},
    {"start_resharding", resharding_rules},
    {"abort_resharding", no_rules},
    {"commit_read_hash_ring", no_rules},
    {"commit_write_hash_ring", no_rules},
    {"finish_resharding", no_rules},
    {"finish_migrating_points", no_rules},
};
enum { OPERATION_COUNT = sizeof operations / sizeof operations[0] };

bool dr_check_create_key(const json_t *body, struct dr_fault *f)
{
    return follows(body, "", create_key_rules, f);
}

bool dr_check_drop_key(const json_t *body, struct dr_fault *f)
{
    return follows(body, "", drop_key_rules, f);
}

bool dr_check_promote(const json_t *body, struct dr_fault *f)
{
    return follows(body, "", promote_rules, f);
}

/* Two operations in one body would be two entries; none is a word nobody knows. */
bool dr_check_cluster_op(const json_t *body, struct dr_fault *f)
{
    char prefix[PATH_BYTES];
    int chosen = -1;
    for (int i = 0; i < OPERATION_COUNT; i++) {
        if (json_object_get(body, operations[i].name) == NULL) {
            continue;
        }
        if (chosen >= 0) {
            return fault(f, DR_FAULT_FORMAT, "", operations[i].name, "one operation in a request");
        }
        chosen = i;
    }
    if (chosen < 0) {
        f->kind = DR_FAULT_FORMAT;
        (void)snprintf(f->text, sizeof f->text,
                       "none of the operations of a collection's cluster is named, as "
                       "`move_shard`, `create_sharding_key` or `promote_to_custom_sharding`");
        return false;
    }
    const json_t *inner = json_object_get(body, operations[chosen].name);
    if (!json_is_object(inner)) {
        return fault(f, DR_FAULT_FORMAT, "", operations[chosen].name, kind_text(OBJECT));
    }
    (void)snprintf(prefix, sizeof prefix, "%s.", operations[chosen].name);
    if (!follows(inner, prefix, operations[chosen].rules, f)) {
        return false;
    }
    bool is_transfer = operations[chosen].rules == transfer_rules;
    if (is_transfer &&
        json_equal(json_object_get(inner, "from_peer_id"), json_object_get(inner, "to_peer_id"))) {
        return fault(f, DR_FAULT_RANGE, prefix, "to_peer_id",
                     "cannot be the same peer as from_peer_id");
    }
    return true;
}

bool dr_check_aliases(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"actions", LIST, true}, {0}};
    return follows(body, "", rules, f);
}

static bool has_id(const json_t *point)
{
    const json_t *id = json_object_get(point, "id");
    return json_is_string(id) || is_unsigned(id, INT64_MAX);
}

bool dr_check_upsert(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"points", LIST, false}, {"batch", OBJECT, false}, {0}};
    static const struct rule inner[] = {{"ids", LIST, true}, {0}};
    char path[PATH_BYTES];
    const json_t *points = json_object_get(body, "points");
    const json_t *batch = json_object_get(body, "batch");
    json_t *point;
    size_t i;
    if (!follows(body, "", rules, f)) {
        return false;
    }
    if ((points == NULL) == (batch == NULL)) {
        return fault(f, DR_FAULT_FORMAT, "", "points", "either `points` or `batch` is needed");
    }
    json_array_foreach(points, i, point)
    {
        if (!has_id(point)) {
            (void)snprintf(path, sizeof path, "points[%zu].", i);
            return fault(f, DR_FAULT_FORMAT, path, "id",
                         "expected an unsigned integer or a UUID string");
        }
    }
    return batch == NULL || follows(batch, "batch.", inner, f);
}

bool dr_check_points_delete(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"points", LIST, false}, {"filter", OBJECT, false}, {0}};
    if (!follows(body, "", rules, f)) {
        return false;
    }
    /* An empty filter would erase everything; whoever wants that deletes the collection. */
    const json_t *filter = json_object_get(body, "filter");
    if (filter != NULL && json_object_size(filter) == 0) {
        return fault(f, DR_FAULT_RANGE, "", "filter", "is empty and would select every point");
    }
    if ((json_object_get(body, "points") == NULL) == (filter == NULL)) {
        return fault(f, DR_FAULT_FORMAT, "", "points", "either `points` or `filter` is needed");
    }
    return true;
}

bool dr_check_points_get(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"ids", LIST, true}, {0}};
    return follows(body, "", rules, f);
}

bool dr_check_count(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {{"filter", OBJECT, false}, {"exact", BOOL, false}, {0}};
    return follows(body, "", rules, f);
}

bool dr_check_scroll(const json_t *body, struct dr_fault *f)
{
    static const struct rule rules[] = {
        {"offset", KEY, false},
        {"limit", COUNT, false},
        {"filter", OBJECT, false},
        {0},
    };
    return follows(body, "", rules, f);
}

bool dr_check_name(const char *name, bool is_new, struct dr_fault *f)
{
    size_t length = strlen(name);
    if (length == 0 || length > DR_DOOR_NAME_BYTES_MAX) {
        return fault(f, DR_FAULT_RANGE, "", "collection_name", "must have 1 to 255 characters");
    }
    if (strchr(name, '/') != NULL) {
        return fault(f, DR_FAULT_RANGE, "", "collection_name", "cannot contain \"/\"");
    }
    if (is_new && strpbrk(name, "<>:\"\\|?*") != NULL) {
        return fault(f, DR_FAULT_RANGE, "", "collection_name",
                     "cannot contain any of < > : \" \\ | ? *");
    }
    return true;
}

bool dr_check_timeout(uint64_t seconds, struct dr_fault *f)
{
    if (seconds < 1) {
        return fault(f, DR_FAULT_RANGE, "", "timeout", "value 0 invalid, must be 1 or larger");
    }
    if (seconds > DR_DOOR_TIMEOUT_S_MAX) {
        return fault(f, DR_FAULT_RANGE, "", "timeout", "must be 3600 or smaller");
    }
    return true;
}
