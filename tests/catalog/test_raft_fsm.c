/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of the catalog as a state machine when a snapshot is put in its place. */
#include <sys/stat.h>

#include "catalog/catalog_world.h"
#include "catalog/raft_node.h"

enum { LATER = 1000 }; /* an index behind all entries */

struct machine {
    struct dr_fsm fsm;
    char dir[64];
    unsigned shown; /* how often a new state was */
};

static void count_shown(void *arg, const struct dr_catalog *c)
{
    (void)c;
    ((struct machine *)arg)->shown++;
}

static void open_machine(struct machine *m)
{
    struct dr_err err = {0};
    memset(m, 0, sizeof *m);
    (void)snprintf(m->dir, sizeof m->dir, "/tmp/drover-fsm-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    assert_int_equal(dr_catalog_fsm_create(m->dir, NULL, count_shown, m, &m->fsm, &err), DR_OK);
}

static void close_machine(struct machine *m)
{
    char command[128];
    m->fsm.destroy(m->fsm.arg);
    (void)snprintf(command, sizeof command, "rm -rf %s", m->dir);
    assert_int_equal(system(command), 0);
}

static enum dr_code restore(struct machine *m, const struct dr_catalog *c, uint64_t index,
                            struct dr_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(dr_catalog_encode(c, &text, &bytes, err), DR_OK);
    enum dr_code rc = m->fsm.restore(m->fsm.arg, index, text, bytes, err);
    dr_free(text);
    return rc;
}

static uint64_t machine_hash(const struct machine *m)
{
    struct dr_catalog *c = dr_catalog_fsm_state(&m->fsm);
    uint64_t hash = state_hash(c);
    dr_catalog_unref(c);
    return hash;
}

static bool has_in_file(const struct machine *m, const char *name, const char *part)
{
    char path[256];
    char text[8192];
    (void)snprintf(path, sizeof path, "%s/collections/c/%s", m->dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t got = fread(text, 1, sizeof text - 1, f);
    text[got] = '\0';
    (void)fclose(f);
    return strstr(text, part) != NULL;
}

/* The files are what this state's are? `half` and damage are not. */
static void assert_files(const struct machine *m)
{
    struct dr_err err = {0};
    bool is_half = false;
    struct dr_catalog *c = dr_catalog_fsm_state(&m->fsm);
    assert_int_equal(dr_catalog_check_files(m->dir, c, &is_half, &err), DR_OK);
    assert_false(is_half);
    dr_catalog_unref(c);
}

static void a_snapshot_promotes_in_place(void **state)
{
    (void)state;
    struct world w;
    struct machine m;
    struct stat before;
    struct stat after;
    char folder[128];
    struct dr_err err = {0};
    world_open(&w, 3);
    open_machine(&m);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    (void)snprintf(folder, sizeof folder, "%s/collections/c", m.dir);
    assert_int_equal(stat(folder, &before), 0);
    assert_int_equal(call(&w, PROMOTE, "c", "{}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    assert_int_equal(machine_hash(&m), state_hash(w.c));
    assert_int_equal(m.shown, 2);
    assert_int_equal(stat(folder, &after), 0);
    assert_true(before.st_ino == after.st_ino); /* changed, not made anew */
    assert_true(has_in_file(&m, "collection_config.json", "\"custom\""));
    assert_files(&m);
    close_machine(&m);
    world_close(&w);
}

static void a_snapshot_that_leads_from_custom_to_auto_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct machine m;
    struct dr_err err = {0};
    world_open(&w, 3);
    open_machine(&m);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    struct dr_catalog *before = dr_catalog_ref(w.c);
    assert_int_equal(call(&w, PROMOTE, "c", "{}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    uint64_t hash = machine_hash(&m);
    assert_int_not_equal(restore(&m, before, LATER, &err), DR_OK);
    assert_says(err.msg, "c");
    assert_says(err.msg, "ustom");
    assert_int_equal(machine_hash(&m), hash); /* nothing of it was taken */
    assert_int_equal(m.shown, 1);
    assert_true(has_in_file(&m, "collection_config.json", "\"custom\""));
    assert_true(has_in_file(&m, "shard_key_mapping.json", "default"));
    assert_files(&m);
    dr_catalog_unref(before);
    close_machine(&m);
    world_close(&w);
}

/* Deleted and made again under its name: that is another collection, which may be auto. */
static void a_successor_of_the_same_name_may_be_auto(void **state)
{
    (void)state;
    struct world w;
    struct machine m;
    struct dr_err err = {0};
    world_open(&w, 3);
    open_machine(&m);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    assert_int_equal(call(&w, PROMOTE, "c", "{}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    assert_int_equal(call(&w, DELETE, "c", NULL), DR_OK);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':2}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    assert_int_equal(machine_hash(&m), state_hash(w.c));
    assert_false(has_in_file(&m, "collection_config.json", "\"custom\""));
    assert_files(&m);
    close_machine(&m);
    world_close(&w);
}

static void a_snapshot_of_a_later_state_than_its_index_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct machine m;
    struct dr_err err = {0};
    world_open(&w, 2);
    open_machine(&m);
    assert_int_equal(restore(&m, w.c, w.index - 1, &err), DR_CORRUPT);
    assert_int_equal(m.shown, 0);
    close_machine(&m);
    world_close(&w);
}

/* What a killed write left beside the files goes when the same change is made again. */
static void leftovers_of_a_crash_go_with_the_repair(void **state)
{
    (void)state;
    struct world w;
    struct machine m;
    char path[256];
    struct dr_err err = {0};
    struct dr_apply_result result;
    world_open(&w, 3);
    open_machine(&m);
    assert_int_equal(call(&w, CREATE, "c", "{'shard_number':3}"), DR_OK);
    assert_int_equal(restore(&m, w.c, w.index, &err), DR_OK);
    (void)snprintf(path, sizeof path, "%s/collections/c/shard_key_mapping.json.1-1.new", m.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("[{\"ke", f);
    (void)fclose(f);
    char *entry = text_of(&w, PROMOTE, "c", "{}");
    assert_int_equal(m.fsm.apply(m.fsm.arg, w.index + 1, entry, strlen(entry), &result, &err),
                     DR_OK);
    assert_int_equal(result.code, DR_OK);
    json_decref(result.value);
    struct stat st;
    assert_int_equal(stat(path, &st), -1);
    assert_files(&m);
    dr_free(entry);
    close_machine(&m);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_promotes_in_place),
        cmocka_unit_test(a_snapshot_that_leads_from_custom_to_auto_is_refused),
        cmocka_unit_test(a_successor_of_the_same_name_may_be_auto),
        cmocka_unit_test(a_snapshot_of_a_later_state_than_its_index_is_refused),
        cmocka_unit_test(leftovers_of_a_crash_go_with_the_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
