/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the plans for Manticore's sharded tables: the golden rows of creation, and the
 * order that keeps every acknowledged write while copies move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "plan/plan.h"
#include "request/request.h"

#define OPERATION "5f2a9c3e-1111-4222-8333-444455556666"

struct scene {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_plan *plan;
    struct dr_err err;
    struct dr_str extra;
    struct dr_str job;
};

/* A node of the survey: state is one of "alive", "dead", "new", or "unsaid": dead, and its URL does
 * not tell what its peers call it. */
struct seen {
    const char *name;
    const char *state;
    const char *facts; /* more of its Manticore facts, or "" */
};

static void add_nodes(struct dr_str *out, const struct seen *seen, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *n = seen[i].name;
        bool is_unsaid = strcmp(seen[i].state, "unsaid") == 0;
        bool is_dead = is_unsaid || strcmp(seen[i].state, "dead") == 0;
        dr_str_addf(out,
                    "%s{\"name\":\"%s\",\"url\":\"manticore://ann:secret@%s:9306%s%s%s\","
                    "\"is_alive\":%s,\"why\":\"no answer\",\"is_new\":%s,\"shards\":[],"
                    "\"manticore\":",
                    i > 0 ? "," : "", n, n, is_unsaid ? "" : "?binary=", is_unsaid ? "" : n,
                    is_unsaid ? "" : ":9312", is_dead ? "false" : "true",
                    strcmp(seen[i].state, "new") == 0 ? "true" : "false");
        if (is_dead) {
            dr_str_add(out, "null}");
        } else {
            dr_str_addf(out, "{\"sql\":\"%s:9306\",\"binary\":\"%s:9312\"%s}}", n, n,
                        seen[i].facts);
        }
    }
}

/* `layout`: "n1 n3;n1 n2": holders per shard; NULL: no such table yet. */
static void set_survey(struct scene *s, const struct seen *seen, size_t count, const char *layout,
                       unsigned rf)
{
    dr_str_init(&s->extra);
    dr_str_addf(&s->extra, "{\"operation\":\"" OPERATION
                           "\",\"uuid\":\"0b1c2d3e-aaaa-4bbb-8ccc-ddddeeeeffff\","
                           "\"now\":1790000000123,\"engine\":\"manticore\",\"record\":");
    if (layout == NULL) {
        dr_str_add(&s->extra, "null");
    } else {
        dr_str_addf(&s->extra,
                    "{\"name\":\"users\",\"uuid\":\"0b1c2d3e-aaaa-4bbb-8ccc-ddddeeeeffff\","
                    "\"engine\":\"manticore\",\"columns\":\"id bigint, name text\",\"extra\":\"\","
                    "\"rf\":%u,\"state\":\"ready\",\"operation\":\"\",\"what\":\"\",\"shards\":[",
                    rf);
        for (unsigned shard = 0; *layout != '\0'; shard++) {
            dr_str_addf(&s->extra, "%s{\"shard\":%u,\"table\":\"users_s%u\",\"holders\":[",
                        shard > 0 ? "," : "", shard, shard);
            for (unsigned i = 0; *layout != '\0' && *layout != ';'; i++) {
                int bytes = (int)strcspn(layout, " ;");
                dr_str_addf(&s->extra, "%s\"%.*s\"", i > 0 ? "," : "", bytes, layout);
                layout += bytes;
                layout += *layout == ' ';
            }
            layout += *layout == ';';
            dr_str_add(&s->extra, "]}");
        }
        dr_str_add(&s->extra, "]}");
    }
    dr_str_add(&s->extra, ",\"nodes\":[");
    add_nodes(&s->extra, seen, count);
    dr_str_add(&s->extra, "]}");
    s->survey.extra = dr_str_text(&s->extra);
}

