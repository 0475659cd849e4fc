/* SPDX-License-Identifier: Apache-2.0 */
/* Reading by generated keys, what both ways of reading do with candidates, and counting. */
#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "store/redis/redis_private.h"

enum {
    PAGE_KEYS = 1024,
    PAGES_MAX = 256, /* of one batch in which hardly anything exists */
    ROOM_MIN = 64,   /* a page for fewer is not worth a round trip once half a batch is there */
    LOOK_FIRST = 16, /* values read at once before their size is known */
    LOOK_MOST = 128,
    CURSOR_VERSION = 1,
    CURSOR_BYTES = 9,
};

/* Candidates that are left after a look at existence, type and value. */
struct picked {
    size_t count;
    struct dr_item *item;
    const char **type;
    size_t *index; /* place among the candidates */
};

enum dr_code rd_unwatch_all(struct rd_store *s, struct dr_err *err)
{
    static const char *words[] = {"UNWATCH"};
    enum dr_code rc = DR_OK;
    s->mark++;
    s->watched = 0;
    for (uint32_t i = 0; rc == DR_OK && i < s->node_count; i++) {
        struct rd_node *n = s->node[i];
        redisReply *reply = NULL;
        if (n->watch_mark == 0) {
            continue;
        }
        n->watch_mark = 0;
        if (n->c != NULL) {
            rc = rd_ask(n, &reply, err, 1, words);
            freeReplyObject(reply);
        }
    }
    return rc;
}

static enum dr_code make_picked(struct rd_store *s, size_t count, struct picked *out,
                                struct dr_err *err)
{
    *out = (struct picked){0};
    out->item = dr_arena_alloc(s->scratch, count * sizeof *out->item);
    out->type = dr_arena_alloc(s->scratch, count * sizeof *out->type);
    out->index = dr_arena_alloc(s->scratch, count * sizeof *out->index);
    return out->item == NULL || out->type == NULL || out->index == NULL ? dr_fail_nomem(err)
                                                                        : DR_OK;
}

static void pick(struct picked *p, const struct dr_item *item, const char *type, size_t index)
{
    p->item[p->count] = *item;
    p->type[p->count] = type;
    p->index[p->count++] = index;
}

/* Keep those whose EXISTS of a whole run is not zero: where hardly any generated key is there, this
 * is nearly all the work. */
static enum dr_code pick_existing(struct rd_store *s, const char *node, const struct dr_item *item,
                                  size_t count, struct picked *out, struct dr_err *err)
{
    enum { RUN = 64 };
    struct rd_call *call = dr_arena_alloc(s->scratch, count * sizeof *call);
    size_t *first = dr_arena_alloc(s->scratch, (count + 1) * sizeof *first);
    size_t calls = 0;
    enum dr_code rc = call == NULL || first == NULL ? dr_fail_nomem(err) : DR_OK;
    for (size_t i = 0; rc == DR_OK && i < count;) {
        size_t run = rd_run_length(s, item, i, count, RUN);
        first[calls] = i;
        rc = rd_call_make(s, &call[calls++], "EXISTS", &item[i], run, err);
        i += run;
    }
    if (rc != DR_OK) {
        return rc;
    }
    first[calls] = count;
    rc = rd_exchange(s, node, call, calls, NULL, err);
    for (size_t c = 0; rc == DR_OK && c < calls; c++) {
        const redisReply *r = call[c].reply;
        bool is_moving = rd_is_error(r, "TRYAGAIN"); /* some here, some there: look at each */
        if (r->type != REDIS_REPLY_INTEGER && !is_moving) {
            rc = rd_fail_reply(call[c].to, r, "EXISTS", err);
        } else if (is_moving || r->integer > 0) {
            for (size_t i = first[c]; i < first[c + 1]; i++) {
                pick(out, &item[i], "string", i);
            }
        }
    }
    rd_calls_free(call, calls);
    return rc;
}

static enum dr_code keep_types(struct rd_store *s, const char *node, const struct rd_spec *p,
                               struct picked *all, struct dr_err *err)
{
    size_t count = all->count;
    enum dr_code rc = count == 0 ? DR_OK : rd_types(s, node, p, all->item, count, all->type, err);
    all->count = 0;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        if (rd_spec_has_type(p, all->type[i])) {
            pick(all, &all->item[i], all->type[i], all->index[i]);
        }
    }
    return rc;
}

