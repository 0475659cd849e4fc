/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet's promises: a shard moves under writers, dies anywhere, comes back, and no acknowledged
 * write is lost; there is one map; nothing is left behind. */
#include "unit/fleet_world.h"

#include <signal.h>

static const char *own_path;

/* Holders before and after, as JSON and as the catalog shows them. */
static const struct move {
    const char *from, *to; /* names */
    const char *from_json, *to_json;
    const char *source, *target;
} moves[] = {
    {"n0", "n1", "\"n0\"", "\"n1\"", "\"n0\"", "\"n1\""},
    {"n0,n1", "n1,n2", "\"n0\",\"n1\"", "\"n1\",\"n2\"", "\"n0\"", "\"n2\""},
    {"n0,n1", "n0,n2", "\"n0\",\"n1\"", "\"n0\",\"n2\"", "\"n0\"", "\"n2\""},
    {"n0,n1,n2", "n3,n1,n2", "\"n0\",\"n1\",\"n2\"", "\"n3\",\"n1\",\"n2\"", "\"n0\"", "\"n3\""},
};
enum { MOVES = sizeof moves / sizeof moves[0] };

static void unquote(const char *quoted, char *out)
{
    memcpy(out, quoted + 1, 2);
    out[2] = '\0';
}

static void must_run(const char *node, const char *text)
{
    enum dr_code rc = try_command(node, text);
    if (rc != DR_OK) {
        print_error("%s: %s\n%s\n", node, text, err.msg);
    }
    must(rc);
}

static const char *cutover_text(const struct move *m)
{
    return turn_text("cutover", m->from_json, m->to_json, 2000);
}

static const char *cutback_text(const struct move *m)
{
    return turn_text("cutback", m->from_json, m->to_json, 2000);
}

static const char *ensure_text(void)
{
    static char text[600];
    (void)snprintf(text, sizeof text,
                   "{\"fleet\":\"ensure\",\"shard\":%s,\"columns\":\"%s\",\"extra\":\"\"}", SHARD,
                   COLUMNS);
    return text;
}

/* Everything up to the cut over. */
static void bring_over(const struct move *m)
{
    char source[4];
    char target[4];
    unquote(m->source, source);
    unquote(m->target, target);
    must_run(target, ensure_text());
    must_run(source, simple_text("capture"));
    (void)do_copy("copy", m->source, m->target);
    (void)do_copy("follow", m->source, m->target);
}

static void retire(const struct move *m)
{
    char text[700];
    char first[4];
    char drop[32] = "";
    memcpy(first, m->to, 2);
    first[2] = '\0';
    for (const char *at = m->from; *at != '\0'; at += at[2] == ',' ? 3 : 2) {
        char name[4] = {at[0], at[1], '\0'};
        if (strstr(m->to, name) == NULL) {
            (void)snprintf(drop, sizeof drop, "\"%s\"", name);
        }
    }
    (void)snprintf(text, sizeof text,
                   "{\"fleet\":\"retire\",\"shard\":%s,\"uncapture\":\"%s\",\"drop\":[%s]}", SHARD,
                   first, drop);
    must_run(first, text);
    must_run(first, text);
}

static void assert_all_clean(const char *holders)
{
    for (int i = 0; i < NODES; i++) {
        char name[4] = {'n', (char)('0' + i), '\0'};
        assert_clean(i, strstr(holders, name) != NULL);
    }
}

/* Undo of the steps before the cut over, in reverse. */
static void take_back(const struct move *m)
{
    char source[4];
    char target[4];
    unquote(m->source, source);
    unquote(m->target, target);
    must_run(source, simple_text("uncapture"));
    must_run(target, simple_text("drop"));
}

static void a_shard_moves_under_writers(void **state)
{
    (void)state;
    for (int i = 0; i < MOVES; i++) {
        make_world(moves[i].from);
        start_writers();
        wait_for_writes(30);
        bring_over(&moves[i]);
        must_run("n0", cutover_text(&moves[i]));
        assert_string_equal(holders_now(), moves[i].to);
        wait_for_writes(30);
        must_run("n0", cutover_text(&moves[i])); /* once more changes nothing */
        wait_for_writes(10);
        retire(&moves[i]);
        wait_for_writes(10);
        stop_writers();
        assert_nothing_lost();
        assert_all_clean(moves[i].to);
    }
}

