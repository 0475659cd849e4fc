/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of request/: every key is read, every mistake names its place, guards say no. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "request/request.h"

enum { LOOP_MAX = 500 };

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
        print_error("%s\n", err.msg);
        fail();
    }
    return j;
}

static enum dr_code parse(const char *text, struct dr_request **out, struct dr_err *err)
{
    dr_err_clear(err);
    json_t *job = json_of(text);
    enum dr_code rc = dr_request_parse(job, "job.json", out, err);
    json_decref(job); /* the request must stand by itself from here on */
    return rc;
}

static struct dr_request *parse_sound(const char *text)
{
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    enum dr_code rc = parse(text, &r, &err);
    if (rc != DR_OK) {
        print_error("%s\n%s\n", text, err.msg);
        fail();
    }
    return r;
}

/* By their text: a copy of a struct need not keep what lies between its members. */
static void assert_same_tuning(const struct dr_tuning *a, const struct dr_tuning *b)
{
    json_t *a_json = dr_tuning_to_json(a);
    json_t *b_json = dr_tuning_to_json(b);
    assert_non_null(a_json);
    assert_true(json_equal(a_json, b_json));
    json_decref(a_json);
    json_decref(b_json);
}

/* ---- kinds and their keys ---- */

static void a_drop_has_all_its_keys(void **state)
{
    (void)state;
    struct dr_request *r =
        parse_sound("{\"kind\":\"tenant.drop\",\"store\":\"sqlite:/x.db\",\"database\":\"acme\","
                    "\"collections\":[\"a\",\"b.c\"],\"drop_when_empty\":true,\"allow_scan\":true,"
                    "\"whole_collection\":true,\"max_items\":100,\"drift\":0.25,\"archive_days\":3,"
                    "\"note\":\"ticket 7\",\"tuning\":{\"rate\":5}}");
    assert_string_equal(r->kind_name, "tenant.drop");
    assert_string_equal(r->store_url, "sqlite:/x.db");
    assert_string_equal(r->database, "acme");
    assert_int_equal(r->u.tenant_drop.collection_count, 2);
    assert_string_equal(r->u.tenant_drop.collection[0], "a");
    assert_string_equal(r->u.tenant_drop.collection[1], "b.c");
    assert_true(r->u.tenant_drop.drop_when_empty);
    assert_true(r->allow_scan);
    assert_true(r->whole_collection);
    assert_false(r->irreversible);
    assert_int_equal(r->max_items, 100);
    assert_true(r->drift == 0.25);
    assert_int_equal(r->archive_days, 3);
    assert_string_equal(r->note, "ticket 7");
    assert_int_equal(r->tuning.rate_items_s, 5);
    assert_null(dr_request_filter(r));
    assert_string_equal(dr_request_target(r), "acme");
    assert_string_equal(json_string_value(json_object_get(r->json, "note")), "ticket 7");
    dr_request_destroy(r);
}

static void a_purge_has_all_its_keys(void **state)
{
    (void)state;
    struct dr_request *r = parse_sound(
        "{\"kind\":\"purge\",\"store\":\"memory:x\",\"database\":\"acme\",\"collection\":"
        "\"orders\",\"filter\":{\"id\":{\"ge\":3,\"lt\":9}},\"temp_index\":true}");
    assert_string_equal(r->kind_name, "purge");
    assert_string_equal(r->u.purge.collection, "orders");
    assert_true(r->u.purge.temp_index);
    assert_ptr_equal(dr_request_filter(r), r->u.purge.filter);
    assert_int_equal(dr_request_filter(r)->term_count, 2);
    assert_string_equal(dr_request_target(r), "acme.orders");
    dr_request_destroy(r);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct dr_request *r =
        parse_sound("{\"kind\":\"tenant.drop\",\"store\":\"sqlite:x\",\"database\":\"acme\"}");
    assert_int_equal(r->u.tenant_drop.collection_count, 0);
    assert_false(r->u.tenant_drop.drop_when_empty);
    assert_false(r->allow_scan);
    assert_false(r->irreversible);
    assert_false(r->whole_collection);
    assert_int_equal(r->max_items, 0);
    assert_true(r->drift == 0.5);
    assert_int_equal(r->archive_days, 30);
    assert_null(r->note);
    struct dr_tuning t;
    dr_tuning_default(&t);
    assert_same_tuning(&r->tuning, &t);
    dr_request_destroy(r);
    dr_request_destroy(NULL);
    r = parse_sound("{\"kind\":\"tenant.drop\",\"store\":\"sqlite:x\",\"database\":\"acme\","
                    "\"irreversible\":true,\"archive_days\":9}");
    assert_true(r->irreversible);
    assert_int_equal(r->archive_days, 0); /* nothing is archived that nobody may undo */
    dr_request_destroy(r);
}

