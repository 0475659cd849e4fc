/* SPDX-License-Identifier: Apache-2.0 */
/* The MongoDB adapter in trouble, on the stand-in router: chunks that move and split, orphans, lost
 * replies, documents that change, indexes that lie, and putting back what others have touched. */
#include "mongodb/walk_help.h"

static void make_ranged(struct world *w)
{
    admin(w, "{\"shardCollection\": \"shop.ranged\", \"key\": {\"k\": 1}}");
    fill(w, "shop.ranged", 0, 1000, "{\"k\": \"$n\", \"body\": \"text\"}");
    admin(w, "{\"split\": \"shop.ranged\", \"middle\": {\"k\": 500}}");
}

static struct dr_range ranged(struct world *w, int64_t from, int64_t upto)
{
    return key_range(w, "shop.ranged", DR_BY_SHARD_RANGE, "k",
                     from < 0 ? lowest(1) : at_number(from),
                     upto < 0 ? highest(1) : at_number(upto));
}

static void move_chunk(struct world *w, int k, const char *to)
{
    admin(w, "{\"moveChunk\": \"shop.ranged\", \"find\": {\"k\": %d}, \"to\": \"%s\"}", k, to);
}

static enum dr_code try_erase(struct world *w, const struct dr_range *r)
{
    return dr_store_erase(w->s, r, w->batch, &w->tally, &w->err);
}

static void assert_probe(struct world *w, const struct dr_range *r, uint64_t same, uint64_t absent,
                         uint64_t changed)
{
    must(w, dr_store_probe(w->s, r, w->batch, &w->tally, &w->err));
    assert_int_equal(w->tally.same, same);
    assert_int_equal(w->tally.absent, absent);
    assert_int_equal(w->tally.changed, changed);
}

static void assert_restore(struct world *w, const struct dr_range *r, uint64_t restored,
                           uint64_t same, uint64_t conflicts)
{
    must(w, dr_store_restore(w->s, r, w->batch, &w->tally, &w->err));
    assert_int_equal(w->tally.restored, restored);
    assert_int_equal(w->tally.same, same);
    assert_int_equal(w->tally.conflicts, conflicts);
}

/* ---- chunks that move ---- */

static void a_chunk_that_moved_after_the_read_is_stale_and_whole(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    read_first(w, &r, 100, true);
    move_chunk(w, 600, "b");
    assert_int_equal(try_erase(w, &r), DR_STALE);
    assert_tally(w, 0, 0, 0);
    assert_int_equal(owned(w, "shop.ranged"), 1000);
    renew_epoch(w, &r); /* read again under the layout of now: the same batch goes */
    erase_batch(w, &r);
    assert_tally(w, 100, 0, 0);
    assert_int_equal(owned(w, "shop.ranged"), 900);
    finish(w);
}

/* A worker's loop: on DR_STALE the layout is read again, and the batch too. */
static uint64_t erase_while_moving(struct world *w, struct dr_range *r, bool with_values,
                                   void (*disturb)(struct world *w, int turn))
{
    uint64_t erased = 0;
    struct dr_cursor before;
    w->at.len = 0;
    for (int turn = 0; turn < 200; turn++) {
        before = w->at;
        read_on(w, r, 40, with_values);
        disturb(w, turn);
        enum dr_code rc = try_erase(w, r);
        if (rc == DR_STALE) {
            renew_epoch(w, r);
            w->at = before;
            continue;
        }
        must(w, rc);
        assert_int_equal(w->tally.absent + w->tally.changed, 0);
        erased += w->tally.erased;
        if (w->batch->is_end) {
            return erased;
        }
    }
    fail_msg("the moves outran the erase");
    return 0;
}

static void move_sometimes(struct world *w, int turn)
{
    if (turn % 3 == 1) {
        move_chunk(w, 700, turn % 2 == 0 ? "a" : "b");
    }
}

