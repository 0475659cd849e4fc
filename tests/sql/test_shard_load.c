/* SPDX-License-Identifier: Apache-2.0 */
/* A whole move of a shard while four writers write to it, with and without connections that are
 * killed in the middle of whatever drover does: every acknowledged change is at the target. */
#include "sql/shard_help.h"

enum { WRITERS = 4, IDS_EACH = 400, ROWS_FIRST = 3000, TRIES_MAX = 2000, KILLS_MIN = 6 };

struct writer {
    int k;
    uint32_t number;
    uint32_t seed;
    bool is_fenced; /* it was refused: the move has come to its end */
    uint64_t writes;
    int64_t value[IDS_EACH]; /* acknowledged; -1: not there */
    char wrong[256];
};

static atomic_bool is_over;
static atomic_uint passed; /* calls that were done */

static uint32_t roll(struct writer *w, uint32_t upto)
{
    w->seed = w->seed * 1103515245 + 12345;
    return (w->seed >> 8) % upto;
}

static long long id_at(const struct writer *w, uint32_t i)
{
    return 100000LL * (w->number + 1) + i;
}

/* One change of rows of its own; *to is what is there when it is acknowledged. */
static enum dr_code write_one(struct writer *w, struct dr_sqldb *c, uint32_t i, uint32_t other,
                              int64_t *to, int64_t *to_other, struct dr_err *e)
{
    char sql[256];
    int64_t v = (int64_t)++w->writes;
    *to = w->value[i];
    *to_other = w->value[other];
    if (w->value[i] < 0) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO users_s0 VALUES (%lld, 'w%u', %lld)",
                       id_at(w, i), w->number, (long long)v);
        *to = v;
    } else if (roll(w, 4) == 0) {
        (void)snprintf(sql, sizeof sql, "DELETE FROM users_s0 WHERE id = %lld", id_at(w, i));
        *to = -1;
    } else if (roll(w, 3) == 0 && w->value[other] < 0) {
        (void)snprintf(sql, sizeof sql, "UPDATE users_s0 SET id = %lld WHERE id = %lld",
                       id_at(w, other), id_at(w, i));
        *to_other = w->value[i];
        *to = -1;
    } else {
        (void)snprintf(sql, sizeof sql, "UPDATE users_s0 SET n = %lld WHERE id = %lld",
                       (long long)v, id_at(w, i));
        *to = v;
    }
    return dr_sqldb_exec(c, sql, NULL, 0, NULL, e);
}

/* Transactions of one to three changes. */
static int write_on(void *arg)
{
    struct writer *w = arg;
    struct dr_err e = {0};
    struct dr_sqldb *c = NULL;
    int64_t before[IDS_EACH];
    enum dr_code rc = dr_sqldb_open(server[w->k].admin_url, &c, &e);
    while (rc == DR_OK && !atomic_load(&is_over)) {
        memcpy(before, w->value, sizeof before);
        (void)dr_wait_ms(3, NULL, NULL); /* or the log would grow faster than it is followed */
        rc = dr_sqldb_begin(c, &e);
        for (uint32_t n = 1 + roll(w, 3); rc == DR_OK && n > 0; n--) {
            uint32_t i = roll(w, IDS_EACH);
            uint32_t other = (i + 1) % IDS_EACH;
            int64_t to = 0;
            int64_t to_other = 0;
            rc = write_one(w, c, i, other, &to, &to_other, &e);
            w->value[i] = to;
            w->value[other] = to_other;
        }
        rc = rc == DR_OK ? dr_sqldb_commit(c, &e) : rc;
        if (rc != DR_OK) {
            dr_sqldb_rollback(c);
            memcpy(w->value, before, sizeof before);
        }
        w->is_fenced = rc == DR_NOT_FOUND || /* held already */
                       (rc == DR_CONFLICT && strstr(e.msg, "drover: shard moved") != NULL);
        /* It waited for too long, or lost its session and with it the transaction: the next one. */
        rc = rc == DR_BUSY || rc == DR_UNREACHABLE ? DR_OK : rc;
    }
    if (rc != DR_OK && !w->is_fenced) {
        (void)snprintf(w->wrong, sizeof w->wrong, "%s: %.200s", dr_code_name(rc), e.msg);
    }
    dr_sqldb_close(c);
    return 0;
}

/* ---- whoever kills ---- */

struct killer {
    int k;
    bool is_on;
    atomic_uint kills;
};

