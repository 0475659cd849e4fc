/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the catalog's REST calls: which call asks for what, envelopes and classes of
 * errors, roles, limits - over a cluster that only notes what it is asked. */
#include "api/api_help.h"

#include "api/fake_cluster.h"

#define PEER "peer-0123456789abcdef"

static struct bench *start(bool with_tokens)
{
    struct bench *b = make_bench(NULL);
    fake_reset();
    b->serve.cluster = &fake;
    if (with_tokens) {
        use_tokens(b);
        b->serve.peer_token = PEER;
    }
    start_api(b);
    return b;
}

static void end(struct bench *b)
{
    drop_bench(b);
    fake_reset();
}

static const char *fault_of(const struct answer *a)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(a->json, "status"), "error"));
    return text != NULL ? text : "";
}

/* Ask, compare the status and the beginning of the envelope's error (NULL: a success). */
static void see(struct bench *b, const char *method, const char *path, const char *token,
                const char *body, int status, const char *fault)
{
    struct answer a = ask(b, method, path, token, NULL, body);
    bool is_right = a.status == status &&
                    (fault == NULL || strncmp(fault_of(&a), fault, strlen(fault)) == 0) &&
                    json_is_real(json_object_get(a.json, "time"));
    if (status == 200) {
        const char *text = json_string_value(json_object_get(a.json, "status"));
        is_right = is_right && text != NULL && strcmp(text, "ok") == 0 &&
                   json_object_get(a.json, "result") != NULL;
    } else {
        is_right = is_right && json_object_get(a.json, "result") == NULL;
    }
    if (!is_right) {
        print_error("%s %s %s: wanted %d %s, got:\n%s\n", method, path, body != NULL ? body : "",
                    status, fault != NULL ? fault : "", a.text);
        fail();
    }
    free_answer(&a);
}

/* --- which call asks for what --------------------------------------------------------------------
 */

