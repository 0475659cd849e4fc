/* SPDX-License-Identifier: Apache-2.0 */
/* Reading by SCAN: one server's keyspace, or a cluster's.
 *
 * The position is SCAN's own cursor together with all that makes it valid: the server's run id (a
 * restarted server hashes its keys in another order) and, in a cluster, a hash of the slot table. A
 * lane walks its own primary; when the table changes under it, or its node is a primary no more,
 * the walk begins again and visits all primaries, because nobody can tell which keys have moved
 * behind the cursor. A walk ends only while no slot is on its way. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "store/redis/redis_private.h"

enum { SCAN_COUNT = 500, POSITION_VERSION = 1, POSITION_PARTS = 7, NAME_BYTES = 300 };

static const char at_start[] = "0";
static const char at_end[] = "end";

struct position {
    bool is_whole; /* all primaries in order of name, not only the lane's own */
    uint64_t table_hash;
    char run_id[RD_RUN_ID_BYTES];
    char node[NAME_BYTES];
    char page[24]; /* SCAN's cursor, at_start or at_end */
    uint64_t rest_mark;
};

static void copy_value(char *buf, size_t buf_bytes, const struct dr_value *v)
{
    size_t n = v->len < buf_bytes ? v->len : buf_bytes - 1;
    memcpy(buf, v->data, n);
    buf[n] = '\0';
}

static enum dr_code save_position(const struct position *p, struct dr_cursor *out,
                                  struct dr_err *err)
{
    struct dr_str text;
    struct dr_value part[POSITION_PARTS] = {
        {.type = DR_V_INT, .i = POSITION_VERSION},
        {.type = DR_V_INT, .i = p->is_whole},
        {.type = DR_V_INT, .i = (int64_t)p->table_hash},
        {.type = DR_V_TEXT, .data = p->run_id, .len = strlen(p->run_id)},
        {.type = DR_V_TEXT, .data = p->node, .len = strlen(p->node)},
        {.type = DR_V_TEXT, .data = p->page, .len = strlen(p->page)},
        {.type = DR_V_INT, .i = (int64_t)p->rest_mark},
    };
    dr_str_init(&text);
    dr_values_encode(part, POSITION_PARTS, &text);
    enum dr_code rc = text.is_short ? dr_fail_nomem(err) : DR_OK;
    if (rc == DR_OK) {
        assert(text.len <= DR_CURSOR_BYTES_MAX);
        memcpy(out->data, text.data, text.len);
        out->len = (uint32_t)text.len;
    }
    dr_str_fini(&text);
    return rc;
}

static enum dr_code load_position(const struct dr_cursor *from, struct position *p,
                                  struct dr_err *err)
{
    static const enum dr_value_type wanted[POSITION_PARTS] = {
        DR_V_INT, DR_V_INT, DR_V_INT, DR_V_TEXT, DR_V_TEXT, DR_V_TEXT, DR_V_INT};
    struct dr_value part[POSITION_PARTS];
    uint32_t count = 0;
    enum dr_code rc = dr_values_decode(from->data, from->len, part, POSITION_PARTS, &count, err);
    if (rc != DR_OK) {
        return rc;
    }
    bool is_right = count == POSITION_PARTS;
    for (uint32_t i = 0; is_right && i < POSITION_PARTS; i++) {
        is_right = part[i].type == wanted[i];
    }
    if (!is_right || part[0].i != POSITION_VERSION) {
        return dr_fail(err, DR_CORRUPT, "a position in a scan that is none of redis");
    }
    p->is_whole = part[1].i != 0;
    p->table_hash = (uint64_t)part[2].i;
    copy_value(p->run_id, sizeof p->run_id, &part[3]);
    copy_value(p->node, sizeof p->node, &part[4]);
    copy_value(p->page, sizeof p->page, &part[5]);
    p->rest_mark = (uint64_t)part[6].i;
    return DR_OK;
}

/* ---- where the walk is, and whether it still can be there ---- */

static enum dr_code begin_walk(struct rd_store *s, const char *node, bool is_whole,
                               struct position *p, struct dr_err *err)
{
    *p = (struct position){.is_whole = is_whole, .table_hash = s->is_cluster ? s->table_hash : 0};
    dr_copy_text(p->page, sizeof p->page, at_start);
    dr_copy_text(p->node, sizeof p->node, node == NULL ? "" : node);
    if (is_whole) {
        uint16_t primary[RD_NODES_MAX];
        if (rd_primaries(s, primary) == 0) {
            return dr_fail(err, DR_BUSY, "redis: no slot of the cluster has a server now");
        }
        dr_copy_text(p->node, sizeof p->node, s->node[primary[0]]->name);
    }
    return DR_OK;
}

enum dr_code rd_scan_whole(struct rd_store *s, struct dr_cursor *out, struct dr_err *err)
{
    struct position p;
    enum dr_code rc = begin_walk(s, NULL, true, &p, err);
    return rc == DR_OK ? save_position(&p, out, err) : rc;
}