static void the_way_back_loses_nothing_that_was_written_there(void **state)
{
    (void)state;
    for (int i = 0; i < MOVES; i++) {
        make_world(moves[i].from);
        start_writers();
        wait_for_writes(30);
        bring_over(&moves[i]);
        must_run("n0", cutover_text(&moves[i]));
        wait_for_writes(40);
        must_run("n0", cutback_text(&moves[i]));
        assert_string_equal(holders_now(), moves[i].from);
        must_run("n0", cutback_text(&moves[i]));
        wait_for_writes(30);
        take_back(&moves[i]);
        stop_writers();
        assert_nothing_lost();
        assert_all_clean(moves[i].from);
    }
}

static void a_move_goes_on_after_it_was_taken_back(void **state)
{
    (void)state;
    for (int i = 0; i < MOVES; i++) {
        make_world(moves[i].from);
        start_writers();
        bring_over(&moves[i]);
        must_run("n0", cutover_text(&moves[i]));
        wait_for_writes(30);
        must_run("n0", cutback_text(&moves[i]));
        wait_for_writes(30);
        must_run("n0", cutover_text(&moves[i]));
        wait_for_writes(30);
        stop_writers();
        retire(&moves[i]);
        assert_nothing_lost();
        assert_all_clean(moves[i].to);
    }
}

/* ---- deaths ---- */

/* Run a command in another process that dies at the fault point; true when it met it. */
static bool run_and_die(const char *text, const char *fault)
{
    char variable[120];
    char folder_variable[120];
    int status = 0;
    pid_t pid = 0;
    (void)snprintf(variable, sizeof variable, "DROVER_FAULT=%s", fault);
    (void)snprintf(folder_variable, sizeof folder_variable, "FLEET_FOLDER=%s", folder);
    char *const environment[] = {variable, folder_variable, NULL};
    char *const arguments[] = {(char *)"test_fleet", (char *)"--child", (char *)text, NULL};
    assert_int_equal(posix_spawn(&pid, own_path, NULL, NULL, arguments, environment), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    bool is_dead = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!is_dead && !(WIFEXITED(status) && WEXITSTATUS(status) <= 1)) {
        print_error("child: %d at %s\n", status, fault);
        fail();
    }
    return is_dead;
}

static int be_child(const char *text)
{
    dr_copy_text(folder, sizeof folder, getenv("FLEET_FOLDER"));
    struct dr_store *s = NULL;
    enum dr_code rc = dr_store_open_in(&fake_world, "fleet:", &s, &err);
    rc = rc == DR_OK ? dr_store_command(s, "n0", text, &err) : rc;
    dr_store_close(s);
    if (rc != DR_OK) {
        (void)fprintf(stderr, "child: %s\n", err.msg);
    }
    return rc == DR_OK ? 0 : 1;
}

/* What a dead cut over has left is finished by the same command, or undone by its rollback. */
static void die_in_cutover(const struct move *m, const char *fault, bool is_undone, bool *is_dead)
{
    make_world(m->from);
    start_writers();
    bring_over(m);
    *is_dead = run_and_die(cutover_text(m), fault);
    if (is_undone) {
        must_run("n0", cutback_text(m));
        assert_string_equal(holders_now(), m->from);
        take_back(m);
    } else {
        must_run("n0", cutover_text(m));
        assert_string_equal(holders_now(), m->to);
        retire(m);
    }
    wait_for_writes(10);
    stop_writers();
    assert_nothing_lost();
    assert_all_clean(is_undone ? m->from : m->to);
}

static void die_in_cutback(const struct move *m, const char *fault, bool *is_dead)
{
    make_world(m->from);
    start_writers();
    bring_over(m);
    must_run("n0", cutover_text(m));
    wait_for_writes(5);
    *is_dead = run_and_die(cutback_text(m), fault);
    must_run("n0", cutback_text(m));
    assert_string_equal(holders_now(), m->from);
    take_back(m);
    wait_for_writes(10);
    stop_writers();
    assert_nothing_lost();
    assert_all_clean(m->from);
}

