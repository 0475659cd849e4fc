/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the sample cluster that the demonstration, the crash tests and the benchmarks work on.
 *
 *   drover-sample DIR ROWS [TENANT...]     (tenants: acme and globex when none is named)
 *
 * DIR/cluster.db is the layout file, DIR/s1.db .. s4.db are the shards. Each tenant has
 *   orders    range-sharded by (customer), 16 chunks, half of ROWS, with NULL and text keys at the
 *             ends of the key space
 *   events    hash-sharded by (user), 16 chunks, two fifths of ROWS
 *   settings  unsharded on s1, the rest
 * The same arguments always give the same rows. The file is no part of drover itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sql.h"
#include "store/value.h"

enum { SHARDS = 4, CHUNKS = 16 };

static struct dr_sql layout;
static struct dr_sql shard[SHARDS];
static struct dr_err err;

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        fprintf(stderr, "drover-sample: %s\n", err.msg);
        exit(1);
    }
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static void open_all(const char *dir)
{
    char path[4096];
    (void)mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/cluster.db", dir);
    must(dr_sql_open(&layout, path, DR_SQL_CREATE, 5000, &err));
    must(dr_sql_exec(&layout,
                     "PRAGMA journal_mode=WAL;"
                     "CREATE TABLE drover_shards(name TEXT PRIMARY KEY, path TEXT NOT NULL);"
                     "CREATE TABLE drover_collections(database TEXT, name TEXT, sharding TEXT,"
                     " key TEXT, hash_column TEXT, primary_node TEXT, epoch INTEGER,"
                     " PRIMARY KEY(database, name));"
                     "CREATE TABLE drover_chunks(database TEXT, name TEXT, node TEXT, min TEXT,"
                     " max TEXT);",
                     &err));
    for (int i = 0; i < SHARDS; i++) {
        snprintf(path, sizeof path, "%s/s%d.db", dir, i + 1);
        must(dr_sql_open(&shard[i], path, DR_SQL_CREATE, 5000, &err));
        must(dr_sql_exec(&shard[i], "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; BEGIN;",
                         &err));
        must(dr_sql_execf(&layout, &err, "INSERT INTO drover_shards VALUES('s%d', 's%d.db')", i + 1,
                          i + 1));
    }
    must(dr_sql_exec(&layout, "BEGIN", &err));
}

static void add_chunk(const char *tenant, const char *table, int chunk, const char *min,
                      const char *max)
{
    must(dr_sql_execf(&layout, &err, "INSERT INTO drover_chunks VALUES(%Q, %Q, 's%d', %Q, %Q)",
                      tenant, table, chunk % SHARDS + 1, min, max));
}

static sqlite3_stmt *insert_into(struct dr_sql *s, const char *tenant, const char *table,
                                 const char *marks)
{
    char sql[512];
    sqlite3_stmt *st = NULL;
    snprintf(sql, sizeof sql, "INSERT INTO \"%s.%s\" VALUES(%s)", tenant, table, marks);
    must(dr_sql_prepare(s, sql, &st, &err));
    return st;
}

static void make_tables(const char *tenant)
{
    for (int i = 0; i < SHARDS; i++) {
        must(dr_sql_execf(
            &shard[i], &err,
            "CREATE TABLE \"%w.orders\"(id INTEGER PRIMARY KEY, customer, total REAL, note TEXT,"
            " proof BLOB, cents INTEGER GENERATED ALWAYS AS (CAST(total * 100 AS INTEGER)) "
            "VIRTUAL);"
            "CREATE INDEX \"%w.orders_by_customer\" ON \"%w.orders\"(customer);"
            "CREATE TABLE \"%w.events\"(id INTEGER PRIMARY KEY, user TEXT, user_hash INTEGER,"
            " at INTEGER, body TEXT);"
            "CREATE INDEX \"%w.events_by_hash\" ON \"%w.events\"(user_hash);",
            tenant, tenant, tenant, tenant, tenant, tenant));
    }
    must(dr_sql_execf(&shard[0], &err,
                      "CREATE TABLE \"%w.settings\"(name TEXT, value BLOB, PRIMARY KEY(name))"
                      " WITHOUT ROWID;",
                      tenant));
    must(dr_sql_execf(&layout, &err,
                      "INSERT INTO drover_collections VALUES"
                      "(%Q,'orders','range','[\"customer\"]',NULL,'s1',1),"
                      "(%Q,'events','hashed','[\"user\"]','user_hash','s1',1),"
                      "(%Q,'settings','none','[]',NULL,'s1',1)",
                      tenant, tenant, tenant));
}

