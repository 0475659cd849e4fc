/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the asking of nodes: all of them at once, each by a thread of its own, together not longer
 * than a limit. A node that does not answer in time keeps its thread until its own timeout; what it
 * says then nobody hears. */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/shard.h"
#include "verbs/health_private.h"

enum { THREADS_MAX = 16, ARENA_BLOCK_BYTES = 16 * 1024 };

struct one_node {
    char *name, *url;
    bool is_manticore;
    json_t *said; /* NULL: nothing yet */
};

/* Shared by the asker and its threads; whoever leaves last frees it. */
struct round {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct one_node *node;
    uint32_t count, next, done, users;
};

static void leave(struct round *r)
{
    (void)pthread_mutex_lock(&r->mutex);
    bool is_last = --r->users == 0;
    (void)pthread_mutex_unlock(&r->mutex);
    if (!is_last) {
        return;
    }
    for (uint32_t i = 0; i < r->count; i++) {
        dr_free(r->node[i].name);
        dr_free(r->node[i].url);
        json_decref(r->node[i].said);
    }
    (void)pthread_cond_destroy(&r->changed);
    (void)pthread_mutex_destroy(&r->mutex);
    dr_free(r->node);
    dr_free(r);
}

/* --- one node ----------------------------------------------------------------------------------
 */

static json_t *record_json(const struct dr_shard_record *r)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "name", r->name, "table",
                     r->table == NULL ? "" : r->table, "owner", r->owner == NULL ? "" : r->owner,
                     "operation", r->operation == NULL ? "" : r->operation, "role",
                     r->role == NULL ? "" : r->role, "created_at", (json_int_t)r->created_at,
                     "exists", (int)r->exists);
}

static enum dr_code ask_records(struct dr_store *s, json_t *said, struct dr_err *err)
{
    struct dr_shard_record *record = NULL;
    uint32_t count = 0;
    json_t *list = json_array();
    struct dr_arena *a = dr_arena_create(ARENA_BLOCK_BYTES);
    enum dr_code rc = a == NULL || list == NULL ? dr_fail_nomem(err)
                                                : dr_shard_records(s, a, &record, &count, err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        rc = json_array_append_new(list, record_json(&record[i])) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    if (rc == DR_OK) {
        rc = json_object_set(said, "records", list) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    json_decref(list);
    dr_arena_destroy(a);
    return rc;
}

/* Manticore keeps no records: its clusters and tables are what there is. */
static enum dr_code ask_clusters(struct dr_store *s, json_t *said, struct dr_err *err)
{
    struct dr_survey *survey = NULL;
    json_t *facts = NULL;
    const char *name;
    json_t *ignored;
    json_t *clusters = json_array();
    enum dr_code rc =
        clusters == NULL ? dr_fail_nomem(err) : dr_store_survey_spec(s, "{}", &survey, err);
    if (rc == DR_OK) {
        const char *extra = survey->extra == NULL ? "{}" : survey->extra;
        rc = dr_json_parse("the node's facts", extra, strlen(extra), &facts, err);
    }
    if (rc == DR_OK) {
        json_object_foreach(json_object_get(facts, "clusters"), name, ignored)
        {
            (void)ignored;
            (void)json_array_append_new(clusters, json_string(name));
        }
        json_t *tables = json_object_get(facts, "system_tables");
        if (json_object_set(said, "clusters", clusters) != 0 ||
            (tables != NULL && json_object_set(said, "system_tables", tables) != 0)) {
            rc = dr_fail_nomem(err);
        }
    }
    json_decref(clusters);
    json_decref(facts);
    if (survey != NULL) {
        dr_survey_destroy(survey);
    }
    return rc;
}

static json_t *ask_node(const struct one_node *n)
{
    struct dr_err err = {0};
    struct dr_store *s = NULL;
    json_t *said = json_object();
    enum dr_code rc = said == NULL ? dr_fail_nomem(&err) : dr_store_open(n->url, &s, &err);
    if (rc == DR_OK) {
        rc = n->is_manticore ? ask_clusters(s, said, &err) : ask_records(s, said, &err);
    }
    dr_store_close(s);
    if (said != NULL) {
        (void)json_object_set_new(said, "answered", json_boolean(rc == DR_OK));
        (void)json_object_set_new(said, "why", json_string(rc == DR_OK ? "" : err.msg));
    }
    return said;
}

static void *ask_some(void *arg)
{
    struct round *r = arg;
    (void)pthread_mutex_lock(&r->mutex);
    while (r->next < r->count) {
        struct one_node *n = &r->node[r->next++];
        (void)pthread_mutex_unlock(&r->mutex);
        json_t *said = ask_node(n);
        (void)pthread_mutex_lock(&r->mutex);
        n->said = said;
        r->done++;
        (void)pthread_cond_signal(&r->changed);
    }
    (void)pthread_mutex_unlock(&r->mutex);
    leave(r);
    return NULL;
}

/* --- all of them -------------------------------------------------------------------------------
 */

static bool is_known(const struct round *r, const char *url)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->node[i].url, url) == 0) {
            return true;
        }
    }
    return false;
}

