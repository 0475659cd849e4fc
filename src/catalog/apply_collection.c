/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on whole collections and on aliases. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog_private.h"

/* The parameters of a new collection, checked one by one; false: refused. */
static bool read_parameters(struct dr_apply *a, struct dr_draft *d)
{
    const char *name = "";
    const char *uuid = "";
    const char *method = "";
    uint64_t shards = 0;
    uint64_t replicas = 0;
    uint64_t writes = 0;
    struct dr_err *why = &a->input_err;
    (void)dr_jr_string(&a->fields, "name", true, &name);
    (void)dr_jr_string(&a->fields, "uuid", true, &uuid);
    (void)dr_jr_string(&a->fields, "method", true, &method);
    (void)dr_jr_bool(&a->fields, "is_method_given", true, &d->info.is_method_given);
    (void)dr_jr_u64(&a->fields, "shard_number", true, 1, DR_SHARDS_MAX, &shards);
    (void)dr_jr_u64(&a->fields, "replication_factor", true, 1, DR_FACTOR_MAX, &replicas);
    (void)dr_jr_u64(&a->fields, "write_consistency_factor", true, 1, DR_FACTOR_MAX, &writes);
    (void)dr_jr_any(&a->fields, "vectors", false, &d->info.vectors);
    (void)dr_jr_object(&a->fields, "metadata", false, &d->info.metadata);
    if (a->fields.rc == DR_OK) {
        a->fields.rc = dr_collection_name_check(name, why);
    }
    if (a->fields.rc == DR_OK && !dr_uuid_text_is_good(uuid)) {
        a->fields.rc = dr_fail(why, DR_INPUT, "entry.uuid: has 1 to 36 letters, digits, hyphens");
    }
    if (a->fields.rc == DR_OK && !dr_sharding_method_parse(method, &d->info.method)) {
        a->fields.rc = dr_fail(why, DR_INPUT, "entry.method: is auto or custom");
    }
    if (a->fields.rc != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", why->msg);
        return false;
    }
    d->info.name = name;
    (void)snprintf(d->info.uuid, sizeof d->info.uuid, "%s", uuid);
    d->info.shard_number = (uint32_t)shards;
    d->info.replication_factor = (uint32_t)replicas;
    d->info.write_consistency_factor = (uint32_t)writes;
    return true;
}

static enum dr_code check_extras(struct dr_apply *a, const struct dr_draft *d)
{
    enum dr_code rc = DR_OK;
    if (d->info.vectors != NULL) {
        rc = dr_extra_check(d->info.vectors, "vectors", &a->input_err);
    }
    if (rc == DR_OK && d->info.metadata != NULL) {
        rc = dr_extra_check(d->info.metadata, "metadata", &a->input_err);
    }
    return rc == DR_INPUT ? dr_apply_refuse(a, rc, "%s", a->input_err.msg)
           : rc == DR_OK  ? DR_OK
                          : dr_fail_nomem(a->err);
}

/* Is the name free? A repeated entry of the same collection is no mistake. */
static bool check_name_is_free(struct dr_apply *a, const struct dr_draft *d, bool *is_repeat_out)
{
    uint32_t at = 0;
    *is_repeat_out = false;
    if (dr_catalog_position(a->c, d->info.name, &at)) {
        *is_repeat_out = strcmp(a->c->collection[at]->info.uuid, d->info.uuid) == 0;
        if (!*is_repeat_out) {
            (void)dr_apply_refuse(a, DR_EXISTS, "Collection `%s` already exists!", d->info.name);
        }
        return *is_repeat_out;
    }
    if (dr_alias_table_find(a->c->aliases, d->info.name) != NULL) {
        (void)dr_apply_refuse(a, DR_INPUT,
                              "Can't create collection with name %s. Alias with the same name "
                              "already exists",
                              d->info.name);
        return false;
    }
    if (a->c->count >= DR_COLLECTIONS_PER_CATALOG_MAX) {
        (void)dr_apply_refuse(a, DR_REFUSED, "there are %d collections, the most that fit",
                              DR_COLLECTIONS_PER_CATALOG_MAX);
        return false;
    }
    return true;
}

