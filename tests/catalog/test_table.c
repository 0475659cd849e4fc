/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of sharded tables in the catalog: every move of a record's life and every refusal,
 * entries that come twice, two replicas that stay equal, snapshots that come back whole. */
#include "catalog/catalog_world.h"

#include "catalog/table.h"

#define U1 "11111111-0000-4000-8000-000000000001"
#define U2 "11111111-0000-4000-8000-000000000002"
#define OP1 "22222222-0000-4000-8000-000000000001"
#define OP2 "22222222-0000-4000-8000-000000000002"
#define HEAD(name, uuid, op) "'name':'" name "','uuid':'" uuid "','operation':'" op "'"
#define NODES                                                                                      \
    "[{'name':'n2','url':'mysql://u:secret@h2:3306/shop'},"                                        \
    "{'name':'n1','url':'mysql://u:secret@h1:3306/shop'}]"
#define RESERVE(name, uuid, op)                                                                    \
    "{'v':1,'op':'table_reserve'," HEAD(name, uuid, op) ",'engine':'mysql','columns':'id BIGINT "  \
                                                        "PRIMARY KEY','extra':'','shards':3,"      \
                                                        "'rf':1,'routing':'crc32-jump','nodes'"    \
                                                        ":" NODES ",'placement':[[1],[0],[1]],"    \
                                                        "'options':{}}"
#define MOVE(op_name, name, uuid, op) "{'v':1,'op':'" op_name "'," HEAD(name, uuid, op) "}"
#define BEGIN(add, remove)                                                                         \
    "{'v':1,'op':'table_begin'," HEAD("t", U1, OP2) ",'what':'rebalance','add':" add               \
                                                    ",'remove':" remove "}"
#define SWITCH(op, shard, from, to)                                                                \
    "{'v':1,'op':'table_switch'," HEAD("t", U1, op) ",'shard':" shard ",'from':" from ",'to':" to  \
                                                    "}"
#define N3 "[{'name':'n3','url':'mysql://u:secret@h3:3306/shop'}]"

static struct world w;

