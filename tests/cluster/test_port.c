/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of cluster/port.h, on real peers: records are read back after a restart, refusals
 * come through, the lazy peer starts when it is asked and only then, files can be read without a
 * peer, old peers keep tables out; and the verbs about tables. */
#include "cluster/cluster_help.h"

#include "base/file.h"
#include "cluster/port.h"

#define U1 "11111111-0000-4000-8000-000000000001"
#define OP1 "22222222-0000-4000-8000-000000000001"
#define OP2 "22222222-0000-4000-8000-000000000002"
#define HEAD "'name':'t','uuid':'" U1 "',"
#define RESERVE                                                                                    \
    "{'op':'table_reserve'," HEAD "'operation':'" OP1                                              \
    "','engine':'mysql','columns':'id INT','extra':'','shards':3,'rf':1,'routing':'crc32-jump',"   \
    "'nodes':[{'name':'a','url':'mysql://u:secret@a:1/d'},"                                        \
    "{'name':'b','url':'mysql://u:secret@b:1/d'}],'placement':[[0],[1],[0]],'options':{}}"
#define READY "{'op':'table_ready'," HEAD "'operation':'" OP1 "'}"
#define BEGIN                                                                                      \
    "{'op':'table_begin'," HEAD "'operation':'" OP2 "','what':'rebalance','add':[],'remove':[]}"
#define SWITCH                                                                                     \
    "{'op':'table_switch'," HEAD "'operation':'" OP2 "','shard':0,'from':['a'],'to':['b']}"

static char folder[64];

static int open_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-port-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int drop_folder(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static enum dr_code change(const struct dr_catalog_port *port, const char *entry,
                           struct dr_err *err)
{
    char text[2048];
    json_t *j = NULL;
    (void)snprintf(text, sizeof text, "%s", entry);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    assert_int_equal(dr_json_parse("entry", text, strlen(text), &j, err), DR_OK);
    enum dr_code rc = port->change(port->arg, j, err);
    assert_null(json_object_get(j, "v")); /* the caller's own stays as it was */
    json_decref(j);
    return rc;
}

static void must_change(const struct dr_catalog_port *port, const char *entry)
{
    struct dr_err err = {0};
    if (change(port, entry, &err) != DR_OK) {
        print_error("%s: %s\n", entry, err.msg);
        fail();
    }
}

/* The holder of shard 0, "" when there is no such table. */
static void read_holder(const struct dr_catalog_port *port, char *buf, size_t bytes)
{
    struct dr_err err = {0};
    json_t *record = NULL;
    enum dr_code rc = port->read(port->arg, "t", &record, &err);
    buf[0] = '\0';
    if (rc == DR_OK) {
        const json_t *shard = json_array_get(json_object_get(record, "shards"), 0);
        const json_t *node = json_array_get(json_object_get(record, "nodes"), 0);
        assert_string_equal(json_string_value(json_object_get(node, "url")),
                            "mysql://u:secret@a:1/d");
        dr_copy_text(buf, bytes,
                     json_string_value(json_array_get(json_object_get(shard, "holders"), 0)));
    } else {
        assert_int_equal(rc, DR_NOT_FOUND);
        assert_non_null(strstr(err.msg, "`t`"));
        assert_null(record);
    }
    json_decref(record);
}

static struct dr_cluster *start_alone(void)
{
    char dir[96];
    struct dr_err err = {0};
    struct dr_cluster *c = NULL;
    (void)snprintf(dir, sizeof dir, "%s/cluster", folder);
    const struct dr_cluster_config config = {.dir = dir, .raft_id = 7, .is_bootstrap = true};
    if (dr_cluster_start(&config, &c, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
    return c;
}

static void what_was_agreed_on_is_there_after_a_restart(void **state)
{
    (void)state;
    struct dr_catalog_port port;
    struct dr_err err = {0};
    char holder[32];
    json_t *list = NULL;
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    read_holder(&port, holder, sizeof holder);
    assert_string_equal(holder, "");
    must_change(&port, RESERVE);
    must_change(&port, RESERVE); /* repeated, as after a lost reply */
    must_change(&port, READY);
    must_change(&port, BEGIN);
    must_change(&port, SWITCH);
    dr_cluster_stop(c);
    c = start_alone();
    dr_cluster_port(c, &port);
    read_holder(&port, holder, sizeof holder);
    assert_string_equal(holder, "b");
    must_change(&port, SWITCH); /* and once more behind the restart */
    assert_int_equal(port.list(port.arg, &list, &err), DR_OK);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "version")), 2);
    json_decref(list);
    dr_cluster_stop(c);
}

