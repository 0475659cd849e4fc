/* SPDX-License-Identifier: Apache-2.0 */
/* A source and two targets on one server: the database "drover" and two more. */
#ifndef DR_TESTS_SHARD_HELP_H
#define DR_TESTS_SHARD_HELP_H

#include <stdatomic.h>
#include <threads.h>

#include "sql/sql_help.h"
#include "store/shard.h"

enum { MARIA = 0, PG = 1, KINDS = 2, SOURCE = 0, TARGET = 1, SECOND = 2, PLACES = 3 };

#define OWNER "11111111-aaaa-4bbb-8ccc-000000000001"
#define OPERATION "22222222-aaaa-4bbb-8ccc-000000000002"

static struct sql_server server[KINDS];
static char url[KINDS][PLACES][SQL_URL_BYTES];
static struct dr_store *store[KINDS][PLACES];
static struct dr_sqldb *db[KINDS][PLACES];
static struct dr_sqldb *admin[KINDS];
static struct dr_err err;
static const char *const kind_name[KINDS] = {"mariadb", "postgres"};
static const char *const place_name[PLACES] = {"drover", "drover_b", "drover_c"};

static DR_UNUSED struct dr_shard_id id_of(const char *name)
{
    return (struct dr_shard_id){
        .name = name, .table = "users", .owner = OWNER, .operation = OPERATION};
}

static DR_UNUSED struct dr_store *open_place(int k, int place)
{
    struct dr_store *s = NULL;
    sql_must(dr_store_open(url[k][place], &s, &err), &err);
    return s;
}

static DR_UNUSED int start_places(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        sql_start(&server[k], kind_name[k]);
        admin[k] = sql_open(server[k].admin_url);
        sql_do(admin[k],
               k == PG ? "CREATE DATABASE drover_b OWNER drover" : "CREATE DATABASE drover_b");
        sql_do(admin[k],
               k == PG ? "CREATE DATABASE drover_c OWNER drover" : "CREATE DATABASE drover_c");
        if (k == MARIA) {
            sql_do(admin[k], "GRANT ALL ON drover_b.* TO drover@'%'");
            sql_do(admin[k], "GRANT ALL ON drover_c.* TO drover@'%'");
        }
        for (int p = 0; p < PLACES; p++) {
            const char *slash = strrchr(server[k].url, '/');
            (void)snprintf(url[k][p], SQL_URL_BYTES, "%.*s/%s", (int)(slash - server[k].url),
                           server[k].url, place_name[p]);
            store[k][p] = open_place(k, p);
            db[k][p] = sql_open(url[k][p]);
        }
    }
    return 0;
}

static DR_UNUSED int stop_places(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        for (int p = 0; p < PLACES; p++) {
            dr_store_close(store[k][p]);
            dr_sqldb_close(db[k][p]);
        }
        dr_sqldb_close(admin[k]);
        sql_stop(&server[k]);
    }
    return 0;
}

static DR_UNUSED void expect_code(int k, enum dr_code got, enum dr_code wanted, const char *what)
{
    if (got != wanted) {
        fail_msg("%s: %s: got %s (%s), expected %s", kind_name[k], what, dr_code_name(got), err.msg,
                 dr_code_name(wanted));
    }
    dr_err_clear(&err);
}
#define MUST(k, call) expect_code(k, call, DR_OK, #call)
#define GETS(k, call, code) expect_code(k, call, code, #call)

static DR_UNUSED struct dr_budget budget_of(uint64_t items)
{
    return (struct dr_budget){.items_max = items, .bytes_max = 16 << 20, .ms_max = 5000};
}

static DR_UNUSED uint64_t copy_all(int k, const struct dr_shard_id *id, uint64_t items)
{
    struct dr_budget b = budget_of(items);
    struct dr_cursor cursor = {0};
    struct dr_store *to[] = {store[k][TARGET]};
    uint64_t total = 0;
    bool is_end = false;
    for (int calls = 0; !is_end; calls++) {
        uint64_t rows = 0;
        uint64_t bytes = 0;
        assert_true(calls < 10000);
        MUST(k,
             dr_shard_copy(store[k][SOURCE], to, 1, id, &b, &cursor, &rows, &bytes, &is_end, &err));
        if (rows > items) {
            fail_msg("%s: %s: %" PRIu64 " rows behind %.*s", kind_name[k], id->name, rows,
                     (int)cursor.len, (const char *)cursor.data);
        }
        total += rows;
    }
    return total;
}

static DR_UNUSED uint64_t follow_all(int k, const struct dr_shard_id *id, uint64_t items)
{
    struct dr_budget b = budget_of(items);
    struct dr_store *to[] = {store[k][TARGET]};
    uint64_t total = 0;
    uint64_t left = 1;
    for (int calls = 0; left > 0; calls++) {
        uint64_t applied = 0;
        assert_true(calls < 10000);
        MUST(k, dr_shard_follow(store[k][SOURCE], to, 1, id, &b, &applied, &left, &err));
        assert_true(applied <= items);
        total += applied;
    }
    return total;
}

static DR_UNUSED void assert_equal_contents(int k, const struct dr_shard_id *id)
{
    struct dr_shard_digest a = {0};
    struct dr_shard_digest b = {0};
    MUST(k, dr_shard_digest(store[k][SOURCE], id, &a, &err));
    MUST(k, dr_shard_digest(store[k][TARGET], id, &b, &err));
    if (a.rows != b.rows || strcmp(a.text, b.text) != 0) {
        fail_msg("%s: %s: %" PRIu64 " rows %s at the source, %" PRIu64 " rows %s at the target",
                 kind_name[k], id->name, a.rows, a.text, b.rows, b.text);
    }
}

static DR_UNUSED void ensure_both(int k, const struct dr_shard_id *id, const char *columns)
{
    MUST(k, dr_shard_ensure(store[k][SOURCE], id, columns, "", &err));
    MUST(k, dr_shard_ensure(store[k][TARGET], id, columns, "", &err));
}

static DR_UNUSED void drop_both(int k, const struct dr_shard_id *id)
{
    for (int p = 0; p < PLACES; p++) {
        MUST(k, dr_shard_drop(store[k][p], id, false, &err));
        MUST(k, dr_shard_drop(store[k][p], id, true, &err));
        assert_int_equal(
            sql_number(db[k][p], k == PG ? "SELECT count(*) FROM pg_class c WHERE relname LIKE "
                                           "'drover\\_%' AND relname NOT LIKE 'drover\\_shards%' "
                                           "AND relpersistence = 'p'"
                                         : "SELECT COUNT(*) FROM information_schema.TABLES WHERE "
                                           "TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE "
                                           "'drover\\\\_%' AND TABLE_NAME <> 'drover_shards'"),
            0);
    }
}

#endif
