/* SPDX-License-Identifier: Apache-2.0 */
/* What the mirror promises: status records follow the queue, the final ones in any case, however
 * often the store or the process fails; nobody who did not ask gets any. */
#include <fcntl.h>
#include <stdatomic.h>

#include "unit/queue_help.h"

#include "base/backoff.h"
#include "store/fault/fault_store.h"
#include "store/memory/memory_store.h"
#include "verbs/mirror.h"

enum { PATIENCE_MS = 20000, SHORT_MS = 20, NEVER_MS = 3600000, QUIET_MS = 300 };

static const char request[] =
    "{\"database\":\"acme\",\"kind\":\"tenant.drop\",\"status_database\":\"st\","
    "\"store\":\"memory:mirror\"}";

struct desk {
    struct rig *r;
    struct dr_mirror *m;
    struct dr_log *log;
    int log_fd;
    const char *spec; /* whose records are looked at */
};

static void open_desk(struct desk *d)
{
    char path[96];
    *d = (struct desk){.r = make_rig(), .spec = request};
    assert_int_equal(dr_memory_reset("mirror"), DR_OK);
    dr_fault_store_reset();
    (void)snprintf(path, sizeof path, "%s/log", d->r->dir);
    d->log_fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(d->log_fd >= 0);
    const struct dr_log_config c = {.level = DR_LOG_INFO, .fd = d->log_fd};
    OK(d->r, dr_log_create(&c, &d->log, &d->r->err));
    d->r->put.request_json = request;
    d->r->put.store_url = "memory:mirror";
}

static void start(struct desk *d, uint32_t interval_ms)
{
    const struct dr_mirror_config c = {.queue = d->r->q,
                                       .log = d->log,
                                       .interval_ms = interval_ms,
                                       .retry_first_ms = 5,
                                       .retry_max_ms = 20};
    OK(d->r, dr_mirror_start(&c, &d->m, &d->r->err));
}

static void stop(struct desk *d)
{
    dr_mirror_stop(d->m);
    d->m = NULL;
}

static void close_desk(struct desk *d)
{
    stop(d);
    dr_log_destroy(d->log);
    (void)close(d->log_fd);
    free_rig(d->r);
    dr_memory_remove("mirror");
    dr_memory_remove("other");
}

static const char *logged(const struct desk *d)
{
    static char text[65536];
    ssize_t got = pread(d->log_fd, text, sizeof text - 1, 0);
    assert_true(got >= 0);
    text[got] = '\0';
    return text;
}

static void expect_logged(const struct desk *d, const char *part)
{
    const char *text = logged(d);
    assert_has(text, part);
}

static int64_t put_one(struct desk *d, const char *collection)
{
    static char query[PLAN_MAX][128];
    struct rig *r = d->r;
    (void)snprintf(query[r->steps], sizeof query[0],
                   "{\"archive\":true,\"range\":{\"collection\":\"%s\"}}", collection);
    const char *text = query[r->steps];
    struct dr_plan_step *s = add(r, "s1", 1);
    s->query = text;
    s->title = "the chunk";
    return put(r);
}

static void erase(struct desk *d, int64_t op, uint64_t done)
{
    struct dr_lease l;
    lease_step(d->r, op, 1, &l);
    l.mark.done = done;
    finish(d->r, &l, DR_OUT_DONE);
}

struct hope {
    const struct desk *d;
    const char *part;
};

static bool has_part(void *arg)
{
    const struct hope *h = arg;
    char *state = dr_memory_published("mirror", h->d->spec, NULL);
    bool has = state != NULL && strstr(state, h->part) != NULL;
    dr_free(state);
    return has;
}

static void expect_soon(struct desk *d, const char *part)
{
    struct hope h = {d, part};
    if (!dr_wait_ms(PATIENCE_MS, has_part, &h)) {
        char *state = dr_memory_published("mirror", d->spec, NULL);
        print_error("waited for %s, there is %s\n", part, state == NULL ? "nothing" : state);
        dr_free(state);
        fail();
    }
}

static bool is_logged(void *arg)
{
    const struct hope *h = arg;
    return strstr(logged(h->d), h->part) != NULL;
}

static void expect_logged_soon(const struct desk *d, const char *part)
{
    struct hope h = {d, part};
    (void)dr_wait_ms(PATIENCE_MS, is_logged, &h);
    expect_logged(d, part);
}

static uint64_t times_published(const char *store, const char *spec)
{
    uint64_t times = 0;
    dr_free(dr_memory_published(store, spec, &times));
    return times;
}

