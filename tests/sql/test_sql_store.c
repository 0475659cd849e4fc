/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's own promises: what filters mean on typed columns, what surveys and plans say, what
 * is refused, commands, brakes. The promises of every store are in tests/conform. */
#include "sql/sql_store_help.h"
#include "store/sql/sql_private.h"

/* ---- filters on typed columns ---- */

static const char *const filters[] = {
    "{\"n\": 5}",
    "{\"n\": 5.0}",
    "{\"n\": 5.5}",
    "{\"n\": {\"lt\": 5.5}}",
    "{\"n\": {\"ge\": -5.5}}",
    "{\"n\": {\"gt\": 1e300}}",
    "{\"n\": {\"le\": 1e300}}",
    "{\"n\": {\"ne\": 5}}",
    "{\"n\": {\"ne\": \"5\"}}",
    "{\"n\": \"5\"}",
    "{\"n\": {\"lt\": \"a\"}}",
    "{\"n\": {\"in\": [5, 7.5, 9007199254740993, \"x\"]}}",
    "{\"n\": {\"in\": [\"x\"]}}",
    "{\"n\": {\"gt\": 9007199254740992}}",
    "{\"n\": null}",
    "{\"n\": {\"is_null\": false}}",
    "{\"d\": 0.5}",
    "{\"d\": {\"lt\": 1}}",
    "{\"d\": {\"ge\": 9007199254740993}}",
    "{\"d\": {\"le\": 9223372036854775807}}",
    "{\"d\": 9223372036854775807}",
    "{\"d\": {\"ne\": 9007199254740993}}",
    "{\"d\": {\"in\": [0.5, -1]}}",
    "{\"t\": \"abc\"}",
    "{\"t\": \"ABC\"}",
    "{\"t\": \"abc \"}",
    "{\"t\": {\"lt\": \"b\"}}",
    "{\"t\": {\"ge\": \"a\"}}",
    "{\"t\": {\"gt\": \"Z\"}}",
    "{\"t\": {\"in\": [\"abc\", \"\", 5]}}",
    "{\"t\": {\"ne\": \"abc\"}}",
    "{\"t\": 5}",
    "{\"t\": {\"ne\": 5}}",
    "{\"t\": {\"ge\": \"\xc3\xa4\"}}",
    "{\"t\": {\"$blob\": \"616263\"}}",
    "{\"t\": {\"in\": [\"\xc3\xa4\", \"a\xcc\x88\"]}}",
    "{\"t\": \"it's \\\\ \\\"x\\\"\"}",
    "{\"b\": {\"$blob\": \"00ff\"}}",
    "{\"b\": {\"lt\": {\"$blob\": \"00ff\"}}}",
    "{\"b\": {\"ge\": {\"$blob\": \"\"}}}",
    "{\"b\": \"x\"}",
    "{\"b\": {\"ne\": \"x\"}}",
    "{\"b\": {\"in\": [{\"$blob\": \"\"}, {\"$blob\": \"00\"}]}}",
    "{\"t\": {\"$text\": \"ff\"}}",
    "{\"t\": {\"ne\": {\"$text\": \"ff00\"}}}",
    "{\"n\": {\"gt\": -6, \"lt\": 6}, \"t\": {\"is_null\": false}}",
};

struct seen {
    uint64_t ids; /* bit per id */
};

static void see_id(void *arg, const struct dr_item *item)
{
    struct seen *s = arg;
    struct dr_value v;
    uint32_t count = 0;
    assert_int_equal(dr_values_decode(item->key, item->key_len, &v, 1, &count, NULL), DR_OK);
    s->ids |= UINT64_C(1) << v.i;
}

enum { F_ROWS = 10, F_COLUMNS = 5 };

struct oracle {
    struct dr_value v[F_ROWS][F_COLUMNS];
    const struct dr_value *row;
};

static const char *const f_names[F_COLUMNS] = {"id", "n", "d", "t", "b"};

static const struct dr_value *find_field(void *arg, const char *field)
{
    const struct oracle *o = arg;
    for (int i = 0; i < F_COLUMNS; i++) {
        if (strcmp(f_names[i], field) == 0) {
            return &o->row[i];
        }
    }
    return NULL;
}

