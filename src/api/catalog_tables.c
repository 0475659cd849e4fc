/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the REST calls about sharded tables: reading only. They are changed by operations. */
#include "api/rest_private.h"

#ifdef DROVER_RAFT
#include "cluster/port.h"

static enum dr_code run_verb(struct dr_call *c, dr_cluster_verb *verb, struct dr_err *err)
{
    struct dr_cluster_reply reply = {0};
    struct dr_cluster_caller who = {.who = c->who};
    verb(c->api->serve->cluster, &who, c->param, c->json, &reply);
    return dr_rest_answer(c, &reply, err);
}

enum dr_code dr_rest_list_tables(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_list_tables, err);
}

enum dr_code dr_rest_table(struct dr_call *c, struct dr_err *err)
{
    return run_verb(c, dr_cluster_get_table, err);
}

enum dr_code dr_rest_route_table(struct dr_call *c, struct dr_err *err)
{
    struct dr_fault f = {0};
    if (!dr_check_points_get(c->json, &f)) { /* the same body: a list of ids */
        dr_rest_fault(c, "JSON body", &f);
        return DR_OK;
    }
    return run_verb(c, dr_cluster_route_table, err);
}
#endif
