/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of catalog/ids.h and catalog/ring.h. The vectors are published ones: data lie where
 * these numbers say, so none of them may ever change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "catalog/ids.h"
#include "catalog/ring.h"

static const char sample_uuid[] = "550e8400-e29b-41d4-a716-446655440000";

static struct dr_point_id number_id(uint64_t number)
{
    return (struct dr_point_id){.kind = DR_POINT_NUMBER, .number = number};
}

static uint64_t hash_number(uint64_t number)
{
    struct dr_point_id id = number_id(number);
    return dr_point_hash(&id);
}

static struct dr_point_id read_id(const char *json, json_t **keep)
{
    struct dr_point_id id;
    struct dr_err err = {0};
    assert_int_equal(dr_json_parse("id", json, strlen(json), keep, &err), DR_OK);
    assert_int_equal(dr_point_id_from_json(*keep, "id", &id, &err), DR_OK);
    return id;
}

static struct dr_ring *make_ring(const uint32_t *shard_id, uint32_t count)
{
    struct dr_ring *r = NULL;
    struct dr_err err = {0};
    assert_int_equal(dr_ring_create(shard_id, count, &r, &err), DR_OK);
    assert_int_equal(dr_ring_shard_count(r), count);
    return r;
}

static void siphash_is_the_published_function(void **state)
{
    (void)state;
    /* Zero key over nothing, and over the bytes 0, 1, 2, ... 14: from the reference code. */
    uint8_t bytes[15];
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_true(dr_siphash(NULL, 0) == UINT64_C(0x1e924b9d737700d7));
    const uint8_t node_0_0[8] = {0};
    const uint8_t node_3_99[8] = {3, 0, 0, 0, 99, 0, 0, 0};
    assert_true(dr_siphash(node_0_0, 8) == UINT64_C(0xe849e8bb6ffe2567));
    assert_true(dr_siphash(node_3_99, 8) == UINT64_C(0x030542b471daac8b));
    for (size_t n = 1; n < sizeof bytes; n++) { /* every length has a hash of its own */
        assert_true(dr_siphash(bytes, n) != dr_siphash(bytes, n - 1));
    }
}

static void point_hashes_are_the_published_ones(void **state)
{
    (void)state;
    assert_true(hash_number(0) == UINT64_C(0x32caecc280172976));
    assert_true(hash_number(1) == UINT64_C(0xcaf8f14cfc92c3f8));
    assert_true(hash_number(42) == UINT64_C(0x54aab59ae748bab9));
    assert_true(hash_number(UINT64_MAX) == UINT64_C(0x4baf9b1095e649bc));
    json_t *keep = NULL;
    struct dr_point_id id = read_id("\"550e8400-e29b-41d4-a716-446655440000\"", &keep);
    assert_true(dr_point_hash(&id) == UINT64_C(0xfcdcf225e1db2a90));
    json_decref(keep);
}

