/* SPDX-License-Identifier: Apache-2.0 */
/* A sharded table on SQLite files, a catalog in a file, and writers that keep to the rule: write to
 * all holders of the map that was read, the first one first; refused, ask the catalog again and
 * begin anew. What they were told is done has to be there in the end, whatever happened. */
#ifndef DR_TESTS_UNIT_FLEET_WORLD_H
#define DR_TESTS_UNIT_FLEET_WORLD_H

#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "base/backoff.h"
#include "store/shard.h"
#include "store/world.h"
#include "unit/sqlite_store_help.h"

#define OWNER "11111111-1111-4111-8111-111111111111"
#define OPERATION "22222222-2222-4222-8222-222222222222"
#define SHARD                                                                                      \
    "{\"name\":\"users_s0\",\"table\":\"users\",\"owner\":\"" OWNER                                \
    "\",\"operation\":\"" OPERATION "\"}"
#define COLUMNS "id INTEGER PRIMARY KEY, n INTEGER, v TEXT"

enum { NODES = 4, WRITERS = 3, IDS_PER_WRITER = 60, ROWS_BEFORE = 120 };

static const struct dr_shard_id users_s0 = {
    .name = "users_s0", .table = "users", .owner = OWNER, .operation = OPERATION};

/* ---- the catalog ---- */

/* What is told instead of the truth: of changes, and of questions (a switch to where the shard is).
 */
static int catalog_mute;   /* so many changes are done and answered with DR_UNKNOWN */
static int catalog_deaf;   /* so many are not done and answered with DR_UNKNOWN */
static int catalog_wrong;  /* so many are refused */
static int catalog_silent; /* so many questions are not answered */

