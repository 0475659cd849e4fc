/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks with two types, so that a date is never mixed with a duration base. */
#ifndef DR_BASE_CLOCK_H
#define DR_BASE_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef int64_t dr_wall_ms; /* milliseconds since 1970 UTC: stored, shown, can jump */
typedef int64_t dr_mono_ms; /* milliseconds since some start: measures, never stored */

dr_wall_ms dr_wall_now(void);
dr_mono_ms dr_mono_now(void);
int64_t dr_mono_us(void); /* microseconds, same origin: for short durations */

/* A condition that waits by the monotonic clock: a date that jumps ends no wait early or late. */
void dr_mono_cond_init(pthread_cond_t *cond);
/* The moment `ms` from now, for pthread_cond_timedwait on such a condition. */
struct timespec dr_mono_deadline(uint64_t ms);

/* "2026-11-21T05:48:26.123Z" into buf (at least 32 bytes); returns buf. */
char *dr_wall_text(dr_wall_ms at, char *buf, size_t buf_bytes);

#endif
