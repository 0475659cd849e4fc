/* SPDX-License-Identifier: Apache-2.0 */
/* The queue against a model of it: random events on several operations, and after each of them
 * every step stands where the model says, the counts agree and no step has moved along an arrow
 * that the table does not have. In the end every operation can be brought to an end. A failure
 * prints the seed; DROVER_TEST_SEED=n runs that one again. */
#include "base/clock.h"
#include "unit/queue_help.h"

enum { OPS = 3, STEPS = 9, HELD = 8, EVENTS = 400, ROUNDS = 6 };

struct model_step {
    int64_t id;
    enum dr_step_status status;
    bool is_undo, touched, ready;
    uint32_t stage;
    int32_t priority;
    int wait, undo_wait; /* places in the array, -1: none */
    char node[4];
    uint64_t done, undone;
};

struct model_op {
    int64_t id;
    enum dr_wish wish;
    bool is_rolling;
    int32_t priority;
    int steps;
    struct model_step step[STEPS];
};

struct held {
    struct dr_lease l;
    int op, step;
    bool is_used, is_stale;
};

struct sim {
    struct rig *r;
    uint64_t seed, random;
    int event;
    int ops;
    struct model_op op[OPS];
    struct model_op before[OPS];
    struct held held[HELD];
};

static uint32_t pick(struct sim *s, uint32_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)((s->random >> 20) % below);
}

static void expect(struct sim *s, bool is_true, const char *what, int op, int step)
{
    if (!is_true) {
        print_error("seed %llu, event %d, operation %d, step %d: %s\n", (unsigned long long)s->seed,
                    s->event, op, step + 1, what);
        fail();
    }
}

/* --- the model -------------------------------------------------------------------------------- */

static bool is_open(const struct model_step *t)
{
    return t->status == DR_S_CREATED || t->status == DR_S_FAILED ||
           (!t->is_undo &&
            (t->status == DR_S_LEASED || t->status == DR_S_WAITING || t->status == DR_S_UNKNOWN));
}

static bool is_undo_open(const struct model_step *t)
{
    return t->status == DR_S_UNDOING || t->status == DR_S_UNDO_FAILED ||
           (t->is_undo &&
            (t->status == DR_S_LEASED || t->status == DR_S_WAITING || t->status == DR_S_UNKNOWN));
}

static bool can_lease(const struct model_op *o, int n)
{
    const struct model_step *t = &o->step[n];
    if (o->wish == DR_WISH_RUN) {
        for (int i = 0; i < o->steps; i++) {
            if (is_open(&o->step[i]) && o->step[i].stage < t->stage) {
                return false;
            }
        }
        return (t->status == DR_S_CREATED && t->ready) || t->status == DR_S_UNKNOWN;
    }
    if (o->wish != DR_WISH_ROLLBACK) {
        return false;
    }
    for (int i = 0; i < o->steps; i++) {
        if ((is_open(&o->step[i]) || is_undo_open(&o->step[i])) && o->step[i].stage > t->stage) {
            return false;
        }
    }
    const struct model_step *w = t->undo_wait < 0 ? NULL : &o->step[t->undo_wait];
    return (t->is_undo && t->status == DR_S_UNKNOWN) ||
           (t->status == DR_S_UNDOING &&
            (w == NULL || w->status == DR_S_UNDONE || w->status == DR_S_CANCELLED));
}

/* Does a go before b, both of one operation and leasable? */
static bool goes_before(const struct model_step *a, const struct model_step *b)
{
    int nodes = strcmp(a->node, b->node);
    if (nodes != 0) {
        return nodes < 0;
    }
    if ((a->status == DR_S_UNKNOWN) != (b->status == DR_S_UNKNOWN)) {
        return a->status == DR_S_UNKNOWN;
    }
    if (a->status == DR_S_UNKNOWN) {
        return false; /* any of them */
    }
    if (a->is_undo) {
        return a->id > b->id;
    }
    return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
}

static void turn(struct model_step *t)
{
    t->is_undo = true;
    t->status = DR_S_UNDOING;
}