static const char *const there[] = {"begin",    "fenced",   "followed", "compared",
                                    "captured", "switched", "unfenced", "held"};
static const char *const back[] = {"begin",    "fenced",   "unheld",   "followed",
                                   "compared", "switched", "unfenced", "uncaptured"};

static void a_cut_over_that_dies_anywhere_is_finished_or_undone(void **state)
{
    (void)state;
    for (size_t p = 0; p < 8; p++) {
        int times = p == 1 || p == 6 ? 2 : 1; /* once for each of two holders */
        for (int n = 1; n <= times; n++) {
            for (size_t undone = 0; undone < 2; undone++) {
                char fault[80];
                bool is_dead = false;
                (void)snprintf(fault, sizeof fault, "fleet.cutover.%s@%d=kill", there[p], n);
                die_in_cutover(&moves[n == 2 ? 1 : (p + undone) % 3], fault, undone == 1, &is_dead);
                assert_true(is_dead);
            }
        }
    }
}

static void a_way_back_that_dies_anywhere_is_finished(void **state)
{
    (void)state;
    for (size_t p = 0; p < 8; p++) {
        int times = p == 1 || p == 6 ? 2 : 1;
        for (int n = 1; n <= times; n++) {
            char fault[80];
            bool is_dead = false;
            (void)snprintf(fault, sizeof fault, "fleet.cutback.%s@%d=kill", back[p], n);
            die_in_cutback(&moves[n == 2 ? 1 : p % 3], fault, &is_dead);
            assert_true(is_dead);
        }
    }
}

/* Beneath the fleet's own lines: every transaction of every node, before and after its commit. */
static void a_cut_over_that_dies_in_a_node_is_finished_or_undone(void **state)
{
    (void)state;
    for (int n = 1; n <= 40; n += 3) {
        char fault[80];
        bool is_dead = false;
        bool is_other_dead = false;
        (void)snprintf(fault, sizeof fault, "store.sqlite.shard.committed@%d=kill", n);
        die_in_cutover(&moves[1], fault, n % 2 == 1, &is_dead);
        (void)snprintf(fault, sizeof fault, "store.sqlite.shard.begun@%d=kill", n + 1);
        die_in_cutover(&moves[0], fault, n % 2 == 0, &is_other_dead);
        if (!is_dead && !is_other_dead) {
            assert_true(n > 5);
            return;
        }
    }
    fail();
}

/* ---- failures ---- */

static void a_failure_before_the_switch_lets_writes_go_on(void **state)
{
    (void)state;
    for (size_t p = 1; p < 5; p++) {
        char fault[80];
        make_world("n0,n1");
        start_writers();
        bring_over(&moves[1]);
        (void)snprintf(fault, sizeof fault, "fleet.cutover.%s=error", there[p]);
        dr_fault_arm(fault);
        assert_int_equal(try_command("n0", cutover_text(&moves[1])), DR_IO);
        dr_fault_arm(NULL);
        assert_string_equal(holders_now(), "n0,n1");
        wait_for_writes(30); /* nobody is held */
        take_back(&moves[1]);
        stop_writers();
        assert_nothing_lost();
        assert_all_clean("n0,n1");
    }
}

static void a_refusal_of_the_catalog_lets_writes_go_on(void **state)
{
    (void)state;
    make_world("n0");
    start_writers();
    bring_over(&moves[0]);
    catalog_wrong = 1;
    assert_int_equal(try_command("n0", cutover_text(&moves[0])), DR_CONFLICT);
    wait_for_writes(30);
    take_back(&moves[0]);
    stop_writers();
    assert_nothing_lost();
    assert_all_clean("n0");
}

