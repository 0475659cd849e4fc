/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of queue/ when things go wrong: foreign and damaged files, a second process, commits
 * and allocations that fail, many threads at once. */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "unit/queue_help.h"

/* --- files ------------------------------------------------------------------------------------ */

static char *db_path(struct rig *r, char *path, size_t bytes)
{
    (void)snprintf(path, bytes, "%s/queue.db", r->dir);
    return path;
}

static char *read_all(const char *path, size_t *len)
{
    char *data = malloc(1 << 20);
    FILE *f = fopen(path, "rb");
    assert_true(data != NULL && f != NULL);
    *len = fread(data, 1, 1 << 20, f);
    (void)fclose(f);
    return data;
}

/* Opening is refused with this code, and the file is byte by byte what it was. */
static void refuse_open(struct rig *r, enum dr_code code, const char *part)
{
    char path[96];
    size_t before_len = 0;
    size_t after_len = 0;
    char *before = read_all(db_path(r, path, sizeof path), &before_len);
    for (int must_exist = 0; must_exist < 2; must_exist++) {
        struct dr_queue *q = NULL;
        assert_int_equal(dr_queue_open(r->dir, must_exist != 0, &q, &r->err), code);
        assert_null(q);
        assert_has(r->err.msg, part);
        assert_has(r->err.msg, path);
    }
    char *after = read_all(path, &after_len);
    assert_int_equal(after_len, before_len);
    assert_memory_equal(after, before, before_len);
    free(before);
    free(after);
}

static void a_newer_queue_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 1, "s1", 1);
    (void)put(r);
    dr_queue_close(r->q);
    r->q = NULL;
    raw_exec(r, "PRAGMA user_version=4");
    refuse_open(r, DR_UNSUPPORTED, "newer drover");
    raw_exec(r, "PRAGMA user_version=3");
    open_queue(r);
    assert_int_equal(run_all(r), 1);
    free_rig(r);
}

static void an_older_queue_is_brought_up_and_its_work_goes_on(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    add_many(r, 3, "s1", 1);
    (void)put(r);
    dr_queue_close(r->q);
    r->q = NULL;
    raw_exec(r, "DROP TABLE rollbacks; DROP TABLE failures; DROP TABLE heartbeats;"
                "ALTER TABLE operations DROP COLUMN atomic;"
                "ALTER TABLE operations DROP COLUMN give_up_s;"
                "ALTER TABLE operations DROP COLUMN no_return_from;"
                "ALTER TABLE operations DROP COLUMN rollback_to;"
                "ALTER TABLE steps DROP COLUMN failing_since;"
                "ALTER TABLE operations DROP COLUMN lanes; PRAGMA user_version=1");
    open_queue(r);
    assert_int_equal(run_all(r), 3);
    free_rig(r);
}

static void a_lease_has_the_whole_url_of_its_store(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    char url[3001];
    memset(url, 'x', sizeof url - 1);
    url[sizeof url - 1] = '\0';
    memcpy(url, "sqlite:/", 8);
    r->put.store_url = url;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    assert_string_equal(l.store_url, url);
    finish(r, &l, DR_OUT_DONE);
    struct dr_op op;
    OK(r, dr_queue_op(r->q, id, &op, &r->err));
    assert_string_equal(op.store_url, url);
    free_rig(r);
}

static void a_foreign_database_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct rig *r = make_empty_rig();
    raw_exec(r, "CREATE TABLE cats(name TEXT); INSERT INTO cats VALUES('tom')");
    refuse_open(r, DR_CORRUPT, "another program");
    raw_exec(r, "DROP TABLE cats; PRAGMA application_id=77");
    refuse_open(r, DR_CORRUPT, "another program");
    free_rig(r);
}

static void a_file_of_garbage_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct rig *r = make_empty_rig();
    char path[96];
    FILE *f = fopen(db_path(r, path, sizeof path), "wb");
    assert_non_null(f);
    for (int i = 0; i < 4096; i++) {
        (void)fputc((i * 37 + 11) & 0xff, f);
    }
    (void)fclose(f);
    refuse_open(r, DR_CORRUPT, "queue.db");
    free_rig(r);
}