static enum dr_code make(struct scene *s, const char *job)
{
    json_t *j = NULL;
    struct dr_protect protect = {0};
    assert_int_equal(dr_json_parse("job", job, strlen(job), &j, &s->err), DR_OK);
    enum dr_code rc = dr_request_parse(j, "job", &s->request, &s->err);
    json_decref(j);
    rc = rc == DR_OK ? dr_request_guard(s->request, &protect, &s->err) : rc;
    rc = rc == DR_OK ? dr_request_resolve(s->request, &s->survey, &s->err) : rc;
    return rc == DR_OK ? dr_plan_make(s->request, &s->survey, DR_CAN_COMMAND, &s->plan, &s->err)
                       : rc;
}

static void done(struct scene *s)
{
    dr_plan_destroy(s->plan);
    dr_request_destroy(s->request);
    dr_str_fini(&s->extra);
    dr_str_fini(&s->job);
    *s = (struct scene){0};
}

/* What repeats is said shorter: entries of the catalog by their names, wrappers by their parts. */
static void add_short(struct dr_str *out, const char *text)
{
    static const char wrapper[] = "CREATE TABLE `users` (id bigint, name text) type='shard'";
    const char *op = strstr(text, "\"op\":\"");
    if (op != NULL) {
        dr_str_addf(out, "%.*s", (int)strcspn(op + 6, "\""), op + 6);
        return;
    }
    while (*text != '\0') {
        if (strncmp(text, wrapper, sizeof wrapper - 1) == 0) {
            dr_str_add(out, "WRAPPER");
            text += sizeof wrapper - 1;
        } else {
            dr_str_add(out, *text == '\n' ? " & " : *text == '"' ? "'" : "");
            dr_str_addn(out, text, *text != '\n' && *text != '"');
            text++;
        }
    }
}

/* One line per step: "number stage node: query | undo". */
static char *lines_of(struct scene *s)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    struct dr_str out;
    bool has = false;
    dr_str_init(&out);
    assert_int_equal(dr_plan_begin(s->plan, &it, &s->err), DR_OK);
    while (dr_plan_next(it, &step, &has, &s->err) == DR_OK && has) {
        dr_str_addf(&out, "%d %u %s", (int)step.number, step.stage, step.node);
        if (step.wait_for > 0) {
            dr_str_addf(&out, " after %d", (int)step.wait_for);
        }
        dr_str_add(&out, ": ");
        add_short(&out, step.query);
        dr_str_add(&out, " | ");
        add_short(&out, step.rollback_query == NULL ? "NONE" : step.rollback_query);
        dr_str_add(&out, step.cleanup == NULL ? "\n" : " | and later cleaned\n");
    }
    dr_plan_end(it);
    return dr_str_take(&out);
}

static void create_job(struct scene *s, unsigned nodes, unsigned shards, unsigned rf)
{
    dr_str_init(&s->job);
    dr_str_addf(&s->job,
                "{\"kind\":\"table.create\",\"table\":\"users\",\"columns\":\"id bigint, name "
                "text\",\"shards\":%u,\"rf\":%u,\"nodes\":[",
                shards, rf);
    for (unsigned i = 1; i <= nodes; i++) {
        dr_str_addf(&s->job, "%s{\"url\":\"manticore://n%u:9306\",\"name\":\"n%u\"}",
                    i > 1 ? "," : "", i, i);
    }
    dr_str_add(&s->job, "]}");
}

static const struct seen three[] = {{"n1", "alive", ""}, {"n2", "alive", ""}, {"n3", "alive", ""}};

