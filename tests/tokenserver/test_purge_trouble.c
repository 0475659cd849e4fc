/* SPDX-License-Identifier: Apache-2.0 */
/* What a purge does when nodes, the database, memory or its own process fail, on both databases:
 * each test is named for one promise. */
#include "tokenserver/purge_help.h"

static void one_row(int i)
{
    add_node_row(i, false);
    add_users(i, 1, 2, 2 * DAY_S);
}

static bool is_deferred(int uid)
{
    return number_of("SELECT COUNT(*) FROM users WHERE uid = %d AND replaced_at >= %" PRId64
                     " AND replaced_at <= %" PRId64,
                     uid, w.now_ms, dr_wall_now()) == 1;
}

static void not_found_counts_as_done(void **state)
{
    (void)state;
    one_row(0);
    tell_node(0, "{\"data\": []}");
    purge_ok();
    assert_int_equal(w.result.purged, 1);
    assert_int_equal(users_left(), 0);
    assert_int_equal(counted("error.gone", ""), 0);
}

static void server_errors_are_deferred_at_once(void **state)
{
    (void)state;
    static const int codes[] = {500, 501, 502, 503, 504};
    one_row(0);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        (void)clear_stage(NULL);
        one_row(0);
        tell_node(0, "{\"status\": %d}", codes[i]);
        purge_ok();
        assert_int_equal(w.result.failed, 1);
        assert_int_equal(w.result.deferred, 1);
        assert_int_equal(node_number(0, "requests"), 1);
        assert_true(is_deferred(1));
        assert_int_equal(counted("row_failure", "|#reason:http_5xx"), 1);
        assert_int_equal(counted("error.gone", ""), 1);
        purge_ok(); /* out of reach for one grace period */
        assert_int_equal(w.result.backlog, 0);
        assert_int_equal(node_number(0, "data"), 1);
    }
}

static void other_errors_are_tried_again(void **state)
{
    (void)state;
    static const int codes[] = {400, 408, 409, 429, 505, 513};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        (void)clear_stage(NULL);
        one_row(0);
        tell_node(0, "{\"status\": %d, \"times\": 4}", codes[i]);
        purge_ok();
        assert_int_equal(w.result.purged, 1);
        assert_int_equal(node_number(0, "requests"), 5);
        assert_int_equal(users_left(), 0);
    }
}

static void tries_are_bounded(void **state)
{
    (void)state;
    one_row(0);
    tell_node(0, "{\"status\": 400}");
    purge_ok();
    assert_int_equal(node_number(0, "requests"), 5);
    assert_int_equal(w.result.deferred, 1);
    assert_true(is_deferred(1));
    assert_int_equal(counted("row_failure", "|#reason:http_4xx"), 1);
    (void)clear_stage(NULL);
    one_row(0);
    tell_node(0, "{\"redirect\": \"http://127.0.0.1:%d/1.5/1\"}", nodes.ports[1]);
    purge_ok();
    assert_int_equal(node_number(0, "requests"), 1);
    assert_int_equal(node_number(1, "requests"), 0);
    assert_int_equal(counted("row_failure", "|#reason:http_other"), 1);
    assert_int_equal(w.result.deferred, 1);
}

static void broken_connections_are_tried_again(void **state)
{
    (void)state;
    static const char *const ways[] = {"close_before", "close_after", "garbage", "cut"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        (void)clear_stage(NULL);
        one_row(0);
        tell_node(0, "{\"fail\": \"%s\", \"times\": 2}", ways[i]);
        purge_ok();
        assert_int_equal(w.result.purged, 1);
        assert_int_equal(node_number(0, "data"), 0);
        assert_int_equal(node_number(0, "deleted"), 1);
        assert_int_equal(users_left(), 0);
    }
    (void)clear_stage(NULL);
    one_row(0);
    tell_node(0, "{\"fail\": \"close_after\"}"); /* never an answer: the record must stay */
    purge_ok();
    assert_int_equal(w.result.deferred, 1);
    assert_int_equal(counted("row_failure", "|#reason:unknown"), 1);
    assert_int_equal(users_left(), 1);
}