static void a_missing_folder_is_made_only_when_it_may_be_missing(void **state)
{
    (void)state;
    struct rig *r = make_empty_rig();
    struct dr_queue *q = NULL;
    char dir[96];
    (void)snprintf(dir, sizeof dir, "%s/new", r->dir);
    assert_int_equal(dr_queue_open(dir, true, &q, &r->err), DR_NOT_FOUND);
    assert_has(r->err.msg, "--data");
    assert_int_equal(access(dir, F_OK), -1);
    OK(r, dr_queue_open(dir, false, &q, &r->err));
    assert_string_equal(dr_queue_data_dir(q), dir);
    dr_queue_close(q);
    OK(r, dr_queue_open(dir, true, &q, &r->err));
    dr_queue_close(q);
    dr_queue_close(NULL);
    free_rig(r);
}

/* --- owners ----------------------------------------------------------------------------------- */

/* Fork before any queue is open in this process. The child owns the folder, holds a lease and says
 * so through the pipe; then it waits to be killed. */
static pid_t start_owner(struct rig *r)
{
    int fd[2];
    char byte = 0;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a failed test */
        struct dr_lease l;
        uint32_t count = 0;
        bool is_good = dr_queue_open(r->dir, false, &r->q, &r->err) == DR_OK &&
                       dr_queue_own(r->q, &r->err) == DR_OK &&
                       dr_queue_lease(r->q, &r->rules, &l, 1, &count, &r->err) == DR_OK;
        byte = is_good && count == 1 ? 'y' : 'n';
        ssize_t written = write(fd[1], &byte, 1);
        (void)written;
        for (;;) {
            (void)pause();
        }
    }
    assert_int_equal(read(fd[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    (void)close(fd[0]);
    (void)close(fd[1]);
    return pid;
}

static void there_is_one_owner_and_its_death_frees_the_folder(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    char holder[256] = "";
    char part[32];
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    assert_true(dr_queue_is_owned(r->q, holder, sizeof holder));
    assert_string_equal(holder, "this process");
    OK(r, dr_queue_own(r->q, &r->err)); /* twice is fine */
    dr_queue_close(r->q);
    r->q = NULL;
    pid_t pid = start_owner(r);
    (void)snprintf(part, sizeof part, "pid %ld on ", (long)pid);
    OK(r, dr_queue_open(r->dir, true, &r->q, &r->err));
    assert_true(dr_queue_is_owned(r->q, holder, sizeof holder));
    assert_has(holder, part);
    assert_int_equal(dr_queue_own(r->q, &r->err), DR_BUSY);
    assert_has(r->err.msg, part);
    assert_has(r->err.msg, r->dir);
    expect_step(r, id, 1, DR_S_LEASED); /* reading works, and so does steering */
    wish(r, id, DR_WISH_PAUSE);
    wish(r, id, DR_WISH_RUN);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(dr_queue_is_owned(r->q, holder, sizeof holder));
    expect_step(r, id, 1, DR_S_LEASED);
    OK(r, dr_queue_own(r->q, &r->err));
    expect_step(r, id, 1, DR_S_UNKNOWN);
    assert_int_equal(run_all(r), 2);
    expect_op(r, id, DR_O_DONE);
    free_rig(r);
}

/* --- commits that fail ------------------------------------------------------------------------ */

static void a_posted_failure_shows_at_the_next_call(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease a;
    struct dr_lease b;
    add_many(r, 2, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &a);
    lease_step(r, id, 2, &b);
    a.mark.done = 5;
    dr_fault_arm("queue.commit.before=full");
    OK(r, dr_queue_save(r->q, &a, LEASE_MS, false, &r->err));
    assert_int_equal(dr_queue_flush(r->q, &r->err), DR_FULL);
    dr_fault_arm(NULL);
    OK(r, dr_queue_flush(r->q, &r->err)); /* told once */
    assert_int_equal(op_of(r, id).items_done, 0);
    OK(r, dr_queue_save(r->q, &b, LEASE_MS, true, &r->err)); /* the other lease is well */
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    assert_int_equal(dr_queue_finish(r->q, &a, &f, true, &r->err), DR_FULL);
    expect_step(r, id, 1, DR_S_LEASED);
    OK(r, dr_queue_renew(r->q, &a, LEASE_MS, &r->err));
    dr_fault_arm("queue.commit.before=error");
    OK(r, dr_queue_finish(r->q, &a, &f, false, &r->err));
    assert_int_equal(dr_queue_flush(r->q, &r->err), DR_IO);
    dr_fault_arm(NULL);
    assert_int_equal(dr_queue_renew(r->q, &a, LEASE_MS, &r->err), DR_IO);
    finish(r, &a, DR_OUT_DONE);
    finish(r, &b, DR_OUT_DONE);
    expect_op(r, id, DR_O_DONE);
    assert_int_equal(op_of(r, id).items_done, 5);
    free_rig(r);
}

static void closing_writes_what_was_posted(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    add_many(r, 20, "s1", 1);
    int64_t id = put(r);
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    for (int i = 0; i < 20; i++) {
        assert_true(lease(r, &l));
        l.mark.done = 1;
        l.mark.cursor = dr_strdup("cursor");
        l.mark.cursor_len = 6;
        OK(r, dr_queue_save(r->q, &l, LEASE_MS, false, &r->err));
        l.mark.done = 2;
        OK(r, dr_queue_finish(r->q, &l, &f, false, &r->err));
        memset((void *)(uintptr_t)l.mark.cursor, 'x', 6);
        dr_lease_fini(&l); /* the posted ones have copies of their own */
    }
    reopen_queue(r);
    assert_int_equal(op_of(r, id).status, DR_O_DONE);
    assert_int_equal(op_of(r, id).items_done, 40);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps WHERE cursor=CAST('cursor' AS BLOB)"),
                     20);
    expect_counts_agree(r);
    free_rig(r);
}

static void *put_and_fail(void *arg)
{
    struct rig *r = arg;
    int64_t op = 0;
    r->at = 0;
    struct dr_err err;
    return dr_queue_put(r->q, &r->put, next_step, r, &op, &err) == DR_IO ? NULL : r;
}

/* While the first commit is held up the others gather behind it into one group. */
static void one_that_fails_takes_nobody_of_its_group_along(void **state)
{
    (void)state;
    struct rig *r = make_rig();
    struct dr_lease l;
    pthread_t thread;
    void *bad = r;
    add_many(r, 1, "s1", 1);
    int64_t id = put(r);
    lease_step(r, id, 1, &l);
    add_many(r, 6, "s1", 1);
    r->fail_at = 5; /* four steps are in the table by then */
    dr_fault_arm("queue.commit.before=delay:300");
    l.mark.done = 1;
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, false, &r->err));
    assert_int_equal(pthread_create(&thread, NULL, put_and_fail, r), 0);
    l.mark.done = 2;
    OK(r, dr_queue_save(r->q, &l, LEASE_MS, false, &r->err));
    assert_int_equal(pthread_join(thread, &bad), 0);
    assert_null(bad);
    OK(r, dr_queue_flush(r->q, &r->err));
    dr_fault_arm(NULL);
    assert_int_equal(op_of(r, id).items_done, 2);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM operations"), 1);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"), 1);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM stages"), 1);
    finish(r, &l, DR_OUT_DONE);
    expect_counts_agree(r);
    free_rig(r);
}

