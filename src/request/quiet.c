/* SPDX-License-Identifier: Apache-2.0 */
/* Quiet windows: their text form, and which instants they cover. Pure but for the time zone
 * "local", which is the process's. A wall clock time that a change to winter time makes happen
 * twice counts at its first happening as a start and at its last as an end: rather too quiet than
 * too loud. */
#include "request/tuning_private.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
    DAYS = 7,
    ALL_DAYS = 0x7f,
    DAY_MINUTES = 24 * 60,
    UNION_DAYS_MAX = 7,
    SHIFT_STEP_S = 30 * 60,
    SHIFT_MAX_S = 2 * 60 * 60,
};

static const char *const day_names[DAYS] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

/* ---- text ---- */

static bool read_digits(const char **at, unsigned *out)
{
    const char *s = *at;
    if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9') {
        return false;
    }
    *out = (unsigned)(s[0] - '0') * 10 + (unsigned)(s[1] - '0');
    *at += 2;
    return true;
}

bool dr_tuning_read_time(const char **at, unsigned *minutes_out)
{
    unsigned hours = 0;
    unsigned minutes = 0;
    if (!read_digits(at, &hours) || **at != ':') {
        return false;
    }
    (*at)++;
    if (!read_digits(at, &minutes) || minutes > 59) {
        return false;
    }
    *minutes_out = hours * 60 + minutes;
    return *minutes_out <= DAY_MINUTES;
}

static bool read_day(const char **at, unsigned *day_out)
{
    char name[4] = {0};
    for (size_t i = 0; i < 3; i++) {
        if ((*at)[i] == '\0') {
            return false;
        }
        name[i] = (*at)[i];
    }
    for (unsigned d = 0; d < DAYS; d++) {
        if (dr_glob_match(day_names[d], name)) { /* ignores case */
            *day_out = d;
            *at += 3;
            return true;
        }
    }
    return false;
}

/* "Mon", "Mon-Fri", "Sat,Sun", "Fri-Mon,Wed"; the blank behind it belongs to it. */
static bool read_days(const char **at, uint8_t *days_out)
{
    unsigned days = 0;
    for (;;) {
        unsigned from = 0;
        if (!read_day(at, &from)) {
            return false;
        }
        unsigned upto = from;
        if (**at == '-') {
            (*at)++;
            if (!read_day(at, &upto)) {
                return false;
            }
        }
        for (unsigned d = from;; d = (d + 1) % DAYS) {
            days |= 1u << d;
            if (d == upto) {
                break;
            }
        }
        if (**at != ',') {
            break;
        }
        (*at)++;
    }
    *days_out = (uint8_t)days;
    if (**at != ' ') {
        return false;
    }
    (*at)++;
    return true;
}

bool dr_tuning_read_quiet(const char *text, struct dr_quiet *out)
{
    const char *at = text;
    uint8_t days = ALL_DAYS;
    unsigned from = 0;
    unsigned upto = 0;
    if ((*at < '0' || *at > '9') && !read_days(&at, &days)) {
        return false;
    }
    if (!dr_tuning_read_time(&at, &from) || from == DAY_MINUTES || *at != '-') {
        return false;
    }
    at++;
    if (!dr_tuning_read_time(&at, &upto) || *at != '\0') {
        return false;
    }
    /* An end of 00:00 is the end of the day. */
    *out = (struct dr_quiet){
        .days = days,
        .from_min = (uint16_t)from,
        .upto_min = (uint16_t)(upto == 0 ? DAY_MINUTES : upto),
    };
    return true;
}

void dr_tuning_print_quiet(const struct dr_quiet *q, struct dr_str *out)
{
    const char *before = "";
    for (unsigned d = 0; d < DAYS && (q->days & ALL_DAYS) != ALL_DAYS; d++) {
        if ((q->days >> d & 1) != 0) {
            dr_str_addf(out, "%s%s", before, day_names[d]);
            before = ",";
        }
    }
    dr_str_addf(out, "%s%02u:%02u-%02u:%02u", before[0] == '\0' ? "" : " ", q->from_min / 60u,
                q->from_min % 60u, q->upto_min / 60u, q->upto_min % 60u);
}

/* ---- instants ---- */

static bool same_minute(const struct tm *a, const struct tm *b)
{
    return a->tm_min == b->tm_min && a->tm_hour == b->tm_hour && a->tm_mday == b->tm_mday &&
           a->tm_mon == b->tm_mon && a->tm_year == b->tm_year;
}

