/* SPDX-License-Identifier: Apache-2.0 */
/* What a purge takes and what it leaves, on both databases: each test is named for one promise. */
#include "tokenserver/purge_help.h"

static void replaced_rows_go_with_their_data_and_others_stay(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_node_row(1, false);
    add_users(0, 1, 31, 2 * DAY_S);
    add_users(1, 31, 61, 2 * DAY_S);
    add_users(0, 61, 65, DAY_S / 2);                             /* within the grace period */
    do_sql("UPDATE users SET replaced_at = NULL WHERE uid = 5"); /* in use */
    do_sql("UPDATE users SET service = 3 WHERE uid = 6");        /* another service's */
    tell_node(0, "{\"data_range\": [1, 31]}");
    purge_ok();
    assert_int_equal(w.result.backlog, 58);
    assert_int_equal(w.result.fetched, 58);
    assert_int_equal(w.result.purged, 58);
    assert_int_equal(w.result.failed, 0);
    assert_int_equal(users_left(), 6);
    assert_int_equal(number_of("SELECT COUNT(*) FROM users WHERE uid IN (5, 6, 61, 62, 63, 64)"),
                     6);
    assert_int_equal(node_number(0, "deleted"), 28);
    assert_int_equal(node_number(1, "deleted"), 30);
    assert_int_equal(node_number(0, "data"), 6);
    assert_int_equal(node_number(0, "refusals"), 0);
    assert_true(node_number(0, "connections") <= 4); /* kept alive, and no more than its share */
    assert_true(node_number(0, "open_max") <= 4);
    assert_int_equal(counted("delete_user", "|#type:not_down"), 58);
    assert_int_equal(counted("purge.batch.fetched", ""), 58);
    assert_int_equal(counted("purge.run.success", ""), 1);
    assert_true(has_metric("tokenserver.purge.backlog.size:58|g\n"));
    assert_true(has_metric("tokenserver.purge.run.duration_ms:"));
    assert_false(has_metric("failure"));
}

static void request_names_the_user_as_the_reference_does(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 7, 8, 2 * DAY_S);
    do_sql("UPDATE users SET email = 'Some.One+x@mail.example', keys_changed_at = 450,"
           " client_state = 'bb' WHERE uid = 7");
    purge_ok();
    json_t *report = ask_node(0);
    const json_t *p = json_array_get(json_object_get(report, "payloads"), 0);
    assert_string_equal(json_string_value(json_object_get(p, "fxa_uid")), "Some.One+x");
    assert_string_equal(json_string_value(json_object_get(p, "fxa_kid")), "0000000000450-uw");
    assert_int_equal(json_integer_value(json_object_get(p, "uid")), 7);
    assert_false(json_is_true(json_object_get(report, "is_nonce_repeated")));
    json_decref(report);
}

static void nodeless_records_go_without_a_request_and_uncounted(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 100, 102, 2 * DAY_S);
    add_users(14, 1, 200 - 100, 3 * DAY_S); /* a node that is no more; these come first */
    do_sql("UPDATE users SET nodeid = NULL WHERE uid < 4");
    w.o.max_records = 2;
    w.tuning.erase_rows_max = 16;
    purge_ok();
    assert_int_equal(w.result.nodeless, 99);
    assert_int_equal(w.result.purged, 2);
    assert_true(w.result.is_limit_reached);
    assert_int_equal(users_left(), 0);
    assert_int_equal(all_requests(), 2);
    assert_int_equal(counted("delete_user", "|#type:nodeless"), 99);
    assert_int_equal(counted("delete_user", "|#type:not_down"), 2);
}

static void downed_nodes_are_skipped_by_the_query(void **state)
{
    (void)state;
    add_node_row(0, true);
    add_node_row(1, false);
    add_users(0, 1, 31, 3 * DAY_S);
    add_users(1, 31, 33, 2 * DAY_S);
    purge_ok();
    assert_int_equal(w.result.fetched, 2);
    assert_int_equal(w.result.skipped_downed, 30);
    assert_int_equal(w.result.backlog, 32);
    assert_int_equal(w.result.purged, 2);
    assert_int_equal(users_left(), 30);
    assert_int_equal(node_number(0, "requests"), 0);
}

