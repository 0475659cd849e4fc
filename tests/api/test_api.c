/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the API about operations: storing, looking, steering, the description, the
 * daemon. */
#include "api/api_help.h"

#include <pthread.h>

/* --- storing -------------------------------------------------------------------------------------
 */

static void a_job_is_stored_approved_and_audited(void **state)
{
    struct dr_err err = {0};
    struct dr_audit audit[4];
    uint32_t count = 0;
    struct bench *b = make_bench(NULL);
    (void)state;
    use_tokens(b);
    start_api(b);
    struct answer a = ask(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME);
    assert_int_equal(a.status, 202);
    assert_int_equal(id_of(&a), 1);
    assert_string_equal(text_of(&a, "status"), "queued");
    assert_string_equal(text_of(&a, "wish_by"), "api:console");
    assert_true(json_is_false(json_object_get(a.json, "repeated")));
    assert_non_null(strstr(a.text, "\r\nLocation: /operations/1\r\n"));
    free_answer(&a);
    assert_int_equal(dr_queue_audits(b->queue, 1, 0, audit, 4, &count, &err), DR_OK);
    assert_int_equal(count, 1);
    assert_string_equal(audit[0].by, "api:console");
    assert_string_equal(audit[0].what, "submitted");
    assert_int_equal(dr_memory_count("api", "acme.orders", NULL), ROWS); /* stored, not run */
    drop_bench(b);
}

static void a_key_gives_the_same_operation_and_another_body_is_refused(void **state)
{
    static const char key[] = "Idempotency-Key: job-77\r\n";
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, key, DROP_ACME, 202, NULL, NULL);
    struct answer a = ask(b, "POST", "/operations", NULL, key, DROP_ACME);
    assert_int_equal(a.status, 200);
    assert_int_equal(id_of(&a), 1);
    assert_true(json_is_true(json_object_get(a.json, "repeated")));
    free_answer(&a);
    /* Blanks and the order of keys do not make another job. */
    expect(b, "POST", "/operations", NULL, key,
           "{ \"database\": \"acme\", \"store\":\"memory:api\", \"kind\":\"tenant.drop\"}", 200,
           NULL, NULL);
    expect(b, "POST", "/operations", NULL, key, DROP_GLOBEX, 409, "EXISTS", NULL);
    assert_int_equal(count_ops(b), 1);
    /* Also when the first one has done its work and its database is gone. */
    dr_memory_remove("api");
    expect(b, "POST", "/operations", NULL, key, DROP_ACME, 200, NULL, NULL);
    expect(b, "POST", "/operations", NULL, "Idempotency-Key: other\r\n", DROP_ACME, 502, NULL,
           NULL);
    expect(b, "POST", "/operations", NULL, "Idempotency-Key: a b\r\n", DROP_ACME, 400, "INPUT",
           NULL);
    expect(b, "POST", "/operations", NULL, "Idempotency-Key: \r\n", DROP_ACME, 400, "INPUT", NULL);
    assert_int_equal(count_ops(b), 1);
    drop_bench(b);
}

struct racer {
    const struct bench *b;
    int status;
    int64_t id;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct answer a =
        ask(r->b, "POST", "/operations", NULL, "Idempotency-Key: race\r\n", DROP_ACME);
    r->status = a.status;
    r->id = id_of(&a);
    free_answer(&a);
    return NULL;
}

static void equal_keys_at_the_same_moment_store_one_operation(void **state)
{
    enum { RACERS = 6 };
    pthread_t thread[RACERS];
    struct racer racer[RACERS];
    unsigned fresh = 0;
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    for (int i = 0; i < RACERS; i++) {
        racer[i] = (struct racer){.b = b};
        assert_int_equal(pthread_create(&thread[i], NULL, race, &racer[i]), 0);
    }
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(racer[i].status == 202 || racer[i].status == 200);
        assert_int_equal(racer[i].id, 1);
        fresh += racer[i].status == 202;
    }
    assert_int_equal(fresh, 1);
    assert_int_equal(count_ops(b), 1);
    drop_bench(b);
}

