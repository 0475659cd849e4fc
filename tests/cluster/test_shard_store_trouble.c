/* SPDX-License-Identifier: Apache-2.0 */
/* What only a database does to a peer's points: being killed, being away, being somebody else's,
 * being emptied; and what a peer says about its store. */
#include <signal.h>

#include "cluster/shard_store_help.h"

/* --- a server that is killed
 * ------------------------------------------------------------------------------------------ */

struct steady {
    struct shard_rows *r;
    atomic_uint confirmed, failed;
    atomic_bool is_over;
    bool is_confirmed[100000];
    unsigned tried;
};

static void *write_steadily(void *arg)
{
    struct steady *w = arg;
    while (!atomic_load(&w->is_over) && w->tried < 99999) {
        struct dr_err err = {0};
        unsigned id = ++w->tried;
        enum dr_code rc = try_put(w->r, id, 10, "doc", &err);
        w->is_confirmed[id] = rc == DR_OK;
        if (rc == DR_OK) {
            atomic_fetch_add(&w->confirmed, 1);
        } else {
            if (rc != DR_UNREACHABLE && rc != DR_UNKNOWN && rc != DR_BUSY) {
                print_error("%s: %s\n", dr_code_name(rc), err.msg);
            }
            assert_true(rc == DR_UNREACHABLE || rc == DR_UNKNOWN || rc == DR_BUSY);
            assert_null(strstr(err.msg, "dr@ver"));
            assert_null(strstr(err.msg, "dr%40ver"));
            atomic_fetch_add(&w->failed, 1);
            (void)dr_wait_ms(5, NULL, NULL);
        }
    }
    return NULL;
}

static bool until_more(atomic_uint *count, unsigned than)
{
    dr_mono_ms end_at = dr_mono_now() + 20000;
    while (atomic_load(count) <= than && dr_mono_now() < end_at) {
        (void)dr_wait_ms(5, NULL, NULL);
    }
    return atomic_load(count) > than;
}

static bool mark_number(void *arg, const struct point_row *row)
{
    bool *is_there = arg;
    json_t *id = dr_point_key_to_json(row->key, row->key_len);
    is_there[json_integer_value(id)] = true;
    json_decref(id);
    return true;
}

static struct steady steady;
static bool is_there[100000];