static void split_sometimes(struct world *w, int turn)
{
    if (turn % 4 == 1 && turn < 30) {
        admin(w, "{\"split\": \"shop.ranged\", \"middle\": {\"k\": %d}}", 520 + turn * 15);
    }
    if (turn % 4 == 2 && turn < 30) { /* a part of the range now lies on the other shard */
        move_chunk(w, 520 + (turn - 1) * 15, turn % 8 == 2 ? "b" : "a");
    }
}

static void a_chunk_that_moves_all_the_time_is_erased_exactly_once(void **state)
{
    (void)state;
    for (int with_values = 0; with_values < 2; with_values++) {
        struct world *w = begin(with_values == 0 ? "4.0.3" : "5.0.9");
        make_ranged(w);
        struct dr_range r = ranged(w, 500, -1);
        assert_int_equal(erase_while_moving(w, &r, with_values == 1, move_sometimes), 500);
        assert_int_equal(owned(w, "shop.ranged"), 500);
        assert_int_equal(walk_all(w, &r, 100), 0);
        finish(w);
    }
}

static void a_chunk_that_splits_and_parts_is_erased_exactly_once(void **state)
{
    (void)state;
    for (int with_values = 0; with_values < 2; with_values++) {
        struct world *w = begin("4.0.3");
        make_ranged(w);
        struct dr_range r = ranged(w, 500, -1);
        forget_counters(w);
        assert_int_equal(erase_while_moving(w, &r, with_values == 1, split_sometimes), 500);
        assert_int_equal(counter(w, "deletes.broadcast"), 0);
        assert_int_equal(owned(w, "shop.ranged"), 500);
        finish(w);
    }
}

/* A hashed range in several parts on two shards: read part by part, in the order of hashes. */
static void a_hashed_range_that_split_is_walked_part_by_part(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    admin(w, "{\"shardCollection\": \"shop.hashed\", \"key\": {\"k\": \"hashed\"}, "
             "\"numInitialChunks\": 1}");
    fill(w, "shop.hashed", 0, 600, "{\"k\": \"$n\"}");
    struct dr_range r = key_range(w, "shop.hashed", DR_BY_SHARD_HASHED, "k", lowest(1), highest(1));
    read_first(w, &r, 50, true);
    erase_batch(w, &r);
    admin(w, "{\"split\": \"shop.hashed\", \"middle\": {\"k\": {\"$numberLong\": \"0\"}}}");
    admin(w, "{\"split\": \"shop.hashed\", \"middle\": {\"k\": {\"$numberLong\": "
             "\"4611686018427387902\"}}}");
    admin(w, "{\"moveChunk\": \"shop.hashed\", \"bounds\": [{\"k\": {\"$numberLong\": \"0\"}}, "
             "{\"k\": {\"$numberLong\": \"4611686018427387902\"}}], \"to\": \"b\"}");
    read_on(w, &r, 50, true);
    assert_int_equal(try_erase(w, &r), DR_STALE);
    renew_epoch(w, &r);
    erase_batch(w, &r);
    assert_tally(w, 50, 0, 0);
    uint64_t rest = 0;
    forget_counters(w);
    do {
        reopen(w); /* every position alone must lead on through the parts */
        read_on(w, &r, 35, true);
        erase_batch(w, &r);
        rest += w->tally.erased;
    } while (!w->batch->is_end);
    assert_int_equal(rest, 500);
    assert_int_equal(counter(w, "deletes.broadcast"), 0);
    assert_int_equal(owned(w, "shop.hashed"), 0);
    finish(w);
}

static void a_range_on_two_shards_is_erased_one_by_one(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    move_chunk(w, 100, "b");
    struct dr_range r = ranged(w, 400, 600);
    read_first(w, &r, 1000, true);
    assert_int_equal(w->batch->count, 200);
    forget_counters(w);
    erase_batch(w, &r);
    assert_tally(w, 200, 0, 0);
    assert_int_equal(counter(w, "commands.router.delete"), 1);
    assert_int_equal(counter(w, "statements.delete"), 200);
    assert_int_equal(counter(w, "deletes.broadcast"), 0);
    assert_int_equal(owned(w, "shop.ranged"), 800);
    finish(w);
}

