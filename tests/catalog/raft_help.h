/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters of raft_peer processes on loopback, for tests that kill and stop them. */
#ifndef DR_TESTS_CATALOG_RAFT_HELP_H
#define DR_TESTS_CATALOG_RAFT_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

enum { PEERS_MAX = 6, LINE_BYTES = 4096, ANSWER_MS = 90000, TRIES_MAX = 200 };

struct peer {
    pid_t pid; /* 0: not running */
    int in, out;
    char address[32];
    char dir[128];
    const char *options;  /* NULL: the cluster's */
    const char *log_path; /* where its standard error goes; NULL: to ours */
};
struct cluster {
    struct peer peer[PEERS_MAX + 1]; /* by id, from 1 */
    unsigned count;
    const char *options; /* "toy threshold=20" */
    char folder[64];
    char line[LINE_BYTES]; /* the last answer */
};

static inline void start_cluster(struct cluster *c, const char *options)
{
    memset(c, 0, sizeof *c);
    c->options = options;
    (void)snprintf(c->folder, sizeof c->folder, "/tmp/drover-raft-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
}

/* A port that was free a moment ago; peers keep theirs over restarts. */
static inline unsigned find_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    (void)close(fd);
    return ntohs(at.sin_port);
}

/* One line of answer, or a failed test when none comes. An end of file is an empty line. */
static inline void read_line(struct cluster *c, struct peer *p)
{
    size_t used = 0;
    c->line[0] = '\0';
    for (;;) {
        struct pollfd wait = {.fd = p->out, .events = POLLIN};
        if (poll(&wait, 1, ANSWER_MS) <= 0) {
            print_error("no answer from the peer at %s\n", p->address);
            fail();
        }
        char one = 0;
        ssize_t got = read(p->out, &one, 1);
        if (got <= 0 || one == '\n') {
            break;
        }
        if (used + 1 < sizeof c->line) {
            c->line[used++] = one;
        }
    }
    c->line[used] = '\0';
}

static inline void exec_peer(struct cluster *c, unsigned id, bool is_first, const char *fault)
{
    char number[16];
    char options[256];
    char self[512];
    char *argv[16];
    unsigned argc = 0;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 16);
    if (length <= 0) {
        _exit(127);
    }
    self[length] = '\0';
    (void)snprintf(strrchr(self, '/') + 1, 16, "raft_peer");
    (void)snprintf(number, sizeof number, "%u", id);
    const struct peer *p = &c->peer[id];
    (void)snprintf(options, sizeof options, "%s", p->options == NULL ? c->options : p->options);
    argv[argc++] = self;
    argv[argc++] = number;
    argv[argc++] = c->peer[id].address;
    argv[argc++] = c->peer[id].dir;
    if (is_first) {
        argv[argc++] = (char *)"bootstrap";
    }
    char *save = NULL;
    for (char *one = strtok_r(options, " ", &save); one != NULL; one = strtok_r(NULL, " ", &save)) {
        argv[argc++] = one;
    }
    argv[argc] = NULL;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* no peer outlives a failed test */
    if (fault != NULL) {
        (void)setenv("DROVER_FAULT", fault, 1);
    }
    if (p->log_path != NULL && freopen(p->log_path, "a", stderr) == NULL) {
        _exit(127);
    }
    (void)execv(self, argv);
    _exit(127);
}

/* Start peer `id` (again), with a fault armed or NULL. */
static inline void start_peer(struct cluster *c, unsigned id, const char *fault)
{
    int in[2];
    int out[2];
    struct peer *p = &c->peer[id];
    assert_int_equal(p->pid, 0);
    if (p->address[0] == '\0') {
        (void)snprintf(p->address, sizeof p->address, "127.0.0.1:%u", find_port());
        (void)snprintf(p->dir, sizeof p->dir, "%s/%u", c->folder, id);
        c->count = id > c->count ? id : c->count;
    }
    assert_int_equal(pipe2(in, 02000000), 0); /* O_CLOEXEC */
    assert_int_equal(pipe2(out, 02000000), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        exec_peer(c, id, id == 1, fault);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    p->pid = pid;
    p->in = in[1];
    p->out = out[0];
}

static inline void start_ready(struct cluster *c, unsigned id)
{
    start_peer(c, id, NULL);
    read_line(c, &c->peer[id]);
    if (strncmp(c->line, "OK", 2) != 0) {
        print_error("peer %u does not start: %s\n", id, c->line);
        fail();
    }
}

static inline void send_line(struct peer *p, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t put = write(p->in, text, left);
        assert_true(put > 0);
        text += put;
        left -= (size_t)put;
    }
    assert_int_equal(write(p->in, "\n", 1), 1);
}

