/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/manticore against three nodes: what is so already is done, what is not is
 * never taken for it, no last good copy goes, and no acknowledged row is lost while a shard moves.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "manticore/manticore_help.h"

#define SHARD "system.users_s0"
#define COLUMNS "id bigint, name string"
#define WRAPPER "CREATE TABLE `users` (" COLUMNS ") type='shard' "
#define RETRY "[retry_count=2,ha_strategy=noerrors]"

/* A shard in its cluster on nodes 0 and 1, with a wrapper on each. */
static void make_pair(struct nodes *n)
{
    MUST(n, 0, "CREATE CLUSTER users_s0 'users_s0' as path");
    MUST(n, 1, "JOIN CLUSTER users_s0 AT '%s' 'users_s0' as path", n->binary[0]);
    MUST(n, 0, "CREATE TABLE IF NOT EXISTS " SHARD " (" COLUMNS ")");
    MUST(n, 0, "ALTER CLUSTER users_s0 ADD " SHARD);
    for (int k = 0; k < 2; k++) {
        MUST(n, k, WRAPPER "agent='%s:" SHARD "|%s:" SHARD RETRY "'", n->binary[0], n->binary[1]);
    }
}

static void wait_status(struct nodes *n, int k, const char *status)
{
    dr_mono_ms end = dr_mono_now() + 10000;
    for (;;) {
        json_t *j = facts_of(n, k);
        const char *now = json_string_value(
            json_object_get(json_object_get(json_object_get(j, "clusters"), "users_s0"), "status"));
        bool is_so = now != NULL && strcmp(now, status) == 0;
        json_decref(j);
        if (is_so) {
            return;
        }
        assert_true(dr_mono_now() < end);
        (void)dr_wait_ms(20, NULL, NULL);
    }
}

static void only_its_own_vocabulary_is_sent(void **state)
{
    struct nodes *n = *state;
    static const char *const refused[] = {
        "INSERT INTO users (id) VALUES (1)", "SELECT 1",         "TRUNCATE TABLE x", "SHOW STATUS",
        "{\"manticore\":\"format-disk\"}",   "CREATE FUNCTION f"};
    static const char *const wrong[] = {
        "",
        "CREATE TABLE t (id bigint); DROP TABLE u",
        "CREATE TABLE t (id bigint",
        "CREATE TABLE other.t (id bigint)",
        "DROP TABLE",
        "DROP TABLE a, b",
        "CREATE CLUSTER c '../../etc' as path",
        "CREATE CLUSTER IF NOT EXISTS c",
        "JOIN CLUSTER c",
        "ALTER CLUSTER c ADD",
        "ALTER CLUSTER c ADD t; DROP TABLE t",
        "SET CLUSTER c GLOBAL 'other' = 1",
        "DROP TABLE t OPTION force=2",
        "CREATE TABLE t (id bigint) type='shard'",
        "{\"manticore\":\"wait-synced\",\"cluster\":\"c\"}",
        "{\"manticore\":\"drop-shard\",\"table\":\"x; DROP TABLE y\"}",
        "{\"manticore\":\"publish\",\"create\":\"DROP TABLE t\"}",
        "{\"manticore\":\"leave\",\"cluster\":\"c\",\"table\":\"t\",\"typo\":1}"};
    struct dr_err e;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(dr_store_command(n->store[0], "n", refused[i], &e), DR_REFUSED);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        enum dr_code rc = dr_store_command(n->store[0], "n", wrong[i], &e);
        if (rc != DR_INPUT) {
            fail_msg("\"%s\" gives %s", wrong[i], dr_code_name(rc));
        }
    }
    /* A mistake in the second of two commands keeps the first from being run. */
    FAILS(DR_REFUSED, "none of the commands", n, 0, "CREATE TABLE %s (%s)\nGRANT ALL", SHARD,
          COLUMNS);
    assert_int_equal(count_of(n, 0, SHARD), -1);
}