static void a_bad_job_is_answered_with_its_field_and_stores_nothing(void **state)
{
    struct bench *b = make_bench("{\"protect\": [\"globex\"]}");
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, NULL, "{}", 400, "INPUT", "kind");
    expect(b, "POST", "/operations", NULL, NULL, "[]", 400, "INPUT", NULL);
    expect(b, "POST", "/operations", NULL, NULL, "{\"kind\":", 400, "INPUT", NULL);
    expect(b, "POST", "/operations", NULL, NULL, "{\"kind\":\"x\",\"kind\":\"y\"}", 400, "INPUT",
           NULL);
    expect(b, "POST", "/operations", NULL, NULL,
           "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\",\"database\":7}", 400, "INPUT",
           "database");
    expect(b, "POST", "/operations", NULL, NULL,
           "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\",\"database\":\"acme\",\"bse\":1}",
           400, "INPUT", "bse");
    expect(b, "POST", "/operations", NULL, NULL,
           "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\",\"database\":\"acme\",\"tuning\":"
           "{\"rate\":-1}}",
           400, "INPUT", "tuning.rate");
    expect(b, "POST", "/operations", NULL, NULL, DROP_GLOBEX, 409, "REFUSED", NULL);
    expect(b, "POST", "/operations", NULL, NULL,
           "{\"kind\":\"tenant.drop\",\"store\":\"memory:none\",\"database\":\"acme\"}", 502,
           "UNREACHABLE", NULL);
    assert_int_equal(count_ops(b), 0);
    drop_bench(b);
}

/* --- the purge of statistics ---------------------------------------------------------------------
 */

static void a_purge_of_statistics_needs_its_configuration(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "DELETE", "/services/1006/stats", NULL, NULL, "{\"from\":1,\"to\":2}", 501,
           "UNSUPPORTED", NULL);
    drop_bench(b);
}

static void a_purge_of_statistics_names_every_bad_field_and_stores_nothing(void **state)
{
    static const struct {
        const char *body;
        const char *field;
    } bad[] = {
        {"{\"applications\":\"a\",\"metrics\":[\"m\"],\"from\":10,\"to\":20}", "applications"},
        {"{\"applications\":[\"a\",7],\"metrics\":[\"m\"],\"from\":10,\"to\":20}", "applications"},
        {"{\"applications\":[],\"metrics\":{},\"from\":10,\"to\":20}", "metrics"},
        {"{\"applications\":[],\"metrics\":[null],\"from\":10,\"to\":20}", "metrics"},
        {"{\"metrics\":[\"m\"],\"users\":3,\"from\":10,\"to\":20}", "users"},
        {"{\"metrics\":[\"m\"],\"from\":0,\"to\":20}", "from"},
        {"{\"metrics\":[\"m\"],\"from\":10,\"to\":0}", "to"},
        {"{\"metrics\":[\"m\"],\"from\":\"soon\",\"to\":20}", "from"},
        {"{\"metrics\":[\"m\"],\"from\":10,\"to\":true}", "to"},
        {"{\"metrics\":[\"m\"],\"to\":20}", "from"},
        {"{\"metrics\":[\"m\"],\"from\":20,\"to\":10}", NULL},
        {"{\"metrics\":[\"m\"],\"from\":10,\"to\":20,\"services\":[\"2007\"]}", "services"},
        {"{\"metrics\":[\"m\"],\"from\":10,\"to\":20,\"store\":\"redis://elsewhere\"}", "store"},
        {"{\"metrics\":[\"m\"],\"from\":10,\"to\":20,\"irreversible\":true}", "irreversible"},
    };
    struct bench *b = make_bench("{\"redis_stats\": {\"store\": \"redis://127.0.0.1:1\"}}");
    (void)state;
    start_api(b);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct answer a = ask(b, "DELETE", "/services/1006/stats", NULL, NULL, bad[i].body);
        const char *field = error_part(&a, "field");
        size_t length = bad[i].field != NULL ? strlen(bad[i].field) : 0;
        bool is_named = strncmp(field, bad[i].field != NULL ? bad[i].field : "", length) == 0 &&
                        (length == 0 || field[length] == '\0' || field[length] == '[');
        if (a.status != 400 || !is_named) {
            print_error("%s\n%s\n", bad[i].body, a.text);
            fail();
        }
        free_answer(&a);
    }
    expect(b, "DELETE", "/services//stats", NULL, NULL, "{\"from\":1,\"to\":2}", 404, NULL, NULL);
    expect(b, "DELETE", "/services/%00/stats", NULL, NULL, "{\"from\":1,\"to\":2}", 404, NULL,
           NULL);
    expect(b, "DELETE", "/services/%ff/stats", NULL, NULL, "{\"from\":1,\"to\":2}", 400, "INPUT",
           NULL);
    assert_int_equal(count_ops(b), 0);
    drop_bench(b);
}