static void the_stricter_item_limit_counts(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        uint64_t job;
        uint64_t tuning;
    } rows[] = {
        {"", 0, 0},
        {",\"max_items\":100", 100, 100},
        {",\"tuning\":{\"max_items\":50}", 0, 50},
        {",\"max_items\":100,\"tuning\":{\"max_items\":50}", 100, 50},
        {",\"max_items\":100,\"tuning\":{\"max_items\":500}", 100, 100},
        {",\"max_items\":100,\"tuning\":{\"max_items\":0}", 100, 100},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        (void)snprintf(text, sizeof text,
                       "{\"kind\":\"tenant.drop\",\"store\":\"sqlite:x\",\"database\":\"acme\"%s}",
                       rows[i].keys);
        struct dr_request *r = parse_sound(text);
        assert_int_equal(r->max_items, rows[i].job);
        assert_int_equal(r->tuning.max_items, rows[i].tuning);
        dr_request_destroy(r);
    }
}

static void the_list_of_kinds_is_true(void **state)
{
    (void)state;
    assert_string_equal(dr_request_kinds(),
                        "tenant.drop purge redis.purge-stats sql.purge mongodb.drop table.create "
                        "table.rebalance table.drop");
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    const char *at = dr_request_kinds();
    while (*at != '\0') {
        int length = (int)strcspn(at, " ");
        char text[100];
        (void)snprintf(text, sizeof text, "{\"kind\":\"%.*s\"}", length, at);
        assert_int_equal(parse(text, &r, &err), DR_INPUT);
        bool is_table = strncmp(at, "table.", 6) == 0; /* they have no store of their own */
        assert_has(err.msg, is_table ? "\"table\" is missing" : "\"store\" is missing");
        at += length + (at[length] == ' ' ? 1 : 0);
    }
}

/* ---- mistakes ---- */

#define DROP "\"kind\":\"tenant.drop\",\"store\":\"sqlite:x\",\"database\":\"acme\""
#define PURGE                                                                                      \
    "\"kind\":\"purge\",\"store\":\"sqlite:x\",\"database\":\"acme\",\"collection\":\"orders\""

