/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the one moment in which a shard changes its holders, there and back. The catalog decides
 * what is still to be done: before its switch everything is undone on a failure, behind it the step
 * only goes forward. Both directions may be repeated after a death at any line.
 *
 * Why no acknowledged write is lost: a writer writes to all holders of the map it read and is
 * acknowledged by the last. The old holders refuse writes from the fence on, so what is
 * acknowledged is in the source, or its key in the source's log, before the log is followed to its
 * end; the new holders are equal to the source before the catalog names them; and until the old
 * ones are out of use they stay fenced, whatever map a writer still has.
 *
 * Reading all of a big shard would hold its writers for too long. It was compared range by range
 * before (verify.c), and what was written since is in the log: under the fence only its beginning
 * is looked at, for a TRUNCATE leaves no trace in some logs. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/backoff.h"
#include "base/fault.h"
#include "store/fleet/fleet_private.h"

enum {
    BATCH_ROWS = 1000,
    BATCH_BYTES = 64 << 20,
    AGREE_MS = 5000,
    AGREE_PAUSE_MS = 50,
    UNFENCE_WAIT_MS = 10000,
    ALL_MAX = 2 * FL_NAMES_MAX,
};

/* Whom the catalog names now. */
enum place { PLACE_FROM, PLACE_TO };

struct turn {
    struct fl_fleet *f;
    const struct fl_command *c;
    bool is_back;
    const char *home;   /* of the step: the holder whose changes the copy was made by */
    const char *source; /* whose log is followed; NULL: nothing new is made, nothing is followed */
    bool is_source_first; /* it is the first holder afterwards as well: its log serves both ways */
    uint64_t rows_most;   /* of any node */
    uint32_t all_count;   /* nodes that answer, the source left out */
    const char *all[ALL_MAX];
    struct fl_names gone; /* leaving holders that do not answer */
    dr_mono_ms until;
};

/* ---- the catalog ---- */

