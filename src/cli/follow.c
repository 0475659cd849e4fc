/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the foreground: runs the pool or looks on, shows progress, says how it ended. The pool calls
 * its tick on this thread, so nothing here is shared. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli_private.h"
#include "obs/progress.h"
#include "verbs/mirror.h"
#include "worker/worker.h"

enum {
    POLL_MS = 100,
    LOOK_MS = 1000,        /* look again even if the queue says that nothing changed */
    PLAIN_FIRST_MS = 1000, /* the first line where there is no terminal to redraw */
    PLAIN_LINE_MS = 5000,  /* and between the others */
    WIDTH_DEFAULT = 80,
    WIDTH_MAX = 120,
};

struct watcher {
    struct dr_cli *c;
    int64_t op_id; /* 0: nothing to show */
    bool is_shown; /* not --quiet, and an operation to show */
    bool is_terminal;
    bool is_line_open; /* the cursor stands behind a progress line */
    bool is_seen;      /* op holds something */
    struct dr_progress progress;
    uint64_t version;
    dr_mono_ms looked_at, line_at;
    struct dr_op op;
};

static void start_watcher(struct watcher *w, struct dr_cli *c, int64_t op_id)
{
    memset(w, 0, sizeof *w);
    w->c = c;
    w->op_id = op_id;
    w->is_shown = !c->is_quiet && op_id != 0;
    w->is_terminal = isatty(STDERR_FILENO) != 0;
    w->line_at = dr_mono_now() - PLAIN_LINE_MS + PLAIN_FIRST_MS;
    dr_progress_init(&w->progress);
}

static unsigned terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) {
        return WIDTH_DEFAULT;
    }
    return size.ws_col > WIDTH_MAX ? WIDTH_MAX : size.ws_col - 1U;
}

static void show_line(struct watcher *w, dr_mono_ms now)
{
    char line[DR_PROGRESS_LINE_BYTES];
    const char *text = dr_progress_line(
        &w->progress, now, w->is_terminal ? terminal_width() : WIDTH_MAX, line, sizeof line);
    if (w->is_terminal) {
        /* Erase what a longer line before left behind. */
        (void)fprintf(stderr, "\r%s\033[K", text);
        w->is_line_open = true;
    } else if (now - w->line_at >= PLAIN_LINE_MS) {
        (void)fprintf(stderr, "%s %s: %s\n", w->op.target, dr_op_status_name(w->op.status), text);
        w->line_at = now;
    }
    (void)fflush(stderr);
}

static void close_line(struct watcher *w)
{
    if (w->is_line_open) {
        (void)fputc('\n', stderr);
        w->is_line_open = false;
    }
}

/* Read the operation if anything changed. A failing read is told by the caller's own calls later;
 * progress is not worth ending a run for. */
static bool refresh(struct watcher *w, dr_mono_ms now)
{
    uint64_t version = 0;
    struct dr_err ignored = {0};
    bool is_due = !w->is_seen || now - w->looked_at >= LOOK_MS;
    if (!is_due) {
        enum dr_code rc = dr_queue_version(w->c->queue, &version, &ignored);
        if (rc == DR_OK && version == w->version) {
            return false;
        }
        w->version = version;
    }
    w->looked_at = now;
    struct dr_op seen;
    if (dr_queue_op(w->c->queue, w->op_id, &seen, &ignored) != DR_OK) {
        return false;
    }
    w->op = seen;
    w->is_seen = true;
    return true;
}

static void on_tick(void *arg)
{
    struct watcher *w = arg;
    uint64_t done = 0;
    uint64_t total = 0;
    dr_mono_ms now = dr_mono_now();
    if (!w->is_shown) {
        return;
    }
    (void)refresh(w, now);
    if (!w->is_seen) {
        return;
    }
    dr_show_progress_of(&w->op, &done, &total);
    dr_progress_feed(&w->progress, now, done, total);
    if (w->op.waiting[0] != '\0') {
        dr_progress_wait(&w->progress, w->op.waiting);
    } else if (w->progress.reason[0] != '\0') {
        dr_progress_resume(&w->progress);
    }
    show_line(w, now);
}

/* From here on Ctrl-C means: end the batch at hand. A reader of our output that went away must not
 * kill work half way either. */
