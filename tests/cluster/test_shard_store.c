/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of a shard's rows, kept by every kind of store: the same list runs on files, on a
 * real MariaDB and on a real PostgreSQL. */
#include "cluster/shard_store_help.h"

/* --- what all keep
 * --------------------------------------------------------------------------------------- */

static void the_higher_version_stays_whatever_the_order(void **state)
{
    (void)state;
    struct shard_rows *r = take(shard_a);
    put(r, 1, 20, "new");
    put(r, 1, 10, "old");
    put(r, 2, 10, "old");
    put(r, 2, 20, "new");
    put(r, 2, 20, "again"); /* the same write by another way */
    want_all(r, N1 ":20:new;" N2 ":20:new;");
    put(r, 1, 21, "newer"); /* and a change goes behind all others for who follows */
    want_all(r, N2 ":20:new;" N1 ":21:newer;");
    dr_shards_give(&shop.set, r);
}

static void a_deletion_is_kept_and_wins_over_what_is_older(void **state)
{
    (void)state;
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    put(r, 2, 10, "b");
    put(r, 1, 20, NULL);
    put(r, 1, 15, "late");
    put(r, 3, 20, NULL); /* of what was never there */
    put(r, 3, 19, "late");
    want_all(r, N2 ":10:b;" N1 ":20:-;" N3 ":20:-;");
    want_live(r, 0, 0, N2 ":10:b;");
    put(r, 1, 21, "back");
    want_live(r, 0, 0, N1 ":21:back;" N2 ":10:b;");
    dr_shards_give(&shop.set, r);
}

static void an_id_that_stands_twice_in_a_write_ends_with_its_highest_version(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    const struct point_op op[] = {op_of(1, 10, "a"), op_of(2, 30, "b"), op_of(1, 12, "c"),
                                  op_of(1, 11, "d"), op_of(2, 29, NULL)};
    sql_must(dr_shard_write(r, op, 5, yes, NULL, &err), &err);
    want_live(r, 0, 0, N1 ":12:c;" N2 ":30:b;");
    dr_shards_give(&shop.set, r);
}

static void a_write_whose_guard_says_no_does_nothing(void **state)
{
    (void)state;
    struct dr_err err = {0};
    bool was_asked = false;
    struct shard_rows *r = take(shard_a);
    const struct point_op op = op_of(1, 10, "a");
    assert_int_equal(dr_shard_write(r, &op, 1, no, &was_asked, &err), DR_STALE);
    assert_true(was_asked);
    want_all(r, "");
    dr_shards_give(&shop.set, r);
}

static char long_id[DR_POINT_TEXT_BYTES_MAX + 1];