static void timeout_is_repeated(void **state)
{
    (void)state;
    one_row(0);
    w.o.request_timeout_s = 1;
    tell_node(0, "{\"fail\": \"hang\", \"times\": 1}");
    purge_ok();
    assert_int_equal(w.result.purged, 1);
    assert_int_equal(node_number(0, "requests"), 2);
    (void)clear_stage(NULL);
    one_row(0);
    w.o.request_timeout_s = 1;
    w.tuning.tries_max = 1;
    tell_node(0, "{\"fail\": \"hang\"}");
    purge_ok();
    assert_int_equal(w.result.deferred, 1);
    assert_int_equal(counted("row_failure", "|#reason:timeout"), 1);
}

static void refused_connections_are_tried_again_then_deferred(void **state)
{
    (void)state;
    do_sql("INSERT INTO nodes (id, service, node, available, current_load, capacity, downed,"
           " backoff) VALUES (1, 7, 'http://127.0.0.1:1', 0, 0, 0, false, 0)");
    add_users(14, 1, 2, 2 * DAY_S);
    do_sql("UPDATE users SET nodeid = 1");
    purge_ok();
    assert_int_equal(w.result.failed, 1);
    assert_true(is_deferred(1));
    assert_int_equal(counted("row_failure", "|#reason:connect"), 1);
}

static void rows_that_cannot_be_signed_are_deferred_alone(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 21, 2 * DAY_S);
    do_sql("UPDATE users SET client_state = 'xyz' WHERE uid IN (3, 4, 5, 6, 7, 8, 9)");
    purge_ok();
    assert_int_equal(w.result.purged, 13);
    assert_int_equal(w.result.deferred, 7);
    assert_int_equal(counted("row_failure", "|#reason:unknown"), 7);
    assert_int_equal(users_left(), 7);
}

static void bad_node_url_does_not_stop_the_others(void **state)
{
    (void)state;
    do_sql("INSERT INTO nodes (id, service, node, available, current_load, capacity, downed,"
           " backoff) VALUES (2, 7, 'no url at all', 0, 0, 0, false, 0)");
    add_node_row(0, false);
    add_users(0, 1, 41, 2 * DAY_S);
    add_users(14, 41, 81, 2 * DAY_S);
    do_sql("UPDATE users SET nodeid = 2 WHERE uid > 40");
    purge_ok();
    assert_int_equal(w.result.purged, 40);
    assert_true(w.result.failed >= 5 && w.result.failed < 20); /* then its breaker is open */
    assert_int_equal(users_left(), 40);
}

static void refused_signature_stops_that_node_only(void **state)
{
    (void)state;
    static const int codes[] = {401, 403};
    for (size_t i = 0; i < 2; i++) {
        (void)clear_stage(NULL);
        add_node_row(0, false);
        add_node_row(1, false);
        add_users(0, 1, 101, 2 * DAY_S);
        add_users(1, 101, 201, 2 * DAY_S);
        tell_node(0, "{\"status\": %d}", codes[i]);
        assert_int_equal(purge(), DR_DENIED);
        assert_int_equal(w.result.purged, 100);
        assert_true(node_number(0, "requests") <= 4);
        assert_int_equal(node_number(0, "data"), 100);
        assert_int_equal(users_left(), 100);
        assert_int_equal(counted("purge.run.failure", ""), 1);
        assert_int_equal(w.result.deferred, node_number(0, "requests"));
    }
}

static void secrets_reach_no_log_and_no_message(void **state)
{
    (void)state;
    static const char secret[] = "quite another S3CR3T";
    one_row(0);
    w.o.secret = secret;
    assert_int_equal(purge(), DR_DENIED);
    assert_int_equal(node_number(0, "refusals"), 1); /* checked independently */
    assert_int_equal(node_number(0, "data"), 1);
    assert_null(strstr(w.err.msg, secret));
    char text[65536];
    rewind(w.log_file);
    size_t bytes = 0;
    bool has_node = false;
    while ((bytes = fread(text, 1, sizeof text - 1, w.log_file)) > 0) {
        text[bytes] = '\0';
        has_node |= strstr(text, "refuses our signature") != NULL;
        assert_null(strstr(text, "S3CR3T"));
        assert_null(strstr(text, "Hawk"));
        assert_null(strstr(text, "mac="));
    }
    assert_true(has_node);
}

static void retry_after_is_honoured(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 21, 2 * DAY_S);
    w.o.requests_per_node_max = 1;
    tell_node(0, "{\"status\": 429, \"times\": 1, \"retry_after\": \"1\"}");
    dr_mono_ms start = dr_mono_now();
    purge_ok();
    assert_true(dr_mono_now() - start >= 950);
    assert_int_equal(w.result.purged, 20);
    assert_int_equal(node_number(0, "requests"), 21);
}