static void everything_can_be_repeated(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    make_pair(n);
    must_sql(n, 1, "INSERT INTO users (id, name) VALUES (1, 'a')");
    assert_int_equal(count_of(n, 0, SHARD), 1);
    FAILS(DR_EXISTS, "other columns", n, 0, "CREATE TABLE " SHARD " (id bigint, age int)");
    FAILS(DR_EXISTS, "other columns or parts", n, 0, WRAPPER "local='" SHARD "'");
    MUST(n, 0, "ALTER CLUSTER users_s0 UPDATE nodes");
    MUST(n, 0, "SET CLUSTER users_s0 GLOBAL 'pc.bootstrap' = 1");
    MUST(n, 0, "{\"manticore\":\"wait-synced\",\"cluster\":\"users_s0\",\"size\":2}");
    MUST(n, 0, "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
    for (int again = 0; again < 2; again++) {
        MUST(n, 0, "DROP TABLE IF EXISTS users OPTION force=1");
        MUST(n, 1, "{\"manticore\":\"withdraw\",\"table\":\"users\"}");
        MUST(n, 0, "ALTER CLUSTER users_s0 DROP " SHARD);
        MUST(n, 1, "EXIT CLUSTER users_s0");
        MUST(n, 1, "DROP TABLE IF EXISTS " SHARD);
        MUST(n, 0, "DELETE CLUSTER users_s0");
        MUST(n, 0, "DROP TABLE " SHARD);
    }
    json_t *j = facts_of(n, 0);
    assert_int_equal(json_object_size(json_object_get(j, "clusters")), 0);
    assert_int_equal(json_array_size(json_object_get(j, "system_tables")), 0);
    json_decref(j);
    if (!n->is_real) {
        char path[MT_TEXT + 16];
        (void)snprintf(path, sizeof path, "%s/users_s0", n->data[0]);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

/* Each statement of a creation and its undoing loses its reply before and after it was done. */
static void a_lost_reply_is_unknown_and_the_repetition_settles_it(void **state)
{
    struct nodes *n = *state;
    static const struct {
        int node;
        const char *match, *text;
    } step[] = {
        {0, "^CREATE.CLUSTER", "CREATE CLUSTER users_s0 'users_s0' as path"},
        {1, "^JOIN", "JOIN CLUSTER users_s0 AT '%s' 'users_s0' as path"},
        {0, "^CREATE.TABLE", "CREATE TABLE IF NOT EXISTS " SHARD " (" COLUMNS ")"},
        {0, "^ALTER", "ALTER CLUSTER users_s0 ADD " SHARD},
        {1, "^CREATE.TABLE", WRAPPER "agent='%s:" SHARD "'"},
        {1, "^DROP", "{\"manticore\":\"withdraw\",\"table\":\"users\",\"only_empty\":true}"},
        {0, "^ALTER", "ALTER CLUSTER users_s0 DROP " SHARD},
        {0, "^DROP", "{\"manticore\":\"drop-shard\",\"table\":\"" SHARD "\",\"only_empty\":true}"},
        {1, "^EXIT",
         "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD
         "\",\"only_empty\":true}"},
        {0, "^DELETE", "DELETE CLUSTER users_s0"},
    };
    if (n->is_real) {
        skip();
    }
    for (int after = 0; after < 2; after++) {
        for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
            nodes_hook(n, step[i].node, after ? "drop_after" : "drop_before", step[i].match);
            FAILS(DR_UNKNOWN, "may have been done", n, step[i].node, step[i].text, n->binary[0]);
            MUST(n, step[i].node, step[i].text, n->binary[0]);
        }
    }
}

static void an_error_is_never_taken_for_already_so(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    if (n->is_real) {
        skip();
    }
    nodes_hook(n, 0, "fail", "^ALTER");
    FAILS(DR_INPUT, "on demand", n, 0, "ALTER CLUSTER users_s0 DROP " SHARD);
    FAILS(DR_CONFLICT, "in cluster users_s0", n, 0,
          "{\"manticore\":\"drop-shard\",\"table\":\"" SHARD "\"}");
    FAILS(DR_CONFLICT, "unable to drop a cluster table", n, 0, "DROP TABLE IF EXISTS " SHARD);
    FAILS(DR_NOT_FOUND, "no cluster other", n, 0, "ALTER CLUSTER other ADD " SHARD);
    MUST(n, 2, "CREATE TABLE system.users_s1 (" COLUMNS ")");
    FAILS(DR_BUSY, "donor", n, 2, "JOIN CLUSTER nowhere AT '%s' 'nowhere' as path", n->binary[0]);
    FAILS(DR_REFUSED, "rows of its own", n, 2,
          "{\"manticore\":\"withdraw\",\"table\":\"system.users_s1\"}");
}

static void no_last_good_copy_goes(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    must_sql(n, 0, "INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b')");
    FAILS(DR_INPUT, "needs \"node\"", n, 1,
          "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD "\"}");
    /* Node 2 has no copy: node 1 must not leave for its sake. */
    FAILS(DR_NOT_FOUND, "unknown local table", n, 1,
          "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD
          "\",\"node\":\"%s\"}",
          n->sql[2]);
    FAILS(DR_REFUSED, "rows already", n, 0,
          "{\"manticore\":\"withdraw\",\"table\":\"users\",\"only_empty\":true}");
    for (int again = 0; again < 2; again++) {
        MUST(n, 1,
             "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD
             "\",\"node\":\"%s\"}",
             n->sql[0]);
    }
    assert_int_equal(count_of(n, 1, SHARD), -1);
    assert_int_equal(count_of(n, 0, SHARD), 2);
    /* Outside of a cluster: a copy elsewhere that is empty, or not in the cluster, is none. */
    MUST(n, 1, "CREATE TABLE " SHARD " (" COLUMNS ")");
    FAILS(DR_REFUSED, "has none", n, 0,
          "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD
          "\",\"node\":\"%s\"}",
          n->sql[1]);
    must_sql(n, 1, "INSERT INTO " SHARD " (id, name) VALUES (1, 'a'), (2, 'x')");
    FAILS(DR_REFUSED, "primary and synced", n, 0,
          "{\"manticore\":\"leave\",\"cluster\":\"users_s0\",\"table\":\"" SHARD
          "\",\"node\":\"%s\"}",
          n->sql[1]);
    FAILS(DR_CONFLICT, "other contents", n, 0,
          "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
}

/* --- moves under writers --- */
struct writer {
    struct nodes *n;
    int node;
    atomic_bool is_over;
    long first;
    long acknowledged[20000];
    size_t count;
    size_t errors;
};

static void *write_rows(void *arg)
{
    struct writer *w = arg;
    MYSQL *m = NULL;
    for (long id = w->first; !atomic_load(&w->is_over) && w->count < 20000; id++) {
        char sql[128];
        m = m == NULL ? plain_open(w->n->sql[w->node]) : m;
        (void)snprintf(sql, sizeof sql, "REPLACE INTO users (id, name) VALUES (%ld, 'w')", id);
        if (m != NULL && plain_do(m, sql)) {
            w->acknowledged[w->count++] = id;
        } else {
            w->errors++;
            if (m != NULL && mysql_errno(m) >= 2000) {
                mysql_close(m);
                m = NULL;
            }
            (void)dr_wait_ms(1, NULL, NULL);
        }
    }
    if (m != NULL) {
        mysql_close(m);
    }
    mysql_thread_end();
    return NULL;
}

static void expect_rows(struct nodes *n, int node, const struct writer *w)
{
    MYSQL *m = plain_open(n->sql[node]);
    assert_non_null(m);
    for (size_t i = 0; i < w->count; i++) {
        char sql[128];
        (void)snprintf(sql, sizeof sql, "SELECT id FROM " SHARD " WHERE id = %ld",
                       w->acknowledged[i]);
        assert_int_equal(mysql_query(m, sql), 0);
        MYSQL_RES *r = mysql_store_result(m);
        assert_non_null(r);
        if (mysql_num_rows(r) != 1) {
            fail_msg("acknowledged row %ld is lost", w->acknowledged[i]);
        }
        mysql_free_result(r);
    }
    mysql_close(m);
}

static void publish(struct nodes *n, const char *parts)
{
    for (int k = 0; k < 2; k++) {
        MUST(n, k,
             "{\"manticore\":\"publish\",\"create\":\"" WRAPPER
             "%s\"}\n{\"manticore\":\"wait-unused\",\"table\":\"users\"}",
             parts);
    }
}

/* The queue repeats what is busy. */
static void until_done(struct nodes *n, int k, const char *text)
{
    struct dr_err e = {0};
    enum dr_code rc = DR_BUSY;
    for (int i = 0; rc == DR_BUSY && i < 100; i++) {
        rc = give(n, k, &e, "%s", text);
    }
    if (rc != DR_OK) {
        fail_msg("%s", e.msg);
    }
}

static void same(struct nodes *n, int a, int b)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}",
                   n->sql[b]);
    until_done(n, a, text);
}

