/* SPDX-License-Identifier: Apache-2.0 */
/* Erase rate through drover against what a person would use instead: a bare loop of
 * `DELETE ... WHERE rowid IN (SELECT ... LIMIT n)`, one durable commit each, at equal batch size.
 *
 *   bench_erase DROVER DIR ROWS BATCH ROUNDS
 *
 * Every round makes fresh copies of one file and runs all contestants on them, in turn, so that the
 * ratios are of one run; medians over the rounds are printed. Times are wall times of the whole
 * job: for drover that is the process from start to end, with survey, plan, queue, verify pass and
 * all. */
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sql.h"

enum { CONTESTANTS = 3, ROUNDS_MAX = 31 };

static const char *name_of[CONTESTANTS] = {"bare loop", "drover --irreversible",
                                           "drover with archive"};
static struct dr_err err;

static void must(enum dr_code rc)
{
    if (rc != DR_OK) {
        fprintf(stderr, "bench_erase: %s\n", err.msg);
        exit(1);
    }
}

static void make_file(const char *path, uint64_t rows)
{
    struct dr_sql s = {0};
    (void)unlink(path);
    must(dr_sql_open(&s, path, DR_SQL_CREATE, 1000, &err));
    must(dr_sql_execf(
        &s, &err,
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
        "CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, body TEXT);"
        "CREATE INDEX t_who ON t(who);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %lld)"
        " INSERT INTO t SELECT i, (i * 7919) %% 1000003, printf('row %%d %%.60c', i, 'x')"
        " FROM n;"
        "PRAGMA wal_checkpoint(TRUNCATE);",
        (long long)rows));
    dr_sql_close(&s);
}

static void copy_file(const char *from, const char *to)
{
    char command[32768];
    snprintf(command, sizeof command,
             "rm -f '%s' '%s-wal' '%s-shm' && cp '%s' '%s' && sync -f '%s'", to, to, to, from, to,
             to);
    if (system(command) != 0) {
        fprintf(stderr, "bench_erase: cannot copy %s\n", from);
        exit(1);
    }
}

static double run_bare(const char *path, uint64_t batch)
{
    struct dr_sql s = {0};
    char sql[256];
    sqlite3_stmt *st = NULL;
    int64_t begin = dr_mono_us();
    must(dr_sql_open(&s, path, 0, 1000, &err));
    must(dr_sql_exec(&s, "PRAGMA synchronous=FULL", &err));
    snprintf(sql, sizeof sql,
             "DELETE FROM t WHERE rowid IN (SELECT rowid FROM t LIMIT %" PRIu64 ")", batch);
    must(dr_sql_prepare(&s, sql, &st, &err));
    do {
        must(dr_sql_run(&s, st, &err));
    } while (sqlite3_changes(s.db) > 0);
    sqlite3_finalize(st);
    dr_sql_close(&s);
    return (double)(dr_mono_us() - begin) / 1e6;
}

static double run_drover(const char *drover, const char *dir, const char *path, uint64_t batch,
                         bool is_irreversible)
{
    char job[4200];
    char data[4200];
    char command[16384];
    snprintf(job, sizeof job, "%s/job.json", dir);
    snprintf(data, sizeof data, "%s/data", dir);
    FILE *f = fopen(job, "w");
    if (f == NULL) {
        perror(job);
        exit(1);
    }
    fprintf(f,
            "{\"kind\": \"tenant.drop\", \"store\": \"sqlite:%s\", \"database\": \"main\","
            " \"irreversible\": %s, \"tuning\": {\"batch_items_min\": %" PRIu64
            ", \"batch_items_max\": %" PRIu64 "}}",
            path, is_irreversible ? "true" : "false", batch, batch);
    fclose(f);
    snprintf(command, sizeof command, "rm -rf '%s'", data);
    if (system(command) != 0) {
        exit(1);
    }
    snprintf(command, sizeof command, "'%s' --data '%s' --quiet run '%s' --yes >/dev/null", drover,
             data, job);
    int64_t begin = dr_mono_us();
    if (system(command) != 0) {
        fprintf(stderr, "bench_erase: drover failed: %s\n", command);
        exit(1);
    }
    return (double)(dr_mono_us() - begin) / 1e6;
}

static void expect_empty(const char *path)
{
    struct dr_sql s = {0};
    int64_t left = -1;
    must(dr_sql_open(&s, path, DR_SQL_READONLY, 1000, &err));
    must(dr_sql_int(&s, "SELECT count(*) FROM t", -1, &left, &err));
    dr_sql_close(&s);
    if (left != 0) {
        fprintf(stderr, "bench_erase: %" PRId64 " rows left in %s\n", left, path);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: bench_erase DROVER DIR ROWS BATCH ROUNDS\n");
        return 2;
    }
    uint64_t rows = strtoull(argv[3], NULL, 10);
    uint64_t batch = strtoull(argv[4], NULL, 10);
    int rounds = (int)strtol(argv[5], NULL, 10);
    if (rows < 1 || batch < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench_erase: ROWS and BATCH from 1, ROUNDS from 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    char pristine[4200];
    char work[4200];
    double took[CONTESTANTS][ROUNDS_MAX];
    snprintf(pristine, sizeof pristine, "%s/pristine.db", argv[2]);
    snprintf(work, sizeof work, "%s/work.db", argv[2]);
    make_file(pristine, rows);
    for (int r = 0; r < rounds; r++) {
        for (int k = 0; k < CONTESTANTS; k++) {
            int c = (k + r) % CONTESTANTS; /* nobody is always first */
            copy_file(pristine, work);
            took[c][r] =
                c == 0 ? run_bare(work, batch) : run_drover(argv[1], argv[2], work, batch, c == 1);
            expect_empty(work);
        }
    }
    printf("%-24s %10s %14s %14s\n", "erase", "seconds", "rows/s", "of bare loop");
    for (int c = 0; c < CONTESTANTS; c++) {
        qsort(took[c], (size_t)rounds, sizeof took[c][0], by_value);
        double median = took[c][rounds / 2];
        printf("%-24s %10.2f %14.0f %14.2f\n", name_of[c], median, (double)rows / median,
               took[0][rounds / 2] / median);
    }
    printf("%" PRIu64 " rows, batches of %" PRIu64 ", median of %d rounds\n", rows, batch, rounds);
    return 0;
}