static void the_configuration_is_checked_before_anything_is_served(void **state)
{
    static const char *const bad[] = {
        "{\"redis_stats\": {}}",
        "{\"redis_stats\": {\"store\": 7}}",
        "{\"redis_stats\": {\"store\": \"redis://h\", \"services\": [\"1\"]}}",
        "{\"redis_stats\": []}",
    };
    struct bench *b = make_bench(NULL);
    struct dr_config config = {0};
    struct dr_err err = {0};
    char path[96];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/bad.json", b->folder);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_text(path, bad[i], 0600);
        assert_int_equal(dr_config_load(&config, path, &err), DR_INPUT);
        assert_non_null(strstr(err.msg, "redis_stats"));
        dr_config_fini(&config);
    }
    drop_bench(b);
}

/* --- looking -------------------------------------------------------------------------------------
 */

static void lists_come_in_pages_that_meet(void **state)
{
    int64_t seen[5];
    unsigned count = 0;
    char path[64] = "/operations?limit=2";
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    for (int i = 0; i < 5; i++) {
        expect(b, "POST", "/operations", NULL, NULL, DROP_ACME, 202, NULL, NULL);
    }
    for (bool more = true; more;) {
        size_t i;
        json_t *op;
        struct answer a = ask(b, "GET", path, NULL, NULL, NULL);
        assert_int_equal(a.status, 200);
        json_array_foreach(json_object_get(a.json, "operations"), i, op)
        {
            assert_true(count < 5);
            seen[count++] = json_integer_value(json_object_get(op, "id"));
        }
        more = json_is_integer(json_object_get(a.json, "next"));
        (void)snprintf(path, sizeof path, "/operations?limit=2&before=%lld",
                       (long long)json_integer_value(json_object_get(a.json, "next")));
        free_answer(&a);
    }
    assert_int_equal(count, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(seen[i], 5 - (int)i);
    }
    expect(b, "GET", "/operations?limit=0", NULL, NULL, NULL, 400, "INPUT", "limit");
    expect(b, "GET", "/operations?limit=x", NULL, NULL, NULL, 400, "INPUT", "limit");
    expect(b, "GET", "/operations?before=-1", NULL, NULL, NULL, 400, "INPUT", "before");
    expect(b, "GET", "/operations?befor=1", NULL, NULL, NULL, 400, "INPUT", "befor");
    drop_bench(b);
}

static void operations_steps_and_explanations_can_be_read(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, NULL, DROP_ACME, 202, NULL, NULL);
    struct answer a = ask(b, "GET", "/operations/1", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(text_of(&a, "kind"), "tenant.drop");
    assert_string_equal(text_of(&a, "target"), "acme");
    free_answer(&a);
    a = ask(b, "GET", "/operations/1/steps?status=created&limit=1", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_array_size(json_object_get(a.json, "steps")), 1);
    assert_true(json_is_integer(json_object_get(a.json, "next")));
    free_answer(&a);
    a = ask(b, "GET", "/operations/1/steps?status=failed", NULL, NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(a.json, "steps")), 0);
    assert_true(json_is_null(json_object_get(a.json, "next")));
    free_answer(&a);
    a = ask(b, "GET", "/operations/1/explain", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_true(json_array_size(json_object_get(a.json, "explanation")) > 1);
    free_answer(&a);
    expect(b, "GET", "/operations/1/steps?status=tired", NULL, NULL, NULL, 400, "INPUT", "status");
    expect(b, "GET", "/operations/2", NULL, NULL, NULL, 404, "NOT_FOUND", NULL);
    expect(b, "GET", "/operations/2/steps", NULL, NULL, NULL, 404, "NOT_FOUND", NULL);
    expect(b, "GET", "/operations/2/explain", NULL, NULL, NULL, 404, "NOT_FOUND", NULL);
    expect(b, "POST", "/operations/2/pause", NULL, NULL, "{}", 404, "NOT_FOUND", NULL);
    drop_bench(b);
}

