/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis adapter against real stand-alone servers. */
#include "redis/redis_help.h"

static const char *extra_of(const char *spec, struct dr_survey **out)
{
    must(dr_store_survey_spec(store, spec, out, &err));
    return (*out)->extra;
}

/* ---- opening and surveying ---- */

static void open_refuses_a_broken_url_and_hides_the_password(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "redis://u:geheim@",          "redis://u:geheim@host:port", "redis://u:ge%zzheim@h:1",
        "redis://u:geheim@h:1/x",     "redis://u:geheim@h:1,,h:2",  "redis://u:geheim@h:70000",
        "redis://u:geheim@[::1:6379", "redis://u:geheim@h:1,h:1",   "redis://u:geheim@a:b:c",
        "redis://u:geheim%00@h:1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dr_store *s = NULL;
        assert_int_equal(dr_store_open(bad[i], &s, &err), DR_INPUT);
        assert_null(s);
        assert_null(strstr(err.msg, "geheim"));
        assert_null(strstr(err.msg, "heim@"));
    }
    must(dr_store_open("redis://u:p%40ss@[::1]:7000,other:7001/2", &store, &err));
    assert_null(strstr(dr_store_url(store), "p%40ss"));
    dr_store_close(store);
}

static void filters_are_unsupported_and_the_epoch_is_one(void **state)
{
    (void)state;
    struct dr_survey *survey = NULL;
    uint64_t epoch = 0;
    open_on(start_server(NULL));
    assert_int_equal(dr_store_survey(store, "db0", NULL, &survey, &err), DR_UNSUPPORTED);
    must(dr_store_epoch(store, "db0.stats", &epoch, &err));
    assert_int_equal(epoch, 1);
    close_store();
}

static void survey_names_servers_sizes_and_those_that_are_down(void **state)
{
    (void)state;
    char url[128];
    struct dr_survey *survey = NULL;
    struct server *a = start_server(NULL);
    struct server *b = start_server(NULL);
    struct server *c = start_server(NULL);
    tell(a, "SET x 1");
    tell(b, "MSET y 1 z 2");
    kill_server(c);
    (void)snprintf(url, sizeof url, "redis://%s,%s,%s", c->name, a->name, b->name);
    open_store(url);
    assert_has(extra_of(job_s1, &survey), "\"scan\":true");
    assert_has(survey->extra, "\"cluster\":false");
    assert_has(survey->extra, c->name);
    assert_int_equal(survey->node_count, 3);
    assert_string_equal(survey->database, "db0");
    assert_int_equal(survey->collection_count, 1);
    assert_string_equal(survey->collection[0].name, "db0.stats");
    assert_int_equal(survey->collection[0].epoch, 1);
    assert_int_equal(survey->collection[0].chunk_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        const struct dr_chunk *chunk = &survey->collection[0].chunk[i];
        bool is_down = strcmp(chunk->node, c->name) == 0;
        assert_int_equal(chunk->is_rows_known, !is_down);
        assert_int_equal(chunk->rows, is_down ? 0 : strcmp(chunk->node, a->name) == 0 ? 1 : 2);
    }
    dr_survey_destroy(survey);
    kill_server(a);
    kill_server(b);
    assert_int_equal(dr_store_survey_spec(store, job_s1, &survey, &err), DR_UNREACHABLE);
    close_store();
}

static void survey_reads_the_marked_set_of_all_servers(void **state)
{
    (void)state;
    char url[128];
    struct dr_survey *survey = NULL;
    struct server *a = start_server(NULL);
    struct server *b = start_server(NULL);
    tell(a, "SADD set_with_services_marked_for_deletion s1 s2");
    tell(b, "SADD set_with_services_marked_for_deletion s2 s\"3");
    (void)snprintf(url, sizeof url, "redis://%s,%s", a->name, b->name);
    open_store(url);
    assert_has(extra_of("{\"marked\":true}", &survey), "\"s1\"");
    json_t *extra = json_loads(survey->extra, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(extra, "marked")), 3);
    json_decref(extra);
    dr_survey_destroy(survey);
    close_store();
}

