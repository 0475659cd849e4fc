/* SPDX-License-Identifier: Apache-2.0 */
/* The survey: which servers there are, how many keys each holds, whether they know SCAN, and which
 * services are marked for deletion. One server that is down does not keep the others from it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/redis/redis_private.h"

enum { MARKED_MAX = 100000, MARKED_PAGES_MAX = 100000 };

struct facts {
    json_t *marked; /* an object used as a set */
    json_t *down;
    json_t *slots;
    bool wants_marked;
    bool has_scan;
    char *marked_set;
    uint32_t up;
};

static enum dr_code read_wishes(const char *spec, struct facts *f, struct dr_err *err)
{
    json_t *job = NULL;
    enum dr_code rc = dr_json_parse("job", spec, strlen(spec), &job, err);
    if (rc != DR_OK) {
        return rc;
    }
    const char *set =
        json_string_value(json_object_get(json_object_get(job, "layout"), "marked_set"));
    f->wants_marked = json_is_true(json_object_get(job, "marked"));
    f->marked_set = dr_strdup(set == NULL ? RD_MARKED_SET : set);
    f->has_scan = true;
    f->marked = json_object();
    f->down = json_array();
    f->slots = json_object();
    json_decref(job);
    return f->marked_set == NULL || f->marked == NULL || f->down == NULL || f->slots == NULL
               ? dr_fail_nomem(err)
               : DR_OK;
}

static enum dr_code read_size(struct rd_node *n, uint64_t *rows, struct dr_err *err)
{
    static const char *words[] = {"DBSIZE"};
    redisReply *reply = NULL;
    enum dr_code rc = rd_ask(n, &reply, err, 1, words);
    if (rc == DR_OK && reply->type == REDIS_REPLY_INTEGER) {
        *rows = (uint64_t)reply->integer;
    } else if (rc == DR_OK && !rd_is_unknown_command(reply)) {
        rc = rd_fail_reply(n, reply, "DBSIZE", err);
    }
    freeReplyObject(reply);
    return rc;
}

static enum dr_code try_scan(struct rd_node *n, bool *has_scan, struct dr_err *err)
{
    static const char *words[] = {"SCAN", "0", "COUNT", "1"};
    redisReply *reply = NULL;
    enum dr_code rc = rd_ask(n, &reply, err, 4, words);
    if (rc == DR_OK && rd_is_unknown_command(reply)) {
        *has_scan = false;
    } else if (rc == DR_OK && reply->type == REDIS_REPLY_ERROR) {
        rc = rd_fail_reply(n, reply, "SCAN", err);
    } else if (rc == DR_UNREACHABLE && n->is_proxy) {
        *has_scan = false; /* some proxies hang up on what they do not know */
        rc = DR_OK;
    }
    freeReplyObject(reply);
    return rc;
}

