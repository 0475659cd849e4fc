/* SPDX-License-Identifier: Apache-2.0 */
/* The plans for Manticore's tables on real statements: from every prefix of a plan the way back
 * leaves all nodes as they were, rows included, and the whole way leads to the layout that was
 * asked for. */
#include "manticore/manticore_help.h"
#include "plan/plan.h"
#include "request/request.h"

static const char *const names[MT_NODES] = {"n1", "n2", "n3"};

struct plan {
    struct dr_request *request;
    struct dr_survey survey;
    struct dr_plan *plan;
    struct dr_str extra;
};

/* The survey that the fleet would make; `record` NULL: no such table yet. */
static void look(struct nodes *n, struct plan *p, const char *record, int new_node)
{
    dr_str_init(&p->extra);
    dr_str_addf(&p->extra,
                "{\"operation\":\"5f2a9c3e-1111-4222-8333-444455556666\",\"uuid\":\"0b1c2d3e-aaaa-"
                "4bbb-8ccc-ddddeeeeffff\",\"now\":1790000000123,\"engine\":\"manticore\","
                "\"record\":%s,\"nodes\":[",
                record == NULL ? "null" : record);
    for (int k = 0; k < MT_NODES; k++) {
        json_t *facts = facts_of(n, k);
        char *text = dr_json_text(facts);
        dr_str_addf(&p->extra,
                    "%s{\"name\":\"%s\",\"url\":\"manticore://%s\",\"is_alive\":true,"
                    "\"why\":\"\",\"is_new\":%s,\"shards\":[],\"manticore\":",
                    k > 0 ? "," : "", names[k], n->sql[k], k == new_node ? "true" : "false");
        dr_str_add(&p->extra, text);
        dr_str_add(&p->extra, "}");
        dr_free(text);
        json_decref(facts);
    }
    dr_str_add(&p->extra, "]}");
    p->survey.extra = dr_str_text(&p->extra);
}

static void make(struct nodes *n, struct plan *p, const char *job, const char *record, int new_node)
{
    json_t *j = NULL;
    struct dr_err e = {0};
    *p = (struct plan){0};
    look(n, p, record, new_node);
    assert_int_equal(dr_json_parse("job", job, strlen(job), &j, &e), DR_OK);
    enum dr_code rc = dr_request_parse(j, "job", &p->request, &e);
    json_decref(j);
    rc = rc == DR_OK ? dr_request_resolve(p->request, &p->survey, &e) : rc;
    rc = rc == DR_OK ? dr_plan_make(p->request, &p->survey, DR_CAN_COMMAND, &p->plan, &e) : rc;
    if (rc != DR_OK) {
        fail_msg("%s", e.msg);
    }
}

static void done(struct plan *p)
{
    dr_plan_destroy(p->plan);
    dr_request_destroy(p->request);
    dr_str_fini(&p->extra);
}

/* What lies on the nodes: tables, clusters with their members, rows. */
static char *state_of(struct nodes *n)
{
    struct dr_str out;
    dr_str_init(&out);
    for (int k = 0; k < MT_NODES; k++) {
        json_t *j = facts_of(n, k);
        const char *name;
        json_t *c;
        json_object_foreach(json_object_get(j, "clusters"), name, c)
        {
            (void)json_object_del(c, "nodes_set");
        }
        char *text = dr_json_text(j);
        dr_str_addf(&out, "%s: ", names[k]);
        dr_str_add(&out, text);
        char wrapper[2048];
        dr_str_addf(&out, " rows of users: %ld\n", count_of(n, k, "users"));
        show_wrapper(n, k, wrapper, sizeof wrapper);
        dr_str_addf(&out, "%s\n", wrapper);
        dr_free(text);
        json_decref(j);
    }
    return dr_str_take(&out);
}

/* The catalog's and step's own commands are not the nodes' business. */
static void run(struct nodes *n, const char *node, const char *text)
{
    struct dr_err e = {0};
    enum dr_code rc = DR_BUSY;
    int k = 0;
    if (strncmp(text, "{\"fleet\"", 8) == 0 || strncmp(text, "{\"do\"", 5) == 0) {
        return;
    }
    while (k < MT_NODES && strcmp(names[k], node) != 0) {
        k++;
    }
    assert_true(k < MT_NODES);
    rc = dr_store_check(n->store[k], node, text, false, &e);
    if (rc == DR_OK) {
        rc = dr_store_command(n->store[k], node, text, &e);
    }
    if (rc != DR_OK) {
        fail_msg("%s: %s: %s", node, text, e.msg);
    }
}

struct kept {
    char *node, *query, *undo;
};

static uint64_t read_steps(struct plan *p, struct kept **out)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    struct dr_err e;
    bool has = false;
    uint64_t count = 0;
    *out = calloc(dr_plan_step_count(p->plan), sizeof **out);
    assert_non_null(*out);
    assert_int_equal(dr_plan_begin(p->plan, &it, &e), DR_OK);
    while (dr_plan_next(it, &step, &has, &e) == DR_OK && has) {
        (*out)[count++] =
            (struct kept){dr_strdup(step.node), dr_strdup(step.query),
                          step.rollback_query == NULL ? NULL : dr_strdup(step.rollback_query)};
    }
    dr_plan_end(it);
    return count;
}

