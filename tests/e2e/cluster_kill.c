/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded into a daemon before the C library (LD_PRELOAD): kills it at the n-th thing it does to a
 * file or folder below ".../collections/". $CLUSTER_KILL names a file that holds n; while it is not
 * there, nothing is counted. A write counts twice: before it, and when half of it is done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic long done;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_ours(const char *path)
{
    return path != NULL && strstr(path, "/collections/") != NULL;
}

static bool is_ours_fd(int fd)
{
    char link[64];
    char path[4096];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, sizeof path - 1);
    if (bytes <= 0) {
        return false;
    }
    path[bytes] = '\0';
    return is_ours(path);
}

/* Is this the one? */
static bool is_due(void)
{
    const char *path = getenv("CLUSTER_KILL");
    FILE *f = path == NULL ? NULL : fopen(path, "r");
    long n = 0;
    if (f == NULL) {
        return false;
    }
    int got = fscanf(f, "%ld", &n);
    (void)fclose(f);
    return got == 1 && atomic_fetch_add(&done, 1) + 1 == n;
}

static void die(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

static void pass(bool counts)
{
    if (counts && is_due()) {
        die();
    }
}

static int open_real(const char *path, int flags, mode_t mode)
{
    pass((flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0 && is_ours(path));
    return REAL(openat)(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_real(path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    if (is_ours_fd(fd)) {
        pass(true);
        if (is_due()) {
            (void)!REAL(write)(fd, data, bytes / 2);
            die();
        }
    }
    return REAL(write)(fd, data, bytes);
}

int fsync(int fd)
{
    pass(is_ours_fd(fd));
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    pass(is_ours_fd(fd));
    return REAL(fdatasync)(fd);
}

int rename(const char *from, const char *to)
{
    pass(is_ours(to));
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    pass(is_ours(path));
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    pass(is_ours(path));
    return REAL(mkdir)(path, mode);
}

int rmdir(const char *path)
{
    pass(is_ours(path));
    return REAL(rmdir)(path);
}