void dr_cli_become_graceful(struct dr_cli *c)
{
    (void)signal(SIGPIPE, SIG_IGN);
    atomic_store(&c->stop->is_graceful, true);
}

static enum dr_code fail_interrupted(const struct dr_cli *c, int64_t op_id, struct dr_err *err)
{
    if (op_id == 0) {
        return dr_fail(err, DR_STOPPED, "interrupted; go on with: drover work");
    }
    struct dr_op op;
    struct dr_err ignored = {0};
    bool is_undo =
        dr_queue_op(c->queue, op_id, &op, &ignored) == DR_OK && op.wish == DR_WISH_ROLLBACK;
    return dr_fail(err, DR_STOPPED, "interrupted; go on with: drover %s %lld",
                   is_undo ? "rollback" : "run", (long long)op_id);
}

static enum dr_code run_pool(struct watcher *w, bool is_forever, struct dr_err *err)
{
    struct dr_cli *c = w->c;
    struct dr_mirror *mirror = NULL;
    struct dr_err own = {0};
    const struct dr_mirror_config mirrored = {.queue = c->queue, .log = c->log};
    const struct dr_pool_config pool = {
        .queue = c->queue,
        .log = c->log,
        .threads = c->config.threads,
        .world = &c->world,
        .until_op = w->op_id,
        .is_forever = is_forever,
        .ask_stop = &c->stop->is_asked,
        .tick = on_tick,
        .tick_arg = w,
    };
    if (dr_mirror_start(&mirrored, &mirror, &own) != DR_OK) {
        dr_log_err(c->log, DR_LOG_WARN, "nobody keeps status records", &own);
    }
    enum dr_code rc = dr_pool_run(&pool, err);
    if (rc == DR_OK && w->is_shown && w->is_terminal) {
        w->is_seen = false;
        on_tick(w); /* the last state, not the one of 200 ms ago */
    }
    close_line(w);
    dr_mirror_stop(mirror); /* by now the final state is in the queue */
    return rc;
}

/* The two events that frame a run in the log. */
static void log_begin(struct dr_cli *c, int64_t op_id)
{
    struct dr_op op;
    struct dr_err ignored = {0};
    if (op_id != 0 && dr_queue_op(c->queue, op_id, &op, &ignored) == DR_OK) {
        dr_cli_log_begin(c, op.kind, op.target, op_id);
    }
}

static void log_end(struct dr_cli *c, int64_t op_id, dr_mono_ms begin)
{
    struct dr_op op;
    struct dr_err ignored = {0};
    if (op_id != 0 && dr_queue_op(c->queue, op_id, &op, &ignored) == DR_OK) {
        dr_cli_log_end(c, op_id, dr_op_status_name(op.status), begin);
    }
}

enum dr_code dr_cli_pool(struct dr_cli *c, int64_t op_id, bool is_forever, struct dr_err *err)
{
    struct watcher w;
    dr_mono_ms begin = dr_mono_now();
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_cli_log(c, op_id != 0 ? DR_LOG_WARN : DR_LOG_INFO, err);
    if (rc == DR_OK) {
        rc = dr_cli_world(c, false, err); /* it costs nothing before somebody asks it */
    }
    if (rc != DR_OK) {
        return rc;
    }
    start_watcher(&w, c, op_id);
    dr_cli_become_graceful(c);
    log_begin(c, op_id);
    rc = run_pool(&w, is_forever, err);
    log_end(c, op_id, begin);
    if (op_id != 0) {
        dr_cli_say_account(c, op_id);
    }
    if (rc == DR_STOPPED || (rc == DR_OK && is_forever && atomic_load(&c->stop->is_asked))) {
        rc = fail_interrupted(c, op_id, err);
    }
    return rc;
}

static bool is_asked(void *arg)
{
    const struct dr_cli *c = arg;
    return atomic_load(&c->stop->is_asked);
}