static bool are_holders(const json_t *holders, const struct fl_names *names)
{
    if (json_array_size(holders) != names->count) {
        return false;
    }
    for (uint32_t i = 0; i < names->count; i++) {
        const char *name = json_string_value(json_array_get(holders, i));
        if (name == NULL || strcmp(name, names->name[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Of those the shard goes back to, the ones that were there when the step was planned: a dead node
 * that comes back later has old rows and may not become a holder again. */
static struct fl_names living_of(const struct fl_command *c)
{
    struct fl_names living = {0};
    for (uint32_t i = 0; i < c->from.count; i++) {
        if (!fl_has_name(&c->dead, c->from.name[i])) {
            living.name[living.count++] = c->from.name[i];
        }
    }
    return living;
}

static enum dr_code read_place(struct fl_fleet *f, const struct fl_command *c, enum place *out,
                               struct dr_err *err)
{
    json_t *record = NULL;
    size_t i;
    const json_t *one;
    const json_t *holders = NULL;
    struct fl_names living = living_of(c);
    *out = PLACE_FROM;
    enum dr_code rc = fl_read_record(f, c->shard.table, &record, err);
    if (rc != DR_OK) {
        return rc;
    }
    json_array_foreach(json_object_get(record, "shards"), i, one)
    {
        if (strcmp(fl_text(one, "table"), c->shard.name) == 0 &&
            (uint64_t)json_integer_value(json_object_get(one, "shard")) == c->number) {
            holders = json_object_get(one, "holders");
        }
    }
    if (strcmp(fl_text(record, "uuid"), c->shard.owner) != 0 ||
        strcmp(fl_text(record, "operation"), c->shard.operation) != 0) {
        rc = dr_fail(err, DR_CONFLICT, "table %s is not held by this operation any more: %s",
                     c->shard.table,
                     fl_text(record, "operation")[0] == '\0' ? "nobody holds it"
                                                             : fl_text(record, "operation"));
    } else if (are_holders(holders, &c->to)) {
        *out = PLACE_TO;
    } else if (!are_holders(holders, &c->from) && !are_holders(holders, &living)) {
        rc = dr_fail(err, DR_CONFLICT, "shard %s is held by other nodes than this step knows of",
                     c->shard.name);
    }
    json_decref(record);
    return rc;
}

static json_t *list_names(const struct fl_names *names)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < names->count; i++) {
        if (json_array_append_new(list, json_string(names->name[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *make_entry(const struct fl_command *c, const struct fl_names *from,
                          const struct fl_names *to)
{
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "v", 1, "op", "table_switch",
                     "name", c->shard.table, "uuid", c->shard.owner, "operation",
                     c->shard.operation, "shard", (json_int_t)c->number, "from", list_names(from),
                     "to", list_names(to));
}

/* Refused by the catalog's state: whatever was asked for earlier has been decided by then. */
static bool is_decided(enum dr_code rc)
{
    return rc == DR_CONFLICT || rc == DR_REFUSED || rc == DR_NOT_FOUND;
}

/* Where the shard is, and will stay: an earlier try may have asked for the switch and died before
 * the answer. A switch to where it is comes behind that one in the catalog's log and changes
 * nothing; only then may a fence be taken down. */
static enum dr_code find_place(struct fl_fleet *f, const struct fl_command *c, enum place *out,
                               struct dr_err *err)
{
    enum dr_code rc = read_place(f, c, out, err);
    if (rc != DR_OK || *out == PLACE_TO) {
        return rc;
    }
    json_t *entry = make_entry(c, &c->from, &c->from);
    rc = entry == NULL ? dr_fail_nomem(err) : f->catalog->change(f->catalog->arg, entry, err);
    json_decref(entry);
    return rc == DR_OK || is_decided(rc) ? read_place(f, c, out, err) : rc;
}

/* Have the catalog name the others. *is_open_out: it may still happen, so the fences have to stay
 * up: a writer with the old map must not be acknowledged by nodes that are about to lose the shard.
 */
static enum dr_code agree(struct turn *t, bool *is_open_out, struct dr_err *err)
{
    const struct fl_command *c = t->c;
    struct fl_names living = living_of(c);
    json_t *entry = t->is_back ? make_entry(c, &c->to, &living) : make_entry(c, &c->from, &c->to);
    enum place wanted = t->is_back ? PLACE_FROM : PLACE_TO;
    enum place place = wanted;
    enum dr_code rc = entry == NULL ? dr_fail_nomem(err) : DR_UNKNOWN;
    dr_mono_ms until = dr_mono_now() + AGREE_MS;
    *is_open_out = false;
    while (rc == DR_UNKNOWN) {
        rc = t->f->catalog->change(t->f->catalog->arg, entry, err);
        if (rc == DR_OK || is_decided(rc) ||
            (dr_code_retry(rc) == DR_RETRY_NEVER && !*is_open_out)) {
            *is_open_out = false;
            break;
        }
        *is_open_out = true;
        if (read_place(t->f, c, &place, NULL) == DR_OK && place == wanted) {
            rc = DR_OK;
        } else if (dr_mono_now() >= until) {
            rc = dr_fail(err, DR_BUSY,
                         "the catalog has not said whether shard %s is switched; its writes wait "
                         "until it does",
                         c->shard.name);
        } else {
            rc = DR_UNKNOWN;
            (void)dr_wait_ms(AGREE_PAUSE_MS, NULL, NULL);
        }
    }
    json_decref(entry);
    return rc;
}

/* ---- nodes ---- */

static enum dr_code open_node(struct turn *t, const char *node, struct dr_store **out,
                              struct dr_err *err)
{
    return fl_open_node(t->f, t->c->shard.table, node, out, err);
}

static enum dr_code fence(struct turn *t, const char *node, bool is_on, uint32_t wait_ms,
                          struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = open_node(t, node, &s, err);
    return rc == DR_OK ? fl_note(t->f, node, dr_shard_fence(s, &t->c->shard, is_on, wait_ms, err))
                       : rc;
}

static enum dr_code hold(struct turn *t, const char *node, bool is_on, struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = open_node(t, node, &s, err);
    return rc == DR_OK ? fl_note(t->f, node, dr_shard_hold(s, &t->c->shard, is_on, err)) : rc;
}

static enum dr_code capture(struct turn *t, const char *node, bool is_on, struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = open_node(t, node, &s, err);
    return rc == DR_OK ? fl_note(t->f, node, dr_shard_capture(s, &t->c->shard, is_on, err)) : rc;
}

static enum dr_code is_captured(struct turn *t, const char *node, bool *out, struct dr_err *err)
{
    struct dr_store *s = NULL;
    struct dr_shard_facts facts = {0};
    enum dr_code rc = open_node(t, node, &s, err);
    rc = rc == DR_OK ? fl_note(t->f, node, dr_shard_facts(s, &t->c->shard, &facts, err)) : rc;
    *out = rc == DR_OK && facts.is_captured && facts.is_owned;
    t->rows_most = facts.rows > t->rows_most ? facts.rows : t->rows_most;
    return rc;
}

/* Does the shard leave this node when it goes from -> to? */
static bool is_leaving(const struct turn *t, const char *node)
{
    return fl_has_name(&t->c->from, node) && !fl_has_name(&t->c->to, node);
}

static bool is_gone(const struct turn *t, const char *node)
{
    return fl_has_name(&t->gone, node);
}

/* Meet all nodes, before the clock runs: connections are made, the dead are known. A leaving holder
 * that is dead takes no writes; all others have to answer. Nothing may come back to a dead one. */
static enum dr_code meet(struct turn *t, struct dr_err *err)
{
    const struct fl_names *both[2] = {&t->c->from, &t->c->to};
    bool is_on = false;
    for (int side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < both[side]->count; i++) {
            const char *node = both[side]->name[i];
            if (side == 1 && fl_has_name(&t->c->from, node)) {
                continue;
            }
            if (fl_has_name(&t->c->dead, node)) {
                t->gone.name[t->gone.count++] = node;
                continue;
            }
            enum dr_code rc = is_captured(t, node, &is_on, err);
            if (rc == DR_UNREACHABLE && is_leaving(t, node) && !t->is_back) {
                t->gone.name[t->gone.count++] = node;
                continue;
            }
            if (rc != DR_OK) {
                return rc;
            }
            /* The first log found; that of the first new holder only where there is no other. */
            if (is_on && side == 0 && (t->source == NULL || t->is_source_first)) {
                t->is_source_first = strcmp(node, t->c->to.name[0]) == 0;
                t->source = node;
            }
        }
    }
    return DR_OK;
}

static bool has_new_holder(const struct fl_command *c)
{
    for (uint32_t i = 0; i < c->to.count; i++) {
        if (!fl_has_name(&c->from, c->to.name[i])) {
            return true;
        }
    }
    return false;
}

static enum dr_code choose_source(struct turn *t, struct dr_err *err)
{
    if (t->source == NULL && !t->is_back && has_new_holder(t->c)) {
        return dr_fail(err, DR_CONFLICT,
                       "shard %s: no holder captures its changes, so new holders cannot be known "
                       "to be complete",
                       t->c->shard.name);
    }
    if (t->is_back) { /* the log of the new first holder leads back */
        t->source = t->c->to.name[0];
    }
    const struct fl_names *both[2] = {&t->c->from, &t->c->to};
    for (int side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < both[side]->count; i++) {
            const char *node = both[side]->name[i];
            bool is_again = side == 1 && fl_has_name(&t->c->from, node);
            bool is_source = t->source != NULL && strcmp(node, t->source) == 0;
            if (!is_again && !is_source && !is_gone(t, node)) {
                t->all[t->all_count++] = node;
            }
        }
    }
    return DR_OK;
}

/* ---- writes are held ---- */

static enum dr_code time_left(const struct turn *t, uint32_t *out, struct dr_err *err)
{
    dr_mono_ms left = t->until - dr_mono_now();
    *out = left > 0 ? (uint32_t)left : 0;
    return left > 0
               ? DR_OK
               : dr_fail(err, DR_BUSY,
                         "shard %s: writes were held for %" PRIu64 " ms and the rest could not "
                         "be followed in that time; they go on, and this is tried again",
                         t->c->shard.name, t->c->fence_ms);
}

static enum dr_code fence_all(struct turn *t, const struct fl_names *names, const char *point,
                              struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    t->until = dr_mono_now() + (dr_mono_ms)t->c->fence_ms;
    for (uint32_t i = 0; rc == DR_OK && i < names->count; i++) {
        uint32_t left = 0;
        if (is_gone(t, names->name[i])) {
            continue;
        }
        rc = time_left(t, &left, err);
        rc = rc == DR_OK ? fence(t, names->name[i], true, left, err) : rc;
        rc = rc == DR_OK ? dr_fault_pass(point, err) : rc;
    }
    return rc;
}

/* Bring everything the source has logged to all others: to those that stay as well, for a writer
 * that was refused half-way has written to some of them only. */
static enum dr_code follow_to_end(struct turn *t, struct dr_err *err)
{
    struct dr_store *source = NULL;
    struct dr_store *target[ALL_MAX];
    uint64_t applied = 0;
    uint64_t log_left = 1;
    if (t->source == NULL || t->all_count == 0) {
        return DR_OK;
    }
    enum dr_code rc = open_node(t, t->source, &source, err);
    for (uint32_t i = 0; rc == DR_OK && i < t->all_count; i++) {
        rc = open_node(t, t->all[i], &target[i], err);
    }
    while (rc == DR_OK && log_left > 0) {
        uint32_t left = 0;
        struct dr_budget budget = {.items_max = BATCH_ROWS, .bytes_max = BATCH_BYTES};
        rc = time_left(t, &left, err);
        budget.ms_max = left;
        rc = rc == DR_OK ? dr_shard_follow(source, target, t->all_count, &t->c->shard, &budget,
                                           &applied, &log_left, err)
                         : rc;
    }
    return rc;
}

static enum dr_code read_digest(struct turn *t, const char *node, struct dr_shard_digest *out,
                                struct dr_err *err)
{
    struct dr_store *s = NULL;
    enum dr_code rc = open_node(t, node, &s, err);
    return rc == DR_OK ? fl_note(t->f, node, dr_shard_digest(s, &t->c->shard, out, err)) : rc;
}

/* A holder that stays and differs has missed, or alone has, writes that nobody was told are done:
 * it gets the source's rows, as far as the time allows. */
static enum dr_code repair(struct turn *t, const char *node, struct dr_err *err)
{
    struct dr_store *source = NULL;
    struct dr_store *target = NULL;
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    bool is_end = false;
    enum dr_code rc = cursor == NULL ? dr_fail_nomem(err) : open_node(t, t->source, &source, err);
    rc = rc == DR_OK ? open_node(t, node, &target, err) : rc;
    while (rc == DR_OK && !is_end) {
        uint32_t left = 0;
        uint64_t rows = 0;
        uint64_t bytes = 0;
        struct dr_budget budget = {.items_max = BATCH_ROWS, .bytes_max = BATCH_BYTES};
        rc = time_left(t, &left, err);
        budget.ms_max = left;
        rc = rc == DR_OK ? dr_shard_copy(source, &target, 1, &t->c->shard, &budget, cursor, &rows,
                                         &bytes, &is_end, err)
                         : rc;
    }
    dr_free(cursor);
    return rc;
}

static bool is_same(const struct dr_shard_digest *a, const struct dr_shard_digest *b)
{
    return a->rows == b->rows && strcmp(a->text, b->text) == 0;
}

static enum dr_code compare_one(struct turn *t, const char *node,
                                const struct dr_shard_digest *wanted, struct dr_err *err)
{
    struct dr_shard_digest have;
    bool is_staying = fl_has_name(&t->c->from, node) && fl_has_name(&t->c->to, node);
    enum dr_code rc = read_digest(t, node, &have, err);
    if (rc == DR_OK && !is_same(&have, wanted) && is_staying) {
        rc = repair(t, node, err);
        rc = rc == DR_OK ? read_digest(t, node, &have, err) : rc;
    }
    return rc != DR_OK || is_same(&have, wanted)
               ? rc
               : dr_fail(err, DR_CONFLICT,
                         "shard %s: node %s has %" PRIu64 " rows (%.16s), node %s has %" PRIu64
                         " rows (%.16s); they must be equal before the one stands for the other",
                         t->c->shard.name, t->source, wanted->rows, wanted->text, node, have.rows,
                         have.text);
}

/* The first row of a new holder is the source's first row, or both have none. */
static enum dr_code compare_begin(struct turn *t, const char *node, struct dr_err *err)
{
    struct dr_store *source = NULL;
    struct dr_store *target = NULL;
    struct dr_shard_compared seen = {0};
    struct dr_budget budget = {.items_max = 1, .bytes_max = BATCH_BYTES};
    uint32_t left = 0;
    if (fl_has_name(&t->c->from, node) && fl_has_name(&t->c->to, node)) {
        return DR_OK; /* it was a holder all the time */
    }
    struct dr_cursor *cursor = dr_calloc(1, sizeof *cursor);
    enum dr_code rc = cursor == NULL ? dr_fail_nomem(err) : time_left(t, &left, err);
    budget.ms_max = left;
    rc = rc == DR_OK ? open_node(t, t->source, &source, err) : rc;
    rc = rc == DR_OK ? open_node(t, node, &target, err) : rc;
    rc = rc == DR_OK ? fl_note(t->f, node,
                               dr_shard_compare(source, &target, 1, &t->c->shard, &budget, cursor,
                                                &seen, err))
                     : rc;
    dr_free(cursor);
    return rc != DR_OK || !seen.is_different
               ? rc
               : dr_fail(err, DR_CONFLICT,
                         "shard %s: row contents differ: node %s does not begin with the row that "
                         "node %s begins with (%s). A TRUNCATE?",
                         t->c->shard.name, node, t->source, seen.range);
}

/* Whoever shall hold the shard has what the source has. */
static enum dr_code compare(struct turn *t, const struct fl_names *names, struct dr_err *err)
{
    struct dr_shard_digest wanted = {0};
    uint32_t left = 0;
    bool is_big = t->rows_most > FL_DIGEST_ROWS_MAX;
    if (t->source == NULL) {
        return DR_OK;
    }
    enum dr_code rc = is_big ? DR_OK : read_digest(t, t->source, &wanted, err);
    for (uint32_t i = 0; rc == DR_OK && i < names->count; i++) {
        const char *node = names->name[i];
        if (strcmp(node, t->source) != 0) {
            rc = is_big ? compare_begin(t, node, err) : compare_one(t, node, &wanted, err);
        }
        rc = rc == DR_OK ? time_left(t, &left, err) : rc;
    }
    return rc;
}

static enum dr_code pass(enum dr_code rc, const char *point, struct dr_err *err)
{
    return rc == DR_OK ? dr_fault_pass(point, err) : rc;
}

/* ---- there ---- */

/* Behind the switch: who stays takes writes again, who leaves is put out of use, still fenced. One
 * that is dead is out of use anyway; what it has is cleaned up when it comes back. */
static enum dr_code settle(struct turn *t, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < t->c->to.count; i++) {
        rc = fence(t, t->c->to.name[i], false, UNFENCE_WAIT_MS, err);
        rc = pass(rc, "fleet.cutover.unfenced", err);
    }
    for (uint32_t i = 0; rc == DR_OK && i < t->c->from.count; i++) {
        const char *node = t->c->from.name[i];
        if (is_leaving(t, node)) {
            rc = is_gone(t, node) ? DR_OK : hold(t, node, true, err);
            rc = rc == DR_UNREACHABLE || rc == DR_NOT_FOUND ? DR_OK : rc;
            rc = pass(rc, "fleet.cutover.held", err);
        }
    }
    return rc;
}

/* Nothing has been switched: writes go on where they were. Says so in the message when it cannot be
 * done; the step is repeated or undone, and both take the fences down. */
static void let_go(struct turn *t, bool is_capture_ours, struct dr_err *err)
{
    struct dr_err other;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < t->c->from.count; i++) {
        if (!is_gone(t, t->c->from.name[i])) {
            enum dr_code one = fence(t, t->c->from.name[i], false, UNFENCE_WAIT_MS, &other);
            rc = one == DR_OK ? rc : one;
        }
    }
    if (is_capture_ours) {
        enum dr_code one = capture(t, t->c->to.name[0], false, &other);
        rc = one == DR_OK ? rc : one;
    }
    if (rc != DR_OK) {
        dr_wrap(err, "writes may still be held, too (%.120s)", other.msg);
    }
}

static enum dr_code prepare(struct turn *t, bool *is_capture_ours, struct dr_err *err)
{
    enum dr_code rc = fence_all(t, &t->c->from, "fleet.cutover.fenced", err);
    rc = rc == DR_OK ? follow_to_end(t, err) : rc;
    rc = pass(rc, "fleet.cutover.followed", err);
    rc = rc == DR_OK ? compare(t, &t->c->to, err) : rc;
    rc = pass(rc, "fleet.cutover.compared", err);
    /* From here on the new first holder logs what comes, so that the way back loses nothing. */
    if (rc == DR_OK && !t->is_source_first) {
        *is_capture_ours = true;
        rc = capture(t, t->c->to.name[0], true, err);
    }
    return pass(rc, "fleet.cutover.captured", err);
}

enum dr_code fl_cutover(struct fl_fleet *f, const struct fl_command *c, struct dr_err *err)
{
    struct turn t = {.f = f, .c = c};
    enum place place = PLACE_FROM;
    bool is_capture_ours = false;
    bool is_open = false;
    enum dr_code rc = find_place(f, c, &place, err);
    rc = pass(rc, "fleet.cutover.begin", err);
    if (rc != DR_OK) {
        return rc;
    }
    if (place == PLACE_TO) {
        return settle(&t, err);
    }
    rc = meet(&t, err);
    rc = rc == DR_OK ? choose_source(&t, err) : rc;
    if (rc != DR_OK) {
        let_go(&t, false, err); /* an earlier try may have died with the fences up */
        return rc;
    }
    rc = prepare(&t, &is_capture_ours, err);
    rc = rc == DR_OK ? agree(&t, &is_open, err) : rc;
    if (rc != DR_OK) {
        if (!is_open) {
            let_go(&t, is_capture_ours, err);
        }
        return rc;
    }
    fl_forget_record(f);
    rc = pass(rc, "fleet.cutover.switched", err);
    return rc == DR_OK ? settle(&t, err) : rc;
}

/* ---- and back ---- */

/* Still fenced, so that nothing is between the two logs: the one that led back goes, and the one
 * that copies are followed from is there again, for an out of use table has none. Its step's undo
 * takes it away, or the step that is done again needs it. */
static enum dr_code change_logs(struct turn *t, struct dr_err *err)
{
    const char *first = t->c->to.name[0];
    bool is_home = fl_has_name(&t->c->from, t->home) && !fl_has_name(&t->c->dead, t->home);
    enum dr_code rc = is_home ? capture(t, t->home, true, err) : DR_OK;
    rc = pass(rc, "fleet.cutback.captured", err);
    if (rc == DR_OK && strcmp(first, t->home) != 0) {
        rc = capture(t, first, false, err);
    }
    return pass(rc, "fleet.cutback.uncaptured", err);
}

/* In use and, at the end, open to writers again. One that was dead when the step was planned may
 * be so still: then the switch has never left it. */
static enum dr_code reopen(struct turn *t, const char *node, bool is_end, struct dr_err *err)
{
    enum dr_code rc =
        is_end ? fence(t, node, false, UNFENCE_WAIT_MS, err) : hold(t, node, false, err);
    if (rc == DR_UNREACHABLE && fl_has_name(&t->c->dead, node)) {
        dr_err_clear(err);
        return DR_OK;
    }
    return rc;
}

/* The catalog names the old holders: they take writes. The nodes that lose the shard stay fenced:
 * what a writer with the late map brings them would be lost. */
static enum dr_code settle_back(struct turn *t, struct dr_err *err)
{
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; rc == DR_OK && i < t->c->from.count; i++) {
        rc = reopen(t, t->c->from.name[i], false, err);
    }
    rc = rc == DR_OK ? change_logs(t, err) : rc;
    for (uint32_t i = 0; rc == DR_OK && i < t->c->from.count; i++) {
        rc = reopen(t, t->c->from.name[i], true, err);
        rc = pass(rc, "fleet.cutback.unfenced", err);
    }
    return rc;
}

/* The switch has not been taken back: the new holders go on. */
static void let_go_back(struct turn *t, struct dr_err *err)
{
    struct dr_err other;
    enum dr_code rc = DR_OK;
    for (uint32_t i = 0; i < t->c->from.count; i++) {
        if (is_leaving(t, t->c->from.name[i]) && !is_gone(t, t->c->from.name[i])) {
            enum dr_code one = hold(t, t->c->from.name[i], true, &other);
            rc = one == DR_OK || one == DR_NOT_FOUND ? rc : one;
        }
    }
    for (uint32_t i = 0; i < t->c->to.count; i++) {
        enum dr_code one = fence(t, t->c->to.name[i], false, UNFENCE_WAIT_MS, &other);
        rc = one == DR_OK ? rc : one;
    }
    if (rc != DR_OK) {
        dr_wrap(err, "writes may still be held, too (%.120s)", other.msg);
    }
}

static enum dr_code prepare_back(struct turn *t, struct dr_err *err)
{
    const struct fl_names living = living_of(t->c);
    uint32_t left = 0;
    enum dr_code rc = fence_all(t, &t->c->to, "fleet.cutback.fenced", err);
    for (uint32_t i = 0; rc == DR_OK && i < t->c->from.count; i++) {
        const char *node = t->c->from.name[i];
        if (is_leaving(t, node) && !is_gone(t, node)) {
            rc = hold(t, node, false, err);
            rc = rc == DR_OK ? time_left(t, &left, err) : rc;
            rc = rc == DR_OK ? fence(t, node, true, left, err) : rc; /* it was; to be sure */
            rc = pass(rc, "fleet.cutback.unheld", err);
        }
    }
    rc = rc == DR_OK ? follow_to_end(t, err) : rc;
    rc = pass(rc, "fleet.cutback.followed", err);
    rc = rc == DR_OK ? compare(t, &living, err) : rc;
    return pass(rc, "fleet.cutback.compared", err);
}

enum dr_code fl_cutback(struct fl_fleet *f, const struct fl_command *c, const char *node,
                        struct dr_err *err)
{
    struct turn t = {.f = f, .c = c, .home = node, .is_back = true};
    enum place place = PLACE_FROM;
    bool is_open = false;
    enum dr_code rc = find_place(f, c, &place, err);
    rc = pass(rc, "fleet.cutback.begin", err);
    if (rc != DR_OK) {
        return rc;
    }
    if (place == PLACE_FROM) {
        return settle_back(&t, err);
    }
    rc = meet(&t, err);
    rc = rc == DR_OK ? choose_source(&t, err) : rc;
    rc = rc == DR_OK ? prepare_back(&t, err) : rc;
    rc = rc == DR_OK ? agree(&t, &is_open, err) : rc;
    if (rc != DR_OK) {
        if (!is_open) {
            let_go_back(&t, err);
        }
        return rc;
    }
    fl_forget_record(f);
    rc = pass(rc, "fleet.cutback.switched", err);
    return rc == DR_OK ? settle_back(&t, err) : rc;
}