static void fill_oracle(struct oracle *o)
{
    static const char *const texts[F_ROWS] = {"abc",       "ABC",           "abc ", "",  "\xc3\xa4",
                                              "a\xcc\x88", "it's \\ \"x\"", "Z",    "b", NULL};
    static const int64_t ints[F_ROWS] = {5, -5, 0, 9007199254740993, INT64_MAX, INT64_MIN, 6,
                                         7, 55, 0};
    static const double reals[F_ROWS] = {0.5,   -1,     9007199254740992.0,    9007199254740994.0,
                                         1e300, -1e300, 9223372036854775808.0, 0,
                                         2.25,  0};
    static const char blob[] = "\x00\xff\x01";
    memset(o, 0, sizeof *o);
    for (int i = 0; i < F_ROWS; i++) {
        struct dr_value null = {.type = DR_V_NULL};
        bool is_last = i == F_ROWS - 1;
        o->v[i][0] = sql_int(i);
        o->v[i][1] = is_last ? null : sql_int(ints[i]);
        o->v[i][2] = is_last ? null : (struct dr_value){.type = DR_V_REAL, .r = reals[i]};
        o->v[i][3] = texts[i] == NULL ? null : sql_text(texts[i]);
        o->v[i][4] = is_last ? null : sql_blob(blob, (size_t)(i % 4));
    }
}

static void filters_mean_the_same_as_on_our_side(void **state)
{
    struct side *s = *state;
    struct oracle o;
    fill_oracle(&o);
    run_each(s,
             "CREATE TABLE shop.f (id int PRIMARY KEY, n bigint, d double, t varchar(40) CHARACTER "
             "SET utf8mb4 COLLATE utf8mb4_general_ci, b varbinary(20), KEY f_t (t))",
             "CREATE TABLE shop.f (id int PRIMARY KEY, n bigint, d double precision, t text, b "
             "bytea)");
    for (int i = 0; i < F_ROWS; i++) {
        assert_ok(s, dr_sqldb_exec(s->db, "INSERT INTO shop.f VALUES (?, ?, ?, ?, ?)", o.v[i],
                                   F_COLUMNS, NULL, &s->err));
    }
    struct dr_range r = range_of(s, "f", NULL);
    for (size_t k = 0; k < sizeof filters / sizeof filters[0]; k++) {
        struct seen seen = {0};
        uint64_t wanted = 0;
        r.filter = filter_of(s, filters[k]);
        (void)walk(s, &r, 3, see_id, &seen);
        for (int i = 0; i < F_ROWS; i++) {
            o.row = o.v[i];
            wanted |= (uint64_t)dr_filter_match(r.filter, find_field, &o) << i;
        }
        if (seen.ids != wanted) {
            fail_msg("%s: %s selected %llx instead of %llx", s->kind, filters[k],
                     (unsigned long long)seen.ids, (unsigned long long)wanted);
        }
    }
}

static void filters_know_dates_decimals_and_booleans(void **state)
{
    struct side *s = *state;
    run_each(s,
             "CREATE TABLE shop.f (id int PRIMARY KEY, at datetime(3), m decimal(20,2), u bigint "
             "unsigned, e enum('a', 'b'))",
             "CREATE TABLE shop.f (id int PRIMARY KEY, at timestamp, m numeric(20,2), u boolean, e "
             "char(4))");
    run(s,
        "INSERT INTO shop.f VALUES (1, '2020-01-01', 1.50, %s, 'a'), (2, '2021-06-01 12:00:00.5', "
        "100, %s, 'b'), (3, NULL, NULL, NULL, NULL)",
        s->is_pg ? "true" : "18446744073709551615", s->is_pg ? "false" : "1");
    static const struct {
        const char *json;
        uint64_t rows;
    } cases[] = {
        {"{\"at\": \"2020-01-01\"}", 1},
        {"{\"at\": {\"lt\": \"2021-01-01\"}}", 1},
        {"{\"at\": {\"ge\": \"2020-01-01 00:00:00\"}}", 2},
        {"{\"at\": {\"lt\": 5}}", 0},
        {"{\"m\": 1.5}", 1},
        {"{\"m\": {\"gt\": 20}}", 1},
        {"{\"m\": {\"in\": [1.5, 100]}}", 2},
        {"{\"m\": \"1.50\"}", 0},
        {"{\"u\": 1}", 1},
        {"{\"e\": \"a\"}", 1},
        {"{\"e\": {\"ge\": \"b\"}}", 1},
        {"{\"u\": {\"gt\": -1}}", 2},
    };
    struct dr_range r = range_of(s, "f", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.filter = filter_of(s, cases[i].json);
        uint64_t rows = walk(s, &r, 5, NULL, NULL);
        if (rows != cases[i].rows) {
            fail_msg("%s: %s: %d rows", s->kind, cases[i].json, (int)rows);
        }
    }
}

