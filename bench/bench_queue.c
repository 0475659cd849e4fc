/* SPDX-License-Identifier: Apache-2.0 */
/* The durable queue: steps enqueued a second, durable completions a second by threads and lease
 * size against one transaction per completion (what a script with a progress table does), the cost
 * of recording rollback commands, and memory at 1,000 and 1,000,000 steps.
 *
 *   bench_queue DIR [STEPS] [ROUNDS]
 *
 * Every measurement runs in a child process with a fresh data folder; contestants take turns inside
 * a round; medians over the rounds are printed. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sql.h"
#include "queue/queue.h"

enum { ROUNDS_MAX = 31, LEASE_MAX = 1024, THREADS_MAX = 8, MEMORY_STEPS = 1000000 };

static struct dr_err err;

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        fprintf(stderr, "bench_queue: %s\n", err.msg);
        _exit(1);
    }
}

struct source {
    int64_t number, count;
    bool with_rollback;
    char query[256];
    char title[64];
};

/* Steps as the planner makes them for chunks: the same texts, the same lengths. */
static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has_out, struct dr_err *e)
{
    static const char *const node[] = {"s1", "s2", "s3", "s4"};
    struct source *s = arg;
    (void)e;
    *has_out = s->number < s->count;
    if (!*has_out) {
        return DR_OK;
    }
    s->number++;
    (void)snprintf(s->query, sizeof s->query,
                   "{\"archive\":true,\"range\":{\"access\":\"shard-range\",\"collection\":"
                   "\"acme.orders\",\"epoch\":1,\"from\":[%" PRId64 "],\"key\":[\"customer\"],"
                   "\"node\":\"%s\",\"upto\":[%" PRId64 "]}}",
                   s->number * 100, node[s->number % 4], s->number * 100 + 100);
    (void)snprintf(s->title, sizeof s->title, "erase acme.orders chunk [%" PRId64 ", ...)",
                   s->number * 100);
    *step =
        (struct dr_plan_step){.number = s->number,
                              .kind = DR_STEP_ERASE,
                              .node = node[s->number % 4],
                              .query = s->query,
                              .rollback_query = s->with_rollback ? "{\"do\":\"restore\"}" : NULL,
                              .stage = 1,
                              .estimated = 100,
                              .is_estimate_known = true,
                              .title = s->title};
    return DR_OK;
}

static void put(struct dr_queue *q, int64_t steps, bool with_rollback)
{
    struct source s = {.count = steps, .with_rollback = with_rollback};
    struct dr_put p = {.kind = "bench",
                       .target = "acme",
                       .store_url = "memory:bench",
                       .request_json = "{}",
                       .wish = DR_WISH_RUN,
                       .is_irreversible = !with_rollback,
                       .by = "bench"};
    int64_t op = 0;
    must(dr_queue_put(q, &p, next_step, &s, &op, &err));
}

struct job {
    struct dr_queue *q;
    uint32_t lease;
    bool is_durable;
    uint64_t done;
    pthread_t thread;
};

static void *complete_all(void *arg)
{
    struct job *j = arg;
    struct dr_lease lease[LEASE_MAX] = {0};
    struct dr_lease_rules rules = {
        .worker = "bench", .lease_ms = 60000, .per_node_default = 1000000};
    struct dr_finish f = {.outcome = DR_OUT_DONE, .duration_ms = 1};
    uint32_t count = 1;
    while (count > 0) {
        must(dr_queue_lease(j->q, &rules, lease, j->lease, &count, &err));
        for (uint32_t i = 0; i < count; i++) {
            lease[i].mark.done = 100;
            must(dr_queue_finish(j->q, &lease[i], &f, j->is_durable, &err));
            dr_lease_fini(&lease[i]);
        }
        j->done += count;
    }
    return NULL;
}

/* What one child measures; the result goes through a pipe. */
struct task {
    const char *dir;
    int64_t steps;
    unsigned threads; /* 0: only put */
    uint32_t lease;
    bool is_durable, with_rollback;
};

struct result {
    double put_s, complete_s;
    uint64_t rss_kib;
};

static struct result measure(const struct task *t)
{
    struct result r = {0};
    struct dr_queue *q = NULL;
    struct rusage usage;
    must(dr_queue_open(t->dir, false, &q, &err));
    must(dr_queue_own(q, &err));
    int64_t begin = dr_mono_us();
    put(q, t->steps, t->with_rollback);
    r.put_s = (double)(dr_mono_us() - begin) / 1e6;
    struct job job[THREADS_MAX] = {0};
    uint64_t done = 0;
    begin = dr_mono_us();
    for (unsigned i = 0; i < t->threads; i++) {
        job[i] = (struct job){.q = q, .lease = t->lease, .is_durable = t->is_durable};
        if (pthread_create(&job[i].thread, NULL, complete_all, &job[i]) != 0) {
            _exit(1);
        }
    }
    for (unsigned i = 0; i < t->threads; i++) {
        (void)pthread_join(job[i].thread, NULL);
        done += job[i].done;
    }
    must(dr_queue_flush(q, &err));
    r.complete_s = (double)(dr_mono_us() - begin) / 1e6;
    if (t->threads > 0 && done != (uint64_t)t->steps) {
        fprintf(stderr, "bench_queue: %" PRIu64 " of %" PRId64 " steps done\n", done, t->steps);
        _exit(1);
    }
    dr_queue_close(q);
    (void)getrusage(RUSAGE_SELF, &usage);
    r.rss_kib = (uint64_t)usage.ru_maxrss;
    return r;
}

