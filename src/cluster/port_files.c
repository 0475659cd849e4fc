/* SPDX-License-Identifier: Apache-2.0 */
/* The tables' records as files, for looking without a peer: DIR/cluster/tables/NAME.json, which
 * catalog/table_files.c writes. A file comes and goes as a whole, so reading needs no lock. Needs
 * no consensus library: part of every build. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "cluster/port.h"

enum { RECORD_BYTES_MAX = 64 * 1024 * 1024 };

#define SUFFIX ".json"

static int is_record(const struct dirent *e)
{
    size_t length = strlen(e->d_name);
    return length > strlen(SUFFIX) && strcmp(e->d_name + length - strlen(SUFFIX), SUFFIX) == 0;
}

/* Behind the others in the list. A file that has just gone is no record any more. */
static enum dr_code add_record(json_t *list, const char *folder, const char *name,
                               struct dr_err *err)
{
    struct dr_err why = {0};
    char *text = NULL;
    size_t bytes = 0;
    json_t *file = NULL;
    char *path = dr_asprintf("%s/%s", folder, name);
    enum dr_code rc = path == NULL ? dr_fail_nomem(&why)
                                   : dr_file_load(path, RECORD_BYTES_MAX, &text, &bytes, &why);
    if (rc == DR_NOT_FOUND) {
        rc = DR_OK;
        goto out;
    }
    if (rc == DR_OK) {
        rc = dr_json_parse_upto(path, text, bytes, RECORD_BYTES_MAX, &file, &why);
    }
    json_t *record = json_object_get(file, "record");
    if (rc == DR_INPUT || (rc == DR_OK && !json_is_object(record))) {
        rc = dr_fail(&why, DR_CORRUPT,
                     "%s: holds no table's record; the log writes it anew when this peer starts",
                     path);
    }
    if (rc == DR_OK && json_array_append(list, record) != 0) {
        rc = dr_fail_nomem(&why);
    }
out:
    if (rc != DR_OK && err != NULL) {
        *err = why;
    }
    json_decref(file);
    dr_free(text);
    dr_free(path);
    return rc;
}

enum dr_code dr_port_read_files(const char *data_dir, json_t **out, struct dr_err *err)
{
    struct dirent **entry = NULL;
    enum dr_code rc = DR_OK;
    int count = 0;
    char *folder = dr_asprintf("%s/cluster/tables", data_dir);
    json_t *list = json_array();
    *out = NULL;
    if (folder == NULL || list == NULL) {
        rc = dr_fail_nomem(err);
        goto out;
    }
    count = scandir(folder, &entry, is_record, alphasort);
    if (count < 0 && errno != ENOENT) {
        rc = dr_fail_errno(err, errno, "read folder", folder);
    }
    for (int i = 0; i < count; i++) {
        if (rc == DR_OK) {
            rc = add_record(list, folder, entry[i]->d_name, err);
        }
        free(entry[i]); /* scandir's */
    }
    free(entry);
out:
    dr_free(folder);
    if (rc != DR_OK) {
        json_decref(list);
        return rc;
    }
    *out = list;
    return DR_OK;
}