/* ---- surveys ---- */

static json_t *survey_extra(struct side *s, const char *spec, struct dr_survey **survey)
{
    json_t *extra = NULL;
    assert_ok(s, dr_store_survey_spec(s->store, spec, survey, &s->err));
    assert_non_null((*survey)->extra);
    assert_ok(s,
              dr_json_parse("extra", (*survey)->extra, strlen((*survey)->extra), &extra, &s->err));
    return extra;
}

static void a_survey_shows_key_plan_and_bound(void **state)
{
    struct side *s = *state;
    struct dr_survey *survey = NULL;
    make_numbers(s, "w", 5000);
    run(s, "ANALYZE %s shop.w", s->is_pg ? "" : "TABLE");
    json_t *x = survey_extra(s, "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"n = 3\"}",
                             &survey);
    assert_string_equal(survey->collection[0].name, "shop.w");
    assert_int_equal(survey->collection[0].rows_matched, 500);
    assert_int_equal(survey->collection[0].rows_total, 5000);
    assert_string_equal(json_string_value(json_object_get(x, "dialect")), s->kind);
    assert_true(json_is_true(json_object_get(x, "uses_index")));
    assert_true(json_is_true(json_object_get(x, "key_is_unique")));
    assert_false(json_is_true(json_object_get(x, "matches_all")));
    assert_int_equal(json_integer_value(json_array_get(json_object_get(x, "last_key"), 0)), 5000);
    assert_string_equal(json_string_value(json_array_get(json_object_get(x, "key"), 0)), "id");
    assert_string_equal(json_string_value(json_object_get(x, "key_index")),
                        s->is_pg ? "w_pkey" : "PRIMARY");
    assert_int_equal(json_integer_value(json_object_get(x, "rows")), 500);
    assert_non_null(strcasestr(json_string_value(json_object_get(x, "plan")), "index"));
    json_decref(x);
    dr_survey_destroy(survey);
    x = survey_extra(s, "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"n >= 0\"}",
                     &survey);
    assert_true(json_is_true(json_object_get(x, "matches_all")));
    assert_non_null(json_string_value(json_object_get(x, "advice")));
    json_decref(x);
    dr_survey_destroy(survey);
    static const char *const bad[] = {
        "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"n = 1\", \"key\": [\"t\"]}",
        "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"n = 1\", \"key\": \"nosuch\"}",
        "{\"table\": \"w\", \"database\": \"shop\", \"where\": \"nosuch = 1\"}",
        "{\"table\": \"nosuch\", \"database\": \"shop\", \"where\": \"n = 1\"}",
        "{\"where\": \"n = 1\"}",
    };
    static const enum dr_code codes[] = {DR_UNSUPPORTED, DR_INPUT, DR_NOT_FOUND, DR_NOT_FOUND,
                                         DR_INPUT};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_fails(s, codes[i], dr_store_survey_spec(s->store, bad[i], &survey, &s->err));
        assert_null(survey);
    }
}

