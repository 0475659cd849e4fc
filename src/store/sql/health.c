/* SPDX-License-Identifier: Apache-2.0 */
/* Owns reading how well a server is. What the server does not let us read is remembered, said in
 * the survey's warnings, and not asked again; a replica that cannot be asked is a reason to wait.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "obs/log.h"
#include "store/sql/sql_private.h"

/* A name and a number. */
struct reading {
    char name[96];
    int64_t value;
    bool is_found;
};

static enum dr_code take_reading(void *arg, const struct dr_value *v, uint32_t count,
                                 struct dr_err *err)
{
    struct reading *r = arg;
    (void)err;
    if (count >= 2 && v[1].type != DR_V_NULL && (!r->is_found || sa_int(&v[1]) > r->value)) {
        r->is_found = true;
        r->value = sa_int(&v[1]);
        (void)snprintf(r->name, sizeof r->name, "%.*s", v[0].type == DR_V_TEXT ? (int)v[0].len : 0,
                       v[0].type == DR_V_TEXT ? (const char *)v[0].data : "");
    }
    return DR_OK;
}

/* Ask for one vital; a refusal or an unknown catalog makes us blind for it. */
static enum dr_code read_vital(struct sa_store *s, enum sa_brake brake, const char *sql,
                               const char *param, struct reading *out, struct dr_err *err)
{
    struct dr_value v = {0};
    if (param != NULL) {
        v = sa_text(param);
    }
    *out = (struct reading){.value = -1};
    if ((s->blind & brake) != 0) {
        return DR_OK;
    }
    enum dr_code rc = dr_sqldb_query(s->db, sql, &v, param == NULL ? 0 : 1, take_reading, out, err);
    if (rc == DR_DENIED || rc == DR_NOT_FOUND || rc == DR_INPUT || rc == DR_UNSUPPORTED) {
        s->blind |= brake;
        dr_err_clear(err);
        return DR_OK;
    }
    return rc;
}

/* ---- MariaDB and MySQL ---- */

static enum dr_code read_mariadb(struct sa_store *s, struct sa_vitals *out, struct dr_err *err)
{
    struct reading r;
    int64_t is_read_only = 0;
    enum dr_code rc =
        sa_ask_number(s->db, "SELECT @@global.read_only", NULL, NULL, &is_read_only, NULL, err);
    out->is_read_only = is_read_only != 0;
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_HISTORY,
                        s->info->is_mysql
                            ? "SELECT NAME, COUNT FROM information_schema.INNODB_METRICS WHERE "
                              "NAME = 'trx_rseg_history_len'"
                            : "SELECT VARIABLE_NAME, CAST(VARIABLE_VALUE AS SIGNED) FROM "
                              "information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = "
                              "'INNODB_HISTORY_LIST_LENGTH'",
                        NULL, &r, err);
        out->history = r.value;
    }
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_WAITS,
                        "SELECT 'waits', count(*) FROM information_schema.INNODB_TRX WHERE "
                        "trx_state = 'LOCK WAIT' AND trx_wait_started < CURRENT_TIMESTAMP - "
                        "INTERVAL 5 SECOND",
                        NULL, &r, err);
        out->lock_waits = r.value;
    }
    return rc;
}

/* The columns of SHOW SLAVE STATUS have no names here; their order has been the same since 5.0. */
enum { SLAVE_IO_RUNNING = 10, SLAVE_SQL_RUNNING = 11, SECONDS_BEHIND = 32 };

struct slave {
    uint32_t skipped; /* columns in front of the well-known ones */
    int64_t lag_s;    /* the worst channel's; -1: none replicates */
    bool is_stopped;
};

static enum dr_code take_slave(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct slave *s = arg;
    (void)err;
    if (count <= s->skipped + SECONDS_BEHIND) {
        s->is_stopped = true;
        return DR_OK;
    }
    v += s->skipped;
    if (v[SECONDS_BEHIND].type == DR_V_NULL || !sa_is(&v[SLAVE_SQL_RUNNING], "Yes") ||
        sa_is(&v[SLAVE_IO_RUNNING], "No")) {
        s->is_stopped = true;
    } else if (sa_int(&v[SECONDS_BEHIND]) > s->lag_s) {
        s->lag_s = sa_int(&v[SECONDS_BEHIND]);
    }
    return DR_OK;
}