/* For each k: k steps there, each twice as after a lost reply, and back again; then all the way. */
static void there_and_back(struct nodes *n, struct plan *p)
{
    struct kept *step = NULL;
    uint64_t count = read_steps(p, &step);
    char *before = state_of(n);
    for (uint64_t k = 1; k <= count && step[k - 1].undo != NULL; k++) {
        for (uint64_t i = 0; i < k; i++) {
            run(n, step[i].node, step[i].query);
            run(n, step[i].node, step[i].query);
        }
        for (uint64_t i = k; i > 0; i--) {
            run(n, step[i - 1].node, step[i - 1].undo);
            run(n, step[i - 1].node, step[i - 1].undo);
        }
        char *after = state_of(n);
        assert_string_equal(after, before);
        dr_free(after);
    }
    for (uint64_t i = 0; i < count; i++) {
        run(n, step[i].node, step[i].query);
        run(n, step[i].node, step[i].query);
    }
    for (uint64_t i = 0; i < count; i++) {
        dr_free(step[i].node);
        dr_free(step[i].query);
        dr_free(step[i].undo);
    }
    free(step);
    dr_free(before);
    done(p);
}

static void fill(struct nodes *n, int k, int rows)
{
    for (int i = 1; i <= rows; i++) {
        char sql[128];
        (void)snprintf(sql, sizeof sql, "INSERT INTO users (id, name) VALUES (%d, 'r')", i);
        must_sql(n, k, sql);
    }
}

static void create(struct nodes *n, unsigned shards, unsigned rf)
{
    struct plan p;
    char job[1024];
    (void)snprintf(job, sizeof job,
                   "{\"kind\":\"table.create\",\"table\":\"users\",\"columns\":\"id bigint, name "
                   "string\",\"shards\":%u,\"rf\":%u,\"nodes\":[{\"url\":\"manticore://%s\","
                   "\"name\":\"n1\"},{\"url\":\"manticore://%s\",\"name\":\"n2\"},{\"url\":"
                   "\"manticore://%s\",\"name\":\"n3\"}]}",
                   shards, rf, n->sql[0], n->sql[1], n->sql[2]);
    make(n, &p, job, NULL, -1);
    there_and_back(n, &p);
}

#define RECORD(rf, shards)                                                                         \
    "{\"name\":\"users\",\"uuid\":\"0b1c2d3e-aaaa-4bbb-8ccc-ddddeeeeffff\",\"engine\":"            \
    "\"manticore\",\"columns\":\"id bigint, name string\",\"extra\":\"\",\"rf\":" rf               \
    ",\"state\":\"ready\",\"operation\":\"\",\"what\":\"\",\"shards\":[" shards "]}"
#define SHARD(k, holders) "{\"shard\":" k ",\"table\":\"users_s" k "\",\"holders\":[" holders "]}"

#define REMOVE(n)                                                                                  \
    "{\"kind\":\"table.rebalance\",\"table\":\"users\",\"hold_s\":60,\"remove\":[\"" n "\"]}"

static void with_two_copies(void **state)
{
    struct nodes *n = *state;
    struct plan p;
    create(n, 2, 2); /* shard 0 on n1 and n3, shard 1 on n2 and n1 */
    fill(n, 0, 30);
    make(n, &p, REMOVE("n1"),
         RECORD("2", SHARD("0", "\"n1\",\"n3\"") "," SHARD("1", "\"n2\",\"n1\"")), -1);
    there_and_back(n, &p);
    assert_int_equal(count_of(n, 0, "system.users_s0"), -1);
    assert_int_equal(count_of(n, 0, "users"), -1);
    for (int k = 1; k < MT_NODES; k++) {
        assert_int_equal(count_of(n, k, "users"), 30);
        assert_int_equal(count_of(n, k, "system.users_s0") + count_of(n, k, "system.users_s1"), 30);
    }
}

static void with_one_copy(void **state)
{
    struct nodes *n = *state;
    struct plan p;
    create(n, 3, 1); /* shard 0 on n1, 1 on n3, 2 on n2 */
    fill(n, 2, 30);
    make(n, &p, REMOVE("n3"),
         RECORD("1", SHARD("0", "\"n1\"") "," SHARD("1", "\"n3\"") "," SHARD("2", "\"n2\"")), -1);
    there_and_back(n, &p);
    assert_int_equal(count_of(n, 2, "system.users_s1"), -1);
    assert_int_equal(count_of(n, 0, "users"), 30);
    assert_int_equal(count_of(n, 1, "users"), 30);
}

static void a_dropped_table_leaves_nothing(void **state)
{
    struct nodes *n = *state;
    struct plan p;
    char *empty = state_of(n);
    create(n, 2, 2);
    fill(n, 1, 10);
    make(n, &p, "{\"kind\":\"table.drop\",\"table\":\"users\",\"hold_s\":60}",
         RECORD("2", SHARD("0", "\"n1\",\"n3\"") "," SHARD("1", "\"n2\",\"n1\"")), -1);
    there_and_back(n, &p);
    char *after = state_of(n);
    assert_string_equal(after, empty);
    dr_free(after);
    dr_free(empty);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, nodes_start, nodes_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(with_two_copies),
        TEST(with_one_copy),
        TEST(a_dropped_table_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