static void a_text_is_hashed_with_its_length(void **state)
{
    (void)state;
    const unsigned char as_bytes[] = {2, 0, 0, 0, 0, 0, 0,   0,   3,  0,
                                      0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
    struct dr_point_id id = {.kind = DR_POINT_TEXT, .text = "abc", .text_len = 3};
    assert_true(dr_point_hash(&id) == dr_siphash(as_bytes, sizeof as_bytes));
}

struct owner_row {
    uint32_t count;
    uint32_t shard[4];
    uint32_t first[20];
    uint32_t last;
    uint32_t uuid;
    uint64_t sum;
};

static const struct owner_row owner_table[] = {
    {2, {0, 1}, {0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0}, 0, 1, 23586308},
    {3, {0, 1, 2}, {2, 2, 2, 2, 2, 0, 2, 2, 0, 1, 1, 2, 2, 0, 2, 2, 0, 1, 1, 0}, 2, 1, 51400572},
    {4, {0, 1, 2, 3}, {2, 3, 2, 3, 2, 0, 2, 2, 3, 1, 1, 2, 3, 0, 3, 2, 0, 1, 1, 0}, 3, 1, 73699793},
    {3, {1, 2, 3}, {2, 3, 2, 3, 2, 2, 2, 2, 3, 1, 1, 2, 3, 2, 3, 2, 3, 1, 1, 3}, 3, 1, 94692332},
    {4,
     {5, 7, 8, 20},
     {5, 20, 20, 20, 7, 5, 5, 5, 20, 7, 5, 8, 8, 20, 5, 8, 7, 7, 8, 8},
     20,
     7,
     493495996},
};

static void owners_are_those_of_the_table(void **state)
{
    (void)state;
    json_t *keep = NULL;
    char quoted[64];
    (void)snprintf(quoted, sizeof quoted, "\"%s\"", sample_uuid);
    struct dr_point_id uuid = read_id(quoted, &keep);
    for (size_t t = 0; t < sizeof owner_table / sizeof owner_table[0]; t++) {
        const struct owner_row *row = &owner_table[t];
        struct dr_ring *r = make_ring(row->shard, row->count);
        uint64_t sum = 0;
        for (uint64_t i = 0; i < 10000; i++) {
            uint32_t owner = dr_ring_owner(r, hash_number(i));
            sum += owner * (i + 1);
            if (i < 20) {
                assert_int_equal(owner, row->first[i]);
            }
        }
        assert_true(sum == row->sum);
        assert_int_equal(dr_ring_owner(r, hash_number(UINT64_MAX)), row->last);
        assert_int_equal(dr_ring_owner(r, dr_point_hash(&uuid)), row->uuid);
        dr_ring_destroy(r);
    }
    json_decref(keep);
}

struct plain_node {
    uint64_t key;
    uint32_t shard;
};

static int compare_plain(const void *a, const void *b)
{
    uint64_t x = ((const struct plain_node *)a)->key;
    uint64_t y = ((const struct plain_node *)b)->key;
    return x < y ? -1 : x > y ? 1 : 0;
}

/* The definition, by sorting and looking at every node. */
static void lookups_agree_with_the_definition(void **state)
{
    (void)state;
    uint32_t shard[37];
    struct plain_node node[37 * DR_RING_NODES_PER_SHARD];
    for (uint32_t s = 0; s < 37; s++) {
        shard[s] = s * s * 7 + 3;
        for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
            const uint32_t pair[2] = {shard[s], i};
            node[s * DR_RING_NODES_PER_SHARD + i] =
                (struct plain_node){.key = dr_siphash(pair, sizeof pair), .shard = shard[s]};
        }
    }
    const size_t count = sizeof node / sizeof node[0];
    qsort(node, count, sizeof node[0], compare_plain);
    struct dr_ring *r = make_ring(shard, 37);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t hash = hash_number(i * 977);
        if (i < count) { /* on, just before and just behind a node */
            hash = node[i].key;
        } else if (i < 3 * count) {
            hash = node[i % count].key + (i & 1 ? 1 : UINT64_MAX);
        }
        size_t at = 0;
        while (at < count && node[at].key < hash) {
            at++;
        }
        assert_int_equal(dr_ring_owner(r, hash), node[at == count ? 0 : at].shard);
    }
    assert_int_equal(dr_ring_owner(r, 0), node[0].shard);
    assert_int_equal(dr_ring_owner(r, UINT64_MAX), node[0].shard);
    dr_ring_destroy(r);
}

static uint64_t key_of_node(uint32_t shard_id, uint32_t index)
{
    const uint32_t pair[2] = {shard_id, index};
    return dr_siphash(pair, sizeof pair);
}

/* Buckets with more nodes than their line has room for, places beyond 16 bits, and hashes whose
 * short keys are those of a node: all are the way to the nodes themselves. A node's own key belongs
 * to its shard, whatever else is in the ring, and so does nearly always what is a sixty-fourth of
 * the mean distance before it. */
