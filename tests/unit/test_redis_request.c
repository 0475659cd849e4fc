/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the request kind "redis.purge-stats". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "request/request.h"

#define HEAD "{\"kind\":\"redis.purge-stats\",\"store\":\"redis://h:6379\","

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static json_t *json_of(const char *text)
{
    struct dr_err err = {0};
    json_t *j = NULL;
    if (dr_json_parse("text", text, strlen(text), &j, &err) != DR_OK) {
        print_error("%s in %s\n", err.msg, text);
        fail();
    }
    return j;
}

static enum dr_code parse(const char *text, struct dr_request **out, struct dr_err *err)
{
    json_t *job = json_of(text);
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
        print_error("accepted: %s\n", text);
        fail();
    }
    assert_null(r);
    assert_has(err.msg, part);
}

static void all_keys_are_read(void **state)
{
    (void)state;
    struct dr_request *r = parse_sound(
        "{\"kind\":\"redis.purge-stats\",\"store\":\"redis://u:p%40@h:1,h2:2/"
        "7\",\"services\":[\"b\","
        "\"a\"],\"applications\":[\"x\"],\"metrics\":[\"m\"],\"users\":[],\"from\":1576454400,"
        "\"to\":"
        "\"2019-12-16T10:00:00Z\",\"zero_values\":true,\"overwrite\":true,\"strategy\":\"scan\","
        "\"partition_keys\":77,\"log_deleted\":\"/tmp/log\",\"layout\":{\"types\":[\"string\"]},"
        "\"allow_scan\":true,\"irreversible\":true,\"max_items\":5,\"note\":\"n\"}");
    const struct dr_redis_purge *p = &r->u.redis_purge;
    assert_string_equal(r->kind_name, "redis.purge-stats");
    assert_string_equal(r->database, "db7");
    assert_int_equal(p->service_count, 2);
    assert_string_equal(p->service[0], "b");
    assert_string_equal(p->service[1], "a");
    assert_false(p->marked);
    assert_true(p->zero_values);
    assert_true(p->overwrite);
    assert_int_equal(p->strategy, DR_REDIS_SCAN);
    assert_int_equal(p->partition_keys, 77);
    assert_string_equal(p->log_deleted, "/tmp/log");
    assert_true(r->allow_scan && r->irreversible);
    assert_int_equal(r->max_items, 5);
    assert_int_equal(r->archive_days, 0);
    assert_true(dr_request_needs_spec(r));
    assert_null(dr_request_filter(r));
    assert_string_equal(dr_request_target(r), "services b, a");
    dr_request_destroy(r);
    r = parse_sound(HEAD "\"services\":[\"1006\"]}");
    assert_string_equal(r->database, "db0");
    assert_int_equal(r->u.redis_purge.partition_keys, 10000);
    assert_int_equal(r->u.redis_purge.strategy, DR_REDIS_AUTO);
    assert_null(r->u.redis_purge.log_deleted);
    assert_string_equal(dr_request_target(r), "service 1006");
    dr_request_destroy(r);
    r = parse_sound(
        "{\"kind\":\"purge\",\"store\":\"sqlite:x\",\"database\":\"d\",\"collection\":\"c\""
        ",\"filter\":{\"a\":1}}");
    assert_false(dr_request_needs_spec(r));
    dr_request_destroy(r);
}