static void force_deletes_on_downed_nodes(void **state)
{
    (void)state;
    add_node_row(0, true);
    add_users(0, 1, 26, 2 * DAY_S);
    w.o.is_forced = true;
    purge_ok();
    assert_int_equal(w.result.purged, 25);
    assert_int_equal(w.result.skipped_downed, 0);
    assert_int_equal(users_left(), 0);
    assert_int_equal(node_number(0, "deleted"), 25);
    assert_int_equal(counted("delete_data", "|#type:force"), 25);
    assert_int_equal(counted("delete_user", "|#type:not_down"), 0);
}

/* The record in use of the email that uid had: with this key id. */
static void add_active(int uid, const char *email, int64_t generation, int64_t created_at,
                       int64_t keys_changed_at, const char *client_state)
{
    do_sql("INSERT INTO users (uid, service, email, generation, client_state, created_at,"
           " replaced_at, nodeid, keys_changed_at) VALUES (%d, 7, '%s', %" PRId64 ", '%s', %" PRId64
           ", NULL, 2, %" PRId64 ")",
           uid, email, generation, client_state, created_at, keys_changed_at);
}

static void override_node_is_asked_and_active_data_is_spared(void **state)
{
    (void)state;
    add_node_row(0, true);
    add_users(0, 1, 4, 2 * DAY_S);
    tell_node(1, "{\"data\": [1, 2, 3]}");
    add_active(11, "user1@x", 6, 2000, 5, "aabb"); /* the same key id, 0000000000005-qrs */
    add_active(12, "user2@x", 6, 2000, 5, "aacc"); /* another client state */
    char node[64];
    (void)snprintf(node, sizeof node, "http://127.0.0.1:%d/", nodes.ports[1]);
    w.o.is_forced = true;
    w.o.override_node = node;
    purge_ok();
    /* user3 has no newer record: the old one is the newest, and its data is spared. */
    assert_int_equal(w.result.purged, 3);
    assert_int_equal(users_left(), 2);
    assert_int_equal(node_number(0, "requests"), 0);
    assert_int_equal(node_number(1, "requests"), 1);
    json_t *report = ask_node(1);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(report, "deleted"), 0)), 2);
    json_decref(report);
    assert_int_equal(counted("override", ""), 2);
    assert_int_equal(counted("delete_data", "|#type:force"), 3);
}

static void override_without_force_changes_nothing(void **state)
{
    (void)state;
    char node[64];
    (void)snprintf(node, sizeof node, "http://127.0.0.1:%d", nodes.ports[2]);
    add_node_row(0, true);
    add_node_row(1, false);
    add_users(0, 1, 3, 2 * DAY_S);
    add_users(1, 3, 5, 2 * DAY_S);
    w.o.override_node = node;
    purge_ok();
    assert_int_equal(w.result.purged, 2);
    assert_int_equal(node_number(1, "deleted"), 2); /* its own node: it is not down */
    assert_int_equal(node_number(2, "requests"), 0);
}

/* Is the data of uid 1, key id 5-aabb, deleted on the override node? */
static bool is_data_deleted(void)
{
    char node[64];
    (void)snprintf(node, sizeof node, "http://127.0.0.1:%d", nodes.ports[1]);
    tell_node(1, "{\"reset\": true, \"data\": [1]}");
    do_sql("DELETE FROM nodes");
    add_node_row(0, true);
    add_users(0, 1, 2, 2 * DAY_S);
    w.o.is_forced = true;
    w.o.override_node = node;
    purge_ok();
    assert_int_equal(w.result.purged, 1);
    do_sql("DELETE FROM users");
    return node_number(1, "deleted") == 1;
}