/* The first or last instant at which local clocks show `wanted`; one that never happens (skipped by
 * a change to summer time) is what mktime makes of it. */
static int64_t local_instant(const struct tm *wanted, bool is_last)
{
    struct tm shown = *wanted;
    shown.tm_isdst = -1;
    const time_t guess = mktime(&shown); /* also brings days beyond the month's end into range */
    time_t best = guess;
    for (int shift = -SHIFT_MAX_S; shift <= SHIFT_MAX_S; shift += SHIFT_STEP_S) {
        const time_t other = guess + shift;
        struct tm at;
        if (localtime_r(&other, &at) != NULL && same_minute(&at, &shown) &&
            (is_last ? other > best : other < best)) {
            best = other;
        }
    }
    return (int64_t)best;
}

/* Seconds since 1970 UTC at which the zone's clocks show `minutes` of the day `days` behind that
 * of `today`. */
static int64_t instant_of(const struct dr_tuning *t, const struct tm *today, int days, int minutes,
                          bool is_last)
{
    struct tm wanted = {
        .tm_year = today->tm_year,
        .tm_mon = today->tm_mon,
        .tm_mday = today->tm_mday + days + minutes / DAY_MINUTES,
        .tm_hour = minutes % DAY_MINUTES / 60,
        .tm_min = minutes % 60,
    };
    switch (t->zone) {
    case DR_ZONE_LOCAL:
        return local_instant(&wanted, is_last);
    case DR_ZONE_UTC:
        return (int64_t)timegm(&wanted);
    case DR_ZONE_FIXED:
        return (int64_t)timegm(&wanted) - (int64_t)t->zone_offset_min * 60;
    }
    assert(false && "time zone");
    return 0;
}

static bool show_day(const struct dr_tuning *t, int64_t at_s, struct tm *out)
{
    time_t shown = (time_t)at_s;
    switch (t->zone) {
    case DR_ZONE_LOCAL:
        return localtime_r(&shown, out) != NULL;
    case DR_ZONE_UTC:
        return gmtime_r(&shown, out) != NULL;
    case DR_ZONE_FIXED:
        shown += (time_t)t->zone_offset_min * 60;
        return gmtime_r(&shown, out) != NULL;
    }
    assert(false && "time zone");
    return false;
}

/* The latest end of all windows that cover `at_ms`; `at_ms` when none does. */
static dr_wall_ms end_of_cover(const struct dr_tuning *t, dr_wall_ms at_ms)
{
    /* Rounds towards minus infinity, so that instants before 1970 have their day, too. */
    const int64_t at_s = at_ms / 1000 - (at_ms % 1000 < 0 ? 1 : 0);
    struct tm today;
    dr_wall_ms end = at_ms;
    if (!show_day(t, at_s, &today)) {
        return end;
    }
    for (uint32_t i = 0; i < t->quiet_count; i++) {
        const struct dr_quiet *q = &t->quiet[i];
        const int next = q->upto_min <= q->from_min ? DAY_MINUTES : 0;
        for (int days = -1; days <= 0; days++) { /* one that began yesterday may go on */
            const int weekday = (today.tm_wday + 6 + days + DAYS) % DAYS;
            if ((q->days >> weekday & 1) == 0) {
                continue;
            }
            const dr_wall_ms from = 1000 * instant_of(t, &today, days, q->from_min, false);
            const dr_wall_ms upto = 1000 * instant_of(t, &today, days, q->upto_min + next, true);
            if (from <= at_ms && at_ms < upto && upto > end) {
                end = upto;
            }
        }
    }
    return end;
}

bool dr_tuning_is_quiet(const struct dr_tuning *t, dr_wall_ms now, dr_wall_ms *over_out)
{
    *over_out = now;
    const int64_t now_max = INT64_C(200000000000000); /* year 8307: keeps the sums below exact */
    if (now > now_max || now < -now_max) {
        return false;
    }
    /* Windows repeat each week: a union longer than that never ends; then ask again in a week. */
    const dr_wall_ms last = now + (dr_wall_ms)UNION_DAYS_MAX * DAY_MINUTES * 60 * 1000;
    dr_wall_ms end = now;
    for (;;) {
        const dr_wall_ms further = end_of_cover(t, end);
        if (further == end || further >= last) {
            end = further < last ? further : last;
            break;
        }
        end = further;
    }
    *over_out = end;
    return end > now;
}
