/* SPDX-License-Identifier: Apache-2.0 */
/* Erasing a batch.
 *
 * With values an item goes only if it still is what was read: WATCH, compare, MULTI, UNLINK...,
 * EXEC. The first WATCH was sent when the batch was read, so mostly one EXEC settles a batch; when
 * anything of it was touched the rest is tried in halves, down to single keys, and what changed is
 * left alone. Without values the names say it all and many keys travel in one UNLINK. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "store/redis/erase_private.h"

enum { TRIES_MAX = 3 };

static const char point_sent[] = "store.redis.erase.sent";

/* ---- MULTI ... EXEC ---- */

/* What became of a transaction. */
enum outcome { OUT_DONE, OUT_ABORTED, OUT_ELSEWHERE };

static enum dr_code append_words(struct rd_node *n, struct dr_err *err, int argc, const char **argv,
                                 size_t *sent)
{
    (*sent)++;
    return rd_append(n, argc, argv, NULL, err);
}

static enum dr_code append_call(struct rd_node *n, const struct rd_call *c, size_t *sent,
                                struct dr_err *err)
{
    (*sent)++;
    return rd_append(n, c->argc, c->argv, c->bytes, err);
}

/* The key leaves its name at once and is emptied behind it; if we die before that, the expiry
 * clears it away. */
static enum dr_code append_rename(struct er_run *run, struct rd_node *n, const struct dr_item *item,
                                  const struct dr_item *trash, size_t *sent, struct dr_err *err)
{
    static const char keep_ms[] = "3600000";
    struct rd_call call;
    enum dr_code rc = rd_call_make(run->s, &call, "RENAME", item, 1, err);
    if (rc == DR_OK) {
        rc = rd_call_add(run->s, &call, trash->key, trash->key_len, err);
    }
    if (rc == DR_OK) {
        rc = append_call(n, &call, sent, err);
    }
    if (rc == DR_OK) {
        rc = rd_call_make(run->s, &call, "PEXPIRE", trash, 1, err);
    }
    if (rc == DR_OK) {
        rc = rd_call_add(run->s, &call, keep_ms, sizeof keep_ms - 1, err);
    }
    return rc == DR_OK ? append_call(n, &call, sent, err) : rc;
}

/* Big values first and apart, the others many to a command. */
static enum dr_code append_group(struct er_run *run, struct rd_node *n, const struct er_group *g,
                                 size_t *sent, struct dr_err *err)
{
    struct rd_call call;
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < g->count;) {
        if (g->more[i].trash.key != NULL) {
            rc = append_rename(run, n, &g->item[i], &g->more[i].trash, sent, err);
            i++;
            continue;
        }
        size_t some = 1;
        while (some < run->keys_per_command && i + some < g->count &&
               g->more[i + some].trash.key == NULL) {
            some++;
        }
        rc = rd_call_make(run->s, &call, er_command(run->s), &g->item[i], some, err);
        if (rc == DR_OK) {
            rc = append_call(n, &call, sent, err);
        }
        i += some;
    }
    return rc;
}

/* Count what EXEC says, in the order of append_group. */
static enum dr_code count_exec(struct er_run *run, struct rd_node *n, const struct er_group *g,
                               const redisReply *r, struct dr_err *err)
{
    size_t at = 0;
    for (size_t i = 0; i < g->count; at++) {
        size_t some = 1;
        const redisReply *one = at < r->elements ? r->element[at] : NULL;
        bool is_big = g->more[i].trash.key != NULL;
        while (!is_big && some < run->keys_per_command && i + some < g->count &&
               g->more[i + some].trash.key == NULL) {
            some++;
        }
        if (is_big ? one == NULL : one == NULL || one->type != REDIS_REPLY_INTEGER) {
            return rd_fail_reply(n, one, "EXEC", err);
        }
        uint64_t gone = is_big ? one->type == REDIS_REPLY_STATUS : (uint64_t)one->integer;
        run->tally->erased += gone;
        run->tally->absent += some - gone;
        for (size_t k = 0; gone == some && k < some; k++) {
            er_log_line(run, &g->item[i + k], &g->more[i + k].logged);
        }
        at += is_big; /* PEXPIRE's reply */
        i += some;
    }
    return DR_OK;
}