static void every_mistake_names_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } rows[] = {
        {"[]", "job.json: expected an object"},
        {"{}", "job.json: key \"kind\" is missing"},
        {"{\"kind\":7}", "job.json.kind: expected a string"},
        {"{\"kind\":\"tenant.dorp\"}", "job.json.kind: unknown kind \"tenant.dorp\"; known are: "
                                       "tenant.drop purge"},
        {"{\"kind\":\"a\\nb\\\"\"}", "unknown kind \"a?b?\""},
        {"{\"kind\":\"purge\"}", "job.json: key \"store\" is missing"},
        {"{\"kind\":\"purge\",\"store\":\"\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\"sqlite\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\"sqlite:\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\":x\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\"/tmp/x:y\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\\tc\"}", "job.json.store: expected a URL"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\"}", "job.json: key \"database\" is missing"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\",\"database\":\"\"}", "job.json.database: expected"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\",\"database\":\"a\\u0001\"}",
         "job.json.database: expected a name without control"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\",\"database\":7}",
         "job.json.database: expected a string"},
        {"{\"kind\":\"purge\",\"store\":\"a:b\",\"database\":\"d\"}",
         "job.json: key \"collection\" is missing"},
        {"{" PURGE "}", "job.json: key \"filter\" is missing"},
        {"{" PURGE ",\"filter\":7}", "job.json: filter: "},
        {"{" PURGE ",\"filter\":{\"id\":{\"less\":3}}}", "job.json: filter.id: unknown"},
        {"{" PURGE ",\"filter\":{\"id\":1},\"temp_index\":1}", "job.json.temp_index: expected"},
        {"{" PURGE ",\"filter\":{\"id\":1},\"collections\":[\"a\"]}",
         "job.json: unknown key \"collections\" (did you mean \"collection\"?)"},
        {"{" DROP ",\"filter\":{\"id\":1}}", "job.json: unknown key \"filter\""},
        {"{" DROP ",\"databse\":1}", "(did you mean \"database\"?)"},
        {"{" DROP ",\"collections\":\"a\"}", "job.json.collections: expected an array"},
        {"{" DROP ",\"collections\":[]}", "job.json.collections: expected at least one name"},
        {"{" DROP ",\"collections\":[\"a\",7]}", "job.json.collections[1]: expected a string"},
        {"{" DROP ",\"collections\":[\"a\",\"\"]}", "job.json.collections[1]: expected a name"},
        {"{" DROP ",\"collections\":[\"a\",\"b\",\"a\"]}", "job.json.collections[2]: \"a\" is"},
        {"{" DROP ",\"drop_when_empty\":0}", "job.json.drop_when_empty: expected true or false"},
        {"{" DROP ",\"allow_scan\":\"yes\"}", "job.json.allow_scan: expected true or false"},
        {"{" DROP ",\"irreversible\":null}", "job.json.irreversible: expected true or false"},
        {"{" DROP ",\"whole_collection\":1}", "job.json.whole_collection: expected true"},
        {"{" DROP ",\"max_items\":-1}", "job.json.max_items: expected a whole number"},
        {"{" DROP ",\"max_items\":1.5}", "job.json.max_items: expected a whole number"},
        {"{" DROP ",\"drift\":-0.1}", "job.json.drift: expected a number from 0 to 1000"},
        {"{" DROP ",\"drift\":1001}", "job.json.drift: expected a number from 0 to 1000"},
        {"{" DROP ",\"archive_days\":0}", "job.json.archive_days: expected a whole number from 1"},
        {"{" DROP ",\"archive_days\":3651}", "from 1 to 3650, found 3651"},
        {"{" DROP ",\"note\":7}", "job.json.note: expected a string"},
        {"{" DROP ",\"note\":\"a\\nb\"}", "job.json.note: expected at most 1000 bytes"},
        {"{" DROP ",\"tuning\":7}", "job.json.tuning: expected an object"},
        {"{" DROP ",\"tuning\":{\"rate\":-1}}", "job.json: tuning.rate: expected a whole number"},
        {"{" DROP ",\"tuning\":{\"rat\":1}}", "job.json: tuning: unknown key \"rat\" (did you"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dr_err err = {0};
        struct dr_request *r = (struct dr_request *)&err;
        assert_int_equal(parse(rows[i].text, &r, &err), DR_INPUT);
        assert_null(r);
        assert_has(err.msg, rows[i].part);
        assert_null(strchr(err.msg, '\n'));
    }
}

