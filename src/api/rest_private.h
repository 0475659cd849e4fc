/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the catalog's REST routes: the envelope and the handlers. */
#ifndef DR_API_REST_PRIVATE_H
#define DR_API_REST_PRIVATE_H

#include "api/api_private.h"
#include "api/door_private.h"

/* Answer with what is wrong in "JSON body", "query parameters" or "path parameters". */
void dr_rest_fault(struct dr_call *c, const char *where, const struct dr_fault *f);
/* The envelope around a result, whose reference it takes; NULL is a lack of memory. */
enum dr_code dr_rest_result(struct dr_call *c, json_t *result, struct dr_err *err);
/* The envelope around a reply, which it releases. */
enum dr_code dr_rest_answer(struct dr_call *c, struct dr_cluster_reply *reply, struct dr_err *err);

#define DR_REST_HANDLER(name) enum dr_code name(struct dr_call *c, struct dr_err *err)
DR_REST_HANDLER(dr_rest_root);
DR_REST_HANDLER(dr_rest_list);
DR_REST_HANDLER(dr_rest_exists);
DR_REST_HANDLER(dr_rest_create);
DR_REST_HANDLER(dr_rest_get);
DR_REST_HANDLER(dr_rest_update);
DR_REST_HANDLER(dr_rest_delete);
DR_REST_HANDLER(dr_rest_cluster);
DR_REST_HANDLER(dr_rest_cluster_op);
DR_REST_HANDLER(dr_rest_keys);
DR_REST_HANDLER(dr_rest_create_key);
DR_REST_HANDLER(dr_rest_drop_key);
DR_REST_HANDLER(dr_rest_promote);
DR_REST_HANDLER(dr_rest_promotions);
DR_REST_HANDLER(dr_rest_aliases);
DR_REST_HANDLER(dr_rest_list_aliases);
DR_REST_HANDLER(dr_rest_route);
DR_REST_HANDLER(dr_rest_list_tables);
DR_REST_HANDLER(dr_rest_table);
DR_REST_HANDLER(dr_rest_route_table);
DR_REST_HANDLER(dr_rest_info);
DR_REST_HANDLER(dr_rest_remove_peer);
DR_REST_HANDLER(dr_rest_recover);
DR_REST_HANDLER(dr_rest_transfer_leader);
DR_REST_HANDLER(dr_rest_internal);
DR_REST_HANDLER(dr_rest_upsert);
DR_REST_HANDLER(dr_rest_points_get);
DR_REST_HANDLER(dr_rest_points_delete);
DR_REST_HANDLER(dr_rest_points_count);
DR_REST_HANDLER(dr_rest_points_scroll);
DR_REST_HANDLER(dr_rest_point);
#undef DR_REST_HANDLER

#endif