/* rf 1: node 0 -> node 1; forwards, or up to the point of no return and back again. */
static void move_single(struct nodes *n, bool is_back)
{
    struct writer *w = calloc(2, sizeof *w);
    pthread_t thread[2];
    char here[512], there[512];
    assert_non_null(w);
    (void)snprintf(here, sizeof here, "agent='%s:" SHARD "'", n->binary[0]);
    (void)snprintf(there, sizeof there, "agent='%s:" SHARD "'", n->binary[1]);
    MUST(n, 0, "CREATE TABLE " SHARD " (" COLUMNS ")");
    publish(n, here);
    for (int i = 0; i < 2; i++) {
        w[i].n = n;
        w[i].node = i;
        w[i].first = 1 + 1000000 * i;
        assert_int_equal(pthread_create(&thread[i], NULL, write_rows, &w[i]), 0);
    }
    MUST(n, 0, "CREATE CLUSTER x 'x' as path");
    MUST(n, 0, "ALTER CLUSTER x ADD " SHARD);
    MUST(n, 1, "JOIN CLUSTER x AT '%s' 'x' as path", n->binary[0]);
    MUST(n, 1, "{\"manticore\":\"wait-synced\",\"cluster\":\"x\",\"size\":2}");
    same(n, 1, 0);
    publish(n, there);
    same(n, 0, 1);
    if (is_back) {
        publish(n, here);
    }
    int from = is_back ? 1 : 0;
    MUST(n, from,
         "{\"manticore\":\"leave\",\"cluster\":\"x\",\"table\":\"" SHARD "\",\"node\":\"%s\"}",
         n->sql[1 - from]);
    MUST(n, 1 - from, "DELETE CLUSTER x");
    for (int i = 0; i < 2; i++) {
        atomic_store(&w[i].is_over, true);
        (void)pthread_join(thread[i], NULL);
        assert_true(w[i].count > 0);
        expect_rows(n, 1 - from, &w[i]);
    }
    assert_int_equal(count_of(n, 1 - from, SHARD), (long)(w[0].count + w[1].count));
    assert_int_equal(count_of(n, from, SHARD), -1);
    assert_int_equal(count_of(n, from, "users"), (long)(w[0].count + w[1].count));
    free(w);
}