/* Customers 0 .. rows-1, evenly cut; the first chunk starts at MIN and also holds NULLs and
 * negative numbers, the last ends at MAX and also holds texts. */
static void fill_orders(const char *tenant, uint64_t rows, uint64_t seed)
{
    sqlite3_stmt *st[SHARDS];
    char min[64];
    char max[64];
    for (int i = 0; i < SHARDS; i++) {
        st[i] = insert_into(&shard[i], tenant, "orders", "?,?,?,?,?");
    }
    for (int c = 0; c < CHUNKS; c++) {
        snprintf(min, sizeof min, "[%" PRIu64 "]", rows * (uint64_t)c / CHUNKS);
        snprintf(max, sizeof max, "[%" PRIu64 "]", rows * (uint64_t)(c + 1) / CHUNKS);
        add_chunk(tenant, "orders", c, c == 0 ? "[{\"$min\":1}]" : min,
                  c == CHUNKS - 1 ? "[{\"$max\":1}]" : max);
    }
    for (uint64_t n = 0; n < rows; n++) {
        uint64_t chunk = n * CHUNKS / rows;
        while (rows * (chunk + 1) / CHUNKS <= n) {
            chunk++;
        }
        uint64_t r = mix(seed + n);
        sqlite3_stmt *s = st[chunk % SHARDS];
        char text[64];
        (void)sqlite3_bind_int64(s, 1, (int64_t)n + 1);
        if (chunk == 0 && n % 50 == 7) {
            (void)sqlite3_bind_null(s, 2);
        } else if (chunk == 0 && n % 50 == 9) {
            (void)sqlite3_bind_int64(s, 2, -(int64_t)n);
        } else if (chunk == CHUNKS - 1 && n % 50 == 11) {
            snprintf(text, sizeof text, "walk-in %" PRIu64, n);
            (void)sqlite3_bind_text(s, 2, text, -1, SQLITE_TRANSIENT);
        } else {
            (void)sqlite3_bind_int64(s, 2, (int64_t)n);
        }
        (void)sqlite3_bind_double(s, 3, (double)(r % 1000000) / 100.0);
        snprintf(text, sizeof text, "order %" PRIx64 " \xc3\xbc", r);
        (void)sqlite3_bind_text(s, 4, text, -1, SQLITE_TRANSIENT);
        if (n % 3 == 0) {
            (void)sqlite3_bind_null(s, 5);
        } else {
            (void)sqlite3_bind_blob(s, 5, &r, sizeof r, SQLITE_TRANSIENT);
        }
        must(dr_sql_run(&shard[chunk % SHARDS], s, &err));
    }
    for (int i = 0; i < SHARDS; i++) {
        sqlite3_finalize(st[i]);
    }
}

static int64_t hash_bound(int chunk) /* lower bound of a hashed chunk other than the first */
{
    return (int64_t)(((__int128)chunk << 64) / CHUNKS + INT64_MIN);
}

