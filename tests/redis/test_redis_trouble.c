/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis adapter when things go wrong: lost replies, servers that die, freeze, load or change
 * their role, memory that runs short; and its brakes, its commands and its rate. */
#include "redis/redis_help.h"

/* ---- trouble ---- */

static void a_lost_reply_is_unknown_and_probe_tells(void **state)
{
    (void)state;
    struct server *v = start_server("--appendonly", "yes", "--appendfsync", "always", NULL);
    static const char *const points[] = {"store.redis.erase.sent=error",
                                         "store.redis.erase.acked=error"};
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    for (int way = 0; way < 4; way++) {
        uint64_t set = fill(v, job_s1, 5);
        at.len = 0;
        scan_one(&r, 100000, way & 1);
        dr_fault_arm(points[way >> 1]);
        assert_int_equal(dr_store_erase(store, &r, batch, &tally, &err), DR_UNKNOWN);
        dr_fault_arm(NULL);
        restart_server(v); /* what it had not read by then it never will */
        uint64_t left = (uint64_t)number(v, "DBSIZE");
        assert_true(left == 0 || way < 2);
        enum dr_code rc = dr_store_probe(store, &r, batch, &tally, &err);
        if (rc == DR_UNREACHABLE) { /* the old connection, noticed now */
            rc = dr_store_probe(store, &r, batch, &tally, &err);
        }
        must(rc);
        assert_int_equal(tally.same, left);
        assert_int_equal(tally.changed, 0);
        assert_true(tally.absent >= set - left);
        tell(v, "FLUSHALL");
    }
    close_store();
}

static void a_killed_server_is_unreachable_and_work_goes_on_after_its_restart(void **state)
{
    (void)state;
    struct server *v = start_server("--appendonly", "yes", NULL);
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    for (int with_values = 0; with_values < 2; with_values++) {
        uint64_t set = fill(v, job_s1, 2);
        at.len = 0;
        scan_one(&r, 100000, with_values == 1);
        kill_server(v);
        enum dr_code rc = dr_store_erase(store, &r, batch, &tally, &err);
        assert_true(rc == DR_UNKNOWN || rc == DR_UNREACHABLE);
        assert_int_equal(dr_store_probe(store, &r, batch, &tally, &err), DR_UNREACHABLE);
        run_server(v);
        wait_for_server(v);
        must(dr_store_probe(store, &r, batch, &tally, &err));
        assert_int_equal(tally.same, set);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, set);
    }
    close_store();
}

static void a_frozen_server_times_out(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    (void)fill(v, job_s1, 9);
    scan_one(&r, 1000, false);
    (void)kill(v->pid, SIGSTOP);
    dr_mono_ms start = dr_mono_now();
    assert_int_equal(dr_store_erase(store, &r, batch, &tally, &err), DR_UNKNOWN);
    assert_true(dr_mono_now() - start < 9000);
    assert_has(err.msg, "no answer within");
    (void)kill(v->pid, SIGCONT);
    must(dr_store_probe(store, &r, batch, &tally, &err));
    close_store();
}

static void a_demoted_primary_is_unreachable_and_not_written(void **state)
{
    (void)state;
    struct server *a = start_server(NULL);
    struct server *b = start_server(NULL);
    uint64_t set = fill(a, job_s1, 4);
    open_on(a);
    struct dr_range r = by_keys(a, job_s1);
    scan_one(&r, 1000, false);
    (void)fill(b, job_s1, 4);
    tell(a, "REPLICAOF 127.0.0.1 %d", b->port);
    enum dr_code rc = dr_store_erase(store, &r, batch, &tally, &err);
    assert_true(rc == DR_UNREACHABLE || rc == DR_UNKNOWN); /* READONLY, or cut off at the switch */
    rc = dr_store_erase(store, &r, batch, &tally, &err);
    assert_true(rc == DR_REFUSED || rc == DR_UNREACHABLE || rc == DR_BUSY);
    assert_int_equal(number(b, "DBSIZE"), set);
    close_store();
}

