/* SPDX-License-Identifier: Apache-2.0 */
/* Emptying a big collection in steps that hold the server for well under a millisecond each. A few
 * elements are left, so that the UNLINK behind it still finds a key to erase. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "store/redis/redis_private.h"

enum { STEP = 1000, ROUNDS_MAX = 10000000, TRASH_SUFFIX_MAX = 40, TURNS_MAX = 3 };

/* LEN key, LTRIM key 0 -1001, ... by type. {k} stands for the key. */
struct way {
    const char *type;
    const char *length; /* command that tells the number of elements */
    int argc;
    const char *cut[4]; /* NULL stands for the key */
};

static const struct way ways[] = {
    {"list", "LLEN", 4, {"LTRIM", NULL, "0", "-1001"}},
    {"set", "SCARD", 3, {"SPOP", NULL, "1000"}},
    {"zset", "ZCARD", 4, {"ZREMRANGEBYRANK", NULL, "0", "999"}},
    {"hash", "HLEN", 0, {NULL}},
    {"stream", "XLEN", 0, {NULL}},
};

static enum dr_code ask_key(struct rd_node *n, int argc, const char *const *words, const void *key,
                            size_t key_bytes, redisReply **out, struct dr_err *err)
{
    const char *argv[6];
    size_t bytes[6];
    *out = NULL;
    for (int i = 0; i < argc; i++) {
        argv[i] = words[i] == NULL ? key : words[i];
        bytes[i] = words[i] == NULL ? key_bytes : strlen(words[i]);
    }
    enum dr_code rc = rd_append(n, argc, argv, bytes, err);
    if (rc == DR_OK) {
        rc = rd_receive(n, true, out, err);
    }
    if (rc == DR_OK && (*out)->type == REDIS_REPLY_ERROR) {
        rc = rd_fail_reply(n, *out, words[0], err);
    }
    return rc;
}

/* HSCAN names some fields, HDEL removes them. The cursor is carried on: from the start HSCAN would
 * walk over ever more buckets that are empty already. */
static enum dr_code cut_hash(struct rd_node *n, const void *key, size_t key_bytes,
                             struct dr_arena *scratch, char *cursor, size_t cursor_bytes,
                             struct dr_err *err)
{
    const char *const words[] = {"HSCAN", NULL, cursor, "COUNT", "1000"};
    redisReply *page = NULL;
    redisReply *reply = NULL;
    enum dr_code rc = ask_key(n, 5, words, key, key_bytes, &page, err);
    bool is_page = rc == DR_OK && page->type == REDIS_REPLY_ARRAY && page->elements == 2;
    size_t fields = is_page ? page->element[1]->elements / 2 : 0;
    const char **argv = dr_arena_alloc(scratch, (fields + 2) * sizeof *argv);
    size_t *bytes = dr_arena_alloc(scratch, (fields + 2) * sizeof *bytes);
    if (rc == DR_OK && (argv == NULL || bytes == NULL)) {
        rc = dr_fail_nomem(err);
    }
    if (rc == DR_OK && fields > 0) {
        argv[0] = "HDEL";
        bytes[0] = 4;
        argv[1] = key;
        bytes[1] = key_bytes;
        for (size_t i = 0; i < fields; i++) {
            argv[i + 2] = page->element[1]->element[2 * i]->str;
            bytes[i + 2] = page->element[1]->element[2 * i]->len;
        }
        rc = rd_append(n, (int)fields + 2, argv, bytes, err);
        rc = rc == DR_OK ? rd_receive(n, true, &reply, err) : rc;
    }
    if (rc == DR_OK) {
        dr_copy_text(cursor, cursor_bytes, is_page ? page->element[0]->str : "0");
    }
    freeReplyObject(page);
    freeReplyObject(reply);
    return rc;
}

static enum dr_code cut_stream(struct rd_node *n, const void *key, size_t key_bytes,
                               long long length, struct dr_err *err)
{
    char keep[24];
    const char *const words[] = {"XTRIM", NULL, "MAXLEN", keep};
    redisReply *reply = NULL;
    (void)snprintf(keep, sizeof keep, "%lld", length - STEP);
    enum dr_code rc = ask_key(n, 4, words, key, key_bytes, &reply, err);
    freeReplyObject(reply);
    return rc;
}

enum dr_code rd_shrink(struct rd_store *s, struct rd_node *n, const void *key, size_t key_bytes,
                       const char *type, struct dr_err *err)
{
    const struct way *way = NULL;
    char cursor[24] = "0";
    int turns = 0; /* of HSCAN, from zero to zero: new fields may be written all the time */
    enum dr_code rc = DR_OK;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        way = strcmp(ways[i].type, type) == 0 ? &ways[i] : way;
    }
    struct dr_arena *scratch = way == NULL ? NULL : dr_arena_create(65536);
    if (way == NULL || scratch == NULL) {
        return way == NULL ? DR_OK : dr_fail_nomem(err);
    }
    (void)s;
    for (int i = 0; rc == DR_OK && i < ROUNDS_MAX && turns < TURNS_MAX; i++) {
        const char *const words[] = {way->length, NULL};
        redisReply *reply = NULL;
        rc = ask_key(n, 2, words, key, key_bytes, &reply, err);
        long long length = rc == DR_OK ? reply->integer : 0;
        freeReplyObject(reply);
        if (rc != DR_OK || length <= 2LL * STEP) {
            break;
        }
        reply = NULL;
        dr_arena_reset(scratch);
        if (way->argc > 0) {
            rc = ask_key(n, way->argc, way->cut, key, key_bytes, &reply, err);
            freeReplyObject(reply);
        } else if (strcmp(type, "hash") == 0) {
            rc = cut_hash(n, key, key_bytes, scratch, cursor, sizeof cursor, err);
            turns += strcmp(cursor, "0") == 0;
        } else {
            rc = cut_stream(n, key, key_bytes, length, err);
        }
    }
    dr_arena_destroy(scratch);
    return rc;
}

enum dr_code rd_trash_name(struct rd_store *s, const struct dr_item *item, const char **name_out,
                           size_t *bytes_out, struct dr_err *err)
{
    char suffix[TRASH_SUFFIX_MAX];
    int n = snprintf(suffix, sizeof suffix, ":drover-trash-%016" PRIx64, dr_random());
    size_t bytes = item->key_len + (size_t)n;
    char *name = dr_arena_alloc(s->scratch, bytes);
    *name_out = NULL;
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    memcpy(name, item->key, item->key_len);
    memcpy(name + item->key_len, suffix, (size_t)n);
    *bytes_out = bytes;
    /* With a hash tag the slot stays; a key without one is unlinked whole in a cluster. */
    if (rd_slot_of(s, name, bytes) == rd_slot_of(s, item->key, item->key_len)) {
        *name_out = name;
    }
    return DR_OK;
}