static void ids_and_documents_come_back_to_the_byte(void **state)
{
    (void)state;
    static const char *const docs[] = {
        "", "{}", "{\"payload\":{\"a'b\":\"c\\\\d\\\"\\u0000 ? $1 %s ; -- x\"}}",
        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x91 \xef\xbf\xbf", "NULL"};
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    memset(long_id, 'z', DR_POINT_TEXT_BYTES_MAX);
    const struct dr_point_id ids[] = {
        {.kind = DR_POINT_NUMBER, .number = UINT64_MAX},
        {.kind = DR_POINT_UUID, .uuid = {0, 255, '\'', 0x5c}},
        {.kind = DR_POINT_TEXT, .text = long_id, .text_len = DR_POINT_TEXT_BYTES_MAX},
        {.kind = DR_POINT_TEXT, .text = "a ", .text_len = 2},
        {.kind = DR_POINT_TEXT, .text = "A", .text_len = 1}};
    for (unsigned i = 0; i < 5; i++) {
        const struct point_op op = {.id = ids[i], .version = i + 1, .doc = docs[i]};
        sql_must(dr_shard_write(r, &op, 1, yes, NULL, &err), &err);
    }
    char *big = dr_malloc(POINT_BYTES_MAX + 1);
    assert_non_null(big);
    memset(big, 'x', POINT_BYTES_MAX);
    big[POINT_BYTES_MAX] = '\0';
    const struct point_op bigs[] = {op_of(1, 1, big), op_of(2, 1, big), op_of(3, 1, "small")};
    sql_must(dr_shard_write(r, bigs, 3, yes, NULL, &err), &err);
    for (unsigned i = 0; i < 8; i++) {
        struct seen s = {0};
        struct point_key key;
        dr_str_init(&s.text);
        dr_point_key_make(i < 5 ? &ids[i] : &bigs[i - 5].id, &key);
        sql_must(dr_shard_get(r, &key, see, &s, &err), &err);
        assert_int_equal(s.rows, 1);
        const char *doc = strchr(strchr(dr_str_text(&s.text), ':') + 1, ':') + 1;
        const char *wanted = i < 5 ? docs[i] : bigs[i - 5].doc;
        assert_int_equal(strlen(doc), strlen(wanted) + 1);
        assert_memory_equal(doc, wanted, strlen(wanted));
        dr_str_fini(&s.text);
    }
    dr_free(big);
    dr_shards_give(&shop.set, r);
}

static void put_many(struct shard_rows *r, uint64_t first, unsigned count, uint64_t version)
{
    struct dr_err err = {0};
    struct point_op *op = dr_calloc(count, sizeof *op);
    assert_non_null(op);
    for (unsigned i = 0; i < count; i++) {
        op[i] = op_of(first + i, version, "doc");
    }
    sql_must(dr_shard_write(r, op, count, yes, NULL, &err), &err);
    dr_free(op);
}

static bool expect_number(void *arg, const struct point_row *row)
{
    uint64_t *next = arg;
    json_t *id = dr_point_key_to_json(row->key, row->key_len);
    assert_true((uint64_t)json_integer_value(id) == *next);
    json_decref(id);
    (*next)++;
    return true;
}

static void a_walk_has_every_point_in_order_from_where_it_begins(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = take(shard_a);
    put_many(r, 1001, 2000, 5); /* written last first */
    put_many(r, 1, 1000, 5);
    uint64_t next = 1;
    sql_must(dr_shard_walk(r, NULL, expect_number, &next, &err), &err);
    assert_int_equal(next, 3001);
    want_live(r, 1500, 2, "0000000000000005dc:5:doc;0000000000000005dd:5:doc;");
    want_live(r, 3000, 0, "000000000000000bb8:5:doc;");
    want_live(r, 3001, 0, "");
    dr_shards_give(&shop.set, r);
}

static void counting_and_cleaning_go_by_the_ring(void **state)
{
    (void)state;
    static const uint32_t both[] = {0, 1};
    struct dr_err err = {0};
    struct dr_ring *ring = NULL;
    uint64_t mine = 0;
    uint64_t wanted = 0;
    struct shard_rows *r = take(1);
    sql_must(dr_ring_create(both, 2, &ring, &err), &err);
    const struct dr_key_ring key_ring = {.shard_count = 2, .shard_id = both, .ring = ring};
    put_many(r, 1, 1500, 5);
    put(r, 2000, 5, NULL); /* long ago: it need not be remembered */
    put(r, 2001, (uint64_t)dr_wall_now() << 20, NULL);
    for (uint64_t i = 1; i <= 1500; i++) {
        const struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = i};
        wanted += dr_ring_owner(ring, dr_point_hash(&id)) == 1;
    }
    assert_true(wanted > 0 && wanted < 1500);
    sql_must(dr_shard_count(r, ring, &mine, &err), &err);
    assert_int_equal(mine, wanted);
    sql_must(dr_shard_clean(r, &key_ring, &err), &err);
    struct seen s = {0};
    dr_str_init(&s.text);
    sql_must(dr_shard_walk_after(r, 0, see, &s, &err), &err);
    assert_int_equal(s.rows, wanted + 1);
    dr_str_fini(&s.text);
    put(r, 3000, 6, NULL); /* clean for this ring already: not looked at again */
    sql_must(dr_shard_clean(r, &key_ring, &err), &err);
    sql_must(dr_shard_walk_after(r, s.seq, see, &s, &err), &err);
    assert_int_equal(s.rows, wanted + 2);
    dr_str_fini(&s.text);
    dr_ring_destroy(ring);
    dr_shards_give(&shop.set, r);
}