/* A whole life: put, lease, save, finish, stop, run, roll back. Gives the first failure. */
static enum dr_code live(struct rig *r, int64_t *op, struct dr_err *err)
{
    struct dr_lease l = {0};
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    uint32_t count = 0;
    uint64_t moved = 0;
    r->at = 0;
    enum dr_code rc = dr_queue_put(r->q, &r->put, next_step, r, op, err);
    for (int i = 0; rc == DR_OK && i < 6; i++) {
        f.outcome = i == 1 ? DR_OUT_RETRY : i == 2 ? DR_OUT_UNKNOWN : DR_OUT_DONE;
        rc = dr_queue_lease(r->q, &r->rules, &l, 1, &count, err);
        if (rc != DR_OK || count == 0) {
            break;
        }
        if (i == 4) {
            rc = dr_queue_wish(r->q, *op, DR_WISH_ROLLBACK, "bob", "why", err);
        }
        l.mark.done = 2;
        if (rc == DR_OK) {
            rc = dr_queue_save(r->q, &l, LEASE_MS, i % 2 == 0, err);
        }
        if (rc == DR_OK) {
            rc = dr_queue_renew(r->q, &l, LEASE_MS, err);
        }
        if (rc == DR_OK) {
            rc = dr_queue_finish(r->q, &l, &f, i % 2 == 1, err);
        }
        dr_lease_fini(&l);
        if (rc == DR_OK) {
            rc = dr_queue_flush(r->q, err);
        }
        if (rc == DR_OK) {
            rc = dr_queue_sweep(r->q, &moved, err);
        }
    }
    return rc;
}

