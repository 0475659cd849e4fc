/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for gRPC in a build without it. */
#include "api/api_private.h"

#ifndef DROVER_GRPC
enum dr_code dr_grpc_start(struct dr_api *api, struct dr_grpc **out, struct dr_err *err)
{
    (void)api;
    *out = NULL;
    return dr_fail(err, DR_UNSUPPORTED,
                   "--grpc-listen: this build has no gRPC; configure it with -DDROVER_GRPC=ON");
}

uint16_t dr_grpc_port(const struct dr_grpc *g)
{
    (void)g;
    return 0;
}

void dr_grpc_stop(struct dr_grpc *g)
{
    (void)g;
}
#endif
