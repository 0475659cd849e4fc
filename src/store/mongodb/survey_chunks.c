/* SPDX-License-Identifier: Apache-2.0 */
/* The table of a collection's chunks, with sizes where the cluster tells them. A size that cannot
 * be had never takes a chunk off the table. */
#include <netdb.h>

#include <inttypes.h>
#include <string.h>

#include "store/mongodb/survey_private.h"

enum { CHUNKS_MAX = 10 * 1000 * 1000, REASON_BYTES = 256 };

struct table {
    struct mg_store *s;
    const struct mg_chunk_wish *wish;
    struct dr_arena *a;
    struct dr_chunk *chunk;
    uint64_t count;
    uint64_t room;
    bool are_sizes_denied; /* asking again for each chunk would not help */
    uint64_t unknown;
    char reason[REASON_BYTES]; /* of the first size that is unknown */
    uint64_t jumbo;
    const char *node; /* the chunk before often lies on the same one */
};

static enum dr_code grow(struct table *t, struct dr_err *err)
{
    if (t->count < t->room) {
        return DR_OK;
    }
    if (t->count >= CHUNKS_MAX) {
        return dr_fail(err, DR_UNSUPPORTED, "mongodb: %s has more than %d chunks", t->s->coll.ns,
                       CHUNKS_MAX);
    }
    uint64_t room = t->room == 0 ? 64 : t->room * 2;
    struct dr_chunk *bigger = dr_realloc(t->chunk, room * sizeof *bigger);
    if (bigger == NULL) {
        return dr_fail_nomem(err);
    }
    t->chunk = bigger;
    t->room = room;
    return DR_OK;
}

static const char *node_name(struct table *t, const char *shard)
{
    if (t->node == NULL || strcmp(t->node, shard) != 0) {
        t->node = dr_arena_strdup(t->a, shard);
    }
    return t->node;
}

static enum dr_code take_chunk(void *arg, const bson_t *doc, struct dr_err *err)
{
    struct table *t = arg;
    const struct mg_coll *c = &t->s->coll;
    bson_t min;
    bson_t max;
    if (t->wish->is_pruned && !mg_chunk_can_match(c, t->wish->query, t->wish->has_collation, doc)) {
        return DR_OK;
    }
    enum dr_code rc = grow(t, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct dr_chunk *to = &t->chunk[t->count];
    *to = (struct dr_chunk){.node = node_name(t, mg_text(doc, "shard"))};
    if (to->node == NULL) {
        return dr_fail_nomem(err);
    }
    if (to->node[0] == '\0' || !mg_document(doc, "min", &min) || !mg_document(doc, "max", &max)) {
        return dr_fail(err, DR_CORRUPT, "mongodb: %s: a chunk without shard or bounds", c->ns);
    }
    rc = mg_bound_from(&min, c, t->a, &to->from, err);
    if (rc == DR_OK) {
        rc = mg_bound_from(&max, c, t->a, &to->upto, err);
    }
    t->jumbo += mg_is_true(doc, "jumbo") ? 1 : 0;
    t->count++;
    return rc;
}

/* Documents are counted on the chunk's shard, bytes from their average size: a full read of every
 * document would load the shards. */
static enum dr_code ask_size(struct table *t, struct dr_chunk *chunk, struct dr_err *err)
{
    const struct mg_coll *c = &t->s->coll;
    bson_t command = BSON_INITIALIZER;
    bson_t bound;
    bson_t reply;
    double rows = 0;
    double bytes = 0;
    BSON_APPEND_UTF8(&command, "dataSize", c->ns);
    BSON_APPEND_DOCUMENT(&command, "keyPattern", c->pattern);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "min", &bound);
    bool is_ok = mg_bound_to(&chunk->from, c, &bound);
    bson_append_document_end(&command, &bound);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "max", &bound);
    is_ok = mg_bound_to(&chunk->upto, c, &bound) && is_ok;
    bson_append_document_end(&command, &bound);
    BSON_APPEND_BOOL(&command, "estimate", true);
    if (!is_ok) {
        bson_destroy(&command);
        return dr_fail(err, DR_CORRUPT, "mongodb: %s: a chunk's bound cannot be read", c->ns);
    }
    enum dr_code rc = mg_run(t->s, c->database, &command, false, false, &reply, "dataSize", err);
    if (rc == DR_OK && mg_number(&reply, "numObjects", &rows) && rows >= 0) {
        chunk->rows = (uint64_t)rows;
        chunk->is_rows_known = true;
        chunk->bytes = mg_number(&reply, "size", &bytes) && bytes > 0 ? (uint64_t)bytes : 0;
    } else if (rc == DR_OK) {
        rc = dr_fail(err, DR_CORRUPT, "dataSize answers without numObjects");
    }
    bson_destroy(&command);
    bson_destroy(&reply);
    return rc;
}

static enum dr_code ask_sizes(struct table *t, struct dr_err *err)
{
    for (uint64_t i = 0; i < t->count; i++) {
        struct dr_err own = {0};
        enum dr_code rc = t->are_sizes_denied ? DR_DENIED : ask_size(t, &t->chunk[i], &own);
        if (rc == DR_NOMEM) {
            return dr_fail_nomem(err);
        }
        if (rc != DR_OK) {
            t->are_sizes_denied = t->are_sizes_denied || rc == DR_DENIED || rc == DR_UNSUPPORTED;
            if (t->unknown == 0) {
                dr_copy_text(t->reason, sizeof t->reason, own.msg);
            }
            t->unknown++;
        }
    }
    return DR_OK;
}

static void warn(const struct table *t, struct dr_str *warning)
{
    const char *between = warning->len > 0 ? "; " : "";
    if (t->unknown > 0) {
        dr_str_addf(warning,
                    "%ssizes of %" PRIu64 " of %" PRIu64
                    " chunks are unknown, all are worked on all the same (%s)",
                    between, t->unknown, t->count, t->reason);
        between = "; ";
    }
    if (t->jumbo > 0) {
        dr_str_addf(warning, "%s%" PRIu64 " jumbo chunks: they stay flagged after the erasing",
                    between, t->jumbo);
    }
}

enum dr_code mg_survey_chunks(struct mg_store *s, const struct mg_chunk_wish *wish,
                              struct dr_arena *a, struct dr_collection *to, struct dr_str *warning,
                              struct dr_err *err)
{
    static const struct dr_bound open = {0};
    struct table t = {.s = s, .wish = wish, .a = a};
    enum dr_code rc = mg_chunks(s, &open, &open, take_chunk, &t, err);
    if (rc == DR_OK && wish->wants_sizes) {
        rc = ask_sizes(&t, err);
    }
    if (rc == DR_OK && t.count > 0) {
        to->chunk = dr_arena_memdup(a, t.chunk, t.count * sizeof *t.chunk);
        to->chunk_count = t.count;
        rc = to->chunk == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        warn(&t, warning);
    }
    dr_free(t.chunk);
    return rc;
}
