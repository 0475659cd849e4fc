/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the request kind "sql.purge". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "request/request.h"

#define LITE "{\"kind\":\"sql.purge\",\"store\":\"sqlite:/a.db\",\"table\":\"t\""
#define MARIA "{\"kind\":\"sql.purge\",\"store\":\"mysql://u:p@h:3306/shop\",\"table\":\"t\""
#define POSTGRES "{\"kind\":\"sql.purge\",\"store\":\"postgres://u@h/shop\",\"table\":\"t\""

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static enum dr_code parse(const char *text, struct dr_request **out, struct dr_err *err)
{
    json_t *job = NULL;
    if (dr_json_parse("text", text, strlen(text), &job, err) != DR_OK) {
        print_error("%s in %s\n", err->msg, text);
        fail();
    }
    enum dr_code rc = dr_request_parse(job, "job.json", out, err);
    json_decref(job);
    return rc;
}

static struct dr_request *parse_sound(const char *text)
{
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    if (parse(text, &r, &err) != DR_OK) {
        print_error("%s\n%s\n", text, err.msg);
        fail();
    }
    return r;
}

static void refuse(const char *text, const char *part)
{
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    if (parse(text, &r, &err) != DR_INPUT) {
        print_error("accepted: %s (%s)\n", text, err.msg);
        fail();
    }
    assert_null(r);
    assert_has(err.msg, part);
}

static void refuse_guard(const char *text, const char *part)
{
    struct dr_err err = {0};
    const struct dr_protect protect = {.count = 1, .pattern = {"vip*"}};
    struct dr_request *r = parse_sound(text);
    assert_int_equal(dr_request_guard(r, &protect, &err), DR_REFUSED);
    assert_has(err.msg, part);
    dr_request_destroy(r);
}

static void a_whole_job_is_read(void **state)
{
    (void)state;
    struct dr_request *r =
        parse_sound(MARIA ",\"database\":\"shop2\",\"where\":\"a < 5\",\"key\":[\"a\",\"b\"],"
                          "\"allow_no_key\":true,\"whole_collection\":true,\"allow_scan\":true}");
    const struct dr_sql_purge *p = &r->u.sql_purge;
    assert_string_equal(r->kind_name, "sql.purge");
    assert_string_equal(dr_request_target(r), "shop2.t");
    assert_string_equal(p->table, "t");
    assert_string_equal(p->where, "a < 5");
    assert_int_equal(p->key_count, 2);
    assert_string_equal(p->key[1], "b");
    assert_true(p->allow_no_key && r->whole_collection && r->allow_scan);
    assert_int_equal(p->mode, DR_SQL_ROWS);
    assert_int_equal(p->hold_until, 0);
    assert_true(dr_request_needs_spec(r));
    assert_null(dr_request_filter(r));
    dr_request_destroy(r);
}

static void the_database_has_a_default_in_each_dialect(void **state)
{
    (void)state;
    static const char *const jobs[] = {LITE, MARIA, POSTGRES};
    static const char *const targets[] = {"main.t", "shop.t", "public.t"};
    char text[400];
    for (int i = 0; i < 3; i++) {
        (void)snprintf(text, sizeof text, "%s,\"where\":\"a=1\"}", jobs[i]);
        struct dr_request *r = parse_sound(text);
        assert_string_equal(dr_request_target(r), targets[i]);
        dr_request_destroy(r);
    }
    refuse("{\"kind\":\"sql.purge\",\"store\":\"mysql://u@h\",\"table\":\"t\",\"where\":\"a=1\"}",
           "job.json.database");
    refuse("{\"kind\":\"sql.purge\",\"store\":\"mysql://u@h/\",\"table\":\"t\",\"where\":\"a=1\"}",
           "job.json.database");
    refuse("{\"kind\":\"sql.purge\",\"store\":\"redis://h\",\"table\":\"t\",\"where\":\"a=1\"}",
           "job.json.store");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refuse(LITE "}", "\"where\" is missing");
    refuse(LITE ",\"where\":\"\"}", "job.json.where: empty");
    refuse(LITE ",\"where\":\"a=1; DROP TABLE t\"}", "job.json.where: a semicolon");
    refuse(LITE ",\"where\":\"a=1) OR (1=1\"}", "job.json.where");
    refuse(LITE ",\"where\":7}", "job.json.where");
    refuse(LITE ",\"where\":\"a=1\",\"key\":[]}", "job.json.key");
    refuse(LITE ",\"where\":\"a=1\",\"key\":[7]}", "job.json.key[0]");
    refuse(LITE ",\"where\":\"a=1\",\"key\":\"a\"}", "job.json.key");
    refuse(LITE ",\"where\":\"a=1\",\"mode\":\"delete\"}", "job.json.mode");
    refuse(LITE ",\"where\":\"a=1\",\"hold_days\":3}", "job.json.hold_days");
    refuse(LITE ",\"where\":\"a=1\",\"hold_until\":3}", "job.json.hold_until");
    refuse(LITE ",\"mode\":\"drop\",\"hold_until\":\"soon\"}", "job.json.hold_until");
    refuse(LITE ",\"mode\":\"drop\",\"hold_days\":99999}", "job.json.hold_days");
    refuse(LITE ",\"mode\":\"drop\",\"where\":\"a=1\"}", "the whole table goes");
    refuse(LITE ",\"mode\":\"truncate\",\"where\":\"a=1\"}", "\"truncate\"");
    refuse(LITE ",\"where\":\"a=1\",\"wehre\":\"a=2\"}", "wehre");
    refuse("{\"kind\":\"sql.purge\",\"store\":\"sqlite:/a.db\",\"where\":\"a=1\"}", "table");
    refuse("{\"kind\":\"sql.purge\",\"store\":\"sqlite:/a.db\",\"mode\":\"drop\",\"table\":"
           "\"a123456789b123456789c123456789d123456789e123456789ab\"}",
           "job.json.table");
}

