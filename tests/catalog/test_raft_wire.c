/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of catalog/raft_wire: headers come back as they were written, and bytes that nobody
 * wrote are refused, never read beyond their end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "catalog/raft_private.h"

/* A block of exactly these bytes, so that a sanitizer sees any step beyond them. */
static struct raft_buffer copy_of(const void *data, size_t bytes)
{
    struct raft_buffer b = {.base = malloc(bytes == 0 ? 1 : bytes), .len = bytes};
    assert_non_null(b.base);
    memcpy(b.base, data, bytes);
    return b;
}

static void entries_come_back_as_they_were(void **state)
{
    (void)state;
    char text[40];
    memset(text, 'x', sizeof text);
    for (size_t bytes = 1; bytes <= sizeof text; bytes++) {
        struct raft_buffer b = {.len = dr_wire_entry_bytes(bytes)};
        struct entry_header in = {.format = DR_RAFT_FORMAT,
                                  .nonce = 0x0102030405060708u,
                                  .token = UINT64_MAX - bytes,
                                  .bytes = bytes};
        struct entry_header out;
        const char *entry = NULL;
        struct dr_err err = {0};
        assert_int_equal(b.len % 8, 0); /* or libraft cannot read its log back */
        b.base = malloc(b.len);
        assert_non_null(b.base);
        dr_wire_put_entry(b.base, &in, text);
        assert_int_equal(dr_wire_get_entry(&b, &out, &entry, &err), DR_OK);
        assert_int_equal(out.format, in.format);
        assert_true(out.nonce == in.nonce && out.token == in.token);
        assert_int_equal(out.bytes, bytes);
        assert_memory_equal(entry, text, bytes);
        free(b.base);
    }
}

static void a_newer_entry_is_told_from_a_damaged_one(void **state)
{
    (void)state;
    unsigned char bytes[ENTRY_HEADER_BYTES + 8];
    struct entry_header h = {.format = DR_RAFT_FORMAT + 1, .bytes = 8};
    const char *entry = NULL;
    struct dr_err err = {0};
    dr_wire_put_entry(bytes, &h, "12345678");
    struct raft_buffer b = {.base = bytes, .len = sizeof bytes};
    assert_int_equal(dr_wire_get_entry(&b, &h, &entry, &err), DR_UNSUPPORTED);
    bytes[0] = 'X';
    assert_int_equal(dr_wire_get_entry(&b, &h, &entry, &err), DR_CORRUPT);
}

static void cut_or_lying_buffers_are_refused(void **state)
{
    (void)state;
    unsigned char entry[ENTRY_HEADER_BYTES + 16];
    unsigned char snapshot[SNAPSHOT_HEADER_BYTES + 16];
    struct entry_header h = {.format = DR_RAFT_FORMAT, .bytes = 16};
    struct dr_err err = {0};
    const char *text = NULL;
    uint64_t index = 0;
    size_t bytes = 0;
    dr_wire_put_entry(entry, &h, "0123456789abcdef");
    dr_wire_put_snapshot(snapshot, 77, "0123456789abcdef", 16);
    for (size_t length = 0; length < sizeof entry; length++) {
        struct raft_buffer b = copy_of(entry, length);
        assert_int_equal(dr_wire_get_entry(&b, &h, &text, &err), DR_CORRUPT);
        free(b.base);
    }
    for (size_t length = 0; length < sizeof snapshot; length++) {
        struct raft_buffer b = copy_of(snapshot, length);
        assert_int_equal(dr_wire_get_snapshot(&b, &index, &text, &bytes, &err), DR_CORRUPT);
        free(b.base);
    }
    struct raft_buffer whole = copy_of(snapshot, sizeof snapshot);
    assert_int_equal(dr_wire_get_snapshot(&whole, &index, &text, &bytes, &err), DR_OK);
    assert_int_equal(index, 77);
    assert_int_equal(bytes, 16);
    ((unsigned char *)whole.base)[4] = 9;
    assert_int_equal(dr_wire_get_snapshot(&whole, &index, &text, &bytes, &err), DR_UNSUPPORTED);
    free(whole.base);
    memset(entry + 24, 0xff, 8); /* a length that would wrap around */
    struct raft_buffer liar = copy_of(entry, sizeof entry);
    assert_int_equal(dr_wire_get_entry(&liar, &h, &text, &err), DR_CORRUPT);
    free(liar.base);
    memset(snapshot + 16, 0xff, 8);
    liar = copy_of(snapshot, sizeof snapshot);
    assert_int_equal(dr_wire_get_snapshot(&liar, &index, &text, &bytes, &err), DR_CORRUPT);
    free(liar.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_as_they_were),
        cmocka_unit_test(a_newer_entry_is_told_from_a_damaged_one),
        cmocka_unit_test(cut_or_lying_buffers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
