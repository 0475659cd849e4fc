/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that make a collection again: what a drop's undo runs before documents come back. */
#include <netdb.h>

#include <string.h>

#include "store/mongodb/survey_private.h"

/* {"db": NAME, "command": {...}} and a line end; the command keeps its order. */
static enum dr_code add_line(struct dr_str *to, const char *database, const bson_t *command,
                             struct dr_err *err)
{
    json_t *name = json_string(database);
    char *quoted = name == NULL ? NULL : dr_json_text(name);
    char *text = bson_as_relaxed_extended_json(command, NULL);
    bool is_ok = quoted != NULL && text != NULL;
    if (is_ok) {
        dr_str_addf(to, "{\"db\": %s, \"command\": %s}\n", quoted, text);
    }
    json_decref(name);
    dr_free(quoted);
    bson_free(text);
    return is_ok && !to->is_short ? DR_OK : dr_fail_nomem(err);
}

static enum dr_code add_create(struct dr_str *to, const struct mg_coll *c, const bson_t *listed,
                               struct dr_err *err)
{
    bson_t options;
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&command, "create", c->name);
    if (mg_document(listed, "options", &options)) {
        bson_copy_to_excluding_noinit(&options, &command, "uuid", "autoIndexId", "create", NULL);
    }
    enum dr_code rc = add_line(to, c->database, &command, err);
    bson_destroy(&command);
    return rc;
}

static void append_index(bson_t *list, uint32_t number, const bson_t *index)
{
    bson_t one;
    char text[16];
    const char *key = NULL;
    (void)bson_uint32_to_string(number, &key, text, sizeof text);
    bson_append_document_begin(list, key, -1, &one);
    bson_copy_to_excluding_noinit(index, &one, "ns", "v", NULL);
    bson_append_document_end(list, &one);
}

static enum dr_code add_indexes(struct dr_str *to, const struct mg_coll *c, const bson_t *indexes,
                                struct dr_err *err)
{
    bson_t command = BSON_INITIALIZER;
    bson_t list;
    bson_iter_t it;
    uint32_t count = 0;
    BSON_APPEND_UTF8(&command, "createIndexes", c->name);
    BSON_APPEND_ARRAY_BEGIN(&command, "indexes", &list);
    (void)bson_iter_init(&it, indexes);
    while (bson_iter_next(&it)) {
        bson_t index;
        uint32_t bytes = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it)) {
            continue;
        }
        bson_iter_document(&it, &bytes, &data);
        if (bson_init_static(&index, data, bytes) && strcmp(mg_text(&index, "name"), "_id_") != 0) {
            append_index(&list, count++, &index);
        }
    }
    bson_append_array_end(&command, &list);
    enum dr_code rc = count == 0 ? DR_OK : add_line(to, c->database, &command, err);
    bson_destroy(&command);
    return rc;
}

static enum dr_code add_sharding(struct dr_str *to, const struct mg_coll *c, const bson_t *listed,
                                 bool is_unique, struct dr_err *err)
{
    bson_t options;
    bson_t collation;
    bson_t *enable = BCON_NEW("enableSharding", BCON_UTF8(c->database));
    bson_t command = BSON_INITIALIZER;
    enum dr_code rc = add_line(to, "admin", enable, err);
    BSON_APPEND_UTF8(&command, "shardCollection", c->ns);
    BSON_APPEND_DOCUMENT(&command, "key", c->pattern);
    if (is_unique) {
        BSON_APPEND_BOOL(&command, "unique", true);
    }
    if (mg_document(listed, "options", &options) &&
        mg_document(&options, "collation", &collation)) {
        bson_t simple; /* a collection of another collation is sharded by the simple one only */
        BSON_APPEND_DOCUMENT_BEGIN(&command, "collation", &simple);
        BSON_APPEND_UTF8(&simple, "locale", "simple");
        bson_append_document_end(&command, &simple);
    }
    if (rc == DR_OK) {
        rc = add_line(to, "admin", &command, err);
    }
    bson_destroy(&command);
    bson_destroy(enable);
    return rc;
}

enum dr_code mg_create_text(const struct mg_coll *c, const bson_t *listed, const bson_t *indexes,
                            bool is_unique, struct dr_arena *a, const char **out,
                            struct dr_err *err)
{
    struct dr_str text;
    dr_str_init(&text);
    enum dr_code rc = add_create(&text, c, listed, err);
    if (rc == DR_OK) {
        rc = add_indexes(&text, c, indexes, err);
    }
    if (rc == DR_OK && c->kind == MG_SHARDED) {
        rc = add_sharding(&text, c, listed, is_unique, err);
    }
    if (rc == DR_OK) {
        *out = dr_arena_strdup(a, dr_str_text(&text));
        rc = *out == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    dr_str_fini(&text);
    return rc;
}