static void a_replica_a_wrong_password_and_a_missing_database_are_refused(void **state)
{
    (void)state;
    char url[128];
    struct dr_survey *survey = NULL;
    struct server *primary = start_server(NULL);
    struct server *replica = start_replica_of(primary);
    open_on(replica);
    assert_int_equal(dr_store_survey_spec(store, job_s1, &survey, &err), DR_REFUSED);
    assert_has(err.msg, "is a replica");
    struct dr_range r = by_scan(replica, job_s1);
    const struct dr_budget budget = {.items_max = 10, .bytes_max = 1 << 20};
    assert_int_equal(dr_store_scan(store, &r, &budget, &at, batch, &err), DR_REFUSED);
    close_store();
    (void)snprintf(url, sizeof url, "redis://%s/99", primary->name);
    open_store(url);
    assert_int_equal(dr_store_survey_spec(store, job_s1, &survey, &err), DR_INPUT);
    close_store();
    tell(primary, "CONFIG SET requirepass richtig");
    (void)snprintf(url, sizeof url, "redis://:falsch@%s", primary->name);
    open_store(url);
    assert_int_equal(dr_store_survey_spec(store, job_s1, &survey, &err), DR_DENIED);
    assert_null(strstr(err.msg, "falsch"));
    close_store();
    open_on(primary);
    assert_int_equal(dr_store_survey_spec(store, job_s1, &survey, &err), DR_DENIED);
    close_store();
    (void)snprintf(url, sizeof url, "redis://default:richt%%69g@%s/3", primary->name);
    open_store(url);
    must(dr_store_survey_spec(store, job_s1, &survey, &err));
    assert_string_equal(survey->database, "db3");
    dr_survey_destroy(survey);
    close_store();
}