static void refusals_come_through_with_their_reason(void **state)
{
    (void)state;
    struct dr_catalog_port port;
    struct dr_err err = {0};
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    must_change(&port, RESERVE);
    assert_int_equal(change(&port, BEGIN, &err), DR_CONFLICT);
    assert_non_null(strstr(err.msg, "being made by operation " OP1));
    assert_int_equal(change(&port, "{'op':'table_ready','name':'x'}", &err), DR_INPUT);
    assert_int_equal(change(&port, "{'op':'teleport'}", &err), DR_UNSUPPORTED);
    assert_int_equal(change(&port, "[1]", &err), DR_INPUT);
    must_change(&port, READY);
    assert_int_equal(change(&port, SWITCH, &err), DR_CONFLICT);
    dr_cluster_stop(c);
}

static void the_lazy_peer_starts_when_it_is_asked(void **state)
{
    (void)state;
    struct dr_port *p = NULL;
    struct dr_err err = {0};
    char dir[96];
    char holder[32];
    (void)snprintf(dir, sizeof dir, "%s/cluster", folder);
    assert_int_equal(dr_port_create(folder, NULL, &p, &err), DR_OK);
    assert_non_null(dr_port_catalog(p));
    assert_int_not_equal(access(dir, F_OK), 0); /* nothing yet */
    dr_port_destroy(p);
    assert_int_not_equal(access(dir, F_OK), 0);
    assert_int_equal(dr_port_create(folder, NULL, &p, &err), DR_OK);
    must_change(dr_port_catalog(p), RESERVE);
    must_change(dr_port_catalog(p), READY);
    dr_port_destroy(p);
    assert_int_equal(dr_port_create(folder, NULL, &p, &err), DR_OK);
    read_holder(dr_port_catalog(p), holder, sizeof holder);
    assert_string_equal(holder, "a");
    dr_port_destroy(p);
    dr_port_destroy(NULL);
}

/* `drover serve` may have been given an id: the folder says which. */
static void the_lazy_peer_goes_on_as_the_one_the_folder_belongs_to(void **state)
{
    (void)state;
    struct dr_port *p = NULL;
    struct dr_err err = {0};
    struct dr_catalog_port port;
    char holder[32];
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    must_change(&port, RESERVE);
    dr_cluster_stop(c);
    assert_int_equal(dr_port_create(folder, NULL, &p, &err), DR_OK);
    read_holder(dr_port_catalog(p), holder, sizeof holder);
    assert_string_equal(holder, "a");
    dr_port_destroy(p);
}

static void the_folder_of_a_cluster_is_left_to_its_daemon(void **state)
{
    (void)state;
    struct dr_port *p = NULL;
    struct dr_err err = {0};
    json_t *list = NULL;
    char path[128];
    static const char peer[] = "{\"v\":1,\"id\":3,\"raft\":\"127.0.0.1:7010\"}";
    (void)snprintf(path, sizeof path, "%s/cluster", folder);
    assert_int_equal(dr_dir_make(path, &err), DR_OK);
    (void)snprintf(path, sizeof path, "%s/cluster/peer.json", folder);
    assert_int_equal(dr_file_replace(path, peer, strlen(peer), &err), DR_OK);
    assert_int_equal(dr_port_create(folder, NULL, &p, &err), DR_OK);
    const struct dr_catalog_port *port = dr_port_catalog(p);
    assert_int_equal(port->list(port->arg, &list, &err), DR_REFUSED);
    assert_non_null(strstr(err.msg, "drover serve"));
    assert_null(list);
    assert_int_equal(change(port, RESERVE, &err), DR_REFUSED);
    dr_port_destroy(p);
    (void)snprintf(path, sizeof path, "%s/cluster/raft", folder);
    assert_int_not_equal(access(path, F_OK), 0); /* untouched */
}

static void files_can_be_read_while_the_peer_runs_and_without_it(void **state)
{
    (void)state;
    struct dr_err err = {0};
    struct dr_catalog_port port;
    json_t *list = NULL;
    char path[128];
    assert_int_equal(dr_port_read_files(folder, &list, &err), DR_OK);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    must_change(&port, RESERVE);
    assert_int_equal(dr_port_read_files(folder, &list, &err), DR_OK);
    assert_int_equal(json_array_size(list), 1);
    char *text = dr_json_text(list);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "\"state\":\"making\""));
    assert_non_null(strstr(text, "mysql://a:1/d"));
    dr_free(text);
    json_decref(list);
    dr_cluster_stop(c);
    assert_int_equal(dr_port_read_files(folder, &list, &err), DR_OK);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    (void)snprintf(path, sizeof path, "%s/cluster/tables/t.json", folder);
    assert_int_equal(dr_file_replace(path, "{ half", 6, &err), DR_OK);
    assert_int_equal(dr_port_read_files(folder, &list, &err), DR_CORRUPT);
    assert_null(list);
    c = start_alone(); /* which writes it anew */
    assert_int_equal(dr_port_read_files(folder, &list, &err), DR_OK);
    json_decref(list);
    dr_cluster_stop(c);
}