static void empty_trash(struct er_run *run, struct rd_node *n, const struct er_group *g)
{
    for (size_t i = 0; i < g->count && n->c != NULL; i++) {
        struct dr_err ignored; /* the key is gone from its name; what is left of it expires */
        redisReply *reply = NULL;
        struct rd_call call;
        if (g->more[i].trash.key == NULL) {
            continue;
        }
        size_t sent = 0;
        if (rd_shrink(run->s, n, g->more[i].trash.key, g->more[i].trash.key_len, g->more[i].type,
                      &ignored) == DR_OK &&
            rd_call_make(run->s, &call, er_command(run->s), &g->more[i].trash, 1, &ignored) ==
                DR_OK &&
            append_call(n, &call, &sent, &ignored) == DR_OK &&
            rd_receive(n, false, &reply, &ignored) == DR_OK) {
            freeReplyObject(reply);
        }
    }
}

/* Read the replies of a transaction; `sent` of them. The first refusal inside it is kept. */
static enum dr_code receive_all(struct rd_node *n, size_t sent, redisReply **refusal,
                                redisReply **exec, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sent; i++) {
        redisReply *reply = NULL;
        rc = rd_receive(n, true, &reply, err);
        if (i + 1 == sent) {
            *exec = reply;
        } else if (reply != NULL && reply->type == REDIS_REPLY_ERROR && *refusal == NULL) {
            *refusal = reply;
        } else {
            freeReplyObject(reply);
        }
    }
    return rc;
}

static enum dr_code judge_exec(struct er_run *run, struct rd_node *n, const struct er_group *g,
                               const redisReply *refusal, const redisReply *exec, enum outcome *out,
                               struct dr_err *err)
{
    assert(exec != NULL);
    if (exec->type == REDIS_REPLY_ARRAY) {
        *out = OUT_DONE;
        return count_exec(run, n, g, exec, err);
    }
    if (exec->type == REDIS_REPLY_NIL) {
        *out = OUT_ABORTED;
        return DR_OK;
    }
    if (refusal == NULL) {
        refusal = exec;
    }
    *out = OUT_ELSEWHERE;
    if (rd_is_error(refusal, "MOVED ") || rd_is_error(refusal, "ASK ") ||
        rd_is_error(refusal, "TRYAGAIN")) {
        run->s->is_table_fresh = false;
        return DR_OK;
    }
    if (rd_is_unknown_command(refusal) && !run->s->lacks_unlink) {
        run->s->lacks_unlink = true; /* before 4.0: the same again with DEL */
        *out = OUT_ABORTED;
        return DR_OK;
    }
    return rd_fail_reply(n, refusal, "EXEC", err);
}

static enum dr_code run_transaction(struct er_run *run, const struct rd_target *to,
                                    const struct er_group *g, enum outcome *out, struct dr_err *err)
{
    static const char *asking[] = {"ASKING"};
    static const char *multi[] = {"MULTI"};
    static const char *exec_word[] = {"EXEC"};
    struct rd_node *n = to->node;
    redisReply *refusal = NULL;
    redisReply *exec = NULL;
    size_t sent = 0;
    *out = OUT_DONE;
    enum dr_code rc = to->is_asking ? append_words(n, err, 1, asking, &sent) : DR_OK;
    if (rc == DR_OK) {
        rc = append_words(n, err, 1, multi, &sent);
    }
    if (rc == DR_OK) {
        rc = append_group(run, n, g, &sent, err);
    }
    if (rc == DR_OK) {
        rc = append_words(n, err, 1, exec_word, &sent);
    }
    if (rc != DR_OK) {
        rd_node_drop(n); /* what is buffered must not travel with the next command */
        return rc;
    }
    rd_flush(n);
    if (dr_fault_pass(point_sent, err) != DR_OK) {
        rd_node_drop(n);
        return dr_fail(err, DR_UNKNOWN, "redis %s: a change was sent, its reply not read", n->name);
    }
    n->watch_mark = 0; /* EXEC forgets all that is watched, whatever it answers */
    rc = receive_all(n, sent, &refusal, &exec, err);
    if (rc == DR_OK) {
        rc = judge_exec(run, n, g, refusal, exec, out, err);
    }
    freeReplyObject(refusal);
    freeReplyObject(exec);
    if (rc == DR_OK && *out == OUT_DONE) {
        empty_trash(run, n, g);
    }
    return rc;
}

/* ---- one key, followed wherever its slot is ---- */