/* The plans are kept in data/manticore_plans.txt: "== NAME", then a line per step. */
static char *golden_of(const char *name)
{
    char path[1024], head[128];
    char *all = NULL;
    size_t bytes = 0;
    struct dr_err err;
    const char *folder = getenv("DROVER_TESTS_DIR");
    const char *file = __FILE__;
    const char *slash = strrchr(file, '/');
    if (folder != NULL) {
        (void)snprintf(path, sizeof path, "%s/unit/data/manticore_plans.txt", folder);
    } else {
        (void)snprintf(path, sizeof path, "%.*s/data/manticore_plans.txt",
                       slash == NULL ? 1 : (int)(slash - file), slash == NULL ? "." : file);
    }
    if (dr_file_load(path, 1 << 20, &all, &bytes, &err) != DR_OK) {
        fail_msg("%s", err.msg);
    }
    (void)snprintf(head, sizeof head, "== %s\n", name);
    const char *from = strstr(all, head);
    assert_non_null(from);
    from += strlen(head);
    const char *end = strstr(from, "\n== ");
    char *part = dr_strndup(from, end == NULL ? strlen(from) : (size_t)(end - from) + 1);
    dr_free(all);
    return part;
}

/* Line by line, so that a difference is shown whole. */
static void compare_lines(const char *got, const char *wanted)
{
    while (*got != '\0' || *wanted != '\0') {
        size_t a = strcspn(got, "\n"), b = strcspn(wanted, "\n");
        if (a != b || memcmp(got, wanted, a) != 0) {
            fail_msg("got    %.*s\nwanted %.*s", (int)a, got, (int)b, wanted);
        }
        got += a + (got[a] == '\n');
        wanted += b + (wanted[b] == '\n');
    }
}

static void expect(struct scene *s, const char *job, const char *name)
{
    if (make(s, job) != DR_OK) {
        fail_msg("%s", s->err.msg);
    }
    char *lines = lines_of(s);
    char *golden = golden_of(name);
    compare_lines(lines, golden);
    dr_free(lines);
    dr_free(golden);
    assert_true(dr_plan_is_atomic(s->plan));
}

static void refuse(struct scene *s, const char *job, enum dr_code code, const char *part)
{
    enum dr_code rc = make(s, job);
    if (rc != code || strstr(s->err.msg, part) == NULL) {
        fail_msg("wanted %s with \"%s\", got %s: %s", dr_code_name(code), part, dr_code_name(rc),
                 s->err.msg);
    }
    done(s);
}

#define REBALANCE "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"hold_s\":60"
#define ADD(n) ",\"add\":[{\"url\":\"manticore://" n ":9306\",\"name\":\"" n "\"}]}"
#define REMOVE(n) ",\"remove\":[\"" n "\"]}"

/* The eleven rows that upstream prints for three nodes, two shards, rf 2, in the order of the
 * stages and with clusters named like the shards; what waits for a JOIN there is a later stage
 * here. */
static void creation_has_the_golden_rows(void **state)
{
    (void)state;
    struct scene s = {0};
    create_job(&s, 3, 2, 2);
    set_survey(&s, three, 3, NULL, 0);
    expect(&s, dr_str_text(&s.job), "create 3n S2 R2");
    assert_int_equal(dr_plan_no_return(s.plan), 13); /* open: from then on it is dropped */
    done(&s);
}

static void creation_without_copies_needs_no_clusters(void **state)
{
    (void)state;
    struct scene s = {0};
    create_job(&s, 2, 2, 1);
    set_survey(&s, three, 2, NULL, 0);
    expect(&s, dr_str_text(&s.job), "create 2n S2 R1");
    done(&s);
}

static void a_single_copy_moves_within_a_cluster_of_its_own(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen grown[] = {{"n1", "alive", ""}, {"n2", "alive", ""}, {"n3", "new", ""}};
    set_survey(&s, grown, 3, "n1;n1;n2;n2", 1);
    expect(&s, REBALANCE ADD("n3"), "rf1 [0,1][2,3] + n3");
    done(&s);
}

static void survivors_make_the_copies_of_a_dead_node(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen dead[] = {{"n1", "dead", ""}, {"n2", "alive", ""}, {"n3", "alive", ""}};
    set_survey(&s, dead, 3, "n1 n3;n1 n2", 2);
    expect(&s, REBALANCE REMOVE("n1"), "3n S2 R2, n1 dead");
    done(&s);
}

