/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the arithmetic of progress and its text form. Pure; no thread of its own.
 *
 * The rate is the mean of a sliding window and not an exponential one: a stall then shows within
 * the window as a falling rate, and is forgotten after it. */
#include "obs/progress.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum { BAR_CELLS_MAX = 30, BAR_CELLS_MIN = 8, PART_BYTES = 160 };

void dr_progress_init(struct dr_progress *p)
{
    *p = (struct dr_progress){0};
}

/* Forget samples that left the window, but keep one at or before its border to measure from. */
static void drop_old_samples(struct dr_progress *p, dr_mono_ms now)
{
    unsigned gone = 0;
    while (gone + 1 < p->samples_count && now - p->samples[gone + 1].at >= DR_PROGRESS_WINDOW_MS) {
        gone++;
    }
    if (gone == 0 && p->samples_count == DR_PROGRESS_SAMPLES_MAX) {
        gone = 1;
    }
    if (gone > 0) {
        p->samples_count -= gone;
        memmove(p->samples, p->samples + gone, p->samples_count * sizeof p->samples[0]);
    }
}

void dr_progress_feed(struct dr_progress *p, dr_mono_ms now, uint64_t done, uint64_t total)
{
    const struct dr_progress_sample *last =
        p->samples_count == 0 ? NULL : &p->samples[p->samples_count - 1];
    if (last != NULL && (now < last->at || done < p->done)) {
        p->samples_count = 0;
        last = NULL;
    }
    p->done = done;
    p->total = total;
    p->is_fed = true;
    if (p->reason[0] != '\0') {
        return; /* what trickles in while waiting says nothing about the speed of running */
    }
    if (last == NULL || now - last->at >= DR_PROGRESS_SAMPLE_MS) {
        drop_old_samples(p, now);
        assert(p->samples_count < DR_PROGRESS_SAMPLES_MAX);
        p->samples[p->samples_count++] = (struct dr_progress_sample){.at = now, .done = done};
    }
}

void dr_progress_wait(struct dr_progress *p, const char *reason)
{
    dr_copy_text(p->reason, sizeof p->reason, reason[0] == '\0' ? "paused" : reason);
    p->samples_count = 0;
}

void dr_progress_resume(struct dr_progress *p)
{
    if (p->reason[0] == '\0') {
        return;
    }
    p->reason[0] = '\0';
    p->samples_count = 0;
}

void dr_progress_finish(struct dr_progress *p)
{
    p->is_finished = true;
    p->reason[0] = '\0';
}

/* Items per second since the oldest sample still in the window; false before a second is over. */
static bool measure_rate(const struct dr_progress *p, dr_mono_ms now, double *per_s_out)
{
    unsigned from = 0;
    while (from + 1 < p->samples_count && now - p->samples[from + 1].at >= DR_PROGRESS_WINDOW_MS) {
        from++;
    }
    if (p->samples_count == 0 || now - p->samples[from].at < DR_PROGRESS_SAMPLE_MS) {
        return false;
    }
    double seconds = (double)(now - p->samples[from].at) / 1000.0;
    *per_s_out = (double)(p->done - p->samples[from].done) / seconds;
    return true;
}

struct dr_progress_view dr_progress_view(const struct dr_progress *p, dr_mono_ms now)
{
    struct dr_progress_view v = {0};
    if (p->total > 0) {
        v.is_percent_known = true;
        v.is_over = p->done > p->total;
        v.percent = v.is_over ? 100.0 : 100.0 * (double)p->done / (double)p->total;
        if (p->done < p->total && v.percent > 99.9) {
            v.percent = 99.9; /* 100 is a promise that nothing is left */
        }
    }
    if (p->reason[0] != '\0' || p->is_finished) {
        return v;
    }
    v.is_rate_known = measure_rate(p, now, &v.per_s);
    if (p->total > 0 && p->done == p->total) {
        v.is_eta_known = true;
    } else if (v.is_percent_known && !v.is_over && v.is_rate_known && v.per_s > 0) {
        double ms = (double)(p->total - p->done) / v.per_s * 1000.0;
        v.is_eta_known = ms < 1e15; /* beyond any calendar it is not a forecast */
        v.eta_ms = v.is_eta_known ? (uint64_t)ms : 0;
    }
    return v;
}