static void targets_are_short(void **state)
{
    (void)state;
    static const struct {
        const char *rest;
        const char *target;
    } rows[] = {
        {"\"services\":[\"a\",\"b\",\"c\"]}", "services a, b, c"},
        {"\"services\":[\"a\",\"b\",\"c\",\"d\"]}", "4 services"},
        {"\"marked\":true}", "marked services"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        (void)snprintf(text, sizeof text, HEAD "%s", rows[i].rest);
        struct dr_request *r = parse_sound(text);
        assert_string_equal(dr_request_target(r), rows[i].target);
        dr_request_destroy(r);
    }
}

static int64_t stored(const struct dr_request *r, const char *key)
{
    const json_t *j = json_object_get(r->json, key);
    assert_true(json_is_integer(j));
    return json_integer_value(j);
}

static void times_are_stored_as_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        {"2019-12-16T10:00:00Z", 1576490400},
        {"2019-12-16", 1576454400},
        {"2010-05-06T17:24:22Z", 1273166662},
        {"2020-02-29", 1582934400},
        {"2000-02-29", 951782400},
        {"2100-03-01", 4107542400},
        {"1970-01-01T00:00:01Z", 1},
        {"2024-12-31T23:59:59Z", 1735689599},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        (void)snprintf(text, sizeof text,
                       HEAD "\"services\":[\"a\"],\"from\":\"%s\",\"to\":\"%s\"}", rows[i].text,
                       rows[i].text);
        struct dr_request *r = parse_sound(text);
        assert_int_equal(stored(r, "from"), rows[i].seconds);
        assert_int_equal(stored(r, "to"), rows[i].seconds);
        dr_request_destroy(r);
    }
    struct dr_request *r = parse_sound(HEAD "\"services\":[\"a\"],\"from\":\"2019-12-16\",\"to\":"
                                            "1576500000}");
    char *json = dr_request_json_text(r);
    assert_string_equal(json, "{\"from\":1576454400,\"kind\":\"redis.purge-stats\",\"services\":"
                              "[\"a\"],\"store\":\"redis://h:6379\",\"to\":1576500000}");
    struct dr_request *again = parse_sound(json); /* as the workers do */
    char *same = dr_request_json_text(again);
    assert_string_equal(same, json);
    dr_free(json);
    dr_free(same);
    dr_request_destroy(again);
    dr_request_destroy(r);
}

