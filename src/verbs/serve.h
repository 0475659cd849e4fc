/* SPDX-License-Identifier: Apache-2.0 */
/* What a daemon is given to serve with. The command line prepares it and main knows who serves, so
 * that neither door has to include the other. */
#ifndef DR_VERBS_SERVE_H
#define DR_VERBS_SERVE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "queue/queue.h"
#include "store/world.h"
#include "verbs/config.h"
#include "verbs/place.h"

#define DR_SERVE_LISTEN "127.0.0.1:8350"

struct dr_cluster; /* cluster/cluster.h */

struct dr_serve {
    struct dr_queue *queue; /* owned already */
    struct dr_log *log;
    const struct dr_config *config;
    const char *listen;                 /* "ADDR:PORT", "[ADDR]:PORT"; port 0 takes a free one */
    const char *tokens_path;            /* NULL: no tokens, which only loopback addresses allow */
    uint32_t threads;                   /* of the pool; 0: its default */
    const struct dr_store_world *world; /* for stores that need the catalog; may be NULL */
    const atomic_bool *ask_stop;
    enum dr_place *place; /* whom the running call talks to */
    /* The catalog; NULL: none in this build, or none is wanted. */
    struct dr_cluster *cluster;
    const char *peer_token;     /* what other peers show on /internal; NULL: nobody can */
    const char *grpc_listen;    /* as listen; NULL: no gRPC */
    struct dr_metrics *metrics; /* NULL: serving makes its own */
};

/* Serve and work until asked to stop (then DR_OK), or until something fails. Blocks. */
typedef enum dr_code dr_serve_fn(const struct dr_serve *s, struct dr_err *err);

#endif