static void long_retry_after_leaves_the_node_for_the_next_run(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_node_row(1, false);
    add_users(0, 1, 21, 2 * DAY_S);
    add_users(1, 21, 41, 2 * DAY_S);
    tell_node(0, "{\"status\": 503, \"retry_after\": \"3600\"}");
    dr_mono_ms start = dr_mono_now();
    purge_ok();
    assert_true(dr_mono_now() - start < 5000);
    assert_int_equal(w.result.purged, 20);
    assert_true(node_number(0, "requests") <= 4);
    assert_int_equal(users_left(), 20);
    assert_int_equal(w.result.deferred, node_number(0, "requests"));
}

/* Make the database refuse every UPDATE of users, or allow it again. */
static void refuse_updates(bool is_on)
{
    if (w.is_postgres && is_on) {
        do_sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
               " 'BEGIN RAISE EXCEPTION ''no''; END'");
        do_sql("CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION"
               " refuse()");
    } else if (w.is_postgres) {
        do_sql("DROP TRIGGER refuse ON users");
        do_sql("DROP FUNCTION refuse()");
    } else if (is_on) {
        do_sql("CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW"
               " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'");
    } else {
        do_sql("DROP TRIGGER refuse");
    }
}

static void failing_deferral_does_not_end_the_run(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 31, 2 * DAY_S);
    tell_node(0, "{\"status\": 500, \"times\": 3}");
    refuse_updates(true);
    enum dr_code rc = purge();
    refuse_updates(false);
    assert_int_equal(rc, DR_OK);
    assert_int_equal(w.result.purged, 27);
    assert_int_equal(w.result.failed, 3);
    assert_int_equal(w.result.deferred, 0);
    assert_int_equal(counted("row_failure_bump_failed", ""), 3);
    assert_int_equal(users_left(), 3);
}

static void deferred_row_is_not_fetched_again_in_the_run(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 9, 10);
    tell_node(0, "{\"status\": 400}");
    w.o.grace_period_s = -1000; /* a deferred row stays eligible */
    w.o.max_per_loop = 2;
    w.o.requests_per_node_max = 1;
    w.o.requests_max = 1;
    w.tuning.tries_max = 1;
    purge_ok();
    assert_int_equal(w.result.deferred, 8);
    assert_int_equal(w.result.failed, 8);
    assert_int_equal(node_number(0, "requests"), 8);
}

static void one_broken_node_among_ten_holds_up_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        add_node_row(i, false);
        add_users(i, 1 + i * 100, 101 + i * 100, 2 * DAY_S + 10 - i);
    }
    tell_node(0, "{\"status\": 503}"); /* its rows come first in the walk */
    purge_ok();
    assert_int_equal(w.result.purged, 900);
    assert_int_equal(users_left(), 100);
    assert_int_equal(node_number(0, "data"), 100);
    long long asked = node_number(0, "requests");
    assert_true(asked >= 5 && asked <= 12);
    assert_int_equal(w.result.deferred, asked);
    for (int i = 1; i < 10; i++) {
        assert_int_equal(node_number(i, "deleted"), 100);
    }
}

static bool are_others_done(void *arg)
{
    dr_mono_ms *looked = arg;
    if (dr_mono_now() - *looked < 50) {
        return false;
    }
    *looked = dr_mono_now();
    return number_of("SELECT COUNT(*) FROM users WHERE nodeid <> 1") == 0;
}

static void one_slow_node_among_ten_holds_up_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        add_node_row(i, false);
        add_users(i, 1 + i * 100, 101 + i * 100, 2 * DAY_S + 10 - i);
    }
    tell_node(0, "{\"slow_ms\": 1500}"); /* 100 rows, 4 at once: 37 seconds alone */
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    dr_mono_ms looked = dr_mono_now(), start = looked;
    enum dr_code rc = dr_tokenserver_run_once(t, are_others_done, &looked, &w.result, &w.err);
    assert_int_equal(rc, DR_STOPPED);
    assert_true(dr_mono_now() - start < 15000);
    assert_true(w.result.purged >= 900);
    assert_true(node_number(0, "data") > 50);
    assert_true(w.result.fetched - w.result.purged <= 40); /* its queue is short, too */
    assert_int_equal(number_of("SELECT COUNT(*) FROM users"), node_number(0, "data"));
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static void node_that_recovers_is_finished_in_the_same_run(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 61, 2 * DAY_S);
    tell_node(0, "{\"status\": 500, \"times\": 5}");
    w.o.requests_per_node_max = 1;
    purge_ok();
    assert_int_equal(w.result.purged, 55);
    assert_int_equal(w.result.deferred, 5);
    assert_true(w.result.ms >= 190);
    assert_int_equal(node_number(0, "requests"), 60);
}