static void a_killed_server_loses_nothing_confirmed_and_serves_again(void **state)
{
    (void)state;
    struct dr_err err = {0};
    pthread_t thread;
    steady = (struct steady){.r = take(shard_a)};
    memset(is_there, 0, sizeof is_there);
    assert_int_equal(pthread_create(&thread, NULL, write_steadily, &steady), 0);
    assert_true(until_more(&steady.confirmed, 50));
    sql_tell(&server[shop.kind], "crash");
    assert_true(until_more(&steady.failed, atomic_load(&steady.failed) + 3));
    assert_int_equal(dr_shard_walk(steady.r, NULL, mark_number, is_there, &err), DR_UNREACHABLE);
    sql_tell(&server[shop.kind], "again");
    assert_true(until_more(&steady.confirmed, atomic_load(&steady.confirmed) + 20));
    atomic_store(&steady.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    memset(is_there, 0, sizeof is_there);
    sql_must(dr_shard_walk(steady.r, NULL, mark_number, is_there, &err), &err);
    for (unsigned id = 1; id <= steady.tried; id++) {
        assert_true(is_there[id] || !steady.is_confirmed[id]);
        put(steady.r, id, 10, "doc"); /* repeated: whatever came of it, it is there once */
    }
    struct seen s = {0};
    dr_str_init(&s.text);
    sql_must(dr_shard_walk_after(steady.r, 0, see, &s, &err), &err);
    assert_int_equal(s.rows, steady.tried);
    dr_str_fini(&s.text);
    dr_shards_give(&shop.set, steady.r);
}

/* To the server and its children, which PostgreSQL has one of per connection. */
static void signal_server(int kind, int signal_number)
{
    char path[64];
    char line[4096] = "";
    pid_t pid = (pid_t)server[kind].pid;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    assert_int_equal(kill(pid, signal_number), 0);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    (void)fgets(line, sizeof line, f);
    (void)fclose(f);
    for (char *at = line; *at >= '0' && *at <= '9'; at += *at == ' ') {
        (void)kill((pid_t)strtol(at, &at, 10), signal_number);
    }
}

/* Other peers give a write up after 5 s. */
static void a_server_that_hangs_is_given_up_in_time(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    signal_server(shop.kind, SIGSTOP);
    dr_mono_ms began = dr_mono_now();
    enum dr_code rc = try_put(r, 1, 11, "b", &err);
    dr_mono_ms took = dr_mono_now() - began;
    signal_server(shop.kind, SIGCONT);
    if ((rc != DR_UNREACHABLE && rc != DR_UNKNOWN && rc != DR_BUSY) || took > 4900) {
        fail_msg("%s after %lld ms: %s", dr_code_name(rc), (long long)took, err.msg);
    }
    dr_mono_ms end_at = dr_mono_now() + 20000;
    while ((rc = try_put(r, 1, 12, "c", &err)) != DR_OK && dr_mono_now() < end_at) {
        (void)dr_wait_ms(20, NULL, NULL);
    }
    sql_must(rc, &err);
    want_all(r, N1 ":12:c;");
    dr_shards_give(&shop.set, r);
}

static void a_peer_starts_without_its_database_and_finds_it_later(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    dr_shards_give(&shop.set, r);
    close_shop(&shop);
    sql_tell(&server[shop.kind], "halt");
    open_shop(&shop);
    assert_int_equal(dr_shards_take(&shop.set, uuid_a, shard_a, false, &r, &err), DR_UNREACHABLE);
    assert_null(r);
    assert_false(dr_shards_remove(&shop.set, uuid_a, shard_a)); /* later, then */
    sql_tell(&server[shop.kind], "again");
    dr_mono_ms end_at = dr_mono_now() + 20000;
    while (dr_shards_take(&shop.set, uuid_a, shard_a, false, &r, &err) != DR_OK &&
           dr_mono_now() < end_at) {
        (void)dr_wait_ms(20, NULL, NULL);
    }
    assert_non_null(r);
    want_all(r, N1 ":10:a;");
    dr_shards_give(&shop.set, r);
}

/* --- whose database it is
 * ------------------------------------------------------------------------------------------ */

static void want_refused(struct shop *s, uint64_t peer_id, const char *store, const char *said)
{
    struct dr_err err = {0};
    assert_int_equal(try_open(s, peer_id, store, &err), DR_CONFLICT);
    if (strstr(err.msg, said) == NULL) {
        fail_msg("\"%s\" is not in: %s", said, err.msg);
    }
    assert_null(strstr(err.msg, "dr@ver"));
    assert_null(strstr(err.msg, "dr%40ver"));
}

static void a_database_of_another_peer_is_refused(void **state)
{
    (void)state;
    struct shop other = {.kind = shop.kind};
    new_dir(&other);
    want_refused(&other, PEER + 1, store_of(shop.kind), "holds the points of peer 7");
    drop_dir(&other);
    new_dir(&other);
    want_refused(&other, PEER, store_of(shop.kind), "of another data folder's peer 7");
    drop_dir(&other);
}

static void points_do_not_vanish_by_changing_the_store(void **state)
{
    (void)state;
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    dr_shards_give(&shop.set, r);
    close_shop(&shop);
    want_refused(&shop, PEER, NULL, "are in a database");
    want_refused(&shop, PEER, "sqlite:", "are in a database");
    open_shop(&shop);
    r = take(shard_a);
    want_all(r, N1 ":10:a;");
    dr_shards_give(&shop.set, r);
    /* And the other way round. */
    struct dr_err err = {0};
    struct shop files = {.kind = KIND_FILE};
    new_dir(&files);
    open_shop(&files);
    sql_must(dr_shards_take(&files.set, uuid_a, 1, true, &r, &err), &err);
    dr_shards_give(&files.set, r);
    close_shop(&files);
    want_refused(&files, PEER, store_of(shop.kind), "are in files");
    open_shop(&files);
    close_shop(&files);
    drop_dir(&files);
}

static void an_emptied_database_is_not_taken_for_one_without_points(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    dr_shards_give(&shop.set, r);
    close_shop(&shop);
    empty_database(shop.kind);
    want_refused(&shop, PEER, store_of(shop.kind), "does not hold the points of peer 7 any more");
    /* Only a shard's table: an error too, and a way out of it. */
    drop_dir(&shop);
    new_dir(&shop);
    open_shop(&shop);
    r = take(shard_a);
    put(r, 1, 10, "a");
    struct dr_sqldb *db = sql_open(server[shop.kind].url);
    char sql[160];
    (void)snprintf(sql, sizeof sql, "DROP TABLE %s", table_a);
    sql_do(db, sql);
    assert_int_equal(try_put(r, 2, 10, "b", &err), DR_NOT_FOUND);
    struct shard_rows *again = NULL;
    assert_int_equal(dr_shards_take(&shop.set, uuid_a, shard_a, true, &again, &err), DR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "drover_points_shards"));
    dr_shards_give(&shop.set, r);
    sql_do(db, "DELETE FROM drover_points_shards");
    dr_sqldb_close(db);
    r = take(shard_a);
    want_all(r, "");
    dr_shards_give(&shop.set, r);
}

