/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for cluster/: the tests of the doors see what was asked, and say what is answered.
 * Every function of cluster/cluster.h, and the verbs about tables, are here, so that the library's
 * own is not linked. Include it in one file of a program. */
#ifndef DR_TESTS_API_FAKE_CLUSTER_H
#define DR_TESTS_API_FAKE_CLUSTER_H

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "cluster/cluster.h"
#include "cluster/port.h"

struct dr_cluster {
    pthread_mutex_t mutex;
    bool is_distributed;
    bool is_ready;
    /* the last call */
    unsigned calls;
    char verb[64];
    char collection[300];
    char who[DR_NAME_BYTES];
    uint64_t timeout_ms;
    uint64_t id;
    bool is_forced;
    json_t *body;
    /* the next answer */
    enum dr_cluster_class class;
    char message[256];
    json_t *result;
};

static struct dr_cluster fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .is_ready = true};

static void fake_reset(void)
{
    json_decref(fake.body);
    json_decref(fake.result);
    fake.calls = 0;
    fake.verb[0] = fake.collection[0] = fake.who[0] = fake.message[0] = '\0';
    fake.timeout_ms = fake.id = 0;
    fake.is_forced = false;
    fake.is_distributed = true;
    fake.is_ready = true;
    fake.body = NULL;
    fake.result = NULL;
    fake.class = DR_CLASS_OK;
}

/* What the next calls answer, as JSON. */
static void fake_answers(const char *text)
{
    struct dr_err err = {0};
    json_decref(fake.result);
    assert_int_equal(dr_json_parse("answer", text, strlen(text), &fake.result, &err), DR_OK);
    fake.class = DR_CLASS_OK;
}

static void fake_fails(enum dr_cluster_class class, const char *message)
{
    fake.class = class;
    dr_copy_text(fake.message, sizeof fake.message, message);
}

/* The body of the last call as compact text, to be freed. */
static char *fake_body(void)
{
    return fake.body != NULL ? dr_json_text(fake.body) : dr_strdup("none");
}

static void assert_fake(const char *verb, const char *collection, const char *body)
{
    char *text = fake_body();
    if (strcmp(fake.verb, verb) != 0 || strcmp(fake.collection, collection) != 0 ||
        strcmp(text, body) != 0) {
        print_error("wanted %s(%s) %s, was asked %s(%s) %s\n", verb, collection, body, fake.verb,
                    fake.collection, text);
        fail();
    }
    dr_free(text);
}

static void fake_call(const char *verb, const struct dr_cluster_caller *who, const char *collection,
                      const json_t *body, struct dr_cluster_reply *reply)
{
    (void)pthread_mutex_lock(&fake.mutex);
    fake.calls++;
    dr_copy_text(fake.verb, sizeof fake.verb, verb);
    dr_copy_text(fake.collection, sizeof fake.collection, collection != NULL ? collection : "");
    dr_copy_text(fake.who, sizeof fake.who, who != NULL && who->who != NULL ? who->who : "");
    fake.timeout_ms = who != NULL ? who->timeout_ms : 0;
    json_decref(fake.body);
    fake.body = body != NULL ? json_deep_copy(body) : NULL;
    reply->class = fake.class;
    dr_copy_text(reply->message, sizeof reply->message, fake.message);
    reply->result = fake.class != DR_CLASS_OK ? NULL
                    : fake.result != NULL     ? json_deep_copy(fake.result)
                                              : json_true();
    (void)pthread_mutex_unlock(&fake.mutex);
}

