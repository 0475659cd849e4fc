/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the MongoDB adapter that need no server: hashes, order, values, URLs, errors,
 * queries. */
#include "mongodb/mongodb_help.h"

#include "obs/log.h"
#include "store/mongodb/mongodb_private.h"

static struct dr_arena *arena;

static int make_arena(void **state)
{
    (void)state;
    arena = dr_arena_create(4096);
    return arena == NULL ? -1 : 0;
}

static int drop_arena(void **state)
{
    (void)state;
    dr_arena_destroy(arena);
    return 0;
}

static bson_t *parse(const char *text)
{
    bson_error_t e;
    bson_t *doc = bson_new_from_json((const uint8_t *)text, -1, &e);
    if (doc == NULL) {
        fail_msg("%s: %s", text, e.message);
    }
    return doc;
}

/* ---- hashes ---- */

static void hashes_are_those_of_a_real_server(void **state)
{
    char path[512];
    json_t *vectors = NULL;
    size_t i = 0;
    json_t *one = NULL;
    (void)state;
    must(dr_json_load(repository_path("tests/vectors/mongodb-hashed-keys.json", path, sizeof path),
                      &vectors, &err));
    assert_true(json_array_size(vectors) >= 30);
    json_array_foreach(vectors, i, one)
    {
        char *text = json_dumps(one, 0);
        int64_t expected = 0;
        bson_iter_t it;
        bson_t *doc = parse(text);
        assert_true(dr_parse_i64(json_string_value(json_object_get(one, "hash")), &expected));
        assert_true(bson_iter_init_find(&it, doc, "k"));
        if (mg_hash(&it) != expected) {
            fail_msg("%s: %" PRId64, text, mg_hash(&it));
        }
        bson_destroy(doc);
        free(text);
    }
    json_decref(vectors);
}

static void hash_of_42_is_the_published_one(void **state)
{
    bson_iter_t it;
    (void)state;
    bson_t *doc = parse("{\"k\": 42}");
    assert_true(bson_iter_init_find(&it, doc, "k"));
    assert_true(mg_hash(&it) == INT64_C(-944302157085130861));
    bson_destroy(doc);
}

static void a_missing_field_hashes_as_null(void **state)
{
    bson_iter_t it;
    (void)state;
    bson_t *doc = parse("{\"k\": null}");
    assert_true(bson_iter_init_find(&it, doc, "k"));
    assert_true(mg_hash(NULL) == mg_hash(&it));
    bson_destroy(doc);
}

/* Equal for the server, so in one chunk. */
static void numbers_of_one_value_hash_alike(void **state)
{
    static const char *const same[] = {
        "{\"k\": {\"$numberInt\": \"7\"}}",          "{\"k\": {\"$numberLong\": \"7\"}}",
        "{\"k\": {\"$numberDouble\": \"7.9\"}}",     "{\"k\": {\"$numberDecimal\": \"7.00\"}}",
        "{\"k\": {\"$numberDecimal\": \"0.7E+1\"}}", "{\"k\": {\"$numberDecimal\": \"7.4\"}}"};
    int64_t first = 0;
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        bson_iter_t it;
        bson_t *doc = parse(same[i]);
        assert_true(bson_iter_init_find(&it, doc, "k"));
        first = i == 0 ? mg_hash(&it) : first;
        assert_true(mg_hash(&it) == first);
        bson_destroy(doc);
    }
}

/* ---- order and values ---- */

/* One of each type and its neighbours, in the order of MongoDB's manual ("Comparison/Sort Order"):
 * written by hand, not computed. */
