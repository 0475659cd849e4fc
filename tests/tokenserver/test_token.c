/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of tokenserver/token.h: each test is named for one. The vectors come from an
 * independent implementation. */
#include "tokenserver/node_help.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "tokenserver/token.h"
#include "tokenserver/token_private.h"

static struct dr_err err;
static json_t *vectors;

/* Ours stands in front of OpenSSL's, so the test sees what is wiped before it is gone. */
static char watched[256];
static int wiped_count;
void OPENSSL_cleanse(void *data, size_t bytes);
void OPENSSL_cleanse(void *data, size_t bytes)
{
    size_t len = strlen(watched);
    if (len > 0 && bytes == len && memcmp(data, watched, len) == 0) {
        wiped_count++;
    }
    memset(data, 0, bytes);
    __asm__ volatile("" : : "r"(data) : "memory");
}

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        print_error("%s: %s\n", dr_code_name(rc), err.msg);
        fail();
    }
}

static int load_vectors(void **state)
{
    (void)state;
    char path[512];
    return dr_json_load(beside_tests("vectors/tokenserver.json", path, sizeof path), &vectors,
                        &err) == DR_OK
               ? 0
               : -1;
}

static int drop_vectors(void **state)
{
    (void)state;
    json_decref(vectors);
    return 0;
}

static const char *text_of(const json_t *v, const char *key)
{
    const char *text = json_string_value(json_object_get(v, key));
    assert_non_null(text);
    return text;
}

static struct dr_token_user user_of(const json_t *v)
{
    const json_t *keys = json_object_get(v, "keys_changed_at");
    return (struct dr_token_user){
        .uid = json_integer_value(json_object_get(v, "uid")),
        .node = text_of(v, "node"),
        .email = text_of(v, "email"),
        .generation = json_integer_value(json_object_get(v, "generation")),
        .keys_changed_at = json_integer_value(keys),
        .has_keys_changed_at = json_is_integer(keys),
        .client_state = text_of(v, "client_state_hex"),
    };
}

static const char *expires_of(const json_t *v)
{
    return json_is_real(json_object_get(v, "expires")) ? "4102444800.5" : "4102444800";
}

static void vectors_hold_at_every_intermediate_value(void **state)
{
    (void)state;
    size_t i = 0;
    json_t *v = NULL;
    assert_true(json_array_size(vectors) >= 4);
    json_array_foreach(vectors, i, v)
    {
        struct dr_token_user u = user_of(v);
        const char *secret = text_of(v, "master_secret");
        char *text = NULL;
        must(dr_token_key_id(&u, &text, &err));
        assert_string_equal(text, text_of(v, "fxa_kid"));
        dr_free(text);
        must(dr_token_payload(&u, text_of(v, "salt"), expires_of(v), &text, &err));
        assert_string_equal(text, text_of(v, "payload_json"));
        dr_free(text);

        uint8_t key[DR_MAC_BYTES];
        char hex[2 * DR_MAC_BYTES + 1];
        must(dr_token_signing_key(secret, key, &err));
        for (size_t b = 0; b < sizeof key; b++) {
            (void)snprintf(hex + 2 * b, 3, "%02x", key[b]);
        }
        assert_string_equal(hex, text_of(v, "signing_key_hex"));

        struct dr_token t;
        must(dr_token_make(secret, &u, text_of(v, "salt"), expires_of(v), 0, &t, &err));
        assert_string_equal(t.token, text_of(v, "token"));
        assert_string_equal(t.derived_secret, text_of(v, "derived_secret"));

        text = dr_token_data_url(u.node, u.uid);
        assert_string_equal(text, text_of(v, "url"));
        dr_free(text);
        int64_t ts = strtoll(text_of(v, "ts"), NULL, 10);
        must(dr_hawk_normalize("DELETE", text_of(v, "url"), ts, text_of(v, "nonce"), &text, &err));
        assert_string_equal(text, text_of(v, "hawk_normalized"));
        dr_free(text);
        char want[1024];
        (void)snprintf(want, sizeof want, "Hawk id=\"%s\", ts=\"%s\", nonce=\"%s\", mac=\"%s\"",
                       text_of(v, "token"), text_of(v, "ts"), text_of(v, "nonce"),
                       text_of(v, "hawk_mac"));
        must(dr_hawk_header(&t, "DELETE", text_of(v, "url"), ts, text_of(v, "nonce"), &text, &err));
        assert_string_equal(text, want);
        dr_free(text);
        dr_token_fini(&t);
    }
}

