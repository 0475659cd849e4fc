/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the files of sharded tables: whole, for their owner alone, never turned back. */
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/catalog_world.h"

#include "base/fault.h"
#include "base/file.h"
#include "catalog/table.h"

#define U1 "11111111-0000-4000-8000-000000000001"
#define OP1 "22222222-0000-4000-8000-000000000001"
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

static void must(const char *entry)
{
    assert_int_equal(apply_quoted(&w, entry), DR_OK);
    assert_true(w.changed);
}

static char folder[64];

static void write_files(const struct dr_catalog *before)
{
    struct dr_err err = {0};
    if (dr_catalog_write_files(folder, before, w.c, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
}

static json_t *read_file(void)
{
    char path[128];
    struct dr_err err = {0};
    json_t *j = NULL;
    (void)snprintf(path, sizeof path, "%s/tables/t.json", folder);
    if (access(path, F_OK) == 0) {
        assert_int_equal(dr_json_load(path, &j, &err), DR_OK);
    }
    return j;
}

static void each_table_has_a_file_for_its_owner_alone(void **state)
{
    (void)state;
    char path[160];
    char stray[160];
    struct stat st;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-table-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/tables/t.json", folder);
    write_files(NULL);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    must(RESERVE("t", U1, OP1));
    write_files(before);
    dr_catalog_unref(before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    json_t *file = read_file();
    json_t *shown = dr_table_to_json(table(), false);
    assert_true(json_equal(json_object_get(file, "record"), shown));
    assert_string_equal(json_string_value(json_array_get(json_object_get(file, "urls"), 0)),
                        "mysql://u:secret@h1:3306/shop");
    json_decref(file);
    json_decref(shown);
    /* An older state does not turn the file back: a log that is played again. */
    struct dr_catalog *old = dr_catalog_ref(w.c);
    must(MOVE("table_ready", "t", U1, OP1));
    write_files(old);
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_write_files(folder, w.c, old, &err), DR_OK);
    file = read_file();
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(file, "record"), "state")), "ready");
    json_decref(file);
    dr_catalog_unref(old);
    /* What a crash left goes; what others put there stays. */
    (void)snprintf(stray, sizeof stray, "%s/tables/t.json.1-2.new", folder);
    assert_int_equal(dr_file_replace(stray, "x", 1, &err), DR_OK);
    char own[160];
    (void)snprintf(own, sizeof own, "%s/tables/README", folder);
    assert_int_equal(dr_file_replace(own, "x", 1, &err), DR_OK);
    assert_int_equal(dr_file_replace(path, "{ half", 6, &err), DR_OK);
    write_files(NULL);
    assert_int_not_equal(access(stray, F_OK), 0);
    assert_int_equal(access(own, F_OK), 0);
    file = read_file();
    assert_non_null(json_object_get(file, "record"));
    json_decref(file);
    /* Gone with the table. */
    before = dr_catalog_ref(w.c);
    must(MOVE("table_release", "t", U1, OP1));
    write_files(before);
    write_files(before);
    assert_int_not_equal(access(path, F_OK), 0);
    dr_catalog_unref(before);
    (void)unlink(own);
    (void)snprintf(path, sizeof path, "rm -r %s", folder);
    assert_int_equal(system(path), 0);
}

static void a_write_that_fails_leaves_the_old_file(void **state)
{
    (void)state;
    struct dr_err err = {0};
    char command[160];
    (void)snprintf(folder, sizeof folder, "/tmp/drover-table-XXXXXX");
    assert_non_null(mkdtemp(folder));
    must(RESERVE("t", U1, OP1));
    write_files(NULL);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    must(MOVE("table_ready", "t", U1, OP1));
    enum dr_code rc = DR_IO;
    for (uint64_t n = 1; rc != DR_OK; n++) {
        (void)dr_fault_io_at(n);
        rc = dr_catalog_write_files(folder, before, w.c, &err);
        (void)dr_fault_io_at(0);
        json_t *file = read_file(); /* always a whole one */
        const char *now =
            json_string_value(json_object_get(json_object_get(file, "record"), "state"));
        assert_true(strcmp(now, "making") == 0 || strcmp(now, "ready") == 0);
        assert_true(rc != DR_OK || strcmp(now, "ready") == 0);
        json_decref(file);
        assert_true(n < 100);
    }
    dr_catalog_unref(before);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_table_has_a_file_for_its_owner_alone),
        T(a_write_that_fails_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
