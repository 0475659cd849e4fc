/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the mirror's thread: finds the operations that ask for status records, makes their accounts
 * and publishes what changed.
 *
 * A *mark* is a number made of an operation's own counts: an account is made only when it moved,
 * and that the final one was written is noted in the audit with it, so that a new owner neither
 * repeats the whole history nor leaves a gap. */
#include "verbs/mirror.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "store/store.h"
#include "verbs/account.h"
#include "verbs/steer.h"

enum {
    INTERVAL_MS = 5000,
    INTERVAL_TIMES = 50, /* a look may take a fiftieth of the time at most */
    EVENT_MS = 200,      /* how often the queue is asked whether something ended */
    RETRY_FIRST_MS = 1000,
    RETRY_MAX_MS = 60000,
    ROOM_FIRST = 16,
    AUDITS = 16,
    NOTE_BYTES = 96,
};

static const char note_by[] = "drover";

struct tracked {
    int64_t id;
    bool is_wanted;   /* its request asks for records */
    bool is_approved; /* a mere plan changes nothing, not even records */
    bool is_resting;
    bool is_forced; /* an older operation wrote over our records */
    bool has_state;
    uint64_t place;   /* where its records are: equal for operations that share them */
    uint64_t mark;    /* as seen last */
    uint64_t written; /* the mark that was written */
    uint64_t state;   /* hash of the state that was written */
    uint32_t failures;
    dr_mono_ms not_before;
};

struct dr_mirror {
    struct dr_mirror_config config;
    pthread_t thread;
    atomic_bool is_stopping;
    /* All below belongs to the thread. */
    struct tracked *op; /* by id */
    size_t count, room;
    size_t sorted; /* so many of them were known before the look at hand */
    uint64_t version;
    dr_mono_ms asked_at;
};

/* FNV-1a: numbers that differ when the facts differ, nothing more. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static const uint64_t hash_start = UINT64_C(0xcbf29ce484222325);

static uint64_t mark_of(const struct dr_op *op)
{
    uint64_t h = hash_bytes(hash_start, op->count, sizeof op->count);
    h = hash_bytes(h, &op->items_done, sizeof op->items_done);
    h = hash_bytes(h, &op->items_undone, sizeof op->items_undone);
    h = hash_bytes(h, &op->ended_at, sizeof op->ended_at);
    return h == 0 ? 1 : h; /* 0: nothing was written yet */
}

/* --- what a request asks for -------------------------------------------------------------------
 */

struct wish_of_request {
    char *text; /* the request */
    char *url;  /* of the store that keeps the records */
    uint64_t place;
};

static void drop_wish(struct wish_of_request *w)
{
    dr_free(w->text);
    dr_free(w->url);
    *w = (struct wish_of_request){0};
}

static const char *text_at(const json_t *j, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text == NULL ? otherwise : text;
}

/* Leaves w->url NULL when no records are asked for. */
static enum dr_code read_wish(struct dr_mirror *m, const struct dr_op *op,
                              struct wish_of_request *w, struct dr_err *err)
{
    json_t *j = NULL;
    *w = (struct wish_of_request){0};
    enum dr_code rc = dr_queue_texts(m->config.queue, op->id, &w->text, NULL, NULL, err);
    if (rc == DR_OK && strstr(w->text, "\"status_database\"") != NULL) {
        rc = dr_json_parse("stored request", w->text, strlen(w->text), &j, err);
    }
    const char *database = text_at(j, "status_database", "");
    if (rc == DR_OK && database[0] != '\0') {
        const char *own = text_at(j, "store", op->store_url);
        const char *target = text_at(j, "database", op->target);
        w->url = dr_strdup(text_at(j, "status_store", own));
        rc = w->url == NULL ? dr_fail_nomem(err) : DR_OK;
        if (rc == DR_OK) { /* with the ends, so that "a" + "bc" is not "ab" + "c" */
            w->place = hash_bytes(hash_start, w->url, strlen(w->url) + 1);
            w->place = hash_bytes(w->place, database, strlen(database) + 1);
            w->place = hash_bytes(w->place, target, strlen(target) + 1);
        }
    }
    json_decref(j);
    if (rc != DR_OK) {
        drop_wish(w);
    }
    return rc;
}