static void partitions_are_listed_and_whole_ones_advised(void **state)
{
    struct side *s = *state;
    struct dr_survey *survey = NULL;
    run(s,
        "CREATE TABLE shop.p (id int NOT NULL, d int NOT NULL, PRIMARY KEY (d, id)) PARTITION BY "
        "RANGE (d)%s",
        s->is_pg ? ""
                 : " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))");
    if (s->is_pg) {
        run(s, "CREATE TABLE shop.p0 PARTITION OF shop.p FOR VALUES FROM (0) TO (10)");
        run(s, "CREATE TABLE shop.p1 PARTITION OF shop.p FOR VALUES FROM (10) TO (20)");
    }
    for (int i = 0; i < 20; i++) {
        run(s, "INSERT INTO shop.p VALUES (%d, %d)", i, i);
    }
    json_t *x = survey_extra(
        s, "{\"table\": \"p\", \"database\": \"shop\", \"where\": \"p.d < 12\"}", &survey);
    assert_true(json_is_true(json_object_get(x, "partitioned")));
    assert_int_equal(json_array_size(json_object_get(x, "partitions")), 2);
    const char *advice = json_string_value(json_object_get(x, "advice"));
    assert_non_null(advice);
    assert_non_null(strstr(advice, "p0"));
    assert_null(strstr(advice, "p1"));
    json_decref(x);
    dr_survey_destroy(survey);
    struct dr_range r =
        range_of(s, "p", "{\"table\": \"p\", \"where\": \"d < 12\", \"last_key\": [19, 19]}");
    assert_int_equal(walk(s, &r, 5, NULL, NULL), 12);
    read_some(s, &r, 100, true);
    assert_int_equal(erase(s, &r).erased, 12);
    assert_int_equal(rows_of(s, "p"), 8);
    assert_int_equal(restore(s, &r).restored, 12);
    /* The parts are no tables of their own. */
    assert_ok(s, dr_store_survey(s->store, "shop", NULL, &survey, &s->err));
    assert_int_equal(survey->collection_count, 1);
    dr_survey_destroy(survey);
}