static enum dr_code ask_slave(struct dr_sqldb *db, int64_t *lag_s, struct dr_err *err)
{
    const struct dr_sqldb_info *info = dr_sqldb_info(db);
    struct slave slave = {.skipped = info->is_mysql ? 0 : 2, .lag_s = -1};
    const char *sql = !info->is_mysql          ? "SHOW ALL SLAVES STATUS"
                      : info->version >= 80022 ? "SHOW REPLICA STATUS"
                                               : "SHOW SLAVE STATUS";
    enum dr_code rc = dr_sqldb_query(db, sql, NULL, 0, take_slave, &slave, err);
    *lag_s = slave.is_stopped ? -1 : slave.lag_s;
    return rc;
}

/* ---- PostgreSQL ---- */

static const char horizon_sql[] =
    "SELECT 'horizon', GREATEST((SELECT max(age(backend_xmin)) FROM pg_catalog.pg_stat_activity "
    "WHERE pid <> pg_backend_pid()), (SELECT max(age(transaction)) FROM "
    "pg_catalog.pg_prepared_xacts), (SELECT max(age(xmin)) FROM "
    "pg_catalog.pg_replication_slots), (SELECT max(age(catalog_xmin)) FROM "
    "pg_catalog.pg_replication_slots))::bigint";
static const char slots_sql[] =
    "SELECT slot_name::text, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN "
    "pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint FROM "
    "pg_catalog.pg_replication_slots WHERE restart_lsn IS NOT NULL";
static const char senders_sql[] =
    "SELECT COALESCE(NULLIF(application_name, ''), client_addr::text, 'standby'), "
    "COALESCE(EXTRACT(EPOCH FROM replay_lag), 0)::bigint FROM pg_catalog.pg_stat_replication";
static const char vacuum_sql[] =
    "SELECT 'vacuum', count(*) FROM pg_catalog.pg_stat_progress_vacuum p WHERE p.datname = "
    "current_database() AND (p.relid = to_regclass(?::text) OR p.relid IN (SELECT relid FROM "
    "pg_catalog.pg_partition_tree(to_regclass(?::text))))";
static const char waits_sql[] =
    "SELECT 'waits', count(*) FROM pg_catalog.pg_stat_activity WHERE wait_event_type = 'Lock' AND "
    "state_change < now() - interval '5 seconds'";

static enum dr_code read_vacuum(struct sa_store *s, struct sa_vitals *out, struct dr_err *err)
{
    struct reading r = {0};
    const char *schema = NULL;
    const char *name = NULL;
    if (s->last_table == NULL || (s->blind & SA_BRAKE_VACUUM) != 0) {
        return DR_OK;
    }
    struct dr_arena *a = dr_arena_create(256);
    enum dr_code rc =
        a == NULL ? dr_fail_nomem(err) : sa_split_name(s->last_table, a, &schema, &name, err);
    struct dr_str quoted;
    dr_str_init(&quoted);
    if (rc == DR_OK) {
        dr_sql_quote_name(&quoted, schema);
        dr_str_addc(&quoted, '.');
        dr_sql_quote_name(&quoted, name);
        struct dr_value param[2] = {sa_text(dr_str_text(&quoted)), sa_text(dr_str_text(&quoted))};
        rc = quoted.is_short ? dr_fail_nomem(err)
                             : dr_sqldb_query(s->db, vacuum_sql, param, 2, take_reading, &r, err);
    }
    if (rc == DR_DENIED) {
        s->blind |= SA_BRAKE_VACUUM;
        dr_err_clear(err);
        rc = DR_OK;
    }
    out->is_vacuuming = r.is_found && r.value > 0;
    dr_str_fini(&quoted);
    dr_arena_destroy(a);
    return rc;
}