static void derived_secret_is_wiped_before_it_is_freed(void **state)
{
    (void)state;
    const json_t *v = json_array_get(vectors, 0);
    struct dr_token_user u = user_of(v);
    struct dr_token t;
    must(dr_token_make("SECRET", &u, text_of(v, "salt"), expires_of(v), 0, &t, &err));
    (void)snprintf(watched, sizeof watched, "%s", t.derived_secret);
    wiped_count = 0;
    dr_token_fini(&t);
    assert_int_equal(wiped_count, 1);
    watched[0] = '\0';
    assert_null(t.token);
    assert_null(t.derived_secret);
    dr_token_fini(&t); /* harmless twice */
}

static void zero_keys_changed_at_counts_as_absent(void **state)
{
    (void)state;
    struct dr_token_user u = {.node = "http://n",
                              .email = "a@b",
                              .generation = 77,
                              .keys_changed_at = 0,
                              .has_keys_changed_at = true,
                              .client_state = "AAbb"};
    char *text = NULL;
    must(dr_token_key_id(&u, &text, &err));
    assert_string_equal(text, "0000000000077-qrs");
    dr_free(text);
    u.generation = INT64_MAX;
    must(dr_token_key_id(&u, &text, &err));
    assert_string_equal(text, "9223372036854775807-qrs");
    dr_free(text);
}

static void bad_hex_is_refused_with_its_place(void **state)
{
    (void)state;
    static const char *const bad[] = {"a", "abc", "zz", "0g", "aa bb ", "0x12", "\xC3\xA9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dr_token_user u = {
            .uid = 5, .node = "http://n", .email = "a", .client_state = bad[i]};
        char *text = NULL;
        dr_err_clear(&err);
        assert_int_equal(dr_token_key_id(&u, &text, &err), DR_INPUT);
        assert_null(text);
        assert_non_null(strstr(err.msg, "client_state"));
        struct dr_token t;
        assert_int_equal(dr_token_make("S3CRET", &u, NULL, NULL, 1, &t, &err), DR_INPUT);
        assert_null(t.token);
        assert_null(t.derived_secret);
        assert_null(strstr(err.msg, "S3CRET"));
    }
}

static void payload_escapes_as_python_does(void **state)
{
    (void)state;
    struct dr_token_user u = {.uid = -1,
                              .node = "http://n/\"\\\x7f",
                              .email = "J\xC3\xBCrgen\t\x01\xF0\x9F\x98\x80\xE2\x82\xAC@x",
                              .generation = 1,
                              .client_state = ""};
    char *text = NULL;
    must(dr_token_payload(&u, "000000", "1", &text, &err));
    assert_string_equal(text, "{\"uid\": -1, \"node\": \"http://n/\\\"\\\\\\u007f\", \"fxa_uid\": "
                              "\"J\\u00fcrgen\\t\\u0001\\ud83d\\ude00\\u20ac\", \"fxa_kid\": "
                              "\"0000000000001-\", \"salt\": \"000000\", \"expires\": 1}");
    dr_free(text);
    static const char *const bad[] = {"\xFF", "\xC3", "a\xC0\x80", "\xED\xA0\x80",
                                      "\xF4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        u.email = bad[i];
        assert_int_equal(dr_token_payload(&u, "000000", "1", &text, &err), DR_INPUT);
        assert_null(text);
    }
}

static void urls_are_normalized_as_they_are_sent(void **state)
{
    (void)state;
    static const struct {
        const char *url, *path, *host, *port;
    } cases[] = {
        {"http://H.example.COM/1.5/1", "/1.5/1", "h.example.com", "80"},
        {"HTTPS://h/1.5/1", "/1.5/1", "h", "443"},
        {"https://h:/1.5/1", "/1.5/1", "h", "443"},
        {"https://h:80/1.5/1", "/1.5/1", "h", "80"},
        {"http://h", "/", "h", "80"},
        {"http://h?a=b", "/?a=b", "h", "80"},
        {"http://h/1.5/1?a=%20b&c=d", "/1.5/1?a=%20b&c=d", "h", "80"},
        {"http://h/a%2Fb%c3%A9/1.5/1/", "/a%2Fb%c3%A9/1.5/1/", "h", "80"},
        {"http://h/1.5/1?x#frag?y", "/1.5/1?x", "h", "80"},
        {"http://[2001:DB8::1]/1.5/1", "/1.5/1", "[2001:db8::1]", "80"},
        {"http://[::1]:8099/1.5/1", "/1.5/1", "[::1]", "8099"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[256];
        char *text = NULL;
        (void)snprintf(want, sizeof want, "hawk.1.header\n7\nn\nDELETE\n%s\n%s\n%s\n\n\n",
                       cases[i].path, cases[i].host, cases[i].port);
        must(dr_hawk_normalize("DELETE", cases[i].url, 7, "n", &text, &err));
        assert_string_equal(text, want);
        dr_free(text);
    }
}

static void urls_that_cannot_be_signed_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "h/1.5/1",
        "ftp://h/",
        "http://",
        "http:///x",
        "http://:8",
        "http://h:x/",
        "http://h:0/",
        "http://h:70000/",
        "http://[::1/x",
        "http://[::1]8/x",
        "http://u:p@h/x",
        "http://h/a b",
        "http://h/a\nb",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = NULL;
        if (dr_hawk_normalize("DELETE", bad[i], 7, "n", &text, &err) != DR_INPUT) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
        assert_null(text);
    }
}

