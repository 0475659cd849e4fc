/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of base/file and base/fault: each test is named for one. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
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

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/drover-test-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

/* The path of a file in the test's folder; four results live at the same time. */
static const char *in_folder(const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find \"%s\" in \"%s\"\n", part, text);
        fail();
    }
}

static void write_file(const char *path, const char *text)
{
    struct dr_err err = {0};
    assert_int_equal(dr_file_replace(path, text, strlen(text), &err), DR_OK);
}

/* ---- file ---- */

static void dir_make_makes_parents_and_is_repeatable(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("a//b/c/");
    assert_int_equal(dr_dir_make(path, &err), DR_OK);
    assert_int_equal(dr_dir_make(path, &err), DR_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(dr_dir_sync(path, &err), DR_OK);

    write_file(in_folder("plain"), "x");
    assert_int_equal(dr_dir_make(in_folder("plain"), &err), DR_NOT_FOUND);
    assert_int_equal(dr_dir_make(in_folder("plain/sub"), &err), DR_NOT_FOUND);
    assert_has(err.msg, "/plain");
    assert_int_equal(dr_dir_make("", &err), DR_NOT_FOUND);
    assert_int_equal(dr_dir_sync(in_folder("none"), &err), DR_NOT_FOUND);
}

static void file_load_returns_what_was_replaced(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    size_t bytes = 100000;
    char *big = dr_malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        big[i] = (char)(i * 7);
    }
    assert_int_equal(dr_file_replace(path, big, bytes, &err), DR_OK);
    char *back = NULL;
    size_t got = 0;
    assert_int_equal(dr_file_load(path, bytes, &back, &got, &err), DR_OK);
    assert_int_equal(got, bytes);
    assert_memory_equal(back, big, bytes);
    assert_int_equal(back[got], '\0');
    dr_free(back);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);

    assert_int_equal(dr_file_load(path, bytes - 1, &back, &got, &err), DR_REFUSED);
    assert_null(back);
    assert_has(err.msg, "99999 bytes");
    assert_int_equal(dr_file_replace(path, "", 0, &err), DR_OK);
    assert_int_equal(dr_file_load(path, 0, &back, &got, &err), DR_OK);
    assert_string_equal(back, "");
    dr_free(back);
    assert_int_equal(dr_file_load(in_folder("none"), 10, &back, &got, &err), DR_NOT_FOUND);
    assert_int_equal(dr_file_load(folder, 10, &back, &got, &err), DR_INPUT);
    dr_free(big);
}