/* The next primary behind the one just walked; false: it was the last. */
static bool next_primary(const struct rd_store *s, struct position *p)
{
    uint16_t primary[RD_NODES_MAX];
    uint32_t count = rd_primaries(s, primary);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(s->node[primary[i]]->name, p->node) > 0) {
            dr_copy_text(p->node, sizeof p->node, s->node[primary[i]]->name);
            dr_copy_text(p->page, sizeof p->page, at_start);
            p->run_id[0] = '\0';
            return true;
        }
    }
    return false;
}

static enum dr_code check_layout(struct rd_store *s, const struct dr_range *range,
                                 const struct dr_cursor *from, struct position *p,
                                 struct dr_err *err)
{
    enum dr_code rc = s->is_cluster ? rd_refresh(s, err) : DR_OK;
    if (rc != DR_OK) {
        return rc;
    }
    if (from->len == 0) {
        bool is_whole = s->is_cluster && !rd_is_primary(s, range->node);
        return begin_walk(s, range->node, is_whole, p, err);
    }
    rc = load_position(from, p, err);
    if (rc == DR_OK && s->is_cluster && p->table_hash != s->table_hash) {
        rc = begin_walk(s, NULL, true, p, err);
    }
    return rc;
}

/* The server of the position, ready; a restart of it begins its walk again. */
static enum dr_code use_server(struct rd_store *s, struct position *p, struct rd_node **out,
                               struct dr_err *err)
{
    enum dr_code rc = rd_node_find(s, p->node, s->is_cluster, out, err);
    if (rc == DR_OK) {
        rc = rd_node_use(s, *out, err);
    }
    if (rc == DR_REFUSED && s->is_cluster) {
        return dr_fail(err, DR_BUSY, "redis %s: is failing over", p->node);
    }
    if (rc == DR_OK && strcmp(p->run_id, (*out)->run_id) != 0) {
        dr_copy_text(p->run_id, sizeof p->run_id, (*out)->run_id);
        dr_copy_text(p->page, sizeof p->page, at_start);
        p->rest_mark = 0;
    }
    return rc;
}

/* In CLUSTER NODES a server's own line lists its open slots as [slot->-other] or [slot-<-other]. */
static enum dr_code check_no_open_slot(struct rd_store *s, struct dr_err *err)
{
    static const char *words[] = {"CLUSTER", "NODES"};
    uint16_t primary[RD_NODES_MAX];
    uint32_t count = rd_primaries(s, primary);
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        struct rd_node *n = s->node[primary[i]];
        redisReply *reply = NULL;
        rc = rd_node_use(s, n, err);
        if (rc == DR_OK) {
            rc = rd_ask(n, &reply, err, 2, words);
        }
        if (rc == DR_OK && reply->type != REDIS_REPLY_STRING) {
            rc = rd_fail_reply(n, reply, "CLUSTER NODES", err);
        }
        const char *own = rc == DR_OK ? strstr(reply->str, "myself") : NULL;
        size_t length = own == NULL ? 0 : strcspn(own, "\n");
        const char *open = own == NULL ? NULL : strstr(own, " [");
        if (open != NULL && open < own + length && strncmp(open, " [-", 3) != 0) {
            rc = dr_fail(err, DR_BUSY,
                         "redis %s: a slot is being moved (%.40s); the scan ends when it has "
                         "arrived (an abandoned move: redis-cli --cluster fix)",
                         n->name, open + 1);
        }
        freeReplyObject(reply);
    }
    return rc;
}

/* ---- one page ---- */

static int compare_items(const void *a, const void *b)
{
    const struct dr_item *x = a;
    const struct dr_item *y = b;
    size_t shared = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, shared);
    return c != 0 ? c : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static enum dr_code keep_page(struct rd_store *s, struct rd_node *n, const struct rd_spec *p,
                              const redisReply *r, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    dr_batch_reset(s->rest);
    s->rest_from = 0;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_ARRAY) {
        return rd_is_unknown_command(r)
                   ? dr_fail(err, DR_UNSUPPORTED,
                             "redis %s: does not know SCAN, so it is a proxy or very old; name the "
                             "servers themselves in the URL",
                             n->name)
                   : rd_fail_reply(n, r, "SCAN", err);
    }
    dr_copy_text(s->rest_next, sizeof s->rest_next, r->element[0]->str);
    for (size_t i = 0; rc == DR_OK && i < r->element[1]->elements; i++) {
        const redisReply *key = r->element[1]->element[i];
        if (key->type == REDIS_REPLY_STRING && key->len <= UINT32_MAX &&
            dr_keyseq_classify(p->seq, key->str, key->len) == DR_KEY_SELECTED) {
            rc = dr_batch_add(s->rest, key->str, key->len, NULL, 0, err);
        }
    }
    if (rc == DR_OK && s->rest->count > 1) {
        uint64_t kept = 1;
        qsort(s->rest->item, (size_t)s->rest->count, sizeof *s->rest->item, compare_items);
        for (uint64_t i = 1; i < s->rest->count; i++) {
            if (compare_items(&s->rest->item[kept - 1], &s->rest->item[i]) != 0) {
                s->rest->item[kept++] = s->rest->item[i];
            }
        }
        s->rest->count = kept;
    }
    return rc;
}