static int open_world(void **state)
{
    (void)state;
    world_open(&w, 1);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static const struct dr_table_info *table(void)
{
    return dr_catalog_table(w.c, "t");
}

static void check_round_trip(const struct dr_catalog *c)
{
    struct dr_err err = {0};
    struct dr_catalog *back = NULL;
    char *text = NULL;
    char *again = NULL;
    size_t bytes = 0;
    size_t again_bytes = 0;
    assert_int_equal(dr_catalog_encode(c, &text, &bytes, &err), DR_OK);
    if (dr_catalog_decode(text, bytes, &back, &err) != DR_OK) {
        print_error("%s\n%s\n", err.msg, text);
        fail();
    }
    assert_int_equal(dr_catalog_encode(back, &again, &again_bytes, &err), DR_OK);
    assert_string_equal(text, again);
    assert_int_equal(state_hash(c), state_hash(back));
    dr_free(text);
    dr_free(again);
    dr_catalog_unref(back);
}

/* It happens, and the same entry once more changes nothing; whatever state it makes can be written
 * and read. */
static void moves(const char *entry)
{
    enum dr_code code = apply_quoted(&w, entry);
    if (code != DR_OK || !w.changed) {
        print_error("%s: %s\n", entry, w.message);
        fail();
    }
    check_round_trip(w.c);
    assert_int_equal(apply_quoted(&w, entry), DR_OK);
    assert_false(w.changed);
}

static void refuses(const char *entry, enum dr_code code, const char *part)
{
    enum dr_code got = apply_quoted(&w, entry);
    if (got != code) {
        print_error("%s: %s %s\n", entry, dr_code_name(got), w.message);
    }
    assert_int_equal(got, code);
    assert_says(w.message, part);
}

static void make_ready(void)
{
    moves(RESERVE("t", U1, OP1));
    moves(MOVE("table_ready", "t", U1, OP1));
}

/* --- the life of a record --- */

static void a_new_table_is_made_and_becomes_ready(void **state)
{
    (void)state;
    moves(RESERVE("t", U1, OP1));
    const struct dr_table_info *t = table();
    assert_int_equal(t->state, DR_TABLE_MAKING);
    assert_string_equal(t->operation, OP1);
    assert_string_equal(t->what, "create");
    assert_int_equal(t->node_count, 2);
    assert_string_equal(t->node[0].name, "n1"); /* by name, whatever order they came in */
    assert_string_equal(t->node[1].name, "n2");
    assert_int_equal(t->shard_count, 3);
    assert_string_equal(t->node[t->shard[0].holder[0]].name, "n1");
    assert_string_equal(t->node[t->shard[1].holder[0]].name, "n2");
    moves(MOVE("table_ready", "t", U1, OP1));
    t = table();
    assert_int_equal(t->state, DR_TABLE_READY);
    assert_string_equal(t->operation, "");
    assert_string_equal(t->what, "");
    assert_int_equal(t->version, 1);
    assert_int_equal(t->changed_at_index, w.index - 1);
    assert_int_equal(dr_catalog_table_count(w.c), 1);
    assert_ptr_equal(dr_catalog_table_at(w.c, 0), t);
    assert_null(dr_catalog_table_at(w.c, 1));
    assert_null(dr_catalog_table(w.c, "s"));
}

static void what_is_being_made_can_be_released(void **state)
{
    (void)state;
    moves(RESERVE("t", U1, OP1));
    moves(MOVE("table_release", "t", U1, OP1));
    assert_null(table());
    moves(RESERVE("t", U2, OP2)); /* the name is free again */
    assert_int_equal(apply_quoted(&w, MOVE("table_release", "t", U1, OP1)), DR_OK);
    assert_false(w.changed); /* the old one is gone; this is another */
    refuses(MOVE("table_release", "t", U2, OP1), DR_CONFLICT, OP2);
}

static void only_its_maker_releases_a_ready_table_and_only_while_nothing_happened(void **state)
{
    (void)state;
    make_ready();
    refuses(MOVE("table_release", "t", U1, OP2), DR_CONFLICT, "drop it instead");
    moves(BEGIN(N3, "[]"));
    refuses(MOVE("table_release", "t", U1, OP2), DR_CONFLICT, "changing");
    moves(SWITCH(OP2, "0", "['n1']", "['n3']"));
    moves(MOVE("table_end", "t", U1, OP2));
    refuses(MOVE("table_release", "t", U1, OP1), DR_CONFLICT, "drop it instead");
}

static void the_maker_takes_back_what_nobody_changed(void **state)
{
    (void)state;
    make_ready();
    moves(MOVE("table_release", "t", U1, OP1));
    assert_null(table());
}

static void a_rebalance_moves_shards_one_at_a_time(void **state)
{
    (void)state;
    make_ready();
    moves(BEGIN(N3, "['n1']"));
    const struct dr_table_info *t = table();
    assert_int_equal(t->state, DR_TABLE_CHANGING);
    assert_string_equal(t->what, "rebalance");
    assert_true(t->node[0].is_leaving && !t->node[0].is_coming);
    assert_true(t->node[2].is_coming && !t->node[2].is_leaving);
    refuses(MOVE("table_end", "t", U1, OP2), DR_REFUSED, "n1 still holds shard 0");
    moves(SWITCH(OP2, "0", "['n1']", "['n3']"));
    refuses(MOVE("table_cancel", "t", U1, OP2), DR_REFUSED, "n3 still holds shard 0");
    moves(SWITCH(OP2, "2", "['n1']", "['n3','n2']"));
    assert_int_equal(table()->version, 3);
    assert_int_equal(table()->shard[2].holder_count, 2);
    assert_int_equal(table()->shard[2].holder[0], 2);
    moves(MOVE("table_end", "t", U1, OP2));
    t = table();
    assert_int_equal(t->node_count, 2);
    assert_string_equal(t->node[0].name, "n2");
    assert_string_equal(t->node[1].name, "n3");
    assert_false(t->node[1].is_coming);
    assert_string_equal(t->node[t->shard[0].holder[0]].name, "n3");
    assert_string_equal(t->node[t->shard[1].holder[0]].name, "n2");
    assert_string_equal(t->node[t->shard[2].holder[0]].name, "n3");
    assert_string_equal(t->node[t->shard[2].holder[1]].name, "n2");
}

static void a_cancelled_rebalance_leaves_the_table_as_it_was(void **state)
{
    (void)state;
    make_ready();
    moves(BEGIN(N3, "['n2']"));
    moves(SWITCH(OP2, "1", "['n2']", "['n3']"));
    moves(SWITCH(OP2, "1", "['n3']", "['n2']"));
    moves(MOVE("table_cancel", "t", U1, OP2));
    const struct dr_table_info *t = table();
    assert_int_equal(t->state, DR_TABLE_READY);
    assert_int_equal(t->node_count, 2);
    assert_false(t->node[1].is_leaving);
    assert_string_equal(t->node[t->shard[1].holder[0]].name, "n2");
    assert_int_equal(t->version, 3); /* readers of the map see that it was another one meanwhile */
}

static void a_drop_can_be_taken_back_until_it_is_done(void **state)
{
    (void)state;
    make_ready();
    moves(MOVE("table_drop", "t", U1, OP2));
    assert_int_equal(table()->state, DR_TABLE_DROPPING);
    assert_string_equal(table()->what, "drop");
    moves(MOVE("table_undrop", "t", U1, OP2));
    assert_int_equal(table()->state, DR_TABLE_READY);
    refuses(MOVE("table_remove", "t", U1, OP2), DR_CONFLICT, "drop it first");
    moves(MOVE("table_drop", "t", U1, OP2));
    moves(MOVE("table_remove", "t", U1, OP2));
    assert_int_equal(dr_catalog_table_count(w.c), 0);
}

/* --- refusals --- */

static void a_switch_is_a_compare_and_set(void **state)
{
    (void)state;
    make_ready();
    refuses(SWITCH(OP2, "0", "['n1']", "['n2']"), DR_CONFLICT, "begin a change first");
    moves(BEGIN("[]", "[]"));
    refuses(SWITCH(OP2, "0", "['n2']", "['n2','n1']"), DR_CONFLICT, "is on n1 now");
    refuses(SWITCH(OP2, "0", "['n1','n2']", "['n2']"), DR_CONFLICT, "is on n1 now");
    refuses(SWITCH(OP2, "0", "[]", "['n2']"), DR_CONFLICT, "is on n1 now");
    refuses(SWITCH(OP2, "0", "['n1']", "[]"), DR_INPUT, "holders");
    refuses(SWITCH(OP2, "0", "['n1']", "['n2','n2']"), DR_INPUT, "twice");
    refuses(SWITCH(OP2, "0", "['n1']", "['n9']"), DR_INPUT, "n9");
    refuses(SWITCH(OP2, "0", "['n1']", "[7]"), DR_INPUT, "no node");
    refuses(SWITCH(OP2, "3", "['n1']", "['n2']"), DR_INPUT, "no shard 3");
    refuses(SWITCH(OP1, "0", "['n1']", "['n2']"), DR_CONFLICT, OP2);
    assert_int_equal(table()->version, 1);
}

static void changes_nothing(const char *entry)
{
    if (apply_quoted(&w, entry) != DR_OK) {
        print_error("%s: %s\n", entry, w.message);
        fail();
    }
    assert_false(w.changed);
}

/* Whoever was refused the table undoes what it has tried: there is nothing to take back, and that
 * of the one who holds it stays. */
static void undoing_what_was_refused_changes_nothing(void **state)
{
    (void)state;
    static const char *const undo[] = {
        MOVE("table_cancel", "t", U1, OP2), MOVE("table_undrop", "t", U1, OP2),
        MOVE("table_cancel", "t", U2, OP1), MOVE("table_undrop", "t", U2, OP1)};
    enum { UNDO = sizeof undo / sizeof undo[0] };
    for (size_t i = 0; i < UNDO; i++) {
        changes_nothing(undo[i]);
    }
    moves(RESERVE("t", U1, OP1));
    for (size_t i = 0; i < UNDO; i++) {
        changes_nothing(undo[i]);
    }
    moves(MOVE("table_ready", "t", U1, OP1));
    moves(MOVE("table_drop", "t", U1, OP1));
    for (size_t i = 0; i < UNDO; i++) {
        changes_nothing(undo[i]);
    }
    assert_int_equal(table()->state, DR_TABLE_DROPPING);
}

static void one_operation_at_a_time_holds_a_table(void **state)
{
    (void)state;
    static const char *const others[] = {MOVE("table_ready", "t", U1, OP2),
                                         MOVE("table_release", "t", U1, OP2),
                                         BEGIN("[]", "[]"),
                                         MOVE("table_end", "t", U1, OP2),
                                         MOVE("table_drop", "t", U1, OP2),
                                         MOVE("table_remove", "t", U1, OP2),
                                         SWITCH(OP2, "0", "['n1']", "['n2']")};
    moves(RESERVE("t", U1, OP1));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        refuses(others[i], DR_CONFLICT, "being made by operation " OP1 " (create)");
    }
    moves(MOVE("table_ready", "t", U1, OP1));
    moves(MOVE("table_drop", "t", U1, OP1));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        refuses(others[i], DR_CONFLICT, "being dropped by operation " OP1 " (drop)");
    }
}