static void an_address_that_is_none_is_refused_without_showing_it(void **state)
{
    (void)state;
    static const char *const bad[] = {"postgres://u:secret@h:99999/d", "mongodb://u:secret@h/d",
                                      "sqlite:/elsewhere", "mysql://u:secret@h", ""};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dr_err err = {0};
        struct shop s = {.kind = KIND_FILE};
        new_dir(&s);
        assert_int_equal(try_open(&s, PEER, bad[i], &err), DR_INPUT);
        assert_null(strstr(err.msg, "secret"));
        assert_non_null(strstr(err.msg, "--points-store"));
        drop_dir(&s);
    }
}

/* --- what the catalog says of it
 * ----------------------------------------------------------------------------------------- */

static enum dr_code apply_text(struct dr_catalog **c, uint64_t index, const char *entry)
{
    struct dr_err err = {0};
    struct dr_catalog *after = NULL;
    struct dr_apply_result result;
    sql_must(dr_catalog_apply(*c, index, entry, strlen(entry), &after, &result, &err), &err);
    json_decref(result.value);
    dr_catalog_unref(*c);
    *c = after;
    return result.code;
}

static void want_state(const struct dr_catalog *c, const char *wanted)
{
    struct dr_err err = {0};
    struct dr_catalog *again = NULL;
    char *text = NULL;
    size_t bytes = 0;
    uint64_t hash = 0;
    uint64_t hash_again = 1;
    sql_must(dr_catalog_encode(c, &text, &bytes, &err), &err);
    assert_string_equal(text, wanted);
    sql_must(dr_catalog_decode(text, bytes, &again, &err), &err);
    sql_must(dr_catalog_hash(c, &hash, &err), &err);
    sql_must(dr_catalog_hash(again, &hash_again, &err), &err);
    assert_true(hash == hash_again);
    dr_catalog_unref(again);
    dr_free(text);
}

static void a_state_without_stores_is_as_it_was_and_one_with_them_comes_back(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_catalog *c = NULL;
    struct dr_peer peer = {.id = 2, .format = 1, .uri = "http://b", .raft = "b:1", .version = "1"};
    char *entry = NULL;
    sql_must(dr_catalog_create(&c, &err), &err);
    assert_int_equal(apply_text(&c, 1,
                                "{\"v\":1,\"op\":\"peer\",\"id\":2,\"uri\":\"http://b\","
                                "\"raft\":\"b:1\",\"format\":1,\"version\":\"1\"}"),
                     DR_OK);
    want_state(c, "{\"aliases\":[],\"collections\":[],\"index\":1,\"peers\":[{\"format\":1,"
                  "\"id\":2,\"raft\":\"b:1\",\"uri\":\"http://b\",\"version\":\"1\"}],"
                  "\"v\":1}");
    sql_must(dr_entry_peer(&peer, &entry, &err), &err);
    assert_null(strstr(entry, "store")); /* what an older peer understands */
    dr_free(entry);
    dr_copy_text(peer.store, sizeof peer.store, "mysql://h:1/d");
    sql_must(dr_entry_peer(&peer, &entry, &err), &err);
    assert_int_equal(apply_text(&c, 2, entry), DR_OK);
    dr_free(entry);
    want_state(c, "{\"aliases\":[],\"collections\":[],\"index\":2,\"peers\":[{\"format\":1,"
                  "\"id\":2,\"raft\":\"b:1\",\"store\":\"mysql://h:1/d\","
                  "\"uri\":\"http://b\",\"version\":\"1\"}],\"v\":1}");
    assert_string_equal(dr_catalog_peer(c, 2)->store, "mysql://h:1/d");
    assert_int_equal(apply_text(&c, 3,
                                "{\"v\":1,\"op\":\"peer\",\"id\":2,\"uri\":\"http://b\","
                                "\"raft\":\"b:1\",\"format\":1,\"version\":\"1\","
                                "\"store\":\"a\\nb\"}"),
                     DR_INPUT);
    assert_string_equal(dr_catalog_peer(c, 2)->store, "mysql://h:1/d");
    dr_catalog_unref(c);
}

static const struct CMUnitTest of_databases[] = {
    PROMISE(a_server_that_hangs_is_given_up_in_time),
    PROMISE(a_killed_server_loses_nothing_confirmed_and_serves_again),
    PROMISE(a_peer_starts_without_its_database_and_finds_it_later),
    PROMISE(a_database_of_another_peer_is_refused),
    PROMISE(points_do_not_vanish_by_changing_the_store),
    PROMISE(an_emptied_database_is_not_taken_for_one_without_points),
};
static const struct CMUnitTest of_the_choice[] = {
    cmocka_unit_test(an_address_that_is_none_is_refused_without_showing_it),
    cmocka_unit_test(a_state_without_stores_is_as_it_was_and_one_with_them_comes_back),
};

int main(void)
{
    int failed =
        run_kinds(KIND_MARIADB, of_databases, sizeof of_databases / sizeof of_databases[0]);
    failed += cmocka_run_group_tests(of_the_choice, NULL, NULL);
    stop_servers();
    return failed;
}