/* The chunk leaves between the epoch's check and the delete: the router goes where it is now. */
static void a_move_just_before_the_delete_loses_and_doubles_nothing(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    read_first(w, &r, 100, true);
    admin(w, "{\"standin\": 1, \"on\": {\"command\": \"delete\", \"do\": {\"moveChunk\": "
             "\"shop.ranged\", \"find\": {\"k\": 600}, \"to\": \"b\"}}}");
    erase_batch(w, &r);
    assert_tally(w, 100, 0, 0);
    assert_int_equal(counter(w, "events"), 1);
    assert_int_equal(owned(w, "shop.ranged"), 900);
    finish(w);
}

static void orphans_are_never_read_counted_or_erased(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    move_chunk(w, 600, "b");
    /* Left behind on a: copies of what lives on b, and a document nobody owns there. */
    admin(w, "{\"standin\": 1, \"orphan\": {\"ns\": \"shop.ranged\", \"shard\": \"a\", "
             "\"documents\": [{\"_id\": 600, \"k\": 600, \"body\": \"text\"}, "
             "{\"_id\": 5000, \"k\": 700, \"body\": \"orphan\"}]}}");
    struct dr_range r = ranged(w, 500, -1);
    assert_int_equal(walk_all(w, &r, 90), 500);
    assert_int_equal(count_of(w, &r), 500);
    struct dr_range all = ranged(w, -1, -1);
    assert_int_equal(walk_all(w, &all, 90), 1000);
    assert_int_equal(erase_all(w, &r, 90, true), 500);
    struct dr_range scan = scan_range(w, "shop.ranged");
    assert_int_equal(walk_all(w, &scan, 90), 500);
    assert_int_equal(owned(w, "shop.ranged"), 500);
    int64_t left = standin_number(
        standin_ask(w->d.router, "admin", "{\"standin\": 1, \"layout\": \"shop.ranged\"}"),
        "a.orphans");
    assert_true(left >= 2); /* theirs to clean up, not ours */
    finish(w);
}

/* ---- documents that change ---- */

static void a_document_changed_after_the_read_is_left(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "{\"$set\": {\"body\": \"texu\"}}", "{\"$set\": {\"more\": null}}",
        "{\"$unset\": {\"body\": 1}}", "{\"$set\": {\"body\": [\"text\"]}}"};
    struct world *w = begin("4.0.3");
    make_ranged(w);
    fill(w, "shop.plain", 0, 1000, "{\"k\": \"$n\", \"body\": \"text\"}");
    for (int sharded = 0; sharded < 2; sharded++) {
        struct dr_range r = sharded == 1 ? ranged(w, -1, -1) : scan_range(w, "shop.plain");
        read_first(w, &r, 50, true);
        for (int i = 0; i < 4; i++) {
            shop(
                w,
                "{\"update\": \"%s\", \"updates\": [{\"q\": {\"_id\": %d, \"k\": %d}, \"u\": %s}]}",
                sharded == 1 ? "ranged" : "plain", i, i, changes[i]);
        }
        assert_probe(w, &r, 46, 0, 4);
        erase_batch(w, &r);
        assert_tally(w, 46, 0, 4);
        assert_int_equal(owned(w, r.collection), 954);
        assert_restore(w, &r, 46, 0, 4);
    }
    finish(w);
}

/* From 4.2 a shard key may be changed: the document has moved, and is not erased unseen. */
static void a_document_whose_shard_key_changed_is_left(void **state)
{
    (void)state;
    for (int with_values = 0; with_values < 2; with_values++) {
        struct world *w = begin("4.4.0");
        make_ranged(w);
        move_chunk(w, 600, "b");
        struct dr_range r = ranged(w, -1, 500);
        read_first(w, &r, 50, with_values == 1);
        shop(w, "{\"update\": \"ranged\", \"updates\": [{\"q\": {\"_id\": 3, \"k\": 3}, \"u\": "
                "{\"$set\": {\"k\": 800}}}]}");
        assert_probe(w, &r, 49, 0, 1);
        erase_batch(w, &r);
        assert_tally(w, 49, 0, 1);
        assert_int_equal(owned(w, "shop.ranged"), 951);
        finish(w);
    }
}