static void a_lost_answer_of_the_catalog_is_asked_for(void **state)
{
    (void)state;
    for (int is_deaf = 0; is_deaf < 2; is_deaf++) {
        make_world("n0");
        start_writers();
        bring_over(&moves[0]);
        catalog_deaf = is_deaf * 3;
        catalog_mute = !is_deaf;
        must_run("n0", cutover_text(&moves[0]));
        assert_int_equal(catalog_deaf + catalog_mute, 0);
        assert_string_equal(holders_now(), "n1");
        wait_for_writes(10);
        stop_writers();
        retire(&moves[0]);
        assert_nothing_lost();
        assert_all_clean("n1");
    }
}

/* The catalog does not say whether it has switched: whoever writes has to wait, until it does. */
static void writes_wait_while_the_switch_is_open(void **state)
{
    (void)state;
    make_world("n0");
    bring_over(&moves[0]);
    catalog_deaf = 1000000;
    assert_int_equal(try_command("n0", cutover_text(&moves[0])), DR_BUSY);
    struct dr_sql sql;
    must(dr_sql_open(&sql, node_path(0), 0, 1000, &err));
    assert_int_equal(dr_sql_exec(&sql, "DELETE FROM users_s0", &err), DR_CONFLICT);
    catalog_silent = 1; /* the rollback cannot know either */
    assert_int_equal(try_command("n0", cutback_text(&moves[0])), DR_UNKNOWN);
    assert_int_equal(dr_sql_exec(&sql, "DELETE FROM users_s0", &err), DR_CONFLICT);
    must_run("n0", cutback_text(&moves[0])); /* the catalog answers again: nothing was switched */
    assert_string_equal(holders_now(), "n0");
    must(dr_sql_exec(&sql, "DELETE FROM users_s0 WHERE id = -1", &err));
    dr_sql_close(&sql);
    take_back(&moves[0]);
    assert_all_clean("n0");
}

/* Refused because the catalog cannot be asked: nothing was touched, nobody waits. */
static void a_silent_catalog_stops_a_cut_over_before_it_begins(void **state)
{
    (void)state;
    make_world("n0");
    bring_over(&moves[0]);
    catalog_silent = 1;
    assert_int_equal(try_command("n0", cutover_text(&moves[0])), DR_UNKNOWN);
    run_sql(0, "DELETE FROM users_s0 WHERE id = -1");
    must_run("n0", cutover_text(&moves[0]));
    assert_int_equal(ask_sql(1, "SELECT count(*) FROM users_s0"), ROWS_BEFORE - 1);
}

static void nodes_that_differ_are_never_switched_to(void **state)
{
    (void)state;
    make_world("n0");
    bring_over(&moves[0]);
    run_sql(1, "UPDATE users_s0 SET v = 'other' WHERE id = -7");
    assert_int_equal(try_command("n0", cutover_text(&moves[0])), DR_CONFLICT);
    assert_has(err.msg, "node n1");
    assert_string_equal(holders_now(), "n0");
    run_sql(0, "UPDATE users_s0 SET n = 1 WHERE id = -1"); /* writes go on */
    take_back(&moves[0]);
    assert_all_clean("n0");
}

/* A writer that died between two holders was told nothing; the first holder's word counts. */
static void a_holder_that_missed_half_a_write_is_repaired(void **state)
{
    (void)state;
    make_world("n0,n1");
    memset(writers, 0, sizeof writers);
    run_sql(0, "INSERT INTO users_s0 VALUES(5, 5, 'before the copy')");
    bring_over(&moves[1]);
    run_sql(0, "INSERT INTO users_s0 VALUES(6, 6, 'after the copy')");
    (void)do_copy("follow", "\"n0\"", "\"n2\"");
    run_sql(0, "DELETE FROM users_s0 WHERE id = -3");
    must_run("n0", cutover_text(&moves[1]));
    for (int n = 1; n <= 2; n++) {
        assert_int_equal(ask_sql(n, "SELECT count(*) FROM users_s0"), ROWS_BEFORE + 1);
        assert_int_equal(ask_sql(n, "SELECT count(*) FROM users_s0 WHERE id IN (5, 6)"), 2);
    }
}