static void fill_events(const char *tenant, uint64_t rows, uint64_t seed)
{
    sqlite3_stmt *st[SHARDS];
    char min[64];
    char max[64];
    for (int i = 0; i < SHARDS; i++) {
        st[i] = insert_into(&shard[i], tenant, "events", "?,?,?,?,?");
    }
    for (int c = 0; c < CHUNKS; c++) {
        snprintf(min, sizeof min, "[%" PRId64 "]", hash_bound(c));
        snprintf(max, sizeof max, "[%" PRId64 "]", c + 1 < CHUNKS ? hash_bound(c + 1) : 0);
        add_chunk(tenant, "events", c, c == 0 ? "[{\"$min\":1}]" : min,
                  c == CHUNKS - 1 ? "[{\"$max\":1}]" : max);
    }
    for (uint64_t n = 0; n < rows; n++) {
        char user[64];
        char body[96];
        snprintf(user, sizeof user, "user-%" PRIu64, mix(seed + n / 3) % (rows + 1));
        struct dr_value v = {.type = DR_V_TEXT, .data = user, .len = strlen(user)};
        int64_t hash = dr_value_hash(&v);
        int chunk = 0;
        while (chunk + 1 < CHUNKS && hash >= hash_bound(chunk + 1)) {
            chunk++;
        }
        sqlite3_stmt *s = st[chunk % SHARDS];
        (void)sqlite3_bind_int64(s, 1, (int64_t)n + 1);
        (void)sqlite3_bind_text(s, 2, user, -1, SQLITE_TRANSIENT);
        (void)sqlite3_bind_int64(s, 3, hash);
        (void)sqlite3_bind_int64(s, 4, 1700000000 + (int64_t)n);
        snprintf(body, sizeof body, "{\"seen\":%" PRIu64 ",\"page\":\"/p/%" PRIu64 "\"}", n,
                 mix(n) % 997);
        (void)sqlite3_bind_text(s, 5, body, -1, SQLITE_TRANSIENT);
        must(dr_sql_run(&shard[chunk % SHARDS], s, &err));
    }
    for (int i = 0; i < SHARDS; i++) {
        sqlite3_finalize(st[i]);
    }
}

static void fill_settings(const char *tenant, uint64_t rows)
{
    sqlite3_stmt *st = insert_into(&shard[0], tenant, "settings", "?,?");
    for (uint64_t n = 0; n < rows; n++) {
        char name[64];
        uint64_t value = mix(n);
        snprintf(name, sizeof name, "setting.%08" PRIx64, n);
        (void)sqlite3_bind_text(st, 1, name, -1, SQLITE_TRANSIENT);
        (void)sqlite3_bind_blob(st, 2, &value, (int)(n % 9), SQLITE_TRANSIENT);
        must(dr_sql_run(&shard[0], st, &err));
    }
    sqlite3_finalize(st);
    must(dr_sql_execf(&layout, &err,
                      "INSERT INTO drover_chunks VALUES(%Q,'settings','s1','[]','[]')", tenant));
}

int main(int argc, char **argv)
{
    static const char *both[] = {"acme", "globex"};
    uint64_t rows = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    if (rows < 100) {
        fprintf(stderr, "usage: drover-sample DIR ROWS [TENANT...]   (ROWS from 100)\n");
        return 2;
    }
    const char *const *tenant = argc > 3 ? (const char *const *)argv + 3 : both;
    int tenants = argc > 3 ? argc - 3 : 2;
    open_all(argv[1]);
    for (int i = 0; i < tenants; i++) {
        uint64_t orders = rows / 2;
        uint64_t events = rows * 2 / 5;
        make_tables(tenant[i]);
        fill_orders(tenant[i], orders, (uint64_t)i * 1000003);
        fill_events(tenant[i], events, (uint64_t)i * 7000003);
        fill_settings(tenant[i], rows - orders - events);
    }
    for (int i = 0; i < SHARDS; i++) {
        must(dr_sql_exec(&shard[i], "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)", &err));
        dr_sql_close(&shard[i]);
    }
    must(dr_sql_exec(&layout, "COMMIT", &err));
    dr_sql_close(&layout);
    return 0;
}