enum dr_code dr_apply_create_collection(struct dr_apply *a)
{
    struct dr_draft d;
    const json_t *peers = NULL;
    const json_t *placement = NULL;
    struct dr_shard *shard = NULL;
    uint32_t count = 0;
    bool is_repeat = false;
    enum dr_code rc = dr_draft_begin(&d, a->arena, NULL, 0, a->err);
    if (rc != DR_OK || !read_parameters(a, &d)) {
        return rc;
    }
    (void)dr_jr_array(&a->fields, "peers", true, DR_PEERS_MAX, &peers);
    (void)dr_jr_array(&a->fields, "placement", true, DR_SHARDS_MAX, &placement);
    if (!dr_apply_fields_end(a) || !check_name_is_free(a, &d, &is_repeat) || is_repeat) {
        return DR_OK;
    }
    rc = check_extras(a, &d);
    if (rc != DR_OK || a->result->code != DR_OK) {
        return rc;
    }
    size_t expected = d.info.method == DR_SHARDING_AUTO ? d.info.shard_number : 0;
    if (json_array_size(placement) != expected) {
        return dr_apply_refuse(a, DR_INPUT, "entry.placement: of %zu shards, expected %zu",
                               json_array_size(placement), expected);
    }
    rc = dr_apply_placement(a, peers, placement, DR_REPLICA_ACTIVE, &shard, &count);
    if (rc != DR_OK || shard == NULL) {
        return rc;
    }
    for (uint32_t i = 0; i < count; i++) {
        shard[i].id = i;
    }
    d.shard = shard;
    d.shard_count = count;
    d.next_shard_id = d.info.method == DR_SHARDING_CUSTOM ? DR_CATALOG_FIRST_CUSTOM_SHARD : 0;
    return dr_apply_finish(a, &d, NULL);
}

/* The aliases but those of collection `gone` (may be NULL). */
static enum dr_code keep_aliases(struct dr_apply *a, const char *gone, struct dr_alias_table **out)
{
    const struct dr_alias_table *t = a->c->aliases;
    struct dr_alias *kept = dr_arena_alloc(a->arena, (t->count + 1) * sizeof *kept);
    uint32_t count = 0;
    if (kept == NULL) {
        return dr_fail_nomem(a->err);
    }
    for (uint32_t i = 0; i < t->count; i++) {
        if (strcmp(t->alias[i].collection, gone) != 0) {
            kept[count++] = t->alias[i];
        }
    }
    return dr_alias_table_create(kept, count, out, a->err);
}

static enum dr_code set_value(struct dr_apply *a, json_t *value)
{
    a->result->value = value;
    return value == NULL ? dr_fail_nomem(a->err) : DR_OK;
}

/* Without a uuid the proposer saw no such collection: then none may have come meanwhile. */
enum dr_code dr_apply_delete_collection(struct dr_apply *a)
{
    const char *name = "";
    const char *uuid = NULL;
    uint32_t at = 0;
    struct dr_alias_table *aliases = NULL;
    (void)dr_jr_string(&a->fields, "name", true, &name);
    (void)dr_jr_string(&a->fields, "uuid", false, &uuid);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    if (!dr_catalog_position(a->c, name, &at)) {
        return set_value(a, json_false());
    }
    if (uuid == NULL || strcmp(a->c->collection[at]->info.uuid, uuid) != 0) {
        return dr_apply_refuse(a, DR_CONFLICT,
                               "Collection `%s` was created since its deletion was asked for: look "
                               "at it and ask again",
                               name);
    }
    enum dr_code rc = keep_aliases(a, name, &aliases);
    if (rc == DR_OK) {
        rc = dr_catalog_clone(a->c, a->index, 0, &a->out, a->err);
    }
    if (rc != DR_OK) {
        dr_alias_table_unref(aliases);
        return rc;
    }
    dr_catalog_take_out(a->out, at);
    dr_alias_table_unref(a->out->aliases);
    a->out->aliases = aliases;
    return set_value(a, json_true());
}

/* Old parameters with the given ones over them; null takes one away. The old object is shared with
 * frozen states, so it is copied. */