/* A wrong address would be waited for in vain, and stand in the wrapper that a rollback publishes.
 */
static void a_dead_node_is_called_what_its_peers_call_it(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen dead[] = {
        {"n1", "unsaid", ""},
        {"n2", "alive", ""},
        {"n3", "alive",
         ",\"clusters\":{\"users_s0\":{\"nodes_set\":[\"n3:9312\",\"rack7:19312\"],"
         "\"nodes_view\":[\"n3:9312\"]}}"}};
    unsigned told = 0, guessed = 0;
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has = false;
    set_survey(&s, dead, 3, "n1 n3;n1 n2", 2);
    assert_int_equal(make(&s, REBALANCE REMOVE("n1")), DR_OK);
    assert_int_equal(dr_plan_begin(s.plan, &it, &s.err), DR_OK);
    while (dr_plan_next(it, &step, &has, &s.err) == DR_OK && has) {
        const char *undo = step.rollback_query == NULL ? "" : step.rollback_query;
        told += strstr(step.query, "\"without\":\"rack7:19312\"") != NULL;
        told += strstr(undo, "rack7:19312:system.users_s0|n3:9312:system.users_s0") != NULL;
        guessed += strstr(step.query, "n1:9312") != NULL || strstr(undo, "n1:9312") != NULL;
    }
    dr_plan_end(it);
    assert_int_equal(told, 4); /* two clusters go on without it, two wrappers can come back */
    assert_int_equal(guessed, 0);
    done(&s);
}

/* Upstream would drop both copies of shard 2 here and go on with an empty one. */
static void a_new_node_joins_and_no_good_copy_goes_first(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen five[] = {{"n1", "alive", ""},
                                {"n2", "alive", ""},
                                {"n3", "alive", ""},
                                {"n4", "alive", ""},
                                {"n5", "new", ""}};
    set_survey(&s, five, 5, "n1 n3;n2 n4;n1 n3", 2);
    expect(&s, REBALANCE ADD("n5"), "4n S3 R2 + n5");
    done(&s);
}

static void three_copies_lose_a_member_in_good_order(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen four[] = {
        {"n1", "alive", ""}, {"n2", "alive", ""}, {"n3", "alive", ""}, {"n4", "alive", ""}};
    set_survey(&s, four, 4, "n1 n2 n3", 3);
    expect(&s, REBALANCE REMOVE("n2"), "4n S1 R3, n2 leaves");
    done(&s);
}

static void a_drop_first_closes_then_holds_then_removes(void **state)
{
    (void)state;
    struct scene s = {0};
    set_survey(&s, three, 3, "n1 n3;n1 n2", 2);
    expect(&s, "{\"kind\":\"table.drop\",\"table\":\"users\",\"hold_s\":60}", "drop 3n S2 R2");
    done(&s);
}

static void what_could_lose_rows_is_refused(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen two_dead[] = {{"n1", "dead", ""},
                                    {"n2", "dead", ""},
                                    {"n3", "alive", ""},
                                    {"n4", "alive", ""},
                                    {"n5", "alive", ""}};
    set_survey(&s, two_dead, 5, "n1 n2 n3", 3);
    refuse(&s, REBALANCE ",\"remove\":[\"n1\",\"n2\"]}", DR_REFUSED, "at work together elsewhere");
    const struct seen dead[] = {{"n1", "dead", ""}, {"n2", "alive", ""}};
    set_survey(&s, dead, 2, "n1;n2", 1);
    refuse(&s, REBALANCE REMOVE("n1"), DR_REFUSED, "shard 0");
    const struct seen taken[] = {{"n1", "alive", ""},
                                 {"n2", "alive", ""},
                                 {"n3", "new", ",\"system_tables\":[\"system.users_s0\"]"}};
    set_survey(&s, taken, 3, "n1;n1;n2;n2", 1);
    refuse(&s, REBALANCE ADD("n3"), DR_EXISTS, "system.users_s0 already");
}