/* After any failure: the queue opens, what was put is whole, and it can be brought to an end. */
static void expect_healthy(struct rig *r, int64_t steps)
{
    struct dr_op *op = calloc(4, sizeof *op);
    uint32_t count = 0;
    assert_non_null(op);
    if (r->q == NULL) {
        open_queue(r);
    } else {
        reopen_queue(r);
    }
    expect_counts_agree(r);
    OK(r, dr_queue_ops(r->q, 0, op, 4, &count, &r->err));
    assert_true(count <= 1);
    assert_int_equal(raw_int(r, "SELECT count(*) FROM steps"), (int64_t)count * steps);
    if (count == 1) {
        assert_int_equal(op[0].steps, steps);
        assert_int_equal(raw_int(r, "SELECT count(*) FROM texts"), 1);
        if (op[0].wish == DR_WISH_RUN && op[0].status != DR_O_DONE) {
            wish(r, op[0].id, DR_WISH_ROLLBACK);
        }
        do {
            (void)run_all(r);
        } while (sweep_late(r) > 0 || !dr_op_status_is_final(op_of(r, op[0].id).status));
        expect_counts_agree(r);
    }
    free(op);
}

static void add_life(struct rig *r)
{
    add_many(r, 5, "s1", 1);
    r->step[0].cleanup = "DROP INDEX a";
}

static void every_allocation_may_fail_and_the_queue_stays_whole(void **state)
{
    (void)state;
    bool has_passed = false;
    int failures = 0;
    for (uint64_t n = 1; !has_passed; n++) {
        struct rig *r = make_empty_rig();
        int64_t op = 0;
        add_life(r);
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_queue_open(r->dir, false, &r->q, &r->err);
        if (rc == DR_OK) {
            rc = dr_queue_own(r->q, &r->err);
        }
        if (rc == DR_OK) {
            rc = live(r, &op, &r->err);
        }
        uint64_t made = dr_mem_fail_at(0);
        has_passed = made < n;
        failures += rc != DR_OK;
        assert_true(rc == DR_OK || (rc == DR_NOMEM && strlen(r->err.msg) > 0));
        assert_true(rc == DR_OK || !has_passed);
        expect_healthy(r, 5);
        free_rig(r);
        assert_true(n < 2000);
    }
    assert_true(failures > 20);
}