static void names_end_at_their_limit(void **state)
{
    (void)state;
    char name[122];
    char text[400];
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    memset(name, 'n', sizeof name);
    name[120] = '\0';
    (void)snprintf(text, sizeof text,
                   "{\"kind\":\"purge\",\"store\":\"a:b\",\"database\":\"%s\",\"collection\":"
                   "\"%s\",\"filter\":{\"id\":1}}",
                   name, name);
    r = parse_sound(text);
    assert_int_equal(strlen(dr_request_target(r)), 241);
    assert_int_equal(dr_request_guard(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
    name[120] = 'n';
    name[121] = '\0';
    (void)snprintf(text, sizeof text,
                   "{\"kind\":\"tenant.drop\",\"store\":\"a:b\",\"database\":\"%s\"}", name);
    assert_int_equal(parse(text, &r, &err), DR_INPUT);
    assert_has(err.msg, "1 to 120 bytes, found 121");
}

static void lists_end_at_their_limit(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    for (int count = DR_COLLECTIONS_MAX; count <= DR_COLLECTIONS_MAX + 1; count++) {
        struct dr_str text;
        dr_str_init(&text);
        dr_str_add(&text, "{" DROP ",\"collections\":[");
        for (int i = 0; i < count; i++) {
            dr_str_addf(&text, "%s\"c%d\"", i == 0 ? "" : ",", i);
        }
        dr_str_add(&text, "]}");
        enum dr_code rc = parse(dr_str_text(&text), &r, &err);
        dr_str_fini(&text);
        assert_int_equal(rc, count > DR_COLLECTIONS_MAX ? DR_INPUT : DR_OK);
        dr_request_destroy(r);
    }
    assert_has(err.msg, "job.json.collections: expected at most 1000 items");
}

/* ---- guards ---- */

static enum dr_code guard(const char *text, const struct dr_protect *protect, struct dr_err *err)
{
    struct dr_request *r = parse_sound(text);
    dr_err_clear(err);
    enum dr_code rc = dr_request_guard(r, protect, err);
    dr_request_destroy(r);
    return rc;
}

static void protected_names_are_refused(void **state)
{
    (void)state;
    static const struct dr_protect protect = {.count = 3,
                                              .pattern = {"prod*", "acme.keep?", "ledger"}};
    static const struct {
        const char *database;
        const char *collection;
        const char *pattern; /* NULL: allowed */
    } rows[] = {
        {"admin", "x", "\"admin\""},
        {"config", "x", "\"config\""},
        {"local", "x", "\"local\""},
        {"LOCAL", "x", "\"local\""},
        {"system", "x", "\"system*\""},
        {"acme", "system.users", "\"system*\""},
        {"acme", "sqlite_master", "\"sqlite_*\""},
        {"drover_x", "x", "\"drover_*\""},
        {"acme", "drover_shards", "\"drover_*\""},
        {"production", "x", "\"prod*\""},
        {"acme", "products", "\"prod*\""},
        {"acme", "keep1", "\"acme.keep?\""},
        {"acme", "ledger", "\"ledger\""},
        {"ledger", "x", "\"ledger\""},
        {"acme", "keep", NULL},
        {"other", "keep1", NULL},
        {"main", "x", NULL},
        {"administration", "configs", NULL},
        {"acme", "localities", NULL},
        {"my_system", "my_drover_x", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int is_purge = 0; is_purge < 2; is_purge++) {
            char text[300];
            (void)snprintf(text, sizeof text,
                           "{\"kind\":\"%s\",\"store\":\"a:b\",\"database\":"
                           "\"%s\",%s\"%s\"%s}",
                           is_purge ? "purge" : "tenant.drop", rows[i].database,
                           is_purge ? "\"collection\":" : "\"collections\":[\"fine\",",
                           rows[i].collection, is_purge ? ",\"filter\":{\"id\":1}" : "]");
            struct dr_err err = {0};
            enum dr_code rc = guard(text, &protect, &err);
            if (rows[i].pattern == NULL) {
                assert_int_equal(rc, DR_OK);
                assert_string_equal(err.msg, "");
            } else {
                assert_int_equal(rc, DR_REFUSED);
                assert_has(err.msg, "protected");
                assert_has(err.msg, rows[i].pattern);
            }
        }
    }
    struct dr_err err = {0};
    assert_int_equal(guard("{" DROP "}", NULL, &err), DR_OK);
    assert_int_equal(
        guard("{\"kind\":\"tenant.drop\",\"store\":\"a:b\",\"database\":\"admin\"}", NULL, &err),
        DR_REFUSED);
}

static void an_empty_filter_is_refused(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    assert_int_equal(parse("{" PURGE ",\"filter\":{}}", &r, &err), DR_REFUSED);
    assert_null(r);
    assert_int_equal(err.code, DR_REFUSED);
    assert_has(err.msg, "job.json: ");
    assert_has(err.msg, "empty filter");
    /* Consent to a whole collection is no consent to an empty filter. */
    assert_int_equal(parse("{" PURGE ",\"filter\":{},\"whole_collection\":true}", &r, &err),
                     DR_REFUSED);
}

static void a_filter_that_matches_everything_needs_consent(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "{\"id\":{\"is_null\":false}}",
        "{\"id\":{\"ne\":0}}",
        "{\"name\":{\"ge\":\"\"}}",
        "{\"id\":{\"ge\":-9223372036854775808}}",
        "{\"id\":{\"le\":9223372036854775807},\"name\":{\"is_null\":false}}",
    };
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        char text[300];
        struct dr_err err = {0};
        (void)snprintf(text, sizeof text, "{" PURGE ",\"filter\":%s}", filters[i]);
        assert_int_equal(guard(text, NULL, &err), DR_REFUSED);
        assert_has(err.msg, "acme.orders");
        assert_has(err.msg, "every row");
        assert_has(err.msg, "whole_collection");
        (void)snprintf(text, sizeof text, "{" PURGE ",\"whole_collection\":true,\"filter\":%s}",
                       filters[i]);
        assert_int_equal(guard(text, NULL, &err), DR_OK);
    }
    struct dr_err err = {0};
    assert_int_equal(
        guard("{" PURGE ",\"filter\":{\"id\":{\"is_null\":false},\"k\":1}}", NULL, &err), DR_OK);
}

