/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter for a Manticore node: sharded tables with clusters for replication. */
#ifndef DR_STORE_MANTICORE_MANTICORE_STORE_H
#define DR_STORE_MANTICORE_MANTICORE_STORE_H

#include "store/store.h"

/* URLs: manticore://[user[:password]@]host[:9306][?binary=host:9312&connect_timeout=S
 * &read_timeout=S]. A handle is one node; rows are not read through it, only commands and the
 * state of tables and clusters. README.md lists the commands. */
const struct dr_store_ops *dr_store_manticore_ops(void);

#endif