static const struct {
    const char *method, *path, *body;
    const char *verb, *collection, *seen;
} calls[] = {
    {"GET", "/collections", NULL, "dr_cluster_list_collections", "", "none"},
    {"GET", "/collections/", NULL, "dr_cluster_list_collections", "", "none"},
    {"GET", "/collections/c", NULL, "dr_cluster_get_collection", "c", "none"},
    {"GET", "/collections/c/", NULL, "dr_cluster_get_collection", "c", "none"},
    {"GET", "/collections/a%20b%C3%A9", NULL, "dr_cluster_get_collection", "a b\xC3\xA9", "none"},
    {"PUT", "/collections/c", "{\"shard_number\":3,\"unknown\":1}", "dr_cluster_create_collection",
     "c", "{\"shard_number\":3,\"unknown\":1}"},
    {"PUT", "/collections/c", NULL, "dr_cluster_create_collection", "c", "none"},
    {"PATCH", "/collections/c", "{\"params\":{\"replication_factor\":2}}",
     "dr_cluster_update_collection", "c", "{\"params\":{\"replication_factor\":2}}"},
    {"DELETE", "/collections/c", NULL, "dr_cluster_delete_collection", "c", "none"},
    {"GET", "/collections/c/exists", NULL, "dr_cluster_collection_exists", "c", "none"},
    {"GET", "/collections/c/cluster", NULL, "dr_cluster_collection_cluster", "c", "none"},
    {"POST", "/collections/c/cluster",
     "{\"move_shard\":{\"shard_id\":1,\"from_peer_id\":1,\"to_peer_id\":2}}",
     "dr_cluster_cluster_op", "c",
     "{\"move_shard\":{\"from_peer_id\":1,\"shard_id\":1,\"to_peer_id\":2}}"},
    {"POST", "/collections/c/cluster",
     "{\"promote_to_custom_sharding\":{\"default_shard_key\":\"k\"}}", "dr_cluster_promote", "c",
     "{\"default_shard_key\":\"k\"}"},
    {"GET", "/collections/c/shards", NULL, "dr_cluster_list_keys", "c", "none"},
    {"PUT", "/collections/c/shards", "{\"shard_key\":7}", "dr_cluster_create_key", "c",
     "{\"shard_key\":7}"},
    {"POST", "/collections/c/shards/delete", "{\"shard_key\":\"7\"}", "dr_cluster_drop_key", "c",
     "{\"shard_key\":\"7\"}"},
    {"POST", "/collections/c/sharding/promote_to_custom", NULL, "dr_cluster_promote", "c", "none"},
    {"POST", "/collections/c/sharding/promote_to_custom", "{\"default_shard_key\":9}",
     "dr_cluster_promote", "c", "{\"default_shard_key\":9}"},
    {"GET", "/collections/c/sharding/promotions", NULL, "dr_cluster_promotions", "c", "none"},
    {"POST", "/collections/aliases", "{\"actions\":[]}", "dr_cluster_aliases", "",
     "{\"actions\":[]}"},
    {"GET", "/aliases", NULL, "dr_cluster_list_aliases", "", "none"},
    {"GET", "/collections/c/aliases", NULL, "dr_cluster_list_aliases", "c", "none"},
    {"POST", "/collections/c/route", "{\"ids\":[1]}", "dr_cluster_route", "c", "{\"ids\":[1]}"},
    {"PUT", "/collections/c/points?wait=true", "{\"points\":[{\"id\":1,\"vector\":[0.5]}]}",
     "dr_points_upsert", "c", "{\"points\":[{\"id\":1,\"vector\":[0.5]}]}"},
    {"PUT", "/collections/c/points", "{\"batch\":{\"ids\":[1]}}", "dr_points_upsert", "c",
     "{\"batch\":{\"ids\":[1]}}"},
    {"POST", "/collections/c/points", "{\"ids\":[1],\"shard_key\":\"k\"}", "dr_points_get", "c",
     "{\"ids\":[1],\"shard_key\":\"k\"}"},
    {"POST", "/collections/c/points/delete?wait=false&ordering=strong", "{\"points\":[1]}",
     "dr_points_delete", "c", "{\"points\":[1]}"},
    {"POST", "/collections/c/points/count", "{\"exact\":true}", "dr_points_count", "c",
     "{\"exact\":true}"},
    {"POST", "/collections/c/points/scroll?consistency=majority", "{\"limit\":5}",
     "dr_points_scroll", "c", "{\"limit\":5}"},
    {"GET", "/tables", NULL, "dr_cluster_list_tables", "", "none"},
    {"GET", "/tables/t", NULL, "dr_cluster_get_table", "t", "none"},
    {"GET", "/tables/t/", NULL, "dr_cluster_get_table", "t", "none"},
    {"POST", "/tables/t/route", "{\"ids\":[1,\"k\"]}", "dr_cluster_route_table", "t",
     "{\"ids\":[1,\"k\"]}"},
    {"POST", "/cluster/recover", "{}", "dr_cluster_recover", "", "none"},
    {"POST", "/internal/commit", "{\"a\":1}", "dr_cluster_internal", "commit", "{\"a\":1}"},
    {"POST", "/internal/points/write", NULL, "dr_cluster_internal", "points/write", "none"},
};

static void every_call_reaches_its_verb_with_name_and_body(void **state)
{
    struct bench *b = start(false);
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        see(b, calls[i].method, calls[i].path, NULL, calls[i].body, 200, NULL);
        assert_fake(calls[i].verb, calls[i].collection, calls[i].seen);
        assert_int_equal(fake.calls, i + 1);
    }
    end(b);
}