static void large_rings_find_every_node(void **state)
{
    (void)state;
    static const uint32_t counts[] = {2, 300, 5000, 66000};
    uint32_t *shard = dr_calloc(66000, sizeof *shard);
    assert_non_null(shard);
    for (uint32_t s = 0; s < 66000; s++) {
        shard[s] = s * 3 + 1;
    }
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct dr_ring *r = make_ring(shard, counts[c]);
        uint64_t found = 0;
        uint64_t near = 0;
        uint64_t asked = 0;
        uint64_t before = UINT64_MAX / DR_RING_NODES_PER_SHARD / counts[c] / 64;
        uint32_t from = counts[c] < 1000 ? 0 : counts[c] - 1000;
        for (uint32_t s = from; s < counts[c]; s++) {
            for (uint32_t i = 0; i < DR_RING_NODES_PER_SHARD; i++) {
                uint64_t key = key_of_node(shard[s], i);
                found += dr_ring_owner(r, key) != shard[s];
                found += dr_ring_owner(r, key - 1) != shard[s];
                near += dr_ring_owner(r, key - before) == shard[s];
                asked++;
            }
        }
        assert_int_equal(found, 0);
        assert_in_range(near, asked * 31 / 32, asked);
        dr_ring_destroy(r);
    }
    dr_free(shard);
}

static void many_at_once_are_as_one_after_the_other(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 700};
    static const size_t lengths[] = {0, 1, 15, 16, 17, 33, 1000};
    uint32_t shard[700];
    uint64_t hash[1000];
    uint32_t owner[1001];
    for (uint32_t i = 0; i < 700; i++) {
        shard[i] = 5000 - i * 7;
    }
    for (size_t i = 0; i < 1000; i++) {
        hash[i] = hash_number(i);
    }
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct dr_ring *r = make_ring(shard, counts[c]);
        for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
            owner[lengths[n]] = 12345; /* not written */
            dr_ring_owners(r, hash, lengths[n], owner);
            for (size_t i = 0; i < lengths[n]; i++) {
                assert_int_equal(owner[i], dr_ring_owner(r, hash[i]));
            }
            assert_int_equal(owner[lengths[n]], 12345);
        }
        dr_ring_destroy(r);
    }
}

static void the_order_of_ids_does_not_matter(void **state)
{
    (void)state;
    const uint32_t up[] = {1, 5, 9, 100, 4000000000u};
    const uint32_t mixed[] = {100, 1, 4000000000u, 9, 5};
    struct dr_ring *a = make_ring(up, 5);
    struct dr_ring *b = make_ring(mixed, 5);
    for (uint64_t i = 0; i < 20000; i++) {
        assert_int_equal(dr_ring_owner(a, hash_number(i)), dr_ring_owner(b, hash_number(i)));
    }
    dr_ring_destroy(a);
    dr_ring_destroy(b);
}

static void a_ring_of_one_owns_all_and_an_empty_one_is_possible(void **state)
{
    (void)state;
    const uint32_t only[] = {77};
    struct dr_ring *r = make_ring(only, 1);
    assert_int_equal(dr_ring_owner(r, 0), 77);
    assert_int_equal(dr_ring_owner(r, hash_number(123)), 77);
    assert_int_equal(dr_ring_owner(r, UINT64_MAX), 77);
    dr_ring_destroy(r);
    dr_ring_destroy(make_ring(NULL, 0));
    dr_ring_destroy(NULL);
}

static void an_id_twice_is_refused(void **state)
{
    (void)state;
    const uint32_t twice[] = {3, 1, 3};
    struct dr_ring *r = NULL;
    struct dr_err err = {0};
    assert_int_equal(dr_ring_create(twice, 3, &r, &err), DR_INPUT);
    assert_null(r);
    assert_non_null(strstr(err.msg, "3"));
}

/* One shard more takes about 1/n of the ids, all of them for itself: nothing moves between others.
 */