static void records_follow_the_operation(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t op = put_one(&d, "acme.orders");
    start(&d, SHORT_MS);
    expect_soon(&d, "\"status\":\"pending\"");
    struct dr_lease l;
    lease_step(d.r, op, 1, &l);
    l.mark.done = 4;
    OK(d.r, dr_queue_save(d.r->q, &l, LEASE_MS, true, &d.r->err));
    expect_soon(&d, "\"done\":4,\"error\":null,\"last\":null,\"node\":\"s1\",\"status\":"
                    "\"in_progress\"");
    l.mark.done = 9;
    finish(d.r, &l, DR_OUT_DONE);
    expect_soon(&d, "\"done\":9,\"error\":null,\"last\":\"the chunk\",\"node\":\"s1\","
                    "\"status\":\"completed\"");
    close_desk(&d);
}

static void an_ending_is_written_at_once(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t op = put_one(&d, "acme.orders");
    start(&d, NEVER_MS);
    expect_soon(&d, "\"status\":\"pending\"");
    erase(&d, op, 9);
    expect_soon(&d, "\"status\":\"completed\"");
    /* A new one is seen without waiting either. */
    d.r->put.request_json = d.spec = "{\"database\":\"globex\",\"status_database\":\"st\","
                                     "\"store\":\"memory:mirror\"}";
    (void)put_one(&d, "globex.orders");
    expect_soon(&d, "globex.orders");
    close_desk(&d);
}

static void nothing_is_written_while_nothing_changes(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    (void)put_one(&d, "acme.orders");
    start(&d, 1);
    expect_soon(&d, "\"status\":\"pending\"");
    (void)dr_wait_ms(QUIET_MS, NULL, NULL);
    assert_int_equal(times_published("mirror", request), 1);
    close_desk(&d);
}

static void who_did_not_ask_gets_no_records(void **state)
{
    (void)state;
    struct desk d;
    static const char plain[] = "{\"kind\":\"tenant.drop\",\"store\":\"memory:mirror\"}";
    static const char talk[] =
        "{\"note\":\"no \\\"status_database\\\"\",\"store\":\"memory:mirror\"}";
    open_desk(&d);
    d.r->put.request_json = plain;
    int64_t op = put_one(&d, "acme.orders");
    d.r->put.request_json = talk;
    (void)put_one(&d, "acme.orders");
    start(&d, 1);
    erase(&d, op, 1);
    stop(&d);
    assert_int_equal(times_published("mirror", plain), 0);
    assert_int_equal(times_published("mirror", talk), 0);
    assert_int_equal(raw_int(d.r, "SELECT count(*) FROM audit WHERE by='drover'"), 0);
    close_desk(&d);
}

static void a_mere_plan_changes_no_records(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    d.r->put.wish = DR_WISH_HOLD;
    int64_t op = put_one(&d, "acme.orders");
    start(&d, 1);
    stop(&d);
    assert_int_equal(times_published("mirror", request), 0);
    wish(d.r, op, DR_WISH_RUN);
    start(&d, 1);
    stop(&d);
    assert_int_equal(times_published("mirror", request), 1);
    close_desk(&d);
}

static void records_go_to_the_status_store(void **state)
{
    (void)state;
    struct desk d;
    static const char elsewhere[] =
        "{\"database\":\"acme\",\"status_database\":\"st\",\"status_store\":\"memory:other\","
        "\"store\":\"memory:mirror\"}";
    open_desk(&d);
    assert_int_equal(dr_memory_reset("other"), DR_OK);
    d.r->put.request_json = elsewhere;
    (void)put_one(&d, "acme.orders");
    start(&d, 1);
    stop(&d);
    assert_int_equal(times_published("mirror", elsewhere), 0);
    assert_int_equal(times_published("other", elsewhere), 1);
    close_desk(&d);
}

/* The store fails or hides what it did: it is tried again until the records are right. */
static void write_through(const char *rule)
{
    struct desk d;
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{\"database\":\"acme\",\"status_database\":\"st\","
                   "\"store\":\"fault:%s|memory:mirror\"}",
                   rule);
    open_desk(&d);
    d.r->put.request_json = d.spec = text;
    int64_t op = put_one(&d, "acme.orders");
    start(&d, SHORT_MS);
    erase(&d, op, 9);
    expect_soon(&d, "\"status\":\"completed\"");
    /* The store may have done what it did not answer: the records stand before the mirror knows. */
    expect_logged_soon(&d, "status records are written again");
    stop(&d);
    expect_logged(&d, "status records cannot be written, trying again");
    assert_int_equal(raw_int(d.r, "SELECT count(*) FROM audit WHERE by='drover'"), 1);
    close_desk(&d);
}

static void failures_are_told_and_tried_again(void **state)
{
    (void)state;
    write_through("publish=unreachable@1+4");
    write_through("open=unreachable@1+4");
    write_through("publish=unknown_done@1+2");
    write_through("publish=denied@1+2");
}