/* --- steering ------------------------------------------------------------------------------------
 */

static void wishes_are_stored_with_reason_and_name(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    use_tokens(b);
    start_api(b);
    expect(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME, 202, NULL, NULL);
    struct answer a =
        ask(b, "POST", "/operations/1/pause", OPERATOR, NULL, "{\"reason\":\"lunch\"}");
    assert_int_equal(a.status, 202);
    assert_string_equal(text_of(&a, "status"), "paused");
    assert_string_equal(text_of(&a, "reason"), "lunch");
    assert_string_equal(text_of(&a, "wish_by"), "api:console");
    free_answer(&a);
    expect(b, "POST", "/operations/1/resume", OPERATOR, NULL, NULL, 202, NULL, NULL);
    expect(b, "POST", "/operations/1/pause", OPERATOR, NULL, "{\"why\":\"x\"}", 400, "INPUT",
           "why");
    expect(b, "POST", "/operations/1/pause", OPERATOR, NULL, "{\"now\":true}", 400, "INPUT", "now");
    expect(b, "POST", "/operations/1/stop", OPERATOR, NULL, "{\"now\":1}", 400, "INPUT", "now");
    a = ask(b, "POST", "/operations/1/stop", OPERATOR, NULL, "{\"now\":true}");
    assert_int_equal(a.status, 202);
    assert_string_equal(text_of(&a, "wish"), "rollback");
    assert_string_equal(text_of(&a, "reason"), "stop now");
    free_answer(&a);
    drop_bench(b);
}

static void a_move_that_makes_no_sense_is_a_conflict(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, NULL, DROP_ACME, 202, NULL, NULL);
    expect(b, "POST", "/operations/1/rollback", NULL, NULL, NULL, 202, NULL, NULL);
    expect(b, "POST", "/operations/1/resume", NULL, NULL, NULL, 409, "REFUSED", NULL);
    expect(b, "POST", "/operations/1/stop", NULL, NULL, NULL, 409, "REFUSED", NULL);
    drop_bench(b);
}

static void tuning_changes_what_is_named_and_nothing_else(void **state)
{
    struct bench *b = make_bench("{\"defaults\": {\"rate\": 77, \"per_node\": 3}}");
    (void)state;
    use_tokens(b);
    start_api(b);
    expect(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME, 202, NULL, NULL);
    struct answer a = ask(b, "POST", "/operations/1/tune", OPERATOR, NULL, "{\"rate\":500}");
    assert_int_equal(a.status, 200);
    assert_int_equal(json_integer_value(json_object_get(a.json, "rate")), 500);
    assert_int_equal(json_integer_value(json_object_get(a.json, "per_node")), 3);
    free_answer(&a);
    a = ask(b, "POST", "/operations/1/tune", OPERATOR, NULL, "{}");
    assert_int_equal(json_integer_value(json_object_get(a.json, "rate")), 500);
    free_answer(&a);
    expect(b, "POST", "/operations/1/tune", OPERATOR, NULL, "{\"rate\":\"x\"}", 400, "INPUT",
           "rate");
    expect(b, "POST", "/operations/1/tune", OPERATOR, NULL, "{\"rte\":1}", 400, "INPUT", "rte");
    expect(b, "POST", "/operations/1/tune", OPERATOR, NULL, "{\"max_items\":5}", 403, "DENIED",
           NULL);
    expect(b, "POST", "/operations/1/tune", ADMIN, NULL, "{\"max_items\":5}", 200, NULL, NULL);
    expect(b, "POST", "/operations/9/tune", ADMIN, NULL, "{\"rate\":5}", 404, "NOT_FOUND", NULL);
    drop_bench(b);
}

/* --- the description -----------------------------------------------------------------------------
 */