enum dr_code dr_cli_follow(struct dr_cli *c, int64_t op_id, bool *ended_out, struct dr_err *err)
{
    struct watcher w;
    char holder[DR_NAME_BYTES];
    enum dr_code rc = DR_OK;
    start_watcher(&w, c, op_id);
    *ended_out = false;
    dr_cli_become_graceful(c);
    c->place = DR_AT_DATA;
    do {
        if (refresh(&w, dr_mono_now()) && dr_op_status_is_resting(w.op.status)) {
            *ended_out = true;
            break;
        }
        on_tick(&w);
    } while (!dr_wait_ms(POLL_MS, is_asked, c) &&
             dr_queue_is_owned(c->queue, holder, sizeof holder));
    close_line(&w);
    if (atomic_load(&c->stop->is_asked)) {
        rc = dr_fail(err, DR_STOPPED,
                     "no longer looking on; the operation itself goes on: drover status %lld",
                     (long long)op_id);
    }
    return rc;
}

/* One line for people: what happened, to how much, and what may come next. */
static void say_ending(struct dr_cli *c, const struct dr_op *op)
{
    char done[32];
    char undone[32];
    char conflicts[32];
    char took[32];
    dr_wall_ms from = op->started_at != 0 ? op->started_at : op->created_at;
    dr_wall_ms upto = op->ended_at != 0 ? op->ended_at : dr_wall_now();
    dr_cli_say(c, "operation %lld (%s %s) is %s: %s items %s, %s put back, %s conflicts, %s",
               (long long)op->id, op->kind, op->target, dr_op_status_name(op->status),
               dr_human_count(op->items_done, done, sizeof done), dr_show_done_word(op),
               dr_human_count(op->items_undone, undone, sizeof undone),
               dr_human_count(op->items_conflict, conflicts, sizeof conflicts),
               dr_human_ms(upto > from ? (uint64_t)(upto - from) : 0, took, sizeof took));
    switch (op->status) {
    case DR_O_BLOCKED:
    case DR_O_ROLLBACK_BLOCKED:
        dr_cli_say(c, "see drover quarantine list %lld; then drover quarantine retry %lld",
                   (long long)op->id, (long long)op->id);
        break;
    case DR_O_PAUSED:
    case DR_O_PAUSING:
    case DR_O_STOPPED:
    case DR_O_STOPPING:
        dr_cli_say(c, "%s%sgo on with: drover run %lld", op->wish_reason,
                   op->wish_reason[0] != '\0' ? "; " : "", (long long)op->id);
        break;
    case DR_O_DONE:
        if (dr_show_is_undo_possible(op) && op->archive_until == 0) {
            dr_cli_say(c, "it can be undone: drover rollback %lld", (long long)op->id);
        } else if (dr_show_is_undo_possible(op)) {
            char until[40];
            dr_cli_say(c, "until %s it can be undone: drover rollback %lld",
                       dr_show_when(op->archive_until, until, sizeof until), (long long)op->id);
        }
        break;
    case DR_O_PLANNED:
    case DR_O_QUEUED:
    case DR_O_RUNNING:
    case DR_O_ROLLING_BACK:
    case DR_O_ROLLED_BACK:
    case DR_O_COUNT:
        break;
    }
}

enum dr_code dr_cli_conclude(struct dr_cli *c, int64_t op_id, bool is_undo_asked, int *exit_out,
                             struct dr_err *err)
{
    struct dr_op op;
    c->place = DR_AT_DATA;
    enum dr_code rc = dr_queue_op(c->queue, op_id, &op, err);
    if (rc != DR_OK) {
        return rc;
    }
    *exit_out = (int)dr_exit_of_status(op.status, is_undo_asked);
    say_ending(c, &op);
    if (!dr_op_status_is_resting(op.status) && *exit_out == DR_EXIT_FAILED) {
        (void)fprintf(stderr,
                      "drover: work ended while operation %lld is %s; go on with: drover "
                      "%s %lld\n",
                      (long long)op_id, dr_op_status_name(op.status),
                      is_undo_asked ? "rollback" : "run", (long long)op_id);
    }
    if (*exit_out == DR_EXIT_BLOCKED && c->is_quiet) {
        (void)fprintf(stderr, "drover: operation %lld is %s; see drover explain %lld\n",
                      (long long)op_id, dr_op_status_name(op.status), (long long)op_id);
    }
    return c->is_json ? dr_cli_put_json(dr_show_op_json(&op), err) : DR_OK;
}
