/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the loop of one run: fetch what is wanted, start what may start, take answers, delete the
 * records of what is gone.
 *
 *     users ──main walk──> queue of node 1 ──┐                      ┌─ gone ──DELETE──> users
 *           ──walk of 2──> queue of node 2 ──┼─ requests (bounded) ─┤
 *                          ...               ┘                      └─ failed ─UPDATE─> users
 *
 * A node that is slow or broken must hold up nobody: it has at most its share of requests, and when
 * its queue is long or it may not be asked, the main walk goes on without it and it gets a walk of
 * its own from that place, which goes on when its queue is short again. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "tokenserver/purge_private.h"

enum {
    QUEUE_SHARES = 4,  /* of a node's requests at once: as long may its queue be */
    WAIT_MS_MAX = 100, /* how late a wish to stop may be noticed */
};

static bool is_limit_reached(const struct dr_tokenserver *t)
{
    return t->o.max_records != 0 && t->confirmed >= t->o.max_records;
}

/* May one more counted row be begun? */
static bool may_claim(const struct dr_tokenserver *t)
{
    return t->o.max_records == 0 || t->claimed < t->o.max_records;
}

/* ---- fetching ---- */

static uint32_t queue_max(const struct dr_tokenserver *t)
{
    uint64_t of_batches = 2 * t->o.max_per_loop;
    uint64_t of_requests = (uint64_t)QUEUE_SHARES * t->o.requests_per_node_max;
    uint64_t max = of_batches > of_requests ? of_batches : of_requests;
    return max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
}

/* Rows that could be started if there were room for one more request. */
static uint64_t count_useful(const struct dr_tokenserver *t, bool is_full, dr_mono_ms now)
{
    uint64_t useful = 0;
    for (size_t i = 0; i < t->node_count; i++) {
        const struct dr_purge_node *n = t->node[i];
        bool has_room = n->in_flight < t->o.requests_per_node_max;
        if (!dr_purge_node_is_blocked(n, now) && (is_full || has_room)) {
            useful += dr_purge_node_waiting(n);
        }
    }
    return useful;
}