static void what_is_not_selected_any_more_is_left(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, -1, 500);
    r.spec = "{\"filter\": {\"body\": \"text\"}}";
    r.is_spec_of_request = true;
    read_first(w, &r, 50, false);
    shop(
        w,
        "{\"update\": \"ranged\", \"updates\": [{\"q\": {\"_id\": 3, \"k\": 3}, \"u\": {\"$set\": "
        "{\"body\": \"kept\"}}}, {\"q\": {\"_id\": 4, \"k\": 4}, \"u\": {\"$set\": {\"x\": 1}}}]}");
    assert_probe(w, &r, 49, 0, 1);
    erase_batch(w, &r);
    assert_tally(w, 49, 0, 1);
    finish(w);
}

/* ---- an index that lies ---- */

static void a_lying_hash_is_said_and_never_erased(void **state)
{
    (void)state;
    struct world *w = begin_with("lying_standin.py", "4.0.3", "a,b");
    admin(w, "{\"shardCollection\": \"shop.hashed\", \"key\": {\"k\": \"hashed\"}, "
             "\"numInitialChunks\": 1}");
    admin(w, "{\"split\": \"shop.hashed\", \"middle\": {\"k\": {\"$numberLong\": \"0\"}}}");
    fill(w, "shop.hashed", 0, 100, "{\"k\": \"$n\"}");
    struct dr_range low =
        key_range(w, "shop.hashed", DR_BY_SHARD_HASHED, "k", lowest(1), at_number(0));
    struct dr_range high = low;
    high.from = at_number(0);
    high.upto = highest(1);
    read_first(w, &low, 10, true);
    int64_t liar = id_number(&w->batch->item[9]);
    admin(w,
          "{\"standin\": 1, \"lie\": {\"ns\": \"shop.hashed\", \"shard\": \"a\", \"id\": %lld, "
          "\"hash\": {\"$numberLong\": \"1\"}}}",
          (long long)liar);
    struct dr_budget budget = budget_of(1000, true);
    char wanted[32];
    (void)snprintf(wanted, sizeof wanted, "%lld", (long long)liar);
    assert_int_equal(dr_store_scan(w->s, &high, &budget, NULL, w->batch, &w->err), DR_CORRUPT);
    assert_non_null(strstr(w->err.msg, "shop.hashed"));
    assert_non_null(strstr(w->err.msg, wanted));
    /* Within its chunk, but out of order: a position made from it could skip others. */
    admin(w,
          "{\"standin\": 1, \"lie\": {\"ns\": \"shop.hashed\", \"shard\": \"a\", \"id\": %lld, "
          "\"hash\": {\"$numberLong\": \"-9223372036854775807\"}}}",
          (long long)liar);
    assert_int_equal(dr_store_scan(w->s, &low, &budget, NULL, w->batch, &w->err), DR_CORRUPT);
    assert_int_equal(owned(w, "shop.hashed"), 100);
    finish(w);
}

/* ---- lost replies and errors ---- */

static void a_reply_lost_before_or_after_applying_is_unknown(void **state)
{
    (void)state;
    static const char *const when[] = {"before", "after"};
    for (int after = 0; after < 2; after++) {
        struct world *w = begin("4.0.3");
        make_ranged(w);
        struct dr_range r = ranged(w, 500, -1);
        read_first(w, &r, 100, true);
        admin(w,
              "{\"standin\": 1, \"fault\": {\"command\": \"delete\", \"close\": \"%s\", \"times\": "
              "0}}",
              when[after]);
        assert_int_equal(try_erase(w, &r), DR_UNKNOWN);
        admin(w, "{\"standin\": 1, \"clear\": \"faults\"}");
        assert_probe(w, &r, after == 0 ? 100 : 0, after == 0 ? 0 : 100, 0);
        erase_batch(w, &r); /* repeating it is harmless */
        assert_tally(w, after == 0 ? 100 : 0, after == 0 ? 0 : 100, 0);
        assert_int_equal(owned(w, "shop.ranged"), 900);
        finish(w);
    }
}

