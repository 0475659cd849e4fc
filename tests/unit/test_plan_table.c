/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of request/ and plan/ about sharded tables of SQL stores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/plan.h"
#include "request/request.h"
#include "store/store.h"

static const char create_job[] =
    "{\"kind\":\"table.create\",\"table\":\"users\",\"columns\":\"id BIGINT PRIMARY KEY, name"
    " TEXT\",\"shards\":3,\"rf\":2,\"nodes\":[\"postgres://ann:secret@db1:5432/shop?x=1\","
    "{\"url\":\"postgres://db2:5432/shop\",\"name\":\"two\"},\"postgres://db3:5432/shop\"]}";

struct scene {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_plan *plan;
    struct dr_err err;
};

static enum dr_code parse(struct scene *s, const char *job)
{
    json_t *j = NULL;
    memset(s, 0, sizeof *s);
    assert_int_equal(dr_json_parse("job", job, strlen(job), &j, &s->err), DR_OK);
    enum dr_code rc = dr_request_parse(j, "job", &s->request, &s->err);
    json_decref(j);
    if (rc == DR_OK) {
        struct dr_protect protect = {0};
        rc = dr_request_guard(s->request, &protect, &s->err);
    }
    return rc;
}

static enum dr_code make(struct scene *s, const char *job, const char *extra)
{
    enum dr_code rc = parse(s, job);
    s->survey.extra = extra;
    if (rc == DR_OK) {
        rc = dr_request_resolve(s->request, &s->survey, &s->err);
    }
    if (rc == DR_OK) {
        rc = dr_plan_make(s->request, &s->survey, DR_CAN_COMMAND, &s->plan, &s->err);
    }
    return rc;
}

static void expect_made(struct scene *s, const char *job, const char *extra)
{
    if (make(s, job, extra) != DR_OK) {
        fail_msg("%s", s->err.msg);
    }
}

static void done(struct scene *s)
{
    dr_plan_destroy(s->plan);
    dr_request_destroy(s->request);
}

static void refuse(const char *job, const char *extra, enum dr_code code, const char *part)
{
    struct scene s;
    enum dr_code rc = make(&s, job, extra);
    if (rc != code || strstr(s.err.msg, part) == NULL) {
        print_error("wanted %s with \"%s\", got %s: %s\n", dr_code_name(code), part,
                    dr_code_name(rc), s.err.msg);
        fail();
    }
    done(&s);
}

/* All steps as lines "number stage node kind query-verb undo-verb wait rollback_wait". */
static const char *verb_of(const char *text, char *buf, size_t bytes)
{
    const char *at = text == NULL ? NULL : strstr(text, "\"op\":\"");
    size_t skip = 6;
    if (text == NULL) {
        return "NONE";
    }
    if (at == NULL) {
        at = strstr(text, "\":\"");
        skip = 3;
    }
    (void)snprintf(buf, bytes, "%.*s", (int)strcspn(at + skip, "\""), at + skip);
    return buf;
}

static void expect_steps(const struct scene *s, const char *const *line, size_t count)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    struct dr_err err;
    bool has = false;
    char got[256], a[64], b[64];
    assert_int_equal(dr_plan_begin(s->plan, &it, &err), DR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(dr_plan_next(it, &step, &has, &err), DR_OK);
        assert_true(has);
        (void)snprintf(got, sizeof got, "%d %u %s %s %s %s %d %d", (int)step.number,
                       (unsigned)step.stage, step.node, dr_step_kind_name(step.kind),
                       verb_of(step.query, a, sizeof a), verb_of(step.rollback_query, b, sizeof b),
                       (int)step.wait_for, (int)step.rollback_wait_for);
        assert_string_equal(got, line[i]);
    }
    assert_int_equal(dr_plan_next(it, &step, &has, &err), DR_OK);
    assert_false(has);
    dr_plan_end(it);
}

#define EXPECT(s, lines) expect_steps(s, lines, sizeof lines / sizeof lines[0])

/* --- requests --------------------------------------------------------------------------------- */