static const char *const ordered[] = {
    "{\"$minKey\": 1}",
    "{\"$undefined\": true}",
    "null",
    "{\"$numberDouble\": \"NaN\"}",
    "{\"$numberDouble\": \"-Infinity\"}",
    "{\"$numberDecimal\": \"-1E+400\"}",
    "{\"$numberLong\": \"-9223372036854775808\"}",
    "-5",
    "{\"$numberDecimal\": \"-0.5\"}",
    "0",
    "{\"$numberDecimal\": \"0.3\"}",
    "{\"$numberDouble\": \"0.5\"}",
    "1",
    "{\"$numberDouble\": \"1.5\"}",
    "{\"$numberDecimal\": \"1.6\"}",
    "{\"$numberLong\": \"9007199254740992\"}",
    "{\"$numberLong\": \"9007199254740993\"}",
    "{\"$numberLong\": \"9223372036854775807\"}",
    "{\"$numberDouble\": \"9223372036854775808\"}",
    "{\"$numberDecimal\": \"1E+400\"}",
    "{\"$numberDouble\": \"Infinity\"}",
    "\"\"",
    "\"a\"",
    "\"a\\u0000b\"",
    "\"ab\"",
    "\"b\"",
    "\"\xc3\xbc\"",
    "{}",
    "{\"a\": \"x\", \"b\": 1}",
    "{\"a\": \"x\", \"b\": 2}",
    "{\"b\": \"x\"}",
    "[]",
    "[1]",
    "[1, 2]",
    "[2]",
    "{\"$binary\": {\"base64\": \"\", \"subType\": \"00\"}}",
    "{\"$binary\": {\"base64\": \"/w==\", \"subType\": \"00\"}}",
    "{\"$binary\": {\"base64\": \"AA==\", \"subType\": \"05\"}}",
    "{\"$binary\": {\"base64\": \"AAEC\", \"subType\": \"00\"}}",
    "{\"$oid\": \"507f1f77bcf86cd799439011\"}",
    "{\"$oid\": \"507f1f77bcf86cd799439012\"}",
    "false",
    "true",
    "{\"$date\": {\"$numberLong\": \"-1\"}}",
    "{\"$date\": {\"$numberLong\": \"1795219200000\"}}",
    "{\"$timestamp\": {\"t\": 1, \"i\": 2}}",
    "{\"$timestamp\": {\"t\": 4294967295, \"i\": 1}}",
    "{\"$regularExpression\": {\"pattern\": \"ab\", \"options\": \"\"}}",
    "{\"$regularExpression\": {\"pattern\": \"ab\", \"options\": \"i\"}}",
    "{\"$regularExpression\": {\"pattern\": \"b\", \"options\": \"\"}}",
    "{\"$dbPointer\": {\"$ref\": \"c\", \"$id\": {\"$oid\": \"507f1f77bcf86cd799439011\"}}}",
    "{\"$code\": \"f()\"}",
    "{\"$code\": \"f()\", \"$scope\": {\"a\": 1}}",
    "{\"$code\": \"f()\", \"$scope\": {\"a\": 2}}",
    "{\"$maxKey\": 1}",
};
enum { ORDERED = sizeof ordered / sizeof ordered[0] };

static bson_t *document_of(size_t i)
{
    char text[256];
    (void)snprintf(text, sizeof text, "{\"k\": %s}", ordered[i]);
    return parse(text);
}

static void values_sort_as_servers_sort_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < ORDERED; i++) {
        bson_t *a = document_of(i);
        for (size_t k = 0; k < ORDERED; k++) {
            bson_t *b = document_of(k);
            bson_iter_t x;
            bson_iter_t y;
            assert_true(bson_iter_init_find(&x, a, "k") && bson_iter_init_find(&y, b, "k"));
            int order = mg_compare(&x, &y);
            if ((order < 0) != (i < k) || (order > 0) != (i > k)) {
                fail_msg("%s against %s: %d", ordered[i], ordered[k], order);
            }
            bson_destroy(b);
        }
        bson_destroy(a);
    }
}

static void numbers_of_all_widths_are_equal(void **state)
{
    static const char *const same[] = {"{\"k\": 12}", "{\"k\": {\"$numberLong\": \"12\"}}",
                                       "{\"k\": {\"$numberDouble\": \"12.0\"}}",
                                       "{\"k\": {\"$numberDecimal\": \"12.000\"}}",
                                       "{\"k\": {\"$numberDecimal\": \"1.2E+1\"}}"};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        bson_t *a = parse(same[i]);
        for (size_t k = 0; k < 5; k++) {
            bson_t *b = parse(same[k]);
            bson_iter_t x;
            bson_iter_t y;
            assert_true(bson_iter_init_find(&x, a, "k") && bson_iter_init_find(&y, b, "k"));
            assert_int_equal(mg_compare(&x, &y), 0);
            bson_destroy(b);
        }
        bson_destroy(a);
    }
}