/* Each operation in each state in which the drawing has no arrow for it. */
static void moves_that_the_drawing_has_not_are_refused(void **state)
{
    (void)state;
    moves(RESERVE("t", U1, OP2));
    refuses(BEGIN("[]", "[]"), DR_CONFLICT, "is making");
    refuses(MOVE("table_end", "t", U1, OP2), DR_CONFLICT, "is making");
    refuses(MOVE("table_cancel", "t", U1, OP2), DR_CONFLICT, "is making");
    refuses(MOVE("table_drop", "t", U1, OP2), DR_CONFLICT, "is making");
    refuses(MOVE("table_undrop", "t", U1, OP2), DR_CONFLICT, "is making");
    refuses(MOVE("table_remove", "t", U1, OP2), DR_CONFLICT, "is making");
    refuses(SWITCH(OP2, "0", "['n1']", "['n2']"), DR_CONFLICT, "is making");
    moves(MOVE("table_ready", "t", U1, OP2));
    moves(BEGIN("[]", "[]"));
    refuses(MOVE("table_ready", "t", U1, OP2), DR_CONFLICT, "is changing");
    refuses(MOVE("table_drop", "t", U1, OP2), DR_CONFLICT, "is changing");
    refuses(MOVE("table_undrop", "t", U1, OP2), DR_CONFLICT, "is changing");
    refuses(MOVE("table_remove", "t", U1, OP2), DR_CONFLICT, "is changing");
    refuses(MOVE("table_release", "t", U1, OP2), DR_CONFLICT, "is changing");
    refuses(BEGIN(N3, "[]"), DR_CONFLICT, "another way");
    refuses(BEGIN("[]", "['n1']"), DR_CONFLICT, "another way");
    moves(MOVE("table_end", "t", U1, OP2));
    moves(MOVE("table_drop", "t", U1, OP2));
    refuses(MOVE("table_ready", "t", U1, OP2), DR_CONFLICT, "is dropping");
    refuses(BEGIN("[]", "[]"), DR_CONFLICT, "is dropping");
    refuses(MOVE("table_end", "t", U1, OP2), DR_CONFLICT, "is dropping");
    refuses(MOVE("table_cancel", "t", U1, OP2), DR_CONFLICT, "is dropping");
    refuses(SWITCH(OP2, "0", "['n1']", "['n2']"), DR_CONFLICT, "is dropping");
}

