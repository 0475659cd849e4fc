/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of catalog/files: each test is named for one. A crash is a child that dies at a
 * fault point or at the n-th file operation; what start-up sees afterwards must be readable, and a
 * repeat must repair it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "catalog/catalog.h"

enum { OPERATIONS_MAX = 400, ALLOCATIONS_MAX = 20000 };

static char folder[64];
static uint64_t last_index;

static int make_folder(void **state)
{
    (void)state;
    last_index = 0;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-files-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    dr_fault_arm(NULL);
    (void)dr_fault_io_at(0);
    (void)dr_mem_fail_at(0);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

/* --- states --- */

/* The state after this entry; releases the one before. */
static struct dr_catalog *after_entry(struct dr_catalog *c, const char *entry)
{
    struct dr_catalog *next = NULL;
    struct dr_apply_result result;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_apply(c, ++last_index, entry, strlen(entry), &next, &result, &err),
                     DR_OK);
    if (result.code != DR_OK) {
        print_error("refused: %s\n", result.message);
        fail();
    }
    json_decref(result.value);
    dr_catalog_unref(c);
    return next;
}

static struct dr_catalog *empty_state(void)
{
    struct dr_catalog *c = NULL;
    struct dr_err err = {0};
    assert_int_equal(dr_catalog_create(&c, &err), DR_OK);
    return after_entry(c, "{\"v\":1,\"op\":\"peer\",\"id\":1,\"format\":1,\"uri\":\"http://h:1\","
                          "\"raft\":\"127.0.0.1:1\",\"version\":\"0.1.0\"}");
}

static struct dr_catalog *with_auto(struct dr_catalog *c, const char *name, const char *uuid)
{
    char entry[1024];
    (void)snprintf(entry, sizeof entry,
                   "{\"v\":1,\"op\":\"create_collection\",\"name\":\"%s\",\"uuid\":\"%s\","
                   "\"method\":\"auto\",\"is_method_given\":false,\"shard_number\":3,"
                   "\"replication_factor\":1,\"write_consistency_factor\":1,"
                   "\"vectors\":{\"size\":4,\"distance\":\"Dot\"},\"peers\":[1],"
                   "\"placement\":[[0],[0],[0]]}",
                   name, uuid);
    return after_entry(c, entry);
}

static struct dr_catalog *promoted(struct dr_catalog *c, const char *name, const char *uuid)
{
    char entry[512];
    (void)snprintf(entry, sizeof entry,
                   "{\"v\":1,\"op\":\"promote_to_custom_sharding\",\"name\":\"%s\","
                   "\"uuid\":\"%s\",\"key\":\"default\",\"shard_ids\":[0,1,2]}",
                   name, uuid);
    return after_entry(c, entry);
}

static struct dr_catalog *without(struct dr_catalog *c, const char *name, const char *uuid)
{
    char entry[512];
    (void)snprintf(entry, sizeof entry,
                   "{\"v\":1,\"op\":\"delete_collection\",\"name\":\"%s\",\"uuid\":\"%s\"}", name,
                   uuid);
    return after_entry(c, entry);
}

/* --- files --- */

static void write_states(const struct dr_catalog *before, const struct dr_catalog *after)
{
    struct dr_err err = {0};
    if (dr_catalog_write_files(folder, before, after, &err) != DR_OK) {
        print_error("%s\n", err.msg);
        fail();
    }
}

static enum dr_code check(const struct dr_catalog *c, bool *is_half)
{
    struct dr_err err = {0};
    enum dr_code rc = dr_catalog_check_files(folder, c, is_half, &err);
    if (rc != DR_OK && rc != DR_CORRUPT) {
        print_error("%s\n", err.msg);
    }
    return rc;
}

static void assert_whole(const struct dr_catalog *c)
{
    bool is_half = true;
    assert_int_equal(check(c, &is_half), DR_OK);
    assert_false(is_half);
}

static const char *path_of(const char *collection, const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/collections/%s/%s", folder, collection, name);
    return path;
}

static void assert_file(const char *collection, const char *name, const char *part)
{
    char *text = NULL;
    size_t bytes = 0;
    struct dr_err err = {0};
    assert_int_equal(dr_file_load(path_of(collection, name), 65536, &text, &bytes, &err), DR_OK);
    if (strstr(text, part) == NULL) {
        print_error("expected \"%s\" in \"%s\"\n", part, text);
        fail();
    }
    dr_free(text);
}