static void a_write_concern_that_timed_out_is_unknown(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    read_first(w, &r, 100, true);
    admin(w,
          "{\"standin\": 1, \"fault\": {\"command\": \"delete\", \"write_concern_error\": true}}");
    assert_int_equal(try_erase(w, &r), DR_UNKNOWN);
    assert_probe(w, &r, 0, 100, 0); /* it had happened all the same */
    admin(w,
          "{\"standin\": 1, \"fault\": {\"command\": \"insert\", \"write_concern_error\": true}}");
    assert_int_equal(dr_store_restore(w->s, &r, w->batch, &w->tally, &w->err), DR_UNKNOWN);
    assert_restore(w, &r, 0, 100, 0);
    finish(w);
}

static void a_part_that_failed_is_unknown_and_the_probe_counts(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    move_chunk(w, 100, "b");
    struct dr_range r = ranged(w, 490, 510); /* on two shards: one statement for each */
    read_first(w, &r, 100, true);
    admin(w, "{\"standin\": 1, \"fault\": {\"command\": \"delete\", \"write_errors\": "
             "[{\"index\": 3, \"code\": 91}, {\"index\": 7, \"code\": 13}]}}");
    assert_int_equal(try_erase(w, &r), DR_UNKNOWN);
    assert_probe(w, &r, 2, 18, 0);
    erase_batch(w, &r);
    assert_tally(w, 2, 18, 0);
    finish(w);
}

static const struct {
    int code;
    const char *command;
    enum dr_retry retry;
} errors[] = {
    {13, "delete", DR_RETRY_NEVER},  {13, "find", DR_RETRY_NEVER},
    {18, "find", DR_RETRY_NEVER},    {73, "find", DR_RETRY_NEVER},
    {6, "find", DR_RETRY_LATER},     {91, "find", DR_RETRY_LATER},
    {189, "find", DR_RETRY_LATER},   {11600, "find", DR_RETRY_LATER},
    {112, "delete", DR_RETRY_LATER}, {133, "find", DR_RETRY_LATER},
};

static void errors_that_cannot_heal_are_never_repeated(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    struct dr_budget budget = budget_of(100, true);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        reopen(w);
        read_first(w, &r, 100, true);
        admin(w,
              "{\"standin\": 1, \"fault\": {\"command\": \"%s\", \"ns\": \"shop.ranged\", "
              "\"code\": %d, \"times\": 0}}",
              errors[i].command, errors[i].code);
        enum dr_code rc = strcmp(errors[i].command, "find") == 0
                              ? dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err)
                              : try_erase(w, &r);
        if (dr_code_retry(rc) != errors[i].retry) {
            print_error("%s with %d: %s %s\n", errors[i].command, errors[i].code, dr_code_name(rc),
                        w->err.msg);
        }
        assert_int_equal(dr_code_retry(rc), errors[i].retry);
        admin(w, "{\"standin\": 1, \"clear\": \"faults\"}");
    }
    assert_int_equal(owned(w, "shop.ranged"), 1000);
    finish(w);
}

/* The server forgets a cursor between two batches: the walk goes on from its position. */
static void a_forgotten_cursor_is_opened_again(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, -1, -1);
    uint64_t given = 0;
    w->at.len = 0;
    do {
        admin(w, "{\"standin\": 1, \"clear\": \"faults\"}");
        admin(w, "{\"standin\": 1, \"fault\": {\"command\": \"getMore\", \"code\": 43}}");
        read_on(w, &r, 130, false);
        given += w->batch->count;
    } while (!w->batch->is_end);
    assert_int_equal(given, 1000);
    admin(w, "{\"standin\": 1, \"clear\": \"faults\"}");
    assert_int_equal(erase_all(w, &r, 130, true), 1000);
    finish(w);
}