#define FAKE_VERB(name)                                                                            \
    void name(struct dr_cluster *c, const struct dr_cluster_caller *who, const char *collection,   \
              const json_t *body, struct dr_cluster_reply *reply)                                  \
    {                                                                                              \
        (void)c;                                                                                   \
        fake_call(#name, who, collection, body, reply);                                            \
    }
FAKE_VERB(dr_cluster_list_collections)
FAKE_VERB(dr_cluster_collection_exists)
FAKE_VERB(dr_cluster_create_collection)
FAKE_VERB(dr_cluster_get_collection)
FAKE_VERB(dr_cluster_update_collection)
FAKE_VERB(dr_cluster_delete_collection)
FAKE_VERB(dr_cluster_collection_cluster)
FAKE_VERB(dr_cluster_cluster_op)
FAKE_VERB(dr_cluster_list_keys)
FAKE_VERB(dr_cluster_create_key)
FAKE_VERB(dr_cluster_drop_key)
FAKE_VERB(dr_cluster_promote)
FAKE_VERB(dr_cluster_promotions)
FAKE_VERB(dr_cluster_aliases)
FAKE_VERB(dr_cluster_list_aliases)
FAKE_VERB(dr_cluster_route)
FAKE_VERB(dr_cluster_list_tables)
FAKE_VERB(dr_cluster_get_table)
FAKE_VERB(dr_cluster_route_table)
FAKE_VERB(dr_points_upsert)
FAKE_VERB(dr_points_get)
FAKE_VERB(dr_points_delete)
FAKE_VERB(dr_points_count)
FAKE_VERB(dr_points_scroll)
#undef FAKE_VERB

/* The catalog's port: nobody here asks it. */
void dr_cluster_port(struct dr_cluster *c, struct dr_catalog_port *out)
{
    (void)c;
    *out = (struct dr_catalog_port){0};
}

enum dr_code dr_port_create(const char *data_dir, struct dr_log *log, struct dr_port **out,
                            struct dr_err *err)
{
    (void)data_dir;
    (void)log;
    (void)err;
    *out = NULL;
    return DR_OK;
}

const struct dr_catalog_port *dr_port_catalog(struct dr_port *p)
{
    (void)p;
    return NULL;
}

void dr_port_destroy(struct dr_port *p)
{
    (void)p;
}

enum dr_code dr_port_read_files(const char *data_dir, json_t **out, struct dr_err *err)
{
    (void)data_dir;
    (void)err;
    *out = json_array();
    return DR_OK;
}

enum dr_code dr_cluster_start(const struct dr_cluster_config *config, struct dr_cluster **out,
                              struct dr_err *err)
{
    (void)config;
    (void)err;
    *out = &fake;
    return DR_OK;
}

void dr_cluster_stop(struct dr_cluster *c)
{
    (void)c;
}

bool dr_cluster_is_distributed(const struct dr_cluster *c)
{
    return c->is_distributed;
}

struct dr_catalog *dr_cluster_catalog(const struct dr_cluster *c)
{
    (void)c;
    return NULL;
}

uint64_t dr_cluster_peer_id(const struct dr_cluster *c)
{
    (void)c;
    return 7;
}

json_t *dr_cluster_info(struct dr_cluster *c)
{
    (void)c;
    return json_pack("{s:s, s:i}", "status", "enabled", "peer_id", 7);
}

bool dr_cluster_is_ready(struct dr_cluster *c, char *why, size_t why_bytes)
{
    dr_copy_text(why, why_bytes, c->is_ready ? "" : "no leader is known");
    return c->is_ready;
}

void dr_cluster_reply_fini(struct dr_cluster_reply *r)
{
    json_decref(r->result);
    r->result = NULL;
}

void dr_cluster_remove_peer(struct dr_cluster *c, const struct dr_cluster_caller *who, uint64_t id,
                            bool is_forced, struct dr_cluster_reply *reply)
{
    fake_call("dr_cluster_remove_peer", who, NULL, NULL, reply);
    c->id = id;
    c->is_forced = is_forced;
}

void dr_cluster_recover(struct dr_cluster *c, struct dr_cluster_reply *reply)
{
    (void)c;
    fake_call("dr_cluster_recover", NULL, NULL, NULL, reply);
}

void dr_cluster_transfer_leader(struct dr_cluster *c, uint64_t id, struct dr_cluster_reply *reply)
{
    fake_call("dr_cluster_transfer_leader", NULL, NULL, NULL, reply);
    c->id = id;
}

void dr_cluster_internal(struct dr_cluster *c, const char *name, const json_t *body,
                         struct dr_cluster_reply *reply)
{
    (void)c;
    fake_call("dr_cluster_internal", NULL, name, body, reply);
}

#endif