static enum dr_code add_marked(struct facts *f, const redisReply *member, struct dr_err *err)
{
    json_t *name = json_stringn(member->str, member->len);
    if (name == NULL) {
        return dr_fail(err, DR_UNSUPPORTED,
                       "%s holds a service whose name is not valid UTF-8 (or memory is short)",
                       f->marked_set);
    }
    if (strlen(json_string_value(name)) != member->len ||
        json_object_size(f->marked) >= MARKED_MAX) {
        json_decref(name);
        return dr_fail(err, DR_UNSUPPORTED, "%s: more than %d services, or a NUL in a name",
                       f->marked_set, MARKED_MAX);
    }
    int failed = json_object_set_new(f->marked, json_string_value(name), json_true());
    json_decref(name);
    return failed != 0 ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code read_marked(struct rd_store *s, const char *node, struct facts *f,
                                struct dr_err *err)
{
    char cursor[24] = "0";
    enum dr_code rc = DR_OK;
    const struct dr_item set = {.key = f->marked_set, .key_len = (uint32_t)strlen(f->marked_set)};
    for (int page = 0; rc == DR_OK && page < MARKED_PAGES_MAX; page++) {
        struct rd_call call;
        dr_arena_reset(s->scratch);
        rc = rd_call_make(s, &call, "SSCAN", &set, 1, err);
        if (rc == DR_OK) {
            rc = rd_call_add(s, &call, cursor, strlen(cursor), err);
        }
        if (rc == DR_OK) {
            rc = rd_exchange(s, node, &call, 1, NULL, err);
        }
        if (rc != DR_OK) {
            return rc;
        }
        const redisReply *r = call.reply;
        bool is_page = r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
                       r->element[0]->type == REDIS_REPLY_STRING;
        for (size_t i = 0; rc == DR_OK && is_page && i < r->element[1]->elements; i++) {
            rc = add_marked(f, r->element[1]->element[i], err);
        }
        if (!is_page) {
            rc = rd_fail_reply(call.to, r, "SSCAN of the marked services", err);
        } else {
            dr_copy_text(cursor, sizeof cursor, r->element[0]->str);
        }
        rd_calls_free(&call, 1);
        if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    return rc;
}

/* [[0, 5460], ...]: the runs of slots that a node owns, both ends inside. */
static json_t *slot_ranges(const struct rd_store *s, uint16_t node)
{
    json_t *ranges = json_array();
    for (uint32_t slot = 0; ranges != NULL && slot < RD_SLOTS; slot++) {
        uint32_t from = slot;
        while (slot < RD_SLOTS && s->owner[slot] == node + 1) {
            slot++;
        }
        if (slot > from &&
            json_array_append_new(ranges, json_pack("[i, i]", (int)from, (int)slot - 1)) != 0) {
            json_decref(ranges);
            ranges = NULL;
        }
    }
    return ranges;
}

static enum dr_code survey_node(struct rd_store *s, uint16_t index, struct facts *f,
                                struct dr_chunk *chunk, struct dr_err *err)
{
    struct rd_node *n = s->node[index];
    enum dr_code rc = rd_node_use(s, n, err);
    if (rc == DR_OK) {
        rc = read_size(n, &chunk->rows, err);
    }
    chunk->is_rows_known = rc == DR_OK;
    if (rc == DR_OK) {
        rc = try_scan(n, &f->has_scan, err);
    }
    if (rc == DR_OK && f->wants_marked && !s->is_cluster) {
        rc = read_marked(s, n->name, f, err);
    }
    if (rc == DR_OK) {
        f->up++;
    } else if (rc == DR_UNREACHABLE) {
        chunk->is_rows_known = false;
        rc = json_array_append_new(f->down, json_string(n->name)) == 0 ? DR_OK : dr_fail_nomem(err);
    }
    if (rc == DR_OK && s->is_cluster &&
        json_object_set_new(f->slots, n->name, slot_ranges(s, index)) != 0) {
        rc = dr_fail_nomem(err);
    }
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The set's members in order: SSCAN gives them in any. */
static json_t *list_marked(const struct facts *f, struct dr_arena *a)
{
    size_t count = 0;
    const char *name = NULL;
    json_t *unused = NULL;
    json_t *list = json_array();
    const char **names = dr_arena_alloc(a, (json_object_size(f->marked) + 1) * sizeof *names);
    bool is_short = list == NULL || names == NULL;
    if (!is_short) {
        json_object_foreach(f->marked, name, unused)
        {
            names[count++] = name;
        }
        qsort(names, count, sizeof *names, compare_names);
    }
    (void)unused;
    for (size_t i = 0; !is_short && i < count; i++) {
        is_short = json_array_append_new(list, json_string(names[i])) != 0;
    }
    if (is_short) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static enum dr_code add_extra(struct rd_store *s, struct facts *f, struct dr_survey *survey,
                              struct dr_err *err)
{
    json_t *names = list_marked(f, survey->arena);
    json_t *extra = names == NULL
                        ? NULL
                        : json_pack("{s:b, s:O, s:b, s:O, s:O}", "cluster", s->is_cluster, "marked",
                                    names, "scan", f->has_scan, "down", f->down, "slots", f->slots);
    char *text = extra == NULL ? NULL : dr_json_text(extra);
    survey->extra = text == NULL ? NULL : dr_arena_strdup(survey->arena, text);
    dr_free(text);
    json_decref(extra);
    json_decref(names);
    return survey->extra == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* Every server is a chunk of the one collection; one that is down has an unknown number of rows. */
static enum dr_code survey_nodes(struct rd_store *s, struct facts *f, struct dr_survey *survey,
                                 struct dr_err *err)
{
    uint16_t index[RD_NODES_MAX];
    uint32_t count = rd_primaries(s, index);
    struct dr_arena *a = survey->arena;
    struct dr_chunk *chunk = dr_arena_alloc(a, (count + 1) * sizeof *chunk);
    struct dr_collection *c = dr_arena_alloc(a, sizeof *c);
    survey->node = dr_arena_alloc(a, (count + 1) * sizeof *survey->node);
    survey->database = dr_arena_printf(a, "db%" PRIu32, s->db);
    if (chunk == NULL || c == NULL || survey->node == NULL || survey->database == NULL) {
        return dr_fail_nomem(err);
    }
    *c = (struct dr_collection){.sharding = DR_UNSHARDED, .epoch = 1, .chunk = chunk};
    c->name = dr_arena_printf(a, "db%" PRIu32 ".stats", s->db);
    enum dr_code rc = c->name == NULL ? dr_fail_nomem(err) : DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        const char *name = dr_arena_strdup(a, s->node[index[i]]->name);
        if (name == NULL) {
            return dr_fail_nomem(err);
        }
        chunk[i] = (struct dr_chunk){.node = name};
        survey->node[survey->node_count++] = name;
        rc = survey_node(s, index[i], f, &chunk[i], err);
        c->rows_total += chunk[i].rows;
    }
    c->rows_matched = c->rows_total;
    c->chunk_count = count;
    survey->collection = c;
    survey->collection_count = 1;
    if (rc == DR_OK && f->up == 0) {
        rc = dr_fail(err, DR_UNREACHABLE, "redis: none of %" PRIu32 " servers answers (%s%s)",
                     count, s->node[0]->name, count > 1 ? ", ..." : "");
    }
    return rc;
}

enum dr_code rd_survey_spec(void *impl, const char *spec, struct dr_survey *survey,
                            struct dr_err *err)
{
    struct rd_store *s = impl;
    struct facts f = {0};
    dr_arena_reset(s->scratch);
    s->is_table_fresh = false;
    enum dr_code rc = read_wishes(spec, &f, err);
    if (rc == DR_OK) {
        rc = rd_learn(s, err);
        rc = s->is_kind_known && !s->is_cluster ? DR_OK : rc;
    }
    if (rc == DR_OK) {
        rc = survey_nodes(s, &f, survey, err);
    }
    if (rc == DR_OK && f.wants_marked && s->is_cluster) {
        rc = read_marked(s, "", &f, err);
    }
    if (rc == DR_OK) {
        rc = add_extra(s, &f, survey, err);
    }
    json_decref(f.marked);
    json_decref(f.down);
    json_decref(f.slots);
    dr_free(f.marked_set);
    return rc;
}