static void a_fence_that_cannot_be_had_ends_in_time(void **state)
{
    (void)state;
    make_world("n0,n1");
    bring_over(&moves[1]);
    struct dr_sql s;
    must(dr_sql_open(&s, node_path(1), 0, 100, &err));
    must(dr_sql_exec(&s, "BEGIN IMMEDIATE; INSERT INTO users_s0 VALUES(9, 9, 'open')", &err));
    dr_mono_ms begin = dr_mono_now();
    enum dr_code rc =
        try_command("n0", turn_text("cutover", moves[1].from_json, moves[1].to_json, 300));
    dr_mono_ms took = dr_mono_now() - begin;
    assert_int_equal(rc, DR_BUSY);
    assert_true(took >= 200 && took < 3000);
    must(dr_sql_exec(&s, "ROLLBACK", &err));
    dr_sql_close(&s);
    assert_string_equal(holders_now(), "n0,n1");
    for (int n = 0; n < 2; n++) { /* the first one's fence was up already */
        assert_int_equal(
            ask_sql(n, "SELECT count(*) FROM sqlite_master WHERE name GLOB 'drover_fence_*'"), 0);
    }
    take_back(&moves[1]);
    assert_all_clean("n0,n1");
}

static void a_dead_holder_is_left_behind(void **state)
{
    (void)state;
    char away[200];
    make_world("n0,n1");
    memset(writers, 0, sizeof writers);
    const struct move heal = {.source = "\"n1\"", .target = "\"n2\""};
    (void)snprintf(away, sizeof away, "%s.away", node_path(0));
    assert_int_equal(rename(node_path(0), away), 0);
    bring_over(&heal);
    must_run("n1", cutover_text(&moves[1]));
    assert_string_equal(holders_now(), "n1,n2");
    assert_nothing_lost();
    assert_int_equal(try_command("n0", simple_text("capture")), DR_UNREACHABLE);
    assert_int_equal(rename(away, node_path(0)), 0);
    char text[800]; /* back again: the catalog knows it no more, the leftover goes by its URL */
    (void)snprintf(text, sizeof text, "{\"fleet\":\"clean\",\"shard\":%s,\"url\":\"sqlite:%s\"}",
                   SHARD, node_path(0));
    must_run("catalog", text);
    assert_clean(0, false);
    (void)snprintf(text, sizeof text, "{\"fleet\":\"clean\",\"shard\":%s,\"url\":\"sqlite:%s\"}",
                   SHARD, node_path(1));
    must_run("catalog", text); /* of a holder only what was put around it */
    assert_nothing_lost();
}

static void a_new_holder_that_is_dead_is_not_switched_to(void **state)
{
    (void)state;
    char away[200];
    make_world("n0");
    bring_over(&moves[0]);
    (void)snprintf(away, sizeof away, "%s.away", node_path(1));
    assert_int_equal(rename(node_path(1), away), 0);
    assert_int_equal(try_command("n0", cutover_text(&moves[0])), DR_UNREACHABLE);
    assert_string_equal(holders_now(), "n0");
    run_sql(0, "UPDATE users_s0 SET n = 1 WHERE id = -1");
    assert_int_equal(rename(away, node_path(1)), 0);
    must_run("n0", cutover_text(&moves[0]));
    assert_string_equal(holders_now(), "n1");
}

/* ---- the last copy ---- */

static void what_the_catalog_names_is_never_dropped(void **state)
{
    (void)state;
    char text[700];
    make_world("n0");
    (void)snprintf(text, sizeof text,
                   "{\"fleet\":\"retire\",\"shard\":%s,\"uncapture\":null,\"drop\":[\"n0\"]}",
                   SHARD);
    assert_int_equal(try_command("n0", text), DR_REFUSED);
    must_run("n0", simple_text("clean"));
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM users_s0"), ROWS_BEFORE);
    bring_over(&moves[0]);
    must_run("n0", cutover_text(&moves[0]));
    run_sql(1, "DROP TABLE users_s0"); /* somebody's mistake */
    assert_int_equal(try_command("n0", text), DR_REFUSED);
    assert_int_equal(ask_sql(0, "SELECT count(*) FROM drover_held_users_s0"), ROWS_BEFORE);
}

