/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the reading of the two clocks and the one text form of a date. No state; any thread. */
#include "base/clock.h"

#include <stdio.h>

static int64_t read_us(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* fails only for a clock that does not exist */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

dr_wall_ms dr_wall_now(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

dr_mono_ms dr_mono_now(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t dr_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

void dr_mono_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

struct timespec dr_mono_deadline(uint64_t ms)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000L;
    }
    return at;
}

char *dr_wall_text(dr_wall_ms at, char *buf, size_t buf_bytes)
{
    int64_t seconds = at / 1000;
    int ms = (int)(at % 1000);
    if (ms < 0) { /* before 1970: C rounds towards zero, dates need rounding down */
        ms += 1000;
        seconds -= 1;
    }
    time_t when = (time_t)seconds;
    struct tm parts;
    if (gmtime_r(&when, &parts) == NULL) {
        (void)snprintf(buf, buf_bytes, "@%lldms", (long long)at);
        return buf;
    }
    (void)snprintf(buf, buf_bytes, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ",
                   (long long)parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                   parts.tm_min, parts.tm_sec, ms);
    return buf;
}
