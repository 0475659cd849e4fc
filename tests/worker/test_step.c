/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of step/, one step at a time: nothing is erased that is not archived, counts are
 * exact whatever is interrupted where, and what was erased comes back byte for byte. */
#include "worker/step_hand.h"

/* --- erasing -------------------------------------------------------------------------------------
 */

static void test_erasing_a_range_takes_all_of_it_and_nothing_else(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 4, 100); /* chunks of 25; the first step is [MIN, 25) on s1 */
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.moved, 25);
    assert_int_equal(h.lease.mark.done, 25);
    assert_int_equal(rows_now(&b), 75);
    for (int id = 0; id < 100; id++) {
        assert_int_equal(dr_memory_has_row(b.name, ORDERS, id / 25 % 2 == 0 ? "s1" : "s2", id),
                         id >= 25);
    }
    assert_int_equal(h.lease.mark.archive_frames, 3);
    finish(&h, DR_OUT_DONE);
    free_hand(&h);
    free_bed(&b);
}

static uint64_t items_in_archive(const struct hand *h)
{
    char path[4096];
    uint64_t items = 0;
    MUST(h->b,
         dr_archive_verify(archive_of(h, path, sizeof path), 0, NULL, &items, NULL, &h->b->err));
    return items;
}

static void count_archive(struct hand *h)
{
    assert_int_equal(items_in_archive(h), 10 * h->asked);
    assert_int_equal(rows_now(h->b), (uint64_t)h->b->rows - 10 * (h->asked - 1));
    h->meddle_at++;
}

static void test_every_item_is_in_the_archive_before_it_is_gone(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 50);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    h.meddle = count_archive;
    h.meddle_at = 1;
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.asked, 5);
    assert_int_equal(items_in_archive(&h), 50);
    free_hand(&h);
    free_bed(&b);
}

static void change_row_3(struct hand *h)
{
    put_row(h->b, 3, "changed behind drover's back");
}

static void test_a_row_changed_between_read_and_erase_is_taken_by_the_next_pass(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 20);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    h.meddle = change_row_3;
    h.meddle_at = 1;
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_int_equal(h.report.items, 9);
    assert_int_equal(rows_now(&b), 11);
    assert_true(dr_memory_has_row(b.name, ORDERS, "s1", 3));
    MUST(&b, all_batches(&h));
    assert_int_equal(rows_now(&b), 0);
    assert_int_equal(h.lease.mark.done, 20);
    assert_int_equal(items_in_archive(&h), 21);
    free_hand(&h);
    free_bed(&b);
}

static void test_passes_go_on_until_one_finds_nothing(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 20);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    put_row(&b, 1, "written behind the cursor");
    MUST(&b, one_batch(&h));
    assert_false(h.report.is_done);
    while (h.lease.mark.pass < 2) {
        assert_false(h.report.is_done);
        MUST(&b, one_batch(&h));
    }
    assert_false(h.report.is_done); /* the second pass found the row */
    put_row(&b, 2, "and again");
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.done, 22);
    assert_int_equal(rows_now(&b), 0);
    free_hand(&h);
    free_bed(&b);
}

static void change_all(struct hand *h)
{
    char note[32];
    (void)snprintf(note, sizeof note, "version %u", h->asked);
    for (int i = 0; i < h->b->rows; i++) {
        put_row(h->b, i, note);
    }
    h->meddle_at++;
}

static void test_rows_that_change_all_the_time_end_the_step_with_the_reason(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 1, 1, 5);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    h.meddle = change_all;
    h.meddle_at = 1;
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    expect_message(&b, all_batches(&h), DR_CONFLICT, "they change all the time");
    assert_int_equal(rows_now(&b), 5);
    assert_int_equal(h.lease.mark.done, 0);
    free_hand(&h);
    free_bed(&b);
}

/* --- layout --------------------------------------------------------------------------------------
 */

static void test_a_new_epoch_with_the_chunk_in_its_place_goes_on(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    (void)put_drop(&b, NULL);
    assert_int_equal(dr_memory_bump_epoch(b.name, ORDERS), DR_OK);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_int_equal(dr_memory_bump_epoch(b.name, ORDERS), DR_OK); /* and once more */
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.done, 25);
    assert_int_equal(rows_now(&b), 75);
    free_hand(&h);
    free_bed(&b);
}

