/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of the catalog's routes. Fixed paths stand before those with parameters. A build
 * without the catalog has the same table: there every call says that it is missing. */
#include "api/rest_private.h"

#ifdef DROVER_RAFT
#define RUN(name) dr_rest_##name
#else
#define RUN(name) fail_absent
static enum dr_code fail_absent(struct dr_call *c, struct dr_err *err)
{
    (void)err;
    dr_rest_fail_absent(c);
    return DR_OK;
}
#endif

static const char *const no_query[] = {NULL};
static const char *const timeout_query[] = {"timeout", NULL};
static const char *const force_query[] = {"force", "timeout", NULL};
static const char *const write_query[] = {"wait", "ordering", "timeout", NULL};
static const char *const read_query[] = {"consistency", "timeout", NULL};

#define C "/collections/{collection}"
#define ROUTE(method, path, id, role, query, body, run)                                            \
    {                                                                                              \
        {method, path, id, role, query}, RUN(run), 0, body, true, false                            \
    }
#define POINTS(method, path, id, role, query, run)                                                 \
    {                                                                                              \
        {method, path, id, role, query}, RUN(run), DR_API_POINTS_BYTES_MAX, BODY_MUST, true, false \
    }
#define PEER(path, id)                                                                             \
    {                                                                                              \
        {"POST", path, id, DR_ROLE_NONE, no_query}, RUN(internal), DR_API_PEER_BYTES_MAX,          \
            BODY_MAY, true, true                                                                   \
    }

static const struct dr_route routes[] = {
    ROUTE("GET", "/", "getVersion", DR_ROLE_NONE, no_query, BODY_NONE, root),
    ROUTE("GET", "/collections", "listCollections", DR_ROLE_READ, no_query, BODY_NONE, list),
    ROUTE("POST", "/collections/aliases", "changeAliases", DR_ROLE_ADMIN, timeout_query, BODY_MUST,
          aliases),
    ROUTE("GET", "/aliases", "listAliases", DR_ROLE_READ, no_query, BODY_NONE, list_aliases),
    ROUTE("GET", C, "getCollection", DR_ROLE_READ, no_query, BODY_NONE, get),
    ROUTE("PUT", C, "createCollection", DR_ROLE_ADMIN, timeout_query, BODY_MAY, create),
    ROUTE("PATCH", C, "updateCollection", DR_ROLE_ADMIN, timeout_query, BODY_MUST, update),
    ROUTE("DELETE", C, "deleteCollection", DR_ROLE_ADMIN, timeout_query, BODY_MAY, delete),
    ROUTE("GET", C "/exists", "collectionExists", DR_ROLE_READ, no_query, BODY_NONE, exists),
    ROUTE("GET", C "/aliases", "listCollectionAliases", DR_ROLE_READ, no_query, BODY_NONE,
          list_aliases),
    ROUTE("GET", C "/cluster", "getCollectionCluster", DR_ROLE_READ, no_query, BODY_NONE, cluster),
    ROUTE("POST", C "/cluster", "updateCollectionCluster", DR_ROLE_ADMIN, timeout_query, BODY_MUST,
          cluster_op),
    ROUTE("GET", C "/shards", "listShardKeys", DR_ROLE_READ, no_query, BODY_NONE, keys),
    ROUTE("PUT", C "/shards", "createShardKey", DR_ROLE_ADMIN, timeout_query, BODY_MUST,
          create_key),
    ROUTE("POST", C "/shards/delete", "deleteShardKey", DR_ROLE_ADMIN, timeout_query, BODY_MUST,
          drop_key),
    ROUTE("POST", C "/sharding/promote_to_custom", "promoteToCustomSharding", DR_ROLE_ADMIN,
          timeout_query, BODY_MAY, promote),
    ROUTE("GET", C "/sharding/promotions", "listPromotions", DR_ROLE_READ, no_query, BODY_NONE,
          promotions),
    ROUTE("POST", C "/route", "routePoints", DR_ROLE_READ, no_query, BODY_MUST, route),
    POINTS("PUT", C "/points", "upsertPoints", DR_ROLE_OPERATE, write_query, upsert),
    POINTS("POST", C "/points", "getPoints", DR_ROLE_READ, read_query, points_get),
    POINTS("POST", C "/points/delete", "deletePoints", DR_ROLE_OPERATE, write_query, points_delete),
    ROUTE("POST", C "/points/count", "countPoints", DR_ROLE_READ, read_query, BODY_MAY,
          points_count),
    ROUTE("POST", C "/points/scroll", "scrollPoints", DR_ROLE_READ, read_query, BODY_MAY,
          points_scroll),
    ROUTE("GET", C "/points/{id}", "getPoint", DR_ROLE_READ, read_query, BODY_NONE, point),
    ROUTE("GET", "/tables", "listTables", DR_ROLE_READ, no_query, BODY_NONE, list_tables),
    ROUTE("GET", "/tables/{table}", "getTable", DR_ROLE_READ, no_query, BODY_NONE, table),
    ROUTE("POST", "/tables/{table}/route", "routeRows", DR_ROLE_READ, no_query, BODY_MUST,
          route_table),
    ROUTE("GET", "/cluster", "getCluster", DR_ROLE_READ, no_query, BODY_NONE, info),
    ROUTE("DELETE", "/cluster/peer/{id}", "removePeer", DR_ROLE_ADMIN, force_query, BODY_MAY,
          remove_peer),
    ROUTE("POST", "/cluster/recover", "recoverCluster", DR_ROLE_ADMIN, no_query, BODY_MAY, recover),
    ROUTE("POST", "/cluster/leader/{id}", "transferLeader", DR_ROLE_ADMIN, no_query, BODY_MAY,
          transfer_leader),
    PEER("/internal/{name}", "askPeer"),
    PEER("/internal/{name}/{part}", "askPeerPart"),
};

enum { ROUTE_COUNT = sizeof routes / sizeof routes[0] };

const struct dr_route *dr_rest_route_at(uint32_t n)
{
    return n < ROUTE_COUNT ? &routes[n] : NULL;
}
