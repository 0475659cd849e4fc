/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/moves.c: each move of a step, and what an operation's status is. */
#include "unit/queue_help.h"

/* Written from the promises, not from the code: 'F' forward only, 'U' undo only, 'B' both. */
static const struct {
    const char *from, *to;
    enum dr_step_event on;
    char direction;
} expected_moves[] = {
    {"created", "leased", DR_ON_LEASE, 'F'},
    {"unknown", "leased", DR_ON_LEASE, 'B'},
    {"undoing", "leased", DR_ON_LEASE, 'B'},
    {"leased", "processed", DR_ON_DONE, 'F'},
    {"leased", "undone", DR_ON_DONE, 'U'},
    {"leased", "created", DR_ON_RELEASE, 'F'},
    {"leased", "undoing", DR_ON_RELEASE, 'U'},
    {"leased", "waiting", DR_ON_RETRY, 'B'},
    {"leased", "unknown", DR_ON_LOST, 'B'},
    {"leased", "failed", DR_ON_QUARANTINE, 'F'},
    {"leased", "undo_failed", DR_ON_QUARANTINE, 'U'},
    {"waiting", "created", DR_ON_WAKE, 'F'},
    {"waiting", "undoing", DR_ON_WAKE, 'U'},
    {"created", "cancelled", DR_ON_CANCEL, 'F'},
    {"waiting", "cancelled", DR_ON_CANCEL, 'F'},
    {"unknown", "cancelled", DR_ON_CANCEL, 'F'},
    {"cancelled", "created", DR_ON_RESUME, 'F'},
    {"processed", "created", DR_ON_RESUME, 'F'},
    {"created", "undoing", DR_ON_UNDO, 'F'},
    {"waiting", "undoing", DR_ON_UNDO, 'F'},
    {"unknown", "undoing", DR_ON_UNDO, 'F'},
    {"failed", "undoing", DR_ON_UNDO, 'F'},
    {"processed", "undoing", DR_ON_UNDO, 'F'},
    {"cancelled", "undoing", DR_ON_UNDO, 'F'},
    {"failed", "created", DR_ON_REDRIVE, 'F'},
    {"undo_failed", "undoing", DR_ON_REDRIVE, 'U'},
    {"undone", "cancelled", DR_ON_REARM, 'U'},
};

static const char *expected_target(const char *from, int on, bool is_undo)
{
    for (size_t i = 0; i < sizeof expected_moves / sizeof expected_moves[0]; i++) {
        char d = expected_moves[i].direction;
        if (strcmp(expected_moves[i].from, from) == 0 && (int)expected_moves[i].on == on &&
            (d == 'B' || d == (is_undo ? 'U' : 'F'))) {
            return expected_moves[i].to;
        }
    }
    return NULL;
}

static void every_move_is_in_the_table_and_no_other(void **state)
{
    (void)state;
    int moves = 0;
    for (int from = 0; from < DR_S_COUNT; from++) {
        for (int on = 0; on < DR_EVENT_COUNT; on++) {
            for (int undo = 0; undo < 2; undo++) {
                const char *name = dr_step_status_name((enum dr_step_status)from);
                const char *to_name = expected_target(name, on, undo != 0);
                enum dr_step_status to = DR_S_COUNT;
                bool has =
                    dr_step_move((enum dr_step_status)from, (enum dr_step_event)on, undo != 0, &to);
                if (has != (to_name != NULL)) {
                    print_error("%s by event %d, undo %d\n", name, on, undo);
                }
                assert_int_equal(has, to_name != NULL);
                if (has) {
                    assert_string_equal(dr_step_status_name(to), to_name);
                    moves++;
                } else {
                    assert_int_equal(to, DR_S_COUNT); /* untouched */
                }
            }
        }
    }
    assert_int_equal(moves, 31);
}

static void a_finished_step_is_left_only_for_undo_or_when_it_must_be_made_again(void **state)
{
    (void)state;
    enum dr_step_status to = DR_S_COUNT;
    for (int on = 0; on < DR_EVENT_COUNT; on++) {
        assert_int_equal(dr_step_move(DR_S_UNDONE, (enum dr_step_event)on, true, &to),
                         on == DR_ON_REARM);
        assert_false(dr_step_move(DR_S_UNDONE, (enum dr_step_event)on, false, &to));
        assert_int_equal(dr_step_move(DR_S_PROCESSED, (enum dr_step_event)on, false, &to),
                         on == DR_ON_UNDO || on == DR_ON_RESUME);
    }
}