static void a_loading_server_is_busy(void **state)
{
    (void)state;
    struct dr_survey *survey = NULL;
    struct server *v = start_server("--key-load-delay", "20000",
                                    "--loading-process-events-interval-bytes", "1024", NULL);
    tell(v, "DEBUG POPULATE 2000 key 100");
    tell(v, "SAVE");
    kill_server(v);
    run_server(v);
    enum dr_code rc = DR_UNREACHABLE;
    dr_mono_ms start = dr_mono_now();
    open_on(v);
    while (rc == DR_UNREACHABLE && dr_mono_now() - start < WAIT_MS_MAX) {
        rc = dr_store_survey_spec(store, job_s1, &survey, &err);
    }
    assert_int_equal(rc, DR_BUSY);
    assert_has(err.msg, "loading");
    struct dr_health h;
    must(dr_store_health(store, v->name, &h, &err));
    assert_false(h.is_ok);
    assert_has(h.reason, "loading");
    close_store();
}

static void commands_are_only_those_of_the_marked_set(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    open_on(v);
    must(dr_store_command(store, v->name, "SADD set \"s 1\" 's\\'2' s3 \"\\x41\\n\"", &err));
    assert_int_equal(number(v, "SCARD set"), 4);
    assert_int_equal(number(v, "SISMEMBER set %s", "s 1"), 1);
    assert_int_equal(number(v, "SISMEMBER set %s", "s'2"), 1);
    assert_int_equal(number(v, "SISMEMBER set %s", "A\n"), 1);
    must(dr_store_command(store, v->name, "srem set \"s 1\"", &err));
    must(dr_store_command(store, v->name, "srem set \"s 1\"", &err));
    assert_int_equal(number(v, "SCARD set"), 3);
    assert_int_equal(dr_store_command(store, v->name, "FLUSHALL", &err), DR_REFUSED);
    assert_int_equal(dr_store_command(store, v->name, "DEL set x", &err), DR_REFUSED);
    assert_int_equal(dr_store_command(store, v->name, "", &err), DR_REFUSED);
    assert_int_equal(dr_store_command(store, v->name, "SADD set \"open", &err), DR_INPUT);
    assert_int_equal(dr_store_command(store, v->name, "SADD set \"a\"b", &err), DR_INPUT);
    assert_int_equal(number(v, "SCARD set"), 3);
    close_store();
}

static void health_sees_forks_memory_and_replicas(void **state)
{
    (void)state;
    struct dr_health h;
    struct server *v = start_server(NULL);
    open_on(v);
    must(dr_store_health(store, v->name, &h, &err));
    assert_true(h.is_ok);
    assert_int_equal(h.valid_ms, 1000);
    tell(v, "CONFIG SET maxmemory 1200000");
    must(dr_store_health(store, v->name, &h, &err));
    if (h.is_ok) {
        tell(v, "CONFIG SET maxmemory 900000");
        must(dr_store_health(store, v->name, &h, &err));
    }
    assert_false(h.is_ok);
    assert_has(h.reason, "memory");
    assert_true(h.wait_hint_ms > 0);
    tell(v, "CONFIG SET maxmemory 0");
    tell(v, "DEBUG POPULATE 200 key 100000");
    tell(v, "CONFIG SET rdb-key-save-delay 20000");
    tell(v, "BGSAVE");
    must(dr_store_health(store, v->name, &h, &err));
    assert_false(h.is_ok);
    assert_has(h.reason, "fork");
    kill_server(v);
    enum dr_code rc = dr_store_health(store, v->name, &h, &err);
    assert_int_equal(rc, DR_UNREACHABLE);
    close_store();
}

static void health_sees_a_replica_that_lags(void **state)
{
    (void)state;
    struct dr_health h;
    struct server *v = start_server(NULL);
    struct server *replica = start_replica_of(v);
    open_on(v);
    must(dr_store_health(store, v->name, &h, &err));
    assert_true(h.is_ok);
    (void)kill(replica->pid, SIGSTOP);
    tell(v, "CONFIG SET client-output-buffer-limit %s", "replica 0 0 0");
    tell(v, "DEBUG POPULATE 1 filler 10");
    static char big[1 << 20];
    memset(big, 'x', sizeof big);
    for (int i = 0; i < 20; i++) {
        tell(v, "SET big%d %b", i, big, sizeof big);
    }
    must(dr_store_health(store, v->name, &h, &err));
    assert_false(h.is_ok);
    assert_has(h.reason, "replica");
    (void)kill(replica->pid, SIGCONT);
    close_store();
}

/* ---- every n-th allocation fails ---- */

