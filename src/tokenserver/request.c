/* SPDX-License-Identifier: Apache-2.0 */
/* Owns one row's way through a request: signing, what an answer means, trying again, the end. The
 * rules of what is repeated stand in judge_answer, all others follow from it. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "base/mem.h"
#include "tokenserver/purge_private.h"
#include "tokenserver/token.h"

enum {
    TOKEN_LIFETIME_S = 300, /* beyond the request's own time */
    GONE_FIRST = 64,
    SUSPICIOUS_ANSWERS = 20, /* so many first answers "not found": the wrong host or path? */
};

const char *dr_purge_reason_name(enum dr_purge_reason reason)
{
    switch (reason) {
    case DR_PURGE_HTTP_5XX:
        return "http_5xx";
    case DR_PURGE_HTTP_4XX:
        return "http_4xx";
    case DR_PURGE_HTTP_OTHER:
        return "http_other";
    case DR_PURGE_TIMEOUT:
        return "timeout";
    case DR_PURGE_CONNECT:
        return "connect";
    case DR_PURGE_UNKNOWN:
        return "unknown";
    }
    return "unknown";
}

/* ---- endings ---- */

static enum dr_code keep_gone(struct dr_tokenserver *t, const struct dr_purge_row *row,
                              enum dr_purge_kind kind, struct dr_err *err)
{
    if (t->gone_count[kind] == t->gone_room[kind]) {
        uint32_t room = t->gone_room[kind] == 0 ? GONE_FIRST : t->gone_room[kind] * 2;
        struct dr_purge_gone *more = dr_realloc(t->gone[kind], room * sizeof *more);
        if (more == NULL) {
            return dr_fail_nomem(err);
        }
        t->gone[kind] = more;
        t->gone_room[kind] = room;
    }
    bool is_first = true;
    for (unsigned i = 0; i < DR_PURGE_KINDS; i++) {
        is_first = is_first && t->gone_count[i] == 0;
    }
    if (is_first) {
        t->gone_since = dr_mono_now();
    }
    t->gone[kind][t->gone_count[kind]++] = (struct dr_purge_gone){row->uid, row->replaced_at};
    return DR_OK;
}

enum dr_code dr_purge_confirm(struct dr_tokenserver *t, struct dr_purge_row *row,
                              enum dr_purge_kind kind, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    if (!t->o.is_dry_run) {
        dr_fault_mark("tokenserver.confirmed");
        rc = keep_gone(t, row, kind, err);
    } else if (kind == DR_PURGE_NODELESS) {
        t->result.nodeless++;
    } else {
        t->result.purged++;
    }
    if (kind != DR_PURGE_NODELESS) { /* those are not counted against max_records */
        t->confirmed++;
    }
    dr_free(row);
    return rc;
}

void dr_purge_fail_row(struct dr_tokenserver *t, struct dr_purge_row *row)
{
    char tags[32];
    assert(t->claimed > 0);
    t->claimed--;
    t->result.failed++;
    (void)snprintf(tags, sizeof tags, "reason:%s", dr_purge_reason_name(row->reason));
    dr_statsd_count(t->statsd, "row_failure", 1, tags);
    dr_purge_defer(t, row);
    dr_free(row);
}

/* A mistake that no answer made: the row's own, or with `is_node` its node's. */
static void fail_unsent(struct dr_tokenserver *t, struct dr_purge_row *row, bool is_node,
                        const struct dr_err *err)
{
    struct dr_purge_node *n = row->node;
    dr_log_err(t->log, DR_LOG_WARN, "row cannot be asked for", err);
    if (row->is_probe && !is_node) {
        dr_breaker_forget_probe(&n->breaker);
    }
    bool is_opened = is_node && dr_breaker_note(&n->breaker, &t->breaker_rule, row->is_probe, false,
                                                dr_mono_now());
    row->reason = DR_PURGE_UNKNOWN;
    dr_purge_fail_row(t, row);
    n->openings += is_opened;
    if (is_opened && n->openings > 1) {
        dr_purge_give_up(t, n, "it failed again after a rest");
    }
}

/* ---- starting ---- */

/* *is_node_out: the mistake is in the node's URL. */
static enum dr_code sign_request(const struct dr_tokenserver *t, const struct dr_purge_row *row,
                                 const char *url, char **header_out, bool *is_node_out,
                                 struct dr_err *err)
{
    const struct dr_token_user u = {.uid = row->uid,
                                    .node = row->node->url,
                                    .email = row->email,
                                    .generation = row->generation,
                                    .keys_changed_at = row->keys_changed_at,
                                    .has_keys_changed_at = row->has_keys_changed_at,
                                    .client_state = row->client_state};
    int64_t lifetime_s = TOKEN_LIFETIME_S + (int64_t)t->o.request_timeout_s;
    struct dr_token token;
    *header_out = NULL;
    enum dr_code rc = dr_token_make(t->secret, &u, NULL, NULL, lifetime_s, &token, err);
    if (rc == DR_OK) {
        rc = dr_hawk_header(&token, "DELETE", url, 0, NULL, header_out, err);
        *is_node_out = rc == DR_INPUT;
    }
    dr_token_fini(&token);
    return rc;
}