static void breaker_rests_over_runs(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 61, 2 * DAY_S);
    tell_node(0, "{\"status\": 500}");
    w.o.requests_per_node_max = 1;
    w.tuning.breaker_ms = 600;
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    sql_must(dr_tokenserver_run_once(t, NULL, NULL, &w.result, &w.err), &w.err);
    assert_int_equal(node_number(0, "requests"), 6); /* five, a rest, the probe */
    sql_must(dr_tokenserver_run_once(t, NULL, NULL, &w.result, &w.err), &w.err);
    assert_int_equal(node_number(0, "requests"), 6); /* it rests for 1200 ms now */
    assert_int_equal(w.result.deferred, 0);
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static void killed_between_confirmation_and_delete_repeats_harmlessly(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    for (int nth = 1; nth <= 9; nth += 4) {
        (void)clear_stage(NULL);
        add_node_row(0, false);
        add_users(0, 1, 11, 2 * DAY_S);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            char spec[64];
            (void)snprintf(spec, sizeof spec, "tokenserver.confirmed@%d=kill", nth);
            dr_fault_arm(spec);
            w.tuning.erase_wait_ms = nth == 5 ? 0 : 1000;
            _exit(purge() == DR_OK ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        /* Each record whose data is there is still there: that is the promise. */
        long long with_data = node_number(0, "data");
        assert_true(users_left() > with_data);
        purge_ok();
        assert_int_equal(users_left(), 0);
        assert_int_equal(node_number(0, "data"), 0);
        assert_int_equal(node_number(0, "deleted"), 10);
    }
#else
    skip();
#endif
}

static void two_and_four_purgers_delete_each_record_once(void **state)
{
    (void)state;
    for (int many = 2; many <= 4; many += 2) {
        (void)clear_stage(NULL);
        for (int i = 0; i < 3; i++) {
            add_node_row(i, false);
            add_users(i, 1 + i * 100, 101 + i * 100, 2 * DAY_S);
        }
        add_users(14, 301, 331, 2 * DAY_S);
        int out[2];
        assert_int_equal(pipe(out), 0);
        for (int c = 0; c < many; c++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                w.o.max_offset = c % 2 == 0 ? 0 : 20;
                enum dr_code rc = purge();
                uint64_t mine = rc == DR_OK ? w.result.purged + w.result.nodeless : 1000000;
                _exit(write(out[1], &mine, sizeof mine) == sizeof mine ? 0 : 1);
            }
        }
        uint64_t sum = 0, one = 0;
        for (int c = 0; c < many; c++) {
            assert_int_equal(read(out[0], &one, sizeof one), sizeof one);
            sum += one;
            assert_true(wait(NULL) > 0);
        }
        (void)close(out[0]);
        (void)close(out[1]);
        assert_int_equal(sum, 330);
        assert_int_equal(users_left(), 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(node_number(i, "deleted"), 100);
        }
    }
}

/* Another purger defers the row while its node works on our request. */
static bool defer_meanwhile(void *arg)
{
    bool *is_done = arg;
    if (!*is_done && node_number(0, "requests") > 0) {
        *is_done = true;
        do_sql("UPDATE users SET replaced_at = %" PRId64 " WHERE uid = 1", w.now_ms);
    }
    return false;
}