static void a_job_names_its_nodes_by_their_urls_without_secrets(void **state)
{
    (void)state;
    struct scene s;
    assert_int_equal(parse(&s, create_job), DR_OK);
    const struct dr_table_job *t = &s.request->u.table;
    assert_int_equal(t->node_count, 3);
    assert_string_equal(t->node[0].name, "db1:5432/shop");
    assert_string_equal(t->node[1].name, "two");
    assert_string_equal(s.request->store_url, "fleet:");
    assert_string_equal(dr_request_target(s.request), "users");
    assert_int_equal(t->give_up_s, 30);
    assert_int_equal(s.request->archive_days, 0);
    done(&s);
}

static void bad_jobs_are_refused_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *job;
        enum dr_code code;
        const char *part;
    } bad[] = {
        {"{\"kind\":\"table.create\",\"table\":\"1x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[\"sqlite:/a\"]}",
         DR_INPUT, "job.table"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT); DROP TABLE y; --\","
         "\"shards\":1,\"rf\":1,\"nodes\":[\"sqlite:/a\"]}",
         DR_INPUT, "job.columns"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\" \",\"shards\":1,\"rf\":1,"
         "\"nodes\":[\"sqlite:/a\"]}",
         DR_INPUT, "job.columns"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":3001,"
         "\"rf\":1,\"nodes\":[\"sqlite:/a\"]}",
         DR_INPUT, "shards"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":2,"
         "\"nodes\":[\"sqlite:/a\"]}",
         DR_REFUSED, "rf 2"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[\"sqlite:/a\",\"mysql://h/d\"]}",
         DR_REFUSED, "one kind"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[\"sqlite:/a\",\"sqlite:/a\"]}",
         DR_INPUT, "twice"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[\"redis://h\"]}",
         DR_INPUT, "nodes[0]"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[{\"url\":\"sqlite:/a\",\"name\":\"catalog\"}]}",
         DR_INPUT, "catalog"},
        {"{\"kind\":\"table.create\",\"table\":\"x\",\"columns\":\"a INT\",\"shards\":1,\"rf\":1,"
         "\"nodes\":[{\"url\":\"sqlite:/a\",\"weight\":3}]}",
         DR_INPUT, "weight"},
        {"{\"kind\":\"table.rebalance\",\"table\":\"x\",\"add\":[\"sqlite:/a\"],\"remove\":"
         "[\"sqlite:/a\"]}",
         DR_INPUT, "both added and removed"},
        {"{\"kind\":\"table.drop\",\"table\":\"x\",\"irreversible\":true}", DR_INPUT,
         "irreversible"},
        {"{\"kind\":\"table.drop\",\"table\":\"x\",\"shards\":3}", DR_INPUT, "shards"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refuse(bad[i].job, "{}", bad[i].code, bad[i].part);
    }
}

/* --- create ----------------------------------------------------------------------------------- */

#define NODE(n, url) "{\"name\":\"" n "\",\"url\":\"" url "\",\"is_alive\":true,\"is_new\":true}"
#define CREATE_EXTRA(record)                                                                       \
    "{\"operation\":\"op-1\",\"uuid\":\"t-1\",\"now\":1000,\"engine\":\"postgres\","               \
    "\"record\":" record                                                                           \
    ",\"nodes\":[" NODE("db1:5432/shop", "postgres://ann:secret@db1:5432/shop?x=1") "," NODE(      \
        "two", "postgres://db2:5432/shop") "," NODE("db3:5432/shop",                               \
                                                    "postgres://db3:5432/shop") "]}"

static void a_creation_reserves_makes_and_opens(void **state)
{
    (void)state;
    struct scene s;
    expect_made(&s, create_job, CREATE_EXTRA("null"));
    /* 3 nodes, 3 shards, rf 2: [0,1], [2,0], [1,2] in the order of the names */
    static const char *const lines[] = {
        "1 0 catalog command table_reserve table_release 0 0",
        "2 1 db1:5432/shop command ensure drop 0 0",
        "3 1 two command ensure drop 0 0",
        "4 1 db3:5432/shop command ensure drop 0 0",
        "5 1 db1:5432/shop command ensure drop 0 0",
        "6 1 db3:5432/shop command ensure drop 0 0",
        "7 1 two command ensure drop 0 0",
        "8 2 catalog command table_ready NONE 0 0",
    };
    assert_int_equal(dr_plan_step_count(s.plan), 8);
    assert_true(dr_plan_is_atomic(s.plan));
    assert_int_equal(dr_plan_give_up_s(s.plan), 30);
    assert_int_equal(dr_plan_no_return(s.plan), 8); /* open: from then on it is dropped */
    EXPECT(&s, lines);
    done(&s);
}

static void the_texts_for_people_hide_passwords(void **state)
{
    (void)state;
    struct scene s;
    struct dr_str out;
    json_t *j = NULL;
    expect_made(&s, create_job, CREATE_EXTRA("null"));
    dr_str_init(&out);
    assert_int_equal(dr_plan_print(s.plan, true, 0, &out, &s.err), DR_OK);
    assert_null(strstr(dr_str_text(&out), "secret"));
    assert_non_null(strstr(dr_str_text(&out), "shard 0: "));
    assert_non_null(strstr(dr_str_text(&out), "rolls the whole back"));
    dr_str_fini(&out);
    assert_int_equal(dr_plan_to_json(s.plan, true, &j, &s.err), DR_OK);
    char *text = dr_json_text(j);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "ann:***@db1"));
    assert_non_null(strstr(text, "\"layout\""));
    dr_free(text);
    json_decref(j);
    done(&s);
}

static void a_table_that_is_there_is_refused_or_left_alone(void **state)
{
    (void)state;
    struct scene s;
    static const char there[] =
        CREATE_EXTRA("{\"name\":\"users\",\"uuid\":\"t-0\",\"engine\":\"postgres\",\"columns\":\"id"
                     " INT\",\"extra\":\"\",\"rf\":1,\"state\":\"ready\",\"shards\":[{\"shard\":0,"
                     "\"holders\":[\"two\"]}]}");
    refuse(create_job, there, DR_EXISTS, "exists already");
    char job[1024];
    (void)snprintf(job, sizeof job, "%.*s,\"if_not_exists\":true}", (int)strlen(create_job) - 1,
                   create_job);
    expect_made(&s, job, there);
    assert_int_equal(dr_plan_step_count(s.plan), 0);
    done(&s);
}

static void a_node_that_does_not_answer_is_named_before_anything_is_queued(void **state)
{
    (void)state;
    refuse(create_job,
           "{\"operation\":\"o\",\"uuid\":\"t\",\"now\":1,\"engine\":\"postgres\",\"record\":null,"
           "\"nodes\":[{\"name\":\"db1:5432/shop\",\"url\":\"postgres://x\",\"is_alive\":false,"
           "\"why\":\"connection refused\"}]}",
           DR_UNREACHABLE, "db1:5432/shop does not answer: connection refused");
}

/* --- rebalance -------------------------------------------------------------------------------- */

#define SEEN(n, alive, fresh, shards)                                                              \
    "{\"name\":\"" n "\",\"url\":\"sqlite:/" n "\",\"is_alive\":" alive ",\"is_new\":" fresh       \
    ",\"why\":\"gone\",\"shards\":[" shards "]}"
#define SHARD(k, holders) "{\"shard\":" k ",\"holders\":[" holders "]}"
#define REBALANCE_EXTRA(rf, state, shards, nodes)                                                  \
    "{\"operation\":\"op-2\",\"uuid\":\"fresh\",\"now\":5000,\"engine\":\"sqlite\",\"record\":{"   \
    "\"name\":\"users\",\"uuid\":\"t-1\",\"engine\":\"sqlite\",\"columns\":\"id INTEGER PRIMARY "  \
    "KEY\",\"extra\":\"\",\"rf\":" rf ",\"state\":\"" state "\",\"operation\":\"op-0\",\"what\":"  \
    "\"drop\",\"shards\":[" shards "]},\"nodes\":[" nodes "]}"

static void a_new_node_gets_what_levels_and_nothing_else_moves(void **state)
{
    (void)state;
    struct scene s;
    expect_made(&s,
                "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"add\":[{\"url\":\"sqlite:/c\","
                "\"name\":\"c\"}],\"hold_s\":10}",
                REBALANCE_EXTRA(
                    "1", "ready",
                    SHARD("0", "\"a\"") "," SHARD("1", "\"a\"") "," SHARD("2", "\"b\"") "," SHARD(
                        "3", "\"b\""),
                    SEEN("a", "true", "false",
                         "{\"name\":\"users_s0\",\"rows\":7},"
                         "{\"name\":\"users_s1\",\"rows\":9}") "," SEEN("b", "true", "false",
                                                                        "") "," SEEN("c", "true",
                                                                                     "true", "")));
    assert_int_equal(dr_plan_no_return(s.plan), 9);
    static const char *const lines[] = {
        "1 0 catalog command table_begin table_cancel 0 0",
        "2 1 c command ensure drop 0 7",
        "3 1 a command capture uncapture 2 7",
        "4 1 c copy copy nothing 3 0",
        "5 1 c copy follow nothing 4 0",
        "6 1 c copy verify nothing 5 0",
        "7 1 a command cutover cutback 6 0",
        "8 2 catalog command hold-until nothing 0 0",
        "9 3 c command retire NONE 0 0",
        "10 4 catalog command table_end NONE 0 0",
    };
    EXPECT(&s, lines);
    assert_true(dr_plan_estimated(s.plan) == 7 || dr_plan_estimated(s.plan) == 9);
    done(&s);
}

static void a_dead_node_is_given_up_only_when_named(void **state)
{
    (void)state;
    struct scene s;
    static const char extra[] =
        REBALANCE_EXTRA("2", "ready", SHARD("0", "\"a\",\"b\"") "," SHARD("1", "\"b\",\"c\""),
                        SEEN("a", "false", "false", "") "," SEEN("b", "true", "false", "") "," SEEN(
                            "c", "true", "false", ""));
    refuse("{\"kind\":\"table.rebalance\",\"table\":\"users\"}", extra, DR_REFUSED,
           "give up its copies with --remove a");
    expect_made(
        &s, "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":[\"a\"],\"hold_s\":0}",
        extra);
    static const char *const lines[] = {
        "1 0 catalog command table_begin table_cancel 0 0",
        "2 1 c command ensure drop 0 7",
        "3 1 b command capture uncapture 2 7",
        "4 1 c copy copy nothing 3 0",
        "5 1 c copy follow nothing 4 0",
        "6 1 c copy verify nothing 5 0",
        "7 1 b command cutover cutback 6 0",
        "8 3 b command retire NONE 0 0",
        "9 3 catalog command give-up NONE 0 0",
        "10 4 catalog command table_end NONE 0 0",
    };
    EXPECT(&s, lines);
    done(&s);
}

/* A change that was taken back may have left a copy that the catalog does not name; a node that
 * leaves is not asked again later. */
#define LEFT_EXTRA(alive, shards)                                                                  \
    REBALANCE_EXTRA("2", "ready", SHARD("0", "\"b\"") "," SHARD("1", "\"b\",\"c\""),               \
                    SEEN("a", alive, "false", shards) "," SEEN("b", "true", "false", "") "," SEEN( \
                        "c", "true", "false", ""))
static void what_was_left_on_a_leaving_node_goes_with_it(void **state)
{
    (void)state;
    static const char *const extra[] = {
        LEFT_EXTRA("true", "{\"name\":\"users_s0\",\"exists\":true,\"owned\":true,\"held\":false}"),
        LEFT_EXTRA("false", ""),
        LEFT_EXTRA("true",
                   "{\"name\":\"users_s0\",\"exists\":true,\"owned\":false,\"held\":false}"),
    };
    static const char *const left[] = {"9 3 b command retire NONE 0 0",
                                       "9 3 catalog command give-up NONE 0 0", NULL};
    for (int i = 0; i < 3; i++) {
        struct scene s;
        const char *lines[] = {
            "1 0 catalog command table_begin table_cancel 0 0",
            "2 1 c command ensure drop 0 7",
            "3 1 b command capture uncapture 2 7",
            "4 1 c copy copy nothing 3 0",
            "5 1 c copy follow nothing 4 0",
            "6 1 c copy verify nothing 5 0",
            "7 1 b command cutover cutback 6 0",
            "8 3 b command retire NONE 0 0",
            left[i] == NULL ? "9 4 catalog command table_end NONE 0 0" : left[i],
            "10 4 catalog command table_end NONE 0 0",
        };
        expect_made(&s,
                    "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":[\"a\"],"
                    "\"hold_s\":0}",
                    extra[i]);
        expect_steps(&s, lines, left[i] == NULL ? 9 : 10);
        done(&s);
    }
}

/* All copies there will be are compared with the source: the new one, and those that stay and
 * live. The one that is copied from is not compared with itself. */
static void copies_that_stay_are_compared_as_well(void **state)
{
    (void)state;
    static const struct {
        const char *job, *copied, *compared;
    } cases[] = {
        {"[\"c\"]", "\"from\":\"a\",\"to\":[\"d\"]", "\"from\":\"a\",\"to\":[\"d\",\"b\"]"},
        {"[\"a\"]", "\"from\":\"a\",\"to\":[\"d\"]", "\"from\":\"a\",\"to\":[\"d\",\"b\",\"c\"]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scene s;
        struct dr_plan_iter *it = NULL;
        struct dr_plan_step step;
        bool has = true;
        int seen = 0;
        char job[200];
        (void)snprintf(job, sizeof job,
                       "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":%s}",
                       cases[i].job);
        expect_made(&s, job,
                    REBALANCE_EXTRA(
                        "3", "ready", SHARD("0", "\"a\",\"b\",\"c\""),
                        SEEN("a", "true", "false", "") "," SEEN("b", "true", "false", "") "," SEEN(
                            "c", "true", "false", "") "," SEEN("d", "true", "false", "")));
        assert_int_equal(dr_plan_begin(s.plan, &it, &s.err), DR_OK);
        while (dr_plan_next(it, &step, &has, &s.err) == DR_OK && has) {
            bool is_verify = strstr(step.query, "{\"fleet\":\"verify\"") != NULL;
            bool is_copy = strstr(step.query, "{\"fleet\":\"copy\"") != NULL;
            if (is_copy || is_verify) {
                assert_non_null(strstr(step.query, is_copy ? cases[i].copied : cases[i].compared));
                seen++;
            }
        }
        assert_int_equal(seen, 2);
        dr_plan_end(it);
        done(&s);
    }
}

static void the_last_copy_on_a_dead_node_is_never_given_up(void **state)
{
    (void)state;
    refuse("{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":[\"a\"]}",
           REBALANCE_EXTRA("1", "ready", SHARD("0", "\"a\"") "," SHARD("1", "\"b\""),
                           SEEN("a", "false", "false", "") "," SEEN("b", "true", "false", "")),
           DR_REFUSED, "shard 0");
}

static void a_table_that_somebody_holds_is_refused_with_the_holder(void **state)
{
    (void)state;
    refuse("{\"kind\":\"table.rebalance\",\"table\":\"users\"}",
           REBALANCE_EXTRA("1", "dropping", SHARD("0", "\"a\""), SEEN("a", "true", "false", "")),
           DR_REFUSED, "op-0");
    refuse("{\"kind\":\"table.drop\",\"table\":\"users\"}",
           REBALANCE_EXTRA("1", "changing", SHARD("0", "\"a\""), SEEN("a", "true", "false", "")),
           DR_REFUSED, "op-0");
    refuse("{\"kind\":\"table.rebalance\",\"table\":\"users\"}",
           "{\"operation\":\"o\",\"uuid\":\"u\",\"record\":null,\"nodes\":[]}", DR_NOT_FOUND,
           "no sharded table");
}

static void too_few_nodes_for_rf_are_refused(void **state)
{
    (void)state;
    refuse("{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":[\"b\"]}",
           REBALANCE_EXTRA("2", "ready", SHARD("0", "\"a\",\"b\""),
                           SEEN("a", "true", "false", "") "," SEEN("b", "true", "false", "")),
           DR_REFUSED, "rf 2");
}

static void a_level_table_needs_no_step(void **state)
{
    (void)state;
    struct scene s;
    expect_made(&s, "{\"kind\":\"table.rebalance\",\"table\":\"users\"}",
                REBALANCE_EXTRA("1", "ready", SHARD("0", "\"a\"") "," SHARD("1", "\"b\""),
                                SEEN("a", "true", "false", "") "," SEEN("b", "true", "false", "")));
    assert_int_equal(dr_plan_step_count(s.plan), 0);
    done(&s);
}

static void moves_that_share_a_node_follow_each_other(void **state)
{
    (void)state;
    struct scene s;
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has = true;
    int64_t cutover = 0;
    int moves = 0;
    expect_made(&s, "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"remove\":[\"a\"]}",
                REBALANCE_EXTRA("1", "ready",
                                SHARD("0", "\"a\"") "," SHARD("1", "\"a\"") "," SHARD("2", "\"b\""),
                                SEEN("a", "true", "false", "") "," SEEN("b", "true", "false", "")));
    assert_int_equal(dr_plan_begin(s.plan, &it, &s.err), DR_OK);
    while (dr_plan_next(it, &step, &has, &s.err) == DR_OK && has) {
        if (strstr(step.query, "\"ensure\"") != NULL) {
            assert_int_equal(step.wait_for, cutover); /* of the move before */
            moves++;
        }
        cutover = strstr(step.query, "\"cutover\"") != NULL ? step.number : cutover;
    }
    assert_int_equal(moves, 2);
    dr_plan_end(it);
    done(&s);
}

/* --- drop ------------------------------------------------------------------------------------- */

static void a_drop_holds_before_it_drops(void **state)
{
    (void)state;
    struct scene s;
    expect_made(&s, "{\"kind\":\"table.drop\",\"table\":\"users\"}",
                REBALANCE_EXTRA("2", "ready", SHARD("0", "\"a\",\"b\""),
                                SEEN("a", "true", "false", "") "," SEEN("b", "true", "false", "")));
    static const char *const lines[] = {
        "1 0 catalog command table_drop table_undrop 0 0",
        "2 1 a command hold unhold 0 0",
        "3 1 b command hold unhold 0 0",
        "4 2 catalog command hold-until nothing 0 0",
        "5 3 a command retire NONE 0 0",
        "6 3 b command retire NONE 0 0",
        "7 4 catalog command table_remove NONE 0 0",
    };
    EXPECT(&s, lines);
    assert_int_equal(dr_plan_no_return(s.plan), 5);
    done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_names_its_nodes_by_their_urls_without_secrets),
        cmocka_unit_test(bad_jobs_are_refused_with_the_place),
        cmocka_unit_test(a_creation_reserves_makes_and_opens),
        cmocka_unit_test(the_texts_for_people_hide_passwords),
        cmocka_unit_test(a_table_that_is_there_is_refused_or_left_alone),
        cmocka_unit_test(a_node_that_does_not_answer_is_named_before_anything_is_queued),
        cmocka_unit_test(a_new_node_gets_what_levels_and_nothing_else_moves),
        cmocka_unit_test(a_dead_node_is_given_up_only_when_named),
        cmocka_unit_test(what_was_left_on_a_leaving_node_goes_with_it),
        cmocka_unit_test(copies_that_stay_are_compared_as_well),
        cmocka_unit_test(the_last_copy_on_a_dead_node_is_never_given_up),
        cmocka_unit_test(a_table_that_somebody_holds_is_refused_with_the_holder),
        cmocka_unit_test(too_few_nodes_for_rf_are_refused),
        cmocka_unit_test(a_level_table_needs_no_step),
        cmocka_unit_test(moves_that_share_a_node_follow_each_other),
        cmocka_unit_test(a_drop_holds_before_it_drops),
    };
    return cmocka_run_group_tests_name("plan_table", tests, NULL, NULL);
}