static void a_server_without_scan_is_told_and_its_scan_refused(void **state)
{
    (void)state;
    struct dr_survey *survey = NULL;
    struct server *v = start_server("--rename-command", "SCAN", "", NULL);
    uint64_t set = fill(v, job_s1, 3);
    open_on(v);
    assert_has(extra_of(job_s1, &survey), "\"scan\":false");
    dr_survey_destroy(survey);
    struct dr_range r = by_scan(v, job_s1);
    const struct dr_budget budget = {.items_max = 10, .bytes_max = 1 << 20};
    assert_int_equal(dr_store_scan(store, &r, &budget, &at, batch, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "SCAN");
    assert_int_equal(number(v, "DBSIZE"), set);
    close_store();
}

/* ---- what survives ---- */

static const char *const survivors[] = {
    "stats/{service:s2}/metric:m1/day:20191216",
    "stats/{service:s11}/metric:m1/day:20191216",
    "stats/{service:s1}/cinstances",
    "stats/{service:s1}/cinstances/cinstance:a1/metric:m1/day:20191216",
    "stats/{service:s1}/metric:m1/day:2019121",
    "stats/{service:s1}/metric:m1/day:20191216:x",
    "stats/{service:s1}/metric:m1",
    "stats/{service:s1}/metric:m1/fortnight:20191216",
    "stats/{service:s1}/unknown:a/metric:m1/day:20191216",
    "stats/{service:}/metric:m1/day:20191216",
    "stats/service:s1/metric:m1/day:20191216",
    "other",
};
enum { SURVIVORS = sizeof survivors / sizeof survivors[0] };

static void set_survivors(struct server *v)
{
    for (size_t i = 0; i < SURVIVORS; i++) {
        tell(v, "SET %s %d", survivors[i], (int)i);
    }
    tell(v, "RPUSH stats/{service:s1}/metric:m1/day:20191217 a b c");
}

static void check_survivors(struct server *v)
{
    for (size_t i = 0; i < SURVIVORS; i++) {
        char wanted[16];
        (void)snprintf(wanted, sizeof wanted, "%zu", i);
        assert_string_equal(text_of(v, "GET %s", survivors[i]), wanted);
    }
}

/* Each way of reading, with and without values, in batches of an odd size. */
static void only_the_named_keys_are_erased_whatever_the_way(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    static const uint64_t sizes[] = {1000, 7};
    open_on(v);
    for (unsigned way = 0; way < 8; way++) {
        tell(v, "FLUSHALL");
        uint64_t set = fill(v, job_s1, 3);
        tell(v, "DEL stats/{service:s1}/metric:m1/day:20191217");
        set = (uint64_t)number(v, "DBSIZE");
        set_survivors(v);
        bool is_scan = way & 1;
        bool with_values = way & 2;
        struct dr_range r = is_scan ? by_scan(v, job_s1) : by_keys(v, job_s1);
        uint64_t before = 0;
        must(dr_store_count(store, &r, &before, &err));
        assert_int_equal(before, set);
        struct dr_tally sum = erase_all(&r, sizes[way >> 2], with_values);
        bool is_blind = !is_scan && !with_values; /* a list under a stats name goes: names decide */
        assert_int_equal(sum.erased, set + is_blind);
        assert_int_equal(sum.changed, 0);
        if (!is_blind) {
            assert_int_equal(number(v, "LLEN stats/{service:s1}/metric:m1/day:20191217"), 3);
        }
        check_survivors(v);
        assert_int_equal(number(v, "DBSIZE"), SURVIVORS + !is_blind);
        must(dr_store_count(store, &r, &before, &err));
        assert_int_equal(before, 0);
    }
    close_store();
}

/* "types" in the job makes even the blind way look. */
static void types_that_are_asked_for_are_checked_without_values_too(void **state)
{
    (void)state;
    static const char spec[] = JOB("[\"s1\"]", ",\"types\":[\"string\"]");
    struct server *v = start_server(NULL);
    set_survivors(v);
    tell(v, "SET %s 1", nth_key(spec, 0));
    open_on(v);
    struct dr_range r = by_keys(v, spec);
    struct dr_tally sum = erase_all(&r, 100, false);
    assert_int_equal(sum.erased, 1);
    assert_int_equal(number(v, "LLEN stats/{service:s1}/metric:m1/day:20191217"), 3);
    check_survivors(v);
    close_store();
}

static void zero_values_takes_only_zeroes_and_looks_again(void **state)
{
    (void)state;
    static const char spec[] = JOB_ALL("[\"s1\"]", ",\"zero_values\":true");
    struct server *v = start_server(NULL);
    tell(v, "SET stats/{service:s1}/metric:m1/day:20191216 0");
    tell(v, "SET stats/{service:s1}/metric:m2/day:20191216 0");
    tell(v, "SET stats/{service:s1}/metric:m3/day:20191216 00");
    tell(v, "SET stats/{service:s1}/metric:m4/day:20191216 10");
    open_on(v);
    struct dr_range r = by_scan(v, spec);
    for (int with_values = 0; with_values < 2; with_values++) {
        at.len = 0;
        scan_one(&r, 100, with_values == 1);
        assert_int_equal(batch->count, 2);
    }
    at.len = 0;
    scan_one(&r, 100, false);
    tell(v, "INCR stats/{service:s1}/metric:m2/day:20191216");
    must(dr_store_erase(store, &r, batch, &tally, &err));
    assert_int_equal(tally.erased, 1);
    assert_int_equal(tally.changed, 1);
    assert_int_equal(number(v, "DBSIZE"), 3);
    close_store();
}

static void scans_are_resumed_by_another_handle(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    uint64_t set = fill(v, job_s1, 1);
    uint64_t found = 0;
    struct dr_cursor kept = {0};
    open_on(v);
    struct dr_range r = by_scan(v, job_all_s1);
    for (int i = 0; i < 10000; i++) { /* a page is re-read by each new handle: it is erased first */
        at = kept;
        scan_one(&r, 13, false);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        found += tally.erased;
        kept = batch->after;
        bool is_end = batch->is_end;
        close_store();
        open_on(v);
        if (is_end) {
            break;
        }
    }
    assert_int_equal(found, set);
    assert_int_equal(number(v, "DBSIZE"), 0);
    close_store();
}

static void a_restarted_server_is_scanned_from_the_start(void **state)
{
    (void)state;
    struct server *v = start_server("--appendonly", "yes", NULL);
    uint64_t set = fill(v, job_s1, 1);
    open_on(v);
    struct dr_range r = by_scan(v, job_all_s1);
    scan_one(&r, 13, false);
    at = batch->after;
    restart_server(v);
    const struct dr_budget budget = {.items_max = 1000000, .bytes_max = 1 << 26};
    assert_int_equal(dr_store_scan(store, &r, &budget, &at, batch, &err), DR_UNREACHABLE);
    must(dr_store_scan(store, &r, &budget, &at, batch, &err));
    assert_int_equal(batch->count, set);
    assert_true(batch->is_end);
    close_store();
}

/* ---- values, undo ---- */

static void values_and_absolute_expiry_survive_undo(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    const char *binary = nth_key(job_s1, 0);
    const char *expiring = nth_key(job_s1, 1);
    const char *short_lived = nth_key(job_s1, 2);
    const char *absent = nth_key(job_s1, 3);
    tell(v, "SET %s %b", binary, "a\0b\r\n\xff", (size_t)6);
    tell(v, "SET %s 17", expiring);
    tell(v, "PEXPIREAT %s 4000000000123", expiring);
    tell(v, "SET %s 18", short_lived);
    tell(v, "PEXPIRE %s 300", short_lived);
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    scan_one(&r, 1000, true);
    assert_int_equal(batch->count, 3);
    assert_int_equal(batch->looked, r.length);
    must(dr_store_probe(store, &r, batch, &tally, &err));
    assert_int_equal(tally.same, 3);
    must(dr_store_erase(store, &r, batch, &tally, &err));
    assert_int_equal(tally.erased, 3);
    assert_int_equal(number(v, "DBSIZE"), 0);
    must(dr_store_probe(store, &r, batch, &tally, &err));
    assert_int_equal(tally.absent, 3);
    (void)dr_wait_ms(400, NULL, NULL);
    must(dr_store_restore(store, &r, batch, &tally, &err));
    assert_int_equal(tally.restored, 2);
    assert_int_equal(tally.same, 1);
    must(dr_store_restore(store, &r, batch, &tally, &err));
    assert_int_equal(tally.same, 3);
    assert_int_equal(number(v, "PEXPIRETIME %s", expiring) == 4000000000123, 1);
    assert_int_equal(number(v, "PEXPIRETIME %s", binary), -1);
    redisReply *reply = raw(v, "GET %s", binary);
    assert_int_equal(reply->len, 6);
    assert_memory_equal(reply->str, "a\0b\r\n\xff", 6);
    freeReplyObject(reply);
    assert_int_equal(number(v, "EXISTS %s %s", absent, short_lived), 0);
    close_store();
}

static void restore_overwrites_only_when_asked(void **state)
{
    (void)state;
    static const char spec[] = JOB("[\"s1\"]", ",\"overwrite\":true");
    struct server *v = start_server(NULL);
    const char *key = nth_key(job_s1, 5);
    tell(v, "SET %s 1", key);
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    scan_one(&r, 1000, true);
    must(dr_store_erase(store, &r, batch, &tally, &err));
    tell(v, "SET %s 2", key);
    must(dr_store_restore(store, &r, batch, &tally, &err));
    assert_int_equal(tally.conflicts, 1);
    assert_string_equal(text_of(v, "GET %s", key), "2");
    r.spec = spec;
    must(dr_store_restore(store, &r, batch, &tally, &err));
    assert_int_equal(tally.restored, 1);
    assert_string_equal(text_of(v, "GET %s", key), "1");
    close_store();
}

static void a_payload_the_server_cannot_read_is_unsupported(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    tell(v, "SET %s 1", nth_key(job_s1, 5));
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    scan_one(&r, 1000, true);
    must(dr_store_erase(store, &r, batch, &tally, &err));
    /* The payload's checksum is its last eight bytes, in front of the encoded null of the expiry.
     */
    ((uint8_t *)(uintptr_t)batch->item[0].value)[batch->item[0].value_len - 4] ^= 1;
    assert_int_equal(dr_store_restore(store, &r, batch, &tally, &err), DR_UNSUPPORTED);
    assert_has(err.msg, "version 7.0.15");
    assert_int_equal(number(v, "DBSIZE"), 0);
    close_store();
}

static void what_changes_between_read_and_erase_is_left_alone(void **state)
{
    (void)state;
    struct server *v = start_server(NULL);
    open_on(v);
    struct dr_range r = by_keys(v, job_s1);
    for (int reconnected = 0; reconnected < 2; reconnected++) {
        tell(v, "FLUSHALL");
        uint64_t set = fill(v, job_s1, 1);
        at.len = 0;
        scan_one(&r, 100000, true);
        assert_int_equal(batch->count, set);
        tell(v, "INCR %s", nth_key(job_s1, 10));
        tell(v, "EXPIRE %s 1000", nth_key(job_s1, 20));
        tell(v, "DEL %s", nth_key(job_s1, 30));
        if (reconnected == 1) { /* the WATCHes are lost with the connection: all is compared */
            tell(v, "CLIENT KILL TYPE normal SKIPME yes");
            struct dr_health health;
            assert_int_equal(dr_store_health(store, v->name, &health, &err), DR_UNREACHABLE);
        }
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, set - 3);
        assert_int_equal(tally.changed, 2);
        assert_int_equal(tally.absent, 1);
        assert_int_equal(number(v, "DBSIZE"), 2);
        assert_string_equal(text_of(v, "GET %s", nth_key(job_s1, 10)), "12");
    }
    close_store();
}