static void record_that_changed_meanwhile_is_not_deleted(void **state)
{
    (void)state;
    bool is_done = false;
    one_row(0);
    tell_node(0, "{\"slow_ms\": 500}");
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    sql_must(dr_tokenserver_run_once(t, defer_meanwhile, &is_done, &w.result, &w.err), &w.err);
    assert_true(is_done);
    assert_int_equal(w.result.purged, 0);
    assert_true(is_deferred(1));
    assert_int_equal(node_number(0, "deleted"), 1);
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static bool stop_after_some(void *arg)
{
    (void)arg;
    return node_number(0, "requests") >= 10;
}

static void stop_awaits_open_requests(void **state)
{
    (void)state;
    add_node_row(0, false);
    add_users(0, 1, 101, 2 * DAY_S);
    tell_node(0, "{\"slow_ms\": 20}");
    struct dr_statsd *statsd = NULL;
    struct dr_tokenserver *t = make_purger(&statsd);
    assert_int_equal(dr_tokenserver_run_once(t, stop_after_some, NULL, &w.result, &w.err),
                     DR_STOPPED);
    long long asked = node_number(0, "requests");
    assert_true(asked >= 10 && asked < 60);
    assert_int_equal(w.result.purged, asked);
    assert_int_equal(users_left(), 100 - asked);
    assert_int_equal(counted("purge.run.failure", ""), 0);
    dr_tokenserver_destroy(t);
    dr_statsd_destroy(statsd);
}

static void missing_database_fails_the_run(void **state)
{
    (void)state;
    w.o.database_url = w.is_postgres ? "postgres://u:pw123@127.0.0.1:1/d?connect_timeout=2"
                                     : "mysql://u:pw123@127.0.0.1:1/d";
    assert_int_equal(purge(), DR_UNREACHABLE);
    assert_null(strstr(w.err.msg, "pw123"));
    assert_int_equal(counted("purge.run.failure", ""), 1);
    w.o.database_url = w.server.url;
    do_sql("UPDATE services SET service = 'x' WHERE id = 7");
    enum dr_code rc = purge();
    do_sql("UPDATE services SET service = 'sync-1.5' WHERE id = 7");
    assert_int_equal(rc, DR_NOT_FOUND);
}

static void short_memory_never_loses_a_record(void **state)
{
    (void)state;
    bool is_whole = false;
    add_node_row(0, false);
    w.o.requests_per_node_max = 2;
    for (uint64_t n = 1; !is_whole; n += 1 + n / 12) {
        do_sql("DELETE FROM users");
        tell_node(0, "{\"reset\": true}");
        add_users(0, 1, 4, 2 * DAY_S);
        struct dr_statsd *statsd = NULL;
        struct dr_tokenserver *t = make_purger(&statsd);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_tokenserver_run_once(t, NULL, NULL, &w.result, &w.err);
        bool was_hit = dr_mem_fail_at(0) >= n;
        dr_tokenserver_destroy(t);
        dr_statsd_destroy(statsd);
        assert_true(users_left() >= node_number(0, "data"));
        assert_true(rc == DR_OK || was_hit);
        is_whole = !was_hit;
        assert_true(n < 100000);
    }
    assert_int_equal(users_left(), 0);
}

#define ON_STAGE(f) cmocka_unit_test_setup(f, clear_stage)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_STAGE(not_found_counts_as_done),
        ON_STAGE(server_errors_are_deferred_at_once),
        ON_STAGE(other_errors_are_tried_again),
        ON_STAGE(tries_are_bounded),
        ON_STAGE(broken_connections_are_tried_again),
        ON_STAGE(timeout_is_repeated),
        ON_STAGE(refused_connections_are_tried_again_then_deferred),
        ON_STAGE(rows_that_cannot_be_signed_are_deferred_alone),
        ON_STAGE(bad_node_url_does_not_stop_the_others),
        ON_STAGE(refused_signature_stops_that_node_only),
        ON_STAGE(secrets_reach_no_log_and_no_message),
        ON_STAGE(retry_after_is_honoured),
        ON_STAGE(long_retry_after_leaves_the_node_for_the_next_run),
        ON_STAGE(failing_deferral_does_not_end_the_run),
        ON_STAGE(deferred_row_is_not_fetched_again_in_the_run),
        ON_STAGE(one_broken_node_among_ten_holds_up_nobody),
        ON_STAGE(one_slow_node_among_ten_holds_up_nobody),
        ON_STAGE(node_that_recovers_is_finished_in_the_same_run),
        ON_STAGE(breaker_rests_over_runs),
        ON_STAGE(killed_between_confirmation_and_delete_repeats_harmlessly),
        ON_STAGE(two_and_four_purgers_delete_each_record_once),
        ON_STAGE(record_that_changed_meanwhile_is_not_deleted),
        ON_STAGE(stop_awaits_open_requests),
        ON_STAGE(missing_database_fails_the_run),
        ON_STAGE(short_memory_never_loses_a_record),
    };
    int failed = 0;
    open_stage("mariadb");
    failed += cmocka_run_group_tests_name("purge in trouble on mariadb", tests, NULL, NULL);
    close_stage();
    open_stage("postgres");
    failed += cmocka_run_group_tests_name("purge in trouble on postgres", tests, NULL, NULL);
    close_stage();
    return failed;
}