static enum dr_code send_request(struct dr_tokenserver *t, struct dr_purge_row *row,
                                 bool *is_node_out, struct dr_err *err)
{
    char *url = dr_token_data_url(row->node->url, row->uid);
    char *header = NULL;
    enum dr_code rc = url == NULL ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        rc = sign_request(t, row, url, &header, is_node_out, err);
    }
    if (rc == DR_OK) {
        const struct dr_http_request request = {.method = "DELETE",
                                                .url = url,
                                                .authorization = header,
                                                .timeout_ms = t->o.request_timeout_s * 1000,
                                                .tag = row};
        rc = dr_http_start(t->http, &request, err);
        *is_node_out = rc == DR_INPUT;
    }
    dr_free(header);
    dr_free(url);
    return rc;
}

/* The data is the active data now: only the record goes. True when the row came to its end. */
static enum dr_code spare_active(struct dr_tokenserver *t, struct dr_purge_row *row,
                                 bool *is_ended_out, struct dr_err *err)
{
    bool is_active = false;
    enum dr_code rc = dr_purge_is_active(t, row, &is_active, err);
    *is_ended_out = rc == DR_INPUT || (rc == DR_OK && is_active);
    if (rc == DR_INPUT) { /* a key id that cannot be told: nothing is deleted */
        fail_unsent(t, row, false, err);
        dr_err_clear(err);
        return DR_OK;
    }
    if (rc != DR_OK || !is_active) {
        return rc;
    }
    dr_statsd_count(t->statsd, "override", 1, NULL);
    dr_log(t->log, DR_LOG_INFO, "data is in use, only the record goes", "uid=%" PRId64, row->uid);
    if (row->is_probe) {
        dr_breaker_forget_probe(&row->node->breaker);
    }
    return dr_purge_confirm(t, row, DR_PURGE_FORCED, err);
}

static void note_flying(struct dr_tokenserver *t, struct dr_purge_row *row)
{
    row->prev = NULL;
    row->next = t->flying;
    if (t->flying != NULL) {
        t->flying->prev = row;
    }
    t->flying = row;
}

static void note_landed(struct dr_tokenserver *t, struct dr_purge_row *row)
{
    if (row->prev != NULL) {
        row->prev->next = row->next;
    } else {
        assert(t->flying == row);
        t->flying = row->next;
    }
    if (row->next != NULL) {
        row->next->prev = row->prev;
    }
    row->next = row->prev = NULL;
}

enum dr_code dr_purge_start_row(struct dr_tokenserver *t, struct dr_purge_row *row,
                                struct dr_err *err)
{
    enum dr_purge_kind kind = row->is_forced ? DR_PURGE_FORCED : DR_PURGE_NOT_DOWN;
    bool is_node = false, is_ended = false;
    if (t->o.is_dry_run) {
        return dr_purge_confirm(t, row, kind, err);
    }
    row->is_probe = dr_breaker_start(&row->node->breaker);
    enum dr_code rc = DR_OK;
    if (row->is_forced && t->override_node != NULL) {
        rc = spare_active(t, row, &is_ended, err);
        if (is_ended) {
            return rc;
        }
    }
    if (rc == DR_OK) {
        rc = send_request(t, row, &is_node, err);
    }
    if (rc == DR_OK) {
        row->tries++;
        row->node->in_flight++;
        note_flying(t, row);
        dr_log(t->log, DR_LOG_DEBUG, "purging", "uid=%" PRId64 " node=%s forced=%d", row->uid,
               row->node->url, row->is_forced);
        return DR_OK;
    }
    if (rc == DR_INPUT) {
        fail_unsent(t, row, is_node, err);
        dr_err_clear(err);
        return DR_OK;
    }
    dr_free(row);
    return rc;
}

/* ---- answers ---- */

/* What an answer means for its row and its node. */
struct verdict {
    bool is_done;         /* the data is gone */
    bool is_again;        /* worth another try in this run */
    bool is_node_failure; /* speaks against the node, not only against the row */
    bool is_denied;       /* our signature was refused: the others would be, too */
    enum dr_purge_reason reason;
};

static struct verdict judge_status(uint32_t status)
{
    struct verdict v = {.is_done = (status >= 200 && status < 300) || status == 404};
    if (v.is_done) {
        return v;
    }
    if (status >= 500) {
        v.reason = DR_PURGE_HTTP_5XX;
        v.is_node_failure = true;
        v.is_again = status > 504; /* 500 to 504: in the next run at the earliest */
    } else if (status >= 400) {
        v.reason = DR_PURGE_HTTP_4XX;
        v.is_denied = status == 401 || status == 403;
        v.is_again = !v.is_denied;
    } else {
        v.reason = DR_PURGE_HTTP_OTHER; /* a redirect: the signature is for this place only */
    }
    return v;
}