static void results_come_in_the_envelope(void **state)
{
    struct bench *b = start(false);
    (void)state;
    fake_answers("{\"collections\":[{\"name\":\"c\"}]}");
    struct answer a = ask(b, "GET", "/collections", NULL, NULL, NULL);
    const json_t *list = json_object_get(json_object_get(a.json, "result"), "collections");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "c");
    assert_int_equal(json_object_size(a.json), 3);
    assert_true(json_real_value(json_object_get(a.json, "time")) >= 0);
    const char *time = strstr(a.body, ",\"time\":"); /* microseconds, not 17 digits */
    assert_non_null(time);
    assert_in_range(strcspn(strchr(time, '.'), "}"), 2, 7);
    free_answer(&a);
    fake_answers("false"); /* a deletion of what is not there */
    a = ask(b, "DELETE", "/collections/c", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_true(json_is_false(json_object_get(a.json, "result")));
    free_answer(&a);
    /* The promotion as an operation of the cluster answers like the others. */
    fake_answers("{\"promoted\":true}");
    a = ask(b, "POST", "/collections/c/cluster", NULL, NULL, "{\"promote_to_custom_sharding\":{}}");
    assert_true(json_is_true(json_object_get(a.json, "result")));
    free_answer(&a);
    a = ask(b, "GET", "/", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_string_equal(text_of(&a, "title"), "drover");
    assert_int_equal(strncmp(text_of(&a, "version"), "1.", 2), 0);
    assert_null(json_object_get(a.json, "result"));
    free_answer(&a);
    end(b);
}

static void classes_become_their_statuses(void **state)
{
    static const struct {
        enum dr_cluster_class class;
        int status;
        const char *text;
    } failures[] = {
        {DR_CLASS_BAD_INPUT, 400, "Wrong input: x"},
        {DR_CLASS_BAD_REQUEST, 400, "Bad request: x"},
        {DR_CLASS_EXISTS, 409, "Wrong input: Collection `c` already exists!"},
        {DR_CLASS_NOT_FOUND, 404, "Not found: Collection `c` doesn't exist!"},
        {DR_CLASS_FORBIDDEN, 403, "Forbidden: x"},
        {DR_CLASS_STANDALONE, 405, "Qdrant is running in standalone mode"},
        {DR_CLASS_TIMEOUT, 408, "Timeout: x"},
        {DR_CLASS_UNAVAILABLE, 503, "Shard temporarily unavailable: x"},
        {DR_CLASS_SERVICE, 500, "Service internal error: x"},
    };
    struct bench *b = start(false);
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        fake_fails(failures[i].class, failures[i].text);
        see(b, "GET", "/collections/c", NULL, NULL, failures[i].status, failures[i].text);
    }
    end(b);
}

static void wrong_bodies_are_told_and_ask_nobody(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *fault;
    } wrong[] = {
        {"PUT", "/collections/c", "{", 400, "Format error in JSON body: "},
        {"PUT", "/collections/c", "[]", 400, "Format error in JSON body: "},
        {"PUT", "/collections/c", "{\"shard_number\":0}", 422,
         "Validation error in JSON body: [shard_number: value 0 invalid, must be 1 or larger]"},
        {"PUT", "/collections/c", "{\"shard_number\":\"3\"}", 400,
         "Format error in JSON body: shard_number"},
        {"PUT", "/collections/c", "{\"sharding_method\":\"random\"}", 400,
         "Format error in JSON body: sharding_method"},
        {"PUT", "/collections/a%3Ab", "{}", 422, "Validation error in path parameters: ["},
        {"GET", "/collections/a%2Fb", NULL, 422, "Validation error in path parameters: ["},
        {"PATCH", "/collections/c", "{\"params\":{\"replication_factor\":0}}", 422,
         "Validation error in JSON body: [params.replication_factor"},
        {"PUT", "/collections/c/shards", "{}", 400,
         "Format error in JSON body: missing field `shard_key`"},
        {"PUT", "/collections/c/shards", "{\"shard_key\":-1}", 400, "Format error in JSON body: "},
        {"POST", "/collections/c/cluster", "{\"dance\":{}}", 400, "Format error in JSON body: "},
        {"POST", "/collections/c/cluster", "{\"abort_resharding\":{},\"finish_resharding\":{}}",
         400, "Format error in JSON body: "},
        {"POST", "/collections/c/cluster",
         "{\"move_shard\":{\"shard_id\":1,\"from_peer_id\":1,\"to_peer_id\":1}}", 422,
         "Validation error in JSON body: [move_shard.to_peer_id"},
        {"POST", "/collections/c/cluster", "{\"drop_replica\":{\"shard_id\":1}}", 400,
         "Format error in JSON body: missing field `drop_replica.peer_id`"},
        {"POST", "/collections/c/sharding/promote_to_custom", "{\"default_shard_key\":[]}", 400,
         "Format error in JSON body: default_shard_key"},
        {"PUT", "/collections/c/points", "{}", 400, "Format error in JSON body: points"},
        {"PUT", "/collections/c/points", "{\"points\":[{}]}", 400,
         "Format error in JSON body: points[0].id"},
        {"PUT", "/collections/c/points", "{\"points\":[{\"id\":1.5}]}", 400,
         "Format error in JSON body: points[0].id"},
        {"POST", "/collections/c/points/delete", "{\"filter\":{}}", 422,
         "Validation error in JSON body: [filter"},
        {"POST", "/collections/c/points/delete", "{}", 400, "Format error in JSON body: "},
        {"POST", "/collections/c/points/scroll", "{\"limit\":0}", 422,
         "Validation error in JSON body: [limit"},
        {"PUT", "/collections/c?timeout=0", "{}", 422, "Validation error in query parameters: ["},
        {"PUT", "/collections/c?timeout=x", "{}", 400, "Deserialize error in query parameters: "},
        {"PUT", "/collections/c/points?wait=maybe", "{\"points\":[]}", 400,
         "Deserialize error in query parameters: "},
        {"PUT", "/collections/c/points?ordering=any", "{\"points\":[]}", 400,
         "Deserialize error in query parameters: "},
        {"POST", "/collections/c/points/count?consistency=0", "{}", 400,
         "Deserialize error in query parameters: "},
        {"DELETE", "/cluster/peer/x", NULL, 400, "Deserialize error in path parameters: "},
        {"DELETE", "/cluster/peer/1?force=1", NULL, 400, "Deserialize error in query parameters: "},
        {"POST", "/collections/c", "{}", 405, ""},
        {"PATCH", "/collections", "{}", 405, ""},
    };
    struct bench *b = start(false);
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        see(b, wrong[i].method, wrong[i].path, NULL, wrong[i].body, wrong[i].status,
            wrong[i].fault);
        assert_int_equal(fake.calls, 0);
    }
    end(b);
}

