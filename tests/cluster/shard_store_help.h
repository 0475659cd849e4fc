/* SPDX-License-Identifier: Apache-2.0 */
/* One peer's shards for tests, on files, on a real MariaDB or on a real PostgreSQL: opening and
 * closing, short ways to write, rows as text. */
#ifndef DR_TESTS_SHARD_STORE_HELP_H
#define DR_TESTS_SHARD_STORE_HELP_H

#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "cluster/cluster_private.h"
#include "sql/sql_help.h"

enum {
    KIND_FILE,
    KIND_MARIADB,
    KIND_POSTGRES,
    KIND_COUNT,
    PEER = 7,
    TEXT_BYTES = 128,
    PROMISES_MAX = 32
};

static const char *const kind_name[] = {"file", "mariadb", "postgres"};
static const char uuid_a[] = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9";
static const char table_a[] = "drover_shard_0a1b2c3d4e5f40718293a4b5c6d7e8f9_4294967295";
static const uint32_t shard_a = UINT32_MAX; /* the longest name */

static struct sql_server server[KIND_COUNT];

/* --- one peer's store
 * -------------------------------------------------------------------------------------------- */

struct shop {
    int kind;
    char dir[64];
    struct shard_set set;
};
static struct shop shop;

static inline enum dr_code try_open(struct shop *s, uint64_t peer_id, const char *store,
                                    struct dr_err *err)
{
    const struct shard_place place = {.dir = s->dir, .store = store, .peer_id = peer_id};
    s->set = (struct shard_set){0};
    enum dr_code rc = dr_shards_init(&s->set, &place, err);
    if (rc != DR_OK) {
        dr_shards_fini(&s->set);
    }
    return rc;
}

static inline const char *store_of(int kind)
{
    return kind == KIND_FILE ? NULL : server[kind].url;
}

static inline void open_shop(struct shop *s)
{
    struct dr_err err = {0};
    sql_must(try_open(s, PEER, store_of(s->kind), &err), &err);
}

static inline void close_shop(struct shop *s)
{
    dr_shards_fini(&s->set);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* Nothing of an earlier test is left in the database. */
static inline void empty_database(int kind)
{
    static const char *const tables[] = {"drover_points_owner", "drover_points_shards"};
    struct dr_sqldb *db = sql_open(server[kind].url);
    char sql[160];
    for (unsigned id = 0; id < 20; id++) {
        char name[SHARD_TABLE_BYTES];
        dr_shard_table_name(uuid_a, id, name);
        (void)snprintf(sql, sizeof sql, "DROP TABLE IF EXISTS %s", name);
        sql_do(db, sql);
    }
    (void)snprintf(sql, sizeof sql, "DROP TABLE IF EXISTS %s", table_a);
    sql_do(db, sql);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(sql, sizeof sql, "DROP TABLE IF EXISTS %s", tables[i]);
        sql_do(db, sql);
    }
    dr_sqldb_close(db);
}

static inline void new_dir(struct shop *s)
{
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/drover-shard-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
}

