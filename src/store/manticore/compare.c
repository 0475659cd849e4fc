/* SPDX-License-Identifier: Apache-2.0 */
/* Are two copies of a shard equal, while rows are written to them? Both are read side by side in
 * pages by id; rows that differ are looked at again one by one, since a change may be on its way to
 * the other copy. Only a row that stays as it is on both, and differs, is a difference. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "store/manticore/manticore_private.h"

enum {
    SETTLE_MS = 1500, /* a difference that lasts so long unchanged is one */
    WAIT_MS = 4000,   /* rows that change all the time are waited for so long */
    STEP_MS = 20,
    DOUBTS_MAX = 20000, /* more rows than that are not on their way */
    SQL_BYTES = 256,
};

struct row {
    int64_t id;
    uint64_t hash; /* 0: there is no such row */
};

struct page {
    struct row row[MT_PAGE_ROWS];
    uint32_t count, at;
};

/* A row that was not the same on both, as it was seen last. */
struct doubt {
    int64_t id;
    uint64_t ours, theirs;
    dr_mono_ms since;
};

struct compare {
    struct mt_store *store[2]; /* this node and the other */
    const char *table;
    struct dr_arena *arena;
    struct page *page[2];
    struct doubt *doubt;
    uint32_t doubts, room;
    uint64_t rows[2];
};

/* FNV-1a over names and values. */
static uint64_t hash_text(uint64_t h, const char *text)
{
    for (const char *p = text;; p++) {
        h = (h ^ (uint8_t)*p) * 0x100000001b3U;
        if (*p == '\0') {
            return h;
        }
    }
}

static enum dr_code note_row(void *arg, const char *const *cell, const char *const *name,
                             uint32_t count, struct dr_err *err)
{
    struct page *p = arg;
    struct row row = {.hash = 0xcbf29ce484222325U};
    bool has_id = false;
    for (uint32_t i = 0; i < count; i++) {
        row.hash = hash_text(hash_text(row.hash, name[i]), cell[i] == NULL ? "\1" : cell[i]);
        has_id = has_id || (strcasecmp(name[i], "id") == 0 && cell[i] != NULL &&
                            dr_parse_i64(cell[i], &row.id));
    }
    if (!has_id || p->count == MT_PAGE_ROWS) {
        return dr_fail(err, DR_UNSUPPORTED, "a row without an id that is a number");
    }
    row.hash += row.hash == 0;
    p->row[p->count++] = row;
    return DR_OK;
}

/* --- one pass over both ------------------------------------------------------------------------
 */
static enum dr_code read_page(struct compare *c, int side, const int64_t *after, struct dr_err *err)
{
    char sql[SQL_BYTES], where[64] = "";
    if (after != NULL) {
        (void)snprintf(where, sizeof where, " WHERE id > %" PRId64, *after);
    }
    (void)snprintf(sql, sizeof sql, "SELECT * FROM %s%s ORDER BY id ASC LIMIT %d", c->table, where,
                   MT_PAGE_ROWS);
    c->page[side]->count = c->page[side]->at = 0;
    return mt_ask(c->store[side], sql, note_row, c->page[side], err);
}

static enum dr_code add_doubt(struct compare *c, int64_t id, uint64_t ours, uint64_t theirs,
                              struct dr_err *err)
{
    if (c->doubts == DOUBTS_MAX) {
        return dr_fail(err, DR_CONFLICT,
                       "copies of %s differ in more than %d rows between %s and %s", c->table,
                       DOUBTS_MAX, c->store[0]->shown, c->store[1]->shown);
    }
    if (c->doubts == c->room) {
        uint32_t room = c->room == 0 ? 64 : 2 * c->room;
        struct doubt *more = dr_arena_alloc(c->arena, room * sizeof *more);
        if (more == NULL) {
            return dr_fail_nomem(err);
        }
        if (c->doubts > 0) {
            memcpy(more, c->doubt, c->doubts * sizeof *more);
        }
        c->doubt = more;
        c->room = room;
    }
    c->doubt[c->doubts++] =
        (struct doubt){.id = id, .ours = ours, .theirs = theirs, .since = dr_mono_now()};
    return DR_OK;
}

/* The next row of a page up to `bound`, else NULL. */
static const struct row *next_row(const struct page *p, int64_t bound)
{
    return p->at < p->count && p->row[p->at].id <= bound ? &p->row[p->at] : NULL;
}

static enum dr_code merge_pages(struct compare *c, int64_t bound, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    while (rc == DR_OK) {
        const struct row *ours = next_row(c->page[0], bound);
        const struct row *theirs = next_row(c->page[1], bound);
        if (ours == NULL && theirs == NULL) {
            break;
        }
        bool is_ours = ours != NULL && (theirs == NULL || ours->id <= theirs->id);
        bool is_theirs = theirs != NULL && (ours == NULL || theirs->id <= ours->id);
        uint64_t our_hash = is_ours ? ours->hash : 0, their_hash = is_theirs ? theirs->hash : 0;
        if (our_hash != their_hash) {
            rc = add_doubt(c, is_ours ? ours->id : theirs->id, our_hash, their_hash, err);
        }
        c->page[0]->at += is_ours;
        c->page[1]->at += is_theirs;
        c->rows[0] += is_ours;
        c->rows[1] += is_theirs;
    }
    return rc;
}