/* --- what was written before -------------------------------------------------------------------
 */

static const char *note_text(uint64_t mark, char *buf, size_t buf_bytes)
{
    (void)snprintf(buf, buf_bytes, "status records are final (mark %016" PRIx64 ")", mark);
    return buf;
}

/* Did an earlier owner write the final records of just this ending? When that cannot be told they
 * are written again. */
static bool was_written(struct dr_mirror *m, int64_t op_id, uint64_t mark)
{
    char note[NOTE_BYTES];
    struct dr_err ignored = {0};
    int64_t after = 0;
    uint32_t count = 0;
    bool is_found = false;
    struct dr_audit *page = dr_calloc(AUDITS, sizeof *page);
    if (page == NULL) {
        return false;
    }
    (void)note_text(mark, note, sizeof note);
    do {
        if (dr_queue_audits(m->config.queue, op_id, after, page, AUDITS, &count, &ignored) !=
            DR_OK) {
            break;
        }
        for (uint32_t i = 0; i < count && !is_found; i++) {
            after = page[i].id;
            is_found = strcmp(page[i].what, note) == 0 && strcmp(page[i].by, note_by) == 0;
        }
    } while (!is_found && count == AUDITS);
    dr_free(page);
    return is_found;
}

/* --- finding operations ------------------------------------------------------------------------
 */