static void what_is_there_already_is_not_made_over(void **state)
{
    (void)state;
    static const struct {
        const char *facts, *part;
    } bad[] = {{",\"tables\":[\"users\"]", "a table users already"},
               {",\"system_tables\":[\"system.users_s1\"]", "system.users_s1 already"},
               {",\"clusters\":{\"users_s1\":{}}", "DELETE CLUSTER users_s1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct scene s = {0};
        const struct seen seen[] = {
            {"n1", "alive", bad[i].facts}, {"n2", "alive", ""}, {"n3", "alive", ""}};
        create_job(&s, 3, 2, 2);
        set_survey(&s, seen, 3, NULL, 0);
        refuse(&s, dr_str_text(&s.job), DR_EXISTS, bad[i].part);
    }
}

/* Secrets of URLs stay in what the catalog and the cleanup need them for. */
static void commands_to_nodes_hold_no_secrets(void **state)
{
    (void)state;
    struct scene s = {0};
    const struct seen grown[] = {{"n1", "alive", ""}, {"n2", "alive", ""}, {"n3", "new", ""}};
    set_survey(&s, grown, 3, "n1;n1;n2;n2", 1);
    assert_int_equal(make(&s, REBALANCE ADD("n3")), DR_OK);
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has = false;
    assert_int_equal(dr_plan_begin(s.plan, &it, &s.err), DR_OK);
    while (dr_plan_next(it, &step, &has, &s.err) == DR_OK && has) {
        bool is_catalog = strcmp(step.node, "catalog") == 0;
        assert_true(is_catalog || strstr(step.query, "secret") == NULL);
        assert_null(strstr(step.title, "secret"));
        bool is_behind = dr_plan_no_return(s.plan) > 0 && step.number >= dr_plan_no_return(s.plan);
        assert_int_equal(step.rollback_query == NULL, is_behind);
    }
    dr_plan_end(it);
    done(&s);
}

/* Whichever allocation fails, the plan is refused for memory and nothing leaks. */
static void short_memory_is_said(void **state)
{
    (void)state;
    const struct seen dead[] = {{"n1", "dead", ""}, {"n2", "alive", ""}, {"n3", "alive", ""}};
    for (uint64_t n = 1;; n++) {
        struct scene s = {0};
        set_survey(&s, dead, 3, "n1 n3;n1 n2", 2);
        (void)dr_mem_fail_at(n);
        json_t *j = json_loads(REBALANCE REMOVE("n1"), 0, NULL);
        enum dr_code rc = j == NULL ? DR_NOMEM : dr_request_parse(j, "job", &s.request, &s.err);
        rc = rc == DR_OK ? dr_request_resolve(s.request, &s.survey, &s.err) : rc;
        rc = rc == DR_OK ? dr_plan_make(s.request, &s.survey, DR_CAN_COMMAND, &s.plan, &s.err) : rc;
        (void)dr_mem_fail_at(0);
        json_decref(j);
        done(&s);
        if (rc == DR_OK) {
            assert_true(n > 20);
            break;
        }
        assert_int_equal(rc, DR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creation_has_the_golden_rows),
        cmocka_unit_test(creation_without_copies_needs_no_clusters),
        cmocka_unit_test(a_single_copy_moves_within_a_cluster_of_its_own),
        cmocka_unit_test(survivors_make_the_copies_of_a_dead_node),
        cmocka_unit_test(a_dead_node_is_called_what_its_peers_call_it),
        cmocka_unit_test(a_new_node_joins_and_no_good_copy_goes_first),
        cmocka_unit_test(three_copies_lose_a_member_in_good_order),
        cmocka_unit_test(a_drop_first_closes_then_holds_then_removes),
        cmocka_unit_test(what_could_lose_rows_is_refused),
        cmocka_unit_test(what_is_there_already_is_not_made_over),
        cmocka_unit_test(commands_to_nodes_hold_no_secrets),
        cmocka_unit_test(short_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
