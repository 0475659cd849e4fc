/* SPDX-License-Identifier: Apache-2.0 */
/* Text commands: one JSON object a line, each safe to repeat. What makes something is done when it
 * exists, what removes something is done when it does not. */
#include <netdb.h>

#include <stdio.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum { WHAT_BYTES = 256 };

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (strcasecmp(name, *list) == 0) {
            return true;
        }
    }
    return false;
}

/* The error of a command that found its work done already. */
static bool is_done_already(const char *name, const bson_t *reply)
{
    static const char *const makes[] = {"create", "createIndexes", "shardCollection",
                                        "enableSharding", NULL};
    static const char *const removes[] = {"drop", "dropIndexes", "deleteIndexes", "dropDatabase",
                                          NULL};
    int32_t code = mg_reply_code(reply);
    const char *said = mg_text(reply, "errmsg");
    if (is_one_of(name, makes)) {
        return code == 48 || code == 68 || code == 23 || strstr(said, "already exists") != NULL ||
               strstr(said, "already enabled") != NULL;
    }
    return is_one_of(name, removes) &&
           (code == 26 || code == 27 || strstr(said, "ns not found") != NULL);
}

static bool takes_write_concern(const char *name)
{
    static const char *const list[] = {"create",       "createIndexes", "drop",   "dropIndexes",
                                       "dropDatabase", "collMod",       "insert", "update",
                                       "delete",       "findAndModify", NULL};
    return is_one_of(name, list);
}

static const char *name_of(const bson_t *command)
{
    bson_iter_t it;
    return bson_iter_init(&it, command) && bson_iter_next(&it) ? bson_iter_key(&it) : "";
}

