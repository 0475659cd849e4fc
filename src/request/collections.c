/* SPDX-License-Identifier: Apache-2.0 */
/* The list "collections" that several kinds of jobs have. No state. */
#include <stdio.h>
#include <string.h>

#include "request/request_private.h"

enum { WHERE_BYTES = 512 };

struct list {
    const char **name;
    uint32_t count;
};

/* Take over the i-th name. */
static enum dr_code
read_member(const struct dr_jr *jr, const json_t *array, size_t i, struct dr_arena *a,
            enum dr_code (*check)(const char *where, const char *name, struct dr_err *err),
            struct list *list, struct dr_err *err)
{
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "%.460s.collections[%zu]", jr->path, i);
    const char *name = json_string_value(json_array_get(array, i));
    if (name == NULL) {
        return dr_fail(err, DR_INPUT, "%s: expected a string, the name of a collection", where);
    }
    enum dr_code rc = dr_request_check_name(where, name, err);
    if (rc == DR_OK && check != NULL) {
        rc = check(where, name, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    for (uint32_t k = 0; k < list->count; k++) {
        if (strcmp(list->name[k], name) == 0) {
            return dr_fail(err, DR_INPUT, "%s: \"%s\" is named twice; name it once", where, name);
        }
    }
    const char *copy = dr_arena_strdup(a, name);
    if (copy == NULL) {
        return dr_fail_nomem(err);
    }
    list->name[list->count++] = copy;
    return DR_OK;
}

enum dr_code dr_request_read_collections(struct dr_jr *jr, struct dr_arena *a,
                                         enum dr_code (*check)(const char *where, const char *name,
                                                               struct dr_err *err),
                                         const char ***name_out, uint32_t *count_out,
                                         struct dr_err *err)
{
    struct list list = {0};
    const json_t *array = NULL;
    *name_out = NULL;
    *count_out = 0;
    if (!dr_jr_array(jr, "collections", false, DR_COLLECTIONS_MAX, &array)) {
        return jr->rc;
    }
    const size_t count = json_array_size(array);
    if (count == 0) {
        return dr_fail(err, DR_INPUT,
                       "%s.collections: expected at least one name, found none; leave the key out "
                       "to mean all of the database",
                       jr->path);
    }
    list.name = dr_arena_alloc(a, count * sizeof list.name[0]);
    if (list.name == NULL) {
        return dr_fail_nomem(err);
    }
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        rc = read_member(jr, array, i, a, check, &list, err);
    }
    *name_out = list.name;
    *count_out = list.count;
    return rc;
}