static enum dr_code read_page(struct rd_store *s, struct rd_node *n, const struct rd_spec *p,
                              const char *page, uint64_t *looked, struct dr_err *err)
{
    const char *words[] = {"SCAN",  page,  "MATCH", dr_keyseq_pattern(p->seq, UINT32_MAX),
                           "COUNT", "500", "TYPE",  p->type[0]};
    redisReply *reply = NULL;
    _Static_assert(SCAN_COUNT == 500, "the command says so");
    if (dr_keyseq_service_count(p->seq) == 1) {
        words[3] = dr_keyseq_pattern(p->seq, 0);
    }
    bool has_type = p->type_count == 1 && !s->lacks_scan_type;
    enum dr_code rc = rd_ask(n, &reply, err, has_type ? 8 : 6, words);
    if (rc == DR_OK && has_type && rd_is_error(reply, "ERR syntax error")) {
        s->lacks_scan_type = true;
        freeReplyObject(reply);
        rc = rd_ask(n, &reply, err, 6, words);
    }
    if (rc == DR_OK) {
        rc = keep_page(s, n, p, reply, err);
    }
    if (rc == DR_OK) {
        size_t keys = reply->element[1]->elements;
        *looked += keys > SCAN_COUNT ? keys : SCAN_COUNT;
    }
    freeReplyObject(reply);
    return rc;
}

/* Take what the budget allows of the page at hand, and move on when nothing of it is left. */
static enum dr_code take_rest(struct rd_store *s, const struct dr_range *range,
                              const struct rd_spec *p, const struct dr_budget *budget,
                              struct position *at, struct dr_batch *batch, struct dr_err *err)
{
    size_t taken = 0;
    uint64_t left = s->rest->count - s->rest_from;
    uint64_t room = budget->items_max - batch->count;
    uint64_t some = left < room ? left : room;
    dr_arena_reset(s->scratch);
    enum dr_code rc = rd_take(s, range, p, budget, s->rest->item + s->rest_from, (size_t)some,
                              batch, &taken, err);
    if (rc != DR_OK) {
        s->rest_mark = 0;
        return rc;
    }
    s->rest_from += taken;
    if (s->rest_from < s->rest->count) {
        s->rest_mark = dr_random() | 1;
        at->rest_mark = s->rest_mark;
        return DR_OK;
    }
    at->rest_mark = s->rest_mark = 0;
    dr_copy_text(at->page, sizeof at->page, s->rest_next);
    if (strcmp(at->page, at_start) == 0 && !(at->is_whole && next_primary(s, at))) {
        dr_copy_text(at->page, sizeof at->page, at_end);
    }
    return DR_OK;
}

static bool is_spent(const struct dr_budget *budget, const struct dr_batch *b, dr_mono_ms start)
{
    return b->count >= budget->items_max || b->bytes >= budget->bytes_max ||
           (budget->ms_max > 0 && (uint64_t)(dr_mono_now() - start) >= budget->ms_max);
}

/* Pages until the budget is spent, the walk is over or has come to another server. */
static enum dr_code read_pages(struct rd_store *s, const struct dr_range *range,
                               const struct rd_spec *p, const struct dr_budget *budget,
                               struct position *at, struct dr_batch *batch, struct dr_err *err)
{
    enum { PAGES_MAX = 200 };
    dr_mono_ms start = dr_mono_now();
    enum dr_code rc = DR_OK;
    for (int i = 0; rc == DR_OK && i < PAGES_MAX && strcmp(at->page, at_end) != 0 &&
                    (i == 0 || !is_spent(budget, batch, start));
         i++) {
        struct rd_node *n = NULL;
        rc = use_server(s, at, &n, err);
        bool has_rest = at->rest_mark != 0 && at->rest_mark == s->rest_mark;
        if (rc == DR_OK && !has_rest) {
            rc = read_page(s, n, p, at->page, &batch->looked, err);
        }
        if (rc == DR_OK) {
            rc = take_rest(s, range, p, budget, at, batch, err);
        }
    }
    if (batch->looked < batch->count) {
        batch->looked = batch->count;
    }
    return rc;
}

enum dr_code rd_scan_all(struct rd_store *s, const struct dr_range *range, const struct rd_spec *p,
                         const struct dr_budget *budget, const struct dr_cursor *from,
                         struct dr_batch *batch, struct dr_err *err)
{
    struct position at = {0};
    enum dr_code rc = check_layout(s, range, from, &at, err);
    if (rc == DR_OK) {
        rc = read_pages(s, range, p, budget, &at, batch, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    if (strcmp(at.page, at_end) == 0) {
        /* In a cluster the last items are handed over before the end is judged. */
        batch->is_end = !s->is_cluster || (batch->count == 0 && batch->looked == 0);
        rc = batch->is_end && s->is_cluster ? check_no_open_slot(s, err) : DR_OK;
    }
    if (rc == DR_OK && !batch->is_end && batch->count == 0 && batch->looked == 0) {
        batch->looked = 1; /* the rest of a page of which nothing is left */
    }
    return rc == DR_OK ? save_position(&at, &batch->after, err) : rc;
}