static enum dr_code merge_metadata(struct dr_apply *a, const json_t *old, const json_t *given,
                                   json_t **out)
{
    json_t *merged = old == NULL ? json_object() : json_copy((json_t *)old);
    json_t *from = (json_t *)given; /* jansson's iterator only reads through it */
    if (merged == NULL || json_object_size(merged) != json_object_size(old)) {
        json_decref(merged); /* a copy may lack a part when memory is short, and not say so */
        return dr_fail_nomem(a->err);
    }
    for (void *at = json_object_iter(from); at != NULL; at = json_object_iter_next(from, at)) {
        const char *key = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        if (json_is_null(value)) {
            (void)json_object_del(merged, key); /* it may not have been there */
        } else if (json_object_set(merged, key, value) != 0) {
            json_decref(merged);
            return dr_fail_nomem(a->err);
        }
    }
    *out = merged;
    return DR_OK;
}

static bool read_method(struct dr_apply *a, const struct dr_collection *c, const char *method)
{
    enum dr_sharding_method asked = c->info.method;
    if (method != NULL && !dr_sharding_method_parse(method, &asked)) {
        (void)dr_apply_refuse(a, DR_INPUT, "sharding_method is auto or custom");
        return false;
    }
    if (dr_catalog_check_method(c->info.name, c->info.method, asked, &a->input_err) != DR_OK) {
        (void)dr_apply_refuse(a, DR_REFUSED, "%s", a->input_err.msg);
        return false;
    }
    if (asked != c->info.method) {
        (void)dr_apply_refuse(a, DR_REFUSED,
                              "Collection `%s` becomes custom by promotion only, which gives its "
                              "shards a key: POST /collections/%s/sharding/promote_to_custom",
                              c->info.name, c->info.name);
        return false;
    }
    return true;
}

enum dr_code dr_apply_update_collection(struct dr_apply *a)
{
    struct dr_draft d;
    const char *method = NULL;
    const json_t *metadata = NULL;
    json_t *merged = NULL;
    const struct dr_collection *c = dr_apply_collection(a);
    if (c == NULL) {
        return DR_OK;
    }
    uint64_t replicas = c->info.replication_factor;
    uint64_t writes = c->info.write_consistency_factor;
    (void)dr_jr_u64(&a->fields, "replication_factor", false, 1, DR_FACTOR_MAX, &replicas);
    (void)dr_jr_u64(&a->fields, "write_consistency_factor", false, 1, DR_FACTOR_MAX, &writes);
    (void)dr_jr_string(&a->fields, "method", false, &method);
    (void)dr_jr_object(&a->fields, "metadata", false, &metadata);
    if (!dr_apply_fields_end(a) || !read_method(a, c, method)) {
        return DR_OK;
    }
    enum dr_code rc = dr_draft_begin(&d, a->arena, c, 0, a->err);
    if (rc == DR_OK && metadata != NULL) {
        rc = merge_metadata(a, c->info.metadata, metadata, &merged);
    }
    if (rc != DR_OK) {
        return rc;
    }
    d.info.replication_factor = (uint32_t)replicas;
    d.info.write_consistency_factor = (uint32_t)writes;
    d.info.metadata = merged != NULL ? merged : c->info.metadata;
    bool is_same = replicas == c->info.replication_factor &&
                   writes == c->info.write_consistency_factor &&
                   (merged == NULL || json_equal(merged, c->info.metadata));
    rc = check_extras(a, &d);
    if (rc == DR_OK && a->result->code == DR_OK && !is_same) {
        rc = dr_apply_finish(a, &d, c);
    }
    json_decref(merged);
    return rc;
}

struct alias_list {
    struct dr_alias *alias;
    uint32_t count;
};

static bool take_alias(struct alias_list *l, const char *name, struct dr_alias *out)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (strcmp(l->alias[i].name, name) == 0) {
            *out = l->alias[i];
            l->alias[i] = l->alias[--l->count];
            return true;
        }
    }
    return false;
}

/* Put an alias of this name, in place of one there was. */
static bool put_alias(struct dr_apply *a, struct alias_list *l, struct dr_alias alias)
{
    struct dr_alias before;
    uint32_t at = 0;
    struct dr_err why = {0};
    if (dr_collection_name_check(alias.name, &why) != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "the alias: %s", why.msg);
        return false;
    }
    if (dr_catalog_position(a->c, alias.name, &at)) {
        (void)dr_apply_refuse(a, DR_EXISTS, "Collection `%s` already exists!", alias.name);
        return false;
    }
    (void)take_alias(l, alias.name, &before);
    if (l->count >= DR_ALIASES_MAX) {
        (void)dr_apply_refuse(a, DR_REFUSED, "there are %d aliases, the most that fit",
                              DR_ALIASES_MAX);
        return false;
    }
    l->alias[l->count++] = alias;
    return true;
}