/* A batch is read again from an older position: the open cursor of a later one is no help. */
static void an_older_position_is_read_again_from_there(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, -1, -1);
    read_first(w, &r, 100, false);
    struct dr_cursor older = w->at;
    read_on(w, &r, 100, false);
    int64_t first = id_number(&w->batch->item[0]);
    w->at = older;
    read_on(w, &r, 50, false);
    assert_int_equal(id_number(&w->batch->item[0]), first);
    finish(w);
}

/* ---- putting back ---- */

static void restore_tells_same_conflict_missing_and_repeated(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    move_chunk(w, 600, "b");
    struct dr_range r = ranged(w, 490, 510);
    read_first(w, &r, 100, true);
    const struct dr_item twice = w->batch->item[0];
    must(w,
         dr_batch_add(w->batch, twice.key, twice.key_len, twice.value, twice.value_len, &w->err));
    erase_batch(w, &r);
    assert_tally(w, 20, 1, 0);
    shop(w,
         "{\"insert\": \"ranged\", \"documents\": [{\"_id\": 495, \"k\": 495, \"body\": \"text\"}, "
         "{\"_id\": 505, \"k\": 505, \"body\": \"another\"}]}");
    assert_restore(w, &r, 18, 2, 1); /* the repeated one is there by then */
    assert_restore(w, &r, 0, 20, 1);
    assert_int_equal(owned(w, "shop.ranged"), 1000);
    finish(w);
}

static void restore_races_are_looked_at_again(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 0, 10);
    read_first(w, &r, 100, true);
    erase_batch(w, &r);
    admin(w, "{\"standin\": 1, \"on\": {\"command\": \"insert\", \"do\": {\"$db\": \"shop\", "
             "\"insert\": \"ranged\", \"documents\": [{\"_id\": 3, \"k\": 3, \"body\": \"text\"}, "
             "{\"_id\": 4, \"k\": 4, \"body\": \"race\"}]}}}");
    assert_restore(w, &r, 8, 1, 1);
    finish(w);
}

/* Another document holds a value that must be unique: a conflict, not an error. */
static void restore_does_not_break_unique_indexes(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    shop(w, "{\"createIndexes\": \"plain\", \"indexes\": [{\"key\": {\"mail\": 1}, \"name\": "
            "\"mail\", \"unique\": true}]}");
    fill(w, "shop.plain", 0, 10, "{\"mail\": \"$n\"}");
    struct dr_range r = scan_range(w, "shop.plain");
    read_first(w, &r, 100, true);
    erase_batch(w, &r);
    fill(w, "shop.plain", 500, 1, "{\"mail\": 7}");
    assert_restore(w, &r, 9, 0, 1);
    assert_restore(w, &r, 0, 9, 1);
    assert_int_equal(owned(w, "shop.plain"), 10);
    finish(w);
}

static void restore_of_a_lost_reply_is_repeated(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    read_first(w, &r, 60, true);
    erase_batch(w, &r);
    admin(w, "{\"standin\": 1, \"fault\": {\"command\": \"insert\", \"close\": \"after\", "
             "\"times\": 0}}");
    assert_int_equal(dr_store_restore(w->s, &r, w->batch, &w->tally, &w->err), DR_UNKNOWN);
    admin(w, "{\"standin\": 1, \"clear\": \"faults\"}");
    assert_restore(w, &r, 0, 60, 0);
    assert_int_equal(owned(w, "shop.ranged"), 1000);
    finish(w);
}

/* The same _id on two shards, under different keys: two documents, erased and put back as such. */
static void one_id_on_two_shards_is_two_documents(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    move_chunk(w, 600, "b");
    shop(
        w,
        "{\"insert\": \"ranged\", \"documents\": [{\"_id\": 10, \"k\": 900, \"body\": \"twin\"}]}");
    struct dr_range r = ranged(w, -1, 500);
    read_first(w, &r, 1000, true);
    erase_batch(w, &r);
    assert_tally(w, 500, 0, 0);
    assert_int_equal(owned(w, "shop.ranged"), 501);
    assert_restore(w, &r, 500, 0, 0);
    assert_restore(w, &r, 0, 500, 0);
    assert_int_equal(owned(w, "shop.ranged"), 1001);
    finish(w);
}

