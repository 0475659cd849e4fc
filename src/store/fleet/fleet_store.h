/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet: all nodes of sharded tables as one store, `fleet:` or `fleet:TABLE`. Its commands make
 * and move shards on the nodes that the catalog knows, and change the catalog; README.md has the
 * vocabulary. */
#ifndef DR_STORE_FLEET_FLEET_STORE_H
#define DR_STORE_FLEET_FLEET_STORE_H

#include "store/store.h"
#include "store/world.h"

const struct dr_store_ops *dr_store_fleet_ops(void);
/* Open within a world; borrows its catalog for the handle's life. DR_REFUSED without a catalog. */
enum dr_code dr_store_fleet_open(const struct dr_store_world *world, const char *url,
                                 void **impl_out, struct dr_err *err);

#endif