static inline const char *ask(struct cluster *c, unsigned id, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline const char *ask(struct cluster *c, unsigned id, const char *fmt, ...)
{
    char text[2 * LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    send_line(&c->peer[id], text);
    read_line(c, &c->peer[id]);
    return c->line;
}

static inline void reap(struct peer *p)
{
    (void)waitpid(p->pid, NULL, 0);
    (void)close(p->in);
    (void)close(p->out);
    p->pid = 0;
}

static inline void kill_peer(struct cluster *c, unsigned id)
{
    (void)kill(c->peer[id].pid, SIGKILL);
    reap(&c->peer[id]);
}

/* It ends well, too: a sanitizer that has found something says so in the exit code. */
static inline void stop_peer(struct cluster *c, unsigned id)
{
    int status = 0;
    struct peer *p = &c->peer[id];
    assert_string_equal(ask(c, id, "stop"), "OK stopped");
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    assert_int_equal(status, 0);
    (void)close(p->in);
    (void)close(p->out);
    p->pid = 0;
}

static inline void end_cluster(struct cluster *c)
{
    char command[128];
    for (unsigned id = 1; id <= c->count; id++) {
        if (c->peer[id].pid != 0) {
            kill_peer(c, id);
        }
    }
    (void)snprintf(command, sizeof command, "rm -rf '%s'", c->folder);
    assert_int_equal(system(command), 0);
}

/* The number behind `name=` in the last answer. */
static inline uint64_t number_of(const struct cluster *c, const char *name)
{
    char key[32];
    (void)snprintf(key, sizeof key, " %s=", name);
    const char *at = strstr(c->line, key);
    if (at == NULL) {
        print_error("no %s in \"%s\"\n", name, c->line);
        fail();
        return 0;
    }
    return strtoull(at + strlen(key), NULL, strcmp(name, "hash") == 0 ? 16 : 10);
}

static inline bool is_answer(const struct cluster *c, const char *code)
{
    return strncmp(c->line, code, strlen(code)) == 0;
}

/* The peer that leads, as itself says, asked of peers that run and are not `except`. */
static inline unsigned find_leader(struct cluster *c, unsigned except)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        for (unsigned id = 1; id <= c->count; id++) {
            if (c->peer[id].pid == 0 || id == except) {
                continue;
            }
            (void)ask(c, id, "leader 10000");
            uint64_t leader = is_answer(c, "OK") ? number_of(c, "leader") : 0;
            if (leader == 0 || leader == except || leader > c->count || c->peer[leader].pid == 0) {
                (void)poll(NULL, 0, 20);
                continue;
            }
            if (strstr(ask(c, (unsigned)leader, "status"), "state=Leader") != NULL) {
                return (unsigned)leader;
            }
        }
    }
    print_error("no leader\n");
    fail();
    return 0;
}

/* Propose until a leader has applied it, as a client would: asking whom the answer names. Returns
 * the index. The outcome of a lost leader is unknown, so entries here may be applied twice. */
static inline uint64_t propose(struct cluster *c, unsigned except, const char *text)
{
    char line[2 * LINE_BYTES];
    for (int i = 0; i < TRIES_MAX; i++) {
        unsigned leader = find_leader(c, except);
        (void)snprintf(line, sizeof line, "propose 5000 %s", text);
        send_line(&c->peer[leader], line);
        read_line(c, &c->peer[leader]);
        if (is_answer(c, "OK")) {
            return number_of(c, "index");
        }
    }
    print_error("nobody applies \"%s\": %s\n", text, c->line);
    fail();
    return 0;
}

static inline void join(struct cluster *c, unsigned id)
{
    start_ready(c, id);
    unsigned leader = find_leader(c, id);
    (void)ask(c, leader, "add 10000 %u %s", id, c->peer[id].address);
    assert_true(is_answer(c, "OK"));
    (void)ask(c, leader, "assign 20000 %u voter", id);
    if (!is_answer(c, "OK")) {
        print_error("promote %u: %s\n", id, c->line);
        fail();
    }
}

static inline void grow(struct cluster *c, unsigned count)
{
    start_ready(c, 1);
    for (unsigned id = 2; id <= count; id++) {
        join(c, id);
    }
}

/* Every running peer has applied `index` and has the same state; returns its hash. */
static inline uint64_t assert_equal_states(struct cluster *c, uint64_t index)
{
    uint64_t hash = 0;
    bool is_first = true;
    for (unsigned id = 1; id <= c->count; id++) {
        if (c->peer[id].pid == 0) {
            continue;
        }
        (void)ask(c, id, "applied 60000 %llu", (unsigned long long)index);
        if (!is_answer(c, "OK")) {
            print_error("peer %u: %s\n", id, c->line);
            fail();
        }
        (void)ask(c, id, "hash");
        assert_true(is_answer(c, "OK"));
        uint64_t one = number_of(c, "hash");
        if (!is_first && one != hash) {
            print_error("peer %u has another state\n", id);
            fail();
        }
        hash = one;
        is_first = false;
    }
    return hash;
}

#endif