static enum dr_code whole_round(const struct dr_range *r, bool with_values)
{
    struct dr_store *s = NULL;
    struct dr_batch *b = NULL;
    char url[64];
    uint64_t rows = 0;
    static struct dr_cursor from;
    struct dr_survey *survey = NULL;
    const struct dr_budget budget = {
        .items_max = 1000, .bytes_max = 1 << 24, .with_values = with_values};
    (void)snprintf(url, sizeof url, "redis://%s", r->node);
    from.len = 0;
    enum dr_code rc = dr_store_open(url, &s, &err);
    rc = rc == DR_OK ? dr_batch_create(&b, &err) : rc;
    rc = rc == DR_OK ? dr_store_survey_spec(s, "{\"marked\":true}", &survey, &err) : rc;
    rc = rc == DR_OK ? dr_store_count(s, r, &rows, &err) : rc;
    rc = rc == DR_OK ? dr_store_scan(s, r, &budget, &from, b, &err) : rc;
    rc = rc == DR_OK ? dr_store_erase(s, r, b, &tally, &err) : rc;
    rc = rc == DR_OK ? dr_store_probe(s, r, b, &tally, &err) : rc;
    if (with_values) {
        rc = rc == DR_OK ? dr_store_restore(s, r, b, &tally, &err) : rc;
    }
    rc = rc == DR_OK ? dr_store_command(s, r->node, "SADD marked s1", &err) : rc;
    dr_survey_destroy(survey);
    dr_batch_destroy(b);
    dr_store_close(s);
    return rc;
}

static void memory_that_runs_short_anywhere_is_said_and_nothing_leaks(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    static const char spec[] = JOB("[\"s1\"]", ",\"types\":[\"string\",\"list\"]");
    for (int way = 0; way < 4; way++) {
        struct dr_range r = way & 1 ? by_scan(v, spec) : by_keys(v, spec);
        bool is_done = false;
        for (uint64_t n = 1; !is_done && n < 100000; n += 1 + n / 50) {
            tell(v, "FLUSHALL");
            tell(v, "SADD set_with_services_marked_for_deletion s1");
            tell(v, "SET %s 5", nth_key(spec, 3));
            (void)dr_mem_fail_at(n);
            enum dr_code rc = whole_round(&r, way & 2);
            uint64_t made = dr_mem_fail_at(0);
            is_done = rc == DR_OK && made < n;
            assert_true(rc == DR_OK || rc == DR_NOMEM || rc == DR_UNSUPPORTED || rc == DR_UNKNOWN);
        }
        assert_true(is_done);
    }
}

/* ---- rate ---- */

static void a_hundred_thousand_keys_are_erased_at_speed(void **state)
{
    (void)state;
    static const char spec[] = "{\"services\":[\"s1\"],\"applications\":[\"a\",\"b\"],\"metrics\":"
                               "[\"m\",\"n\"],\"users\":[],\"from\":1483228800,\"to\":1494720000}";
    struct server *v = start_server(NULL);
    open_on(v);
    for (int way = 0; way < 4; way++) {
        tell(v, "FLUSHALL");
        uint64_t set = fill(v, spec, 1);
        struct dr_range r = way & 1 ? by_scan(v, spec) : by_keys(v, spec);
        dr_mono_ms start = dr_mono_now();
        struct dr_tally sum = erase_all(&r, 1000, way & 2);
        dr_mono_ms spent = dr_mono_now() - start;
        assert_int_equal(sum.erased, set);
        assert_int_equal(number(v, "DBSIZE"), 0);
        print_message("[ rate     ] %s, %s values: %" PRIu64 " keys in %" PRId64
                      " ms, %.0f keys/s\n",
                      way & 1 ? "scan" : "keys", way & 2 ? "with" : "without", set, spent,
                      (double)set * 1000 / (double)(spent + 1));
    }
    close_store();
}

#define T(name) cmocka_unit_test_teardown(name, stop_servers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_lost_reply_is_unknown_and_probe_tells),
        T(a_killed_server_is_unreachable_and_work_goes_on_after_its_restart),
        T(a_frozen_server_times_out),
        T(a_demoted_primary_is_unreachable_and_not_written),
        T(a_loading_server_is_busy),
        T(commands_are_only_those_of_the_marked_set),
        T(health_sees_forks_memory_and_replicas),
        T(health_sees_a_replica_that_lags),
        T(memory_that_runs_short_anywhere_is_said_and_nothing_leaks),
        T(a_hundred_thousand_keys_are_erased_at_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
