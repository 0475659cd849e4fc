/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the API's door: who may enter, what is too much, what is malformed, and that none
 * of it disturbs the others. */
#include "api/api_help.h"

/* --- tokens --------------------------------------------------------------------------------------
 */

static enum dr_code start_with(struct bench *b, const char *tokens, mode_t mode, struct dr_err *err)
{
    (void)snprintf(b->tokens, sizeof b->tokens, "%s/tokens", b->folder);
    write_text(b->tokens, tokens, mode);
    b->serve.tokens_path = b->tokens;
    enum dr_code rc = dr_api_start(&b->serve, b->metrics, &b->api, err);
    dr_api_stop(b->api);
    b->api = NULL;
    return rc;
}

static void a_tokens_file_others_may_read_is_refused(void **state)
{
    struct dr_err err = {0};
    struct bench *b = make_bench(NULL);
    (void)state;
    assert_int_equal(start_with(b, "read:" READER "\n", 0644, &err), DR_REFUSED);
    assert_non_null(strstr(err.msg, "chmod 600"));
    assert_int_equal(start_with(b, "read:" READER "\n", 0606, &err), DR_REFUSED);
    assert_int_equal(start_with(b, "read:" READER "\n", 0620, &err), DR_REFUSED);
    assert_int_equal(start_with(b, "read:" READER "\n", 0640, &err), DR_OK);
    assert_int_equal(start_with(b, "read:" READER "\n", 0400, &err), DR_OK);
    drop_bench(b);
}

static void bad_tokens_files_are_refused_without_showing_a_token(void **state)
{
    static const char *const bad[] = {
        "",
        "# nothing\n",
        "read\n",
        "root:" READER "\n",
        "read:short\n",
        "read:secret with blanks 12345\n",
        "read:na me:" READER "\n",
        "read:" READER "\nadmin:" READER "\n",
        "read:a:" READER "\nadmin:a:" ADMIN "\n",
        "[{\"role\":\"read\",\"token\":\"" READER "\"}]",
        "[{\"role\":\"read\",\"name\":\"x\",\"token\":\"" READER "\",\"more\":1}]",
        "[\n",
    };
    struct bench *b = make_bench(NULL);
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dr_err err = {0};
        enum dr_code rc = start_with(b, bad[i], 0600, &err);
        if (rc != DR_INPUT || strstr(err.msg, "0123456789abcdef") != NULL ||
            strstr(err.msg, "secret") != NULL || strstr(err.msg, "short\n") != NULL) {
            print_error("case %zu: %d %s\n", i, (int)rc, err.msg);
            fail();
        }
    }
    drop_bench(b);
}

static void tokens_may_be_json(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    (void)snprintf(b->tokens, sizeof b->tokens, "%s/tokens", b->folder);
    write_text(b->tokens,
               "[{\"role\": \"operate\", \"name\": \"ci\", \"token\": \"" OPERATOR "\"}]", 0600);
    b->serve.tokens_path = b->tokens;
    start_api(b);
    struct answer a = ask(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME);
    assert_int_equal(a.status, 202);
    assert_string_equal(text_of(&a, "wish_by"), "api:ci");
    free_answer(&a);
    drop_bench(b);
}

static void without_a_valid_token_nothing_is_told(void **state)
{
    static const char *const paths[] = {"/operations", "/operations/1", "/metrics", "/nothing"};
    static const char *const tokens[] = {NULL,
                                         "",
                                         "wrong-0123456789abcdef",
                                         "reader-0123456789abcde",
                                         READER "0",
                                         "READER-0123456789ABCDEF"};
    struct bench *b = make_bench(NULL);
    (void)state;
    use_tokens(b);
    start_api(b);
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++) {
            expect(b, "GET", paths[p], tokens[t], NULL, NULL, 401, "UNAUTHORIZED", NULL);
        }
    }
    struct answer a = ask(b, "GET", "/operations", NULL, NULL, NULL);
    assert_non_null(strstr(a.text, "\r\nWWW-Authenticate: Bearer"));
    free_answer(&a);
    expect(b, "GET", "/operations", NULL, "Authorization: Basic " READER "\r\n", NULL, 401, NULL,
           NULL);
    expect(b, "GET", "/operations", NULL, "Authorization: bearer " READER "\r\n", NULL, 200, NULL,
           NULL);
    expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    expect(b, "GET", "/readyz", NULL, NULL, NULL, 200, NULL, NULL);
    drop_bench(b);
}