static void a_dropped_collection_is_stale_and_not_found(void **state)
{
    (void)state;
    struct world *w = begin("4.0.3");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    struct dr_budget budget = budget_of(100, true);
    read_first(w, &r, 100, true);
    shop(w, "{\"drop\": \"ranged\"}");
    assert_int_equal(try_erase(w, &r), DR_STALE);
    assert_int_equal(dr_store_restore(w->s, &r, w->batch, &w->tally, &w->err), DR_NOT_FOUND);
    assert_int_equal(dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err), DR_NOT_FOUND);
    finish(w);
}

/* The shard key was refined or made anew: the plan's ranges mean nothing any more. */
static void another_shard_key_is_a_conflict(void **state)
{
    (void)state;
    struct world *w = begin("5.0.9");
    make_ranged(w);
    struct dr_range r = ranged(w, 500, -1);
    struct dr_budget budget = budget_of(100, true);
    read_first(w, &r, 100, true);
    shop(w, "{\"createIndexes\": \"ranged\", \"indexes\": [{\"key\": {\"body\": 1}, \"name\": "
            "\"body\"}]}");
    admin(w, "{\"reshardCollection\": \"shop.ranged\", \"key\": {\"body\": 1}}");
    assert_int_equal(try_erase(w, &r), DR_STALE);
    assert_int_equal(dr_store_scan(w->s, &r, &budget, NULL, w->batch, &w->err), DR_CONFLICT);
    renew_epoch(w, &r);
    struct dr_range scan = scan_range(w, "shop.ranged");
    assert_int_equal(dr_store_scan(w->s, &scan, &budget, &w->at, w->batch, &w->err), DR_CONFLICT);
    read_first(w, &scan, 10, true);
    assert_int_equal(try_erase(w, &r), DR_CONFLICT);
    assert_int_equal(owned(w, "shop.ranged"), 1000);
    finish(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_that_moved_after_the_read_is_stale_and_whole),
        cmocka_unit_test(a_chunk_that_moves_all_the_time_is_erased_exactly_once),
        cmocka_unit_test(a_chunk_that_splits_and_parts_is_erased_exactly_once),
        cmocka_unit_test(a_hashed_range_that_split_is_walked_part_by_part),
        cmocka_unit_test(a_range_on_two_shards_is_erased_one_by_one),
        cmocka_unit_test(a_move_just_before_the_delete_loses_and_doubles_nothing),
        cmocka_unit_test(orphans_are_never_read_counted_or_erased),
        cmocka_unit_test(a_document_changed_after_the_read_is_left),
        cmocka_unit_test(a_document_whose_shard_key_changed_is_left),
        cmocka_unit_test(what_is_not_selected_any_more_is_left),
        cmocka_unit_test(a_lying_hash_is_said_and_never_erased),
        cmocka_unit_test(a_reply_lost_before_or_after_applying_is_unknown),
        cmocka_unit_test(a_write_concern_that_timed_out_is_unknown),
        cmocka_unit_test(a_part_that_failed_is_unknown_and_the_probe_counts),
        cmocka_unit_test(errors_that_cannot_heal_are_never_repeated),
        cmocka_unit_test(a_forgotten_cursor_is_opened_again),
        cmocka_unit_test(an_older_position_is_read_again_from_there),
        cmocka_unit_test(restore_tells_same_conflict_missing_and_repeated),
        cmocka_unit_test(restore_races_are_looked_at_again),
        cmocka_unit_test(restore_does_not_break_unique_indexes),
        cmocka_unit_test(restore_of_a_lost_reply_is_repeated),
        cmocka_unit_test(one_id_on_two_shards_is_two_documents),
        cmocka_unit_test(a_dropped_collection_is_stale_and_not_found),
        cmocka_unit_test(another_shard_key_is_a_conflict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