static enum dr_code append_look(struct er_run *run, const struct rd_target *to,
                                const struct dr_item *item, size_t *sent, struct dr_err *err)
{
    static const char *asking[] = {"ASKING"};
    const char *names[3] = {"WATCH", "DUMP", run->s->lacks_pexpiretime ? "PTTL" : "PEXPIRETIME"};
    size_t count = 3;
    enum dr_code rc = DR_OK;
    if (item->value == NULL) {
        names[1] = "GETRANGE";
        count = 2;
    }
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        struct rd_call call;
        rc = rd_call_make(run->s, &call, names[i], item, 1, err);
        if (rc == DR_OK && names[i][0] == 'G') {
            rc = rd_call_add(run->s, &call, "0", 1, err);
        }
        if (rc == DR_OK && names[i][0] == 'G') {
            rc = rd_call_add(run->s, &call, "1", 1, err);
        }
        if (rc == DR_OK && to->is_asking) {
            rc = append_words(to->node, err, 1, asking, sent);
        }
        if (rc == DR_OK) {
            rc = append_call(to->node, &call, sent, err);
        }
    }
    if (rc != DR_OK) {
        rd_node_drop(to->node);
    }
    return rc;
}

enum verdict { V_UNCHANGED, V_ABSENT, V_CHANGED, V_ELSEWHERE };

static enum dr_code compare_one(struct er_run *run, const struct rd_target *to,
                                const struct dr_item *item, redisReply **reply, size_t count,
                                enum verdict *out, struct dr_err *err)
{
    struct rd_value was;
    const redisReply *data = reply[1];
    if (rd_is_error(data, "WRONGTYPE")) {
        *out = V_CHANGED;
        return DR_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (reply[i]->type == REDIS_REPLY_ERROR) {
            return rd_fail_reply(to->node, reply[i], "look at a key", err);
        }
    }
    if (item->value == NULL) {
        *out = data->len == 1 && data->str[0] == '0' ? V_UNCHANGED
               : data->len == 0                      ? V_ABSENT
                                                     : V_CHANGED;
        return DR_OK;
    }
    long long expiry = reply[2]->integer;
    if (data->type == REDIS_REPLY_NIL || expiry == -2) {
        *out = V_ABSENT;
        return DR_OK;
    }
    struct rd_value is = {.payload = data->str, .payload_bytes = data->len, .expires_ms = -1};
    if (expiry >= 0) {
        is.expires_ms = expiry + (run->s->lacks_pexpiretime ? dr_wall_now() : 0);
    }
    enum dr_code rc = rd_value_decode(item, &was, err);
    *out = rc == DR_OK && rd_value_same(run->s, &was, &is) ? V_UNCHANGED : V_CHANGED;
    return rc;
}

/* WATCH and compare on `to`; a redirection changes `to`. */
static enum dr_code look_at_one(struct er_run *run, struct rd_target *to,
                                const struct dr_item *item, enum verdict *out, struct dr_err *err)
{
    redisReply *reply[6] = {0};
    redisReply *kept[3] = {0};
    size_t sent = 0;
    size_t count = 0;
    bool is_out = false;
    struct rd_target next = *to;
    enum dr_code rc = append_look(run, to, item, &sent, err);
    for (size_t i = 0; rc == DR_OK && i < sent; i++) {
        rc = rd_receive(to->node, false, &reply[i], err);
        if (rc == DR_OK && (!to->is_asking || i % 2 == 1)) {
            kept[count++] = reply[i];
        }
    }
    for (size_t i = 0; rc == DR_OK && !is_out && i < count; i++) {
        rc = rd_redirect(run->s, kept[i], &next, &is_out, err);
    }
    if (rc == DR_OK && is_out) {
        *to = next;
        *out = V_ELSEWHERE;
    } else if (rc == DR_OK) {
        rc = compare_one(run, to, item, kept, count, out, err);
    }
    for (size_t i = 0; i < 6; i++) {
        freeReplyObject(reply[i]);
    }
    return rc;
}