/* Run it; an answer that says "already so" counts as done. */
static enum dr_code run_command(struct mg_store *s, const char *database, const bson_t *given,
                                struct dr_err *err)
{
    char what[WHAT_BYTES];
    bson_t reply;
    bson_t *command = bson_copy(given);
    const char *name = name_of(given);
    if (takes_write_concern(name) && !bson_has_field(given, "writeConcern")) {
        mg_append_write_concern(s, command);
    }
    (void)snprintf(what, sizeof what, "%.64s on %.64s", name, database);
    enum dr_code rc = mg_run(s, database, command, true, true, &reply, what, err);
    if (rc == DR_OK && (!mg_is_true(&reply, "ok") || bson_has_field(&reply, "writeErrors") ||
                        bson_has_field(&reply, "writeConcernError"))) {
        rc = is_done_already(name, &reply) ? DR_OK : mg_fail(s, NULL, &reply, true, what, err);
    }
    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

static enum dr_code run_given(struct mg_store *s, const json_t *line, struct dr_err *err)
{
    bson_error_t e;
    const char *database = json_string_value(json_object_get(line, "db"));
    const json_t *given = json_object_get(line, "command");
    if (database == NULL || database[0] == '\0' || !json_is_object(given) ||
        json_object_size(given) == 0) {
        return dr_fail(err, DR_INPUT,
                       "mongodb: a command is {\"db\": NAME, \"command\": {...}} in a line");
    }
    char *text = dr_json_text_in_order(given); /* in the order given: its first key is its name */
    if (text == NULL) {
        return dr_fail_nomem(err);
    }
    bson_t *command = bson_new_from_json((const uint8_t *)text, -1, &e);
    dr_free(text);
    if (command == NULL) {
        return dr_fail(err, DR_INPUT, "mongodb: a command is no extended JSON: %.300s", e.message);
    }
    enum dr_code rc = run_command(s, database, command, err);
    bson_destroy(command);
    return rc;
}

/* Looked at through the router, so that documents waiting for their removal after a move do not
 * count. What is written between the look and the drop is lost with it: a drop is that. */
static enum dr_code drop_if_empty(struct mg_store *s, const char *ns, struct dr_err *err)
{
    bson_t query = BSON_INITIALIZER;
    bson_t *found = NULL;
    enum dr_code rc = mg_coll_use(s, ns, err);
    if (rc != DR_OK || !s->coll.is_there) {
        return rc;
    }
    if (s->coll.kind == MG_SYSTEM || s->coll.kind == MG_VIEW) {
        return dr_fail(err, DR_REFUSED, "mongodb: %s is a %s and is not dropped", ns,
                       s->coll.kind == MG_VIEW ? "view" : "system collection");
    }
    bson_t *opts = BCON_NEW("projection", "{", "_id", BCON_INT32(1), "}");
    rc = mg_find_one(s, s->coll.database, s->coll.name, &query, opts, &found, err);
    bson_destroy(opts);
    if (rc == DR_OK && found != NULL) {
        rc = dr_fail(err, DR_REFUSED,
                     "mongodb: %s is not empty: documents were added since it was erased; run the "
                     "job again, or leave the collection",
                     ns);
    }
    bson_destroy(found);
    if (rc == DR_OK) {
        bson_t *command = BCON_NEW("drop", BCON_UTF8(s->coll.name));
        rc = run_command(s, s->coll.database, command, err);
        bson_destroy(command);
    }
    return rc;
}

static enum dr_code drop_database_if_empty(struct mg_store *s, const char *database,
                                           struct dr_err *err)
{
    static const char *const built_in[] = {"admin", "config", "local", NULL};
    bson_t reply;
    bson_t list;
    bson_iter_t it;
    if (is_one_of(database, built_in) || strcmp(database, s->config_db) == 0) {
        return dr_fail(err, DR_REFUSED, "mongodb: the database %s is never dropped", database);
    }
    bson_t *command = BCON_NEW("listCollections", BCON_INT32(1), "nameOnly", BCON_BOOL(true));
    enum dr_code rc = mg_run(s, database, command, false, false, &reply, "list collections", err);
    bson_destroy(command);
    if (rc == DR_OK && mg_document(&reply, "cursor.firstBatch", &list) &&
        bson_iter_init(&it, &list) && bson_iter_next(&it)) {
        bson_t first;
        char key[32];
        (void)snprintf(key, sizeof key, "%s", bson_iter_key(&it));
        rc = dr_fail(err, DR_REFUSED, "mongodb: the database %s still has collections (%.128s)",
                     database, mg_document(&list, key, &first) ? mg_text(&first, "name") : "");
    }
    bson_destroy(&reply);
    if (rc == DR_OK) {
        command = BCON_NEW("dropDatabase", BCON_INT32(1));
        rc = run_command(s, database, command, err);
        bson_destroy(command);
    }
    return rc;
}

static enum dr_code run_line(struct mg_store *s, const char *text, size_t bytes, struct dr_err *err)
{
    json_t *line = NULL;
    enum dr_code rc = dr_json_parse("command", text, bytes, &line, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *collection = json_string_value(json_object_get(line, "drop_if_empty"));
    const char *database = json_string_value(json_object_get(line, "drop_database_if_empty"));
    if (collection != NULL) {
        rc = drop_if_empty(s, collection, err);
    } else if (database != NULL) {
        rc = drop_database_if_empty(s, database, err);
    } else {
        rc = run_given(s, line, err);
    }
    json_decref(line);
    return rc;
}

enum dr_code mg_command(void *impl, const char *node, const char *text, struct dr_err *err)
{
    struct mg_store *s = impl;
    enum dr_code rc = DR_OK;
    (void)node; /* the router knows where; commands concern the whole collection */
    for (const char *at = text; rc == DR_OK && *at != '\0';) {
        size_t bytes = strcspn(at, "\n");
        if (strspn(at, " \t\r") < bytes) {
            rc = run_line(s, at, bytes, err);
        }
        at += bytes + (at[bytes] == '\n' ? 1 : 0);
    }
    return rc;
}