static enum dr_code split_off_blocked(struct dr_tokenserver *t, dr_mono_ms now, struct dr_err *err)
{
    for (size_t i = 0; i < t->node_count; i++) {
        struct dr_purge_node *n = t->node[i];
        bool is_long = dr_purge_node_waiting(n) >= queue_max(t);
        if (n->has_scan || (!is_long && !dr_purge_node_is_blocked(n, now))) {
            continue;
        }
        enum dr_code rc = dr_purge_split_off(t, n, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

/* Enough to fill the room for requests, or one batch ahead when they fill it. */
static bool wants_main(const struct dr_tokenserver *t, dr_mono_ms now)
{
    if (t->scan.is_done || !may_claim(t)) {
        return false;
    }
    uint32_t open = dr_http_open_count(t->http);
    bool is_full = open >= t->o.requests_max;
    uint64_t wanted = is_full ? t->o.max_per_loop : t->o.requests_max - open;
    return count_useful(t, is_full, now) < wanted;
}

/* Retries count as waiting: while many rows fail there is no need for more. */
static bool wants_own(const struct dr_tokenserver *t, const struct dr_purge_node *n)
{
    return n->has_scan && !n->scan.is_done && may_claim(t) &&
           dr_purge_node_waiting(n) < t->o.requests_per_node_max;
}

static enum dr_code fetch_main(struct dr_tokenserver *t, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    dr_mono_ms now = dr_mono_now();
    while (rc == DR_OK && wants_main(t, now)) {
        rc = split_off_blocked(t, now, err);
        if (rc == DR_OK) {
            rc = dr_purge_fetch(t, NULL, &t->scan, err);
        }
        if (t->gone_count[DR_PURGE_NODELESS] >= t->tuning.erase_rows_max) {
            break; /* these need no node: delete them before there are more */
        }
    }
    return rc;
}

static enum dr_code fetch_wanted(struct dr_tokenserver *t, struct dr_err *err)
{
    dr_mono_ms now = dr_mono_now();
    enum dr_code rc = fetch_main(t, err);
    for (size_t i = 0; rc == DR_OK && i < t->node_count; i++) {
        struct dr_purge_node *n = t->node[i];
        if (wants_own(t, n) && !dr_purge_node_is_blocked(n, now)) {
            rc = dr_purge_fetch(t, n, &n->scan, err);
        }
    }
    return rc;
}

/* ---- starting ---- */

/* A row whose pause is over, out of the few that wait for another try. */
static struct dr_purge_row *take_retry(struct dr_purge_list *l, dr_mono_ms now)
{
    struct dr_purge_row *prev = NULL;
    for (struct dr_purge_row *row = l->head; row != NULL; prev = row, row = row->next) {
        if (row->not_before > now) {
            continue;
        }
        if (prev != NULL) {
            prev->next = row->next;
        } else {
            l->head = row->next;
        }
        l->tail = l->tail == row ? prev : l->tail;
        l->count--;
        row->next = NULL;
        return row;
    }
    return NULL;
}

static struct dr_purge_row *take_next(struct dr_tokenserver *t, struct dr_purge_node *n,
                                      dr_mono_ms now)
{
    if (dr_purge_node_is_blocked(n, now) || n->in_flight >= t->o.requests_per_node_max) {
        return NULL;
    }
    struct dr_purge_row *row = take_retry(&n->retries, now);
    if (row == NULL && may_claim(t)) {
        row = dr_purge_list_pop(&n->fresh);
        t->claimed += row != NULL;
    }
    return row;
}

/* Each node in its turn, so that none takes all the room. */
static enum dr_code start_ready(struct dr_tokenserver *t, struct dr_err *err)
{
    dr_mono_ms now = dr_mono_now();
    size_t idle = 0;
    while (idle < t->node_count && dr_http_open_count(t->http) < t->o.requests_max) {
        t->turn = (t->turn + 1) % t->node_count;
        struct dr_purge_row *row = take_next(t, t->node[t->turn], now);
        if (row == NULL) {
            idle++;
            continue;
        }
        idle = 0;
        enum dr_code rc = dr_purge_start_row(t, row, err);
        if (rc != DR_OK) {
            return rc;
        }
    }
    return DR_OK;
}

/* ---- waiting ---- */

static dr_mono_ms earliest_retry(const struct dr_purge_list *l, dr_mono_ms otherwise)
{
    dr_mono_ms at = otherwise;
    for (const struct dr_purge_row *row = l->head; row != NULL; row = row->next) {
        at = row->not_before < at ? row->not_before : at;
    }
    return at;
}

/* When the node may be asked next. Far away when only another's answer can change that. */
static dr_mono_ms next_start(const struct dr_tokenserver *t, const struct dr_purge_node *n,
                             dr_mono_ms now)
{
    dr_mono_ms far = now + WAIT_MS_MAX;
    if (!dr_purge_node_is_pending(n) || n->breaker.state == DR_BREAKER_PROBING ||
        n->in_flight >= t->o.requests_per_node_max) {
        return far;
    }
    bool has_fresh = (n->fresh.count > 0 && may_claim(t)) || wants_own(t, n);
    dr_mono_ms at = has_fresh ? now : earliest_retry(&n->retries, far);
    at = at > n->pause_until ? at : n->pause_until;
    if (n->breaker.state == DR_BREAKER_OPEN && n->breaker.open_until_ms > at) {
        at = n->breaker.open_until_ms;
    }
    return at;
}

static uint64_t choose_wait(const struct dr_tokenserver *t)
{
    dr_mono_ms now = dr_mono_now();
    dr_mono_ms at = now + WAIT_MS_MAX;
    bool is_full = dr_http_open_count(t->http) >= t->o.requests_max;
    if (!t->is_stopping && !is_limit_reached(t) && wants_main(t, now)) {
        return 0;
    }
    for (size_t i = 0; !t->is_stopping && !is_full && i < t->node_count; i++) {
        dr_mono_ms next = next_start(t, t->node[i], now);
        at = next < at ? next : at;
    }
    for (unsigned kind = 0; kind < DR_PURGE_KINDS; kind++) {
        dr_mono_ms due = t->gone_since + (dr_mono_ms)t->tuning.erase_wait_ms;
        at = t->gone_count[kind] > 0 && due < at ? due : at;
    }
    return at <= now ? 0 : (uint64_t)(at - now);
}

static enum dr_code take_answers(struct dr_tokenserver *t, uint64_t wait_ms, struct dr_err *err)
{
    for (;;) {
        struct dr_http_answer a;
        bool has = false;
        enum dr_code rc = dr_http_wait(t->http, wait_ms, &a, &has, err);
        if (rc != DR_OK || !has) {
            return rc;
        }
        rc = dr_purge_take_answer(t, &a, err);
        if (rc != DR_OK) {
            return rc;
        }
        wait_ms = 0; /* then all that are there already */
    }
}

static bool is_erase_due(const struct dr_tokenserver *t)
{
    uint32_t waiting = 0;
    for (unsigned kind = 0; kind < DR_PURGE_KINDS; kind++) {
        waiting += t->gone_count[kind];
    }
    return waiting >= t->tuning.erase_rows_max || dr_http_open_count(t->http) == 0 ||
           (uint64_t)(dr_mono_now() - t->gone_since) >= t->tuning.erase_wait_ms;
}

/* ---- the end ---- */

/* Is there a node that can be worked on without a long wait? Those that cannot are given up when
 * nothing else is left: a run does not wait for a node that rests for long. */
static bool has_pending_nodes(struct dr_tokenserver *t)
{
    dr_mono_ms now = dr_mono_now();
    bool has_pending = false;
    for (size_t i = 0; i < t->node_count; i++) {
        struct dr_purge_node *n = t->node[i];
        if (!dr_purge_node_is_pending(n)) {
            continue;
        }
        dr_mono_ms rest_ms =
            n->breaker.state == DR_BREAKER_OPEN ? n->breaker.open_until_ms - now : 0;
        if (rest_ms > (dr_mono_ms)t->breaker_rule.open_ms) {
            dr_purge_give_up(t, n, "it is still resting from an earlier run");
            continue;
        }
        has_pending = true;
    }
    return has_pending;
}

static bool is_over(struct dr_tokenserver *t)
{
    if (dr_http_open_count(t->http) > 0) {
        return false;
    }
    return t->is_stopping || is_limit_reached(t) || (t->scan.is_done && !has_pending_nodes(t));
}

enum dr_code dr_purge_work(struct dr_tokenserver *t, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (;;) {
        t->is_stopping = t->is_stopping || (t->should_stop != NULL && t->should_stop(t->stop_arg));
        if (!t->is_stopping && !is_limit_reached(t)) {
            rc = fetch_wanted(t, err);
            if (rc == DR_OK) {
                rc = start_ready(t, err);
            }
        }
        if (rc == DR_OK && is_erase_due(t)) {
            rc = dr_purge_erase_gone(t, err);
        }
        if (rc != DR_OK || is_over(t)) {
            break;
        }
        rc = take_answers(t, choose_wait(t), err);
        if (rc != DR_OK) {
            break;
        }
        dr_log_tick(t->log);
    }
    t->result.is_limit_reached = is_limit_reached(t);
    if (rc != DR_OK && dr_code_retry(rc) == DR_RETRY_NEVER) {
        struct dr_err own = {0}; /* the first failure is the one to tell */
        if (dr_purge_erase_gone(t, &own) != DR_OK) {
            dr_log_err(t->log, DR_LOG_WARN, "records stay for the next run", &own);
        }
    }
    return rc;
}