static void a_single_copy_moves_while_rows_are_written(void **state)
{
    move_single(*state, false);
}

static void a_move_goes_back_while_rows_are_written(void **state)
{
    move_single(*state, true);
}

/* Node 0 of two dies; the survivor goes on, node 2 joins, and node 0 is cleaned when it is back. */
static void a_dead_node_is_replaced_and_cleaned_later(void **state)
{
    struct nodes *n = *state;
    struct dr_health health;
    struct dr_err e;
    make_pair(n);
    if (n->is_real) {
        skip();
    }
    must_sql(n, 1, "INSERT INTO users (id, name) VALUES (1, 'a')");
    nodes_tell(n, "crash", 0, "");
    FAILS(DR_UNREACHABLE, "connect", n, 0, "DELETE CLUSTER users_s0");
    char heal[512];
    (void)snprintf(heal, sizeof heal,
                   "SET CLUSTER users_s0 GLOBAL 'pc.bootstrap' = 1\n{\"manticore\":\"wait-synced\","
                   "\"cluster\":\"users_s0\",\"size\":1,\"without\":\"%s\"}",
                   n->binary[0]);
    until_done(n, 1, heal);
    assert_int_equal(dr_store_health(n->store[1], n->sql[1], &health, &e), DR_OK);
    assert_true(health.is_ok);
    MUST(n, 2, "JOIN CLUSTER users_s0 AT '%s' 'users_s0' as path", n->binary[1]);
    same(n, 2, 1);
    MUST(n, 1, "ALTER CLUSTER users_s0 UPDATE nodes");
    nodes_tell(n, "again", 0, "");
    wait_status(n, 0, "primary");
    char clean[512];
    (void)snprintf(clean, sizeof clean,
                   "{\"manticore\":\"withdraw\",\"table\":\"users\"}\n{\"manticore\":\"leave\","
                   "\"cluster\":\"users_s0\",\"table\":\"" SHARD "\",\"node\":\"%s\"}",
                   n->sql[1]);
    until_done(n, 0, clean);
    assert_int_equal(count_of(n, 0, SHARD), -1);
    assert_int_equal(count_of(n, 1, SHARD), 1);
    assert_int_equal(count_of(n, 2, SHARD), 1);
}