static void every_commit_may_fail_and_the_queue_stays_whole(void **state)
{
    (void)state;
    static const char *const points[] = {"queue.commit.before", "queue.put.begun", "queue.put.half",
                                         "queue.put.before_commit"};
    for (size_t p = 0; p < sizeof points / sizeof points[0]; p++) {
        int failures = 0;
        enum dr_code rc = DR_IO;
        for (int n = 1; rc != DR_OK; n++) {
            struct rig *r = make_rig();
            int64_t op = 0;
            char spec[64];
            add_life(r);
            (void)snprintf(spec, sizeof spec, "%s@%d=%s", points[p], n, n % 2 ? "error" : "full");
            dr_fault_arm(spec);
            rc = live(r, &op, &r->err);
            dr_fault_arm(NULL);
            assert_true(rc == DR_OK || rc == (n % 2 ? DR_IO : DR_FULL));
            failures += rc != DR_OK;
            expect_healthy(r, 5);
            free_rig(r);
            assert_true(n < 1000);
        }
        assert_true(failures >= (p == 0 ? 20 : 1));
    }
}

/* --- many at once ----------------------------------------------------------------------------- */

enum { THREADS = 8, STEPS = 5000 };

struct crowd {
    struct rig *r;
    pthread_t thread[THREADS];
    pthread_mutex_t mutex;
    int64_t first; /* step id of the first */
    uint8_t times[STEPS];
    int number; /* of the next thread */
    int failures;
};

static enum dr_code next_of_crowd(void *arg, struct dr_plan_step *step, bool *has_out,
                                  struct dr_err *err)
{
    static const char *const nodes[] = {"s1", "s2", "s3", "s4"};
    int64_t *at = arg;
    (void)err;
    *has_out = *at < STEPS;
    *step = (struct dr_plan_step){.number = ++*at,
                                  .node = nodes[*at % 4],
                                  .query = "q",
                                  .rollback_query = "r",
                                  .stage = 1,
                                  .wait_for = *at > 100 ? *at - 100 : 0};
    return DR_OK;
}

static void note_done(struct crowd *c, const struct dr_lease *l)
{
    (void)pthread_mutex_lock(&c->mutex);
    c->times[l->step_id - c->first]++;
    (void)pthread_mutex_unlock(&c->mutex);
}

static void *work(void *arg)
{
    struct crowd *c = arg;
    struct dr_err err;
    char worker[32];
    (void)pthread_mutex_lock(&c->mutex);
    int me = c->number++;
    (void)pthread_mutex_unlock(&c->mutex);
    (void)snprintf(worker, sizeof worker, "host:1:%d", me);
    struct dr_lease_rules rules = {
        .worker = worker, .lease_ms = LEASE_MS, .per_node_default = 1000};
    int failures = 0;
    for (int i = 0;; i++) {
        struct dr_lease l[4];
        uint32_t count = 0;
        struct dr_op op;
        failures += dr_queue_lease(c->r->q, &rules, l, me % 2 ? 4 : 1, &count, &err) != DR_OK;
        for (uint32_t k = 0; k < count; k++) {
            struct dr_finish f = {.outcome = (i + me) % 5 == 0 ? DR_OUT_RELEASE : DR_OUT_DONE};
            l[k].mark.done = 1;
            failures += i % 3 == 0 && dr_queue_save(c->r->q, &l[k], LEASE_MS, false, &err) != DR_OK;
            if (f.outcome == DR_OUT_DONE) {
                note_done(c, &l[k]);
            }
            failures += dr_queue_finish(c->r->q, &l[k], &f, me % 3 == 0, &err) != DR_OK;
            dr_lease_fini(&l[k]);
        }
        if (count == 0) {
            failures += dr_queue_flush(c->r->q, &err) != DR_OK;
            failures += dr_queue_op(c->r->q, 1, &op, &err) != DR_OK;
            if (failures > 0 || op.status == DR_O_DONE) {
                break;
            }
        }
    }
    (void)pthread_mutex_lock(&c->mutex);
    c->failures += failures;
    (void)pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static void eight_threads_do_every_step_exactly_once(void **state)
{
    (void)state;
    struct crowd *c = calloc(1, sizeof *c);
    struct dr_queue *other = NULL;
    int64_t at = 0;
    int64_t id = 0;
    assert_non_null(c);
    (void)pthread_mutex_init(&c->mutex, NULL);
    c->r = make_rig();
    OK(c->r, dr_queue_put(c->r->q, &c->r->put, next_of_crowd, &at, &id, &c->r->err));
    assert_int_equal(id, 1);
    c->first = step_of(c->r, id, 1).id;
    OK(c->r, dr_queue_open(c->r->dir, true, &other, &c->r->err));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&c->thread[i], NULL, work, c), 0);
    }
    /* Meanwhile a second handle steers. Running again is refused only when all is done. */
    for (int i = 0; i < 20; i++) {
        enum dr_wish w = i % 2 == 0 ? DR_WISH_PAUSE : DR_WISH_RUN;
        enum dr_code rc = dr_queue_wish(other, id, w, "bob", "", &c->r->err);
        assert_true(rc == DR_OK || (rc == DR_REFUSED && op_of(c->r, id).status == DR_O_DONE));
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(c->thread[i], NULL), 0);
    }
    assert_int_equal(c->failures, 0);
    for (int i = 0; i < STEPS; i++) {
        assert_int_equal(c->times[i], 1);
    }
    struct dr_op op = op_of(c->r, id);
    assert_int_equal(op.status, DR_O_DONE);
    assert_int_equal(op.count[DR_S_PROCESSED], STEPS);
    assert_int_equal(op.items_done, STEPS);
    expect_counts_agree(c->r);
    dr_queue_close(other);
    free_rig(c->r);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}

