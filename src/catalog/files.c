/* SPDX-License-Identifier: Apache-2.0 */
/* Owns DIR/collections: what a person or a tool can read of the catalog without a log.
 *
 * The log is the truth, the files follow it. Order is what makes a crash harmless: the mapping
 * first, the config last, because "custom without a mapping" would look like a collection without
 * shards and the next shard key would be given ids that hold data. Each config carries the log
 * index it was written for, so that a peer that replays its log does not turn files back to states
 * they have left. No state; one thread per folder. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/catalog.h"
#include "catalog/table_private.h"

#define CONFIG_NAME "collection_config.json"
#define MAPPING_NAME "shard_key_mapping.json"

enum { FILES_FORMAT = 1, FILE_BYTES_MAX = DR_JSON_BYTES_MAX };

/* What the folder of one collection says. */
struct folder_facts {
    json_t *config;  /* NULL: no file, or one that cannot be read as JSON */
    json_t *mapping; /* list form whatever was on the disk; NULL as above */
    uint64_t log_index;
};

/* --- paths --- */

/* The folder's own name. Most names are their own folder; those that a file system would take
 * otherwise ("..", a control character) live under their uuid, behind a % that no other has. */
static char *name_folder(const char *name, const char *uuid)
{
    bool is_odd = name[0] == '%' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    for (const char *at = name; *at != '\0' && !is_odd; at++) {
        is_odd = *at == '/' || (unsigned char)*at < 0x20;
    }
    return is_odd ? dr_asprintf("%%%s", uuid) : dr_strdup(name);
}

static char *join_path(const char *folder, const char *name)
{
    return dr_asprintf("%s/%s", folder, name);
}

/* The collection of `c` that lives in this folder, or NULL. */
static const struct dr_collection_info *find_by_folder(const struct dr_catalog *c,
                                                       const char *folder)
{
    if (folder[0] != '%') {
        const struct dr_collection_info *info = dr_catalog_find(c, folder);
        return info != NULL && strcmp(info->name, folder) == 0 ? info : NULL;
    }
    for (uint32_t i = 0; i < dr_catalog_collection_count(c); i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(c, i);
        if (strcmp(info->uuid, folder + 1) == 0) {
            return info;
        }
    }
    return NULL;
}

/* --- what should be there --- */

static json_t *render_ids(const uint32_t *id, uint32_t count)
{
    json_t *ids = json_array();
    for (uint32_t i = 0; ids != NULL && i < count; i++) {
        if (json_array_append_new(ids, json_integer((json_int_t)id[i])) != 0) {
            json_decref(ids);
            ids = NULL;
        }
    }
    return ids;
}

