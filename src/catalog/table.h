/* SPDX-License-Identifier: Apache-2.0 */
/* Sharded tables in the catalog: which shards a table has, which nodes hold each, and which
 * operation may change that now. Part of the same immutable state and log as collections.
 *
 * A record's life:
 *
 *     table_reserve -> making -- table_ready --> ready -- table_begin -> changing
 *     making:   table_release -> (gone)
 *     ready:    table_drop -> dropping; table_release by its maker, unchanged since -> (gone)
 *     changing: table_switch, one shard at a time; table_end -> ready;
 *               table_cancel -> ready (all switched back)
 *     dropping: table_undrop -> ready; table_remove -> (gone)
 *
 * In making, changing and dropping the record names its operation ("owner"): entries of another one
 * are refused (DR_CONFLICT, naming the holder). Every entry can be repeated: "so already" is DR_OK
 * with changed == false. A switch is a compare-and-set of one shard's holders.
 *
 * Entries ({"v":1,"op":..., all with "name","uuid","operation"}):
 *  table_reserve {"engine","columns","extra","shards","rf","routing","nodes":[{"name","url"}],
 *                 "placement":[[node numbers] per shard], "options":{}}   uuid: of the new table
 *  table_release, table_ready
 *  table_begin   {"what":"rebalance","add":[{"name","url"}],"remove":[names]}
 *  table_switch  {"shard","from":[names],"to":[names]}      from: the holders now, in order
 *  table_end     removed nodes leave the record (refused while one still holds a shard)
 *  table_cancel  added nodes leave it (refused while one holds a shard)
 *  table_drop, table_undrop, table_remove
 *
 * All pure, any thread. */
#ifndef DR_CATALOG_TABLE_H
#define DR_CATALOG_TABLE_H

#include "catalog/catalog.h"

enum {
    DR_TABLES_MAX = 10000,
    DR_TABLE_SHARDS_MAX = 3000,
    DR_TABLE_NODES_MAX = 256,
    DR_TABLE_NAME_BYTES_MAX = 40,  /* the shard's name adds "_s2999" */
    DR_TABLE_NODE_BYTES_MAX = 120, /* of a node's name */
    DR_TABLE_COLUMNS_BYTES_MAX = 64 * 1024,
};

enum dr_table_state { DR_TABLE_MAKING, DR_TABLE_READY, DR_TABLE_CHANGING, DR_TABLE_DROPPING };
const char *dr_table_state_name(enum dr_table_state s); /* "making" ... */

struct dr_table_node {
    const char *name; /* "db1:3306/shop"; unique in the table; ascending */
    const char *url;  /* may hold a secret: never shown */
    bool is_leaving;  /* removed by the rebalance that runs */
    bool is_coming;   /* added by it */
};
struct dr_table_shard {
    uint32_t holder_count;
    const uint32_t *holder; /* numbers of nodes; the first takes writes first */
};
struct dr_table_info {
    const char *name;
    char uuid[DR_UUID_TEXT_BYTES];
    const char *engine;  /* "sqlite" "mysql" "postgres" "manticore" */
    const char *columns; /* between the parentheses of CREATE TABLE, in the engine's words */
    const char *extra;   /* behind them; "" */
    uint32_t rf;
    enum dr_table_state state;
    const char *operation; /* uuid of who holds it; "" when ready */
    const char *what;      /* "create" "rebalance" "drop"; "" when ready */
    uint64_t version;      /* goes up with every switch: the router map's version */
    uint32_t node_count;
    const struct dr_table_node *node;
    uint32_t shard_count;
    const struct dr_table_shard *shard;
    uint64_t changed_at_index;
};

uint32_t dr_catalog_table_count(const struct dr_catalog *c);
const struct dr_table_info *dr_catalog_table_at(const struct dr_catalog *c,
                                                uint32_t i); /* by name */
const struct dr_table_info *dr_catalog_table(const struct dr_catalog *c,
                                             const char *name); /* NULL */
/* {"name","uuid","engine","columns","extra","rf","state","operation","what","version","routing",
 *  "nodes":[{"name","url","leaving","coming"}],"shards":[{"shard":0,"table":"users_s0",
 *  "holders":[names]}]}. URLs without secrets unless `with_secrets`. NULL: memory is short. */
json_t *dr_table_to_json(const struct dr_table_info *t, bool with_secrets);
/* The shard of a row: CRC-32 (zlib's) of the id's text, jump consistent hash over the shards (the
 * rule of Manticore's sharded tables, so that all engines agree; ids that are numbers in decimal).
 * Golden: 3 shards, ids 1..9: shard 0 gets 6 and 9, 1 gets 5 and 8, 2 the rest. */
uint32_t dr_table_route(uint32_t shard_count, const char *id, size_t id_bytes);

/* --- placement: pure, deterministic ------------------------------------------------------------
 */
struct dr_layout_plan { /* holders of each shard: numbers of nodes (index into the sorted names) */
    uint32_t shard_count;
    uint32_t *count; /* per shard */
    uint32_t **holder;
};
/* A new table: the algorithm and the golden vectors of docs/placement.md (least loaded node first,
 * turned by shard + copy). DR_REFUSED when rf > nodes. Into the arena. */
DR_MUST enum dr_code dr_place_new(uint32_t nodes, uint32_t shards, uint32_t rf, struct dr_arena *a,
                                  struct dr_layout_plan *out, struct dr_err *err);
/* A change of nodes, moving as little as can be: copies stay where they are unless their node is
 * `is_gone` (dead or leaving) or the new nodes would be left more than one copy below the average;
 * every shard keeps at least one holder in common with before whose node is alive (rf 1: the
 * source), else DR_REFUSED naming the shard. `may_hold[n]`: node n takes copies. A shard never gets
 * fewer copies than min(rf, nodes that may hold) . Loads of may_hold nodes differ by at most one
 * where that needs no more moves than the least. The first holder stays first where it stays. */
DR_MUST enum dr_code dr_place_change(const struct dr_layout_plan *now, uint32_t nodes,
                                     const bool *may_hold, const bool *is_alive, uint32_t rf,
                                     struct dr_arena *a, struct dr_layout_plan *out,
                                     struct dr_err *err);
/* Copies that `to` has and `from` has not. */
uint64_t dr_place_moves(const struct dr_layout_plan *from, const struct dr_layout_plan *to);

#endif
