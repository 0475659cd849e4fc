/* SPDX-License-Identifier: Apache-2.0 */
/* What is wished and allowed at the moment: wishes, tuning, rate, guards, braked nodes.
 *
 * The keeper refreshes it five times a second from the queue; workers ask it before every batch.
 * One mutex, held only for arithmetic. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "worker/worker_private.h"

enum { DRIFT_SLACK = 1000, LANE_FORGET_MS = 300000, LOOK_BACK_OPS = 32 };

enum dr_code dr_control_create(struct dr_queue *q, struct dr_log *log, int64_t only_op,
                               struct dr_control **out, struct dr_err *err)
{
    struct dr_control *c = dr_calloc(1, sizeof *c);
    *out = c;
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->queue = q;
    c->log = log;
    c->only_op = only_op;
    (void)pthread_mutex_init(&c->mutex, NULL);
    return DR_OK;
}

void dr_control_destroy(struct dr_control *c)
{
    if (c != NULL) {
        (void)pthread_mutex_destroy(&c->mutex);
        dr_free(c);
    }
}

static struct op_control *find_op(struct dr_control *c, int64_t op_id)
{
    for (unsigned i = 0; i < c->op_count; i++) {
        if (c->op[i].op_id == op_id) {
            return &c->op[i];
        }
    }
    return NULL;
}

static struct lane_control *find_lane(struct dr_control *c, const char *store_url, const char *node)
{
    for (unsigned i = 0; i < c->lane_count; i++) {
        if (strcmp(c->lane[i].node, node) == 0 && strcmp(c->lane[i].store_url, store_url) == 0) {
            return &c->lane[i];
        }
    }
    return NULL;
}

/* --- loading -------------------------------------------------------------------------------------
 */

