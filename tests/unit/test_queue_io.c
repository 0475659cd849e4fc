/* SPDX-License-Identifier: Apache-2.0 */
/* The queue on a disk that fails: the n-th write, sync or truncation under SQLite goes wrong, for
 * n = 1, 2, 3 ... until a run meets no failure. Whatever was acknowledged before must be there
 * afterwards, a put is whole or absent, and the operation can be driven to its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sql.h"
#include "queue/queue.h"

enum { STEPS = 12 };

/* Which failure it is says nothing about threads, and every one of them is tried without TSan. */
#ifdef __SANITIZE_THREAD__
enum { THINNED = 7 };
#else
enum { THINNED = 1 };
#endif

/* --- a VFS that fails on purpose
 * ------------------------------------------------------------------
 */

struct shim_file {
    sqlite3_file base;
    sqlite3_io_methods methods;
    sqlite3_file *real;
};

static sqlite3_vfs shim;
static sqlite3_vfs *real_vfs;
static _Atomic uint64_t fail_at; /* 0: never; else the n-th operation from now */
static _Atomic bool has_failed;
static _Atomic bool is_sticky; /* all later ones fail, too */
static int fail_code;

static int pass(void)
{
    if (has_failed && is_sticky) {
        return fail_code;
    }
    if (fail_at > 0 && --fail_at == 0) {
        has_failed = true;
        return fail_code;
    }
    return SQLITE_OK;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct shim_file *)f)->real;
}

static int shim_close(sqlite3_file *f)
{
    sqlite3_file *r = real_of(f);
    int rc = r->pMethods != NULL ? r->pMethods->xClose(r) : SQLITE_OK;
    free(r);
    return rc;
}

static int shim_read(sqlite3_file *f, void *data, int bytes, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), data, bytes, at);
}

static int shim_write(sqlite3_file *f, const void *data, int bytes, sqlite3_int64 at)
{
    int rc = pass();
    if (rc != SQLITE_OK && bytes > 1) { /* half of it lands: a torn page */
        (void)real_of(f)->pMethods->xWrite(real_of(f), data, bytes / 2, at);
    }
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xWrite(real_of(f), data, bytes, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 bytes)
{
    int rc = pass();
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xTruncate(real_of(f), bytes);
}

static int shim_sync(sqlite3_file *f, int flags)
{
    int rc = pass();
    return rc != SQLITE_OK ? SQLITE_IOERR_FSYNC : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), out);
}

static int shim_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int shim_check(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int shim_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int shim_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int shim_traits(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int shim_map(sqlite3_file *f, int page, int bytes, int extend, void volatile **out)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, bytes, extend, out);
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void shim_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int shim_unmap(sqlite3_file *f, int is_delete)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), is_delete);
}

static int shim_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct shim_file *s = (struct shim_file *)f;
    (void)v;
    memset(s, 0, sizeof *s);
    s->real = calloc(1, (size_t)real_vfs->szOsFile);
    if (s->real == NULL) {
        return SQLITE_NOMEM;
    }
    int rc = real_vfs->xOpen(real_vfs, name, s->real, flags, out);
    if (rc != SQLITE_OK) {
        free(s->real);
        return rc;
    }
    s->methods = (sqlite3_io_methods){
        .iVersion = 2,
        .xClose = shim_close,
        .xRead = shim_read,
        .xWrite = shim_write,
        .xTruncate = shim_truncate,
        .xSync = shim_sync,
        .xFileSize = shim_size,
        .xLock = shim_lock,
        .xUnlock = shim_unlock,
        .xCheckReservedLock = shim_check,
        .xFileControl = shim_control,
        .xSectorSize = shim_sector,
        .xDeviceCharacteristics = shim_traits,
        .xShmMap = shim_map,
        .xShmLock = shim_shm_lock,
        .xShmBarrier = shim_barrier,
        .xShmUnmap = shim_unmap,
    };
    s->base.pMethods = &s->methods;
    return SQLITE_OK;
}

