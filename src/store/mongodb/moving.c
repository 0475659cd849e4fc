/* SPDX-License-Identifier: Apache-2.0 */
/* Is a chunk moving? config.migrations names moves of every version, config.locks those up to 4.x,
 * currentOp what runs at this very moment. What may not be read is an error, never "no"; only
 * currentOp, which needs a right of its own, may be missing when the metadata was readable. */
#include <netdb.h>

#include <stdio.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum { WIRE_LAST_LOCKS = 9, LOCK_TAKEN = 2 };

typedef enum dr_code (*take_move)(void *arg, const struct mg_move *move, struct dr_err *err);

static enum dr_code each_document(struct mg_store *s, const char *collection, const bson_t *query,
                                  void (*read)(const bson_t *doc, struct mg_move *out),
                                  take_move take, void *arg, struct dr_err *err)
{
    bson_error_t e;
    const bson_t *doc = NULL;
    const bson_t *reply = NULL;
    char what[160];
    enum dr_code rc = DR_OK;
    mongoc_collection_t *c = mongoc_client_get_collection(s->config, s->config_db, collection);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, query, NULL, NULL);
    while (rc == DR_OK && mongoc_cursor_next(cursor, &doc)) {
        struct mg_move move;
        read(doc, &move);
        rc = take(arg, &move, err);
    }
    if (rc == DR_OK && mongoc_cursor_error_document(cursor, &e, &reply)) {
        (void)snprintf(what, sizeof what, "look for moving chunks in %.100s.%s", s->config_db,
                       collection);
        rc = mg_fail(s, &e, reply, false, what, err);
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(c);
    return rc;
}

static void read_migration(const bson_t *doc, struct mg_move *out)
{
    *out = (struct mg_move){.ns = mg_text(doc, "ns"),
                            .from = mg_text(doc, "fromShard"),
                            .to = mg_text(doc, "toShard"),
                            .by = "config.migrations"};
}

static void read_lock(const bson_t *doc, struct mg_move *out)
{
    *out = (struct mg_move){.ns = mg_text(doc, "_id"), .from = "", .to = "", .by = "config.locks"};
}

/* Other work takes these locks too: only those whose reason is a migration count. */
static enum dr_code each_lock(struct mg_store *s, take_move take, void *arg, struct dr_err *err)
{
    if (s->wire > WIRE_LAST_LOCKS) {
        return DR_OK;
    }
    bson_t *query = BCON_NEW("state", BCON_INT32(LOCK_TAKEN), "why", BCON_REGEX("^Migrating", ""));
    enum dr_code rc = each_document(s, "locks", query, read_lock, take, arg, err);
    bson_destroy(query);
    return rc;
}

static bool contains(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* False: the operation is no move. */
static bool read_operation(const bson_t *op, struct mg_move *out)
{
    static const char *const commands[] = {"command.moveChunk", "command._shardsvrMoveRange",
                                           "command.moveRange", "command._recvChunkStart"};
    const char *desc = mg_text(op, "desc");
    *out = (struct mg_move){.by = "currentOp"};
    out->ns = "";
    for (size_t i = 0; i < sizeof commands / sizeof commands[0] && out->ns[0] == '\0'; i++) {
        out->ns = mg_text(op, commands[i]);
    }
    if (out->ns[0] == '\0' && !contains(desc, "moveChunk") && !contains(desc, "migrat")) {
        return false;
    }
    out->ns = out->ns[0] == '\0' ? mg_text(op, "ns") : out->ns;
    out->from = mg_text(op, "command.fromShard");
    out->from = out->from[0] == '\0' ? mg_text(op, "command.fromShardName") : out->from;
    out->from = out->from[0] == '\0' ? mg_text(op, "shard") : out->from;
    out->to = mg_text(op, "command.toShard");
    out->to = out->to[0] == '\0' ? mg_text(op, "command.toShardName") : out->to;
    out->to = out->to[0] == '\0' ? mg_text(op, "command.to") : out->to;
    return true;
}

static enum dr_code each_operation(struct mg_store *s, take_move take, void *arg,
                                   struct dr_err *err)
{
    bson_t reply;
    bson_t list;
    bson_iter_t it;
    bson_t *command = BCON_NEW(
        "currentOp", BCON_INT32(1), "$or", "[", "{", "command.moveChunk", "{", "$exists",
        BCON_BOOL(true), "}", "}", "{", "command._shardsvrMoveRange", "{", "$exists",
        BCON_BOOL(true), "}", "}", "{", "command.moveRange", "{", "$exists", BCON_BOOL(true), "}",
        "}", "{", "command._recvChunkStart", "{", "$exists", BCON_BOOL(true), "}", "}", "{", "desc",
        BCON_REGEX("moveChunk|migrat", "i"), "}", "]");
    enum dr_code rc = mg_run(s, "admin", command, false, false, &reply,
                             "look for moving chunks by currentOp", err);
    bool has_list =
        rc == DR_OK && mg_document(&reply, "inprog", &list) && bson_iter_init(&it, &list);
    while (rc == DR_OK && has_list && bson_iter_next(&it)) {
        struct mg_move move;
        bson_t op;
        uint32_t bytes = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it)) {
            continue;
        }
        bson_iter_document(&it, &bytes, &data);
        if (bson_init_static(&op, data, bytes) && read_operation(&op, &move)) {
            rc = take(arg, &move, err);
        }
    }
    bson_destroy(command);
    bson_destroy(&reply);
    return rc;
}

