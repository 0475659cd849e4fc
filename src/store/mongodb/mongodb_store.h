/* SPDX-License-Identifier: Apache-2.0 */
/* The store adapter for MongoDB: a router (mongos) of a sharded cluster, or a replica set.
 *
 * URL: what libmongoc takes, and in its query drover's own options, which are taken out first:
 * drover.configUri (percent-encoded URI of the cluster's metadata; default: the same connection),
 * drover.configDb (default "config"), drover.rebalanceCheck (seconds until moving chunks are looked
 * at again, default 300). Nodes are the shards' names; a replica set is one node with its own name.
 * Everything is read and erased through the router: reads there see no orphans and deletes by the
 * shard key are checked against the shard version. */
#ifndef DR_STORE_MONGODB_MONGODB_STORE_H
#define DR_STORE_MONGODB_MONGODB_STORE_H

#include "store/store.h"

const struct dr_store_ops *dr_store_mongodb_ops(void);
const struct dr_store_ops *dr_store_mongodb_srv_ops(void); /* mongodb+srv:// */

#endif