static void mistakes_name_their_field(void **state)
{
    (void)state;
    static const struct {
        const char *rest;
        const char *part;
    } rows[] = {
        {"\"from\":1,\"to\":2}", "job.json.services"},
        {"\"services\":[]}", "job.json.services"},
        {"\"services\":[],\"marked\":false}", "job.json.services"},
        {"\"services\":[7]}", "job.json.services[0]"},
        {"\"services\":[\"a\"],\"applications\":\"x\"}", "job.json.applications"},
        {"\"services\":[\"a\"],\"metrics\":[1]}", "job.json.metrics[0]"},
        {"\"services\":[\"a\"],\"users\":true}", "job.json.users"},
        {"\"services\":[\"a\"],\"from\":0,\"to\":1}", "job.json.from"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":0}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":\"1970-01-01\",\"to\":5}", "job.json.from"},
        {"\"services\":[\"a\"],\"from\":2,\"to\":1}", "out of order"},
        {"\"services\":[\"a\"],\"from\":2}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":true,\"to\":1}", "job.json.from"},
        {"\"services\":[\"a\"],\"from\":\"yesterday\",\"to\":1}", "job.json.from"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-02-29\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-13-01\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-00-01\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-12-00\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-12-32\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-12-16T24:00:00Z\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-12-16T10:00:00\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"2019-12-16T10:00:00Zx\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"from\":1,\"to\":\"1969-12-16\"}", "job.json.to"},
        {"\"services\":[\"a\"],\"marked\":1}", "job.json.marked"},
        {"\"services\":[\"a\"],\"strategy\":\"best\"}", "job.json.strategy"},
        {"\"services\":[\"a\"],\"strategy\":1}", "job.json.strategy"},
        {"\"services\":[\"a\"],\"partition_keys\":0}", "job.json.partition_keys"},
        {"\"services\":[\"a\"],\"partition_keys\":1000001}", "job.json.partition_keys"},
        {"\"services\":[\"a\"],\"log_deleted\":\"\"}", "job.json.log_deleted"},
        {"\"services\":[\"a\"],\"log_deleted\":\"a\\nb\"}", "job.json.log_deleted"},
        {"\"services\":[\"a\"],\"layout\":1}", "job.json.layout"},
        {"\"services\":[\"a\"],\"layout\":{\"prefixes\":\"x\"}}", "prefix"},
        {"\"services\":[\"a\"],\"database\":\"db0\"}", "database"},
        {"\"services\":[\"a\"],\"service\":\"x\"}", "did you mean \"services\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[400];
        (void)snprintf(text, sizeof text, HEAD "%s", rows[i].rest);
        refuse(text, rows[i].part);
    }
    refuse("{\"kind\":\"redis.purge-stats\",\"store\":\"sqlite:x\",\"services\":[\"a\"]}",
           "redis:// URL");
    refuse("{\"kind\":\"redis.purge-stats\",\"store\":\"redis://h/x\",\"services\":[\"a\"]}",
           "number of a database");
    refuse("{\"kind\":\"purge\",\"store\":\"sqlite:x\",\"collection\":\"c\",\"filter\":{\"a\":1}}",
           "\"database\" is missing");
}

static enum dr_code guard(const struct dr_request *r, const char *pattern, struct dr_err *err)
{
    const struct dr_protect protect = {.count = 1, .pattern = {pattern}};
    return dr_request_guard(r, &protect, err);
}

static void services_can_be_protected(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(HEAD "\"services\":[\"a\",\"Billing-1\",\"admin\"]}");
    assert_int_equal(guard(r, "other*", &err), DR_OK); /* "admin" is a database's name only */
    assert_int_equal(guard(r, "billing*", &err), DR_REFUSED);
    assert_has(err.msg, "Billing-1");
    assert_int_equal(guard(r, "db0", &err), DR_REFUSED);
    assert_int_equal(dr_request_guard(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
}

static enum dr_code resolve(struct dr_request *r, const char *extra, struct dr_err *err)
{
    const struct dr_survey survey = {.database = "db0", .extra = extra};
    return dr_request_resolve(r, &survey, err);
}

static void marked_services_come_from_the_set(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(HEAD "\"marked\":true}");
    assert_int_equal(resolve(r, "{\"marked\":[]}", &err), DR_NOT_FOUND);
    assert_int_equal(resolve(r, NULL, &err), DR_NOT_FOUND);
    assert_int_equal(resolve(r, "{\"marked\":[1]}", &err), DR_CORRUPT);
    assert_int_equal(resolve(r, "{\"marked\":[\"a/b\"]}", &err), DR_INPUT);
    assert_has(err.msg, "marked set.services[0]");
    assert_int_equal(r->u.redis_purge.service_count, 0);
    assert_int_equal(resolve(r, "{\"marked\":[\"z\",\"b\",\"z\",\"a\"]}", &err), DR_OK);
    assert_int_equal(r->u.redis_purge.service_count, 3);
    assert_string_equal(r->u.redis_purge.service[0], "a");
    assert_string_equal(r->u.redis_purge.service[2], "z");
    char *json = dr_request_json_text(r);
    assert_has(json, "\"marked\":true,\"services\":[\"a\",\"b\",\"z\"]");
    assert_int_equal(guard(r, "z", &err), DR_REFUSED);
    struct dr_request *again = parse_sound(json);
    assert_int_equal(again->u.redis_purge.service_count, 3);
    dr_free(json);
    dr_request_destroy(again);
    dr_request_destroy(r);

    r = parse_sound(HEAD "\"marked\":true,\"services\":[\"b\"]}");
    assert_int_equal(resolve(r, "{\"marked\":[\"a\"]}", &err), DR_REFUSED);
    assert_has(err.msg, "service b is not marked");
    assert_int_equal(resolve(r, "{\"marked\":[\"a\",\"b\"]}", &err), DR_OK);
    assert_int_equal(r->u.redis_purge.service_count, 1);
    dr_request_destroy(r);

    r = parse_sound(HEAD "\"services\":[\"b\"]}"); /* not marked: the set does not matter */
    assert_int_equal(resolve(r, "{\"marked\":[\"a\"]}", &err), DR_OK);
    assert_int_equal(r->u.redis_purge.service_count, 1);
    dr_request_destroy(r);
    r = parse_sound("{\"kind\":\"tenant.drop\",\"store\":\"sqlite:x\",\"database\":\"d\"}");
    assert_int_equal(resolve(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
}

static void missing_memory_is_reported_at_every_place(void **state)
{
    (void)state;
    struct dr_err err = {0};
    json_t *job = json_of(HEAD "\"marked\":true,\"from\":\"2019-01-01\",\"to\":\"2019-02-01\","
                               "\"log_deleted\":\"x\",\"note\":\"n\"}");
    enum dr_code rc = DR_NOMEM;
    unsigned n = 0;
    while (rc != DR_OK) {
        struct dr_request *r = NULL;
        (void)dr_mem_fail_at(++n);
        rc = dr_request_parse(job, "job.json", &r, &err);
        if (rc == DR_OK) {
            rc = resolve(r, "{\"marked\":[\"a\",\"b\"]}", &err);
        }
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        assert_true(rc != DR_OK || r->u.redis_purge.service_count == 2);
        dr_request_destroy(r);
        assert_true(n < 1000);
    }
    assert_true(n > 4);
    json_decref(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_are_read),
        cmocka_unit_test(targets_are_short),
        cmocka_unit_test(times_are_stored_as_seconds),
        cmocka_unit_test(mistakes_name_their_field),
        cmocka_unit_test(services_can_be_protected),
        cmocka_unit_test(marked_services_come_from_the_set),
        cmocka_unit_test(missing_memory_is_reported_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