static json_t *load_description(void)
{
    char path[512];
    struct dr_err err = {0};
    json_t *doc = NULL;
    (void)snprintf(path, sizeof path, "%.400s", __FILE__);
    char *tests = strstr(path, "tests/api/");
    assert_non_null(tests);
    (void)snprintf(tests, sizeof path - (size_t)(tests - path), "docs/openapi.json");
    assert_int_equal(dr_json_load(path, &doc, &err), DR_OK);
    return doc;
}

static const char *role_text(enum dr_api_role role)
{
    static const char *const names[] = {"none", "read", "operate", "admin"};
    return names[role];
}

static void compare_query(const struct dr_api_route_info *route, const json_t *described)
{
    size_t i;
    json_t *parameter;
    unsigned in_query = 0;
    unsigned known = 0;
    json_array_foreach(json_object_get(described, "parameters"), i, parameter)
    {
        if (strcmp(json_string_value(json_object_get(parameter, "in")), "query") == 0) {
            in_query++;
        }
    }
    for (const char *const *name = route->query; *name != NULL; name++, known++) {
        bool is_found = false;
        json_array_foreach(json_object_get(described, "parameters"), i, parameter)
        {
            is_found |= strcmp(json_string_value(json_object_get(parameter, "name")), *name) == 0;
        }
        assert_true(is_found);
    }
    assert_int_equal(in_query, known);
}

static void the_description_and_the_routes_are_the_same(void **state)
{
    const char *path;
    json_t *methods;
    uint32_t described_count = 0;
    uint32_t count = 0;
    struct dr_api_route_info route;
    json_t *doc = load_description();
    json_t *paths = json_object_get(doc, "paths");
    (void)state;
    json_object_foreach(paths, path, methods)
    {
        described_count += (uint32_t)json_object_size(methods);
    }
    for (; dr_api_route_at(count, &route) != 0; count++) {
        char method[16] = "";
        for (size_t i = 0; route.method[i] != '\0' && i < sizeof method - 1; i++) {
            method[i] = (char)(route.method[i] + 32);
        }
        const json_t *described = json_object_get(json_object_get(paths, route.path), method);
        if (described == NULL) {
            print_error("%s %s is not described\n", route.method, route.path);
        }
        assert_non_null(described);
        assert_string_equal(json_string_value(json_object_get(described, "operationId")),
                            route.name);
        assert_string_equal(json_string_value(json_object_get(described, "x-role")),
                            role_text(route.role));
        compare_query(&route, described);
    }
    assert_true(count > 10);
    assert_int_equal(count, described_count);
    json_decref(doc);
}

static void an_operation_has_no_key_that_is_not_described(void **state)
{
    const char *key;
    json_t *value;
    json_t *doc = load_description();
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    const json_t *op = json_object_get(json_object_get(schemas, "Operation"), "properties");
    const json_t *step = json_object_get(json_object_get(schemas, "Step"), "properties");
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    struct answer a = ask(b, "POST", "/operations", NULL, NULL, DROP_ACME);
    json_object_foreach(a.json, key, value)
    {
        assert_non_null(json_object_get(op, key));
    }
    assert_int_equal(json_object_size(a.json), json_object_size(op));
    free_answer(&a);
    a = ask(b, "GET", "/operations/1/steps?limit=1", NULL, NULL, NULL);
    json_object_foreach(json_array_get(json_object_get(a.json, "steps"), 0), key, value)
    {
        assert_non_null(json_object_get(step, key));
    }
    free_answer(&a);
    drop_bench(b);
    json_decref(doc);
}

/* --- the daemon ----------------------------------------------------------------------------------
 */

struct daemon_run {
    struct bench *b;
    enum dr_code rc;
    struct dr_err err;
};

static void *run_daemon(void *arg)
{
    struct daemon_run *d = arg;
    d->rc = dr_api_serve(&d->b->serve, &d->err);
    return NULL;
}

static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t bytes = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    (void)close(fd);
    return ntohs(at.sin_port);
}