static void put_file(const char *collection, const char *name, const char *text)
{
    struct dr_err err = {0};
    char *path = dr_strdup(path_of(collection, name));
    assert_int_equal(dr_dir_make(path_of(collection, "."), &err), DR_OK);
    assert_int_equal(dr_file_replace(path, text, strlen(text), &err), DR_OK);
    dr_free(path);
}

static bool is_there(const char *collection)
{
    return access(path_of(collection, "."), F_OK) == 0;
}

#define CONFIG "collection_config.json"
#define MAPPING "shard_key_mapping.json"

/* --- tests --- */

static void files_say_what_the_state_says(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    write_states(a, b);
    assert_file("docs", MAPPING, "[]");
    assert_file("docs", CONFIG, "\"uuid\":\"u-1\"");
    assert_file("docs", CONFIG, "\"vectors\":{\"distance\":\"Dot\",\"size\":4}");
    assert_whole(b);
    struct dr_catalog *c = promoted(dr_catalog_ref(b), "docs", "u-1");
    bool is_half = false;
    assert_int_equal(check(c, &is_half), DR_OK); /* not yet written: behind, not broken */
    assert_true(is_half);
    write_states(b, c);
    assert_file("docs", MAPPING, "[{\"key\":\"default\",\"shard_ids\":[0,1,2]}]");
    assert_file("docs", CONFIG, "\"sharding_method\":\"custom\"");
    assert_whole(c);
    struct dr_catalog *d = without(dr_catalog_ref(c), "docs", "u-1");
    write_states(c, d);
    assert_false(is_there("docs"));
    assert_whole(d);
    dr_catalog_unref(a);
    dr_catalog_unref(b);
    dr_catalog_unref(c);
    dr_catalog_unref(d);
}

static void a_repeat_writes_nothing(void **state)
{
    (void)state;
    struct stat first;
    struct stat second;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = promoted(with_auto(dr_catalog_ref(a), "docs", "u-1"), "docs", "u-1");
    write_states(a, b);
    assert_int_equal(stat(path_of("docs", CONFIG), &first), 0);
    write_states(a, b);
    write_states(NULL, b);
    assert_int_equal(stat(path_of("docs", CONFIG), &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    dr_catalog_unref(a);
    dr_catalog_unref(b);
}

static void a_replayed_log_does_not_turn_files_back(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    struct dr_catalog *c = promoted(dr_catalog_ref(b), "docs", "u-1");
    write_states(a, b);
    write_states(b, c);
    write_states(NULL, a); /* a restart: the state begins empty and comes back step by step */
    assert_true(is_there("docs"));
    write_states(a, b);
    assert_file("docs", CONFIG, "custom");
    assert_file("docs", MAPPING, "default");
    write_states(b, c);
    assert_whole(c);
    /* A deletion of an earlier collection of that name passes by the later one, too. */
    struct dr_catalog *d = without(dr_catalog_ref(c), "docs", "u-1");
    struct dr_catalog *e = with_auto(dr_catalog_ref(d), "docs", "u-2");
    write_states(c, d);
    write_states(d, e);
    write_states(c, d);
    assert_file("docs", CONFIG, "u-2");
    assert_whole(e);
    struct dr_catalog *all[] = {a, b, c, d, e};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dr_catalog_unref(all[i]);
    }
}

/* Break the change from `before` to `after` at every file operation, as an error that is handled
 * and as a crash, and at every fault point. */
static void break_everywhere(const struct dr_catalog *before, const struct dr_catalog *after,
                             bool is_crash)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s/collections'", folder);
    uint64_t n = 1;
    for (bool is_done = false; !is_done && n < OPERATIONS_MAX; n++) {
        struct dr_err err = {0};
        assert_int_equal(system(command), 0);
        write_states(NULL, before);
        if (is_crash) {
            pid_t pid = fork();
            if (pid == 0) {
                (void)dr_fault_io_at(n);
                _exit(dr_catalog_write_files(folder, before, after, &err) == DR_OK ? 0 : 1);
            }
            int status = 0;
            assert_int_equal(waitpid(pid, &status, 0), pid);
            is_done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        } else {
            (void)dr_fault_io_at(n);
            is_done = dr_catalog_write_files(folder, before, after, &err) == DR_OK;
            (void)dr_fault_io_at(0);
            assert_int_equal(err.msg[0] == '\0', is_done);
        }
        bool is_half = false;
        assert_int_equal(check(NULL, &is_half), DR_OK);
        assert_int_equal(check(after, &is_half), DR_OK);
        write_states(n % 2 == 0 ? before : NULL, after);
        assert_whole(after);
    }
    assert_true(n > 3); /* there was something to break */
    assert_true(n < OPERATIONS_MAX);
}