/* What a wish does to a step that nobody holds. */
static void settle(struct model_op *o)
{
    for (int i = 0; i < o->steps; i++) {
        struct model_step *t = &o->step[i];
        bool is_loose =
            t->status == DR_S_CREATED || t->status == DR_S_WAITING || t->status == DR_S_UNKNOWN;
        if (t->is_undo) {
            continue;
        }
        if (o->wish == DR_WISH_RUN && t->status == DR_S_CANCELLED) {
            t->status = DR_S_CREATED;
        } else if (o->wish == DR_WISH_STOP && is_loose) {
            t->status = DR_S_CANCELLED;
        } else if (o->wish == DR_WISH_ROLLBACK && t->status != DR_S_LEASED) {
            if (t->touched) {
                turn(t);
            } else {
                t->status = DR_S_CANCELLED;
            }
        }
    }
}

/* Where a step lands whose lease ends with `to`, given what is wished by now. */
static void land(struct model_op *o, struct model_step *t, enum dr_step_status to)
{
    t->status = to;
    if (t->is_undo) {
        return;
    }
    if (o->is_rolling) {
        turn(t);
    } else if (o->wish == DR_WISH_STOP && to != DR_S_PROCESSED && to != DR_S_FAILED) {
        t->status = DR_S_CANCELLED;
    }
}

/* --- checking --------------------------------------------------------------------------------- */

static bool has_path(enum dr_step_status from, bool is_undo, enum dr_step_status to, bool to_undo,
                     int depth)
{
    if (from == to && is_undo == to_undo) {
        return true;
    }
    for (int on = 0; depth > 0 && on < DR_EVENT_COUNT; on++) {
        enum dr_step_status next = from;
        if (dr_step_move(from, (enum dr_step_event)on, is_undo, &next) &&
            has_path(next, is_undo || on == DR_ON_UNDO, to, to_undo, depth - 1)) {
            return true;
        }
    }
    return false;
}

static void check_op(struct sim *s, int n)
{
    const struct model_op *o = &s->op[n];
    struct dr_op op = op_of(s->r, o->id);
    struct dr_step real[STEPS];
    uint64_t count[DR_S_COUNT] = {0};
    uint64_t done = 0;
    uint64_t undone = 0;
    uint32_t got = 0;
    OK(s->r, dr_queue_steps(s->r->q, o->id, DR_S_COUNT, 0, real, STEPS, &got, &s->r->err));
    expect(s, (int)got == o->steps, "the number of steps", n, -1);
    for (int i = 0; i < o->steps; i++) {
        const struct model_step *t = &o->step[i];
        const struct model_step *b = &s->before[n].step[i];
        if (real[i].status != t->status) {
            print_error("%s, not %s\n", dr_step_status_name(real[i].status),
                        dr_step_status_name(t->status));
        }
        expect(s, real[i].status == t->status, "the status", n, i);
        expect(s, has_path(b->status, b->is_undo, real[i].status, t->is_undo, 3),
               "moved along no arrow", n, i);
        count[real[i].status]++;
        done += real[i].done;
        undone += real[i].undone;
        expect(s, real[i].done == t->done && real[i].undone == t->undone, "the items", n, i);
    }
    for (int i = 0; i < DR_S_COUNT; i++) {
        expect(s, op.count[i] == count[i], "the count by status", n, i);
    }
    expect(s, op.items_done == done && op.items_undone == undone, "the sums", n, -1);
    expect(s, (op.ended_at > 0) == dr_op_status_is_final(op.status), "ended_at", n, -1);
    bool can_move = false;
    bool expected = false;
    OK(s->r, dr_queue_can_move(s->r->q, o->id, &can_move, &s->r->err));
    for (int i = 0; i < o->steps; i++) {
        const struct model_step *t = &o->step[i];
        bool is_wished = o->wish == DR_WISH_RUN || o->wish == DR_WISH_ROLLBACK;
        expected = expected || can_lease(o, i) || t->status == DR_S_LEASED ||
                   (is_wished && (t->status == DR_S_WAITING || t->status == DR_S_UNKNOWN));
    }
    expect(s, can_move == expected, "can_move", n, -1);
}

static void check_all(struct sim *s)
{
    for (int n = 0; n < s->ops; n++) {
        check_op(s, n);
    }
    memcpy(s->before, s->op, sizeof s->op);
    expect_counts_agree(s->r);
}

/* --- events ----------------------------------------------------------------------------------- */

