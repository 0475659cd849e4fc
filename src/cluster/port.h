/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog of sharded tables for those below: a running peer as a struct dr_catalog_port, or one
 * that starts when it is first asked, for commands that work on a data folder without a daemon. */
#ifndef DR_CLUSTER_PORT_H
#define DR_CLUSTER_PORT_H

#include "base/err.h"
#include "cluster/cluster.h"
#include "obs/log.h"
#include "store/world.h"

/* Fills *out with the peer's own; borrows `c` for its life. */
void dr_cluster_port(struct dr_cluster *c, struct dr_catalog_port *out);

/* A stand-alone peer in DIR/cluster, started at the first call and stopped by destroy. The caller
 * owns the data folder (dr_queue_own) by then. A folder that belongs to a cluster of several peers
 * is DR_REFUSED: "run drover serve". */
struct dr_port;
DR_MUST enum dr_code dr_port_create(const char *data_dir, struct dr_log *log, struct dr_port **out,
                                    struct dr_err *err);
const struct dr_catalog_port *dr_port_catalog(struct dr_port *p);
void dr_port_destroy(struct dr_port *p); /* accepts NULL */

/* Read the tables' records from DIR/cluster/tables/, whoever owns the folder: as of the last change
 * applied by this peer. An array without secrets; an empty one when there are none. */
DR_MUST enum dr_code dr_port_read_files(const char *data_dir, json_t **out, struct dr_err *err);

/* The API's verbs about tables (REST). */
dr_cluster_verb dr_cluster_list_tables;
dr_cluster_verb dr_cluster_get_table;
dr_cluster_verb dr_cluster_route_table; /* {"ids": [...]} -> [{"id","shard","table","holders":
                                           [{"node","url" without secrets}],"version"}] */

#endif