static void data_urls_drop_trailing_slashes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"https://n", "https://n/1.5/12"},
        {"https://n/", "https://n/1.5/12"},
        {"https://n///", "https://n/1.5/12"},
        {"https://n/base%2F/", "https://n/base%2F/1.5/12"},
        {"http://100%/%d/", "http://100%/%d/1.5/12"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = dr_token_data_url(cases[i][0], 12);
        assert_string_equal(text, cases[i][1]);
        dr_free(text);
    }
}

static void salts_nonces_and_times_are_fresh(void **state)
{
    (void)state;
    struct dr_token_user u = {
        .uid = 1, .node = "http://n", .email = "a", .generation = 1, .client_state = "aa"};
    struct dr_token one, two;
    must(dr_token_make("s", &u, NULL, NULL, 300, &one, &err));
    must(dr_token_make("s", &u, NULL, NULL, 300, &two, &err));
    assert_string_not_equal(one.token, two.token);
    char *a = NULL, *b = NULL;
    must(dr_hawk_header(&one, "DELETE", "http://n/1.5/1", 0, NULL, &a, &err));
    must(dr_hawk_header(&one, "DELETE", "http://n/1.5/1", 0, NULL, &b, &err));
    const char *nonce_a = strstr(a, "nonce=\""), *nonce_b = strstr(b, "nonce=\"");
    assert_non_null(nonce_a);
    assert_non_null(nonce_b);
    assert_int_not_equal(strncmp(nonce_a, nonce_b, 15), 0);
    int64_t ts = strtoll(strstr(a, "ts=\"") + 4, NULL, 10);
    int64_t now = dr_wall_now() / 1000;
    assert_true(ts >= now - 5 && ts <= now);
    dr_free(a);
    dr_free(b);
    assert_int_equal(dr_hawk_header(&one, "DELETE", "http://n/", 1, "a\"b", &a, &err), DR_INPUT);
    assert_null(a);
    assert_int_equal(dr_hawk_header(&one, "DELETE", "http://n/", 1, "", &a, &err), DR_INPUT);
    dr_token_fini(&one);
    dr_token_fini(&two);
}

static void short_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    const json_t *v = json_array_get(vectors, 0);
    struct dr_token_user u = user_of(v);
    bool is_whole = false;
    for (uint64_t n = 1; !is_whole; n++) {
        struct dr_token t;
        char *header = NULL;
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_token_make("SECRET", &u, NULL, NULL, 300, &t, &err);
        if (rc == DR_OK) {
            rc = dr_hawk_header(&t, "DELETE", "http://n/1.5/12", 0, NULL, &header, &err);
        }
        (void)dr_mem_fail_at(0);
        is_whole = rc == DR_OK;
        assert_true(is_whole || rc == DR_NOMEM);
        assert_true(is_whole == (header != NULL));
        dr_free(header);
        dr_token_fini(&t);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_hold_at_every_intermediate_value),
        cmocka_unit_test(derived_secret_is_wiped_before_it_is_freed),
        cmocka_unit_test(zero_keys_changed_at_counts_as_absent),
        cmocka_unit_test(bad_hex_is_refused_with_its_place),
        cmocka_unit_test(payload_escapes_as_python_does),
        cmocka_unit_test(urls_are_normalized_as_they_are_sent),
        cmocka_unit_test(urls_that_cannot_be_signed_are_refused),
        cmocka_unit_test(data_urls_drop_trailing_slashes),
        cmocka_unit_test(salts_nonces_and_times_are_fresh),
        cmocka_unit_test(short_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests_name("token", tests, load_vectors, drop_vectors);
}