static void a_namesake_is_never_taken_for_the_table(void **state)
{
    (void)state;
    static const char *const gone[] = {"table_ready", "table_end", "table_drop"};
    refuses(MOVE("table_ready", "t", U1, OP1), DR_NOT_FOUND, "`t`");
    refuses(BEGIN("[]", "[]"), DR_NOT_FOUND, "`t`");
    refuses(SWITCH(OP1, "0", "['n1']", "['n2']"), DR_NOT_FOUND, "`t`");
    make_ready();
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        char entry[512];
        (void)snprintf(entry, sizeof entry, "{'v':1,'op':'%s'," HEAD("t", U2, OP1) "}", gone[i]);
        refuses(entry, DR_CONFLICT, "made again");
    }
    assert_int_equal(apply_quoted(&w, MOVE("table_remove", "t", U2, OP1)), DR_OK);
    assert_false(w.changed);
    assert_non_null(table());
    refuses(RESERVE("t", U2, OP2), DR_EXISTS, "already");
    refuses(RESERVE("t", U1, OP2), DR_EXISTS, "already");
    moves(MOVE("table_drop", "t", U1, OP1));
    refuses(RESERVE("t", U2, OP2), DR_CONFLICT, "being dropped by operation " OP1);
}

static void nodes_come_and_leave_only_as_they_can(void **state)
{
    (void)state;
    make_ready();
    refuses(BEGIN("[{'name':'n1','url':'mysql://h/x'}]", "[]"), DR_INPUT, "twice");
    refuses(BEGIN("[{'name':'n4','url':'postgres://h/x'}]", "[]"), DR_REFUSED, "one engine");
    refuses(BEGIN("[{'name':'','url':'mysql://h/x'}]", "[]"), DR_INPUT, "name");
    refuses(BEGIN("[{'name':'a'}]", "[]"), DR_INPUT, "url");
    refuses(BEGIN("[]", "['n7']"), DR_INPUT, "n7");
    refuses(BEGIN("[]", "['n1','n1']"), DR_INPUT, "twice");
    refuses(BEGIN("[]", "['n1','n2']"), DR_REFUSED, "no node");
    refuses("{'v':1,'op':'table_begin'," HEAD("t", U1, OP2) ",'what':'dance','add':[],'remove':[]}",
            DR_INPUT, "what");
    moves(BEGIN(N3, "['n1','n2']"));
}

