/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite as a store: a plain file, or a layout file that names shard files.
 *
 * `sqlite:PATH`. A file with a table drover_shards that has paths is a layout file; ARCHITECTURE.md
 * ("Sharded SQLite") shows its tables. Any other file is one node "main" with the database "main",
 * and may hold shards (store/shard.h), whose records are in a drover_shards without paths. */
#ifndef DR_STORE_SQLITE_SQLITE_STORE_H
#define DR_STORE_SQLITE_SQLITE_STORE_H

#include "store/store.h"

const struct dr_store_ops *dr_store_sqlite_ops(void);

#endif