static void file_read_at_tells_how_much_there_was(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    write_file(path, "0123456789");
    int fd = -1;
    assert_int_equal(dr_file_open(path, O_RDONLY, &fd, &err), DR_OK);
    char b[8] = "";
    size_t got = 0;
    assert_int_equal(dr_file_read_at(fd, path, 3, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 4);
    assert_memory_equal(b, "3456", 4);
    assert_int_equal(dr_file_read_at(fd, path, 8, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 2);
    assert_int_equal(dr_file_read_at(fd, path, 100, b, 4, &got, &err), DR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(dr_file_read_at(fd, path, UINT64_MAX, b, 4, &got, &err), DR_INPUT);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_true(dr_file_write_all(fd, path, "x", 1, &err) != DR_OK); /* opened for reading */
    close(fd);
    assert_int_equal(dr_file_open(in_folder("none"), O_RDONLY, &fd, &err), DR_NOT_FOUND);
    assert_int_equal(fd, -1);
}

static void file_full_disk_says_free_space(void **state)
{
    (void)state;
    struct dr_err err = {0};
    int fd = -1;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_int_equal(dr_file_open("/dev/full", O_WRONLY, &fd, &err), DR_OK);
    assert_int_equal(dr_file_write_all(fd, "/dev/full", "x", 1, &err), DR_FULL);
    assert_has(err.msg, "free space");
    close(fd);
}

/* The reader in another process must see the old or the new text, never a mixture. */
static void file_replace_shows_old_or_new_never_half(void **state)
{
    (void)state;
    enum { BYTES = 200000, ROUNDS = 60 };
    const char *path = in_folder("data");
    char *text = dr_malloc(BYTES);
    struct dr_err err = {0};
    memset(text, 'a', BYTES);
    assert_int_equal(dr_file_replace(path, text, BYTES, &err), DR_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int failures = 0;
        for (int i = 0; i < ROUNDS; i++) {
            memset(text, 'a' + i % 26, BYTES);
            failures += dr_file_replace(path, text, BYTES, &err) != DR_OK;
        }
        _exit(failures == 0 ? 0 : 1);
    }
    int status = 0;
    unsigned reads = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        char *back = NULL;
        size_t got = 0;
        assert_int_equal(dr_file_load(path, BYTES, &back, &got, &err), DR_OK);
        assert_int_equal(got, BYTES);
        for (size_t i = 1; i < got; i++) {
            if (back[i] != back[0]) {
                fail_msg("byte %zu differs", i);
            }
        }
        dr_free(back);
        reads++;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(reads > 0);
    dr_free(text);
}

static unsigned count_entries(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    unsigned count = 0;
    assert_int_equal(fscanf(f, "%u", &count), 1);
    (void)pclose(f);
    return count;
}

static void file_replace_that_fails_keeps_the_old_and_no_litter(void **state)
{
    (void)state;
    struct dr_err err = {0};
    const char *path = in_folder("data");
    write_file(path, "old");
    (void)dr_mem_fail_at(1);
    assert_int_equal(dr_file_replace(path, "new", 3, &err), DR_NOMEM);
    (void)dr_mem_fail_at(0);
    assert_int_equal(mkdir(in_folder("dir"), 0700), 0);
    assert_true(dr_file_replace(in_folder("dir"), "new", 3, &err) != DR_OK);
    assert_int_equal(count_entries(), 2);
    assert_int_equal(dr_file_replace(in_folder("none/data"), "new", 3, &err), DR_NOT_FOUND);
#ifdef DROVER_FAULTS
    bool is_done = false;
    for (uint64_t n = 1; n < 50 && !is_done; n++) {
        write_file(path, "old");
        (void)dr_fault_io_at(n);
        enum dr_code rc = dr_file_replace(path, "new", 3, &err);
        (void)dr_fault_io_at(0);
        is_done = rc == DR_OK;
        assert_true(is_done || rc == DR_IO);
        char *back = NULL;
        size_t got = 0;
        assert_int_equal(dr_file_load(path, 10, &back, &got, &err), DR_OK);
        assert_true(strcmp(back, "new") == 0 || (!is_done && strcmp(back, "old") == 0));
        dr_free(back);
        assert_int_equal(count_entries(), 2);
    }
    assert_true(is_done);
#endif
}

/* The child holds the lock until its pipe is closed. */
static void file_lock_excludes_another_process(void **state)
{
    (void)state;
    const char *path = in_folder("lock");
    int ready[2];
    int done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    struct dr_err err = {0};
    char holder[32];
    assert_false(dr_file_is_locked(path, holder, sizeof holder));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = -1;
        char c = 'y';
        close(done[1]);
        if (dr_file_lock(path, "pid 7 on eu-3\nmore", &fd, NULL, 0, NULL) != DR_OK) {
            c = 'n';
        }
        ssize_t n = write(ready[1], &c, 1);
        n += read(done[0], &c, 1);
        _exit(n >= 1 ? 0 : 1);
    }
    close(done[0]);
    char c = 0;
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    int fd = 5;
    assert_int_equal(dr_file_lock(path, "me", &fd, holder, sizeof holder, &err), DR_BUSY);
    assert_int_equal(fd, -1);
    assert_string_equal(holder, "pid 7 on eu-3");
    assert_has(err.msg, "held by pid 7 on eu-3");
    holder[0] = '\0';
    assert_true(dr_file_is_locked(path, holder, sizeof holder));
    assert_string_equal(holder, "pid 7 on eu-3");

    close(done[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(dr_file_lock(path, "me", &fd, holder, sizeof holder, &err), DR_OK);
    assert_true(dr_file_is_locked(path, NULL, 0));
    char *text = NULL;
    size_t got = 0;
    assert_int_equal(dr_file_load(path, 100, &text, &got, &err), DR_OK);
    assert_string_equal(text, "me");
    dr_free(text);
    close(fd);
    assert_false(dr_file_is_locked(path, NULL, 0));
    close(ready[0]);
    close(ready[1]);
}

static void disk_free_is_known_for_an_existing_path(void **state)
{
    (void)state;
    struct dr_err err = {0};
    uint64_t bytes = 0;
    assert_int_equal(dr_disk_free(folder, &bytes, &err), DR_OK);
    assert_true(bytes > 0);
    assert_int_equal(dr_disk_free(in_folder("none"), &bytes, &err), DR_NOT_FOUND);
}

/* ---- fault ---- */

static void fault_points_act_at_the_named_passing(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    struct dr_err err = {0};
    dr_fault_arm("a@2=error,b=full,c=delay:30");
    assert_int_equal(dr_fault_pass("a", &err), DR_OK);
    assert_int_equal(dr_fault_pass("a", &err), DR_IO);
    assert_has(err.msg, "fault point a");
    assert_int_equal(dr_fault_pass("a", &err), DR_OK);
    assert_int_equal(dr_fault_pass("b", &err), DR_FULL);
    dr_mono_ms before = dr_mono_now();
    dr_fault_mark("c");
    assert_true(dr_mono_now() - before >= 29);
    assert_int_equal(dr_fault_pass("other", &err), DR_OK);
    dr_fault_arm(NULL);
    assert_int_equal(dr_fault_pass("b", &err), DR_OK);
#else
    assert_int_equal(dr_fault_pass("a", NULL), DR_OK);
    dr_fault_mark("a");
#endif
}

static void fault_kill_is_immediate(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dr_fault_arm("boom@3=kill");
        for (int i = 0; i < 3; i++) {
            dr_fault_mark("boom");
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
#else
    skip();
#endif
}

static void fault_io_counts_operations(void **state)
{
    (void)state;
#ifdef DROVER_FAULTS
    struct dr_err err = {0};
    (void)dr_fault_io_at(2);
    assert_int_equal(dr_fault_io_pass(), 0);
    assert_int_equal(dr_fault_io_pass(), EIO);
    assert_int_equal(dr_fault_io_pass(), 0);
    assert_int_equal(dr_fault_io_at(1), 3);
    int fd = -1;
    assert_int_equal(dr_file_open(in_folder("x"), O_RDWR | O_CREAT, &fd, &err), DR_IO);
    assert_int_equal(fd, -1);
    assert_int_equal(dr_fault_io_at(0), 1);
#else
    skip();
#endif
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(dir_make_makes_parents_and_is_repeatable),
        IN_FOLDER(file_load_returns_what_was_replaced),
        IN_FOLDER(file_read_at_tells_how_much_there_was),
        IN_FOLDER(file_full_disk_says_free_space),
        IN_FOLDER(file_replace_shows_old_or_new_never_half),
        IN_FOLDER(file_replace_that_fails_keeps_the_old_and_no_litter),
        IN_FOLDER(file_lock_excludes_another_process),
        IN_FOLDER(disk_free_is_known_for_an_existing_path),
        IN_FOLDER(fault_points_act_at_the_named_passing),
        IN_FOLDER(fault_kill_is_immediate),
        IN_FOLDER(fault_io_counts_operations),
    };
    return cmocka_run_group_tests_name("base_file", tests, NULL, NULL);
}
