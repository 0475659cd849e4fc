/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what a request of kind sql.purge says to the adapter: table, condition, key, last key. */
#include <string.h>

#include "base/json.h"
#include "store/sql/sql_private.h"
#include "store/sqltext.h"

enum { NAME_BYTES_MAX = 256 };

static enum dr_code add_key(struct sa_spec *spec, const char *name, size_t len, struct dr_arena *a,
                            struct dr_err *err)
{
    while (len > 0 && name[0] == ' ') {
        name++;
        len--;
    }
    while (len > 0 && name[len - 1] == ' ') {
        len--;
    }
    if (len == 0 || len > NAME_BYTES_MAX || spec->key_count == DR_KEY_PARTS_MAX) {
        return dr_fail(err, DR_INPUT, "key: 1 to %d column names are needed", DR_KEY_PARTS_MAX);
    }
    const char *copy = dr_arena_printf(a, "%.*s", (int)len, name);
    spec->key[spec->key_count++] = copy;
    return copy == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* ["a", "b"] or "a,b". */
static enum dr_code read_key(const json_t *j, struct dr_arena *a, struct sa_spec *spec,
                             struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (json_is_string(j)) {
        const char *at = json_string_value(j);
        for (; rc == DR_OK && *at != '\0'; at += *at == ',') {
            size_t len = strcspn(at, ",");
            rc = add_key(spec, at, len, a, err);
            at += len;
        }
        return rc;
    }
    for (size_t i = 0; rc == DR_OK && i < json_array_size(j); i++) {
        const char *name = json_string_value(json_array_get(j, i));
        rc = name == NULL ? dr_fail(err, DR_INPUT, "key: a column's name is a text")
                          : add_key(spec, name, strlen(name), a, err);
    }
    return rc;
}

static enum dr_code read_table(const struct sa_store *s, const json_t *job, struct dr_arena *a,
                               struct sa_spec *out, struct dr_err *err)
{
    const char *table = json_string_value(json_object_get(job, "table"));
    const char *database = json_string_value(json_object_get(job, "database"));
    if (table == NULL) {
        table = json_string_value(json_object_get(job, "collection"));
    }
    if (table == NULL) {
        return DR_OK;
    }
    bool is_whole = database == NULL && strchr(table, '.') != NULL;
    out->collection =
        is_whole
            ? dr_arena_strdup(a, table)
            : dr_arena_printf(a, "%s.%s", database == NULL ? s->info->schema : database, table);
    return out->collection == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code read_spec(const struct sa_store *s, const json_t *job, struct dr_arena *a,
                              struct sa_spec *out, struct dr_err *err)
{
    const char *where = json_string_value(json_object_get(job, "where"));
    const json_t *last = json_object_get(job, "last_key");
    if (!json_is_object(job)) {
        return dr_fail(err, DR_INPUT, "the request is no JSON object");
    }
    enum dr_code rc = read_table(s, job, a, out, err);
    if (rc == DR_OK && where != NULL) {
        rc = dr_sql_check_expression("where", where, err);
        out->where = rc == DR_OK ? dr_arena_strdup(a, where) : NULL;
        rc = rc == DR_OK && out->where == NULL ? dr_fail_nomem(err) : rc;
    }
    if (rc == DR_OK) {
        rc = read_key(json_object_get(job, "key"), a, out, err);
    }
    if (rc == DR_OK && last != NULL && !json_is_null(last)) {
        rc = dr_bound_from_json(last, a, &out->last, err);
        if (rc != DR_OK) {
            dr_wrap(err, "last_key");
        }
    }
    out->allow_no_key = json_is_true(json_object_get(job, "allow_no_key"));
    return rc;
}

enum dr_code sa_spec_parse(const struct sa_store *s, const char *text, struct dr_arena *a,
                           struct sa_spec *out, struct dr_err *err)
{
    json_t *job = NULL;
    *out = (struct sa_spec){0};
    if (text == NULL) {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("request", text, strlen(text), &job, err);
    rc = rc == DR_OK ? read_spec(s, job, a, out, err) : rc;
    json_decref(job);
    return rc;
}