static void break_all_changes(bool is_crash)
{
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    struct dr_catalog *c = promoted(dr_catalog_ref(b), "docs", "u-1");
    struct dr_catalog *d = without(dr_catalog_ref(c), "docs", "u-1");
    struct dr_catalog *e = with_auto(dr_catalog_ref(d), "docs", "u-2");
    break_everywhere(a, b, is_crash);
    break_everywhere(b, c, is_crash);
    break_everywhere(c, d, is_crash);
    break_everywhere(c, e, is_crash); /* a snapshot that jumps over deletion and creation */
    break_everywhere(a, e, is_crash);
    struct dr_catalog *all[] = {a, b, c, d, e};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dr_catalog_unref(all[i]);
    }
}

static void a_failure_at_any_file_operation_is_repaired_by_a_repeat(void **state)
{
    (void)state;
    break_all_changes(false);
}

static void a_crash_at_any_file_operation_is_repaired_by_a_repeat(void **state)
{
    (void)state;
    break_all_changes(true);
}

/* Kill a child at this point of the change; what start-up then sees is *is_half. */
static void kill_at(const char *point, const struct dr_catalog *before,
                    const struct dr_catalog *after, bool *is_half)
{
    char spec[96];
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s/collections'", folder);
    (void)snprintf(spec, sizeof spec, "%s=kill", point);
    assert_int_equal(system(command), 0);
    write_states(NULL, before);
    pid_t pid = fork();
    if (pid == 0) {
        struct dr_err err = {0};
        dr_fault_arm(spec);
        _exit(dr_catalog_write_files(folder, before, after, &err) == DR_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    *is_half = false;
    assert_int_equal(check(NULL, is_half), DR_OK);
}

static void a_kill_between_mapping_and_config_is_seen_and_repaired(void **state)
{
    (void)state;
    bool is_half = false;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    struct dr_catalog *c = promoted(dr_catalog_ref(b), "docs", "u-1");
    struct dr_catalog *d = without(dr_catalog_ref(c), "docs", "u-1");
    kill_at("catalog.folder-made", a, b, &is_half);
    write_states(a, b);
    assert_whole(b);
    kill_at("catalog.mapping-written", b, c, &is_half);
    assert_true(is_half);
    assert_file("docs", MAPPING, "default");
    write_states(a, b); /* the restart replays the creation, then the promotion */
    write_states(b, c);
    assert_whole(c);
    kill_at("catalog.config-written", b, c, &is_half);
    assert_false(is_half);
    assert_whole(c);
    kill_at("catalog.config-removed", c, d, &is_half);
    assert_true(is_half);
    write_states(a, b);
    write_states(b, c);
    write_states(c, d);
    assert_false(is_there("docs"));
    kill_at("catalog.mapping-removed", c, d, &is_half);
    write_states(NULL, d);
    assert_false(is_there("docs"));
    struct dr_catalog *all[] = {a, b, c, d};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dr_catalog_unref(all[i]);
    }
}

static void both_forms_of_the_mapping_are_read(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = promoted(with_auto(dr_catalog_ref(a), "docs", "u-1"), "docs", "u-1");
    write_states(a, b);
    put_file("docs", MAPPING, "{\"default\":[0,1,2]}");
    assert_whole(b);
    assert_whole(NULL);
    write_states(NULL, b); /* rewritten in today's form */
    assert_file("docs", MAPPING, "[{\"key\":\"default\",\"shard_ids\":[0,1,2]}]");
    dr_catalog_unref(a);
    dr_catalog_unref(b);
}

static void damage_is_named_and_rewritten(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } rows[] = {
        {CONFIG, "{"},
        {CONFIG, "{}"},
        {CONFIG, "{\"params\":{},\"shard_count\":-1}"},
        {MAPPING, "7"},
        {MAPPING, "[]"}, /* custom, but no shard has a key: must not be served */
        {MAPPING, "[{\"key\":\"default\"}]"},
        {MAPPING, "[{\"key\":\"default\",\"shard_ids\":[-1]}]"},
        {MAPPING, "{\"default\":[0,1,\"x\"]}"},
        {MAPPING, "{\"default\":[0,1,4]}"},
    };
    bool is_half = false;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = promoted(with_auto(dr_catalog_ref(a), "docs", "u-1"), "docs", "u-1");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_states(NULL, b);
        put_file("docs", rows[i].name, rows[i].text);
        assert_int_equal(check(b, &is_half), DR_CORRUPT);
        write_states(NULL, b);
        assert_whole(b);
    }
    dr_catalog_unref(a);
    dr_catalog_unref(b);
}

