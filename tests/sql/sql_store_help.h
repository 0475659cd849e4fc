/* SPDX-License-Identifier: Apache-2.0 */
/* Each test of the SQL adapter runs on both servers: MariaDB and PostgreSQL. */
#ifndef DR_TESTS_SQL_STORE_HELP_H
#define DR_TESTS_SQL_STORE_HELP_H

#include <stdarg.h>

#include "base/json.h"
#include "sql/sql_help.h"
#include "store/store.h"

struct side {
    const char *kind;
    bool is_pg;
    struct sql_server server;
    struct dr_sqldb *db; /* the superuser's, for what happens behind the adapter's back */
    struct dr_store *store;
    struct dr_batch *batch;
    struct dr_arena *arena;
    struct dr_err err;
};

static struct side sides[2] = {{.kind = "mariadb"}, {.kind = "postgres", .is_pg = true}};

static DR_UNUSED int start_both(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        sql_start(&sides[i].server, sides[i].kind);
        sides[i].db = sql_open(sides[i].server.admin_url);
    }
    return 0;
}

static DR_UNUSED int stop_both(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        dr_sqldb_close(sides[i].db);
        sql_stop(&sides[i].server);
    }
    return 0;
}

#define assert_ok(s, call)                                                                         \
    do {                                                                                           \
        enum dr_code rc_ = (call);                                                                 \
        if (rc_ != DR_OK) {                                                                        \
            fail_msg("%s: %s: %s: %s", (s)->kind, #call, dr_code_name(rc_), (s)->err.msg);         \
        }                                                                                          \
    } while (0)

#define assert_fails(s, code, call)                                                                \
    do {                                                                                           \
        enum dr_code rc_ = (call);                                                                 \
        if (rc_ != (code)) {                                                                       \
            fail_msg("%s: %s: %s instead of %s: %s", (s)->kind, #call, dr_code_name(rc_), #code,   \
                     rc_ == DR_OK ? "" : (s)->err.msg);                                            \
        }                                                                                          \
    } while (0)

#define assert_says(s, text)                                                                       \
    do {                                                                                           \
        if (strstr((s)->err.msg, text) == NULL) {                                                  \
            fail_msg("%s: \"%s\" is not in: %s", (s)->kind, text, (s)->err.msg);                   \
        }                                                                                          \
    } while (0)

/* A statement for both servers. */
static DR_UNUSED void run(struct side *s, const char *fmt, ...) DR_PRINTF(2, 3);
static DR_UNUSED void run(struct side *s, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert_true(n > 0 && (size_t)n < sizeof text);
    sql_do(s->db, text);
}

/* What each server calls it. */
static DR_UNUSED void run_each(struct side *s, const char *mariadb, const char *postgres)
{
    sql_do(s->db, s->is_pg ? postgres : mariadb);
}

static DR_UNUSED void reopen(struct side *s, const char *options)
{
    char url[SQL_URL_BYTES * 3];
    dr_store_close(s->store);
    s->store = NULL;
    (void)snprintf(url, sizeof url, "%s%s%s", s->server.admin_url, options[0] == '\0' ? "" : "?",
                   options);
    assert_ok(s, dr_store_open(url, &s->store, &s->err));
}

static DR_UNUSED int fresh(void **state)
{
    struct side *s = *state;
    dr_err_clear(&s->err);
    run_each(s, "DROP DATABASE IF EXISTS shop", "DROP SCHEMA IF EXISTS shop CASCADE");
    run_each(s, "CREATE DATABASE shop", "CREATE SCHEMA shop");
    run_each(s, "USE shop", "SET search_path = shop, public");
    s->arena = dr_arena_create(65536);
    assert_non_null(s->arena);
    assert_ok(s, dr_batch_create(&s->batch, &s->err));
    reopen(s, "");
    return 0;
}

static DR_UNUSED int done(void **state)
{
    struct side *s = *state;
    dr_store_close(s->store);
    s->store = NULL;
    dr_batch_destroy(s->batch);
    dr_arena_destroy(s->arena);
    return 0;
}

/* ---- ranges ---- */

/* A range of a table "shop.name"; `spec` may be NULL. */
static DR_UNUSED struct dr_range range_of(struct side *s, const char *table, const char *spec)
{
    struct dr_range r = {.node = "main", .access = DR_BY_SCAN, .spec = spec};
    r.collection = dr_arena_printf(s->arena, "shop.%s", table);
    r.is_spec_of_request = spec != NULL;
    assert_non_null(r.collection);
    assert_ok(s, dr_store_epoch(s->store, r.collection, &r.epoch, &s->err));
    return r;
}

static DR_UNUSED const struct dr_filter *filter_of(struct side *s, const char *json)
{
    json_t *j = NULL;
    const struct dr_filter *f = NULL;
    assert_ok(s, dr_json_parse("filter", json, strlen(json), &j, &s->err));
    assert_ok(s, dr_filter_parse(j, s->arena, &f, &s->err));
    json_decref(j);
    return f;
}

static DR_UNUSED void read_some(struct side *s, const struct dr_range *r, uint64_t items,
                                bool with_values)
{
    struct dr_budget b = {
        .items_max = items, .bytes_max = 1 << 26, .ms_max = 60000, .with_values = with_values};
    assert_ok(s, dr_store_scan(s->store, r, &b, NULL, s->batch, &s->err));
}

/* All items, over as many batches as it takes; the number of rows given. */
static DR_UNUSED uint64_t walk(struct side *s, const struct dr_range *r, uint64_t items,
                               void (*see)(void *arg, const struct dr_item *item), void *arg)
{
    struct dr_budget b = {.items_max = items, .bytes_max = 1 << 26, .ms_max = 60000};
    struct dr_cursor *at = calloc(1, sizeof *at);
    uint64_t rows = 0;
    uint64_t batches = 0;
    assert_non_null(at);
    do {
        assert_ok(s, dr_store_scan(s->store, r, &b, at, s->batch, &s->err));
        rows += s->batch->count;
        for (uint64_t i = 0; see != NULL && i < s->batch->count; i++) {
            see(arg, &s->batch->item[i]);
        }
        *at = s->batch->after;
        assert_true(++batches < 100000);
    } while (!s->batch->is_end);
    free(at);
    return rows;
}

static DR_UNUSED struct dr_tally erase(struct side *s, const struct dr_range *r)
{
    struct dr_tally tally;
    assert_ok(s, dr_store_erase(s->store, r, s->batch, &tally, &s->err));
    return tally;
}

static DR_UNUSED struct dr_tally restore(struct side *s, const struct dr_range *r)
{
    struct dr_tally tally;
    assert_ok(s, dr_store_restore(s->store, r, s->batch, &tally, &s->err));
    return tally;
}

static DR_UNUSED struct dr_tally probe(struct side *s, const struct dr_range *r)
{
    struct dr_tally tally;
    assert_ok(s, dr_store_probe(s->store, r, s->batch, &tally, &s->err));
    return tally;
}

static DR_UNUSED int64_t rows_of(struct side *s, const char *table)
{
    char text[128];
    (void)snprintf(text, sizeof text, "SELECT count(*) FROM shop.%s", table);
    return sql_number(s->db, text);
}

/* ids 1 .. count */
static DR_UNUSED void make_numbers(struct side *s, const char *table, int count)
{
    run(s, "CREATE TABLE shop.%s (id bigint PRIMARY KEY, n int, t varchar(40))", table);
    if (s->is_pg) {
        run(s, "INSERT INTO shop.%s SELECT i, i %% 10, 'row ' || i FROM generate_series(1, %d) i",
            table, count);
    } else {
        run(s, "INSERT INTO shop.%s SELECT seq, seq %% 10, CONCAT('row ', seq) FROM seq_1_to_%d",
            table, count);
    }
}

#define ON_BOTH(f)                                                                                 \
    {#f " on mariadb", f, fresh, done, &sides[0]},                                                 \
    {                                                                                              \
#f " on postgres", f, fresh, done, &sides[1]                                               \
    }

#endif
