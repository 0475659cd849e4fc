/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of step/ about the way back and about the small steps: what was erased comes back,
 * never over something else, never from a damaged archive without saying so. */
#include <fcntl.h>
#include <sys/stat.h>

#include "worker/step_hand.h"

/* Erase everything, wish the roll-back, and lease the erase step for its undo. */
static int64_t erase_then_undo(struct bed *b, struct hand *h, const char *rules, int rows,
                               void (*meddle)(struct hand *h), unsigned meddle_at)
{
    make_bed(b, rules, 1, 1, rows);
    int64_t op = put_drop(b, NULL);
    make_hand(h, b, 10);
    h->meddle = meddle;
    h->meddle_at = meddle_at;
    do_all(h);
    expect_status(b, op, DR_O_DONE);
    assert_int_equal(rows_now(b), 0);
    h->meddle = NULL;
    wish(b, op, DR_WISH_ROLLBACK);
    for (;;) {
        take(h, LEASE_LONG_MS);
        assert_true(h->lease.is_undo);
        if (h->lease.kind == DR_STEP_ERASE) {
            return op;
        }
        MUST(b, begin(h));
        MUST(b, all_batches(h));
        finish(h, DR_OUT_DONE);
    }
}

static void leave(struct bed *b, struct hand *h)
{
    free_hand(h);
    free_bed(b);
}

static void test_restoring_puts_every_row_back_byte_for_byte(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, NULL, 0);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    assert_int_equal(h.lease.mark.undone, 35);
    assert_int_equal(h.lease.mark.conflicts, 0);
    assert_int_equal(h.moved, 35 + 35); /* there and back */
    leave(&b, &h);
}

static void test_restoring_again_changes_nothing(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, NULL, 0);
    for (int i = 0; i < 3; i++) {
        h.lease.mark.undo_position = 0; /* all frames from the start */
        MUST(&b, begin(&h));
        MUST(&b, all_batches(&h));
        dr_step_end(h.run);
        h.run = NULL;
        assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
        assert_int_equal(h.lease.mark.undone, 35);
        assert_int_equal(h.lease.mark.conflicts, 0);
    }
    leave(&b, &h);
}

static void test_a_row_written_meanwhile_is_left_alone_and_counted(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, NULL, 0);
    put_row(&b, 7, "somebody else's by now");
    uint64_t theirs = dr_memory_checksum(b.name, ORDERS);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.conflicts, 1);
    assert_int_equal(h.lease.mark.undone, 34);
    assert_int_equal(rows_now(&b), 35);
    assert_int_not_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    for (int id = 0; id < 35; id++) { /* take all but theirs away again: it is what they wrote */
        if (id != 7) {
            assert_int_equal(dr_memory_delete(b.name, ORDERS, "s1", id), DR_OK);
        }
    }
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), theirs);
    leave(&b, &h);
}

static void change_row_3(struct hand *h)
{
    put_row(h->b, 3, "the newest form");
}

static void test_an_item_archived_twice_comes_back_in_its_newest_form(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, change_row_3, 1);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.conflicts, 0);
    assert_int_equal(h.lease.mark.undone, 35);
    uint64_t sum = dr_memory_checksum(b.name, ORDERS);
    lay_out(&b);
    change_row_3(&h);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), sum);
    leave(&b, &h);
}

static void test_a_true_conflict_beside_a_newer_form_is_still_counted(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, change_row_3, 1);
    put_row(&b, 4, "somebody else's by now"); /* in the same frame as the old form of row 3 */
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.conflicts, 1);
    assert_int_equal(h.lease.mark.undone, 34);
    leave(&b, &h);
}