static void cascades_and_triggers_are_told_and_refused(void **state)
{
    struct side *s = *state;
    struct dr_survey *survey = NULL;
    struct dr_tally tally;
    run(s, "CREATE TABLE shop.a (id int PRIMARY KEY)");
    run(s,
        "CREATE TABLE shop.b (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES shop.a (id) ON "
        "DELETE CASCADE)");
    run(s,
        "CREATE TABLE shop.c (id int PRIMARY KEY, b int, FOREIGN KEY (b) REFERENCES shop.b (id))");
    run(s, "CREATE TABLE shop.d (id int PRIMARY KEY)");
    run_each(
        s, "CREATE TRIGGER shop.d_t AFTER DELETE ON shop.d FOR EACH ROW SET @x = 1",
        "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
    if (s->is_pg) {
        run(s, "CREATE TRIGGER d_t AFTER DELETE ON shop.d FOR EACH ROW EXECUTE FUNCTION shop.f()");
    }
    run(s, "INSERT INTO shop.a VALUES (1)");
    run(s, "INSERT INTO shop.b VALUES (1, 1)");
    run(s, "INSERT INTO shop.d VALUES (1)");
    run(s, "CREATE VIEW shop.e AS SELECT id FROM shop.d");
    assert_ok(s, dr_store_survey(s->store, "shop", NULL, &survey, &s->err));
    assert_int_equal(survey->collection_count, 5);
    const struct dr_collection *c = survey->collection;
    assert_true(c[0].has_triggers && c[0].has_reference);
    assert_non_null(strstr(c[0].warning, "shop.b (cascade)"));
    assert_non_null(strstr(c[0].warning, "children first"));
    assert_true(!c[1].has_triggers && c[1].has_reference);
    assert_true(!c[2].has_triggers && !c[2].has_reference);
    assert_string_equal(c[2].warning == NULL ? "" : c[2].warning, "");
    assert_true(c[3].has_triggers && strstr(c[3].warning, "d_t") != NULL);
    assert_true(c[4].is_view);
    dr_survey_destroy(survey);
    json_t *x = survey_extra(s, "{\"table\": \"a\", \"database\": \"shop\", \"where\": \"id = 1\"}",
                             &survey);
    assert_int_equal(json_array_size(json_object_get(x, "cascades")), 1);
    json_decref(x);
    dr_survey_destroy(survey);
    static const char *const refused[] = {"a", "d"};
    for (int i = 0; i < 2; i++) {
        struct dr_range r = range_of(s, refused[i], NULL);
        read_some(s, &r, 10, true);
        assert_fails(s, DR_REFUSED, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
        assert_int_equal(rows_of(s, refused[i]), 1);
    }
}

/* ---- layout ---- */

static void a_changed_definition_is_stale_but_an_index_is_not(void **state)
{
    struct side *s = *state;
    struct dr_tally tally;
    uint64_t epoch = 0;
    make_numbers(s, "w", 20);
    struct dr_range r = range_of(s, "w", NULL);
    assert_int_equal(r.epoch >> 63, 0);
    read_some(s, &r, 5, true);
    run(s, "CREATE INDEX w_n ON shop.w (n)");
    assert_ok(s, dr_store_epoch(s->store, r.collection, &epoch, &s->err));
    assert_int_equal(epoch, r.epoch);
    assert_int_equal(erase(s, &r).erased, 5);
    read_some(s, &r, 5, false);
    run(s, s->is_pg ? "ALTER TABLE shop.w ALTER COLUMN n TYPE bigint"
                    : "ALTER TABLE shop.w MODIFY n bigint");
    assert_fails(s, DR_STALE, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
    run(s, "ALTER TABLE shop.w DROP COLUMN n");
    assert_fails(s, DR_STALE, dr_store_erase(s->store, &r, s->batch, &tally, &s->err));
    assert_int_equal(rows_of(s, "w"), 15);
    assert_int_equal(walk(s, &r, 4, NULL, NULL), 15); /* a walk goes on with what is there */
}

static void tables_are_dropped_empty_and_made_again_alike(void **state)
{
    struct side *s = *state;
    struct dr_survey *survey = NULL;
    struct dr_survey *again = NULL;
    run(s, "CREATE TABLE shop.base (id int PRIMARY KEY)");
    run_each(
        s,
        "CREATE TABLE shop.x (id int AUTO_INCREMENT PRIMARY KEY, s varchar(20) NOT NULL DEFAULT "
        "'it''s \\\\ ;', g int GENERATED ALWAYS AS (f + 1) STORED, n decimal(10,2) UNIQUE, f "
        "int, CONSTRAINT x_c CHECK (f > 0), CONSTRAINT x_f FOREIGN KEY (f) REFERENCES base (id), "
        "KEY x_s (s DESC)) COMMENT 'a ; comment'",
        "CREATE TABLE shop.x (id serial PRIMARY KEY, s varchar(20) COLLATE \"C\" NOT NULL DEFAULT "
        "'it''s \\ ;', g int GENERATED ALWAYS AS (f + 1) STORED, n numeric(10,2) UNIQUE, f int, "
        "i bigint GENERATED BY DEFAULT AS IDENTITY, CONSTRAINT x_c CHECK (f > 0), CONSTRAINT x_f "
        "FOREIGN KEY (f) REFERENCES shop.base (id)) WITH (fillfactor=70)");
    if (s->is_pg) {
        run(s, "CREATE INDEX x_s ON shop.x (s DESC NULLS LAST) WHERE f > 2");
        run(s, "CREATE INDEX x_e ON shop.x (lower(s))");
    }
    run(s, "INSERT INTO shop.x (s) VALUES ('one'), ('two')");
    assert_ok(s, dr_store_survey(s->store, "shop", NULL, &survey, &s->err));
    const struct dr_collection *c = &survey->collection[1];
    assert_string_equal(c->warning == NULL ? "" : c->warning, "");
    assert_non_null(c->create_text);
    assert_fails(s, DR_REFUSED, dr_store_command(s->store, "main", c->drop_text, &s->err));
    run(s, "DELETE FROM shop.x");
    assert_ok(s, dr_store_command(s->store, "main", c->drop_text, &s->err));
    assert_ok(s, dr_store_command(s->store, "main", c->drop_text, &s->err));
    assert_ok(s, dr_store_command(s->store, "main", c->create_text, &s->err));
    assert_ok(s, dr_store_command(s->store, "main", c->create_text, &s->err));
    assert_ok(s, dr_store_survey(s->store, "shop", NULL, &again, &s->err));
    assert_string_equal(again->collection[1].create_text, c->create_text);
    assert_int_equal(again->collection[1].epoch, c->epoch);
    assert_int_equal(again->collection[1].index_count, c->index_count);
    run(s, "INSERT INTO shop.x (s) VALUES ('three')"); /* numbers go on */
    assert_int_equal(sql_number(s->db, "SELECT id FROM shop.x"), 3);
    dr_survey_destroy(survey);
    dr_survey_destroy(again);
}

static void other_commands_are_refused(void **state)
{
    struct side *s = *state;
    static const char *const bad[] = {
        "DELETE FROM shop.w",
        "DROP DATABASE shop",
        "CREATE TABLE shop.y AS SELECT 1",
        "CREATE TABLE shop.y LIKE shop.w",
        "DROP TABLE shop.w, shop.v",
        "TRUNCATE shop.w",
        "CREATE INDEX i ON shop.w (n); DROP USER root",
        "ALTER TABLE shop.w DROP COLUMN n",
        "CREATE INDEX i ON shop.w (n) /* x */",
        "CREATE INDEX \"i ON shop.w (n)",
    };
    make_numbers(s, "w", 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum dr_code rc = dr_store_command(s->store, "main", bad[i], &s->err);
        if (rc != DR_REFUSED && rc != DR_INPUT) {
            fail_msg("%s: %s gave %s", s->kind, bad[i], dr_code_name(rc));
        }
    }
    assert_int_equal(rows_of(s, "w"), 3);
}

/* ---- brakes ---- */

static void each_brake_is_judged_by_its_limit(void **state)
{
    (void)state;
    const struct sa_store limits = {
        .lag_s_max = 10, .history_max = 1000, .slot_bytes_max = 1 << 20, .horizon_age_max = 500};
    static const struct {
        struct sa_vitals v;
        const char *word; /* NULL: all is well */
    } cases[] = {
        {{.lag_s = 10,
          .history = 1000,
          .slot_bytes = 1 << 20,
          .horizon_age = 500,
          .lock_waits = SA_LOCK_WAITS_MAX},
         NULL},
        {{.lag_s = -1, .history = -1, .slot_bytes = -1, .horizon_age = -1, .lock_waits = -1}, NULL},
        {{.is_read_only = true}, "read-only"},
        {{.is_replica_down = true, .replica = "r1"}, "r1"},
        {{.lag_s = 11, .replica = "r2"}, "11 s"},
        {{.history = 1001}, "history"},
        {{.slot_bytes = (1 << 20) + 1, .slot = "s1"}, "s1"},
        {{.horizon_age = 501}, "snapshot"},
        {{.is_vacuuming = true}, "vacuum"},
        {{.lock_waits = SA_LOCK_WAITS_MAX + 1}, "locks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dr_health health;
        sa_judge(&cases[i].v, &limits, &health);
        assert_int_equal(health.is_ok, cases[i].word == NULL);
        assert_true(health.valid_ms > 0);
        if (cases[i].word != NULL) {
            assert_non_null(strstr(health.reason, cases[i].word));
            assert_true(health.wait_hint_ms > 0);
        }
    }
}

static void assert_health(struct side *s, const char *word)
{
    struct dr_health health;
    assert_ok(s, dr_store_health(s->store, "main", &health, &s->err));
    if (health.is_ok != (word == NULL) || (word != NULL && strstr(health.reason, word) == NULL)) {
        fail_msg("%s: health is \"%s\", expected \"%s\"", s->kind, health.reason,
                 word == NULL ? "" : word);
    }
}

/* An open snapshot holds InnoDB's history, and PostgreSQL's horizon. */
static void an_old_snapshot_is_a_brake(void **state)
{
    struct side *s = *state;
    make_numbers(s, "w", 100);
    reopen(s, s->is_pg ? "drover.maxHorizonAge=100" : "drover.maxHistory=100");
    struct dr_sqldb *other = sql_open(s->server.admin_url);
    sql_do(other, s->is_pg ? "BEGIN ISOLATION LEVEL REPEATABLE READ"
                           : "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    if (!s->is_pg) {
        sql_do(other, "START TRANSACTION WITH CONSISTENT SNAPSHOT");
    }
    (void)sql_number(other, "SELECT count(*) FROM shop.w");
    for (int i = 0; i < 300; i++) {
        run(s, "UPDATE shop.w SET n = n + 1 WHERE id = %d", i % 100 + 1);
    }
    assert_health(s, s->is_pg ? "snapshot" : "history");
    sql_do(other, "ROLLBACK");
    dr_sqldb_close(other);
    if (s->is_pg) { /* InnoDB's purge takes its time */
        assert_health(s, NULL);
    }
}

static void a_slot_that_holds_wal_is_a_brake(void **state)
{
    struct side *s = *state;
    if (!s->is_pg) {
        skip();
    }
    run(s, "SELECT pg_create_physical_replication_slot('lagging', true)");
    reopen(s, "drover.maxSlotLag=100000");
    make_numbers(s, "w", 20000);
    assert_health(s, "lagging");
    run(s, "SELECT pg_drop_replication_slot('lagging')");
    assert_health(s, NULL);
}

static void a_prepared_transaction_holds_the_horizon(void **state)
{
    struct side *s = *state;
    if (!s->is_pg) {
        skip();
    }
    make_numbers(s, "w", 10);
    reopen(s, "drover.maxHorizonAge=50");
    run(s, "BEGIN");
    run(s, "UPDATE shop.w SET n = 0 WHERE id = 1");
    run(s, "PREPARE TRANSACTION 'forgotten'");
    for (int i = 0; i < 60; i++) {
        run(s, "UPDATE shop.w SET n = %d WHERE id = 2", i);
    }
    assert_health(s, "snapshot");
    run(s, "ROLLBACK PREPARED 'forgotten'");
    assert_health(s, NULL);
}

static void a_read_only_server_is_a_brake(void **state)
{
    struct side *s = *state;
    run_each(s, "SET GLOBAL read_only = 1",
             "ALTER DATABASE drover SET default_transaction_read_only = on");
    if (s->is_pg) {
        reopen(s, "");
    }
    assert_health(s, "read-only");
    run_each(s, "SET GLOBAL read_only = 0",
             "ALTER DATABASE drover RESET default_transaction_read_only");
    reopen(s, "");
    assert_health(s, NULL);
}

static void a_replica_that_cannot_be_asked_is_a_reason_to_wait(void **state)
{
    struct side *s = *state;
    char options[256];
    (void)snprintf(options, sizeof options,
                   "drover.replica=%s%%3A%%2F%%2Fu%%3Asecret%%40127.0.0.1%%3A1%%2Fx",
                   s->is_pg ? "postgres" : "mysql");
    reopen(s, options);
    struct dr_health health;
    assert_ok(s, dr_store_health(s->store, "main", &health, &s->err));
    assert_false(health.is_ok);
    assert_non_null(strstr(health.reason, "127.0.0.1:1"));
    assert_null(strstr(health.reason, "secret"));
    struct dr_store *bad = NULL;
    char url[SQL_URL_BYTES * 2];
    (void)snprintf(url, sizeof url, "%s?drover.maxLags=3", s->server.admin_url);
    assert_fails(s, DR_INPUT, dr_store_open(url, &bad, &s->err));
    (void)snprintf(url, sizeof url, "%s?drover.maxLag=x", s->server.admin_url);
    assert_fails(s, DR_INPUT, dr_store_open(url, &bad, &s->err));
}

/* A server that is nobody's replica is no replica to watch either. */
static void a_replica_that_does_not_replicate_is_a_reason_to_wait(void **state)
{
    struct side *s = *state;
    char options[SQL_URL_BYTES * 2] = "drover.replica=";
    size_t at = strlen(options);
    for (const char *c = s->server.admin_url; *c != '\0'; c++) {
        at += (size_t)snprintf(options + at, sizeof options - at, "%%%02X", (unsigned char)*c);
    }
    reopen(s, options);
    assert_health(s, "replica");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(filters_mean_the_same_as_on_our_side),
        ON_BOTH(filters_know_dates_decimals_and_booleans),
        ON_BOTH(a_survey_shows_key_plan_and_bound),
        ON_BOTH(partitions_are_listed_and_whole_ones_advised),
        ON_BOTH(cascades_and_triggers_are_told_and_refused),
        ON_BOTH(a_changed_definition_is_stale_but_an_index_is_not),
        ON_BOTH(tables_are_dropped_empty_and_made_again_alike),
        ON_BOTH(other_commands_are_refused),
        cmocka_unit_test(each_brake_is_judged_by_its_limit),
        ON_BOTH(an_old_snapshot_is_a_brake),
        ON_BOTH(a_slot_that_holds_wal_is_a_brake),
        ON_BOTH(a_prepared_transaction_holds_the_horizon),
        ON_BOTH(a_read_only_server_is_a_brake),
        ON_BOTH(a_replica_that_cannot_be_asked_is_a_reason_to_wait),
        ON_BOTH(a_replica_that_does_not_replicate_is_a_reason_to_wait),
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