static enum dr_code parse_tuning(const char *text, struct dr_tuning *out, struct dr_err *err)
{
    json_t *j = NULL;
    dr_tuning_default(out);
    if (text == NULL || text[0] == '\0') {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("tuning", text, strlen(text), &j, err);
    if (rc == DR_OK) {
        rc = dr_tuning_parse(j, "tuning", out, err);
    }
    json_decref(j);
    return rc;
}

/* The guards of the job: how far it may stray from its plan. */
static enum dr_code parse_guards(const char *text, struct op_control *o, struct dr_err *err)
{
    json_t *j = NULL;
    struct dr_request *request = NULL;
    o->drift = 0.5;
    if (text == NULL || text[0] == '\0') {
        return DR_OK;
    }
    enum dr_code rc = dr_json_parse("job", text, strlen(text), &j, err);
    if (rc == DR_OK) {
        rc = dr_request_parse(j, "job", &request, err);
    }
    if (rc == DR_OK) {
        o->drift = request->drift;
        o->max_items = request->max_items;
    }
    dr_request_destroy(request);
    json_decref(j);
    return rc;
}

static uint64_t drift_limit_of(const struct op_control *o)
{
    uint64_t base = o->estimated > o->done ? o->estimated : o->done;
    return base + DRIFT_SLACK + (uint64_t)((double)base * o->drift);
}

/* Read texts only when they are new: tuning by its version, guards once. */
static enum dr_code load_texts(struct dr_control *c, struct op_control *o, struct dr_err *err)
{
    char *request = NULL;
    char *tuning = NULL;
    enum dr_code rc =
        dr_queue_texts(c->queue, o->op_id, o->is_loaded ? NULL : &request, NULL, &tuning, err);
    if (rc == DR_OK) {
        rc = parse_tuning(tuning, &o->tuning, err);
    }
    if (rc == DR_OK && !o->is_loaded) {
        rc = parse_guards(request, o, err);
    }
    if (rc == DR_OK && tuning != NULL && tuning[0] != '\0') {
        o->max_items = o->tuning.max_items; /* 0 is a word, too: it lifts the limit */
    }
    dr_free(request);
    dr_free(tuning);
    return rc;
}

static void store_op(struct dr_control *c, const struct op_control *fresh, const struct dr_op *op)
{
    struct op_control *o = find_op(c, fresh->op_id);
    if (o == NULL && c->op_count < CONTROL_OPS_MAX) {
        o = &c->op[c->op_count++];
        *o = *fresh;
        o->done = op->items_done;
        o->wish = op->wish;
        o->drift_limit = drift_limit_of(o);
    }
    if (o == NULL) {
        return; /* too many at once: workers load it again when they need it */
    }
    /* A person who lets it go on has seen how far it strayed. */
    bool is_resumed = o->wish != DR_WISH_RUN && op->wish == DR_WISH_RUN;
    o->wish = op->wish;
    o->tuning = fresh->tuning;
    o->tuning_version = op->tuning_version;
    o->max_items = fresh->max_items;
    o->is_loaded = true;
    o->has_ended = dr_op_status_is_final(op->status);
    if (is_resumed) {
        o->guard_reason[0] = '\0';
        o->drift_limit = drift_limit_of(o);
    }
}

enum dr_code dr_control_load(struct dr_control *c, int64_t op_id, struct dr_err *err)
{
    struct op_control fresh = {.op_id = op_id};
    struct dr_op *op = dr_calloc(1, sizeof *op);
    enum dr_code rc = op == NULL ? dr_fail_nomem(err) : dr_queue_op(c->queue, op_id, op, err);
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *known = find_op(c, op_id);
    if (known != NULL) {
        fresh = *known;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    if (rc == DR_OK && (!fresh.is_loaded || fresh.tuning_version != op->tuning_version)) {
        rc = load_texts(c, &fresh, err);
    }
    if (rc == DR_OK) {
        fresh.estimated = op->items_estimated;
        (void)pthread_mutex_lock(&c->mutex);
        store_op(c, &fresh, op);
        (void)pthread_mutex_unlock(&c->mutex);
    }
    dr_free(op);
    return rc;
}

bool dr_control_get(struct dr_control *c, int64_t op_id, struct op_control *out)
{
    (void)pthread_mutex_lock(&c->mutex);
    const struct op_control *o = find_op(c, op_id);
    if (o != NULL) {
        *out = *o;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return o != NULL;
}

/* --- why it waits --------------------------------------------------------------------------------
 */

static bool is_quiet(const struct op_control *o, char *why, size_t why_bytes)
{
    dr_wall_ms over = 0;
    char text[32];
    if (!dr_tuning_is_quiet(&o->tuning, dr_wall_now(), &over)) {
        return false;
    }
    if (why != NULL) {
        (void)snprintf(why, why_bytes, "quiet hours until %s",
                       dr_wall_text(over, text, sizeof text));
    }
    return true;
}

static void reason_of(struct dr_control *c, const struct op_control *o, char *why, size_t why_bytes)
{
    dr_mono_ms now = dr_mono_now();
    why[0] = '\0';
    if (o->guard_reason[0] != '\0') {
        dr_copy_text(why, why_bytes, o->guard_reason);
    } else if (c->global_reason[0] != '\0') {
        dr_copy_text(why, why_bytes, c->global_reason);
    } else if (!is_quiet(o, why, why_bytes)) {
        for (unsigned i = 0; i < c->lane_count; i++) {
            const struct lane_control *l = &c->lane[i];
            if (l->until > now && l->op_id == o->op_id) {
                (void)snprintf(why, why_bytes, "%s: %.400s", l->node, l->reason);
            }
        }
        if (why[0] == '\0' && o->held_until > now) {
            dr_copy_text(why, why_bytes, o->held_reason);
        }
    }
}

void dr_control_held(struct dr_control *c, int64_t op_id, uint64_t ms, const char *reason)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, op_id);
    if (o != NULL) {
        /* A moment longer, so that it does not flicker while the command is asked again. */
        o->held_until = dr_mono_now() + (dr_mono_ms)ms + CONTROL_REFRESH_MS;
        dr_copy_text(o->held_reason, sizeof o->held_reason, reason);
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

/* Operations that no worker has met yet shall know why, too. */
static void load_new(struct dr_control *c)
{
    struct dr_err err;
    uint32_t count = 0;
    if (c->only_op != 0) {
        enum dr_code rc = dr_control_load(c, c->only_op, &err);
        (void)rc; /* a queue that fails is noticed by the sweep */
        return;
    }
    struct dr_op *op = dr_malloc(LOOK_BACK_OPS * sizeof *op);
    enum dr_code rc =
        op == NULL ? DR_NOMEM : dr_queue_ops(c->queue, 0, op, LOOK_BACK_OPS, &count, &err);
    for (uint32_t i = 0; rc == DR_OK && i < count; i++) {
        (void)pthread_mutex_lock(&c->mutex);
        bool is_known = find_op(c, op[i].id) != NULL;
        (void)pthread_mutex_unlock(&c->mutex);
        if (!is_known && !dr_op_status_is_final(op[i].status) && op[i].status != DR_O_PLANNED) {
            rc = dr_control_load(c, op[i].id, &err);
        }
    }
    dr_free(op);
}

void dr_control_refresh(struct dr_control *c)
{
    int64_t id[CONTROL_OPS_MAX];
    unsigned count = 0;
    struct dr_err err;
    load_new(c);
    (void)pthread_mutex_lock(&c->mutex);
    for (; count < c->op_count; count++) {
        id[count] = c->op[count].op_id;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    for (unsigned i = 0; i < count; i++) {
        char why[DR_REASON_BYTES] = "";
        enum dr_code rc = dr_control_load(c, id[i], &err);
        (void)pthread_mutex_lock(&c->mutex);
        struct op_control *o = find_op(c, id[i]);
        if (o != NULL && rc == DR_OK) {
            reason_of(c, o, why, sizeof why);
        }
        if (o != NULL && (rc == DR_NOT_FOUND || (o->has_ended && o->reserved == 0))) {
            *o = c->op[--c->op_count];
        }
        (void)pthread_mutex_unlock(&c->mutex);
        if (rc == DR_OK) {
            dr_queue_waiting(c->queue, id[i], why);
        }
    }
}

bool dr_control_may_start(void *arg, int64_t op_id, const char *store_url, const char *node)
{
    struct dr_control *c = arg;
    (void)pthread_mutex_lock(&c->mutex);
    const struct op_control *o = find_op(c, op_id);
    const struct lane_control *l = find_lane(c, store_url, node);
    bool may = (c->only_op == 0 || c->only_op == op_id) && c->global_reason[0] == '\0' &&
               (l == NULL || l->until <= dr_mono_now()) &&
               (o == NULL || (o->guard_reason[0] == '\0' && !is_quiet(o, NULL, 0)));
    (void)pthread_mutex_unlock(&c->mutex);
    return may;
}

/* --- guards while running ------------------------------------------------------------------------
 */

/* `is_more` says that there are items which the limit does not allow any more. */
static void find_guard(struct op_control *o, bool is_more)
{
    char done[32];
    char limit[32];
    if (is_more && o->max_items > 0 && o->done >= o->max_items) {
        (void)snprintf(o->guard_reason, sizeof o->guard_reason,
                       "max_items reached: %s items are gone, %s are allowed; raise it with tune "
                       "--max-items, then resume",
                       dr_human_count(o->done, done, sizeof done),
                       dr_human_count(o->max_items, limit, sizeof limit));
    } else if (o->done > o->drift_limit) {
        (void)snprintf(o->guard_reason, sizeof o->guard_reason,
                       "drift: %s items are gone where the plan counted %s; look, then resume",
                       dr_human_count(o->done, done, sizeof done),
                       dr_human_count(o->estimated, limit, sizeof limit));
    }
}

static void pause_by_guard(struct dr_control *c, int64_t op_id, const char *why)
{
    struct dr_err err;
    enum dr_code rc = dr_queue_wish(c->queue, op_id, DR_WISH_PAUSE, "drover", why, &err);
    if (rc != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "a guard could not pause its operation", &err);
    }
    dr_log(c->log, DR_LOG_WARN, "paused by a guard", "op=%lld reason=%s", (long long)op_id, why);
}

void dr_control_spent(struct dr_control *c, int64_t op_id)
{
    char why[DR_REASON_BYTES] = "";
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, op_id);
    if (o != NULL && o->guard_reason[0] == '\0') {
        find_guard(o, true);
        dr_copy_text(why, sizeof why, o->guard_reason);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    if (why[0] != '\0') {
        pause_by_guard(c, op_id, why);
    }
}

uint64_t dr_control_reserve(struct dr_control *c, int64_t op_id, uint64_t want, char *why,
                            size_t why_bytes)
{
    uint64_t granted = want;
    bool is_new = false;
    why[0] = '\0';
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, op_id);
    if (o != NULL && o->guard_reason[0] == '\0') {
        find_guard(o, false);
        is_new = o->guard_reason[0] != '\0';
    }
    if (o != NULL && o->guard_reason[0] != '\0') {
        dr_copy_text(why, why_bytes, o->guard_reason);
        granted = 0;
    } else if (o != NULL) {
        uint64_t used = o->done + o->reserved + o->unseen;
        uint64_t left = o->max_items == 0 ? want : used < o->max_items ? o->max_items - used : 0;
        granted = want < left ? want : left;
        o->reserved += granted;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    if (is_new) {
        pause_by_guard(c, op_id, why);
    }
    return granted;
}

void dr_control_settle(struct dr_control *c, int64_t op_id, uint64_t reserved, uint64_t erased)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, op_id);
    if (o != NULL) {
        o->reserved -= reserved < o->reserved ? reserved : o->reserved;
        o->done += erased;
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

void dr_control_unseen(struct dr_control *c, const struct dr_lease *l, uint64_t items)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, l->op_id);
    for (unsigned i = 0; o != NULL && i < CONTROL_UNSEEN_MAX; i++) {
        if (c->unseen[i].step_id == 0) {
            c->unseen[i] = (struct unseen_erase){l->op_id, l->step_id, items};
            o->unseen += items;
            break;
        }
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

void dr_control_seen(struct dr_control *c, const struct dr_lease *l)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, l->op_id);
    for (unsigned i = 0; i < CONTROL_UNSEEN_MAX; i++) {
        struct unseen_erase *u = &c->unseen[i];
        if (u->step_id == l->step_id) {
            if (o != NULL) {
                o->unseen -= u->items < o->unseen ? u->items : o->unseen;
            }
            *u = (struct unseen_erase){0};
        }
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

/* --- rate ----------------------------------------------------------------------------------------
 */

int64_t dr_control_rate_wait_us(struct dr_control *c, int64_t op_id, int64_t now_us)
{
    (void)pthread_mutex_lock(&c->mutex);
    const struct op_control *o = find_op(c, op_id);
    bool is_limited = o != NULL && o->tuning.rate_items_s > 0;
    int64_t wait = is_limited && o->next_at_us > now_us ? o->next_at_us - now_us : 0;
    (void)pthread_mutex_unlock(&c->mutex);
    return wait;
}

void dr_control_rate_charge(struct dr_control *c, int64_t op_id, uint64_t items, int64_t now_us)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct op_control *o = find_op(c, op_id);
    if (o != NULL && o->tuning.rate_items_s > 0) {
        int64_t from = o->next_at_us > now_us ? o->next_at_us : now_us;
        o->next_at_us = from + (int64_t)((double)items * 1e6 / (double)o->tuning.rate_items_s);
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

/* --- nodes to leave alone ------------------------------------------------------------------------
 */

static struct lane_control *make_lane(struct dr_control *c, const struct dr_lease *l)
{
    struct lane_control *lane = find_lane(c, l->store_url, l->node);
    dr_mono_ms now = dr_mono_now();
    for (unsigned i = 0; lane == NULL && i < c->lane_count; i++) {
        lane = c->lane[i].until + LANE_FORGET_MS < now ? &c->lane[i] : NULL;
    }
    if (lane == NULL && c->lane_count < CONTROL_LANES_MAX) {
        lane = &c->lane[c->lane_count++];
    }
    if (lane != NULL &&
        (strcmp(lane->node, l->node) != 0 || strcmp(lane->store_url, l->store_url) != 0)) {
        *lane = (struct lane_control){0};
        dr_copy_text(lane->node, sizeof lane->node, l->node);
        dr_copy_text(lane->store_url, sizeof lane->store_url, l->store_url);
    }
    return lane;
}

void dr_control_lane_brake(struct dr_control *c, const struct dr_lease *l, uint64_t ms,
                           const char *reason, bool is_failure)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct lane_control *lane = make_lane(c, l);
    if (lane != NULL) {
        lane->until = dr_mono_now() + (dr_mono_ms)ms;
        lane->failures += is_failure;
        lane->op_id = l->op_id;
        dr_copy_text(lane->reason, sizeof lane->reason, reason);
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

uint32_t dr_control_lane_failures(struct dr_control *c, const struct dr_lease *l)
{
    (void)pthread_mutex_lock(&c->mutex);
    const struct lane_control *lane = find_lane(c, l->store_url, l->node);
    uint32_t failures = lane == NULL ? 0 : lane->failures;
    (void)pthread_mutex_unlock(&c->mutex);
    return failures;
}

void dr_control_lane_clear(struct dr_control *c, const struct dr_lease *l)
{
    (void)pthread_mutex_lock(&c->mutex);
    struct lane_control *lane = find_lane(c, l->store_url, l->node);
    if (lane != NULL) {
        lane->failures = 0;
        lane->until = 0;
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

void dr_control_global(struct dr_control *c, const char *reason)
{
    (void)pthread_mutex_lock(&c->mutex);
    dr_copy_text(c->global_reason, sizeof c->global_reason, reason);
    (void)pthread_mutex_unlock(&c->mutex);
}