/* A copy has read up to a number; the rows go; the shard is opened anew. */
static void numbers_are_never_given_again(void **state)
{
    (void)state;
    static const uint32_t other[] = {2};
    struct dr_err err = {0};
    struct dr_ring *ring = NULL;
    struct seen s = {0};
    struct shard_rows *r = take(shard_a);
    put_many(r, 1, 10, 5);
    dr_str_init(&s.text);
    sql_must(dr_shard_walk_after(r, 0, see, &s, &err), &err);
    int64_t upto = s.seq;
    sql_must(dr_ring_create(other, 1, &ring, &err), &err);
    const struct dr_key_ring key_ring = {.shard_count = 1, .shard_id = other, .ring = ring};
    sql_must(dr_shard_clean(r, &key_ring, &err), &err);
    dr_shards_give(&shop.set, r);
    close_shop(&shop);
    open_shop(&shop);
    r = take(shard_a);
    want_all(r, "");
    put(r, 1, 6, "after");
    s.rows = 0;
    sql_must(dr_shard_walk_after(r, upto, see, &s, &err), &err);
    assert_int_equal(s.rows, 1);
    dr_str_fini(&s.text);
    dr_ring_destroy(ring);
    dr_shards_give(&shop.set, r);
}

static void what_was_written_is_there_after_a_restart_and_removed_is_gone(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct shard_rows *r = NULL;
    struct shard_rows *second = take(3);
    sql_must(dr_shards_take(&shop.set, uuid_a, shard_a, false, &r, &err), &err);
    assert_null(r); /* nothing was written, so there is none */
    r = take(shard_a);
    put(r, 1, 10, "a");
    put(second, 2, 10, "b");
    assert_false(dr_shards_remove(&shop.set, uuid_a, shard_a)); /* in use */
    dr_shards_give(&shop.set, r);
    dr_shards_give(&shop.set, second);
    close_shop(&shop);
    open_shop(&shop);
    sql_must(dr_shards_take(&shop.set, uuid_a, shard_a, false, &r, &err), &err);
    assert_non_null(r);
    want_all(r, N1 ":10:a;");
    dr_shards_give(&shop.set, r);
    assert_true(dr_shards_remove(&shop.set, uuid_a, shard_a));
    assert_true(dr_shards_remove(&shop.set, uuid_a, shard_a)); /* again does no harm */
    sql_must(dr_shards_take(&shop.set, uuid_a, shard_a, false, &r, &err), &err);
    assert_null(r);
    r = take(shard_a);
    want_all(r, "");
    dr_shards_give(&shop.set, r);
    r = take(3);
    want_all(r, N2 ":10:b;"); /* its neighbour has not been touched */
    dr_shards_give(&shop.set, r);
}

/* --- several at once
 * ----------------------------------------------------------------------------------------- */

enum { ROUNDS = 60, IDS = 40 };
struct writer {
    struct shard_rows *r;
    uint64_t odd;
    atomic_bool *is_done;
};

/* Both write the same ids; the versions of one lie between those of the other. */
static void *write_rounds(void *arg)
{
    struct writer *w = arg;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct dr_err err = {0};
        struct point_op op[IDS];
        for (uint64_t i = 0; i < IDS; i++) {
            uint64_t version = round * 2 + w->odd;
            op[i] =
                op_of(w->odd == 1 ? IDS - i : i + 1, version, (i + round) % 7 == 0 ? NULL : "doc");
        }
        sql_must(dr_shard_write(w->r, op, IDS, yes, NULL, &err), &err);
    }
    atomic_store(w->is_done, true);
    return NULL;
}

static bool note_version(void *arg, const struct point_row *row)
{
    struct seen *s = arg;
    uint64_t *version = (uint64_t *)(void *)s->text.data;
    assert_true(row->seq > s->seq); /* in order, none twice */
    s->seq = row->seq;
    version[row->key[8]] = row->version;
    return true;
}

