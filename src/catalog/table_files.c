/* SPDX-License-Identifier: Apache-2.0 */
/* Owns DIR/tables: one NAME.json for each sharded table, {"v", "log_index", "record", "urls"}. The
 * record is what may be shown; the URLs of the nodes, secrets and all, stand beside it, so the
 * files are for their owner alone (mode 0600).
 *
 * The log is the truth, the files follow it; each carries the log index of its change, so that a
 * peer that replays its log does not turn files back to states they have left. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "catalog/table_private.h"

enum { TABLE_FILE_FORMAT = 1, TABLE_FILE_BYTES_MAX = 64 * 1024 * 1024 };

#define SUFFIX ".json"

static json_t *render_urls(const struct dr_table_info *t)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < t->node_count; i++) {
        if (json_array_append_new(list, json_string(t->node[i].url)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *render_table(const struct dr_table_info *t)
{
    return json_pack("{s:i, s:I, s:o, s:o}", "v", (int)TABLE_FILE_FORMAT, "log_index",
                     (json_int_t)t->changed_at_index, "record", dr_table_to_json(t, false), "urls",
                     render_urls(t));
}

/* What the file says; NULL: there is none, or it cannot be read and is about to be replaced. */
static enum dr_code load_file(const char *path, json_t **out, struct dr_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    *out = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return DR_OK;
    }
    enum dr_code rc = dr_file_load(path, TABLE_FILE_BYTES_MAX, &text, &bytes, err);
    if (rc == DR_OK) {
        rc = dr_json_parse_upto(path, text, bytes, TABLE_FILE_BYTES_MAX, out, err);
    }
    dr_free(text);
    return rc == DR_INPUT || rc == DR_REFUSED || rc == DR_CORRUPT ? DR_OK : rc;
}

static uint64_t index_of(const json_t *file)
{
    json_int_t index = json_integer_value(json_object_get(file, "log_index"));
    return index > 0 ? (uint64_t)index : 0;
}

static enum dr_code write_table(const char *root, const struct dr_table_info *t, uint64_t index,
                                struct dr_err *err)
{
    json_t *there = NULL;
    char *text = NULL;
    json_t *wanted = render_table(t);
    char *path = dr_asprintf("%s/%s" SUFFIX, root, t->name);
    enum dr_code rc =
        wanted == NULL || path == NULL ? dr_fail_nomem(err) : load_file(path, &there, err);
    if (rc != DR_OK || index_of(there) > index || json_equal(there, wanted)) {
        goto out;
    }
    text = dr_json_text(wanted);
    rc = text == NULL ? dr_fail_nomem(err) : dr_file_replace(path, text, strlen(text), err);
    if (rc == DR_OK) {
        rc = dr_fault_pass("catalog.table-written", err);
    }
out:
    if (rc != DR_OK) {
        dr_wrap(err, "file of table \"%s\"", t->name);
    }
    json_decref(there);
    json_decref(wanted);
    dr_free(text);
    dr_free(path);
    return rc;
}

/* A file that is gone already is what we want. */
static enum dr_code drop_file(const char *root, const char *file, uint64_t index,
                              struct dr_err *err)
{
    json_t *there = NULL;
    char *path = dr_asprintf("%s/%s", root, file);
    enum dr_code rc = path == NULL ? dr_fail_nomem(err) : load_file(path, &there, err);
    if (rc == DR_OK && index_of(there) <= index) {
        int failure = dr_fault_io_pass();
        if (failure == 0 && unlink(path) != 0 && errno != ENOENT) {
            failure = errno;
        }
        rc = failure == 0 ? dr_dir_sync(root, err) : dr_fail_errno(err, failure, "remove", path);
        if (rc == DR_OK) {
            rc = dr_fault_pass("catalog.table-removed", err);
        }
    }
    json_decref(there);
    dr_free(path);
    return rc;
}

/* Is it a table's file, or what a killed write left beside one? The name goes to `name`. */
static bool read_name(const char *file, char *name, bool *is_leftover)
{
    const char *dot = strstr(file, SUFFIX);
    size_t bytes = dot == NULL ? 0 : (size_t)(dot - file);
    size_t length = strlen(file);
    if (bytes == 0 || bytes > DR_TABLE_NAME_BYTES_MAX) {
        return false;
    }
    memcpy(name, file, bytes);
    name[bytes] = '\0';
    *is_leftover = length > 4 && strcmp(file + length - 4, ".new") == 0;
    return dr_table_name_check(name, NULL) == DR_OK && (*is_leftover || strcmp(dot, SUFFIX) == 0);
}

/* Files of tables that the state does not know. What others put there stays. */
static enum dr_code drop_strangers(const char *root, const struct dr_catalog *after,
                                   struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    DIR *d = opendir(root);
    if (d == NULL) {
        return errno == ENOENT ? DR_OK : dr_fail_errno(err, errno, "open folder", root);
    }
    for (struct dirent *e = readdir(d); e != NULL && rc == DR_OK; e = readdir(d)) {
        char name[DR_TABLE_NAME_BYTES_MAX + 1];
        bool is_leftover = false;
        if (!read_name(e->d_name, name, &is_leftover)) {
            continue;
        }
        if (is_leftover || dr_catalog_table(after, name) == NULL) {
            rc =
                drop_file(root, e->d_name, is_leftover ? UINT64_MAX : dr_catalog_index(after), err);
        }
    }
    (void)closedir(d);
    return rc;
}

static enum dr_code drop_missing(const char *root, const struct dr_catalog *before,
                                 const struct dr_catalog *after, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < dr_catalog_table_count(before); i++) {
        const struct dr_table_info *old = dr_catalog_table_at(before, i);
        if (dr_catalog_table(after, old->name) == NULL) {
            char *file = dr_asprintf("%s" SUFFIX, old->name);
            rc = file == NULL ? dr_fail_nomem(err)
                              : drop_file(root, file, dr_catalog_index(after), err);
            dr_free(file);
        }
    }
    return rc;
}

static enum dr_code make_root(const char *dir, const char *root, struct dr_err *err)
{
    if (access(root, F_OK) == 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_dir_make(root, err);
    return rc == DR_OK ? dr_dir_sync(dir, err) : rc;
}

enum dr_code dr_table_write_files(const char *dir, const struct dr_catalog *before,
                                  const struct dr_catalog *after, struct dr_err *err)
{
    if (before != NULL && before->tables == after->tables) {
        return DR_OK;
    }
    char *root = dr_asprintf("%s/tables", dir);
    if (root == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = dr_catalog_table_count(after) == 0 ? DR_OK : make_root(dir, root, err);
    if (rc == DR_OK) {
        rc = before == NULL ? drop_strangers(root, after, err)
                            : drop_missing(root, before, after, err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < dr_catalog_table_count(after); i++) {
        const struct dr_table_info *t = dr_catalog_table_at(after, i);
        if (before == NULL || dr_catalog_table(before, t->name) != t) {
            rc = write_table(root, t, dr_catalog_index(after), err);
        }
    }
    dr_free(root);
    return rc;
}