static void active_record_is_the_newest_by_generation_then_creation(void **state)
{
    (void)state;
    add_active(50, "user1@x", 9, 100, 5, "aabb"); /* highest generation, though created first */
    add_active(51, "user1@x", 8, 9000, 7, "cc");
    assert_false(is_data_deleted());
    add_active(50, "user1@x", 9, 100, 5, "aabb");
    add_active(51, "user1@x", 9, 101, 7, "cc"); /* same generation: the later one */
    assert_true(is_data_deleted());
    add_active(50, "user1@x", 9, 100, 7, "cc");
    add_active(51, "user1@x", INT64_MAX, 1, 5, "aabb"); /* retired is above all */
    assert_false(is_data_deleted());
    add_active(50, "user1@x", 9, 5000, 5, "aabb");
    do_sql("UPDATE users SET service = 3"); /* another service's record is not looked at */
    add_active(51, "user1@x", 6, 2000, 7, "cc");
    assert_true(is_data_deleted());
}

static void only_the_twenty_newest_records_are_looked_at(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        add_active(100 + i, "user1@x", 6, 5000 + i, 7, "cc");
    }
    add_active(99, "user1@x", 99, 4000, 5, "aabb"); /* the 21st, however high its generation */
    assert_true(is_data_deleted());
}

static void range_bounds_are_exclusive_and_inclusive(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 11, 2 * DAY_S);
    w.o.has_range_start = w.o.has_range_end = true;
    w.o.range_start = 3;
    w.o.range_end = 6;
    purge_ok();
    assert_int_equal(w.result.purged, 3);
    assert_int_equal(w.result.backlog, 3);
    assert_int_equal(number_of("SELECT COUNT(*) FROM users WHERE uid IN (4, 5, 6)"), 0);
    w.o.has_range_end = false;
    purge_ok();
    assert_int_equal(w.result.purged, 4);
    assert_int_equal(users_left(), 3);
}

static void grace_period_works_in_both_directions(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 2, 100);
    add_users(0, 2, 3, -100); /* replaced in the future */
    add_users(0, 3, 4, -300);
    w.o.grace_period_s = 200;
    purge_ok();
    assert_int_equal(w.result.purged, 0);
    w.o.grace_period_s = 50;
    purge_ok();
    assert_int_equal(w.result.purged, 1);
    w.o.grace_period_s = 0;
    purge_ok();
    assert_int_equal(w.result.purged, 0);
    w.o.grace_period_s = -200;
    purge_ok();
    assert_int_equal(w.result.purged, 1);
    assert_int_equal(number_of("SELECT MIN(uid) FROM users"), 3);
}

static void max_records_is_never_passed(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_node_row(1, false);
    add_users(0, 1, 20, 2 * DAY_S);
    add_users(1, 20, 40, 2 * DAY_S);
    w.o.max_records = 7;
    purge_ok();
    assert_int_equal(w.result.purged, 7);
    assert_true(w.result.is_limit_reached);
    assert_int_equal(users_left(), 32);
    assert_int_equal(all_requests(), 7);
    assert_int_equal(counted("max_records", ""), 1);
    w.o.max_records = 32; /* exactly all */
    purge_ok();
    assert_int_equal(w.result.purged, 32);
    w.o.max_records = 5; /* more than there are */
    add_users(0, 1, 4, 2 * DAY_S);
    purge_ok();
    assert_int_equal(w.result.purged, 3);
    assert_false(w.result.is_limit_reached);
    assert_int_equal(counted("max_records", ""), 2);
}

static void failing_rows_do_not_use_up_max_records(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 20, 2 * DAY_S);
    tell_node(0, "{\"status\": 503, \"times\": 2}");
    w.o.max_records = 4;
    purge_ok();
    assert_int_equal(w.result.purged, 4);
    assert_int_equal(w.result.deferred, 2);
    assert_int_equal(users_left(), 15);
}