enum dr_code mg_each_move(struct mg_store *s, take_move take, void *arg, char *note,
                          size_t note_bytes, struct dr_err *err)
{
    struct dr_err own = {0};
    bson_t all = BSON_INITIALIZER;
    note[0] = '\0';
    if (!s->is_router) {
        return DR_OK; /* a replica set has nothing that could move */
    }
    enum dr_code rc = each_document(s, "migrations", &all, read_migration, take, arg, err);
    bson_destroy(&all);
    if (rc == DR_OK) {
        rc = each_lock(s, take, arg, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = each_operation(s, take, arg, &own);
    if (rc == DR_DENIED) {
        dr_copy_text(note, note_bytes,
                     "currentOp is not permitted (grant inprog, for example by clusterMonitor); "
                     "moves are told by the metadata alone");
        return DR_OK;
    }
    return rc == DR_OK ? DR_OK : dr_fail(err, rc, "%s", own.msg);
}

void mg_move_print(const struct mg_move *move, char *to, size_t to_bytes)
{
    const char *ns = move->ns[0] == '\0' ? "a collection" : move->ns;
    if (move->from[0] != '\0' && move->to[0] != '\0') {
        (void)snprintf(to, to_bytes, "%.128s: chunk moves from %.64s to %.64s (%s)", ns, move->from,
                       move->to, move->by);
    } else if (move->from[0] != '\0' || move->to[0] != '\0') {
        (void)snprintf(to, to_bytes, "%.128s: chunk moves on shard %.64s (%s)", ns,
                       move->from[0] != '\0' ? move->from : move->to, move->by);
    } else {
        (void)snprintf(to, to_bytes, "%.128s: chunk moves (%s)", ns, move->by);
    }
}

struct search {
    const char *ns;
    const char *shard;
    bool is_found;
    char *what;
    size_t what_bytes;
};

/* A move that does not say of what, or between whom, may be the one that is asked about. */
static bool concerns(const struct search *f, const struct mg_move *move)
{
    if (f->ns == NULL && f->shard == NULL) {
        return true;
    }
    bool is_place_told = move->from[0] != '\0' || move->to[0] != '\0';
    bool is_ns = f->ns != NULL && (move->ns[0] == '\0' || strcmp(move->ns, f->ns) == 0);
    bool is_shard = f->shard != NULL && is_place_told &&
                    (strcmp(move->from, f->shard) == 0 || strcmp(move->to, f->shard) == 0);
    return is_ns || is_shard || (f->ns == NULL && !is_place_told);
}

static enum dr_code match_move(void *arg, const struct mg_move *move, struct dr_err *err)
{
    struct search *f = arg;
    (void)err;
    if (!f->is_found && concerns(f, move)) {
        f->is_found = true;
        mg_move_print(move, f->what, f->what_bytes);
    }
    return DR_OK;
}

enum dr_code mg_is_moving(struct mg_store *s, const char *ns, const char *shard,
                          bool *is_moving_out, char *what, size_t what_bytes, struct dr_err *err)
{
    char note[256];
    struct search f = {.ns = ns, .shard = shard, .what = what, .what_bytes = what_bytes};
    *is_moving_out = false;
    what[0] = '\0';
    enum dr_code rc = mg_each_move(s, match_move, &f, note, sizeof note, err);
    if (rc != DR_OK) {
        return rc;
    }
    *is_moving_out = f.is_found;
    if (!f.is_found) {
        dr_copy_text(what, what_bytes, note);
    }
    return DR_OK;
}