static enum dr_code add_node(struct round *r, uint32_t *room, const json_t *table,
                             const json_t *node, struct dr_err *err)
{
    const char *url = dr_text_of(node, "url");
    if (url[0] == '\0' || is_known(r, url)) {
        return DR_OK;
    }
    if (r->count == *room) {
        uint32_t wanted = *room == 0 ? 16 : *room * 2;
        struct one_node *grown = dr_realloc(r->node, wanted * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        r->node = grown;
        *room = wanted;
    }
    struct one_node *n = &r->node[r->count++];
    *n = (struct one_node){.name = dr_strdup(dr_text_of(node, "name")),
                           .url = dr_strdup(url),
                           .is_manticore = strcmp(dr_text_of(table, "engine"), "manticore") == 0};
    return n->name == NULL || n->url == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code add_nodes(struct round *r, const json_t *tables, struct dr_err *err)
{
    size_t i;
    size_t n;
    json_t *table;
    json_t *node;
    uint32_t room = 0;
    json_array_foreach((json_t *)tables, i, table)
    {
        json_array_foreach(json_object_get(table, "nodes"), n, node)
        {
            enum dr_code rc = add_node(r, &room, table, node, err);
            if (rc != DR_OK) {
                return rc;
            }
        }
    }
    return DR_OK;
}

static enum dr_code start_threads(struct round *r, struct dr_err *err)
{
    pthread_attr_t how;
    uint32_t started = 0;
    uint32_t wanted = r->count < THREADS_MAX ? r->count : THREADS_MAX;
    (void)pthread_attr_init(&how);
    (void)pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    for (; started < wanted; started++) {
        pthread_t thread;
        (void)pthread_mutex_lock(&r->mutex);
        r->users++;
        (void)pthread_mutex_unlock(&r->mutex);
        if (pthread_create(&thread, &how, ask_some, r) != 0) {
            (void)pthread_mutex_lock(&r->mutex);
            r->users--;
            (void)pthread_mutex_unlock(&r->mutex);
            break;
        }
    }
    (void)pthread_attr_destroy(&how);
    return started == 0 && wanted > 0
               ? dr_fail(err, DR_NOMEM,
                         "no thread to ask the nodes with; raise the limit of "
                         "processes (ulimit -u)")
               : DR_OK;
}

static void wait_for_all(struct round *r, uint32_t wait_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&r->mutex);
    while (r->done < r->count && pthread_cond_timedwait(&r->changed, &r->mutex, &until) == 0) {
    }
    r->next = r->count; /* what was not begun need not be */
    (void)pthread_mutex_unlock(&r->mutex);
}

/* Takes what was said. */
static json_t *result_of(struct one_node *n)
{
    json_t *j = n->said;
    n->said = NULL;
    if (j == NULL) {
        j = json_pack("{s:b, s:s}", "answered", 0, "why", "it did not answer in time");
    }
    if (j == NULL || json_object_set_new(j, "name", json_string(n->name)) != 0 ||
        json_object_set_new(j, "url", json_string(n->url)) != 0 ||
        json_object_set_new(j, "engine", json_string(n->is_manticore ? "manticore" : "sql")) != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static struct round *make_round(void)
{
    pthread_condattr_t clock;
    struct round *r = dr_calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&r->mutex, NULL);
    (void)pthread_condattr_init(&clock);
    (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->changed, &clock);
    (void)pthread_condattr_destroy(&clock);
    r->users = 1;
    return r;
}

enum dr_code dr_nodes_ask(const json_t *tables, uint32_t wait_ms, json_t **out, struct dr_err *err)
{
    *out = NULL;
    struct round *r = make_round();
    if (r == NULL) {
        return dr_fail_nomem(err);
    }
    json_t *list = json_array();
    enum dr_code rc = list == NULL ? dr_fail_nomem(err) : add_nodes(r, tables, err);
    rc = rc == DR_OK ? start_threads(r, err) : rc;
    if (rc == DR_OK) {
        wait_for_all(r, wait_ms);
    }
    (void)pthread_mutex_lock(&r->mutex);
    for (uint32_t i = 0; rc == DR_OK && i < r->count; i++) {
        rc = json_array_append_new(list, result_of(&r->node[i])) != 0 ? dr_fail_nomem(err) : DR_OK;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    leave(r);
    if (rc != DR_OK) {
        json_decref(list);
        return rc;
    }
    *out = list;
    return DR_OK;
}