static enum dr_code erase_one(struct er_run *run, const struct er_group *g, struct dr_err *err)
{
    struct rd_target to = {0};
    int tries = 0;
    uint32_t slot = rd_slot_of(run->s, g->item[0].key, g->item[0].key_len);
    enum dr_code rc = rd_route(run->s, run->range->node, slot, &to.node, err);
    for (int hop = 0; rc == DR_OK && hop < RD_HOPS_MAX; hop++) {
        enum verdict verdict = V_ELSEWHERE;
        enum outcome outcome = OUT_ELSEWHERE;
        rc = look_at_one(run, &to, &g->item[0], &verdict, err);
        if (rc != DR_OK || verdict == V_ELSEWHERE) {
            continue;
        }
        if (verdict != V_UNCHANGED || tries == TRIES_MAX) {
            run->tally->absent += verdict == V_ABSENT;
            run->tally->changed += verdict != V_ABSENT;
            to.node->watch_mark = RD_WATCH_STRAY;
            return DR_OK;
        }
        rc = run_transaction(run, &to, g, &outcome, err);
        if (rc == DR_OK && outcome == OUT_DONE) {
            return DR_OK;
        }
        tries += outcome == OUT_ABORTED;
        if (rc == DR_OK && outcome == OUT_ELSEWHERE) {
            to.is_asking = false;
            rc = rd_route(run->s, run->range->node, slot, &to.node, err);
        }
    }
    return rc != DR_OK ? rc : dr_fail(err, DR_BUSY, "redis: a key is sent from server to server");
}

/* ---- groups ---- */

static struct er_group part_of(const struct er_group *g, size_t from, size_t count)
{
    return (struct er_group){.item = g->item + from, .more = g->more + from, .count = count};
}

/* Compare all, keep those that are unchanged in g (moved to the front). */
static enum dr_code compare_group(struct er_run *run, struct er_group *g, struct rd_node **node_out,
                                  bool *is_split, struct dr_err *err)
{
    struct rd_look look = {0};
    uint64_t redirects = run->s->redirects;
    size_t kept = 0;
    enum dr_code rc = rd_look(run->s, run->range->node, g->item, g->count, true, &look, err);
    if (rc != DR_OK) {
        return rc;
    }
    *node_out = look.call[0].to;
    (*node_out)->watch_mark = RD_WATCH_STRAY;
    *is_split = redirects != run->s->redirects;
    for (size_t i = 0; rc == DR_OK && !*is_split && i < g->count; i++) {
        struct rd_value was;
        rc = rd_value_decode(&g->item[i], &was, err);
        if (look.value[i].payload == NULL) {
            run->tally->absent++;
        } else if (rc == DR_OK && !rd_value_same(run->s, &was, &look.value[i])) {
            run->tally->changed++;
        } else {
            g->item[kept] = g->item[i];
            g->more[kept++] = g->more[i];
        }
    }
    if (!*is_split) {
        g->count = kept;
    }
    rd_look_free(&look);
    return rc;
}

/* Depth is the logarithm of a group's size. */
static enum dr_code erase_compared(struct er_run *run, struct er_group g, struct dr_err *err)
{
    struct rd_target to = {0};
    enum outcome outcome = OUT_ELSEWHERE;
    bool is_split = false;
    if (g.count == 1 || g.item[0].value == NULL) {
        enum dr_code rc = DR_OK;
        for (size_t i = 0; rc == DR_OK && i < g.count; i++) {
            struct er_group one = part_of(&g, i, 1);
            rc = erase_one(run, &one, err);
        }
        return rc;
    }
    enum dr_code rc = compare_group(run, &g, &to.node, &is_split, err);
    if (rc != DR_OK || g.count == 0) {
        return rc;
    }
    if (!is_split) {
        rc = run_transaction(run, &to, &g, &outcome, err);
    }
    if (rc != DR_OK || outcome == OUT_DONE) {
        return rc;
    }
    size_t half = g.count / 2;
    struct er_group first = part_of(&g, 0, half);
    struct er_group second = part_of(&g, half, g.count - half);
    rc = half > 0 ? erase_compared(run, first, err) : DR_OK;
    return rc == DR_OK ? erase_compared(run, second, err) : rc;
}

/* The WATCHes of the read are still in force: nothing need be read again. */
static enum dr_code erase_watched(struct er_run *run, struct er_group g, struct dr_err *err)
{
    struct rd_target to = {0};
    enum outcome outcome = OUT_ELSEWHERE;
    enum dr_code rc = rd_route(run->s, run->range->node,
                               rd_slot_of(run->s, g.item[0].key, g.item[0].key_len), &to.node, err);
    if (rc == DR_OK && to.node->watch_mark == run->s->mark) {
        rc = run_transaction(run, &to, &g, &outcome, err);
        if (rc != DR_OK || outcome == OUT_DONE) {
            return rc;
        }
    }
    for (size_t i = 0; rc == DR_OK && i < g.count; i += RD_KEYS_PER_COMMAND) {
        size_t left = g.count - i;
        rc = erase_compared(
            run, part_of(&g, i, left < RD_KEYS_PER_COMMAND ? left : RD_KEYS_PER_COMMAND), err);
    }
    return rc;
}