static void any_failing_allocation_is_survived(void **state)
{
    (void)state;
    json_t *jobs[2] = {
        json_of("{" DROP ",\"collections\":[\"a\",\"b\"],\"note\":\"n\",\"tuning\":{\"quiet\":["
                "\"Mon 08:00-20:00\"]}}"),
        json_of("{" PURGE ",\"filter\":{\"id\":{\"in\":[1,2,\"c\"]}}}"),
    };
    for (size_t k = 0; k < 2; k++) {
        uint64_t n = 1;
        for (; n < LOOP_MAX; n++) {
            struct dr_err err = {0};
            struct dr_request *r = NULL;
            (void)dr_mem_fail_at(n);
            enum dr_code rc = dr_request_parse(jobs[k], "job", &r, &err);
            (void)dr_mem_fail_at(0);
            dr_request_destroy(r);
            if (rc == DR_OK) {
                break;
            }
            assert_null(r);
            assert_int_equal(rc, DR_NOMEM);
        }
        assert_true(n > 2 && n < LOOP_MAX);
        json_decref(jobs[k]);
    }
}

/* The small block of the arena hides most allocations; a large job shows those in between. */
static void any_failing_allocation_of_a_large_job_is_survived(void **state)
{
    (void)state;
    json_t *job = json_of("{" DROP ",\"collections\":[]}");
    for (int i = 0; i < DR_COLLECTIONS_MAX; i++) {
        char name[101];
        (void)snprintf(name, sizeof name, "%0100d", i);
        assert_int_equal(
            json_array_append_new(json_object_get(job, "collections"), json_string(name)), 0);
    }
    uint64_t n = 1;
    for (; n < LOOP_MAX; n++) {
        struct dr_request *r = NULL;
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_request_parse(job, "job", &r, NULL);
        (void)dr_mem_fail_at(0);
        dr_request_destroy(r);
        if (rc == DR_OK) {
            break;
        }
        assert_int_equal(rc, DR_NOMEM);
    }
    assert_true(n > 20 && n < LOOP_MAX);
    json_decref(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drop_has_all_its_keys),
        cmocka_unit_test(a_purge_has_all_its_keys),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(the_stricter_item_limit_counts),
        cmocka_unit_test(the_list_of_kinds_is_true),
        cmocka_unit_test(every_mistake_names_its_place),
        cmocka_unit_test(names_end_at_their_limit),
        cmocka_unit_test(lists_end_at_their_limit),
        cmocka_unit_test(protected_names_are_refused),
        cmocka_unit_test(an_empty_filter_is_refused),
        cmocka_unit_test(a_filter_that_matches_everything_needs_consent),
        cmocka_unit_test(any_failing_allocation_is_survived),
        cmocka_unit_test(any_failing_allocation_of_a_large_job_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