static void test_a_lost_reply_while_restoring_is_made_good(void **state)
{
    const char *rules[] = {"restore=unknown_done@2", "restore=unknown_not_done@2",
                           "restore=busy@2"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct bed b;
        struct hand h;
        int64_t op = erase_then_undo(&b, &h, rules[i], 35, NULL, 0);
        MUST(&b, begin(&h));
        MUST(&b, one_batch(&h));
        enum dr_code rc = one_batch(&h);
        assert_int_equal(rc, i < 2 ? DR_UNKNOWN : DR_BUSY);
        finish(&h, i < 2 ? DR_OUT_UNKNOWN : DR_OUT_RETRY);
        uint64_t moved = 0;
        (void)dr_wait_ms(2, NULL, NULL);
        MUST(&b, dr_queue_sweep(b.q, &moved, &b.err));
        do_all(&h);
        expect_status(&b, op, DR_O_ROLLED_BACK);
        assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
        assert_int_equal(op_now(&b, op).items_undone, 35);
        leave(&b, &h);
    }
}

/* The batch that was given up last is in the archive but was never erased: it does not count. */
static void test_a_batch_that_was_never_erased_is_not_counted_as_put_back(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "erase=busy@2;restore=busy@1", 1, 1, 35);
    int64_t op = put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_int_equal(one_batch(&h), DR_BUSY);
    finish(&h, DR_OUT_RETRY);
    wish(&b, op, DR_WISH_ROLLBACK);
    take(&h, 1);
    assert_int_equal(h.lease.kind, DR_STEP_ERASE);
    MUST(&b, begin(&h));
    assert_int_equal(one_batch(&h), DR_BUSY); /* so that the next try takes "same" for its own */
    crash(&h);
    do_all(&h);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    assert_int_equal(op_now(&b, op).items_done, 10);
    assert_int_equal(op_now(&b, op).items_undone, 10);
    leave(&b, &h);
}

static void test_a_lost_lease_stops_the_restore_before_it_writes(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    (void)erase_then_undo(&b, &h, "none", 35, NULL, 0);
    MUST(&b, begin(&h));
    h.answer = DR_LOST;
    assert_int_equal(one_batch(&h), DR_LOST);
    assert_int_equal(rows_now(&b), 0);
    assert_int_equal(h.lease.mark.undo_position, 0);
    leave(&b, &h);
}

/* --- archives that are not what they were --------------------------------------------------------
 */

enum damage { MISSING, SHORT, FLIPPED, DAMAGES };

static void damage_archive(const struct hand *h, enum damage damage, char *path, size_t bytes)
{
    struct stat st;
    uint8_t byte = 0;
    (void)archive_of(h, path, bytes);
    assert_int_equal(stat(path, &st), 0);
    switch (damage) {
    case MISSING:
        assert_int_equal(unlink(path), 0);
        return;
    case SHORT:
        assert_int_equal(truncate(path, st.st_size - 20), 0);
        return;
    case FLIPPED:
    case DAMAGES:
        break;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size - 20), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size - 20), 1);
    assert_int_equal(close(fd), 0);
}

static void test_an_archive_that_is_damaged_is_named_and_nothing_is_written(void **state)
{
    (void)state;
    for (int damage = MISSING; damage < DAMAGES; damage++) {
        struct bed b;
        struct hand h;
        char path[4096];
        (void)erase_then_undo(&b, &h, "none", 35, NULL, 0);
        damage_archive(&h, (enum damage)damage, path, sizeof path);
        enum dr_code rc = begin(&h);
        if (rc == DR_OK) {
            rc = one_batch(&h);
        }
        expect_message(&b, rc, DR_CORRUPT, path);
        assert_int_equal(rows_now(&b), 0);
        leave(&b, &h);
    }
}

static void test_erasing_does_not_go_on_over_a_damaged_archive(void **state)
{
    (void)state;
    for (int damage = MISSING; damage < DAMAGES; damage++) {
        struct bed b;
        struct hand h;
        char path[4096];
        make_bed(&b, "none", 1, 1, 35);
        (void)put_drop(&b, NULL);
        make_hand(&h, &b, 10);
        take(&h, LEASE_LONG_MS);
        MUST(&b, begin(&h));
        MUST(&b, one_batch(&h));
        finish(&h, DR_OUT_RELEASE);
        take(&h, LEASE_LONG_MS);
        damage_archive(&h, (enum damage)damage, path, sizeof path);
        expect_message(&b, begin(&h), DR_CORRUPT, path);
        assert_int_equal(rows_now(&b), 25);
        leave(&b, &h);
    }
}