static enum dr_code take_session(void *arg, const struct dr_value *v, uint32_t count,
                                 struct dr_err *e)
{
    int64_t *to = arg;
    (void)e;
    for (int i = 0; count == 1 && i < 16; i++) {
        if (to[i] == 0) {
            to[i] = v[0].i;
            break;
        }
    }
    return DR_OK;
}

/* On a busy machine a call takes longer than the next kill is away: one has to get through between
 * two of them, or the move would never end. */
static bool has_passed(void *arg)
{
    const unsigned *before = arg;
    return atomic_load(&is_over) || atomic_load(&passed) != *before;
}

/* All sessions of the ordinary user are drover's; the writers come as another one. */
static int kill_on(void *arg)
{
    struct killer *x = arg;
    struct dr_sqldb *c = sql_open(server[x->k].admin_url);
    uint32_t ms = 20;
    while (!atomic_load(&is_over)) {
        int64_t session[16] = {0};
        unsigned before = atomic_load(&passed);
        ms = ms * 7 % 131 + 40;
        (void)dr_wait_ms(ms, NULL, NULL);
        while (!dr_wait_ms(1000, has_passed, &before)) {
        }
        enum dr_code rc = dr_sqldb_query(
            c,
            x->k == PG
                ? "SELECT pid::bigint FROM pg_stat_activity WHERE usename = 'drover' ORDER "
                  "BY random() LIMIT 1"
                : "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'drover' ORDER "
                  "BY RAND() LIMIT 1",
            NULL, 0, take_session, session, NULL);
        for (int i = 0; rc == DR_OK && i < 16 && session[i] != 0; i++) {
            char sql[96];
            (void)snprintf(sql, sizeof sql,
                           x->k == PG ? "SELECT pg_terminate_backend(%lld)" : "KILL %lld",
                           (long long)session[i]);
            atomic_fetch_add(&x->kills, dr_sqldb_exec(c, sql, NULL, 0, NULL, NULL) == DR_OK);
        }
    }
    dr_sqldb_close(c);
    return 0;
}

/* ---- the move ---- */

/* May be done again until it is done. */
static bool is_passing(int k, enum dr_code rc, const char *what)
{
    if (rc != DR_OK && rc != DR_UNREACHABLE && rc != DR_UNKNOWN && rc != DR_BUSY) {
        fail_msg("%s: %s: %s (%s)", kind_name[k], what, dr_code_name(rc), err.msg);
    }
    atomic_fetch_add(&passed, rc == DR_OK);
    return rc == DR_OK;
}

