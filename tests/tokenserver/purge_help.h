/* SPDX-License-Identifier: Apache-2.0 */
/* The stage of a purge: a real database with the token server's tables, storage nodes, a statsd
 * server, and what happened afterwards. Every test runs on both databases. */
#ifndef DR_TESTS_PURGE_HELP_H
#define DR_TESTS_PURGE_HELP_H

#include "sql/sql_help.h"
#include "tokenserver/node_help.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "obs/log.h"
#include "obs/statsd.h"
#include "tokenserver/purge.h"
#include "tokenserver/purge_private.h"

enum { WORLD_NODES = 10, DAY_S = 86400 };

static struct {
    struct sql_server server;
    struct dr_sqldb *db;
    bool is_postgres;
    int statsd_fd;
    uint16_t statsd_port;
    struct dr_str metrics; /* a line each */
    struct dr_log *log;
    FILE *log_file;
    int64_t now_ms;
    struct dr_tokenserver_options o;
    struct dr_purge_tuning tuning;
    struct dr_tokenserver_result result;
    struct dr_err err;
} w;

/* ---- the database ---- */

static DR_UNUSED void load_schema(void)
{
    char path[512], name[128];
    struct dr_err err = {0};
    (void)snprintf(name, sizeof name, "support/tokenserver_schema.%s.sql",
                   w.is_postgres ? "postgres" : "mysql");
    FILE *f = fopen(beside_tests(name, path, sizeof path), "r");
    assert_non_null(f);
    struct dr_str statement;
    dr_str_init(&statement);
    char line[512];
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "--", 2) == 0) {
            continue;
        }
        char *end = strstr(line, ";\n");
        if (end != NULL) {
            *end = '\0';
        }
        dr_str_add(&statement, line);
        if (end != NULL) {
            sql_must(dr_sqldb_exec(w.db, statement.data, NULL, 0, NULL, &err), &err);
            dr_str_clear(&statement);
        }
    }
    dr_str_fini(&statement);
    (void)fclose(f);
}