static enum dr_code read_both(struct compare *c, struct dr_err *err)
{
    int64_t bound = 0;
    bool is_end = false;
    enum dr_code rc = DR_OK;
    for (bool is_first = true; rc == DR_OK && !is_end; is_first = false) {
        const int64_t *after = is_first ? NULL : &bound;
        rc = read_page(c, 0, after, err);
        rc = rc == DR_OK ? read_page(c, 1, after, err) : rc;
        if (rc != DR_OK) {
            return rc;
        }
        /* What lies behind the end of a full page may be on the next one. */
        int64_t next = INT64_MAX;
        is_end = true;
        for (int side = 0; side < 2; side++) {
            const struct page *p = c->page[side];
            if (p->count == MT_PAGE_ROWS) {
                is_end = false;
                next = p->row[p->count - 1].id < next ? p->row[p->count - 1].id : next;
            }
        }
        rc = merge_pages(c, next, err);
        bound = next;
    }
    return rc;
}

/* --- rows in doubt -----------------------------------------------------------------------------
 */
static enum dr_code read_row(struct compare *c, int side, int64_t id, uint64_t *hash,
                             struct dr_err *err)
{
    char sql[SQL_BYTES];
    (void)snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE id = %" PRId64 " LIMIT 1", c->table,
                   id);
    c->page[side]->count = 0;
    enum dr_code rc = mt_ask(c->store[side], sql, note_row, c->page[side], err);
    *hash = rc == DR_OK && c->page[side]->count > 0 ? c->page[side]->row[0].hash : 0;
    return rc;
}

static enum dr_code look_again(struct compare *c, struct doubt *d, bool *is_same,
                               struct dr_err *err)
{
    uint64_t before, theirs = 0, after = 0;
    enum dr_code rc = read_row(c, 0, d->id, &before, err);
    rc = rc == DR_OK ? read_row(c, 1, d->id, &theirs, err) : rc;
    rc = rc == DR_OK ? read_row(c, 0, d->id, &after, err) : rc;
    if (rc != DR_OK) {
        return rc;
    }
    *is_same = theirs == before || theirs == after;
    if (before != d->ours || after != d->ours || theirs != d->theirs) {
        d->ours = after;
        d->theirs = theirs;
        d->since = dr_mono_now();
    }
    if (!*is_same && dr_mono_now() - d->since >= SETTLE_MS) {
        return dr_fail(err, DR_CONFLICT,
                       "copies of %s differ: row %" PRId64 " is %s; %" PRIu64
                       " rows on %s, %" PRIu64 " rows on %s",
                       c->table, d->id,
                       d->theirs == 0 ? "missing on the second"
                       : d->ours == 0 ? "missing on the first"
                                      : "with other contents",
                       c->rows[0], c->store[0]->shown, c->rows[1], c->store[1]->shown);
    }
    return DR_OK;
}

static enum dr_code settle_doubts(struct compare *c, struct dr_err *err)
{
    dr_mono_ms end = dr_mono_now() + WAIT_MS;
    enum dr_code rc = DR_OK;
    while (rc == DR_OK && c->doubts > 0) {
        uint32_t left = 0;
        for (uint32_t i = 0; rc == DR_OK && i < c->doubts; i++) {
            bool is_same = false;
            rc = look_again(c, &c->doubt[i], &is_same, err);
            if (!is_same) {
                c->doubt[left++] = c->doubt[i];
            }
        }
        c->doubts = left;
        if (rc == DR_OK && left > 0 && dr_mono_now() >= end) {
            return dr_fail(err, DR_BUSY,
                           "%s: %u rows change so fast that its copies on %s and %s cannot be "
                           "compared; trying again",
                           c->table, left, c->store[0]->shown, c->store[1]->shown);
        }
        if (rc == DR_OK && left > 0) {
            (void)dr_wait_ms(STEP_MS, NULL, NULL);
        }
    }
    return rc;
}

enum dr_code mt_same_count(struct mt_store *s, const struct mt_command *c, struct dr_arena *a,
                           struct dr_err *err)
{
    struct compare work = {.store = {s, NULL}, .table = c->table[0], .arena = a};
    enum dr_code rc = mt_open_other(s, c->node, &work.store[1], err);
    for (int side = 0; rc == DR_OK && side < 2; side++) {
        work.page[side] = dr_arena_alloc(a, sizeof *work.page[side]);
        rc = work.page[side] == NULL ? dr_fail_nomem(err) : DR_OK;
    }
    rc = rc == DR_OK ? read_both(&work, err) : rc;
    rc = rc == DR_OK ? settle_doubts(&work, err) : rc;
    mt_close(work.store[1]);
    return rc;
}
