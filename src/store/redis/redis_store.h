/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter for Redis: one server, several servers, or a cluster. */
#ifndef DR_STORE_REDIS_REDIS_STORE_H
#define DR_STORE_REDIS_REDIS_STORE_H

#include "store/store.h"

/* URLs: redis://[user:password@]host:port[,host:port...][/db]. Several hosts are several
 * stand-alone servers (each is a node), unless they answer as one cluster (each primary is a node).
 */
const struct dr_store_ops *dr_store_redis_ops(void);

#endif