static void move_first_chunk(struct hand *h)
{
    struct dr_bound from = bound_at(h->b, 0);
    assert_int_equal(dr_memory_move_chunk(h->b->name, ORDERS, &from, "s2"), DR_OK);
}

static void test_a_chunk_that_moved_away_ends_the_step_with_nothing_erased(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    move_first_chunk(&h);
    take(&h, LEASE_LONG_MS);
    expect_message(&b, begin(&h), DR_CONFLICT, ORDERS);
    assert_int_equal(rows_now(&b), 100);
    free_hand(&h);
    free_bed(&b);
}

static void test_a_chunk_that_moves_between_two_batches_ends_the_step(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    move_first_chunk(&h);
    expect_message(&b, one_batch(&h), DR_CONFLICT, ORDERS);
    assert_int_equal(rows_now(&b), 90);
    assert_int_equal(h.lease.mark.done, 10);
    free_hand(&h);
    free_bed(&b);
}

static void test_a_chunk_that_moves_between_read_and_erase_loses_nothing(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "none", 2, 4, 100);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    h.meddle = move_first_chunk;
    h.meddle_at = 1;
    take(&h, 1);
    MUST(&b, begin(&h));
    assert_int_equal(one_batch(&h), DR_STALE);
    assert_int_equal(rows_now(&b), 100);
    assert_int_equal(h.lease.mark.done, 0);
    crash(&h);
    take(&h, LEASE_LONG_MS);
    expect_message(&b, begin(&h), DR_CONFLICT, ORDERS);
    assert_int_equal(rows_now(&b), 100);
    free_hand(&h);
    free_bed(&b);
}

static void test_a_stale_answer_erases_nothing_and_the_next_try_all(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "erase=stale@2", 1, 1, 30);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    assert_int_equal(one_batch(&h), DR_STALE);
    assert_int_equal(h.lease.mark.done, 10);
    finish(&h, DR_OUT_RETRY);
    uint64_t moved = 0;
    (void)dr_wait_ms(2, NULL, NULL);
    MUST(&b, dr_queue_sweep(b.q, &moved, &b.err));
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.done, 30);
    assert_int_equal(rows_now(&b), 0);
    free_hand(&h);
    free_bed(&b);
}

/* --- outcomes that nobody saw --------------------------------------------------------------------
 */

/* The second erase of the first step loses its reply; a retry goes on with exact counts. */
static void lose_a_reply(const char *rules, const char *more, enum dr_outcome outcome)
{
    struct bed b;
    struct hand h;
    make_bed(&b, rules, 1, 1, 30);
    int64_t op = put_drop(&b, more);
    make_hand(&h, &b, 10);
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    MUST(&b, one_batch(&h));
    enum dr_code rc = one_batch(&h);
    if (rc != DR_OK) { /* a step may find out by itself: then there is nothing to repeat */
        assert_int_equal(rc, DR_UNKNOWN);
        finish(&h, outcome);
        uint64_t moved = 0;
        (void)dr_wait_ms(2, NULL, NULL);
        MUST(&b, dr_queue_sweep(b.q, &moved, &b.err));
        take(&h, LEASE_LONG_MS);
        MUST(&b, begin(&h));
        assert_false(h.lease.needs_probe);
    }
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.done, 30);
    assert_int_equal(rows_now(&b), 0);
    finish(&h, DR_OUT_DONE);
    assert_int_equal(op_now(&b, op).items_done, 30);
    free_hand(&h);
    free_bed(&b);
}

static void test_a_lost_reply_is_resolved_by_probing(void **state)
{
    (void)state;
    lose_a_reply("erase=unknown_done@2", NULL, DR_OUT_UNKNOWN);
    lose_a_reply("erase=unknown_not_done@2", NULL, DR_OUT_UNKNOWN);
    lose_a_reply("erase=unknown_done@2", NULL, DR_OUT_RETRY);
}

static void test_a_lost_reply_of_an_irreversible_step_is_counted_too(void **state)
{
    (void)state;
    lose_a_reply("erase=unknown_done@2", ", \"irreversible\": true", DR_OUT_UNKNOWN);
    lose_a_reply("erase=unknown_not_done@2", ", \"irreversible\": true", DR_OUT_UNKNOWN);
}