static void a_shard_more_moves_its_share_only(void **state)
{
    (void)state;
    uint32_t shard[17];
    for (uint32_t i = 0; i < 17; i++) {
        shard[i] = i;
    }
    struct dr_ring *before = make_ring(shard, 16);
    struct dr_ring *after = make_ring(shard, 17);
    unsigned moved = 0;
    const unsigned ids = 200000;
    for (uint64_t i = 0; i < ids; i++) {
        uint32_t from = dr_ring_owner(before, hash_number(i));
        uint32_t to = dr_ring_owner(after, hash_number(i));
        if (from != to) {
            assert_int_equal(to, 16);
            moved++;
        }
    }
    assert_in_range(moved, ids / 17 * 7 / 10, ids / 17 * 13 / 10);
    dr_ring_destroy(before);
    dr_ring_destroy(after);
}

static void shares_stay_within_a_third_of_even(void **state)
{
    (void)state;
    uint32_t shard[8];
    unsigned held[8] = {0};
    const unsigned ids = 400000;
    for (uint32_t i = 0; i < 8; i++) {
        shard[i] = i;
    }
    struct dr_ring *r = make_ring(shard, 8);
    for (uint64_t i = 0; i < ids; i++) {
        held[dr_ring_owner(r, hash_number(i))]++;
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_in_range(held[i], ids / 8 * 2 / 3, ids / 8 * 4 / 3);
    }
    dr_ring_destroy(r);
}

static void short_memory_makes_no_ring_and_no_leak(void **state)
{
    (void)state;
    const uint32_t shard[] = {4, 2, 9};
    struct dr_err err = {0};
    uint64_t n = 1;
    for (;; n++) {
        struct dr_ring *r = NULL;
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_ring_create(shard, 3, &r, &err);
        (void)dr_mem_fail_at(0);
        if (rc == DR_OK) {
            dr_ring_destroy(r);
            break;
        }
        assert_int_equal(rc, DR_NOMEM);
        assert_null(r);
    }
    assert_true(n > 4);
}

static void all_spellings_of_a_uuid_are_one_id(void **state)
{
    (void)state;
    static const char *const spelling[] = {"\"550e8400-e29b-41d4-a716-446655440000\"",
                                           "\"550E8400E29B41D4A716446655440000\"",
                                           "\"urn:uuid:550e8400-e29b-41d4-a716-446655440000\"",
                                           "\"{550e8400-e29b-41d4-a716-446655440000}\""};
    for (unsigned i = 0; i < 4; i++) {
        json_t *keep = NULL;
        struct dr_point_id id = read_id(spelling[i], &keep);
        assert_int_equal(id.kind, DR_POINT_UUID);
        assert_true(dr_point_hash(&id) == UINT64_C(0xfcdcf225e1db2a90));
        json_t *back = dr_point_id_to_json(&id);
        assert_string_equal(json_string_value(back), sample_uuid);
        json_decref(back);
        json_decref(keep);
    }
}

static void digits_are_a_number_and_the_rest_is_text(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum dr_point_kind kind;
        uint64_t number;
    } row[] = {
        {"42", DR_POINT_NUMBER, 42},
        {"\"42\"", DR_POINT_NUMBER, 42},
        {"\"18446744073709551615\"", DR_POINT_NUMBER, UINT64_MAX},
        {"\"18446744073709551616\"", DR_POINT_TEXT, 0},
        {"\"-1\"", DR_POINT_TEXT, 0},
        {"\"+1\"", DR_POINT_TEXT, 0},
        {"\"550e8400-e29b-41d4-a716-44665544000\"", DR_POINT_TEXT, 0},
        {"\"550e8400xe29b-41d4-a716-446655440000\"", DR_POINT_TEXT, 0},
        {"\"user:7\"", DR_POINT_TEXT, 0},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        json_t *keep = NULL;
        struct dr_point_id id = read_id(row[i].json, &keep);
        assert_int_equal(id.kind, row[i].kind);
        assert_true(id.number == row[i].number);
        json_t *out = dr_point_id_to_json(&id); /* and it reads back as itself */
        struct dr_point_id again;
        struct dr_err err = {0};
        assert_int_equal(dr_point_id_from_json(out, "id", &again, &err), DR_OK);
        assert_true(again.kind == id.kind && dr_point_hash(&again) == dr_point_hash(&id));
        json_decref(out);
        json_decref(keep);
    }
}