/* More items than are watched: the rest is compared again. */
static void a_batch_longer_than_the_watched_part_is_erased_whole(void **state)
{
    (void)state;
    static const char spec[] = "{\"services\":[\"s1\"],\"applications\":[\"a\"],\"metrics\":[\"m\"]"
                               ",\"users\":[],\"from\":1577836800,\"to\":1584748800}";
    struct server *v = start_server(NULL);
    uint64_t set = fill(v, spec, 1);
    assert_true(set > 3000);
    open_on(v);
    struct dr_range r = by_keys(v, spec);
    scan_one(&r, 100000, true);
    assert_int_equal(batch->count, set);
    tell(v, "INCR %s", nth_key(spec, 10));
    tell(v, "INCR %s", nth_key(spec, 2500));
    must(dr_store_erase(store, &r, batch, &tally, &err));
    assert_int_equal(tally.erased, set - 2);
    assert_int_equal(tally.changed, 2);
    assert_int_equal(number(v, "DBSIZE"), 2);
    close_store();
}

/* Big collections, where the layout has them: shrunk under another name, put back whole. */
static void big_collections_are_shrunk_and_come_back_whole(void **state)
{
    (void)state;
    static const char spec[] =
        JOB("[\"s1\"]", ",\"types\":[\"list\",\"hash\",\"set\",\"zset\",\"stream\"]");
    struct server *v = start_server(NULL);
    static const char *const add[] = {"RPUSH", "SADD", "HSET", "ZADD", "XADD"};
    for (int with_values = 0; with_values < 2; with_values++) {
        tell(v, "FLUSHALL");
        assert_true(connect_raw(v));
        for (int i = 0; i < 5; i++) {
            for (int k = 0; k < 30000; k++) {
                const char *key = k == 0 ? nth_key(spec, (uint64_t)i) : NULL;
                static char held[256];
                if (key != NULL) {
                    (void)snprintf(held, sizeof held, "%s", key);
                }
                int rc = i < 2 ? redisAppendCommand(v->c, "%s %s element-%032d", add[i], held, k)
                         : i == 2
                             ? redisAppendCommand(v->c, "HSET %s field-%d value-%032d", held, k, k)
                         : i == 3 ? redisAppendCommand(v->c, "ZADD %s %d member-%032d", held, k, k)
                                  : redisAppendCommand(v->c, "XADD %s * f value-%032d", held, k);
                assert_int_equal(rc, REDIS_OK);
            }
            for (int k = 0; k < 30000; k++) {
                void *reply = NULL;
                assert_int_equal(redisGetReply(v->c, &reply), REDIS_OK);
                freeReplyObject(reply);
            }
        }
        open_on(v);
        struct dr_range r = by_keys(v, spec);
        scan_one(&r, 1000, with_values == 1);
        assert_int_equal(batch->count, 5);
        tell(v, "CONFIG RESETSTAT");
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, 5);
        assert_int_equal(number(v, "DBSIZE"), 0);
        assert_has(text_of(v, "INFO commandstats"), "cmdstat_ltrim:calls=2");
        assert_has(text_of(v, "INFO commandstats"), "cmdstat_spop:calls=2");
        assert_has(text_of(v, "INFO commandstats"), "cmdstat_hdel:calls=");
        assert_has(text_of(v, "INFO commandstats"), "cmdstat_zremrangebyrank:calls=2");
        assert_has(text_of(v, "INFO commandstats"), "cmdstat_xtrim:calls=2");
        if (with_values == 1) {
            must(dr_store_restore(store, &r, batch, &tally, &err));
            assert_int_equal(tally.restored, 5);
            assert_int_equal(number(v, "LLEN %s", nth_key(spec, 0)), 30000);
            assert_int_equal(number(v, "HLEN %s", nth_key(spec, 2)), 30000);
        }
        close_store();
    }
}