static void a_table_with_rows_is_not_dropped_as_empty(void **state)
{
    (void)state;
    char text[600];
    make_world("n0");
    (void)snprintf(text, sizeof text, "{\"fleet\":\"drop\",\"shard\":%s,\"only_empty\":true}",
                   SHARD);
    assert_int_equal(try_command("n0", text), DR_REFUSED);
    assert_has(err.msg, "drover table drop");
    run_sql(0, "DELETE FROM users_s0"); /* which is not fenced */
    must_run("n0", text);
    must_run("n0", text);
    assert_clean(0, false);
}

/* ---- words ---- */

static void commands_are_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *node, *text;
        enum dr_code code;
    } bad[] = {
        {"n0", "{\"fleet\":\"fly\"}", DR_INPUT},
        {"n0", "{\"fleet\":\"capture\"}", DR_INPUT},
        {"n0", "{\"fleet\":\"capture\",\"shard\":" SHARD ",\"x\":1}", DR_INPUT},
        {"n0", "{\"fleet\":\"capture\",\"shard\":{\"name\":\"users_s0\"}}", DR_INPUT},
        {"catalog", "{\"fleet\":\"capture\",\"shard\":" SHARD "}", DR_INPUT},
        {"n0", "{\"fleet\":\"catalog\",\"entry\":{\"op\":\"table_end\"}}", DR_INPUT},
        {"catalog", "{\"fleet\":\"catalog\",\"entry\":{\"op\":\"table_end\"}}", DR_INPUT},
        {"catalog",
         "{\"fleet\":\"catalog\",\"entry\":{\"op\":\"create\",\"name\":\"a\",\"uuid\":\"b\","
         "\"operation\":\"c\"}}",
         DR_REFUSED},
        {"n0",
         "{\"fleet\":\"cutover\",\"shard\":" SHARD
         ",\"number\":0,\"from\":[],\"to\":[\"n1\"],\"fence_ms\":5}",
         DR_INPUT},
        {"n0",
         "{\"fleet\":\"cutover\",\"shard\":" SHARD
         ",\"number\":0,\"from\":[\"n1\",\"n1\"],\"to\":[\"n1\"],\"fence_ms\":5}",
         DR_INPUT},
        {"n0", "{\"fleet\":\"copy\",\"shard\":" SHARD ",\"from\":\"catalog\",\"to\":[\"n1\"]}",
         DR_INPUT},
    };
    make_world("n0");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(try_check(bad[i].node, bad[i].text, false), bad[i].code);
        assert_int_equal(try_command(bad[i].node, bad[i].text), bad[i].code);
    }
    must(try_check("n1", cutover_text(&moves[0]), false));
    must(try_check("catalog", "{\"fleet\":\"give-up\"}", true));
}

static void a_check_says_what_is_there_now(void **state)
{
    (void)state;
    make_world("n0");
    must(try_check("n0", simple_text("drop"), true));
    assert_int_equal(try_check("n1", simple_text("drop"), true), DR_NOT_FOUND);
    assert_int_equal(try_check("n0", simple_text("uncapture"), true), DR_NOT_FOUND);
    assert_int_equal(try_check("n0", simple_text("unhold"), true), DR_NOT_FOUND);
    assert_int_equal(try_check("nowhere", simple_text("drop"), true), DR_NOT_FOUND);
    must(try_check("nowhere", simple_text("drop"), false));
    must_run("n0", simple_text("hold"));
    must(try_check("n0", simple_text("unhold"), true));
    (void)unlink(node_path(1));
    assert_int_equal(try_check("n1", simple_text("drop"), true), DR_UNREACHABLE);
}

static void other_texts_go_to_the_nodes_own_store(void **state)
{
    (void)state;
    make_world("n0");
    must_run("n2", "CREATE TABLE t(a)");
    assert_int_equal(ask_sql(2, "SELECT count(*) FROM t"), 0);
    assert_int_equal(try_command("n2", "DELETE FROM t"), DR_REFUSED);
    assert_int_equal(try_check("n2", "DELETE FROM t", false), DR_REFUSED);
    assert_int_equal(try_command("catalog", "{\"fleet\":\"hold-until\",\"until\":99999999999999}"),
                     DR_BRAKED);
    must_run("catalog", "{\"fleet\":\"hold-until\",\"until\":1}");
    struct dr_store *alone = NULL;
    assert_int_equal(dr_store_open("fleet:", &alone, &err), DR_REFUSED);
}

