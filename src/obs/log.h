/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log: one line per change of state, for people or as JSON.
 *
 * main creates it and hands it down. One write() per line, so lines of several processes do not
 * mix. Any thread may log; blocks for the write. Nothing here allocates after creation, so it can
 * still speak when memory is short. No secrets and no user rows: see dr_url_redact(). */
#ifndef DR_OBS_LOG_H
#define DR_OBS_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/err.h"

/* error: a person must act; warn: drover copes; info: states; debug: batches. */
enum dr_log_level { DR_LOG_ERROR, DR_LOG_WARN, DR_LOG_INFO, DR_LOG_DEBUG };

enum {
    DR_LOG_LINE_BYTES_MAX = 8192,  /* fields that do not fit are left out, and the line says so */
    DR_LOG_VALUE_BYTES_MAX = 2048, /* a longer text value is cut */
    DR_LOG_REPEAT_MS = 5000,       /* within it the same event is counted instead of written */
};

/* All zero is a good start, apart from the level: standard error, for people, real clocks. */
struct dr_log_config {
    enum dr_log_level level; /* the least important level still written */
    bool is_json;
    bool is_cloud; /* with is_json: the names cloud log collectors expect, "time", "severity" and
                      "message" for "at", "level" and "event" */
    int fd;        /* borrowed; 0 means standard error */
    dr_wall_ms (*wall_now)(void *arg); /* NULL: the real clock */
    dr_mono_ms (*mono_now)(void *arg); /* NULL: the real clock */
    void *clock_arg;
};

struct dr_log;

/* DR_NOMEM is the only failure; *log_out is NULL then. */
DR_MUST enum dr_code dr_log_create(const struct dr_log_config *config, struct dr_log **log_out,
                                   struct dr_err *err);
/* Says the counts of repeats still open. NULL is allowed and does nothing. */
void dr_log_destroy(struct dr_log *l);

/* Write one event. `pairs` is "key=%conversion" items separated by blanks, for example
 *
 *     dr_log(l, DR_LOG_INFO, "step done", "step=%lld rows=%zu node=%s ms=%.1f", ...);
 *
 * Conversions: %d %i %u %x with hh, h, l, ll, z, j; %f %g %e with a precision; %c; %s (NULL is
 * shown as "-"). A word without a conversion is a text value ("from=leased"). Blanks and `%` cannot
 * stand inside the format's own words. `l` may be NULL: then nothing happens. */
void dr_log(struct dr_log *l, enum dr_log_level level, const char *event, const char *pairs, ...)
    DR_PRINTF(4, 5);
/* An event without fields (an empty format would be a compiler warning). */
void dr_log_event(struct dr_log *l, enum dr_log_level level, const char *event);
/* An event that carries a failure: fields code= and msg=. */
void dr_log_err(struct dr_log *l, enum dr_log_level level, const char *event,
                const struct dr_err *err);

/* Say the counts of repeats whose window is over; loops call it now and then. NULL does nothing. */
void dr_log_tick(struct dr_log *l);

/* Would this level be written? Saves the work of preparing fields. False for NULL. */
bool dr_log_is_on(const struct dr_log *l, enum dr_log_level level);

/* "error", "warn", "info", "debug"; false for anything else. */
bool dr_log_level_parse(const char *text, enum dr_log_level *level_out);
const char *dr_log_level_name(enum dr_log_level level);

/* `url` without its password, in `buf`; returns buf. "mongodb://u:***@host/db". Also hides the
 * value of password=, passwd=, pass=, pwd=, secret=, token= in a query or a key=value list. When in
 * doubt (a password with @ or / in it) it hides more rather than less. */
char *dr_url_redact(const char *url, char *buf, size_t buf_bytes);

#endif