static struct verdict judge_answer(const struct dr_http_answer *a)
{
    struct verdict v = {.is_again = true, .is_node_failure = true};
    switch (a->failure) {
    case DR_HTTP_NONE:
        return judge_status(a->status);
    case DR_HTTP_CONNECT:
        v.reason = DR_PURGE_CONNECT;
        return v;
    case DR_HTTP_TIMEOUT: /* an unknown outcome: asking again is the only way to know */
        v.reason = DR_PURGE_TIMEOUT;
        return v;
    case DR_HTTP_BROKEN:
        v.reason = DR_PURGE_UNKNOWN;
        return v;
    }
    return v;
}

/* A first page of "not found" is what a wrong host or path looks like. */
static void watch_not_found(struct dr_tokenserver *t, struct dr_purge_node *n, uint32_t status)
{
    n->answers++;
    n->not_found += status == 404;
    if (n->answers == SUSPICIOUS_ANSWERS && n->not_found == SUSPICIOUS_ANSWERS) {
        dr_log(t->log, DR_LOG_WARN, "node knows none of its users; is its URL right?",
               "node=%s answers=%u", n->url, n->answers);
    }
}

/* Let the node rest as it asked for. */
static void honour_pause(struct dr_tokenserver *t, struct dr_purge_node *n, uint64_t pause_ms,
                         dr_mono_ms now)
{
    if (pause_ms == 0) {
        return;
    }
    if (pause_ms > t->tuning.pause_ms_max) {
        dr_purge_give_up(t, n, "it asks for a long pause (Retry-After)");
        return;
    }
    dr_mono_ms until = now + (dr_mono_ms)pause_ms;
    n->pause_until = until > n->pause_until ? until : n->pause_until;
}

/* What a failure does to the node: its breaker, its part in this run. */
static void note_node_failure(struct dr_tokenserver *t, struct dr_purge_node *n,
                              const struct verdict *v, const struct dr_http_answer *a,
                              bool is_probe, dr_mono_ms now)
{
    bool is_opened =
        dr_breaker_note(&n->breaker, &t->breaker_rule, is_probe, !v->is_node_failure, now);
    if (is_opened) {
        n->openings++;
        dr_log(t->log, DR_LOG_WARN, "node is left alone for a while", "node=%s ms=%lld", n->url,
               (long long)(n->breaker.open_until_ms - now));
    }
    honour_pause(t, n, a->retry_after_ms, now);
    if (v->is_denied) {
        t->is_denied = true;
        dr_log(t->log, DR_LOG_ERROR, "node refuses our signature; check the secret and both clocks",
               "node=%s status=%u answer=%s", n->url, a->status, a->detail);
        dr_purge_give_up(t, n, "it refuses our signature");
    } else if (is_opened && n->openings > 1) {
        dr_purge_give_up(t, n, "it failed again after a rest");
    }
}

static void take_failure(struct dr_tokenserver *t, struct dr_purge_row *row,
                         const struct dr_http_answer *a, const struct verdict *v)
{
    struct dr_purge_node *n = row->node;
    dr_mono_ms now = dr_mono_now();
    row->reason = v->reason;
    if (a->status >= 400) {
        dr_statsd_count(t->statsd, "error.gone", 1, NULL);
    }
    dr_log(t->log, DR_LOG_WARN, "deletion failed",
           "uid=%" PRId64 " node=%s reason=%s status=%u try=%u answer=%s", row->uid, n->url,
           dr_purge_reason_name(v->reason), a->status, row->tries, a->detail);
    note_node_failure(t, n, v, a, row->is_probe, now);
    if (!v->is_again || n->is_dead || row->tries >= t->tuning.tries_max) {
        dr_purge_fail_row(t, row);
        return;
    }
    uint64_t delay_ms = dr_backoff_ms(&t->tuning.retry, row->tries, dr_random());
    delay_ms = delay_ms > a->retry_after_ms ? delay_ms : a->retry_after_ms;
    row->not_before = now + (dr_mono_ms)delay_ms;
    dr_purge_list_push(&n->retries, row);
}

enum dr_code dr_purge_take_answer(struct dr_tokenserver *t, const struct dr_http_answer *a,
                                  struct dr_err *err)
{
    struct dr_purge_row *row = a->tag;
    struct dr_purge_node *n = row->node;
    assert(n->in_flight > 0);
    n->in_flight--;
    note_landed(t, row);
    struct verdict v = judge_answer(a);
    if (!v.is_done) {
        take_failure(t, row, a, &v);
        return DR_OK;
    }
    (void)dr_breaker_note(&n->breaker, &t->breaker_rule, row->is_probe, true, dr_mono_now());
    honour_pause(t, n, a->retry_after_ms, dr_mono_now());
    watch_not_found(t, n, a->status);
    return dr_purge_confirm(t, row, row->is_forced ? DR_PURGE_FORCED : DR_PURGE_NOT_DOWN, err);
}
