/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the REST calls about collections, shard keys, aliases and the cluster. Each checks what can
 * be checked without the catalog and hands on to cluster/. */
#include "api/rest_private.h"

#ifdef DROVER_RAFT
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { INTERNAL_NAME_BYTES = 128 };

typedef bool check_fn(const json_t *body, struct dr_fault *f);

static bool take_timeout(struct dr_call *c, uint64_t *ms_out)
{
    struct dr_fault f = {0};
    uint64_t seconds = 0;
    const char *text = dr_call_query(c, "timeout");
    *ms_out = 0;
    if (text == NULL) {
        return true;
    }
    if (!dr_parse_u64(text, &seconds)) {
        f.kind = DR_FAULT_FORMAT;
        dr_copy_text(f.text, sizeof f.text, "timeout: expected a whole number of seconds");
    } else if (dr_check_timeout(seconds, &f)) {
        *ms_out = seconds * 1000;
        return true;
    }
    dr_rest_fault(c, "query parameters", &f);
    return false;
}

/* Name, timeout and body are looked at, then the verb is asked. */
static enum dr_code run_verb(struct dr_call *c, dr_cluster_verb *verb, check_fn *check, bool is_new,
                             struct dr_err *err)
{
    struct dr_fault f = {0};
    struct dr_cluster_reply reply = {0};
    struct dr_cluster_caller who = {.who = c->who};
    if (c->param != NULL && !dr_check_name(c->param, is_new, &f)) {
        dr_rest_fault(c, "path parameters", &f);
        return DR_OK;
    }
    if (!take_timeout(c, &who.timeout_ms)) {
        return DR_OK;
    }
    if (check != NULL && !check(c->json, &f)) {
        dr_rest_fault(c, "JSON body", &f);
        return DR_OK;
    }
    verb(c->api->serve->cluster, &who, c->param, c->json, &reply);
    return dr_rest_answer(c, &reply, err);
}

enum dr_code dr_rest_root(struct dr_call *c, struct dr_err *err)
{
    c->reply = json_pack("{s:s, s:s, s:s}", "title", DR_DOOR_TITLE, "version", DR_DOOR_VERSION,
                         "drover", DROVER_VERSION);
    return c->reply == NULL ? dr_fail_nomem(err) : DR_OK;
}

enum dr_code dr_rest_list(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_list_collections, NULL, false, err);
}

enum dr_code dr_rest_exists(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_collection_exists, NULL, false, err);
}

enum dr_code dr_rest_create(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_create_collection, dr_check_create, true, err);
}

enum dr_code dr_rest_get(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_get_collection, NULL, false, err);
}

enum dr_code dr_rest_update(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_update_collection, dr_check_update, false, err);
}

enum dr_code dr_rest_delete(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_delete_collection, NULL, false, err);
}

enum dr_code dr_rest_cluster(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_collection_cluster, NULL, false, err);
}

enum dr_code dr_rest_cluster_op(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_door_cluster_op, dr_check_cluster_op, false, err);
}

enum dr_code dr_rest_keys(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_list_keys, NULL, false, err);
}

enum dr_code dr_rest_create_key(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_create_key, dr_check_create_key, false, err);
}

enum dr_code dr_rest_drop_key(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_drop_key, dr_check_drop_key, false, err);
}

enum dr_code dr_rest_promote(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_promote, dr_check_promote, false, err);
}

enum dr_code dr_rest_promotions(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_promotions, NULL, false, err);
}

enum dr_code dr_rest_aliases(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_aliases, dr_check_aliases, false, err);
}

enum dr_code dr_rest_list_aliases(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_list_aliases, NULL, false, err);
}

enum dr_code dr_rest_route(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_route, dr_check_points_get, false, err);
}

/* --- the cluster ---------------------------------------------------------------------------------
 */

enum dr_code dr_rest_info(struct dr_call *c, struct dr_err *err)
{
    struct dr_cluster *cluster = c->api->serve->cluster;
    json_t *info = dr_cluster_is_distributed(cluster) ? dr_cluster_info(cluster)
                                                      : json_pack("{s:s}", "status", "disabled");
    return dr_rest_result(c, info, err);
}

/* The {id} of a peer; false after a 400. */
static bool take_peer(struct dr_call *c, uint64_t *out)
{
    static const struct dr_fault wrong = {DR_FAULT_FORMAT, "peer_id: expected an unsigned integer"};
    if (dr_parse_u64(c->param, out)) {
        return true;
    }
    dr_rest_fault(c, "path parameters", &wrong);
    return false;
}

enum dr_code dr_rest_remove_peer(struct dr_call *c, struct dr_err *err)
{
    struct dr_fault f = {DR_FAULT_FORMAT, "force: expected `true` or `false`"};
    struct dr_cluster_reply reply = {0};
    struct dr_cluster_caller who = {.who = c->who};
    const char *force = dr_call_query(c, "force");
    uint64_t id = 0;
    if (!take_peer(c, &id) || !take_timeout(c, &who.timeout_ms)) {
        return DR_OK;
    }
    if (force != NULL && strcmp(force, "true") != 0 && strcmp(force, "false") != 0) {
        dr_rest_fault(c, "query parameters", &f);
        return DR_OK;
    }
    dr_cluster_remove_peer(c->api->serve->cluster, &who, id,
                           force != NULL && strcmp(force, "true") == 0, &reply);
    return dr_rest_answer(c, &reply, err);
}

enum dr_code dr_rest_recover(struct dr_call *c, struct dr_err *err)
{
    struct dr_cluster_reply reply = {0};
    dr_cluster_recover(c->api->serve->cluster, &reply);
    return dr_rest_answer(c, &reply, err);
}

enum dr_code dr_rest_transfer_leader(struct dr_call *c, struct dr_err *err)
{
    struct dr_cluster_reply reply = {0};
    uint64_t id = 0;
    if (!take_peer(c, &id)) {
        return DR_OK;
    }
    dr_cluster_transfer_leader(c->api->serve->cluster, id, &reply);
    return dr_rest_answer(c, &reply, err);
}

/* What another peer asks; "points/write" comes as two segments. */
enum dr_code dr_rest_internal(struct dr_call *c, struct dr_err *err)
{
    char name[INTERNAL_NAME_BYTES];
    struct dr_cluster_reply reply = {0};
    (void)snprintf(name, sizeof name, "%s%s%s", c->param, c->param2 != NULL ? "/" : "",
                   c->param2 != NULL ? c->param2 : "");
    dr_cluster_internal(c->api->serve->cluster, name, c->json, &reply);
    return dr_rest_answer(c, &reply, err);
}
#endif