static void timeouts_and_callers_travel_along(void **state)
{
    struct bench *b = start(true);
    (void)state;
    see(b, "PUT", "/collections/c?timeout=3&unknown=1", ADMIN, "{}", 200, NULL);
    assert_int_equal(fake.timeout_ms, 3000);
    assert_string_equal(fake.who, "api:admin-4");
    see(b, "PUT", "/collections/c/points?timeout=2", OPERATOR, "{\"points\":[]}", 200, NULL);
    assert_int_equal(fake.timeout_ms, 2000);
    assert_string_equal(fake.who, "api:console");
    see(b, "DELETE", "/cluster/peer/12?force=true&timeout=9", ADMIN, NULL, 200, NULL);
    assert_int_equal(fake.id, 12);
    assert_true(fake.is_forced);
    assert_int_equal(fake.timeout_ms, 9000);
    see(b, "DELETE", "/cluster/peer/12", ADMIN, NULL, 200, NULL);
    assert_false(fake.is_forced);
    see(b, "POST", "/cluster/leader/3", ADMIN, NULL, 200, NULL);
    assert_int_equal(fake.id, 3);
    end(b);
}

static void one_point_is_found_or_404(void **state)
{
    struct bench *b = start(false);
    (void)state;
    fake_answers("[{\"id\":5,\"payload\":{\"a\":1}}]");
    struct answer a = ask(b, "GET", "/collections/c/points/5", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "result"), "id")),
                     5);
    free_answer(&a);
    assert_fake("dr_points_get", "c", "{\"ids\":[5],\"with_payload\":true,\"with_vector\":true}");
    fake_answers("[]");
    see(b, "GET", "/collections/c/points/550e8400-e29b-41d4-a716-446655440000", NULL, NULL, 404,
        "Not found: Point with id 550e8400-e29b-41d4-a716-446655440000 does not exists!");
    assert_fake("dr_points_get", "c",
                "{\"ids\":[\"550e8400-e29b-41d4-a716-446655440000\"],\"with_payload\":true,"
                "\"with_vector\":true}");
    end(b);
}

static void the_cluster_says_whether_it_is_one(void **state)
{
    struct bench *b = start(false);
    (void)state;
    struct answer a = ask(b, "GET", "/cluster", NULL, NULL, NULL);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(a.json, "result"), "status")), "enabled");
    free_answer(&a);
    fake.is_distributed = false;
    a = ask(b, "GET", "/cluster", NULL, NULL, NULL);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(a.json, "result"), "status")),
        "disabled");
    free_answer(&a);
    end(b);
}

static void readiness_needs_the_cluster(void **state)
{
    struct bench *b = start(false);
    (void)state;
    fake.is_ready = false;
    struct answer a = ask(b, "GET", "/readyz", NULL, NULL, NULL);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.text, "no leader is known"));
    free_answer(&a);
    expect(b, "GET", "/livez", NULL, NULL, NULL, 200, NULL, NULL);
    end(b);
}