/* The value, through drover's own type and through the JSON in which plans are stored, and back. */
static void bounds_of_every_type_come_back_as_they_were(void **state)
{
    struct mg_coll c = {.ns = "d.c", .key_count = 2, .key = {(char[]){"k"}, (char[]){"x.y"}}};
    (void)state;
    for (size_t i = 0; i < ORDERED; i++) {
        char text[256];
        struct dr_bound bound;
        struct dr_bound stored;
        bson_t back = BSON_INITIALIZER;
        bson_iter_t x;
        bson_iter_t y;
        (void)snprintf(text, sizeof text, "{\"x.y\": 5, \"k\": %s}", ordered[i]);
        bson_t *doc = parse(text);
        must(mg_bound_from(doc, &c, arena, &bound, &err));
        json_t *j = dr_bound_to_json(&bound);
        must(dr_bound_from_json(j, arena, &stored, &err));
        assert_int_equal(stored.parts, 2);
        assert_true(mg_bound_to(&stored, &c, &back));
        assert_true(bson_iter_init_find(&x, doc, "k") && bson_iter_init_find(&y, &back, "k"));
        bool is_integer = BSON_ITER_HOLDS_INT32(&x) && BSON_ITER_HOLDS_INT64(&y);
        if (!is_integer && bson_iter_type(&x) != bson_iter_type(&y)) {
            fail_msg("%s came back as type %d", ordered[i], (int)bson_iter_type(&y));
        }
        assert_int_equal(mg_compare(&x, &y), 0);
        assert_string_equal(bson_iter_key(&y), "k");
        assert_true(bson_iter_next(&y)); /* in the key's order, with the name as one word */
        assert_string_equal(bson_iter_key(&y), "x.y");
        json_decref(j);
        bson_destroy(doc);
        bson_destroy(&back);
    }
}

static void parts_a_bound_does_not_have_are_min_key(void **state)
{
    struct mg_coll c = {.ns = "d.c", .key_count = 2, .key = {(char[]){"a"}, (char[]){"b"}}};
    const struct dr_bound bound = {.parts = 1, .part = {{.type = DR_V_INT, .i = 3}}};
    bson_t out = BSON_INITIALIZER;
    bson_iter_t it;
    (void)state;
    assert_true(mg_bound_to(&bound, &c, &out));
    assert_true(bson_iter_init_find(&it, &out, "b") && BSON_ITER_HOLDS_MINKEY(&it));
    bson_destroy(&out);
}

static void a_bound_without_a_key_field_is_not_guessed(void **state)
{
    struct mg_coll c = {.ns = "d.c", .key_count = 2, .key = {(char[]){"a"}, (char[]){"b"}}};
    struct dr_bound bound;
    (void)state;
    bson_t *doc = parse("{\"a\": 1}");
    assert_int_equal(mg_bound_from(doc, &c, arena, &bound, &err), DR_STALE);
    assert_has(err.msg, "b");
    bson_destroy(doc);
}

static void damaged_tagged_values_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } damaged[] = {{"", 0},
                   {"\x07"
                    "abc",
                    4},
                   {"\x09"
                    "1234567",
                    8},
                   {"\x03"
                    "\x05\0\0",
                    4},
                   {"\x63"
                    "x",
                    2},
                   {"\x05"
                    "\0\0",
                    3},
                   {"\x0f", 1},
                   {"\x0f\x02"
                    "zz",
                    4},
                   {"\x0b"
                    "no end",
                    7}};
    (void)state;
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        const struct dr_value v = {
            .type = DR_V_TAGGED, .data = damaged[i].bytes, .len = damaged[i].len};
        bson_t out = BSON_INITIALIZER;
        if (mg_value_append(&out, "k", &v)) {
            fail_msg("damaged value %zu was taken", i);
        }
        bson_destroy(&out);
    }
}