static void a_cluster_deleted_meanwhile_is_left_all_the_same(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    if (n->is_real) {
        skip();
    }
    MUST(n, 2, "JOIN CLUSTER users_s0 AT '%s' 'users_s0' as path", n->binary[0]);
    nodes_tell(n, "crash", 2, "");
    until_done(n, 0, "ALTER CLUSTER users_s0 UPDATE nodes");
    MUST(n, 0, "DELETE CLUSTER users_s0");
    nodes_tell(n, "again", 2, "");
    wait_status(n, 2, "recovery-required");
    FAILS(DR_CONFLICT, "run DELETE CLUSTER", n, 2, "CREATE CLUSTER users_s0 'users_s0' as path");
    MUST(n, 2, "EXIT CLUSTER users_s0");
    MUST(n, 2, "DROP TABLE " SHARD);
}

static void *write_slowly(void *arg)
{
    struct nodes *n = arg;
    must_sql(n, 0, "INSERT INTO users (id, name) VALUES (7, 'slow')");
    mysql_thread_end();
    return NULL;
}

static void statements_on_the_old_wrapper_are_waited_for(void **state)
{
    struct nodes *n = *state;
    pthread_t thread;
    make_pair(n);
    if (n->is_real) {
        skip();
    }
    MUST(n, 0, "{\"manticore\":\"wait-unused\",\"table\":\"users\"}");
    nodes_hook(n, 0, "delay=3500", "^INSERT");
    assert_int_equal(pthread_create(&thread, NULL, write_slowly, n), 0);
    dr_mono_ms start = dr_mono_now();
    (void)dr_wait_ms(300, NULL, NULL);
    FAILS(DR_BUSY, "1 statements on the former users", n, 0,
          "{\"manticore\":\"wait-unused\",\"table\":\"users\"}");
    /* Another table's name is not this one's, though it begins alike. */
    MUST(n, 0, "{\"manticore\":\"wait-unused\",\"table\":\"user\"}");
    until_done(n, 0, "{\"manticore\":\"wait-unused\",\"table\":\"users\"}");
    assert_true(dr_mono_now() - start > 3000);
    (void)pthread_join(thread, NULL);
    assert_int_equal(count_of(n, 1, SHARD), 1);
}

static void pages_of_rows_are_all_compared(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    for (int page = 0; page < 3; page++) {
        struct dr_str sql;
        dr_str_init(&sql);
        dr_str_add(&sql, "INSERT INTO users_s0:" SHARD " (id, name) VALUES ");
        for (int i = 1; i <= 1000; i++) {
            dr_str_addf(&sql, "%s(%d,'r')", i > 1 ? "," : "", page * 1000 + i);
        }
        must_sql(n, 0, dr_str_text(&sql));
        dr_str_fini(&sql);
    }
    same(n, 0, 1);
    MUST(n, 0, "DELETE CLUSTER users_s0");
    same(n, 0, 1);
    must_sql(n, 1, "UPDATE " SHARD " SET name = 'x' WHERE id = 3000");
    FAILS(DR_CONFLICT, "other contents", n, 0,
          "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
    must_sql(n, 1, "DELETE FROM " SHARD " WHERE id = 2500");
    FAILS(DR_CONFLICT, "3000 rows", n, 0,
          "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
}

static void *bring_row(void *arg)
{
    (void)dr_wait_ms(500, NULL, NULL);
    must_sql(arg, 1, "INSERT INTO " SHARD " (id, name) VALUES (7, 'a')");
    mysql_thread_end();
    return NULL;
}

/* Replication is not at once: what the other copy has a moment later is no difference. */
static void a_row_on_its_way_is_no_difference(void **state)
{
    struct nodes *n = *state;
    pthread_t thread;
    make_pair(n);
    MUST(n, 0, "DELETE CLUSTER users_s0");
    must_sql(n, 0, "INSERT INTO " SHARD " (id, name) VALUES (7, 'a')");
    assert_int_equal(pthread_create(&thread, NULL, bring_row, n), 0);
    MUST(n, 0, "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
    (void)pthread_join(thread, NULL);
    must_sql(n, 1, "INSERT INTO " SHARD " (id, name) VALUES (8, 'b')");
    FAILS(DR_CONFLICT, "row 8 is missing on the first", n, 0,
          "{\"manticore\":\"same-count\",\"table\":\"" SHARD "\",\"node\":\"%s\"}", n->sql[1]);
}

static void the_survey_tells_what_a_plan_needs(void **state)
{
    struct nodes *n = *state;
    make_pair(n);
    must_sql(n, 0, "INSERT INTO users (id, name) VALUES (1, 'a')");
    json_t *j = facts_of(n, 1);
    const json_t *c = json_object_get(json_object_get(j, "clusters"), "users_s0");
    assert_string_equal(json_string_value(json_object_get(c, "status")), "primary");
    assert_string_equal(json_string_value(json_object_get(c, "node_state")), "synced");
    assert_int_equal(json_integer_value(json_object_get(c, "size")), 2);
    assert_int_equal(json_array_size(json_object_get(c, "nodes_view")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(c, "tables"), 0)), SHARD);
    assert_string_equal(json_string_value(json_object_get(j, "binary")), n->binary[1]);
    assert_string_equal(json_string_value(json_object_get(j, "data_dir")), n->data[1]);
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "tables"), 0)),
                        "users");
    const json_t *shard = json_array_get(json_object_get(j, "shards"), 0);
    assert_string_equal(json_string_value(json_object_get(shard, "name")), "users_s0");
    assert_int_equal(json_integer_value(json_object_get(shard, "rows")), 1);
    json_decref(j);
}

