/* SPDX-License-Identifier: Apache-2.0 */
/* The store adapters for MariaDB/MySQL and PostgreSQL: one adapter over store/sqldb.h, told apart
 * by its dialect.
 *
 * URL: see dr_sqldb_open; drover's own options in its query: drover.replica (percent-encoded URL of
 * a replica whose lag is watched, may be repeated), drover.maxLag (seconds, default 10),
 * drover.maxHistory (InnoDB's history list length, default 1,000,000), drover.maxSlotLag (bytes of
 * WAL a replication slot may hold back, default 10 GiB), drover.maxHorizonAge (transactions,
 * default 10,000,000). One node, "main". "database.name": the database is MariaDB's database or
 * PostgreSQL's schema. */
#ifndef DR_STORE_SQL_SQL_STORE_H
#define DR_STORE_SQL_SQL_STORE_H

#include "store/store.h"

const struct dr_store_ops *dr_store_mysql_ops(void);
const struct dr_store_ops *dr_store_mariadb_ops(void);
const struct dr_store_ops *dr_store_postgres_ops(void);
const struct dr_store_ops *dr_store_postgresql_ops(void);

#endif