static void two_write_at_once_and_who_follows_misses_nothing(void **state)
{
    (void)state;
    uint64_t version[256] = {0};
    struct dr_err err = {0};
    pthread_t thread[2];
    atomic_bool is_done[2] = {false, false};
    struct shard_rows *r = take(shard_a);
    struct writer w[2] = {{r, 0, &is_done[0]}, {r, 1, &is_done[1]}};
    struct seen s = {.text = {.data = (char *)(void *)version}};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, write_rounds, &w[i]), 0);
    }
    for (bool is_last = false; !is_last;) {
        is_last = atomic_load(&is_done[0]) && atomic_load(&is_done[1]);
        sql_must(dr_shard_walk_after(r, s.seq, note_version, &s, &err), &err);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    for (unsigned id = 1; id <= IDS; id++) {
        assert_true(version[id] == ROUNDS * 2 + 1);
    }
    char *all = all_of(r);
    unsigned rows = 0;
    for (const char *c = all; (c = strstr(c, ":121:")) != NULL; c++) {
        rows++;
    }
    assert_int_equal(rows, IDS);
    dr_free(all);
    dr_shards_give(&shop.set, r);
}

static void *write_own_shard(void *arg)
{
    uint32_t shard_id = *(uint32_t *)arg;
    for (unsigned i = 0; i < 20; i++) {
        struct shard_rows *r = take(shard_id);
        put(r, 1, i + 1, "doc");
        char wanted[64];
        (void)snprintf(wanted, sizeof wanted, N1 ":%u:doc;", i + 1);
        want_live(r, 0, 0, wanted);
        dr_shards_give(&shop.set, r);
    }
    return NULL;
}

static int64_t connections(int kind)
{
    struct dr_sqldb *db = sql_open(server[kind].url);
    int64_t count = sql_number(
        db, kind == KIND_POSTGRES ? "SELECT count(*) FROM pg_stat_activity WHERE usename = 'drover'"
                                  : "SELECT count(*) FROM information_schema.processlist"
                                    " WHERE user = 'drover'");
    dr_sqldb_close(db);
    return count - 1;
}

static void many_shards_share_few_connections(void **state)
{
    (void)state;
    pthread_t thread[16];
    uint32_t id[16];
    for (uint32_t i = 0; i < 16; i++) {
        id[i] = i;
        assert_int_equal(pthread_create(&thread[i], NULL, write_own_shard, &id[i]), 0);
    }
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    if (shop.kind != KIND_FILE) {
        assert_in_range(connections(shop.kind), 1, 8);
    }
}

#ifdef DROVER_FAULTS
static void a_write_whose_nth_statement_fails_leaves_nothing_behind(void **state)
{
    (void)state;
    struct shard_rows *r = take(shard_a);
    struct point_op op[150];
    put(r, 1, 5, "before");
    for (unsigned i = 0; i < 150; i++) {
        op[i] = op_of(i + 1, 10, "doc");
    }
    enum dr_code rc = DR_IO;
    unsigned n = 0;
    while (rc != DR_OK) {
        char spec[64];
        struct dr_err err = {0};
        (void)snprintf(spec, sizeof spec, "cluster.shard.statement@%u=error", ++n);
        dr_fault_arm(spec);
        rc = dr_shard_write(r, op, 150, yes, NULL, &err);
        dr_fault_arm(NULL);
        if (rc != DR_OK) {
            assert_int_equal(rc, DR_IO);
            want_all(r, N1 ":5:before;");
        }
    }
    assert_true(n > (shop.kind == KIND_FILE ? 150 : 3)); /* every statement has failed once */
    char *all = all_of(r);
    assert_non_null(strstr(all, "000000000000000096:10:doc;"));
    assert_null(strstr(all, "before"));
    dr_free(all);
    dr_shards_give(&shop.set, r);
}
#endif