static void test_a_probe_that_fails_is_repeated_before_anything_else(void **state)
{
    struct bed b;
    struct hand h;
    (void)state;
    make_bed(&b, "erase=unknown_done@1;probe=busy@1+1", 1, 1, 30);
    (void)put_drop(&b, NULL);
    make_hand(&h, &b, 10);
    take(&h, 1);
    MUST(&b, begin(&h));
    assert_int_equal(one_batch(&h), DR_UNKNOWN);
    crash(&h);
    for (int i = 0; i < 2; i++) {
        take(&h, 1);
        assert_int_equal(begin(&h), DR_BUSY);
        assert_null(h.run);
        assert_true(h.lease.needs_probe);
        crash(&h);
    }
    take(&h, LEASE_LONG_MS);
    MUST(&b, begin(&h));
    assert_int_equal(h.lease.mark.done, 10);
    MUST(&b, all_batches(&h));
    assert_int_equal(h.lease.mark.done, 30);
    free_hand(&h);
    free_bed(&b);
}

/* --- dying ---------------------------------------------------------------------------------------
 */

/* Do steps to their end, but let the process die at the `at`-th passing of any of the places of a
 * batch. Places: before archiving, after archiving, after erasing (unsaved), after saving. */
enum place { BEFORE_ARCHIVE, AFTER_ARCHIVE, AFTER_ERASE, AFTER_SAVE, PLACES };

static void die_at(struct hand *h, enum place place, int batches_before)
{
    take(h, 1);
    MUST(h->b, begin(h));
    for (int i = 0; i < batches_before; i++) {
        MUST(h->b, one_batch(h));
        MUST(h->b, dr_queue_save(h->b->q, &h->lease, 1, true, &h->b->err));
    }
    switch (place) {
    case BEFORE_ARCHIVE:
        dr_fault_arm("erase.read=error");
        break;
    case AFTER_ARCHIVE:
        dr_fault_arm("erase.archived=error");
        break;
    case AFTER_ERASE:
    case AFTER_SAVE:
    case PLACES:
        break;
    }
    enum dr_code rc = one_batch(h);
    dr_fault_arm(NULL);
    assert_int_equal(rc, place < AFTER_ERASE ? DR_IO : DR_OK);
    if (place == AFTER_SAVE) {
        MUST(h->b, dr_queue_save(h->b->q, &h->lease, 1, true, &h->b->err));
    }
    crash(h);
}

static void test_dying_anywhere_in_a_batch_loses_no_item_and_no_count(void **state)
{
    (void)state;
    for (int place = 0; place < PLACES; place++) {
        for (int before = 0; before < 4; before++) {
            struct bed b;
            struct hand h;
            make_bed(&b, "none", 1, 1, 35);
            int64_t op = put_drop(&b, NULL);
            make_hand(&h, &b, 10);
            die_at(&h, (enum place)place, before);
            do_all(&h);
            assert_int_equal(rows_now(&b), 0);
            assert_int_equal(op_now(&b, op).items_done, 35);
            expect_status(&b, op, DR_O_DONE);
            wish(&b, op, DR_WISH_ROLLBACK);
            do_all(&h);
            expect_status(&b, op, DR_O_ROLLED_BACK);
            assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
            assert_int_equal(op_now(&b, op).items_undone, 35);
            assert_int_equal(op_now(&b, op).items_conflict, 0);
            free_hand(&h);
            free_bed(&b);
        }
    }
}

/* The operator gives up right after the death: what was erased comes back, and the counts agree. */
static void test_rolling_back_right_after_dying_restores_all_and_counts_right(void **state)
{
    (void)state;
    for (int place = 0; place < PLACES; place++) {
        for (int before = 0; before < 4; before++) {
            struct bed b;
            struct hand h;
            make_bed(&b, "none", 1, 1, 35);
            int64_t op = put_drop(&b, NULL);
            make_hand(&h, &b, 10);
            die_at(&h, (enum place)place, before);
            uint64_t gone = 35 - rows_now(&b);
            wish(&b, op, DR_WISH_ROLLBACK);
            do_all(&h);
            expect_status(&b, op, DR_O_ROLLED_BACK);
            assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
            assert_int_equal(op_now(&b, op).items_done, gone);
            assert_int_equal(op_now(&b, op).items_undone, gone);
            assert_int_equal(op_now(&b, op).items_conflict, 0);
            free_hand(&h);
            free_bed(&b);
        }
    }
}