static void in_child(void (*work)(const struct task *, struct result *), const struct task *t,
                     struct result *out)
{
    char command[4200];
    int pipes[2];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", t->dir);
    if (system(command) != 0 || pipe(pipes) != 0) {
        perror("bench_queue");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct result r = {0};
        work(t, &r);
        _exit(write(pipes[1], &r, sizeof r) == (ssize_t)sizeof r ? 0 : 1);
    }
    int status = 0;
    bool is_read = read(pipes[0], out, sizeof *out) == (ssize_t)sizeof *out;
    (void)waitpid(pid, &status, 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    if (!is_read || status != 0) {
        fprintf(stderr, "bench_queue: a measurement failed\n");
        exit(1);
    }
}

static void work_queue(const struct task *t, struct result *r)
{
    *r = measure(t);
}

/* What a script does: a table of steps, one UPDATE and one commit per finished step. */
static void work_script(const struct task *t, struct result *r)
{
    struct dr_sql s = {0};
    sqlite3_stmt *st = NULL;
    char path[4200];
    (void)snprintf(path, sizeof path, "mkdir -p '%s'", t->dir);
    if (system(path) != 0) {
        _exit(1);
    }
    (void)snprintf(path, sizeof path, "%s/steps.db", t->dir);
    must(dr_sql_open(&s, path, DR_SQL_CREATE, 1000, &err));
    must(dr_sql_execf(&s, &err,
                      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                      "CREATE TABLE steps(id INTEGER PRIMARY KEY, query TEXT, status TEXT);"
                      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%lld)"
                      " INSERT INTO steps SELECT i, printf('%%200d', i), 'created' FROM n;",
                      (long long)t->steps));
    must(dr_sql_prepare(&s, "UPDATE steps SET status='processed' WHERE id=?", &st, &err));
    int64_t begin = dr_mono_us();
    for (int64_t i = 1; i <= t->steps; i++) {
        (void)sqlite3_bind_int64(st, 1, i);
        must(dr_sql_run(&s, st, &err));
    }
    r->complete_s = (double)(dr_mono_us() - begin) / 1e6;
    (void)sqlite3_finalize(st);
    dr_sql_close(&s);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

static void contest(const char *dir, int64_t steps, int rounds)
{
    static const struct {
        const char *name;
        unsigned threads;
        uint32_t lease;
        bool is_durable;
    } way[] = {
        {"script: one commit each", 0, 0, false},
        {"1 thread, lease 1, wait for each", 1, 1, true},
        {"8 threads, lease 1, wait for each", 8, 1, true},
        {"8 threads, lease 1, posted", 8, 1, false},
        {"1 thread, lease 256, posted", 1, 256, false},
        {"4 threads, lease 256, posted", 4, 256, false},
    };
    enum { WAYS = sizeof way / sizeof way[0] };
    double rate[WAYS][ROUNDS_MAX];
    double put_rate[ROUNDS_MAX];
    for (int r = 0; r < rounds; r++) {
        for (int w = 0; w < WAYS; w++) {
            int64_t n = way[w].is_durable || w == 0 ? steps / 20 : steps;
            struct task t = {.dir = dir,
                             .steps = n,
                             .threads = way[w].threads,
                             .lease = way[w].lease,
                             .is_durable = way[w].is_durable,
                             .with_rollback = true};
            struct result result = {0};
            in_child(w == 0 ? work_script : work_queue, &t, &result);
            rate[w][r] = (double)n / result.complete_s;
            if (w == WAYS - 1) {
                put_rate[r] = (double)n / result.put_s;
            }
        }
    }
    printf("%-36s %14.0f steps/s\n", "enqueued (one transaction)", median(put_rate, rounds));
    double base = median(rate[0], rounds);
    printf("%-36s %14s %12s\n", "durable completions", "steps/s", "of script");
    for (int w = 0; w < WAYS; w++) {
        double m = median(rate[w], rounds);
        printf("%-36s %14.0f %12.2f\n", way[w].name, m, m / base);
    }
}

static void cost_of_rollback(const char *dir, int64_t steps, int rounds)
{
    double took[2][ROUNDS_MAX];
    double ratio[ROUNDS_MAX];
    for (int r = 0; r < rounds; r++) {
        for (int k = 0; k < 2; k++) {
            int with = (k + r) % 2;
            struct task t = {
                .dir = dir, .steps = steps, .threads = 4, .lease = 256, .with_rollback = with == 1};
            struct result result = {0};
            in_child(work_queue, &t, &result);
            took[with][r] = result.put_s + result.complete_s;
        }
        ratio[r] = took[1][r] / took[0][r];
    }
    printf("recording rollback: %.2f s with, %.2f s without, ratio %.3f (median of %d pairs)\n",
           median(took[1], rounds), median(took[0], rounds), median(ratio, rounds), rounds);
}

static void memory(const char *dir)
{
    for (int64_t n = 1000; n <= MEMORY_STEPS; n *= 1000) {
        struct task t = {.dir = dir, .steps = n, .threads = 4, .lease = 256, .with_rollback = true};
        struct result r = {0};
        in_child(work_queue, &t, &r);
        printf("memory: %8" PRId64 " steps put and completed in %.1f s, peak %.1f MiB\n", n,
               r.put_s + r.complete_s, (double)r.rss_kib / 1024.0);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_queue DIR [STEPS] [ROUNDS]\n");
        return 2;
    }
    char dir[4096];
    int64_t steps = argc > 2 ? strtoll(argv[2], NULL, 10) : 40000;
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
    if (steps < 100 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench_queue: STEPS from 100, ROUNDS from 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    (void)snprintf(dir, sizeof dir, "%s/data", argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    contest(dir, steps, rounds);
    cost_of_rollback(dir, steps, rounds);
    memory(dir);
    return 0;
}