static enum dr_code erase_values(struct er_run *run, struct dr_err *err)
{
    const struct er_group *all = &run->all;
    bool is_read_here = run->batch->read_mark != 0 && run->batch->read_mark == run->s->mark;
    uint64_t watched = is_read_here ? run->s->watched : 0;
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < all->count;) {
        size_t upto = i < watched ? (size_t)watched : all->count;
        upto = upto > all->count ? all->count : upto;
        size_t most = i < watched ? RD_WATCHED_MAX : RD_KEYS_PER_COMMAND;
        size_t some = rd_run_length(run->s, all->item, i, upto, most);
        struct er_group g = part_of(all, i, some);
        rc = i < watched ? erase_watched(run, g, err) : erase_compared(run, g, err);
        i += some;
    }
    return rc;
}

/* ---- without values ---- */

static enum dr_code unlink_some(struct er_run *run, const struct dr_item *item, size_t count,
                                size_t keys_per_command, struct dr_err *err);

static enum dr_code count_unlink(struct er_run *run, const struct rd_call *c,
                                 const struct dr_item *item, struct dr_err *err)
{
    size_t keys = (size_t)c->argc - 1;
    const redisReply *r = c->reply;
    if (r->type == REDIS_REPLY_INTEGER) {
        run->tally->erased += (uint64_t)r->integer;
        run->tally->absent += keys - (uint64_t)r->integer;
        if (keys == 1 && r->integer == 1) {
            er_log_line(run, item, &run->all.more[item - run->all.item].logged);
        }
        return DR_OK;
    }
    if (rd_is_error(r, "TRYAGAIN") && keys > 1) { /* some have moved already: one by one */
        return unlink_some(run, item, keys, 1, err);
    }
    if (rd_is_unknown_command(r) && strcmp(c->argv[0], "UNLINK") == 0) {
        run->s->lacks_unlink = true;
        return unlink_some(run, item, keys, run->keys_per_command, err);
    }
    return rd_fail_reply(c->to, r, c->argv[0], err);
}

static enum dr_code unlink_some(struct er_run *run, const struct dr_item *item, size_t count,
                                size_t keys_per_command, struct dr_err *err)
{
    struct rd_call *call = dr_arena_alloc(run->s->scratch, count * sizeof *call);
    size_t calls = 0;
    size_t at = 0;
    enum dr_code rc = call == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count;) {
        size_t some = rd_run_length(run->s, item, i, count, keys_per_command);
        rc = rd_call_make(run->s, &call[calls++], er_command(run->s), &item[i], some, err);
        i += some;
    }
    if (rc != DR_OK) {
        return rc;
    }
    rc = rd_exchange(run->s, run->range->node, call, calls, point_sent, err);
    for (size_t c = 0; rc == DR_OK && c < calls; c++) {
        rc = count_unlink(run, &call[c], &item[at], err);
        at += (size_t)call[c].argc - 1;
    }
    rd_calls_free(call, calls);
    return rc;
}

/* ---- the whole ---- */

enum dr_code rd_erase(void *impl, const struct dr_range *range, const struct dr_batch *batch,
                      struct dr_tally *tally, struct dr_err *err)
{
    struct rd_store *s = impl;
    struct er_run run = {.s = s, .range = range, .batch = batch, .tally = tally};
    dr_arena_reset(s->scratch);
    dr_str_init(&run.log_text);
    enum dr_code rc = rd_spec_use(s, range->spec, &run.spec, err);
    if (rc == DR_OK) {
        run.keys_per_command = run.spec->log_path != NULL ? 1 : RD_KEYS_PER_COMMAND;
        rc = er_prepare(&run, err);
    }
    if (rc == DR_OK && (batch->item[0].value != NULL || run.spec->zero_values)) {
        rc = erase_values(&run, err);
    } else if (rc == DR_OK) {
        rc = unlink_some(&run, run.all.item, run.all.count, run.keys_per_command, err);
    }
    if (rc == DR_OK && dr_fault_pass("store.redis.erase.acked", err) != DR_OK) {
        rc = dr_fail(err, DR_UNKNOWN, "redis: a change was made, its reply lost");
    }
    enum dr_code logged = er_finish(&run, rc == DR_OK ? err : NULL);
    return rc == DR_OK ? logged : rc;
}
