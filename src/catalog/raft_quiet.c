/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing: a libraft transport without a network, for the embedded default of one voter. It
 * opens no port, so nobody has to protect one. */
#include "catalog/raft_private.h"

static int quiet_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
    (void)t;
    (void)id;
    (void)address;
    return 0;
}

static int quiet_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
    (void)t;
    (void)cb;
    return 0;
}

static int quiet_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id,
                         const char *address, raft_uv_connect_cb cb)
{
    (void)t;
    (void)req;
    (void)id;
    (void)address;
    (void)cb;
    return RAFT_NOCONNECTION;
}

static void quiet_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
    cb(t);
}

void dr_quiet_transport(struct raft_uv_transport *t)
{
    *t = (struct raft_uv_transport){
        .init = quiet_init,
        .listen = quiet_listen,
        .connect = quiet_connect,
        .close = quiet_close,
    };
}