static void batches_have_the_asked_size(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 26, 2 * DAY_S);
    w.o.max_per_loop = 10;
    purge_ok();
    assert_int_equal(w.result.purged, 25);
    assert_true(has_metric("tokenserver.purge.batch.fetched:10|c\n"));
    assert_true(has_metric("tokenserver.purge.batch.fetched:5|c\n"));
    add_users(0, 1, 26, 2 * DAY_S);
    w.o.max_per_loop = 1;
    purge_ok();
    assert_int_equal(w.result.purged, 25);
    add_users(0, 1, 26, 2 * DAY_S);
    w.o.max_per_loop = 100000;
    purge_ok();
    assert_int_equal(w.result.purged, 25);
    assert_int_equal(users_left(), 0);
}

static void random_offset_leaves_nothing_behind(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_node_row(1, false);
    w.o.max_per_loop = 3;
    for (uint64_t offset = 1; offset <= 40; offset += 3) {
        add_users(0, 1, 13, 2 * DAY_S);
        add_users(1, 13, 25, 2 * DAY_S);
        w.o.max_offset = offset;
        purge_ok();
        assert_int_equal(w.result.purged, 24);
        assert_int_equal(w.result.fetched, 24);
        assert_int_equal(users_left(), 0);
    }
}

static void dry_run_writes_and_requests_nothing(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_node_row(1, true);
    add_users(0, 1, 31, 2 * DAY_S);
    add_users(1, 31, 41, 2 * DAY_S);
    add_users(14, 41, 46, 2 * DAY_S);
    do_sql("UPDATE users SET client_state = 'zz' WHERE uid = 3");
    int64_t before = number_of("SELECT SUM(replaced_at) FROM users");
    w.o.is_dry_run = true;
    w.o.is_forced = true;
    purge_ok();
    assert_int_equal(w.result.purged, 40); /* what would be */
    assert_int_equal(w.result.nodeless, 5);
    assert_int_equal(w.result.deferred, 0);
    assert_int_equal(users_left(), 45);
    assert_int_equal(number_of("SELECT SUM(replaced_at) FROM users"), before);
    assert_int_equal(all_requests(), 0);
    assert_false(has_metric("delete_"));
    w.o.max_records = 12;
    purge_ok();
    assert_int_equal(w.result.purged, 12);
    assert_true(w.result.is_limit_reached);
}

static void loop_is_an_error(void **state)
{
    (void)state;
    const char *later = w.is_postgres ? "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
                                      : "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";
    add_node_row(0, false);
    add_users(0, 1, 5, 2 * DAY_S);
    do_sql("ALTER TABLE users RENAME TO users_real");
    /* Microseconds since the test began: each look finds each row further on. */
    do_sql("CREATE VIEW users AS SELECT uid, service, email, generation, client_state, created_at,"
           " %s - %" PRId64 " * 1000 AS replaced_at, nodeid, keys_changed_at FROM users_real",
           later, w.now_ms);
    w.o.is_dry_run = true;
    w.o.max_per_loop = 4;
    enum dr_code rc = purge();
    do_sql("DROP VIEW users");
    do_sql("ALTER TABLE users_real RENAME TO users");
    assert_int_equal(rc, DR_CONFLICT);
    assert_non_null(strstr(w.err.msg, "loop"));
    assert_int_equal(counted("purge.run.failure", ""), 1);
}