static int compare_id(const void *a, const void *b)
{
    const struct tracked *x = a;
    const struct tracked *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static struct tracked *find_op(struct dr_mirror *m, int64_t id)
{
    const struct tracked key = {.id = id};
    return m->sorted == 0 ? NULL : bsearch(&key, m->op, m->sorted, sizeof *m->op, compare_id);
}

static enum dr_code track(struct dr_mirror *m, const struct dr_op *op, struct tracked **out,
                          struct dr_err *err)
{
    struct wish_of_request w;
    enum dr_code rc = read_wish(m, op, &w, err);
    if (rc != DR_OK) {
        return rc;
    }
    struct tracked fresh = {.id = op->id, .is_wanted = w.url != NULL, .place = w.place};
    drop_wish(&w);
    if (fresh.is_wanted && op->ended_at != 0 && was_written(m, op->id, mark_of(op))) {
        fresh.written = mark_of(op);
    }
    if (m->count == m->room) {
        size_t room = m->room == 0 ? ROOM_FIRST : m->room * 2;
        struct tracked *grown = dr_realloc(m->op, room * sizeof *grown);
        if (grown == NULL) {
            return dr_fail_nomem(err);
        }
        m->op = grown;
        m->room = room;
    }
    m->op[m->count] = fresh;
    *out = &m->op[m->count++];
    return DR_OK;
}

/* One that cannot be read now is looked at again by the next look. */
static enum dr_code look_at(void *arg, const struct dr_op *op, struct dr_err *err)
{
    struct dr_mirror *m = arg;
    struct tracked *t = find_op(m, op->id);
    if (t == NULL) {
        enum dr_code rc = track(m, op, &t, err);
        if (rc != DR_OK) {
            dr_log_err(m->config.log, DR_LOG_WARN, "an operation's request cannot be read", err);
            dr_err_clear(err);
            return DR_OK;
        }
    }
    t->mark = mark_of(op);
    t->is_approved = dr_op_is_approved(op);
    t->is_resting = dr_op_status_is_resting(op->status);
    return DR_OK;
}

static enum dr_code look_at_all(struct dr_mirror *m, struct dr_err *err)
{
    m->sorted = m->count;
    enum dr_code rc = dr_each_op(m->config.queue, look_at, m, err);
    if (m->count > 1) {
        qsort(m->op, m->count, sizeof *m->op, compare_id);
    }
    m->sorted = m->count;
    return rc;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static enum dr_code publish_state(const struct wish_of_request *w, const char *state,
                                  struct dr_err *err)
{
    struct dr_store *store = NULL;
    enum dr_code rc = dr_store_open(w->url, &store, err);
    if (rc == DR_OK) {
        rc = dr_store_publish(store, w->text, state, err);
    }
    dr_store_close(store);
    return rc;
}

/* *did_out: something was written over what stood there. */
static enum dr_code write_state(struct tracked *t, const struct wish_of_request *w,
                                const struct dr_account *a, bool *did_out, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    char *state = dr_account_state(a);
    if (state == NULL) {
        return dr_fail_nomem(err);
    }
    uint64_t hash = hash_bytes(hash_start, state, strlen(state));
    *did_out = a->row_count > 0 && (t->is_forced || !t->has_state || t->state != hash);
    if (*did_out) {
        rc = publish_state(w, state, err);
    }
    t->has_state = rc == DR_OK; /* after a failure nobody knows what stands there */
    t->state = hash;
    dr_free(state);
    return rc;
}

static enum dr_code bring_up(struct dr_mirror *m, struct tracked *t, bool *did_out,
                             struct dr_err *err)
{
    struct dr_op op;
    struct wish_of_request w = {0};
    struct dr_account *a = NULL;
    char note[NOTE_BYTES];
    *did_out = false;
    /* The mark before the account: what happens between the two makes another look. */
    enum dr_code rc = dr_queue_op(m->config.queue, t->id, &op, err);
    if (rc == DR_NOT_FOUND) { /* forgotten by a cleanup */
        t->is_wanted = false;
        return DR_OK;
    }
    rc = rc == DR_OK ? read_wish(m, &op, &w, err) : rc;
    if (rc != DR_OK || w.url == NULL) {
        goto out;
    }
    rc = dr_account_make(m->config.queue, t->id, &a, err);
    rc = rc == DR_OK ? write_state(t, &w, a, did_out, err) : rc;
    if (rc == DR_OK) {
        t->mark = mark_of(&op);
        t->written = t->mark;
        t->is_forced = false;
    }
    if (rc == DR_OK && op.ended_at != 0) {
        /* Not being able to note it only means that the next owner writes them once more. */
        struct dr_err ignored = {0};
        if (!was_written(m, t->id, t->mark)) {
            enum dr_code noted = dr_queue_audit(m->config.queue, t->id, note_by,
                                                note_text(t->mark, note, sizeof note), &ignored);
            (void)noted;
        }
    }
out:
    dr_account_destroy(a);
    drop_wish(&w);
    return rc;
}

static void note_failure(struct dr_mirror *m, struct tracked *t, bool is_last,
                         const struct dr_err *err)
{
    const struct dr_backoff backoff = {m->config.retry_first_ms, m->config.retry_max_ms};
    t->failures++;
    uint64_t wait_ms = dr_backoff_ms(&backoff, t->failures, dr_random());
    t->not_before = dr_mono_now() + (dr_mono_ms)wait_ms;
    if (is_last) {
        dr_log(m->config.log, DR_LOG_WARN,
               "status records are not up to date; whoever works on this data folder next "
               "writes them",
               "op=%lld code=%s msg=%s", (long long)t->id, dr_code_name(err->code), err->msg);
    } else {
        dr_log(m->config.log, DR_LOG_WARN, "status records cannot be written, trying again",
               "op=%lld code=%s msg=%s tries=%u retry_ms=%llu", (long long)t->id,
               dr_code_name(err->code), err->msg, t->failures, (unsigned long long)wait_ms);
    }
}

static bool is_due(const struct tracked *t)
{
    return t->is_wanted && t->is_approved && (t->is_forced || t->mark != t->written);
}

/* Older ones first; what they write over, the newer ones then write again. */
static void write_due(struct dr_mirror *m, bool is_last)
{
    for (size_t i = 0; i < m->count; i++) {
        struct tracked *t = &m->op[i];
        struct dr_err err = {0};
        bool did = false;
        if (!is_due(t) || (!is_last && dr_mono_now() < t->not_before)) {
            continue;
        }
        if (bring_up(m, t, &did, &err) != DR_OK) {
            note_failure(m, t, is_last, &err);
            continue;
        }
        if (t->failures > 0) {
            dr_log(m->config.log, DR_LOG_INFO, "status records are written again", "op=%lld",
                   (long long)t->id);
            t->failures = 0;
            t->not_before = 0;
        }
        for (size_t n = i + 1; did && n < m->count; n++) {
            m->op[n].is_forced |= m->op[n].is_wanted && m->op[n].place == t->place;
        }
    }
}

static void look(struct dr_mirror *m, bool is_last)
{
    struct dr_err err = {0};
    if (look_at_all(m, &err) != DR_OK) {
        dr_log_err(m->config.log, DR_LOG_WARN, "the queue cannot be read for status records", &err);
    }
    write_due(m, is_last);
}

/* --- the thread --------------------------------------------------------------------------------
 */

/* Has an operation come to rest, or a new one come in? */
static bool has_news(struct dr_mirror *m)
{
    struct dr_op op;
    struct dr_err ignored = {0};
    uint64_t version = 0;
    uint32_t count = 0;
    if (dr_queue_version(m->config.queue, &version, &ignored) != DR_OK || version == m->version) {
        return false;
    }
    m->version = version;
    if (dr_queue_ops(m->config.queue, 0, &op, 1, &count, &ignored) == DR_OK && count == 1 &&
        (m->count == 0 || op.id > m->op[m->count - 1].id)) {
        return true;
    }
    for (size_t i = 0; i < m->count; i++) {
        const struct tracked *t = &m->op[i];
        if (t->is_wanted && !t->is_resting &&
            dr_queue_op(m->config.queue, t->id, &op, &ignored) == DR_OK &&
            dr_op_status_is_resting(op.status)) {
            return true;
        }
    }
    return false;
}

static bool is_time_over(void *arg)
{
    struct dr_mirror *m = arg;
    if (atomic_load(&m->is_stopping)) {
        return true;
    }
    dr_mono_ms now = dr_mono_now();
    if (now - m->asked_at < EVENT_MS) {
        return false;
    }
    m->asked_at = now;
    return has_news(m);
}

/* Until the next look or the first retry, whichever is sooner. */
static uint64_t wait_of(const struct dr_mirror *m, uint64_t took_ms)
{
    uint64_t wait_ms = m->config.interval_ms;
    if (took_ms * INTERVAL_TIMES > wait_ms) {
        wait_ms = took_ms * INTERVAL_TIMES;
    }
    dr_mono_ms now = dr_mono_now();
    for (size_t i = 0; i < m->count; i++) {
        const struct tracked *t = &m->op[i];
        if (t->failures > 0 && is_due(t) && t->not_before - now < (dr_mono_ms)wait_ms) {
            wait_ms = t->not_before > now ? (uint64_t)(t->not_before - now) : 1;
        }
    }
    return wait_ms;
}

static void *mirror_main(void *arg)
{
    struct dr_mirror *m = arg;
    while (!atomic_load(&m->is_stopping)) {
        dr_mono_ms begin = dr_mono_now();
        look(m, false);
        (void)dr_wait_ms(wait_of(m, (uint64_t)(dr_mono_now() - begin)), is_time_over, m);
    }
    look(m, true);
    return NULL;
}

enum dr_code dr_mirror_start(const struct dr_mirror_config *c, struct dr_mirror **out,
                             struct dr_err *err)
{
    *out = NULL;
    struct dr_mirror *m = dr_calloc(1, sizeof *m);
    if (m == NULL) {
        return dr_fail_nomem(err);
    }
    m->config = *c;
    m->config.interval_ms = c->interval_ms == 0 ? INTERVAL_MS : c->interval_ms;
    m->config.retry_first_ms = c->retry_first_ms == 0 ? RETRY_FIRST_MS : c->retry_first_ms;
    m->config.retry_max_ms = c->retry_max_ms == 0 ? RETRY_MAX_MS : c->retry_max_ms;
    if (pthread_create(&m->thread, NULL, mirror_main, m) != 0) {
        dr_free(m);
        return dr_fail(err, DR_NOMEM,
                       "no thread for the status records; raise the limit of "
                       "processes (ulimit -u)");
    }
    *out = m;
    return DR_OK;
}

void dr_mirror_stop(struct dr_mirror *m)
{
    if (m != NULL) {
        atomic_store(&m->is_stopping, true);
        (void)pthread_join(m->thread, NULL);
        dr_free(m->op);
        dr_free(m);
    }
}