static void a_store_that_stays_away_holds_up_nothing(void **state)
{
    (void)state;
    struct desk d;
    static const char gone[] = "{\"database\":\"acme\",\"status_database\":\"st\","
                               "\"store\":\"memory:gone\"}";
    open_desk(&d);
    d.r->put.request_json = gone;
    int64_t op = put_one(&d, "acme.orders");
    start(&d, SHORT_MS);
    erase(&d, op, 9);
    expect_op(d.r, op, DR_O_DONE);
    stop(&d);
    expect_logged(&d, "whoever works on this data folder next");
    assert_int_equal(raw_int(d.r, "SELECT count(*) FROM audit WHERE by='drover'"), 0);
    close_desk(&d);
}

static void the_next_owner_writes_what_a_crash_left_out(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t op = put_one(&d, "acme.orders");
    start(&d, NEVER_MS);
    expect_soon(&d, "\"status\":\"pending\"");
    /* The mirror of a process that was killed: nothing of the ending is written or noted. */
    stop(&d);
    erase(&d, op, 9);
    reopen_queue(d.r);
    expect_soon(&d, "\"status\":\"pending\"");
    start(&d, NEVER_MS);
    expect_soon(&d, "\"status\":\"completed\"");
    stop(&d);
    uint64_t times = times_published("mirror", request);
    reopen_queue(d.r);
    start(&d, 1);
    stop(&d);
    assert_int_equal(times_published("mirror", request), times);
    assert_int_equal(raw_int(d.r, "SELECT count(*) FROM audit WHERE by='drover'"), 1);
    close_desk(&d);
}

static void a_rollback_after_the_end_is_written_too(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t op = put_one(&d, "acme.orders");
    start(&d, SHORT_MS);
    erase(&d, op, 10);
    expect_soon(&d, "\"status\":\"completed\"");
    wish(d.r, op, DR_WISH_ROLLBACK);
    struct dr_lease l;
    lease_step(d.r, op, 1, &l);
    l.mark.undone = 10;
    finish(d.r, &l, DR_OUT_DONE);
    expect_op(d.r, op, DR_O_ROLLED_BACK);
    expect_soon(&d, "\"done\":0,\"error\":null,\"last\":null,\"node\":\"s1\",\"status\":"
                    "\"pending\"");
    close_desk(&d);
}

static void the_newest_operation_has_the_last_word(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t older = put_one(&d, "acme.orders");
    wish(d.r, older, DR_WISH_PAUSE);
    int64_t newer = put_one(&d, "acme.orders");
    start(&d, NEVER_MS);
    erase(&d, newer, 9);
    expect_soon(&d, "\"done\":9");
    stop(&d);
    wish(d.r, older, DR_WISH_RUN);
    uint64_t before = times_published("mirror", request);
    erase(&d, older, 1);
    start(&d, NEVER_MS);
    stop(&d);
    assert_true(times_published("mirror", request) >= before + 2);
    expect_soon(&d, "\"done\":9");
    close_desk(&d);
}

static void a_short_of_memory_mirror_tries_again(void **state)
{
    (void)state;
    struct desk d;
    open_desk(&d);
    int64_t op = put_one(&d, "acme.orders");
    erase(&d, op, 9);
    for (uint64_t n = 1; n <= 60; n++) {
        raw_exec(d.r, "DELETE FROM audit WHERE by='drover'");
        assert_int_equal(dr_memory_reset("mirror"), DR_OK);
        (void)dr_mem_fail_at(n);
        struct dr_err err = {0};
        const struct dr_mirror_config c = {.queue = d.r->q, .interval_ms = 1, .retry_max_ms = 2};
        enum dr_code rc = dr_mirror_start(&c, &d.m, &err);
        assert_true(rc == DR_OK || rc == DR_NOMEM);
        if (rc == DR_OK) {
            expect_soon(&d, "\"status\":\"completed\"");
        }
        stop(&d);
        (void)dr_mem_fail_at(0);
    }
    close_desk(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_follow_the_operation),
        cmocka_unit_test(an_ending_is_written_at_once),
        cmocka_unit_test(nothing_is_written_while_nothing_changes),
        cmocka_unit_test(who_did_not_ask_gets_no_records),
        cmocka_unit_test(a_mere_plan_changes_no_records),
        cmocka_unit_test(records_go_to_the_status_store),
        cmocka_unit_test(failures_are_told_and_tried_again),
        cmocka_unit_test(a_store_that_stays_away_holds_up_nothing),
        cmocka_unit_test(the_next_owner_writes_what_a_crash_left_out),
        cmocka_unit_test(a_rollback_after_the_end_is_written_too),
        cmocka_unit_test(the_newest_operation_has_the_last_word),
        cmocka_unit_test(a_short_of_memory_mirror_tries_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