static void tables_are_read_here_and_changed_by_operations(void **state)
{
    struct bench *b = start(false);
    (void)state;
    see(b, "POST", "/tables/t/route", NULL, "{\"ids\":7}", 400, "Format error in JSON body: ids");
    see(b, "POST", "/tables/t/route", NULL, "{}", 400, "Format error in JSON body: missing field");
    assert_int_equal(fake.calls, 0);
    see(b, "DELETE", "/tables/t", NULL, NULL, 405, NULL);
    see(b, "PUT", "/tables/t", NULL, "{}", 405, NULL);
    fake_fails(DR_CLASS_NOT_FOUND, "Not found: Table `t` doesn't exist!");
    see(b, "GET", "/tables/t", NULL, NULL, 404, "Not found: Table `t`");
    fake_fails(DR_CLASS_UNAVAILABLE, "Shard temporarily unavailable: table `t` is being made");
    see(b, "POST", "/tables/t/route", NULL, "{\"ids\":[1]}", 503, "Shard temporarily");
    end(b);
}

/* --- who may -------------------------------------------------------------------------------------
 */

static void roles_follow_the_table(void **state)
{
    struct bench *b = start(true);
    struct dr_api_route_info route;
    (void)state;
    static const char *const tokens[] = {READER, OPERATOR, ADMIN};
    static const enum dr_api_role roles[] = {DR_ROLE_READ, DR_ROLE_OPERATE, DR_ROLE_ADMIN};
    unsigned seen = 0;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strncmp(calls[i].path, "/internal", 9) == 0) {
            continue;
        }
        see(b, calls[i].method, calls[i].path, NULL, calls[i].body, 401, "a valid token");
        for (unsigned t = 0; t < 3; t++) {
            struct answer a =
                ask(b, calls[i].method, calls[i].path, tokens[t], NULL, calls[i].body);
            bool is_reading = strcmp(calls[i].method, "GET") == 0 ||
                              strcmp(calls[i].verb, "dr_points_get") == 0 ||
                              strcmp(calls[i].verb, "dr_points_count") == 0 ||
                              strcmp(calls[i].verb, "dr_points_scroll") == 0 ||
                              strcmp(calls[i].verb, "dr_cluster_route") == 0 ||
                              strcmp(calls[i].verb, "dr_cluster_route_table") == 0;
            bool is_points = strncmp(calls[i].verb, "dr_points_", 10) == 0;
            enum dr_api_role needed = is_reading  ? DR_ROLE_READ
                                      : is_points ? DR_ROLE_OPERATE
                                                  : DR_ROLE_ADMIN;
            assert_int_equal(a.status, roles[t] >= needed ? 200 : 403);
            if (a.status == 403) {
                assert_int_equal(strncmp(fault_of(&a), "Forbidden: ", 11), 0);
                seen++;
            }
            free_answer(&a);
        }
    }
    assert_true(seen > 20);
    for (uint32_t n = 0; dr_api_route_at(n, &route) != 0; n++) {
        bool is_open = strcmp(route.path, "/") == 0 || strstr(route.path, "z") != NULL ||
                       strncmp(route.path, "/internal/", 10) == 0;
        assert_true(route.role != DR_ROLE_NONE || is_open);
    }
    end(b);
}

static void the_api_key_header_is_a_token_too(void **state)
{
    struct bench *b = start(true);
    (void)state;
    struct answer a = ask(b, "GET", "/collections", NULL, "api-key: " READER "\r\n", NULL);
    assert_int_equal(a.status, 200);
    free_answer(&a);
    a = ask(b, "GET", "/collections", NULL, "api-key: wrong-0123456789abcdef\r\n", NULL);
    assert_int_equal(a.status, 401);
    free_answer(&a);
    a = ask(b, "GET", "/operations", NULL, "api-key: " READER "\r\n", NULL);
    assert_int_equal(a.status, 200);
    free_answer(&a);
    a = ask(b, "GET", "/", NULL, NULL, NULL);
    assert_int_equal(a.status, 200);
    free_answer(&a);
    end(b);
}