static void files_of_others_are_left_alone(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    struct dr_catalog *c = without(dr_catalog_ref(b), "docs", "u-1");
    write_states(a, b);
    put_file("docs", "notes.txt", "mine");
    put_file("docs", MAPPING ".9-1.new", "left by a killed writer");
    write_states(NULL, b);
    assert_int_not_equal(access(path_of("docs", MAPPING ".9-1.new"), F_OK), 0);
    write_states(b, c);
    assert_int_equal(access(path_of("docs", "notes.txt"), F_OK), 0);
    assert_int_not_equal(access(path_of("docs", CONFIG), F_OK), 0);
    dr_catalog_unref(a);
    dr_catalog_unref(b);
    dr_catalog_unref(c);
}

static void odd_names_stay_inside_the_folder(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "%41", "u-1");
    b = with_auto(b, "...", "u-2");
    b = with_auto(b, "gr\xc3\xbc\xc3\x9f", "u-3");
    write_states(a, b);
    assert_true(is_there("%u-1"));
    assert_true(is_there("..."));
    assert_true(is_there("gr\xc3\xbc\xc3\x9f"));
    assert_whole(b);
    write_states(NULL, b);
    assert_whole(b);
    struct dr_catalog *c = without(dr_catalog_ref(b), "%41", "u-1");
    write_states(b, c);
    assert_false(is_there("%u-1"));
    dr_catalog_unref(a);
    dr_catalog_unref(b);
    dr_catalog_unref(c);
}

static void short_memory_is_an_answer(void **state)
{
    (void)state;
    struct dr_catalog *a = empty_state();
    struct dr_catalog *b = with_auto(dr_catalog_ref(a), "docs", "u-1");
    struct dr_catalog *c = promoted(dr_catalog_ref(b), "docs", "u-1");
    write_states(a, b);
    uint64_t n = 1;
    for (; n < ALLOCATIONS_MAX; n++) {
        struct dr_err err = {0};
        (void)dr_mem_fail_at(n);
        enum dr_code rc = dr_catalog_write_files(folder, b, c, &err);
        uint64_t made = dr_mem_fail_at(0);
        if (rc == DR_OK && made < n) {
            break;
        }
        bool is_half = false;
        assert_int_equal(check(c, &is_half), DR_OK);
    }
    assert_true(n > 5 && n < ALLOCATIONS_MAX);
    write_states(b, c);
    assert_whole(c);
    dr_catalog_unref(a);
    dr_catalog_unref(b);
    dr_catalog_unref(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_say_what_the_state_says),
        TEST(a_repeat_writes_nothing),
        TEST(a_replayed_log_does_not_turn_files_back),
        TEST(a_failure_at_any_file_operation_is_repaired_by_a_repeat),
        TEST(a_crash_at_any_file_operation_is_repaired_by_a_repeat),
        TEST(a_kill_between_mapping_and_config_is_seen_and_repaired),
        TEST(both_forms_of_the_mapping_are_read),
        TEST(damage_is_named_and_rewritten),
        TEST(files_of_others_are_left_alone),
        TEST(odd_names_stay_inside_the_folder),
        TEST(short_memory_is_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
