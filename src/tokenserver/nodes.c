/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the storage nodes that a purge knows, each with its queue, so that none waits for another.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "tokenserver/purge_private.h"

enum { NODES_FIRST = 16 };

void dr_purge_list_push(struct dr_purge_list *l, struct dr_purge_row *row)
{
    row->next = NULL;
    if (l->tail != NULL) {
        l->tail->next = row;
    } else {
        l->head = row;
    }
    l->tail = row;
    l->count++;
}

struct dr_purge_row *dr_purge_list_pop(struct dr_purge_list *l)
{
    struct dr_purge_row *row = l->head;
    if (row != NULL) {
        assert(l->count > 0);
        l->head = row->next;
        l->tail = l->head == NULL ? NULL : l->tail;
        l->count--;
        row->next = NULL;
    }
    return row;
}

void dr_purge_list_clear(struct dr_purge_list *l)
{
    struct dr_purge_row *row = NULL;
    while ((row = dr_purge_list_pop(l)) != NULL) {
        dr_free(row);
    }
}

static enum dr_code add_node(struct dr_tokenserver *t, int64_t id, const char *url,
                             bool is_override, struct dr_purge_node **out, struct dr_err *err)
{
    if (t->node_count == t->node_room) {
        size_t room = t->node_room == 0 ? NODES_FIRST : t->node_room * 2;
        struct dr_purge_node **more = dr_realloc(t->node, room * sizeof(void *));
        if (more == NULL) {
            return dr_fail_nomem(err);
        }
        t->node = more;
        t->node_room = room;
    }
    struct dr_purge_node *n = dr_calloc(1, sizeof *n);
    if (n == NULL) {
        return dr_fail_nomem(err);
    }
    n->id = id;
    n->is_override = is_override;
    n->url = dr_strdup(url);
    if (n->url == NULL) {
        dr_free(n);
        return dr_fail_nomem(err);
    }
    t->node[t->node_count++] = n;
    *out = n;
    return DR_OK;
}

enum dr_code dr_purge_find_node(struct dr_tokenserver *t, int64_t id, const char *url,
                                bool is_override, struct dr_purge_node **out, struct dr_err *err)
{
    *out = NULL;
    for (size_t i = 0; i < t->node_count; i++) {
        struct dr_purge_node *n = t->node[i];
        if (n->is_override != is_override || (!is_override && n->id != id)) {
            continue;
        }
        if (strcmp(n->url, url) != 0) { /* the node moved: its troubles were of the old place */
            char *copy = dr_strdup(url);
            if (copy == NULL) {
                return dr_fail_nomem(err);
            }
            dr_free(n->url);
            n->url = copy;
        }
        *out = n;
        return DR_OK;
    }
    return add_node(t, id, url, is_override, out, err);
}

bool dr_purge_node_is_blocked(const struct dr_purge_node *n, dr_mono_ms now)
{
    return n->is_dead || now < n->pause_until || !dr_breaker_may_start(&n->breaker, now);
}

uint32_t dr_purge_node_waiting(const struct dr_purge_node *n)
{
    return n->fresh.count + n->retries.count;
}

bool dr_purge_node_is_pending(const struct dr_purge_node *n)
{
    return !n->is_dead && (dr_purge_node_waiting(n) > 0 || (n->has_scan && !n->scan.is_done));
}

void dr_purge_give_up(struct dr_tokenserver *t, struct dr_purge_node *n, const char *why)
{
    if (n->is_dead) {
        return;
    }
    n->is_dead = true;
    dr_log(t->log, DR_LOG_WARN, "node left out for the rest of this run",
           "node=%s why=%s rows_left=%u", n->url, why, dr_purge_node_waiting(n));
    struct dr_purge_row *row = NULL;
    while ((row = dr_purge_list_pop(&n->retries)) != NULL) {
        dr_purge_fail_row(t, row);
    }
    dr_purge_list_clear(&n->fresh);
}

enum dr_code dr_purge_split_off(struct dr_tokenserver *t, struct dr_purge_node *n,
                                struct dr_err *err)
{
    assert(!n->has_scan);
    n->scan = t->scan;
    n->scan.previous = NULL;
    n->scan.previous_count = 0;
    if (t->scan.previous_count > 0) {
        n->scan.previous =
            dr_memdup(t->scan.previous, t->scan.previous_count * sizeof *t->scan.previous);
        if (n->scan.previous == NULL) {
            return dr_fail_nomem(err);
        }
        n->scan.previous_count = t->scan.previous_count;
    }
    n->has_scan = true;
    return DR_OK;
}

/* Rows in flight belong to requests, and those to the HTTP handle: they are gone by now. */
static void reset_node(struct dr_purge_node *n)
{
    assert(n->in_flight == 0);
    dr_purge_list_clear(&n->fresh);
    dr_purge_list_clear(&n->retries);
    dr_purge_scan_fini(&n->scan);
    dr_breaker_forget_probe(&n->breaker);
    n->pause_until = 0;
    n->openings = 0;
    n->is_dead = n->has_scan = false;
    n->answers = n->not_found = 0;
}

void dr_purge_reset_nodes(struct dr_tokenserver *t)
{
    for (size_t i = 0; i < t->node_count; i++) {
        reset_node(t->node[i]);
    }
}

void dr_purge_destroy_nodes(struct dr_tokenserver *t)
{
    for (size_t i = 0; i < t->node_count; i++) {
        reset_node(t->node[i]);
        dr_free(t->node[i]->url);
        dr_free(t->node[i]);
    }
    dr_free(t->node);
    t->node = NULL;
    t->node_count = t->node_room = 0;
}