static void an_old_peer_keeps_tables_out_of_the_log(void **state)
{
    (void)state;
    struct dr_catalog_port port;
    struct dr_err err = {0};
    struct dr_peer old = {.id = 99, .format = DR_CATALOG_FORMAT_FIRST, .version = "0.0.1"};
    struct proposal made = {0};
    char *entry = NULL;
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    assert_int_equal(dr_entry_peer(&old, &entry, &err), DR_OK);
    assert_int_equal(dr_propose(c, entry, 5000, &made, &err), DR_OK);
    dr_free(entry);
    assert_int_equal(change(&port, RESERVE, &err), DR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "peer 99"));
    struct dr_catalog *cat = dr_cluster_catalog(c);
    assert_int_equal(dr_catalog_peer_count(cat), 2);
    dr_catalog_unref(cat);
    dr_cluster_stop(c);
}

/* --- the verbs --- */

static void the_verbs_show_tables_and_where_rows_are(void **state)
{
    (void)state;
    struct dr_catalog_port port;
    struct dr_cluster *c = start_alone();
    dr_cluster_port(c, &port);
    want(c, dr_cluster_list_tables, NULL, NULL, "{'tables':[]}");
    refuse(c, dr_cluster_get_table, "t", NULL, DR_CLASS_NOT_FOUND,
           "Not found: Table `t` doesn't exist!");
    refuse(c, dr_cluster_route_table, "t", "{'ids':[1]}", DR_CLASS_NOT_FOUND, "Not found: Table");
    must_change(&port, RESERVE);
    refuse(c, dr_cluster_route_table, "t", "{'ids':[1]}", DR_CLASS_UNAVAILABLE,
           "Shard temporarily unavailable: table `t` is being made");
    must_change(&port, READY);
    want(c, dr_cluster_list_tables, NULL, NULL,
         "{'tables':[{'engine':'mysql','name':'t','nodes':2,'rf':1,'shards':3,'state':'ready',"
         "'uuid':'" U1 "','version':1}]}");
    struct dr_cluster_reply r = ask(c, dr_cluster_get_table, "t", NULL);
    char *text = dr_json_text(r.result);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "\"table\":\"t_s2\""));
    dr_free(text);
    dr_cluster_reply_fini(&r);
    want(c, dr_cluster_route_table, "t", "{'ids':[6,'5',1]}",
         "[{'holders':[{'node':'a','url':'mysql://a:1/d'}],'id':6,'shard':0,'table':'t_s0',"
         "'version':1},"
         "{'holders':[{'node':'b','url':'mysql://b:1/d'}],'id':'5','shard':1,'table':'t_s1',"
         "'version':1},"
         "{'holders':[{'node':'a','url':'mysql://a:1/d'}],'id':1,'shard':2,'table':'t_s2',"
         "'version':1}]");
    must_change(&port, BEGIN);
    must_change(&port, SWITCH);
    want(c, dr_cluster_route_table, "t", "{'ids':['6']}",
         "[{'holders':[{'node':'b','url':'mysql://b:1/d'}],'id':'6','shard':0,'table':'t_s0',"
         "'version':2}]");
    refuse(c, dr_cluster_route_table, "t", "{'ids':7}", DR_CLASS_BAD_INPUT, "Wrong input: ids");
    refuse(c, dr_cluster_route_table, "t", "{'ids':[1,2.5]}", DR_CLASS_BAD_INPUT,
           "Wrong input: ids[1]");
    dr_cluster_stop(c);
}

/* Three peers: an entry proposed at a follower is agreed on by the leader and applied at both. */
static void every_peer_of_a_cluster_is_a_door(void **state)
{
    (void)state;
    static struct world w;
    struct dr_catalog_port port;
    char holder[32];
    world_start(&w, 3);
    for (unsigned id = 3; id >= 1; id--) {
        dr_cluster_port(w.peer[id], &port);
        must_change(&port, id == 3 ? RESERVE : id == 2 ? READY : BEGIN);
    }
    dr_cluster_port(w.peer[2], &port);
    must_change(&port, SWITCH);
    read_holder(&port, holder, sizeof holder);
    assert_string_equal(holder, "b");
    world_stop(&w);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_agreed_on_is_there_after_a_restart),
        T(refusals_come_through_with_their_reason),
        T(the_lazy_peer_starts_when_it_is_asked),
        T(the_lazy_peer_goes_on_as_the_one_the_folder_belongs_to),
        T(the_folder_of_a_cluster_is_left_to_its_daemon),
        T(files_can_be_read_while_the_peer_runs_and_without_it),
        T(an_old_peer_keeps_tables_out_of_the_log),
        T(the_verbs_show_tables_and_where_rows_are),
        T(every_peer_of_a_cluster_is_a_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