static void paths_go_through_documents_only(void **state)
{
    bson_iter_t it;
    (void)state;
    bson_t *doc = parse("{\"a\": {\"b\": {\"c\": 7}}, \"l\": [{\"b\": 1}], \"n\": null}");
    assert_true(mg_find_path(doc, "a.b.c", &it));
    assert_int_equal(bson_iter_as_int64(&it), 7);
    assert_true(mg_find_path(doc, "n", &it));
    assert_false(mg_find_path(doc, "a.b.x", &it));
    assert_false(mg_find_path(doc, "l.0", &it));
    assert_false(mg_find_path(doc, "l.b", &it));
    assert_false(mg_find_path(doc, "a.b.c.d", &it));
    bson_destroy(doc);
}

/* ---- URL ---- */

static void options_of_drover_are_taken_out_of_the_url(void **state)
{
    struct mg_url u;
    (void)state;
    must(
        mg_url_parse("mongodb://u:p%40s@h1:27017,h2/db?w=majority&drover.configUri=mongodb%3A%2F%2F"
                     "cu%3Apw%40c1%2F%3Ftls%3Dtrue&drover.configDb=cfg&retryWrites=true&"
                     "drover.rebalanceCheck=2m",
                     &u, &err));
    assert_string_equal(u.uri, "mongodb://u:p%40s@h1:27017,h2/db?w=majority&retryWrites=true");
    assert_string_equal(u.config_uri, "mongodb://cu:pw@c1/?tls=true");
    assert_string_equal(u.config_db, "cfg");
    assert_true(u.rebalance_ms == 120000);
    mg_url_fini(&u);
    must(mg_url_parse("mongodb+srv://h/?drover.configDb=c", &u, &err));
    assert_string_equal(u.uri, "mongodb+srv://h/");
    assert_null(u.config_uri);
    assert_true(u.rebalance_ms == 300000);
    mg_url_fini(&u);
    must(mg_url_parse("mongodb://h", &u, &err));
    assert_string_equal(u.uri, "mongodb://h");
    assert_string_equal(u.config_db, "config");
    mg_url_fini(&u);
}

static void wrong_options_are_refused_without_showing_the_url(void **state)
{
    static const char *const wrong[] = {
        "mongodb://u:geheim@h/?drover.configURI=x",
        "mongodb://u:geheim@h/?drover.configUri=http%3A%2F%2Fgeheim",
        "mongodb://u:geheim@h/?drover.configUri=mongodb%3A%2F%2Fgeheim%zz",
        "mongodb://u:geheim@h/?drover.configDb=a%2Fb",
        "mongodb://u:geheim@h/?drover.configDb=",
        "mongodb://u:geheim@h/?drover.rebalanceCheck=soon",
        "mongodb://u:geheim@h/?drover.rebalanceCheck=0",
        "mongodb://u:geheim@h/?drover.rebalanceCheck=2d",
        "mongodb://u:geheim@h/?drover.configDb",
        "http://u:geheim@h/"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct mg_url u;
        assert_int_equal(mg_url_parse(wrong[i], &u, &err), DR_INPUT);
        assert_null(strstr(err.msg, "geheim"));
        assert_null(u.uri);
    }
}

static void no_message_or_shown_url_holds_a_secret(void **state)
{
    static const char *const wrong[] = {
        "mongodb://user:geheim@h:notaport/?serverSelectionTimeoutMS=50",
        "mongodb://user:gehe@im@h/?serverSelectionTimeoutMS=50",
        "mongodb://geheim@:1/?serverSelectionTimeoutMS=50",
        "mongodb://user:geheim@h/?authMechanism=geheim&serverSelectionTimeoutMS=50",
        "mongodb://user:geheim@h/?w=0",
        "mongodb://h/?drover.configUri=mongodb%3A%2F%2Fu%3Ageheim%40h%3Ax%2F"};
    char shown[512];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        void *impl = NULL;
        assert_int_not_equal(dr_store_mongodb_ops()->open(wrong[i], &impl, &err), DR_OK);
        assert_null(impl);
        if (strstr(err.msg, "geheim") != NULL) {
            fail_msg("%s: %s", wrong[i], err.msg);
        }
    }
    (void)dr_url_redact("mongodb://u:p@h/?drover.configUri=mongodb%3A%2F%2Fu%3Ageheim%40h&w=1",
                        shown, sizeof shown);
    assert_string_equal(shown, "mongodb://u:***@h/?drover.configUri=***&w=1");
}

