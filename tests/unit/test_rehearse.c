/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of verbs/rehearse.h, on real nodes and a real catalog: what was made is gone at the
 * end, a rollback command that leaves something behind is named, and nobody goes past the point of
 * no return. */
#include "unit/health_help.h"
#include "verbs/rehearse.h"
#include "worker/worker.h"

#ifdef DROVER_RAFT
#include "cluster/port.h"

struct theatre {
    struct town *t;
    struct dr_port *real;
    struct dr_catalog_port port; /* the real one, but for what it is told to swallow */
    struct dr_store_world world;
    struct dr_config config;
    const char *swallow; /* "op" of entries that are answered and not done; NULL: none */
};

static enum dr_code read_real(void *arg, const char *table, json_t **out, struct dr_err *err)
{
    const struct dr_catalog_port *p = dr_port_catalog(((struct theatre *)arg)->real);
    return p->read(p->arg, table, out, err);
}

static enum dr_code list_real(void *arg, json_t **out, struct dr_err *err)
{
    const struct dr_catalog_port *p = dr_port_catalog(((struct theatre *)arg)->real);
    return p->list(p->arg, out, err);
}

static enum dr_code change_real(void *arg, const json_t *entry, struct dr_err *err)
{
    struct theatre *h = arg;
    const struct dr_catalog_port *p = dr_port_catalog(h->real);
    const char *op = json_string_value(json_object_get(entry, "op"));
    if (h->swallow != NULL && op != NULL && strcmp(op, h->swallow) == 0) {
        return DR_OK;
    }
    return p->change(p->arg, entry, err);
}

static struct theatre *open_theatre(void)
{
    struct theatre *h = calloc(1, sizeof *h);
    assert_non_null(h);
    h->t = make_town();
    OK(h->t->r, dr_port_create(h->t->r->dir, NULL, &h->real, &h->t->r->err));
    h->port = (struct dr_catalog_port){
        .arg = h, .read = read_real, .list = list_real, .change = change_real};
    h->world.catalog = &h->port;
    return h;
}

static void close_theatre(struct theatre *h)
{
    dr_port_destroy(h->real);
    free_town(h->t);
    free(h);
}

static void prepare(struct theatre *h, json_t *job, struct dr_prepared *p)
{
    enum dr_place place = DR_AT_NOTHING;
    assert_non_null(job);
    OK(h->t->r, dr_job_prepare(&h->config, &h->world, job, "job", p, &place, &h->t->r->err));
}

static json_t *create_job(struct theatre *h)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:[s, s]}", "kind", "table.create", "table",
                     "users", "columns", "id INTEGER PRIMARY KEY, v TEXT", "shards", 2, "rf", 1,
                     "nodes", h->t->node[0], h->t->node[1]);
}

static enum dr_code rehearse(struct theatre *h, json_t *job, int64_t *op, struct dr_rehearsal *out)
{
    struct dr_prepared p = {0};
    prepare(h, job, &p);
    enum dr_code rc = dr_rehearse(h->t->r->q, &h->world, &p, "ann@host", op, out, &h->t->r->err);
    dr_prepared_fini(&p);
    return rc;
}

static int64_t tables_on(struct theatre *h, int node)
{
    return ask_node_int(h->t, node,
                        "SELECT count(*) FROM sqlite_master WHERE type='table' AND name LIKE"
                        " 'users%'");
}

static void what_a_rehearsal_makes_is_gone_at_its_end(void **state)
{
    (void)state;
    struct theatre *h = open_theatre();
    struct dr_rehearsal out = {0};
    struct dr_rollback_run run;
    uint32_t count = 0;
    int64_t op = 0;
    json_t *record = NULL;
    OK(h->t->r, rehearse(h, create_job(h), &op, &out));
    assert_int_equal(out.steps, 3); /* reserve, two shards; opening it cannot be taken back */
    assert_int_equal(out.undone, out.steps);
    assert_int_equal(out.differing, 0);
    assert_int_equal(json_array_size(out.differences), 0);
    expect_op(h->t->r, op, DR_O_ROLLED_BACK);
    assert_int_equal(tables_on(h, 0) + tables_on(h, 1), 0);
    assert_int_equal(h->port.read(h, "users", &record, &h->t->r->err), DR_NOT_FOUND);
    OK(h->t->r, dr_queue_rollbacks(h->t->r->q, op, 0, &run, 1, &count, &h->t->r->err));
    assert_int_equal(count, 1);
    assert_string_equal(run.reason, "rehearsal");
    dr_rehearsal_fini(&out);
    close_theatre(h);
}

static void what_a_rollback_command_leaves_behind_is_named(void **state)
{
    (void)state;
    struct theatre *h = open_theatre();
    struct dr_rehearsal out = {0};
    int64_t op = 0;
    h->swallow = "table_release";
    OK(h->t->r, rehearse(h, create_job(h), &op, &out));
    assert_int_equal(out.differing, 1);
    char *text = json_dumps(json_array_get(out.differences, 0), JSON_SORT_KEYS);
    assert_has(text, "catalog: no such table"); /* missing */
    assert_has(text, "catalog: record");        /* left */
    assert_null(strstr(text, "sqlite:"));
    free(text);
    dr_rehearsal_fini(&out);
    close_theatre(h);
}