static void a_check_changes_nothing_and_tells_what_is_missing(void **state)
{
    struct nodes *n = *state;
    struct dr_err e;
    struct dr_store *s = n->store[0];
    assert_int_equal(dr_store_check(s, "n", "DELETE CLUSTER c", true, &e), DR_OK);
    assert_int_equal(dr_store_check(s, "n", "ALTER CLUSTER c ADD t", false, &e), DR_OK);
    assert_int_equal(dr_store_check(s, "n", "ALTER CLUSTER c ADD t", true, &e), DR_NOT_FOUND);
    assert_int_equal(dr_store_check(s, "n", "DROP TABEL t", true, &e), DR_REFUSED);
    assert_int_equal(dr_store_check(s, "n", "CREATE TABLE " SHARD " (id bigint)", true, &e), DR_OK);
    assert_int_equal(count_of(n, 0, SHARD), -1);
    if (!n->is_real) {
        nodes_tell(n, "crash", 0, "");
        assert_int_equal(dr_store_check(s, "n", "DELETE CLUSTER c", true, &e), DR_UNREACHABLE);
        assert_int_equal(dr_store_check(s, "n", "DELETE CLUSTER c", false, &e), DR_OK);
    }
}

static void urls_are_taken_apart(void **state)
{
    struct nodes *n = *state;
    struct dr_store *s = NULL;
    struct dr_err e;
    char url[512];
    static const char *const bad[] = {
        "manticore:host",         "manticore://",           "manticore://h:99999",
        "manticore://h/database", "manticore://h?colour=1", "manticore://h?binary",
        "manticore://%zz@h",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(dr_store_open(bad[i], &s, &e), DR_INPUT);
        assert_null(s);
    }
    (void)snprintf(url, sizeof url, "manticore://ann:s%%40crt@%s?binary=other:1&read_timeout=9",
                   n->sql[0]);
    assert_int_equal(dr_store_open(url, &s, &e), DR_OK);
    assert_null(strstr(dr_store_url(s), "crt"));
    struct dr_survey *survey = NULL;
    assert_int_equal(dr_store_survey_spec(s, "{}", &survey, &e), DR_OK);
    assert_non_null(strstr(survey->extra, "\"binary\":\"other:1\""));
    dr_survey_destroy(survey);
    dr_store_close(s);
    assert_int_equal(dr_store_open("manticore://127.0.0.1:1", &s, &e), DR_UNREACHABLE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, nodes_start, nodes_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_its_own_vocabulary_is_sent),
        TEST(everything_can_be_repeated),
        TEST(a_lost_reply_is_unknown_and_the_repetition_settles_it),
        TEST(an_error_is_never_taken_for_already_so),
        TEST(no_last_good_copy_goes),
        TEST(a_single_copy_moves_while_rows_are_written),
        TEST(a_move_goes_back_while_rows_are_written),
        TEST(a_dead_node_is_replaced_and_cleaned_later),
        TEST(a_cluster_deleted_meanwhile_is_left_all_the_same),
        TEST(statements_on_the_old_wrapper_are_waited_for),
        TEST(pages_of_rows_are_all_compared),
        TEST(a_row_on_its_way_is_no_difference),
        TEST(the_survey_tells_what_a_plan_needs),
        TEST(a_check_changes_nothing_and_tells_what_is_missing),
        TEST(urls_are_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