static enum dr_code keep_zeroes(struct rd_store *s, const char *node, struct picked *all,
                                struct dr_err *err)
{
    size_t count = all->count;
    bool *zero = count == 0 ? NULL : dr_arena_alloc(s->scratch, count * sizeof *zero);
    if (count == 0) {
        return DR_OK;
    }
    enum dr_code rc =
        zero == NULL ? dr_fail_nomem(err) : rd_zeroes(s, node, all->item, count, zero, err);
    all->count = 0;
    for (size_t i = 0; rc == DR_OK && i < count; i++) {
        if (zero[i]) {
            pick(all, &all->item[i], all->type[i], all->index[i]);
        }
    }
    return rc;
}

static enum dr_code pick_selected(struct rd_store *s, const struct dr_range *range,
                                  const struct rd_spec *p, bool with_values,
                                  const struct dr_item *item, size_t count, struct picked *out,
                                  struct dr_err *err)
{
    bool is_scan = range->access == DR_BY_SCAN;
    bool needs_types = is_scan ? p->type_count > 1 || s->lacks_scan_type
                               : with_values || p->are_types_given || p->zero_values;
    enum dr_code rc = make_picked(s, count, out, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (needs_types && !is_scan) {
        rc = pick_existing(s, range->node, item, count, out, err);
    } else {
        for (size_t i = 0; i < count; i++) {
            pick(out, &item[i], p->type[0], i);
        }
    }
    if (rc == DR_OK && needs_types) {
        rc = keep_types(s, range->node, p, out, err);
    }
    return rc == DR_OK && p->zero_values ? keep_zeroes(s, range->node, out, err) : rc;
}

/* Read values in pipelines whose length follows the size of what came last, so that big values do
 * not pile up in memory. */
static enum dr_code add_values(struct rd_store *s, const char *node, const struct picked *p,
                               const struct dr_budget *budget, struct dr_batch *batch,
                               struct dr_str *text, size_t *done_out, struct dr_err *err)
{
    size_t some = LOOK_FIRST;
    bool is_full = false;
    enum dr_code rc = DR_OK;
    size_t i = 0;
    while (rc == DR_OK && i < p->count && !is_full) {
        struct rd_look look = {0};
        size_t n = p->count - i < some ? p->count - i : some;
        bool watch = batch->read_mark != 0 && s->watched == batch->count &&
                     batch->count + n <= RD_WATCHED_MAX;
        uint64_t redirects = s->redirects;
        uint64_t bytes = batch->bytes;
        rc = rd_look(s, node, &p->item[i], n, watch, &look, err);
        for (size_t c = 0; watch && rc == DR_OK && c < look.call_count; c++) {
            look.call[c].to->watch_mark = s->mark;
        }
        for (size_t k = 0; rc == DR_OK && k < n && !is_full; k++, i++) {
            look.value[k].type = p->type[i];
            look.value[k].type_bytes = strlen(p->type[i]);
            if (look.value[k].payload == NULL) {
                continue;
            }
            rc = rd_value_encode(&look.value[k], text, err);
            if (rc == DR_OK) {
                rc = dr_batch_add(batch, p->item[i].key, p->item[i].key_len, text->data, text->len,
                                  err);
            }
            is_full = batch->bytes >= budget->bytes_max;
        }
        if (watch && redirects == s->redirects) {
            s->watched = batch->count;
        }
        rd_look_free(&look);
        uint64_t each = (batch->bytes - bytes) / n + 1;
        some = each > 65536 ? 1 : each > 4096 ? LOOK_FIRST : LOOK_MOST;
    }
    *done_out = i;
    return rc;
}

enum dr_code rd_take(struct rd_store *s, const struct dr_range *range, const struct rd_spec *p,
                     const struct dr_budget *budget, const struct dr_item *item, size_t count,
                     struct dr_batch *batch, size_t *taken_out, struct dr_err *err)
{
    struct picked picked = {0};
    struct dr_str text;
    size_t done = 0;
    *taken_out = count;
    if (count == 0) {
        return DR_OK;
    }
    enum dr_code rc = pick_selected(s, range, p, budget->with_values, item, count, &picked, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (!budget->with_values) {
        for (size_t i = 0; rc == DR_OK && i < picked.count; i++) {
            rc = dr_batch_add(batch, picked.item[i].key, picked.item[i].key_len, NULL, 0, err);
        }
        return rc;
    }
    dr_str_init(&text);
    rc = add_values(s, range->node, &picked, budget, batch, &text, &done, err);
    dr_str_fini(&text);
    if (done < picked.count) {
        *taken_out = picked.index[done];
    }
    return rc;
}

/* ---- by generated keys ---- */

static enum dr_code read_offset(const struct dr_range *range, const struct dr_cursor *from,
                                uint64_t *out, struct dr_err *err)
{
    *out = 0;
    if (from->len == 0) {
        return DR_OK;
    }
    if (from->len != CURSOR_BYTES || from->data[0] != CURSOR_VERSION) {
        return dr_fail(err, DR_CORRUPT, "a position in the keys that is none of redis");
    }
    *out = dr_get_le(from->data + 1, 8);
    return *out <= range->length
               ? DR_OK
               : dr_fail(err, DR_CORRUPT, "a position behind the end of the keys");
}

static void write_offset(struct dr_cursor *c, uint64_t offset)
{
    c->len = CURSOR_BYTES;
    c->data[0] = CURSOR_VERSION;
    dr_put_le(c->data + 1, offset, 8);
}

/* Copies of the next keys, in the scratch arena. */
static enum dr_code generate(struct rd_store *s, struct dr_keyseq_at *at, size_t most,
                             struct dr_item **item_out, size_t *count_out, struct dr_err *err)
{
    const char *key = NULL;
    size_t bytes = 0;
    struct dr_item *item = dr_arena_alloc(s->scratch, most * sizeof *item);
    *item_out = item;
    *count_out = 0;
    if (item == NULL) {
        return dr_fail_nomem(err);
    }
    while (*count_out < most && dr_keyseq_next(at, &key, &bytes)) {
        struct dr_item *to = &item[(*count_out)++];
        *to = (struct dr_item){.key = dr_arena_memdup(s->scratch, key, bytes),
                               .key_len = (uint32_t)bytes};
        if (to->key == NULL) {
            return dr_fail_nomem(err);
        }
    }
    return DR_OK;
}

static bool is_spent(const struct dr_budget *budget, const struct dr_batch *b, dr_mono_ms start)
{
    uint64_t room = budget->items_max - b->count;
    uint64_t spent_ms = (uint64_t)(dr_mono_now() - start);
    return room == 0 || (room < ROOM_MIN && b->count * 2 >= budget->items_max) ||
           b->bytes >= budget->bytes_max || (budget->ms_max > 0 && spent_ms >= budget->ms_max);
}

enum dr_code rd_scan_keys(struct rd_store *s, const struct dr_range *range, const struct rd_spec *p,
                          const struct dr_budget *budget, const struct dr_cursor *from,
                          struct dr_batch *batch, struct dr_err *err)
{
    struct dr_keyseq_at at;
    uint64_t done = 0;
    dr_mono_ms start = dr_mono_now();
    enum dr_code rc = read_offset(range, from, &done, err);
    if (rc != DR_OK) {
        return rc;
    }
    dr_keyseq_seek(&at, p->seq, range->offset + done);
    for (int page = 0; page < PAGES_MAX && (page == 0 || !is_spent(budget, batch, start)); page++) {
        struct dr_item *item = NULL;
        size_t count = 0;
        size_t taken = 0;
        uint64_t most = budget->items_max - batch->count;
        most = most > PAGE_KEYS ? PAGE_KEYS : most;
        most = most > range->length - done ? range->length - done : most;
        if (most == 0) {
            break;
        }
        dr_arena_reset(s->scratch);
        rc = generate(s, &at, (size_t)most, &item, &count, err);
        if (rc == DR_OK) {
            rc = rd_take(s, range, p, budget, item, count, batch, &taken, err);
        }
        if (rc != DR_OK) {
            return rc;
        }
        done =
            count < most ? range->length : done + taken; /* a slice may end behind the last key */
        batch->looked += taken;
        if (taken < count) {
            break;
        }
    }
    batch->is_end = done >= range->length;
    write_offset(&batch->after, done);
    return DR_OK;
}

enum dr_code rd_scan(void *impl, const struct dr_range *range, const struct dr_budget *budget,
                     const struct dr_cursor *from, struct dr_batch *batch, struct dr_err *err)
{
    struct rd_store *s = impl;
    struct rd_spec *p = NULL;
    if (range->access != DR_BY_KEYS && range->access != DR_BY_SCAN) {
        return dr_fail(err, DR_UNSUPPORTED, "redis: keys are walked by a scan or by generation");
    }
    dr_arena_reset(s->scratch);
    enum dr_code rc = rd_spec_use(s, range->spec, &p, err);
    if (rc == DR_OK) {
        rc = rd_learn(s, err);
        rc = s->is_kind_known && !s->is_cluster ? DR_OK : rc; /* the other servers go on */
    }
    if (rc == DR_OK && budget->with_values) {
        rc = rd_unwatch_all(s, err);
        batch->read_mark = s->mark;
    }
    if (rc != DR_OK) {
        return rc;
    }
    return range->access == DR_BY_KEYS ? rd_scan_keys(s, range, p, budget, from, batch, err)
                                       : rd_scan_all(s, range, p, budget, from, batch, err);
}

/* ---- counting ---- */

static enum dr_code count_keys(struct rd_store *s, const struct dr_range *range,
                               const struct rd_spec *p, uint64_t *rows, struct dr_err *err)
{
    struct dr_keyseq_at at;
    enum dr_code rc = DR_OK;
    dr_keyseq_seek(&at, p->seq, range->offset);
    for (uint64_t done = 0; rc == DR_OK && done < range->length;) {
        struct dr_item *item = NULL;
        struct picked picked = {0};
        size_t count = 0;
        uint64_t most = range->length - done;
        most = most > PAGE_KEYS ? PAGE_KEYS : most;
        dr_arena_reset(s->scratch);
        rc = generate(s, &at, (size_t)most, &item, &count, err);
        if (rc == DR_OK && count == 0) {
            break;
        }
        if (rc == DR_OK) {
            rc = pick_selected(s, range, p, true, item, count, &picked, err);
        }
        *rows += picked.count;
        done += count;
    }
    return rc;
}

/* A scan is counted as it is walked; a key that a resize shows twice counts twice. */
static enum dr_code count_scan(struct rd_store *s, const struct dr_range *range, uint64_t *rows,
                               struct dr_err *err)
{
    struct dr_batch *batch = NULL;
    struct dr_cursor *at = dr_calloc(1, sizeof *at);
    const struct dr_budget budget = {.items_max = 10000, .bytes_max = UINT64_MAX};
    enum dr_code rc = at == NULL ? dr_fail_nomem(err) : dr_batch_create(&batch, err);
    bool is_end = false;
    if (rc == DR_OK && s->is_cluster) { /* what a new primary holds counts too */
        rc = rd_scan_whole(s, at, err);
    }
    while (rc == DR_OK && !is_end) {
        dr_batch_reset(batch);
        rc = rd_scan(s, range, &budget, at, batch, err);
        *rows += rc == DR_OK ? batch->count : 0;
        is_end = batch->is_end;
        *at = batch->after;
    }
    dr_batch_destroy(batch);
    dr_free(at);
    return rc;
}

enum dr_code rd_count(void *impl, const struct dr_range *range, uint64_t *rows_out,
                      struct dr_err *err)
{
    struct rd_store *s = impl;
    struct rd_spec *p = NULL;
    *rows_out = 0;
    dr_arena_reset(s->scratch);
    enum dr_code rc = rd_spec_use(s, range->spec, &p, err);
    if (rc == DR_OK) {
        rc = rd_learn(s, err);
        rc = s->is_kind_known && !s->is_cluster ? DR_OK : rc;
    }
    if (rc != DR_OK) {
        return rc;
    }
    return range->access == DR_BY_KEYS ? count_keys(s, range, p, rows_out, err)
                                       : count_scan(s, range, rows_out, err);
}