static DR_UNUSED void do_sql(const char *format, ...)
{
    char sql[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    sql_do(w.db, sql);
}

static DR_UNUSED int64_t number_of(const char *format, ...)
{
    char sql[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return sql_number(w.db, sql);
}

static DR_UNUSED void add_node_row(int i, bool is_downed)
{
    do_sql("INSERT INTO nodes (id, service, node, available, current_load, capacity, downed,"
           " backoff) VALUES (%d, 7, 'http://127.0.0.1:%d', 0, 0, 0, %s, 0)",
           i + 1, nodes.ports[i], is_downed ? "true" : "false");
}

/* uids [from, upto) on node i, replaced `age_s` ago. */
static DR_UNUSED void add_users(int i, int from, int upto, int64_t age_s)
{
    struct dr_str s;
    dr_str_init(&s);
    dr_str_add(&s, "INSERT INTO users (uid, service, email, generation, client_state, created_at,"
                   " replaced_at, nodeid, keys_changed_at) VALUES ");
    for (int uid = from; uid < upto; uid++) {
        dr_str_addf(&s, "%s(%d, 7, 'user%d@x', 5, 'aabb', 1000, %" PRId64 ", %d, NULL)",
                    uid == from ? "" : ", ", uid, uid, w.now_ms - age_s * 1000, i + 1);
    }
    sql_do(w.db, s.data);
    dr_str_fini(&s);
    if (i < nodes.count) {
        tell_node(i, "{\"data_range\": [%d, %d]}", from, upto);
    }
}

static DR_UNUSED long long users_left(void)
{
    return number_of("SELECT COUNT(*) FROM users");
}

/* ---- metrics ---- */

static DR_UNUSED void open_statsd(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof a;
    const int room = 4 * 1024 * 1024;
    w.statsd_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)setsockopt(w.statsd_fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    assert_int_equal(bind(w.statsd_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(w.statsd_fd, (struct sockaddr *)&a, &bytes), 0);
    w.statsd_port = ntohs(a.sin_port);
    dr_str_init(&w.metrics);
}

static DR_UNUSED void drain_metrics(void)
{
    char buf[1024];
    ssize_t n = 0;
    while ((n = recv(w.statsd_fd, buf, sizeof buf, 0)) > 0) {
        dr_str_addn(&w.metrics, buf, (size_t)n);
        dr_str_addc(&w.metrics, '\n');
    }
}

/* The sum of a counter, given as "delete_user" and "|#type:not_down" ("" is without tags). */
static DR_UNUSED long long counted(const char *name, const char *tags)
{
    char start[128], end[128];
    long long sum = 0;
    drain_metrics();
    (void)snprintf(start, sizeof start, "tokenserver.%s:", name);
    (void)snprintf(end, sizeof end, "|c%s\n", tags);
    for (const char *line = dr_str_text(&w.metrics); *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strncmp(line, start, strlen(start)) == 0) {
            char *rest = NULL;
            long long n = strtoll(line + strlen(start), &rest, 10);
            sum += strncmp(rest, end, strlen(end)) == 0 ? n : 0;
        }
    }
    return sum;
}

static DR_UNUSED bool has_metric(const char *line)
{
    drain_metrics();
    return strstr(dr_str_text(&w.metrics), line) != NULL;
}

/* ---- runs ---- */

static DR_UNUSED struct dr_tokenserver *make_purger(struct dr_statsd **statsd)
{
    struct dr_tokenserver *t = NULL;
    sql_must(dr_statsd_create("127.0.0.1", w.statsd_port, "tokenserver", statsd, &w.err), &w.err);
    sql_must(dr_tokenserver_create(&w.o, w.log, *statsd, &t, &w.err), &w.err);
    dr_purge_tune(t, &w.tuning);
    return t;
}

/* One run of a new purger. */
static DR_UNUSED enum dr_code purge(void)
{
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    enum dr_code rc = dr_tokenserver_run_once(t, NULL, NULL, &w.result, &w.err);
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
    return rc;
}

static DR_UNUSED void purge_ok(void)
{
    enum dr_code rc = purge();
    if (rc != DR_OK) {
        fail_msg("%s: %s", dr_code_name(rc), w.err.msg);
    }
}

static DR_UNUSED long long all_requests(void)
{
    long long sum = 0;
    for (int i = 0; i < nodes.count; i++) {
        sum += node_number(i, "requests");
    }
    return sum;
}

/* ---- the stage ---- */

static DR_UNUSED void open_stage(const char *kind)
{
    const struct dr_log_config config = {.level = DR_LOG_DEBUG};
    w.is_postgres = strcmp(kind, "postgres") == 0;
    sql_start(&w.server, kind);
    w.db = sql_open(w.server.url);
    load_schema();
    start_nodes(WORLD_NODES);
    open_statsd();
    w.log_file = tmpfile();
    assert_non_null(w.log_file);
    struct dr_log_config with_file = config;
    with_file.fd = fileno(w.log_file);
    sql_must(dr_log_create(&with_file, &w.log, &w.err), &w.err);
}

static DR_UNUSED void close_stage(void)
{
    dr_log_destroy(w.log);
    (void)fclose(w.log_file);
    (void)close(w.statsd_fd);
    dr_str_fini(&w.metrics);
    dr_sqldb_close(w.db);
    stop_nodes();
    sql_stop(&w.server);
}

static DR_UNUSED int clear_stage(void **state)
{
    (void)state;
    do_sql("DELETE FROM users");
    do_sql("DELETE FROM nodes");
    reset_nodes();
    drain_metrics();
    dr_str_clear(&w.metrics);
    dr_err_clear(&w.err);
    w.now_ms = dr_wall_now();
    dr_tokenserver_options_default(&w.o);
    w.o.database_url = w.server.url;
    w.o.secret = NODE_SECRET;
    w.o.request_timeout_s = 20;
    w.tuning = (struct dr_purge_tuning){
        .retry = {.first_ms = 4, .max_ms = 40},
        .tries_max = 5,
        .breaker_ms = 200,
        .pause_ms_max = 3000,
        .erase_rows_max = 64,
        .erase_wait_ms = 5,
    };
    return 0;
}

#endif