static void roles_reach_as_far_as_they_say(void **state)
{
    static const char for_ever[] = "{\"kind\":\"tenant.drop\",\"store\":\"memory:api\","
                                   "\"database\":\"acme\",\"irreversible\":true}";
    struct bench *b = make_bench("{\"redis_stats\": {\"store\": \"redis://127.0.0.1:1\"}}");
    (void)state;
    use_tokens(b);
    start_api(b);
    expect(b, "GET", "/operations", READER, NULL, NULL, 200, NULL, NULL);
    expect(b, "POST", "/operations", READER, NULL, DROP_ACME, 403, "DENIED", NULL);
    expect(b, "DELETE", "/services/1/stats", READER, NULL, "{}", 403, "DENIED", NULL);
    expect(b, "POST", "/operations/1/pause", READER, NULL, NULL, 403, "DENIED", NULL);
    expect(b, "POST", "/operations", OPERATOR, NULL, for_ever, 403, "DENIED", NULL);
    assert_int_equal(count_ops(b), 0);
    expect(b, "POST", "/operations", ADMIN, NULL, for_ever, 202, NULL, NULL);
    expect(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME, 202, NULL, NULL);
    drop_bench(b);
}

/* --- where it listens ----------------------------------------------------------------------------
 */

static void without_tokens_only_loopback_is_served(void **state)
{
    static const char *const open_to_all[] = {"0.0.0.0:0", "[::]:0", "10.0.0.1:0",
                                              "[::ffff:127.0.0.1]:0"};
    struct bench *b = make_bench(NULL);
    (void)state;
    for (size_t i = 0; i < sizeof open_to_all / sizeof open_to_all[0]; i++) {
        struct dr_err err = {0};
        b->serve.listen = open_to_all[i];
        assert_int_equal(dr_api_start(&b->serve, b->metrics, &b->api, &err), DR_REFUSED);
        assert_non_null(strstr(err.msg, "--tokens"));
        assert_null(b->api);
    }
    b->serve.listen = "localhost:0";
    start_api(b);
    expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    dr_api_stop(b->api);
    b->api = NULL;
    use_tokens(b);
    b->serve.listen = "0.0.0.0:0";
    start_api(b);
    expect(b, "GET", "/operations", READER, NULL, NULL, 200, NULL, NULL);
    drop_bench(b);
}

static void bad_addresses_and_taken_ports_are_told(void **state)
{
    static const char *const bad[] = {
        "",      "8350",           "127.0.0.1",       "127.0.0.1:",
        ":8350", "127.0.0.1:http", "127.0.0.1:65536", "example.org:1"};
    char taken[32];
    struct dr_err err = {0};
    struct dr_api *second = NULL;
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    struct dr_serve other = b->serve;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        other.listen = bad[i];
        assert_int_equal(dr_api_start(&other, NULL, &second, &err), DR_INPUT);
    }
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", (unsigned)dr_api_port(b->api));
    other.listen = taken;
    assert_int_equal(dr_api_start(&other, NULL, &second, &err), DR_IO);
    assert_non_null(strstr(err.msg, taken));
    assert_null(second);
    drop_bench(b);
}

/* --- limits --------------------------------------------------------------------------------------
 */