static void test_a_chunk_that_lives_elsewhere_is_not_restored_to_its_old_node(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 2, 20);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    dr_step_end(h.run);
    h.run = NULL;
    struct dr_bound from = bound_at(&b, 0);
    assert_int_equal(dr_memory_move_chunk(b.name, ORDERS, &from, "s2"), DR_OK);
    h.lease.is_undo = true;
    expect_message(&b, begin(&h), DR_CONFLICT, ORDERS);
    assert_int_equal(dr_memory_count(b.name, ORDERS, "s1"), 0);
    leave(&b, &h);
}

/* --- small steps ---------------------------------------------------------------------------------
 */

static void test_verify_fails_with_the_number_of_rows_left(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 20);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    assert_int_equal(h.lease.kind, DR_STEP_ERASE);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    finish(&h, DR_OUT_DONE);
    take(&h, LEASE_LONG_MS);
    assert_int_equal(h.lease.kind, DR_STEP_VERIFY);
    put_row(&b, 1, "late");
    put_row(&b, 2, "late");
    put_row(&b, 3, "late");
    MUST(&b, begin(&h));
    expect_message(&b, one_batch(&h), DR_CONFLICT, ": 3 items are there");
    assert_false(h.report.is_done);
    dr_step_end(h.run);
    for (int id = 1; id <= 3; id++) {
        assert_int_equal(dr_memory_delete(b.name, ORDERS, "s1", id), DR_OK);
    }
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_true(h.report.is_done);
    leave(&b, &h);
}

/* A lease made by hand, for steps no plan would hold. */
static void make_lease(struct hand *h, enum dr_step_kind kind, bool is_undo, const char *query,
                       const char *rollback)
{
    dr_step_end(h->run);
    h->run = NULL;
    dr_lease_fini(&h->lease);
    h->lease = (struct dr_lease){.step_id = 9, .op_id = 9, .token = 1, .is_undo = is_undo};
    h->lease.kind = kind;
    h->lease.node = dr_strdup("s1");
    h->lease.store_url = dr_strdup(h->b->url);
    h->lease.query = dr_strdup(query);
    h->lease.rollback_query = rollback == NULL ? NULL : dr_strdup(rollback);
}

static void test_a_command_is_run_and_undone_by_its_counterpart(void **state)
{
    struct bed b;
    struct hand h;
    const char *make = "create index by_note on acme.orders (note)";
    const char *drop = "drop index by_note";
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    make_hand(&h, &b, 10);
    make_lease(&h, DR_STEP_COMMAND, false, make, drop);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_true(h.report.is_done);
    assert_true(dr_memory_has_index(b.name, "by_note"));
    make_lease(&h, DR_STEP_COMMAND, true, make, drop);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_true(h.report.is_done);
    assert_false(dr_memory_has_index(b.name, "by_note"));
    make_lease(&h, DR_STEP_COMMAND, false, make, drop);
    h.answer = DR_LOST;
    MUST(&b, begin(&h));
    assert_int_equal(one_batch(&h), DR_LOST);
    assert_false(dr_memory_has_index(b.name, "by_note"));
    leave(&b, &h);
}

static void test_an_undo_of_nothing_does_nothing(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    make_hand(&h, &b, 10);
    make_lease(&h, DR_STEP_COMMAND, true, "drop collection acme.orders", "{\"do\": \"nothing\"}");
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_true(h.report.is_done);
    assert_int_equal(dr_fault_store_calls(b.url, "*"), 1); /* the opening */
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    leave(&b, &h);
}

