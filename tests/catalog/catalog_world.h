/* SPDX-License-Identifier: Apache-2.0 */
/* A small world for the catalog's tests: a state that entries are applied to one after another, and
 * short ways to make them. JSON is written with ' for ". */
#ifndef DR_TEST_CATALOG_WORLD_H
#define DR_TEST_CATALOG_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "catalog/catalog.h"

struct world {
    struct dr_catalog *c;
    uint64_t index;
    bool changed;
    char message[1024];
    json_t *value; /* of the last entry */
};

static inline json_t *quoted(const char *text)
{
    char *copy = dr_strdup(text);
    json_t *j = NULL;
    struct dr_err err = {0};
    assert_non_null(copy);
    for (char *at = copy; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    if (dr_json_parse("test", copy, strlen(copy), &j, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
    dr_free(copy);
    return j;
}

static inline void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

/* Apply an entry; the answer's code. */
static inline enum dr_code apply(struct world *w, const char *entry)
{
    struct dr_catalog *after = NULL;
    struct dr_apply_result result;
    struct dr_err err = {0};
    w->index++;
    assert_int_equal(dr_catalog_apply(w->c, w->index, entry, strlen(entry), &after, &result, &err),
                     DR_OK);
    if (result.code != DR_OK) { /* a refusal leaves the very same state, and says why */
        assert_ptr_equal(after, w->c);
        assert_false(result.changed);
        assert_null(result.value);
        assert_true(result.message[0] != '\0');
    }
    assert_int_equal(result.changed, after != w->c);
    json_decref(w->value);
    w->value = result.value;
    w->changed = result.changed;
    (void)snprintf(w->message, sizeof w->message, "%s", result.message);
    dr_catalog_unref(w->c);
    w->c = after;
    return result.code;
}

/* The same with ' for ". */
static inline enum dr_code apply_quoted(struct world *w, const char *entry)
{
    json_t *j = quoted(entry);
    char *text = dr_json_text(j);
    enum dr_code code = apply(w, text);
    dr_free(text);
    json_decref(j);
    return code;
}

/* What came of making an entry, applied when it was made. Takes the text. */
static inline enum dr_code made(struct world *w, enum dr_code rc, char *text,
                                const struct dr_err *err)
{
    if (rc != DR_OK) {
        assert_null(text);
        assert_true(err->msg[0] != '\0');
        (void)snprintf(w->message, sizeof w->message, "%s", err->msg);
        return rc;
    }
    rc = apply(w, text);
    dr_free(text);
    return rc;
}

enum call { CREATE, UPDATE, CREATE_KEY, DROP_KEY, PROMOTE, CLUSTER, ALIASES, DELETE };

/* Only the text of an entry, which must be possible now. */
static inline char *entry_text(struct world *w, enum call what, const char *name, const char *body,
                               enum dr_code *rc_out, struct dr_err *err)
{
    char *text = NULL;
    char uuid[DR_UUID_TEXT_BYTES];
    json_t *j = body == NULL ? NULL : quoted(body);
    enum dr_code rc = DR_INTERNAL;
    (void)snprintf(uuid, sizeof uuid, "00000000-0000-4000-8000-%012llu",
                   (unsigned long long)w->index);
    switch (what) {
    case CREATE:
        rc = dr_entry_create_collection(w->c, name, j, uuid, w->index, &text, err);
        break;
    case UPDATE:
        rc = dr_entry_update_collection(w->c, name, j, &text, err);
        break;
    case CREATE_KEY:
        rc = dr_entry_create_key(w->c, name, j, w->index, &text, err);
        break;
    case DROP_KEY:
        rc = dr_entry_drop_key(w->c, name, j, &text, err);
        break;
    case PROMOTE:
        rc = dr_entry_promote(w->c, name, j, &text, err);
        break;
    case CLUSTER:
        rc = dr_entry_cluster(w->c, name, j, w->index, &text, err);
        break;
    case ALIASES:
        rc = dr_entry_aliases(w->c, j, &text, err);
        break;
    case DELETE:
        rc = dr_entry_delete_collection(w->c, name, &text, err);
        break;
    }
    json_decref(j);
    *rc_out = rc;
    return text;
}

static inline enum dr_code call(struct world *w, enum call what, const char *name, const char *body)
{
    struct dr_err err = {0};
    enum dr_code rc = DR_OK;
    char *text = entry_text(w, what, name, body, &rc, &err);
    return made(w, rc, text, &err);
}

static inline char *text_of(struct world *w, enum call what, const char *name, const char *body)
{
    struct dr_err err = {0};
    enum dr_code rc = DR_OK;
    char *text = entry_text(w, what, name, body, &rc, &err);
    if (rc != DR_OK) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(rc, DR_OK);
    return text;
}

static inline enum dr_code set_state(struct world *w, const char *name, uint32_t shard_id,
                                     uint64_t peer_id, enum dr_replica_state state)
{
    struct dr_err err = {0};
    char *text = NULL;
    enum dr_code rc =
        dr_entry_replica_state(w->c, name, shard_id, peer_id, state, NULL, &text, &err);
    return made(w, rc, text, &err);
}

static inline enum dr_code add_peer(struct world *w, uint64_t id, uint32_t format)
{
    struct dr_peer p = {.id = id, .format = format, .version = "0.1.0"};
    struct dr_err err = {0};
    char *text = NULL;
    (void)snprintf(p.uri, sizeof p.uri, "http://127.0.0.1:%llu/", 6000 + (unsigned long long)id);
    (void)snprintf(p.raft, sizeof p.raft, "127.0.0.1:%llu", 7000 + (unsigned long long)id);
    enum dr_code rc = dr_entry_peer(&p, &text, &err);
    return made(w, rc, text, &err);
}

static inline enum dr_code remove_peer(struct world *w, uint64_t id, bool is_forced)
{
    struct dr_err err = {0};
    char *text = NULL;
    enum dr_code rc = dr_entry_remove_peer(w->c, id, is_forced, &text, &err);
    return made(w, rc, text, &err);
}

static inline void world_open(struct world *w, uint64_t peers)
{
    struct dr_err err = {0};
    memset(w, 0, sizeof *w);
    assert_int_equal(dr_catalog_create(&w->c, &err), DR_OK);
    for (uint64_t id = 1; id <= peers; id++) {
        assert_int_equal(add_peer(w, id, DR_CATALOG_FORMAT), DR_OK);
    }
}

static inline void world_close(struct world *w)
{
    json_decref(w->value);
    dr_catalog_unref(w->c);
}

static inline const struct dr_collection_info *find(struct world *w, const char *name)
{
    const struct dr_collection_info *info = dr_catalog_find(w->c, name);
    assert_non_null(info);
    return info;
}

static inline struct dr_shard_key text_key(const char *text)
{
    struct dr_shard_key key = {0};
    (void)snprintf(key.text, sizeof key.text, "%s", text);
    return key;
}

static inline uint64_t state_hash(const struct dr_catalog *c)
{
    uint64_t hash = 0;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_hash(c, &hash, &err), DR_OK);
    return hash;
}

/* The state of one replica; DR_REPLICA_STATE_COUNT: there is none. */
static inline enum dr_replica_state replica_state(struct world *w, const char *name,
                                                  uint32_t shard_id, uint64_t peer_id)
{
    const struct dr_shard *s = dr_collection_shard(find(w, name), shard_id);
    assert_non_null(s);
    for (uint32_t i = 0; i < s->replica_count; i++) {
        if (s->replica[i].peer_id == peer_id) {
            return s->replica[i].state;
        }
    }
    return DR_REPLICA_STATE_COUNT;
}

#endif