static void wrong_ids_and_keys_are_refused_with_their_place(void **state)
{
    (void)state;
    static const char *const bad_id[] = {"-1", "1.5", "null", "true", "[1]", "\"\""};
    static const char *const bad_key[] = {
        "-1", "1.5", "null", "\"\"", "\"a\\u0007b\"", "{}", "\"a\\u0085\"", "\"\\u007f\""};
    for (size_t i = 0; i < sizeof bad_id / sizeof bad_id[0]; i++) {
        json_t *j = NULL;
        struct dr_point_id id;
        struct dr_err err = {0};
        assert_int_equal(dr_json_parse("id", bad_id[i], strlen(bad_id[i]), &j, &err), DR_OK);
        assert_int_equal(dr_point_id_from_json(j, "points[3].id", &id, &err), DR_INPUT);
        assert_non_null(strstr(err.msg, "points[3].id"));
        json_decref(j);
    }
    for (size_t i = 0; i < sizeof bad_key / sizeof bad_key[0]; i++) {
        json_t *j = NULL;
        struct dr_shard_key key;
        struct dr_err err = {0};
        assert_int_equal(dr_json_parse("key", bad_key[i], strlen(bad_key[i]), &j, &err), DR_OK);
        assert_int_equal(dr_shard_key_from_json(j, "shard_key", &key, &err), DR_INPUT);
        assert_non_null(strstr(err.msg, "shard_key"));
        json_decref(j);
    }
    char text[DR_SHARD_KEY_BYTES_MAX + 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    json_t *j = json_string(text);
    struct dr_shard_key key;
    struct dr_err err = {0};
    assert_int_equal(dr_shard_key_from_json(j, "shard_key", &key, &err), DR_INPUT);
    json_decref(j);
}

static void a_number_and_its_digits_are_two_keys(void **state)
{
    (void)state;
    json_t *number = json_integer(12);
    json_t *text = json_string("12");
    struct dr_shard_key a;
    struct dr_shard_key b;
    char print[32];
    struct dr_err err = {0};
    assert_int_equal(dr_shard_key_from_json(number, "k", &a, &err), DR_OK);
    assert_int_equal(dr_shard_key_from_json(text, "k", &b, &err), DR_OK);
    assert_true(dr_shard_key_compare(&a, &b) < 0 && dr_shard_key_compare(&b, &a) > 0);
    assert_int_equal(dr_shard_key_compare(&a, &a), 0);
    assert_string_equal(dr_shard_key_print(&a, print, sizeof print), "12");
    assert_string_equal(dr_shard_key_print(&b, print, sizeof print), "\"12\"");
    json_t *back = dr_shard_key_to_json(&a);
    assert_true(json_equal(back, number));
    json_decref(back);
    back = dr_shard_key_to_json(&b);
    assert_true(json_equal(back, text));
    json_decref(back);
    json_decref(number);
    json_decref(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_the_published_function),
        cmocka_unit_test(point_hashes_are_the_published_ones),
        cmocka_unit_test(a_text_is_hashed_with_its_length),
        cmocka_unit_test(owners_are_those_of_the_table),
        cmocka_unit_test(lookups_agree_with_the_definition),
        cmocka_unit_test(large_rings_find_every_node),
        cmocka_unit_test(many_at_once_are_as_one_after_the_other),
        cmocka_unit_test(the_order_of_ids_does_not_matter),
        cmocka_unit_test(a_ring_of_one_owns_all_and_an_empty_one_is_possible),
        cmocka_unit_test(an_id_twice_is_refused),
        cmocka_unit_test(a_shard_more_moves_its_share_only),
        cmocka_unit_test(shares_stay_within_a_third_of_even),
        cmocka_unit_test(short_memory_makes_no_ring_and_no_leak),
        cmocka_unit_test(all_spellings_of_a_uuid_are_one_id),
        cmocka_unit_test(digits_are_a_number_and_the_rest_is_text),
        cmocka_unit_test(wrong_ids_and_keys_are_refused_with_their_place),
        cmocka_unit_test(a_number_and_its_digits_are_two_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