static void test_steps_drover_does_not_understand_are_refused(void **state)
{
    const struct {
        int kind;
        bool is_undo;
        const char *query, *rollback;
        enum dr_code code;
        const char *part;
    } cases[] = {
        {DR_STEP_KIND_COUNT, false, "x", "y", DR_UNSUPPORTED, "use a newer one"},
        {77, false, "x", "y", DR_UNSUPPORTED, "use a newer one"},
        {DR_STEP_COMMAND, true, "x", NULL, DR_REFUSED, "no rollback command"},
        {DR_STEP_COMMAND, true, "x", "{\"do\": \"magic\"}", DR_INPUT, "\"magic\" is not known"},
        {DR_STEP_COMMAND, true, "x", "{\"do\"", DR_INPUT, "rollback"},
        {DR_STEP_COMMAND, true, "x", "{\"do\": \"nothing\", \"also\": 1}", DR_INPUT, "also"},
        {DR_STEP_ERASE, false, "{\"range\": 5}", "y", DR_INPUT, "range"},
        {DR_STEP_ERASE, true, "{\"range\": 5}", "{\"do\": \"restore\"}", DR_INPUT, "range"},
    };
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    make_hand(&h, &b, 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_lease(&h, (enum dr_step_kind)cases[i].kind, cases[i].is_undo, cases[i].query,
                   cases[i].rollback);
        expect_message(&b, begin(&h), cases[i].code, cases[i].part);
        assert_null(h.run);
    }
    leave(&b, &h);
}

static void test_a_step_without_archive_is_not_restored(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    (void)put_drop(&b, ", \"irreversible\": true");
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    h.lease.is_undo = true;
    dr_free(h.lease.rollback_query);
    h.lease.rollback_query = dr_strdup("{\"do\": \"restore\"}");
    expect_message(&b, begin(&h), DR_REFUSED, "kept no archive");
    leave(&b, &h);
}

static void test_a_step_that_archived_nothing_is_undone_without_a_file(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    h.lease.is_undo = true;
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_true(h.report.is_done);
    assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
    leave(&b, &h);
}

/* Whatever allocation fails, the step fails cleanly and the next try ends it with exact counts. */
static void test_short_memory_anywhere_loses_no_item_and_no_count(void **state)
{
    (void)state;
    bool has_failed = true;
    for (uint64_t n = 1; has_failed; n += n < 60 ? 1 : 7) {
        struct bed b;
        struct hand h;
        make_bed(&b, "none", 1, 1, 15);
        int64_t op = put_drop(&b, NULL);
        make_hand(&h, &b, 10);
        take(&h, 1);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = begin(&h);
        if (rc == DR_OK) {
            rc = all_batches(&h);
        }
        has_failed = dr_mem_fail_at(0) >= n;
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        crash(&h);
        do_all(&h);
        assert_int_equal(rows_now(&b), 0);
        assert_int_equal(op_now(&b, op).items_done, 15);
        wish(&b, op, DR_WISH_ROLLBACK);
        do_all(&h);
        assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
        leave(&b, &h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restoring_puts_every_row_back_byte_for_byte),
        cmocka_unit_test(test_restoring_again_changes_nothing),
        cmocka_unit_test(test_a_row_written_meanwhile_is_left_alone_and_counted),
        cmocka_unit_test(test_an_item_archived_twice_comes_back_in_its_newest_form),
        cmocka_unit_test(test_a_true_conflict_beside_a_newer_form_is_still_counted),
        cmocka_unit_test(test_a_lost_reply_while_restoring_is_made_good),
        cmocka_unit_test(test_a_batch_that_was_never_erased_is_not_counted_as_put_back),
        cmocka_unit_test(test_a_lost_lease_stops_the_restore_before_it_writes),
        cmocka_unit_test(test_an_archive_that_is_damaged_is_named_and_nothing_is_written),
        cmocka_unit_test(test_erasing_does_not_go_on_over_a_damaged_archive),
        cmocka_unit_test(test_a_chunk_that_lives_elsewhere_is_not_restored_to_its_old_node),
        cmocka_unit_test(test_verify_fails_with_the_number_of_rows_left),
        cmocka_unit_test(test_a_command_is_run_and_undone_by_its_counterpart),
        cmocka_unit_test(test_an_undo_of_nothing_does_nothing),
        cmocka_unit_test(test_steps_drover_does_not_understand_are_refused),
        cmocka_unit_test(test_a_step_without_archive_is_not_restored),
        cmocka_unit_test(test_a_step_that_archived_nothing_is_undone_without_a_file),
        cmocka_unit_test(test_short_memory_anywhere_loses_no_item_and_no_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