static void an_address_where_nobody_listens_is_unreachable(void **state)
{
    void *impl = NULL;
    (void)state;
    assert_int_equal(
        dr_store_mongodb_ops()->open(
            "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200&serverSelectionTryOnce=true",
            &impl, &err),
        DR_UNREACHABLE);
    assert_null(impl);
}

/* ---- errors ---- */

static void errors_of_servers_say_what_may_be_done(void **state)
{
    static const struct {
        const char *reply;
        enum dr_code read;
        enum dr_code written;
    } cases[] = {
        {"{\"ok\": 0, \"code\": 13}", DR_DENIED, DR_DENIED},
        {"{\"ok\": 0, \"code\": 18}", DR_DENIED, DR_DENIED},
        {"{\"ok\": 0, \"code\": 26}", DR_NOT_FOUND, DR_NOT_FOUND},
        {"{\"ok\": 0, \"code\": 48}", DR_EXISTS, DR_EXISTS},
        {"{\"ok\": 0, \"code\": 73}", DR_INPUT, DR_INPUT},
        {"{\"ok\": 0, \"code\": 59}", DR_UNSUPPORTED, DR_UNSUPPORTED},
        {"{\"ok\": 0, \"code\": 13388}", DR_STALE, DR_STALE},
        {"{\"ok\": 0, \"code\": 63}", DR_STALE, DR_STALE},
        {"{\"ok\": 0, \"code\": 112}", DR_BUSY, DR_BUSY},
        {"{\"ok\": 0, \"code\": 10107}", DR_UNREACHABLE, DR_UNREACHABLE},
        {"{\"ok\": 0, \"code\": 189}", DR_UNREACHABLE, DR_UNKNOWN},
        {"{\"ok\": 0, \"code\": 89}", DR_UNREACHABLE, DR_UNKNOWN},
        {"{\"ok\": 0, \"code\": 50}", DR_BUSY, DR_UNKNOWN},
        {"{\"ok\": 0, \"code\": 14031}", DR_FULL, DR_FULL},
        {"{\"ok\": 0, \"code\": 424242}", DR_IO, DR_IO},
        /* labels go before codes */
        {"{\"ok\": 0, \"code\": 10107, \"errorLabels\": [\"RetryableWriteError\"]}", DR_UNREACHABLE,
         DR_UNKNOWN},
        {"{\"ok\": 1, \"n\": 0, \"writeErrors\": [{\"index\": 0, \"code\": 11000}]}", DR_EXISTS,
         DR_EXISTS},
        {"{\"ok\": 1, \"n\": 3, \"writeConcernError\": {\"code\": 64, \"errInfo\": {\"wtimeout\": "
         "true}}}",
         DR_UNKNOWN, DR_UNKNOWN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_t *reply = parse(cases[i].reply);
        enum dr_code read = mg_fail(NULL, NULL, reply, false, "do", &err);
        enum dr_code written = mg_fail(NULL, NULL, reply, true, "do", &err);
        if (read != cases[i].read || written != cases[i].written) {
            fail_msg("%s: %s, %s", cases[i].reply, dr_code_name(read), dr_code_name(written));
        }
        assert_has(err.msg, "do");
        bson_destroy(reply);
    }
}

static void errors_of_the_driver_say_whether_a_write_may_have_happened(void **state)
{
    static const struct {
        uint32_t domain;
        uint32_t code;
        enum dr_code read;
        enum dr_code written;
    } cases[] = {
        {MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE, DR_UNREACHABLE,
         DR_UNREACHABLE},
        {MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT, DR_UNREACHABLE, DR_UNREACHABLE},
        {MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, DR_UNREACHABLE, DR_UNKNOWN},
        {MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE, DR_DENIED, DR_DENIED},
        {MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION, DR_UNSUPPORTED,
         DR_UNSUPPORTED},
        {MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_INVALID_REPLY, DR_UNREACHABLE, DR_UNKNOWN},
        {MONGOC_ERROR_WRITE_CONCERN, MONGOC_ERROR_WRITE_CONCERN_ERROR, DR_UNKNOWN, DR_UNKNOWN},
        {MONGOC_ERROR_SERVER, 13, DR_DENIED, DR_DENIED},
        {MONGOC_ERROR_SERVER, 26, DR_NOT_FOUND, DR_NOT_FOUND},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_error_t e = {.domain = cases[i].domain, .code = cases[i].code, .message = "said"};
        bson_t empty = BSON_INITIALIZER;
        assert_int_equal(mg_fail(NULL, &e, NULL, false, "do", &err), cases[i].read);
        assert_int_equal(mg_fail(NULL, &e, &empty, true, "do", &err), cases[i].written);
        assert_has(err.msg, "said");
        bson_destroy(&empty);
    }
}

static void a_duplicate_key_is_told_without_the_key(void **state)
{
    (void)state;
    bson_t *reply =
        parse("{\"ok\": 1, \"writeErrors\": [{\"index\": 0, \"code\": 11000, \"errmsg\": "
              "\"E11000 duplicate key error collection: d.c index: _id_ dup key: { "
              "_id: \\\"person@example.org\\\" }\"}]}");
    assert_int_equal(mg_reply_code(reply), 11000);
    assert_int_equal(mg_fail(NULL, NULL, reply, true, "insert", &err), DR_EXISTS);
    assert_has(err.msg, "E11000");
    assert_null(strstr(err.msg, "person"));
    bson_destroy(reply);
}

/* ---- queries ---- */

static void expect_query(const char *filter, const char *expected)
{
    json_t *j = json_loads(filter, 0, NULL);
    const struct dr_filter *f = NULL;
    bson_t *query = NULL;
    assert_non_null(j);
    must(dr_filter_parse(j, arena, &f, &err));
    must(mg_query_from_filter(f, &query, &err));
    bson_t *wanted = parse(expected);
    char *is = bson_as_relaxed_extended_json(query, NULL);
    char *should = bson_as_relaxed_extended_json(wanted, NULL);
    assert_string_equal(is, should);
    bson_free(is);
    bson_free(should);
    bson_destroy(wanted);
    bson_destroy(query);
    json_decref(j);
}

static void neutral_filters_become_queries_that_null_does_not_match(void **state)
{
    (void)state;
    expect_query("{\"s\": \"dead\"}", "{\"s\": {\"$eq\": \"dead\"}}");
    expect_query("{\"n\": {\"ge\": 1, \"lt\": 9}}", "{\"n\": {\"$gte\": 1, \"$lt\": 9}}");
    expect_query("{\"n\": {\"gt\": 1.5}}", "{\"n\": {\"$gt\": 1.5}}");
    expect_query("{\"n\": {\"le\": 7}, \"a.b\": 2}",
                 "{\"n\": {\"$lte\": 7}, \"a.b\": {\"$eq\": 2}}");
    expect_query("{\"s\": {\"ne\": \"x\"}}", "{\"s\": {\"$nin\": [\"x\", null]}}");
    expect_query("{\"s\": {\"in\": [\"a\", 1]}}", "{\"s\": {\"$in\": [\"a\", 1]}}");
    expect_query("{\"s\": null}", "{\"s\": {\"$eq\": null}}");
    expect_query("{\"s\": {\"is_null\": false}}", "{\"s\": {\"$ne\": null}}");
}

static void a_filter_cannot_smuggle_an_operator_in(void **state)
{
    const struct dr_value v = {.type = DR_V_TEXT, .data = "sleep(1)", .len = 8};
    const struct dr_filter where = {
        .term_count = 1,
        .term = {{.field = "$where", .op = DR_F_EQ, .value_count = 1, .value = &v}}};
    const struct dr_value nothing = {.type = DR_V_NULL};
    const struct dr_filter null = {
        .term_count = 1,
        .term = {{.field = "a", .op = DR_F_IN, .value_count = 1, .value = &nothing}}};
    bson_t *query = NULL;
    (void)state;
    assert_int_equal(mg_query_from_filter(&where, &query, &err), DR_INPUT);
    assert_null(query);
    assert_int_equal(mg_query_from_filter(&null, &query, &err), DR_INPUT);
    assert_int_equal(mg_query_from_filter(&(struct dr_filter){0}, &query, &err), DR_REFUSED);
}

static void a_spec_gives_its_filter_in_the_order_it_was_written(void **state)
{
    struct mg_store s = {0};
    const bson_t *query = NULL;
    const bson_t *again = NULL;
    struct dr_range r = {.spec =
                             "{\"filter\": {\"d\": {\"z\": 1, \"a\": {\"$numberLong\": \"2\"}}}}"};
    (void)state;
    must(mg_filter_use(&s, &r, &query, &err));
    char *text = bson_as_canonical_extended_json(query, NULL);
    assert_string_equal(text, "{ \"d\" : { \"z\" : { \"$numberInt\" : \"1\" }, \"a\" : { "
                              "\"$numberLong\" : \"2\" } } }");
    bson_free(text);
    must(mg_filter_use(&s, &r, &again, &err));
    assert_ptr_equal(query, again);
    r.spec = "{\"database\": \"d\"}";
    must(mg_filter_use(&s, &r, &query, &err));
    assert_null(query);
    r.spec = "{\"filter\": {}}";
    assert_int_equal(mg_filter_use(&s, &r, &query, &err), DR_REFUSED);
    r.spec = "{\"filter\": {\"d\": {\"$oid\": \"short\"}}}";
    assert_int_equal(mg_filter_use(&s, &r, &query, &err), DR_INPUT);
    dr_free(s.filter.text);
    bson_destroy(s.filter.query);
}

static void memory_that_runs_short_is_reported_everywhere(void **state)
{
    static const char url[] =
        "mongodb://h/?w=1&drover.configDb=c&drover.configUri=mongodb%3A%2F%2Fh";
    struct mg_url u;
    (void)state;
    enum dr_code rc = DR_NOMEM;
    for (uint64_t n = 1; n < 100 && rc != DR_OK; n++) {
        (void)dr_mem_fail_at(n);
        rc = mg_url_parse(url, &u, &err);
        (void)dr_mem_fail_at(0);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
    }
    assert_int_equal(rc, DR_OK);
    mg_url_fini(&u);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_arena, drop_arena)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(hashes_are_those_of_a_real_server),
        T(hash_of_42_is_the_published_one),
        T(a_missing_field_hashes_as_null),
        T(numbers_of_one_value_hash_alike),
        T(values_sort_as_servers_sort_them),
        T(numbers_of_all_widths_are_equal),
        T(bounds_of_every_type_come_back_as_they_were),
        T(parts_a_bound_does_not_have_are_min_key),
        T(a_bound_without_a_key_field_is_not_guessed),
        T(damaged_tagged_values_are_refused),
        T(paths_go_through_documents_only),
        T(options_of_drover_are_taken_out_of_the_url),
        T(wrong_options_are_refused_without_showing_the_url),
        T(no_message_or_shown_url_holds_a_secret),
        T(an_address_where_nobody_listens_is_unreachable),
        T(errors_of_servers_say_what_may_be_done),
        T(errors_of_the_driver_say_whether_a_write_may_have_happened),
        T(a_duplicate_key_is_told_without_the_key),
        T(neutral_filters_become_queries_that_null_does_not_match),
        T(a_filter_cannot_smuggle_an_operator_in),
        T(a_spec_gives_its_filter_in_the_order_it_was_written),
        T(memory_that_runs_short_is_reported_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