static inline void drop_dir(struct shop *s)
{
    (void)nftw(s->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int begin(void **state)
{
    shop = (struct shop){.kind = (int)(intptr_t)*state};
    if (shop.kind != KIND_FILE) {
        empty_database(shop.kind);
    }
    new_dir(&shop);
    open_shop(&shop);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    dr_fault_arm(NULL);
#endif
    close_shop(&shop);
    drop_dir(&shop);
    return 0;
}

/* --- writing and reading
 * ---------------------------------------------------------------------------------------- */

static inline enum dr_code yes(void *arg, struct dr_err *err)
{
    (void)arg;
    (void)err;
    return DR_OK;
}

static inline enum dr_code no(void *arg, struct dr_err *err)
{
    bool *was_asked = arg;
    *was_asked = true;
    return dr_fail(err, DR_STALE, "changed");
}

static inline struct shard_rows *take(uint32_t shard_id)
{
    struct dr_err err = {0};
    struct shard_rows *r = NULL;
    sql_must(dr_shards_take(&shop.set, uuid_a, shard_id, true, &r, &err), &err);
    assert_non_null(r);
    return r;
}

static inline struct point_op op_of(uint64_t number, uint64_t version, const char *doc)
{
    return (struct point_op){
        .id = {.kind = DR_POINT_NUMBER, .number = number}, .version = version, .doc = doc};
}

static inline enum dr_code try_put(struct shard_rows *r, uint64_t number, uint64_t version,
                                   const char *doc, struct dr_err *err)
{
    const struct point_op op = op_of(number, version, doc);
    return dr_shard_write(r, &op, 1, yes, NULL, err);
}

static inline void put(struct shard_rows *r, uint64_t number, uint64_t version, const char *doc)
{
    struct dr_err err = {0};
    sql_must(try_put(r, number, version, doc, &err), &err);
}

/* All that a copy would see, as text: "id:version:doc;" in the order of seq. */
struct seen {
    struct dr_str text;
    int64_t seq;
    unsigned rows, rows_max;
};

static inline bool see(void *arg, const struct point_row *row)
{
    struct seen *s = arg;
    json_t *id = dr_point_key_to_json(row->key, row->key_len);
    struct dr_point_id again;
    assert_int_equal(dr_point_id_from_json(id, "id", &again, NULL), DR_OK);
    assert_true(row->hash == dr_point_hash(&again));
    json_decref(id);
    assert_true(row->seq > 0);
    s->seq = row->seq;
    s->rows++;
    for (size_t i = 0; i < row->key_len; i++) {
        dr_str_addf(&s->text, "%02x", row->key[i]);
    }
    dr_str_addf(&s->text, ":%" PRIu64 ":%s;", row->version, row->doc == NULL ? "-" : row->doc);
    return s->rows_max == 0 || s->rows < s->rows_max;
}

static inline char *all_of(struct shard_rows *r)
{
    struct dr_err err = {0};
    struct seen s = {0};
    dr_str_init(&s.text);
    sql_must(dr_shard_walk_after(r, 0, see, &s, &err), &err);
    char *text = dr_str_take(&s.text);
    assert_non_null(text);
    return text;
}

static inline void want_all(struct shard_rows *r, const char *wanted)
{
    char *found = all_of(r);
    assert_string_equal(found, wanted);
    dr_free(found);
}

static inline void want_live(struct shard_rows *r, uint64_t from, unsigned rows_max,
                             const char *wanted)
{
    struct dr_err err = {0};
    struct seen s = {.rows_max = rows_max};
    struct point_key key;
    const struct dr_point_id id = {.kind = DR_POINT_NUMBER, .number = from};
    dr_point_key_make(&id, &key);
    dr_str_init(&s.text);
    sql_must(dr_shard_walk(r, from == 0 ? NULL : &key, see, &s, &err), &err);
    assert_string_equal(dr_str_text(&s.text), wanted);
    dr_str_fini(&s.text);
}

#define N1 "000000000000000001"
#define N2 "000000000000000002"
#define N3 "000000000000000003"

/* --- running
 * --------------------------------------------------------------------------------------------- */

static inline bool is_built(int kind)
{
    switch (kind) {
#ifdef DROVER_STORE_MARIADB
    case KIND_MARIADB:
        return true;
#endif
#ifdef DROVER_STORE_POSTGRES
    case KIND_POSTGRES:
        return true;
#endif
    default:
        return kind == KIND_FILE;
    }
}

/* The list on one kind of store, which the test's name then says. */
static inline int run_kind(int kind, const struct CMUnitTest *list, unsigned count)
{
    static char name[KIND_COUNT][PROMISES_MAX][TEXT_BYTES];
    struct CMUnitTest tests[PROMISES_MAX];
    assert_true(count <= PROMISES_MAX);
    for (unsigned i = 0; i < count; i++) {
        tests[i] = list[i];
        (void)snprintf(name[kind][i], TEXT_BYTES, "%s: %s", kind_name[kind], list[i].name);
        tests[i].name = name[kind][i];
        tests[i].initial_state = (void *)(intptr_t)kind; /* NOLINT */
    }
    return _cmocka_run_group_tests(kind_name[kind], tests, count, NULL, NULL);
}

/* The list on every kind from `first` on that is built in; servers stay until stop_servers. */
static inline int run_kinds(int first, const struct CMUnitTest *list, unsigned count)
{
    int failed = 0;
    for (int kind = first; kind < KIND_COUNT; kind++) {
        if (!is_built(kind)) {
            print_message("%s: not built\n", kind_name[kind]);
            continue;
        }
        if (kind != KIND_FILE) {
            sql_start(&server[kind], kind_name[kind]);
        }
        failed += run_kind(kind, list, count);
    }
    return failed;
}

static inline void stop_servers(void)
{
    for (int kind = KIND_FILE; kind < KIND_COUNT; kind++) {
        sql_stop(&server[kind]);
    }
}

#define PROMISE(what)                                                                              \
    {                                                                                              \
#what, what, begin, end, NULL                                                              \
    }

#endif