static void a_survey_tells_of_every_node(void **state)
{
    (void)state;
    struct dr_store *s = NULL;
    struct dr_survey *survey = NULL;
    json_t *extra = NULL;
    make_world("n0,n1");
    (void)unlink(node_path(3));
    must(dr_store_open_in(&fake_world, "fleet:", &s, &err));
    must(dr_store_survey_spec(s, "{\"kind\":\"table.rebalance\",\"table\":\"users\"}", &survey,
                              &err));
    must(dr_json_parse("extra", survey->extra, strlen(survey->extra), &extra, &err));
    const json_t *nodes = json_object_get(extra, "nodes");
    assert_int_equal(json_array_size(nodes), NODES);
    for (size_t i = 0; i < NODES; i++) {
        const json_t *one = json_array_get(nodes, i);
        const json_t *shard = json_array_get(json_object_get(one, "shards"), 0);
        assert_int_equal(json_is_true(json_object_get(one, "is_alive")), i != 3);
        assert_int_equal(json_is_true(json_object_get(shard, "owned")), i < 2);
        assert_int_equal(json_integer_value(json_object_get(shard, "rows")),
                         i < 2 ? ROWS_BEFORE : 0);
    }
    assert_string_equal(json_string_value(json_object_get(extra, "uuid")), OWNER);
    assert_int_equal(strlen(json_string_value(json_object_get(extra, "operation"))), 36);
    assert_string_equal(json_string_value(json_object_get(extra, "engine")), "sqlite");
    assert_int_equal(survey->collection_count, 1);
    assert_int_equal(survey->collection[0].rows_total, ROWS_BEFORE);
    json_decref(extra);
    dr_survey_destroy(survey);
    assert_int_equal(dr_store_survey_spec(s,
                                          "{\"kind\":\"table.rebalance\",\"table\":\"users\","
                                          "\"add\":[\"mysql://u:secret@h/d\"]}",
                                          &survey, &err),
                     DR_REFUSED);
    dr_store_close(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_moves_under_writers),
        cmocka_unit_test(the_way_back_loses_nothing_that_was_written_there),
        cmocka_unit_test(a_move_goes_on_after_it_was_taken_back),
        cmocka_unit_test(a_cut_over_that_dies_anywhere_is_finished_or_undone),
        cmocka_unit_test(a_way_back_that_dies_anywhere_is_finished),
        cmocka_unit_test(a_cut_over_that_dies_in_a_node_is_finished_or_undone),
        cmocka_unit_test(a_failure_before_the_switch_lets_writes_go_on),
        cmocka_unit_test(a_refusal_of_the_catalog_lets_writes_go_on),
        cmocka_unit_test(a_lost_answer_of_the_catalog_is_asked_for),
        cmocka_unit_test(writes_wait_while_the_switch_is_open),
        cmocka_unit_test(a_silent_catalog_stops_a_cut_over_before_it_begins),
        cmocka_unit_test(nodes_that_differ_are_never_switched_to),
        cmocka_unit_test(a_holder_that_missed_half_a_write_is_repaired),
        cmocka_unit_test(a_fence_that_cannot_be_had_ends_in_time),
        cmocka_unit_test(a_dead_holder_is_left_behind),
        cmocka_unit_test(a_new_holder_that_is_dead_is_not_switched_to),
        cmocka_unit_test(what_the_catalog_names_is_never_dropped),
        cmocka_unit_test(a_table_with_rows_is_not_dropped_as_empty),
        cmocka_unit_test(commands_are_read_strictly),
        cmocka_unit_test(a_check_says_what_is_there_now),
        cmocka_unit_test(other_texts_go_to_the_nodes_own_store),
        cmocka_unit_test(a_survey_tells_of_every_node),
    };
    own_path = "/proc/self/exe";
    if (argc == 3 && strcmp(argv[1], "--child") == 0) {
        return be_child(argv[2]);
    }
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