static void too_much_is_refused_with_its_own_status(void **state)
{
    enum { BIG = DR_API_BODY_BYTES_MAX + 1, HEADERS = 20 * 1024 };
    struct bench *b = make_bench(NULL);
    char *big = calloc(1, BIG + 1);
    (void)state;
    assert_non_null(big);
    start_api(b);
    memset(big, ' ', BIG);
    expect(b, "POST", "/operations", NULL, NULL, big, 413, "TOO_LARGE", NULL);
    big[BIG - 1] = '\0'; /* exactly the limit is read, and found to be empty */
    expect(b, "POST", "/operations", NULL, NULL, big, 400, "INPUT", NULL);
    memset(big, 'x', HEADERS);
    memcpy(big, "X-Long: ", 8);
    memcpy(big + HEADERS - 2, "\r\n", 3);
    expect(b, "GET", "/healthz", NULL, big, NULL, 431, "HEADERS_TOO_LARGE", NULL);
    free(big);
    drop_bench(b);
}

static void a_chunked_body_that_grows_too_large_is_refused(void **state)
{
    enum { CHUNK = 64 * 1024, CHUNKS = 40 };
    char head[256];
    char *chunk = calloc(1, CHUNK + 32);
    struct bench *b = make_bench(NULL);
    (void)state;
    assert_non_null(chunk);
    start_api(b);
    int fd = open_port(dr_api_port(b->api));
    int length = snprintf(head, sizeof head,
                          "POST /operations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" JSON_TYPE
                          "Transfer-Encoding: chunked\r\n\r\n");
    assert_true(send_all(fd, head, (size_t)length));
    int prefix = snprintf(chunk, 32, "%x\r\n", (unsigned)CHUNK);
    memset(chunk + prefix, ' ', CHUNK);
    memcpy(chunk + prefix + CHUNK, "\r\n", 2);
    for (int i = 0; i < CHUNKS; i++) {
        assert_true(send_all(fd, chunk, (size_t)prefix + CHUNK + 2));
    }
    assert_true(send_all(fd, "0\r\n\r\n", 5));
    struct answer a = read_answer(fd);
    assert_int_equal(a.status, 413);
    free_answer(&a);
    free(chunk);
    drop_bench(b);
}

static void bodies_need_a_length_and_a_type(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, NULL, NULL, 411, "LENGTH_REQUIRED", NULL);
    expect(b, "POST", "/operations", NULL, "Content-Type: text/plain\r\n", DROP_ACME, 415,
           "MEDIA_TYPE", NULL);
    expect(b, "POST", "/operations", NULL, "Content-Type: application/jsonx\r\n", DROP_ACME, 415,
           "MEDIA_TYPE", NULL);
    expect(b, "POST", "/operations", NULL, "Content-Type: application/json; charset=utf-8\r\n",
           DROP_ACME, 202, NULL, NULL);
    expect(b, "GET", "/operations", NULL, NULL, "{}", 400, "INPUT", NULL);
    struct answer a = ask(b, "POST", "/operations", NULL, "Content-Length: 34\r\n", NULL);
    assert_int_equal(a.status, 415);
    free_answer(&a);
    drop_bench(b);
}

static void depth_is_limited(void **state)
{
    enum { DEPTH = 2000 };
    char body[2 * DEPTH + 16];
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    memcpy(body, "{\"a\":", 5);
    memset(body + 5, '[', DEPTH);
    memset(body + 5 + DEPTH, ']', DEPTH);
    memcpy(body + 5 + 2 * DEPTH, "}", 2);
    expect(b, "POST", "/operations", NULL, NULL, body, 400, "INPUT", NULL);
    drop_bench(b);
}

/* --- paths and methods ---------------------------------------------------------------------------
 */

static void what_is_not_there_is_404_and_wrong_methods_are_405(void **state)
{
    static const char *const nowhere[] = {
        "/",
        "/operations/",
        "/operations/x",
        "/operations/0",
        "/operations/-1",
        "/operations/1/",
        "/operations/1/nothing",
        "/operations/99999999999999999999",
        "/../etc/passwd",
        "/operations/../metrics",
        "/operations/%2e%2e",
        "/operations/1%2fpause",
        "//operations",
        "/healthz/x",
        "/services/1",
        "/openapi.json",
    };
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        expect(b, "GET", nowhere[i], NULL, NULL, NULL, 404, "NOT_FOUND", NULL);
    }
    struct answer a = ask(b, "PUT", "/operations", NULL, NULL, NULL);
    assert_int_equal(a.status, 405);
    assert_non_null(strstr(a.text, "\r\nAllow: POST, GET\r\n"));
    free_answer(&a);
    expect(b, "GET", "/operations/1/pause", NULL, NULL, NULL, 405, NULL, NULL);
    expect(b, "OPTIONS", "/operations", NULL, NULL, NULL, 405, NULL, NULL);
    expect(b, "GET", "/services/1/stats", NULL, NULL, NULL, 405, NULL, NULL);
    drop_bench(b);
}