static void only_peers_ask_inside(void **state)
{
    struct bench *b = start(true);
    (void)state;
    see(b, "POST", "/internal/propose", ADMIN, "{}", 401, "this is for other peers");
    see(b, "POST", "/internal/propose", NULL, "{}", 401, "this is for other peers");
    see(b, "POST", "/internal/propose", PEER "x", "{}", 401, "this is for other peers");
    assert_int_equal(fake.calls, 0);
    see(b, "POST", "/internal/propose", PEER, "{}", 200, NULL);
    assert_int_equal(fake.calls, 1);
    see(b, "GET", "/collections", PEER, NULL, 401, "a valid token"); /* and it opens nothing else */
    drop_bench(b);
    /* With tokens and no peer token nobody is a peer. */
    b = make_bench(NULL);
    b->serve.cluster = &fake;
    use_tokens(b);
    start_api(b);
    see(b, "POST", "/internal/propose", ADMIN, "{}", 401, "this is for other peers");
    end(b);
}

static void without_a_catalog_every_call_says_so(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    fake_reset();
    start_api(b);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        see(b, calls[i].method, calls[i].path, NULL, calls[i].body, 404,
            "Not found: this daemon has no catalog");
    }
    see(b, "GET", "/", NULL, NULL, 404, "Not found: this daemon has no catalog");
    assert_int_equal(fake.calls, 0);
    end(b);
}

/* --- limits --------------------------------------------------------------------------------------
 */

static char *large_upsert(size_t bytes)
{
    static const char head[] = "{\"points\":[{\"id\":1,\"payload\":{\"t\":\"";
    static const char tail[] = "\"}}]}";
    char *body = malloc(bytes + 1);
    assert_non_null(body);
    memset(body, 'x', bytes);
    memcpy(body, head, sizeof head - 1);
    memcpy(body + bytes - (sizeof tail - 1), tail, sizeof tail);
    return body;
}

static void points_may_be_large_and_the_rest_not(void **state)
{
    struct bench *b = start(false);
    (void)state;
    char *body = large_upsert(20 * 1024 * 1024);
    see(b, "PUT", "/collections/c/points", NULL, body, 200, NULL);
    assert_string_equal(fake.verb, "dr_points_upsert");
    free(body);
    body = large_upsert(DR_API_POINTS_BYTES_MAX + 1);
    struct answer a = ask(b, "PUT", "/collections/c/points", NULL, NULL, body);
    assert_true(a.status == 413 || a.status == 0); /* told before the body is read */
    free_answer(&a);
    free(body);
    body = large_upsert(DR_API_BODY_BYTES_MAX + 1);
    a = ask(b, "PUT", "/collections/c", NULL, NULL, body);
    assert_true(a.status == 413 || a.status == 0);
    free_answer(&a);
    free(body);
    assert_int_equal(fake.calls, 1);
    end(b);
}

static void short_memory_is_an_answer(void **state)
{
    static const char request[] = "GET /collections/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                  "\r\n";
    struct bench *b = start(false);
    unsigned good = 0;
    (void)state;
    for (uint64_t n = 1; n < 60 && good < 5; n++) {
        int fd = open_port(dr_api_port(b->api));
        (void)dr_mem_fail_at(n);
        (void)send_all(fd, request, sizeof request - 1);
        struct answer a = read_text(fd);
        (void)dr_mem_fail_at(0);
        good = a.status == 200 ? good + 1 : 0;
        assert_true(a.status == 200 || a.status == 0 || a.status == 500 || a.status == 503 ||
                    a.status == 404);
        free_answer(&a);
    }
    assert_int_equal(good, 5);
    end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_reaches_its_verb_with_name_and_body),
        cmocka_unit_test(results_come_in_the_envelope),
        cmocka_unit_test(classes_become_their_statuses),
        cmocka_unit_test(wrong_bodies_are_told_and_ask_nobody),
        cmocka_unit_test(timeouts_and_callers_travel_along),
        cmocka_unit_test(one_point_is_found_or_404),
        cmocka_unit_test(the_cluster_says_whether_it_is_one),
        cmocka_unit_test(readiness_needs_the_cluster),
        cmocka_unit_test(tables_are_read_here_and_changed_by_operations),
        cmocka_unit_test(roles_follow_the_table),
        cmocka_unit_test(the_api_key_header_is_a_token_too),
        cmocka_unit_test(only_peers_ask_inside),
        cmocka_unit_test(without_a_catalog_every_call_says_so),
        cmocka_unit_test(points_may_be_large_and_the_rest_not),
        cmocka_unit_test(short_memory_is_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