static void test_dying_while_restoring_is_made_good_with_exact_counts(void **state)
{
    (void)state;
    for (int before = 0; before < 4; before++) {
        struct bed b;
        struct hand h;
        make_bed(&b, "none", 1, 1, 35);
        int64_t op = put_drop(&b, NULL);
        make_hand(&h, &b, 10);
        do_all(&h);
        wish(&b, op, DR_WISH_ROLLBACK);
        for (uint32_t left = 1; left > 0;) { /* undo comes last first: verify, then the erase */
            take(&h, 1);
            MUST(&b, begin(&h));
            if (h.lease.kind == DR_STEP_ERASE) {
                break;
            }
            MUST(&b, all_batches(&h));
            finish(&h, DR_OUT_DONE);
        }
        for (int i = 0; i < before; i++) {
            MUST(&b, one_batch(&h));
            MUST(&b, dr_queue_save(b.q, &h.lease, 1, true, &b.err));
        }
        MUST(&b, one_batch(&h)); /* put back, and nobody notes it */
        crash(&h);
        do_all(&h);
        expect_status(&b, op, DR_O_ROLLED_BACK);
        assert_int_equal(dr_memory_checksum(b.name, ORDERS), b.sum);
        assert_int_equal(op_now(&b, op).items_undone, 35);
        assert_int_equal(op_now(&b, op).items_conflict, 0);
        free_hand(&h);
        free_bed(&b);
    }
}

static void test_a_lost_lease_stops_the_batch_before_it_erases(void **state)
{
    const enum dr_code answers[] = {DR_LOST, DR_STOPPED};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bed b;
        struct hand h;
        make_bed(&b, "none", 1, 1, 20);
        int64_t op = put_drop(&b, NULL);
        make_hand(&h, &b, 10);
        take(&h, 1);
        MUST(&b, begin(&h));
        h.answer = answers[i];
        assert_int_equal(one_batch(&h), answers[i]);
        assert_int_equal(rows_now(&b), 20);
        crash(&h);
        h.answer = DR_OK;
        do_all(&h);
        assert_int_equal(op_now(&b, op).items_done, 20);
        free_hand(&h);
        free_bed(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_erasing_a_range_takes_all_of_it_and_nothing_else),
        cmocka_unit_test(test_every_item_is_in_the_archive_before_it_is_gone),
        cmocka_unit_test(test_a_row_changed_between_read_and_erase_is_taken_by_the_next_pass),
        cmocka_unit_test(test_passes_go_on_until_one_finds_nothing),
        cmocka_unit_test(test_rows_that_change_all_the_time_end_the_step_with_the_reason),
        cmocka_unit_test(test_a_new_epoch_with_the_chunk_in_its_place_goes_on),
        cmocka_unit_test(test_a_chunk_that_moved_away_ends_the_step_with_nothing_erased),
        cmocka_unit_test(test_a_chunk_that_moves_between_two_batches_ends_the_step),
        cmocka_unit_test(test_a_chunk_that_moves_between_read_and_erase_loses_nothing),
        cmocka_unit_test(test_a_stale_answer_erases_nothing_and_the_next_try_all),
        cmocka_unit_test(test_a_lost_reply_is_resolved_by_probing),
        cmocka_unit_test(test_a_lost_reply_of_an_irreversible_step_is_counted_too),
        cmocka_unit_test(test_a_probe_that_fails_is_repeated_before_anything_else),
        cmocka_unit_test(test_dying_anywhere_in_a_batch_loses_no_item_and_no_count),
        cmocka_unit_test(test_rolling_back_right_after_dying_restores_all_and_counts_right),
        cmocka_unit_test(test_dying_while_restoring_is_made_good_with_exact_counts),
        cmocka_unit_test(test_a_lost_lease_stops_the_batch_before_it_erases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