static void a_step_that_fails_ends_it_and_everything_is_taken_back(void **state)
{
    (void)state;
    struct theatre *h = open_theatre();
    struct dr_rehearsal out = {0};
    struct dr_prepared p = {0};
    int64_t op = 0;
    json_t *record = NULL;
    prepare(h, create_job(h), &p);
    on_node(h->t, 0,
            "CREATE TABLE users_s0(mine INTEGER PRIMARY KEY); INSERT INTO users_s0 VALUES"
            "(7)");
    on_node(h->t, 1,
            "CREATE TABLE users_s0(mine INTEGER PRIMARY KEY); INSERT INTO users_s0 VALUES"
            "(7)");
    assert_int_equal(dr_rehearse(h->t->r->q, &h->world, &p, "ann@host", &op, &out, &h->t->r->err),
                     DR_EXISTS);
    expect_op(h->t->r, op, DR_O_ROLLED_BACK);
    assert_int_equal(tables_on(h, 0) + tables_on(h, 1), 2); /* those that were there */
    assert_int_equal(ask_node_int(h->t, 0, "SELECT mine FROM users_s0"), 7);
    assert_int_equal(ask_node_int(h->t, 1, "SELECT mine FROM users_s0"), 7);
    assert_int_equal(h->port.read(h, "users", &record, &h->t->r->err), DR_NOT_FOUND);
    dr_prepared_fini(&p);
    dr_rehearsal_fini(&out);
    close_theatre(h);
}

/* Really make the table. */
static void make_table(struct theatre *h)
{
    struct rig *r = h->t->r;
    struct dr_prepared p = {0};
    enum dr_place place = DR_AT_NOTHING;
    int64_t op = 0;
    const struct dr_job_put put = {.wish = DR_WISH_RUN, .by = "ann@host"};
    prepare(h, create_job(h), &p);
    OK(r, dr_job_store(r->q, &p, &put, &op, NULL, &place, &r->err));
    dr_prepared_fini(&p);
    const struct dr_pool_config pool = {
        .queue = r->q, .world = &h->world, .threads = 2, .until_op = op};
    OK(r, dr_pool_run(&pool, &r->err));
    expect_op(r, op, DR_O_DONE);
}

static void a_rebalance_is_rehearsed_up_to_the_point_of_no_return(void **state)
{
    (void)state;
    struct theatre *h = open_theatre();
    struct dr_rehearsal out = {0};
    struct dr_sql s = {0};
    char third[96];
    int64_t op = 0;
    json_t *before = NULL;
    json_t *after = NULL;
    make_table(h);
    for (int node = 0; node < 2; node++) {
        if (ask_node_int(h->t, node, "SELECT count(*) FROM sqlite_master WHERE name='users_s0'") ==
            1) {
            on_node(h->t, node, "INSERT INTO users_s0 VALUES(6,'six'),(9,'nine')");
        }
    }
    OK(h->t->r, h->port.read(h, "users", &before, &h->t->r->err));
    (void)snprintf(third, sizeof third, "sqlite:%s/n2.db", h->t->r->dir);
    OK(h->t->r, dr_sql_open(&s, third + strlen("sqlite:"), DR_SQL_CREATE, 5000, &h->t->r->err));
    OK(h->t->r, dr_sql_exec(&s, "CREATE TABLE other(id INTEGER PRIMARY KEY)", &h->t->r->err));
    json_t *job = json_pack("{s:s, s:s, s:[{s:s}], s:[s]}", "kind", "table.rebalance", "table",
                            "users", "add", "url", third, "remove", h->t->node[0]);
    OK(h->t->r, rehearse(h, job, &op, &out));
    if (out.differing > 0) {
        print_error("%s\n", json_dumps(out.differences, JSON_INDENT(1)));
    }
    assert_true(out.steps >= 5); /* begin, ensure, capture, copy, follow, cutover */
    assert_int_equal(out.differing, 0);
    expect_op(h->t->r, op, DR_O_ROLLED_BACK);
    assert_false(op_of(h->t->r, op).is_past_no_return);
    OK(h->t->r, h->port.read(h, "users", &after, &h->t->r->err));
    assert_string_equal(json_string_value(json_object_get(after, "state")), "ready");
    assert_true(json_equal(json_object_get(before, "shards"), json_object_get(after, "shards")));
    int64_t left = -1;
    OK(h->t->r, dr_sql_int(&s, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'users%'", 0,
                           &left, &h->t->r->err));
    assert_int_equal(left, 0);
    dr_sql_close(&s);
    json_decref(before);
    json_decref(after);
    dr_rehearsal_fini(&out);
    close_theatre(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_rehearsal_makes_is_gone_at_its_end),
        cmocka_unit_test(what_a_rollback_command_leaves_behind_is_named),
        cmocka_unit_test(a_step_that_fails_ends_it_and_everything_is_taken_back),
        cmocka_unit_test(a_rebalance_is_rehearsed_up_to_the_point_of_no_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    (void)printf("no catalog in this build: nothing to rehearse\n");
    return 0;
}
#endif