static void requests_of_web_pages_are_refused(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    expect(b, "POST", "/operations", NULL, "Origin: https://example.org\r\n", DROP_ACME, 403,
           "DENIED", NULL);
    expect(b, "POST", "/operations/1/rollback", NULL, "Origin: null\r\n", NULL, 403, "DENIED",
           NULL);
    expect(b, "GET", "/operations", NULL, "Sec-Fetch-Site: cross-site\r\n", NULL, 403, "DENIED",
           NULL);
    expect(b, "GET", "/operations", NULL, "Sec-Fetch-Site: same-origin\r\n", NULL, 403, "DENIED",
           NULL);
    expect(b, "GET", "/operations", NULL, "Sec-Fetch-Site: none\r\n", NULL, 200, NULL, NULL);
    struct answer a = ask(b, "GET", "/operations", NULL, NULL, NULL);
    assert_null(strstr(a.text, "Access-Control"));
    free_answer(&a);
    assert_int_equal(count_ops(b), 0);
    drop_bench(b);
}

/* --- disturbers ----------------------------------------------------------------------------------
 */

static void malformed_requests_and_early_ends_disturb_nobody(void **state)
{
    static const char *const rubbish[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "POST /operations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST /operations HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /operations HTTP/1.1\r\nHost: x\r\n" JSON_TYPE
        "Content-Length: 100\r\n\r\n{\"kind\":",
        "POST /operations HTTP/1.1\r\nHost: x\r\n" JSON_TYPE
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "DELETE /services/%zz/stats HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    };
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    for (size_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        int fd = open_port(dr_api_port(b->api));
        (void)send_all(fd, rubbish[i], strlen(rubbish[i]));
        (void)shutdown(fd, SHUT_WR);
        struct answer a = read_text(fd);
        assert_true(a.status == 0 || (a.status >= 400 && a.status < 600));
        free_answer(&a);
        expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    }
    assert_int_equal(count_ops(b), 0);
    drop_bench(b);
}

static void silent_connections_keep_nobody_out_below_the_limit(void **state)
{
    enum { SILENT = DR_API_CONNECTIONS_MAX - 8, OVER = DR_API_CONNECTIONS_MAX + 20 };
    int fd[OVER];
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    for (int i = 0; i < SILENT; i++) {
        fd[i] = open_port(dr_api_port(b->api));
        assert_true(send_all(fd[i], "GET /healthz HT", 15));
    }
    expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    for (int i = SILENT; i < OVER; i++) { /* the ones beyond are turned away, not waited for */
        fd[i] = open_port(dr_api_port(b->api));
        (void)send_all(fd[i], "GET /healthz HT", 15);
    }
    for (int i = 0; i < OVER; i++) {
        (void)close(fd[i]);
    }
    dr_mono_ms until = dr_mono_now() + 10000;
    int status = 0;
    while (status != 200 && dr_mono_now() < until) { /* until the server has seen the ends */
        struct answer a = ask(b, "GET", "/healthz", NULL, NULL, NULL);
        status = a.status;
        free_answer(&a);
        (void)dr_wait_ms(20, NULL, NULL);
    }
    assert_int_equal(status, 200);
    drop_bench(b);
}

static void several_requests_go_over_one_connection(void **state)
{
    static const char two[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                              "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    int fd = open_port(dr_api_port(b->api));
    assert_true(send_all(fd, two, sizeof two - 1));
    struct answer a = read_text(fd);
    assert_non_null(strstr(a.text, "{\"status\":\"ok\"}"));
    assert_non_null(strstr(a.text, "{\"status\":\"ready\"}"));
    free_answer(&a);
    drop_bench(b);
}

/* --- what monitoring sees ------------------------------------------------------------------------
 */

static void readiness_ends_when_the_daemon_does(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    start_api(b);
    atomic_store(&b->ask_stop, true);
    expect(b, "GET", "/readyz", NULL, NULL, NULL, 503, "NOT_READY", NULL);
    expect(b, "GET", "/healthz", NULL, NULL, NULL, 200, NULL, NULL);
    drop_bench(b);
}

static void assert_line(const char *text, const char *line)
{
    if (strstr(text, line) == NULL) {
        print_error("no line \"%s\" in:\n%s\n", line, text);
        fail();
    }
}

static void the_numbers_tell_what_happened(void **state)
{
    struct bench *b = make_bench(NULL);
    (void)state;
    use_tokens(b);
    start_api(b);
    expect(b, "POST", "/operations", OPERATOR, NULL, DROP_ACME, 202, NULL, NULL);
    expect(b, "GET", "/operations/1", NULL, NULL, NULL, 401, NULL, NULL);
    expect(b, "GET", "/operations/7", READER, NULL, NULL, 404, NULL, NULL);
    expect(b, "GET", "/no/such/path", READER, NULL, NULL, 404, NULL, NULL);
    expect(b, "BREW", "/no/such/path", READER, NULL, NULL, 404, NULL, NULL);
    struct answer a = ask(b, "GET", "/metrics", READER, NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.text, "\r\nContent-Type: text/plain; version=0.0.4"));
    assert_line(a.body, "drover_operations{status=\"queued\"} 1\n");
    assert_line(a.body, "drover_operations{status=\"done\"} 0\n");
    assert_line(a.body, "drover_operation_items{what=\"estimated\"} 200\n");
    assert_line(a.body, "drover_quarantined_steps 0\n");
    assert_line(a.body, "drover_operations_waiting{reason=\"quiet_hours\"} 0\n");
    assert_line(a.body, "drover_ready 1\n");
    assert_line(a.body, "method=\"POST\",route=\"/operations\",code=\"202\"} 1\n");
    assert_line(a.body, "method=\"GET\",route=\"/operations/{id}\",code=\"401\"} 1\n");
    assert_line(a.body, "method=\"GET\",route=\"/operations/{id}\",code=\"404\"} 1\n");
    assert_line(a.body, "method=\"GET\",route=\"none\",code=\"404\"} 1\n");
    assert_line(a.body, "method=\"other\",route=\"none\",code=\"404\"} 1\n");
    assert_line(a.body, "drover_queue_commit_seconds_count ");
    assert_null(strstr(a.text, OPERATOR));
    free_answer(&a);
    drop_bench(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tokens_file_others_may_read_is_refused),
        cmocka_unit_test(bad_tokens_files_are_refused_without_showing_a_token),
        cmocka_unit_test(tokens_may_be_json),
        cmocka_unit_test(without_a_valid_token_nothing_is_told),
        cmocka_unit_test(roles_reach_as_far_as_they_say),
        cmocka_unit_test(without_tokens_only_loopback_is_served),
        cmocka_unit_test(bad_addresses_and_taken_ports_are_told),
        cmocka_unit_test(too_much_is_refused_with_its_own_status),
        cmocka_unit_test(a_chunked_body_that_grows_too_large_is_refused),
        cmocka_unit_test(bodies_need_a_length_and_a_type),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(what_is_not_there_is_404_and_wrong_methods_are_405),
        cmocka_unit_test(requests_of_web_pages_are_refused),
        cmocka_unit_test(malformed_requests_and_early_ends_disturb_nobody),
        cmocka_unit_test(silent_connections_keep_nobody_out_below_the_limit),
        cmocka_unit_test(several_requests_go_over_one_connection),
        cmocka_unit_test(readiness_ends_when_the_daemon_does),
        cmocka_unit_test(the_numbers_tell_what_happened),
    };
    return cmocka_run_group_tests_name("api door", tests, NULL, NULL);
}