#define UNTIL_DONE(k, call)                                                                        \
    do {                                                                                           \
        int tries = 0;                                                                             \
        while (!is_passing(k, call, #call)) {                                                      \
            assert_true(++tries < TRIES_MAX);                                                      \
        }                                                                                          \
    } while (0)

static void copy_on(int k, const struct dr_shard_id *id)
{
    struct dr_store *to[] = {store[k][TARGET]};
    struct dr_budget b = budget_of(150);
    struct dr_cursor cursor = {0};
    uint64_t n = 0;
    bool is_end = false;
    while (!is_end) {
        UNTIL_DONE(k,
                   dr_shard_copy(store[k][SOURCE], to, 1, id, &b, &cursor, &n, &n, &is_end, &err));
    }
}

static void follow_on(int k, const struct dr_shard_id *id, uint64_t left_max)
{
    struct dr_store *to[] = {store[k][TARGET]};
    struct dr_budget b = budget_of(500);
    uint64_t n = 0;
    uint64_t left = UINT64_MAX;
    for (int calls = 0; left > left_max; calls++) {
        assert_true(calls < TRIES_MAX);
        UNTIL_DONE(k, dr_shard_follow(store[k][SOURCE], to, 1, id, &b, &n, &left, &err));
    }
}

static void check_writers(int k, struct writer *w)
{
    uint64_t there = 0;
    for (int i = 0; i < WRITERS; i++) {
        if (w[i].wrong[0] != '\0') {
            fail_msg("%s: writer %d: %s", kind_name[k], i, w[i].wrong);
        }
        assert_true(w[i].is_fenced && w[i].writes > 20);
        for (uint32_t n = 0; n < IDS_EACH; n++) {
            char sql[128];
            (void)snprintf(sql, sizeof sql, "SELECT n FROM users_s0 WHERE id = %lld",
                           id_at(&w[i], n));
            int64_t got = sql_number(db[k][TARGET], sql);
            if (got != (w[i].value[n] < 0 ? INT64_MIN : w[i].value[n])) {
                fail_msg("%s: row %lld is %lld, acknowledged was %lld", kind_name[k],
                         id_at(&w[i], n), (long long)got, (long long)w[i].value[n]);
            }
            there += w[i].value[n] >= 0;
        }
    }
    assert_int_equal(sql_number(db[k][TARGET], "SELECT COUNT(*) FROM users_s0"),
                     ROWS_FIRST + (int64_t)there);
}

static void move_with(int k, bool is_killing)
{
    struct dr_shard_id id = id_of("users_s0");
    struct writer *w = calloc(WRITERS, sizeof *w);
    struct killer killer = {.k = k};
    thrd_t thread[WRITERS + 1];
    const char *columns = "id BIGINT PRIMARY KEY, name VARCHAR(100), n BIGINT";
    assert_non_null(w);
    atomic_store(&is_over, false);
    ensure_both(k, &id, columns);
    sql_do(db[k][SOURCE], k == PG
                              ? "INSERT INTO users_s0 SELECT g, 'first', 0 FROM "
                                "generate_series(1, 3000) g"
                              : "INSERT INTO users_s0 SELECT seq, 'first', 0 FROM seq_1_to_3000");
    if (k == PG) {
        sql_do(db[k][SOURCE], "GRANT ALL ON users_s0 TO PUBLIC");
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.k = k, .number = i, .seed = i * 77 + 1};
        memset(w[i].value, -1, sizeof w[i].value);
        assert_int_equal(thrd_create(&thread[i], write_on, &w[i]), thrd_success);
    }
    if (is_killing) {
        assert_int_equal(thrd_create(&thread[WRITERS], kill_on, &killer), thrd_success);
    }
    UNTIL_DONE(k, dr_shard_ensure(store[k][TARGET], &id, columns, "", &err));
    UNTIL_DONE(k, dr_shard_capture(store[k][SOURCE], &id, true, &err));
    copy_on(k, &id);
    do {
        follow_on(k, &id, 50);
    } while (is_killing && atomic_load(&killer.kills) < KILLS_MIN);
    UNTIL_DONE(k, dr_shard_fence(store[k][SOURCE], &id, true, 2000, &err));
    follow_on(k, &id, 0);
    struct dr_shard_digest a;
    struct dr_shard_digest b;
    UNTIL_DONE(k, dr_shard_digest(store[k][SOURCE], &id, &a, &err));
    UNTIL_DONE(k, dr_shard_digest(store[k][TARGET], &id, &b, &err));
    assert_string_equal(a.text, b.text);
    UNTIL_DONE(k, dr_shard_capture(store[k][TARGET], &id, true, &err));
    UNTIL_DONE(k, dr_shard_hold(store[k][SOURCE], &id, true, &err));
    UNTIL_DONE(k, dr_shard_hold(store[k][SOURCE], &id, false, &err));
    UNTIL_DONE(k, dr_shard_hold(store[k][SOURCE], &id, true, &err));
    for (int i = 0; i < WRITERS; i++) {
        (void)thrd_join(thread[i], NULL);
    }
    atomic_store(&is_over, true);
    if (is_killing) {
        (void)thrd_join(thread[WRITERS], NULL);
    }
    check_writers(k, w);
    UNTIL_DONE(k, dr_shard_drop(store[k][SOURCE], &id, true, &err));
    drop_both(k, &id);
    free(w);
}

static void mariadb_loses_nothing_under_writers(void **state)
{
    (void)state;
    move_with(MARIA, false);
}

static void postgres_loses_nothing_under_writers(void **state)
{
    (void)state;
    move_with(PG, false);
}

static void mariadb_loses_nothing_when_connections_are_killed(void **state)
{
    (void)state;
    move_with(MARIA, true);
}

static void postgres_loses_nothing_when_connections_are_killed(void **state)
{
    (void)state;
    move_with(PG, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mariadb_loses_nothing_under_writers),
        cmocka_unit_test(postgres_loses_nothing_under_writers),
        cmocka_unit_test(mariadb_loses_nothing_when_connections_are_killed),
        cmocka_unit_test(postgres_loses_nothing_when_connections_are_killed),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, start_places, stop_places);
}