static void the_daemon_works_on_what_it_is_given_and_ends_well_when_asked(void **state)
{
    enum { PATIENCE_MS = 20000 };
    pthread_t thread;
    char listen[32];
    struct dr_err err = {0};
    struct dr_op op = {0};
    struct bench *b = make_bench(NULL);
    struct daemon_run d = {.b = b};
    (void)state;
    (void)snprintf(listen, sizeof listen, "127.0.0.1:%u", (unsigned)free_port());
    b->serve.listen = listen;
    start_api(b); /* one server of our own stores the job ... */
    expect(b, "POST", "/operations", NULL, NULL, DROP_ACME, 202, NULL, NULL);
    dr_api_stop(b->api);
    b->api = NULL;
    assert_int_equal(pthread_create(&thread, NULL, run_daemon, &d), 0); /* ... the daemon works */
    dr_mono_ms until = dr_mono_now() + PATIENCE_MS;
    do {
        assert_false(dr_wait_ms(20, NULL, NULL));
        assert_int_equal(dr_queue_op(b->queue, 1, &op, &err), DR_OK);
    } while (op.status != DR_O_DONE && dr_mono_now() < until);
    assert_int_equal(op.status, DR_O_DONE);
    assert_int_equal(dr_memory_count("api", "acme.orders", NULL), 0);
    assert_int_equal(dr_memory_count("api", "globex.orders", NULL), ROWS);
    atomic_store(&b->ask_stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(d.rc, DR_OK);
    drop_bench(b);
}

/* Nothing on this side may allocate through base/mem.h meanwhile. */
static int submit_raw(const struct bench *b)
{
    char text[512];
    int length = snprintf(text, sizeof text,
                          "POST /operations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" JSON_TYPE
                          "Content-Length: %zu\r\n\r\n%s",
                          strlen(DROP_ACME), DROP_ACME);
    int fd = open_port(dr_api_port(b->api));
    (void)send_all(fd, text, (size_t)length);
    struct answer a = read_text(fd);
    int status = a.status;
    free_answer(&a);
    return status;
}

static void requests_survive_short_memory(void **state)
{
    enum { ALLOCATIONS_MAX = 5000 };
    struct bench *b = make_bench(NULL);
    unsigned short_count = 0;
    uint64_t n = 0;
    uint64_t made = 0;
    (void)state;
    start_api(b);
    do { /* until a request needs fewer allocations than the one that would fail */
        n++;
        (void)dr_mem_fail_at(n);
        int status = submit_raw(b);
        made = dr_mem_fail_at(0);
        /* 400: jansson says of a text whose value found no room that it is wrong */
        if (status != 0 && status != 503 && status != 202 && status != 400) {
            print_error("allocation %llu: status %d\n", (unsigned long long)n, status);
            fail();
        }
        short_count += status == 503;
    } while (made >= n && n < ALLOCATIONS_MAX);
    assert_true(n < ALLOCATIONS_MAX);
    assert_true(short_count > 10);
    assert_int_equal(submit_raw(b), 202);
    expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    drop_bench(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_stored_approved_and_audited),
        cmocka_unit_test(a_key_gives_the_same_operation_and_another_body_is_refused),
        cmocka_unit_test(equal_keys_at_the_same_moment_store_one_operation),
        cmocka_unit_test(a_bad_job_is_answered_with_its_field_and_stores_nothing),
        cmocka_unit_test(a_purge_of_statistics_needs_its_configuration),
        cmocka_unit_test(a_purge_of_statistics_names_every_bad_field_and_stores_nothing),
        cmocka_unit_test(the_configuration_is_checked_before_anything_is_served),
        cmocka_unit_test(lists_come_in_pages_that_meet),
        cmocka_unit_test(operations_steps_and_explanations_can_be_read),
        cmocka_unit_test(wishes_are_stored_with_reason_and_name),
        cmocka_unit_test(a_move_that_makes_no_sense_is_a_conflict),
        cmocka_unit_test(tuning_changes_what_is_named_and_nothing_else),
        cmocka_unit_test(the_description_and_the_routes_are_the_same),
        cmocka_unit_test(an_operation_has_no_key_that_is_not_described),
        cmocka_unit_test(the_daemon_works_on_what_it_is_given_and_ends_well_when_asked),
        cmocka_unit_test(requests_survive_short_memory),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