/* [{"key": K, "shard_ids": [...]}], in the order of the rings, which is the order of the keys. */
static json_t *render_mapping(const struct dr_collection_info *info)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < info->key_ring_count; i++) {
        const struct dr_key_ring *ring = &info->key_ring[i];
        if (!ring->has_key) {
            continue;
        }
        json_t *one = json_object();
        int bad = json_object_set_new(one, "key", dr_shard_key_to_json(&ring->key));
        bad |= json_object_set_new(one, "shard_ids", render_ids(ring->shard_id, ring->shard_count));
        bad |= json_array_append_new(list, one);
        if (bad != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static int put_copy(json_t *object, const char *key, const json_t *value)
{
    return value == NULL ? 0 : json_object_set_new(object, key, json_deep_copy(value));
}

static json_t *render_params(const struct dr_collection_info *info)
{
    json_t *params = json_object();
    int bad = json_object_set_new(params, "shard_number", json_integer(info->shard_number));
    bad |=
        json_object_set_new(params, "replication_factor", json_integer(info->replication_factor));
    bad |= json_object_set_new(params, "write_consistency_factor",
                               json_integer(info->write_consistency_factor));
    if (info->is_method_given || info->method == DR_SHARDING_CUSTOM) {
        const char *method = info->method == DR_SHARDING_CUSTOM ? "custom" : "auto";
        bad |= json_object_set_new(params, "sharding_method", json_string(method));
    }
    if (info->has_default_key) {
        bad |= json_object_set_new(params, "default_shard_key",
                                   dr_shard_key_to_json(&info->default_key));
    }
    bad |= put_copy(params, "vectors", info->vectors);
    if (bad != 0) {
        json_decref(params);
        return NULL;
    }
    return params;
}

static json_t *render_config(const struct dr_collection_info *info)
{
    json_t *config = json_object();
    int bad = json_object_set_new(config, "v", json_integer(FILES_FORMAT));
    bad |= json_object_set_new(config, "name", json_string(info->name));
    bad |= json_object_set_new(config, "uuid", json_string(info->uuid));
    bad |=
        json_object_set_new(config, "log_index", json_integer((json_int_t)info->changed_at_index));
    bad |= json_object_set_new(config, "shard_count", json_integer(info->shard_count));
    bad |= json_object_set_new(config, "params", render_params(info));
    bad |= put_copy(config, "metadata", info->metadata);
    if (bad != 0) {
        json_decref(config);
        return NULL;
    }
    return config;
}

/* Equal but for the log index: many entries change nothing that these files show. */
static bool is_config_equal(const json_t *a, const json_t *b)
{
    if (a == NULL || b == NULL || json_object_size(a) != json_object_size(b)) {
        return false;
    }
    const char *key = NULL;
    const json_t *value = NULL;
    json_object_foreach((json_t *)a, key, value)
    {
        if (strcmp(key, "log_index") != 0 && !json_equal(value, json_object_get(b, key))) {
            return false;
        }
    }
    return true;
}

/* --- what is there --- */

/* {"default": [0, 1]}, as early writers of this file made it; numeric keys were texts there. */
static json_t *turn_object_to_list(const json_t *object)
{
    json_t *list = json_array();
    const char *key = NULL;
    const json_t *ids = NULL;
    json_object_foreach((json_t *)object, key, ids)
    {
        json_t *one = json_pack("{s:s, s:O}", "key", key, "shard_ids", ids);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static enum dr_code check_mapping_entry(const char *path, const json_t *one, uint64_t *total,
                                        struct dr_err *err)
{
    struct dr_shard_key key;
    const json_t *ids = json_object_get(one, "shard_ids");
    enum dr_code rc = dr_shard_key_from_json(json_object_get(one, "key"), path, &key, err);
    if (rc != DR_OK || !json_is_array(ids)) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: an entry is not {\"key\", \"shard_ids\"}; the log writes the file anew "
                       "when this peer starts",
                       path);
    }
    size_t i = 0;
    const json_t *id = NULL;
    json_array_foreach((json_t *)ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > UINT32_MAX) {
            return dr_fail(err, DR_CORRUPT, "%s: shard_ids holds something that is no shard id",
                           path);
        }
    }
    *total += json_array_size(ids);
    return DR_OK;
}

/* Any form in, list form out; *total counts the shard ids. */
static enum dr_code read_mapping(const char *path, json_t *raw, json_t **list_out, uint64_t *total,
                                 struct dr_err *err)
{
    *total = 0;
    json_t *list = json_is_object(raw) ? turn_object_to_list(raw) : json_incref(raw);
    if (list == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    if (!json_is_array(list)) {
        rc = dr_fail(err, DR_CORRUPT, "%s: neither a list nor an object of shard keys", path);
    }
    size_t i = 0;
    const json_t *one = NULL;
    json_array_foreach(list, i, one)
    {
        if (rc == DR_OK) {
            rc = check_mapping_entry(path, one, total, err);
        }
    }
    if (rc != DR_OK) {
        json_decref(list);
        return rc;
    }
    *list_out = list;
    return DR_OK;
}

/* One file as JSON; a missing one is DR_OK and NULL. Damage is DR_CORRUPT. */
static enum dr_code load_json(const char *path, json_t **out, struct dr_err *err)
{
    *out = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return DR_OK;
    }
    char *text = NULL;
    size_t bytes = 0;
    enum dr_code rc = dr_file_load(path, FILE_BYTES_MAX, &text, &bytes, err);
    if (rc != DR_OK) {
        return rc;
    }
    rc = dr_json_parse(path, text, bytes, out, err);
    if (rc == DR_INPUT) {
        rc = dr_fail(err, DR_CORRUPT, "%s: not JSON; the log writes it anew when this peer starts",
                     path);
    }
    dr_free(text);
    return rc;
}

static void forget_facts(struct folder_facts *f)
{
    json_decref(f->config);
    json_decref(f->mapping);
    *f = (struct folder_facts){0};
}

/* For writing: damaged files count as missing, since they are about to be replaced. */
static enum dr_code read_folder(const char *folder, struct folder_facts *out, struct dr_err *err)
{
    *out = (struct folder_facts){0};
    json_t *raw = NULL;
    char *config = join_path(folder, CONFIG_NAME);
    char *mapping = join_path(folder, MAPPING_NAME);
    enum dr_code rc = DR_OK;
    if (config == NULL || mapping == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = load_json(config, &out->config, err);
    if (rc == DR_OK || rc == DR_CORRUPT) {
        rc = load_json(mapping, &raw, err);
    }
    if (rc == DR_OK && json_is_array(raw)) { /* the old form is rewritten, so it counts as none */
        out->mapping = json_incref(raw);
    }
    rc = rc == DR_CORRUPT ? DR_OK : rc;
    json_int_t index = json_integer_value(json_object_get(out->config, "log_index"));
    out->log_index = index > 0 ? (uint64_t)index : 0;
out:
    json_decref(raw);
    dr_free(config);
    dr_free(mapping);
    if (rc != DR_OK) {
        forget_facts(out);
    }
    return rc;
}

/* --- changing it --- */

static enum dr_code put_json(const char *folder, const char *name, const json_t *value,
                             struct dr_err *err)
{
    char *path = join_path(folder, name);
    char *text = dr_json_text(value);
    enum dr_code rc = DR_OK;
    if (path == NULL || text == NULL) {
        rc = dr_fail_nomem(err);
    } else {
        rc = dr_file_replace(path, text, strlen(text), err);
    }
    dr_free(text);
    dr_free(path);
    return rc;
}

/* A file that is gone already is what we want. */
static enum dr_code drop_file(const char *folder, const char *name, struct dr_err *err)
{
    char *path = join_path(folder, name);
    if (path == NULL) {
        return dr_fail_nomem(err);
    }
    int failure = dr_fault_io_pass();
    if (failure == 0 && unlink(path) != 0 && errno != ENOENT) {
        failure = errno;
    }
    enum dr_code rc = failure == 0 ? DR_OK : dr_fail_errno(err, failure, "remove", path);
    dr_free(path);
    return rc;
}

/* Files that a killed dr_file_replace() left beside the real ones. */
static enum dr_code drop_leftovers(const char *folder, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    DIR *d = opendir(folder);
    if (d == NULL) {
        return errno == ENOENT ? DR_OK : dr_fail_errno(err, errno, "open folder", folder);
    }
    for (struct dirent *e = readdir(d); e != NULL && rc == DR_OK; e = readdir(d)) {
        size_t length = strlen(e->d_name);
        bool is_ours = strncmp(e->d_name, CONFIG_NAME ".", sizeof CONFIG_NAME) == 0 ||
                       strncmp(e->d_name, MAPPING_NAME ".", sizeof MAPPING_NAME) == 0;
        if (is_ours && length > 4 && strcmp(e->d_name + length - 4, ".new") == 0) {
            rc = drop_file(folder, e->d_name, err);
        }
    }
    (void)closedir(d);
    return rc;
}

/* Config first: without it the folder is no collection any more, whatever else is left. */
static enum dr_code drop_folder(const char *root, const char *folder, struct dr_err *err)
{
    enum dr_code rc = drop_file(folder, CONFIG_NAME, err);
    if (rc == DR_OK) {
        rc = dr_dir_sync(folder, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("catalog.config-removed", err);
    }
    if (rc == DR_OK) {
        rc = drop_file(folder, MAPPING_NAME, err);
    }
    if (rc == DR_OK) {
        rc = drop_leftovers(folder, err);
    }
    if (rc == DR_OK) {
        rc = dr_fault_pass("catalog.mapping-removed", err);
    }
    /* A file that somebody else put there keeps the folder; it is not ours to delete. */
    if (rc == DR_OK && rmdir(folder) != 0 && errno != ENOTEMPTY && errno != EEXIST &&
        errno != ENOENT) {
        rc = dr_fail_errno(err, errno, "remove folder", folder);
    }
    return rc == DR_OK ? dr_dir_sync(root, err) : rc;
}

static enum dr_code drop_collection(const char *root, const char *name, uint64_t index,
                                    struct dr_err *err)
{
    struct folder_facts facts = {0};
    char *folder = join_path(root, name);
    enum dr_code rc = DR_OK;
    if (folder == NULL) {
        return dr_fail_nomem(err);
    }
    if (access(folder, F_OK) != 0) {
        goto out;
    }
    rc = read_folder(folder, &facts, err);
    if (rc == DR_OK && facts.log_index <= index) {
        rc = drop_folder(root, folder, err);
    }
out:
    forget_facts(&facts);
    dr_free(folder);
    return rc;
}

static enum dr_code write_folder(const char *root, const char *folder, bool is_new,
                                 const json_t *mapping, const json_t *config, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (is_new) {
        rc = dr_dir_make(folder, err);
        if (rc == DR_OK) {
            rc = dr_dir_sync(root, err);
        }
        if (rc == DR_OK) {
            rc = dr_fault_pass("catalog.folder-made", err);
        }
    }
    if (rc == DR_OK && (mapping != NULL || config != NULL)) {
        rc = drop_leftovers(folder, err); /* a crash in the midst of this very change left them */
    }
    if (rc == DR_OK && mapping != NULL) {
        rc = dr_fault_pass("catalog.mapping-due", err);
        if (rc == DR_OK) {
            rc = put_json(folder, MAPPING_NAME, mapping, err);
        }
        if (rc == DR_OK) {
            rc = dr_fault_pass("catalog.mapping-written", err);
        }
    }
    if (rc == DR_OK && config != NULL) {
        rc = put_json(folder, CONFIG_NAME, config, err);
        if (rc == DR_OK) {
            rc = dr_fault_pass("catalog.config-written", err);
        }
    }
    return rc;
}

/* Bring one folder to what `info` says, unless it is already ahead of the log position `index`. */
static enum dr_code write_collection(const char *root, const struct dr_collection_info *info,
                                     uint64_t index, struct dr_err *err)
{
    struct folder_facts facts = {0};
    enum dr_code rc = DR_OK;
    json_t *mapping = render_mapping(info);
    json_t *config = render_config(info);
    char *name = name_folder(info->name, info->uuid);
    char *folder = name == NULL ? NULL : join_path(root, name);
    if (mapping == NULL || config == NULL || folder == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = read_folder(folder, &facts, err);
    if (rc != DR_OK || facts.log_index > index) {
        goto out;
    }
    bool is_mapping_due = facts.mapping == NULL || !json_equal(facts.mapping, mapping);
    bool is_config_due = !is_config_equal(facts.config, config);
    rc = write_folder(root, folder, facts.config == NULL, is_mapping_due ? mapping : NULL,
                      is_config_due ? config : NULL, err);
out:
    if (rc != DR_OK) {
        dr_wrap(err, "files of collection \"%s\"", info->name);
    }
    forget_facts(&facts);
    json_decref(mapping);
    json_decref(config);
    dr_free(name);
    dr_free(folder);
    return rc;
}

/* Same collection, not the same name used again. */
static bool is_same(const struct dr_collection_info *a, const struct dr_collection_info *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a->uuid, b->uuid) == 0);
}

/* The collection of that very name (an alias of it does not count), or NULL. */
static const struct dr_collection_info *find_named(const struct dr_catalog *c, const char *name)
{
    const struct dr_collection_info *info = dr_catalog_find(c, name);
    return info != NULL && strcmp(info->name, name) == 0 ? info : NULL;
}

static enum dr_code drop_missing(const char *root, const struct dr_catalog *before,
                                 const struct dr_catalog *after, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < dr_catalog_collection_count(before) && rc == DR_OK; i++) {
        const struct dr_collection_info *old = dr_catalog_collection_at(before, i);
        if (i < dr_catalog_collection_count(after) && dr_catalog_collection_at(after, i) == old) {
            continue;
        }
        if (is_same(old, find_named(after, old->name))) {
            continue;
        }
        char *name = name_folder(old->name, old->uuid);
        rc = name == NULL ? dr_fail_nomem(err)
                          : drop_collection(root, name, dr_catalog_index(after), err);
        dr_free(name);
    }
    return rc;
}

/* Folders on the disk that the state does not know, and leftovers in those it knows. */
static enum dr_code drop_strangers(const char *root, const struct dr_catalog *after,
                                   struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    DIR *d = opendir(root);
    if (d == NULL) {
        return dr_fail_errno(err, errno, "open folder", root);
    }
    for (struct dirent *e = readdir(d); e != NULL && rc == DR_OK; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (find_by_folder(after, e->d_name) == NULL) {
            rc = drop_collection(root, e->d_name, dr_catalog_index(after), err);
            continue;
        }
        char *folder = join_path(root, e->d_name);
        rc = folder == NULL ? dr_fail_nomem(err) : drop_leftovers(folder, err);
        dr_free(folder);
    }
    (void)closedir(d);
    return rc;
}

static enum dr_code make_root(const char *dir, char **root_out, struct dr_err *err)
{
    *root_out = join_path(dir, "collections");
    if (*root_out == NULL) {
        return dr_fail_nomem(err);
    }
    if (access(*root_out, F_OK) == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_dir_make(*root_out, err);
    return rc == DR_OK ? dr_dir_sync(dir, err) : rc;
}

enum dr_code dr_catalog_write_files(const char *dir, const struct dr_catalog *before,
                                    const struct dr_catalog *after, struct dr_err *err)
{
    assert(dir != NULL && after != NULL);
    char *root = NULL;
    enum dr_code rc = DR_OK;
    if (before == after) {
        return DR_OK;
    }
    rc = make_root(dir, &root, err);
    if (rc == DR_OK) {
        rc = before == NULL ? drop_strangers(root, after, err)
                            : drop_missing(root, before, after, err);
    }
    for (uint32_t i = 0; i < dr_catalog_collection_count(after) && rc == DR_OK; i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(after, i);
        if (before != NULL && i < dr_catalog_collection_count(before) &&
            dr_catalog_collection_at(before, i) == info) {
            continue;
        }
        if (before != NULL && find_named(before, info->name) == info) {
            continue;
        }
        rc = write_collection(root, info, dr_catalog_index(after), err);
    }
    if (rc == DR_OK) {
        rc = dr_table_write_files(dir, before, after, err);
    }
    dr_free(root);
    return rc;
}

/* --- looking --- */

/* Whether the two files of a folder fit each other. A config behind its mapping is half a change;
 * a config ahead of its mapping cannot come from a crash, and serving it would hide shards. */
static enum dr_code judge_pair(const char *folder, const json_t *config, const json_t *mapping,
                               uint64_t total, bool *is_half, struct dr_err *err)
{
    const json_t *method = json_object_get(json_object_get(config, "params"), "sharding_method");
    bool is_custom = json_is_string(method) && strcmp(json_string_value(method), "custom") == 0;
    const json_t *count = json_object_get(config, "shard_count");
    if (config != NULL && (!json_is_object(json_object_get(config, "params")) ||
                           !json_is_integer(count) || json_integer_value(count) < 0)) {
        return dr_fail(err, DR_CORRUPT, "%s/" CONFIG_NAME ": params or shard_count is missing",
                       folder);
    }
    if (config == NULL) {
        *is_half = *is_half || mapping != NULL;
        return DR_OK;
    }
    json_int_t shards = json_integer_value(count);
    if (is_custom && shards > 0 && total == 0) {
        return dr_fail(err, DR_CORRUPT,
                       "%s: sharding method custom with %lld shards, but no shard key mapping; do "
                       "not serve it, restore " MAPPING_NAME " from another peer",
                       folder, (long long)shards);
    }
    if (is_custom ? total != (uint64_t)shards : total != 0) {
        *is_half = true;
    }
    return DR_OK;
}

/* The files against the state: behind it is half a change, which the log repairs. */
static enum dr_code judge_against(const char *folder, const struct dr_collection_info *info,
                                  const json_t *config, const json_t *mapping, bool *is_half,
                                  struct dr_err *err)
{
    json_t *want_config = render_config(info);
    json_t *want_mapping = render_mapping(info);
    enum dr_code rc = DR_OK;
    if (want_config == NULL || want_mapping == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    bool is_config_equal_now = is_config_equal(config, want_config);
    bool is_mapping_equal = mapping != NULL && json_equal(mapping, want_mapping);
    if (is_config_equal_now && !is_mapping_equal) {
        rc =
            dr_fail(err, DR_CORRUPT,
                    "%s: the mapping is not what the catalog says, although the config is", folder);
    } else if (!is_config_equal_now) {
        *is_half = true;
    }
out:
    json_decref(want_config);
    json_decref(want_mapping);
    return rc;
}

static enum dr_code check_folder(const char *root, const char *name, const struct dr_catalog *c,
                                 bool *is_half, struct dr_err *err)
{
    json_t *config = NULL;
    json_t *raw = NULL;
    json_t *mapping = NULL;
    uint64_t total = 0;
    char *folder = join_path(root, name);
    char *config_path = folder == NULL ? NULL : join_path(folder, CONFIG_NAME);
    char *mapping_path = folder == NULL ? NULL : join_path(folder, MAPPING_NAME);
    enum dr_code rc = DR_OK;
    if (config_path == NULL || mapping_path == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    rc = load_json(config_path, &config, err);
    if (rc == DR_OK) {
        rc = load_json(mapping_path, &raw, err);
    }
    if (rc == DR_OK && raw != NULL) {
        rc = read_mapping(mapping_path, raw, &mapping, &total, err);
    }
    if (rc == DR_OK) {
        rc = judge_pair(folder, config, mapping, total, is_half, err);
    }
    const struct dr_collection_info *info = c == NULL ? NULL : find_by_folder(c, name);
    if (rc == DR_OK && info != NULL) {
        rc = judge_against(folder, info, config, mapping, is_half, err);
    }
out:
    json_decref(config);
    json_decref(raw);
    json_decref(mapping);
    dr_free(folder);
    dr_free(config_path);
    dr_free(mapping_path);
    return rc;
}

/* Collections of the state that have no folder yet. */
static enum dr_code find_unwritten(const char *root, const struct dr_catalog *c, bool *is_half,
                                   struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < dr_catalog_collection_count(c) && rc == DR_OK; i++) {
        const struct dr_collection_info *info = dr_catalog_collection_at(c, i);
        char *name = name_folder(info->name, info->uuid);
        char *folder = name == NULL ? NULL : join_path(root, name);
        if (folder == NULL) {
            rc = dr_fail_nomem(err);
        } else if (access(folder, F_OK) != 0) {
            *is_half = true;
        }
        dr_free(name);
        dr_free(folder);
    }
    return rc;
}

enum dr_code dr_catalog_check_files(const char *dir, const struct dr_catalog *c, bool *is_half_out,
                                    struct dr_err *err)
{
    *is_half_out = false;
    char *root = join_path(dir, "collections");
    if (root == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    DIR *d = opendir(root);
    if (d == NULL && errno != ENOENT) {
        rc = dr_fail_errno(err, errno, "open folder", root);
        goto out;
    }
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL && rc == DR_OK;
         e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            rc = check_folder(root, e->d_name, c, is_half_out, err);
        }
    }
    if (rc == DR_OK && c != NULL) {
        rc = find_unwritten(root, c, is_half_out, err);
    }
out:
    if (d != NULL) {
        (void)closedir(d);
    }
    dr_free(root);
    return rc;
}