static void put_one(struct sim *s)
{
    static const char *const nodes[] = {"s1", "s2"};
    struct model_op *o = &s->op[s->ops];
    struct dr_step real[STEPS];
    uint32_t got = 0;
    *o = (struct model_op){
        .wish = DR_WISH_RUN, .priority = (int32_t)pick(s, 3), .steps = 1 + (int)pick(s, STEPS)};
    for (int i = 0; i < o->steps; i++) {
        struct model_step *t = &o->step[i];
        uint32_t stage = i == 0 ? 1 : o->step[i - 1].stage + (pick(s, 4) == 0 ? 1 : 0);
        *t = (struct model_step){.stage = stage,
                                 .priority = (int32_t)pick(s, 2),
                                 .wait = i > 0 && pick(s, 3) == 0 ? (int)pick(s, (uint32_t)i) : -1,
                                 .undo_wait = -1};
        t->ready = t->wait < 0;
        if (t->wait >= 0 && pick(s, 2) == 0) {
            o->step[t->wait].undo_wait = i; /* what came after is undone before */
        }
        (void)snprintf(t->node, sizeof t->node, "%s", nodes[pick(s, 2)]);
    }
    for (int i = 0; i < o->steps; i++) {
        struct dr_plan_step *p = add(s->r, o->step[i].node, o->step[i].stage);
        p->priority = o->step[i].priority;
        p->wait_for = o->step[i].wait + 1;
        p->rollback_wait_for = o->step[i].undo_wait + 1;
    }
    s->r->put.priority = o->priority;
    o->id = put(s->r);
    OK(s->r, dr_queue_steps(s->r->q, o->id, DR_S_COUNT, 0, real, STEPS, &got, &s->r->err));
    for (int i = 0; i < o->steps; i++) {
        o->step[i].id = real[i].id;
    }
    s->before[s->ops] = *o;
    s->ops++;
}

static int best_op(const struct sim *s)
{
    int best = -1;
    for (int n = 0; n < s->ops; n++) {
        bool has_any = false;
        for (int i = 0; i < s->op[n].steps; i++) {
            has_any = has_any || can_lease(&s->op[n], i);
        }
        if (has_any && (best < 0 || s->op[n].priority > s->op[best].priority)) {
            best = n;
        }
    }
    return best;
}

static struct held *free_place(struct sim *s)
{
    for (int i = 0; i < HELD; i++) {
        if (!s->held[i].is_used) {
            return &s->held[i];
        }
    }
    return NULL;
}

/* Lease one and check that it is the right one; false when there was none. */
static bool lease_one(struct sim *s, struct held *h)
{
    int n = best_op(s);
    bool has_lease = lease(s->r, &h->l);
    expect(s, has_lease == (n >= 0), has_lease ? "leased too much" : "leased nothing", n, -1);
    if (!has_lease) {
        return false;
    }
    struct model_op *o = &s->op[n];
    expect(s, h->l.op_id == o->id, "leased from another operation", n, -1);
    int at = (int)(h->l.step_id - o->step[0].id);
    expect(s, at >= 0 && at < o->steps && can_lease(o, at), "leased what may not go", n, at);
    for (int i = 0; i < o->steps; i++) {
        expect(s, !can_lease(o, i) || !goes_before(&o->step[i], &o->step[at]), "leased out of turn",
               n, at);
    }
    struct model_step *t = &o->step[at];
    expect(s, h->l.is_undo == t->is_undo, "the direction", n, at);
    expect(s, t->status != DR_S_UNKNOWN || h->l.needs_probe, "not probed", n, at);
    expect(s, h->l.mark.done == t->done && h->l.mark.undone == t->undone, "the mark", n, at);
    t->status = DR_S_LEASED;
    t->touched = true;
    h->op = n;
    h->step = at;
    h->is_used = true;
    h->is_stale = false;
    return true;
}

static void mark_more(struct sim *s, struct held *h)
{
    *(h->l.is_undo ? &h->l.mark.undone : &h->l.mark.done) += pick(s, 4);
}

static void keep_mark(struct sim *s, const struct held *h)
{
    s->op[h->op].step[h->step].done = h->l.mark.done;
    s->op[h->op].step[h->step].undone = h->l.mark.undone;
}

static void save_one(struct sim *s, struct held *h)
{
    mark_more(s, h);
    enum dr_code rc = dr_queue_save(s->r->q, &h->l, LEASE_MS, true, &s->r->err);
    expect(s, rc == (h->is_stale ? DR_LOST : DR_OK), "the save", h->op, h->step);
    if (!h->is_stale) {
        keep_mark(s, h);
    }
}