static int install_shim(void **state)
{
    (void)state;
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "failing";
    shim.szOsFile = (int)sizeof(struct shim_file);
    shim.xOpen = shim_open;
    return sqlite3_vfs_register(&shim, 1);
}

static void arm(uint64_t n, int code, bool sticky)
{
    has_failed = false;
    is_sticky = sticky;
    fail_code = code;
    fail_at = n;
}

/* --- the script: every kind of write once
 * ----------------------------------------------------------
 */

struct told { /* what the queue has acknowledged */
    int64_t op;
    unsigned done;
    bool is_rolling_back;
};

static enum dr_code next_step(void *arg, struct dr_plan_step *step, bool *has_out,
                              struct dr_err *err)
{
    int64_t *n = arg;
    (void)err;
    *has_out = *n < STEPS;
    ++*n;
    *step = (struct dr_plan_step){.number = *n,
                                  .kind = DR_STEP_ERASE,
                                  .node = *n % 2 == 0 ? "a" : "b",
                                  .query = "{\"q\":1}",
                                  .rollback_query = "{\"do\":\"restore\"}",
                                  .stage = *n > 8,
                                  .title = "a step"};
    return DR_OK;
}

static enum dr_code put_one(struct dr_queue *q, int64_t *op, struct dr_err *err)
{
    struct dr_put put = {.kind = "test",
                         .target = "t",
                         .store_url = "memory:x",
                         .request_json = "{}",
                         .wish = DR_WISH_RUN,
                         .archive_days = 1,
                         .by = "test"};
    int64_t n = 0;
    return dr_queue_put(q, &put, next_step, &n, op, err);
}

static enum dr_code do_step(struct dr_queue *q, bool *has_out, struct dr_err *err)
{
    struct dr_lease_rules rules = {.worker = "w", .lease_ms = 60000, .per_node_default = 1};
    struct dr_finish f = {.outcome = DR_OUT_DONE};
    struct dr_lease l = {0};
    uint32_t count = 0;
    enum dr_code rc = dr_queue_lease(q, &rules, &l, 1, &count, err);
    *has_out = count > 0;
    if (rc == DR_OK && count > 0) {
        l.mark.done = l.is_undo ? l.mark.done : 7;
        l.mark.undone = l.is_undo ? 7 : 0;
        rc = dr_queue_save(q, &l, 60000, true, err);
        if (rc == DR_OK) {
            rc = dr_queue_finish(q, &l, &f, true, err);
        }
        dr_lease_fini(&l);
    }
    return rc;
}

static enum dr_code run_script(const char *dir, struct told *t, struct dr_err *err)
{
    struct dr_queue *q = NULL;
    bool has = true;
    enum dr_code rc = dr_queue_open(dir, false, &q, err);
    if (rc == DR_OK) {
        rc = dr_queue_own(q, err);
    }
    if (rc == DR_OK) {
        rc = put_one(q, &t->op, err);
    }
    for (int i = 0; rc == DR_OK && i < 6; i++) {
        rc = do_step(q, &has, err);
        t->done += rc == DR_OK;
    }
    if (rc == DR_OK) {
        rc = dr_queue_tune(q, t->op, "{\"rate\": 5}", 3, "test", err);
    }
    if (rc == DR_OK) {
        rc = dr_queue_wish(q, t->op, DR_WISH_ROLLBACK, "test", "why not", err);
        t->is_rolling_back = rc == DR_OK;
    }
    for (int i = 0; rc == DR_OK && i < 3; i++) {
        rc = do_step(q, &has, err);
    }
    dr_queue_close(q);
    return rc;
}

