/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the armed fault points of the process. Counters are atomic and the log of seen names has a
 * lock, so any thread may pass a point; arming is for a moment when no other thread passes one. */
#include "base/fault.h"

#ifdef DROVER_FAULTS

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/str.h"

enum { POINTS_MAX = 32, NAME_BYTES = 64, SEEN_MAX = 512, SPEC_BYTES = 256 };

enum fault_action { FAULT_KILL, FAULT_ERROR, FAULT_FULL, FAULT_DELAY };

struct fault_point {
    char name[NAME_BYTES];
    enum fault_action action;
    uint64_t delay_ms;
    uint64_t at; /* the passing that acts; 1 is the first */
    _Atomic uint64_t passed;
};

static struct fault_point points[POINTS_MAX];
static unsigned points_count;
static pthread_once_t env_once = PTHREAD_ONCE_INIT;

static _Atomic uint64_t io_made;
static _Atomic uint64_t io_countdown; /* 0 is off, 1 fails the next operation */

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *log_path; /* from the environment, which outlives us */
static char seen[SEEN_MAX][NAME_BYTES];
static unsigned seen_count;

/* A mistyped spec would make a crash test pass without a crash, so it ends the process loudly. */
static void refuse_spec(const char *part)
{
    (void)fprintf(stderr,
                  "DROVER_FAULT: cannot read \"%s\"; expected "
                  "name[@n]=kill|error|full|delay:MS\n",
                  part);
    abort();
}

static bool read_action(const char *text, struct fault_point *point)
{
    if (strcmp(text, "kill") == 0) {
        point->action = FAULT_KILL;
    } else if (strcmp(text, "error") == 0) {
        point->action = FAULT_ERROR;
    } else if (strcmp(text, "full") == 0) {
        point->action = FAULT_FULL;
    } else if (strncmp(text, "delay:", 6) == 0) {
        point->action = FAULT_DELAY;
        return dr_parse_u64(text + 6, &point->delay_ms);
    } else {
        return false;
    }
    return true;
}

static void arm_one(const char *part, size_t length)
{
    char text[SPEC_BYTES];
    if (length >= sizeof text || points_count >= POINTS_MAX) {
        refuse_spec(part);
        return;
    }
    memcpy(text, part, length);
    text[length] = '\0';

    struct fault_point *point = &points[points_count];
    char *action = strchr(text, '=');
    if (action == NULL || action == text) {
        refuse_spec(part);
        return;
    }
    *action++ = '\0';
    point->at = 1;
    char *number = strchr(text, '@');
    if (number != NULL) {
        *number++ = '\0';
        if (!dr_parse_u64(number, &point->at) || point->at == 0) {
            refuse_spec(part);
            return;
        }
    }
    if (strlen(text) >= sizeof point->name || !read_action(action, point)) {
        refuse_spec(part);
        return;
    }
    dr_copy_text(point->name, sizeof point->name, text);
    atomic_store(&point->passed, 0);
    points_count++;
}

static void arm_spec(const char *spec)
{
    points_count = 0;
    while (spec != NULL && *spec != '\0') {
        size_t length = strcspn(spec, ",");
        if (length > 0) {
            arm_one(spec, length);
        }
        spec += length;
        if (*spec == ',') {
            spec++;
        }
    }
}

static void read_environment(void)
{
    arm_spec(getenv("DROVER_FAULT"));
    log_path = getenv("DROVER_FAULT_LOG");
    const char *io = getenv("DROVER_IO_FAIL");
    uint64_t n = 0;
    if (io != NULL && dr_parse_u64(io, &n)) {
        atomic_store(&io_countdown, n);
    }
}

static void append_to_log(const char *name)
{
    char line[NAME_BYTES + 1];
    int length = snprintf(line, sizeof line, "%.*s\n", NAME_BYTES - 1, name);
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return; /* the crash test notices the missing name */
    }
    ssize_t written = write(fd, line, (size_t)length);
    (void)written;
    (void)close(fd);
}

static void note_first_passing(const char *name)
{
    if (log_path == NULL || log_path[0] == '\0') {
        return;
    }
    (void)pthread_mutex_lock(&seen_lock);
    bool is_new = true;
    for (unsigned i = 0; i < seen_count && is_new; i++) {
        is_new = strcmp(seen[i], name) != 0;
    }
    if (is_new) {
        assert(seen_count < SEEN_MAX);
        assert(strlen(name) < NAME_BYTES);
        dr_copy_text(seen[seen_count++], NAME_BYTES, name);
        append_to_log(name);
    }
    (void)pthread_mutex_unlock(&seen_lock);
}

/* The point that acts at this passing, or NULL. Every armed point of this name counts it. */
static const struct fault_point *count_passing(const char *name)
{
    const struct fault_point *acting = NULL;
    for (unsigned i = 0; i < points_count; i++) {
        if (strcmp(points[i].name, name) != 0) {
            continue;
        }
        uint64_t passing = atomic_fetch_add(&points[i].passed, 1) + 1;
        if (passing == points[i].at && acting == NULL) {
            acting = &points[i];
        }
    }
    return acting;
}

/* SIGKILL, so that no handler, no atexit and no flush softens the crash. */
static void die_at_once(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

enum dr_code dr_fault_pass(const char *name, struct dr_err *err)
{
    (void)pthread_once(&env_once, read_environment);
    note_first_passing(name);
    const struct fault_point *point = count_passing(name);
    if (point == NULL) {
        return DR_OK;
    }
    switch (point->action) {
    case FAULT_KILL:
        die_at_once();
        break;
    case FAULT_ERROR:
        return dr_fail(err, DR_IO, "fault point %s: made to fail by DROVER_FAULT", name);
    case FAULT_FULL:
        return dr_fail(err, DR_FULL, "fault point %s: made to find a full disk by DROVER_FAULT",
                       name);
    case FAULT_DELAY:
        (void)dr_wait_ms(point->delay_ms, NULL, NULL);
        break;
    }
    return DR_OK;
}

void dr_fault_mark(const char *name)
{
    (void)pthread_once(&env_once, read_environment);
    note_first_passing(name);
    const struct fault_point *point = count_passing(name);
    if (point == NULL) {
        return;
    }
    if (point->action == FAULT_KILL) {
        die_at_once();
    } else if (point->action == FAULT_DELAY) {
        (void)dr_wait_ms(point->delay_ms, NULL, NULL);
    }
}

void dr_fault_arm(const char *spec)
{
    /* The environment first, or its late reading would undo what is armed here. */
    (void)pthread_once(&env_once, read_environment);
    arm_spec(spec);
}

uint64_t dr_fault_io_at(uint64_t n)
{
    (void)pthread_once(&env_once, read_environment);
    atomic_store(&io_countdown, n);
    return atomic_exchange(&io_made, 0);
}

int dr_fault_io_pass(void)
{
    (void)pthread_once(&env_once, read_environment);
    atomic_fetch_add(&io_made, 1);
    uint64_t left = atomic_load(&io_countdown);
    while (left != 0) {
        if (atomic_compare_exchange_weak(&io_countdown, &left, left - 1)) {
            return left == 1 ? EIO : 0;
        }
    }
    return 0;
}

#else

/* ISO C wants a declaration in every file, also when the fault points are left out. */
typedef int dr_fault_is_left_out;

#endif