static void a_drop_is_held_until_a_date_that_is_stored(void **state)
{
    (void)state;
    int64_t before = dr_wall_now();
    struct dr_request *r = parse_sound(LITE ",\"mode\":\"drop\",\"hold_days\":2,"
                                            "\"irreversible\":true}");
    int64_t until = r->u.sql_purge.hold_until;
    assert_true(until >= before + 2 * INT64_C(86400000));
    assert_true(until <= dr_wall_now() + 2 * INT64_C(86400000));
    assert_int_equal(json_integer_value(json_object_get(r->json, "hold_until")), until);
    /* What is stored means the same date whenever it is read again. */
    char *text = dr_request_json_text(r);
    struct dr_request *again = parse_sound(text);
    assert_int_equal(again->u.sql_purge.hold_until, until);
    dr_free(text);
    dr_request_destroy(again);
    dr_request_destroy(r);
    r = parse_sound(LITE ",\"mode\":\"drop\",\"irreversible\":true}");
    assert_int_equal(r->u.sql_purge.hold_until, 0);
    assert_null(json_object_get(r->json, "hold_until"));
    dr_request_destroy(r);
}

static void whole_tables_need_consent_and_protected_names_stay(void **state)
{
    (void)state;
    refuse_guard(LITE ",\"mode\":\"drop\"}", "irreversible");
    refuse_guard(LITE ",\"mode\":\"truncate\"}", "TRUNCATE cannot be undone");
    refuse_guard("{\"kind\":\"sql.purge\",\"store\":\"sqlite:/a.db\",\"table\":\"vip_users\","
                 "\"where\":\"a=1\"}",
                 "protected");
    refuse_guard("{\"kind\":\"sql.purge\",\"store\":\"sqlite:/a.db\",\"table\":\"sqlite_master\","
                 "\"where\":\"a=1\"}",
                 "protected");
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(LITE ",\"mode\":\"drop\",\"irreversible\":true}");
    assert_int_equal(dr_request_guard(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
}

static void replicas_travel_in_the_url(void **state)
{
    (void)state;
    struct dr_request *r = parse_sound(
        MARIA ",\"where\":\"a=1\",\"replicas\":[\"mysql://u:p%2F@r1:3307/x\",\"mysql://r2/\"]}");
    assert_string_equal(r->store_url,
                        "mysql://u:p@h:3306/shop?drover.replica=mysql%3A%2F%2Fu%3Ap%252F%40r1%"
                        "3A3307%2Fx&drover.replica=mysql%3A%2F%2Fr2%2F");
    assert_string_equal(dr_request_target(r), "shop.t");
    dr_request_destroy(r);
    refuse(MARIA ",\"where\":\"a=1\",\"replicas\":[\"r1:3306\"]}", "job.json.replicas[0]");
    refuse(MARIA ",\"where\":\"a=1\",\"replicas\":[\"postgres://r1\"]}", "job.json.replicas[0]");
    refuse(MARIA ",\"where\":\"a=1\",\"replicas\":[5]}", "job.json.replicas[0]");
    refuse(LITE ",\"where\":\"a=1\",\"replicas\":[\"mysql://h\"]}", "an SQLite file has none");
}

static void the_survey_fills_in_key_and_last_key(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(LITE ",\"where\":\"a=1\"}");
    struct dr_survey s = {.extra = "{\"key\":[\"id\"],\"last_key\":[41],\"rows\":3}"};
    assert_int_equal(dr_request_resolve(r, &s, &err), DR_OK);
    char *text = dr_request_json_text(r);
    assert_has(text, "\"key\":[\"id\"]");
    assert_has(text, "\"last_key\":[41]");
    struct dr_request *again = parse_sound(text);
    assert_int_equal(again->u.sql_purge.key_count, 1);
    dr_free(text);
    dr_request_destroy(again);
    s.extra = "not json";
    assert_true(dr_request_resolve(r, &s, &err) != DR_OK);
    dr_request_destroy(r);
}

static void short_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    const char *text = MARIA ",\"where\":\"a=1\",\"key\":[\"a\"],\"replicas\":[\"mysql://r\"]}";
    for (uint64_t n = 1; n < 200; n++) {
        struct dr_err err = {0};
        struct dr_request *r = NULL;
        json_t *job = NULL;
        assert_int_equal(dr_json_parse("text", text, strlen(text), &job, &err), DR_OK);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_request_parse(job, "job", &r, &err);
        (void)dr_mem_fail_at(0);
        json_decref(job);
        if (rc == DR_OK) {
            dr_request_destroy(r);
            assert_true(n > 3);
            return;
        }
        assert_int_equal(rc, DR_NOMEM);
        assert_null(r);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_job_is_read),
        cmocka_unit_test(the_database_has_a_default_in_each_dialect),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_drop_is_held_until_a_date_that_is_stored),
        cmocka_unit_test(whole_tables_need_consent_and_protected_names_stay),
        cmocka_unit_test(replicas_travel_in_the_url),
        cmocka_unit_test(the_survey_fills_in_key_and_last_key),
        cmocka_unit_test(short_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