static enum dr_code read_postgres(struct sa_store *s, struct sa_vitals *out, struct dr_err *err)
{
    struct reading r;
    int64_t is_read_only = 0;
    enum dr_code rc = sa_ask_number(s->db,
                                    "SELECT (pg_is_in_recovery() OR "
                                    "current_setting('default_transaction_read_only') = 'on')::int",
                                    NULL, NULL, &is_read_only, NULL, err);
    out->is_read_only = is_read_only != 0;
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_LAG, senders_sql, NULL, &r, err);
        out->lag_s = r.value;
        dr_copy_text(out->replica, sizeof out->replica, r.is_found ? r.name : "");
    }
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_SLOTS, slots_sql, NULL, &r, err);
        out->slot_bytes = r.value;
        dr_copy_text(out->slot, sizeof out->slot, r.is_found ? r.name : "");
    }
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_HORIZON, horizon_sql, NULL, &r, err);
        out->horizon_age = r.value;
    }
    if (rc == DR_OK) {
        rc = read_vital(s, SA_BRAKE_WAITS, waits_sql, NULL, &r, err);
        out->lock_waits = r.value;
    }
    return rc == DR_OK ? read_vacuum(s, out, err) : rc;
}

static enum dr_code ask_standby(struct dr_sqldb *db, int64_t *lag_s, struct dr_err *err)
{
    return sa_ask_number(
        db,
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN -1 WHEN pg_last_wal_receive_lsn() = "
        "pg_last_wal_replay_lsn() THEN 0 ELSE COALESCE(EXTRACT(EPOCH FROM now() - "
        "pg_last_xact_replay_timestamp()), 0)::bigint END",
        NULL, NULL, lag_s, NULL, err);
}

/* ---- replicas named in the URL ---- */

static void read_replica(struct sa_replica *r, struct sa_vitals *out)
{
    struct dr_err err = {0};
    int64_t lag_s = -1;
    enum dr_code rc = r->db == NULL ? dr_sqldb_open(r->url, &r->db, &err) : DR_OK;
    if (rc == DR_OK) {
        rc = dr_sqldb_info(r->db)->dialect == DR_SQL_POSTGRES ? ask_standby(r->db, &lag_s, &err)
                                                              : ask_slave(r->db, &lag_s, &err);
    }
    bool is_down = rc != DR_OK || lag_s < 0;
    if (is_down || (!out->is_replica_down && lag_s > out->lag_s)) {
        (void)dr_url_redact(r->url, out->replica, sizeof out->replica);
        out->is_replica_down = out->is_replica_down || is_down;
        out->lag_s = lag_s;
    }
}

enum dr_code sa_read_vitals(struct sa_store *s, struct sa_vitals *out, struct dr_err *err)
{
    *out = (struct sa_vitals){
        .lag_s = -1, .history = -1, .slot_bytes = -1, .horizon_age = -1, .lock_waits = -1};
    enum dr_code rc = s->is_pg ? read_postgres(s, out, err) : read_mariadb(s, out, err);
    for (uint32_t i = 0; rc == DR_OK && i < s->replica_count && !out->is_replica_down; i++) {
        read_replica(&s->replica[i], out);
    }
    return rc;
}

enum dr_code sa_health(void *impl, const char *node, struct dr_health *out, struct dr_err *err)
{
    struct sa_store *s = impl;
    struct sa_vitals vitals;
    *out = (struct dr_health){0};
    enum dr_code rc = sa_find_node(node, err);
    rc = rc == DR_OK ? sa_read_vitals(s, &vitals, err) : rc;
    if (rc == DR_OK) {
        sa_judge(&vitals, s, out);
    }
    return rc;
}

void sa_add_blind(const struct sa_store *s, struct dr_str *warning)
{
    static const struct {
        enum sa_brake brake;
        const char *text;
    } all[] = {
        {SA_BRAKE_LAG, "the lag of standbys cannot be read with this user's rights"},
        {SA_BRAKE_HISTORY, "InnoDB's history length cannot be read (grant PROCESS)"},
        {SA_BRAKE_SLOTS, "replication slots cannot be read (grant pg_monitor)"},
        {SA_BRAKE_VACUUM, "running vacuums cannot be read (grant pg_monitor)"},
        {SA_BRAKE_HORIZON, "the age of snapshots cannot be read (grant pg_monitor)"},
        {SA_BRAKE_WAITS, "waiting sessions cannot be read (grant PROCESS or pg_monitor)"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if ((s->blind & all[i].brake) != 0) {
            sa_warn(warning, all[i].text);
        }
    }
}