static void check_whole(struct dr_queue *q, const struct told *t, int64_t op_id)
{
    struct dr_err err = {0};
    struct dr_op op;
    uint64_t sum = 0;
    assert_int_equal(dr_queue_op(q, op_id, &op, &err), DR_OK);
    for (int s = 0; s < DR_S_COUNT; s++) {
        static struct dr_step step[STEPS];
        uint32_t count = 0;
        assert_int_equal(
            dr_queue_steps(q, op_id, (enum dr_step_status)s, 0, step, STEPS, &count, &err), DR_OK);
        assert_int_equal(op.count[s], count);
        sum += count;
    }
    assert_int_equal(sum, STEPS);
    assert_true(op.items_done >= 7 * (uint64_t)t->done);
    if (t->is_rolling_back) {
        assert_int_equal(op.wish, DR_WISH_ROLLBACK);
    }
}

static void drive_to_the_end(struct dr_queue *q, int64_t op_id)
{
    struct dr_err err = {0};
    struct dr_op op;
    bool has = true;
    for (int i = 0; i < 10 * STEPS && has; i++) {
        assert_int_equal(do_step(q, &has, &err), DR_OK);
    }
    assert_int_equal(dr_queue_op(q, op_id, &op, &err), DR_OK);
    assert_true(dr_op_status_is_final(op.status));
    assert_int_equal(op.items_done,
                     op.wish == DR_WISH_ROLLBACK ? op.items_undone : UINT64_C(7) * STEPS);
}

static void remove_dir(const char *dir)
{
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void check_after(const char *dir, const struct told *t)
{
    struct dr_err err = {0};
    struct dr_queue *q = NULL;
    struct dr_op op[4];
    uint32_t count = 0;
    enum dr_code rc = dr_queue_open(dir, false, &q, &err);
    if (rc != DR_OK) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(rc, DR_OK);
    assert_int_equal(dr_queue_own(q, &err), DR_OK);
    assert_int_equal(dr_queue_ops(q, 0, op, 4, &count, &err), DR_OK);
    assert_true(count <= 1);
    assert_true(count == 1 || t->op == 0); /* an acknowledged put is there */
    if (count == 1) {
        check_whole(q, t, op[0].id);
        drive_to_the_end(q, op[0].id);
    }
    dr_queue_close(q);
}

static void fail_operations(int code, bool sticky, uint64_t stride)
{
    uint64_t failures = 0;
    for (uint64_t n = 1;; n += stride) {
        /* In memory where there is such a place: the disk's own time proves nothing here. */
        char dir[64];
        (void)snprintf(dir, sizeof dir, "%s/drover-queue-io.XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        struct dr_err err = {0};
        struct told told = {0};
        assert_non_null(mkdtemp(dir));
        arm(n, code, sticky);
        enum dr_code rc = run_script(dir, &told, &err);
        bool was_hit = has_failed;
        arm(0, SQLITE_OK, false);
        if (rc != DR_OK) {
            assert_true(err.msg[0] != '\0');
            assert_true(dr_code_retry(rc) == DR_RETRY_LATER);
        }
        check_after(dir, &told);
        remove_dir(dir);
        failures += was_hit;
        if (!was_hit) {
            assert_int_equal(rc, DR_OK);
            break;
        }
    }
    assert_true(failures * stride > 40);
}

static void a_failing_disk_loses_nothing_acknowledged(void **state)
{
    (void)state;
    fail_operations(SQLITE_IOERR_WRITE, false, THINNED);
}

static void a_disk_that_stays_broken_loses_nothing_acknowledged(void **state)
{
    (void)state;
    fail_operations(SQLITE_IOERR_WRITE, true, 3 * THINNED);
}

static void a_full_disk_loses_nothing_acknowledged(void **state)
{
    (void)state;
    fail_operations(SQLITE_FULL, true, 3 * THINNED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failing_disk_loses_nothing_acknowledged),
        cmocka_unit_test(a_disk_that_stays_broken_loses_nothing_acknowledged),
        cmocka_unit_test(a_full_disk_loses_nothing_acknowledged),
    };
    return cmocka_run_group_tests_name("queue on a failing disk", tests, install_shim, NULL);
}