static void finish_one(struct sim *s, struct held *h, enum dr_outcome outcome)
{
    static const enum dr_step_status forward[] = {DR_S_PROCESSED, DR_S_CREATED, DR_S_WAITING,
                                                  DR_S_UNKNOWN, DR_S_FAILED};
    static const enum dr_step_status undo[] = {DR_S_UNDONE, DR_S_UNDOING, DR_S_WAITING,
                                               DR_S_UNKNOWN, DR_S_UNDO_FAILED};
    struct dr_finish f = {.outcome = outcome, .error = "it broke"};
    bool is_durable = pick(s, 2) == 0;
    mark_more(s, h);
    enum dr_code rc = dr_queue_finish(s->r->q, &h->l, &f, is_durable, &s->r->err);
    if (rc == DR_OK && !is_durable) {
        rc = dr_queue_flush(s->r->q, &s->r->err);
    }
    expect(s, rc == (h->is_stale ? DR_LOST : DR_OK), "the finish", h->op, h->step);
    if (!h->is_stale) {
        struct model_op *o = &s->op[h->op];
        struct model_step *t = &o->step[h->step];
        keep_mark(s, h);
        for (int i = 0; !t->is_undo && outcome == DR_OUT_DONE && i < o->steps; i++) {
            o->step[i].ready = o->step[i].ready || o->step[i].wait == h->step;
        }
        land(o, t, t->is_undo ? undo[outcome] : forward[outcome]);
    }
    dr_lease_fini(&h->l);
    h->is_used = false;
}

static void make_stale(struct sim *s)
{
    for (int i = 0; i < HELD; i++) {
        s->held[i].is_stale = true;
    }
}

static void sweep_all(struct sim *s)
{
    (void)sweep_late(s->r);
    make_stale(s);
    for (int n = 0; n < s->ops; n++) {
        for (int i = 0; i < s->op[n].steps; i++) {
            struct model_step *t = &s->op[n].step[i];
            if (t->status == DR_S_LEASED) {
                land(&s->op[n], t, DR_S_UNKNOWN);
            } else if (t->status == DR_S_WAITING) {
                t->status = t->is_undo ? DR_S_UNDOING : DR_S_CREATED;
            }
        }
    }
}

static void crash(struct sim *s)
{
    reopen_queue(s->r);
    make_stale(s);
    for (int n = 0; n < s->ops; n++) {
        for (int i = 0; i < s->op[n].steps; i++) {
            struct model_step *t = &s->op[n].step[i];
            t->status = t->status == DR_S_LEASED ? DR_S_UNKNOWN : t->status;
        }
        settle(&s->op[n]);
    }
}

static bool may_wish(const struct model_op *o, enum dr_wish w, enum dr_op_status status)
{
    switch (w) {
    case DR_WISH_RUN:
        return status != DR_O_DONE && status != DR_O_ROLLED_BACK && status != DR_O_ROLLING_BACK &&
               status != DR_O_ROLLBACK_BLOCKED;
    case DR_WISH_PAUSE:
        return !dr_op_status_is_final(status) && status != DR_O_STOPPING;
    case DR_WISH_STOP:
        return status != DR_O_DONE && status != DR_O_ROLLED_BACK && !o->is_rolling;
    case DR_WISH_ROLLBACK:
        return status != DR_O_ROLLED_BACK;
    case DR_WISH_HOLD:
    case DR_WISH_COUNT:
        break;
    }
    return false;
}

static void wish_one(struct sim *s, int n, enum dr_wish w)
{
    struct model_op *o = &s->op[n];
    enum dr_op_status status = op_of(s->r, o->id).status;
    enum dr_code rc = dr_queue_wish(s->r->q, o->id, w, "bob", "", &s->r->err);
    expect(s, rc == (may_wish(o, w, status) ? DR_OK : DR_REFUSED), dr_wish_name(w), n, -1);
    if (rc == DR_OK) {
        o->wish = w == DR_WISH_RUN && o->is_rolling ? DR_WISH_ROLLBACK : w;
        o->is_rolling = o->is_rolling || w == DR_WISH_ROLLBACK;
        settle(o);
    }
}