static void an_application_finds_the_table_and_no_secret(void **state)
{
    (void)state;
    char *store = NULL;
    char *table = NULL;
    char wanted[TEXT_BYTES];
    struct shard_rows *r = take(shard_a);
    put(r, 1, 10, "a");
    dr_shards_give(&shop.set, r);
    assert_true(dr_shards_locate(shop.set.store, uuid_a, shard_a, &store, &table));
    if (shop.kind == KIND_FILE) {
        char *real = realpath(shop.dir, NULL);
        (void)snprintf(wanted, sizeof wanted, "sqlite:%s/shards/%s/4294967295.db", real, uuid_a);
        free(real);
        assert_string_equal(store, wanted);
        assert_string_equal(table, "points");
    } else {
        (void)snprintf(wanted, sizeof wanted, "%s://127.0.0.1:%d/drover",
                       shop.kind == KIND_POSTGRES ? "postgres" : "mysql", server[shop.kind].port);
        assert_string_equal(store, wanted);
        assert_string_equal(table, table_a);
        struct dr_sqldb *db = sql_open(server[shop.kind].url);
        char sql[160];
        (void)snprintf(sql, sizeof sql, "SELECT version FROM %s WHERE doc = 'a'", table);
        assert_int_equal(sql_number(db, sql), 10);
        dr_sqldb_close(db);
    }
    dr_free(store);
    dr_free(table);
}

/* --- the same writes, the same rows
 * ------------------------------------------------------------------------------------ */

static char *random_history(int kind)
{
    uint64_t seed = 12345;
    struct shop *s = &shop;
    *s = (struct shop){.kind = kind};
    if (kind != KIND_FILE) {
        empty_database(kind);
    }
    new_dir(s);
    open_shop(s);
    struct shard_rows *r = take(shard_a);
    for (unsigned i = 0; i < 120; i++) {
        struct dr_err err = {0};
        struct point_op op[90];
        unsigned count = 0;
        do {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            op[count++] = op_of((seed >> 33) % 60, 1 + (seed >> 40) % 500,
                                (seed >> 50) % 3 == 0 ? NULL
                                : (seed >> 51) % 2    ? "x"
                                                      : "y");
        } while (count < 90 && (seed >> 55) % 40 != 0);
        sql_must(dr_shard_write(r, op, count, yes, NULL, &err), &err);
    }
    char *all = all_of(r);
    dr_shards_give(&s->set, r);
    close_shop(s);
    drop_dir(s);
    return all;
}

static void the_same_writes_make_equal_replicas_in_every_store(void **state)
{
    (void)state;
    char *file = random_history(KIND_FILE);
    assert_true(strlen(file) > 500);
    for (int kind = KIND_MARIADB; kind < KIND_COUNT; kind++) {
        if (server[kind].kind[0] != '\0') {
            char *other = random_history(kind);
            assert_string_equal(other, file);
            dr_free(other);
        }
    }
    dr_free(file);
}

static const struct CMUnitTest of_all[] = {
    PROMISE(the_higher_version_stays_whatever_the_order),
    PROMISE(a_deletion_is_kept_and_wins_over_what_is_older),
    PROMISE(an_id_that_stands_twice_in_a_write_ends_with_its_highest_version),
    PROMISE(a_write_whose_guard_says_no_does_nothing),
    PROMISE(ids_and_documents_come_back_to_the_byte),
    PROMISE(a_walk_has_every_point_in_order_from_where_it_begins),
    PROMISE(counting_and_cleaning_go_by_the_ring),
    PROMISE(numbers_are_never_given_again),
    PROMISE(what_was_written_is_there_after_a_restart_and_removed_is_gone),
    PROMISE(two_write_at_once_and_who_follows_misses_nothing),
    PROMISE(many_shards_share_few_connections),
#ifdef DROVER_FAULTS
    PROMISE(a_write_whose_nth_statement_fails_leaves_nothing_behind),
#endif
    PROMISE(an_application_finds_the_table_and_no_secret),
};
static const struct CMUnitTest of_stores[] = {
    cmocka_unit_test(the_same_writes_make_equal_replicas_in_every_store),
};

int main(void)
{
    int failed = run_kinds(KIND_FILE, of_all, sizeof of_all / sizeof of_all[0]);
    failed += cmocka_run_group_tests(of_stores, NULL, NULL);
    stop_servers();
    return failed;
}