/* One mistake at a time in an entry that is right otherwise. */
static void new_tables_are_checked_in_all_their_parts(void **state)
{
    (void)state;
    static const struct {
        const char *field, *value, *says;
    } wrong[] = {
        {"name", "''", "name"},
        {"name", "'a-b'", "name"},
        {"name", "'1a'", "name"},
        {"name", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "name"},
        {"name", "7", "name"},
        {"uuid", "''", "uuid"},
        {"operation", "'x y'", "uuid"},
        {"engine", "'redis'", "engine"},
        {"columns", "''", "columns"},
        {"columns", "null", "columns"},
        {"shards", "0", "shards"},
        {"shards", "2", "placement"},
        {"shards", "3001", "shards"},
        {"rf", "0", "rf"},
        {"rf", "2", "copies"},
        {"routing", "'random'", "routing"},
        {"nodes", "[]", "placement"},
        {"nodes", "[{'name':'a','url':'mysql://h/x'},{'name':'a','url':'mysql://i/x'}]", "twice"},
        {"nodes", "[{'name':'a','url':'sqlite:/x'},{'name':'b','url':'mysql://i/x'}]", "engine"},
        {"nodes", "[{'name':'a','url':''},{'name':'b','url':'mysql://i/x'}]", "URL"},
        {"nodes", "[{'name':'a','url':'mysql://h/x','more':1},{'name':'b','url':'x'}]", "more"},
        {"placement", "[[0],[1],[2]]", "place"},
        {"placement", "[[0],[1],[-1]]", "place"},
        {"placement", "[[0],[1],[]]", "shard 2"},
        {"placement", "[[0],[1],7]", "shard 2"},
        {"placement", "[[0],[1],[0,0]]", "copies"},
        {"options", "7", "options"},
        {"more", "1", "more"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char value[512];
        json_t *entry = quoted(RESERVE("t", U1, OP1));
        (void)snprintf(value, sizeof value, "[%s]", wrong[i].value);
        json_t *list = quoted(value);
        (void)json_object_set(entry, wrong[i].field, json_array_get(list, 0));
        char *text = dr_json_text(entry);
        enum dr_code code = apply(&w, text);
        if (code != DR_INPUT && code != DR_REFUSED) {
            print_error("%s: %s\n", text, dr_code_name(code));
            fail();
        }
        assert_says(w.message, wrong[i].says);
        dr_free(text);
        json_decref(list);
        json_decref(entry);
    }
    assert_int_equal(dr_catalog_table_count(w.c), 0);
}

/* --- what is seen of it --- */

static void urls_are_shown_without_their_secrets(void **state)
{
    (void)state;
    static const struct {
        const char *engine, *url, *shown;
    } urls[] = {
        {"mysql", "mysql://u:pw@h:3306/d", "mysql://h:3306/d"},
        {"mysql", "mysql://u@h/d", "mysql://h/d"},
        {"mysql", "mysql://h:3306/d?ssl-mode=require", "mysql://h:3306/d?ssl-mode=require"},
        {"mysql", "mysql://u:p/w@h/d", "mysql://h/d"},
        {"mysql", "mysql://u:p@w@h/d", "mysql://h/d"},
        {"mysql", "mysql://h/d?x=a@b", "mysql://h/d?x=a@b"},
        {"mysql", "mysql://h:1/d@e", "mysql://h:1/d@e"},
        {"postgres", "postgres://u:pw@[::1]:5/d", "postgres://[::1]:5/d"},
        {"postgres", "postgres://[::1]:5/d@e", "postgres://[::1]:5/d@e"},
        {"sqlite", "sqlite:/data/a:b@c.db", "sqlite:/data/a:b@c.db"},
        {"manticore", "manticore://root:x@m:9306", "manticore://m:9306"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        json_t *entry = quoted("{'v':1,'op':'table_reserve'," HEAD(
            "t", U1, OP1) ",'engine':'','columns':'id INT','extra':'','shards':1,'rf':1,"
                          "'nodes':[{'name':'n','url':''}],'placement':[[0]],"
                          "'options':{'b':1,'a':'x'}}");
        (void)json_object_set_new(entry, "engine", json_string(urls[i].engine));
        (void)json_object_set_new(json_array_get(json_object_get(entry, "nodes"), 0), "url",
                                  json_string(urls[i].url));
        char *text = dr_json_text(entry);
        assert_int_equal(apply(&w, text), DR_OK);
        json_t *hidden = dr_table_to_json(table(), false);
        json_t *whole = dr_table_to_json(table(), true);
        const json_t *node = json_array_get(json_object_get(hidden, "nodes"), 0);
        assert_string_equal(json_string_value(json_object_get(node, "url")), urls[i].shown);
        node = json_array_get(json_object_get(whole, "nodes"), 0);
        assert_string_equal(json_string_value(json_object_get(node, "url")), urls[i].url);
        assert_int_equal(
            json_integer_value(json_object_get(json_object_get(whole, "options"), "b")), 1);
        json_decref(hidden);
        json_decref(whole);
        dr_free(text);
        json_decref(entry);
        assert_int_equal(apply_quoted(&w, MOVE("table_release", "t", U1, OP1)), DR_OK);
    }
}

static void a_record_is_shown_with_all_its_fields(void **state)
{
    (void)state;
    make_ready();
    moves(BEGIN(N3, "['n2']"));
    json_t *shown = dr_table_to_json(table(), false);
    json_t *wanted = quoted(
        "{'name':'t','uuid':'" U1 "','engine':'mysql','columns':'id BIGINT PRIMARY KEY','extra':'',"
        "'rf':1,'state':'changing','operation':'" OP2 "','what':'rebalance','version':1,"
        "'routing':'crc32-jump','nodes':["
        "{'name':'n1','url':'mysql://h1:3306/shop','leaving':false,'coming':false},"
        "{'name':'n2','url':'mysql://h2:3306/shop','leaving':true,'coming':false},"
        "{'name':'n3','url':'mysql://h3:3306/shop','leaving':false,'coming':true}],"
        "'shards':[{'shard':0,'table':'t_s0','holders':['n1']},"
        "{'shard':1,'table':'t_s1','holders':['n2']},"
        "{'shard':2,'table':'t_s2','holders':['n1']}]}");
    assert_true(json_equal(shown, wanted));
    json_decref(shown);
    json_decref(wanted);
}

static void rows_go_where_the_rule_says(void **state)
{
    (void)state;
    static const uint32_t golden[] = {2, 2, 2, 2, 1, 0, 2, 1, 0}; /* ids 1 to 9 of 3 shards */
    for (uint32_t id = 1; id <= 9; id++) {
        char text[8];
        int bytes = snprintf(text, sizeof text, "%u", id);
        assert_int_equal(dr_table_route(3, text, (size_t)bytes), golden[id - 1]);
    }
    /* The check value of CRC-32 is 0xcbf43926; one shard takes all, none is out of range. */
    assert_int_equal(dr_table_route(1, "123456789", 9), 0);
    uint32_t count[7] = {0};
    for (uint32_t id = 0; id < 70000; id++) {
        char text[16];
        int bytes = snprintf(text, sizeof text, "key-%u", id);
        uint32_t shard = dr_table_route(7, text, (size_t)bytes);
        uint32_t more = dr_table_route(8, text, (size_t)bytes);
        assert_true(shard < 7);
        assert_true(more == shard || more == 7); /* one shard more: to it, or nowhere */
        count[shard]++;
    }
    for (uint32_t i = 0; i < 7; i++) {
        assert_true(count[i] > 9500 && count[i] < 10500);
    }
}

/* --- snapshots --- */

static void a_state_without_tables_has_the_text_it_always_had(void **state)
{
    (void)state;
    static const char bare[] = "{\"aliases\":[],\"collections\":[],\"index\":1,\"peers\":"
                               "[{\"format\":1,\"id\":5,\"raft\":\"\",\"uri\":\"\",\"version\":"
                               "\"0.1.0\"}],\"v\":1}";
    struct dr_err err = {0};
    struct dr_catalog *c = NULL;
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(dr_catalog_decode(bare, strlen(bare), &c, &err), DR_OK);
    assert_int_equal(dr_catalog_encode(c, &text, &bytes, &err), DR_OK);
    assert_string_equal(text, bare);
    dr_free(text);
    dr_catalog_unref(c);
    make_ready();
    assert_int_equal(dr_catalog_encode(w.c, &text, &bytes, &err), DR_OK);
    assert_says(text, "\"tables\":[");
    assert_says(text, ",\"v\":2}"); /* an old program refuses to start from it */
    dr_free(text);
    moves(MOVE("table_drop", "t", U1, OP1));
    moves(MOVE("table_remove", "t", U1, OP1));
    assert_int_equal(dr_catalog_encode(w.c, &text, &bytes, &err), DR_OK);
    assert_null(strstr(text, "tables"));
    assert_says(text, ",\"v\":1}");
    dr_free(text);
}

static void old_peers_are_seen_before_they_meet_a_table(void **state)
{
    (void)state;
    assert_true(dr_catalog_all_understand(w.c, DR_CATALOG_FORMAT_TABLES));
    assert_int_equal(add_peer(&w, 9, DR_CATALOG_FORMAT_FIRST), DR_OK);
    assert_false(dr_catalog_all_understand(w.c, DR_CATALOG_FORMAT_TABLES));
}

static void damaged_snapshots_are_refused_not_believed(void **state)
{
    (void)state;
    struct dr_err err = {0};
    char *text = NULL;
    size_t bytes = 0;
    uint32_t refused = 0;
    make_ready();
    moves(BEGIN(N3, "['n1']"));
    assert_int_equal(dr_catalog_encode(w.c, &text, &bytes, &err), DR_OK);
    for (size_t i = 0; i < bytes; i++) {
        static const char instead[] = {'0', '9', '"', ',', ']', '}', 'x', '\\'};
        for (size_t k = 0; k < sizeof instead; k++) {
            struct dr_catalog *c = NULL;
            char before = text[i];
            text[i] = instead[k];
            enum dr_code rc = dr_catalog_decode(text, bytes, &c, &err);
            text[i] = before;
            if (rc == DR_OK) {
                check_round_trip(c);
            } else {
                assert_true(rc == DR_CORRUPT || rc == DR_UNSUPPORTED);
                assert_null(c);
                refused++;
            }
            dr_catalog_unref(c);
        }
        struct dr_catalog *cut = NULL;
        assert_int_not_equal(dr_catalog_decode(text, i, &cut, &err), DR_OK);
    }
    assert_true(refused > bytes);
    dr_free(text);
}

/* --- two replicas --- */

static uint64_t seed_state;

static uint32_t draw(uint32_t below)
{
    seed_state = seed_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(seed_state >> 33) % below;
}

static void make_entry(char *buf, size_t bytes)
{
    static const char *const ops[] = {"table_release", "table_ready", "table_end",
                                      "table_cancel",  "table_drop",  "table_undrop",
                                      "table_remove"};
    uint32_t table_no = draw(3);
    uint32_t uuid = draw(2);
    uint32_t op = draw(2);
    char head[256];
    (void)snprintf(head, sizeof head, "'v':1,'name':'t%u','uuid':'u-%u-%u','operation':'op-%u'",
                   table_no, table_no, uuid, op);
    switch (draw(8)) {
    case 0:
    case 1:
        (void)snprintf(buf, bytes,
                       "{'op':'table_reserve',%s,'engine':'sqlite','columns':'id','shards':2,'rf':"
                       "%u,'nodes':[{'name':'b','url':'sqlite:b'},{'name':'a','url':'sqlite:a'}],"
                       "'placement':%s}",
                       head, 1 + op, op == 0 ? "[[0],[1]]" : "[[0,1],[1,0]]");
        return;
    case 2:
        (void)snprintf(
            buf, bytes, "{'op':'table_begin',%s,'what':'rebalance','add':%s,'remove':%s}", head,
            draw(2) == 0 ? "[]" : "[{'name':'c','url':'sqlite:c'}]", draw(2) == 0 ? "[]" : "['a']");
        return;
    case 3:
    case 4:
        (void)snprintf(buf, bytes, "{'op':'table_switch',%s,'shard':%u,'from':['%c'],'to':['%c']}",
                       head, draw(2), 'a' + (char)draw(3), 'a' + (char)draw(3));
        return;
    case 5:
    case 6:
    case 7:
        (void)snprintf(buf, bytes, "{'op':'%s',%s}", ops[draw(7)], head);
        return;
    }
}

static void replicas_that_apply_the_same_are_the_same(void **state)
{
    (void)state;
    struct world other;
    uint32_t changes = 0;
    world_open(&other, 1);
    seed_state = 3;
    for (uint32_t i = 0; i < 20000; i++) {
        char entry[1024];
        make_entry(entry, sizeof entry);
        enum dr_code mine = apply_quoted(&w, entry);
        assert_int_equal(apply_quoted(&other, entry), mine);
        assert_string_equal(w.message, other.message);
        assert_int_equal(w.changed, other.changed);
        changes += w.changed;
        if (i % 7 == 0) { /* one of the two starts from a snapshot now and then */
            struct dr_err err = {0};
            struct dr_catalog *back = NULL;
            char *text = NULL;
            size_t bytes = 0;
            assert_int_equal(dr_catalog_encode(other.c, &text, &bytes, &err), DR_OK);
            assert_int_equal(dr_catalog_decode(text, bytes, &back, &err), DR_OK);
            dr_free(text);
            dr_catalog_unref(other.c);
            other.c = back;
        }
        if (w.changed || i % 7 == 0) {
            assert_int_equal(state_hash(w.c), state_hash(other.c));
        }
        /* Whatever is done again at once changes nothing, or is refused. */
        if (mine == DR_OK) {
            uint64_t before = state_hash(w.c);
            assert_int_equal(apply_quoted(&w, entry), DR_OK);
            assert_false(w.changed);
            assert_int_equal(state_hash(w.c), before);
            other.index++;
        }
    }
    if (changes < 700) {
        print_error("%u changes are too few to say anything\n", changes);
        fail();
    }
    world_close(&other);
}

static void a_lack_of_memory_changes_nothing(void **state)
{
    (void)state;
    static const char *const entries[] = {RESERVE("t", U1, OP1),
                                          MOVE("table_ready", "t", U1, OP1),
                                          BEGIN(N3, "['n1']"),
                                          SWITCH(OP2, "0", "['n1']", "['n3']"),
                                          SWITCH(OP2, "2", "['n1']", "['n3']"),
                                          MOVE("table_end", "t", U1, OP2)};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        json_t *j = quoted(entries[i]);
        char *text = dr_json_text(j);
        json_decref(j);
        uint64_t before = state_hash(w.c);
        enum dr_code rc = DR_NOMEM;
        for (uint64_t n = 1; rc != DR_OK; n++) {
            struct dr_catalog *after = NULL;
            struct dr_apply_result result;
            struct dr_err err = {0};
            (void)dr_mem_fail_at(n);
            rc = dr_catalog_apply(w.c, w.index + 1, text, strlen(text), &after, &result, &err);
            (void)dr_mem_fail_at(0);
            assert_true(rc == DR_NOMEM || (rc == DR_OK && result.code == DR_OK));
            assert_int_equal(state_hash(w.c), before);
            dr_catalog_unref(after);
            assert_true(n < 1000);
        }
        assert_int_equal(apply(&w, text), DR_OK);
        assert_true(w.changed);
        dr_free(text);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_table_is_made_and_becomes_ready),
        T(what_is_being_made_can_be_released),
        T(only_its_maker_releases_a_ready_table_and_only_while_nothing_happened),
        T(the_maker_takes_back_what_nobody_changed),
        T(a_rebalance_moves_shards_one_at_a_time),
        T(undoing_what_was_refused_changes_nothing),
        T(a_cancelled_rebalance_leaves_the_table_as_it_was),
        T(a_drop_can_be_taken_back_until_it_is_done),
        T(a_switch_is_a_compare_and_set),
        T(one_operation_at_a_time_holds_a_table),
        T(moves_that_the_drawing_has_not_are_refused),
        T(a_namesake_is_never_taken_for_the_table),
        T(nodes_come_and_leave_only_as_they_can),
        T(new_tables_are_checked_in_all_their_parts),
        T(urls_are_shown_without_their_secrets),
        T(a_record_is_shown_with_all_its_fields),
        T(rows_go_where_the_rule_says),
        T(a_state_without_tables_has_the_text_it_always_had),
        T(old_peers_are_seen_before_they_meet_a_table),
        T(damaged_snapshots_are_refused_not_believed),
        T(replicas_that_apply_the_same_are_the_same),
        T(a_lack_of_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