static void redrive_one(struct sim *s, int n)
{
    struct model_op *o = &s->op[n];
    uint64_t count = 0;
    uint64_t expected = 0;
    for (int i = 0; i < o->steps; i++) {
        struct model_step *t = &o->step[i];
        bool is_stuck = t->status == DR_S_FAILED || t->status == DR_S_UNDO_FAILED;
        expected += is_stuck;
        t->status = !is_stuck ? t->status : t->is_undo ? DR_S_UNDOING : DR_S_CREATED;
    }
    if (expected > 0) {
        settle(o);
    }
    OK(s->r, dr_queue_redrive(s->r->q, o->id, 0, "bob", &count, &s->r->err));
    expect(s, count == expected, "the number of redriven steps", n, -1);
}

/* --- a run ------------------------------------------------------------------------------------ */

static void one_event(struct sim *s)
{
    uint32_t what = pick(s, 100);
    struct held *h = &s->held[pick(s, HELD)];
    int n = (int)pick(s, (uint32_t)s->ops);
    if (what < 40) {
        struct held *place = free_place(s);
        if (place != NULL) {
            (void)lease_one(s, place);
        }
    } else if (what < 75 && h->is_used) {
        uint32_t outcome = pick(s, 9);
        finish_one(s, h, outcome > DR_OUT_QUARANTINE ? DR_OUT_DONE : (enum dr_outcome)outcome);
    } else if (what < 82 && h->is_used) {
        save_one(s, h);
    } else if (what < 88) {
        sweep_all(s);
    } else if (what < 90) {
        crash(s);
    } else if (what < 93) {
        redrive_one(s, n);
    } else if (what < 94) {
        wish_one(s, n, DR_WISH_ROLLBACK);
    } else if (what < 97) {
        wish_one(s, n, DR_WISH_RUN);
    } else {
        wish_one(s, n, pick(s, 3) == 0 ? DR_WISH_STOP : DR_WISH_PAUSE);
    }
}

static void run_to_the_end(struct sim *s)
{
    struct held h = {0};
    for (int i = 0; i < HELD; i++) {
        if (s->held[i].is_used) {
            finish_one(s, &s->held[i], DR_OUT_RELEASE);
        }
    }
    for (int n = 0; n < s->ops; n++) {
        redrive_one(s, n);
        wish_one(s, n, pick(s, 2) == 0 ? DR_WISH_RUN : DR_WISH_ROLLBACK);
    }
    for (int i = 0; i < OPS; i++) {
        sweep_all(s);
        check_all(s);
        while (lease_one(s, &h)) {
            finish_one(s, &h, DR_OUT_DONE);
            check_all(s);
        }
    }
    expect_idle(s->r, true);
    for (int n = 0; n < s->ops; n++) {
        const struct model_op *o = &s->op[n];
        enum dr_op_status status = op_of(s->r, o->id).status;
        expect(s, status == (o->is_rolling ? DR_O_ROLLED_BACK : DR_O_DONE), "no end", n, -1);
        for (int i = 0; i < o->steps; i++) {
            enum dr_step_status end = !o->is_rolling       ? DR_S_PROCESSED
                                      : o->step[i].touched ? DR_S_UNDONE
                                                           : DR_S_CANCELLED;
            expect(s, o->step[i].status == end, "another end", n, i);
        }
    }
}

static void simulate(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->r = make_rig();
    s->seed = seed;
    s->random = seed * 0x9e3779b97f4a7c15ULL + 1;
    for (int i = 0; i < OPS; i++) {
        put_one(s);
    }
    for (s->event = 0; s->event < EVENTS; s->event++) {
        one_event(s);
        check_all(s);
    }
    run_to_the_end(s);
    free_rig(s->r);
    free(s);
}

static void random_events_leave_the_queue_as_the_model_says(void **state)
{
    (void)state;
    const char *given = getenv("DROVER_TEST_SEED");
    if (given != NULL) {
        simulate(strtoull(given, NULL, 10));
        return;
    }
    uint64_t seed = (uint64_t)dr_wall_now();
    print_message("seeds 1 to %d and %llu\n", ROUNDS - 1, (unsigned long long)seed);
    for (uint64_t i = 1; i < ROUNDS; i++) {
        simulate(i);
    }
    simulate(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_events_leave_the_queue_as_the_model_says),
    };
    return cmocka_run_group_tests_name("queue_sim", tests, NULL, NULL);
}