static void *put_some(void *arg)
{
    struct rig *r = arg;
    for (int i = 0; i < 25; i++) {
        int64_t op = 0;
        r->at = 0;
        if (dr_queue_put(r->q, &r->put, next_step, r, &op, &r->err) != DR_OK) {
            return r; /* anything but NULL */
        }
    }
    return NULL;
}

static void handles_put_side_by_side_without_mixing_steps(void **state)
{
    (void)state;
    struct rig *r[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        r[i] = make_empty_rig();
        OK(r[i], dr_queue_open(r[0]->dir, false, &r[i]->q, &r[i]->err));
        add_many(r[i], i + 1, "s1", 1);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, put_some, r[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        assert_int_equal(pthread_join(thread[i], &bad), 0);
        assert_null(bad);
    }
    assert_int_equal(raw_int(r[0], "SELECT count(*) FROM operations"), 100);
    assert_int_equal(raw_int(r[0], "SELECT count(*) FROM steps"), 250);
    assert_int_equal(raw_int(r[0], "SELECT count(*) FROM operations o WHERE steps <> (SELECT"
                                   " count(*) FROM steps WHERE op_id=o.id) OR first_step <> (SELECT"
                                   " min(id) FROM steps WHERE op_id=o.id) OR first_step + steps - 1"
                                   " <> (SELECT max(id) FROM steps WHERE op_id=o.id)"),
                     0);
    expect_counts_agree(r[0]);
    for (int i = 3; i >= 0; i--) {
        free_rig(r[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_one_owner_and_its_death_frees_the_folder),
        cmocka_unit_test(a_newer_queue_is_refused_and_left_alone),
        cmocka_unit_test(an_older_queue_is_brought_up_and_its_work_goes_on),
        cmocka_unit_test(a_lease_has_the_whole_url_of_its_store),
        cmocka_unit_test(a_foreign_database_is_refused_and_left_alone),
        cmocka_unit_test(a_file_of_garbage_is_refused_and_left_alone),
        cmocka_unit_test(a_missing_folder_is_made_only_when_it_may_be_missing),
        cmocka_unit_test(a_posted_failure_shows_at_the_next_call),
        cmocka_unit_test(closing_writes_what_was_posted),
        cmocka_unit_test(one_that_fails_takes_nobody_of_its_group_along),
        cmocka_unit_test(every_allocation_may_fail_and_the_queue_stays_whole),
        cmocka_unit_test(every_commit_may_fail_and_the_queue_stays_whole),
        cmocka_unit_test(eight_threads_do_every_step_exactly_once),
        cmocka_unit_test(handles_put_side_by_side_without_mixing_steps),
    };
    return cmocka_run_group_tests_name("queue_trouble", tests, NULL, NULL);
}