static bool create_alias(struct dr_apply *a, struct alias_list *l, const json_t *j)
{
    struct dr_jr r;
    struct dr_alias alias = {.name = ""};
    const char *uuid = "";
    uint32_t at = 0;
    dr_jr_init(&r, j, "create_alias", &a->input_err);
    (void)dr_jr_string(&r, "alias_name", true, &alias.name);
    (void)dr_jr_string(&r, "collection_name", true, &alias.collection);
    (void)dr_jr_string(&r, "uuid", true, &uuid);
    if (dr_jr_finish(&r) != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
        return false;
    }
    if (!dr_catalog_position(a->c, alias.collection, &at) ||
        strcmp(a->c->collection[at]->info.uuid, uuid) != 0) {
        (void)dr_apply_refuse(a, DR_NOT_FOUND, "Collection `%s` doesn't exist!", alias.collection);
        return false;
    }
    return put_alias(a, l, alias);
}

static bool change_alias(struct dr_apply *a, struct alias_list *l, const json_t *action)
{
    struct dr_jr r;
    struct dr_alias taken;
    const char *from = "";
    const char *to = NULL;
    const json_t *create = json_object_get(action, "create_alias");
    const json_t *rename = json_object_get(action, "rename_alias");
    if (create != NULL) {
        return create_alias(a, l, create);
    }
    if (rename != NULL) {
        dr_jr_init(&r, rename, "rename_alias", &a->input_err);
        (void)dr_jr_string(&r, "old_alias_name", true, &from);
        (void)dr_jr_string(&r, "new_alias_name", true, &to);
    } else {
        dr_jr_init(&r, json_object_get(action, "delete_alias"), "delete_alias", &a->input_err);
        (void)dr_jr_string(&r, "alias_name", true, &from);
    }
    if (dr_jr_finish(&r) != DR_OK) {
        (void)dr_apply_refuse(a, DR_INPUT, "%s", a->input_err.msg);
        return false;
    }
    if (!take_alias(l, from, &taken)) {
        (void)dr_apply_refuse(a, DR_NOT_FOUND, "Alias %s does not exists!", from);
        return false;
    }
    taken.name = to;
    return to == NULL || put_alias(a, l, taken);
}

static bool is_same_table(const struct dr_alias_table *a, const struct dr_alias_table *b)
{
    bool is_same = a->count == b->count;
    for (uint32_t i = 0; is_same && i < a->count; i++) {
        is_same = strcmp(a->alias[i].name, b->alias[i].name) == 0 &&
                  strcmp(a->alias[i].collection, b->alias[i].collection) == 0;
    }
    return is_same;
}

/* All actions or none, in their order. */
enum dr_code dr_apply_aliases(struct dr_apply *a)
{
    const json_t *actions = NULL;
    struct dr_alias_table *table = NULL;
    const struct dr_alias_table *old = a->c->aliases;
    (void)dr_jr_array(&a->fields, "actions", true, DR_ALIAS_ACTIONS_MAX, &actions);
    if (!dr_apply_fields_end(a)) {
        return DR_OK;
    }
    size_t room = old->count + json_array_size(actions);
    struct alias_list l = {.count = old->count};
    l.alias = dr_arena_alloc(a->arena, (room + 1) * sizeof *l.alias);
    if (l.alias == NULL) {
        return dr_fail_nomem(a->err);
    }
    memcpy(l.alias, old->alias, old->count * sizeof *l.alias);
    for (size_t i = 0; i < json_array_size(actions); i++) {
        if (!change_alias(a, &l, json_array_get(actions, i))) {
            return DR_OK;
        }
    }
    enum dr_code rc = dr_alias_table_create(l.alias, l.count, &table, a->err);
    if (rc != DR_OK || is_same_table(table, old)) {
        dr_alias_table_unref(table);
        return rc;
    }
    rc = dr_catalog_clone(a->c, a->index, 0, &a->out, a->err);
    if (rc != DR_OK) {
        dr_alias_table_unref(table);
        return rc;
    }
    dr_alias_table_unref(a->out->aliases);
    a->out->aliases = table;
    return DR_OK;
}