static void write_percent(const struct dr_progress_view *v, char *buf, size_t buf_bytes)
{
    if (!v->is_percent_known) {
        dr_copy_text(buf, buf_bytes, "unknown %");
    } else if (v->is_over) {
        dr_copy_text(buf, buf_bytes, "100+%");
    } else {
        /* Cut, not rounded: 42.39 is not yet 42.4, and 99.96 is not 100.0. */
        unsigned tenths = (unsigned)(v->percent * 10.0 + 1e-9);
        (void)snprintf(buf, buf_bytes, "%3u.%u%%", tenths / 10, tenths % 10);
    }
}

static void write_counts(const struct dr_progress *p, char *buf, size_t buf_bytes)
{
    char done[32];
    char total[32];
    (void)dr_human_count(p->done, done, sizeof done);
    (void)dr_human_count(p->total, total, sizeof total);
    (void)snprintf(buf, buf_bytes, "%s%s%s", done, p->total > 0 ? "/" : "",
                   p->total > 0 ? total : "");
}

static void write_rate(const struct dr_progress_view *v, char *buf, size_t buf_bytes)
{
    char rounded[32];
    buf[0] = '\0';
    if (!v->is_rate_known) {
        return;
    }
    if (v->per_s >= 10 || v->per_s <= 0) {
        (void)dr_human_count((uint64_t)(v->per_s + 0.5), rounded, sizeof rounded);
    } else {
        (void)snprintf(rounded, sizeof rounded, "%.1f", v->per_s);
    }
    (void)snprintf(buf, buf_bytes, "%s/s", rounded);
}

static void write_end(const struct dr_progress *p, const struct dr_progress_view *v, char *buf,
                      size_t buf_bytes)
{
    char eta[32];
    if (p->is_finished) {
        dr_copy_text(buf, buf_bytes, "finished");
    } else if (p->reason[0] != '\0') {
        (void)snprintf(buf, buf_bytes, "waiting: %s", p->reason);
    } else if (v->is_eta_known) {
        (void)snprintf(buf, buf_bytes, "ETA %s", dr_human_ms(v->eta_ms, eta, sizeof eta));
    } else {
        dr_copy_text(buf, buf_bytes, "ETA unknown");
    }
}

/* Columns, not bytes: a reason may hold UTF-8. */
static size_t count_columns(const char *text)
{
    size_t columns = 0;
    for (; *text != '\0'; text++) {
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return columns;
}

static void cut_columns(char *text, size_t width)
{
    size_t columns = 0;
    for (; *text != '\0'; text++) {
        if (((unsigned char)*text & 0xc0) != 0x80 && columns++ == width) {
            *text = '\0';
            return;
        }
    }
}

static void write_bar(const struct dr_progress_view *v, size_t cells, char *buf)
{
    size_t filled = v->is_percent_known ? (size_t)(v->percent / 100.0 * (double)cells) : 0;
    buf[0] = '[';
    memset(buf + 1, v->is_percent_known ? '.' : '-', cells);
    memset(buf + 1, '#', filled);
    memcpy(buf + 1 + cells, "] ", 3);
}

char *dr_progress_line(const struct dr_progress *p, dr_mono_ms now, unsigned width, char *buf,
                       size_t buf_bytes)
{
    assert(buf_bytes > 0);
    struct dr_progress_view v = dr_progress_view(p, now);
    char percent[16];
    char counts[72];
    char rate[40];
    char end[PART_BYTES];
    write_percent(&v, percent, sizeof percent);
    write_counts(p, counts, sizeof counts);
    write_rate(&v, rate, sizeof rate);
    write_end(p, &v, end, sizeof end);

    size_t columns = strlen(percent) + 2 + strlen(counts);
    size_t rate_columns = rate[0] == '\0' ? 0 : 2 + strlen(rate);
    size_t end_columns = 2 + count_columns(end);
    /* A reason to wait is what the reader needs most: it is cut at the width, never dropped. */
    bool has_end = columns + end_columns <= width || p->reason[0] != '\0';
    columns += has_end ? end_columns : 0;
    bool has_rate = rate_columns > 0 && columns + rate_columns <= width;
    columns += has_rate ? rate_columns : 0;

    char bar[BAR_CELLS_MAX + 4] = "";
    size_t left = width > columns ? width - columns : 0;
    if (left >= BAR_CELLS_MIN + 3) {
        write_bar(&v, left - 3 < BAR_CELLS_MAX ? left - 3 : BAR_CELLS_MAX, bar);
    }
    (void)snprintf(buf, buf_bytes, "%s%s  %s%s%s%s%s", bar, percent, counts, has_rate ? "  " : "",
                   has_rate ? rate : "", has_end ? "  " : "", has_end ? end : "");
    cut_columns(buf, width);
    return buf;
}
