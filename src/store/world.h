/* SPDX-License-Identifier: Apache-2.0 */
/* What stores may need of the process around them: the catalog of sharded tables, for the fleet.
 * `main` makes it and hands it down (to the pool, the verbs); stores that stand alone ignore it. */
#ifndef DR_STORE_WORLD_H
#define DR_STORE_WORLD_H

#include "base/err.h"
#include "base/json.h"
#include "store/store.h"

/* The catalog as the fleet sees it; made by cluster/ (cluster/port.h). Any thread. */
struct dr_catalog_port {
    void *arg;
    /* The record of a sharded table, as dr_table_to_json (catalog/table.h) shows it, node URLs
     * included; the caller's. DR_NOT_FOUND. After a restart it answers only when everything agreed
     * on is applied here (waits up to 10 s, then DR_UNREACHABLE). */
    enum dr_code (*read)(void *arg, const char *table, json_t **out, struct dr_err *err);
    /* All of them: an array. */
    enum dr_code (*list)(void *arg, json_t **out, struct dr_err *err);
    /* Agree on an entry (catalog/table.h lists them) and wait until it is applied here. The
     * refusals are those of apply. DR_UNKNOWN: it may still happen; all table entries are safe to
     * repeat. */
    enum dr_code (*change)(void *arg, const json_t *entry, struct dr_err *err);
};

struct dr_store_world {
    const struct dr_catalog_port *catalog; /* NULL: this process has none */
};

/* dr_store_open within a world (NULL: an empty one). "fleet:" needs a catalog; all else is the
 * same.
 */
DR_MUST enum dr_code dr_store_open_in(const struct dr_store_world *world, const char *url,
                                      struct dr_store **out, struct dr_err *err);

#endif
