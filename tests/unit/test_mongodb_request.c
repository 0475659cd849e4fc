/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the request kind "mongodb.drop". */
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

#define HEAD "{\"kind\":\"mongodb.drop\",\"store\":\"mongodb://h:27017\","
#define ACME HEAD "\"database\":\"acme\""

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

static void reject(const char *text, const char *part)
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

/* Well written, but forbidden. */
static void refuse(const char *text, const char *part)
{
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(text);
    if (dr_request_guard(r, NULL, &err) != DR_REFUSED) {
        print_error("not refused: %s\n", text);
        fail();
    }
    assert_has(err.msg, part);
    dr_request_destroy(r);
}

static void all_keys_are_read(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(
        "{\"kind\":\"mongodb.drop\",\"store\":\"mongodb+srv://u:p@h/?w=majority\",\"database\":"
        "\"acme\",\"collections\":[\"orders\"],\"filter\":{\"k\":{\"$numberLong\":\"5\"}},"
        "\"temp_index\":true,\"stop_balancer\":true,\"again\":true,\"chunk_sizes\":false,"
        "\"status_store\":\"mongodb://s:1\",\"status_database\":\"alcatraz\",\"allow_scan\":true,"
        "\"whole_collection\":true,\"irreversible\":true,\"note\":\"n\"}");
    const struct dr_mongodb_drop *d = &r->u.mongodb_drop;
    assert_string_equal(r->kind_name, "mongodb.drop");
    assert_string_equal(r->database, "acme");
    assert_int_equal(d->collection_count, 1);
    assert_string_equal(d->collection[0], "orders");
    assert_true(d->has_filter && d->temp_index && d->stop_balancer && d->again);
    assert_false(d->drop_when_empty);
    assert_true(r->allow_scan && r->whole_collection && r->irreversible);
    assert_true(dr_request_needs_spec(r));
    assert_null(dr_request_filter(r)); /* extended JSON is not the neutral filter */
    assert_string_equal(dr_request_target(r), "acme.orders");
    assert_int_equal(dr_request_guard(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
}

static void only_store_and_database_are_needed(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = parse_sound(ACME "}");
    const struct dr_mongodb_drop *d = &r->u.mongodb_drop;
    assert_int_equal(d->collection_count, 0);
    assert_false(d->has_filter || d->temp_index || d->stop_balancer || d->again ||
                 d->drop_when_empty || r->allow_scan || r->whole_collection);
    assert_string_equal(dr_request_target(r), "acme");
    assert_int_equal(dr_request_guard(r, NULL, &err), DR_OK);
    dr_request_destroy(r);
    r = parse_sound(ACME ",\"collections\":[\"a\",\"b\"],\"drop_when_empty\":true}");
    assert_string_equal(dr_request_target(r), "acme");
    assert_true(r->u.mongodb_drop.drop_when_empty);
    dr_request_destroy(r);
}

/* {"x":1,"y":2} and {"y":2,"x":1} are different values of a field. */
static void a_filter_keeps_the_order_of_its_keys(void **state)
{
    (void)state;
    struct dr_request *r =
        parse_sound(ACME ",\"collections\":[\"c\"],\"filter\":{\"place\":{\"y\":2,\"x\":1}}}");
    char *text = dr_request_json_text(r);
    assert_non_null(text);
    assert_has(text, "{\"place\":{\"y\":2,\"x\":1}}");
    dr_free(text);
    dr_request_destroy(r);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\"kind\":\"mongodb.drop\",\"store\":\"sqlite:/x\",\"database\":\"acme\"}",
         "job.json.store: this kind needs a mongodb:// URL"},
        {HEAD "\"database\":\"a.b\"}", "job.json.database: \"a.b\" is no name"},
        {HEAD "\"database\":\"a$b\"}", "job.json.database"},
        {HEAD "\"database\":\"\"}", "job.json.database"},
        {HEAD "\"database\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
         "at most 63 bytes"},
        {HEAD "\"filter\":{}}", "database"},
        {ACME ",\"collections\":[]}", "expected at least one name"},
        {ACME ",\"collections\":[1]}", "job.json.collections[0]: expected a string"},
        {ACME ",\"collections\":[\"a\",\"a\"]}", "named twice"},
        {ACME ",\"collections\":[\"a$b\"]}", "is no name of a MongoDB collection"},
        {ACME ",\"collections\":[\".a\"]}", "is no name of a MongoDB collection"},
        {ACME ",\"filter\":{\"a\":1}}", "needs exactly one collection in \"collections\", found 0"},
        {ACME ",\"collections\":[\"a\",\"b\"],\"filter\":{\"a\":1}}", "found 2"},
        {ACME ",\"collections\":[\"a\"],\"filter\":[]}", "job.json.filter"},
        {ACME ",\"collections\":[\"a\"],\"filter\":{\"a\":1},\"drop_when_empty\":true}",
         "job.json.drop_when_empty"},
        {ACME ",\"temp_index\":true}", "job.json.temp_index"},
        {ACME ",\"again\":1}", "job.json.again"},
        {ACME ",\"chunk_sizes\":\"no\"}", "job.json.chunk_sizes"},
        {ACME ",\"status_store\":\"mongodb://s\"}", "job.json.status_database"},
        {ACME ",\"status_store\":\"http://s\",\"status_database\":\"x\"}", "job.json.status_store"},
        {ACME ",\"status_database\":\"a/b\"}", "job.json.status_database: \"a/b\" is no name"},
        {ACME ",\"stop_balancr\":true}", "stop_balancr"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reject(cases[i].text, cases[i].part);
    }
}

static void a_status_store_is_not_shown_in_messages(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_request *r = NULL;
    assert_int_equal(parse(ACME ",\"status_store\":\"mongo://u:hunter2@s\",\"status_database\":"
                                "\"x\"}",
                           &r, &err),
                     DR_INPUT);
    assert_null(strstr(err.msg, "hunter2"));
}

static void protected_names_are_refused(void **state)
{
    (void)state;
    refuse(HEAD "\"database\":\"admin\"}", "admin");
    refuse(HEAD "\"database\":\"config\"}", "config");
    refuse(HEAD "\"database\":\"local\"}", "local");
    refuse(ACME ",\"collections\":[\"ok\",\"system.views\"]}", "system.views");
    struct dr_err err = {0};
    struct dr_protect protect = {.count = 1, .pattern = {"acme.led*"}};
    struct dr_request *r = parse_sound(ACME ",\"collections\":[\"ledger\"]}");
    assert_int_equal(dr_request_guard(r, &protect, &err), DR_REFUSED);
    assert_has(err.msg, "acme.led*");
    dr_request_destroy(r);
}

static void status_documents_stay_out_of_the_tenant_and_the_cluster(void **state)
{
    (void)state;
    refuse(ACME ",\"status_database\":\"acme\"}", "is the database to be erased");
    refuse(ACME ",\"status_database\":\"admin\"}", "belongs to the cluster");
    refuse(ACME ",\"status_database\":\"local\"}", "belongs to the cluster");
    refuse(ACME ",\"status_database\":\"config\"}", "belongs to the cluster");
}

static void a_job_with_a_filter_writes_no_status_documents(void **state)
{
    (void)state;
    struct dr_request *whole = parse_sound(ACME ",\"status_database\":\"alcatraz\"}");
    struct dr_request *part = parse_sound(ACME ",\"collections\":[\"c\"],\"filter\":{\"a\":1},"
                                               "\"status_database\":\"alcatraz\"}");
    assert_non_null(json_object_get(whole->json, "status_database"));
    assert_null(json_object_get(part->json, "status_database"));
    assert_non_null(json_object_get(part->json, "filter"));
    dr_request_destroy(whole);
    dr_request_destroy(part);
}

static void a_filter_that_selects_nothing_special_is_refused(void **state)
{
    (void)state;
    refuse(ACME ",\"collections\":[\"c\"],\"filter\":{}}", "matches every document");
    refuse(ACME ",\"collections\":[\"c\"],\"filter\":{\"$where\":\"1\"}}", "$where");
    refuse(ACME ",\"collections\":[\"c\"],\"filter\":{\"$and\":[{\"a\":1},{\"b\":{\"$near\":[1,2]}}"
                "]}}",
           "$near");
    refuse(ACME ",\"collections\":[\"c\"],\"filter\":{\"$expr\":{\"$function\":{}}}}", "$function");
    refuse(ACME ",\"collections\":[\"c\"],\"filter\":{\"$text\":{\"$search\":\"x\"}}}", "$text");
}

static void short_memory_is_told(void **state)
{
    (void)state;
    static const char text[] = ACME ",\"collections\":[\"c\"],\"filter\":{\"a\":1},"
                                    "\"status_database\":\"alcatraz\"}";
    struct dr_err err = {0};
    json_t *job = NULL;
    assert_int_equal(dr_json_parse("job", text, strlen(text), &job, &err), DR_OK);
    unsigned failures = 0;
    for (uint64_t n = 1; n < 100; n++) {
        struct dr_request *r = NULL;
        dr_mem_fail_at(n);
        enum dr_code rc = dr_request_parse(job, "job", &r, &err);
        dr_mem_fail_at(0);
        if (rc == DR_OK) {
            dr_request_destroy(r);
            break;
        }
        assert_int_equal(rc, DR_NOMEM);
        assert_null(r);
        failures++;
    }
    assert_true(failures > 0 && failures < 98);
    json_decref(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_are_read),
        cmocka_unit_test(only_store_and_database_are_needed),
        cmocka_unit_test(a_filter_keeps_the_order_of_its_keys),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_status_store_is_not_shown_in_messages),
        cmocka_unit_test(protected_names_are_refused),
        cmocka_unit_test(status_documents_stay_out_of_the_tenant_and_the_cluster),
        cmocka_unit_test(a_job_with_a_filter_writes_no_status_documents),
        cmocka_unit_test(a_filter_that_selects_nothing_special_is_refused),
        cmocka_unit_test(short_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