static void run_sleeps_and_runs_again_until_stopped(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 4, 2 * DAY_S);
    w.o.purge_interval_s = 1;
    w.o.max_records = 5;
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    /* The first run takes three; five more come, and the second run ends at its limit. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dr_wait_ms(500, NULL, NULL);
        w.db = sql_open(w.server.url);
        add_users(0, 10, 20, 2 * DAY_S);
        _exit(0);
    }
    dr_mono_ms start = dr_mono_now();
    sql_must(dr_tokenserver_run(t, NULL, NULL, &w.result, &w.err), &w.err);
    int64_t took = dr_mono_now() - start;
    int status = 0;
    (void)waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(w.result.is_limit_reached);
    assert_int_equal(w.result.purged, 8);
    assert_int_equal(counted("purge.run.success", ""), 2);
    assert_true(took >= 690 && took < 10000);
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static void oneshot_runs_once(void **state)
{
    (void)state;
    w.o.is_oneshot = true;
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    sql_must(dr_tokenserver_run(t, NULL, NULL, &w.result, &w.err), &w.err);
    assert_int_equal(counted("purge.run.success", ""), 1);
    assert_true(has_metric("tokenserver.purge.backlog.size:0|g\n"));
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static void options_out_of_bounds_are_refused(void **state)
{
    (void)state;
    const struct dr_tokenserver_options good = w.o;
    struct dr_tokenserver *t = NULL;
    for (int i = 0; i < 8; i++) {
        w.o = good;
        w.o.max_per_loop = i == 0 ? 0 : 10;
        w.o.requests_max = i == 1 ? 0 : 16;
        w.o.requests_per_node_max = i == 2 ? 0 : 4;
        w.o.request_timeout_s = i == 3 ? 0 : 60;
        w.o.secret = i == 4 ? "" : "s";
        w.o.database_url = i == 5 ? NULL : "mysql://h/d";
        w.o.grace_period_s = i == 6 ? INT64_MIN : 0;
        w.o.purge_interval_s = i == 7 ? UINT64_MAX : 1;
        assert_int_equal(dr_tokenserver_create(&w.o, NULL, NULL, &t, &w.err), DR_INPUT);
        assert_null(t);
    }
    assert_true(dr_purge_is_same_batch((int64_t[]){1, 2}, 2, (int64_t[]){1, 2}, 2));
    assert_false(dr_purge_is_same_batch((int64_t[]){1, 2}, 2, (int64_t[]){1, 3}, 2));
    assert_false(dr_purge_is_same_batch((int64_t[]){1, 2}, 2, (int64_t[]){1}, 1));
    assert_false(dr_purge_is_same_batch(NULL, 0, NULL, 0));
}

#define ON_STAGE(f) cmocka_unit_test_setup(f, clear_stage)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_STAGE(replaced_rows_go_with_their_data_and_others_stay),
        ON_STAGE(request_names_the_user_as_the_reference_does),
        ON_STAGE(nodeless_records_go_without_a_request_and_uncounted),
        ON_STAGE(downed_nodes_are_skipped_by_the_query),
        ON_STAGE(force_deletes_on_downed_nodes),
        ON_STAGE(override_node_is_asked_and_active_data_is_spared),
        ON_STAGE(override_without_force_changes_nothing),
        ON_STAGE(active_record_is_the_newest_by_generation_then_creation),
        ON_STAGE(only_the_twenty_newest_records_are_looked_at),
        ON_STAGE(range_bounds_are_exclusive_and_inclusive),
        ON_STAGE(grace_period_works_in_both_directions),
        ON_STAGE(max_records_is_never_passed),
        ON_STAGE(failing_rows_do_not_use_up_max_records),
        ON_STAGE(batches_have_the_asked_size),
        ON_STAGE(random_offset_leaves_nothing_behind),
        ON_STAGE(dry_run_writes_and_requests_nothing),
        ON_STAGE(loop_is_an_error),
        ON_STAGE(run_sleeps_and_runs_again_until_stopped),
        ON_STAGE(oneshot_runs_once),
        ON_STAGE(options_out_of_bounds_are_refused),
    };
    int failed = 0;
    open_stage("mariadb");
    failed += cmocka_run_group_tests_name("purge on mariadb", tests, NULL, NULL);
    close_stage();
    open_stage("postgres");
    failed += cmocka_run_group_tests_name("purge on postgres", tests, NULL, NULL);
    close_stage();
    return failed;
}
