/* SPDX-License-Identifier: Apache-2.0 */
/* Progress of a long run: percent, rate over the last 30 seconds and time left, and one text line
 * of it. Pure: time comes in as an argument; nothing here reads a clock, locks or allocates.
 * A struct dr_progress is a plain value that belongs to one thread at a time. */
#ifndef DR_OBS_PROGRESS_H
#define DR_OBS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

enum {
    DR_PROGRESS_WINDOW_MS = 30000,
    DR_PROGRESS_SAMPLE_MS = 1000, /* samples are at least this far apart */
    DR_PROGRESS_SAMPLES_MAX = 32,
    DR_PROGRESS_REASON_BYTES = 96,
    DR_PROGRESS_LINE_BYTES = 512, /* enough for any width up to 120 */
};

struct dr_progress_sample {
    dr_mono_ms at;
    uint64_t done;
};

struct dr_progress {
    uint64_t done;
    uint64_t total; /* 0: unknown */
    bool is_fed;
    bool is_finished;
    char reason[DR_PROGRESS_REASON_BYTES];                      /* why it waits; "" while it runs */
    struct dr_progress_sample samples[DR_PROGRESS_SAMPLES_MAX]; /* oldest first */
    unsigned samples_count;
};

struct dr_progress_view {
    bool is_percent_known; /* false when the total is unknown */
    bool is_over;          /* more done than the total promised: shown as "100+%" */
    double percent;        /* 0..100; below 100 until everything is done */
    bool is_rate_known;
    double per_s;
    bool is_eta_known; /* false when waiting, without a rate, a total, or when over the total */
    uint64_t eta_ms;
};

void dr_progress_init(struct dr_progress *p);
/* Tell the state at `now`. A `done` or a `now` that goes back starts the measuring anew. */
void dr_progress_feed(struct dr_progress *p, dr_mono_ms now, uint64_t done, uint64_t total);
/* It waits for `reason` (copied); the rate is measured anew after dr_progress_resume(). */
void dr_progress_wait(struct dr_progress *p, const char *reason);
void dr_progress_resume(struct dr_progress *p);
/* Nothing more will come. */
void dr_progress_finish(struct dr_progress *p);

struct dr_progress_view dr_progress_view(const struct dr_progress *p, dr_mono_ms now);

/* One line of at most `width` columns, without a line end; returns buf. Parts that do not fit are
 * left out: first the bar, then the rate, then the time left. */
char *dr_progress_line(const struct dr_progress *p, dr_mono_ms now, unsigned width, char *buf,
                       size_t buf_bytes);

#endif