static int lock_catalog(void)
{
    int fd = open(in_folder("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    return fd;
}

static json_t *load_record(void)
{
    char path[160];
    json_t *record = NULL;
    (void)snprintf(path, sizeof path, "%s/catalog.json", folder);
    return dr_json_load(path, &record, NULL) == DR_OK ? record : NULL;
}

static void save_record(json_t *record)
{
    char path[160];
    char fresh[160];
    (void)snprintf(path, sizeof path, "%s/catalog.json", folder);
    (void)snprintf(fresh, sizeof fresh, "%s/catalog.new", folder);
    assert_int_equal(json_dump_file(record, fresh, JSON_COMPACT), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static json_t *read_record(void)
{
    int fd = lock_catalog();
    json_t *record = load_record();
    (void)close(fd);
    return record;
}

static enum dr_code fake_read(void *arg, const char *table, json_t **out, struct dr_err *e)
{
    (void)arg;
    *out = read_record();
    const char *name = json_string_value(json_object_get(*out, "name"));
    if (name == NULL || strcmp(name, table) != 0) {
        json_decref(*out);
        *out = NULL;
        return dr_fail(e, DR_NOT_FOUND, "no table %s", table);
    }
    return DR_OK;
}

static enum dr_code fake_list(void *arg, json_t **out, struct dr_err *e)
{
    (void)arg;
    (void)e;
    *out = json_array();
    json_t *record = read_record();
    return record == NULL || json_array_append_new(*out, record) == 0 ? DR_OK : DR_NOMEM;
}

static enum dr_code apply_switch(json_t *record, const json_t *entry, struct dr_err *e)
{
    json_t *shard = json_array_get(json_object_get(record, "shards"),
                                   (size_t)json_integer_value(json_object_get(entry, "shard")));
    json_t *now = json_object_get(shard, "holders");
    json_t *to = json_object_get(entry, "to");
    if (json_equal(now, to)) {
        return DR_OK;
    }
    if (!json_equal(now, json_object_get(entry, "from"))) {
        return dr_fail(e, DR_CONFLICT, "the shard is somewhere else");
    }
    json_object_set(shard, "holders", to);
    return DR_OK;
}

static enum dr_code apply_entry(json_t *record, const json_t *entry, struct dr_err *e)
{
    const char *op = json_string_value(json_object_get(entry, "op"));
    if (!json_equal(json_object_get(record, "uuid"), json_object_get(entry, "uuid"))) {
        return dr_fail(e, DR_NOT_FOUND, "another table");
    }
    if (strcmp(op, "table_switch") == 0) {
        return apply_switch(record, entry, e);
    }
    bool is_end = strcmp(op, "table_end") == 0 || strcmp(op, "table_cancel") == 0;
    bool is_drop = strcmp(op, "table_drop") == 0;
    json_object_set_new(record, "state",
                        json_string(is_end    ? "ready"
                                    : is_drop ? "dropping"
                                              : "changing"));
    json_object_set_new(record, "operation", json_string(is_end ? "" : OPERATION));
    return DR_OK;
}

static enum dr_code change_record(const json_t *entry, struct dr_err *e)
{
    int fd = lock_catalog();
    json_t *record = load_record();
    enum dr_code rc =
        record == NULL ? dr_fail(e, DR_NOT_FOUND, "no table") : apply_entry(record, entry, e);
    if (rc == DR_OK) {
        save_record(record);
    }
    json_decref(record);
    (void)close(fd);
    return rc;
}

static bool count_down(int *counter)
{
    bool is_on = *counter > 0;
    *counter -= is_on;
    return is_on;
}

static enum dr_code fake_change(void *arg, const json_t *entry, struct dr_err *e)
{
    (void)arg;
    const json_t *from = json_object_get(entry, "from");
    bool is_question = from != NULL && json_equal(from, json_object_get(entry, "to"));
    if (is_question) {
        return count_down(&catalog_silent) ? dr_fail(e, DR_UNKNOWN, "the catalog is silent")
                                           : change_record(entry, e);
    }
    if (count_down(&catalog_deaf)) {
        return dr_fail(e, DR_UNKNOWN, "the catalog is deaf");
    }
    if (count_down(&catalog_wrong)) {
        return dr_fail(e, DR_CONFLICT, "the catalog says no");
    }
    enum dr_code rc = change_record(entry, e);
    return rc == DR_OK && count_down(&catalog_mute) ? dr_fail(e, DR_UNKNOWN, "the catalog is mute")
                                                    : rc;
}

static const struct dr_catalog_port fake_port = {
    .read = fake_read, .list = fake_list, .change = fake_change};
static const struct dr_store_world fake_world = {.catalog = &fake_port};

/* ---- nodes ---- */

static DR_UNUSED const char *node_path(int node)
{
    static _Thread_local char path[4][160];
    static _Thread_local unsigned next;
    char *out = path[next++ % 4];
    (void)snprintf(out, sizeof path[0], "%s/n%d.db", folder, node);
    return out;
}

static void run_sql(int node, const char *sql)
{
    struct dr_sql s;
    must(dr_sql_open(&s, node_path(node), DR_SQL_CREATE, 5000, &err));
    must(dr_sql_exec(&s, sql, &err));
    dr_sql_close(&s);
}

static DR_UNUSED int64_t ask_sql(int node, const char *sql)
{
    struct dr_sql s;
    int64_t n = -1;
    must(dr_sql_open(&s, node_path(node), 0, 5000, &err));
    must(dr_sql_int(&s, sql, -1, &n, &err));
    dr_sql_close(&s);
    return n;
}

/* A table "users" with one shard, on record and on its holders ("n0,n1"), with rows in it. */
static DR_UNUSED void make_world(const char *holders)
{
    char name[8];
    json_t *nodes = json_array();
    json_t *list = json_array();
    catalog_mute = catalog_deaf = catalog_wrong = catalog_silent = 0;
    dr_fault_arm(NULL);
    for (int i = 0; i < NODES; i++) {
        char url[200];
        static const char *const parts[] = {"", "-wal", "-shm", "-journal"};
        for (int k = 0; k < 4; k++) {
            char path[200];
            (void)snprintf(path, sizeof path, "%s%s", node_path(i), parts[k]);
            (void)unlink(path);
        }
        run_sql(i, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF");
        (void)snprintf(name, sizeof name, "n%d", i);
        (void)snprintf(url, sizeof url, "sqlite:%s", node_path(i));
        json_array_append_new(nodes, json_pack("{s:s, s:s}", "name", name, "url", url));
        if (strstr(holders, name) != NULL) {
            struct dr_store *s = NULL;
            must(dr_store_open(url, &s, &err));
            must(dr_shard_ensure(s, &users_s0, COLUMNS, "", &err));
            dr_store_close(s);
            run_sql(i, "WITH c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 120) INSERT "
                       "INTO users_s0 SELECT -i, i, 'before' || i FROM c");
        }
    }
    for (const char *at = holders; *at != '\0'; at += at[2] == ',' ? 3 : 2) {
        json_array_append_new(list, json_stringn(at, 2));
    }
    json_t *record =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:[{s:i, s:s, s:o}]}", "name", "users", "uuid",
                  OWNER, "engine", "sqlite", "state", "changing", "operation", OPERATION, "nodes",
                  nodes, "shards", "shard", 0, "table", "users_s0", "holders", list);
    save_record(record);
    json_decref(record);
}

/* "n0,n1" of the catalog. */
static DR_UNUSED const char *holders_now(void)
{
    static _Thread_local char text[64];
    json_t *record = read_record();
    const json_t *list =
        json_object_get(json_array_get(json_object_get(record, "shards"), 0), "holders");
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(list); i++) {
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i == 0 ? "" : ",",
                       json_string_value(json_array_get(list, i)));
    }
    json_decref(record);
    return text;
}

/* ---- commands ---- */

static DR_UNUSED enum dr_code try_command(const char *node, const char *text)
{
    struct dr_store *s = NULL;
    must(dr_store_open_in(&fake_world, "fleet:", &s, &err));
    enum dr_code rc = dr_store_command(s, node, text, &err);
    dr_store_close(s);
    return rc;
}

static DR_UNUSED enum dr_code try_check(const char *node, const char *text, bool is_now)
{
    struct dr_store *s = NULL;
    must(dr_store_open_in(&fake_world, "fleet:", &s, &err));
    enum dr_code rc = dr_store_check(s, node, text, is_now, &err);
    dr_store_close(s);
    return rc;
}

static DR_UNUSED const char *simple_text(const char *verb)
{
    static char text[2][512];
    static unsigned next;
    char *out = text[next++ % 2];
    (void)snprintf(out, sizeof text[0], "{\"fleet\":\"%s\",\"shard\":%s}", verb, SHARD);
    return out;
}

/* from and to: "\"n0\",\"n1\"" */
static DR_UNUSED const char *turn_text(const char *verb, const char *from, const char *to,
                                       unsigned fence_ms)
{
    static char text[2][800];
    static unsigned next;
    char *out = text[next++ % 2];
    (void)snprintf(out, sizeof text[0],
                   "{\"fleet\":\"%s\",\"shard\":%s,\"number\":0,\"from\":[%s],\"to\":[%s],\"fence_"
                   "ms\":%u}",
                   verb, SHARD, from, to, fence_ms);
    return out;
}

static DR_UNUSED uint64_t do_copy(const char *verb, const char *from, const char *to)
{
    char text[800];
    struct dr_store *s = NULL;
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    struct dr_copied copied = {0};
    uint64_t rows = 0;
    struct dr_budget budget = {.items_max = 50, .bytes_max = 1 << 20, .ms_max = 1000};
    (void)snprintf(text, sizeof text, "{\"fleet\":\"%s\",\"shard\":%s,\"from\":%s,\"to\":[%s]%s}",
                   verb, SHARD, from, to, strcmp(verb, "follow") == 0 ? ",\"left_max\":5" : "");
    must(dr_store_open_in(&fake_world, "fleet:", &s, &err));
    while (!copied.is_end) {
        must(dr_store_copy(s, text, &budget, cursor, &copied, &err));
        rows += copied.rows;
    }
    dr_store_close(s);
    dr_free(cursor);
    return rows;
}

/* ---- writers ---- */

struct writer {
    pthread_t thread;
    int number;
    uint64_t seed;
    _Atomic uint64_t acked; /* looked at while it runs */
    uint64_t refused;
    int64_t value[IDS_PER_WRITER]; /* what it was told is there; 0: nothing */
    char trouble[256];
};

static atomic_bool writers_stop;
static struct writer writers[WRITERS];

/* SQLITE_OK, or what the node said. */
static int write_one(sqlite3 *db, int64_t id, int64_t value)
{
    char sql[200];
    if (value == 0) {
        (void)snprintf(sql, sizeof sql, "DELETE FROM users_s0 WHERE id = %lld", (long long)id);
    } else {
        (void)snprintf(sql, sizeof sql,
                       "INSERT INTO users_s0 VALUES(%lld, %lld, 'row %lld') ON CONFLICT(id) DO "
                       "UPDATE SET n = excluded.n, v = excluded.v",
                       (long long)id, (long long)value, (long long)value);
    }
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static bool write_all(struct writer *w, sqlite3 **db, int64_t id, int64_t value)
{
    char holders[64];
    dr_copy_text(holders, sizeof holders, holders_now());
    for (const char *at = holders; *at != '\0'; at += at[2] == ',' ? 3 : 2) {
        int rc = write_one(db[at[1] - '0'], id, value);
        if (rc == SQLITE_OK) {
            continue;
        }
        const char *why = sqlite3_errmsg(db[at[1] - '0']);
        bool is_moved = strstr(why, "drover: shard moved, ask the catalog") != NULL ||
                        strstr(why, "no such table") != NULL;
        if (!is_moved && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED) {
            (void)snprintf(w->trouble, sizeof w->trouble, "%d %s", rc, why);
        }
        w->refused++;
        return false;
    }
    return true;
}

static uint64_t roll(struct writer *w, uint64_t sides)
{
    w->seed = w->seed * 6364136223846793005U + 1442695040888963407U;
    return (w->seed >> 33) % sides;
}

static void *keep_writing(void *arg)
{
    struct writer *w = arg;
    sqlite3 *db[NODES] = {NULL};
    for (int i = 0; i < NODES; i++) {
        (void)sqlite3_open_v2(node_path(i), &db[i], SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                              NULL);
        (void)sqlite3_busy_timeout(db[i], 5000);
        (void)sqlite3_exec(db[i], "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    }
    for (int64_t value = 1; !atomic_load(&writers_stop); value++) {
        uint64_t slot = roll(w, IDS_PER_WRITER);
        int64_t wanted = roll(w, 4) == 0 ? 0 : value;
        int64_t id = (w->number + 1) * 1000 + (int64_t)slot;
        while (w->trouble[0] == '\0' && !write_all(w, db, id, wanted)) {
            (void)dr_wait_ms(1, NULL, NULL);
        }
        w->value[slot] = wanted;
        w->acked++;
        (void)dr_wait_ms(3, NULL, NULL);
    }
    for (int i = 0; i < NODES; i++) {
        (void)sqlite3_close(db[i]);
    }
    return NULL;
}

static DR_UNUSED void start_writers(void)
{
    atomic_store(&writers_stop, false);
    memset(writers, 0, sizeof writers);
    for (int i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        writers[i].seed = seed + (uint64_t)i;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, keep_writing, &writers[i]), 0);
    }
}

static bool have_written(void *arg)
{
    const uint64_t *more = arg;
    uint64_t acked = 0;
    for (int i = 0; i < WRITERS; i++) {
        acked += atomic_load(&writers[i].acked);
    }
    return acked >= *more;
}

static DR_UNUSED void wait_for_writes(uint64_t more)
{
    uint64_t wanted = more;
    for (int i = 0; i < WRITERS; i++) {
        wanted += atomic_load(&writers[i].acked);
    }
    assert_true(dr_wait_ms(20000, have_written, &wanted));
}

static DR_UNUSED void stop_writers(void)
{
    atomic_store(&writers_stop, true);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_string_equal(writers[i].trouble, "");
    }
}

/* All holders of the map have exactly what was acknowledged. */
static DR_UNUSED void assert_nothing_lost(void)
{
    char holders[64];
    dr_copy_text(holders, sizeof holders, holders_now());
    for (const char *at = holders; *at != '\0'; at += at[2] == ',' ? 3 : 2) {
        int node = at[1] - '0';
        int64_t rows = ROWS_BEFORE;
        assert_int_equal(ask_sql(node, "SELECT count(*) FROM users_s0 WHERE id < 0"), ROWS_BEFORE);
        for (int i = 0; i < WRITERS; i++) {
            for (int k = 0; k < IDS_PER_WRITER; k++) {
                char sql[120];
                (void)snprintf(sql, sizeof sql, "SELECT n FROM users_s0 WHERE id = %d",
                               (i + 1) * 1000 + k);
                int64_t wanted = writers[i].value[k];
                int64_t have = ask_sql(node, sql);
                if (have != (wanted == 0 ? -1 : wanted)) {
                    print_error("n%d: writer %d, row %d: %lld, told %lld\n", node, i, k,
                                (long long)have, (long long)wanted);
                    fail();
                }
                rows += wanted != 0;
            }
        }
        assert_int_equal(ask_sql(node, "SELECT count(*) FROM users_s0"), rows);
    }
}

/* A node without anything of drover's but its empty books. */
static DR_UNUSED void assert_clean(int node, bool has_shard)
{
    assert_int_equal(ask_sql(node, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"), 0);
    assert_int_equal(ask_sql(node, "SELECT count(*) FROM sqlite_master WHERE name GLOB "
                                   "'drover_log_*' OR name GLOB 'drover_held_*'"),
                     0);
    assert_int_equal(ask_sql(node, "SELECT count(*) FROM sqlite_master WHERE name = 'users_s0'"),
                     has_shard);
    if (ask_sql(node, "SELECT count(*) FROM sqlite_master WHERE name = 'drover_shards'") > 0) {
        assert_int_equal(ask_sql(node, "SELECT count(*) FROM drover_shards"), has_shard);
        assert_int_equal(ask_sql(node, "SELECT count(*) FROM drover_pass"), 0);
    }
}

#endif