/* Counts as text: "c3 f1" is three created, one failed. */
static void read_counts(const char *text, uint64_t count[DR_S_COUNT])
{
    static const char letters[] = "clwufpxnde"; /* in the order of the statuses */
    memset(count, 0, DR_S_COUNT * sizeof count[0]);
    while (*text != '\0') {
        const char *at = strchr(letters, text[0]);
        assert_non_null(at);
        count[at - letters] = (uint64_t)(text[1] - '0');
        text += text[2] == '\0' ? 2 : 3;
    }
}

static void the_status_of_an_operation_follows_wish_and_counts(void **state)
{
    (void)state;
    static const struct {
        enum dr_wish wish;
        const char *counts, *status;
    } rows[] = {
        {DR_WISH_HOLD, "c3", "planned"},
        {DR_WISH_RUN, "c3", "queued"},
        {DR_WISH_RUN, "c2 l1", "running"},
        {DR_WISH_RUN, "c2 w1", "running"},
        {DR_WISH_RUN, "c2 u1", "running"},
        {DR_WISH_RUN, "w1 f1", "running"},
        {DR_WISH_RUN, "c2 f1", "blocked"},
        {DR_WISH_RUN, "p2 f1", "blocked"},
        {DR_WISH_RUN, "p3", "done"},
        {DR_WISH_PAUSE, "c2 l1", "pausing"},
        {DR_WISH_PAUSE, "c2 p1", "paused"},
        {DR_WISH_PAUSE, "c2 w1", "paused"},
        {DR_WISH_PAUSE, "f1", "paused"},
        {DR_WISH_PAUSE, "p3", "done"},
        {DR_WISH_PAUSE, "n1 d1", "paused"},
        {DR_WISH_PAUSE, "e1 d1", "paused"},
        {DR_WISH_PAUSE, "l1 d1", "pausing"},
        {DR_WISH_PAUSE, "x1 d1", "rolled back"},
        {DR_WISH_STOP, "l1 x2", "stopping"},
        {DR_WISH_STOP, "p1 x2", "stopped"},
        {DR_WISH_STOP, "p1 f2", "stopped"},
        {DR_WISH_STOP, "p3", "done"},
        {DR_WISH_ROLLBACK, "n2", "rolling back"},
        {DR_WISH_ROLLBACK, "l1 d2", "rolling back"},
        {DR_WISH_ROLLBACK, "w1 e1", "rolling back"},
        {DR_WISH_ROLLBACK, "u1 e1", "rolling back"},
        {DR_WISH_ROLLBACK, "p1 d1", "rolling back"},
        {DR_WISH_ROLLBACK, "d1 e1", "rollback blocked"},
        {DR_WISH_ROLLBACK, "d2 x3", "rolled back"},
        {DR_WISH_ROLLBACK, "x3", "rolled back"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t count[DR_S_COUNT];
        read_counts(rows[i].counts, count);
        enum dr_op_status s = dr_op_status_of(rows[i].wish, count);
        if (strcmp(dr_op_status_name(s), rows[i].status) != 0) {
            print_error("row %zu: %s %s\n", i, dr_wish_name(rows[i].wish), rows[i].counts);
        }
        assert_string_equal(dr_op_status_name(s), rows[i].status);
    }
    for (int s = 0; s < DR_O_COUNT; s++) {
        assert_int_equal(dr_op_status_is_final((enum dr_op_status)s),
                         s == DR_O_STOPPED || s == DR_O_DONE || s == DR_O_ROLLED_BACK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_move_is_in_the_table_and_no_other),
        cmocka_unit_test(a_finished_step_is_left_only_for_undo_or_when_it_must_be_made_again),
        cmocka_unit_test(the_status_of_an_operation_follows_wish_and_counts),
    };
    return cmocka_run_group_tests_name("queue_moves", tests, NULL, NULL);
}