static void erased_keys_are_logged_with_their_values(void **state)
{
    (void)state;
    char spec[1024];
    char path[128];
    char *log = NULL;
    size_t bytes = 0;
    struct server *v = start_server(NULL);
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/erased.log", v->folder);
    (void)snprintf(spec, sizeof spec, JOB("[\"s1\"]", ",\"log_deleted\":\"%s\""), path);
    open_on(v);
    struct dr_range r = by_keys(v, spec);
    for (int with_values = 0; with_values < 2; with_values++) {
        tell(v, "SET %s 4711", nth_key(spec, 1));
        tell(v, "SET %s %b", nth_key(spec, 2), "x\ny", (size_t)3);
        at.len = 0;
        scan_one(&r, 1000, with_values == 1);
        must(dr_store_erase(store, &r, batch, &tally, &err));
        assert_int_equal(tally.erased, 2);
        must(dr_file_load(path, 65536, &log, &bytes, &err));
        char wanted[512];
        (void)snprintf(wanted, sizeof wanted, "%s 4711\n%s x\\ny\n", nth_key(spec, 1),
                       nth_key(spec, 2));
        assert_int_equal(bytes, strlen(wanted) * (size_t)(with_values + 1));
        assert_has(log, wanted);
        dr_free(log);
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close_store();
}

#define T(name) cmocka_unit_test_teardown(name, stop_servers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(open_refuses_a_broken_url_and_hides_the_password),
        T(filters_are_unsupported_and_the_epoch_is_one),
        T(survey_names_servers_sizes_and_those_that_are_down),
        T(survey_reads_the_marked_set_of_all_servers),
        T(a_replica_a_wrong_password_and_a_missing_database_are_refused),
        T(a_server_without_scan_is_told_and_its_scan_refused),
        T(only_the_named_keys_are_erased_whatever_the_way),
        T(types_that_are_asked_for_are_checked_without_values_too),
        T(zero_values_takes_only_zeroes_and_looks_again),
        T(scans_are_resumed_by_another_handle),
        T(a_restarted_server_is_scanned_from_the_start),
        T(values_and_absolute_expiry_survive_undo),
        T(restore_overwrites_only_when_asked),
        T(a_payload_the_server_cannot_read_is_unsupported),
        T(what_changes_between_read_and_erase_is_left_alone),
        T(a_batch_longer_than_the_watched_part_is_erased_whole),
        T(big_collections_are_shrunk_and_come_back_whole),
        T(erased_keys_are_logged_with_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
